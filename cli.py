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
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import click

from revisage.pipeline.errors import KeyFileError, RevisageError

if TYPE_CHECKING:
    from revisage.pipeline.batch.run import BatchReport, FileResult
    from revisage.pipeline.run import JobOptions, JobReport, KeyRing, TrackSummary
    from revisage.pipeline.types import Progress
    from revisage.pipeline.vault.keys import SecretKey, TrackKey

METHODS = ("diffusion", "blur", "mosaic", "solid")  # as pipeline/protect.py has them, which imports too much
SEALS = ("visual", "lossless", "off")
FAILED, LEAK, PARTLY, INTERRUPTED = 1, 3, 4, 130

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., Any])


class _Command(click.Command):
    """Runs with the libraries silenced."""

    def invoke(self, ctx: click.Context) -> Any:
        with _quiet():
            return super().invoke(ctx)


class _Group(click.Group):
    """Turns what the library raises into one line on stderr and an exit code."""

    command_class = _Command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except RevisageError as error:
            _complain(f"error: {error}")
            ctx.exit(FAILED)
        except BrokenPipeError:
            raise  # click's own business: the reader of our output has gone
        except OSError as error:
            _complain(f"error: {error.filename or 'system'}: {error.strerror or error}")
            ctx.exit(FAILED)
        except KeyboardInterrupt:
            _complain("interrupted; unfinished files were removed")
            ctx.exit(INTERRUPTED)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order of work, not of the alphabet


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
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
    cli()


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt  # so that a polite end removes unfinished files, as Ctrl-C does


# ---------------------------------------------------------------------------------------------------------------------
# Talking


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Libraries keep their remarks to themselves; what `_say` and `_complain` print still comes through."""
    for name, value in _SILENCE.items():
        os.environ.setdefault(name, value)
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
        click.echo(line, file=voice)


def _say_above_bar(line: str) -> None:
    if not sys.stderr.isatty():
        _say(line)
        return
    from tqdm import tqdm

    with tqdm.external_write_mode(file=sys.stderr):
        _say(line)


def _complain(line: str) -> None:
    click.echo(line, err=True)


def _tell(as_json: bool, data: Any, lines: Iterable[str]) -> None:
    """The result, as one line of JSON or for a person."""
    _say(*([json.dumps(data, default=str, ensure_ascii=False)] if as_json else lines))


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Left-aligned columns; numbers to the right."""
    cells = [list(head), *([str(value) for value in row] for row in rows)]
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


_PATH = click.Path(path_type=Path)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as one line of JSON.")
_overwrite_option = click.option("--overwrite", is_flag=True, help="Replace files that exist already.")
_device_option = click.option(
    "--device", default="auto", type=click.Choice(["auto", "cpu", "cuda"]), show_default=True, help="What computes."
)

_detection_options = _stacked(
    click.option(
        "--detector",
        default="auto",
        show_default=True,
        metavar="NAME",
        help="auto, centerface, insightface, or insightface:PACK. auto takes insightface where a pack is installed.",
    ),
    click.option(
        "--threshold",
        default=0.4,
        show_default=True,
        type=click.FloatRange(0, 1),
        help="Score from which a detection is a face. Lower finds more, also where there is none.",
    ),
    click.option(
        "--hold",
        default=0.5,
        show_default=True,
        type=click.FloatRange(0),
        metavar="SECONDS",
        help="Cover a face so long before it was first and after it was last found.",
    ),
    click.option(
        "--smallest",
        default=20.0,
        show_default=True,
        type=click.FloatRange(4, 4096),
        metavar="PIXELS",
        help="Width of the smallest face to look for. Smaller is slower.",
    ),
    _device_option,
)

_encoding_options = _stacked(
    click.option("--codec", metavar="NAME", help="Encoder, such as libx264 or ffv1.  [default: the input's codec]"),
    click.option("--crf", type=click.IntRange(0, 63), help="Quality: lower is better and larger, 0 is lossless."),
)

