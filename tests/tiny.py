"""A tiny, untrained model folder of family `inpaint`, the same in every run: real classes, milliseconds."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import DDIMScheduler, UNet2DModel

from revisage.models.conditioning import FACE_TEMPLATE
from revisage.models.identity import IdentityEmbedding

SIZE, PATCH, CODE = 48, 4, 8


def tiny_inpaint(folder: Path, seed: int = 0) -> Path:
    """Write it to `folder`."""
    torch.manual_seed(seed)
    UNet2DModel(
        sample_size=SIZE // PATCH,
        in_channels=10 * PATCH**2,
        out_channels=3 * PATCH**2,
        block_out_channels=(16, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=8,
        norm_num_groups=8,
        class_embed_type="identity",
    ).save_pretrained(folder / "unet")
    IdentityEmbedding(CODE, 64).save_pretrained(folder / "identity")
    DDIMScheduler(beta_schedule="squaredcos_cap_v2", rescale_betas_zero_snr=True).save_pretrained(folder / "scheduler")
    about = {
        "format": 1, "family": "inpaint", "name": "tiny", "licence": "CC0", "size": SIZE, "patch": PATCH,
        "code_size": CODE, "steps": 2, "calm": 4, "proportions": 0.5,
        "template": {"name": "t", "points": [list(p) for p in FACE_TEMPLATE.points]},
    }  # fmt: skip
    (folder / "revisage.json").write_text(json.dumps(about))
    return folder
