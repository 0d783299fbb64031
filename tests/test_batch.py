"""The batch: what it finds, what it skips, what a failure and a kill cost."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from films import Film, make

from revisage.cli import cli
from revisage.pipeline.batch import run as batch
from revisage.pipeline.batch.journal import JOURNAL, LOCK, Journal, Row
from revisage.pipeline.errors import BatchError, MediaError
from revisage.pipeline.run import JobOptions, KeyRing
from revisage.pipeline.vault.keys import SecretKey

OPTIONS = JobOptions(method="solid", detector="centerface", device="cpu")
KEYS = KeyRing((SecretKey.generate(),))


class Here:
    """Stands in for a pool of one process: works at once, in this one."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def submit(self, function: Callable[..., Any], *words: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*words))
        except Exception as error:
            future.set_exception(error)
        return future

    def shutdown(self, **_: object) -> None:
        pass


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "ProcessPoolExecutor", Here)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two films of one stem, a broken one, and a text."""
    folder = tmp_path / "in"
    (folder / "deep" / "er").mkdir(parents=True)
    make(folder / "a.mp4", Film(frames=3))
    make(folder / "deep" / "er" / "a.mkv", Film(frames=4))
    (folder / "deep" / "bad.mp4").write_bytes(b"this is no video" * 50)
    (folder / "notes.txt").write_text("words")
    return folder


def go(source: Path, output: Path, options: JobOptions = OPTIONS, **more: Any) -> dict[str, str]:
    """Name -> what became of it."""
    report = batch.run_batch(source, output, KEYS, options, **more)
    return {file.name: file.state for file in report.files}


# -- the journal -------------------------------------------------------------------------------------------------------


def test_the_journal_remembers_every_field(tmp_path: Path) -> None:
    row = Row("a/b.mp4", "failed", 7, 123456789012345678, "ab" * 32, "cd", "a/b.mp4", 9, True, "why", 1.5, 40, 41)
    with Journal(tmp_path) as journal:
        journal.put(Row("a/b.mp4"))
        journal.put(row)
        assert journal.get("none") is None
    with Journal(tmp_path) as journal:
        assert journal.rows() == [row]
        assert journal.get("a/b.mp4") == row


def test_a_second_batch_is_told_and_the_first_goes_on(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        with pytest.raises(BatchError, match="another batch is at work"):
            Journal(tmp_path)
        journal.put(Row("a"))
    with Journal(tmp_path) as journal:
        assert [row.name for row in journal.rows()] == ["a"]


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from revisage.pipeline.batch.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1])); print('locked', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(BatchError, match="another batch"):
            Journal(tmp_path)
        holder.kill()
        holder.wait()
    with Journal(tmp_path):
        pass


def test_a_damaged_or_newer_journal_is_said(tmp_path: Path) -> None:
    (tmp_path / JOURNAL).write_bytes(b"not a database at all" * 99)
    with pytest.raises(BatchError, match="delete it to start over"):
        Journal(tmp_path)
    (tmp_path / JOURNAL).unlink()
    database = sqlite3.connect(tmp_path / JOURNAL)
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(BatchError, match="version 99"):
        Journal(tmp_path)


# -- what there is to do -----------------------------------------------------------------------------------------------


def test_videos_are_found_wherever_they_are_and_never_meet(tmp_path: Path) -> None:
    folder, output = tmp_path / "in", tmp_path / "in" / "out"
    for name in (
        "a.mp4",
        "a.mkv",
        "a.avi",
        "a.avi.mkv",
        "B.MP4",
        "sub/a.mp4",
        ".hidden.mp4",
        ".trash/a.mp4",
        "out/a.mp4",
        "x.txt",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    make(folder / "noname.mkv", Film(frames=1)).rename(folder / "noname")
    (folder / "words").write_text("just words\n" * 100)
    found = {item.name: item.output.relative_to(output).as_posix() for item in batch.find_items(folder, output)}
    assert found == {
        "B.MP4": "B.MP4", "a.avi": "a.avi.mkv", "a.avi.mkv": "a.avi.mkv.mkv",
        "a.mkv": "a.mkv", "a.mp4": "a.mp4", "noname": "noname.mkv",
        "sub/a.mp4": "sub/a.mp4",
    }  # fmt: skip


@pytest.mark.parametrize(("source", "output"), [("x", "x"), ("x/y", "x"), ("x", "x/../x"), ("x/file", "z")])
def test_folders_that_make_no_sense_are_refused(tmp_path: Path, source: str, output: str) -> None:
    (tmp_path / "x" / "y").mkdir(parents=True)
    (tmp_path / "x" / "file").write_text("")
    with pytest.raises(BatchError):
        go(tmp_path / source, tmp_path / output)


def test_a_folder_without_videos_is_said(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(BatchError, match="no video"):
        go(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_fingerprint_follows_the_output_and_nothing_else() -> None:
    same = batch.fingerprint(OPTIONS, KEYS)
    assert batch.fingerprint(JobOptions(**{**_fields(OPTIONS), "batch_size": 3, "threads": 1}), KEYS) == same
    assert batch.fingerprint(JobOptions(**{**_fields(OPTIONS), "method": "blur"}), KEYS) != same
    assert batch.fingerprint(OPTIONS, KeyRing((SecretKey.generate(),))) != same
    assert batch.fingerprint(OPTIONS, KeyRing((), (KEYS.secrets[0].recipient,))) != same


def _fields(options: JobOptions) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(options)


# -- working -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("here")
def test_a_bad_file_stops_nothing_and_finished_files_are_skipped(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert go(source, output) == {"a.mp4": "done", "deep/bad.mp4": "failed", "deep/er/a.mkv": "done"}
    visible = sorted(path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file())
    names = ["a.mp4", "a.mp4.rvx", "deep/er/a.mkv", "deep/er/a.mkv.rvx"]
    assert visible == sorted([*names, JOURNAL, LOCK])
    before = {name: (output / name).stat().st_mtime_ns for name in names}
    assert go(source, output) == {"a.mp4": "skipped", "deep/bad.mp4": "failed", "deep/er/a.mkv": "skipped"}
    assert {name: (output / name).stat().st_mtime_ns for name in names} == before


@pytest.mark.usefixtures("here")
def test_what_changed_is_done_again(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    (source / "deep" / "bad.mp4").unlink()
    go(source, output)

    os.utime(source / "a.mp4", ns=(1, 1))  # touched, same content
    assert go(source, output)["a.mp4"] == "skipped"
    make(source / "a.mp4", Film(frames=5))
    assert go(source, output) == {"a.mp4": "done", "deep/er/a.mkv": "skipped"}
    (output / "deep" / "er" / "a.mkv").unlink()
    assert go(source, output) == {"a.mp4": "skipped", "deep/er/a.mkv": "done"}
    (output / "a.mp4.rvx").unlink()
    assert go(source, output) == {"a.mp4": "done", "deep/er/a.mkv": "skipped"}
    (output / "a.mp4").write_bytes(b"cut")
    assert go(source, output) == {"a.mp4": "done", "deep/er/a.mkv": "skipped"}
    other = JobOptions(**{**_fields(OPTIONS), "crf": 30})
    assert go(source, output, other) == {"a.mp4": "done", "deep/er/a.mkv": "done"}


@pytest.mark.usefixtures("here")
def test_a_file_of_somebody_else_is_kept(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / "a.mp4").write_bytes(b"mine")
    for _ in range(2):  # a failure must not make it ours
        assert go(source, output)["a.mp4"] == "failed"
        assert (output / "a.mp4").read_bytes() == b"mine"
    assert go(source, output, overwrite=True)["a.mp4"] == "done"


@pytest.mark.usefixtures("here")
def test_what_a_kill_left_behind_is_cleared(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    with Journal(output) as journal:  # as a kill between the index's renaming and the video's leaves it
        journal.put(Row("a.mp4", "running", output="a.mp4", owned=True))
    for name in (".a.mp4.part-0123456789ab", ".a.mp4.rvx.part-0123456789ab", "a.mp4.rvx"):
        (output / name).write_bytes(b"half")
    assert go(source, output)["a.mp4"] == "done"
    assert {path.name for path in output.iterdir()} == {JOURNAL, LOCK, "a.mp4", "a.mp4.rvx", "deep"}


@pytest.mark.usefixtures("here")
def test_a_failed_repetition_keeps_the_finished_pair(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    go(source, output)
    before = [(output / name).read_bytes() for name in ("a.mp4", "a.mp4.rvx")]
    (source / "a.mp4").write_bytes(b"overwritten by accident")
    assert go(source, output)["a.mp4"] == "failed"
    assert [(output / name).read_bytes() for name in ("a.mp4", "a.mp4.rvx")] == before


@pytest.mark.usefixtures("here")
def test_what_fails_for_every_file_stops_the_batch(source: Path, tmp_path: Path) -> None:
    absent = JobOptions(model=str(tmp_path / "absent"))
    with pytest.raises(BatchError, match="no model"):
        go(source, tmp_path / "out", absent)
    with Journal(tmp_path / "out") as journal:
        assert {row.state for row in journal.rows()} <= {"pending", "running"}


@pytest.mark.usefixtures("here")
def test_any_error_of_a_file_is_one_line(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from revisage.pipeline.run import Workshop

    def fail(self: Workshop, path: Path, *_: object, **__: object) -> None:
        raise (MediaError("no luck") if path.suffix == ".mp4" else ZeroDivisionError("zero\nmore"))

    monkeypatch.setattr(Workshop, "anonymize", fail)
    report = batch.run_batch(source, tmp_path / "out", KEYS, OPTIONS)
    assert {file.error for file in report.files} == {"no luck", "ZeroDivisionError: zero"}


@pytest.mark.usefixtures("here")
def test_no_secret_reaches_the_output_folder(source: Path, tmp_path: Path) -> None:
    from revisage.pipeline.vault import keys

    go(source, tmp_path / "out")
    raw = KEYS.secrets[0].reveal()
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert raw not in content
            assert raw.hex().encode() not in content
            assert keys._identity_text(raw).encode() not in content.upper()


@pytest.mark.usefixtures("here")
def test_the_command_ends_with_4_and_says_what_failed(source: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    words = ["batch", str(source), "-o", str(tmp_path / "out"), "--method", "solid", "--detector", "centerface"]
    words += ["--jobs", "2", "-r", str(KEYS.secrets[0].recipient)]
    result = runner.invoke(cli, words)
    assert result.exit_code == 4
    assert "failed   1" in result.stdout
    assert "deep/bad.mp4: bad.mp4 is not a readable video" in result.stdout
    again = runner.invoke(cli, [*words, "--json"])
    told = json.loads(again.stdout.splitlines()[-1])
    assert again.exit_code == 4
    assert [file["state"] for file in told["files"]] == ["skipped", "failed", "skipped"]
    (source / "deep" / "bad.mp4").unlink()
    assert runner.invoke(cli, words).exit_code == 0


# -- real processes ----------------------------------------------------------------------------------------------------


def until(found: Callable[[], bool], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def state_of(output: Path, name: str) -> str | None:
    """Read beside the running batch."""
    if not (output / JOURNAL).exists():
        return None
    database = sqlite3.connect(output / JOURNAL, timeout=5)
    try:
        row = database.execute("SELECT state FROM files WHERE name = ?", (name,)).fetchone()
    except sqlite3.OperationalError:  # not made yet
        return None
    finally:
        database.close()
    return None if row is None else str(row[0])


@pytest.fixture
def long_source(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    make(folder / "a.mp4", Film(frames=2))
    make(folder / "b.mp4", Film(frames=300))
    make(folder / "c.mp4", Film(frames=2))
    return folder


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        yield from map(int, (task / "children").read_text().split())


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc to see the processes")
def test_a_killed_batch_goes_on_where_it_stopped(
    long_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, key = tmp_path / "out", tmp_path / "my.key"
    assert CliRunner().invoke(cli, ["keygen", "-o", str(key)]).exit_code == 0
    words = ["batch", str(long_source), "-o", str(output), "--method", "solid", "--detector", "centerface"]
    words += ["--key", str(key)]
    code = "import sys; from revisage.cli import main; sys.argv[0] = 'revisage'; main()"
    with subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.DEVNULL) as first:
        until(lambda: state_of(output, "b.mp4") == "running")
        workers = list(children(first.pid))
        os.kill(first.pid, signal.SIGKILL)
    until(lambda: not any(alive(pid) for pid in workers), 20)  # they die with their parent
    assert state_of(output, "a.mp4") == "done"
    assert not (output / "b.mp4").exists()
    before = (output / "a.mp4").stat().st_mtime_ns

    monkeypatch.setattr(batch, "ProcessPoolExecutor", Here)
    second = CliRunner().invoke(cli, words)
    assert second.exit_code == 0, second.output
    assert (output / "a.mp4").stat().st_mtime_ns == before
    names = {f"{stem}.mp4{end}" for stem in "abc" for end in ("", ".rvx")}
    assert {path.name for path in output.iterdir()} == names | {JOURNAL, LOCK}


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 2])
def test_a_file_whose_process_is_killed_is_tried_once_more(long_source: Path, tmp_path: Path, times: int) -> None:
    output = tmp_path / "out"
    before = set(active_children())

    def kill() -> None:
        until(lambda: state_of(output, "b.mp4") == "running")
        for number in range(times):
            if number:
                until(lambda: state_of(output, "c.mp4") == "done")
            for child in set(active_children()) - before:
                child.kill()
            time.sleep(0.5)

    killer = threading.Thread(target=kill)
    killer.start()
    report = batch.run_batch(long_source, output, KEYS, OPTIONS)
    killer.join()
    assert [file.state for file in report.files] == ["done", "done" if times == 1 else "failed", "done"]
    assert times == 1 or "was killed twice" in report.failed[0].error


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("end", ["", ".rvx"])
def test_an_output_that_changed_without_changing_its_size_is_made_anew(source: Path, tmp_path: Path, end: str) -> None:
    output = tmp_path / "out"
    assert go(source, output)["a.mp4"] == "done"
    assert go(source, output)["a.mp4"] == "skipped"
    (output / "a.mp4").touch()
    assert go(source, output)["a.mp4"] == "skipped"  # another time, the same bytes
    changed = output / f"a.mp4{end}"
    data = bytearray(changed.read_bytes())
    data[len(data) // 2] ^= 1
    changed.write_bytes(data)
    assert go(source, output)["a.mp4"] == "done"


@pytest.mark.usefixtures("here")
def test_a_full_disk_ends_a_batch_with_a_summary(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put = Journal.put
    written = []

    class Full:
        def execute(self, *_: object) -> None:
            raise sqlite3.OperationalError("database or disk is full")

    def filling(self: Journal, row: Row) -> None:
        if row.state in ("done", "failed"):
            written.append(row)
            if len(written) == 2:
                self._database, database = Full(), self._database  # type: ignore[assignment]
                try:
                    put(self, row)
                finally:
                    self._database = database
        put(self, row)

    monkeypatch.setattr(Journal, "put", filling)
    words = ["batch", str(source), "-o", str(tmp_path / "out"), "--seal", "off", "--index", "off", "--method", "solid"]
    result = CliRunner().invoke(cli, [*words, "--detector", "centerface"])
    assert result.exit_code == 1
    assert "done     1" in result.stdout
    assert result.stderr.splitlines()[-1].startswith("error: cannot write the journal")
    assert "free some space" in result.stderr


@pytest.mark.usefixtures("here")
def test_a_weak_method_is_said_once(source: Path, tmp_path: Path) -> None:
    words = ["batch", str(source), "-o", str(tmp_path / "out"), "--seal", "off", "--index", "off", "--method", "blur"]
    result = CliRunner().invoke(cli, [*words, "--detector", "centerface", "--no-verify"])
    assert result.output.count("is weak") == 1


def test_a_journal_of_version_1_goes_on(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.put(Row("a", "done", outputs="x"))
    database = sqlite3.connect(tmp_path / JOURNAL)
    database.execute("ALTER TABLE files DROP COLUMN outputs")
    database.execute("PRAGMA user_version = 1")
    database.commit()
    database.close()
    with Journal(tmp_path) as journal:
        assert journal.get("a") == Row("a", "done")


@pytest.mark.slow
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("delay", [0.0, 0.3, 0.8, 2.0])
def test_an_end_prints_no_traceback_whenever_it_comes(
    long_source: Path, tmp_path: Path, number: str, delay: float
) -> None:
    """To the whole group, as a terminal sends it; a process may be starting, idle, at work or cleaning up."""
    words = [
        "batch",
        str(long_source),
        "-o",
        str(tmp_path / "out"),
        "--method",
        "solid",
        "--seal",
        "off",
        "--index",
        "off",
    ]
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from revisage.cli import main; sys.argv[0] = 'revisage'; main()"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code, *words, "--jobs", "2"], stdout=pipe, stderr=pipe, text=True,
                          start_new_session=True) as program:  # fmt: skip
        until((tmp_path / "out" / JOURNAL).exists)
        time.sleep(delay)
        os.killpg(program.pid, getattr(signal, number))
        _, errors = program.communicate(timeout=60)
    assert "Traceback" not in errors
    assert program.returncode in (0, 130)


def test_a_process_that_is_interrupted_while_it_gets_its_file_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was handed over may be under way already; waiting for its end would write a file that nobody wants."""
    stopped = []

    class Slot:
        def __init__(self) -> None:
            self.executor = self

        @classmethod
        def open(cls) -> Slot:
            return cls()

        def submit(self, *_: object) -> None:
            raise KeyboardInterrupt

        def stop(self, *, busy: bool) -> None:
            stopped.append(busy)

    monkeypatch.setattr(batch, "_Slot", Slot)
    with pytest.raises(KeyboardInterrupt):
        list(batch._worked_off([object()], 2, lambda _: None))
    assert sorted(stopped) == [False, True]


@pytest.mark.slow
def test_an_interrupted_batch_leaves_no_unfinished_file(long_source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    words = ["batch", str(long_source), "-o", str(output), "--method", "solid", "--seal", "off", "--index", "off"]
    code = (  # a shell that runs the tests in the background has its children ignore the signal
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from revisage.cli import main; sys.argv[0] = 'revisage'; main()"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code, *words], stdout=pipe, stderr=pipe, text=True) as program:
        until(lambda: state_of(output, "b.mp4") == "running")
        program.send_signal(signal.SIGINT)
        _, errors = program.communicate(timeout=60)
    assert program.returncode == 130
    assert errors.splitlines()[-1] == "interrupted; unfinished files were removed"
    assert {path.name for path in output.iterdir()} == {"a.mp4", JOURNAL, LOCK}
