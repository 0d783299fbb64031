"""What became of each file of a batch, in one SQLite file that survives a kill. Knows no video, no key and no secret.

The journal says which files are finished; the lock beside it keeps a second batch out of the same folder. A killed
process gives its lock back by dying, and its last file is found in the state `running`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from revisage.pipeline.errors import BatchError

JOURNAL = ".revisage-journal.sqlite"
LOCK = ".revisage-lock.sqlite"
VERSION = 2
State = Literal["pending", "running", "done", "failed"]


@dataclass(frozen=True, slots=True)
class Row:
    """One input file."""

    name: str  # relative to the input folder, with slashes
    state: State = "pending"
    size: int = 0  # bytes of the input
    mtime_ns: int = 0  # of the input
    sha256: str = ""  # of the input; "" until it was read
    options: str = ""  # fingerprint of everything that shapes the output
    output: str = ""  # relative to the output folder, with slashes
    output_size: int = 0  # bytes
    owned: bool = False  # whatever stands under `output` was made by this batch
    error: str = ""  # one line
    seconds: float = 0.0
    frames: int = 0
    faces: int = 0
    outputs: str = ""  # JSON: size, time of change and SHA-256 of each output file


_COLUMNS = tuple(column.name for column in fields(Row))
_TYPES = {"str": "TEXT", "State": "TEXT", "int": "INTEGER", "bool": "INTEGER", "float": "REAL"}
_SCHEMA = ", ".join(f"{column.name} {_TYPES[str(column.type)]} NOT NULL" for column in fields(Row))


class Journal:
    """The journal of one output folder, locked for as long as it is open. For a `with` statement."""

    def __init__(self, folder: Path) -> None:
        """Raises BatchError where another batch is at work in `folder`, or the journal cannot be used."""
        self._path = path = folder / JOURNAL
        self._lock = _lock(folder)
        try:
            with _usable(path):
                self._database = sqlite3.connect(path, isolation_level=None)
                self._database.execute("PRAGMA journal_mode = WAL")
                self._prepare(path)
        except BaseException:
            self._lock.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._database.close()
        self._lock.close()

    def get(self, name: str) -> Row | None:
        """The row of an input file."""
        found = self._database.execute("SELECT * FROM files WHERE name = ?", (name,)).fetchone()
        return None if found is None else _row(found)

    def put(self, row: Row) -> None:
        """Write a row, on the disk when this returns. Raises BatchError where the disk is full or fails."""
        marks = ", ".join("?" * len(_COLUMNS))
        with _writable(self._path):
            self._database.execute(f"INSERT OR REPLACE INTO files VALUES ({marks})", astuple(row))  # noqa: S608

    def rows(self) -> list[Row]:
        """All rows by name."""
        return [_row(found) for found in self._database.execute("SELECT * FROM files ORDER BY name")]

    def _prepare(self, path: Path) -> None:
        version = self._database.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, 1, VERSION):
            raise BatchError(f"{path} has version {version}, this program knows {VERSION}; use a newer revisage")
        if version == 1:  # had no digests of outputs
            self._database.execute("ALTER TABLE files ADD COLUMN outputs TEXT NOT NULL DEFAULT ''")
        self._database.execute(f"CREATE TABLE IF NOT EXISTS files ({_SCHEMA}, PRIMARY KEY (name))")
        self._database.execute(f"PRAGMA user_version = {VERSION}")


def _row(found: tuple[object, ...]) -> Row:
    row = Row(*found)  # type: ignore[arg-type]  # the schema is made from Row
    return replace(row, owned=bool(row.owned))


def _lock(folder: Path) -> sqlite3.Connection:
    """A transaction that stays open: SQLite's locks work on every system and end with the process."""
    try:
        lock = sqlite3.connect(folder / LOCK, timeout=0, isolation_level=None)
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise BatchError(f"another batch is at work in {folder}; wait for it or choose another folder") from error
        raise BatchError(f"cannot write to {folder} ({error}); choose another folder") from error
    return lock


@contextmanager
def _writable(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        hint = "free some space and give the same command again"
        raise BatchError(f"cannot write the journal {path} ({error}); {hint}") from error


@contextmanager
def _usable(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise BatchError(f"{path} is not a usable journal ({error}); delete it to start over") from error
