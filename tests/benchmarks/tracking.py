"""How well people are followed: plain norfair, this program's tracker, and that with its linker, on exact ground truth.

    python tests/benchmarks/tracking.py [--rate FPS]... [--scene NAME]... [--held-out] [--measured] [--seed N]

Detections are the truth, shaken by 3 % of a face's size; a tenth is missed at random, a tenth scores low, and each
person is not found for 0.6 seconds once. MOTA, IDF1 and switches by py-motmetrics, HOTA by TrackEval (both in the
extra `bench`; without them those columns are empty). Boxes are compared within the picture. `uncovered`: faces that
show and that no box covers; `promised`: those of them that were found at most half a second before or after, or on
both sides of a gap of up to a second (see judge.py); films without one are listed as outside the promise. `bridged`:
tracks that go through a change of shot. Where two shots dissolve, nobody is asked who is who. `--held-out` takes
scenes that nothing was tuned on. The camera's motion is the true one, or with `--measured` what the program reads off
drawn pictures. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import norfair
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

import judge as j
from scenes import (
    HELD_OUT,
    SCENES,
    SEEN,
    Scene,
    TrueFace,
    careless_sightings,
    clock,
    pictures,
    truth,
    uneven_clock,
)

from revisage.models.looks import overlap
from revisage.pipeline.types import Box, FaceDetection, Float
from revisage.trackers.camera import CameraMotion

_SECONDS = 4.0
_MATCH = 0.5  # intersection over union of a hit
SYSTEMS = ("norfair, defaults", "before linking", "after linking")
_COLUMNS = ("MOTA", "IDF1", "HOTA", "switches", "uncovered", "promised", "bridged", "tracks")
Sightings = Sequence[Sequence[tuple[TrueFace, FaceDetection]]]


def watched(scene: Scene, detections: Sequence[Sequence[FaceDetection]]) -> Float:
    """(F, 3) how the camera looks, as the program measures it."""
    motion = CameraMotion()
    views = [motion.push(p, [f.box for f in faces]) for p, faces in zip(pictures(scene), detections, strict=True)]
    return np.stack(views)


def plain(detections: Sequence[Sequence[FaceDetection]]) -> j.Placed:
    """norfair as it comes: IoU, all counters at their defaults."""
    tracker = norfair.Tracker(distance_function="iou", distance_threshold=0.7)
    found: j.Placed = []
    for faces in detections:
        objects = tracker.update([norfair.Detection(np.array(face.box).reshape(2, 2)) for face in faces])
        found.append([(int(o.id), _box(o.estimate)) for o in objects])
    return found


def _box(corners: Any) -> Box:
    x0, y0, x1, y1 = (float(v) for v in np.asarray(corners).reshape(-1))
    return x0, y0, x1, y1


def systems(scene: Scene, detections: Sequence[Sequence[FaceDetection]], camera: Float) -> dict[str, j.Placed]:
    """Plain norfair, this program's tracker, and that with its linker."""
    tracklets, tracks = j.tracked(scene, detections, moved=camera)
    frames = len(scene.times)
    found = (plain(detections), j.before_linking(tracklets, frames), j.placed(tracks, frames))
    return dict(zip(SYSTEMS, found, strict=True))


def figures(scene: Scene, found: j.Placed, sightings: Sightings) -> dict[str, float | None]:
    """One row of the table."""
    verdict = j.judge(scene, found)
    shown, kept = _counted(scene, found)
    mota, idf1, switches = _motmetrics(shown, kept)
    return {
        "MOTA": mota,
        "IDF1": idf1,
        "HOTA": _hota(shown, kept),
        "switches": switches,
        "uncovered": len(verdict.uncovered),
        "promised": len(j.promised(scene, verdict.uncovered, sightings)),
        "bridged": verdict.bridged,
        "tracks": verdict.tracks,
    }


def _counted(scene: Scene, found: j.Placed) -> tuple[j.Placed, j.Placed]:
    """Faces that show, a new person in each shot; and boxes, without those on faces that hardly show."""
    shown: j.Placed = []
    kept: j.Placed = []
    mixed = {frame for first, last in scene.cuts for frame in range(first, last)}
    for frame, (faces, boxes) in enumerate(zip(truth(scene), found, strict=True)):
        if frame in mixed:
            continue
        clear = [face for face in faces if face.visible >= SEEN]
        faint = [face for face in faces if face.visible < SEEN]
        shown.append([(face.who, _within(face.box, scene.size)) for face in clear])
        kept.append(
            [
                (number, _within(box, scene.size))
                for number, box in boxes
                if any(overlap(box, face.box) >= _MATCH for face in clear)
                or not any(overlap(box, face.box) > 0.2 for face in faint)
            ]
        )
    return shown, kept


