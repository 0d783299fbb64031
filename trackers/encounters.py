"""People who meet and may have been taken for each other. Owns the signs of it and the repair; knows no pixel.

While two faces lie on one another, which detection is whose is a guess. Afterwards it can be told: whoever walked on
goes on where the first half of the walk pointed, in the same size. Only brief meetings in which the faces coincide are
looked at; two people who meet, talk and turn back are the tracker's business.

A detector that loses one of them just when it finds the other leaves a single way with a kink or a jump: somebody who
walks turns round within a frame, or is at another place in the next one. There the way is parted, for the linker to
decide with everybody in view: a way that begins with a few sightings of somebody else says nothing true of the gap
before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revisage.trackers.base import Sighting

_COINCIDE, _NEAR = 0.25, 0.6  # distance of middles, in face sizes: on one another; too near to be told apart
_BRIEF = 0.8  # seconds that a meeting may last
_AROUND = 0.4  # seconds before and after it that tell who is who
_AHEAD = 0.3  # seconds that a difference of velocities is weighed with
_STRIDE = 0.2  # seconds before and after a kink that velocities are taken over
_TURN = 1.0  # face sizes a second: nobody so fast turns round from one frame to the next
_MARGIN = 0.3  # face sizes by which the other assignment must be better
_JUMP, _PER_SECOND = 0.2, 0.25  # face sizes, and so many more a second unseen: nobody does that between two sightings


@dataclass(frozen=True, slots=True, eq=False)
class _Way:
    """A person as numbers."""

    frames: NDArray[np.int64]
    state: NDArray[np.float64]  # (N, 3): x, y in pixels, log2 of the size
    size: float  # pixels, median


def uncross(people: list[list[Sighting]], times: Sequence[float]) -> list[list[Sighting]]:
    """The same sightings; two people whose ways fit better the other way round after a meeting swap them from there."""
    people = list(people)
    clock = np.asarray(times, np.float64)
    ways = [_way(person) for person in people]
    for a, b in combinations(range(len(people)), 2):
        if not _may_meet(ways[a], ways[b]):
            continue
        for first, last in _meetings(ways[a], ways[b], clock):
            if _swapped(ways[a], ways[b], first, last, clock):
                people[a], people[b] = _exchange(people[a], people[b], (first + last) // 2)
                ways[a], ways[b] = _way(people[a]), _way(people[b])
    return people


def partings(person: Sequence[Sighting], times: Sequence[float]) -> list[int]:
    """Which of the sightings may begin somebody else's way: jumps, and kinks that are not about a jump."""
    t = np.array([times[s.frame] for s in person], np.float64)
    leaps = jumps(person, times)
    turns = [k for k in kinks(person, times) if not any(abs(t[k] - t[j]) <= _STRIDE for j in leaps)]
    return sorted({*leaps, *turns})


def jumps(person: Sequence[Sighting], times: Sequence[float]) -> list[int]:
    """Which of the sightings lie far from where the ones before led, and stay there: one that is off alone is none."""
    if len(person) < 2:
        return []
    way = _way(person)
    t = np.asarray(times, np.float64)[way.frames]
    state, size = way.state, np.exp2(way.state[:, 2])
    first = np.searchsorted(t, t - _STRIDE - 1e-6)  # per sighting the first one within a stride before it
    last = np.searchsorted(t, t + _STRIDE + 1e-6) - 1  # and the last one within a stride after it
    index = np.arange(len(t))
    came, goes = _pace(state, t, first, index), _pace(state, t, index, last)

    def leads(step: int) -> NDArray[np.bool_]:
        """(N - step,): does each sighting lead to the one `step` later, by its own pace or by that of the later one?"""
        a, b = index[:-step], index[step:]
        dt, mean = (t[b] - t[a])[:, None], (size[a] + size[b]) / 2
        ways = (came[a], goes[b], (came[a] + goes[b]) / 2)
        off = np.min([_apart(state[b] - state[a] - pace * dt, mean) for pace in ways], axis=0)
        return np.asarray(off < _JUMP + _PER_SECOND * dt[:, 0], np.bool_)

    far, over = ~leads(1), leads(2)  # over: the one between is passed over
    back = np.append(over, False), np.append(False, over)  # the sighting after it, or the one before, is off alone
    return [int(i) + 1 for i in np.flatnonzero(far & ~back[0] & ~back[1])]


