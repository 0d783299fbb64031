"""Attacks on the key and on the track index: guessing, trying neighbours of the key, changing what is sealed.

Works on the index of an anonymized video, in memory, through the program's own reader. Knows no pixel.
"""

from __future__ import annotations

import hashlib
import io
import math
import secrets
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np

from revisage.models.latents import Stream, secret_signs, standard_normal
from revisage.pipeline.errors import IndexFileError, WrongKeyError
from revisage.pipeline.evaluation.report import Attack
from revisage.pipeline.media import video_digest
from revisage.pipeline.vault import archive, keys
from revisage.pipeline.vault.document import (
    INDEX_ENTRY,
    MANIFEST_ENTRY,
    SIGNATURE_ENTRY,
    SIGNED_AS,
    Entry,
    Manifest,
    clip_name,
    placement_name,
)
from revisage.pipeline.vault.index import open_index
from revisage.pipeline.vault.keys import SealSecret, SecretKey

KEY_BITS = 251  # free bits of an X25519 key (RFC 7748, section 5: five of the 256 are fixed by clamping)
CURVE_BITS = 126  # log2 of the work to find it from its public half, by Pollard's rho
_YEAR = 365.25 * 24 * 3600

Contents = Mapping[str, bytes]  # entry name -> its bytes, in file order


def random_keys(index: Path, tries: int = 100) -> Attack:
    """Keys drawn at random, as anybody can make."""
    content = index.read_bytes()
    opened = sum(_opens(content, SecretKey(secrets.token_bytes(32))) for _ in range(tries))
    outcome = f"{opened} of {tries} random keys open anything"
    return Attack("random wrong key", outcome, {"opened": opened, "tried": tries}, opened == 0)


def near_keys(index: Path, key: SecretKey) -> Attack:
    """Every key that differs from the right one in a single bit.

    X25519 ignores five bits of a key (RFC 7748, section 5), so that these five neighbours *are* the key.
    """
    content, raw = index.read_bytes(), key.reveal()
    flipped = (_with_bit(raw, bit) for bit in range(256))
    opened = sum(_opens(content, SecretKey(near)) for near in flipped)
    outcome = f"{opened} of 256 keys that differ in one bit open it: the five bits that X25519 ignores"
    return Attack("near key", outcome, {"opened": opened, "tried": 256}, opened <= 256 - KEY_BITS)


def brute_force(index: Path, toy_bits: int = 16) -> Attack:
    """A key that comes from a short seed falls to a search; the same search against a real key, by its measured rate.

    The published method draws its signs from a 32-bit seed (`torch.manual_seed`).
    """
    secret = secrets.randbelow(1 << toy_bits)
    sealed = keys.encrypt(b"a secret", [_toy_key(secret).recipient])
    began = time.perf_counter()
    found = next(seed for seed in range(1 << toy_bits) if _decrypts(_toy_key(seed), sealed))
    seconds = max(time.perf_counter() - began, 1e-6)
    rate = (found + 1) / seconds
    years = KEY_BITS * math.log10(2) - math.log10(rate * _YEAR)
    figures = {
        "toy_bits": toy_bits,
        "toy_seconds": seconds,
        "guesses_per_second": rate,
        "seed32_hours": 2**32 / rate / 3600,
        "key_log10_years": years,
        "key_log10_years_billion_machines": years - 9,
        "real_key_opened": _search(index, toy_bits),
    }
    outcome = (
        f"a toy seed of {toy_bits} bits fell in {seconds:.1f} s ({rate:.0f} guesses a second); a 32-bit seed would in "
        f"{figures['seed32_hours']:.0f} h; the key's {KEY_BITS} bits take 10^{years:.0f} years"
    )
    return Attack("brute force", outcome, figures, found == secret and figures["real_key_opened"] == 0)


def tampering(index: Path, video: Path, key: SecretKey, replayed: Path | None = None) -> Attack:
    """Entries changed, swapped, removed, added, re-signed, and replayed from another run of the same video.

    `replayed` is the index of that other run. Each must be refused, and nothing may be handed out before.
    """
    contents = _contents(index.read_bytes())
    digest = video_digest(video)
    cases = dict(_edits(contents))
    if replayed is not None:
        cases |= _replays(contents, _contents(replayed.read_bytes()))
    accepted = [name for name, changed in cases.items() if _accepted(_packed(changed), key, digest)]
    sound = _accepted(_packed(contents), key, digest)
    figures = {"tried": len(cases), "accepted": len(accepted), "sound_accepted": float(sound)}
    outcome = f"{len(accepted)} of {len(cases)} changed indexes accepted" + _named(accepted)
    return Attack("tampered, swapped, replayed entries", outcome, figures, sound and not accepted)


