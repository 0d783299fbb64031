"""What an index says, as objects and as strict JSON. Knows no file, no encryption and nothing of what a clip holds.

Four documents, each one JSON object in an entry of its own:

| document        | entry                         | says                                                              |
|-----------------|-------------------------------|-------------------------------------------------------------------|
| `Manifest`      | manifest.json (public)        | which video this belongs to, which entries there are, who signs    |
| `IndexDocument` | index.age                     | the seal secret, how  the video was made, its tracks               |
| `TrackSheet`    | tracks/NNNN/track.age         | the same for the holder of one track key                           |
| `SegmentSheet`  | tracks/NNNN/SSSSSS.json.age   | where the clip tracks/NNNN/SSSSSS.age belongs, and its hash        |

Reading refuses unknown and repeated fields, numbers that are not finite, and anything over a size limit. Every sealed
document names the video, the verify key, and its own track and segment, so that an entry in a wrong place gives itself
away even to somebody who can open nothing else. All `from_json` raise TamperedError; messages name fields, no values.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import chain, pairwise
from typing import Any, Final, Literal, get_args

from jsonschema import Draft202012Validator

from revisage.pipeline import limits
from revisage.pipeline.errors import TamperedError
from revisage.pipeline.types import VideoInfo
from revisage.pipeline.vault.keys import SealSecret, Signer, VideoSecret

Json = Any  # what json.dumps takes: None, bool, int, finite float, str, lists, and dicts with str keys
Seal = Literal["visual", "lossless", "off"]

VERSION: Final = 3  # what is written
READ: Final = (1, 3)  # what is read; no program ever wrote a 2
MANIFEST_FORMAT: Final = "revisage-rvx"
CONTESTED: Final = 0  # the track of pixels that the masks of two faces share; recipients alone open it
INDEX_ENTRY: Final = "index.age"
MANIFEST_ENTRY: Final = "manifest.json"
SIGNATURE_ENTRY: Final = "manifest.sig"
# Before what is signed, so that a signature means nothing else:
SIGNED_AS_1: Final = b"revisage/v1/manifest\0"
SIGNED_AS: Final = b"revisage/v3/manifest\0"  # by the run's key, over the owner's signature and the manifest
OWNED_AS: Final = b"revisage/v3/owner\0"  # by the owner's key, over the manifest
SIGNATURE_SIZE: Final = 64  # bytes, Ed25519


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the manifest."""

    name: str
    size: int  # bytes, as stored
    sha256: str  # hex, of the bytes as stored


@dataclass(frozen=True, slots=True)
class Manifest:
    """The public part. Signed, so that nobody but the recipients can make another with this verify key.

    Where it is `owned`, the owner has signed it, too; by whom is sealed, so that a published index links no videos.
    """

    video_id: str  # 32 hex digits, random
    video_digest: str  # 64 hex digits, SHA-256 over the video packets of the anonymized file
    verify_key: str  # 64 hex digits, Ed25519
    entries: tuple[Entry, ...]  # in file order
    owned: bool = False  # manifest.sig holds an owner's signature as well; never in version 1
    version: int = VERSION

    def to_json(self) -> bytes:
        """Canonical bytes, which are what gets signed."""
        entries = [{"name": e.name, "size": e.size, "sha256": e.sha256} for e in self.entries]
        head = {"video_id": self.video_id, "video_digest": self.video_digest, "verify_key": self.verify_key}
        return _dump(MANIFEST_FORMAT, {**head, "owned": self.owned, "entries": entries})

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """The manifest in `data`."""
        version = announced_version(data)
        fields = _load(data, MANIFEST_FORMAT, MANIFEST_ENTRY, version if version in READ else VERSION)
        entries = tuple(_entry(e) for e in fields["entries"])
        head = fields["video_id"], fields["video_digest"], fields["verify_key"]
        return cls(*head, entries, fields.get("owned", False), fields["version"])


@dataclass(frozen=True, slots=True)
class Settings:
    """How the video was made: what every track key holder needs besides the track."""

    video: VideoInfo  # `sha256` (of the input) is "" for the holder of a track key
    generator: Mapping[str, Json]  # model and sampler parameters
    carry: float  # 0 … 1
    seal: Seal


