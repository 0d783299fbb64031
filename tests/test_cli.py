"""The command line, in this process: what it says, what it writes, how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args

import click
import numpy as np
import pytest
from click.testing import Result
from commands import run
from films import Film, make

from revisage import cli as command_line
from revisage.cli import cli
from revisage.models import presets
from revisage.pipeline.errors import ModelError
from revisage.pipeline.vault.keys import _identity_text as identity_text

VECTORS = Path(__file__).parent / "vectors"
SOLID = ["--method", "solid"]


def ok(*words: object, **more: Any) -> Result:
    result = run(*words, **more)
    assert result.exit_code == 0, result.output
    return result


def told(result: Result) -> dict[str, Any]:
    """The JSON object in the last line of stdout."""
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


def refused(result: Result, *words: str) -> None:
    """Exit code 1 and exactly one line on stderr, which holds `words`."""
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    for word in words:
        assert word in line


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="module")
def key(home: Path) -> Path:
    ok("keygen", "-o", home / "my.key")
    return home / "my.key"


@pytest.fixture(scope="module")
def clip(home: Path) -> Path:
    """Six frames with two people, and a tone."""
    from revisage.pipeline.demo import RATE, camera, stage, tone
    from revisage.pipeline.media import write_film

    write_film(home / "clip.mp4", camera(stage(), 6), RATE, tone(Fraction(6) / RATE))
    return home / "clip.mp4"


@pytest.fixture(scope="module")
def plan(home: Path, clip: Path) -> Path:
    ok("analyze", clip, "-o", home / "clip.json", "--detector", "centerface")
    return home / "clip.json"


@pytest.fixture(scope="module")
def anonymized(home: Path, clip: Path, plan: Path, key: Path) -> Path:
    ok("anonymize", clip, "-o", home / "out.mp4", "--key", key, "--plan", plan, *SOLID)
    return home / "out.mp4"


def frames(path: Path) -> Iterator[np.ndarray[Any, Any]]:
    from revisage.pipeline.media import open_video

    with open_video(path) as video:
        for frame in video.frames():
            yield frame.rgb().astype(np.int16)


def boxes(plan: Path, track: int) -> list[tuple[slice, slice]]:
    """The middle of a track's face in every frame."""
    (found,) = [t for t in json.loads(plan.read_text())["tracks"] if t["id"] == track]
    places = []
    for face in found["faces"]:
        x0, y0, x1, y1 = face["box"]
        w, h = (x1 - x0) / 4, (y1 - y0) / 4
        places.append((slice(int(y0 + h), int(y1 - h)), slice(int(x0 + w), int(x1 - w))))
    return places


def difference(a: Path, b: Path, places: list[tuple[slice, slice]]) -> float:
    """Mean absolute difference in grey levels over `places`, the least similar frame."""
    return max(float(abs(x[at] - y[at]).mean()) for x, y, at in zip(frames(a), frames(b), places, strict=True))


# -- help --------------------------------------------------------------------------------------------------------------


def commands() -> list[tuple[str, click.Command]]:
    found: list[tuple[str, click.Command]] = []
    for name, command in cli.commands.items():
        found.append((name, command))
        if isinstance(command, click.Group):
            found += [(f"{name} {sub}", inner) for sub, inner in command.commands.items()]
    return found


@pytest.mark.parametrize(("name", "command"), commands(), ids=[name for name, _ in commands()])
def test_every_command_and_option_is_documented_with_an_example(name: str, command: click.Command) -> None:
    text = ok(*name.split(), "--help").output
    assert "Example" in text
    assert f"  revisage {name.split(maxsplit=1)[0]}" in text
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.opts} has no help"


def test_all_commands_of_this_version_are_there() -> None:
    expected = "keygen analyze anonymize inspect grant recover verify evaluate batch models doctor sbom demo"
    assert set(cli.commands) == set(expected.split())


def test_the_overview_cuts_no_sentence_short() -> None:
    assert "..." not in ok("--help").output.partition("Commands:")[2]


@pytest.mark.parametrize("name", cli.commands)
def test_readme_names_every_command(name: str) -> None:
    readme = (Path(command_line.__file__).parent / "README.md").read_text(encoding="utf-8")
    assert f"revisage {name}" in readme


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom revisage.cli import cli\n"
        "try: cli(['anonymize', '--help'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'av', 'cv2', 'numpy', 'diffusers', 'insightface', 'onnxruntime', 'scipy'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Example" in done.stdout


