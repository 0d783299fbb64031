"""Makes the cast: actors who do not exist, relit to neutral, their faces alone, as weights.

    python -m revisage.models.train.cast irises FACES --irises irises.npz          (needs mediapipe 0.10.14)
    python -m revisage.models.train.cast measure CAST FACES --irises irises.npz --out measures.csv
    python -m revisage.models.train.cast make CAST FACES --irises irises.npz --out DIR
    python -m revisage.models.train.cast thin DIR --recognizer faceres.json --count 150
    python -m revisage.models.train.cast judge DIR [--portraits CAST FACES --irises irises.npz]   (extra `score`)
    python -m revisage.models.train.cast sheet DIR --out PICTURE.jpg

`CAST` and `FACES` are folders of portraits (`images/`, `landmarks.npz`; the first one's has irises, the second one's
are found first). Who is in, and why the others are not, stands in `cast.csv` beside this module: measures first, then
the eye. `make` follows that list and writes into it nothing but the tones it finds. `thin` marks in it those who look
most like others of the cast to `models/train/recognizer.py`, after which the cast is made once more; `judge` asks dlib,
who had no say in that.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from safetensors.numpy import save

from revisage.models import cast, layout
from revisage.models.conditioning import FACE_TEMPLATE
from revisage.models.train import relight
from revisage.models.train.data import Portrait, load_portraits
from revisage.pipeline import geometry
from revisage.pipeline.types import Float, Gray, Image

LIST = Path(__file__).with_name("cast.csv")
SIZE = 384  # side of a texture, pixels
MARGIN = 0.06  # of the side: how far beyond the oval the face's own skin is continued before it becomes its mean
QUALITY = 95  # of JPEG
MOUTH, MOUTH_SCALE = 192, 160  # side of a mouth's picture; pixels to an interocular distance in it
_TEETH = 12  # pixels between the lips that look like teeth, from which on teeth are seen
_NEAR = 0.25  # distance of recognizer's vectors (1 - cosine) that counts as near
_LEAST_APART = 68  # pixels between the eyes of portraits that are looked at
_CUT, _CELL = (110, 130), (110, 130)  # half the sides of what a contact sheet shows of a texture; its cells
_INSIDE = 0.004  # of the side: within the oval by this much pixels are the portrait's own
_FEATHER = 0.008  # of the side: how softly one goes over into the other
_EDGE = 0.014  # of the side: so near to hair and cloth a face is not its own, either
_HAIR_DEPTH = 0.09  # of the side: how far inside the oval hair is looked for
_HAIR = 0.38  # of the skin's L*: so much darker than it, and connected to the outside, is hair
_PART = 0.010  # of the side: brows and eyes grown by this much are no hair
_CLOTH = 22.0  # of L*: so much brighter than the skin is cloth
_STRANGE = 15.0  # distance in a*b* from the skin's: so is what is of another colour


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A portrait and what is known of it."""

    name: str  # "cast-female_00", "faces-0012"
    portrait: Portrait
    iris: Float  # (2, 5, 2) pixels of the portrait: centre and four points of the rim, the viewer's left first
    fine: Float | None = None  # (468, 3) a mesh whose lips are closer to what is seen, where one was made


@dataclass(frozen=True, slots=True, eq=False)
class Aligned:
    """A portrait in the crop."""

    linear: Float  # (SIZE, SIZE, 3) linear light
    mesh: Float  # (468, 3) pixels of the crop
    iris: Float  # (2, 5, 2) pixels of the crop
    seen: Gray  # (SIZE, SIZE) 255 where the portrait reaches

    @property
    def landmarks(self) -> Float:
        """(LANDMARK_COUNT, 2) pixels of the crop."""
        return layout.from_mesh(self.mesh)


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """An actor's arrays."""

    texture: Image  # (SIZE, SIZE, 3)
    mesh: Float
    iris: Float
    tone: Float  # (2, 3): mean colour of the skin in linear light; CIE L*a*b* of it


