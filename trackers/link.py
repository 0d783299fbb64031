"""From tracklets to tracks, with the whole film in view. Owns joining, merging, filling and holding; knows no pixel.

In this order: tracklets are parted at cuts; doubles (two tracklets on one face) are merged; tracklets whose ends agree
in place, motion and size are joined over short gaps; what was never a sure detection and did not last is dropped; gaps
are filled by interpolation; the first and the last face of each track are held for a while. Between merging and
dropping a face too many and a face too few, every rule here prefers the face too many.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revisage.pipeline.types import Box, FaceDetection, Float, Origin, Track, TrackedFace
from revisage.trackers.base import Sighting, Tracklet
from revisage.trackers.norfair import HIGH

_TREND = 0.3  # seconds of motion that a velocity is measured on
_DAMPING = 0.3  # seconds after which an extrapolated motion has lost most of its speed
_SAME_OVERLAP, _SAME_INSIDE = 0.4, 0.8  # intersection over union, or over the smaller one, of two boxes on one face
_LASTING = 3  # so many unsure detections of one face make it worth hiding
_STRETCH = 64  # frames; only tracklets in the same stretch of the film are compared
_GROWTH = 0.25  # most that a guessed box grows on what it was guessed from


@dataclass(frozen=True, slots=True)
class LinkOptions:
    """`high`: score of a sure detection; `max_gap`, `hold`: seconds."""

    high: float = HIGH
    low: float = 0.2
    max_gap: float = 1.0
    hold: float = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class _Film:
    times: Sequence[float]  # seconds, one per frame
    shots: NDArray[np.int64]  # number of the shot, one per frame
    width: int
    height: int


def link(
    tracklets: Iterable[Tracklet],
    times: Sequence[float],
    size: tuple[int, int],
    *,
    cuts: Sequence[int] = (),
    options: LinkOptions | None = None,
) -> list[Track]:
    """Tracks numbered from 1 by first appearance, each without gaps.

    `times`: presentation time in seconds of every frame, rising; `size`: width and height of the picture; `cuts`:
    numbers of frames that begin a shot. Every sighting with a score of at least `options.high` lies in a face of its
    frame in the result.
    """
    chosen = options or LinkOptions()
    shots = np.zeros(len(times), np.int64)
    shots[[c for c in cuts if 0 < c < len(times)]] = 1
    film = _Film(times, np.cumsum(shots), *size)
    people = [part for tracklet in tracklets for part in _part_at_cuts(tracklet, film)]
    people = _merge(people, film, chosen)
    people = _join(people, film, chosen)
    people = _merge(people, film, chosen)
    faces = [_fill(person, film, chosen) for person in people if _credible(person, chosen)]
    faces.sort(key=lambda track: (track[0].frame, track[0].box[0]))
    return [Track(number, tuple(track)) for number, track in enumerate(faces, 1)]


def _part_at_cuts(tracklet: Tracklet, film: _Film) -> list[list[Sighting]]:
    ordered = sorted(tracklet, key=lambda s: s.frame)
    return [list(part) for _, part in groupby(ordered, key=lambda s: int(film.shots[s.frame]))]


def _credible(person: Tracklet, options: LinkOptions) -> bool:
    """Once sure, or unsure but lasting. A face that scores low all the time is a face in profile or half covered."""
    scores = [s.detection.score for s in person]
    return max(scores) >= options.high or (
        len(scores) >= _LASTING and float(np.mean(scores)) >= (options.low + options.high) / 2
    )


# -- two tracklets on one face -----------------------------------------------------------------------------------------


def _merge(people: list[list[Sighting]], film: _Film, options: LinkOptions) -> list[list[Sighting]]:
    """Long tracklets take up the short ones that coincide with them."""
    result: list[list[Sighting]] = []
    present: dict[int, list[int]] = {}  # stretch of the film -> which of `result` are there
    for person in sorted(people, key=lambda p: (-len(p), p[0].frame)):
        met = sorted({index for stretch in _stretches(person) for index in present.get(stretch, ())})
        index = next((i for i in met if _coincide(result[i], person, film)), len(result))
        if index == len(result):
            result.append(person)
        else:
            result[index] = _union(result[index], person, options)
        for stretch in _stretches(person):
            present.setdefault(stretch, []).append(index)
    return result


def _stretches(person: list[Sighting]) -> range:
    return range(person[0].frame // _STRETCH, person[-1].frame // _STRETCH + 1)


def _coincide(longer: list[Sighting], shorter: list[Sighting], film: _Film) -> bool:
    """Do both follow one face? Compared in the frames of `shorter`, where `longer` may have to be interpolated."""
    first, last = longer[0].frame, longer[-1].frame
    if shorter[-1].frame < first or shorter[0].frame > last:
        return False
    if film.shots[first] != film.shots[shorter[0].frame]:
        return False
    shared = [s for s in shorter if first <= s.frame <= last]
    if 2 * len(shared) < len(shorter):
        return False
    same = [_same(_between(longer, s.frame, film)[0], s.detection.box) for s in shared]
    return 2 * sum(same) > len(same)


def _same(a: Box, b: Box) -> bool:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return False
    shared, small, large = width * height, *sorted((_area(a), _area(b)))
    inside = shared >= _SAME_INSIDE * small and large <= 4 * small
    return inside or shared >= _SAME_OVERLAP * (small + large - shared)


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _union(a: list[Sighting], b: list[Sighting], options: LinkOptions) -> list[Sighting]:
    """All sightings of both; where both saw the face the surer one, with a box that covers both if both were sure."""
    merged = {s.frame: s for s in a}
    for sighting in b:
        there = merged.get(sighting.frame)
        merged[sighting.frame] = sighting if there is None else _surer(there, sighting, options.high)
    return [merged[frame] for frame in sorted(merged)]


def _surer(a: Sighting, b: Sighting, high: float) -> Sighting:
    best, other = (a, b) if a.detection.score >= b.detection.score else (b, a)
    if other.detection.score < high:
        return best
    return replace(best, detection=replace(best.detection, box=_hull(best.detection.box, other.detection.box)))


def _hull(a: Box, b: Box) -> Box:
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


# -- one face, lost and found again ------------------------------------------------------------------------------------


def _join(people: list[list[Sighting]], film: _Film, options: LinkOptions) -> list[list[Sighting]]:
    """Chain tracklets end to start, the best agreement first; each end and each start is used once."""
    follower: dict[int, int] = {}
    taken: set[int] = set()
    for _, a, b in sorted(_bridges(people, film, options)):
        if a not in follower and b not in taken:
            follower[a] = b
            taken.add(b)
    return [list(_chain(people, follower, start)) for start in range(len(people)) if start not in taken]


def _chain(people: list[list[Sighting]], follower: dict[int, int], start: int) -> Iterator[Sighting]:
    at: int | None = start
    while at is not None:
        yield from people[at]
        at = follower.get(at)


def _bridges(people: list[list[Sighting]], film: _Film, options: LinkOptions) -> Iterator[tuple[float, int, int]]:
    """(cost, earlier, later) for each pair that may be one person."""
    starts = sorted((film.times[p[0].frame], i) for i, p in enumerate(people))
    for a, person in enumerate(people):
        end = film.times[person[-1].frame]
        for start, b in islice(starts, bisect_left(starts, (end, -1)), None):
            if start - end > options.max_gap + 1e-6:
                break
            if b != a and people[b][0].frame > person[-1].frame:
                cost = _agreement(person, people[b], film)
                if cost is not None:
                    yield cost, a, b


def _agreement(a: list[Sighting], b: list[Sighting], film: _Film) -> float | None:
    """How badly the end of `a` fits the start of `b`; None when it does not, or a cut lies between."""
    left, right = a[-1], b[0]
    if film.shots[left.frame] != film.shots[right.frame]:
        return None
    gap = film.times[right.frame] - film.times[left.frame]
    here, there = _middle(left.detection.box), _middle(right.detection.box)
    size_a, size_b = _area(left.detection.box) ** 0.5, _area(right.detection.box) ** 0.5
    ahead = here + _trend(a, film, at_end=True) * _damped(gap)
    back = there - _trend(b, film, at_end=False) * _damped(gap)
    apart = min(float(np.linalg.norm(d)) for d in (here - there, ahead - there, here - back, ahead - back))
    apart /= (size_a + size_b) / 2
    resized = abs(float(np.log2(size_a / size_b)))
    if apart > 0.5 + 0.75 * gap or resized > 0.5 + 0.25 * gap or _strangers(left.detection, right.detection):
        return None
    return float(apart + resized + 0.5 * gap)


def _strangers(a: FaceDetection, b: FaceDetection) -> bool:
    """Both were recognized, as two people."""
    return a.embedding is not None and b.embedding is not None and float(a.embedding @ b.embedding) < 0.1


def _middle(box: Box) -> Float:
    return np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2], np.float32)


def _trend(person: list[Sighting], film: _Film, *, at_end: bool) -> Float:
    """Velocity (2,) of the box's middle, pixels a second; least squares over the last or first `_TREND` seconds."""
    anchor = film.times[person[-1 if at_end else 0].frame]
    near: list[Sighting] = []
    for sighting in reversed(person) if at_end else person:
        if abs(film.times[sighting.frame] - anchor) > _TREND:
            break
        near.append(sighting)
    if len(near) < 3:
        return np.zeros(2, np.float32)
    t = np.array([film.times[s.frame] for s in near])
    centre = np.stack([_middle(s.detection.box) for s in near])
    t = t - t.mean()
    slope: Float = ((t[:, None] * (centre - centre.mean(0))).sum(0) / max(float((t**2).sum()), 1e-9)).astype(np.float32)
    return slope


