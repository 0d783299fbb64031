"""Whether the embedded weights are those of this release: `weights/SHA256SUMS`, as `sha256sum -c` reads it.

Who changes weights on purpose writes the list anew: python -m revisage.models.hashes
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final

from revisage.pipeline.errors import ModelError

WEIGHTS: Final = Path(__file__).parent / "weights"
_LIST: Final = "SHA256SUMS"
_CHECKED: Final = {".safetensors", ".json", ".onnx"}  # what a model is; its card is for people


def listed(root: Path = WEIGHTS) -> dict[str, str]:
    """Name relative to `root` -> hex SHA-256. Raises ModelError where there is no list."""
    try:
        lines = (root / _LIST).read_text(encoding="ascii").splitlines()
        return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    except (OSError, ValueError) as error:
        raise ModelError(
            "the list of the embedded weights' hashes is missing or damaged; install revisage again"
        ) from error


@lru_cache(maxsize=16)
def check(folder: Path, root: Path = WEIGHTS) -> None:
    """Compare what lies in `folder` with the list, once a process; a folder elsewhere is its owner's business.

    Raises ModelError where a file was changed, is missing, or is not on the list.
    """
    if not folder.is_relative_to(root):
        return
    wanted = {name: digest for name, digest in listed(root).items() if (root / name).is_relative_to(folder)}
    there = {path.relative_to(root).as_posix(): path for path in _files(folder)}
    for name in sorted(wanted.keys() | there.keys()):
        if name not in there or name not in wanted or _sha256(there[name]) != wanted[name]:
            hint = "install revisage again, or list what was changed on purpose: python -m revisage.models.hashes"
            raise ModelError(f"{name} is not the file of this release; {hint}")


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.suffix in _CHECKED)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(root: Path = WEIGHTS) -> None:
    """Write the list anew, of what is there."""
    lines = [f"{_sha256(path)}  {path.relative_to(root).as_posix()}\n" for path in _files(root)]
    (root / _LIST).write_text("".join(lines), encoding="ascii")


if __name__ == "__main__":
    write()
