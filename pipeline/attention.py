"""Where to look in each frame, and how hard. Spends a detector's time; knows no file, no track and no key.

Every frame is looked at once, except where it shows what the last one showed: there the last answer still holds. On top
of that come further looks (models/looks.py), each only where it can find something:

* *closer*, turned as the face was, where a face was a moment ago and is not any more; and where something was seen
  that may be a face, to decide;
* over the *whole* picture turned, enlarged, shrunk and (where it is dark) brightened, each twice a second and at the
  start of a shot. What they find counts once a closer look confirms it, and is followed by closer looks from then on.

All periods are shorter than what the linker bridges and holds, so that a face that only a further look finds is covered
in every frame.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np

from revisage.models.base import Detector
from revisage.models.looks import WHOLE, Look, closer, is_dark, merged, overlap
from revisage.pipeline.geometry import shrunk
from revisage.pipeline.types import Box, FaceDetection, Gray, Image

_STILL_SIDE = 480  # longest side of the copy on which two frames are compared
_STILL_BLOCK = 6  # pixels of that copy, side of the blocks whose mean difference counts
_STILL = 2.0  # grey levels; no block of a still picture differs by more from the last one looked at
_LIT = 80.0  # grey level from which a block counts as well lit
_STILL_LONGEST = 0.5  # seconds without a look, however still
_STILL_WAITS = 1.5  # seconds more until a picture that does not change is looked at in other ways again
_JUMP = 25.0  # grey levels; a picture that differs so much on average begins a shot
_WHOLE_EVERY = 0.45  # seconds between two looks of one kind at the whole picture
_CLOSER_EVERY = 0.1  # seconds between closer looks at one place
_MISSED_FOR = 0.6  # seconds that a lost face is looked for
_FILLS = 0.4  # of the picture's longest side
_MOST_NEW = 6  # new faces that one look at the whole picture may bring
_SAME_PLACE = 0.2  # intersection over union


@dataclass(frozen=True, slots=True)
class Effort:
    """How much may be spent. `low`, `high`: scores of what may be and of what surely is a face."""

    low: float = 0.2
    high: float = 0.4
    again: bool = True  # further looks
    skip: bool = True  # still pictures are not looked at again


@dataclass(frozen=True, slots=True, eq=False)
class Glance:
    """What is known of one frame."""

    faces: list[FaceDetection]
    looked: bool  # False: the picture is that of the frame before, and so are the faces


@dataclass(slots=True, eq=False)
class _Place:
    """Where a face was last."""

    face: FaceDetection
    seen: float  # seconds
    looked: float  # seconds, of the last closer look here


@dataclass(slots=True, eq=False)
class Attention:
    """Looks at the frames of one video, in order. `spent` counts looks by name."""

    detector: Detector
    effort: Effort = field(default_factory=Effort)
    spent: Counter[str] = field(default_factory=Counter)
    _reference: Gray | None = None  # the last picture looked at, small
    _looked: float = -np.inf  # seconds, of that
    _faces: list[FaceDetection] = field(default_factory=list)
    _places: list[_Place] = field(default_factory=list)
    _due: dict[str, float] = field(default_factory=dict)  # look -> seconds from which it is due again

    def look(self, picture: Image, seconds: float, grey: Gray | None = None) -> Glance:
        """The faces in the next frame, uint8 RGB (H, W, 3), shown at `seconds`; scores from `effort.low` up.

        `grey` is the same in grey (H, W), where the caller has it.
        """
        small = _small(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) if grey is None else grey)
        change = np.inf if self._reference is None else _change(self._reference, small)
        if self.effort.skip and change < _STILL and seconds - self._looked <= _STILL_LONGEST:
            self.spent["still"] += 1
            return Glance(self._faces, looked=False)
        if self._reference is not None and _jumps(self._reference, small):
            self._due.clear()
            self._places.clear()
        self._reference, self._looked = small, seconds
        self._faces = self._found(picture, seconds, _STILL_WAITS if self.effort.skip and change < _STILL else 0.0)
        return Glance(self._faces, looked=True)

    def _found(self, picture: Image, seconds: float, wait: float) -> list[FaceDetection]:
        self.spent["first"] += 1
        faces = [face for face in self.detector.detect(picture) if face.score >= self.effort.low]
        if self.effort.again:
            faces = merged([faces, self._whole(picture, seconds, wait, faces)])
            faces = merged([faces, *self._decided(picture, seconds, faces)])
            faces = merged([faces, *self._missed(picture, seconds, faces)])
            self._remember(faces, seconds)
        return faces

    def _whole(self, picture: Image, seconds: float, wait: float, faces: list[FaceDetection]) -> list[FaceDetection]:
        """Faces that a look at the whole picture finds, the first one did not, and a closer look confirms."""
        new: list[FaceDetection] = []
        for look in self._whole_looks(picture, seconds, wait):
            self.spent[look.name] += 1
            found = [face for face in look.see(self.detector, picture) if not _among(face.box, faces)]
            for face in found[:_MOST_NEW]:
                if face.score < self.effort.low or _among(face.box, new):
                    continue
                fills = face.score >= self.effort.high and _fills(face.box, picture)
                new += [face] if fills else self._closer(picture, face)
        return new

    def _whole_looks(self, picture: Image, seconds: float, wait: float) -> Iterator[Look]:
        """Those that have been due for `wait` seconds; in turns, but all of them at the start of a shot."""
        fresh = not self._due
        for number, look in enumerate(WHOLE):
            if self._due.get(look.name, -np.inf) > seconds - wait + 1e-6:
                continue
            if fresh:  # from now on they take turns
                self._due[look.name] = seconds + _WHOLE_EVERY * (number + 1) / len(WHOLE)
            else:
                self._due[look.name] = seconds + _WHOLE_EVERY
            if look.name != "brightened" or is_dark(picture):
                yield look

    def _decided(self, picture: Image, seconds: float, faces: list[FaceDetection]) -> Iterator[list[FaceDetection]]:
        """A closer look at what may be a face and continues none."""
        for face in faces:
            place = self._at(face.box)
            known = place is not None and seconds - place.seen <= _MISSED_FOR
            if face.score < self.effort.high and not known:
                if place is None:
                    self._places.append(_Place(face, -np.inf, seconds))
                elif seconds - place.looked < _WHOLE_EVERY - 1e-6:
                    continue  # nobody could say what it is a moment ago
                else:
                    place.looked = seconds
                yield self._closer(picture, face)

    def _missed(self, picture: Image, seconds: float, faces: list[FaceDetection]) -> Iterator[list[FaceDetection]]:
        """A closer look at where faces were a moment ago."""
        for place in self._places:
            if seconds - place.seen > _MISSED_FOR or _among(place.face.box, faces):
                continue
            if seconds - place.looked >= _CLOSER_EVERY - 1e-6 or place.looked <= place.seen:
                place.looked = seconds
                yield self._closer(picture, place.face)

    def _closer(self, picture: Image, face: FaceDetection) -> list[FaceDetection]:
        """Faces around `face`: upright, as it is turned, or to one side, whichever finds one first."""
        for degrees in _turns(face):
            self.spent["closer"] += 1
            found = closer(self.detector, picture, face.box, degrees)
            sure = [f for f in found if f.score >= self.effort.high and overlap(f.box, face.box) > _SAME_PLACE]
            if sure:
                return sure
        return []

    def _at(self, box: Box) -> _Place | None:
        return next((place for place in self._places if overlap(place.face.box, box) > _SAME_PLACE), None)

    def _remember(self, faces: list[FaceDetection], seconds: float) -> None:
        for face in faces:
            place = self._at(face.box)
            if place is None and face.score >= self.effort.high:
                self._places.append(_Place(face, seconds, -np.inf))
            elif place is not None and (face.score >= self.effort.high or place.seen > -np.inf):
                place.face, place.seen = face, seconds
        self._places = [p for p in self._places if seconds - max(p.seen, p.looked) <= _MISSED_FOR]


def _turns(face: FaceDetection) -> tuple[float, ...]:
    """Degrees to try, the likeliest first. The five points say how the face was turned, if it was."""
    eyes, mouth = face.points[:2].mean(axis=0), face.points[3:].mean(axis=0)
    down = mouth - eyes
    tilt = float(np.rad2deg(np.arctan2(-down[0], down[1])))  # clockwise; 0 upright
    return (-tilt, 0.0) if abs(tilt) > 30 else (0.0, 90.0, -90.0)


def _fills(box: Box, picture: Image) -> bool:
    """Is the face so large that a closer look would see no more of it?"""
    return max(box[2] - box[0], box[3] - box[1]) > _FILLS * max(picture.shape[:2])


def _among(box: Box, faces: list[FaceDetection]) -> bool:
    return any(overlap(box, face.box) > _SAME_PLACE for face in faces)


def _small(grey: Gray) -> Gray:
    scale = min(1.0, _STILL_SIDE / max(grey.shape))
    return shrunk(grey, (round(grey.shape[1] * scale), round(grey.shape[0] * scale)))


def _change(a: Gray, b: Gray) -> float:
    """Largest mean difference of any block, grey levels of a well lit picture; from `_STILL` on any such number.

    Noise averages out in a block, an entering face does not. In the dark a face differs from the wall by a level;
    there the difference counts for as much as it would in the light.
    """
    if a.shape != b.shape:
        return float("inf")
    if (everywhere := _difference(a, b)) >= _STILL:
        return everywhere  # no less differs the block that differs most
    side = (max(1, a.shape[1] // _STILL_BLOCK), max(1, a.shape[0] // _STILL_BLOCK))
    moved = cv2.resize(cv2.absdiff(a, b).astype(np.float32), side, interpolation=cv2.INTER_AREA)
    if (most := float(moved.max())) >= _STILL:
        return most
    light = cv2.resize(np.maximum(a, b).astype(np.float32), side, interpolation=cv2.INTER_AREA)
    return float((moved / np.minimum(1.0, (light + 2) / _LIT)).max())


def _jumps(a: Gray, b: Gray) -> bool:
    return a.shape != b.shape or _difference(a, b) > _JUMP


def _difference(a: Gray, b: Gray) -> float:
    """Mean over the pictures, grey levels."""
    return float(cv2.norm(a, b, cv2.NORM_L1)) / a.size
