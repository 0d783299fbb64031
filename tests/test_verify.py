"""The verifier finds every leak that is made for it, in the very frames it was made in, and none in a clean file.

Faces are known exactly (scenes.py): who looks is the ground truth itself, so that a verdict is about the verifier and
not about a network. The last tests go through the command line with the real detector.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import av
import cv2
import numpy as np
import pytest
from commands import run
from scenes import Scene, alone, clock, crossing, dark, entrance, film, oracle, post, shake, truth  # type: ignore[import-not-found]

from revisage.models.base import Recognizer
from revisage.models.detectors import load_detector
from revisage.models.looks import overlap
from revisage.pipeline import casting
from revisage.pipeline.analyze import analyze
from revisage.pipeline.batch import run as batch
from revisage.pipeline.composite import SOLID
from revisage.pipeline.errors import DamagedMediaError, LeakError, MismatchError, ModelError, OutputError, PlanError
from revisage.pipeline.media import VideoWriter, file_digest, open_video
from revisage.pipeline.pixels import Planes
from revisage.pipeline.plan import load_plan, save_plan
from revisage.pipeline.protect import Obscure, Picture, Protected
from revisage.pipeline.render import Access, RenderOptions, anonymize
from revisage.pipeline.run import ROUNDS, JobOptions, KeyRing, Workshop
from revisage.pipeline.types import Box, FaceDetection, Float, Image, Origin, Plan, Shape, Track, TrackedFace, VideoInfo
from revisage.pipeline.vault.keys import SecretKey, read_key, write_secret_key
from revisage.pipeline.verification.change import compare
from revisage.pipeline.verification.expected import read_plan
from revisage.pipeline.verification.eyes import Mirrored, Thorough, unmirrored
from revisage.pipeline.verification.identity import DlibByPoints, load_recognizer
from revisage.pipeline.verification.repair import repaired
from revisage.pipeline.verification.report import Kind, Leak, Report, spans, summary
from revisage.pipeline.verification.sheet import Album, write_sheet
from revisage.pipeline.verify import Witnesses, verify

KEY = SecretKey(bytes(range(32)))
TIMES = clock(12, 1.0)
SHORT = TIMES[:6]
FRAMES = len(TIMES)
T = TypeVar("T")


# -- films, plans and outputs ------------------------------------------------------------------------------------------


def small(scene: Scene) -> Scene:
    return replace(scene, size=(560, 320))


def true_plan(path: Path, scene: Scene) -> Plan:
    """Everybody, exactly."""
    faces: dict[int, list[TrackedFace]] = {}
    for number, there in enumerate(truth(scene)):
        for face in there:
            tracked = TrackedFace(number, face.box, face.points, Origin.DETECTED, 0.9)
            faces.setdefault(face.who, []).append(tracked)
    with open_video(path) as video:
        info = VideoInfo(
            video.width, video.height, video.time_base, video.pix_fmt.name, len(scene.times), file_digest(path)
        )
        pts = tuple(frame.pts for frame in video.frames())
    return Plan(info, tuple(Track(who, tuple(own)) for who, own in sorted(faces.items())), "truth", pts)


def render(source: Path, plan: Plan, output: Path, method: str = "solid", crf: int = 20) -> Path:
    access = Access.of([KEY], [], plan.video.sha256)
    options = RenderOptions(seal="off", index=output.with_name(f"{output.name}.rvx"), crf=crf)
    anonymize(source, output, plan=plan, method=Obscure(method), access=access, options=options)
    return output


def without(plan: Plan, frames: Sequence[int], who: int = 1) -> Plan:
    """The plan with `frames` of one track missing."""
    tracks = (replace(t, faces=tuple(f for f in t.faces if t.id != who or f.frame not in frames)) for t in plan.tracks)
    return replace(plan, tracks=tuple(tracks))


class Knowing:
    """Eyes that know: the faces of frame after frame."""

    def __init__(self, scene: Scene) -> None:
        self._frames = iter(oracle(scene))

    def __call__(self, _: Image) -> list[FaceDetection]:
        return next(self._frames)


def look(
    output: Path,
    scene: Scene,
    original: Path | None,
    plan: Plan | None,
    recognizer: Recognizer | None = None,
    album: Album | None = None,
) -> Report:
    witnesses = Witnesses(Knowing(scene), "truth", recognizer)
    return verify(output, witnesses, original=original, plan=plan, album=album)


def frames_of(report: Report, kind: Kind) -> list[int]:
    return sorted({leak.frame for leak in report.leaks if leak.kind is kind})


class Made:
    """A film of two people, its plan, and a clean output."""

    def __init__(self, folder: Path, scene: Scene) -> None:
        self.folder, self.scene = folder, scene
        self.source = Path(film(folder / "in.mkv", scene))
        self.plan = true_plan(self.source, scene)
        self.output = render(self.source, self.plan, folder / "out.mkv")

    def look(self, output: Path | None = None, plan: Plan | None = None) -> Report:
        return look(output or self.output, self.scene, self.source, plan or self.plan)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("made"), small(crossing(TIMES, apart=130)))


# -- clean files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scene", "methods"),
    [
        (crossing(SHORT, heights=(70, 110)), ("solid", "blur", "mosaic")),
        (post(SHORT), ("solid", "blur")),  # a mosaic may happen to have a border where the post has its edge
        (shake(clock(25, 0.3)), ("solid", "blur", "mosaic")),
        (dark(alone(SHORT), 0.12), ("solid", "blur", "mosaic")),
        (dark(crossing(SHORT), 0.04), ("solid", "blur", "mosaic")),
        (replace(alone(SHORT), noise=12.0), ("solid", "blur", "mosaic")),
        (alone(SHORT, height=280), ("solid", "blur", "mosaic")),
    ],
    ids=["crossing", "post", "shake", "dark", "night", "grain", "close"],
)
def test_a_clean_file_passes(scene: Scene, methods: Sequence[str], tmp_path: Path) -> None:
    scene = small(scene)
    source = film(tmp_path / "in.mkv", scene)
    plan = true_plan(source, scene)
    for method in methods:
        output = render(source, plan, tmp_path / f"{method}.mkv", method, crf=34 if method == "blur" else 20)
        for known in (plan, None):
            report = look(output, scene, source, known)
            assert report.clean, (method, report.leaks[:3])
            assert report.faces >= len(scene.times) and report.frames == len(scene.times)


def test_only_held_places_without_anybody_pass(tmp_path: Path) -> None:
    """A mask may lie where nobody is, on a flat background or not."""
    scene = small(alone(SHORT))
    source = film(tmp_path / "in.mkv", scene)
    plan = true_plan(source, scene)
    empty = tuple(replace(f, box=(10.0, 20.0, 70.0, 100.0), points=f.points - 300) for f in plan.tracks[0].faces)
    more = replace(plan, tracks=(*plan.tracks, Track(2, empty)))
    for method in ("solid", "blur"):
        assert look(render(source, more, tmp_path / f"{method}.mkv", method), scene, source, more).clean


# -- mutations ---------------------------------------------------------------------------------------------------------


def test_deleted_detections_are_found(made: Made, tmp_path: Path) -> None:
    holes = [0, 5, 6, 11]
    plan = without(made.plan, holes)
    report = made.look(render(made.source, plan, tmp_path / "o.mkv"), plan)
    assert frames_of(report, Kind.UNCOVERED) == holes
    assert {leak.kind for leak in report.leaks} == {Kind.UNCOVERED}
    for leak in report.leaks:
        (who,) = [face for face in truth(made.scene)[leak.frame] if face.who == 1]
        np.testing.assert_allclose(leak.box, np.clip(who.box, 0, [560, 320] * 2), atol=0.02)
        assert leak.seconds == pytest.approx(TIMES[leak.frame], abs=2e-3)


@pytest.mark.parametrize("shift", [(0.45, 0.0), (0.0, -0.4), (0.3, 0.3), (1.5, 0.0)])
def test_shifted_boxes_are_found(made: Made, tmp_path: Path, shift: tuple[float, float]) -> None:
    def moved(face: TrackedFace) -> TrackedFace:
        x0, y0, x1, y1 = face.box
        by = np.array([shift[0] * (x1 - x0), shift[1] * (y1 - y0)], np.float32)
        box = (x0 + float(by[0]), y0 + float(by[1]), x1 + float(by[0]), y1 + float(by[1]))
        return replace(face, box=box, points=face.points + by)

    wrong = [7, 8, 9]
    first, second = made.plan.tracks
    faces = tuple(moved(face) if face.frame in wrong else face for face in first.faces)
    plan = replace(made.plan, tracks=(replace(first, faces=faces), second))
    report = made.look(render(made.source, plan, tmp_path / "o.mkv"), plan)
    assert frames_of(report, Kind.UNCOVERED) == wrong


def test_a_dropped_track_is_found(made: Made, tmp_path: Path) -> None:
    plan = replace(made.plan, tracks=made.plan.tracks[:1])
    report = made.look(render(made.source, plan, tmp_path / "o.mkv"), plan)
    assert frames_of(report, Kind.UNCOVERED) == list(range(FRAMES))
    assert {leak.track for leak in report.leaks} == {None}
    assert [span.frames for span in spans(report.leaks)] == [FRAMES]
    assert summary(report).startswith(f"a face shows in {FRAMES} of {FRAMES} frames (uncovered; first at 0.00 s)")


def test_a_frame_whose_masks_stayed_empty_is_found(made: Made, tmp_path: Path) -> None:
    """The plan is right, the picture is not: only the pixels tell."""
    output = render(made.source, without(made.plan, [4, 11], who=2), tmp_path / "o.mkv")
    report = made.look(output)
    assert frames_of(report, Kind.UNCHANGED) == [4, 11]
    assert {(leak.kind, leak.track) for leak in report.leaks} == {(Kind.UNCHANGED, 2)}


Edit = Callable[[int, Planes, Planes], Planes]  # frame number, output, original -> what stands there instead


def edited(output: Path, source: Path, target: Path, edit: Edit, crf: int = 20) -> Path:
    """`output` with frames changed, encoded again."""
    with open_video(output) as ours, open_video(source) as theirs, VideoWriter(target, ours, crf=crf) as writer:
        for a, b in zip(ours.frames(), theirs.frames(), strict=True):
            writer.write(a, edit(a.index, a.planes, b.planes))
    return target


def swapped(output: Path, source: Path, number: int, target: Path, crf: int) -> Path:
    """`output` with one frame of `source` in its place."""
    return edited(output, source, target, lambda index, ours, theirs: theirs if index == number else ours, crf)


@pytest.mark.parametrize(("light", "crfs"), [(1.0, (12, 23, 34)), (0.15, (12, 23))])
def test_one_swapped_in_frame_is_found(tmp_path: Path, crfs: Sequence[int], light: float) -> None:
    scene = small(dark(alone(SHORT), light) if light < 1 else alone(SHORT))
    source = film(tmp_path / "in.mkv", scene)
    plan = true_plan(source, scene)
    hidden = render(source, plan, tmp_path / "o.mkv", "blur")
    for crf in crfs:
        output = swapped(hidden, source, 4, tmp_path / f"{crf}.mkv", crf)
        for known in (plan, None):
            report = look(output, scene, source, known)
            assert frames_of(report, Kind.UNCHANGED) == [4], (crf, known is None)


def softened(share: float, scene: Scene) -> Callable[[Planes], Planes]:
    """The original with a blur of `share` of the face's width."""
    width = truth(scene)[4][0].box[2] - truth(scene)[4][0].box[0]
    return lambda planes: [cv2.GaussianBlur(planes[0], (0, 0), share * width), *planes[1:]]


