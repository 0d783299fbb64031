"""Model folders: what `revisage.json` says, checked, and the diffusers components beside it. Knows no sampling.

A model folder is an ordinary diffusers folder plus `revisage.json`, which names its family, crop template, size, steps
and licence. A plain diffusers folder of a known kind needs none: `default_about` says what is then taken for granted.
Components are read from safetensors files only, and never from the network.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import torch

from revisage.models import hashes
from revisage.models.conditioning import FACE_TEMPLATE, FFHQ_TEMPLATE
from revisage.models.device import Device
from revisage.pipeline.errors import ModelError
from revisage.pipeline.types import CropTemplate

EMBEDDED = Path(__file__).parent / "weights" / "revisage-face"
CONTROLS = ("drawing", "lines")  # what a ControlNet is shown: our landmark drawing, or white lines on black


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What `revisage.json` says of any model."""

    name: str
    family: str
    licence: str
    size: int  # side of a crop, pixels
    code_size: int
    steps: int
    template: CropTemplate


@dataclass(frozen=True, slots=True)
class InpaintSpec(ModelSpec):
    """Family `inpaint`."""

    patch: int
    calm: int  # side of the cells whose mean the noise loses, pixels; 0: the noise stays as it is


@dataclass(frozen=True, slots=True)
class LatentSpec(ModelSpec):
    """Family `ldm`."""


@dataclass(frozen=True, slots=True)
class PromptedSpec(ModelSpec):
    """Family `sd-inpaint`."""

    prompt: str
    negative_prompt: str
    guidance: float  # of the prompt over the negative one; 1: the negative one is not looked at
    control: str  # one of CONTROLS
    control_scale: float


_KINDS: Mapping[str, type[ModelSpec]] = {"inpaint": InpaintSpec, "ldm": LatentSpec, "sd-inpaint": PromptedSpec}

