"""`revisage evaluate`: one video through the program, judged beside its original. One job, in the order of the picture.

    evidence.py (make, judge) ─► figures.py, attacks ─► report.py

The measures are in `measures.py`, the networks in `judges.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from revisage.pipeline.errors import PlanError
from revisage.pipeline.evaluation.evidence import Evidence, Laboratory, gather
from revisage.pipeline.evaluation.figures import figures_of, recovery_figures
from revisage.pipeline.evaluation.films import private_folder, strip
from revisage.pipeline.evaluation.report import Attack, FilmReport
from revisage.pipeline.types import Image
from revisage.pipeline.vault.keys import SecretKey, TrackKey

VIDEOS = (".mp4", ".mkv", ".mov", ".m4v", ".webm", ".avi")

Attacks = Callable[[Evidence, Laboratory], Sequence[Attack]]


def pairs_of(original: Path, anonymized: Path | None = None) -> list[tuple[Path, Path | None]]:
    """A video with its anonymized one, if any; of folders, every video with the one of the same name, by name.

    Raises PlanError where there is no video, or where one has no counterpart.
    """
    if not original.is_dir():
        return [(original, anonymized)]
    found = sorted(path for path in original.iterdir() if path.suffix.lower() in VIDEOS)
    if not found:
        raise PlanError(f"no video in {original}; give a video or a folder with {', '.join(VIDEOS)}")
    if anonymized is None:
        return [(path, None) for path in found]
    if missing := [path.name for path in found if not (anonymized / path.name).is_file()]:
        raise PlanError(f"{anonymized} has no {missing[0]}; give the folder that revisage batch wrote for {original}")
    return [(path, anonymized / path.name) for path in found]


def evaluate(
    original: Path,
    laboratory: Laboratory,
    *,
    anonymized: Path | None = None,
    keys: Sequence[SecretKey | TrackKey] = (),
    attacks: Attacks | None = None,
    look: Callable[[str, Image], None] | None = None,
) -> FilmReport:
    """Judge `anonymized`, or what this program makes of `original` with each of `keys` (none: test keys).

    With `anonymized`, a key is only needed to measure recovery. `look` gets a strip of pictures of the original and of
    every anonymized video. Raises any RevisageError.
    """
    with private_folder() as folder:
        evidence = gather(original, laboratory, folder, anonymized, keys)
        figures = [*figures_of(evidence), *recovery_figures(evidence, laboratory.judges, anonymized)]
        found = tuple(attacks(evidence, laboratory)) if attacks else ()
        if look is not None:
            look(evidence.name, strip([evidence.clip, *evidence.videos], evidence.plan))
    frames = int(evidence.plan.video.frames)
    return FilmReport(evidence.name, frames, len(evidence.tracks), len(evidence.original), tuple(figures), found)
