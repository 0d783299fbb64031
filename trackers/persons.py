"""Which tracks show one person. Owns the grouping of embeddings; knows no recognizer, no pixel and no key.

Without a recognizer there are no embeddings, and nobody is grouped: every track is a person of its own. Clothes, place
and light would say who is who often enough to be believed and not often enough to be trusted: two strangers taken for
one person get one face, and a person who is asked for by name brings a stranger back.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from revisage.pipeline.types import Float
from revisage.trackers.base import Sighting

_FEW = 3  # sightings with an embedding below which a track is too thinly known to be grouped


def likeness(seen: Sequence[Sighting], high: float) -> Float | None:
    """(D,) unit length: the mean embedding of the sure sightings of a track; None where there are too few."""
    known = [s.detection.embedding for s in seen if s.detection.embedding is not None and s.detection.score >= high]
    if len(known) < min(_FEW, len(seen)) or not known:
        return None
    mean = np.mean(known, axis=0)
    unit: Float = (mean / max(float(np.linalg.norm(mean)), 1e-6)).astype(np.float32)
    return unit


def group(likenesses: Sequence[Float | None], spans: Sequence[tuple[int, int]], alike: float) -> list[int | None]:
    """Per track the number of its person, from 1 by first appearance; None where nothing is known of who it is.

    `spans`: first and last frame in which each was seen; two tracks that share a frame are two people, however alike.
    Complete linkage, the most alike first: all tracks of a group are alike, so that no chain of resemblances joins
    strangers.
    """
    groups = [[i] for i, known in enumerate(likenesses) if known is not None]
    pairs = sorted(_pairs(likenesses, alike), reverse=True)
    allowed = {frozenset(pair) for _, *pair in pairs if not _together(spans[pair[0]], spans[pair[1]])}
    for _, a, b in pairs:
        one = next(g for g in groups if a in g)
        other = next(g for g in groups if b in g)
        if one is not other and all(frozenset((i, j)) in allowed for i in one for j in other):
            one += other
            groups.remove(other)
    numbers: list[int | None] = [None] * len(likenesses)
    for number, members in enumerate(sorted(groups, key=min), 1):
        for member in members:
            numbers[member] = number
    return numbers


def _pairs(likenesses: Sequence[Float | None], alike: float) -> list[tuple[float, int, int]]:
    """(cosine, a, b) of all that are alike."""
    known = [i for i, one in enumerate(likenesses) if one is not None]
    if not known:
        return []
    matrix = np.stack([one for one in likenesses if one is not None])
    cosine = matrix @ matrix.T
    rows, columns = np.nonzero(np.triu(cosine >= alike, 1))
    return [(float(cosine[r, c]), known[r], known[c]) for r, c in zip(rows, columns, strict=True)]


def _together(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return a[0] <= b[1] and b[0] <= a[1]