def test_choices_are_those_of_the_library() -> None:
    from revisage.pipeline.protect import METHODS
    from revisage.pipeline.vault.document import Seal

    assert METHODS == command_line.METHODS
    assert get_args(Seal) == command_line.SEALS


# -- there and back ----------------------------------------------------------------------------------------------------


def test_the_way_there_and_back(home: Path, clip: Path, plan: Path, key: Path, anonymized: Path) -> None:
    people = [track["id"] for track in json.loads(plan.read_text())["tracks"]]
    assert people == [1, 2]
    assert difference(clip, anonymized, boxes(plan, 1)) > 20
    assert difference(clip, anonymized, boxes(plan, 2)) > 20

    granted = told(ok("grant", anonymized, "--key", key, "--track", 1, "-o", home / "one.key", "--json"))
    assert granted["track"] == 1
    back = told(ok("recover", anonymized, "-o", home / "back.mp4", "--key", home / "one.key", "--json"))
    assert (back["tracks"], back["hidden"]) == ([1], [2])
    assert difference(clip, home / "back.mp4", boxes(plan, 1)) < 6
    assert difference(anonymized, home / "back.mp4", boxes(plan, 2)) < 6


def test_track_chooses_whom_to_bring_back(home: Path, clip: Path, plan: Path, key: Path, anonymized: Path) -> None:
    result = ok("recover", anonymized, "-o", home / "two.mp4", "--key", key, "--track", 2)
    assert "still hidden: track 1" in result.stdout
    assert difference(clip, home / "two.mp4", boxes(plan, 2)) < 6
    assert difference(clip, home / "two.mp4", boxes(plan, 1)) > 20


def test_a_plan_has_what_painted_faces_follow(plan: Path) -> None:
    faces = [face for track in json.loads(plan.read_text())["tracks"] for face in track["faces"]]
    assert len(faces) == 12
    assert all("landmarks" in face for face in faces)


@pytest.mark.slow
def test_a_plan_without_landmarks_is_painted_and_said(home: Path, clip: Path, plan: Path, key: Path) -> None:
    data = json.loads(plan.read_text())
    for face in data["tracks"][0]["faces"]:
        del face["landmarks"]
    (home / "bare.json").write_text(json.dumps(data))
    out = home / "bare.mp4"
    result = ok("anonymize", clip, "-o", out, "--key", key, "--plan", home / "bare.json", "--no-verify")
    assert "6 faces of the plan have no landmarks" in result.stderr


def test_what_is_not_sealed_is_not_promised_back(home: Path, clip: Path, plan: Path, key: Path) -> None:
    out = home / "unsealed.mp4"
    result = ok("anonymize", clip, "-o", out, "--key", key, "--plan", plan, *SOLID, "--seal", "off")
    assert "revisage recover" not in result.stdout
    assert "no originals are sealed" in result.stdout


def test_report_of_anonymize_holds_everything(home: Path, clip: Path, plan: Path, key: Path) -> None:
    out = home / "report.mkv"
    done = told(ok("anonymize", clip, "-o", out, "--key", key, "--plan", plan, *SOLID, "--json"))
    assert (done["output"], done["index"]) == (str(out), f"{out}.rvx")
    assert (done["render"]["frames"], done["render"]["faces"], done["render"]["fallbacks"]) == (6, 12, 0)
    assert [track["id"] for track in done["tracks"]] == [1, 2]
    assert done["recipients"][0].startswith("age1")
    assert done["seconds"] > 0


def test_redraw_takes_the_next_face_of_the_key(home: Path, clip: Path, plan: Path, key: Path) -> None:
    words = ["anonymize", clip, "--key", key, "--plan", plan, "--no-verify", "--json"]
    first, third = (
        told(ok(*words, "-o", home / f"{name}.mkv", *more))
        for name, more in (("first", []), ("third", ["--redraw", 1, "--redraw", 1]))
    )
    draws = [[track["draw"] for track in report["tracks"]] for report in (first, third)]
    assert draws[1][0] >= draws[0][0] + 2 and draws[1][1] == draws[0][1]
    shown = told(ok("inspect", home / "third.mkv.rvx", "--key", key, "--json"))["unlocked"]["tracks"]
    assert {record["id"]: record["draw"] for record in shown if not record["contested"]} == dict(enumerate(draws[1], 1))
    refused(run("anonymize", clip, "-o", home / "no.mkv", "--key", key, "--plan", plan, "--redraw", 7), "1, 2")


