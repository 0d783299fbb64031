"""Whether a file was cut short: FFmpeg ends quietly where a Matroska or MP4 file does. Knows no stream and no av."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from revisage.pipeline.errors import DamagedMediaError
from revisage.pipeline.media.source import REPAIR


def refuse_cut_file(path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        file.seek(0)
        end = (
            matroska_end(file) if head[:4] == b"\x1aE\xdf\xa3" else _mp4_end(file, size) if head[4:8] == b"ftyp" else 0
        )
    if end > size:
        raise DamagedMediaError(f"{path.name} is cut short, {end - size} bytes are missing; get it whole, or {REPAIR}")


def matroska_end(file: BinaryIO) -> int:
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
