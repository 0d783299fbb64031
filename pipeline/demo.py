"""The demonstration: a clip from photographs that dependencies ship, taken through every step, and a strip to look at.

Owns the clip and the strip. The photographs never leave the machine: the clip is made here, from installed packages.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib import resources
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from revisage.pipeline.errors import OutputError
from revisage.pipeline.media import open_video, write_film
from revisage.pipeline.places import index_path
from revisage.pipeline.recover import RecoverOptions, RecoverReport, recover
from revisage.pipeline.run import JobOptions, JobReport, KeyRing, Workshop
from revisage.pipeline.types import Float, Image, Progress, silent
from revisage.pipeline.vault import keys
from revisage.pipeline.vault.index import open_index

WIDTH, HEIGHT, RATE = 640, 360, Fraction(24)
_STAGE = (1440, 810)  # width, height of the picture that the camera moves over
_CAPTION = 28  # pixels


@dataclass(frozen=True, slots=True)
class DemoReport:
    """Where everything is."""

    clip: Path
    anonymized: Path
    index: Path
    key: Path
    track_key: Path | None  # None: no face was found
    recovered: Path | None
    strip: Path
    track: int | None  # the one that was recovered
    job: JobReport
    recovery: RecoverReport | None


def run_demo(
    folder: Path,
    options: JobOptions | None = None,
    *,
    seconds: float = 3.5,
    overwrite: bool = False,
    progress: Progress = silent,
) -> DemoReport:
    """Make a clip in `folder`, anonymize it, recover one person with that person's own key, and draw the strip.

    Raises OutputError where `folder` holds something (without `overwrite`), and whatever the steps raise.
    """
    workshop = Workshop(options or JobOptions())
    workshop.load()
    _take(folder, overwrite=overwrite)
    clip, anonymized, recovered = (folder / name for name in ("clip.mp4", "anonymized.mp4", "recovered.mp4"))
    count = round(seconds * RATE)
    write_film(clip, camera(stage(), count), RATE, tone(count / RATE))
    secret = _new_key(folder / "demo.key")
    job = workshop.anonymize(clip, anonymized, KeyRing((secret,)), overwrite=True, progress=progress)
    found = _bring_back(anonymized, recovered, secret, folder, progress) if job.tracks else None
    films = {"before": clip, "anonymized": anonymized}
    if found is not None:
        films[f"track {found[0]} recovered"] = recovered
    strip = folder / "strip.png"
    _write_picture(strip, draw_strip(films, count))
    return DemoReport(
        clip=clip,
        anonymized=anonymized,
        index=index_path(anonymized),
        key=folder / "demo.key",
        track_key=_track_key(folder, found[0]) if found else None,
        recovered=recovered if found else None,
        strip=strip,
        track=found[0] if found else None,
        job=job,
        recovery=found[1] if found else None,
    )


def _bring_back(
    anonymized: Path, recovered: Path, secret: keys.SecretKey, folder: Path, progress: Progress
) -> tuple[int, RecoverReport]:
    """Grant the key of the first track, and use it."""
    index = index_path(anonymized)
    with open_index(index) as reader:
        unlocked = reader.unlock(secret)
        track = next(number for number in unlocked.track_ids if number)
        key = unlocked.grant(track)
        path = _track_key(folder, track)
        path.unlink(missing_ok=True)
        keys.write_track_key(path, key, [f"track {track} of video {reader.video_id}"])
    wishes = RecoverOptions(overwrite=True)
    return track, recover(anonymized, recovered, index=index, key=key, options=wishes, progress=progress)


def _take(folder: Path, *, overwrite: bool) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror}; choose another") from error
    if any(folder.iterdir()) and not overwrite:
        raise OutputError(f"{folder} is not empty; choose another folder or give --overwrite")


def _new_key(path: Path) -> keys.SecretKey:
    path.unlink(missing_ok=True)  # of an earlier demonstration: it opens nothing else
    keys.write_secret_key(path)
    key = keys.read_key(path)
    assert isinstance(key, keys.SecretKey)  # noqa: S101 - it was just written as one
    return key


def _track_key(folder: Path, track: int) -> Path:
    return folder / f"track{track}.key"


# -- the clip ----------------------------------------------------------------------------------------------------------


def stage() -> Image:
    """One wide picture: an astronaut at the left and, where insightface brings its photograph, a man at the right."""
    from skimage.data import astronaut  # noqa: PLC0415  (imports much)

    width, height = _STAGE
    picture = _wall(width, height)
    _hang(picture, astronaut()[:400, 50:370], left=150)
    photograph = _group_photograph()
    if photograph is not None:
        _hang(picture, photograph[262:662, 650:970], left=770)
    return picture


def _group_photograph() -> Image | None:
    """insightface's test picture as RGB."""
    data = resources.files("insightface") / "data" / "images" / "t1.jpg"
    if not data.is_file():
        return None
    picture = cv2.imdecode(np.frombuffer(data.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    return None if picture is None else picture[..., ::-1]


def _wall(width: int, height: int) -> Image:
    """A grey-blue gradient with a little texture, the same in every run."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    light = 150 - 50 * y / height + 25 * np.cos(x / width * 5)
    grain = np.random.default_rng(1).normal(0, 4, (height, width)).astype(np.float32)
    light += cv2.GaussianBlur(grain, (0, 0), 2)
    wall: Image = np.clip(np.stack([light * 0.85, light * 0.95, light * 1.1], axis=-1), 0, 255).astype(np.uint8)
    return wall


def _hang(wall: Image, photograph: Image, left: int, width: int = 520, height: int = 650) -> None:
    """Put a photograph on the wall, with a frame around it."""
    top = (wall.shape[0] - height) // 2
    wall[top - 8 : top + height + 8, left - 8 : left + width + 8] = (40, 36, 32)
    wall[top : top + height, left : left + width] = cv2.resize(
        np.ascontiguousarray(photograph), (width, height), interpolation=cv2.INTER_CUBIC
    )


def camera(picture: Image, count: int) -> Iterator[Image]:
    """`count` frames of a hand-held camera: it pans, zooms and turns smoothly."""
    for index in range(count):
        turn = 2 * np.pi * index / max(count, 1)
        sine, cosine = float(np.sin(turn)), float(np.cos(turn))
        matrix = _view(picture.shape, 0.6 + 0.04 * cosine, 3 * sine, 50 * sine, 25 * cosine - 90)
        yield cv2.warpAffine(picture, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT_101)


def _view(shape: Sequence[int], zoom: float, degrees: float, right: float, down: float) -> Float:
    """(2, 3) from the stage to the frame: its centre, shifted, at the frame's centre."""
    height, width = shape[:2]
    centre = (width / 2 + right, height / 2 + down)
    matrix: Float = cv2.getRotationMatrix2D(centre, degrees, zoom)
    matrix[:, 2] += (WIDTH / 2 - centre[0], HEIGHT / 2 - centre[1])
    return matrix


def tone(seconds: float | Fraction) -> Float:
    """(samples,) float32 at 48 kHz, -1..1: a quiet swelling fifth."""
    time = np.arange(int(float(seconds) * 48000), dtype=np.float32) / 48000
    wave = np.sin(2 * np.pi * 220 * time) + 0.6 * np.sin(2 * np.pi * 330 * time)
    sound: Float = (0.05 * wave * (0.6 + 0.4 * np.sin(2 * np.pi * 0.5 * time))).astype(np.float32)
    return sound


# -- the strip ---------------------------------------------------------------------------------------------------------


def draw_strip(films: dict[str, Path], count: int) -> Image:
    """Three frames of each film: films side by side under their captions, the frames below one another."""
    wanted = [round(count * part) for part in (0.15, 0.5, 0.85)]
    columns = [np.vstack([_caption(title), *_frames(path, wanted)]) for title, path in films.items()]
    return np.hstack(columns)


def _frames(path: Path, wanted: Sequence[int]) -> list[Image]:
    with open_video(path) as video:
        return [frame.rgb() for frame in islice(video.frames(), max(wanted) + 1) if frame.index in wanted]


def _caption(title: str) -> Image:
    bar = np.full((_CAPTION, WIDTH, 3), 24, np.uint8)
    cv2.putText(bar, title, (8, _CAPTION - 9), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (235, 235, 235), 1, cv2.LINE_AA)
    return bar


def _write_picture(path: Path, picture: Image) -> None:
    fine, data = cv2.imencode(".png", picture[..., ::-1])
    if not fine:
        raise OutputError(f"cannot encode {path.name}; choose another folder")
    path.write_bytes(data.tobytes())
