"""Is a face better painted at 256 x 256 pixels than at 128 x 128, when both take as long in use?

    python tests/benchmarks/size.py --portraits FOLDER --recognizer faceres.json [--out DIR] [--steps 150]

Trains both of `CANVASES` from scratch by `models/train/face.py`: the same portraits in the same order, moved, lit and
hidden alike, with the same losses and as many steps. The larger one paints the same 16 x 16 patches with a narrower
U-Net and a narrower refiner, so that a face takes about as long. Then scores both as `models/train/score.py` does, on
people held out whose portraits are large enough to show what 256 pixels can.

Writes `OUT/size.jpg`: held-out people as they are, then two keys, each at 128 and at 256 pixels. The last line is one
JSON object. What is in OUT already (portraits as read, trained networks) is not made again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from revisage.models import landmarks as dense
from revisage.models import layout
from revisage.models.appearance import Appearance
from revisage.models.conditioning import FACE_TEMPLATE, INTEROCULAR
from revisage.models.device import Device
from revisage.models.folder import EMBEDDED
from revisage.models.generator import DiffusionGenerator, load_generator
from revisage.models.train import face
from revisage.models.train.data import load_portraits, split
from revisage.models.train.score import Score, score
from revisage.pipeline import geometry
from revisage.pipeline.evaluation import measures
from revisage.pipeline.evaluation.judges import Judges, face_crop
from revisage.pipeline.evaluation.portraits import Sitter, numbered, paint, request, seat
from revisage.pipeline.types import Float, Image

LARGE = INTEROCULAR * max(face.CANVASES)  # between the eyes of a portrait that fills the larger canvas, pixels
FINE = round(LARGE / dense.INTEROCULAR)  # side of a face crop that has the larger canvas's pixels
BATCH, RUNS = 8, 7  # faces at a time, and how often, when time is taken
SHOWN, SHOWN_KEYS, SHOWN_SIDE, QUALITY = 5, 2, 256, 55  # of the picture
SAME = ("portraits", "recognizer", "steps", "batch", "lent", "rate", "threads")  # options of both trainings
PRINTED = (
    "kid", "kid_dlib", "same_as_original", "two_keys_same", "landmark_error", "mouth_correlation", "eye_correlation",
    "face_found", "sharpness",
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Contender:
    """One of the sizes, trained."""

    generator: DiffusionGenerator
    sitters: list[Sitter]  # the same people for all
    minutes: float  # of training


def studio(args: argparse.Namespace, path: Path) -> face.Studio:
    """As `face.studio`, but read from `path` where that exists: portraits take minutes."""
    if path.exists():
        appearance = Appearance.from_pretrained(args.start / "appearance").float()
        with np.load(path) as kept:
            parts = [list(kept[name]) for name in ("pixels", "landmarks", "codes")]
            learnt = int(kept["learnt"])
        people = [face.Sitter(*row) for row in zip(*parts, strict=True)]
        return face.Studio(appearance, people[:learnt], people[learnt:])
    made = face.studio(args)
    people = [*made.portraits, *made.held_out]
    arrays = {name: np.stack([getattr(who, name) for who in people]) for name in ("pixels", "landmarks")}
    np.savez(path, learnt=len(made.portraits), codes=np.stack([who.code for who in people]), **arrays)
    return made


def trained(size: int, given: argparse.Namespace) -> tuple[Path, float]:
    """The model folder of one size, and the minutes that its training took."""
    folder: Path = given.out / str(size)
    start, about = given.out / "start", folder / "trained.json"
    if not about.exists():
        shutil.copytree(EMBEDDED / "appearance", start / "appearance", dirs_exist_ok=True)  # and no networks: scratch
        own = {"size": size, "start": start, "run": folder}
        same = {name: getattr(given, name) for name in SAME}
        args = face.arguments([f"--{name}={value}" for name, value in (own | same).items()])
        people = studio(args, given.out / f"sitters-{size}.npz")
        torch.manual_seed(0)
        began = time.monotonic()
        face.train(args, people)
        about.write_text(json.dumps({"minutes": (time.monotonic() - began) / 60}))
    return folder / "export", float(json.loads(about.read_text())["minutes"])


def seated(portraits: Iterable[Image], generator: DiffusionGenerator, judges: Judges, count: int) -> list[Sitter]:
    """The people whose faces fill the larger canvas, `count` of them at most, from all over the list."""
    found = (seat(picture, judges.detector, judges.landmarker, generator) for picture in portraits)
    large = [who for who in found if who is not None and layout.interocular(who.landmarks) >= LARGE]
    chosen = np.linspace(0, len(large) - 1, min(count, len(large))).astype(int)
    return [large[i] for i in chosen]


def times(contenders: Mapping[int, Contender]) -> dict[int, float]:
    """Seconds of one thread a face, median of runs in turn; the processor's, so that a busy machine matters less."""
    taken: dict[int, list[float]] = {size: [] for size in contenders}
    for _ in range(RUNS + 1):
        for size, one in contenders.items():
            who = numbered(0, one.generator)
            requests = [request(sitter, who, size) for sitter in one.sitters[:BATCH]]
            began = time.process_time()
            one.generator.generate(requests)
            taken[size].append((time.process_time() - began) / len(requests))
    return {size: statistics.median(runs[1:]) for size, runs in taken.items()}


