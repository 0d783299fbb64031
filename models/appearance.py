"""Who a new face is: an identity code becomes skin, brows, eyes and lips, laid over landmarks. Knows no key, no light.

A linear model of appearance (Cootes, Edwards & Taylor, *Active Appearance Models*, PAMI 23(6), 2001): faces are warped
to one shape, light, tone and expression are divided out, and what is left varies along principal components.
`models/train/appearance.py` fits it. What a smile does to cheeks is kept apart, the same for everybody, and drawn as
the face in the film does it: with neutral cheeks a broad smile is a grimace. Drawn into the pose of a frame, a place in
that space tells the diffusion network who to paint; light, skin tone and all that lies between the pixels of this soft
picture are the network's business.

An identity code is 64 independent standard-normal numbers, and people are nothing of the kind: most of their components
are small and a few large, and which ones go together is not left to chance. Drawn as it is, a code is a mask: half a
white moustache, half a child. `Artist.someone` therefore finds the portraits that a code resembles most and mixes them.
"""

from __future__ import annotations

from collections import OrderedDict

import cv2
import numpy as np
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from numpy.typing import NDArray
from torch import Tensor

from revisage.models import layout
from revisage.models.expression import MEASURES, deviations
from revisage.models.warp import places
from revisage.pipeline.types import Float

SIDE = 128  # of the picture in which all faces have one shape, pixels
STRENGTH = 1.3  # root mean square of everybody's look; 0.88 is the portraits' median: nobody is the mean face
CHOOSY = 7.5  # how much more the most alike portraits count: a mix is as if of about two in equal parts
MOST = 0.7  # how far a look departs from the mean face in any place; a hundredth of the portraits' pixels go beyond 0.5
SKIN = 0.25  # the same where there is nothing but skin: more is a stain there, and tells hardly anybody apart
_FEATURES = 0.12, 0.06  # eye distances: how far brows, eyes, nose and lips reach beyond their landmarks, and how softly
_REMEMBERED = 64  # pictures of codes


