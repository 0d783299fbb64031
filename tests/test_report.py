"""The plan's report, detections from a file, who is anonymized, and one face for one person."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from scenes import FIVE, SCENES, alone, clock, film, oracle, truth

from revisage.pipeline.analyze import AnalyzeOptions, analyze_given
from revisage.pipeline.detections import load_detections, parse_json, parse_mot
from revisage.pipeline.errors import OutputError, PlanError
from revisage.pipeline.media import open_video
from revisage.pipeline.plan import dump_plan, parse_plan
from revisage.pipeline.protect import Obscure
from revisage.pipeline.render import Access, RenderOptions, anonymize
from revisage.pipeline.report import check_picture, look_first, picture_of_moments, summaries
from revisage.pipeline.run import alone as only
from revisage.pipeline.run import kept
from revisage.pipeline.types import Origin, Plan, Track, TrackedFace, VideoInfo
from revisage.pipeline.vault import keys
from revisage.pipeline.vault.index import open_index

INFO = VideoInfo(640, 360, Fraction(1, 1000), "yuv420p", 50, "0" * 64)
PTS = tuple(range(0, 2000, 40))


def face(frame: int, origin: Origin = Origin.DETECTED, score: float = 0.9) -> TrackedFace:
    return TrackedFace(frame, (100, 100, 160, 180), np.zeros((5, 2), np.float32), origin, score)


def plan(*tracks: Track) -> Plan:
    return Plan(INFO, tracks, "by hand", PTS)


def with_gap(number: int, first: int, last: int, start: int = 0, end: int = 50) -> Track:
    """Seen from `start` to `end`, but for a gap; and held for three frames."""
    between = range(first, last)
    seen = [face(i, Origin.INTERPOLATED, 0.0) if i in between else face(i) for i in range(start, end - 3)]
    return Track(number, (*seen, *(face(i, Origin.HELD, 0.0) for i in range(end - 3, end))))


# -- report ------------------------------------------------------------------------------------------------------------


def test_a_summary_says_what_was_found_and_what_guessed() -> None:
    (one,) = summaries(plan(with_gap(1, 10, 20)))
    assert (one.detected, one.interpolated, one.held) == (0.74, 0.2, 0.06)
    assert (one.start, one.end, one.frames, one.width, one.best) == (0.0, 1.96, 50, 60, 0.9)
    assert one.weakest.frame in (14, 15), "the middle of the gap, not the held end"
    assert one.weakest.why == "interpolated, 0.20 s away"


def test_without_a_gap_the_lowest_score_is_the_weakest() -> None:
    faces = tuple(face(i, score=0.3 if i == 7 else 0.9) for i in range(20))
    (one,) = summaries(plan(Track(1, faces)))
    assert (one.weakest.frame, one.weakest.seconds, one.weakest.why) == (7, 0.28, "score 0.30")
    assert look_first(plan(Track(1, faces))) == (), "and nothing to look at first"


def test_what_may_be_no_face_is_looked_at_first_then_the_longest_gaps() -> None:
    doubtful = Track(3, (face(30, score=0.42),))
    moments = look_first(plan(with_gap(1, 10, 20), with_gap(2, 5, 30), doubtful))
    assert [m.track for m in moments] == [3, 2, 1]
    assert moments[0].why == "seen in 1 frames, best 0.42"
    assert look_first(plan(with_gap(1, 10, 20), doubtful), most=1)[0].track == 3


def test_who_is_kept_needs_no_look() -> None:
    assert look_first(kept(plan(with_gap(1, 10, 20)), [1])) == ()


def test_a_plan_drawn_by_hand_has_a_report() -> None:
    (one,) = summaries(plan(Track(1, (face(3, Origin.HELD, 0.0),))))
    assert one.weakest.why == "drawn by hand" and one.held == 1.0


def test_the_picture_shows_the_anonymized_faces(tmp_path: Path) -> None:
    """Solid grey is what must be on it; of the face that was filmed, nothing."""
    scene = alone(clock(12, 1.5))
    source, output, sheet = film(tmp_path / "in.mkv", scene), tmp_path / "out.mkv", tmp_path / "sheet.png"
    found = dict(enumerate(oracle(scene, blind=lambda _, frame: 5 <= frame < 12)))
    made = analyze_given(source, found, "oracle")
    access = Access.of([keys.SecretKey(bytes(32))], [], made.video.sha256)
    anonymize(source, output, plan=made, method=Obscure("solid"), access=access, options=RenderOptions(seal="off"))
    picture_of_moments(output, made, sheet)
    drawn = cv2.imread(str(sheet))
    grey = np.abs(drawn.astype(int) - 118).max(axis=-1) < 12
    assert grey.mean() > 0.1
    with pytest.raises(OutputError, match="exists"):
        check_picture(sheet)
    with pytest.raises(OutputError, match=r"\.png"):
        check_picture(tmp_path / "sheet.html")


# -- detections from a file --------------------------------------------------------------------------------------------


def test_mot_and_json_say_the_same() -> None:
    mot = parse_mot("1,-1,10,20,30,40,0.9,-1,-1,-1\n\n3,7,1.5,2,3,4,-1\n")
    told = parse_json(
        json.dumps(
            {
                "format": "revisage-detections",
                "version": 1,
                "faces": [{"frame": 0, "box": [10, 20, 40, 60], "score": 0.9}, {"frame": 2, "box": [1.5, 2, 4.5, 6]}],
            }
        )
    )
    for found in (mot, told):
        assert sorted(found) == [0, 2]
        assert (found[0][0].box, found[0][0].score) == ((10, 20, 40, 60), 0.9)
        assert (found[2][0].box, found[2][0].score) == ((1.5, 2, 4.5, 6), 1.0)
        assert found[0][0].points.shape == (5, 2)
    left, right, nose, *_ = mot[0][0].points
    assert left[0] < nose[0] < right[0] and left[1] < nose[1]


def _json(**face: object) -> str:
    whole = {"frame": 0, "box": [1, 2, 3, 4]} | face
    return json.dumps({"format": "revisage-detections", "version": 1, "faces": [whole]})


BROKEN = {
    "few fields": ("a.txt", "1,-1,10,20,30", "line 1 of the detections has 5 fields"),
    "frame zero": ("a.txt", "0,-1,10,20,30,40,1", "frames begin with 1"),
    "half a frame": ("a.txt", "1.5,-1,10,20,30,40,1", "the frame in line 1"),
    "text": ("a.txt", "1,-1,ten,20,30,40,1", "'ten'"),
    "nan": ("a.csv", "1,-1,nan,20,30,40,1", "'nan'"),
    "no width": ("a.txt", "1,-1,10,20,0,40,1", "is empty"),
    "score": ("a.txt", "1,-1,10,20,30,40,7", "between 0 and 1"),
    "no json": ("a.json", "1,-1,10,20,30,40,1", "not JSON"),
    "a plan": ("a.json", '{"format": "revisage-plan"}', "another kind"),
    "newer": ("a.json", '{"format": "revisage-detections", "version": 2, "faces": []}', "version 2"),
    "more": ("a.json", '{"format": "revisage-detections", "version": 1, "faces": [], "x": 1}', "nothing else"),
    "name": ("a.json", _json(bix=1), "face 0 of the detections"),
    "frame": ("a.json", _json(frame=-1), "the frame of face 0"),
    "true": ("a.json", _json(frame=True), "the frame of face 0"),
    "box": ("a.json", _json(box=[1, 2, 3]), "the box of face 0"),
    "inside out": ("a.json", _json(box=[3, 2, 1, 4]), "is empty"),
    "points": ("a.json", _json(points=[[1, 2]] * 4), "five pairs"),
    "infinite": ("a.json", _json(score=1).replace('"score": 1', '"score": Infinity'), "no number"),
    "twice": ("a.json", _json().replace('"frame": 0', '"frame": 0, "frame": 1'), "twice"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_detections_are_refused_and_the_place_is_named(case: str, tmp_path: Path) -> None:
    name, text, place = BROKEN[case]
    (tmp_path / name).write_text(text)
    with pytest.raises(PlanError) as error:
        load_detections(tmp_path / name)
    message = str(error.value)
    assert place in message and message[0].islower() and not message.endswith(".")


def test_detections_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="cannot read"):
        load_detections(tmp_path / "absent.txt")
    (tmp_path / "latin.txt").write_bytes(b"\xfc")
    with pytest.raises(PlanError, match="UTF-8"):
        load_detections(tmp_path / "latin.txt")


def test_given_detections_are_tracked_like_found_ones(tmp_path: Path) -> None:
    scene = SCENES["crossing"](clock(12, 2))
    source = film(tmp_path / "in.mkv", scene)
    lines = [
        f"{number + 1},-1,{f.box[0]:.1f},{f.box[1]:.1f},{f.box[2] - f.box[0]:.1f},{f.box[3] - f.box[1]:.1f},0.9"
        for number, faces in enumerate(oracle(scene, blind=lambda who, frame: who == 1 and 6 <= frame < 12))
        for f in faces
    ]
    (tmp_path / "mot.txt").write_text("\n".join(lines))
    made = analyze_given(source, load_detections(tmp_path / "mot.txt"), "mot.txt")
    assert made.detector == "mot.txt" and [len(t.faces) for t in made.tracks] == [24, 24]
    with pytest.raises(PlanError, match="reach frame 99"):
        analyze_given(source, {99: oracle(scene)[0]}, "x")
    faint = analyze_given(source, {5: oracle(scene)[5]}, "x", options=AnalyzeOptions(low=0.95, high=0.95))
    assert faint.tracks == ()


# -- who is anonymized, and as whom ------------------------------------------------------------------------------------


def people(*persons: int | None) -> Plan:
    return plan(*(Track(i, (face(i), face(i + 1)), person=person) for i, person in enumerate(persons, 1)))


def test_only_takes_all_tracks_of_the_person_and_keep_takes_one() -> None:
    """Whoever must not be seen is hidden wherever they are known; whoever may be seen is named each time."""
    four = people(1, 2, 1, None)
    assert [t.keep for t in only(four, [1]).tracks] == [False, True, False, True]
    assert [t.keep for t in only(four, [4]).tracks] == [True, True, True, False]
    assert [t.keep for t in kept(four, [1]).tracks] == [True, False, False, False]
    assert only(four, []) is four
    with pytest.raises(PlanError, match="no track 9 to anonymize; choose from 1, 2, 3, 4"):
        only(four, [9])


def test_persons_survive_the_plan_file() -> None:
    again = parse_plan(dump_plan(people(1, None, 4_294_967_295)))
    assert [t.person for t in again.tracks] == [1, None, 4_294_967_295]
    for wrong in ("0", "1.5", "4294967296", "null"):
        with pytest.raises(PlanError, match="person"):
            parse_plan(dump_plan(people(1)).replace('"person": 1', f'"person": {wrong}'))


def test_one_person_has_one_face_and_each_track_its_own_key() -> None:
    secret = keys.FaceSecret(bytes(range(32)))

    def start(key: keys.TrackKey | keys.FaceKey) -> bytes:
        return keys.track_stream(key, "identity").read(16)

    first, second = keys.face_key(secret, 1, 5), keys.face_key(secret, 2, 5)
    assert start(first) == start(second) != start(keys.face_key(secret, 1, 6))
    assert len({start(keys.face_key(secret, track, person)) for track in (1, 5) for person in (None, track)}) == 4
    assert not isinstance(keys.face_key(secret, 1, None), keys.TrackKey), "a face opens nothing"


def test_faces_of_version_1_are_what_they_were() -> None:
    """A label of version 1 must find its faces again."""
    secret = keys.VideoSecret(bytes(range(32)))
    assert keys.face_key(secret, 1, None) == keys.track_identity(secret, 1)
    shared = keys.track_stream(keys.face_key(secret, 1, 5), "identity").read(16)
    assert shared.hex() == "d4e29e0a30b1e14c5a25c14fecc28024"  # worked out by hand with hmac and ChaCha20


def test_a_person_can_be_asked_for_by_number(tmp_path: Path) -> None:
    scene = SCENES["cut"](clock(12, 2))
    source, output = film(tmp_path / "in.mkv", scene), tmp_path / "out.mkv"
    found = dict(enumerate(oracle(scene)))
    made = analyze_given(source, found, "oracle")
    grouped = Plan(made.video, tuple(Track(t.id, t.faces, person=7) for t in made.tracks), made.detector, made.pts)
    secret = keys.SecretKey(bytes(range(32)))
    access = Access.of([secret], [], made.video.sha256)
    index = tmp_path / "out.mkv.rvx"
    anonymize(source, output, plan=grouped, method=Obscure("solid"), access=access, options=RenderOptions(index=index))
    with open_index(index) as reader:
        unlocked = reader.unlock(secret)
        assert unlocked.of_person(7) == (1, 2)
        with pytest.raises(Exception, match="choose from 7"):
            unlocked.of_person(1)
        by_track = reader.unlock(unlocked.grant(1))
        assert by_track.records[1].person is None, "the key of one track does not tell where else the person is"
        with pytest.raises(Exception, match="choose tracks"):
            by_track.of_person(7)
    with open_video(output) as video:
        assert sum(1 for _ in video.frames()) == 24


def test_the_points_of_the_fakes_are_those_of_a_face() -> None:
    (one,) = truth(alone((0.0,)))[0]
    box = np.array(one.box)
    share = (one.points - box[:2]) / (box[2:] - box[:2])
    assert np.abs(share - FIVE).max() < 0.15
