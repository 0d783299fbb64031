"""What becomes of sound and subtitles: copied, converted to what the container takes, or left out. Knows no picture."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import av
from av.error import FFmpegError

from revisage.pipeline.media.remux import copy_tags, describe

_SOUND = {"mp4": "aac", "mov": "aac", "webm": "libopus", "matroska": "aac"}
_TEXT = {"mp4": "mov_text", "mov": "mov_text", "webm": "webvtt", "matroska": "subrip"}
_TEXTS = {"mov_text", "subrip", "srt", "ass", "ssa", "webvtt", "text"}
_RATES = {8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000}  # that every AAC decoder plays
_PER_CHANNEL = 96_000  # bits a second
_PRIMING = Fraction(6, 100)  # seconds: what an encoder's own start may take before the presented one


@dataclass(frozen=True, slots=True)
class SidePlan:
    """What becomes of one stream."""

    index: int
    how: Literal["copy", "convert", "leave"]
    codec: str  # that it will have; of a stream that is left out, empty
    said: str  # for a person


def plan_side(stream: Any, container: str) -> SidePlan:
    """Copied where the muxer takes it, else converted, else left out."""
    name = describe(stream)
    if stream.codec_context is None:
        return SidePlan(stream.index, "leave", "", name)
    if _taken(stream, container):
        return SidePlan(stream.index, "copy", stream.codec_context.name, name)
    codec = stream.codec_context.codec.canonical_name
    wanted = (_SOUND if stream.type == "audio" else _TEXT).get(container, "")
    if stream.type == "audio" and container == "matroska" and codec.startswith("pcm_"):
        wanted = "flac"
    if wanted and (stream.type == "audio" or codec in _TEXTS):
        return SidePlan(stream.index, "convert", wanted, f"{name} as {wanted}")
    return SidePlan(stream.index, "leave", "", name)


def _taken(stream: Any, container: str) -> bool:
    """Does the muxer write a header with this stream? Tried out, since it alone knows."""
    muxer = av.open(io.BytesIO(), "w", format=container)
    try:
        muxer.add_stream_from_template(stream)
        muxer.start_encoding()
    except (ValueError, FFmpegError):
        return False
    return True


class Copied:
    """Packets as they are, at the output's times; what lies outside the presented span stays behind."""

    def __init__(self, source: Any, muxer: Any, origin: Fraction) -> None:
        self._stream = muxer.add_stream_from_template(source)
        copy_tags(source, self._stream)
        self._span = Presented(origin)

    def packets(self, packet: av.Packet | None) -> Iterator[av.Packet]:
        for kept in self._span.of(packet):
            kept.stream = self._stream
            yield kept


class Presented:
    """The packets of one stream within its edit list, moved to an origin."""

    def __init__(self, origin: Fraction) -> None:
        self._origin = origin
        self._lead: list[av.Packet] | None = []  # discarded ones before the first presented; None: it has come

    def of(self, packet: av.Packet | None) -> Iterator[av.Packet]:
        """`packet`, with an encoder's priming before the first one; nothing where it is not presented."""
        if packet is None:
            return
        if packet.is_discard:
            if self._lead is not None:
                self._lead.append(packet)
            return
        lead, self._lead = self._lead or [], None
        for kept in [*(lead if _is_priming(lead, packet) else []), packet]:
            if self._move(kept):
                yield kept

    def _move(self, packet: av.Packet) -> bool:
        """Take the origin off; False where all of it lies before that."""
        if not self._origin:
            return True
        shift = round(self._origin / packet.time_base)
        packet.pts = None if packet.pts is None else packet.pts - shift
        packet.dts = None if packet.dts is None else packet.dts - shift
        stamp = packet.pts if packet.pts is not None else packet.dts
        return stamp is None or bool(stamp + (packet.duration or 0) > 0)


def _is_priming(lead: list[av.Packet], first: av.Packet) -> bool:
    """Not something that was cut away: no more than an encoder puts before its first sample."""
    if not lead or lead[0].pts is None or first.pts is None or first.stream.type != "audio":
        return False
    return bool((first.pts - lead[0].pts) * first.time_base <= _PRIMING)