_method_options = _stacked(
    click.option(
        "--method",
        default="diffusion",
        show_default=True,
        type=click.Choice(METHODS),
        help="diffusion paints a new face; the others are quick, and blur and mosaic are weak.",
    ),
    click.option(
        "--model", default="revisage-face", show_default=True, metavar="NAME|DIR", help="What paints (diffusion)."
    ),
    click.option("--steps", type=click.IntRange(1, 1000), help="Diffusion steps.  [default: the model's own]"),
    click.option(
        "--batch-size", default=8, show_default=True, type=click.IntRange(1, 1024), help="Faces painted at a time."
    ),
    click.option(
        "--seal",
        default="visual",
        show_default=True,
        type=click.Choice(SEALS),
        help="How the originals are kept for recovery: visual is small and looks the same, off keeps none.",
    ),
    click.option(
        "--index",
        default="sidecar",
        show_default=True,
        type=click.Choice(["sidecar", "off"]),
        help="Where the track index with the sealed originals goes: OUT.rvx, or nowhere.",
    ),
)

_key_options = _stacked(
    click.option("--key", "key_files", multiple=True, type=_PATH, metavar="KEY", help="Secret key file (repeatable)."),
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


def _read_key(path: Path) -> SecretKey | TrackKey:
    """Asks for a passphrase where the file has one, warns where others can read it."""
    from revisage.pipeline.vault.keys import read_key

    key = read_key(path, lambda: str(click.prompt(f"passphrase of {path.name}", hide_input=True, err=True)))
    if key.exposed:
        _complain(f"warning: {path} can be read by others; run: chmod 600 {path}")
    return key


def _key_ring(key_files: Sequence[Path], recipients: Sequence[str]) -> KeyRing:
    from revisage.pipeline.run import KeyRing
    from revisage.pipeline.vault.keys import SecretKey, parse_recipient

    public = tuple(parse_recipient(text) for text in recipients)
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
@click.option("-o", "--output", required=True, type=_PATH, metavar="KEY", help="New file; never overwritten.")
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
    public = write_secret_key(output, secret)
    _tell(
        as_json,
        {"key": output, "public_key": public},
        [
            f"secret key  {output}  (keep a copy: nothing can be undone without it)",
            f"public key  {public}",
            f"next        revisage anonymize IN -o OUT --key {output}",
        ],
    )


@cli.command()
@click.argument("file", type=_PATH)
@click.option("--key", "key_file", required=True, type=_PATH, metavar="KEY", help="Secret key of the video.")
@click.option("--track", required=True, type=click.IntRange(1), metavar="N", help="Whom the new key brings back.")
@click.option("-o", "--output", required=True, type=_PATH, metavar="TRACKKEY", help="New file; never overwritten.")
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
        track_key = reader.unlock(_read_key(key_file)).grant(track)
        comments = [f"track {track} of video {reader.video_id}"]
    write_track_key(output, track_key, comments)
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
    from revisage.pipeline.places import index_path
    from revisage.pipeline.render import INDEX_SUFFIX

    if file.suffix == INDEX_SUFFIX:
        return file
    index = index_path(file)
    if not index.exists():
        raise IndexFileError(f"there is no index {index}; put the .rvx beside the video or name it")
    return index


def _video_of(index: Path) -> Path:
    return index.with_suffix("")


# ---------------------------------------------------------------------------------------------------------------------
# One video


@cli.command()
@click.argument("source", metavar="IN", type=_PATH)
@click.option("-o", "--output", required=True, type=_PATH, metavar="PLAN", help="New file (JSON).")
@_detection_options
@_overwrite_option
@_json_option
def analyze(source: Path, output: Path, overwrite: bool, as_json: bool, **chosen: Any) -> None:
    """Find who is where and when; write it as an editable plan.

    \b
    Example:
      revisage analyze in.mp4 -o in.plan.json
    """
    from revisage.pipeline.errors import OutputError
    from revisage.pipeline.plan import save_plan
    from revisage.pipeline.run import JobOptions, Workshop, summaries

    if output.exists() and not overwrite:
        raise OutputError(f"{output} exists; choose another name or use --overwrite")
    workshop = Workshop(JobOptions(method="solid", **chosen))
    plan = workshop.analyze(source, _progress())
    save_plan(plan, output, overwrite=overwrite)
    people = summaries(plan)
    data = {
        "plan": output,
        "frames": plan.video.frames,
        "width": plan.video.width,
        "height": plan.video.height,
        "sha256": plan.video.sha256,
        "detector": workshop.detector[1],
        "tracks": [asdict(person) for person in people],
    }
    _tell(
        as_json,
        data,
        [
            *_people(people),
            f"plan      {output}",
            f"detector  {workshop.detector[1]}",
            f"next      revisage anonymize {source} -o OUT --plan {output} --key KEY",
        ],
    )


def _people(people: Sequence[TrackSummary]) -> list[str]:
    if not people:
        return ["no face found"]
    rows = [(p.id, f"{p.start:.2f}", f"{p.end:.2f}", p.frames, p.width, "kept" if p.keep else "") for p in people]
    return _table(["track", "from s", "to s", "frames", "face px", ""], rows)


@cli.command()
@click.argument("source", metavar="IN", type=_PATH)
@click.option("-o", "--output", required=True, type=_PATH, metavar="OUT", help="New video; its ending says which kind.")
@_key_options
@_method_options
@_detection_options
@click.option("--plan", "plan_file", type=_PATH, metavar="FILE", help="A plan by revisage analyze; skips pass 1.")
@click.option("--keep", multiple=True, type=click.IntRange(1), metavar="ID", help="Leave this track as filmed.")
@_encoding_options
@_overwrite_option
@_json_option
def anonymize(
    source: Path,
    output: Path,
    key_files: tuple[Path, ...],
    recipients: tuple[str, ...],
    plan_file: Path | None,
    keep: tuple[int, ...],
    overwrite: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Replace every face; write the video and its index OUT.rvx.

    The originals of each person are sealed in the index. --key or -r says who can open it; with --seal off --index off
    nobody can, and no key is needed. With --key the same key and video always give the same faces.

    \b
    Examples:
      revisage anonymize in.mp4 -o out.mp4 --key my.key
      revisage anonymize in.mp4 -o out.mp4 -r age1… --keep 2
    """
    from revisage.pipeline.plan import load_plan
    from revisage.pipeline.run import Workshop

    _require_keys(key_files, recipients, chosen)
    options = _job_options(chosen)
    ring = _key_ring(key_files, recipients)
    plan = load_plan(plan_file) if plan_file else None
    workshop, progress = Workshop(options), _progress()
    report = workshop.anonymize(source, output, ring, plan=plan, keep=keep, overwrite=overwrite, progress=progress)
    for warning in report.warnings:
        _complain(f"warning: {warning}")
    _tell(as_json, asdict(report), _job_lines(report))


def _require_keys(key_files: Sequence[Path], recipients: Sequence[str], chosen: dict[str, Any]) -> None:
    if chosen["index"] == "off" and chosen["seal"] != "off":
        raise click.UsageError("--index off leaves the originals nowhere; give --seal off too")
    if not key_files and not recipients and chosen["index"] != "off":
        raise click.UsageError("nobody could undo this: give --key or -r, or --seal off --index off")


def _job_lines(report: JobReport) -> list[str]:
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
        lines.insert(-4, f"index     {report.index}  ({_size(done.index_bytes)}; keep it, it holds the originals)")
    if done.dropped:
        lines.append(f"left out  {', '.join(done.dropped)}")
    if report.index is not None and report.tracks:
        lines.append(f"next      revisage recover {report.output} -o BACK --key KEY --track {report.tracks[0].id}")
    return lines


@cli.command()
@click.argument("file", type=_PATH)
@click.option("--key", "key_file", type=_PATH, metavar="KEY", help="Secret key or track key.")
@_json_option
def inspect(file: Path, key_file: Path | None, as_json: bool) -> None:
    """Show what an index says, with a key or without.

    Without a key that is what anybody can see. FILE is the anonymized video or its index. Everything
    shown has been checked against the index's signature.

    \b
    Example:
      revisage inspect out.mp4 --key my.key
    """
    from revisage.pipeline.vault.index import open_index

    index = _index_of(file)
    key = _read_key(key_file) if key_file else None
    with open_index(index) as reader:
        data: dict[str, Any] = {"index": index, **reader.public(), "video": _belongs(reader, _video_of(index))}
        if key is None:
            reader.check_entries()
        else:
            unlocked = reader.unlock(key)
            unlocked.verify_all()
            data |= {"unlocked": _unlocked(unlocked)}
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
        "proven": unlocked.proven,
        "seal": settings.seal,
        "generator": dict(settings.generator),
        "frames": video.frames,
        "width": video.width,
        "height": video.height,
        "input_sha256": video.sha256 or None,
        "dropped": {} if unlocked.document is None else dict(unlocked.document.dropped),
        "tracks": [
            {"id": record.id, "first": record.first, "last": record.last, "contested": record.id == 0}
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
        rows.append((name, track["segments"], _size(track["bytes"]), when, opens))
    beside = data["video"]
    match = "none beside the index" if beside is None else f"{beside['path']}  ({_verdict(beside['matches'])})"
    lines = [*_table(["track", "segments", "size", "frames", "opens"], rows)] if rows else ["no tracks"]
    lines.append(f"index  {data['index']}  ({_size(data['bytes'])}, format {data['version']}, undamaged)")
    lines.append(f"video  {match}")
    if opened := data.get("unlocked"):
        made = " ".join(f"{key}={value}" for key, value in opened["generator"].items())
        lines.append(f"key    opens {opened['opens']}{'; made with this very key' if opened['proven'] else ''}")
        lines.append(f"made   {made} seal={opened['seal']}, {opened['width']}x{opened['height']}")
    return lines


def _verdict(matches: bool) -> str:
    return "belongs to it" if matches else "another video, or re-encoded"


@cli.command()
@click.argument("anonymized", metavar="ANON", type=_PATH)
@click.option("-o", "--output", required=True, type=_PATH, metavar="OUT", help="New video.")
@click.option("--key", "key_file", required=True, type=_PATH, metavar="KEY", help="Secret key or track key.")
@click.option(
    "--track", "tracks", multiple=True, type=click.IntRange(1), metavar="N", help="Whom (repeatable).  [default: all]"
)
@click.option("--index", "index_file", type=_PATH, metavar="FILE", help="The track index.  [default: ANON.rvx]")
@_encoding_options
@_overwrite_option
@_json_option
def recover(
    anonymized: Path,
    output: Path,
    key_file: Path,
    tracks: tuple[int, ...],
    index_file: Path | None,
    codec: str | None,
    crf: int | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Bring people back as they were filmed, with a key.

    All whom the key opens, or those named by --track. Everybody else stays anonymized. Needs no model and no GPU. The
    video must be the one that anonymize wrote.

    \b
    Example:
      revisage recover out.mp4 -o back.mp4 --key my.key --track 3
    """
    from revisage.pipeline.places import check_places
    from revisage.pipeline.recover import RecoverOptions
    from revisage.pipeline.recover import recover as bring_back

    key = _read_key(key_file)
    check_places(anonymized, output, overwrite=overwrite)
    report = bring_back(
        anonymized,
        output,
        index=index_file or _index_of(anonymized),
        key=key,
        tracks=tracks,
        options=RecoverOptions(codec, crf, overwrite),
        progress=_progress(),
    )
    if not report.proven:
        _complain("note: this key cannot prove who made the index; a secret key that made it can")
    hidden = f"; still hidden: {_numbers(report.hidden)}" if report.hidden else ""
    _tell(
        as_json,
        {"output": output, **asdict(report)},
        [
            f"video  {output}",
            f"back   {_numbers(report.tracks)}, {report.faces} faces in {report.frames} frames{hidden}",
        ],
    )


def _numbers(tracks: Sequence[int]) -> str:
    return f"track {', '.join(map(str, tracks))}" if tracks else "nobody"


# ---------------------------------------------------------------------------------------------------------------------
# Many videos


@cli.command()
@click.argument("source", metavar="SRC", type=_PATH)
@click.option("-o", "--output", required=True, type=_PATH, metavar="DIR", help="Gets the same folders as SRC.")
@_key_options
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(1, 256), help="Files at the same time.")
@_method_options
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

    _require_keys(key_files, recipients, chosen)
    options, ring = _job_options(chosen), _key_ring(key_files, recipients)
    speak = (lambda _: None) if as_json else (lambda file: _say_above_bar(_file_line(file)))
    report = run_batch(
        source, output, ring, options, jobs=jobs, overwrite=overwrite, progress=_progress(), report=speak
    )
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
    """Download a model by its name. The one command that uses the network.

    \b
    Example:
      revisage models fetch buffalo_s
    """
    from revisage.models.presets import PRESETS, fetch

    folder = fetch(name)
    licence = PRESETS[name].licence
    _tell(as_json, {"name": name, "folder": folder, "licence": licence}, [f"{name}  {folder}", f"licence  {licence}"])


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
@click.option(
    "-o", "--output", default=Path("revisage-demo"), show_default=True, type=_PATH, metavar="DIR", help="New folder."
)
@click.option("--method", default="diffusion", show_default=True, type=click.Choice(METHODS), help="As in anonymize.")
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
