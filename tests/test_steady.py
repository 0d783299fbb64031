"""A face keeps its tone when skin comes into view, and follows the light."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from revisage.models import layout
from revisage.models.base import FaceRequest
from revisage.models.conditioning import FACE_TEMPLATE, REMOVED, face_mask, standard_landmarks
from revisage.pipeline import steady as steady_module
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
    assert steady(1, 0.08, painted(0), blind).max() == 0  # by a factor, and not beyond


def grainy(seed: int, strength: float = 6.0) -> Image:
    grain = np.random.default_rng(seed).normal(0, strength, (SIZE, SIZE, 1))
    return np.clip(painted(110) + grain, 0, 255).astype(np.uint8)


def test_grain_that_shakes_is_calmed_on_the_skin_and_left_on_eyes_and_lips() -> None:
    steady, seen = Steady(), request()
    out = [steady(1, n / 25, grainy(n), seen).astype(float) for n in range(12)]
    change = np.abs(out[-1] - out[-2]).mean(-1)
    as_painted = np.abs(grainy(11).astype(float) - grainy(10)).mean(-1)
    x, y = seen.landmarks[layout.NOSE_BRIDGE].mean(0).round().astype(int)
    nose, left = np.s_[y - 4 : y + 5, x - 4 : x + 5], seen.landmarks[layout.EYE_LEFT].mean(0).round().astype(int)
    eye = np.s_[left[1] - 1 : left[1] + 2, left[0] - 2 : left[0] + 3]
    assert change[nose].mean() < 0.6 * as_painted[nose].mean()
    assert change[eye].mean() > 0.8 * as_painted[eye].mean()
    np.testing.assert_array_equal(out[-1][0], grainy(11)[0])  # what is no face is left alone


def test_detail_moves_with_the_landmarks() -> None:
    """A spot on the cheek goes where the face goes: two pixels a frame leave no trail."""
    steady, first = Steady(), request()
    for n in range(6):
        seen = replace(first, landmarks=first.landmarks + np.float32([2 * n, 0]))
        spotted = painted(110)
        x, y = np.round(seen.landmarks[layout.NOSE_TIP] + (0, 3)).astype(int)
        spotted[y - 1 : y + 2, x - 1 : x + 2] = 130
        out = steady(1, n / 25, spotted, seen).astype(int)
    assert abs(out[y, x, 0] - 130) <= 5
    assert np.abs(out[y, x - 6 : x - 3, 0] - 110).max() <= 3


def test_what_is_new_is_shown_at_once() -> None:
    steady, seen = Steady(), request()
    x, y = np.round(seen.landmarks[layout.NOSE_TIP]).astype(int)
    for n in range(3):
        steady(1, n / 25, painted(110), seen)
    furrowed = painted(110)
    furrowed[y - 2 : y + 3, x - 2 : x + 3] = 40
    assert steady(1, 3 / 25, furrowed, seen)[y, x, 0] < 60


def test_a_window_around_the_face_gives_what_the_whole_crop_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    def shown() -> list[Image]:
        steady, first = Steady(), request()
        views = (replace(first, landmarks=first.landmarks + np.float32([n, -n / 2])) for n in range(6))
        return [steady(1, n / 25, grainy(n, 12.0), view) for n, view in enumerate(views)]

    windowed = shown()
    monkeypatch.setattr(steady_module, "_window", lambda landmarks, size: (slice(0, size), slice(0, size)))
    for small, whole in zip(windowed, shown(), strict=True):
        assert np.abs(small.astype(int) - whole).max() <= 1


def test_a_face_outside_its_crop_is_left_as_painted() -> None:
    steady, seen = Steady(), request()
    for n, away in enumerate((0, 2 * SIZE, -2 * SIZE)):
        view = replace(seen, landmarks=seen.landmarks + np.float32(away))
        out = steady(1, n / 25, painted(90 + 10 * n), view)
    np.testing.assert_array_equal(out, painted(110))
