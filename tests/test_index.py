"""The track index: round trips, what each key opens, every way to damage or forge one, and atomic writing."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pyrage
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from revisage.pipeline.errors import (
    IndexFileError,
    MismatchError,
    OutputError,
    TamperedError,
    VersionError,
    WrongKeyError,
)
from revisage.pipeline.types import VideoInfo
from revisage.pipeline.vault import archive, keys
from revisage.pipeline.vault.document import (
    OWNED_AS,
    SIGNED_AS,
    Binding,
    Entry,
    IndexDocument,
    Manifest,
    SegmentSheet,
    TrackSheet,
    clip_name,
    placement_name,
    track_name,
)
from revisage.pipeline.vault.index import (
    CONTESTED,
    IndexWriter,
    Placement,
    Settings,
    TrackRecord,
    Unlocked,
    open_index,
)
from revisage.pipeline.vault.keys import SealSecret, SecretKey, Signer, TrackKey
from revisage.pipeline.vault.writer import next_path

VECTORS = Path(__file__).parent / "vectors"
KEY = SecretKey(bytes(range(32)))
STRANGER = SecretKey(bytes(range(1, 33)))
INPUT = hashlib.sha256(b"revisage test input").digest()
DIGEST = hashlib.sha256(b"packets").hexdigest()
SECRET = SealSecret(hashlib.sha256(b"revisage test run").digest())
SETTINGS = Settings(
    VideoInfo(64, 48, Fraction(1, 25), "yuv420p", 100, INPUT.hex()), {"model": "tiny", "steps": 4}, 0.0, "visual"
)
Edit = Callable[[dict[str, bytes]], Mapping[str, bytes]]


def _clip(track: int, segment: int) -> bytes:
    return f"clip {segment} of track {track}".encode()


def _placement(segment: int) -> Placement:
    frames = tuple(range(segment * 50, segment * 50 + 3))
    return Placement((16, 18), frames, ((0, 2), (2, 2), (4, 2)), tuple(2 * f for f in frames), {"mask": "in clip"})


def _document(secret: SealSecret, tracks: Mapping[int, int], signer: Signer | None = None) -> IndexDocument:
    records = tuple(TrackRecord(t, 0, 999, 0, [[0.5, t], None]) for t in tracks)
    return IndexDocument(secret, SETTINGS, records, signer, {"location": "+48.1/"})


def _make(
    tracks: Mapping[int, int],
    secret: SealSecret = SECRET,
    owner: SecretKey | None = KEY,
    to: Sequence[SecretKey] = (KEY,),
) -> bytes:
    """Bytes of an index with as many segments per track as `tracks` says, written through a file as always."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "v.rvx"
        signs = owner.owner if owner else None
        with IndexWriter(path, secret, [key.recipient for key in to], owner=signs) as writer:
            for segment in range(max(tracks.values(), default=0)):
                for track in (t for t, count in tracks.items() if segment < count):
                    writer.add_segment(track, segment, _clip(track, segment), _placement(segment))
            writer.finish(_document(secret, tracks), DIGEST)
        return path.read_bytes()


@pytest.fixture(scope="module")
def sound() -> bytes:
    return _make({CONTESTED: 1, 1: 2, 2: 2})


@pytest.fixture(scope="module")
def small() -> bytes:
    return _make({1: 1})


def _unlock(data: bytes, key: SecretKey | TrackKey = KEY) -> Unlocked:
    return open_index(io.BytesIO(data)).unlock(key)


