"""The seams: what a detector, a landmarker, a recognizer and a face generator must offer. Knows no file, key or video.

Randomness reaches a generator only through its inputs (`code`, `noise`), one per face; nothing may depend on a face's
place in a batch, on the process, or on the clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

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

    def embed(self, picture: Image, points: Float) -> Float:
        """(D,) float32 of unit length for the face at `points` (5, 2) in `picture`."""


@dataclass(frozen=True, slots=True, eq=False)
class FaceRequest:
    """All that a generator may know of one face in one frame. The face itself is not among it."""

    background: Image  # (S, S, 3), the aligned crop with the face removed (mid-grey under the mask)
    mask: Gray  # (S, S), 255 where a face must be painted, 0 where `background` is to be kept
    landmarks: Float  # (LANDMARK_COUNT, 2), in pixels of the crop
    code: Float  # (CODE_SIZE,), who the new face is; standard normal, from the track's key
    noise: Float  # (3, S, S), standard normal, from the track's key; shared by all frames of the track


@runtime_checkable
class FaceGenerator(Protocol):
    """Paints faces that belong to nobody."""

    @property
    def template(self) -> CropTemplate:
        """How crops must be aligned."""

    @property
    def size(self) -> int:
        """Side S of its crops, in pixels."""

    @property
    def code_size(self) -> int:
        """How many numbers an identity code has."""

    def generate(self, requests: Sequence[FaceRequest]) -> list[Image]:
        """One (S, S, 3) uint8 RGB picture per request, whole crop, face painted; any number of requests."""
