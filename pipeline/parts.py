"""Files on their way to their names: without any name where the system allows it, so that no end leaves them behind.

On Linux a part is opened with O_TMPFILE and gets its name by linkat when it is complete: however the process ends, the
system takes it back. Elsewhere, and on file systems that cannot do that, it stands beside its final name under a hidden
one, locked for as long as its process lives; the next run for the same name sweeps what nobody holds. Knows nothing of
what is in a file.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

try:
    import fcntl
except ImportError:  # Windows, where an open file cannot be removed anyway
    fcntl = None  # type: ignore[assignment]

PRIVATE: Final = 0o600
_PROCESS: Final = Path("/proc/self/fd")


@dataclass(frozen=True, slots=True)
class Part:
    """An open file that is to become `final`."""

    final: Path
    handle: int  # of the file, for reading and writing; whoever opened the part closes it
    hidden: Path | None  # the name it has meanwhile; None: none

    @property
    def path(self) -> Path:
        """Where this process can read it meanwhile."""
        return self.hidden or Path(f"/proc/{os.getpid()}/fd/{self.handle}")

    def publish(self, *, replace: bool) -> None:
        """Bring it to the disk and give it its name in one step, over what stands there only with `replace`.

        Raises OSError, among them FileExistsError; then nothing has changed under that name.
        """
        os.fsync(self.handle)
        if self.hidden is None:
            self._link(replace=replace)
        elif replace:
            self.hidden.replace(self.final)
        else:
            rename_new(self.hidden, self.final)
        sync_folder(self.final.parent)

    def discard(self) -> None:
        """Remove the name it had meanwhile."""
        if self.hidden is not None:
            self.hidden.unlink(missing_ok=True)

    def _link(self, *, replace: bool) -> None:
        try:
            _name(self.handle, self.final)
        except FileExistsError:
            if not replace:
                raise
            beside = hidden_name(self.final)
            _name(self.handle, beside)
            try:
                beside.replace(self.final)
            except BaseException:
                beside.unlink(missing_ok=True)
                raise


def open_part(final: Path, mode: int = 0o666) -> Part:
    """A new part of `final`, after what killed runs left of it is swept. Raises OSError.

    `mode` is lessened by the umask, as always.
    """
    sweep(final)
    if hasattr(os, "O_TMPFILE") and _PROCESS.is_dir():
        with suppress(OSError):  # a file system that cannot: whatever else is wrong shows below
            return Part(final, os.open(final.parent, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, mode), None)
    hidden = hidden_name(final)
    handle = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
    _locked(handle)
    return Part(final, handle, hidden)


def hidden_name(final: Path) -> Path:
    """A new one in the same folder, so that renaming never copies."""
    return final.with_name(f".{final.name}.part-{secrets.token_hex(6)}")


def sweep(final: Path) -> None:
    """Remove the parts of `final` that belong to no living process. Best effort."""
    with suppress(OSError):
        for path in list(final.parent.iterdir()):
            if path.name.startswith(f".{final.name}.part-"):
                _remove_unless_held(path)


def rename_new(source: Path, target: Path) -> None:
    """Rename, but never over an existing file; atomic wherever the file system has hard links."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # no hard links here
        if os.path.lexists(target):
            raise FileExistsError(target) from None
        source.rename(target)
    else:
        source.unlink()


def sync_folder(folder: Path) -> None:
    """Best effort: some systems cannot open a folder."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _name(handle: int, target: Path) -> None:
    """linkat with AT_SYMLINK_FOLLOW, which Python calls only where a folder's descriptor is given."""
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.link(_PROCESS / str(handle), target.name, dst_dir_fd=folder, follow_symlinks=True)
    finally:
        os.close(folder)


def _remove_unless_held(path: Path) -> None:
    with suppress(OSError):
        handle = os.open(path, os.O_RDWR)
        try:
            if _locked(handle):
                path.unlink(missing_ok=True)
        finally:
            os.close(handle)


def _locked(handle: int) -> bool:
    """Whether nobody else held it; the lock lasts until the file is closed."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
