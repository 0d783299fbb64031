"""What lies before and beside a face stays as filmed, and the face itself never does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from revisage.models import layout, tone
from revisage.models.conditioning import FACE_TEMPLATE, face_mask, standard_landmarks
from revisage.pipeline import composite
from revisage.pipeline.matte import Mattes, let_go
from revisage.pipeline.pixels import pixel_format
from revisage.pipeline.types import Image, Origin, TrackedFace

SIZE = 128
POINTS = standard_landmarks(np.asarray(FACE_TEMPLATE.points, np.float32) * SIZE - 0.5)
SKIN = (200, 150, 120)


def portrait() -> Image:
    picture = np.full((SIZE, SIZE, 3), (40, 120, 60), np.uint8)
    picture[face_mask(POINTS, SIZE, dilate=0.12) > 0] = SKIN
    return picture


def light_of(picture: Image) -> np.ndarray:
    found = tone.read(picture, POINTS)
    assert found is not None
    return found


LIGHT = light_of(portrait())
INSIDE = face_mask(POINTS, SIZE, dilate=-0.0) > 0


def test_skin_is_kept_whole_whatever_its_features_look_like() -> None:
    picture = portrait()
    for part in (layout.BROW_LEFT, layout.BROW_RIGHT, layout.EYE_LEFT, layout.EYE_RIGHT, layout.LIPS_OUTER):
        picture[face_mask(POINTS[part], SIZE, dilate=0.02) > 0] = (10, 10, 10)
    assert let_go(picture, POINTS, LIGHT)[INSIDE].max() < 0.05


def test_a_fringe_stays_as_filmed() -> None:
    picture, brows = portrait(), POINTS[layout.BROW_LEFT, 1].min()
    low = round(float(brows)) - 8
    picture[:low] = (15, 12, 10)
    free = let_go(picture, POINTS, LIGHT)
    assert free[low - 5, SIZE // 2] > 0.9
    assert free[round(float(brows)) + 2 :][INSIDE[round(float(brows)) + 2 :]].max() < 0.1


def test_a_dark_spot_within_the_face_is_covered() -> None:
    picture = portrait()
    picture[70:76, 44:50] = 5
    assert let_go(picture, POINTS, LIGHT)[INSIDE].max() < 0.05, "it hangs together with nothing outside"


def test_shade_on_a_cheek_is_no_hair() -> None:
    picture = portrait().astype(np.float32)
    picture[:, : SIZE // 2] *= np.linspace(0.62, 1, SIZE // 2)[None, :, None]
    shaded = picture.astype(np.uint8)
    assert let_go(shaded, POINTS, light_of(shaded))[INSIDE].mean() < 0.05


def test_more_than_a_part_of_a_face_is_never_let_go() -> None:
    wrong = LIGHT.copy()
    wrong[0] -= 2.5
    assert let_go(portrait(), POINTS, wrong).max() == 0


@pytest.mark.parametrize("name", ["yuv420p", "gbrp"])
def test_a_region_shrinks_where_hair_is_and_comes_back_slowly(name: str) -> None:
    fmt = pixel_format(name, 0, 0, 1)
    face = TrackedFace(0, (30, 20, 98, 110), layout.five_points(POINTS), Origin.DETECTED, 1.0, POINTS, _whole(LIGHT))
    placed = composite.place(1, face, FACE_TEMPLATE, SIZE, fmt, SIZE, SIZE)
    assert placed is not None
    hairy = portrait()
    hairy[:44] = (15, 12, 10)
    mattes = Mattes()
    trimmed = mattes.trimmed(placed, hairy, 0.0, fmt)
    assert trimmed.region.cover.sum() < placed.region.cover.sum()
    assert not (trimmed.region.cover & ~placed.region.cover).any()
    assert (trimmed.region.alpha <= placed.region.alpha + 1e-6).all()
    later = mattes.trimmed(placed, portrait(), 0.04, fmt)
    assert trimmed.region.cover.sum() <= later.region.cover.sum() < placed.region.cover.sum()
    assert mattes.trimmed(replace(placed, tone=None), hairy, 0.08, fmt).region is placed.region


def _whole(light: np.ndarray) -> np.ndarray:
    return np.concatenate([light, np.zeros((1, 3), np.float32)])
