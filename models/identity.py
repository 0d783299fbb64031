"""The identity code's way into the network: 32 to 64 standard-normal numbers -> class embedding. Knows no key.

A code drawn from N(0, I) is a person. In training the code comes from `IdentityEncoder`, which sees another view of the
face; the KL term keeps its codes near N(0, I), so that a drawn code is one the network has seen.
"""

from __future__ import annotations

from itertools import pairwise
from typing import cast

from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn


class IdentityEmbedding(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Code (B, code_size) -> class embedding (B, embedding_size) for `UNet2DModel(class_embed_type="identity")`."""

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, code_size: int = 64, embedding_size: int = 512) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(code_size, embedding_size), nn.SiLU(), nn.Linear(embedding_size, embedding_size)
        )

    def forward(self, code: Tensor) -> Tensor:
        return cast(Tensor, self.layers(code))


class IdentityEncoder(nn.Module):
    """Training only: a picture of the face, (B, 3, 64, 64) in -1..1, -> mean and log-variance of its code (B, size)."""

    def __init__(self, code_size: int = 64) -> None:
        super().__init__()
        widths = (3, 32, 64, 128, 192)
        stages: list[nn.Module] = []
        for narrow, wide in pairwise(widths):
            stages += [nn.Conv2d(narrow, wide, 4, stride=2, padding=1), nn.GroupNorm(8, wide), nn.SiLU()]
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(widths[-1] * 16, 2 * code_size)

    def forward(self, face: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.head(self.stages(face).flatten(1)).chunk(2, dim=1)
        return mean, log_variance.clamp(-8, 4)
