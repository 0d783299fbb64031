"""Attacks on what the pixels themselves carry (`--carry`): wrong keys, wrong signs, a known frame, magnitudes.

Takes a few frames of one track, hides them as `anonymize --carry` does, rounds them to the video's own samples, and
lets the attacker have everything but what the attack is about: model, geometry, identity code and, but for the wrong
key, the noise. The published method (carry 1, signs from one seed for the whole video) is the first row of everything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from revisage.models import layout
from revisage.models.base import CarryRequest, Descent, FaceCarrier, Inverted
from revisage.models.latents import Stream, Veil, identity_code, undamped, unmix
from revisage.models.scoring import SAME_PERSON, DlibRecognizer
from revisage.pipeline import carry as carrying
from revisage.pipeline import geometry
from revisage.pipeline.carry import Carriage, Carry
from revisage.pipeline.composite import PlacedFace, place
from revisage.pipeline.convey import CALM, hidden_latent, recovered
from revisage.pipeline.evaluation import measures
from revisage.pipeline.evaluation.films import Watched
from revisage.pipeline.evaluation.portraits import Sitter
from revisage.pipeline.evaluation.report import Attack
from revisage.pipeline.geometry import ROUGH
from revisage.pipeline.media import open_video
from revisage.pipeline.pixels import Mask, PixelFormat, Planes, blend, to_rgb
from revisage.pipeline.types import CropTemplate, Float, Image, Plan

WRONG = (0.01, 0.05, 0.1, 0.25, 0.5)  # shares of signs that are wrong


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """One face in one frame of the original, laid out for carrying."""

    face: PlacedFace
    carriage: Carriage
    planes: Planes
    fmt: PixelFormat
    original: Float  # (3, N, N) RGB, -1..1: what the square shows
    driving: Float  # (135, 2) in pixels of the frame

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the frame."""
        height, width = self.planes[0].shape
        return width, height


@dataclass(frozen=True, slots=True, eq=False)
class Hidden:
    """A shot as it is published, and what the key's owner knows of it."""

    shot: Shot
    request: CarryRequest
    latent: Float  # (3, N, N), of the original
    noise: Float  # (3, N, N)
    signs: Float  # (3, N, N)
    planes: Planes  # the anonymized frame, in samples of the video
    read: Float  # (3, N, N), what is read of the square there
    found: Float  # (3, N, N), the mixed latent of that


