"""Scores a model folder on the held-out portraits: is nobody recognised, does it follow, does it look like people?

    python -m revisage.models.train.score --portraits FOLDER [--model DIR] [--clips DIR] [--out DIR] [--people 100]

Paints every person with sixteen keys through the same steps as `revisage anonymize`, and judges with networks that the
method does not use (extra `score`). Four of the keys are everybody's, to compare people under one key; the others are
each person's own, since how alike two keys are depends much on which are drawn. Writes `OUT/score.json` and
`OUT/contact.png`; with `--clips` also `OUT/clips.json`, the table of `revisage evaluate`, and a strip of twelve frames
of each clip. Its keys are numbers: no secret, so that everybody gets the same faces.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import permutations
from pathlib import Path

import cv2
import numpy as np
import torch

from revisage.models import layout
from revisage.models.base import FaceGenerator
from revisage.models.conditioning import FACE_TEMPLATE
from revisage.models.device import Device
from revisage.models.generator import load_generator
from revisage.models.presets import EMBEDDED_MODEL
from revisage.models.scoring import SAME_PERSON
from revisage.models.train.data import load_portraits, split
from revisage.pipeline import geometry
from revisage.pipeline.evaluation import measures
from revisage.pipeline.evaluation.evaluate import evaluate, pairs_of
from revisage.pipeline.evaluation.evidence import EvaluateOptions, Laboratory
from revisage.pipeline.evaluation.films import save_strip
from revisage.pipeline.evaluation.judges import Judges, Seen
from revisage.pipeline.evaluation.portraits import Sitter, blurred, cast, paint, seat
from revisage.pipeline.evaluation.report import as_json, rows
from revisage.pipeline.run import JobOptions
from revisage.pipeline.types import Float, Image

KEYS = 16
SHARED = 4  # of these are the same for all people
SHEET_PEOPLE, SHEET_KEYS, SHEET_SIDE = 12, 4, 160  # of the contact sheet


@dataclass(frozen=True, slots=True)
class Score:
    """The figures that portraits can give. *Same* is a share judged one person by dlib; distances are medians of it."""

    model: str
    people: int
    keys: int
    same_as_original: float  # target: 0.05 at most
    distance_to_original: float
    two_keys_same: float  # two keys on one person, other keys for each; target: 0.25 at most
    two_keys_distance: float
    two_views_same: float  # one key on a picture and its mirror image, which shows the opposite pose
    two_views_same_original: float
    one_key_two_people_same: float  # one key on two different people
    two_originals_same: float  # two different people as they are, for comparison
    two_originals_distance: float
    gallery_rank1: float  # painted face finds its own original among all originals; chance is 1 / people
    gallery_rank1_blur: float
    parrot_rank1: float  # the same among all people painted with another key: the attacker anonymizes, too
    parrot_rank1_blur: float
    face_found: float  # by CenterFace; target: 0.99 at least
    face_found_original: float
    landmark_error: float  # median, of the interocular distance; target: 0.05 at most
    landmark_error_90: float  # the worst tenth begins here
    mouth_correlation: float  # of the opening, over people
    eye_correlation: float
    sharpness: float  # squared gradient inside the face over the original's, median
    sharpness_blur: float
    tone_error: float  # of the face's mean lightness, grey levels, mean
    tone_error_darkest: float  # how much too light the darkest third of the faces is, mean
    tone_error_palest: float  # the same of the palest third; below 0: too dark
    kid: float  # on CenterFace's backbone, against other people as they are
    kid_blur: float
    kid_originals: float  # the floor: other people as they are
    kid_dlib: float  # the same on dlib's 128 numbers
    kid_dlib_blur: float
    kid_dlib_originals: float
    seconds_per_face: float  # with all that makes a face, but for finding it


def score(sitters: Sequence[Sitter], generator: FaceGenerator, judges: Judges, keys: int, name: str) -> Score:
    """All figures of one model."""
    originals = _look(judges, [s.picture for s in sitters], sitters)
    blur = _look(judges, [blurred(s) for s in sitters], sitters)
    painted, seconds = [], 0.0
    for key in range(keys):
        pictures, took = _painted(sitters, key, generator)
        painted.append(_look(judges, pictures, sitters))
        seconds += took / (keys * len(sitters))
    return Score(
        model=name,
        people=len(sitters),
        keys=keys,
        seconds_per_face=seconds,
        **_views(sitters, originals, painted[0], generator, judges),
        **_identity(originals, blur, painted),
        **_following(originals, painted),
        **_looks(originals, blur, painted),
        **_tone(originals, painted),
    )


def _look(judges: Judges, pictures: Sequence[Image], sitters: Sequence[Sitter]) -> Seen:
    return Seen.joined([judges.look(p, [s.landmarks]) for p, s in zip(pictures, sitters, strict=True)])


def _painted(sitters: Sequence[Sitter], key: int, generator: FaceGenerator) -> tuple[list[Image], float]:
    """Everybody under one of their keys, and the seconds that the generator took."""
    faces = [key if key < SHARED else 100 * (person + 1) + key for person in range(len(sitters))]
    likenesses = [cast(sitter, face, generator) for sitter, face in zip(sitters, faces, strict=True)]
    began = time.perf_counter()
    pictures = paint(sitters, likenesses, generator)
    return pictures, time.perf_counter() - began


def _same(distance: Float) -> float:
    return measures.same_person_rate(distance, SAME_PERSON)


def _views(
    sitters: Sequence[Sitter], originals: Seen, painted: Seen, generator: FaceGenerator, judges: Judges
) -> dict[str, float]:
    """Face 0 on every picture and on its mirror image."""
    flipped = (np.ascontiguousarray(sitter.picture[:, ::-1]) for sitter in sitters)
    found = [seat(picture, judges.detector, judges.landmarker, generator) for picture in flipped]
    rows = np.array([i for i, sitter in enumerate(found) if sitter is not None])
    mirrored = [sitter for sitter in found if sitter is not None]
    if not mirrored:
        return {"two_views_same": measures.NOTHING, "two_views_same_original": measures.NOTHING}
    views = _look(judges, _painted(mirrored, 0, generator)[0], mirrored)
    as_they_are = _look(judges, [sitter.picture for sitter in mirrored], mirrored)
    return {
        "two_views_same": _same(measures.paired(painted[rows].embeddings, views.embeddings)),
        "two_views_same_original": _same(measures.paired(originals[rows].embeddings, as_they_are.embeddings)),
    }


def _identity(originals: Seen, blur: Seen, painted: Sequence[Seen]) -> dict[str, float]:
    embeddings = np.stack([seen.embeddings for seen in painted])  # (keys, people, 128)
    to_original = measures.paired(embeddings, originals.embeddings[None]).reshape(-1)
    keys_apart = np.concatenate([measures.pairs_within(rows) for rows in embeddings.swapaxes(0, 1)])
    people_apart = np.concatenate([measures.pairs_within(rows) for rows in embeddings[:SHARED]])
    strangers = measures.pairs_within(originals.embeddings)
    rank1, people = measures.rank1, originals.embeddings
    return {
        "same_as_original": _same(to_original),
        "distance_to_original": measures.median(to_original),
        "two_keys_same": _same(keys_apart),
        "two_keys_distance": measures.median(keys_apart),
        "one_key_two_people_same": _same(people_apart),
        "two_originals_same": _same(strangers),
        "two_originals_distance": measures.median(strangers),
        "gallery_rank1": measures.mean(np.array([rank1(rows, people) for rows in embeddings])),
        "gallery_rank1_blur": rank1(blur.embeddings, people),
        "parrot_rank1": measures.mean(np.array([rank1(a, b) for a, b in permutations(embeddings[:SHARED], 2)])),
        "parrot_rank1_blur": 1.0,  # blurring has no key: the attacker's blurred picture is the very same
    }


def _following(originals: Seen, painted: Sequence[Seen]) -> dict[str, float]:
    all_painted = Seen.joined(painted)
    driving, shapes = np.concatenate([originals.landmarks] * len(painted)), all_painted.landmarks
    errors = measures.landmark_error(driving, shapes)[all_painted.found]
    return {
        "face_found": measures.share(all_painted.found),
        "face_found_original": measures.share(originals.found),
        "landmark_error": measures.median(errors),
        "landmark_error_90": float(np.quantile(errors, 0.9)) if errors.size else measures.NOTHING,
        "mouth_correlation": measures.correlation(layout.mouth_opening(driving), layout.mouth_opening(shapes)),
        "eye_correlation": measures.correlation(layout.eye_opening(driving), layout.eye_opening(shapes)),
    }


def _looks(originals: Seen, blur: Seen, painted: Sequence[Seen]) -> dict[str, float]:
    """Half of the people are the reference; the other half is compared as they are, blurred and painted."""
    sharp = measures.sharpness(originals.crops)
    found = {
        "sharpness": measures.median(np.concatenate([measures.sharpness(seen.crops) / sharp for seen in painted])),
        "sharpness_blur": measures.median(measures.sharpness(blur.crops) / sharp),
    }
    for name, feature in (("kid", "features"), ("kid_dlib", "embeddings")):
        real, soft = getattr(originals, feature), getattr(blur, feature)
        drawn = [getattr(seen, feature)[1::2] for seen in painted]
        reference, other, soft, *drawn = measures.standardised(real[::2], real[1::2], soft[1::2], *drawn)
        found[name] = measures.mean(np.array([measures.kid(reference, rows) for rows in drawn]))
        found[f"{name}_blur"] = measures.kid(reference, soft)
        found[f"{name}_originals"] = measures.kid(reference, other)
    return found


def _tone(originals: Seen, painted: Sequence[Seen]) -> dict[str, float]:
    """Skin's lightness is guessed from what is around a face; guesses tend to the middle."""
    filmed = measures.lightness(originals.crops)
    errors = np.stack([measures.lightness(seen.crops) for seen in painted]) - filmed
    darkest, palest = filmed <= np.quantile(filmed, 1 / 3), filmed >= np.quantile(filmed, 2 / 3)
    return {
        "tone_error": measures.mean(np.abs(errors)),
        "tone_error_darkest": measures.mean(errors[:, darkest]),
        "tone_error_palest": measures.mean(errors[:, palest]),
    }


