"""The video stream of a file, frame by frame, as often as asked: exact times; every frame or an error, no less."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter

from revisage.pipeline.errors import DamagedMediaError, MediaError, NoVideoError
from revisage.pipeline.media.frame import Frame, planar_name
from revisage.pipeline.media.hdr import Hdr
from revisage.pipeline.media.source import REPAIR, open_input, reading, reason, video_stream
from revisage.pipeline.media.whole import refuse_cut_file
from revisage.pipeline.pixels import PixelFormat, pixel_format
from revisage.pipeline.turn import Orientation

# A frame of these codecs is one packet, so a packet without a frame is a loss. Others hide frames (VP8) or split them.
_ONE_FRAME_A_PACKET = {"h264", "hevc", "vp9", "av1", "ffv1", "mjpeg", "prores", "dnxhd", "png", "utvideo", "huffyuv"}

_ALPHA = re.compile(r"yuva|gbrap|rgba|bgra|argb|abgr|ya8|ya16")  # formats of pictures with transparency
_BOTTOM_FIRST = {3, 5}  # FFmpeg's AV_FIELD_BB, AV_FIELD_BT
_RUNNING_CLOCKS = {"mpegts", "mpeg"}  # formats whose times are those of a sender's clock
_AT_ZERO = Fraction(1, 10)  # seconds: a clock that begins so near zero begins there; sound may lead by its priming


@dataclass(frozen=True, slots=True)
class ColorTags:
    """How samples are to be shown: FFmpeg's numbers, which are those of ITU-T H.273."""

    range: int
    primaries: int
    transfer: int
    space: int


