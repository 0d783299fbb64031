"""Tracking on films whose every face is known: what is covered, who is who, and that time and size do not matter.

The detector is the truth itself, blinded, shaken and thinned out; nothing is drawn but where pixels are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judge import Verdict, camera, changes, judge, placed, promised, tracked
from scenes import (
    HELD_OUT,
    SCENES,
    SEEN,
    Scene,
    alone,
    careless,
    clock,
    crossing,
    cut,
    film,
    oracle,
    pictures,
    sightings,
    still,
    truth,
    uneven_clock,
    walk,
)

from revisage.models.detectors import CenterFaceDetector
from revisage.pipeline.analyze import analyze
from revisage.pipeline.turn import Turn
from revisage.pipeline.types import FaceDetection, Float, Origin
from revisage.trackers.base import AT_REST, Sighting
from revisage.trackers.camera import CameraMotion
from revisage.trackers.cuts import Change, CutFinder
from revisage.trackers.encounters import jumps, kinks, uncross
from revisage.trackers.link import link
from revisage.trackers.persons import group

RATES = (12, 25, 60, 0)  # 0: variable


def times(rate: float, seconds: float = 3.0) -> tuple[float, ...]:
    return clock(rate, seconds) if rate else uneven_clock(seconds)


def verdict(scene: Scene, detections: list[list[FaceDetection]], moved: Float | None = None) -> Verdict:
    _, tracks = tracked(scene, detections, moved=camera(scene) if moved is None else moved)
    return judge(scene, placed(tracks, len(scene.times)))


def gap(scene: Scene, start: float, seconds: float, who: int = 0) -> Callable[[int, int], bool]:
    return lambda one, frame: who in (0, one) and start <= scene.times[frame] < start + seconds - 1e-9


# -- the generator itself ----------------------------------------------------------------------------------------------


def test_the_truth_is_where_the_pixels_are() -> None:
    """CenterFace finds every face of a drawn crowd where the truth says it is, and nobody else."""
    scene = SCENES["entrance"](clock(12, 3))
    frame = 18
    picture = next(pictures(replace(scene, times=scene.times[frame : frame + 1])))
    expected = [face for face in truth(scene)[frame] if face.visible >= 0.9]
    found = [face for face in CenterFaceDetector(device="cpu").detect(picture) if face.score >= 0.4]
    assert len(expected) == len(found) == 3
    for face in expected:
        nearest = min(found, key=lambda f: abs(f.box[0] - face.box[0]))
        size = face.box[3] - face.box[1]
        assert np.abs(np.array(nearest.box) - face.box).max() < 0.2 * size
        assert np.abs(nearest.points - face.points).max() < 0.12 * size


def test_a_scene_knows_what_is_hidden_and_when_it_cuts() -> None:
    post = truth(SCENES["post"](clock(12, 4)))
    shares = [face.visible for faces in post for face in faces if face.who == 1]
    assert min(shares) < 0.2 and max(shares) == 1.0
    assert cut(clock(25, 3)).cuts == [(37, 37)]
    assert cut(clock(25, 3), 0.8).cuts == [(27, 47)]


# -- coverage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["alone", "hand", "shake", "crossing"])
@settings(max_examples=5, deadline=None)
@given(rate=st.sampled_from(RATES), seconds=st.floats(0.02, 0.95), seed=st.integers(0, 99), start=st.floats(0.3, 0.9))
def test_no_face_is_uncovered_over_gaps_of_up_to_a_second(
    name: str, rate: int, seconds: float, seed: int, start: float
) -> None:
    """Everybody is lost at once, wherever they are; the guess follows people and camera."""
    scene = SCENES[name](times(rate))
    seen = oracle(scene, blind=gap(scene, start, seconds), jitter=0.02, seed=seed)
    assert verdict(scene, seen).uncovered == ()


@settings(max_examples=6, deadline=None)
@given(
    rate=st.sampled_from(RATES),
    seconds=st.floats(0.02, 0.95),
    who=st.integers(1, 6),
    seed=st.integers(0, 99),
    start=st.floats(0.3, 0.9),
)
def test_whoever_is_lost_in_a_crowd_stays_covered(rate: int, seconds: float, who: int, seed: int, start: float) -> None:
    """Six people who weave through one another; one of them is not found for a while."""
    scene = SCENES["crowd"](times(rate))
    seen = oracle(scene, blind=gap(scene, start, seconds, who), jitter=0.02, seed=seed)
    assert verdict(scene, seen).uncovered == ()


@pytest.mark.parametrize("name", HELD_OUT)
@pytest.mark.parametrize("rate", RATES)
def test_no_face_is_uncovered_in_scenes_that_nothing_was_tuned_on(name: str, rate: int) -> None:
    scene = HELD_OUT[name](times(rate))
    for seed, start, seconds in ((11, 0.5, 0.9), (12, 1.1, 0.6)):
        who = 1 + seed % 2
        seen = oracle(scene, blind=gap(scene, start, seconds, who), jitter=0.03, misses=0.1, unsure=0.1, seed=seed)
        assert verdict(scene, seen).uncovered == ()


@pytest.mark.parametrize(
    ("name", "rate", "seed"),
    [
        ("crossing", 12, 17),  # found again, two people begin with a few sightings of each other
        ("crossing", 60, 24),
        ("crowd", 12, 16),
        ("crowd", 60, 20),
        ("crowd", 25, 13),  # two swap places in the first frame
        ("crowd", 12, 24),  # one is found where the other is lost, and nobody's track begins there
        ("diagonal", 25, 5),  # one walks through the place where another, not found, is guessed to be
        ("post", 25, 39),  # lost before a post and behind it
        ("post", 0, 4),  # seen twice between two gaps
        ("diagonal", 12, 16),  # found again, one begins with sightings of a smaller one in the same place
        ("diagonal", 0, 24),
        ("diagonal", 60, 41),
        ("diagonal", 0, 33),  # a single sighting of somebody else
        ("diagonal", 12, 52),
        ("diagonal", 0, 45),
        ("crossing", 25, 44),
        ("crossing", 60, 44),
        ("crossing", 12, 73),
        ("diagonal", 60, 78),  # a stranger's sightings before the gap in which one is lost
        ("zoom out", 25, 5),  # a box a quarter too narrow, at the picture's edge
    ],
)
def test_whoever_is_lost_together_with_others_stays_covered(name: str, rate: int, seed: int) -> None:
    """Films that once left a face bare, found by trying eighty seeds."""
    scene = (SCENES | HELD_OUT)[name](times(rate, 4))
    assert verdict(scene, careless(scene, seed)).uncovered == ()


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("frames", [1, 2, 5, 12, 30])
def test_gaps_are_bridged_by_one_track(rate: int, frames: int) -> None:
    scene = alone(times(rate), walk(200, 150, 70, 15))
    first = next(i for i, t in enumerate(scene.times) if t >= 0.8)
    length = min(frames, sum(0 <= t - scene.times[first] < 0.95 for t in scene.times))
    seen = oracle(scene, blind=lambda _, frame: first <= frame < first + length, jitter=0.02)
    result = verdict(scene, seen)
    assert (result.uncovered, result.tracks) == ((), 1)


def test_who_is_there_from_the_first_frame_is_covered_from_the_first_frame() -> None:
    scene = alone(clock(25, 3))
    assert verdict(scene, oracle(scene, blind=gap(scene, 0, 0.9))).uncovered == ()
    assert verdict(scene, oracle(scene, blind=gap(scene, 2.1, 0.9))).uncovered == ()


def test_a_guess_follows_the_camera() -> None:
    """Half a second unseen while the camera shakes by twice the face's width: lost without its motion, covered with."""
    scene = SCENES["shake"](clock(25, 3))
    seen = oracle(scene, blind=gap(scene, 1.0, 0.6))
    assert verdict(scene, seen).uncovered == ()
    assert len(verdict(scene, seen, moved=np.tile(AT_REST, (75, 1))).uncovered) > 3


