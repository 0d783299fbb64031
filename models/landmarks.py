"""Dense landmarks from five points: a small convolutional regressor, its weights, and the way in from insightface's.

Owns the network, its crop template and its confidence. Knows no detector, track or video. How the weights came about is
told by the model card beside them (`weights/landmarks/README.md`); `train/landmarks.py` makes them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from revisage.models import layout
from revisage.pipeline import geometry
from revisage.pipeline.errors import ModelError
from revisage.pipeline.types import CropTemplate, Float, Image

WEIGHTS = Path(__file__).parent / "weights" / "landmarks"
SIZE = 112  # side of the crop, pixels
POINTS = layout.EYE_CENTRES.start  # that the network predicts; the eye centres follow from them
INTEROCULAR = 0.29  # distance of the eye centres of an average upright face, in sides of the crop
ERROR_SCALE = 0.15  # mean error, in interocular distances, at which the confidence is 1/e

# The mean shape of the training portraits, scaled so that a quarter more size still fits the crop.
TEMPLATE = CropTemplate(
    "landmarks", ((0.355, 0.3705), (0.645, 0.3705), (0.5, 0.5248), (0.3876, 0.6847), (0.6124, 0.6847))
)


class LandmarkNet(nn.Module):
    """(B, 3, SIZE, SIZE) crops, RGB 0..255 -> points (B, POINTS, 2) in sides of the crop, log error (B,).

    The log error is the natural logarithm of the mean distance the network expects to be off by, in interocular
    distances. Strided convolutions and residual blocks down to a 7x7 map, flattened rather than averaged: where a thing
    is matters more than that it is there.
    """

    mean_shape: Tensor

    def __init__(self, widths: Sequence[int] = (16, 32, 64, 128), hidden: int = 128) -> None:
        super().__init__()
        self.widths, self.hidden = tuple(widths), hidden
        a, b, c, d = widths
        self.features = nn.Sequential(
            _conv(3, a, stride=2), _conv(a, b, stride=2), _Residual(b),
            _conv(b, c, stride=2), _Residual(c), _Residual(c),
            _conv(c, d, stride=2), _Residual(d), _conv(d, 32, kernel=1), nn.Flatten(),
        )  # fmt: skip
        self.neck = nn.Sequential(nn.Linear(32 * (SIZE // 16) ** 2, hidden), nn.ReLU(inplace=True))
        self.points = nn.Linear(hidden, POINTS * 2)
        self.log_error = nn.Linear(hidden, 1)
        self.register_buffer("mean_shape", torch.zeros(POINTS, 2))
        nn.init.normal_(self.points.weight, std=1e-3)
        nn.init.zeros_(self.points.bias)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        # Light and contrast of each crop on its own: darkness costs nothing, and no crop depends on its batch.
        mean = crops.mean((1, 2, 3), keepdim=True)
        spread = crops.std((1, 2, 3), keepdim=True)
        hidden = self.neck(self.features((crops - mean) / (spread + 4.0)))
        return self.mean_shape + self.points(hidden).unflatten(1, (POINTS, 2)), self.log_error(hidden).squeeze(1)

    def fuse(self) -> LandmarkNet:
        """Fold the batch normalizations into the convolutions, in place; for inference only, half the time."""
        self.eval()
        for module in self.modules():
            if isinstance(module, _ConvNorm):
                module[0] = fuse_conv_bn_eval(module[0], module[1])
                module[1] = nn.Identity()
        return self.to(memory_format=torch.channels_last)


class FaceLandmarker:
    """A `Landmarker`: aligns by the five points, runs the network, and again on the crop its own answer asks for."""

    def __init__(self, net: LandmarkNet, *, passes: int = 2, batch_size: int = 16) -> None:
        self._net = net
        self._passes = passes
        self._batch_size = batch_size

    @classmethod
    def load(cls, folder: Path = WEIGHTS, *, passes: int = 2, batch_size: int = 16) -> FaceLandmarker:
        """From a folder with `config.json` and `model.safetensors`. Raises `ModelError` where they are not sound."""
        return cls(load_net(folder).fuse(), passes=passes, batch_size=batch_size)

    def locate(self, picture: Image, points: Sequence[Float]) -> list[tuple[Float, float]]:
        """For each (5, 2) float32 in `picture`: landmarks (LANDMARK_COUNT, 2) float32 in its pixels, confidence 0..1.

        `picture` is (H, W, 3) uint8 RGB. Landmarks may lie outside it: a face at the edge goes on. The confidence is
        exp(-e / ERROR_SCALE) for an expected mean error of e interocular distances: 0.8 is a good fit, below 0.3 most
        likely no face. Every face is one row of its own; what else is in the batch does not matter.
        """
        guides = [np.asarray(p, np.float32) for p in points]
        found: list[tuple[Float, float]] = []
        for _ in range(self._passes):
            found = self._pass(picture, guides)
            guides = [layout.five_points(landmarks) for landmarks, _ in found]
        return found

    def _pass(self, picture: Image, points: Sequence[Float]) -> list[tuple[Float, float]]:
        found: list[tuple[Float, float]] = []
        for start in range(0, len(points), self._batch_size):
            matrices = [geometry.align(p, TEMPLATE, SIZE) for p in points[start : start + self._batch_size]]
            shapes, confidences = self._predict(np.stack([geometry.crop(picture, m, SIZE) for m in matrices]))
            back = [geometry.transform(s, geometry.invert(m)) for s, m in zip(shapes, matrices, strict=True)]
            found += list(zip(back, confidences.tolist(), strict=True))
        return found

    @torch.inference_mode()
    def _predict(self, crops: Image) -> tuple[Float, Float]:
        """(B, SIZE, SIZE, 3) uint8 -> landmarks (B, LANDMARK_COUNT, 2) in pixels of the crops, confidences (B,)."""
        shapes, log_error = self._net(torch.from_numpy(crops).permute(0, 3, 1, 2).float())
        confidences = torch.exp(-torch.exp(log_error) / ERROR_SCALE)
        return with_eye_centres(shapes.numpy() * SIZE - 0.5), confidences.numpy()


def with_eye_centres(points: Float) -> Float:
    """(…, POINTS, 2) -> (…, LANDMARK_COUNT, 2), the means of the eyes' contours appended."""
    centres = [points[..., eye, :].mean(axis=-2, keepdims=True) for eye in (layout.EYE_LEFT, layout.EYE_RIGHT)]
    return np.concatenate([points, *centres], axis=-2).astype(np.float32)


def load_net(folder: Path = WEIGHTS) -> LandmarkNet:
    """The network of a folder, in float32, ready for inference. Raises `ModelError` where files are not sound."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        net = LandmarkNet(tuple(config["widths"]), int(config["hidden"]))
        net.load_state_dict({k: v.float() for k, v in load_file(folder / "model.safetensors").items()})
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ModelError(f"no usable landmark network in {folder}: {error}; install revisage again") from error
    return net.eval()


def save_net(net: LandmarkNet, folder: Path) -> None:
    """Write `net` in half precision, with the widths `load_net` needs."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"widths": net.widths, "hidden": net.hidden, "size": SIZE, "template": TEMPLATE.points}
    state = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in net.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


class _ConvNorm(nn.Sequential):
    """Convolution, batch normalization, and the activation where there is one."""


def _conv(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, active: bool = True) -> _ConvNorm:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return _ConvNorm(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True) if active else nn.Identity())


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_conv(channels, channels), _conv(channels, channels, active=False))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.body(x))
