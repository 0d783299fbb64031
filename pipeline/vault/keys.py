"""Every secret: key files, and all derivation, one label a purpose. Knows no index, no video and no file but key files.

What makes faces and what seals have nothing in common, so that a key given away for one run opens no other:

    age identity (32 bytes) ── HKDF, salt = SHA-256 of the input ──►  face secret (or it is random)
    face secret ── HKDF ──►  a track's face, or a person's, which all tracks of that person share
    a face ── HKDF, then ChaCha20 ──►  identity code and noise
    system's random source ──►  seal secret, a fresh one for every run
    seal secret ── HKDF ──►  track identity (an ordinary age identity), one per track
    seal secret ── HKDF ──►  Ed25519 key of the run, which binds its entries together
    track identity ── HKDF, then ChaCha20 ──►  the noise and signs that hide a latent in that track's pixels
    age identity ── HKDF ──►  Ed25519 key of the owner, who alone can sign with it

Version 1 of the index had one secret for faces and seals, the video secret `V`, derived as the face secret is: `V` is
read, and made no more. A track's streams come from its identity alone, so whoever holds the track key reproduces them;
from a track key nobody gets back to the seal secret, or across to another track. A face opens nothing: it is no age
identity. HKDF is RFC 5869 with SHA-256, ChaCha20 is RFC 8439, key files and recipients follow age-encryption.org/v1.
Objects here never show a secret in `repr` or `str`; `reveal()` is the one way to it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

import bech32
import pyrage
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from revisage.pipeline.errors import KeyFileError, WrongKeyError

Purpose = Literal["identity", "noise", "signs"]

# One label a purpose. No label begins with another, and what follows a label has a fixed length.
_VIDEO: Final = b"revisage/v1/video"
_TRACK: Final = b"revisage/v1/track"
_PERSON: Final = b"revisage/v1/person"
_MANIFEST: Final = b"revisage/v1/manifest"
_INPUT: Final = b"revisage/v3/input"
_TRACK_FACE: Final = b"revisage/v3/track-face"
_PERSON_FACE: Final = b"revisage/v3/person-face"
_TRACK_SEAL: Final = b"revisage/v3/track-seal"
_RUN: Final = b"revisage/v3/run"
_OWNER: Final = b"revisage/v3/owner"
_STREAMS: Final[dict[Purpose, bytes]] = {
    "identity": b"revisage/v1/identity",
    "noise": b"revisage/v1/noise",
    "signs": b"revisage/v1/signs",
}

_SIZE: Final = 32  # bytes of every secret here
FILE_LIMIT: Final = 64 * 1024  # bytes of a key file
_TRACK_MARK: Final = "# revisage track key"
_SIGNER_MARK: Final = "# signer: "
_SIGNER_PREFIX: Final = "signer"  # of the text of an owner's public signing key, signer1…
_SECRET_PREFIX: Final = "AGE-SECRET-KEY-1"  # noqa: S105 (what every key begins with)
_ARMOR: Final = b"-----BEGIN AGE ENCRYPTED FILE-----"
_ENCRYPTED: Final = (b"age-encryption.org/", _ARMOR)


class _Secret:
    """32 bytes that do not print, compared in constant time."""

    __slots__ = ("_raw",)

    def __init__(self, raw: bytes) -> None:
        if len(raw) != _SIZE:
            raise ValueError(f"a secret has {_SIZE} bytes, not {len(raw)}")
        self._raw = bytes(raw)

    def reveal(self) -> bytes:
        """The 32 secret bytes."""
        return self._raw

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and hmac.compare_digest(self._raw, other._raw)

    def __hash__(self) -> int:
        return hash(hashlib.sha256(self._raw).digest())

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class VideoSecret(_Secret):
    """`V` of an index of version 1: whoever has it opens every track of every such run of one video under one key."""

    __slots__ = ()


class FaceSecret(_Secret):
    """What the new faces of one video come from. It opens nothing."""

    __slots__ = ()

    @classmethod
    def random(cls) -> FaceSecret:
        """For processing with public keys only: nobody can derive it."""
        return cls(secrets.token_bytes(_SIZE))


class SealSecret(_Secret):
    """Whoever has it opens every track of one run, and nothing of any other run."""

    __slots__ = ()

    @classmethod
    def random(cls) -> SealSecret:
        """A fresh one: the sealed index alone holds it."""
        return cls(secrets.token_bytes(_SIZE))


class OwnerKey(_Secret):
    """What an owner signs with. Only the secret key gives it; no recipient and no track key does."""

    __slots__ = ()

    @property
    def signer(self) -> Signer:
        """The public half."""
        return Signer(self._private().public_key().public_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        """64 bytes, Ed25519."""
        return self._private().sign(message)

    def _private(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self._raw)


@dataclass(frozen=True, slots=True)
class Signer:
    """The public half of an `OwnerKey`: tells by whom an index was signed. Prints as `signer1…`."""

    raw: bytes  # 32

    def __str__(self) -> str:
        return str(bech32.bech32_encode(_SIGNER_PREFIX, bech32.convertbits(self.raw, 8, 5)))

    def signed(self, message: bytes, signature: bytes) -> bool:
        """Whether `signature` is this signer's under `message`."""
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


