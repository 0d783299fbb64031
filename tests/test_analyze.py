"""Pass 1 as a whole: scripted detectors on real decoding, CenterFace on real clips."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import skimage.data

from revisage.models import layout
from revisage.models.base import Detector
from revisage.models.detectors import CenterFaceDetector
from revisage.pipeline.analyze import AnalyzeOptions, analyze
from revisage.pipeline.errors import DamagedMediaError, NoVideoError, PlanError
from revisage.pipeline.media import file_digest, open_video
from revisage.pipeline.plan import dump_plan, fits, parse_plan
from revisage.pipeline.turn import Orientation
from revisage.pipeline.types import Box, FaceDetection, Float, Image, Origin, Plan

FIVE = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]], np.float32)


ONCE = AnalyzeOptions(again=False, skip=False)  # one look a frame: what a scripted detector counts on


class BlobDetector:
    """Finds the one bright red blob in a picture; scripted not to in some frames."""

    name = "blob"

    def __init__(self, blind: Iterable[int] = (), score: float = 0.9) -> None:
        self.blind = set(blind)
        self.score = score
        self.pictures = 0

    def detect(self, picture: Image) -> list[FaceDetection]:
        self.pictures += 1
        if self.pictures - 1 in self.blind:
            return []
        red = (picture[..., 0] > 150) & (picture[..., 1] < 110) & (picture[..., 2] < 110)
        y, x = np.nonzero(red)
        if len(x) < 20:
            return []
        box = (float(x.min()), float(y.min()), float(x.max() + 1), float(y.max() + 1))
        corner, extent = np.array(box[:2]), np.array(box[2:]) - np.array(box[:2])
        return [FaceDetection(box, self.score, (corner + FIVE * extent).astype(np.float32))]


class BoxLandmarker:
    """Landmarks spread over the five points' box; wrong or unsure in scripted calls."""

    def __init__(self, unsure: Iterable[int] = (), astray: Iterable[int] = ()) -> None:
        self.unsure, self.astray = set(unsure), set(astray)
        self.calls = 0

    def locate(self, picture: Image, points: Sequence[Float]) -> list[tuple[Float, float]]:
        call, self.calls = self.calls, self.calls + 1
        found = []
        for five in points:
            shape = np.tile(five.mean(0), (layout.LANDMARK_COUNT, 1)).astype(np.float32)
            shape[[133, 134, layout.NOSE_TIP, layout.MOUTH_LEFT, layout.MOUTH_RIGHT]] = five
            if call in self.astray:
                shape += 200
            found.append((shape, 0.05 if call in self.unsure else 0.9))
        return found


def blob_at(frame: int) -> tuple[int, int]:
    return 40 + 2 * frame, 50 + frame % 3


