"""Fits the model of appearance, `models/appearance.py`, to portraits of people who do not exist; reads codes off them.

Faces are warped to the mean shape by their landmarks and made symmetric. Of the logarithm of their colours, what nine
spherical harmonics of the surface can explain is light (Basri & Jacobs, *Lambertian Reflectance and Linear Subspaces*,
PAMI 25(2), 2003), together with the skin's tone; the rest has principal components. Turned heads, sunglasses, hands and
hair are left out of the fit, beards and paint out of the looks to be mixed; where many are alike to a recognizer, few
are mixed. Knows no generator.

    python -m revisage.models.train.appearance FOLDER --recognizer faceres.json --out DIR [--sheet PNG]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import RBFInterpolator

from revisage.models import layout
from revisage.models.appearance import MOST, SIDE, Appearance, Artist
from revisage.models.conditioning import FACE_TEMPLATE, standard_landmarks
from revisage.models.expression import FURTHEST, MEASURES, deviations, expression, nose_length
from revisage.models.train.data import Portrait, load_portraits, split
from revisage.models.train.recognizer import Recognizer
from revisage.models.warp import places, triangles_of
from revisage.pipeline import geometry
from revisage.pipeline.pixels import Mask
from revisage.pipeline.types import CropTemplate, Float, Gray, Image

CODE = 64
SPAN = 0.62  # of the face crop's side, shown by the picture in which all faces have one shape
CENTRE = 0.018  # of the same, below the crop's middle
FRONTAL = 0.25  # logarithm of the ratio of the face's halves up to which it looks straight ahead
SHADOW = 0.04  # of full scale, added before taking the logarithm
CALM_SHARE, KEPT_SHARE = 0.75, 0.95  # of the frontal faces: the most symmetric, then the best explained
UNLIKELY = 2.5  # mean squared component beyond which a face is no face
# Shares of the people that are read; see `unadorned`.
BEARDLESS, BARE_EYED, PALE_LIPPED, OPEN_EYED, CLEAR_EYED, BARE_BROWED = 0.65, 0.65, 0.9, 0.9, 0.85, 0.85
# What is left of how a face departs from the mean one: of skin's colour, of lips', and of shades wider than `WIDE` eye
# distances. Coloured lamps and hard ones make most of it, and on somebody else it is a green cheek, a pale chin.
SKIN_COLOUR, LIP_COLOUR, SHADES, WIDE = 0.3, 0.7, 0.5, 0.25
LOOKS = 200  # are mixed, of those that are plain: portraits crowd around few kinds of people, and keys would, too
SEEN = 128  # side of the crops that the recognizer sees
NOISE = 0.12  # what a code leaves unexplained, logarithm; with standard-normal codes it decides how far a fit may go


@dataclass(frozen=True, slots=True, eq=False)
class Mould:
    """The mean shape and what is known of each of its pixels."""

    shape: Float  # (135, 2) pixels of the SIDE x SIDE picture
    triangles: NDArray[np.int32]  # (F, 3) int32
    light: Float  # (SIDE, SIDE, 9), spherical harmonics of the surface's normals; odd ones across come last
    weight: Float  # (SIDE, SIDE), 0..1: how much of a face's look is drawn there
    outline: Mask  # (SIDE, SIDE), inside the face and not in the mouth

    @classmethod
    def of(cls, portraits: Sequence[Portrait]) -> Mould:
        """The mean face, and the mean depth of those that look straight ahead."""
        centre = np.array([0.5, 0.5 + CENTRE])
        five = (np.asarray(FACE_TEMPLATE.points) - centre) * (SIDE / SPAN) + (SIDE - 1) / 2
        shape = standard_landmarks(np.asarray(five, np.float32))
        shape = (shape + layout.mirror(shape, SIDE)) / 2
        return cls(shape, triangles_of(shape), _harmonics(_depth(shape, portraits)), *_weights(shape))

    def unwarped(self, portrait: Portrait) -> tuple[Image, Float]:
        """A portrait in the mean shape, and how well each pixel was seen (SIDE, SIDE), 0..1."""
        picture, points = portrait.read(), portrait.landmarks
        scale = layout.interocular(points) / layout.interocular(self.shape)
        if scale > 1.5:
            picture = cv2.GaussianBlur(picture, (0, 0), 0.4 * float(scale))
        x, y = places(self.shape, points, self.triangles, SIDE)
        found = cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        area = np.gradient(x, axis=1) * np.gradient(y, axis=0) - np.gradient(x, axis=0) * np.gradient(y, axis=1)
        seen = np.clip(cv2.blur(area.astype(np.float32), (5, 5)) / float(scale**2) / 0.6, 0, 1) * (x >= 0)
        return found, np.asarray(seen, np.float32)


def _depth(shape: Float, portraits: Sequence[Portrait]) -> Float:
    """(SIDE, SIDE) pixels towards the camera is negative, as in MediaPipe's mesh."""
    flat, deep = [], []
    for portrait in filter(frontal, portraits):
        matrix = geometry.align(layout.five_points(portrait.landmarks), FACE_TEMPLATE, SIDE)
        flat.append(geometry.transform(portrait.mesh[:, :2], matrix))
        deep.append(portrait.mesh[:, 2] * geometry.scale_of(matrix))
    points, depth = np.median(flat, axis=0), np.median(deep, axis=0)
    own = layout.from_mesh(points)
    matrix = geometry.align(own, CropTemplate("shape", tuple((x, y) for x, y in (shape + 0.5) / SIDE)), SIDE)
    surface = RBFInterpolator(
        geometry.transform(points, matrix), depth * geometry.scale_of(matrix), smoothing=5, neighbors=40
    )
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(float)
    found = surface(np.stack([columns.ravel(), rows.ravel()], axis=-1)).reshape(SIDE, SIDE)
    return np.asarray(cv2.GaussianBlur((found + found[:, ::-1]) / 2, (0, 0), 2.0), np.float32)