class Bench:
    """What both sides work with. `seed` stands for a track's key: a number is no secret, and nothing here is kept."""

    def __init__(self, carrier: FaceCarrier, code_size: int, recognizer: DlibRecognizer, descent: Descent) -> None:
        self.carrier, self.code_size, self.recognizer, self.descent = carrier, code_size, recognizer, descent

    def hide(self, shots: Sequence[Shot], seed: str, carry: float) -> list[Hidden]:
        """Every shot under the key and time segment `seed`, rounded to the samples of its video."""
        veil = self.veil(seed)
        requests = [self.request(shot, shot.original, seed, veil) for shot in shots]
        sources = self.invert(requests, [shot.original for shot in shots])
        signs = [_corner(veil.signs, source.latent) for source in sources]
        mixed = [hidden_latent(source, veil, carry) for source in sources]
        grown = self.carrier.regrow(requests, mixed, self.descent)
        frames = [_published(*row) for row in zip(shots, requests, grown, strict=True)]
        reads = [carrying.found(s.carriage, planes, s.fmt) for s, planes in zip(shots, frames, strict=True)]
        found = self.invert(requests, reads)
        latents = [undamped(np.nan_to_num(f.latent), f.there, CALM) for f in found]
        rows = zip(shots, requests, sources, signs, frames, reads, latents, strict=True)
        return [Hidden(s, q, o.latent, o.noise, g, p, r, z) for s, q, o, g, p, r, z in rows]

    def invert(self, requests: Sequence[CarryRequest], pictures: Sequence[Float]) -> list[Inverted]:
        """The latents of what carries in `pictures`."""
        return self.carrier.invert(requests, pictures, self.descent)

    def veil(self, seed: str) -> Veil:
        """Noise and signs."""
        return Veil.drawn(_stream(seed, "noise"), _stream(seed, "signs"), self.carrier.size)

    def request(self, shot: Shot, picture: Float, seed: str, veil: Veil) -> CarryRequest:
        """What the network sees, with the identity code of `seed`."""
        code = identity_code(_stream(seed.partition("/")[0], "code"), self.code_size)
        return carrying.request_for(shot.carriage, picture, shot.fmt, self.carrier.size, code, veil.noise)

    def recovered(self, hidden: Sequence[Hidden], latents: Sequence[Float]) -> list[Image]:
        """The frames that `latents` grow back into, (H, W, 3) RGB."""
        pictures = self.carrier.regrow([h.request for h in hidden], latents, self.descent)
        return [_restored(h, picture) for h, picture in zip(hidden, pictures, strict=True)]

    def verdict(self, hidden: Sequence[Hidden], pictures: Sequence[Image]) -> dict[str, float]:
        """PSNR inside the faces, and how far a recognizer is from the original."""
        quality, distance = [], []
        for item, picture in zip(hidden, pictures, strict=True):
            original, mask = _rgb(item.shot.planes, item.shot.fmt), _mask(item.shot)
            quality.append(measures.psnr(original, picture, mask))
            vectors = [self.recognizer.embed(p, item.shot.driving) for p in (original, picture)]
            distance.append(float(np.linalg.norm(vectors[0] - vectors[1])))
        same = measures.same_person_rate(np.array(distance), SAME_PERSON)
        psnr = measures.mean(np.array(quality))
        return {"psnr": psnr, "same": same, "distance": measures.median(np.array(distance))}


def shots_of(clip: Path, plan: Plan, track: Watched, template: CropTemplate, size: int, count: int) -> list[Shot]:
    """`count` frames of `track`, evenly spread."""
    chosen = set(track.frames[np.linspace(0, len(track.frames) - 1, count).round().astype(int)].tolist())
    faces = {face.frame: face for t in plan.tracks if t.id == track.track for face in t.faces}
    found: list[Shot] = []
    with open_video(clip) as video:
        for frame in video.frames():
            face = faces.get(frame.index)
            if frame.index not in chosen or face is None or face.landmarks is None:
                continue
            fmt, planes = video.pix_fmt, [plane.copy() for plane in frame.planes]
            placed = place(track.track, face, template, size, fmt, video.width, video.height, margins=ROUGH)
            if placed is None:
                continue
            (carriage,) = carrying.lay_out([placed], fmt, video.width, video.height, size)
            original = carrying.look(carriage, planes, fmt)
            found.append(Shot(placed, carriage, planes, fmt, original, face.landmarks))
    return found


# -- the attacks


def attacks(bench: Bench, shots: Sequence[Shot], gallery: Sequence[Sitter], carry: float) -> list[Attack]:
    """All of them on at least two `shots` of one track; magnitudes where there is a gallery."""
    own, other = bench.hide(shots, "owner/0", carry), bench.hide(shots[1:], "owner/1", carry)
    found = [
        wrong_keys(bench, own, carry),
        wrong_signs(bench, own, carry),
        known_frame(bench, own, other, carry),
    ]
    return [*found, magnitudes(bench, own, gallery, carry)] if gallery else found


def wrong_keys(bench: Bench, hidden: Sequence[Hidden], carry: float) -> Attack:
    """The right key, somebody else's key, and the published frame as it stands."""
    right = bench.verdict(hidden, bench.recovered(hidden, [_undone(h, h.signs, carry) for h in hidden]))
    wrong = bench.verdict(hidden, _with_key(bench, hidden, "stranger", carry))
    shown = bench.verdict(hidden, [_rgb(h.planes, h.shot.fmt) for h in hidden])
    figures = {
        **{f"right_{k}": v for k, v in right.items()},
        **{f"wrong_{k}": v for k, v in wrong.items()},
        **{f"shown_{k}": v for k, v in shown.items()},
    }
    outcome = (
        f"right key {right['psnr']:.1f} dB, same person {right['same']:.0%}; wrong key {wrong['psnr']:.1f} dB, "
        f"{wrong['same']:.0%}; published as is {shown['same']:.0%}"
    )
    return Attack(f"wrong key on the pixels, carry {carry:g}", outcome, figures, wrong["same"] <= 0.01)