def _contents(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return {name: file.read(name) for name in file.namelist()}


def _pack(contents: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    writer = archive.ArchiveWriter(stream)
    for name, content in contents.items():
        writer.add(name, content)
    writer.close()
    return stream.getvalue()


def _edited(data: bytes, edit: Edit) -> bytes:
    """An index with other entries and the old manifest, all ZIP structures sound."""
    return _pack(edit(_contents(data)))


def _forged(
    data: bytes,
    edit: Edit,
    signer: SealSecret,
    verify_key: str | None = None,
    owner: SecretKey | None = KEY,
    digest: str = DIGEST,
) -> bytes:
    """An index with other entries and a manifest to match, signed with `signer`, and by `owner`."""
    contents = _contents(data)
    old = Manifest.from_json(contents.pop("manifest.json"))
    del contents["manifest.sig"]
    changed = edit(contents)
    entries = tuple(Entry(n, len(c), hashlib.sha256(c).hexdigest()) for n, c in changed.items())
    verify_key = verify_key or keys.verify_key(signer).hex()
    head = replace(old, entries=entries, video_digest=digest, verify_key=verify_key)
    manifest = replace(head, owned=owner is not None).to_json()
    owners = owner.owner.sign(OWNED_AS + manifest) if owner else b""
    signature = keys.signing_key(signer).sign(SIGNED_AS + owners + manifest) + owners
    return _pack({**changed, "manifest.json": manifest, "manifest.sig": signature})


def _swap(a: str, b: str) -> Edit:
    return lambda contents: {**contents, a: contents[b], b: contents[a]}


def _take(name: str, other: bytes) -> Edit:
    return lambda contents: {**contents, name: _contents(other)[name]}


def _drop(*names: str) -> Edit:
    return lambda contents: {n: c for n, c in contents.items() if n not in names}


def _first(name: str, content: bytes) -> Edit:
    return lambda contents: {name: content, **contents}


# ---------------------------------------------------------------------------------------------------- what opens


def test_secret_key_opens_everything(sound: bytes) -> None:
    unlocked = _unlock(sound)
    assert unlocked.track_ids == (0, 1, 2)
    assert [unlocked.records[t].segments for t in unlocked.track_ids] == [1, 2, 2]
    assert (unlocked.authenticity, unlocked.signer) == ("owner", KEY.owner.signer)
    for track in unlocked.track_ids:
        expected = [(_placement(s), _clip(track, s)) for s in range(unlocked.records[track].segments)]
        assert list(unlocked.segments(track)) == expected
    document = unlocked.document
    assert document is not None
    assert (document.secret, document.settings, document.dropped) == (SECRET, SETTINGS, {"location": "+48.1/"})
    assert [list(r.geometry) for r in document.tracks] == [[[0.5, t], None] for t in (0, 1, 2)]
    unlocked.verify_all()


def test_track_key_opens_its_track_and_nothing_else(sound: bytes) -> None:
    granted = _unlock(sound).grant(2)
    unlocked = _unlock(sound, granted)
    assert unlocked.track_ids == (2,)
    assert unlocked.document is None
    assert (unlocked.authenticity, unlocked.signer) == ("unknown", KEY.owner.signer)
    told = open_index(io.BytesIO(sound)).unlock(granted, [KEY.owner.signer])
    assert told.authenticity == "known"
    assert [clip for _, clip in unlocked.segments(2)] == [_clip(2, 0), _clip(2, 1)]
    assert unlocked.settings == replace(SETTINGS, video=replace(SETTINGS.video, sha256=""))
    assert unlocked.grant(2) == granted
    unlocked.verify_all()
    for track in (0, 1):
        with pytest.raises(WrongKeyError, match="opens track 2 and no other"):
            unlocked.segments(track)
    opened = [n for n, c in _contents(sound).items() if n.endswith(".age") and _opens(granted, c)]
    assert {Path(n).parent.as_posix() for n in opened} == {"tracks/0002"}
    assert len(opened) == 5


def _opens(key: SecretKey | TrackKey, content: bytes) -> bool:
    try:
        key.decrypt(content)
    except WrongKeyError:
        return False
    return True


def test_what_a_key_file_calls_itself_does_not_matter(sound: bytes) -> None:
    assert _unlock(sound, SecretKey(keys.track_identity(SECRET, 1).reveal())).track_ids == (1,)
    assert _unlock(sound, TrackKey(KEY.reveal())).track_ids == (0, 1, 2)


def test_contested_pixels_are_never_granted(sound: bytes) -> None:
    with pytest.raises(IndexFileError, match="never granted"):
        _unlock(sound).grant(CONTESTED)


def test_unknown_track_is_named_with_the_known_ones(sound: bytes) -> None:
    with pytest.raises(IndexFileError, match="no track 7: choose from 1, 2"):
        _unlock(sound).grant(7)


def test_any_recipient_opens_it(tmp_path: Path) -> None:
    both = [KEY.recipient, STRANGER.recipient]
    with IndexWriter(tmp_path / "v", SECRET, both, owner=KEY.owner) as writer:
        writer.finish(_document(SECRET, {1: 0}), DIGEST)
    with open_index(tmp_path / "v") as reader:
        assert reader.unlock(KEY).authenticity == "owner"
        assert reader.unlock(STRANGER).authenticity == "unknown"
        assert reader.unlock(STRANGER, [KEY.owner.signer]).authenticity == "known"


def test_a_track_without_segments_still_opens_for_its_key() -> None:
    """`--seal off` with `--carry`: the holder of a track key needs the settings and the geometry."""
    unlocked = _unlock(_make({1: 0, 3: 0}), keys.track_identity(SECRET, 3))
    assert unlocked.records[3].geometry == ([0.5, 3], None)
    assert list(unlocked.segments(3)) == []


def test_wrong_key(sound: bytes) -> None:
    for key in (STRANGER, TrackKey(bytes(32)), keys.track_identity(SECRET, 9)):
        with pytest.raises(WrongKeyError, match="opens nothing"):
            _unlock(sound, key)


def test_other_video(sound: bytes) -> None:
    open_index(io.BytesIO(sound)).check_video(DIGEST)
    with pytest.raises(MismatchError):
        _unlock(sound).check_video("0" * 64)


def test_public_part_says_what_anybody_sees(sound: bytes) -> None:
    public = json.loads(json.dumps(open_index(io.BytesIO(sound)).public()))
    assert (public["format"], public["version"], public["video_digest"]) == ("revisage-rvx", 3, DIGEST)
    assert [(t["id"], t["segments"], t["contested"]) for t in public["tracks"]] == [
        (0, 1, True),
        (1, 2, False),
        (2, 2, False),
    ]


def test_nothing_secret_is_readable(sound: bytes) -> None:
    for secret in (SECRET.reveal(), KEY.reveal(), keys.track_identity(SECRET, 1).reveal()):
        assert secret not in sound
        assert secret.hex().encode() not in sound
    for plain in (b"clip 0 of", b"+48.1/", b"yuv420p", str(KEY.recipient).encode(), INPUT.hex().encode(),
                  KEY.owner.signer.raw.hex().encode(), KEY.owner.signer.raw):  # fmt: skip
        assert plain not in sound


def test_nothing_secret_prints(sound: bytes) -> None:
    unlocked = _unlock(sound)
    shown = f"{unlocked!r} {unlocked.document!r} {unlocked.track_keys!r} {unlocked}"
    for secret in (SECRET, KEY, *unlocked.track_keys.values()):
        assert secret.reveal().hex() not in shown
        assert repr(secret.reveal())[2:-1] not in shown


def test_age_alone_opens_a_clip(sound: bytes, tmp_path: Path) -> None:
    """The archive promise: a ZIP tool, age and the track key are enough."""
    track = keys.track_identity(SECRET, 2)
    keys.write_track_key(tmp_path / "t.key", track)
    sealed = _contents(sound)["tracks/0002/000001.age"]
    line = (tmp_path / "t.key").read_text().splitlines()[-1]
    assert pyrage.decrypt(sealed, [pyrage.x25519.Identity.from_str(line)]) == _clip(2, 1)
    if age := shutil.which("age"):
        (tmp_path / "c.age").write_bytes(sealed)
        done = subprocess.run(
            [age, "-d", "-i", tmp_path / "t.key", tmp_path / "c.age"], capture_output=True, check=True
        )
        assert done.stdout == _clip(2, 1)


def test_any_zip_tool_reads_it(sound: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(sound)) as file:
        assert file.testzip() is None
        assert {i.compress_type for i in file.infolist()} == {zipfile.ZIP_STORED}
        assert file.namelist()[-3:] == ["index.age", "manifest.json", "manifest.sig"]


# --------------------------------------------------------------------------------------------------- round trips

NAMES = st.text(max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 60), 1 << 60) | st.floats(allow_nan=False, allow_infinity=False)
    | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
U32 = st.integers(0, (1 << 32) - 1)
SIDE, FRAME = st.integers(1, 65_536), st.integers(0, (1 << 31) - 1)
SETTINGS_ANY = st.builds(
    Settings,
    st.builds(
        VideoInfo,
        SIDE,
        SIDE,
        st.builds(Fraction, st.integers(1, 90_000), st.integers(1, 90_000)),
        st.sampled_from(["yuv420p", "yuv422p10le"]),
        FRAME,
        st.just(INPUT.hex()),
    ),
    st.dictionaries(NAMES, JSON, max_size=3),
    st.floats(0, 1),
    st.sampled_from(["visual", "lossless", "off"]),
)
RECORDS = st.builds(TrackRecord, st.integers(0, 1 << 31), FRAME, FRAME, U32, st.lists(JSON, max_size=3), draw=U32)
PLACE, TIME = st.integers(0, 65_535), st.integers(-(1 << 62), 1 << 62)
FRAMES = st.lists(st.tuples(FRAME, PLACE, PLACE, TIME), max_size=5, unique_by=lambda f: f[0])
BINDING = Binding("ab" * 16, "cd" * 32)


@st.composite
def _placements(draw: st.DrawFn) -> Placement:
    rows = sorted(draw(FRAMES))
    extra = draw(st.dictionaries(NAMES, JSON, max_size=2))
    canvas = (draw(SIDE), draw(SIDE))
    return Placement(
        canvas, tuple(r[0] for r in rows), tuple((r[1], r[2]) for r in rows), tuple(r[3] for r in rows), extra
    )


@given(SETTINGS_ANY, st.lists(RECORDS, max_size=3, unique_by=lambda r: r.id), st.dictionaries(NAMES, JSON, max_size=3))
def test_documents_come_back_as_they_were(
    made: Settings, records: list[TrackRecord], dropped: dict[str, object]
) -> None:
    tracks = tuple(sorted(records, key=lambda r: r.id))
    document = IndexDocument(SECRET, made, tracks, KEY.owner.signer, dropped)
    read = IndexDocument.from_json(document.to_json("ab" * 16), "ab" * 16)
    assert (read.secret, read.settings, read.dropped, read.signer) == (SECRET, made, dropped, KEY.owner.signer)
    assert [_row(r) for r in read.tracks] == [_row(r) for r in tracks]
    for record in tracks:
        sheet = TrackSheet(record, made)
        again = TrackSheet.from_json(sheet.to_json(BINDING), BINDING, record.id)
        assert _row(again.record) == _row(record)
        assert again.settings.video.sha256 == ""


def _row(record: TrackRecord) -> tuple[object, ...]:
    return record.id, record.first, record.last, record.segments, record.draw, list(record.geometry)


@given(_placements(), st.integers(0, 9999), st.integers(0, 999_999))
def test_placements_come_back_and_only_to_their_place(place: Placement, track: int, segment: int) -> None:
    data = SegmentSheet(place, "0" * 64).to_json(BINDING, track, segment)
    assert SegmentSheet.from_json(data, BINDING, track, segment).placement == place
    elsewhere = [
        (BINDING, track + 1, segment),
        (BINDING, track, segment + 1),
        (replace(BINDING, video_id="00" * 16), track, segment),
        (replace(BINDING, verify_key="00" * 32), track, segment),
    ]
    for binding, other_track, other_segment in elsewhere:
        with pytest.raises(TamperedError, match="belongs elsewhere"):
            SegmentSheet.from_json(data, binding, other_track, other_segment)


@settings(max_examples=25)
@given(st.dictionaries(st.integers(0, 12_000), st.lists(st.binary(max_size=200), max_size=3), max_size=3))
def test_index_round_trip(tmp_path_factory: pytest.TempPathFactory, clips: dict[int, list[bytes]]) -> None:
    path = tmp_path_factory.getbasetemp() / "round.rvx"
    with IndexWriter(path, SECRET, [KEY.recipient], overwrite=True) as writer:
        for track, segments in clips.items():
            for number, clip in enumerate(segments):
                writer.add_segment(track, number, clip, _placement(number))
        writer.finish(_document(SECRET, dict.fromkeys(clips, 0)), DIGEST)
    with open_index(path) as reader:
        unlocked = reader.unlock(KEY)
        unlocked.verify_all()
        assert {t: [clip for _, clip in unlocked.segments(t)] for t in unlocked.track_ids} == clips


# -------------------------------------------------------------------------------------------------------- damage


def test_every_changed_byte_is_found_without_a_key(small: bytes) -> None:
    """In entries, in headers, in the directory: nothing in the file is free to change."""
    for position in range(len(small)):
        damaged = bytearray(small)
        damaged[position] ^= 1 << position % 8
        with pytest.raises(TamperedError):
            open_index(io.BytesIO(bytes(damaged))).check_entries()


def test_every_cut_is_found(small: bytes) -> None:
    for length in range(len(small)):
        # before the first name is there, nobody can tell what file this was to become
        with pytest.raises(TamperedError if length > 40 else IndexFileError):
            open_index(io.BytesIO(small[:length]))


@pytest.mark.parametrize("extra", [b"\0", b"PK\5\6" + bytes(18), b"x" * 70_000])
def test_bytes_before_or_after_are_found(small: bytes, extra: bytes) -> None:
    for data in (extra + small, small + extra):
        with pytest.raises(IndexFileError):
            open_index(io.BytesIO(data))


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_mutation_is_a_documented_error(sound: bytes, data: st.DataObject) -> None:
    """Overwrite, cut out, repeat or move pieces: whatever comes of it opens unchanged or raises an IndexFileError."""
    changed = sound
    for _ in range(data.draw(st.integers(1, 3))):
        a, b = sorted(data.draw(st.tuples(*[st.integers(0, len(changed))] * 2)))
        piece = data.draw(st.sampled_from([b"", changed[a:b] * 2, b"\0" * (b - a)]) | st.binary(max_size=40))
        changed = changed[:a] + piece + changed[b:]
    if changed == sound:
        return
    with pytest.raises(IndexFileError):
        _unlock(changed).verify_all()


@given(st.binary(max_size=400), st.sampled_from([b"", b"PK\3\4", b"PK\5\6", b"PK\3\4" + bytes(26) + b"tracks/"]))
def test_random_bytes_are_no_index(tail: bytes, head: bytes) -> None:
    with pytest.raises(IndexFileError):
        open_index(io.BytesIO(head + tail))


def test_other_files_are_called_what_they_are(tmp_path: Path) -> None:
    other = io.BytesIO()
    with zipfile.ZipFile(other, "w") as file:
        file.writestr("word/document.xml", "<w/>")
    for data in (b"", b"\x89PNG\r\n", other.getvalue()):
        with pytest.raises(IndexFileError, match="not a track index") as caught:
            open_index(io.BytesIO(data))
        assert caught.type is IndexFileError
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(IndexFileError, match="cannot read"):
            open_index(path)


# ------------------------------------------------------------------------- changed entries in a sound ZIP structure

A, B = clip_name(1, 0), clip_name(1, 1)
EDITS = {
    "segments swapped": _swap(A, B),
    "tracks swapped": _swap(A, clip_name(2, 0)),
    "placements swapped": _swap(placement_name(1, 0), placement_name(1, 1)),
    "entry removed": _drop(clip_name(1, 1)),
    "segment removed": _drop(clip_name(1, 1), placement_name(1, 1)),
    "track removed": _drop(track_name(0), clip_name(0, 0), placement_name(0, 0)),
    "index removed": _drop("index.age"),
    "manifest removed": _drop("manifest.json"),
    "signature removed": _drop("manifest.sig"),
    "entry added": _first("tracks/0009/track.age", b"x"),
    "foreign name added": _first("../../etc/passwd", b"x"),
    "one byte of a clip": lambda c: {**c, A: c[A][:-1] + bytes([c[A][-1] ^ 1])},
    "one byte of the signature": lambda c: {
        **c,
        "manifest.sig": bytes([c["manifest.sig"][0] ^ 1]) + c["manifest.sig"][1:],
    },
    "signature of another length": lambda c: {**c, "manifest.sig": c["manifest.sig"] + b"\0"},
    "manifest with a space": lambda c: {**c, "manifest.json": c["manifest.json"] + b" "},
    "manifest with another digest": lambda c: {
        **c,
        "manifest.json": c["manifest.json"].replace(DIGEST.encode(), b"0" * 64),
    },
    "manifest is no JSON": lambda c: {**c, "manifest.json": b"{"},
    "manifest is deep": lambda c: {**c, "manifest.json": b"[" * 100_000},
    "order changed": lambda c: dict(sorted(c.items(), reverse=True)),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
def test_changed_entries_are_found_without_a_key(sound: bytes, edit: Edit) -> None:
    with pytest.raises(TamperedError):
        open_index(io.BytesIO(_edited(sound, edit))).check_entries()


@pytest.mark.parametrize("name", [A, placement_name(2, 1), track_name(1), "index.age", "manifest.json", "manifest.sig"])
def test_entries_of_another_video_are_found(sound: bytes, name: str) -> None:
    """Even of one with the same seal secret."""
    other = _make({CONTESTED: 1, 1: 2, 2: 2})
    with pytest.raises(TamperedError):
        open_index(io.BytesIO(_edited(sound, _take(name, other)))).check_entries()


def test_a_repeated_name_is_refused(small: bytes) -> None:
    stream = io.BytesIO()
    writer = archive.ArchiveWriter(stream)
    for name, content in [*_contents(small).items()]:
        for _ in range(2 if name == clip_name(1, 0) else 1):
            writer.add(name, content)
    writer.close()
    with pytest.raises(TamperedError, match="repeated"):
        open_index(stream)


# ---------------------------------------------------------- forgeries with a manifest to match (the attacker re-signs)

FORGED_EDITS = {
    "as it was": lambda c: c,
    "segments swapped": _swap(A, B),
    "tracks swapped": _swap(A, clip_name(2, 0)),
    "last segment removed": _drop(clip_name(1, 1), placement_name(1, 1)),
    "track removed": _drop(track_name(2), *(f(2, s) for f in (clip_name, placement_name) for s in (0, 1))),
}


@pytest.mark.parametrize("edit", FORGED_EDITS.values(), ids=FORGED_EDITS.keys())
@pytest.mark.parametrize("key", [KEY, keys.track_identity(SECRET, 1)], ids=["secret key", "track key"])
def test_another_signer_is_found_by_every_key(sound: bytes, edit: Edit, key: SecretKey | TrackKey) -> None:
    forged = _forged(sound, edit, SealSecret(b"\7" * 32))
    open_index(io.BytesIO(forged)).check_entries()  # consistent in itself: only a key can tell
    with pytest.raises(TamperedError):
        _unlock(forged, key)


@pytest.mark.parametrize(
    "edit",
    [
        _drop(A),
        _drop(placement_name(1, 1)),
        _drop(A, placement_name(1, 0)),
        _drop(track_name(1)),
        _first("tracks/1/track.age", b""),
        _first("tracks/00001/track.age", b""),
        _first("tracks/../track.age", b""),
        _first("notes.txt", b""),
    ],
)
def test_gaps_and_foreign_names_are_refused_whoever_signed(sound: bytes, edit: Edit) -> None:
    with pytest.raises(TamperedError):
        open_index(io.BytesIO(_forged(sound, edit, SECRET)))


def test_the_true_verify_key_cannot_be_claimed(sound: bytes) -> None:
    forged = _forged(sound, lambda c: c, SealSecret(b"\7" * 32), keys.verify_key(SECRET).hex())
    with pytest.raises(TamperedError):
        open_index(io.BytesIO(forged))


MISPLACED = {
    "segments swapped": lambda c: _swap(A, B)(dict(_swap(placement_name(1, 0), placement_name(1, 1))(c))),
    "clips swapped": _swap(A, B),
    "placements swapped": _swap(placement_name(1, 0), placement_name(1, 1)),
    "clip of another track": _swap(A, clip_name(2, 0)),
    "segment of another track": lambda c: _swap(A, clip_name(2, 0))(
        dict(_swap(placement_name(1, 0), placement_name(2, 0))(c))
    ),
    "rubbish": lambda c: {**c, A: b"rubbish"},
}


@pytest.mark.parametrize("edit", MISPLACED.values(), ids=MISPLACED.keys())
@pytest.mark.parametrize("key", [KEY, keys.track_identity(SECRET, 1)], ids=["secret key", "track key"])
def test_segments_are_bound_to_their_place(sound: bytes, edit: Edit, key: SecretKey | TrackKey) -> None:
    """Not by the manifest alone: even under a true signature a segment in a wrong place is refused."""
    unlocked = _unlock(_forged(sound, edit, SECRET), key)
    with pytest.raises(TamperedError):
        list(unlocked.segments(1))


@pytest.mark.parametrize("key", [KEY, keys.track_identity(SECRET, 1)], ids=["secret key", "track key"])
def test_the_end_of_a_track_cannot_be_cut_off(sound: bytes, key: SecretKey | TrackKey) -> None:
    shortened = _forged(sound, _drop(clip_name(1, 1), placement_name(1, 1)), SECRET)
    with pytest.raises(TamperedError):
        _unlock(shortened, key)


def test_a_segment_of_a_second_run_is_refused(sound: bytes) -> None:
    """Even one that seals with the same secret, which this program never does twice."""
    other = _make({CONTESTED: 1, 1: 2, 2: 2})
    mixed = _forged(sound, lambda c: _take(A, other)(dict(_take(placement_name(1, 0), other)(c))), SECRET)
    with pytest.raises(TamperedError, match="video_id"):
        list(_unlock(mixed).segments(1))
    with pytest.raises(TamperedError, match="video_id"):
        _unlock(_forged(sound, _take("index.age", other), SECRET))


def test_an_index_forged_for_a_public_key_is_not_the_owners() -> None:
    """Anybody can make an index for a public key; nobody without the secret one can sign as its owner."""
    own = SealSecret(b"\7" * 32)
    assert _unlock(_make({1: 1}, secret=own, owner=None)).authenticity == "unsigned"
    assert _unlock(_make({1: 1}, secret=own, owner=STRANGER)).authenticity == "unknown"


def _co_recipient(data: bytes, fields: Callable[[IndexDocument], IndexDocument], owner: SecretKey | None) -> bytes:
    """What somebody makes who was a recipient of `data`: has its seal secret and its text, and writes another."""
    document = _unlock(data, STRANGER).document
    assert document is not None
    forged = fields(document)
    sealed = keys.encrypt(forged.to_json(open_index(io.BytesIO(data)).video_id), [KEY.recipient, STRANGER.recipient])
    binding = open_index(io.BytesIO(data)).binding

    def edit(contents: dict[str, bytes]) -> Mapping[str, bytes]:
        sheets = {
            track_name(t.id): keys.encrypt(
                TrackSheet(t, forged.settings, forged.signer).to_json(binding),
                [keys.track_identity(document.secret, t.id).recipient],
            )
            for t in forged.tracks
        }
        return {**contents, **sheets, "index.age": sealed}

    assert isinstance(document.secret, SealSecret)
    return _forged(data, edit, document.secret, owner=owner)


@pytest.fixture(scope="module")
def shared() -> bytes:
    return _make({1: 2, 2: 1}, to=(KEY, STRANGER))


def test_a_co_recipient_cannot_sign_as_the_owner(shared: bytes) -> None:
    """They have the run's own signing key; without the owner's secret key every way out shows."""
    assert _unlock(shared).authenticity == "owner"
    renamed = lambda d: replace(d, settings=replace(d.settings, generator={"model": "forged"}))  # noqa: E731
    with pytest.raises(TamperedError, match="another signer"):  # still names the owner, signs as themselves
        _unlock(_co_recipient(shared, renamed, STRANGER))
    with pytest.raises(TamperedError, match="another signer"):  # still names the owner, signs with nothing
        _unlock(_co_recipient(shared, renamed, None))
    signed = lambda d: replace(renamed(d), signer=STRANGER.owner.signer)  # noqa: E731
    unlocked = _unlock(_co_recipient(shared, signed, STRANGER))
    assert (unlocked.authenticity, unlocked.signer) == ("unknown", STRANGER.owner.signer)
    assert _unlock(_co_recipient(shared, lambda d: replace(renamed(d), signer=None), None)).authenticity == "unsigned"
    with pytest.raises(TamperedError, match="another signer"):  # the owner's signature of the sound one, moved over
        kept = _contents(shared)["manifest.sig"][64:]
        forged = _contents(_co_recipient(shared, renamed, None))
        manifest = forged["manifest.json"].replace(b'"owned":false', b'"owned":true')
        secret = _unlock(shared).document.secret  # type: ignore[union-attr]
        run = keys.signing_key(secret).sign(SIGNED_AS + kept + manifest)
        _unlock(_pack({**forged, "manifest.json": manifest, "manifest.sig": run + kept}))


def test_a_track_key_holder_sees_the_forgery_too(shared: bytes) -> None:
    granted = _unlock(shared).grant(1)
    assert open_index(io.BytesIO(shared)).unlock(granted, [KEY.owner.signer]).authenticity == "known"
    signed = _co_recipient(shared, lambda d: replace(d, signer=STRANGER.owner.signer), STRANGER)
    assert open_index(io.BytesIO(signed)).unlock(granted, [KEY.owner.signer]).authenticity == "unknown"


def test_without_a_key_one_signer_can_be_asked_for_and_none_is_shown(sound: bytes) -> None:
    reader = open_index(io.BytesIO(sound))
    assert reader.public()["signed"] is True
    assert reader.signed_by(KEY.owner.signer)
    assert not reader.signed_by(STRANGER.owner.signer)
    unsigned = open_index(io.BytesIO(_make({1: 1}, owner=None)))
    assert unsigned.public()["signed"] is False
    assert not unsigned.signed_by(KEY.owner.signer)


# ------------------------------------------------------------------- one run's keys open that run and no other


def test_keys_of_one_run_open_no_other_run_of_the_same_film() -> None:
    """Faces are the same, seals are not: a granted track key and a recipient stay with the run they were for."""
    first = _make({1: 1, 2: 1}, secret=SealSecret.random(), to=(KEY, STRANGER))
    second = _make({1: 1, 2: 1}, secret=SealSecret.random())
    for track in (1, 2):
        granted = _unlock(first).grant(track)
        with pytest.raises(WrongKeyError):
            _unlock(second, granted)
        assert not [name for name, content in _contents(second).items() if _opens(granted, content)]
    seen = _unlock(first, STRANGER).document
    assert seen is not None
    for track in (1, 2):
        with pytest.raises(WrongKeyError):
            _unlock(second, keys.track_identity(seen.secret, track))
    with pytest.raises(WrongKeyError):
        _unlock(second, STRANGER)


def test_index_of_another_secret_inside_is_found(sound: bytes) -> None:
    """`index.age` sealed anew to the public key, everything else untouched."""
    video_id = open_index(io.BytesIO(sound)).video_id
    fake = _document(SealSecret(b"\7" * 32), {0: 1, 1: 2, 2: 2}).to_json(video_id)
    sealed = keys.encrypt(fake, [KEY.recipient])
    with pytest.raises(TamperedError, match="different indexes"):
        _unlock(_forged(sound, lambda c: {**c, "index.age": sealed}, SECRET))


# ------------------------------------------------------------------------------------------------------- versions


@pytest.mark.parametrize("version", [0, 2, 4, 99])
def test_unknown_version_is_told_before_anything_else(small: bytes, version: int) -> None:
    def announce(contents: dict[str, bytes]) -> dict[str, bytes]:
        fields = {**json.loads(contents["manifest.json"]), "version": version, "news": []}
        return {**contents, "manifest.json": json.dumps(fields).encode(), "later/entry": b""}

    with pytest.raises(VersionError, match=f"version {version}"):
        open_index(io.BytesIO(_edited(small, announce)))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in announce(_contents(small)).items():
            file.writestr(name, content)
    with pytest.raises(VersionError):
        open_index(packed)


# ---------------------------------------------------------------------------------------------------- strict JSON

GOOD = IndexDocument(SECRET, SETTINGS, (TrackRecord(1, 0, 9, 1), TrackRecord(2, 0, 9, 1))).to_json("ab" * 16)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"version":3', b'"version":2'),
        (b'"version":3', b'"version":true'),
        (b'"version":3', b'"version":3,"version":3'),
        (b'"version":3', b'"version":3,"more":1'),
        (b'"version":3,', b""),
        (b'"carry":0.0', b'"carry":NaN'),
        (b'"carry":0.0', b'"carry":1e999'),
        (b'"carry":0.0', b'"carry":1.5'),
        (b'"frames":100', b'"frames":-1'),
        (b'"frames":100', b'"frames":1.5'),
        (b'"frames":100', b'"frames":' + b"9" * 5000),
        (b'"1/25"', b'"1/0"'),
        (b'"1/25"', b'"1/25\\n"'),
        (b'"visual"', b'"loud"'),
        (b'"id":1', b'"id":2'),
        (b'"id":1', b'"id":3'),
        (b'"steps":4', b'"steps":' + b"[" * 100_000),
        (b'"steps":4', b'"steps":1e999'),
        (b'"secret":"', b'"secret":"0'),
        (b'"model"', b'"\xff"'),
        (b"}", b""),
    ],
)
def test_documents_are_strict_and_silent(old: bytes, new: bytes) -> None:
    assert old in GOOD
    with pytest.raises(TamperedError) as caught:
        IndexDocument.from_json(GOOD.replace(old, new, 1), "ab" * 16)
    assert SECRET.reveal().hex()[:16] not in str(caught.value)