def sources(folder: Path, irises: Path | None = None) -> dict[str, Source]:
    """By name. `irises`: a file with `name`, `iris` and `mesh` for a folder whose `landmarks.npz` has no irises."""
    with np.load(irises or folder / "landmarks.npz") as data:
        names, iris = [str(n) for n in data["name"]], data["iris"].astype(np.float32)
        fine = data["mesh"].astype(np.float32) if irises else [None] * len(names)
    portraits = {p.name: p for p in load_portraits(folder, usable_only=False)}
    rows = zip(names, iris, fine, strict=True)
    return {f"{folder.name}-{Path(n).stem}": Source(n, portraits[n], at, mesh) for n, at, mesh in rows}


def align(source: Source, size: int = SIZE) -> Aligned:
    """Laid to `FACE_TEMPLATE` by a similarity, without aliasing; nothing is bent."""
    portrait = source.portrait
    matrix = geometry.align(layout.five_points(portrait.landmarks), FACE_TEMPLATE, size)
    picture = relight.to_linear(portrait.read())
    linear = _warped(picture, matrix, size, float(np.hypot(matrix[0, 0], matrix[1, 0])))
    seen = cv2.warpAffine(np.full(picture.shape[:2], 255, np.uint8), matrix, (size, size), flags=cv2.INTER_NEAREST)
    return Aligned(linear, align_mesh(source, size), geometry.transform(source.iris, matrix), seen)


