"""One portrait under neutral light: what lamps, sun and sky did to it is found on the face's surface and taken out.

Light is second-order spherical harmonics of the surface's normals (Ramamoorthi & Hanrahan, *An Efficient Representation
for Irradiance Environment Maps*, SIGGRAPH 2001), fitted in linear light for each channel on skin alone; what is left
unequal between the two sides of the face at low frequency (cast shadows, lamps too near) is halved between them. Knows
portraits by their pixels and their mesh only; knows no person, file or network.

Pictures are (S, S, 3) float32 RGB in linear light, 0..1, unless a name says otherwise; meshes are (468, 3) float32 in
pixels of the picture, z in the same unit, smaller towards the camera.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator
from scipy.spatial import Delaunay, cKDTree

from revisage.pipeline.types import Float, Gray, Image

HARMONICS = 9
_LATERAL = [1, 4, 6]  # harmonics that change sign from left to right
_MIDLINE = [10, 152, 1, 168, 0, 17]  # vertices of forehead, chin, nose and lips that have no pair
_GRID = 6  # pixels between the places where a field over the mesh is interpolated; it is smooth
_DARKEST = 0.3  # of the mean light: the least that a place is taken to receive
_BRIGHTEN, _DIM = 1.6, 0.65  # most and least that light is multiplied with
_RIDGE = np.array([0.0, 0.02, 0.02, 0.05, 0.05, 0.05, 0.05, 0.05, 0.1])
_TINT_RIDGE = np.array([0.0, 0.02, 0.02])
_TINTED = 0.12  # most that a channel is moved against the others, natural logarithm
_UNEQUAL = 0.4  # most that one side is lifted or lowered towards the other, natural logarithm
_SHINE, _SHINE_KEPT = 1.18, 0.35  # over the skin around: where shine begins, and what is kept of it
_MIN_SKIN = 200  # pixels of the grid that a fit needs
_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE = np.array([0.95047, 1.0, 1.08883])


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """How the mesh's vertices hang together: the same for all faces."""

    triangles: NDArray[np.int32]  # (F, 3) vertex numbers
    mirrored: NDArray[np.int64]  # (468,) the vertex on the other side of the face

    @classmethod
    def of(cls, meshes: Float) -> Surface:
        """From many aligned meshes (N, 468, 3) of the same size, by their mean."""
        mean = meshes.mean(0).astype(np.float64)
        centred = mean - [mean[_MIDLINE, 0].mean(), 0, 0]
        return cls(Delaunay(mean[:, :2]).simplices, cKDTree(centred * [-1, 1, 1]).query(centred)[1])


@dataclass(frozen=True, slots=True, eq=False)
class Light:
    """What light does to a face that is white and lit by 1 in the mean."""

    shade: Float  # (HARMONICS,) luminance
    tint: Float  # (3, 3): per channel the logarithm over luminance: everywhere, towards the right, upwards

    @property
    def unevenness(self) -> float:
        """How much more light comes from one side than from the other, and of how different a colour: 0 is even."""
        return float(np.abs(self.shade[_LATERAL]).max() + np.abs(self.tint[1]).max())


def to_linear(picture: Image) -> Float:
    """uint8 sRGB -> linear light (IEC 61966-2-1)."""
    return _decoding()[picture]


def to_srgb(linear: Float) -> Image:
    """Linear light, clipped to 0..1 -> uint8 sRGB."""
    x = np.clip(linear, 0, 1)
    encoded = np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.power(np.maximum(x, 1e-8), 1 / 2.4) - 0.055)
    picture: Image = np.round(encoded * 255).astype(np.uint8)
    return picture


def to_lab(linear: Float) -> Float:
    """(…, 3) linear light -> CIE L*a*b* under D65."""
    xyz = np.asarray(linear, np.float64) @ _TO_XYZ.T / _WHITE
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    lab = [116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])]
    return np.asarray(np.stack(lab, -1), np.float32)


