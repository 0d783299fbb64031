"""What goes wrong for users, from the command line: one clear line, exit 1, nothing half-written."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commands import run
from films import Film, film_of_a_face, make  # type: ignore[import-not-found]

from revisage.pipeline.media import open_video
from revisage.pipeline.turn import Orientation, Turn


@pytest.fixture(scope="module")
def face(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(film_of_a_face(tmp_path_factory.mktemp("films") / "face.mkv", 8))


def truncated(path: Path) -> Path:
    film_of_a_face(path, 8)
    path.write_bytes(path.read_bytes()[:-4000])
    return path


def sound_only(path: Path) -> Path:
    whole = make(path.with_name("whole.mkv"), Film(frames=4, audio="flac"))
    import av

    with av.open(str(whole)) as source, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    return path


def text(path: Path) -> Path:
    path.write_text("not a video\n" * 100)
    return path


def empty(path: Path) -> Path:
    path.touch()
    return path


def no_frames(path: Path) -> Path:
    import av

    with av.open(str(path), "w", format="mov", options={"movflags": "empty_moov"}) as out:
        stream = out.add_stream("prores_ks", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv422p10le"
        out.start_encoding()
    return path


@pytest.mark.parametrize("bad", [truncated, sound_only, text, empty, no_frames])
@pytest.mark.parametrize("command", ["anonymize", "analyze"])
def test_files_that_are_no_sound_video(bad: Callable[[Path], Path], command: str, key: Path, tmp_path: Path) -> None:
    source = bad(tmp_path / "in.mkv")
    out = tmp_path / "out"
    out.mkdir()
    options = ["--method", "solid", "--key", key] if command == "anonymize" else []
    result = run(command, source, "-o", out / "o.mkv", *options)
    assert result.exit_code == 1, result.output
    assert len(result.stderr.strip().splitlines()) == 1
    assert "in.mkv" in result.stderr
    assert list(out.iterdir()) == []


def test_a_folder_that_is_not_there(face: Path, key: Path, tmp_path: Path) -> None:
    result = run("anonymize", face, "-o", tmp_path / "no" / "o.mkv", "--method", "solid", "--key", key)
    assert result.exit_code == 1
    assert "folder" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("limit", [3_000, 9_000])
def test_a_disk_that_fills_up(face: Path, key: Path, tmp_path: Path, limit: int) -> None:
    """The size limit of a process stands for the disk; whichever of the two files hits it, neither stays."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}));"
        "from revisage.cli import main; main()"
    )
    words = ["anonymize", face, "-o", tmp_path / "o.mkv", "--method", "mosaic", "--key", key, "--crf", "1"]
    done = subprocess.run([sys.executable, "-c", code, *map(str, words)], check=False, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "cannot write" in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("width", "height"), [(255, 191), (254, 191), (255, 192)])
def test_odd_sizes_go_there_and_back(key: Path, tmp_path: Path, width: int, height: int) -> None:
    source = film_of_a_face(tmp_path / "in.mkv", 6, width, height, codec="ffv1")
    out, back = tmp_path / "out.mkv", tmp_path / "back.mkv"
    options = ["--method", "solid", "--key", key, "--seal", "lossless", "--detector", "centerface"]
    assert run("anonymize", source, "-o", out, *options).exit_code == 0
    assert run("recover", out, "-o", back, "--key", key).exit_code == 0
    changed = 0
    with open_video(source) as a, open_video(out) as b, open_video(back) as c:
        assert (a.width, a.height) == (b.width, b.height) == (width, height)
        for before, hidden, after in zip(a.frames(), b.frames(), c.frames(), strict=True):
            for x, y in zip(before.planes, after.planes, strict=True):
                np.testing.assert_array_equal(x, y)
            changed += int((before.planes[0] != hidden.planes[0]).sum())
    assert changed > 1000


