"""Does a finished file leak a face? Decodes it beside its original and its plan, and says in which frames and where.

    output ───┐                 ┌─► coverage     every face found in the original lies under a mask
    original ─┼─► frame by frame ┼─► change       what a mask covers is not what it was
    plan ─────┘                 ├─► identity     no new face is taken for the old one
                                └─► unexplained  no face in the output that the plan does not have

Trusts neither the plan nor the detector's look that made it: faces are looked for again, another way (`eyes`). With the
plan in memory or read from an index all checks are sharp; without one, a face of the original must have changed.
Streams both files: memory holds a few frames, whatever their length. Reads only; knows no key.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from statistics import median

import cv2
import numpy as np

from revisage.models.base import Recognizer
from revisage.models.looks import overlap
from revisage.pipeline.ahead import ahead
from revisage.pipeline.errors import MismatchError
from revisage.pipeline.geometry import shrunk
from revisage.pipeline.media import Frame, VideoReader, open_video
from revisage.pipeline.pixels import Mask, Samples
from revisage.pipeline.turn import Turn
from revisage.pipeline.types import Box, FaceDetection, Float, Image, Plan, Progress, silent
from revisage.pipeline.verification.change import compare
from revisage.pipeline.verification.eyes import Eyes
from revisage.pipeline.verification.identity import SMALLEST, Identities
from revisage.pipeline.verification.masks import Masks, ellipse
from revisage.pipeline.verification.report import Kept, Kind, Leak, Report
from revisage.pipeline.verification.sheet import Album
from revisage.trackers.base import Sighting

_LATE = 0.002  # seconds: Matroska rounds times to the millisecond
_THUMBNAIL = 48  # samples across, for telling whether two files show the same scenes at all
_ALIKE, _CLOSE = 0.5, 8.0  # correlation; grey levels: thumbnails below the one and beyond the other are of other scenes
_SAME_REGION = 0.6  # intersection over union from which a found face and the plan's are checked for change as one
_EARLY = 12  # frames after which another video is recognised, so that nobody waits for the end


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """From when on something is a leak."""

    score: float = 0.5  # detections below are no faces
    bare: float = 0.05  # largest share of a face that may lie under no mask, where two looks see its border
    kept: float = 0.35  # share of a face's detail that still being there makes a leak; see verification/change.py


@dataclass(frozen=True, slots=True)
class Witnesses:
    """Who looks and who recognizes, and what they are called."""

    eyes: Eyes  # look at the original, or at the output where there is none
    looks: str  # how `eyes` look
    recognizer: Recognizer | None = None
    identity: str = "no recognizer was given"  # which recognizer, or why none
    again: Eyes | None = None  # look at the output as well, where there are an original and a plan


def verify(
    output: Path,
    witnesses: Witnesses,
    *,
    original: Path | None = None,
    plan: Plan | None = None,
    options: VerifyOptions | None = None,
    album: Album | None = None,
    progress: Progress = silent,
) -> Report:
    """The verdict on `output`; `album` gets its worst cases.

    Raises MismatchError where `original` or `plan` is of another video, MediaError where a file does not decode to its
    end, ValueError without both.
    """
    if original is None and plan is None:
        raise ValueError("nothing to compare with: give the original or a plan")
    began = time.monotonic()
    with ExitStack() as stack:
        shown = stack.enter_context(open_video(output))
        filmed = stack.enter_context(open_video(original)) if original is not None else None
        _check_alike(shown, filmed, plan)
        inspection = _Inspection(shown, filmed, plan, witnesses, options or VerifyOptions(), album)
        total = plan.video.frames if plan is not None else (filmed or shown).frame_estimate
        for pair in progress(ahead(_pairs(shown, filmed)), label="verify", total=total):
            inspection.look(pair)
        return inspection.finish(time.monotonic() - began)


@dataclass(frozen=True, slots=True, eq=False)
class _Pair:
    """One moment in both files."""

    index: int
    seconds: float
    shown: Frame
    filmed: Frame | None


def _check_alike(shown: VideoReader, filmed: VideoReader | None, plan: Plan | None) -> None:
    size = (shown.width, shown.height)
    if filmed is not None and (filmed.width, filmed.height) != size:
        raise MismatchError(f"{filmed.path.name} has another picture size than {shown.path.name}: {_BRING}")
    if plan is not None and (plan.video.width, plan.video.height) != size:
        raise MismatchError(f"the plan is of another picture size than {shown.path.name}: {_BRING}")


_BRING = "bring the file together with the original that it was made from"


def _pairs(shown: VideoReader, filmed: VideoReader | None) -> Iterator[_Pair]:
    """Both files frame by frame. Raises MismatchError where they do not have the same frames at the same times."""
    starts: tuple[int, int] | None = None
    others = filmed.frames() if filmed is not None else None
    for index, (frame, other) in enumerate(zip_longest(shown.frames(), others or ())):
        if others is not None and (frame is None or other is None):
            longer, shorter = (filmed, shown) if frame is None else (shown, filmed)
            assert longer is not None and shorter is not None  # noqa: S101 - both are open
            raise MismatchError(f"{shorter.path.name} ends after {index} frames, {longer.path.name} goes on: {_BRING}")
        starts = starts or (frame.pts, other.pts if other is not None else 0)
        seconds = float((frame.pts - starts[0]) * shown.time_base)
        if other is not None and filmed is not None:
            apart = seconds - float((other.pts - starts[1]) * filmed.time_base)
            if abs(apart) > _LATE:
                raise MismatchError(f"the times of the two files differ by {apart:+.3f} s at {seconds:.2f} s: {_BRING}")
            _ = other.planes  # decoded here, beside the detector
        _ = frame.planes
        yield _Pair(index, seconds, frame, other)


@dataclass(slots=True, eq=False)
class _Moment:
    """What is known of one frame while it is looked at."""

    pair: _Pair
    masks: Masks | None  # None: no plan is known
    pictures: dict[str, Image] = field(default_factory=dict)
    cases: list[tuple[Leak, float]] = field(default_factory=list)  # what was looked at; severity, from 1 on it leaks

    def shown(self) -> Image:
        """The output's frame, RGB, as stored."""
        return self._rgb("shown", self.pair.shown)

    def filmed(self) -> Image:
        """The original's frame, RGB, as stored."""
        assert self.pair.filmed is not None  # noqa: S101 - asked for with an original only
        return self._rgb("filmed", self.pair.filmed)

    def _rgb(self, name: str, frame: Frame) -> Image:
        if name not in self.pictures:
            self.pictures[name] = frame.rgb()
        return self.pictures[name]


