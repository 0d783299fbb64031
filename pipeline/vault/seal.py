"""Cuts a track into segments on one canvas each, and seals them as they fill. Knows no codec, no pixel and no key.

A video encoder wants every picture of a clip in one size, and memory must stay flat. Both follow from the plan, which
knows every rectangle before the first pixel is read: `plan_segments` gives each segment a canvas that holds its largest
rectangle, and slides it along; `Sealer` then holds at most one segment of tiles per track, about two seconds, or fewer
of a very large face.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from revisage.pipeline.vault.document import Placement

SECONDS: Final = Fraction(2)
MAX_FRAMES: Final = 128  # of one segment, so that 120 frames a second cost no more memory than 60
MAX_PIXELS: Final = 48_000_000  # likewise, so that a face that fills 4K costs what one of 1000 x 1000 does: some 120 MB
_ALIGN: Final = 2  # chroma sample spacing of 4:2:0, in pixels, both ways


class Rect(NamedTuple):
    """Whole pixels of the stored frame; x1 and y1 exclusive."""

    x0: int
    y0: int
    x1: int
    y1: int


@dataclass(frozen=True, slots=True)
class SegmentPlan:
    """One segment of one track, before there are any pixels."""

    number: int  # from 0
    canvas: tuple[int, int]  # width, height; odd only where the picture is odd and a rectangle reaches that edge
    frames: tuple[int, ...]  # frame numbers, rising
    origins: tuple[tuple[int, int], ...]  # per frame: x, y of the canvas, both even
    pts: tuple[int, ...]  # per frame

    def rects(self) -> Iterator[tuple[int, Rect]]:
        """Frame number and the part of the frame to be cut out for it."""
        width, height = self.canvas
        for frame, (x, y) in zip(self.frames, self.origins, strict=True):
            yield frame, Rect(x, y, x + width, y + height)


def plan_segments(
    rects: Sequence[tuple[int, Rect]],
    frame_size: tuple[int, int],
    pts: Sequence[int],
    time_base: Fraction,
    *,
    seconds: Fraction = SECONDS,
    max_frames: int = MAX_FRAMES,
    max_pixels: int = MAX_PIXELS,
) -> list[SegmentPlan]:
    """Cut one track into segments shorter than `seconds`, of at most `max_frames` frames and `max_pixels` over all.

    A single frame may have more pixels.

    `rects`: frame number and what must be sealed there, frames rising; gaps are allowed, and what lies outside the
    picture is cut off. `frame_size`: width, height. `pts`: of every frame of the video, in `time_base`. Raises
    ValueError for a rectangle without a pixel in the picture.
    """
    inside = [(frame, _grow(rect, frame_size)) for frame, rect in rects]
    groups = _group(inside, frame_size, pts, seconds / time_base, max_frames, max_pixels)
    return [_plan(number, group, frame_size, pts) for number, group in enumerate(groups)]


class SegmentWriter(Protocol):
    """What `Sealer` needs of `IndexWriter`."""

    def add_segment(self, track_id: int, number: int, clip: bytes, placement: Placement) -> None:
        """Seal one clip."""


Tile = TypeVar("Tile")
Mask = TypeVar("Mask")
Tile_contra = TypeVar("Tile_contra", contravariant=True)
Mask_contra = TypeVar("Mask_contra", contravariant=True)


class Encode(Protocol[Tile_contra, Mask_contra]):
    """Makes one clip; all tiles have the size of the segment's canvas."""

    def __call__(self, tiles: Sequence[Tile_contra], masks: Sequence[Mask_contra], pts: Sequence[int]) -> bytes:
        """The clip as a file of its own."""


@dataclass(slots=True)
class _Pending(Generic[Tile, Mask]):
    """The segment that a track is filling."""

    plan: SegmentPlan
    tiles: list[Tile] = field(default_factory=list)
    masks: list[Mask] = field(default_factory=list)

    @property
    def awaited(self) -> int:
        return self.plan.frames[len(self.tiles)]

    @property
    def rect(self) -> Rect:
        (x, y), (width, height) = self.plan.origins[len(self.tiles)], self.plan.canvas
        return Rect(x, y, x + width, y + height)


