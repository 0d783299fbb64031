"""Family `inpaint`: a pixel-space `UNet2DModel` on patches, as `models/train/face.py` trains it. Knows no key.

It sees the picture with the face removed, the mask, a drawing of the landmarks, and the look of the identity code drawn
over them; it predicts the clean picture, which a `Refiner` finishes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, UNet2DModel
from torch import Tensor

from revisage.models.appearance import Appearance, Artist
from revisage.models.base import FaceRequest
from revisage.models.conditioning import draw_landmarks
from revisage.models.device import Device
from revisage.models.expression import expression
from revisage.models.family import Scene, scaled, stacked
from revisage.models.folder import InpaintSpec, network, scheduler
from revisage.models.proportions import proportions, reshaped
from revisage.models.quick import SplitInput, quickened
from revisage.models.refiner import Refiner
from revisage.pipeline.types import Float


class Inpaint:
    """See `Family`. Samples are pixels: encoding and decoding change nothing."""

    def __init__(self, spec: InpaintSpec, folder: Path, device: Device) -> None:
        """Raises ModelError when the folder is incomplete."""
        self.spec = spec
        self.noise_shape = (3, spec.size, spec.size)
        self._device = device
        self._unet: UNet2DModel = network(UNet2DModel, folder / "unet", device)
        self._input = SplitInput(self._unet.conv_in, 3 * spec.patch**2)
        self._unet.conv_in = self._input
        quickened(self._unet, device)
        self._refiner: Refiner = quickened(network(Refiner, folder / "refiner", device), device)
        self._artist = Artist(network(Appearance, folder / "appearance", device.exact))
        self.alphas: Tensor = scheduler(DDIMScheduler, folder / "scheduler").alphas_cumprod

    def encode(self, pictures: Tensor) -> Tensor:
        """See `Family.encode`."""
        return pictures

    def decode(self, samples: Tensor) -> Tensor:
        """See `Family.decode`."""
        return samples

    def scene(self, batch: Sequence[FaceRequest]) -> Scene:
        """See `Family.scene`. The noise loses its lowest frequencies where the folder says so."""
        seen, look = self.conditions(batch)
        constant = self._input.split(self._patches(torch.cat([seen, look], dim=1)))
        seen, look = seen.to(self._device.dtype), look.to(self._device.dtype)

        def denoise(x: Tensor, t: int) -> Tensor:
            coarse = self._unet(torch.cat([self._patches(x), constant], dim=1), t).sample
            finished: Tensor = self._refiner(coarse, x.to(self._device.dtype), seen, look)
            return finished.float()

        noise = stacked([r.noise for r in batch], self._device)
        return Scene(calmed(noise, self.spec.calm), denoise)

    def conditions(self, batch: Sequence[FaceRequest]) -> tuple[Tensor, Tensor]:
        """Float32: the picture with the face removed, the mask and the drawing (B, 7, S, S); the look (B, 3, S, S)."""
        shapes = [reshaped(r.landmarks, proportions(r.code, self.spec.proportions)) for r in batch]
        return torch.cat([self._picture(batch), self._drawing(shapes)], dim=1), self._look(batch, shapes)

    def _patches(self, pictures: Tensor) -> Tensor:
        """(B, C, S, S) -> (B, C * patch^2, S / patch, S / patch) in the network's number type."""
        return F.pixel_unshuffle(pictures, self.spec.patch).to(self._device.dtype)

    def _picture(self, batch: Sequence[FaceRequest]) -> Tensor:
        """(B, 4, S, S): the picture with the face removed, and the mask."""
        background = stacked([r.background for r in batch], self._device)
        mask = stacked([r.mask for r in batch], self._device)
        return scaled(torch.cat([background, mask[..., None]], dim=-1))

    def _drawing(self, shapes: Sequence[Float]) -> Tensor:
        return scaled(stacked([draw_landmarks(shape, self.spec.size) for shape in shapes], self._device))

    def _look(self, batch: Sequence[FaceRequest], shapes: Sequence[Float]) -> Tensor:
        """(B, 3, S, S): whom to paint, see `Artist`."""
        drawn = [
            self._artist.draw(self._artist.someone(r.code), expression(r.landmarks), shape, self.spec.size)
            for r, shape in zip(batch, shapes, strict=True)
        ]
        return stacked(drawn, self._device).permute(0, 3, 1, 2)


def calmed(noise: Tensor, cell: int) -> Tensor:
    """`noise` (B, C, S, S) without its lowest frequencies: the means of `cell` x `cell` pixels, interpolated between.

    They would decide light and tone, which belong to the surroundings; the network paints them as blotches.
    """
    if cell == 0:
        return noise
    means = F.avg_pool2d(noise, cell)
    return noise - F.interpolate(means, scale_factor=cell, mode="bilinear", align_corners=False)
