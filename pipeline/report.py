"""What a plan holds, track by track, and where a person should look first. Owns the judgement; knows no detector.

A moment is weak where the plan guesses: in the middle of a gap, or where the detector itself was in doubt. The picture
of the weakest moments is cut out of the *anonymized* video, never out of the original.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from revisage.pipeline.errors import OutputError
from revisage.pipeline.media import open_video
from revisage.pipeline.types import Origin, Plan, Track, TrackedFace
from revisage.pipeline.verification.sheet import Album, write_sheet

_GUESS = 0.15  # seconds from the nearest sighting from which a guess is worth a look
_UNSURE = 0.5  # a track whose best score is below may be no face at all
_FEW = 3  # and so may one that was seen in fewer frames
_FIRST = 12  # so many moments to look at first


@dataclass(frozen=True, slots=True)
class Moment:
    """One face of the plan, and why to look at it."""

    frame: int
    seconds: float  # from the first frame on
    track: int
    doubt: float  # 0 sure, 1 and more: guessed
    why: str


@dataclass(frozen=True, slots=True)
class TrackSummary:
    """One track for a person to recognise. The shares of its frames add up to 1."""

    id: int
    start: float  # seconds
    end: float  # seconds, of its last frame
    frames: int
    width: int  # of the face's box, pixels, median
    keep: bool
    person: int | None
    draw: int
    detected: float
    interpolated: float
    held: float
    best: float  # highest score
    weakest: Moment


def summaries(plan: Plan) -> tuple[TrackSummary, ...]:
    """The tracks of `plan`, times from the video's first frame on."""
    return tuple(_summary(track, plan) for track in plan.tracks if track.faces)


def look_first(plan: Plan, most: int = _FIRST) -> tuple[Moment, ...]:
    """The moments that a person should look at, the worst first; none where nothing is in doubt."""
    found = [moment for track in plan.tracks if track.faces and not track.keep for moment in _moments(track, plan)]
    return tuple(sorted(found, key=lambda m: (-m.doubt, m.frame))[:most])


def check_picture(path: Path, *, overwrite: bool = False) -> None:
    """Raises OutputError where `picture_of_moments` could not write, before hours of work are spent."""
    if path.suffix.lower() != ".png":
        raise OutputError(f"the report {path} is a PNG picture: give it a name that ends in .png")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists; choose another name or use --overwrite")


def picture_of_moments(video: Path, plan: Plan, path: Path, *, overwrite: bool = False) -> None:
    """Write a PNG of the weakest moments as the anonymized `video` shows them. Raises OutputError, MediaError."""
    tracks = {track.id: track for track in plan.tracks if track.faces and not track.keep}
    weak = {(m.track, m.frame): m for m in (*(s.weakest for s in summaries(plan) if not s.keep), *look_first(plan))}
    wanted: dict[int, list[Moment]] = {}
    for moment in weak.values():
        wanted.setdefault(moment.frame, []).append(moment)
    album = Album()
    with open_video(video) as reader:
        for frame in reader.frames():
            for moment in wanted.pop(frame.index, ()):
                face = _face(tracks[moment.track], moment.frame)
                caption = (f"track {moment.track}, {moment.seconds:.2f} s", moment.why)
                album.offer((moment.track, moment.frame), min(moment.doubt, 0.99), face.box, caption, frame.rgb)
            if not wanted:
                break
    write_sheet(album, path, overwrite=overwrite)


def _summary(track: Track, plan: Plan) -> TrackSummary:
    times = _times(track, plan)
    origins = [face.origin for face in track.faces]
    shares = {origin: round(origins.count(origin) / len(origins), 3) for origin in Origin}
    widths = sorted(face.box[2] - face.box[0] for face in track.faces)
    return TrackSummary(
        id=track.id,
        start=round(times[0], 3),
        end=round(times[-1], 3),
        frames=len(track.faces),
        width=round(widths[len(widths) // 2]),
        keep=track.keep,
        person=track.person,
        draw=track.draw,
        detected=shares[Origin.DETECTED],
        interpolated=shares[Origin.INTERPOLATED],
        held=shares[Origin.HELD],
        best=max(face.score for face in track.faces),
        weakest=_weakest(track, times),
    )


def _times(track: Track, plan: Plan) -> list[float]:
    """Seconds of each of the track's frames; frame numbers where the plan knows no times."""
    if not plan.pts:
        return [float(face.frame) for face in track.faces]
    return [float((plan.pts[face.frame] - plan.pts[0]) * plan.video.time_base) for face in track.faces]


def _weakest(track: Track, times: Sequence[float]) -> Moment:
    """The frame in the middle of the longest gap, else the one with the lowest score; a held end only if need be."""
    doubts = _doubts(track, times)
    inner = [i for i, face in enumerate(track.faces) if face.origin is not Origin.HELD] or range(len(track.faces))
    return _moment(track, times, doubts, max(inner, key=lambda i: doubts[i]))


def _moments(track: Track, plan: Plan) -> Iterator[Moment]:
    """What of this track is in doubt: the middle of each long gap, and the track itself where it may be no face."""
    times = _times(track, plan)
    doubts = _doubts(track, times)
    seen = [i for i, face in enumerate(track.faces) if face.origin is Origin.DETECTED]
    best = max((track.faces[i].score for i in seen), default=0.0)
    if best < _UNSURE or len(seen) < _FEW:
        surest = max(range(len(track.faces)), key=lambda i: track.faces[i].score)
        why = f"seen in {len(seen)} frames, best {best:.2f}"
        yield Moment(track.faces[surest].frame, round(times[surest], 3), track.id, 1.0 + (1 - best), why)
    for a, b in pairwise(seen):
        middle = (a + b) // 2
        if b - a > 1 and times[b] - times[a] > 2 * _GUESS and doubts[middle] > 1 + _GUESS:
            yield _moment(track, times, doubts, middle)


def _doubts(track: Track, times: Sequence[float]) -> list[float]:
    """Per face: below 1 what the detector lacked in certainty, from 1 on guessed, plus the seconds of guessing."""
    seen = [t for t, face in zip(times, track.faces, strict=True) if face.origin is Origin.DETECTED]
    return [
        1 - face.score if face.origin is Origin.DETECTED else 1 + _apart(seen, t)
        for t, face in zip(times, track.faces, strict=True)
    ]


def _apart(seen: Sequence[float], t: float) -> float:
    """Seconds to the nearest of the rising `seen`."""
    at = bisect_left(seen, t)
    return min((abs(s - t) for s in seen[max(at - 1, 0) : at + 1]), default=float(np.inf))


def _moment(track: Track, times: Sequence[float], doubts: Sequence[float], index: int) -> Moment:
    face, doubt = track.faces[index], doubts[index]
    if face.origin is Origin.DETECTED:
        why = f"score {face.score:.2f}"
    else:
        why = f"{face.origin.value}, {doubt - 1:.2f} s away" if np.isfinite(doubt) else "drawn by hand"
    return Moment(face.frame, round(times[index], 3), track.id, round(min(doubt, 1e6), 3), why)


def _face(track: Track, frame: int) -> TrackedFace:
    return track.faces[frame - track.faces[0].frame]
