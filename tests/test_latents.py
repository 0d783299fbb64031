"""Numbers from key streams."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from revisage.models.latents import (
    Veil,
    certainty,
    damped,
    identity_code,
    mix,
    secret_signs,
    shared_noise,
    standard_normal,
    undamped,
    unmix,
)
from revisage.pipeline.vault.keys import SecretKey, TrackKey, track_identity, track_stream, video_secret


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


def track_key(seed: int, digest: bytes = bytes(32), track: int = 1) -> TrackKey:
    return track_identity(video_secret(SecretKey(seed.to_bytes(32, "big")), digest), track)


def veil(key: TrackKey, stretch: int = 0, side: int = 32) -> Veil:
    return Veil.drawn(track_stream(key, "noise", stretch).read, track_stream(key, "signs", stretch).read, side)


@given(st.integers(0, 2**64), st.floats(0, 1), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_mixed_latents_stay_standard_normal(seed: int, carry: float, stretch: int) -> None:
    own = veil(track_key(seed), stretch)
    latent = np.random.default_rng(seed % 2**32).standard_normal((3, 32, 32)).astype(np.float32)
    mixed = mix(latent, own.noise, own.signs, carry)
    assert stats.kstest(mixed.ravel(), "norm").pvalue > 1e-5
    for axis, shift in ((1, 1), (2, 1), (0, 1), (2, 7)):
        rolled = np.roll(mixed, shift, axis)
        assert abs(np.corrcoef(mixed.ravel(), rolled.ravel())[0, 1]) < 0.1  # 3072 numbers: five standard errors


@given(st.integers(0, 2**64), st.floats(0.01, 1))
@settings(max_examples=60, deadline=None)
def test_unmix_undoes_mix(seed: int, carry: float) -> None:
    own = veil(track_key(seed), side=8)
    latent = np.random.default_rng(seed % 2**32).standard_normal((3, 8, 8)).astype(np.float32)
    back = unmix(mix(latent, own.noise, own.signs, carry), own.noise, own.signs, carry)
    # float32 rounds z', which may be near 6, and the division by carry makes that larger
    assert float(np.abs(back - latent).max()) <= 4 * 2**-24 * 6 / carry


def test_nothing_comes_out_of_what_carries_nothing() -> None:
    own = veil(track_key(1), side=8)
    assert np.array_equal(mix(np.ones_like(own.noise), own.noise, own.signs, 0), own.noise)
    with pytest.raises(ValueError, match="carry"):
        unmix(own.noise, own.noise, own.signs, 0)


def test_veils_of_tracks_videos_stretches_and_keys_are_unrelated() -> None:
    keys = [
        (track_key(1), 0), (track_key(1, track=2), 0), (track_key(1, digest=bytes([1] * 32)), 0), (track_key(1), 1),
        (track_key(2), 0), (track_key(1), 2**32 - 1),
    ]  # fmt: skip
    drawn = [veil(key, stretch, 64) for key, stretch in keys]
    for kind in ("signs", "noise"):
        rows = np.stack([getattr(v, kind).ravel() for v in drawn])
        related = np.corrcoef(rows) - np.eye(len(rows))
        assert float(np.abs(related).max()) < 0.045, kind  # 12288 numbers: five standard errors
    for one in drawn:
        assert abs(np.corrcoef(one.signs.ravel(), one.noise.ravel())[0, 1]) < 0.045
        assert abs(float(one.signs.mean())) < 0.045
        assert set(np.unique(one.signs)) == {-1.0, 1.0}


def test_signs_take_a_bit_each() -> None:
    asked: list[int] = []

    def stream(count: int) -> bytes:
        asked.append(count)
        return b"\xf0" * count

    assert secret_signs(stream, (2, 5)).tolist() == [[1, 1, 1, 1, -1], [-1, -1, -1, 1, 1]]
    assert asked == [2]


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 1))
@settings(max_examples=40, deadline=None)
def test_undamped_undoes_damped(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    there = (rng.random((3, 16, 16)) < 0.8).astype(np.float32)
    latent = rng.standard_normal((3, 16, 16)).astype(np.float32) * there
    quiet = damped(latent, there, share)
    np.testing.assert_allclose(undamped(quiet, there, share), latent, atol=2e-5)
    cells = quiet.reshape(3, 4, 4, 4, 4).sum(axis=(2, 4))
    np.testing.assert_allclose(cells, share * latent.reshape(3, 4, 4, 4, 4).sum(axis=(2, 4)), atol=1e-4)
    assert not quiet[there == 0].any()


@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 1e3))
@settings(max_examples=40, deadline=None)
def test_signs_tell_a_face_from_chance(seed: int, scale: float) -> None:
    """Right ones find what is smooth; wrong ones are standard normal, whatever the latent's size and magnitudes."""
    rng = np.random.default_rng(seed)
    noise, there = rng.standard_normal((3, 48, 48)), np.ones((3, 48, 48), np.float32)
    latent = (scale * (noise + np.roll(noise, 1, axis=2) / 2)).astype(np.float32)
    signs = np.sign(rng.standard_normal((200, *latent.shape)))
    assert certainty(latent, there) > 7
    by_chance = np.array([certainty(latent * wrong, there) for wrong in signs])
    assert abs(by_chance.mean()) < 0.35
    assert 0.75 < by_chance.std() < 1.3
    assert certainty(latent * 0, there) == 0
    assert certainty(latent, there) == pytest.approx(certainty(latent / np.float32(scale), there), rel=1e-3)
