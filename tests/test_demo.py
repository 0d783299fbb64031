"""The demonstration: quick with `solid`, once for real."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from revisage.cli import cli
from revisage.models.presets import EMBEDDED_MODEL, PRESETS, installed
from revisage.pipeline import demo
from revisage.pipeline.errors import OutputError
from revisage.pipeline.media import open_video, write_film
from revisage.pipeline.run import JobOptions

QUICK = JobOptions(method="solid", detector="centerface", device="cpu")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> demo.DemoReport:
    return demo.run_demo(tmp_path_factory.mktemp("demo") / "new", QUICK, seconds=0.25)


def columns(made: demo.DemoReport) -> list[np.ndarray]:
    import cv2

    strip = cv2.imread(str(made.strip))[..., ::-1].astype(np.int16)
    assert strip.shape == (demo._CAPTION + 3 * demo.HEIGHT, 3 * demo.WIDTH, 3)
    return np.split(strip[demo._CAPTION :], 3, axis=1)


def test_everything_is_where_the_report_says(made: demo.DemoReport) -> None:
    for path in (made.clip, made.anonymized, made.index, made.key, made.track_key, made.recovered, made.strip):
        assert path is not None
        assert path.is_file()
    assert len(made.job.tracks) == 2


def test_the_strip_shows_one_person_back_and_one_hidden(made: demo.DemoReport) -> None:
    before, anonymized, recovered = columns(made)
    half = demo.WIDTH // 2
    left, right = np.s_[:, :half], np.s_[:, half:]
    assert made.track == 1
    changed = [float(abs(before[side] - anonymized[side]).mean()) for side in (left, right)]
    still = [float(abs(before[side] - recovered[side]).mean()) for side in (left, right)]
    assert min(changed) > 2  # both faces are hidden
    back, hidden = sorted(range(2), key=lambda side: still[side] / changed[side])
    assert still[back] < 0.4 * changed[back]
    assert still[hidden] > 0.8 * changed[hidden]


def test_the_clip_has_sound_and_moves(made: demo.DemoReport) -> None:
    import av

    with av.open(str(made.clip)) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]
        assert container.streams.audio[0].codec_context.name == "aac"
    with open_video(made.clip) as video:
        assert (video.width, video.height) == (demo.WIDTH, demo.HEIGHT)
        pictures = [frame.rgb().astype(np.int16) for frame in video.frames()]
    assert len(pictures) == 6
    assert abs(pictures[0] - pictures[-1]).mean() > 2


def test_a_full_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        demo.run_demo(tmp_path, QUICK, seconds=0.25)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_without_the_group_photograph_the_astronaut_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    two = demo.stage()
    monkeypatch.setattr(demo, "_group_photograph", lambda: None)
    one = demo.stage()
    assert np.array_equal(one[:, :700], two[:, :700])
    assert not np.array_equal(one[:, 700:], two[:, 700:])


def test_a_film_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    def pictures():  # type: ignore[no-untyped-def]
        yield np.zeros((64, 64, 3), np.uint8)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_film(tmp_path / "film.mp4", pictures(), Fraction(24))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_command_paints_faces_with_the_embedded_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if installed(PRESETS[EMBEDDED_MODEL]) is None:
        pytest.skip("the embedded model is not there yet")
    short = demo.run_demo
    monkeypatch.setattr(demo, "run_demo", lambda *words, **more: short(*words, seconds=0.25, **more))
    result = CliRunner().invoke(cli, ["demo", "-o", str(tmp_path / "demo"), "--device", "cpu", "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout.splitlines()[-1])
    assert told["job"]["method"] == "diffusion"
    assert told["job"]["render"]["fallbacks"] == 0
    assert told["recovery"]["tracks"] == [1]
