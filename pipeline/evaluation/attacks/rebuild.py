"""A network that learns to undo the method: from anonymized faces to the originals, on people the attacker has.

The attack that breaks methods which leave a trace of the face in the pixels: blur, mosaic, and adversarial masks
(McPherson, Shokri, Shmatikov, *Defeating Image Obfuscation with Deep Learning*, 2016; the reconstruction threat of
DeepPrivacy2 and of Revelio, arXiv 2506.12344). Small and quick on purpose; a patient attacker has a larger one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from revisage.models import landmarks as dense
from revisage.models import layout
from revisage.models.scoring import SAME_PERSON, DlibRecognizer
from revisage.pipeline import geometry
from revisage.pipeline.evaluation import measures
from revisage.pipeline.evaluation.films import Watched
from revisage.pipeline.evaluation.judges import CROP, Seen
from revisage.pipeline.evaluation.report import Attack
from revisage.pipeline.types import Float, Image

SIDE = 64  # of the crops that are learnt and rebuilt
_BATCH, _RATE = 16, 1e-3


class Rebuilder(nn.Module):
    """A U-Net of three levels: (B, 3, SIDE, SIDE) in -1..1 -> the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _block(3, width)
        self.down = nn.ModuleList([_block(width << i, width << i + 1, stride=2) for i in range(3)])
        self.up = nn.ModuleList([_block((width << i + 1) + (width << i), width << i) for i in reversed(range(3))])
        self.last = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, seen: Tensor) -> Tensor:
        levels = [self.first(seen)]
        for down in self.down:
            levels.append(down(levels[-1]))
        x = levels.pop()
        for up in self.up:
            x = up(torch.cat([F.interpolate(x, scale_factor=2.0), levels.pop()], dim=1))
        rebuilt: Tensor = self.last(x)
        return rebuilt


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard the attacker tries."""

    seconds: float = 60.0
    steps: int = 10**6
    width: int = 32  # channels of the network's first level


def rebuilding(
    pairs: tuple[Seen, Seen, Seen],
    original: Sequence[Watched],
    painted: Sequence[Watched],
    blurred: Sequence[Watched],
    recognizer: DlibRecognizer,
    effort: Effort,
) -> Attack:
    """Learn on `pairs` (originals, painted, blurred; the same people in the same order), rebuild the video's faces.

    Against blur the same network with the same effort shows what it is able to.
    """
    people, masked, soft = pairs
    own = _rebuilt(people, masked, original, painted, recognizer, effort)
    other = _rebuilt(people, soft, original, blurred, recognizer, effort)
    figures = {f"{name}{suffix}": v for suffix, row in (("", own), ("_blur", other)) for name, v in row.items()}
    outcome = (
        f"trained on {len(people)} people: {own['same']:.0%} of the rebuilt faces judged the same person, distance "
        f"{own['distance']:.2f} (against blur {other['same']:.0%}, {other['distance']:.2f})"
    )
    return Attack("reconstruction network", outcome, figures, own["same"] <= 0.05)


def train(seen: Image, wanted: Image, effort: Effort, seed: int = 0) -> Rebuilder:
    """A network from crops `seen` to crops `wanted` (N, S, S, 3); half of what it is shown is mirrored."""
    torch.manual_seed(seed)  # of the attacker's own network
    net = Rebuilder(effort.width)
    inputs, targets = _tensor(seen), _tensor(wanted)
    optimizer = torch.optim.AdamW(net.parameters(), lr=_RATE)
    end = time.monotonic() + effort.seconds
    for _ in range(effort.steps):
        rows = torch.randint(len(inputs), (_BATCH,))
        flip = torch.rand(_BATCH, 1, 1, 1) < 0.5
        x, y = (torch.where(flip, t[rows].flip(-1), t[rows]) for t in (inputs, targets))
        loss = F.l1_loss(net(x), y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if time.monotonic() > end:
            break
    return net.eval()


@torch.inference_mode()
def rebuild(net: Rebuilder, seen: Image) -> Image:
    """(N, S, S, 3) crops -> (N, CROP, CROP, 3) rebuilt ones."""
    crops = _tensor(seen)
    out = torch.cat([net(crops[i : i + 32]) for i in range(0, len(crops), 32)])
    pixels = ((out.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return np.stack([cv2.resize(picture, (CROP, CROP), interpolation=cv2.INTER_CUBIC) for picture in pixels])


def _rebuilt(
    people: Seen,
    seen: Seen,
    original: Sequence[Watched],
    video: Sequence[Watched],
    recognizer: DlibRecognizer,
    effort: Effort,
) -> dict[str, float]:
    net = train(seen.crops, people.crops, effort)
    distance, quality = [], []
    for truth, track in zip(original, video, strict=True):
        for i, picture in enumerate(rebuild(net, track.seen.crops)):
            vector = recognizer.embed(picture, _in_crop(truth.driving[i]))
            distance.append(float(np.linalg.norm(vector - truth.seen.embeddings[i])))
            quality.append(measures.psnr(picture, truth.seen.crops[i]))
    return {
        "same": measures.same_person_rate(np.array(distance), SAME_PERSON),
        "distance": measures.median(np.array(distance)),
        "psnr": measures.mean(np.array(quality)),
    }


def _in_crop(driving: Float) -> Float:
    """Landmarks of the picture -> in pixels of its face crop."""
    return geometry.transform(driving, geometry.align(layout.five_points(driving), dense.TEMPLATE, CROP))


def _tensor(crops: Image) -> Tensor:
    small = np.stack([cv2.resize(crop, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for crop in crops])
    return torch.from_numpy(small).permute(0, 3, 1, 2).float() / 127.5 - 1


def _block(narrow: int, wide: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(narrow, wide, 3, stride, 1), nn.GroupNorm(8, wide), nn.SiLU(),
        nn.Conv2d(wide, wide, 3, 1, 1), nn.GroupNorm(8, wide), nn.SiLU(),
    )  # fmt: skip
