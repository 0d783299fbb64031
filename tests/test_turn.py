"""The eight ways in which players turn and mirror a picture: what they are, and back again."""

from __future__ import annotations

import numpy as np
import pytest
from films import display_matrix  # type: ignore[import-not-found]

from revisage.models import layout
from revisage.pipeline.turn import Orientation, Turn
from revisage.pipeline.types import FaceDetection
from revisage.trackers.base import Sighting

WAYS = [Orientation(quarters, mirrored) for quarters in range(4) for mirrored in (False, True)]
WIDTH, HEIGHT = 7, 5


@pytest.mark.parametrize("way", WAYS)
def test_every_matrix_is_told_and_its_scale_is_no_matter(way: Orientation) -> None:
    matrix = display_matrix(way.quarters, way.mirrored)
    assert Orientation.of_matrix(matrix) == way
    assert Orientation.of_matrix([value * 3 // 2 for value in matrix]) == way


@pytest.mark.parametrize("way", WAYS)
def test_the_matrix_says_where_players_show_a_pixel(way: Orientation) -> None:
    """By the definition: x' = a x + c y, y' = b x + d y, moved to where nothing is negative."""
    a, b, _, c, d, *_ = (value / 65536 for value in display_matrix(way.quarters, way.mirrored))
    stored = np.arange(WIDTH * HEIGHT, dtype=np.uint8).reshape(HEIGHT, WIDTH)
    seen = Turn.of(way, WIDTH, HEIGHT).upright(np.repeat(stored[..., None], 3, axis=2))[..., 0]
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(int)
    across, down = (a * x + c * y).astype(int), (b * x + d * y).astype(int)
    assert np.array_equal(seen[down - down.min(), across - across.min()], stored)


def test_no_matrix_and_zeros_say_nothing_and_oblique_ones_are_none_of_the_eight() -> None:
    assert Orientation.of_matrix(None) == Orientation.of_matrix([0] * 9) == Orientation()
    for sheared in ([46341, 46341, 0, -46341, 46341, 0, 0, 0, 1 << 30], [65536, 9000, 0, 0, 65536, 0, 0, 0, 1 << 30]):
        with pytest.raises(ValueError, match="eight"):
            Orientation.of_matrix(sheared)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("count", [5, layout.CONTOUR_COUNT, layout.LANDMARK_COUNT])
def test_points_come_back_and_the_left_eye_is_the_viewers_left(way: Orientation, count: int) -> None:
    """In the stored frame a mirrored face is a face, too: painters want its left eye on the left."""
    turn = Turn.of(way, 320, 200)
    points = np.random.default_rng(count).uniform(20, 180, (count, 2)).astype(np.float32)
    seen = FaceDetection((10, 20, 40, 60), 0.9, turn.upright_points(points[:5]))
    back = turn.stored(Sighting(0, seen, turn.upright_points(points)))
    assert back.landmarks is not None
    np.testing.assert_allclose(back.landmarks, points, atol=1e-3)
    if way == Orientation(0, mirrored=True):
        eyes = turn.stored(Sighting(0, seen, None)).detection.points[:2]
        np.testing.assert_allclose(eyes[0], (319 - seen.points[1, 0], seen.points[1, 1]), atol=1e-3)
