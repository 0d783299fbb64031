"""Video files: read, encode, copy sound and subtitles, digest; the small clips of the seal. The only module with av.

Knows no face, key or network. Times pass through untouched: a frame's `pts` in its stream's exact `time_base`, never
recomputed from a frame rate. Nothing is converted that need not be: planes keep the decoder's layout and bit depth.
An output appears under its name only when it is complete; a damaged input is an error, never a short output.

What reaches an output besides pixels is an allow-list: sound, subtitles, fonts (Matroska), stream languages and
disposition flags, chapter titles, colour tags, aspect ratio, rotation. `VideoWriter.dropped` names all the rest.
Matroska stores whole milliseconds: writing MP4 times into it rounds them to the nearest one.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import itertools
import os
import re
import secrets
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import av
import numpy as np
from av.container import Flags
from av.error import FFmpegError
from av.stream import Disposition
from av.video.reformatter import VideoReformatter

from revisage.pipeline.errors import DamagedMediaError, MediaError, NoVideoError, OutputError
from revisage.pipeline.pixels import Mask, PixelFormat, Planes, is_supported, pixel_format
from revisage.pipeline.types import Image

# A frame of these codecs is one packet, so a packet without a frame is a loss. Others hide frames (VP8) or split them.
_ONE_FRAME_A_PACKET = {"h264", "hevc", "vp9", "av1", "ffv1", "mjpeg", "prores", "dnxhd", "png", "utvideo", "huffyuv"}
_REPAIR = "repair it first, for example: ffmpeg -i IN -c copy FIXED.mkv"
_QP_TO_LAMBDA = 118  # FFmpeg's FF_QP2LAMBDA


# ---------------------------------------------------------------------------------------------------------------------
# Reading


@dataclass(frozen=True, slots=True)
class ColorTags:
    """How samples are to be shown: FFmpeg's numbers, which are those of ITU-T H.273."""

    range: int
    primaries: int
    transfer: int
    space: int


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
    def planes(self) -> Planes:
        """Contiguous writable copies of the planes, made once and the same ever after."""
        if self._planes is None:
            self._planes = [view.copy() for view in _plane_views(self._picture, self.format)]
        return self._planes

    def rgb(self, width: int | None = None, height: int | None = None) -> Image:
        """The decoded picture as (height, width, 3) uint8 RGB, scaled by swscale; for detection only."""
        colour: dict[str, Any] = _source_colour(self.format)
        scaled = self._reformatter.reformat(self._picture, width, height, "rgb24", interpolation="BILINEAR", **colour)
        return np.asarray(scaled.to_ndarray(), np.uint8)


class VideoReader:
    """The one video stream of a file: its properties, and its frames as often as they are asked for."""

    path: Path
    width: int  # stored, before rotation
    height: int
    time_base: Fraction  # seconds
    average_rate: Fraction | None  # frames a second; for encoders' rate control only, never for times
    pix_fmt: PixelFormat  # of the frames
    rotation: int  # degrees counter-clockwise that players turn the picture by, -180..180
    codec: str  # FFmpeg's canonical name, such as h264
    container: str  # FFmpeg's name of the file format
    frame_estimate: int | None  # from the header, for progress only
    color: ColorTags
    sample_aspect_ratio: Fraction | None

    def __init__(self, path: Path | str) -> None:
        """Look into `path`, decoding its first frame. Raises NoVideoError, DamagedMediaError, MediaError."""
        self.path = Path(path)
        self._running: list[Generator[Frame, None, None]] = []
        with _open_input(self.path) as container, _reading(self.path):
            stream = _video_stream(container, self.path)
            _refuse_cut_file(self.path)
            self._describe_stream(container, stream)
            self._describe_picture(_first_picture(container, stream, self.path))

    def _describe_stream(self, container: Any, stream: Any) -> None:
        self.container = container.format.name
        self.codec = stream.codec_context.codec.canonical_name
        self.time_base = Fraction(stream.time_base)
        self.average_rate = stream.average_rate or stream.guessed_rate
        self.sample_aspect_ratio = stream.sample_aspect_ratio
        self.frame_estimate = stream.frames or _frames_by_duration(container, self.average_rate)
        self._index = stream.index

    def _describe_picture(self, picture: av.VideoFrame) -> None:
        self.width, self.height = picture.width, picture.height
        self.color = ColorTags(
            int(picture.color_range), int(picture.color_primaries), int(picture.color_trc), int(picture.colorspace)
        )
        name = _planar_name(picture.format.name)
        self._decoder_format = picture.format.name
        self.pix_fmt = pixel_format(name, self.color.space, self.color.range, self.height)
        self.rotation = int(picture.rotation)
        self._display_matrix = _display_matrix(picture)

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
        with _open_input(self.path) as container:
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
        return DamagedMediaError(f"{self.path.name}: {what} at {self.seconds(pts):.2f} s; {_REPAIR}")


