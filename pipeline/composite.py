"""One frame's faces out, new ones in. Owns removal, the generator's requests, the seam; knows no file, key or network.

Every face of a frame is removed before any crop is taken, so that no generator sees a pixel of a real face, be it its
own or a neighbour's. What is around the covers it does see, the seam too: there lie ears, neck and hairline, which tell
what the skin between them is like. What comes back is put on the cover entirely and feathered outward over
`FaceRegion.alpha`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from revisage.models.base import FaceRequest
from revisage.models.conditioning import REMOVED, standard_landmarks
from revisage.models.latents import Veil
from revisage.models.layout import five_points
from revisage.pipeline import geometry
from revisage.pipeline.geometry import FaceRegion
from revisage.pipeline.pixels import (
    Mask,
    PixelFormat,
    Planes,
    Rect,
    align_rect,
    any_in_block,
    cut,
    quantise_mask,
    to_rgb,
    to_rgb8,
    to_rgb_halved,
)
from revisage.pipeline.shape import left_as_filmed, outline
from revisage.pipeline.sound import sound
from revisage.pipeline.types import CropTemplate, Float, Gray, Image, Shape, Track, TrackedFace

SOLID = (118, 118, 118)  # RGB of the fallback and of the method `solid`
FACE = Shape()
SIDES = (128, 192, 256, 384, 512, 768, 1024)  # of finished crops, pixels
LEAST_TILE = 4  # pixels: ten tiles over a face of 12 pixels would leave it as it is


@dataclass(frozen=True, slots=True, eq=False)
class PlacedFace:
    """One face of one frame, ready to be replaced."""

    track: int
    region: FaceRegion
    matrix: Float  # (2, 3), frame -> crop
    size: int  # side of that crop, pixels
    landmarks: Float  # (135, 2), in pixels of the crop
    tone: Float | None = None  # (9, 3), see models/tone.py
    hide: str = ""  # the method that must hide this one, whatever hides the others; "": the job's


@dataclass(frozen=True, slots=True, eq=False)
class Likeness:
    """Who a track's new face is: the same in all its frames."""

    code: Float  # (code size,)
    noise: Float  # the generator's `noise_shape`
    veil: Callable[[int], Veil] | None = None  # frame number -> what hides it; None: pixels carry nothing


def place(
    track: int,
    face: TrackedFace,
    template: CropTemplate,
    size: int,
    fmt: PixelFormat,
    width: int,
    height: int,
    shape: Shape = FACE,
    margins: geometry.Margins | None = None,
) -> PlacedFace | None:
    """Where `face` lies in a picture of `width` x `height` and in its crop of side `size`; None when it is outside.

    What of its geometry makes no sense is replaced, see `sound`. `margins`: how far the cover goes beyond what bounds
    the face; by how exactly that is known where none are given.
    """
    face = sound(face, width, height)
    landmarks, matrix, unit = _laid_out(face, template, size, max(width, height))
    left = left_as_filmed(landmarks, shape)
    region = geometry.face_region(
        outline(landmarks, shape), face.box, unit, fmt, width, height, left=left, margins=margins or _margins(face)
    )
    if region is None:
        return None
    return PlacedFace(track, region, matrix, size, geometry.transform(landmarks, matrix), face.tone, face.hide)


def place_all(
    faces: Iterable[tuple[Track, TrackedFace]],
    template: CropTemplate,
    size: int,
    fmt: PixelFormat,
    width: int,
    height: int,
    shape: Shape = FACE,
    margins: geometry.Margins | None = None,
) -> tuple[PlacedFace, ...]:
    """`place` for all `faces` of one frame, without those that lie outside.

    A face that cannot be placed gets its whole rectangle covered by grey.
    """
    placed = (_placed(track.id, face, template, size, fmt, width, height, shape, margins) for track, face in faces)
    return tuple(face for face in placed if face is not None)


def _placed(
    track: int,
    face: TrackedFace,
    template: CropTemplate,
    size: int,
    fmt: PixelFormat,
    width: int,
    height: int,
    shape: Shape,
    margins: geometry.Margins | None,
) -> PlacedFace | None:
    try:
        return place(track, face, template, size, fmt, width, height, shape, margins)
    except (ValueError, ArithmeticError, cv2.error):  # whatever its numbers are, the face must be covered
        rect = placed_rect(face, template, fmt, width, height, shape, margins)
        if rect is None:
            return None
        whole = np.ones((rect.height, rect.width), np.bool_)
        region = FaceRegion(rect, whole, whole.astype(np.float32), whole)
        upright = np.eye(2, 3, dtype=np.float32)
        landmarks = standard_landmarks(sound(face, width, height).points)
        return PlacedFace(track, region, upright, size, landmarks, hide="solid")


