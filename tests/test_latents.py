"""Numbers from key streams."""

from __future__ import annotations

import hashlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from revisage.models.latents import identity_code, shared_noise, standard_normal


class Counter:
    """A uniform byte stream for tests: SHA-256 in counter mode."""

    def __init__(self, seed: bytes) -> None:
        self.seed, self.buffer, self.block = seed, b"", 0

    def read(self, count: int) -> bytes:
        while len(self.buffer) < count:
            self.buffer += hashlib.sha256(self.seed + self.block.to_bytes(8, "big")).digest()
            self.block += 1
        out, self.buffer = self.buffer[:count], self.buffer[count:]
        return out


def test_noise_is_standard_normal() -> None:
    noise = shared_noise(Counter(b"a").read, 64)
    assert noise.dtype == np.float32
    assert noise.shape == (3, 64, 64)
    assert stats.kstest(noise.ravel(), "norm").pvalue > 1e-3
    neighbours = np.corrcoef(noise[:, :, 1:].ravel(), noise[:, :, :-1].ravel())[0, 1]
    assert abs(neighbours) < 0.03


@given(st.binary(min_size=1, max_size=8), st.integers(1, 99))
def test_the_same_stream_gives_the_same_numbers(seed: bytes, count: int) -> None:
    first, second = (identity_code(Counter(seed).read, count) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_other_streams_give_unrelated_numbers() -> None:
    a, b = (standard_normal(Counter(seed).read, (4096,)) for seed in (b"a", b"b"))
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.06


def test_extreme_bytes_stay_finite() -> None:
    for byte in (b"\x00", b"\xff"):
        assert np.isfinite(standard_normal(lambda n, byte=byte: byte * n, (8,))).all()  # type: ignore[misc]
