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
                counted = _restore(frames, [_patches(unlocked, track, fmt) for track in chosen], fmt, writer)
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
        for frame, (x, y), (tile, mask) in zip(placement.frames, placement.origins, tiles, strict=True):
            yield _Patch(frame, Rect(x, y, x + width, y + height), tile, mask)


def _restore(
    frames: Iterable[Frame], sources: Sequence[Iterator[_Patch]], fmt: PixelFormat, writer: VideoWriter
) -> tuple[int, int]:
    """Write every frame with its patches; returns how many frames and how many patches."""
    waiting = {i: patch for i, source in enumerate(sources) if (patch := next(source, None)) is not None}
    count = restored = 0
    for frame in frames:
        count += 1
        for i in [i for i, patch in waiting.items() if patch.frame == frame.index]:
            patch = waiting.pop(i)
            paste(frame.planes, fmt, patch.rect, patch.tile, patch.mask)
            restored += 1
            if (following := next(sources[i], None)) is not None:
                waiting[i] = following
        writer.write(frame, frame.planes)
    if waiting:
        raise TamperedError("the index holds pixels for frames that the video does not have: bring the pair together")
    return count, restored
