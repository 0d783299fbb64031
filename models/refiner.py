"""The last layers of the face generator: what patches cannot paint, pixels across their borders. Knows no key.

The U-Net paints patches of 8 x 8 pixels that know of one another only through its cells, and leaves their borders to
chance. This network sees the painted picture at half the resolution and corrects it; at its start it changes nothing.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

SHRINK = 2  # pixels along the side of its cells


class Refiner(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Painted picture (B, 3, S, S) and what it was painted into (B, C, S, S) -> the picture, corrected."""

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, surroundings: int = 7, width: int = 48) -> None:
        """`surroundings`: C, channels of the picture with the face removed, the mask and the drawing."""
        super().__init__()
        cells = SHRINK**2
        self.inside = nn.Sequential(
            nn.Conv2d((3 + surroundings) * cells, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.SiLU(),
        )
        self.out = nn.Conv2d(width, 3 * cells, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(cast(Tensor, self.out.bias))

    def forward(self, painted: Tensor, surroundings: Tensor) -> Tensor:
        seen = F.pixel_unshuffle(torch.cat([painted, surroundings], dim=1), SHRINK)
        change = F.pixel_shuffle(self.out(self.inside(seen)), SHRINK)
        return painted + change
