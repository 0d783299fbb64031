"""Ends of every kind: what is left on the disk by a kill, a hang-up, a full disk, and between two renames."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
from commands import run
from films import Film, make
from test_index import DIGEST, KEY, SECRET, _clip, _document, _placement

from revisage.pipeline.media.hidden import HiddenFile
from revisage.pipeline.parts import open_part, sweep
from revisage.pipeline.places import index_of, settle_pair
from revisage.pipeline.vault import keys
from revisage.pipeline.vault.index import IndexWriter
from revisage.pipeline.vault.writer import next_path

linux = pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="files without a name are Linux's")


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that cannot keep a file without a name."""
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)


def _here(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@linux
def test_a_part_has_no_name_and_takes_one_in_one_step(tmp_path: Path) -> None:
    with HiddenFile(tmp_path / "v.mp4") as file:
        file.write(b"frames")
        assert _here(tmp_path) == []
        assert file.path.read_bytes() == b"frames"
        file.publish(replace=False)
    assert _here(tmp_path) == ["v.mp4"]
    with HiddenFile(tmp_path / "v.mp4") as file:
        file.write(b"others")
        with pytest.raises(FileExistsError):
            file.publish(replace=False)
        assert (tmp_path / "v.mp4").read_bytes() == b"frames"
        file.publish(replace=True)
    assert (_here(tmp_path), (tmp_path / "v.mp4").read_bytes()) == (["v.mp4"], b"others")


@pytest.mark.usefixtures("named")
@pytest.mark.parametrize("private", [False, True])
def test_where_parts_need_names_they_go_too(tmp_path: Path, private: bool) -> None:
    with HiddenFile(tmp_path / "v.mp4", private=private) as file:
        file.write(b"frames" * 1000)
        file.seek(3)
        file.write(b"FRA")
        (part,) = tmp_path.iterdir()
        assert (b"frames" in part.read_bytes()) is not private  # a recovered face is nowhere in the clear
        assert stat.S_IMODE(part.stat().st_mode) & 0o077 == 0 or not private
        file.seek(0)
        assert file.read(12) == b"fraFRAframes"
        file.seek(1000)
        assert file.read(5) == (b"frames" * 1000)[1000:1005]
        file.publish(replace=False)
    assert _here(tmp_path) == ["v.mp4"]
    assert (tmp_path / "v.mp4").read_bytes() == b"fraFRA" + b"frames" * 999
    with HiddenFile(tmp_path / "w.mp4", private=private) as file:
        file.write(b"frames")
    assert _here(tmp_path) == ["v.mp4"]


def test_the_next_run_sweeps_what_nobody_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".v.mp4.part-0123456789ab").write_bytes(b"left by a kill")
    (tmp_path / ".w.mp4.part-0123456789ab").write_bytes(b"another's")
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    held = open_part(tmp_path / "v.mp4")
    assert held.hidden is not None
    sweep(tmp_path / "v.mp4")
    assert _here(tmp_path) == sorted([held.hidden.name, ".w.mp4.part-0123456789ab"])
    os.close(held.handle)
    sweep(tmp_path / "v.mp4")
    assert _here(tmp_path) == [".w.mp4.part-0123456789ab"]


WRITES = """
import signal
for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
    signal.signal(number, signal.SIG_DFL)  # whoever runs the tests may have children ignore them
import sys, time
from pathlib import Path
from revisage.pipeline.media.hidden import HiddenFile
with HiddenFile(Path(sys.argv[1]), private=True) as file:
    file.write(b"a face")
    print("writing", flush=True)
    time.sleep(60)
"""


@linux
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM])
def test_a_kill_leaves_nothing(tmp_path: Path, number: int) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITES, tmp_path / "v.mp4"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"writing\n"
        process.send_signal(number)
        assert process.wait(30) != 0
    assert _here(tmp_path) == []


