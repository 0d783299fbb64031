"""`revisage anonymize --method blur` against `deface` on the same clips, whole processes in turn.

    python tests/benchmarks/deface_ratio.py CLIP [CLIP ...] [--runs N] [--height LINES]

Both use CenterFace on ONNX Runtime with all threads, at the same detection size, and write H.264. The last line is one
JSON object, what revisage takes over what deface takes (below 1: revisage is faster), medians of wall and CPU time for

* `alike`: what deface does: one look at every frame, nothing sealed, the result not looked at again
* `sealed`: the same with the default seal and its index
* `default`: all of it: further looks where a face may be missed, the seal, and a check of the finished video
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import ratios

from revisage.models.detectors import looks

DEFACE = [sys.executable, "-c", "from deface.deface import main; main()"]
REVISAGE = [sys.executable, "-c", "from revisage.cli import main; main()"]
ALIKE = ["--looks", "once", "--no-verify"]
WAYS = {"alike": [*ALIKE, "--seal", "off", "--index", "off"], "sealed": ALIKE, "default": []}


def run(command: list[str]) -> Callable[[], object]:
    """A process that must succeed."""
    return lambda: subprocess.run(command, check=True, capture_output=True)


def detection_size(clip: Path) -> str:
    """Width and height of the picture in which revisage looks for faces first, as deface's `--scale` wants it."""
    with av.open(str(clip)) as source:
        stream = source.streams.video[0]
        first = looks(stream.width, stream.height)[0]
    return f"{first.width}x{first.height}"


def compare(clip: Path, folder: Path, runs: int) -> dict[str, float]:
    """Ratios for every way."""
    key, out = folder / "key", folder / "out.mp4"
    if not key.exists():
        run([*REVISAGE, "keygen", "-o", str(key)])()
    deface = [str(clip), "-o", str(folder / "deface.mp4"), "--backend", "onnxrt", "--scale", detection_size(clip)]
    common = ["anonymize", str(clip), "-o", str(out), "--method", "blur", "--detector", "centerface", "--overwrite"]
    ways = {name: run([*REVISAGE, *common, "--key", str(key), *options]) for name, options in WAYS.items()}
    return ratios.medians(run([*DEFACE, *deface]), ways, runs)


if __name__ == "__main__":
    ratios.main(__doc__, compare)
