"""What a key says of a new face: its identity code, and the noise and signs that hide an old one in its pixels.

The one place where streams of a key become numbers; whoever anonymizes and whoever recovers must get the same. Knows no
file and no network.
"""

from __future__ import annotations

from revisage.models.base import Cropped
from revisage.models.latents import Veil, identity_code, standard_normal
from revisage.pipeline.composite import Likeness
from revisage.pipeline.types import Float, Track
from revisage.pipeline.vault.keys import FaceKey, FaceSecret, TrackKey, face_key, track_stream


def likeness_of(secret: FaceSecret, track: Track, method: Cropped) -> Likeness:
    """The new face of `track`, or of its person, by its `draw`. Its pixels carry nothing."""
    face = face_key(secret, track.id, track.person)
    noise = standard_normal(track_stream(face, "noise").read, method.noise_shape)
    return Likeness(code_of(face, method.code_size, track.draw), noise)


def code_of_track(secret: FaceSecret, track: Track, size: int) -> Float:
    """(size,) float32: who the new face of `track`, or of its person, is, by its `draw`."""
    return code_of(face_key(secret, track.id, track.person), size, track.draw)


def code_of(face: TrackKey | FaceKey, size: int, draw: int = 0) -> Float:
    """(size,) float32: who the new face is. A track without a person has a face of its own.

    Another `draw` (0 … 2^32-1) is another face of the same key, for when one will not do.
    """
    return identity_code(track_stream(face, "identity", draw).read, size)


def veil_of(key: TrackKey, stretch: int, size: int) -> Veil:
    """For crops of side `size` in one stretch of time of a track."""
    noise, signs = (track_stream(key, purpose, stretch).read for purpose in ("noise", "signs"))
    return Veil.drawn(noise, signs, size)
