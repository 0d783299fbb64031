"""The landmark layout: which points there are, in which order, and how they pair under mirroring. Knows no network.

186 points. The first 135 are the *contours*: 133 vertices of the MediaPipe face mesh (468 vertices, canonical order),
then the eye centres, the means of the sixteen contour points of each eye. After them come the irises and the *surface*:
mesh vertices of forehead, cheeks, nose, chin, and around lids and mouth, for warps that follow the skin. Labels without
the latter are filled in by `models/completion.py`. *left* and *right* are the viewer's.

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
| iris_left    | 135:140 | centre, then its rim: towards the nose, above, outwards, below    |
| iris_right   | 140:145 | the same                                                          |
| surface      | 145:186 | three on the midline from the top, then pairs, left before right  |
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
_IRIS_LEFT = (468, 469, 470, 471, 472)  # of the mesh with irises, 478 vertices
_IRIS_RIGHT = (473, 476, 475, 474, 477)
_SURFACE_MIDDLE = (151, 9, 199)
_SURFACE_PAIRS = (
    (108, 337), (69, 299), (104, 333), (27, 257), (23, 253), (114, 343), (100, 329), (118, 347), (111, 340), (134, 363),
    (36, 266), (50, 280), (205, 425), (187, 411), (216, 436), (214, 434), (202, 422), (204, 424), (201, 421),
)  # fmt: skip

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
CONTOUR_COUNT = 135
IRIS_LEFT = slice(135, 140)
IRIS_RIGHT = slice(140, 145)
SURFACE = slice(145, 186)
LANDMARK_COUNT = 186
SURFACE_VERTICES = (*_SURFACE_MIDDLE, *(vertex for pair in _SURFACE_PAIRS for vertex in pair))

NOSE_TIP = 83
MOUTH_LEFT, MOUTH_RIGHT = 93, 103
LIP_TOP, LIP_BOTTOM = 128, 118  # middle of the inner upper and lower lip
LID_TOP_LEFT, LID_BOTTOM_LEFT = 58, 50
LID_TOP_RIGHT, LID_BOTTOM_RIGHT = 74, 66
CORNERS_LEFT, CORNERS_RIGHT = (46, 54), (62, 70)  # of the eyes: outer, inner
_IRIS_RADIUS = 0.2  # of the distance of an eye's corners, which irises of all people come near to
_MESH_WITH_IRISES = 478


def from_mesh(mesh: Float, irises: Float | None = None) -> Float:
    """(…, 468 or 478, 2 or more) MediaPipe mesh -> (…, LANDMARK_COUNT, 2) float32 in the same unit.

    `irises` (…, 2, 5, 2) are in this layout's order, those of the mesh where it has 478 vertices. Where there are none,
    the eyes look straight ahead.
    """
    points = np.asarray(mesh, np.float32)[..., :2]
    contours = with_eye_centres(points[..., MESH_VERTICES, :])
    if irises is not None:
        eyes = np.asarray(irises, np.float32).reshape(*points.shape[:-2], 10, 2)
    elif points.shape[-2] == _MESH_WITH_IRISES:
        eyes = points[..., _IRIS_LEFT + _IRIS_RIGHT, :]
    else:
        eyes = looking_ahead(contours)
    return np.concatenate([contours, eyes, points[..., SURFACE_VERTICES, :]], axis=-2)


def with_eye_centres(points: Float) -> Float:
    """(…, 133, 2) -> (…, CONTOUR_COUNT, 2) float32, the means of the eyes' contours appended."""
    centres = [points[..., eye, :].mean(axis=-2, keepdims=True) for eye in (EYE_LEFT, EYE_RIGHT)]
    contours: Float = np.concatenate([points, *centres], axis=-2).astype(np.float32)
    return contours


def looking_ahead(contours: Float) -> Float:
    """(…, CONTOUR_COUNT or more, 2) -> (…, 10, 2) float32: irises of the usual size in the middle between the lids."""
    points = np.asarray(contours, np.float32)
    eyes = []
    for side, (outer, inner) in enumerate((CORNERS_LEFT, CORNERS_RIGHT)):
        inwards = (points[..., inner, :] - points[..., outer, :]) * np.float32(_IRIS_RADIUS)
        # A quarter turn up: the left eye's nose side lies to the right of it, the right eye's to the left.
        x, y = inwards[..., 0], inwards[..., 1]
        upwards = np.stack([y, -x] if side == 0 else [-y, x], axis=-1)
        offsets = np.stack([np.zeros_like(inwards), inwards, upwards, -inwards, -upwards], axis=-2)
        eyes.append(points[..., EYE_CENTRES.start + side, None, :] + offsets)
    return np.concatenate(eyes, axis=-2)


