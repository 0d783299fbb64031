"""Where in a frame a face's pixels carry another, sample by sample, and how they are read and written there.

    PlacedFace ─► Carriage ─► look: a square of the frame as a picture ─► CarryRequest        picture ─► painting

A *carriage* is a square of whole samples, upright and on the frame's own grid, so that what a network makes can be
written and read again without resampling. Faces larger than a crop are carried at half, a quarter … of their size:
there an *element* is the mean of k x k pixels. Knows no file, key or network.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from itertools import product
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from revisage.models.base import CarryRequest, Descent, FaceRequest, Tile
from revisage.models.completion import completed
from revisage.models.conditioning import REMOVED
from revisage.models.layout import CONTOUR_COUNT, LANDMARK_COUNT
from revisage.pipeline import geometry, limits
from revisage.pipeline.composite import SOLID, PlacedFace
from revisage.pipeline.errors import TamperedError
from revisage.pipeline.pixels import Mask, PixelFormat, Planes, Rect, align_rect, cut, sample_range, to_rgb
from revisage.pipeline.types import Float, Gray, Image

_FINE = 8  # landmarks are kept in eighths of a pixel
_GRID = 8  # sides of squares are multiples of it: they change seldom, and every video's blocks fit
_STEP = 4  # elements; squares lie on multiples of it, so that whoever has lost the index can try them all
_FARTHEST = 2.5  # largest value of a painted sample that is kept apart from larger ones; 1 is white
_SHOULDER = 0.3  # of the range that samples can hold is for values beyond the rest
_GREY = REMOVED / 127.5 - 1  # what stands where nothing is known


@dataclass(frozen=True, slots=True)
class Square:
    """Where a carriage lies."""

    x: int  # left and top pixel of the frame, may lie outside; multiples of four elements, a video's blocks too
    y: int
    side: int  # elements
    factor: int  # pixels per element: 1, 2, 4 …

    def rect(self) -> Rect:
        """In pixels of the frame, which it may leave."""
        extent = self.side * self.factor
        return Rect(self.x, self.y, self.x + extent, self.y + extent)


@dataclass(frozen=True, slots=True, eq=False)
class Carriage:
    """All that both directions must agree on about one face in one frame."""

    square: Square
    landmarks: Float  # (LANDMARK_COUNT, 2), in pixels of the frame, rounded
    own: Mask  # (N, N): elements that carry
    unknown: Mask  # (N, N): elements that carry nothing and are not as filmed, or not in the picture


@dataclass(frozen=True, slots=True)
class Carry:
    """How much of the original lives in the pixels, and how it got there."""

    amount: float = 1.0  # above 0, at most 1
    descent: Descent = field(default_factory=Descent)
    seconds: float = 2.0  # a track's noise and signs are new after so long, so that a known frame opens no more

    def __post_init__(self) -> None:
        if not 0 < self.amount <= 1:
            raise ValueError(f"carry must lie above 0 and not above 1, not {self.amount}")
        if not 0.01 <= self.seconds <= 1e6:
            raise ValueError(f"a stretch must last 0.01 s to 1e6 s, not {self.seconds}")

    def stretch(self, ticks: int, time_base: Fraction) -> int:
        """The number of the stretch that lies `ticks` after a video's first frame."""
        return int(ticks * time_base / Fraction(self.seconds))

    def to_json(self) -> dict[str, Any]:
        """What the index keeps beside the amount."""
        return {"sigma": self.descent.sigma, "steps": self.descent.steps, "seconds": self.seconds}

    @classmethod
    def from_json(cls, amount: float, fields: object) -> Carry:
        """What `to_json` made. Raises TamperedError for anything else."""
        try:
            sigma, steps, seconds = (fields[name] for name in ("sigma", "steps", "seconds"))  # type: ignore[index]
            return cls(amount, Descent(float(sigma), int(steps)), float(seconds))
        except (KeyError, TypeError, ValueError):
            raise TamperedError("how the pixels carry is not readable: get a sound copy of the index") from None


