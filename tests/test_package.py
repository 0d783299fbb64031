"""The packaging recipe and the agreements between rooms: what is listed is what is there, imports point one way."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("models", "pipeline", "trackers")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MODULES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Dotted names that a module imports, at its top or inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_every_folder_with_code_is_a_listed_package() -> None:
    folders = {path.parent.relative_to(ROOT) for path in MODULES}
    expected = {"revisage", *(".".join(("revisage", *folder.parts)) for folder in folders)}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == expected


def test_only_the_command_line_stands_at_the_root() -> None:
    assert [path.name for path in ROOT.glob("*.py")] == ["cli.py"]


def test_weights_are_small_enough_to_embed() -> None:
    weights = [path for path in (ROOT / "models" / "weights").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in weights) <= 54_000_000


@pytest.mark.parametrize(
    ("library", "owner"),
    [("av", "pipeline/media/"), ("onnxruntime", "models/runtime.py"), ("pyrage", "pipeline/vault/keys.py")],
)
def test_one_room_owns_each_of_these_libraries(library: str, owner: str) -> None:
    users = [
        p.relative_to(ROOT).as_posix() for p in MODULES if any(re.match(rf"{library}(\.|$)", n) for n in imports(p))
    ]
    assert users
    assert all(user.startswith(owner) for user in users)


def test_imports_point_one_way() -> None:
    for path in MODULES:
        room = path.relative_to(ROOT).parts[0]
        used = {name for name in imports(path) if name.startswith("revisage.")}
        if room in ("models", "trackers"):
            forbidden = (
                "revisage.pipeline.vault",
                "revisage.pipeline.media",
                "revisage.cli",
                "revisage.pipeline.render",
            )
            assert not [name for name in used if name.startswith(forbidden)], path
        if "vault" in path.relative_to(ROOT).parts:
            assert not [n for n in used if n.startswith(("revisage.models", "revisage.pipeline.media"))], path
        assert not [name for name in used if name.startswith("revisage.cli")], path


def test_nothing_dangerous_is_imported_or_called() -> None:
    for path in [*MODULES, ROOT / "cli.py"]:
        assert not imports(path) & {"pickle", "marshal", "shelve", "dill"}, path
        calls = [
            n.func.id
            for n in ast.walk(ast.parse(path.read_text()))
            if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
        ]
        assert not set(calls) & {"eval", "exec"}, path
