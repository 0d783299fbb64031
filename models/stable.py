"""Family `sd-inpaint`: a Stable-Diffusion-class inpainting UNet, an optional ControlNet, an optional few-step LoRA.

The folder is an ordinary diffusers pipeline folder. Beside the usual parts it may have `controlnet/` (shown a drawing
of the landmarks, so that pose and expression follow the film) and `lora/` (fused into the UNet while loading). The
prompt is the same for every face, so its embeddings are computed once: `models/prompt.py`. The track's noise decides
the person. Knows no key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from torch import Tensor

from revisage.models.base import FaceRequest
from revisage.models.conditioning import draw_landmarks, draw_lines
from revisage.models.device import Device
from revisage.models.family import stacked
from revisage.models.folder import PromptedSpec, network
from revisage.models.latent_family import LatentFamily
from revisage.models.lora import fuse
from revisage.models.prompt import prompt_embeddings
from revisage.models.quick import quickened
from revisage.models.sampler import Denoise

_DRAW = {"drawing": draw_landmarks, "lines": draw_lines}


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """What the networks see of a batch besides noise; twice over where there is guidance."""

    beside: Tensor  # (B, 5, h, w): mask and masked picture, as the inpainting UNet takes them
    prompt: Tensor  # (B, words, width)
    control: Tensor | None  # (B, 3, S, S) in 0..1


class StableInpaint(LatentFamily):
    """See `Family`. Samples are latents of the autoencoder."""

    def __init__(self, spec: PromptedSpec, folder: Path, device: Device) -> None:
        """Raises ModelError when the folder is incomplete, or needs a library that is not installed."""
        super().__init__(spec.size, folder, device)
        self.spec = spec
        self._unet = _unet(folder, device)
        self._control = _controlnet(folder, device)
        self._words = prompt_embeddings(folder, (spec.prompt, spec.negative_prompt)).to(device.name, device.dtype)

    def _output(self, batch: Sequence[FaceRequest], background: Tensor, cells: Tensor) -> Denoise:
        seen = self._seen(batch, torch.cat([cells, background], dim=1))
        return lambda x, t: self._guided(x, t, seen)

    @property
    def _passes(self) -> int:
        """Through the UNet in a step: with guidance one for the prompt and one for the negative prompt."""
        return 2 if self.spec.guidance > 1 else 1

    def _seen(self, batch: Sequence[FaceRequest], beside: Tensor) -> _Seen:
        passes, kind = self._passes, self._device.dtype
        words = self._words[:passes].repeat_interleave(len(batch), dim=0)
        return _Seen(beside.to(kind).repeat(passes, 1, 1, 1), words, self._drawn(batch))

    def _drawn(self, batch: Sequence[FaceRequest]) -> Tensor | None:
        if self._control is None:
            return None
        draw = _DRAW[self.spec.control]
        drawings = stacked([draw(r.landmarks, self.spec.size) for r in batch], self._device)
        pictures = drawings.permute(0, 3, 1, 2).to(self._device.dtype) / 255
        return pictures.repeat(self._passes, 1, 1, 1)

    def _guided(self, x: Tensor, t: int, seen: _Seen) -> Tensor:
        """The network's output, float32. Guidance: Ho & Salimans, *Classifier-Free Diffusion Guidance* (2022)."""
        noisy = x.to(self._device.dtype).repeat(self._passes, 1, 1, 1)
        when = torch.tensor(t, device=x.device)
        helped = self._helped(noisy, when, seen)
        out = self._unet(torch.cat([noisy, seen.beside], dim=1), when, encoder_hidden_states=seen.prompt, **helped)
        if self._passes == 1:
            return out.sample.float()  # type: ignore[no-any-return]
        wanted, unwanted = out.sample.float().chunk(2)
        return unwanted + self.spec.guidance * (wanted - unwanted)  # type: ignore[no-any-return]

    def _helped(self, noisy: Tensor, when: Tensor, seen: _Seen) -> dict[str, Any]:
        if self._control is None or seen.control is None:
            return {}
        down, middle = self._control(
            noisy,
            when,
            encoder_hidden_states=seen.prompt,
            controlnet_cond=seen.control,
            conditioning_scale=self.spec.control_scale,
            return_dict=False,
        )
        return {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}


def _controlnet(folder: Path, device: Device) -> ControlNetModel | None:
    if not (folder / "controlnet").is_dir():
        return None
    return quickened(network(ControlNetModel, folder / "controlnet", device), device)


def _unet(folder: Path, device: Device) -> UNet2DConditionModel:
    """Few-step LoRAs are fused in before anything else is done to the weights."""
    unet: UNet2DConditionModel = network(UNet2DConditionModel, folder / "unet", device)
    if (folder / "lora").is_dir():
        fuse(unet, folder / "lora")
    return quickened(unet, device)
