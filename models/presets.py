"""The models that have a name: what they are for, under which licence, whether they are here, and how to get them.

Knows no video and no key. Looking (`presets`, `installed`) never touches the network; `fetch` alone does.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from revisage.models import hub
from revisage.pipeline.errors import ModelError

EMBEDDED_MODEL = "revisage-face"
_WEIGHTS = Path(__file__).parent / "weights"
_PACKS = Path("~/.insightface")
_NON_COMMERCIAL = "non-commercial research only"


@dataclass(frozen=True, slots=True)
class Preset:
    """A model that can be asked for by name."""

    name: str
    kind: Literal["embedded", "insightface"]
    role: str
    licence: str
    download: str = ""  # its size, for a person to read; "": nothing to download


PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(EMBEDDED_MODEL, "embedded", "paints faces (the default of --model)", "Apache-2.0"),
        Preset("landmarks", "embedded", "dense landmarks: pose, gaze, mouth", "Apache-2.0"),
        Preset("buffalo_l", "insightface", "detector and recognizer, large", _NON_COMMERCIAL, "275 MB"),
        Preset("buffalo_m", "insightface", "detector and recognizer, middle", _NON_COMMERCIAL, "263 MB"),
        Preset("buffalo_s", "insightface", "detector and recognizer, small", _NON_COMMERCIAL, "122 MB"),
        Preset("buffalo_sc", "insightface", "detector and recognizer, smallest", _NON_COMMERCIAL, "14 MB"),
        Preset("antelopev2", "insightface", "detector and recognizer, largest", _NON_COMMERCIAL, "344 MB"),
    )
}


def installed(preset: Preset, root: Path | None = None) -> Path | None:
    """The folder that holds the model, or None. `root` stands for `~/.insightface`."""
    folder = _folder(preset, root)
    pattern = "**/*.safetensors" if preset.kind == "embedded" else "**/*.onnx"
    return folder if any(folder.glob(pattern)) else None


def known(root: Path | None = None) -> list[Preset]:
    """All presets, then the insightface packs that somebody else put under `root`."""
    folder = (root or _PACKS).expanduser() / "models"
    strange = sorted({path.relative_to(folder).parts[0] for path in folder.glob("*/*.onnx")} - PRESETS.keys())
    found = [Preset(name, "insightface", "pack from elsewhere", _NON_COMMERCIAL) for name in strange]
    return [*PRESETS.values(), *found]


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below `folder`."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def licence_of(name: str) -> str:
    """Of a preset, or of a model on the hub, which is asked over the network. Raises ModelError."""
    return hub.hub_licence(name) if hub.is_hub_name(name) else _preset(name).licence


def fetch(name: str, root: Path | None = None) -> Path:
    """The folder of model `name`, a preset or a name on the hub, downloaded where it is not here yet.

    Raises ModelError for an unknown name, for an embedded model that is missing, and when the download fails; a failed
    one leaves nothing.
    """
    if hub.is_hub_name(name):
        return hub.fetch_model(name)
    preset = _preset(name)
    if (folder := installed(preset, root)) is not None:
        return folder
    if preset.kind == "embedded":
        raise ModelError(f"{name} is part of this program and missing here; install revisage again")
    return _download(preset, root)


def _preset(name: str) -> Preset:
    if name not in PRESETS:
        raise ModelError(f"no model called {name!r}; choose one of {', '.join(PRESETS)}, or give a hub name org/name")
    return PRESETS[name]


def _folder(preset: Preset, root: Path | None) -> Path:
    if preset.kind == "embedded":
        return _WEIGHTS / preset.name
    return (root or _PACKS).expanduser() / "models" / preset.name


def _download(preset: Preset, root: Path | None) -> Path:
    from insightface.utils.storage import download  # noqa: PLC0415  (imports much)

    base, folder = (root or _PACKS).expanduser(), _folder(preset, root)
    archive = folder.with_name(f"{preset.name}.zip")
    try:
        download("models", preset.name, force=True, root=str(base))
    except Exception as error:  # whatever the network, the server or the archive did
        shutil.rmtree(folder, ignore_errors=True)
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"cannot download {preset.name} ({reason}); check the network, or use centerface") from error
    finally:
        archive.unlink(missing_ok=True)
    if installed(preset, root) is None:
        raise ModelError(f"the download of {preset.name} holds no model; try again")
    return folder
