"""What `--fix` costs, and what trying faces before rendering saves of it.

    python tests/benchmarks/casting.py CLIP… [--keys 8]

Needs a recognizer (an insightface pack or the extra `score`). Each key anonymizes the clip three times from one plan:
without `--fix`, with it, and with it but without trying faces in a few frames first. Of each the wall time over that of
the first, all keys together, and how often a film was rendered. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TypeVar

from ratios import spent  # type: ignore[import-not-found]

from revisage.pipeline.run import JobOptions, KeyRing, Workshop
from revisage.pipeline.types import Plan, Progress
from revisage.pipeline.vault.keys import SecretKey

T = TypeVar("T")


class Rendering(Workshop):
    """Finds out in the finished film."""

    def _cast(self, rendering: object, plan: Plan) -> tuple[Plan, list[str]]:
        return plan, []


def counting(labels: Counter[str]) -> Progress:
    """Says nothing, and counts what is begun."""

    def progress(items: Iterable[T], *, label: str, total: int | None = None) -> Iterable[T]:
        labels[label] += 1
        return items

    return progress


def measure(clip: Path, keys: int) -> dict[str, float]:
    """Ratios and renderings of one clip."""
    ways = {
        "plain": Workshop(JobOptions(device="cpu")),
        "fix": Workshop(JobOptions(device="cpu", fix=True)),
        "fix, not tried": Rendering(JobOptions(device="cpu", fix=True)),
    }
    seconds, labels = dict.fromkeys(ways, 0.0), {name: Counter[str]() for name in ways}
    plan = ways["plain"].analyze(clip)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(-1, keys):  # the first warms up
            ring = KeyRing((SecretKey(hashlib.sha256(b"%d" % number).digest()),))
            for name, workshop in ways.items():
                watch = counting(labels[name] if number >= 0 else Counter())
                output = Path(folder) / f"{number} {name}.mkv"
                wall = spent(partial(workshop.anonymize, clip, output, ring, plan=plan, progress=watch)).wall
                seconds[name] += wall if number >= 0 else 0
    return {
        "fix": round(seconds["fix"] / seconds["plain"], 2),
        "fix, not tried": round(seconds["fix, not tried"] / seconds["plain"], 2),
        "renderings": labels["fix"]["anonymize"] / keys,
        "renderings, not tried": labels["fix, not tried"]["anonymize"] / keys,
    }


def main() -> None:
    """Print a line a clip, then all as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--keys", type=int, default=8)
    args = parser.parse_args()
    report = {}
    for clip in args.clips:
        report[clip.name] = measure(clip, args.keys)
        print(clip.name, report[clip.name], flush=True)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