def fine_sharpness(one: Contender) -> float:
    """Squared gradient over the original's, in crops that have the larger canvas's pixels; median."""
    painted = paint(one.sitters, [numbered(0, one.generator)] * len(one.sitters), one.generator)
    before = _crops([sitter.picture for sitter in one.sitters], one.sitters)
    ratios: Float = measures.sharpness(_crops(painted, one.sitters)) / measures.sharpness(before)
    return measures.median(ratios)


def _crops(pictures: Sequence[Image], sitters: Sequence[Sitter]) -> Image:
    pairs = zip(pictures, sitters, strict=True)
    return np.stack([face_crop(picture, sitter.landmarks, FINE) for picture, sitter in pairs])


def sheet(contenders: Sequence[Contender]) -> Image:
    """Rows: people. Columns: as they are, then every key by each contender."""
    rows = []
    for i in np.linspace(0, len(contenders[0].sitters) - 1, SHOWN).astype(int):
        shown = [_portrait(contenders[0].sitters[i].picture, contenders[0].sitters[i])]
        for number in range(SHOWN_KEYS):
            for one in contenders:
                (picture,) = paint([one.sitters[i]], [numbered(number, one.generator)], one.generator)
                shown.append(_portrait(picture, one.sitters[i]))
        rows.append(np.hstack(shown))
    return np.vstack(rows)


def _portrait(picture: Image, sitter: Sitter) -> Image:
    matrix = geometry.align(layout.five_points(sitter.landmarks), FACE_TEMPLATE, SHOWN_SIDE)
    return geometry.crop(picture, matrix, SHOWN_SIDE)


def main(args: argparse.Namespace) -> None:
    """Train, score, draw, print."""
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(0)
    args.out.mkdir(parents=True, exist_ok=True)
    device, judges = Device("cpu", torch.float32, args.threads, "comparing sizes"), Judges(args.threads)
    _, held_out = split(load_portraits(args.portraits))
    contenders: dict[int, Contender] = {}
    for size in face.CANVASES:
        folder, minutes = trained(size, args)
        generator = load_generator(str(folder), device=device, batch_size=BATCH)
        sitters = seated((portrait.read() for portrait in held_out), generator, judges, args.people)
        contenders[size] = Contender(generator, sitters, minutes)
    picture = cv2.cvtColor(sheet(list(contenders.values())), cv2.COLOR_RGB2BGR)
    cv2.imwrite(str(args.out / "size.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    seconds = times(contenders)
    report: dict[str, object] = {"steps": args.steps, "batch": args.batch, "lent": args.lent}
    for size, one in contenders.items():
        found: Score = score(one.sitters, one.generator, judges, args.keys, str(size))
        figures = {name: value for name, value in asdict(found).items() if name in PRINTED}
        figures |= {"fine_sharpness": fine_sharpness(one), "seconds_per_face": seconds[size]}
        figures |= {"minutes_of_training": one.minutes, "people": found.people}
        report[str(size)] = {name: round(value, 4) for name, value in figures.items()}
        for name, value in figures.items():
            print(f"{size:5} {name:24} {value:.4f}", flush=True)
    print(json.dumps(report))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--portraits", type=Path, required=True, help="folder with images/ and landmarks.npz")
    parser.add_argument("--recognizer", type=Path, required=True, help="faceres.json, see models/train/recognizer.py")
    parser.add_argument("--out", type=Path, default=Path("runs/size"))
    parser.add_argument("--steps", type=int, default=150, help="of training, for each size")
    parser.add_argument("--batch", type=int, default=6, help="portraits in a step")
    parser.add_argument("--lent", type=int, default=4, help="further rows of each step, painted as somebody else")
    parser.add_argument("--rate", type=float, default=5e-4, help="of learning")
    parser.add_argument("--people", type=int, default=100, help="held-out people to score")
    parser.add_argument("--keys", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    main(parser.parse_args())
