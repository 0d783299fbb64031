"""A file that has no name until it is complete. Knows nothing of what is in it."""

from __future__ import annotations

import errno
import io
import os
import secrets
import struct
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from revisage.pipeline.errors import OutputError
from revisage.pipeline.media.source import reason
from revisage.pipeline.parts import PRIVATE, open_part

_CHUNK: Final = 1 << 20  # bytes


class HiddenFile(io.FileIO):
    """A file that takes the name `final` in one step, or vanishes, however the process ends.

    With `private` nobody but its owner can read it, not even once it has its name; and where the system cannot keep a
    file without a name, what stands on the disk until then is encrypted under a key that is nowhere but in memory.
    """

    def __init__(self, final: Path, *, private: bool = False) -> None:
        self._final = final
        self.interrupt: KeyboardInterrupt | None = None
        try:
            self._part = open_part(final, PRIVATE if private else 0o666)
        except OSError as error:
            raise output_error(final, error) from error
        self._veil = _Veil(secrets.token_bytes(32)) if private and self._part.hidden is not None else None
        super().__init__(self._part.handle, "r+")

    @property
    def path(self) -> Path:
        """Where this process can read what has been written so far."""
        return self._part.path

    def __exit__(self, *_: object) -> None:
        self.close()
        self._part.discard()

    def write(self, data: Any) -> int:
        """All of `data`, or an OSError; a raw file may write a part when the disk fills.

        Called from FFmpeg, where an interrupt would be lost together with the data.
        """
        try:
            rest = memoryview(data if self._veil is None else self._veil.over(bytes(data), self.tell()))
            while rest:
                rest = rest[super().write(rest) or 0 :]
        except KeyboardInterrupt as interrupt:
            self.interrupt = interrupt
            raise InterruptedError(errno.EINTR, os.strerror(errno.EINTR)) from interrupt
        return len(data)

    def read(self, size: int | None = -1) -> bytes:
        """As it was written."""
        at = self.tell()
        data = super().read(-1 if size is None else size) or b""
        return data if self._veil is None else self._veil.over(data, at)

    def publish(self, *, replace: bool = True) -> None:
        """Flush to the disk and take the name. Raises OSError, FileExistsError where it is taken without `replace`."""
        if self._veil is not None:
            self._unveil(self._veil)
        self._part.publish(replace=replace)
        self.close()

    def _unveil(self, veil: _Veil) -> None:
        """Decrypt in place: the file is complete, and this is its last step before it gets its name."""
        self.seek(0)
        while data := super().read(_CHUNK):
            at = self.tell() - len(data)
            self.seek(at)
            rest = memoryview(veil.over(data, at))
            while rest:
                rest = rest[super().write(rest) or 0 :]


class _Veil:
    """ChaCha20's key stream over a file, at any place in it (RFC 8439, with a block counter of 64 bits)."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def over(self, data: bytes, at: int) -> bytes:
        """`data` that stands at byte `at`, encrypted or decrypted."""
        block, skip = divmod(at, 64)
        cipher = Cipher(algorithms.ChaCha20(self._key, struct.pack("<QQ", block, 0)), mode=None).encryptor()
        cipher.update(bytes(skip))
        return cipher.update(data)


def output_error(output: Path, error: OSError) -> OutputError:
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
    return OutputError(f"cannot write {output}: {reason(error)}; {hint}")
