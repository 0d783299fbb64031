"""Pictures as decoders give them: planes in their own format, cut, pasted and blended. Pure numpy and OpenCV.

Knows no file, codec, key or network. A picture is a list of planes, each at its own resolution and bit depth: Y, U, V;
or Y alone; or G, B, R (FFmpeg's plane order). A picture of odd size has chroma planes of ceil(size / 2).
Only tiles around faces are ever converted to RGB and back: every other sample stays bit-exact.

Colour: ITU-R BT.601-7, BT.709-6 and BT.2020-2 (non-constant luminance), narrow ("tv") and full ("pc") range. Chroma is
taken as centred in its block and constant over it, so that `to_rgb` followed by `blend` gives back the same samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from revisage.pipeline.errors import MediaError
from revisage.pipeline.types import Float, Image

Samples = NDArray[Any]  # (H, W) uint8, or uint16 above 8 bits
Planes = list[Samples]
Mask = NDArray[np.bool_]  # (H, W), at luma resolution

_LUMA_WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}  # Kr, Kb
_SUBSAMPLING = {"420": (1, 1), "422": (1, 0), "444": (0, 0), "440": (0, 1), "411": (2, 0)}
_DEPTHS = {"": 8, "9le": 9, "10le": 10, "12le": 12, "14le": 14, "16le": 16}
# ITU-T H.273, table 4 (FFmpeg's AVColorSpace) -> matrix; all others fall to the picture's height.
_MATRICES = {1: "bt709", 4: "bt601", 5: "bt601", 6: "bt601", 7: "bt709", 9: "bt2020", 10: "bt2020"}
_NARROW, _FULL = 1, 2  # FFmpeg's AVColorRange
_HD = 576  # pictures higher than this and without a tag are taken as BT.709, as players do


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """How samples are laid out and what colour they mean."""

    name: str  # FFmpeg's
    bits: int  # per sample
    sx: int  # log2 of the horizontal chroma subsampling
    sy: int  # log2 of the vertical one
    family: Literal["yuv", "gray", "rgb"]
    full_range: bool
    matrix: Literal["bt601", "bt709", "bt2020"]

    @property
    def dtype(self) -> type[np.uint8] | type[np.uint16]:
        """Of every plane."""
        return np.uint8 if self.bits == 8 else np.uint16

    @property
    def peak(self) -> int:
        """The largest sample value."""
        return (1 << self.bits) - 1

    @property
    def plane_count(self) -> int:
        """One or three."""
        return 1 if self.family == "gray" else 3

    def shifts(self, plane: int) -> tuple[int, int]:
        """Log2 subsampling (horizontal, vertical) of a plane."""
        return (self.sx, self.sy) if self.family == "yuv" and plane else (0, 0)

    def plane_shapes(self, width: int, height: int) -> list[tuple[int, int]]:
        """(rows, columns) of each plane of a picture."""
        shifts = (self.shifts(plane) for plane in range(self.plane_count))
        return [(_ceil_shift(height, sy), _ceil_shift(width, sx)) for sx, sy in shifts]


@dataclass(frozen=True, slots=True)
class Rect:
    """Whole luma pixels, x1 and y1 exclusive."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def width(self) -> int:
        """Columns."""
        return self.x1 - self.x0

    @property
    def height(self) -> int:
        """Rows."""
        return self.y1 - self.y0

    @property
    def inside(self) -> tuple[slice, slice]:
        """Index of its pixels in a picture (H, W, …)."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)


def pixel_format(name: str, colorspace: int, color_range: int, height: int) -> PixelFormat:
    """What FFmpeg calls `name`, with its AVColorSpace and AVColorRange numbers; untagged pictures by their height.

    Raises MediaError for a format that is not planar YUV, grey or RGB of up to 16 bits.
    """
    layout = _layouts().get(name)
    if layout is None:
        raise MediaError(f"pixel format {name} is not supported; convert the video to yuv420p or yuv444p first")
    family, bits, sx, sy = layout
    full = color_range == _FULL or name.startswith("yuvj") or family == "rgb"
    full = full or (family == "gray" and color_range != _NARROW)
    matrix = _MATRICES.get(colorspace) or ("bt709" if height > _HD else "bt601")
    return PixelFormat(name, bits, sx, sy, family, full, matrix)  # type: ignore[arg-type]


def is_supported(name: str) -> bool:
    """Whether `pixel_format` knows it."""
    return name in _layouts()


def align_rect(rect: Rect, fmt: PixelFormat, width: int, height: int) -> Rect:
    """`rect` grown outward to whole chroma blocks and clipped to the picture; may be empty when it lay outside."""
    x0, y0 = max(rect.x0, 0) >> fmt.sx << fmt.sx, max(rect.y0, 0) >> fmt.sy << fmt.sy
    x1 = min(_ceil_shift(rect.x1, fmt.sx) << fmt.sx, width)
    y1 = min(_ceil_shift(rect.y1, fmt.sy) << fmt.sy, height)
    return Rect(min(x0, width), min(y0, height), max(x1, min(x0, width)), max(y1, min(y0, height)))


def cut(planes: Planes, fmt: PixelFormat, rect: Rect) -> Planes:
    """Copies of the samples inside an aligned `rect`."""
    return [np.ascontiguousarray(view).copy() for view in _views(planes, fmt, rect)]


def paste(planes: Planes, fmt: PixelFormat, rect: Rect, tile: Planes, mask: Mask) -> None:
    """Put `tile` into `planes` in place where `mask` (rect.height, rect.width) is set; everything else stays.

    A chroma sample is pasted when any of its luma pixels is set. With a mask from `quantise_mask` that is exact:
    samples inside become the tile's, samples outside keep their bits.
    """
    for plane, (view, new) in enumerate(zip(_views(planes, fmt, rect), tile, strict=True)):
        np.copyto(view, new, where=any_in_block(mask, *fmt.shifts(plane)))


def quantise_mask(mask: Mask, fmt: PixelFormat) -> Mask:
    """`mask` grown to whole chroma blocks, so that luma and chroma agree on what is inside."""
    grown = _spread(any_in_block(mask, fmt.sx, fmt.sy).view(np.uint8), fmt.sx, fmt.sy)
    return np.ascontiguousarray(grown[: mask.shape[0], : mask.shape[1]]).view(np.bool_)


def any_in_block(mask: Mask, sx: int, sy: int) -> Mask:
    """Which of the blocks of 2^sx by 2^sy pixels have any of `mask` (H, W); the picture's edge may cut them."""
    height, width = mask.shape
    missing = (-height % (1 << sy), -width % (1 << sx))
    padded = np.pad(mask, ((0, missing[0]), (0, missing[1]))) if any(missing) else mask
    for _ in range(sy):
        padded = padded[0::2] | padded[1::2]
    for _ in range(sx):
        padded = padded[:, 0::2] | padded[:, 1::2]
    return padded


