"""The way back with the key alone, when the index is lost: faces are found anew in the anonymized video itself.

    label ─► secret, tracks        decode ─► detect ─► guess, see `refind.py` ─► recover ─► paste ─► encode

Weaker than with the index, and slow. Landmarks and mask of a painted face are not exactly those it was painted for, so
less comes back; a face that is not found again, or of which the key's signs say too little, stays hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from revisage.models.base import Detector, FaceCarrier, Landmarker
from revisage.models.latents import Veil
from revisage.pipeline.carry import Carry
from revisage.pipeline.errors import IndexFileError, KeyFileError
from revisage.pipeline.likeness import code_of, veil_of
from revisage.pipeline.media import Frame, VideoReader, open_video, read_label
from revisage.pipeline.pixels import Planes, to_rgb
from revisage.pipeline.recover import RecoverOptions, RecoverReport
from revisage.pipeline.refind import Guess, Mistake, Scene, Seeker
from revisage.pipeline.turn import Turn
from revisage.pipeline.types import CropTemplate, Float, Origin, Progress, Shape, TrackedFace, silent
from revisage.pipeline.vault import keys
from revisage.pipeline.vault.keys import SecretKey, TrackKey
from revisage.pipeline.vault.label import Label, LabelTrack
from revisage.trackers.base import Sighting


@dataclass(frozen=True, slots=True, eq=False)
class Finders:
    """What finds faces and reads them."""

    detector: Detector
    landmarker: Landmarker | None
    carrier: Callable[[Mapping[str, object]], tuple[FaceCarrier, CropTemplate, int]]  # template, size of a code


def recover_lost(
    anonymized: Path,
    output: Path,
    *,
    key: SecretKey | TrackKey,
    finders: Finders,
    tracks: Sequence[int] = (),
    options: RecoverOptions | None = None,
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
        search = _Search(label, chosen, finders, video)
        writer = options.writer(output, video, anonymized)
        with writer:
            for frame in progress(video.frames(), label="recover", total=video.frame_estimate):
                search.restore(frame)
                writer.write(frame, frame.planes)
    hidden = tuple(sorted(known - set(chosen)))
    return RecoverReport(search.frames, chosen, hidden, search.faces, writer.codec, empty=search.missed, same=False)


class _Search:
    """One run's constants, and what it counts."""

    def __init__(self, label: Label, tracks: Sequence[int], finders: Finders, video: VideoReader) -> None:
        self._label, self._finders, self._fmt = label, finders, video.pix_fmt
        self._time_base, self._start = video.time_base, 0
        self._turn = Turn.of(video.orientation, video.width, video.height)
        self._tracks = [track for track in label.tracks if track.id in tracks]
        carrier, template, self._code_size = finders.carrier(label.generator)
        carry = Carry.from_json(label.carry, label.generator.get("carry"))
        shape = Shape(str(label.generator.get("region", "face")), tuple(label.generator.get("keep_parts", ())))
        self._size = carrier.size
        veil, code = lru_cache(maxsize=16)(self._veil), lru_cache(maxsize=64)(self._code)
        self._seeker = Seeker(carrier, carry, template, shape, self._fmt, self._detected, veil, code)
        self._mistakes: dict[int, Mistake] = {}
        self.frames = self.faces = self.missed = 0

    def restore(self, frame: Frame) -> None:
        """Bring back whom the frame shows, in place; frames in order, from the first."""
        self._start = self._start if self.frames else frame.pts
        self.frames += 1
        wanted = [track for track in self._tracks if track.first <= frame.index <= track.last]
        if not wanted:
            return
        stretch = self._seeker.carry.stretch(frame.pts - self._start, self._time_base)
        scene = Scene(self._seeker, frame.planes, frame.index, stretch)
        certain: list[tuple[int, Guess]] = []
        for who in range(len(scene.faces)):
            missing = [track for track in wanted if all(track is not guess.track for _, guess in certain)]
            guess = scene.best(who, missing, self._mistakes) if missing else None
            if guess is not None:
                certain.append((who, guess))
        back = scene.restore(certain, frame.planes)
        self.faces += back
        self.missed += len(wanted) - back

    def _detected(self, planes: Planes, frame: int) -> list[TrackedFace]:
        """The faces that show, as pass 1 would see them: upright."""
        picture = self._turn.upright(np.rint(to_rgb(planes, self._fmt)).astype(np.uint8))
        seen = self._finders.detector.detect(picture)
        shapes: Sequence[Float | None] = [None] * len(seen)
        if self._finders.landmarker is not None and seen:
            shapes = [shape for shape, _ in self._finders.landmarker.locate(picture, [face.points for face in seen])]
        pairs = zip(seen, shapes, strict=True)
        return [_tracked(self._turn.stored(Sighting(frame, face, shape))) for face, shape in pairs]

    def _veil(self, track: int, stretch: int) -> Veil:
        return veil_of(keys.track_identity(self._label.secret, track), stretch, self._size)

    def _code(self, track: LabelTrack) -> Float:
        return code_of(keys.face_key(self._label.faces, track.id, track.person), self._code_size, track.draw)


def _tracked(sighting: Sighting) -> TrackedFace:
    face = sighting.detection
    return TrackedFace(sighting.frame, face.box, face.points, Origin.DETECTED, face.score, sighting.landmarks)