def test_keep_leaves_one_person_as_filmed(home: Path, clip: Path, plan: Path, key: Path) -> None:
    out = home / "kept.mp4"
    result = ok("anonymize", clip, "-o", out, "--key", key, "--plan", plan, *SOLID, "--keep", 1)
    assert "1 of 2 people left as filmed" in result.stderr
    assert difference(clip, out, boxes(plan, 1)) < 6
    assert difference(clip, out, boxes(plan, 2)) > 20


def test_keep_of_nobody_names_who_there_is(home: Path, clip: Path, plan: Path, key: Path) -> None:
    refused(run("anonymize", clip, "-o", home / "no.mp4", "--key", key, "--plan", plan, *SOLID, "--keep", 7), "1, 2")
    assert not (home / "no.mp4").exists()


def test_anonymize_finds_faces_by_itself(home: Path, clip: Path, key: Path) -> None:
    result = ok("anonymize", clip, "-o", home / "alone.mp4", "--key", key, *SOLID, "--detector", "centerface")
    assert "12 in 6 frames, 2 people" in result.stdout
    assert "revisage recover" in result.stdout


def test_public_key_alone_is_enough_and_its_secret_opens(home: Path, clip: Path, plan: Path, key: Path) -> None:
    public = next(line.split()[-1] for line in key.read_text().splitlines() if "public key" in line)
    out = home / "public.mp4"
    ok("anonymize", clip, "-o", out, "-r", public, "--plan", plan, *SOLID)
    seen = told(ok("inspect", out, "--key", key, "--json"))
    assert seen["unlocked"]["opens"] == "everything"
    assert seen["unlocked"]["authenticity"] == "unsigned"


def test_without_seal_and_index_no_key_is_needed_and_none_works(home: Path, clip: Path, plan: Path) -> None:
    out = home / "gone.mp4"
    ok("anonymize", clip, "-o", out, "--plan", plan, *SOLID, "--seal", "off", "--index", "off")
    assert not out.with_name("gone.mp4.rvx").exists()
    refused(run("inspect", out), "no index")


def test_a_film_without_faces_is_written_and_said(home: Path, key: Path) -> None:
    film = make(home / "empty.mp4", Film(frames=4))
    result = ok("anonymize", film, "-o", home / "empty-out.mp4", "--key", key, *SOLID, "--detector", "centerface")
    assert "no face found" in result.stderr
    assert (home / "empty-out.mp4").exists()
    assert "no tracks" in ok("inspect", home / "empty-out.mp4").stdout


# -- inspect -----------------------------------------------------------------------------------------------------------


def test_inspect_without_a_key_shows_the_public_part_only(anonymized: Path) -> None:
    seen = told(ok("inspect", anonymized, "--json"))
    assert [track["id"] for track in seen["tracks"] if not track["contested"]] == [1, 2]
    assert seen["video"] == {"path": str(anonymized), "matches": True}
    assert "unlocked" not in seen


def test_inspect_with_a_key_shows_how_it_was_made(anonymized: Path, key: Path) -> None:
    seen = told(ok("inspect", f"{anonymized}.rvx", "--key", key, "--json"))["unlocked"]
    assert (seen["opens"], seen["authenticity"], seen["generator"]["method"]) == ("everything", "owner", "solid")
    assert ok("inspect", anonymized, "--key", key).stdout.count("yes") >= 2