def _pace(
    state: NDArray[np.float64], t: NDArray[np.float64], start: NDArray[np.int64], end: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(N, 3) change of `state` a second from sightings `start` to `end`; 0 where they are one."""
    pace: NDArray[np.float64] = (state[end] - state[start]) / np.maximum(t[end] - t[start], 1e-6)[:, None]
    return pace


def _apart(off: NDArray[np.float64], size: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,): how much differences of state (N, 3) come to; a face twice the size is as far off as one a size away."""
    return np.asarray(np.linalg.norm(off[:, :2], axis=1) / size + np.abs(off[:, 2]), np.float64)


def kinks(person: Sequence[Sighting], times: Sequence[float]) -> list[int]:
    """Which of the sightings begin to go back the way that the ones before came, at once and at a walking pace."""
    way = _way(person)
    t = np.asarray(times, np.float64)[way.frames]
    before = np.searchsorted(t, t - _STRIDE - 1e-6)  # per sighting the first one within a stride before it
    after = np.searchsorted(t, t + _STRIDE + 1e-6) - 1  # and the last one within a stride after it
    index = np.arange(len(t))
    usable = (before < index - 1) & (after > index + 1)
    here = way.state[:, :2]
    came = (here - here[before]) / np.maximum(t - t[before], 1e-6)[:, None] / way.size
    goes = (here[after] - here) / np.maximum(t[after] - t, 1e-6)[:, None] / way.size
    pace = np.minimum(np.linalg.norm(came, axis=1), np.linalg.norm(goes, axis=1))
    sharp = usable & ((came * goes).sum(axis=1) < 0) & (pace > _TURN)
    runs = np.split(np.flatnonzero(sharp), np.flatnonzero(np.diff(np.flatnonzero(sharp)) > 1) + 1)
    sharpest = [int(run[np.argmax(pace[run])]) for run in runs if len(run)]
    return sorted({_parting(here, t, int(before[i]), i, int(after[i])) for i in sharpest})


def _parting(here: NDArray[np.float64], t: NDArray[np.float64], first: int, kink: int, last: int) -> int:
    """The first sighting on the way back, near `kink`: where two straight lines fit `first` to `last` best."""

    def misfit(k: int) -> float:
        return _off_line(here[first:k], t[first:k]) + _off_line(here[k : last + 1], t[k : last + 1])

    return min(range(max(first + 2, kink - 2), min(last, kink + 3)), key=misfit, default=kink)


def _off_line(here: NDArray[np.float64], t: NDArray[np.float64]) -> float:
    """Sum of squared distances of `here` (N, 2) at times `t` (N,) from steady motion."""
    basis = np.column_stack([np.ones(len(t)), t - t[0]])
    rest = here - basis @ np.linalg.lstsq(basis, here, rcond=None)[0]
    return float((rest**2).sum())


def _way(person: Sequence[Sighting]) -> _Way:
    boxes = np.array([s.detection.box for s in person], np.float64)
    side = np.sqrt(np.maximum(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), 1.0))
    middle = (boxes[:, 2:] + boxes[:, :2]) / 2
    frames = np.array([s.frame for s in person], np.int64)
    return _Way(frames, np.column_stack([middle, np.log2(side)]), float(np.median(side)))


def _may_meet(a: _Way, b: _Way) -> bool:
    """A quick no for pairs that are never near each other."""
    if a.frames[0] > b.frames[-1] or b.frames[0] > a.frames[-1]:
        return False
    room = (a.size + b.size) / 2
    low, high = a.state[:, :2].min(0) - room, a.state[:, :2].max(0) + room
    return bool((b.state[:, :2].max(0) >= low).all() and (b.state[:, :2].min(0) <= high).all())


def _meetings(a: _Way, b: _Way, clock: NDArray[np.float64]) -> list[tuple[int, int]]:
    """First and last frame of each brief stretch in which they are near each other and, once, on one another."""
    shared, ia, ib = np.intersect1d(a.frames, b.frames, assume_unique=True, return_indices=True)
    if not len(shared):
        return []
    distance = np.linalg.norm(a.state[ia, :2] - b.state[ib, :2], axis=1) / ((a.size + b.size) / 2)
    near = np.flatnonzero(distance < _NEAR)
    found = []
    for run in np.split(near, np.flatnonzero(np.diff(clock[shared[near]]) > _AHEAD) + 1):
        if len(run) and distance[run].min() < _COINCIDE:
            first, last = int(shared[run[0]]), int(shared[run[-1]])
            if clock[last] - clock[first] <= _BRIEF:
                found.append((first, last))
    return found


def _swapped(a: _Way, b: _Way, first: int, last: int, clock: NDArray[np.float64]) -> bool:
    """Do the ways before and after the meeting fit better the other way round?"""
    middle = (clock[first] + clock[last]) / 2
    lines = [
        [_line(way, clock, middle, start, end) for way in (a, b)]
        for start, end in ((clock[first] - _AROUND, clock[first]), (clock[last], clock[last] + _AROUND))
    ]
    (a_before, b_before), (a_after, b_after) = lines
    if a_before is None or b_before is None or a_after is None or b_after is None:
        return False
    size = (a.size + b.size) / 2
    kept = _misfit(a_before, a_after, size) + _misfit(b_before, b_after, size)
    other = _misfit(a_before, b_after, size) + _misfit(b_before, a_after, size)
    return other + _MARGIN < kept


def _line(way: _Way, clock: NDArray[np.float64], at: float, start: float, end: float) -> NDArray[Any] | None:
    """(2, 3): state at time `at` and its change a second, from the sightings between `start` and `end`."""
    t = clock[way.frames]
    chosen = (t >= start - 1e-6) & (t <= end + 1e-6)
    if chosen.sum() < 3:
        return None
    basis = np.column_stack([np.ones(int(chosen.sum())), t[chosen] - at])
    line: NDArray[Any] = np.linalg.lstsq(basis, way.state[chosen], rcond=None)[0]
    return line


def _misfit(before: NDArray[Any], after: NDArray[Any], size: float) -> float:
    """In face sizes: how far apart in the middle of the meeting, how different in velocity and in size."""
    apart, turned = np.linalg.norm((before - after)[:, :2] / size, axis=1)
    return float(apart + _AHEAD * turned + abs(before[0, 2] - after[0, 2]))


def _exchange(a: list[Sighting], b: list[Sighting], frame: int) -> tuple[list[Sighting], list[Sighting]]:
    """Everything after `frame` goes to the other."""
    return (
        [s for s in a if s.frame <= frame] + [s for s in b if s.frame > frame],
        [s for s in b if s.frame <= frame] + [s for s in a if s.frame > frame],
    )
