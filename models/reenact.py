"""Draws an actor's face into another's pose and expression: piecewise affine, with eyeballs of its own. No network.

    actor: colours over light, in a crop ─► warped onto the landmarks ─► eyeballs looking where asked ─► lit by a tone

Skin, brows and lips are one person's texture, warped by the landmarks (Cootes, Edwards & Taylor, *Active Appearance
Models*, PAMI 23(6), 2001). An eye is no texture: its white and its iris are kept apart, drawn where the landmarks say
that it looks, and clipped by the lids, so that a closing lid covers an eye in place of squeezing it. Knows no pixel of
a filmed face: light and skin tone come as twenty-seven numbers, see `models/tone.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import Delaunay

from revisage.models import layout, tone
from revisage.models.completion import followed
from revisage.models.conditioning import FACE_TEMPLATE, standard_landmarks
from revisage.models.proportions import Proportions, departure, reshaped
from revisage.models.warp import places
from revisage.pipeline.types import Float, Image

EYES = (layout.EYE_LEFT, layout.EYE_RIGHT)
IRISES = (layout.IRIS_LEFT, layout.IRIS_RIGHT)
RIM = 1.3  # how far out, in places of the oval about its centre, faces are drawn
OWN = 0.4  # share of the actor's own proportions that a drawn face has; the others are the filmed one's
BROAD = 0.2  # eye distances: what of an actor's skin is broader than this is light rather than skin, ...
EVENED = 0.8  # ... and so much of it is taken away
STAINS = 0.08  # eye distances: what of the skin's hue is broader than this ...
HUELESS = 0.7  # ... is weakened by so much: lamps and shaven beards are blue on a warmer film
SHINE = 0.7  # how much of what is brighter than an actor's skin is added to another light
TEETH = 0.8  # how light a tooth is: times the root of the skin's linear light
_IVORY = 0.97, 1.0, 0.98  # a tooth's colour
_DARK = 0.1, 0.045, 0.04  # of a mouth where no teeth are, over a tooth's
_SHUT = 0.012  # openings up to here, in eye distances, show nothing
_TALLER = 1.35  # most that teeth are stretched to fill a mouth
_CORNERS = 0.6  # how much darker a mouth is at its corners
_GAINS = -2.0, 0.25  # logarithms: least and most that the skin's detail is multiplied by
_HUES = 0.25, 1.0  # least and most of its own hue that a face keeps
_FAR_HUE, _FARTHER_HUE = 0.1, 0.8  # how far a channel may be from the skin's: on plain skin, and more elsewhere
_FEATURES = 0.75  # how much less of that eyes, brows and lips get
_SMALL = 96  # side of the picture in which what is broad is worked out
_TURNED = 0.06  # portraits that are more turned than this are made to look ahead; see `_turn`
_WARPED = np.r_[: layout.EYE_CENTRES.start, layout.SURFACE]
_MIDDLE = (0, 78, 80, 88, 108, 98, 18)  # landmarks from the forehead down to the chin
_MAP = 160  # side of the field that is worked out exactly; between, it is smooth
_IRIS = 48  # side of an iris's picture, pixels
_LIMB = 0.06  # of the radius: how softly an iris ends
_MEET = 0.015  # mean gap of lids, in eye distances, up to which nothing is seen between them
_CREASE = 0.6  # colour over light of the line where lids meet
_LID = 0.45  # how dark the white is under the upper lid ...
_SHADOW = 0.22  # ... and how far down that reaches, of the eye's opening


@dataclass(frozen=True, slots=True, eq=False)
class Eyeball:
    """One eye without its lids; colours over light."""

    iris: Float  # (_IRIS, _IRIS, 3), its disc fills the picture
    white: Float  # (3,)
    radius: float  # of the iris, distances of the eye centres


@dataclass(frozen=True, slots=True, eq=False)
class Inside:
    """What is between the lips, without its light: teeth below an upper lip, and the dark beneath them."""

    picture: Float  # (M, M, 3), teeth have a mean of 1
    anchor: Float  # (2,), in it: the middle of the upper lip's edge
    unit: float  # pixels of it to a distance of the eye centres
    opening: float  # its gap between the inner lips, distances of the eye centres


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """An actor, ready to be drawn."""

    detail: Float  # (H, W, 4) float32, colours over light: 1 on plain skin; then how far it is plain skin
    sharpness: Float  # (3,) of its skin, see `models/tone.py`
    warmth: float  # of its skin, see `models/tone.py`
    points: Float  # (LANDMARK_COUNT, 2) landmarks in its pixels
    eyes: tuple[Eyeball, Eyeball] | None  # the viewer's left first; None: they are texture, too
    proportions: Proportions  # its own, as far as it may have them
    mouth: Inside | None  # None: it is texture, too


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """A face without its light, in a crop."""

    detail: Float  # (S, S, 3), colours over light
    inside: NDArray[np.bool_]  # (S, S), where there is any of it
    between: Float  # (S, S), how far it is what lies between the lips; `detail` is then in units of a tooth's


def face_of(picture: Image, landmarks: Float, irises: Float | None = None, mouth: Inside | None = None) -> Face:
    """An actor's portrait (H, H, 3) uint8 RGB, aligned to `FACE_TEMPLATE`, without its light.

    `landmarks` are (LANDMARK_COUNT, 2); `irises` (2, 5, 2) centre and four places of the rim. Raises ValueError where
    it shows no skin.
    """
    if irises is not None and abs(_turn(landmarks)) > _TURNED:
        picture, landmarks, irises = _faced(picture, np.asarray(landmarks, np.float32), irises)
    own = tone.read(picture, landmarks)
    if own is None:
        raise ValueError("a portrait shows no skin")
    detail = tone.linear(picture) / np.maximum(tone.surface(own, landmarks, len(picture)), tone.DARKEST)
    detail = _evened(np.clip(detail, 0.01, 2.5), landmarks)
    points = np.asarray(landmarks, np.float32)
    eyes = None
    if irises is not None:
        left = _eyeball(detail, points, EYES[0], irises[0])
        # Portraits that were generated have irises of two colours now and then.
        eyes = (left, replace(left, iris=np.ascontiguousarray(left.iris[:, ::-1])))
        detail = _without_eyeballs(detail, points)
    plain = _plain(landmarks, len(picture))
    return Face(
        np.dstack([detail, plain]),
        _sharpness(detail, landmarks),
        tone.warmth(own),
        points,
        eyes,
        departure(points, _mean(len(picture)), OWN),
        mouth,
    )


def _turn(landmarks: Float) -> float:
    """How far the tip of the nose lies to the viewer's right of the eyes' middle, distances of the eye centres."""
    middle = landmarks[layout.EYE_CENTRES].mean(0)
    return float((landmarks[layout.NOSE_TIP, 0] - middle[0]) / layout.interocular(landmarks))


def _faced(picture: Image, landmarks: Float, irises: Float) -> tuple[Image, Float, Float]:
    """A portrait that is a little turned, as if it looked ahead: the nearer half of the face, and its mirror image.

    Half a face is as wide as it lies beside the line through bridge, nose, lips and chin.
    """
    if _turn(landmarks) < 0:  # the viewer's right is nearer
        size = len(picture)
        flipped = np.ascontiguousarray(picture[:, ::-1])
        one, points, eyes = _faced(flipped, layout.mirror(landmarks, size), _mirrored(irises, size))
        return np.ascontiguousarray(one[:, ::-1]), layout.mirror(points, size), _mirrored(eyes, size)
    size, centre = len(picture), (len(picture) - 1) / 2
    line = landmarks[list(_MIDDLE)]
    order = np.argsort(line[:, 1])
    across = landmarks[:, 0] - np.interp(landmarks[:, 1], line[order, 1], line[order, 0])
    near = np.stack([centre + np.minimum(across, 0), landmarks[:, 1]], axis=1).astype(np.float32)
    far = layout.mirror(near, size)
    side = _mean(size)[:, 0] - centre
    shape = np.where((side < 0)[:, None], near, far)
    shape[np.abs(side) < 0.01 * size, 0] = centre
    x, y = _field(shape, landmarks, size)
    half = cv2.remap(picture, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    share = np.clip((np.arange(size) - centre) / (0.01 * size) + 0.5, 0, 1).astype(np.float32)[None, :, None]
    whole = np.clip(np.rint(half * (1 - share) + half[:, ::-1] * share), 0, 255).astype(np.uint8)
    eye = irises[0] + (shape[layout.EYE_LEFT].mean(0) - landmarks[layout.EYE_LEFT].mean(0))
    return whole, np.asarray(shape, np.float32), np.stack([eye, _mirrored(np.stack([eye, eye]), size)[1]])


def _mirrored(irises: Float, size: int) -> Float:
    """(2, 5, 2) of the picture flipped left to right."""
    flipped = irises[::-1].copy()
    flipped[..., 0] = size - 1 - flipped[..., 0]
    return np.asarray(flipped, np.float32)


def inside_of(picture: Image, lips: Float, unit: float, tooth: Float) -> Inside:
    """What is between the lips of a mouth that shows its upper teeth.

    `picture` (M, M, 3) uint8 RGB, its corners level; `lips` (40, 2) the outer and the inner contour in it; `unit` the
    distance of the eye centres in its pixels; `tooth` (3,) the mean linear light of the teeth. Beyond the lips teeth
    go on upwards, and below and beside them it is dark: another mouth opens further, or is wider.
    """
    contour = lips[20:]
    light = tone.linear(picture) / np.maximum(np.asarray(tooth, np.float32), 0.02)
    known = cv2.erode(_filled(contour, len(picture)).view(np.uint8), np.ones((3, 3), np.uint8))
    down = np.arange(len(picture), dtype=np.float32)[:, None]
    top, bottom = _edges(known)
    rows = np.clip(down, top + 1, np.maximum(bottom - 1, top + 1)).astype(np.float32)
    columns = np.broadcast_to(np.arange(len(picture), dtype=np.float32), rows.shape).copy()
    whole = cv2.remap(light, columns, rows, cv2.INTER_LINEAR)
    below = np.clip((down - bottom) / (0.05 * unit) + 0.5, 0, 1)[..., None]
    sides = np.flatnonzero(known.any(0))
    outside = np.maximum(sides[0] - columns, columns - sides[-1]) if len(sides) else np.zeros_like(columns)
    beside = np.clip(outside / (0.03 * unit) + 0.5, 0, 1)[..., None]
    dark = np.maximum(below, beside)
    whole = cv2.GaussianBlur(whole * (1 - dark) + np.array(_DARK, np.float32) * dark, (0, 0), 0.4)
    opening = max(float(np.linalg.norm(contour[15] - contour[5])) / unit, 0.05)
    return Inside(np.clip(whole, 0, 1.6), np.asarray(contour[15], np.float32), unit, opening)


def _edges(known: NDArray[np.uint8]) -> tuple[Float, Float]:
    """(M,) each: the first and last row of every column that is `known`, those of its neighbours where none is."""
    columns = np.flatnonzero(known.any(0))
    axis = np.arange(known.shape[1])
    if not len(columns):
        return np.zeros(len(axis), np.float32), np.zeros(len(axis), np.float32)
    first, last = known[:, columns].argmax(0), len(known) - 1 - known[::-1, columns].argmax(0)
    top, bottom = (np.interp(axis, columns, edge).astype(np.float32) for edge in (first, last))
    return top, bottom


def proportioned(landmarks: Float, face: Face) -> Float:
    """`landmarks` (LANDMARK_COUNT, 2) of a filmed face with the proportions of `face`, as far as it may have them."""
    return followed(landmarks, reshaped(landmarks, face.proportions))


def _evened(detail: Float, landmarks: Float) -> Float:
    """Colours over light with what is broad in them, lamps that nine polynomials do not follow, weakened; on skin."""
    unit, size = float(layout.interocular(landmarks)), len(detail)
    weight = cv2.GaussianBlur(tone.skin(landmarks, size).astype(np.float32), (0, 0), 0.02 * unit)
    logs = np.log(detail)
    sigma = BROAD * unit
    small = cv2.resize(np.dstack([logs * weight[..., None], weight]), (_SMALL, _SMALL), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma * _SMALL / size)
    broad = small[..., :3] / np.maximum(small[..., 3:], 0.02) * np.clip(small[..., 3:] / 0.1, 0, 1)
    broad = cv2.resize(broad, (size, size), interpolation=cv2.INTER_CUBIC)
    evened = logs - EVENED * broad
    hue = evened - evened.mean(-1, keepdims=True)
    stains = cv2.GaussianBlur(hue * weight[..., None], (0, 0), STAINS * unit)
    around = cv2.GaussianBlur(weight, (0, 0), STAINS * unit)[..., None]
    return np.asarray(np.exp(evened - HUELESS * weight[..., None] * stains / np.maximum(around, 0.1)), np.float32)


@lru_cache(maxsize=4)
def _mean(size: int) -> Float:
    return standard_landmarks(np.asarray(FACE_TEMPLATE.points, np.float32) * size - 0.5)


def draw(face: Face, landmarks: Float, size: int, light: Float | None = None) -> Drawn:
    """`face` over `landmarks` (LANDMARK_COUNT, 2) of a crop of side `size`.

    `light` (9, 3) is the tone it will be shown in, see `models/tone.py`: its skin gets as much detail as that says, and
    what is of another hue than skin as much less hue as the skin has. Eyes look where the irises of `landmarks` are.
    """
    x, y = _field(landmarks, face.points, size)
    detail = _shrunk(face.detail, face.points, landmarks, size)
    scale = len(detail) / len(face.detail)
    x, y = (x + 0.5) * scale - 0.5, (y + 0.5) * scale - 0.5
    drawn: Float = cv2.remap(detail, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    drawn, plain = np.maximum(drawn[..., :3], np.float32(0.01)), drawn[..., 3]
    if light is not None and len(light) > 8:
        drawn *= _softened(drawn, plain, np.exp(np.clip(light[8] - face.sharpness, *_GAINS)))[..., None]
    if light is not None:
        drawn = _hued(drawn, plain, float(np.clip(tone.warmth(light) / max(face.warmth, 0.05), *_HUES)))
    for i, (eye, contour) in enumerate(zip(face.eyes or (), EYES[: len(face.eyes or ())], strict=True)):
        _open_eye(drawn, eye, landmarks, contour, landmarks[IRISES[i].start])
    between = np.zeros((size, size), np.float32)
    if face.mouth is not None:
        between = _open_mouth(drawn, face.mouth, landmarks)
    return Drawn(drawn, x > -1, between)


def lit(drawn: Drawn, surface: Float) -> Float:
    """(S, S, 3) linear light: the drawn face under the light `surface` (S, S, 3).

    What is darker than skin has its share of the light, what is brighter is shine, and nearer to the lamp's colour.
    """
    grey = surface.mean(-1, keepdims=True)
    bright = np.maximum(drawn.detail.mean(-1, keepdims=True), 1)
    skin = surface * (drawn.detail / bright) + SHINE * (surface + grey) / 2 * (bright - 1)
    if not drawn.between.any():
        return np.asarray(skin, np.float32)
    lamp = np.sqrt(np.maximum(surface, tone.DARKEST) / np.maximum(grey, tone.DARKEST))
    teeth = drawn.detail * (TEETH * np.sqrt(grey)) * lamp * np.array(_IVORY, np.float32)
    share = drawn.between[..., None]
    return np.asarray(skin * (1 - share) + teeth * share, np.float32)


def _hued(drawn: Float, plain: Float, share: float) -> Float:
    """Colours (S, S, 3) with `share` times their hue, and on plain skin (S, S) none that is far from the skin's.

    A grey brow on warm skin is blue over that skin's light, and a shadow on dark skin is red.
    """
    level = drawn.mean(-1, keepdims=True)
    hue = cv2.pow(drawn / level, share)
    most = (_FAR_HUE + (1 - plain) * _FARTHER_HUE)[..., None]
    return np.asarray(level * np.clip(hue, 1 - most, 1 + most), np.float32)


def _plain(landmarks: Float, size: int) -> Float:
    """(size, size): 1 on plain skin, little on eyes, brows, nostrils and lips, which a film leaves sharp for longer."""
    features = np.zeros((size, size), np.uint8)
    unit = float(layout.interocular(landmarks))
    for part in (layout.BROW_LEFT, layout.BROW_RIGHT, *EYES, layout.NOSTRILS, layout.LIPS_OUTER):
        features |= _filled(cv2.convexHull(landmarks[part].astype(np.float32))[:, 0], size).view(np.uint8)
    features = cv2.dilate(features, np.ones((3, 3), np.uint8), iterations=max(1, round(0.04 * unit)))
    soft = cv2.GaussianBlur(features.astype(np.float32), (0, 0), 0.04 * unit)
    return np.asarray(1 - _FEATURES * soft, np.float32)


def _sharpness(detail: Float, landmarks: Float) -> Float:
    """(3,), as `tone.sharpness` says it of a film."""
    share = tone.SHARP_SIDE / len(detail)
    small = np.asarray(cv2.resize(detail, (tone.SHARP_SIDE,) * 2, interpolation=cv2.INTER_AREA), np.float32)
    return tone.sharpness(_contrast(small), (landmarks + 0.5) * share - 0.5)


def _contrast(detail: Float) -> Float:
    """(S, S): logarithms of grey levels, encoded, of colours over linear light (S, S, 3)."""
    return np.asarray(np.log(np.maximum(detail.mean(-1), 0.02)) / np.float32(2.2), np.float32)


def _softened(drawn: Float, plain: Float, gains: Float) -> Float:
    """(S, S): what to multiply by so that each band of the skin's detail is `gains` (3,) times what it is."""
    parts = tone.bands(_contrast(drawn))
    change = sum(band * np.float32(gain - 1) for band, gain in zip(parts, gains, strict=True))
    return np.asarray(np.exp(2.2 * change * plain), np.float32)


