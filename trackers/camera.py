"""How the camera moved, so that a guessed face moves with the picture. Knows no file.

Pan and zoom are estimated: a pan makes a tracker lose small faces (their width in one frame), and both bend the path of
a face that nobody saw for a second. A zoom also makes it larger and drives it out of the picture. Corners of one
picture are followed through those after it (Lucas and Kanade; Bouguet, *Pyramidal Implementation*, 2001) for as long as
most of them go along.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from revisage.pipeline.geometry import shrunk
from revisage.pipeline.types import Box, Float, Gray, Image
from revisage.trackers.base import AT_REST

_SIDE = 320  # longest side of the picture that motion is measured on
_ROOM = 0.3  # so much more than a face's box is left out: hair and neck move with it
_FEW, _MANY = 12, 60  # corners; with fewer nothing is known, more are not looked for
_APART, _WINDOW = 8, (13, 13)  # pixels of the small picture: between two corners, and what is compared around one
_ALIKE = 0.75  # pixels of the small picture by which corners may differ in a movement
_HALF, _MOSTLY = 0.5, 0.8  # share of corners that makes a movement; below the second they are looked for anew
_CLEARER = 0.1  # so much larger a share must a zoom explain than a pan does
_WANDERED = 12.0  # pixels of the small picture after which corners are looked for anew
_FASTEST = 1.5  # largest zoom since the corners were last looked for
_MOST = 0.5  # of the picture's longest side: a larger jump in one frame is a change of shot
_LONGEST = 16.0  # zoom beyond which a shot counts from anew, lest errors add up without end


class CameraMotion:
    """Streams pictures in, answers how the camera looks at everything that stands still since the first one."""

    def __init__(self) -> None:
        self._view = AT_REST
        self._base = AT_REST  # when the corners of a picture were first taken, since there were none to follow
        self._reference: _Reference | None = None

    def push(self, picture: Image | Gray, faces: Sequence[Box]) -> Float:
        """(3,) how the camera looks, see `AT_REST`, since the first picture; `faces` are ignored.

        `picture` is uint8, RGB (H, W, 3) or the grey (H, W) that it is measured on.
        """
        scale = min(1.0, _SIDE / max(picture.shape[:2]))
        # grey first: one channel is shrunk three times as fast as three
        grey = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        small = shrunk(grey, (round(picture.shape[1] * scale), round(picture.shape[0] * scale)))
        moved = self._followed(small, faces, scale)
        if moved is None:
            return self._view
        view = _after(self._base, moved / np.array([scale, scale, 1], np.float32))
        if not _jumps(self._view, view, picture):
            self._view = view
        if not 1 / _LONGEST < float(self._view[2]) < _LONGEST:
            self._view = self._base = AT_REST
            self._reference = None
        return self._view

    def rest(self) -> Float:
        """For a picture that is not worth the work or did not change: as the last one was."""
        return self._view

    def _followed(self, small: Gray, faces: Sequence[Box], scale: float) -> Float | None:
        """The view in pixels of `small` since `_base`; None where there is nothing to measure it on, and it begins."""
        if self._reference is not None:
            self._reference, view, anew = self._reference.followed(small)
            if not anew:
                return view
            self._reference = _reference(small, _mask(small, faces, scale), view)
            if self._reference is not None:
                return view
            self._base = self._view
            return None
        self._base = self._view
        self._reference = _reference(small, _mask(small, faces, scale), AT_REST)
        return None


class _Reference(NamedTuple):
    """The picture whose corners are followed."""

    picture: Gray  # (h, w)
    corners: Float  # (N, 1, 2), those that were never lost
    view: Float  # (3,) how the camera looked then

    def followed(self, small: Gray) -> tuple[_Reference, Float, bool]:
        """What is left of the corners, how the camera looks at `small`, and whether they are to be taken from it anew.

        A pan where most corners move alike, a zoom where more of them move apart alike, else rest (a crowd, water).
        """
        there, found, _ = cv2.calcOpticalFlowPyrLK(self.picture, small, self.corners, None, winSize=_WINDOW)
        left = found.ravel() == 1
        then, now = self.corners[left].reshape(-1, 2), there[left].reshape(-1, 2)
        middle = _median(now - then)
        step, share = _pan(now - then, middle)
        if share < 1 - _CLEARER and len(then) >= _FEW:
            zoom, explained = _zoom(now, then)
            step, share = (zoom, explained) if explained > share + _CLEARER else (step, share)
        if share < _HALF:
            step = AT_REST
        wandered = float(np.hypot(*middle)) > _WANDERED
        anew = share < _MOSTLY or wandered or len(then) < 2 * _FEW or step[2] != 1
        return self._replace(corners=self.corners[left]), _after(self.view, step), anew


def _reference(small: Gray, mask: Image, view: Float) -> _Reference | None:
    """None where there are too few corners to follow."""
    corners = cv2.goodFeaturesToTrack(small, _MANY, 0.01, _APART, mask=mask)
    return None if corners is None or len(corners) < _FEW else _Reference(small, corners, view)


def _median(flow: Float) -> Float:
    """(2,) of (N, 2), zero without any. A sort: `np.median` takes ten times as long for so few."""
    if not len(flow):
        return np.zeros(2, np.float32)
    rising: Float = np.sort(flow, axis=0)
    return np.asarray((rising[(len(flow) - 1) // 2] + rising[len(flow) // 2]) / 2, np.float32)


def _pan(flow: Float, middle: Float) -> tuple[Float, float]:
    """(3,) the step that most corners (N, 2) took, and the share of them that took it; `middle` is their median."""
    alike = np.abs(flow - middle).max(axis=1, initial=0.0) < _ALIKE
    count = int(np.count_nonzero(alike))
    if not count:
        return AT_REST, 0.0
    x, y = flow[alike].sum(axis=0).tolist()
    return np.array([x / count, y / count, 1], np.float32), count / len(flow)


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


def _jumps(before: Float, after: Float, picture: Image) -> bool:
    """Did what is in the middle of the picture move farther than a camera does in one frame?"""
    middle = np.array(picture.shape[1::-1]) / 2
    there = after[2] * (middle - before[:2]) / before[2] + after[:2]
    return float(np.abs(there - middle).max()) > _MOST * max(picture.shape[:2])


def _mask(small: Image, faces: Sequence[Box], scale: float) -> Image:
    """(h, w) uint8, 1 where motion may be measured."""
    mask = np.ones(small.shape[:2], np.uint8)
    for x0, y0, x1, y1 in faces:
        dx, dy = _ROOM * (x1 - x0), _ROOM * (y1 - y0)
        left, top = max(0, int((x0 - dx) * scale)), max(0, int((y0 - dy) * scale))
        mask[top : int((y1 + 3 * dy) * scale) + 1, left : int((x1 + dx) * scale) + 1] = 0
    return mask