@pytest.mark.parametrize("place", ["frames", "origins", "pts"])
@pytest.mark.parametrize(
    "wrong", ["[true]", '["1"]', "[1.0]", "[null]", "[[1,2,3]]", "[[1,-1]]", "[99999999999999999999]"]
)
def test_placements_are_strict(place: str, wrong: str) -> None:
    fields = json.loads(SegmentSheet(Placement((2, 2), (3,), ((0, 0),), (7,)), "0" * 64).to_json(BINDING, 1, 0))
    data = json.dumps(fields | {place: json.loads(wrong)}).encode()
    with pytest.raises(TamperedError, match=place):
        SegmentSheet.from_json(data, BINDING, 1, 0)


def test_what_a_reader_would_refuse_is_not_written() -> None:
    with pytest.raises(ValueError, match="carry"):
        replace(_document(SECRET, {}), settings=replace(SETTINGS, carry=2.0)).to_json("ab" * 16)
    with pytest.raises(ValueError, match="rise"):
        Placement((2, 2), (3, 3), ((0, 0), (0, 0)), (1, 2))
    with pytest.raises(ValueError, match="equally many"):
        Placement((2, 2), (3, 4), ((0, 0),), (1, 2))


# --------------------------------------------------------------------------------------------------- the ZIP itself


