"""Closes the eyes of portraits, which hardly ever blink, so that networks learn what blinks are. Knows no network."""

from __future__ import annotations

import cv2
import numpy as np

from revisage.models import layout
from revisage.models.warp import places, standard_triangles
from revisage.pipeline.types import Float, Image

_EYES = (layout.EYE_LEFT, layout.EYE_RIGHT)
_HALF = 8  # contour points of an eye from corner to corner, see `models/layout.py`
_LASHES = (30, 22, 20)


def blinked(crop: Image, face: Float, shut: float) -> tuple[Image, Float]:
    """`crop` and its landmarks `face` with the lids closed by the share `shut`: portraits hardly ever blink.

    The skin above is drawn down over the eye, with lashes at its edge; the lower lid comes up by a sixth of the way.
    """
    size, moved = len(crop), np.array(face, np.float32)
    for side, part in enumerate(_EYES):
        upper, lower = layout.facing(part)
        gap = face[upper] - face[lower]
        moved[lower] += gap * (shut / 6)
        moved[upper] = moved[lower] + gap * (1 - shut)
        moved[layout.EYE_CENTRES.start + side] = moved[part].mean(0)
    x, y = places(moved, face, standard_triangles(), size)
    rows, columns = np.mgrid[:size, :size].astype(np.float32)
    here = (x >= 0) & (y >= 0)
    picture = cv2.remap(crop, np.where(here, x, columns), np.where(here, y, rows), cv2.INTER_LINEAR)
    lashes = picture.copy()
    for part in _EYES:
        lid = moved[[*range(part.start + _HALF, part.stop), part.start]]
        cv2.polylines(lashes, [np.round(lid * 16).astype(np.int32)], False, _LASHES, 1, cv2.LINE_AA, 4)
    closed: Image = cv2.addWeighted(lashes, 0.5 * shut, picture, 1 - 0.5 * shut, 0)
    return closed, moved