def five_points(landmarks: Float) -> Float:
    """(…, 135 or more, 2) -> (…, 5, 2), in the order of `FIVE_POINTS`."""
    order = [EYE_CENTRES.start, EYE_CENTRES.start + 1, NOSE_TIP, MOUTH_LEFT, MOUTH_RIGHT]
    return np.asarray(landmarks, np.float32)[..., order, :]


def mirror(landmarks: Float, width: float) -> Float:
    """The landmarks (…, CONTOUR_COUNT or LANDMARK_COUNT, 2) of the picture flipped left to right.

    `width` in pixels, pixel centres at whole numbers.
    """
    points = np.asarray(landmarks, np.float32)
    flipped = points[..., mirror_order()[: points.shape[-2]], :].copy()
    flipped[..., 0] = width - 1 - flipped[..., 0]
    return flipped


def facing(contour: slice) -> tuple[list[int], list[int]]:
    """Landmark numbers of a closed contour, above and below, that face each other at the same place; no corners."""
    count = (contour.stop - contour.start) // 2
    lower = [contour.start + i for i in range(1, count)]
    return [contour.start + contour.stop - i for i in lower], lower


def mouth_opening(landmarks: Float) -> Float:
    """(…, 135 or more, 2) -> (…,): gap between the inner lips over the distance of the eye centres."""
    return _gap(landmarks, LIP_TOP, LIP_BOTTOM) / interocular(landmarks)


def eye_opening(landmarks: Float) -> Float:
    """(…, 135 or more, 2) -> (…,): mean lid gap of both eyes over the distance of the eye centres."""
    left = _gap(landmarks, LID_TOP_LEFT, LID_BOTTOM_LEFT)
    right = _gap(landmarks, LID_TOP_RIGHT, LID_BOTTOM_RIGHT)
    return (left + right) / (2 * interocular(landmarks))


def eye_openings(landmarks: Float) -> Float:
    """(…, 135 or more, 2) -> (…, 2): lid gap of the left and the right eye over the distance of the eye centres."""
    gaps = [_gap(landmarks, LID_TOP_LEFT, LID_BOTTOM_LEFT), _gap(landmarks, LID_TOP_RIGHT, LID_BOTTOM_RIGHT)]
    return np.stack(gaps, axis=-1) / interocular(landmarks)[..., None]


def gaze(landmarks: Float) -> Float:
    """(…, LANDMARK_COUNT, 2) -> (…, 2, 2): where each iris is from the middle of its eye's corners.

    The left eye first; across (towards the viewer's right) and down, in distances of the corners.
    """
    points = np.asarray(landmarks, np.float32)
    looks = []
    for iris, corners in ((IRIS_LEFT, CORNERS_LEFT), (IRIS_RIGHT, CORNERS_RIGHT)):
        left, right = (points[..., i, :] for i in (corners if iris is IRIS_LEFT else corners[::-1]))
        across = (right - left) / np.maximum(((right - left) ** 2).sum(-1, keepdims=True), np.float32(1e-6))
        off = points[..., iris.start, :] - (left + right) / 2
        down = np.stack([-across[..., 1], across[..., 0]], axis=-1)
        looks.append(np.stack([(off * across).sum(-1), (off * down).sum(-1)], axis=-1))
    return np.stack(looks, axis=-2)


def interocular(landmarks: Float) -> Float:
    """(…, 135 or more, 2) -> (…,): distance of the eye centres."""
    return np.maximum(_gap(landmarks, EYE_CENTRES.start, EYE_CENTRES.start + 1), np.float32(1e-6))


def _gap(landmarks: Float, a: int, b: int) -> Float:
    points = np.asarray(landmarks, np.float32)
    distance: Float = np.linalg.norm(points[..., a, :] - points[..., b, :], axis=-1).astype(np.float32)
    return distance


def mirror_order() -> list[int]:
    """Which point takes each one's place in the picture flipped left to right."""
    oval = [0, *range(35, 0, -1)]
    lips = [10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 19, 18, 17, 16, 15, 14, 13, 12, 11]
    order = oval
    order += list(range(41, 46)) + list(range(36, 41))
    order += list(range(62, 78)) + list(range(46, 62))
    order += list(range(78, 84)) + list(range(92, 83, -1))
    order += [93 + i for i in lips] + [113 + i for i in lips]
    order += [134, 133, *range(140, 145), *range(135, 140)]
    middle, first = len(_SURFACE_MIDDLE), SURFACE.start
    pairs = range(first + middle, SURFACE.stop, 2)
    return [*order, *range(first, first + middle), *(number for left in pairs for number in (left + 1, left))]
