"""Runs the command line in this process."""

from __future__ import annotations

from typing import Any

from click.testing import CliRunner, Result

from revisage.cli import cli


def run(*words: object, **more: Any) -> Result:
    """`revisage WORDS…`."""
    return CliRunner().invoke(cli, [str(word) for word in words], **more)
