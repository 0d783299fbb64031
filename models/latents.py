"""Numbers from key streams: the identity code and the shared noise of a track. Knows no key and no network.

A *stream* is a function n -> n uniformly random bytes; the vault derives one per track and purpose. The same stream
gives the same numbers everywhere: no generator state, no process, no clock, never a 32-bit seed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from revisage.pipeline.types import Float

Stream = Callable[[int], bytes]


def standard_normal(stream: Stream, shape: tuple[int, ...]) -> Float:
    """float32 numbers from N(0, 1), by Box and Muller (Ann. Math. Stat. 29(2), 1958) on 53-bit uniforms."""
    count = int(np.prod(shape))
    pairs = (count + 1) // 2
    words = np.frombuffer(stream(16 * pairs), dtype="<u8") >> np.uint64(11)
    u = (words.astype(np.float64) + 0.5) / 2.0**53  # strictly inside (0, 1)
    radius, angle = np.sqrt(-2 * np.log(u[:pairs])), 2 * np.pi * u[pairs:]
    numbers = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]
    return np.asarray(numbers, np.float32).reshape(shape)


def identity_code(stream: Stream, size: int) -> Float:
    """(size,) float32: who the new face is."""
    return standard_normal(stream, (size,))


def shared_noise(stream: Stream, side: int, channels: int = 3) -> Float:
    """(channels, side, side) float32: the noise that all frames of a track start from, in face coordinates."""
    return standard_normal(stream, (channels, side, side))
