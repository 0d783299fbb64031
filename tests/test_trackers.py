"""Tracking, linking, smoothing and cuts, on scripted people whose true place is known in every frame."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from revisage.models import layout
from revisage.pipeline.types import Box, FaceDetection, Float, Image, Origin, Track, TrackedFace
from revisage.trackers.base import Sighting, Tracker
from revisage.trackers.cuts import Change, CutFinder
from revisage.trackers.link import LinkOptions, link
from revisage.trackers.norfair import NorfairTracker
from revisage.trackers.smooth import local_linear, smooth

SIZE = (1280, 720)
FIVE = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]], np.float32)


@dataclass(frozen=True)
class Person:
    """Somebody whose face has a known middle at every time, in seconds."""

    path: Callable[[float], tuple[float, float]]
    width: float = 80.0
    score: float = 0.9
    unseen: frozenset[int] = frozenset()  # frames in which the detector finds nothing
    absent: frozenset[int] = frozenset()  # frames in which there is nothing to find

    def box(self, t: float) -> Box:
        x, y = self.path(t)
        return x - self.width / 2, y - self.width * 0.65, x + self.width / 2, y + self.width * 0.65

    def detection(self, t: float) -> FaceDetection:
        return detection(self.box(t), self.score)


def detection(box: Box, score: float = 0.9) -> FaceDetection:
    corner, extent = np.array(box[:2]), np.array(box[2:]) - np.array(box[:2])
    return FaceDetection(box, score, (corner + FIVE * extent).astype(np.float32))


def track(
    people: Sequence[Person], times: Sequence[float], rate: float, cuts: Sequence[int] = (), **options: float
) -> list[Track]:
    tracker = NorfairTracker(rate)
    assert isinstance(tracker, Tracker)
    tracklets: dict[int, list[Sighting]] = {}
    for frame, t in enumerate(times):
        if frame in cuts:
            tracker.cut()
        found = [p.detection(t) for p in people if frame not in p.unseen | p.absent]
        for number, face in zip(tracker.update(found, frame, t), found, strict=True):
            tracklets.setdefault(number, []).append(Sighting(frame, face))
    return link(tracklets.values(), times, SIZE, cuts=hard(cuts), options=LinkOptions(**options))


def hard(cuts: Iterable[int]) -> list[Change]:
    return [Change(cut, cut) for cut in sorted(cuts)]


def clock(rate: float, seconds: float) -> list[float]:
    return [i / rate for i in range(round(rate * seconds))]


def uncovered(tracks: Iterable[Track], person: Person, times: Sequence[float], share: float = 0.75) -> list[int]:
    """Frames in which less than `share` of the person's true box lies under one face of the plan."""
    faces: dict[int, list[Box]] = {}
    for one in tracks:
        for face in one.faces:
            faces.setdefault(face.frame, []).append(face.box)
    return [
        frame
        for frame, t in enumerate(times)
        if frame not in person.absent and covered(person.box(t), faces.get(frame, [])) < share
    ]


def covered(box: Box, under: Sequence[Box]) -> float:
    area = (box[2] - box[0]) * (box[3] - box[1])
    shared = [
        max(0.0, min(box[2], b[2]) - max(box[0], b[0])) * max(0.0, min(box[3], b[3]) - max(box[1], b[1])) for b in under
    ]
    return max(shared, default=0.0) / area


def whose(one: Track, people: Sequence[Person], times: Sequence[float]) -> set[int]:
    """Which people the detected faces of a track belong to."""
    found = set()
    for face in one.faces:
        if face.origin is Origin.DETECTED:
            x = (face.box[0] + face.box[2]) / 2
            found.add(int(np.argmin([abs(p.path(times[face.frame])[0] - x) for p in people])))
    return found


def check_shape(tracks: Sequence[Track], frames: int) -> None:
    assert [t.id for t in tracks] == list(range(1, len(tracks) + 1))
    assert [t.faces[0].frame for t in tracks] == sorted(t.faces[0].frame for t in tracks)
    for one in tracks:
        numbers = [f.frame for f in one.faces]
        assert numbers == list(range(numbers[0], numbers[-1] + 1))
        assert numbers[0] >= 0 and numbers[-1] < frames
        for face in one.faces:
            assert 0 <= face.box[0] < face.box[2] <= SIZE[0] and 0 <= face.box[1] < face.box[3] <= SIZE[1]


