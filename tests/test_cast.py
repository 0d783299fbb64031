"""The cast: reading its file strictly, what relighting does to a face, and who is in the cast that ships."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from revisage.models import cast, layout
from revisage.models.cast import Cast
from revisage.models.train import cast as making
from revisage.models.train import relight
from revisage.pipeline.errors import ModelError
from revisage.pipeline.types import Float

SIZE = 384
SKIN = np.array([0.42, 0.22, 0.15], np.float32)  # linear light


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A cast of two actors and one mouth, 32 pixels wide."""
    actors = [
        {"name": "one", "sex": "female", "age": 30, "has_teeth": False, "mouth_opening": 0.01},
        {"name": "two", "sex": "male", "age": 61, "has_teeth": True, "mouth_opening": 0.2},
    ]
    mouths = [{"name": "wide", "opening": 0.3, "width": 0.8, "interocular": 120.0}]
    rng = np.random.default_rng(0)
    arrays = {
        "mesh": rng.uniform(0, 32, (2, 468, 3)).astype(np.float32),
        "iris": rng.uniform(0, 32, (2, 2, 5, 2)).astype(np.float32),
        "tone": np.array([[SKIN, relight.to_lab(SKIN)], [SKIN / 6, relight.to_lab(SKIN / 6)]], np.float32),
        "mouth.lips": rng.uniform(0, 32, (1, 40, 2)).astype(np.float32),
        "mouth.colours": rng.uniform(0, 1, (1, 2, 3)).astype(np.float32),
        "texture.one": making.encode(np.full((32, 32, 3), (200, 150, 120), np.uint8)),
        "texture.two": making.encode(np.full((32, 32, 3), (90, 60, 45), np.uint8)),
        "mouth.wide": making.encode(np.full((24, 24, 3), (90, 20, 20), np.uint8)),
    }
    config = {"format": 1, "template": "revisage-face", "size": 32, "actors": actors, "mouths": mouths}
    (tmp_path / cast.CONFIG).write_text(json.dumps(config))
    save_file(arrays, tmp_path / cast.ARRAYS)
    return tmp_path


def change(folder: Path, **arrays: Any) -> None:
    """Replace arrays (None: remove) in the file."""
    path = folder / cast.ARRAYS
    kept = {n.replace("__", "."): a for n, a in (load_file(path) | arrays).items() if a is not None}
    save_file(kept, path)


def test_actors_are_read_in_order_and_decoded(folder: Path) -> None:
    found = Cast.load(folder)
    assert [a.name for a in found.actors] == ["one", "two"]
    assert [a.tone for a in found.actors] == ["medium", "very dark"]
    assert found.actors[1].texture().shape == (32, 32, 3)
    np.testing.assert_allclose(found.actors[0].texture()[16, 16], (200, 150, 120), atol=2)  # red is red
    assert found.actors[0].landmarks.shape == (layout.LANDMARK_COUNT, 2)
    np.testing.assert_allclose(found.mouths[0].picture()[12, 12], (90, 20, 20), atol=2)
    assert found.mouths[0].lips.shape == (40, 2)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"mesh": np.zeros((2, 467, 3), np.float32)}, "mesh"),
        ({"iris": np.full((2, 2, 5, 2), np.nan, np.float32)}, "iris"),
        ({"tone": np.zeros((2, 2, 3), np.float64)}, "tone"),
        ({"texture.two": None}, "different actors"),
        ({"texture.three": np.zeros(9, np.uint8)}, "different actors"),
        ({"texture.one": np.zeros((3, 3), np.uint8)}, "string of bytes"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(folder: Path, arrays: dict[str, Any], message: str) -> None:
    change(folder, **arrays)
    with pytest.raises(ModelError, match=message):
        Cast.load(folder)


@pytest.mark.parametrize(
    "edit",
    [
        {"format": 2},
        {"template": "ffhq"},
        {"more": 1},
        {"actors": []},
        {"actors": [{"name": "one", "sex": "female", "age": 17, "has_teeth": False, "mouth_opening": 0.0}]},
        {"actors": [{"name": "../one", "sex": "female", "age": 40, "has_teeth": False, "mouth_opening": 0.0}]},
        {"actors": [{"name": "one", "sex": "female", "age": 40, "has_teeth": False, "mouth_opening": 0.0}] * 2},
    ],
)
def test_a_config_that_is_not_a_cast_s_is_refused(folder: Path, edit: dict[str, Any]) -> None:
    path = folder / cast.CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | edit))
    with pytest.raises(ModelError, match=cast.CONFIG):
        Cast.load(folder)


