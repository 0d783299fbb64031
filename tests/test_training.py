"""What the painter learns from: faces a frame later, and a rate that falls."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from diffusers import UNet2DModel
from test_canvas import sitter  # type: ignore[import-not-found]
from tiny import CODE, appearance  # type: ignore[import-not-found]

from revisage.models import landmarks, layout
from revisage.models.appearance import Artist
from revisage.models.conditioning import face_mask
from revisage.models.device import choose_device
from revisage.models.generator import load_generator
from revisage.models.train.face import (
    CANVASES,
    Canvas,
    Networks,
    Painted,
    Row,
    Teachers,
    _colour,
    album,
    beside_loss,
    collared,
    export,
    lessons,
    make_batch,
    moved,
    pace,
    recast,
    sample,
    set_off,
    tone_loss,
)
from revisage.models.train.mix import main
from revisage.pipeline import geometry
from revisage.pipeline.types import Float

CANVAS = CANVASES[128]
LIPS = [*layout.facing(layout.LIPS_INNER)[1], *layout.facing(layout.LIPS_OUTER)[1]]


def painted_shape(row: Row) -> Float:
    """(133, 2) where a row's face is to be painted, in its pixels."""
    upright = geometry.align(layout.five_points(row.landmarks), landmarks.TEMPLATE, landmarks.SIZE)
    return geometry.transform(row.points * landmarks.SIZE - 0.5, geometry.invert(upright))


@pytest.fixture
def lent() -> Row:
    artist = Artist(appearance())
    row = sample(sitter(CANVAS), artist, CANVAS, np.random.default_rng(3))
    return recast(row, np.ones(CODE, np.float32), artist)


@pytest.mark.parametrize("seed", range(6))
def test_pixels_of_a_frame_are_found_a_frame_later_even_on_lips_that_moved(lent: Row, seed: int) -> None:
    later, went = moved(lent, Artist(appearance()), CANVAS, np.random.default_rng(seed))
    before, after = painted_shape(lent), painted_shape(later)
    cells = np.clip(np.round(before).astype(int), 0, CANVAS.size - 1)
    found = ((went + 1) * CANVAS.size - 1)[cells[:, 1], cells[:, 0]] / 2
    apart = np.linalg.norm(found - after, axis=1)
    assert np.median(apart) < 1.0, "half a pixel by rounding, and what landmarks err"
    assert np.median(apart[LIPS]) < 1.5


def test_mouths_open_and_close_from_one_frame_to_the_next_and_nothing_else_does(lent: Row) -> None:
    changes = []
    for seed in range(40):
        later, _ = moved(lent, Artist(appearance()), CANVAS, np.random.default_rng(seed))
        shape = np.vstack([painted_shape(later), later.landmarks[layout.EYE_CENTRES]])
        first = np.vstack([painted_shape(lent), lent.landmarks[layout.EYE_CENTRES]])
        changes.append([layout.mouth_opening(shape) - layout.mouth_opening(first),
                        layout.eye_opening(shape) - layout.eye_opening(first)])  # fmt: skip
    mouth, eyes = np.array(changes).T
    assert mouth.max() > 0.02 and mouth.std() > 2 * eyes.std()
    assert abs(eyes.mean()) < 0.01


def test_a_rate_rises_stays_and_falls_to_nothing() -> None:
    assert pace(0, 0.0, 0.3) == 0.01
    assert pace(500, 0.5, 0.3) == 1.0
    assert pace(500, 0.85, 0.3) == pytest.approx(0.5)
    assert pace(500, 1.01, 0.3) == 0.0
    assert pace(500, 1.0, 0.0) == 1.0, "without a fall"


def lent_scene(lent: Row) -> Painted:
    """One portrait, the same painted as somebody else, and that a frame later; painted as filmed."""
    own = sample(sitter(CANVAS), Artist(appearance()), CANVAS, np.random.default_rng(3))
    later, _ = moved(lent, Artist(appearance()), CANVAS, np.random.default_rng(1))
    batch = make_batch([own, lent, later])
    return Painted(batch, batch.clean.clone(), batch.clean.clone(), CANVAS.alpha(batch.mask), 1)


