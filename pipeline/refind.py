"""How a face was carried that nobody remembers the place of: square, landmarks and box, by what the key's signs say.

    detect ─► squares nearby ─► landmarks nearby ─► recover ─► detect again ─► landmarks nearby

How near a guess is, the signs tell (`certainty` in `models/latents.py`): in a wrong place, or with a wrong key, they
agree with what is found as chance does. Knows no file and no key: veils and codes are given to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from revisage.models import layout
from revisage.models.base import CarryRequest, FaceCarrier
from revisage.models.conditioning import standard_landmarks
from revisage.models.latents import Veil
from revisage.models.looks import overlap
from revisage.pipeline.carry import Carriage, Carry, Square, found, lay_out, request_for, restoration, squares_near
from revisage.pipeline.composite import PlacedFace, place
from revisage.pipeline.convey import certainties, recovered
from revisage.pipeline.pixels import PixelFormat, Planes, blend
from revisage.pipeline.refit import climbed
from revisage.pipeline.types import CropTemplate, Float, Shape, TrackedFace
from revisage.pipeline.vault.label import LabelTrack

CERTAIN = 7.0  # standard deviations from chance; a face of which the signs say less stays hidden
_LIKELY = 4.0  # a place of which they say so much is worth climbing from
_BEFORE, _AFTER = (1.0, 0.6), (0.5,)  # widths of the rounds of climbing, before and after the second look
_BATCH = 8  # guesses of the beginning that are scored at once; it ends with one that is certain
_AGAIN = (0.5,)  # where a frame before has shown how this track's face is mistaken


@dataclass(frozen=True, slots=True, eq=False)
class Seeker:
    """What is the same for all frames of a video."""

    carrier: FaceCarrier
    carry: Carry
    template: CropTemplate
    shape: Shape
    fmt: PixelFormat
    detect: Callable[[Planes, int], list[TrackedFace]]  # samples and number of a frame -> faces that show
    veil: Callable[[int, int], Veil]  # of a track in a stretch of time
    code: Callable[[LabelTrack], Float]

    def placed(self, number: int, face: TrackedFace, planes: Planes) -> PlacedFace | None:
        """See `place` in `pipeline/composite.py`."""
        height, width = planes[0].shape
        return place(number, face, self.template, self.carrier.size, self.fmt, width, height, self.shape)


@dataclass(frozen=True, slots=True, eq=False)
class Guess:
    """One way in which a face might have been carried."""

    track: LabelTrack
    face: TrackedFace
    square: Square
    certainty: float = -np.inf  # what the signs say of it; nothing yet, or it cannot be


@dataclass(frozen=True, slots=True, eq=False)
class Mistake:
    """How a detector sees a new face elsewhere than the old one was, in distances of the eyes."""

    landmarks: Float  # (135, 2)
    box: Float  # (4,)

    @classmethod
    def of(cls, seen: TrackedFace, true: TrackedFace) -> Mistake:
        """The way from one to the other."""
        unit = layout.interocular(_landmarks(seen))
        box = np.array(true.box, np.float32) - np.array(seen.box, np.float32)
        return cls((_landmarks(true) - _landmarks(seen)) / unit, box / unit)

    def mended(self, seen: TrackedFace) -> TrackedFace:
        """The old face, if this mistake is made again."""
        unit = layout.interocular(_landmarks(seen))
        x0, y0, x1, y1 = (np.array(seen.box, np.float32) + unit * self.box).tolist()
        return replace(_shaped(seen, _landmarks(seen) + unit * self.landmarks), box=(x0, y0, x1, y1))


class Scene:
    """One frame and the faces that show in it. `best` finds one, `restore` brings it back."""

    def __init__(self, seeker: Seeker, planes: Planes, frame: int, stretch: int) -> None:
        self._seeker, self._planes, self._frame, self._stretch = seeker, planes, frame, stretch
        seen = [_shaped(face, _landmarks(face)) for face in seeker.detect(planes, frame)]
        placed = [seeker.placed(number, face, planes) for number, face in enumerate(seen)]
        pairs = [(face, there) for face, there in zip(seen, placed, strict=True) if there is not None]
        self.faces = [face for face, _ in pairs]
        self._placed = [there for _, there in pairs]
        self._squares = [squares_near(there, seeker.carrier.size)[0] for there in self._placed]

    def best(self, who: int, wanted: Sequence[LabelTrack], mistakes: dict[int, Mistake]) -> Guess | None:
        """How face `who` was carried, as nearly as the signs tell; None where they do not tell.

        `mistakes` are those of tracks that other frames have shown; this one's is put among them.
        """
        best = self._start(who, wanted, mistakes)
        if best is None or best.certainty < _LIKELY:
            return None
        if best.track.id in mistakes:
            best = self._climbed(who, best, _AGAIN)
        else:
            best = self._looked_again(who, self._climbed(who, best, _BEFORE))
            best = self._climbed(who, best, _AFTER)
        if best.certainty < CERTAIN:
            return None
        mistakes[best.track.id] = Mistake.of(self.faces[who], best.face)
        placed = self._seeker.placed(who, best.face, self._planes)
        if placed is not None:  # what is known better of this face helps those beside it
            self._placed[who], self._squares[who] = placed, best.square
        return best

    def restore(self, guesses: Sequence[tuple[int, Guess]], planes: Planes) -> int:
        """Put what these pixels carry into `planes`, in place; how many of the faces could be."""
        rows = [row for who, guess in guesses if (row := self._row(who, guess)) is not None]
        height, width = planes[0].shape
        pictures = recovered(self._seeker.carrier, self._seeker.carry, [face for _, face in rows]) if rows else []
        back = 0
        for (carriage, _), picture in zip(rows, pictures, strict=True):
            rect, rgb, amount = restoration(carriage, picture, width, height)
            if np.isfinite(rgb).all():
                blend(planes, self._seeker.fmt, rect, rgb, amount)
                back += 1
        return back

    def _start(self, who: int, wanted: Sequence[LabelTrack], mistakes: dict[int, Mistake]) -> Guess | None:
        """The likeliest track, square and landmarks to begin with: the first that is certain, or the best."""
        best: Guess | None = None
        waiting = self._starts(who, wanted, mistakes)
        while batch := [guess for guess, _ in zip(waiting, range(_BATCH), strict=False)]:
            best = max([*self._scored(who, batch), *filter(None, [best])], key=lambda guess: guess.certainty)
            if best.certainty >= CERTAIN:
                break
        return best

    def _starts(self, who: int, wanted: Sequence[LabelTrack], mistakes: dict[int, Mistake]) -> Iterator[Guess]:
        seen = self.faces[who]
        known = [(track, mistakes[track.id].mended(seen)) for track in wanted if track.id in mistakes]
        for track, face in chain(known, ((track, seen) for track in wanted)):
            placed = self._seeker.placed(who, face, self._planes)
            if placed is not None:
                for square in squares_near(placed, self._seeker.carrier.size):
                    yield Guess(track, face, square)

    def _climbed(self, who: int, guess: Guess, widths: Sequence[float]) -> Guess:
        """Landmarks nearby of which the signs say most."""
        for width in widths:

            def score(shapes: Sequence[Float], guess: Guess = guess) -> list[float]:
                tried = [replace(guess, face=_shaped(guess.face, shape)) for shape in shapes]
                return [scored.certainty for scored in self._scored(who, tried)]

            landmarks, certainty = climbed(_landmarks(guess.face), guess.certainty, score, width)
            guess = replace(guess, face=_shaped(guess.face, landmarks), certainty=certainty)
        return guess

    def _looked_again(self, who: int, guess: Guess) -> Guess:
        """The same with box and landmarks of what came back, where the signs say more of these.

        The new face's box is smaller or larger than the old one's, and the box bounds what carries.
        """
        planes = [plane.copy() for plane in self._planes]
        self.restore([(who, guess)], planes)
        near = [face for face in self._seeker.detect(planes, self._frame) if overlap(face.box, guess.face.box) > 0.3]
        if not near:
            return guess
        seen = max(near, key=lambda face: overlap(face.box, guess.face.box))
        old, new = _landmarks(guess.face), _landmarks(seen)
        shapes = [(1 - share) * old + share * new for share in (0.0, 0.5, 1.0)]
        faces = [replace(_shaped(guess.face, shape), box=box) for shape in shapes for box in (guess.face.box, seen.box)]
        tried = self._scored(who, [replace(guess, face=face) for face in faces])
        return max([guess, *tried], key=lambda one: one.certainty)

    def _scored(self, who: int, guesses: Sequence[Guess]) -> list[Guess]:
        """The same guesses, with what the signs say of them."""
        rows = {number: row[1] for number, guess in enumerate(guesses) if (row := self._row(who, guess)) is not None}
        scores = certainties(self._seeker.carrier, self._seeker.carry, list(rows.values())) if rows else []
        result = [replace(guess, certainty=-np.inf) for guess in guesses]
        for number, certainty in zip(rows, scores, strict=True):
            result[number] = replace(guesses[number], certainty=certainty)
        return result

    def _row(self, who: int, guess: Guess) -> tuple[Carriage, tuple[CarryRequest, Veil, Float]] | None:
        """What the carrier wants to know of a guess; None where nothing can be carried so."""
        seeker, (height, width) = self._seeker, self._planes[0].shape
        own = seeker.placed(who, guess.face, self._planes)
        if own is None:
            return None
        placed = [*self._placed[:who], own, *self._placed[who + 1 :]]
        squares = [*self._squares[:who], guess.square, *self._squares[who + 1 :]]
        carriage = lay_out(placed, seeker.fmt, width, height, seeker.carrier.size, squares)[who]
        if not carriage.own.any():
            return None
        seen, veil = found(carriage, self._planes, seeker.fmt), seeker.veil(guess.track.id, self._stretch)
        code = seeker.code(guess.track)
        return carriage, (request_for(carriage, seen, seeker.fmt, seeker.carrier.size, code, veil.noise), veil, seen)


def _landmarks(face: TrackedFace) -> Float:
    """(135, 2), as pass 2 takes them where there are none."""
    return face.landmarks if face.landmarks is not None else standard_landmarks(face.points)


def _shaped(face: TrackedFace, landmarks: Float) -> TrackedFace:
    return replace(face, landmarks=landmarks, points=layout.five_points(landmarks))
