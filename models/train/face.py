"""Trains `revisage-face`, the embedded generator, from portraits of people who do not exist.

    python -m revisage.models.train.appearance FOLDER --recognizer faceres.json --out START/appearance
    python -m revisage.models.train.face --portraits FOLDER --recognizer faceres.json --start START --run runs/face

Pixel-space diffusion on a patchified crop: 128 x 128 pixels become a 16 x 16 grid of 8 x 8 patches (see `Canvas`), and
the network predicts the clean picture itself (Li & He, *Back to Basics: Let Denoising Generative Models Denoise*, 2025,
on why the clean picture is the target that survives large patches). Who is to be painted it is shown as a picture,
drawn into the pose by `models/appearance.py`: first everybody's own look, read off the portrait, then a drawn one.
Schedule: squared cosine with zero terminal SNR (Lin et al., *Common Diffusion Noise Schedules and Sample Steps are
Flawed*, 2023).
Resumes from `RUN/last.pt`; writes `RUN/contact.png` to look at and the diffusers folder `RUN/export`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, UNet2DModel
from torch import Tensor, nn
from torch.optim import Optimizer

from revisage.models import landmarks, layout, warp
from revisage.models.appearance import Appearance, Artist
from revisage.models.completion import followed
from revisage.models.conditioning import FACE_TEMPLATE, draw_landmarks, face_mask, remove_face
from revisage.models.expression import expression
from revisage.models.inpaint import calmed
from revisage.models.proportions import proportions, reshaped
from revisage.models.refiner import Refiner
from revisage.models.sampler import ddim, trailing
from revisage.models.train.appearance import Mould, read_code
from revisage.models.train.blink import blinked
from revisage.models.train.critic import SHIFT, Augmentation, Critic, FaceFeatures, likeness, realism, verdict_loss
from revisage.models.train.data import Portrait, load_portraits, split
from revisage.models.train.recognizer import Recognizer
from revisage.pipeline import geometry
from revisage.pipeline.types import CropTemplate, Float, Gray, Image

SIZE = 128  # side of the crop in whose pixels lengths are given here
STEPS = 2  # in use
CALM = 4  # see `calmed`; pixels of `SIZE`
PROPORTIONS = 0.8  # see `models/proportions.py`
BLUR = 0.3  # standard deviation of the noise in the code of a picture, so that a code is a place and not a point
MARGIN = 1.5  # portraits are kept as crops this much larger than the template, room for jitter
KEPT = 224  # side of those crops; pixels of `SIZE`
MOUTH = (12, 24)  # pixels of the patch on which mouths are compared, height and width
CERTAIN = 10  # inverse temperature of whom the recognizer sees
OPENINGS = 4  # how much an error of an opening counts beside one of a place
SYLLABLE = 0.12  # how far lips part within a few frames, most of them less; interocular distances
HAZY = 0.4  # share of the portraits with less contrast, as films have it that are flatly lit or taken through a haze
LOUD = 0.4  # share with stronger or weaker colours, in warmer or colder light
COLLARS = 0.35  # share of the portraits whose clothes reach the chin; without them dark clothes meant dark skin
BACKDROPS = 0.4  # share of the portraits whose surroundings are darker or brighter than they were beside the skin
BLINKS = 0.15  # share of the portraits whose eyes are closed, more or less
UNLIKE = 0.08  # share of the portraits left out: what their codes say of them is furthest from what is seen
COVERED = 0.28  # how far beyond the landmarks a face is removed in use, a pixel of the crop included; eye distances
CLOSE, WIDE = (0.2, 0.38), (0.38, 0.6)  # the same in training: as in use, and where pixels carry, which takes the seam
SEAM = 5.6  # how wide the seam around it is in use; pixels of `SIZE`


@dataclass(frozen=True, slots=True)
class Canvas:
    """How large a picture is painted, and with what. All canvases show the same of a face, in as many patches."""

    size: int = SIZE  # S below, side of the crop, pixels
    patch: int = 8  # side, pixels
    channels: tuple[int, int, int] = (128, 192, 256)  # of the U-Net
    width: int = 48  # of the refiner
    critic: tuple[int, ...] = (32, 64, 128, 256)  # channels of its stages, the last one of 8 x 8 cells

    @property
    def unit(self) -> float:
        """Pixels in one of `SIZE`."""
        return self.size / SIZE

    @property
    def calm(self) -> int:
        """`CALM` in pixels."""
        return round(CALM * self.unit)

    def alpha(self, mask: Tensor) -> Tensor:
        """(B, 1, S, S): how much of a picture is painted where `mask` is, which falls off over the seam around it."""
        reach = round(SEAM * self.unit / 2)
        grown = F.max_pool2d(mask, 2 * reach + 1, stride=1, padding=reach)
        return F.avg_pool2d(grown, 2 * reach + 1, stride=1, padding=reach, count_include_pad=False)

    @property
    def kept(self) -> int:
        """`KEPT` in pixels."""
        return round(KEPT * self.unit)


# The larger one is about as quick in use as the smaller; `tests/benchmarks/size.py` compares them.
CANVASES: Mapping[int, Canvas] = {
    128: Canvas(),
    256: Canvas(256, 16, (64, 128, 160), width=16, critic=(16, 32, 64, 128, 256)),
}


@dataclass(frozen=True, slots=True, eq=False)
class Sitter:
    """One portrait as a generous crop."""

    pixels: Image  # (kept, kept, 3) RGB
    landmarks: Float  # (135, 2) in its pixels
    code: Float  # (code size,), who it is


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Tensors of one training step; pictures in -1..1."""

    clean: Tensor  # (B, 3, S, S)
    removed: Tensor  # (B, 3, S, S)
    mask: Tensor  # (B, 1, S, S) in 0..1
    drawing: Tensor  # (B, 3, S, S)
    look: Tensor  # (B, 3, S, S), who is to be painted; logarithms
    points: Tensor  # (B, CONTOURS, 2), where, in sides of the landmark network's crop
    grid: Tensor  # (B, 112, 112, 2), cuts the landmark network's crop out of `clean`, as `F.grid_sample` takes it
    filmed_mouth: Tensor  # (B, *MOUTH, 2), the same for what is around the lips in `clean` ...
    painted_mouth: Tensor  # ... and for where it is to be painted
    between: Tensor  # (B, *MOUTH), 1 between the lips, where there is no skin

    def take(self, rows: slice | Tensor) -> Batch:
        """Some rows, by a slice or by their numbers."""
        return Batch(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One sample before it is a tensor: uint8, RGB."""

    picture: Image  # (S, S, 3)
    mask: Gray  # (S, S), 255 where to paint
    drawing: Image  # (S, S, 3)
    look: Float  # (S, S, 3), logarithms
    points: Float  # (CONTOURS, 2), in sides of the landmark network's crop
    grid: Float  # (112, 112, 2)
    filmed_mouth: Float  # (*MOUTH, 2)
    painted_mouth: Float  # (*MOUTH, 2)
    between: Float  # (*MOUTH)
    landmarks: Float  # (135, 2), in pixels
    code: Float  # (code size,), of whom is to be painted


class Networks(nn.Module):
    """All that is exported and learns."""

    def __init__(self, canvas: Canvas) -> None:
        super().__init__()
        self.canvas = canvas
        self.unet = UNet2DModel(
            sample_size=canvas.size // canvas.patch,
            in_channels=(3 + 3 + 1 + 3 + 3) * canvas.patch**2,
            out_channels=Refiner.channels(canvas.patch),
            block_out_channels=canvas.channels,
            layers_per_block=1,
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=32,
        )
        self.refiner = Refiner(canvas.patch, width=canvas.width)

    def predict(self, noisy: Tensor, batch: Batch, timesteps: Tensor) -> Tensor:
        """Clean picture (B, 3, S, S) predicted from the noisy one."""
        surroundings = torch.cat([batch.removed, batch.mask * 2 - 1, batch.drawing], dim=1)
        patches = F.pixel_unshuffle(torch.cat([noisy, surroundings, batch.look], dim=1), self.canvas.patch)
        return cast(Tensor, self.refiner(self.unet(patches, timesteps).sample, noisy, surroundings, batch.look))


def schedule() -> DDIMScheduler:
    """The schedule of training and use."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        prediction_type="sample",
        clip_sample=False,
        set_alpha_to_one=True,
    )