class _Inspection:
    """One run's constants, and what it found."""

    def __init__(
        self,
        shown: VideoReader,
        filmed: VideoReader | None,
        plan: Plan | None,
        witnesses: Witnesses,
        options: VerifyOptions,
        album: Album | None,
    ) -> None:
        self.plan, self.witnesses, self.options, self.album = plan, witnesses, options, album
        self.with_original = filmed is not None
        self.by_frame = plan.by_frame() if plan is not None else {}
        orientation = (filmed or shown).orientation  # that of the original: the output may have lost it
        self.fmt, self.width, self.height = shown.pix_fmt, shown.width, shown.height
        self.name = shown.path.name
        self.turn = Turn.of(orientation, shown.width, shown.height)
        recognizer = witnesses.recognizer if filmed is not None else None
        self.identities = Identities(recognizer) if recognizer is not None else None
        self.leaks: list[Leak] = []
        self.seconds: list[float] = []
        self.faces = 0
        self.scenes: list[tuple[float, float]] = []  # per frame: correlation and distance of both thumbnails

    def look(self, pair: _Pair) -> None:
        """Check one frame."""
        masks = None
        if self.plan is not None:
            faces = self.by_frame.get(pair.index, ())
            masks = Masks.draw(faces, self.fmt, self.width, self.height, self.plan.shape)
        moment = _Moment(pair, masks)
        self.seconds.append(pair.seconds)
        if pair.filmed is not None:
            self._compare_scenes(moment)
            self._check_change(moment)
        self._check_faces(moment)
        self.leaks += [leak for leak, severity in moment.cases if severity >= 1]
        if self.album is not None:
            _show(moment, self.album)

    def finish(self, seconds: float) -> Report:
        """The verdict. Raises MismatchError where the frames are not those of the plan, or of other scenes."""
        frames = len(self.seconds)
        if self.plan is not None and self.plan.video.frames != frames:
            raise MismatchError(f"{self.name} has {frames} frames, {self.plan.video.frames} were planned: {_BRING}")
        self._refuse_other_scenes()
        self.leaks += self._recognized_tracks()
        leaks = sorted(self.leaks, key=lambda leak: (leak.frame, leak.kind, leak.track or 0))
        return Report(frames, self.faces, tuple(leaks), tuple(self._kept()), self._checks(), round(seconds, 3))

    # -- one frame -----------------------------------------------------------------------------------------------------

    def _check_faces(self, moment: _Moment) -> None:
        """Every face that the eyes find in the original or, without one, in the output; and in both, if asked."""
        picture = moment.filmed() if self.with_original else moment.shown()
        kind = Kind.UNCOVERED if self.with_original else Kind.UNEXPLAINED
        for face in self._found(self.witnesses.eyes, picture, moment):
            self._check_face(moment, face, kind)
        if self.witnesses.again is None or moment.masks is None or not self.with_original:
            return
        for face in self._found(self.witnesses.again, moment.shown(), moment):
            if moment.masks.bare(face) > self.options.bare:
                self._check_cover(moment, face, Kind.UNEXPLAINED)

    def _found(self, eyes: Eyes, picture: Image, moment: _Moment) -> list[FaceDetection]:
        """Faces in pixels of the stored frame, but for those of people who are left as filmed."""
        faces = (face for face in eyes(self.turn.upright(picture)) if face.score >= self.options.score)
        stored = [self.turn.stored(Sighting(moment.pair.index, face, None)).detection for face in faces]
        return stored if moment.masks is None else moment.masks.but_kept(stored)

    def _check_change(self, moment: _Moment) -> None:
        """Every region that the plan hides."""
        for hidden in moment.masks.hidden if moment.masks is not None else ():
            self.faces += 1
            inside = hidden.cover & ellipse(hidden.face.box, self.width, self.height)
            self._check_region(moment, hidden.face.box, inside, hidden.track, None)

    def _check_region(
        self, moment: _Moment, box: Box, inside: Mask, track: int | None, face: FaceDetection | None
    ) -> None:
        touched = moment.masks.touched if moment.masks is not None else None
        if moment.masks is not None and moment.masks.left is not None:
            inside = inside & ~moment.masks.left
        before, after = self._luma(moment)
        change = compare(before, after, box, inside, touched, self.fmt.bits)
        leaks = change.same(self.options.kept)
        _note(moment, Kind.UNCHANGED, box, track, change.kept, face, _severity(change.kept, self.options.kept, leaks))

    def _luma(self, moment: _Moment) -> tuple[Samples, Samples]:
        assert moment.pair.filmed is not None  # noqa: S101 - called with an original only
        return moment.pair.filmed.planes[0], moment.pair.shown.planes[0]

    def _check_face(self, moment: _Moment, face: FaceDetection, kind: Kind) -> None:
        if moment.masks is None:
            self.faces += 1
            self._check_region(moment, face.box, ellipse(face.box, self.width, self.height), None, face)
            self._check_identity(moment, face, None)
            return
        hidden = moment.masks.over(face.box)
        self.faces += hidden is None
        if self._check_cover(moment, face, kind) or not self.with_original:
            return
        track = None if hidden is None else hidden.track
        if hidden is None or overlap(hidden.face.box, face.box) < _SAME_REGION:  # the plan's own region is checked
            inside = moment.masks.cover & ellipse(face.box, self.width, self.height)
            self._check_region(moment, face.box, inside, track, face)
        if hidden is None or hidden.face.hide != "solid":  # grey is nobody; that it is grey, `_check_change` has seen
            self._check_identity(moment, face, track)

    def _check_cover(self, moment: _Moment, face: FaceDetection, kind: Kind) -> bool:
        """Does the face lie under no mask?"""
        assert moment.masks is not None  # noqa: S101 - called with a plan only
        bare, hidden = moment.masks.bare(face), moment.masks.over(face.box)
        leaks = bare > self.options.bare
        value = face.score if kind is Kind.UNEXPLAINED else bare
        severity = _severity(bare, self.options.bare, leaks)
        _note(moment, kind, face.box, None if hidden is None else hidden.track, value, face, severity)
        return leaks

    def _check_identity(self, moment: _Moment, face: FaceDetection, track: int | None) -> None:
        if self.identities is None or face.box[2] - face.box[0] < SMALLEST:
            return
        pair, limit = moment.pair, self.identities.recognizer.threshold
        where = (pair.index, pair.seconds, face.box)
        cosine = self.identities.judge(moment.filmed(), moment.shown(), face.points, track, where)
        severity = _severity(cosine, limit, cosine >= limit)
        _note(moment, Kind.RECOGNIZED, face.box, track, cosine, face, severity)

    # -- the whole file ------------------------------------------------------------------------------------------------

    def _compare_scenes(self, moment: _Moment) -> None:
        """How alike both frames are where nothing was painted."""
        before, after = (_thumbnail(plane, self.fmt.bits) for plane in self._luma(moment))
        free = np.ones(before.shape, np.bool_)
        if moment.masks is not None:
            touched = moment.masks.touched.astype(np.uint8)
            free = cv2.resize(touched, before.shape[::-1], interpolation=cv2.INTER_AREA) == 0
        if int(free.sum()) >= before.size // 8:
            self.scenes.append(_likeness(before[free], after[free]))
        if len(self.scenes) == _EARLY:
            self._refuse_other_scenes()

    def _refuse_other_scenes(self) -> None:
        if not self.scenes:
            return
        alike, far = (median(values) for values in zip(*self.scenes, strict=True))
        if alike < _ALIKE and far > _CLOSE:
            raise MismatchError(f"{self.name} shows other scenes than the original given: {_BRING}")

    def _recognized_tracks(self) -> Iterator[Leak]:
        if self.identities is None:
            return
        for track, mean in self.identities.means.items():
            if mean.cosine >= self.identities.recognizer.mean_threshold:
                frame, seconds, box = mean.where
                yield Leak(
                    Kind.RECOGNIZED, frame, round(seconds, 3), _rounded(box), track, mean.cosine, whole_track=True
                )

    def _kept(self) -> Iterator[Kept]:
        for track in self.plan.tracks if self.plan is not None else ():
            if track.keep and track.faces:
                first, last = (self.seconds[track.faces[i].frame] for i in (0, -1))
                yield Kept(track.id, round(first, 3), round(last, 3))

    def _checks(self) -> dict[str, str]:
        """What was checked, and how."""
        look = f"{self.witnesses.looks}, faces from score {self.options.score}"
        percent = f"{self.options.bare:.0%} of a face may lie under no mask"
        changed = f"less than {self.options.kept:.0%} of a face's detail is as it was"
        if not self.with_original:
            none = "not checked: needs the original"
            return {"coverage": none, "change": none, "identity": none, "unexplained": look}
        identity = self.witnesses.identity if self.identities is not None else f"not checked: {self.witnesses.identity}"
        coverage = f"{look}; {percent}" if self.plan is not None else f"{look}; by change alone, as no plan is known"
        both = self.plan is not None and self.witnesses.again is not None
        unexplained = "one look at the output too" if both else "through the original"
        return {"coverage": coverage, "change": changed, "identity": identity, "unexplained": unexplained}