def test_missing_or_damaged_files_are_named(folder: Path) -> None:
    (folder / cast.ARRAYS).write_bytes(b"nothing")
    with pytest.raises(ModelError, match=cast.ARRAYS):
        Cast.load(folder)
    with pytest.raises(ModelError, match=cast.CONFIG):
        Cast.load(folder / "elsewhere")


def test_a_picture_that_is_no_jpeg_is_told_when_it_is_asked_for(folder: Path) -> None:
    change(folder, **{"texture.two": np.zeros(100, np.uint8)})
    found = Cast.load(folder)
    assert found.actors[0].texture().any()
    with pytest.raises(ModelError, match="decoded"):
        found.actors[1].texture()


# ---------------------------------------------------------------- relighting


@pytest.fixture(scope="module")
def mesh() -> Float:
    """A face like others: the mean of the actors that ship, made the same on both sides."""
    meshes = np.stack([actor.mesh for actor in Cast.load().actors])
    mean = meshes.mean(0)
    pairs = relight.Surface.of(meshes).mirrored
    flipped = mean[pairs] * (-1, 1, 1) + (SIZE - 1, 0, 0)
    return np.asarray((mean + flipped) / 2, np.float32)


@pytest.fixture(scope="module")
def surface(mesh: Float) -> relight.Surface:
    return relight.Surface.of(mesh[None])


def lit(mesh: Float, surface: relight.Surface, shade: Float, colour: Float = SKIN) -> Float:
    """A face of one colour under `shade` (HARMONICS, 3)."""
    basis = relight.harmonics(relight.normals(mesh, surface, SIZE))
    return np.asarray(np.clip(basis @ shade, 0.1, None) * colour, np.float32)


