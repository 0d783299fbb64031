"""Embeddings of a model folder's prompts, computed once and kept beside the model. Knows no UNet and no face.

They stand in `prompt_embeds.safetensors`, with the prompts in its header; a folder that brings the file needs neither
text encoder nor the library for it.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from revisage.pipeline.errors import ModelError

FILE = "prompt_embeds.safetensors"


def prompt_embeddings(folder: Path, prompts: tuple[str, ...]) -> Tensor:
    """(prompts, words, width) float32. Raises ModelError when they are neither kept nor to be computed."""
    kept = _kept(folder / FILE, prompts)
    if kept is not None:
        return kept
    computed = _computed(folder, prompts)
    with suppress(OSError, SafetensorError):  # a folder that cannot be written costs time at the next start, no more
        save_file({"embeddings": computed}, folder / FILE, metadata={"prompts": json.dumps(prompts)})
    return computed


def _kept(path: Path, prompts: tuple[str, ...]) -> Tensor | None:
    """None where there is no file, or one of other prompts."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            if json.loads((file.metadata() or {}).get("prompts", "null")) != list(prompts):
                return None
            return cast(Tensor, file.get_tensor("embeddings").float())
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"{path} is damaged; delete it") from error


@torch.inference_mode()
def _computed(folder: Path, prompts: tuple[str, ...]) -> Tensor:
    try:
        from transformers import CLIPTextModel, CLIPTokenizer  # noqa: PLC0415  (optional)
    except ImportError as error:
        raise ModelError(f"{folder.name} needs a text encoder once; run: pip install transformers") from error
    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        encoder = CLIPTextModel.from_pretrained(
            folder / "text_encoder", use_safetensors=True, local_files_only=True, torch_dtype=torch.float32
        )
    except (OSError, ValueError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        raise ModelError(f"cannot load the text encoder of {folder.name}: {first}") from error
    length = tokenizer.model_max_length
    words = tokenizer(list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    return cast(Tensor, encoder.eval()(words.input_ids)[0].float().contiguous())