def placed_rect(
    face: TrackedFace,
    template: CropTemplate,
    fmt: PixelFormat,
    width: int,
    height: int,
    shape: Shape = FACE,
    margins: geometry.Margins | None = None,
) -> Rect | None:
    """The rectangle of `place`, without drawing anything; None when it is outside."""
    face = sound(face, width, height)
    landmarks, _, unit = _laid_out(face, template, 1, max(width, height))
    outer = geometry.region_rect(outline(landmarks, shape), face.box, unit, margins or _margins(face))
    rect = align_rect(outer, fmt, width, height)
    return rect if rect.width > 0 and rect.height > 0 else None


def hidden_pixels(faces: Sequence[PlacedFace], width: int, height: int) -> Mask:
    """(height, width) bool: every pixel that any of `faces` touches."""
    hidden = np.zeros((height, width), np.bool_)
    for face in faces:
        hidden[face.region.rect.inside] |= face.region.touched
    return hidden


def covered_pixels(faces: Sequence[PlacedFace], fmt: PixelFormat, width: int, height: int) -> Mask:
    """(height, width) bool: every pixel that has a share in the cover of any of `faces`, its colour alone included."""
    covered = np.zeros((height, width), np.bool_)
    for face in faces:
        covered[face.region.rect.inside] |= quantise_mask(face.region.cover, fmt)
    return covered


def request_for(
    face: PlacedFace, likeness: Likeness, planes: Planes, fmt: PixelFormat, covered: Mask, size: int
) -> FaceRequest:
    """The generator's view of `face`: the aligned crop of the frame without what is `covered` (see there)."""
    height, width = planes[0].shape
    rect = _footprint(face.matrix, size, fmt, width, height)
    pixels = to_rgb8(cut(planes, fmt, rect), fmt)
    veil = covered[rect.inside].view(np.uint8)
    matrix = face.matrix.copy()
    matrix[:, 2] += matrix[:, :2] @ np.array([rect.x0, rect.y0], np.float32)
    background = geometry.crop(_removed(pixels, veil), matrix, size)
    # a removed pixel has a share in every pixel that is not 0 now, however small
    painted: Gray = (geometry.crop(veil * np.uint8(255), matrix, size) > 0) * np.uint8(255)
    return FaceRequest(_removed(background, painted), painted, face.landmarks, likeness.code, likeness.noise, face.tone)


def side_for(face: PlacedFace) -> int:
    """Side of the crop in which `face`, placed in one of side `size`, loses nothing of what the film can show."""
    wanted = face.size / geometry.scale_of(face.matrix)
    return next((side for side in SIDES if side >= wanted), SIDES[-1])


def fit_into(picture: Image, face: PlacedFace, planes: Planes, fmt: PixelFormat, hidden: Mask) -> Float:
    """A generated crop as it should stand in `face.region.rect`: (h, w, 3) float32 RGB.

    A face whose tone is the film's stays as it is: hair and walls beside it say nothing of skin. Any other's colours
    are met at the seam. What meets them is smooth, so it is worked out at half the resolution, from blocks without a
    pixel of any face.
    """
    rect = face.region.rect
    painted = geometry.uncrop(picture, geometry.resized(face.matrix, len(picture) / face.size), rect)
    if face.tone is not None:
        return np.asarray(painted, np.float32)
    around = to_rgb_halved(cut(planes, fmt, rect), fmt)
    light = membrane(around - geometry.half_sized(painted), ~any_in_block(hidden[rect.inside], 1, 1))
    tile: Float = cv2.add(painted, geometry.as_large_as(light, painted), dtype=cv2.CV_32F)
    return np.clip(tile, 0, 255, out=tile)


