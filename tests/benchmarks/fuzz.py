"""Hostile files at the readers: plans, detections, indexes, labels and key files, made by generators that know them.

    python tests/benchmarks/fuzz.py KIND [--inputs N] [--seed S] [--corpus DIR]

KIND: plan, detections, index, label, key, or all. Half of the inputs are a sound file in which a few values were
exchanged for others of every type and size, or pieces cut, repeated and overwritten; the rest come from nothing but the
grammar. Whatever is read or refused with a documented error is well; anything else is printed with the input's number
and seed, which make it again. Time and memory of each input are bounded. The last line is
JSON. The seeds of the corpus, `tests/corpus`, are read first.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import random
import resource
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from test_index import _document, _make, _pack, _placement

from revisage.pipeline.detections import parse_json, parse_mot
from revisage.pipeline.errors import RevisageError
from revisage.pipeline.plan import parse_plan
from revisage.pipeline.vault import document, keys
from revisage.pipeline.vault.document import IndexDocument, Manifest, SegmentSheet, TrackSheet
from revisage.pipeline.vault.index import open_index
from revisage.pipeline.vault.keys import FaceSecret, SealSecret, SecretKey
from revisage.pipeline.vault.label import PREFIX, Label, LabelTrack
from revisage.pipeline.verification.expected import expected

CORPUS = Path(__file__).parent.parent / "corpus"
KEY, SECRET = SecretKey(bytes(range(32))), SealSecret(bytes(range(1, 33)))
SLOWEST, LARGEST = 2.0, 512 << 20  # seconds of one input, bytes that the process may grow by over a thousand of them

Random = random.Random
Read = Callable[[bytes], object]


# -- values and mutations ----------------------------------------------------------------------------------------------

NUMBERS: list[Any] = [
    0, -1, 1, 2, 3, 7, 127, 255, 65_535, 65_536, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53, 2**63 - 1, 2**63, -(2**63),
    10**40, 0.0, -0.0, 0.5, 1e-320, 1e308, -1e308, 5_000, -5_000, 20_000, 900_000, -900_000, 1e6, 1.5,
]  # fmt: skip
WORDS = [
    "", "a", "\0", "\x1b[2J", "\u202e", "\ud800", "../../x", "face", "head", "detected", "visual", "off", "x" * 300,
    "NaN", "1/0", "1/1000", "0" * 64, "f" * 64, "AGE-SECRET-KEY-1", "signer1", "age1", "9" * 30,
]  # fmt: skip


def value(rng: Random, depth: int = 0) -> Any:
    """Anything JSON can say."""
    kind = rng.randrange(8 if depth < 3 else 5)
    if kind < 2:
        return rng.choice(NUMBERS)
    if kind == 2:
        return rng.choice(WORDS)
    if kind == 3:
        return rng.choice([None, True, False])
    if kind == 4:
        return rng.uniform(-2000, 2000)
    if kind == 5:
        return {rng.choice(WORDS): value(rng, depth + 1) for _ in range(rng.randrange(4))}
    return [value(rng, depth + 1) for _ in range(rng.randrange(6))]


def changed(rng: Random, data: Any) -> Any:
    """`data` with one place changed: a value, a name, a length."""
    places = list(_places(data, ()))
    return _with(data, rng.choice(places), lambda old: _other(rng, old)) if places else value(rng)


def _places(data: Any, path: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    children = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [path, *(place for name, child in children for place in _places(child, (*path, name)))]


def _with(data: Any, path: Sequence[Any], change: Callable[[Any], Any]) -> Any:
    if not path:
        return change(data)
    copy = data.copy()
    copy[path[0]] = _with(data[path[0]], path[1:], change)
    return copy


def _other(rng: Random, old: Any) -> Any:
    kind = rng.randrange(5)
    if isinstance(old, dict) and old and kind < 3:
        copy = dict(old)
        taken = copy.pop(rng.choice(list(copy)))
        if kind:
            copy[rng.choice(WORDS)] = taken
        return copy
    if isinstance(old, list) and old and kind < 3:
        at = rng.randrange(len(old))
        return old[:at] + old[at + 1 :] if kind == 0 else old[:at] + old[at:] * rng.choice([2, 3, 50])
    if isinstance(old, int | float) and not isinstance(old, bool) and kind < 2:
        return old + rng.choice([-1, 1, 0.5, 1000, -1000, 1_000_000])
    return value(rng)


def text(rng: Random, data: Any) -> bytes:
    """As JSON, and at times as what is nearly JSON."""
    made = json.dumps(data).encode()
    kind = rng.randrange(40)
    if kind == 0:
        return made.replace(b"1", b"1" + b"0" * rng.choice([5, 400, 5000]), 1)
    if kind == 1:
        return made.replace(b":", b":" + b"[" * rng.choice([3, 5000]), 1)
    if kind == 2:
        return made.replace(b"0", rng.choice([b"NaN", b"-Infinity", b"1e999"]), 1)
    return broken(rng, made) if kind == 3 else made


def broken(rng: Random, data: bytes) -> bytes:
    """Cut, repeat, overwrite, and flip."""
    for _ in range(rng.randint(1, 3)):
        a, b = sorted(rng.randrange(len(data) + 1) for _ in range(2))
        piece = rng.choice([b"", data[a:b] * 2, bytes(b - a), rng.randbytes(min(b - a, 40)), b"\xff" * (b - a)])
        data = data[:a] + piece + data[b:]
        if data and rng.random() < 0.5:
            at = rng.randrange(len(data))
            data = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
    return data


def rounds(rng: Random, sound: Any) -> Any:
    for _ in range(rng.choice([0, 1, 1, 1, 2, 3])):
        sound = changed(rng, sound)
    return sound


# -- the kinds ---------------------------------------------------------------------------------------------------------

PLAN: dict[str, Any] = {
    "format": "revisage-plan", "version": 1, "detector": "x", "notes": {"cuts": "1"}, "region": "face",
    "keep_parts": ["eyes"], "pts": [0, 1, 2],
    "video": {"width": 176, "height": 144, "time_base": "1/25", "pix_fmt": "yuv420p", "frames": 3, "sha256": "0" * 64},
    "tracks": [
        {"id": i, "keep": False, "person": i, "draw": 1, "faces": [
            {"frame": f, "box": [10, 10, 50, 60], "points": [[15, 20], [40, 20], [30, 30], [20, 45], [40, 45]],
             "origin": "detected", "score": 0.9, "landmarks": [20.0] * 270}
            for f in range(3)]}
        for i in (1, 2)
    ],
}  # fmt: skip
SMALL = {**PLAN, "tracks": [{**t, "faces": [{k: v for k, v in f.items() if k != "landmarks"} for f in t["faces"]]}
                            for t in PLAN["tracks"]]}  # fmt: skip


def plans(rng: Random) -> bytes:
    return text(rng, rounds(rng, SMALL if rng.random() < 0.9 else PLAN))


def read_plan(data: bytes) -> object:
    return parse_plan(data.decode("utf-8", "replace"))


DETECTIONS: dict[str, Any] = {
    "format": "revisage-detections", "version": 1, "faces": [
        {"frame": f, "box": [1, 2, 30, 40], "score": 0.5, "points": [[5, 9], [20, 9], [15, 20], [8, 30], [20, 30]]}
        for f in range(3)],
}  # fmt: skip


def detections(rng: Random) -> bytes:
    if rng.random() < 0.5:
        return b"J" + text(rng, rounds(rng, DETECTIONS))
    fields = [rng.choice(["1", "2", "-1", "10.5", "40", "", "x", "nan", "1e400", "9" * 5000, *map(str, NUMBERS)])
              for _ in range(rng.randint(5, 11))]  # fmt: skip
    sound = ["1", "-1", "10", "10", "40", "40", "0.9"]
    for _ in range(rng.randrange(3)):
        sound[rng.randrange(7)] = fields[0]
    return b"M" + "\n".join([",".join(sound), ",".join(fields)][: rng.randint(1, 2)]).encode()


def read_detections(data: bytes) -> object:
    body = data[1:].decode("utf-8", "replace")
    return parse_json(body) if data[:1] == b"J" else parse_mot(body)


INDEX = _make({0: 1, 1: 2, 2: 1}, secret=SECRET)
with open_index(io.BytesIO(INDEX)) as _reader:
    BINDING = _reader.binding
SHEETS: dict[str, dict[str, Any]] = {
    "manifest": json.loads(Manifest(BINDING.video_id, "0" * 64, BINDING.verify_key, (
        document.Entry("tracks/0001/track.age", 5, "0" * 64), document.Entry("index.age", 5, "0" * 64))).to_json()),
    "index": json.loads(replace(_document(SECRET, {1: 1}), tracks=(
        document.TrackRecord(1, 0, 9, 1, [[0, 1.0, 2.0, 30.0, 40.0, *[5.0] * 10]], 2, 1),)).to_json(BINDING.video_id)),
    "track": json.loads(TrackSheet(document.TrackRecord(1, 0, 9, 1, [[0, 1.0]]), _document(SECRET, {}).settings)
                        .to_json(BINDING)),
    "segment": json.loads(SegmentSheet(_placement(0), "0" * 64).to_json(BINDING, 1, 0)),
}  # fmt: skip


def indexes(rng: Random) -> bytes:
    """A document of it, sealed or public, or the file with pieces moved, or one whose ZIP alone is sound."""
    kind = rng.randrange(10)
    if kind < 8:
        name = rng.choice(["index", "index", "track", "segment", "manifest"])
        return name.encode() + b"\n" + text(rng, rounds(rng, SHEETS[name]))
    if kind == 8:
        return b"file\n" + broken(rng, INDEX)
    entries = {rng.choice(["tracks/0001/track.age", "index.age", "manifest.json", "manifest.sig", "x"]):
               text(rng, rounds(rng, SHEETS["manifest"])) for _ in range(rng.randint(1, 5))}  # fmt: skip
    return b"file\n" + _pack(entries)


def read_index(data: bytes) -> object:
    name, _, body = data.partition(b"\n")
    if name == b"manifest":
        return Manifest.from_json(body)
    if name == b"track":
        return TrackSheet.from_json(body, BINDING, 1)
    if name == b"segment":
        return SegmentSheet.from_json(body, BINDING, 1, 0)
    if name == b"index":
        return _whole(IndexDocument.from_json(body, BINDING.video_id))
    with open_index(io.BytesIO(body)) as reader:
        return reader.unlock(KEY).verify_all()


class _Opened:
    """What `expected` wants of an unlocked index."""

    def __init__(self, document: IndexDocument) -> None:
        self.document, self.settings = document, document.settings


def _whole(found: IndexDocument) -> object:
    return expected(_Opened(found))  # type: ignore[arg-type]


LABEL: dict[str, Any] = {
    "secret": base64.b64encode(bytes(32)).decode(), "faces": base64.b64encode(bytes(32)).decode(), "carry": 0.5,
    "generator": {"model": "x"}, "tracks": [[1, 0, 9, None, 0], [2, 3, 4, 7, 1]],
}  # fmt: skip
SEALED = Label(SECRET, FaceSecret(bytes(32)), 0.5, {"model": "x"}, (LabelTrack(1, 0, 9, None),)).sealed([KEY.recipient])


def labels(rng: Random) -> bytes:
    if rng.random() < 0.2:
        return broken(rng, SEALED.encode())
    return b"\0" + text(rng, rounds(rng, LABEL))


class _Open(SecretKey):
    """A key to which everything is open already: what is tried is what is inside."""

    __slots__ = ()

    def decrypt(self, ciphertext: bytes) -> bytes:
        return ciphertext


def read_label(data: bytes) -> object:
    if data[:1] == b"\0":
        return Label.opened(PREFIX + base64.b64encode(data[1:]).decode(), _Open(bytes(32)))
    return Label.opened(data.decode("utf-8", "replace"), KEY)


LINES = [
    keys._identity_text(bytes(range(32))), str(KEY.recipient), "# revisage track key", f"# signer: {KEY.owner.signer}",
    "# signer: signer1", "", "  ", "# a comment", "AGE-PLUGIN-X-1QQ", "ssh-ed25519 AAAA", "age-encryption.org/v1",
    "-----BEGIN AGE ENCRYPTED FILE-----", "-> scrypt AAAA 99", "--- AAAA",
]  # fmt: skip


def key_files(rng: Random) -> bytes:
    lines = [rng.choice(LINES) for _ in range(rng.randint(0, 5))]
    made = rng.choice(["\n", "\r\n", "\r"]).join(lines).encode()
    return broken(rng, made) if rng.random() < 0.6 else made


def read_key(data: bytes) -> object:
    return keys.parse_key(data, "fuzz", lambda: "passphrase")


KINDS: dict[str, tuple[Callable[[Random], bytes], Read]] = {
    "plan": (plans, read_plan),
    "detections": (detections, read_detections),
    "index": (indexes, read_index),
    "label": (labels, read_label),
    "key": (key_files, read_key),
}


# -- the run -----------------------------------------------------------------------------------------------------------


def tried(read: Read, data: bytes) -> str:
    """What came of one input: read, the name of a documented error, or a traceback."""
    try:
        read(data)
    except RevisageError as error:
        return type(error).__name__
    except Exception:
        return traceback.format_exc(limit=-4)
    return "read"


def fuzzed(kind: str, inputs: int, seed: int, corpus: Path) -> dict[str, Any]:
    """`inputs` of one kind: how many of each outcome, the slowest, and what broke."""
    make, read = KINDS[kind]
    outcomes: dict[str, int] = {}
    failures: list[str] = []
    slowest, first = 0.0, _memory()
    stored = sorted((corpus / kind).glob("*")) if corpus.is_dir() else []
    for number in range(-len(stored), inputs):
        data = stored[number].read_bytes() if number < 0 else make(Random(f"{seed}/{kind}/{number}"))
        began = time.perf_counter()
        outcome = tried(read, data)
        slowest = max(slowest, spent := time.perf_counter() - began)
        if "\n" in outcome or spent > SLOWEST:
            failures.append(f"{kind} {seed} {number}: {outcome} ({spent:.2f} s)")
            outcome = "FAILED"
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    grown = _memory() - first
    return {"kind": kind, "inputs": inputs, "corpus": len(stored), "seed": seed, "outcomes": outcomes,
            "slowest_s": round(slowest, 3), "grown_mb": round(grown / 1e6), "too_large": grown > LARGEST,
            "failures": failures[:20]}  # fmt: skip


def _memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("kind", choices=[*KINDS, "all"])
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--corpus", type=Path, default=CORPUS)
    args = parser.parse_args()
    results = [
        fuzzed(kind, args.inputs, args.seed, args.corpus) for kind in (KINDS if args.kind == "all" else [args.kind])
    ]
    for result in results:
        for failure in result["failures"]:
            print(failure)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
