"""Dense landmarks by an insightface pack: its 106 points, brought into this project's layout. Never downloads.

Knows no video, track or key. Packs are for non-commercial research only.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from revisage.models import layout
from revisage.models.conditioning import standard_landmarks
from revisage.models.detectors import load_pack
from revisage.models.landmarks import from_insightface106
from revisage.pipeline.errors import ModelError
from revisage.pipeline.types import Float, Image

TASK = "landmark_2d_106"
_ERROR_SCALE = 0.3  # mean distance from the five points, in interocular distances, at which the confidence is 1/e


class PackLandmarker:
    """The model `2d106det` of an insightface pack, as a `Landmarker`.

    Raises ModelError when the pack is not installed or has no such model; see `has_landmarks`.
    """

    def __init__(
        self, name: str = "buffalo_l", *, root: Path | None = None, device: str = "auto", threads: int = 0
    ) -> None:
        app, self.provider = load_pack(name, root, device, threads, ["detection", TASK])
        if TASK not in app.models:
            raise ModelError(f"insightface pack {name} has no 106 landmarks; run: revisage models fetch buffalo_l")
        self._model = app.models[TASK]

    def locate(self, picture: Image, points: Sequence[Float]) -> list[tuple[Float, float]]:
        """See `Landmarker.locate`. The confidence says how well the landmarks agree with the five points."""
        bgr = np.ascontiguousarray(picture[..., ::-1])
        return [self._locate(bgr, five) for five in points]

    def _locate(self, bgr: Image, five: Float) -> tuple[Float, float]:
        average = standard_landmarks(five)
        box = np.concatenate([average.min(0), average.max(0)])
        found = self._model.get(bgr, _Face(bbox=box))
        landmarks = from_insightface106(np.asarray(found, np.float32))
        off = np.linalg.norm(layout.five_points(landmarks) - five, axis=-1).mean() / layout.interocular(average)
        return landmarks, float(np.exp(-off / _ERROR_SCALE))


class _Face(SimpleNamespace):
    """What the model's `get` reads and writes: a box, and a place to leave its result."""

    def __setitem__(self, name: str, value: object) -> None:
        setattr(self, name, value)