def grainy(planes: Planes) -> Planes:
    """The original as a bad copy: a tenth of the detail, in blocks."""
    coded = cv2.imencode(".jpg", planes[0], [cv2.IMWRITE_JPEG_QUALITY, 12])[1]
    return [cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE), *planes[1:]]


def veiled(planes: Planes) -> Planes:
    """The original behind a grey veil that lets half of it through."""
    return [(planes[0] // 2 + 59).astype(np.uint8), *planes[1:]]


def test_a_frame_that_changed_and_leaks_all_the_same_is_found(tmp_path: Path) -> None:
    """Blurred a little, copied badly or made paler, a face is the face it was."""
    scene = small(alone(SHORT))
    source = film(tmp_path / "in.mkv", scene)
    plan = true_plan(source, scene)
    spoils = {f"soft {share}": softened(share, scene) for share in (0.02, 0.05, 0.09)} | {"bad": grainy, "veil": veiled}
    for method in ("blur", "solid"):
        hidden = render(source, plan, tmp_path / f"{method}.mkv", method)
        for name, spoil in spoils.items():
            edit = lambda index, ours, theirs, spoil=spoil: spoil(theirs) if index == 4 else ours  # noqa: E731
            output = edited(hidden, source, tmp_path / f"{method} {name}.mkv", edit)
            for known in (plan, None):
                report = look(output, scene, source, known)
                assert frames_of(report, Kind.UNCHANGED) == [4], (method, name, known is None)


def test_one_frame_of_one_of_two_faces_is_found(made: Made, tmp_path: Path) -> None:
    (bare,) = [face for face in truth(made.scene)[3] if face.who == 2]
    x0, y0, x1, y1 = (2 * round(v / 2) for v in bare.box)

    def edit(index: int, ours: Planes, theirs: Planes) -> Planes:
        if index == 3:
            ours[0][y0:y1, x0:x1] = theirs[0][y0:y1, x0:x1]
        return ours

    output = edited(made.output, made.source, tmp_path / "o.mkv", edit)
    for plan in (made.plan, None):
        report = look(output, made.scene, made.source, plan)
        ((leak,),) = [report.leaks]
        assert (leak.kind, leak.frame, leak.track) == (Kind.UNCHANGED, 3, 2 if plan else None)
        assert overlap(leak.box, bare.box) > 0.8


def test_a_face_under_a_larger_mask_that_shows_is_found(made: Made, tmp_path: Path) -> None:
    """The mask is right and wide; of all that it should hide only the face was left as it was."""
    wide = tuple(replace(face, box=grown(face.box, 2.2)) for face in made.plan.tracks[0].faces)
    plan = replace(made.plan, tracks=(replace(made.plan.tracks[0], faces=wide), made.plan.tracks[1]))
    hidden = render(made.source, plan, tmp_path / "o.mkv")
    (bare,) = [face for face in truth(made.scene)[1] if face.who == 1]
    x0, y0, x1, y1 = (2 * round(v / 2) for v in bare.box)

    def edit(index: int, ours: Planes, theirs: Planes) -> Planes:
        if index == 1:
            ours[0][y0:y1, x0:x1] = theirs[0][y0:y1, x0:x1]
        return ours

    assert made.look(hidden, plan).clean
    report = made.look(edited(hidden, made.source, tmp_path / "x.mkv", edit), plan)
    assert frames_of(report, Kind.UNCHANGED) == [1] and {leak.track for leak in report.leaks} == {1}


def grown(box: Box, factor: float) -> Box:
    x, y, w, h = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]
    return x - factor * w / 2, y - factor * h / 2, x + factor * w / 2, y + factor * h / 2


def test_somebody_who_enters_unseen_is_found(tmp_path: Path) -> None:
    """With the real detector, on the encoded file: the plan knows one of three people late and one not at all."""
    scene = small(entrance(clock(12, 2)))
    source = film(tmp_path / "in.mkv", scene)
    full = true_plan(source, scene)
    showing = {
        who: [n for n, faces in enumerate(truth(scene)) for f in faces if f.who == who and f.visible > 0.8]
        for who in (2, 3)
    }
    late = without(full, range(showing[2][0] + 3), who=2)
    plan = replace(late, tracks=tuple(track for track in late.tracks if track.id != 3))
    witnesses = Witnesses(Mirrored(load_detector("centerface", device="cpu")[0]), "mirrored")
    report = verify(render(source, plan, tmp_path / "o.mkv"), witnesses, original=source, plan=plan)
    found = set(frames_of(report, Kind.UNCOVERED))
    assert found >= {*showing[2][:3], *showing[3]}


def test_a_face_that_only_the_output_shows_is_found(made: Made, tmp_path: Path) -> None:
    """A tile of the original put in another place: there nobody was, and the original tells nothing."""
    (face,) = [face for face in truth(made.scene)[6] if face.who == 1]
    x0, y0, x1, y1 = (2 * round(v / 2) for v in face.box)

    def edit(index: int, ours: Planes, theirs: Planes) -> Planes:
        if index == 6:
            ours[0][: y1 - y0, : x1 - x0] = theirs[0][y0:y1, x0:x1]
        return ours

    output = edited(made.output, made.source, tmp_path / "o.mkv", edit)
    again = Mirrored(load_detector("centerface", device="cpu")[0])
    witnesses = Witnesses(Knowing(made.scene), "truth", again=again)
    report = verify(output, witnesses, original=made.source, plan=made.plan)
    assert frames_of(report, Kind.UNEXPLAINED) == [6] and report.checks["unexplained"] == "one look at the output too"
    witnesses = Witnesses(Knowing(made.scene), "truth", again=again)
    assert verify(made.output, witnesses, original=made.source, plan=made.plan).clean


def test_a_stranger_beside_somebody_who_is_kept_is_not_spared(made: Made, tmp_path: Path) -> None:
    """Two boxes touch where two people pass: one is kept, the other was forgotten."""
    scene = small(crossing(TIMES, apart=25))
    source = film(tmp_path / "in.mkv", scene)
    plan = true_plan(source, scene)
    alone_ = replace(plan, tracks=(replace(plan.tracks[0], keep=True),))
    report = look(render(source, alone_, tmp_path / "o.mkv"), scene, source, alone_)
    assert frames_of(report, Kind.UNCOVERED) == list(range(FRAMES))


def test_a_plan_that_changes_nothing_is_found(made: Made) -> None:
    report = made.look(made.source)
    assert frames_of(report, Kind.UNCHANGED) == list(range(FRAMES))
    assert sum(leak.kind is Kind.UNCHANGED for leak in report.leaks) == 2 * FRAMES


# -- without the original, and with people left as filmed --------------------------------------------------------------


def test_faces_that_no_track_explains(made: Made, tmp_path: Path) -> None:
    output = render(made.source, replace(made.plan, tracks=made.plan.tracks[:1]), tmp_path / "o.mkv")
    found = read_plan(tmp_path / "o.mkv.rvx", KEY, output, None)
    planned, same = found.plan, found.same
    report = look(output, made.scene, None, planned)
    assert same and frames_of(report, Kind.UNEXPLAINED) == list(range(FRAMES))
    assert report.checks["change"].startswith("not checked")
    planned = read_plan(made.output.with_name("out.mkv.rvx"), KEY, made.output, None).plan
    assert look(made.output, made.scene, None, planned).clean


def test_people_left_as_filmed_are_listed_and_no_leak(made: Made, tmp_path: Path) -> None:
    first, second = made.plan.tracks
    plan = replace(made.plan, tracks=(first, replace(second, keep=True)))
    output = render(made.source, plan, tmp_path / "o.mkv")
    from_index = read_plan(tmp_path / "o.mkv.rvx", KEY, output, made.source).plan
    assert [(track.id, track.keep) for track in from_index.tracks] == [(1, False), (2, True)]
    for known in (plan, from_index):
        for original in (made.source, None):
            report = look(output, made.scene, original, known)
            assert report.clean and [kept.track for kept in report.kept] == [2]
    assert frames_of(look(output, made.scene, made.source, None), Kind.UNCHANGED) == list(range(FRAMES))


def test_parts_left_as_filmed_on_purpose_are_no_leak_and_the_rest_is_one(made: Made, tmp_path: Path) -> None:
    plan = replace(made.plan, shape=Shape(keep_parts=("eyes", "brows", "nose", "mouth")))
    output = render(made.source, plan, tmp_path / "o.mkv")
    assert made.look(output, plan).clean
    assert frames_of(made.look(made.source, plan), Kind.UNCHANGED) == list(range(FRAMES))


def test_the_index_knows_what_the_plan_knew(made: Made) -> None:
    found = read_plan(made.output.with_name("out.mkv.rvx"), KEY, made.output, made.source)
    planned, same = found.plan, found.same
    assert same and planned.video.frames == FRAMES
    for mine, its in zip(made.plan.tracks, planned.tracks, strict=True):
        assert [face.frame for face in mine.faces] == [face.frame for face in its.faces]
        np.testing.assert_allclose(
            [face.points for face in mine.faces], [face.points for face in its.faces], atol=0.006
        )
    assert made.look(plan=planned).clean


# -- files that do not belong together ---------------------------------------------------------------------------------


def test_files_that_do_not_belong_together(made: Made, tmp_path: Path) -> None:
    longer = small(crossing(clock(12, 1.2), apart=130))
    other = small(replace(alone(TIMES), shots=(replace(alone(TIMES).shots[0], background="rocket"),)))
    slower = replace(made.scene, times=clock(11, FRAMES / 11))
    wider = replace(made.scene, size=(640, 360))
    for scene, why in ((longer, "ends after 12"), (other, "other scenes"), (slower, "times"), (wider, "size")):
        source = film(tmp_path / "other.mkv", scene)
        with pytest.raises(MismatchError, match=why):
            look(made.output, made.scene, source, None)
    with pytest.raises(MismatchError, match="not the file"):
        read_plan(made.output.with_name("out.mkv.rvx"), KEY, made.output, source)


def test_an_output_that_lost_its_end(made: Made, tmp_path: Path) -> None:
    short = tmp_path / "short.mkv"
    with open_video(made.output) as video, VideoWriter(short, video) as writer:
        for frame in video.frames():
            if frame.index < 7:
                writer.write(frame, frame.planes)
    with pytest.raises(MismatchError, match=r"short\.mkv ends after 7 frames"):
        made.look(short)
    with pytest.raises(MismatchError, match="7 frames, 12 were planned"):
        look(short, made.scene, None, made.plan)
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(made.output.read_bytes()[:-3000])
    with pytest.raises(DamagedMediaError):
        made.look(cut)


def test_nothing_to_compare_with(made: Made) -> None:
    with pytest.raises(ValueError, match="nothing to compare with"):
        look(made.output, made.scene, None, None)


# -- identity ----------------------------------------------------------------------------------------------------------


class Shade:
    """A recognizer for tests: people are as alike as the mean colours of their faces."""

    def __init__(self, threshold: float, mean_threshold: float | None = None) -> None:
        self.threshold = threshold
        self.mean_threshold = threshold if mean_threshold is None else mean_threshold

    def embed(self, picture: Image, points: Float) -> Float:
        x, y = points[2].astype(int)
        tile = picture[y - 8 : y + 8, x - 8 : x + 8].astype(np.float32).mean((0, 1)) - 100
        unit: Float = tile / np.linalg.norm(tile)
        return unit


def test_a_face_that_is_recognised_leaks(made: Made) -> None:
    assert look(made.output, made.scene, made.source, made.plan, Shade(0.9999)).clean
    loose = look(made.output, made.scene, made.source, made.plan, Shade(-1.0))
    assert frames_of(loose, Kind.RECOGNIZED) == list(range(FRAMES))
    whole = [leak for leak in loose.leaks if leak.whole_track]
    assert [leak.track for leak in whole] == [1, 2]
    assert summary(loose).startswith(f"new faces are like the old ones in {FRAMES} of {FRAMES} frames (recognized;")
    assert {leak.kind for leak in loose.leaks} == {Kind.RECOGNIZED}
    tracks = look(made.output, made.scene, made.source, made.plan, Shade(0.9999, -1.0))
    assert [(leak.track, leak.whole_track) for leak in tracks.leaks] == [(1, True), (2, True)]


def test_dlib_knows_a_face_in_its_own_re_encoding_and_no_blurred_one(tmp_path: Path) -> None:
    pytest.importorskip("dlib", reason="needs the extra score")
    pytest.importorskip("face_recognition_models", reason="needs the extra score")
    scene = small(alone(TIMES[:4], height=150))
    source = film(tmp_path / "in.mkv", scene)
    plan = true_plan(source, scene)
    recognizer, why = load_recognizer("dlib")
    assert isinstance(recognizer, Recognizer) and "dlib" in why
    blurred = render(source, plan, tmp_path / "o.mkv", "blur")
    assert look(blurred, scene, source, plan, recognizer).clean
    shown = look(swapped(blurred, source, 3, tmp_path / "x.mkv", 23), scene, source, plan, recognizer)
    assert frames_of(shown, Kind.RECOGNIZED) == [3] == frames_of(shown, Kind.UNCHANGED)


def test_a_recognizer_is_chosen_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    identity = "revisage.pipeline.verification.identity"
    monkeypatch.setattr(f"{identity}.installed_packs", lambda: [])
    assert load_recognizer("none") == (None, "none was asked for")
    with pytest.raises(ModelError, match="fetch buffalo_l"):
        load_recognizer("arcface")
    with pytest.raises(ModelError, match="unknown recognizer"):
        load_recognizer("face++")

    def missing(*_: object) -> DlibByPoints:
        raise ModelError("not here")

    monkeypatch.setattr(f"{identity}.DlibByPoints", missing)
    recognizer, why = load_recognizer("auto")
    assert recognizer is None and "no recognizer is installed" in why
    with pytest.raises(ModelError):
        load_recognizer("dlib")


# -- the measure of change ---------------------------------------------------------------------------------------------


def patch(seed: int = 0, size: int = 120) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 1, (size, size)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    return np.clip(120 + 25 * smooth / smooth.std(), 0, 255).astype(np.uint8)


def test_change_is_about_detail_and_not_about_light() -> None:
    face, box = patch(), (30.0, 30.0, 90.0, 90.0)
    inside = np.zeros(face.shape, bool)
    inside[30:90, 30:90] = True

    def kept(after: np.ndarray) -> float:
        change = compare(face, after.astype(np.uint8), box, inside, inside)
        assert change.detail > 500
        return change.kept

    noise = np.random.default_rng(1).normal(0, 6, face.shape)
    assert kept(face) == 1
    assert kept(np.clip(face.astype(int) + 30, 0, 255)) > 0.95
    assert kept(np.clip(face + noise, 0, 255)) > 0.9
    assert kept(patch(2)) < 0.1
    assert kept(np.full_like(face, 118)) == 0
    assert kept(cv2.GaussianBlur(face, (0, 0), 14)) < 0.05, "as the method blur does"
    for light in (1, 3, 6):
        assert kept(cv2.GaussianBlur(face, (0, 0), light)) > 0.9
    assert kept(np.rint(0.5 * face + 60)) > 0.95, "a veil"
    half = face.copy()
    half[:, :60] = 118
    assert 0.3 < kept(half) < 0.6


def test_flat_and_black_regions_give_no_verdict() -> None:
    box, inside = (30.0, 30.0, 90.0, 90.0), np.ones((120, 120), bool)
    for level in (0, 16, 118, 255):
        flat = np.full((120, 120), level, np.uint8)
        assert not compare(flat, flat, box, inside, None).same(0.3)
    deep = (patch().astype(np.uint16) << 2).astype(np.uint16)
    assert compare(deep, deep, box, inside, None, bits=10).same(0.3)
    assert not compare(patch(), patch(), (-50.0, -50.0, -20.0, -20.0), np.zeros((120, 120), bool), None).same(0.3)


# -- other looks -------------------------------------------------------------------------------------------------------


def test_a_mirrored_look_comes_back_to_the_picture() -> None:
    points = np.array([[10, 20], [30, 20], [20, 30], [12, 40], [28, 40]], np.float32)
    face = FaceDetection((5, 10, 35, 50), 0.9, points)
    back = unmirrored(face, 100)
    assert back.box == (65, 10, 95, 50)
    assert back.points[0].tolist() == [69, 20] and back.points[1].tolist() == [89, 20]
    twice = unmirrored(back, 100)
    assert twice.box == face.box
    np.testing.assert_array_equal(twice.points, face.points)


def test_every_look_finds_the_same_face() -> None:
    scene = small(alone((0.0,), height=100))
    from scenes import pictures

    (picture,), ((true,),) = list(pictures(scene)), truth(scene)
    detector, _ = load_detector("centerface", device="cpu")
    for eyes in (Mirrored(detector), Thorough(detector)):
        best = max(eyes(picture), key=lambda face: face.score)
        assert best.score > 0.5
        np.testing.assert_allclose(best.box, true.box, atol=14)
        np.testing.assert_allclose(best.points, true.points, atol=8)


def test_looks_that_disagree_about_where_a_face_ends_meet_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turned look draws a taller box; alone it would find a border of the face bare that is none."""

    class Blind:
        name = "blind"

        def detect(self, _: Image) -> list[FaceDetection]:
            return []

    boxes = [(20.0, 20.0, 40.0, 46.0), (21.0, 21.0, 41.0, 47.0), (18.0, 14.0, 42.0, 52.0)]
    found = [[replace(face_at(0, box), score=0.8 + n / 100)] for n, box in enumerate(boxes)]
    seen = [[FaceDetection(face.box, face.score, face.points) for face in faces] for faces in found]
    monkeypatch.setattr("revisage.pipeline.verification.eyes.looked", lambda *_: seen)
    (face,) = Thorough(Blind())(np.zeros((90, 90, 3), np.uint8))
    assert face.box == (20, 20, 41, 47) and face.score == max(one.score for faces in seen for one in faces)


# -- repair ------------------------------------------------------------------------------------------------------------


def bare_leak(frame: int, box: tuple[float, float, float, float], kind: Kind = Kind.UNCOVERED) -> Leak:
    x0, y0, x1, y1 = box
    points = tuple((x0 + a * (x1 - x0), y0 + b * (y1 - y0)) for a, b in ((0.3, 0.4), (0.7, 0.4), (0.5, 0.6)))
    more = tuple((x0 + a * (x1 - x0), y0 + 0.8 * (y1 - y0)) for a in (0.35, 0.65))
    return Leak(kind, frame, frame / 10, box, None, 1.0, 0.8, (*points, *more))


def plan_of(*tracks: Track, frames: int = 60, cuts: str = "") -> Plan:
    info = VideoInfo(640, 360, Fraction(1, 10), "yuv420p", frames, "0" * 64)
    return Plan(info, tracks, "t", tuple(range(frames)), {"cuts": cuts})


def face_at(frame: int, box: tuple[float, float, float, float]) -> TrackedFace:
    leak = bare_leak(frame, box)
    return TrackedFace(frame, box, np.array(leak.points, np.float32), Origin.DETECTED, 0.9)


def spans_of(plan: Plan) -> dict[int, tuple[int, int]]:
    for track in plan.tracks:
        numbers = [face.frame for face in track.faces]
        assert numbers == list(range(numbers[0], numbers[-1] + 1)), "a hole"
    return {track.id: (track.faces[0].frame, track.faces[-1].frame) for track in plan.tracks}


def test_what_was_found_becomes_a_track() -> None:
    here, there = (100.0, 100.0, 160.0, 180.0), (400.0, 100.0, 460.0, 180.0)
    leaks = [bare_leak(n, here) for n in (20, 21, 25)] + [bare_leak(n, there) for n in (22, 50)]
    plan = plan_of(Track(1, tuple(face_at(n, (300, 200, 340, 260)) for n in range(60))))
    better = repaired(plan, leaks, hold=0.5)
    assert better is not None
    assert spans_of(better) == {1: (0, 59), 2: (15, 30), 3: (17, 27), 4: (45, 55)}
    assert better.tracks[0].faces == plan.tracks[0].faces
    assert {face.origin for face in better.tracks[1].faces if face.frame in (22, 23, 24)} == {Origin.INTERPOLATED}


def test_what_was_found_continues_a_track() -> None:
    box = (100.0, 100.0, 160.0, 180.0)
    moved = (110.0, 104.0, 170.0, 184.0)
    plan = plan_of(Track(7, tuple(face_at(n, box) for n in range(20, 30))))
    after = repaired(plan, [bare_leak(n, moved) for n in (33, 34)], hold=0.3)
    before = repaired(plan, [bare_leak(n, moved) for n in (16, 18)], hold=0.3)
    far = repaired(plan, [bare_leak(45, moved)], hold=0.0)
    assert after and before and far
    assert spans_of(after) == {7: (20, 37)}
    assert spans_of(before) == {7: (13, 29)}
    assert spans_of(far) == {7: (20, 29), 8: (45, 45)}


def test_a_repair_stays_in_its_shot() -> None:
    box = (100.0, 100.0, 160.0, 180.0)
    plan = plan_of(Track(1, tuple(face_at(n, box) for n in range(28))), cuts="30")
    better = repaired(plan, [bare_leak(31, box)], hold=0.5)
    assert better is not None and spans_of(better) == {1: (0, 27), 2: (30, 36)}


def test_a_mask_that_covers_a_part_is_widened(made: Made) -> None:
    box = (100.0, 100.0, 160.0, 180.0)
    plan = plan_of(Track(1, tuple(face_at(n, box) for n in range(10))), frames=10)
    aside = (120.0, 120.0, 180.0, 200.0)
    better = repaired(plan, [bare_leak(4, aside)], hold=0.5)
    assert better is not None and spans_of(better) == {1: (0, 9)}
    x0, y0, x1, y1 = better.tracks[0].faces[4].box
    assert x0 <= 100 and y0 <= 100 and x1 >= 180 and y1 >= 200
    assert better.tracks[0].faces[5].box == box


def test_some_leaks_no_plan_can_mend() -> None:
    plan = plan_of(Track(1, (face_at(0, (1, 1, 40, 50)),)))
    assert repaired(plan, [bare_leak(0, (1, 1, 40, 50), Kind.UNCHANGED)]) is None


def test_who_is_recognized_gets_another_face_and_so_do_the_tracks_of_that_person() -> None:
    box = (100.0, 100.0, 160.0, 180.0)
    faces = tuple(face_at(n, box) for n in range(10))
    people = ((1, 4, 0), (2, 4, 0), (3, 5, 0), (4, None, 2))
    plan = plan_of(*(Track(number, faces, person=person, draw=draw) for number, person, draw in people), frames=10)
    leaks = [replace(bare_leak(3, box, Kind.RECOGNIZED), track=track) for track in (1, 4)]
    better = repaired(plan, leaks)
    assert better is not None and [track.draw for track in better.tracks] == [1, 1, 0, 3]
    assert repaired(plan, leaks, paints=False) is None, "blur has no other face"
    assert repaired(plan, [replace(leaks[0], track=None)]) is None
    both = repaired(plan, [*leaks, bare_leak(4, (400.0, 100.0, 460.0, 180.0))])
    assert both is not None and [track.draw for track in both.tracks] == [1, 1, 0, 3, 0]


class Suspicious:
    """A recognizer that takes every face for the old one at first, and none once it has been asked `calls` times.

    Of the crops that faces are tried on, it takes the first `tries` new faces for the old one.
    """

    threshold = mean_threshold = 0.9

    def __init__(self, calls: int, tries: int = 0) -> None:
        self.left, self.tries, self.crops = calls, tries, 0

    def embed(self, picture: Image, points: Float) -> Float:
        if picture.shape[:2] == (casting.TRIED, casting.TRIED):
            other = self.crops // casting.FRAMES > self.tries
            self.crops += 1
        else:
            self.left -= 1
            other = self.left < 0 and self.left % 2 == 1
        return np.eye(2, dtype=np.float32)[int(other)]


def test_fix_draws_another_face_for_who_is_recognized(leaky: tuple[Path, Path], tmp_path: Path) -> None:
    source, _ = leaky
    options = JobOptions(detector="centerface", codec="ffv1", fix=True)
    workshop, ring = Workshop(options), KeyRing((KEY,))
    workshop.__dict__["witnesses"] = replace(workshop.witnesses, recognizer=Suspicious(24))
    fixed = workshop.anonymize(source, tmp_path / "fixed.mkv", ring)
    assert "recognized" in fixed.warnings[-1] and fixed.verification is not None and fixed.verification.clean
    workshop = Workshop(replace(options, fix=False, verify=False))
    (first,) = workshop.anonymize(source, tmp_path / "first.mkv", ring).tracks
    asked = workshop.anonymize(source, tmp_path / "second.mkv", ring, redraw=[1])
    assert [track.draw for track in asked.tracks] == [track.draw for track in fixed.tracks] > [first.draw]
    films = [list(samples(tmp_path / f"{name}.mkv")) for name in ("fixed", "first", "second")]
    assert all(np.array_equal(a, b) for a, b in zip(films[0], films[2], strict=True))
    apart = [np.abs(a.astype(int) - b) for a, b in zip(films[0], films[1], strict=True)]
    assert min(float(frame.max()) for frame in apart) > 30
    blind = Workshop(options)
    blind.__dict__["witnesses"] = replace(workshop.witnesses, recognizer=None)
    seen = blind.anonymize(source, tmp_path / "blind.mkv", ring)
    assert "no recognizer is installed" in seen.warnings[-1] and [track.draw for track in seen.tracks] == [first.draw]
    assert not any("recognizer" in line for line in (*fixed.warnings[:-1], *asked.warnings))
    with pytest.raises(PlanError, match="no track 2 to draw anew"):
        workshop.anonymize(source, tmp_path / "third.mkv", ring, redraw=[2])


def test_fix_tries_faces_before_it_renders(leaky: tuple[Path, Path], tmp_path: Path) -> None:
    source, _ = leaky
    workshop, doubtful = Workshop(JobOptions(detector="centerface", codec="ffv1", fix=True)), Suspicious(0, tries=2)
    workshop.__dict__["witnesses"] = replace(workshop.witnesses, recognizer=doubtful)
    labels: list[str] = []

    def progress(items: Iterable[T], *, label: str, total: int | None = None) -> Iterable[T]:
        labels.append(label)
        return items

    made = workshop.anonymize(source, tmp_path / "made.mkv", KeyRing((KEY,)), progress=progress)
    plain = Workshop(JobOptions(detector="centerface", codec="ffv1", verify=False))
    third = plain.anonymize(source, tmp_path / "third.mkv", KeyRing((KEY,)), redraw=[1, 1])
    assert [track.draw for track in made.tracks] == [track.draw for track in third.tracks]
    assert labels == ["analyze", "try faces", "anonymize", "verify"], "once each"
    assert "1 of 1 tracks got another new face" in made.warnings[-1]


def samples(path: Path) -> Iterator[np.ndarray]:
    with open_video(path) as video:
        for frame in video.frames():
            yield frame.planes[0].copy()


def test_a_recognized_face_is_not_written_and_the_way_out_is_said(leaky: tuple[Path, Path], tmp_path: Path) -> None:
    source, _ = leaky
    workshop = Workshop(JobOptions(detector="centerface", strict=True))
    workshop.__dict__["witnesses"] = replace(workshop.witnesses, recognizer=Suspicious(24))
    with pytest.raises(LeakError, match="--strict away to have other faces drawn, or give --redraw"):
        workshop.anonymize(source, tmp_path / "o.mkv", KeyRing((KEY,)))
    assert list(tmp_path.iterdir()) == []


def test_nobody_who_is_kept_is_widened() -> None:
    box = (100.0, 100.0, 160.0, 180.0)
    plan = plan_of(Track(1, tuple(face_at(n, box) for n in range(10)), keep=True), frames=10)
    better = repaired(plan, [bare_leak(4, box)], hold=0.1)
    assert better is not None and spans_of(better) == {1: (0, 9), 2: (3, 5)}
    assert [track.keep for track in better.tracks] == [True, False]


# -- the contact sheet -------------------------------------------------------------------------------------------------


def test_the_sheet_shows_the_output_and_nothing_else(made: Made, tmp_path: Path) -> None:
    album = Album()
    look(made.output, made.scene, made.source, made.plan, album=album)
    write_sheet(album, tmp_path / "sheet.png")
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet is not None and sheet.shape[0] > 150
    assert album.cases
    for case in album.cases.values():
        face = case.crop[62:106, 66:102].reshape(-1, 3).astype(int)  # the middle half of the box
        assert abs(face - SOLID).mean() < 4, case.caption
        assert case.severity < 1
    with pytest.raises(OutputError, match="exists"):
        write_sheet(album, tmp_path / "sheet.png")
    with pytest.raises(OutputError, match=r"\.png"):
        write_sheet(album, tmp_path / "sheet.jpg")


def test_the_sheet_shows_no_face_that_leaks_unless_asked(made: Made) -> None:
    """The output may be deleted, the sheet stays."""
    plan = without(made.plan, [5, 6])
    hidden, bare = Album(), Album(bare=True)
    for album in (hidden, bare):
        look(made.source, made.scene, made.source, plan, album=album)
    leaks = [key for key, case in hidden.cases.items() if case.severity >= 1]
    assert hidden.cases.keys() == bare.cases.keys() and len(leaks) >= 3
    for key in leaks:
        covered, seen = (album.cases[key].crop[55:113, 60:108].reshape(-1, 3).astype(float) for album in (hidden, bare))
        assert abs(covered - SOLID).mean() < 4 and seen.std() > 25, hidden.cases[key].caption


def test_the_worst_come_first_and_the_album_stays_small(made: Made) -> None:
    album = Album(most=3)
    plain = np.zeros((40, 40, 3), np.uint8)
    for number in range(20):
        album.offer((number,), number / 20, (5, 5, 20, 20), (str(number), ""), lambda: plain)
    assert sorted(case.severity for case in album.cases.values()) == [17 / 20, 18 / 20, 19 / 20]
    album.offer((19,), 0.1, (5, 5, 20, 20), ("milder", ""), lambda: pytest.fail("asked for a picture in vain"))


# -- anonymize, fail closed --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def leaky(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A film of one person, and a plan that ends too early."""
    folder = tmp_path_factory.mktemp("leaky")
    scene = replace(alone(TIMES[:12]), size=(400, 300))
    source = Path(film(folder / "in.mkv", scene))
    plan = analyze(source, detector=load_detector("centerface", device="cpu")[0])
    save_plan(without(plan, range(7, 12)), folder / "early.json")
    return source, folder / "early.json"


def test_a_leak_leaves_no_output(leaky: tuple[Path, Path], key: Path, tmp_path: Path) -> None:
    source, plan = leaky
    words = ["anonymize", source, "-o", tmp_path / "o.mkv", "--key", key, "--method", "solid", "--plan", plan]
    words += ["--detector", "centerface"]
    failed = run(*words, "--strict", "--json")
    assert failed.exit_code == 3, failed.output
    assert list(tmp_path.iterdir()) == []
    said = failed.stderr.strip().splitlines()
    assert said[-1].startswith("error: a face shows in 5 of 12 frames (uncovered; first at 0.58 s)")
    assert "no output was written" in said[-1] and "--strict" in said[-1]
    data = json.loads(failed.stdout.strip().splitlines()[-1])
    assert data["output"] is None and not data["verification"]["clean"]
    assert [leak["frame"] for leak in data["verification"]["leaks"]] == [7, 8, 9, 10, 11]

    assert run(*words, "--no-verify").exit_code == 0
    sheet = ["--sheet", tmp_path / "leak.png", "--bare"]
    for extra in (["--original", source, *sheet], ["--original", source, "--key", key], ["--key", key]):
        again = ["verify", tmp_path / "o.mkv", "--quick", "--detector", "centerface", "--recognizer", "none", "--json"]
        found = run(*again, *extra)
        assert found.exit_code == 3, found.output
        leaks = json.loads(found.stdout.strip().splitlines()[-1])["leaks"]
        assert {leak["frame"] for leak in leaks} == {7, 8, 9, 10, 11}, extra
    assert cv2.imread(str(tmp_path / "leak.png")) is not None

    fixed = run(*words, "--overwrite", "--json")
    assert fixed.exit_code == 0, fixed.output
    report = json.loads(fixed.stdout.strip().splitlines()[-1])
    assert report["verification"]["leaks"] == [] and "mended and rendered again" in report["warnings"][-1]
    repairs = [(r["track"], r["rung"], r["frames"], r["last"]) for r in report["repairs"]]
    assert repairs == [(1, "cover", 5, 0.917)]
    assert [track["frames"] for track in report["tracks"]] == [12]  # the same track goes on
    words = ["verify", tmp_path / "o.mkv", "--original", source, "--key", key, "--sheet", tmp_path / "s.png"]
    clean = run(*words, "--detector", "centerface", "--quick", "--recognizer", "none")
    assert clean.exit_code == 0, clean.output
    assert "verdict      clean: 12 faces in 12 frames" in clean.output
    assert cv2.imread(str(tmp_path / "s.png")) is not None


class Idle:
    """A method that forgets to hide anybody."""

    def __init__(self) -> None:
        self.name, self.size, self.code_size, self.noise_shape = "idle", 128, 1, (1, 1, 1)
        self.template = Obscure("solid").template
        self.used = 0

    def protect(self, pictures: Iterator[Picture], likeness: Callable[[int], object]) -> Iterator[Protected]:
        from revisage.pipeline.pixels import cut, to_rgb

        self.used += 1
        for picture in pictures:
            tiles = (to_rgb(cut(picture.planes, picture.fmt, face.region.rect), picture.fmt) for face in picture.faces)
            yield Protected(picture, tuple(tiles))


def test_a_method_that_hides_nothing_is_stopped(leaky: tuple[Path, Path], tmp_path: Path) -> None:
    source, _ = leaky
    workshop = Workshop(JobOptions(method="solid", detector="centerface", seal="off", index=False, strict=True))
    workshop.__dict__["method"] = idle = Idle()
    with pytest.raises(LeakError, match="--strict away") as caught:
        workshop.anonymize(source, tmp_path / "o.mkv", KeyRing())
    assert idle.used == 1 and list(tmp_path.iterdir()) == []
    assert frames_of(caught.value.report, Kind.UNCHANGED) == list(range(12))


def test_what_a_method_leaves_is_hidden_all_the_same(leaky: tuple[Path, Path], tmp_path: Path) -> None:
    source, _ = leaky
    workshop = Workshop(JobOptions(method="solid", detector="centerface"))
    workshop.__dict__["method"] = Idle()
    made = workshop.anonymize(source, tmp_path / "o.mkv", KeyRing((KEY,)))
    assert made.verification is not None and made.verification.clean
    assert {(r.track, r.rung) for r in made.repairs} == {(1, "coarse")} and sum(r.frames for r in made.repairs) == 12
    sheet = run("verify", tmp_path / "o.mkv", "--original", source, "--quick", "--detector", "centerface")
    assert sheet.exit_code == 0, sheet.output


class Eyed:
    """Says that the new face is the old one, whatever it is, until nothing of it is there."""

    threshold = mean_threshold = 0.9

    def embed(self, picture: Image, points: Float) -> Float:
        return np.ones(2, np.float32) / np.float32(2**0.5)


def test_the_last_rung_is_grey_and_satisfies_the_check(leaky: tuple[Path, Path], tmp_path: Path) -> None:
    source, _ = leaky
    workshop = Workshop(JobOptions(method="mosaic", detector="centerface", codec="ffv1"))
    workshop.__dict__["witnesses"] = replace(workshop.witnesses, recognizer=Eyed())
    made = workshop.anonymize(source, tmp_path / "o.mkv", KeyRing((KEY,)))
    assert {r.rung for r in made.repairs} == {"grey"} and sum(r.frames for r in made.repairs) == 12
    back = tmp_path / "back.mkv"
    key = tmp_path / "k"
    write_secret_key(key, None)
    again = Workshop(JobOptions(method="mosaic", detector="centerface", codec="ffv1", seal="lossless"))
    again.__dict__["witnesses"] = replace(workshop.witnesses, recognizer=Eyed())
    again.anonymize(source, tmp_path / "sealed.mkv", KeyRing((read_key(key, lambda: ""),)))  # type: ignore[arg-type]
    result = run("recover", tmp_path / "sealed.mkv", "-o", back, "--key", key, "--codec", "ffv1")
    assert result.exit_code == 0, result.output
    for before, after in zip(samples(source), samples(back), strict=True):
        assert np.array_equal(before, after), "the seal has what grey covers"


def test_a_ladder_ends(leaky: tuple[Path, Path], tmp_path: Path) -> None:
    """Somebody who sees a face at another place in every round is never content."""
    source, plan_file = leaky
    workshop = Workshop(JobOptions(method="solid", detector="centerface", seal="off", index=False))
    rounds = []

    def restless(picture: Image) -> list[FaceDetection]:
        rounds.append(len(rounds))
        row, column = divmod(len(rounds) // 12, 6)
        x, y = 30.0 + 60 * column, 10.0 + 230 * row
        return [FaceDetection((x, y, x + 30, y + 40), 0.9, face_at(0, (x, y, x + 30, y + 40)).points)]

    workshop.__dict__["witnesses"] = Witnesses(restless, "restless")
    with pytest.raises(LeakError, match=f"mended {ROUNDS} times in vain"):
        workshop.anonymize(source, tmp_path / "o.mkv", KeyRing(), plan=load_plan(plan_file))
    assert len(rounds) == (ROUNDS + 1) * 12 and list(tmp_path.iterdir()) == []


def test_a_phone_held_upright(tmp_path: Path) -> None:
    """The stored frame lies on its side; faces are looked for upright and compared as stored."""
    from scenes import pictures

    source = tmp_path / "in.mkv"
    with av.open(str(source), "w") as out:
        stream = out.add_stream("libx264", rate=12, options={"preset": "ultrafast", "crf": "15"})
        stream.width, stream.height, stream.pix_fmt = 300, 400, "yuv420p"
        stream.set_display_rotation(90)
        for picture in pictures(replace(alone(TIMES[:4]), size=(400, 300))):
            turned = np.ascontiguousarray(np.rot90(picture, -1))
            out.mux(stream.encode(av.VideoFrame.from_ndarray(turned, format="rgb24").reformat(format="yuv420p")))
        out.mux(stream.encode(None))
    options = JobOptions(method="solid", detector="centerface", seal="off", index=False)
    report = Workshop(options).anonymize(source, tmp_path / "o.mkv", KeyRing()).verification
    assert report is not None and report.clean and report.faces == 4
    witnesses = Workshop(options).witnesses
    shown = verify(source, witnesses, original=source)
    assert frames_of(shown, Kind.UNCHANGED) == [0, 1, 2, 3]


def test_a_batch_says_which_file_leaks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    leak = bare_leak(3, (1.0, 2.0, 30.0, 40.0))

    class Leaking:
        def anonymize(self, *_: object, **__: object) -> None:
            raise LeakError("a face shows; no output was written", Report(9, 9, (leak, leak), (), {}, 0.1))

    monkeypatch.setattr(batch, "_workshop", lambda _: Leaking())
    item = batch.Item("a.mp4", tmp_path / "a.mp4", tmp_path / "out" / "a.mp4")
    result = batch.work(batch.Task(item, KeyRing(), JobOptions(method="solid", seal="off", index=False)))
    assert (result.state, result.verified, result.leaks) == ("failed", True, 2)
    assert result.error == "a face shows; no output was written"


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command_says_what_it_needs(made: Made, key: Path, tmp_path: Path) -> None:
    missing = run("verify", made.output)
    assert missing.exit_code == 2 and "--original IN, or --key KEY" in missing.stderr
    gone = run("verify", made.output, "--original", tmp_path / "gone.mkv")
    assert gone.exit_code == 1 and "gone.mkv" in gone.stderr
    wrong = run("verify", made.output, "--key", key)
    assert wrong.exit_code == 1 and "opens nothing" in wrong.stderr
    bare = tmp_path / "bare.mkv"
    bare.write_bytes(made.output.read_bytes())
    alone_ = run("verify", bare, "--key", key)
    assert alone_.exit_code == 1 and "no index" in alone_.stderr
    taken = tmp_path / "taken.png"
    taken.touch()
    full = run("verify", made.output, "--original", made.source, "--sheet", taken)
    assert full.exit_code == 1 and "exists" in full.stderr and taken.stat().st_size == 0


def test_a_track_key_is_not_enough(leaky: tuple[Path, Path], tmp_path: Path) -> None:
    key, granted = tmp_path / "k", tmp_path / "t"
    write_secret_key(key, None)
    source, output = leaky[0], tmp_path / "o.mkv"
    words = ["--method", "solid", "--key", key, "--detector", "centerface", "--no-verify"]
    assert run("anonymize", source, "-o", output, *words).exit_code == 0
    assert run("grant", output, "--key", key, "--track", 1, "-o", granted).exit_code == 0
    result = run("verify", output, "--key", granted)
    assert result.exit_code == 1 and "secret key" in result.stderr