class _Identity(_Secret):
    """An age X25519 identity."""

    __slots__ = ("exposed", "trusted")

    def __init__(self, raw: bytes, *, exposed: bool = False, trusted: tuple[Signer, ...] = ()) -> None:
        super().__init__(raw)
        self.exposed = exposed  # its file can be read or written by others than its owner; worth a warning
        self.trusted = trusted  # whose signature its file says is to be believed

    @property
    def recipient(self) -> Recipient:
        """The public half."""
        return Recipient(str(self._age().to_public()))

    def decrypt(self, ciphertext: bytes) -> bytes:
        """The plaintext of a whole age file.

        Raises WrongKeyError, whether the key does not fit or the ciphertext is damaged: tell damage first, by a hash.
        """
        try:
            return bytes(pyrage.decrypt(ciphertext, [self._age()]))
        except pyrage.DecryptError:
            raise WrongKeyError("the key does not open this: use the key it was made for") from None

    def _age(self) -> pyrage.x25519.Identity:
        return pyrage.x25519.Identity.from_str(_identity_text(self._raw))


class SecretKey(_Identity):
    """The key of a person or an organisation; opens every video made for it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<SecretKey for {self.recipient}>"

    @property
    def owner(self) -> OwnerKey:
        """What its holder signs with."""
        return OwnerKey(_hkdf(self, _OWNER))

    @classmethod
    def generate(cls) -> SecretKey:
        """A new one, from the system's random source."""
        return cls(secrets.token_bytes(_SIZE))


class TrackKey(_Identity):
    """The key of one track of one run, and of nothing else (of version 1: of every run of one video)."""

    __slots__ = ()


class FaceKey(_Secret):
    """What a new face comes from. It decrypts nothing."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Recipient:
    """An age X25519 public key, `age1…`."""

    text: str

    def __str__(self) -> str:
        return self.text


class KeyStream:
    """ChaCha20's key stream under one derived key. Reading 3 bytes and then 5 gives what reading 8 gives."""

    _LIMIT = 64 << 32  # bytes before the 32-bit block counter would wrap

    def __init__(self, key: bytes) -> None:
        nonce = bytes(16)  # counter and nonce both 0: every stream has a key of its own
        self._cipher = Cipher(algorithms.ChaCha20(key, nonce), mode=None).encryptor()
        self._left = self._LIMIT

    def read(self, count: int) -> bytes:
        """The next `count` bytes."""
        if not 0 <= count <= self._left:
            raise ValueError("a key stream gives 256 GiB and no more")
        self._left -= count
        return self._cipher.update(bytes(count))


