"""Keeps a new face's tone steady over time: skin that comes into view must not recolour it from one frame to the next.

The generator guesses tone and light from what is seen around a face in one frame. Let a hand come close, and it knows
better, at once. Here the mean colour of each track's face may change only as fast as the light on everything around it
does; beyond that it follows slowly. Causal, one small state per track; knows no network, key or file.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from revisage.models.base import FaceRequest
from revisage.models.conditioning import face_mask
from revisage.pipeline.types import Float, Image

SLOWLY = 2.0  # seconds after which two thirds of a change are followed that the light does not explain
SMALL = 32  # side of the crops that light is compared on, pixels
ENOUGH = 24  # of their pixels seen in both frames, for a comparison
MOST = 1.6  # factor by which a colour is changed at most


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What is remembered of a track's last frame."""

    seconds: float
    tone: Float  # (3,), mean colour of the face as it was put out, 0..255
    around: Float  # (SMALL, SMALL) brightness of what surrounds it; nan where the face was removed


class Steady:
    """Frames of every track in rising order."""

    def __init__(self) -> None:
        self._seen: dict[int, Seen] = {}

    def __call__(self, track: int, seconds: float, picture: Image, request: FaceRequest) -> Image:
        """`picture` (S, S, 3), painted for `request`, in a tone that follows from the track's last frame."""
        weight = _face(request)
        tone = np.asarray(np.average(picture.reshape(-1, 3), axis=0, weights=weight.reshape(-1)), np.float32)
        around, last = _around(request), self._seen.get(track)
        if last is not None:
            share = float(np.exp(-max(seconds - last.seconds, 0.0) / SLOWLY))
            kept = last.tone * _light(last.around, around)
            gain = np.clip((share * kept + (1 - share) * tone) / np.maximum(tone, 1), 1 / MOST, MOST)
            picture = np.clip(picture * (1 + (gain - 1) * weight[..., None]) + 0.5, 0, 255).astype(np.uint8)
            tone = np.asarray(tone * gain, np.float32)
        self._seen[track] = Seen(seconds, tone, around)
        return picture


def _face(request: FaceRequest) -> Float:
    """(S, S): 1 on the face, falling off around its outline."""
    size = len(request.mask)
    hull = face_mask(request.landmarks, size, dilate=0.0)
    soft = cv2.GaussianBlur(hull, (0, 0), size / 40).astype(np.float32) / 255
    return np.asarray(soft + np.float32(1e-6), np.float32)


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
