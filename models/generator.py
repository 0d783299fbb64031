"""Face generators over diffusers models. Owns loading, batching, precision and memory; knows no key and no video.

A model folder is an ordinary diffusers folder plus `revisage.json`, which names its family, crop template, size, patch,
code size, steps and licence. Family `inpaint`: a pixel-space `UNet2DModel` on patches, conditioned on the picture with
the face removed, the mask, a drawing of the landmarks, and an identity code (see `models/train/face.py`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, UNet2DModel
from torch import Tensor

from revisage.models.base import FaceGenerator, FaceRequest
from revisage.models.conditioning import draw_landmarks
from revisage.models.device import Device
from revisage.models.identity import IdentityEmbedding
from revisage.models.sampler import ddim, trailing
from revisage.pipeline.errors import ModelError
from revisage.pipeline.types import CropTemplate, Image

EMBEDDED = Path(__file__).parent / "weights" / "revisage-face"

_ABOUT = {
    "type": "object",
    "required": ["format", "family", "name", "licence", "size", "patch", "code_size", "template", "steps", "calm"],
    "properties": {
        "format": {"const": 1},
        "family": {"enum": ["inpaint"]},
        "name": {"type": "string", "maxLength": 100},
        "licence": {"type": "string", "maxLength": 100},
        "size": {"type": "integer", "minimum": 16, "maximum": 2048},
        "patch": {"type": "integer", "minimum": 1, "maximum": 64},
        "code_size": {"type": "integer", "minimum": 1, "maximum": 4096},
        "steps": {"type": "integer", "minimum": 1, "maximum": 1000},
        "calm": {"type": "integer", "minimum": 0, "maximum": 256},
        "template": {
            "type": "object",
            "required": ["name", "points"],
            "properties": {
                "name": {"type": "string"},
                "points": {
                    "type": "array",
                    "minItems": 5,
                    "maxItems": 5,
                    "items": {"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "number"}},
                },
            },
        },
    },
}


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What `revisage.json` says."""

    name: str
    family: str
    licence: str
    size: int
    patch: int
    code_size: int
    steps: int
    calm: int  # side of the cells whose mean the noise loses, pixels; 0: the noise stays as it is
    template: CropTemplate


def read_spec(folder: Path) -> ModelSpec:
    """Raises ModelError when `folder` is no model folder of a known family."""
    try:
        about = json.loads((folder / "revisage.json").read_text(encoding="utf-8"))
        jsonschema.validate(about, _ABOUT)
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"no model in {folder}: revisage.json cannot be read ({error})") from error
    except (json.JSONDecodeError, jsonschema.ValidationError) as error:
        reason = error.message if isinstance(error, jsonschema.ValidationError) else str(error)
        raise ModelError(f"{folder / 'revisage.json'} is not understood: {reason}") from error
    template = CropTemplate(about["template"]["name"], tuple((x, y) for x, y in about["template"]["points"]))
    plain = {k: about[k] for k in ("name", "family", "licence", "size", "patch", "code_size", "steps", "calm")}
    return ModelSpec(template=template, **plain)


class InpaintGenerator:
    """Family `inpaint`. `batch_size` faces at a time, padded to exactly that, so that every pass has one shape."""

    def __init__(
        self, folder: Path = EMBEDDED, *, device: Device, steps: int | None = None, batch_size: int = 8
    ) -> None:
        """Raises ModelError when the folder is missing, incomplete or of another family."""
        self.spec = read_spec(folder)
        self.steps = steps or self.spec.steps
        self._batch_size = batch_size
        self._device = device
        self._unet: UNet2DModel = _component(UNet2DModel, folder / "unet", device)
        self._identity: IdentityEmbedding = _component(IdentityEmbedding, folder / "identity", device)
        self._alphas = _component(DDIMScheduler, folder / "scheduler", None).alphas_cumprod
        if device.name == "cpu":
            torch.set_num_threads(device.threads)

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

    def _check(self, request: FaceRequest) -> None:
        side = self.spec.size
        expected = ((side, side, 3), (side, side), (self.spec.code_size,), (3, side, side))
        if (request.background.shape, request.mask.shape, request.code.shape, request.noise.shape) != expected:
            raise ModelError(f"a face request does not fit {self.spec.name}: expected shapes {expected}")

    @torch.inference_mode()
    def _paint(self, batch: Sequence[FaceRequest]) -> list[Image]:
        seen, code, noise = self._tensors(batch)
        embedding = self._identity(code)

        def denoise(x: Tensor, t: int) -> Tensor:
            patches = F.pixel_unshuffle(torch.cat([x, seen], dim=1).to(code.dtype), self.spec.patch)
            patches = patches.contiguous(memory_format=torch.channels_last)
            out = self._unet(patches, t, class_labels=embedding).sample
            return F.pixel_shuffle(out, self.spec.patch).float()

        clean = ddim(denoise, calmed(noise, self.spec.calm), trailing(self.steps), self._alphas)
        pixels = ((clean.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        return list(pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy())

    def _tensors(self, batch: Sequence[FaceRequest]) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 7, S, S) float32 of what the network sees, (B, code) in the model's precision, (B, 3, S, S) float32."""
        drawings = [draw_landmarks(r.landmarks, self.spec.size) for r in batch]
        pictures = np.concatenate(
            [np.stack([r.background for r in batch]), np.stack([r.mask for r in batch])[..., None], np.stack(drawings)],
            axis=-1,
        )
        seen = self._send(torch.from_numpy(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
        code = self._send(torch.from_numpy(np.stack([r.code for r in batch]))).to(self._device.dtype)
        noise = self._send(torch.from_numpy(np.stack([r.noise for r in batch])))
        return seen, code, noise

    def _send(self, tensor: Tensor) -> Tensor:
        if not self._device.is_cuda:
            return tensor
        return tensor.pin_memory().to("cuda", non_blocking=True)


def calmed(noise: Tensor, cell: int) -> Tensor:
    """`noise` (B, C, S, S) without its lowest frequencies: the means of `cell` x `cell` pixels, interpolated between.

    They would decide light and tone, which belong to the surroundings; the network paints them as blotches.
    """
    if cell == 0:
        return noise
    means = F.avg_pool2d(noise, cell)
    return noise - F.interpolate(means, scale_factor=cell, mode="bilinear", align_corners=False)


def _padded(batch: Sequence[FaceRequest], size: int) -> list[FaceRequest]:
    return [*batch, *[batch[-1]] * (size - len(batch))]


def _component(kind: Any, folder: Path, device: Device | None) -> Any:
    try:
        if device is None:
            return kind.from_pretrained(folder)
        model = kind.from_pretrained(folder, torch_dtype=device.dtype, use_safetensors=True, local_files_only=True)
        return model.eval().to(device.name, memory_format=torch.channels_last)
    except (OSError, ValueError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        raise ModelError(f"cannot load {kind.__name__} from {folder}: {first}") from error


def load_generator(model: str, *, device: Device, steps: int | None = None, batch_size: int = 8) -> FaceGenerator:
    """The embedded model by its name, or any model folder. Raises ModelError, naming what there is."""
    folder = EMBEDDED if model == EMBEDDED.name else Path(model)
    if not folder.is_dir():
        raise ModelError(f"no model called {model!r}; give {EMBEDDED.name} (embedded) or a model folder")
    return InpaintGenerator(folder, device=device, steps=steps, batch_size=batch_size)
