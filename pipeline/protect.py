"""The methods that hide faces: frames with placed faces in, what is to stand in each face's region out, in order.

`diffusion` collects faces over frames and tracks into batches for a generator; the others work frame by frame. Every
method fails closed: a face it cannot make is covered by solid grey, and said. Knows no file and no key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np

from revisage.models.base import Casting, Cropped, FaceGenerator, FaceRequest
from revisage.models.conditioning import FACE_TEMPLATE
from revisage.pipeline import composite
from revisage.pipeline.carry import Carriage
from revisage.pipeline.composite import Likeness, PlacedFace
from revisage.pipeline.pixels import Mask, PixelFormat, Planes
from revisage.pipeline.steady import Steady
from revisage.pipeline.types import CropTemplate, Float, Image

Item = TypeVar("Item")
Prepared = TypeVar("Prepared")
WAITING_FRAMES = 32  # most frames held back while a batch fills; bounds memory
BLANK = 2.0  # grey levels: a painted face whose standard deviation is below this is no face


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One frame on its way: its planes, where its faces are, and masks (H, W) of them, None where there are none."""

    number: int
    planes: Planes
    fmt: PixelFormat
    faces: tuple[PlacedFace, ...]
    covered: Mask | None  # where a face may be: what no generator sees
    hidden: Mask | None  # every pixel that changes
    seconds: float = 0.0  # since the video's first frame


@dataclass(frozen=True, slots=True, eq=False)
class Carried:
    """How the original of one face lives in its pixels."""

    carriage: Carriage
    code: Float  # whose face it lives in
    decibels: float  # PSNR of what comes back from the samples as they go to the encoder


@dataclass(frozen=True, slots=True, eq=False)
class Protected:
    """The same frame with a picture for the rectangle of every face."""

    picture: Picture
    tiles: tuple[Float, ...]  # per face (h, w, 3) float32 RGB 0..255
    failures: tuple[str, ...] = ()  # one line per face that got the fallback
    carried: tuple[Carried | None, ...] = ()  # per face, where its pixels carry the original; () where none do


class Method(Cropped, Protocol):
    """A way to hide faces."""

    @property
    def name(self) -> str:
        """As `--method` has it."""

    def protect(self, pictures: Iterable[Picture], likeness: Callable[[int], Likeness]) -> Iterator[Protected]:
        """Every picture in order; `likeness` gives a track's new face."""


@dataclass(frozen=True, slots=True)
class Obscure:
    """`blur`, `mosaic` and `solid`: from the pixels or from nothing, no likeness needed."""

    name: str
    template: CropTemplate = FACE_TEMPLATE
    size: int = 128
    code_size: int = 1
    noise_shape: tuple[int, int, int] = (1, 1, 1)

    def __post_init__(self) -> None:
        if self.name not in _OBSCURE:
            raise ValueError(f"unknown method {self.name!r}: one of {', '.join(_OBSCURE)}")

    def protect(self, pictures: Iterable[Picture], likeness: Callable[[int], Likeness]) -> Iterator[Protected]:
        """See `Method.protect`."""
        hide = _OBSCURE[self.name]
        for picture in pictures:
            yield Protected(picture, tuple(hide(face, picture.planes, picture.fmt) for face in picture.faces))


_OBSCURE: dict[str, Callable[[PlacedFace, Planes, PixelFormat], Float]] = {
    "blur": composite.blurred,
    "mosaic": composite.pixelated,
    "solid": lambda face, planes, fmt: composite.solid(face),
}
METHODS = ("diffusion", *_OBSCURE)


class ByGenerator:
    """What a `Method` says of the generator that it paints with."""

    __slots__ = ()
    generator: FaceGenerator

    @property
    def template(self) -> CropTemplate:
        """The generator's."""
        return self.generator.template

    @property
    def size(self) -> int:
        """The generator's."""
        return self.generator.size

    @property
    def code_size(self) -> int:
        """The generator's."""
        return self.generator.code_size

    @property
    def noise_shape(self) -> tuple[int, int, int]:
        """The generator's."""
        return self.generator.noise_shape

    @property
    def cast(self) -> Sequence[Casting]:
        """The generator's."""
        return self.generator.cast