# -- where to look -----------------------------------------------------------------------------------------------------


def _field(onto: Float, source: Float, size: int) -> tuple[Float, Float]:
    small = min(size, _MAP)
    scaled = (onto + 0.5) * (small / size) - 0.5
    x, y = places(_with_rim(scaled), _with_rim(source), _triangles(), small)
    if small == size:
        return x, y
    x, y = (np.asarray(cv2.resize(axis, (size,) * 2, interpolation=cv2.INTER_LINEAR), np.float32) for axis in (x, y))
    return x, y


def _with_rim(landmarks: Float) -> Float:
    """Contours and surface, and the oval once more, further out, so that the warp goes on beyond the face."""
    points = landmarks[_WARPED]
    oval = landmarks[layout.OVAL]
    centre = oval.mean(0)
    return np.asarray(np.concatenate([points, centre + RIM * (oval - centre)]), np.float32)


@lru_cache(maxsize=1)
def _triangles() -> NDArray[np.int32]:
    mean = standard_landmarks(np.asarray(FACE_TEMPLATE.points, np.float32) * 320)
    return np.asarray(Delaunay(_with_rim(mean)).simplices, np.int32)


def _shrunk(detail: Float, source: Float, onto: Float, size: int) -> Float:
    """`detail`, smaller where it will be drawn much smaller: no aliasing."""
    factor = float(layout.interocular(onto) / layout.interocular(source))
    if factor > 0.75:
        return detail
    side = max(16, round(len(detail) * factor))
    return np.asarray(cv2.resize(detail, (side, side), interpolation=cv2.INTER_AREA), np.float32)


