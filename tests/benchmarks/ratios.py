"""The command line and the last line that all benchmarks of ratios share."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path


def main(about: str, compare: Callable[[Path, int], dict[str, float]]) -> None:
    """Run `compare` on every clip named on the command line; the last line is one JSON object."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--runs", type=int, default=5, help="counted runs, after one that warms up")
    args = parser.parse_args()
    print(json.dumps({clip.name: compare(clip, args.runs) for clip in args.clips}))