# -- gaps --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [12, 25, 60])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_no_frame_is_uncovered_over_gaps_up_to_a_second(rate: int, data: st.DataObject) -> None:
    gap = data.draw(st.integers(1, min(30, rate - 1)), label="gap")
    start = data.draw(st.integers(1, 2 * rate), label="start")
    speed = data.draw(st.floats(-200, 200), label="speed")  # pixels a second, 2.5 face widths
    swing = data.draw(st.floats(0, 30), label="swing")
    times = clock(rate, 4)
    person = Person(
        lambda t: (640 + speed * (t - 2), 360 + swing * np.sin(3 * t)), unseen=frozenset(range(start, start + gap))
    )
    tracks = track([person], times, rate)
    check_shape(tracks, len(times))
    assert uncovered(tracks, person, times) == []
    assert len(tracks) == 1, "one person stays one track"


@pytest.mark.parametrize("rate", [12, 25, 60])
def test_flicker_is_bridged_and_named_as_such(rate: int) -> None:
    times = clock(rate, 3)
    person = Person(lambda t: (300 + 60 * t, 300), unseen=frozenset(range(1, len(times) - 1, 2)))
    (one,) = track([person], times, rate)
    assert uncovered([one], person, times, share=0.98) == []
    between = [f.origin for f in one.faces if f.frame in person.unseen]
    assert set(between) == {Origin.INTERPOLATED}


def test_a_pause_in_the_time_stamps_is_a_pause_for_the_tracker() -> None:
    """Five seconds pass between two frames: that is a gap, though no frame is missing."""
    times = [*clock(25, 1), *(6 + t for t in clock(25, 1))]
    tracks = track([Person(lambda t: (300, 300))], times, 25)
    assert len(tracks) == 2


def test_gaps_longer_than_asked_for_stay_open() -> None:
    times = clock(25, 6)
    person = Person(lambda t: (300, 300), absent=frozenset(range(40, 100)))
    first, second = track([person], times, 25, hold=0.2)
    assert first.faces[-1].frame == 39 + 5
    assert second.faces[0].frame == 100 - 5


# -- who is who --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [12, 25, 60])
def test_people_who_cross_keep_their_tracks(rate: int) -> None:
    times = clock(rate, 4)
    people = [Person(lambda t: (340 + 150 * t, 300)), Person(lambda t: (940 - 150 * t, 330))]
    tracks = track(people, times, rate)
    assert len(tracks) == 2
    assert sorted(tuple(whose(one, people, times)) for one in tracks) == [(0,), (1,)] or all(
        _same_side(one, people, times) for one in tracks
    )
    for person in people:
        assert uncovered(tracks, person, times, share=0.98) == []


def _same_side(one: Track, people: Sequence[Person], times: Sequence[float]) -> bool:
    """Right at the crossing both are nearest; the ends tell."""
    ends = [one.faces[0], one.faces[-1]]
    nearest = [
        int(np.argmin([abs(p.path(times[f.frame])[0] - (f.box[0] + f.box[2]) / 2) for p in people])) for f in ends
    ]
    return nearest[0] == nearest[1]


def test_neighbours_at_a_face_width_never_mix() -> None:
    times = clock(25, 3)
    people = [Person(lambda t, x=x: (x + 20 * np.sin(4 * t + x), 300)) for x in (200, 300, 400, 500)]
    tracks = track(people, times, 25)
    assert sorted(whose(one, people, times) for one in tracks) == [{0}, {1}, {2}, {3}]


def test_recognized_strangers_are_not_joined() -> None:
    def seen(frame: int, axis: int) -> Sighting:
        return Sighting(frame, replace(detection((100, 100, 180, 204)), embedding=np.eye(4, dtype=np.float32)[axis]))

    times = clock(25, 2)
    before, after = [seen(i, 0) for i in range(10)], [seen(i, 1) for i in range(20, 30)]
    assert len(link([before, after], times, SIZE)) == 2
    assert len(link([before, [seen(i, 0) for i in range(20, 30)]], times, SIZE)) == 1


