"""Small films, encoded in code: any codec, format, size and timing, with sound, subtitles, chapters and rotation.

For tests only. Content moves and is textured, differs in every frame, and is the same in every run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from skimage import data

FAST = {
    "libx264": {"preset": "ultrafast", "crf": "20", "bf": "2"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none:info=0"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "30"},
    "libsvtav1": {"preset": "12", "crf": "30"},
    "ffv1": {"level": "3", "slicecrc": "1"},
}
VFR = (0, 40, 80, 130, 131, 260, 300, 417, 450, 520, 521, 700, 740, 790, 860, 900)  # milliseconds


@dataclass(frozen=True, slots=True)
class Film:
    """What a test film is made of."""

    width: int = 96
    height: int = 64
    frames: int = 12
    rate: int = 25
    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    time_base: Fraction = Fraction(1, 12800)
    pts: Sequence[int] | None = None  # None: constant rate from 0
    audio: str | None = None  # an encoder's name
    audio_start: float = 0.0  # seconds
    audio_seconds: float | None = None  # None: as long as the picture
    subtitles: str | None = None
    chapters: bool = False
    rotation: int = 0
    cover: bool = False
    font: bool = False
    tags: dict[str, str] = field(default_factory=dict)
    color: tuple[int, int, int, int] = (1, 1, 1, 1)  # range, primaries, transfer, space
    options: dict[str, str] = field(default_factory=dict)
    format: dict[str, str] = field(default_factory=dict)  # options of the container

    def times(self) -> list[int]:
        """Every frame's pts."""
        step = int(Fraction(1, self.rate) / self.time_base)
        return list(self.pts) if self.pts is not None else [i * step for i in range(self.frames)]


