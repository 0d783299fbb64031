"""What this machine and this installation can do, each with its reason. Looks, changes nothing, touches no network."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from revisage.models.presets import EMBEDDED_MODEL, PRESETS, folder_bytes, installed, known
from revisage.pipeline.errors import RevisageError

PACKAGES = ("torch", "diffusers", "av", "onnxruntime", "insightface", "norfair", "numpy", "pyrage", "cryptography")
State = Literal["ok", "note", "broken"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    state: State  # note: worth knowing, everything works; broken: something that revisage needs does not work
    subject: str
    says: str


def examine(device: str = "auto", root: Path | None = None) -> list[Finding]:
    """Everything, in reading order. `root` stands for `~/.insightface`. Never raises for what it finds."""
    return [
        _finding("system", lambda: f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"),
        _finding("device", lambda: _device(device)),
        _finding("detector", lambda: _detector(device, root)),
        _finding("landmarks", _landmarks),
        _finding("model", lambda: _model(device)),
        _finding("encoders", _encoders),
        _packs(root),
        *_packages(),
    ]


def _finding(subject: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding("ok", subject, look())
    except Exception as error:  # whatever a library raises here is a finding
        return Finding("broken", subject, (str(error).strip() or type(error).__name__).splitlines()[0])


def _device(wish: str) -> str:
    from revisage.models.device import choose_device  # noqa: PLC0415  (imports torch)

    device = choose_device(wish)
    return f"{device.name} ({device.reason}), {str(device.dtype).removeprefix('torch.')}, {device.threads} threads"


def _detector(device: str, root: Path | None) -> str:
    from revisage.models.detectors import load_detector  # noqa: PLC0415  (imports OpenCV)

    return load_detector(device=device, root=root)[1]


def _landmarks() -> str:
    from revisage.models.landmarks import WEIGHTS, FaceLandmarker  # noqa: PLC0415  (imports torch)

    FaceLandmarker.load()
    return f"embedded network, {PRESETS['landmarks'].licence}, {folder_bytes(WEIGHTS) / 1e6:.1f} MB"


def _model(device: str) -> str:
    from revisage.models.device import choose_device  # noqa: PLC0415  (imports torch)
    from revisage.models.folder import EMBEDDED, read_spec  # noqa: PLC0415  (imports torch)
    from revisage.models.generator import load_generator  # noqa: PLC0415  (imports diffusers)

    spec = read_spec(EMBEDDED)
    load_generator(EMBEDDED_MODEL, device=choose_device(device))
    size = folder_bytes(EMBEDDED) / 1e6
    return f"{spec.name}, {spec.licence}, {size:.1f} MB, {spec.size} pixels, {spec.steps} steps"


def _encoders() -> str:
    from revisage.pipeline.media import encoders  # noqa: PLC0415  (imports av)

    found = encoders()
    if "libx264" not in found:
        raise RevisageError("no libx264, which most videos and every seal need; install the wheel of av again")
    return ", ".join(found)


def _packs(root: Path | None) -> Finding:
    packs = [preset.name for preset in known(root) if preset.kind == "insightface" and installed(preset, root)]
    if packs:
        return Finding("note", "insightface", f"packs {', '.join(packs)}; for non-commercial research only")
    return Finding("ok", "insightface", "no pack installed; not needed, see: revisage models list")


def _packages() -> Iterator[Finding]:
    for name in PACKAGES:
        try:
            yield Finding("ok", name, metadata.version(name))
        except metadata.PackageNotFoundError:
            yield Finding("broken", name, f"not installed; run: pip install {name}")
