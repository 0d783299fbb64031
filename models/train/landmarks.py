"""Training and measuring the landmark network on the portraits. Owns the damage done to the crops and the loss.

Knows no video. The portraits and the split come from `data.py`, the network from `models/landmarks.py`.

    python -m revisage.models.train.landmarks train FOLDER --out RUN --minutes 25
    python -m revisage.models.train.landmarks measure FOLDER
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from revisage.models import landmarks as model
from revisage.models import layout
from revisage.models.train import data
from revisage.models.train.blink import blinked, glanced
from revisage.pipeline import geometry
from revisage.pipeline.types import Float, Gray, Image

Case = tuple[Image, Float]  # picture and its true landmarks
Vector = NDArray[Any]  # numbers in the working precision of numpy: two of a point or shift, three of a colour

SIZE = model.SIZE
KEPT_INTEROCULAR = 45.0  # pixels; larger portraits are reduced once, a crop never shows more
EYE_SIZE = layout.EYE_LEFT.stop - layout.EYE_LEFT.start
IRISES = slice(layout.IRIS_LEFT.start - 2, layout.IRIS_RIGHT.stop - 2)  # among the points that are predicted
NOTHING = 1.0  # error to be predicted where there is no face, in interocular distances
BLINKS = 0.5  # share of the faces whose lids are closed, more or less
WINKS = 0.7  # share of those whose eyes are closed each on its own
GLANCES = 0.5  # share of the faces whose irises are moved
FURTHEST = (0.14, 0.05)  # standard deviation across and down, in distances of the eyes' corners
NEGATIVES = 0.1  # share of the crops
UNHARMED = 0.35  # share of the crops that only the light changes in
CALM_TWO = 0.75  # the same of the calm crops
CALM = 0.6  # share of the calm crops that only the light changes in
PASS_TWO = 0.6  # share of the crops aligned as well as by the network's own first answer


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """A portrait in memory."""

    picture: Image
    landmarks: Float  # (LANDMARK_COUNT, 2)


@dataclass(frozen=True, slots=True)
class Jitter:
    """How far the alignment may be off; ranges, in sides of the crop and degrees."""

    degrees: float
    scale: float  # natural logarithm
    shift: float
    point: float  # standard deviation of each of the five points on its own, in interocular distances


ROUGH = Jitter(degrees=40, scale=0.25, shift=0.13, point=0.05)  # 20 degrees are common, 40 still happen
FINE = Jitter(degrees=6, scale=0.06, shift=0.025, point=0.02)


def load_example(portrait: data.Portrait) -> Example:
    """Read, and reduce so far that `KEPT_INTEROCULAR` is not exceeded."""
    picture, points = portrait.read(), portrait.landmarks
    scale = min(1.0, KEPT_INTEROCULAR / max(float(layout.interocular(points)), _half_width(points)))
    height, width = (max(1, round(n * scale)) for n in picture.shape[:2])
    small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    factor = np.array([width / picture.shape[1], height / picture.shape[0]], np.float32)
    return Example(small, (points + 0.5) * factor - 0.5)


def _half_width(points: Float) -> float:
    """What the interocular distance would be if the face looked into the camera: profiles are not small."""
    return float(np.linalg.norm(np.ptp(points[layout.OVAL], axis=0))) / 3.36


# ---- where the crop lies


def jittered(points: Float, jitter: Jitter, rng: Generator) -> Float:
    """Crop matrix (2, 3) for the true landmarks `points`, off by as much as a detector's five points may be."""
    five = layout.five_points(points)
    noise = rng.normal(0, jitter.point, five.shape) * _half_width(points)
    matrix = geometry.align((five + noise).astype(np.float32), model.TEMPLATE, SIZE)
    spread = jitter.degrees / 2 if rng.random() < 0.6 else jitter.degrees
    angle = np.radians(rng.uniform(-spread, spread))
    scale = math.exp(rng.uniform(-jitter.scale, jitter.scale))
    shift = rng.uniform(-jitter.shift, jitter.shift, 2) * SIZE
    return _turned(matrix, float(angle), scale, shift)


