"""Opens files for reading: which of their streams is the video, what their bytes add up to, and FFmpeg's errors as
one line. Knows no frame and no output.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
from av.error import FFmpegError
from av.stream import Disposition

from revisage.pipeline.errors import DamagedMediaError, MediaError, NoVideoError

REPAIR = "repair it first, for example: ffmpeg -i IN -c copy FIXED.mkv"


def open_input(path: Path) -> Any:
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
        raise DamagedMediaError(f"{path.name} is not a readable video ({reason(error)}); {REPAIR}") from error


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    try:
        yield
    except FFmpegError as error:
        raise DamagedMediaError(f"{path.name} does not decode ({reason(error)}); {REPAIR}") from error


def video_stream(container: Any, path: Path) -> Any:
    """The stream a player would show: the default one, else the first; never cover art or a text file's rendering."""
    streams = [s for s in container.streams.video if not is_picture_attachment(s)]
    if not streams or container.format.name == "tty":
        raise NoVideoError(f"{path.name} has no video stream; nothing to do")
    stream = next((s for s in streams if s.disposition & Disposition.default), streams[0])
    if stream.codec_context is None:
        raise MediaError(f"{path.name}: no decoder for its video stream; convert it first, for example to H.264")
    return stream


def is_picture_attachment(stream: Any) -> bool:
    return bool(stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails))


def video_digest(path: Path | str) -> str:
    """SHA-256 (hex) over the video packets in file order, each after its length in 8 bytes; no container data."""
    path = Path(path)
    digest = hashlib.sha256()
    with open_input(path) as container, reading(path):
        for packet in container.demux(video_stream(container, path)):
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
        raise MediaError(f"{path} cannot be read: {reason(error)}; check its name and permissions") from error


def reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return str(text)[:1].lower() + str(text)[1:]
