"""Deterministic DDIM in the notation of Song, Meng & Ermon, *Denoising Diffusion Implicit Models* (2021), eta = 0.

The network is a function `denoise(x, t) -> predicted clean picture`; noise is an argument. Knows no model class or key.

`ddim` paints from noise. `forth` and `back` do and undo a part of it exactly: they move numbers y (the *latent*) that a
`Route` embeds into the network's picture, and everything else of that picture is known to both directions,

    x_t = lift(y_t) + alpha_t * signal + sigma_t * noise,

so that neither needs what the other saw. A step of `back` solves the step of `forth` for its start, a fixed point:
Anderson's acceleration (J. ACM 12(4), 1965; type II, as in Walker & Ni, SIAM J. Numer. Anal. 49(4), 2011) finds it in
a few rounds where plain DDIM inversion takes one and is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

Denoise = Callable[[Tensor, int], Tensor]

NOISIEST = 20.0  # noise over signal after the first step of a ladder
ROUNDS = 40  # of the fixed point, at most
TOLERANCE = 1e-6  # relative change at which it has been found: what float32 allows
_MEMORY = 3  # differences that Anderson's acceleration looks back at
_DAMPING = 1e-8  # of its least squares, relative


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
        (signal, sigma), (next_signal, next_sigma) = _level(alphas, t), _level(alphas, following)
        x = next_signal * clean + next_sigma * (x - signal * clean) / sigma
    return x


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """How latents lie in the network's picture, and what both directions know of the rest of it."""

    lift: Callable[[Tensor], Tensor]  # (B, *latent) -> (B, C, H, W); linear, keeps lengths
    lower: Callable[[Tensor], Tensor]  # its adjoint, which undoes it
    signal: Tensor  # (B, C, H, W), clean; nothing of it in the range of `lift`
    noise: Tensor  # (B, C, H, W), standard normal; the same

    def predict(self, denoise: Denoise, y: Tensor, t: int, alphas: Tensor) -> Tensor:
        """The network's clean latent for latent `y` at timestep `t`."""
        signal, sigma = _level(alphas, t)
        return self.lower(denoise(self.lift(y) + signal * self.signal + sigma * self.noise, t))


def ladder(alphas: Tensor, sigma: float, steps: int) -> list[int]:
    """`steps` + 1 timesteps from the schedule's end to where noise over signal is `sigma`, uniform in log-SNR.

    Fewer where the schedule has no two timesteps so close.
    """
    ratio = ((1 - alphas.double()) / alphas.double().clamp(min=1e-12)).sqrt().log()
    wanted = torch.linspace(float(torch.tensor(NOISIEST).log()), float(torch.tensor(sigma).log()), steps)
    nearest = (ratio[:, None] - wanted[None]).abs().argmin(0).tolist()
    last = len(alphas) - 1
    return [last, *sorted({t for t in nearest if t < last}, reverse=True)]


def forth(denoise: Denoise, latent: Tensor, timesteps: Sequence[int], alphas: Tensor, route: Route) -> Tensor:
    """The picture, in the latent's coordinates, that `latent` (B, …) grows into on the way down `timesteps`."""
    y = latent
    for t, following in pairwise(timesteps):
        (signal, sigma), (next_signal, next_sigma) = _level(alphas, t), _level(alphas, following)
        clean = route.predict(denoise, y, t, alphas)
        y = next_signal * clean + next_sigma * (y - signal * clean) / sigma
    return y / _level(alphas, timesteps[-1])[0]


def back(
    denoise: Denoise,
    picture: Tensor,
    timesteps: Sequence[int],
    alphas: Tensor,
    route: Route,
    *,
    rounds: int = ROUNDS,
    tolerance: float = TOLERANCE,
) -> tuple[Tensor, Tensor]:
    """The latent (B, …) that `forth` turns into `picture`, and per item how far from it: the largest relative change
    (B,) that one more round would have made in any step. Items do not influence one another.

    Ends a step after `rounds`, or when no item changes by more than `tolerance`, relative. No round at all is plain
    DDIM inversion: inexact, one pass a step, and nothing is known of the change.
    """
    y = picture * _level(alphas, timesteps[-1])[0]
    worst = torch.zeros(len(y), dtype=torch.float64, device=y.device)
    for following, t in pairwise(reversed(timesteps)):
        (signal, sigma), (next_signal, next_sigma) = _level(alphas, t), _level(alphas, following)
        ratio, end = sigma / next_sigma, y

        def undone(guess: Tensor, at: int, ratio: float = ratio, end: Tensor = end) -> Tensor:
            clean = route.predict(denoise, guess, at, alphas)
            return ratio * end + (signal - ratio * next_signal) * clean  # noqa: B023 - used within this turn only

        start = undone(end, following)
        y, change = _fixed_point(lambda guess: undone(guess, t), start, rounds, tolerance)  # noqa: B023
        worst = torch.maximum(worst, change)
    return y, worst


def _fixed_point(
    step: Callable[[Tensor], Tensor], start: Tensor, rounds: int, tolerance: float
) -> tuple[Tensor, Tensor]:
    """x = step(x), and the relative change (B,) that was left."""
    guess = start
    points: list[Tensor] = []
    changes: list[Tensor] = []
    relative = torch.full((len(start),), torch.inf, dtype=torch.float64, device=start.device)
    for _ in range(rounds):
        reached = step(guess)
        change = reached - guess
        relative = change.flatten(1).norm(dim=1).double() / reached.flatten(1).norm(dim=1).clamp(min=1e-12).double()
        if bool((relative <= tolerance).all()):
            return reached, relative
        points, changes = [*points[-_MEMORY:], reached], [*changes[-_MEMORY:], change]
        guess = reached - _accelerated(points, changes) if len(points) > 1 else reached
    return guess, relative


def _accelerated(points: Sequence[Tensor], changes: Sequence[Tensor]) -> Tensor:
    """What to take off the last point so that the changes so far, combined the same way, come nearest to none."""
    steps, bends = (torch.stack([b - a for a, b in pairwise(seen)]).flatten(2) for seen in (points, changes))
    steps, bends = steps.transpose(0, 1).double(), bends.transpose(0, 1).double()  # (B, differences, numbers)
    gram = (bends @ bends.transpose(1, 2)).nan_to_num()  # an item that ran away must not stop the others
    scale = torch.diagonal(gram, dim1=1, dim2=2).mean(1).clamp(min=1e-30)
    eye = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    right = (bends @ changes[-1].flatten(1).double()[..., None]).nan_to_num()
    weights = torch.linalg.solve(gram + _DAMPING * scale[:, None, None] * eye, right)
    taken: Tensor = (weights.transpose(1, 2) @ steps)[:, 0]
    return taken.to(points[-1].dtype).view_as(points[-1])


def _level(alphas: Tensor, t: int) -> tuple[float, float]:
    """Factors of signal and noise at timestep `t`."""
    alpha = float(alphas[t].double())
    return alpha**0.5, (1 - alpha) ** 0.5
