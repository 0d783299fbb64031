"""The new face's proportions: an actor's own jaw, nose, mouth and brows, as far as a film allows. Knows no picture.

A face with the measures of the one it replaces keeps part of what tells that person apart. Whoever gets a new face here
therefore gets new proportions, too, the same in every frame. They are factors and shares of the face's own measures,
along the line of the eyes and across it: turned heads stay turned, and the openings of mouth and eyes are scaled, never
shifted, so that speech and blinks keep their time.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from revisage.models import layout
from revisage.models.completion import followed
from revisage.pipeline.types import Float


@dataclass(frozen=True, slots=True)
class Proportions:
    """Relative changes; 0 leaves things as they are. Shares are of the distance of the eye centres."""

    jaw_width: float = 0.0
    chin_length: float = 0.0  # from the nose down
    nose_width: float = 0.0
    nose_length: float = 0.0
    mouth_width: float = 0.0
    mouth_drop: float = 0.0  # share, beyond what the nose takes it along
    lips: float = 0.0  # their thickness
    eye_size: float = 0.0
    brow_drop: float = 0.0  # share
    brow_slant: float = 0.0  # change of the slope


_SMALLER = 0.4  # share of the wanted change that is left of a jaw narrower, and a chin shorter, than the filmed one
# Width of a mouth: the portraits' median, and where the widest twentieth begins; distances of the eye centres.
_AT_REST, _BROAD = 0.78, 1.03
_NARROWED = 0.3  # share of the wanted change that is left of a broad one
_FURTHEST = Proportions(  # two standard deviations over the 843 portraits to train on that look straight ahead
    jaw_width=0.16,
    chin_length=0.24,
    nose_width=0.18,
    nose_length=0.24,
    mouth_width=0.2,
    mouth_drop=0.1,
    lips=0.34,
    eye_size=0.12,
    brow_drop=0.08,
    brow_slant=0.07,  # half as much: a face must not look angry or worried when the filmed one did not
)


def departure(landmarks: Float, usual: Float, share: float) -> Proportions:
    """How a face (135, 2) that looks straight ahead differs from the `usual` one (135, 2), times `share`.

    No more than two standard deviations of what people differ by. Jaws and chins seldom get smaller: what is beside a
    jaw that was wider must be invented, and shows as a rim.
    """
    own, other = _measured(landmarks), _measured(usual)
    ratios = {field.name for field in fields(Proportions)} - {"mouth_drop", "brow_drop", "brow_slant"}
    changes = {name: own[name] / other[name] - 1 if name in ratios else own[name] - other[name] for name in own}
    wanted = Proportions(
        **{name: share * float(np.clip(c, -(most := getattr(_FURTHEST, name)), most)) for name, c in changes.items()}
    )
    return replace(wanted, jaw_width=_seldom_less(wanted.jaw_width), chin_length=_seldom_less(wanted.chin_length))


def _measured(landmarks: Float) -> dict[str, float]:
    """What `Proportions` speaks of, in distances of the eye centres."""
    face = _Face.of(np.asarray(landmarks, np.float32))
    across, down = face.across / face.unit, face.down / face.unit
    nostrils, lips, inner = layout.NOSTRILS, layout.LIPS_OUTER, layout.LIPS_INNER
    oval_down, oval_across = down[layout.OVAL], across[layout.OVAL]
    nose, mouth = float(down[nostrils].mean()), float(down[lips].mean())
    jaw = oval_across[np.abs(oval_down - mouth) < 0.35]
    opening = np.clip(down[lips], down[inner].min(), down[inner].max())
    eyes = [float(np.ptp(across[eye])) for eye in (layout.EYE_LEFT, layout.EYE_RIGHT)]
    brows = ((-1, layout.BROW_LEFT), (1, layout.BROW_RIGHT))
    slants = [np.polyfit(side * across[brow], down[brow], 1)[0] for side, brow in brows]
    return {
        "jaw_width": float(np.ptp(jaw)) if len(jaw) > 1 else 2.0,
        "chin_length": float(oval_down.max()) - nose,
        "nose_width": float(np.ptp(across[nostrils])),
        "nose_length": nose,
        "mouth_width": float(np.ptp(across[lips])),
        "mouth_drop": mouth - nose,
        "lips": float(np.abs(down[lips] - opening).mean()),
        "eye_size": sum(eyes) / 2,
        "brow_drop": sum(float(down[brow].mean()) for _, brow in brows) / 2,
        "brow_slant": float(sum(slants) / 2),
    }


def _seldom_less(change: float) -> float:
    return change if change > 0 else change * _SMALLER


def reshaped(landmarks: Float, wanted: Proportions) -> Float:
    """Landmarks (N, 2) of a face -> (N, 2) float32 of the same face with other proportions."""
    face = _Face.of(np.asarray(landmarks, np.float32))
    moves = _jaw(face, wanted) + _nose(face, wanted) + _mouth(face, wanted) + _eyes(face, wanted)
    return followed(face.points, face.moved(moves))


@dataclass(frozen=True, slots=True, eq=False)
class _Face:
    """Landmarks along the line of the eyes, towards the viewer's right, and down the face, from between the eyes."""

    points: Float  # (N, 2), as given
    axes: Float  # (2, 2): its rows are the two directions
    across: Float  # (N,)
    down: Float  # (N,)
    unit: float  # distance of the eye centres

    @classmethod
    def of(cls, points: Float) -> _Face:
        left, right = points[layout.EYE_CENTRES]
        unit = float(layout.interocular(points))
        x, y = (right - left) / unit
        axes = np.array([[x, y], [-y, x]], np.float32)
        across, down = axes @ (points - (left + right) / 2).T
        return cls(points, axes, across, down, unit)

    def moved(self, moves: Float) -> Float:
        """With every point moved by `moves` (2, N): across, down."""
        return np.asarray(self.points + moves.T @ self.axes, np.float32)

    def level(self, part: slice) -> float:
        """Down the face, the mean of a part."""
        return float(self.down[part].mean())

    def middle(self, down: Float) -> Float:
        """The line that divides left from right, at places down the face: through eyes, nose, mouth and chin."""
        chin = layout.OVAL.start + int(self.down[layout.OVAL].argmax())
        places = [(0.0, 0.0), (float(self.down[chin]), float(self.across[chin]))]
        places += [(self.level(part), float(self.across[part].mean())) for part in (layout.NOSTRILS, layout.LIPS_OUTER)]
        levels, middles = zip(*sorted(places), strict=True)
        return np.asarray(np.interp(down, levels, middles), np.float32)


