"""The row of numbers that an index has for each face of a track: frame, box, five points. Knows no pixel.

What follows in a row is for those who wrote it.
"""

from __future__ import annotations

from typing import Any, Final

from revisage.pipeline import limits
from revisage.pipeline.errors import TamperedError
from revisage.pipeline.types import VideoInfo
from revisage.pipeline.vault.document import Json, TrackRecord

ROW: Final = 15  # numbers: frame, x0, y0, x1, y1, and five times x and y


def place_of(row: Json, record: TrackRecord, video: VideoInfo) -> list[Any]:
    """`row`, whose first `ROW` numbers lie in or near the picture, within its track's time.

    Raises TamperedError for anything else.
    """
    if not isinstance(row, list) or len(row) < ROW or not _fits(row, record, video):
        raise TamperedError(f"the places of track {record.id} are not readable: get a sound copy of the index")
    return row


def _fits(row: list[Any], record: TrackRecord, video: VideoInfo) -> bool:
    frame, x0, y0, x1, y1 = row[:5]
    timely = limits.is_whole(frame, limits.FRAMES) and record.first <= frame <= record.last
    return timely and limits.near(row[1:ROW], video.width, video.height) and x0 < x1 and y0 < y1