def picture(index: int, width: int, height: int) -> NDArray[np.uint8]:
    """(height, width, 3) uint8 RGB: gradients with a moving textured square; `index` sets both."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    rgb = np.stack([x * 255 / width, y * 255 / height, (x + y + index * 3) % 256], axis=-1)
    texture = np.random.default_rng(index).integers(0, 255, (height // 3, width // 3, 3))
    left = (index * 3) % (width - width // 3)
    rgb[height // 3 : height // 3 + height // 3, left : left + width // 3] = texture
    return rgb.astype(np.uint8)


def make(path: Path, film: Film | None = None) -> Path:
    """Encode `film` to `path`; the extension says which container."""
    film = film or Film()
    with av.open(str(path), "w", options=dict(film.format)) as out:
        out.metadata.update(film.tags)
        video = _video(out, film)
        sound = _sound(out, film) if film.audio else None
        texts: Any = out.add_mux_stream(film.subtitles, time_base=Fraction(1, 1000)) if film.subtitles else None
        cover = _cover(out) if film.cover else None
        if film.font:
            out.add_attachment("letters.ttf", "font/ttf", b"not really a font" * 20)
        if film.chapters:
            out.set_chapters([_chapter(0, 0, 200, "Arrival"), _chapter(1, 200, 480, "Interview")])
        if cover:
            out.mux(cover)
        _encode_video(out, video, film)
        if sound:
            _encode_sound(out, sound, film)
        if texts:
            _write_subtitles(out, texts, film)
    return path


def film_of_a_face(
    path: Path,
    frames: int,
    width: int = 256,
    height: int = 192,
    codec: str = "libx264",
    *,
    zoom: int = 1,
    pix_fmt: str = "yuv420p",
    rotation: int = 0,
    mirrored: bool = False,
) -> Path:
    """A photograph that ships with scikit-image, moved as by a hand-held camera; 25 frames a second.

    `zoom` enlarges it: about a face of 80 x 110 pixels, in the middle from `zoom` 2 on. `rotation`: degrees
    counter-clockwise that players are to turn the film by, which the stored picture is turned against; `mirrored`:
    after they have mirrored it. The file is the same to the byte every time: faces and noise are derived from its
    digest.
    """
    photograph = data.astronaut()
    with av.open(str(path), "w", container_options={"fflags": "+bitexact"}) as out:
        options = {"crf": "4", "preset": "ultrafast"} if codec == "libx264" else {}
        stream: Any = out.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        if rotation or mirrored:
            stream.set_display_matrix(display_matrix(rotation // 90, mirrored))
        seen = (width, height) if rotation % 180 == 0 else (height, width)
        for i in range(frames):
            x, y = 100 + round(20 * np.sin(i / 9)), 10 + round(10 * np.cos(i / 7))
            upright = _window(photograph, (x, y), seen, zoom)
            pixels = np.rot90(upright, -rotation // 90)
            pixels = np.ascontiguousarray(pixels[:, ::-1] if mirrored else pixels)
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = i, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def display_matrix(quarters: int, mirrored: bool) -> tuple[int, ...]:
    """Players mirror first, then turn by so many quarters counter-clockwise."""
    a, b, c, d = [(1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0)][quarters % 4]
    side = -1 if mirrored else 1
    return (side * a << 16, side * b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)


def _window(photograph: NDArray[np.uint8], at: tuple[int, int], size: tuple[int, int], zoom: int) -> NDArray[np.uint8]:
    """What a camera at `at` sees of it in a picture of `size` (width, height)."""
    (x, y), (width, height) = at, (-(-size[0] // zoom), -(-size[1] // zoom))
    if zoom > 1:  # the face's middle stays in the middle
        x, y = max(0, x + 122 - width // 2), max(0, y + 102 - height // 2)
    part = photograph[y : y + height, x : x + width]
    large = cv2.resize(part, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
    return np.asarray(large[: size[1], : size[0]], np.uint8)


def _video(out: Any, film: Film) -> Any:
    options = FAST.get(film.codec, {}) | film.options
    stream = out.add_stream(film.codec, rate=film.rate, options=options)
    stream.width, stream.height, stream.pix_fmt = film.width, film.height, film.pix_fmt
    stream.codec_context.time_base = stream.time_base = film.time_base
    stream.color_range, stream.color_primaries, stream.color_trc, stream.colorspace = film.color
    if film.rotation:
        stream.set_display_rotation(film.rotation)
    return stream


def _encode_video(out: Any, stream: Any, film: Film) -> None:
    for index, pts in enumerate(film.times()):
        frame = av.VideoFrame.from_ndarray(picture(index, film.width, film.height), format="rgb24")
        frame = frame.reformat(format=film.pix_fmt, dst_colorspace="ITU709")
        frame.pts, frame.time_base = pts, film.time_base
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


def _sound(out: Any, film: Film) -> Any:
    stream = out.add_stream(film.audio, rate=48000)
    stream.layout = "mono"
    stream.metadata["language"] = "deu"
    stream.metadata["title"] = "Anna's microphone"
    return stream


def _encode_sound(out: Any, stream: Any, film: Film) -> None:
    seconds = film.audio_seconds or float(max(film.times()) * film.time_base)
    start = round(film.audio_start * 48000)
    wave = (np.sin(np.arange(int(seconds * 48000)) / 20) * 9000).astype(np.int16)[None]
    for at in range(0, wave.shape[1], 1024):
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave[:, at : at + 1024]), format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48000, start + at, Fraction(1, 48000)
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


def _write_subtitles(out: Any, stream: Any, film: Film) -> None:
    for index, text in enumerate([b"She speaks.", b"He answers."]):
        packet = av.Packet(text if film.subtitles != "mov_text" else len(text).to_bytes(2, "big") + text)
        packet.stream, packet.time_base = stream, Fraction(1, 1000)
        packet.pts = packet.dts = 100 + 200 * index
        packet.duration = 150
        out.mux(packet)


def _cover(out: Any) -> list[av.Packet]:
    stream = out.add_stream("mjpeg", rate=25)
    stream.width, stream.height, stream.pix_fmt = 32, 32, "yuvj420p"
    stream.codec_context.time_base = Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(picture(99, 32, 32), format="rgb24").reformat(format="yuvj420p")
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    stream.disposition = 1 << 10  # attached picture
    return [*stream.encode(frame), *stream.encode(None)]


def _chapter(number: int, start: int, end: int, title: str) -> Any:
    return {"id": number, "start": start, "end": end, "time_base": Fraction(1, 1000), "metadata": {"title": title}}
