"""The seams: what a detector, a landmarker, a recognizer and a face generator must offer. Knows no file, key or video.

Randomness reaches a generator only through its inputs (`code`, `noise`), one per face; nothing may depend on a face's
place in a batch, on the process, or on the clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from revisage.pipeline.pixels import Mask
from revisage.pipeline.types import CropTemplate, FaceDetection, Float, Gray, Image


@runtime_checkable
class Detector(Protocol):
    """Finds faces in a picture of any size."""

    @property
    def name(self) -> str:
        """What `doctor`, the plan and the report call it."""

    def detect(self, picture: Image) -> list[FaceDetection]:
        """Faces in `picture` (H, W, 3) uint8 RGB, in its pixels, best score first."""


@runtime_checkable
class Landmarker(Protocol):
    """Turns five points into dense landmarks."""

    def locate(self, picture: Image, points: Sequence[Float]) -> list[tuple[Float, float]]:
        """For each (5, 2) in `picture`: landmarks (LANDMARK_COUNT, 2) float32 in its pixels, and confidence 0..1."""


@runtime_checkable
class Recognizer(Protocol):
    """Maps a face to a vector; the cosine of two vectors says whether they are one person."""

    @property
    def threshold(self) -> float:
        """Cosine at and above which two faces count as one person."""

    @property
    def mean_threshold(self) -> float:
        """The same for means over two films, which hold less chance than two faces."""

    def embed(self, picture: Image, points: Float) -> Float:
        """(D,) float32 of unit length for the face at `points` (5, 2) in `picture`."""


@dataclass(frozen=True, slots=True, eq=False)
class FaceRequest:
    """All that a generator may know of one face in one frame. The face itself is not among it."""

    background: Image  # (S, S, 3), the aligned crop with the face removed (mid-grey under the mask)
    mask: Gray  # (S, S), 255 where a face must be painted, 0 where `background` is to be kept
    landmarks: Float  # (LANDMARK_COUNT, 2), in pixels of the crop
    code: Float  # (CODE_SIZE,), who the new face is, by the track's key; what it means is the generator's
    noise: Float  # `FaceGenerator.noise_shape`, standard normal, from the track's key; shared by its frames
    tone: Float | None = None  # (9, 3), light and skin tone as filmed, see `models/tone.py`; None: from `background`


class Casting(Protocol):
    """What is known of an actor without looking at them."""

    @property
    def name(self) -> str:
        """Unique in the cast."""

    @property
    def sex(self) -> str:
        """`female` or `male`, as was asked of whatever made the portrait."""

    @property
    def age(self) -> int:
        """Years, likewise."""

    @property
    def lab(self) -> Float:
        """(3,) mean colour of the skin: CIE L*, a*, b* under D65."""


class Cropped(Protocol):
    """Works on aligned crops of faces, each painted from an identity code and noise."""

    @property
    def template(self) -> CropTemplate:
        """How crops must be aligned."""

    @property
    def size(self) -> int:
        """Side S of its crops, in pixels."""

    @property
    def code_size(self) -> int:
        """How many numbers an identity code has."""

    @property
    def noise_shape(self) -> tuple[int, int, int]:
        """Of the noise that a face starts from: channels, height, width."""


@runtime_checkable
class FaceGenerator(Cropped, Protocol):
    """Paints faces that belong to nobody."""

    def generate(self, requests: Sequence[FaceRequest]) -> list[Image]:
        """One (S, S, 3) uint8 RGB picture per request, whole crop, face painted; any number of requests."""

    @property
    def cast(self) -> Sequence[Casting]:
        """The actors that a code can name; none where codes make faces by themselves."""

    def finish(self, request: FaceRequest, painted: Image, side: int) -> Image:
        """The picture painted for `request` in as much detail as there is: (side, side, 3) uint8, the same crop."""


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """The square of a video's samples that a crop shows: what can be written there, and what is known around it."""

    side: int  # N, at most the crop's; a multiple of the block's rows and columns
    mask: Mask  # (N, N), whole blocks; where the face is to be painted
    surroundings: Float  # (3, N, N) RGB, -1..1; 0 under the mask
    block: tuple[int, int]  # rows and columns of pixels that share one colour; (0, 0): the video is grey


@dataclass(frozen=True, slots=True, eq=False)
class CarryRequest:
    """A face that is to be painted, or was, so that its pixels carry another."""

    face: FaceRequest
    tile: Tile


@dataclass(frozen=True, slots=True, eq=False)
class Inverted:
    """Where a face comes from. Arrays are (3, N, N) float32: grey, then two colours, in the corner, one per block."""

    latent: Float
    noise: Float  # the request's, in the same coordinates
    there: Float  # 1 for every number that there is, 0 elsewhere
    change: float  # how far from solved, relative; not finite where there is no solution


@dataclass(frozen=True, slots=True)
class Descent:
    """The part of sampling that is undone exactly."""

    sigma: float = 0.35  # noise over signal at its lower end: more is more visible, and survives more
    steps: int = 12

    def __post_init__(self) -> None:
        if not (0.02 <= self.sigma <= 10 and 2 <= self.steps <= 500):
            raise ValueError(f"sigma must lie in 0.02..10 and steps in 2..500, not {self.sigma} and {self.steps}")


@runtime_checkable
class FaceCarrier(Protocol):
    """Says which latent a face would come from, and paints what a latent grows into."""

    @property
    def size(self) -> int:
        """Side S of its crops, in pixels."""

    def invert(
        self, requests: Sequence[CarryRequest], pictures: Sequence[Float], descent: Descent, tolerance: float = ...
    ) -> list[Inverted]:
        """Per request, the latent that `regrow` turns into its picture (3, N, N) float32 RGB, -1..1.

        Only what lies under the tile's mask is looked at.
        `tolerance`: the relative change at which a step counts as solved; larger is quicker, and infinity is plain
        DDIM inversion, which solves nothing.
        """

    def regrow(self, requests: Sequence[CarryRequest], latents: Sequence[Float], descent: Descent) -> list[Float]:
        """Per request, the picture (3, N, N) float32 RGB that a latent grows into; not clipped, 0 outside the mask."""
