"""A ZIP of stored entries, written as a stream and read strictly. Knows no key, no JSON and no entry name.

Any ZIP tool opens what `ArchiveWriter` writes (APPNOTE.TXT 6.3; ZIP64 where numbers ask for it). `read_members` accepts
only that one form: it walks the local headers from byte 0, rebuilds every header byte from names, sizes and checksums,
and compares. So every byte of the file is either content or has exactly one allowed value, and two programs can never
see different entries in it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO, Final

from revisage.pipeline import limits
from revisage.pipeline.errors import TamperedError

CONTENT_LIMIT: Final = 0xFFFF_0000  # bytes of one entry; the field has 32 bits

_NAME_LIMIT: Final = 64
_LOCAL: Final = struct.Struct("<4s5H3I2H")
_CENTRAL: Final = struct.Struct("<4s6H3I5H2I")
_END64: Final = struct.Struct("<4sQ2H2I4Q")
_LOCATOR64: Final = struct.Struct("<4sIQI")
_END: Final = struct.Struct("<4s4H2IH")
_MAX16, _MAX32 = 0xFFFF, 0xFFFF_FFFF
_STORED, _NO_FLAGS, _NO_DISK = 0, 0, 0
_TIME, _DATE = 0, 0x0021  # 1980-01-01 00:00: an archive tells no date
_PLAIN, _ZIP64 = 20, 45  # "version needed"
_MADE_BY = 3 << 8 | _ZIP64  # Unix
_MODE = 0o100644 << 16  # a plain file, rw-r--r--, once unpacked


@dataclass(frozen=True, slots=True)
class Member:
    """One entry."""

    name: str
    size: int  # bytes of content
    crc: int  # CRC-32 of the content
    offset: int  # of its local header in the file

    @property
    def start(self) -> int:
        """Where its content begins."""
        return self.offset + _LOCAL.size + len(self.name)

    @property
    def end(self) -> int:
        """Where its content ends and the next header begins."""
        return self.start + self.size


class ArchiveWriter:
    """Appends entries to `stream`, which it neither seeks nor closes."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._members: list[Member] = []
        self._end = 0

    def add(self, name: str, content: bytes) -> None:
        """Append one entry. `name` is ASCII, at most 64 characters; the caller sees to it that it is new."""
        if not 0 < len(name.encode("ascii")) <= _NAME_LIMIT or len(content) > CONTENT_LIMIT:
            raise ValueError(f"{name} is not an entry this archive can hold")
        member = Member(name, len(content), zlib.crc32(content), self._end)
        self._stream.write(_local_header(member))
        self._stream.write(content)
        self._members.append(member)
        self._end = member.end

    def close(self) -> None:
        """Append the directory; nothing may follow."""
        self._stream.write(directory(self._members, self._end))


def read_members(stream: BinaryIO) -> tuple[Member, ...]:
    """All entries, in file order. Raises TamperedError unless every byte outside their contents is as written."""
    members = tuple(islice(_walk(stream), limits.ENTRIES + 1))
    if len(members) > limits.ENTRIES:
        raise TamperedError("the index has more entries than any this program writes: get a sound copy")
    end = members[-1].end if members else 0
    expected = directory(members, end)
    stream.seek(end)
    if stream.read(len(expected) + 1) != expected:
        raise TamperedError("the index is cut short or its directory was changed: get a sound copy")
    return members


def read_content(stream: BinaryIO, member: Member) -> bytes:
    """The content of one entry. Raises TamperedError where it does not fit its checksum."""
    stream.seek(member.start)
    content = stream.read(member.size)
    if len(content) != member.size or zlib.crc32(content) != member.crc:
        raise TamperedError(f"{member.name} was changed or cut short: get a sound copy of the index")
    return content


def directory(members: Sequence[Member], start: int) -> bytes:
    """The central directory of `members` as it stands at byte `start`, with all end records."""
    records = b"".join(map(_central_header, members))
    count, size = len(members), len(records)
    end64 = b""
    if count >= _MAX16 or size >= _MAX32 or start >= _MAX32:
        end64 = _END64.pack(
            b"PK\6\6", _END64.size - 12, _MADE_BY, _ZIP64, _NO_DISK, _NO_DISK, count, count, size, start
        ) + _LOCATOR64.pack(b"PK\6\7", _NO_DISK, start + size, 1)
    short = min(count, _MAX16)
    end = _END.pack(b"PK\5\6", _NO_DISK, _NO_DISK, short, short, min(size, _MAX32), min(start, _MAX32), 0)
    return records + end64 + end


def directory_size(stream: BinaryIO) -> int:
    """Bytes of the directory that the end of a ZIP file announces; 0 where there is none. Reads the end alone."""
    size = stream.seek(0, 2)
    stream.seek(max(0, size - (1 << 16) - _END.size))
    tail = stream.read()
    near, far = tail.rfind(b"PK\5\6"), tail.rfind(b"PK\6\6")
    if far >= 0 and len(tail) - far >= _END64.size:
        return int(_END64.unpack_from(tail, far)[8])
    return int(_END.unpack_from(tail, near)[5]) if 0 <= near <= len(tail) - _END.size else 0


def _walk(stream: BinaryIO) -> Iterator[Member]:
    offset = 0
    while (member := _local_member(stream, offset)) is not None:
        yield member
        offset = member.end


def _local_member(stream: BinaryIO, offset: int) -> Member | None:
    """The entry whose header is at `offset`; None where something else, for instance the directory, stands there."""
    stream.seek(offset)
    header = stream.read(_LOCAL.size + _NAME_LIMIT)
    if len(header) < _LOCAL.size or not header.startswith(b"PK\3\4"):
        return None
    *_, crc, size, _, name_size, _ = _LOCAL.unpack_from(header)
    name = header[_LOCAL.size : _LOCAL.size + name_size]
    member = Member(name.decode("latin-1"), size, crc, offset)
    if name_size > _NAME_LIMIT or not name.isascii() or not header.startswith(_local_header(member)):
        raise TamperedError("the header of an entry was changed: get a sound copy of the index")
    return member


def _local_header(member: Member) -> bytes:
    name = member.name.encode("latin-1")
    fields = (_PLAIN, _NO_FLAGS, _STORED, _TIME, _DATE, member.crc, member.size, member.size, len(name), 0)
    return _LOCAL.pack(b"PK\3\4", *fields) + name


def _central_header(member: Member) -> bytes:
    name = member.name.encode("latin-1")
    far = struct.pack("<2HQ", 1, 8, member.offset) if member.offset >= _MAX32 else b""
    fields = (_MADE_BY, _ZIP64 if far else _PLAIN, _NO_FLAGS, _STORED, _TIME, _DATE)
    sizes = (member.crc, member.size, member.size, len(name), len(far), 0)
    return _CENTRAL.pack(b"PK\1\2", *fields, *sizes, _NO_DISK, 0, _MODE, min(member.offset, _MAX32)) + name + far
