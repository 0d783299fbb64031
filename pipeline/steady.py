"""Keeps a new face one face over time: what nobody did must not change from one frame to the next.

The generator sees one frame at a time. It guesses light from what surrounds a face there, so that a hand that comes
near recolours it; and where landmarks shake, so does the grain of the skin. Here the last frame's face is laid over the
new one by the landmarks (as Lai et al., *Learning Blind Video Temporal Consistency*, ECCV 2018, do by optical flow),
and of their difference

* tone, light and shade follow as fast as the light on everything around the face does, and slowly beyond that;
* finer detail follows within a few frames, or at once where much of it is new;
* eyes and lips are left as painted: they move by themselves.

Causal, one small state per track; knows no network, key or file.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from revisage.models import layout
from revisage.models.base import FaceRequest
from revisage.models.conditioning import face_mask
from revisage.pipeline.geometry import as_large_as, half_sized
from revisage.pipeline.types import Float, Image

SLOWLY = 2.0  # seconds after which two thirds of a change of light are followed that the surroundings do not explain
QUICKLY = 0.1  # the same for detail
BROAD = 12  # what is wider than the crop's side over this is light and shade, and not detail
NEW = 14.0  # grey levels of detail that are followed at once
SMALL = 32  # side of the crops that light is compared on, pixels
ENOUGH = 24  # of their pixels seen in both frames, for a comparison
MOST = 2.5  # factor by which a tone is changed at most
_GRID = 16  # places along the side of the crop at which motion is worked out
_REACH = 0.05  # of the side: how far the motion of a landmark is that of its surroundings
_LIVELY = (layout.EYE_LEFT, layout.EYE_RIGHT, layout.LIPS_OUTER)


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What is remembered of a track's last frame."""

    seconds: float
    picture: Float  # (S, S, 3), the crop as it was put out, 0..255
    landmarks: Float  # (135, 2) in its pixels
    around: Float  # (SMALL, SMALL) brightness of what surrounds it; nan where the face was removed


class Steady:
    """Frames of every track in rising order."""

    def __init__(self) -> None:
        self._seen: dict[int, Seen] = {}

    def __call__(self, track: int, seconds: float, picture: Image, request: FaceRequest) -> Image:
        """`picture` (S, S, 3), painted for `request`, as it follows from the track's last frame."""
        painted, around, last = picture.astype(np.float32), _around(request), self._seen.get(track)
        if last is not None:
            painted = _following(painted, request.landmarks, last, seconds - last.seconds, _light(last.around, around))
        self._seen[track] = Seen(seconds, painted, request.landmarks, around)
        steadied: Image = (painted + 0.5).astype(np.uint8)
        return steadied


def _following(painted: Float, landmarks: Float, last: Seen, elapsed: float, light: float) -> Float:
    """`painted` (S, S, 3), drawn back to the last frame, whose light was `light` times less; 0..255.

    What changes smoothly is worked out at half the size, and nothing where there is no face.
    """
    inside = _window(landmarks, len(painted))
    new, parts = painted[inside], _Parts.of(landmarks, len(painted), inside)
    kept = _carried(last, landmarks, inside) * np.float32(light)
    kept = cv2.max(cv2.min(kept, new * np.float32(MOST)), new * np.float32(1 / MOST))  # numpy's clip is slow by arrays
    change = kept - new
    broad = _broad(half_sized(change), parts.skin, len(painted))
    detail = change - as_large_as(broad, change)
    finely = _share(elapsed, QUICKLY) * _alike(detail) * parts.still
    broadly = _share(elapsed, SLOWLY) * parts.face
    new = (
        new + detail * as_large_as(_over_colours(finely), change) + as_large_as(broad * _over_colours(broadly), change)
    )
    followed = painted.copy()
    followed[inside] = np.minimum(np.maximum(new, 0), 255)
    return followed


def _alike(detail: Float) -> Float:
    """(h / 2, w / 2): 1 where the difference `detail` (h, w, 3) is grain, 0 where something is new."""
    amount = half_sized(cv2.cvtColor(np.abs(detail), cv2.COLOR_RGB2GRAY))
    return np.asarray(np.exp(-np.square(_smoothed(amount, 1.0) / NEW)), np.float32)


def _share(elapsed: float, scale: float) -> np.float32:
    return np.float32(np.exp(-max(elapsed, 0.0) / scale))


def _window(landmarks: Float, size: int) -> tuple[slice, slice]:
    """Where in a crop its face is, with all that it fades over; sides are multiples of 4 where the crop's are."""
    contours = landmarks[: layout.CONTOUR_COUNT]
    margin = size / 12  # three times as far as the face's outline is smoothed
    (x0, y0), (x1, y1) = (contours.min(0) - margin).tolist(), (contours.max(0) + margin).tolist()
    return _span(y0, y1, size), _span(x0, x1, size)