def test_two_tracklets_on_one_face_become_one_track() -> None:
    times = clock(25, 2)
    person = Person(lambda t: (300 + 100 * t, 300))
    odd = [Sighting(i, person.detection(times[i])) for i in range(1, 50, 2)]
    even = [Sighting(i, person.detection(times[i])) for i in range(0, 50, 2)]
    (one,) = link([odd, even], times, SIZE)
    assert {f.origin for f in one.faces} == {Origin.DETECTED}


# -- what counts as a face ---------------------------------------------------------------------------------------------


def test_one_sure_detection_is_enough() -> None:
    times = clock(25, 2)
    person = Person(lambda t: (300, 300), score=0.4, absent=frozenset(range(50)) - {25})
    (one,) = track([person], times, 25)
    assert [f.frame for f in one.faces] == list(range(25 - 12, 25 + 13))


def test_unsure_detections_count_only_when_they_last() -> None:
    times = clock(25, 2)
    flash = Person(lambda t: (300, 300), score=0.35, absent=frozenset(range(50)) - {25})
    lasting = Person(lambda t: (700, 300), score=0.35, absent=frozenset(range(50)) - frozenset(range(20, 30)))
    (one,) = track([flash, lasting], times, 25)
    assert uncovered([one], lasting, times) == []


def test_unsure_detections_lead_into_and_out_of_a_track() -> None:
    """A face that turns away scores lower and lower: it stays one track, detected all the way."""
    times = clock(25, 2)
    sightings = [
        Sighting(i, detection((300, 300, 380, 404), 0.25 if i < 15 or i > 35 else 0.9)) for i in range(len(times))
    ]
    (one,) = link([sightings], times, SIZE)
    assert {f.origin for f in one.faces} == {Origin.DETECTED}


def test_a_sure_detection_is_served_before_an_unsure_one() -> None:
    tracker = NorfairTracker(25)
    (first,) = tracker.update([detection((300, 300, 380, 404))], 0, 0.0)
    unsure, sure = detection((300, 300, 380, 404), 0.25), detection((310, 305, 390, 409), 0.8)
    assert tracker.update([unsure, sure], 1, 0.04)[1] == first


boxes = st.tuples(st.floats(0, 1150), st.floats(0, 550), st.floats(8, 130), st.floats(8, 170))
frames = st.lists(st.tuples(boxes, st.floats(0.2, 1.0)), max_size=5)


@settings(max_examples=60, deadline=None)
@given(film=st.lists(frames, min_size=1, max_size=12), cuts=st.sets(st.integers(1, 11)), rate=st.sampled_from([12, 60]))
def test_every_sure_detection_lies_in_the_plan(
    film: list[list[tuple[tuple[float, float, float, float], float]]], cuts: set[int], rate: int
) -> None:
    times = [i / rate for i in range(len(film))]
    tracker = NorfairTracker(rate)
    tracklets: dict[int, list[Sighting]] = {}
    for frame, found in enumerate(film):
        if frame in cuts:
            tracker.cut()
        faces = [detection((x, y, x + w, y + h), score) for (x, y, w, h), score in found]
        ids = tracker.update(faces, frame, times[frame])
        assert len(set(ids)) == len(faces), "one face a frame and tracklet, none dropped"
        for number, face in zip(ids, faces, strict=True):
            tracklets.setdefault(number, []).append(Sighting(frame, face))
    tracks = [smooth(t, times, SIZE) for t in link(tracklets.values(), times, SIZE, cuts=hard(cuts))]
    check_shape(tracks, len(film))
    planned = {frame: [f.box for t in tracks for f in t.faces if f.frame == frame] for frame in range(len(film))}
    for frame, found in enumerate(film):
        for (x, y, w, h), score in found:
            if score >= 0.4:
                assert covered((x, y, x + w, y + h), planned[frame]) > 0.999