def test_light_from_one_side_and_its_colour_are_taken_out(mesh: Float, surface: relight.Surface) -> None:
    skin = making.skin_mask(layout.from_mesh(mesh))
    shade = np.zeros((relight.HARMONICS, 3), np.float32)
    shade[0], shade[1] = 1, (0.45, 0.35, 0.25)  # a warm lamp at the right
    before = lit(mesh, surface, shade)
    target = np.eye(relight.HARMONICS, dtype=np.float32)[0]
    after = relight.relight(before, mesh, surface, skin, target)

    def sides(picture: Float) -> Float:
        """Right over left: brightness, and red over blue."""
        on = (skin > 0) & (skin[:, ::-1] > 0)
        left, right = on.copy(), on.copy()
        left[:, SIZE // 2 - 20 :] = False
        right[:, : SIZE // 2 + 20] = False
        a, b = picture[left].mean(0), picture[right].mean(0)
        return np.array([b.sum() / a.sum(), (b[0] / b[2]) / (a[0] / a[2])], np.float32)

    assert (sides(before) > (1.5, 1.08)).all()
    np.testing.assert_allclose(sides(after), 1, atol=0.04)
    assert np.median(relight.luminance(after)[skin > 0]) == pytest.approx(
        np.median(relight.luminance(before)[skin > 0]), rel=0.1
    )


def test_what_is_fine_stays_on_its_side(mesh: Float, surface: relight.Surface) -> None:
    even = np.zeros((relight.HARMONICS, 3), np.float32)
    even[0] = 1
    picture = lit(mesh, surface, even)
    x, y = (int(v) for v in mesh[50, :2])  # a vertex on a cheek
    cv2.circle(picture, (x, y), 2, (0.1, 0.04, 0.03), -1)
    skin = making.skin_mask(layout.from_mesh(mesh))
    after = relight.relight(picture, mesh, surface, skin, even[:, 0])
    assert after[y, x, 0] < 0.4 * SKIN[0]
    assert after[y, SIZE - 1 - x, 0] > 0.9 * SKIN[0]


def test_shine_is_brought_near_the_skin_around_it(mesh: Float) -> None:
    skin = making.skin_mask(layout.from_mesh(mesh))
    picture = np.broadcast_to(SKIN, (SIZE, SIZE, 3)).copy()
    x, y = (int(v) for v in mesh[151, :2])  # the middle of the forehead
    cv2.circle(picture, (x, y), 7, (0.9, 0.8, 0.75), -1)
    after = relight.without_shine(picture, skin)
    assert relight.luminance(after)[y, x] < 0.7 * relight.luminance(picture)[y, x]
    np.testing.assert_allclose(after[y + 60, x], SKIN, rtol=0.01)


def test_hair_over_the_rim_and_all_outside_is_filled_with_skin(mesh: Float) -> None:
    landmarks = layout.from_mesh(mesh)
    skin = making.skin_mask(landmarks)
    picture = np.broadcast_to(SKIN, (SIZE, SIZE, 3)).copy()
    top = int(landmarks[layout.OVAL, 1].min())
    picture[: top + 30, : SIZE // 2] = 0.01  # a fringe on one side
    picture[:, :40] = (0, 0.8, 0)  # a wall
    own = making.own_face(picture, landmarks, skin, np.full((SIZE, SIZE), 255, np.uint8))
    plain = making.bare_skin(picture, landmarks, 2.5)
    filled = making.filled(picture, own, plain)
    assert own[top + 20, SIZE // 2 - 30] == 0
    assert own[top + 20, SIZE // 2 + 30] > 0.99
    assert np.abs(filled / SKIN - 1).max() < 0.25


def test_what_hair_covers_is_taken_from_the_other_side(mesh: Float, surface: relight.Surface) -> None:
    picture = np.broadcast_to(SKIN, (SIZE, SIZE, 3)).copy()
    picture[:, SIZE // 2 :] *= 0.8  # this side is in the shade
    x, y = (int(v) for v in mesh[54, :2])  # a vertex of the oval at the left temple
    cv2.circle(picture, (x + 25, y + 20), 2, (0.1, 0.04, 0.03), -1)  # a mole
    own = np.ones((SIZE, SIZE), np.float32)
    own[:200, SIZE - 1 - x - 60 :] = 0  # hair over the other temple
    picture[own == 0] = 0.01
    both, known = making.mirrored(picture, own, mesh, surface)
    there = (y + 20, SIZE - 1 - (x + 25))
    assert known[there] > 0.9
    assert both[there][0] < 0.5 * SKIN[0]  # the mole
    np.testing.assert_allclose(both[there[0], there[1] - 15], SKIN * 0.8, rtol=0.15)  # as dark as its own side
    np.testing.assert_array_equal(both[own == 1], picture[own == 1])


def test_a_lamp_s_colour_goes_and_an_ordinary_skin_stays() -> None:
    ordinary = relight.to_rgb(np.array([60.0, *making.skin_locus(60)], np.float32))
    np.testing.assert_allclose(making.white_balance(ordinary), 1, atol=1e-3)
    blue = relight.to_rgb(np.array([60.0, 5.0, -10.0], np.float32))
    mended = relight.to_lab(blue * making.white_balance(blue))
    assert mended[0] == pytest.approx(60, abs=1)
    assert mended[2] > 10


def test_colours_go_there_and_back() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    linear = relight.to_linear(picture)
    np.testing.assert_array_equal(relight.to_srgb(linear), picture)
    np.testing.assert_allclose(relight.to_rgb(relight.to_lab(linear)), linear, atol=2e-4)
    np.testing.assert_allclose(relight.to_lab(np.ones(3, np.float32)), (100, 0, 0), atol=0.02)


# ---------------------------------------------------------------- who ships


def test_the_cast_that_ships_is_the_one_listed() -> None:
    rows = {row.name: row for row in making.read_list()}
    found = Cast.load()
    assert {a.name for a in found.actors} == {n for n, row in rows.items() if row.use == "actor"}
    assert {m.name for m in found.mouths} == {n for n, row in rows.items() if row.use == "mouth"}
    assert all(row.why for row in rows.values() if row.use == "no")
    assert all((a.sex, a.tone) == (rows[a.name].sex, rows[a.name].tone) for a in found.actors)


def test_the_cast_that_ships_is_wide() -> None:
    found = Cast.load()
    assert len(found.actors) >= 150
    assert len(found.mouths) >= 12
    assert min(Counter(a.sex for a in found.actors).values()) >= 60
    assert min(Counter(a.tone for a in found.actors)[tone] for tone in cast.TONES) >= 15
    assert {min(a.age, 70) // 10 for a in found.actors} >= {2, 3, 4, 5, 6, 7}


def test_every_actor_looks_ahead_with_both_eyes_open_in_the_template() -> None:
    found = Cast.load()
    for actor in found.actors:
        texture, landmarks = actor.texture(), actor.landmarks
        assert texture.shape == (found.size, found.size, 3), actor.name
        assert layout.interocular(landmarks) == pytest.approx(0.22 * found.size, rel=0.2), actor.name
        assert layout.eye_opening(landmarks) > 0.09, actor.name
        assert actor.mouth_opening < 0.12, actor.name
        for eye, iris in zip((layout.EYE_LEFT, layout.EYE_RIGHT), actor.iris, strict=True):
            assert cv2.pointPolygonTest(landmarks[eye], tuple(map(float, iris[0])), True) > -2, actor.name