def misplaced(points: Float, rng: Generator) -> Float:
    """Crop matrix (2, 3) that shows no face, or a part or a distant view of one that must not pass for it."""
    matrix = geometry.align(layout.five_points(points), model.TEMPLATE, SIZE)
    angle = rng.uniform(-np.pi, np.pi)
    if rng.random() < 0.3:
        return _turned(matrix, float(angle), float(rng.choice([0.3, 3.5])), np.zeros(2))
    direction = rng.uniform(0, 2 * np.pi)
    distance = rng.uniform(0.7, 1.3) * SIZE
    return _turned(matrix, 0.3 * angle, rng.uniform(1, 2), distance * np.array([np.cos(direction), np.sin(direction)]))


def _turned(matrix: Float, angle: float, scale: float, shift: Vector) -> Float:
    """`matrix`, then a rotation and scaling about the middle of the crop, then a shift."""
    middle = (SIZE - 1) / 2
    turn = cv2.getRotationMatrix2D((middle, middle), np.degrees(angle), scale)
    turn[:, 2] += shift
    linear = turn[:, :2] @ matrix[:, :2]
    return np.hstack([linear, (turn[:, :2] @ matrix[:, 2] + turn[:, 2])[:, None]]).astype(np.float32)


# ---- what happens to its pixels


def damaged(crop: Image, face: Float, rng: Generator) -> Image:
    """Everything a camera, a codec and a hand can do to a face; `face` are its landmarks in the crop."""
    if rng.random() < UNHARMED:
        return _relit(crop, rng)
    if rng.random() < 0.4:
        crop = _covered(crop, face, rng)
    crop = _relit(crop, rng)
    if rng.random() < 0.4:
        crop = _blurred(crop, rng)
    if rng.random() < 0.45:
        crop = _coarse(crop, rng)
    if rng.random() < 0.4:
        noise = rng.normal(0, rng.uniform(2, 18), crop.shape).astype(np.float32)
        crop = _bytes(crop + noise)
    return _compressed(crop, rng) if rng.random() < 0.5 else crop


def _covered(crop: Image, face: Float, rng: Generator) -> Image:
    """Hands (strokes and blobs in the face's own colour), and boxes and blobs of any colour, over part of the face."""
    mask = np.zeros(crop.shape[:2], np.uint8)
    middle = face[rng.integers(len(face))] + rng.normal(0, 0.1 * SIZE, 2)
    kind = rng.integers(3)
    if kind == 0:
        _draw_hand(mask, middle, rng)
    elif kind == 1:
        axes = rng.uniform(0.08, 0.28, 2) * SIZE
        cv2.ellipse(mask, _pixel(middle), _pixel(axes), rng.uniform(0, 180), 0, 360, 255, -1)
    else:
        box = cv2.boxPoints((tuple(map(float, middle)), tuple(rng.uniform(0.15, 0.6, 2) * SIZE), rng.uniform(0, 90)))
        cv2.fillConvexPoly(mask, box.astype(np.int32), 255)
    colour = _skin(crop, face, rng) if kind == 0 or rng.random() < 0.5 else rng.uniform(0, 255, 3)
    texture = rng.normal(0, rng.uniform(5, 40), (5, 5, 1)) + rng.normal(0, 6, (5, 5, 3))
    shade = cv2.resize((colour + texture).astype(np.float32), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    weight = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.5, 1.5)).astype(np.float32)[..., None] / 255
    return _bytes(crop * (1 - weight) + shade * weight)


def _draw_hand(mask: Gray, middle: Float, rng: Generator) -> None:
    """A palm with fingers that point away from the arm."""
    arm = rng.uniform(0, 2 * np.pi)
    width = rng.uniform(0.05, 0.09) * SIZE
    for i in range(int(rng.integers(2, 6))):
        angle = arm + (i - 2) * rng.uniform(0.1, 0.35)
        tip = middle + rng.uniform(1.5, 4) * width * np.array([np.cos(angle), np.sin(angle)])
        cv2.line(mask, _pixel(middle), _pixel(tip), 255, max(1, round(width)))
    wrist = middle - 6 * width * np.array([np.cos(arm), np.sin(arm)])
    cv2.line(mask, _pixel(middle), _pixel(wrist), 255, max(1, round(2.2 * width)))
    cv2.circle(mask, _pixel(middle), max(1, round(1.6 * width)), 255, -1)


