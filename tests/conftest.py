"""Fixtures of all tests. The folder `shared` beside the checkout is optional: what needs it skips and says why."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from commands import run


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with real clips and the SCRFD detector; `REVISAGE_SHARED` overrides its place."""
    folder = Path(os.environ.get("REVISAGE_SHARED", Path(__file__).parents[2] / "shared"))
    if not (folder / "clips").is_dir():
        pytest.skip("needs the folder of real clips: set REVISAGE_SHARED to it")
    return folder


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A secret key file."""
    path = tmp_path_factory.mktemp("keys") / "my.key"
    assert run("keygen", "-o", path).exit_code == 0
    return path