def test_inspect_tells_the_owner_a_known_signer_and_a_stranger_apart(home: Path, anonymized: Path, key: Path) -> None:
    signer = next(line.split()[-1] for line in key.read_text().splitlines() if "signer" in line)
    assert f"signed with this very key ({signer})" in ok("inspect", anonymized, "--key", key).stdout
    track_key = home / "apart.key"
    ok("grant", anonymized, "--key", key, "--track", 1, "-o", track_key)
    assert f"signed by a known signer ({signer})" in ok("inspect", anonymized, "--key", track_key).stdout
    bare = home / "bare.key"
    bare.write_text(track_key.read_text().splitlines()[-1] + "\n")
    bare.chmod(0o600)
    seen = ok("inspect", anonymized, "--key", bare)
    assert f"signed by {signer}, whom neither" in seen.stdout
    assert "warning: the index is signed by" in seen.stderr
    assert "known signer" in ok("inspect", anonymized, "--key", bare, "--signer", signer).stdout
    assert told(ok("inspect", anonymized, "--json"))["signer"] is None
    assert told(ok("inspect", anonymized, "--signer", signer, "--json"))["signer"] == signer
    assert signer not in ok("inspect", anonymized).stdout


def test_version_1_is_read_with_a_warning_where_its_keys_were_given_away(home: Path) -> None:
    index = home / "old.mp4.rvx"
    index.write_bytes((VECTORS / "1" / "sound-derived.rvx").read_bytes())
    key = home / "old.key"
    key.write_text(f"{identity_text(bytes(range(32)))}\n")
    key.chmod(0o600)
    made = ok("grant", index, "--key", key, "--track", 1, "-o", home / "old-track.key")
    assert "a track key opens every run of the same video" in made.stderr
    seen = ok("inspect", index, "--key", home / "old-track.key")
    assert "a track key opens every run of the same video" in seen.stderr
    assert "unsigned, format 1" in seen.stdout
    assert told(ok("inspect", index, "--key", key, "--json"))["unlocked"]["authenticity"] == "unsigned"


def test_inspect_says_when_the_video_is_another(home: Path, clip: Path, anonymized: Path) -> None:
    (home / "odd.mp4").write_bytes(clip.read_bytes())
    (home / "odd.mp4.rvx").write_bytes(Path(f"{anonymized}.rvx").read_bytes())
    assert told(ok("inspect", home / "odd.mp4", "--json"))["video"]["matches"] is False


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_wrong_key_is_one_line_and_no_output(home: Path, anonymized: Path) -> None:
    ok("keygen", "-o", home / "other.key")
    refused(run("recover", anonymized, "-o", home / "wrong.mp4", "--key", home / "other.key"), "opens nothing")
    refused(run("grant", anonymized, "--key", home / "other.key", "--track", 1, "-o", home / "x.key"), "opens nothing")
    assert not (home / "wrong.mp4").exists()
    assert not (home / "x.key").exists()


