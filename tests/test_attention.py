"""Looking again: for each further look a film in which the first look fails and that one finds; and what is saved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from judge import judge, placed
from scenes import Actor, Scene, Shot, always, clock, dark, film, oracle, pictures, still, truth, walk

from revisage.models.base import Detector
from revisage.models.detectors import CenterFaceDetector
from revisage.models.looks import WHOLE, brighter, closer, every_look, is_dark, merged, overlap, turned
from revisage.pipeline.analyze import AnalyzeOptions, analyze
from revisage.pipeline.attention import Attention, Effort
from revisage.pipeline.types import FaceDetection, Float, Image


@pytest.fixture(scope="module")
def centerface() -> CenterFaceDetector:
    return CenterFaceDetector(device="cpu")


def portrait(
    height: float,
    *,
    tilt: float = 0.0,
    who: int = 2,
    size: tuple[int, int] = (640, 360),
    path: Callable[[float], tuple[float, float]] | None = None,
    seconds: float = 0.5,
) -> Scene:
    """One person who hardly moves."""
    at = path or walk(0.4 * size[0], 0.45 * size[1], 0.1 * height)
    shot = Shot((Actor(who, at, always(height), tilt=always(tilt)),))
    return Scene("portrait", clock(12, seconds), (shot,), size=size)


HARD: dict[str, Scene] = {
    "turned right": portrait(36, tilt=-90),
    "turned left": portrait(36, tilt=90),
    "enlarged": portrait(16, who=4, path=still(109, 180)),
    "shrunk": portrait(576, who=4, path=still(320, 180)),  # 1.6 times the picture's height
    "brightened": dark(portrait(60, who=1), 0.025),
}


def found(detector: Detector, picture: Image, scene: Scene, look: str | None) -> float:
    """Best score of a detection on the true face of the first frame."""
    (face,) = truth(scene)[0]
    see = next((one.see for one in WHOLE if one.name == look), None)
    faces = detector.detect(picture) if see is None else see(detector, picture)
    width, height = scene.size
    box = max(face.box[0], 0), max(face.box[1], 0), min(face.box[2], width), min(face.box[3], height)
    return max((f.score for f in faces if overlap(f.box, box) > 0.3), default=0.0)


@pytest.mark.parametrize("look", HARD)
def test_each_look_finds_what_the_first_one_misses(look: str, centerface: CenterFaceDetector, tmp_path: Path) -> None:
    scene = HARD[look]
    picture = next(pictures(scene))
    assert found(centerface, picture, scene, None) < 0.2 <= found(centerface, picture, scene, look)
    source = film(tmp_path / "in.mkv", scene, codec="ffv1")
    plan = analyze(source, detector=centerface)
    result = judge(scene, placed(plan.tracks, len(scene.times)))
    assert (result.uncovered, result.tracks) == ((), 1)
    once = analyze(source, detector=centerface, options=AnalyzeOptions(again=False, skip=False))
    assert len(judge(scene, placed(once.tracks, len(scene.times))).uncovered) > len(scene.times) / 2


def test_a_closer_look_finds_who_was_lost(centerface: CenterFaceDetector) -> None:
    """A face turns on its side and is lost to the first look: the next look is at the place, turned as needed."""
    upright, lying = portrait(36), portrait(36, tilt=90)
    first, second = next(pictures(upright)), next(pictures(lying))
    attention = Attention(centerface)
    before = attention.look(first, 0.0)
    assert [f.score > 0.4 for f in before.faces] == [True]
    looks = dict(attention.spent)
    (face,) = attention.look(second, 0.04).faces
    assert face.score > 0.4 and overlap(face.box, truth(lying)[0][0].box) > 0.4
    assert attention.spent["closer"] > looks.get("closer", 0)
    down = face.points[3:].mean(0) - face.points[:2].mean(0)
    assert down[0] < -abs(down[1]), "the five points lie as the face lies"


def test_every_look_brings_each_face_once(centerface: CenterFaceDetector) -> None:
    shot = Shot(
        (
            Actor(1, still(140, 170), always(90)),
            Actor(2, still(330, 170), always(36), tilt=always(90)),
            Actor(4, still(520, 180), always(100)),
        )
    )
    scene = Scene("three", (0.0,), (shot,))
    faces = [f for f in every_look(centerface, next(pictures(scene))) if f.score >= 0.4]
    assert len(faces) == 3
    for face in truth(scene)[0]:
        assert max(overlap(f.box, face.box) for f in faces) > 0.4
    assert merged([faces, faces]) == sorted(faces, key=lambda f: -f.score)


class Marker:
    """Finds the one bright spot; its five points all lie in the middle of its box."""

    name = "marker"

    def __init__(self) -> None:
        self.looked = 0

    def detect(self, picture: Image) -> list[FaceDetection]:
        self.looked += 1
        y, x = np.nonzero(picture[..., 0] > 200)
        if not len(x):
            return []
        box = (float(x.min()), float(y.min()), float(x.max() + 1), float(y.max() + 1))
        middle = np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2], np.float32)
        return [FaceDetection(box, 0.9, np.tile(middle, (5, 1)))]


def spot(x: int, y: int, side: int = 24, size: tuple[int, int] = (320, 200)) -> Image:
    picture = np.full((size[1], size[0], 3), 90, np.uint8)
    picture[y : y + side, x : x + side] = 255
    return picture


@pytest.mark.parametrize("degrees", [0.0, 90.0, -90.0, 180.0])
def test_faces_come_back_to_where_they_are(degrees: float) -> None:
    (face,) = turned(Marker(), spot(200, 60), degrees)
    assert np.allclose(face.box, (200, 60, 224, 84), atol=2)
    assert np.allclose(face.points, (212, 72), atol=2)
    (near,) = closer(Marker(), spot(200, 60), (195, 66, 219, 90), degrees)
    assert np.allclose(near.box, (200, 60, 224, 84), atol=2)
    assert closer(Marker(), spot(200, 60), (20, 20, 60, 60)) == []


def test_only_dark_pictures_are_brightened() -> None:
    night = (spot(100, 50).astype(np.float32) * 0.2).astype(np.uint8)
    assert is_dark(night) and not is_dark(spot(100, 50))
    assert np.median(brighter(night)) > 4 * np.median(night)


# -- what is saved -----------------------------------------------------------------------------------------------------


def run(
    frames: list[Image], rate: float = 25, **effort: bool
) -> tuple[Attention, list[list[FaceDetection]], list[bool]]:
    attention = Attention(Marker(), Effort(**effort))  # type: ignore[arg-type]
    glances = [attention.look(picture, i / rate) for i, picture in enumerate(frames)]
    return attention, [g.faces for g in glances], [g.looked for g in glances]


def test_a_still_picture_is_looked_at_twice_a_second() -> None:
    attention, faces, looked = run([spot(100, 50)] * 50, again=False)
    assert attention.detector.looked == sum(looked) <= 5  # type: ignore[attr-defined]
    assert all(len(f) == 1 for f in faces), "the last answer holds"


def test_noise_is_still_and_a_new_face_is_not() -> None:
    rng = np.random.default_rng(0)
    noisy = [np.clip(spot(100, 50) + rng.normal(0, 1, (200, 320, 3)), 0, 255).astype(np.uint8) for _ in range(12)]
    _, _, looked = run(noisy, again=False)
    assert sum(looked) == 1
    small = spot(100, 50)
    small[150:166, 280:296] = 120  # 16 pixels, 30 grey levels
    _, _, looked = run([spot(100, 50)] * 3 + [small] * 3, again=False)
    assert looked == [True, False, False, True, False, False]


def test_in_the_dark_a_little_is_much() -> None:
    """A face that stands out by two levels of 255 and walks."""
    night = [np.full((200, 320, 3), 3, np.uint8) for _ in range(10)]
    for i, picture in enumerate(night):
        picture[50:90, 60 + 6 * i : 92 + 6 * i] = 5
    _, _, looked = run(night, again=False)
    assert all(looked)


def test_slow_motion_does_not_creep_by_unseen() -> None:
    """Compared with the last picture that was looked at, not with the last one."""
    frames = [spot(100, 50)]
    for i in range(1, 60):
        picture = spot(100, 50)
        picture[50:74, 124] = 90 + 2 * i  # a border that brightens a little every frame
        frames.append(picture)
    _, _, looked = run(frames, again=False)
    assert 5 <= sum(looked) < 60


def test_nothing_is_skipped_and_nothing_looked_at_again_where_that_is_asked_for() -> None:
    attention, _, looked = run([spot(100, 50)] * 10, again=False, skip=False)
    assert all(looked) and attention.spent == {"first": 10}


def test_looks_at_the_whole_picture_come_twice_a_second_and_at_a_new_shot() -> None:
    scenes = [np.roll(spot(100, 50), i, axis=1) for i in range(25)]
    other = [255 - picture for picture in scenes]
    attention, _, _ = run(scenes + other)
    for look in ("turned left", "turned right", "enlarged"):
        assert 4 <= attention.spent[look] <= 8, look
    assert attention.spent["brightened"] == 0


def test_a_lost_face_is_looked_for_for_a_while_and_no_longer() -> None:
    empty = np.full_like(spot(0, 0), 90)
    moving = [np.roll(spot(100, 50), i, axis=1) for i in range(5)]
    changing = [empty + np.uint8(i % 2 * 9) for i in range(75)]
    attention, faces, _ = run([*moving, *changing])
    assert [len(f) for f in faces] == [1] * 5 + [0] * 75
    assert 10 <= attention.spent["closer"] <= 30, "every tenth of a second, up to three ways to turn"


def test_still_scenes_cost_less_and_are_covered_as_well(centerface: CenterFaceDetector, tmp_path: Path) -> None:
    """A camera on a tripod and somebody who moves for a good half second of two."""

    def path(t: float) -> tuple[float, float]:
        return 200 + 40 * float(np.clip(t - 0.7, 0, 0.6)), 170.0

    scene = portrait(70, path=path, seconds=2.0, size=(480, 270))
    source = film(tmp_path / "in.mkv", scene, codec="ffv1")
    spent = {}
    for skip in (True, False):
        plan = analyze(source, detector=centerface, options=AnalyzeOptions(skip=skip, again=False))
        assert judge(scene, placed(plan.tracks, 24)).uncovered == ()
        spent[skip] = dict(pair.rsplit(" ", 1) for pair in plan.notes["looks"].split(", "))
    assert int(spent[False]["first"]) == 24 and int(spent[True]["first"]) <= 14


def test_what_a_look_costs_is_counted(tmp_path: Path) -> None:
    scene = replace(portrait(60), times=clock(12, 0.5))
    source = film(tmp_path / "in.mkv", scene, codec="ffv1")

    class Blind(Marker):
        def detect(self, picture: Image) -> list[FaceDetection]:
            self.looked += 1
            return []

    detector = Blind()
    plan = analyze(source, detector=detector)
    counts = {name: int(count) for name, count in (p.rsplit(" ", 1) for p in plan.notes["looks"].split(", "))}
    assert sum(counts.values()) - counts.get("still", 0) - counts.get("shrunk", 0) <= detector.looked
    assert counts["first"] + counts.get("still", 0) == 6


def test_the_oracle_and_the_truth_agree_about_points() -> None:
    scene = portrait(80)
    points: Float = oracle(scene)[0][0].points
    assert np.array_equal(points, truth(scene)[0][0].points)
