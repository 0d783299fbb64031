"""Light and tone in twenty-seven numbers: what they tell, what they do not, and what hides it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from revisage.models import layout, tone
from revisage.models.conditioning import FACE_TEMPLATE, face_mask, standard_landmarks
from revisage.pipeline.types import Float, Image

SIZE = 128
POINTS = standard_landmarks(np.asarray(FACE_TEMPLATE.points, np.float32) * SIZE - 0.5)


def face(skin: tuple[float, float, float], slope: float = 0.0) -> Image:
    """A face of one colour in linear light, brighter to the viewer's right by `slope`, before a green wall."""
    x = (np.arange(SIZE, dtype=np.float32) - SIZE / 2) / (SIZE / 4)
    light = np.asarray(skin, np.float32) * np.exp(slope * x)[None, :, None] * np.ones((SIZE, 1, 1), np.float32)
    picture = np.clip(np.rint(tone.encoded(light)), 0, 255).astype(np.uint8)
    picture[face_mask(POINTS, SIZE, dilate=0.1) == 0] = (20, 160, 40)
    return picture


def read(picture: Image) -> Float:
    found = tone.read(picture, POINTS)
    assert found is not None
    return found


def test_light_is_undone_and_done() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    np.testing.assert_allclose(tone.encoded(tone.linear(levels)), levels, atol=0.02)
    assert tone.linear(np.full((1, 1, 3), 188, np.uint8))[0, 0, 0] == pytest.approx(0.503, abs=0.002)


@pytest.mark.parametrize("skin", [(0.5, 0.32, 0.25), (0.06, 0.035, 0.025)])
def test_a_tone_gives_back_the_colour_and_the_lit_side(skin: tuple[float, float, float]) -> None:
    found = read(face(skin, 0.3))
    surface = tone.surface(found, POINTS, SIZE)
    seen = tone.linear(face(skin, 0.3))
    where = tone.skin(POINTS, SIZE)
    np.testing.assert_allclose(surface[where], seen[where], rtol=0.15)
    assert surface[70, 84].mean() > 1.15 * surface[70, 44].mean()


def test_walls_brows_and_eyes_say_nothing_of_skin() -> None:
    plain = face((0.3, 0.2, 0.15))
    changed = plain.copy()
    changed[face_mask(POINTS, SIZE, dilate=0.0) == 0] = 0
    for part in (layout.BROW_LEFT, layout.EYE_RIGHT, layout.LIPS_OUTER):
        hull = cv2.convexHull(POINTS[part]).astype(np.int32)
        cv2.fillConvexPoly(changed, hull, (255, 0, 255))
    np.testing.assert_allclose(read(changed), read(plain), atol=0.03)


def test_a_strand_of_hair_decides_little() -> None:
    plain, hairy = face((0.3, 0.2, 0.15)), face((0.3, 0.2, 0.15))
    hairy[:, 40:46] = (15, 12, 10)
    assert np.abs(tone.mean_colour(read(hairy)) / tone.mean_colour(read(plain)) - 1).max() < 0.1


def test_no_skin_no_tone() -> None:
    assert tone.read(face((0.3, 0.2, 0.1)), POINTS, np.array([[0, 0], [3, 3]], np.float32)) is None


def test_sharpness_falls_when_a_film_is_soft() -> None:
    rng = np.random.default_rng(0)
    side, points = tone.SHARP_SIDE, (POINTS + 0.5) * (tone.SHARP_SIDE / SIZE) - 0.5
    grainy = np.float32(4.8) + rng.normal(0, 0.03, (side, side)).astype(np.float32)
    sharp, soft = (tone.sharpness(cv2.GaussianBlur(grainy, (0, 0), s), points) for s in (0.3, 1.5))
    assert (sharp > soft).all() and sharp[0] - soft[0] > 1.5


def test_colours_are_those_of_the_standard() -> None:
    np.testing.assert_allclose(tone.lab(np.ones(3, np.float32)), (100, 0, 0), atol=0.1)
    np.testing.assert_allclose(tone.lab(np.array([1, 0, 0], np.float32)), (53.24, 80.09, 67.2), atol=0.3)