_TEXT = {"type": "string", "maxLength": 1000}
_COMMON = {
    "format": {"const": 1},
    "family": {"enum": list(_KINDS)},
    "name": {"type": "string", "maxLength": 100},
    "licence": {"type": "string", "maxLength": 100},
    "size": {"type": "integer", "minimum": 16, "maximum": 2048},
    "code_size": {"type": "integer", "minimum": 1, "maximum": 4096},
    "steps": {"type": "integer", "minimum": 1, "maximum": 1000},
    "template": {
        "type": "object",
        "required": ["name", "points"],
        "properties": {
            "name": {"type": "string"},
            "points": {
                "type": "array",
                "minItems": 5,
                "maxItems": 5,
                "items": {"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "number"}},
            },
        },
    },
}
_OWN: Mapping[str, Mapping[str, Any]] = {
    "inpaint": {
        "patch": {"type": "integer", "minimum": 1, "maximum": 64},
        "calm": {"type": "integer", "minimum": 0, "maximum": 256},
    },
    "ldm": {},
    "sd-inpaint": {
        "prompt": _TEXT,
        "negative_prompt": _TEXT,
        "guidance": {"type": "number", "minimum": 1, "maximum": 50},
        "control": {"enum": list(CONTROLS)},
        "control_scale": {"type": "number", "minimum": 0, "maximum": 4},
    },
}


def read_spec(folder: Path) -> ModelSpec:
    """Raises ModelError when `folder` is no model folder of a known family, or embedded weights were changed."""
    hashes.check(folder)
    path = folder / "revisage.json"
    about = default_about(folder) if not path.exists() and (folder / "model_index.json").exists() else _json(path)
    try:
        jsonschema.validate(about, {"type": "object", "required": list(_COMMON), "properties": _COMMON})
        own = _OWN[about["family"]]
        jsonschema.validate(about, {"required": list(own), "properties": own})
    except jsonschema.ValidationError as error:
        raise ModelError(f"{path} is not understood: {error.message}") from error
    template = CropTemplate(about["template"]["name"], tuple((x, y) for x, y in about["template"]["points"]))
    plain = ("name", "family", "licence", "size", "code_size", "steps", *own)
    return _KINDS[about["family"]](template=template, **{key: about[key] for key in plain})


def default_about(folder: Path) -> dict[str, Any]:
    """What `revisage.json` would say of a diffusers folder that has none, by its `model_index.json`.

    `ldm` (an autoencoder and a `UNet2DModel`): crops as FFHQ and CelebA-HQ have them, 20 steps. `sd-inpaint` (an
    autoencoder and a `UNet2DConditionModel` of nine input channels): 20 steps at guidance 7.5, or 4 at 1 where there is
    a folder `lora`. Raises ModelError for anything else.
    """
    parts = {key: value[1] for key, value in _json(folder / "model_index.json").items() if isinstance(value, list)}
    unet = _json(folder / "unet" / "config.json")
    common = {"format": 1, "name": folder.name[:100], "licence": _card_licence(folder), "code_size": 1}
    cells = unet.get("sample_size")
    size = (cells if isinstance(cells, int) else 0) * _shrink(folder, parts)
    if parts.get("unet") == "UNet2DModel":
        return {**common, "family": "ldm", "size": size, "steps": 20, "template": _about_template(FFHQ_TEMPLATE)}
    if parts.get("unet") == "UNet2DConditionModel" and unet.get("in_channels") == 9:
        few = (folder / "lora").is_dir()
        return {
            **common, "family": "sd-inpaint", "size": size, "steps": 4 if few else 20,
            "template": _about_template(FACE_TEMPLATE), "guidance": 1.0 if few else 7.5,
            "prompt": "a photo of the face of a person, natural skin, sharp eyes",
            "negative_prompt": "blurry, deformed, painting, mask, text",
            "control": "drawing", "control_scale": 1.0,
        }  # fmt: skip
    raise ModelError(
        f"{folder.name} is of no known family; known are latent diffusion of faces (VQModel and UNet2DModel) and "
        "Stable Diffusion inpainting (UNet2DConditionModel with 9 input channels)"
    )


def _about_template(template: CropTemplate) -> dict[str, Any]:
    return {"name": template.name, "points": [list(point) for point in template.points]}


def _shrink(folder: Path, parts: Mapping[str, str]) -> int:
    """Pixels per latent cell."""
    name = next((part for part in ("vqvae", "vae") if part in parts), None)
    if name is None:
        raise ModelError(f"{folder.name} has no autoencoder (vqvae or vae)")
    return int(2 ** (len(_json(folder / name / "config.json").get("block_out_channels", [0])) - 1))


def _card_licence(folder: Path) -> str:
    """What the model card's front matter says."""
    try:
        card = (folder / "README.md").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return "not stated"
    found = re.match(r"---\n(?:.*\n)*?licen[cs]e: *['\"]?([\w .-]{1,80})", card)
    return found[1].strip() if found else "not stated"


def _json(path: Path) -> dict[str, Any]:
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"no model in {path.parent}: {path.name} cannot be read ({error})") from error
    except json.JSONDecodeError as error:
        raise ModelError(f"{path} is not understood: {error}") from error
    if not isinstance(about, dict):
        raise ModelError(f"{path} is not understood: no JSON object")
    return about


def network(kind: Any, folder: Path, device: Device) -> Any:
    """A network of class `kind` on `device`, for inference. Raises ModelError when it cannot be read, or lacks weights.

    See `quickened`: do that last, after anything that still changes weights.
    """
    options = {"torch_dtype": device.dtype, "use_safetensors": True, "local_files_only": True}
    model, found = _read(kind, folder, **options, output_loading_info=True)
    if missing := sorted(found["missing_keys"]):  # the libraries make such weights up, and only warn
        raise ModelError(f"{folder} lacks weights of {kind.__name__}: {missing[0]}; take a folder of this version")
    return model.eval().requires_grad_(False).to(device.name, memory_format=torch.channels_last)


def scheduler(kind: Any, folder: Path) -> Any:
    """A noise schedule of class `kind`. Raises ModelError when it cannot be read."""
    return _read(kind, folder)


def _read(kind: Any, folder: Path, **options: Any) -> Any:
    if not folder.is_dir():
        raise ModelError(f"{folder.parent} is incomplete: it has no folder {folder.name}")
    try:
        return kind.from_pretrained(folder, **options)
    except (OSError, ValueError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        raise ModelError(f"cannot load {kind.__name__} from {folder}: {first}") from error
