"""There and back on networks that can be reasoned about: exact where `back` says so, and said where it is not."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from revisage.models.sampler import TOLERANCE, Route, back, ddim, forth, ladder

ZERO_SNR = DDIMScheduler(beta_schedule="squaredcos_cap_v2", rescale_betas_zero_snr=True).alphas_cumprod
USUAL = DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.0015, beta_end=0.0195).alphas_cumprod


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def everywhere(like: Tensor) -> Route:
    """Latents are the picture."""
    return Route(lambda y: y, lambda x: x, torch.zeros_like(like), torch.zeros_like(like))


def half(like: Tensor) -> Route:
    """Latents are the left half, the right one is known."""
    left = torch.zeros_like(like)
    left[..., : like.shape[-1] // 2] = 1
    return Route(lambda y: y * left, lambda x: x * left, noise(*like.shape, seed=8).tanh() * (1 - left),
                 noise(*like.shape, seed=9) * (1 - left))  # fmt: skip


def curved(alphas: Tensor) -> object:
    """A denoiser with the right scale at every level, and bent: shrinks towards a mean, mixes neighbours."""
    target = noise(1, 3, 16, 16, seed=4) * 0.5

    def denoise(x: Tensor, t: int) -> Tensor:
        alpha = alphas[t].double()
        gain = float(alpha.sqrt() * 0.2 / (alpha * 0.2 + 1 - alpha))
        return target + 0.9 * gain * torch.tanh(x + 0.1 * x.roll(1, -1)) + 0.05 * torch.sin(3 * x.roll(1, -2)) * gain

    return denoise


@pytest.mark.parametrize("alphas", [ZERO_SNR, USUAL], ids=["zero terminal SNR", "usual"])
@pytest.mark.parametrize("route", [everywhere, half])
def test_back_undoes_forth_and_forth_undoes_back(alphas: Tensor, route: object) -> None:
    denoise, steps = curved(alphas), ladder(alphas, 0.2, 12)
    known = route(noise(4, 3, 16, 16))  # type: ignore[operator]
    latent = known.lower(noise(4, 3, 16, 16, seed=1))
    picture = forth(denoise, latent, steps, alphas, known)  # type: ignore[arg-type]
    found, change = back(denoise, picture, steps, alphas, known)  # type: ignore[arg-type]
    assert float(change.max()) <= TOLERANCE
    # twelve fixed points, each within the tolerance; float32 sums on top
    assert float((found - latent).norm() / latent.norm()) < 1e-5
    again = forth(denoise, found, steps, alphas, known)  # type: ignore[arg-type]
    assert float((again - picture).norm() / picture.norm()) < 1e-5


def test_one_round_is_plain_inversion_and_not_enough() -> None:
    denoise, steps = curved(ZERO_SNR), ladder(ZERO_SNR, 0.2, 12)
    known = everywhere(noise(2, 3, 16, 16))
    latent = noise(2, 3, 16, 16, seed=1)
    picture = forth(denoise, latent, steps, ZERO_SNR, known)  # type: ignore[arg-type]
    plain, change = back(denoise, picture, steps, ZERO_SNR, known, rounds=1)  # type: ignore[arg-type]
    assert float((plain - latent).norm() / latent.norm()) > 1e-3
    assert float(change.min()) > TOLERANCE  # and it says so


def test_a_face_without_solution_is_told_from_its_neighbours() -> None:
    """One item's network jumps about; the other's is tame."""
    tame = curved(ZERO_SNR)

    def denoise(x: Tensor, t: int) -> Tensor:
        good = tame(x, t)  # type: ignore[operator]
        return torch.cat([good[:1], torch.sign(torch.sin(1e3 * x[1:]))])

    steps, known = ladder(ZERO_SNR, 0.2, 8), everywhere(noise(2, 3, 16, 16))
    picture = noise(2, 3, 16, 16, seed=3).tanh()
    found, change = back(denoise, picture, steps, ZERO_SNR, known)
    alone, _ = back(tame, picture[:1], steps, ZERO_SNR, everywhere(picture[:1]))  # type: ignore[arg-type]
    assert change[0] <= TOLERANCE < 1e-3 < change[1]
    assert float((found[:1] - alone).norm() / alone.norm()) < 1e-5


def test_not_a_number_is_no_solution() -> None:
    known = everywhere(noise(1, 3, 4, 4))
    _, change = back(lambda x, t: x * torch.nan, noise(1, 3, 4, 4), ladder(ZERO_SNR, 0.2, 4), ZERO_SNR, known, rounds=3)
    assert not bool((change <= 1.0).any())


def test_ladders_are_uniform_in_log_snr() -> None:
    steps = ladder(ZERO_SNR, 0.1, 10)
    ratio = ((1 - ZERO_SNR) / ZERO_SNR).sqrt().log()[torch.tensor(steps[1:])]
    assert steps[0] == 999
    assert steps == sorted(set(steps), reverse=True)
    assert len(steps) == 11
    assert float(ratio.diff().std() / ratio.diff().mean().abs()) < 0.1
    assert float(ratio[-1].exp()) == pytest.approx(0.1, rel=0.05)


def test_forth_is_ddim_but_for_the_last_step() -> None:
    denoise = curved(ZERO_SNR)
    start = noise(2, 3, 16, 16)
    steps = [999, 600, 300, 100]
    ended = forth(denoise, start, steps, ZERO_SNR, everywhere(start))  # type: ignore[arg-type]
    level = ZERO_SNR[100].sqrt()
    torch.testing.assert_close(denoise(ended * level, 100), ddim(denoise, start, steps, ZERO_SNR))  # type: ignore[operator, arg-type]
