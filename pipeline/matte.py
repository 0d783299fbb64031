"""What lies within a face's outline and is no face: hair over the forehead, a wall beside the jaw, a collar, a hand.

Landmark networks draw an outline over whatever hides it. Here pixels between the outline and the features are compared
with the skin that the face's tone (`models/tone.py`) predicts there; what is of clearly another colour, and hangs
together with what is outside, stays as filmed. Eyes, brows, nose and mouth with what is close around them are never let
go, nor is anything where there is no tone, nor more than a part of the face: when in doubt, it is covered.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from revisage.models import layout, tone
from revisage.models.conditioning import face_mask
from revisage.pipeline import geometry
from revisage.pipeline.composite import PlacedFace
from revisage.pipeline.geometry import FaceRegion
from revisage.pipeline.pixels import Mask, PixelFormat, quantise_mask
from revisage.pipeline.types import Float, Gray, Image

_SIDE = 128  # of the crop that is looked at, pixels
_UNIT = 0.22 * _SIDE  # an eye distance in it, pixels
_LIGHTNESS, _HUE = 20.0, 13.0  # CIE L*, and a*b*: how far skin may be from what its tone predicts ...
_STRANGE = 1.35, 1.8  # ... times this: from here on, and surely, it is none
_CORE = 0.17  # eye distances around the features that always belong to the face
_MOST = 0.42  # share of the outline that may be let go; more is no hair
_CALM = 0.15  # seconds: how slowly what is let go changes
_SURE = 0.04  # share up to which a pixel still counts as covered


@dataclass(slots=True)
class Mattes:
    """One run's memory: what was let go of each track's face a frame ago, in its crop."""

    last: dict[int, tuple[float, Float]] = field(default_factory=dict)  # track -> seconds, (S, S)

    def trimmed(self, face: PlacedFace, picture: Image, seconds: float, fmt: PixelFormat) -> PlacedFace:
        """`face` with a region that lets go what is no face in `picture` (H, W, 3) uint8 RGB."""
        if face.tone is None:
            return face
        try:
            return self._trimmed(face, face.tone, picture, seconds, fmt)
        except (ValueError, ArithmeticError, cv2.error):  # whatever goes wrong, all of the face must be covered
            return face

    def _trimmed(self, face: PlacedFace, light: Float, picture: Image, seconds: float, fmt: PixelFormat) -> PlacedFace:
        matrix = geometry.resized(face.matrix, _SIDE / face.size)
        landmarks = np.asarray((face.landmarks + 0.5) * (_SIDE / face.size) - 0.5, np.float32)
        free = self._calmed(face.track, let_go(geometry.crop(picture, matrix, _SIDE), landmarks, light), seconds)
        return face if free.max() <= _SURE else replace(face, region=_without(face.region, free, matrix, fmt))

    def _calmed(self, track: int, free: Float, seconds: float) -> Float:
        before, known = self.last.get(track, (seconds, free))
        share = np.float32(np.exp(-abs(seconds - before) / _CALM)) if before < seconds else np.float32(0)
        calm: Float = known * share + free * (1 - share)
        self.last[track] = (seconds, calm)
        return calm


def let_go(crop: Image, landmarks: Float, light: Float) -> Float:
    """(S, S) 0..1: how surely each pixel of `crop` (S, S, 3) within the outline of `landmarks` (N, 2) is no face."""
    size = len(crop)
    outline, core = face_mask(landmarks, size, dilate=0.15) > 0, _core(landmarks, size)
    skin = np.clip(np.rint(tone.encoded(tone.surface(light, landmarks, size))), 0, 255).astype(np.uint8)
    seen, expected = (_lab(cv2.GaussianBlur(picture, (0, 0), 0.8)) for picture in (crop, skin))
    off = seen - expected
    strange = np.hypot(off[..., 0] / _LIGHTNESS, np.hypot(off[..., 1], off[..., 2]) / _HUE)
    low, high = _STRANGE
    free = np.clip((strange - low) / (high - low), 0, 1).astype(np.float32)
    free[core > 0] = 0
    free *= _from_outside((free > 0.3) | ~outline)
    free = cv2.GaussianBlur(cv2.morphologyEx(free, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)), (0, 0), 0.9)
    inside = face_mask(landmarks, size, dilate=0.0) > 0
    if float(free[inside].mean()) > _MOST:
        return np.zeros_like(free)
    return np.asarray(free, np.float32)


def _core(landmarks: Float, size: int) -> Gray:
    """(S, S): brows, eyes, nose and mouth, the hull of each pair of neighbours, and what is close around."""
    mask = np.zeros((size, size), np.uint8)
    eyes = (layout.BROW_LEFT, layout.BROW_RIGHT, layout.EYE_LEFT, layout.EYE_RIGHT)
    middle = (layout.EYE_LEFT, layout.EYE_RIGHT, layout.NOSTRILS)
    lower = (layout.NOSTRILS, layout.LIPS_OUTER)
    for parts in (eyes, middle, lower):
        hull = cv2.convexHull(np.concatenate([landmarks[part] for part in parts]).astype(np.float32))
        cv2.fillConvexPoly(mask, np.round(np.clip(hull, -4096, 4096) * 16).astype(np.int32), 255, cv2.LINE_8, 4)
    side = 2 * max(1, round(_CORE * size * 0.22)) + 1
    return np.asarray(cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))), np.uint8)


def _from_outside(where: Mask) -> Float:
    """(S, S) 1 where `where` (S, S) bool hangs together with the crop's border."""
    padded = np.pad(where, 1, constant_values=True).view(np.uint8)
    _, labels = cv2.connectedComponents(padded, connectivity=4)
    return np.asarray((labels == labels[0, 0])[1:-1, 1:-1], np.float32)


def _without(region: FaceRegion, free: Float, matrix: Float, fmt: PixelFormat) -> FaceRegion:
    """`region` without what is `free` in the crop of `matrix`."""
    shifted = matrix.copy()
    shifted[:, 2] += shifted[:, :2] @ np.array([region.rect.x0, region.rect.y0], np.float32)
    size, flags = (region.rect.width, region.rect.height), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    share: Float = cv2.warpAffine(free, shifted, size, flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    alpha = np.asarray(region.alpha * (1 - share), np.float32)
    alpha[alpha < 1 / 255] = 0
    return FaceRegion(region.rect, region.cover & (share <= _SURE), alpha, quantise_mask(alpha > 0, fmt))


def _lab(picture: Image) -> Float:
    return np.asarray(cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), np.float32)