def wrong_signs(bench: Bench, hidden: Sequence[Hidden], carry: float) -> Attack:
    """Everything right but a share of the signs: how near must a guess come?"""
    figures: dict[str, float] = {}
    for share in WRONG:
        signs = [_damaged(h.signs, share, i) for i, h in enumerate(hidden)]
        latents = [_undone(h, s, carry) for h, s in zip(hidden, signs, strict=True)]
        found = bench.verdict(hidden, bench.recovered(hidden, latents))
        figures |= {f"psnr_{share:g}": found["psnr"], f"same_{share:g}": found["same"]}
    parts = [f"{s:.0%}: {figures[f'psnr_{s:g}']:.1f} dB, same {figures[f'same_{s:g}']:.0%}" for s in WRONG]
    outcome = "wrong signs " + "; ".join(parts)
    return Attack(f"key with wrong signs, carry {carry:g}", outcome, figures, figures["same_0.5"] <= 0.01)


def known_frame(bench: Bench, own: Sequence[Hidden], other: Sequence[Hidden], carry: float) -> Attack:
    """One original frame is known: its latent and the published one give the signs. Which other frames do they open?

    The first of `own` is known; the others are of its time segment and share its noise and signs, `other` are of the
    next segment and have their own.
    """
    first = own[0]
    learnt = np.sign(_undone(first, np.ones_like(first.signs), carry) * first.latent)
    learnt[learnt == 0] = 1
    within = _opened(bench, own[1:], learnt, carry)
    beyond = _opened(bench, other, learnt, carry)
    used = first.latent != 0
    right = measures.share(learnt[used] == first.signs[used])
    figures = {
        "signs_right": right,
        **{f"within_{k}": v for k, v in within.items()},
        **{f"beyond_{k}": v for k, v in beyond.items()},
    }
    outcome = (
        f"{right:.0%} of the signs learnt; opens {within['same']:.0%} of the frames of its own segment "
        f"({within['psnr']:.1f} dB), {beyond['same']:.0%} of the next one's ({beyond['psnr']:.1f} dB)"
    )
    return Attack(f"one known frame, carry {carry:g}", outcome, figures, beyond["same"] <= 0.01)


def magnitudes(bench: Bench, frames: Sequence[Hidden], gallery: Sequence[Sitter], carry: float) -> Attack:
    """Signs leave every number's magnitude: whose magnitudes are nearest, the person's (another frame) or a stranger's?

    The last of `frames` is attacked, the first one's original is the picture that the attacker has of the person. All
    faces are laid over the published face's place, so that only who they are differs. Here the noise is not known.
    """
    enrolled, hidden = frames[0].shot, frames[-1]
    probe = hidden.shot
    candidates = [_laid_over(probe, _rgb(enrolled.planes, enrolled.fmt), enrolled.driving)]
    candidates += [_laid_over(probe, s.picture, s.landmarks) for s in gallery]
    found = bench.invert([hidden.request] * len(candidates), candidates)
    used = hidden.latent != 0  # where the latent has a number
    match = [
        measures.correlation(np.abs(hidden.found[used]), np.abs(latent[used]))
        for latent in (hidden.latent, *(f.latent for f in found))
    ]
    rank = 1 + sum(score > match[1] for score in match[2:])
    figures = {"own_frame": match[0], "own_person": match[1], "best_stranger": max(match[2:]), "rank": rank}
    outcome = (
        f"correlation of magnitudes {match[0]:.2f} with the very frame, {match[1]:.2f} with another of the person, "
        f"{max(match[2:]):.2f} with the nearest of {len(gallery)} strangers: rank {rank}"
    )
    return Attack(f"magnitude gallery, carry {carry:g}", outcome, figures, rank > 1)


