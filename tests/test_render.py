"""Pass 2 and the way back on small films with hand-made plans: nothing leaks, and what a key opens comes back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from films import Film, make  # type: ignore[import-not-found]

from revisage.models.base import FaceRequest
from revisage.models.conditioning import FACE_TEMPLATE, REMOVED
from revisage.pipeline import geometry
from revisage.pipeline.composite import (
    Likeness,
    PlacedFace,
    covered_pixels,
    fit_into,
    hidden_pixels,
    membrane,
    place,
    request_for,
)
from revisage.pipeline.errors import (
    DamagedMediaError,
    IndexFileError,
    MismatchError,
    OutputError,
    PlanError,
    RevisageError,
    WrongKeyError,
)
from revisage.pipeline.media import decode_clip, file_digest, open_video, video_digest
from revisage.pipeline.pixels import Mask, PixelFormat, Planes, cut, pixel_format, to_rgb
from revisage.pipeline.protect import METHODS, Diffusion, Method, Obscure
from revisage.pipeline.recover import RecoverOptions, recover
from revisage.pipeline.render import Access, RenderOptions, RenderReport, anonymize
from revisage.pipeline.types import CropTemplate, Image, Origin, Plan, Track, TrackedFace, VideoInfo
from revisage.pipeline.vault.index import CONTESTED, open_index
from revisage.pipeline.vault.keys import SecretKey, TrackKey

WIDTH, HEIGHT, FRAMES = 192, 144, 14
KEY = SecretKey(bytes(range(32)))
LOSSLESS = {"codec": "ffv1"}


class PaintedFace:
    """A generator for tests: the code and the noise decide one colour, the background is what it was given."""

    template: CropTemplate = FACE_TEMPLATE
    size = 64
    code_size = 8
    noise_shape = (3, 64, 64)
    cast = ()

    def finish(self, request: FaceRequest, painted: Image, side: int) -> Image:
        """All there is was painted."""
        return painted

    def __init__(self) -> None:
        self.seen: list[FaceRequest] = []

    def generate(self, requests: Sequence[FaceRequest]) -> list[Image]:
        """A face of the likeness's own colour, textured by its noise."""
        self.seen += requests
        return [self._paint(r) for r in requests]

    def _paint(self, r: FaceRequest) -> Image:
        colour = 128 + 40 * np.tanh(r.code[:3]) + 30 * np.tanh(r.noise.transpose(1, 2, 0))
        return np.where(r.mask[..., None] > 0, colour, r.background).astype(np.uint8)


class BrokenFace(PaintedFace):
    """Fails for every face whose code begins with a positive number, alone or in a batch."""

    def generate(self, requests: Sequence[FaceRequest]) -> list[Image]:
        if any(r.code[0] > 0 for r in requests):
            raise RuntimeError("the network is on fire")
        return super().generate(requests)


def face(frame: int, x: float, y: float, side: float) -> TrackedFace:
    points = np.array(FACE_TEMPLATE.points, np.float32) * side + np.float32([x, y])
    box = (x + 0.2 * side, y + 0.1 * side, x + 0.8 * side, y + 0.9 * side)
    return TrackedFace(frame, box, points, Origin.DETECTED, 0.9)


def two_people(frames: int = FRAMES) -> tuple[Track, ...]:
    """The second walks into the first, until their masks overlap, and leaves through the edge of the picture."""
    first = tuple(face(i, 20 + i, 20, 80) for i in range(frames))
    second = tuple(face(i, 130 - 6 * i, 30 + 4 * i, 70) for i in range(2, frames))
    return Track(1, first), Track(2, second)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("films") / "in.mkv"
    return Path(make(path, Film(WIDTH, HEIGHT, frames=FRAMES, codec="ffv1", audio="flac", time_base=Fraction(1, 1000))))


def plan_of(source: Path, tracks: tuple[Track, ...] | None = None) -> Plan:
    with open_video(source) as video:
        pts = tuple(frame.pts for frame in video.frames())
        info = VideoInfo(video.width, video.height, video.time_base, video.pix_fmt.name, len(pts), file_digest(source))
    return Plan(info, two_people(len(pts)) if tracks is None else tracks, "by hand", pts)


