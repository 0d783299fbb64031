"""Face generators over diffusers models: batching, sampling and memory for every family. Knows no key and no video.

    requests ─► padded batches ─► family: scene ─► DDIM ─► family: decode ─► pictures

The families differ in what they see and in what space they paint: `models/inpaint.py` (pixels), `models/ldm.py` and
`models/stable.py` (latents). `load_generator` takes the family that a model folder names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from revisage.models.base import Casting, FaceRequest
from revisage.models.device import Device
from revisage.models.family import Family, as_bytes
from revisage.models.folder import EMBEDDED, ModelSpec, read_spec
from revisage.models.hub import is_hub_name, snapshot
from revisage.models.inpaint import Inpaint
from revisage.models.ldm import LatentDiffusion
from revisage.models.sampler import ddim, trailing
from revisage.models.stable import StableInpaint
from revisage.pipeline.errors import ModelError
from revisage.pipeline.types import CropTemplate, Image

FAMILIES: Mapping[str, Callable[[Any, Path, Device], Family]] = {
    "inpaint": Inpaint,
    "ldm": LatentDiffusion,
    "sd-inpaint": StableInpaint,
}


class DiffusionGenerator:
    """A `FaceGenerator`. `batch_size` faces at a time, padded to exactly that, so that every pass has one shape."""

    def __init__(self, family: Family, *, steps: int | None = None, batch_size: int = 8) -> None:
        self.family = family
        self.steps = steps or family.spec.steps
        self._batch_size = batch_size

    @property
    def spec(self) -> ModelSpec:
        """What the model folder says."""
        return self.family.spec

    @property
    def template(self) -> CropTemplate:
        return self.spec.template

    @property
    def size(self) -> int:
        return self.spec.size

    @property
    def code_size(self) -> int:
        return self.spec.code_size

    @property
    def noise_shape(self) -> tuple[int, int, int]:
        return self.family.noise_shape

    @property
    def batch_size(self) -> int:
        """Halved for good when a batch did not fit into memory."""
        return self._batch_size

    def generate(self, requests: Sequence[FaceRequest]) -> list[Image]:
        """See `FaceGenerator.generate`. Raises ModelError for a request whose shapes do not fit this model."""
        for request in requests:
            self._check(request)
        pictures: list[Image] = []
        while len(pictures) < len(requests):
            batch = requests[len(pictures) : len(pictures) + self._batch_size]
            try:
                pictures += self._paint(_padded(batch, self._batch_size))[: len(batch)]
            except torch.OutOfMemoryError:
                if self._batch_size == 1:
                    raise
                self._batch_size //= 2
                torch.cuda.empty_cache()
        return pictures

    def finish(self, request: FaceRequest, painted: Image, side: int) -> Image:
        """See `FaceGenerator.finish`."""
        return self.family.finish(request, painted, side)

    @property
    def cast(self) -> Sequence[Casting]:
        """See `FaceGenerator.cast`."""
        return self.family.cast

    def _check(self, request: FaceRequest) -> None:
        side = self.spec.size
        expected = ((side, side, 3), (side, side), (self.spec.code_size,), self.noise_shape)
        if (request.background.shape, request.mask.shape, request.code.shape, request.noise.shape) != expected:
            raise ModelError(f"a face request does not fit {self.spec.name}: expected shapes {expected}")

    @torch.inference_mode()
    def _paint(self, batch: Sequence[FaceRequest]) -> list[Image]:
        scene, alphas = self.family.scene(batch), self.family.alphas
        clean = ddim(scene.denoise, scene.start, trailing(self.steps, len(alphas)), alphas)
        return list(as_bytes(self.family.decode(clean)).cpu().numpy())


def _padded(batch: Sequence[FaceRequest], size: int) -> list[FaceRequest]:
    return [*batch, *[batch[-1]] * (size - len(batch))]


def model_folder(model: str) -> Path:
    """Where `model` lies: the embedded one by its name, a model folder, or a fetched model by its hub name `org/name`.

    Raises ModelError, naming what there is.
    """
    folder = EMBEDDED if model == EMBEDDED.name else Path(model)
    if folder.is_dir():
        return folder
    if is_hub_name(model):
        return snapshot(model)
    raise ModelError(f"no model called {model!r}; give {EMBEDDED.name} (embedded), a model folder or a hub name")


def model_spec(model: str) -> ModelSpec:
    """What the folder of `model` says, without loading a network. Raises ModelError."""
    folder = model_folder(model)
    spec = read_spec(folder)
    return replace(spec, name=model) if is_hub_name(model) and folder != Path(model) else spec


def load_generator(model: str, *, device: Device, steps: int | None = None, batch_size: int = 8) -> DiffusionGenerator:
    """A `FaceGenerator` by what `model_folder` takes. Raises ModelError when it is missing, incomplete or unknown."""
    folder, spec = model_folder(model), model_spec(model)
    if device.name == "cpu":
        torch.set_num_threads(device.threads)
    return DiffusionGenerator(FAMILIES[spec.family](spec, folder, device), steps=steps, batch_size=batch_size)
