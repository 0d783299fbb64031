"""Which points bound what is replaced of a face, and which parts of it stay: from landmarks to hulls. Draws nothing.

Landmarks are those of `models/layout.py`, (LANDMARK_COUNT, 2).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from revisage.models import layout
from revisage.pipeline.types import Float, Shape

PARTS: Mapping[str, tuple[slice, ...]] = {
    "brows": (layout.BROW_LEFT, layout.BROW_RIGHT),
    "eyes": (layout.EYE_LEFT, layout.EYE_RIGHT),
    "nose": (slice(layout.NOSE_BRIDGE.start, layout.NOSTRILS.stop),),
    "mouth": (layout.LIPS_OUTER,),
}
REGIONS = ("face", "head")

# Times as far from the middle of the eyes as the oval: hair of usual height is inside, ears too.
_ASIDE, _UP, _DOWN = 1.3, 2.3, 1.05


def outline(landmarks: Float, shape: Shape) -> Float:
    """(K, 2) points whose hull is to be replaced. Raises ValueError for an unknown region."""
    if shape.region not in REGIONS:
        raise ValueError(f"unknown region {shape.region!r}: one of {', '.join(REGIONS)}")
    contours = landmarks[: layout.CONTOUR_COUNT]
    return contours if shape.region == "face" else np.concatenate([contours, _head(landmarks)])


def left_as_filmed(landmarks: Float, shape: Shape) -> list[Float]:
    """Hulls (K, 2) inside the outline that are not replaced. Raises ValueError for an unknown part."""
    if strange := set(shape.keep_parts) - PARTS.keys():
        raise ValueError(f"unknown part {min(strange)!r}: choose from {', '.join(PARTS)}")
    return [landmarks[group] for part in shape.keep_parts for group in PARTS[part]]


def _head(landmarks: Float) -> Float:
    """(36, 2): the face's oval, widened for ears and hair, in the face's own upright frame."""
    left, right = landmarks[layout.EYE_CENTRES]
    middle, across = (left + right) / 2, (right - left) / max(float(np.linalg.norm(right - left)), 1e-6)
    down = np.array([-across[1], across[0]], np.float32)
    offset = landmarks[layout.OVAL] - middle
    aside, low = offset @ across * _ASIDE, offset @ down
    low = np.where(low < 0, low * _UP, low * _DOWN)
    head: Float = middle + aside[:, None] * across + low[:, None] * down
    return head.astype(np.float32)