def alphas() -> Tensor:
    """Cumulative products of the schedule, (1000,) float32."""
    return cast(Tensor, schedule().alphas_cumprod)


def load(
    portraits: Sequence[Portrait], mould: Mould, appearance: Appearance, canvas: Canvas, *, drop: float = 0.0
) -> list[Sitter]:
    """Read, crop and read their codes; without the share `drop` that codes describe worst."""
    with ThreadPoolExecutor(2) as pool:
        read = list(pool.map(lambda portrait: _sitter(portrait, mould, appearance, canvas.kept), portraits))
    limit = np.quantile([unlike for _, unlike in read], 1 - drop)
    return [sitter for sitter, unlike in read if unlike <= limit]


def _sitter(portrait: Portrait, mould: Mould, appearance: Appearance, side: int) -> tuple[Sitter, float]:
    centre = np.asarray(FACE_TEMPLATE.points) - 0.5
    wide = CropTemplate("wide", tuple((x, y) for x, y in centre / MARGIN + 0.5))
    matrix = geometry.align(layout.five_points(portrait.landmarks), wide, side)
    pixels = geometry.crop(portrait.read(), matrix, side)
    code, unlike = read_code(portrait, mould, appearance)
    return Sitter(pixels, geometry.transform(portrait.landmarks, matrix), code), unlike


def sample(portrait: Sitter, artist: Artist, canvas: Canvas, rng: np.random.Generator, *, augment: bool = True) -> Row:
    """A training crop, what is painted of it, the landmark drawing, and who it is."""
    pixels, points, code, size = portrait.pixels, portrait.landmarks, portrait.code, canvas.size
    if augment and rng.random() < 0.5:
        pixels, points = pixels[:, ::-1], layout.mirror(points, canvas.kept)
    matrix = geometry.align(layout.five_points(points), FACE_TEMPLATE, size)
    dilate = COVERED
    if augment:
        matrix = _jitter(rng, size, scale=0.07, turn=8, shift=0.025) @ np.vstack([matrix, [0, 0, 1]]).astype(np.float32)
        dilate = rng.uniform(*(CLOSE if rng.random() < 0.7 else WIDE))
        code = (1 - BLUR**2) ** 0.5 * code + BLUR * rng.standard_normal(len(code))
    picture = geometry.crop(np.ascontiguousarray(pixels), matrix, size)
    points = geometry.transform(points, matrix)
    if augment and rng.random() < BLINKS:
        picture, points = blinked(picture, points, min(1.0, rng.uniform(0.3, 1.3)))
    if augment and rng.random() < COLLARS:
        picture = collared(picture, points, rng)
    if augment and rng.random() < BACKDROPS:
        picture = set_off(picture, points, rng)
    if augment:
        picture = _degrade(_colour(picture, rng, 0.15), canvas, rng)
        points = points + rng.normal(0, rng.uniform(0, 0.6 * canvas.unit), points.shape).astype(np.float32)
    mask = face_mask(points, size, dilate=dilate)
    if augment and rng.random() < 0.25:
        mask |= _ellipse(points, canvas, rng)
    code = np.asarray(code, np.float32)
    return _cast(picture, mask, points, points, code, artist.draw(code, expression(points), points, size))


def recast(row: Row, code: Float, artist: Artist, driven: Float | None = None) -> Row:
    """The same place with somebody else to paint in it, as in use: with that person's proportions.

    The face does what `row.landmarks` do, or others in their place, `driven` (135, 2).
    """
    does = row.landmarks if driven is None else driven
    shape = reshaped(does, proportions(code, PROPORTIONS))
    look = artist.draw(artist.someone(code), expression(does), shape, len(row.picture))
    return _cast(row.picture, row.mask, shape, row.landmarks, code, look)


