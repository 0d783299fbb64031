"""What a video with carried faces says of itself in a tag of its container, for the day its index is lost.

A line of text: `revisage-3:` and, in Base64, an age file for the recipients of the index. In it, as JSON, the seal
secret and the face secret, how the pixels carry, and which tracks are when; no geometry, and nothing that anybody
without a key can read. Labels of version 1 (`revisage-1:`) have one secret for both. Knows no video and no container.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from revisage.pipeline import limits
from revisage.pipeline.errors import TamperedError, VersionError
from revisage.pipeline.vault import keys
from revisage.pipeline.vault.keys import FaceSecret, Recipient, SealSecret, SecretKey, VideoSecret

PREFIX: Final = "revisage-3:"
_PREFIX_1: Final = "revisage-1:"


@dataclass(frozen=True, slots=True)
class LabelTrack:
    """When to look for whom."""

    id: int
    first: int  # frame
    last: int
    person: int | None
    draw: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Label:
    """All but the geometry."""

    secret: SealSecret | VideoSecret
    faces: FaceSecret | VideoSecret
    carry: float
    generator: Mapping[str, Any]  # as in the index
    tracks: tuple[LabelTrack, ...]

    def sealed(self, recipients: Sequence[Recipient]) -> str:
        """The text of the tag."""
        fields = {
            "secret": base64.b64encode(self.secret.reveal()).decode("ascii"),
            "faces": base64.b64encode(self.faces.reveal()).decode("ascii"),
            "carry": self.carry,
            "generator": dict(self.generator),
            "tracks": [[t.id, t.first, t.last, t.person, t.draw] for t in self.tracks],
        }
        plain = json.dumps(fields, separators=(",", ":")).encode("utf-8")
        return PREFIX + base64.b64encode(keys.encrypt(plain, recipients)).decode("ascii")

    @classmethod
    def opened(cls, text: str, key: SecretKey) -> Label:
        """What `sealed` made. Raises WrongKeyError, TamperedError, VersionError."""
        if not text.startswith((PREFIX, _PREFIX_1)):
            raise VersionError("the label of this video is of a kind that this program does not know")
        if len(text) > limits.LABEL:
            raise TamperedError("the label of this video is larger than any this program writes")
        try:
            sealed = base64.b64decode(text[len(PREFIX) :], validate=True)
        except (ValueError, binascii.Error):
            raise TamperedError("the label of this video is damaged") from None
        plain = key.decrypt(sealed)
        try:
            fields = json.loads(plain)
            secret, faces = _secrets_1(fields) if text.startswith(_PREFIX_1) else _secrets(fields)
            tracks = tuple(_track(row) for row in fields["tracks"])
            if not limits.is_number(fields["carry"]) or not 0 <= fields["carry"] <= 1:
                raise ValueError
            return cls(secret, faces, float(fields["carry"]), dict(fields["generator"]), tracks)
        except (ValueError, TypeError, KeyError, binascii.Error, RecursionError):
            raise TamperedError("the label of this video is not readable") from None


def _secrets(fields: Any) -> tuple[SealSecret, FaceSecret]:
    return SealSecret(_raw(fields["secret"])), FaceSecret(_raw(fields["faces"]))


def _secrets_1(fields: Any) -> tuple[VideoSecret, VideoSecret]:
    secret = VideoSecret(_raw(fields["secret"]))
    return secret, secret


def _raw(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _track(row: Any) -> LabelTrack:
    number, first, last, person, draw = row
    if not limits.is_whole(number, limits.IDS) or not limits.is_whole(draw, range(1 << 32)):
        raise ValueError
    if not all(limits.is_whole(frame, limits.FRAMES) for frame in (first, last)):
        raise ValueError
    if not (person is None or limits.is_whole(person, limits.IDS)):
        raise ValueError
    return LabelTrack(number, first, last, person, draw)
