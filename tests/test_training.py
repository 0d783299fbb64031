"""What the painter learns from: own faces that must come back, others that must stay, and a rate that falls."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny import tiny_cast  # type: ignore[import-not-found]

from revisage.models import layout, reenact, tone
from revisage.models.base import FaceRequest
from revisage.models.conditioning import FACE_TEMPLATE, face_mask, standard_landmarks
from revisage.models.device import choose_device
from revisage.models.generator import load_generator
from revisage.models.train.face import (
    KEPT,
    MARGIN,
    SIZE,
    Networks,
    Sitter,
    _colour,
    arguments,
    batches,
    collared,
    export,
    loss_of,
    make_batch,
    pace,
    sample,
    set_off,
)
from revisage.pipeline import geometry
from revisage.pipeline.types import Float


def sitter(shade: int = 150) -> Sitter:
    """An average face of one colour over a smooth picture."""
    five = ((np.asarray(FACE_TEMPLATE.points, np.float32) - 0.5) / MARGIN + 0.5) * KEPT - 0.5
    rows, columns = (np.mgrid[:KEPT, :KEPT] + 0.5) / KEPT
    pixels = np.stack([255 * rows, 255 * columns, 128 + 100 * np.sin(9 * rows)], axis=-1).astype(np.uint8)
    points = standard_landmarks(five)
    pixels[face_mask(points, KEPT, dilate=0.1) > 0] = (shade, shade * 2 // 3, shade // 2)
    return Sitter(pixels, points, reenact.face_of(pixels, points))


def points_of() -> Float:
    return standard_landmarks(np.asarray(FACE_TEMPLATE.points, np.float32) * SIZE - 0.5)


def test_a_portrait_must_come_back_as_it_was_wherever_its_face_was_removed() -> None:
    row = sample(sitter(), np.random.default_rng(3))
    np.testing.assert_array_equal(row.wanted, row.picture)
    assert ((row.weight > 0) == (row.mask > 0)).all()
    beside = row.mask == 0
    np.testing.assert_array_equal(row.removed[beside], row.picture[beside])


def test_somebody_elses_face_must_stay_and_so_must_what_is_beside_it() -> None:
    rng = np.random.default_rng(3)
    dark, pale = sitter(60), sitter(220)
    marked = pale.face.detail.copy()
    marked[110:120] *= 0.3  # a stripe across the nose
    other = Sitter(pale.pixels, pale.landmarks, reenact.Face(marked, *_rest(pale.face)))
    row, plain = (sample(dark, rng, one, augment=False) for one in (other, pale))
    beside = row.mask == 0
    np.testing.assert_array_equal(row.wanted[beside], row.picture[beside])
    core = row.weight > 0.4
    assert core.any() and not (core & beside).any()
    assert np.abs(row.wanted.astype(int) - plain.wanted)[core].max() > 15, "the stripe is wanted"
    inside = cv2.erode(core.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    assert abs(float(plain.wanted[inside].mean()) - float(row.picture[inside].mean())) < 12, "in the portrait's tone"


def _rest(face: reenact.Face) -> tuple[object, ...]:
    return (face.sharpness, face.warmth, face.points, face.eyes, face.proportions, face.mouth)


def test_tone_is_shown_to_most_and_not_to_all() -> None:
    rng = np.random.default_rng(0)
    greys = [(sample(sitter(), rng).removed[64, 64] == 128).all() for _ in range(60)]
    assert 0.05 < np.mean(greys) < 0.5


def test_one_step_learns(tmp_path: Path) -> None:
    torch.manual_seed(0)
    nets = Networks((32, 32, 32), width=8)
    args = arguments(["--portraits", str(tmp_path), "--start", str(tmp_path)])
    batch = next(batches([sitter(s) for s in range(60, 220, 20)], 2, 1, seed=0))
    assert len(batch.wanted) == 3
    optimizer = torch.optim.Adam(nets.parameters(), 2e-3)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = loss_of(nets, batch, args)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-3:]) < 0.8 * losses[0]


def test_use_loads_what_training_exports(tmp_path: Path) -> None:
    export(Networks((32, 32, 32), width=8), tmp_path)
    tiny_cast(tmp_path / "cast")
    generator = load_generator(str(tmp_path), device=choose_device("cpu"), batch_size=1)
    grey, mask = np.full((SIZE, SIZE, 3), 128, np.uint8), np.full((SIZE, SIZE), 255, np.uint8)
    code, noise = np.zeros(generator.code_size, np.float32), np.zeros(generator.noise_shape, np.float32)
    (picture,) = generator.generate([FaceRequest(grey, mask, points_of(), code, noise)])
    assert picture.shape == (SIZE, SIZE, 3)


def test_what_training_shows_is_what_use_shows(tmp_path: Path) -> None:
    export(Networks((32, 32, 32), width=8), tmp_path)
    tiny_cast(tmp_path / "cast")
    generator = load_generator(str(tmp_path), device=choose_device("cpu"), batch_size=1)
    one = sitter()
    family = generator.family
    code, noise = np.zeros(generator.code_size, np.float32), np.zeros(generator.noise_shape, np.float32)
    face = family.face(FaceRequest(one.pixels, one.pixels[..., 0], one.landmarks, code, noise))  # type: ignore[attr-defined]
    row = sample(one, np.random.default_rng(0), Sitter(one.pixels, one.landmarks, face), augment=False)

    matrix = geometry.align(layout.five_points(one.landmarks), FACE_TEMPLATE, SIZE)
    points = geometry.transform(one.landmarks, matrix)
    light = tone.read(row.picture, points)
    assert light is not None
    request = FaceRequest(row.removed, row.mask, points, code, noise, light)
    seen, look = family.conditions([request])  # type: ignore[attr-defined]
    batch = make_batch([row])
    torch.testing.assert_close(seen[:, :3], batch.removed, atol=0.03, rtol=0)
    torch.testing.assert_close(seen[:, 3:4], batch.mask * 2 - 1)
    torch.testing.assert_close(seen[:, 4:], batch.drawing, atol=0.05, rtol=0)
    assert (look - batch.look).abs().mean() < 0.02


def test_a_rate_rises_stays_and_falls_to_nothing() -> None:
    assert pace(0, 0.0, 0.3) == 0.01
    assert pace(500, 0.5, 0.3) == 1.0
    assert pace(500, 0.85, 0.3) == pytest.approx(0.5)
    assert pace(500, 1.01, 0.3) == 0.0
    assert pace(500, 1.0, 0.0) == 1.0, "without a fall"


def test_surroundings_change_their_brightness_and_skin_does_not() -> None:
    y, x = np.mgrid[:128, :128]
    points = points_of()
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


def test_collars_reach_the_chin_and_leave_the_face_alone() -> None:
    row, landmarks = sample(sitter(), np.random.default_rng(3), augment=False), points_of()
    chin, mouth = landmarks[layout.OVAL, 1].max(), landmarks[layout.LIPS_OUTER, 1].max()
    shades = []
    for seed in range(30):
        dressed = collared(row.picture, landmarks, np.random.default_rng(seed))
        changed = np.abs(dressed.astype(int) - row.picture).max(-1) > 8
        middle = changed[:, SIZE // 2]
        assert not changed[: round(float(mouth))].any()
        assert not middle[: round(float(chin))].any()
        below = round(float(chin + 0.5 * layout.interocular(landmarks)))
        assert middle[below:].mean() > 0.7, "no neck is left to be seen"
        shades.append(dressed[-1].mean())
    assert np.min(shades) < 40 and np.max(shades) > 150
