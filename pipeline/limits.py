"""What a number that comes from a file may be, and how large a file's parts: one place for all of it.

Every limit is far beyond what an honest film needs, and keeps what one input can cost within bounds: a hostile file is
refused when it is read, before anything is drawn, decoded or inflated. `docs/format.md` says why each is what it is.
Knows no format and no error class.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

IDS: Final = range(1, 1 << 32)  # of tracks and persons
FRAMES: Final = range(1 << 31)  # numbers of frames: 2.7 years at 25 a second
INT64S: Final = range(-(1 << 63), 1 << 63)
SIDES: Final = range(1, 65_537)  # of a picture, in pixels; AV1 allows no more

_BEYOND: Final = 8  # times its longer side that geometry may lie beyond a picture: a face held while it leaves
FARTHEST: Final = _BEYOND * SIDES[-1]  # pixels, where the picture is not known yet

TONE: Final = 20.0  # either way: of the numbers that say how a face is lit, which are logarithms

ENTRIES: Final = 250_000  # of an index: 69 hours of faces, at two entries for two seconds of each
MANIFEST: Final = 64 << 20  # bytes; 250,000 entries of at most 200
INFLATED: Final = 1 << 20  # bytes of a deflated manifest, which this program never writes
DIRECTORY: Final = 48 << 20  # bytes of a ZIP directory of so many entries
INDEX: Final = 256 << 20  # bytes of index.age: 2.5 million faces at 100 bytes, 28 hours of one at 25 a second
SHEET: Final = 64 << 20  # bytes of one track's share of that
PLACEMENT: Final = 256 << 10  # bytes of the places of one clip of 128 frames
SEGMENT_FRAMES: Final = 4096  # of one clip; this program writes 128
CLIP: Final = 1 << 30  # bytes of one clip: 48 million pixels at 16 bits and 4:4:4, or a single larger picture
KEYS: Final = 64 << 10  # bytes of a key file
PLAN: Final = 1 << 30  # bytes of a plan file: 500,000 faces with their landmarks
DETECTIONS: Final = 256 << 20  # bytes of a file of detections
LABEL: Final = 1 << 20  # characters of a video's label


def sealed(plain: int) -> int:
    """Bytes that an age file of `plain` bytes may have: a tag for each 64 KiB, and the recipients' stanzas."""
    return plain + plain // 4096 + (1 << 16)


def near(numbers: Iterable[object], width: int, height: int) -> bool:
    """Whether all are numbers that lie in a picture of `width` x `height` pixels or not absurdly far beyond it."""
    reach = _BEYOND * max(width, height)
    return all(is_number(number) and -reach <= number <= reach + max(width, height) for number in numbers)  # type: ignore[operator]


def is_number(number: object) -> bool:
    """Finite, and no truth value."""
    return isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(_float(number))


def is_whole(number: object, allowed: range) -> bool:
    """A whole number within a range, written as one."""
    return type(number) is int and number in allowed


def _float(number: float) -> float:
    try:
        return float(number)
    except OverflowError:  # thousands of digits
        return math.inf