def _warped(picture: Float, matrix: Float, size: int, scale: float) -> Float:
    """(size, size, 3), without aliasing: a picture to be shrunk loses first what the smaller grid cannot hold."""
    if scale < 1:
        picture = cv2.GaussianBlur(picture, (0, 0), 0.42 * np.sqrt(1 / scale**2 - 1) + 1e-3)
    warped = cv2.warpAffine(picture, matrix, (size, size), flags=cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(np.clip(warped, 0, 1), np.float32)


def align_mesh(source: Source, size: int = SIZE) -> Float:
    """(468, 3): the mesh alone, laid to the template."""
    portrait = source.portrait
    matrix = geometry.align(layout.five_points(portrait.landmarks), FACE_TEMPLATE, size)
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    mesh = np.concatenate([geometry.transform(portrait.mesh[:, :2], matrix), portrait.mesh[:, 2:] * scale], axis=1)
    return np.asarray(mesh, np.float32)


def skin_mask(landmarks: Float, size: int = SIZE) -> Gray:
    """(size, size) uint8, 255 where skin is to be expected: inside the oval, without brows, eyes, nostrils and lips."""
    mask: Gray = cv2.erode(_hull(landmarks[layout.OVAL], size), _disc(0.03 * size))
    parts = (
        (layout.BROW_LEFT, layout.EYE_LEFT), (layout.BROW_RIGHT, layout.EYE_RIGHT),
        (layout.LIPS_OUTER,), (layout.NOSTRILS,),
    )  # fmt: skip
    for part in parts:
        mask[cv2.dilate(_hull(np.concatenate([landmarks[p] for p in part]), size), _disc(0.018 * size)) > 0] = 0
    return mask


def bare_skin(linear: Float, landmarks: Float, strict: float = 4.0) -> Gray:
    """`skin_mask` without hair, beard and what else is more than `strict` spreads from the skin's own colour."""
    mask = skin_mask(landmarks, linear.shape[0])
    lab = relight.to_lab(cv2.GaussianBlur(linear, (0, 0), 2))
    middle = np.median(lab[mask > 0], axis=0)
    spread = np.median(np.abs(lab[mask > 0] - middle), axis=0) * 1.5 + (4, 2, 2)
    far = np.sqrt((((lab - middle) / spread) ** 2).sum(-1)) > strict
    kept: Gray = np.where(far, 0, mask).astype(np.uint8)
    return kept


def own_face(lit: Float, landmarks: Float, skin: Gray, seen: Gray) -> Float:
    """(S, S) float32, 1 where the portrait's own pixels stay; 0 outside and where hair hangs over the rim.

    `seen` is nonzero where there is a portrait at all.
    """
    size = lit.shape[0]
    oval = _hull(landmarks[layout.OVAL], size)
    inner = cv2.erode(oval & seen, _disc(_INSIDE * size))
    rim = (oval > 0) & (cv2.erode(oval, _disc(_HAIR_DEPTH * size)) == 0)
    brows = landmarks[layout.BROW_LEFT.start : layout.BROW_RIGHT.stop]
    rim |= np.arange(size)[:, None] < brows[:, 1].min()  # a fringe or a scarf may come far into the forehead
    # The outermost point of a brow often lies on hair; where it does not, skin parts it from the rim.
    for part in (brows[1:5], brows[6:10], landmarks[layout.EYE_LEFT], landmarks[layout.EYE_RIGHT]):
        rim &= cv2.dilate(_hull(part, size), _disc(_PART * size)) == 0
    lab = relight.to_lab(cv2.GaussianBlur(lit, (0, 0), 1.2))
    typical = np.median(lab[skin > 0], axis=0)
    off = lab - typical
    strange = (off[..., 0] < -_HAIR * typical[0]) | (np.linalg.norm(off[..., 1:], axis=-1) > _STRANGE)
    # White cloth may come down between the brows.
    rim |= (off[..., 0] > _CLOTH) & (np.arange(size)[:, None] < brows[:, 1].max())
    strange |= off[..., 0] > _CLOTH
    # Below the corners of the mouth what is dark is beard, and stays.
    above = np.arange(size)[:, None] < landmarks[[layout.MOUTH_LEFT, layout.MOUTH_RIGHT], 1].mean()
    outside = (strange & rim & above) | (inner == 0)
    labels = cv2.connectedComponents(outside.astype(np.uint8))[1]
    hair = (labels == labels[0, 0]) & (labels > 0)
    kept = cv2.erode((~hair).astype(np.uint8), _disc(_EDGE * size))
    return np.asarray(cv2.GaussianBlur(kept.astype(np.float32), (0, 0), _FEATHER * size / 2), np.float32)


def mirrored(linear: Float, own: Float, mesh: Float, surface: relight.Surface) -> tuple[Float, Float]:
    """What is not the face's own, where the other side of it is, from there; and what then is the face's own."""
    size = linear.shape[0]
    other = relight.field(mesh[surface.mirrored, :2], mesh, size, 0.003)
    picture = np.clip(cv2.remap(linear, other[..., 0], other[..., 1], cv2.INTER_CUBIC), 0, 1)
    known = cv2.remap(own, other[..., 0], other[..., 1], cv2.INTER_LINEAR) * _inside(mesh, size)
    # Where both sides are bare they say how much brighter this one is, nearby.
    bare = ((own > 0.98) & (known > 0.98)).astype(np.uint8)
    here, there = (relight.spread_skin(side, bare, 0.03 * size) for side in (linear, picture))
    picture = picture * np.clip(here / np.maximum(there, 1e-3), 0.5, 2)
    lent = (1 - own) * known
    both = (linear * own[..., None] + picture * lent[..., None]) / np.maximum(own + lent, 1e-4)[..., None]
    return np.asarray(both, np.float32), np.asarray(own + lent, np.float32)


def _inside(mesh: Float, size: int) -> Float:
    """(size, size) 1 inside the oval, softly."""
    oval = _hull(layout.from_mesh(mesh)[layout.OVAL], size)
    inner = cv2.erode(oval, _disc((_INSIDE + _FEATHER) * size)) / np.float32(255)
    return np.asarray(cv2.GaussianBlur(inner, (0, 0), _FEATHER * size / 2), np.float32)


def filled(linear: Float, own: Float, skin: Gray) -> Float:
    """Outside of `own` the skin nearby is continued, ever smoother, and is its mean from `MARGIN` on."""
    size = linear.shape[0]
    known = ((own > 0.98) & (skin > 0)).astype(np.float32)
    mean = linear[skin > 0].mean(0)
    total, weight = np.zeros_like(linear), np.zeros((size, size), np.float32)
    share = 1.0
    for sigma in (0.01, 0.02, 0.04, 0.08, 0.16):
        total += share * cv2.GaussianBlur(linear * known[..., None], (0, 0), sigma * size)
        weight += share * cv2.GaussianBlur(known, (0, 0), sigma * size)
        share *= 0.05
    continued = (total + 1e-7 * mean) / (weight + 1e-7)[..., None]
    outside = cv2.distanceTransform((own < 0.5).astype(np.uint8), cv2.DIST_L2, 5) / (MARGIN * size)
    near = np.exp(-((outside / 1.5) ** 2))[..., None]
    beyond = continued * near + mean * (1 - near)
    return np.asarray(linear * own[..., None] + beyond * (1 - own[..., None]), np.float32)


def make_actor(source: Source, surface: relight.Surface, light: Float, lift: float = 0) -> Made:
    """The portrait relit to `light`, its colour cast taken out, its skin `lift` L* lighter, the face alone."""
    aligned = align(source)
    skin = bare_skin(aligned.linear, aligned.landmarks)
    lit = relight.relight(aligned.linear, aligned.mesh, surface, skin, light)
    mean = lit[skin > 0].mean(0)
    lit = lit * (white_balance(mean) * brighter(mean, lift))
    plain = bare_skin(lit, aligned.landmarks, 2.5)
    own = own_face(lit, aligned.landmarks, skin, aligned.seen)
    whole, known = mirrored(lit, own, aligned.mesh, surface)
    picture = relight.to_srgb(filled(whole, known, plain))
    mean = relight.to_linear(picture)[skin > 0].mean(0)
    return Made(picture, aligned.mesh, aligned.iris, np.stack([mean, relight.to_lab(mean)]))


def white_balance(mean: Float) -> Float:
    """(3,) gains that take a lamp's colour out of a skin whose mean (3,) is given in linear light.

    Only what lies beyond the ordinary spread of skins of its lightness counts as the lamp's; L* stays.
    """
    lab = relight.to_lab(mean)
    excess = lab[1:] - skin_locus(float(lab[0]))
    over = np.sign(excess) * np.maximum(np.abs(excess) - _SPREAD, 0)
    wanted = relight.to_rgb(np.array([lab[0], *(lab[1:] - over)], np.float32))
    return np.asarray(np.clip(wanted / np.maximum(mean, 1e-4), 0.5, 2), np.float32)


# a* and b* of skin against L*: second order, highest power first, fitted to the evenly lit portraits of `CAST`.
_LOCUS = ((-9.225e-3, 1.0886, -13.78), (-1.6147e-2, 2.0585, -43.66))
_FITTED = (42.0, 76.0)  # L* where there were enough of them
_SPREAD = np.array([4.5, 6.0])


def brighter(mean: Float, lift: float) -> float:
    """The gain in linear light that moves a colour's L* by `lift`."""
    lightness = float(relight.to_lab(mean)[0])
    before, after = (relight.to_rgb(np.array([value, 0, 0], np.float32))[1] for value in (lightness, lightness + lift))
    return float(after / before)


def skin_locus(lightness: float) -> Float:
    """(2,) a* and b* of an ordinary skin of this L*."""
    within = float(np.clip(lightness, *_FITTED))
    return np.array([np.polyval(p, within) for p in _LOCUS], np.float32)


def _hull(points: Float, size: int) -> Gray:
    mask = np.zeros((size, size), np.uint8)
    cv2.fillConvexPoly(
        mask, np.round(cv2.convexHull(points.astype(np.float32)) * 16).astype(np.int32), 255, cv2.LINE_8, 4
    )
    return mask


def _disc(radius: float) -> Gray:
    r = max(1, round(radius))
    disc: Gray = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * r + 1, 2 * r + 1))
    return disc


