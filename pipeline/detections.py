"""Detections made elsewhere, read from a file. Owns the two formats and every way to get them wrong; knows no video.

* MOT Challenge (a name that ends in .txt or .csv), one face a line, frames from 1, boxes in pixels of the upright
  picture:

      frame,id,left,top,width,height,score[,x,y,z]

  `id` is a whole number and not used: who is who is found out here. A score of -1 counts as 1.

* JSON (any other name), frames from 0:

      {"format": "revisage-detections", "version": 1, "faces": [
        {"frame": 0, "box": [x0, y0, x1, y1], "score": 0.93, "points": [[x, y], …]}
      ]}

  `points`, the five of `FIVE_POINTS`, and `score` may be missing.

Where points are missing they are put where they lie in an upright face. Reading is strict: all that is wrong is a
`PlanError` that names the line or the face.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from revisage.pipeline import limits
from revisage.pipeline.errors import PlanError
from revisage.pipeline.types import Box, FaceDetection, Float

FORMAT, VERSION = "revisage-detections", 1
_UPRIGHT = ((0.31, 0.40), (0.69, 0.40), (0.50, 0.60), (0.35, 0.78), (0.65, 0.78))  # five points, shares of the box

Detections = dict[int, list[FaceDetection]]  # by frame, from 0


def load_detections(path: Path) -> Detections:
    """Read and check a file. Raises `PlanError`."""
    try:
        if path.stat().st_size > limits.DETECTIONS:
            raise PlanError(f"{path} is larger than detections of any film are")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise PlanError(f"cannot read the detections {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise PlanError(f"{path} holds no detections: not UTF-8 text") from error
    return parse_mot(text) if path.suffix.lower() in (".txt", ".csv") else parse_json(text)


def parse_mot(text: str) -> Detections:
    """The detections in MOT Challenge text. Raises `PlanError`, which names the line."""
    found: Detections = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        place = f"line {number} of the detections"
        fields = [field.strip() for field in line.split(",")]
        if not 7 <= len(fields) <= 10:
            raise PlanError(f"{place} has {len(fields)} fields: frame,id,left,top,width,height,score are seven")
        frame = _whole(fields[0], place, "frame")
        if frame < 1:
            raise PlanError(f"{place} is for frame {frame}: in this format frames begin with 1")
        _whole(fields[1], place, "id")
        left, top, width, height, score = (_number(field, place) for field in fields[2:7])
        score = 1.0 if score == -1 else score
        face = _detection((left, top, left + width, top + height), score, None, place)
        found.setdefault(frame - 1, []).append(face)
    return found


def parse_json(text: str) -> Detections:
    """The detections in JSON. Raises `PlanError`, which names the face."""
    try:
        data = json.loads(text, object_pairs_hook=_once, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise PlanError(f"the detections are not JSON: {error}") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise PlanError(f'the detections are of another kind: they must begin with "format": "{FORMAT}"')
    if data.get("version") != VERSION:
        raise PlanError(f"the detections have version {data.get('version')!r}, this program reads {VERSION}")
    if data.keys() != {"format", "version", "faces"} or not isinstance(data["faces"], list):
        raise PlanError('the detections must hold "format", "version" and the list "faces", and nothing else')
    found: Detections = {}
    for number, face in enumerate(data["faces"]):
        frame, detection = _json_face(face, f"face {number} of the detections")
        found.setdefault(frame, []).append(detection)
    return found


def _json_face(face: Any, place: str) -> tuple[int, FaceDetection]:
    if not isinstance(face, dict) or not {"frame", "box"} <= face.keys() <= {"frame", "box", "score", "points"}:
        raise PlanError(f'{place} must have "frame" and "box", may have "score" and "points", and nothing else')
    frame = face["frame"]
    if not limits.is_whole(frame, limits.FRAMES):
        raise PlanError(f"the frame of {place} must be a whole number from 0")
    box = _numbers(face["box"], 4, f"the box of {place}")
    points = None
    if "points" in face:
        pairs = face["points"]
        if not isinstance(pairs, list) or len(pairs) != 5:
            raise PlanError(f"the points of {place} must be five pairs of x and y")
        points = np.array([_numbers(pair, 2, f"the points of {place}") for pair in pairs], np.float32)
    (score,) = _numbers([face.get("score", 1.0)], 1, f"the score of {place}")
    return frame, _detection((box[0], box[1], box[2], box[3]), score, points, place)


def _detection(box: Box, score: float, points: Float | None, place: str) -> FaceDetection:
    if not (box[0] < box[2] and box[1] < box[3]):
        raise PlanError(f"the box of {place} is empty")
    if not 0 <= score <= 1:
        raise PlanError(f"the score of {place} is {score:g}: it must lie between 0 and 1")
    return FaceDetection(box, score, _upright(box) if points is None else points)


def _upright(box: Box) -> Float:
    corner, extent = np.array(box[:2]), np.array(box[2:]) - np.array(box[:2])
    points: Float = (corner + np.array(_UPRIGHT) * extent).astype(np.float32)
    return points


def _numbers(values: Any, count: int, what: str) -> Sequence[float]:
    sound = isinstance(values, list) and len(values) == count
    if not sound or not all(limits.is_number(v) and abs(v) <= limits.FARTHEST for v in values):
        raise PlanError(f"{what} must be {count} numbers that lie in or near a picture")
    return [float(v) for v in values]


def _whole(field: str, place: str, what: str) -> int:
    try:
        number = float(field)
    except ValueError:
        number = math.nan
    if not number.is_integer() or abs(number) > limits.FRAMES[-1]:
        raise PlanError(f"the {what} in {place} is {field[:20]!r}: it must be a whole number")
    return int(number)


def _number(field: str, place: str) -> float:
    try:
        number = float(field)
    except ValueError:
        number = math.nan
    if not abs(number) <= limits.FARTHEST:
        raise PlanError(f"{place} holds {field[:20]!r}, which is no number or lies far outside any picture")
    return number


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    named = dict(pairs)
    if len(named) != len(pairs):
        raise ValueError("a name stands twice in one place")
    return named


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no number")
