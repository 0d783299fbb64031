"""A file that has no name until it is complete. Knows nothing of what is in it."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import secrets
from pathlib import Path
from typing import Any

from revisage.pipeline.errors import OutputError
from revisage.pipeline.media.source import reason


class HiddenFile(io.FileIO):
    """A file beside `final` that takes its name in one step, or vanishes."""

    def __init__(self, final: Path) -> None:
        self._final = final
        self.path = final.with_name(f".{final.name}.part-{secrets.token_hex(6)}")
        self.interrupt: KeyboardInterrupt | None = None
        try:
            super().__init__(self.path, "x+")
        except OSError as error:
            raise output_error(final, error) from error

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
