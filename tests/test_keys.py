"""Key files and derivation: fixed vectors, RFC values, modes, and that no secret ever prints."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import pickle
import re
import stat
from pathlib import Path

import pyrage
import pytest
from hypothesis import given
from hypothesis import strategies as st

from revisage.pipeline.errors import KeyFileError, WrongKeyError
from revisage.pipeline.vault import keys
from revisage.pipeline.vault.keys import FaceSecret, KeyStream, OwnerKey, SealSecret, SecretKey, TrackKey, VideoSecret

VECTORS = json.loads((Path(__file__).parent / "vectors" / "keys.json").read_text())
RAW = st.binary(min_size=32, max_size=32)


def _key() -> SecretKey:
    return SecretKey(bytes.fromhex(VECTORS["secret_key"]))


def _video() -> VideoSecret:
    return keys.video_secret(_key(), bytes.fromhex(VECTORS["input_sha256"]))


def _hkdf(secret: bytes, info: bytes, salt: bytes = bytes(32)) -> bytes:
    """RFC 5869 for one block, written out: the derivation must not hang on one library."""
    return hmac.digest(hmac.digest(salt, secret, "sha256"), info + b"\1", "sha256")


def test_stored_vectors_of_every_derivation() -> None:
    assert str(_key().recipient) == VECTORS["recipient"]
    assert _video().reveal().hex() == VECTORS["video_secret"]
    assert keys.verify_key(_video()).hex() == VECTORS["verify_key"]
    for vector in VECTORS["tracks"]:
        track = keys.track_identity(_video(), vector["id"])
        assert track.reveal().hex() == vector["identity"]
        assert str(track.recipient) == vector["recipient"]
        for stream in vector["streams"]:
            assert keys.track_stream(track, stream["purpose"], stream["segment"]).read(16).hex() == stream["first16"]


def test_derivation_is_hkdf_with_the_documented_labels() -> None:
    salt = bytes.fromhex(VECTORS["input_sha256"])
    video = _hkdf(_key().reveal(), b"revisage/v1/video", salt)
    track = _hkdf(video, b"revisage/v1/track" + (7).to_bytes(4, "big"))
    noise = _hkdf(track, b"revisage/v1/noise" + (2).to_bytes(4, "big"))
    assert _video().reveal() == video
    assert keys.track_identity(_video(), 7).reveal() == track
    assert keys.track_stream(TrackKey(track), "noise", 2).read(99) == KeyStream(noise).read(99)


def test_stored_vectors_of_version_3() -> None:
    vectors = json.loads((Path(__file__).parent / "vectors" / "3" / "keys.json").read_text())
    key, seal = SecretKey(bytes.fromhex(vectors["secret_key"])), SealSecret(bytes.fromhex(vectors["seal_secret"]))
    faces = keys.face_secret(key, bytes.fromhex(vectors["input_sha256"]))
    assert faces.reveal().hex() == vectors["face_secret"]
    assert str(key.owner.signer) == vectors["signer"]
    assert key.owner.sign(b"revisage").hex() == vectors["signature_of_revisage"]
    assert keys.verify_key(seal).hex() == vectors["verify_key"]
    for vector in vectors["tracks"]:
        assert keys.track_identity(seal, vector["id"]).reveal().hex() == vector["identity"]
        face = keys.face_key(faces, vector["id"], vector["person"])
        assert keys.track_stream(face, "identity", 0).read(16).hex() == vector["identity16"]


def test_version_3_is_hkdf_with_the_documented_labels() -> None:
    salt = bytes.fromhex(VECTORS["input_sha256"])
    faces, seal = keys.face_secret(_key(), salt), SealSecret(bytes(range(32)))
    assert faces.reveal() == _hkdf(_key().reveal(), b"revisage/v3/input", salt)
    own = _hkdf(faces.reveal(), b"revisage/v3/track-face" + (7).to_bytes(4, "big"))
    shared = _hkdf(faces.reveal(), b"revisage/v3/person-face" + (2).to_bytes(4, "big"))
    assert (keys.face_key(faces, 7, None).reveal(), keys.face_key(faces, 7, 2).reveal()) == (own, shared)
    track = _hkdf(seal.reveal(), b"revisage/v3/track-seal" + (7).to_bytes(4, "big"))
    assert keys.track_identity(seal, 7).reveal() == track
    assert _key().owner.reveal() == _hkdf(_key().reveal(), b"revisage/v3/owner")


def test_what_makes_faces_seals_nothing() -> None:
    """Faces are the same in every run of a film under a key; what seals is another in each."""
    digest = bytes.fromhex(VECTORS["input_sha256"])
    assert keys.face_secret(_key(), digest) == keys.face_secret(_key(), digest)
    assert not isinstance(keys.face_key(keys.face_secret(_key(), digest), 1, None), TrackKey)
    one, two = SealSecret.random(), SealSecret.random()
    assert keys.track_identity(one, 1) != keys.track_identity(two, 1)


def test_signers_are_read_as_they_are_printed() -> None:
    signer = _key().owner.signer
    assert keys.parse_signer(f" {signer}\n") == signer
    assert signer.signed(b"m", _key().owner.sign(b"m"))
    assert not signer.signed(b"n", _key().owner.sign(b"m"))
    assert not signer.signed(b"m", b"short")
    for wrong in ("", str(signer)[:-1], str(_key().recipient), "signer1" + "q" * 500, SECRET_LINE):
        with pytest.raises(KeyFileError, match="not a signer"):
            keys.parse_signer(wrong)


def test_key_files_say_whose_signature_to_believe(tmp_path: Path) -> None:
    made = keys.write_secret_key(tmp_path / "k")
    assert keys.read_key(tmp_path / "k").trusted == (made.owner.signer,)
    keys.write_track_key(tmp_path / "t", TrackKey(bytes(32)), signer=made.owner.signer)
    assert keys.read_key(tmp_path / "t").trusted == (made.owner.signer,)
    (tmp_path / "t").write_text(f"# signer: signer1broken\n{SECRET_LINE}\n")
    with pytest.raises(KeyFileError, match="not a signer"):
        keys.read_key(tmp_path / "t")


def test_key_stream_is_chacha20_of_rfc_8439() -> None:
    """Appendix A.1, test vectors 1 and 2: key 0, nonce 0, blocks 0 and 1."""
    blocks = KeyStream(bytes(32)).read(128)
    assert blocks[:16].hex() == "76b8e0ada0f13d90405d6ae55386bd28"
    assert blocks[64:80].hex() == "9f07e7be5551387a98ba977c732d080d"


@given(RAW, st.lists(st.integers(0, 300), max_size=8))
def test_key_stream_does_not_depend_on_how_it_is_read(key: bytes, sizes: list[int]) -> None:
    stream = KeyStream(key)
    assert b"".join(stream.read(n) for n in sizes) == KeyStream(key).read(sum(sizes))


def test_key_stream_ends_before_its_counter_wraps() -> None:
    stream = KeyStream(bytes(32))
    with pytest.raises(ValueError, match="256 GiB"):
        stream.read((64 << 32) + 1)
    with pytest.raises(ValueError, match="256 GiB"):
        stream.read(-1)


def test_all_derived_secrets_differ() -> None:
    video = _video()
    tracks = [keys.track_identity(video, i) for i in (0, 1, 2, 256, 1 << 24)]
    found = [video.reveal(), keys.verify_key(video), *(t.reveal() for t in tracks)]
    for track in tracks[:2]:
        found += [
            keys.track_stream(track, purpose, segment).read(32)
            for purpose in ("identity", "noise", "signs")
            for segment in (0, 1)
        ]
    assert len(set(found)) == len(found)


def test_no_label_begins_with_another() -> None:
    first = [keys._VIDEO, keys._TRACK, keys._PERSON, keys._MANIFEST, *keys._STREAMS.values()]
    third = [keys._INPUT, keys._TRACK_FACE, keys._PERSON_FACE, keys._TRACK_SEAL, keys._RUN, keys._OWNER]
    labels = [*first, *third]
    assert not [(a, b) for a in labels for b in labels if a is not b and b.startswith(a)]


@pytest.mark.parametrize("number", [-1, 1 << 32])
def test_ids_outside_32_bits_are_refused(number: int) -> None:
    with pytest.raises(ValueError, match="32 bits"):
        keys.track_identity(_video(), number)


def test_video_secret_depends_on_key_and_input() -> None:
    other = hashlib.sha256(b"another film").digest()
    assert keys.video_secret(_key(), other) != _video()
    assert keys.video_secret(SecretKey.generate(), bytes.fromhex(VECTORS["input_sha256"])) != _video()
    assert SealSecret.random() != SealSecret.random()
    assert FaceSecret.random() != FaceSecret.random()
    with pytest.raises(ValueError, match="32 bytes"):
        keys.video_secret(_key(), b"short")


@given(RAW)
def test_identity_text_is_what_age_reads(raw: bytes) -> None:
    age = pyrage.x25519.Identity.from_str(keys._identity_text(raw))
    assert str(age.to_public()) == str(SecretKey(raw).recipient)
    assert keys._unbech32(str(age)) == ("age-secret-key-", raw)


@given(RAW)
def test_no_secret_prints(raw: bytes) -> None:
    kinds = (SecretKey, TrackKey, VideoSecret, SealSecret, FaceSecret, OwnerKey, keys.FaceKey)
    shown = "".join(f"{s!r} {s} {[s]}" for s in (kind(raw) for kind in kinds))
    assert raw.hex() not in shown
    assert repr(raw) not in shown
    assert "AGE-SECRET" not in shown


def test_secrets_compare_by_value_and_kind() -> None:
    assert SecretKey(bytes(32)) == SecretKey(bytes(32))
    assert SecretKey(bytes(32)) != SecretKey(b"\1" * 32)
    assert SecretKey(bytes(32)) != TrackKey(bytes(32))
    assert len({SecretKey(bytes(32)), SecretKey(bytes(32)), VideoSecret(bytes(32))}) == 2
    assert pickle.loads(pickle.dumps(_key())) == _key()  # noqa: S301 (our own bytes; batch workers get keys this way)
    with pytest.raises(ValueError, match="32 bytes"):
        VideoSecret(b"short")


def test_encrypting_to_two_opens_with_each_and_with_nobody_else() -> None:
    one, two, other = (SecretKey.generate() for _ in range(3))
    sealed = keys.encrypt(b"face", [one.recipient, two.recipient])
    assert one.decrypt(sealed) == two.decrypt(sealed) == b"face"
    with pytest.raises(WrongKeyError):
        other.decrypt(sealed)
    with pytest.raises(ValueError, match="nobody"):
        keys.encrypt(b"face", [])


def test_secret_key_file_is_an_age_identity_file(tmp_path: Path) -> None:
    path = tmp_path / "k"
    made = keys.write_secret_key(path)
    public = str(made.recipient)
    signer_line, created, public_line, secret = path.read_text().splitlines()
    assert signer_line == f"# signer: {made.owner.signer}"
    assert re.fullmatch(r"# created: \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d", created)
    assert public_line == f"# public key: {public}"
    assert str(pyrage.x25519.Identity.from_str(secret).to_public()) == public
    key = keys.read_key(path)
    assert isinstance(key, SecretKey)
    assert str(key.recipient) == public
    assert not key.exposed


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_key_files_are_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        keys.write_secret_key(tmp_path / "k")
        keys.write_track_key(tmp_path / "t", TrackKey(bytes(32)))
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / n).stat().st_mode) for n in "kt"] == [0o600, 0o600]
    (tmp_path / "k").chmod(0o640)
    assert keys.read_key(tmp_path / "k").exposed


def test_key_files_are_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "k"
    path.write_text("precious")
    for write in (lambda: keys.write_secret_key(path), lambda: keys.write_track_key(path, TrackKey(bytes(32)))):
        with pytest.raises(KeyFileError, match="exists already"):
            write()
    assert path.read_text() == "precious"
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(KeyFileError, match="exists already"):
        keys.write_secret_key(tmp_path / "link")
    with pytest.raises(KeyFileError, match="cannot write"):
        keys.write_secret_key(tmp_path / "no" / "folder")


def test_a_full_disk_leaves_no_half_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(KeyFileError, match="no space left"):
        keys.write_secret_key(tmp_path / "k")
    assert not list(tmp_path.iterdir())


def test_passphrase_protects_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "k"
    public = str(keys.write_secret_key(path, "correct horse").recipient)
    assert b"SECRET-KEY" not in path.read_bytes()
    assert public.encode() not in path.read_bytes()
    assert str(keys.read_key(path, lambda: "correct horse").recipient) == public
    with pytest.raises(KeyFileError, match="does not open") as caught:
        keys.read_key(path, lambda: "wrong horse")
    assert "horse" not in str(caught.value)
    with pytest.raises(KeyFileError, match="nobody is there to ask"):
        keys.read_key(path)
    with pytest.raises(KeyFileError, match="empty"):
        keys.write_secret_key(tmp_path / "other", "")


def test_track_key_file_reads_back_as_one(tmp_path: Path) -> None:
    path = tmp_path / "t"
    track = keys.track_identity(_video(), 3)
    keys.write_track_key(path, track, ["video 00ff, track 3"])
    assert "# video 00ff, track 3\n" in path.read_text()
    read = keys.read_key(path)
    assert read == track
    assert isinstance(read, TrackKey)
    with pytest.raises(ValueError, match="one printable line"):
        keys.write_track_key(tmp_path / "u", track, ["two\nAGE-SECRET-KEY-1"])


SECRET_LINE = keys._identity_text(bytes(range(32)))
PUBLIC_LINE = str(SecretKey(bytes(range(32))).recipient)
BROKEN_LINE = SECRET_LINE[:-1] + ("Q" if SECRET_LINE[-1] != "Q" else "P")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "exactly one"),
        ("# only a comment\n", "exactly one"),
        (f"{SECRET_LINE}\n{SECRET_LINE}\n", "exactly one"),
        (f"{SECRET_LINE}\nrest", "exactly one"),
        (PUBLIC_LINE, "public key"),
        (BROKEN_LINE, "damaged"),
        (SECRET_LINE[:-4], "damaged"),
        (SECRET_LINE.capitalize(), "no age X25519"),
        ("AGE-PLUGIN-YUBIKEY-1QQQQ", "no age X25519"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "no age X25519"),
        ("age-encryption.org/v1\n-> scrypt broken", "does not open"),
        ("\ufeff" + SECRET_LINE, "no age X25519"),
        ("x" * 70_000, "too large"),
        (b"\xff\xfe\x00", "not a key file"),
    ],
)
def test_bad_key_files(tmp_path: Path, content: str | bytes, says: str) -> None:
    path = tmp_path / "k"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(KeyFileError, match=says) as caught:
        keys.read_key(path, lambda: "p")
    assert SECRET_LINE[20:40] not in str(caught.value)


def test_comments_blank_lines_and_windows_line_ends_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "k"
    path.write_bytes(f"# mine\r\n\r\n  {SECRET_LINE}  \r\n# end\r\n".encode())
    assert keys.read_key(path).reveal() == bytes(range(32))


def test_missing_key_file(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="cannot read"):
        keys.read_key(tmp_path / "none")
    with pytest.raises(KeyFileError, match="cannot read"):
        keys.read_key(tmp_path)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_key_or_a_key_file_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.key"
    path.write_bytes(content)
    with pytest.raises(KeyFileError):
        keys.read_key(path, lambda: "p")


def test_recipient_from_text_and_from_file(tmp_path: Path) -> None:
    assert str(keys.parse_recipient(f" {PUBLIC_LINE}\n")) == PUBLIC_LINE
    (tmp_path / "pub").write_text(f"# mine\n{PUBLIC_LINE}\n")
    assert str(keys.parse_recipient(str(tmp_path / "pub"))) == PUBLIC_LINE


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (SECRET_LINE, "secret key"),
        (SECRET_LINE.lower(), "secret key"),
        (PUBLIC_LINE[:-1], "not an X25519"),
        (PUBLIC_LINE[:10] + PUBLIC_LINE[10:].upper(), "not an X25519"),
        ("age1yubikey1qqqq", "not an X25519"),
        ("ssh-ed25519 AAAA", "ssh keys"),
        ("nowhere.pub", "neither a public key"),
        ("", "neither a public key"),
        ("a\0b", "neither a public key"),
        ("x" * 5000, "neither a public key"),
    ],
)
def test_bad_recipients(text: str, says: str) -> None:
    with pytest.raises(KeyFileError, match=says) as caught:
        keys.parse_recipient(text)
    assert SECRET_LINE[20:40] not in str(caught.value).upper()


def test_bad_recipient_files(tmp_path: Path) -> None:
    path = tmp_path / "pub"
    for content, says in ((SECRET_LINE, "holds a secret key"), ("", "exactly one"), (f"{PUBLIC_LINE}\n" * 2, "one")):
        path.write_text(content)
        with pytest.raises(KeyFileError, match=says):
            keys.parse_recipient(str(path))