class VideoReader:
    """The one video stream of a file: its properties, and its frames as often as they are asked for."""

    path: Path
    width: int  # stored, before rotation
    height: int
    time_base: Fraction  # seconds
    average_rate: Fraction | None  # frames a second; for encoders' rate control only, never for times
    pix_fmt: PixelFormat  # of the frames
    orientation: Orientation  # how players turn and mirror the stored picture
    display_matrix: tuple[int, ...] | None  # the same as the file says it
    codec: str  # FFmpeg's canonical name, such as h264
    container: str  # FFmpeg's name of the file format
    frame_estimate: int | None  # from the header, for progress only
    color: ColorTags
    sample_aspect_ratio: Fraction | None
    origin: Fraction  # seconds of the file's clock at which its presentation begins
    interlaced: bool
    bottom_first: bool  # of two fields the lower one is shown first
    alpha: bool  # the source has transparency, which frames have not
    side_data: frozenset[str]  # FFmpeg's names of what comes with the first picture
    hdr: Hdr | None

    def __init__(self, path: Path | str) -> None:
        """Look into `path`, decoding its first frame. Raises NoVideoError, DamagedMediaError, MediaError."""
        self.path = Path(path)
        self._running: list[Generator[Frame, None, None]] = []
        with open_input(self.path) as container, reading(self.path):
            stream = video_stream(container, self.path)
            refuse_cut_file(self.path)
            self._describe_stream(container, stream)
            picture = _first_picture(container, stream, self.path)
            self.bottom_first = self.codec == "dvvideo" or stream.codec_context.field_order in _BOTTOM_FIRST
            self._describe_picture(picture)
            self.origin = _origin(container, picture, self.time_base)

    def _describe_stream(self, container: Any, stream: Any) -> None:
        self.container = container.format.name
        self.codec = stream.codec_context.codec.canonical_name
        self.time_base = Fraction(stream.time_base)
        self.average_rate = stream.average_rate or stream.guessed_rate
        self.sample_aspect_ratio = stream.sample_aspect_ratio
        self.frame_estimate = stream.frames or _frames_by_duration(container, self.average_rate)
        self.alpha = stream.metadata.get("alpha_mode") == "1"  # VP8 and VP9: beside the stream that is decoded
        self._index = stream.index

    def _describe_picture(self, picture: av.VideoFrame) -> None:
        self.width, self.height = picture.width, picture.height
        self.color = ColorTags(
            int(picture.color_range), int(picture.color_primaries), int(picture.color_trc), int(picture.colorspace)
        )
        name = planar_name(picture.format.name)
        self._decoder_format = picture.format.name
        self.pix_fmt = pixel_format(name, self.color.space, self.color.range, self.height)
        self.interlaced = bool(picture.interlaced_frame)
        self.hdr = Hdr.of(picture)
        self.side_data = frozenset(data.type.name for data in picture.side_data)
        self.alpha = self.alpha or bool(_ALPHA.match(picture.format.name))
        self.display_matrix = _display_matrix(picture)
        self.orientation = self._orientation()

    def _orientation(self) -> Orientation:
        try:
            return Orientation.of_matrix(self.display_matrix)
        except ValueError as error:
            raise MediaError(
                f"{self.path.name} is shown at an oblique angle; turn its pixels first: ffmpeg -i IN FIXED.mkv"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for frames in self._running:
            frames.close()

    def frames(self) -> Iterator[Frame]:
        """Every frame in presentation order, decoded on several threads; the file is open while it is iterated.

        Raises DamagedMediaError where a packet does not decode, a frame is missing, broken, without a time or of
        another size or format than the first. A limit: FFmpeg repeats the frame before a damaged FFV1 one and
        does not tell.
        """
        frames = self._frames()
        self._running.append(frames)
        return frames

    def seconds(self, pts: int) -> float:
        """A presentation time for a person to read."""
        return float(pts * self.time_base)

    def _frames(self) -> Generator[Frame, None, None]:
        with open_input(self.path) as container:
            stream = container.streams[self._index]
            stream.thread_type = "AUTO"
            pictures = self._without_gaps(_decode(container, stream, self.path))
            reformatter = VideoReformatter()
            for index, (pts, picture) in enumerate(self._in_order(pictures)):
                self._check_shape(pts, picture)
                yield Frame(index, pts, picture, self.pix_fmt, reformatter)

    def _without_gaps(self, events: Iterable[av.Packet | av.VideoFrame]) -> Iterator[av.VideoFrame]:
        """Check that every packet from the first frame on became a frame."""
        strict = self.codec in _ONE_FRAME_A_PACKET
        pending: set[int] = set()
        started = False
        for event in events:
            if isinstance(event, av.Packet):
                if event.pts is not None and not event.is_discard:
                    pending.add(event.pts)
                continue
            self._refuse_corrupt(event)
            strict = strict and not event.interlaced_frame  # two fields may be two packets
            lost = {pts for pts in pending if event.pts is not None and pts < event.pts}
            if strict and started and lost:
                raise self._damage(min(lost), "a frame does not decode")
            pending -= lost | {event.pts}
            started = True
            yield event
        if strict and pending:
            raise self._damage(min(pending), "the stream breaks off")

    def _in_order(self, pictures: Iterable[av.VideoFrame]) -> Iterator[tuple[int, av.VideoFrame]]:
        last: int | None = None
        for picture in pictures:
            pts = picture.pts if picture.pts is not None else picture.dts
            if pts is None:
                raise self._damage(last or 0, "the frame after this has no time")
            if last is not None and pts <= last:
                raise self._damage(last, "times do not rise")
            last = pts
            yield pts, picture

    def _refuse_corrupt(self, picture: av.VideoFrame) -> None:
        if picture.is_corrupt:
            raise self._damage(picture.pts or 0, "a frame is broken")

    def _check_shape(self, pts: int, picture: av.VideoFrame) -> None:
        found = (picture.width, picture.height, picture.format.name)
        if found != (self.width, self.height, self._decoder_format):
            change = f"picture changes from {self.width}x{self.height} {self._decoder_format} to {found[0]}x{found[1]}"
            raise DamagedMediaError(
                f"{self.path.name}: {change} {found[2]} at {self.seconds(pts):.2f} s; "
                "convert it to one size and format first, for example: ffmpeg -i IN FIXED.mkv"
            )

    def _damage(self, pts: int, what: str) -> DamagedMediaError:
        return DamagedMediaError(f"{self.path.name}: {what} at {self.seconds(pts):.2f} s; {REPAIR}")


def open_video(path: Path | str) -> VideoReader:
    """The video stream of `path`, for a `with` statement. Raises NoVideoError, DamagedMediaError, MediaError."""
    return VideoReader(path)


def _first_picture(container: Any, stream: Any, path: Path) -> av.VideoFrame:
    for event in _decode(container, stream, path):
        if isinstance(event, av.VideoFrame):
            return event
    raise NoVideoError(f"{path.name} has a video stream without a single frame; nothing to do")


def _decode(container: Any, stream: Any, path: Path) -> Iterator[av.Packet | av.VideoFrame]:
    """Packets, each followed by the frames that came out after it; the flush is an empty packet and comes last."""
    time = 0.0
    try:
        for packet in container.demux(stream):
            if packet.size:
                time = float((packet.pts or packet.dts or 0) * stream.time_base)
                yield packet
            yield from packet.decode()
    except FFmpegError as error:
        raise DamagedMediaError(f"{path.name}: does not decode at {time:.2f} s ({reason(error)}); {REPAIR}") from error


def _origin(container: Any, picture: av.VideoFrame, time_base: Fraction) -> Fraction:
    """The first picture's time where the clock does not begin at zero, as that of a broadcast; else zero."""
    stamp = picture.pts if picture.pts is not None else picture.dts
    start = Fraction(container.start_time or 0, av.time_base)
    running = container.format.name in _RUNNING_CLOCKS or abs(start) > _AT_ZERO
    return stamp * time_base if stamp is not None and running else Fraction(0)


def _frames_by_duration(container: Any, rate: Fraction | None) -> int | None:
    if not rate or not container.duration:
        return None
    return round(int(container.duration) * rate / int(av.time_base))


def _display_matrix(picture: av.VideoFrame) -> tuple[int, ...] | None:
    data = picture.side_data.get("DISPLAYMATRIX")
    return None if data is None else tuple(int(v) for v in np.frombuffer(bytes(data), "<i4"))
