"""Attacks that look at the anonymized faces only: averaging, galleries, parrots, linking, on any number of people.

The attacker has the anonymized video, this program, keys of their own, a recognizer, and pictures of people of whom
one may be the person sought. Knows no index.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from revisage.models.base import FaceGenerator
from revisage.models.scoring import SAME_PERSON
from revisage.pipeline.evaluation import measures
from revisage.pipeline.evaluation.films import Watched
from revisage.pipeline.evaluation.judges import Judges, Seen
from revisage.pipeline.evaluation.portraits import Sitter, blurred, numbered, paint
from revisage.pipeline.evaluation.report import Attack
from revisage.pipeline.types import Float


@dataclass(frozen=True, slots=True, eq=False)
class Gallery:
    """People whom the attacker has pictures of, none of whom is in the video; one row a person."""

    sitters: tuple[Sitter, ...]
    original: Seen
    painted: Seen  # what the attacker makes of them, with faces of their own choice
    blurred: Seen

    @classmethod
    def of(cls, sitters: Sequence[Sitter], generator: FaceGenerator, judges: Judges) -> Gallery:
        """Judge the sitters as they are, each painted with another face, and blurred."""
        pictures = paint(sitters, [numbered(1000 + i, generator) for i in range(len(sitters))], generator)
        looks = ([s.picture for s in sitters], pictures, [blurred(s) for s in sitters])
        seen = (
            Seen.joined([judges.look(p, [s.landmarks]) for p, s in zip(look, sitters, strict=True)]) for look in looks
        )
        return cls(tuple(sitters), *seen)


def averaging(original: Sequence[Watched], painted: Sequence[Sequence[Watched]]) -> Attack:
    """The mean embedding of a track, and of all its videos under different keys, against the mean of the original.

    A method that adds independent noise to every frame is undone by it.
    """
    one = [_distance(a.seen.embeddings, b.seen.embeddings) for video in painted for a, b in _both(original, video)]
    many = [
        _distance(track.seen.embeddings, np.concatenate([video[i].seen.embeddings for video in painted]))
        for i, track in enumerate(original)
    ]
    frames = [
        measures.median(measures.paired(a.seen.embeddings, b.seen.embeddings))
        for video in painted
        for a, b in _both(original, video)
    ]
    figures = {
        "same_track_mean": measures.same_person_rate(np.array(one), SAME_PERSON),
        "same_all_keys_mean": measures.same_person_rate(np.array(many), SAME_PERSON),
        "distance_frame": measures.mean(np.array(frames)),
        "distance_track_mean": measures.mean(np.array(one)),
        "distance_all_keys_mean": measures.mean(np.array(many)),
    }
    outcome = (
        f"distance to the original {figures['distance_frame']:.2f} from one frame, {figures['distance_track_mean']:.2f}"
        f" from a track's mean, {figures['distance_all_keys_mean']:.2f} over {len(painted)} keys (one person: 0.6)"
    )
    return Attack("averaging a track", outcome, figures, min(one + many) > SAME_PERSON)


def gallery_match(
    original: Sequence[Watched], painted: Sequence[Watched], soft: Sequence[Float], gallery: Gallery
) -> Attack:
    """Whose original is nearest to an anonymized face: the person's own (another frame), or one of the gallery's?

    `soft` are the embeddings of the same tracks blurred, for comparison.
    """
    people = gallery.original.embeddings
    rank = [
        _own_first(anonymized.seen.embeddings, np.vstack([_enrolled(track), people]))
        for track, anonymized in _both(original, painted)
    ]
    rank_blur = [
        _own_first(rows, np.vstack([_enrolled(track), people])) for track, rows in zip(original, soft, strict=True)
    ]
    return _identification("gallery matching", rank, rank_blur, len(people), "anonymized face among originals")


def parrot(videos: Sequence[Sequence[Watched]], soft: Sequence[Float], gallery: Gallery) -> Attack:
    """The attacker anonymizes everybody with keys of their own and compares anonymized with anonymized faces.

    *Parrot recognition* (Newton, Sweeney, Malin, TKDE 2005, section 4): it undoes what is the same for everybody, such
    as blur. The person's own anonymized face is the one under another key.
    """
    if len(videos) < 2:
        return Attack("parrot", "needs two keys", holds=None)
    people = gallery.painted.embeddings
    rank = [
        _own_first(probe.seen.embeddings, np.vstack([_enrolled(enrolled), people]))
        for enrolled, probe in _both(videos[1], videos[0])
    ]
    rank_blur = [_own_first(rows, np.vstack([rows[:1], gallery.blurred.embeddings])) for rows in soft]
    return _identification("parrot", rank, rank_blur, len(people), "among faces that the attacker anonymized")


def linking(first: Sequence[Watched], second: Sequence[Watched], what: str = "two videos under one key") -> Attack:
    """One person in two videos (or two tracks) under one key: do the new faces give away that it is one person?"""
    distance = np.concatenate(
        [measures.distances(a.seen.embeddings, b.seen.embeddings).reshape(-1) for a in first for b in second]
    )
    rate = measures.same_person_rate(distance, SAME_PERSON)
    outcome = f"{rate:.0%} of the pairs of new faces are judged one person"
    return Attack(what, outcome, {"linked": rate, "distance": measures.median(distance)}, rate <= 0.25)


def _identification(name: str, rank: list[float], rank_blur: list[float], people: int, what: str) -> Attack:
    chance = 1 / (people + 1)
    figures = {
        "rank1": measures.mean(np.array(rank)),
        "rank1_blur": measures.mean(np.array(rank_blur)),
        "chance": chance,
        "gallery": people,
    }
    outcome = (
        f"{what}, the right one of {people + 1} comes first in {figures['rank1']:.0%} "
        f"(blur {figures['rank1_blur']:.0%}, chance {chance:.1%})"
    )
    return Attack(name, outcome, figures, figures["rank1"] <= max(0.1, 5 * chance))


def _both(a: Sequence[Watched], b: Sequence[Watched]) -> list[tuple[Watched, Watched]]:
    return list(zip(a, b, strict=True))


def _enrolled(track: Watched) -> Float:
    """(1, 128), the picture that the attacker has of the person: the first frame."""
    return track.seen.embeddings[:1]


def _own_first(probes: Float, candidates: Float) -> float:
    """Share of probes, those of the enrolled frame's own time aside, to which row 0 is the nearest."""
    later = probes[len(probes) // 4 :]
    return measures.share(measures.distances(later, candidates).argmin(1) == 0)


def _distance(a: Float, b: Float) -> float:
    return float(np.linalg.norm(a.mean(0) - b.mean(0)))
