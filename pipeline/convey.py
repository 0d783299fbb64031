"""The method `diffusion` with `--carry`: new faces whose pixels hold the old ones, each checked before it goes out.

    look ─► invert ─► mix with the key ─► regrow ─► write ─► look again ─► invert ─► unmix ─► regrow ─► compare

Checked is what the encoder will get, samples rounded and all. A face that would not come back, because its fixed point
was not found or too much was lost, is painted from the key's noise alone: its pixels then carry nothing, the seal has
it, and the report says so. What an encoder leaves, `read_back` asks of the finished video. Knows no index and no key:
noise and signs come with each track's `Likeness`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np

from revisage.models.base import CarryRequest, FaceCarrier, FaceGenerator, Inverted
from revisage.models.latents import Veil, certainty, damped, mix, undamped, unmix
from revisage.pipeline import composite
from revisage.pipeline.carry import Carriage, Carry, found, lay_out, look, packed, painting, request_for
from revisage.pipeline.composite import Likeness, PlacedFace
from revisage.pipeline.media import VideoReader
from revisage.pipeline.pixels import Mask, PixelFormat, Planes, blend
from revisage.pipeline.protect import BLANK, ByGenerator, Carried, Picture, Protected, gathered
from revisage.pipeline.types import Float

SOLVED = 1e-4  # relative change of the fixed point's last round, above which no solution was found
WORST = 20.0  # dB of PSNR that must come back
READ_TOLERANCE = 1e-4  # of the fixed point when reading: rounding to samples has cost more long before
COARSE = 4  # steps that tell a right place from a wrong one
CALM = 0.3  # share of the lowest frequencies that a mixed latent keeps


@dataclass(frozen=True, slots=True, eq=False)
class _Ride:
    """One face on its way."""

    face: PlacedFace
    carriage: Carriage
    likeness: Likeness
    veil: Veil
    original: Float  # (3, N, N), as `look` gives it
    request: CarryRequest


@dataclass(frozen=True, slots=True, eq=False)
class _Grown:
    """What became of a face: its new picture, and whether it carries the old one."""

    picture: Float | None  # (3, N, N); None: nothing could be painted
    carries: bool
    failure: str | None = None


@dataclass(slots=True)
class Carrying(ByGenerator):
    """A `Method`."""

    generator: FaceGenerator
    carrier: FaceCarrier
    carry: Carry
    weights: str = ""  # the model's fingerprint, for the index
    batch_size: int = 8
    name: str = field(default="diffusion", init=False)

    def protect(self, pictures: Iterable[Picture], likeness: Callable[[int], Likeness]) -> Iterator[Protected]:
        """See `Method.protect`. Holds at most `WAITING_FRAMES` frames."""
        for waiting in gathered(pictures, lambda picture: self._rides(picture, likeness), self.batch_size):
            yield from self._protected(waiting)

    def _rides(self, picture: Picture, likeness: Callable[[int], Likeness]) -> list[_Ride]:
        """Of every face that can be carried; `_draft` covers the others."""
        height, width = picture.planes[0].shape
        rides = []
        try:
            carriages = lay_out(picture.faces, picture.fmt, width, height, self.size)
        except Exception:  # whatever goes wrong, the faces must be covered
            return []
        for face, carriage in zip(picture.faces, carriages, strict=True):
            with suppress(Exception):
                rides.append(self._ride(face, carriage, likeness(face.track), picture))
        return rides

    def _ride(self, face: PlacedFace, carriage: Carriage, who: Likeness, picture: Picture) -> _Ride:
        if who.veil is None:
            raise ValueError("pixels can carry only under a veil")
        veil, seen = who.veil(picture.number), look(carriage, picture.planes, picture.fmt)
        request = request_for(carriage, seen, picture.fmt, self.size, who.code, veil.noise)
        return _Ride(face, carriage, who, veil, seen, request)

    def _protected(self, waiting: Sequence[tuple[Picture, list[_Ride]]]) -> Iterator[Protected]:
        rides = [ride for _, own in waiting for ride in own]
        grown = iter(self._grown(rides))
        drafts = [_draft(picture, own, [next(grown) for _ in own]) for picture, own in waiting]
        quality = iter(self._checked([check for draft in drafts for check in draft.checks]))
        for draft in drafts:
            decibels = [next(quality) if result.carries else None for result in draft.grown]
            yield from self._final(draft, decibels)

    def _final(self, draft: _Draft, decibels: Sequence[float | None]) -> Iterator[Protected]:
        """The draft, with every face that did not stand the check painted without a load."""
        lost = [i for i, level in enumerate(decibels) if level is not None and not level >= WORST]
        grown = list(draft.grown)
        for i in lost:
            why = f"only {decibels[i]:.0f} dB of it would come back from its pixels"
            grown[i] = self._empty(draft.rides[i], why)
        if lost:
            draft = _draft(draft.picture, draft.rides, grown)
        carried = tuple(
            Carried(ride.carriage, ride.likeness.code, level) if result.carries and level is not None else None
            for ride, result, level in zip(draft.rides, grown, decibels, strict=True)
        )
        left = len(draft.tiles) - len(draft.rides)
        carried += (None,) * left
        failures = tuple(result.failure for result in grown if result.picture is None and result.failure)
        failures += ("no square of pixels can carry it",) * left
        yield Protected(draft.framed, draft.tiles, failures, carried)

    def _grown(self, rides: Sequence[_Ride]) -> list[_Grown]:
        """A picture per face. A batch that fails is tried face by face."""
        if not rides:
            return []
        try:
            return self._regrown(rides, self._inverted(rides, [ride.original for ride in rides]))
        except Exception as error:  # whatever goes wrong in a network, the face must be covered
            if len(rides) == 1:
                message = str(error).splitlines()[0] if str(error) else "no message"
                return [_Grown(None, carries=False, failure=f"{type(error).__name__}: {message}")]
            return [result for ride in rides for result in self._grown([ride])]

    def _regrown(self, rides: Sequence[_Ride], inverted: Sequence[Inverted]) -> list[_Grown]:
        solved = [start.change <= SOLVED for start in inverted]
        amounts = [self.carry.amount if known else 0.0 for known in solved]
        latents = [
            hidden_latent(start, ride.veil, amount)
            for ride, start, amount in zip(rides, inverted, amounts, strict=True)
        ]
        pictures = self.carrier.regrow([ride.request for ride in rides], latents, self.carry.descent)
        return [_judged(*row) for row in zip(rides, pictures, solved, strict=True)]

    def _empty(self, ride: _Ride, why: str) -> _Grown:
        """The face that the key's noise alone grows into."""
        try:
            inverted = self._inverted([ride], [ride.original])
            latents = [hidden_latent(start, ride.veil, 0.0) for start in inverted]
            (picture,) = self.carrier.regrow([ride.request], latents, self.carry.descent)
            result = _judged(ride, picture, False)
        except Exception as error:  # as in `_grown`
            result = _Grown(None, carries=False, failure=type(error).__name__)
        return replace(result, failure=result.failure or why)

    def _checked(self, checks: Sequence[tuple[_Ride, Float]]) -> list[float]:
        """Per face and its written samples, how well it comes back."""
        if not checks:
            return []
        faces = [(ride.request, ride.veil, seen) for ride, seen in checks]
        try:
            back = recovered(self.carrier, self.carry, faces)
        except Exception:  # what cannot be checked does not count as carried
            return [0.0] * len(checks)
        pairs = zip(checks, back, strict=True)
        return [_decibels(ride.carriage.own, picture, ride.original) for (ride, _), picture in pairs]

    def _inverted(self, rides: Sequence[_Ride], pictures: Sequence[Float]) -> list[Inverted]:
        return self.carrier.invert([ride.request for ride in rides], pictures, self.carry.descent)