HANGS_UP = """
import signal
for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
    signal.signal(number, signal.SIG_DFL)  # whoever runs the tests may have children ignore them
import sys, time
from revisage import cli
from revisage.pipeline.vault import keys
def wait(*_):
    print("at work", flush=True)
    time.sleep(60)
keys.write_secret_key = wait
sys.argv = ["revisage", "keygen", "-o", "k"]
cli.main()
"""


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no such signal here")
@pytest.mark.parametrize("number", ["SIGHUP", "SIGTERM"])
def test_a_hang_up_is_as_polite_as_a_termination(tmp_path: Path, number: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HANGS_UP.replace('print("at work", flush=True)', 'sys.stderr.write("at work\\n")')],
        stderr=subprocess.PIPE, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert process.stderr is not None
    assert process.stderr.readline() == "at work\n"
    process.send_signal(getattr(signal, number))
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (130, "interrupted; unfinished files were removed\n")


# ------------------------------------------------------------------------------------------------------------ the pair


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a film, a key, and a pair made of it."""
    folder = tmp_path_factory.mktemp("pair")
    keys.write_secret_key(folder / "k")
    make(folder / "f.mp4", Film(frames=3))
    assert run(*_words(folder)).exit_code == 0
    return folder


def _words(folder: Path, *more: str) -> list[object]:
    plain = ["--method", "solid", "--detector", "centerface", "--looks", "once", "--no-verify"]
    return ["anonymize", folder / "f.mp4", "-o", folder / "o.mp4", "--key", folder / "k", *plain, *more]


def _whole(folder: Path) -> bool:
    """Whether a pair can be had: the video and the index that belongs to it open."""
    result = run("recover", folder / "o.mp4", "-o", folder / "b.mp4", "--key", folder / "k", "--overwrite")
    return result.exit_code == 0


KILLS = ["before the index", "before the video", "before the index takes its place", "never"]


@pytest.mark.parametrize("kill", KILLS)
def test_at_every_instant_one_whole_pair_can_be_had(pair: Path, monkeypatch: pytest.MonkeyPatch, kill: str) -> None:
    """The instants between the renames of `--overwrite`; what a kill cannot do there, it cannot do."""
    steps: dict[str, tuple[object, str]] = {
        "before the index": (IndexWriter, "commit"),
        "before the video": (HiddenFile, "publish"),
        "before the index takes its place": (IndexWriter, "_settle"),
    }
    before = (pair / "o.mp4").read_bytes(), (pair / "o.mp4.rvx").read_bytes()

    class Killed(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        if kill in steps:
            patch.setattr(*steps[kill], killed)
        other = str(20 + KILLS.index(kill) * 5)  # so that every run makes another video
        with pytest.raises(Killed) if kill in steps else nullcontext():
            assert run(*_words(pair, "--overwrite", "--crf", other)).exit_code == 0
    after = (pair / "o.mp4").read_bytes(), (pair / "o.mp4.rvx").read_bytes()
    assert (after[0] == before[0]) == (kill in ("before the index", "before the video"))
    assert (after[1] == before[1]) == (kill != "never")
    assert _whole(pair)
    assert (index_of(pair / "o.mp4") == next_path(pair / "o.mp4.rvx")) == (kill == "before the index takes its place")
    settle_pair(pair / "o.mp4")
    assert not next_path(pair / "o.mp4.rvx").exists()
    assert _whole(pair)


def test_without_overwrite_a_name_taken_meanwhile_is_kept(tmp_path: Path) -> None:
    keys.write_secret_key(tmp_path / "k")
    make(tmp_path / "f.mp4", Film(frames=3))
    publish: Callable[..., None] = HiddenFile.publish

    def late(self: HiddenFile, **more: bool) -> None:
        (tmp_path / "o.mp4").write_bytes(b"somebody else's")
        publish(self, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HiddenFile, "publish", late)
        result = run(*_words(tmp_path))
    assert result.exit_code == 1
    assert "exists" in result.stderr
    assert (tmp_path / "o.mp4").read_bytes() == b"somebody else's"


def test_an_index_on_its_way_has_no_name(tmp_path: Path) -> None:
    with IndexWriter(tmp_path / "v.rvx", SECRET, [KEY.recipient]) as writer:
        writer.add_segment(1, 0, _clip(1, 0), _placement(0))
        if hasattr(os, "O_TMPFILE"):
            assert _here(tmp_path) == []
        writer.finish(_document(SECRET, {1: 1}), DIGEST)
    assert _here(tmp_path) == ["v.rvx"]
