"""Landmarks that were not found, from those that were: irises and surface from contours. Knows no picture or network.

A point of the surface goes where the contours around it go, by moving least squares with affine maps (Schaefer, McPhail
& Warren, *Image Deformation Using Moving Least Squares*, 2006): on the average face it is exactly the average's.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from revisage.models import layout
from revisage.pipeline.types import Float

_REACH = 0.25  # standard deviation of a contour point's weight, in distances of the eye centres
_FLOOR = 1e-4  # least weight: far points decide where near ones lie in a line


@lru_cache(maxsize=1)
def mean_face() -> Float:
    """(LANDMARK_COUNT, 2) in the unit crop, pixel centres at whole numbers; made by `models/train/mean_face.py`."""
    pairs = json.loads((Path(__file__).parent / "weights" / "mean-face.json").read_text(encoding="utf-8"))
    mean = np.array(pairs, np.float32)
    mean.flags.writeable = False
    return mean


def completed(landmarks: Float) -> Float:
    """(…, CONTOUR_COUNT or LANDMARK_COUNT, 2) -> (…, LANDMARK_COUNT, 2) float32; what is there stays as it is.

    Irises that are missing look straight ahead. ValueError: another number of points.
    """
    points = np.asarray(landmarks, np.float32)
    if points.shape[-2] == layout.LANDMARK_COUNT:
        return points
    if points.shape[-2] != layout.CONTOUR_COUNT:
        raise ValueError(f"landmarks are {layout.CONTOUR_COUNT} or {layout.LANDMARK_COUNT}, not {points.shape[-2]}")
    return np.concatenate([points, layout.looking_ahead(points), _surface_weights() @ points], axis=-2)


def followed(before: Float, after: Float) -> Float:
    """`after` (LANDMARK_COUNT, 2), whose contours alone were moved from `before`, with irises and surface moved along.

    Irises go with the corners of their eyes, and grow with their distance; lids that shut do not move them.
    """
    moved = np.array(after, np.float32)
    if len(moved) < layout.LANDMARK_COUNT:
        return moved
    contours = slice(0, layout.CONTOUR_COUNT)
    moved[layout.SURFACE] = before[layout.SURFACE] + _surface_weights() @ (moved[contours] - before[contours])
    for iris, corners in ((layout.IRIS_LEFT, layout.CORNERS_LEFT), (layout.IRIS_RIGHT, layout.CORNERS_RIGHT)):
        (old, was), (new, now) = (_frame(points[list(corners)]) for points in (before, moved))
        moved[iris] = new + (before[iris] - old) * (now / max(was, 1e-6))
    return moved


def _frame(corners: Float) -> tuple[Float, float]:
    return corners.mean(axis=0), float(np.linalg.norm(corners[1] - corners[0]))


@lru_cache(maxsize=1)
def _surface_weights() -> NDArray[np.float32]:
    """(surface points, CONTOUR_COUNT): each surface point as a sum of contour points, exact under affine maps."""
    mean = mean_face().astype(np.float64)
    contours, surface = mean[: layout.CONTOUR_COUNT], mean[layout.SURFACE]
    reach = _REACH * float(layout.interocular(mean_face()))
    far = ((surface[:, None] - contours) ** 2).sum(-1) / (2 * reach**2)
    weights = np.exp(-far) + _FLOOR
    known = np.hstack([np.ones((len(contours), 1)), contours])
    wanted = np.hstack([np.ones((len(surface), 1)), surface])
    normal = np.einsum("sc,ci,cj->sij", weights, known, known)
    solved = np.linalg.solve(normal, wanted[..., None])[..., 0]
    return np.asarray(weights * (solved @ known.T), np.float32)