def to_rgb(tile: Planes, fmt: PixelFormat, *, clip: bool = True) -> Float:
    """The picture as (H, W, 3) float32 RGB in 0..255, whatever its bit depth.

    `clip=False` keeps what samples can hold beyond that range, so that `blend` gives back the same samples always.
    """
    rgb: Float = cv2.transform(_merged(tile, fmt).astype(np.float32), _to_rgb_matrix(fmt))
    return np.clip(rgb, 0, 255, out=rgb) if clip else rgb


def to_rgb8(tile: Planes, fmt: PixelFormat) -> Image:
    """The same as (H, W, 3) uint8, for eyes and networks: a level off here and there, in a sixth of the time."""
    if fmt.bits > 8:
        return np.asarray(cv2.convertScaleAbs(to_rgb(tile, fmt)), np.uint8)
    return np.asarray(cv2.transform(_merged(tile, fmt), _to_rgb_matrix(fmt)), np.uint8)  # rounds and limits


def to_rgb_halved(tile: Planes, fmt: PixelFormat) -> Float:
    """Its means over two by two pixels: (ceil(H / 2), ceil(W / 2), 3) float32 RGB in 0..255."""
    height, width = (_ceil_shift(side, 1) for side in tile[0].shape)
    halved = []
    for plane, samples in enumerate(tile):
        sx, sy = fmt.shifts(plane)
        mean = _block_mean(samples.astype(np.float32), max(0, 1 - sx), max(0, 1 - sy))
        halved.append(_spread(mean, max(0, sx - 1), max(0, sy - 1))[:height, :width])
    rgb: Float = cv2.transform(cv2.merge(halved).reshape(height, width, -1), _to_rgb_matrix(fmt))
    return np.clip(rgb, 0, 255, out=rgb)


