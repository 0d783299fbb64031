"""From tracklets to tracks, with the whole film in view. Owns joining, merging, filling and holding; knows no pixel.

Shot by shot, in this order: doubles (two tracklets on one face) are merged; people who met and were taken for one
another get their own again; tracklets are parted at gaps and jumps, and those whose ends agree in place, motion and
size are joined; what was never a sure detection and did not last is dropped; gaps are filled by interpolation; the
first and the last face of each track are held for a while. Nothing is joined or held across a change
of shot; in a dissolve, where both shots show, a face is held until its own shot is gone. All of it happens in
coordinates from which the camera's motion is taken out, so that a guessed face moves with the picture.

Between merging and dropping a face too many and a face too few, every rule here prefers the face too many. Where two
ends may be one person or two, the gap between them is covered as if they were one, and they stay two tracks: a wrong
join would give two people one key.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, groupby, islice, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revisage.pipeline.types import Box, FaceDetection, Float, Origin, Track, TrackedFace
from revisage.trackers.base import AT_REST, Sighting, Tracklet, filmed, steadied
from revisage.trackers.cuts import Change
from revisage.trackers.encounters import jumps, partings, uncross
from revisage.trackers.norfair import HIGH
from revisage.trackers.persons import group, likeness

_BROKEN = 0.2  # seconds without a sighting after which a tracklet is no evidence that both sides are one person
_TREND = 0.3  # seconds of motion that a velocity is measured on
_RECENTLY = 1.0  # or, where fewer than three sightings were made in that time, on the last three within this
_LATELY = 0.15  # seconds of it that tell whether somebody began to hurry
_DAMPING = 0.3  # seconds after which an extrapolated motion has lost most of its speed
_SAME_OVERLAP, _SAME_INSIDE = 0.4, 0.8  # intersection over union, or over the smaller one, of two boxes on one face
_LASTING = 3  # so many unsure detections of one face make it worth hiding
_STRETCH = 64  # frames; only tracklets in the same stretch of the film are compared
_GROWTH = 0.25  # most that a guessed box grows on what it was guessed from
_ASTRAY = 4.0  # face sizes that a speed may lead away from the straight line over a gap, at most
_FASTEST_GROWTH = 3.0  # doublings of a face's size a second, in a fast zoom
_FAR, _LONGER = 2.0, 1.5  # times what ends of one person may be apart, in space and time: covered, but not one person
_RIVAL = 0.3  # a bridge this much better than the next best one is beyond doubt; unit of `_agreement`
_FAST, _BRISK = 1.5, 0.5  # face sizes a second: somebody so fast does not turn round unseen; at the picture's edge
_EDGE, _ASPECT = 0.03, 0.75  # of a box's longer side: so near the picture cuts it; width over height of a face
_ACQUAINTED, _STRANGE = 0.35, 0.1  # cosines of two embeddings: surely one person, surely two


@dataclass(frozen=True, slots=True)
class LinkOptions:
    """`high`: score of a sure detection; `max_gap`, `hold`: seconds; `alike`: least cosine of one person's tracks."""

    high: float = HIGH
    low: float = 0.2
    max_gap: float = 1.0
    hold: float = 0.5
    alike: float = 0.4


@dataclass(frozen=True, slots=True, eq=False)
class _Film:
    """One shot of a film, with what is known of the whole."""

    times: Sequence[float]  # seconds, one per frame of the whole film
    width: int
    height: int
    camera: Float  # (F, 3) how the camera looks, per frame of the whole film; see trackers/base.py
    start: int  # first frame that shows this shot
    alone: int  # first frame that shows nothing else, after a dissolve
    fading: int  # first frame that shows the next shot as well
    end: int  # first frame that shows nothing of this shot
    high: float  # score of a sure detection, whose box can be relied on