def _pixel(point: Vector) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))


def _skin(crop: Image, face: Float, rng: Generator) -> Vector:
    x, y = np.clip(face[layout.NOSE_TIP], 0, SIZE - 1).astype(int)
    colour: Vector = crop[y, x] * rng.uniform(0.6, 1.2) + rng.normal(0, 8, 3)
    return colour


def _relit(crop: Image, rng: Generator) -> Image:
    """Exposure, gamma, tint, light from one side, and now and then no colour at all."""
    light = (crop / np.float32(255)) ** np.float32(math.exp(rng.normal(0, 0.35)))
    gain = math.exp(rng.uniform(-1.8, 0.3) if rng.random() < 0.25 else rng.uniform(-0.3, 0.3))
    light *= (gain * np.exp(rng.normal(0, 0.08, 3))).astype(np.float32)
    if rng.random() < 0.3:
        corners = rng.uniform(0.3, 1.3, (2, 2)).astype(np.float32)
        light *= cv2.resize(corners, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)[..., None]
    if rng.random() < 0.2:
        light = np.broadcast_to(light.mean(-1, keepdims=True), light.shape)
    return _bytes(light * 255)


def _blurred(crop: Image, rng: Generator) -> Image:
    """Out of focus, or moved along a line."""
    if rng.random() < 0.6:
        return _bytes(cv2.GaussianBlur(crop, (0, 0), rng.uniform(0.5, 2.5)))
    length = int(rng.integers(3, 12))
    kernel = np.zeros((length, length), np.float32)
    end = (length - 1) / 2 * np.array([1, math.tan(rng.uniform(-0.8, 0.8))])
    middle = np.full(2, (length - 1) / 2)
    cv2.line(kernel, _pixel(middle - end), _pixel(middle + end), 1, 1)
    kernel = kernel if rng.random() < 0.5 else kernel.T
    return _bytes(cv2.filter2D(crop, -1, kernel / kernel.sum()))


def _coarse(crop: Image, rng: Generator) -> Image:
    """What is left of a small face: down to 24 pixels across, a third of what a crop shows."""
    side = round(math.exp(rng.uniform(math.log(36), math.log(SIZE))))
    small = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.4:
        small = _compressed(small, rng)
    way = cv2.INTER_LINEAR if rng.random() < 0.8 else cv2.INTER_CUBIC
    return _bytes(cv2.resize(small, (SIZE, SIZE), interpolation=way))


def _compressed(crop: Image, rng: Generator) -> Image:
    _, code = cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(12, 90))])
    return _bytes(cv2.imdecode(code, cv2.IMREAD_COLOR))


def _bytes(picture: Vector) -> Image:
    clipped: Image = np.clip(picture, 0, 255).astype(np.uint8)
    return clipped


def texture(rng: Generator) -> Image:
    """Something that is no face at all: smooth noise of a random coarseness and a few shapes."""
    cells = int(rng.integers(2, 40))
    noise = rng.uniform(0, 255, (cells, cells, 3)).astype(np.float32)
    picture = _bytes(cv2.resize(noise, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC))
    for _ in range(int(rng.integers(0, 6))):
        colour = tuple(rng.uniform(0, 255, 3).tolist())
        centre, axes = _pixel(rng.uniform(0, SIZE, 2)), _pixel(rng.uniform(2, SIZE / 2, 2))
        cv2.ellipse(picture, centre, axes, rng.uniform(0, 180), 0, 360, colour, -1 if rng.random() < 0.7 else 2)
    return picture


# ---- the stream of samples


class Samples(IterableDataset[tuple[Tensor, Tensor, Tensor]]):
    """Endless (crop (3, S, S) uint8, points (POINTS, 2) in sides of the crop, 1 where there is a face)."""

    def __init__(self, examples: Sequence[Example], seed: int, *, calm: bool = False) -> None:
        """`calm`: every crop shows a face, most lie as in the second pass and change but in their light."""
        self._examples, self._calm = examples, calm
        self._odds = odds(np.stack([e.landmarks for e in examples]))
        self._seed = seed

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        cv2.setNumThreads(0)
        rng = np.random.default_rng(self._seed)
        while True:
            for i in rng.choice(len(self._examples), len(self._examples), p=self._odds):
                crop, points, is_face = sample(self._examples[i], rng, calm=self._calm)
                target = torch.from_numpy((predicted(points) + 0.5) / SIZE)
                yield torch.from_numpy(crop).permute(2, 0, 1), target, torch.tensor(float(is_face))