def independence(key: SecretKey, side: int = 64) -> Attack:
    """What two tracks, two videos and two stretches of time under one key have in common: noise and signs compared.

    Whoever learns one of them (a known frame) must know nothing of the others.
    """
    veils = [
        (standard_normal(_stream(key, video, track, "noise", stretch), (3 * side * side,)),
         secret_signs(_stream(key, video, track, "signs", stretch), (3 * side * side,)))
        for video, track, stretch in ((0, 1, 0), (0, 2, 0), (1, 1, 0), (0, 1, 1))
    ]  # fmt: skip
    pairs = list(combinations(veils, 2))
    noise = max(abs(float(np.corrcoef(a[0], b[0])[0, 1])) for a, b in pairs)
    signs = [float((a[1] == b[1]).mean()) for a, b in pairs]
    chance = 1 / math.sqrt(3 * side * side)
    worst = max(signs, key=lambda agreement: abs(agreement - 0.5))
    figures = {"noise_correlation": noise, "signs_agree": worst, "deviation_by_chance": chance}
    outcome = f"noise correlates by at most {noise:.3f} (chance {chance:.3f}), {worst:.1%} of the signs agree"
    return Attack("two tracks, videos, stretches", outcome, figures, max(noise, 2 * abs(worst - 0.5)) < 5 * chance)


# -- keys


def _stream(key: SecretKey, video: int, track: int, purpose: keys.Purpose, stretch: int) -> Stream:
    secret = SealSecret(hashlib.sha256(key.reveal() + bytes([video])).digest())
    return keys.track_stream(keys.track_identity(secret, track), purpose, stretch).read


def _with_bit(raw: bytes, bit: int) -> bytes:
    changed = bytearray(raw)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _opens(content: bytes, key: SecretKey) -> bool:
    with open_index(io.BytesIO(content)) as reader:
        try:
            reader.unlock(key)
        except WrongKeyError:
            return False
        except IndexFileError:  # opened, and then found to be another's: the secret was out
            return True
    return True


def _toy_key(seed: int) -> SecretKey:
    return SecretKey(hashlib.sha256(f"revisage toy seed {seed}".encode()).digest())


def _search(index: Path, toy_bits: int) -> int:
    """How many of the toy keys open the real index; as many as half a second allows."""
    sealed = _contents(index.read_bytes())[INDEX_ENTRY]
    end = time.perf_counter() + 0.5
    opened = 0
    for seed in range(1 << toy_bits):
        opened += _decrypts(_toy_key(seed), sealed)
        if time.perf_counter() > end:
            break
    return opened


def _decrypts(key: SecretKey, sealed: bytes) -> bool:
    try:
        key.decrypt(sealed)
    except WrongKeyError:
        return False
    return True


# -- entries


def _contents(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return {name: file.read(name) for name in file.namelist()}


def _packed(contents: Contents) -> bytes:
    stream = io.BytesIO()
    writer = archive.ArchiveWriter(stream)
    for name, content in contents.items():
        writer.add(name, content)
    writer.close()
    return stream.getvalue()


def _edits(contents: Contents) -> Iterator[tuple[str, Contents]]:
    clips = [name for name in contents if name.endswith(".age") and ".json" not in name and name.count("/") == 2]
    clips = [name for name in clips if not name.endswith("track.age")]
    first = clips[0]
    for name in contents:
        yield f"{name}: a byte changed", {**contents, name: _flipped(contents[name])}
    for name in (first, placement_name(1, 0), INDEX_ENTRY, SIGNATURE_ENTRY):
        yield f"{name}: removed", {n: c for n, c in contents.items() if n != name}
    for other in clips[1:]:
        yield f"{first} and {other}: swapped", {**contents, first: contents[other], other: contents[first]}
    yield "an entry added", {clip_name(9999, 0): contents[first], **contents}
    yield "changed and signed by somebody else", _resigned({**contents, first: _flipped(contents[first])})


def _replays(contents: Contents, older: Contents) -> dict[str, Contents]:
    """Every entry that both have, taken from the other run."""
    common = [name for name in contents if name in older and contents[name] != older[name]]
    return {f"{name}: replayed": {**contents, name: older[name]} for name in common}


def _flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def _resigned(contents: Contents) -> Contents:
    """With a manifest that fits, under a signing key of the attacker's own."""
    attacker = SealSecret.random()
    inner = {n: c for n, c in contents.items() if n not in (MANIFEST_ENTRY, SIGNATURE_ENTRY)}
    entries = tuple(Entry(n, len(c), hashlib.sha256(c).hexdigest()) for n, c in inner.items())
    old = Manifest.from_json(contents[MANIFEST_ENTRY])
    verify_key = keys.verify_key(attacker).hex()
    manifest = replace(old, entries=entries, verify_key=verify_key, owned=False).to_json()
    signature = keys.signing_key(attacker).sign(SIGNED_AS + manifest)
    return {**inner, MANIFEST_ENTRY: manifest, SIGNATURE_ENTRY: signature}


def _accepted(data: bytes, key: SecretKey, digest: str) -> bool:
    """Would `recover` have handed out anything, from the first byte to the last?"""
    try:
        with open_index(io.BytesIO(data)) as reader:
            unlocked = reader.unlock(key)
            unlocked.check_video(digest)
            unlocked.verify_all()
    except IndexFileError:
        return False
    return True


def _named(accepted: list[str]) -> str:
    return f": {', '.join(accepted)}" if accepted else ""