def open_video(path: Path | str) -> VideoReader:
    """The video stream of `path`, for a `with` statement. Raises NoVideoError, DamagedMediaError, MediaError."""
    return VideoReader(path)


def _open_input(path: Path) -> Any:
    if not path.is_file():
        raise MediaError(f"{path} is not a file; check the name")
    try:
        # "file:" keeps names with a colon from being read as a network protocol
        return av.open(f"file:{path}", metadata_errors="replace")
    except PermissionError as error:
        raise MediaError(f"{path} cannot be read: {error.strerror}; check its permissions") from error
    except (FFmpegError, OSError) as error:
        if path.stat().st_size == 0:
            raise NoVideoError(f"{path.name} is empty; nothing to do") from error
        raise DamagedMediaError(f"{path.name} is not a readable video ({_reason(error)}); {_REPAIR}") from error


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except FFmpegError as error:
        raise DamagedMediaError(f"{path.name} does not decode ({_reason(error)}); {_REPAIR}") from error


def _video_stream(container: Any, path: Path) -> Any:
    """The stream a player would show: the default one, else the first; never cover art or a text file's rendering."""
    streams = [s for s in container.streams.video if not _is_picture_attachment(s)]
    if not streams or container.format.name == "tty":
        raise NoVideoError(f"{path.name} has no video stream; nothing to do")
    stream = next((s for s in streams if s.disposition & Disposition.default), streams[0])
    if stream.codec_context is None:
        raise MediaError(f"{path.name}: no decoder for its video stream; convert it first, for example to H.264")
    return stream


def _is_picture_attachment(stream: Any) -> bool:
    return bool(stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails))


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
        raise DamagedMediaError(
            f"{path.name}: does not decode at {time:.2f} s ({_reason(error)}); {_REPAIR}"
        ) from error


def _frames_by_duration(container: Any, rate: Fraction | None) -> int | None:
    if not rate or not container.duration:
        return None
    return round(int(container.duration) * rate / int(av.time_base))


def _display_matrix(picture: av.VideoFrame) -> tuple[int, ...] | None:
    data = picture.side_data.get("DISPLAYMATRIX")
    return None if data is None else tuple(int(v) for v in np.frombuffer(bytes(data), "<i4"))


def _planar_name(name: str) -> str:
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


def _plane_views(picture: av.VideoFrame, fmt: PixelFormat) -> list[np.ndarray[Any, Any]]:
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


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return str(text)[:1].lower() + str(text)[1:]


# ---------------------------------------------------------------------------------------------------------------------
# Files that were cut short: FFmpeg ends quietly where a Matroska file does