@pytest.mark.parametrize("name", ["shake", "zoom"])
def test_the_cameras_motion_is_measured(name: str) -> None:
    """Every corner of the picture is led back to where it was in the first frame."""
    scene = SCENES[name](clock(25, 2 if name == "zoom" else 1))
    motion, true = CameraMotion(), camera(scene)
    corners = np.array([[0, 0], [640, 0], [0, 360], [640, 360]], np.float32)
    for picture, faces, view in zip(pictures(scene), truth(scene), true, strict=True):
        seen = motion.push(picture, [face.box for face in faces])
        first = (corners - view[:2]) / view[2] * true[0, 2] + true[0, :2]
        assert np.abs(seen[2] * first + seen[:2] - corners).max() < 6
    flat = np.full((90, 160, 3), 99, np.uint8)
    assert np.array_equal(CameraMotion().push(flat, []), AT_REST), "nothing to measure on"


@pytest.mark.parametrize("rate", RATES)
def test_who_is_lost_while_the_camera_zooms_is_covered_until_out_of_the_picture(rate: int) -> None:
    """A face that is driven out of the picture and comes back into sight at its edge, half cut off, or not at all."""
    scene = SCENES["zoom"](times(rate, 4))
    for start, seconds in ((1.54, 0.6), (1.3, 0.9), (1.6, 0.9)):
        seen = oracle(scene, blind=gap(scene, start, seconds), jitter=0.03, misses=0.1, unsure=0.1, seed=1)
        assert verdict(scene, seen).uncovered == ()
    still_camera = np.tile(AT_REST, (len(scene.times), 1))
    seen = oracle(scene, blind=gap(scene, 1.3, 0.9))
    assert verdict(scene, seen, moved=still_camera).uncovered, "it is the zoom that does it"