# -- holding and cuts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [12, 25, 60])
def test_a_face_is_held_half_a_second_on_both_sides(rate: int) -> None:
    times = clock(rate, 4)
    present = range(2 * rate - 5, 2 * rate + 5)
    person = Person(lambda t: (300 + 150 * t, 300), absent=frozenset(range(len(times))) - frozenset(present))
    (one,) = track([person], times, rate)
    half = int(0.5 * rate + 1e-6)
    assert one.faces[0].frame == present[0] - half
    assert one.faces[-1].frame == present[-1] + half
    held = [f for f in one.faces if f.origin is Origin.HELD]
    assert len(held) == 2 * half
    middles = [(f.box[0] + f.box[2]) / 2 for f in one.faces]
    assert all(b > a for a, b in pairwise(middles)), "held faces follow the motion"


def test_a_hold_covers_who_walks_on_unseen() -> None:
    times = clock(25, 3)
    person = Person(lambda t: (300 + 100 * t, 300), unseen=frozenset({*range(25, 33), *range(60, 75)}))
    person = replace(person, absent=frozenset(range(25)) | frozenset(range(70, 75)))
    tracks = track([person], times, 25)
    assert uncovered(tracks, person, times, share=0.7) == []


def test_holding_ends_at_the_edge_of_film_and_picture() -> None:
    times = clock(25, 1)
    person = Person(lambda t: (1260 + 350 * t, 300), absent=frozenset(range(4, 25)))
    (one,) = track([person], times, 25)
    assert one.faces[0].frame == 0
    check_shape([one], 25)


@settings(max_examples=40, deadline=None)
@given(cut=st.integers(1, 39), gap=st.integers(0, 10))
def test_nothing_crosses_a_cut(cut: int, gap: int) -> None:
    times = clock(25, 1.6)
    unseen = frozenset(range(cut - gap, cut + gap))
    tracks = track([Person(lambda t: (300, 300), unseen=unseen)], times, 25, cuts=[cut])
    assert tracks
    for one in tracks:
        assert len({f.frame >= cut for f in one.faces}) == 1


# -- smoothing ---------------------------------------------------------------------------------------------------------


def _dense(box: Box, opening: float = 0.0) -> Float:
    """Landmarks of a made-up face that fills `box`; `opening` moves the lower lip down, in box heights."""
    rng = np.random.default_rng(3)
    shape = rng.uniform(0.2, 0.8, (layout.LANDMARK_COUNT, 2)).astype(np.float32)
    five = [layout.EYE_CENTRES.start, layout.EYE_CENTRES.start + 1, layout.NOSE_TIP, layout.MOUTH_LEFT]
    shape[[*five, layout.MOUTH_RIGHT]] = FIVE
    shape[layout.LIP_TOP], shape[layout.LIP_BOTTOM] = (0.5, 0.78), (0.5, 0.80 + opening)
    extent = np.array(box[2:]) - np.array(box[:2])
    return (np.array(box[:2]) + shape * extent).astype(np.float32)


def _shaky(times: Sequence[float], noise: float, *, dense: bool = False, talk: float = 0.0) -> tuple[Track, Float]:
    """A person who walks steadily, seen with noise in pixels; and the true points."""
    rng = np.random.default_rng(7)
    faces, truth = [], []
    for frame, t in enumerate(times):
        box = (200 + 90 * t, 150 + 20 * t, 300 + 90 * t, 280 + 20 * t)
        face = detection(box)
        truth.append(face.points)
        off = rng.normal(0, noise, (5, 2)).astype(np.float32)
        shape = None
        if dense:
            shape = _dense(box, talk * max(0.0, np.sin(2 * np.pi * 3 * t)))
            shape += rng.normal(0, noise, shape.shape).astype(np.float32)
        jitter = rng.normal(0, noise, 4)
        shaken = tuple(float(v) for v in np.array(box) + jitter)
        faces.append(TrackedFace(frame, shaken, face.points + off, Origin.DETECTED, 0.9, shape))  # type: ignore[arg-type]
    return Track(1, tuple(faces)), np.stack(truth)


