"""Closing the eyes of a picture: landmarks and pixels agree, and nothing but the eyes' surroundings moves."""

from __future__ import annotations

import numpy as np

from revisage.models import layout
from revisage.models.conditioning import FACE_TEMPLATE, standard_landmarks
from revisage.models.train.blink import blinked
from revisage.pipeline.types import Float, Image

SIZE = 112


def face() -> tuple[Image, Float]:
    """Grey skin with white eyes."""
    points = standard_landmarks(np.asarray(FACE_TEMPLATE.points, np.float32) * 1.4 * SIZE - 0.2 * SIZE)
    picture = np.full((SIZE, SIZE, 3), 120, np.uint8)
    for x, y in points[layout.EYE_CENTRES]:
        picture[round(y) - 1 : round(y) + 2, round(x) - 3 : round(x) + 4] = 255
    return picture, points


def test_an_open_eye_stays_as_it_is() -> None:
    picture, points = face()
    same, moved = blinked(picture, points, 0.0)
    np.testing.assert_allclose(moved, points, atol=0.02)
    assert np.abs(same.astype(int) - picture).mean() < 0.5


def test_a_shut_eye_shows_no_white_and_its_lids_meet() -> None:
    picture, points = face()
    assert layout.eye_opening(points) > 0.1
    half, _ = blinked(picture, points, 0.5)
    shut, moved = blinked(picture, points, 1.0)
    assert layout.eye_opening(moved) < 1e-5
    white = [(p > 180).sum() for p in (picture, half, shut)]
    assert white[0] > white[1] > white[2] == 0
    eyes = [*range(layout.EYE_LEFT.start, layout.EYE_RIGHT.stop), *range(layout.LANDMARK_COUNT)[layout.EYE_CENTRES]]
    others = np.setdiff1d(np.arange(layout.LANDMARK_COUNT), eyes)
    np.testing.assert_array_equal(moved[others], points[others])
    below = slice(int(points[layout.NOSE_TIP, 1]) + 2, None)
    np.testing.assert_array_equal(shut[below], picture[below])
