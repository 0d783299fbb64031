"""Which actor each person of a film gets: named by the key, near the film's tone, nobody twice. Knows no pixel.

A key names an actor for every `draw`; the first of its draws that fits is taken, and written down in the plan and the
index as a number, which says nothing without the key. So the same key and film give the same cast, `--redraw` takes the
next one that fits, and two keys have casts of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count

import numpy as np

from revisage.models import tone
from revisage.models.base import Casting
from revisage.models.cast import TONES, tone_class
from revisage.models.latents import named
from revisage.pipeline.errors import PlanError
from revisage.pipeline.types import Float, Plan, Track

REACH = 11.0  # CIE L*: an actor further off needs more correction than skin bears
HUE = 16.0  # the same for distances in a* and b*
_TRIES = 6  # draws for each actor there is: the chance to miss one is e^-6
AGES = {f"{decade}s": (decade, decade + 10) for decade in range(10, 100, 10)}
SEXES = {"woman": "female", "man": "male"}
SKINS = tuple(name.replace(" ", "-") for name in TONES)


def assign(plan: Plan, code: Callable[[Track], Float], cast: Sequence[Casting]) -> Plan:
    """`plan` with, for each person, the first `draw`, from the one it has, whose actor fits.

    `code` gives a track's identity code by its `draw`. Wishes that nobody in the cast fulfils are a PlanError.
    """
    if not cast:
        return plan
    used: set[int] = set()
    draws: dict[int, int] = {}
    for role in _people(plan):
        fit = _fitting(role, cast)
        draw = _first(role[0], code, cast, fit, used)
        used.add(named(code(replace(role[0], draw=draw)), len(cast)))
        draws |= {track.id: draw for track in role}
    return replace(plan, tracks=tuple(replace(t, draw=draws.get(t.id, t.draw)) for t in plan.tracks))


def candidates(plan: Plan, track: Track, code: Callable[[Track], Float], cast: Sequence[Casting]) -> Iterator[int]:
    """The draws of `track`, from the one it has, whose actors fit and play nobody else in `plan`; endless without a
    cast, where any draw is another face."""
    if not cast:
        yield from count(track.draw)
    mine = plan.with_same_people([track.id])
    role = [other for other in plan.tracks if other.id in mine]
    others = (other for other in plan.tracks if other.id not in mine and not other.keep)
    used = {named(code(other), len(cast)) for other in others}
    fit = _fitting(role, cast)
    for draw in range(track.draw, track.draw + _TRIES * len(cast)):
        actor = named(code(replace(track, draw=draw)), len(cast))
        if actor in fit.near and actor not in used:
            used.add(actor)
            yield draw


def wishes(words: Iterable[str]) -> tuple[str, ...]:
    """`words` as a plan has them. Raises PlanError for one that means nothing here."""
    chosen = tuple(word.strip().lower() for word in words if word.strip())
    for word in chosen:
        if word not in SEXES and word not in AGES and word not in SKINS:
            known = ", ".join((*SEXES, "20s to 80s", *SKINS))
            raise PlanError(f"nobody can be cast as {word!r}: choose from {known}")
    return chosen


def filmed_lab(tracks: Iterable[Track]) -> Float | None:
    """(3,) CIE L*, a*, b* of the skin over all faces of `tracks`, the median; None where no tone was read."""
    tones = [face.tone for track in tracks for face in track.faces if face.tone is not None]
    return None if not tones else tone.lab(tone.mean_colour(np.median(np.stack(tones), axis=0)))


@dataclass(frozen=True, slots=True, eq=False)
class _Fit:
    """How well each actor fits one person."""

    may: frozenset[int]  # the wishes are met
    near: frozenset[int]  # and so is the tone
    distance: Float  # (N,), of the tone


def _people(plan: Plan) -> list[list[Track]]:
    people: dict[tuple[bool, int], list[Track]] = {}
    for track in plan.tracks:
        if not track.keep:
            people.setdefault((track.person is None, track.person or track.id), []).append(track)
    return list(people.values())


def _fitting(role: Sequence[Track], cast: Sequence[Casting]) -> _Fit:
    like = wishes(word for track in role for word in track.like)
    may = frozenset(i for i, actor in enumerate(cast) if all(_is(actor, word) for word in like))
    if not may:
        raise PlanError(f"nobody in the cast is {' and '.join(like)}; leave a word of the wish away")
    lab = filmed_lab(role)
    if lab is None:
        return _Fit(may, may, np.zeros(len(cast), np.float32))
    off = np.abs(np.array([actor.lab for actor in cast], np.float32) - lab)
    distance = np.maximum(off[:, 0] / REACH, np.hypot(off[:, 1], off[:, 2]) / HUE)
    if any(word in SKINS for word in like):
        return _Fit(may, may, distance)
    return _Fit(may, frozenset(i for i in may if distance[i] <= 1), distance)


def _is(actor: Casting, word: str) -> bool:
    if word in SEXES:
        return actor.sex == SEXES[word]
    if word in AGES:
        low, high = AGES[word]
        return low <= actor.age < high
    return tone_class(float(actor.lab[0])) == word.replace("-", " ")


def _first(track: Track, code: Callable[[Track], Float], cast: Sequence[Casting], fit: _Fit, used: set[int]) -> int:
    """The first draw whose actor is new, allowed and near; else the nearest that is new; else that is allowed."""
    best = (np.inf, track.draw)
    for draw in range(track.draw, track.draw + _TRIES * len(cast)):
        actor = named(code(replace(track, draw=draw)), len(cast))
        if actor not in fit.may:
            continue
        if actor in fit.near and actor not in used:
            return draw
        best = min(best, (float(fit.distance[actor]) + (1000 if actor in used else 0), draw))
    return best[1]
