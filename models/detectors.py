"""Face detectors: CenterFace (embedded) and insightface's packs. Owns scales and thresholds.

Knows no video, track or key, and never downloads: a pack that is not installed is a `ModelError` that says how to get
it. Which execution provider ONNX Runtime really runs is checked after the session was made, because it falls back to
the CPU without a word.

Scale, measured with real faces pasted into photographs (share of faces that CenterFace finds with a score of at least
0.5 - at least 0.2, by width of the face in the network's input): 10 px 0-11 %, 14 px 20-65 %, 20 px 87-93 %, 24 px
93-98 %, 32 px 93-99 %, 48 to 450 px 98-100 %. SCRFD-500M: 20 px 32-68 %, 24 px 60-91 %, 32 px 88-98 %, 40 px 95-100 %.
Shrinking a picture loses small faces at once: to keep a face of 20 px CenterFace must see the picture as it is.
Enlarging 1.5 times finds more of them (score 0.4 - 0.2: 88-94 % become 96-100 %) at 2.3 times the cost: `smallest=13`.
SCRFD-500M misses faces of 20 px even enlarged 1.6 times (47-68 % become 49-77 %): no detector for distant people.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from revisage.models import hashes
from revisage.models.base import Detector
from revisage.pipeline.errors import DeviceError, ModelError
from revisage.pipeline.geometry import align
from revisage.pipeline.types import CropTemplate, FaceDetection, Float, Image

LOW = 0.2  # default of what counts as a detection at all; the tracker is stricter about what starts a track
SMALLEST = 20.0  # width in pixels of the smallest face that scaling must not lose
_CENTERFACE_SMALLEST, _SCRFD_SMALLEST = 20.0, 32.0  # faces that the networks still find, in pixels of their input
_FEW_PIXELS = 250_000  # a smaller picture is enlarged up to this area: it costs little and finds more
_MOST_ENLARGED = 2.0
_SECOND_LOOK = 640  # longest side of the second look, where very large faces score well
_STRIDE = 32  # both networks want sides that are multiples of this
_MAX_AREA = 4_000_000  # pixels a network sees at once; larger pictures are looked at in overlapping strips
_PACKS = Path("~/.insightface")


@dataclass(frozen=True, slots=True)
class Look:
    """One pass of a network over rows `top:bottom` of a picture, resized to `width` x `height`."""

    top: int
    bottom: int
    width: int
    height: int


def looks(width: int, height: int, smallest: float = SMALLEST, findable: float = _CENTERFACE_SMALLEST) -> list[Look]:
    """Which passes of a network that finds faces from `findable` pixels on find those from `smallest` pixels on.

    The first is at the scale that `smallest` needs (enlarged when the picture is small, cut into strips when it is
    huge), the last one, for large pictures, is small.
    """
    scale = findable / max(smallest, 1.0)
    enlarge = (_FEW_PIXELS / (width * height)) ** 0.5
    scale = max(scale, min(enlarge, _MOST_ENLARGED))
    passes = [_look(top, bottom, width, scale) for top, bottom in _strips(width, height, scale)]
    if max(width, height) * scale > 1.5 * _SECOND_LOOK:
        passes.append(_look(0, height, width, _SECOND_LOOK / max(width, height)))
    return passes


def _look(top: int, bottom: int, width: int, scale: float) -> Look:
    return Look(top, bottom, _to_stride(width * scale), _to_stride((bottom - top) * scale))


def _strips(width: int, height: int, scale: float) -> list[tuple[int, int]]:
    """Rows of each strip: equal heights, neighbours share 1/16 of the picture's longest side."""
    overlap = max(width, height) / 16
    most = max(_MAX_AREA / scale**2 / width, 2 * overlap)
    count = 1 if height <= most else int(np.ceil((height - overlap) / (most - overlap)))
    step = (height - overlap) / count
    return [(int(i * step), min(height, int(np.ceil(i * step + step + overlap)))) for i in range(count)]


def _to_stride(side: float) -> int:
    return max(1, int(np.ceil(side / _STRIDE - 1e-6))) * _STRIDE


CENTERFACE = hashes.WEIGHTS / "centerface"