@dataclass(frozen=True, slots=True, eq=False)
class _Person:
    """One track to be; `before`, `after`: where neighbours in time end or begin who may be the same person."""

    seen: list[Sighting]
    before: tuple[Sighting, ...] = ()
    after: tuple[Sighting, ...] = ()


def link(
    tracklets: Iterable[Tracklet],
    times: Sequence[float],
    size: tuple[int, int],
    *,
    cuts: Sequence[Change] = (),
    camera: Float | None = None,
    options: LinkOptions | None = None,
) -> list[Track]:
    """Tracks numbered from 1 by first appearance, each without gaps; those of one person, where known, say so.

    `times`: presentation time in seconds of every frame, rising; `size`: width and height of the picture; `cuts`:
    changes of shot, rising; `camera`: (frames, 3) how the camera looks at what stands still, see trackers/base.py.
    Every sighting with a score of at least `options.high` lies in a face of its frame in the result.
    """
    chosen = options or LinkOptions()
    views = np.tile(AT_REST, (len(times), 1)) if camera is None else camera
    cuts = [Change(cut.first, min(cut.last, len(times))) for cut in cuts if 0 < cut.first < len(times)]
    shots = _shots(times, size, views, cuts, chosen.high)
    tracks: list[tuple[list[Sighting], list[TrackedFace]]] = []
    for number, parts in _by_shot(tracklets, views, cuts, size).items():
        film = shots[number]
        people = uncross(_merge(parts, film, chosen), times)
        people = _join(*_pieces(people, times), film, chosen)
        people = [p for p in _merge(people, film, chosen) if _credible(p, chosen)]
        tracks += [(person.seen, _fill(person, film, chosen)) for person in _doubted(people, film, chosen)]
    tracks.sort(key=lambda track: (track[1][0].frame, track[1][0].box[0]))
    persons = group(
        [likeness(seen, chosen.high) for seen, _ in tracks],
        [(seen[0].frame, seen[-1].frame) for seen, _ in tracks],
        chosen.alike,
    )
    return [
        Track(number, tuple(faces), person=person)
        for number, ((_, faces), person) in enumerate(zip(tracks, persons, strict=True), 1)
    ]


def _shots(
    times: Sequence[float], size: tuple[int, int], camera: Float, cuts: Sequence[Change], high: float
) -> list[_Film]:
    edges = [Change(0, 0), *cuts, Change(len(times), len(times))]
    return [_Film(times, *size, camera, a.first, a.last, b.first, b.last, high) for a, b in pairwise(edges)]


