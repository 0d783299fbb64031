"""Smooths a track in time without lag, and fills in landmarks where none were found. Knows no picture and no detector.

Smoothing is local linear regression with Gaussian weights in *seconds* (Cleveland, JASA 74, 1979): it follows steady
motion exactly, does not pull in the ends of a track, and takes irregular frame times as they are. Where the raw value
is far from the smoothed one the motion is real and the raw value wins. Landmarks are smoothed in face coordinates,
lids, irises and lips over a shorter time than the rest, so that blinks and speech survive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revisage.models import layout
from revisage.pipeline.geometry import align, invert, transform
from revisage.pipeline.types import Box, CropTemplate, Float, Origin, Track, TrackedFace
from revisage.trackers.base import AT_REST

SLOW, FAST = 0.08, 0.03  # standard deviations in seconds: head and outline; lids, irises and lips
LIGHT = 0.1  # of light and tone
_JITTER = 0.03  # of the face's size: deviations up to about this are noise, larger ones motion
_WIDER = 1.0  # of the face's size: most that the frames around one may widen its box by, on each side
_TRUST = {Origin.DETECTED: 1.0, Origin.INTERPOLATED: 0.5, Origin.HELD: 0.02}  # weight of a frame in its neighbours
_LIVELY = [
    layout.EYE_LEFT, layout.EYE_RIGHT, layout.LIPS_OUTER, layout.LIPS_INNER, layout.EYE_CENTRES,
    layout.IRIS_LEFT, layout.IRIS_RIGHT,
]  # fmt: skip

# Where the five points lie in face coordinates: eyes at distance 1, origin between them.
_UPRIGHT = ((-0.5, 0.0), (0.5, 0.0), (0.0, 0.6), (-0.4, 1.1), (0.4, 1.1))
_FACE = CropTemplate("face", tuple((x + 0.5, y + 0.5) for x, y in _UPRIGHT))  # `align` takes half a pixel off


def smooth(track: Track, times: Sequence[float], size: tuple[int, int], camera: Float | None = None) -> Track:
    """The same track, steadier. `times`: seconds of every frame of the film; `size`: width and height of the picture.

    `camera` (F, 3): how the camera looks at what stands still in each frame of the film, see trackers/base.py. That
    motion is real and stays; only what the face does on top of it is smoothed.

    The box of a frame contains the box it had before, so that smoothing uncovers nothing, and goes as far as the frames
    around it lead to expect. With landmarks in any frame of the track, all frames have them afterwards and `points` are
    those five of the landmarks.
    """
    faces = complete_landmarks(track.faces, times)
    t = np.array([times[f.frame] for f in faces], np.float64)
    trust = np.array([_TRUST[f.origin] for f in faces], np.float64)
    scale = np.array([max(_width(f.box), 1.0) for f in faces], np.float64)
    view = np.tile(AT_REST, (len(faces), 1)) if camera is None else camera[[f.frame for f in faces]]
    boxes = _smooth_boxes(faces, t, trust, scale, size, view)
    points = _steady(np.stack([f.points for f in faces]), t, trust, scale, SLOW, view)
    landmarks = _smooth_landmarks(faces, t, trust, scale, view)
    tones = _smooth_tones(faces, t)
    smoothed = [
        replace(face, box=box, points=five, landmarks=dense, tone=tone)
        for face, box, five, dense, tone in zip(faces, boxes, points, landmarks, tones, strict=True)
    ]
    return replace(track, faces=tuple(_consistent(face) for face in smoothed))


def _smooth_tones(faces: Sequence[TrackedFace], t: NDArray[np.float64]) -> list[Float | None]:
    """Faces whose tone was not read get it from those around them; where none was, there is none."""
    known = [i for i, face in enumerate(faces) if face.tone is not None]
    if not known:
        return [None] * len(faces)
    rows = np.stack([face.tone for face in faces if face.tone is not None]).astype(np.float64)
    flat = rows.reshape(len(rows), -1)
    filled = np.stack([np.interp(t, t[known], column) for column in flat.T], axis=1)
    calm = local_linear(filled, t, np.ones(len(t)), LIGHT).reshape(len(t), *rows.shape[1:])
    return list(calm.astype(np.float32))


def complete_landmarks(faces: Sequence[TrackedFace], times: Sequence[float]) -> list[TrackedFace]:
    """Faces without landmarks get them from the nearest faces that have some, carried over by the five points."""
    known = [i for i, face in enumerate(faces) if face.landmarks is not None]
    if not known:
        return list(faces)
    return [face if face.landmarks is not None else _borrowed(faces, known, i, times) for i, face in enumerate(faces)]


def _borrowed(faces: Sequence[TrackedFace], known: list[int], index: int, times: Sequence[float]) -> TrackedFace:
    at = int(np.searchsorted(known, index))
    lenders = [faces[i] for i in known[max(at - 1, 0) : at + 1]]
    here = times[faces[index].frame]
    nearness = np.array([1 / max(abs(times[f.frame] - here), 1e-6) for f in lenders])
    shapes = np.stack([_carried(lender, faces[index]) for lender in lenders])
    mixed = np.tensordot(nearness / nearness.sum(), shapes, axes=1).astype(np.float32)
    return replace(faces[index], landmarks=mixed)


def _carried(lender: TrackedFace, face: TrackedFace) -> Float:
    """The lender's landmarks, moved, turned and scaled as its five points must be to fit those of `face`."""
    if lender.landmarks is None:
        raise ValueError("a lender of landmarks has none")
    target = CropTemplate("face", [(float(x) + 0.5, float(y) + 0.5) for x, y in face.points])
    return transform(lender.landmarks, align(lender.points, target, 1))