class CenterFaceDetector:
    """CenterFace (Xu et al. 2019, arXiv 1911.03599; MIT), embedded, on ONNX Runtime.

    `device`: auto, cpu or cuda; `threads`: 0 takes every core; `threshold`: scores below it are not reported.
    Raises `ModelError` where the model is not sound, `DeviceError` when CUDA was asked for and does not run.
    """

    def __init__(
        self, *, device: str = "auto", threads: int = 0, threshold: float = LOW, smallest: float = SMALLEST
    ) -> None:
        self._session, self.provider = _session(centerface_model(), device, threads)
        self._threshold = threshold
        self._smallest = smallest

    @property
    def name(self) -> str:
        """Always `centerface`."""
        return "centerface"

    def detect(self, picture: Image) -> list[FaceDetection]:
        """Faces in `picture` (H, W, 3) uint8 RGB, in its pixels, best score first."""
        height, width = picture.shape[:2]
        found = [self._look(picture, look) for look in looks(width, height, self._smallest)]
        return _detections(np.concatenate(found), width, height)

    def _look(self, picture: Image, look: Look) -> Float:
        """(N, 15): box, score, points; before suppression, in pixels of `picture`."""
        part = _resize(picture[look.top : look.bottom], look)
        blob = np.ascontiguousarray(part.transpose(2, 0, 1)[None], np.float32)  # RGB 0..255, as it was trained on
        heat, scale, offset, points = self._session.run(["537", "538", "539", "540"], {"input.1": blob})
        rows = _decode_centerface(heat, scale, offset, points, self._threshold)
        return _to_picture(rows, look, picture.shape[1])


def _decode_centerface(heat: Float, scale: Float, offset: Float, points: Float, threshold: float) -> Float:
    """Network outputs (1, 1|2|2|10, h, w) -> (N, 15) box, score, points in pixels of the input; one row a peak."""
    y, x = np.nonzero(_peaks(heat[0, 0]) > threshold)
    size = np.exp(scale[0, ::-1, y, x]) * 4  # (N, 2) width, height: the network's order is y before x throughout
    centre = (np.stack([x, y], -1) + offset[0, ::-1, y, x] + 0.5) * 4
    corner = centre - size / 2
    five = points[0, :, y, x].reshape(-1, 5, 2)[..., ::-1] * size[:, None] + corner[:, None]
    return np.hstack([corner, corner + size, heat[0, 0, y, x, None], five.reshape(-1, 10)]).astype(np.float32)


def _peaks(heat: Float) -> Float:
    """`heat` with everything but local maxima set to 0; suppression then has few rows to compare."""
    highest = cv2.dilate(heat, np.ones((3, 3), np.uint8))
    return np.where(heat >= highest, heat, np.float32(0))


class InsightFaceDetector:
    """insightface's `FaceAnalysis`: SCRFD boxes and points, and the ArcFace embedding where the pack has one.

    `name` is a pack's folder under `<root>/models`; `embed=False` leaves recognition out. Packs are for non-commercial
    research only, which is why none comes with this program. Raises `ModelError` when the pack is not installed.
    """

    def __init__(
        self,
        name: str = "buffalo_l",
        *,
        root: Path | None = None,
        device: str = "auto",
        threads: int = 0,
        threshold: float = LOW,
        smallest: float = SMALLEST,
        embed: bool = True,
    ) -> None:
        app, self.provider = load_pack(name, root, device, threads, ["detection", "recognition"][: 1 + embed])
        self._detection = app.models["detection"]
        self._recognition = app.models.get("recognition")
        self._detection.prepare(0, det_thresh=threshold)
        self._pack = name
        self._smallest = smallest

    @property
    def name(self) -> str:
        """`insightface:<pack>`."""
        return f"insightface:{self._pack}"

    def detect(self, picture: Image) -> list[FaceDetection]:
        """Faces in `picture` (H, W, 3) uint8 RGB, in its pixels, best score first."""
        bgr = np.ascontiguousarray(picture[..., ::-1])
        height, width = picture.shape[:2]
        found = [self._look(bgr, look) for look in looks(width, height, self._smallest, _SCRFD_SMALLEST)]
        faces = _detections(np.concatenate(found), width, height)
        return [self._embedded(bgr, face) for face in faces] if self._recognition is not None else faces

    def _look(self, bgr: Image, look: Look) -> Float:
        part = _resize(bgr[look.top : look.bottom], look)
        boxes, points = self._detection.detect(part, input_size=(look.width, look.height))
        if points is None:
            raise ModelError(f"the detector of {self._pack} gives no points; choose a pack whose detector has five")
        return _to_picture(np.hstack([boxes, points.reshape(-1, 10)]).astype(np.float32), look, bgr.shape[1])

    def _embedded(self, bgr: Image, face: FaceDetection) -> FaceDetection:
        return FaceDetection(face.box, face.score, face.points, arcface(self._recognition, bgr, face.points))


