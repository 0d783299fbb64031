"""Dense landmarks from five points: a small convolutional regressor, its weights, and the way in from insightface's.

Owns the network, its crop template and its confidence. Knows no detector, track or video. How the weights came about is
told by the model card beside them (`weights/landmarks/README.md`); `train/landmarks.py` makes them.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from revisage.models import hashes, layout
from revisage.models.completion import completed
from revisage.models.runtime import onnxruntime
from revisage.pipeline import geometry
from revisage.pipeline.errors import ModelError
from revisage.pipeline.types import CropTemplate, Float, Image

WEIGHTS = Path(__file__).parent / "weights" / "landmarks"
SIZE = 112  # side of the crop, pixels
CONTOURS = layout.EYE_CENTRES.start  # points before the eye centres, which follow from them
POINTS = layout.LANDMARK_COUNT - 2  # that the network predicts: all but the eye centres
INTEROCULAR = 0.29  # distance of the eye centres of an average upright face, in sides of the crop
SPREAD_FLOOR = 4.0  # grey levels; a crop with less contrast is not stretched to noise
ERROR_SCALE = 0.15  # mean error, in interocular distances, at which the confidence is 1/e

# Windows of the first quarter-size map, 28x28, looked at more closely: left, top, width, height. Eyes, then mouth.
WINDOWS = ((4, 5, 12, 10), (12, 5, 12, 10), (6, 14, 16, 12))
MAP_AT = 3  # layers before that map

# The mean shape of the training portraits, scaled so that a quarter more size still fits the crop.
TEMPLATE = CropTemplate(
    "landmarks", ((0.355, 0.3705), (0.645, 0.3705), (0.5, 0.5248), (0.3876, 0.6847), (0.6124, 0.6847))
)


class LandmarkNet(nn.Module):
    """(B, 3, SIZE, SIZE) crops, RGB 0..255 -> points (B, POINTS, 2) in sides of the crop, log error (B,).

    The log error is the natural logarithm of the mean distance the network expects to be off by, in interocular
    distances. Strided convolutions and residual blocks down to a 7x7 map, flattened rather than averaged: where a thing
    is matters more than that it is there. What lids, irises and lips do is a matter of a pixel or two and lost on that
    map; `closer` looks at each of them on the 28x28 map and corrects the points.
    """

    mean_shape: Tensor

    def __init__(self, widths: Sequence[int] = (16, 32, 64, 128), hidden: int = 128) -> None:
        super().__init__()
        self.widths, self.hidden = tuple(widths), hidden
        a, b, c, d = widths
        self.features = nn.Sequential(
            _ConvNorm(3, a, stride=2), _ConvNorm(a, b, stride=2), _Residual(b),
            _ConvNorm(b, c, stride=2), _Residual(c), _Residual(c),
            _ConvNorm(c, d, stride=2), _Residual(d), _ConvNorm(d, 32, kernel=1), nn.Flatten(),
        )  # fmt: skip
        self.closer = nn.ModuleList(_Closer(b, window) for window in WINDOWS)
        self.neck = nn.Linear(32 * (SIZE // 16) ** 2, hidden)
        self.points = nn.Linear(hidden, POINTS * 2)
        self.log_error = nn.Linear(hidden, 1)
        self.register_buffer("mean_shape", torch.zeros(POINTS, 2))
        nn.init.normal_(self.points.weight, std=1e-3)
        nn.init.zeros_(self.points.bias)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        early = self.features[:MAP_AT](normalized(crops))
        return self.answer(early, self.features[MAP_AT:](early))

    def answer(self, early: Tensor, late: Tensor) -> tuple[Tensor, Tensor]:
        """As `forward`, from the map after `MAP_AT` layers and the flattened last one."""
        hidden = torch.relu(self.neck(late))
        moved = self.points(hidden)
        for closer in self.closer:
            moved = moved + closer(early)
        return self.mean_shape + moved.unflatten(1, (POINTS, 2)), self.log_error(hidden).squeeze(1)

    def fuse(self) -> LandmarkNet:
        """Fold the batch normalizations into the convolutions, in place; for inference only."""
        self.eval()
        for module in self.modules():
            if isinstance(module, _ConvNorm):
                module.fuse()
        return self

    def channels_last(self) -> LandmarkNet:
        """The same network with its filters laid out as the CPU trains fastest, in place."""
        for parameter in self.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        return self


def normalized(crops: Tensor) -> Tensor:
    """Light and contrast of each crop on its own: darkness costs nothing, and no crop depends on its batch."""
    mean = crops.mean((1, 2, 3), keepdim=True)
    spread = crops.std((1, 2, 3), keepdim=True)
    return (crops - mean) / (spread + SPREAD_FLOOR)


class FaceLandmarker:
    """A `Landmarker`: aligns by the five points, runs the network, and again on the crop its own answer asks for.

    Runs on ONNX Runtime on the CPU, twice as fast there as PyTorch; `threads`: 0 takes every core, which helps batches
    of many faces only.
    """

    def __init__(self, net: LandmarkNet, *, passes: int = 2, batch_size: int = 16, threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(to_onnx(net), options, providers=["CPUExecutionProvider"])
        self._passes = passes
        self._batch_size = batch_size

    @classmethod
    def load(cls, folder: Path = WEIGHTS, *, passes: int = 2, batch_size: int = 16, threads: int = 1) -> FaceLandmarker:
        """From a folder with `config.json` and `model.safetensors`. Raises `ModelError` where they are not sound."""
        return cls(load_net(folder), passes=passes, batch_size=batch_size, threads=threads)

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

    def _predict(self, crops: Image) -> tuple[Float, Float]:
        """(B, SIZE, SIZE, 3) uint8 -> landmarks (B, LANDMARK_COUNT, 2) in pixels of the crops, confidences (B,)."""
        planes = np.ascontiguousarray(crops.transpose(0, 3, 1, 2), np.float32)
        shapes, log_error = self._session.run(["points", "log_error"], {"crops": planes})
        confidences: Float = np.exp(-np.exp(log_error[:, 0]) / ERROR_SCALE)
        landmarks = with_eye_centres(shapes.reshape(-1, POINTS, 2) * SIZE - 0.5)
        # What the network says of gaze goes against the film as often as with it (see the card): eyes look ahead.
        landmarks[:, layout.IRIS_LEFT.start : layout.IRIS_RIGHT.stop] = layout.looking_ahead(landmarks)
        return landmarks, confidences


def with_eye_centres(points: Float) -> Float:
    """(…, POINTS, 2) -> (…, LANDMARK_COUNT, 2), the means of the eyes' contours put in their place."""
    contours = layout.with_eye_centres(points[..., :CONTOURS, :])
    return np.concatenate([contours, points[..., CONTOURS:, :]], axis=-2).astype(np.float32)


