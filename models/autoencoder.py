"""The way between pictures and latents: one face on diffusers' `VQModel`, `AutoencoderKL` and `AutoencoderTiny`.

Deterministic both ways: of a KL autoencoder's distribution the mode is taken. Knows no noise and no face.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import torch.nn.functional as F
from diffusers import AutoencoderKL, AutoencoderTiny, VQModel
from torch import Tensor

from revisage.models.device import Device
from revisage.models.folder import network
from revisage.models.quick import quickened
from revisage.pipeline.errors import ModelError

_CLASSES = {kind.__name__: kind for kind in (VQModel, AutoencoderKL, AutoencoderTiny)}


class Autoencoder:
    """Pictures (B, 3, S, S) in -1..1 <-> latents (B, channels, S / shrink, S / shrink) as the UNet wants them."""

    def __init__(self, folder: Path, device: Device) -> None:
        """From the subfolder `vqvae` or `vae` of model folder `folder`. Raises ModelError where there is none."""
        part = folder / ("vqvae" if (folder / "vqvae").is_dir() else "vae")
        kind = _CLASSES.get(_class_name(part))
        if kind is None:
            raise ModelError(f"{part} holds no autoencoder of a known class; known are {', '.join(_CLASSES)}")
        # A codebook is looked up by distance, which torch computes in float32 only.
        self._device = device.exact if kind is VQModel else device
        self._network = quickened(network(kind, part, self._device), self._device)
        config = self._network.config
        self._scale = float(config.scaling_factor)
        self.channels = int(config.latent_channels)
        self.shrink = int(2 ** (len(config.block_out_channels) - 1))

    def latent_shape(self, size: int) -> tuple[int, int, int]:
        """Of a picture of side `size`. Raises ModelError where it does not divide into cells."""
        if size % self.shrink:
            raise ModelError(f"crops of {size} pixels do not divide into latent cells of {self.shrink}")
        return self.channels, size // self.shrink, size // self.shrink

    def encode(self, pictures: Tensor) -> Tensor:
        """Clean latents, float32."""
        coded = self._network.encode(pictures.to(self._device.dtype))
        latents = coded.latent_dist.mode() if hasattr(coded, "latent_dist") else coded.latents
        return cast(Tensor, latents).float() * self._scale

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures, float32."""
        pictures = self._network.decode((latents / self._scale).to(self._device.dtype)).sample
        return cast(Tensor, pictures).float()

    def cells(self, mask: Tensor) -> Tensor:
        """(B, 1, S, S) 0 or 1 -> the same per latent: 1 for every cell that shows any pixel of the mask."""
        return F.max_pool2d(mask, self.shrink)


def _class_name(part: Path) -> str:
    try:
        return str(json.loads((part / "config.json").read_text(encoding="utf-8"))["_class_name"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"no autoencoder in {part}: config.json cannot be read") from error