def face_secret(key: SecretKey, input_sha256: bytes) -> FaceSecret:
    """Of one input (`input_sha256`: 32 bytes): the same key and the same input give the same faces."""
    return FaceSecret(_hkdf(key, _INPUT, salt=_digest(input_sha256)))


def video_secret(key: SecretKey, input_sha256: bytes) -> VideoSecret:
    """`V` of one input (`input_sha256`: 32 bytes), as version 1 derived it."""
    return VideoSecret(_hkdf(key, _VIDEO, salt=_digest(input_sha256)))


def track_identity(secret: SealSecret | VideoSecret, track_id: int) -> TrackKey:
    """The age identity that opens track `track_id` (0 … 2^32-1) of what `secret` seals."""
    label = _TRACK if isinstance(secret, VideoSecret) else _TRACK_SEAL
    return TrackKey(_hkdf(secret, label + _u32(track_id)))


def face_key(secret: FaceSecret | VideoSecret, track_id: int, person: int | None) -> TrackKey | FaceKey:
    """What the new face of track `track_id` comes from: a face of its own, or the one of its `person` (1 … 2^32-1).

    In version 1 a track without a person got its face from its own identity.
    """
    if isinstance(secret, VideoSecret):
        own = person is None
        return track_identity(secret, track_id) if own else FaceKey(_hkdf(secret, _PERSON + _u32(person or 0)))
    which = _TRACK_FACE + _u32(track_id) if person is None else _PERSON_FACE + _u32(person)
    return FaceKey(_hkdf(secret, which))


def signing_key(secret: SealSecret | VideoSecret) -> Ed25519PrivateKey:
    """The key of a run: signs its manifest. Every recipient has it; who made the run is for the owner's key to say."""
    label = _MANIFEST if isinstance(secret, VideoSecret) else _RUN
    return Ed25519PrivateKey.from_private_bytes(_hkdf(secret, label))


def verify_key(secret: SealSecret | VideoSecret) -> bytes:
    """The 32 public bytes of `signing_key`."""
    return signing_key(secret).public_key().public_bytes_raw()


def parse_signer(text: str) -> Signer:
    """The signer that `signer1…` names. Raises KeyFileError."""
    prefix, raw = _unbech32(text.strip()) if len(text) < 200 else ("", b"")
    if prefix != _SIGNER_PREFIX or len(raw) != _SIZE:
        raise KeyFileError("not a signer (signer1 and 58 more characters): copy the whole line")
    return Signer(raw)


def track_stream(key: TrackKey | FaceKey, purpose: Purpose, segment: int = 0) -> KeyStream:
    """A stream of secret bytes of one track for one purpose; `segment` (0 … 2^32-1) makes independent ones."""
    return KeyStream(_hkdf(key, _STREAMS[purpose] + _u32(segment)))


def everyone(secret_keys: Sequence[SecretKey], recipients: Sequence[Recipient]) -> tuple[Recipient, ...]:
    """The public keys of `secret_keys`, then `recipients`; each once."""
    return tuple(dict.fromkeys([*(key.recipient for key in secret_keys), *recipients]))


def encrypt(plaintext: bytes, recipients: Sequence[Recipient]) -> bytes:
    """`plaintext` as an age file that every one of `recipients` (at least one) can open."""
    if not recipients:
        raise ValueError("encrypting to nobody would lose the data")
    return bytes(pyrage.encrypt(plaintext, [pyrage.x25519.Recipient.from_str(r.text) for r in recipients]))


def write_secret_key(path: Path, passphrase: str | None = None) -> SecretKey:
    """Make a key, write it to `path` (new, mode 0600), return it.

    The file is what age-keygen writes; with a passphrase it is an armored age file that holds that.
    Raises KeyFileError where `path` exists or cannot be written.
    """
    if passphrase == "":
        raise KeyFileError("the passphrase is empty: choose one, or make a key without")
    key = SecretKey.generate()
    text = _key_file(key, [f"{_SIGNER_MARK}{key.owner.signer}"]).encode()
    _write_new(path, pyrage.passphrase.encrypt(text, passphrase, armored=True) if passphrase else text)
    return key


