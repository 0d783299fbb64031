"""All attacks on one video, one after the other. Owns what each is given; one that cannot be tried says so.

| attack                              | the attacker has                                             | needs      |
|-------------------------------------|--------------------------------------------------------------|------------|
| random, near keys; brute force      | the index                                                    | test keys  |
| tampering                           | the index, that of another run, and the will to change them  | test keys  |
| averaging                           | the video, under several keys                                |            |
| linking                             | two videos of one person under one key                       | test keys  |
| wrong key, wrong signs, known frame | a video with --carry, model and geometry, most of the key    |            |
| magnitudes                          | the same, and pictures of people                             | a gallery  |
| gallery, parrot, reconstruction     | pictures of people, this program, a recognizer               | a gallery  |
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from revisage.models.base import Descent, FaceGenerator
from revisage.models.carrying import load_carrier
from revisage.pipeline.errors import ModelError, PlanError
from revisage.pipeline.evaluation.attacks import faces, index, pixels, rebuild
from revisage.pipeline.evaluation.attacks.faces import Gallery
from revisage.pipeline.evaluation.attacks.pixels import Bench, shots_of
from revisage.pipeline.evaluation.attacks.rebuild import Effort
from revisage.pipeline.evaluation.evidence import Evidence, Laboratory, make
from revisage.pipeline.evaluation.films import Watched, excerpt, watch
from revisage.pipeline.evaluation.portraits import Sitter, seat
from revisage.pipeline.evaluation.report import Attack
from revisage.pipeline.places import index_path
from revisage.pipeline.types import Image
from revisage.pipeline.vault.keys import SecretKey

PICTURES = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True, slots=True)
class AttackOptions:
    """How hard the attacker tries."""

    gallery: Path | None = None  # folder with pictures of people, one face each
    people: int = 100  # of the gallery, at most
    effort: Effort = field(default_factory=Effort)
    carries: tuple[float, ...] = (1.0, 0.5)  # what the pixels are made to carry
    shots: int = 3  # frames that are attacked so, at least two
    strangers: int = 8  # whose magnitudes are compared
    toy_bits: int = 16
    tries: int = 100


class Suite:
    """Every attack; the gallery is painted and judged once, for all videos."""

    def __init__(self, options: AttackOptions) -> None:
        self.options = options
        self._gallery: Gallery | None = None

    def __call__(self, evidence: Evidence, laboratory: Laboratory) -> list[Attack]:
        """All of them, in the order of the table."""
        found = [*self._on_index(evidence), faces.averaging(evidence.tracks, evidence.painted)]
        found += self._linking(evidence, laboratory)
        found += self._on_pixels(evidence, laboratory)
        found += self._with_gallery(evidence, laboratory)
        return found

    def _on_index(self, evidence: Evidence) -> list[Attack]:
        """Another run of the same video with the same key gives the entries that are replayed."""
        if not evidence.jobs or not isinstance(key := evidence.keys[0], SecretKey):
            return [Attack("keys and index", "need videos made here: leave ANONYMIZED away")]
        if evidence.jobs[0].index is None or evidence.workshop.options.seal == "off":
            return [Attack("keys and index", "need an index with sealed originals: leave --index and --seal away")]
        video, chosen = evidence.videos[0], self.options
        path = index_path(video)
        again = make(evidence.clip, evidence.folder / "again.mkv", key, evidence.workshop, evidence.plan).output
        return [
            index.random_keys(path, chosen.tries),
            index.near_keys(path, key),
            index.brute_force(path, chosen.toy_bits),
            index.tampering(path, video, key, index_path(again)),
            index.independence(key),
        ]

    def _linking(self, evidence: Evidence, laboratory: Laboratory) -> list[Attack]:
        """The first and the second half of the video are two videos of one person."""
        if not evidence.jobs:
            return []
        first, second = _halves(evidence, laboratory)
        if not (first and second):
            return [Attack("two videos under one key", "a face is seen in one half of the video only")]
        return [faces.linking(first, second)]

    def _on_pixels(self, evidence: Evidence, laboratory: Laboratory) -> list[Attack]:
        """On the track that is seen longest, whether or not this video was made with --carry."""
        track, job = max(evidence.tracks, key=lambda t: len(t.frames)), laboratory.options.job
        if job.method != "diffusion" or len(track.frames) < 2 or not self.options.carries:
            return [Attack("what pixels carry", "needs diffusion and a face in two frames")]
        device = laboratory.generating.device
        try:
            generator, carrier, _ = load_carrier(job.model, device=device, batch_size=self.options.shots)
        except ModelError as error:
            return [Attack("what pixels carry", str(error))]
        bench = Bench(carrier, generator.code_size, laboratory.judges.recognizer, Descent())
        shots = shots_of(evidence.clip, evidence.plan, track, generator.template, generator.size, self.options.shots)
        gallery = self._painted_gallery(laboratory).sitters[: self.options.strangers] if self.options.gallery else ()
        return [attack for carry in self.options.carries for attack in pixels.attacks(bench, shots, gallery, carry)]

    def _with_gallery(self, evidence: Evidence, laboratory: Laboratory) -> list[Attack]:
        if self.options.gallery is None:
            return [Attack("gallery, parrot, reconstruction", "need pictures of people: give --gallery")]
        gallery = self._painted_gallery(laboratory)
        soft = [track.seen.embeddings for track in evidence.blurred]
        pairs = (gallery.original, gallery.painted, gallery.blurred)
        return [
            faces.gallery_match(evidence.tracks, evidence.painted[0], soft, gallery),
            faces.parrot(evidence.painted, soft, gallery),
            rebuild.rebuilding(
                pairs,
                evidence.tracks,
                evidence.painted[0],
                evidence.blurred,
                laboratory.judges.recognizer,
                self.options.effort,
            ),
        ]

    def _painted_gallery(self, laboratory: Laboratory) -> Gallery:
        if self._gallery is None:
            assert self.options.gallery is not None  # noqa: S101 - asked for only then
            generator = getattr(laboratory.generating.method, "generator", None)
            if generator is None:
                raise PlanError("the gallery's faces are painted by diffusion; leave --method away")
            sitters = seated(pictures_of(self.options.gallery), self.options.people, generator, laboratory)
            self._gallery = Gallery.of(sitters, generator, laboratory.judges)
        return self._gallery


def pictures_of(folder: Path) -> Iterable[Image]:
    """The pictures in `folder`, by name, RGB. Raises PlanError where there are none."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES) if folder.is_dir() else []
    if not paths:
        raise PlanError(f"no pictures in {folder}; give a folder with {', '.join(PICTURES)}")
    read = (cv2.imread(str(path), cv2.IMREAD_COLOR) for path in paths)
    return (np.ascontiguousarray(picture[..., ::-1]) for picture in read if picture is not None)


def seated(pictures: Iterable[Image], most: int, generator: FaceGenerator, laboratory: Laboratory) -> list[Sitter]:
    """The first `most` pictures with a face. Raises PlanError where there is not one."""
    found = (seat(picture, laboratory.judges.detector, laboratory.judges.landmarker, generator) for picture in pictures)
    sitters = list(islice((sitter for sitter in found if sitter is not None), most))
    if not sitters:
        raise PlanError("no face found in any picture of the gallery; give portraits")
    return sitters


def _halves(evidence: Evidence, laboratory: Laboratory) -> tuple[Sequence[Watched], Sequence[Watched]]:
    count = evidence.plan.video.frames // 2
    seen: list[Sequence[Watched]] = []
    for number, first in enumerate((0, count)):
        part = excerpt(evidence.clip, evidence.folder, first, count, f"half{number}")
        plan = evidence.workshop.analyze(part)
        video = evidence.folder / f"half{number}-anonymized.mkv"
        make(part, video, evidence.keys[0], evidence.workshop, plan)
        seen.append(watch(video, plan, laboratory.judges))
    return seen[0], seen[1]
