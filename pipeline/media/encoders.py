"""Which encoder and container take which video, and what quality means to each. Encodes nothing."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import av

from revisage.pipeline.errors import OutputError
from revisage.pipeline.media.read import VideoReader
from revisage.pipeline.pixels import PixelFormat

_QP_TO_LAMBDA = 118  # FFmpeg's FF_QP2LAMBDA
_ONE_SLICE = (352, 288)  # width, height: FFmpeg's FFV1 encoder refuses a single slice above either


@dataclass(frozen=True, slots=True)
class Encoder:
    """What this program knows of an encoder."""

    quality: str | None = None  # the option that `--crf` sets; None: lossless or fixed
    crf: int = 0  # its default
    options: Mapping[str, str] = field(default_factory=dict)
    lossless: Mapping[str, str] | None = None  # what stands for `--crf 0`
    whole_blocks: bool = False  # takes no picture whose edge cuts a chroma block


_X265 = "log-level=error:info=0"
ENCODERS: Mapping[str, Encoder] = {
    "libx264": Encoder("crf", 18, {"preset": "medium"}, {"qp": "0"}, whole_blocks=True),
    "libx264rgb": Encoder("crf", 18, {"preset": "medium"}, {"qp": "0"}),
    "libx265": Encoder(
        "crf", 18, {"preset": "medium", "x265-params": _X265}, {"x265-params": f"{_X265}:lossless=1"}, whole_blocks=True
    ),
    "libvpx-vp9": Encoder("crf", 18, {"deadline": "good", "cpu-used": "4", "row-mt": "1"}, {"lossless": "1"}),
    "libsvtav1": Encoder("crf", 20, {"preset": "8"}, whole_blocks=True),
    "ffv1": Encoder(options={"level": "3", "slicecrc": "1", "g": "1"}),
    "prores_ks": Encoder(),
    "mjpeg": Encoder("global_quality", 2, {"flags": "+qscale"}),
    "utvideo": Encoder(),
    "png": Encoder(),
}
_PREFERRED = {
    "h264": ("libx264", "libx264rgb"), "hevc": ("libx265",), "vp9": ("libvpx-vp9",), "vp8": ("libvpx-vp9",),
    "av1": ("libsvtav1",), "ffv1": ("ffv1",), "prores": ("prores_ks",), "mjpeg": ("mjpeg",), "utvideo": ("utvideo",),
    "png": ("png",),
}  # fmt: skip
_FALLBACK = ("libx264", "libx264rgb", "libx265", "libvpx-vp9", "libsvtav1", "ffv1")
_CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}


def encoders() -> list[str]:
    """Encoders that this program knows and this machine has."""
    return [name for name in ENCODERS if name in av.codecs_available]


def container_of(output: Path) -> str:
    """FFmpeg's name of the format that `output`'s extension asks for. Raises OutputError for an unknown one."""
    container = _CONTAINERS.get(output.suffix.lower())
    if container is None:
        raise OutputError(f"cannot write {output.suffix or 'a file without extension'}; use {', '.join(_CONTAINERS)}")
    return container


def default_codec(source: str, fmt: PixelFormat, width: int, height: int, container: str) -> str:
    """The encoder for a video of codec `source`: its own where that fits, else the first that changes no sample format.

    Raises OutputError where none fits the container, the pixel format and the size together.
    """
    for name in (*_PREFERRED.get(source, ()), *_FALLBACK):
        if _misfit(name, fmt, width, height, container) is None:
            return name
    raise OutputError(
        f"no encoder here writes {fmt.name} of {width}x{height} into {container}; write to .mkv, or choose with --codec"
    )


def _misfit(name: str, fmt: PixelFormat, width: int, height: int, container: str) -> str | None:
    """Why an encoder cannot take such a video; None where it can."""
    if name not in _container_codecs(container):
        return f"{container} cannot hold it"
    if encoder_format(name, fmt.name) is None:
        return f"it does not take {fmt.name}"
    blocks = name in ENCODERS and ENCODERS[name].whole_blocks
    if blocks and (width % (1 << fmt.sx) or height % (1 << fmt.sy)):
        return f"it does not take {fmt.name} of the odd size {width}x{height}"
    return None


@lru_cache(maxsize=16)
def _container_codecs(container: str) -> frozenset[str]:
    with contextlib.closing(av.open(io.BytesIO(), "w", format=container)) as muxer:
        return frozenset(muxer.supported_codecs)


@lru_cache(maxsize=256)
def encoder_format(codec: str, name: str) -> str | None:
    """The encoder's name for the same samples; None where it would change them."""
    if codec not in av.codecs_available:
        return None
    formats = [f.name for f in av.Codec(codec, "w").video_formats or ()]
    twins = [name, name.replace("yuvj", "yuv"), *(["rgb24", "bgr0"] if name == "gbrp" else [])]
    return next((twin for twin in twins if twin in formats or not formats), None)


