"""Writes the stored vectors of version 3 into a new folder. Those in the repository are never written again.

    python tests/vectors/make.py FOLDER

What is sealed has a fresh random part each time, so no two runs give the same bytes; what must come of opening each is
in its name, and in docs/format.md.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from test_index import (
    INPUT,
    KEY,
    SECRET,
    STRANGER,
    _co_recipient,
    _contents,
    _drop,
    _edited,
    _first,
    _forged,
    _make,
    _swap,
    _take,
)

from revisage.pipeline.vault import keys
from revisage.pipeline.vault.document import clip_name, placement_name
from revisage.pipeline.vault.keys import SealSecret


def indexes() -> dict[str, bytes]:
    """Name -> bytes."""
    sound, short = _make({0: 1, 1: 2, 2: 2}), _make({1: 2})
    shared = _make({1: 2}, to=(KEY, STRANGER))
    a, b = clip_name(1, 0), clip_name(1, 1)
    swapped = _forged(sound, lambda c: _swap(a, b)(dict(_swap(placement_name(1, 0), placement_name(1, 1))(c))), SECRET)
    signature = _contents(sound)["manifest.sig"]
    return {
        "sound-owner": sound,
        "sound-unsigned": _make({1: 2}, owner=None),
        "sound-another-signer": _make({1: 2}, owner=STRANGER),
        "tampered-added": _edited(sound, _first("tracks/0009/track.age", b"x")),
        "tampered-byte": _edited(sound, lambda c: {**c, a: c[a][:-1] + bytes([c[a][-1] ^ 1])}),
        "tampered-cut": sound[: len(sound) * 2 // 3],
        "tampered-removed": _edited(sound, _drop(b, placement_name(1, 1))),
        "tampered-other-run": _edited(sound, _take(a, _make({0: 1, 1: 2, 2: 2}))),
        "tampered-resigned": _forged(sound, lambda c: c, SealSecret(b"\7" * 32)),
        "tampered-misplaced": swapped,
        "tampered-signature-cut": _edited(sound, lambda c: {**c, "manifest.sig": signature[:64]}),
        "tampered-co-recipient": _co_recipient(shared, lambda d: d, STRANGER),
        "version-4": _edited(sound, lambda c: {**c, "manifest.json": _newer(c["manifest.json"])}),
        "wrongkey": _make({1: 2}, to=(STRANGER,)),
        "mismatch": _forged(short, lambda c: c, SECRET, digest="0" * 64),
        "foreign": b"\x89PNG\r\n\x1a\n" + bytes(64),
    }


def _newer(manifest: bytes) -> bytes:
    return manifest.replace(b'"version":3', b'"version":4')


def derived() -> dict[str, object]:
    """Every derivation once."""
    seal, faces = SealSecret(bytes(range(100, 132))), keys.face_secret(KEY, INPUT)
    rows = []
    for track, person in ((0, None), (1, None), (2, 5), (4_294_967_295, None)):
        face = keys.face_key(faces, track, person)
        rows.append({
            "id": track, "person": person, "identity": keys.track_identity(seal, track).reveal().hex(),
            "identity16": keys.track_stream(face, "identity", 0).read(16).hex(),
        })  # fmt: skip
    return {
        "about": "fixed forever: a change here means that old videos can no longer be opened",
        "secret_key": KEY.reveal().hex(),
        "input_sha256": INPUT.hex(),
        "face_secret": faces.reveal().hex(),
        "seal_secret": seal.reveal().hex(),
        "verify_key": keys.verify_key(seal).hex(),
        "signer": str(KEY.owner.signer),
        "signature_of_revisage": KEY.owner.sign(b"revisage").hex(),
        "tracks": rows,
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True)
    for name, data in indexes().items():
        (folder / f"{name}.rvx").write_bytes(data)
    (folder / "keys.json").write_text(json.dumps(derived(), indent=1) + "\n")