@pytest.mark.parametrize("irregular", [False, True])
def test_smoothing_halves_jitter_and_does_not_lag(irregular: bool) -> None:
    steps = np.random.default_rng(1).uniform(0.01, 0.07, 75) if irregular else np.full(75, 0.04)
    times = list(np.cumsum(steps))
    raw, truth = _shaky(times, 1.0)
    calm = smooth(raw, times, SIZE)
    before = np.stack([f.points for f in raw.faces]) - truth
    after = np.stack([f.points for f in calm.faces]) - truth
    assert after.std() < 0.62 * before.std()
    assert abs(after.mean()) < 0.1, "no lag along the motion"
    assert np.abs(after[[0, -1]]).max() < 3.5, "nor at the ends"


def test_smoothing_leaves_steady_motion_alone() -> None:
    times = clock(25, 2)
    raw, truth = _shaky(times, 0.0, dense=True)
    calm = smooth(raw, times, SIZE)
    for face, points in zip(calm.faces, truth, strict=True):
        assert np.abs(face.points - points).max() < 0.05


def test_a_sudden_turn_is_followed_within_the_frame() -> None:
    times = clock(25, 2)
    faces = [
        TrackedFace(i, d.box, d.points, Origin.DETECTED, 0.9)
        for i in range(50)
        for d in [detection((200 + (60 if i >= 25 else 0), 150, 300 + (60 if i >= 25 else 0), 280))]
    ]
    calm = smooth(Track(1, tuple(faces)), times, SIZE)
    for before, after in zip(faces, calm.faces, strict=True):
        assert np.abs(before.points - after.points).max() < 4


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**16), rate=st.sampled_from([12.0, 25.0, 60.0]))
def test_smoothed_boxes_contain_the_detected_ones(seed: int, rate: float) -> None:
    rng = np.random.default_rng(seed)
    times = clock(rate, 1)
    walk = np.cumsum(rng.normal(0, 12, (len(times), 2)), 0) + 300
    faces = []
    for frame, (x, y) in enumerate(walk):
        w, h = rng.uniform(40, 90, 2)
        d = detection((x, y, x + w, y + h))
        faces.append(TrackedFace(frame, d.box, d.points, Origin.DETECTED, 0.9))
    for before, after in zip(faces, smooth(Track(1, tuple(faces)), times, (2000, 2000)).faces, strict=True):
        assert after.box[0] <= before.box[0] and after.box[1] <= before.box[1]
        assert after.box[2] >= before.box[2] and after.box[3] >= before.box[3]


@pytest.mark.parametrize("origin", [Origin.DETECTED, Origin.INTERPOLATED])
def test_a_box_that_is_short_in_one_frame_bares_nothing(origin: Origin) -> None:
    """A quarter too narrow once, in the middle of a walk, or at its first frame."""
    times = clock(25, 2)
    for short in (0, 24):
        faces = []
        for frame, t in enumerate(times):
            box = (200 + 90 * t, 150.0, 300 + 90 * t, 280.0)
            seen = (box[0] + 12, box[1], box[2] - 13, box[3]) if frame == short else box
            faces.append(TrackedFace(frame, seen, detection(box).points, origin, 0.9))
        calm = smooth(Track(1, tuple(faces)), times, SIZE).faces[short]
        assert covered((200 + 90 * times[short], 150, 300 + 90 * times[short], 280), [calm.box]) > 0.9


def test_what_is_noise_widens_a_box_by_little() -> None:
    raw, _ = _shaky(clock(25, 2), 1.5)
    calm = smooth(raw, clock(25, 2), SIZE)
    grown = [(b.box[2] - b.box[0]) - (a.box[2] - a.box[0]) for a, b in zip(raw.faces, calm.faces, strict=True)]
    assert 0 <= np.mean(grown) < 3


