"""A folder of videos in, the same folder of anonymized videos out. Owns the order of work and what a failure costs.

    find ─► skip what the journal knows as finished ─► one process per job ─► journal

Every job has a process of its own that lives for many files: a file that fails, and a process that is killed, cost that
file and no other. A batch that is itself killed takes its processes with it; the next one goes on where it stopped.
Secret keys reach the processes through a pipe and are never written anywhere.
"""

from __future__ import annotations

import hashlib
import json
import mimetypes
import os
import signal
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence, Set
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from types import FrameType
from typing import Literal

from revisage.pipeline.batch.journal import Journal, Row
from revisage.pipeline.errors import BatchError, BatchStoppedError, LeakError, OutputError, RevisageError
from revisage.pipeline.media import container_of, file_digest, open_video
from revisage.pipeline.parts import sweep
from revisage.pipeline.places import index_path, settle_pair
from revisage.pipeline.run import JobOptions, JobReport, KeyRing, Workshop
from revisage.pipeline.types import Progress, silent

Outcome = Literal["done", "skipped", "failed", "setup", "interrupted"]
_ENDINGS = frozenset({
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mts", ".m2ts", ".m2t", ".ts", ".mpg", ".mpeg", ".mpe", ".vob",
    ".wmv", ".asf", ".flv", ".f4v", ".3gp", ".3g2", ".ogv", ".mxf", ".dv", ".mod", ".tod", ".rm", ".rmvb", ".divx",
    ".y4m", ".nut",
})  # fmt: skip
_SAME_RESULT = {"device", "threads", "batch_size"}  # options that make no other output


@dataclass(frozen=True, slots=True)
class Item:
    """One video to do."""

    name: str  # relative to the input folder, with slashes
    source: Path
    output: Path


