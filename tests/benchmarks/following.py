"""Does the landmark network follow a film? Draws its points on frames, and plots how mouths and eyes open and shut.

    python tests/benchmarks/following.py CLIPS [--plot docs/landmarks.png] [--sheet points.png]

For every clip in the folder: what the network says of each frame alone, and the plan, smoothed over time without lag.
The plot shows openings over time; the sheet every frame of the shortest clip and a sixth of the others', with points
drawn in, to be looked at. The last line is one JSON object: per clip, how much the smoothed curve moves between
frames over the raw one, and by how many frames it lags behind it (the shift of the highest correlation).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from revisage.models import layout
from revisage.models.detectors import load_detector
from revisage.models.landmarks import FaceLandmarker
from revisage.pipeline import geometry
from revisage.pipeline.analyze import analyze
from revisage.pipeline.media import open_video
from revisage.pipeline.types import CropTemplate, Float, Image

SIDE, COLUMNS = 128, 12
VIEW = CropTemplate("view", ((0.36, 0.38), (0.64, 0.38), (0.5, 0.54), (0.385, 0.7), (0.615, 0.7)))
OPENINGS = {"mouth": layout.mouth_opening, "eyes": layout.eye_opening}


@dataclass(frozen=True, slots=True, eq=False)
class Followed:
    """The first track of one clip."""

    name: str
    seconds: Float  # (N,)
    raw: Float  # (N, 135, 2)
    smooth: Float  # (N, 135, 2)
    pictures: list[Image]  # N crops with the smoothed points


def follow(clip: Path) -> Followed:
    """Analyse, and look at every frame once more."""
    landmarker = FaceLandmarker.load()
    plan = analyze(clip, detector=load_detector("centerface")[0], landmarker=landmarker)
    faces = {face.frame: face for face in plan.tracks[0].faces if face.landmarks is not None}
    rows = []
    with open_video(clip) as video:
        for frame in video.frames():
            if (face := faces.get(frame.index)) is None:
                continue
            picture = frame.rgb()
            ((raw, _),) = landmarker.locate(picture, [face.points])
            seconds = float((plan.pts[frame.index] - plan.pts[0]) * video.time_base)
            rows.append((seconds, raw, face.landmarks, _drawn(picture, face.landmarks)))
    seconds, raw, smooth, pictures = zip(*rows, strict=True)
    return Followed(clip.stem, np.array(seconds, np.float32), np.stack(raw), np.stack(smooth), list(pictures))


def _drawn(picture: Image, landmarks: Float) -> Image:
    matrix = geometry.align(layout.five_points(landmarks), VIEW, SIDE)
    view = geometry.crop(picture, matrix, SIDE)
    for x, y in np.round(geometry.transform(landmarks[: layout.EYE_CENTRES.start], matrix) * 16).astype(int):
        cv2.circle(view, (int(x), int(y)), 12, (0, 255, 0), -1, cv2.LINE_AA, 4)
    return view


def sheet(found: list[Followed]) -> Image:
    """Rows of `COLUMNS` crops, clip after clip."""
    shortest = min(found, key=lambda clip: len(clip.pictures))
    rows = []
    for clip in found:
        shown = clip.pictures[:: 1 if clip is shortest else 6]
        shown += [np.zeros_like(shown[0])] * (-len(shown) % COLUMNS)
        rows += [np.hstack(shown[i : i + COLUMNS]) for i in range(0, len(shown), COLUMNS)]
    return np.vstack(rows)


def plot(found: list[Followed], path: Path) -> None:
    """Openings over time, raw and smoothed."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(OPENINGS), len(found), figsize=(4.2 * len(found), 4.6), squeeze=False)
    for column, clip in enumerate(found):
        for row, (name, opening) in enumerate(OPENINGS.items()):
            axis = axes[row][column]
            axis.plot(clip.seconds, opening(clip.raw), color="#bbbbbb", linewidth=1, label="frame by frame")
            axis.plot(clip.seconds, opening(clip.smooth), color="#1f5fa8", linewidth=1.3, label="smoothed")
            axis.set_title(f"{clip.name}: {name}", fontsize=9)
            axis.set_ylim(bottom=0)
    axes[0][0].legend(fontsize=8)
    axes[-1][0].set_xlabel("seconds")
    figure.tight_layout()
    figure.savefig(path, dpi=90)


def figures(clip: Followed) -> dict[str, float]:
    """See the module."""
    found: dict[str, float] = {}
    for name, opening in OPENINGS.items():
        raw, smooth = opening(clip.raw), opening(clip.smooth)
        found[f"{name}_movement"] = round(float(np.abs(np.diff(smooth)).mean() / np.abs(np.diff(raw)).mean()), 3)
        found[f"{name}_lag"] = _lag(raw, smooth)
    return found


def _lag(raw: Float, smooth: Float, most: int = 3) -> int:
    """Frames by which `smooth` comes after `raw`."""
    middle = slice(most, len(raw) - most)
    shifted = {
        n: np.corrcoef(raw[middle], smooth[most + n : len(raw) - most + n])[0, 1] for n in range(-most, most + 1)
    }
    return max(shifted, key=lambda n: shifted[n])


def main() -> None:
    """Follow, draw, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, help="folder of videos")
    parser.add_argument("--plot", type=Path, help="picture of the openings")
    parser.add_argument("--sheet", type=Path, help="picture of the points")
    args = parser.parse_args()
    clips = sorted(path for path in args.clips.iterdir() if path.suffix in {".mp4", ".mkv", ".mov"})
    found = [follow(clip) for clip in clips]
    if args.sheet:
        cv2.imwrite(str(args.sheet), cv2.cvtColor(sheet(found), cv2.COLOR_RGB2BGR))
    if args.plot:
        plot(found, args.plot)
    print(json.dumps({clip.name: figures(clip) for clip in found}))


if __name__ == "__main__":
    main()
