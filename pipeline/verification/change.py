"""Does a picture still show what another showed? The measure behind `verify`. Numpy and OpenCV; knows no video.

Two grey pictures of one place are compared at a scale where the face is `SIDE` samples long, in the band of detail that
eyes, nose and mouth live in (a difference of two Gaussians). Level, contrast far coarser than a face, and grain finer
than its parts do not count, so neither a codec's noise nor a change of brightness decides.

Only places with detail to show are asked: a flat forehead that a blur left flat tells nothing. Of those, a place is
*kept* when what differs there is a small part of what was there; or of what was there softened, or paler: a face under
a light blur or a thin veil is a face that shows. Re-encoding differs too; how much is read off the surroundings, which
nobody painted over, and raises what counts as small. Where one grey lies over all of a face nothing is kept, whatever
its size: in a face of a few pixels that is all that can be told for certain.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from revisage.pipeline.pixels import Mask, Samples
from revisage.pipeline.types import Box, Float

SIDE = 48  # samples along the longer side of a face's box
AROUND = 0.5  # of the box's sides: how much of the surroundings is looked at
_FINE, _COARSE = 0.8, 2.6  # standard deviations of the two Gaussians, samples
_WINDOW = 4.0  # standard deviation of the neighbourhood in which energies are compared, samples
_FAINT = 0.7  # grey levels rms: fainter detail is nothing to see; rounding to 8 bits alone makes a third of it
_KEPT = 0.25  # a place is kept when at most this share of its detail's energy differs
_WORST_CODEC = 0.35  # most that the surroundings can add to it
_SOFT = (0.0, 1.0, 2.0, 3.0)  # standard deviations of the blurs, samples: up to a sixteenth of the face's length
_PALEST, _STRONGEST = 0.4, 1.5  # of the contrast that was there
_FLAT, _PALE = 2.0, 0.2  # grey levels rms, and share of what was there, below which nothing is left to see
_FEWEST = 60  # samples with detail that a verdict needs: one in twenty of a whole face


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one region."""

    kept: float  # 0..1: share of the places with detail that show the same as before
    detail: int  # how many places had detail at all, in samples
    codec: float  # share of the detail's energy that differs in the surroundings, which only the codec touched

    def same(self, limit: float) -> bool:
        """Is at least `limit` of the region as it was? False where there was nothing to see."""
        return self.detail >= _FEWEST and self.kept >= limit


def compare(before: Samples, after: Samples, box: Box, inside: Mask, painted: Mask | None, bits: int = 8) -> Change:
    """Compare the face in `box` of two luma planes (H, W).

    `inside` (H, W) is where the face is, `painted` (H, W) all that was painted over in this frame, which is kept out of
    the surroundings; None: not known, then the surroundings are not read.
    """
    window, scale = _window(box, before.shape)
    grey = 1 << (bits - 8)
    whole, new = (_shrunk(plane[window], scale) / grey for plane in (before, after))
    old, now = _detail(whole), _detail(new)
    face = _Within(_shrunk(inside[window].astype(np.float32), scale) > 0.5)
    codec = 0.0
    if painted is not None:
        free = _Within(_shrunk(painted[window].astype(np.float32), scale) == 0)
        codec = _codec(free.mean(old * old), free.mean((old - now) ** 2), free.mask)
    shows = face.mask & (face.mean(old * old) > _FAINT**2)
    detail = int(shows.sum())
    kept, left = np.zeros_like(shows), face.mean(now * now)
    flat = _is_flat(before[window], after[window], inside[window], grey)
    for blur in _SOFT if detail >= _FEWEST and not flat else ():
        there = old if blur == 0 else _detail(cv2.GaussianBlur(whole, (0, 0), blur))
        energy, common = face.mean(there * there), face.mean(there * now)
        kept |= _alike(energy, common, left, _KEPT + min(codec, _WORST_CODEC))
    return Change(float(kept[shows].mean()) if detail else 0.0, detail, codec)


def _is_flat(before: Samples, after: Samples, inside: Mask, grey: int) -> bool:
    """Is one grey where a face was? Nothing of it can show; at a size of a few pixels nothing else can be said."""
    if not inside.any():
        return False
    old, now = (float(plane[inside].std()) / grey for plane in (before, after))
    return now <= min(max(_FLAT, _PALE * old), 3 * _FLAT)


def _alike(there: Float, common: Float, now: Float, room: float) -> Mask:
    """Where a picture shows what was there in some contrast, but for a share `room`, from both energies and theirs."""
    contrast = np.clip(common / np.maximum(there, 1e-6), _PALEST, _STRONGEST)
    seen = contrast * contrast * there
    lost = now - 2 * contrast * common + seen
    return np.asarray((seen > _FAINT**2) & (lost < room * seen), np.bool_)


def _window(box: Box, shape: tuple[int, ...]) -> tuple[tuple[slice, slice], float]:
    """The part of a plane around `box`, and samples per pixel."""
    x0, y0, x1, y1 = box
    dx, dy = AROUND * (x1 - x0), AROUND * (y1 - y0)
    left, top = (min(max(0, int(low)), side - 1) for low, side in ((x0 - dx, shape[1]), (y0 - dy, shape[0])))
    right, bottom = min(shape[1], int(x1 + dx) + 1), min(shape[0], int(y1 + dy) + 1)
    return np.s_[top : max(bottom, top + 1), left : max(right, left + 1)], SIDE / max(x1 - x0, y1 - y0, 1.0)


def _shrunk(plane: Samples | Float, scale: float) -> Float:
    height, width = plane.shape
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    mode = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small: Float = cv2.resize(np.ascontiguousarray(plane, np.float32), size, interpolation=mode)
    return small


def _detail(grey: Float) -> Float:
    band: Float = cv2.GaussianBlur(grey, (0, 0), _FINE) - cv2.GaussianBlur(grey, (0, 0), _COARSE)
    return band


class _Within:
    """A part of a picture, for means over neighbourhoods of which only what lies in it counts."""

    def __init__(self, mask: Mask) -> None:
        self.mask = mask
        self._weight = mask.astype(np.float32)
        self._share = np.maximum(cv2.GaussianBlur(self._weight, (0, 0), _WINDOW), 1e-3)

    def mean(self, energy: Float) -> Float:
        """Around each place of the part; elsewhere of no meaning."""
        total: Float = cv2.GaussianBlur(energy * self._weight, (0, 0), _WINDOW) / self._share
        return total


def _codec(energy: Float, lost: Float, free: Mask) -> float:
    """Median over the untouched surroundings with detail; 0 where there are too few to tell."""
    told = free & (energy > _FAINT**2)
    if int(told.sum()) < _FEWEST:
        return 0.0
    return float(np.median(lost[told] / energy[told]))
