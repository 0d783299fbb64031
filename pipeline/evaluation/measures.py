"""The measures: numbers from embeddings, landmarks and pictures, each with its source. Knows no file, key or model.

Embeddings are (N, D) float32 rows, one a face; distances are Euclidean. Landmarks are (…, LANDMARK_COUNT, 2) float32,
see `models/layout.py`. Pictures are (H, W, 3) uint8 RGB. Where there is nothing to measure, a measure is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import Delaunay
from skimage.metrics import structural_similarity

from revisage.models import layout
from revisage.models.conditioning import FACE_TEMPLATE, standard_landmarks
from revisage.pipeline.pixels import Mask
from revisage.pipeline.types import Float, Image

Floats = NDArray[Any]

NOTHING = float("nan")
LOSSLESS = 100.0  # dB; what `psnr` says of identical pixels, so that means stay finite
_TEXTURE = 96  # side of a face's texture, pixels


# -- who is it


def distances(a: Float, b: Float) -> Float:
    """(N, D), (M, D) -> (N, M): Euclidean distance of every row of `a` to every row of `b`."""
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)  # equal rows are 0 apart, not a thousandth
    squares = (x**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2 * x @ y.T
    distance: Float = np.sqrt(np.maximum(squares, 0)).astype(np.float32)
    return distance


def pairs_within(embeddings: Float) -> Float:
    """(N, D) -> (N (N - 1) / 2,): the distance of every two rows."""
    return distances(embeddings, embeddings)[np.triu_indices(len(embeddings), 1)]


def paired(a: Float, b: Float) -> Float:
    """(N, D) twice -> (N,): the distance of each row of `a` to the same row of `b`."""
    distance: Float = np.linalg.norm(a - b, axis=-1)
    return distance


def same_person_rate(distance: Floats, threshold: float) -> float:
    """Share of `distance` up to `threshold`: verification at a fixed operating point (LFW, Huang et al. 2007)."""
    return share(np.asarray(distance) <= threshold)


def rank1(probes: Float, gallery: Float) -> float:
    """Share of `probes` (N, D) whose nearest row of `gallery` (M, D), M >= N, is the one of the same number.

    Closed-set identification at rank 1 (Phillips, Grother, Micheals, *Evaluation Methods in Face Recognition*, 2011).
    """
    nearest = distances(probes, gallery).argmin(1)
    return share(nearest == np.arange(len(probes)))


def identity_change(embeddings: Float) -> float:
    """Mean distance of neighbouring rows: how much a person changes from frame to frame."""
    return mean(paired(embeddings[1:], embeddings[:-1]))


# -- does it move as the person did


def landmark_error(driving: Float, found: Float) -> Float:
    """(N, CONTOUR_COUNT or more, 2) twice -> (N,): mean distance of the contours over the driving interocular.

    The *normalised mean error* of the 300-W benchmark (Sagonas et al. 2013), between eye centres.
    """
    off = (driving - found)[:, : layout.CONTOUR_COUNT]
    error: Float = np.linalg.norm(off, axis=-1).mean(-1) / layout.interocular(driving)
    return error


def correlation(a: Floats, b: Floats) -> float:
    """Pearson's r of two series; NaN where one of them does not vary."""
    if len(a) < 3 or min(float(np.std(a)), float(np.std(b))) < 1e-9:
        return NOTHING
    return float(np.corrcoef(a, b)[0, 1])


def texture(picture: Image, landmarks: Float, side: int = _TEXTURE) -> Float:
    """The face of `picture` warped to one standard shape: (side, side, 3) float32, 0 outside the face.

    Piecewise affine over the Delaunay triangles of the mean face, as the *shape-free patch* of active appearance models
    (Cootes, Edwards, Taylor, ECCV 1998): what still changes between two frames is not motion.
    """
    grid = _standard_grid(side)
    at = np.zeros((side, side, 2), np.float32)
    at[grid.inside] = np.einsum("nk,nkd->nd", grid.weights, landmarks[grid.corners])
    warped: Float = cv2.remap(picture, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.where(grid.inside[..., None], warped, 0).astype(np.float32)


def texture_change(before: Float, after: Float) -> float:
    """Mean absolute difference in grey levels of two `texture`s, inside the face.

    A warping error as in Lai et al., *Learning Blind Video Temporal Consistency* (ECCV 2018), with landmarks for flow.
    """
    inside = _standard_grid(before.shape[0]).inside
    return float(np.abs(after - before)[inside].mean())


@dataclass(frozen=True, slots=True, eq=False)
class _Grid:
    """Each pixel of the standard shape as a mix of three landmarks."""

    inside: Mask  # (S, S)
    corners: NDArray[np.int32]  # (K, 3), landmarks, for the K pixels inside
    weights: Float  # (K, 3), rows sum to 1


@lru_cache(maxsize=4)
def _standard_grid(side: int) -> _Grid:
    shape = standard_landmarks(np.asarray(FACE_TEMPLATE.points, np.float32))
    low, high = shape.min(0), shape.max(0)
    shape = (shape - (low + high) / 2) / (high - low).max() * (side - 3) + (side - 1) / 2
    mesh = Delaunay(shape)
    pixels = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2).astype(np.float64)
    triangle = mesh.find_simplex(pixels)
    inside = triangle >= 0
    affine = mesh.transform[triangle[inside]]
    two = np.einsum("nij,nj->ni", affine[:, :2], pixels[inside] - affine[:, 2])
    weights = np.column_stack([two, 1 - two.sum(1)]).astype(np.float32)
    return _Grid(inside.reshape(side, side), mesh.simplices[triangle[inside]], weights)


