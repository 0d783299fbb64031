"""Models of the Hugging Face hub by their name `org/name`: whether they are here, their licence, and fetching them.

Knows no family. `fetch_model` and `hub_licence` use the network, and only when called; nothing else here does.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from revisage.pipeline.errors import ModelError

# Weights as safetensors only: others run code when read. Half-precision copies and whole checkpoints are not needed.
_WANTED = ["*.json", "*.txt", "README.md", "LICENSE*", "*/*.safetensors"]
_UNWANTED = ["*.fp16.safetensors", "*.non_ema.safetensors", "safety_checker/*", "feature_extractor/*"]


def is_hub_name(model: str) -> bool:
    """Whether `model` could be a name on the hub."""
    return re.fullmatch(r"[\w.-]{1,96}/[\w.-]{1,96}", model, re.ASCII) is not None and ".." not in model


def snapshot(name: str) -> Path:
    """The folder of a model that was fetched. Never asks the network. Raises ModelError where it is not here."""
    from huggingface_hub import snapshot_download  # noqa: PLC0415  (imports much)

    try:
        return Path(str(snapshot_download(name, local_files_only=True)))
    except Exception as error:  # the library has a dozen ways to say that it is not here
        raise ModelError(f"model {name} is not here; run: revisage models fetch {name}") from error


def hub_licence(name: str) -> str:
    """The licence that the model's card states, "not stated" where it does not. Raises ModelError."""
    info = _asked(name, lambda hub: hub.HfApi().model_info(name))
    card = getattr(info, "card_data", None)
    return str((card.get("license") if card is not None else None) or "not stated")


def fetch_model(name: str) -> Path:
    """Download the model to where `snapshot` finds it. Raises ModelError when that fails."""

    def download(hub: Any) -> str:
        return str(hub.snapshot_download(name, allow_patterns=_WANTED, ignore_patterns=_UNWANTED))

    return Path(_asked(name, download))


def _asked(name: str, ask: Any) -> Any:
    import huggingface_hub  # noqa: PLC0415  (imports much)

    offline = huggingface_hub.constants.HF_HUB_OFFLINE
    huggingface_hub.constants.HF_HUB_OFFLINE = False  # the command line keeps the library off the network
    try:
        return ask(huggingface_hub)
    except Exception as error:  # whatever the network, the server or the library did
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"cannot get {name} ({type(error).__name__}: {_no_address(reason)}); check name and network"
        ) from error
    finally:
        huggingface_hub.constants.HF_HUB_OFFLINE = offline


def _no_address(reason: str) -> str:
    return re.sub(r"https?://\S+", "the hub", reason)[:160]