@dataclass(frozen=True, slots=True)
class Measures:
    """What can be measured of a portrait before anybody looks at it."""

    interocular: float  # pixels
    yaw: float  # degrees
    pitch: float
    eye_opening: float  # over the distance of the eye centres
    mouth_opening: float
    gaze_x: float  # iris centre from the middle of the eye's corners, in widths of the eye; mean of both eyes
    gaze_y: float
    squint: float  # how differently the two eyes look, the same unit
    unevenness: float  # `relight.Light.unevenness`
    stained: float  # spread of the relit skin's L* at low frequency
    burnt: float  # share of the skin with a channel at its end
    lightness: float  # L* of the relit skin
    tint: float  # distance in a*b* from the locus of skins
    detail: float  # energy of the skin's fine band over its lightness


def measure(source: Source, surface: relight.Surface, mean_mesh: Float) -> Measures:
    """ValueError: too little skin is seen."""
    aligned = align(source)
    points = aligned.landmarks
    skin = bare_skin(aligned.linear, aligned.landmarks)
    light = relight.fit_light(aligned.linear, aligned.mesh, surface, skin)
    lit = relight.relight(aligned.linear, aligned.mesh, surface, skin, np.eye(relight.HARMONICS, dtype=np.float32)[0])
    on = skin > 0
    lab = relight.to_lab(lit)
    low = relight.spread_skin(lab, skin, 0.03 * SIZE)[on]
    middle = relight.to_lab(lit[on].mean(0))
    fine = lab[..., 0] - cv2.GaussianBlur(lab[..., 0], (0, 0), 1.5)
    yaw, pitch = pose(aligned.mesh, mean_mesh)
    gaze, squint = gazes(aligned)
    return Measures(
        interocular=float(layout.interocular(source.portrait.landmarks)),
        yaw=yaw,
        pitch=pitch,
        eye_opening=float(layout.eye_opening(points)),
        mouth_opening=float(layout.mouth_opening(points)),
        gaze_x=float(gaze[0]),
        gaze_y=float(gaze[1]),
        squint=squint,
        unevenness=light.unevenness,
        stained=float(low[:, 0].std()),
        burnt=float((aligned.linear[on].max(-1) > 0.97).mean()),
        lightness=float(middle[0]),
        tint=float(np.linalg.norm(middle[1:] - skin_locus(float(middle[0])))),
        detail=float(fine[on].std()),
    )