def _harmonics(depth: Float) -> Float:
    down, across = np.gradient(depth)
    normals = np.stack([across, down, np.ones_like(depth)], axis=-1)
    x, y, z = np.moveaxis(normals / np.linalg.norm(normals, axis=-1, keepdims=True), -1, 0)
    parts = [np.ones_like(x), y, z, x * x - y * y, 3 * z * z - 1, y * z, x, x * y, x * z]
    return np.asarray(np.stack(parts, axis=-1), np.float32)


def _weights(shape: Float) -> tuple[Float, Mask]:
    """Faded towards the outline, and on the forehead, where hair would be drawn; nothing inside the mouth."""
    unit = float(layout.interocular(shape))
    face, mouth = (_filled(shape[part]) for part in (layout.OVAL, layout.LIPS_INNER))
    inside = _ramp(cv2.distanceTransform(face, cv2.DIST_L2, 5), 0.02 * unit, 0.3 * unit)
    brows = shape[layout.BROW_LEFT.start : layout.BROW_RIGHT.stop, 1].min()
    rows = np.arange(SIDE, dtype=np.float32)[:, None]
    below = _ramp(rows, brows - 0.4 * unit, brows - 0.08 * unit)
    weight = inside * below * (1 - cv2.GaussianBlur(mouth.astype(np.float32), (0, 0), 0.7))
    return np.asarray(weight, np.float32), (cv2.erode(face, np.ones((5, 5), np.uint8)) > 0) & (mouth == 0)


def _filled(points: Float) -> Gray:
    mask: Gray = np.zeros((SIDE, SIDE), np.uint8)
    cv2.fillPoly(mask, [np.round(points * 16).astype(np.int32)], 1, cv2.LINE_8, 4)
    return mask