def test_many_entries_use_zip64() -> None:
    stream = io.BytesIO()
    writer = archive.ArchiveWriter(stream)
    for number in range(65_540):
        writer.add(f"{number}", b"")
    writer.add("last", b"here")
    writer.close()
    members = archive.read_members(stream)
    assert len(members) == 65_541
    assert archive.read_content(stream, members[-1]) == b"here"
    with zipfile.ZipFile(stream) as file:
        assert len(file.namelist()) == 65_541
        assert file.read("last") == b"here"


def test_offsets_beyond_four_gigabytes(tmp_path: Path) -> None:
    """A sparse file stands in for the gigabytes."""
    start = (1 << 32) + 5
    member = archive.Member("far", 3, zlib.crc32(b"abc"), start)
    with (tmp_path / "far.zip").open("wb") as file:
        file.seek(start)
        file.write(archive._local_header(member) + b"abc" + archive.directory([member], member.end))
    with zipfile.ZipFile(tmp_path / "far.zip") as packed:
        assert packed.read("far") == b"abc"


def test_a_wrong_checksum_is_found() -> None:
    """In both headers alike, where no header contradicts another."""
    member = archive.Member("a", 3, 1, 0)
    stream = io.BytesIO(archive._local_header(member) + b"abc" + archive.directory([member], member.end))
    assert archive.read_members(stream) == (member,)
    with pytest.raises(TamperedError, match="a was changed"):
        archive.read_content(stream, member)


