"""A face keeps its tone when skin comes into view, and follows the light."""

from __future__ import annotations

import numpy as np
import pytest

from revisage.models.base import FaceRequest
from revisage.models.conditioning import FACE_TEMPLATE, REMOVED, face_mask, standard_landmarks
from revisage.pipeline.steady import Steady
from revisage.pipeline.types import Image

SIZE = 96


def request(light: float = 1.0, hand: bool = False) -> FaceRequest:
    """A face in front of a patterned wall, and a bright hand below it."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    wall = 90 + 30 * np.sin(rows / 7) * np.cos(columns / 9)
    background = np.repeat(wall[..., None], 3, axis=2)
    if hand:
        background[SIZE - 20 :, : SIZE // 2] = (230, 190, 170)
    landmarks = standard_landmarks(np.asarray(FACE_TEMPLATE.points, np.float32) * SIZE - 0.5)
    mask = face_mask(landmarks, SIZE)
    seen = np.clip(background * light, 0, 255).astype(np.uint8)
    seen[mask > 0] = REMOVED
    return FaceRequest(seen, mask, landmarks, np.zeros(8, np.float32), np.zeros((3, SIZE, SIZE), np.float32))


def painted(tone: float) -> Image:
    return np.full((SIZE, SIZE, 3), (tone, 0.8 * tone, 0.7 * tone), np.uint8)


def middle(picture: Image) -> float:
    return float(picture[SIZE // 2 - 8 : SIZE // 2 + 8, SIZE // 2 - 8 : SIZE // 2 + 8, 0].mean())


def test_a_hand_in_view_does_not_recolour_the_face() -> None:
    steady = Steady()
    first = steady(1, 0.0, painted(110), request())
    assert middle(first) == 110
    tones = [middle(steady(1, n / 25, painted(160), request(hand=True))) for n in range(1, 21)]
    assert abs(tones[0] - 110) <= 3
    assert max(np.abs(np.diff(tones))) <= 2
    assert tones[-1] > 118  # it does follow, slowly
    tones = [middle(steady(1, 1 + n / 25, painted(110), request())) for n in range(1, 3)]
    assert tones[0] > 118


def test_light_on_everything_is_followed_at_once() -> None:
    steady = Steady()
    steady(1, 0.0, painted(110), request())
    assert middle(steady(1, 0.04, painted(77), request(light=0.7))) == pytest.approx(77, abs=3)
    assert middle(steady(1, 0.08, painted(110), request())) == pytest.approx(110, abs=4)


def test_tracks_do_not_share_a_tone_and_time_forgets() -> None:
    steady = Steady()
    steady(1, 0.0, painted(60), request())
    assert middle(steady(2, 0.04, painted(180), request())) == 180
    assert middle(steady(1, 60.0, painted(90), request())) == pytest.approx(90, abs=1)


def test_a_crop_without_surroundings_keeps_its_tone() -> None:
    steady, nothing = Steady(), request()
    blind = FaceRequest(
        np.full_like(nothing.background, REMOVED), np.full_like(nothing.mask, 255), nothing.landmarks,
        nothing.code, nothing.noise,
    )  # fmt: skip
    steady(1, 0.0, painted(110), blind)
    assert abs(middle(steady(1, 0.04, painted(150), blind)) - 110) <= 3
    assert steady(1, 0.08, painted(0), blind).max() == 0  # nothing to divide by
