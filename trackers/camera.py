"""How the camera moved, so that a guessed face moves with the picture. Wraps norfair's motion estimator; knows no file.

Pan and zoom are estimated: a pan makes a tracker lose small faces (their width in one frame), and both bend the path of
a face that nobody saw for a second. A zoom also makes it larger and drives it out of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from norfair.camera_motion import CoordinatesTransformation, MotionEstimator, TransformationGetter

from revisage.pipeline.geometry import shrunk
from revisage.pipeline.types import Box, Float, Image
from revisage.trackers.base import AT_REST

_SIDE = 320  # longest side of the picture that motion is measured on
_ROOM = 0.3  # so much more than a face's box is left out: hair and neck move with it
_FEW = 12  # corners; with fewer nothing is known
_ALIKE = 0.75  # pixels of the small picture by which corners may differ in a movement
_HALF, _MOSTLY = 0.5, 0.8  # share of corners that makes a movement; below the second they are looked for anew
_CLEARER = 0.1  # so much larger a share must a zoom explain than a pan does
_WANDERED = 12.0  # pixels of the small picture after which corners are looked for anew
_FASTEST = 1.5  # largest zoom since the corners were last looked for
_MOST = 0.5  # of the picture's longest side: a larger jump in one frame is a change of shot
_LONGEST = 16.0  # zoom beyond which a shot counts from anew, lest errors add up without end


class _Seen(CoordinatesTransformation):  # type: ignore[misc]
    """norfair's wrapping of a view; see `AT_REST`."""

    def __init__(self, view: Float) -> None:
        self.view = view

    def abs_to_rel(self, points: Float) -> Float:
        return np.asarray(self.view[2] * points + self.view[:2], np.float32)

    def rel_to_abs(self, points: Float) -> Float:
        return np.asarray((points - self.view[:2]) / self.view[2], np.float32)


class _PanOrZoom(TransformationGetter):  # type: ignore[misc]
    """A pan where most corners move alike, a zoom where more of them move apart alike, else rest (a crowd, water)."""

    def __init__(self) -> None:
        self._reference = AT_REST  # how the camera looked when the corners were looked for

    def __call__(self, curr_pts: Float, prev_pts: Float) -> tuple[bool, _Seen]:
        step, share = _pan(curr_pts, prev_pts)
        if share < 1 - _CLEARER and len(prev_pts) >= _FEW:
            zoom, explained = _zoom(curr_pts, prev_pts)
            step, share = (zoom, explained) if explained > share + _CLEARER else (step, share)
        if share < _HALF:
            step = AT_REST
        view = _after(self._reference, step)
        wandered = float(np.linalg.norm(np.median(curr_pts - prev_pts, axis=0))) > _WANDERED
        anew = share < _MOSTLY or wandered or len(prev_pts) < 2 * _FEW or step[2] != 1
        if anew:
            self._reference = view
        return anew, _Seen(view)


def _pan(now: Float, then: Float) -> tuple[Float, float]:
    """(3,) the step that most corners (N, 2) took, and the share of them that took it."""
    flow = now - then
    alike = np.abs(flow - np.median(flow, axis=0)).max(axis=1) < _ALIKE
    if not alike.any():
        return AT_REST, 0.0
    return np.array([*flow[alike].mean(axis=0), 1], np.float32), float(alike.mean())


def _zoom(now: Float, then: Float) -> tuple[Float, float]:
    """The same with a change of scale. A turn of the camera counts as if it were about the middle of the corners."""
    matrix, inliers = cv2.estimateAffinePartial2D(then, now, method=cv2.RANSAC, ransacReprojThreshold=_ALIKE)
    if matrix is None:
        return AT_REST, 0.0
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if not 1 / _FASTEST < scale < _FASTEST:
        return AT_REST, 0.0
    middle = then[inliers.ravel() > 0].mean(axis=0)
    shift = matrix[:, :2] @ middle + matrix[:, 2] - scale * middle
    return np.array([*shift, scale], np.float32), float(inliers.mean())


def _after(first: Float, then: Float) -> Float:
    """Two steps as one."""
    return np.array([*(then[2] * first[:2] + then[:2]), then[2] * first[2]], np.float32)


class CameraMotion:
    """Streams pictures in, answers how the camera looks at everything that stands still since the first one."""

    def __init__(self) -> None:
        self._view = AT_REST
        self._base = AT_REST  # where the estimator began
        self._estimator = _fresh()

    def push(self, picture: Image, faces: Sequence[Box]) -> Float:
        """(3,) how the camera looks, see `AT_REST`, since the first picture; `faces` are ignored."""
        scale = min(1.0, _SIDE / max(picture.shape[:2]))
        small = shrunk(picture, (round(picture.shape[1] * scale), round(picture.shape[0] * scale)))
        moved = self._measured(small, _mask(small, faces, scale))
        if moved is None:
            self._begin(self._view)
            self._measured(small, _mask(small, faces, scale))
            return self._view
        view = _after(self._base, moved / np.array([scale, scale, 1], np.float32))
        if not _jumps(self._view, view, picture):
            self._view = view
        if not 1 / _LONGEST < float(self._view[2]) < _LONGEST:
            self._begin(AT_REST)
        return self._view

    def rest(self) -> Float:
        """For a picture that is not worth the work or did not change: as the last one was."""
        return self._view

    def _begin(self, view: Float) -> None:
        self._view = self._base = view
        self._estimator = _fresh()

    def _measured(self, small: Image, mask: Image) -> Float | None:
        """The view in pixels of `small` since the estimator began; None where there is nothing to measure it on.

        The estimator follows corners of an older frame for as long as it can; only where it is to take them from this
        one is this one looked at.
        """
        begins = self._estimator.gray_prvs is None
        if begins and _is_bare(small, mask):
            return None
        view: Float | None = getattr(self._estimator.update(small, mask), "view", None)
        goes_on_from_here = self._estimator.prev_pts is None
        return None if goes_on_from_here and not begins and _is_bare(small, mask) else view


def _is_bare(small: Image, mask: Image) -> bool:
    """Are there too few corners to follow?"""
    corners = cv2.goodFeaturesToTrack(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), _FEW, 0.01, 8, mask=mask)
    return corners is None or len(corners) < _FEW


def _jumps(before: Float, after: Float, picture: Image) -> bool:
    """Did what is in the middle of the picture move farther than a camera does in one frame?"""
    middle = np.array(picture.shape[1::-1]) / 2
    there = after[2] * (middle - before[:2]) / before[2] + after[:2]
    return float(np.abs(there - middle).max()) > _MOST * max(picture.shape[:2])


def _fresh() -> MotionEstimator:
    return MotionEstimator(max_points=60, min_distance=8, transformations_getter=_PanOrZoom())


def _mask(small: Image, faces: Sequence[Box], scale: float) -> Image:
    """(h, w) uint8, 1 where motion may be measured."""
    mask = np.ones(small.shape[:2], np.uint8)
    for x0, y0, x1, y1 in faces:
        dx, dy = _ROOM * (x1 - x0), _ROOM * (y1 - y0)
        left, top = max(0, int((x0 - dx) * scale)), max(0, int((y0 - dy) * scale))
        mask[top : int((y1 + 3 * dy) * scale) + 1, left : int((x1 + dx) * scale) + 1] = 0
    return mask