@pytest.mark.parametrize("name", ["", "x" * 65])
def test_names_an_archive_cannot_hold(name: str) -> None:
    with pytest.raises(ValueError, match="can hold"):
        archive.ArchiveWriter(io.BytesIO()).add(name, b"")


# ------------------------------------------------------------------------------------------------- writing, atomically


def _write(path: Path, *, overwrite: bool = False, fail: str = "") -> None:
    with IndexWriter(path, SECRET, [KEY.recipient], overwrite) as writer:
        writer.add_segment(1, 0, _clip(1, 0), _placement(0))
        if fail == "before":
            raise RuntimeError("before")
        writer.finish(_document(SECRET, {1: 1}), DIGEST)
        assert path.exists() == overwrite
        writer.commit()
        assert path.exists()
        assert next_path(path).exists() == overwrite
        if fail == "after":
            raise RuntimeError("after")


def test_an_error_leaves_no_trace(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="before"):
        _write(tmp_path / "v.rvx", fail="before")
    assert not list(tmp_path.iterdir())


def test_a_block_that_ends_well_commits_and_leaves_one_file(tmp_path: Path) -> None:
    with IndexWriter(tmp_path / "v.rvx", SECRET, [KEY.recipient]) as writer:
        writer.finish(_document(SECRET, {}), DIGEST)
    assert [p.name for p in tmp_path.iterdir()] == ["v.rvx"]


