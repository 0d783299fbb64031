"""The detector's other looks, with which a finished file is checked. Knows no video, plan or key.

A verifier that looks as the analysis looked sees what that saw and misses what that missed. The mirrored picture is
another input to the network at the same cost, and finds about as many faces; `Thorough` adds every look there is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from revisage.models.base import Detector
from revisage.models.looks import looked, merged, overlap
from revisage.pipeline.types import Box, FaceDetection, Image

Eyes = Callable[[Image], list[FaceDetection]]  # upright picture (H, W, 3) -> faces in its pixels
_SAME = 0.5  # intersection over union of the boxes that two looks have around one face
_OTHER_SIDE = [1, 0, 2, 4, 3]  # of the five points: left and right change places


@dataclass(frozen=True, slots=True)
class Mirrored:
    """One look, at the picture flipped left to right. For files whose plan comes from the plain look."""

    detector: Detector

    def __call__(self, picture: Image) -> list[FaceDetection]:
        """Faces in `picture`, best score first."""
        width = picture.shape[1]
        return [unmirrored(face, width) for face in self.detector.detect(np.ascontiguousarray(picture[:, ::-1]))]


@dataclass(frozen=True, slots=True)
class Thorough:
    """All looks: plain, mirrored, turned, enlarged, shrunk, and brightened where it is dark. Seven times the cost.

    Looks differ by a tenth about where a face ends: its box is the median of those that see it, its points are those of
    the surest.
    """

    detector: Detector

    def __call__(self, picture: Image) -> list[FaceDetection]:
        """Faces in `picture`, each once, best score first."""
        found = [*looked(self.detector, picture), Mirrored(self.detector)(picture)]
        return [replace(face, box=_agreed(face.box, found)) for face in merged(found)]


def _agreed(box: Box, found: Sequence[Sequence[FaceDetection]]) -> Box:
    """The median of the boxes that several looks have around the face in `box`."""
    nearest = [max(faces, key=lambda face: overlap(face.box, box), default=None) for faces in found]
    same = [face.box for face in nearest if face is not None and overlap(face.box, box) >= _SAME]
    x0, y0, x1, y1 = (float(v) for v in np.median(same, axis=0))
    return x0, y0, x1, y1


def unmirrored(face: FaceDetection, width: int) -> FaceDetection:
    """A face of a mirrored picture of `width`, in the picture itself."""
    x0, y0, x1, y1 = face.box
    points = face.points[_OTHER_SIDE].copy()
    points[:, 0] = width - 1 - points[:, 0]
    return replace(face, box=(width - x1, y0, width - x0, y1), points=points)