def lay_out(
    faces: Sequence[PlacedFace],
    fmt: PixelFormat,
    width: int,
    height: int,
    size: int,
    squares: Sequence[Square] | None = None,
) -> list[Carriage]:
    """One carriage per face of a frame, in crops of `size`; `squares` where they are known better than from the faces.

    What two faces touch carries nothing for either, or one key would open both.
    """
    squares = squares or [_square(face, size) for face in faces]
    times = np.zeros((height, width), np.uint8)
    for face in faces:
        times[face.region.rect.inside] += face.region.touched
    touched = [_framed(face, height, width) & (times == 1) for face in faces]
    own = [_whole(mask, square, _block(fmt, square.factor)) for mask, square in zip(touched, squares, strict=True)]
    changed = np.zeros((height, width), np.bool_)
    for face, mask, square in zip(faces, own, squares, strict=True):
        changed[face.region.rect.inside] |= face.region.cover
        _write(changed, square, mask)
    return [
        Carriage(square, _rounded(face), mask, ~mask & _any(changed, square))
        for face, square, mask in zip(faces, squares, own, strict=True)
    ]


def look(carriage: Carriage, planes: Planes, fmt: PixelFormat) -> Float:
    """(3, N, N) float32 RGB, -1..1 and what samples can hold beyond: the frame inside the square."""
    square, (height, width) = carriage.square, planes[0].shape
    whole = square.rect()
    seen = align_rect(whole, fmt, width, height)
    rgb = to_rgb(cut(planes, fmt, seen), fmt, clip=False)
    margins = (seen.y0 - whole.y0, whole.y1 - seen.y1, seen.x0 - whole.x0, whole.x1 - seen.x1)
    rgb = cv2.copyMakeBorder(rgb, *margins, cv2.BORDER_REPLICATE)
    if square.factor > 1:
        rgb = cv2.resize(rgb, (square.side, square.side), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray((rgb / np.float32(127.5) - 1).transpose(2, 0, 1))


def request_for(
    carriage: Carriage, picture: Float, fmt: PixelFormat, size: int, code: Float, noise: Float
) -> CarryRequest:
    """The network's view of a face whose square shows `picture` (see `look`), without a pixel of the face in it."""
    square, hidden = carriage.square, carriage.own | carriage.unknown
    around = np.where(hidden, np.float32(0), picture)
    shown = np.where(hidden, np.float32(_GREY), np.clip(picture, -1, 1)).transpose(1, 2, 0)
    pixels: Image = np.rint((np.ascontiguousarray(shown) + 1) * 127.5).astype(np.uint8)
    grey: Gray = np.where(hidden, np.uint8(255), np.uint8(0))
    covered = cv2.resize(grey, (size, size), interpolation=cv2.INTER_LINEAR) > 0
    background: Image = cv2.resize(pixels, (size, size), interpolation=cv2.INTER_LINEAR)
    background[covered] = REMOVED
    mask: Gray = np.where(covered, np.uint8(255), np.uint8(0))
    scale = size / (square.side * square.factor)
    landmarks = (carriage.landmarks - np.array([square.x, square.y], np.float32) + 0.5) * np.float32(scale) - 0.5
    face = FaceRequest(background, mask, landmarks.astype(np.float32), code, noise)
    return CarryRequest(face, Tile(square.side, carriage.own, around, _block(fmt, square.factor)))


def packed(carriage: Carriage, picture: Float, fmt: PixelFormat) -> Float:
    """`picture` (3, N, N), whose values may lie anywhere, with those that carry pressed into what samples can hold.

    Brightness and each colour on their own, so that elements with one colour keep one; `found` undoes it.
    """
    return np.where(carriage.own, _mapped(picture, fmt, _pressed), picture)


def found(carriage: Carriage, planes: Planes, fmt: PixelFormat) -> Float:
    """As `look`, in a frame that was painted: elements that carry as they were before `packed`."""
    picture = look(carriage, planes, fmt)
    return np.where(carriage.own, _mapped(picture, fmt, _released), picture)


def painting(
    carriage: Carriage, picture: Float, around: Float, face: PlacedFace, fmt: PixelFormat
) -> tuple[Float, Float]:
    """`picture` for `face.region.rect`: (h, w, 3) float32 RGB and (h, w) how much, 0 or 1, each as `blend` wants them.

    The mean over every element that carries is the picture's value; `around` is what the square shows otherwise. What
    the face covers and no element carries is solid grey.
    """
    square, rect = carriage.square, face.region.rect
    full = np.where(carriage.own, picture, around).transpose(1, 2, 0).astype(np.float32)
    if square.factor > 1:
        full = _enlarged(full, square.factor, fmt)
    inside = np.s_[rect.y0 - square.y : rect.y1 - square.y, rect.x0 - square.x : rect.x1 - square.x]
    own = np.kron(carriage.own, np.ones((square.factor,) * 2, np.bool_))[inside]
    rgb = np.where(own[..., None], (full[inside] + 1) * np.float32(127.5), np.array(SOLID, np.float32))
    return rgb.astype(np.float32), (own | face.region.cover).astype(np.float32)


def _enlarged(picture: Float, factor: int, fmt: PixelFormat) -> Float:
    """(N, N, 3) -> (kN, kN, 3), smooth, but with the picture's values as exact means over k x k pixels.

    Where the smooth surface would leave what samples can hold, it is flattened towards the mean.
    """
    side, extent = len(picture), (len(picture) * factor,) * 2
    smooth = cv2.resize(picture, extent, interpolation=cv2.INTER_CUBIC)
    means = cv2.resize(smooth, (side, side), interpolation=cv2.INTER_AREA)
    detail = smooth - cv2.resize(means, extent, interpolation=cv2.INTER_NEAREST)
    matrix, limits = sample_range(fmt)
    room = np.maximum(np.array(limits) - np.abs(picture @ matrix.T), 0)
    swing = np.abs(detail @ matrix.T).reshape(side, factor, side, factor, 3).max(axis=(1, 3))
    share = np.minimum(room / np.maximum(swing, 1e-6), 1).min(axis=2).astype(np.float32)
    base, much = (cv2.resize(p, extent, interpolation=cv2.INTER_NEAREST) for p in (picture, share))
    return np.asarray(base + much[..., None] * detail, np.float32)


def restoration(carriage: Carriage, picture: Float, width: int, height: int) -> tuple[Rect, Float, Float]:
    """`picture` for the part of the square inside a frame of `width` x `height`: rectangle, RGB and how much."""
    square = carriage.square
    whole = square.rect()
    x0, y0 = min(max(whole.x0, 0), width), min(max(whole.y0, 0), height)
    rect = Rect(x0, y0, max(x0, min(whole.x1, width)), max(y0, min(whole.y1, height)))
    full = np.clip(picture.transpose(1, 2, 0), -1, 1).astype(np.float32)
    own = carriage.own
    if square.factor > 1:
        extent = (square.side * square.factor,) * 2
        full = cv2.resize(full, extent, interpolation=cv2.INTER_CUBIC)
        own = np.kron(own, np.ones((square.factor,) * 2, np.bool_))
    inside = np.s_[rect.y0 - square.y : rect.y1 - square.y, rect.x0 - square.x : rect.x1 - square.x]
    return rect, (full[inside] + 1) * np.float32(127.5), own[inside].astype(np.float32)


# -- in an index -------------------------------------------------------------------------------------------------------


def dump(carriage: Carriage, before: Carriage | None) -> str:
    """A carriage as text for the index, landmarks as differences to those of the frame `before`."""
    points = _eighths(carriage.landmarks) - (_eighths(before.landmarks) if before else 0)
    square = carriage.square
    head = np.array([square.x, square.y, square.side, square.factor], "<i4").tobytes()
    bits = np.packbits(np.concatenate([carriage.own.ravel(), carriage.unknown.ravel()])).tobytes()
    return base64.b64encode(zlib.compress(head + points.astype("<i4").tobytes() + bits, 9)).decode("ascii")


def load(text: object, before: Carriage | None, size: int) -> Carriage:
    """What `dump` made, for crops of side `size`. Raises TamperedError for anything else.

    An index may hold the contours alone: irises and surface, which no painter of that time looked at, are filled in.
    """
    limit = 16 + 8 * LANDMARK_COUNT + size * size  # no index may make us unpack more
    try:
        unpacked = zlib.decompressobj()
        raw = unpacked.decompress(base64.b64decode(text, validate=True), limit)  # type: ignore[arg-type]
        x, y, side, factor = (int(v) for v in np.frombuffer(raw[:16], "<i4"))
        if not (0 < side <= size and 0 < factor <= 64 and max(abs(x), abs(y)) < 1 << 17 and unpacked.eof):
            raise ValueError
        points_end = len(raw) - -(-2 * side * side // 8)
        count = (points_end - 16) // 8
        if count not in (CONTOUR_COUNT, LANDMARK_COUNT) or points_end != 16 + 8 * count:
            raise ValueError
        points = np.frombuffer(raw[16:points_end], "<i4").reshape(count, 2).astype(np.int64)
        bits = np.unpackbits(np.frombuffer(raw[points_end:], np.uint8), count=2 * side * side).reshape(2, side, side)
    except (ValueError, TypeError, binascii.Error, zlib.error):
        raise TamperedError("what the pixels carry is not described readably: get a sound copy of the index") from None
    points = points + (_eighths(before.landmarks[:count]) if before else 0)
    if np.abs(points).max() > _FINE * limits.FARTHEST:
        raise TamperedError("what the pixels carry lies far outside any picture: get a sound copy of the index")
    landmarks = completed((points / _FINE).astype(np.float32))
    return Carriage(Square(x, y, side, factor), landmarks, bits[0].astype(np.bool_), bits[1].astype(np.bool_))


def dump_code(code: Float) -> str:
    """An identity code as text for the index."""
    return base64.b64encode(np.asarray(code, "<f4").tobytes()).decode("ascii")


def load_code(text: object) -> Float:
    """What `dump_code` made. Raises TamperedError for anything else."""
    try:
        code = np.frombuffer(base64.b64decode(text, validate=True), "<f4").astype(np.float32)  # type: ignore[arg-type]
    except (ValueError, TypeError, binascii.Error):
        code = np.zeros(0, np.float32)
    if not code.size or not np.isfinite(code).all():
        raise TamperedError("the identity code is not readable: get a sound copy of the index")
    return code


# -- range -------------------------------------------------------------------------------------------------------------


def _mapped(picture: Float, fmt: PixelFormat, curve: Callable[[Float, float], Float]) -> Float:
    """Every sample through `curve`, which gets the largest value that a sample can hold; 1 is white."""
    matrix, limits = sample_range(fmt)
    samples = np.einsum("kc,chw->khw", matrix, picture)
    moved = np.stack([curve(plane, limit) for plane, limit in zip(samples, limits, strict=True)])
    back: Float = np.einsum("ck,khw->chw", np.linalg.inv(matrix), moved).astype(np.float32)
    return back


def _pressed(values: Float, limit: float) -> Float:
    """Straight up to the knee, then a logarithm that reaches `limit` at `_FARTHEST`."""
    knee, bend = _curve(limit)
    over = np.maximum(np.abs(values) - knee, 0)
    pressed: Float = np.sign(values) * (np.minimum(np.abs(values), knee) + bend * np.log1p(over / bend))
    return pressed


def _released(values: Float, limit: float) -> Float:
    knee, bend = _curve(limit)
    over = np.minimum(np.maximum(np.abs(values) - knee, 0), limit - knee)
    released: Float = np.sign(values) * (np.minimum(np.abs(values), knee) + bend * np.expm1(over / bend))
    return released


@lru_cache(maxsize=64)
def _curve(limit: float) -> tuple[float, float]:
    """Where the curve begins to bend, and how."""
    knee = limit - _SHOULDER
    bend = brentq(lambda a: a * np.log1p((_FARTHEST - knee) / a) - _SHOULDER, 1e-3, 10)
    return knee, float(bend)


# -- squares -----------------------------------------------------------------------------------------------------------


def _square(face: PlacedFace, size: int) -> Square:
    """As large as the crop that `face` was placed in, larger where its region would not fit; around the same centre."""
    rect, centre = face.region.rect, _centre(face, size)
    reach = max(rect.x1 - centre[0], centre[0] - rect.x0, rect.y1 - centre[1], centre[1] - rect.y0)
    wanted, factor = size * geometry.scale_of(geometry.invert(face.matrix)), 1
    while (extent := max(wanted, 2 * (reach + _STEP * factor / 2))) > size * factor:
        factor *= 2
    side = min(size, max(2 * _GRID, int(np.ceil(extent / factor / _GRID)) * _GRID))
    return _square_at(centre, side, factor)


def squares_near(face: PlacedFace, size: int) -> list[Square]:
    """Where a carriage may lie whose face was found a little elsewhere, likeliest first: a few sizes, nine places."""
    likely, (x, y) = _square(face, size), _centre(face, size)
    extent = likely.side * likely.factor
    sides = [(likely.side, likely.factor)]
    for other in (extent + _GRID * likely.factor, extent - _GRID * likely.factor):
        factor = 1
        while other > size * factor:
            factor *= 2
        sides.append((max(2 * _GRID, int(np.ceil(other / factor / _GRID)) * _GRID), factor))
    shifts = sorted(product((0, -_STEP, _STEP), repeat=2), key=lambda shift: abs(shift[0]) + abs(shift[1]))
    steps = [(dx, dy, side, factor) for dx, dy in shifts for side, factor in sides]
    near = [_square_at((x + dx * factor, y + dy * factor), side, factor) for dx, dy, side, factor in steps]
    return list(dict.fromkeys(near))


def _square_at(centre: Sequence[float], side: int, factor: int) -> Square:
    """The square on the grid whose centre lies nearest to `centre`."""
    step = _STEP * factor
    x, y = (round((c - side * factor / 2) / step) * step for c in centre)
    return Square(x, y, side, factor)


def _centre(face: PlacedFace, size: int) -> tuple[float, float]:
    """The middle of the crop that `face` was placed in, in pixels of the frame, whose corner is 0, 0."""
    middle = np.array([[(size - 1) / 2] * 2], np.float32)
    x, y = geometry.transform(middle, geometry.invert(face.matrix))[0].tolist()
    return x + 0.5, y + 0.5


def _block(fmt: PixelFormat, factor: int) -> tuple[int, int]:
    """Elements that share one colour, rows and columns."""
    if fmt.family == "gray":
        return 0, 0
    sx, sy = fmt.shifts(1)
    return max(1, (1 << sy) // factor), max(1, (1 << sx) // factor)


def _rounded(face: PlacedFace) -> Float:
    landmarks = geometry.transform(face.landmarks, geometry.invert(face.matrix))
    return (_eighths(landmarks) / _FINE).astype(np.float32)


def _eighths(landmarks: Float) -> NDArray[Any]:
    whole: NDArray[Any] = np.rint(np.asarray(landmarks, np.float64) * _FINE).astype(np.int64)
    return whole


def _framed(face: PlacedFace, height: int, width: int) -> Mask:
    mask = np.zeros((height, width), np.bool_)
    mask[face.region.rect.inside] = face.region.touched
    return mask


def _elements(mask: Mask, square: Square, beyond: bool) -> NDArray[Any]:
    """(N, N, k, k): the pixels of every element; `beyond` stands for those outside the picture."""
    whole, (height, width) = square.rect(), mask.shape
    rows, columns = np.arange(whole.y0, whole.y1), np.arange(whole.x0, whole.x1)
    inside = np.ix_((rows >= 0) & (rows < height), (columns >= 0) & (columns < width))
    pixels = np.full((whole.height, whole.width), beyond)
    pixels[inside] = mask[max(whole.y0, 0) : max(whole.y1, 0), max(whole.x0, 0) : max(whole.x1, 0)]
    side, factor = square.side, square.factor
    return pixels.reshape(side, factor, side, factor).transpose(0, 2, 1, 3)


def _whole(mask: Mask, square: Square, block: tuple[int, int]) -> Mask:
    """(N, N): elements all of whose pixels are set, in whole blocks of one colour."""
    whole = np.asarray(_elements(mask, square, beyond=False).all(axis=(2, 3)))
    rows, columns = (max(1, n) for n in block)
    blocks = whole.reshape(square.side // rows, rows, square.side // columns, columns).all(axis=(1, 3))
    return np.kron(blocks, np.ones((rows, columns), np.bool_))


def _any(mask: Mask, square: Square) -> Mask:
    """(N, N): elements with a pixel that is set, or outside the picture."""
    return np.asarray(_elements(mask, square, beyond=True).any(axis=(2, 3)))


def _write(mask: Mask, square: Square, elements: Mask) -> None:
    """Set the pixels of `elements` in `mask`, in place."""
    whole, (height, width) = square.rect(), mask.shape
    pixels = np.kron(elements, np.ones((square.factor,) * 2, np.bool_))
    rect = Rect(max(whole.x0, 0), max(whole.y0, 0), min(whole.x1, width), min(whole.y1, height))
    if rect.width > 0 and rect.height > 0:
        mask[rect.inside] |= pixels[rect.y0 - whole.y0 : rect.y1 - whole.y0, rect.x0 - whole.x0 : rect.x1 - whole.x0]