def test_an_unfinished_index_is_an_error_and_leaves_no_trace(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="finish"), IndexWriter(tmp_path / "v.rvx", SECRET, [KEY.recipient]):
        pass
    assert not list(tmp_path.iterdir())


def test_after_commit_an_error_deletes_nothing(tmp_path: Path) -> None:
    """The video may be in place by then: losing its index would lose the originals."""
    path = tmp_path / "v.rvx"
    path.write_bytes(b"the old index")
    with pytest.raises(RuntimeError, match="after"):
        _write(path, overwrite=True, fail="after")
    assert path.read_bytes() == b"the old index"
    _unlock(next_path(path).read_bytes()).verify_all()
    assert len(list(tmp_path.iterdir())) == 2


def test_overwriting_replaces_and_cleans_up(tmp_path: Path) -> None:
    path = tmp_path / "v.rvx"
    path.write_bytes(b"the old index")
    with pytest.raises(OutputError, match="exists already"):
        _write(path)
    assert path.read_bytes() == b"the old index"
    with pytest.raises(RuntimeError):
        _write(path, overwrite=True, fail="before")
    assert path.read_bytes() == b"the old index"
    _write(path, overwrite=True)
    _unlock(path.read_bytes()).verify_all()
    assert [p.name for p in tmp_path.iterdir()] == ["v.rvx"]


