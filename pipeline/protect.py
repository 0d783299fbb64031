"""The methods that hide faces: frames with placed faces in, what is to stand in each face's region out, in order.

`diffusion` collects faces over frames and tracks into batches for a generator; the others work frame by frame. Every
method fails closed: a face it cannot make is covered by solid grey, and said. Knows no file and no key.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
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
        for picture in pictures:
            failures: list[str] = []
            tiles = tuple(obscured(self.name, face, picture, failures) for face in picture.faces)
            yield Protected(picture, tiles, tuple(failures))


_OBSCURE: dict[str, Callable[[PlacedFace, Planes, PixelFormat], Float]] = {
    "blur": composite.blurred,
    "mosaic": composite.pixelated,
    "solid": lambda face, planes, fmt: composite.solid(face),
}
METHODS = ("diffusion", *_OBSCURE)
_FOR_ONE: dict[str, Callable[[PlacedFace, Planes, PixelFormat], Float]] = _OBSCURE | {"coarse": composite.coarse}


def obscured(name: str, face: PlacedFace, picture: Picture, failures: list[str]) -> Float:
    """The tile of one of those methods; solid grey where it fails, and a line more in `failures`."""
    try:
        tile = _FOR_ONE[face.hide or name](face, picture.planes, picture.fmt)
        if np.isfinite(tile).all():
            return tile
        failures.append(f"{name} made no numbers")
    except Exception as error:  # whatever goes wrong, the face must be covered
        failures.append(told(error))
    return composite.solid(face)


def told(error: Exception) -> str:
    """An error in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


@dataclass(frozen=True, slots=True)
class Mixed:
    """A method that leaves to the simple ones every face that is to be hidden by them; see `PlacedFace.hide`.

    Those faces come last, so that nothing is painted over them.
    """

    method: Method

    def protect(self, pictures: Iterable[Picture], likeness: Callable[[int], Likeness]) -> Iterator[Protected]:
        """See `Method.protect`."""
        apart: deque[tuple[PlacedFace, ...]] = deque()

        def own() -> Iterator[Picture]:
            for picture in pictures:
                apart.append(tuple(face for face in picture.faces if face.hide))
                mine = tuple(face for face in picture.faces if not face.hide)
                yield replace(picture, faces=mine) if apart[-1] else picture

        for protected in self.method.protect(own(), likeness):
            yield _with(protected, apart.popleft())


def _with(protected: Protected, others: tuple[PlacedFace, ...]) -> Protected:
    if not others:
        return protected
    picture, failures = protected.picture, list(protected.failures)
    tiles = tuple(obscured(face.hide, face, picture, failures) for face in others)
    carried = (*protected.carried, *[None] * len(others)) if protected.carried or not picture.faces else ()
    whole = replace(picture, faces=picture.faces + others)
    return Protected(whole, protected.tiles + tiles, tuple(failures), carried)


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

        def requests(picture: Picture) -> list[FaceRequest | str]:
            return [self._request(face, picture, likeness) for face in picture.faces]

        steady = Steady()
        for waiting in gathered(pictures, requests, self.batch_size):
            yield from self._painted(waiting, steady)

    def _request(self, face: PlacedFace, picture: Picture, likeness: Callable[[int], Likeness]) -> FaceRequest | str:
        """What to ask the generator for, or why nothing can be asked."""
        assert picture.covered is not None  # noqa: S101 - there is a face, so there is a mask
        try:
            return composite.request_for(
                face, likeness(face.track), picture.planes, picture.fmt, picture.covered, self.generator.size
            )
        except Exception as error:  # whatever goes wrong, the face must be covered
            return told(error)

    def _painted(
        self, waiting: Sequence[tuple[Picture, list[FaceRequest | str]]], steady: Steady
    ) -> Iterator[Protected]:
        asked = [r for _, requests in waiting for r in requests if not isinstance(r, str)]
        painted = iter(self._generate(asked))
        for picture, requests in waiting:
            tiles: list[Float] = []
            failures: list[str] = []
            for face, request in zip(picture.faces, requests, strict=True):
                tile = (
                    request if isinstance(request, str) else self._tile(next(painted), face, picture, request, steady)
                )
                if isinstance(tile, str):
                    failures.append(tile)
                tiles.append(composite.solid(face) if isinstance(tile, str) else tile)
            yield Protected(picture, tuple(tiles), tuple(failures))

    def _tile(
        self, result: Image | str, face: PlacedFace, picture: Picture, request: FaceRequest, steady: Steady
    ) -> Float | str:
        """The painted face as it follows from the track's last one, fitted into the frame; or why it cannot be."""
        assert picture.hidden is not None  # noqa: S101 - there is a face, so there is a mask
        if isinstance(result, str):
            return result
        try:
            followed = steady(face.track, picture.seconds, result, request)
            whole = self.generator.finish(request, followed, composite.side_for(face))
            tile = composite.fit_into(whole, face, picture.planes, picture.fmt, picture.hidden)
        except Exception as error:  # whatever goes wrong, the face must be covered
            return told(error)
        return tile if bool(np.isfinite(tile).all()) else "the painted face has no numbers"

    def _generate(self, requests: Sequence[FaceRequest]) -> list[Image | str]:
        """A picture per request, or why there is none. A batch that fails is tried face by face."""
        if not requests:
            return []
        try:
            return [_checked(p, r) for p, r in zip(self.generator.generate(requests), requests, strict=True)]
        except Exception as error:  # whatever goes wrong in a network, the face must be covered
            if len(requests) == 1:
                return [told(error)]
            return [result for request in requests for result in self._generate([request])]


def _checked(picture: Image, request: FaceRequest) -> Image | str:
    if not np.isfinite(picture).all():
        return "the generator painted no numbers"
    every = np.s_[::4, ::4]  # a sample of pixels tells
    painted = picture[every][request.mask[every] > 0]
    if painted.size and float(painted.std()) < BLANK:
        return "the generator painted nothing"
    return picture