def run(
    source: Path,
    folder: Path,
    *,
    method: Method | None = None,
    key: SecretKey = KEY,
    tracks: tuple[Track, ...] | None = None,
    **options: object,
) -> tuple[Path, Path, RenderReport]:
    plan = plan_of(source, tracks)
    out = folder / "out.mkv"
    index = folder / "out.mkv.rvx"
    report = anonymize(
        source,
        out,
        plan=plan,
        method=method or Diffusion(PaintedFace(), batch_size=4),
        access=Access.of([key], [], plan.video.sha256),
        options=RenderOptions(**{"seal": "lossless", "index": index, **LOSSLESS, **options}),  # type: ignore[arg-type]
    )
    return out, index, report


def pictures(path: Path) -> list[Planes]:
    with open_video(path) as video:
        return [[plane.copy() for plane in frame.planes] for frame in video.frames()]


def covers(source: Path) -> list[list[tuple[int, np.ndarray]]]:
    """Per frame: (track, (H, W) bool where its face may be)."""
    rows: list[list[tuple[int, np.ndarray]]] = []
    plan = plan_of(source)
    with open_video(source) as video:
        for frame in range(FRAMES):
            row = []
            for track, tracked in plan.by_frame().get(frame, []):
                placed = place(track.id, tracked, FACE_TEMPLATE, 64, video.pix_fmt, WIDTH, HEIGHT)
                if placed is None:
                    continue
                mask = np.zeros((HEIGHT, WIDTH), bool)
                rect = placed.region.rect
                mask[rect.y0 : rect.y1, rect.x0 : rect.x1] = placed.region.cover
                row.append((track.id, mask))
            rows.append(row)
    return rows


def outside(covered: list[tuple[int, np.ndarray]], source: Path, frame: int) -> np.ndarray:
    plan = plan_of(source)
    with open_video(source) as video:
        placed = [
            place(track.id, tracked, FACE_TEMPLATE, 64, video.pix_fmt, WIDTH, HEIGHT)
            for track, tracked in plan.by_frame().get(frame, [])
        ]
    return ~hidden_pixels([p for p in placed if p is not None], WIDTH, HEIGHT)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_changes_faces_and_nothing_else(film: Path, tmp_path: Path, name: str) -> None:
    method = Diffusion(PaintedFace()) if name == "diffusion" else Obscure(name)
    out, _, report = run(film, tmp_path, method=method)
    assert (report.frames, report.tracks, report.fallbacks) == (FRAMES, 2, 0)
    for frame, (before, after, row) in enumerate(zip(pictures(film), pictures(out), covers(film), strict=True)):
        free = outside(row, film, frame)
        np.testing.assert_array_equal(before[0][free], after[0][free])
        for _, mask in row:
            assert np.abs(before[0][mask].astype(int) - after[0][mask]).mean() > 1


def test_times_and_sound_survive(film: Path, tmp_path: Path) -> None:
    out, _, _ = run(film, tmp_path)
    with open_video(film) as a, open_video(out) as b:
        assert [a.time_base * f.pts for f in a.frames()] == [b.time_base * f.pts for f in b.frames()]


def test_lossless_seal_brings_everything_back_bit_for_bit(film: Path, tmp_path: Path) -> None:
    out, index, _ = run(film, tmp_path)
    report = recover(out, tmp_path / "back.mkv", index=index, key=KEY, options=RecoverOptions(codec="ffv1"))
    assert (report.tracks, report.hidden, report.authenticity) == ((1, 2), (), "owner")
    for before, after in zip(pictures(film), pictures(tmp_path / "back.mkv"), strict=True):
        for a, b in zip(before, after, strict=True):
            np.testing.assert_array_equal(a, b)


def test_visual_seal_is_visually_lossless(film: Path, tmp_path: Path) -> None:
    out, index, _ = run(film, tmp_path, seal="visual")
    recover(out, tmp_path / "back.mkv", index=index, key=KEY, options=RecoverOptions(codec="ffv1"))
    for before, after, row in zip(pictures(film), pictures(tmp_path / "back.mkv"), covers(film), strict=True):
        for _, mask in row:
            error = np.square(before[0][mask].astype(float) - after[0][mask]).mean()
            assert 10 * np.log10(255**2 / max(error, 1e-9)) >= 40


def track_key(index: Path, track: int) -> TrackKey:
    with open_index(index) as reader:
        return reader.unlock(KEY).grant(track)


