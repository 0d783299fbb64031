"""How the camera moved, so that a guessed face moves with the picture. Wraps norfair's motion estimator; knows no file.

Only translation is estimated: it is what makes a tracker lose small faces (a pan of a face's width a frame) and what
bends the path of a face nobody saw for a second. A zoom is slow in comparison, and the sizes of boxes follow it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from norfair.camera_motion import MotionEstimator, TranslationTransformation, TranslationTransformationGetter

from revisage.pipeline.types import Box, Float, Image

_SIDE = 320  # longest side of the picture that motion is measured on
_ROOM = 0.3  # so much more than a face's box is left out: hair and neck move with it
_FEW = 12  # corners; with fewer nothing is known
_ALIKE = 0.75  # pixels of the small picture by which corners may differ in a pan
_MOST = 0.5  # of the picture's longest side: a larger jump in one frame is a change of shot


class _Pan(TranslationTransformationGetter):  # type: ignore[misc]
    """norfair's, but where most corners do not move alike (a zoom, a crowd) the camera counts as at rest."""

    def __call__(self, curr_pts: Float, prev_pts: Float) -> tuple[bool, Any]:
        flow = curr_pts - prev_pts
        alike = np.abs(flow - np.median(flow, axis=0)).max(axis=1) < _ALIKE
        if alike.mean() < 0.5:
            return True, TranslationTransformation(np.zeros(2) if self.data is None else self.data)
        update, transformation = super().__call__(curr_pts, prev_pts)
        return update, transformation


class CameraMotion:
    """Streams pictures in, answers where everything that stands still has gone since the first one."""

    def __init__(self) -> None:
        self._where = np.zeros(2, np.float32)
        self._base = np.zeros(2, np.float32)  # where the estimator began
        self._estimator = _fresh()

    def push(self, picture: Image, faces: Sequence[Box]) -> Float:
        """(2,) pixels by which what stands still has moved, x and y, since the first picture; `faces` are ignored."""
        scale = _SIDE / max(picture.shape[:2])
        small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        moved = self._measured(small, _mask(small, faces, scale))
        if moved is None:
            self._base, self._estimator = self._where, _fresh()
            self._measured(small, _mask(small, faces, scale))
            return self._where
        there = (self._base + moved / scale).astype(np.float32)
        if float(np.abs(there - self._where).max()) > _MOST * max(picture.shape[:2]):
            there = self._where
        self._where = there
        return there

    def rest(self) -> Float:
        """For a picture that is not worth the work or did not change: where the last one was."""
        return self._where

    def _measured(self, small: Image, mask: Image) -> Float | None:
        """Motion in pixels of `small` since the estimator began; None where there is nothing to measure it on."""
        corners = cv2.goodFeaturesToTrack(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), _FEW, 0.01, 8, mask=mask)
        if corners is None or len(corners) < _FEW:
            return None
        transformation = self._estimator.update(small, mask)
        vector = getattr(transformation, "movement_vector", None)
        return None if vector is None else np.asarray(vector, np.float32)


def _fresh() -> MotionEstimator:
    return MotionEstimator(max_points=120, min_distance=8, transformations_getter=_Pan())


def _mask(small: Image, faces: Sequence[Box], scale: float) -> Image:
    """(h, w) uint8, 1 where motion may be measured."""
    mask = np.ones(small.shape[:2], np.uint8)
    for x0, y0, x1, y1 in faces:
        dx, dy = _ROOM * (x1 - x0), _ROOM * (y1 - y0)
        left, top = max(0, int((x0 - dx) * scale)), max(0, int((y0 - dy) * scale))
        mask[top : int((y1 + 3 * dy) * scale) + 1, left : int((x1 + dx) * scale) + 1] = 0
    return mask
