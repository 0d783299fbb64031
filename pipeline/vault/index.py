"""The track index, `.rvx`: its format and its strict reader. Knows nothing of video. `IndexWriter` lives in writer.py.

An index is a ZIP of stored entries (archive.py) that hold documents (document.py) and clips, sealed with age (keys.py):

| entry                         | content                                            | opened by                       |
|-------------------------------|----------------------------------------------------|---------------------------------|
| `tracks/NNNN/SSSSSS.age`      | a clip: the caller's bytes, a small Matroska file  | track key; recipients through S |
| `tracks/NNNN/SSSSSS.json.age` | its placement, bound to video, track and segment   | the same                        |
| `tracks/NNNN/track.age`       | the track's record, the settings, who signed       | the same                        |
| `index.age`                   | S, settings, all records, who signed, metadata     | the recipients                  |
| `manifest.json`               | ids, digest of the video, hash of each entry above | everyone                        |
| `manifest.sig`                | Ed25519 signatures of manifest.json                | everyone                        |

S is the seal secret, random for every run. What authenticates what: the run's signing key comes from S; `index.age`
(through S) and every document sealed to a track name its public half; the manifest under it names every entry. So
whoever can open anything detects any change made by somebody without S, who also cannot seal to a track: its public key
is published nowhere. Recipients have S, and could write another index with it. Against them stands the owner's
signature: an Ed25519 key that only the secret key of the owner gives, named in the sealed documents.
`Unlocked.authenticity` tells whose it is.

What cannot be detected: somebody who knows only a *public* key can make a whole new index for it, with faces of their
own, as anybody can write a letter. It is unsigned, or signed by somebody else. Anybody sees the number of tracks, their
segments, how large each is, and whether there is an owner's signature; not whose.

Version 1 had one secret, derived from the key and the input, for faces and seals, and no owner's signature. It is read,
as unsigned.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Literal, Self

from revisage.pipeline import limits
from revisage.pipeline.errors import IndexFileError, MismatchError, TamperedError, VersionError, WrongKeyError
from revisage.pipeline.text import shown
from revisage.pipeline.vault import archive, keys
from revisage.pipeline.vault.document import (
    CONTESTED,
    INDEX_ENTRY,
    MANIFEST_ENTRY,
    MANIFEST_FORMAT,
    OWNED_AS,
    READ,
    SIGNATURE_ENTRY,
    SIGNATURE_SIZE,
    SIGNED_AS,
    SIGNED_AS_1,
    Binding,
    IndexDocument,
    Json,
    Manifest,
    Placement,
    Seal,
    SegmentSheet,
    Settings,
    TrackRecord,
    TrackSheet,
    announced_version,
    clip_name,
    placement_name,
    track_name,
)
from revisage.pipeline.vault.keys import SecretKey, Signer, TrackKey
from revisage.pipeline.vault.writer import IndexWriter

__all__ = [
    "CONTESTED",
    "Authenticity",
    "IndexDocument",
    "IndexReader",
    "IndexWriter",
    "Placement",
    "Seal",
    "Settings",
    "TrackRecord",
    "Unlocked",
    "open_index",
]

Authenticity = Literal["owner", "known", "unknown", "unsigned"]
"""Who signed an index: the very key that opens it, a signer who is believed, a signer nobody vouched for, nobody."""

_TRACK_ENTRY: Final = re.compile(r"tracks/([0-9]{4,10})/(?:track|([0-9]{6,10})(?:\.json)?)\.age")
_SOUND: Final = "get a sound copy of the index"


def open_index(source: Path | BinaryIO) -> IndexReader:
    """Read the public part of an index and check all that can be checked without a key and without reading the clips.

    `source` is a path or a seekable binary stream that begins and ends with the index. Close the result, or use `with`.
    Raises VersionError (before anything else), TamperedError, or IndexFileError where it is no track index at all.
    """
    if not isinstance(source, Path):
        return IndexReader(source)
    with _reading():
        stream = source.open("rb")
    try:
        return IndexReader(stream)
    except BaseException:
        stream.close()
        raise


class IndexReader:
    """The public part of an index."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        with _reading():
            _refuse_other_versions(stream)
            _refuse_other_files(stream)
            self._members = {member.name: member for member in self._checked(archive.read_members(stream))}
            content = self._content(MANIFEST_ENTRY)
            self._manifest = Manifest.from_json(content)
            self._owners = _owners_signature(self._manifest, content, self._content(SIGNATURE_ENTRY))
            self._owned = OWNED_AS + content
        self._entries = {entry.name: entry for entry in self._manifest.entries}
        self._check_list()
        self._tracks = _count_segments(self._entries.keys() - {INDEX_ENTRY})

    @property
    def video_id(self) -> str:
        """32 hex digits, random, new for every index."""
        return self._manifest.video_id

    @property
    def version(self) -> int:
        """Of the format."""
        return self._manifest.version

    def signed_by(self, signer: Signer) -> bool:
        """Whether this is the owner's signature; can be asked without a key."""
        return self._manifest.owned and signer.signed(self._owned, self._owners)

    def public(self) -> dict[str, Json]:
        """What anybody can see, fit for JSON."""
        return {
            "format": MANIFEST_FORMAT,
            "version": self.version,
            "signed": self._manifest.owned,
            "video_id": self.video_id,
            "video_digest": self._manifest.video_digest,
            "verify_key": self._manifest.verify_key,
            "bytes": sum(member.size for member in self._members.values()),
            "tracks": [
                {
                    "id": track,
                    "segments": count,
                    "bytes": self._track_bytes(track, count),
                    "contested": track == CONTESTED,
                }
                for track, count in sorted(self._tracks.items())
            ],
        }

    def check_video(self, digest: str) -> None:
        """Raises MismatchError unless `digest` (hex SHA-256 over the video packets) is the one this index is about."""
        if digest != self._manifest.video_digest:
            raise MismatchError(
                "this index belongs to another video, or the video was re-encoded: bring the pair together"
            )

    def check_entries(self) -> None:
        """Read every entry and compare it with the signed manifest. Raises TamperedError."""
        for name in self._entries:
            self.entry(name)

    def entry(self, name: str) -> bytes:
        """An entry's bytes as stored, compared with the signed manifest. Raises TamperedError."""
        with _reading():
            content = self._content(name)
        if hashlib.sha256(content).hexdigest() != self._entries[name].sha256:
            raise TamperedError(f"{name} was changed: {_SOUND}")
        return content

    def unlock(self, key: SecretKey | TrackKey, known: Sequence[Signer] = ()) -> Unlocked:
        """Open what `key` opens: everything, or one track. `known`: signers to be believed besides those of `key`.

        Raises WrongKeyError where that is nothing, TamperedError where what opens contradicts the public part.
        """
        known = (*known, *key.trusted)
        unlocked = self._unlock_all(key, known) or self._unlock_track(key, known)
        if unlocked is None:
            raise WrongKeyError("this key opens nothing in this index: use the key that the video was made with")
        return unlocked

    def close(self) -> None:
        """Close the stream."""
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    @property
    def binding(self) -> Binding:
        """What every sealed document must name."""
        return Binding(self._manifest.video_id, self._manifest.verify_key, self.version)

    def _unlock_all(self, key: SecretKey | TrackKey, known: Sequence[Signer]) -> Unlocked | None:
        sealed = self.entry(INDEX_ENTRY)
        try:
            document = IndexDocument.from_json(key.decrypt(sealed), self.video_id, self.version)
        except WrongKeyError:
            return None
        records = {record.id: record for record in document.tracks}
        if keys.verify_key(document.secret).hex() != self._manifest.verify_key:
            raise TamperedError(f"{INDEX_ENTRY} and {MANIFEST_ENTRY} come from different indexes: {_SOUND}")
        if {record.id: record.segments for record in document.tracks} != self._tracks:
            raise TamperedError(f"the tracks are not those that {INDEX_ENTRY} lists: {_SOUND}")
        track_keys = {track: keys.track_identity(document.secret, track) for track in records}
        if self.version == 1:
            _check_derivation(document, key)
        own = SecretKey(key.reveal()).owner.signer
        authenticity = self._authenticity(document.signer, own, known, INDEX_ENTRY)
        return Unlocked(self, document.settings, records, track_keys, document, authenticity, document.signer)

    def _unlock_track(self, key: SecretKey | TrackKey, known: Sequence[Signer]) -> Unlocked | None:
        for track, count in self._tracks.items():
            sealed = self.entry(track_name(track))
            try:
                sheet = TrackSheet.from_json(key.decrypt(sealed), self.binding, track)
            except WrongKeyError:
                continue
            if sheet.record.segments != count:
                raise TamperedError(f"segments of track {track} are missing: {_SOUND}")
            authenticity = self._authenticity(sheet.signer, None, known, track_name(track))
            opened = {track: sheet.record}, {track: TrackKey(key.reveal())}
            return Unlocked(self, sheet.settings, *opened, authenticity=authenticity, signer=sheet.signer)
        return None

    def _authenticity(
        self, signer: Signer | None, own: Signer | None, known: Sequence[Signer], entry: str
    ) -> Authenticity:
        """What the sealed `entry` says of who signed, compared with the signature there is."""
        if (signer is not None) != self._manifest.owned or (signer is not None and not self.signed_by(signer)):
            raise TamperedError(f"{entry} names another signer than the one of {SIGNATURE_ENTRY}: {_SOUND}")
        if signer is None:
            return "unsigned"
        return "owner" if signer == own else "known" if signer in known else "unknown"

    def _content(self, name: str) -> bytes:
        return archive.read_content(self._stream, self._members[name])

    def _track_bytes(self, track: int, count: int) -> int:
        names = [track_name(track), *(clip_name(track, number) for number in range(count))]
        return sum(self._entries[name].size for name in names)

    @staticmethod
    def _checked(members: tuple[archive.Member, ...]) -> tuple[archive.Member, ...]:
        names = [member.name for member in members]
        if names[-3:] != [INDEX_ENTRY, MANIFEST_ENTRY, SIGNATURE_ENTRY] or len(set(names)) != len(names):
            raise TamperedError(f"entries are missing, repeated or out of order: {_SOUND}")
        # a line of the manifest has 200 bytes at most, so its length follows from how many entries there are
        if members[-2].size > min(limits.MANIFEST, 1024 + 256 * len(members)):
            raise TamperedError(f"{MANIFEST_ENTRY} is larger than any this program writes: {_SOUND}")
        for member in members:
            if member.size > _largest(member.name):
                raise TamperedError(f"{shown(member.name)} is larger than any this program writes: {_SOUND}")
        return members

    def _check_list(self) -> None:
        there = [(member.name, member.size) for member in self._members.values()][:-2]
        if there != [(entry.name, entry.size) for entry in self._manifest.entries]:
            raise TamperedError(f"the entries are not those that {MANIFEST_ENTRY} lists: {_SOUND}")