def gathered(
    frames: Iterable[Item], prepare: Callable[[Item], list[Prepared]], batch_size: int
) -> Iterator[list[tuple[Item, list[Prepared]]]]:
    """Frames with what `prepare` makes of their faces, in runs of at least `batch_size` faces where there are any.

    No run is longer than `WAITING_FRAMES`.
    """
    waiting: list[tuple[Item, list[Prepared]]] = []
    for frame in frames:
        waiting.append((frame, prepare(frame)))
        faces = sum(len(prepared) for _, prepared in waiting)
        if faces >= batch_size or len(waiting) == WAITING_FRAMES or not faces:
            yield waiting
            waiting = []
    yield waiting


@dataclass(slots=True)
class Diffusion(ByGenerator):
    """`diffusion`: a new face by a generator, batched over frames and tracks."""

    generator: FaceGenerator
    batch_size: int = 8
    name: str = field(default="diffusion", init=False)

    def protect(self, pictures: Iterable[Picture], likeness: Callable[[int], Likeness]) -> Iterator[Protected]:
        """See `Method.protect`. Holds at most `WAITING_FRAMES` frames."""

        def requests(picture: Picture) -> list[FaceRequest]:
            return [self._request(face, picture, likeness) for face in picture.faces]

        steady = Steady()
        for waiting in gathered(pictures, requests, self.batch_size):
            yield from self._painted(waiting, steady)

    def _request(self, face: PlacedFace, picture: Picture, likeness: Callable[[int], Likeness]) -> FaceRequest:
        assert picture.covered is not None  # noqa: S101 - there is a face, so there is a mask
        return composite.request_for(
            face, likeness(face.track), picture.planes, picture.fmt, picture.covered, self.generator.size
        )

    def _painted(self, waiting: Sequence[tuple[Picture, list[FaceRequest]]], steady: Steady) -> Iterator[Protected]:
        painted = iter(self._generate([request for _, requests in waiting for request in requests]))
        for picture, requests in waiting:
            results = [
                result if isinstance(result, str) else self._finished(face, picture, request, result, steady)
                for face, request, result in zip(picture.faces, requests, painted, strict=False)
            ]
            tiles = tuple(_tile(r, face, picture) for r, face in zip(results, picture.faces, strict=True))
            failures = tuple(r for r in results if isinstance(r, str))
            yield Protected(picture, tiles, failures)

    def _finished(
        self, face: PlacedFace, picture: Picture, request: FaceRequest, painted: Image, steady: Steady
    ) -> Image | str:
        calm = steady(face.track, picture.seconds, painted, request)
        try:
            return self.generator.finish(request, calm, composite.side_for(face))
        except Exception as error:  # whatever goes wrong, the face must be covered
            return _reason(error)

    def _generate(self, requests: Sequence[FaceRequest]) -> list[Image | str]:
        """A picture per request, or why there is none. A batch that fails is tried face by face."""
        if not requests:
            return []
        try:
            return [_checked(p, r) for p, r in zip(self.generator.generate(requests), requests, strict=True)]
        except Exception as error:  # whatever goes wrong in a network, the face must be covered
            if len(requests) == 1:
                return [_reason(error)]
            return [result for request in requests for result in self._generate([request])]


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"


def _checked(picture: Image, request: FaceRequest) -> Image | str:
    every = np.s_[::4, ::4]  # a sample of pixels tells
    painted = picture[every][request.mask[every] > 0]
    if painted.size and float(painted.std()) < BLANK:
        return "the generator painted nothing"
    return picture


def _tile(result: Image | str, face: PlacedFace, picture: Picture) -> Float:
    if isinstance(result, str) or picture.hidden is None:
        return composite.solid(face)
    tile = composite.fit_into(result, face, picture.planes, picture.fmt, picture.hidden)
    return tile if bool(np.isfinite(tile).all()) else composite.solid(face)
