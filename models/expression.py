"""What a face does, in three numbers read off its landmarks: it smiles, speaks, blinks. Knows no pixel and no person.

A look says who somebody is. What shows in anybody's skin when they smile, cheeks drawn up and folds beside the nose, is
of the moment: `models/appearance.py` knows it apart from looks, and draws that of the film.
"""

from __future__ import annotations

import numpy as np

from revisage.models import layout
from revisage.pipeline.types import Float

MEASURES = ("smile", "mouth", "eyes")
FURTHEST = 2.5  # standard deviations that an expression departs from the usual one
_LIFT = 3.0  # how much the lift of the mouth's corners counts beside its width: both then vary alike


def expression(landmarks: Float) -> Float:
    """(135, 2) -> (3,) float32, in the order of `MEASURES`, in distances of the eye centres.

    A smile is the mouth's width, and thrice how far its corners lie above the middle of the lips; the others are mean
    gaps. The face may be turned in the picture's plane.
    """
    points = np.asarray(landmarks, np.float32)
    left, right = points[layout.EYE_CENTRES]
    unit = float(layout.interocular(points))
    x, y = (right - left) / unit
    corners = points[[layout.MOUTH_LEFT, layout.MOUTH_RIGHT]]
    lift = (points[layout.LIPS_OUTER].mean(0) - corners.mean(0)) @ np.array([-y, x], np.float32)
    smile = float(np.linalg.norm(corners[1] - corners[0])) + _LIFT * float(lift)
    mouth, *eyes = (_gap(points, part) for part in (layout.LIPS_INNER, layout.EYE_LEFT, layout.EYE_RIGHT))
    return np.array([smile, mouth, sum(eyes) / 2], np.float32) / np.float32(unit)


def deviations(expressions: Float, usual: Float) -> Float:
    """(…, 3) -> (…, 3) float32: how far from the usual ones, in standard deviations; at most `FURTHEST`.

    `usual` (2, 3) are the means and the deviations.
    """
    mean, deviation = usual
    amounts = (expressions - mean) / np.maximum(deviation, 1e-6)
    return np.asarray(np.clip(amounts, -FURTHEST, FURTHEST), np.float32)


def nose_length(landmarks: Float) -> float:
    """(135, 2) -> from between the eyes to below the nose, in distances of the eye centres: short in children."""
    points = np.asarray(landmarks, np.float32)
    below = points[layout.NOSTRILS].mean(0) - points[layout.EYE_CENTRES].mean(0)
    return float(np.linalg.norm(below) / layout.interocular(points))


def _gap(points: Float, contour: slice) -> float:
    upper, lower = layout.facing(contour)
    return float(np.linalg.norm(points[upper] - points[lower], axis=1).mean())