@dataclass(frozen=True, slots=True)
class FileResult:
    """What became of one video."""

    name: str
    state: Outcome
    output: Path
    error: str = ""
    seconds: float = 0.0
    frames: int = 0
    faces: int = 0
    people: int = 0
    sha256: str = ""
    warnings: tuple[str, ...] = ()
    verified: bool = False  # somebody looked at the finished video again
    leaks: int = 0  # faces that showed, over all frames; then there is no output


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What became of all of them, in the order of their names."""

    files: tuple[FileResult, ...]
    seconds: float

    def count(self, state: Outcome) -> int:
        """How many ended so."""
        return sum(file.state == state for file in self.files)

    @property
    def failed(self) -> tuple[FileResult, ...]:
        """Those that failed."""
        return tuple(file for file in self.files if file.state == "failed")


def run_batch(
    source: Path,
    output: Path,
    keys: KeyRing,
    options: JobOptions,
    *,
    jobs: int = 1,
    overwrite: bool = False,
    progress: Progress = silent,
    report: Callable[[FileResult], None] = lambda _: None,
) -> BatchReport:
    """Anonymize every video below `source` into the same place below `output`; `report` hears of each when it is done.

    Files that the journal in `output` knows as done, with the same content, options and recipients, are skipped. Files
    in `output` that no batch made are only replaced with `overwrite`. Raises BatchError when there is nothing to do or
    nothing can be done, BatchStoppedError when it cannot go on; a file that fails is in the report.
    """
    began = time.monotonic()
    _check_folders(source, output)
    items = list(find_items(source, output))
    if not items:
        raise BatchError(f"no video below {source}; name a folder that holds some")
    output.mkdir(parents=True, exist_ok=True)
    threads = options.threads or max(1, (os.cpu_count() or 1) // jobs)
    options = replace(options, threads=threads)
    with Journal(output) as journal:
        book = _Book(journal, output, options, fingerprint(options, keys), overwrite)
        results = [done for item in items if (done := book.settled(item)) is not None]
        for result in results:
            report(result)
        settled = {result.name for result in results}
        tasks = [Task(item, keys, options) for item in items if item.name not in settled]
        try:
            with closing(_worked_off(tasks, min(jobs, len(tasks)), book.start)) as finished:
                for result in progress(finished, label="batch", total=len(tasks)):
                    if result.state == "setup":
                        raise BatchError(result.error)
                    report(result)
                    results.append(result)
                    book.finish(result)
        except BatchError as error:
            if not results:
                raise
            raise BatchStoppedError(str(error), _report(results, began)) from error
    return _report(results, began)


def _report(results: Sequence[FileResult], began: float) -> BatchReport:
    return BatchReport(tuple(sorted(results, key=lambda result: result.name)), time.monotonic() - began)


def find_items(source: Path, output: Path) -> Iterator[Item]:
    """Every video below `source`, by name, and where it goes. What lies in `output` or is hidden is left alone."""
    for folder, folders, files in os.walk(source):
        here = Path(folder)
        there = output / here.relative_to(source)
        folders[:] = sorted(f for f in folders if not f.startswith(".") and (here / f).resolve() != output.resolve())
        taken: set[str] = set()
        for name in sorted(files):
            if not name.startswith(".") and is_video(here / name):
                target = output_name(name, taken)
                taken.add(target)
                yield Item((here / name).relative_to(source).as_posix(), here / name, there / target)


def is_video(path: Path) -> bool:
    """By its ending where that is known; else by looking into the file."""
    if path.suffix.lower() in _ENDINGS:
        return True
    kind, _ = mimetypes.guess_type(path.name, strict=False)
    if kind is not None:
        return kind.startswith("video/")
    try:
        with open_video(path) as video:
            return not video.container.endswith("_pipe") and video.container != "image2"
    except RevisageError:
        return False


def output_name(name: str, taken: Set[str] = frozenset()) -> str:
    """The same name; with .mkv appended where this program does not write such files, or the name is `taken`."""
    try:
        container_of(Path(name))
    except OutputError:
        return output_name(f"{name}.mkv", taken)
    return name if name not in taken else output_name(f"{name}.mkv", taken)


def fingerprint(options: JobOptions, keys: KeyRing) -> str:
    """Hex digest of everything that shapes the output and who can open it. Holds no secret: public keys only."""
    chosen = {name: value for name, value in asdict(options).items() if name not in _SAME_RESULT}
    public = [str(keys.secrets[0].recipient) if keys.secrets else None, sorted(map(str, keys.everyone))]
    return hashlib.sha256(json.dumps([chosen, public], sort_keys=True).encode()).hexdigest()


def _check_folders(source: Path, output: Path) -> None:
    if not source.is_dir():
        raise BatchError(f"{source} is not a folder; for one video use revisage anonymize")
    inside, outside = source.resolve(), output.resolve()
    if inside == outside or outside in inside.parents:
        raise BatchError(f"the input {source} lies in the output folder {output}; choose another output folder")
    if output.exists() and not output.is_dir():
        raise BatchError(f"{output} is not a folder; choose another output folder")


# ---------------------------------------------------------------------------------------------------------------------
# What the journal is told and asked


@dataclass(frozen=True, slots=True)
class _Book:
    journal: Journal
    folder: Path
    options: JobOptions
    fingerprint: str
    overwrite: bool

    def settled(self, item: Item) -> FileResult | None:
        """The result of an item that needs no work, or cannot be worked on; None for all others."""
        row = self.journal.get(item.name)
        settle_pair(item.output)
        if row is not None and self._unchanged(item, row):
            return FileResult(item.name, "skipped", item.output, frames=row.frames, faces=row.faces)
        if row is not None and row.owned and row.output == self._relative(item):
            self._sweep(item)
        elif not self.overwrite and (found := next((p for p in self._files(item) if p.exists()), None)):
            error = f"{found} exists and was not made by this batch; remove it or give --overwrite"
            self.journal.put(Row(item.name, "failed", output=self._relative(item), error=error))
            return FileResult(item.name, "failed", item.output, error)
        self.journal.put(self._row(item, "pending", owned=row is not None and row.owned))
        return None

    def start(self, task: Task) -> None:
        self.journal.put(self._row(task.item, "running", owned=True))

    def finish(self, result: FileResult) -> None:
        row = self.journal.get(result.name)
        if row is None or result.state not in ("done", "failed"):
            return
        self.journal.put(
            replace(
                row,
                state="done" if result.state == "done" else "failed",
                sha256=result.sha256,
                output_size=_stat(result.output)[0],
                outputs=_states(self._files_of(result.output)) if result.state == "done" else "",
                error=result.error,
                seconds=round(result.seconds, 3),
                frames=result.frames,
                faces=result.faces,
            )
        )

    def _unchanged(self, item: Item, row: Row) -> bool:
        """Finished with these options, from this very input, and still there."""
        if row.state != "done" or row.options != self.fingerprint or row.output != self._relative(item):
            return False
        if not all(path.is_file() for path in self._files(item)) or item.output.stat().st_size != row.output_size:
            return False
        if row.outputs and not _same(self._files(item), row.outputs):
            return False
        size, changed = _stat(item.source)
        return size == row.size and (changed == row.mtime_ns or file_digest(item.source) == row.sha256)

    def _row(self, item: Item, state: Literal["pending", "running"], *, owned: bool) -> Row:
        size, changed = _stat(item.source)
        return Row(item.name, state, size, changed, "", self.fingerprint, self._relative(item), owned=owned)

    def _relative(self, item: Item) -> str:
        return item.output.relative_to(self.folder).as_posix()

    def _files(self, item: Item) -> list[Path]:
        return self._files_of(item.output)

    def _files_of(self, output: Path) -> list[Path]:
        return [output, *([index_path(output)] if self.options.index else [])]

    def _sweep(self, item: Item) -> None:
        """Remove what a killed batch left unfinished; a finished output stays until another takes its place."""
        if not item.output.exists():
            index_path(item.output).unlink(missing_ok=True)  # it was to get its video in the next instant
        sweep(item.output)
        sweep(index_path(item.output))


def _states(files: Sequence[Path]) -> str:
    """Size, time of change and digest of each, as JSON."""
    return json.dumps([[*_stat(path), file_digest(path)] for path in files])


def _same(files: Sequence[Path], states: str) -> bool:
    """Whether they are as they were when `states` was made; a digest is made anew only where a time differs."""
    known = json.loads(states)
    return len(known) == len(files) and all(
        _stat(path) == (size, changed) or (_stat(path)[0] == size and file_digest(path) == digest)
        for path, (size, changed, digest) in zip(files, known, strict=True)
    )


def _stat(path: Path) -> tuple[int, int]:
    """Size and time of change; zeros where there is no such file, which is for the work itself to say."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


