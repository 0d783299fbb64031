"""Pass 1: who is where, when. Reads a video once, front to back, and returns the plan; writes nothing, changes nothing.

    decode ─► turn upright ─► look ─► landmarks ─┐
                    ├──► camera's motion ────────┤
                    └──► cuts ───────────────────┴─► track ─► link ─► group ─► smooth ─► plan

Only detections are kept while the video streams past, so memory grows with the number of faces, not of pixels. Tracking
runs afterwards, when the frame rate and the cuts are known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from revisage.models import layout, tone
from revisage.models.base import Detector, Landmarker
from revisage.models.conditioning import FACE_TEMPLATE
from revisage.pipeline import geometry, limits
from revisage.pipeline.ahead import ahead, single_threaded_opencv
from revisage.pipeline.attention import Attention, Effort, Glance
from revisage.pipeline.errors import PlanError
from revisage.pipeline.media import Frame, VideoReader, file_digest, open_video
from revisage.pipeline.sound import usable_points
from revisage.pipeline.turn import Turn
from revisage.pipeline.types import FaceDetection, Float, Gray, Image, Plan, Progress, Track, VideoInfo, silent
from revisage.trackers.base import Sighting, Tracker, steadied
from revisage.trackers.camera import CameraMotion
from revisage.trackers.cuts import Change, CutFinder
from revisage.trackers.link import LinkOptions, link
from revisage.trackers.norfair import NorfairTracker
from revisage.trackers.smooth import smooth

_FARTHEST = 0.25  # of the box's mean side: how far landmarks may lie from the detector's five points, on average
_WAITING = 2  # frames between two threads; bounds memory
_CAMERA_FOR = 1.5  # seconds after the last face for which the camera is still watched


@dataclass(frozen=True, slots=True)
class AnalyzeOptions:
    """Scores are 0..1, times are seconds."""

    low: float = 0.2  # detections below are not looked at
    high: float = 0.4  # a detection from here on is a face, whatever its neighbours say
    hold: float = 0.5  # a face is covered so long before its first and after its last detection
    max_gap: float = 1.0  # longest interruption within one track
    confidence: float = 0.3  # landmarks below are taken from neighbouring frames instead
    again: bool = True  # look again where the first look may have missed: turned, enlarged, brightened, closer
    skip: bool = True  # do not look at a frame that shows what the one before showed

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
    camera: list[Float] = field(default_factory=list)  # per frame (3,), see trackers/base.py
    cuts: list[Change] = field(default_factory=list)
    looks: str = ""  # how often was looked, and how


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
    attention = Attention(detector, Effort(chosen.low, chosen.high, chosen.again, chosen.skip))

    def look(shown: _Shown) -> Glance:
        return attention.look(shown.picture, shown.seconds, shown.grey)

    with open_video(source) as video, single_threaded_opencv():
        seen = _watch(video, look, landmarker, chosen, progress)
        info = _info(video, len(seen.pts))
    seen.looks = ", ".join(f"{name} {count}" for name, count in sorted(attention.spent.items()))
    return Plan(info, tuple(_tracks(seen, info, chosen)), detector.name, tuple(seen.pts), _notes(seen))


def analyze_given(
    source: Path,
    found: Sequence[Sequence[FaceDetection]] | dict[int, list[FaceDetection]],
    name: str,
    *,
    landmarker: Landmarker | None = None,
    options: AnalyzeOptions | None = None,
    progress: Progress = silent,
) -> Plan:
    """The same from the detections of somebody else, per frame, in pixels of the upright picture; `name` says whose.

    Raises `PlanError` where they do not fit the video.
    """
    chosen = options or AnalyzeOptions()
    frames = found if isinstance(found, dict) else dict(enumerate(found))

    def look(shown: _Shown) -> Glance:
        return Glance([face for face in frames.get(shown.frame, []) if face.score >= chosen.low], looked=True)

    with open_video(source) as video, single_threaded_opencv():
        _check_places(frames, video)
        seen = _watch(video, look, landmarker, chosen, progress)
        info = _info(video, len(seen.pts))
    if frames and max(frames) >= info.frames:
        raise PlanError(f"the detections reach frame {max(frames)}, the video ends at {info.frames - 1}")
    return Plan(info, tuple(_tracks(seen, info, chosen)), name, tuple(seen.pts), _notes(seen))


def _check_places(frames: Mapping[int, Sequence[FaceDetection]], video: VideoReader) -> None:
    for frame, faces in frames.items():
        for face in faces:
            if not limits.near([*face.box, *face.points.reshape(-1).tolist()], video.width, video.height):
                raise PlanError(f"a detection lies far outside the picture in frame {frame}: mend or remove it")


def _info(video: VideoReader, frames: int) -> VideoInfo:
    return VideoInfo(
        video.width, video.height, video.time_base, video.pix_fmt.name, frames, file_digest(Path(video.path))
    )


def _watch(
    video: VideoReader, look: Looking, landmarker: Landmarker | None, options: AnalyzeOptions, progress: Progress
) -> _Seen:
    """Decoding, looking and following the camera have a thread each: one frame is decoded while another is seen."""
    seen, cuts, camera = _Seen(), CutFinder(), _Camera()
    turn = Turn.of(video.orientation, video.width, video.height)
    frames = progress(video.frames(), label="analyze", total=video.frame_estimate)
    shown = ahead(_shown(frames, video.time_base, turn, cuts), _WAITING)
    for view in ahead(_looked(shown, look, landmarker, turn, options.confidence), _WAITING):
        seen.pts.append(view.shown.pts)
        seen.sightings.append(view.sightings)
        seen.camera.append(turn.stored_view(camera.push(view)))
    seen.cuts = cuts.finish()
    return seen


class _Shown(NamedTuple):
    """One frame as people see it."""

    frame: int
    pts: int
    seconds: float  # since the first frame
    picture: Image  # upright
    grey: Gray  # the same, made once for all who measure on it


Looking = Callable[[_Shown], Glance]


class _View(NamedTuple):
    """One frame and who is in it."""

    shown: _Shown
    glance: Glance
    sightings: list[Sighting]  # in the stored frame


def _shown(frames: Iterable[Frame], time_base: Fraction, turn: Turn, cuts: CutFinder) -> Iterator[_Shown]:
    start: int | None = None
    for frame in frames:
        start = frame.pts if start is None else start
        picture = turn.upright(frame.rgb())
        grey: Gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        shown = _Shown(frame.index, frame.pts, float((frame.pts - start) * time_base), picture, grey)
        cuts.push(shown.picture, shown.seconds)
        yield shown


def _looked(
    frames: Iterable[_Shown], look: Looking, landmarker: Landmarker | None, turn: Turn, confidence: float
) -> Iterator[_View]:
    last: list[Sighting] = []
    for shown in frames:
        glance = look(shown)
        if glance.looked:
            faces = _with_numbers(glance.faces)
            shapes = _landmarks(shown.picture, faces, landmarker, confidence)
            tones = [_tone(shown.picture, shape) for shape in shapes]
            rows = zip(faces, shapes, tones, strict=True)
            last = [turn.stored(Sighting(shown.frame, face, shape, tone=light)) for face, shape, light in rows]
        else:
            last = [replace(sighting, frame=shown.frame, looked=False) for sighting in last]
        yield _View(shown, glance, last)


def _with_numbers(faces: Sequence[FaceDetection]) -> list[FaceDetection]:
    """`faces` as they are, but for points that are none, which become those of a standing face in the box.

    What has no box has no place, so there is nothing to be covered.
    """
    placed = (face for face in faces if np.isfinite(face.box).all() and np.isfinite(face.score))
    return [
        face if np.isfinite(face.points).all() else replace(face, points=usable_points(face.points, face.box))
        for face in placed
    ]


class _Camera:
    """Its motion is measured while there is somebody to be tracked."""

    def __init__(self) -> None:
        self._motion = CameraMotion()
        self._face_seen = -np.inf  # seconds

    def push(self, view: _View) -> Float:
        """(3,) how it looks, in pixels of the upright picture; see trackers/base.py."""
        if not view.glance.looked:
            return self._motion.rest()
        if view.glance.faces:
            self._face_seen = view.shown.seconds
        if view.shown.seconds - self._face_seen > _CAMERA_FOR:
            return self._motion.rest()
        return self._motion.push(view.shown.grey, [face.box for face in view.glance.faces])


def _landmarks(
    picture: Image, faces: Sequence[FaceDetection], landmarker: Landmarker | None, least: float
) -> list[Float | None]:
    """Per face the dense landmarks, or None where there are none to be trusted."""
    if landmarker is None or not faces:
        return [None] * len(faces)
    try:
        found = landmarker.locate(picture, [face.points for face in faces])
    except (ArithmeticError, RuntimeError, ValueError, MemoryError, cv2.error):
        return [None] * len(faces)  # a face without landmarks is covered by the shape of its box
    return [
        shape if confidence >= least and _plausible(shape, face) else None
        for face, (shape, confidence) in zip(faces, found, strict=True)
    ]


def _tone(picture: Image, landmarks: Float | None) -> Float | None:
    try:
        return None if landmarks is None else tone_of(picture, landmarks)
    except (ValueError, ArithmeticError, cv2.error, np.linalg.LinAlgError):  # it is a help, and nothing hangs on it
        return None


def tone_of(picture: Image, landmarks: Float) -> Float | None:
    """The light, tone and sharpness (9, 3) of the face at `landmarks` (135, 2); None where no skin shows.

    See models/tone.py.
    """
    matrix = geometry.align(layout.five_points(landmarks), FACE_TEMPLATE, tone.SHARP_SIDE)
    (x0, y0), (x1, y1) = landmarks.min(0), landmarks.max(0)
    margin, (height, width) = 0.2 * max(x1 - x0, y1 - y0), picture.shape[:2]
    left, top = max(0, int(x0 - margin)), max(0, int(y0 - margin))
    part = picture[top : min(height, int(y1 + margin) + 1), left : min(width, int(x1 + margin) + 1)]
    if min(part.shape[:2]) < 2:
        return None
    points = geometry.transform(landmarks, matrix)
    matrix[:, 2] += matrix[:, :2] @ np.array([left, top], np.float32)
    shown = geometry.transform(np.array([[0, 0], [part.shape[1] - 1, part.shape[0] - 1]], np.float32), matrix)
    crop, share = geometry.crop(np.ascontiguousarray(part), matrix, tone.SHARP_SIDE), tone.SIDE / tone.SHARP_SIDE
    small = cv2.resize(crop, (tone.SIDE, tone.SIDE), interpolation=cv2.INTER_AREA)
    light = tone.read(small, (points + 0.5) * share - 0.5, shown * share)
    if light is None or not np.isfinite(light).all():
        return None
    contrast = np.log(np.maximum(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), np.float32(6)))
    return np.concatenate([light, tone.sharpness(contrast, points)[None]])


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
    camera = np.stack(seen.camera) if seen.camera else np.zeros((0, 3), np.float32)
    tracklets = associate(NorfairTracker(_rate(times), high=options.high), seen.sightings, times, seen.cuts, camera)
    wishes = LinkOptions(high=options.high, low=options.low, max_gap=options.max_gap, hold=options.hold)
    tracks = link(tracklets, times, size, cuts=seen.cuts, camera=camera, options=wishes)
    return [smooth(track, times, size, camera) for track in tracks]


def associate(
    tracker: Tracker,
    sightings: Sequence[Sequence[Sighting]],
    times: Sequence[float],
    cuts: Sequence[Change],
    camera: Float,
) -> list[list[Sighting]]:
    """Tracklets, by a `tracker` that sees every face where it would be if the `camera` (F, 3) had not moved.

    It is told of hard cuts. In a dissolve both shots show, and the linker parts what went over.
    """
    tracklets: dict[int, list[Sighting]] = {}
    hard = {cut.first for cut in cuts if cut.first == cut.last}
    for frame, seen in enumerate(sightings):
        if frame in hard:
            tracker.cut()
        steady = [steadied(sighting, camera[frame]).detection for sighting in seen]
        for number, sighting in zip(tracker.update(steady, frame, times[frame]), seen, strict=True):
            tracklets.setdefault(number, []).append(sighting)
    return list(tracklets.values())


def _rate(times: Sequence[float]) -> float:
    """Frames a second, from the median step; 25 for a single picture."""
    steps = np.diff(np.asarray(times, np.float64))
    return 1 / max(float(np.median(steps)), 1e-3) if len(steps) else 25.0


def _notes(seen: _Seen) -> dict[str, str]:
    faces = sum(len(s) for s in seen.sightings)
    changes = " ".join(str(c.first) if c.first == c.last else f"{c.first}-{c.last}" for c in seen.cuts)
    notes = {"detections": str(faces), "cuts": changes}
    return notes | ({"looks": seen.looks} if seen.looks else {})