@pytest.mark.parametrize("track", [1, 2])
def test_a_track_key_brings_back_its_person_and_no_pixel_of_the_other(film: Path, tmp_path: Path, track: int) -> None:
    out, index, _ = run(film, tmp_path)
    report = recover(
        out, tmp_path / "one.mkv", index=index, key=track_key(index, track), options=RecoverOptions(codec="ffv1")
    )
    assert report.tracks == (track,)
    rows = zip(pictures(film), pictures(out), pictures(tmp_path / "one.mkv"), covers(film), strict=True)
    for original, anonymized, recovered, row in rows:
        mine = dict(row)
        others = np.zeros((HEIGHT, WIDTH), bool)
        for number, mask in row:
            others |= mask if number != track else False
        np.testing.assert_array_equal(recovered[0][others], anonymized[0][others])
        if track in mine and not others.any():
            np.testing.assert_array_equal(recovered[0][mine[track]], original[0][mine[track]])


def test_no_seal_holds_a_pixel_of_another_face(film: Path, tmp_path: Path) -> None:
    """Looks into the sealed clips themselves: where B's face is in the frame, A's clip shows the anonymized picture."""
    out, index, _ = run(film, tmp_path)
    anonymized, rows = pictures(out), covers(film)
    fmt = pixel_format("yuv420p", 0, 0, HEIGHT)
    checked = 0
    with open_index(index) as reader:
        unlocked = reader.unlock(KEY)
        assert CONTESTED in unlocked.track_ids
        for track in (1, 2):
            for placement, clip in unlocked.segments(track):
                tiles = decode_clip(clip, fmt, *placement.canvas)
                for frame, (x, y), (tile, mask) in zip(placement.frames, placement.origins, tiles, strict=True):
                    window = np.s_[y : y + placement.canvas[1], x : x + placement.canvas[0]]
                    for other in (m[window] for number, m in rows[frame] if number != track):
                        assert not mask[other].any()
                        np.testing.assert_array_equal(tile[0][other], anonymized[frame][0][window][other])
                        checked += int(other.sum())
    assert checked > 1000


def test_one_track_by_the_secret_key_leaves_the_other_hidden(film: Path, tmp_path: Path) -> None:
    out, index, _ = run(film, tmp_path)
    report = recover(out, tmp_path / "one.mkv", index=index, key=KEY, tracks=[1], options=RecoverOptions(codec="ffv1"))
    assert (report.tracks, report.hidden) == ((1,), (2,))
    with pytest.raises(IndexFileError, match="no track 7"):
        recover(out, tmp_path / "x.mkv", index=index, key=KEY, tracks=[7])
    with pytest.raises(WrongKeyError, match="track 2 and no other"):
        recover(out, tmp_path / "x.mkv", index=index, key=track_key(index, 2), tracks=[1])
    assert not (tmp_path / "x.mkv").exists()


