"""Recognizers: who a face is, as a vector. Owns insightface's ArcFace; knows no video, track or key.

Used to measure (does the synthetic face still look like the person?), never to anonymize.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from revisage.models.detectors import arcface, load_pack
from revisage.pipeline.errors import ModelError
from revisage.pipeline.types import Float, Image


class ArcFaceRecognizer:
    """The recognition model of an insightface pack (ArcFace, Deng et al., CVPR 2019). Never downloads.

    `threshold` is the cosine from which two faces count as one person; the right value belongs to the pack. Raises
    `ModelError` when the pack is not installed or brings no recognizer.
    """

    def __init__(
        self,
        name: str = "buffalo_l",
        *,
        root: Path | None = None,
        device: str = "auto",
        threads: int = 0,
        threshold: float = 0.35,
    ) -> None:
        app, self.provider = load_pack(name, root, device, threads, ["detection", "recognition"])
        if "recognition" not in app.models:
            raise ModelError(f"insightface pack {name} has no recognizer; run: revisage models fetch buffalo_l")
        self._model = app.models["recognition"]
        self._threshold = threshold

    @property
    def threshold(self) -> float:
        """Cosine at and above which two faces count as one person."""
        return self._threshold

    @property
    def mean_threshold(self) -> float:
        """The same for means over two films."""
        return self._threshold

    def embed(self, picture: Image, points: Float) -> Float:
        """(D,) float32 of unit length for the face at `points` (5, 2) in `picture` (H, W, 3) uint8 RGB."""
        return arcface(self._model, np.ascontiguousarray(picture[..., ::-1]), points)