def _consistent(face: TrackedFace) -> TrackedFace:
    return face if face.landmarks is None else replace(face, points=layout.five_points(face.landmarks))


def _smooth_boxes(
    faces: Sequence[TrackedFace],
    t: NDArray[np.float64],
    trust: NDArray[np.float64],
    scale: NDArray[np.float64],
    size: tuple[int, int],
    view: Float,
) -> list[Box]:
    raw = np.array([f.box for f in faces], np.float64).reshape(-1, 2, 2)
    steady = _steady(raw, t, trust, scale, SLOW, view).astype(np.float64)
    around = _expected(raw, t, trust, scale, view)
    low = np.minimum(raw[:, 0], np.maximum(np.minimum(steady[:, 0], around[:, 0]), 0))
    high = np.maximum(raw[:, 1], np.minimum(np.maximum(steady[:, 1], around[:, 1]), size))
    return [(float(a[0]), float(a[1]), float(b[0]), float(b[1])) for a, b in zip(low, high, strict=True)]


def _expected(
    raw: NDArray[np.float64],
    t: NDArray[np.float64],
    trust: NDArray[np.float64],
    scale: NDArray[np.float64],
    view: Float,
) -> NDArray[np.float64]:
    """(N, 2, 2): the corners that the frames around each one lead to expect there, without that frame itself.

    A box that is too short in one frame, or a single sighting of somebody else, leaves the face bare else. What may
    be noise is taken off: every frame would widen by it.
    """
    shift, zoom = np.split(np.asarray(view, np.float64)[:, None], [2], axis=2)
    at_rest = (raw - shift) / zoom
    others = local_linear(at_rest.reshape(len(raw), 4), t, trust, SLOW, own=False).reshape(raw.shape)
    off, size = zoom * others + shift - raw, scale[:, None, None]
    widened: NDArray[np.float64] = raw + np.sign(off) * np.clip(np.abs(off) - _JITTER * size, 0, _WIDER * size)
    return widened


def _smooth_landmarks(
    faces: Sequence[TrackedFace],
    t: NDArray[np.float64],
    trust: NDArray[np.float64],
    scale: NDArray[np.float64],
    view: Float,
) -> list[Float | None]:
    dense = [f.landmarks for f in faces if f.landmarks is not None]
    if len(dense) < len(faces):
        return [None] * len(faces)
    five = np.stack([layout.five_points(d) for d in dense])
    steady = _steady(five, t, trust, scale, SLOW, view)
    shapes = np.stack([transform(d, align(p, _FACE, 1)) for d, p in zip(dense, five, strict=True)])
    ones = np.ones_like(scale)
    rest = np.tile(AT_REST, (len(faces), 1))
    slow = _steady(shapes, t, trust, ones, SLOW, rest)
    fast = _steady(shapes, t, trust, ones, FAST, rest)
    for group in _LIVELY:
        slow[:, group] = fast[:, group]
    return [transform(s, invert(align(p, _FACE, 1))) for s, p in zip(slow, steady, strict=True)]


def _steady(
    values: NDArray[Any],
    t: NDArray[np.float64],
    trust: NDArray[np.float64],
    scale: NDArray[np.float64],
    sigma: float,
    view: Float,
) -> Float:
    """`values` (N, K, 2) smoothed, point by point drawn back to the raw value where that is far off; float32.

    `view` (N, 3) of the camera is taken out before and put back after.
    """
    shift, zoom = np.split(np.asarray(view, np.float64)[:, None], [2], axis=2)
    raw = (np.asarray(values, np.float64) - shift) / zoom
    calm = local_linear(raw.reshape(len(raw), -1), t, trust, sigma).reshape(raw.shape)
    off = raw - calm
    far = (off**2).sum(axis=-1, keepdims=True)
    noise = ((_JITTER * scale) ** 2)[:, None, None] / zoom**2
    real = far / (far + noise) * np.minimum(trust, 1.0)[:, None, None]
    return np.asarray(zoom * (calm + real * off) + shift, np.float32)


def local_linear(
    values: NDArray[np.float64], t: NDArray[np.float64], trust: NDArray[np.float64], sigma: float, *, own: bool = True
) -> NDArray[np.float64]:
    """Local linear regression of `values` (N, D) at each time `t` (N,), weights `trust` times a Gaussian of `sigma`.

    Without `own`, each from the others' values only, where there are any.
    """
    out = np.empty_like(values)
    starts = np.searchsorted(t, t - 3 * sigma, side="left")
    ends = np.searchsorted(t, t + 3 * sigma, side="right")
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        dt = t[start:end] - t[i]
        weight = trust[start:end] * np.exp(-0.5 * (dt / sigma) ** 2)
        if not own and end - start > 1:
            weight[i - start] = 0.0
        s0, s1, s2 = weight.sum(), (weight * dt).sum(), (weight * dt * dt).sum()
        spread = s0 * s2 - s1 * s1
        sloped = spread > 1e-6 * (s0 * sigma) ** 2  # else: no neighbour to take a slope from
        weight = weight * (s2 - s1 * dt) / spread if sloped else weight / s0
        out[i] = weight @ values[start:end]
    return out


def _width(box: Box) -> float:
    return max(box[2] - box[0], box[3] - box[1])