def _ramp(values: Float, low: float, high: float) -> Float:
    t = np.clip((values - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def frontal(portrait: Portrait) -> bool:
    """Whether the nose lies midway between the ears."""
    left, right = (np.linalg.norm(portrait.mesh[i, :2] - portrait.mesh[4, :2]) for i in (234, 454))
    return bool(abs(np.log(left / right)) < FRONTAL)


def _logarithm(pictures: Image) -> Float:
    return np.asarray(np.log(pictures.astype(np.float32) / 255 + SHADOW), np.float32)


def fit(portraits: Sequence[Portrait], mould: Mould, code_size: int = CODE) -> Appearance:
    """From the portraits that look straight ahead."""
    ahead = [portrait for portrait in portraits if frontal(portrait)]
    looks = _logarithm(np.stack([mould.unwarped(portrait)[0] for portrait in ahead]))
    lopsided = np.abs(looks - looks[:, :, ::-1])[:, mould.outline].mean((1, 2))
    calm = np.flatnonzero(lopsided <= np.quantile(lopsided, CALM_SHARE))
    flat = _without_light(((looks + looks[:, :, ::-1]) / 2)[calm], mould)
    flat = _without_lamps(flat, mould) * mould.weight[..., None]
    pixels = np.flatnonzero(mould.weight.reshape(-1) > 1e-3).astype(np.int32)
    rows = flat.reshape(len(flat), -1, 3)[:, pixels].reshape(len(flat), -1)
    for _ in range(2):
        plausible = _plausible(rows)
        rows, calm = rows[plausible], calm[plausible]
    marks = [ahead[i].landmarks for i in calm]
    seen = np.stack([expression(points) for points in marks])
    noses = np.array([nose_length(points) for points in marks])
    usual = np.stack([seen.mean(0), seen.std(0)])
    amounts = deviations(seen, usual)
    expressions = _expressions(rows.reshape(len(rows), -1, 3), amounts, noses, mould, pixels)
    rows = rows - amounts @ expressions.reshape(len(expressions), -1)
    mean = rows.mean(0)
    _, spread, directions = np.linalg.svd(rows - mean, full_matrices=False)
    basis = directions[:code_size] * (spread[:code_size, None] / len(rows) ** 0.5)
    explained = float((spread[:code_size] ** 2).sum() / (spread**2).sum())
    print(f"{len(rows)} of {len(portraits)} portraits; {code_size} components explain {explained:.3f}")
    shaped = (mean.reshape(-1, 3), basis.reshape(len(basis), -1, 3), np.ones((1, len(basis))), usual, expressions)
    arrays = (np.asarray(a, np.float32) for a in shaped)
    found: Appearance = Appearance.of(mould.shape, mould.triangles, pixels, *arrays)
    return found


def _expressions(rows: Float, amounts: Float, noses: Float, mould: Mould, pixels: NDArray[np.int32]) -> Float:
    """(3, P, 3): what expressions, by their deviations `amounts` (N, 3), do to faces (N, P, 3).

    Only how light skin is: who smiles more is more often a woman, and painted. And only where it can be: a mouth moves
    nothing above the eyes, and lids nothing below. Children's mouths are small, so the length of noses (N,), which
    tells them apart, may explain what it can.
    """
    childlike = np.clip((noses - noses.mean()) / noses.std(), -FURTHEST, FURTHEST)
    causes = np.column_stack([amounts, childlike, np.ones(len(rows))])
    grey = rows.mean(-1)
    effects = np.linalg.lstsq(causes, grey, rcond=None)[0][: len(MEASURES)]
    down = (pixels // SIDE).astype(np.float32)
    brows = float(mould.shape[layout.BROW_LEFT.start : layout.BROW_RIGHT.stop, 1].mean())
    lids = float(mould.shape[layout.EYE_LEFT, 1].max())
    below, above = _ramp(down, brows, lids + 2), 1 - _ramp(down, lids, lids + 8)
    effects *= np.stack([above if name == "eyes" else below for name in MEASURES])
    return np.repeat(effects[..., None], 3, axis=-1)


def peopled(appearance: Appearance, portraits: Sequence[Portrait], mould: Mould, recognizer: Recognizer) -> Appearance:
    """`appearance` with the looks of `portraits`, without the tenth that it describes worst (glasses, hands), the most
    colourful tenth (paint), the extremes, what is adorned, and what `recognizer` finds alike.
    """
    read = [read_code(portrait, mould, appearance) for portrait in portraits]
    codes, unlike = np.stack([code for code, _ in read]), np.array([rest for _, rest in read])
    basis = appearance.basis.float().numpy()
    tint = np.einsum("nk,kpc->npc", codes, (basis - basis.mean(-1, keepdims=True))[:, ::4])
    colour = np.sqrt(np.square(tint).mean((1, 2)))
    plain = (unlike < np.quantile(unlike, 0.9)) & (colour < np.quantile(colour, 0.9))
    plain &= (np.abs(codes).max(1) < 4.5) & (np.linalg.norm(codes, axis=1) < 10.5)
    parts = [getattr(appearance, name).float().numpy() for name in ("mean", "basis")]
    moods = [getattr(appearance, name).float().numpy() for name in ("usual", "expressions")]
    shape: Float = np.asarray(appearance.shape.float().numpy() * SIDE, np.float32)
    numbers = (appearance.triangles.numpy(), appearance.pixels.numpy())
    artist, kept = Artist(appearance, skin=MOST), np.flatnonzero(plain)
    kept = kept[unadorned(np.stack([artist.portrait(codes[i]) for i in kept]), shape)]
    kept = kept[distinct(_persons([portraits[i] for i in kept], recognizer), LOOKS)]
    full: Appearance = Appearance.of(shape, *numbers, *parts, codes[kept], *moods)
    return full


@torch.inference_mode()
def _persons(portraits: Sequence[Portrait], recognizer: Recognizer) -> Float:
    """Whom `recognizer` sees in each of N: (N, D)."""
    found = []
    for portrait in portraits:
        matrix = geometry.align(layout.five_points(portrait.landmarks), FACE_TEMPLATE, SEEN)
        crop = torch.from_numpy(geometry.crop(portrait.read(), matrix, SEEN)).permute(2, 0, 1)[None]
        found.append(recognizer.person(crop.float() / 127.5 - 1)[0].numpy())
    return np.stack(found)


def distinct(persons: Float, count: int) -> NDArray[np.intp]:
    """Numbers of `count` of the people (N, D), in order: whoever has most others close by goes, one after the other.

    A key's face is a mix of few looks. Where a third of them are of one kind, so are a third of the faces, and a
    recognizer takes two of a kind for one person far more often than any other two.
    """
    apart = np.linalg.norm(persons[:, None] - persons[None], axis=-1)
    near = np.exp(-apart / max(float(apart[np.triu_indices(len(apart), 1)].std()), 1e-9))
    crowd = near.sum(1)
    left = np.ones(len(persons), bool)
    while left.sum() > count:
        most = np.where(left, crowd, -np.inf).argmax()
        left[most] = False
        crowd -= near[most]
    return np.flatnonzero(left)


def unadorned(looks: Float, shape: Float) -> Mask:
    """(N,): whose looks (N, SIDE, SIDE, 3) have no beard, no painted lids and lips, open eyes with whites in
    them and no fringe, compared with all.

    Nobody knows on whom a look will be: a moustache or a lipstick that suits its portrait is a mask on many others.
    Closed or small eyes, dark glasses and shadows leave holes where eyes should be, fringes a dark haze above them.
    """
    drawn, light = np.abs(looks).max((0, 3)) > 0, looks.mean(-1)
    departure = np.stack([cv2.GaussianBlur(one, (0, 0), 3) for one in light - light.mean(0)])
    lips, lids = _filled(shape[layout.LIPS_OUTER]), _filled(shape[layout.EYE_LEFT]) | _filled(shape[layout.EYE_RIGHT])
    around_lips = (cv2.dilate(lips, np.ones((5, 5), np.uint8)) == 0) & drawn
    around_lips[: round(float(shape[layout.NOSTRILS, 1].max())) + 2] = False
    around_lids = cv2.dilate(lids, np.ones((17, 17), np.uint8)) > cv2.dilate(lids, np.ones((3, 3), np.uint8))
    around_lids[: round(float(shape[layout.BROW_LEFT.start : layout.BROW_RIGHT.stop, 1].max()))] = False
    beard = np.square(np.minimum(departure[:, around_lips], 0)).mean(1)
    paint = np.square(np.minimum(departure[:, around_lids], 0)).mean(1)
    tint = (looks[..., 0] - looks[..., 1:].mean(-1))[:, lips > 0].mean(1)
    shade = light[:, lips > 0].mean(1)
    lipstick = np.square((tint - tint.mean()) / tint.std()) + np.square((shade - shade.mean()) / shade.std())
    eyes = light[:, lids > 0]
    contrast, usual = eyes - eyes.mean(1, keepdims=True), eyes.mean(0)
    shut = -(contrast @ contrast.mean(0))  # how little there is of what eyes have in common: white, iris, white
    white, iris = (eyes[:, part].mean(1) for part in (usual > np.median(usual), usual < np.median(usual)))
    hollow = iris - 2 * white  # neither bright where the white should be nor any brighter there
    above = drawn & (np.arange(SIDE)[:, None] < shape[layout.BROW_LEFT.start : layout.BROW_RIGHT.stop, 1].min())
    fringe = -light[:, above].mean(1)
    measures = (
        (beard, BEARDLESS),
        (paint, BARE_EYED),
        (lipstick, PALE_LIPPED),
        (shut, OPEN_EYED),
        (hollow, CLEAR_EYED),
        (fringe, BARE_BROWED),
    )
    return np.asarray(np.all([of < np.quantile(of, share) for of, share in measures], axis=0))


def _without_light(looks: Float, mould: Mould) -> Float:
    """(N, SIDE, SIDE, 3) without what even harmonics and the mean face explain together; the mean face stays in."""
    even = mould.light[..., :6]
    seen = even[mould.outline].astype(np.float64)
    mean = np.zeros(looks.shape[1:], np.float32)
    for _ in range(3):
        rest = (looks - mean)[:, mould.outline].transpose(1, 0, 2).reshape(len(seen), -1)
        amounts = np.linalg.lstsq(seen, rest, rcond=None)[0].astype(np.float32)
        light = (even.reshape(-1, even.shape[-1]) @ amounts).reshape(SIDE, SIDE, len(looks), 3)
        flat: Float = looks - light.transpose(2, 0, 1, 3)
        mean = np.median(flat, axis=0)
    return flat


def _without_lamps(looks: Float, mould: Mould) -> Float:
    """(N, SIDE, SIDE, 3) with less of what harmonics do not explain and people differ little by; see `SKIN_COLOUR`."""
    mean = looks.mean(0)
    sigma = WIDE * float(layout.interocular(mould.shape))
    inside = mould.outline.astype(np.float32)
    spread = np.maximum(cv2.GaussianBlur(inside, (0, 0), sigma), 1e-3)
    left, right, lips = (
        cv2.GaussianBlur(_filled(mould.shape[part]).astype(np.float32), (0, 0), 1)
        for part in (layout.EYE_LEFT, layout.EYE_RIGHT, layout.LIPS_OUTER)
    )
    kept = SKIN_COLOUR + (1 - SKIN_COLOUR) * (left + right) + (LIP_COLOUR - SKIN_COLOUR) * lips
    plain = np.empty_like(looks)
    for number, departure in enumerate(looks - mean):
        grey = departure.mean(-1)
        wide = cv2.GaussianBlur(grey * inside, (0, 0), sigma) / spread
        shade = grey - (1 - SHADES) * wide
        plain[number] = mean + shade[..., None] + (departure - grey[..., None]) * kept[..., None]
    return plain


def _plausible(rows: Float, components: int = 40) -> Mask:
    centred = rows - rows.mean(0)
    scores, spread, directions = np.linalg.svd(centred, full_matrices=False)
    rest = np.abs(centred - (scores[:, :components] * spread[:components]) @ directions[:components]).mean(1)
    odd = (scores[:, :components] ** 2).sum(1) * len(rows) / components
    return np.asarray((rest < np.quantile(rest, KEPT_SHARE)) & (odd < UNLIKELY))


def read_code(portrait: Portrait, mould: Mould, appearance: Appearance) -> tuple[Float, float]:
    """The code that is most likely a portrait's, (code size,), and what it leaves unexplained (root mean square).

    Light and code together, by least squares with codes standard normal; hidden halves of turned faces count less.
    """
    picture, seen = mould.unwarped(portrait)
    pixels = appearance.pixels.numpy()[::2]
    look = _logarithm(picture).reshape(-1, 3)[pixels].astype(np.float64)
    light = mould.light.reshape(-1, 9)[pixels].astype(np.float64)
    fade = mould.weight.reshape(-1)[pixels][:, None].astype(np.float64)
    seen_well = np.sqrt(seen.reshape(-1)[pixels])[:, None]
    count = appearance.basis.shape[0]
    columns = np.zeros((len(pixels), 3, 27 + count))
    for channel in range(3):
        columns[:, channel, 9 * channel : 9 * channel + 9] = light * fade
    columns[..., 27:] = appearance.basis.numpy()[:, ::2].transpose(1, 2, 0)
    amounts = deviations(expression(portrait.landmarks), appearance.usual.numpy())
    does = np.tensordot(amounts, appearance.expressions.numpy(), 1)
    target = ((look * fade - (appearance.mean.numpy() + does)[::2]) * seen_well).reshape(-1)
    columns = (columns * seen_well[..., None]).reshape(-1, 27 + count)
    strength = NOISE**2 * len(columns) / 1500  # neighbours err alike: far fewer numbers than pixels are independent
    prior = np.diag([1e-3] * 27 + [strength] * count)
    found = np.linalg.solve(columns.T @ columns + prior, columns.T @ target)
    rest = float(np.sqrt(((columns @ found - target) ** 2).sum() / max(3 * float((fade * seen_well).sum()), 1e-9)))
    return np.asarray(found[27:], np.float32), rest


def _sheet(appearance: Appearance, mould: Mould, portraits: Sequence[Portrait]) -> Image:
    """First row: portraits; second: their codes; three more: drawn codes; in the mean face's own colours."""
    artist, rng = Artist(appearance), np.random.default_rng(0)
    rows = [np.hstack([mould.unwarped(p)[0] for p in portraits])]
    codes = [np.stack([read_code(p, mould, appearance)[0] for p in portraits])]
    drawn = rng.standard_normal((3, len(portraits), appearance.config.code_size)).astype(np.float32)
    codes += [np.stack([artist.someone(code) for code in group]) for group in drawn]
    for group in codes:
        skin = [np.clip(np.exp(artist.portrait(code)) * (190, 145, 120), 0, 255).astype(np.uint8) for code in group]
        rows.append(np.hstack(skin))
    return np.vstack(rows)


def main(args: argparse.Namespace) -> None:
    """Fit, save, draw."""
    usable, _ = split(load_portraits(args.folder))
    mould = Mould.of(usable)
    appearance = peopled(fit(usable, mould), usable, mould, Recognizer(args.recognizer))
    appearance.half().save_pretrained(args.out, safe_serialization=True)
    if args.sheet:
        picture = _sheet(appearance.float(), mould, usable[:: len(usable) // 14][:14])
        cv2.imwrite(str(args.sheet), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder with images/ and landmarks.npz")
    parser.add_argument("--recognizer", type=Path, required=True, help="faceres.json, see models/train/recognizer.py")
    parser.add_argument("--out", type=Path, required=True, help="where to write the diffusers component")
    parser.add_argument("--sheet", type=Path, help="a picture of portraits, their codes and drawn codes")
    main(parser.parse_args())
