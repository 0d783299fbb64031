"""Videos through the judges' eyes: an excerpt, every tracked face of it judged, two videos compared pixel by pixel.

Works on the frames a plan knows, one at a time; what is kept are numbers and small crops. An excerpt shows faces, so it
lives in memory where the system has a folder for that (`private_folder`). Knows no key and no generator.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from numpy.typing import NDArray

from revisage.models.conditioning import FACE_TEMPLATE
from revisage.pipeline.composite import hidden_pixels, place
from revisage.pipeline.errors import OutputError
from revisage.pipeline.evaluation import measures
from revisage.pipeline.evaluation.judges import Judges, Seen
from revisage.pipeline.media import Frame, VideoReader, VideoWriter, container_of, default_codec, open_video
from revisage.pipeline.pixels import Mask
from revisage.pipeline.turn import Turn
from revisage.pipeline.types import Float, Image, Plan, Progress, Track, TrackedFace, silent

_MEMORY = Path("/dev/shm")  # noqa: S108 - a file system in memory, where Linux has it
_PLACE_SIZE = 128  # side of the crop that only places a face


@dataclass(frozen=True, slots=True, eq=False)
class Watched:
    """One track of one video, judged; row i of everything belongs to frame `frames[i]`."""

    track: int
    frames: NDArray[np.int64]  # (N,)
    driving: Float  # (N, 135, 2), the plan's landmarks: where the face of the source is
    seen: Seen  # N rows
    change: Float  # (N - 1,), texture change to the next frame in grey levels

    @property
    def neighbours(self) -> NDArray[np.bool_]:
        """(N - 1,): is the next row the next frame?"""
        following: NDArray[np.bool_] = np.diff(self.frames) == 1
        return following


@dataclass(frozen=True, slots=True)
class Pixels:
    """How much two videos have in common, means over frames: PSNR in dB, SSIM up to 1."""

    psnr_faces: float
    ssim_faces: float
    psnr_outside: float
    ssim_outside: float


@contextmanager
def private_folder() -> Iterator[Path]:
    """A new folder for this user alone, in memory where possible, gone at the end."""
    parent = _MEMORY if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) else None
    with TemporaryDirectory(prefix="revisage-", dir=parent) as folder:
        yield Path(folder)


def excerpt(source: Path, folder: Path, first: int, count: int, name: str = "excerpt") -> Path:
    """Frames `first` to `first + count` of `source`, lossless, as a Matroska file in `folder`."""
    target = folder / f"{name}.mkv"
    with open_video(source) as video, VideoWriter(target, video, codec="ffv1") as writer:
        for frame in islice(video.frames(), first, first + count):
            writer.write(frame, frame.planes)
    return target


def product_codec(source: Path, suffix: str = ".mkv") -> str:
    """The encoder that `revisage anonymize` takes for `source`."""
    with open_video(source) as video:
        container = container_of(Path(f"x{suffix}"))
        return default_codec(video.codec, video.pix_fmt, video.width, video.height, container)


def watch(video: Path, plan: Plan, judges: Judges, progress: Progress = silent) -> list[Watched]:
    """Every track of `plan` as it looks in `video`, which has the plan's frames (or the first few of them)."""
    logs = {track.id: _Log(track) for track in plan.tracks}
    by_frame = plan.by_frame()
    with open_video(video) as opened:
        turn = Turn.of(opened.orientation, opened.width, opened.height)
        for frame in progress(opened.frames(), label=f"judge {video.stem}", total=plan.video.frames):
            faces = [(track, face) for track, face in by_frame.get(frame.index, ()) if face.landmarks is not None]
            if faces:
                picture = turn.upright(frame.rgb())
                shapes = [turn.upright_points(face.landmarks) for _, face in faces if face.landmarks is not None]
                rows = judges.look(picture, shapes)
                for i, (track, _) in enumerate(faces):
                    logs[track.id].add(frame.index, shapes[i], rows[i : i + 1], measures.texture(picture, shapes[i]))
    return [log.closed() for log in logs.values() if log.frames]


