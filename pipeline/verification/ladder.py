"""What is done about a finding, and what next where that was not enough: rung by rung, per face and frame.

    uncovered   wider or moved cover ─────────────────────────► grey
    recognized  another draw (painted faces) ─► coarse mosaic ─► grey
    unchanged   coarse mosaic ────────────────────────────────► grey

Grey lies over all that may be the face, and always satisfies the check. A ladder remembers what was tried, so that
every round climbs. Owns no pixel; a plan in, a plan out. See `repair` for how covers are widened and moved.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from itertools import groupby

import numpy as np

from revisage.models.looks import overlap
from revisage.pipeline.types import Box, Origin, Plan, Track, TrackedFace
from revisage.pipeline.verification.repair import covered, redrawn
from revisage.pipeline.verification.report import Kind, Leak

DRAWS = 3  # other faces of a key that are tried in finished films
_SAME = 0.2  # intersection over union from which a finding is about a face of the plan
_ROOMY = 1.5  # of a box's sides: an ellipse so large holds the box's corners
_CLOSE = 5  # frames between two mends that are told as one


class Rung(IntEnum):
    """From what changes least to what hides everything."""

    COVER = 0
    DRAW = 1
    COARSE = 2
    GREY = 3


_HIDE = {Rung.COARSE: "coarse", Rung.GREY: "solid"}


@dataclass(frozen=True, slots=True)
class Repair:
    """One stretch of one track, and what had to be done there."""

    track: int
    rung: str  # cover, draw, coarse, grey
    first: float  # seconds
    last: float
    frames: int


@dataclass(slots=True)
class Ladder:
    """One video's. `draws`: how many other faces of a key are tried; 0 where none are painted."""

    hold: float  # seconds; how long a found face is covered beyond where it was found
    draws: int = DRAWS
    tried: dict[tuple[int, int], Rung] = field(default_factory=dict)  # track, frame -> the highest so far
    first_draws: dict[int, int] = field(default_factory=dict)  # track -> what it had before any mend

    def climb(self, plan: Plan, leaks: Sequence[Leak], *, straight: bool = False) -> Plan:
        """`plan` with every leak mended by the next rung; `straight`: by grey at once."""
        bare, again, marks = self._sorted(plan, leaks, straight=straight)
        if bare:
            before = {(t.id, f.frame) for t in plan.tracks for f in t.faces}
            plan = covered(plan, bare, self.hold)
            added = {(t.id, f.frame) for t in plan.tracks for f in t.faces} - before
            self._note(added, Rung.COVER)
        if again:
            self._note(((t.id, f.frame) for t in plan.tracks if t.id in again for f in t.faces), Rung.DRAW)
            plan = redrawn(plan, again)
        return self._marked(plan, marks)

    def repairs(self, plan: Plan) -> tuple[Repair, ...]:
        """What was done, by track and time."""
        base = plan.video.time_base
        found = []
        rows = sorted(self.tried, key=lambda key: (key[0], self.tried[key], key[1]))
        for (track, rung), group in groupby(rows, key=lambda key: (key[0], self.tried[key])):
            run: list[int] = []
            for _, frame in group:
                if run and frame - run[-1] > _CLOSE:
                    found.append((track, rung, run))
                    run = []
                run.append(frame)
            found.append((track, rung, run))

        def seconds(frame: int) -> float:
            return round(float((plan.pts[frame] - plan.pts[0]) * base), 3)

        told = (Repair(t, r.name.lower(), seconds(run[0]), seconds(run[-1]), len(run)) for t, r, run in found)
        return tuple(sorted(told, key=lambda repair: (repair.first, repair.track)))

    def _sorted(
        self, plan: Plan, leaks: Sequence[Leak], *, straight: bool
    ) -> tuple[list[Leak], set[int], list[tuple[Leak, int | None, Rung]]]:
        """Leaks that a cover mends, tracks that are drawn anew, and the others with their track and rung."""
        faces = {(t.id, f.frame): f for t in plan.tracks if not t.keep for f in t.faces}
        draw = {track.id: track.draw for track in plan.tracks}
        bare: list[Leak] = []
        again: set[int] = set()
        marks: list[tuple[Leak, int | None, Rung]] = []
        for leak in sorted(leaks, key=lambda leak: leak.frame):
            track = _whose(faces, leak)
            last = self.tried.get((track, leak.frame)) if track is not None else None
            if straight:
                marks.append((leak, track, Rung.GREY))
            elif leak.kind in (Kind.UNCOVERED, Kind.UNEXPLAINED):
                if last is None and leak.points:
                    bare.append(leak)
                    self._note([(track, leak.frame)] if track is not None else [], Rung.COVER)
                else:
                    marks.append((leak, track, Rung.GREY))
            elif leak.kind is Kind.RECOGNIZED and track is not None and draw[track] < self._most(track, draw[track]):
                again.add(track)
            elif last is None or last < Rung.COARSE:
                marks.append((leak, track, Rung.COARSE))
            else:
                marks.append((leak, track, Rung.GREY))
        return bare, again, marks

    def _most(self, track: int, draw: int) -> int:
        """Up to which draw a track's faces are tried."""
        return self.first_draws.setdefault(track, draw) + self.draws

    def _note(self, keys: Iterable[tuple[int, int]], rung: Rung) -> None:
        for key in keys:
            self.tried[key] = max(rung, self.tried.get(key, rung))

    def _marked(self, plan: Plan, marks: Sequence[tuple[Leak, int | None, Rung]]) -> Plan:
        faces = {track.id: {face.frame: face for face in track.faces} for track in plan.tracks}
        fresh = max(faces, default=0) + 1
        for leak, found, rung in marks:
            track = fresh if found is None else found
            own = faces.setdefault(track, {})
            frames = sorted(own) if leak.whole_track else [leak.frame]
            for frame in frames:
                own[frame] = _hidden(own.get(frame), leak, frame, rung)
                self._note([(track, frame)], rung)
            if found is None:
                fresh += 1
        known = {track.id: track for track in plan.tracks}
        tracks = []
        for number, rows in faces.items():
            ordered = tuple(rows[frame] for frame in sorted(rows))
            tracks.append(replace(known[number], faces=ordered) if number in known else Track(number, ordered))
        return replace(plan, tracks=tuple(tracks))


