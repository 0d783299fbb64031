"""Encodes the frames of one video to a new file and lets everything worth keeping travel along. Decodes nothing."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
from av.container import Flags
from av.error import FFmpegError

from revisage.pipeline.errors import MediaError, OutputError
from revisage.pipeline.media.encoders import (
    check_codec,
    container_of,
    default_codec,
    encoder_format,
    encoder_options,
    keeps_fields,
    with_fields,
)
from revisage.pipeline.media.frame import Frame, filled
from revisage.pipeline.media.hdr import lost_side_data, with_hdr
from revisage.pipeline.media.hidden import HiddenFile, output_error
from revisage.pipeline.media.mp4 import index_in_front
from revisage.pipeline.media.read import VideoReader
from revisage.pipeline.media.remux import Side, StreamCopy, copy_tags, find_dropped, is_font
from revisage.pipeline.media.sides import SidePlan, open_side, plan_side
from revisage.pipeline.media.source import open_input, reason, video_stream
from revisage.pipeline.media.tags import LABEL
from revisage.pipeline.pixels import Planes


class VideoWriter:
    """Encodes the frames of `like` to `output` and copies everything else worth keeping beside them.

    Use it in a `with` statement: the file appears under its name at a clean exit and not at all after an exception.
    """

    codec: str  # the encoder in use
    losses: list[str]  # for a person: what of the picture itself the output will not have
    converted: list[str]  # for a person: streams that have another codec than in the source
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
        label: str | None = None,
        private: bool = False,
        strict_streams: bool = False,
    ) -> None:
        """Check everything that can be checked before a frame is decoded. Raises OutputError.

        `strict_streams`: refuse where sound or subtitles would be converted or left out.

        `label` becomes the container's comment; see `read_label`. `private`: nobody but its owner can read the file.

        `before_publish` is called with the path of the complete file just before that takes its name; what it raises
        keeps it from doing so.
        """
        self.output = Path(output)
        self._like = like
        self._overwrite = overwrite
        self._before_publish = before_publish
        self._label = label
        self._private = private
        self._source = None if copy_streams_from is None else Path(copy_streams_from)
        self._container_name = container_of(self.output)
        size = (like.width, like.height, self._container_name)
        self.codec = (
            check_codec(codec, like, self._container_name) if codec else default_codec(like.codec, like.pix_fmt, *size)
        )
        self._options = encoder_options(self.codec, crf, options)
        self._options = with_hdr(self.codec, like.hdr, self._options)
        if like.interlaced:
            self._options = with_fields(self.codec, self._options, bottom_first=like.bottom_first)
        self._refuse_source_as_output()
        self._refuse_existing()
        self._sides = self._plan_sides()
        left = [side.index for side in self._sides.values() if side.how == "leave"]
        self.converted = [side.said for side in self._sides.values() if side.how == "convert"]
        dropped, self.dropped_metadata = find_dropped(self._source or like.path, self._container_name, left)
        self.losses = self._losses()
        self.dropped = [*self.losses, *dropped]
        if strict_streams:
            self._refuse_changed_streams()

    def _plan_sides(self) -> dict[int, SidePlan]:
        if self._source is None:
            return {}
        with open_input(self._source) as source:
            sides = [s for s in source.streams if s.type in {"audio", "subtitle"}]
            return {s.index: plan_side(s, self._container_name) for s in sides}

    def _losses(self) -> list[str]:
        like = self._like
        fields = like.interlaced and not keeps_fields(self.codec)
        lost = ["transparency (alpha)"] if like.alpha else []
        return lost + (["field order"] if fields else []) + lost_side_data(like.side_data, self.codec)

    def _refuse_changed_streams(self) -> None:
        changed = [side.said for side in self._sides.values() if side.how != "copy"]
        if changed:
            hint = "choose another container, or leave --strict-streams out"
            raise OutputError(f"{self.output.suffix} does not hold {', '.join(changed)} as it is; {hint}")

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
            source = stack.enter_context(open_input(self._source)) if self._source else None
            self._file = stack.enter_context(HiddenFile(self.output, private=self._private))
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
                if self._label is not None:
                    self._muxer.metadata[LABEL] = self._label
                self._muxer.start_encoding()
            self._stack = stack.pop_all()
        self._first_packet = True
        self._durations: dict[int, int] = {}
        self._shift = round(self._like.origin / self._like.time_base)
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
                if self._container_name in {"mp4", "mov"}:
                    index_in_front(self._file.fileno())
                self._refuse_existing()
            if self._before_publish is not None:
                self._before_publish(self._file.path)
            with self._writing():
                self._publish()

    def _publish(self) -> None:
        try:
            self._file.publish(replace=self._overwrite)
        except FileExistsError:
            raise OutputError(f"{self.output} exists; choose another name or give --overwrite") from None

    def write(self, frame: Frame, planes: Planes) -> None:
        """Encode `planes` at `frame`'s time; frames in rising `pts`. Afterwards `frame.rgb()` shows what was written.

        Raises OutputError when the disk is full or the encoder fails.
        """
        picture = filled(frame, planes, encoder_format(self.codec, frame.format.name) or frame.format.name)
        picture.time_base = self._like.time_base
        picture.pts = frame.pts - self._shift
        self._durations[picture.pts] = frame.duration
        with self._writing():
            self._mux_video(self._stream.encode(picture))

    def _add_streams(self, source: Any) -> StreamCopy:
        """The video stream and copies of sound and subtitles in the source's order, then fonts and chapters."""
        sides: dict[int, Side] = {}
        position = video_stream(source, self._like.path).index if source else 0
        for stream in [] if source is None else source.streams:
            if stream.index == position:
                self._stream = self._add_video(stream)
            elif stream.index in self._sides:
                side = open_side(self._sides[stream.index], stream, self._muxer, self._like.origin)
                if side is not None:
                    sides[stream.index] = side
        if source is None:
            self._stream = self._add_video(None)
        else:
            self._add_extras(source)
        return StreamCopy(source, sides, self._source)

    def _add_video(self, source: Any) -> Any:
        like = self._like
        stream: Any = self._muxer.add_stream(self.codec, rate=like.average_rate or 25, options=self._options)
        stream.width, stream.height = like.width, like.height
        stream.pix_fmt = encoder_format(self.codec, like.pix_fmt.name)
        stream.codec_context.time_base = stream.time_base = like.time_base
        if self.codec == "libx265" and self._container_name in {"mp4", "mov"}:
            stream.codec_context.codec_tag = "hvc1"  # players of Apple's play no hev1
        stream.thread_count = 0
        stream.color_range = 2 if like.pix_fmt.full_range and like.pix_fmt.family == "yuv" else like.color.range
        stream.color_primaries, stream.color_trc = like.color.primaries, like.color.transfer
        stream.colorspace = like.color.space
        if like.sample_aspect_ratio:
            stream.codec_context.sample_aspect_ratio = like.sample_aspect_ratio
        stream.set_display_matrix(like.display_matrix)
        if source is not None:
            copy_tags(source, stream)
        return stream

    def _add_extras(self, source: Any) -> None:
        for stream in source.streams:
            if is_font(stream) and self._container_name == "matroska":
                self._muxer.add_attachment(stream.name or "font", stream.mimetype, stream.data)
        chapters = [self._moved(chapter) for chapter in source.chapters()]
        chapters = [chapter for chapter in chapters if chapter["end"] > 0]
        if chapters:
            self._muxer.set_chapters(chapters)

    def _moved(self, chapter: Any) -> Any:
        shift = round(self._like.origin / chapter["time_base"])
        metadata = {k: v for k, v in chapter["metadata"].items() if k == "title"}
        times = {"start": max(0, chapter["start"] - shift), "end": chapter["end"] - shift} if shift else {}
        return {**chapter, **times, "metadata": metadata}

    def _mux_video(self, packets: Iterable[av.Packet]) -> None:
        for packet in packets:
            if self._first_packet:
                _hide_thread_count(packet)
                self._first_packet = False
            if packet.pts is not None and (duration := self._durations.pop(packet.pts, 0)):
                packet.duration = duration
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
            raise OutputError(f"cannot write {self.output.name} ({reason(error)}); choose another --codec") from error
        except OSError as error:
            raise self._file.interrupt or output_error(self.output, error) from error


def _muxer_options(container: str) -> dict[str, str]:
    """Matroska would move every time by the sound's priming, about 21 ms; a block before zero is legal there."""
    return {"avoid_negative_ts": "disabled"} if container in {"matroska", "webm"} else {}


def _hide_thread_count(packet: av.Packet) -> None:
    """x264 writes its settings into the stream; how many threads it used tells the machine's number of cores."""
    data = bytes(packet)
    clean = re.sub(rb"threads=\d+", lambda m: b"threads=" + b"0" * (len(m[0]) - 8), data)
    if clean != data:
        packet.update(clean)
