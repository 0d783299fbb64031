"""Training at more than one size: all canvases show the same of a face, and what is exported is what use loads."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny import CODE, appearance  # type: ignore[import-not-found]

from revisage.models.appearance import Artist
from revisage.models.base import FaceRequest
from revisage.models.conditioning import FACE_TEMPLATE, standard_landmarks
from revisage.models.device import choose_device
from revisage.models.generator import load_generator
from revisage.models.train.critic import Critic
from revisage.models.train.face import CANVASES, MARGIN, Canvas, Networks, Row, Sitter, export, recast, sample


def sitter(canvas: Canvas) -> Sitter:
    """An average face over a smooth picture."""
    five = ((np.asarray(FACE_TEMPLATE.points, np.float32) - 0.5) / MARGIN + 0.5) * canvas.kept - 0.5
    rows, columns = (np.mgrid[: canvas.kept, : canvas.kept] + 0.5) / canvas.kept
    pixels = np.stack([255 * rows, 255 * columns, 128 + 100 * np.sin(9 * rows)], axis=-1).astype(np.uint8)
    return Sitter(pixels, standard_landmarks(five), np.zeros(CODE, np.float32))


def shrunk(picture: np.ndarray) -> np.ndarray:
    return cv2.resize(picture, (128, 128), interpolation=cv2.INTER_AREA).astype(float)


@pytest.mark.parametrize("augment", [False, True])
def test_all_canvases_show_the_same(augment: bool) -> None:
    artist = Artist(appearance())

    def shown(canvas: Canvas) -> Row:
        row = sample(sitter(canvas), artist, canvas, np.random.default_rng(3), augment=augment)
        return recast(row, np.ones(CODE, np.float32), artist)

    small, large = shown(CANVASES[128]), shown(CANVASES[256])
    assert (len(small.picture), len(large.picture)) == (128, 256)
    np.testing.assert_allclose((large.landmarks + 0.5) / 2, small.landmarks + 0.5, atol=0.05)
    for name in ("points", "grid", "filmed_mouth", "painted_mouth"):
        np.testing.assert_allclose(getattr(large, name), getattr(small, name), atol=2e-3)
    for name, limit in (("picture", 1.5), ("mask", 5.0)):
        assert np.abs(shrunk(getattr(large, name)) - getattr(small, name)).mean() < limit
    assert np.abs(shrunk(large.look) - small.look).mean() < 0.02


def test_every_critic_sees_faces_as_large_whatever_their_pixels() -> None:
    for canvas in CANVASES.values():
        seen = torch.zeros(1, 7, canvas.size, canvas.size)
        for stage in Critic(canvas.critic).stages:
            seen = stage(seen)
        assert seen.shape[2:] == (8, 8)


def test_use_loads_what_a_canvas_exports(tmp_path: Path) -> None:
    canvas = Canvas(64, 4, (32, 32, 32), width=8)
    export(Networks(canvas), appearance(), tmp_path)
    generator = load_generator(str(tmp_path), device=choose_device("cpu"), batch_size=1)
    face = standard_landmarks(np.asarray(FACE_TEMPLATE.points, np.float32) * 64 - 0.5)
    grey, mask = np.full((64, 64, 3), 128, np.uint8), np.full((64, 64), 255, np.uint8)
    code, noise = np.zeros(CODE, np.float32), np.zeros(generator.noise_shape, np.float32)
    (picture,) = generator.generate([FaceRequest(grey, mask, face, code, noise)])
    assert picture.shape == (64, 64, 3)
    assert (generator.spec.size, generator.family.spec.calm) == (64, 2)  # type: ignore[attr-defined]
