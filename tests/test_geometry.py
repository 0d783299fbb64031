"""Alignment, masks, and the way back."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from revisage.models import layout
from revisage.models.conditioning import FACE_TEMPLATE, INTEROCULAR, draw_landmarks, face_mask, standard_landmarks
from revisage.pipeline import geometry
from revisage.pipeline.pixels import Rect, pixel_format

FMT = pixel_format("yuv420p", 0, 0, 480)
UPRIGHT = np.array(FACE_TEMPLATE.points, np.float32) * 100


def moved(angle: float, scale: float, x: float, y: float) -> np.ndarray:
    turn = np.float32([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * np.float32(scale)
    return (UPRIGHT @ turn.T + np.float32([x, y])).astype(np.float32)


@given(st.floats(-3, 3), st.floats(0.2, 5), st.floats(-500, 500), st.floats(-500, 500))
def test_align_takes_the_points_to_the_template(angle: float, scale: float, x: float, y: float) -> None:
    matrix = geometry.align(moved(angle, scale, x, y), FACE_TEMPLATE, 128)
    found = geometry.transform(moved(angle, scale, x, y), matrix)
    np.testing.assert_allclose(found, np.array(FACE_TEMPLATE.points) * 128 - 0.5, atol=0.05)
    assert geometry.scale_of(matrix) == pytest.approx(1.28 / scale, rel=1e-3)


@example([(0.0, 0.0), (0.0, -0.0)], 1)
@given(st.lists(st.tuples(st.floats(-30, 90), st.floats(-30, 90)), min_size=1, max_size=9), st.integers(1, 30))
def test_a_hull_grows_as_an_ellipse_makes_it_grow(corners: list[tuple[float, float]], grow: int) -> None:
    points, rect = np.array(corners, np.float32), Rect(0, 0, 70, 60)
    drawn = np.zeros((60, 70), np.uint8)
    hull = np.round(cv2.convexHull(points + np.float32(0)) * 16).astype(np.int32)  # -0 is 0
    cv2.fillConvexPoly(drawn, hull, 255, cv2.LINE_8, 4)
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * grow + 1,) * 2)
    np.testing.assert_array_equal(geometry._hull(points, rect, grow), cv2.dilate(drawn, ellipse))


@given(st.floats(-3, 3), st.floats(0.2, 5))
def test_invert_undoes(angle: float, scale: float) -> None:
    matrix = geometry.align(moved(angle, scale, 30, 40), FACE_TEMPLATE, 128)
    points = np.float32([[0, 0], [17, 99], [200, 3]])
    np.testing.assert_allclose(
        geometry.transform(geometry.transform(points, matrix), geometry.invert(matrix)), points, atol=0.02
    )


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_crop_and_uncrop_are_inverse_on_smooth_pictures(scale: float) -> None:
    y, x = np.mgrid[0:400, 0:400]
    picture = np.stack([x * 0.6, y * 0.6, 120 + 60 * np.sin(x / 60)], axis=-1).astype(np.uint8)
    matrix = geometry.align(moved(0.3, scale, 150, 120), FACE_TEMPLATE, 128)
    crop = geometry.crop(picture, matrix, 128)
    centre = geometry.transform(np.float32([[64, 64]]), geometry.invert(matrix))[0].astype(int)
    half = max(4, int(30 * scale / 1.28))
    rect = geometry.Rect(centre[0] - half, centre[1] - half, centre[0] + half, centre[1] + half)
    back = geometry.uncrop(crop, matrix, rect)
    assert np.abs(back.astype(int) - picture[rect.inside]).max() < 4


def test_region_covers_hull_and_box_and_feathers_outward() -> None:
    points = moved(0.2, 1.5, 150, 100)
    landmarks, box = standard_landmarks(points), (160.0, 110.0, 300.0, 290.0)
    region = geometry.face_region(landmarks, box, INTEROCULAR * 150, FMT, 480, 360)
    assert region is not None
    drawn = np.zeros((360, 480), np.uint8)
    cv2.fillConvexPoly(drawn, cv2.convexHull(np.round(landmarks).astype(np.int32)), 255)
    cv2.ellipse(drawn, ((229.5, 199.5), (138, 178), 0.0), 255, -1)
    window = drawn[region.rect.y0 : region.rect.y1, region.rect.x0 : region.rect.x1] > 0
    assert drawn.astype(bool).sum() == window.sum()
    assert region.cover[window].all()
    assert (region.alpha[region.cover] == 1).all()
    assert region.alpha[[0, -1]].max() == region.alpha[:, [0, -1]].max() == 0
    assert region.touched[region.alpha > 0].all()


def test_region_at_the_edge_and_outside() -> None:
    landmarks = standard_landmarks(moved(0, 1, -40, -30))
    region = geometry.face_region(landmarks, (-40, -30, 60, 70), 22, FMT, 480, 360)
    assert region is not None
    assert (region.rect.x0, region.rect.y0) == (0, 0)
    assert region.alpha[0, 0] == 1  # a face that the edge cuts does not fade at the edge
    assert geometry.face_region(landmarks - 500, (-540, -530, -440, -430), 22, FMT, 480, 360) is None


def test_mirror_is_an_involution_and_swaps_sides() -> None:
    landmarks = standard_landmarks(moved(0.1, 1, 10, 10))
    mirrored = layout.mirror(landmarks, 200)
    np.testing.assert_allclose(layout.mirror(mirrored, 200), landmarks, atol=1e-4)
    five = layout.five_points(mirrored)
    assert five[0, 0] < five[1, 0]
    assert five[3, 0] < five[4, 0]


def test_mask_and_drawing_of_the_mean_face() -> None:
    landmarks = standard_landmarks(np.array(FACE_TEMPLATE.points, np.float32) * 128 - 0.5)
    mask = face_mask(landmarks, 128)
    assert mask[0].max() == mask[-1].max() == 0  # the whole face fits into its crop
    assert 0.2 < (mask > 0).mean() < 0.6
    drawing = draw_landmarks(landmarks, 128)
    assert drawing.reshape(-1, 3).max(axis=0).min() > 200
    assert (drawing.max(axis=2)[mask == 0]).max() == 0


@pytest.mark.parametrize("size", [(32, 18), (320, 180), (64, 200)])
def test_shrinking_gives_every_pixel_its_share(size: tuple[int, int]) -> None:
    y, x = np.mgrid[0:403, 0:641]
    picture = np.stack([(x * 255) // 641, (y * 255) // 403, 127 + 100 * ((x + y) % 2)], -1).astype(np.uint8)
    small = geometry.shrunk(picture, size)
    exact = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    assert small.shape == exact.shape
    assert np.abs(small[2:-2, 2:-2].astype(int) - exact[2:-2, 2:-2]).max() <= 2  # roundings, one after another
    grey = geometry.shrunk(picture[..., 0], size)
    assert np.array_equal(grey, small[..., 0])