def test_a_name_taken_meanwhile_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "v.rvx"
    with (
        pytest.raises(OutputError, match="exists already"),
        IndexWriter(path, SECRET, [KEY.recipient]) as writer,
    ):
        path.write_bytes(b"somebody else's")
        writer.finish(_document(SECRET, {}), DIGEST)
    assert path.read_bytes() == b"somebody else's"
    assert [p.name for p in tmp_path.iterdir()] == ["v.rvx"]


def test_unwritable_places(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "none" / "v.rvx", tmp_path / "file" / "v.rvx"):
        with pytest.raises(OutputError, match="cannot write"):
            IndexWriter(path, SECRET, [KEY.recipient])


def test_a_full_disk_is_an_output_error_and_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archive.ArchiveWriter, "close", full)
    with pytest.raises(OutputError, match="no space left"):
        _write(tmp_path / "v.rvx")
    assert not list(tmp_path.iterdir())


def test_file_systems_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", no_links)
    monkeypatch.delattr("os.O_TMPFILE", raising=False)
    _write(tmp_path / "v.rvx")
    _unlock((tmp_path / "v.rvx").read_bytes()).verify_all()
    with pytest.raises(OutputError, match="exists already"):
        _write(tmp_path / "v.rvx")


def test_a_failed_rename_puts_the_old_index_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    path = tmp_path / "v.rvx"
    path.write_bytes(b"the old index")
    monkeypatch.setattr("revisage.pipeline.parts.Part.publish", broken)
    with pytest.raises(OutputError, match="input/output"):
        _write(path, overwrite=True)
    assert path.read_bytes() == b"the old index"
    assert [p.name for p in tmp_path.iterdir()] == ["v.rvx"]


