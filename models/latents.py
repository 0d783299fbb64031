"""Numbers from key streams: a track's identity code, noise and signs, and how signs hide a latent. Knows no network.

A *stream* is a function n -> n uniformly random bytes; the vault derives one per track, purpose and stretch of time.
The same stream gives the same numbers everywhere: no generator state, no process, no clock, never a 32-bit seed.

`mix` puts a latent z under the key's noise n and signs s, to the degree c (carry), and `unmix` takes it out again:

    z' = sqrt(1 - c^2) n + c s z          z = s (z' - sqrt(1 - c^2) n) / c

With z and n from N(0, I), and n independent of z, z' is from N(0, I) too, whatever c. c = 1 is what Labarbarie, Itier
and Puech publish (arXiv 2510.01031): the magnitude of every number stays, its sign is the key's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from revisage.pipeline.types import Float

Stream = Callable[[int], bytes]

_CELL = 4  # numbers, side of what counts as low frequency


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


def secret_signs(stream: Stream, shape: tuple[int, ...]) -> Float:
    """float32 numbers, each -1 or 1 with the same probability: one bit of the stream for each."""
    count = int(np.prod(shape))
    bits = np.unpackbits(np.frombuffer(stream(-(-count // 8)), np.uint8), count=count)
    signs: Float = (2 * bits.astype(np.float32) - 1).reshape(shape)
    return signs


def mix(latent: Float, noise: Float, signs: Float, carry: float) -> Float:
    """`latent` under `noise` and `signs` (all of one shape); `carry` from 0, nothing of it, to 1, all of it."""
    mixed: Float = np.float32((1 - carry * carry) ** 0.5) * noise + np.float32(carry) * signs * latent
    return mixed


def unmix(mixed: Float, noise: Float, signs: Float, carry: float) -> Float:
    """What `mix` was given. `carry` in (0, 1]: whatever error `mixed` has grows by its inverse."""
    if not 0 < carry <= 1:
        raise ValueError(f"nothing can be taken out of numbers that carry {carry}")
    latent: Float = signs * (mixed - np.float32((1 - carry * carry) ** 0.5) * noise) / np.float32(carry)
    return latent


def certainty(latent: Float, there: Float) -> float:
    """Standard deviations by which neighbours in a latent (C, N, N) agree more than signs by chance would have it.

    A face's latent is not quite white: numbers side by side have more often one sign than two. Under secret signs, or
    with wrong ones taken off, that is gone: given the magnitudes, the sum of the products of neighbours is a
    Rademacher chaos of degree two whose terms are uncorrelated, so its mean is 0 and its variance the sum of their
    squares, whatever the network and the picture. Above 7 chance is no explanation, however often one asks. `there` (0
    or 1) counts.
    """
    known = np.asarray(latent * there, np.float64)
    products = [known[:, :, 1:] * known[:, :, :-1], known[:, 1:] * known[:, :-1]]
    variance = sum(float(np.square(part).sum()) for part in products)
    return sum(float(part.sum()) for part in products) / float(np.sqrt(max(variance, 1e-12)))


def shared_noise(stream: Stream, side: int, channels: int = 3) -> Float:
    """(channels, side, side) float32: the noise that all frames of a track start from, in face coordinates."""
    return standard_normal(stream, (channels, side, side))


def damped(latent: Float, there: Float, share: float) -> Float:
    """`latent` (C, N, N) with `share` of its lowest frequencies, the means of 4 x 4 numbers; `there` (0 or 1) counts.

    Mixed latents have more of them than a face does; they decide light and tone, and stand as blotches in it.
    """
    return latent + np.float32(share - 1) * _means(latent, there)


def undamped(latent: Float, there: Float, share: float) -> Float:
    """What `damped` was given. `share` in (0, 1]: errors in the lowest frequencies grow by its inverse."""
    return latent + np.float32(1 / share - 1) * _means(latent, there)


def _means(latent: Float, there: Float) -> Float:
    """Every number replaced by the mean of its cell, an orthogonal projection."""
    channels, height, width = latent.shape
    cells = (channels, height // _CELL, _CELL, width // _CELL, _CELL)
    total = (latent * there).reshape(cells).sum(axis=(2, 4), keepdims=True)
    count = there.reshape(cells).sum(axis=(2, 4), keepdims=True)
    means: Float = np.broadcast_to(total / np.maximum(count, 1), cells).reshape(latent.shape) * there
    return means


@dataclass(frozen=True, slots=True, eq=False)
class Veil:
    """What hides one stretch of a track."""

    noise: Float  # (3, S, S), standard normal
    signs: Float  # (3, S, S), -1 or 1

    @classmethod
    def drawn(cls, noise: Stream, signs: Stream, side: int) -> Veil:
        """From two key streams, for crops of `side`."""
        return cls(shared_noise(noise, side), secret_signs(signs, (3, side, side)))


def named(code: Float, count: int) -> int:
    """Which of `count` actors a standard-normal code (N,) names: each as likely as any other.

    The one whose direction is nearest, so that a rounded code names the same actor. The directions are fixed, and no
    secret.
    """
    return int(np.argmax(_directions(len(code), count) @ np.asarray(code, np.float32)))


@lru_cache(maxsize=8)
def _directions(size: int, count: int) -> Float:
    """(count, size) of unit length."""
    rows = np.random.default_rng(0).standard_normal((count, size)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)
