"""One face laid over another by their landmarks: piecewise affine over triangles. Knows no network, person or video.

As active appearance models warp (Cootes, Edwards & Taylor, *Active Appearance Models*, PAMI 23(6), 2001).
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import Delaunay

from revisage.models import layout
from revisage.models.conditioning import FACE_TEMPLATE, standard_landmarks
from revisage.pipeline.types import Float

_SUBPIXEL = 4  # bits, for OpenCV's fixed-point coordinates


def triangles_of(shape: Float) -> NDArray[np.int32]:
    """(F, 3) landmark numbers that part a face (LANDMARK_COUNT, 2) into triangles of its contours, no eye centres."""
    return np.asarray(Delaunay(shape[: layout.EYE_CENTRES.start]).simplices, np.int32)


@lru_cache(maxsize=1)
def standard_triangles() -> NDArray[np.int32]:
    """(F, 3) landmark numbers, triangles of the average face."""
    return triangles_of(standard_landmarks(np.asarray(FACE_TEMPLATE.points, np.float32)))


@lru_cache(maxsize=1)
def surface_triangles() -> NDArray[np.int32]:
    """(F, 3) landmark numbers: the average face parted by its contours and its surface points; no irises."""
    numbers = np.r_[: layout.EYE_CENTRES.start, layout.SURFACE]
    shape = standard_landmarks(np.asarray(FACE_TEMPLATE.points, np.float32))
    return np.asarray(numbers[Delaunay(shape[numbers]).simplices], np.int32)


def places(onto: Float, source: Float, triangles: NDArray[np.int32], size: int) -> tuple[Float, Float]:
    """Where to look in a picture with landmarks `source` to draw it over `onto`: x and y, (size, size) float32 each.

    Affine within each of the `triangles` (F, 3) of landmarks. Those that are seen from behind are left out, as is
    everything outside all of them: -2 there. Both landmark sets are in pixels.
    """
    corners, targets = np.asarray(onto, np.float64)[triangles], np.asarray(source, np.float64)[triangles]
    facing = (_doubled_area(corners) * _doubled_area(targets) > 0) & (np.abs(_doubled_area(corners)) > 1e-3)
    number = np.full((size, size), -1, np.int32)
    limited = np.clip(corners, -4096, 4096)
    fixed = np.round(limited * (1 << _SUBPIXEL)).astype(np.int32)
    for i in np.flatnonzero(facing):
        cv2.fillConvexPoly(number, fixed[i], int(i), cv2.LINE_8, _SUBPIXEL)
    affine = np.zeros((len(triangles) + 1, 3, 2))
    affine[-1, 2] = -2  # number -1
    homogeneous = np.concatenate([corners, np.ones((len(corners), 3, 1))], axis=-1)
    affine[:-1][facing] = np.linalg.solve(homogeneous[facing], targets[facing])
    rows, columns = np.mgrid[:size, :size]
    chosen = affine[number].astype(np.float32)
    found = chosen[..., 0, :] * columns[..., None] + chosen[..., 1, :] * rows[..., None] + chosen[..., 2, :]
    return np.ascontiguousarray(found[..., 0], np.float32), np.ascontiguousarray(found[..., 1], np.float32)


def _doubled_area(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    one, two = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area: NDArray[np.float64] = one[:, 0] * two[:, 1] - one[:, 1] * two[:, 0]
    return area
