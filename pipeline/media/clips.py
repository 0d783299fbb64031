"""Clips of the seal: a track's original tiles and their masks as a small Matroska file. Knows no key and no track.

In memory only: an original pixel never touches a disk.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.container import Flags
from av.error import FFmpegError

from revisage.pipeline.errors import DamagedMediaError, MediaError
from revisage.pipeline.media.encoders import encoder_format, ffv1_layout, whole_blocks
from revisage.pipeline.media.frame import planar_name, plane_views
from revisage.pipeline.media.source import reason
from revisage.pipeline.media.whole import matroska_end
from revisage.pipeline.pixels import Mask, PixelFormat, Planes, is_supported, pixel_format

_CLIP_QP = 16  # constant quantiser: bounds the error whatever the content; 45 dB for white noise, more for pictures
_GREY = pixel_format("gray", 0, 2, 0)


def encode_clip(
    tiles: Sequence[Planes],
    masks: Sequence[Mask],
    fmt: PixelFormat,
    *,
    lossless: bool,
    pts: Sequence[int],
    time_base: Fraction,
) -> bytes:
    """A Matroska file: stream 0 the tiles, stream 1 their masks (grey, 0 or 255, FFV1), shown at `pts` - `pts[0]`.

    All tiles are of one size, which may be odd; the file may hold more on the right and below. Lossless tiles are FFV1,
    others H.264 of at least 40 dB PSNR in the same pixel format; formats that H.264 does not take are FFV1 always.
    Raises MediaError where neither takes them.
    """
    if not tiles or not len(tiles) == len(masks) == len(pts):
        raise ValueError(f"a clip needs as many masks and times as tiles: {len(tiles)}, {len(masks)}, {len(pts)}")
    try:
        return _muxed(tiles, masks, fmt, lossless=lossless, pts=pts, time_base=time_base)
    except FFmpegError as error:
        size = "{1}x{0}".format(*tiles[0][0].shape)
        raise MediaError(f"a face of {size} {fmt.name} cannot be sealed ({reason(error)}); use --seal off") from error


def _muxed(
    tiles: Sequence[Planes],
    masks: Sequence[Mask],
    fmt: PixelFormat,
    *,
    lossless: bool,
    pts: Sequence[int],
    time_base: Fraction,
) -> bytes:
    height, width = tiles[0][0].shape
    buffer = io.BytesIO()
    with contextlib.closing(av.open(buffer, "w", format="matroska")) as muxer:
        muxer.flags |= Flags.bitexact.value
        colour = _add_tile_stream(muxer, fmt, width, height, time_base, lossless=lossless)
        size, slices = ffv1_layout(_GREY, width, height)
        shape = _add_clip_stream(muxer, "ffv1", "gray", size, time_base, level="3", **slices)
        for tile, mask, time in zip(tiles, masks, pts, strict=True):
            muxer.mux(colour.encode(_clip_picture(tile, colour, fmt, time - pts[0], time_base)))
            grey = [np.where(mask, np.uint8(255), np.uint8(0))]
            muxer.mux(shape.encode(_clip_picture(grey, shape, _GREY, time - pts[0], time_base)))
        muxer.mux(colour.encode(None))
        muxer.mux(shape.encode(None))
    return buffer.getvalue()


def decode_clip(data: bytes, fmt: PixelFormat, width: int, height: int) -> Iterator[tuple[Planes, Mask]]:
    """Tiles and masks of a clip by `encode_clip`, in order. Raises DamagedMediaError for anything unexpected."""
    if matroska_end(io.BytesIO(data)) != len(data):
        raise DamagedMediaError("sealed clip is cut short or no clip at all; get an undamaged copy")
    try:
        with (
            av.open(io.BytesIO(data), format="matroska") as first,
            av.open(io.BytesIO(data), format="matroska") as second,
        ):
            if [s.type for s in first.streams] != ["video", "video"]:
                raise DamagedMediaError("sealed clip does not hold two video streams; it was not made by this program")
            tiles = _clip_planes(first, 0, fmt, width, height)
            masks = _clip_planes(second, 1, _GREY, width, height)
            for tile, grey in zip(tiles, masks, strict=True):
                yield tile, grey[0] > 127
    except FFmpegError as error:
        raise DamagedMediaError(f"sealed clip does not decode ({reason(error)}); get an undamaged copy") from error
    except ValueError as error:
        raise DamagedMediaError(
            "sealed clip holds unequal numbers of tiles and masks; get an undamaged copy"
        ) from error


def _add_tile_stream(
    muxer: Any, fmt: PixelFormat, width: int, height: int, time_base: Fraction, *, lossless: bool
) -> Any:
    name = None if lossless or fmt.family != "yuv" else encoder_format("libx264", fmt.name)
    if name is None:
        plain = encoder_format("ffv1", fmt.name)
        if plain is None:
            raise MediaError(f"pixels of {fmt.name} cannot be sealed; use --seal off or convert the video first")
        size, slices = ffv1_layout(fmt, width, height)
        stream = _add_clip_stream(muxer, "ffv1", plain, size, time_base, level="3", slicecrc="1", **slices)
    else:
        size = whole_blocks(fmt, width, height)
        options = {"preset": "superfast", "qp": str(_clip_qp(fmt)), "threads": "1"}
        stream = _add_clip_stream(muxer, "libx264", name, size, time_base, **options)
    if fmt.family == "yuv":
        stream.color_range = 2 if fmt.full_range else 1
        stream.colorspace = {"bt601": 6, "bt709": 1, "bt2020": 9}[fmt.matrix]
    return stream


def _clip_qp(fmt: PixelFormat) -> int:
    """x264 quantises chroma of 4:4:4 six steps coarser, and counts from -12 at 10 bits."""
    return _CLIP_QP - (3 if fmt.sx == 0 else 0) + (6 if fmt.bits > 8 else 0)


def _add_clip_stream(
    muxer: Any, codec: str, pix_fmt: str, size: tuple[int, int], time_base: Fraction, **options: str
) -> Any:
    stream = muxer.add_stream(codec, rate=25, options=options)
    stream.width, stream.height = size
    stream.pix_fmt = pix_fmt
    stream.codec_context.time_base = stream.time_base = time_base
    return stream


def _clip_picture(planes: Planes, stream: Any, fmt: PixelFormat, pts: int, time_base: Fraction) -> av.VideoFrame:
    """A picture of the stream's size; what the tile lacks of it repeats the tile's edge."""
    name = stream.pix_fmt if is_supported(stream.pix_fmt) else fmt.name  # packed RGB: the encoder's own conversion
    picture = av.VideoFrame(stream.width, stream.height, name)
    for view, samples in zip(plane_views(picture, fmt), planes, strict=True):
        grow = ((0, view.shape[0] - samples.shape[0]), (0, view.shape[1] - samples.shape[1]))
        view[...] = np.pad(samples, grow, "edge") if any(grow[0] + grow[1]) else samples
    picture.pts, picture.time_base = pts, time_base
    return picture


def _clip_planes(container: Any, index: int, fmt: PixelFormat, width: int, height: int) -> Iterator[Planes]:
    """The pictures of one stream, cut to their true size."""
    stored = {(width, height), whole_blocks(fmt, width, height), ffv1_layout(fmt, width, height)[0]}
    shapes = fmt.plane_shapes(width, height)
    stream = container.streams[index]
    stream.codec_context.thread_count = 1  # clips are small and many
    for picture in container.decode(stream):
        name = planar_name(picture.format.name)
        same = name.replace("yuvj", "yuv") == fmt.name.replace("yuvj", "yuv")
        if not same or (picture.width, picture.height) not in stored or picture.is_corrupt:
            raise DamagedMediaError("sealed clip does not have the size and format of its tiles; get an undamaged copy")
        views = plane_views(picture if name == picture.format.name else picture.reformat(format=name), fmt)
        yield [view[:rows, :columns].copy() for view, (rows, columns) in zip(views, shapes, strict=True)]
