"""The command line: parses, calls, prints. Knows no cryptography, no pixel and no file format.

Everything heavy (torch, av, diffusers, insightface, OpenCV) is imported inside the commands, so that `--help` is quick.
Results go to stdout, all else (progress, warnings, errors) to stderr. Exit codes: 0 done, 1 failed, 2 usage,
3 verification found a leak, 4 some files of a batch failed, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

import click

from revisage.pipeline.errors import KeyFileError, LeakError, RevisageError
from revisage.pipeline.text import VALUE, hint_of, holds_secret, shown, value

if TYPE_CHECKING:
    from revisage.pipeline.batch.run import BatchReport, FileResult
    from revisage.pipeline.evaluation.report import FilmReport
    from revisage.pipeline.recover import RecoverOptions
    from revisage.pipeline.report import Moment, TrackSummary
    from revisage.pipeline.run import JobOptions, JobReport, KeyRing, Workshop
    from revisage.pipeline.types import Progress
    from revisage.pipeline.vault.keys import SecretKey, Signer, TrackKey
    from revisage.pipeline.verification.expected import Expected
    from revisage.pipeline.verification.ladder import Repair
    from revisage.pipeline.verification.report import Report, Span

METHODS = ("diffusion", "blur", "mosaic", "solid")  # as pipeline/protect.py has them, which imports too much
SEALS = ("visual", "lossless", "off")
FAILED, LEAK, PARTLY, INTERRUPTED = 1, 3, 4, 130
KEY_VARIABLE = "REVISAGE_KEY_FILE"  # of the environment: names the key file where no --key does

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., Any])


class _Command(click.Command):
    """Runs with the libraries silenced."""

    def invoke(self, ctx: click.Context) -> Any:
        with _quiet():
            return super().invoke(ctx)


class _Interrupted(Exception):
    """Ctrl-C, or a polite end from elsewhere."""


class _Group(click.Group):
    """Turns whatever is raised into one line on stderr, an exit code, and with --json an object on stdout."""

    command_class = _Command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise _Interrupted from None  # which click does not answer with an empty line

    def main(self, args: Sequence[str] | None = None, *rest: Any, **more: Any) -> Any:
        words = list(sys.argv[1:] if args is None else args)
        if debug := "--debug" in words:
            words.remove("--debug")
        more["standalone_mode"] = False  # what is raised comes here
        sys.exit(
            _ending(lambda: super(_Group, self).main(words, *rest, **more), as_json="--json" in words, debug=debug)
        )

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order of work, not of the alphabet


def _ending(command: Callable[[], Any], *, as_json: bool, debug: bool = False) -> int:  # noqa: PLR0911 - one an end
    """The exit code of `command`, after what went wrong was said; with `debug`, where in the program it arose, too."""
    try:
        code = _traced(command) if debug else command()
        return code if isinstance(code, int) else 0
    except click.UsageError as error:
        usage = error.ctx.get_usage().splitlines() if error.ctx else []
        return _failed(error.format_message(), error.exit_code, "see --help", usage, as_json=as_json)
    except (KeyboardInterrupt, click.Abort, _Interrupted):
        said = "interrupted; unfinished files were removed"
        return _failed(said, INTERRUPTED, "give the same command again", as_json=as_json)
    except LeakError as leak:
        more = {"output": None, "verification": _verification(leak.report)}
        return _failed(leak, LEAK, hint_of(leak), _leak_lines(leak.report), as_json=as_json, **more)
    except RevisageError as error:
        return _failed(error, FAILED, hint_of(error), as_json=as_json)
    except BrokenPipeError:
        raise  # the reader of our output has gone
    except OSError as error:
        said = f"{error.filename or 'system'}: {error.strerror or error}"
        return _failed(said, FAILED, "check the name, the folder and its free space", as_json=as_json)
    except MemoryError:
        return _failed("out of memory", FAILED, "give fewer --jobs, a smaller --batch-size", as_json=as_json)
    except Exception as error:
        if os.environ.get("REVISAGE_DEBUG"):
            raise
        said = f"{type(error).__name__} in revisage itself: {shown(error, VALUE)}"
        return _failed(said, FAILED, "report it, with what --debug prints", as_json=as_json)


def _traced(command: Callable[[], Any]) -> Any:
    try:
        return command()
    except (click.UsageError, click.Abort):
        raise
    except Exception:
        _complain(traceback.format_exc().rstrip())
        raise


def _failed(error: object, code: int, hint: str, lines: Sequence[str] = (), *, as_json: bool, **more: Any) -> int:
    for line in lines:
        _complain(line)
    text = str(error)
    _complain(text if code == INTERRUPTED else f"error: {text}" if hint in text else f"error: {text}; {hint}")
    if as_json:
        _say_json({**more, "error": shown(text), "code": code, "hint": shown(hint)})
    return code


_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100, "show_default": True}  # of all commands


@click.group(cls=_Group, context_settings=_SETTINGS)
@click.version_option(package_name="revisage")
def cli() -> None:
    """Replace every face in a video with a synthetic one that only a key can undo, person by person.

    \b
    Start here:
      revisage demo                                       see it work on a small clip
      revisage keygen -o my.key                           make a key, once
      revisage anonymize in.mp4 -o out.mp4 --key my.key   writes out.mp4 and out.mp4.rvx
      revisage recover out.mp4 -o back.mp4 --key my.key --track 1
    """


def main() -> None:
    """What the installed program `revisage` runs."""
    signal.signal(signal.SIGTERM, _terminate)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup leaves it
        signal.signal(signal.SIGHUP, _terminate)
    cli()


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt  # so that a polite end removes unfinished files, as Ctrl-C does


# ---------------------------------------------------------------------------------------------------------------------
# Talking


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Libraries keep their remarks to themselves; what `_say` and `_complain` print still comes through."""
    for name, wish in _SILENCE.items():
        os.environ.setdefault(name, wish)
    with warnings.catch_warnings(), contextlib.redirect_stdout(_Muted(sys.stdout)):
        warnings.simplefilter("ignore")
        yield


_SILENCE = {
    "DIFFUSERS_VERBOSITY": "error",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_OFFLINE": "1",  # models are here or they are not: a run never asks the network
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "ORT_LOGGING_LEVEL": "3",
    "SVT_LOG": "1",
}


class _Muted(io.TextIOBase):
    """Swallows what is printed; `voice` is the way out."""

    def __init__(self, voice: Any) -> None:
        self.voice = voice

    def write(self, text: str) -> int:
        return len(text)


def _say(*lines: str) -> None:
    voice = sys.stdout.voice if isinstance(sys.stdout, _Muted) else sys.stdout
    for line in lines:
        click.echo(shown(line), file=voice)


def _say_json(data: Any) -> None:
    """ASCII, so that nothing in it steers a terminal; one line of any length."""
    voice = sys.stdout.voice if isinstance(sys.stdout, _Muted) else sys.stdout
    click.echo(json.dumps(data, default=str), file=voice)


def _say_above_bar(line: str) -> None:
    if not sys.stderr.isatty():
        _say(line)
        return
    from tqdm import tqdm

    with tqdm.external_write_mode(file=sys.stderr):
        _say(line)


def _complain(line: str) -> None:
    click.echo(shown(line), err=True)


