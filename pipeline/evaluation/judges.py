"""What strangers make of finished pictures: is there a face, where are its landmarks, who is it, how does it look?

Owns the networks that judge; none of them takes part in anonymizing except the landmark network, whose own error on the
original is always reported beside. Knows no video, key or generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from revisage.models import landmarks as dense
from revisage.models import layout
from revisage.models.base import Detector, Landmarker
from revisage.models.detectors import CenterFaceDetector
from revisage.models.landmarks import FaceLandmarker
from revisage.models.scoring import CenterFaceFeatures, DlibRecognizer
from revisage.pipeline import geometry
from revisage.pipeline.types import Float, Image

FACE_SCORE = 0.4  # CenterFace's score from which a face counts as found again
CROP = 128  # side of the upright face crops that are kept and compared


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """The judgement of N faces, one row each."""

    found: NDArray[np.bool_]  # (N,), CenterFace sees a face at its place
    landmarks: Float  # (N, 135, 2) in pixels of the picture
    embeddings: Float  # (N, 128), dlib's
    features: Float  # (N, D), CenterFace's backbone
    crops: Image  # (N, CROP, CROP, 3)

    def __len__(self) -> int:
        return len(self.found)

    def __getitem__(self, rows: slice | NDArray[Any]) -> Self:
        return type(self)(*(getattr(self, field.name)[rows] for field in fields(self)))

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """All rows of all `parts`, at least one."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))


class Judges:
    """The networks, loaded once. Raises ModelError without the extra `score`."""

    def __init__(self, threads: int = 0) -> None:
        self.detector: Detector = CenterFaceDetector(device="cpu", threads=threads, threshold=FACE_SCORE)
        self.landmarker: Landmarker = FaceLandmarker.load(threads=threads)
        self.recognizer = DlibRecognizer()
        self.features = CenterFaceFeatures(threads)

    def look(self, picture: Image, driving: Sequence[Float]) -> Seen:
        """The faces of one picture at the places of the landmarks `driving` (135, 2), at least one.

        A face that is not found again is judged where it ought to be.
        """
        boxes = [face for face in self.detector.detect(picture) if face.score >= FACE_SCORE]
        guides = [layout.five_points(shape) for shape in driving]
        hits = [next((f.points for f in boxes if _around(f.box, guide)), None) for guide in guides]
        guides = [guide if hit is None else hit for hit, guide in zip(hits, guides, strict=True)]
        shapes = [shape for shape, _ in self.landmarker.locate(picture, guides)]
        crops = [face_crop(picture, shape) for shape in driving]
        return Seen(
            np.array([hit is not None for hit in hits]),
            np.stack(shapes),
            np.stack([self.recognizer.embed(picture, shape) for shape in shapes]),
            self.features.of(crops),
            np.stack(crops),
        )


def face_crop(picture: Image, landmarks: Float, side: int = CROP) -> Image:
    """The face alone, upright and filling the crop: (side, side, 3)."""
    return geometry.crop(picture, geometry.align(layout.five_points(landmarks), dense.TEMPLATE, side), side)


def _around(box: tuple[float, float, float, float], points: Float) -> bool:
    x, y = points.mean(0)
    return bool(box[0] <= x <= box[2] and box[1] <= y <= box[3])