def _by_shot(
    tracklets: Iterable[Tracklet], camera: Float, cuts: Sequence[Change], size: tuple[int, int]
) -> dict[int, list[list[Sighting]]]:
    """Shot -> its tracklets, parted at changes of shot, whole, in coordinates that stand still."""
    middles = [(cut.first + cut.last + 1) // 2 for cut in cuts]
    shots: dict[int, list[list[Sighting]]] = {}
    for tracklet in tracklets:
        for number, part in _parted(sorted(tracklet, key=lambda s: s.frame), cuts, middles):
            steady = [steadied(_whole(sighting, size), camera[sighting.frame]) for sighting in part]
            shots.setdefault(number, []).append(steady)
    return dict(sorted(shots.items()))


def _whole(sighting: Sighting, size: tuple[int, int]) -> Sighting:
    """A face that the picture's edge cuts goes on beyond it, to the proportions of a face: half a face misleads."""
    x0, y0, x1, y1 = sighting.detection.box
    near = _EDGE * max(x1 - x0, y1 - y0)
    left, top, right, bottom = x0 < near, y0 < near, x1 > size[0] - near, y1 > size[1] - near
    wider = max(0.0, _ASPECT * (y1 - y0) - (x1 - x0)) if left != right else 0.0
    higher = max(0.0, (x1 - x0) / _ASPECT - (y1 - y0)) if top != bottom else 0.0
    if not wider and not higher:
        return sighting
    box = (x0 - wider * left, y0 - higher * top, x1 + wider * right, y1 + higher * bottom)
    return replace(sighting, detection=replace(sighting.detection, box=box))


def _pieces(people: Iterable[list[Sighting]], times: Sequence[float]) -> tuple[list[list[Sighting]], list[int]]:
    """All parts, and which of them go on without a gap from the part before.

    Parted at gaps and where somebody jumps or turns on the spot: the tracker went on knowing one side, `_join` knows
    both.
    """
    pieces: list[list[Sighting]] = []
    going_on: list[int] = []
    for seen in people:
        gaps = {
            i
            for i in range(1, len(seen))
            if times[seen[i].frame] - times[seen[i - 1].frame] > _BROKEN and seen[i].frame - seen[i - 1].frame > 2
        }
        for a, b in pairwise([0, *sorted({*gaps, *partings(seen, times)}), len(seen)]):
            if a and a not in gaps:
                going_on.append(len(pieces))
            pieces.append(seen[a:b])
    return pieces, going_on


def _parted(
    ordered: Sequence[Sighting], cuts: Sequence[Change], middles: Sequence[int]
) -> list[tuple[int, list[Sighting]]]:
    """(shot, sightings): parted in the middle of each change, but not where all of one side lies within a dissolve."""
    parts: list[tuple[int, list[Sighting]]] = []
    for number, several in groupby(ordered, key=lambda s: bisect_right(middles, s.frame)):
        part = list(several)
        if parts and parts[-1][0] == number - 1:
            before, change = parts[-1][1], cuts[number - 1]
            comes, goes = before[0].frame >= change.first, part[-1].frame < change.last  # all of one side in it
            if comes or goes:
                new = comes and (not goes or len(part) > len(before))
                parts[-1] = (number if new else number - 1, before + part)
                continue
        parts.append((number, part))
    return parts


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
        fits = (i for i in met if _coincide(result[i], person, film) and _fits_in(result[i], person, film))
        index = next(fits, len(result))
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
    shared = [s for s in shorter if first <= s.frame <= last]
    if 2 * len(shared) < len(shorter):
        return False
    same = [_same(_between(longer, s.frame, film)[0], s.detection.box) for s in shared]
    return 2 * sum(same) > len(same)


def _fits_in(longer: list[Sighting], shorter: list[Sighting], film: _Film) -> bool:
    """May the way go there and back? Somebody else may well stand where a face that nobody saw is guessed to be."""
    first, last = shorter[0].frame, shorter[-1].frame
    if any(first <= s.frame <= last for s in longer):
        return True
    whole = sorted([*longer, *shorter], key=lambda s: s.frame)
    leaps = {whole[i].frame for i in jumps(whole, film.times)}
    after = next((s.frame for s in longer if s.frame > last), None)
    return not leaps & {first, after}


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


@dataclass(frozen=True, slots=True, order=True)
class _Bridge:
    cost: float
    a: int  # which ends
    b: int  # which begins
    sure: bool = field(compare=False)


def _join(
    people: list[list[Sighting]], going_on: Iterable[int], film: _Film, options: LinkOptions
) -> list[list[Sighting]]:
    """Chain tracklets end to start, the best agreement first; each end and each start is used once.

    `going_on`: who the tracker thought to be the one before in the list; so it stays where nobody else fits.
    """
    bridges = list(_bridges(people, film, options))
    follower = {bridge.a: bridge.b for bridge in _best(_judged(people, bridges))}
    follower |= {b - 1: b for b in going_on if _undisputed(b - 1, b, bridges, follower)}
    taken = set(follower.values())
    return [list(_chain(people, follower, start)) for start in range(len(people)) if start not in taken]


def _undisputed(a: int, b: int, bridges: Sequence[_Bridge], follower: dict[int, int]) -> bool:
    """Are this end and this start free, and does nothing else fit either as well as they fit each other?"""
    own = next((bridge.cost for bridge in bridges if (bridge.a, bridge.b) == (a, b)), float("inf"))
    rivals = [bridge.cost for bridge in bridges if (bridge.a == a) != (bridge.b == b)]
    return a not in follower and b not in follower.values() and all(cost > own + _RIVAL for cost in rivals)


def _doubted(people: list[list[Sighting]], film: _Film, options: LinkOptions) -> list[_Person]:
    """The same people; where two may be one person all the same, the gap between them is covered from both sides.

    An end that fits several starts goes to all of them: one of the ways is the true one.
    """
    before: dict[int, list[Sighting]] = {}
    after: dict[int, list[Sighting]] = {}
    for bridge in _bridges(people, film, options):
        after.setdefault(bridge.a, []).append(people[bridge.b][0])
        before.setdefault(bridge.b, []).append(people[bridge.a][-1])
    return [_Person(seen, tuple(before.get(i, ())), tuple(after.get(i, ()))) for i, seen in enumerate(people)]


def _best(bridges: Iterable[_Bridge]) -> list[_Bridge]:
    """Those beyond doubt, the cheapest first; each end and each start once."""
    left: set[int] = set()
    right: set[int] = set()
    chosen = []
    for bridge in sorted(bridges):
        if bridge.a in left or bridge.b in right or not bridge.sure:
            continue
        left.add(bridge.a)
        right.add(bridge.b)
        chosen.append(bridge)
    return chosen


def _judged(people: Sequence[list[Sighting]], bridges: Iterable[_Bridge]) -> Iterator[_Bridge]:
    """A bridge is in doubt where somebody else, who was there at the same time, fits nearly as well at either end."""
    several = list(bridges)
    by_a: dict[int, list[_Bridge]] = {}
    by_b: dict[int, list[_Bridge]] = {}
    for bridge in several:
        by_a.setdefault(bridge.a, []).append(bridge)
        by_b.setdefault(bridge.b, []).append(bridge)
    for bridge in several:
        rivals = [r for r in by_a[bridge.a] if _together(people[r.b], people[bridge.b]) and r is not bridge]
        rivals += [r for r in by_b[bridge.b] if _together(people[r.a], people[bridge.a]) and r is not bridge]
        yield replace(bridge, sure=bridge.sure and all(r.cost > bridge.cost + _RIVAL for r in rivals))


def _together(a: list[Sighting], b: list[Sighting]) -> bool:
    return a[0].frame <= b[-1].frame and b[0].frame <= a[-1].frame


def _chain(people: list[list[Sighting]], follower: dict[int, int], start: int) -> Iterator[Sighting]:
    at: int | None = start
    while at is not None:
        yield from people[at]
        at = follower.get(at)


def _bridges(people: list[list[Sighting]], film: _Film, options: LinkOptions) -> Iterator[_Bridge]:
    """Each pair that may be one person."""
    starts = sorted((film.times[p[0].frame], i) for i, p in enumerate(people))
    for a, person in enumerate(people):
        end = film.times[person[-1].frame]
        for start, b in islice(starts, bisect_left(starts, (end, -1)), None):
            longest = options.max_gap + _step(person[-1].frame, film)
            if start - end > _LONGER * longest:
                break
            if b != a and people[b][0].frame > person[-1].frame:
                agreed = _agreement(person, people[b], film)
                if agreed is not None:
                    cost, fits = agreed
                    sure = fits and start - end <= longest and not _turns_round(person, people[b], film)
                    yield _Bridge(cost, a, b, sure)


def _step(frame: int, film: _Film) -> float:
    """Seconds that a frame is shown, as far as that is not itself a pause: a gap of a second hides one frame more."""
    return min(film.times[min(frame + 1, len(film.times) - 1)] - film.times[frame], 0.1) + 1e-6


def _agreement(a: list[Sighting], b: list[Sighting], film: _Film) -> tuple[float, bool] | None:
    """How badly the end of `a` fits the start of `b`, and whether it fits well; None where it does not at all."""
    left, right = _reliable(a, film, at_end=True), _reliable(b, film, at_end=False)
    gap = film.times[right.frame] - film.times[left.frame]
    here, there = _middle(left.detection.box), _middle(right.detection.box)
    size_a, size_b = _side(left.detection.box), _side(right.detection.box)
    out, back = _trend(a, film, at_end=True), _trend(b, film, at_end=False)
    ways = [v * seconds for seconds in (_damped(gap), gap) for v in (out, back, (out + back) / 2)]
    apart = min(float(np.linalg.norm(there - here - way)) for way in (np.zeros(2), *ways))
    apart /= (size_a + size_b) / 2
    ratio = float(np.log2(size_b / size_a))
    growth = [_growth(a, film, at_end=True), _growth(b, film, at_end=False)]
    resized = min(abs(ratio - g * _damped(gap)) for g in (0.0, *growth, 2 * float(np.mean(growth))))
    alike = _alike(left.detection, right.detection)
    if apart > _FAR * (0.5 + 0.75 * gap) or resized > _FAR * (0.5 + 0.25 * gap):
        return None
    if alike is not None and alike < _STRANGE:
        return None
    fits = apart <= 0.5 + 0.75 * gap and resized <= 0.5 + 0.25 * gap
    turned = float(np.linalg.norm(out - back))
    cost = apart + resized + 0.5 * gap + _DAMPING * turned / ((size_a + size_b) / 2)
    return cost - (1.0 if alike is not None and alike >= _ACQUAINTED else 0.0), fits


def _reliable(person: list[Sighting], film: _Film, *, at_end: bool) -> Sighting:
    """The last or first sighting that was sure, if there is one near the end: the box of half a face misleads."""
    edge = person[-1 if at_end else 0]
    for sighting in reversed(person) if at_end else person:
        if abs(film.times[sighting.frame] - film.times[edge.frame]) > _TREND:
            break
        if sighting.detection.score >= film.high:
            return sighting
    return edge


def _alike(a: FaceDetection, b: FaceDetection) -> float | None:
    """Cosine of the embeddings, where both faces have one."""
    return float(a.embedding @ b.embedding) if a.embedding is not None and b.embedding is not None else None


def _turns_round(a: list[Sighting], b: list[Sighting], film: _Film) -> bool:
    """Did `a` go one way and `b` come the other, both so fast that they may well be two people who pass?

    At the picture's edge a slower pace is enough: there one goes out and the other comes in.
    """
    alike = _alike(a[-1].detection, b[0].detection)
    if alike is not None and alike >= _ACQUAINTED:
        return False
    if film.times[b[0].frame] - film.times[a[-1].frame] <= _BROKEN:
        return False  # seen all the time
    size = (_side(a[-1].detection.box) + _side(b[0].detection.box)) / 2
    out, back = _trend(a, film, at_end=True) / size, _trend(b, film, at_end=False) / size
    if float(out @ back) >= 0:
        return False
    edge = _at_edge(a[-1], film) and _at_edge(b[0], film)
    return min(float(np.linalg.norm(out)), float(np.linalg.norm(back))) > (_BRISK if edge else _FAST)


def _at_edge(sighting: Sighting, film: _Film) -> bool:
    """Within half a face of the picture's border."""
    box = filmed(sighting, film.camera[sighting.frame]).detection.box
    (x, y), near = _middle(box), _side(box)
    return not (near < x < film.width - near and near < y < film.height - near)


def _side(box: Box) -> float:
    return float(max(_area(box), 1.0) ** 0.5)


def _middle(box: Box) -> Float:
    return np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2], np.float32)


