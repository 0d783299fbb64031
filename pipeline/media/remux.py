"""What an output takes over besides pixels, packet by packet and tag by tag, and what it does not. Encodes nothing."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import av
from av.error import FFmpegError
from av.stream import Disposition

from revisage.pipeline.errors import DamagedMediaError
from revisage.pipeline.media.source import REPAIR, is_picture_attachment, open_input, reason, video_stream

_KEPT_DISPOSITIONS = ~(Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image)
_STRUCTURAL_TAGS = {"language", "filename", "mimetype", "major_brand", "minor_version", "compatible_brands"}
_STATISTICS = re.compile(r"(DURATION|BPS|NUMBER_OF_(FRAMES|BYTES)|_STATISTICS_.*)(-eng)?$")  # Matroska's own, made anew


class Side(Protocol):
    """One stream of sound or subtitles in the output."""

    def packets(self, packet: av.Packet | None) -> Iterator[av.Packet]:
        """What the muxer gets for a packet of the source; None is the end."""


class StreamCopy:
    """Packets of the side streams, in the source's order, handed out up to a time."""

    def __init__(self, source: Any, sides: Mapping[int, Side], path: Path | None) -> None:
        self._packets = _through(source, sides, path) if source is not None and sides else iter(())
        self._held: av.Packet | None = None

    def until(self, time: Fraction | None) -> Iterator[av.Packet]:
        """Packets whose time is at most `time` in seconds; all that are left when it is None."""
        while (packet := self._held or next(self._packets, None)) is not None:
            self._held = packet
            stamp = packet.dts if packet.dts is not None else packet.pts
            if time is not None and stamp is not None and stamp * packet.time_base > time:
                return
            self._held = None
            yield packet


def _through(source: Any, sides: Mapping[int, Side], path: Path | None) -> Iterator[av.Packet]:
    for packet in _packets_of(source, sorted(sides), path):
        yield from sides[packet.stream_index].packets(packet)
    for side in sides.values():
        yield from side.packets(None)


def _packets_of(container: Any, indices: Sequence[int], path: Path | None) -> Iterator[av.Packet]:
    try:
        for packet in container.demux([container.streams[index] for index in indices]):
            if packet.size and not _is_gap(packet):
                yield packet
    except FFmpegError as error:
        name = path.name if path else "input"
        raise DamagedMediaError(f"{name}: its sound or subtitles cannot be read ({reason(error)}); {REPAIR}") from error


def _is_gap(packet: av.Packet) -> bool:
    """MP4's empty subtitle between two; the muxer makes its own."""
    return packet.size == 2 and packet.stream.type == "subtitle" and bytes(packet) == b"\0\0"


def copy_tags(source: Any, stream: Any) -> None:
    stream.disposition = int(source.disposition & _KEPT_DISPOSITIONS)
    if source.language:
        stream.metadata["language"] = source.language


def is_font(stream: Any) -> bool:
    kind = (stream.mimetype or "").lower() if stream.type == "attachment" else ""
    return kind.startswith("font/") or bool(re.search(r"font|truetype|opentype", kind))


def find_dropped(path: Path, container: str, left: Collection[int] = ()) -> tuple[list[str], dict[str, Any]]:
    """Names of what an output in `container` will not have of `path`, and the tags among it with their values.

    `left`: indices of sound and subtitles that are not taken over.
    """
    with open_input(path) as source:
        video = video_stream(source, path)
        others = [s for s in source.streams if s.index != video.index]
        lost = [s for s in others if s.index in left or not _is_carried(s, container)]
        tags = {"container": _foreign_tags(source.metadata)}
        tags |= {f"stream {s.index}": _foreign_tags(s.metadata) for s in source.streams}
        tags |= {f"chapter {i}": _foreign_tags(c["metadata"], "title") for i, c in enumerate(source.chapters())}
        tags = {place: found for place, found in tags.items() if found}
        streams = [describe(stream) for stream in lost]
    names = [f"{place} tag {name}" for place, found in tags.items() for name in found]
    return streams + names, {"streams": streams, "tags": tags}


def _is_carried(stream: Any, container: str) -> bool:
    return stream.type in {"audio", "subtitle"} or (is_font(stream) and container == "matroska")


def _foreign_tags(tags: Mapping[str, str], *kept: str) -> dict[str, str]:
    same = _STRUCTURAL_TAGS | set(kept)
    return {k: v for k, v in tags.items() if k.lower() not in same and not _STATISTICS.match(k)}


def describe(stream: Any) -> str:
    kind = "cover art" if is_picture_attachment(stream) else f"{stream.type} stream"
    context = stream.codec_context
    return f"{kind} {stream.index} ({context.name if context else getattr(stream, 'name', None) or 'unknown'})"
