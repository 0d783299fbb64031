"""Segments: every rectangle is covered, canvases stay inside the picture, nothing is sealed half or twice."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from revisage.pipeline.types import VideoInfo
from revisage.pipeline.vault import keys
from revisage.pipeline.vault.index import IndexDocument, IndexWriter, Placement, Settings, TrackRecord, open_index
from revisage.pipeline.vault.keys import SealSecret, SecretKey
from revisage.pipeline.vault.seal import MAX_FRAMES, MAX_PIXELS, Rect, Sealer, SegmentPlan, plan_segments

RATE = Fraction(1, 25)


@st.composite
def _tracks(draw: st.DrawFn) -> tuple[list[tuple[int, Rect]], tuple[int, int], list[int]]:
    """Rectangles (partly outside the picture), picture size, and a presentation time per frame."""
    width, height = draw(st.integers(2, 70)), draw(st.integers(2, 70))
    frames = sorted(draw(st.sets(st.integers(0, 400), max_size=12)))
    rects = []
    for frame in frames:
        x0, y0 = draw(st.integers(-9, width - 1)), draw(st.integers(-9, height - 1))
        x1 = draw(st.integers(max(x0, 0) + 1, width + 9))
        y1 = draw(st.integers(max(y0, 0) + 1, height + 9))
        rects.append((frame, Rect(x0, y0, x1, y1)))
    steps = draw(st.lists(st.integers(1, 40), min_size=1, max_size=4))
    return rects, (width, height), [int(t) for t in np.cumsum(np.resize(steps, 401))]


@given(_tracks(), st.integers(1, 50), st.integers(1, 9000))
def test_segments_cover_every_rectangle(
    track: tuple[list[tuple[int, Rect]], tuple[int, int], list[int]], max_frames: int, max_pixels: int
) -> None:
    rects, (width, height), pts = track
    limits = {"max_frames": max_frames, "max_pixels": max_pixels}
    plans = plan_segments(rects, (width, height), pts, RATE, **limits)
    planned = [item for plan in plans for item in plan.rects()]
    assert [frame for frame, _ in planned] == [frame for frame, _ in rects]
    for (_, wanted), (_, cut) in zip(rects, planned, strict=True):
        assert 0 <= cut.x0 <= max(0, wanted.x0) and min(width, wanted.x1) <= cut.x1 <= width
        assert 0 <= cut.y0 <= max(0, wanted.y0) and min(height, wanted.y1) <= cut.y1 <= height
        assert cut.x0 % 2 == cut.y0 % 2 == 0
    assert [plan.number for plan in plans] == list(range(len(plans)))
    for plan in plans:
        assert 0 < len(plan.frames) <= max_frames
        columns, rows = plan.canvas[0] - width % 2, plan.canvas[1] - height % 2  # odd pictures may need one more
        assert len(plan.frames) == 1 or len(plan.frames) * columns * rows <= max_pixels
        assert (plan.pts[-1] - plan.pts[0]) * RATE < 2
        assert plan.pts == tuple(pts[frame] for frame in plan.frames)


@given(_tracks())
def test_canvases_are_no_larger_than_the_grid_asks(
    track: tuple[list[tuple[int, Rect]], tuple[int, int], list[int]],
) -> None:
    rects, size, pts = track
    wanted = dict(rects)
    for plan in plan_segments(rects, size, pts, RATE):
        for side, (low, high) in enumerate((("x0", "x1"), ("y0", "y1"))):
            spans = [min(size[side], getattr(wanted[f], high)) - max(0, getattr(wanted[f], low)) for f in plan.frames]
            assert plan.canvas[side] <= max(spans) + 2 + size[side] % 2
            if size[side] % 2 == 0:
                assert plan.canvas[side] % 2 == 0


def test_segments_end_by_time_whatever_the_frame_rate() -> None:
    rects = [(frame, Rect(0, 0, 8, 8)) for frame in range(250)]
    lengths = {
        fps: [len(p.frames) for p in plan_segments(rects, (64, 64), range(250), Fraction(1, fps))]
        for fps in (10, 25, 120)
    }
    assert lengths[10] == [20] * 12 + [10]
    assert lengths[25] == [50] * 5
    assert lengths[120] == [MAX_FRAMES, 250 - MAX_FRAMES]


def test_segments_of_very_large_faces_have_fewer_frames() -> None:
    """So that a second of a face in 4K waits in no more memory than two of one in HD."""
    tall = [(frame, Rect(0, 0, 2000, 2160)) for frame in range(50)]
    plans = plan_segments(tall, (3840, 2160), range(50), RATE)
    assert max(len(plan.frames) for plan in plans) * 2000 * 2160 <= MAX_PIXELS
    assert len(plans) == 5
    usual = [(frame, Rect(0, 0, 900, 1000)) for frame in range(50)]
    assert len(plan_segments(usual, (1920, 1080), range(50), RATE)) == 1


def test_an_odd_picture_is_covered_to_its_last_column() -> None:
    """What is cut elsewhere keeps to whole chroma blocks: an odd canvas is used at that edge alone."""
    rects = [(0, Rect(600, 0, 641, 10)), (1, Rect(0, 0, 50, 10))]
    plans = plan_segments(rects, (641, 480), [0, 1], RATE)
    assert [plan.canvas for plan in plans] == [(41, 10), (50, 10)]
    cuts = [rect for plan in plans for _, rect in plan.rects()]
    assert cuts == [Rect(600, 0, 641, 10), Rect(0, 0, 50, 10)]


def test_origins_stay_even_in_an_odd_picture() -> None:
    (plan,) = plan_segments([(0, Rect(30, 0, 40, 10)), (1, Rect(0, 0, 20, 10))], (41, 41), [0, 1], RATE)
    assert plan.canvas == (20, 10)
    assert plan.origins == ((20, 0), (0, 0))


@pytest.mark.parametrize("rect", [Rect(64, 0, 70, 9), Rect(-9, 0, 0, 9), Rect(5, 5, 5, 9), Rect(9, 5, 5, 9)])
def test_a_rectangle_without_pixels_is_refused(rect: Rect) -> None:
    with pytest.raises(ValueError, match="no pixel"):
        plan_segments([(0, rect)], (64, 64), [0], RATE)


@dataclass
class _Recorder:
    """Stands in for IndexWriter; remembers and counts what is held at once."""

    segments: list[tuple[int, int, bytes, Placement]] = field(default_factory=list)

    def add_segment(self, track_id: int, number: int, clip: bytes, placement: Placement) -> None:
        self.segments.append((track_id, number, clip, placement))


def _join(tiles: object, masks: object, pts: object) -> bytes:
    return f"{tiles}|{masks}|{pts}".encode()


def _plans(count: int, max_frames: int) -> list[SegmentPlan]:
    rects = [(frame, Rect(frame, 2, frame + 8, 10)) for frame in range(3, 3 + count)]
    return plan_segments(rects, (64, 64), range(100), RATE, max_frames=max_frames)


def test_sealer_cuts_tracks_side_by_side() -> None:
    plans = {1: _plans(5, 2), 2: _plans(3, 3)}
    writer = _Recorder()
    sealer: Sealer[int, str] = Sealer(writer, _join, plans, lambda track, plan: {"who": track})
    for frame in range(20):
        for track, planned in plans.items():
            if (rect := sealer.rect(track, frame)) is not None:
                assert rect in [r for plan in planned for f, r in plan.rects() if f == frame]
                sealer.add(track, frame, frame, f"m{frame}")
    sealer.finish()
    assert [(t, n) for t, n, *_ in writer.segments] == [(1, 0), (2, 0), (1, 1), (1, 2)]
    _, _, clip, placement = writer.segments[2]
    plan = plans[1][1]
    assert clip == b"[5, 6]|['m5', 'm6']|(5, 6)"
    assert placement == Placement(plan.canvas, plan.frames, plan.origins, plan.pts, {"who": 1})


def test_sealer_refuses_what_was_not_planned_and_what_is_missing() -> None:
    sealer: Sealer[int, int] = Sealer(_Recorder(), _join, {1: _plans(3, 2)})
    assert sealer.rect(1, 0) is None
    assert sealer.rect(9, 3) is None
    for track, frame in ((1, 4), (1, 0), (9, 3)):
        with pytest.raises(ValueError, match="not planned"):
            sealer.add(track, frame, 0, 0)
    for frame in (3, 4):
        with pytest.raises(ValueError, match=r"\[1\] are not sealed"):
            sealer.finish()
        sealer.add(1, frame, 0, 0)
    with pytest.raises(ValueError, match=r"\[1\] are not sealed"):
        sealer.finish()
    sealer.add(1, 5, 0, 0)
    sealer.finish()
    with pytest.raises(ValueError, match="not planned"):
        sealer.add(1, 6, 0, 0)


def test_pixels_come_back_to_their_place_through_a_real_index(tmp_path: Path) -> None:
    """Plan, cut, seal, unlock with the track's key, paste: the rectangles are whole again, the rest is untouched."""
    rng = np.random.default_rng(7)
    film = rng.integers(0, 256, (30, 33, 41), np.uint8)
    rects = [(f, Rect(f, 30 - f, min(41, f + 9), min(33, 38 - f))) for f in range(5, 25)]
    secret, key = SealSecret.random(), SecretKey.generate()
    sheet = Settings(VideoInfo(41, 33, RATE, "gray", 30, "00" * 32), {}, 0.0, "lossless")
    document = IndexDocument(secret, sheet, (TrackRecord(4, 5, 24, 0),))
    with IndexWriter(tmp_path / "v.rvx", secret, [key.recipient]) as writer:
        plans = {4: plan_segments(rects, (41, 33), range(30), RATE, max_frames=7)}
        sealer: Sealer[NDArray[np.uint8], None] = Sealer(writer, lambda tiles, *_: np.stack(tiles).tobytes(), plans)
        for number, frame in enumerate(film):
            if (r := sealer.rect(4, number)) is not None:
                sealer.add(4, number, frame[r.y0 : r.y1, r.x0 : r.x1], None)
        sealer.finish()
        writer.finish(document, "00" * 32)

    blank = np.zeros_like(film)
    with open_index(tmp_path / "v.rvx") as reader:
        for place, clip in reader.unlock(keys.track_identity(secret, 4)).segments(4):
            width, height = place.canvas
            tiles = np.frombuffer(clip, np.uint8).reshape(-1, height, width)
            for frame_number, (x, y), tile in zip(place.frames, place.origins, tiles, strict=True):
                blank[frame_number, y : y + height, x : x + width] = tile
    for number, rect in rects:
        inside = np.s_[number, rect.y0 : rect.y1, rect.x0 : rect.x1]
        assert np.array_equal(blank[inside], film[inside])
    assert not blank[:5].any() and not blank[25:].any()
