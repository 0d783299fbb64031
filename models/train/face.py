"""Trains `revisage-face`, the painter that sets a drawn actor into a film, from portraits of people who do not exist.

    python -m revisage.models.train.face --portraits FOLDER --start START --run runs/face

It learns to *harmonise*. A portrait's own face is taken from it, given another light, tint, sharpness and mouth, laid
over its landmarks a little amiss, and the network must return the portrait; and somebody else's face, laid over a
portrait in its light, must stay somebody else's, while what is around it stays as it is. What it sees is what it sees
in use: the picture with the face removed and a smooth surface of the face's tone in its place (or nothing, where the
tone is to be guessed from the surroundings), the mask, a drawing of the landmarks, the actor's colours over light, and
noise.

Pixel-space diffusion on a patchified crop: 128 x 128 pixels become a 16 x 16 grid of 8 x 8 patches, and the network
predicts the clean picture itself (Li & He, *Back to Basics: Let Denoising Generative Models Denoise*, 2025, on why the
clean picture is the target that survives large patches). Schedule: squared cosine with zero terminal SNR (Lin et al.,
*Common Diffusion Noise Schedules and Sample Steps are Flawed*, 2023).
Resumes from `RUN/last.pt`; writes `RUN/contact.png` to look at and the diffusers folder `RUN/export`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DModel
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from revisage.models import layout, reenact, tone
from revisage.models.conditioning import FACE_TEMPLATE, draw_landmarks, face_mask, remove_face
from revisage.models.inpaint import calmed, look_of
from revisage.models.reenact import Face
from revisage.models.refiner import Refiner
from revisage.models.sampler import ddim, trailing
from revisage.models.train.blink import blinked
from revisage.models.train.data import Portrait, load_portraits, split
from revisage.pipeline import geometry
from revisage.pipeline.types import CropTemplate, Float, Gray, Image

SIZE = 128  # side of the crop, pixels
STEPS = 1  # in use
CALM = 4  # see `calmed`; pixels
MARGIN = 1.5  # portraits are kept as crops this much larger than the template, room for jitter
KEPT = 224  # side of those crops, pixels
HAZY = 0.4  # share of the portraits with less contrast, as films have it that are flatly lit or taken through a haze
LOUD = 0.4  # share with stronger or weaker colours, in warmer or colder light
COLLARS = 0.35  # share of the portraits whose clothes reach the chin; without them dark clothes meant dark skin
BACKDROPS = 0.4  # share of the portraits whose surroundings are darker or brighter than they were beside the skin
BLINKS = 0.1  # share of the portraits whose eyes are closed, more or less
TONELESS = 0.25  # share of the rows whose tone is to be guessed from the surroundings
CLOSE, WIDE = (0.1, 0.3), (0.3, 0.6)  # how far beyond the landmarks a face is removed; eye distances
SEAM = 5.6  # how wide the seam around it is in use, pixels


@dataclass(frozen=True, slots=True, eq=False)
class Sitter:
    """One portrait as a generous crop, and its face without its light."""

    pixels: Image  # (KEPT, KEPT, 3) RGB
    landmarks: Float  # (135, 2) in its pixels
    face: Face


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One sample before it is a tensor: uint8, RGB."""

    picture: Image  # (S, S, 3), as it is around the face
    wanted: Image  # (S, S, 3), what must be painted
    weight: Float  # (S, S), how much that counts
    removed: Image  # (S, S, 3), `picture` with the tone, or grey, where the mask is
    mask: Gray  # (S, S), 255 where to paint
    drawing: Image  # (S, S, 3)
    look: Float  # (S, S, 3), logarithms


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Tensors of one training step; pictures (B, 3, S, S) in -1..1."""

    wanted: Tensor
    weight: Tensor  # (B, 1, S, S)
    removed: Tensor
    mask: Tensor  # (B, 1, S, S) in 0..1
    drawing: Tensor
    look: Tensor  # logarithms

    def take(self, rows: Tensor) -> Batch:
        """Some rows, by their numbers."""
        return Batch(*(getattr(self, field.name)[rows] for field in fields(self)))


class Networks(nn.Module):
    """All that is exported and learns."""

    def __init__(self, channels: tuple[int, int, int] = (128, 192, 256), patch: int = 8, width: int = 48) -> None:
        super().__init__()
        self.patch = patch
        self.unet = UNet2DModel(
            sample_size=SIZE // patch,
            in_channels=(3 + 3 + 1 + 3 + 3) * patch**2,
            out_channels=Refiner.channels(patch),
            block_out_channels=channels,
            layers_per_block=1,
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=32,
        )
        self.refiner = Refiner(patch, width=width)

    def predict(self, noisy: Tensor, batch: Batch, timesteps: Tensor) -> Tensor:
        """Clean picture (B, 3, S, S) predicted from the noisy one."""
        surroundings = torch.cat([batch.removed, batch.mask * 2 - 1, batch.drawing], dim=1)
        patches = F.pixel_unshuffle(torch.cat([noisy, surroundings, batch.look], dim=1), self.patch)
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


def load(portraits: Sequence[Portrait]) -> list[Sitter]:
    """Read, crop, and take the light from the faces; without those that show no skin."""
    with ThreadPoolExecutor(2) as pool:
        return [sitter for sitter in pool.map(_sitter, portraits) if sitter is not None]


def _sitter(portrait: Portrait) -> Sitter | None:
    centre = np.asarray(FACE_TEMPLATE.points) - 0.5
    wide = CropTemplate("wide", tuple((x, y) for x, y in centre / MARGIN + 0.5))
    matrix = geometry.align(layout.five_points(portrait.landmarks), wide, KEPT)
    pixels = geometry.crop(portrait.read(), matrix, KEPT)
    points = geometry.transform(portrait.landmarks, matrix)
    try:
        return Sitter(pixels, points, reenact.face_of(pixels, points))
    except ValueError:
        return None


def sample(sitter: Sitter, rng: np.random.Generator, other: Sitter | None = None, *, augment: bool = True) -> Row:
    """A training crop, and its own face to paint into it, or that of `other`."""
    pixels, points, face = sitter.pixels, sitter.landmarks, sitter.face
    matrix = geometry.align(layout.five_points(points), FACE_TEMPLATE, SIZE)
    dilate = 0.2
    if augment:
        jitter = _jitter(rng, SIZE, scale=0.07, turn=8, shift=0.025)
        matrix = jitter @ np.vstack([matrix, [0, 0, 1]]).astype(np.float32)
        dilate = rng.uniform(*(CLOSE if rng.random() < 0.7 else WIDE))
    picture, points = geometry.crop(pixels, matrix, SIZE), geometry.transform(points, matrix)
    if augment and rng.random() < BLINKS:
        picture, points = blinked(picture, points, min(1.0, rng.uniform(0.3, 1.3)))
    if augment and rng.random() < COLLARS:
        picture = collared(picture, points, rng)
    if augment and rng.random() < BACKDROPS:
        picture = set_off(picture, points, rng)
    if augment:
        picture = _degrade(_colour(picture, rng, 0.15), rng)
    mask = face_mask(points, SIZE, dilate=dilate)
    own = tone.read(picture, points)
    surface = None if own is None else tone.surface(own, points, SIZE)
    if other is None:
        return _own(face, picture, points, mask, surface, rng, augment=augment)
    return _lent(other.face, picture, points, mask, surface, rng, augment=augment)


def _own(
    face: Face,
    picture: Image,
    points: Float,
    mask: Gray,
    surface: Float | None,
    rng: np.random.Generator,
    *,
    augment: bool,
) -> Row:
    """The portrait itself is wanted, whatever its face has been through."""
    drawn = reenact.draw(face, _amiss(points, rng) if augment else points, SIZE).detail
    if augment:
        drawn = _estranged(drawn, points, rng)
    weight = mask.astype(np.float32) / 255
    return _row(picture, picture, weight, points, mask, surface, drawn, rng if augment else None)


def _lent(
    face: Face,
    picture: Image,
    points: Float,
    mask: Gray,
    surface: Float | None,
    rng: np.random.Generator,
    *,
    augment: bool,
) -> Row:
    """Somebody else's face, lit by the portrait's tone, is wanted on the face; beside it what was there; between, that
    the one becomes the other is the network's business."""
    shape = reenact.proportioned(points, face)
    drawn = reenact.draw(face, shape, SIZE)
    wanted, weight = picture, (mask == 0).astype(np.float32) * 0.2
    if surface is not None:
        lit = np.clip(np.rint(tone.encoded(reenact.lit(drawn, surface))), 0, 255).astype(np.uint8)
        core = cv2.erode(face_mask(shape, SIZE, dilate=0.0), np.ones((7, 7), np.uint8))
        wanted = np.where(core[..., None] > 0, lit, picture)
        weight += (core > 0) * np.float32(0.5)
    return _row(picture, wanted, weight, shape, mask, surface, drawn.detail, rng if augment else None)


