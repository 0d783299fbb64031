"""Keeps a new face one face over time: what nobody did must not change from one frame to the next.

The generator sees one frame at a time. It guesses light from what surrounds a face there, so that a hand that comes
near recolours it; and where landmarks shake, so does the grain of the skin. Here the last frame's face is laid over the
new one by the landmarks (as Lai et al., *Learning Blind Video Temporal Consistency*, ECCV 2018, do by optical flow),
and of their difference

* tone, light and shade follow as fast as the light on everything around the face does, and slowly beyond that;
* finer detail follows within a few frames, or at once where much of it is new;
* eyes and lips are left as painted: they move by themselves.

Causal, one small state per track; knows no network, key or file.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from revisage.models import layout
from revisage.models.base import FaceRequest
from revisage.models.conditioning import face_mask
from revisage.pipeline.types import Float, Image

SLOWLY = 2.0  # seconds after which two thirds of a change of light are followed that the surroundings do not explain
QUICKLY = 0.1  # the same for detail
BROAD = 12  # what is wider than the crop's side over this is light and shade, and not detail
NEW = 14.0  # grey levels of detail that are followed at once
SMALL = 32  # side of the crops that light is compared on, pixels
ENOUGH = 24  # of their pixels seen in both frames, for a comparison
MOST = 2.5  # factor by which a tone is changed at most
_GRID = 16  # places along the side of the crop at which motion is worked out
_REACH = 0.05  # of the side: how far the motion of a landmark is that of its surroundings
_LIVELY = (layout.EYE_LEFT, layout.EYE_RIGHT, layout.LIPS_OUTER)


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What is remembered of a track's last frame."""

    seconds: float
    picture: Float  # (S, S, 3), the crop as it was put out, 0..255
    landmarks: Float  # (135, 2) in its pixels
    around: Float  # (SMALL, SMALL) brightness of what surrounds it; nan where the face was removed


class Steady:
    """Frames of every track in rising order."""

    def __init__(self) -> None:
        self._seen: dict[int, Seen] = {}

    def __call__(self, track: int, seconds: float, picture: Image, request: FaceRequest) -> Image:
        """`picture` (S, S, 3), painted for `request`, as it follows from the track's last frame."""
        painted, around, last = picture.astype(np.float32), _around(request), self._seen.get(track)
        if last is not None:
            painted = _following(painted, request.landmarks, last, seconds - last.seconds, _light(last.around, around))
        self._seen[track] = Seen(seconds, painted, request.landmarks, around)
        steadied: Image = (painted + 0.5).astype(np.uint8)
        return steadied


def _following(painted: Float, landmarks: Float, last: Seen, elapsed: float, light: float) -> Float:
    """`painted` (S, S, 3), drawn back to the last frame, whose light was `light` times less; 0..255."""
    parts = _Parts.of(landmarks, len(painted))
    kept = _carried(last, landmarks, len(painted)) * np.float32(light)
    kept = np.clip(kept, painted * np.float32(1 / MOST), painted * np.float32(MOST))
    change = kept - painted
    broad = _broad(change, parts.skin)
    change -= broad
    change *= (_share(elapsed, QUICKLY) * _alike(change) * parts.still)[..., None]
    change += broad * (_share(elapsed, SLOWLY) * parts.face)[..., None]
    return np.asarray(np.clip(painted + change, 0, 255), np.float32)


def _alike(detail: Float) -> Float:
    """(S, S): 1 where the difference `detail` (S, S, 3) is grain, 0 where something is new."""
    amount = cv2.cvtColor(_half(np.abs(detail)), cv2.COLOR_RGB2GRAY)
    return np.asarray(np.exp(-np.square(_resized(_smoothed(amount, 1.0), len(detail)) / NEW)), np.float32)


def _share(elapsed: float, scale: float) -> np.float32:
    return np.float32(np.exp(-max(elapsed, 0.0) / scale))