def load_net(folder: Path = WEIGHTS) -> LandmarkNet:
    """The network of a folder, in float32, ready for inference. Raises `ModelError` where files are not sound."""
    hashes.check(folder)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        net = LandmarkNet(tuple(config["widths"]), int(config["hidden"]))
        net.load_state_dict({k: v.float() for k, v in load_file(folder / "model.safetensors").items()})
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"no usable landmark network in {folder}: {error}; install revisage again") from error
    return net.eval()


def save_net(net: LandmarkNet, folder: Path) -> None:
    """Write `net` in half precision, with the widths `load_net` needs."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"widths": net.widths, "hidden": net.hidden, "size": SIZE, "template": TEMPLATE.points}
    state = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in net.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    (folder / "model.safetensors").chmod(0o644)  # safetensors keeps others from reading; package data is for all
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


class _ConvNorm(nn.Module):
    """Convolution, batch normalization, and the activation where there is one."""

    def __init__(self, inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, active: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norm: nn.BatchNorm2d | nn.Identity = nn.BatchNorm2d(outputs)
        self.active = nn.ReLU(inplace=True) if active else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.active(self.norm(self.conv(x)))
        return y

    def fuse(self) -> None:
        """Fold the normalization into the convolution."""
        if isinstance(self.norm, nn.BatchNorm2d):
            self.conv, self.norm = fuse_conv_bn_eval(self.conv, self.norm), nn.Identity()


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_ConvNorm(channels, channels), _ConvNorm(channels, channels, active=False))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.body(x))


class _Closer(nn.Module):
    """A window of the early map (B, C, 28, 28) -> corrections of all points (B, POINTS * 2); none before training."""

    def __init__(self, channels: int, window: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.window = window
        _, _, width, height = window
        self.body = nn.Sequential(_ConvNorm(channels, 32, stride=2), _ConvNorm(32, 16), nn.Flatten())
        self.neck = nn.Linear(16 * ((width + 1) // 2) * ((height + 1) // 2), 48)
        self.points = nn.Linear(48, POINTS * 2)
        nn.init.zeros_(self.points.weight)
        nn.init.zeros_(self.points.bias)

    def forward(self, early: Tensor) -> Tensor:
        left, top, width, height = self.window
        seen = self.body(early[:, :, top : top + height, left : left + width])
        moved: Tensor = self.points(torch.relu(self.neck(seen)))
        return moved


# ---- the way to ONNX Runtime


def to_onnx(net: LandmarkNet) -> bytes:
    """`net` as an ONNX model: `crops` as for `LandmarkNet` -> `points` (B, POINTS * 2), `log_error` (B, 1).

    Written node by node: an exporter would have to trace, which takes longer than everything else together.
    """
    graph = _OnnxGraph()
    centred = graph.add("Sub", "crops", graph.mean("crops"))
    variance = graph.add("Mul", graph.mean(graph.add("Mul", centred, centred)), graph.weight(_unbiased(3 * SIZE**2)))
    spread = graph.add("Add", graph.add("Sqrt", variance), graph.weight(torch.tensor(SPREAD_FLOOR)))
    value = graph.add("Div", centred, spread)
    net = copy.deepcopy(net).fuse()
    early = ""
    for number, layer in enumerate(net.features, 1):
        value = graph.layer(layer, value)
        early = value if number == MAP_AT else early
    hidden = graph.add("Relu", graph.linear(net.neck, value))
    moved = graph.linear(net.points, hidden)
    for closer in net.closer:
        moved = graph.add("Add", moved, graph.closer(closer, early))
    graph.add("Add", moved, graph.weight(net.mean_shape.reshape(1, -1)), name="points")
    graph.linear(net.log_error, hidden, name="log_error")
    return graph.model({"points": POINTS * 2, "log_error": 1})


def _unbiased(count: int) -> Tensor:
    return torch.tensor(count / (count - 1))


class _OnnxGraph:
    """Nodes and weights in the making; every method returns the name of the value it has added."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def add(self, operator: str, *inputs: str, name: str = "", **attributes: object) -> str:
        name = name or f"{operator}_{len(self._nodes)}"
        self._nodes.append(onnx.helper.make_node(operator, inputs, [name], **attributes))
        return name

    def weight(self, value: Tensor) -> str:
        name = f"weight_{len(self._weights)}"
        self._weights.append(onnx.numpy_helper.from_array(value.detach().float().numpy(), name))
        return name

    def _numbers(self, values: Sequence[int]) -> str:
        name = f"weight_{len(self._weights)}"
        self._weights.append(onnx.numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def mean(self, value: str) -> str:
        return self.add("ReduceMean", value, axes=[1, 2, 3], keepdims=1)

    def layer(self, layer: nn.Module, value: str) -> str:
        match layer:
            case _ConvNorm():
                return self._conv(layer, value)
            case _Residual():
                inner = self.layer(layer.body[1], self.layer(layer.body[0], value))
                return self.add("Relu", self.add("Add", value, inner))
            case nn.Flatten():
                return self.add("Flatten", value)
        raise TypeError(f"no ONNX form of {type(layer).__name__}")

    def closer(self, closer: nn.Module, early: str) -> str:
        if not isinstance(closer, _Closer):
            raise TypeError(f"no ONNX form of {type(closer).__name__}")
        left, top, width, height = closer.window
        bounds = ([top, left], [top + height, left + width], [2, 3])  # starts, ends, axes
        value = self.add("Slice", early, *(self._numbers(numbers) for numbers in bounds))
        for layer in closer.body:
            value = self.layer(layer, value)
        return self.linear(closer.points, self.add("Relu", self.linear(closer.neck, value)))

    def linear(self, layer: nn.Linear, value: str, name: str = "") -> str:
        return self.add("Gemm", value, self.weight(layer.weight), self.weight(layer.bias), name=name, transB=1)

    def model(self, outputs: Mapping[str, int]) -> bytes:
        """The finished model; `outputs` are names and their widths."""
        real = onnx.TensorProto.FLOAT
        crops = onnx.helper.make_tensor_value_info("crops", real, ["batch", 3, SIZE, SIZE])
        ends = [onnx.helper.make_tensor_value_info(name, real, ["batch", width]) for name, width in outputs.items()]
        graph = onnx.helper.make_graph(self._nodes, "landmarks", [crops], ends, self._weights)
        opset = [onnx.helper.make_opsetid("", 17)]  # the last in which ReduceMean takes its axes as an attribute
        data: bytes = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
        return data

    def _conv(self, layer: _ConvNorm, value: str) -> str:
        conv = layer.conv
        weights = [self.weight(w) for w in (conv.weight, conv.bias) if w is not None]
        pads = [*conv.padding, *conv.padding] if isinstance(conv.padding, tuple) else [0] * 4
        value = self.add("Conv", value, *weights, strides=list(conv.stride), pads=pads)
        return self.add("Relu", value) if isinstance(layer.active, nn.ReLU) else value


# ---- insightface's 106 points

# The order of insightface's 2d106det, regrouped. Contours run as in `layout`; *left* and *right* are the viewer's.
_106_JAW_RIGHT = (17, 25, 26, 27, 28, 29, 30, 31, 32, 18, 19, 20, 21, 22, 23, 24, 0)  # temple to chin
_106_JAW_LEFT = (0, 8, 7, 6, 5, 4, 3, 2, 16, 15, 14, 13, 12, 11, 10, 9, 1)  # chin to temple
_106_BROWS = (43, 48, 49, 51, 50, 101, 105, 104, 103, 102)  # upper edges, each from its outer end
_106_EYE_LEFT = ((35, 36, 33, 37, 39), (39, 42, 40, 41, 35))  # lower lid, upper lid
_106_EYE_RIGHT = ((93, 91, 87, 90, 89), (89, 95, 94, 96, 93))
_106_NOSE_BRIDGE = (72, 73, 74, 86)
_106_NOSTRILS = (77, 78, 79, 80, 85, 84, 83)
_106_LIPS_OUTER = ((52, 55, 56, 53, 59, 58, 61), (61, 68, 67, 71, 63, 64, 52))  # lower lip, upper lip
_106_LIPS_INNER = ((65, 54, 60, 57, 69), (69, 70, 62, 66, 65))
# The right half of the mean shape's oval, forehead to chin: a unit is the interocular distance, x from the midline.
_MEAN_OVAL = (
    (0, -1.32), (0.31, -1.31), (0.55, -1.27), (0.79, -1.18), (0.94, -1.04), (1.03, -0.86), (1.07, -0.68),
    (1.08, -0.44), (1.07, -0.22), (1.05, 0.01), (1.01, 0.25), (0.94, 0.51), (0.84, 0.72), (0.73, 0.87),
    (0.6, 1.0), (0.48, 1.09), (0.34, 1.18), (0.19, 1.24), (0, 1.26),
)  # fmt: skip
_MEAN_EYES = ((-0.5, -0.477), (0.5, -0.477))
_TEMPLE = 7  # where on the oval insightface's contour begins; it knows no forehead


def from_insightface106(points106: Float) -> Float:
    """(106, 2) of insightface's 2d106det -> (LANDMARK_COUNT, 2) float32 in the same pixels.

    Contours with the same ends are resampled along their length, so that corners, nose tip and chin correspond exactly
    and points between them approximately. The forehead, which the 106 points lack, is the mean shape's, fitted
    affinely to jaw and eyes; irises and surface follow from the contours. Source of the
    order: the index picture of insightface's `coordinate_reg`, and the
    conversion tables to 68 points in wide use.
    """
    p = np.asarray(points106, np.float32)
    eyes = [_closed(p, lids, 8, 8) for lids in (_106_EYE_LEFT, _106_EYE_RIGHT)]
    lips = [_closed(p, lips, 10, 10) for lips in (_106_LIPS_OUTER, _106_LIPS_INNER)]
    nose = [_resampled(p[list(_106_NOSE_BRIDGE)], 6), _resampled(p[list(_106_NOSTRILS)], 9)]
    oval = _oval(p, np.stack([eye.mean(0) for eye in eyes]))
    return completed(layout.with_eye_centres(np.concatenate([oval, p[list(_106_BROWS)], *eyes, *nose, *lips])))


def _oval(points106: Float, eyes: Float) -> Float:
    """(106, 2), eye centres (2, 2) -> the 36 points of the oval."""
    half = np.array(_MEAN_OVAL, np.float32)
    jaw = half[_TEMPLE:]
    right = _resampled(points106[list(_106_JAW_RIGHT)], like=jaw)
    left = _resampled(points106[list(_106_JAW_LEFT)], like=jaw[::-1])
    mean = np.concatenate([half, half[-2:0:-1] * (-1, 1)])
    known = slice(_TEMPLE, len(mean) - _TEMPLE + 1)
    seen = np.concatenate([right, left[1:]])
    source = np.concatenate([mean[known], np.array(_MEAN_EYES)])
    fit, *_ = np.linalg.lstsq(np.hstack([source, np.ones((len(source), 1))]), np.concatenate([seen, eyes]), rcond=None)
    oval: Float = (np.hstack([mean, np.ones((len(mean), 1))]) @ fit).astype(np.float32)
    oval[known] = seen
    return oval


def _closed(points: Float, halves: Sequence[Sequence[int]], *counts: int) -> Float:
    """A contour from one corner to the other and back, `counts` points each way, without the corner it ends on."""
    ways = zip(halves, counts, strict=True)
    return np.concatenate([_resampled(points[list(half)], count + 1)[:-1] for half, count in ways])


def _resampled(line: Float, count: int = 0, *, like: Float | None = None) -> Float:
    """(K, 2) polyline -> points along it, both ends included: `count` evenly, or spaced as those of `like`."""
    at = np.linspace(0, 1, count) if like is None else _way(like)
    return np.stack([np.interp(at, _way(line), line[:, axis]) for axis in (0, 1)], axis=-1).astype(np.float32)


def _way(line: Float) -> Float:
    """(K, 2) -> (K,), how much of the polyline's length lies before each point, 0..1."""
    lengths = np.linalg.norm(np.diff(line, axis=0), axis=-1)
    way = np.concatenate([[0], np.cumsum(lengths)])
    share: Float = (way / max(float(way[-1]), 1e-9)).astype(np.float32)
    return share