def test_a_turned_phone_measures_the_same_zoom() -> None:
    """What the upright picture shows is said of the stored frame, which lies on its side."""
    view, at = np.array([7, -3, 1.5], np.float32), np.array([40.0, 90.0], np.float32)
    for quarters in range(4):
        turn = Turn(quarters, 320, 200)
        stored = turn.stored_view(view)
        there = turn._back(view[2] * at + view[:2], edge=0)
        np.testing.assert_allclose(stored[2] * turn._back(at, edge=0) + stored[:2], there, atol=1e-3)


# -- changes of shot ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [12, 25, 60])
@pytest.mark.parametrize("dissolve", [0.0, 0.4, 1.0])
def test_changes_are_found_where_they_are(rate: int, dissolve: float) -> None:
    scene = replace(cut(clock(rate, 3), dissolve), size=(160, 90))
    finder = CutFinder()
    for t, picture in zip(scene.times, pictures(scene), strict=True):
        finder.push(picture, t)
    ((first, last),) = finder.finish()
    ((start, end),) = scene.cuts
    assert abs(first - start) <= 1 + 0.04 * rate and abs(last - end) <= 1 + 0.04 * rate


@pytest.mark.parametrize("name", ["shake", "zoom", "crowd", "hand"])
def test_no_change_is_found_where_none_is(name: str) -> None:
    finder = CutFinder()
    scene = SCENES[name](clock(12, 3))
    for t, picture in zip(scene.times, pictures(scene), strict=True):
        finder.push(picture, t)
    assert finder.finish() == []


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("dissolve", [0.0, 0.3, 0.8, 1.4])
@pytest.mark.parametrize("blind", [0.0, 0.8])
def test_strangers_in_one_place_are_never_bridged_over_a_change(rate: int, dissolve: float, blind: float) -> None:
    scene = cut(times(rate), dissolve)
    middle = scene.times[-1] / 2
    seen = oracle(scene, blind=gap(scene, middle - blind / 2, blind), jitter=0.02)
    result = verdict(scene, seen)
    assert (result.bridged, result.uncovered) == (0, ())


def test_a_face_is_held_through_the_dissolve_in_which_it_was_seen() -> None:
    """It shows through, though the detector has lost it: it is covered until the last trace is gone."""
    scene = cut(clock(25, 4), 1.6)
    ((first, last),) = scene.cuts
    seen = oracle(scene, blind=lambda who, frame: who == 1 and frame > first + 5)
    _, tracks = tracked(scene, seen)
    assert tracks[0].faces[-1].frame == last - 1
    assert [c.first for c in changes(scene)] == [first]


@pytest.mark.parametrize(("rate", "who", "start"), [(12, 1, 1.47), (25, 1, 1.49), (0, 1, 1.44), (0, 2, 1.66)], ids=str)
def test_who_is_lost_before_a_dissolve_stays_covered_in_it(rate: int, who: int, start: float) -> None:
    """Both people are lost from before a short dissolve to after it: each is held until the other shot is alone."""
    scene = cut(times(rate, 4), 0.3)
    seen = oracle(scene, blind=gap(scene, start, 0.95), jitter=0.02, misses=0.1, seed=3)
    assert who not in {one for _, one in verdict(scene, seen).uncovered}