def _tell(as_json: bool, data: Any, lines: Iterable[str]) -> None:
    """The result, as one line of JSON or for a person."""
    if as_json:
        _say_json(data)
    else:
        _say(*lines)


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Left-aligned columns; numbers to the right."""
    cells = [list(head), *([shown(cell, VALUE) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    number = [all(_is_number(row[i]) for row in cells[1:]) for i in range(len(head))]
    return [
        "  ".join(v.rjust(w) if n else v.ljust(w) for v, w, n in zip(row, widths, number, strict=True)).rstrip()
        for row in cells
    ]


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()


def _size(count: int) -> str:
    value, unit = float(count), 0
    while value >= 1000 and unit < 3:
        value, unit = value / 1000, unit + 1
    return f"{value:.3g} {('B', 'kB', 'MB', 'GB')[unit]}" if value < 999.5 else f"{value:.0f} GB"


def _progress() -> Progress:
    """A bar on a terminal, nothing where stderr is piped."""

    def show(items: Iterable[T], *, label: str, total: int | None = None) -> Iterable[T]:
        if not sys.stderr.isatty():
            return items
        from tqdm import tqdm

        return tqdm(items, desc=label, total=total, leave=False, file=sys.stderr, unit="", dynamic_ncols=True)

    return show


# ---------------------------------------------------------------------------------------------------------------------
# Options that commands share


def _stacked(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def _likes(
    _context: click.Context, _parameter: click.Parameter, values: Sequence[str]
) -> tuple[tuple[int | None, tuple[str, ...]], ...]:
    """`woman,50s` for everybody, `2=woman,50s` for track 2."""
    found = []
    for wish in values:
        track, equals, words = wish.rpartition("=")
        if equals and not track.isdecimal():
            raise click.BadParameter(f"{wish!r}: before = there must be a track's number, as in 2=woman,50s")
        found.append((int(track) if equals else None, tuple(w.strip().lower() for w in words.split(",") if w.strip())))
    return tuple(found)


def _words(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """What stands between commas."""
    return None if value is None else tuple(word.strip() for word in value.split(",") if word.strip())


class _File(click.Path):
    """The name of a file; never the secret itself, which somebody pasted where its file's name belongs."""

    name = "file"

    def __init__(self, *, key: bool = False) -> None:
        super().__init__(path_type=Path, allow_dash=key)
        self._key = key

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        text = os.fspath(value)
        if holds_secret(str(text)):
            self.fail("that is a secret key itself; give the name of the file that holds it, and take the key out of "
                      "your shell's history", param, ctx)  # fmt: skip
        if not text or Path(text).name in ("", "..") or "\0" in str(text):
            self.fail(f"{shown(repr(text), VALUE)} is not the name of a file", param, ctx)
        return super().convert(value, param, ctx)


_PATH = click.Path(path_type=Path)
_FILE, _KEY_FILE = _File(), _File(key=True)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as one line of JSON.")
_overwrite_option = click.option("--overwrite", is_flag=True, help="Replace files that exist already.")
_device_option = click.option(
    "--device", default="auto", type=click.Choice(["auto", "cpu", "cuda"]), help="What computes."
)

_detection_options = _stacked(
    click.option(
        "--detector",
        default="auto",
        metavar="NAME",
        help="auto, centerface, insightface, or insightface:PACK. auto takes insightface where a pack is installed.",
    ),
    click.option(
        "--threshold",
        default=0.4,
        type=click.FloatRange(0, 1),
        help="Score from which a detection is a face. Lower finds more, also where there is none.",
    ),
    click.option(
        "--hold",
        default=0.5,
        type=click.FloatRange(0),
        metavar="SECONDS",
        help="Cover a face so long before it was first and after it was last found.",
    ),
    click.option(
        "--smallest",
        default=20.0,
        type=click.FloatRange(4, 4096),
        metavar="PIXELS",
        help="Width of the smallest face to look for. Smaller is slower.",
    ),
    click.option(
        "--looks",
        default="adaptive",
        type=click.Choice(["adaptive", "every", "once"]),
        help="adaptive skips still frames and looks again, turned, closer, brighter, where a face may be missed; every "
        "skips nothing; once is the first look alone.",
    ),
    _device_option,
)

_detections_option = click.option(
    "--detections",
    type=_PATH,
    metavar="FILE",
    help="Faces found by another program: MOT text (.txt, .csv) or JSON. Nothing else is looked for.",
)

_encoding_options = _stacked(
    click.option("--codec", metavar="NAME", help="Encoder, such as libx264 or ffv1.  [default: the input's codec]"),
    click.option("--crf", type=click.IntRange(0, 63), help="Quality: lower is better and larger, 0 is lossless."),
)

_verify_options = _stacked(
    click.option(
        "--verify/--no-verify",
        default=True,
        help="Look at the finished video again before it gets its name, and mend what shows a face, at last with grey.",
    ),
    click.option("--strict", is_flag=True, help="Mend nothing: a face that shows means no output, and exit code 3."),
    click.option(
        "--fix",
        is_flag=True,
        help="Where a recognizer is installed, let it look at the whole of the finished video, too; say where none is. "
        "It looks at new faces before they are used in any case.",
    ),
)

_method_options = _stacked(
    click.option(
        "--method",
        default="diffusion",
        type=click.Choice(METHODS),
        help="diffusion paints a new face; the others are quick, and blur and mosaic are weak.",
    ),
    click.option(
        "--model",
        default="revisage-face",
        metavar="NAME|DIR",
        help="What paints (diffusion): embedded, a diffusers folder, or a hub name fetched before.",
    ),
    click.option("--steps", type=click.IntRange(1, 500), help="Diffusion steps.  [default: the model's own]"),
    click.option(
        "--region",
        type=click.Choice(["face", "head"]),
        help="What is replaced; the head has hair and ears.  [default: face, or as the plan says]",
    ),
    click.option(
        "--tone",
        default="filmed",
        type=click.Choice(["filmed", "around"]),
        help="Where light and skin tone come from: 27 numbers of the filmed face, or what is around it alone.",
    ),
    click.option(
        "--like",
        multiple=True,
        callback=_likes,
        metavar="[ID=]WORDS",
        help="What a new face must be, such as woman,50s,dark; of one track with 2=woman (repeatable).",
    ),
    click.option(
        "--keep-parts",
        callback=_words,
        metavar="PARTS",
        help="Parts of every face that stay as filmed, such as eyes,mouth: they help to identify people.",
    ),
    click.option(
        "--carry",
        default=0.0,
        type=click.FloatRange(0, 1),
        metavar="C",
        help="How much of the original lives in the pixels themselves: 0 nothing, 1 all. Slow; use --codec ffv1.",
    ),
    click.option(
        "--carry-sigma",
        type=click.FloatRange(0.02, 10),
        metavar="S",
        help="Noise that it hides in: more is more grain, and survives more.  [default: 0.35]",
    ),
    click.option(
        "--latent-segment",
        type=click.FloatRange(0.01),
        metavar="SECONDS",
        help="With --carry, new noise and signs so often: a known frame opens no more.  [default: 2]",
    ),
    click.option("--batch-size", default=8, type=click.IntRange(1, 1024), help="Faces painted at a time."),
    click.option(
        "--seal",
        default="visual",
        type=click.Choice(SEALS),
        help="How the originals are kept for recovery: visual is small and looks the same, off keeps none.",
    ),
    click.option(
        "--index",
        default="sidecar",
        type=click.Choice(["sidecar", "off"]),
        help="Where the track index with the sealed originals goes: OUT.rvx, or nowhere.",
    ),
)

