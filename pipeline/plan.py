"""The plan as a file: pass 1's result, to be looked at, edited by hand and given to pass 2. Owns the JSON format.

Knows no detector and no pixel. The file is UTF-8 JSON, one face a line:

    {
      "format": "revisage-plan",
      "version": 1,
      "video": {"width": 640, "height": 480, "time_base": "1/1000", "pix_fmt": "yuv420p", "frames": 47, "sha256": "…"},
      "detector": "centerface",
      "notes": {"cuts": "12 80"},
      "region": "face",
      "keep_parts": ["eyes"],
      "pts": [0, 33, 67],
      "tracks": [
        {"id": 1, "keep": false, "person": 1, "draw": 2, "faces": [
          {"frame": 0, "box": [x0, y0, x1, y1], "points": [[x, y], …], "origin": "detected", "score": 0.93,
           "landmarks": [x, y, x, y, …]}
        ]}
      ]
    }

* `region`: face or head. `keep_parts`: what of every face stays: brows, eyes, nose, mouth. Both may be missing.
* `pts`: presentation time of every frame in units of `time_base` seconds, rising.
* `id`: from 1, each once. `keep`: true leaves this track as filmed. `person`: from 1, may be missing; tracks with the
  same number show one person and get one new face. `draw`: from 0, may be missing; another number is another new face,
  the same for all tracks of a person.
* `frame`: from 0, rising by one from face to face. To end a track early delete its last faces, to begin it late its
  first ones; a hole within a track is refused, because it would show the face.
* `box`: x0, y0, x1, y1 in pixels of the stored frame. `points`: eye, eye, nose tip, mouth corner, mouth corner.
* `origin`: detected, interpolated or held. `landmarks` may be missing; else 372 numbers, x and y of 186 points. Of 270
  numbers, the 135 points of the contours alone, irises and surface are filled in as they most likely are.
* `tone` may be missing; else 27 numbers, light and skin tone as filmed, see models/tone.py. Without them a new face's
  tone is guessed from what surrounds it.
* `like` may be missing; else up to three words that the new face must fit: woman or man, an age such as 50s, a tone
  such as dark.

Numbers are rounded to 0.01 pixel. Reading is strict: an unknown name, a missing one, a number that is none or not
finite, a name given twice: all are a `PlanError` that says where.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, NoReturn

import jsonschema
import numpy as np

from revisage.models.completion import completed
from revisage.models.layout import CONTOUR_COUNT, LANDMARK_COUNT
from revisage.pipeline import limits
from revisage.pipeline.errors import OutputError, PlanError
from revisage.pipeline.shape import PARTS, REGIONS
from revisage.pipeline.types import Box, Float, Origin, Plan, Shape, Track, TrackedFace, VideoInfo

FORMAT, VERSION = "revisage-plan", 1


def _object(properties: dict[str, Any], optional: Sequence[str] = ()) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _list(length: int) -> dict[str, Any]:
    """A list of numbers, or of pairs of them, which `_checked` checks: as a schema they take most of the time."""
    return {"type": "array", "minItems": length, "maxItems": length}


_FRAME = {"type": "integer", "minimum": 0, "maximum": limits.FRAMES[-1]}
_ID = {"type": "integer", "minimum": limits.IDS[0], "maximum": limits.IDS[-1]}
_SIDE = {"type": "integer", "minimum": limits.SIDES[0], "maximum": limits.SIDES[-1]}

_VIDEO = _object(
    {
        "width": _SIDE,
        "height": _SIDE,
        "time_base": {"type": "string", "pattern": "^[1-9][0-9]{0,17}/[1-9][0-9]{0,17}$"},
        "pix_fmt": {"type": "string", "minLength": 1},
        "frames": _FRAME,
        "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
    }
)
_FACE = _object(
    {
        "frame": _FRAME,
        "box": _list(4),
        "points": _list(5),
        "origin": {"enum": [origin.value for origin in Origin]},
        "score": {"type": "number", "minimum": 0, "maximum": 1},
        "landmarks": {"anyOf": [_list(2 * LANDMARK_COUNT), _list(2 * CONTOUR_COUNT)]},
        "tone": _list(27),
    },
    optional=["landmarks", "tone"],
)
_TRACK = _object(
    {
        "id": _ID,
        "keep": {"type": "boolean"},
        "person": _ID,
        "draw": {"type": "integer", "minimum": 0, "maximum": 0xFFFF_FFFF},
        "like": {"type": "array", "items": {"type": "string", "maxLength": 20}, "maxItems": 3, "uniqueItems": True},
        "faces": {"type": "array", "items": _FACE, "minItems": 1},
    },
    optional=["keep", "person", "draw", "like"],
)
SCHEMA: Mapping[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    **_object(
        {
            "format": {"const": FORMAT},
            "version": {"const": VERSION},
            "video": _VIDEO,
            "detector": {"type": "string"},
            "notes": {"type": "object", "additionalProperties": {"type": "string"}},
            "region": {"enum": list(REGIONS)},
            "keep_parts": {"type": "array", "items": {"enum": list(PARTS)}, "uniqueItems": True},
            "pts": {"type": "array"},
            "tracks": {"type": "array", "items": _TRACK},
        },
        optional=["notes", "region", "keep_parts"],
    ),
}


def save_plan(plan: Plan, path: Path, *, overwrite: bool = False) -> None:
    """Write `plan` to `path`, complete or not at all. Raises `OutputError` when `path` exists or cannot be written."""
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists; choose another name or use --overwrite")
    try:
        with NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", encoding="utf-8", delete=False) as file:
            try:
                file.writelines(_lines(plan))
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(path)
            except BaseException:
                with contextlib.suppress(OSError):
                    Path(file.name).unlink()
                raise
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}; choose another folder") from error


def load_plan(path: Path) -> Plan:
    """Read and check a plan. Raises `PlanError`, which names the place in the file."""
    try:
        if path.stat().st_size > limits.PLAN:
            raise PlanError(f"{path} is larger than any plan this program writes")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise PlanError(f"cannot read the plan {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise PlanError(f"{path} is not a plan: not UTF-8 text") from error
    return parse_plan(text)


def dump_plan(plan: Plan) -> str:
    """The text that `save_plan` writes."""
    return "".join(_lines(plan))


def parse_plan(text: str) -> Plan:
    """The plan in `text`. Raises `PlanError`, which names the place."""
    try:
        data = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise PlanError(f"the plan is not JSON: {error.msg} in line {error.lineno}") from error
    except RecursionError as error:
        raise PlanError("the plan is not JSON of this format: nested too deeply") from error
    except PlanError:
        raise
    except ValueError as error:  # a number of thousands of digits
        raise PlanError("the plan holds a number that is too long") from error
    _validate(data)
    plan = _plan(data)
    _check(plan)
    return plan


def fits(plan: Plan, video: VideoInfo) -> None:
    """Raises `PlanError` unless `plan` was made for `video`; `video.frames` counts only when it is known."""
    planned = plan.video
    for what, mine, its in (
        ("file (SHA-256)", planned.sha256, video.sha256),
        ("picture size", (planned.width, planned.height), (video.width, video.height)),
        ("time base", planned.time_base, video.time_base),
        ("number of frames", planned.frames, video.frames or planned.frames),
    ):
        if mine != its:
            raise PlanError(f"the plan was made for another video: its {what} differs; run: revisage analyze")


# -- writing -----------------------------------------------------------------------------------------------------------


def _lines(plan: Plan) -> Iterator[str]:
    video = plan.video
    base = f"{video.time_base.numerator}/{video.time_base.denominator}"
    head = {
        "width": video.width,
        "height": video.height,
        "time_base": base,
        "pix_fmt": video.pix_fmt,
        "frames": video.frames,
        "sha256": video.sha256,
    }
    yield f'{{\n"format": "{FORMAT}",\n"version": {VERSION},\n"video": {_json(head)},\n'
    yield f'"detector": {_json(plan.detector)},\n"notes": {_json(dict(plan.notes))},\n"pts": {_json(plan.pts)},\n'
    if plan.shape != Shape():
        yield f'"region": {_json(plan.shape.region)},\n"keep_parts": {_json(plan.shape.keep_parts)},\n'
    yield '"tracks": [\n'
    for index, track in enumerate(plan.tracks):
        yield from _track_lines(track, last=index == len(plan.tracks) - 1)
    yield "]\n}\n"


def _track_lines(track: Track, *, last: bool) -> Iterator[str]:
    person = "" if track.person is None else f'"person": {track.person}, '
    draw = f'"draw": {track.draw}, ' if track.draw else ""
    like = f'"like": {_json(list(track.like))}, ' if track.like else ""
    yield f'  {{"id": {track.id}, "keep": {_json(track.keep)}, {person}{draw}{like}"faces": [\n'
    for index, face in enumerate(track.faces):
        comma = "" if index == len(track.faces) - 1 else ","
        yield f"    {_json(_face_data(face))}{comma}\n"
    yield f"  ]}}{'' if last else ','}\n"


def _face_data(face: TrackedFace) -> dict[str, Any]:
    data: dict[str, Any] = {
        "frame": face.frame,
        "box": _round_out(face.box),
        "points": _rounded(face.points),
        "origin": face.origin.value,
        "score": round(float(face.score), 4),
    }
    if face.landmarks is not None:
        data["landmarks"] = _rounded(face.landmarks.reshape(-1))
    if face.tone is not None:
        data["tone"] = np.round(face.tone.astype(np.float64).reshape(-1), 3).tolist()
    return data


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _rounded(values: Float) -> list[Any]:
    rounded: list[Any] = np.round(np.asarray(values, np.float64), 2).tolist()
    return rounded


def _round_out(box: Box) -> list[float]:
    """Rounded so that a box never shrinks."""
    low = [math.floor(v * 100 + 1e-4) / 100 for v in box[:2]]
    return low + [math.ceil(v * 100 - 1e-4) / 100 for v in box[2:]]


# -- reading -----------------------------------------------------------------------------------------------------------


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for name, value in pairs:
        if name in named:
            raise PlanError(f"the plan names {name!r} twice in one place; delete one of them")
        named[name] = value
    return named


def _no_constant(name: str) -> NoReturn:
    raise PlanError(f"the plan holds {name}, which is no number")


def _validate(data: Any) -> None:
    if isinstance(data, dict) and data.get("format") == FORMAT and data.get("version") != VERSION:
        raise PlanError(f"the plan has version {data.get('version')!r}, this program reads {VERSION}; analyze again")
    validator = jsonschema.Draft202012Validator(SCHEMA)
    error = next(iter(validator.iter_errors(data)), None)
    if error is not None:
        place = "/".join(str(p) for p in error.absolute_path) or "top level"
        message = error.message if len(error.message) < 160 else f"does not follow {error.validator!r}"
        raise PlanError(f"the plan is not valid at {place}: {message}")


def _plan(data: dict[str, Any]) -> Plan:
    raw = data["video"]
    size, frames = (int(raw["width"]), int(raw["height"])), int(raw["frames"])
    info = VideoInfo(*size, Fraction(raw["time_base"]), raw["pix_fmt"], frames, raw["sha256"])
    tracks = tuple(_track(t) for t in data["tracks"])
    shape = Shape(data.get("region", "face"), tuple(data.get("keep_parts", ())))
    return Plan(info, tracks, data["detector"], tuple(data["pts"]), data.get("notes", {}), shape)


def _track(data: dict[str, Any]) -> Track:
    number, person = int(data["id"]), data.get("person")
    faces = tuple(_face(face, number) for face in data["faces"])
    person = None if person is None else int(person)
    like = tuple(data.get("like", ()))
    return Track(number, faces, data.get("keep", False), person, int(data.get("draw", 0)), like)


def _face(data: dict[str, Any], track: int) -> TrackedFace:
    frame = int(data["frame"])
    place = f"track {track}, frame {frame}"
    x0, y0, x1, y1 = (float(v) for v in _checked(data["box"], f"box of {place}"))
    if not (x0 < x1 and y0 < y1):
        raise PlanError(f"the box of {place} is empty: it must be x0, y0, x1, y1 with x0 < x1 and y0 < y1")
    landmarks = None
    if "landmarks" in data:
        found = np.array(_checked(data["landmarks"], f"landmarks of {place}"), np.float32)
        landmarks = completed(found.reshape(-1, 2))
    if not all(type(pair) is list and len(pair) == 2 for pair in data["points"]):
        raise PlanError(f"the points of {place} must be five pairs of x and y")
    points = np.array([_checked(pair, f"points of {place}") for pair in data["points"]], np.float32)
    tone = None
    if "tone" in data:
        tone = np.array(_checked(data["tone"], f"tone of {place}", limits.TONE), np.float32).reshape(9, 3)
    origin, score = Origin(data["origin"]), float(data["score"])
    return TrackedFace(frame, (x0, y0, x1, y1), points, origin, score, landmarks, tone)


def _checked(values: list[Any], what: str, limit: float = limits.FARTHEST) -> list[float]:
    if not all(limits.is_number(v) and abs(v) <= limit for v in values):
        raise PlanError(f"the {what} holds something that is no number or lies far outside any picture")
    return values


def _check(plan: Plan) -> None:
    """What a schema cannot say."""
    if not all(limits.is_whole(pts, limits.INT64S) for pts in plan.pts):
        raise PlanError("pts must be whole numbers")
    if any(b <= a for a, b in pairwise(plan.pts)):
        raise PlanError("pts must rise from frame to frame")
    if len(plan.pts) != plan.video.frames:
        raise PlanError(f"the plan counts {plan.video.frames} frames and gives the times of {len(plan.pts)}")
    ids: set[int] = set()
    draws: dict[int, int] = {}
    for track in plan.tracks:
        if track.id in ids:
            raise PlanError(f"track {track.id} is there twice; give each track its own id")
        ids.add(track.id)
        if track.person is not None and draws.setdefault(track.person, track.draw) != track.draw:
            raise PlanError(f"the tracks of person {track.person} have different draws; one person gets one new face")
        _check_frames(track, plan.video.frames)
        _check_places(track, plan.video)


def _check_places(track: Track, video: VideoInfo) -> None:
    for face in track.faces:
        points = face.points if face.landmarks is None else np.concatenate([face.points, face.landmarks])
        if not limits.near([*face.box, float(points.min()), float(points.max())], video.width, video.height):
            raise PlanError(f"track {track.id} lies far outside the picture in frame {face.frame}")


def _check_frames(track: Track, frames: int) -> None:
    for a, b in pairwise(track.faces):
        if b.frame != a.frame + 1:
            raise PlanError(f"track {track.id} jumps from frame {a.frame} to {b.frame}; it must go on frame by frame")
    if track.faces[-1].frame >= frames:
        raise PlanError(f"track {track.id} reaches frame {track.faces[-1].frame}, the video ends at {frames - 1}")