@pytest.mark.parametrize(
    ("width", "height", "pix_fmt"), [(1056, 864, "yuv420p"), (1055, 863, "yuv420p"), (1056, 864, "yuv420p10le")]
)
@pytest.mark.parametrize("seal", ["visual", "lossless"])
def test_close_ups_go_there_and_back(
    key: Path, tmp_path: Path, seal: str, width: int, height: int, pix_fmt: str
) -> None:
    source = film_of_a_face(tmp_path / "in.mkv", 3, width, height, codec="ffv1", zoom=6, pix_fmt=pix_fmt)
    faces, out, back = tmp_path / "faces.txt", tmp_path / "out.mkv", tmp_path / "back.mkv"
    faces.write_text("".join(f"{frame},1,260,100,500,660,1\n" for frame in (1, 2, 3)))
    options = ["--method", "solid", "--key", key, "--seal", seal, "--detections", faces, "--no-verify"]
    result = run("anonymize", source, "-o", out, *options)
    assert result.exit_code == 0, result.output
    assert run("recover", out, "-o", back, "--key", key).exit_code == 0
    with open_video(source) as a, open_video(out) as b, open_video(back) as c:
        assert a.pix_fmt.name == b.pix_fmt.name == c.pix_fmt.name == pix_fmt
        for before, hidden, after in zip(a.frames(), b.frames(), c.frames(), strict=True):
            changed = before.planes[0] != hidden.planes[0]
            assert changed.sum() > 352 * 288
            if seal == "lossless":
                assert all(np.array_equal(x, y) for x, y in zip(before.planes, after.planes, strict=True))
            error = np.square(before.planes[0].astype(float) - after.planes[0])[changed].mean()
            assert 10 * np.log10(a.pix_fmt.peak**2 / max(error, 1e-9)) >= 40


WAYS = [(90, False), (-90, False), (0, True), (90, True), (180, True), (-90, True)]


@pytest.mark.parametrize(("rotation", "mirrored"), WAYS)
def test_a_phone_held_upright(key: Path, tmp_path: Path, rotation: int, mirrored: bool) -> None:
    """The picture lies on its side in the file, or is mirrored, and players turn it: faces are found, nothing turns."""
    source = film_of_a_face(tmp_path / "in.mp4", 4, 320, 180, zoom=2, rotation=rotation, mirrored=mirrored)
    out, back = tmp_path / "out.mp4", tmp_path / "back.mp4"
    options = ["--method", "solid", "--key", key, "--detector", "centerface"]
    result = run("anonymize", source, "-o", out, *options)
    assert result.exit_code == 0, result.output
    assert run("recover", out, "-o", back, "--key", key).exit_code == 0
    with open_video(source) as a, open_video(out) as b, open_video(back) as c:
        assert a.orientation == Orientation(rotation // 90 % 4, mirrored)
        assert a.orientation == b.orientation == c.orientation
        assert (a.width, a.height) == (b.width, b.height) == (c.width, c.height) == (320, 180)
        for before, hidden, after in zip(a.frames(), b.frames(), c.frames(), strict=True):
            turn = Turn.of(a.orientation, 320, 180)
            upright = [turn.upright(frame.planes[0]) for frame in (before, hidden, after)]
            face = np.s_[60:140, 60:120] if rotation % 180 else np.s_[50:130, 130:190]  # eyes to mouth
            assert upright[1][face].std() < 6  # one grey, but for the codec
            assert min(upright[0][face].std(), upright[2][face].std()) > 20


@pytest.mark.parametrize("command", ["recover", "verify"])
def test_a_finished_video_that_is_cut_short(face: Path, key: Path, tmp_path: Path, command: str) -> None:
    out = tmp_path / "out.mkv"
    options = ["--method", "solid", "--key", key, "--no-verify", "--detector", "centerface"]
    assert run("anonymize", face, "-o", out, *options).exit_code == 0
    out.write_bytes(out.read_bytes()[:-2000])
    words = ["-o", tmp_path / "back.mkv"] if command == "recover" else []
    result = run(command, out, *words, "--key", key)
    assert result.exit_code == 1, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert result.stderr.rstrip().endswith(line)  # before it `verify` may note that the index is another video's
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mkv", "out.mkv.rvx"]


def test_an_odd_size_that_the_encoder_cannot_take(key: Path, tmp_path: Path) -> None:
    source = film_of_a_face(tmp_path / "in.mkv", 4, 255, 191, codec="ffv1")
    result = run("anonymize", source, "-o", tmp_path / "o.mp4", "--method", "solid", "--key", key, "--codec", "libx264")
    assert result.exit_code == 1
    assert "odd size" in result.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["in.mkv"]