_key_options = _stacked(
    click.option(
        "--key",
        "key_files",
        multiple=True,
        type=_KEY_FILE,
        metavar="KEY",
        envvar=KEY_VARIABLE,
        help=f"Secret key file, - for standard input (repeatable).  [default: ${KEY_VARIABLE}, without -r]",
    ),
    click.option(
        "-r",
        "--recipient",
        "recipients",
        multiple=True,
        metavar="PUBKEY",
        help="Public key age1…, or a file with one (repeatable). Needs no secret on this machine.",
    ),
)


def _job_options(chosen: dict[str, Any]) -> JobOptions:
    from revisage.pipeline.run import JobOptions

    return JobOptions(**(chosen | {"index": chosen["index"] != "off"}))


_signer_option = click.option(
    "--signer",
    "signers",
    multiple=True,
    metavar="SIGNER",
    help="Whose signature to believe: signer1…, as keygen and inspect print it (repeatable).",
)


def _signers(texts: Sequence[str]) -> tuple[Signer, ...]:
    from revisage.pipeline.vault.keys import parse_signer

    return tuple(parse_signer(text) for text in texts)


def _authenticity_line(authenticity: str, signer: str | None, version: int) -> str:
    """Who made an index, as far as anybody can tell."""
    if version == 1:
        return "unsigned, format 1: made by a holder of the key or by another recipient, which cannot be told apart"
    return {
        "owner": f"signed with this very key ({signer})",
        "known": f"signed by a known signer ({signer})",
        "unknown": f"signed by {signer}, whom neither the key file nor --signer names",
        "unsigned": "unsigned: anybody who has a public key of yours may have made it",
    }[authenticity]


def _warn_of_index(authenticity: str, signer: str | None, version: int, *, granted: bool) -> None:
    """What a user must know who relies on an index."""
    if authenticity in ("unknown", "unsigned"):
        _complain(f"warning: the index is {_authenticity_line(authenticity, signer, version)}")
    if version == 1 and granted:
        _complain(f"warning: {_GRANTED_1}")


_GRANTED_1 = (
    "in format 1 a track key opens every run of the same video under the same key, whoever that run was for; "
    "anonymize the video again and grant from that index"
)


def _read_key(path: Path) -> SecretKey | TrackKey:
    """From a file, or `-`: standard input. Asks for a passphrase where it has one, warns where others can read it."""
    from revisage.pipeline.vault.keys import FILE_LIMIT, parse_key, read_key

    def ask() -> str:
        return str(click.prompt(f"passphrase of {shown(path.name, VALUE)}", hide_input=True, err=True))

    if str(path) == "-":
        return parse_key(sys.stdin.buffer.read(FILE_LIMIT + 1), "standard input", ask)
    key = read_key(path, ask)
    if key.exposed:
        _complain(f"warning: {path} can be read by others; run: chmod 600 {path}")
    return key


def _from_environment(parameter: str) -> bool:
    return click.get_current_context().get_parameter_source(parameter) is click.core.ParameterSource.ENVIRONMENT


def _key_ring(key_files: Sequence[Path], recipients: Sequence[str]) -> KeyRing:
    from revisage.pipeline.run import KeyRing
    from revisage.pipeline.vault.keys import SecretKey, parse_recipient

    public = tuple(parse_recipient(text) for text in recipients)
    if public and _from_environment("key_files"):
        key_files = ()  # -r is for machines that hold no secret: it takes one only where the command line says so
    secrets: list[SecretKey] = []
    for path in key_files:
        key = _read_key(path)
        if not isinstance(key, SecretKey):
            raise KeyFileError(f"{path.name} opens one track of another video; give a key made by revisage keygen")
        secrets.append(key)
    return KeyRing(tuple(secrets), public)


# ---------------------------------------------------------------------------------------------------------------------
# Keys


@cli.command()
@click.option("-o", "--output", required=True, type=_FILE, metavar="KEY", help="New file; never overwritten.")
@click.option("--passphrase", is_flag=True, help="Ask for a passphrase that protects the file.")
@_json_option
def keygen(output: Path, passphrase: bool, as_json: bool) -> None:
    """Make a secret key: an age identity, readable by you alone.

    Whoever has the file can undo what is made with it; without it nobody can, you included. Keep a copy.

    \b
    Example:
      revisage keygen -o my.key
    """
    from revisage.pipeline.vault.keys import write_secret_key

    secret = click.prompt("passphrase", hide_input=True, confirmation_prompt=True, err=True) if passphrase else None
    key = write_secret_key(output, secret)
    public, signer = str(key.recipient), str(key.owner.signer)
    _tell(
        as_json,
        {"key": output, "public_key": public, "signer": signer},
        [
            f"secret key  {output}  (keep a copy: nothing can be undone without it)",
            f"public key  {public}",
            f"signer      {signer}  (what you make is signed so; give it to those who get your videos)",
            f"next        revisage anonymize IN -o OUT --key {output}",
        ],
    )


@cli.command()
@click.argument("file", type=_FILE)
@click.option(
    "--key",
    "key_file",
    required=True,
    type=_KEY_FILE,
    envvar=KEY_VARIABLE,
    metavar="KEY",
    help="Secret key of the video.",
)
@click.option("--track", required=True, type=click.IntRange(1), metavar="N", help="Whom the new key brings back.")
@click.option("-o", "--output", required=True, type=_FILE, metavar="TRACKKEY", help="New file; never overwritten.")
@_json_option
def grant(file: Path, key_file: Path, track: int, output: Path, as_json: bool) -> None:
    """Make a key that brings back one person and nothing else.

    It opens one track of this one video. FILE is the anonymized video or its index.

    \b
    Example:
      revisage grant out.mp4 --key my.key --track 3 -o track3.key
    """
    from revisage.pipeline.vault.index import open_index
    from revisage.pipeline.vault.keys import write_track_key

    index = _index_of(file)
    with open_index(index) as reader:
        unlocked = reader.unlock(_read_key(key_file))
        track_key = unlocked.grant(track)
        comments = [f"track {track} of video {reader.video_id}"]
        trusted = unlocked.signer if unlocked.authenticity in ("owner", "known") else None
        who = str(unlocked.signer) if unlocked.signer else None
        _warn_of_index(unlocked.authenticity, who, reader.version, granted=True)
    write_track_key(output, track_key, comments, trusted)
    _tell(
        as_json,
        {"key": output, "track": track, "index": index, "public_key": str(track_key.recipient)},
        [
            f"track key  {output}  (opens track {track} of this video and nothing else)",
            f"next       revisage recover {_video_of(index)} -o BACK --key {output}",
        ],
    )


def _index_of(file: Path) -> Path:
    """The index of a video, or `file` where it is one."""
    from revisage.pipeline.errors import IndexFileError
    from revisage.pipeline.places import index_of
    from revisage.pipeline.render import INDEX_SUFFIX

    if file.suffix == INDEX_SUFFIX:
        return file
    index = index_of(file)
    if not index.exists():
        raise IndexFileError(f"there is no index {index}; put the .rvx beside the video or name it")
    return index


