"""The exact way between pixels and latents for pixel-space models: what `--carry` does. Knows no key and no video.

    picture ─► canvas ─► back ─► latent            latent ─► forth ─► canvas ─► picture

The crop around the face, its noise, the landmarks and the code are the same both times, so the two undo one another;
see `models/carrier.py` for the canvas and `models/sampler.py` for both ways.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from revisage.models.base import CarryRequest, Descent, FaceGenerator, Inverted
from revisage.models.carrier import Carrier, cornered
from revisage.models.device import Device
from revisage.models.family import Family, Scene, stacked
from revisage.models.generator import load_generator, model_folder
from revisage.models.sampler import ROUNDS, TOLERANCE, Route, back, forth, ladder
from revisage.pipeline.errors import ModelError
from revisage.pipeline.types import Float


class PixelCarrier:
    """A `FaceCarrier`. `batch_size` faces at a time; a face is not changed by its neighbours."""

    def __init__(self, family: Family, device: Device, batch_size: int = 8) -> None:
        """Raises ModelError for a family that paints elsewhere than in pixels, or a device of less than float32.

        What a decoder makes of a latent is rounded and cannot be undone; neither can half precision.
        """
        if family.noise_shape != (3, family.spec.size, family.spec.size):
            raise ModelError(f"{family.spec.name} paints in a latent space, which pixels cannot carry exactly; "
                             "leave --carry away, or choose a model of the family inpaint")  # fmt: skip
        if device.dtype != torch.float32:
            raise ModelError(f"--carry needs float32, and {family.spec.name} was loaded in {device.dtype}")
        self._family, self._device, self._batch_size = family, device, batch_size

    @property
    def size(self) -> int:
        """See `FaceCarrier.size`."""
        return self._family.spec.size

    @torch.inference_mode()
    def invert(
        self,
        requests: Sequence[CarryRequest],
        pictures: Sequence[Float],
        descent: Descent,
        tolerance: float = TOLERANCE,
    ) -> list[Inverted]:
        """See `FaceCarrier.invert`. Raises ModelError for a request that does not fit this model."""
        found: dict[int, Inverted] = {}
        for chosen in self._batches(requests):
            batch = [requests[i] for i in chosen]
            scene, carrier, route = self._prepared(batch)
            own = [np.where(requests[i].tile.mask, pictures[i], np.float32(0)) for i in chosen]
            start = carrier.pack(stacked(cornered(own, self.size), self._device))
            steps = self._ladder(descent)
            rounds = 0 if tolerance == math.inf else ROUNDS
            latents, changes = back(
                scene.denoise, start, steps, self._family.alphas, route, rounds=rounds, tolerance=tolerance
            )
            noise = carrier.lower(scene.start)
            arrays = (_cut(canvas, batch) for canvas in (latents, noise, carrier.masks))
            results = [Inverted(*row) for row in zip(*arrays, changes.tolist(), strict=True)]
            found.update(zip(chosen, results, strict=True))
        return [found[i] for i in range(len(requests))]

    @torch.inference_mode()
    def regrow(self, requests: Sequence[CarryRequest], latents: Sequence[Float], descent: Descent) -> list[Float]:
        """See `FaceCarrier.regrow`."""
        grown: dict[int, Float] = {}
        for chosen in self._batches(requests):
            batch = [requests[i] for i in chosen]
            scene, carrier, route = self._prepared(batch)
            start = stacked(cornered([latents[i] for i in chosen], self.size), self._device) * carrier.masks
            canvas = forth(scene.denoise, start, self._ladder(descent), self._family.alphas, route)
            grown.update(zip(chosen, _cut(carrier.unpack(canvas), batch), strict=True))
        return [grown[i] for i in range(len(requests))]

    def _batches(self, requests: Sequence[CarryRequest]) -> Iterator[Sequence[int]]:
        """Places in `requests`, together where tiles have the same blocks."""
        for block in dict.fromkeys(request.tile.block for request in requests):
            alike = [i for i, request in enumerate(requests) if request.tile.block == block]
            for first in range(0, len(alike), self._batch_size):
                yield alike[first : first + self._batch_size]

    def _prepared(self, batch: Sequence[CarryRequest]) -> tuple[Scene, Carrier, Route]:
        spec = self._family.spec
        if any(r.face.code.shape != (spec.code_size,) or r.tile.side > spec.size for r in batch):
            raise ModelError(f"a face does not fit {spec.name}: it was made for another model")
        scene = self._family.scene([request.face for request in batch])
        carrier = Carrier.of([request.tile for request in batch], self.size, self._device)
        around = stacked(cornered([request.tile.surroundings for request in batch], self.size), self._device)
        return scene, carrier, carrier.route(around, scene.start)

    def _ladder(self, descent: Descent) -> list[int]:
        return ladder(self._family.alphas, descent.sigma, descent.steps)


def load_carrier(model: str, *, device: Device, batch_size: int = 8) -> tuple[FaceGenerator, PixelCarrier, str]:
    """A model by name or folder, what it can carry with, and its `fingerprint`. Computes in float32 on every device.

    Raises ModelError, also where `PixelCarrier` does.
    """
    exact = device.exact
    generator = load_generator(model, device=exact, batch_size=batch_size)
    return generator, PixelCarrier(generator.family, exact, batch_size), fingerprint(model_folder(model))


def _cut(canvases: Tensor, batch: Sequence[CarryRequest]) -> list[Float]:
    """Each canvas as large as its tile."""
    pictures = canvases.float().cpu().numpy()
    sides = (request.tile.side for request in batch)
    return [np.ascontiguousarray(p[:, :side, :side]) for p, side in zip(pictures, sides, strict=True)]


def fingerprint(folder: Path) -> str:
    """64 hex digits that tell one model's weights and configuration from all others': only the same undo one another.

    Raises ModelError where they cannot be read.
    """
    whole = hashlib.sha256()
    try:
        for path in sorted(p for p in folder.rglob("*") if p.suffix in (".safetensors", ".json")):
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            whole.update(f"{path.relative_to(folder).as_posix()} {digest}\n".encode())
    except OSError as error:
        raise ModelError(f"cannot read the model in {folder}: {error.strerror or error}") from error
    return whole.hexdigest()