# ---------------------------------------------------------------------------------------------------------------------
# Processes


@dataclass(frozen=True, slots=True)
class Task:
    """All that a process needs for one file."""

    item: Item
    keys: KeyRing
    options: JobOptions


@dataclass(slots=True)
class _Slot:
    """One process at a time, so that a crash tells which file it was."""

    executor: ProcessPoolExecutor
    pid: Future[int]

    @classmethod
    def open(cls) -> _Slot:
        executor = ProcessPoolExecutor(1, get_context("spawn"), initializer=_settle_in)
        with _deaf():  # the new process is deaf to Ctrl-C from its first instant
            return cls(executor, executor.submit(os.getpid))

    def stop(self, *, busy: bool) -> None:
        """End the process; one that is at work removes its unfinished files first."""
        if busy:
            with suppress(BrokenProcessPool, ProcessLookupError):
                os.kill(self.pid.result(), signal.SIGTERM)
        self.executor.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _deaf() -> Iterator[None]:
    """Ctrl-C waits, and what is started meanwhile never hears it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _worked_off(tasks: Sequence[Task], jobs: int, start: Callable[[Task], None]) -> Generator[FileResult, None, None]:
    """The result of every task, as they come; one whose process was killed is tried once more.

    Closing it stops all processes.
    """
    slots = [_Slot.open() for _ in range(jobs)]
    running: dict[Future[FileResult], tuple[int, Task]] = {}
    waiting, again = deque(tasks), set[str]()
    free = list(range(jobs))
    try:
        while True:
            while waiting and free:
                task = waiting.popleft()
                number = free.pop()  # before anybody can learn that the file is under way, and interrupt it
                start(task)
                running[slots[number].executor.submit(work, task)] = number, task
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                number, task = running.pop(future)
                result = _result(future, task)
                killed = isinstance(future.exception(), BrokenProcessPool)
                if killed:
                    slots[number] = _Slot.open()
                free.append(number)
                if killed and task.item.name not in again:
                    again.add(task.item.name)
                    waiting.append(task)
                else:
                    yield result
    finally:
        for number, slot in enumerate(slots):
            slot.stop(busy=number not in free)


def _result(future: Future[FileResult], task: Task) -> FileResult:
    error = future.exception()
    if error is None:
        return future.result()
    why = "its process was killed twice, perhaps for want of memory; run the batch again, with fewer --jobs"
    line = why if isinstance(error, BrokenProcessPool) else _line(error)
    return FileResult(task.item.name, "failed", task.item.output, line)


def work(task: Task) -> FileResult:
    """One file, in the process of a slot. Never raises but for what no program can handle."""
    with _at_work(task.item) as interrupted:
        return _worked(task)
    return interrupted


@contextmanager
def _at_work(item: Item) -> Iterator[FileResult]:
    """An end from elsewhere interrupts the work; before and after it, there is nothing to interrupt."""
    _interruptible.set()
    try:
        with suppress(KeyboardInterrupt):
            yield FileResult(item.name, "interrupted", item.output)
    finally:
        _interruptible.clear()


_interruptible = threading.Event()


def _worked(task: Task) -> FileResult:
    began, item = time.monotonic(), task.item
    try:
        workshop = _workshop(task.options)
    except (RevisageError, ImportError) as error:
        return FileResult(item.name, "setup", item.output, _line(error))
    try:
        item.output.parent.mkdir(parents=True, exist_ok=True)
        report = workshop.anonymize(item.source, item.output, task.keys, overwrite=True)
        return _done(item, report, tuple(w for w in report.warnings if w not in task.options.remarks))
    except LeakError as leak:
        seconds, leaks = time.monotonic() - began, len(leak.report.leaks)
        return FileResult(item.name, "failed", item.output, _line(leak), seconds, verified=True, leaks=leaks)
    except Exception as error:  # one bad file must not stop the rest
        return FileResult(item.name, "failed", item.output, _line(error), time.monotonic() - began)


def _done(item: Item, report: JobReport, warnings: tuple[str, ...]) -> FileResult:
    return FileResult(
        item.name,
        "done",
        item.output,
        seconds=report.seconds,
        frames=report.render.frames,
        faces=report.render.faces,
        people=report.render.tracks,
        sha256=report.sha256,
        warnings=warnings,
        verified=report.verification is not None,
    )


@lru_cache(maxsize=1)
def _workshop(options: JobOptions) -> Workshop:
    """The networks, once per process."""
    workshop = Workshop(options)
    workshop.load()
    return workshop


def _line(error: BaseException) -> str:
    text = (str(error).strip() or "no message").splitlines()[0]
    return text if isinstance(error, RevisageError) else f"{type(error).__name__}: {text}"


def _settle_in() -> None:
    """A process of a slot: silent, deaf to Ctrl-C (its parent hears that), polite to SIGTERM, dead with its parent."""
    import cv2  # noqa: PLC0415

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _interrupt)
    sys.stdout = sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - as long as it lives
    warnings.simplefilter("ignore")
    cv2.setNumThreads(1)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Interrupts work once; what it does then, removing its unfinished files, is not interrupted."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if not _interruptible.is_set():
        os._exit(0)
    raise KeyboardInterrupt


def _die_with_parent() -> None:
    """Without it a killed batch would leave a process that goes on writing beside the next batch."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
