"""What tells a painted face from a photographed one in training: a critic that learns, landmark features that do not.

`Critic` is a conditional patch discriminator (Isola et al., *Image-to-Image Translation with Conditional Adversarial
Networks*, 2017) with spectral normalization and the hinge loss (Miyato et al. 2018), which sees augmented pictures only
(Zhao et al., *Differentiable Augmentation for Data-Efficient GAN Training*, 2020): two thousand portraits are few.
Most of its verdicts come from heads on the frozen maps of a network that knows faces (Sauer et al., *Projected GANs
Converge Faster*, 2021): on its own it learnt so slowly that it took masks for faces.
`FaceFeatures` compares two pictures by the embedded landmark network: where eyes, lids and lips are, and the maps it
finds them by. Neither is exported. Knows no generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from revisage.models import landmarks

PROJECTED = (64, 128, 256, 512)  # channels of the frozen maps
VERDICTS = 2 + len(PROJECTED)
SHIFT = 8  # pixels a picture of 128 x 128 is moved before the critic sees it, at most


class Critic(nn.Module):
    """(B, 7, S, S): picture, landmark drawing, mask; and the picture's frozen maps -> its own maps of every stage, then
    `VERDICTS` verdicts; higher means photographed.

    One verdict on patches of about a third of the face, one on the whole face, one on each of the frozen maps.
    """

    def __init__(self, widths: tuple[int, ...] = (32, 64, 128, 256)) -> None:
        super().__init__()
        stages = [
            nn.Sequential(spectral_norm(nn.Conv2d(narrow, wide, 4, stride=2, padding=1)), nn.LeakyReLU(0.2))
            for narrow, wide in pairwise((7, *widths))
        ]
        self.stages = nn.ModuleList(stages)
        self.patch = spectral_norm(nn.Conv2d(widths[-2], 1, 3, padding=1))
        self.whole = spectral_norm(nn.Conv2d(widths[-1], 1, 8))
        self.heads = nn.ModuleList([_head(channels) for channels in PROJECTED])

    def forward(self, seen: Tensor, frozen: Sequence[Tensor]) -> list[Tensor]:
        maps: list[Tensor] = []
        for stage in self.stages:
            seen = stage(seen)
            maps.append(seen)
        projected = [head(stage) for head, stage in zip(self.heads, frozen, strict=True)]
        return [*maps, self.patch(maps[-2]), self.whole(maps[-1]), *projected]


def _head(channels: int, width: int = 64) -> nn.Sequential:
    return nn.Sequential(
        spectral_norm(nn.Conv2d(channels, width, 1)),
        nn.LeakyReLU(0.2),
        spectral_norm(nn.Conv2d(width, width, 3, padding=1)),
        nn.LeakyReLU(0.2),
        nn.Conv2d(width, 1, 3, padding=1),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Augmentation:
    """One random shift, light and contrast for each row of a batch; the same for a painted row and its original."""

    light: Tensor  # (B, 1, 1, 1)
    contrast: Tensor  # (B, 1, 1, 1)
    corners: list[list[int]]
    shift: int  # at most, pixels

    @classmethod
    def draw(cls, count: int, shift: int = SHIFT) -> Augmentation:
        light, contrast = torch.rand(count, 1, 1, 1) * 0.4 - 0.2, torch.rand(count, 1, 1, 1) * 0.2 + 0.9
        return cls(light, contrast, torch.randint(0, 2 * shift + 1, (count, 2)).tolist(), shift)

    def apply(self, seen: Tensor) -> Tensor:
        """`seen` (up to B, 7, S, S): its first three channels, the picture, relit, and all of it shifted."""
        count, size = len(seen), seen.shape[-1]
        picture = seen[:, :3]
        mean = picture.mean((1, 2, 3), keepdim=True)
        picture = (picture - mean) * self.contrast[:count] + mean + self.light[:count]
        moved = F.pad(torch.cat([picture, seen[:, 3:]], dim=1), (self.shift,) * 4, mode="replicate")
        rows = zip(moved, self.corners, strict=False)
        return torch.stack([row[:, y : y + size, x : x + size] for row, (y, x) in rows])


def verdict_loss(real: list[Tensor], painted: list[Tensor]) -> Tensor:
    """Hinge loss of the critic."""
    pairs = zip(real[-VERDICTS:], painted[-VERDICTS:], strict=True)
    losses = [F.relu(1 - r).mean() + F.relu(1 + p).mean() for r, p in pairs]
    return cast(Tensor, sum(losses)) / len(losses)


def realism(painted: list[Tensor]) -> Tensor:
    """Hinge loss of the painter."""
    return -cast(Tensor, sum(verdict.mean() for verdict in painted[-VERDICTS:])) / VERDICTS


class FaceFeatures(nn.Module):
    """The embedded landmark network, frozen. Pictures are (B, 3, S, S) in -1..1."""

    def __init__(self) -> None:
        super().__init__()
        self.net = landmarks.load_net(landmarks.WEIGHTS).fuse().requires_grad_(False)

    def forward(self, pictures: Tensor, grid: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Contours (B, CONTOURS, 2) in sides of the landmark crop that `grid` (B, 112, 112, 2) cuts out; the maps."""
        crops = F.grid_sample(pictures, grid, mode="bilinear", padding_mode="border", align_corners=False)
        mean, spread = crops.mean((1, 2, 3), keepdim=True), crops.std((1, 2, 3), keepdim=True)
        x = (crops - mean) / (spread + landmarks.SPREAD_FLOOR / 127.5)
        maps: list[Tensor] = []
        for layer in self.net.features:
            x = layer(x)
            if x.dim() == 4:
                maps.append(x)
        points, _ = self.net.answer(maps[landmarks.MAP_AT - 1], x)
        return points[:, : landmarks.CONTOURS], maps


def likeness(real: list[Tensor], painted: list[Tensor]) -> Tensor:
    """Mean absolute difference of two lists of maps, each relative to the size of the real one.

    Of the critic's maps it is the feature matching of Wang et al., *pix2pixHD*, 2018, section 3.2.
    """
    pairs = zip(real, painted, strict=True)
    losses = [(p - r.detach()).abs().mean() / (r.detach().abs().mean() + 1e-3) for r, p in pairs]
    return cast(Tensor, sum(losses)) / len(losses)
