"""Originals in the pixels: exact where samples allow it, the key's alone, and never a face that is not covered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from films import film_of_a_face  # type: ignore[import-not-found]
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data
from tiny import SIZE, tiny_inpaint  # type: ignore[import-not-found]

from revisage.models import layout
from revisage.models.base import CarryRequest, Descent, Inverted, Tile
from revisage.models.carrier import Carrier
from revisage.models.carrying import PixelCarrier, load_carrier
from revisage.models.completion import completed
from revisage.models.conditioning import FACE_TEMPLATE
from revisage.models.device import Device
from revisage.models.latents import Veil
from revisage.pipeline import carry as carry_module
from revisage.pipeline.carry import Carriage, Carry, Square, dump, found, lay_out, load, look, packed, painting
from revisage.pipeline.composite import Likeness, PlacedFace, hidden_pixels, place
from revisage.pipeline.convey import Carrying, recovered
from revisage.pipeline.errors import IndexFileError, ModelError, TamperedError, WrongKeyError
from revisage.pipeline.media import file_digest, open_video
from revisage.pipeline.pixels import PixelFormat, Planes, blend, pixel_format
from revisage.pipeline.protect import Picture
from revisage.pipeline.recover import RecoverOptions, RecoverReport
from revisage.pipeline.recover_pixels import recover_pixels
from revisage.pipeline.render import Access, RenderOptions, RenderReport, anonymize
from revisage.pipeline.types import Float, Origin, Plan, Track, TrackedFace, VideoInfo
from revisage.pipeline.vault.index import open_index
from revisage.pipeline.vault.keys import SecretKey, TrackKey

WIDTH, HEIGHT, FRAMES = 192, 144, 4
KEY = SecretKey(bytes(range(32)))
CPU = Device("cpu", torch.float32, 1, "tests")
CARRY = Carry(1.0, Descent(0.5, 8), 0.1)  # 0.1 s: three frames of 25 a second


# -- canvases ----------------------------------------------------------------------------------------------------------


def tile(side: int, block: tuple[int, int], seed: int = 0) -> Tile:
    rng = np.random.default_rng(seed)
    rows, columns = (max(1, n) for n in block)
    coarse = rng.random((side // rows, side // columns)) < 0.6
    mask = np.kron(coarse, np.ones((rows, columns), np.bool_))
    return Tile(side, mask, np.zeros((3, side, side), np.float32), block)


@given(st.sampled_from([8, 16, 24, 32]), st.sampled_from([(1, 1), (2, 2), (1, 2), (0, 0)]), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_canvases_lie_in_crops_without_stretch(side: int, block: tuple[int, int], seed: int) -> None:
    carrier = Carrier.of([tile(side, block, seed), tile(32, block)], 32, CPU)
    canvas = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * carrier.masks
    crop = carrier.lift(canvas)
    torch.testing.assert_close(crop.flatten(1).norm(dim=1), canvas.flatten(1).norm(dim=1))
    torch.testing.assert_close(carrier.lower(crop), canvas, atol=2e-6, rtol=0)
    other = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(seed + 1))
    torch.testing.assert_close((crop * other).sum(), (canvas * carrier.lower(other)).sum(), atol=1e-3, rtol=1e-4)
    picture = carrier.unpack(canvas)
    torch.testing.assert_close(carrier.pack(picture), canvas, atol=2e-6, rtol=0)
    assert not picture[0, :, ~torch.from_numpy(tile(side, block, seed).mask)].any() if side == 32 else True


def test_what_the_route_knows_and_what_it_carries_do_not_mix() -> None:
    tiles = [replace(tile(24, (2, 2)), surroundings=np.full((3, 24, 24), 0.3, np.float32) * ~tile(24, (2, 2)).mask)]
    carrier = Carrier.of(tiles, 32, CPU)
    around = torch.zeros(1, 3, 32, 32)
    around[0, :, :24, :24] = torch.from_numpy(tiles[0].surroundings)
    route = carrier.route(around, torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert float(route.lower(route.signal).abs().max()) < 1e-5
    assert float(route.lower(route.noise).abs().max()) < 1e-5
    assert float(route.noise.std()) > 0.5


# -- samples -----------------------------------------------------------------------------------------------------------


def face(frame: int, x: float, y: float, side: float) -> TrackedFace:
    points = np.array(FACE_TEMPLATE.points, np.float32) * side + np.float32([x, y])
    box = (x + 0.2 * side, y + 0.1 * side, x + 0.8 * side, y + 0.9 * side)
    return TrackedFace(frame, box, points, Origin.DETECTED, 0.9)


def placed(track: int, x: float, y: float, side: float, fmt: PixelFormat) -> PlacedFace:
    found_place = place(track, face(0, x, y, side), FACE_TEMPLATE, SIZE, fmt, WIDTH, HEIGHT)
    assert found_place is not None
    return found_place


def random_planes(fmt: PixelFormat, seed: int = 0) -> Planes:
    rng = np.random.default_rng(seed)
    shapes = fmt.plane_shapes(WIDTH, HEIGHT)
    return [rng.integers(0, fmt.peak + 1, shape).astype(fmt.dtype) for shape in shapes]


@pytest.mark.parametrize("name", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuvj420p", "gray", "gbrp"])
@pytest.mark.parametrize("side", [22.0, 60.0])
def test_what_is_painted_can_be_read_again(name: str, side: float) -> None:
    fmt = pixel_format(name, 0, 0, HEIGHT)
    target = placed(1, 40, 30, side, fmt)
    (carriage,) = lay_out([target], fmt, WIDTH, HEIGHT, SIZE)
    assert (carriage.square.factor > 1) == (side > 30)
    assert carriage.own.sum() > 40
    planes = random_planes(fmt)
    before = [plane.copy() for plane in planes]
    rng = np.random.default_rng(1)
    wild = (1.2 * rng.standard_normal((3, carriage.square.side, carriage.square.side))).astype(np.float32)
    holdable = one_colour_per_block(wild, carriage, fmt)
    around = np.where(carriage.own | carriage.unknown, np.float32(0), look(carriage, planes, fmt))
    rgb, alpha = painting(carriage, packed(carriage, holdable, fmt), around, target, fmt)
    blend(planes, fmt, target.region.rect, rgb, alpha)
    error = np.abs(found(carriage, planes, fmt) - holdable)[:, carriage.own]
    # half a step of the samples, which the curve at the far end stretches by up to about fifteen
    assert float(np.median(error)) < 4 / fmt.peak
    assert float(error.max()) < 60 / fmt.peak
    touched = hidden_pixels([target], WIDTH, HEIGHT)
    assert np.array_equal(before[0][~touched], planes[0][~touched])
    inside = np.s_[target.region.rect.y0 : target.region.rect.y1, target.region.rect.x0 : target.region.rect.x1]
    assert (alpha[target.region.cover] == 1).all()
    assert (planes[0][inside][target.region.cover] != before[0][inside][target.region.cover]).mean() > 0.9


def one_colour_per_block(picture: Float, carriage: Carriage, fmt: PixelFormat) -> Float:
    """The nearest picture that the format can hold, within the range that the curve keeps."""
    grey = picture.mean(axis=0, keepdims=True)
    colour = np.zeros_like(picture) if fmt.family == "gray" else picture - grey
    rows, columns = carry_module._block(fmt, carriage.square.factor)
    if rows * columns > 1:
        side = carriage.square.side
        means = colour.reshape(3, side // rows, rows, side // columns, columns).mean(axis=(2, 4))
        colour = means.repeat(rows, 1).repeat(columns, 2)
    return np.clip(grey, -1.2, 1.2) + np.clip(colour, -0.5, 0.5) * (fmt.family != "gray")


def test_two_faces_share_nothing_and_nothing_stays_open() -> None:
    fmt = pixel_format("yuv420p", 0, 0, HEIGHT)
    faces = [placed(1, 30, 20, 80, fmt), placed(2, 80, 40, 60, fmt)]
    carriages = lay_out(faces, fmt, WIDTH, HEIGHT, SIZE)
    planes = [np.full(shape, 200, np.uint8) for shape in fmt.plane_shapes(WIDTH, HEIGHT)]
    times = np.zeros((HEIGHT, WIDTH), np.uint8)
    for carriage, who in zip(carriages, faces, strict=True):
        picture = np.full((3, carriage.square.side, carriage.square.side), -0.9, np.float32)
        rgb, alpha = painting(carriage, picture, picture, who, fmt)
        blend(planes, fmt, who.region.rect, rgb, alpha)
        carry_module._write(own := np.zeros((HEIGHT, WIDTH), np.bool_), carriage.square, carriage.own)
        times += own
        assert carriage.unknown.any()  # the other's face is in this square, and it must not count as known
    assert times.max() == 1
    for who in faces:
        rect = who.region.rect
        assert (planes[0][rect.y0 : rect.y1, rect.x0 : rect.x1][who.region.cover] != 200).all()


# -- index -------------------------------------------------------------------------------------------------------------


def carriage_of(seed: int, side: int = 24, points: int = layout.LANDMARK_COUNT) -> Carriage:
    rng = np.random.default_rng(seed)
    own = rng.random((side, side)) < 0.5
    landmarks = (rng.integers(-800, 8000, (points, 2)) / 8).astype(np.float32)
    return Carriage(
        Square(int(rng.integers(-50, 50)) * 2, 4, side, 2), landmarks, own, ~own & (rng.random(own.shape) < 0.2)
    )


def test_carriages_survive_the_index() -> None:
    first, second = carriage_of(1), carriage_of(2, 32)
    for one, before in ((first, None), (second, first)):
        back = load(dump(one, before), before, 32)
        assert back.square == one.square
        for name in ("landmarks", "own", "unknown"):
            np.testing.assert_array_equal(getattr(back, name), getattr(one, name))


def test_an_index_with_contours_alone_is_read() -> None:
    first, second = carriage_of(1, points=layout.CONTOUR_COUNT), carriage_of(2, points=layout.CONTOUR_COUNT)
    before: Carriage | None = None
    for one, text in ((first, dump(first, None)), (second, dump(second, first))):
        before = load(text, before, 32)
        np.testing.assert_array_equal(before.landmarks, completed(one.landmarks))
        np.testing.assert_array_equal(before.own, one.own)


@pytest.mark.parametrize(
    "text",
    [
        None,
        7,
        "",
        "not base64!",
        dump(carriage_of(1, points=140), None),
        dump(carriage_of(1), None)[:-8],
        dump(carriage_of(1, 64), None),
        "AAAA",
    ],
)
def test_damaged_carriages_are_refused(text: object) -> None:
    with pytest.raises(TamperedError):
        load(text, None, 32)


@pytest.mark.parametrize(
    "fields", [None, {}, {"sigma": 0, "steps": 5, "seconds": 1}, {"sigma": "x", "steps": 5, "seconds": 1}]
)
def test_damaged_settings_are_refused(fields: object) -> None:
    assert Carry.from_json(1.0, CARRY.to_json()) == CARRY
    with pytest.raises(TamperedError):
        Carry.from_json(1.0, fields)


# -- a film there and back ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(tiny_inpaint(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("films") / "in.mkv"
    return Path(film_of_a_face(path, FRAMES, WIDTH, HEIGHT, codec="ffv1"))


def plan_of(source: Path) -> Plan:
    """One large face, and a small one that walks into it and through the edge of the picture."""
    with open_video(source) as video:
        pts = tuple(frame.pts for frame in video.frames())
        info = VideoInfo(video.width, video.height, video.time_base, video.pix_fmt.name, len(pts), file_digest(source))
    large = tuple(face(i, 20 + i, 20, 80) for i in range(FRAMES))
    small = tuple(face(i, 100 - 4 * i, 110 + 2 * i, 24) for i in range(1, FRAMES))
    return Plan(info, (Track(1, large), Track(2, small)), "by hand", pts)


def method_of(folder: Path, carrier: object = None, carry: Carry = CARRY) -> Carrying:
    generator, own, weights = load_carrier(str(folder), device=CPU, batch_size=4)
    return Carrying(generator, carrier or own, carry, weights, 4)  # type: ignore[arg-type]


def run(source: Path, target: Path, method: Carrying, **options: object) -> tuple[Path, Path, RenderReport]:
    plan, index = plan_of(source), target / "out.mkv.rvx"
    wishes = {"seal": "off", "index": index, "codec": "ffv1", "generator": {"weights": method.weights}} | options
    report = anonymize(
        source,
        target / "out.mkv",
        plan=plan,
        method=method,
        access=Access.of([KEY], [], plan.video.sha256),
        options=RenderOptions(carry=method.carry, **wishes),  # type: ignore[arg-type]
    )
    return target / "out.mkv", index, report


@pytest.fixture(scope="module")
def made(film: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, RenderReport]:
    return run(film, tmp_path_factory.mktemp("made"), method_of(folder))


def back(
    made: Sequence[object], folder: Path, out: Path, key: SecretKey | TrackKey = KEY, **wishes: object
) -> RecoverReport:
    video, index = made[0], made[1]
    carrier = method_of(folder).carrier
    return recover_pixels(
        video,
        out,
        index=index,
        key=key,
        carrier=lambda described: carrier,
        options=RecoverOptions(codec="ffv1"),
        **wishes,  # type: ignore[arg-type]
    )


def frames_of(path: Path) -> list[np.ndarray]:
    with open_video(path) as video:
        return [frame.planes[0].astype(float) for frame in video.frames()]


def own_pixels(film: Path, track: int) -> list[np.ndarray]:
    """Per frame (H, W): what of a track carries."""
    plan, masks = plan_of(film), []
    with open_video(film) as video:
        fmt = video.pix_fmt
    for number in range(FRAMES):
        faces = [
            placed_face
            for who, tracked in plan.by_frame().get(number, [])
            if (placed_face := place(who.id, tracked, FACE_TEMPLATE, SIZE, fmt, WIDTH, HEIGHT)) is not None
        ]
        mask = np.zeros((HEIGHT, WIDTH), np.bool_)
        for who, carriage in zip(faces, lay_out(faces, fmt, WIDTH, HEIGHT, SIZE), strict=True):
            if who.track == track:
                carry_module._write(mask, carriage.square, carriage.own)
        masks.append(mask)
    return masks


def coarse(picture: np.ndarray, mask: np.ndarray, factor: int) -> np.ndarray:
    """Means over the elements of a track, where all of it is its own."""
    small, share = (
        cv2.resize(p.astype(np.float32), (WIDTH // factor, HEIGHT // factor), interpolation=cv2.INTER_AREA)
        for p in (picture, mask)
    )
    return small[share == 1]


def decibels(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(float(np.square(a - b).mean()), 1e-9)))


def test_a_lossless_copy_brings_everybody_back(
    film: Path, made: tuple[Path, Path, RenderReport], folder: Path, tmp_path: Path
) -> None:
    report = back(made, folder, tmp_path / "back.mkv")
    assert (report.frames, report.empty, report.same, report.authenticity) == (FRAMES, 0, True, "owner")
    assert report.tracks == (1, 2)
    filmed, hidden, again = frames_of(film), frames_of(made[0]), frames_of(tmp_path / "back.mkv")
    for track, factor in ((1, 4), (2, 1)):
        for number, mask in enumerate(own_pixels(film, track)):
            if not mask.any():
                continue
            parts = [coarse(p[number], mask, factor) for p in (filmed, hidden, again)]
            assert decibels(parts[0], parts[1]) < 20, (track, number)
            assert decibels(parts[0], parts[2]) > 25, (track, number)
    assert made[2].carried is not None
    assert made[2].carried.left_out == 0
    assert made[2].carried.worst > 25  # 29 to 44 over 80 films; what is shown in its place stays below 20
    assert made[2].carried.sample == made[2].carried.faces  # FFV1 takes nothing
    assert made[2].carried.coarsest == 4
    assert made[2].carried.read_worst == pytest.approx(made[2].carried.worst, abs=0.2)


def test_what_the_encoder_took_is_said(film: Path, folder: Path, tmp_path: Path) -> None:
    _, _, report = run(film, tmp_path, method_of(folder), codec="libx264", crf=23)
    assert report.carried is not None
    assert report.carried.read < report.carried.worst - 5


def test_a_track_key_brings_one_back_and_leaves_the_other(
    film: Path, made: tuple[Path, Path, RenderReport], folder: Path, tmp_path: Path
) -> None:
    with open_index(made[1]) as reader:
        key = reader.unlock(KEY).grant(2)
    report = back(made, folder, tmp_path / "back.mkv", key=key)
    assert (report.tracks, report.hidden) == ((2,), (1,))
    hidden, again = frames_of(made[0]), frames_of(tmp_path / "back.mkv")
    whole = back(made, folder, tmp_path / "both.mkv", tracks=[2])
    assert whole.tracks == (2,)
    for number, (mine, other) in enumerate(zip(own_pixels(film, 2), own_pixels(film, 1), strict=True)):
        assert np.array_equal(hidden[number][~mine], again[number][~mine])
        assert np.array_equal(hidden[number][other], again[number][other])
    for one, two in zip(again, frames_of(tmp_path / "both.mkv"), strict=True):
        assert float(np.abs(one - two).max()) <= 1


def test_another_key_opens_nothing(made: tuple[Path, Path, RenderReport], folder: Path, tmp_path: Path) -> None:
    with pytest.raises(WrongKeyError):
        back(made, folder, tmp_path / "back.mkv", key=SecretKey(bytes(32)))
    with pytest.raises(IndexFileError, match="no track 7"):
        back(made, folder, tmp_path / "back.mkv", tracks=[7])
    assert list(tmp_path.iterdir()) == []


def test_a_video_that_was_encoded_again_is_taken_and_said(
    film: Path, made: tuple[Path, Path, RenderReport], folder: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again.mkv"
    import av

    with av.open(str(made[0])) as source, av.open(str(again), "w") as target:
        stream = target.add_stream("libx264", rate=25, options={"crf": "4", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"  # type: ignore[attr-defined]
        stream.codec_context.time_base = Fraction(1, 1000)
        for frame in source.decode(video=0):
            target.mux(stream.encode(frame.reformat(format="yuv420p")))
        target.mux(stream.encode(None))
    report = back((again, made[1]), folder, tmp_path / "back.mkv")
    assert (report.same, report.faces) == (False, 2 * FRAMES - 1)


def test_the_seal_and_the_pixels_live_together(film: Path, folder: Path, tmp_path: Path) -> None:
    from revisage.pipeline.recover import recover

    video, index, _ = run(film, tmp_path, method_of(folder), seal="lossless")
    recover(video, tmp_path / "back.mkv", index=index, key=KEY, options=RecoverOptions(codec="ffv1"))
    for before, after in zip(frames_of(film), frames_of(tmp_path / "back.mkv"), strict=True):
        np.testing.assert_array_equal(before, after)


class Doubtful(PixelCarrier):
    """Finds no latent for large faces."""

    def invert(
        self, requests: Sequence[CarryRequest], pictures: Sequence[Float], descent: Descent, tolerance: float = 1e-6
    ) -> list[Inverted]:
        results = super().invert(requests, pictures, descent, tolerance)
        return [
            replace(r, change=float("inf"), latent=r.latent * np.nan) if request.tile.block == (1, 1) else r
            for r, request in zip(results, requests, strict=True)
        ]


def test_a_face_that_does_not_converge_is_covered_said_and_left_to_the_seal(
    film: Path, folder: Path, tmp_path: Path
) -> None:
    usual = method_of(folder)
    doubtful = Doubtful(usual.carrier._family, CPU, 4)  # type: ignore[attr-defined]
    video, index, report = run(film, tmp_path, method_of(folder, doubtful))
    assert report.carried is not None
    assert (report.carried.faces, report.carried.left_out, report.fallbacks) == (FRAMES - 1, FRAMES, 0)
    told = back((video, index), folder, tmp_path / "back.mkv")
    assert (told.faces, told.empty) == (FRAMES - 1, FRAMES)
    filmed, hidden, again = frames_of(film), frames_of(video), frames_of(tmp_path / "back.mkv")
    for number, mask in enumerate(own_pixels(film, 1)):
        assert decibels(filmed[number][mask], hidden[number][mask]) < 20
        assert np.array_equal(hidden[number][mask], again[number][mask])


class Broken(PixelCarrier):
    """Fails always."""

    def regrow(self, requests: Sequence[CarryRequest], latents: Sequence[Float], descent: Descent) -> list[Float]:
        raise RuntimeError("the network is on fire")


def test_a_network_that_fails_leaves_solid_grey(film: Path, folder: Path, tmp_path: Path) -> None:
    usual = method_of(folder)
    broken = Broken(usual.carrier._family, CPU, 4)  # type: ignore[attr-defined]
    video, _, report = run(film, tmp_path, method_of(folder, broken))
    assert report.fallbacks == 2 * FRAMES - 1
    assert report.failure is not None
    assert "on fire" in report.failure
    assert report.carried is not None
    assert report.carried.faces == 0
    for number, mask in enumerate(own_pixels(film, 1)):
        assert frames_of(video)[number][mask].std() < 1


def test_less_carry_still_comes_back(film: Path, folder: Path, tmp_path: Path) -> None:
    video, index, report = run(film, tmp_path, method_of(folder, carry=replace(CARRY, amount=0.5)))
    assert report.carried is not None
    assert report.carried.worst > 20
    assert back((video, index), folder, tmp_path / "back.mkv").faces == 2 * FRAMES - 1


def test_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    same = load_carrier(str(folder), device=CPU)[2]
    other = load_carrier(str(tiny_inpaint(tmp_path, seed=1)), device=CPU)[2]
    assert same != other
    with pytest.raises(ModelError, match="float32"):
        PixelCarrier(method_of(folder).carrier._family, replace(CPU, dtype=torch.bfloat16))  # type: ignore[attr-defined]


# -- the embedded model on a portrait that ships with a dependency -----------------------------------------------------


def test_the_embedded_model_brings_a_portrait_back_with_its_key_alone() -> None:
    generator, carrier, weights = load_carrier("revisage-face", device=CPU, batch_size=1)
    photograph = cv2.resize(data.astronaut()[0:200, 120:320], (144, 144), interpolation=cv2.INTER_AREA)
    fmt = pixel_format("yuv420p", 0, 0, 144)
    planes = [np.full(shape, 128, np.uint8) for shape in fmt.plane_shapes(144, 144)]
    everywhere = carry_module.align_rect(carry_module.Rect(0, 0, 144, 144), fmt, 144, 144)
    blend(planes, fmt, everywhere, photograph.astype(np.float32), np.ones((144, 144), np.float32))
    points = np.array([[64, 70], [92, 69], [80, 89], [68, 104], [92, 103]], np.float32)
    tracked = TrackedFace(0, (52, 38, 106, 122), points, Origin.DETECTED, 0.9)
    target = place(1, tracked, generator.template, generator.size, fmt, 144, 144)
    assert target is not None
    rng = np.random.default_rng(0)
    normal = rng.standard_normal((2, 2, 3, 128, 128)).astype(np.float32)
    right, wrong = (Veil(noise, np.sign(signs)) for noise, signs in normal)
    code = rng.standard_normal(64).astype(np.float32)
    carry = Carry(1.0, Descent(0.5, 6))
    method = Carrying(generator, carrier, carry, weights, 1)
    picture = Picture(0, [p.copy() for p in planes], fmt, (target,), None, hidden_pixels([target], 144, 144))
    (done,) = method.protect([picture], lambda track: Likeness(code, right.noise, lambda frame: right))
    assert done.failures == ()
    (carried,) = done.carried
    assert carried is not None
    assert carried.decibels > 35
    for person, tiles in zip(done.picture.faces, done.tiles, strict=True):
        blend(planes, fmt, person.region.rect, tiles, person.region.alpha)
    own = carried.carriage.own
    filmed = look(carried.carriage, picture.planes, fmt)
    before = filmed[:, own]
    request = carry_module.request_for(carried.carriage, filmed, fmt, 128, code, right.noise)
    (start,) = carrier.invert([request], [np.where(own, filmed, np.float32(0))], carry.descent)
    (again,) = carrier.invert([request], carrier.regrow([request], [start.latent], carry.descent), carry.descent)
    assert float(np.linalg.norm(again.latent - start.latent) / np.linalg.norm(start.latent)) <= 1e-5
    results = []
    for veil in (right, wrong):
        seen = found(carried.carriage, planes, fmt)
        request = carry_module.request_for(carried.carriage, seen, fmt, 128, code, veil.noise)
        (picture_back,) = recovered(carrier, carry, [(request, veil, seen)])
        results.append(10 * np.log10(4 / np.square(np.clip(picture_back[:, own], -1, 1) - before).mean()))
    assert results[0] > 35
    assert results[1] < 18