# -- parts


def _with_key(bench: Bench, hidden: Sequence[Hidden], seed: str, carry: float) -> list[Image]:
    veil = bench.veil(seed)
    requests = [bench.request(h.shot, h.read, seed, veil) for h in hidden]
    faces = [(request, veil, h.read) for request, h in zip(requests, hidden, strict=True)]
    pictures = recovered(bench.carrier, Carry(carry, bench.descent), faces)
    return [_restored(h, picture) for h, picture in zip(hidden, pictures, strict=True)]


def _undone(hidden: Hidden, signs: Float, carry: float) -> Float:
    return unmix(hidden.found, hidden.noise, signs, carry)


def _opened(bench: Bench, hidden: Sequence[Hidden], signs: Float, carry: float) -> dict[str, float]:
    """With signs learnt elsewhere: same place in the square, which may be a little larger or smaller."""
    latents = [_undone(h, _fitted(signs, h.signs.shape[-1]), carry) for h in hidden]
    return bench.verdict(hidden, bench.recovered(hidden, latents))


def _fitted(signs: Float, side: int) -> Float:
    """Cut or filled up with ones."""
    whole = np.ones((3, side, side), np.float32)
    common = min(side, signs.shape[-1])
    whole[:, :common, :common] = signs[:, :common, :common]
    return whole


def _damaged(signs: Float, share: float, seed: int) -> Float:
    wrong = np.random.default_rng(seed).random(signs.shape) < share
    return np.where(wrong, -signs, signs).astype(np.float32)


def _corner(veil: Float, like: Float) -> Float:
    return np.ascontiguousarray(veil[:, : like.shape[1], : like.shape[2]])


def _published(shot: Shot, request: CarryRequest, picture: Float) -> Planes:
    planes = [plane.copy() for plane in shot.planes]
    pressed = carrying.packed(shot.carriage, picture, shot.fmt)
    rgb, amount = carrying.painting(shot.carriage, pressed, request.tile.surroundings, shot.face, shot.fmt)
    blend(planes, shot.fmt, shot.face.region.rect, rgb, amount)
    return planes


def _restored(hidden: Hidden, picture: Float) -> Image:
    planes = [plane.copy() for plane in hidden.planes]
    rect, rgb, amount = carrying.restoration(hidden.shot.carriage, np.nan_to_num(picture), *hidden.shot.size)
    blend(planes, hidden.shot.fmt, rect, rgb, amount)
    return _rgb(planes, hidden.shot.fmt)


def _rgb(planes: Planes, fmt: PixelFormat) -> Image:
    pixels: Image = np.rint(to_rgb(planes, fmt)).astype(np.uint8)
    return pixels


def _mask(shot: Shot) -> Mask:
    width, height = shot.size
    mask = np.zeros((height, width), np.bool_)
    mask[shot.face.region.rect.inside] = shot.face.region.cover
    return mask


def _laid_over(probe: Shot, picture: Image, landmarks: Float) -> Float:
    """The face of `picture` where the probe's is: (3, N, N), -1..1."""
    square = probe.carriage.square
    scale = 1 / square.factor
    shift = -np.array([square.x, square.y], np.float32) * scale + (scale - 1) / 2
    there = probe.driving * scale + shift
    template = CropTemplate(
        "probe", [((x + 0.5) / square.side, (y + 0.5) / square.side) for x, y in layout.five_points(there)]
    )
    crop = geometry.crop(picture, geometry.align(layout.five_points(landmarks), template, square.side), square.side)
    return (crop.astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)


def _stream(seed: str, purpose: str) -> Stream:
    def read(count: int) -> bytes:
        return hashlib.shake_256(f"revisage attack {seed} {purpose}".encode()).digest(count)

    return read
