"""Between the frame as it is stored and the picture as people see it. Knows no file and no detector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from revisage.models import layout
from revisage.pipeline.types import Box, FaceDetection, Float, Image
from revisage.trackers.base import Sighting

_FIVE_MIRRORED = [1, 0, 2, 4, 3]  # eyes, nose, corners of the mouth
_OBLIQUE = 0.01  # of a matrix's larger entries: what the others may be, about half a degree


@dataclass(frozen=True, slots=True)
class Orientation:
    """How players turn and mirror the stored picture: one of eight ways."""

    quarters: int = 0  # counter-clockwise, after mirroring
    mirrored: bool = False  # left and right of the stored picture change places first

    @classmethod
    def of_matrix(cls, matrix: Sequence[int] | None) -> Orientation:
        """Of a display matrix, nine whole numbers (ISO/IEC 14496-12, 6.2.2); a scale is no matter, zeros say nothing.

        Raises ValueError for a matrix that turns by other than quarters, or shears.
        """
        if matrix is None or not any(matrix[i] for i in (0, 1, 3, 4)):
            return cls()
        a, b, c, d = (matrix[i] for i in (0, 1, 3, 4))  # x' = a x + c y, y' = b x + d y
        if max(abs(b), abs(c)) <= _OBLIQUE * min(abs(a), abs(d)):
            mirrored = (a < 0) != (d < 0)
            return cls(0 if d > 0 else 2, mirrored)
        if max(abs(a), abs(d)) <= _OBLIQUE * min(abs(b), abs(c)):
            mirrored = (b < 0) == (c < 0)
            return cls(1 if c > 0 else 3, mirrored)
        raise ValueError("not one of the eight ways to turn and mirror")


@dataclass(frozen=True, slots=True)
class Turn:
    """Phones store pictures lying on their side; networks want faces upright, the plan wants the stored frame."""

    quarters: int  # counter-clockwise, from stored to upright
    width: int  # of the stored frame
    height: int
    mirrored: bool = False  # before it is turned

    @classmethod
    def of(cls, orientation: Orientation, width: int, height: int) -> Turn:
        """For a stored frame of `width` x `height` that players show in this way."""
        return cls(orientation.quarters, width, height, orientation.mirrored)

    def upright(self, picture: Image) -> Image:
        """The stored picture (H, W, 3) as people see it."""
        seen = np.rot90(picture[:, ::-1] if self.mirrored else picture, self.quarters)
        return picture if seen is picture else np.ascontiguousarray(seen)

    def upright_points(self, points: Float) -> Float:
        """Points (N, 2) of the stored frame, pixel centres at whole numbers, in the upright picture.

        Five points and dense landmarks keep their order as the viewer sees them: the left eye is always on the left.
        """
        points = _exchanged(points) if self.mirrored else points
        x, y = points[..., 0], points[..., 1]
        x = self.width - 1 - x if self.mirrored else x
        right, bottom = self.width - 1, self.height - 1
        turned = {0: (x, y), 1: (y, right - x), 2: (right - x, bottom - y), 3: (bottom - y, x)}[self.quarters]
        there: Float = np.stack(turned, axis=-1).astype(np.float32)
        return there

    def stored(self, sighting: Sighting) -> Sighting:
        """A sighting in the upright picture, in the stored frame."""
        if self._plain:
            return sighting
        face = sighting.detection
        corners = self._back(np.array(face.box, np.float32).reshape(2, 2), edge=0)
        box: Box = (*(float(v) for v in corners.min(0)), *(float(v) for v in corners.max(0)))  # type: ignore[assignment]
        points, shape = self._back(face.points, edge=1), sighting.landmarks
        shape = None if shape is None else self._back(shape, edge=1)
        turned = FaceDetection(box, face.score, points, face.embedding)
        return replace(sighting, detection=turned, landmarks=shape)

    @property
    def _plain(self) -> bool:
        return self.quarters == 0 and not self.mirrored

    def stored_view(self, view: Float) -> Float:
        """(3,) how the camera looks, of the upright picture, as that of the stored frame; see trackers/base.py."""
        if self._plain:
            return view
        shift = self._back(view[:2], edge=0) - view[2] * self._back(np.zeros(2, np.float32), edge=0)
        return np.array([*shift, view[2]], np.float32)

    def _back(self, points: Float, *, edge: int) -> Float:
        """(…, 2) upright to stored. `edge` is 1 for pixel centres at whole numbers, 0 for borders of boxes."""
        points = _exchanged(points) if self.mirrored else points
        x, y = points[..., 0], points[..., 1]
        right, bottom = self.width - edge, self.height - edge
        turned = {0: (x, y), 1: (right - y, x), 2: (right - x, bottom - y), 3: (y, bottom - x)}[self.quarters]
        back: Float = np.stack((right - turned[0] if self.mirrored else turned[0], turned[1]), -1).astype(np.float32)
        return back


def _exchanged(points: Float) -> Float:
    """Left and right of five points or of dense landmarks in each other's places; other points as they are."""
    if points.ndim == 2 and len(points) == len(_FIVE_MIRRORED):
        return points[_FIVE_MIRRORED]
    if points.ndim == 2 and len(points) in (layout.CONTOUR_COUNT, layout.LANDMARK_COUNT):
        return points[layout.mirror_order()[: len(points)]]
    return points