def compare(a: Path, b: Path, plan: Plan) -> Pixels:
    """Pixels of `a` and `b`, both with the plan's frames, within the faces of the plan and outside them."""
    rows: list[tuple[float, float, float, float]] = []
    by_frame = plan.by_frame()
    with open_video(a) as first, open_video(b) as second:
        for one, other in zip(first.frames(), second.frames(), strict=False):
            faces = _face_pixels(one, first, by_frame.get(one.index, ()))
            near = cv2.dilate(faces.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0  # SSIM's windows reach so far
            x, y = one.rgb(), other.rgb()
            similar = measures.ssim_map(x, y)
            rows.append(
                (
                    measures.psnr(x, y, faces),
                    measures.mean(similar[faces]),
                    measures.psnr(x, y, ~faces),
                    measures.mean(similar[~near]),
                )
            )
    return Pixels(*(measures.mean(column[~np.isnan(column)]) for column in np.array(rows, np.float64).T))


def strip(videos: Sequence[Path], plan: Plan, pictures: int = 12, side: int = 128) -> Image:
    """One row a video, `pictures` frames of the first track evenly spread, face in the middle: to look at."""
    track = max(plan.tracks, key=lambda t: len(t.faces))
    chosen = np.linspace(0, len(track.faces) - 1, pictures).round().astype(int)
    faces = {track.faces[i].frame: track.faces[i] for i in chosen}
    return np.vstack([np.hstack(list(_portraits(video, faces, side))) for video in videos])


def save_strip(picture: Image, path: Path, overwrite: bool = False) -> None:
    """As a PNG file; its folder is made. Raises OutputError where it exists or cannot be written."""
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists; choose another folder or use --overwrite")
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), np.ascontiguousarray(picture[..., ::-1])):
        raise OutputError(f"cannot write {path}; choose another folder")


def _portraits(video: Path, faces: Mapping[int, TrackedFace], side: int) -> Iterator[Image]:
    with open_video(video) as opened:
        for frame in opened.frames():
            if frame.index in faces:
                yield _portrait(frame.rgb(), faces[frame.index], side)


def _portrait(picture: Image, face: TrackedFace, side: int) -> Image:
    x0, y0, x1, y1 = face.box
    half = max(x1 - x0, y1 - y0) * 0.8
    scale = side / (2 * half)
    shift = side / 2 - scale * np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]], np.float32)
    cut: Image = cv2.warpAffine(picture, matrix, (side, side), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
    return cut


class _Log:
    """What has been seen of one track so far; holds one texture."""

    def __init__(self, track: Track) -> None:
        self.track = track.id
        self.frames: list[int] = []
        self._driving: list[Float] = []
        self._seen: list[Seen] = []
        self._change: list[float] = []
        self._before: Float | None = None

    def add(self, frame: int, shape: Float, seen: Seen, texture: Float) -> None:
        if self._before is not None:
            self._change.append(measures.texture_change(self._before, texture))
        self._before = texture
        self.frames.append(frame)
        self._driving.append(shape)
        self._seen.append(seen)

    def closed(self) -> Watched:
        seen, change = Seen.joined(self._seen), np.array(self._change, np.float32)
        return Watched(self.track, np.array(self.frames), np.stack(self._driving), seen, change)


def _face_pixels(frame: Frame, video: VideoReader, faces: Sequence[tuple[Track, TrackedFace]]) -> Mask:
    """(H, W): every pixel that anonymizing may have changed."""
    width, height = video.width, video.height
    placed = (
        place(track.id, face, FACE_TEMPLATE, _PLACE_SIZE, video.pix_fmt, width, height)
        for track, face in faces
        if not track.keep
    )
    return hidden_pixels([face for face in placed if face is not None], width, height)
