"""The landmark layout, the network, and the way in from insightface's 106 points, on a real photograph."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
import torch
from safetensors.torch import load_file, save_file

from revisage.models import landmarks, layout
from revisage.models.base import Landmarker
from revisage.models.detectors import CenterFaceDetector
from revisage.models.runtime import onnxruntime
from revisage.models.train import data
from revisage.models.train import landmarks as training
from revisage.pipeline import geometry
from revisage.pipeline.errors import ModelError
from revisage.pipeline.types import Float, Image

CORNERS = {"outer left": 46, "inner left": 54, "outer right": 62, "inner right": 70}


@pytest.fixture(scope="module")
def photo() -> Image:
    picture: Image = skimage.data.astronaut()
    return picture


@pytest.fixture(scope="module")
def five(photo: Image) -> Float:
    return CenterFaceDetector(device="cpu", threads=1).detect(photo)[0].points


@pytest.fixture(scope="module")
def landmarker() -> landmarks.FaceLandmarker:
    return landmarks.FaceLandmarker.load()


@pytest.fixture(scope="module")
def found(landmarker: landmarks.FaceLandmarker, photo: Image, five: Float) -> Float:
    return landmarker.locate(photo, [five])[0][0]


def off(a: Float, b: Float) -> Float:
    """Distances in interocular distances of `a`."""
    distance: Float = np.linalg.norm(a - b, axis=-1) / layout.interocular(a)
    return distance


def average_face() -> Float:
    """The mean shape, in pixels of a large crop."""
    return landmarks.with_eye_centres(landmarks.load_net().mean_shape.numpy() * 1000)


def test_it_is_a_landmarker(landmarker: landmarks.FaceLandmarker) -> None:
    assert isinstance(landmarker, Landmarker)


def test_landmarks_lie_on_the_astronauts_face(found: Float, five: Float) -> None:
    assert found.shape == (layout.LANDMARK_COUNT, 2)
    assert found.dtype == np.float32
    # Read off the photograph by eye: pupils and corners of the mouth, to a tenth of the interocular distance.
    by_eye = np.array([[202.5, 101.5], [246.5, 104.0], [203.0, 140.0], [246.0, 139.5]], np.float32)
    named = found[[133, 134, layout.MOUTH_LEFT, layout.MOUTH_RIGHT]]
    assert (np.linalg.norm(named - by_eye, axis=-1) / layout.interocular(found)).max() < 0.1
    assert np.linalg.norm(layout.five_points(found) - five, axis=-1).max() / layout.interocular(found) < 0.25


def test_parts_lie_where_a_face_has_them(found: Float) -> None:
    oval = found[layout.OVAL].astype(np.float32)[:, None]
    inside = [cv2.pointPolygonTest(oval, tuple(map(float, p)), False) >= 0 for p in found[36:]]
    assert all(inside)
    heights = [
        found[part, 1].mean() for part in (layout.BROW_LEFT, layout.EYE_LEFT, layout.NOSTRILS, layout.LIPS_OUTER)
    ]
    assert heights == sorted(heights)
    assert found[layout.EYE_LEFT, 0].max() < found[layout.EYE_RIGHT, 0].min()
    lips = cv2.contourArea(found[layout.LIPS_OUTER]), cv2.contourArea(found[layout.LIPS_INNER])
    assert lips[0] > lips[1] > 0  # she smiles: the opening shows teeth, and lies between the lips


def test_bad_five_points_are_made_up_for(landmarker: landmarks.FaceLandmarker, photo: Image, found: Float) -> None:
    """Turned by 25 degrees, 15 % too large and shifted by a sixth of the interocular distance."""
    five = layout.five_points(found)
    middle, unit = five.mean(0), float(layout.interocular(found))
    turn = cv2.getRotationMatrix2D((0, 0), 25, 1.15)[:, :2].astype(np.float32)
    rough = (five - middle) @ turn.T + middle + np.float32(unit / 6)
    again = landmarker.locate(photo, [rough])[0][0]
    assert off(found, again).mean() < 0.06


def test_a_mirrored_picture_gives_mirrored_landmarks(
    landmarker: landmarks.FaceLandmarker, photo: Image, five: Float, found: Float
) -> None:
    width = photo.shape[1]
    flipped = np.ascontiguousarray(photo[:, ::-1])
    five_flipped = five[[1, 0, 2, 4, 3]] * (-1, 1) + (width - 1, 0)
    mirrored = landmarker.locate(flipped, [five_flipped.astype(np.float32)])[0][0]
    assert off(found, layout.mirror(mirrored, width)).mean() < 0.04


def test_a_batch_changes_nothing(landmarker: landmarks.FaceLandmarker, photo: Image, five: Float) -> None:
    starts = [five + np.float32(shift) for shift in range(-3, 4)] * 3  # more than one batch
    together = landmarker.locate(photo, starts)
    for start, (points, confidence) in zip(starts, together, strict=True):
        alone, alone_confidence = landmarker.locate(photo, [start])[0]
        # Convolutions may sum in another order for another batch size: a thousandth of a pixel, grown by two passes.
        np.testing.assert_allclose(points, alone, atol=0.02)
        assert confidence == pytest.approx(alone_confidence, abs=1e-3)
    assert landmarker.locate(photo, []) == []


def test_no_face_means_low_confidence(landmarker: landmarks.FaceLandmarker, photo: Image, five: Float) -> None:
    face = landmarker.locate(photo, [five])[0][1]
    coffee = landmarker.locate(skimage.data.coffee(), [five, five * 1.5, five + np.float32(100)])
    hand = landmarker.locate(photo, [five + np.array([150, 150], np.float32)])  # the suit
    grey = landmarker.locate(np.full_like(photo, 127), [five])
    assert face > 0.6
    assert max(confidence for _, confidence in [*coffee, *hand, *grey]) < min(0.5, face - 0.2)


def test_a_face_at_the_edge_is_located(
    landmarker: landmarks.FaceLandmarker, photo: Image, five: Float, found: Float
) -> None:
    """Cut through the face, a quarter of it gone: the rest stays where it is."""
    left = int(found[layout.OVAL, 0].min() + 0.2 * np.ptp(found[layout.OVAL, 0]))
    cut = np.ascontiguousarray(photo[:, left:])
    points = landmarker.locate(cut, [five - np.float32([left, 0])])[0][0] + np.float32([left, 0])
    assert off(found, points)[layout.EYE_RIGHT].mean() < 0.08


def test_half_precision_weights_are_small() -> None:
    assert sum(f.stat().st_size for f in landmarks.WEIGHTS.iterdir()) < 3_000_000


def test_fusing_changes_nothing() -> None:
    crops = torch.from_numpy(np.random.default_rng(0).uniform(0, 255, (2, 3, 112, 112)).astype(np.float32))
    with torch.inference_mode():
        plain, fused = landmarks.load_net()(crops), landmarks.load_net().fuse()(crops)
    for a, b in zip(plain, fused, strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)


def test_onnx_runtime_computes_what_the_network_does() -> None:
    crops = np.random.default_rng(0).uniform(0, 90, (3, 3, 112, 112)).astype(np.float32)
    net = landmarks.load_net()
    with torch.inference_mode():
        points, log_error = net(torch.from_numpy(crops))
    session = onnxruntime.InferenceSession(landmarks.to_onnx(net), providers=["CPUExecutionProvider"])
    got = session.run(["points", "log_error"], {"crops": crops})
    np.testing.assert_allclose(got[0].reshape(3, -1, 2), points.numpy(), atol=1e-4)
    np.testing.assert_allclose(got[1][:, 0], log_error.numpy(), atol=1e-3)


def test_a_damaged_folder_is_a_model_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no usable landmark network"):
        landmarks.load_net(tmp_path / "nowhere")
    folder = Path(shutil.copytree(landmarks.WEIGHTS, tmp_path / "copy"))
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(ModelError, match="no usable landmark network"):
        landmarks.load_net(folder)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    net = landmarks.LandmarkNet(widths=(4, 4, 8, 8), hidden=16).eval()
    landmarks.save_net(net, tmp_path)
    crops = torch.full((1, 3, 112, 112), 50.0)
    torch.testing.assert_close(landmarks.load_net(tmp_path)(crops)[0], net(crops)[0], atol=2e-3, rtol=0)


def test_layout_agrees_with_its_names() -> None:
    face = average_face()
    assert face[layout.LIP_TOP, 1] < face[layout.LIP_BOTTOM, 1]
    assert face[layout.LID_TOP_LEFT, 1] < face[layout.LID_BOTTOM_LEFT, 1]
    assert face[CORNERS["outer left"], 0] < face[CORNERS["inner left"], 0]
    assert face[CORNERS["inner right"], 0] < face[CORNERS["outer right"], 0]
    np.testing.assert_allclose(layout.five_points(face)[2], face[layout.NOSE_TIP])
    np.testing.assert_allclose(layout.mirror(layout.mirror(face, 1000), 1000), face, atol=1e-3)
    assert off(face, layout.mirror(face, 2 * face[0, 0] + 1)).max() < 0.03  # the mean face is symmetric


def as_insightface(face: Float) -> Float:
    """The 106 points of a face whose 135 are known: corners and middles exactly, the rest in between."""
    points = np.full((106, 2), np.nan, np.float32)
    jaw = [*reversed(range(7, 19))], [*range(18, 30)]
    points[[1, 9, 10, 11, 12, 13, 14, 15, 16, 2, 3, 4, 5, 6, 7, 8, 0]] = spread(face[[*reversed(jaw[1])]], 17)
    points[[0, 24, 23, 22, 21, 20, 19, 18, 32, 31, 30, 29, 28, 27, 26, 25, 17]] = spread(face[[*jaw[0]]], 17)
    points[[43, 48, 49, 51, 50]] = face[layout.BROW_LEFT]
    points[[102, 103, 104, 105, 101]] = face[layout.BROW_RIGHT][::-1]
    left, right = face[layout.EYE_LEFT], face[layout.EYE_RIGHT]
    points[[35, 36, 33, 37, 39, 42, 40, 41]] = left[::2]
    points[[93, 91, 87, 90, 89, 95, 94, 96]] = right[::2]
    points[[72, 73, 74, 86]] = spread(face[layout.NOSE_BRIDGE], 4)
    points[[77, 78, 79, 80, 85, 84, 83]] = spread(face[layout.NOSTRILS], 7)
    outer, inner = face[layout.LIPS_OUTER], face[layout.LIPS_INNER]
    points[[52, 55, 56, 53, 59, 58, 61]] = spread(outer[:11], 7)
    points[[61, 68, 67, 71, 63, 64, 52]] = spread(np.concatenate([outer[10:], outer[:1]]), 7)
    points[[65, 54, 60, 57, 69]] = spread(inner[:11], 5)
    points[[69, 70, 62, 66, 65]] = spread(np.concatenate([inner[10:], inner[:1]]), 5)
    return points


def spread(line: Float, count: int) -> Float:
    """`count` points at equal steps along a polyline."""
    way = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=-1))])
    at = np.linspace(0, way[-1], count)
    return np.stack([np.interp(at, way, line[:, axis]) for axis in (0, 1)], -1).astype(np.float32)


def test_insightface_points_are_mapped_onto_the_layout() -> None:
    face = average_face()
    turned = (face @ np.array([[0.9, 0.2], [-0.3, 0.8]], np.float32)).astype(np.float32)
    for truth in (face, turned):
        mapped = landmarks.from_insightface106(as_insightface(truth))
        assert mapped.shape == (layout.LANDMARK_COUNT, 2)
        assert np.isfinite(mapped).all()  # no point that it does not know was used
        assert off(truth, mapped).mean() < 0.03
        assert off(truth, mapped).max() < 0.12
        corners = [*CORNERS.values(), layout.NOSE_TIP, layout.MOUTH_LEFT, layout.MOUTH_RIGHT, 18]
        assert off(truth, mapped)[corners].max() < 0.01


def test_damage_leaves_size_and_landmarks(photo: Image, found: Float) -> None:
    rng = np.random.default_rng(3)
    example = training.Example(photo, found)
    samples = [training.sample(example, rng) for _ in range(60)]
    again = [training.sample(example, r) for r in [np.random.default_rng(3)] for _ in range(60)]
    assert all(crop.shape == (112, 112, 3) and crop.dtype == np.uint8 for crop, _, _ in samples)
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(samples, again, strict=True))
    faces = np.stack([points for _, points, is_face in samples if is_face])
    assert 40 < len(faces) < 60  # some show none
    assert ((faces > 0) & (faces < 111)).all(-1).mean() > 0.95  # a crop shows the whole face
    assert (faces[:, 133, 0] < faces[:, 134, 0]).all()  # mirrored landmarks changed their places too


def test_a_network_of_contours_alone_grows(tmp_path: Path) -> None:
    """A network of the contours alone is taken, too: the other points start at the mean shape."""
    whole = landmarks.LandmarkNet(widths=(4, 4, 8, 8), hidden=16)
    landmarks.save_net(whole, tmp_path / "whole")
    state = {k: v for k, v in load_file(tmp_path / "whole" / "model.safetensors").items() if "closer" not in k}
    for name in ("points.weight", "points.bias"):
        state[name] = state[name][: 2 * landmarks.CONTOURS].contiguous()
    state["mean_shape"] = state["mean_shape"][: landmarks.CONTOURS].contiguous()
    save_file(state, tmp_path / "whole" / "model.safetensors")
    mean = torch.rand(landmarks.POINTS, 2)
    net = training.grown(tmp_path / "whole", mean).eval()
    crops = torch.full((1, 3, 112, 112), 50.0)
    points = net(crops)[0][0]
    torch.testing.assert_close(
        points[: landmarks.CONTOURS], whole.eval()(crops)[0][0, : landmarks.CONTOURS], atol=2e-3, rtol=0
    )
    torch.testing.assert_close(net.mean_shape[landmarks.CONTOURS :], mean[landmarks.CONTOURS :])


def test_no_person_is_trained_on_and_held_out() -> None:
    held_out, excluded = data.read_names(data.HOLDOUT), data.read_names(data.EXCLUDED)
    assert len(held_out) > 100
    assert not held_out & excluded
    one, two, three = np.eye(3, 8, dtype=np.float32)
    groups = data.people(np.stack([one, two, one + 0.1, three, two - 0.1, one + 0.25]))
    assert groups == [[0, 2, 5], [1, 4], [3]]
    chosen = data.hold_out([[i, i + 1] for i in range(0, 200, 2)])
    assert len(chosen) == 20
    assert all((i ^ 1) in chosen for i in chosen)


def test_broken_portraits_are_named(photo: Image, found: Float) -> None:
    grown = cv2.resize(photo, None, fx=2, fy=2)
    assert data.defect(grown, found * 2) is None
    assert data.defect(photo, found / 2) == "face too small"
    assert data.defect(grown, found * 2 - np.float32([400, 0])) == "landmarks outside the picture"
    grey = np.repeat(grown.mean(-1, keepdims=True), 3, axis=-1).astype(np.uint8)
    assert data.defect(grey, found * 2) == "monochrome"


def test_held_out_portraits_are_met(shared: Path) -> None:
    folder = shared / "faces"
    if not (folder / "landmarks.npz").is_file():
        pytest.skip("needs the folder of portraits")
    _, held_out = data.split(data.load_portraits(folder))
    landmarker = landmarks.FaceLandmarker.load()
    rng = np.random.default_rng(2)
    errors = []
    for portrait in held_out[::4]:
        truth = portrait.landmarks
        start = layout.five_points(truth) + rng.normal(0, 0.04, (5, 2)) * layout.interocular(truth)
        points = landmarker.locate(portrait.read(), [start.astype(np.float32)])[0][0]
        errors.append(off(truth, points).mean())
    assert np.median(errors) < 0.045


def test_alignment_shows_the_whole_face(five: Float, found: Float) -> None:
    matrix = geometry.align(five, landmarks.TEMPLATE, landmarks.SIZE)
    inside = geometry.transform(found, matrix)
    assert inside.min() > 3
    assert inside.max() < landmarks.SIZE - 4
