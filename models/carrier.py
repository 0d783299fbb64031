"""Where latents lie in a crop, so that what they grow into is exactly what a video can store. Knows no key, no file.

A video keeps a face in its own samples: on its own pixel grid, most often with one colour for four pixels. A latent
that lived in a crop would not survive the way there and back. So latents have one number per *sample that can be
written* (`Tile`), and lie in the network's crop by a map that keeps lengths and angles: white noise stays white.

    samples ─► grey and two colours per pixel (orthonormal) ─► cosine transform, N x N to S x S ─► crop

What no sample reaches, such as a difference of colour between two pixels of one block, frequencies above the tile's,
and all that lies outside the mask, is keyed noise over a known picture (`Route`), the same in both directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.fft import idct
from torch import Tensor

from revisage.models.base import Tile
from revisage.models.device import Device
from revisage.models.family import stacked
from revisage.models.sampler import Route
from revisage.pipeline.types import Float

# Grey, then two colours that hold no grey: orthonormal rows over R, G, B.
_COLOURS = np.array([[1, 1, 1], [1, -1, 0], [1, 1, -2]]) / np.sqrt([[3], [2], [6]])


@dataclass(frozen=True, slots=True, eq=False)
class Carrier:
    """A batch of tiles in crops of side S. Latents are canvases (B, 3, S, S), used in the top left corner only."""

    masks: Tensor  # (B, 3, S, S) in 0..1: which numbers of a canvas there are
    stretch: Tensor  # (B, S, S): column n is the n-th sample of a tile's row, zero from the tile's side on
    scale: Tensor  # (B, 1, 1, 1): crop pixels per tile pixel
    block: tuple[int, int]  # rows and columns of pixels that share a colour; (0, 0): there is none

    @classmethod
    def of(cls, tiles: Sequence[Tile], side: int, device: Device) -> Carrier:
        """For crops of `side`. Raises ValueError unless all tiles have the same blocks."""
        block = tiles[0].block
        if any(tile.block != block for tile in tiles):
            raise ValueError("tiles of one batch must have blocks of one size")
        masks = stacked([_canvas(_mask(tile), side) for tile in tiles], device)
        stretch = stacked([_stretch(tile.side, side) for tile in tiles], device)
        scale = torch.tensor([side / tile.side for tile in tiles], device=masks.device)[:, None, None, None]
        return cls(masks, stretch, scale, block)

    def lift(self, canvas: Tensor) -> Tensor:
        """(B, 3, S, S) canvases -> crops; keeps lengths."""
        return self._stretched(self._unpacked(canvas * self.masks))

    def lower(self, crop: Tensor) -> Tensor:
        """The adjoint of `lift`, which undoes it; what no canvas holds is lost."""
        return self._packed(self._shrunk(crop)) * self.masks

    def pack(self, pictures: Tensor) -> Tensor:
        """Pictures of tiles (B, 3, S, S) RGB, in the corner, -1..1 -> canvases in the units of the crop's pixels."""
        return self._packed(pictures) * self.masks * self.scale

    def unpack(self, canvas: Tensor) -> Tensor:
        """The other way round; 0 where the mask is 0."""
        return self._unpacked(canvas * self.masks) / self.scale

    def route(self, surroundings: Tensor, noise: Tensor) -> Route:
        """For crops over pictures (B, 3, S, S) that are 0 under the masks, with crops of `noise`."""
        return Route(
            self.lift, self.lower, self._stretched(surroundings) * self.scale, noise - self.lift(self.lower(noise))
        )

    def _stretched(self, tiles: Tensor) -> Tensor:
        wide = self.stretch[:, None]
        return wide @ tiles @ wide.transpose(-1, -2)

    def _shrunk(self, crops: Tensor) -> Tensor:
        wide = self.stretch[:, None]
        return wide.transpose(-1, -2) @ crops @ wide

    def _packed(self, tiles: Tensor) -> Tensor:
        parts = torch.einsum("kc,bchw->bkhw", _colours(tiles), tiles)
        grey, colour = parts[:, :1], parts[:, 1:]
        rows, columns = self.block
        if not rows * columns:
            return torch.cat([grey, torch.zeros_like(colour)], dim=1)
        if rows * columns > 1:
            colour = F.avg_pool2d(colour, self.block) * (rows * columns) ** 0.5
        return torch.cat([grey, _cornered(colour, tiles.shape[-1])], dim=1)

    def _unpacked(self, canvas: Tensor) -> Tensor:
        grey, colour = canvas[:, :1], canvas[:, 1:]
        rows, columns = self.block
        if rows * columns > 1:
            side = canvas.shape[-1]
            used = colour[..., : side // rows, : side // columns] / (rows * columns) ** 0.5
            colour = _cornered(used.repeat_interleave(rows, -2).repeat_interleave(columns, -1), side)
        return torch.einsum("kc,bkhw->bchw", _colours(canvas), torch.cat([grey, colour], dim=1))


def cornered(pictures: Sequence[Float], side: int) -> list[Float]:
    """Pictures (3, N, N) in the top left corner of (3, side, side) zeros."""
    return [_canvas(picture, side) for picture in pictures]


def _mask(tile: Tile) -> Float:
    """(3, N, N): grey wherever the tile's mask is, colours in the corner, one per block."""
    mask = np.zeros((3, tile.side, tile.side), np.float32)
    mask[0] = tile.mask
    rows, columns = tile.block
    if rows * columns:
        colour = tile.mask[::rows, ::columns]
        mask[1:, : colour.shape[0], : colour.shape[1]] = colour
    return mask


def _canvas(picture: Float, side: int) -> Float:
    canvas = np.zeros((3, side, side), np.float32)
    canvas[:, : picture.shape[1], : picture.shape[2]] = picture
    return canvas


def _cornered(picture: Tensor, side: int) -> Tensor:
    return F.pad(picture, (0, side - picture.shape[-1], 0, side - picture.shape[-2]))


def _colours(like: Tensor) -> Tensor:
    return torch.tensor(_COLOURS, dtype=like.dtype, device=like.device)


@lru_cache(maxsize=64)
def _stretch(small: int, large: int) -> NDArray[Any]:
    """(large, large) float32, orthonormal columns up to `small`: a row of samples as cosines, read `large` times.

    Type-II cosine transform (Ahmed, Natarajan & Rao, IEEE Trans. Computers C-23(1), 1974), orthonormal.
    """
    cosines = idct(np.eye(small), norm="ortho", axis=0).T  # samples -> cosines
    there = np.zeros((large, large))
    there[:, :small] = idct(np.eye(large)[:, :small] @ cosines, norm="ortho", axis=0)
    return there.astype(np.float32)