def _note(
    moment: _Moment, kind: Kind, box: Box, track: int | None, value: float, face: FaceDetection | None, severity: float
) -> None:
    points = () if face is None else tuple((round(float(x), 2), round(float(y), 2)) for x, y in face.points)
    score = 1.0 if face is None else round(face.score, 4)
    index, seconds = moment.pair.index, round(moment.pair.seconds, 3)
    moment.cases.append((Leak(kind, index, seconds, _rounded(box), track, round(value, 4), score, points), severity))


def _severity(value: float, limit: float, leaks: bool) -> float:
    return 1 + value if leaks else min(value / limit, 0.999)


def _show(moment: _Moment, album: Album) -> None:
    """Offer the album whatever it may want to show; what leaks is hidden there, in its neighbours' pictures as well."""
    leaking = [leak.box for leak, severity in moment.cases if severity >= 1]
    for case, severity in moment.cases:
        place = case.track if case.track is not None else (round(case.box[0] / 64), round(case.box[1] / 64))
        track = f"  track {case.track}" if case.track else ""
        caption = f"{case.seconds:.2f} s  frame {case.frame}", f"{case.kind} {case.value:.2f}{track}"
        album.offer((case.kind, place, int(case.seconds)), severity, case.box, caption, moment.shown, leaking)


def _rounded(box: Box) -> Box:
    x0, y0, x1, y1 = (round(float(v), 2) for v in box)
    return x0, y0, x1, y1


def _thumbnail(plane: Samples, bits: int) -> Float:
    height, width = plane.shape
    size = (_THUMBNAIL, max(1, round(_THUMBNAIL * height / width)))
    return np.asarray(shrunk(plane, size) / np.float32(1 << (bits - 8)), np.float32)


def _likeness(a: Float, b: Float) -> tuple[float, float]:
    """Correlation, 1 where both are flat, and mean distance."""
    x, y = a - a.mean(), b - b.mean()
    spread = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return (float((x * y).sum()) / spread if spread > 1e-3 else 1.0), float(np.abs(a - b).mean())
