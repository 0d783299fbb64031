"""What an evaluation looks at: the original, what the program makes of it under test keys, and blur, all judged.

    original ─► excerpt ─► plan ─┬─► anonymized with key 1, 2 … ─► judged
                                 └─► blurred ─────────────────────► judged

Owns which video is compared with which and on which frames; knows no figure and no attack.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revisage.pipeline.errors import PlanError, WrongKeyError
from revisage.pipeline.evaluation.films import Watched, excerpt, product_codec, watch
from revisage.pipeline.evaluation.judges import Judges, Seen
from revisage.pipeline.evaluation.measures import NOTHING
from revisage.pipeline.run import JobOptions, JobReport, KeyRing, Workshop
from revisage.pipeline.types import Plan, Progress, silent
from revisage.pipeline.vault.keys import SecretKey, TrackKey


@dataclass(frozen=True, slots=True)
class EvaluateOptions:
    """What the user may choose."""

    job: JobOptions = field(default_factory=JobOptions)
    frames: int = 120  # at most so many from the beginning of a video
    keys: int = 2  # test keys, where none are given


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Everything that figures and attacks are made from; the files exist as long as the folder does."""

    name: str
    folder: Path
    clip: Path
    plan: Plan
    keys: tuple[SecretKey | TrackKey, ...]  # row i of `videos` was made with key i
    videos: tuple[Path, ...]
    jobs: tuple[JobReport, ...]  # empty where the anonymized video was brought along
    workshop: Workshop
    tracks: tuple[Watched, ...]  # the original, judged, without the frames in which no face is seen
    painted: tuple[tuple[Watched, ...], ...]  # per video the same tracks and frames
    blurred: tuple[Watched, ...]  # the same

    @property
    def original(self) -> Seen:
        """Every judged face of the original, tracks one after the other."""
        return all_of(self.tracks)


class Laboratory:
    """What makes videos and what judges them. Raises ModelError without the extra `score`."""

    def __init__(self, options: EvaluateOptions, progress: Progress = silent) -> None:
        self.options, self.progress = options, progress
        self.judges = Judges(options.job.threads)

    @cached_property
    def generating(self) -> Workshop:
        """For pictures that are no video; they carry nothing."""
        return Workshop(replace(self.options.job, carry=0.0))

    def workshop(self, original: Path, **changes: Any) -> Workshop:
        """A workshop with the options (`changes` apart) and the encoder that `revisage anonymize` takes for a video."""
        job = replace(self.options.job, **changes)
        return Workshop(job if job.codec else replace(job, codec=product_codec(original)))


def example_keys(count: int) -> tuple[SecretKey, ...]:
    """Keys that everybody can derive, for measuring only: they protect nothing."""
    return tuple(SecretKey(hashlib.sha256(f"revisage evaluate key {i}".encode()).digest()) for i in range(count))


def gather(
    original: Path,
    laboratory: Laboratory,
    folder: Path,
    anonymized: Path | None,
    keys: Sequence[SecretKey | TrackKey],
) -> Evidence:
    options, progress = laboratory.options, laboratory.progress
    clip = excerpt(original, folder, 0, options.frames, "original")
    workshop = laboratory.workshop(original)
    looking = workshop if workshop.options.method == "diffusion" else laboratory.workshop(original, method="diffusion")
    plan = looking.analyze(clip, progress)  # with landmarks, whatever the method
    jobs: tuple[JobReport, ...] = ()
    if anonymized is not None:
        videos: tuple[Path, ...] = (excerpt(anonymized, folder, 0, options.frames, "anonymized"),)
    else:
        keys = tuple(keys) or example_keys(options.keys)
        jobs = tuple(make(clip, folder / f"key{i}.mkv", key, workshop, plan, progress) for i, key in enumerate(keys))
        videos = tuple(job.output for job in jobs)
    soft = folder / "blurred.mkv"
    make(
        clip,
        soft,
        None,
        laboratory.workshop(original, method="blur", seal="off", index=False, carry=0.0),
        plan,
        progress,
    )
    tracks = tuple(visible(watch(clip, plan, laboratory.judges, progress)))
    if not tracks:
        raise PlanError(f"no face found in {original.name}: there is nothing to evaluate")
    painted = tuple(same_frames(watch(video, plan, laboratory.judges, progress), tracks) for video in videos)
    blurred = same_frames(watch(soft, plan, laboratory.judges, progress), tracks)
    return Evidence(
        name=original.stem,
        folder=folder,
        clip=clip,
        plan=plan,
        keys=tuple(keys),
        videos=videos,
        jobs=jobs,
        workshop=workshop,
        tracks=tracks,
        painted=painted,
        blurred=blurred,
    )


def make(
    clip: Path,
    output: Path,
    key: SecretKey | TrackKey | None,
    workshop: Workshop,
    plan: Plan | None = None,
    progress: Progress = silent,
) -> JobReport:
    """`clip` anonymized under `key` (None: nobody's), as the command line would. Raises any RevisageError."""
    if isinstance(key, TrackKey):
        raise WrongKeyError("a track key anonymizes nothing; give a key made by revisage keygen")
    return workshop.anonymize(clip, output, KeyRing((key,) if key else ()), plan=plan, progress=progress)


def visible(tracks: Sequence[Watched]) -> list[Watched]:
    """Only the frames in which the judges see the face in the original: what cannot be seen cannot be judged."""
    found = (rows_of(track, track.seen.found) for track in tracks)
    return [track for track in found if len(track.frames)]


def same_frames(tracks: Sequence[Watched], like: Sequence[Watched]) -> tuple[Watched, ...]:
    """The tracks and frames that `like` has."""
    by_id = {track.track: track for track in tracks}
    return tuple(rows_of(by_id[t.track], np.isin(by_id[t.track].frames, t.frames)) for t in like)


def rows_of(track: Watched, rows: NDArray[np.bool_]) -> Watched:
    """`track` without the rows that are not chosen; the change to the next row stays known where that stays, too."""
    chosen = np.flatnonzero(rows)
    change = np.full(max(0, len(chosen) - 1), NOTHING, np.float32)
    close = np.flatnonzero(np.diff(chosen) == 1)
    change[close] = track.change[chosen[close]]
    return Watched(track.track, track.frames[chosen], track.driving[chosen], track.seen[chosen], change)


def all_of(tracks: Sequence[Watched]) -> Seen:
    """Every row of every track."""
    return Seen.joined([track.seen for track in tracks])