def _merged(tile: Planes, fmt: PixelFormat) -> Samples:
    """(H, W, planes) samples as they are, chroma spread over its blocks."""
    height, width = tile[0].shape
    full = [_spread(samples, *fmt.shifts(plane))[:height, :width] for plane, samples in enumerate(tile)]
    merged: Samples = cv2.merge(full).reshape(height, width, -1)
    return merged


def blend(planes: Planes, fmt: PixelFormat, rect: Rect, rgb: Float, alpha: Float) -> None:
    """Mix `rgb` (H, W, 3) float32 0..255 into `planes` in place, `alpha` (H, W) float32 0..1 saying how much.

    Done per plane at the planes' own depth; chroma takes the mean over its block, weighted by alpha, so colour outside
    the mask cannot bleed in. Samples whose alpha is 0 keep their bits. `rect` must be aligned.
    """
    native = cv2.split(cv2.transform(np.ascontiguousarray(rgb, np.float32), _from_rgb_matrix(fmt)))
    alpha = np.ascontiguousarray(alpha, np.float32)
    inside = (alpha > 0).view(np.uint8)
    amounts = {shifts: _block_mean(alpha, *shifts) for shifts in map(fmt.shifts, range(len(planes)))}
    for plane, view in enumerate(_views(planes, fmt, rect)):
        shifts = fmt.shifts(plane)
        painted = cv2.copyTo(native[plane], inside) * alpha  # 0 outside, whatever the colour there
        mixed = view * (1 - amounts[shifts]) + _block_mean(painted, *shifts)
        np.rint(np.minimum(np.maximum(mixed, 0, out=mixed), fmt.peak, out=mixed), out=mixed)
        np.copyto(view, mixed.astype(view.dtype), where=amounts[shifts] > 0)


def sample_range(fmt: PixelFormat) -> tuple[NDArray[np.float64], tuple[float, float, float]]:
    """(3, 3) from RGB in -1..1 to samples in the same units (1: white, the strongest colour), and what they can hold.

    Narrow range leaves room beyond black and white; the limits are a sample value short of its end.
    """
    if fmt.family == "rgb":
        limit = 1 - 2 / fmt.peak
        return np.eye(3), (limit, limit, limit)
    kr, kb = _LUMA_WEIGHTS[fmt.matrix]
    luma = np.array([kr, 1 - kr - kb, kb])
    rows = np.array([luma, (np.array([0, 0, 1]) - luma) / (1 - kb), (np.array([1, 0, 0]) - luma) / (1 - kr)])
    span, black = _luma_range(fmt)
    luma_limit = min(black - 1 + span / 2, fmt.peak - 1 - black - span / 2) / (span / 2)
    half = fmt.peak / 2 if fmt.full_range else 112.0 * (1 << (fmt.bits - 8))
    colour_limit = ((1 << (fmt.bits - 1)) - 2) / half
    return rows, (luma_limit, colour_limit, colour_limit)


def _views(planes: Planes, fmt: PixelFormat, rect: Rect) -> Iterator[Samples]:
    height, width = planes[0].shape
    if align_rect(rect, fmt, width, height) != rect:
        raise ValueError(f"{rect} is not aligned to {fmt.name} in a {width}x{height} picture")
    for plane, samples in enumerate(planes):
        sx, sy = fmt.shifts(plane)
        yield samples[rect.y0 >> sy : _ceil_shift(rect.y1, sy), rect.x0 >> sx : _ceil_shift(rect.x1, sx)]


def _ceil_shift(value: int, shift: int) -> int:
    return -(-value >> shift)