def _video_of(index: Path) -> Path:
    return index.with_suffix("")


# ---------------------------------------------------------------------------------------------------------------------
# One video


@cli.command()
@click.argument("source", metavar="IN", type=_FILE)
@click.option("-o", "--output", required=True, type=_FILE, metavar="PLAN", help="New file (JSON).")
@_detection_options
@_detections_option
@_overwrite_option
@_json_option
def analyze(source: Path, output: Path, detections: Path | None, overwrite: bool, as_json: bool, **chosen: Any) -> None:
    """Find who is where and when; write it as an editable plan.

    \b
    Example:
      revisage analyze in.mp4 -o in.plan.json
    """
    from revisage.pipeline.errors import OutputError
    from revisage.pipeline.plan import save_plan
    from revisage.pipeline.report import look_first, summaries
    from revisage.pipeline.run import JobOptions, Workshop

    if output.exists() and not overwrite:
        raise OutputError(f"{output} exists; choose another name or use --overwrite")
    workshop = Workshop(JobOptions(**chosen))
    plan = workshop.analyze(source, _progress(), detections)
    save_plan(plan, output, overwrite=overwrite)
    people = summaries(plan)
    data = {
        "plan": output,
        "frames": plan.video.frames,
        "width": plan.video.width,
        "height": plan.video.height,
        "sha256": plan.video.sha256,
        "detector": plan.detector if detections else workshop.detector[1],
        "notes": dict(plan.notes),
        "tracks": [asdict(person) for person in people],
        "look_first": [asdict(moment) for moment in look_first(plan)],
    }
    _tell(
        as_json,
        data,
        [
            *_people(people),
            *_moments(look_first(plan)),
            f"plan      {output}",
            f"detector  {data['detector']}",
            f"next      revisage anonymize {source} -o OUT --plan {output} --key KEY",
        ],
    )


def _people(people: Sequence[TrackSummary]) -> list[str]:
    if not people:
        return ["no face found"]
    rows = [
        (
            p.id,
            "" if p.person is None else p.person,
            f"{p.start:.2f}",
            f"{p.end:.2f}",
            p.frames,
            p.width,
            *(round(100 * share) for share in (p.detected, p.interpolated, p.held)),
            f"{p.weakest.seconds:.2f}",
            p.weakest.why,
            "kept" if p.keep else "",
        )
        for p in people
    ]
    head = ["track", "person", "from s", "to s", "frames", "face px", "found %", "between %", "held %", "weakest s"]
    return _table([*head, "", ""], rows)


def _moments(moments: Sequence[Moment]) -> list[str]:
    """Where to look first."""
    if not moments:
        return []
    rows = [(m.frame, f"{m.seconds:.2f}", m.track, m.why) for m in moments]
    return ["", *_table(["look at frame", "s", "track", ""], rows), ""]


