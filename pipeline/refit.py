"""Landmarks a little beside those of a face, and the way to the best of them. Knows no picture, network or key.

landmarks ─► moved: each part shifted and stretched a little ─► scores ─► the top of a parabola along each way
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from revisage.models import layout
from revisage.models.completion import followed
from revisage.pipeline.types import Float

_PARTS: tuple[Sequence[slice], ...] = (
    (layout.OVAL,),
    (layout.BROW_LEFT, layout.BROW_RIGHT),
    (layout.EYE_LEFT, layout.EYE_RIGHT, layout.EYE_CENTRES),
    (layout.NOSE_BRIDGE, layout.NOSTRILS),
    (layout.LIPS_OUTER, layout.LIPS_INNER),
    (layout.LIPS_INNER,),
)
_WAYS = ("across", "down", "wider", "longer")
WAYS = len(_PARTS) * len(_WAYS)
_SHIFT = 0.035  # of the distance of the eyes: a step
_STRETCH = 0.05  # of a part's own size: a step
_FURTHEST = 2.0  # steps along one way in one round
_LENGTHS = (0.3, 0.6, 1.0, 1.4)  # of the step to where all parabolas have their tops

Score = Callable[[Sequence[Float]], Sequence[float]]  # of landmarks (135, 2) each; more is better


def moved(landmarks: Float, steps: Float) -> Float:
    """`landmarks` (135, 2) with every part shifted and stretched by `steps` (WAYS,); all 0 leaves them as they are.

    Along the line of the eyes and across it, about each part's own middle. A head that was found at another size or
    place is all of its parts moved alike, new proportions are parts moved apart.
    """
    left, right = landmarks[layout.EYE_CENTRES]
    unit = float(layout.interocular(landmarks))
    across = (right - left) / np.float32(unit)
    axes = np.stack([across, np.array([-across[1], across[0]])])
    result = np.array(landmarks, np.float32)
    for part, (aside, down, wider, longer) in zip(_PARTS, np.reshape(steps, (-1, len(_WAYS))), strict=True):
        chosen = np.r_[part]
        middle = result[chosen].mean(axis=0)
        own = (result[chosen] - middle) @ axes.T * (1 + _STRETCH * np.array([wider, longer]))
        result[chosen] = middle + (own + unit * _SHIFT * np.array([aside, down])) @ axes
    return followed(np.asarray(landmarks, np.float32), result)


def climbed(landmarks: Float, here: float, score: Score, width: float) -> tuple[Float, float]:
    """Landmarks that score better than `landmarks`, which score `here`, and their score; the same where none do.

    A step of `width` to either side along each of the ways gives a parabola; then a few lengths of the step to all
    their tops at once. That is Newton's method with the diagonal of the Hessian by central differences.
    """
    steps = width * np.eye(WAYS, dtype=np.float32)
    tried = [*steps, *-steps]
    scores = np.asarray(score([moved(landmarks, step) for step in tried]), np.float64)
    top = _tops(here, scores[:WAYS], scores[WAYS:]) * width
    ends = [*(length * top for length in _LENGTHS), tried[int(scores.argmax())]]
    reached = [*score([moved(landmarks, end) for end in ends[:-1]]), float(scores.max())]
    best = int(np.argmax(reached))
    return (moved(landmarks, ends[best]), reached[best]) if reached[best] > here else (landmarks, here)


def _tops(here: float, ahead: NDArray[np.float64], behind: NDArray[np.float64]) -> Float:
    """(WAYS,) where each parabola through three scores has its top, in steps; the better end where it has none."""
    slope, bend = (ahead - behind) / 2, 2 * here - ahead - behind
    inner = slope / np.maximum(bend, 1e-9)
    tops = np.where(bend > 1e-9, inner, np.sign(slope) * _FURTHEST)
    return np.clip(tops, -_FURTHEST, _FURTHEST).astype(np.float32)