def film(
    path: Path, frames: int, *, size: tuple[int, int] = (320, 192), rotation: int = 0, pts: Sequence[int] | None = None
) -> Path:
    """A red blob of 30 x 40 walks over a grey picture; FFV1, time base 1/1000, 25 frames a second unless `pts`."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, "bgr0"
        stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        for frame in range(frames):
            picture = np.full((size[1], size[0], 3), 120, np.uint8)
            x, y = blob_at(frame)
            picture[y : y + 40, x : x + 30] = (220, 40, 40)
            image: Any = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="bgr0")
            image.pts = pts[frame] if pts else frame * 40
            image.time_base = Fraction(1, 1000)
            container.mux(stream.encode(image))
        container.mux(stream.encode(None))
    return path


def truth(frame: int) -> Box:
    x, y = blob_at(frame)
    return float(x), float(y), float(x + 30), float(y + 40)


def share_covered(box: Box, plan: Plan, frame: int) -> float:
    best = 0.0
    for _, face in plan.by_frame().get(frame, []):
        b = face.box
        w, h = min(box[2], b[2]) - max(box[0], b[0]), min(box[3], b[3]) - max(box[1], b[1])
        best = max(best, max(0.0, w) * max(0.0, h))
    return best / ((box[2] - box[0]) * (box[3] - box[1]))


def test_the_fakes_are_detectors() -> None:
    assert isinstance(BlobDetector(), Detector)


def test_every_frame_is_covered_though_the_detector_sees_half_of_them(tmp_path: Path) -> None:
    source = film(tmp_path / "in.mkv", 60)
    blind = {0, 1, 2, *range(10, 30), *range(41, 59, 2), 58, 59}
    plan = analyze(source, detector=BlobDetector(blind), options=ONCE)
    assert [len(t.faces) for t in plan.tracks] == [60]
    assert all(share_covered(truth(i), plan, i) > 0.8 for i in range(60))
    origins = {i: face.origin for i, faces in plan.by_frame().items() for _, face in faces}
    assert {i for i, o in origins.items() if o is Origin.DETECTED} == set(range(60)) - blind
    assert origins[0] is origins[59] is Origin.HELD
    assert origins[20] is Origin.INTERPOLATED


def test_the_plan_knows_its_video_and_survives_its_file(tmp_path: Path) -> None:
    source = film(tmp_path / "in.mkv", 12)
    plan = analyze(source, detector=BlobDetector(), options=ONCE)
    assert (plan.video.width, plan.video.height, plan.video.frames) == (320, 192, 12)
    assert plan.video.sha256 == file_digest(source)
    assert plan.detector == "blob"
    with open_video(source) as video:
        assert plan.video.time_base == video.time_base
        assert list(plan.pts) == [frame.pts for frame in video.frames()]
    again = parse_plan(dump_plan(plan))
    fits(again, plan.video)
    assert again.by_frame().keys() == plan.by_frame().keys()


def test_holding_counts_seconds_where_the_frame_rate_varies(tmp_path: Path) -> None:
    """Ten frames at 25, then ten at 5 a second: half a second is two frames there."""
    pts = [40 * i for i in range(10)] + [400 + 200 * i for i in range(10)]
    source = film(tmp_path / "in.mkv", 20, pts=pts)
    plan = analyze(source, detector=BlobDetector(range(12, 20)), options=ONCE)
    (track,) = plan.tracks
    assert track.faces[-1].frame == 11 + 2


@pytest.mark.parametrize("rotation", [0, 90, -90, 180])
def test_pictures_are_turned_upright_for_detection_and_the_plan_is_of_the_stored_frame(
    tmp_path: Path, rotation: int
) -> None:
    source = film(tmp_path / "in.mp4", 6, rotation=rotation)
    with open_video(source) as video:
        assert video.orientation == Orientation(rotation // 90 % 4)
    detector = BlobDetector()
    shapes: list[tuple[int, ...]] = []
    inner = detector.detect
    detector.detect = lambda p: (shapes.append(p.shape), inner(p))[1]  # type: ignore[method-assign,func-returns-value]
    landmarker = BoxLandmarker()
    plan = analyze(source, detector=detector, landmarker=landmarker, options=ONCE)
    assert set(shapes) == {(320, 192, 3) if rotation % 180 else (192, 320, 3)}
    (track,) = plan.tracks
    for face in track.faces:
        assert np.allclose(face.box, truth(face.frame), atol=2.5)
        assert face.landmarks is not None
        assert np.allclose(layout.five_points(face.landmarks), face.points)
        x0, y0, x1, y1 = truth(face.frame)
        eyes = face.points[:2].mean(0) - ((x0 + x1) / 2, (y0 + y1) / 2)
        up = {0: (0, -1), 90: (1, 0), 180: (0, 1), -90: (-1, 0)}[rotation if rotation != -180 else 180]
        assert eyes @ np.array(up) > 0.05 * 30, "the forehead lies where the stored picture has it"


def test_landmarks_that_cannot_be_trusted_are_taken_from_the_neighbours(tmp_path: Path) -> None:
    source = film(tmp_path / "in.mkv", 20)
    good = analyze(source, detector=BlobDetector(), landmarker=BoxLandmarker(), options=ONCE)
    bad = analyze(
        source, detector=BlobDetector(), landmarker=BoxLandmarker(unsure={0, 7, 8}, astray={12, 19}), options=ONCE
    )
    for one, other in zip(good.tracks[0].faces, bad.tracks[0].faces, strict=True):
        assert one.landmarks is not None and other.landmarks is not None
        assert np.abs(one.landmarks - other.landmarks).max() < 2
    hopeless = analyze(source, detector=BlobDetector(), landmarker=BoxLandmarker(astray=range(20)), options=ONCE)
    assert all(f.landmarks is None for f in hopeless.tracks[0].faces), "but never invented"


def test_nobody_is_tracked_through_a_cut(tmp_path: Path) -> None:
    source = tmp_path / "in.mkv"
    with av.open(str(source), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 192, "bgr0"
        for frame in range(30):
            picture = cv2.resize(skimage.data.coffee() if frame < 15 else skimage.data.rocket(), (320, 192)) // 2
            picture[60:100, 100:130] = (220, 40, 40)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="bgr0")))
        container.mux(stream.encode(None))

    class Fixed(BlobDetector):
        def detect(self, picture: Image) -> list[FaceDetection]:
            return [FaceDetection((100, 60, 130, 100), 0.9, (np.array([100, 60]) + FIVE * [30, 40]).astype(np.float32))]

    plan = analyze(source, detector=Fixed(), options=ONCE)
    assert plan.notes["cuts"] == "15"
    assert [(t.faces[0].frame, t.faces[-1].frame) for t in plan.tracks] == [(0, 14), (15, 29)]


def test_scores_and_times_can_be_chosen(tmp_path: Path) -> None:
    source = film(tmp_path / "in.mkv", 20)
    faint = BlobDetector(score=0.3, blind=range(2, 20))
    assert analyze(source, detector=faint, options=ONCE).tracks == ()
    faint.pictures = 0
    assert (
        len(
            analyze(source, detector=faint, options=AnalyzeOptions(high=0.3, hold=0, again=False, skip=False))
            .tracks[0]
            .faces
        )
        == 2
    )
    for wrong in ({"low": 0.5}, {"high": 1.1}, {"hold": -1.0}):
        with pytest.raises(PlanError):
            AnalyzeOptions(**wrong)


def test_progress_sees_every_frame(tmp_path: Path) -> None:
    source = film(tmp_path / "in.mkv", 9)
    seen: list[Any] = []

    def progress(items: Iterable[Any], *, label: str, total: int | None = None) -> Iterator[Any]:
        for item in items:
            seen.append((label, total))
            yield item

    analyze(source, detector=BlobDetector(), progress=progress, options=ONCE)
    assert len(seen) == 9 and {label for label, _ in seen} == {"analyze"}


def test_a_film_that_breaks_off_gives_no_plan(tmp_path: Path) -> None:
    whole = film(tmp_path / "in.mkv", 40).read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(DamagedMediaError):
        analyze(tmp_path / "cut.mkv", detector=BlobDetector())
    (tmp_path / "text.mkv").write_text("no film")
    with pytest.raises((NoVideoError, OSError)):
        analyze(tmp_path / "text.mkv", detector=BlobDetector())


def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    def peak(frames: int) -> int:
        source = film(tmp_path / f"{frames}.mkv", frames, size=(640, 384))
        tracemalloc.start()
        analyze(source, detector=BlobDetector(blind=range(1, frames)), options=ONCE)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    # How far the decoder gets ahead is the scheduler's choice: a few pictures more or less, never 105.
    few = 8 * 640 * 384 * 3
    assert peak(120) - peak(15) < few, "105 more frames cost less than eight pictures"


# -- real clips --------------------------------------------------------------------------------------------------------


class Recorded:
    """CenterFace, remembering what it said."""

    name = "centerface"

    def __init__(self) -> None:
        self.inner = CenterFaceDetector(device="cpu")
        self.found: list[list[FaceDetection]] = []

    def detect(self, picture: Image) -> list[FaceDetection]:
        self.found.append(self.inner.detect(picture))
        return self.found[-1]


def head_of(source: Path, target: Path, frames: int) -> Path:
    """The first frames of a clip, without loss."""
    with open_video(source) as video, av.open(str(target), "w") as part:
        stream: Any = part.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = video.width, video.height, "bgr0"
        for frame in islice(video.frames(), frames):
            part.mux(stream.encode(av.VideoFrame.from_ndarray(frame.rgb(), format="rgb24").reformat(format="bgr0")))
        part.mux(stream.encode(None))
    return target


@pytest.mark.slow
@pytest.mark.parametrize("clip", ["carphone.mp4", "headpose.mp4", "signing.mkv"])
def test_every_sure_detection_in_real_clips_lies_in_the_plan(shared: Path, tmp_path: Path, clip: str) -> None:
    detector = Recorded()
    plan = analyze(head_of(shared / "clips" / clip, tmp_path / "head.mkv", 16), detector=detector, options=ONCE)
    assert plan.video.frames == 16
    faces = plan.by_frame()
    for frame, found in enumerate(detector.found):
        for face in found:
            if face.score >= 0.4:
                assert share_covered(face.box, plan, frame) > 0.999
                best = max(faces[frame], key=lambda pair, box=face.box: _iou(box, pair[1].box))  # type: ignore[misc]
                assert _iou(face.box, best[1].box) > 0.75, "covered, and not by far too much"
    assert len(plan.tracks) == 1, "one person each"
    assert len(plan.tracks[0].faces) == plan.video.frames == len(detector.found)
    assert plan.notes["cuts"] == ""


def _iou(a: Box, b: Box) -> float:
    shared = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


@pytest.mark.slow
def test_small_faces_in_a_large_real_picture_are_covered_through_the_film(tmp_path: Path) -> None:
    """The astronaut's face, 24 px wide, wanders over a 720p photograph; two frames are spoilt by noise."""
    head = cv2.resize(skimage.data.astronaut()[10:230, 110:340], None, fx=24 / 88, fy=24 / 88, interpolation=3)
    back = cv2.resize(skimage.data.coffee(), (1280, 720), interpolation=cv2.INTER_CUBIC)
    source, places = tmp_path / "in.mkv", []
    with av.open(str(source), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=12)
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "bgr0"
        for frame in range(6):
            picture, x, y = back.copy(), 300 + 12 * frame, 200 + 5 * frame
            picture[y : y + head.shape[0], x : x + head.shape[1]] = head
            if frame in (0, 3):
                picture[y : y + 60, x : x + 60] = np.random.default_rng(frame).integers(0, 256, (60, 60, 3))
            places.append((x + 20.0, y + 13.0, x + 44.0, y + 46.0))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="bgr0")))
        container.mux(stream.encode(None))
    plan = analyze(source, detector=CenterFaceDetector(device="cpu"))
    assert all(share_covered(box, plan, frame) > 0.8 for frame, box in enumerate(places))
    assert len(plan.tracks) == 1


def test_a_plan_edited_by_hand_still_fits(tmp_path: Path) -> None:
    plan = analyze(film(tmp_path / "in.mkv", 6), detector=BlobDetector())
    kept = parse_plan(dump_plan(replace(plan, tracks=tuple(replace(t, keep=True) for t in plan.tracks))))
    fits(kept, plan.video)
    assert all(t.keep for t in kept.tracks)
