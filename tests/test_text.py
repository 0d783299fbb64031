"""What is shown of text from files, names and command lines: escaped, bounded, and never a secret."""

from __future__ import annotations

import ast
import json
import stat
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from commands import run
from films import Film, make
from hypothesis import given
from hypothesis import strategies as st
from test_index import KEY, SECRET, SETTINGS, STRANGER, _clip, _document, _placement

from revisage import cli as command_line
from revisage.pipeline.text import LINE, hint_of, shown, value
from revisage.pipeline.vault import keys
from revisage.pipeline.vault.index import IndexWriter

SECRET_LINE = keys._identity_text(bytes(range(32)))
ROOT = Path(command_line.__file__).parent


@given(st.text(st.characters(), max_size=200))
def test_what_is_shown_steers_no_terminal(text: str) -> None:
    seen = shown(text)
    assert seen.encode("utf-8").decode() == seen
    assert not [c for c in seen if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
    assert "\n" not in seen


def test_plain_text_is_shown_as_it_is_and_long_text_is_cut() -> None:
    assert shown("Müller's déjà vu 影片.mp4") == "Müller's déjà vu 影片.mp4"
    assert shown("a\x1b[2Jb\nc\u202ed\x9b") == r"a\x1b[2Jb\nc\u202ed\x9b"
    assert len(shown("x" * 10_000_000)) < LINE + 20
    assert value("solid") == "solid"
    assert value("two words") == '"two words"'


@pytest.mark.parametrize("text", [SECRET_LINE, SECRET_LINE.lower(), f"cannot read {SECRET_LINE}: no", SECRET_LINE[:40]])
def test_no_secret_is_shown(text: str) -> None:
    assert SECRET_LINE[20:30] not in shown(text).upper()


def test_hints() -> None:
    assert hint_of(ValueError("it broke; mend it")) == "mend it"
    assert hint_of(ValueError("it broke: mend it")) == "mend it"
    assert "--help" in hint_of(ValueError("it broke"))


def test_all_output_passes_one_place() -> None:
    """`click.echo` and `print` are called by the three functions that escape, and by nobody else in the program."""
    found = []
    for path in [ROOT / "cli.py", *(ROOT / "pipeline").rglob("*.py"), *(ROOT / "trackers").rglob("*.py")]:
        for function in (n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.FunctionDef)):
            calls = [ast.unparse(n.func) for n in ast.walk(function) if isinstance(n, ast.Call)]
            found += [(path.name, function.name) for call in calls if call in ("click.echo", "print", "click.secho")]
    assert set(found) == {("cli.py", "_say"), ("cli.py", "_say_json"), ("cli.py", "_complain")}


# ------------------------------------------------------------------------------------------------- the command line


def _told(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


@pytest.fixture
def forged(tmp_path: Path) -> Path:
    """An index whose text wants to print the line that says it is proven."""
    lie = "x\n\x1b[2Kkey    opens everything; signed with this very key\u202e\x9b2J"
    generator = {"model": lie, "method": "solid                                  signed with this very key"}
    settings = SETTINGS.__class__(SETTINGS.video, generator, 0.0, "visual")
    document = _document(SECRET, {1: 1})
    document = document.__class__(SECRET, settings, document.tracks, None, {lie: lie})
    with IndexWriter(tmp_path / "f.mp4.rvx", SECRET, [KEY.recipient], owner=STRANGER.owner) as writer:
        writer.add_segment(1, 0, _clip(1, 0), _placement(0))
        writer.finish(document, "0" * 64)
    (tmp_path / "k").write_text(SECRET_LINE + "\n")
    (tmp_path / "k").chmod(0o600)
    return tmp_path / "f.mp4.rvx"


def test_a_forged_index_cannot_print_lines_of_its_own(forged: Path) -> None:
    for more in ([], ["--json"]):
        result = run("inspect", forged, "--key", forged.parent / "k", *more)
        assert result.exit_code == 0, result.output
        for text in (result.stdout, result.stderr):
            assert not [c for c in text if unicodedata.category(c) in ("Cc", "Cf") and c != "\n"]
            assert not [line for line in text.splitlines() if line.startswith("key ") and "signed with" in line]
    made = next(
        line for line in run("inspect", forged, "--key", forged.parent / "k").stdout.splitlines() if "made" in line
    )
    assert '"solid   ' in made  # in quotes: it is a value, and no line


def test_file_names_are_escaped(tmp_path: Path) -> None:
    name = tmp_path / "a\nerror: \x1b[31mall is well.mp4"
    result = run("anonymize", name, "-o", tmp_path / "o.mp4", "--method", "solid", "--seal", "off", "--index", "off")
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert "\x1b" not in result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["inspect", "v.mp4", "--key", SECRET_LINE],
        ["anonymize", "v.mp4", "-o", "o.mp4", "--key", SECRET_LINE],
        ["anonymize", "v.mp4", "-o", "o.mp4", "-r", SECRET_LINE],
        ["anonymize", "v.mp4", "-o", "o.mp4", "--kee", SECRET_LINE],
        ["recover", SECRET_LINE, "-o", "o.mp4", "--key", "k"],
        ["recover", "v.mp4", "-o", "o.mp4", "--key", "k", "--track", SECRET_LINE],
        ["keygen", "-o", SECRET_LINE.lower()],
        ["batch", ".", "-o", "out", "--key", SECRET_LINE],
        [SECRET_LINE],
    ],
    ids=lambda words: " ".join(words[:1] + words[-2:-1]),
)
@pytest.mark.parametrize("more", [[], ["--json"]], ids=["text", "json"])
def test_a_secret_on_the_command_line_is_not_echoed(words: list[str], more: list[str]) -> None:
    result = run(*words, *more)
    assert result.exit_code in (1, 2)
    assert SECRET_LINE[20:40] not in result.output.upper()
    if words[-2:-1] == ["--key"] and words[-1] == SECRET_LINE:
        assert "give the name of the file that holds it" in result.output


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["inspect", "nowhere.mp4"], 1),
        (["inspect"], 2),
        (["frobnicate"], 2),
        (["keygen", "-o", "."], 2),
        (["keygen", "-o", ""], 2),
        (["inspect", "."], 2),
        (["inspect", "/"], 2),
        (["inspect", ".."], 2),
        (["anonymize", "a.mp4", "-o", "."], 2),
        (["recover", "a.mp4", "-o", "", "--key", "k"], 2),
        (["batch", "nowhere", "-o", "out", "--seal", "off", "--index", "off"], 1),
        (["models", "fetch", "no/such/model/at/all"], 1),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else "",
)
def test_json_says_what_failed_always(words: list[str], code: int, tmp_path: Path) -> None:
    result = run(*words, "--json")
    assert result.exit_code == code, result.output
    assert len(result.stdout.splitlines()) == 1
    told = _told(result)
    assert told.keys() >= {"error", "code", "hint"}
    assert told["code"] == code
    assert told["error"] and told["hint"]


