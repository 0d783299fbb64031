"""Makes the cast: actors who do not exist, relit to neutral, their faces alone, as weights.

    python -m revisage.models.train.cast irises FACES --out irises.npz             (needs mediapipe 0.10.14)
    python -m revisage.models.train.cast measure CAST FACES --irises irises.npz --out measures.csv
    python -m revisage.models.train.cast make CAST FACES --irises irises.npz --out DIR [--sheet PICTURE.jpg]

`CAST` and `FACES` are folders of portraits (`images/`, `landmarks.npz`; the first one's has irises, the second one's
are found first). Who is in, and why the others are not, stands in `cast.csv` beside this module: measures first, then
the eye. `make` follows that list and nothing else.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from safetensors.numpy import save_file

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
TEETH = 0.045  # opening of the mouth, in interocular distances, from which teeth are seen
_INSIDE = 0.012  # of the side: within the oval by this much pixels are the portrait's own
_FEATHER = 0.008
_HAIR_DEPTH = 0.09  # of the side: how far inside the oval hair is looked for
_HAIR = 0.38  # of the skin's L*: so much darker than it, and connected to the outside, is hair
_PART = 0.010  # of the side: brows and eyes grown by this much are no hair
_STRANGE = 15.0  # distance in a*b* from the skin's: so is what is of another colour


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A portrait and what is known of it."""

    name: str  # "cast-female_00", "faces-0012"
    portrait: Portrait
    iris: Float  # (2, 5, 2) pixels of the portrait: centre and four points of the rim, the viewer's left first


@dataclass(frozen=True, slots=True, eq=False)
class Aligned:
    """A portrait in the crop."""

    linear: Float  # (SIZE, SIZE, 3) linear light
    mesh: Float  # (468, 3) pixels of the crop
    iris: Float  # (2, 5, 2) pixels of the crop

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
    """By name. Irises from `landmarks.npz`, or from `irises` (`name`, `iris`) for a folder whose file has none."""
    with np.load(irises or folder / "landmarks.npz") as data:
        iris = dict(zip((str(n) for n in data["name"]), data["iris"].astype(np.float32), strict=True))
    portraits = {p.name: p for p in load_portraits(folder, usable_only=False)}
    return {f"{folder.name}-{Path(n).stem}": Source(n, portraits[n], iris[n]) for n in iris}


def align(source: Source, size: int = SIZE) -> Aligned:
    """Laid to `FACE_TEMPLATE` by a similarity, without aliasing; nothing is bent."""
    portrait = source.portrait
    matrix = geometry.align(layout.five_points(portrait.landmarks), FACE_TEMPLATE, size)
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    picture = relight.to_linear(portrait.read())
    # A picture to be shrunk loses first what the smaller grid cannot hold.
    if scale < 1:
        picture = cv2.GaussianBlur(picture, (0, 0), 0.42 * np.sqrt(1 / scale**2 - 1) + 1e-3)
    linear = cv2.warpAffine(picture, matrix, (size, size), flags=cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REPLICATE)
    return Aligned(np.clip(linear, 0, 1), align_mesh(source, size), geometry.transform(source.iris, matrix))


def align_mesh(source: Source, size: int = SIZE) -> Float:
    """(468, 3): the mesh alone, laid to the template."""
    portrait = source.portrait
    matrix = geometry.align(layout.five_points(portrait.landmarks), FACE_TEMPLATE, size)
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    mesh = np.concatenate([geometry.transform(portrait.mesh[:, :2], matrix), portrait.mesh[:, 2:] * scale], axis=1)
    return np.asarray(mesh, np.float32)


def skin_mask(landmarks: Float, size: int = SIZE) -> Gray:
    """(size, size) uint8, 255 where skin is to be expected: inside the oval, without brows, eyes, nostrils and lips."""
    mask = cv2.erode(_hull(landmarks[layout.OVAL], size), _disc(0.03 * size))
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


def own_face(lit: Float, landmarks: Float, skin: Gray) -> Float:
    """(S, S) float32, 1 where the portrait's own pixels stay; 0 outside and where hair hangs over the rim."""
    size = lit.shape[0]
    oval = _hull(landmarks[layout.OVAL], size)
    inner = cv2.erode(oval, _disc(_INSIDE * size))
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
    # Below the corners of the mouth what is dark is beard, and stays.
    above = np.arange(size)[:, None] < landmarks[[layout.MOUTH_LEFT, layout.MOUTH_RIGHT], 1].mean()
    outside = (strange & rim & above) | (inner == 0)
    labels = cv2.connectedComponents(outside.astype(np.uint8))[1]
    hair = (labels == labels[0, 0]) & (labels > 0)
    kept = cv2.erode((~hair).astype(np.uint8), _disc(_FEATHER * size))
    return np.asarray(cv2.GaussianBlur(kept.astype(np.float32), (0, 0), _FEATHER * size / 2), np.float32)


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


def make_actor(source: Source, surface: relight.Surface, light: Float) -> Made:
    """The portrait relit to `light`, its colour cast taken out, the face alone."""
    aligned = align(source)
    skin = bare_skin(aligned.linear, aligned.landmarks)
    lit = relight.relight(aligned.linear, aligned.mesh, surface, skin, light)
    lit = lit * white_balance(lit[skin > 0].mean(0))
    plain = bare_skin(lit, aligned.landmarks, 2.5)
    picture = relight.to_srgb(filled(lit, own_face(lit, aligned.landmarks, skin), plain))
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
    tone: str  # one of `cast.TONES`, or empty
    use: str  # "actor", "mouth", "no"
    why: str  # where not used as an actor


def read_list(path: Path = LIST) -> list[Row]:
    """In the file's order."""
    with path.open(encoding="utf-8", newline="") as file:
        return [Row(**{**row, "age": int(row["age"] or 0)}) for row in csv.DictReader(file)]


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


def make(rows: Sequence[Row], known: Mapping[str, Source], out: Path) -> None:
    """Write `config.json` and `cast.safetensors` of the actors and mouths among `rows`."""
    chosen = [row for row in rows if row.use == "actor"]
    surface, light = common([known[row.name] for row in chosen])
    actors, arrays, made = [], {}, []
    for row in chosen:
        actor = make_actor(known[row.name], surface, light)
        made.append(actor)
        opening = float(layout.mouth_opening(layout.from_mesh(actor.mesh)))
        arrays[f"texture.{row.name}"] = encode(actor.texture)
        actors.append(
            {
                "name": row.name,
                "sex": row.sex,
                "age": row.age,
                "has_teeth": opening > TEETH,
                "mouth_opening": round(opening, 4),
            }
        )
    for key in ("mesh", "iris", "tone"):
        arrays[key] = np.stack([getattr(actor, key) for actor in made]).astype(np.float32)
    arrays["mouth.lips"] = np.zeros((0, cast.MOUTH_POINTS, 2), np.float32)
    arrays["mouth.colours"] = np.zeros((0, 2, 3), np.float32)
    config = {"format": 1, "template": FACE_TEMPLATE.name, "size": SIZE, "actors": actors, "mouths": []}
    out.mkdir(parents=True, exist_ok=True)
    save_file(arrays, out / cast.ARRAYS)
    (out / cast.CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


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
    parser.add_argument("command", choices=["make"])
    parser.add_argument("folders", type=Path, nargs=2, metavar="FOLDER", help="CAST and FACES")
    parser.add_argument("--irises", type=Path, required=True, help="of the second folder")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(given)
    known = sources(args.folders[0]) | sources(args.folders[1], args.irises)
    make(read_list(), known, args.out)


if __name__ == "__main__":
    main()
