"""The way back: an anonymized video, its index and a key in; the people that the key opens out, as filmed.

Needs no model, no detector and no GPU. Everybody whom the key does not open stays anonymized; so do the pixels that two
faces share, unless every track is opened.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from revisage.pipeline.errors import IndexFileError, MismatchError, TamperedError
from revisage.pipeline.media import Frame, VideoReader, VideoWriter, decode_clip, open_video, video_digest
from revisage.pipeline.pixels import Mask, PixelFormat, Planes, Rect, paste, pixel_format
from revisage.pipeline.types import Progress, silent
from revisage.pipeline.vault.document import VERSION
from revisage.pipeline.vault.index import CONTESTED, Authenticity, Unlocked, open_index
from revisage.pipeline.vault.keys import SecretKey, Signer, TrackKey


@dataclass(frozen=True, slots=True)
class RecoverOptions:
    """What the user may choose about the output."""

    codec: str | None = None
    crf: int | None = None
    overwrite: bool = False

    def writer(self, output: Path, video: VideoReader, anonymized: Path) -> VideoWriter:
        """Writes `video`, which was read from `anonymized`, with all its other streams. Raises OutputError."""
        return VideoWriter(
            output,
            video,
            codec=self.codec,
            crf=self.crf,
            overwrite=self.overwrite,
            copy_streams_from=anonymized,
            private=True,
        )


@dataclass(frozen=True, slots=True)
class RecoverReport:
    """What happened."""

    frames: int
    tracks: tuple[int, ...]  # brought back
    hidden: tuple[int, ...]  # still anonymized
    faces: int  # restored, over all frames
    codec: str
    authenticity: Authenticity = "unsigned"  # who signed the index, see there
    signer: str | None = None  # signer1…
    version: int = VERSION  # of the index's format
    empty: int = 0  # faces that were looked for in the pixels and are not there
    same: bool = True  # the video is the very one that was made


@dataclass(frozen=True, slots=True, eq=False)
class _Patch:
    frame: int
    rect: Rect
    tile: Planes
    mask: Mask  # (h, w), True where the tile holds the original


def recover(
    anonymized: Path,
    output: Path,
    *,
    index: Path,
    key: SecretKey | TrackKey,
    known: Sequence[Signer] = (),
    tracks: Sequence[int] = (),
    options: RecoverOptions | None = None,
    progress: Progress = silent,
) -> RecoverReport:
    """Write `output` with `tracks` (none named: all that `key` opens) as they were filmed.

    `known`: signers to be believed. Raises IndexFileError (WrongKeyError, TamperedError, VersionError, MismatchError)
    or MediaError; then there is no output.
    """
    options = options or RecoverOptions()
    with open_index(index) as reader:
        unlocked = reader.unlock(key, known)
        chosen = _choose(unlocked, tracks)
        unlocked.check_video(video_digest(anonymized))
        with open_video(anonymized) as video:
            fmt = _sealed_format(unlocked, video.pix_fmt, video.height)
            writer = options.writer(output, video, anonymized)
            with writer:
                total = unlocked.settings.video.frames
                frames = progress(video.frames(), label="recover", total=total)
                counted = _restore(frames, _Sources(unlocked, chosen, fmt), fmt, writer)
    people = tuple(track for track in chosen if track != CONTESTED)
    return report_of(unlocked, counted[0], people, counted[1], writer.codec)


def report_of(
    unlocked: Unlocked, frames: int, tracks: tuple[int, ...], faces: int, codec: str, empty: int = 0, same: bool = True
) -> RecoverReport:
    """What happened, with what the index says of itself."""
    public = {int(track["id"]) for track in unlocked.reader.public()["tracks"]}
    hidden = tuple(sorted(public - set(tracks) - {CONTESTED}))
    signer, version = str(unlocked.signer) if unlocked.signer else None, unlocked.reader.version
    return RecoverReport(frames, tracks, hidden, faces, codec, unlocked.authenticity, signer, version, empty, same)


def _choose(unlocked: Unlocked, wanted: Sequence[int]) -> tuple[int, ...]:
    """Tracks to restore; the contested pixels only when nobody stays hidden."""
    if unlocked.settings.seal == "off":
        raise IndexFileError("nothing was sealed when this video was made: its originals cannot be brought back")
    people = tuple(track for track in unlocked.track_ids if track != CONTESTED)
    if not wanted or set(wanted) >= set(people):
        for track in wanted:
            unlocked.segments(track)  # names the tracks there are, if this is none of them
        return unlocked.track_ids
    for track in wanted:
        unlocked.segments(track)
    return tuple(sorted(set(wanted)))


def _sealed_format(unlocked: Unlocked, found: PixelFormat, height: int) -> PixelFormat:
    """The format the tiles are in, which the anonymized video must share."""
    sealed = pixel_format(unlocked.settings.video.pix_fmt, 0, 0, height)
    if (sealed.family, sealed.bits, sealed.sx, sealed.sy) != (found.family, found.bits, found.sx, found.sy):
        raise MismatchError(f"the seal holds {sealed.name} and the video {found.name}: bring the video as it was made")
    return sealed


def _patches(unlocked: Unlocked, track: int, fmt: PixelFormat) -> Iterator[_Patch]:
    """What a track puts back, frames rising; one segment in memory."""
    for placement, clip in unlocked.segments(track):
        width, height = placement.canvas
        tiles = decode_clip(clip, fmt, width, height)
        for frame, (x, y) in zip(placement.frames, placement.origins, strict=True):
            tile, mask = next(tiles, (None, None))
            if tile is None or mask is None:
                raise TamperedError(f"a clip of track {track} ends too early: get a sound copy of the index")
            yield _Patch(frame, Rect(x, y, x + width, y + height), tile, mask)
        if next(tiles, None) is not None:
            raise TamperedError(f"a clip of track {track} goes on too long: get a sound copy of the index")


class _Sources:
    """The clips of all chosen tracks, each opened when the film comes to its track and closed when that is over."""

    def __init__(self, unlocked: Unlocked, tracks: Sequence[int], fmt: PixelFormat) -> None:
        self._unlocked, self._fmt = unlocked, fmt
        self._coming = sorted(tracks, key=lambda track: unlocked.records[track].first, reverse=True)
        self._open: dict[int, Iterator[_Patch]] = {}
        self._waiting: dict[int, _Patch] = {}

    def patches(self, frame: int) -> Iterator[_Patch]:
        """What is to be put back into `frame`; frames rising."""
        while self._coming and self._unlocked.records[self._coming[-1]].first <= frame:
            track = self._coming.pop()
            self._open[track] = _patches(self._unlocked, track, self._fmt)
            self._advance(track)
        for track in [track for track, patch in self._waiting.items() if patch.frame == frame]:
            yield self._waiting.pop(track)
            self._advance(track)

    def check_complete(self) -> None:
        """Raises TamperedError where something is left."""
        left = any(self._unlocked.records[track].segments for track in self._coming)
        if self._waiting or left:
            raise TamperedError("the index holds pixels for frames that the video does not have: bring the pair")

    def _advance(self, track: int) -> None:
        if (patch := next(self._open[track], None)) is None:
            del self._open[track]
        else:
            self._waiting[track] = patch


def _restore(frames: Iterable[Frame], sources: _Sources, fmt: PixelFormat, writer: VideoWriter) -> tuple[int, int]:
    """Write every frame with its patches; returns how many frames and how many patches."""
    count = restored = 0
    for frame in frames:
        count += 1
        for patch in sources.patches(frame.index):
            if patch.rect.x1 > frame.planes[0].shape[1] or patch.rect.y1 > frame.planes[0].shape[0]:
                raise TamperedError("the index holds pixels beyond the picture: bring the pair together")
            paste(frame.planes, fmt, patch.rect, patch.tile, patch.mask)
            restored += 1
        writer.write(frame, frame.planes)
    sources.check_complete()
    return count, restored
