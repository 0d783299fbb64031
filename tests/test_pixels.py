"""Planes: what is outside a mask keeps its bits, what is converted agrees with swscale, whatever format and size."""

from __future__ import annotations

import time

import av
import numpy as np
import pytest
from av.video.reformatter import Interpolation
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from revisage.pipeline.errors import MediaError
from revisage.pipeline.pixels import (
    PixelFormat,
    Planes,
    Rect,
    align_rect,
    blend,
    cut,
    paste,
    pixel_format,
    quantise_mask,
    to_rgb,
    to_rgb8,
    to_rgb_halved,
)

YUV = ["yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "yuv420p10le", "yuv422p10le", "yuv444p10le"]
_EXACT = int(Interpolation.POINT | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT)
FORMATS = [*YUV, "yuv420p12le", "yuv444p12le", "yuv411p", "yuv440p", "gray", "gray10le", "gbrp", "gbrp10le"]


def noise(fmt: PixelFormat, width: int, height: int, seed: int = 0) -> Planes:
    """Random samples of a whole picture, inside the nominal range."""
    rng = np.random.default_rng(seed)
    low, high = (0, fmt.peak) if fmt.full_range else (16 << fmt.bits - 8, 235 << fmt.bits - 8)
    return [rng.integers(low, high + 1, shape).astype(fmt.dtype) for shape in fmt.plane_shapes(width, height)]


def gradient(width: int, height: int) -> NDArray[np.float32]:
    """Smooth (H, W, 3) RGB in 0..255 that stays clear of both ends."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    return np.stack([30 + 190 * x / width, 40 + 170 * y / height, 60 + 120 * (x + y) / (width + height)], axis=-1)


formats = st.sampled_from(FORMATS).map(lambda name: pixel_format(name, 1, 0, 1080))


@settings(max_examples=150, deadline=None)
@given(formats, st.integers(1, 40), st.integers(1, 40), st.data())
def test_align_rect_covers_the_wish_and_lies_on_the_grid(
    fmt: PixelFormat, width: int, height: int, data: st.DataObject
) -> None:
    x0, y0 = data.draw(st.integers(-5, width)), data.draw(st.integers(-5, height))
    wish = Rect(x0, y0, data.draw(st.integers(x0, width + 9)), data.draw(st.integers(y0, height + 9)))
    got = align_rect(wish, fmt, width, height)
    assert got == align_rect(got, fmt, width, height)
    assert 0 <= got.x0 <= max(wish.x0, 0)
    assert 0 <= got.y0 <= max(wish.y0, 0)
    assert width >= got.x1 >= min(wish.x1, width)
    assert height >= got.y1 >= min(wish.y1, height)
    assert got.x1 % (1 << fmt.sx) == 0 or got.x1 == width
    assert got.y1 % (1 << fmt.sy) == 0 or got.y1 == height
    assert wish.x0 - got.x0 < 1 << fmt.sx or wish.x0 > width - 1


@settings(max_examples=100, deadline=None)
@given(formats, st.integers(3, 40), st.integers(3, 40), st.integers(0, 99))
def test_paste_of_a_quantised_mask_is_exact_inside_and_outside(
    fmt: PixelFormat, width: int, height: int, seed: int
) -> None:
    """With complementary masks every sample comes from exactly one side: the seal gives back what it took."""
    rng = np.random.default_rng(seed)
    original, other = noise(fmt, width, height, seed), noise(fmt, width, height, seed + 1)
    rect = align_rect(Rect(width // 3, height // 3, width, height - 1), fmt, width, height)
    mask = quantise_mask(rng.random((rect.height, rect.width)) > 0.7, fmt)
    assert np.array_equal(mask, quantise_mask(mask, fmt))
    changed = [plane.copy() for plane in original]
    paste(changed, fmt, rect, cut(other, fmt, rect), mask)
    for plane, (new, old) in enumerate(zip(cut(changed, fmt, rect), cut(other, fmt, rect), strict=True)):
        sx, sy = fmt.shifts(plane)
        here = mask[:: 1 << sy, :: 1 << sx]
        assert np.array_equal(new[here], old[here])
        assert np.array_equal(new[~here], cut(original, fmt, rect)[plane][~here])
    paste(changed, fmt, rect, cut(original, fmt, rect), mask)
    assert all(np.array_equal(a, b) for a, b in zip(changed, original, strict=True))


@pytest.mark.parametrize("name", FORMATS)
def test_blend_leaves_every_sample_of_alpha_zero(name: str) -> None:
    """Not one bit changes outside, not even when the RGB there is not a number; inside everything does."""
    fmt = pixel_format(name, 1, 0, 1080)
    planes = noise(fmt, 61, 47)
    before = [plane.copy() for plane in planes]
    rect = align_rect(Rect(11, 9, 61, 47), fmt, 61, 47)
    alpha = np.zeros((rect.height, rect.width), np.float32)
    alpha[8:24, 8:24] = 1
    rgb = np.full((*alpha.shape, 3), np.nan, np.float32)
    rgb[8:24, 8:24] = (250, 3, 3) if planes[0].mean() < fmt.peak / 2 else (3, 3, 250)
    blend(planes, fmt, rect, rgb, alpha)
    for plane, (new, old) in enumerate(zip(planes, before, strict=True)):
        sx, sy = fmt.shifts(plane)
        where = np.zeros(new.shape, bool)
        inside = where[rect.y0 >> sy :, rect.x0 >> sx :]
        inside[8 >> sy : 24 >> sy, 8 >> sx : 24 >> sx] = True
        assert np.array_equal(new[~where], old[~where])
        assert len(np.unique(new[where])) == 1


@pytest.mark.parametrize("matrix", [1, 6, 9])
@pytest.mark.parametrize("name", FORMATS)
def test_rgb_and_back_gives_the_same_samples(name: str, matrix: int) -> None:
    """Chroma is constant over its block both ways, so that only rounding in float32 is left: none at all."""
    fmt = pixel_format(name, matrix, 0, 1080)
    planes = [np.zeros(shape, fmt.dtype) for shape in fmt.plane_shapes(51, 37)]
    whole = Rect(0, 0, 51, 37)
    blend(planes, fmt, whole, gradient(51, 37), np.ones((37, 51), np.float32))
    again = [np.zeros_like(plane) for plane in planes]
    blend(again, fmt, whole, to_rgb(planes, fmt), np.ones((37, 51), np.float32))
    for a, b in zip(planes, again, strict=True):
        assert np.abs(a.astype(int) - b.astype(int)).max() <= 1
    grey = gradient(51, 37).mean() if fmt.family == "gray" else None
    if grey is None and fmt.sx == fmt.sy == 0:
        assert np.abs(to_rgb(planes, fmt) - gradient(51, 37)).max() < 2.5


@pytest.mark.parametrize(("space", "swscale"), [(1, "ITU709"), (6, "ITU601"), (9, "BT2020")])
@pytest.mark.parametrize("name", YUV)
def test_to_rgb_agrees_with_swscale(name: str, space: int, swscale: str) -> None:
    fmt = pixel_format(name, space, 0, 1080)
    size = (64, 48)
    planes = [np.zeros(shape, fmt.dtype) for shape in fmt.plane_shapes(*size)]
    blend(planes, fmt, Rect(0, 0, *size), gradient(*size), np.ones(size[::-1], np.float32))
    frame = av.VideoFrame(*size, name)
    for plane, samples in zip(frame.planes, planes, strict=True):
        line = plane.line_size // samples.itemsize
        np.frombuffer(plane, samples.dtype)[: line * len(samples)].reshape(len(samples), line)[
            :, : samples.shape[1]
        ] = samples
    level = "JPEG" if fmt.full_range else "MPEG"
    theirs = (
        frame.reformat(format="rgb24", src_colorspace=swscale, src_color_range=level, interpolation=_EXACT)
        .to_ndarray()
        .astype(np.float32)
    )
    assert np.abs(to_rgb(planes, fmt) - theirs).max() < 0.6  # nothing but swscale's rounding to whole numbers


@pytest.mark.parametrize("size", [(48, 36), (51, 37)])
@pytest.mark.parametrize("name", FORMATS)
def test_quick_ways_to_rgb_agree_with_the_exact_one(name: str, size: tuple[int, int]) -> None:
    fmt = pixel_format(name, 1, 0, 1080)
    planes = [np.zeros(shape, fmt.dtype) for shape in fmt.plane_shapes(*size)]
    blend(planes, fmt, Rect(0, 0, *size), gradient(*size), np.ones(size[::-1], np.float32))
    exact = to_rgb(planes, fmt)
    whole, halved = to_rgb8(planes, fmt), to_rgb_halved(planes, fmt)
    assert whole.dtype == np.uint8
    assert np.abs(whole - exact).max() <= 1.5  # one of rounding twice
    rows, columns = (side // 2 for side in exact.shape[:2])
    means = exact[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2, 3).mean((1, 3))
    assert halved.shape == (-(-size[1] // 2), -(-size[0] // 2), 3)
    np.testing.assert_allclose(halved[:rows, :columns], means, atol=0.01)


def test_ten_bits_stay_ten_bits() -> None:
    """A half transparent blend lands between 8-bit steps, and the part that is not covered keeps its two low bits."""
    fmt = pixel_format("yuv420p10le", 1, 1, 1080)
    planes = noise(fmt, 32, 32)
    before = planes[0].copy()
    alpha = np.full((32, 32), 0.5, np.float32)
    alpha[:, :16] = 0
    blend(planes, fmt, Rect(0, 0, 32, 32), gradient(32, 32), alpha)
    assert np.array_equal(planes[0][:, :16], before[:, :16])
    assert len(np.unique(planes[0][:, 16:] % 4)) == 4
    expected = (before[:, 16:].astype(float) + _luma10(gradient(32, 32))[:, 16:]) / 2
    assert np.abs(planes[0][:, 16:] - expected).max() <= 1


def _luma10(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    return 64 + 876 * (rgb @ np.array([0.2126, 0.7152, 0.0722], np.float32)) / 255


def test_colour_outside_the_mask_does_not_bleed_into_chroma() -> None:
    fmt = pixel_format("yuv420p", 1, 1, 1080)
    flat = [np.full(shape, 128, np.uint8) for shape in fmt.plane_shapes(8, 8)]
    alpha = np.zeros((8, 8), np.float32)
    alpha[::2, ::2] = 1  # one pixel of each chroma block
    rgb = np.zeros((8, 8, 3), np.float32)
    rgb[...] = (255, 0, 0)
    rgb[::2, ::2] = 130.0
    blend(flat, fmt, Rect(0, 0, 8, 8), rgb, alpha)
    assert np.all(flat[1] == 128)
    assert np.all(flat[2] == 128)


@pytest.mark.parametrize(
    ("name", "space", "level", "height", "matrix", "full"),
    [
        ("yuv420p", 2, 0, 480, "bt601", False),
        ("yuv420p", 2, 0, 720, "bt709", False),
        ("yuv420p", 5, 1, 1080, "bt601", False),
        ("yuv420p10le", 9, 1, 2160, "bt2020", False),
        ("yuvj420p", 2, 0, 720, "bt709", True),
        ("yuv420p", 1, 2, 720, "bt709", True),
        ("gray", 2, 0, 480, "bt601", True),
        ("gray", 2, 1, 480, "bt601", False),
    ],
)
def test_tags_choose_matrix_and_range(name: str, space: int, level: int, height: int, matrix: str, full: bool) -> None:
    fmt = pixel_format(name, space, level, height)
    assert (fmt.matrix, fmt.full_range) == (matrix, full)


@pytest.mark.parametrize("name", ["nv12", "pal8", "xyz12le", "bayer_rggb8", ""])
def test_other_formats_are_refused(name: str) -> None:
    with pytest.raises(MediaError, match="not supported"):
        pixel_format(name, 1, 1, 1080)


def test_a_rect_off_the_grid_is_refused() -> None:
    fmt = pixel_format("yuv420p", 1, 1, 1080)
    with pytest.raises(ValueError, match="not aligned"):
        cut(noise(fmt, 32, 32), fmt, Rect(1, 0, 8, 8))


def test_a_tile_costs_little() -> None:
    """About 1 ms for 200 x 200 on one 2024 core; the bound leaves room for a busy machine."""
    fmt = pixel_format("yuv420p", 1, 1, 1080)
    planes = noise(fmt, 640, 480)
    rect = Rect(100, 100, 300, 300)
    alpha = np.full((200, 200), 0.5, np.float32)
    fastest = np.inf
    for _ in range(10):
        start = time.perf_counter()
        blend(planes, fmt, rect, to_rgb(cut(planes, fmt, rect), fmt), alpha)
        fastest = min(fastest, time.perf_counter() - start)
    assert fastest < 0.02