def load_detector(
    name: str = "auto",
    *,
    device: str = "auto",
    threads: int = 0,
    threshold: float = LOW,
    smallest: float = SMALLEST,
    root: Path | None = None,
) -> tuple[Detector, str]:
    """A detector, and one line saying which, on what, and why.

    `auto` takes insightface when a pack is installed under `root` (default `~/.insightface`), else CenterFace.
    `insightface` takes the first installed pack, `insightface:NAME` that one. Raises `ModelError`, `DeviceError`.
    """
    kind, _, pack = name.partition(":")
    if kind not in ("auto", "insightface", "centerface"):
        raise ModelError(f"unknown detector {name!r}; choose auto, insightface, insightface:PACK or centerface")
    packs = installed_packs(root)
    if kind == "centerface" or (kind == "auto" and not packs):
        centre = CenterFaceDetector(device=device, threads=threads, threshold=threshold, smallest=smallest)
        why = "" if kind == "centerface" else "; no insightface pack is installed"
        return centre, f"centerface on {centre.provider}{why}"
    pack = pack or (packs[0] if packs else "buffalo_l")
    face = InsightFaceDetector(pack, root=root, device=device, threads=threads, threshold=threshold, smallest=smallest)
    return face, f"insightface {pack} on {face.provider}; its models are for non-commercial research only"


def installed_packs(root: Path | None = None) -> list[str]:
    """Names of the folders with models under `<root>/models`, buffalo packs first."""
    folder = (root or _PACKS).expanduser() / "models"
    names = sorted(p.parent.name for p in folder.glob("*/det_*.onnx")) if folder.is_dir() else []
    names += sorted(p.parent.name for p in folder.glob("*/scrfd_*.onnx")) if folder.is_dir() else []
    return sorted(dict.fromkeys(names), key=lambda n: (not n.startswith("buffalo"), n))


def load_pack(name: str, root: Path | None, device: str, threads: int, tasks: Sequence[str]) -> tuple[Any, str]:
    """An insightface `FaceAnalysis` with `tasks`, and the provider it runs on. Never downloads.

    Raises `ModelError` when the folder is absent, holds no model, or lacks a detector.
    """
    base = (root or _PACKS).expanduser()
    folder = base / "models" / name
    if not any(folder.glob("**/*.onnx")):
        raise ModelError(f"insightface pack {name} is not installed under {base}; run: revisage models fetch {name}")
    from insightface.app import FaceAnalysis  # noqa: PLC0415  (imports much)

    import revisage.models.runtime  # noqa: PLC0415, F401 - before insightface imports it

    wanted = _providers(device)
    try:
        app = FaceAnalysis(
            name=str(folder), allowed_modules=list(tasks), providers=wanted, sess_options=_session_options(threads)
        )
    except AssertionError as error:
        raise ModelError(f"insightface pack {name} has no detector; fetch it again or choose another") from error
    return app, _running(app.models["detection"].session, device)


def arcface(model: Any, bgr: Image, points: Float) -> Float:
    """(D,) float32 of unit length from insightface's recognition model, for the face at `points` in a BGR picture."""
    from insightface.utils.face_align import arcface_dst  # noqa: PLC0415

    side = int(model.input_size[0])
    template = CropTemplate("arcface", [tuple((xy + 0.5) / 112) for xy in arcface_dst])
    chip = cv2.warpAffine(bgr, align(points, template, side), (side, side))
    vector = np.asarray(model.get_feat(chip), np.float32).reshape(-1)
    unit: Float = vector / max(float(np.linalg.norm(vector)), 1e-6)
    return unit


# -- ONNX Runtime ------------------------------------------------------------------------------------------------------