# -- mouth -------------------------------------------------------------------------------------------------------------


def _open_mouth(drawn: Float, mouth: Inside, landmarks: Float) -> Float:
    """Draw what is between the lips, in place; returns how far each pixel is that.

    Teeth hang from the upper lip and have a size of their own: a mouth that opens stretches them by little.
    """
    size, contour = len(drawn), landmarks[layout.LIPS_INNER]
    between = np.zeros((size, size), np.float32)
    unit = float(layout.interocular(landmarks))
    left, right = contour[0], contour[len(contour) // 2]
    across = (right - left) / max(float(np.linalg.norm(right - left)), 1e-6)
    down = np.array([-across[1], across[0]], np.float32)
    (x0, y0), (x1, y1) = np.floor(contour.min(0) - 3).astype(int), np.ceil(contour.max(0) + 4).astype(int)
    x0, y0, x1, y1 = max(0, x0), max(0, y0), min(size, x1), min(size, y1)
    opening = float(layout.mouth_opening(landmarks))
    if x1 - x0 < 2 or y1 - y0 < 2 or opening <= _SHUT:
        return between
    mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
    cv2.fillPoly(mask, [np.round((contour - (x0, y0)) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    x, y = np.meshgrid(np.arange(x0, x1, dtype=np.float32), np.arange(y0, y1, dtype=np.float32))
    top = contour[15]
    middle = (left + right) / 2
    along = (x - middle[0]) * across[0] + (y - middle[1]) * across[1]
    deep = (x - top[0]) * down[0] + (y - top[1]) * down[1]
    scale = mouth.unit / unit
    picture = mouth.picture
    if scale > 1.4:
        side = max(8, round(len(picture) / scale))
        picture, share = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA), side / len(picture)
    else:
        share = 1.0
    taller = float(np.clip(opening / mouth.opening, 1, _TALLER))
    column, row = mouth.anchor[0] + along * scale, mouth.anchor[1] + deep * scale / taller
    column, row = (column + 0.5) * share - 0.5, (row + 0.5) * share - 0.5
    seen = cv2.remap(
        picture, column.astype(np.float32), row.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    half = max(float(np.linalg.norm(right - left)) / 2, 1.0)
    corner = 1 - _CORNERS * np.clip(np.abs(along) / half, 0, 1) ** 3
    lip = 1 - 0.3 * np.exp(-np.maximum(deep, 0) / (0.02 * unit))
    seen = seen * (corner * lip)[..., None]
    soft = cv2.GaussianBlur(mask.astype(np.float32) / 255, (0, 0), max(0.5, 0.012 * unit))
    soft *= np.float32(np.clip((opening - _SHUT) / _SHUT, 0, 1))
    part = drawn[y0:y1, x0:x1]
    part[:] = part * (1 - soft[..., None]) + seen * soft[..., None]
    between[y0:y1, x0:x1] = soft
    return between


# -- eyes --------------------------------------------------------------------------------------------------------------


def _eyeball(detail: Float, landmarks: Float, contour: slice, iris: Float) -> Eyeball:
    unit = float(layout.interocular(landmarks))
    centre, radius = iris[0], float(np.linalg.norm(iris[1:] - iris[0], axis=1).mean())
    inside = _filled(landmarks[contour], len(detail))
    white = _white(detail, inside, centre, radius)
    return Eyeball(_iris(detail, inside, centre, radius, white), white, radius / unit)


def _without_eyeballs(detail: Float, landmarks: Float) -> Float:
    """`detail` with a crease where the eyes are: what shows of a texture's eye when lids meet."""
    inside = np.zeros(detail.shape[:2], np.float32)
    for contour in EYES:
        inside[_filled(landmarks[contour], len(detail))] = 1
    soft = cv2.GaussianBlur(inside, (0, 0), 0.012 * float(layout.interocular(landmarks)))[..., None]
    return np.asarray(detail * (1 - soft) + np.float32(_CREASE) * soft, np.float32)


def _white(detail: Float, inside: NDArray[np.bool_], centre: Float, radius: float) -> Float:
    """The white's colour: of what lies beside the iris, the brighter half."""
    eroded = cv2.erode(inside.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    y, x = np.nonzero(eroded)
    beside = np.hypot(x - centre[0], y - centre[1]) > 1.15 * radius
    colours = detail[y[beside], x[beside]]
    if len(colours) < 8:
        return np.full(3, 1.1, np.float32)
    bright = colours[colours.mean(1) >= np.median(colours.mean(1))]
    return np.asarray(bright.mean(0), np.float32)


def _iris(detail: Float, inside: NDArray[np.bool_], centre: Float, radius: float, white: Float) -> Float:
    """(_IRIS, _IRIS, 3): what lids cover is taken from its mirror image below, or from the ring at that radius."""
    axis = (np.arange(_IRIS, dtype=np.float32) + 0.5) / _IRIS * 2 - 1
    u, v = np.meshgrid(axis, axis)
    x, y = centre[0] + radius * u, centre[1] + radius * v
    patch: Float = cv2.remap(detail, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    seen: Float = cv2.remap(
        cv2.erode(inside.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(np.float32), x, y, cv2.INTER_LINEAR
    )
    known = seen > 0.9
    far = np.hypot(u, v)
    ring = np.clip((far * 12).astype(int), 0, 15)
    filled = patch.copy()
    for i in np.unique(ring):
        here = ring == i
        value = np.median(patch[here & known], axis=0) if (here & known).any() else np.minimum(white, 0.25)
        filled[here & ~known] = value
    flipped, flipped_known = patch[::-1], known[::-1]
    use = ~known & flipped_known
    filled[use] = flipped[use]
    soft = cv2.GaussianBlur(filled, (0, 0), 1.2)
    filled[~known] = soft[~known]
    return np.asarray(np.maximum(filled, 0), np.float32)


def _open_eye(drawn: Float, eye: Eyeball, landmarks: Float, contour: slice, centre: Float) -> None:
    """Draw `eye` between the lids, in place."""
    lids = landmarks[contour]
    unit, size = float(layout.interocular(landmarks)), len(drawn)
    radius = eye.radius * unit
    (x0, y0), (x1, y1) = np.floor(lids.min(0) - 2).astype(int), np.ceil(lids.max(0) + 3).astype(int)
    x0, y0, x1, y1 = max(0, x0), max(0, y0), min(size, x1), min(size, y1)
    if x1 - x0 < 2 or y1 - y0 < 2 or radius < 0.3:
        return
    within = np.zeros((y1 - y0, x1 - x0), np.uint8)
    cv2.fillPoly(within, [np.round((lids - (x0, y0)) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    axis_x, axis_y = np.arange(x0, x1, dtype=np.float32), np.arange(y0, y1, dtype=np.float32)
    x, y = np.meshgrid(axis_x, axis_y)
    ball = np.broadcast_to(eye.white, (*x.shape, 3)) * _under_lid(lids, axis_x, y)[..., None]
    side = int(np.clip(2 * round(radius), 2, _IRIS))
    patch = cv2.resize(eye.iris, (side, side), interpolation=cv2.INTER_AREA)
    u, v = (x - centre[0]) / radius, (y - centre[1]) / radius
    painted = cv2.remap(
        patch, (u + 1) * side / 2 - 0.5, (v + 1) * side / 2 - 0.5, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    soft = max(_LIMB, 0.7 / radius)
    disc = np.clip((1 + soft / 2 - np.hypot(u, v)) / soft, 0, 1)[..., None]
    ball = ball * (1 - disc) + painted * disc
    share = cv2.GaussianBlur(within.astype(np.float32) / 255, (0, 0), max(0.4, 0.012 * unit))[..., None]
    gap = float(cv2.contourArea(lids.astype(np.float32))) / (max(float(np.ptp(lids[:, 0])), 1.0) * unit)
    share *= np.float32(np.clip((gap - _MEET) / _MEET, 0, 1))
    part = drawn[y0:y1, x0:x1]
    part[:] = part * (1 - share) + ball * share


def _under_lid(lids: Float, columns: Float, y: Float) -> Float:
    """(h, w) how much light reaches the eyeball: less close below the upper lid."""
    count = len(lids) // 2
    upper = np.concatenate([lids[count:], lids[:1]])
    order = np.argsort(upper[:, 0])
    edge = np.interp(columns, upper[order, 0], upper[order, 1])
    opening = max(float(np.ptp(lids[:, 1])), 1.0)
    depth = (y - edge[None]) / (_SHADOW * max(opening, 1.0))
    return np.asarray(1 - _LID * np.exp(-np.maximum(depth, 0)), np.float32)


def _filled(points: Float, size: int) -> NDArray[np.bool_]:
    mask = np.zeros((size, size), np.uint8)
    cv2.fillPoly(mask, [np.round(points * 16).astype(np.int32)], 1, cv2.LINE_8, 4)
    return mask > 0
