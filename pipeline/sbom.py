"""What this installation is made of, as a CycloneDX 1.6 bill of materials. Reads installed packages, no network.

The same installation gives the same bytes: no time, and a serial number that follows from the content.
"""

from __future__ import annotations

import json
import uuid
from importlib import metadata
from typing import Any, Final

from packaging.requirements import Requirement

from revisage.models import hashes

NAME: Final = "revisage"
_NAMESPACE: Final = uuid.UUID("6f9d3c52-53f1-5d0a-9a5e-0b7c6c2d9e11")  # of serial numbers of this program's lists


def bill_of_materials() -> dict[str, Any]:
    """Of this program, every package it needs at run time (no extras), and its embedded weights with their hashes."""
    packages = _closure(NAME)
    libraries = [_library(name) for name in sorted(packages) if name != NAME]
    body = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": _library(NAME) | {"type": "application"}},
        "components": [*libraries, *map(_weights, sorted(hashes.listed().items()))],
        "dependencies": [
            {"ref": _purl(name), "dependsOn": sorted(map(_purl, packages[name]))} for name in sorted(packages)
        ],
    }
    serial = uuid.uuid5(_NAMESPACE, json.dumps(body, sort_keys=True))
    return {"$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json", **body, "serialNumber": f"urn:uuid:{serial}"}


def _closure(root: str) -> dict[str, list[str]]:
    """Name -> names of what it needs here; `root` first."""
    found: dict[str, list[str]] = {}
    waiting = [root]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = _needs(name)
            waiting += found[name]
    return found


def _needs(name: str) -> list[str]:
    wanted = (Requirement(text) for text in metadata.requires(name) or [])
    here = {_plain(w.name) for w in wanted if w.marker is None or w.marker.evaluate({"extra": ""})}
    return sorted(name for name in here if _installed(name))


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _plain(name: str) -> str:
    """As PEP 503 normalizes it."""
    return "-".join(part for part in name.lower().replace("_", "-").replace(".", "-").split("-") if part)


def _library(name: str) -> dict[str, Any]:
    about: Any = metadata.metadata(name)
    licence = about.get("License-Expression") or next(
        (c.rsplit(" :: ", 1)[-1] for c in about.get_all("Classifier") or [] if c.startswith("License ::")), None
    )
    said = {"licenses": [{"license": {"name": licence}}]} if licence else {}
    return {"type": "library", "bom-ref": _purl(name), "name": name, "version": metadata.version(name),
            "purl": _purl(name), **said}  # fmt: skip


def _purl(name: str) -> str:
    return f"pkg:pypi/{name}@{metadata.version(name)}"


def _weights(entry: tuple[str, str]) -> dict[str, Any]:
    name, digest = entry
    kind = "machine-learning-model" if name.endswith((".safetensors", ".onnx")) else "data"
    return {"type": kind, "bom-ref": f"weights:{name}", "name": name,
            "hashes": [{"alg": "SHA-256", "content": digest}]}  # fmt: skip
