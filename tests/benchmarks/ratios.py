"""What the benchmarks of ratios share: the command line, its last line, a stopwatch, and longer copies of clips."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av

REPEATS = (1, 5)  # how often a clip is shown in the copies that are measured: start-up weighs less in the longer one


class Spent(NamedTuple):
    """Seconds."""

    wall: float
    cpu: float  # of this process and its children, all threads


def spent(work: Callable[[], object]) -> Spent:
    """What one call costs."""
    before, began = os.times(), time.perf_counter()
    work()
    wall, after = time.perf_counter() - began, os.times()
    return Spent(wall, sum(after[:4]) - sum(before[:4]))


def copies(clip: Path, folder: Path, height: int | None) -> Iterable[tuple[int, Path]]:
    """`clip` shown once and more often, as H.264 of high quality at a constant rate, enlarged to `height` where given.

    Some programs add frames where times vary.
    """
    for repeats in REPEATS:
        copy = folder / f"{repeats}.mp4"
        _write(copy, (picture for _ in range(repeats) for picture in _pictures(clip, height)))
        yield repeats, copy


def medians(base: Callable[[], object], ways: dict[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """What each way takes over what `base` takes, run by run, the first of which warms up."""
    times: dict[str, list[float]] = {}
    for _ in range(runs + 1):
        whole = spent(base)
        for name, way in ways.items():
            part = spent(way)
            times.setdefault(name, []).append(part.wall / whole.wall)
            times.setdefault(f"{name} cpu", []).append(part.cpu / whole.cpu)
    return {name: round(statistics.median(values[1:]), 2) for name, values in times.items()}


def main(about: str, compare: Callable[[Path, Path, int], dict[str, float]]) -> None:
    """Run `compare` (a copy, a folder to write to, how many runs count) on copies of every clip named on the command
    line; the last line is one JSON object."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--runs", type=int, default=5, help="counted runs, after one that warms up")
    parser.add_argument("--height", type=int, help="enlarge the clips to this many lines first")
    args = parser.parse_args()
    report: dict[str, dict[str, float]] = {}
    for clip in args.clips:
        found = report.setdefault(clip.name, {})
        with tempfile.TemporaryDirectory() as folder:
            for repeats, copy in copies(clip, Path(folder), args.height):
                compared = compare(copy, Path(folder), args.runs)
                found |= {f"{name} x{repeats}": value for name, value in compared.items()}
    print(json.dumps(report))


def _write(copy: Path, pictures: Iterable[Any]) -> None:
    with av.open(str(copy), "w") as sink:
        stream: Any = None
        for index, picture in enumerate(pictures):
            if stream is None:
                stream = sink.add_stream("libx264", rate=25, options={"crf": "12", "preset": "veryfast"})
                stream.width, stream.height, stream.pix_fmt = picture.width, picture.height, "yuv420p"
            picture.pts, picture.time_base, picture.pict_type = index, Fraction(1, 25), 0
            sink.mux(stream.encode(picture))
        sink.mux(stream.encode(None))


def _pictures(clip: Path, height: int | None) -> Iterable[Any]:
    with av.open(str(clip)) as source:
        stream = source.streams.video[0]
        width = None if height is None else round(height * stream.width / stream.height / 2) * 2
        for picture in source.decode(stream):
            yield picture.reformat(width, height, interpolation="BICUBIC")
