"""What an index says a video should hide: the plan as it was rendered, without landmarks. Knows no pixel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from revisage.pipeline.errors import MismatchError, TamperedError, WrongKeyError
from revisage.pipeline.media import file_digest, video_digest
from revisage.pipeline.shape import PARTS, REGIONS
from revisage.pipeline.types import Origin, Plan, Shape, Track, TrackedFace, VideoInfo
from revisage.pipeline.vault.geometry import ROW, place_of
from revisage.pipeline.vault.index import CONTESTED, Authenticity, TrackRecord, Unlocked, open_index
from revisage.pipeline.vault.keys import SecretKey, Signer, TrackKey


@dataclass(frozen=True, slots=True)
class Expected:
    """What an index says of a finished video."""

    plan: Plan
    same: bool  # the video is the very file that the index was made with
    authenticity: Authenticity
    signer: str | None  # signer1…
    version: int  # of the index's format


def read_plan(
    index: Path, key: SecretKey | TrackKey, output: Path, original: Path | None, known: Sequence[Signer] = ()
) -> Expected:
    """What `index` says of `output`. `known`: signers to be believed.

    A file that was encoded again or tampered with still has its faces where the plan says, so it can be verified.
    Raises IndexFileError and its kin, MismatchError where `original` is not the file that the index is about.
    """
    with open_index(index) as reader:
        unlocked = reader.unlock(key, known)
        plan = expected(unlocked)
        if original is not None and plan.video.sha256 and file_digest(original) != plan.video.sha256:
            raise MismatchError(f"{original.name} is not the file that {output.name} was made from: bring that one")
        same = False
        with suppress(MismatchError):
            unlocked.check_video(video_digest(output))
            same = True
        signer = str(unlocked.signer) if unlocked.signer else None
        return Expected(plan, same, unlocked.authenticity, signer, reader.version)


def expected(unlocked: Unlocked) -> Plan:
    """The tracks of an index with their boxes and points, people left as filmed included.

    Raises WrongKeyError where the key opens one track only, TamperedError where the geometry is not what this program
    writes.
    """
    document = unlocked.document
    if document is None:
        raise WrongKeyError("this key opens one track and tells nothing of the others: verify with the secret key")
    hidden = [_track(record, unlocked.settings.video) for record in document.tracks if record.id != CONTESTED]
    kept = [_track(record, unlocked.settings.video, keep=True) for record in document.kept]
    tracks = tuple(sorted([*hidden, *kept], key=lambda track: track.id))
    return Plan(unlocked.settings.video, tracks, "", shape=_shape(unlocked.settings.generator))


def _shape(described: Mapping[str, object]) -> Shape:
    region, parts = described.get("region", "face"), described.get("keep_parts", [])
    if region not in REGIONS or not isinstance(parts, list) or not set(map(str, parts)) <= PARTS.keys():
        raise TamperedError("how much of each face is replaced is not readable: get a sound copy of the index")
    return Shape(str(region), tuple(map(str, parts)))


def _track(record: TrackRecord, video: VideoInfo, *, keep: bool = False) -> Track:
    return Track(record.id, tuple(_faces(record, video)), keep)


def _faces(record: TrackRecord, video: VideoInfo) -> Iterable[TrackedFace]:
    for row in record.geometry:
        frame, x0, y0, x1, y1 = place_of(row, record, video)[:5]
        points = np.array(row[5:ROW], np.float32).reshape(5, 2)
        yield TrackedFace(int(frame), (float(x0), float(y0), float(x1), float(y1)), points, Origin.DETECTED, 1.0)