def pose(mesh: Float, mean_mesh: Float) -> tuple[float, float]:
    """Yaw and pitch in degrees of a mesh (468, 3) against the average one: the rotation of least squares (Kabsch)."""
    a, b = mean_mesh - mean_mesh.mean(0), mesh - mesh.mean(0)
    u, _, vt = np.linalg.svd(a.T @ b)
    flip = np.diag([1, 1, np.sign(np.linalg.det(u @ vt))])
    r = (u @ flip @ vt).T
    return float(np.degrees(np.arctan2(r[0, 2], r[2, 2]))), float(np.degrees(np.arcsin(np.clip(-r[1, 2], -1, 1))))


def gazes(aligned: Aligned) -> tuple[Float, float]:
    """(2,) mean offset of the irises, in widths of the eye, from the middle between the corners; their difference."""
    offsets = []
    for eye, iris in zip((layout.EYE_LEFT, layout.EYE_RIGHT), aligned.iris, strict=True):
        outer, inner = aligned.landmarks[eye.start], aligned.landmarks[eye.start + 8]
        offsets.append((iris[0] - (outer + inner) / 2) / np.linalg.norm(outer - inner))
    one, two = offsets
    return np.asarray((one + two) / 2, np.float32), float(np.linalg.norm(one - two))


@dataclass(frozen=True, slots=True)
class Row:
    """One portrait in `cast.csv`."""

    name: str
    sex: str
    age: int  # years, to the decade where only looks tell
    tone: str  # one of `cast.TONES`, as made; empty where not made
    lift: int  # L* by which the skin is lifted: by eye, where a portrait was taken in the dark
    use: str  # "actor", "mouth", "no"
    why: str  # where not used as an actor


def read_list(path: Path = LIST) -> list[Row]:
    """In the file's order."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Row(r["name"], r["sex"], int(r["age"]), r["tone"], int(r["lift"]), r["use"], r["why"])
            for r in csv.DictReader(file)
        ]


def write_list(rows: Iterable[Row], path: Path = LIST) -> None:
    """As `read_list` reads it."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(Row.__dataclass_fields__), lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def common(every: Sequence[Source]) -> tuple[relight.Surface, Float]:
    """Of many portraits: how their meshes hang together, and the light they have in common."""
    aligned = [align(source) for source in every]
    surface = relight.Surface.of(np.stack([one.mesh for one in aligned]))
    lights = []
    for one in aligned:
        lights.append(relight.fit_light(one.linear, one.mesh, surface, bare_skin(one.linear, one.landmarks)))
    return surface, relight.neutral(lights)