def test_a_hold_that_ends_within_a_dissolve_goes_on_to_its_end() -> None:
    seen = _seen(lambda _: 200.0, range(20))  # last seen 0.4 seconds before
    (track,) = link([seen], clock(25, 3), (640, 360), cuts=[Change(30, 60)])
    assert track.faces[-1].frame == 59
    late = _seen(lambda _: 200.0, range(70, 90))
    (track,) = link([late], clock(25, 4), (640, 360), cuts=[Change(30, 60)])
    assert track.faces[0].frame == 30
    away = _seen(lambda _: 200.0, range(3))
    (track,) = link([away], clock(25, 3), (640, 360), cuts=[Change(30, 60)])
    assert track.faces[-1].frame == 2 + 12, "last seen longer before it than a gap may be"


# -- who is who --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", RATES)
@settings(max_examples=8, deadline=None)
@given(
    apart=st.sampled_from([0.0, 20.0, 50.0]),
    other=st.sampled_from([90, 70]),
    misses=st.sampled_from([0.0, 0.1]),
    seed=st.integers(0, 99),
)
def test_nobody_is_mistaken_where_people_cross(rate: int, apart: float, other: int, misses: float, seed: int) -> None:
    """Even straight through one another, in the same size."""
    scene = crossing(times(rate), apart, (90, other))
    result = verdict(scene, oracle(scene, jitter=0.02, misses=misses, seed=seed))
    assert (result.switches, result.tracks, result.uncovered) == (0, 2, ())


def _seen(path: Callable[[float], float], frames: Iterable[int], rate: float = 25, size: float = 80) -> list[Sighting]:
    found = []
    for frame in frames:
        x = path(frame / rate)
        box = (x - size / 2, 100.0, x + size / 2, 100 + 1.25 * size)
        found.append(Sighting(frame, FaceDetection(box, 0.9, np.zeros((5, 2), np.float32))))
    return found


def test_two_who_were_taken_for_one_another_are_put_right() -> None:
    right = _seen(lambda t: 100 + 200 * t, range(50))
    left = _seen(lambda t: 500 - 200 * t, range(50))
    wrong = [right[:25] + left[25:], left[:25] + right[25:]]
    mended = uncross(wrong, clock(25, 2))
    assert [s.detection.box[0] for s in mended[0]] == [s.detection.box[0] for s in right]
    assert uncross([right, left], clock(25, 2)) == [right, left], "and nobody else is touched"


def test_a_walk_that_turns_on_the_spot_is_parted_and_a_nod_is_not() -> None:
    turn = _seen(lambda t: 100 + 200 * min(t, 2 - t), range(50))
    assert kinks(turn, clock(25, 2)) and abs(kinks(turn, clock(25, 2))[0] - 25) <= 2
    nod = _seen(lambda t: 100 + 6 * np.sin(15 * t), range(50))
    assert kinks(nod, clock(25, 2)) == []


def test_a_walk_that_jumps_is_parted_and_one_that_is_off_once_is_not() -> None:
    times = clock(25, 2)
    assert jumps(_seen(lambda t: 100 + 200 * t + 30 * (t >= 1), range(50)), times) == [25]
    assert jumps(_seen(lambda t: 100 + 30 * (t > 0), range(50)), times) == [1], "in the first frame as well"
    assert jumps(_seen(lambda t: 100 + 30 * (t == 1), range(50)), times) == []
    assert jumps(_seen(lambda t: 100 + 600 * t, [*range(10), *range(13, 50)]), times) == []
    assert jumps(_seen(lambda t: 100 + 900 * max(0.0, t - 1) ** 2, range(50)), times) == [], "who begins to run"


