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
from revisage.models.warp import places, standard_triangles
from revisage.pipeline.types import Float, Image

SLOWLY = 2.0  # seconds after which two thirds of a change of light are followed that the surroundings do not explain
QUICKLY = 0.1  # the same for detail
BROAD = 12  # what is wider than the crop's side over this is light and shade, and not detail
NEW = 14.0  # grey levels of detail that are followed at once
SMALL = 32  # side of the crops that light is compared on, pixels
ENOUGH = 24  # of their pixels seen in both frames, for a comparison
MOST = 1.6  # factor by which a tone is changed at most
_FEW = 2  # pixels of the crop for each one at which motion is worked out
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
    before, known = _carried(last, landmarks, len(painted))
    skin = _skin(landmarks, len(painted)) * known
    kept = np.clip(before * light, painted / MOST, painted * MOST)
    broad = _smoothed((kept - painted) * skin[..., None], len(painted) / BROAD)
    broad /= np.maximum(_smoothed(skin, len(painted) / BROAD), 1e-3)[..., None]
    fine = kept - painted - broad
    alike = np.exp(-np.square(_smoothed(np.abs(fine).mean(-1), len(painted) / 64) / NEW))
    share = _share(elapsed, QUICKLY) * alike * (skin - _lively(landmarks, len(painted)) * skin)
    face = _face(landmarks, len(painted))
    pulled = painted + _share(elapsed, SLOWLY) * broad * face[..., None] + fine * share[..., None]
    return np.asarray(np.clip(pulled, 0, 255), np.float32)


def _share(elapsed: float, scale: float) -> float:
    return float(np.exp(-max(elapsed, 0.0) / scale))


def _carried(last: Seen, landmarks: Float, size: int) -> tuple[Float, Float]:
    """The last frame's picture laid over `landmarks`, and where it shows the face (S, S), 0..1."""
    small = -(-size // _FEW)
    x, y = places(landmarks / _FEW, last.landmarks / _FEW, standard_triangles(), small)
    inside = (x >= 0) & (y >= 0)
    known = cv2.erode(inside.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(np.float32)
    at = [
        cv2.resize(axis * _FEW, None, fx=_FEW, fy=_FEW, interpolation=cv2.INTER_LINEAR)[:size, :size] for axis in (x, y)
    ]
    before = cv2.remap(last.picture, at[0], at[1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return before, cv2.resize(known, None, fx=_FEW, fy=_FEW, interpolation=cv2.INTER_NEAREST)[:size, :size]


def _skin(landmarks: Float, size: int) -> Float:
    """(S, S): 1 within the face, 0 well before its outline ends."""
    hull = face_mask(landmarks, size, dilate=0.0)
    eroded = cv2.erode(hull, np.ones((3, 3), np.uint8), iterations=max(1, size // 43), borderValue=0)
    return _smoothed(eroded.astype(np.float32) / 255, size / 64)


def _lively(landmarks: Float, size: int) -> Float:
    """(S, S): 1 on eyes and lips."""
    drawn = np.zeros((size, size), np.uint8)
    for part in _LIVELY:
        cv2.fillConvexPoly(drawn, cv2.convexHull(np.round(np.clip(landmarks[part], -4096, 4096)).astype(np.int32)), 255)
    grown = cv2.dilate(drawn, np.ones((3, 3), np.uint8), iterations=max(1, size // 64))
    return _smoothed(grown.astype(np.float32) / 255, size / 100)


def _face(landmarks: Float, size: int) -> Float:
    """(S, S): 1 on the face, falling off around its outline."""
    return _smoothed(face_mask(landmarks, size, dilate=0.0).astype(np.float32) / 255, size / 40)


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