class Sealer(Generic[Tile, Mask]):
    """Collects tiles frame by frame; encodes and seals a segment when its last one is there.

    `plans`: track id -> its segments. `extra`: what else to note in the placement of a segment.
    """

    def __init__(
        self,
        writer: SegmentWriter,
        encode: Encode[Tile, Mask],
        plans: Mapping[int, Sequence[SegmentPlan]],
        extra: Callable[[int, SegmentPlan], Mapping[str, Any]] = lambda track, plan: {},
    ) -> None:
        self._writer, self._encode, self._extra = writer, encode, extra
        self._coming = {track: iter(segments) for track, segments in plans.items()}
        self._pending: dict[int, _Pending[Tile, Mask]] = {}
        for track in plans:
            self._open_next(track)

    def rect(self, track_id: int, frame: int) -> Rect | None:
        """What to cut from `frame` for a track; None where it needs nothing there."""
        pending = self._pending.get(track_id)
        return pending.rect if pending and pending.awaited == frame else None

    def add(self, track_id: int, frame: int, tile: Tile, mask: Mask) -> None:
        """The tile cut at `rect(track_id, frame)` and its mask; every planned frame once, rising within a track.

        Raises ValueError out of turn, and what `encode` and the writer raise.
        """
        pending = self._pending.get(track_id)
        if pending is None or pending.awaited != frame:
            raise ValueError(f"frame {frame} of track {track_id} is not planned, or comes out of turn")
        pending.tiles.append(tile)
        pending.masks.append(mask)
        if len(pending.tiles) == len(pending.plan.frames):
            self._seal(track_id, pending)
            self._open_next(track_id)

    def finish(self) -> None:
        """Raises ValueError unless all that was planned is sealed: originals would be lost without a word."""
        if self._pending:
            raise ValueError(f"tracks {sorted(self._pending)} are not sealed to their end")

    def _open_next(self, track_id: int) -> None:
        self._pending.pop(track_id, None)
        if (plan := next(self._coming[track_id], None)) is not None:
            self._pending[track_id] = _Pending(plan)

    def _seal(self, track_id: int, full: _Pending[Tile, Mask]) -> None:
        plan = full.plan
        clip = self._encode(full.tiles, full.masks, plan.pts)
        placement = Placement(plan.canvas, plan.frames, plan.origins, plan.pts, self._extra(track_id, plan))
        self._writer.add_segment(track_id, plan.number, clip, placement)


def _grow(rect: Rect, frame_size: tuple[int, int]) -> Rect:
    """Out to the chroma grid, and no further than the picture."""
    width, height = frame_size
    x0, y0 = max(0, rect.x0) // _ALIGN * _ALIGN, max(0, rect.y0) // _ALIGN * _ALIGN
    x1, y1 = min(width, -(-rect.x1 // _ALIGN) * _ALIGN), min(height, -(-rect.y1 // _ALIGN) * _ALIGN)
    if x0 >= x1 or y0 >= y1 or rect.x0 >= rect.x1 or rect.y0 >= rect.y1:
        raise ValueError("a rectangle has no pixel inside the picture")
    return Rect(x0, y0, x1, y1)


def _group(
    rects: Sequence[tuple[int, Rect]],
    frame_size: tuple[int, int],
    pts: Sequence[int],
    ticks: Fraction,
    max_frames: int,
    max_pixels: int,
) -> Iterator[list[tuple[int, Rect]]]:
    """Frames of one segment each. What ends at an odd edge of the picture and what does not are parted."""
    group: list[tuple[int, Rect]] = []
    width = height = 0  # that hold all of the group
    edges = (False, False)  # does the group end at an odd edge, in either dimension
    for frame, rect in rects:
        width, height = max(width, rect.x1 - rect.x0), max(height, rect.y1 - rect.y0)
        full = len(group) == max_frames or (len(group) + 1) * width * height > max_pixels
        before, edges = edges, _odd_edges(rect, frame_size)
        if group and (full or edges != before or pts[frame] - pts[group[0][0]] >= ticks):
            yield group
            group, width, height = [], rect.x1 - rect.x0, rect.y1 - rect.y0
        group.append((frame, rect))
    if group:
        yield group


def _odd_edges(rect: Rect, frame_size: tuple[int, int]) -> tuple[bool, bool]:
    width, height = frame_size
    return rect.x1 == width and bool(width % _ALIGN), rect.y1 == height and bool(height % _ALIGN)


def _plan(
    number: int, group: Sequence[tuple[int, Rect]], frame_size: tuple[int, int], pts: Sequence[int]
) -> SegmentPlan:
    frames = tuple(frame for frame, _ in group)
    width, xs = _slide([(rect.x0, rect.x1) for _, rect in group], frame_size[0])
    height, ys = _slide([(rect.y0, rect.y1) for _, rect in group], frame_size[1])
    times = tuple(pts[frame] for frame in frames)
    return SegmentPlan(number, (width, height), frames, tuple(zip(xs, ys, strict=True)), times)


def _slide(spans: Sequence[tuple[int, int]], limit: int) -> tuple[int, list[int]]:
    """One dimension: the canvas's length, and per span an even origin that covers it and stays below `limit`.

    Where `limit` is odd and the spans end there (all do, see `_group`), the length is odd, so that the last row or
    column can be covered; the canvas then stays at that edge, since elsewhere it would end amid a chroma block.
    """
    if limit % _ALIGN and any(end == limit for _, end in spans):
        first = min(start for start, _ in spans)
        return limit - first, [first] * len(spans)
    length = max(end - start for start, end in spans)
    last = (limit - length) // _ALIGN * _ALIGN
    return length, [min(start, last) for start, _ in spans]