def centerface_model() -> bytes:
    """CenterFace with free input sides, embedded. Raises ModelError where it is missing or was changed."""
    hashes.check(CENTERFACE)
    return (CENTERFACE / "centerface.onnx").read_bytes()


def _session(model: bytes, device: str, threads: int) -> tuple[Any, str]:
    from revisage.models.runtime import onnxruntime  # noqa: PLC0415

    session = onnxruntime.InferenceSession(model, _session_options(threads), providers=_providers(device))
    return session, _running(session, device)


def _session_options(threads: int) -> Any:
    from revisage.models.runtime import onnxruntime  # noqa: PLC0415

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or os.cpu_count() or 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # leave the cores to decoder and others
    return options


def _providers(device: str) -> list[str]:
    """What to ask ONNX Runtime for; `DeviceError` when it cannot be there."""
    from revisage.models.runtime import onnxruntime  # noqa: PLC0415

    kind = device.partition(":")[0]
    if kind not in ("auto", "cpu", "cuda"):
        raise DeviceError(f"unknown device {device!r}; choose auto, cpu or cuda")
    cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if kind == "cuda" and not cuda:
        raise DeviceError("this onnxruntime has no CUDA; install onnxruntime-gpu or use --device cpu")
    if kind == "cpu" or not cuda:
        return ["CPUExecutionProvider"]
    if callable(preload := getattr(onnxruntime, "preload_dlls", None)):
        preload()  # finds the CUDA libraries that torch brought
    return ["CUDAExecutionProvider", "CPUExecutionProvider"]


def _running(session: Any, device: str) -> str:
    """The provider that really runs; `DeviceError` when CUDA was asked for by name and did not start."""
    first = str(session.get_providers()[0]).removesuffix("ExecutionProvider")
    if device.startswith("cuda") and first != "CUDA":
        raise DeviceError(
            f"CUDA did not start in onnxruntime, which fell back to {first}; use --device cpu or mend CUDA"
        )
    offered = device == "auto" and "CUDAExecutionProvider" in _providers(device)
    return f"{first} (CUDA was offered but did not start)" if offered and first != "CUDA" else first


# -- rows of box, score, points ----------------------------------------------------------------------------------------


def _resize(part: Image, look: Look) -> Image:
    if part.shape[1::-1] == (look.width, look.height):
        return part
    shrinks = look.width < part.shape[1]
    mode = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized: Image = cv2.resize(part, (look.width, look.height), interpolation=mode)
    return resized


def _to_picture(rows: Float, look: Look, width: int) -> Float:
    """From pixels of the network's input to pixels of the picture."""
    factor = np.array([width / look.width, (look.bottom - look.top) / look.height], np.float32)
    shift = np.array([0, look.top], np.float32)
    out = rows.copy()
    for pair in (slice(0, 2), slice(2, 4), *(slice(i, i + 2) for i in range(5, 15, 2))):
        out[:, pair] = rows[:, pair] * factor + shift
    return out


def _detections(rows: Float, width: int, height: int) -> list[FaceDetection]:
    """Suppress doubles, clip boxes to the picture, best score first."""
    edge = np.array([width, height, width, height], np.float32)
    faces = []
    for row in rows[_suppress(rows)]:
        x0, y0, x1, y1 = (float(v) for v in np.clip(row[:4], 0, edge))
        if x1 - x0 >= 1 and y1 - y0 >= 1:
            faces.append(FaceDetection((x0, y0, x1, y1), min(float(row[4]), 1.0), row[5:].reshape(5, 2).copy()))
    return faces


def _suppress(rows: Float, overlap: float = 0.3) -> list[int]:
    """Greedy non-maximum suppression by intersection over union; indices of the kept rows, best score first."""
    order = np.argsort(-rows[:, 4], kind="stable")
    area = (rows[:, 2] - rows[:, 0]) * (rows[:, 3] - rows[:, 1])
    kept: list[int] = []
    while len(order):
        best, rest = int(order[0]), order[1:]
        kept.append(best)
        side = np.minimum(rows[rest, 2:4], rows[best, 2:4]) - np.maximum(rows[rest, :2], rows[best, :2])
        shared = np.prod(np.maximum(side, 0), axis=1)
        order = rest[shared / np.maximum(area[rest] + area[best] - shared, 1e-6) < overlap]
    return kept
