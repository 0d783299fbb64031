"""The identity code's way into the network: 32 to 64 standard-normal numbers -> class embedding. Knows no key.

A code drawn from N(0, I) is a person: training gives each portrait a code whose numbers are standard normal over all
portraits (`models/train/recognizer.py`), and has a recognizer read the code back from the painted face.
"""

from __future__ import annotations

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