def ffv1_layout(fmt: PixelFormat, width: int, height: int) -> tuple[tuple[int, int], dict[str, str]]:
    """The size in which FFV1 stores a tile, and its option of slices.

    One slice is smallest, and takes every size. A larger tile must have four or more. FFmpeg chooses how many, which it
    can for whole chroma blocks, two of them a side; of others, narrow and odd ones, it refuses some.
    """
    if width <= _ONE_SLICE[0] and height <= _ONE_SLICE[1]:
        return (width, height), {"slices": "1"}
    return (max(_whole(width, fmt.sx), 2 << fmt.sx), max(_whole(height, fmt.sy), 2 << fmt.sy)), {}


def whole_blocks(fmt: PixelFormat, width: int, height: int) -> tuple[int, int]:
    """The smallest size from there on whose edges cut no chroma block."""
    return _whole(width, fmt.sx), _whole(height, fmt.sy)


def _whole(length: int, shift: int) -> int:
    return -(-length >> shift) << shift


def check_codec(name: str, like: VideoReader, container: str) -> str:
    try:
        video = av.Codec(name, "w").type == "video"
    except ValueError:
        video = False
    if not video:
        raise OutputError(f"there is no video encoder {name} here; use one of {', '.join(encoders())}")
    reason = _misfit(name, like.pix_fmt, like.width, like.height, container)
    if reason:
        raise OutputError(f"encoder {name} does not fit: {reason}; choose another with --codec, or leave it out")
    return name


def encoder_options(name: str, crf: int | None, extra: Mapping[str, str] | None) -> dict[str, str]:
    encoder = ENCODERS.get(name, Encoder())
    if crf is not None and encoder.quality is None and crf != 0:
        raise OutputError(f"encoder {name} has no quality to choose; leave out --crf")
    options = dict(encoder.options)
    if crf == 0 and encoder.lossless:
        options |= encoder.lossless
    elif encoder.quality:
        value = encoder.crf if crf is None else crf
        options[encoder.quality] = str(value * _QP_TO_LAMBDA if encoder.quality == "global_quality" else value)
    return options | dict(extra or {})


def with_fields(name: str, options: Mapping[str, str], *, bottom_first: bool) -> dict[str, str]:
    """`options` of an encoder that keeps the fields of an interlaced picture apart; as they are where none does."""
    if not keeps_fields(name):
        return dict(options)
    order = {} if name != "libx264" else {"x264-params": _joined(options, "bff=1" if bottom_first else "tff=1")}
    return {**options, "flags": f"{options.get('flags', '')}+ildct+ilme", **order}


def _joined(options: Mapping[str, str], more: str) -> str:
    return ":".join(filter(None, [options.get("x264-params"), more]))


def keeps_fields(name: str) -> bool:
    """Does this encoder keep the fields of an interlaced picture apart, and say which is first?"""
    return name in {"libx264", "prores_ks"}
