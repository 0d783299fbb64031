"""`revisage anonymize --method blur` against `deface` on the same clip, whole processes in turn.

    python tests/benchmarks/deface_ratio.py CLIP [CLIP ...] [--runs N]

Both use CenterFace on ONNX Runtime at the clip's own size and write H.264 at comparable quality. The last line is one
JSON object: wall time of revisage over wall time of deface (below 1: revisage is faster), medians.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ratios

DEFACE = [sys.executable, "-c", "from deface.deface import main; main()"]
REVISAGE = [sys.executable, "-c", "from revisage.cli import main; main()"]


def seconds(command: list[str]) -> float:
    """Wall time of a process that must succeed."""
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


def compare(clip: Path, runs: int) -> dict[str, float]:
    """Ratios with nothing sealed (what deface does) and with the default seal."""
    found: dict[str, list[float]] = {"plain": [], "sealed": []}
    with tempfile.TemporaryDirectory() as folder:
        key, out = f"{folder}/key", f"{folder}/out.mp4"
        seconds([*REVISAGE, "keygen", "-o", key])
        common = ["anonymize", str(clip), "-o", out, "--method", "blur", "--detector", "centerface", "--overwrite"]
        for _ in range(runs + 1):  # the first one warms up
            base = seconds(
                [*DEFACE, str(clip), "-o", f"{folder}/deface.mp4", "--backend", "onnxrt", "--replacewith", "blur"]
            )
            found["plain"].append(seconds([*REVISAGE, *common, "--key", key, "--seal", "off", "--index", "off"]) / base)
            found["sealed"].append(seconds([*REVISAGE, *common, "--key", key]) / base)
    return {name: round(statistics.median(times[1:]), 2) for name, times in found.items()}


if __name__ == "__main__":
    ratios.main(__doc__, compare)
