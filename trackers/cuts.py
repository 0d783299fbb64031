"""Where one shot ends and another begins, from thumbnails. Owns the measure and the decision; knows no face or file.

A cut is a frame that differs from the one before in layout and in colour, far more than its neighbours differ from each
other, and to which the picture does not return at once (that would be a flash or a damaged frame). A dissolve or a fade
is a stretch of up to two seconds in which every frame is a mixture of the first and the last one, in rising shares, and
those two show different things: a picture that merely grows darker is no fade until nothing of it is left.

A change that was seen where none is costs one person two faces; one that was missed lets a track glide from one person
to another. In a dissolve both shots show: see `Change`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from operator import attrgetter
from typing import Final, NamedTuple

import cv2
import numpy as np

from revisage.pipeline.geometry import shrunk
from revisage.pipeline.types import Float, Image

_SIDE = (32, 18)  # of a thumbnail
_AHEAD = 2  # frames to look at before a verdict on a hard cut
_BEHIND = 8  # frames whose differences say how much this shot moves
_PIXELS, _COLOURS = 0.07, 0.25  # least difference of a cut: mean pixel difference (of 1), histogram distance (of 1)
_RATIO = 4.0  # and this many times what is usual around it
_SPANS = (0.2, 0.32, 0.5, 0.8, 1.2, 1.8)  # seconds that a dissolve may be looked for over
_MIXED = 0.16  # most that a frame of a dissolve may differ from the mixture, as a share of what its ends differ by
_OTHER = 0.5  # correlation of two thumbnails below which they show different things
_FLAT = 0.02  # standard deviation of a thumbnail without a picture in it: black, white
_STEPS = 6  # frames within a stretch that must be mixtures, evenly spread


class Change(NamedTuple):
    """One shot gives way to the next: equal numbers at a hard cut, in a dissolve the frames between show both."""

    first: int  # first frame that shows the new shot
    last: int  # first frame that shows nothing of the old one


class _Look(NamedTuple):
    """A frame as the finder remembers it."""

    small: Float  # (18, 32, 3) in 0..1
    colours: Float  # normalised histogram, (8*8*8,)
    frame: int
    time: float  # seconds


_time: Final = attrgetter("time")


class CutFinder:
    """Streams pictures in, keeps two seconds of thumbnails, and collects the changes of shot."""

    def __init__(self) -> None:
        self._window: deque[_Look] = deque()  # last judged frame, the next one to judge, those ahead of it
        self._recent: deque[float] = deque(maxlen=_BEHIND)
        self._past: deque[_Look] = deque()  # since the last change
        self._mixing: list[_Look] = []  # a dissolve that goes on
        self._cuts: list[Change] = []
        self._sides: tuple[_Look, _Look] | None = None  # last frame before, first frame after the last change
        self._count = 0

    def push(self, picture: Image, seconds: float) -> None:
        """The next frame, uint8 RGB of any size, and its time."""
        look = _describe(picture, self._count, seconds)
        self._count += 1
        self._window.append(look)
        if len(self._window) == _AHEAD + 2:
            self._judge()

    def finish(self) -> list[Change]:
        """Every change, rising. Call once, after the last frame."""
        while len(self._window) > 1:
            self._judge()
        if self._window:
            self._remember(self._window.popleft())
        self._close()
        return self._cuts

    def _judge(self) -> None:
        """Is there a cut between the first two frames of the window?"""
        before, first, *after = self._window
        pixels = _difference(before, first)
        jumps = _differs(before, first) and pixels > _RATIO * self._usual()
        if jumps and not all(_differs(before, later) for later in after):
            del self._window[1]  # a flash: what follows is compared with the frame before it
            return
        self._remember(self._window.popleft())
        if jumps:
            self._close()
            self._found(before, first)
        else:
            self._recent.append(pixels)

    def _usual(self) -> float:
        """How much one frame of this shot differs from the next."""
        return float(np.median(self._recent)) if self._recent else 0.0

    def _remember(self, look: _Look) -> None:
        """Add a frame to the past of this shot; see whether it goes on mixing, or whether a mixing has begun."""
        if self._mixing:
            if _continues(self._mixing, look):
                self._mixing.append(look)
                return
            self._close()
        self._past.append(look)
        while self._past[-1].time - self._past[0].time > _SPANS[-1] + 0.1:
            self._past.popleft()
        self._mixing = _mixing(list(self._past))

    def _close(self) -> None:
        """The mixing, if there is one, is over."""
        if self._mixing:
            self._found(*_ends(self._mixing))
        self._mixing = []

    def _found(self, before: _Look, after: _Look) -> None:
        """A change between two frames. A few jumps in a row that are mixtures are one dissolve, with few frames."""
        change = Change(min(before.frame + 1, after.frame), after.frame)
        if self._sides is not None and before.time - self._sides[1].time < _SPANS[0]:
            share, misfit = _mixture(self._sides[0].small, after.small, before.small)
            if misfit < _MIXED and 0 < share < 1:
                change = Change(self._cuts.pop().first, change.last)
                before = self._sides[0]
        self._cuts.append(change)
        self._sides = before, after
        self._recent.clear()
        self._past.clear()


def _mixing(past: list[_Look]) -> list[_Look]:
    """The stretch up to the last frame over which one picture turns into another, from its beginning; or nothing."""
    for span in _SPANS:
        stretch = past[bisect_left(past, past[-1].time - span - 1e-6, key=_time) :]
        if len(stretch) == len(past) and past[0].time > past[-1].time - 0.8 * span:
            return []  # the shot is too young
        if _dissolves(stretch):
            while len(stretch) < len(past) and _continues(stretch[::-1], past[-len(stretch) - 1]):
                stretch.insert(0, past[-len(stretch) - 1])
            return stretch
    return []


def _ends(stretch: list[_Look]) -> tuple[_Look, _Look]:
    """The last frame that shows nothing of the end of `stretch`, the first one that shows nothing of its start."""
    shares = [_mixture(stretch[0].small, stretch[-1].small, look.small)[0] for look in stretch]
    before = max(i for i, share in enumerate(shares) if share < 0.02)
    after = next(i for i, share in enumerate(shares) if share > 0.98)
    return stretch[min(before, after - 1)], stretch[after]


def _continues(stretch: list[_Look], look: _Look) -> bool:
    """Does `look` lie further along the way from the first frame of `stretch` to its last one?"""
    start, end = stretch[0].small, stretch[-1].small
    share, misfit = _mixture(start, end, look.small)
    return share > 1.01 and misfit < _MIXED


def _describe(picture: Image, frame: int, seconds: float) -> _Look:
    small = shrunk(picture, _SIDE)
    counts = cv2.calcHist([small], [0, 1, 2], None, [8, 8, 8], [0, 256] * 3)
    colours = counts.reshape(-1) / counts.sum()
    return _Look(small.astype(np.float32) / 255, colours.astype(np.float32), frame, seconds)


def _difference(a: _Look, b: _Look) -> float:
    """Mean absolute pixel difference, 0..1. By OpenCV: numpy takes ten times as long for so few numbers."""
    return float(cv2.norm(a.small, b.small, cv2.NORM_L1)) / a.small.size


def _differs(a: _Look, b: _Look) -> bool:
    """In layout, and by the Hellinger distance of the histograms (0..1) in colour."""
    if _difference(a, b) <= _PIXELS:
        return False
    overlap = float(np.sqrt(a.colours * b.colours).sum())
    return float(np.sqrt(max(0.0, 1 - overlap))) > _COLOURS


def _dissolves(stretch: list[_Look]) -> bool:
    """Does the first frame of `stretch` turn into the last one by mixing?"""
    if len(stretch) < 4:
        return False
    start, end = stretch[0], stretch[-1]
    if not _differs(start, end) or _correlation(start.small, end.small) > _OTHER:
        return False
    inner = np.unique(np.linspace(1, len(stretch) - 2, _STEPS).astype(int))
    shares, misfits = zip(*(_mixture(start.small, end.small, stretch[i].small) for i in inner), strict=True)
    steps = np.diff([0.0, *shares, 1.0])
    return max(misfits) < _MIXED and bool(steps.min() > -0.02) and steps.max() < 0.6


def _mixture(start: Float, end: Float, middle: Float) -> tuple[float, float]:
    """Share of `end` in the mixture nearest to `middle`; what is left, over what the ends differ by."""
    whole, part = (end - start).reshape(-1), (middle - start).reshape(-1)
    share = float(whole @ part / (whole @ whole))
    return share, float(np.linalg.norm(part - share * whole) / np.linalg.norm(whole))


def _correlation(a: Float, b: Float) -> float:
    """Of two thumbnails, -1..1; 0 where one shows nothing."""
    x, y = a - a.mean((0, 1)), b - b.mean((0, 1))
    if min(float(x.std()), float(y.std())) < _FLAT:
        return 0.0
    return float((x * y).sum() / (np.linalg.norm(x) * np.linalg.norm(y)))
