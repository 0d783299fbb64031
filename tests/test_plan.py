"""The plan file: round trips, hand editing, and every way in which it can be wrong."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from revisage.models.completion import completed
from revisage.models.layout import CONTOUR_COUNT, LANDMARK_COUNT
from revisage.pipeline.errors import OutputError, PlanError
from revisage.pipeline.plan import SCHEMA, dump_plan, fits, load_plan, parse_plan, save_plan
from revisage.pipeline.types import Origin, Plan, Track, TrackedFace, VideoInfo

INFO = VideoInfo(640, 480, Fraction(1, 90000), "yuv420p10le", 6, "0123456789abcdef" * 4)


def face(frame: int, seed: int = 0, *, dense: bool = True) -> TrackedFace:
    rng = np.random.default_rng(seed)
    x, y, w, h = rng.uniform(1, 300, 4)
    points = rng.uniform(-20, 700, (5, 2)).astype(np.float32)
    shape = rng.uniform(-20, 700, (LANDMARK_COUNT, 2)).astype(np.float32) if dense else None
    return TrackedFace(frame, (x, y, x + w, y + h), points, list(Origin)[seed % 3], float(rng.uniform()), shape)


def plan() -> Plan:
    tracks = (
        Track(1, tuple(face(i, i) for i in range(4))),
        Track(2, tuple(face(i, 10 + i, dense=False) for i in range(2, 6)), keep=True, draw=3),
    )
    return Plan(INFO, tracks, "centerface", (0, 3000, 6001, 9000, 20000, 20001), {"cuts": "3", "wer": "Zoë „ü“"})


def same(a: Plan, b: Plan) -> None:
    assert (a.video, a.detector, a.pts, dict(a.notes)) == (b.video, b.detector, b.pts, dict(b.notes))
    for one, other in zip(a.tracks, b.tracks, strict=True):
        assert (one.id, one.keep, one.draw, len(one.faces)) == (other.id, other.keep, other.draw, len(other.faces))
    for one, other in zip((f for t in a.tracks for f in t.faces), (f for t in b.tracks for f in t.faces), strict=True):
        assert (one.frame, one.origin) == (other.frame, other.origin)
        assert one.score == pytest.approx(other.score, abs=1e-4)
        assert np.allclose(one.box, other.box, atol=0.0101)
        assert other.box[0] <= one.box[0] + 1e-5 and other.box[3] >= one.box[3] - 1e-5, "a box never shrinks"
        assert np.allclose(one.points, other.points, atol=0.0051)
        assert (one.landmarks is None) == (other.landmarks is None)
        if one.landmarks is not None and other.landmarks is not None:
            assert np.allclose(one.landmarks, other.landmarks, atol=0.0051)
            assert other.landmarks.dtype == np.float32 and other.landmarks.shape == (LANDMARK_COUNT, 2)


def test_a_plan_survives_the_file(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    save_plan(plan(), path)
    same(plan(), load_plan(path))
    assert os.listdir(tmp_path) == ["plan.json"]  # noqa: PTH208  (nothing else is left, hidden files included)


def test_a_plan_with_contours_alone_is_read(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    save_plan(plan(), path)
    data = json.loads(path.read_text(encoding="utf-8"))
    numbers = data["tracks"][0]["faces"][1]["landmarks"]
    contours = np.array(numbers[: 2 * CONTOUR_COUNT], np.float32).reshape(-1, 2)
    del numbers[2 * CONTOUR_COUNT :]
    path.write_text(json.dumps(data), encoding="utf-8")
    landmarks = load_plan(path).tracks[0].faces[1].landmarks
    assert landmarks is not None
    np.testing.assert_array_equal(landmarks, completed(contours))
    numbers += [1.0, 2.0]
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(PlanError):
        load_plan(path)


def test_saving_again_changes_nothing() -> None:
    text = dump_plan(plan())
    assert dump_plan(parse_plan(text)) == text


@settings(max_examples=40, deadline=None)
@given(
    first=st.integers(0, 3),
    count=st.integers(1, 3),
    seed=st.integers(0, 999),
    keep=st.booleans(),
    base=st.fractions(min_value=Fraction(1, 10**6), max_value=1, max_denominator=10**9),
)
def test_any_plan_survives(first: int, count: int, seed: int, keep: bool, base: Fraction) -> None:
    tracks = (Track(seed + 1, tuple(face(first + i, seed + i, dense=seed % 2 == 0) for i in range(count)), keep),)
    mine = replace(plan(), video=replace(INFO, time_base=base), tracks=tracks)
    same(mine, parse_plan(dump_plan(mine)))


def test_a_plan_without_faces_is_a_plan() -> None:
    empty = Plan(replace(INFO, frames=0), (), "centerface")
    same(empty, parse_plan(dump_plan(empty)))


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(dict(SCHEMA))


def test_keep_can_be_set_by_hand() -> None:
    text = dump_plan(plan()).replace('"id": 1, "keep": false', '"id": 1, "keep": true')
    assert [t.keep for t in parse_plan(text).tracks] == [True, True]


def test_one_person_has_one_new_face() -> None:
    a, b = plan().tracks
    good = replace(plan(), tracks=(replace(a, person=1, draw=3), replace(b, person=1)))
    same(good, parse_plan(dump_plan(good)))
    with pytest.raises(PlanError, match="person 1 have different draws"):
        parse_plan(dump_plan(replace(good, tracks=(replace(a, person=1), replace(b, person=1)))))


def test_one_face_is_one_line() -> None:
    lines = dump_plan(plan()).splitlines()
    assert sum('"frame":' in line for line in lines) == 8
    assert all(line.count('"frame":') <= 1 for line in lines)


def _set(*path: Any) -> Callable[[Any], None]:
    *way, last, value = path

    def change(data: Any) -> None:
        for step in way:
            data = data[step]
        data[last] = value

    return change


def _drop(*path: Any) -> Callable[[Any], None]:
    *way, last = path

    def change(data: Any) -> None:
        for step in way:
            data = data[step]
        del data[last]

    return change


BROKEN = {
    "other format": (_set("format", "rvx"), "format"),
    "newer version": (_set("version", 2), "version 2"),
    "no video": (_drop("video"), "video"),
    "unknown name": (_set("tracks", 0, "kep", True), "kep"),
    "short digest": (_set("video", "sha256", "abc"), "video/sha256"),
    "time base zero": (_set("video", "time_base", "1/0"), "video/time_base"),
    "time base text": (_set("video", "time_base", "0.04"), "video/time_base"),
    "no picture": (_set("video", "width", 0), "video/width"),
    "id zero": (_set("tracks", 0, "id", 0), "tracks/0/id"),
    "id twice": (_set("tracks", 1, "id", 1), "track 1 is there twice"),
    "draw below zero": (_set("tracks", 1, "draw", -1), "tracks/1/draw"),
    "keep is text": (_set("tracks", 0, "keep", "yes"), "tracks/0/keep"),
    "track without faces": (_set("tracks", 0, "faces", []), "tracks/0/faces"),
    "hole in a track": (_drop("tracks", 0, "faces", 1), "track 1 jumps from frame 0 to 2"),
    "frame beyond the end": (_set("video", "frames", 5), "5 frames"),
    "face beyond the end": (_set("tracks", 1, "faces", 3, "frame", 6), "jumps"),
    "box of three": (_set("tracks", 0, "faces", 0, "box", [1, 2, 3]), "tracks/0/faces/0/box"),
    "box inside out": (_set("tracks", 0, "faces", 0, "box", [9, 2, 3, 4]), "track 1, frame 0"),
    "box of text": (_set("tracks", 0, "faces", 0, "box", [1, 2, 3, "4"]), "box of track 1, frame 0"),
    "box too far": (_set("tracks", 0, "faces", 0, "box", [1, 2, 3, 1e300]), "box of track 1, frame 0"),
    "four points": (_set("tracks", 0, "faces", 0, "points", [[1, 2]] * 4), "tracks/0/faces/0/points"),
    "points of three": (_set("tracks", 0, "faces", 0, "points", 2, [1, 2, 3]), "points of track 1, frame 0"),
    "point of text": (_set("tracks", 0, "faces", 0, "points", 2, 0, "x"), "points of track 1, frame 0"),
    "unknown origin": (_set("tracks", 0, "faces", 0, "origin", "guessed"), "tracks/0/faces/0/origin"),
    "score above one": (_set("tracks", 0, "faces", 0, "score", 1.5), "tracks/0/faces/0/score"),
    "few landmarks": (_set("tracks", 0, "faces", 0, "landmarks", [1.0] * 12), "tracks/0/faces/0/landmarks"),
    "landmark of text": (_set("tracks", 0, "faces", 0, "landmarks", 7, "x"), "landmarks of track 1, frame 0"),
    "landmark true": (_set("tracks", 0, "faces", 0, "landmarks", 7, True), "landmarks of track 1, frame 0"),
    "times fall": (_set("pts", 1, 7000), "pts must rise"),
    "times of floats": (_set("pts", 1, 0.5), "whole numbers"),
    "times too few": (_drop("pts", 0), "gives the times of 5"),
    "notes of numbers": (_set("notes", "cuts", 3), "notes/cuts"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_plans_are_refused_and_the_place_is_named(case: str) -> None:
    change, place = BROKEN[case]
    data = json.loads(dump_plan(plan()))
    change(data)
    with pytest.raises(PlanError) as error:
        parse_plan(json.dumps(data))
    message = str(error.value)
    assert place in message
    assert message[0].islower() and not message.endswith(".") and len(message) < 300


def test_a_face_beyond_the_last_frame_is_refused() -> None:
    data = json.loads(dump_plan(plan()))
    for one in data["tracks"][1]["faces"]:
        one["frame"] += 1
    with pytest.raises(PlanError, match="track 2 reaches frame 6"):
        parse_plan(json.dumps(data))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON"),
        ("[]", "not valid"),
        ("null", "not valid"),
        ('{"format": "revisage-plan", "format": "x"}', "twice"),
        ('{"score": NaN}', "NaN"),
        ('{"score": -Infinity}', "Infinity"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_plan_at_all(text: str, reason: str) -> None:
    with pytest.raises(PlanError, match=reason):
        parse_plan(text)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="cannot read"):
        load_plan(tmp_path / "absent.json")
    (tmp_path / "latin.json").write_bytes(b'{"a": "\xfc"}')
    with pytest.raises(PlanError, match="UTF-8"):
        load_plan(tmp_path / "latin.json")


def test_an_existing_file_is_kept_unless_asked(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        save_plan(plan(), path)
    assert path.read_text() == "mine"
    save_plan(plan(), path, overwrite=True)
    same(plan(), load_plan(path))


def test_a_plan_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        save_plan(plan(), tmp_path / "absent" / "plan.json")
    bad = replace(plan(), tracks=(Track(1, (replace(face(0), score=float("nan")),)),))
    with pytest.raises(ValueError, match="JSON"):
        save_plan(bad, tmp_path / "plan.json")
    assert list(tmp_path.iterdir()) == []


def test_a_plan_fits_its_own_video_only() -> None:
    fits(plan(), INFO)
    fits(plan(), replace(INFO, frames=0))  # not counted yet
    fits(plan(), replace(INFO, pix_fmt="yuv420p"))  # what the decoder calls it may differ between builds
    for other in (
        replace(INFO, sha256="f" * 64),
        replace(INFO, width=641),
        replace(INFO, frames=7),
        replace(INFO, time_base=Fraction(1, 1000)),
    ):
        with pytest.raises(PlanError, match="another video"):
            fits(plan(), other)
