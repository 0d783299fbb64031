"""Networks that only judge: dlib's face recognizer and CenterFace's backbone. Never used to anonymize; knows no video.

The recognizer is one that no part of the method has seen or been trained with, so that its verdict is independent. It
comes with the optional extra `score` and is loaded on use. Landmarks are those of `layout`, in pixels of their picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import cv2
import numpy as np

from revisage.models import layout
from revisage.models.detectors import centerface_model
from revisage.models.runtime import onnxruntime
from revisage.pipeline.errors import ModelError
from revisage.pipeline.types import Float, Image

SAME_PERSON = 0.6  # Euclidean distance of two embeddings up to which dlib's author counts one person
FEATURE_SIDE = 256  # pixels; crops are resized to it before their features are taken

# dlib's five-point shape: outer and inner corner of the eye at the viewer's right, the same of the other, base of nose.
_SHAPE = (
    layout.EYE_RIGHT.start,
    layout.EYE_RIGHT.start + 8,
    layout.EYE_LEFT.start,
    layout.EYE_LEFT.start + 8,
    layout.NOSTRILS.start + 4,
)
_STAGES = ("387", "413", "474", "511")  # ends of CenterFace's stages at strides 4, 8, 16 and 32


class DlibRecognizer:
    """dlib's ResNet of 29 layers (King 2017, `dlib_face_recognition_resnet_model_v1`): 99.4 % on LFW at 0.6.

    Two faces count as one person where the Euclidean distance of their embeddings is at most `SAME_PERSON`.
    Raises ModelError without the extra `score`.
    """

    def __init__(self) -> None:
        try:
            self._dlib, weights = import_module("dlib"), import_module("face_recognition_models")
        except ImportError as error:
            raise ModelError("the scoring recognizer is missing; run: pip install 'revisage[score]'") from error
        self._net = self._dlib.face_recognition_model_v1(weights.face_recognition_model_location())

    def embed(self, picture: Image, landmarks: Float) -> Float:
        """(128,) float32 for the face at `landmarks` (LANDMARK_COUNT, 2) in `picture` (H, W, 3) uint8 RGB."""
        points = [self._dlib.point(*map(int, landmarks[i].round())) for i in _SHAPE]
        (x0, y0), (x1, y1) = landmarks.min(0).round().astype(int), landmarks.max(0).round().astype(int)
        shape = self._dlib.full_object_detection(self._dlib.rectangle(int(x0), int(y0), int(x1), int(y1)), points)
        vector = self._net.compute_face_descriptor(np.ascontiguousarray(picture), shape)
        return np.asarray(vector, np.float32)


class CenterFaceFeatures:
    """What CenterFace's MobileNetV2 backbone (Xu et al. 2019; MIT) makes of face crops: means of its four stages.

    A stand-in for the Inception network that KID and FID are usually taken with, which nothing here ships: values
    compare with each other, not with published ones. `threads`: 0 takes every core.
    """

    def __init__(self, threads: int = 0) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(_backbone(), options, providers=["CPUExecutionProvider"])

    def of(self, crops: Sequence[Image]) -> Float:
        """(N, D) float32 for N crops (S, S, 3) uint8 RGB of any side."""
        return np.stack([self._one(crop) for crop in crops])

    def _one(self, crop: Image) -> Float:
        resized = cv2.resize(crop, (FEATURE_SIDE, FEATURE_SIDE), interpolation=cv2.INTER_CUBIC)
        blob = np.ascontiguousarray(resized.transpose(2, 0, 1)[None], np.float32)
        stages = self._session.run(list(_STAGES), {"input.1": blob})
        return np.concatenate([stage.mean((0, 2, 3)) for stage in stages])


def _backbone() -> bytes:
    """CenterFace with free input sides and its stages as outputs."""
    onnx: Any = import_module("onnx")
    model = onnx.load_model_from_string(centerface_model())
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in _STAGES)
    data: bytes = model.SerializeToString()
    return data
