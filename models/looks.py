"""Looking again, where one look is not enough: turned, enlarged, shrunk, brightened, or closer at one place.

Owns what each look does to a picture and how its faces come back to the picture's own pixels; works with any
`Detector`. When a look is worth its cost is not decided here: see pipeline/attention.py.

Networks for faces are trained on upright, well lit faces of middling size. A face that lies on its side, that is as
small as 16 pixels, that fills the picture or that hardly stands out from the dark is found by the same network once the
picture is turned, enlarged, shrunk or brightened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from revisage.models.base import Detector
from revisage.pipeline.types import Box, FaceDetection, Float, Image

DARK = 60.0  # mean grey level of a picture, or of its dark half, that is worth brightening
_AIM = 118.0  # grey level that brightening aims at
_ENLARGED = 1.6  # a face of 16 pixels becomes one of 26, which CenterFace finds
_MOST_PIXELS = 2_500_000  # a larger picture is not enlarged as a whole
_SHRUNK = 288  # longest side in which a face that fills the picture has a size that the network knows
_TURNED, _TURNED_MOST = 800, 1.25  # longest side of a picture that is turned as a whole, and most it is enlarged to it
_CLOSE = 3.0  # side of a closer look, in face sizes
_CLOSE_PIXELS = 256  # at least so many pixels it is enlarged to
_SAME = 0.3  # intersection over union of two boxes on one face


@dataclass(frozen=True, slots=True)
class Look:
    """One way to look at a picture. `see` finds faces in the picture's own pixels, best score first."""

    name: str
    see: Callable[[Detector, Image], list[FaceDetection]]


def every_look(detector: Detector, picture: Image) -> list[FaceDetection]:
    """All that any look at the whole of `picture` (H, W, 3) uint8 RGB finds, each face once, best score first.

    Costs about six times what `detector.detect` does.
    """
    return merged(looked(detector, picture))


def looked(detector: Detector, picture: Image) -> list[list[FaceDetection]]:
    """What each look at the whole of `picture` (H, W, 3) uint8 RGB finds, the plain one first."""
    looks = [look.see(detector, picture) for look in WHOLE if look.name != "brightened" or is_dark(picture)]
    return [detector.detect(picture), *looks]


def merged(found: Iterable[Sequence[FaceDetection]]) -> list[FaceDetection]:
    """Faces of several looks at one picture, each once: the surest of those that lie on one another."""
    kept: list[FaceDetection] = []
    for face in sorted((face for faces in found for face in faces), key=lambda face: -face.score):
        if all(overlap(face.box, other.box) < _SAME for other in kept):
            kept.append(face)
    return kept


def is_dark(picture: Image) -> bool:
    """Is the picture, or the darker half of it, so dark that faces may drown?"""
    small = cv2.resize(picture, (64, 36), interpolation=cv2.INTER_AREA).mean(axis=-1)
    return bool(np.median(small) < DARK)


def overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    shared = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / max(both, 1e-9)


# -- looks at the whole picture ----------------------------------------------------------------------------------------


def turned(detector: Detector, picture: Image, degrees: float) -> list[FaceDetection]:
    """Faces that stand upright once the picture is turned by `degrees`, clockwise."""
    height, width = picture.shape[:2]
    scale = min(_TURNED_MOST, _TURNED / max(height, width))
    angle = np.deg2rad(degrees)
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    reach = np.abs(linear) @ (width, height)
    side = (int(np.ceil(reach[0])), int(np.ceil(reach[1])))
    shift = np.array(side) / 2 - linear @ (width / 2, height / 2)
    return _through(detector, picture, np.hstack([linear, shift[:, None]]), side)


def scaled(detector: Detector, picture: Image, factor: float) -> list[FaceDetection]:
    """Faces that the detector finds at another size."""
    height, width = picture.shape[:2]
    side = (max(1, round(width * factor)), max(1, round(height * factor)))
    return _through(detector, picture, np.diag([side[0] / width, side[1] / height, 0])[:2], side)


def enlarged(detector: Detector, picture: Image) -> list[FaceDetection]:
    """Small faces. A picture that is large already is left alone."""
    return scaled(detector, picture, _ENLARGED) if picture[..., 0].size * _ENLARGED**2 <= _MOST_PIXELS else []


def shrunk(detector: Detector, picture: Image) -> list[FaceDetection]:
    """Faces that fill the picture."""
    factor = _SHRUNK / max(picture.shape[:2])
    if factor >= 0.75:
        return []
    # in the middle of a grey field: alone, so small a picture would be enlarged again, and there is room for a chin
    side = 2 * _SHRUNK
    shift = side / 2 - factor * np.array(picture.shape[1::-1]) / 2
    return _through(detector, picture, np.array([[factor, 0, shift[0]], [0, factor, shift[1]]]), (side, side))


