"""What witnesses rely on beyond pixels: nothing readable on the disk on the way, and memory that does not grow."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from films import film_of_a_face  # type: ignore[import-not-found]
from tiny import tiny_inpaint  # type: ignore[import-not-found]

from revisage.models.conditioning import FACE_TEMPLATE
from revisage.models.detectors import load_detector
from revisage.pipeline.analyze import analyze
from revisage.pipeline.composite import place
from revisage.pipeline.media import open_video
from revisage.pipeline.protect import Obscure
from revisage.pipeline.recover import RecoverOptions, recover
from revisage.pipeline.render import Access, RenderOptions, anonymize
from revisage.pipeline.vault.keys import SecretKey

pytestmark = pytest.mark.slow


@contextmanager
def every_file_seen(folders: list[Path], kept: Path) -> Iterator[None]:
    """Hard-links every file that ever shows up in `folders` into `kept`, so that deleting it does not hide it."""
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            for folder in folders:
                for entry in os.scandir(folder):
                    target = kept / f"{entry.inode()}-{entry.name}"
                    try:
                        if entry.is_file() and not target.exists():
                            os.link(entry.path, target)
                    except FileNotFoundError:
                        continue
            done.wait(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def test_no_face_is_ever_on_the_disk_in_the_clear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = film_of_a_face(tmp_path / "in.mkv", 40)
    out, temporary, kept = tmp_path / "out", tmp_path / "tmp", tmp_path / "kept"
    for folder in (out, temporary, kept):
        folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr("tempfile.tempdir", None)
    plan = analyze(source, detector=load_detector("centerface")[0])
    assert plan.tracks
    key = SecretKey.generate()
    access = Access.of([key], [], plan.video.sha256)
    with every_file_seen([out, temporary], kept):
        options = RenderOptions(seal="visual", index=out / "o.mkv.rvx", codec="ffv1")
        anonymize(source, out / "o.mkv", plan=plan, method=Obscure("solid"), access=access, options=options)
    assert list(temporary.iterdir()) == []
    seen = [*sorted(kept.iterdir()), *sorted(out.iterdir())]  # parts have no names, so the finished files are seen last
    assert {file.suffix for file in seen} >= {".mkv", ".rvx"}
    for file in seen:
        _check_holds_no_face(file, source, plan)
    recover(out / "o.mkv", out / "back.mkv", index=out / "o.mkv.rvx", key=key, options=RecoverOptions())


def _check_holds_no_face(file: Path, source: Path, plan) -> None:  # type: ignore[no-untyped-def]
    """Neither as a video whose covered pixels are the original's, nor as a clip or raw samples inside another file."""
    content = file.read_bytes()
    is_video = content[:4] == b"\x1aE\xdf\xa3"
    assert content[4:].find(b"\x1aE\xdf\xa3") == -1  # no Matroska inside
    with open_video(source) as original:
        faces = plan.by_frame()
        for frame in original.frames():
            row = frame.planes[0][96, 96:160].tobytes()
            assert row not in content
        if not is_video:
            return
        with open_video(file) as video:
            for a, b in zip(original.frames(), video.frames(), strict=True):
                for track, face in faces[a.index]:
                    placed = place(track.id, face, FACE_TEMPLATE, 128, original.pix_fmt, a.width, a.height)
                    assert placed is not None
                    rect = placed.region.rect
                    window = np.s_[rect.y0 : rect.y1, rect.x0 : rect.x1]
                    assert b.planes[0][window][placed.region.cover].std() < 3 < a.planes[0][window].std()


def _peak(command: list[str]) -> int:
    """Peak memory of a process of its own, in KiB."""
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], check=True, capture_output=True, text=True)
    return int(done.stdout.split()[-1])


@pytest.mark.skipif(not hasattr(resource, "RUSAGE_CHILDREN"), reason="needs getrusage")
@pytest.mark.parametrize("method", ["blur", "diffusion"])
def test_memory_does_not_grow_with_length(method: str, tmp_path: Path) -> None:
    """With the default seal. Looking for faces, before and after, is in the first run alone: it takes its time."""
    revisage = [sys.executable, "-c", "from revisage.cli import main; main()"]
    subprocess.run([*revisage, "keygen", "-o", str(tmp_path / "key")], check=True, capture_output=True)
    common = ["--method", method, "--detector", "centerface", "--key", str(tmp_path / "key"), "--json"]
    tiny = ["--model", str(tiny_inpaint(tmp_path / "tiny")), "--no-verify"]
    peaks = []
    for frames in (40, 400):
        source = film_of_a_face(tmp_path / f"{frames}.mkv", frames)
        faces = tmp_path / f"{frames}.txt"
        faces.write_text("".join(f"{frame},1,80,60,80,100,1\n" for frame in range(1, frames + 1)))
        options = [*common, *tiny, "--detections", str(faces)] if method == "diffusion" else common
        out = str(tmp_path / f"out{frames}.mkv")
        peaks.append(_peak([*revisage, "anonymize", str(source), "-o", out, *options]))
    assert peaks[1] <= 1.15 * peaks[0], peaks
