"""Lids and lips move more, and nothing else does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from revisage.models import layout
from revisage.models.conditioning import FACE_TEMPLATE, standard_landmarks
from revisage.pipeline.expression import MURMUR, SMALL, expressive
from revisage.pipeline.types import Float, Origin, Track, TrackedFace

OPEN = standard_landmarks(np.asarray(FACE_TEMPLATE.points, np.float32) * 128)
LIVELY = [*range(layout.EYE_LEFT.start, layout.EYE_RIGHT.stop), *range(layout.LIPS_OUTER.start, layout.LIPS_INNER.stop)]


def shut(share: float) -> Float:
    """The average face with its upper lids down by `share`."""
    face = OPEN.copy()
    for eye in (layout.EYE_LEFT, layout.EYE_RIGHT):
        lower = np.arange(eye.start + 1, eye.start + 8)
        upper = eye.start + eye.stop - lower
        face[upper] += (face[lower] - face[upper]) * np.float32(share)
    return face


def track(shapes: list[Float | None]) -> Track:
    first = TrackedFace(0, (0.0, 0.0, 128.0, 128.0), layout.five_points(OPEN), Origin.DETECTED, 0.9)
    return Track(1, tuple(replace(first, frame=i, landmarks=shape) for i, shape in enumerate(shapes)))


def of(made: Track) -> Float:
    shapes = [face.landmarks for face in made.faces]
    return np.stack([shape for shape in shapes if shape is not None])


def test_a_blink_shuts_further_and_eyes_that_rest_stay() -> None:
    made = of(expressive(track([shut(0.0)] * 8 + [shut(0.4)] + [shut(0.0)] * 3)))
    before, after = layout.eye_opening(shut(0.4)), layout.eye_opening(made[8])
    assert after < 0.7 * before
    np.testing.assert_allclose(layout.eye_opening(made[0]), layout.eye_opening(OPEN), rtol=1e-4)


def test_lids_never_cross() -> None:
    made = of(expressive(track([shut(0.0)] * 8 + [shut(0.97)])))[8]
    for lower in range(layout.EYE_LEFT.start + 1, layout.EYE_LEFT.start + 8):
        upper = layout.EYE_LEFT.start + layout.EYE_LEFT.stop - lower
        assert made[upper, 1] <= made[lower, 1] + 1e-3


def gaping(pixels: float) -> Float:
    """The average face with its lips apart by `pixels`."""
    face = OPEN.copy()
    upper, lower = layout.facing(layout.LIPS_INNER)
    face[lower] = face[upper] + np.float32([0, pixels])
    return face


def test_a_mouth_as_open_as_usual_stays_so_and_a_shut_one_stays_shut() -> None:
    made = of(expressive(track([gaping(8), gaping(8), gaping(0)])))
    np.testing.assert_allclose(made[0], gaping(8), atol=1e-4)
    np.testing.assert_allclose(made[2], gaping(0), atol=1e-4)


def test_a_murmur_is_said_more_plainly_than_a_shout() -> None:
    unit = float(layout.interocular(OPEN))
    rest, little, much = 4.0, 4.0 + SMALL * unit / 10, 4.0 + 20.0
    made = layout.mouth_opening(of(expressive(track([gaping(rest)] * 5 + [gaping(little), gaping(much)]))))
    told = (made[5] - made[0]) / ((little - rest) / unit)
    assert told == pytest.approx(1 + MURMUR, rel=0.02)
    assert made[6] - made[0] == pytest.approx(20 / unit + MURMUR * SMALL, rel=0.01)


def test_nothing_else_moves_and_what_has_no_landmarks_is_left_alone() -> None:
    made = expressive(track([shut(0.0), shut(0.5), None]))
    rest = np.setdiff1d(np.arange(layout.CONTOUR_COUNT), LIVELY)
    np.testing.assert_array_equal(of(made)[1][rest], shut(0.5)[rest])
    assert made.faces[2].landmarks is None
    assert [face.box for face in made.faces] == [face.box for face in track([None] * 3).faces]