def _damped(seconds: float) -> float:
    """Seconds' worth of motion after `seconds`, when speed decays exponentially."""
    return _DAMPING * (1 - float(np.exp(-seconds / _DAMPING)))


# -- faces nobody saw --------------------------------------------------------------------------------------------------


def _fill(person: list[Sighting], film: _Film, options: LinkOptions) -> list[TrackedFace]:
    """Every frame from the first held face to the last one."""
    before = list(_hold(person, film, options, step=-1))[::-1]
    after = list(_hold(person, film, options, step=1))
    return [*before, *_seen_and_between(person, film), *after]


def _seen_and_between(person: list[Sighting], film: _Film) -> Iterator[TrackedFace]:
    for a, b in pairwise(person):
        yield _seen(a, film)
        for frame in range(a.frame + 1, b.frame):
            box, points = _between([a, b], frame, film)
            doubt = min(film.times[frame] - film.times[a.frame], film.times[b.frame] - film.times[frame])
            grown = _inside(_grow(box, doubt), film)
            yield TrackedFace(frame, grown, points, Origin.INTERPOLATED, 0.0)
    yield _seen(person[-1], film)


def _seen(sighting: Sighting, film: _Film) -> TrackedFace:
    found = sighting.detection
    return TrackedFace(
        sighting.frame, _inside(found.box, film), found.points, Origin.DETECTED, found.score, sighting.landmarks
    )


