"""Who a new face is: an identity code becomes skin, brows, eyes and lips, laid over landmarks. Knows no key, no light.

A linear model of appearance (Cootes, Edwards & Taylor, *Active Appearance Models*, PAMI 23(6), 2001): faces are warped
to one shape, light and tone are divided out, and what is left varies along principal components. A code of independent
standard-normal numbers is a place in that cloud: some person, nearly always nobody. `models/train/appearance.py` fits
it. Drawn into the pose of a frame, it tells the diffusion network who to paint; light, skin tone and all that lies
between the pixels of this soft picture are the network's business.
"""

from __future__ import annotations

from collections import OrderedDict

import cv2
import numpy as np
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from numpy.typing import NDArray
from torch import Tensor

from revisage.models import layout
from revisage.pipeline.types import Float

SIDE = 128  # of the picture in which all faces have one shape, pixels
FURTHEST = 2.0  # standard deviations
_SUBPIXEL = 4  # bits, for OpenCV's fixed-point coordinates
_REMEMBERED = 64  # pictures of codes


class Appearance(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Parameters only; `Artist` draws with them."""

    shape: Tensor
    triangles: Tensor
    pixels: Tensor
    mean: Tensor
    basis: Tensor

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, code_size: int = 64, pixel_count: int = 1, triangle_count: int = 1) -> None:
        """Zeros. `mean` and `basis` are natural logarithms of a face's colour over its light, RGB, at `pixels`."""
        super().__init__()
        self.register_buffer("shape", torch.zeros(layout.LANDMARK_COUNT, 2))  # in sides, pixel centres at whole pixels
        self.register_buffer("triangles", torch.zeros(triangle_count, 3, dtype=torch.int32))  # landmark numbers
        self.register_buffer("pixels", torch.zeros(pixel_count, dtype=torch.int32))  # row * SIDE + column
        self.register_buffer("mean", torch.zeros(pixel_count, 3))
        self.register_buffer("basis", torch.zeros(code_size, pixel_count, 3))

    @classmethod
    def of(
        cls, shape: Float, triangles: NDArray[np.int32], pixels: NDArray[np.int32], mean: Float, basis: Float
    ) -> Appearance:
        """From arrays: `shape` (135, 2) in pixels, (F, 3), (P,), (P, 3), (code size, P, 3)."""
        made: Appearance = cls(len(basis), len(pixels), len(triangles))
        for name, array in (
            ("shape", shape / SIDE),
            ("triangles", triangles),
            ("pixels", pixels),
            ("mean", mean),
            ("basis", basis),
        ):
            getattr(made, name).copy_(torch.from_numpy(np.asarray(array)))
        return made


class Artist:
    """Draws faces of an `Appearance`."""

    def __init__(self, appearance: Appearance) -> None:
        self._shape: Float = (appearance.shape.float() * SIDE).cpu().numpy()
        self._triangles: NDArray[np.int32] = appearance.triangles.cpu().numpy()
        self._pixels = appearance.pixels.cpu().numpy()
        self._mean: Float = appearance.mean.float().cpu().numpy()
        self._basis: Float = appearance.basis.float().cpu().numpy()
        self._drawn: OrderedDict[bytes, Float] = OrderedDict()

    def portrait(self, code: Float) -> Float:
        """(SIDE, SIDE, 3) float32 of a code (code size,): logarithms of colour over light, in the mean shape."""
        key = np.asarray(code, np.float32).tobytes()
        if key not in self._drawn:
            picture = np.zeros((SIDE * SIDE, 3), np.float32)
            picture[self._pixels] = self._mean + np.tensordot(np.asarray(code, np.float32), self._basis, 1)
            self._drawn[key] = picture.reshape(SIDE, SIDE, 3)
            if len(self._drawn) > _REMEMBERED:
                self._drawn.popitem(last=False)
        return self._drawn[key]

    def draw(self, code: Float, landmarks: Float, size: int) -> Float:
        """The same over `landmarks` (135, 2) of a crop: (size, size, 3) float32, 0 where the face is not."""
        x, y = places(landmarks, self._shape, self._triangles, size)
        drawn: Float = cv2.remap(
            self.portrait(code), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(0, 0, 0)
        )
        return drawn


def moderate(code: Float) -> Float:
    """A drawn code (N,) without its extremes: none of its numbers beyond `FURTHEST`, those near 0 as they are.

    Of 64 independent numbers a few always lie far out, and one such component alone gives a face a white moustache.
    """
    drawn: Float = (np.tanh(code / FURTHEST) * FURTHEST).astype(np.float32)
    return drawn


def places(onto: Float, source: Float, triangles: NDArray[np.int32], size: int) -> tuple[Float, Float]:
    """Where to look in a picture with landmarks `source` to draw it over `onto`: x and y, (size, size) float32 each.

    Affine within each of the `triangles` (F, 3) of landmarks. Those that are seen from behind are left out, as is
    everything outside all of them: -2 there. Both landmark sets are (135, 2) in pixels.
    """
    corners, targets = np.asarray(onto, np.float64)[triangles], np.asarray(source, np.float64)[triangles]
    facing = (_doubled_area(corners) * _doubled_area(targets) > 0) & (np.abs(_doubled_area(corners)) > 1e-3)
    number = np.full((size, size), -1, np.int32)
    limited = np.clip(corners, -4096, 4096)
    fixed = np.round(limited * (1 << _SUBPIXEL)).astype(np.int32)
    for i in np.flatnonzero(facing):
        cv2.fillConvexPoly(number, fixed[i], int(i), cv2.LINE_8, _SUBPIXEL)
    affine = np.zeros((len(triangles) + 1, 3, 2))
    affine[-1, 2] = -2  # number -1
    homogeneous = np.concatenate([corners, np.ones((len(corners), 3, 1))], axis=-1)
    affine[:-1][facing] = np.linalg.solve(homogeneous[facing], targets[facing])
    rows, columns = np.mgrid[:size, :size]
    chosen = affine[number].astype(np.float32)
    found = chosen[..., 0, :] * columns[..., None] + chosen[..., 1, :] * rows[..., None] + chosen[..., 2, :]
    return np.ascontiguousarray(found[..., 0], np.float32), np.ascontiguousarray(found[..., 1], np.float32)


def _doubled_area(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    one, two = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area: NDArray[np.float64] = one[:, 0] * two[:, 1] - one[:, 1] * two[:, 0]
    return area
