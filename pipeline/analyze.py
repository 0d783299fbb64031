"""Pass 1: who is where, when. Reads a video once, front to back, and returns the plan; writes nothing, changes nothing.

    decode ─► turn upright ─► detect ─► landmarks ─┐
                         └──► cuts ────────────────┴─► track ─► link ─► smooth ─► plan

Only detections are kept while the video streams past, so memory grows with the number of faces, not of pixels. Tracking
runs afterwards, when the frame rate and the cuts are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from revisage.models import layout
from revisage.models.base import Detector, Landmarker
from revisage.pipeline.errors import PlanError
from revisage.pipeline.media import VideoReader, file_digest, open_video
from revisage.pipeline.types import Box, FaceDetection, Float, Image, Plan, Progress, Track, VideoInfo, silent
from revisage.trackers.base import Sighting, Tracker
from revisage.trackers.cuts import CutFinder
from revisage.trackers.link import LinkOptions, link
from revisage.trackers.norfair import NorfairTracker
from revisage.trackers.smooth import smooth

_FARTHEST = 0.25  # of the box's mean side: how far landmarks may lie from the detector's five points, on average


@dataclass(frozen=True, slots=True)
class AnalyzeOptions:
    """Scores are 0..1, times are seconds."""

    low: float = 0.2  # detections below are not looked at
    high: float = 0.4  # a detection from here on is a face, whatever its neighbours say
    hold: float = 0.5  # a face is covered so long before its first and after its last detection
    max_gap: float = 1.0  # longest interruption within one track
    confidence: float = 0.3  # landmarks below are taken from neighbouring frames instead

    def __post_init__(self) -> None:
        """Raises `PlanError` where the numbers make no sense together."""
        if not 0 <= self.low <= self.high <= 1:
            raise PlanError(f"scores must rise: 0 <= low ({self.low}) <= high ({self.high}) <= 1")
        if min(self.hold, self.max_gap) < 0:
            raise PlanError(f"times must not be negative: hold {self.hold}, longest gap {self.max_gap}")


@dataclass(slots=True)
class _Seen:
    """What is kept of the frames that went by."""

    pts: list[int] = field(default_factory=list)
    sightings: list[list[Sighting]] = field(default_factory=list)  # per frame
    cuts: list[int] = field(default_factory=list)


def analyze(
    source: Path,
    *,
    detector: Detector,
    landmarker: Landmarker | None = None,
    options: AnalyzeOptions | None = None,
    progress: Progress = silent,
) -> Plan:
    """The plan of `source`: every face found, tracked, bridged, held and smoothed.

    Each detection with a score of at least `options.high` lies in a face of the plan. Without `landmarker` the faces
    have five points and no landmarks. Raises `MediaError` and its kin when the video cannot be read to its end.
    """
    chosen = options or AnalyzeOptions()
    with open_video(source) as video:
        seen = _watch(video, detector, landmarker, chosen, progress)
        info = VideoInfo(
            video.width, video.height, video.time_base, video.pix_fmt.name, len(seen.pts), file_digest(source)
        )
    return Plan(info, tuple(_tracks(seen, info, chosen)), detector.name, tuple(seen.pts), _notes(seen))


def _watch(
    video: VideoReader,
    detector: Detector,
    landmarker: Landmarker | None,
    options: AnalyzeOptions,
    progress: Progress,
) -> _Seen:
    seen, cuts = _Seen(), CutFinder()
    turn = _Turn(round(video.rotation / 90) % 4, video.width, video.height)
    for frame in progress(video.frames(), label="analyze", total=video.frame_estimate):
        picture = turn.upright(frame.rgb())
        cuts.push(picture)
        found = [face for face in detector.detect(picture) if face.score >= options.low]
        shapes = _landmarks(picture, found, landmarker, options.confidence)
        seen.pts.append(frame.pts)
        seen.sightings.append(
            [turn.stored(Sighting(frame.index, face, shape)) for face, shape in zip(found, shapes, strict=True)]
        )
    seen.cuts = cuts.finish()
    return seen


def _landmarks(
    picture: Image, faces: Sequence[FaceDetection], landmarker: Landmarker | None, least: float
) -> list[Float | None]:
    """Per face the dense landmarks, or None where there are none to be trusted."""
    if landmarker is None or not faces:
        return [None] * len(faces)
    found = landmarker.locate(picture, [face.points for face in faces])
    return [
        shape if confidence >= least and _plausible(shape, face) else None
        for face, (shape, confidence) in zip(faces, found, strict=True)
    ]


def _plausible(shape: Float, face: FaceDetection) -> bool:
    """Do the dense landmarks agree with the detector about where the face is?"""
    if not np.isfinite(shape).all():
        return False
    side = (face.box[2] - face.box[0] + face.box[3] - face.box[1]) / 2
    off = np.linalg.norm(layout.five_points(shape) - face.points, axis=-1).mean()
    return bool(off <= _FARTHEST * side)


def _tracks(seen: _Seen, info: VideoInfo, options: AnalyzeOptions) -> list[Track]:
    times = [float((pts - seen.pts[0]) * info.time_base) for pts in seen.pts]
    size = (info.width, info.height)
    tracker = NorfairTracker(_rate(times), high=options.high)
    tracklets = _associate(tracker, seen, times)
    wishes = LinkOptions(high=options.high, low=options.low, max_gap=options.max_gap, hold=options.hold)
    tracks = link(tracklets, times, size, cuts=seen.cuts, options=wishes)
    return [smooth(track, times, size) for track in tracks]


def _associate(tracker: Tracker, seen: _Seen, times: Sequence[float]) -> list[list[Sighting]]:
    tracklets: dict[int, list[Sighting]] = {}
    cuts = set(seen.cuts)
    for frame, sightings in enumerate(seen.sightings):
        if frame in cuts:
            tracker.cut()
        ids = tracker.update([s.detection for s in sightings], frame, times[frame])
        for number, sighting in zip(ids, sightings, strict=True):
            tracklets.setdefault(number, []).append(sighting)
    return list(tracklets.values())


def _rate(times: Sequence[float]) -> float:
    """Frames a second, from the median step; 25 for a single picture."""
    steps = np.diff(np.asarray(times, np.float64))
    return 1 / max(float(np.median(steps)), 1e-3) if len(steps) else 25.0


def _notes(seen: _Seen) -> dict[str, str]:
    faces = sum(len(s) for s in seen.sightings)
    return {"detections": str(faces), "cuts": " ".join(str(c) for c in seen.cuts)}


@dataclass(frozen=True, slots=True)
class _Turn:
    """Phones store pictures lying on their side; networks want faces upright, the plan wants the stored frame."""

    quarters: int  # counter-clockwise, from stored to upright
    width: int  # of the stored frame
    height: int

    def upright(self, picture: Image) -> Image:
        return picture if self.quarters == 0 else np.ascontiguousarray(np.rot90(picture, self.quarters))

    def stored(self, sighting: Sighting) -> Sighting:
        if self.quarters == 0:
            return sighting
        face = sighting.detection
        corners = self._back(np.array(face.box, np.float32).reshape(2, 2), edge=0)
        box: Box = (*(float(v) for v in corners.min(0)), *(float(v) for v in corners.max(0)))  # type: ignore[assignment]
        turned = FaceDetection(box, face.score, self._back(face.points, edge=1), face.embedding)
        shape = sighting.landmarks
        return Sighting(sighting.frame, turned, None if shape is None else self._back(shape, edge=1))

    def _back(self, points: Float, *, edge: int) -> Float:
        """(…, 2) upright to stored. `edge` is 1 for pixel centres at whole numbers, 0 for borders of boxes."""
        x, y = points[..., 0], points[..., 1]
        right, bottom = self.width - edge, self.height - edge
        turned = {0: (x, y), 1: (right - y, x), 2: (right - x, bottom - y), 3: (y, bottom - x)}[self.quarters]
        back: Float = np.stack(turned, axis=-1).astype(np.float32)
        return back
