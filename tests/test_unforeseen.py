"""Nothing unexpected ends a run: odd geometry, odd pictures, networks and methods that fail, through both passes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from commands import run
from films import Film, film_of_a_face, make  # type: ignore[import-not-found]
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from revisage.models.base import FaceRequest
from revisage.models.conditioning import FACE_TEMPLATE
from revisage.pipeline.analyze import analyze
from revisage.pipeline.composite import Likeness, covered_pixels, hidden_pixels, place_all, placed_rect
from revisage.pipeline.media import file_digest, open_video
from revisage.pipeline.pixels import PixelFormat, Planes, blend, pixel_format
from revisage.pipeline.protect import Diffusion, Method, Mixed, Obscure, Picture
from revisage.pipeline.render import Access, RenderOptions, anonymize
from revisage.pipeline.types import FaceDetection, Float, Image, Origin, Plan, Track, TrackedFace, VideoInfo
from revisage.pipeline.vault.index import open_index
from revisage.pipeline.vault.keys import SecretKey

KEY = SecretKey(bytes(range(32)))
FORMATS = ("yuv420p", "yuv422p10le", "yuv444p", "yuvj420p", "yuv411p", "yuv440p", "gray", "gbrp", "gray10le")
WHO = Likeness(np.zeros(8, np.float32), np.zeros((3, 64, 64), np.float32))


class Painter:
    """A generator for tests: noise where the face was; or what `fault` says."""

    template, size, code_size, noise_shape = FACE_TEMPLATE, 64, 8, (3, 64, 64)

    def __init__(self, fault: str = "") -> None:
        self.fault = fault

    def generate(self, requests: Sequence[FaceRequest]) -> list[Image]:
        if self.fault == "raises":
            raise RuntimeError("the network is on fire\nand more")
        if self.fault == "memory":
            raise MemoryError
        grain = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
        made = [np.where(r.mask[..., None] > 0, grain, r.background).astype(np.uint8) for r in requests]
        if self.fault == "nan":
            return [np.where(r.mask[..., None] > 0, np.nan, p) for r, p in zip(requests, made, strict=True)]
        return made[:-1] if self.fault == "too few" else made


def methods() -> list[Method]:
    faults = ("", "raises", "memory", "nan", "too few")
    return [Obscure("blur"), Obscure("mosaic"), Obscure("solid"), *(Diffusion(Painter(f), 2) for f in faults)]


def numbers(side: float) -> st.SearchStrategy[float]:
    """Inside, across and at the edge, far outside, and no numbers."""
    near = st.floats(-0.6 * side, 1.6 * side)
    edges = st.sampled_from([0.0, -0.0, side, side - 1, -1.0, 0.5, side / 2])
    strange = st.sampled_from([math.nan, math.inf, -math.inf, 1e9, -1e9, 1e30, 3e5])
    return st.one_of(near, near, near, edges, edges, strange)


@st.composite
def faces(draw: st.DrawFn, width: int, height: int, frame: int = 0) -> TrackedFace:
    """A face that is turned and placed anyhow, or whose numbers have nothing to do with each other."""
    if draw(st.booleans()):
        box = tuple(draw(numbers(side)) for side in (width, height, width, height))
        points = np.array([[draw(numbers(width)), draw(numbers(height))] for _ in range(5)], np.float32)
        return TrackedFace(frame, box, points, Origin.DETECTED, 0.9, _some_landmarks(draw, points))  # type: ignore[arg-type]
    x, y = draw(numbers(width)), draw(numbers(height))
    side = draw(st.one_of(st.floats(0, 3 * width), st.sampled_from([0.0, 1e-3, 1.0, 20.0, 1e5])))
    angle = draw(st.floats(-math.pi, math.pi))
    turned = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    with np.errstate(all="ignore"):
        points = ((np.array(FACE_TEMPLATE.points) - 0.5) @ turned * side + [x, y]).astype(np.float32)
    box = (x - side / 3, y - side / 2, x + side / 3, y + side / 2)
    return TrackedFace(frame, box, points, Origin.HELD, 0.0, _some_landmarks(draw, points))


def _some_landmarks(draw: st.DrawFn, points: Float) -> Float | None:
    kind = draw(st.sampled_from(["none", "none", "near", "one place", "no numbers", "anywhere"]))
    if kind == "none":
        return None
    spread = {"near": 5.0, "one place": 0.0, "no numbers": math.nan, "anywhere": 1e4}[kind]
    return (points[0] + np.random.default_rng(1).normal(0, 1, (135, 2)) * spread).astype(np.float32)


def planes_of(fmt: PixelFormat, width: int, height: int) -> Planes:
    rng = np.random.default_rng(2)
    return [rng.integers(0, fmt.peak + 1, shape).astype(fmt.dtype) for shape in fmt.plane_shapes(width, height)]


def hidden(faces: Sequence[TrackedFace], method: Method, fmt: PixelFormat, width: int, height: int) -> int:
    """One frame through everything that pass 2 does to pixels; how many faces were placed."""
    planes = planes_of(fmt, width, height)
    before = [plane.copy() for plane in planes]
    tracks = [(Track(n + 1, (face,)), face) for n, face in enumerate(faces)]
    placed = place_all(tracks, method.template, method.size, fmt, width, height)
    rects = [placed_rect(face, method.template, fmt, width, height) for face in faces]
    assert [face.region.rect for face in placed] == [rect for rect in rects if rect is not None]
    covered, touched = covered_pixels(placed, fmt, width, height), hidden_pixels(placed, width, height)
    picture = Picture(0, planes, fmt, placed, covered, touched)
    (done,) = list(Mixed(method).protect([picture], lambda _: WHO))
    assert len(done.tiles) == len(placed)
    for face, tile in zip(done.picture.faces, done.tiles, strict=True):
        assert np.isfinite(tile).all()
        blend(planes, fmt, face.region.rect, tile, face.region.alpha)
    assert np.array_equal(planes[0][~touched], before[0][~touched]), "what no face touches keeps its bits"
    return len(placed)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_geometry_at_any_format_and_size_by_any_method(data: st.DataObject) -> None:
    width, height = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 90))
    fmt = pixel_format(data.draw(st.sampled_from(FORMATS)), 2, 0, height)
    found = data.draw(st.lists(faces(width, height), min_size=1, max_size=3))
    hidden(found, data.draw(st.sampled_from(methods())), fmt, width, height)


def test_a_face_without_a_number_covers_the_picture() -> None:
    """There is somebody, nobody knows where."""
    nowhere = TrackedFace(0, (math.nan,) * 4, np.full((5, 2), np.nan, np.float32), Origin.DETECTED, 0.9)
    fmt = pixel_format("yuv420p", 2, 0, 48)
    (placed,) = place_all([(Track(1, (nowhere,)), nowhere)], FACE_TEMPLATE, 64, fmt, 64, 48)
    assert placed.region.cover[8:40, 8:56].all()


@pytest.mark.parametrize("across", [(-55.0, 20.0), (150.0, 20.0), (60.0, -70.0), (60.0, 115.0), (-48.0, -60.0)])
def test_a_face_that_has_almost_left_the_picture(across: tuple[float, float]) -> None:
    """Its crop may show nothing of the picture."""
    x, y = across
    points = np.array(FACE_TEMPLATE.points, np.float32) * 60 + np.float32([x, y])
    box = (x - 12, y - 12, x + 72, y + 84)
    fmt = pixel_format("yuv420p", 2, 0, 120)
    face = TrackedFace(0, box, points, Origin.HELD, 0.0)
    for method in methods():
        assert hidden([face], method, fmt, 160, 120) == 1


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("films") / "in.mkv"
    return Path(make(path, Film(47, 39, frames=3, codec="ffv1", time_base=Fraction(1, 1000))))


def plan_of(source: Path, tracks: tuple[Track, ...]) -> Plan:
    with open_video(source) as video:
        pts = tuple(frame.pts for frame in video.frames())
        info = VideoInfo(video.width, video.height, video.time_base, video.pix_fmt.name, len(pts), file_digest(source))
    return Plan(info, tracks, "by hand", pts)


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_geometry_through_pass_2_and_its_index(
    data: st.DataObject, film: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("out")
    rows = [tuple(data.draw(faces(47, 39, frame)) for frame in range(3)) for _ in range(2)]
    plan = plan_of(film, tuple(Track(n + 1, row) for n, row in enumerate(rows)))
    access = Access.of([KEY], [], plan.video.sha256)
    options = RenderOptions(seal="lossless", index=folder / "o.rvx", codec="ffv1")
    method = data.draw(st.sampled_from(methods()))
    anonymize(film, folder / "o.mkv", plan=plan, method=method, access=access, options=options)
    with open_index(folder / "o.rvx") as reader:
        assert reader.unlock(KEY).document is not None


@pytest.mark.parametrize("fault", ["raises", "memory", "nan", "too few"])
def test_a_painter_that_fails_leaves_grey_and_is_counted(fault: str, film: Path, tmp_path: Path) -> None:
    points = np.array(FACE_TEMPLATE.points, np.float32) * 30 + np.float32([8, 5])
    row = tuple(TrackedFace(n, (12, 8, 32, 34), points, Origin.DETECTED, 0.9) for n in range(3))
    plan = plan_of(film, (Track(1, row),))
    access = Access.of([KEY], [], plan.video.sha256)
    options = RenderOptions(seal="off", index=None, codec="ffv1")
    method = Diffusion(Painter(fault), batch_size=1)
    report = anonymize(film, tmp_path / "o.mkv", plan=plan, method=method, access=access, options=options)
    assert (report.fallbacks, report.faces) == (3, 3) and report.failure and "\n" not in report.failure
    with open_video(tmp_path / "o.mkv") as video:
        for frame in video.frames():
            assert frame.rgb()[15:28, 16:28].std() < 3


class Mad:
    """A detector that says things that are no numbers beside a face."""

    name, score = "mad", 0.9

    def detect(self, picture: Image) -> list[FaceDetection]:
        height, width = picture.shape[:2]
        points = np.array(FACE_TEMPLATE.points, np.float32) * 30 + np.float32([8, 5])
        face = FaceDetection((12, 8, 32, 34), 0.9, points)
        nan = np.full((5, 2), np.nan, np.float32)
        return [
            face,
            FaceDetection((math.nan,) * 4, 0.9, nan),
            FaceDetection((width - 9.0, height - 9.0, width + 30.0, height + 30.0), 0.9, nan),
            replace(face, box=(0, 0, 0, 0)),
        ]


class Lost:
    """A landmark network that fails."""

    def locate(self, picture: Image, points: Sequence[Float]) -> list[tuple[Float, float]]:
        raise RuntimeError("no")


def test_a_detector_and_landmarks_without_numbers(film: Path) -> None:
    plan = analyze(film, detector=Mad(), landmarker=Lost())
    assert plan.tracks
    for track in plan.tracks:
        for face in track.faces:
            assert np.isfinite(face.box).all() and np.isfinite(face.points).all()


def test_what_nobody_foresaw_is_one_line_and_debug_shows_where(
    key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = film_of_a_face(tmp_path / "in.mkv", 4)

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("division by zero\nin two lines")

    monkeypatch.setattr("revisage.pipeline.run.analyze", fail)
    words = ["anonymize", source, "-o", tmp_path / "o.mkv", "--method", "solid", "--key", key]
    failed = run(*words)
    assert failed.exit_code == 1 and len(failed.stderr.strip().splitlines()) == 1, failed.stderr
    assert "ZeroDivisionError" in failed.stderr and "--debug" in failed.stderr and "Traceback" not in failed.stderr
    shown = run(*words, "--debug")
    assert shown.exit_code == 1 and "Traceback" in shown.stderr and "in fail" in shown.stderr
    assert not (tmp_path / "o.mkv").exists()
    usage = run("inspect", tmp_path / "in.mkv", "--json")
    assert usage.exit_code == 1 and "Traceback" not in usage.stderr