def _row(
    picture: Image,
    wanted: Image,
    weight: Float,
    points: Float,
    mask: Gray,
    surface: Float | None,
    drawn: Float,
    rng: np.random.Generator | None,
) -> Row:
    removed = remove_face(picture, mask)
    if surface is not None and (rng is None or rng.random() >= TONELESS):
        tinted = np.clip(np.rint(tone.encoded(surface)), 0, 255).astype(np.uint8)
        removed = np.where(mask[..., None] > 0, tinted, removed)
    return Row(picture, wanted, weight, removed, mask, draw_landmarks(points, SIZE), look_of(drawn, points))


def _amiss(points: Float, rng: np.random.Generator) -> Float:
    """`points` (135, 2) as a landmark network errs: each part a little on its own."""
    moved = points + rng.normal(0, 0.5, points.shape)
    for part in (layout.OVAL, layout.NOSTRILS, layout.EYE_LEFT, layout.EYE_RIGHT, layout.BROW_LEFT, layout.BROW_RIGHT):
        moved[part] += rng.normal(0, 0.7, 2)
    return np.asarray(moved, np.float32)


def _estranged(detail: Float, points: Float, rng: np.random.Generator) -> Float:
    """Colours over light (S, S, 3) of a face that was lit, tinted and focused otherwise."""
    shade = rng.normal(0, 0.16, 8) * np.array([1, 1, 1, 0.7, 0.7, 0.7, 0.4, 0.4])
    tint = rng.normal(0, 0.06, (8, 3))
    field = tone.polynomials(points, SIZE) @ (shade[:, None] + tint).astype(np.float32)
    changed = np.maximum(detail, 1e-3) ** np.float32(np.exp(rng.normal(0, 0.15))) * np.exp(field)
    if rng.random() < 0.4:
        changed = cv2.GaussianBlur(changed, (0, 0), rng.uniform(0.3, 1.6))
    return np.asarray(changed, np.float32)


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