class Appearance(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Parameters only; `Artist` draws with them."""

    shape: Tensor
    triangles: Tensor
    pixels: Tensor
    mean: Tensor
    basis: Tensor
    usual: Tensor
    expressions: Tensor

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self, code_size: int = 64, pixel_count: int = 1, triangle_count: int = 1, people_count: int = 1
    ) -> None:
        """Zeros. `mean` and `basis` are natural logarithms of a face's colour over its light, RGB, at `pixels`."""
        super().__init__()
        self.register_buffer("shape", torch.zeros(layout.CONTOUR_COUNT, 2))  # in sides, pixel centres at whole pixels
        self.register_buffer("triangles", torch.zeros(triangle_count, 3, dtype=torch.int32))  # landmark numbers
        self.register_buffer("pixels", torch.zeros(pixel_count, dtype=torch.int32))  # row * SIDE + column
        self.register_buffer("mean", torch.zeros(pixel_count, 3))
        self.register_buffer("basis", torch.zeros(code_size, pixel_count, 3))
        # Expressions are counted as in `models/expression.py`: the mean and the deviation of each, and what it does.
        self.register_buffer("usual", torch.zeros(2, len(MEASURES)))
        self.register_buffer("expressions", torch.zeros(len(MEASURES), pixel_count, 3))
        self.register_buffer("people", torch.ones(people_count, code_size))  # looks of portraits, as components

    @classmethod
    def of(
        cls,
        shape: Float,
        triangles: NDArray[np.int32],
        pixels: NDArray[np.int32],
        mean: Float,
        basis: Float,
        people: Float,
        usual: Float,
        expressions: Float,
    ) -> Appearance:
        """From arrays: `shape` (135, 2) in pixels, (F, 3), (P,), (P, 3), (code size, P, 3), (N, code size), (2, 3),
        (3, P, 3)."""
        made: Appearance = cls(len(basis), len(pixels), len(triangles), len(people))
        for name, array in (
            ("shape", shape[: layout.CONTOUR_COUNT] / SIDE),
            ("triangles", triangles),
            ("pixels", pixels),
            ("mean", mean),
            ("basis", basis),
            ("people", people),
            ("usual", usual),
            ("expressions", expressions),
        ):
            getattr(made, name).copy_(torch.from_numpy(np.asarray(array)))
        return made


class Artist:
    """Draws faces of an `Appearance`."""

    def __init__(self, appearance: Appearance, skin: float = SKIN) -> None:
        self._shape: Float = (appearance.shape.float() * SIDE).cpu().numpy()
        triangles: NDArray[np.int32] = appearance.triangles.cpu().numpy()
        self._triangles = triangles[~_between_lips(triangles)]
        self._pixels = appearance.pixels.cpu().numpy()
        self._mean: Float = appearance.mean.float().cpu().numpy()
        self._basis: Float = appearance.basis.float().cpu().numpy()
        self._usual: Float = appearance.usual.float().cpu().numpy()
        self._expressions: Float = appearance.expressions.float().cpu().numpy()
        people: Float = appearance.people.float().cpu().numpy()
        self._people = people
        self._directions = people / np.maximum(np.linalg.norm(people, axis=1, keepdims=True), 1e-6)
        features = _features(self._shape).reshape(-1, 1)[self._pixels]
        self._most: Float = skin + (MOST - skin) * features
        self._drawn: OrderedDict[bytes, Float] = OrderedDict()

    def someone(self, code: Float) -> Float:
        """Who a drawn code (code size,) is: a look of the same size, of the same strength for everybody.

        The portraits, mixed by their `shares`. A small change of a code is a small change of the look. What is left of
        many portraits is little more than the mean face, at full strength a caricature; so the mix is of few.
        """
        mixed = self.shares(code) @ self._people
        return np.asarray(mixed * (STRENGTH / max(float(np.sqrt(np.square(mixed).mean())), 1e-6)), np.float32)

    def shares(self, code: Float) -> Float:
        """How much of each portrait (N,) there is in whom a drawn code (code size,) is; they sum to 1.

        One step of retrieval from a modern Hopfield network (Ramsauer et al., *Hopfield Networks is All You Need*,
        ICLR 2021, equation 3).
        """
        alike = CHOOSY * (self._directions @ np.asarray(code, np.float32))
        shares = np.exp(alike - alike.max())
        return np.asarray(shares / shares.sum(), np.float32)

    def portrait(self, code: Float) -> Float:
        """(SIDE, SIDE, 3) float32 of a look (code size,): logarithms of colour over light, in the mean shape.

        Kept within `MOST` of the mean face, and on plain skin within `SKIN`, softly: fringes, white beards, shadows and
        shine add up to stains when people are mixed.
        """
        key = np.asarray(code, np.float32).tobytes()
        if key not in self._drawn:
            picture = np.zeros((SIDE * SIDE, 3), np.float32)
            departure = np.tensordot(np.asarray(code, np.float32), self._basis, 1)
            picture[self._pixels] = self._mean + self._most * np.tanh(departure / self._most)
            self._drawn[key] = picture.reshape(SIDE, SIDE, 3)
            if len(self._drawn) > _REMEMBERED:
                self._drawn.popitem(last=False)
        return self._drawn[key]

    def doing(self, expression: Float) -> Float:
        """(SIDE, SIDE, 3) float32 of an expression (3,), to be added to anybody's portrait."""
        picture = np.zeros((SIDE * SIDE, 3), np.float32)
        picture[self._pixels] = np.tensordot(deviations(expression, self._usual), self._expressions, 1)
        return picture.reshape(SIDE, SIDE, 3)

    def draw(self, code: Float, expression: Float, landmarks: Float, size: int) -> Float:
        """Both over `landmarks` (135, 2) of a crop: (size, size, 3) float32, 0 where the face is not.

        Nor between the lips: what is there is teeth, and in the mean shape one dark line that would be drawn over them.
        """
        x, y = places(landmarks, self._shape, self._triangles, size)
        picture = self.portrait(code) + self.doing(expression)
        drawn: Float = cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(0, 0, 0))
        return drawn


def _features(shape: Float) -> Float:
    """(SIDE, SIDE) float32: 1 where brows, eyes, nose and lips are in `shape` (135, 2), 0 where there is but skin."""
    reach, soft = (share * float(layout.interocular(shape)) for share in _FEATURES)
    features = np.zeros((SIDE, SIDE), np.uint8)
    for parts in (
        (layout.BROW_LEFT, layout.EYE_LEFT),
        (layout.BROW_RIGHT, layout.EYE_RIGHT),
        (layout.NOSE_BRIDGE, layout.NOSTRILS),
        (layout.LIPS_OUTER,),
    ):
        points = np.concatenate([shape[part] for part in parts]).round().astype(np.int32)
        part = cv2.fillConvexPoly(np.zeros_like(features), cv2.convexHull(points), 1)
        features |= cv2.dilate(part, np.ones((int(reach) | 1, int(reach) | 1), np.uint8))
    blurred: Float = cv2.GaussianBlur(features.astype(np.float32), (0, 0), soft)
    return blurred


def _between_lips(triangles: NDArray[np.int32]) -> NDArray[np.bool_]:
    """(F,), for landmark numbers (F, 3)."""
    lips = layout.LIPS_INNER
    return np.asarray(((triangles >= lips.start) & (triangles < lips.stop)).all(axis=1))