def _trend(person: list[Sighting], film: _Film, *, at_end: bool, over: float = _TREND) -> Float:
    """Velocity (2,) of the box's middle, pixels a second, over the last or first `over` seconds."""
    return _slope(person, film, _middle, 2, at_end=at_end, over=over)


def _growth(person: list[Sighting], film: _Film, *, at_end: bool) -> float:
    """How fast the face grows, doublings a second."""
    slope = _slope(person, film, lambda box: np.array([np.log2(_side(box))]), 1, at_end=at_end, over=_TREND)
    return float(np.clip(slope[0], -_FASTEST_GROWTH, _FASTEST_GROWTH))


def _slope(
    person: list[Sighting], film: _Film, value: Callable[[Box], Any], size: int, *, at_end: bool, over: float
) -> Float:
    """Change of `value` (size,) of the box a second, by least squares; 0 where there are too few sightings to say.

    Somebody who was seen twice since the last gap went on walking through it.
    """
    anchor = film.times[person[-1 if at_end else 0].frame]
    near: list[Sighting] = []
    for sighting in reversed(person) if at_end else person:
        if abs(film.times[sighting.frame] - anchor) > (over if len(near) >= 3 else _RECENTLY):
            break
        near.append(sighting)
    sure = [sighting for sighting in near if sighting.detection.score >= film.high]
    near = sure if len(sure) >= 3 else near
    if len(near) < 3:
        return np.zeros(size, np.float32)
    t = np.array([film.times[s.frame] for s in near])
    values = np.stack([value(s.detection.box) for s in near])
    t = t - t.mean()
    slope: Float = ((t[:, None] * (values - values.mean(0))).sum(0) / max(float((t**2).sum()), 1e-9)).astype(np.float32)
    return slope