def _degrade(picture: Image, rng: np.random.Generator) -> Image:
    """A third of the crops at a lower resolution or with grain, as small and dark faces in video are."""
    if rng.random() < 0.2:
        side = int(rng.uniform(40, 110))
        small = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
        picture = cv2.resize(small, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    if rng.random() < 0.15:
        grain = rng.normal(0, rng.uniform(1, 8), picture.shape)
        picture = np.clip(picture + grain, 0, 255).astype(np.uint8)
    return picture


def make_batch(rows: Sequence[Row]) -> Batch:
    """Stack samples into tensors."""
    mask, weight = (torch.from_numpy(np.stack([getattr(row, n) for row in rows])[:, None]) for n in ("mask", "weight"))
    look = torch.from_numpy(np.stack([row.look for row in rows])).permute(0, 3, 1, 2)
    wanted, removed, drawing = (_tensor([getattr(row, n) for row in rows]) for n in ("wanted", "removed", "drawing"))
    return Batch(wanted, weight.float(), removed, mask.float() / 255, drawing, look)


def _tensor(pictures: Any) -> Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def batches(sitters: Sequence[Sitter], size: int, lent: int, seed: int) -> Iterator[Batch]:
    """Endless and augmented: `size` portraits as themselves, and `lent` with somebody else to paint.

    The next one is made while this one is learnt.
    """
    rng = np.random.default_rng(seed)

    def rows() -> Batch:
        chosen = rng.choice(len(sitters), size + 2 * lent, replace=False)
        own = [sample(sitters[i], rng) for i in chosen[:size]]
        others = [sample(sitters[i], rng, sitters[j]) for i, j in chosen[size:].reshape(-1, 2)]
        return make_batch([*own, *others])

    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(rows)
        while True:
            ready, coming = coming.result(), pool.submit(rows)
            yield ready


def draw_timesteps(count: int, mean: float, std: float, end: float) -> Tensor:
    """Logit-normal towards high noise; a share `end` at the very end, where the face is decided from nothing."""
    t = torch.sigmoid(torch.randn(count) * std + mean) * 999
    return torch.where(torch.rand(count) < end, torch.full_like(t, 999), t).round().long()


def loss_of(nets: Networks, batch: Batch, args: argparse.Namespace) -> Tensor:
    """Absolute, squared and gradient error of one pass, most of it from nothing but noise, as in use."""
    total = len(batch.wanted)
    free = torch.rand(total) >= args.time_used
    t = torch.where(free, draw_timesteps(total, args.time_mean, args.time_std, args.time_end), torch.tensor(999))
    table = alphas()[t][:, None, None, None]
    noise = calmed(torch.randn_like(batch.wanted), CALM)
    predicted = nets.predict(table.sqrt() * batch.wanted + (1 - table).sqrt() * noise, batch, t)
    error, weight = predicted - batch.wanted, batch.weight
    pixels = ((error.abs() + error.square()) * weight).sum() / weight.sum() / 3
    edges = (error.diff(dim=-1).abs() * weight[..., 1:]).mean() + (error.diff(dim=-2).abs() * weight[..., 1:, :]).mean()
    return cast(Tensor, pixels + args.edges * edges)


def _descend(optimizer: Optimizer, module: nn.Module, loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    optimizer.step()


@torch.inference_mode()
def paint(nets: Networks, batch: Batch, noise: Tensor, steps: int = STEPS) -> Tensor:
    """Deterministic DDIM, (B, 3, S, S) in -1..1."""

    def denoise(x: Tensor, t: int) -> Tensor:
        return nets.predict(x, batch, torch.tensor(t).expand(len(x)))

    return ddim(denoise, calmed(noise, CALM), trailing(steps), alphas())


def contact_sheet(nets: Networks, held_out: Sequence[Sitter], path: Path) -> None:
    """Rows: held-out people. Columns: as they are, removed, own face, two others' drawn and painted."""
    rng = np.random.default_rng(1)
    people = held_out[:: max(1, len(held_out) // 10)][:10]
    noise = torch.randn((1, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(1)).expand(len(people), -1, -1, -1)
    own = [sample(p, rng, augment=False) for p in people]
    columns = [_tensor([row.picture for row in own]), _tensor([row.removed for row in own])]
    columns.append(paint(nets, make_batch(own), noise))
    for shift in (3, 7):
        rows = [sample(p, rng, held_out[(i * 13 + shift) % len(held_out)], augment=False) for i, p in enumerate(people)]
        batch = make_batch(rows)
        columns += [batch.wanted, paint(nets, batch, noise) * batch.mask + columns[0] * (1 - batch.mask)]
    sheet = torch.cat([torch.cat(list(c), dim=1) for c in columns], dim=2)
    image = ((sheet.clamp(-1, 1) + 1) * 127.5).byte().permute(1, 2, 0).numpy()
    cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


def export(nets: Networks, folder: Path) -> None:
    """A diffusers folder in half precision, plus `revisage.json`; the cast is made by `models/train/cast.py`."""
    for name, model in (("unet", nets.unet), ("refiner", nets.refiner)):
        half = deepcopy(model).half()
        half.register_to_config(_name_or_path="")  # where it was read from is nobody's business
        half.save_pretrained(folder / name, safe_serialization=True)
    schedule().save_pretrained(folder / "scheduler")
    about = {
        "format": 1,
        "family": "inpaint",
        "name": "revisage-face",
        "licence": "Apache-2.0",
        "size": SIZE,
        "patch": nets.patch,
        "code_size": 64,
        "template": {"name": FACE_TEMPLATE.name, "points": [list(p) for p in FACE_TEMPLATE.points]},
        "steps": STEPS,
        "calm": CALM,
    }
    (folder / "revisage.json").write_text(json.dumps(about, indent=2) + "\n")


def train(args: argparse.Namespace, sitters: Sequence[Sitter], held_out: Sequence[Sitter]) -> None:
    """Run until `--steps` or `--minutes`, saving as it goes."""
    run: Path = args.run
    run.mkdir(parents=True, exist_ok=True)
    print(f"{len(sitters)} portraits to learn from, {len(held_out)} held out", flush=True)
    nets = Networks()
    _start_from(nets, args.start)
    nets.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = deepcopy(nets).requires_grad_(False)
    painter = _optimizer({nets.unet: args.rate, nets.refiner: 2 * args.rate})
    parts: Mapping[str, nn.Module | Optimizer] = {"nets": nets, "average": average, "painter": painter}
    step = _resume(run / "last.pt", parts)
    began, seen, mean = time.monotonic(), step, 0.0
    for batch in batches(sitters, args.batch, args.lent, seed=step):
        for group in painter.param_groups:
            group["lr"] = group["full"] * pace(step - seen, _progress(step, began, args), args.cool)
        loss = loss_of(nets, batch, args)
        _descend(painter, nets, loss)
        step += 1
        mean = mean * 0.98 + loss.item() * 0.02
        _follow(average, nets, min(args.ema, (step + 1) / (step + 10)))
        if step % 25 == 0:
            speed = (step - seen) / (time.monotonic() - began)
            print(step, round(mean / (1 - 0.98 ** (step - seen)), 4), f"{speed:.2f} steps/s", flush=True)
        done = _progress(step, began, args) >= 1
        if step % args.save == 0 or done:
            torch.save({"step": step} | {k: v.state_dict() for k, v in parts.items()}, run / "new.pt")
            (run / "new.pt").replace(run / "last.pt")
            contact_sheet(average, held_out, run / "contact.png")
            export(average, run / "export")
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
    parser.add_argument("--run", type=Path, default=Path("runs/face"), help="checkpoints, contact sheet and export")
    parser.add_argument("--start", type=Path, required=True, help="model folder whose networks are taken on, if any")
    parser.add_argument("--steps", type=int, default=10**9)
    parser.add_argument("--minutes", type=float, default=10**9)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lent", type=int, default=4, help="further rows of each batch, with somebody else to paint")
    parser.add_argument("--rate", type=float, default=2e-4)
    parser.add_argument("--cool", type=float, default=0.4, help="share of the run in which the rate falls")
    parser.add_argument("--ema", type=float, default=0.99)
    parser.add_argument("--edges", type=float, default=0.1, help="weight of the gradient error")
    parser.add_argument("--time-used", type=float, default=0.7, help="share of the rows at the step of use")
    parser.add_argument("--time-mean", type=float, default=1.0, help="of the other timesteps")
    parser.add_argument("--time-std", type=float, default=1.4)
    parser.add_argument("--time-end", type=float, default=0.2, help="share of these at the very end")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--save", type=int, default=200)
    return parser.parse_args(given)


def main(args: argparse.Namespace) -> None:
    """Load, train."""
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(0)
    train(args, *(load(portraits) for portraits in split(load_portraits(args.portraits))))


if __name__ == "__main__":
    main(arguments())