def test_a_walk_in_which_the_size_jumps_is_parted() -> None:
    """Two people in one place: only the size says that the sightings of one go over into those of the other."""
    small, large = (_seen(lambda _: 200.0, range(50), size=size) for size in (60, 80))
    assert jumps(small[:25] + large[25:], clock(25, 2)) == [25]
    assert jumps(small[:25] + large[25:26] + small[26:], clock(25, 2)) == [], "off once"
    nearer = [_seen(lambda _: 200.0, [i], size=50 * 2 ** (i / 25))[0] for i in range(50)]
    assert jumps(nearer, clock(25, 2)) == [], "who comes nearer"


def test_who_jumps_where_nobody_else_is_stays_one_person() -> None:
    tracks = link([_seen(lambda t: 100 + 60 * (t >= 1), range(50))], clock(25, 2), (640, 360))
    assert len(tracks) == 1


def test_whose_track_begins_with_somebody_else_is_covered_where_he_was() -> None:
    """Lost until second 1.4; the first three sightings of the track that then is his are those of one who came by."""
    his, other = _seen(lambda t: 100 + 80 * t, range(60)), _seen(lambda t: 360 - 80 * t, range(60))
    tracks = link([his[:20], other[32:35] + his[35:], other[35:]], clock(25, 3), (640, 360))
    for sighting in (*his, *other[32:]):
        x0, _, x1, _ = sighting.detection.box
        under = [face.box for track in tracks for face in track.faces if face.frame == sighting.frame]
        assert any(min(x1, box[2]) - max(x0, box[0]) > 0.9 * (x1 - x0) for box in under), sighting.frame


def test_two_strangers_who_swap_within_a_second_stay_two_tracks_and_the_gap_is_covered() -> None:
    """One walks off to the right, half a second later another comes back from there: geometry cannot tell, so doubt."""
    size = (640, 360)
    goes = _seen(lambda t: 100 + 220 * t, range(25))
    comes = _seen(lambda t: 310 - 220 * (t - 1.4), range(36, 60))
    tracks = link([goes, comes], clock(25, 3), size)
    assert len(tracks) == 2
    assert {face.frame for track in tracks for face in track.faces} >= set(range(60)), "no frame without a cover"
    slow = link(
        [_seen(lambda t: 300 + 9 * t, range(25)), _seen(lambda t: 322 - 9 * t, range(36, 60))], clock(25, 3), size
    )
    assert len(slow) == 1, "who hardly moves is the same person"


def test_where_two_may_go_on_as_two_nobody_is_joined_at_random() -> None:
    """Two side by side are lost together; two come back just between: any pairing would be a guess."""
    before = [_seen(lambda _, x=x: x, range(25)) for x in (200.0, 262.0)]  # type: ignore[misc]
    after = [_seen(lambda _, x=x: x, range(40, 60)) for x in (230.0, 292.0)]  # type: ignore[misc]
    tracks = link([*before, *after], clock(25, 3), (640, 360))
    assert len(tracks) >= 3
    assert {face.frame for track in tracks for face in track.faces} >= set(range(60))


# -- time and size -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["alone", "entrance", "crowd", "hand", "shake", "cut", "dissolve"])
def test_the_same_film_at_any_rate_gives_the_same_people(name: str) -> None:
    """12, 25, 60 frames a second and variable: the same number of tracks, beginning and ending at the same seconds."""

    def spans(rate: int) -> list[tuple[float, float]]:
        scene = SCENES[name](times(rate))
        _, tracks = tracked(scene, oracle(scene, blind=gap(scene, 0.3, 0.5)), moved=camera(scene))
        assert [track.id for track in tracks] == list(range(1, len(tracks) + 1))
        return [(scene.times[t.faces[0].frame], scene.times[t.faces[-1].frame]) for t in tracks]

    first, *others = (sorted(spans(rate)) for rate in RATES)
    for other in others:
        assert len(other) == len(first)
        assert np.abs(np.array(other) - first).max() < 0.26


@settings(max_examples=5, deadline=None)
@given(factor=st.floats(0.2, 4.0))
def test_the_same_film_in_any_size_gives_the_same_tracks(factor: float) -> None:
    scene = SCENES["crowd"](clock(25, 2))
    seen = oracle(scene, blind=gap(scene, 0.7, 0.6), jitter=0.02)
    larger = [
        [replace(f, box=tuple(factor * v for v in f.box), points=f.points * factor) for f in faces]  # type: ignore[arg-type]
        for faces in seen
    ]
    size = (round(640 * factor), round(360 * factor))
    _, small = tracked(scene, seen)
    _, large = tracked(replace(scene, size=size), larger)
    assert [[f.frame for f in t.faces] for t in small] == [[f.frame for f in t.faces] for t in large]


