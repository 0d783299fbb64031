"""Light, tone and sharpness of a face in twenty-seven numbers. Knows no actor and no key.

Eight polynomials of the place on the face, for each of three channels, fitted to the logarithms of linear light on
plain skin: mean colour, and about what the second order of a lamp's shading over a rounded surface needs (nine numbers:
Ramamoorthi & Hanrahan, *An Efficient Representation for Irradiance Environment Maps*, SIGGRAPH 2001). Three more
numbers say how much fine detail the skin shows, in three bands: how sharp the film is. These twenty-seven are all that
a new face may take from the pixels of a filmed one.

Pictures are RGB; *linear* means light, 0..1, after the transfer function of sRGB (IEC 61966-2-1) was undone.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from revisage.models import layout
from revisage.pipeline.types import Float, Image

SHAPE = (9, 3)  # of a tone: eight polynomials by three channels, then the logarithms of three bands' deviations
SIDE = 64  # of the crop in which light is read, pixels
SHARP_SIDE = 256  # of the crop in which sharpness is read, pixels
BANDS = (0.8, 1.6, 3.2)  # standard deviations of the Gaussians that part the bands, pixels of that crop
DARKEST = 1e-3  # of linear light: below it nothing is told apart
_REACH = 1.25  # of the face's half height: places further out are taken for this far
_FIRM = np.array([0, 0.05, 0.05, 0.3, 0.3, 0.3, 1, 1], np.float32)  # how much each polynomial is held back
_OUTLYING = 0.25  # of a logarithm: hair, a hand or a lens in front of the skin counts the less, the further off
_ROUNDS = 4
_ENOUGH = 24  # pixels of skin
_FLAT = 1e-3  # a deviation below is none


@lru_cache(maxsize=1)
def _light_of_levels() -> Float:
    level = np.arange(256) / 255
    return np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4).astype(np.float32)


def linear(picture: Image) -> Float:
    """(H, W, 3) uint8 sRGB -> float32 linear light, 0..1."""
    return np.asarray(cv2.LUT(picture, _light_of_levels()), np.float32)


def encoded(light: Float) -> Float:
    """(H, W, 3) linear light -> float32 sRGB, 0..255, not rounded."""
    light = np.clip(light, 0, 1)
    root = cv2.pow(light, 1 / 2.4)
    return np.where(light <= 0.0031308, light * np.float32(255 * 12.92), root * np.float32(255 * 1.055) - 255 * 0.055)


def read(picture: Image, landmarks: Float, shown: Float | None = None) -> Float | None:
    """The light (8, 3) float32 of the face at `landmarks` (N, 2) in `picture` (S, S, 3) uint8; None without skin.

    `shown` (2, 2): the corners of what a film shows of the crop; beyond it nothing counts.
    """
    where = skin(landmarks, len(picture))
    if shown is not None:
        inside = np.zeros_like(where)
        (x0, y0), (x1, y1) = np.sort(np.clip(np.rint(shown), 0, len(picture) - 1).astype(int), axis=0)
        inside[y0 : y1 + 1, x0 : x1 + 1] = True
        where &= inside
    return fitted(np.log(np.maximum(linear(picture), DARKEST)), landmarks, where)


def fitted(logarithms: Float, landmarks: Float, where: NDArray[np.bool_]) -> Float | None:
    """The light (8, 3) of `logarithms` (S, S, 3) of linear light `where` (S, S) there is skin.

    Least squares, reweighted (Huber, *Robust Statistics*, 1981, section 7.8), so that what lies before the skin and is
    of another colour decides little.
    """
    if np.count_nonzero(where) < _ENOUGH:
        return None
    a, values = polynomials(landmarks, len(where))[where], logarithms[where]
    weights, tone = np.ones(len(a), np.float32), np.zeros((8, 3), np.float32)
    for _ in range(_ROUNDS):
        weighted = a * weights[:, None]
        tone = np.linalg.solve(weighted.T @ a + 0.02 * weights.sum() * np.diag(_FIRM), weighted.T @ values)
        off = np.abs(values - a @ tone).mean(-1)
        weights = np.minimum(1, _OUTLYING / np.maximum(off, 1e-6)) ** 2
    return np.asarray(tone, np.float32)


def surface(tone: Float, landmarks: Float, size: int) -> Float:
    """(S, S, 3) float32 linear light of `tone` (8 or 9, 3) over the face at `landmarks` (N, 2).

    Beyond the face it is as at its rim.
    """
    small = min(size, SIDE)  # it is smooth
    scaled = (landmarks + 0.5) * (small / size) - 0.5
    surface: Float = np.exp(np.clip(polynomials(scaled, small) @ tone[:8], -7, 0.3))
    large: Float = cv2.resize(surface, (size, size), interpolation=cv2.INTER_CUBIC)
    return large


def polynomials(landmarks: Float, size: int) -> Float:
    """(S, S, 8) float32: 1, x, y, their squares and product, and third powers, of the place on the face."""
    oval = landmarks[layout.OVAL]
    centre, reach = oval.mean(0), max(float(np.ptp(oval[:, 1])) / 2, 1.0)
    axis = np.arange(size, dtype=np.float32)
    x, y = np.meshgrid((axis - centre[0]) / reach, (axis - centre[1]) / reach)
    far = np.maximum(np.hypot(x, y) / _REACH, 1)
    x, y = x / far, y / far
    rows = [np.ones_like(x), x, y, x * x, y * y, x * y, x**3, y**3]
    return np.asarray(np.stack(rows, axis=-1), np.float32)


def sharpness(contrast: Float, landmarks: Float) -> Float:
    """(3,) logarithms: how far the skin's detail deviates in each of `BANDS`, finest first.

    `contrast` (SHARP_SIDE, SHARP_SIDE) are logarithms of encoded grey levels; `landmarks` lie in its pixels. The
    deviation is that of a normal distribution with the same median, so that a hair or a spot decides nothing.
    """
    where = skin(landmarks, len(contrast))
    if np.count_nonzero(where) < _ENOUGH:
        return np.full(3, np.log(_FLAT), np.float32)
    deviations = (1.48 * float(np.median(np.abs(band[where]))) for band in bands(contrast))
    return np.asarray(np.log(np.maximum(list(deviations), _FLAT)), np.float32)


def bands(picture: Float) -> list[Float]:
    """Three differences of Gaussians of (S, S) or (S, S, 3), finest first, in units of a crop of `SHARP_SIDE`."""
    unit, levels = len(picture) / SHARP_SIDE, [picture]
    levels += [np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma * unit), np.float32) for sigma in BANDS]
    return [fine - coarse for fine, coarse in pairwise(levels)]


def skin(landmarks: Float, size: int) -> NDArray[np.bool_]:
    """(S, S): where there is plain skin: the oval without its rim, brows, eyes, nostrils and lips."""
    unit = float(layout.interocular(landmarks))
    mask = _hull(landmarks[layout.OVAL], size)
    mask = cv2.erode(mask, _disc(0.12 * unit), borderValue=0)
    features = np.zeros_like(mask)
    for parts in (
        (layout.BROW_LEFT, layout.EYE_LEFT),
        (layout.BROW_RIGHT, layout.EYE_RIGHT),
        (layout.NOSTRILS,),
        (layout.LIPS_OUTER,),
    ):
        features |= _hull(np.concatenate([landmarks[part] for part in parts]), size)
    return np.asarray((mask > 0) & (cv2.dilate(features, _disc(0.1 * unit)) == 0))


def _hull(points: Float, size: int) -> NDArray[np.uint8]:
    mask = np.zeros((size, size), np.uint8)
    hull = cv2.convexHull(np.asarray(np.clip(points, -4096, 4096), np.float32))
    return np.asarray(cv2.fillConvexPoly(mask, np.round(hull * 16).astype(np.int32), 1, cv2.LINE_8, 4), np.uint8)


def _disc(radius: float) -> NDArray[np.uint8]:
    side = 2 * max(1, round(radius)) + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), np.uint8)


def mean_colour(tone: Float) -> Float:
    """(3,) linear light: the skin's over the middle of the face, of a tone (8 or 9, 3)."""
    axis = np.linspace(-0.6, 0.6, 5, dtype=np.float32)
    x, y = (side.reshape(-1) for side in np.meshgrid(axis, axis))
    rows = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y, x**3, y**3], axis=-1)
    return np.asarray(np.exp(rows @ tone[:8]).mean(0), np.float32)


def warmth(tone: Float) -> float:
    """How red the skin is over how blue, a logarithm."""
    red, _, blue = np.maximum(mean_colour(tone), DARKEST)
    return float(np.log(red / blue))


def lab(light: Float) -> Float:
    """(3,) linear RGB -> (3,) CIE L*, a*, b* under D65 (ISO/CIE 11664-4)."""
    pixel = np.clip(encoded(light.reshape(1, 1, 3)), 0, 255).astype(np.float32) / 255
    return np.asarray(cv2.cvtColor(pixel, cv2.COLOR_RGB2LAB)[0, 0], np.float32)
