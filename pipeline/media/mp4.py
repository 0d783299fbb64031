"""Moves an MP4's index to its front, so that players can begin before they have the whole file. Knows no stream."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

_CHUNK = 1 << 20
_PARENTS = {b"moov", b"trak", b"mdia", b"minf", b"stbl"}
_LARGEST = (1 << 32) - 1


class _Box(NamedTuple):
    kind: bytes
    start: int
    body: int
    end: int


def index_in_front(file: int) -> bool:
    """Put `moov` before the first `mdat` of the complete file, in place; `file` is a descriptor to read and write.

    False, and nothing is changed, where it lies there already, or where 32-bit offsets would not reach any more.
    Source: ISO/IEC 14496-12, 4.2, 8.7.5.
    """
    size = os.fstat(file).st_size
    boxes = list(_boxes(lambda at, count: os.pread(file, count, at), 0, size))
    media = next((box for box in boxes if box.kind == b"mdat"), None)
    index = boxes[-1] if boxes else None
    if media is None or index is None or index.kind != b"moov" or index.end != size:
        return False
    content = bytearray(os.pread(file, index.end - index.start, index.start))
    if not _shift_offsets(content, len(content)):
        return False
    _move_up(file, media.start, index.start, len(content))
    _write_all(file, bytes(content), media.start)
    return True


def _boxes(read: object, start: int, end: int) -> Iterator[_Box]:
    at = start
    while at + 8 <= end:
        header: bytes = read(at, 16)  # type: ignore[operator]
        length, body = int.from_bytes(header[:4], "big"), at + 8
        if length == 1:
            length, body = int.from_bytes(header[8:16], "big"), at + 16
        if length < body - at or at + length > end:
            return
        yield _Box(header[4:8], at, body, at + length)
        at += length


def _shift_offsets(content: bytearray, shift: int) -> bool:
    """Every chunk offset in a `moov` box `shift` larger, in place; False where one would not fit."""
    for kind, body in _offset_tables(content, 0, len(content)):
        width = ">I" if kind == b"stco" else ">Q"
        step = struct.calcsize(width)
        (count,) = struct.unpack_from(">I", content, body + 4)
        for i in range(count):
            at = body + 8 + i * step
            offset = struct.unpack_from(width, content, at)[0] + shift
            if kind == b"stco" and offset > _LARGEST:
                return False
            struct.pack_into(width, content, at, offset)
    return True


def _offset_tables(content: bytearray, start: int, end: int) -> Iterator[tuple[bytes, int]]:
    for box in _boxes(lambda at, count: bytes(content[at : at + count]), start, end):
        if box.kind in _PARENTS:
            yield from _offset_tables(content, box.body, box.end)
        elif box.kind in {b"stco", b"co64"}:
            yield box.kind, box.body


def _move_up(file: int, start: int, end: int, by: int) -> None:
    """Bytes `start` to `end`, the last ones first, lest they overwrite each other."""
    at = end
    while at > start:
        count = min(_CHUNK, at - start)
        at -= count
        _write_all(file, os.pread(file, count, at), at + by)


def _write_all(file: int, content: bytes, at: int) -> None:
    rest = memoryview(content)
    while rest:
        written = os.pwrite(file, rest, at)
        rest, at = rest[written:], at + written
