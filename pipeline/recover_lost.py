"""The way back with the key alone, when the index is lost: faces are found anew in the anonymized video itself.

    label ─► secret, tracks        decode ─► detect ─► squares nearby ─► recover each ─► the one that looks filmed

Weaker than with the index, and slow. Landmarks and masks of a painted face are not exactly those it was painted for, so
less comes back; a face that is not found again, or whose square none of those tried is, stays hidden. Which of them is
right shows in the picture: under a wrong square, as under a wrong key, the grain of the new face stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path

import cv2
import numpy as np

from revisage.models.base import CarryRequest, Detector, FaceCarrier, Landmarker
from revisage.models.latents import Veil
from revisage.pipeline.carry import Carriage, Carry, found, lay_out, request_for, restoration, squares_near
from revisage.pipeline.composite import PlacedFace, place
from revisage.pipeline.convey import recovered
from revisage.pipeline.errors import IndexFileError, KeyFileError
from revisage.pipeline.likeness import code_of, veil_of
from revisage.pipeline.media import Frame, VideoReader, open_video, read_label
from revisage.pipeline.pixels import Mask, blend
from revisage.pipeline.recover import RecoverOptions, RecoverReport
from revisage.pipeline.types import CropTemplate, Float, Origin, Progress, Shape, TrackedFace, silent
from revisage.pipeline.vault import keys
from revisage.pipeline.vault.keys import SecretKey, TrackKey
from revisage.pipeline.vault.label import Label, LabelTrack

SURE = 0.5  # of the grain that is seen: what has less is the right one, and the search ends
LIKELY = 0.75  # the best of all squares is taken up to here


@dataclass(frozen=True, slots=True, eq=False)
class Finders:
    """What finds faces and reads them."""

    detector: Detector
    landmarker: Landmarker | None
    carrier: Callable[[Mapping[str, object]], tuple[FaceCarrier, CropTemplate, int]]  # template, size of a code


@dataclass(frozen=True, slots=True, eq=False)
class _Try:
    """One way in which a face might have been carried."""

    track: int
    carriage: Carriage
    request: CarryRequest
    veil: Veil
    seen: Float


def recover_lost(
    anonymized: Path,
    output: Path,
    *,
    key: SecretKey | TrackKey,
    finders: Finders,
    tracks: Sequence[int] = (),
    options: RecoverOptions | None = None,
    batch_size: int = 8,
    progress: Progress = silent,
) -> RecoverReport:
    """Write `output` with `tracks` (none named: all) brought back as far as that goes.

    Raises KeyFileError for a track key, IndexFileError (WrongKeyError, TamperedError) where the video has no label or
    the key does not open it, ModelError or MediaError; then there is no output.
    """
    if isinstance(key, TrackKey):
        raise KeyFileError("a track key opens its track in the index only: without the index give the secret key")
    options = options or RecoverOptions()
    text = read_label(anonymized)
    if text is None:
        raise IndexFileError("this video has no label that a key could open: only its index can bring anybody back")
    label = Label.opened(text, key)
    known = {track.id for track in label.tracks}
    if strange := set(tracks) - known:
        raise IndexFileError(f"there is no track {min(strange)}; choose from {', '.join(map(str, sorted(known)))}")
    chosen = tuple(sorted(set(tracks) or known))
    with open_video(anonymized) as video:
        search = _Search(label, chosen, finders, video, batch_size)
        writer = options.writer(output, video, anonymized)
        with writer:
            for frame in progress(video.frames(), label="recover", total=video.frame_estimate):
                search.restore(frame)
                writer.write(frame, frame.planes)
    hidden = tuple(sorted(known - set(chosen)))
    return RecoverReport(search.frames, chosen, hidden, search.faces, writer.codec, False, search.missed, False)


class _Search:
    """One run's constants, and what it counts."""

    def __init__(
        self, label: Label, tracks: Sequence[int], finders: Finders, video: VideoReader, batch_size: int
    ) -> None:
        self.label, self.finders, self.batch_size = label, finders, batch_size
        self.fmt, self.time_base, self.start = video.pix_fmt, video.time_base, 0
        self.tracks = [track for track in label.tracks if track.id in tracks]
        self.carry = Carry.from_json(label.carry, label.generator.get("carry"))
        self.carrier, self.template, self.code_size = finders.carrier(label.generator)
        self.shape = Shape(str(label.generator.get("region", "face")), tuple(label.generator.get("keep_parts", ())))
        self.frames = self.faces = self.missed = 0
        self._veil = lru_cache(maxsize=16)(self._drawn)
        self._code = lru_cache(maxsize=64)(self._identity)

    def restore(self, frame: Frame) -> None:
        """Bring back whom the frame shows, in place; frames in order, from the first."""
        self.start = self.start if self.frames else frame.pts
        self.frames += 1
        stretch = self.carry.stretch(frame.pts - self.start, self.time_base)
        wanted = [track for track in self.tracks if track.first <= frame.index <= track.last]
        if not wanted:
            return
        placed = self._placed(frame)
        results = [self._best(frame, placed, who, wanted, stretch) for who in range(len(placed))]
        height, width = frame.planes[0].shape
        for attempt, picture in filter(None, results):
            rect, rgb, amount = restoration(attempt.carriage, picture, width, height)
            blend(frame.planes, self.fmt, rect, rgb, amount)
        back = sum(result is not None for result in results)
        self.faces += back
        self.missed += max(0, len(wanted) - back)

    def _placed(self, frame: Frame) -> list[PlacedFace]:
        """The faces that can be seen, as pass 1 would place them."""
        picture, (height, width) = frame.rgb(), frame.planes[0].shape
        seen = self.finders.detector.detect(picture)
        located = None
        if self.finders.landmarker is not None and seen:
            located = self.finders.landmarker.locate(picture, [face.points for face in seen])
        faces = []
        for number, face in enumerate(seen):
            landmarks = located[number][0] if located is not None else None
            tracked = TrackedFace(frame.index, face.box, face.points, Origin.DETECTED, face.score, landmarks)
            faces.append(place(number, tracked, self.template, self.carrier.size, self.fmt, width, height, self.shape))
        return [face for face in faces if face is not None]

    def _best(
        self, frame: Frame, placed: Sequence[PlacedFace], who: int, wanted: Sequence[LabelTrack], stretch: int
    ) -> tuple[_Try, Float] | None:
        """The way of carrying face `who` that leaves least grain; None where all leave too much."""
        best: tuple[float, _Try, Float] | None = None
        attempts = self._attempts(frame, placed, who, wanted, stretch)
        while batch := [attempt for _, attempt in zip(range(self.batch_size), attempts, strict=False)]:
            rows = [(attempt.request, attempt.veil, attempt.seen) for attempt in batch]
            for attempt, picture in zip(batch, recovered(self.carrier, self.carry, rows), strict=True):
                left = _left(picture, attempt)
                if best is None or left < best[0]:
                    best = (left, attempt, picture)
            if best is not None and best[0] <= SURE:
                break
        return best[1:] if best is not None and best[0] <= LIKELY else None

    def _attempts(
        self, frame: Frame, placed: Sequence[PlacedFace], who: int, wanted: Sequence[LabelTrack], stretch: int
    ) -> Iterator[_Try]:
        size, (height, width) = self.carrier.size, frame.planes[0].shape
        likely = [squares_near(face, size)[0] for face in placed]
        for square, track in product(squares_near(placed[who], size), wanted):
            squares = [*likely[:who], square, *likely[who + 1 :]]
            carriage = lay_out(placed, self.fmt, width, height, size, squares)[who]
            if not carriage.own.any():
                continue
            seen, veil = found(carriage, frame.planes, self.fmt), self._veil(track.id, stretch)
            request = request_for(carriage, seen, self.fmt, size, self._code(track.id, track.person), veil.noise)
            yield _Try(track.id, carriage, request, veil, seen)

    def _drawn(self, track: int, stretch: int) -> Veil:
        return veil_of(keys.track_identity(self.label.secret, track), stretch, self.carrier.size)

    def _identity(self, track: int, person: int | None) -> Float:
        return code_of(keys.face_key(self.label.secret, track, person), self.code_size)


def _left(picture: Float, attempt: _Try) -> float:
    """Share of the grain that is seen which a recovered picture still has."""
    own = attempt.carriage.own
    return _grain(np.nan_to_num(picture), own) / max(_grain(attempt.seen, own), 1e-6)


def _grain(picture: Float, own: Mask) -> float:
    """How far a brightness lies from the mean of its neighbours, root mean square; what cannot be shown is cut off."""
    grey = np.clip(picture, -1, 1).mean(axis=0)
    fine = grey - cv2.blur(grey, (3, 3))
    return float(np.square(fine[own]).mean() ** 0.5)