def contact_sheet(sitters: Sequence[Sitter], generator: FaceGenerator, keys: int = SHEET_KEYS) -> Image:
    """Rows: held-out people. Columns: the original, what the model sees, then one key each."""
    shown = sitters[:: max(1, len(sitters) // SHEET_PEOPLE)][:SHEET_PEOPLE]
    columns = [[s.picture for s in shown], [_veiled(s) for s in shown]]
    columns += [paint(shown, [cast(s, number, generator) for s in shown], generator) for number in range(keys)]
    return np.vstack([np.hstack([_portrait(c[i], s) for c in columns]) for i, s in enumerate(shown)])


def _veiled(sitter: Sitter) -> Image:
    veiled = sitter.picture.copy()
    veiled[sitter.covered] = 128
    return veiled


def _portrait(picture: Image, sitter: Sitter) -> Image:
    matrix = geometry.align(layout.five_points(sitter.landmarks), FACE_TEMPLATE, SHEET_SIDE)
    return geometry.crop(picture, matrix, SHEET_SIDE)


def score_clips(folder: Path, args: argparse.Namespace) -> None:
    """The table of `revisage evaluate` and a strip of pictures for every clip in `folder`."""
    job = JobOptions(model=args.model, steps=args.steps, device="cpu", threads=args.threads, fix=args.fix)
    laboratory = Laboratory(EvaluateOptions(job, args.frames, args.keys))

    def look(name: str, picture: Image) -> None:
        save_strip(picture, args.out / f"{name}.png", overwrite=True)

    reports = [evaluate(video, laboratory, look=look) for video, _ in pairs_of(folder)]
    (args.out / "clips.json").write_text(json.dumps(as_json(reports), indent=2) + "\n", encoding="utf-8")
    for report in reports:
        print(f"\n{report.name}: {report.faces} faces in {report.frames} frames")
        for row in rows(report):
            print("{:28} {:>10} {:>10}  {:8} {}".format(*row))


def main(args: argparse.Namespace) -> None:
    """Score, write, print."""
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(0)
    args.out.mkdir(parents=True, exist_ok=True)
    device = Device("cpu", torch.float32, args.threads, "scoring")
    generator = load_generator(args.model, device=device, steps=args.steps, batch_size=8)
    judges = Judges(args.threads)
    _, held_out = split(load_portraits(args.portraits))
    chosen = held_out[:: max(1, len(held_out) // args.people)][: args.people]
    found = (seat(portrait.read(), judges.detector, judges.landmarker, generator) for portrait in chosen)
    sitters = [sitter for sitter in found if sitter is not None]
    save_strip(contact_sheet(sitters, generator), args.out / "contact.png", overwrite=True)
    figures = asdict(score(sitters, generator, judges, args.keys, args.model))
    (args.out / "score.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    for name, value in figures.items():
        print(f"{name:24} {value:.3f}" if isinstance(value, float) else f"{name:24} {value}")
    if args.clips is not None:
        score_clips(args.clips, args)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--portraits", type=Path, required=True, help="folder with images/ and landmarks.npz")
    parser.add_argument("--model", default=EMBEDDED_MODEL, help="model folder, or the embedded model by name (default)")
    parser.add_argument("--clips", type=Path, help="folder of videos to score as well")
    parser.add_argument("--frames", type=int, default=60, help="of each clip, from its start")
    parser.add_argument("--fix", action="store_true", help="make the clips' faces as `revisage anonymize --fix` does")
    parser.add_argument("--out", type=Path, default=Path("runs/score"))
    parser.add_argument("--people", type=int, default=100)
    parser.add_argument("--keys", type=int, default=KEYS)
    parser.add_argument("--steps", type=int, help="the model's own by default")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main(_arguments())