# -- what of the picture is left


def psnr(a: Image, b: Image, mask: Mask | None = None) -> float:
    """Peak signal-to-noise ratio in dB over the pixels of `mask` (H, W); `LOSSLESS` where nothing differs."""
    difference = a.astype(np.float32) - b.astype(np.float32)
    chosen = difference if mask is None else difference[mask]
    if chosen.size == 0:
        return NOTHING
    error = float(np.square(chosen).mean())
    return min(LOSSLESS, 10 * float(np.log10(255**2 / error))) if error else LOSSLESS


def ssim_map(a: Image, b: Image) -> Float:
    """(H, W): structural similarity of the luma around each pixel, 7 x 7 windows (Wang et al., TIP 2004)."""
    grey = [cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY) for picture in (a, b)]
    _, full = structural_similarity(*grey, data_range=255, full=True)
    return np.asarray(full, np.float32)


# -- do they look like people


def kid(a: Float, b: Float) -> float:
    """Kernel Inception Distance: unbiased squared MMD, kernel (x·y / D + 1)³ (Bińkowski et al., ICLR 2018, section 4).

    Rows are features of two sets of pictures, at least two each. About 0 (also just below it) where both sets look
    alike; unlike FID it has no bias for small sets.
    """
    if min(len(a), len(b)) < 2:
        return NOTHING
    size = a.shape[1]
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)

    def kernel(p: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.float64]:
        values: NDArray[np.float64] = (p @ q.T / size + 1) ** 3
        return values

    def off_diagonal(k: NDArray[np.float64]) -> float:
        return float((k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)))

    return off_diagonal(kernel(x, x)) + off_diagonal(kernel(y, y)) - 2 * float(kernel(x, y).mean())


def standardised(reference: Float, *others: Float) -> list[Float]:
    """All sets with each feature's mean and spread in `reference` taken out, so that no feature outweighs the rest."""
    centre, spread = reference.mean(0), reference.std(0) + 1e-6
    return [((rows - centre) / spread).astype(np.float32) for rows in (reference, *others)]


def sharpness(crops: Image) -> Float:
    """(N, S, S, 3) -> (N,): mean squared step between neighbouring pixels of the luma, over the crop's middle half."""
    grey = _middle(crops)
    across, down = np.diff(grey, axis=2), np.diff(grey, axis=1)
    steps: Float = np.square(across).mean((1, 2)) + np.square(down).mean((1, 2))
    return np.maximum(steps, 1e-6)


def lightness(crops: Image) -> Float:
    """(N, S, S, 3) -> (N,): mean of the luma, in grey levels, over the crop's middle half."""
    return np.asarray(_middle(crops).mean((1, 2)), np.float32)


def _middle(crops: Image) -> Float:
    """(N, S, S, 3) -> (N, S / 2, S / 2): luma."""
    middle = slice(crops.shape[1] // 4, -(crops.shape[1] // 4))
    return np.asarray(crops[:, middle, middle].astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32))


# -- summaries


def mean(values: Floats) -> float:
    """The mean; NaN of nothing."""
    return float(np.mean(values)) if np.size(values) else NOTHING


def median(values: Floats) -> float:
    """The median; NaN of nothing."""
    return float(np.median(values)) if np.size(values) else NOTHING


def share(verdicts: NDArray[np.bool_]) -> float:
    """How many of the verdicts are true, 0..1; NaN of nothing."""
    return mean(np.asarray(verdicts, np.float32))