def _damped(seconds: float) -> float:
    """Seconds' worth of motion after `seconds`, when speed decays exponentially."""
    return _DAMPING * (1 - float(np.exp(-seconds / _DAMPING)))


# -- faces nobody saw --------------------------------------------------------------------------------------------------


def _fill(person: _Person, film: _Film, options: LinkOptions) -> list[TrackedFace]:
    """Every frame from the first held face to the last one."""
    before = list(_hold(person, film, options, step=-1))[::-1]
    after = list(_hold(person, film, options, step=1))
    seen = list(_seen_and_between(person.seen, film))
    for a, b in _detours(person.seen, film, options):
        seen = [_passing(face, a, b, film) for face in seen]
    return [*before, *seen, *after]


def _detours(seen: list[Sighting], film: _Film, options: LinkOptions) -> Iterator[tuple[Sighting, Sighting]]:
    """Last and first sightings around a stretch that may be somebody else's, from a jump to a jump or to a gap's end.

    Somebody who is lost, and whose way takes up a few sightings of one who comes by, was not where those are.
    """
    parted = set(partings(seen, film.times))
    if not parted:
        return
    times = [film.times[s.frame] for s in seen]
    breaks = sorted({i for i in range(1, len(seen)) if times[i] - times[i - 1] > _BROKEN} | parted)
    for p, q in combinations(breaks, 2):
        near = times[q] - times[p - 1] <= options.max_gap + _step(seen[p - 1].frame, film)
        if near and parted & {p, q} and _agreement(seen[:p], seen[q:], film) is not None:
            yield seen[p - 1], seen[q]