def brightened(detector: Detector, picture: Image) -> list[FaceDetection]:
    """Faces in the dark."""
    return detector.detect(brighter(picture))


def brighter(picture: Image) -> Image:
    """The picture with its levels raised by a power law until the median is a middle grey, noise held down."""
    light = float(np.clip(np.median(picture), 2, 250)) / 255
    gamma = float(np.clip(np.log(_AIM / 255) / np.log(light), 0.3, 1.0))
    levels = np.rint(255 * (np.arange(256) / 255) ** gamma).astype(np.uint8)
    calm = cv2.GaussianBlur(picture, (0, 0), 0.8)
    raised: Image = cv2.LUT(calm, levels)
    return raised


WHOLE = (
    Look("turned right", lambda detector, picture: turned(detector, picture, 90)),
    Look("turned left", lambda detector, picture: turned(detector, picture, -90)),
    Look("enlarged", enlarged),
    Look("shrunk", shrunk),
    Look("brightened", brightened),
)


# -- a closer look at one place ----------------------------------------------------------------------------------------


def closer(detector: Detector, picture: Image, box: Box, degrees: float = 0.0) -> list[FaceDetection]:
    """Faces around `box`, enlarged to a size that is easy to find, turned by `degrees`, brightened where it is dark."""
    height, width = picture.shape[:2]
    side = _CLOSE * max(box[2] - box[0], box[3] - box[1])
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    x0, y0 = max(0, int(x - side / 2)), max(0, int(y - side / 2))
    part = np.ascontiguousarray(
        picture[y0 : min(height, int(y + side / 2) + 1), x0 : min(width, int(x + side / 2) + 1)]
    )
    if min(part.shape[:2]) < 4:
        return []
    if is_dark(part):
        part = brighter(part)
    factor = _CLOSE_PIXELS / max(part.shape[:2])
    part = cv2.resize(part, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    found = turned(detector, part, degrees) if degrees else detector.detect(part)
    back = np.array([[1 / factor, 0, x0], [0, 1 / factor, y0]])
    return _clipped([_carried(face, back) for face in found], width, height)


# -- there and back ----------------------------------------------------------------------------------------------------


def _through(detector: Detector, picture: Image, matrix: Float, side: tuple[int, int]) -> list[FaceDetection]:
    """Detect in `picture` warped by `matrix` (2, 3) to `side` (width, height); faces come back to its own pixels."""
    shrinks = np.sqrt(abs(np.linalg.det(matrix[:, :2]))) < 1
    small = cv2.GaussianBlur(picture, (0, 0), 0.4 / np.sqrt(abs(np.linalg.det(matrix[:, :2])))) if shrinks else picture
    seen = cv2.warpAffine(small, matrix, side, flags=cv2.INTER_LINEAR, borderValue=(110, 110, 110))
    back = cv2.invertAffineTransform(matrix)
    height, width = picture.shape[:2]
    return _clipped([_carried(face, back) for face in detector.detect(seen)], width, height)


def _carried(face: FaceDetection, matrix: Float) -> FaceDetection:
    """The face through `matrix`; its box is then the upright one around the ellipse that filled it."""
    linear = matrix[:, :2]
    x0, y0, x1, y1 = face.box
    centre = linear @ ((x0 + x1) / 2, (y0 + y1) / 2) + matrix[:, 2]
    reach = np.sqrt(((linear * ((x1 - x0) / 2, (y1 - y0) / 2)) ** 2).sum(axis=1))
    box = tuple(float(v) for v in (*(centre - reach), *(centre + reach)))
    points = (face.points @ linear.T + matrix[:, 2]).astype(np.float32)
    return replace(face, box=box, points=points)  # type: ignore[arg-type]


def _clipped(faces: Iterable[FaceDetection], width: int, height: int) -> list[FaceDetection]:
    """Boxes within the picture; faces that lie mostly outside are dropped."""
    kept = []
    for face in faces:
        x0, y0, x1, y1 = face.box
        box = max(0.0, x0), max(0.0, y0), min(float(width), x1), min(float(height), y1)
        if box[2] - box[0] >= max(1.0, 0.4 * (x1 - x0)) and box[3] - box[1] >= max(1.0, 0.4 * (y1 - y0)):
            kept.append(replace(face, box=box))
    return kept
