"""Where a face is: alignment to a crop, masks, and the way back. Pure numpy and OpenCV; knows no video, key or network.

A *crop* is a square picture in which the five points of a face lie where a `CropTemplate` wants them. The 2x3 matrices
here map frame pixels to crop pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, floor

import cv2
import numpy as np
from numpy.typing import NDArray

from revisage.pipeline.pixels import Mask, PixelFormat, Rect, align_rect, quantise_mask
from revisage.pipeline.types import Box, CropTemplate, Float, Gray, Image


@dataclass(frozen=True, slots=True)
class Margins:
    """How far a cover goes beyond what bounds a face; shares of the interocular distance."""

    grow: float  # beyond the outline's hull
    feather: float  # how wide the seam outside the cover is
    reach: float  # beyond the hull, how far the detector's box is believed where the hull leaves too much of it bare


EXACT = Margins(grow=0.03, feather=0.09, reach=0.35)  # around landmarks
ROUGH = Margins(grow=0.25, feather=0.2, reach=np.inf)  # around an average face laid over five points
BARE = 0.04  # of the ellipse in the box: more of it outside the hull, and landmarks are taken to be poor
_INNER = 0.92  # of the box, that ellipse: boxes of two views of a face differ by some percent at the border
_FINEST = 4  # samples along a pixel of a crop
_FEW = 0.444  # crop pixels per frame pixel; a crop of fewer is made from the picture at half its size


def align(points: Float, template: CropTemplate, size: int) -> Float:
    """Least-squares similarity (rotation, uniform scale, shift; no mirroring) that takes `points` to the template.

    `points` (K, 2) are pixels of the frame, the same K as the template's. Returns (2, 3) float32, frame -> crop of side
    `size`. Source: Umeyama, PAMI 13(4), 1991, in its closed form for the plane.
    """
    # Complex numbers: a similarity of the plane is z -> a z + b. Plain Python: arrays of five cost ten times as much.
    source = [complex(x, y) for x, y in points.tolist()]
    source_mean, (target, target_mean) = sum(source) / len(source), _target(template, size)
    centred = [z - source_mean for z in source]
    spread = max(sum([z.real * z.real + z.imag * z.imag for z in centred]), 1e-9)
    a = sum([w * z.conjugate() for z, w in zip(centred, target, strict=True)]) / spread
    b = target_mean - a * source_mean
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]], np.float32)


@lru_cache(maxsize=64)
def _target(template: CropTemplate, size: int) -> tuple[tuple[complex, ...], complex]:
    """The template's points about their mean, and that, in a crop of side `size`."""
    target = [complex(x * size - 0.5, y * size - 0.5) for x, y in template.points]
    mean = sum(target) / len(target)
    return tuple(w - mean for w in target), mean


def transform(points: Float, matrix: Float) -> Float:
    """Apply a (2, 3) matrix to (…, 2) points; float32."""
    moved = np.asarray(points, np.float32) @ matrix[:, :2].T + matrix[:, 2]
    return np.asarray(moved, np.float32)


def invert(matrix: Float) -> Float:
    """The (2, 3) matrix that undoes `matrix`."""
    inverse: Float = cv2.invertAffineTransform(matrix).astype(np.float32)
    return inverse


def scale_of(matrix: Float) -> float:
    """Crop pixels per frame pixel."""
    (a, b, _), (c, d, _) = matrix.tolist()
    return float(abs(a * d - b * c) ** 0.5)