@cli.command()
@click.argument("source", metavar="IN", type=_FILE)
@click.option("-o", "--output", required=True, type=_FILE, metavar="OUT", help="New video; its ending says which kind.")
@_key_options
@_method_options
@_detection_options
@click.option("--plan", "plan_file", type=_FILE, metavar="FILE", help="A plan by revisage analyze; skips pass 1.")
@_detections_option
@click.option("--keep", multiple=True, type=click.IntRange(1), metavar="ID", help="Leave this track as filmed.")
@click.option(
    "--only",
    multiple=True,
    type=click.IntRange(1),
    metavar="ID",
    help="Anonymize this track, and others that show the same person; leave everybody else as filmed (repeatable).",
)
@click.option(
    "--redraw",
    multiple=True,
    type=click.IntRange(1),
    metavar="ID",
    help="Give this track, and others that show the same person, the next face of the same key (repeatable).",
)
@click.option(
    "--report", "picture", type=_FILE, metavar="PNG", help="Write a picture of the weakest moments in the output."
)
@_verify_options
@_encoding_options
@click.option("--strict-streams", is_flag=True, help="Refuse where sound or subtitles would be converted or left out.")
@_overwrite_option
@_json_option
def anonymize(
    source: Path,
    output: Path,
    key_files: tuple[Path, ...],
    recipients: tuple[str, ...],
    plan_file: Path | None,
    detections: Path | None,
    keep: tuple[int, ...],
    only: tuple[int, ...],
    redraw: tuple[int, ...],
    picture: Path | None,
    overwrite: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Replace every face; write the video and its index OUT.rvx.

    The originals of each person are sealed in the index. --key or -r says who can open it; with --seal off --index off
    nobody can, and no key is needed. With --key the same key and video always give the same faces; --redraw gives one
    person another.

    The finished video is looked at once more, as revisage verify does. Where a face shows, that place is mended: by a
    wider cover, another face, a coarse mosaic, at last by grey; the result says where. With --strict nothing is written
    instead, and the exit code is 3.

    \b
    Examples:
      revisage anonymize in.mp4 -o out.mp4 --key my.key
      revisage anonymize in.mp4 -o out.mp4 -r age1… --keep 2
    """
    from revisage.pipeline.plan import load_plan
    from revisage.pipeline.run import Workshop

    if plan_file and detections:
        raise click.UsageError("--plan has its faces already; give --detections to revisage analyze")
    _require_keys(key_files, recipients, chosen)
    options = _job_options(chosen)
    ring = _key_ring(key_files, recipients)
    plan = load_plan(plan_file) if plan_file else None
    workshop, progress = Workshop(options), _progress()
    _show_licence(workshop)
    report = workshop.anonymize(
        source,
        output,
        ring,
        plan=plan,
        detections=detections,
        keep=keep,
        only=only,
        redraw=redraw,
        picture=picture,
        overwrite=overwrite,
        progress=progress,
        say=lambda text: _complain(f"note: {text}"),
    )
    for warning in report.warnings:
        _complain(f"warning: {warning}")
    _tell(as_json, asdict(report), _job_lines(report, chosen["seal"]))


def _show_licence(workshop: Workshop) -> None:
    """Of a model that did not come with this program, before it paints anything."""
    if (licence := workshop.licence) is not None:
        _complain(f"licence of {workshop.options.model}: {licence}")


def _require_keys(key_files: Sequence[Path], recipients: Sequence[str], chosen: dict[str, Any]) -> None:
    if chosen["index"] == "off" and chosen["seal"] != "off":
        raise click.UsageError("--index off leaves the originals nowhere; give --seal off too")
    if not key_files and not recipients and chosen["index"] != "off":
        raise click.UsageError("nobody could undo this: give --key or -r, or --seal off --index off")


_MENDED = {
    "cover": "a wider cover",
    "draw": "another face",
    "coarse": "a coarse mosaic",
    "grey": "grey over all that may be the face",
}


def _repair_line(repair: Repair) -> str:
    span = f"{repair.first:.2f} to {repair.last:.2f} s"
    return f"mended    track {repair.track}, {span}, {repair.frames} frames: {_MENDED[repair.rung]}"


def _job_lines(report: JobReport, sealed: str) -> list[str]:
    done, seconds = report.render, max(report.seconds, 1e-9)
    lines = [
        *_people(report.tracks),
        f"video     {report.output}",
        f"faces     {done.faces} in {done.frames} frames, {done.tracks} people replaced by {report.method}",
        f"time      {seconds:.1f} s, {done.frames / seconds:.1f} frames a second",
        f"device    {report.device}",
        f"detector  {report.detector}",
    ]
    if report.index is not None:
        kept = "keep it, it holds the originals" if sealed != "off" else "no originals are sealed in it"
        lines.insert(-4, f"index     {report.index}  ({_size(done.index_bytes)}; {kept})")
    if (carried := done.carried) is not None:
        lines.append(
            f"carried   {carried.faces} faces in the pixels; before encoding they come back at "
            f"{carried.decibels} dB, the worst at {carried.worst} dB; of {carried.sample} read back from the finished "
            f"video, at {carried.read} dB, the worst at {carried.read_worst} dB"
        )
    lines.append(f"verified  {_seen(report.verification)}")
    if done.converted:
        lines.append(f"converted {', '.join(done.converted)}")
    lines += [_repair_line(repair) for repair in report.repairs]
    if done.dropped:
        lines.append(f"left out  {_left_out(done.dropped)}")
    hidden = [track.id for track in report.tracks if not track.keep]
    if report.index is not None and hidden and (sealed != "off" or done.carried is not None):
        origin = " --from pixels" if sealed == "off" else ""
        lines.append(f"next      revisage recover {report.output} -o BACK --key KEY --track {hidden[0]}{origin}")
    return lines


@cli.command()
@click.argument("file", type=_FILE)
@click.option("--key", "key_file", type=_KEY_FILE, envvar=KEY_VARIABLE, metavar="KEY", help="Secret key or track key.")
@_signer_option
@_json_option
def inspect(file: Path, key_file: Path | None, signers: tuple[str, ...], as_json: bool) -> None:
    """Show what an index says, with a key or without.

    Without a key that is what anybody can see. FILE is the anonymized video or its index. Everything
    shown has been checked against the index's signature. By whom it was signed is shown with a key; without one,
    --signer asks whether it was that signer.

    \b
    Example:
      revisage inspect out.mp4 --key my.key
    """
    from revisage.pipeline.vault.index import open_index

    index = _index_of(file)
    key, known = _read_key(key_file) if key_file else None, _signers(signers)
    with open_index(index) as reader:
        data: dict[str, Any] = {"index": index, **reader.public(), "video": _belongs(reader, _video_of(index))}
        if key is None:
            reader.check_entries()
            data["signer"] = next((str(signer) for signer in known if reader.signed_by(signer)), None)
        else:
            unlocked = reader.unlock(key, known)
            unlocked.verify_all()
            data |= {"unlocked": _unlocked(unlocked), "signer": str(unlocked.signer) if unlocked.signer else None}
            _warn_of_index(unlocked.authenticity, data["signer"], reader.version, granted=unlocked.document is None)
    _tell(as_json, data, _inspect_lines(data))


def _belongs(reader: Any, video: Path) -> dict[str, Any] | None:
    """The video beside an index, and whether it is the right one; None where there is none."""
    from revisage.pipeline.errors import MismatchError
    from revisage.pipeline.media import video_digest

    if not video.is_file():
        return None
    try:
        reader.check_video(video_digest(video))
    except MismatchError:
        return {"path": video, "matches": False}
    return {"path": video, "matches": True}


def _unlocked(unlocked: Any) -> dict[str, Any]:
    settings = unlocked.settings
    video = settings.video
    return {
        "opens": "everything" if unlocked.document is not None else "one track",
        "authenticity": unlocked.authenticity,
        "seal": settings.seal,
        "generator": dict(settings.generator),
        "frames": video.frames,
        "width": video.width,
        "height": video.height,
        "input_sha256": video.sha256 or None,
        "dropped": {} if unlocked.document is None else dict(unlocked.document.dropped),
        "tracks": [
            {
                "id": record.id,
                "first": record.first,
                "last": record.last,
                "contested": record.id == 0,
                "person": record.person,
                "draw": record.draw,
            }
            for _, record in sorted(unlocked.records.items())
        ],
    }


def _inspect_lines(data: dict[str, Any]) -> list[str]:
    times = {record["id"]: record for record in data.get("unlocked", {}).get("tracks", [])}
    rows = []
    for track in data["tracks"]:
        record = times.get(track["id"])
        when = f"{record['first']}-{record['last']}" if record else ""
        opens = "yes" if record else "" if times else "needs a key"
        name = "shared" if track["contested"] else track["id"]
        person = "" if record is None or record["person"] is None else record["person"]
        rows.append((name, person, track["segments"], _size(track["bytes"]), when, opens))
    beside = data["video"]
    match = "none beside the index" if beside is None else f"{beside['path']}  ({_verdict(beside['matches'])})"
    lines = [*_table(["track", "person", "segments", "size", "frames", "opens"], rows)] if rows else ["no tracks"]
    lines.append(f"index  {data['index']}  ({_size(data['bytes'])}, format {data['version']}, undamaged)")
    lines.append(f"video  {match}")
    lines.append(f"signed {_signed(data)}")
    if opened := data.get("unlocked"):
        made = " ".join(f"{value(name)}={value(said)}" for name, said in opened["generator"].items())
        lines.append(f"key    opens {opened['opens']}")
        lines.append(f"made   {made} seal={opened['seal']}, {opened['width']}x{opened['height']}")
    return lines


def _signed(data: dict[str, Any]) -> str:
    if opened := data.get("unlocked"):
        return _authenticity_line(opened["authenticity"], data["signer"], data["version"])
    if not data["signed"]:
        return _authenticity_line("unsigned", None, data["version"])
    return f"by {data['signer']}" if data["signer"] else "yes; --key shows by whom, --signer asks for one signer"


def _verdict(matches: bool) -> str:
    return "belongs to it" if matches else "another video, or re-encoded"


@cli.command()
@click.argument("anonymized", metavar="ANON", type=_FILE)
@click.option("-o", "--output", required=True, type=_FILE, metavar="OUT", help="New video.")
@click.option(
    "--key",
    "key_file",
    required=True,
    type=_KEY_FILE,
    envvar=KEY_VARIABLE,
    metavar="KEY",
    help="Secret key or track key.",
)
@click.option(
    "--track", "tracks", multiple=True, type=click.IntRange(1), metavar="N", help="Whom (repeatable).  [default: all]"
)
@click.option(
    "--person",
    "persons",
    multiple=True,
    type=click.IntRange(1),
    metavar="N",
    help="All tracks of this person (repeatable).",
)
@click.option("--index", "index_file", type=_FILE, metavar="FILE", help="The track index.  [default: ANON.rvx]")
@click.option(
    "--from",
    "origin",
    default="seal",
    type=click.Choice(["seal", "pixels"]),
    help="The sealed originals, or what --carry left in the pixels.",
)
@click.option(
    "--without-index",
    is_flag=True,
    help="The index is lost: find the faces anew and bring back from the pixels what that allows. Slow, and weaker.",
)
@_signer_option
@click.option("--model", default="revisage-face", metavar="NAME|DIR", help="What painted (--from pixels).")
@_device_option
@_encoding_options
@_overwrite_option
@_json_option
def recover(
    anonymized: Path,
    output: Path,
    key_file: Path,
    tracks: tuple[int, ...],
    persons: tuple[int, ...],
    index_file: Path | None,
    origin: str,
    without_index: bool,
    signers: tuple[str, ...],
    model: str,
    device: str,
    codec: str | None,
    crf: int | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Bring people back as they were filmed, with a key.

    All whom the key opens, or those named by --track or --person. Everybody else stays anonymized. From the seal that
    needs no model and no GPU, and the video must be the one that anonymize wrote. From the pixels (anonymize --carry)
    it needs the model and takes longer; a lossless copy brings nearly everything back, each lossy encoding takes from
    it. --without-index needs the secret key and nothing else.

    \b
    Examples:
      revisage recover out.mp4 -o back.mp4 --key my.key --track 3
      revisage recover out.mkv -o back.mkv --key my.key --from pixels
    """
    from revisage.pipeline.places import check_places
    from revisage.pipeline.recover import RecoverOptions
    from revisage.pipeline.recover import recover as from_seal
    from revisage.pipeline.run import JobOptions, carrier_for, finders_for
    from revisage.pipeline.vault.keys import TrackKey

    if without_index and (origin == "seal" or index_file or persons):
        raise click.UsageError("--without-index goes with --from pixels, and with neither --index nor --person")
    key = _read_key(key_file)
    check_places(anonymized, output, overwrite=overwrite)
    options, progress = RecoverOptions(codec, crf, overwrite), _progress()
    index = Path() if without_index else index_file or _index_of(anonymized)
    tracks = (*tracks, *_tracks_of(persons, index, key))
    known = _signers(signers)
    files, common = (anonymized, output), _Recovering(key=key, tracks=tracks, options=options, progress=progress)
    wish = JobOptions(model=model, device=device)
    if without_index:
        from revisage.pipeline.recover_lost import recover_lost

        report = recover_lost(*files, finders=finders_for(wish), **common)
    elif origin == "seal":
        report = from_seal(*files, index=index, known=known, **common)
    else:
        from revisage.pipeline.recover_pixels import recover_pixels

        report = recover_pixels(*files, index=index, carrier=carrier_for(wish), known=known, **common)
    if report.empty:
        _complain(f"warning: {report.empty} faces are not in the pixels and stay hidden; the seal may have them")
    if without_index:
        _complain("note: without the index faces were found anew; what comes back is less exact, look at it")
    elif not report.same:
        _complain("note: this is not the very video that was made, perhaps encoded again; pixels bring back less of it")
    if not without_index:
        _warn_of_index(report.authenticity, report.signer, report.version, granted=isinstance(key, TrackKey))
    hidden = f"; still hidden: {_numbers(report.hidden)}" if report.hidden else ""
    made = [f"index  {_authenticity_line(report.authenticity, report.signer, report.version)}"]
    _tell(
        as_json,
        {"output": output, **asdict(report)},
        [
            f"video  {output}",
            f"back   {_numbers(report.tracks)}, {report.faces} faces in {report.frames} frames{hidden}",
            *([] if without_index else made),
        ],
    )


class _Recovering(TypedDict):
    """What every way to recover is told."""

    key: SecretKey | TrackKey
    tracks: Sequence[int]
    options: RecoverOptions
    progress: Progress


def _tracks_of(persons: Sequence[int], index: Path, key: SecretKey | TrackKey) -> list[int]:
    """The tracks of these persons, as the sealed index knows them."""
    from revisage.pipeline.vault.index import open_index

    if not persons:
        return []
    with open_index(index) as reader:
        unlocked = reader.unlock(key)
        return [track for person in persons for track in unlocked.of_person(person)]


def _numbers(tracks: Sequence[int]) -> str:
    return f"track {', '.join(map(str, tracks))}" if tracks else "nobody"


@cli.command("verify")
@click.argument("output", metavar="OUT", type=_FILE)
@click.option("--original", type=_FILE, metavar="IN", help="The video that OUT was made from.")
@click.option(
    "--key",
    "key_file",
    type=_KEY_FILE,
    envvar=KEY_VARIABLE,
    metavar="KEY",
    help="Secret key: the index says what should be hidden.",
)
@click.option("--index", "index_file", type=_FILE, metavar="FILE", help="The track index.  [default: OUT.rvx]")
@_signer_option
@click.option("--quick", is_flag=True, help="One look at each frame, mirrored, instead of seven; as anonymize does.")
@click.option(
    "--recognizer",
    default="auto",
    type=click.Choice(["auto", "arcface", "dlib", "none"]),
    help="Who must not recognise anybody. auto takes what is installed.",
)
@click.option("--detector", default="auto", metavar="NAME", help="As in anonymize.")
@click.option(
    "--threshold",
    default=0.5,
    type=click.FloatRange(0, 1),
    help="Score from which a detection is a face.",
)
@_device_option
@click.option(
    "--sheet",
    type=_FILE,
    metavar="PNG",
    help="Write a picture of the worst cases, cut out of OUT; leaks are grey in it.",
)
@click.option("--bare", is_flag=True, help="Show on the sheet the faces that leak, too.")
@_overwrite_option
@_json_option
def verify_video(
    output: Path,
    original: Path | None,
    key_file: Path | None,
    index_file: Path | None,
    signers: tuple[str, ...],
    quick: bool,
    recognizer: str,
    detector: str,
    threshold: float,
    device: str,
    sheet: Path | None,
    bare: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Look for faces that an anonymized video leaks.

    With --original every face of that must be covered, changed and not recognised. With --key the index beside OUT
    says where masks are and who was left as filmed on purpose. Give both for the sharpest verdict. Exit code 0: clean;
    3: a face leaks.

    \b
    Examples:
      revisage verify out.mp4 --original in.mp4 --key my.key --sheet worst.png
      revisage verify out.mp4 --key my.key
    """
    from revisage.models.detectors import load_detector
    from revisage.pipeline.verification.expected import read_plan
    from revisage.pipeline.verification.eyes import Mirrored, Thorough
    from revisage.pipeline.verification.identity import load_recognizer
    from revisage.pipeline.verification.sheet import Album, check_sheet, write_sheet
    from revisage.pipeline.verify import VerifyOptions, Witnesses, verify

    if original is None and key_file is None:
        raise click.UsageError("nothing to compare with: give --original IN, or --key KEY and the index, or both")
    if sheet is not None:
        check_sheet(sheet, overwrite=overwrite)
    found = None
    if key_file is not None:
        key, known = _read_key(key_file), _signers(signers)
        found = read_plan(index_file or _index_of(output), key, output, original, known)
        _warn_of_index(found.authenticity, found.signer, found.version, granted=False)
    if found is not None and not found.same:
        _complain("note: this is not the very file that the index was made with: encoded again, or tampered with")
    net, _ = load_detector(detector, device=device, threshold=min(threshold, 0.5))
    looks = f"{net.name}, {'mirrored' if quick else 'plain, mirrored, turned, enlarged, shrunk, brightened'}"
    person, why = load_recognizer(recognizer if original is not None else "none", device=device)
    again = None if quick else Mirrored(net)
    witnesses = Witnesses(Mirrored(net) if quick else Thorough(net), looks, person, why, again)
    album = Album(bare=bare) if sheet is not None else None
    limits = VerifyOptions(score=threshold)
    plan = found.plan if found is not None else None
    report = verify(output, witnesses, original=original, plan=plan, options=limits, album=album, progress=_progress())
    if sheet is not None and album is not None:
        write_sheet(album, sheet, overwrite=overwrite)
    said = {"same_file": found.same, "authenticity": found.authenticity, "signer": found.signer} if found else {}
    data = {"output": output, "sheet": sheet, "same_file": None, **said, **_verification(report)}
    _tell(as_json, data, [*_index_lines(found), *_verify_lines(report, output, sheet)])
    if not report.clean:
        click.get_current_context().exit(LEAK)


def _index_lines(found: Expected | None) -> list[str]:
    if found is None:
        return []
    return [f"index        {_authenticity_line(found.authenticity, found.signer, found.version)}"]


def _verification(report: Report) -> dict[str, Any]:
    return {"clean": report.clean, **asdict(report)}


def _verify_lines(report: Report, output: Path, sheet: Path | None) -> list[str]:
    kept = [f"kept         track {who.track}, {who.first:.2f} to {who.last:.2f} s, as asked" for who in report.kept]
    return [
        *_leak_lines(report),
        f"video        {output}",
        *(f"{name:<13}{how}" for name, how in report.checks.items()),
        *kept,
        *([f"look at      {sheet}"] if sheet else []),
        f"verdict      {_seen(report)}",
    ]


def _left_out(dropped: Sequence[str]) -> str:
    """What matters first; tags of which every file has some are counted."""
    tags = [name for name in dropped if " tag " in name]
    trivial = [name for name in tags if name.rsplit(" ", 1)[-1].lower() in _TRIVIAL_TAGS]
    shown = [name for name in dropped if name not in tags] + [name for name in tags if name not in trivial]
    return ", ".join([*shown, *([f"{len(trivial)} technical tags"] if trivial else [])])


_TRIVIAL_TAGS = {"encoder", "handler_name", "vendor_id", "alpha_mode", "variant_bitrate"}


def _seen(report: Report | None) -> str:
    """A verdict in half a line."""
    from revisage.pipeline.verification.report import summary

    if report is None:
        return "no, as asked"
    if report.clean:
        return f"clean: {report.faces} faces in {report.frames} frames looked at again in {report.seconds:.1f} s"
    return summary(report)


def _leak_lines(report: Report) -> list[str]:
    from revisage.pipeline.verification.report import spans

    if report.clean:
        return []
    rows = [_span_row(span) for span in spans(report.leaks)]
    lines = _table(["leak", "track", "from s", "to s", "frames", "worst", "x0", "y0", "x1", "y1", ""], rows[:40])
    return lines + ([f"and {len(rows) - 40} more; --json has all"] if len(rows) > 40 else [])


def _span_row(span: Span) -> tuple[object, ...]:
    worst = span.worst
    what = f"{worst.value:.2f}" + (" over the whole track" if worst.whole_track else "")
    track = "" if span.track is None else span.track
    first, last = f"{span.first.seconds:.2f}", f"{span.last.seconds:.2f}"
    return (span.kind, track, first, last, span.frames, worst.frame, *(f"{edge:.0f}" for edge in worst.box), what)


# ---------------------------------------------------------------------------------------------------------------------
# Many videos


@cli.command()
@click.argument("source", metavar="SRC", type=_PATH)
@click.option("-o", "--output", required=True, type=_PATH, metavar="DIR", help="Gets the same folders as SRC.")
@_key_options
@click.option("--jobs", default=1, type=click.IntRange(1, 256), help="Files at the same time.")
@_method_options
@_verify_options
@_detection_options
@_encoding_options
@_overwrite_option
@_json_option
def batch(
    source: Path,
    output: Path,
    key_files: tuple[Path, ...],
    recipients: tuple[str, ...],
    jobs: int,
    overwrite: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Anonymize every video in a folder and its subfolders.

    A journal in DIR knows what is finished: give the same command again after an interruption, a crash or a failure,
    and it goes on where it stopped. A file that changed, or other options, do that file again.

    \b
    Example:
      revisage batch interviews -o published --key my.key --jobs 2
    """
    from revisage.pipeline.batch.run import run_batch
    from revisage.pipeline.errors import BatchStoppedError

    _require_keys(key_files, recipients, chosen)
    options, ring = _job_options(chosen), _key_ring(key_files, recipients)
    speak = (lambda _: None) if as_json else (lambda file: _say_above_bar(_file_line(file)))
    for remark in options.remarks:
        _complain(f"warning: {remark}")
    try:
        report = run_batch(
            source, output, ring, options, jobs=jobs, overwrite=overwrite, progress=_progress(), report=speak
        )
    except BatchStoppedError as stopped:
        if not as_json:
            _say(*_batch_lines(stopped.report, output))
        raise
    _tell(as_json, {**asdict(report), "output": output, "failed": len(report.failed)}, _batch_lines(report, output))
    if report.failed:
        click.get_current_context().exit(PARTLY)


def _file_line(file: FileResult) -> str:
    what = f"{file.people} people, {file.frames} frames, {file.seconds:.1f} s" if file.state == "done" else file.error
    notes = "".join(f"; {warning}" for warning in file.warnings)
    return f"{file.state:<8}{file.name}  {what}{notes}".rstrip()


def _batch_lines(report: BatchReport, output: Path) -> list[str]:
    done, skipped, failed = report.count("done"), report.count("skipped"), report.failed
    faceless = [file.name for file in report.files if file.state == "done" and not file.faces]
    lines = ["", f"done     {done} in {report.seconds:.1f} s", f"skipped  {skipped}, finished earlier"]
    lines.append(f"failed   {len(failed)}")
    lines += [f"  {file.name}: {file.error}" for file in failed]
    if faceless:
        lines.append(f"no face  {', '.join(faceless)}")
    lines.append(f"output   {output}")
    if failed:
        lines.append("next     mend what failed and give the same command again")
    return lines


# ---------------------------------------------------------------------------------------------------------------------
# How good is it?


@cli.command()
@click.argument("original", metavar="ORIGINAL", type=_PATH)
@click.argument("anonymized", metavar="[ANONYMIZED]", type=_PATH, required=False)
@click.option(
    "--key",
    "key_files",
    multiple=True,
    type=_PATH,
    metavar="KEY",
    help="Secret key to anonymize with, or to recover ANONYMIZED with (repeatable).  [default: public test keys]",
)
@click.option("--keys", default=2, type=click.IntRange(1, 16), help="How many test keys.")
@click.option("--frames", default=120, type=click.IntRange(2), help="From the start of each video.")
@click.option("--attacks", is_flag=True, help="Attack the result, too.")
@click.option("--gallery", type=_PATH, metavar="DIR", help="Pictures of people for the attacker to learn from.")
@click.option("--people", default=100, type=click.IntRange(1), help="How many of them at most.")
@click.option(
    "--effort",
    default=60.0,
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="How long the attacker's network learns.",
)
@click.option("-o", "--output", type=_PATH, metavar="REPORT", help="Write all figures to a new file, as JSON.")
@click.option("--strips", type=_PATH, metavar="DIR", help="Write a picture of each video, before and after.")
@_method_options
@_detection_options
@_verify_options
@_encoding_options
@_overwrite_option
@_json_option
def evaluate(
    original: Path,
    anonymized: Path | None,
    key_files: tuple[Path, ...],
    keys: int,
    frames: int,
    attacks: bool,
    gallery: Path | None,
    people: int,
    effort: float,
    output: Path | None,
    strips: Path | None,
    overwrite: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Measure: who is recognised, how faces move, what returns.

    Anonymizes ORIGINAL, a video or a folder, with test keys, and judges it beside the original; or judges ANONYMIZED,
    made before. Wants the scoring recognizer: pip install 'revisage[score]'.

    \b
    Example:
      revisage evaluate in.mp4 -o figures.json
      revisage evaluate in.mp4 --attacks --gallery portraits
    """
    from revisage.pipeline.errors import OutputError
    from revisage.pipeline.evaluation.attacks.rebuild import Effort
    from revisage.pipeline.evaluation.attacks.suite import AttackOptions, Suite
    from revisage.pipeline.evaluation.evaluate import evaluate as judge
    from revisage.pipeline.evaluation.evaluate import pairs_of
    from revisage.pipeline.evaluation.evidence import EvaluateOptions, Laboratory
    from revisage.pipeline.evaluation.films import save_strip
    from revisage.pipeline.evaluation.report import as_json as figures_json

    if output is not None and output.exists() and not overwrite:
        raise OutputError(f"{output} exists; choose another name or use --overwrite")
    opened = tuple(_read_key(path) for path in key_files)
    laboratory = Laboratory(EvaluateOptions(_job_options(chosen), frames, keys), _progress())
    suite = Suite(AttackOptions(gallery, people, Effort(effort))) if attacks else None
    look = None if strips is None else (lambda name, picture: save_strip(picture, strips / f"{name}.png", overwrite))
    reports = []
    for video, made in pairs_of(original, anonymized):
        reports.append(judge(video, laboratory, anonymized=made, keys=opened, attacks=suite, look=look))
        if not as_json:
            _say(*_figure_lines(reports[-1]))
    data = figures_json(reports)
    if output is not None:
        output.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    if as_json:
        _say_json(data)


def _figure_lines(report: FilmReport) -> list[str]:
    from revisage.pipeline.evaluation.report import attack_rows, rows

    lines = [f"{report.name}: {report.faces} faces of {report.tracks} people in {report.frames} frames", ""]
    lines += _table(["measure", "anonymized", "original", "target", ""], rows(report))
    if report.attacks:
        lines += ["", *_table(["attack", "", "outcome"], attack_rows(report))]
    return [*lines, ""]


# ---------------------------------------------------------------------------------------------------------------------
# The machine and its models


@cli.group()
def models() -> None:
    """List models by name, and fetch those that are not here.

    \b
    Example:
      revisage models list
    """


@models.command("list")
@_json_option
def list_models(as_json: bool) -> None:
    """Show every model by name: what it is for, its licence, and whether it is here.

    \b
    Example:
      revisage models list
    """
    from revisage.models.presets import folder_bytes, installed, known

    found = []
    for preset in known():
        folder = installed(preset)
        size = folder_bytes(folder) if folder else None
        found.append(asdict(preset) | {"folder": folder, "bytes": size})
    rows = [(f["name"], f["kind"], _presence(f), f["licence"], f["role"]) for f in found]
    _tell(as_json, {"models": found}, _table(["name", "kind", "here", "licence", "what for"], rows))


def _presence(found: dict[str, Any]) -> str:
    if found["folder"]:
        return _size(found["bytes"])
    return f"no, download {found['download']}" if found["download"] else "missing"


@models.command("fetch")
@click.argument("name")
@_json_option
def fetch_model(name: str, as_json: bool) -> None:
    """Download a model by its name, or by its name on the Hugging Face hub. The one command that uses the network.

    Its licence is shown before the download begins.

    \b
    Examples:
      revisage models fetch buffalo_s
      revisage models fetch CompVis/ldm-celebahq-256
    """
    from revisage.models.presets import fetch, licence_of

    licence = licence_of(name)
    _complain(f"licence of {name}: {licence}")
    folder = fetch(name)
    _tell(as_json, {"name": name, "folder": folder, "licence": licence}, [f"{name}  {folder}"])


@cli.command()
@_device_option
@_json_option
def doctor(device: str, as_json: bool) -> None:
    """Say what this machine and installation can do, and why.

    Exit code 1 when something that revisage cannot do without is broken.

    \b
    Example:
      revisage doctor
    """
    from revisage.pipeline.doctor import examine

    findings = examine(device)
    broken = [finding for finding in findings if finding.state == "broken"]
    rows = [(finding.state, finding.subject, finding.says) for finding in findings]
    data = {"ok": not broken, "findings": [asdict(finding) for finding in findings]}
    _tell(as_json, data, _table(["state", "what", "says"], rows))
    if broken:
        _complain(f"error: {len(broken)} broken: {', '.join(finding.subject for finding in broken)}")
        click.get_current_context().exit(FAILED)


@cli.command()
@click.option("-o", "--output", type=_FILE, metavar="FILE", help="New file.  [default: standard output]")
@_overwrite_option
def sbom(output: Path | None, overwrite: bool) -> None:
    """List what this installation is made of, as CycloneDX JSON.

    Every package that is needed at run time with its version and licence, and the embedded weights with their hashes.

    \b
    Example:
      revisage sbom -o revisage.cdx.json
    """
    from revisage.pipeline.errors import OutputError
    from revisage.pipeline.sbom import bill_of_materials

    if output is None:
        _say_json(bill_of_materials())
        return
    if output.exists() and not overwrite:
        raise OutputError(f"{output} exists; choose another name or use --overwrite")
    output.write_text(json.dumps(bill_of_materials(), indent=1) + "\n", encoding="utf-8")
    _say(f"list  {output}")


@cli.command()
@click.option("-o", "--output", default=Path("revisage-demo"), type=_PATH, metavar="DIR", help="New folder.")
@click.option("--method", default="diffusion", type=click.Choice(METHODS), help="As in anonymize.")
@_device_option
@click.option("--overwrite", is_flag=True, help="Use DIR even if it holds something.")
@_json_option
def demo(output: Path, method: str, device: str, overwrite: bool, as_json: bool) -> None:
    """Make a small clip, anonymize it, bring one person back.

    A picture shows all three side by side.

    \b
    Example:
      revisage demo -o revisage-demo
    """
    from revisage.pipeline.demo import run_demo
    from revisage.pipeline.run import JobOptions

    options = JobOptions(method=method, device=device)
    report = run_demo(output, options, overwrite=overwrite, progress=_progress())
    for warning in report.job.warnings:
        _complain(f"warning: {warning}")
    files = {name: getattr(report, name) for name in ("clip", "anonymized", "index", "key", "track_key", "recovered")}
    _tell(
        as_json,
        asdict(report),
        [
            *_people(report.job.tracks),
            *(f"{name.replace('_', ' '):<11}{path}" for name, path in files.items()),
            f"look at    {report.strip}  (before, anonymized, track {report.track} recovered)",
        ],
    )


if __name__ == "__main__":
    main()