def _refuse_cut_file(path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        file.seek(0)
        end = (
            _matroska_end(file) if head[:4] == b"\x1aE\xdf\xa3" else _mp4_end(file, size) if head[4:8] == b"ftyp" else 0
        )
    if end > size:
        raise DamagedMediaError(f"{path.name} is cut short, {end - size} bytes are missing; get it whole, or {_REPAIR}")


def _matroska_end(file: BinaryIO) -> int:
    """Where the segment says it ends; 0 where it does not say. Source: RFC 8794 (EBML), RFC 9559 (Matroska)."""
    file.seek(4)
    header = _ebml_size(file)
    if header is None:
        return 0
    file.seek(header, os.SEEK_CUR)
    if file.read(4) != b"\x18S\x80g":
        return 0
    segment = _ebml_size(file)
    return 0 if segment is None else file.tell() + segment


def _ebml_size(file: BinaryIO) -> int | None:
    first = file.read(1)
    if not first or not first[0]:
        return None
    extra = 8 - first[0].bit_length()
    bits = 7 * (extra + 1)
    value = int.from_bytes(bytes([first[0] & (0x7F >> extra)]) + file.read(extra), "big")
    return None if value == (1 << bits) - 1 else value


def _mp4_end(file: BinaryIO, size: int) -> int:
    """Where the last box that holds pictures or their index says it ends. Source: ISO/IEC 14496-12, 4.2."""
    at = 0
    while at < size:
        file.seek(at)
        header = file.read(16)
        length, kind = int.from_bytes(header[:4], "big"), header[4:8]
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if length < 8:
            break
        at += length
        if at > size and kind not in {b"mdat", b"moov", b"moof"}:
            break
    else:
        return at
    return 0


# ---------------------------------------------------------------------------------------------------------------------
# Encoders


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
    if _encoder_format(name, fmt.name) is None:
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
def _encoder_format(codec: str, name: str) -> str | None:
    """The encoder's name for the same samples; None where it would change them."""
    if codec not in av.codecs_available:
        return None
    formats = [f.name for f in av.Codec(codec, "w").video_formats or ()]
    twins = [name, name.replace("yuvj", "yuv"), *(["rgb24", "bgr0"] if name == "gbrp" else [])]
    return next((twin for twin in twins if twin in formats or not formats), None)


def _check_codec(name: str, like: VideoReader, container: str) -> str:
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


def _encoder_options(name: str, crf: int | None, extra: Mapping[str, str] | None) -> dict[str, str]:
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


# ---------------------------------------------------------------------------------------------------------------------
# Writing


class VideoWriter:
    """Encodes the frames of `like` to `output` and copies everything else worth keeping beside them.

    Use it in a `with` statement: the file appears under its name at a clean exit and not at all after an exception.
    """

    codec: str  # the encoder in use
    dropped: list[str]  # for a person: what of the source is not in the output
    dropped_metadata: dict[str, Any]  # the same with its values; JSON-able

    def __init__(
        self,
        output: Path | str,
        like: VideoReader,
        *,
        codec: str | None = None,
        crf: int | None = None,
        options: Mapping[str, str] | None = None,
        overwrite: bool = False,
        copy_streams_from: Path | None = None,
        before_publish: Callable[[Path], None] | None = None,
    ) -> None:
        """Check everything that can be checked before a frame is decoded. Raises OutputError.

        `before_publish` is called with the path of the complete file just before that takes its name; what it raises
        keeps it from doing so.
        """
        self.output = Path(output)
        self._like = like
        self._overwrite = overwrite
        self._before_publish = before_publish
        self._source = None if copy_streams_from is None else Path(copy_streams_from)
        self._container_name = container_of(self.output)
        size = (like.width, like.height, self._container_name)
        self.codec = (
            _check_codec(codec, like, self._container_name) if codec else default_codec(like.codec, like.pix_fmt, *size)
        )
        self._options = _encoder_options(self.codec, crf, options)
        self._refuse_source_as_output()
        self._refuse_existing()
        self.dropped, self.dropped_metadata = _dropped(self._source or like.path, self._container_name)

    def _refuse_source_as_output(self) -> None:
        for source in filter(None, (self._like.path, self._source)):
            if self.output.exists() and self.output.samefile(source):
                raise OutputError(f"{self.output} is the input itself; choose another output")

    def _refuse_existing(self) -> None:
        if self.output.is_dir():
            raise OutputError(f"{self.output} is a folder; name a file in it")
        if not self._overwrite and (self.output.exists() or self.output.is_symlink()):
            raise OutputError(f"{self.output} exists; choose another name or give --overwrite")

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            source = stack.enter_context(_open_input(self._source)) if self._source else None
            self._file = stack.enter_context(_HiddenFile(self.output))
            self._muxer = av.open(
                self._file,
                "w",
                format=self._container_name,
                options=_muxer_options(self._container_name),
                buffer_size=1 << 18,
            )
            self._muxer.flags |= Flags.bitexact.value  # no creation time, no library version, no random ids
            with self._writing():
                self._copy = self._add_streams(source)
                self._muxer.start_encoding()
            self._stack = stack.pop_all()
        self._first_packet = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:  # removes the hidden file unless it was published
            if kind is not None:
                return
            with self._writing():
                self._mux_video(self._stream.encode(None))
                self._mux_copies(None)
                self._muxer.close()
                self._refuse_existing()
            if self._before_publish is not None:
                self._before_publish(self._file.path)
            with self._writing():
                self._file.publish()

    def write(self, frame: Frame, planes: Planes) -> None:
        """Encode `planes` at `frame`'s time; frames in rising `pts`. Afterwards `frame.rgb()` shows what was written.

        Raises OutputError when the disk is full or the encoder fails.
        """
        picture = _filled(frame, planes, _encoder_format(self.codec, frame.format.name) or frame.format.name)
        picture.time_base = self._like.time_base
        with self._writing():
            self._mux_video(self._stream.encode(picture))

    def _add_streams(self, source: Any) -> _StreamCopy:
        """The video stream and copies of sound and subtitles in the source's order, then fonts and chapters."""
        pairs: dict[int, Any] = {}
        position = _video_stream(source, self._like.path).index if source else 0
        for stream in [] if source is None else source.streams:
            if stream.index == position:
                self._stream = self._add_video(stream)
            elif stream.type in {"audio", "subtitle"}:
                pairs[stream.index] = self._add_copy(stream)
        if source is None:
            self._stream = self._add_video(None)
        else:
            self._add_extras(source)
        return _StreamCopy(source, pairs, self._source)

    def _add_video(self, source: Any) -> Any:
        like = self._like
        stream: Any = self._muxer.add_stream(self.codec, rate=like.average_rate or 25, options=self._options)
        stream.width, stream.height = like.width, like.height
        stream.pix_fmt = _encoder_format(self.codec, like.pix_fmt.name)
        stream.codec_context.time_base = stream.time_base = like.time_base
        stream.thread_count = 0
        stream.color_range = 2 if like.pix_fmt.full_range and like.pix_fmt.family == "yuv" else like.color.range
        stream.color_primaries, stream.color_trc = like.color.primaries, like.color.transfer
        stream.colorspace = like.color.space
        if like.sample_aspect_ratio:
            stream.codec_context.sample_aspect_ratio = like.sample_aspect_ratio
        stream.set_display_matrix(like._display_matrix)
        if source is not None:
            _copy_tags(source, stream)
        return stream

    def _add_copy(self, source: Any) -> Any:
        try:
            stream = self._muxer.add_stream_from_template(source)
        except (ValueError, FFmpegError) as error:
            raise OutputError(
                f"{self.output.suffix} cannot hold {_describe(source)}; write to .mkv, which holds it"
            ) from error
        _copy_tags(source, stream)
        return stream

    def _add_extras(self, source: Any) -> None:
        for stream in source.streams:
            if _is_font(stream) and self._container_name == "matroska":
                self._muxer.add_attachment(stream.name or "font", stream.mimetype, stream.data)
        chapters = source.chapters()
        for chapter in chapters:
            chapter["metadata"] = {k: v for k, v in chapter["metadata"].items() if k == "title"}
        if chapters:
            self._muxer.set_chapters(chapters)

    def _mux_video(self, packets: Iterable[av.Packet]) -> None:
        for packet in packets:
            if self._first_packet:
                _hide_thread_count(packet)
                self._first_packet = False
            time = packet.dts if packet.dts is not None else packet.pts
            self._mux_copies(None if time is None else time * Fraction(packet.time_base))
            packet.stream = self._stream
            self._muxer.mux_one(packet)

    def _mux_copies(self, until: Fraction | None) -> None:
        for packet in self._copy.until(until):
            self._muxer.mux_one(packet)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """FFmpeg's and the system's errors as one line."""
        try:
            yield
        except MediaError:
            raise
        except FFmpegError as error:
            raise OutputError(
                f"cannot write {self.output.name} with {self.codec} ({_reason(error)}); choose another --codec"
            ) from error
        except OSError as error:
            raise self._file.interrupt or _output_error(self.output, error) from error


def _muxer_options(container: str) -> dict[str, str]:
    """Matroska would move every time by the sound's priming, about 21 ms; a block before zero is legal there."""
    return {"avoid_negative_ts": "disabled"} if container in {"matroska", "webm"} else {}


class _HiddenFile(io.FileIO):
    """A file beside `final` that takes its name in one step, or vanishes."""

    def __init__(self, final: Path) -> None:
        self._final = final
        self.path = final.with_name(f".{final.name}.part-{secrets.token_hex(6)}")
        self.interrupt: KeyboardInterrupt | None = None
        try:
            super().__init__(self.path, "x+")
        except OSError as error:
            raise _output_error(final, error) from error

    def __exit__(self, *_: object) -> None:
        self.close()
        self.path.unlink(missing_ok=True)

    def write(self, data: Any) -> int:
        """All of `data`, or an OSError; a raw file may write a part when the disk fills.

        Called from FFmpeg, where an interrupt would be lost together with the data.
        """
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[super().write(rest) or 0 :]
        except KeyboardInterrupt as interrupt:
            self.interrupt = interrupt
            raise InterruptedError(errno.EINTR, os.strerror(errno.EINTR)) from interrupt
        return len(data)

    def publish(self) -> None:
        """Flush to the disk and rename."""
        os.fsync(self.fileno())
        self.close()
        self.path.replace(self._final)
        with contextlib.suppress(OSError):  # not every file system lets folders be synced
            folder = os.open(self._final.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


class _StreamCopy:
    """Packets of the copied streams, in the source's order, handed out up to a time."""

    def __init__(self, source: Any, pairs: Mapping[int, Any], path: Path | None) -> None:
        self._pairs = pairs
        self._packets = _packets_of(source, sorted(pairs), path) if source is not None and pairs else iter(())
        self._held: av.Packet | None = None

    def until(self, time: Fraction | None) -> Iterator[av.Packet]:
        """Packets whose time is at most `time` in seconds; all that are left when it is None."""
        while (packet := self._held or next(self._packets, None)) is not None:
            self._held = packet
            stamp = packet.dts if packet.dts is not None else packet.pts
            if time is not None and stamp is not None and stamp * packet.time_base > time:
                return
            self._held = None
            packet.stream = self._pairs[packet.stream_index]
            yield packet


def _packets_of(container: Any, indices: Sequence[int], path: Path | None) -> Iterator[av.Packet]:
    try:
        for packet in container.demux([container.streams[index] for index in indices]):
            if packet.size and not _is_gap(packet):
                yield packet
    except FFmpegError as error:
        name = path.name if path else "input"
        raise DamagedMediaError(
            f"{name}: its sound or subtitles cannot be read ({_reason(error)}); {_REPAIR}"
        ) from error


def _is_gap(packet: av.Packet) -> bool:
    """MP4's empty subtitle between two; the muxer makes its own."""
    return packet.size == 2 and packet.stream.type == "subtitle" and bytes(packet) == b"\0\0"


def _filled(frame: Frame, planes: Planes, name: str) -> av.VideoFrame:
    """`frame`'s picture with other samples. The decoder's picture is kept for its side data (captions, HDR)."""
    picture = frame._picture
    if name == frame.format.name.replace("yuvj", "yuv") != frame.format.name:
        picture = av.VideoFrame(frame.width, frame.height, name)
    else:
        picture.make_writable()
    for view, samples in zip(_plane_views(picture, frame.format), planes, strict=True):
        if view.shape != samples.shape:
            raise ValueError(f"plane of {samples.shape} given for one of {view.shape}")
        view[...] = samples
    picture.pts = frame.pts
    picture.pict_type = 0  # the encoder's choice, not the source's
    return picture


def _hide_thread_count(packet: av.Packet) -> None:
    """x264 writes its settings into the stream; how many threads it used tells the machine's number of cores."""
    data = bytes(packet)
    clean = re.sub(rb"threads=\d+", lambda m: b"threads=" + b"0" * (len(m[0]) - 8), data)
    if clean != data:
        packet.update(clean)


def _output_error(output: Path, error: OSError) -> OutputError:
    hints = {
        errno.ENOSPC: "free some space or choose another disk",
        errno.EDQUOT: "free some space or choose another disk",
        errno.EFBIG: "choose a file system that takes larger files",
        errno.ENOENT: "make the folder first",
        errno.EACCES: "choose a folder you may write to",
        errno.EPERM: "choose a folder you may write to",
        errno.EROFS: "choose a folder you may write to",
    }
    hint = hints.get(error.errno or 0, "choose another output")
    return OutputError(f"cannot write {output}: {_reason(error)}; {hint}")


# ---------------------------------------------------------------------------------------------------------------------
# What is not carried over


_KEPT_DISPOSITIONS = ~(Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image)
_STRUCTURAL_TAGS = {"language", "filename", "mimetype", "major_brand", "minor_version", "compatible_brands"}
_STATISTICS = re.compile(r"(DURATION|BPS|NUMBER_OF_(FRAMES|BYTES)|_STATISTICS_.*)(-eng)?$")  # Matroska's own, made anew


def _copy_tags(source: Any, stream: Any) -> None:
    stream.disposition = int(source.disposition & _KEPT_DISPOSITIONS)
    if source.language:
        stream.metadata["language"] = source.language


def _is_font(stream: Any) -> bool:
    kind = (stream.mimetype or "").lower() if stream.type == "attachment" else ""
    return kind.startswith("font/") or bool(re.search(r"font|truetype|opentype", kind))


def _dropped(path: Path, container: str) -> tuple[list[str], dict[str, Any]]:
    """Names of what an output in `container` will not have of `path`, and the tags among it with their values."""
    with _open_input(path) as source:
        video = _video_stream(source, path)
        lost = [s for s in source.streams if s.index != video.index and not _is_carried(s, container)]
        tags = {"container": _foreign_tags(source.metadata)}
        tags |= {f"stream {s.index}": _foreign_tags(s.metadata) for s in source.streams}
        tags |= {f"chapter {i}": _foreign_tags(c["metadata"], "title") for i, c in enumerate(source.chapters())}
        tags = {place: found for place, found in tags.items() if found}
        streams = [_describe(stream) for stream in lost]
    names = [f"{place} tag {name}" for place, found in tags.items() for name in found]
    return streams + names, {"streams": streams, "tags": tags}


def _is_carried(stream: Any, container: str) -> bool:
    return stream.type in {"audio", "subtitle"} or (_is_font(stream) and container == "matroska")


def _foreign_tags(tags: Mapping[str, str], *kept: str) -> dict[str, str]:
    same = _STRUCTURAL_TAGS | set(kept)
    return {k: v for k, v in tags.items() if k.lower() not in same and not _STATISTICS.match(k)}


def _describe(stream: Any) -> str:
    kind = "cover art" if _is_picture_attachment(stream) else f"{stream.type} stream"
    context = stream.codec_context
    return f"{kind} {stream.index} ({context.name if context else getattr(stream, 'name', None) or 'unknown'})"


# ---------------------------------------------------------------------------------------------------------------------
# Digests


def video_digest(path: Path | str) -> str:
    """SHA-256 (hex) over the video packets in file order, each after its length in 8 bytes; no container data."""
    path = Path(path)
    digest = hashlib.sha256()
    with _open_input(path) as container, _reading(path):
        for packet in container.demux(_video_stream(container, path)):
            if packet.size:
                digest.update(packet.size.to_bytes(8, "big"))
                digest.update(packet)
    return digest.hexdigest()


def file_digest(path: Path | str) -> str:
    """SHA-256 (hex) of the whole file. Raises MediaError where it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise MediaError(f"{path} cannot be read: {_reason(error)}; check its name and permissions") from error


# ---------------------------------------------------------------------------------------------------------------------
# Clips of the seal: in memory only, an original pixel never touches a disk


_CLIP_QP = 16  # constant quantiser: bounds the error whatever the content; 45 dB for white noise, more for pictures


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

    All tiles are of one size, which may be odd. Lossless tiles are FFV1, others H.264 of at least 40 dB PSNR in the
    same pixel format; formats that H.264 does not take are FFV1 always.
    """
    if not tiles or not len(tiles) == len(masks) == len(pts):
        raise ValueError(f"a clip needs as many masks and times as tiles: {len(tiles)}, {len(masks)}, {len(pts)}")
    height, width = tiles[0][0].shape
    buffer = io.BytesIO()
    with contextlib.closing(av.open(buffer, "w", format="matroska")) as muxer:
        muxer.flags |= Flags.bitexact.value
        colour = _add_tile_stream(muxer, fmt, width, height, time_base, lossless=lossless)
        shape = _add_clip_stream(muxer, "ffv1", "gray", (width, height), time_base, level="3", slices="1")
        for tile, mask, time in zip(tiles, masks, pts, strict=True):
            muxer.mux(colour.encode(_clip_picture(tile, colour, fmt, time - pts[0], time_base)))
            grey = [np.where(mask, np.uint8(255), np.uint8(0))]
            muxer.mux(shape.encode(_clip_picture(grey, shape, _GREY, time - pts[0], time_base)))
        muxer.mux(colour.encode(None))
        muxer.mux(shape.encode(None))
    return buffer.getvalue()


def decode_clip(data: bytes, fmt: PixelFormat, width: int, height: int) -> Iterator[tuple[Planes, Mask]]:
    """Tiles and masks of a clip by `encode_clip`, in order. Raises DamagedMediaError for anything unexpected."""
    if _matroska_end(io.BytesIO(data)) != len(data):
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
        raise DamagedMediaError(f"sealed clip does not decode ({_reason(error)}); get an undamaged copy") from error
    except ValueError as error:
        raise DamagedMediaError(
            "sealed clip holds unequal numbers of tiles and masks; get an undamaged copy"
        ) from error


_GREY = pixel_format("gray", 0, 2, 0)


def _add_tile_stream(
    muxer: Any, fmt: PixelFormat, width: int, height: int, time_base: Fraction, *, lossless: bool
) -> Any:
    size = (-(-width >> fmt.sx) << fmt.sx, -(-height >> fmt.sy) << fmt.sy)
    name = None if lossless or fmt.family != "yuv" else _encoder_format("libx264", fmt.name)
    if name is None:
        plain = _encoder_format("ffv1", fmt.name)
        if plain is None:
            raise MediaError(f"pixels of {fmt.name} cannot be sealed; use --seal off or convert the video first")
        stream = _add_clip_stream(muxer, "ffv1", plain, (width, height), time_base, level="3", slices="1", slicecrc="1")
    else:
        options = {"preset": "veryfast", "qp": str(_clip_qp(fmt)), "threads": "2"}
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
    for view, samples in zip(_plane_views(picture, fmt), planes, strict=True):
        grow = ((0, view.shape[0] - samples.shape[0]), (0, view.shape[1] - samples.shape[1]))
        view[...] = np.pad(samples, grow, "edge") if any(grow[0] + grow[1]) else samples
    picture.pts, picture.time_base = pts, time_base
    return picture


def _clip_planes(container: Any, index: int, fmt: PixelFormat, width: int, height: int) -> Iterator[Planes]:
    """The pictures of one stream, cut to their true size."""
    stored = {(width, height), (-(-width >> fmt.sx) << fmt.sx, -(-height >> fmt.sy) << fmt.sy)}
    shapes = fmt.plane_shapes(width, height)
    for picture in container.decode(container.streams[index]):
        name = _planar_name(picture.format.name)
        same = name.replace("yuvj", "yuv") == fmt.name.replace("yuvj", "yuv")
        if not same or (picture.width, picture.height) not in stored or picture.is_corrupt:
            raise DamagedMediaError("sealed clip does not have the size and format of its tiles; get an undamaged copy")
        views = _plane_views(picture if name == picture.format.name else picture.reformat(format=name), fmt)
        yield [view[:rows, :columns].copy() for view, (rows, columns) in zip(views, shapes, strict=True)]


# ---------------------------------------------------------------------------------------------------------------------
# A film from pictures, for the demonstration


def write_film(
    path: Path, pictures: Iterable[Image], rate: Fraction, audio: np.ndarray[Any, np.dtype[np.float32]] | None = None
) -> None:
    """H.264 of `pictures` (all of one even size) at `rate` a second, and AAC of `audio`, (samples,) at 48 kHz, -1..1.

    The extension says which container. Raises OutputError; then `path` is as it was. An existing file is replaced.
    """
    try:
        with _HiddenFile(path) as file, av.open(file, "w", format=container_of(path)) as muxer:
            _mux_film(muxer, iter(pictures), rate, audio)
            muxer.close()
            file.publish()
    except FFmpegError as error:
        raise OutputError(f"cannot write {path.name} ({_reason(error)}); choose another name") from error


def _mux_film(
    muxer: Any, pictures: Iterator[Image], rate: Fraction, audio: np.ndarray[Any, np.dtype[np.float32]] | None
) -> None:
    first = next(pictures)
    video: Any = muxer.add_stream("libx264", rate=rate, options={"preset": "veryfast", "crf": "17"})
    video.height, video.width, video.pix_fmt = *first.shape[:2], "yuv420p"
    video.color_range, video.color_primaries, video.color_trc, video.colorspace = 1, 1, 1, 1  # BT.709
    sound = None if audio is None else muxer.add_stream("aac", rate=48000, layout="mono")
    for index, picture in enumerate(itertools.chain([first], pictures)):
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        frame.pts, frame.time_base = index, 1 / rate
        muxer.mux(video.encode(frame))
    muxer.mux(video.encode(None))
    for start in range(0, 0 if audio is None else len(audio), 1024):
        assert audio is not None and sound is not None  # noqa: S101 - else the range is empty
        block = av.AudioFrame.from_ndarray(np.ascontiguousarray(audio[None, start : start + 1024]), "fltp", "mono")
        block.sample_rate, block.pts, block.time_base = 48000, start, Fraction(1, 48000)
        muxer.mux(sound.encode(block))
    if sound is not None:
        muxer.mux(sound.encode(None))