@dataclass(frozen=True, slots=True, eq=False)
class TrackRecord:
    """One track."""

    id: int  # CONTESTED or from 1
    first: int  # frame number
    last: int  # frame number, inclusive
    segments: int  # how many are sealed
    geometry: Sequence[Json] = ()  # the caller's, for instance one item a frame
    person: int | None = None  # whose track it is, from 1, where several may be one person's; recipients alone learn it
    draw: int = 0  # which of its key's faces it got


@dataclass(frozen=True, slots=True, eq=False)
class IndexDocument:
    """What the recipients read."""

    secret: SealSecret | VideoSecret
    settings: Settings
    tracks: tuple[TrackRecord, ...]  # ids rising
    signer: Signer | None = None  # the owner, who signed the manifest; None: nobody did
    dropped: Mapping[str, Json] = field(default_factory=dict)  # container metadata that the output does not show
    kept: tuple[TrackRecord, ...] = ()  # people left as filmed, so that a verifier takes nobody else for them
    derived_from: str | None = None  # version 1: age1… of the key that `secret` is derived from

    def to_json(self, video_id: str) -> bytes:
        """Plaintext of `index.age`."""
        fields: dict[str, Json] = {
            "video_id": video_id,
            "secret": self.secret.reveal().hex(),
            "signer": _signer_json(self.signer),
            "settings": _settings_json(self.settings),
            "tracks": [_record_json(t) for t in self.tracks],
            "dropped": dict(self.dropped),
        }
        if self.kept:
            fields["kept"] = [_record_json(t) for t in self.kept]
        return _dump("revisage-index", fields)

    @classmethod
    def from_json(cls, data: bytes, video_id: str, version: int = VERSION) -> IndexDocument:
        """The document in `data`, which must be of `video_id`."""
        fields = _load(data, "revisage-index", INDEX_ENTRY, version)
        _expect(INDEX_ENTRY, fields, video_id=video_id)
        tracks = tuple(_record(t) for t in fields["tracks"])
        if any(a.id >= b.id for a, b in pairwise(tracks)):
            raise TamperedError(f"{INDEX_ENTRY} lists its tracks out of order: get a sound copy of the index")
        secret = (VideoSecret if version == 1 else SealSecret)(bytes.fromhex(fields["secret"]))
        kept = tuple(_record(t) for t in fields.get("kept", []))
        signer, derived_from = _signer(fields), fields.get("derived_from")
        return cls(secret, _settings(fields["settings"]), tracks, signer, fields["dropped"], kept, derived_from)


@dataclass(frozen=True, slots=True)
class Binding:
    """Which index a sealed document belongs to."""

    video_id: str  # 32 hex digits
    verify_key: str  # 64 hex digits
    version: int = VERSION

    def fields(self) -> dict[str, str]:
        """What every document sealed to a track names."""
        return {"video_id": self.video_id, "verify_key": self.verify_key}


