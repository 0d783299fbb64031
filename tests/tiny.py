"""A tiny, untrained model folder of family `inpaint`, the same in every run: real classes, milliseconds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DModel
from scipy.spatial import Delaunay

from revisage.models import layout
from revisage.models.appearance import SIDE, Appearance
from revisage.models.conditioning import FACE_TEMPLATE, standard_landmarks
from revisage.models.expression import expression
from revisage.models.refiner import Refiner

SIZE, PATCH, CODE = 48, 4, 8


def tiny_inpaint(folder: Path, seed: int = 0) -> Path:
    """Write it to `folder`."""
    torch.manual_seed(seed)
    UNet2DModel(
        sample_size=SIZE // PATCH,
        in_channels=13 * PATCH**2,
        out_channels=Refiner.channels(PATCH),
        block_out_channels=(16, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=8,
        norm_num_groups=8,
    ).save_pretrained(folder / "unet")
    refiner = Refiner(PATCH, width=8)
    torch.nn.init.normal_(refiner.out.weight, std=0.01)
    refiner.save_pretrained(folder / "refiner")
    appearance().save_pretrained(folder / "appearance")
    DDIMScheduler(beta_schedule="squaredcos_cap_v2", rescale_betas_zero_snr=True).save_pretrained(folder / "scheduler")
    about = {
        "format": 1, "family": "inpaint", "name": "tiny", "licence": "CC0", "size": SIZE, "patch": PATCH,
        "code_size": CODE, "steps": 2, "calm": 4, "proportions": 0.5,
        "template": {"name": "t", "points": [list(p) for p in FACE_TEMPLATE.points]},
    }  # fmt: skip
    (folder / "revisage.json").write_text(json.dumps(about))
    return folder


def appearance(seed: int = 0) -> Appearance:
    """Any codes make spots of some colours, in an average face."""
    rng = np.random.default_rng(seed)
    five = (np.asarray(FACE_TEMPLATE.points, np.float32) - 0.5) * (1.5 * SIDE) + SIDE / 2
    shape = standard_landmarks(five)
    triangles = Delaunay(shape[: layout.EYE_CENTRES.start]).simplices.astype(np.int32)
    rows, columns = np.mgrid[20:100:2, 30:98:2]
    pixels = (rows * SIDE + columns).reshape(-1).astype(np.int32)
    mean, basis = rng.normal(0, 0.1, (len(pixels), 3)), rng.normal(0, 0.1, (CODE, len(pixels), 3))
    usual = np.stack([expression(shape), (0.2, 0.1, 0.02)])
    parts = (mean, basis, rng.normal(0, 1, (12, CODE)), usual, rng.normal(0, 0.1, (3, len(pixels), 3)))
    return Appearance.of(shape, triangles, pixels, *(np.asarray(part, np.float32) for part in parts))
