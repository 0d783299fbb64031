"""A film from pictures and sound in memory, for the demonstration. Reads nothing."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError

from revisage.pipeline.errors import OutputError
from revisage.pipeline.media.encoders import container_of
from revisage.pipeline.media.hidden import HiddenFile
from revisage.pipeline.media.source import reason
from revisage.pipeline.types import Image


def write_film(
    path: Path, pictures: Iterable[Image], rate: Fraction, audio: np.ndarray[Any, np.dtype[np.float32]] | None = None
) -> None:
    """H.264 of `pictures` (all of one even size) at `rate` a second, and AAC of `audio`, (samples,) at 48 kHz, -1..1.

    The extension says which container. Raises OutputError; then `path` is as it was. An existing file is replaced.
    """
    try:
        with HiddenFile(path) as file, av.open(file, "w", format=container_of(path)) as muxer:
            _mux_film(muxer, iter(pictures), rate, audio)
            muxer.close()
            file.publish()
    except FFmpegError as error:
        raise OutputError(f"cannot write {path.name} ({reason(error)}); choose another name") from error


def _mux_film(
    muxer: Any, pictures: Iterator[Image], rate: Fraction, audio: np.ndarray[Any, np.dtype[np.float32]] | None
) -> None:
    first = next(pictures)
    video: Any = muxer.add_stream("libx264", rate=rate, options={"preset": "veryfast", "crf": "17"})
    video.height, video.width, video.pix_fmt = *first.shape[:2], "yuv420p"
    video.color_range, video.color_primaries, video.color_trc, video.colorspace = 1, 1, 1, 1  # BT.709
    sound = None if audio is None else muxer.add_stream("aac", rate=48000, layout="mono")
    for index, picture in enumerate(itertools.chain([first], pictures)):
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        frame.pts, frame.time_base = index, 1 / rate
        muxer.mux(video.encode(frame))
    muxer.mux(video.encode(None))
    for start in range(0, 0 if audio is None else len(audio), 1024):
        assert audio is not None and sound is not None  # noqa: S101 - else the range is empty
        block = av.AudioFrame.from_ndarray(np.ascontiguousarray(audio[None, start : start + 1024]), "fltp", "mono")
        block.sample_rate, block.pts, block.time_base = 48000, start, Fraction(1, 48000)
        muxer.mux(sound.encode(block))
    if sound is not None:
        muxer.mux(sound.encode(None))