@dataclass(frozen=True, slots=True, eq=False)
class Specimen:
    """A carried face that will be looked for in the finished video."""

    frame: int
    carried: Carried
    veil: Veil
    original: Float  # (3, N, N), as `look` gives it


def read_back(carrier: FaceCarrier, carry: Carry, specimens: Sequence[Specimen], video: VideoReader) -> list[float]:
    """PSNR, in dB, of every specimen as it comes back from `video`: what its encoder left of the pixels."""
    wanted: dict[int, list[Specimen]] = {}
    for specimen in specimens:
        wanted.setdefault(specimen.frame, []).append(specimen)
    faces: list[tuple[CarryRequest, Veil, Float]] = []
    rows: list[Specimen] = []
    for frame in video.frames():
        for specimen in wanted.get(frame.index, ()):
            carriage = specimen.carried.carriage
            seen = found(carriage, frame.planes, video.pix_fmt)
            request = request_for(
                carriage, seen, video.pix_fmt, carrier.size, specimen.carried.code, specimen.veil.noise
            )
            faces.append((request, specimen.veil, seen))
            rows.append(specimen)
    back = recovered(carrier, carry, faces) if faces else []
    return [_decibels(s.carried.carriage.own, b, s.original) for s, b in zip(rows, back, strict=True)]


