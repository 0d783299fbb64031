"""The seam between detection and tracking. Owns what flows from tracker to linker; knows no file or network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np

from revisage.pipeline.types import FaceDetection, Float


@dataclass(frozen=True, slots=True, eq=False)
class Sighting:
    """One detection in one frame, with its dense landmarks where they were found and can be trusted."""

    frame: int  # 0-based
    detection: FaceDetection
    landmarks: Float | None = None  # (LANDMARK_COUNT, 2), pixels of the stored frame
    looked: bool = True  # False: nobody looked, because the picture was that of the frame before
    tone: Float | None = None  # (9, 3), see models/tone.py


# How the camera looks at a frame, (3,): x, y, zoom. What stood still at p in the first frame is at zoom * p + (x, y).
AT_REST: Float = np.array([0, 0, 1], np.float32)


def steadied(sighting: Sighting, view: Float) -> Sighting:
    """Where the face would be had the camera not moved; its landmarks stay where they are."""
    return _mapped(sighting, 1 / float(view[2]), -view[:2] / view[2])


def filmed(sighting: Sighting, view: Float) -> Sighting:
    """The way back from `steadied`."""
    return _mapped(sighting, float(view[2]), view[:2])


def _mapped(sighting: Sighting, scale: float, shift: Float) -> Sighting:
    found, (x, y) = sighting.detection, shift.tolist()
    x0, y0, x1, y1 = found.box
    box = (scale * x0 + x, scale * y0 + y, scale * x1 + x, scale * y1 + y)
    points = (scale * found.points + shift).astype(np.float32)
    moved = FaceDetection(box, found.score, points, found.embedding)
    return replace(sighting, detection=moved)


Tracklet = Sequence[Sighting]  # one person, uninterrupted as far as the tracker could see; frames rising, one each


@runtime_checkable
class Tracker(Protocol):
    """Says, frame by frame, which detections belong together. Never drops one."""

    def update(self, detections: Sequence[FaceDetection], frame: int, seconds: float) -> list[int]:
        """For each detection of this frame, the number of its tracklet; no number twice in one frame.

        Frames come in rising order; `seconds` is the frame's presentation time.
        """

    def cut(self) -> None:
        """A new shot begins with the next frame: nobody continues."""
