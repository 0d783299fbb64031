"""What a verification found, mended in the plan. Knows no video and no network.

A person whom a recognizer knows again gets another new face of the same key. A face that lies partly under a mask
widens that mask. One that lies under none goes on the track that ended there or begins there, or becomes a track of its
own; gaps are filled in a straight line and both ends are held.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from revisage.models.looks import overlap
from revisage.pipeline.types import Box, Float, Origin, Plan, Track, TrackedFace
from revisage.pipeline.verification.report import Kind, Leak

_GAP = 1.0  # seconds: longest interruption within one repair
_PARTLY = 0.3  # intersection over union from which a mask is widened and no second face put beside it
_ONWARD = 0.1  # intersection over union of one person's faces in frames that follow each other
_WIDER = 1.2  # the ellipse in the box around two boxes must hold the ellipses in both


def repaired(plan: Plan, leaks: Sequence[Leak], hold: float = 0.5, *, paints: bool = True) -> Plan | None:
    """`plan` with every uncovered face among `leaks` covered, and if `paints` other faces for people who were
    recognized; None where a better plan could not help.

    `hold` is in seconds. `paints`: faces are made from keys, so that there are others.
    """
    known = {leak.track for leak in leaks if leak.kind is Kind.RECOGNIZED and leak.track is not None}
    found = sorted((leak for leak in leaks if leak.kind is Kind.UNCOVERED), key=lambda leak: leak.frame)
    if not found and not (known and paints):
        return None
    better = covered(plan, found, hold) if found else plan
    return redrawn(better, known) if paints else better


def redrawn(plan: Plan, ids: Iterable[int]) -> Plan:
    """`plan` with another new face for each of the tracks `ids`, and for what else shows the same people."""
    wanted = plan.with_same_people(ids)
    tracks = (replace(track, draw=track.draw + 1) if track.id in wanted else track for track in plan.tracks)
    return replace(plan, tracks=tuple(tracks))


def covered(plan: Plan, found: Sequence[Leak], hold: float) -> Plan:
    """`plan` with every face among `found`, frames rising, covered; all of them have points. `hold` is in seconds."""
    work = _Work(plan, {track.id: {face.frame: face for face in track.faces} for track in plan.tracks})
    loose = [leak for leak in found if not work.widen(leak)]
    for chain in _chains(loose, work):
        work.add(chain, hold)
    return replace(plan, tracks=tuple(work.tracks()))


@dataclass(slots=True)
class _Work:
    """A plan taken apart: track -> frame -> face."""

    plan: Plan
    faces: dict[int, dict[int, TrackedFace]]
    times: list[float] = field(init=False)  # seconds, of every frame
    cuts: list[int] = field(init=False)  # first frames of shots

    def __post_init__(self) -> None:
        base = self.plan.video.time_base
        self.times = [float((pts - self.plan.pts[0]) * base) for pts in self.plan.pts]
        self.cuts = sorted(int(number) for number in re.findall(r"\d+", self.plan.notes.get("cuts", "")))

    def tracks(self) -> Iterable[Track]:
        known = {track.id: track for track in self.plan.tracks}
        for number, faces in self.faces.items():
            ordered = tuple(faces[frame] for frame in sorted(faces))
            yield replace(known[number], faces=ordered) if number in known else Track(number, ordered)

    def widen(self, leak: Leak) -> bool:
        """Grow the mask that covers a part of this face, if there is one."""
        there = [
            (overlap(faces[leak.frame].box, leak.box), number)
            for number, faces in self._hidden()
            if leak.frame in faces
        ]
        share, number = max(there, default=(0.0, 0))
        if share < _PARTLY:
            return False
        face = self.faces[number][leak.frame]
        self.faces[number][leak.frame] = replace(face, box=_around(face.box, leak.box))
        return True

    def add(self, chain: Sequence[Leak], hold: float) -> None:
        """The faces of `chain`, on a track that it continues or on a new one."""
        sure = [_face(leak) for leak in chain]
        number = self._neighbour(sure[0], sure[-1])
        if number is None:
            number = max(self.faces, default=0) + 1
            self.faces[number] = {}
        own = self.faces[number]
        own.update({face.frame: face for face in sure})
        self._fill(own)
        ends = (min(own), max(own))
        for start, stop in ((sure[0].frame, -1), (sure[-1].frame, 1)):
            if start in ends:
                self._hold(own, start, stop, hold)

    def _hidden(self) -> list[tuple[int, dict[int, TrackedFace]]]:
        kept = {track.id for track in self.plan.tracks if track.keep}
        return [(number, faces) for number, faces in self.faces.items() if number not in kept]

    def _neighbour(self, first: TrackedFace, last: TrackedFace) -> int | None:
        """The track that ends shortly before `first` or begins shortly after `last`, at the same place."""
        best: tuple[float, int | None] = (_ONWARD, None)
        for number, faces in self._hidden():
            for mine, its in ((first, faces.get(max(faces))), (last, faces.get(min(faces)))):
                free = its is not None and not any(first.frame <= frame <= last.frame for frame in faces)
                if its is not None and free and self.near(mine.frame, its.frame):
                    best = max(best, (overlap(mine.box, its.box), number), key=lambda pair: pair[0])
        return best[1]

    def near(self, a: int, b: int) -> bool:
        """Are two frames of one shot, and at most a gap apart?"""
        a, b = min(a, b), max(a, b)
        cut = bisect_right(self.cuts, a) != bisect_right(self.cuts, b)
        return self.times[b] - self.times[a] <= _GAP and not cut

    def _fill(self, faces: dict[int, TrackedFace]) -> None:
        for a, b in pairwise(sorted(faces)):
            for frame in range(a + 1, b):
                faces[frame] = _between(faces[a], faces[b], frame)

    def _hold(self, faces: dict[int, TrackedFace], start: int, step: int, hold: float) -> None:
        face, frame = faces[start], start + step
        while 0 <= frame < len(self.times) and abs(self.times[frame] - self.times[start]) <= hold + 1e-6:
            if bisect_right(self.cuts, frame) != bisect_right(self.cuts, start):
                return
            faces[frame] = replace(face, frame=frame, origin=Origin.HELD, score=0.0)
            frame += step


def _chains(leaks: Sequence[Leak], work: _Work) -> list[list[Leak]]:
    """Leaks of one face each, frames rising."""
    chains: list[list[Leak]] = []
    for leak in leaks:
        open_ones = [c for c in chains if c[-1].frame < leak.frame and work.near(c[-1].frame, leak.frame)]
        best = max(open_ones, key=lambda c: overlap(c[-1].box, leak.box), default=None)
        if best is not None and overlap(best[-1].box, leak.box) >= _ONWARD:
            best.append(leak)
        else:
            chains.append([leak])
    return chains


def _face(leak: Leak) -> TrackedFace:
    points = np.array(leak.points, np.float32).reshape(5, 2)
    return TrackedFace(leak.frame, leak.box, points, Origin.DETECTED, leak.score)


def _between(a: TrackedFace, b: TrackedFace, frame: int) -> TrackedFace:
    share = (frame - a.frame) / (b.frame - a.frame)
    box: Box = tuple(p + share * (q - p) for p, q in zip(a.box, b.box, strict=True))  # type: ignore[assignment]
    points: Float = (a.points + np.float32(share) * (b.points - a.points)).astype(np.float32)
    return TrackedFace(frame, box, points, Origin.INTERPOLATED, 0.0)


def _around(a: Box, b: Box) -> Box:
    x0, y0, x1, y1 = min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])
    dx, dy = (_WIDER - 1) / 2 * (x1 - x0), (_WIDER - 1) / 2 * (y1 - y0)
    return x0 - dx, y0 - dy, x1 + dx, y1 + dy