def write_track_key(path: Path, key: TrackKey, comments: Sequence[str] = (), signer: Signer | None = None) -> None:
    """Write `key` to `path` (new, mode 0600), with one line per comment. Raises KeyFileError as `write_secret_key`.

    `signer`: whose signature its holder is to believe.
    """
    if any(not line.isprintable() for line in comments):
        raise ValueError("a comment is one printable line")
    trusted = [f"{_SIGNER_MARK}{signer}"] if signer is not None else []
    _write_new(path, _key_file(key, [_TRACK_MARK, *(f"# {line}" for line in comments), *trusted]).encode())


def read_key(path: Path, ask_passphrase: Callable[[], str] | None = None) -> SecretKey | TrackKey:
    """The key in an age identity file that holds exactly one; comments and empty lines may stand around it.

    `ask_passphrase` is called at most once, and only for a protected file. Which of the two classes comes back goes by
    the comment `write_track_key` leaves: a label for people, since an index tries what a key opens, not what it says.
    Comments `# signer: signer1…` name whose signatures the holder believes. Raises KeyFileError.
    """
    content, exposed = _read_small(path)
    return parse_key(content, path.name, ask_passphrase, exposed=exposed)


def parse_key(
    content: bytes, name: str, ask_passphrase: Callable[[], str] | None = None, *, exposed: bool = False
) -> SecretKey | TrackKey:
    """The key in the bytes of an identity file, as `read_key`; `name` is for messages. Raises KeyFileError."""
    if len(content) > FILE_LIMIT:
        raise KeyFileError(f"{name} is too large for a key file: check the name")
    if content.startswith(_ENCRYPTED):
        content = _unprotect(name, content, ask_passphrase)
    lines = _lines(name, content)
    raw = _only_identity(name, [line for line in lines if line and not line.startswith("#")])
    trusted = tuple(parse_signer(line[len(_SIGNER_MARK) :]) for line in lines if line.startswith(_SIGNER_MARK))
    return (TrackKey if _TRACK_MARK in lines else SecretKey)(raw, exposed=exposed, trusted=trusted)


def parse_recipient(text: str) -> Recipient:
    """A public key from `age1…`, or from a file that holds exactly one. Raises KeyFileError, which says what it got."""
    text = text.strip()
    if text.upper().startswith(_SECRET_PREFIX):
        raise KeyFileError("that is a secret key, not a public one: keep it to yourself and pass its age1… line")
    if text.startswith("age1"):
        return _recipient(text)
    if text.startswith("ssh-"):
        raise KeyFileError("ssh keys are not supported: make a key with revisage keygen or age-keygen")
    return _recipient_file(Path(text))


def _recipient(text: str) -> Recipient:
    prefix, raw = _unbech32(text)
    if prefix != "age" or len(raw) != _SIZE:
        raise KeyFileError("not an X25519 public key (age1 and 58 more characters): copy the whole line")
    return Recipient(text)


def _recipient_file(path: Path) -> Recipient:
    if not _is_file(path):
        raise KeyFileError("neither a public key (age1…) nor a file that holds one: check the spelling")
    lines = [line for line in _lines(path.name, _read_small(path)[0]) if line and not line.startswith("#")]
    if any(line.upper().startswith(_SECRET_PREFIX) for line in lines):
        raise KeyFileError(f"{path.name} holds a secret key: use it as --key, or pass its age1… line")
    if len(lines) != 1 or not lines[0].startswith("age1"):
        raise KeyFileError(f"{path.name} must hold exactly one public key, a line that starts with age1")
    return _recipient(lines[0])


