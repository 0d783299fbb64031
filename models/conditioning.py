"""What the face generator sees besides noise: the face removed, where to paint, and a drawing of the landmarks.

Owns the mask's shape and the drawing's colours, which training and use must share to the pixel. Knows no network.
All pictures are crops of side S aligned to `FACE_TEMPLATE`; landmarks are in pixels of the crop.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from revisage.models import layout
from revisage.models.completion import mean_face
from revisage.pipeline import geometry
from revisage.pipeline.types import CropTemplate, Float, Gray, Image

REMOVED = 128  # grey level under the mask: zero after scaling to -1..1

# Eyes 0.22 of the side apart, so that a dilated chin of an open mouth (2.5 times that below the eyes) stays inside;
# proportions are ArcFace's (insightface `arcface_dst`).
FACE_TEMPLATE = CropTemplate(
    name="revisage-face",
    points=((0.39, 0.41), (0.61, 0.41), (0.5, 0.5356), (0.4087, 0.6643), (0.5913, 0.6643)),
)
# As FFHQ and CelebA-HQ are cropped: the side is four eye distances, the eyes lie just above the middle.
FFHQ_TEMPLATE = CropTemplate(
    name="ffhq",
    points=((0.375, 0.474), (0.625, 0.474), (0.5, 0.6035), (0.396, 0.736), (0.604, 0.736)),
)
INTEROCULAR = 0.22  # of the side, in the template

_SUBPIXEL = 4  # bits, for OpenCV's fixed-point coordinates
_OUTLINE, _EYES, _MOUTH = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def face_mask(landmarks: Float, size: int, *, dilate: float = 0.25) -> Gray:
    """(S, S) uint8, 255 on the contours' convex hull grown by `dilate` interocular distances of the template."""
    mask = np.zeros((size, size), np.uint8)
    hull = cv2.convexHull(np.asarray(landmarks[: layout.CONTOUR_COUNT], np.float32))
    cv2.fillConvexPoly(mask, _fixed(hull), 255, cv2.LINE_8, _SUBPIXEL)
    radius = max(1, round(dilate * INTEROCULAR * size))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)
    grown: Gray = cv2.dilate(mask, kernel)
    return grown


def remove_face(crop: Image, mask: Gray) -> Image:
    """`crop` with everything under `mask` replaced by mid-grey; no pixel of the face is left."""
    removed = crop.copy()
    removed[mask > 0] = REMOVED
    return removed


def draw_landmarks(landmarks: Float, size: int) -> Image:
    """(S, S, 3) uint8: outline, brows and nose in the first channel, eyes in the second, mouth in the third.

    Eyes are filled between the lids and the mouth between the inner lips, so that a blink and a word are areas.
    """
    picture = np.zeros((size, size, 3), np.uint8)
    for part in (layout.BROW_LEFT, layout.BROW_RIGHT, layout.NOSE_BRIDGE, layout.NOSTRILS):
        _line(picture, landmarks[part], _OUTLINE, closed=False)
    _line(picture, landmarks[layout.OVAL], _OUTLINE, closed=True)
    for part in (layout.EYE_LEFT, layout.EYE_RIGHT):
        _fill(picture, landmarks[part], (0, 128, 0))
        _line(picture, landmarks[part], _EYES, closed=True)
    _fill(picture, landmarks[layout.LIPS_INNER], (0, 0, 128))
    for part in (layout.LIPS_OUTER, layout.LIPS_INNER):
        _line(picture, landmarks[part], _MOUTH, closed=True)
    return picture


def draw_lines(landmarks: Float, size: int) -> Image:
    """(S, S, 3) uint8: the same contours in white on black, as an edge detector would see a face without skin."""
    colours = draw_landmarks(landmarks, size).max(axis=2, keepdims=True)
    white: Image = np.repeat(np.where(colours > 192, colours, 0), 3, axis=2).astype(np.uint8)
    return white


def standard_landmarks(points: Float) -> Float:
    """(LANDMARK_COUNT, 2) of an average face laid over five points (5, 2): the last resort where none were found."""
    matrix = geometry.align(points, FACE_TEMPLATE, 1)
    return geometry.transform(mean_face(), geometry.invert(matrix))


def _line(picture: Image, points: Float, colour: tuple[int, int, int], *, closed: bool) -> None:
    cv2.polylines(picture, [_fixed(points)], closed, colour, 1, cv2.LINE_AA, _SUBPIXEL)


def _fill(picture: Image, points: Float, colour: tuple[int, int, int]) -> None:
    cv2.fillPoly(picture, [_fixed(points)], colour, cv2.LINE_AA, _SUBPIXEL)


def _fixed(points: Float) -> NDArray[np.int32]:
    limited = np.clip(points, -4096, 4096)
    return np.asarray(np.round(limited * (1 << _SUBPIXEL)), np.int32)
