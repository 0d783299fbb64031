"""Who is cast: by the key, near the film's tone, nobody twice, and as the user wishes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import islice

import numpy as np
import pytest

from revisage.models.latents import named
from revisage.models.tone import lab
from revisage.pipeline.actors import REACH, assign, candidates, filmed_lab, wishes
from revisage.pipeline.errors import PlanError
from revisage.pipeline.types import Float, Origin, Plan, Track, TrackedFace, VideoInfo


@dataclass(frozen=True)
class Known:
    """What casting knows of an actor."""

    name: str
    lab: Float = field(compare=False)
    sex: str = "female"
    age: int = 30


CAST = tuple(
    Known(f"actor-{i}", np.array([20 + i, 14, 18], np.float32), ("female", "male")[i % 2], 20 + i) for i in range(60)
)


def track(number: int, level: float, **wishes_: object) -> Track:
    tone = np.zeros((9, 3), np.float32)
    tone[0] = np.log(np.array([1.0, 0.72, 0.55]) * level)
    face = TrackedFace(0, (0, 0, 50, 50), np.zeros((5, 2), np.float32), Origin.DETECTED, 1.0, None, tone)
    return Track(number, (face,), **wishes_)  # type: ignore[arg-type]


def plan(*tracks: Track) -> Plan:
    return Plan(VideoInfo(64, 64, Fraction(1), "yuv420p", 1, "0" * 64), tracks, "none", (0,))


def code_of(key: int):  # type: ignore[no-untyped-def]
    def code(one: Track) -> Float:
        return np.random.default_rng([key, one.person or one.id, one.draw]).standard_normal(64).astype(np.float32)

    return code


def actors(made: Plan, key: int) -> list[int]:
    return [named(code_of(key)(one), len(CAST)) for one in made.tracks]


def test_everybody_gets_somebody_of_about_their_tone_and_nobody_twice() -> None:
    crowd = plan(*(track(i + 1, 0.3) for i in range(8)))
    lightness = float(lab(np.array([1.0, 0.72, 0.55], np.float32) * 0.3)[0])
    for key in range(6):
        chosen = actors(assign(crowd, code_of(key), CAST), key)
        assert len(set(chosen)) == 8
        assert all(abs(CAST[i].lab[0] - lightness) <= REACH for i in chosen)


def test_the_same_key_gives_the_same_cast_and_other_keys_others() -> None:
    crowd = plan(track(1, 0.3), track(2, 0.1))
    casts = [tuple(actors(assign(crowd, code_of(key), CAST), key)) for key in range(20)]
    assert casts[0] == tuple(actors(assign(crowd, code_of(0), CAST), 0))
    assert len(set(casts)) > 15


def test_what_fits_stays_and_the_next_draw_is_another_actor() -> None:
    first = assign(plan(track(1, 0.3)), code_of(1), CAST)
    assert assign(first, code_of(1), CAST).tracks[0].draw == first.tracks[0].draw
    further = replace(first, tracks=(replace(first.tracks[0], draw=first.tracks[0].draw + 1),))
    again = assign(further, code_of(1), CAST)
    assert again.tracks[0].draw > first.tracks[0].draw
    tried = list(islice(candidates(first, first.tracks[0], code_of(1), CAST), 5))
    assert tried[0] == first.tracks[0].draw and len(set(tried)) == 5


def test_tracks_of_a_person_share_an_actor_and_kept_ones_have_none() -> None:
    made = assign(plan(track(1, 0.3, person=4), track(2, 0.3, person=4), track(3, 0.3, keep=True)), code_of(2), CAST)
    chosen = actors(made, 2)
    assert chosen[0] == chosen[1]
    assert made.tracks[2].draw == 0


@pytest.mark.parametrize(
    ("word", "fits"), [("woman", lambda a: a.sex == "female"), ("40s", lambda a: 40 <= a.age < 50)]
)
def test_wishes_are_met(word: str, fits) -> None:  # type: ignore[no-untyped-def]
    for key in range(8):
        made = assign(plan(track(1, 0.3, like=(word,))), code_of(key), CAST)
        assert fits(CAST[actors(made, key)[0]])


def test_a_wish_for_a_tone_overrules_the_films() -> None:
    made = assign(plan(track(1, 0.5, like=("very-dark",))), code_of(3), CAST)
    assert CAST[actors(made, 3)[0]].lab[0] < 46


def test_what_nobody_is_and_what_means_nothing_is_said() -> None:
    with pytest.raises(PlanError, match="nobody in the cast is woman and 10s"):
        assign(plan(track(1, 0.3, like=("woman", "10s"))), code_of(0), CAST)
    with pytest.raises(PlanError, match="choose from woman, man"):
        wishes(["clown"])
    assert wishes(["Woman", " 50s"]) == ("woman", "50s")


def test_without_a_cast_nothing_changes_and_without_a_tone_anybody_fits() -> None:
    one = plan(track(1, 0.3))
    assert assign(one, code_of(0), ()) is one
    toneless = plan(replace(one.tracks[0], faces=tuple(replace(f, tone=None) for f in one.tracks[0].faces)))
    assert filmed_lab(toneless.tracks) is None
    assert assign(toneless, code_of(0), CAST).tracks[0].draw == 0


def test_a_code_names_the_same_actor_when_it_is_rounded_and_all_are_as_likely() -> None:
    codes = np.random.default_rng(0).standard_normal((6000, 64)).astype(np.float32)
    found = [named(code, 60) for code in codes]
    rounded = [named(np.round(code, 2), 60) for code in codes]
    assert np.mean(np.array(found) != rounded) < 0.004
    counts = np.bincount(found, minlength=60)
    assert counts.min() > 40 and counts.max() < 190