def test_a_face_painted_as_somebody_else_keeps_the_light_on_it_and_what_is_beside_it(lent: Row) -> None:
    made = lent_scene(lent)
    assert tone_loss(made) < 1e-6 and beside_loss(made) < 1e-6
    drawn = (made.batch.look[1] != 0).any(dim=0) | (made.batch.look[0] != 0).any(dim=0)
    beside = (made.alpha[1, 0] > 0) & ~drawn
    assert beside.sum() > 200
    made.picture[1, :, beside] += 0.3
    assert tone_loss(made) < 1e-6, "what is beside the face makes up for nothing"
    assert beside_loss(made) == pytest.approx(0.3 + 0.3**2, abs=0.02)


def test_a_face_that_is_too_dark_counts_as_such(lent: Row) -> None:
    made = lent_scene(lent)
    made.picture[1, :, (made.batch.look[1] != 0).any(dim=0)] -= 0.3
    assert tone_loss(made) > 0.005
    assert beside_loss(made) < 1e-6


def test_a_seam_falls_off_around_what_is_painted() -> None:
    mask = torch.zeros(1, 1, 128, 128)
    mask[..., 40:88, 40:88] = 1
    alpha = CANVAS.alpha(mask)
    assert (alpha[mask > 0] == 1).all()
    row = alpha[0, 0, 64, 88:100]
    assert (row.diff() <= 0).all() and 0 < row[3] < 1
    assert row[7:].max() == 0, "six pixels are as wide as in use"
    assert CANVASES[256].alpha(mask)[0, 0, 64, 98] > 0 == CANVASES[256].alpha(mask)[0, 0, 64, 101]


def test_surroundings_change_their_brightness_and_skin_does_not() -> None:
    y, x = np.mgrid[:128, :128]
    points = sample(sitter(CANVAS), Artist(appearance()), CANVAS, np.random.default_rng(3), augment=False).landmarks
    picture = np.full((128, 128, 3), (90, 120, 60), np.uint8)
    skin = (x - 64) ** 2 + (y - 64) ** 2 < 45**2
    neck = (y > 110) & (abs(x - 64) < 15)
    picture[skin | neck] = (200, 150, 120)
    inside = cv2.erode((skin | neck).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    outside = cv2.dilate((skin | neck).astype(np.uint8), np.ones((13, 13), np.uint8)) == 0
    outside &= face_mask(points, 128, dilate=0.6) == 0
    changes = []
    for seed in range(12):
        changed = set_off(picture, points, np.random.default_rng(seed)).astype(int) - picture
        assert np.abs(changed[inside]).max() <= 2
        changes.append(changed[outside].mean())
    assert min(changes) < -20 and max(changes) > 20


def test_colours_are_louder_and_quieter_warmer_and_colder_than_in_the_portrait() -> None:
    picture = np.full((8, 8, 3), (150, 110, 90), np.uint8)
    picture[4:] = (90, 110, 120)
    chroma, warmth = [], []
    for seed in range(200):
        one = _colour(picture, np.random.default_rng(seed), 0.0).astype(float)
        light = one.max()
        chroma.append(np.abs(one[0, 0] - one[7, 7]).max() / light)
        warmth.append((one[..., 0] - one[..., 2]).mean() / light)
    assert np.quantile(chroma, 0.95) > 0.44, "0.4 in the portrait"
    assert np.quantile(warmth, 0.05) < 0.02 and np.quantile(warmth, 0.95) > 0.14, "0.1 in the portrait"


def test_two_folders_mix_into_one_that_loads(tmp_path: Path) -> None:
    canvas = Canvas(64, 4, (32, 32, 32), width=8)
    nets = [Networks(canvas), Networks(canvas)]
    for name, net in zip("ab", nets, strict=True):
        export(net, appearance(), tmp_path / name)
    main([str(tmp_path / "a"), str(tmp_path / "b"), "--share", "0.25", "--out", str(tmp_path / "mixed")])
    made = UNet2DModel.from_pretrained(tmp_path / "mixed/unet").state_dict()
    for name, value in made.items():
        a, b = (net.unet.state_dict()[name] for net in nets)
        torch.testing.assert_close(value, 0.75 * a + 0.25 * b, atol=2e-3, rtol=2e-3)
    load_generator(str(tmp_path / "mixed"), device=choose_device("cpu"), batch_size=1)
    export(Networks(Canvas(64, 4, (32, 32, 64), width=8)), appearance(), tmp_path / "other")
    with pytest.raises(ValueError, match="not of one training"):
        main([str(tmp_path / "a"), str(tmp_path / "other"), "--out", str(tmp_path / "no")])


class Colours(torch.nn.Module):
    """In place of a recognizer: takes people for the colours of their pictures' quarters."""

    def person(self, crops: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(crops, 2).flatten(1)


def test_a_lent_face_is_to_be_taken_for_whom_it_was_mixed_of() -> None:
    people = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0)).round() * 2 - 1
    people = torch.nn.functional.interpolate(people[..., :2, :2], size=(16, 16))
    teachers = Teachers(Colours(), CANVASES[128], people)  # type: ignore[arg-type]
    who = torch.eye(6)[[2, 4]]
    right, wrong = (teachers.person_loss(people[rows], who) for rows in ([2, 4], [4, 2]))
    assert right < 0.5 < wrong
    mixed = torch.tensor([[0.5, 0.5, 0, 0, 0, 0]])
    assert teachers.person_loss((people[:1] + people[1:2]) / 2, mixed) < teachers.person_loss(people[2:3], mixed)