def _whose(faces: dict[tuple[int, int], TrackedFace], leak: Leak) -> int | None:
    """The track that a finding is about."""
    if leak.track is not None and (leak.track, leak.frame) in faces:
        return leak.track
    near = ((overlap(face.box, leak.box), track) for (track, frame), face in faces.items() if frame == leak.frame)
    share, track = max(near, default=(0.0, 0))
    return track if share >= _SAME else None


def _hidden(face: TrackedFace | None, leak: Leak, frame: int, rung: Rung) -> TrackedFace:
    """`face`, or one where `leak` is, as `rung` hides it."""
    if face is None:
        points = np.array(leak.points, np.float32).reshape(-1, 2)
        points = points if len(points) == 5 else np.full((5, 2), np.nan, np.float32)
        face = TrackedFace(frame, leak.box, points, Origin.HELD, 0.0)
    box = face.box if leak.whole_track else _union(face.box, leak.box)
    if rung is Rung.GREY and face.hide != "solid":
        box = _around(box)
    return replace(face, box=box, hide=_HIDE[rung] if face.hide != "solid" else "solid")


def _union(a: Box, b: Box) -> Box:
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


def _around(box: Box) -> Box:
    x0, y0, x1, y1 = box
    dx, dy = (_ROOMY - 1) / 2 * (x1 - x0), (_ROOMY - 1) / 2 * (y1 - y0)
    return x0 - dx, y0 - dy, x1 + dx, y1 + dy