def to_rgb(lab: Float) -> Float:
    """(…, 3) CIE L*a*b* under D65 -> linear light."""
    lightness = (np.asarray(lab[..., 0], np.float64) + 16) / 116
    f = np.stack([lightness + lab[..., 1] / 500, lightness, lightness - lab[..., 2] / 200], -1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * _WHITE
    return np.asarray(xyz @ np.linalg.inv(_TO_XYZ).T, np.float32)


def luminance(linear: Float) -> Float:
    """(…, 3) linear light -> (…,) relative luminance."""
    return np.asarray(linear @ _TO_XYZ[1].astype(np.float32), np.float32)


def fit_light(linear: Float, mesh: Float, surface: Surface, skin: Gray) -> Light:
    """The light that falls on the face, from `skin` (S, S), nonzero where skin is seen.

    Robust: what is darker or brighter than any light explains (beard, moles, shine) counts little. ValueError: too
    little skin.
    """
    even = cv2.GaussianBlur(linear, (0, 0), 2.5)[::_GRID, ::_GRID]
    on = skin[::_GRID, ::_GRID] > 0
    if int(on.sum()) < _MIN_SKIN:
        raise ValueError("too little skin is seen")
    basis = harmonics(normals(mesh, surface, linear.shape[0])[::_GRID, ::_GRID][on])
    values = np.maximum(even[on], 1e-4)
    light = luminance(values)
    tints = np.log(values / light[:, None])
    shade = _robust(basis, light[:, None] / np.median(light), _RIDGE)
    tint = _robust(basis[:, :3], tints - np.median(tints, axis=0), _TINT_RIDGE)
    return Light(shade[:, 0], tint)


def _robust(basis: Float, values: Float, ridge: Float) -> Float:
    """Coefficients (K, C) of `basis` (N, K) for `values` (N, C); what is far off counts little (Cauchy weights)."""
    weights = np.ones(len(values))
    coefficients = np.zeros((basis.shape[1], values.shape[1]))
    for _ in range(6):
        a = basis * weights[:, None]
        coefficients = np.linalg.solve(a.T @ basis + np.diag(ridge * weights.sum()), a.T @ values)
        off = np.linalg.norm(values - basis @ coefficients, axis=1)
        weights = 1 / (1 + (off / max(3 * float(np.median(off)), 1e-3)) ** 2)
    return np.asarray(coefficients, np.float32)


def neutral(lights: Sequence[Light]) -> Float:
    """(HARMONICS,): the median of many portraits' shades, the same on both sides."""
    light = np.median(np.stack([light.shade for light in lights]), axis=0)
    light[_LATERAL] = 0
    return np.asarray(light, np.float32)


def relight(linear: Float, mesh: Float, surface: Surface, skin: Gray, target: Float) -> Float:
    """`linear` as it looks under the white light `target` (HARMONICS,), the same on both sides and without shine."""
    size = linear.shape[0]
    light = fit_light(linear, mesh, surface, skin)
    basis = harmonics(normals(mesh, surface, size))
    found, wanted = (np.maximum(basis @ shade, _DARKEST) for shade in (light.shade, target))
    ratio = np.clip(wanted / found, _DIM, _BRIGHTEN)[..., None]
    # Tints from the side are a lamp's; from above and below they are half the skin's own (forehead, beard).
    tint = basis[..., 1:3] @ (light.tint[1:] * np.array([[1.0], [0.5]], np.float32))
    ratio = ratio * np.exp(-np.clip(tint, -_TINTED, _TINTED))
    lit = linear * cv2.GaussianBlur(ratio.astype(np.float32), (0, 0), 0.02 * size)
    return without_shine(equal_sides(lit, mesh, surface, skin), skin)


def equal_sides(linear: Float, mesh: Float, surface: Surface, skin: Gray, sigma: float = 0.06) -> Float:
    """Low frequencies (Gaussian, `sigma` of the side) of both sides of the face made equal, by the mesh's pairs."""
    size = linear.shape[0]
    low = spread_skin(np.log(linear + 0.004), skin, sigma * size)
    at = np.clip(np.round(mesh[:, :2]).astype(int), 0, size - 1)
    values = low[at[:, 1], at[:, 0]]
    half = (values[surface.mirrored] - values) / 2
    grey = half.mean(1, keepdims=True)
    half = np.clip(grey, -_UNEQUAL, _UNEQUAL) + np.clip(half - grey, -_TINTED, _TINTED)
    return np.asarray(linear * np.exp(field(half, mesh, size, 0.03)), np.float32)


def without_shine(linear: Float, skin: Gray) -> Float:
    """Skin much brighter than the skin around it is brought near that: lamps' reflections on forehead, nose, cheeks."""
    size = linear.shape[0]
    around = luminance(spread_skin(linear, skin, 0.05 * size))
    fine = luminance(cv2.GaussianBlur(linear, (0, 0), 0.004 * size))
    over = fine / np.maximum(around, 1e-3)
    kept = np.where(over > _SHINE, (_SHINE + (over - _SHINE) * _SHINE_KEPT) / over, 1).astype(np.float32)
    soft = cv2.GaussianBlur((skin > 0).astype(np.float32), (0, 0), 0.006 * size)
    return np.asarray(linear * (1 + (kept - 1) * soft)[..., None], np.float32)


def harmonics(normal: Float) -> Float:
    """(…, 3) unit normals -> (…, HARMONICS)."""
    x, y, z = np.moveaxis(normal, -1, 0)
    terms = [np.ones_like(x), x, y, z, x * y, y * z, x * z, x * x - y * y, 3 * z * z - 1]
    return np.asarray(np.stack(terms, -1), np.float32)


def normals(mesh: Float, surface: Surface, size: int) -> Float:
    """(size, size, 3) unit normals of the surface: x right, y up, z to the camera; smooth, also outside the face."""
    found = field(_vertex_normals(mesh, surface), mesh, size, 0.012)
    return np.asarray(found / np.maximum(np.linalg.norm(found, axis=-1, keepdims=True), 1e-6), np.float32)


def field(values: Float, mesh: Float, size: int, sigma: float) -> Float:
    """(468, C) of the vertices -> (size, size, C) float32: linear between them, the nearest outside, blurred."""
    steps = np.arange(0, size + _GRID, _GRID)
    grid = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)
    places = mesh[:, :2].astype(np.float64)
    found = LinearNDInterpolator(places, values)(grid)
    outside = ~np.isfinite(found).all(-1)
    found[outside] = NearestNDInterpolator(places, values)(grid[outside])
    coarse = found.reshape(len(steps), len(steps), -1).astype(np.float32)
    x, y = np.meshgrid(np.arange(size, dtype=np.float32) / _GRID, np.arange(size, dtype=np.float32) / _GRID)
    fine = cv2.remap(coarse, x, y, cv2.INTER_LINEAR)
    return np.asarray(cv2.GaussianBlur(fine, (0, 0), sigma * size), np.float32).reshape(size, size, -1)