def test_misuse_of_the_writer(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nobody"):
        IndexWriter(tmp_path / "a", SECRET, [])
    writer = IndexWriter(tmp_path / "b", SECRET, [KEY.recipient])
    with pytest.raises(ValueError, match="out of turn"):
        writer.add_segment(1, 1, b"", _placement(0))
    writer.add_segment(1, 0, b"", _placement(0))
    with pytest.raises(ValueError, match=r"does not list the sealed tracks \[1\]"):
        writer.finish(_document(SECRET, {2: 0}), DIGEST)
    with pytest.raises(ValueError, match="another seal secret"):
        writer.finish(_document(SealSecret(bytes(32)), {1: 1}), DIGEST)
    with pytest.raises(ValueError, match="finish"):
        writer.commit()
    writer.discard()
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="nothing can be added"):
        writer.add_segment(1, 1, b"", _placement(1))


# -------------------------------------------------------------------------------------------------- stored vectors

FAILURES = {
    "sound": None,
    "tampered": TamperedError,
    "version": VersionError,
    "wrongkey": WrongKeyError,
    "mismatch": MismatchError,
    "foreign": IndexFileError,
}
AUTHENTICITY = {"sound-derived": "unsigned", "sound-random": "unsigned", "sound-owner": "owner",
                "sound-unsigned": "unsigned", "sound-another-signer": "unknown"}  # fmt: skip
STORED = sorted([*(VECTORS / "1").glob("*.rvx"), *(VECTORS / "3").glob("*.rvx")])


@pytest.mark.parametrize("path", STORED, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_stored_vectors_keep_their_meaning(path: Path) -> None:
    """Written once and never again: named after what must come of opening them with the key of keys.json."""
    expected = FAILURES[path.stem.split("-")[0]]
    if expected is None:
        assert path.stem in AUTHENTICITY
        _open_fully(path)
        return
    with pytest.raises(expected) as caught:
        _open_fully(path)
    assert caught.type is expected


def _open_fully(path: Path) -> None:
    with open_index(path) as reader:
        assert reader.version == int(path.parent.name)
        reader.check_video(DIGEST)
        unlocked = reader.unlock(KEY)
        unlocked.verify_all()
        assert unlocked.authenticity == AUTHENTICITY.get(path.stem, unlocked.authenticity)
        assert [clip for _, clip in unlocked.segments(1)] == [_clip(1, 0), _clip(1, 1)]


@pytest.mark.parametrize("version", ["1", "3"])
def test_there_is_a_vector_for_every_failure(version: str) -> None:
    assert {p.stem.split("-")[0] for p in STORED if p.parent.name == version} == FAILURES.keys()


def test_track_keys_of_version_1_still_open_and_grant() -> None:
    """What was given away must go on working, in that one index and, alas, in its siblings."""
    with open_index(VECTORS / "1" / "sound-derived.rvx") as reader:
        granted = reader.unlock(KEY).grant(1)
        assert granted == keys.track_identity(keys.video_secret(KEY, INPUT), 1)
        unlocked = reader.unlock(granted)
        assert (unlocked.track_ids, unlocked.authenticity, reader.version) == ((1,), "unsigned", 1)