def _only_identity(name: str, lines: Sequence[str]) -> bytes:
    if len(lines) != 1:
        raise KeyFileError(f"{name} must hold exactly one secret key, and holds {len(lines)} lines that might be")
    if lines[0].startswith("age1"):
        raise KeyFileError(f"{name} holds a public key: a secret key is needed here")
    if not lines[0].startswith(_SECRET_PREFIX):
        raise KeyFileError(f"{name} holds no age X25519 key: make one with revisage keygen or age-keygen")
    prefix, raw = _unbech32(lines[0])
    if prefix != "age-secret-key-" or len(raw) != _SIZE:
        raise KeyFileError(f"the key in {name} is damaged: restore the file from a copy")
    return raw


def _unprotect(name: str, content: bytes, ask_passphrase: Callable[[], str] | None) -> bytes:
    if ask_passphrase is None:
        raise KeyFileError(f"{name} is protected by a passphrase, and nobody is there to ask for it")
    try:
        return bytes(pyrage.passphrase.decrypt(content, ask_passphrase()))
    except pyrage.DecryptError:
        raise KeyFileError(f"the passphrase does not open {name}: try again") from None


def _lines(name: str, content: bytes) -> list[str]:
    try:
        return [line.strip() for line in content.decode("utf-8").splitlines()]
    except UnicodeDecodeError:
        raise KeyFileError(f"{name} is not a key file: make one with revisage keygen") from None


def _read_small(path: Path) -> tuple[bytes, bool]:
    """The file's bytes, and whether others than its owner have any right to it."""
    try:
        with path.open("rb") as file:
            content = file.read(FILE_LIMIT + 1)
            exposed = os.name == "posix" and bool(os.fstat(file.fileno()).st_mode & 0o077)
    except (OSError, ValueError) as error:
        raise KeyFileError(f"cannot read {path.name}: {_reason(error)}") from None
    if len(content) > FILE_LIMIT:
        raise KeyFileError(f"{path.name} is too large for a key file: check the name")
    return content, exposed


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _write_new(path: Path, content: bytes) -> None:
    """Born with mode 0600 and only if the name is free: never overwritten, never readable for others."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise KeyFileError(f"{path.name} exists already and is kept: choose another name") from None
    except (OSError, ValueError) as error:
        raise KeyFileError(f"cannot write {path.name}: {_reason(error)}") from None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise KeyFileError(f"cannot write {path.name}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    return ((isinstance(error, OSError) and error.strerror) or "not a usable file name").lower()


def _key_file(key: _Identity, comments: Sequence[str]) -> str:
    created = datetime.now().astimezone().isoformat(timespec="seconds")
    lines = [*comments, f"# created: {created}", f"# public key: {key.recipient}", _identity_text(key.reveal())]
    return "\n".join(lines) + "\n"


def _identity_text(raw: bytes) -> str:
    return str(bech32.bech32_encode("age-secret-key-", bech32.convertbits(raw, 8, 5))).upper()


def _unbech32(text: str) -> tuple[str, bytes]:
    """Prefix and bytes (BIP 173); ("", b"") where the checksum, the case or the padding is wrong."""
    prefix, words = bech32.bech32_decode(text)
    raw = bech32.convertbits(words, 5, 8, False) if words is not None else None
    return ("", b"") if prefix is None or raw is None else (str(prefix), bytes(raw))


def _hkdf(secret: _Secret, info: bytes, salt: bytes | None = None) -> bytes:
    return HKDF(algorithm=SHA256(), length=_SIZE, salt=salt, info=info).derive(secret.reveal())


def _digest(sha256: bytes) -> bytes:
    if len(sha256) != _SIZE:
        raise ValueError("input_sha256 must be the 32 bytes of a SHA-256 digest")
    return sha256


def _u32(number: int) -> bytes:
    if not 0 <= number < 1 << 32:
        raise ValueError(f"{number} does not fit 32 bits")
    return struct.pack(">I", number)
