"""What latent families share between network and sampler: the noise schedule, and keeping what is outside the mask.

Knows no network and no key.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from revisage.models.folder import scheduler
from revisage.pipeline.errors import ModelError

_KINDS = ("epsilon", "v_prediction", "sample")


@dataclass(frozen=True, slots=True, eq=False)
class Schedule:
    """How noisy each timestep is, and what the network predicts there."""

    alphas: Tensor  # (T,) cumulative products
    predicts: str  # diffusers' `prediction_type`

    @classmethod
    def load(cls, folder: Path) -> Schedule:
        """Of any diffusers scheduler with a beta schedule. Raises ModelError when it cannot be used."""
        loaded = scheduler(DDIMScheduler, folder)
        kind = str(loaded.config.prediction_type)
        if kind not in _KINDS:
            raise ModelError(f"unknown prediction_type {kind!r} in {folder}; known are {', '.join(_KINDS)}")
        if kind == "epsilon" and float(loaded.alphas_cumprod[-1]) == 0:
            raise ModelError(f"{folder}: a network that predicts noise needs a signal at the schedule's end")
        return cls(loaded.alphas_cumprod, kind)

    def clean(self, output: Tensor, x: Tensor, t: int) -> Tensor:
        """The clean sample that the network means by `output` for noisy `x`.

        Ho et al. 2020 (epsilon), Salimans & Ho 2022 (v_prediction).
        """
        signal, sigma = self._level(t)
        if self.predicts == "epsilon":
            return (x - sigma * output) / signal
        return signal * x - sigma * output if self.predicts == "v_prediction" else output

    def start(self, noise: Tensor, background: Tensor, cells: Tensor) -> Tensor:
        """What sampling begins with: noise under the mask, the noisy background elsewhere."""
        signal, sigma = self._level(len(self.alphas) - 1)
        return torch.lerp(signal * background + sigma * noise, noise, cells)

    def _level(self, t: int) -> tuple[float, float]:
        alpha = float(self.alphas[t].double())
        return alpha**0.5, (1 - alpha) ** 0.5


def kept_outside(clean: Tensor, background: Tensor, cells: Tensor) -> Tensor:
    """`clean` where a cell (B, 1, h, w) is to be painted, `background` elsewhere.

    In deterministic DDIM that is the blending of Labarbarie, Itier & Puech (arXiv 2510.01031) with one noise for all
    steps: outside the mask every x_t is alpha_t * background + sigma_t * noise.
    """
    return torch.lerp(background, clean, cells)