def _spread(samples: NDArray[Any], sx: int, sy: int) -> NDArray[Any]:
    """Every sample repeated over its block."""
    if not (sx or sy):
        return samples
    height, width = samples.shape
    whole: NDArray[Any] = cv2.resize(samples, (width << sx, height << sy), interpolation=cv2.INTER_NEAREST)
    return whole


def _block_mean(values: Float, sx: int, sy: int) -> Float:
    """Mean over each chroma block; a block that the picture's edge cuts counts its own pixels only."""
    if not (sx or sy):
        return values
    height, width = values.shape
    rows, columns = _ceil_shift(height, sy), _ceil_shift(width, sx)
    if (height, width) != (rows << sy, columns << sx):
        return _cut_block_mean(values, rows, columns, sx, sy)
    mean: Float = cv2.resize(values, (columns, rows), interpolation=cv2.INTER_AREA)
    return mean


def _cut_block_mean(values: Float, rows: int, columns: int, sx: int, sy: int) -> Float:
    height, width = values.shape
    padding = ((0, (rows << sy) - height), (0, (columns << sx) - width))
    total = _block_mean(np.pad(values, padding), sx, sy)
    share_y = np.full((rows, 1), 1, np.float32)
    share_x = np.full((1, columns), 1, np.float32)
    share_y[-1] -= padding[0][1] / (1 << sy)
    share_x[0, -1] -= padding[1][1] / (1 << sx)
    mean: Float = total / (share_y * share_x)
    return mean


@lru_cache(maxsize=1)
def _layouts() -> dict[str, tuple[str, int, int, int]]:
    """FFmpeg name -> family, bits, log2 chroma shifts."""
    found: dict[str, tuple[str, int, int, int]] = {}
    for ending, bits in _DEPTHS.items():
        for sampling, (sx, sy) in _SUBSAMPLING.items():
            found[f"yuv{sampling}p{ending}"] = ("yuv", bits, sx, sy)
        found[f"gray{ending}"] = ("gray", bits, 0, 0)
        found[f"gbrp{ending}"] = ("rgb", bits, 0, 0)
    for sampling, (sx, sy) in _SUBSAMPLING.items():
        found[f"yuvj{sampling}p"] = ("yuv", 8, sx, sy)
    return found


@lru_cache(maxsize=64)
def _from_rgb_matrix(fmt: PixelFormat) -> Float:
    """(planes, 4) affine map from RGB 0..255 to sample values."""
    return np.ascontiguousarray(_affine_from_rgb(fmt)[: fmt.plane_count], np.float32)


@lru_cache(maxsize=64)
def _to_rgb_matrix(fmt: PixelFormat) -> Float:
    """(3, planes + 1) affine map from sample values to RGB 0..255."""
    if fmt.family == "gray":
        scale, offset = _luma_range(fmt)
        return np.array([[255 / scale, -255 * offset / scale]] * 3, np.float32)
    affine = np.vstack([_affine_from_rgb(fmt), [0, 0, 0, 1]])
    return np.ascontiguousarray(np.linalg.inv(affine)[:3], np.float32)


def _affine_from_rgb(fmt: PixelFormat) -> NDArray[np.float64]:
    if fmt.family == "rgb":
        return np.array([[0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0]]) * (fmt.peak / 255)
    kr, kb = _LUMA_WEIGHTS[fmt.matrix]
    luma = np.array([kr, 1 - kr - kb, kb])
    blue = (np.array([0, 0, 1]) - luma) / (2 * (1 - kb))
    red = (np.array([1, 0, 0]) - luma) / (2 * (1 - kr))
    scale, offset = _luma_range(fmt)
    chroma_scale = float(fmt.peak) if fmt.full_range else 224.0 * (1 << (fmt.bits - 8))
    rows = np.array([luma * scale, blue * chroma_scale, red * chroma_scale]) / 255
    return np.hstack([rows, [[offset], [1 << (fmt.bits - 1)], [1 << (fmt.bits - 1)]]])


def _luma_range(fmt: PixelFormat) -> tuple[float, float]:
    """(span, black) of Y in sample values."""
    unit = 1 << (fmt.bits - 8)
    return (float(fmt.peak), 0.0) if fmt.full_range else (219.0 * unit, 16.0 * unit)