def _passing(face: TrackedFace, a: Sighting, b: Sighting, film: _Film) -> TrackedFace:
    """The same face, its box wide enough for somebody who went straight from `a` to `b`."""
    if not a.frame < face.frame < b.frame:
        return face
    doubt = min(film.times[face.frame] - film.times[a.frame], film.times[b.frame] - film.times[face.frame])
    way = _grow(_between([a, b], face.frame, film)[0], doubt)
    return replace(face, box=_hull(face.box, _inside(_in_picture(way, face.frame, film), film)))


def _seen_and_between(person: list[Sighting], film: _Film) -> Iterator[TrackedFace]:
    for i, (a, b) in enumerate(pairwise(person)):
        yield _seen(a, film)
        bend = (
            _bend(person[max(0, i - 63) : i + 1], person[i + 1 : i + 65], film)
            if b.frame > a.frame + 1
            else np.zeros((2, 2), np.float32)
        )
        for frame in range(a.frame + 1, b.frame):
            box, points = _between([a, b], frame, film)
            passed, left = film.times[frame] - film.times[a.frame], film.times[b.frame] - film.times[frame]
            share = passed / max(passed + left, 1e-9)
            aside = (1 - share) * share * ((1 - share) * bend[0] - share * bend[1])
            box = _grow(_hull(box, _moved(box, aside)), min(passed, left))
            yield _guessed(frame, box, (points + aside / 2).astype(np.float32), Origin.INTERPOLATED, film)
    yield _seen(person[-1], film)