def membrane(difference: Float, known: Mask) -> Float:
    """(h, w, 3) smooth surface that is `difference` where it is `known` (h, w) and spreads from there into the rest.

    Pull-push interpolation (Gortler et al., *The Lumigraph*, SIGGRAPH 1996, section 3.4).
    """
    mask = known.view(np.uint8)
    values: Float = cv2.copyTo(difference, mask)  # 0 elsewhere
    weights: Float = mask.astype(np.float32)
    levels = []
    while min(values.shape[:2]) > 1:
        values, weights = geometry.half_sized(values), geometry.half_sized(weights)
        levels.append((values, cv2.merge([weights] * 3)))  # one a channel: numpy is slow to spread one over three
    filled = values / max(float(weights.max()), 1e-6)
    for values, spread in reversed(levels[:-1]):
        filled = values + geometry.as_large_as(filled, values) * (1 - spread)
    whole: Float = cv2.copyTo(difference, mask, geometry.as_large_as(filled, difference))
    return whole


def blurred(face: PlacedFace, planes: Planes, fmt: PixelFormat) -> Float:
    """Method `blur`: a Gaussian of a sixth of the region's width. Recognizable to machines (Revelio, 2506.12344)."""
    tile = to_rgb(cut(planes, fmt, face.region.rect), fmt)
    height, width = tile.shape[:2]
    small = cv2.resize(tile, (max(1, width // 8), max(1, height // 8)), interpolation=cv2.INTER_AREA)
    soft = cv2.GaussianBlur(small, (0, 0), max(1.0, width / 48))
    whole: Float = cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR)
    return whole


def pixelated(face: PlacedFace, planes: Planes, fmt: PixelFormat) -> Float:
    """Method `mosaic`: ten tiles across the region, none smaller than `LEAST_TILE`. Recognizable to machines."""
    tile = to_rgb(cut(planes, fmt, face.region.rect), fmt)
    width = tile.shape[1]
    return _tiled(tile, min(10, max(1, width // LEAST_TILE)))


def coarse(face: PlacedFace, planes: Planes, fmt: PixelFormat) -> Float:
    """The rung below grey: three tiles across the region, in which no face is left to see."""
    return _tiled(to_rgb(cut(planes, fmt, face.region.rect), fmt), 3)


def _tiled(tile: Float, across: int) -> Float:
    """Means over about square tiles, `across` of them side by side."""
    height, width = tile.shape[:2]
    blocks = (min(across, width), max(1, min(height, round(across * height / width))))
    small = cv2.resize(tile, blocks, interpolation=cv2.INTER_AREA)
    whole: Float = cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)
    return whole


def solid(face: PlacedFace) -> Float:
    """Method `solid`, and what covers a face that could not be generated: one grey."""
    rect = face.region.rect
    return np.broadcast_to(np.array(SOLID, np.float32), (rect.height, rect.width, 3)).copy()


def _laid_out(face: TrackedFace, template: CropTemplate, size: int, most: float) -> tuple[Float, Float, float]:
    """Landmarks (135, 2), matrix frame -> crop, and the interocular distance of the frontal face in frame pixels.

    That distance is at most `most`: it decides how far around a face is drawn.
    """
    landmarks = face.landmarks if face.landmarks is not None else standard_landmarks(face.points)
    matrix = geometry.align(five_points(landmarks), template, size)
    return landmarks, matrix, min(_eye_distance(template) * size / max(geometry.scale_of(matrix), 1e-9), most)


def _margins(face: TrackedFace) -> geometry.Margins:
    return geometry.ROUGH if face.landmarks is None else geometry.EXACT


def _eye_distance(template: CropTemplate) -> float:
    (x0, y0), (x1, y1) = template.points[:2]
    return float(np.hypot(x1 - x0, y1 - y0))


def _footprint(matrix: Float, size: int, fmt: PixelFormat, width: int, height: int) -> Rect:
    """The part of the picture that a crop shows, one sample more on every side.

    Of a crop that shows nothing of the picture, the samples that are nearest to it: they are repeated beyond the edge.
    """
    corners = np.array([[-1, -1], [size, -1], [-1, size], [size, size]], np.float32)
    spots = geometry.transform(corners, geometry.invert(matrix))
    (x0, y0), (x1, y1) = np.floor(spots.min(0)).astype(int), np.ceil(spots.max(0)).astype(int)
    left, top = min(max(int(x0) - 1, 0), width - 1), min(max(int(y0) - 1, 0), height - 1)
    return align_rect(Rect(left, top, max(int(x1) + 2, left + 1), max(int(y1) + 2, top + 1)), fmt, width, height)


def _removed(picture: Image, where: Gray) -> Image:
    """`picture`, in place, grey where `where` (h, w) is not 0."""
    removed: Image = cv2.copyTo(np.full_like(picture, REMOVED), where, picture)
    return removed
