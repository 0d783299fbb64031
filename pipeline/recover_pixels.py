"""The way back without a seal: people out of the pixels that carry them. Needs a key, and the model that was used.

    decode ─► look at each carriage ─► invert ─► unmix with the key ─► regrow ─► paste ─► encode

The index says where the carriages are; whoever has a track key finds that track's. What comes back is as good as the
pixels are: a lossless copy gives nearly everything, every lossy encoding takes from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from revisage.models.base import CarryRequest, FaceCarrier
from revisage.models.latents import Veil
from revisage.pipeline import limits
from revisage.pipeline.carry import Carriage, Carry, found, load, load_code, request_for, restoration
from revisage.pipeline.convey import recovered
from revisage.pipeline.errors import IndexFileError, MismatchError, TamperedError
from revisage.pipeline.likeness import veil_of
from revisage.pipeline.media import Frame, open_video, video_digest
from revisage.pipeline.pixels import PixelFormat, align_rect, blend
from revisage.pipeline.protect import gathered
from revisage.pipeline.recover import RecoverOptions, RecoverReport, report_of
from revisage.pipeline.types import Float, Progress, silent
from revisage.pipeline.vault.geometry import ROW, place_of
from revisage.pipeline.vault.index import CONTESTED, TrackRecord, Unlocked, open_index
from revisage.pipeline.vault.keys import SecretKey, Signer, TrackKey


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """One face of one frame that can be brought back."""

    track: int
    carriage: Carriage
    stretch: int


def recover_pixels(
    anonymized: Path,
    output: Path,
    *,
    index: Path,
    key: SecretKey | TrackKey,
    carrier: Callable[[Mapping[str, object]], FaceCarrier],
    known: Sequence[Signer] = (),
    tracks: Sequence[int] = (),
    options: RecoverOptions | None = None,
    batch_size: int = 8,
    progress: Progress = silent,
) -> RecoverReport:
    """Write `output` with `tracks` (none named: all that `key` opens) brought back from the pixels of `anonymized`.

    `carrier` loads the model that the index describes. A video that was encoded again since is taken too, and the
    report says so. Raises IndexFileError (WrongKeyError, TamperedError, MismatchError), ModelError or MediaError; then
    there is no output.
    """
    options = options or RecoverOptions()
    with open_index(index) as reader:
        unlocked = reader.unlock(key, known)
        carry = _carry(unlocked)
        chosen = _choose(unlocked, tracks)
        same = False
        with suppress(MismatchError):
            unlocked.check_video(video_digest(anonymized))
            same = True
    with open_video(anonymized) as video:
        _check_size(unlocked, video.width, video.height)
        loaded = carrier(unlocked.settings.generator)
        job = _Job(unlocked, carry, chosen, loaded, video.pix_fmt, batch_size)
        writer = options.writer(output, video, anonymized)
        with writer:
            total = unlocked.settings.video.frames
            for frame in job.restored(progress(video.frames(), label="recover", total=total)):
                writer.write(frame, frame.planes)
            job.check_complete()
    return report_of(unlocked, job.frames, chosen, job.faces, writer.codec, job.empty, same)


def _carry(unlocked: Unlocked) -> Carry:
    if not unlocked.settings.carry:
        raise IndexFileError("the pixels of this video carry nothing: recover it from the seal")
    return Carry.from_json(unlocked.settings.carry, unlocked.settings.generator.get("carry"))


def _choose(unlocked: Unlocked, wanted: Sequence[int]) -> tuple[int, ...]:
    for track in wanted:
        unlocked.segments(track)  # names the tracks there are, if this is none of them
    people = [track for track in unlocked.track_ids if track != CONTESTED]
    return tuple(sorted(set(wanted or people)))


def _check_size(unlocked: Unlocked, width: int, height: int) -> None:
    made = unlocked.settings.video
    if (made.width, made.height) != (width, height):
        raise MismatchError(
            f"the faces were put into {made.width}x{made.height} pixels and this video has {width}x{height}: "
            "bring it in its own size"
        )


class _Job:
    """One run's constants, and what it counts."""

    def __init__(
        self,
        unlocked: Unlocked,
        carry: Carry,
        tracks: Sequence[int],
        carrier: FaceCarrier,
        fmt: PixelFormat,
        batch_size: int,
    ) -> None:
        self.carry, self.carrier, self.fmt, self.batch_size = carry, carrier, fmt, batch_size
        self.video, self.planned = unlocked.settings.video, unlocked.settings.video.frames
        self.codes: dict[int, Float] = {}
        self.places: dict[int, list[_Place]] = {}
        self.frames = self.faces = self.empty = 0
        for track in tracks:
            self._read(unlocked.records[track])
        self.veil = _veils(unlocked, carrier.size)

    def restored(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Every frame, in order."""
        for waiting in gathered(frames, self._all_seen, self.batch_size):
            yield from self._pasted(waiting)

    def check_complete(self) -> None:
        if self.places or self.frames != self.planned:
            raise MismatchError(f"the video has {self.frames} frames and its index {self.planned}: bring the pair")

    def _read(self, record: TrackRecord) -> None:
        before: Carriage | None = None
        for row in record.geometry:
            place_of(row, record, self.video)
            if len(row) == ROW:
                self.empty += 1
                continue
            stretch, *code = row[ROW + 1 :] or [None]
            if not limits.is_whole(stretch, range(1 << 32)):
                raise TamperedError(f"the times of track {record.id} are not readable: get a sound copy of the index")
            if code:
                self.codes[record.id] = load_code(code[0])
            if record.id not in self.codes:
                raise TamperedError(f"track {record.id} has no identity code: get a sound copy of the index")
            before = load(row[ROW], before, self.carrier.size)
            self.places.setdefault(row[0], []).append(_Place(record.id, before, stretch))

    def _all_seen(self, frame: Frame) -> list[tuple[_Place, CarryRequest, Float]]:
        self.frames += 1
        return [self._seen(place, frame) for place in self.places.pop(frame.index, [])]

    def _seen(self, place: _Place, frame: Frame) -> tuple[_Place, CarryRequest, Float]:
        height, width = frame.planes[0].shape
        inside = align_rect(place.carriage.square.rect(), self.fmt, width, height)
        if not inside.width or not inside.height:
            raise TamperedError(f"track {place.track} lies outside the picture: get a sound copy of the index")
        picture = found(place.carriage, frame.planes, self.fmt)
        noise, code = self.veil(place.track, place.stretch).noise, self.codes[place.track]
        return place, request_for(place.carriage, picture, self.fmt, self.carrier.size, code, noise), picture

    def _pasted(self, waiting: Sequence[tuple[Frame, Sequence[tuple[_Place, CarryRequest, Float]]]]) -> Iterator[Frame]:
        rows = [row for _, own in waiting for row in own]
        faces = [(request, self.veil(place.track, place.stretch), picture) for place, request, picture in rows]
        pictures = iter(recovered(self.carrier, self.carry, faces) if faces else ())
        for frame, own in waiting:
            for place, _, _ in own:
                self._paste(frame, place.carriage, next(pictures))
            yield frame

    def _paste(self, frame: Frame, carriage: Carriage, picture: Float) -> None:
        height, width = frame.planes[0].shape
        rect, rgb, amount = restoration(carriage, picture, width, height)
        if not np.isfinite(rgb).all() or align_rect(rect, self.fmt, width, height) != rect:
            self.empty += 1
            return
        blend(frame.planes, self.fmt, rect, rgb, amount)
        self.faces += 1


def _veils(unlocked: Unlocked, size: int) -> Callable[[int, int], Veil]:
    @lru_cache(maxsize=64)
    def veil(track: int, stretch: int) -> Veil:
        return veil_of(unlocked.track_keys[track], stretch, size)

    return veil
