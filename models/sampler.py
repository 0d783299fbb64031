"""Deterministic DDIM in the notation of Song, Meng & Ermon, *Denoising Diffusion Implicit Models* (2021), eta = 0.

The network is a function `denoise(x, t) -> predicted clean picture`; noise is an argument. Knows no model class or key.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Denoise = Callable[[Tensor, int], Tensor]


def trailing(steps: int, train_steps: int = 1000) -> list[int]:
    """Timesteps from the very end of the schedule down (Lin et al. 2023, section 3.3)."""
    return [round(train_steps * (steps - i) / steps) - 1 for i in range(steps)]


def ddim(denoise: Denoise, noise: Tensor, timesteps: Sequence[int], alphas: Tensor) -> Tensor:
    """Clean picture from `noise` (B, C, H, W), equation 12. `alphas` are the schedule's cumulative products.

    The last step returns the network's own prediction: nothing is left to be removed after it.
    """
    x = noise
    for t, following in zip(timesteps, [*timesteps[1:], None], strict=True):
        clean = denoise(x, t)
        if following is None:
            return clean
        signal, sigma = _coefficients(alphas, t, x)
        next_signal, next_sigma = _coefficients(alphas, following, x)
        x = next_signal * clean + next_sigma * (x - signal * clean) / sigma
    return x


def _coefficients(alphas: Tensor, t: int, like: Tensor) -> tuple[Tensor, Tensor]:
    alpha = alphas[t].to(device=like.device, dtype=torch.float64)
    return alpha.sqrt().to(like.dtype), (1 - alpha).sqrt().to(like.dtype)
