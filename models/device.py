"""Which device, number type and threads a run uses, and why. One policy for every network; knows no model."""

from __future__ import annotations

import os
from dataclasses import dataclass

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


def choose_device(wish: str = "auto") -> Device:
    """CUDA where there is one (bfloat16 if the hardware has it, else float16), else the CPU in float32.

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
    return Device("cpu", torch.float32, threads, f"{why}; float32 on {threads} threads")
