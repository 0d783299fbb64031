"""Family `ldm`: unconditional latent diffusion of faces, as `CompVis/ldm-celebahq-256` and FFHQ's. Knows no key.

The face stays in its place by the blending of Labarbarie, Itier & Puech (arXiv 2510.01031): outside the mask the sample
is the known background at the right noise. The network is told neither landmarks nor identity: pose and expression are
its own invention, and the track's noise alone decides the person. (The published method takes both from the inversion
of the original.) For speech and gaze that follow the film use `inpaint`, or `sd-inpaint` with a ControlNet.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import UNet2DModel
from torch import Tensor

from revisage.models.autoencoder import Autoencoder
from revisage.models.base import FaceRequest
from revisage.models.device import Device
from revisage.models.family import Scene, scaled, stacked
from revisage.models.folder import LatentSpec, network
from revisage.models.quick import quickened
from revisage.models.schedule import Schedule, kept_outside


class LatentDiffusion:
    """See `Family`. Samples are latents of the autoencoder."""

    def __init__(self, spec: LatentSpec, folder: Path, device: Device) -> None:
        """Raises ModelError when the folder is incomplete."""
        self.spec = spec
        self._device = device
        self._autoencoder = Autoencoder(folder, device)
        self._unet: UNet2DModel = quickened(network(UNet2DModel, folder / "unet", device), device)
        self._schedule = Schedule.load(folder / "scheduler")
        self.alphas = self._schedule.alphas
        self.noise_shape = self._autoencoder.latent_shape(spec.size)

    def encode(self, pictures: Tensor) -> Tensor:
        """See `Family.encode`."""
        return self._autoencoder.encode(pictures)

    def decode(self, samples: Tensor) -> Tensor:
        """See `Family.decode`."""
        return self._autoencoder.decode(samples)

    def scene(self, batch: Sequence[FaceRequest]) -> Scene:
        """See `Family.scene`."""
        background = self.encode(scaled(stacked([r.background for r in batch], self._device)))
        cells = self._autoencoder.cells(stacked([r.mask > 0 for r in batch], self._device).float()[:, None])
        noise = stacked([r.noise for r in batch], self._device)

        def denoise(x: Tensor, t: int) -> Tensor:
            out = self._unet(x.to(self._device.dtype), torch.tensor(t, device=x.device)).sample.float()
            return kept_outside(self._schedule.clean(out, x, t), background, cells)

        return Scene(self._schedule.start(noise, background, cells), denoise)
