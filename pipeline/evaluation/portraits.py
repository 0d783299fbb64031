"""Still pictures of people, painted exactly as frames of a video are. Knows no file, no key and no judge.

Who the new face is comes in as a `Likeness`; `numbered` makes such from a number, for tests that anybody can repeat.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import cv2
import numpy as np

from revisage.models.base import Detector, FaceGenerator, FaceRequest, Landmarker
from revisage.models.latents import identity_code, standard_normal
from revisage.pipeline import composite
from revisage.pipeline.actors import assign
from revisage.pipeline.analyze import tone_of
from revisage.pipeline.composite import Likeness, PlacedFace
from revisage.pipeline.matte import Mattes
from revisage.pipeline.pixels import Mask, PixelFormat, Planes, blend, pixel_format
from revisage.pipeline.types import Float, Image, Origin, Plan, Track, TrackedFace, VideoInfo

LARGEST = 512  # pictures are scaled down to this longest side


@dataclass(frozen=True, slots=True, eq=False)
class Sitter:
    """One person in one picture, found and placed as in a frame of a video."""

    picture: Image
    face: PlacedFace
    tracked: TrackedFace
    landmarks: Float  # (135, 2) in pixels of the picture
    covered: Mask  # (H, W), where the face may be: what the generator does not see
    hidden: Mask  # (H, W), every pixel that a new face changes


def seat(picture: Image, detector: Detector, landmarker: Landmarker, generator: FaceGenerator) -> Sitter | None:
    """The best face in `picture` as pass 1 would have it; None where none is found."""
    scale = min(1.0, LARGEST / max(picture.shape[:2]))
    if scale < 1:
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    height, width = picture.shape[:2]
    best = next(iter(detector.detect(picture)), None)
    if best is None:
        return None
    ((landmarks, _),) = landmarker.locate(picture, [best.points])
    light = tone_of(picture, landmarks)
    face = TrackedFace(0, best.box, best.points, Origin.DETECTED, best.score, landmarks, light)
    placed = composite.place(1, face, generator.template, generator.size, _format(), width, height)
    if placed is None:
        return None
    placed = Mattes().trimmed(placed, picture, 0.0, _format())
    covered = composite.covered_pixels([placed], _format(), width, height)
    hidden = composite.hidden_pixels([placed], width, height)
    return Sitter(picture, placed, face, landmarks, covered, hidden)


def numbered(number: int, generator: FaceGenerator) -> Likeness:
    """Face number `number`. SHAKE-256 stands in for the vault's streams: a number is no secret."""
    noise = standard_normal(lambda count: _stream(number, "noise", count), generator.noise_shape)
    return Likeness(_code(number, 0, generator.code_size), noise)


def _code(number: int, draw: int, size: int) -> Float:
    return identity_code(lambda count: _stream(number, f"identity {draw}" if draw else "identity", count), size)


def _stream(number: int, purpose: str, count: int) -> bytes:
    return hashlib.shake_256(f"revisage test face {number} {purpose}".encode()).digest(count)


def cast(sitter: Sitter, number: int, generator: FaceGenerator) -> Likeness:
    """Face number `number` as a film would be cast with it: of its draws the first whose actor fits the sitter."""
    track = Track(1, (sitter.tracked,))
    likeness = numbered(number, generator)
    height, width = sitter.picture.shape[:2]
    info = VideoInfo(width, height, Fraction(1), "gbrp", 1, "")
    plan = assign(Plan(info, (track,), ""), lambda t: _code(number, t.draw, generator.code_size), generator.cast)
    return replace(likeness, code=_code(number, plan.tracks[0].draw, generator.code_size))


def paint(sitters: Sequence[Sitter], likenesses: Sequence[Likeness], generator: FaceGenerator) -> list[Image]:
    """Every sitter with their likeness, whole pictures."""
    requests = [request(sitter, who, generator.size) for sitter, who in zip(sitters, likenesses, strict=True)]
    rough = generator.generate(requests)
    rows = zip(sitters, requests, rough, strict=True)
    return [finished(sitter, generator.finish(r, crop, composite.side_for(sitter.face))) for sitter, r, crop in rows]


def request(sitter: Sitter, who: Likeness, size: int) -> FaceRequest:
    """What the generator is asked."""
    return composite.request_for(sitter.face, who, _planes(sitter.picture), _format(), sitter.covered, size)


def finished(sitter: Sitter, crop: Image) -> Image:
    """The sitter's picture with a generated `crop` in it."""
    planes = _planes(sitter.picture)
    return _with_tile(sitter, planes, composite.fit_into(crop, sitter.face, planes, _format(), sitter.hidden))


def blurred(sitter: Sitter) -> Image:
    """The same picture under the method `blur`, for comparison."""
    planes = _planes(sitter.picture)
    return _with_tile(sitter, planes, composite.blurred(sitter.face, planes, _format()))


def _with_tile(sitter: Sitter, planes: Planes, tile: Float) -> Image:
    blend(planes, _format(), sitter.face.region.rect, tile, sitter.face.region.alpha)
    green, blue, red = planes
    return np.ascontiguousarray(np.stack([red, green, blue], -1))


def _planes(picture: Image) -> Planes:
    return [np.ascontiguousarray(picture[..., channel]) for channel in (1, 2, 0)]


def _format() -> PixelFormat:
    return pixel_format("gbrp", 0, 0, 1)