def moved(row: Row, artist: Artist, canvas: Canvas, rng: np.random.Generator) -> tuple[Row, Float]:
    """The recast `row` a frame later, and where its pixels went (S, S, 2), as `F.grid_sample` takes it.

    The face moves by about a pixel within its crop, its lips by what a syllable takes, its landmarks by what they err,
    and a little more or less hides.
    """
    size = canvas.size
    matrix = _jitter(rng, size, scale=0.015, turn=1.2, shift=0.008)
    picture = cv2.warpAffine(row.picture, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    seen = geometry.transform(row.landmarks, matrix)
    speaking = _speaking(row.landmarks, rng)
    driven = geometry.transform(speaking, matrix) + rng.normal(0, 0.25 * canvas.unit, seen.shape).astype(np.float32)
    mask = face_mask(driven, size, dilate=rng.uniform(*CLOSE))
    later = recast(replace(row, picture=picture, mask=mask, landmarks=seen), row.code, artist, driven)
    before, after = (reshaped(points, proportions(row.code, PROPORTIONS)) for points in (row.landmarks, speaking))
    x, y = warp.places(before, after, warp.standard_triangles(), size)
    went = np.where((x > -1)[..., None], np.stack([x, y], axis=-1), _pixels(size, size))
    return later, _grid_of(went, matrix, size)


def _speaking(points: Float, rng: np.random.Generator) -> Float:
    """`points` (135, 2) with the lower lip a little further down or up, at most until the mouth is shut."""
    upper, lower = layout.facing(layout.LIPS_INNER)
    gaps = points[lower] - points[upper]
    tall, unit = float(np.linalg.norm(gaps, axis=1).max()), float(layout.interocular(points))
    centre = points[layout.LIPS_OUTER].mean(0) - points[layout.EYE_CENTRES].mean(0)
    down = centre / max(float(np.linalg.norm(centre)), 1e-6)
    change = max(rng.normal(0, SYLLABLE) * rng.random() * unit, -tall)
    share = np.sin(np.linspace(0, np.pi, len(lower) + 2, dtype=np.float32)[1:-1])[:, None]
    spoken = points.copy()
    shift = np.where(change < 0, gaps * (change / max(tall, 1e-6)), down * change * share)
    spoken[lower] += shift
    spoken[layout.facing(layout.LIPS_OUTER)[1]] += shift
    return followed(points, spoken)


def _cast(picture: Image, mask: Gray, shape: Float, seen: Float, code: Float, look: Float) -> Row:
    size, upright = len(picture), _landmark_crop(seen)
    points = (geometry.transform(shape[: layout.EYE_CENTRES.start], upright) + 0.5) / landmarks.SIZE
    filmed, painted = _mouth(seen), _mouth(shape)
    lips, wanted = (_grid_of(_pixels(MOUTH[1], MOUTH[0]), matrix, size) for matrix in (filmed, painted))
    grid = _grid_of(_pixels(landmarks.SIZE, landmarks.SIZE), geometry.invert(upright), size)
    between = _between(geometry.transform(seen[layout.LIPS_INNER], geometry.invert(filmed)))
    return Row(picture, mask, draw_landmarks(shape, size), look, points, grid, lips, wanted, between, seen, code)


def _mouth(points: Float) -> Float:
    """(2, 3), from pixels of a patch `MOUTH` into the crop: upright along the inner lips, and filled by them."""
    inner = points[layout.LIPS_INNER]
    left, right = inner[0], inner[len(inner) // 2]
    across = right - left
    length = max(float(np.linalg.norm(across)), 1.0)
    down = np.array([-across[1], across[0]], np.float32) / length
    reach = (inner - left) @ down
    low, high = float(reach.min()), float(max(reach.max(), reach.min() + 1))
    linear = np.stack([across / (MOUTH[1] - 1), down * (high - low) / (MOUTH[0] - 1)], axis=1)
    return np.hstack([linear, (left + low * down)[:, None]]).astype(np.float32)


def _between(lips: Float) -> Float:
    """(*MOUTH) float32: how far each pixel of the patch lies between inner lips at `lips` (20, 2)."""
    inside = np.zeros(MOUTH, np.uint8)
    cv2.fillPoly(inside, [np.round(lips * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return (inside / 255).astype(np.float32)


def _landmark_crop(points: Float) -> Float:
    return geometry.align(layout.five_points(points), landmarks.TEMPLATE, landmarks.SIZE)


def _pixels(width: int, height: int) -> Float:
    """(height, width, 2): x and y of every pixel."""
    across, down = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
    return np.stack(np.meshgrid(across, down), axis=-1)


def _grid_of(pixels: Float, matrix: Float, size: int) -> Float:
    """Where `pixels` (…, 2) lie in a crop of side `size` after `matrix`, from -1 to 1."""
    return (2 * geometry.transform(pixels, matrix) + 1) / size - 1


def collared(picture: Image, points: Float, rng: np.random.Generator) -> Image:
    """A crop (S, S, 3) with clothes up to the chin, of any colour, mostly dark: no neck says what skin is like."""
    size, unit = len(picture), float(layout.interocular(points))
    outline, mask = _shoulders(points, size, rng), np.zeros((size, size), np.uint8)
    cv2.fillPoly(mask, [np.round(outline * 16).astype(np.int32)], 255, cv2.LINE_8, 4)
    share = cv2.GaussianBlur(mask, (0, 0), 0.02 * unit + 0.3).astype(np.float32)[..., None] / 255
    grey = rng.uniform(5, 70) if rng.random() < 0.6 else rng.uniform(20, 230)
    folds = cv2.resize(rng.normal(1, 0.12, (4, 9)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    cloth = (grey + rng.normal(0, 12, 3)) * folds[..., None]
    dressed: Image = np.clip(picture * (1 - share) + cloth * share, 0, 255).astype(np.uint8)
    return dressed


def set_off(picture: Image, points: Float, rng: np.random.Generator) -> Image:
    """A crop (S, S, 3) with hair, clothes and wall of another brightness; skin stays, the neck's and the ears', too.

    In portraits, who has bright skin is before a bright wall more often than not; in films that says nothing.
    """
    size, unit = len(picture), float(layout.interocular(points))
    face = face_mask(points, size, dilate=0.25)
    logs = np.log(cv2.GaussianBlur(picture, (0, 0), 0.7).astype(np.float32) + 12)
    skin = np.median(logs[face_mask(points, size, dilate=0.0) > 0], axis=0)
    lightness = (logs - skin).mean(axis=2)
    colour = np.abs(logs - skin - lightness[..., None]).max(axis=2)
    alike = (np.abs(lightness) < 0.7) & (colour < 0.13)
    kept = cv2.GaussianBlur(np.maximum(face, alike * np.uint8(255)), (0, 0), 0.06 * unit).astype(np.float32) / 255
    gains = np.exp(np.clip(rng.normal(0, 0.5), -1.1, 0.6) + rng.normal(0, 0.05, 3)).astype(np.float32)
    share = kept[..., None]
    changed: Image = np.clip(picture * (share + (1 - share) * gains), 0, 255).astype(np.uint8)
    return changed


def _shoulders(points: Float, size: int, rng: np.random.Generator) -> Float:
    """(N, 2): what is below a line that follows the chin at some distance and falls on both sides."""
    unit, oval = float(layout.interocular(points)), points[layout.OVAL]
    jaw = oval[oval[:, 1] > points[layout.LIPS_OUTER, 1].mean()]
    edge = np.maximum(jaw[np.argsort(jaw[:, 0])], (-np.inf, jaw[:, 1].max() - rng.uniform(0, 0.5) * unit))
    edge[:, 1] += rng.uniform(0.05, 0.4) * unit
    (left, right), out, down = edge[[0, -1]], rng.uniform(0.2, 0.9) * unit, rng.uniform(0.2, 1.0) * unit
    falling = [(left[0] - out, left[1] + down), *edge, (right[0] + out, right[1] + down)]
    beyond, below = 2 * size, 2 * down  # far outside the picture, and the arms' slope
    return np.array([(-size, beyond), (-size, left[1] + below), *falling, (beyond, right[1] + below), (beyond, beyond)])


def _ellipse(points: Float, canvas: Canvas, rng: np.random.Generator) -> Gray:
    low, high = points.min(0), points.max(0)
    centre, half = (low + high) / 2 + rng.normal(0, 3 * canvas.unit, 2), (high - low) / 2 * rng.uniform(1.0, 1.5, 2)
    mask = np.zeros((canvas.size, canvas.size), np.uint8)
    box = (tuple(map(float, centre)), tuple(map(float, 2 * half)), float(rng.normal(0, 5)))
    cv2.ellipse(mask, box, 255, -1)
    return mask


def _jitter(rng: np.random.Generator, size: int, *, scale: float, turn: float, shift: float) -> Float:
    centre = (size - 1) / 2
    matrix = cv2.getRotationMatrix2D((centre, centre), rng.normal(0, turn), float(np.exp(rng.normal(0, scale))))
    matrix[:, 2] += rng.normal(0, shift * size, 2)
    return np.asarray(matrix, np.float32)


def _colour(picture: Image, rng: np.random.Generator, strength: float) -> Image:
    """Gamma, gain, tint, saturation and haze. Codes know none of them: all come from the surroundings."""
    x = picture.astype(np.float32) / 255
    x = x ** np.float32(np.exp(rng.normal(0, strength)))
    x = x * np.exp(rng.normal(0, strength / 2) + rng.normal(0, strength / 3, 3)).astype(np.float32)
    if rng.random() < LOUD:
        grey = x @ np.array([0.299, 0.587, 0.114], np.float32)
        x = grey[..., None] + (x - grey[..., None]) * np.float32(np.exp(np.clip(rng.normal(0, 0.35), -0.8, 0.6)))
        x = x * np.exp(rng.normal(0, 0.06) * np.array([1, 0, -1], np.float32))  # lamps and sunsets
    if rng.random() < HAZY:
        black, white = rng.uniform(0, 0.3), rng.uniform(0.7, 1)
        x = np.float32(black) + np.float32(white - black) * np.clip(x, 0, 1)
    jittered: Image = (np.clip(x, 0, 1) * 255).astype(np.uint8)
    return jittered


def _degrade(picture: Image, canvas: Canvas, rng: np.random.Generator) -> Image:
    """A third of the crops at a lower resolution or with grain, as small and dark faces in video are."""
    if rng.random() < 0.2:
        side = int(rng.uniform(40, 110) * canvas.unit)
        small = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
        picture = cv2.resize(small, (canvas.size, canvas.size), interpolation=cv2.INTER_CUBIC)
    if rng.random() < 0.15:
        grain = rng.normal(0, rng.uniform(1, 8), picture.shape)
        picture = np.clip(picture + grain, 0, 255).astype(np.uint8)
    return picture


def make_batch(rows: Sequence[Row]) -> Batch:
    """Stack samples into tensors."""
    removed = [remove_face(row.picture, row.mask) for row in rows]
    mask = torch.from_numpy(np.stack([row.mask for row in rows])[:, None]).float() / 255
    names = ("look", "points", "grid", "filmed_mouth", "painted_mouth", "between")
    look, *places = (torch.from_numpy(np.stack([getattr(row, name) for row in rows])) for name in names)
    pictures, drawings = ([getattr(row, name) for row in rows] for name in ("picture", "drawing"))
    return Batch(_tensor(pictures), _tensor(removed), mask, _tensor(drawings), look.permute(0, 3, 1, 2), *places)


def _tensor(pictures: Any) -> Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """What one training step learns from: B portraits, D of them painted as somebody else, and those a frame later."""

    batch: Batch  # (B + D + D rows), in this order
    went: Tensor  # (D, S, S, 2), where the lent faces' pixels went
    who: Tensor  # (D, N), how much of each portrait that the appearance knows there is in them


def lessons(
    portraits: list[Sitter], artist: Artist, canvas: Canvas, size: int, lent: int, seed: int
) -> Iterator[Lesson]:
    """Endless and augmented, of `size` portraits and `lent` of them with somebody else to paint.

    The next one is made while this one is learnt.
    """
    rng = np.random.default_rng(seed)

    def rows() -> Lesson:
        chosen = rng.choice(len(portraits), size, replace=False)
        own = [sample(portraits[i], artist, canvas, rng) for i in chosen]
        others = [recast(row, _drawn(rng, portraits[0]), artist) for row in own[:lent]]
        later = [moved(row, artist, canvas, rng) for row in others]
        went, who = [places for _, places in later], [artist.shares(row.code) for row in others]
        batch = make_batch([*own, *others, *(row for row, _ in later)])
        return Lesson(batch, torch.from_numpy(np.stack(went)), torch.from_numpy(np.stack(who)))

    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(rows)
        while True:
            ready, coming = coming.result(), pool.submit(rows)
            yield ready


def _drawn(rng: np.random.Generator, like: Sitter) -> Float:
    return rng.standard_normal(len(like.code)).astype(np.float32)


def draw_timesteps(count: int, mean: float, std: float, end: float) -> Tensor:
    """Logit-normal towards high noise; a share `end` at the very end, where the face is decided from nothing."""
    t = torch.sigmoid(torch.randn(count) * std + mean) * 999
    return torch.where(torch.rand(count) < end, torch.full_like(t, 999), t).round().long()


@dataclass(frozen=True, slots=True, eq=False)
class Painted:
    """What the painter made of a batch."""

    batch: Batch
    picture: Tensor  # (B + D, 3, S, S), what was there outside the mask and its seam
    predicted: Tensor  # the same, with the network's own pixels everywhere
    alpha: Tensor  # (B + D, 1, S, S), how much of the one is the other
    known: int  # B, rows that show whom they are to show


def painted(nets: Networks, batch: Batch, table: Tensor, args: argparse.Namespace) -> Painted:
    """One pass: most own faces at random timesteps; the others, and all of somebody else, at the steps of use.

    Those after the first start from what the network itself made of the noise (Yin et al., *Improved Distribution
    Matching Distillation*, 2024, section 4.5). With pictures given instead, it takes its own errors for detail and adds
    to them: one step looked right then, and two were burnt.
    """
    count, total = args.batch, len(batch.clean)
    steps = torch.tensor(trailing(STEPS))
    used = steps[torch.arange(total) % len(steps)]
    free = (torch.rand(total) >= args.time_used) & (torch.arange(total) < count)
    t = torch.where(free, draw_timesteps(total, args.time_mean, args.time_std, args.time_end), used)
    signal, noise_level = table[t].sqrt()[:, None, None, None], (1 - table[t]).sqrt()[:, None, None, None]
    noise = torch.randn_like(batch.clean)
    noise[total - args.lent :] = noise[count : total - args.lent]  # a frame later, the same person
    # In use noise is calm, and nothing else is known at the start.
    calm = (torch.rand(total) < 0.5) & (t == 999) | ~free
    noise = torch.where(calm[:, None, None, None], calmed(noise, nets.canvas.calm), noise)
    clean = batch.clean.clone()
    (later,) = torch.nonzero(~free & (t < 999), as_tuple=True)
    with torch.no_grad():
        clean[later] = nets.predict(noise[later], batch.take(later), torch.full_like(later, 999)).float()
    predicted = nets.predict(signal * clean + noise_level * noise, batch, t).float()
    alpha = nets.canvas.alpha(batch.mask)
    return Painted(batch, predicted * alpha + batch.clean * (1 - alpha), predicted, alpha, count)


def likeness_loss(made: Painted, args: argparse.Namespace) -> Tensor:
    """Pixels: absolute, squared and gradient error of the rows painted with their own code, mostly where they show."""
    target, weight = made.batch.clean[: made.known], made.alpha[: made.known] + 0.1
    error = made.predicted[: made.known] - target
    pixels = ((error.abs() + error.square()) * weight).sum() / weight.sum() / 3
    edges = (error.diff(dim=-1).abs() * weight[..., 1:]).mean() + (error.diff(dim=-2).abs() * weight[..., 1:, :]).mean()
    return cast(Tensor, pixels + args.edges * edges)


def tone_loss(made: Painted) -> Tensor:
    """Light, tone and contrast of the rows painted as somebody else: the surroundings' business, not the look's.

    Where a look is drawn only: what a face lacks must not be made up for by what is beside it, which shows as a rim.
    """
    skin = _drawn_on(made.batch)[made.known :]
    kept, wanted = (_tone(pictures[made.known :], skin) for pictures in (made.picture, made.batch.clean))
    return (kept - wanted).abs().mean()


def beside_loss(made: Painted) -> Tensor:
    """What is neither of the face that was filmed nor of the one that is painted is as filmed, whoever is painted."""
    lent = (len(made.picture) - made.known) // 2
    faces, others = _drawn_on(made.batch)[:lent], slice(made.known, made.known + lent)
    weight = made.alpha[others] * (1 - faces) * (1 - _drawn_on(made.batch)[others])
    error = made.picture[others] - made.batch.clean[others]
    return ((error.abs() + error.square()) * weight).sum() / weight.sum().clamp(min=1) / 3


def _drawn_on(batch: Batch) -> Tensor:
    """(B, 1, S, S) in 0 and 1."""
    return (batch.look != 0).any(dim=1, keepdim=True).float()


def view_loss(made: Painted, went: Tensor) -> Tensor:
    """How far a lent face differs a frame later, pixel by pixel where its pixels went: it must stay one picture."""
    first, later = made.predicted[made.known :].chunk(2)
    mask = made.batch.mask[made.known : made.known + len(first)]
    back = F.grid_sample(later, went, mode="bilinear", padding_mode="border", align_corners=False)
    return ((back - first).abs() * mask).sum() / mask.sum() / 3


def mouth_loss(made: Painted) -> Tensor:
    """What is between the lips is nobody's: it must look as filmed, whoever is painted around it."""
    batch, known = made.batch, [("filmed_mouth", made.batch.clean), ("painted_mouth", made.predicted)]
    filmed, painted = (
        F.grid_sample(pictures, getattr(batch, name), mode="bilinear", padding_mode="border", align_corners=False)
        for name, pictures in known
    )
    # Wide ones count more; of shut ones the lips would be compared.
    tall = (batch.filmed_mouth[:, -1, 0] - batch.filmed_mouth[:, 0, 0]).norm(dim=-1) * SIZE / 2
    weight = batch.between * ((tall - 2) / 6).clamp(0, 1)[:, None, None]
    error = ((painted - filmed).abs() * weight[:, None]).sum()
    return cast(Tensor, error / (weight.sum() + MOUTH[0] * MOUTH[1]) / 3)


def _tone(pictures: Tensor, weight: Tensor) -> Tensor:
    """Mean and deviation of each channel in cells of a quarter of the side, by (B, 1, S, S); 0 in cells of little."""
    cell = pictures.shape[-1] // 4
    share = F.avg_pool2d(weight, cell)
    means, squares = (F.avg_pool2d(x * weight, cell) / share.clamp(min=1e-3) for x in (pictures, pictures.square()))
    deviations = (squares - means.square()).clamp(min=1e-4).sqrt()
    return torch.cat([means, deviations], dim=1) * (share / 0.25).clamp(max=1)


def _openings(points: Tensor) -> Tensor:
    """(B, CONTOURS, 2) -> (B, 3): mean gaps between the inner lips and between the lids of either eye."""
    contours = (layout.facing(part) for part in (layout.LIPS_INNER, layout.EYE_LEFT, layout.EYE_RIGHT))
    return torch.stack([(points[:, a] - points[:, b]).norm(dim=-1).mean(-1) for a, b in contours], dim=1)


class Teachers(nn.Module):
    """What is needed beside `Networks`: a critic, eyes for landmarks, eyes for faces and for persons."""

    people: Tensor  # (N, 1024), whom the recognizer sees in each portrait that looks are mixed of, from `middle`
    middle: Tensor  # (1024,)

    def __init__(self, recognizer: Recognizer, canvas: Canvas, crops: Tensor) -> None:
        """`crops` (N, 3, S, S): these portraits."""
        super().__init__()
        self.critic, self.features, self.recognizer = Critic(canvas.critic), FaceFeatures(), recognizer
        with torch.inference_mode():
            some = (crops[i : i + 32] for i in range(0, len(crops), 32))
            people = torch.cat([recognizer.person(pictures) for pictures in some])
        self.register_buffer("middle", people.mean(0))
        self.register_buffer("people", F.normalize(people - people.mean(0)))

    def person_loss(self, lent: Tensor, who: Tensor) -> Tensor:
        """Whether lent faces (D, 3, S, S) are taken for the portraits that they were mixed of, by `who` (D, N).

        Cross-entropy over all portraits, as recognizers are trained (Wang et al., *NormFace*, 2017). Nothing else says
        that a lent face is somebody: without it two keys grew alike while everything else got better.
        """
        with torch.autocast("cpu", enabled=False):
            seen = F.normalize(self.recognizer.person(lent) - self.middle)
            return F.cross_entropy(seen @ self.people.T * CERTAIN, who)

    def seen(self, picture: Tensor, batch: Batch, same: Augmentation) -> tuple[Tensor, list[Tensor]]:
        """`picture` (B, 3, S, S), painted or not, in the place of `batch`, as the critic sees it."""
        seen = same.apply(torch.cat([picture, batch.drawing, batch.mask * 2 - 1], dim=1))
        return seen, self.recognizer.stages(seen[:, :3])

    def landmark_losses(self, made: Painted) -> tuple[Tensor, Tensor, Tensor]:
        """Of landmarks, in interocular distances: mean distance and error of the openings, all rows; likeness of the
        maps, own faces only; error of the openings' change from one frame to the next, lent faces only."""
        own = made.batch.take(slice(made.known))
        with torch.autocast("cpu", enabled=False):
            with torch.no_grad():
                there, maps = self.features(own.clean, own.grid)
            found, painted_maps = self.features(made.picture, made.batch.grid)
        points = torch.cat([there, made.batch.points[made.known :]])
        gaps = (found - points).norm(dim=-1) / landmarks.INTEROCULAR
        errors = (_openings(found) - _openings(points)) / landmarks.INTEROCULAR
        first, later = errors[made.known :].chunk(2)
        places = gaps.mean() + OPENINGS * errors.abs().mean()
        return places, likeness(maps, [m[: made.known] for m in painted_maps]), (later - first).abs().mean()


def learn(
    nets: Networks,
    teachers: Teachers,
    painter: Optimizer,
    judge: Optimizer,
    lesson: Lesson,
    args: argparse.Namespace,
    *,
    judging: bool = True,
) -> dict[str, float]:
    """One step of the painter, and if `judging` one of the critic. Returns the weighted parts of their losses."""
    batch = lesson.batch
    own = batch.take(slice(args.batch))
    with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
        made = painted(nets, batch, alphas(), args)
        judged_rows = len(made.picture) - args.lent  # a frame later is judged by its likeness alone
        same = Augmentation.draw(judged_rows, round(SHIFT * nets.canvas.unit))
        with torch.no_grad():
            real = teachers.seen(own.clean, own, same)
        fake = teachers.seen(made.picture[:judged_rows], batch.take(slice(judged_rows)), same)
        teachers.critic.requires_grad_(False)
        judged = teachers.critic(*fake)
        teachers.critic.requires_grad_(True)
    places, maps, speech = teachers.landmark_losses(made)
    parts = {
        "pixels": likeness_loss(made, args),
        "places": args.places * places,
        "maps": args.maps * maps,
        "speech": args.speech * speech,
        "looks": args.looks * likeness(real[1], [m[: made.known] for m in fake[1]]),
        "tone": args.tone * tone_loss(made),
        "beside": args.beside * beside_loss(made),
        "views": args.views * view_loss(made, lesson.went),
        "person": args.person * teachers.person_loss(made.picture[made.known : judged_rows], lesson.who),
        "mouth": args.mouth * mouth_loss(made),
        "real": args.real * realism(judged),
    }
    _descend(painter, nets, cast(Tensor, sum(parts.values())))
    if judging:
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            refused = teachers.critic(fake[0].detach(), [m.detach() for m in fake[1]])
            verdict = verdict_loss(teachers.critic(*real), refused)
        _descend(judge, teachers.critic, verdict)
        parts["critic"] = verdict
    return {name: value.item() for name, value in parts.items()}


def _descend(optimizer: Optimizer, module: nn.Module, loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    optimizer.step()


@torch.inference_mode()
def paint(nets: Networks, batch: Batch, noise: Tensor, steps: int) -> Tensor:
    """Deterministic DDIM, (B, 3, S, S) in -1..1."""

    def denoise(x: Tensor, t: int) -> Tensor:
        return nets.predict(x, batch, torch.tensor(t).expand(len(x)))

    return ddim(denoise, calmed(noise, nets.canvas.calm), trailing(steps), alphas())


def contact_sheet(nets: Networks, held_out: list[Sitter], artist: Artist, path: Path, steps: int = STEPS) -> None:
    """Rows: held-out people. Columns: original, removed, own code, four drawn codes with their noise."""
    rng = np.random.default_rng(1)
    torch_rng = torch.Generator().manual_seed(1)
    people = held_out[:: max(1, len(held_out) // 10)][:10]
    rows = [sample(p, artist, nets.canvas, rng, augment=False) for p in people]
    noise = torch.randn((5, 1, 3, nets.canvas.size, nets.canvas.size), generator=torch_rng)
    scenes = [make_batch(rows)]
    for _ in range(4):
        code = _drawn(rng, people[0])
        scenes.append(make_batch([recast(row, code, artist) for row in rows]))
    columns = [scenes[0].clean, scenes[0].removed]
    for scene, own in zip(scenes, noise, strict=True):
        x, alpha = paint(nets, scene, own.expand(len(people), -1, -1, -1), steps), nets.canvas.alpha(scene.mask)
        columns.append(x * alpha + scene.clean * (1 - alpha))
    sheet = torch.cat([torch.cat(list(c), dim=1) for c in columns], dim=2)
    image = ((sheet.clamp(-1, 1) + 1) * 127.5).byte().permute(1, 2, 0).numpy()
    cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


def export(nets: Networks, appearance: Appearance, folder: Path) -> None:
    """A diffusers folder in half precision, plus `revisage.json`."""
    for name, model in (("unet", nets.unet), ("refiner", nets.refiner), ("appearance", appearance)):
        half = deepcopy(model).half()
        half.register_to_config(_name_or_path="")  # where it was read from is nobody's business
        half.save_pretrained(folder / name, safe_serialization=True)
    schedule().save_pretrained(folder / "scheduler")
    about = {
        "format": 1,
        "family": "inpaint",
        "name": "revisage-face",
        "licence": "Apache-2.0",
        "size": nets.canvas.size,
        "patch": nets.canvas.patch,
        "code_size": appearance.config.code_size,
        "template": {"name": FACE_TEMPLATE.name, "points": [list(p) for p in FACE_TEMPLATE.points]},
        "steps": STEPS,
        "calm": nets.canvas.calm,
        "proportions": PROPORTIONS,
    }
    (folder / "revisage.json").write_text(json.dumps(about, indent=2) + "\n")


@dataclass(frozen=True, slots=True, eq=False)
class Studio:
    """Who sits, and what draws them."""

    appearance: Appearance
    portraits: list[Sitter]  # to learn from
    held_out: list[Sitter]


def studio(args: argparse.Namespace) -> Studio:
    """From `--portraits` and `--start`."""
    canvas = CANVASES[args.size]
    usable, kept_out = split(load_portraits(args.portraits))
    appearance = Appearance.from_pretrained(args.start / "appearance").float()
    mould = Mould.of(usable)
    portraits = load(usable, mould, appearance, canvas, drop=UNLIKE)
    return Studio(appearance, portraits, load(kept_out, mould, appearance, canvas))


def album(portraits: Sequence[Sitter], appearance: Appearance, artist: Artist, canvas: Canvas) -> Tensor:
    """(N, 3, S, S): the portraits whose looks `appearance` mixes, in its order.

    Raises `SystemExit` when they are not among `portraits`.
    """
    looks, codes = appearance.people.numpy(), np.stack([sitter.code for sitter in portraits])
    nearest = np.array([np.square(codes - look).sum(1).argmin() for look in looks])
    if np.abs(codes[nearest] - looks).max() > 0.02:  # half precision
        raise SystemExit(
            "the start folder's looks are of other portraits: fit them anew with models/train/appearance.py"
        )
    rng = np.random.default_rng()
    rows = (sample(portraits[i], artist, canvas, rng, augment=False) for i in nearest)
    return _tensor([row.picture for row in rows])


def train(args: argparse.Namespace, people: Studio) -> None:
    """Run until `--steps` or `--minutes`, saving as it goes."""
    canvas, appearance, portraits, held_out = CANVASES[args.size], people.appearance, people.portraits, people.held_out
    run: Path = args.run
    run.mkdir(parents=True, exist_ok=True)
    artist = Artist(appearance)
    print(f"{len(portraits)} portraits to learn from, {len(held_out)} held out", flush=True)
    nets = Networks(canvas)
    _start_from(nets, args.start)
    nets.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = deepcopy(nets).requires_grad_(False)
    crops = album(portraits, appearance, artist, canvas)
    teachers = Teachers(Recognizer(args.recognizer), canvas, crops)
    teachers.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    painter = _optimizer({nets.unet: args.rate, nets.refiner: 2 * args.rate})
    judge = _optimizer({teachers.critic: 3 * args.rate})
    parts: Mapping[str, nn.Module | Optimizer]
    parts = {"nets": nets, "average": average, "critic": teachers.critic, "painter": painter, "judge": judge}
    step = _resume(run / "last.pt", parts)
    began, seen = time.monotonic(), step
    sums: dict[str, float] = {}
    for lesson in lessons(portraits, artist, canvas, args.batch, args.lent, seed=step):
        for group in (*painter.param_groups, *judge.param_groups):
            group["lr"] = group["full"] * pace(step - seen, _progress(step, began, args), args.cool)
        judging = step % args.judge_every == 0
        losses = learn(nets, teachers, painter, judge, lesson, args, judging=judging)
        step += 1
        _follow(average, nets, min(args.ema, (step + 1) / (step + 10)))
        sums |= {k: sums.get(k, v) * 0.98 + v * 0.02 for k, v in losses.items()}
        if step % 50 == 0:
            speed = (step - seen) * args.batch / (time.monotonic() - began)
            print(step, {k: round(v, 4) for k, v in sums.items()}, f"{speed:.1f} samples/s", flush=True)
        done = _progress(step, began, args) >= 1
        if step % args.save == 0 or done:
            torch.save({"step": step} | {k: v.state_dict() for k, v in parts.items()}, run / "new.pt")
            (run / "new.pt").replace(run / "last.pt")
            contact_sheet(average, held_out, artist, run / "contact.png")
            export(average, appearance, run / "export")
        if done:
            return


def pace(taken: int, progress: float, cool: float) -> float:
    """Share of the full rate after `taken` steps of this run: a start over 100, and a straight fall to zero at its end.

    `progress` of 1 is the end, and the fall takes the last share `cool` of the run (Hägele et al., *Scaling Laws and
    Compute-Optimal Training Beyond Fixed Training Durations*, NeurIPS 2024).
    """
    fall = (1 - progress) / cool if cool else 1.0
    return max(0.0, min(1.0, (taken + 1) / 100, fall))


def _progress(step: int, began: float, args: argparse.Namespace) -> float:
    """0 to 1, by steps or minutes, whichever is further."""
    return float(max(step / args.steps, (time.monotonic() - began) / 60 / args.minutes))


def _optimizer(rates: Mapping[nn.Module, float]) -> Optimizer:
    groups = [{"params": list(module.parameters()), "lr": rate, "full": rate} for module, rate in rates.items()]
    return torch.optim.AdamW(groups, weight_decay=0.01, betas=(0.5, 0.99), fused=True)


def _start_from(nets: Networks, folder: Path) -> None:
    """Take the networks of a model folder, where it has any."""
    if (folder / "unet").is_dir():
        nets.unet.load_state_dict(UNet2DModel.from_pretrained(folder / "unet").state_dict())
        nets.refiner.load_state_dict(Refiner.from_pretrained(folder / "refiner").state_dict())


def _resume(path: Path, parts: Mapping[str, nn.Module | Optimizer]) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    for name, part in parts.items():
        rates = [group["full"] for group in part.param_groups] if isinstance(part, Optimizer) else []
        part.load_state_dict(state[name])
        for group, rate in zip(getattr(part, "param_groups", []), rates, strict=True):
            group["full"] = rate  # as asked for now, not then
    return int(state["step"])


@torch.no_grad()
def _follow(average: nn.Module, nets: nn.Module, decay: float) -> None:
    for slow, fast in zip(average.parameters(), nets.parameters(), strict=True):
        slow.lerp_(fast, 1 - decay)
    for kept, current in zip(average.buffers(), nets.buffers(), strict=True):
        kept.copy_(current)


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Of the command line, or `given`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--portraits", type=Path, required=True, help="folder with images/ and landmarks.npz")
    parser.add_argument("--recognizer", type=Path, required=True, help="faceres.json, see models/train/recognizer.py")
    parser.add_argument("--run", type=Path, default=Path("runs/face"), help="checkpoints, contact sheet and export")
    parser.add_argument(
        "--start", type=Path, required=True, help="folder with `appearance`; networks are taken on, too"
    )
    parser.add_argument("--size", type=int, choices=sorted(CANVASES), default=SIZE, help="side of the picture, pixels")
    parser.add_argument("--bf16", action="store_true", help="mixed precision; faster where the CPU has AVX-512 BF16")
    parser.add_argument("--steps", type=int, default=10**9)
    parser.add_argument("--minutes", type=float, default=10**9)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--cool", type=float, default=0.3, help="share of the run in which the rate falls")
    parser.add_argument("--ema", type=float, default=0.995)
    parser.add_argument("--lent", type=int, default=12, help="further rows of each batch, painted as somebody else")
    parser.add_argument("--places", type=float, default=0.5, help="weight of the landmarks' error")
    parser.add_argument("--maps", type=float, default=0.15, help="weight of the landmark network's maps")
    parser.add_argument("--speech", type=float, default=4.0, help="weight of the openings' change between frames")
    parser.add_argument("--looks", type=float, default=0.2, help="weight of the recognizer's maps")
    parser.add_argument("--person", type=float, default=0.05, help="weight of whom a lent face is taken for")
    parser.add_argument("--tone", type=float, default=0.5, help="weight of a face's light and tone under a lent look")
    parser.add_argument("--beside", type=float, default=0.5, help="weight of what is beside a face under a lent look")
    parser.add_argument("--views", type=float, default=0.3, help="weight of the change from one frame to the next")
    parser.add_argument("--mouth", type=float, default=1.0, help="weight of what is between the lips")
    parser.add_argument("--judge-every", type=int, default=2, help="steps from one of the critic to its next")
    parser.add_argument("--real", type=float, default=0.02, help="weight of the critic's verdict")
    parser.add_argument("--edges", type=float, default=0.1, help="weight of the gradient error")
    parser.add_argument("--time-mean", type=float, default=1.3, help="of the other timesteps")
    parser.add_argument("--time-std", type=float, default=1.4)
    parser.add_argument("--time-end", type=float, default=0.4, help="share of these at the very end")
    parser.add_argument("--time-used", type=float, default=0.5, help="share of own faces at the steps of use")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--save", type=int, default=250)
    return parser.parse_args(given)


def main(args: argparse.Namespace) -> None:
    """Load, train."""
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(0)
    train(args, studio(args))


if __name__ == "__main__":
    main(arguments())