def _jaw(face: _Face, wanted: Proportions) -> Float:
    """Wider or narrower, fully from the mouth on and a third at the eyes; longer or shorter below the nose."""
    moves, oval = np.zeros((2, len(face.points)), np.float32), layout.OVAL
    down = face.down[oval]
    share = np.clip(down / max(face.level(layout.LIPS_OUTER), 1e-3) + 0.3, 0, 1)
    moves[0, oval] = (face.across[oval] - face.middle(down)) * share * wanted.jaw_width
    moves[1, oval] = np.maximum(down - face.level(layout.NOSTRILS), 0) * wanted.chin_length
    return moves


def _nose(face: _Face, wanted: Proportions) -> Float:
    """Longer or shorter from the eyes down; wings wider or narrower."""
    moves, wings = np.zeros((2, len(face.points)), np.float32), layout.NOSTRILS
    for part in (layout.NOSE_BRIDGE, wings):
        moves[1, part] = np.maximum(face.down[part], 0) * wanted.nose_length
    moves[0, wings] = (face.across[wings] - face.across[wings].mean()) * wanted.nose_width
    return moves


def _mouth(face: _Face, wanted: Proportions) -> Float:
    """Wider or narrower, but a broad smile never broader and little narrower: it would be a grimace, or a shout. Higher
    or lower, beside what the nose does; lips thicker or thinner outside the opening."""
    moves, outer, inner = np.zeros((2, len(face.points)), np.float32), layout.LIPS_OUTER, layout.LIPS_INNER
    wide = float(np.ptp(face.across[outer])) / face.unit
    room = np.interp(wide, (_AT_REST, _BROAD), (1, 0 if wanted.mouth_width > 0 else _NARROWED))
    for part in (outer, inner):
        moves[0, part] = (face.across[part] - face.across[outer].mean()) * wanted.mouth_width * room
        moves[1, part] = wanted.mouth_drop * face.unit + wanted.nose_length * max(face.level(layout.NOSTRILS), 0)
    opening = np.clip(face.down[outer], face.down[inner].min(), face.down[inner].max())
    moves[1, outer] += (face.down[outer] - opening) * wanted.lips
    return moves


def _eyes(face: _Face, wanted: Proportions) -> Float:
    """Larger or smaller about their centres; brows higher or lower, their outer ends more or less so."""
    moves = np.zeros((2, len(face.points)), np.float32)
    for side, eye, brow in ((-1, layout.EYE_LEFT, layout.BROW_LEFT), (1, layout.EYE_RIGHT, layout.BROW_RIGHT)):
        for move, place in zip(moves, (face.across, face.down), strict=True):
            move[eye] = (place[eye] - place[eye].mean()) * wanted.eye_size
        outwards = side * (face.across[brow] - face.across[brow].mean())
        moves[1, brow] = wanted.brow_drop * face.unit + outwards * wanted.brow_slant
    return moves
