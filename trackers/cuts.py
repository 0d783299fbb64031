"""Where one shot ends and another begins, from thumbnails. Owns the measure and the decision; knows no face or file.

A cut is a frame that differs from the one before in layout and in colour, far more than its neighbours differ from each
other, and to which the picture does not return at once (that would be a flash or a damaged frame). A cut that was seen
where none is costs one person two faces; a cut that was missed lets a track glide from one person to another. Dissolves
and fades are no cuts: faces are tracked through them.
"""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np

from revisage.pipeline.types import Float, Image

_SIDE = (32, 18)  # of a thumbnail
_AHEAD = 2  # frames to look at before a verdict
_BEHIND = 8  # frames whose differences say how much this shot moves
_PIXELS, _COLOURS = 0.07, 0.25  # least difference of a cut: mean pixel difference (of 1), histogram distance (of 1)
_RATIO = 4.0  # and this many times what is usual around it


class CutFinder:
    """Streams pictures in, keeps a handful of thumbnails, and collects the numbers of frames that begin a shot."""

    def __init__(self) -> None:
        self._window: deque[tuple[Float, Float]] = (
            deque()
        )  # last judged frame, the next one to judge, those ahead of it
        self._recent: deque[float] = deque(maxlen=_BEHIND)
        self._judged = 0  # number of the window's first frame
        self._cuts: list[int] = []

    def push(self, picture: Image) -> None:
        """The next frame, uint8 RGB of any size."""
        self._window.append(_describe(picture))
        if len(self._window) == _AHEAD + 2:
            self._judge()

    def finish(self) -> list[int]:
        """Numbers of the frames that begin a shot, rising, without 0. Call once, after the last frame."""
        while len(self._window) > 1:
            self._judge()
        return self._cuts

    def _judge(self) -> None:
        """Is there a cut between the first two frames of the window?"""
        before, first, *after = self._window
        pixels, colours = _difference(before, first)
        usual = float(np.median(self._recent)) if self._recent else 0.0
        jumps = _differs(pixels, colours) and pixels > _RATIO * usual
        stays = all(_differs(*_difference(before, later)) for later in after)
        self._judged += 1
        if jumps and not stays:
            del self._window[1]  # a flash: what follows is compared with the frame before it
            return
        self._window.popleft()
        if jumps:
            self._cuts.append(self._judged)
            self._recent.clear()
        else:
            self._recent.append(pixels)


def _describe(picture: Image) -> tuple[Float, Float]:
    """Thumbnail (18, 32, 3) in 0..1, and a normalised colour histogram (8*8*8,)."""
    small = cv2.resize(picture, _SIDE, interpolation=cv2.INTER_AREA)
    counts = cv2.calcHist([small], [0, 1, 2], None, [8, 8, 8], [0, 256] * 3)
    colours = counts.reshape(-1) / counts.sum()
    return small.astype(np.float32) / 255, colours.astype(np.float32)


def _difference(a: tuple[Float, Float], b: tuple[Float, Float]) -> tuple[float, float]:
    """Mean absolute pixel difference, and Hellinger distance of the histograms; both 0..1."""
    overlap = float(np.sqrt(a[1] * b[1]).sum())
    return float(np.abs(a[0] - b[0]).mean()), float(np.sqrt(max(0.0, 1 - overlap)))


def _differs(pixels: float, colours: float) -> bool:
    return pixels > _PIXELS and colours > _COLOURS