def _between(person: Sequence[Sighting], frame: int, film: _Film) -> tuple[Box, Float]:
    """Box and points at `frame`, which lies within the tracklet: as seen, or interpolated linearly in time."""
    index = bisect_left(person, frame, key=lambda s: s.frame)
    right = person[index]
    if right.frame == frame:
        return right.detection.box, right.detection.points
    left = person[index - 1]
    start, end = film.times[left.frame], film.times[right.frame]
    share = (film.times[frame] - start) / max(end - start, 1e-9)
    box = (1 - share) * np.array(left.detection.box) + share * np.array(right.detection.box)
    points = (1 - share) * left.detection.points + share * right.detection.points
    return _box(box), points.astype(np.float32)


def _hold(person: list[Sighting], film: _Film, options: LinkOptions, *, step: int) -> Iterator[TrackedFace]:
    """Faces before the first (`step` -1) or after the last (1) sighting, in that direction, until cut, edge or time."""
    edge = person[-1 if step > 0 else 0]
    speed = _trend(person, film, at_end=step > 0)
    frame = edge.frame + step
    while 0 <= frame < len(film.times) and film.shots[frame] == film.shots[edge.frame]:
        passed = abs(film.times[frame] - film.times[edge.frame])
        if passed > options.hold + 1e-6:
            return
        shift = speed * _damped(passed) * step
        moved = _box(np.array(edge.detection.box) + np.tile(shift, 2))
        box = _clip(_grow(moved, passed), film)
        if box is None:
            return
        yield TrackedFace(frame, box, (edge.detection.points + shift).astype(np.float32), Origin.HELD, 0.0)
        frame += step


def _grow(box: Box, doubt: float) -> Box:
    """The longer (seconds) since the face was seen, the more room around the guess."""
    factor = _GROWTH * min(1.0, doubt / 0.5) / 2
    dx, dy = (box[2] - box[0]) * factor, (box[3] - box[1]) * factor
    return box[0] - dx, box[1] - dy, box[2] + dx, box[3] + dy


def _clip(box: Box, film: _Film) -> Box | None:
    """The part of `box` within the picture; None when that is less than a pixel."""
    x0, y0 = max(0.0, box[0]), max(0.0, box[1])
    x1, y1 = min(float(film.width), box[2]), min(float(film.height), box[3])
    return (x0, y0, x1, y1) if x1 - x0 >= 1 and y1 - y0 >= 1 else None


def _inside(box: Box, film: _Film) -> Box:
    """`box` clipped to the picture, of at least one pixel even where it lies wholly outside."""
    x0, y0 = min(max(box[0], 0.0), film.width - 1.0), min(max(box[1], 0.0), film.height - 1.0)
    return x0, y0, max(min(box[2], float(film.width)), x0 + 1), max(min(box[3], float(film.height)), y0 + 1)


def _box(values: NDArray[Any]) -> Box:
    x0, y0, x1, y1 = (float(v) for v in values)
    return x0, y0, x1, y1