def test_damaged_index_is_not_a_wrong_key(home: Path, anonymized: Path, key: Path) -> None:
    content = bytearray(Path(f"{anonymized}.rvx").read_bytes())
    content[len(content) // 3] ^= 1
    (home / "hurt.rvx").write_bytes(content)
    result = run("recover", anonymized, "-o", home / "h.mp4", "--key", key, "--index", home / "hurt.rvx")
    refused(result, "changed")
    assert not (home / "h.mp4").exists()


def test_input_is_never_the_output(clip: Path, plan: Path, key: Path) -> None:
    before = clip.read_bytes()
    refused(run("anonymize", clip, "-o", clip, "--key", key, "--plan", plan, *SOLID, "--overwrite"), "the input itself")
    assert clip.read_bytes() == before


def test_an_existing_output_is_kept(home: Path, clip: Path, plan: Path, key: Path) -> None:
    (home / "there.mp4").write_bytes(b"mine")
    refused(run("anonymize", clip, "-o", home / "there.mp4", "--key", key, "--plan", plan, *SOLID), "--overwrite")
    assert (home / "there.mp4").read_bytes() == b"mine"
    ok("anonymize", clip, "-o", home / "there.mp4", "--key", key, "--plan", plan, *SOLID, "--overwrite")


def test_an_existing_index_is_kept(home: Path, clip: Path, plan: Path, key: Path) -> None:
    (home / "lone.mp4.rvx").write_bytes(b"mine")
    refused(run("anonymize", clip, "-o", home / "lone.mp4", "--key", key, "--plan", plan, *SOLID), "lone.mp4.rvx")
    assert (home / "lone.mp4.rvx").read_bytes() == b"mine"


def test_a_secret_key_is_never_overwritten(key: Path) -> None:
    before = key.read_bytes()
    refused(run("keygen", "-o", key), "kept")
    assert key.read_bytes() == before


@pytest.mark.parametrize(
    "words", [[], ["--index", "off"], ["--seal", "off"], ["-r", "age1x", "--index", "off"]], ids=" ".join
)
def test_nobody_who_could_undo_it_is_a_usage_error(home: Path, clip: Path, words: list[str]) -> None:
    result = run("anonymize", clip, "-o", home / "usage.mp4", *SOLID, *words)
    assert result.exit_code == 2
    assert "--seal off" in result.output


def test_a_plan_of_another_video_is_refused(home: Path, plan: Path, key: Path) -> None:
    film = make(home / "another.mp4", Film(frames=4))
    refused(run("anonymize", film, "-o", home / "an.mp4", "--key", key, "--plan", plan, *SOLID), "another video")


def test_a_missing_input_is_one_line(home: Path, key: Path) -> None:
    refused(run("anonymize", home / "none.mp4", "-o", home / "n.mp4", "--key", key, *SOLID), "none.mp4")


def test_a_track_key_is_no_key_for_a_new_video(home: Path, clip: Path, plan: Path, key: Path, anonymized: Path) -> None:
    ok("grant", anonymized, "--key", key, "--track", 2, "-o", home / "two.key")
    refused(
        run("anonymize", clip, "-o", home / "t.mp4", "--key", home / "two.key", "--plan", plan, *SOLID), "one track"
    )


def test_an_interrupt_leaves_nothing(
    home: Path, clip: Path, plan: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from revisage.pipeline import composite

    folder = home / "interrupted"
    folder.mkdir()

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(composite, "solid", interrupt)
    result = run("anonymize", clip, "-o", folder / "out.mp4", "--key", key, "--plan", plan, *SOLID)
    assert result.exit_code == 130
    assert list(folder.iterdir()) == []


def test_a_failure_in_the_middle_leaves_nothing(
    home: Path, clip: Path, plan: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from revisage.pipeline import render

    folder = home / "failed"
    folder.mkdir()

    def fail(*_: object, **__: object) -> str:
        raise OSError(28, "No space left on device", "disk")

    monkeypatch.setattr(render, "video_digest", fail)
    refused(run("anonymize", clip, "-o", folder / "out.mp4", "--key", key, "--plan", plan, *SOLID), "No space left")
    assert list(folder.iterdir()) == []


# -- keys --------------------------------------------------------------------------------------------------------------


def test_a_protected_key_asks_and_opens(home: Path, clip: Path, plan: Path) -> None:
    path = home / "protected.key"
    ok("keygen", "-o", path, "--passphrase", input="correct horse\ncorrect horse\n")
    assert b"AGE-SECRET-KEY" not in path.read_bytes()
    out = home / "protected.mp4"
    result = ok("anonymize", clip, "-o", out, "--key", path, "--plan", plan, *SOLID, input="correct horse\n")
    assert "horse" not in result.output
    bad = run("inspect", out, "--key", path, input="wrong\n")
    assert bad.exit_code == 1
    assert "passphrase does not open" in bad.stderr


def test_a_key_that_others_can_read_is_mentioned(home: Path, key: Path, anonymized: Path) -> None:
    open_key = home / "open.key"
    open_key.write_bytes(key.read_bytes())
    open_key.chmod(0o644)
    assert "chmod 600" in ok("inspect", anonymized, "--key", open_key).stderr
    assert "chmod" not in ok("inspect", anonymized, "--key", key).stderr


def test_no_secret_is_ever_printed(home: Path, key: Path, anonymized: Path) -> None:
    secret = key.read_text().splitlines()[-1]
    for words in (["inspect", anonymized, "--key", key], ["inspect", anonymized, "--key", key, "--json"]):
        assert secret not in ok(*words).output


# -- silence -----------------------------------------------------------------------------------------------------------


def test_libraries_are_silent_and_the_result_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    import warnings

    with command_line._quiet():
        print("find model: noise.onnx")
        warnings.warn("noise", stacklevel=1)
        command_line._say("result")
    assert capsys.readouterr() == ("result\n", "")


def test_bars_are_for_terminals(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(command_line._progress()(range(3), label="anonymize", total=3)) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert list(command_line._progress()(range(3), label="anonymize", total=3)) == [0, 1, 2]
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "anonymize" in shown.err


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ")
def test_a_polite_end_is_an_interrupt(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\nfrom revisage import cli\n"
        "@cli.cli.command()\ndef wait(): os.kill(os.getpid(), signal.SIGTERM)\n"
        "sys.argv = ['revisage', 'wait']\ncli.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "interrupted; unfinished files were removed\n")


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (12_340_000, "12.3 MB"), (5 * 10**12, "5000 GB")]
)
def test_sizes_are_for_people(count: int, text: str) -> None:
    assert command_line._size(count) == text


def test_recovery_needs_no_network_library(home: Path, key: Path, anonymized: Path) -> None:
    words = [str(w) for w in ("recover", anonymized, "-o", home / "light.mp4", "--key", key)]
    code = (
        f"import sys\nfrom revisage.cli import cli\ncli({words!r}, standalone_mode=False)\n"
        "sys.exit(', '.join({'torch', 'diffusers', 'onnxruntime', 'insightface'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (home / "light.mp4").exists()


def test_quick_methods_need_no_torch(home: Path, clip: Path, key: Path) -> None:
    """It takes longer to load than a short clip takes to blur."""
    words = ["anonymize", clip, "-o", home / "quick.mp4", "--key", key, "--method", "blur", "--detector", "centerface"]
    code = (
        f"import sys\nfrom revisage.cli import cli\ncli({[str(w) for w in words]!r}, standalone_mode=False)\n"
        "sys.exit(', '.join({'torch', 'diffusers', 'insightface', 'skimage'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (home / "quick.mp4").exists()


# -- models and doctor -------------------------------------------------------------------------------------------------


def test_models_list_says_what_is_here() -> None:
    listed = told(ok("models", "list", "--json"))["models"]
    assert {model["name"] for model in listed} >= set(presets.PRESETS)
    packs = [model for model in listed if model["kind"] == "insightface"]
    assert all("non-commercial" in model["licence"] for model in packs)


def test_a_pack_from_elsewhere_is_known(tmp_path: Path) -> None:
    from revisage.pipeline.doctor import _packs

    assert presets.known(tmp_path) == list(presets.PRESETS.values())
    assert "no pack" in _packs(tmp_path).says
    (tmp_path / "models" / "mine").mkdir(parents=True)
    (tmp_path / "models" / "mine" / "det_x.onnx").write_bytes(b"model")
    assert [preset.name for preset in presets.known(tmp_path)][-1] == "mine"
    assert "mine" in _packs(tmp_path).says


def test_fetching_an_unknown_model_names_the_known() -> None:
    refused(run("models", "fetch", "no-such"), "revisage-face", "buffalo_l")


def test_a_failed_download_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from insightface.utils import storage

    def broken(sub: str, name: str, force: bool, root: str) -> None:
        folder = Path(root) / sub / name
        folder.mkdir(parents=True)
        (folder / "half.onnx").write_bytes(b"half")
        raise RuntimeError("connection reset")

    monkeypatch.setattr(storage, "download", broken)
    with pytest.raises(ModelError, match="connection reset"):
        presets.fetch("buffalo_s", tmp_path)
    assert list((tmp_path / "models").iterdir()) == []


def test_a_fetched_model_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from insightface.utils import storage

    def whole(sub: str, name: str, force: bool, root: str) -> None:
        folder = Path(root) / sub / name
        folder.mkdir(parents=True)
        (folder / "det_500m.onnx").write_bytes(b"model")
        folder.with_name(f"{name}.zip").write_bytes(b"archive")

    monkeypatch.setattr(storage, "download", whole)
    assert presets.fetch("buffalo_s", tmp_path) == tmp_path / "models" / "buffalo_s"
    monkeypatch.delattr(storage, "download")
    assert presets.fetch("buffalo_s", tmp_path) == tmp_path / "models" / "buffalo_s"
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["buffalo_s"]


def test_doctor_names_what_is_broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from revisage.models import generator

    monkeypatch.setattr(generator, "EMBEDDED", tmp_path / "absent")
    result = run("doctor", "--device", "cpu", "--json")
    assert result.exit_code == 1
    found = {finding["subject"]: finding for finding in told(result)["findings"]}
    assert found["model"]["state"] == "broken"
    assert found["device"]["state"] == found["detector"]["state"] == found["torch"]["state"] == "ok"
    assert "libx264" in found["encoders"]["says"]
