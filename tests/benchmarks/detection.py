"""What finding faces costs: its share of the CPU's work, what looking adaptively saves, what verifying adds.

    python tests/benchmarks/detection.py CLIP [CLIP ...] [--seconds S]

First films whose every face is known (tests/scenes.py), drawn at 12 frames a second, through pass 1 with CenterFace:
one look a frame; one look and others where a face may be missed (`--looks every`); the same with still pictures skipped
(`adaptive`); and every look there is at every frame. `cost` is the detector's CPU time over that of all looks,
`uncovered` counts faces that show and that nothing covers.

Then each clip, anonymized with `--method blur` and verified: the share of detection in the CPU time of pass 1 and of
both passes, and the CPU time of verify over that of the rest. One thread, so that CPU time is exact whatever else the
machine does. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from judge import judge, placed
from scenes import SCENES, Actor, Scene, Shot, alone, always, clock, dark, film, still

from revisage.models.detectors import CenterFaceDetector
from revisage.models.looks import every_look
from revisage.pipeline.analyze import AnalyzeOptions, analyze
from revisage.pipeline.protect import Obscure
from revisage.pipeline.render import Access, RenderOptions, anonymize
from revisage.pipeline.types import FaceDetection, Image
from revisage.pipeline.vault.keys import SecretKey
from revisage.pipeline.verification.eyes import Mirrored
from revisage.pipeline.verify import Witnesses, verify

Row = dict[str, float]


class Timed:
    """A detector that knows what it has cost."""

    name = "centerface"

    def __init__(self, look: Callable[[CenterFaceDetector, Image], list[FaceDetection]] | None = None) -> None:
        self._net = CenterFaceDetector(device="cpu", threads=1)
        self._look = look or (lambda net, picture: net.detect(picture))
        self.seconds = 0.0
        self.looked = 0

    def detect(self, picture: Image) -> list[FaceDetection]:
        """As CenterFace."""
        began = time.thread_time()
        found = self._look(self._net, picture)
        self.seconds += time.thread_time() - began
        self.looked += 1
        return found


WAYS: dict[str, tuple[Callable[[CenterFaceDetector, Image], list[FaceDetection]] | None, AnalyzeOptions]] = {
    "once": (None, AnalyzeOptions(again=False, skip=False)),
    "every": (None, AnalyzeOptions(skip=False)),
    "adaptive": (None, AnalyzeOptions()),
    "all looks": (every_look, AnalyzeOptions(again=False, skip=False)),
}


def films(seconds: float) -> dict[str, Scene]:
    """People who walk, who sit still between two gestures, and who are hard to see."""
    times = clock(12, seconds)
    lying = Shot((Actor(1, lambda t: (300 + 20 * t, 190), always(90), always(80.0)),))
    small = Shot((Actor(1, lambda t: (300 + 15 * t, 150), always(22)), Actor(2, still(420, 240), always(24))))
    return {
        "crossing": SCENES["crossing"](times),
        "entrance": SCENES["entrance"](times),
        "hand": SCENES["hand"](times),
        "interview": alone(times, lambda t: (320 + 30 * min(max(t - 0.8, 0.0), 0.4), 180.0)),
        "night": dark(SCENES["crossing"](times), 0.08),
        "lying": Scene("lying", times, (lying,)),
        "small": Scene("small", times, (small,)),
    }


def looks(folder: Path, seconds: float) -> dict[str, dict[str, Row]]:
    """Film -> way to look -> what it found and what it cost."""
    results: dict[str, dict[str, Row]] = {}
    for name, scene in films(seconds).items():
        source = film(folder / "film.mkv", scene)
        for way, (look, options) in WAYS.items():
            detector = Timed(look)
            plan = analyze(source, detector=detector, options=options)
            uncovered = len(judge(scene, placed(plan.tracks, len(scene.times))).uncovered)
            results.setdefault(name, {})[way] = {"uncovered": uncovered, "seconds": detector.seconds}
    return {name: _relative(rows) for name, rows in (results | {"all films": _summed(results)}).items()}


def _summed(results: dict[str, dict[str, Row]]) -> dict[str, Row]:
    return {
        way: {column: sum(rows[way][column] for rows in results.values()) for column in ("uncovered", "seconds")}
        for way in WAYS
    }


def _relative(rows: dict[str, Row]) -> dict[str, Row]:
    whole = rows["all looks"]["seconds"]
    return {way: {"uncovered": row["uncovered"], "cost": round(row["seconds"] / whole, 3)} for way, row in rows.items()}


def shares(clip: Path, folder: Path) -> Row:
    """What detection takes of one clip's work, and what verifying adds."""
    detector, eyes = Timed(), Timed()
    began = time.process_time()
    plan = analyze(clip, detector=detector)
    first = time.process_time() - began
    output, key = folder / f"out{clip.suffix}", SecretKey(bytes(32))
    options = RenderOptions(index=folder / "out.rvx", overwrite=True)
    access = Access.of([key], [], plan.video.sha256)
    anonymize(clip, output, plan=plan, method=Obscure("blur"), access=access, options=options)
    both = time.process_time() - began
    report = verify(output, Witnesses(Mirrored(eyes), "mirrored"), original=clip, plan=plan)
    verified = time.process_time() - began - both
    assert report.clean, report.leaks[:3]
    return {
        "detection of pass 1": round(detector.seconds / first, 2),
        "detection of both passes": round(detector.seconds / both, 2),
        "detection of verify": round(eyes.seconds / verified, 2),
        "verify over both passes": round(verified / both, 2),
        "looks a frame": round(detector.looked / plan.video.frames, 2),
    }


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, nargs="*")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of the drawn films; 0: none")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found = looks(Path(name), args.seconds) if args.seconds else {}
        costs = {clip.name: shares(clip, Path(name)) for clip in args.clips}
    for film_name, rows in found.items():
        for way, row in rows.items():
            print(f"{film_name:<12}{way:<12}uncovered {row['uncovered']:>4.0f}   cost {row['cost']:.3f}")
    for clip_name, row in costs.items():
        print(f"{clip_name:<16}" + "   ".join(f"{what} {value:.2f}" for what, value in row.items()))
    print(json.dumps({"looks": found, "shares": costs}))


if __name__ == "__main__":
    main()
