"""Actors drawn into poses: eyes that look and shut, teeth that stay in their size, light as it was asked for."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from tiny import tiny_cast  # type: ignore[import-not-found]

from revisage.models import layout, reenact, tone
from revisage.models.cast import Cast
from revisage.models.conditioning import FACE_TEMPLATE, standard_landmarks
from revisage.models.reenact import Face
from revisage.pipeline import geometry
from revisage.pipeline.types import Float

SIZE = 160
POINTS = standard_landmarks(np.asarray(FACE_TEMPLATE.points, np.float32) * SIZE - 0.5)


@pytest.fixture(scope="module")
def actor(tmp_path_factory: pytest.TempPathFactory) -> Face:
    cast = Cast.load(tiny_cast(tmp_path_factory.mktemp("cast")))
    one, mouth = cast.actors[3], cast.mouths[0]
    inside = reenact.inside_of(mouth.picture(), mouth.lips, mouth.interocular, mouth.tooth)
    return reenact.face_of(one.texture(), one.landmarks, one.iris, inside)


def opened(pixels: float) -> Float:
    """With the lower lip down."""
    points = POINTS.copy()
    upper, lower = layout.facing(layout.LIPS_INNER)
    points[lower] = points[upper] + np.float32([0, pixels])
    points[layout.facing(layout.LIPS_OUTER)[1]] += np.float32([0, pixels])
    return points


def shut() -> Float:
    points = POINTS.copy()
    for eye in (layout.EYE_LEFT, layout.EYE_RIGHT):
        upper, lower = layout.facing(eye)
        points[upper] = points[lower]
    return points


def around_eye(drawn: Float, eye: int) -> Float:
    x, y = POINTS[layout.EYE_CENTRES][eye].round().astype(int)
    return drawn[y - 6 : y + 7, x - 12 : x + 13].mean(-1)


def test_what_is_drawn_follows_the_face(actor: Face) -> None:
    turned = cv2.getRotationMatrix2D((SIZE / 2, SIZE / 2), 20, 0.9).astype(np.float32)
    straight = reenact.draw(actor, POINTS, SIZE).detail
    moved = reenact.draw(actor, geometry.transform(POINTS, turned), SIZE).detail
    back = cv2.warpAffine(moved, turned, (SIZE, SIZE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    inside = tone.skin(POINTS, SIZE)
    assert np.abs(back - straight)[inside].mean() < 0.03


def test_light_and_tone_are_those_that_are_asked_for(actor: Face) -> None:
    drawn = reenact.draw(actor, POINTS, SIZE)
    inside = tone.skin(POINTS, SIZE)
    for colour in ((0.5, 0.3, 0.2), (0.05, 0.03, 0.02)):
        surface = np.broadcast_to(np.asarray(colour, np.float32), (SIZE, SIZE, 3))
        np.testing.assert_allclose(np.median(reenact.lit(drawn, surface)[inside], axis=0), colour, rtol=0.12)


def test_eyes_look_where_they_are_told(actor: Face) -> None:
    def darkest(shift: float) -> float:
        points = POINTS.copy()
        points[layout.IRIS_LEFT] += np.float32([shift, 0])
        seen = around_eye(reenact.draw(actor, points, SIZE).detail, 0)
        dark = np.maximum(0.6 - seen, 0)
        return float((dark * np.arange(seen.shape[1])).sum() / dark.sum())

    assert darkest(4) - darkest(-4) > 3


def test_a_shut_eye_shows_no_eyeball(actor: Face) -> None:
    awake, asleep = (around_eye(reenact.draw(actor, p, SIZE).detail, 1) for p in (POINTS, shut()))
    assert awake.min() < 0.35 < asleep.min()


def test_one_eye_winks_alone(actor: Face) -> None:
    points = POINTS.copy()
    points[layout.EYE_LEFT] = shut()[layout.EYE_LEFT]
    drawn = reenact.draw(actor, points, SIZE).detail
    assert around_eye(drawn, 0).min() > 0.35 > around_eye(drawn, 1).min()


def test_teeth_are_seen_in_an_open_mouth_and_not_in_a_shut_one(actor: Face) -> None:
    closed, wide = (reenact.draw(actor, opened(p), SIZE) for p in (0.0, 9.0))
    assert not closed.between.any()
    middle = opened(9.0)[layout.LIPS_INNER].mean(0).round().astype(int)
    assert wide.between[middle[1], middle[0]] > 0.9
    dark_room = np.full((SIZE, SIZE, 3), 0.02, np.float32)
    lit = [reenact.lit(wide, light)[middle[1], middle[0]].mean() for light in (dark_room, dark_room * 20)]
    assert lit[0] < 0.4 * lit[1], "teeth are as dark as the room"


def test_what_lies_between_lips_does_not_grow_with_them(actor: Face) -> None:
    widths = []
    for pixels in (6.0, 18.0):
        between = reenact.draw(actor, opened(pixels), SIZE).between > 0.5
        widths.append(np.ptp(np.flatnonzero(between.any(0))))
    assert abs(widths[0] - widths[1]) <= 6


def test_a_soft_film_gets_soft_skin(actor: Face) -> None:
    inside = cv2.erode(tone.skin(POINTS, SIZE).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    light = np.zeros((9, 3), np.float32)
    roughness = []
    for fine in (-7.0, -2.0):
        light[8] = fine
        detail = reenact.draw(actor, POINTS, SIZE, light).detail.mean(-1)
        roughness.append(float((detail - cv2.GaussianBlur(detail, (0, 0), 1.0))[inside].std()))
    assert roughness[0] < 0.6 * roughness[1]


def test_an_actor_keeps_part_of_its_own_proportions() -> None:
    wide = POINTS.copy()
    wide[layout.NOSTRILS, 0] = SIZE / 2 + (wide[layout.NOSTRILS, 0] - SIZE / 2) * 1.15
    picture = np.full((SIZE, SIZE, 3), (150, 110, 90), np.uint8)
    made = reenact.proportioned(POINTS, reenact.face_of(picture, wide))
    grown = np.ptp(made[layout.NOSTRILS, 0]) / np.ptp(POINTS[layout.NOSTRILS, 0]) - 1
    assert grown == pytest.approx(0.15 * reenact.OWN, rel=0.25)


@pytest.mark.parametrize("side", [-1, 1])
def test_a_portrait_that_is_turned_is_made_to_look_ahead(side: int) -> None:
    points = POINTS.copy()
    off = points[:, 0] - SIZE / 2
    points[:, 0] += np.where(off * side > 0, -0.35, 0.0) * off  # that half is narrower
    nose = [*range(layout.NOSE_BRIDGE.start, layout.NOSTRILS.stop)]
    points[nose, 0] += side * 6
    picture = np.full((SIZE, SIZE, 3), (150, 110, 90), np.uint8)
    picture[:, : SIZE // 2] = (140, 100, 80)
    eyes = points[layout.EYE_CENTRES]
    irises = eyes[:, None] + np.array([[0, 0], [3, 0], [0, -3], [-3, 0], [0, 3]], np.float32)
    face = reenact.face_of(picture, points, irises)
    middle = face.points[layout.EYE_CENTRES].mean(0)
    assert abs(face.points[layout.NOSE_TIP, 0] - middle[0]) < 1.5
    widths = [abs(face.points[layout.OVAL, 0].min() - middle[0]), abs(face.points[layout.OVAL, 0].max() - middle[0])]
    assert abs(widths[0] - widths[1]) < 2
