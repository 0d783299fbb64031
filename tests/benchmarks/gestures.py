"""Do lids, gaze and corners of the mouth follow a film, each side on its own? Compared with MediaPipe's mesh.

    python tests/benchmarks/gestures.py LABELS CLIP... [--weights DIR] [--smooth] [--sheet points.png]

LABELS: what `mesh_labels.py films` wrote. Per clip: median distance of each group of points in percent of the
interocular distance (after the mean offset of every point over the clip is taken off, too: two teachers may mean
different points by one name), and Pearson's correlation over time of each eye's opening, of each mouth corner's place
on the face, and of the gaze across. Correlations count where the teacher's curve varies. `--smooth`: as the tracker
smooths, with how much lids and mouth move between frames over the raw ones, and by how many frames they lag.
The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np

from revisage.models import landmarks as model
from revisage.models import layout
from revisage.pipeline import geometry
from revisage.pipeline.types import CropTemplate, Float, Image, Origin, Track, TrackedFace
from revisage.trackers.smooth import smooth

GROUPS = {
    "oval": (layout.OVAL,), "brows": (layout.BROW_LEFT, layout.BROW_RIGHT), "eyes": (layout.EYE_LEFT, layout.EYE_RIGHT),
    "nose": (layout.NOSE_BRIDGE, layout.NOSTRILS), "lips": (layout.LIPS_OUTER, layout.LIPS_INNER),
    "irises": (layout.IRIS_LEFT, layout.IRIS_RIGHT), "surface": (layout.SURFACE,),
}  # fmt: skip
UPRIGHT = CropTemplate("upright", ((0.36, 0.38), (0.64, 0.38), (0.5, 0.54), (0.385, 0.7), (0.615, 0.7)))
SIDE = 200
START = 0.03  # standard deviation of the five points the network starts from, in interocular distances


def read(clip: Path) -> list[Image]:
    """All frames, RGB."""
    video, frames = cv2.VideoCapture(str(clip)), []
    while (got := video.read())[0]:
        frames.append(cv2.cvtColor(got[1], cv2.COLOR_BGR2RGB))
    return frames


def followed(frames: list[Image], truth: Float, landmarker: model.FaceLandmarker) -> Float:
    """(F, LANDMARK_COUNT, 2): what the network says of each frame, from five points that are a little off."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, START, (len(truth), 5, 2)) * layout.interocular(truth)[:, None, None]
    starts = (layout.five_points(truth) + noise).astype(np.float32)
    return np.stack([landmarker.locate(f, [s])[0][0] for f, s in zip(frames, starts, strict=True)])


def smoothed(points: Float, rate: float, size: tuple[int, int]) -> Float:
    """As the tracker does it."""
    faces = []
    for number, shape in enumerate(points):
        low, high = shape.min(0), shape.max(0)
        box = (float(low[0]), float(low[1]), float(high[0]), float(high[1]))
        faces.append(TrackedFace(number, box, layout.five_points(shape), Origin.DETECTED, 1.0, shape))
    times = [number / rate for number in range(len(points))]
    done = smooth(Track(1, tuple(faces)), times, size)
    return np.stack([f.landmarks for f in done.faces if f.landmarks is not None])


def curves(points: Float) -> dict[str, Float]:
    """(F,) each: what is compared over time. Corners of the mouth in the upright frame of the upper face."""
    openings, looks = layout.eye_openings(points), layout.gaze(points)
    upper = [layout.CORNERS_LEFT[0], layout.CORNERS_LEFT[1], layout.CORNERS_RIGHT[1], layout.CORNERS_RIGHT[0]]
    unit = layout.interocular(points)
    across = points[:, upper[3]] - points[:, upper[0]]
    across = across / np.linalg.norm(across, axis=1, keepdims=True)
    down = np.stack([-across[:, 1], across[:, 0]], -1)
    left, right = ((points[:, i] - points[:, upper].mean(1)) for i in (layout.MOUTH_LEFT, layout.MOUTH_RIGHT))
    return {
        "left eye": openings[:, 0], "right eye": openings[:, 1],
        "wink (left less right)": openings[:, 0] - openings[:, 1],
        "left corner": (left * down).sum(1) / unit, "right corner": (right * down).sum(1) / unit,
        "corners apart": ((right - left) * across).sum(1) / unit,
        "gaze across": looks[:, :, 0].mean(1), "mouth": layout.mouth_opening(points),
    }  # fmt: skip


