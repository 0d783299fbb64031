"""What both latent families have in common: an autoencoder, a schedule, the face kept in its place. Knows no key.

The face stays in its place by the blending of Labarbarie, Itier & Puech (arXiv 2510.01031): outside the mask the sample
is the known background at the right noise.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from revisage.models.autoencoder import Autoencoder
from revisage.models.base import Casting, FaceRequest
from revisage.models.device import Device
from revisage.models.family import Scene, scaled, stacked
from revisage.models.sampler import Denoise
from revisage.models.schedule import Schedule, kept_outside
from revisage.pipeline.types import Image


class LatentFamily(ABC):
    """See `Family`. Samples are latents of the autoencoder."""

    def __init__(self, size: int, folder: Path, device: Device) -> None:
        """For crops of side `size`. Raises ModelError when the folder is incomplete."""
        self._device = device
        self._autoencoder = Autoencoder(folder, device)
        self._schedule = Schedule.load(folder / "scheduler")
        self.alphas = self._schedule.alphas
        self.noise_shape = self._autoencoder.latent_shape(size)

    @property
    def cast(self) -> tuple[Casting, ...]:
        """See `Family.cast`: codes make faces by themselves."""
        return ()

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
        output = self._output(batch, background, cells)

        def denoise(x: Tensor, t: int) -> Tensor:
            return kept_outside(self._schedule.clean(output(x, t), x, t), background, cells)

        return Scene(self._schedule.start(noise, background, cells), denoise)

    def finish(self, request: FaceRequest, painted: Image, side: int) -> Image:
        """See `Family.finish`: all the detail there is was painted."""
        del request, side
        return painted

    @abstractmethod
    def _output(self, batch: Sequence[FaceRequest], background: Tensor, cells: Tensor) -> Denoise:
        """What the network says of a noisy sample of this batch, float32, as the schedule understands it.

        `background` are the latents of the pictures without the faces, `cells` (B, 1, h, w) are 1 where to paint.
        """