def _span(low: float, high: float, size: int) -> slice:
    start = min(max(0, int(low // 4) * 4), size - 4)
    return slice(start, min(max(start, int(high // 4) * 4) + 4, size))


def _carried(last: Seen, landmarks: Float, inside: tuple[slice, slice]) -> Float:
    """The last frame's picture (h, w, 3) where `landmarks` say that its pixels `inside` the crop went.

    Each place moved as the landmarks around it did: kernel regression (Nadaraya 1964, Watson 1964) on a grid. The
    kernel is a Gaussian, which is one along the columns times one along the rows.
    """
    size = len(last.picture)
    landmarks, before = (points[: layout.CONTOUR_COUNT] for points in (landmarks, last.landmarks))  # no gaze: skin
    centres = (np.arange(_GRID, dtype=np.float32) + 0.5) * np.float32(size / _GRID) - np.float32(0.5)
    across, down = (_bell((centres[:, None] - along) / np.float32(_REACH * size)) for along in landmarks.T)
    dx, dy, weight = (
        (down * amount) @ across.T + np.float32(1e-6) * amount.sum()
        for amount in (*(before - landmarks).T, np.ones(len(landmarks), np.float32))
    )
    moved = cv2.resize(cv2.merge([dx / weight, dy / weight]), (size, size), interpolation=cv2.INTER_LINEAR)
    places = moved[inside] + _places(size)[inside]
    kept = cv2.remap(last.picture, places, np.empty(0), cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(kept, np.float32)


def _bell(apart: Float) -> Float:
    """Never so little that a product of two takes a processor ten times as long (it is *denormal*)."""
    return np.asarray(np.exp(np.maximum(np.square(apart) / -2, np.float32(-40))), np.float32)


@lru_cache(maxsize=4)
def _places(size: int) -> Float:
    """(S, S, 2) column and row of every pixel."""
    axis = np.arange(size, dtype=np.float32)
    return np.stack(np.meshgrid(axis, axis), axis=-1)


def _broad(change: Float, skin: Float, size: int) -> Float:
    """What is light and shade of `change` (h, w, 3), as it is on the skin (h, w).

    At half its resolution, which is a quarter of that of the crop of side `size`.
    """
    sigma = size / BROAD / 4
    weight, small = half_sized(skin), half_sized(change * _over_colours(skin))
    spread = np.maximum(_smoothed(weight, sigma), np.float32(1e-3))
    return as_large_as(_smoothed(small, sigma) / _over_colours(spread), change)


@dataclass(frozen=True, slots=True, eq=False)
class _Parts:
    """Soft parts of a crop's window, (h / 2, w / 2) float32 in 0..1: at half the size, for they are soft."""

    face: Float  # falls off around its outline
    skin: Float  # falls off before its outline
    still: Float  # the skin without eyes and lips

    @classmethod
    def of(cls, landmarks: Float, size: int, inside: tuple[slice, slice]) -> _Parts:
        """Drawn in a crop of side `size`, cut to the window."""
        side = -(-size // 2)
        points = landmarks / 2
        hull = face_mask(points, side, dilate=0.0)
        within = cv2.erode(hull, np.ones((3, 3), np.uint8), iterations=max(1, side // 43), borderValue=0)
        lively = np.zeros((side, side), np.uint8)
        whole = np.round(np.clip(points, -4096, 4096)).astype(np.int32)
        for part in _LIVELY:
            cv2.fillConvexPoly(lively, cv2.convexHull(whole[part]), 255)
        lively = cv2.dilate(lively, np.ones((3, 3), np.uint8))
        rows, columns = (slice(axis.start // 2, -(-axis.stop // 2)) for axis in inside)
        face, skin, moving = (
            _smoothed(part[rows, columns].astype(np.float32) / 255, sigma)
            for part, sigma in ((hull, side / 40), (within, side / 64), (lively, 0.6))
        )
        return cls(face, skin, skin * (1 - moving))


def _over_colours(values: Float) -> Float:
    """(h, w, 3) of (h, w): numpy is slow to spread one number over three."""
    return np.asarray(cv2.merge([values] * 3), np.float32)


def _smoothed(values: Float, sigma: float) -> Float:
    return np.asarray(cv2.GaussianBlur(values, (0, 0), sigma), np.float32)


def _around(request: FaceRequest) -> Float:
    grey = cv2.cvtColor(request.background, cv2.COLOR_RGB2GRAY)
    known = (request.mask == 0).astype(np.float32)
    share = cv2.resize(known, (SMALL, SMALL), interpolation=cv2.INTER_AREA)
    mean = cv2.resize(grey * known, (SMALL, SMALL), interpolation=cv2.INTER_AREA)
    return np.where(share > 0.5, (mean + 4) / np.maximum(share, 1e-6), np.nan).astype(np.float32)


def _light(before: Float, now: Float) -> float:
    """How much brighter everything became: as much as three quarters of it agree on. What moves is the smaller part."""
    ratio = now / before
    ratio = ratio[np.isfinite(ratio)]
    if ratio.size < ENOUGH:
        return 1.0
    rising = np.sort(ratio)  # np.quantile takes five times as long for so few
    low, high = rising[len(rising) // 4], rising[-1 - len(rising) // 4]
    return float(np.clip(1.0, low, high).clip(0.5, 2.0))
