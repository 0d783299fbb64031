"""What a face does with its lids and lips, said more plainly to the painter. Knows no picture, no network and no key.

Landmark networks close eyes too little, and painters follow them too little in turn: on three clips lids moved a third
to all of what was filmed, and lips a half to nine tenths; least of all where they moved by a fraction of a pixel. A new
face that hardly blinks or speaks looks dead. Here lids go further from where a track's lids usually are, and what lips
do in a murmur is said more plainly, a shout as it is; nothing else moves but the skin beside them, least of all what
decides which pixels are covered.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from revisage.models import layout
from revisage.models.completion import followed
from revisage.pipeline.types import Float, Track

LIDS = 1.5  # times a lid's distance from where it usually is
MURMUR = 1.2  # times a mouth's distance from how open it usually is, as long as that is ...
SMALL = 0.03  # ... less than this, interocular distances: so much is added
_LEAST, _MOST = 0.1, 1.3  # of an eye's opening as it was found
_PARTS = (layout.EYE_LEFT, layout.EYE_RIGHT, layout.LIPS_INNER)


def expressive(track: Track) -> Track:
    """The same track with lids and lips that move more; faces without landmarks are left as they are."""
    seen = [face.landmarks for face in track.faces if face.landmarks is not None]
    if not seen:
        return track
    usual = [float(np.median(_opening(np.stack(seen), part))) for part in _PARTS]
    faces = (
        face if face.landmarks is None else replace(face, landmarks=_moved(face.landmarks, *usual))
        for face in track.faces
    )
    return replace(track, faces=tuple(faces))


def _moved(landmarks: Float, left: float, right: float, mouth: float) -> Float:
    """With what the openings of the eyes and of the mouth usually are."""
    moved = np.array(landmarks, np.float32)
    for eye, usual in ((layout.EYE_LEFT, left), (layout.EYE_RIGHT, right)):
        upper, lower = layout.facing(eye)
        found = max(float(_opening(landmarks, eye)), 1e-6)
        factor = np.clip((usual + LIDS * (found - usual)) / found, _LEAST, _MOST)
        moved[upper] = moved[lower] + (moved[upper] - moved[lower]) * factor
    upper, lower = layout.facing(layout.LIPS_INNER)
    found = max(float(_opening(landmarks, layout.LIPS_INNER)), 1e-6)
    wanted = found + MURMUR * SMALL * np.tanh((found - mouth) / SMALL)
    further = (moved[lower] - moved[upper]) * np.float32(max(wanted, 0.0) / found - 1)
    moved[lower] += further
    moved[layout.facing(layout.LIPS_OUTER)[1]] += further
    return followed(landmarks, moved)


def _opening(landmarks: Float, part: slice) -> Float:
    """(…, 135 or more, 2) -> (…,): mean gap between what faces each other over the distance of the eye centres."""
    upper, lower = layout.facing(part)
    gaps = np.linalg.norm(landmarks[..., upper, :] - landmarks[..., lower, :], axis=-1).mean(-1)
    return np.asarray(gaps / layout.interocular(landmarks), np.float32)
