"""Makes the geometry of a tracked face usable, whatever a detector, a network or a plan wrote. Pure numpy.

What is usable stays as it is. What is not is replaced by the next thing that is known, from the narrow to the broad:
landmarks by the five points, those by a standing face in the box, a box by what holds the points, and where nothing is
known the box is the whole picture: there is a face in this frame, so something must be covered.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from revisage.pipeline.types import Box, Float, TrackedFace

_BEYOND = 3.0  # of the picture's sides: how far outside a box may reach; bounds memory and fixed-point coordinates
_LEAST, _MOST = 0.02, 3.0  # of a box's longer side: the spread (root mean square) of points that lie in it
_APART = 2.0  # of a box's sides: how far from its middle the middle of its points may lie
_STANDING = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.78], [0.65, 0.78]], np.float32)  # of a box


def sound(face: TrackedFace, width: int, height: int) -> TrackedFace:
    """`face` with a finite box of at least a pixel, five finite points that span a face, and landmarks or None."""
    box = _box(face, width, height)
    points = face.points if _fits(face.points, (5, 2), box) else _standing(box)
    landmarks = face.landmarks
    if landmarks is not None and not _fits(landmarks, (len(landmarks), 2), box):
        landmarks = None
    if box is face.box and points is face.points and landmarks is face.landmarks:
        return face
    return replace(face, box=box, points=points, landmarks=landmarks)


def usable_points(points: Float, box: Box) -> Float:
    """`points` (5, 2), or those of a standing face in `box` where they are none."""
    return points if _fits(points, (5, 2), box) else _standing(box)


def _box(face: TrackedFace, width: int, height: int) -> Box:
    if not np.isfinite(face.box).all():
        return _around(face, width, height)
    x0, y0, x1, y1 = (float(v) for v in face.box)
    low_x, high_x, low_y, high_y = -_BEYOND * width, (1 + _BEYOND) * width, -_BEYOND * height, (1 + _BEYOND) * height
    if low_x <= x0 <= x1 - 1 <= x1 <= high_x and low_y <= y0 <= y1 - 1 <= y1 <= high_y:
        return face.box
    left, right = (min(max(v, low_x), high_x) for v in sorted((x0, x1)))
    top, bottom = (min(max(v, low_y), high_y) for v in sorted((y0, y1)))
    return left, top, max(right, left + 1), max(bottom, top + 1)


def _around(face: TrackedFace, width: int, height: int) -> Box:
    """What holds all that is known of a face; the picture where that is nothing."""
    for known in (face.landmarks, face.points):
        if known is not None and np.isfinite(known).all() and np.abs(known).max() <= _BEYOND * max(width, height):
            (x0, y0), (x1, y1) = known.min(0).tolist(), known.max(0).tolist()
            side = max(x1 - x0, y1 - y0, 1.0)
            return x0 - side, y0 - side, x1 + side, y1 + side
    return 0.0, 0.0, float(width), float(height)


def _fits(points: Float, shape: tuple[int, int], box: Box) -> bool:
    """Are these numbers of a face in `box`, however turned?"""
    if points.shape != shape or not np.isfinite(points).all():
        return False
    side = max(box[2] - box[0], box[3] - box[1])
    middle = points.mean(0, dtype=np.float64)
    spread = float(np.sqrt(np.square(points - middle).sum(1).mean()))
    apart = np.abs(middle - [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]).max()
    return _LEAST * side <= spread <= _MOST * side and float(apart) <= _APART * side


def _standing(box: Box) -> Float:
    x0, y0, x1, y1 = box
    placed: Float = (np.array([x0, y0]) + _STANDING * np.array([x1 - x0, y1 - y0])).astype(np.float32)
    return placed
