"""Family `inpaint`: an actor drawn into the pose, and a pixel-space `UNet2DModel` that harmonises it. Knows no key.

    actor ─► drawn over the landmarks ─► lit by the film's tone ──────────────► finished at the size of the film's face
                  └─► seen by the network, with what surrounds the face ─► painted small ─┘ (light, borders, mouth)

The network sees the picture with the face removed and its tone in its place, the mask, a drawing of the landmarks, the
actor over them, and noise; it predicts the clean picture, which a `Refiner` finishes. What it says of light is laid
over the actor's own detail, which no network has touched; see `Inpaint.finish`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, UNet2DModel
from torch import Tensor

from revisage.models import layout, reenact, tone
from revisage.models.base import FaceRequest
from revisage.models.cast import Cast, Mouth
from revisage.models.conditioning import INTEROCULAR, draw_landmarks, face_mask
from revisage.models.device import Device
from revisage.models.family import Scene, scaled, stacked
from revisage.models.folder import InpaintSpec, network, scheduler
from revisage.models.latents import named
from revisage.models.quick import SplitInput, quickened
from revisage.models.reenact import Drawn, Face, Inside
from revisage.models.refiner import Refiner
from revisage.pipeline.types import Float, Image

_FADE = 0.05  # eye distances beyond the oval, where an actor ends
_MOST = 0.9  # of a look
_DRAWN = 0.15  # eye distances beyond the oval, how far an actor's skin goes on
_BROAD = 0.045  # of a side: what of the network's light is broader than this is laid over an actor's detail
_CHANGE = 0.3  # most that the network changes light by, as a logarithm
_TINTED = 0.2  # of its change of hue: the tone is known better than it can guess
# Mouths of the bank that smile: how far open, and at least how wide; distances of the eye centres.
_SMILE, _WIDE = (0.14, 0.21), 0.75
_REMEMBERED = 32  # actors


class Inpaint:
    """See `Family`. Samples are pixels: encoding and decoding change nothing."""

    def __init__(self, spec: InpaintSpec, folder: Path, device: Device) -> None:
        """Raises ModelError when the folder is incomplete."""
        self.spec = spec
        self.noise_shape = (3, spec.size, spec.size)
        self._device = device
        self._unet: UNet2DModel = network(UNet2DModel, folder / "unet", device)
        self._input = SplitInput(self._unet.conv_in, 3 * spec.patch**2)
        self._unet.conv_in = self._input
        quickened(self._unet, device)
        self._refiner: Refiner = quickened(network(Refiner, folder / "refiner", device), device)
        cast = Cast.load(folder / "cast")
        self.cast = cast.actors
        smiles = [m for m in cast.mouths if _SMILE[0] <= m.opening <= _SMILE[1] and m.width >= _WIDE]
        self._mouths = [_inside(mouth) for mouth in smiles or cast.mouths]
        self._face = lru_cache(maxsize=_REMEMBERED)(self._prepared)
        self.alphas: Tensor = scheduler(DDIMScheduler, folder / "scheduler").alphas_cumprod

    def encode(self, pictures: Tensor) -> Tensor:
        """See `Family.encode`."""
        return pictures

    def decode(self, samples: Tensor) -> Tensor:
        """See `Family.decode`."""
        return samples

    def scene(self, batch: Sequence[FaceRequest]) -> Scene:
        """See `Family.scene`. The noise loses its lowest frequencies where the folder says so."""
        seen, look = self.conditions(batch)
        constant = self._input.split(self._patches(torch.cat([seen, look], dim=1)))
        seen, look = seen.to(self._device.dtype), look.to(self._device.dtype)

        def denoise(x: Tensor, t: int) -> Tensor:
            coarse = self._unet(torch.cat([self._patches(x), constant], dim=1), t).sample
            finished: Tensor = self._refiner(coarse, x.to(self._device.dtype), seen, look)
            return finished.float()

        noise = stacked([r.noise for r in batch], self._device)
        return Scene(calmed(noise, self.spec.calm), denoise)

    def conditions(self, batch: Sequence[FaceRequest]) -> tuple[Tensor, Tensor]:
        """Float32: the picture with the face removed, the mask and the drawing (B, 7, S, S); the look (B, 3, S, S)."""
        size = self.spec.size
        faces = [self.face(request) for request in batch]
        shapes = [reenact.proportioned(r.landmarks, face) for r, face in zip(batch, faces, strict=True)]
        pictures = stacked([filled(r.background, r.mask, r.tone, r.landmarks) for r in batch], self._device)
        masks = stacked([r.mask for r in batch], self._device)
        drawings = stacked([draw_landmarks(shape, size) for shape in shapes], self._device)
        rows = zip(faces, shapes, batch, strict=True)
        drawn = [reenact.draw(face, shape, size, request.tone) for face, shape, request in rows]
        looks = [look_of(one.detail, shape) for one, shape in zip(drawn, shapes, strict=True)]
        seen = scaled(torch.cat([pictures, masks[..., None], drawings], dim=-1))
        return seen, stacked(looks, self._device).permute(0, 3, 1, 2)

    def finish(self, request: FaceRequest, painted: Image, side: int) -> Image:
        """`painted` (S, S, 3) uint8 with the actor's own detail: (side, side, 3) uint8, the same crop.

        Where the actor is drawn, its detail under the film's tone, or, without one, under the tone of what was painted;
        what is painted adds the light that it found, broadly. Elsewhere the paint, enlarged.
        """
        size, face = self.spec.size, self.face(request)
        scale = side / size
        landmarks = _scaled(request.landmarks, scale)
        shape = reenact.proportioned(landmarks, face)
        light = request.tone if request.tone is not None else tone.read(painted, request.landmarks)
        if light is None:
            return np.asarray(_enlarged(painted, side), np.uint8)
        drawn = reenact.draw(face, shape, side, light)
        lit = reenact.lit(drawn, tone.surface(light, landmarks, side))
        lit *= _enlarged(self._harmony(painted, lit, drawn, shape, side), side)
        share = _drawn_share(drawn, shape, side)[..., None]
        finished = tone.encoded(lit) * share + _enlarged(painted, side).astype(np.float32) * (1 - share)
        return np.asarray(np.clip(np.rint(finished), 0, 255), np.uint8)

    def face(self, request: FaceRequest) -> Face:
        """The actor whom a request's code names."""
        return self._face(named(request.code, len(self.cast)))

    def _prepared(self, number: int) -> Face:
        actor = self.cast[number]
        mouth = self._mouths[number % len(self._mouths)] if self._mouths else None
        return reenact.face_of(actor.texture(), actor.landmarks, actor.iris, mouth)

    def _harmony(self, painted: Image, lit: Float, drawn: Drawn, shape: Float, side: int) -> Float:
        """(S, S, 3): by how much the network would change the light on the drawn face, broadly."""
        size = self.spec.size
        small = cv2.resize(lit, (size, size), interpolation=cv2.INTER_AREA)
        weight = cv2.resize(_drawn_share(drawn, shape, side), (size, size), interpolation=cv2.INTER_AREA)[..., None]
        sigma = _BROAD * size
        logs = [np.log(np.maximum(picture, tone.DARKEST)) for picture in (tone.linear(painted), small)]
        change = cv2.GaussianBlur((logs[0] - logs[1]) * weight, (0, 0), sigma)
        change = change / np.maximum(cv2.GaussianBlur(weight, (0, 0), sigma), 1e-2)[..., None]
        grey = change.mean(-1, keepdims=True)
        change = grey + _TINTED * (change - grey)
        return np.asarray(np.exp(_CHANGE * np.tanh(change / _CHANGE)), np.float32)

    def _patches(self, pictures: Tensor) -> Tensor:
        """(B, C, S, S) -> (B, C * patch^2, S / patch, S / patch) in the network's number type."""
        return F.pixel_unshuffle(pictures, self.spec.patch).to(self._device.dtype)