def _within(box: Box, size: tuple[int, int]) -> Box:
    """`box` clipped to the picture: what lies beyond it nobody sees, and no mask goes there."""
    return max(box[0], 0.0), max(box[1], 0.0), min(box[2], float(size[0])), min(box[3], float(size[1]))


def _motmetrics(shown: j.Placed, found: j.Placed) -> tuple[float | None, float | None, float | None]:
    try:
        import motmetrics
    except ImportError:
        return None, None, None
    counted = motmetrics.MOTAccumulator(auto_id=True)
    for faces, boxes in zip(shown, found, strict=True):
        distance = np.array([[1 - overlap(a, b) for _, b in boxes] for _, a in faces], float)
        distance = distance.reshape(len(faces), len(boxes))
        distance[distance > 1 - _MATCH] = np.nan
        counted.update([who for who, _ in faces], [number for number, _ in boxes], distance)
    names = ["mota", "idf1", "num_switches"]
    row = motmetrics.metrics.create().compute(counted, metrics=names, name="all").iloc[0]
    return float(row["mota"]), float(row["idf1"]), float(row["num_switches"])


def _hota(shown: j.Placed, found: j.Placed) -> float | None:
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            from trackeval.metrics import HOTA
    except ImportError:
        return None
    people = {who: i for i, who in enumerate(sorted({who for faces in shown for who, _ in faces}))}
    tracks = {number: i for i, number in enumerate(sorted({number for boxes in found for number, _ in boxes}))}
    data = {
        "num_timesteps": len(shown),
        "num_gt_ids": len(people),
        "num_tracker_ids": len(tracks),
        "num_gt_dets": sum(map(len, shown)),
        "num_tracker_dets": sum(map(len, found)),
        "gt_ids": [np.array([people[who] for who, _ in faces], int) for faces in shown],
        "tracker_ids": [np.array([tracks[number] for number, _ in boxes], int) for boxes in found],
        "similarity_scores": [
            np.array([[overlap(a, b) for _, b in boxes] for _, a in faces], float).reshape(len(faces), len(boxes))
            for faces, boxes in zip(shown, found, strict=True)
        ],
    }
    return float(np.mean(HOTA().eval_sequence(data)["HOTA"]))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, action="append", help="frames a second; 0: variable")
    parser.add_argument("--scene", choices=sorted(SCENES | HELD_OUT), action="append")
    parser.add_argument("--held-out", action="store_true", help="the scenes that nothing was tuned on")
    parser.add_argument("--measured", action="store_true", help="the camera's motion as measured, not as it is")
    parser.add_argument("--seed", type=int, default=1, help="of what the detector misses")
    args = parser.parse_args()
    scenes = SCENES | HELD_OUT
    results: dict[str, dict[str, dict[str, float | None]]] = {}
    print(f"{'scene':<18}{'system':<20}" + "".join(f"{name:>11}" for name in _COLUMNS))
    for rate in args.rate or [25.0]:
        for name in args.scene or (HELD_OUT if args.held_out else SCENES):
            scene = scenes[name](clock(rate, _SECONDS) if rate else uneven_clock(_SECONDS))
            sightings = careless_sightings(scene, args.seed)
            detections = [[face for _, face in seen] for seen in sightings]
            camera = watched(scene, detections) if args.measured else j.camera(scene)
            label = f"{name} {rate:g}"
            for system, found in systems(scene, detections, camera).items():
                row = figures(scene, found, sightings)
                results.setdefault(label, {})[system] = row
                print(f"{label:<18}{system:<20}" + "".join(_cell(row[column]) for column in _COLUMNS))
    for label in (outside := _outside(results)):
        print(f"outside the promise: {label}")
    print(json.dumps({**results, "mean": _means(results), "outside": outside}))


def _cell(value: float | None) -> str:
    return f"{'-' if value is None else format(value, '.3g'):>11}"


def _outside(results: dict[str, dict[str, dict[str, float | None]]]) -> list[str]:
    """Films with uncovered faces after linking, none of which had to be covered."""
    ours = {label: systems[SYSTEMS[-1]] for label, systems in results.items()}
    return [label for label, row in ours.items() if row["uncovered"] and not row["promised"]]


def _means(results: dict[str, dict[str, dict[str, float | None]]]) -> dict[str, dict[str, float | None]]:
    """Over all scenes, per system."""
    means: dict[str, dict[str, float | None]] = {}
    for system in SYSTEMS:
        rows = [scene[system] for scene in results.values()]
        for column in _COLUMNS:
            values = [row[column] for row in rows]
            known = [value for value in values if value is not None]
            means.setdefault(system, {})[column] = round(float(np.mean(known)), 3) if known else None
    return means


if __name__ == "__main__":
    main()
