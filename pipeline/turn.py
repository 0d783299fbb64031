"""Between the frame as it is stored and the picture as people see it. Knows no file and no detector."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from revisage.pipeline.types import Box, FaceDetection, Float, Image
from revisage.trackers.base import Sighting


@dataclass(frozen=True, slots=True)
class Turn:
    """Phones store pictures lying on their side; networks want faces upright, the plan wants the stored frame."""

    quarters: int  # counter-clockwise, from stored to upright
    width: int  # of the stored frame
    height: int

    @classmethod
    def of(cls, rotation: float, width: int, height: int) -> Turn:
        """For a stored frame of `width` x `height` that players turn by `rotation` degrees, counter-clockwise."""
        return cls(round(rotation / 90) % 4, width, height)

    def upright(self, picture: Image) -> Image:
        """The stored picture (H, W, 3) as people see it."""
        return picture if self.quarters == 0 else np.ascontiguousarray(np.rot90(picture, self.quarters))

    def upright_points(self, points: Float) -> Float:
        """Points (N, 2) of the stored frame, pixel centres at whole numbers, in the upright picture."""
        x, y = points[..., 0], points[..., 1]
        right, bottom = self.width - 1, self.height - 1
        turned = {0: (x, y), 1: (y, right - x), 2: (right - x, bottom - y), 3: (bottom - y, x)}[self.quarters]
        there: Float = np.stack(turned, axis=-1).astype(np.float32)
        return there

    def stored(self, sighting: Sighting) -> Sighting:
        """A sighting in the upright picture, in the stored frame."""
        if self.quarters == 0:
            return sighting
        face = sighting.detection
        corners = self._back(np.array(face.box, np.float32).reshape(2, 2), edge=0)
        box: Box = (*(float(v) for v in corners.min(0)), *(float(v) for v in corners.max(0)))  # type: ignore[assignment]
        turned = FaceDetection(box, face.score, self._back(face.points, edge=1), face.embedding)
        shape = sighting.landmarks
        return replace(sighting, detection=turned, landmarks=None if shape is None else self._back(shape, edge=1))

    def stored_view(self, view: Float) -> Float:
        """(3,) how the camera looks, of the upright picture, as that of the stored frame; see trackers/base.py."""
        if self.quarters == 0:
            return view
        shift = self._back(view[:2], edge=0) - view[2] * self._back(np.zeros(2, np.float32), edge=0)
        return np.array([*shift, view[2]], np.float32)

    def _back(self, points: Float, *, edge: int) -> Float:
        """(…, 2) upright to stored. `edge` is 1 for pixel centres at whole numbers, 0 for borders of boxes."""
        x, y = points[..., 0], points[..., 1]
        right, bottom = self.width - edge, self.height - edge
        turned = {0: (x, y), 1: (right - y, x), 2: (right - x, bottom - y), 3: (y, bottom - x)}[self.quarters]
        back: Float = np.stack(turned, axis=-1).astype(np.float32)
        return back