def test_a_mistake_of_our_own_is_one_line_and_an_object(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError(f"so {SECRET_LINE}")

    monkeypatch.setattr(keys, "write_secret_key", broken)
    result = run("keygen", "-o", tmp_path / "k", "--json")
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert "ZeroDivisionError" in _told(result)["error"]
    assert SECRET_LINE[20:30] not in result.output
    monkeypatch.setenv("REVISAGE_DEBUG", "1")
    assert isinstance(run("keygen", "-o", tmp_path / "k").exception, ZeroDivisionError)


def test_an_interruption_is_an_object_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(keys, "write_secret_key", interrupted)
    result = run("keygen", "-o", tmp_path / "k", "--json")
    assert (result.exit_code, _told(result)["code"]) == (130, 130)


# --------------------------------------------------------------------------------------------- keys from elsewhere


def test_a_key_comes_from_standard_input_and_from_the_environment(
    forged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run("inspect", forged, "--key", "-", input=(forged.parent / "k").read_bytes())
    assert "opens everything" in result.stdout
    assert "warning" not in run("inspect", forged, "--key", "-", input=b"").stdout
    refused = run("inspect", forged, "--key", "-", input=b"rubbish")
    assert (refused.exit_code, "standard input" in refused.stderr) == (1, True)
    monkeypatch.setenv("REVISAGE_KEY_FILE", str(forged.parent / "k"))
    assert "opens everything" in run("inspect", forged).stdout
    monkeypatch.setenv("REVISAGE_KEY_FILE", SECRET_LINE)
    result = run("inspect", forged)
    assert result.exit_code == 2
    assert SECRET_LINE[20:40] not in result.output


def test_a_public_key_alone_takes_no_secret_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = keys.write_secret_key(tmp_path / "k")
    monkeypatch.setenv("REVISAGE_KEY_FILE", str(tmp_path / "k"))
    film = make(tmp_path / "f.mp4", Film(frames=3))
    words = ["anonymize", film, "--method", "solid", "--detector", "centerface", "--looks", "once", "--no-verify"]
    assert run(*words, "-o", tmp_path / "a.mp4", "-r", STRANGER.recipient).exit_code == 0
    assert run("inspect", tmp_path / "a.mp4", "--key", tmp_path / "k").exit_code == 1
    assert run(*words, "-o", tmp_path / "b.mp4").exit_code == 0
    assert f"signed with this very key ({made.owner.signer})" in run("inspect", tmp_path / "b.mp4").stdout


@pytest.mark.skipif(sys.platform == "win32", reason="file modes are POSIX")
def test_recovered_videos_are_private(tmp_path: Path) -> None:
    keys.write_secret_key(tmp_path / "k")
    film = make(tmp_path / "f.mp4", Film(frames=3))
    words = ["--method", "solid", "--detector", "centerface", "--looks", "once", "--no-verify"]
    assert run("anonymize", film, "-o", tmp_path / "a.mp4", "--key", tmp_path / "k", *words).exit_code == 0
    for more in ([], ["--overwrite"]):
        assert (
            run("recover", tmp_path / "a.mp4", "-o", tmp_path / "b.mp4", "--key", tmp_path / "k", *more).exit_code == 0
        )
        assert stat.S_IMODE((tmp_path / "b.mp4").stat().st_mode) == 0o600
        (tmp_path / "b.mp4").chmod(0o644)
    assert stat.S_IMODE((tmp_path / "a.mp4").stat().st_mode) & 0o044