def _vertex_normals(mesh: Float, surface: Surface) -> Float:
    corners = (mesh * np.array([1, -1, -1], np.float32))[surface.triangles]
    faces = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    faces *= np.where(faces[:, 2:] < 0, -1, 1)
    total = np.zeros((len(mesh), 3))
    for k in range(3):
        np.add.at(total, surface.triangles[:, k], faces)
    return np.asarray(total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-9), np.float32)


def spread_skin(values: Float, skin: Gray, sigma: float) -> Float:
    """Gaussian mean of `values` (S, S, C) over skin alone, defined everywhere."""
    on = (skin > 0).astype(np.float32)
    weight = cv2.GaussianBlur(on, (0, 0), sigma) + 1e-4 * cv2.GaussianBlur(on, (0, 0), 4 * sigma) + 1e-9
    total = cv2.GaussianBlur(values * on[..., None], (0, 0), sigma)
    total += 1e-4 * cv2.GaussianBlur(values * on[..., None], (0, 0), 4 * sigma)
    mean = (values * on[..., None]).sum((0, 1)) / max(float(on.sum()), 1.0)
    return np.asarray((total + 1e-9 * mean) / weight[..., None], np.float32)


@lru_cache(maxsize=1)
def _decoding() -> Float:
    x = np.arange(256) / 255
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4).astype(np.float32)
