"""The values that flow between stages. Owns their shapes, dtypes, colour orders and units; knows no file, key or model.

Pictures are uint8 RGB, (height, width, 3), unless a name says otherwise. Points are float32 (x right, y down) in pixels
of the picture they belong to, pixel centres at whole numbers. Boxes are (x0, y0, x1, y1), x1 and y1 exclusive.
Times are presentation timestamps (`pts`, whole numbers) in a stream's `time_base` (seconds, exact fraction).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]  # (H, W, 3) RGB
Gray = NDArray[np.uint8]  # (H, W)
Float = NDArray[np.float32]
Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels, x1 and y1 exclusive

# Five points, in this order everywhere: the eye at the viewer's left, the eye at the viewer's right, nose tip,
# mouth corner at the viewer's left, mouth corner at the viewer's right (insightface's and CenterFace's order).
FIVE_POINTS = ("eye_left", "eye_right", "nose", "mouth_left", "mouth_right")


@dataclass(frozen=True, slots=True, eq=False)
class FaceDetection:
    """One face in one frame, as a detector reports it."""

    box: Box
    score: float  # 0..1
    points: Float  # (5, 2), see FIVE_POINTS
    embedding: Float | None = None  # (D,), unit length, where the detector brings a recognizer


class Origin(StrEnum):
    """How a face of a track came into its frame."""

    DETECTED = "detected"
    INTERPOLATED = "interpolated"  # between two detections
    HELD = "held"  # before the first or after the last detection


@dataclass(frozen=True, slots=True, eq=False)
class TrackedFace:
    """One face of a track in one frame, in pixels of the stored (unrotated) frame."""

    frame: int  # 0-based, in presentation order as decoded
    box: Box
    points: Float  # (5, 2)
    origin: Origin
    score: float  # detector's, 0 where not detected
    landmarks: Float | None = None  # (LANDMARK_COUNT, 2), see models/landmarks.py; None: none were computed
    tone: Float | None = None  # (9, 3), light and skin tone, see models/tone.py; None: none was read
    hide: str = ""  # the method that hides this one face, whatever hides the others; "": the job's


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """One person for as long as nothing interrupts the view: at most one face a frame, frames rising without gaps."""

    id: int  # from 1, by first appearance
    faces: tuple[TrackedFace, ...]
    keep: bool = False  # leave this one as filmed (the user's wish, never a default)
    person: int | None = None  # from 1; tracks with the same number show one person; None: nobody can tell
    draw: int = 0  # which of the faces that its key gives it; the same for all tracks of a person
    like: tuple[str, ...] = ()  # what the new face must be, see pipeline/actors.py


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What both passes and the index must agree on about a video stream."""

    width: int
    height: int
    time_base: Fraction
    pix_fmt: str  # the decoder's
    frames: int  # counted, not read from a header; 0 before it was counted
    sha256: str  # of the whole input file, hex


@dataclass(frozen=True, slots=True)
class Shape:
    """How much of every face is replaced; see `pipeline/shape.py`."""

    region: str = "face"  # or "head": hair and ears too
    keep_parts: tuple[str, ...] = ()  # "eyes", "mouth" …: stay as filmed, and help to identify


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Pass 1's result: who is where, when. All that pass 2 needs besides the pixels."""

    video: VideoInfo
    tracks: tuple[Track, ...]
    detector: str
    pts: tuple[int, ...] = ()  # one per frame
    notes: Mapping[str, str] = field(default_factory=dict)
    shape: Shape = Shape()

    def with_same_people(self, ids: Iterable[int]) -> set[int]:
        """Tracks `ids`, and all others that show one of their persons."""
        wanted = set(ids)
        persons = {track.person for track in self.tracks if track.id in wanted and track.person is not None}
        return wanted | {track.id for track in self.tracks if track.person in persons}

    def by_frame(self) -> dict[int, list[tuple[Track, TrackedFace]]]:
        """Frame number -> the faces in it, tracks in rising id."""
        frames: dict[int, list[tuple[Track, TrackedFace]]] = {}
        for track in sorted(self.tracks, key=lambda t: t.id):
            for face in track.faces:
                frames.setdefault(face.frame, []).append((track, face))
        return frames


@dataclass(frozen=True, slots=True, eq=False)
class CropTemplate:
    """Where the five points of an upright frontal face come to lie in a square crop; 1.0 is the crop's side."""

    name: str
    points: Sequence[tuple[float, float]]  # five, see FIVE_POINTS


T = TypeVar("T")


class Progress(Protocol):
    """Wraps an iterable and shows how far it has come; the command line brings a bar, the library none."""

    def __call__(self, items: Iterable[T], *, label: str, total: int | None = None) -> Iterable[T]:
        """The same items, in the same order."""


def silent(items: Iterable[T], *, label: str, total: int | None = None) -> Iterable[T]:
    """A `Progress` that shows nothing."""
    return items
