"""The measures on inputs whose answer is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from skimage import data

from revisage.models.conditioning import FACE_TEMPLATE, standard_landmarks
from revisage.models.layout import interocular
from revisage.pipeline.evaluation import measures
from revisage.pipeline.types import Float, Image


def people(count: int, seed: int = 0) -> Float:
    return np.random.default_rng(seed).standard_normal((count, 16)).astype(np.float32)


def face(left: float = 200, top: float = 60, side: float = 120) -> Float:
    """Landmarks of an average face."""
    points = np.asarray(FACE_TEMPLATE.points, np.float32) * side + np.array([left, top], np.float32)
    return standard_landmarks(points)


def photograph() -> Image:
    return np.ascontiguousarray(data.astronaut())


def test_distances_are_euclidean() -> None:
    a, b = people(4), people(3, seed=1)
    expected = [[np.linalg.norm(x - y) for y in b] for x in a]
    np.testing.assert_allclose(measures.distances(a, b), expected, rtol=1e-5)
    np.testing.assert_allclose(measures.paired(a[:3], b), np.diag(expected), rtol=1e-5)
    assert len(measures.pairs_within(a)) == 6


def test_the_same_person_is_within_the_threshold_of_itself_and_strangers_are_not() -> None:
    same = people(5)
    assert measures.same_person_rate(measures.paired(same, same), 0.6) == 1
    assert measures.same_person_rate(measures.pairs_within(same), 0.6) == 0
    assert measures.same_person_rate(np.array([0.5, 0.6, 0.7, 0.9]), 0.6) == 0.5
    assert measures.identity_change(np.repeat(same[:1], 4, axis=0)) == 0


def test_rank1_finds_itself_and_not_its_neighbour() -> None:
    gallery = people(6)
    assert measures.rank1(gallery + 0.01, gallery) == 1
    assert measures.rank1(np.roll(gallery, 1, axis=0), gallery) == 0


def test_landmark_error_is_in_interocular_distances() -> None:
    driving = np.stack([face(), face(side=200)])
    shift = np.array([0.1, 0]) * interocular(driving)[:, None, None]
    np.testing.assert_allclose(measures.landmark_error(driving, driving + shift), [0.1, 0.1], rtol=1e-4)


def test_correlation_knows_no_scale_and_admits_when_nothing_moves() -> None:
    wave = np.sin(np.arange(20))
    assert measures.correlation(wave, 3 * wave + 1) == pytest.approx(1)
    assert measures.correlation(wave, -wave) == pytest.approx(-1)
    assert np.isnan(measures.correlation(wave, np.ones(20)))


def test_a_texture_does_not_see_motion_but_sees_light() -> None:
    picture, here = photograph(), face()
    move = np.array([[1.02, 0.05, 7], [-0.05, 1.02, 9]], np.float32)
    moved = cv2.warpAffine(picture, move, picture.shape[1::-1], flags=cv2.INTER_CUBIC)
    there = here @ move[:, :2].T + move[:, 2]
    still = measures.texture(picture, here)
    assert measures.texture_change(still, measures.texture(moved, there)) < 2
    assert measures.texture_change(still, measures.texture(moved, here)) > 10
    lighter = np.clip(picture // 2 + 10, 0, 255).astype(np.uint8)
    assert measures.texture_change(measures.texture(picture // 2, here), measures.texture(lighter, here)) == 10


def test_psnr_of_one_grey_level_and_of_nothing() -> None:
    a = np.full((16, 16, 3), 100, np.uint8)
    mask = np.zeros((16, 16), bool)
    assert measures.psnr(a, a) == measures.LOSSLESS
    assert measures.psnr(a, a + 1) == pytest.approx(48.13, abs=0.01)
    assert np.isnan(measures.psnr(a, a + 1, mask))
    mask[3, 3] = True
    b = a.copy()
    b[0, 0] = 0
    assert measures.psnr(a, b, mask) == measures.LOSSLESS


def test_ssim_is_one_where_nothing_differs() -> None:
    a = photograph()[:64, :64]
    b = a.copy()
    b[:, 40:] = 0
    similar = measures.ssim_map(a, b)
    assert similar[:, :30].min() == pytest.approx(1)
    assert similar[:, 50:].mean() < 0.7


def test_kid_is_nothing_between_samples_of_one_kind_and_grows_with_the_difference() -> None:
    reference, other = people(200), people(200, seed=1)
    near, far = measures.kid(reference, other + 0.5), measures.kid(reference, other + 1)
    assert abs(measures.kid(reference, other)) < 0.05 < near < far
    assert np.isnan(measures.kid(reference, other[:1]))
    centred, moved = measures.standardised(reference * 5 + 3, other * 5 + 3)
    np.testing.assert_allclose(centred.std(0), 1, rtol=1e-3)
    assert abs(measures.kid(centred, moved)) < 0.05


def test_blur_is_less_sharp() -> None:
    crop = photograph()[60:188, 160:288]
    soft = cv2.GaussianBlur(crop, (0, 0), 3)
    sharp = measures.sharpness(np.stack([crop, soft]))
    assert sharp[1] < 0.3 * sharp[0]


def test_lightness_is_the_middles() -> None:
    crop = np.zeros((1, 64, 64, 3), np.uint8)
    crop[:, 16:48, 16:48] = (200, 100, 50)
    assert measures.lightness(crop)[0] == pytest.approx(0.299 * 200 + 0.587 * 100 + 0.114 * 50, abs=0.01)


def test_nothing_to_measure_is_no_number() -> None:
    assert np.isnan(measures.mean(np.zeros(0)))
    assert np.isnan(measures.median(np.zeros(0)))
    assert np.isnan(measures.share(np.zeros(0, bool)))
