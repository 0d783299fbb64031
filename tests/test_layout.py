"""The landmark layout beyond its contours: irises, surface, what fills them in and what moves them along."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy.spatial import Delaunay

from revisage.models import layout, warp
from revisage.models.completion import completed, followed, mean_face
from revisage.models.conditioning import face_mask
from revisage.models.train.blink import glanced
from revisage.pipeline.shape import Shape, outline
from revisage.pipeline.types import Float

TURN = np.array([[0.9, 0.3], [-0.4, 1.1]], np.float32)


def face(side: int = 100) -> Float:
    """The average face in a crop of `side` pixels."""
    return np.asarray((mean_face() + 0.5) * side - 0.5, np.float32)


def mesh(vertices: int) -> Float:
    """Every vertex at a place of its own."""
    return np.arange(vertices * 3, dtype=np.float32).reshape(-1, 3)


def test_a_mesh_with_irises_gives_them_from_the_nose_outwards() -> None:
    points = layout.from_mesh(mesh(478))
    assert points.shape == (layout.LANDMARK_COUNT, 2)
    assert (points[layout.IRIS_LEFT, 0] / 3).tolist() == [468, 469, 470, 471, 472]
    assert (points[layout.IRIS_RIGHT, 0] / 3).tolist() == [473, 476, 475, 474, 477]
    assert (points[layout.SURFACE, 0] / 3).tolist() == list(layout.SURFACE_VERTICES)
    assert not set(layout.SURFACE_VERTICES) & set(layout.MESH_VERTICES)


def test_irises_given_apart_take_their_places() -> None:
    irises = np.arange(20, dtype=np.float32).reshape(2, 5, 2)
    points = layout.from_mesh(mesh(468), irises)
    np.testing.assert_array_equal(points[layout.IRIS_LEFT.start : layout.IRIS_RIGHT.stop], irises.reshape(10, 2))


def test_eyes_without_irises_look_ahead() -> None:
    points = face()
    points[layout.IRIS_LEFT.start : layout.IRIS_RIGHT.stop] = layout.looking_ahead(points)
    np.testing.assert_allclose(points[[135, 140]], points[layout.EYE_CENTRES], atol=1e-4)
    assert points[136, 0] > points[135, 0] > points[138, 0]  # towards the nose, centre, outwards
    assert points[141, 0] < points[140, 0] < points[143, 0]
    assert points[137, 1] < points[135, 1] < points[139, 1]  # above, centre, below
    assert points[142, 1] < points[140, 1] < points[144, 1]


def test_mirroring_twice_is_nothing_and_pairs_change_sides() -> None:
    points = face()
    mirrored = layout.mirror(points, 100)
    np.testing.assert_allclose(mirrored, points, atol=0.2)  # the average face is its own mirror image
    np.testing.assert_allclose(layout.mirror(mirrored, 100), points, atol=1e-4)
    contours = points[: layout.CONTOUR_COUNT]
    np.testing.assert_allclose(layout.mirror(contours, 100), mirrored[: layout.CONTOUR_COUNT])


def test_what_is_missing_is_filled_in_by_the_faces_own_shape() -> None:
    points = face() @ TURN
    filled = completed(points[: layout.CONTOUR_COUNT])
    np.testing.assert_array_equal(filled[: layout.CONTOUR_COUNT], points[: layout.CONTOUR_COUNT])
    np.testing.assert_allclose(filled[layout.SURFACE], points[layout.SURFACE], atol=1e-2)
    np.testing.assert_array_equal(completed(points), points)
    with pytest.raises(ValueError, match="135 or 186, not 68"):
        completed(points[:68])


def test_the_surface_follows_what_is_near_and_irises_follow_their_eyes() -> None:
    before = face()
    after = before.copy()
    after[layout.LIPS_OUTER] += 3
    moved = followed(before, after)
    shift = np.linalg.norm(moved - before, axis=1)
    at = {vertex: layout.SURFACE.start + i for i, vertex in enumerate(layout.SURFACE_VERTICES)}
    assert shift[at[202]] > 1.2  # beside the mouth
    assert shift[at[151]] < 0.1  # forehead
    np.testing.assert_array_equal(moved[layout.IRIS_LEFT], before[layout.IRIS_LEFT])
    after = before.copy()
    after[layout.EYE_LEFT] += (2, 1)
    moved = followed(before, after)
    np.testing.assert_allclose(moved[layout.IRIS_LEFT], before[layout.IRIS_LEFT] + (2, 1), atol=1e-3)
    np.testing.assert_array_equal(moved[layout.IRIS_RIGHT], before[layout.IRIS_RIGHT])


def test_gaze_is_the_same_however_a_head_is_turned_and_scaled() -> None:
    points = face()
    points[layout.IRIS_LEFT.start : layout.IRIS_RIGHT.stop, 0] += 1.0
    looks = layout.gaze(points)
    ahead = layout.gaze(face())
    assert (looks[:, 0] > ahead[:, 0] + 0.02).all()
    turn = 1.7 * np.array([[0.8, -0.6], [0.6, 0.8]], np.float32)
    np.testing.assert_allclose(layout.gaze(points @ turn.T + 30), looks, atol=1e-3)


def test_each_eyes_opening_is_its_own() -> None:
    points = face()
    points[layout.LID_TOP_LEFT] = points[layout.LID_BOTTOM_LEFT]
    left, right = layout.eye_openings(points)
    assert left == 0
    assert right > 0.05
    assert layout.eye_opening(points) == pytest.approx(float(right) / 2, rel=1e-5)


def test_triangles_of_the_surface_are_not_slivers() -> None:
    numbers = warp.surface_triangles()
    assert set(range(layout.SURFACE.start, layout.SURFACE.stop)) <= set(numbers.ravel().tolist())
    corners = face()[numbers]
    sides = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=-1).max(1)
    one, two = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    roundness = np.abs(one[:, 0] * two[:, 1] - one[:, 1] * two[:, 0]) / sides**2
    plain = Delaunay(face()[: layout.EYE_CENTRES.start]).simplices
    assert len(numbers) > len(plain) + 2 * 40
    assert np.median(roundness) > 0.4
    assert np.percentile(roundness, 5) > 0.15


def test_covers_are_the_contours_hull() -> None:
    """Points of irises or of the surface that were found far away uncover nothing and cover nothing."""
    points = face()
    wild = points.copy()
    wild[layout.CONTOUR_COUNT :] += 40
    np.testing.assert_array_equal(face_mask(wild, 100), face_mask(points, 100))
    np.testing.assert_array_equal(outline(wild, Shape()), outline(points, Shape()))


def test_a_glance_moves_the_irises_between_the_lids_alone() -> None:
    points = face(200)
    picture = np.full((200, 200, 3), 200, np.uint8)
    for iris in (layout.IRIS_LEFT, layout.IRIS_RIGHT):
        x, y = points[iris.start]
        cv2.circle(picture, (round(float(x)), round(float(y))), 2, (20, 20, 20), -1)
    drawn, moved = glanced(picture, points, (0.2, 0.0))
    width = np.linalg.norm(points[layout.CORNERS_LEFT[1]] - points[layout.CORNERS_LEFT[0]])
    np.testing.assert_allclose(moved[135] - points[135], (0.2 * width, 0), atol=1e-3)
    dark = np.argwhere(drawn[:, :100, 0] < 100)[:, ::-1].mean(0)
    assert np.linalg.norm(dark - moved[135]) < 1.5
    changed = np.argwhere((drawn != picture).any(-1))
    lids = points[[*range(layout.EYE_LEFT.start, layout.EYE_RIGHT.stop)]]
    assert changed[:, 0].min() >= lids[:, 1].min() - 2
    assert changed[:, 0].max() <= lids[:, 1].max() + 2
    still, same = glanced(picture, points, (0.0, 0.0))
    np.testing.assert_array_equal(same, points)
    assert np.abs(still.astype(int) - picture).max() <= 1