def make(rows: Sequence[Row], known: Mapping[str, Source], out: Path) -> list[Row]:
    """Write `config.json` and `cast.safetensors` of the actors and mouths among `rows`; those with the tones found."""
    chosen = [row for row in rows if row.use == "actor"]
    surface, light = common([known[row.name] for row in chosen])
    actors = [make_actor(known[row.name], surface, light, row.lift) for row in chosen]
    names = [row.name for row in rows if row.use == "mouth"]
    mouths = [make_mouth(known[name], surface, light) for name in names]
    arrays = {f"texture.{row.name}": encode(actor.texture) for row, actor in zip(chosen, actors, strict=True)}
    arrays |= {f"mouth.{name}": encode(mouth.picture) for name, mouth in zip(names, mouths, strict=True)}
    for key in ("mesh", "iris", "tone"):
        arrays[key] = np.stack([getattr(actor, key) for actor in actors]).astype(np.float32)
    for key in ("lips", "colours"):
        arrays[f"mouth.{key}"] = np.stack([getattr(mouth, key) for mouth in mouths]).astype(np.float32)
    config = {
        "format": 1,
        "template": FACE_TEMPLATE.name,
        "size": SIZE,
        "actors": [_actor_entry(row, actor) for row, actor in zip(chosen, actors, strict=True)],
        "mouths": [_mouth_entry(known[name], name) for name in names],
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / cast.ARRAYS).write_bytes(save(arrays))
    (out / cast.CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    tones = {r.name: cast.tone_class(float(a.tone[1, 0])) for r, a in zip(chosen, actors, strict=True)}
    return [replace(row, tone=tones.get(row.name, "")) for row in rows]


def _actor_entry(row: Row, actor: Made) -> dict[str, Any]:
    opening = round(float(layout.mouth_opening(layout.from_mesh(actor.mesh))), 4)
    return {"name": row.name, "sex": row.sex, "age": row.age, "has_teeth": shows_teeth(actor), "mouth_opening": opening}


def _mouth_entry(source: Source, name: str) -> dict[str, Any]:
    points = _fine_landmarks(source)
    apart = float(layout.interocular(points))
    inner = points[layout.LIPS_INNER]
    width = float(np.linalg.norm(inner[0] - inner[len(inner) // 2])) / apart
    opening = float(layout.mouth_opening(points))
    return {"name": name, "opening": round(opening, 4), "width": round(width, 4), "interocular": round(apart, 1)}


def shows_teeth(actor: Made) -> bool:
    """Between the lips something is nearly as bright as the skin and has less colour than lips or tongue."""
    lips = layout.from_mesh(actor.mesh)[layout.LIPS_INNER]
    inside = cv2.erode(_hull(lips, actor.texture.shape[0]), _disc(1)) > 0
    lab = relight.to_lab(relight.to_linear(actor.texture))[inside]
    teeth = (lab[:, 0] > 0.8 * actor.tone[1, 0]) & (lab[:, 1] < 12)
    return int(teeth.sum()) >= _TEETH


@dataclass(frozen=True, slots=True, eq=False)
class MadeMouth:
    """A mouth's arrays."""

    picture: Image  # (MOUTH, MOUTH, 3)
    lips: Float  # (40, 2) pixels of the picture
    colours: Float  # (2, 3) linear light: mean of the teeth, mean of the skin around


def make_mouth(source: Source, surface: relight.Surface, light: Float) -> MadeMouth:
    """The mouth upright, `MOUTH_SCALE` pixels to an interocular distance, under the light that the face is relit to."""
    portrait = source.portrait
    points = _fine_landmarks(source)
    lips = points[layout.LIPS_OUTER.start : layout.LIPS_INNER.stop]
    across = points[layout.EYE_CENTRES.start + 1] - points[layout.EYE_CENTRES.start]
    scale = MOUTH_SCALE / float(np.linalg.norm(across))
    cosine, sine = across / np.linalg.norm(across) * scale
    turn = np.array([[cosine, sine], [-sine, cosine]])
    middle = (lips.min(0) + lips.max(0)) / 2
    matrix = np.concatenate([turn, ((MOUTH - 1) / 2 - turn @ middle)[:, None]], axis=1).astype(np.float32)
    linear = _warped(relight.to_linear(portrait.read()), matrix, MOUTH, scale)
    placed = geometry.transform(lips, matrix)
    linear = np.clip(linear * _gains(source, surface, light), 0, 1)
    outer, inner = (_hull(part, MOUTH) > 0 for part in np.split(placed, 2))
    ring = (cv2.dilate(outer.astype(np.uint8), _disc(0.1 * MOUTH)) > 0) & ~cv2.dilate(
        outer.astype(np.uint8), _disc(5)
    ) > 0
    lab = relight.to_lab(linear)
    bright = inner & (lab[..., 1] < 15) & (lab[..., 0] > np.percentile(lab[inner][:, 0], 60))
    teeth = linear[bright if bright.any() else inner].mean(0)
    return MadeMouth(relight.to_srgb(linear), placed, np.stack([teeth, linear[ring].mean(0)]))


def _fine_landmarks(source: Source) -> Float:
    return source.portrait.landmarks if source.fine is None else layout.from_mesh(source.fine)


def _gains(source: Source, surface: relight.Surface, light: Float) -> Float:
    """(3,): what relighting and white balance do to the lower face's colour as a whole."""
    aligned = align(source)
    skin = bare_skin(aligned.linear, aligned.landmarks)
    lit = relight.relight(aligned.linear, aligned.mesh, surface, skin, light)
    lit = lit * white_balance(lit[skin > 0].mean(0))
    near = (np.arange(SIZE)[:, None] > aligned.landmarks[layout.NOSE_TIP, 1]) & (skin > 0)
    on = near if near.sum() > 500 else skin > 0
    return np.asarray(lit[on].mean(0) / aligned.linear[on].mean(0), np.float32)


def far_apart(vectors: Float, count: int) -> list[int]:
    """`count` rows of (N, D) unit vectors: the one with the nearest company leaves, again and again."""
    near = np.exp(-(((1 - vectors @ vectors.T) / _NEAR) ** 2))
    np.fill_diagonal(near, 0)
    kept = list(range(len(vectors)))
    while len(kept) > count:
        kept.pop(int(near[np.ix_(kept, kept)].sum(1).argmax()))
    return kept


def thin(folder: Path, recognizer: Path, count: int) -> None:
    """Mark in the list all but `count` actors of the cast in `folder`."""
    torch = import_module("torch")
    network = import_module("revisage.models.train.recognizer").Recognizer(recognizer)
    rows = read_list()
    still = {row.name for row in rows if row.use == "actor"}
    actors = [actor for actor in cast.Cast.load(folder).actors if actor.name in still]
    pictures = [cv2.resize(a.texture(), (256, 256), interpolation=cv2.INTER_AREA) for a in actors]
    batch = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        found = np.concatenate([network.person(part).numpy() for part in batch.split(8)])
    vectors = found - found.mean(0)
    kept = far_apart(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), count)
    stay = {actors[i].name for i in kept}
    left = {a.name for a in actors} - stay
    rows = [replace(r, use="no", why="resembles others of the cast") if r.name in left else r for r in rows]
    write_list(rows)
    print(f"{len(left)} leave:", *sorted(left))


def judge(folder: Path, portraits: Mapping[str, Source] | None = None) -> None:
    """Print how many pairs of actors dlib takes for one person: by their textures, or by the portraits themselves."""
    scoring = import_module("revisage.models.scoring")
    recognizer, actors = scoring.DlibRecognizer(), cast.Cast.load(folder).actors
    if portraits is None:
        seen = [(actor.texture(), actor.landmarks) for actor in actors]
    else:
        found = [portraits[actor.name].portrait for actor in actors]
        seen = [(portrait.read(), portrait.landmarks) for portrait in found]
    vectors = np.stack([recognizer.embed(picture, points) for picture, points in seen])
    one, two = np.triu_indices(len(actors), 1)
    same = np.linalg.norm(vectors[one] - vectors[two], axis=1) <= scoring.SAME_PERSON
    sexes = np.array([a.sex for a in actors])
    for name, on in (("all", np.ones(len(one), bool)), ("of one sex", sexes[one] == sexes[two])):
        print(f"pairs {name}: {on.sum()}, one person to dlib: {same[on].mean():.2%}")


def sheet(folder: Path, out: Path, columns: int = 15) -> None:
    """One picture of all actors, dark to pale, and of the mouths under them."""
    found = cast.Cast.load(folder)
    faces = []
    for actor in sorted(found.actors, key=lambda a: float(a.lab[0])):
        middle = actor.landmarks[layout.OVAL].mean(0)
        x, y = (int(np.clip(v - half, 0, found.size - 2 * half)) for v, half in zip(middle, _CUT, strict=True))
        faces.append(
            cv2.resize(actor.texture()[y : y + 2 * _CUT[1], x : x + 2 * _CUT[0]], _CELL, interpolation=cv2.INTER_AREA)
        )
    mouths = [cv2.resize(m.picture(), (_CELL[0],) * 2, interpolation=cv2.INTER_AREA) for m in found.mouths]
    picture = np.concatenate([_grid(faces, columns), _grid(mouths, columns)])
    cv2.imwrite(str(out), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])


def _grid(cells: Sequence[Image], columns: int) -> Image:
    height, width = cells[0].shape[:2]
    picture = np.full((-(-len(cells) // columns) * height, columns * width, 3), 255, np.uint8)
    for i, cell in enumerate(cells):
        y, x = i // columns * height, i % columns * width
        picture[y : y + height, x : x + width] = cell
    return picture


def find_irises(folder: Path, out: Path) -> None:
    """Write `name`, `iris` and `mesh` of all portraits that are large enough to be actors, by MediaPipe's models."""
    solutions: Any = import_module("mediapipe").solutions
    mesh = solutions.face_mesh.FaceMesh(static_image_mode=True, refine_landmarks=True, min_detection_confidence=0.3)
    names, irises, meshes = [], [], []
    for portrait in load_portraits(folder, usable_only=False):
        if layout.interocular(portrait.landmarks) < _LEAST_APART:
            continue
        picture = portrait.read()
        found = mesh.process(picture).multi_face_landmarks
        if found:
            height, width = picture.shape[:2]
            points = np.array([(p.x * width, p.y * height, p.z * width) for p in found[0].landmark], np.float32)
            names.append(portrait.name)
            meshes.append(points[:468])
            irises.append(sorted(points[468:, :2].reshape(2, 5, 2), key=lambda eye: float(eye[0, 0])))
    np.savez(out, name=np.array(names), iris=np.array(irises), mesh=np.array(meshes))


def measure_all(known: Mapping[str, Source], out: Path) -> None:
    """A line of `Measures` for every portrait that is large enough."""
    large = {n: s for n, s in known.items() if layout.interocular(s.portrait.landmarks) >= _LEAST_APART}
    meshes = np.stack([align_mesh(source) for source in large.values()])
    surface = relight.Surface.of(meshes)
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["name", *Measures.__dataclass_fields__], lineterminator="\n")
        writer.writeheader()
        for name, source in large.items():
            try:
                found = asdict(measure(source, surface, np.median(meshes, axis=0)))
            except ValueError:
                continue  # hardly any skin: a mask, a beard, no face
            writer.writerow({"name": name, **{k: round(v, 4) for k, v in found.items()}})


def encode(picture: Image) -> Gray:
    """(N,) uint8: a JPEG whose colours are as fine as its lightness."""
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        QUALITY,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    done, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise ValueError("the picture cannot be encoded")
    encoded: Gray = data.ravel()
    return encoded


def main(given: Sequence[str] | None = None) -> None:
    """Of the command line, or `given`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, folders in (("irises", 1), ("measure", 2), ("make", 2), ("thin", 1), ("judge", 1), ("sheet", 1)):
        command = commands.add_parser(name)
        command.add_argument("folders", type=Path, nargs=folders, metavar="FOLDER")
        if folders == 2 or name == "irises":
            command.add_argument("--irises", type=Path, required=True, help="irises of the folder without")
        if name in ("measure", "make", "sheet"):
            command.add_argument("--out", type=Path, required=True)
        if name == "judge":
            command.add_argument("--portraits", type=Path, nargs=2, help="CAST and FACES, with --irises")
            command.add_argument("--irises", type=Path)
        if name == "thin":
            command.add_argument("--recognizer", type=Path, required=True, help="faceres.json")
            command.add_argument("--count", type=int, required=True, help="actors that stay")
    args = parser.parse_args(given)
    first = args.folders[0]
    if args.command == "irises":
        find_irises(first, args.irises)
    elif args.command == "thin":
        thin(first, args.recognizer, args.count)
    elif args.command == "judge":
        folders = args.portraits
        judge(first, sources(folders[0]) | sources(folders[1], args.irises) if folders else None)
    elif args.command == "sheet":
        sheet(first, args.out)
    else:
        known = sources(first) | sources(args.folders[1], args.irises)
        if args.command == "measure":
            measure_all(known, args.out)
        else:
            write_list(make(read_list(), known, args.out))


if __name__ == "__main__":
    main()