def filled(background: Image, mask: Image, light: Float | None, landmarks: Float) -> Image:
    """(S, S, 3) uint8: a picture with its face removed, and the smooth surface of a tone (9, 3) in the face's place."""
    if light is None:
        return background
    size = len(background)
    surface = np.clip(np.rint(tone.encoded(tone.surface(light, landmarks, size))), 0, 255).astype(np.uint8)
    whole: Image = np.where(mask[..., None] > 0, surface, background)
    return whole


def look_of(detail: Float, landmarks: Float) -> Float:
    """(S, S, 3) float32 of colours over linear light (S, S, 3): what the network is shown of an actor over a face.

    Logarithms in proportion to encoded levels, limited, and fading out beyond the oval of `landmarks` (135, 2).
    """
    size = len(detail)
    share = face_mask(landmarks[layout.OVAL], size, dilate=_FADE)
    soft = cv2.GaussianBlur(share.astype(np.float32) / 255, (0, 0), 0.04 * size)
    logs = np.log(np.maximum(detail, 1e-3)) / np.float32(2.2)
    look: Float = np.clip(logs, -_MOST, _MOST) * soft[..., None]
    return look


def calmed(noise: Tensor, cell: int) -> Tensor:
    """`noise` (B, C, S, S) without its lowest frequencies: the means of `cell` x `cell` pixels, interpolated between.

    They would decide light and tone, which belong to the film; the network paints them as blotches.
    """
    if cell == 0:
        return noise
    means = F.avg_pool2d(noise, cell)
    return noise - F.interpolate(means, scale_factor=cell, mode="bilinear", align_corners=False)


def _inside(mouth: Mouth) -> Inside:
    left, right = mouth.lips[20], mouth.lips[30]
    return reenact.inside_of(
        mouth.picture(), mouth.lips, float(np.linalg.norm(right - left)) / mouth.width, mouth.tooth
    )


def _drawn_share(drawn: Drawn, shape: Float, side: int) -> Float:
    """(side, side): 1 where the actor is to be seen, 0 where the paint is: beyond its outline."""
    unit = INTEROCULAR * side
    hull = face_mask(shape[layout.OVAL], side, dilate=_DRAWN) & (drawn.inside.view(np.uint8) * np.uint8(255))
    soft = cv2.GaussianBlur(hull.astype(np.float32) / 255, (0, 0), max(0.5, 0.03 * unit))
    return np.asarray(soft, np.float32)


def _scaled(landmarks: Float, scale: float) -> Float:
    return np.asarray((landmarks + 0.5) * scale - 0.5, np.float32)


def _enlarged(picture: Float | Image, side: int) -> Float | Image:
    return picture if len(picture) == side else cv2.resize(picture, (side, side), interpolation=cv2.INTER_CUBIC)