def predicted(landmarks: Float) -> Float:
    """(…, LANDMARK_COUNT, 2) -> (…, POINTS, 2): without the eye centres."""
    return np.delete(landmarks, np.r_[layout.EYE_CENTRES], axis=-2)


def odds(landmarks: Float) -> Vector:
    """(N, LANDMARK_COUNT, 2) -> (N,) how often to show each: portraits smile, so open mouths and shut eyes are rare."""
    mouth, eyes = layout.mouth_opening(landmarks), layout.eye_opening(landmarks)
    weight = 1 + 12 * np.clip(mouth, 0, 0.4) + 20 * np.clip(0.12 - eyes, 0, 0.05) + 20 * np.clip(eyes - 0.18, 0, 0.05)
    share: Vector = weight / weight.sum()
    return share


def sample(example: Example, rng: Generator, *, calm: bool = False) -> tuple[Image, Float, bool]:
    """One damaged crop, its landmarks (LANDMARK_COUNT, 2) in its pixels, and whether it shows the face."""
    is_face = calm or rng.random() >= NEGATIVES
    jitter = FINE if rng.random() < (CALM_TWO if calm else PASS_TWO) else ROUGH
    matrix = jittered(example.landmarks, jitter, rng) if is_face else misplaced(example.landmarks, rng)
    crop, points = geometry.crop(example.picture, matrix, SIZE), geometry.transform(example.landmarks, matrix)
    if not is_face and rng.random() < 0.4:
        crop = texture(rng)
    if is_face and rng.random() < GLANCES:
        across, down = rng.normal(0, FURTHEST)
        crop, points = glanced(crop, points, (float(across), float(down)))
    if is_face and rng.random() < BLINKS:
        crop, points = blinked(crop, points, _shut(rng))
    if rng.random() < 0.5:
        crop, points = np.ascontiguousarray(crop[:, ::-1]), layout.mirror(points, SIZE)
    crop = _relit(crop, rng) if calm and rng.random() < CALM else damaged(crop, points, rng)
    return crop, points, is_face


def _shut(rng: Generator) -> tuple[float, float]:
    """How far either eye is closed."""
    one, other = (min(1.0, float(rng.uniform(0.3, 1.2))) for _ in range(2))
    if rng.random() >= WINKS:
        return one, one
    other = 0.0 if rng.random() < 0.6 else other
    return (one, other) if rng.random() < 0.5 else (other, one)


# ---- loss and training


def gaps() -> tuple[list[int], list[int]]:
    """Indices of the points of the lower and of the upper lids and lips that lie opposite each other."""
    lower, upper = [], []
    for part in (layout.EYE_LEFT, layout.EYE_RIGHT, layout.LIPS_OUTER, layout.LIPS_INNER):
        half = (part.stop - part.start) // 2
        lower += [part.start + k for k in range(1, half)]
        upper += [part.stop - k for k in range(1, half)]
    return lower, upper