def crop(picture: Image, matrix: Float, size: int) -> Image:
    """Resample `picture` into a crop; area-averaged when the crop is smaller than what it shows (no aliasing).

    Much smaller ones from a halved picture: halving is twenty times as fast as turning the same pixels one by one.
    """
    while (scale := scale_of(matrix)) < _FEW and min(picture.shape[:2]) > 1:
        rows, columns = (side // 2 * 2 for side in picture.shape[:2])
        picture = cv2.resize(picture[:rows, :columns], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        matrix = np.hstack([2 * matrix[:, :2], matrix @ np.array([[0.5], [0.5], [1]], np.float32)])
    factor = min(max(1, int(np.ceil(1 / max(scale, 1e-6) - 0.25))), _FINEST)  # more only of a picture a pixel thick
    grown = matrix * factor
    grown[:, 2] += (factor - 1) / 2  # pixel centres at whole numbers
    fine: Image = cv2.warpAffine(
        picture, grown, (size * factor,) * 2, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    if factor > 1:
        fine = cv2.resize(fine, (size, size), interpolation=cv2.INTER_AREA)
    return fine


def shrunk(picture: Image, size: tuple[int, int]) -> Image:
    """`picture` (H, W) or (H, W, 3) at a smaller `size` (width, height), for measuring; every pixel has its share.

    Halved as often as that goes, then resampled: OpenCV averages over exact halves ten times as fast as over others.
    An odd last row or column is left out of a halving.
    """
    while (half := (_halved(picture.shape[1], size[0]), _halved(picture.shape[0], size[1]))) != picture.shape[1::-1]:
        rows, columns = (
            side * (2 if side < whole else 1) for side, whole in zip(half[::-1], picture.shape, strict=False)
        )
        picture = cv2.resize(picture[:rows, :columns], half, interpolation=cv2.INTER_AREA)
    small: Image = cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)
    return small


def _halved(length: int, least: int) -> int:
    return length // 2 if length >= 2 * least else length


def half_sized(layer: Float | Image) -> Float:
    """Means of two by two of (H, W) or (H, W, C); of odd sides the last row or column counts more."""
    size = ((layer.shape[1] + 1) // 2, (layer.shape[0] + 1) // 2)
    return np.asarray(cv2.resize(layer, size, interpolation=cv2.INTER_AREA), np.float32)


def as_large_as(layer: Float, like: Float | Image) -> Float:
    """`layer` stretched over the pixels of `like`, smoothly."""
    return np.asarray(cv2.resize(layer, like.shape[1::-1], interpolation=cv2.INTER_LINEAR), np.float32)


def uncrop(picture: Image, matrix: Float, rect: Rect) -> Image:
    """The part of the frame inside `rect` as the crop `picture` shows it: (h, w, 3) uint8.

    Beyond the crop's border its edge is repeated. Shrunk first where the crop is finer than the frame (no aliasing).
    """
    scale = scale_of(matrix)
    if scale > 1.5:
        side = max(8, round(picture.shape[0] / scale))
        matrix = resized(matrix, side / picture.shape[0])
        picture = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
    # cubic along rows and columns, then linear between the finer pixels: a third of the time of cubic along the turn
    factor = min(4, max(2, round(1 / scale)))
    picture = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    shifted = resized(matrix, factor)
    shifted[:, 2] += shifted[:, :2] @ np.array([rect.x0, rect.y0], np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (rect.width, rect.height)
    warped: Image = cv2.warpAffine(picture, shifted, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return warped


def resized(matrix: Float, factor: float) -> Float:
    """`matrix` into the same crop, resampled by `factor` (pixel centres at whole numbers)."""
    scaled: Float = matrix * np.float32(factor)
    scaled[:, 2] += np.float32((factor - 1) / 2)
    return scaled


@dataclass(frozen=True, slots=True, eq=False)
class FaceRegion:
    """What of a frame one face takes: everything needed to remove, paint, seal and restore it."""

    rect: Rect  # aligned to the chroma grid, inside the picture
    cover: Mask  # (h, w) within rect; where the face may be: replaced entirely
    alpha: Float  # (h, w) 0..1; 1 on `cover`, feathered outward to 0
    touched: Mask  # (h, w); every pixel that compositing changes, in whole chroma blocks


def face_region(
    outline: Float,
    box: Box,
    unit: float,
    fmt: PixelFormat,
    width: int,
    height: int,
    *,
    left: Sequence[Float] = (),
    margins: Margins = ROUGH,
) -> FaceRegion | None:
    """The region of a face in a picture of `width` x `height`, or None when all of it lies outside.

    `unit` is the interocular distance of the face seen from the front, in pixels. The cover is the hull of `outline`
    (N, 2) grown by `margins`. Where that leaves more than `BARE` of the ellipse in the detector's `box` bare, it is
    joined by that ellipse, as far as `margins.reach` if that suffices and all of it if not, so that a bad landmark
    cannot uncover what the detector saw. The hulls of `left`, (K, 2) each, stay as filmed; the seam lies around them.
    """
    feather = max(2, round(margins.feather * unit))
    furthest = margins.grow if margins.reach == np.inf else margins.reach
    reach = max(1, round(furthest * unit)) + feather + 8
    outer = _near(region_rect(outline, box, unit, margins), width, height, reach)
    rect = align_rect(outer, fmt, width, height)
    if rect.width <= 0 or rect.height <= 0:
        return None
    if reach > 4 * max(width, height):  # no face is so large; what is hidden of it is all that could be
        whole = np.ones((rect.height, rect.width), np.bool_)
        return FaceRegion(rect, whole, whole.astype(np.float32), whole)
    outer = _within(outer, rect, reach)  # beyond the picture too: its edge is no edge of the face
    drawn = _cover(outline, box, outer, unit, margins)
    for part in left:
        drawn[_hull(part, outer, feather) > 0] = 0
    inside = np.s_[rect.y0 - outer.y0 : rect.y1 - outer.y0, rect.x0 - outer.x0 : rect.x1 - outer.x0]
    cover, alpha = drawn[inside] > 0, _feather(drawn, feather)[inside]
    return FaceRegion(rect, cover, alpha, quantise_mask(alpha > 0, fmt))


def _within(outer: Rect, rect: Rect, reach: int) -> Rect:
    """Of `outer` what can matter to the pixels of `rect`: no more than `reach` pixels beyond."""
    low = max(outer.x0, (rect.x0 - reach) // 4 * 4), max(outer.y0, (rect.y0 - reach) // 4 * 4)
    high = min(outer.x1, -(-(rect.x1 + reach) // 4) * 4), min(outer.y1, -(-(rect.y1 + reach) // 4) * 4)
    return Rect(*low, *high)


def region_rect(outline: Float, box: Box, unit: float, margins: Margins = ROUGH) -> Rect:
    """The rectangle that `face_region` works in, before it is clipped to the picture; corners on multiples of 4."""
    margin = round(margins.grow * unit) + max(2, round(margins.feather * unit)) + 4
    (left, top), (right, bottom) = outline.min(0).tolist(), outline.max(0).tolist()
    low = (floor((min(left, box[0]) - margin) / 4) * 4, floor((min(top, box[1]) - margin) / 4) * 4)
    high = (ceil((max(right, box[2]) + margin) / 4) * 4, ceil((max(bottom, box[3]) + margin) / 4) * 4)
    return Rect(*low, *high)


def _near(rect: Rect, width: int, height: int, margin: int) -> Rect:
    """What of `rect` is at most about `margin` pixels from the picture: what lies farther off changes nothing in it."""
    margin = ceil(margin / 4) * 4
    right, bottom = ceil((width + margin) / 4) * 4, ceil((height + margin) / 4) * 4
    return Rect(max(rect.x0, -margin), max(rect.y0, -margin), min(rect.x1, right), min(rect.y1, bottom))


def _cover(outline: Float, box: Box, rect: Rect, unit: float, margins: Margins) -> Gray:
    mask = _hull(outline, rect, max(1, round(margins.grow * unit)))
    if margins.reach == np.inf:
        return mask | _ellipse(box, rect, 1.0)
    seen = _ellipse(box, rect, _INNER)
    if _bare(seen, mask) <= BARE:
        return mask
    wider = mask | (_ellipse(box, rect, 1.0) & _hull(outline, rect, max(1, round(margins.reach * unit))))
    return wider if _bare(seen, wider) <= BARE else mask | _ellipse(box, rect, 1.0)


def _ellipse(box: Box, rect: Rect, share: float) -> Gray:
    """(h, w) uint8, 255 on the ellipse that fills `share` of the sides of `box`."""
    x0, y0, x1, y1 = box
    centre = ((x0 + x1 - 1) / 2 - rect.x0, (y0 + y1 - 1) / 2 - rect.y0)
    mask: Gray = np.zeros((rect.height, rect.width), np.uint8)
    return np.asarray(
        cv2.ellipse(mask, (centre, (share * (x1 - x0 + 1), share * (y1 - y0 + 1)), 0.0), 255, -1), np.uint8
    )


def _bare(seen: Gray, mask: Gray) -> float:
    return 1 - cv2.countNonZero(seen & mask) / max(1, cv2.countNonZero(seen))


def _hull(points: Float, rect: Rect, grow: int) -> Gray:
    """(h, w) uint8, 255 on the hull of `points` (N, 2), grown by `grow` pixels."""
    mask: Gray = np.zeros((rect.height, rect.width), np.uint8)
    # OpenCV finds no hull around 0 and -0; adding 0 makes both the same.
    hull = cv2.convexHull((points - np.array([rect.x0, rect.y0])).astype(np.float32) + np.float32(0))
    cv2.fillConvexPoly(mask, np.round(hull * 16).astype(np.int32), 255, cv2.LINE_8, 4)
    return _grown(mask, grow)


def _grown(mask: Gray, grow: int) -> Gray:
    """`cv2.dilate` of a convex area by an ellipse of radius `grow`, row by row: every row of it is one run of pixels.

    OpenCV compares every pixel with the whole ellipse, which takes ten times as long for a large face.
    """
    height, width = mask.shape
    drawn = np.flatnonzero(mask.max(axis=1))
    if not len(drawn):
        return mask
    top, rows = int(drawn[0]), mask[drawn[0] : drawn[-1] + 1] > 0
    left = np.full(len(rows) + 4 * grow, width + 2 * grow, np.int32)  # of the run in a row, `2 * grow` rows around
    right = np.full(len(left), -1 - 2 * grow, np.int32)
    inner = slice(2 * grow, 2 * grow + len(rows))
    left[inner], right[inner] = rows.argmax(axis=1), width - 1 - rows[:, ::-1].argmax(axis=1)
    reach = _reach(grow)
    lefts, rights = _windows(left, len(reach)) - reach, _windows(right, len(reach)) + reach
    first, last = max(0, top - grow), min(height, top + len(rows) + grow)
    here = slice(first - (top - grow), last - (top - grow))
    columns = np.arange(width, dtype=np.int32)
    run = (columns >= lefts.min(axis=1)[here, None]) & (columns <= rights.max(axis=1)[here, None])
    grown: Gray = np.zeros_like(mask)
    grown[first:last] = run.view(np.uint8) * np.uint8(255)
    return grown


def _windows(row: NDArray[np.int32], length: int) -> NDArray[np.int32]:
    """Every `length` numbers of `row` that stand side by side: (N, length), without a copy."""
    return np.ndarray((len(row) - length + 1, length), row.dtype, row, strides=row.strides * 2)


@lru_cache(maxsize=256)
def _reach(grow: int) -> NDArray[np.int32]:
    """How far the ellipse reaches to either side in each of its rows."""
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * grow + 1,) * 2)
    return np.asarray((ellipse.sum(axis=1) - 1) // 2, np.int32)


def _feather(mask: Gray, width: int) -> Float:
    """1 on the mask, falling smoothly to 0 over `width` pixels outside it."""
    distance = cv2.distanceTransform(cv2.bitwise_not(mask), cv2.DIST_L2, 3)
    ramp = np.maximum(1 - distance / np.float32(width), 0)
    smooth = ramp * ramp * (3 - 2 * ramp)
    return np.asarray(cv2.threshold(smooth, 1 / 255, 0, cv2.THRESH_TOZERO)[1], np.float32)