def _carried(last: Seen, landmarks: Float, size: int) -> Float:
    """The last frame's picture (S, S, 3) where `landmarks` say that its pixels went.

    Each place moved as the landmarks around it did: kernel regression (Nadaraya 1964, Watson 1964) on a grid.
    """
    centres = (np.arange(_GRID, dtype=np.float32) + 0.5) * np.float32(size / _GRID) - np.float32(0.5)
    grid = np.stack(np.meshgrid(centres, centres), axis=-1).reshape(-1, 2)
    apart = np.square(grid).sum(1)[:, None] + np.square(landmarks).sum(1) - 2 * grid @ landmarks.T
    near = np.exp(apart * np.float32(-0.5 / (_REACH * size) ** 2)) + np.float32(1e-6)
    motion = near @ (last.landmarks - landmarks) / near.sum(1, keepdims=True)
    moved = _resized(motion.reshape(_GRID, _GRID, 2), size)
    axis = np.arange(size, dtype=np.float32)
    return np.asarray(cv2.remap(
        last.picture, moved[..., 0] + axis, moved[..., 1] + axis[:, None], cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    ), np.float32)  # fmt: skip


def _broad(change: Float, skin: Float) -> Float:
    """What is light and shade of `change` (S, S, 3), as it is on the skin (S, S); at a quarter of the resolution."""
    size = len(change)
    side, sigma = max(1, size // 4), size / BROAD / 4
    weight = cv2.resize(skin, (side, side), interpolation=cv2.INTER_AREA)
    small = cv2.resize(change * skin[..., None], (side, side), interpolation=cv2.INTER_AREA)
    return _resized(_smoothed(small, sigma) / np.maximum(_smoothed(weight, sigma), 1e-3)[..., None], size)


@dataclass(frozen=True, slots=True, eq=False)
class _Parts:
    """Soft parts of a crop, (S, S) float32 in 0..1."""

    face: Float  # falls off around its outline
    skin: Float  # falls off before its outline
    still: Float  # the skin without eyes and lips

    @classmethod
    def of(cls, landmarks: Float, size: int) -> _Parts:
        """Drawn at half the size: they are soft."""
        side = -(-size // 2)
        points = landmarks / 2
        hull = face_mask(points, side, dilate=0.0)
        within = cv2.erode(hull, np.ones((3, 3), np.uint8), iterations=max(1, side // 43), borderValue=0)
        lively = np.zeros((side, side), np.uint8)
        for part in _LIVELY:
            outline = np.round(np.clip(points[part], -4096, 4096)).astype(np.int32)
            cv2.fillConvexPoly(lively, cv2.convexHull(outline), 255)
        lively = cv2.dilate(lively, np.ones((3, 3), np.uint8))
        face, skin, moving = (
            _smoothed(part.astype(np.float32) / 255, sigma)
            for part, sigma in ((hull, side / 40), (within, side / 64), (lively, 0.6))
        )
        return cls(*(_resized(part, size) for part in (face, skin, skin * (1 - moving))))


def _half(values: Float) -> Float:
    return np.asarray(cv2.resize(values, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.float32)


def _resized(values: Float, size: int) -> Float:
    return np.asarray(cv2.resize(values, (size, size), interpolation=cv2.INTER_LINEAR), np.float32)


def _smoothed(values: Float, sigma: float) -> Float:
    return np.asarray(cv2.GaussianBlur(values, (0, 0), sigma), np.float32)


def _around(request: FaceRequest) -> Float:
    grey = cv2.cvtColor(request.background, cv2.COLOR_RGB2GRAY)
    known = (request.mask == 0).astype(np.float32)
    share = cv2.resize(known, (SMALL, SMALL), interpolation=cv2.INTER_AREA)
    mean = cv2.resize(grey * known, (SMALL, SMALL), interpolation=cv2.INTER_AREA)
    return np.where(share > 0.5, (mean + 4) / np.maximum(share, 1e-6), np.nan).astype(np.float32)


def _light(before: Float, now: Float) -> float:
    """How much brighter everything became: as much as three quarters of it agree on. What moves is the smaller part."""
    ratio = now / before
    ratio = ratio[np.isfinite(ratio)]
    if ratio.size < ENOUGH:
        return 1.0
    low, high = np.quantile(ratio, (0.25, 0.75))
    return float(np.clip(1.0, low, high).clip(0.5, 2.0))