def loss_of(points: Tensor, log_error: Tensor, target: Tensor, is_face: Tensor) -> tuple[Tensor, Tensor]:
    """(loss, mean error of the faces in interocular distances). L1: the middle of what is possible, not its mean.

    Eyes and lips count twice, and what opens and closes counts on its own: without that term a network learns the pose
    and leaves every mouth half shut, because that costs it next to nothing. So do irises between their eyes' corners.
    """
    unit = 1 / model.INTEROCULAR
    offset = (points - target) * unit
    distance = torch.linalg.vector_norm(offset, dim=-1)  # (B, POINTS)
    weight = torch.ones(model.POINTS)
    loss = torch.zeros(len(points))
    for part in (layout.EYE_LEFT, layout.EYE_RIGHT, layout.LIPS_OUTER, layout.LIPS_INNER):
        weight[part] = 2.0
    weight[IRISES] = 3.0
    lower, upper = gaps()
    gap = torch.linalg.vector_norm(offset[:, lower] - offset[:, upper], dim=-1)
    lids = 2 * (EYE_SIZE // 2 - 1)
    loss = loss + 6.0 * gap[:, :lids].mean(1) + 1.5 * gap[:, lids:].mean(1)
    loss = loss + (distance * weight).sum(1) / weight.sum()
    for centre, corners in zip(
        (IRISES.start, IRISES.start + 5), (layout.CORNERS_LEFT, layout.CORNERS_RIGHT), strict=True
    ):
        look = offset[:, centre] - offset[:, list(corners)].mean(1)
        loss = loss + 1.0 * torch.linalg.vector_norm(look, dim=-1)
    error = distance.mean(1)
    expected = torch.where(is_face > 0, error.detach().clamp(0.005, NOTHING), torch.full_like(error, NOTHING))
    surprise = nn.functional.smooth_l1_loss(log_error, expected.log(), reduction="none")
    faces = is_face.sum().clamp(min=1)
    return (loss * is_face).sum() / faces + 0.03 * surprise.mean(), (error.detach() * is_face).sum() / faces


def train(
    folder: Path,
    out: Path,
    minutes: float,
    *,
    first: Path | None = None,
    peak: float = 1.5e-3,
    batch: int = 32,
    seed: int = 0,
    heads: bool = False,
) -> None:
    """Train for `minutes`, from the weights in `first` where given; weights are averaged and saved to `out`.

    With `heads` the convolutions stay as they are, which takes half the time: what is trained reads their maps.

    The learning rate falls along a half cosine of the clock, so that a slow machine ends as calmly as a fast one.
    """
    torch.manual_seed(seed)
    portraits, _ = data.split(data.load_portraits(folder))
    examples = [load_example(p) for p in portraits]
    net = (grown(first, mean_shape(examples)) if first else model.LandmarkNet()).channels_last()
    if not first:
        net.mean_shape.copy_(mean_shape(examples))
    net.features.requires_grad_(not heads)
    average = copy.deepcopy(net)
    optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=peak, weight_decay=0.02)
    stream = iter(DataLoader(Samples(examples, seed), batch_size=batch, num_workers=1, prefetch_factor=4))
    start, running = time.monotonic(), math.nan
    step, done = 0, 0.0
    while done < 1:
        done = (time.monotonic() - start) / (60 * minutes)
        for group in optimizer.param_groups:
            group["lr"] = peak * min(1, (step + 1) / 100) * max(0.005, 0.5 + 0.5 * math.cos(math.pi * min(1.0, done)))
        error = _step(net, optimizer, next(stream))
        running = error if math.isnan(running) else 0.98 * running + 0.02 * error
        step += 1
        _follow(average, net, min(0.995, step / (step + 10)))
        if step % 100 == 0:
            print(f"{step:6d}  {done:6.1%}  error {running:.4f}", flush=True)
            model.save_net(average, out)
    model.save_net(average, out)


def sharpen(folder: Path, out: Path, minutes: float, *, first: Path, peak: float, count: int, seed: int) -> None:
    """Train the closer looks, and all there is to irises and surface, on the maps of `count` crops that are made once.

    Lids, irises and lips take many steps to learn and few kinds of picture: remembered maps give those steps.
    """
    torch.manual_seed(seed)
    portraits, _ = data.split(data.load_portraits(folder))
    examples = [load_example(p) for p in portraits]
    net = grown(first, mean_shape(examples)).eval().requires_grad_(False)
    maps, hidden, target = _remembered(net, Samples(examples, seed, calm=True), count)
    trained = nn.ModuleList([net.closer, net.points]).requires_grad_(True).train()
    for parameter in net.points.parameters():
        parameter.register_hook(_without_contours)  # type: ignore[no-untyped-call]
    groups: list[dict[str, Any]] = [
        {"params": list(net.closer.parameters()), "weight_decay": 0.05},
        {"params": list(net.points.parameters())},
    ]
    optimizer = torch.optim.AdamW(groups, lr=peak, weight_decay=0.0)
    average = grown(first, net.mean_shape).eval()
    start, done, step = time.monotonic(), 0.0, 0
    while done < 1:
        done = (time.monotonic() - start) / (60 * minutes)
        for group in optimizer.param_groups:
            group["lr"] = peak * max(0.005, 0.5 + 0.5 * math.cos(math.pi * min(1.0, done)))
        rows = torch.randint(0, count, (64,))
        early = maps[rows].float()
        moved = sum((closer(early) for closer in net.closer), net.points(hidden[rows]))
        points = net.mean_shape + moved.unflatten(1, (model.POINTS, 2))
        loss, error = loss_of(points, torch.zeros(len(rows)), target[rows], torch.ones(len(rows)))
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(trained.parameters(), 5.0)
        optimizer.step()
        step += 1
        _follow(average, net, min(0.98, step / (step + 10)))
        if step % 50 == 0:
            print(f"{step:6d}  {done:6.1%}  loss {float(loss):.4f} error {float(error):.4f}", flush=True)
    model.save_net(average, out)


