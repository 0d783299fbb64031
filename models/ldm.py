"""Family `ldm`: unconditional latent diffusion of faces, as `CompVis/ldm-celebahq-256` and FFHQ's. Knows no key.

The network is told neither landmarks nor identity: pose and expression are its own invention, and the track's noise
alone decides the person. (Labarbarie, Itier & Puech, arXiv 2510.01031, take both from the inversion of the original.)
For speech and gaze that follow the film use `inpaint`, or `sd-inpaint` with a ControlNet.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import UNet2DModel
from torch import Tensor

from revisage.models.base import FaceRequest
from revisage.models.device import Device
from revisage.models.folder import LatentSpec, network
from revisage.models.latent_family import LatentFamily
from revisage.models.quick import quickened
from revisage.models.sampler import Denoise


class LatentDiffusion(LatentFamily):
    """See `Family`. Samples are latents of the autoencoder."""

    def __init__(self, spec: LatentSpec, folder: Path, device: Device) -> None:
        """Raises ModelError when the folder is incomplete."""
        super().__init__(spec.size, folder, device)
        self.spec = spec
        self._unet: UNet2DModel = quickened(network(UNet2DModel, folder / "unet", device), device)

    def _output(self, batch: Sequence[FaceRequest], background: Tensor, cells: Tensor) -> Denoise:
        def output(x: Tensor, t: int) -> Tensor:
            return self._unet(x.to(self._device.dtype), torch.tensor(t, device=x.device)).sample.float()  # type: ignore[no-any-return]

        return output
