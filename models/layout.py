"""The landmark layout: which points there are, in which order, and how they pair under mirroring. Knows no network.

135 points. The first 133 are vertices of the MediaPipe face mesh (468 vertices, canonical order); the last two are the
eye centres, the means of the sixteen contour points of each eye. *left* and *right* are the viewer's.

| group        | slice   | points                                                            |
|--------------|---------|-------------------------------------------------------------------|
| oval         | 0:36    | face outline, from the top of the forehead clockwise; jaw included |
| brow_left    | 36:41   | outer end to inner end                                            |
| brow_right   | 41:46   | outer end to inner end                                            |
| eye_left     | 46:62   | contour, outer corner along the lower lid, back along the upper   |
| eye_right    | 62:78   | contour, outer corner along the lower lid, back along the upper   |
| nose_bridge  | 78:84   | from between the eyes to the tip                                  |
| nostrils     | 84:93   | from wing to wing below the tip                                   |
| lips_outer   | 93:113  | closed contour, from the left corner along the lower lip          |
| lips_inner   | 113:133 | the same for the opening                                          |
| eye_centres  | 133:135 | left, right                                                       |
"""

from __future__ import annotations

import numpy as np

from revisage.pipeline.types import Float

_OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
_BROW_LEFT = (70, 63, 105, 66, 107)
_BROW_RIGHT = (300, 293, 334, 296, 336)
_EYE_LEFT = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
_EYE_RIGHT = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
_NOSE_BRIDGE = (168, 6, 197, 195, 5, 4)
_NOSTRILS = (48, 64, 98, 97, 2, 326, 327, 294, 278)
_LIPS_OUTER = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
_LIPS_INNER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)

MESH_VERTICES = (
    _OVAL + _BROW_LEFT + _BROW_RIGHT + _EYE_LEFT + _EYE_RIGHT + _NOSE_BRIDGE + _NOSTRILS + _LIPS_OUTER + _LIPS_INNER
)

OVAL = slice(0, 36)
BROW_LEFT = slice(36, 41)
BROW_RIGHT = slice(41, 46)
EYE_LEFT = slice(46, 62)
EYE_RIGHT = slice(62, 78)
NOSE_BRIDGE = slice(78, 84)
NOSTRILS = slice(84, 93)
LIPS_OUTER = slice(93, 113)
LIPS_INNER = slice(113, 133)
EYE_CENTRES = slice(133, 135)
LANDMARK_COUNT = 135

NOSE_TIP = 83
MOUTH_LEFT, MOUTH_RIGHT = 93, 103
LIP_TOP, LIP_BOTTOM = 128, 118  # middle of the inner upper and lower lip
LID_TOP_LEFT, LID_BOTTOM_LEFT = 58, 50
LID_TOP_RIGHT, LID_BOTTOM_RIGHT = 74, 66


def from_mesh(mesh: Float) -> Float:
    """(…, 468, 2 or more) MediaPipe mesh -> (…, 135, 2) float32 in the same unit."""
    points = np.asarray(mesh, np.float32)[..., MESH_VERTICES, :2]
    left = points[..., EYE_LEFT, :].mean(axis=-2, keepdims=True)
    right = points[..., EYE_RIGHT, :].mean(axis=-2, keepdims=True)
    return np.concatenate([points, left, right], axis=-2)


def five_points(landmarks: Float) -> Float:
    """(…, 135, 2) -> (…, 5, 2), in the order of `FIVE_POINTS`."""
    order = [EYE_CENTRES.start, EYE_CENTRES.start + 1, NOSE_TIP, MOUTH_LEFT, MOUTH_RIGHT]
    return np.asarray(landmarks, np.float32)[..., order, :]


def mirror(landmarks: Float, width: float) -> Float:
    """The landmarks of the picture flipped left to right; `width` in pixels, pixel centres at whole numbers."""
    flipped = np.asarray(landmarks, np.float32)[..., _mirror_order(), :].copy()
    flipped[..., 0] = width - 1 - flipped[..., 0]
    return flipped


def facing(contour: slice) -> tuple[list[int], list[int]]:
    """Landmark numbers of a closed contour, above and below, that face each other at the same place; no corners."""
    count = (contour.stop - contour.start) // 2
    lower = [contour.start + i for i in range(1, count)]
    return [contour.start + contour.stop - i for i in lower], lower


def mouth_opening(landmarks: Float) -> Float:
    """(…, 135, 2) -> (…,): gap between the inner lips over the distance of the eye centres."""
    return _gap(landmarks, LIP_TOP, LIP_BOTTOM) / interocular(landmarks)


def eye_opening(landmarks: Float) -> Float:
    """(…, 135, 2) -> (…,): mean lid gap of both eyes over the distance of the eye centres."""
    left = _gap(landmarks, LID_TOP_LEFT, LID_BOTTOM_LEFT)
    right = _gap(landmarks, LID_TOP_RIGHT, LID_BOTTOM_RIGHT)
    return (left + right) / (2 * interocular(landmarks))


def interocular(landmarks: Float) -> Float:
    """(…, 135, 2) -> (…,): distance of the eye centres."""
    return np.maximum(_gap(landmarks, EYE_CENTRES.start, EYE_CENTRES.start + 1), np.float32(1e-6))


def _gap(landmarks: Float, a: int, b: int) -> Float:
    points = np.asarray(landmarks, np.float32)
    distance: Float = np.linalg.norm(points[..., a, :] - points[..., b, :], axis=-1).astype(np.float32)
    return distance


def _mirror_order() -> list[int]:
    oval = [0, *range(35, 0, -1)]
    lips = [10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 19, 18, 17, 16, 15, 14, 13, 12, 11]
    order = oval
    order += list(range(41, 46)) + list(range(36, 41))
    order += list(range(62, 78)) + list(range(46, 62))
    order += list(range(78, 84)) + list(range(92, 83, -1))
    order += [93 + i for i in lips] + [113 + i for i in lips]
    return [*order, 134, 133]