def test_wrong_key_and_wrong_video_write_nothing(film: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    out, index, _ = run(film, tmp_path)
    other, _, _ = run(film, tmp_path / "other", key=SecretKey(bytes(32)))
    with pytest.raises(WrongKeyError):
        recover(out, tmp_path / "x.mkv", index=index, key=SecretKey.generate())
    with pytest.raises(MismatchError):
        recover(other, tmp_path / "x.mkv", index=index, key=KEY)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other", "out.mkv", "out.mkv.rvx"]


def test_same_key_same_faces_other_key_other_faces(film: Path, tmp_path: Path) -> None:
    digests = []
    for name, key in (("a", KEY), ("b", KEY), ("c", SecretKey(bytes(32)))):
        (tmp_path / name).mkdir()
        digests.append(video_digest(run(film, tmp_path / name, key=key)[0]))
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_batches_do_not_change_the_picture(film: Path, tmp_path: Path, batch: int) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    a = run(film, tmp_path / "a", method=Diffusion(PaintedFace(), batch_size=batch))[0]
    b = run(film, tmp_path / "b", method=Diffusion(PaintedFace(), batch_size=8))[0]
    assert video_digest(a) == video_digest(b)


def test_a_face_that_cannot_be_generated_is_covered_and_said(film: Path, tmp_path: Path) -> None:
    for seed in range(20):  # a key under which exactly one of the two people fails
        key = SecretKey(bytes([seed]) * 32)
        folder = tmp_path / str(seed)
        folder.mkdir()
        out, _, report = run(film, folder, key=key, method=Diffusion(BrokenFace(), batch_size=4))
        if 0 < report.fallbacks < report.faces:
            break
    assert report.failure is not None
    assert "on fire" in report.failure
    for before, after, row in zip(pictures(film), pictures(out), covers(film), strict=True):
        for _, mask in row:
            assert np.abs(before[0][mask].astype(int) - after[0][mask]).mean() > 1


def test_the_generator_never_sees_a_face(film: Path) -> None:
    plan = plan_of(film)
    with open_video(film) as video:
        for frame in video.frames():
            faces = [
                p
                for track, tracked in plan.by_frame()[frame.index]
                if (p := place(track.id, tracked, FACE_TEMPLATE, 64, video.pix_fmt, WIDTH, HEIGHT))
            ]
            covered = covered_pixels(faces, video.pix_fmt, WIDTH, HEIGHT)
            other = with_other_faces(frame.planes, covered)
            likeness = Likeness(np.zeros(8, np.float32), np.zeros((3, 64, 64), np.float32))
            for one in faces:
                a = request_for(one, likeness, frame.planes, video.pix_fmt, covered, 64)
                b = request_for(one, likeness, other, video.pix_fmt, covered, 64)
                np.testing.assert_array_equal(a.background, b.background)
                assert (a.background[a.mask > 0] == REMOVED).all()


def with_other_faces(planes: Planes, covered: Mask) -> Planes:
    """`planes` with noise wherever a sample, of light or of colour, has a share in what is `covered`."""
    rng, height = np.random.default_rng(0), len(covered)
    drawn = []
    for plane in planes:
        rows, columns = -(-height // len(plane)), -(-covered.shape[1] // plane.shape[1])
        drawn.append(np.where(covered[::rows, ::columns], rng.integers(0, 255, plane.shape), plane).astype(plane.dtype))
    return drawn


def test_membrane_meets_its_border() -> None:
    y, x = np.mgrid[0:40, 0:60].astype(np.float32)
    plane = np.stack([x * 0.5, y * 0.3, x * 0 + 7], axis=-1)
    known = np.ones((40, 60), np.bool_)
    known[10:30, 15:45] = False
    filled = membrane(plane, known)
    np.testing.assert_array_equal(filled[known], plane[known])
    assert np.abs(filled - plane)[10:30, 15:45].max() < 6
    assert np.isfinite(membrane(plane, np.zeros((40, 60), np.bool_))).all()


def large_face(name: str) -> tuple[PlacedFace, Planes, PixelFormat, Mask]:
    """A face four times as large as its crop, in the corner of a picture of odd size that is brighter to the right."""
    fmt = pixel_format(name, 1, 0, 397)
    y, x = np.mgrid[:397, :431]
    whole = (60 + x / 4 + 20 * np.sin(y / 9) + 20 * np.sin(x / 7)).astype(fmt.dtype) << (fmt.bits - 8)
    planes = [whole[:rows, :columns].copy() for rows, columns in fmt.plane_shapes(431, 397)]
    placed = place(1, face(0, 121, 87, 280), FACE_TEMPLATE, 64, fmt, 431, 397)
    assert placed is not None
    return placed, planes, fmt, hidden_pixels([placed], 431, 397)


@pytest.mark.parametrize("name", ["yuv420p", "yuv444p", "yuv420p10le"])
def test_the_generator_never_sees_a_large_face(name: str) -> None:
    """Its crop is made from a smaller picture: the face is out of that, too."""
    placed, planes, fmt, hidden = large_face(name)
    covered = covered_pixels([placed], fmt, 431, 397)
    other = with_other_faces(planes, covered)
    likeness = Likeness(np.zeros(8, np.float32), np.zeros((3, 64, 64), np.float32))
    a, b = (request_for(placed, likeness, seen, fmt, covered, 64) for seen in (planes, other))
    np.testing.assert_array_equal(a.background, b.background)
    np.testing.assert_array_equal(a.mask, b.mask)
    assert (a.background[a.mask > 0] == REMOVED).all()
    cover = np.zeros(hidden.shape, np.uint8)
    cover[placed.region.rect.inside] = placed.region.cover
    assert (covered | (cover == 0)).all()
    assert (a.mask[geometry.crop(cover * np.uint8(255), placed.matrix, 64) > 127] > 0).all()


def test_the_generator_sees_what_is_around_a_face() -> None:
    """Neck, ears and hairline, under the seam, tell what the skin between them is like."""
    placed, planes, fmt, hidden = large_face("yuv420p")
    covered = covered_pixels([placed], fmt, 431, 397)
    seam = hidden & ~covered
    brighter = [plane.copy() for plane in planes]
    brighter[0][seam] += 40
    likeness = Likeness(np.zeros(8, np.float32), np.zeros((3, 64, 64), np.float32))
    a, b = (request_for(placed, likeness, seen, fmt, covered, 64) for seen in (planes, brighter))
    around = geometry.crop(seam.view(np.uint8) * np.uint8(255), placed.matrix, 64) == 255
    assert around.sum() > 100
    assert ((b.background.astype(int) - a.background)[around, 1] > 30).all()


@pytest.mark.parametrize("name", ["yuv420p", "yuv422p", "yuv444p"])
def test_colours_met_at_half_the_resolution_are_those_met_at_the_whole(name: str) -> None:
    placed, planes, fmt, hidden = large_face(name)
    rect, picture = placed.region.rect, np.random.default_rng(0).integers(90, 190, (8, 8, 3)).astype(np.uint8)
    picture = np.asarray(np.kron(picture, np.ones((8, 8, 1))), np.uint8)
    painted = geometry.uncrop(picture, placed.matrix, rect).astype(np.float32)
    met = painted + membrane(to_rgb(cut(planes, fmt, rect), fmt) - painted, ~hidden[rect.inside])
    tile = fit_into(picture, placed, planes, fmt, hidden)
    change = np.abs(tile - np.clip(met, 0, 255)) * placed.region.alpha[..., None]
    # masks of finer chroma cut blocks in two, and those are left out
    assert change.max() <= (1 if fmt.sx and fmt.sy else 6)


def test_kept_tracks_stay_as_filmed(film: Path, tmp_path: Path) -> None:
    first, second = two_people()
    out, index, report = run(film, tmp_path, tracks=(replace(first, keep=True), second))
    assert (report.tracks, report.kept) == (1, 1)
    np.testing.assert_array_equal(pictures(film)[0][0], pictures(out)[0][0])  # only the kept one is there
    with open_index(index) as reader:
        assert reader.unlock(KEY).track_ids == (2,)


def test_errors_leave_nothing(film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(film)
    cases: list[tuple[type[RevisageError], Plan]] = [
        (PlanError, replace(plan, video=replace(plan.video, sha256="0" * 64))),
        (DamagedMediaError, replace(plan, video=replace(plan.video, frames=FRAMES + 1), pts=(*plan.pts, 9999))),
    ]
    for error, bad in cases:
        with pytest.raises(error):
            anonymize(
                film,
                tmp_path / "out.mkv",
                plan=bad,
                method=Obscure("solid"),
                access=Access.of([KEY], [], plan.video.sha256),
                options=RenderOptions(index=tmp_path / "out.mkv.rvx"),
            )
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(OutputError):
        run(film, tmp_path / "nowhere")


def test_recipients_only(film: Path, tmp_path: Path) -> None:
    plan = plan_of(film)
    access = Access.of([], [KEY.recipient], plan.video.sha256)
    assert access.faces != Access.of([], [KEY.recipient], plan.video.sha256).faces
    options = RenderOptions(index=tmp_path / "o.rvx", seal="lossless", codec="ffv1")
    anonymize(film, tmp_path / "o.mkv", plan=plan, method=Obscure("solid"), access=access, options=options)
    report = recover(tmp_path / "o.mkv", tmp_path / "b.mkv", index=tmp_path / "o.rvx", key=KEY)
    assert report.tracks == (1, 2)
    assert report.authenticity == "unsigned"


def test_nothing_sealed_nothing_recovered(film: Path, tmp_path: Path) -> None:
    out, index, report = run(film, tmp_path, seal="off")
    assert report.index_bytes < 20_000
    with pytest.raises(IndexFileError, match="nothing was sealed"):
        recover(out, tmp_path / "x.mkv", index=index, key=KEY)


def test_the_same_key_and_film_give_the_same_faces_and_other_seals() -> None:
    """So that a track key of one run opens no other, and the tracks of a second run keep their faces."""
    digest = "ab" * 32
    one, two = (Access.of([KEY], [], digest) for _ in range(2))
    assert one.faces == two.faces
    assert one.seal != two.seal
    assert one.owner == two.owner == KEY.owner