@dataclass(frozen=True, slots=True, eq=False)
class Unlocked:
    """What a key opens."""

    reader: IndexReader
    settings: Settings
    records: Mapping[int, TrackRecord]  # of the tracks that the key opens
    track_keys: Mapping[int, TrackKey]  # of the same tracks; for granting use `grant`
    document: IndexDocument | None = None  # None: the key is a track key
    authenticity: Authenticity = "unsigned"
    signer: Signer | None = None  # None: unsigned

    @property
    def track_ids(self) -> tuple[int, ...]:
        """Tracks that can be opened, rising; CONTESTED among them where there is one and the key opens everything."""
        return tuple(sorted(self.records))

    def of_person(self, person: int) -> tuple[int, ...]:
        """The tracks of one person, rising. Raises IndexFileError where the index, as far as it opens, names none."""
        persons = {record.person for record in self.records.values() if record.person is not None}
        if person not in persons:
            known = ", ".join(str(p) for p in sorted(persons))
            hint = f"choose from {known}" if known else "nobody was recognized, so choose tracks"
            raise IndexFileError(f"there is no person {person} in what this key opens: {hint}")
        return tuple(sorted(track for track, record in self.records.items() if record.person == person))

    def segments(self, track_id: int) -> Iterator[tuple[Placement, bytes]]:
        """The clips of one track in order, each verified before it is handed out.

        Raises WrongKeyError where the key does not open that track, IndexFileError where there is none such,
        TamperedError.
        """
        self._require(track_id)
        return (self._segment(track_id, number) for number in range(self.records[track_id].segments))

    def verify_all(self) -> None:
        """Verify every entry, and every clip that the key opens. Raises TamperedError."""
        self.reader.check_entries()
        for track_id in self.track_ids:
            for _ in self.segments(track_id):
                pass

    def grant(self, track_id: int) -> TrackKey:
        """The key of one track, to be given away. Raises as `segments`, and IndexFileError for CONTESTED."""
        if track_id == CONTESTED:
            raise IndexFileError(
                "track 0 holds pixels that two faces share and is never granted: grant each face's own"
            )
        self._require(track_id)
        return self.track_keys[track_id]

    def check_video(self, digest: str) -> None:
        """As `IndexReader.check_video`."""
        self.reader.check_video(digest)

    def _require(self, track_id: int) -> None:
        if track_id in self.records:
            return
        known = ", ".join(str(track) for track in self.track_ids if track != CONTESTED) or "none"
        if self.document is None:
            raise WrongKeyError(f"this key opens track {known} and no other: use the secret key for track {track_id}")
        raise IndexFileError(f"there is no track {track_id}: choose from {known}")

    def _segment(self, track_id: int, number: int) -> tuple[Placement, bytes]:
        sheet_bytes = self._decrypt(track_id, placement_name(track_id, number))
        sheet = SegmentSheet.from_json(sheet_bytes, self.reader.binding, track_id, number)
        self._check_place(sheet.placement, track_id, number)
        clip = self._decrypt(track_id, name := clip_name(track_id, number))
        if hashlib.sha256(clip).hexdigest() != sheet.clip_sha256:
            raise TamperedError(f"{name} is not the clip that was sealed there: {_SOUND}")
        return sheet.placement, clip

    def _check_place(self, place: Placement, track: int, number: int) -> None:
        """Raises TamperedError where a clip would lie off the chroma grid, beyond the picture or outside its track."""
        video, record, (width, height) = self.settings.video, self.records[track], place.canvas
        inside = all(
            x % 2 == 0 and y % 2 == 0 and x + width <= video.width and y + height <= video.height
            for x, y in place.origins
        )
        timely = bool(place.frames) and record.first <= place.frames[0] and place.frames[-1] <= record.last
        if not inside or not timely:
            raise TamperedError(f"{placement_name(track, number)} places a clip outside the video: {_SOUND}")

    def _decrypt(self, track_id: int, name: str) -> bytes:
        try:
            return self.track_keys[track_id].decrypt(self.reader.entry(name))
        except WrongKeyError:  # the key opened the track's sheet, so it is the entry that is wrong
            raise TamperedError(f"{name} belongs to another track or was changed: {_SOUND}") from None


