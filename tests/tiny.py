"""A tiny, untrained model folder of family `inpaint`, the same in every run: real classes, milliseconds."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DModel
from safetensors.numpy import save_file

from revisage.models import layout, tone
from revisage.models.cast import ARRAYS, CONFIG, VERTICES
from revisage.models.conditioning import FACE_TEMPLATE, standard_landmarks
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
    tiny_cast(folder / "cast")
    DDIMScheduler(beta_schedule="squaredcos_cap_v2", rescale_betas_zero_snr=True).save_pretrained(folder / "scheduler")
    about = {
        "format": 1, "family": "inpaint", "name": "tiny", "licence": "CC0", "size": SIZE, "patch": PATCH,
        "code_size": CODE, "steps": 2, "calm": 4,
        "template": {"name": "t", "points": [list(p) for p in FACE_TEMPLATE.points]},
    }  # fmt: skip
    (folder / "revisage.json").write_text(json.dumps(about))
    return folder


def tiny_cast(folder: Path, count: int = 6, size: int = 192) -> Path:
    """Write faces of some colours, of average shape, and a mouth to `folder`."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    five = np.asarray(FACE_TEMPLATE.points, np.float32) * size - 0.5
    landmarks = standard_landmarks(five)
    mesh = np.zeros((VERTICES, 3), np.float32)
    mesh[list(layout.MESH_VERTICES), :2] = landmarks[: layout.EYE_CENTRES.start]
    mesh[list(layout.SURFACE_VERTICES), :2] = landmarks[layout.SURFACE]
    offsets = np.array([[0, 0], [2, 0], [0, -2], [-2, 0], [0, 2]], np.float32)
    iris = landmarks[layout.EYE_CENTRES][:, None] + offsets
    arrays, actors, tones = {}, [], []
    for i in range(count):
        skin = np.array([90, 60, 45]) + 18 * i
        picture = np.clip(skin + rng.normal(0, 12, (size // 8, size // 8, 3)), 0, 255).astype(np.uint8)
        picture = cv2.resize(picture, (size, size), interpolation=cv2.INTER_CUBIC)
        for x, y in landmarks[layout.EYE_CENTRES]:
            cv2.circle(picture, (round(x), round(y)), 2, (20, 20, 20), -1)
        arrays[f"texture.actor-{i}"] = cv2.imencode(".jpg", picture[..., ::-1])[1].reshape(-1)
        light = tone.linear(np.full((1, 1, 3), skin, np.uint8))[0, 0]
        tones.append(np.stack([light, tone.lab(light)]))
        sex, age = ("female", "male")[i % 2], 20 + 12 * i
        actors.append({"name": f"actor-{i}", "sex": sex, "age": age, "has_teeth": False, "mouth_opening": 0.0})
    lips = (
        landmarks[layout.LIPS_OUTER.start : layout.LIPS_INNER.stop] - landmarks[layout.LIPS_INNER].mean(0)
    ) * 1.5 + 48
    lips[20:, 1] += np.where(np.arange(20) < 10, 6, -6)
    arrays["mouth.mouth-0"] = cv2.imencode(".jpg", np.full((96, 96, 3), 210, np.uint8))[1].reshape(-1)
    arrays |= {
        "mesh": np.stack([mesh] * count), "iris": np.stack([iris] * count), "tone": np.stack(tones),
        "mouth.lips": lips[None], "mouth.colours": np.full((1, 2, 3), 0.5),
    }  # fmt: skip
    whole = ("mesh", "iris", "tone", "mouth.lips", "mouth.colours")
    save_file({k: v.astype(np.float32) if k in whole else v for k, v in arrays.items()}, folder / ARRAYS)
    mouths = [{"name": "mouth-0", "opening": 0.2, "width": 0.8, "interocular": 63.0}]
    about = {"format": 1, "template": FACE_TEMPLATE.name, "size": size, "actors": actors, "mouths": mouths}
    (folder / CONFIG).write_text(json.dumps(about))
    return folder
