"""What a family of diffusion models must offer to the sampler, and the way of requests into tensors. Knows no key.

Samples are (B, *noise_shape) float32: pixels for a pixel-space family, latents for a latent one. Pictures are
(B, 3, S, S) float32 in -1..1. A network works in the device's number type; all sums between its calls are float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from revisage.models.base import Casting, FaceRequest
from revisage.models.device import Device
from revisage.models.folder import ModelSpec
from revisage.models.sampler import Denoise
from revisage.pipeline.types import Image


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A batch of requests as the sampler sees it."""

    start: Tensor  # (B, *noise_shape), what sampling begins with
    denoise: Denoise  # (x, t) -> predicted clean sample, both (B, *noise_shape) float32


class Family(Protocol):
    """One kind of model folder, loaded."""

    @property
    def spec(self) -> ModelSpec:
        """What its `revisage.json` says."""

    @property
    def noise_shape(self) -> tuple[int, int, int]:
        """Of one sample: channels, height, width."""

    @property
    def alphas(self) -> Tensor:
        """(T,) cumulative products of the noise schedule."""

    def scene(self, batch: Sequence[FaceRequest]) -> Scene:
        """All that is known of the faces to paint."""

    @property
    def cast(self) -> Sequence[Casting]:
        """See `FaceGenerator.cast`."""

    def finish(self, request: FaceRequest, painted: Image, side: int) -> Image:
        """See `FaceGenerator.finish`."""

    def encode(self, pictures: Tensor) -> Tensor:
        """Clean samples of pictures (B, 3, S, S)."""

    def decode(self, samples: Tensor) -> Tensor:
        """Pictures (B, 3, S, S) of clean samples."""


def stacked(arrays: Sequence[NDArray[Any]], device: Device) -> Tensor:
    """(B, …) of arrays of one shape, on the device, in their own number type."""
    tensor = torch.from_numpy(np.stack(arrays))
    if not device.is_cuda:
        return tensor
    return tensor.pin_memory().to("cuda", non_blocking=True)


def scaled(pictures: Tensor) -> Tensor:
    """(B, S, S, C) uint8 -> (B, C, S, S) float32 in -1..1."""
    return pictures.permute(0, 3, 1, 2).float() / 127.5 - 1


def as_bytes(pictures: Tensor) -> Tensor:
    """(B, 3, S, S) in -1..1 -> (B, S, S, 3) uint8."""
    pixels = ((pictures.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).contiguous()
