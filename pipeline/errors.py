"""Every error that revisage raises on purpose. The library raises, `cli.py` prints one line and chooses the exit code.

    RevisageError
    ├── MediaError              a video cannot be read or written
    │   ├── NoVideoError        no video stream, or no frame in it
    │   ├── DamagedMediaError   the stream breaks off or does not decode
    │   └── OutputError         unwritable folder, full disk, existing file, input = output
    ├── PlanError               a plan file does not follow its schema or does not fit the video
    ├── KeyFileError            a key file is malformed, unreadable, or would be overwritten
    ├── IndexFileError          anything wrong with an .rvx
    │   ├── WrongKeyError       the file is sound, the key opens nothing in it
    │   ├── TamperedError       an entry was changed, is missing, was added, swapped, or cut short
    │   ├── VersionError        a format version this program does not know
    │   └── MismatchError       a sound index, but of another video
    ├── ModelError              a model folder is missing, incomplete or of an unknown family
    ├── DeviceError             the device asked for is not there
    ├── LeakError               verification found a face that shows; nothing was written
    └── BatchError              the batch as a whole cannot run (one failed file is not an error of this kind)
        └── BatchStoppedError   it began and could not go on; `report` says how far it came

Messages: no capital at the start, no full stop at the end, what happened and what to do next. They never hold a secret.
"""

from __future__ import annotations

from typing import Any


class RevisageError(Exception):
    """Base of all. `str(error)` is one line fit for a person."""


class MediaError(RevisageError, OSError):
    """A video cannot be read or written."""


class NoVideoError(MediaError):
    """The file holds no video stream, or not one frame."""


class DamagedMediaError(MediaError):
    """The stream breaks off or does not decode; anonymizing part of a video silently would leak or lose."""


class OutputError(MediaError):
    """The output cannot be written; whatever stood there before is untouched."""


class PlanError(RevisageError, ValueError):
    """A plan does not follow its schema or does not fit the video."""


class KeyFileError(RevisageError, ValueError):
    """A key file is malformed, unreadable, or would be overwritten."""


class IndexFileError(RevisageError, ValueError):
    """Anything wrong with an `.rvx` track index."""


class WrongKeyError(IndexFileError):
    """The index is sound, the key opens nothing in it."""


class TamperedError(IndexFileError):
    """An entry was changed, is missing, was added or swapped, or the file is cut short."""


class VersionError(IndexFileError):
    """The format version is not one this program knows."""


class MismatchError(IndexFileError):
    """A sound index, but of another video."""


class ModelError(RevisageError, ValueError):
    """A model folder is missing, incomplete or of an unknown family."""


class DeviceError(RevisageError, RuntimeError):
    """The device asked for is not there."""


class LeakError(RevisageError, RuntimeError):
    """Verification found a face that shows. `report` is a `verification.report.Report`."""

    def __init__(self, message: str, report: Any) -> None:
        super().__init__(message)
        self.report = report


class BatchError(RevisageError, RuntimeError):
    """The batch as a whole cannot run."""


class BatchStoppedError(BatchError):
    """The batch began and could not go on. `report` is a `batch.run.BatchReport` of what was done until then."""

    def __init__(self, message: str, report: Any) -> None:
        super().__init__(message)
        self.report = report
