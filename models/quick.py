"""Makes a diffusers network quicker for inference without changing what it computes. Knows no weights and no picture.

Measured with `tests/benchmarks/generator.py` on two cores of a CPU with AVX512-BF16, over plain torch in float32 (two
runs): this 0.71 and 0.73 in float32, 0.51 and 0.44 in bfloat16; ONNX Runtime 0.71 and 0.85 in float32; OpenVINO 0.45,
0.48 in bfloat16; `torch.compile` 0.77 in float32. What could be gained is not worth an export or another library.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from revisage.models.device import Device

Network = TypeVar("Network", bound=nn.Module)


def quickened(network: Network, device: Device) -> Network:
    """`network`, in place, for inference on `device` only: it can no longer be trained or saved.

    On the CPU, normalizations of a bfloat16 network run in float32 (faster there, and more exact), and filters are laid
    out once as oneDNN wants them, where this build of torch can.
    """
    if device.is_cuda:
        return network
    if device.dtype != torch.float32:
        _replace(network, nn.GroupNorm, _Norm32)
    return _replace(network, nn.Conv2d, _packed)


class SplitInput(nn.Module):
    """The first convolution of a network whose later input channels stay the same over all steps.

    `split` convolves those once; `forward` takes the channels that change, followed by what `split` gave.
    """

    def __init__(self, conv: nn.Conv2d, changing: int) -> None:
        """`changing`: how many of the input's channels come first and change."""
        super().__init__()
        self._changing = changing
        self._weight = nn.Parameter(_laid_out(conv.weight[:, :changing]), requires_grad=False)
        self._rest = nn.Parameter(_laid_out(conv.weight[:, changing:]), requires_grad=False)
        self._bias = conv.bias
        self._padding = cast(tuple[int, int], conv.padding)

    def split(self, rest: Tensor) -> Tensor:
        """(B, constant channels, H, W) -> (B, output channels, H, W)."""
        return F.conv2d(_laid_out(rest), self._rest, self._bias, padding=self._padding)

    def forward(self, sample: Tensor) -> Tensor:
        changing, constant = sample[:, : self._changing], sample[:, self._changing :]
        return F.conv2d(_laid_out(changing), self._weight, padding=self._padding) + constant


class _Norm32(nn.Module):
    """A group normalization in float32, whatever goes in and out."""

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self._norm = norm.float()

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self._norm(x.float())).to(x.dtype)


class _Packed(nn.Module):
    """A convolution whose filter lies as oneDNN wants it for the first input it gets; `Conv2d` lays it out every time.

    Inputs of another shape give the same, if more slowly. The operators are those that torch's own compiler uses; they
    are no public interface, hence `_can_pack`.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self._plain: Tensor | None = conv.weight.detach().contiguous()
        self._filter = conv.weight.detach()
        self._bias = conv.bias
        self._geometry = (conv.padding, conv.stride, conv.dilation, conv.groups)

    def forward(self, x: Tensor) -> Tensor:
        if self._plain is not None:
            lay_out = torch.ops.mkldnn._reorder_convolution_weight
            self._filter, self._plain = lay_out(self._plain, *self._geometry, list(x.shape)), None
        run = torch.ops.mkldnn._convolution_pointwise
        return cast(Tensor, run(x, self._filter, self._bias, *self._geometry, "none", [], ""))


def _packed(conv: nn.Conv2d) -> nn.Module:
    """`conv` packed, or `conv` itself where that is not known to work."""
    plain = type(conv) is nn.Conv2d and conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    return _Packed(conv) if plain and _can_pack(conv.weight.dtype) else conv


@lru_cache
@torch.inference_mode()
def _can_pack(dtype: torch.dtype) -> bool:
    """Whether this build of torch packs a convolution and gets the same out of it."""
    conv = nn.Conv2d(16, 16, 3, padding=1).to(dtype).requires_grad_(False)
    conv.weight.copy_(torch.linspace(-1, 1, conv.weight.numel()).view_as(conv.weight))
    trial = _laid_out(torch.linspace(-1, 1, 16 * 64, dtype=dtype).view(1, 16, 8, 8))
    try:
        return torch.allclose(_Packed(conv)(trial).float(), conv(trial).float(), rtol=1e-2, atol=1e-2)
    except (RuntimeError, AttributeError, TypeError, NotImplementedError):
        return False


def _laid_out(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last)


def _replace(network: Network, kind: type[Any], by: Callable[[Any], nn.Module]) -> Network:
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, kind):
                setattr(parent, name, by(child))
    return network