def compared(found: Float, truth: Float) -> dict[str, float]:
    """See the module."""
    unit = layout.interocular(truth)[:, None]
    offset = found - truth
    figures: dict[str, float] = {}
    for name, parts in GROUPS.items():
        chosen = np.r_[parts]
        for suffix, off in (("", offset), (", moved", offset - offset.mean(0))):
            figures[name + suffix] = round(100 * float(np.median((np.linalg.norm(off, axis=-1) / unit)[:, chosen])), 2)
    mine, theirs = curves(found), curves(truth)
    figures |= {f"r {name}": round(float(np.corrcoef(mine[name], theirs[name])[0, 1]), 3) for name in mine}
    return figures | {f"span {name}": round(float(np.ptp(theirs[name])), 3) for name in mine}


def kept(raw: Float, calm: Float) -> dict[str, float]:
    """How much of each curve's movement between frames smoothing leaves, and by how many frames it lags."""
    before, after = curves(raw), curves(calm)
    figures = {}
    for name in before:
        figures[f"kept {name}"] = round(
            float(np.abs(np.diff(after[name])).mean() / np.abs(np.diff(before[name])).mean()), 3
        )
        figures[f"range {name}"] = round(float(np.ptp(after[name]) / max(float(np.ptp(before[name])), 1e-6)), 3)
        figures[f"lag {name}"] = _lag(before[name], after[name])
    still = np.linalg.norm(np.diff(calm[:, layout.OVAL], axis=0), axis=-1).mean()
    moving = np.linalg.norm(np.diff(raw[:, layout.OVAL], axis=0), axis=-1).mean()
    return figures | {"kept outline": round(float(still / moving), 3)}


def _lag(raw: Float, calm: Float, most: int = 3) -> int:
    middle = slice(most, len(raw) - most)
    shifts = range(-most, most + 1)
    return max(shifts, key=lambda n: np.corrcoef(raw[middle], calm[most + n : len(raw) - most + n])[0, 1])


def sheet(frames: list[Image], points: Float, count: int = 8) -> Image:
    """`count` frames of a clip, irises in red, surface in blue."""
    tiles = []
    for number in np.linspace(0, len(frames) - 1, count).astype(int):
        matrix = geometry.align(layout.five_points(points[number]), UPRIGHT, SIDE)
        tile = geometry.crop(frames[number], matrix, SIDE)
        for i, (x, y) in enumerate(np.round(geometry.transform(points[number], matrix) * 16).astype(int).tolist()):
            colour = (
                (0, 255, 0) if i < layout.CONTOUR_COUNT else (255, 0, 0) if i < layout.SURFACE.start else (0, 160, 255)
            )
            cv2.circle(tile, (x, y), 16, colour, -1, cv2.LINE_AA, 4)
        tiles.append(tile)
    return np.hstack(tiles)


def main() -> None:
    """Compare, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path)
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--weights", type=Path, default=model.WEIGHTS)
    parser.add_argument("--smooth", action="store_true")
    parser.add_argument("--sheet", type=Path)
    options = parser.parse_args()
    landmarker = model.FaceLandmarker.load(options.weights)
    results, rows = {}, []
    for clip in options.clips:
        frames = read(clip)
        truth = layout.from_mesh(np.load(options.labels / f"{clip.stem}.npz")["mesh"])
        known = np.flatnonzero(np.isfinite(truth[:, 0, 0]))
        seen = [frames[i] for i in known]
        found = followed(seen, truth[known], landmarker)
        results[clip.stem] = compared(found, truth[known])
        if options.smooth:
            rate = float(cv2.VideoCapture(str(clip)).get(cv2.CAP_PROP_FPS))
            calm = smoothed(found, rate, frames[0].shape[1::-1])
            results[clip.stem] |= kept(found, calm) | {
                f"smooth {k}": v for k, v in compared(calm, truth[known]).items()
            }
        rows.append(sheet(seen, found))
        print(clip.stem, results[clip.stem], flush=True)
    if options.sheet:
        cv2.imwrite(str(options.sheet), cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR))
    print(json.dumps(results))


if __name__ == "__main__":
    main()
