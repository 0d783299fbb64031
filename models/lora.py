"""Low-rank adapters, fused into a network's weights while it loads. Knows no family; needs no library for it.

Hu et al., *LoRA: Low-Rank Adaptation of Large Language Models* (2021): a layer's weight becomes

    W + (alpha / rank) up down

Read are the two ways in which adapters for UNets are published: diffusers' (`….lora_A.weight`, `….lora_B.weight`, and
the older `….lora.down.weight`, `….lora.up.weight`, with or without `unet.` before) and kohya's (`lora_unet_…` with
underscores for dots, `.lora_down.weight`, `.lora_up.weight`, `.alpha`), which LCM-LoRA is in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from revisage.pipeline.errors import ModelError

_KEY = re.compile(r"(?:unet\.|lora_unet_)?(.+?)\.(?:lora[._])?(A|B|down|up|alpha)(?:\.weight)?")
_PART = {"A": "down", "B": "up"}


@torch.no_grad()
def fuse(network: nn.Module, folder: Path) -> None:
    """Add every adapter in the one safetensors file of `folder` to the weights of `network`, in place.

    Raises ModelError when there is none, or one that does not fit.
    """
    layers = {_flat(name): layer for name, layer in network.named_modules() if hasattr(layer, "weight")}
    for name, parts in _adapters(folder).items():
        layer = layers.get(name)
        if layer is None or not {"down", "up"} <= parts.keys():
            raise ModelError(f"the LoRA in {folder} does not fit this network: it changes {name}")
        change = _change(parts)
        if change.numel() != layer.weight.numel():
            raise ModelError(f"the LoRA in {folder} does not fit this network: {name} has another size")
        layer.weight += change.view_as(layer.weight).to(layer.weight)


def _change(parts: Mapping[str, Tensor]) -> Tensor:
    """(outputs, inputs x kernel) float32. Convolutions are products too: the second one has a kernel of 1 x 1."""
    down, up = parts["down"].float().flatten(1), parts["up"].float().flatten(1)
    alpha = float(parts["alpha"]) if "alpha" in parts else float(len(down))
    return alpha / len(down) * (up @ down)


def _adapters(folder: Path) -> dict[str, dict[str, Tensor]]:
    """Layer -> its parts "down", "up" and perhaps "alpha"."""
    files = sorted(folder.glob("*.safetensors"))
    if len(files) != 1:
        raise ModelError(f"{folder} must hold one safetensors file, and holds {len(files)}")
    found: dict[str, dict[str, Tensor]] = {}
    try:
        tensors = load_file(files[0])
    except (OSError, SafetensorError) as error:
        raise ModelError(f"cannot read the LoRA in {folder}: {error}") from error
    for key, tensor in tensors.items():
        match = _KEY.fullmatch(key)
        if match is None:
            raise ModelError(f"the LoRA in {folder} is of no known kind: it holds {key}")
        found.setdefault(_flat(match[1]), {})[_PART.get(match[2], match[2])] = tensor
    return found


def _flat(name: str) -> str:
    """kohya's names have lost the difference between a dot and an underscore."""
    return name.replace(".", "_")