@dataclass(frozen=True, slots=True, eq=False)
class TrackSheet:
    """What the holder of a track key reads."""

    record: TrackRecord
    settings: Settings
    signer: Signer | None = None  # as in `IndexDocument`

    def to_json(self, binding: Binding) -> bytes:
        """Plaintext of `tracks/NNNN/track.age`; the hash of the input stays out of it, and who else is who."""
        settings = _settings_json(replace(self.settings, video=replace(self.settings.video, sha256="")))
        record = _record_json(replace(self.record, person=None))
        about = {"signer": _signer_json(self.signer), "record": record, "settings": settings}
        return _dump("revisage-track", {**binding.fields(), **about})

    @classmethod
    def from_json(cls, data: bytes, binding: Binding, track: int) -> TrackSheet:
        """The sheet in `data`, which must be of this video and track."""
        name = track_name(track)
        fields = _load(data, "revisage-track", name, binding.version)
        _expect(name, fields, **binding.fields())
        _expect(name, fields["record"], id=track)
        return cls(_record(fields["record"]), _settings(fields["settings"]), _signer(fields))


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the frames of one clip belong in the video."""

    canvas: tuple[int, int]  # width, height of the clip in pixels
    frames: tuple[int, ...]  # frame numbers, rising
    origins: tuple[tuple[int, int], ...]  # per frame: x, y of the clip's top left pixel in the frame
    pts: tuple[int, ...]  # per frame, in the video's time base
    extra: Mapping[str, Json] = field(default_factory=dict)  # the caller's

    def __post_init__(self) -> None:
        if not len(self.frames) == len(self.origins) == len(self.pts):
            raise ValueError("frames, origins and pts must be equally many")
        if any(a >= b for a, b in pairwise(self.frames)):
            raise ValueError("frames must rise")


@dataclass(frozen=True, slots=True)
class SegmentSheet:
    """Binds a clip to its place."""

    placement: Placement
    clip_sha256: str  # hex, of the clip's plaintext

    def to_json(self, binding: Binding, track: int, segment: int) -> bytes:
        """Plaintext of `tracks/NNNN/SSSSSS.json.age`."""
        where = {**binding.fields(), "track": track, "segment": segment}
        return _dump("revisage-segment", {**where, "clip_sha256": self.clip_sha256, **_placement_json(self.placement)})

    @classmethod
    def from_json(cls, data: bytes, binding: Binding, track: int, segment: int) -> SegmentSheet:
        """The sheet in `data`, which must be of this video, track and segment."""
        name = placement_name(track, segment)
        fields = _load(data, "revisage-segment", name, binding.version)
        _expect(name, fields, **binding.fields(), track=track, segment=segment)
        try:
            return cls(_placement(fields), fields["clip_sha256"])
        except ValueError:
            raise TamperedError(f"{name} contradicts itself: get a sound copy of the index") from None


def clip_name(track: int, segment: int) -> str:
    """Entry of a sealed clip."""
    return f"tracks/{track:04d}/{segment:06d}.age"


def placement_name(track: int, segment: int) -> str:
    """Entry of the sealed sheet that belongs to that clip."""
    return f"tracks/{track:04d}/{segment:06d}.json.age"


def track_name(track: int) -> str:
    """Entry of a track's sealed sheet."""
    return f"tracks/{track:04d}/track.age"


def announced_version(data: bytes) -> int | None:
    """The version that a manifest gives, looked for without reading anything else; None where it is no manifest."""
    if re.search(rb'"format"\s*:\s*"' + MANIFEST_FORMAT.encode() + b'"', data) is None:
        return None
    found = re.findall(rb'"version"\s*:\s*([0-9]{1,9})\s*[,}]', data)
    return int(found[-1]) if found else None


def _dump(name: str, fields: Mapping[str, Json]) -> bytes:
    document = {"format": name, "version": VERSION, **fields}
    data = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")
    if len(data) > _LIMITS[name]:
        raise ValueError(f"{name} is larger than a reader would take")
    if place := _violation(document, name):
        raise ValueError(f"{name} cannot hold what was given for {place}")
    return data


def _load(data: bytes, form: str, name: str, version: int = VERSION) -> dict[str, Json]:
    if len(data) > _LIMITS[form]:
        raise TamperedError(f"{name} is larger than any this program writes: get a sound copy of the index")
    try:
        fields = json.loads(
            data.decode("utf-8"), object_pairs_hook=_no_repeats, parse_constant=_refuse, parse_float=_finite
        )
    except (ValueError, RecursionError):
        raise TamperedError(f"{name} is not the JSON this program writes: get a sound copy of the index") from None
    if place := _violation(fields, form, version):
        raise TamperedError(f"{name} does not follow its format at {place}: get a sound copy of the index")
    return dict(fields)


def _violation(fields: Json, form: str, version: int = VERSION) -> str | None:
    """The first place that does not follow the schema; never the value there, which may be a secret."""
    error = next(_VALIDATORS[form, version].iter_errors(fields), None)
    if error is not None:
        return "/".join(str(step) for step in error.absolute_path) or "its top"
    return _wrong_list(fields) if form == "revisage-segment" else None