def _check_derivation(document: IndexDocument, key: SecretKey | TrackKey) -> None:
    """Of version 1, whose secret says from which key it derives."""
    digest = document.settings.video.sha256
    derived = bool(digest) and keys.video_secret(SecretKey(key.reveal()), bytes.fromhex(digest)) == document.secret
    if document.derived_from == str(key.recipient) and not derived:
        raise TamperedError("the video secret does not come from this key, though it says so: the index is forged")


def _owners_signature(manifest: Manifest, content: bytes, signature: bytes) -> bytes:
    """What the owner signed `content` with, b"" where nobody did. Raises TamperedError unless the run's key signed."""
    runs, owners = signature[:SIGNATURE_SIZE], signature[SIGNATURE_SIZE:]
    signed = SIGNED_AS_1 + content if manifest.version == 1 else SIGNED_AS + owners + content
    sized = len(owners) == (SIGNATURE_SIZE if manifest.owned else 0)
    if not sized or not Signer(bytes.fromhex(manifest.verify_key)).signed(signed, runs):
        raise TamperedError(f"{MANIFEST_ENTRY} was changed: {_SOUND}")
    return owners


def _count_segments(names: Iterable[str]) -> dict[int, int]:
    """Track -> number of segments. Raises TamperedError unless each has its sheet and its segments without a gap."""
    found: Counter[int] = Counter()
    names = set(names)
    for name in names:
        if (match := _TRACK_ENTRY.fullmatch(name)) is None:
            raise TamperedError(f"an entry has a name that this program never gives: {_SOUND}")
        found[int(match[1])] += match[2] is not None
    tracks = {track: count // 2 for track, count in sorted(found.items())}
    if names != {name for track, count in tracks.items() for name in _track_names(track, count)}:
        raise TamperedError(f"segments or sheets of a track are missing: {_SOUND}")
    return tracks


def _largest(name: str) -> int:
    """Bytes that an entry may have."""
    if name == INDEX_ENTRY:
        return limits.sealed(limits.INDEX)
    if name.endswith("/track.age"):
        return limits.sealed(limits.SHEET)
    return limits.sealed(limits.PLACEMENT if name.endswith(".json.age") else limits.CLIP)


def _track_names(track: int, count: int) -> Iterator[str]:
    yield track_name(track)
    for number in range(count):
        yield clip_name(track, number)
        yield placement_name(track, number)


def _refuse_other_files(stream: BinaryIO) -> None:
    """A file that neither begins nor ends like an index was never one; anything else is one, perhaps a damaged one."""
    stream.seek(0)
    head = stream.read(64)
    size = stream.seek(0, 2)
    stream.seek(max(0, size - 512))
    begins = head.startswith(b"PK\3\4") and head[30:].startswith((b"tracks/", INDEX_ENTRY.encode()))
    if not begins and SIGNATURE_ENTRY.encode() not in stream.read():
        raise IndexFileError("not a track index: give the .rvx file, or the video that one is embedded in")


def _refuse_other_versions(stream: BinaryIO) -> None:
    """Read leniently, since another version may be laid out in another way."""
    version = _any_version(stream)
    if version not in (None, *READ):
        known = " and ".join(map(str, READ))
        raise VersionError(f"the index has format version {version}, this program knows {known}: use a newer revisage")


def _any_version(stream: BinaryIO) -> int | None:
    try:
        if archive.directory_size(stream) > limits.DIRECTORY:
            return None
        with zipfile.ZipFile(stream) as file:
            info = file.getinfo(MANIFEST_ENTRY)
            limit = limits.MANIFEST if info.compress_type == zipfile.ZIP_STORED else limits.INFLATED
            return announced_version(file.read(info)) if info.file_size <= limit else None
    except Exception:  # whatever is wrong with the file, the strict reader is to say it
        return None


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = (error.strerror or "unknown reason").lower()
        raise IndexFileError(f"cannot read the index ({why}): check its name and its folder") from None
