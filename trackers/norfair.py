"""Frame-by-frame association with norfair. Owns the distance and the bookkeeping in seconds; knows no cut and no pixel.

norfair counts frames, hides new objects for a while and would start a track late; here it hides nothing
(`initialization_delay=0`), its counters are scaled by the frame rate, and a pause in the time stamps ages its objects.
Association is in two stages, as in ByteTrack (Zhang et al., ECCV 2022), within one greedy matching: the distance of a
detection with a low score is 1 too large, so that it gets only what no surer detection wanted. What norfair leaves
alone starts a tracklet, whatever its score; `link` decides with the whole film in view what was a face.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import norfair
import numpy as np
from norfair.distances import Distance
from norfair.filter import OptimizedKalmanFilterFactory

from revisage.pipeline.types import FaceDetection, Float

HIGH = 0.4  # score from which a detection associates first
_MEMORY = 0.25  # seconds that an unseen face is waited for; longer gaps are closed by `link`, which knows both ends
_FAR = 10.0  # a distance that never matches


class NorfairTracker:
    """A `Tracker` for one video. `rate`: nominal frames a second; `high`: score of a sure detection."""

    def __init__(self, rate: float, *, high: float = HIGH, memory: float = _MEMORY) -> None:
        self._step = 1 / rate
        self._memory = max(2, round(memory * rate))
        self._high = high
        self._offset = 0  # of ids, after cuts
        self._highest = 0
        self._time: float | None = None
        self._tracker = self._fresh()

    def update(self, detections: Sequence[FaceDetection], frame: int, seconds: float) -> list[int]:
        """See `Tracker`."""
        self._age(seconds)
        wrapped = [_wrap(detection, detection.score >= self._high) for detection in detections]
        self._tracker.update(wrapped)
        owner = {id(o.last_detection): o for o in self._tracker.tracked_objects}
        for item in wrapped:
            owner[id(item)].hit_counter = self._memory  # a face seen once is waited for as long as one seen often
        ids = [self._offset + int(owner[id(item)].id) for item in wrapped]
        self._highest = max([self._highest, *ids])
        return ids

    def cut(self) -> None:
        """See `Tracker`."""
        self._offset = self._highest
        self._tracker = self._fresh()

    def _fresh(self) -> Any:
        tracker = norfair.Tracker(
            distance_function="euclidean",
            distance_threshold=2.0,
            hit_counter_max=self._memory,
            initialization_delay=0,
            past_detections_length=0,
            filter_factory=OptimizedKalmanFilterFactory(R=1.0, Q=0.5, vel_variance=4.0),
        )
        tracker.distance_function = _FaceDistance()  # the constructor would wrap it and log a warning
        return tracker

    def _age(self, seconds: float) -> None:
        """Let the frames that a pause in the time stamps stands for pass; two frames never stand for less than one."""
        if self._time is not None:
            missed = round((seconds - self._time) / self._step) - 1
            for _ in range(min(max(missed, 0), self._memory + 1)):
                self._tracker.update([])
        self._time = seconds


class _FaceDistance(Distance):  # type: ignore[misc]
    """Distance of centres in face sizes plus difference of sizes, 0..1 for a match; 1 more for an unsure detection."""

    def get_distances(self, objects: Sequence[Any], candidates: Sequence[Any] | None) -> Float:
        if not objects or not candidates:
            return np.full((len(candidates or ()), len(objects)), np.inf, np.float32)
        there = np.stack([o.estimate for o in objects])[None]  # (1, O, 2, 2): corners as predicted
        here = np.stack([c.points for c in candidates])[:, None]
        distance = box_distance(here, there)
        unsure = np.array([not c.data for c in candidates])[:, None]
        return np.where(distance < 1, distance + unsure, _FAR).astype(np.float32)


def box_distance(a: Float, b: Float) -> Float:
    """Of boxes (…, 2, 2), two corners each: distance of centres over mean size, plus half the log2 ratio of sizes."""
    size_a, size_b = _size(a), _size(b)
    between = (a[..., 0, :] + a[..., 1, :] - b[..., 0, :] - b[..., 1, :]) / 2
    apart = np.hypot(between[..., 0], between[..., 1]) / ((size_a + size_b) / 2)
    return np.asarray(apart + 0.5 * np.abs(np.log2(size_a / size_b)), np.float32)


def _size(box: Float) -> Float:
    """Side of the square of the same area; 1 at least."""
    sides = box[..., 1, :] - box[..., 0, :]
    return np.asarray(np.sqrt(np.maximum(sides[..., 0] * sides[..., 1], 1.0)))


def _wrap(detection: FaceDetection, sure: bool) -> Any:
    corners = np.array(detection.box, np.float64).reshape(2, 2)
    return norfair.Detection(points=corners, data=sure)
