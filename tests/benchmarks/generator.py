"""What runs the face model fastest on a CPU: the same faces by plain torch, by our path, compiled, and by ONNX Runtime.

    python tests/benchmarks/generator.py [--faces 8] [--runs 5]

Every way takes the default steps on the same requests, all threads. The last line is one JSON object: for each way its
time over that of plain torch in float32, and how far its pictures are from those, in grey levels (mean and largest).
Ways whose library is missing are left out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import UNet2DModel
from numpy.typing import NDArray
from torch import Tensor, nn

from revisage.models.base import FaceRequest
from revisage.models.conditioning import face_mask, remove_face, standard_landmarks
from revisage.models.device import choose_device
from revisage.models.family import as_bytes
from revisage.models.folder import EMBEDDED
from revisage.models.generator import DiffusionGenerator, load_generator
from revisage.models.inpaint import Inpaint, calmed
from revisage.models.refiner import Refiner
from revisage.models.runtime import onnxruntime
from revisage.models.sampler import ddim, trailing

Pictures = NDArray[np.uint8]
Step = Callable[..., Tensor]
NAMES = ["noisy", "seen", "look", "timestep"]


class Plain(nn.Module):
    """The embedded model as diffusers runs it: noisy picture, what is seen, look, timestep -> clean picture."""

    def __init__(self) -> None:
        super().__init__()
        self.unet = UNet2DModel.from_pretrained(EMBEDDED / "unet").float()
        self.refiner = Refiner.from_pretrained(EMBEDDED / "refiner").float()

    def forward(self, noisy: Tensor, seen: Tensor, look: Tensor, timestep: Tensor) -> Tensor:
        """(B, 3, S, S), (B, 7, S, S), (B, 3, S, S), (B,) -> (B, 3, S, S)."""
        patches = F.pixel_unshuffle(torch.cat([noisy, seen, look], dim=1), self.refiner.config.patch)
        finished: Tensor = self.refiner(self.unet(patches, timestep).sample, noisy, seen, look)
        return finished


def requests(count: int, size: int, code_size: int) -> list[FaceRequest]:
    """An average face over noise: times do not depend on what is seen."""
    rng = np.random.default_rng(1)
    five = np.float32([[0.39, 0.41], [0.61, 0.41], [0.5, 0.5356], [0.4087, 0.6643], [0.5913, 0.6643]]) * size
    landmarks = standard_landmarks(five)
    mask = face_mask(landmarks, size)
    made = []
    for _ in range(count):
        picture = rng.integers(0, 256, (size, size, 3), np.uint8)
        code, noise = rng.standard_normal(code_size, np.float32), rng.standard_normal((3, size, size), np.float32)
        made.append(FaceRequest(remove_face(picture, mask), mask, landmarks, code, noise))
    return made


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What the network gets besides timestep, and how it is sampled."""

    seen: Tensor  # (B, 7, S, S)
    look: Tensor  # (B, 3, S, S)
    start: Tensor  # (B, 3, S, S)
    steps: int
    alphas: Tensor

    def painted(self, step: Step) -> Pictures:
        """(B, S, S, 3) uint8 by `step`, which is called as `Plain` is."""

        def denoise(x: Tensor, t: int) -> Tensor:
            return step(x, self.seen, self.look, torch.full((len(x),), t, dtype=torch.int64)).float()

        with torch.inference_mode():
            return as_bytes(ddim(denoise, self.start, trailing(self.steps), self.alphas)).numpy()


def scene(faces: Sequence[FaceRequest], generator: DiffusionGenerator) -> Scene:
    """The requests as tensors."""
    family = generator.family
    assert isinstance(family, Inpaint)
    start = calmed(torch.from_numpy(np.stack([face.noise for face in faces])), family.spec.calm)
    return Scene(*family.conditions(faces), start, family.spec.steps, family.alphas)


def ways(faces: Sequence[FaceRequest], folder: Path) -> Iterator[tuple[str, Callable[[], Pictures]]]:
    """Every way there is here, by name; the first is what the others are compared with."""
    device = choose_device("cpu")
    ours = {
        dtype: load_generator(EMBEDDED.name, device=replace(device, dtype=dtype), batch_size=len(faces))
        for dtype in {torch.float32, device.dtype}
    }
    plain, given = Plain().eval().requires_grad_(False), scene(faces, ours[torch.float32])
    yield "torch float32", lambda: given.painted(plain)
    if device.dtype != torch.float32:
        half = Plain().to(device.dtype).eval().requires_grad_(False)
        yield f"torch {device.dtype}".replace("torch.", ""), lambda: given.painted(_in(half, device.dtype))
    for dtype, generator in ours.items():
        yield f"revisage {dtype}".replace("torch.", ""), partial(_generated, generator, faces)
    compiled = torch.compile(plain)
    yield "torch.compile float32", lambda: given.painted(compiled)
    path = exported(plain, given, folder)
    by_onnx = onnx_step(path)
    yield "onnxruntime float32", lambda: given.painted(by_onnx)
    with suppress(ImportError):
        by_openvino = openvino_step(import_module("openvino"), path)
        yield "openvino default", lambda: given.painted(by_openvino)


def _generated(generator: DiffusionGenerator, faces: Sequence[FaceRequest]) -> Pictures:
    return np.stack(generator.generate(faces))


def _in(network: nn.Module, dtype: torch.dtype) -> Step:
    return lambda noisy, seen, look, t: network(noisy.to(dtype), seen.to(dtype), look.to(dtype), t)


def exported(plain: Plain, given: Scene, folder: Path) -> Path:
    """The network as ONNX, with a batch of the scene's size."""
    path = folder / "face.onnx"
    example = (given.start, given.seen, given.look, torch.full((len(given.start),), 999))
    torch.onnx.export(plain, example, str(path), input_names=NAMES, dynamo=False, opset_version=18)
    return path


def onnx_step(path: Path) -> Step:
    """One step by ONNX Runtime on all threads."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def step(*inputs: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, dict(zip(NAMES, map(Tensor.numpy, inputs), strict=True)))[0])

    return step


def openvino_step(openvino: Any, path: Path) -> Step:
    """One step by OpenVINO, which takes bfloat16 where the CPU multiplies it."""
    model = openvino.compile_model(str(path), "CPU", {"PERFORMANCE_HINT": "LATENCY"})
    return lambda *inputs: torch.from_numpy(model([tensor.numpy() for tensor in inputs])[0].copy())


def main() -> None:
    """Measure in turn, so that a busy machine slows all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=8, help="in one batch")
    parser.add_argument("--runs", type=int, default=5, help="counted runs, after one that warms up")
    args = parser.parse_args()
    size, code_size = 128, 64
    with tempfile.TemporaryDirectory() as folder:
        found = dict(ways(requests(args.faces, size, code_size), Path(folder)))
        pictures = {name: paint().astype(np.int16) for name, paint in found.items()}
        times: dict[str, list[float]] = {name: [] for name in found}
        for _ in range(args.runs):
            for name, paint in found.items():
                began = time.perf_counter()
                paint()
                times[name].append(time.perf_counter() - began)
    first = next(iter(found))
    base = statistics.median(times[first])
    report = {}
    for name in found:
        off = np.abs(pictures[name] - pictures[first])
        ratio = statistics.median(times[name]) / base
        report[name] = {"time": round(ratio, 3), "mean": round(float(off.mean()), 3), "largest": int(off.max())}
        print(f"{name:24} {ratio:6.2f} x   {off.mean():.3f} grey levels off, {off.max()} at most")
    print(f"{base / args.faces:.3f} s a face by {first}")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
