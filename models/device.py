"""Which device, number type and threads a run uses, and why. One policy for every network; knows no model.

bfloat16 is twice as fast as float32 on CPUs that multiply it natively, and many times slower on all others.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from revisage.pipeline.errors import DeviceError

CHOICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True, slots=True)
class Device:
    """The answer and its reason."""

    name: str  # what torch calls it: "cpu", "cuda"
    dtype: torch.dtype
    threads: int  # of the CPU
    reason: str

    @property
    def is_cuda(self) -> bool:
        return self.name == "cuda"

    @property
    def exact(self) -> Device:
        """The same in float32: for what is to be undone, or compared between machines."""
        return replace(self, dtype=torch.float32)


def choose_device(wish: str = "auto") -> Device:
    """CUDA where there is one, else the CPU; bfloat16 if the hardware has it, else float16 on CUDA, float32 on a CPU.

    Raises DeviceError when `wish` is "cuda" and there is none, or names no known choice.
    """
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if wish not in CHOICES:
        raise DeviceError(f"unknown device {wish!r}; choose one of {', '.join(CHOICES)}")
    if wish != "cpu" and torch.cuda.is_available():
        dtype = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        return Device("cuda", dtype, threads, f"found {torch.cuda.get_device_name()}")
    if wish == "cuda":
        raise DeviceError("no CUDA device found; use --device cpu, or install a CUDA build of torch and its driver")
    why = "asked for" if wish == "cpu" else "no CUDA device found"
    if _has_bfloat16():
        return Device("cpu", torch.bfloat16, threads, f"{why}; it multiplies bfloat16 natively")
    return Device("cpu", torch.float32, threads, why)


def _has_bfloat16(flags: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this CPU multiplies bfloat16 in hardware and torch has the library that makes use of it.

    torch itself says yes wherever it can emulate it. Elsewhere than on Linux the answer is no.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    try:
        words = set(flags.read_text(encoding="ascii", errors="replace").split())
    except OSError:
        return False
    return bool({"avx512_bf16", "amx_bf16"} & words)