def _wrong_list(fields: Mapping[str, Json]) -> str | None:
    """Which list of a placement holds what it may not. By hand: a schema takes a hundred times as long for a number."""
    if len(fields["frames"]) > limits.SEGMENT_FRAMES:
        return "frames"
    pairs_fit = all(type(pair) is list and len(pair) == 2 for pair in fields["origins"])
    numbers = {
        "frames": (fields["frames"], limits.FRAMES),
        "origins": (chain.from_iterable(fields["origins"]) if pairs_fit else [None], _PLACES),
        "pts": (fields["pts"], limits.INT64S),
    }
    for name, (values, allowed) in numbers.items():
        if not all(limits.is_whole(value, allowed) for value in values):
            return name
    return None


def _expect(name: str, fields: Mapping[str, Json], **expected: str | int) -> None:
    for key, value in expected.items():
        if fields[key] != value:
            raise TamperedError(f"{name} belongs elsewhere (its {key} is another): get a sound copy of the index")


def _no_repeats(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    if len(fields := dict(pairs)) != len(pairs):
        raise ValueError("repeated field")
    return fields


def _refuse(_: str) -> Json:
    raise ValueError("not a finite number")


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError("not a finite number")
    return number


def _entry(fields: Json) -> Entry:
    """Checked by hand: a long film has hundreds of thousands, too many for a schema."""
    if not isinstance(fields, dict) or fields.keys() != {"name", "size", "sha256"}:
        raise TamperedError(f"{MANIFEST_ENTRY} does not follow its format at entries: get a sound copy of the index")
    name, size, sha256 = fields["name"], fields["size"], fields["sha256"]
    sound = isinstance(name, str) and len(name) <= 64 and limits.is_whole(size, _COUNTS)
    if not sound or not isinstance(sha256, str) or _SHA256.fullmatch(sha256) is None:
        raise TamperedError(f"{MANIFEST_ENTRY} does not follow its format at entries: get a sound copy of the index")
    return Entry(name, size, sha256)


def _placement_json(place: Placement) -> dict[str, Json]:
    lists = {"frames": list(place.frames), "pts": list(place.pts), "origins": [list(o) for o in place.origins]}
    return {"canvas": list(place.canvas), **lists, "extra": dict(place.extra)}


def _placement(fields: Mapping[str, Json]) -> Placement:
    width, height = fields["canvas"]
    origins = tuple((x, y) for x, y in fields["origins"])
    return Placement((int(width), int(height)), tuple(fields["frames"]), origins, tuple(fields["pts"]), fields["extra"])


def _record_json(record: TrackRecord) -> dict[str, Json]:
    numbers = {"id": record.id, "first": record.first, "last": record.last, "segments": record.segments}
    person = {} if record.person is None else {"person": record.person}
    draw = {"draw": record.draw} if record.draw else {}
    return {**numbers, **person, **draw, "geometry": list(record.geometry)}


def _record(fields: Mapping[str, Json]) -> TrackRecord:
    number, first, last, segments = (int(fields[name]) for name in ("id", "first", "last", "segments"))
    person, draw = fields.get("person"), int(fields.get("draw", 0))
    return TrackRecord(number, first, last, segments, tuple(fields["geometry"]), person, draw)


def _signer_json(signer: Signer | None) -> str | None:
    return None if signer is None else signer.raw.hex()


def _signer(fields: Mapping[str, Json]) -> Signer | None:
    text = fields.get("signer")
    return None if text is None else Signer(bytes.fromhex(text))


def _settings_json(settings: Settings) -> dict[str, Json]:
    video = settings.video
    rate = video.time_base
    return {
        "video": {
            "width": video.width,
            "height": video.height,
            "pix_fmt": video.pix_fmt,
            "time_base": f"{rate.numerator}/{rate.denominator}",
            "frames": video.frames,
            "sha256": video.sha256,
        },
        "generator": dict(settings.generator),
        "carry": settings.carry,
        "seal": settings.seal,
    }


def _settings(fields: Mapping[str, Json]) -> Settings:
    video = fields["video"]
    info = VideoInfo(
        width=int(video["width"]),
        height=int(video["height"]),
        time_base=Fraction(video["time_base"]),
        pix_fmt=video["pix_fmt"],
        frames=int(video["frames"]),
        sha256=video["sha256"],
    )
    return Settings(info, fields["generator"], float(fields["carry"]), fields["seal"])


def _object(optional: Sequence[str] = (), **properties: Json) -> dict[str, Json]:
    """Schema of an object with exactly these fields, of which the `optional` ones may be missing."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _document(
    name: str, version: int, optional: Sequence[str], **properties: Json
) -> tuple[tuple[str, int], Draft202012Validator]:
    head = {"format": {"const": name}, "version": {"const": version}, "video_id": _hex(16)}
    return (name, version), Draft202012Validator(_object(optional, **head, **properties))


def _hex(size: int) -> dict[str, Json]:
    return {"type": "string", "pattern": rf"\A[0-9a-f]{{{2 * size}}}\Z"}


_FREE: Final = {"type": "object"}
_COUNTS: Final = range(1 << 32)
_PLACES: Final = range(limits.SIDES[-1])
_SHA256: Final = re.compile("[0-9a-f]{64}")
_FRAME: Final = {"type": "integer", "minimum": 0, "maximum": limits.FRAMES[-1]}
_SIDE: Final = {"type": "integer", "minimum": limits.SIDES[0], "maximum": limits.SIDES[-1]}
_COUNT: Final = {"type": "integer", "minimum": _COUNTS[0], "maximum": _COUNTS[-1]}
_LIST: Final = {"type": "array"}  # of numbers that `_wrong_list` looks at
_PAIR: Final = {"type": "array", "items": _SIDE, "minItems": 2, "maxItems": 2}
_RECORD: Final = _object(
    optional=["person", "draw"],
    id=_COUNT,
    first=_FRAME,
    last=_FRAME,
    segments=_COUNT,
    geometry={"type": "array"},
    person={"type": "integer", "minimum": 1, "maximum": 0xFFFF_FFFF},
    draw=_COUNT,
)
_SETTINGS: Final = _object(
    video=_object(
        width=_SIDE,
        height=_SIDE,
        pix_fmt={"type": "string", "maxLength": 64},
        time_base={"type": "string", "pattern": r"\A[1-9][0-9]{0,18}/[1-9][0-9]{0,18}\Z"},
        frames=_FRAME,
        sha256={"type": "string", "pattern": r"\A([0-9a-f]{64})?\Z"},
    ),
    generator=_FREE,
    carry={"type": "number", "minimum": 0, "maximum": 1},
    seal={"enum": list(get_args(Seal))},
)
_SIGNER: Final = {"anyOf": [{"type": "null"}, _hex(32)]}
_MANIFEST: Final = {"video_digest": _hex(32), "verify_key": _hex(32), "entries": {"type": "array"}}
_INDEX: Final = {
    "secret": _hex(32),
    "settings": _SETTINGS,
    "tracks": {"type": "array", "items": _RECORD},
    "dropped": _FREE,
    "kept": {"type": "array", "items": _RECORD, "minItems": 1},
}
_SHEET: Final = {"verify_key": _hex(32), "record": _RECORD, "settings": _SETTINGS}
_SEGMENT: Final = {
    "verify_key": _hex(32),
    "track": _COUNT,
    "segment": _COUNT,
    "clip_sha256": _hex(32),
    "canvas": _PAIR,
    "frames": _LIST,
    "origins": _LIST,
    "pts": _LIST,
    "extra": _FREE,
}
_DERIVED: Final = {"type": ["string", "null"], "maxLength": 90}
_LIMITS: Final = {
    MANIFEST_FORMAT: limits.MANIFEST,
    "revisage-index": limits.INDEX,
    "revisage-track": limits.SHEET,
    "revisage-segment": limits.PLACEMENT,
}
_VALIDATORS: Final = dict(
    [
        _document(MANIFEST_FORMAT, 1, [], **_MANIFEST),
        _document(MANIFEST_FORMAT, 3, [], owned={"type": "boolean"}, **_MANIFEST),
        _document("revisage-index", 1, ["kept"], derived_from=_DERIVED, **_INDEX),
        _document("revisage-index", 3, ["kept"], signer=_SIGNER, **_INDEX),
        _document("revisage-track", 1, [], **_SHEET),
        _document("revisage-track", 3, [], signer=_SIGNER, **_SHEET),
        _document("revisage-segment", 1, [], **_SEGMENT),
        _document("revisage-segment", 3, [], **_SEGMENT),
    ]
)