def _bend(before: list[Sighting], after: list[Sighting], film: _Film) -> Float:
    """(2, 2) pixels by which the speeds at both ends of a gap would lead away from the straight line across it.

    What a cubic Hermite spline has in excess of the line; nobody is led further than a few faces' sizes.
    """
    a, b = before[-1], after[0]
    gap = film.times[b.frame] - film.times[a.frame]
    if gap <= _BROKEN:
        return np.zeros((2, 2), np.float32)
    line = _middle(b.detection.box) - _middle(a.detection.box)
    speeds = _trend(before, film, at_end=True), _trend(after, film, at_end=False)
    most = _ASTRAY * (_side(a.detection.box) + _side(b.detection.box)) / 2
    bends = np.stack([speed * gap - line for speed in speeds])
    length = np.linalg.norm(bends, axis=1, keepdims=True)
    shortened: Float = (bends * np.minimum(1.0, most / np.maximum(length, 1e-6))).astype(np.float32)
    return shortened


def _seen(sighting: Sighting, film: _Film) -> TrackedFace:
    """Where it was seen, in pixels of the picture again. A repeated sighting was not looked at: it is a guess."""
    there = filmed(sighting, film.camera[sighting.frame])
    found, box = there.detection, _inside(there.detection.box, film)
    if not sighting.looked:
        return TrackedFace(
            sighting.frame, box, found.points, Origin.INTERPOLATED, 0.0, sighting.landmarks, sighting.tone
        )
    return TrackedFace(
        sighting.frame, box, found.points, Origin.DETECTED, found.score, sighting.landmarks, sighting.tone
    )


def _guessed(frame: int, box: Box, points: Float, origin: Origin, film: _Film) -> TrackedFace:
    view = film.camera[frame]
    there = (view[2] * points + view[:2]).astype(np.float32)
    return TrackedFace(frame, _inside(_in_picture(box, frame, film), film), there, origin, 0.0)


def _in_picture(box: Box, frame: int, film: _Film) -> Box:
    """From coordinates that stand still to pixels of a frame."""
    view = film.camera[frame]
    return _box(view[2] * np.array(box) + np.tile(view[:2], 2))


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