def test_portraits_are_found_for_the_looks_and_others_refused() -> None:
    model = appearance()
    artist = Artist(model)
    sitters = [replace(sitter(CANVAS), code=look.numpy(), pixels=np.full_like(sitter(CANVAS).pixels, 20 * i))
               for i, look in enumerate(model.people)]  # fmt: skip
    order = np.random.default_rng(0).permutation(len(sitters))
    crops = album([sitters[i] for i in order], model, artist, CANVAS)
    np.testing.assert_allclose((crops.mean((1, 2, 3)) + 1) * 127.5, 20 * np.arange(len(sitters)), atol=0.1)
    with pytest.raises(SystemExit, match="other portraits"):
        album(sitters[1:], model, artist, CANVAS)


def test_a_lesson_says_of_whom_lent_faces_are_mixed() -> None:
    artist = Artist(appearance())
    lesson = next(lessons([sitter(CANVAS)] * 3, artist, CANVAS, size=2, lent=1, seed=0))
    assert len(lesson.batch.clean) == 4 and lesson.went.shape == (1, 128, 128, 2)
    assert lesson.who.shape == (1, len(appearance().people)) and lesson.who.sum() == pytest.approx(1)
    assert (lesson.batch.look[2] - lesson.batch.look[0]).abs().max() > 0.1


@pytest.mark.parametrize("canvas", list(CANVASES.values()), ids=str)
def test_collars_reach_the_chin_and_leave_the_face_alone(canvas: Canvas) -> None:
    row = sample(sitter(canvas), Artist(appearance()), canvas, np.random.default_rng(3), augment=False)
    chin, mouth = row.landmarks[layout.OVAL, 1].max(), row.landmarks[layout.LIPS_OUTER, 1].max()
    shades = []
    for seed in range(30):
        dressed = collared(row.picture, row.landmarks, np.random.default_rng(seed))
        changed = np.abs(dressed.astype(int) - row.picture).max(-1) > 8
        middle = changed[:, canvas.size // 2]
        assert not changed[: round(float(mouth))].any()
        assert not middle[: round(float(chin))].any()
        below = round(float(chin + 0.5 * layout.interocular(row.landmarks)))
        assert middle[below:].mean() > 0.7, "no neck is left to be seen"
        shades.append(dressed[-1].mean())
    assert np.min(shades) < 40 and np.max(shades) > 150