def _without_contours(gradient: Tensor) -> Tensor:
    """What the neck says of the contours stays as it is."""
    kept = gradient.clone()
    kept[: 2 * model.CONTOURS] = 0
    return kept


@torch.no_grad()
def _remembered(net: model.LandmarkNet, samples: Samples, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of `count` crops: early maps in half precision, what the neck makes of the late ones, and the truth."""
    parts: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
    stream = DataLoader(samples, batch_size=64, num_workers=1, prefetch_factor=4)
    for crops, target, _ in itertools.islice(stream, -(-count // 64)):
        early = net.features[: model.MAP_AT](model.normalized(crops.float()))
        hidden = torch.relu(net.neck(net.features[model.MAP_AT :](early)))
        for part, value in zip(parts, (early.half(), hidden, target), strict=True):
            part.append(value)
    maps, hidden, target = (torch.cat(part)[:count] for part in parts)
    return maps, hidden, target


def grown(folder: Path, mean: Tensor) -> model.LandmarkNet:
    """The network of a folder, also of one that predicts the contours alone: the other points start at `mean`."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    net = model.LandmarkNet(config["widths"], config["hidden"])
    state = net.state_dict()
    state["mean_shape"] = mean.clone()
    for name, value in load_file(folder / "model.safetensors").items():
        target = state[name]
        (target[: len(value)] if value.dim() else target).copy_(value)
    net.load_state_dict(state)
    return net


def _step(net: model.LandmarkNet, optimizer: torch.optim.Optimizer, samples: tuple[Tensor, Tensor, Tensor]) -> float:
    crops, target, is_face = samples
    net.train()
    net.features.train(any(parameter.requires_grad for parameter in net.features.parameters()))
    points, log_error = net(crops.float().contiguous(memory_format=torch.channels_last))
    loss, error = loss_of(points, log_error, target, is_face)
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()
    return float(error)


@torch.no_grad()
def _follow(average: nn.Module, net: nn.Module, decay: float) -> None:
    for mine, theirs in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
        if mine.is_floating_point():
            mine.lerp_(theirs, 1 - decay)
        else:
            mine.copy_(theirs)


def mean_shape(examples: Sequence[Example]) -> Tensor:
    """(POINTS, 2) in sides of the crop: the median of all, aligned by their five points."""
    matrices = [geometry.align(layout.five_points(e.landmarks), model.TEMPLATE, SIZE) for e in examples]
    aligned = np.stack([geometry.transform(e.landmarks, m) for e, m in zip(examples, matrices, strict=True)])
    return torch.from_numpy((predicted(np.median(aligned, axis=0)) + 0.5) / SIZE).float()


# ---- measuring


def measure(folder: Path, weights: Path = model.WEIGHTS) -> dict[str, float]:
    """Median errors on the held-out portraits in percent of the interocular distance, from rough five points.

    Besides: the same for faces of 24 pixels, and how many faces (and how many other places) are above a confidence.
    """
    _, held_out = data.split(data.load_portraits(folder))
    rng = np.random.default_rng(1)
    cases = [(p.read(), p.landmarks) for p in held_out]
    figures: dict[str, float] = {}
    for passes in (1, 2, 3):
        landmarker = model.FaceLandmarker.load(weights, passes=passes)
        found = _located(landmarker, cases, np.random.default_rng(1))
        figures |= {f"{name}, passes {passes}": value for name, value in _errors(found, cases).items()}
    landmarker = model.FaceLandmarker.load(weights)
    small = [_reduced(*case, width=24) for case in cases]
    found = _located(landmarker, small, rng)
    figures |= {f"{name}, faces of 24 px": value for name, value in _errors(found, small).items()}
    elsewhere = [geometry.invert(misplaced(truth, rng)) for _, truth in cases]
    starts = [geometry.transform(_ideal(), m) for m in elsewhere]
    wrong = [landmarker.locate(picture, [start])[0] for (picture, _), start in zip(cases, starts, strict=True)]
    right = _located(landmarker, cases, rng)
    for name, answers in (("faces", right), ("other places", wrong)):
        figures[f"confidence > 0.5, {name}"] = 100 * float(np.mean([confidence > 0.5 for _, confidence in answers]))
    return figures


def _located(landmarker: model.FaceLandmarker, cases: Sequence[Case], rng: Generator) -> list[tuple[Float, float]]:
    return [landmarker.locate(picture, [_rough_points(truth, rng)])[0] for picture, truth in cases]


def _reduced(picture: Image, truth: Float, *, width: float) -> Case:
    """The portrait so small that the face is `width` pixels wide."""
    scale = width / (2.17 * _half_width(truth))
    matrix = np.array([[scale, 0, (scale - 1) / 2], [0, scale, (scale - 1) / 2]], np.float32)
    size = max(round(scale * max(picture.shape[:2])), 8)
    return geometry.crop(picture, matrix, size), geometry.transform(truth, matrix)


def _ideal() -> Float:
    return np.asarray(model.TEMPLATE.points, np.float32) * SIZE - 0.5


def _rough_points(truth: Float, rng: Generator) -> Float:
    """Five points as far off as `ROUGH` allows."""
    return geometry.transform(_ideal(), geometry.invert(jittered(truth, ROUGH, rng)))


def _errors(found: Sequence[tuple[Float, float]], cases: Sequence[Case]) -> dict[str, float]:
    pairs = [(points, truth) for (points, _), (_, truth) in zip(found, cases, strict=True)]
    off = np.stack([np.linalg.norm(a - b, axis=-1) / layout.interocular(b) for a, b in pairs])
    eyes = slice(layout.EYE_LEFT.start, layout.EYE_RIGHT.stop)
    lips, irises = slice(layout.LIPS_OUTER.start, model.CONTOURS), slice(layout.IRIS_LEFT.start, layout.IRIS_RIGHT.stop)
    contours = off[:, : layout.CONTOUR_COUNT]
    figures = {"contours": contours, "without the oval": contours[:, 36:], "eyes": off[:, eyes], "lips": off[:, lips]}
    figures |= {"irises": off[:, irises], "surface": off[:, layout.SURFACE]}
    medians = {name: 100 * float(np.median(part.mean(1))) for name, part in figures.items()}
    points = {"contours, point by point": 100 * float(np.median(contours))}
    return medians | points | {"contours, 95th percentile": 100 * float(np.percentile(contours.mean(1), 95))}


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("action", choices=["train", "sharpen", "measure"])
    parser.add_argument("folder", type=Path, help="with images/ and landmarks.npz")
    parser.add_argument("--out", type=Path, default=model.WEIGHTS)
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--first", type=Path, help="weights to go on from")
    parser.add_argument("--peak", type=float, default=1.5e-3, help="learning rate to begin with")
    parser.add_argument("--count", type=int, default=5000, help="crops that sharpen remembers")
    parser.add_argument("--heads", action="store_true", help="leave the convolutions as they are")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.action == "train":
        ways = {"first": options.first, "peak": options.peak, "seed": options.seed, "heads": options.heads}
        train(options.folder, options.out, options.minutes, **ways)
    if options.action == "sharpen":
        seen = {"first": options.first or model.WEIGHTS, "peak": options.peak, "seed": options.seed}
        sharpen(options.folder, options.out, options.minutes, count=options.count, **seen)
    for name, value in measure(options.folder, options.out).items():
        print(f"{name:40s} {value:6.2f}")


if __name__ == "__main__":
    main()