def _hold(person: _Person, film: _Film, options: LinkOptions, *, step: int) -> Iterator[TrackedFace]:
    """Faces before the first (`step` -1) or after the last (1) sighting, outward, until shot, picture or time end.

    Where somebody who may be the same person stands on the other side of a gap, the way there is covered up to its
    middle as well.
    """
    edge, others = (person.seen[-1], person.after) if step > 0 else (person.seen[0], person.before)
    motion, sure = _Motion.of(person.seen, film, step), _reliable(person.seen, film, at_end=step > 0)
    before = abs(film.times[edge.frame] - film.times[sure.frame])
    longest = max(_longest(person.seen, film, options, step), _leaving(edge, motion, film, options, step))
    for frame in range(edge.frame + step, film.end if step > 0 else film.start - 1, step):
        passed = abs(film.times[frame] - film.times[edge.frame])
        towards = [o for o in others if abs(frame - edge.frame) <= (abs(o.frame - edge.frame) + 1) // 2]
        if not (towards or passed <= longest + 1e-6 or _fades(edge.frame, frame, longest, film)):
            return
        box, points = motion.guess(edge.detection, passed)
        if sure is not edge:
            box = _hull(box, motion.guess(sure.detection, before + passed)[0])
        for other in towards:
            near, points = _between(sorted([edge, other], key=lambda s: s.frame), frame, film)
            box = _hull(box, _grow(near, passed))
        if not towards and _clip(_in_picture(box, frame, film), film) is None:
            return
        yield _guessed(frame, box, points, Origin.HELD, film)


def _longest(seen: list[Sighting], film: _Film, options: LinkOptions, step: int) -> float:
    """Seconds to hold. Where the shot begins or ends within a gap's length, that is a gap with one end, and covered."""
    edge = seen[-1 if step > 0 else 0].frame
    border = min(film.fading, film.end - 1) if step > 0 else min(film.alone, edge)
    left = abs(film.times[min(border, len(film.times) - 1)] - film.times[edge])
    if options.hold == 0 or len(seen) < _LASTING or left > options.max_gap + _step(edge, film):
        return options.hold
    return max(options.hold, left)


def _leaving(edge: Sighting, motion: _Motion, film: _Film, options: LinkOptions, step: int) -> float:
    """Seconds until somebody who moves on like this, or from whom the camera turns, is out of the picture; 0: stays.

    The picture's edge is the other end of such a gap.
    """
    if options.hold == 0:
        return 0.0
    here = _middle(edge.detection.box)
    for frame in range(edge.frame + step, film.end if step > 0 else film.start - 1, step):
        passed = abs(film.times[frame] - film.times[edge.frame])
        if passed > options.max_gap + _step(edge.frame, film):
            return 0.0
        view = film.camera[frame]
        x, y = view[2] * (here + motion.speed * passed) + view[:2]
        if not (0 <= x < film.width and 0 <= y < film.height):
            return options.max_gap
    return 0.0


@dataclass(frozen=True, slots=True, eq=False)
class _Motion:
    """How somebody moved when last seen (or first, backwards)."""

    speed: Float  # (2,) pixels a second, outward in time
    lately: Float  # (2,) the same over a shorter time
    growth: float  # doublings of size a second; never shrinking

    @classmethod
    def of(cls, seen: list[Sighting], film: _Film, step: int) -> _Motion:
        """At the end (`step` 1) or the start (-1) of `seen`."""
        at_end = step > 0
        speed, lately = (_trend(seen, film, at_end=at_end, over=over) * step for over in (_TREND, _LATELY))
        return cls(speed, lately, max(0.0, _growth(seen, film, at_end=at_end) * step))

    def guess(self, last: FaceDetection, passed: float) -> tuple[Box, Float]:
        """A box that holds the face whether it stopped, went on or hurried, and the points where it probably is."""
        shift = self.speed * _damped(passed)
        box = _moved(last.box, shift)
        for faster in (self.speed * passed, self.lately * passed):
            box = _hull(box, _moved(last.box, faster))
        return _grow(box, passed, self.growth), (last.points + shift).astype(np.float32)


def _moved(box: Box, by: Float) -> Box:
    return _box(np.array(box) + np.tile(by, 2))


def _fades(edge: int, frame: int, longest: float, film: _Film) -> bool:
    """Does a dissolve go on in which the face was still seen or held? A face that shines through shows."""
    ahead = film.times[max(film.fading - 1, edge)] - film.times[edge]
    behind = film.times[edge] - film.times[min(film.alone, edge)]
    return (ahead if frame >= edge else behind) <= longest + 1e-6


def _grow(box: Box, doubt: float, growth: float = 0.0) -> Box:
    """The longer (seconds) since the face was seen, the more room around the guess; `growth`: doublings a second."""
    factor = (_GROWTH * min(1.0, doubt / 0.5) + 2 ** (growth * min(doubt, 0.5)) - 1) / 2
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