class ConvertedSound:
    """Decoded and encoded again, for a container that does not take the codec."""

    def __init__(self, source: Any, muxer: Any, codec: str, origin: Fraction) -> None:
        context = source.codec_context
        rate = 48000 if codec == "libopus" or context.sample_rate not in _RATES else context.sample_rate
        layout = context.layout.name if context.layout.nb_channels else "stereo"
        self._stream = muxer.add_stream(codec, rate=rate, layout=layout)
        if codec != "flac":
            self._stream.bit_rate = _PER_CHANNEL * self._stream.codec_context.layout.nb_channels
        copy_tags(source, self._stream)
        self._span, self._rate = Presented(origin), rate
        self._resampler: Any = None  # made with the first frame, when the encoder is open

    def packets(self, packet: av.Packet | None) -> Iterator[av.Packet]:
        frames: list[Any] = [None]
        if packet is not None:
            frames = [frame for kept in self._span.of(packet) for frame in _decoded(kept)]
        for frame in frames:
            for ready in self._resampled(frame):
                yield from self._stream.encode(ready)
        if packet is None:
            yield from self._stream.encode(None)

    def _resampled(self, frame: Any) -> list[Any]:
        if self._resampler is None:
            if frame is None:
                return []
            self._stream.codec_context.open(strict=False)
            context = self._stream.codec_context
            size = context.frame_size or None
            self._resampler = av.AudioResampler(context.format, context.layout, self._rate, size)
        return list(self._resampler.resample(frame))


def _decoded(packet: av.Packet) -> list[Any]:
    """The frames of a packet of sound; none of a damaged one, which is silence."""
    try:
        return list(packet.decode())
    except FFmpegError:
        return []


class ConvertedText:
    """The words of subtitles in the container's own format, without their looks."""

    def __init__(self, source: Any, muxer: Any, codec: str, origin: Fraction) -> None:
        self._from, self._to = source.codec_context.codec.canonical_name, codec
        self._stream = muxer.add_mux_stream(codec, time_base=Fraction(1, 1000))
        copy_tags(source, self._stream)
        self._span = Presented(origin)

    def packets(self, packet: av.Packet | None) -> Iterator[av.Packet]:
        for kept in self._span.of(packet):
            words = plain_text(bytes(kept), self._from)
            if words:
                yield self._packed(kept, words)

    def _packed(self, packet: av.Packet, words: str) -> av.Packet:
        content = words.encode()
        made = av.Packet(len(content).to_bytes(2, "big") + content if self._to == "mov_text" else content)
        scale = packet.time_base * 1000
        start = packet.pts if packet.pts is not None else packet.dts or 0
        made.pts = made.dts = round(start * scale)
        made.duration = round((packet.duration or 0) * scale)
        made.time_base = Fraction(1, 1000)
        made.stream = self._stream
        return made


def plain_text(content: bytes, codec: str) -> str:
    """The words of one subtitle packet of `codec`; lines parted by line feeds."""
    if codec == "mov_text":
        content = content[2 : 2 + int.from_bytes(content[:2], "big")]
    text = content.decode("utf-8", "replace").replace("\r\n", "\n")
    if codec in {"ass", "ssa"}:
        text = text.split(",", 8)[-1]
        text = re.sub(r"\{[^}]*\}", "", text).replace("\\N", "\n").replace("\\n", "\n").replace("\\h", " ")
    return re.sub(r"</?[a-zA-Z][^>]*>", "", text).strip()


Side = Copied | ConvertedSound | ConvertedText


def open_side(plan: SidePlan, source: Any, muxer: Any, origin: Fraction) -> Side | None:
    """The stream in the output; None where it is left out."""
    if plan.how == "leave":
        return None
    if plan.how == "copy":
        return Copied(source, muxer, origin)
    kind = ConvertedSound if source.type == "audio" else ConvertedText
    return kind(source, muxer, plan.codec, origin)