def test_repeated_sightings_are_guesses_and_stay_in_place() -> None:
    seen = _seen(lambda _: 200.0, range(20))
    quiet = [s if s.frame % 5 == 0 else replace(s, looked=False) for s in seen]
    (track,) = link([quiet], clock(25, 0.8), (640, 360))
    origins = [face.origin for face in track.faces]
    assert origins.count(Origin.DETECTED) == 4 and origins.count(Origin.INTERPOLATED) == 16
    assert all(face.box == seen[0].detection.box for face in track.faces)


# -- persons -----------------------------------------------------------------------------------------------------------


def _unit(*values: float) -> Float:
    vector = np.array(values, np.float32)
    return vector / np.float32(np.linalg.norm(vector))


def test_tracks_of_one_person_are_grouped_and_nobody_else() -> None:
    anna, anna_again, ben = _unit(1, 0.1, 0), _unit(1, 0.2, 0), _unit(0, 0.1, 1)
    spans = [(0, 9), (10, 19), (20, 29), (30, 39)]
    assert group([anna, ben, anna_again, None], spans, 0.4) == [1, 2, 1, None]
    assert group([anna, anna_again], [(0, 9), (5, 19)], 0.4) == [1, 2], "nobody is there twice"
    assert group([None, None], spans[:2], 0.4) == [None, None]


def test_a_chain_of_resemblances_joins_no_strangers() -> None:
    steps = [_unit(np.cos(a), np.sin(a)) for a in (0.0, 0.8, 1.6)]  # neighbours alike, ends not
    assert len(set(group(steps, [(0, 1), (2, 3), (4, 5)], 0.6))) == 2


def test_one_person_in_two_shots_is_known_by_the_recognizer() -> None:
    scene = cut(clock(25, 3))
    _, plain = tracked(scene, oracle(scene))
    assert [track.person for track in plain] == [None, None], "without a recognizer nobody is grouped"
    for second, expected in ((_unit(1, 0.1, 0), [1, 1]), (_unit(0, 1, 0.1), [1, 2])):
        known = [
            [replace(f, embedding=_unit(1, 0, 0) if i < 37 else second) for f in faces]
            for i, faces in enumerate(oracle(scene))
        ]
        _, tracks = tracked(scene, known)
        assert [track.person for track in tracks] == expected


# -- pixels ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["crossing", "dissolve"])
def test_drawn_films_are_covered_from_the_first_frame_to_the_last(name: str, tmp_path: Path) -> None:
    """CenterFace on pixels, all of pass 1: changes and camera are found, not given."""
    scene = SCENES[name](clock(12, 1.8))
    plan = analyze(film(tmp_path / "in.mkv", scene), detector=CenterFaceDetector(device="cpu"))
    result = judge(scene, placed(plan.tracks, len(scene.times)))
    assert (result.uncovered, result.bridged) == ((), 0)
    if name == "dissolve":
        ((first, last),) = scene.cuts
        found = [int(n) for n in plan.notes["cuts"].split("-")]
        assert np.abs(np.array(found) - (first, last)).max() <= 2


def test_what_was_promised_is_told_from_what_was_not() -> None:
    """One second unseen is promised, and half a second at an end; who is found later than that is not."""
    scene = alone(clock(10, 4))

    def broken(*unseen: int) -> list[int]:
        seen = sightings(scene, blind=lambda _, frame: frame in unseen)
        return [frame for frame, _ in promised(scene, [(frame, 1) for frame in unseen], seen)]

    assert broken(*range(10, 20)) == list(range(10, 20))
    assert broken(*range(10, 24)) == [*range(10, 15), *range(19, 24)], "too long: held from both sides"
    assert broken(*range(8)) == [3, 4, 5, 6, 7]


def test_what_shows_is_what_counts() -> None:
    scene = alone(clock(12, 1), still(-20, 180), height=90)
    assert all(face.visible < SEEN for faces in truth(scene) for face in faces)
    assert not any(oracle(scene))
    assert changes(scene) == [] and Change(1, 1) == (1, 1)