def recovered(carrier: FaceCarrier, carry: Carry, faces: Sequence[tuple[CarryRequest, Veil, Float]]) -> list[Float]:
    """What the pixels of faces carry: for each request, veil and picture of its square, the picture as filmed.

    Elements that carry nothing stay as they are seen.
    """
    requests = [request for request, _, _ in faces]
    inverted = carrier.invert(requests, [picture for _, _, picture in faces], carry.descent, READ_TOLERANCE)
    latents = [_shown(start, veil, carry.amount) for start, (_, veil, _) in zip(inverted, faces, strict=True)]
    grown = carrier.regrow(requests, latents, carry.descent)
    return [np.where(request.tile.mask, new, seen) for (request, _, seen), new in zip(faces, grown, strict=True)]


@dataclass(frozen=True, slots=True, eq=False)
class _Draft:
    """A frame as it would be written."""

    picture: Picture
    framed: Picture  # the same with regions that say which pixels change
    rides: Sequence[_Ride]
    grown: Sequence[_Grown]
    tiles: tuple[Float, ...]
    checks: Sequence[tuple[_Ride, Float]]  # faces that carry, and what would be read of them


def _draft(picture: Picture, rides: Sequence[_Ride], grown: Sequence[_Grown]) -> _Draft:
    planes: Planes = [plane.copy() for plane in picture.planes]
    tiles, faces = [], []
    for ride, result in zip(rides, grown, strict=True):
        tile, alpha = _painting(ride, result, picture.fmt)
        tiles.append(tile)
        faces.append(replace(ride.face, region=replace(ride.face.region, alpha=alpha)))
        blend(planes, picture.fmt, ride.face.region.rect, tile, alpha)
    for face in picture.faces:
        if all(face is not ride.face for ride in rides):
            tiles.append(composite.solid(face))
            faces.append(face)
            blend(planes, picture.fmt, face.region.rect, tiles[-1], face.region.alpha)
    carrying = (ride for ride, result in zip(rides, grown, strict=True) if result.carries)
    checks = [(ride, found(ride.carriage, planes, picture.fmt)) for ride in carrying]
    return _Draft(picture, replace(picture, faces=tuple(faces)), rides, grown, tuple(tiles), checks)


def _painting(ride: _Ride, result: _Grown, fmt: PixelFormat) -> tuple[Float, Float]:
    if result.picture is None:
        return composite.solid(ride.face), ride.face.region.touched.astype(np.float32)
    pressed = packed(ride.carriage, result.picture, fmt)
    return painting(ride.carriage, pressed, ride.request.tile.surroundings, ride.face, fmt)


def _judged(ride: _Ride, picture: Float, carries: bool) -> _Grown:
    painted = picture[:, ride.carriage.own]
    if not np.isfinite(painted).all():
        return _Grown(None, carries=False, failure="the generator painted no numbers")
    if painted.size and float(painted.std()) * 127.5 < BLANK:
        return _Grown(None, carries=False, failure="the generator painted nothing")
    why = None if carries else "no latent was found that it comes from"
    return _Grown(picture, carries and painted.size > 0, why)


def _decibels(own: Mask, picture: Float, original: Float) -> float:
    """PSNR over the elements that carry; what is no number counts as grey."""
    error = np.clip(np.nan_to_num(picture[:, own]), -1, 1) - np.clip(original[:, own], -1, 1)
    return float(10 * np.log10(4 / max(float(np.square(error).mean()), 1e-12)))


def hidden_latent(start: Inverted, veil: Veil, amount: float) -> Float:
    """The latent of the new face."""
    mixed = mix(np.nan_to_num(start.latent), start.noise, _signs(start, veil), amount)
    return damped(mixed, start.there, CALM)


def certainties(carrier: FaceCarrier, carry: Carry, faces: Sequence[tuple[CarryRequest, Veil, Float]]) -> list[float]:
    """How surely each face is carried just so, under just this veil; see `certainty` in `models/latents.py`.

    From a coarse inversion, a fifteenth of the work of `recovered`.
    """
    requests = [request for request, _, _ in faces]
    coarse = replace(carry.descent, steps=min(carry.descent.steps, COARSE))
    inverted = carrier.invert(requests, [picture for _, _, picture in faces], coarse, math.inf)
    pairs = zip(inverted, faces, strict=True)
    return [certainty(_shown(start, veil, carry.amount), start.there) for start, (_, veil, _) in pairs]


def _shown(start: Inverted, veil: Veil, amount: float) -> Float:
    """The latent of the old face, of the new one's."""
    mixed = undamped(np.nan_to_num(start.latent), start.there, CALM)
    return unmix(mixed, start.noise, _signs(start, veil), amount)


def _signs(start: Inverted, veil: Veil) -> Float:
    side = start.latent.shape[-1]
    return veil.signs[:, :side, :side]
