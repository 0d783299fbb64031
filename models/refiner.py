"""The last layers of the face generator: patches become a picture, and the person's look is laid over it. Knows no key.

The U-Net paints coarsely, in patches that know of one another only through its cells: light, tone, and whatever a code
does not say. Here that is multiplied by the face that `models/appearance.py` draws, and then corrected at half the
picture's resolution, across the patches' borders. Before any training only the first happens.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

SHRINK = 2  # pixels along the side of its cells
HINTS = 13  # channels of the U-Net's output that it can use as it likes
_STRENGTH = 3  # channels that say how strongly the look is laid over


class Refiner(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """See `forward`."""

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, patch: int = 8, surroundings: int = 7, width: int = 48) -> None:
        """`surroundings`: channels of the picture with the face removed, the mask and the drawing."""
        super().__init__()
        cells = SHRINK**2
        self.inside = nn.Sequential(
            nn.Conv2d((3 + 3 + 3 + surroundings) * cells + HINTS, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.SiLU(),
        )
        self.out = nn.Conv2d(width, 3 * cells, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(cast(Tensor, self.out.bias))

    @staticmethod
    def channels(patch: int) -> int:
        """How many the U-Net must have at its end."""
        return 3 * patch**2 + _STRENGTH + HINTS

    def forward(self, coarse: Tensor, noisy: Tensor, surroundings: Tensor, look: Tensor) -> Tensor:
        """Clean picture (B, 3, S, S) of the U-Net's output (B, channels, S / patch, S / patch) and of what that saw.

        `noisy` and `look` are (B, 3, S, S), the look as `Artist.draw` gives it; `surroundings` (B, C, S, S).
        """
        patch = cast(int, self.config.patch)
        paint, strength, hints = torch.split(coarse, [3 * patch**2, _STRENGTH, HINTS], dim=1)
        strength = F.interpolate(strength, scale_factor=patch, mode="bilinear", align_corners=False)
        # Colours are multiplied, black being -1.
        painted = (F.pixel_shuffle(paint, patch) + 1) * torch.exp(look * (1 + strength)) - 1
        seen = F.pixel_unshuffle(torch.cat([painted, noisy, look, surroundings], dim=1), SHRINK)
        hints = F.interpolate(hints, scale_factor=patch // SHRINK, mode="bilinear", align_corners=False)
        return painted + F.pixel_shuffle(self.out(self.inside(torch.cat([seen, hints], dim=1))), SHRINK)
