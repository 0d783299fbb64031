"""The new face's proportions: what they change, and what they must leave alone."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from revisage.models import layout
from revisage.models.conditioning import FACE_TEMPLATE, standard_landmarks
from revisage.models.proportions import Proportions, departure, reshaped
from revisage.pipeline import geometry
from revisage.pipeline.types import Float

NAMES = [field.name for field in fields(Proportions)]


def some(seed: int) -> Proportions:
    """Any proportions."""
    rng = np.random.default_rng(seed)
    return Proportions(**{name: float(rng.uniform(-0.08, 0.12)) for name in NAMES})


@pytest.fixture
def face() -> Float:
    points = standard_landmarks(np.asarray(FACE_TEMPLATE.points, np.float32) * 128)
    points[layout.LIPS_INNER, 1] += np.where(np.arange(20) < 10, 2.0, -2.0).astype(np.float32)  # an open mouth
    return points


def test_no_change_wanted_is_no_change(face: Float) -> None:
    np.testing.assert_allclose(reshaped(face, Proportions()), face, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_each_proportion_moves_its_part_and_grows_with_it(face: Float, name: str) -> None:
    amount = 0.06
    moved = [np.abs(reshaped(face, replace(Proportions(), **{name: a})) - face).sum() for a in (amount, 2 * amount)]
    assert 0 < moved[0] < moved[1]


def test_eyes_stay_where_they_are(face: Float) -> None:
    found = reshaped(face, some(0))
    np.testing.assert_allclose(found[layout.EYE_CENTRES], face[layout.EYE_CENTRES], atol=1e-4)


def test_openings_keep_their_time(face: Float) -> None:
    rng, wanted = np.random.default_rng(1), some(1)
    film = np.repeat(face[None], 20, axis=0)
    gaps = rng.uniform(0, 8, 20).astype(np.float32)
    film[:, layout.LIP_BOTTOM, 1] += gaps
    film[:, layout.LID_BOTTOM_LEFT, 1] += gaps / 4
    shown = np.stack([reshaped(points, wanted) for points in film])
    assert np.corrcoef(layout.mouth_opening(film), layout.mouth_opening(shown))[0, 1] > 0.99
    assert np.corrcoef(layout.eye_opening(film), layout.eye_opening(shown))[0, 1] > 0.99


def test_they_turn_and_grow_with_the_face(face: Float) -> None:
    wanted = some(2)
    turned = np.array([[1.2, -1.1, 40], [1.1, 1.2, -9]], np.float32)
    there = reshaped(geometry.transform(face, turned), wanted)
    np.testing.assert_allclose(there, geometry.transform(reshaped(face, wanted), turned), atol=0.02)


@pytest.mark.parametrize("name", NAMES)
def test_what_an_actor_has_is_read_and_given(face: Float, name: str) -> None:
    actor = reshaped(face, replace(Proportions(), **{name: 0.06}))
    found = departure(actor, face, 1.0)
    assert getattr(found, name) == pytest.approx(0.06, rel=0.35)
    others = [abs(getattr(found, other)) for other in NAMES if other != name]
    assert max(others) < 0.05


def test_nobody_departs_further_than_people_do_and_jaws_hardly_shrink(face: Float) -> None:
    wide, narrow = (departure(reshaped(face, Proportions(jaw_width=by)), face, 1.0) for by in (0.6, -0.3))
    assert wide.jaw_width == pytest.approx(0.16)
    assert narrow.jaw_width == pytest.approx(-0.16 * 0.4)
    assert departure(face, face, 1.0) == departure(face, face, 0.0)


def test_a_broad_smile_is_not_made_broader_and_little_narrower(face: Float) -> None:
    def width(points: Float) -> float:
        return float(np.ptp(points[layout.LIPS_OUTER, 0])) / float(layout.interocular(points))

    lips = np.r_[layout.LIPS_OUTER, layout.LIPS_INNER]
    smiles = []
    for stretch in np.linspace(1.0, 2.0, 21):
        smile = face.copy()
        smile[lips, 0] = smile[lips, 0].mean() + (smile[lips, 0] - smile[lips, 0].mean()) * stretch
        smiles.append(smile)
    before = np.array([width(smile) for smile in smiles])
    wider, narrower = (
        np.array([width(reshaped(smile, Proportions(mouth_width=by))) for smile in smiles]) for by in (0.17, -0.17)
    )
    assert before[0] < 0.8 and before[-1] > 1.1
    np.testing.assert_allclose(wider[before < 0.78], 1.17 * before[before < 0.78], rtol=1e-3)
    np.testing.assert_allclose(wider[before > 1.03], before[before > 1.03], rtol=1e-3)
    np.testing.assert_allclose(narrower[before < 0.78], 0.83 * before[before < 0.78], rtol=1e-3)
    np.testing.assert_allclose(narrower[before > 1.03], (1 - 0.17 * 0.3) * before[before > 1.03], rtol=1e-3)
    assert (np.diff(wider) > 0).all() and (np.diff(narrower) > 0).all(), "who smiles more smiles more"
