"""One decoded picture and its planes, in the decoder's own layout and depth. Knows no file and no codec."""

from __future__ import annotations

import re
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from revisage.pipeline.pixels import PixelFormat, Planes, is_supported
from revisage.pipeline.types import Image


class Frame:
    """One decoded picture. `planes` may be edited in place and handed to `VideoWriter.write`."""

    __slots__ = ("_picture", "_planes", "_reformatter", "format", "index", "pts")

    def __init__(
        self, index: int, pts: int, picture: av.VideoFrame, format: PixelFormat, reformatter: VideoReformatter
    ) -> None:
        self.index = index  # 0-based, in presentation order
        self.pts = pts  # in the reader's `time_base`
        self.format = format
        self._picture = picture if picture.format.name == format.name else picture.reformat(format=format.name)
        self._planes: Planes | None = None
        self._reformatter = reformatter  # shared by all frames: setting one up costs ten times one use of it

    @property
    def width(self) -> int:
        """Stored columns, before any rotation."""
        return int(self._picture.width)

    @property
    def height(self) -> int:
        """Stored rows, before any rotation."""
        return int(self._picture.height)

    @property
    def duration(self) -> int:
        """How long it is shown, in the reader's time base; 0 where the file does not say."""
        return int(self._picture.duration or 0)

    @property
    def planes(self) -> Planes:
        """Contiguous writable copies of the planes, made once and the same ever after."""
        if self._planes is None:
            self._planes = [view.copy() for view in plane_views(self._picture, self.format)]
        return self._planes

    def rgb(self, width: int | None = None, height: int | None = None) -> Image:
        """The decoded picture as (height, width, 3) uint8 RGB, scaled by swscale; for detection only."""
        colour: dict[str, Any] = _source_colour(self.format)
        scaled = self._reformatter.reformat(self._picture, width, height, "rgb24", interpolation="BILINEAR", **colour)
        return np.asarray(scaled.to_ndarray(), np.uint8)


def filled(frame: Frame, planes: Planes, name: str) -> av.VideoFrame:
    """`frame`'s picture with other samples. The decoder's picture is kept for its side data (captions, HDR)."""
    picture = frame._picture
    if name == frame.format.name.replace("yuvj", "yuv") != frame.format.name:
        picture = av.VideoFrame(frame.width, frame.height, name)
    else:
        picture.make_writable()
    for view, samples in zip(plane_views(picture, frame.format), planes, strict=True):
        if view.shape != samples.shape:
            raise ValueError(f"plane of {samples.shape} given for one of {view.shape}")
        view[...] = samples
    picture.pts = frame.pts
    picture.pict_type = 0  # the encoder's choice, not the source's
    return picture


def planar_name(name: str) -> str:
    """The planar format that holds the same samples as a packed, big-endian or alpha one; else `name` itself."""
    packed = {
        "nv12": "yuv420p", "nv21": "yuv420p", "nv16": "yuv422p", "nv24": "yuv444p", "nv42": "yuv444p",
        "p010le": "yuv420p10le", "p210le": "yuv422p10le", "p410le": "yuv444p10le", "p012le": "yuv420p12le",
        "yuyv422": "yuv422p", "uyvy422": "yuv422p", "yvyu422": "yuv422p", "nv20le": "yuv422p10le",
        "rgb24": "gbrp", "bgr24": "gbrp", "rgba": "gbrp", "bgra": "gbrp", "argb": "gbrp", "abgr": "gbrp",
        "rgb0": "gbrp", "bgr0": "gbrp", "0rgb": "gbrp", "0bgr": "gbrp", "pal8": "gbrp",
        "rgb48le": "gbrp16le", "rgb48be": "gbrp16le", "rgba64le": "gbrp16le", "rgba64be": "gbrp16le",
        "ya8": "gray", "monob": "gray", "monow": "gray", "ya16le": "gray16le", "ya16be": "gray16le",
    }  # fmt: skip
    if is_supported(name):
        return name
    plain = re.sub(r"be$", "le", name).replace("yuva", "yuv").replace("gbrap", "gbrp")
    return packed.get(name, plain)


def plane_views(picture: av.VideoFrame, fmt: PixelFormat) -> list[np.ndarray[Any, Any]]:
    """The picture's own memory, one (rows, columns) view per plane."""
    views = []
    for plane, (rows, columns) in zip(picture.planes, fmt.plane_shapes(picture.width, picture.height), strict=True):
        line = plane.line_size // np.dtype(fmt.dtype).itemsize
        views.append(np.frombuffer(plane, fmt.dtype)[: rows * line].reshape(rows, line)[:, :columns])
    return views


def _source_colour(fmt: PixelFormat) -> dict[str, str]:
    if fmt.family != "yuv":
        return {}
    space = {"bt601": "ITU601", "bt709": "ITU709", "bt2020": "BT2020"}[fmt.matrix]
    return {"src_colorspace": space, "src_color_range": "JPEG" if fmt.full_range else "MPEG"}