def test_speech_survives_smoothing() -> None:
    """Three openings of the mouth a second keep most of their height, while the noise of the outline shrinks."""
    times = clock(25, 2)
    raw, _ = _shaky(times, 0.3, dense=True, talk=0.12)
    calm = smooth(raw, times, SIZE)
    before = np.array([layout.mouth_opening(f.landmarks) for f in raw.faces if f.landmarks is not None])
    after = np.array([layout.mouth_opening(f.landmarks) for f in calm.faces if f.landmarks is not None])
    assert np.ptp(after) > 0.8 * np.ptp(before)
    assert np.corrcoef(before, after)[0, 1] > 0.97


def test_missing_landmarks_come_from_the_neighbours() -> None:
    times = clock(25, 2)
    full, _ = _shaky(times, 0.0, dense=True)
    holes = {0, 1, 20, 21, 22, 23, 49}
    faces = tuple(replace(f, landmarks=None) if f.frame in holes else f for f in full.faces)
    filled = smooth(Track(1, faces), times, SIZE)
    for face, whole in zip(filled.faces, full.faces, strict=True):
        assert face.landmarks is not None and whole.landmarks is not None
        assert np.abs(face.landmarks - whole.landmarks).max() < 0.5
        assert np.array_equal(face.points, layout.five_points(face.landmarks))


def test_tracks_without_any_landmarks_stay_without() -> None:
    raw, _ = _shaky(clock(25, 1), 0.5)
    assert all(f.landmarks is None for f in smooth(raw, clock(25, 1), SIZE).faces)


def test_local_linear_regression_reproduces_lines_and_lonely_values() -> None:
    t = np.array([0.0, 0.01, 0.05, 0.06, 0.2, 5.0])
    line = np.stack([3 * t + 1, -t], -1)
    assert np.allclose(local_linear(line, t, np.ones(6), 0.05), line, atol=1e-9)


# -- cuts --------------------------------------------------------------------------------------------------------------


def scene(seed: int) -> Image:
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (4, 6, 3)).astype(np.float32)
    return np.kron(coarse, np.ones((24, 24, 1), np.float32)).astype(np.uint8)


def cuts_of(film: Iterable[Image]) -> list[Change]:
    finder = CutFinder()
    for frame, picture in enumerate(film):
        finder.push(picture, frame / 25)
    return finder.finish()


def pan(picture: Image, frames: int, step: int) -> list[Image]:
    return [np.roll(picture, step * i, axis=1) for i in range(frames)]


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=5), step=st.integers(0, 2))
def test_every_change_of_scene_is_a_cut_and_nothing_else(lengths: list[int], step: int) -> None:
    shots = [pan(scene(i), max(n, 4), step) for i, n in enumerate(lengths)]
    expected = list(np.cumsum([len(s) for s in shots])[:-1])
    assert cuts_of(p for shot in shots for p in shot) == hard(expected)


def test_a_flash_is_no_cut() -> None:
    film = pan(scene(0), 20, 1)
    film[9] = np.full_like(film[9], 250)
    film[10] = np.full_like(film[10], 240)
    assert cuts_of(film) == []


def test_a_dissolve_is_one_change_and_its_length_is_known() -> None:
    start, end = scene(0).astype(np.float32), scene(1).astype(np.float32)
    mixed = [(start * (1 - a) + end * a).astype(np.uint8) for a in np.linspace(0, 1, 25)]
    ((first, last),) = cuts_of([scene(0)] * 12 + mixed + [scene(1)] * 12)
    assert abs(first - 13) <= 1 and abs(last - 36) <= 1


def test_a_picture_that_grows_darker_is_no_cut_and_one_that_goes_black_is() -> None:
    light = scene(0).astype(np.float32)
    dusk = [(light * a).astype(np.uint8) for a in np.linspace(1, 0.25, 30)]
    assert cuts_of([scene(0)] * 10 + dusk + [dusk[-1]] * 10) == []
    gone = [(light * a).astype(np.uint8) for a in np.linspace(1, 0, 30)]
    assert len(cuts_of([scene(0)] * 10 + gone + [gone[-1]] * 10)) == 1


def test_the_last_frame_may_be_a_shot_of_its_own() -> None:
    assert cuts_of([*pan(scene(0), 5, 1), scene(1)]) == hard([5])
    assert cuts_of([scene(0)]) == []
    assert cuts_of([]) == []
