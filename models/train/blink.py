"""Closes and turns the eyes of portraits, which hardly ever blink, wink or look aside, so that networks learn what
that is. Knows no network."""

from __future__ import annotations

import cv2
import numpy as np

from revisage.models import layout
from revisage.models.warp import places, surface_triangles
from revisage.pipeline.types import Float, Image

_EYES = (layout.EYE_LEFT, layout.EYE_RIGHT)
_HALF = 8  # contour points of an eye from corner to corner, see `models/layout.py`
_LASHES = (30, 22, 20)
_RIGID = 1.5  # radii of the iris within which it moves as one


def blinked(crop: Image, face: Float, shut: float | tuple[float, float]) -> tuple[Image, Float]:
    """`crop` and its landmarks `face` with the lids closed by the share `shut`, of both eyes or of left and right.

    The skin above is drawn down over the eye, with lashes at its edge; the lower lid comes up by a sixth of the way.
    """
    size, moved = len(crop), np.array(face, np.float32)
    shares = shut if isinstance(shut, tuple) else (shut, shut)
    for side, (part, share) in enumerate(zip(_EYES, shares, strict=True)):
        upper, lower = layout.facing(part)
        gap = face[upper] - face[lower]
        moved[lower] += gap * (share / 6)
        moved[upper] = moved[lower] + gap * (1 - share)
        moved[layout.EYE_CENTRES.start + side] = moved[part].mean(0)
    x, y = places(moved, face, surface_triangles(), size)
    rows, columns = np.mgrid[:size, :size].astype(np.float32)
    here = (x >= 0) & (y >= 0)
    picture = cv2.remap(crop, np.where(here, x, columns), np.where(here, y, rows), cv2.INTER_LINEAR)
    for part, share in zip(_EYES, shares, strict=True):
        lashes = picture.copy()
        lid = moved[[*range(part.start + _HALF, part.stop), part.start]]
        cv2.polylines(lashes, [np.round(lid * 16).astype(np.int32)], False, _LASHES, 1, cv2.LINE_AA, 4)
        picture = cv2.addWeighted(lashes, 0.5 * share, picture, 1 - 0.5 * share, 0)
    return picture, moved


def glanced(crop: Image, face: Float, aside: tuple[float, float]) -> tuple[Image, Float]:
    """`crop` and its landmarks `face` with both irises moved by `aside`, in distances of the eyes' corners.

    Between the lids alone: the iris goes as it is, the white beside it is stretched and pressed together.
    """
    size, moved, picture = len(crop), np.array(face, np.float32), crop.copy()
    rows, columns = np.mgrid[:size, :size].astype(np.float32)
    for part, iris in zip(_EYES, (layout.IRIS_LEFT, layout.IRIS_RIGHT), strict=True):
        corners = face[[part.start, part.start + _HALF]]
        shift = np.asarray(aside, np.float32) * np.linalg.norm(corners[1] - corners[0])
        radius = max(float(np.linalg.norm(face[iris][1:] - face[iris][0], axis=1).mean()), 0.5)
        moved[iris] += shift
        far = np.hypot(columns - moved[iris.start, 0], rows - moved[iris.start, 1]) / (_RIGID * radius)
        weight = np.exp(-(far**4))
        drawn = cv2.remap(crop, columns - shift[0] * weight, rows - shift[1] * weight, cv2.INTER_LINEAR)
        inside = np.zeros((size, size), np.uint8)
        cv2.fillPoly(inside, [np.round(face[part] * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
        share = inside[..., None].astype(np.float32) / 255
        picture = (picture * (1 - share) + drawn * share + 0.5).astype(np.uint8)
    return picture, moved
