"""Faces to carry, and what hides, encodes and brings them back: the workbench of `carry.py`. Knows no table."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from revisage.models import layout
from revisage.models.base import Detector, FaceRequest, Inverted
from revisage.models.carrying import load_carrier
from revisage.models.conditioning import FACE_TEMPLATE, face_mask, remove_face
from revisage.models.detectors import load_detector
from revisage.models.device import Device
from revisage.models.family import Scene
from revisage.models.landmarks import FaceLandmarker
from revisage.models.latents import Veil
from revisage.models.sampler import Denoise, ladder
from revisage.models.scoring import SAME_PERSON, DlibRecognizer
from revisage.models.train.data import load_portraits, split
from revisage.pipeline import convey, geometry, refind
from revisage.pipeline.carry import Carriage, Carry, found, lay_out, look, request_for, restoration
from revisage.pipeline.composite import Likeness, hidden_pixels, place
from revisage.pipeline.convey import Carrying, recovered
from revisage.pipeline.errors import ModelError
from revisage.pipeline.media import open_video
from revisage.pipeline.pixels import Mask, PixelFormat, Planes, Rect, blend, pixel_format, to_rgb
from revisage.pipeline.protect import Picture
from revisage.pipeline.types import CropTemplate, Float, Image, Origin, Shape, TrackedFace
from revisage.pipeline.vault.label import LabelTrack

SIDE, SIZE = 160, 128
WHOLE = Rect(0, 0, SIDE, SIDE)
FORMAT = pixel_format("yuv420p", 0, 0, SIDE)
RIGHT, WRONG = 0, 1  # keys
Started = tuple[list[tuple[convey.CarryRequest, Veil, Float]], list[Inverted]]  # faces, and where they come from


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """One face in a frame of SIDE x SIDE. landmarks (135, 2) in its pixels."""

    picture: Image
    landmarks: Float
    clip: str  # "" for a portrait

    def face(self) -> TrackedFace:
        low, high = self.landmarks.min(0), self.landmarks.max(0)
        box = (float(low[0]), float(low[1]), float(high[0]), float(high[1]))
        return TrackedFace(0, box, layout.five_points(self.landmarks), Origin.DETECTED, 1.0, self.landmarks)


def portraits(folder: Path, count: int) -> list[Subject]:
    """People held out, upright, as large as in the network's crop."""
    inner = SIZE / SIDE
    template = CropTemplate(
        "bench", tuple((0.5 + (x - 0.5) * inner, 0.5 + (y - 0.5) * inner) for x, y in FACE_TEMPLATE.points)
    )
    subjects = []
    for portrait in split(load_portraits(folder))[1][:count]:
        matrix = geometry.align(layout.five_points(portrait.landmarks), template, SIDE)
        picture = geometry.crop(portrait.read(), matrix, SIDE)
        subjects.append(Subject(picture, geometry.transform(portrait.landmarks, matrix), ""))
    return subjects


def clip_faces(folder: Path, each: int) -> list[Subject]:
    """`each` frames of every clip, evenly spread."""
    return [s for path in clips(folder) for s in film_faces(path, each)]


def clips(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix in (".mp4", ".mkv"))


def film_faces(path: Path, count: int, *, first: int | None = None) -> list[Subject]:
    """`count` frames cut around the face at its own size, padded where the frame ends: evenly spread, or a run of them.

    A run is cut at one place, so that it is a film.
    """
    detector, landmarker = _finders()
    with open_video(path) as video:
        frames = [frame.rgb() for frame in video.frames()]
    spread = np.linspace(0, len(frames) - 1, count + 2).astype(int)[1:-1]
    subjects: list[Subject] = []
    corner: tuple[int, int] | None = None
    for number in spread if first is None else range(first, first + count):
        faces = detector.detect(frames[number])
        if not faces:
            continue
        ((landmarks, _),) = landmarker.locate(frames[number], [faces[0].points])
        if corner is None or first is None:
            x, y = (int(v) // 2 * 2 - SIDE // 2 for v in landmarks.mean(0))
            corner = (x, y)
        subjects.append(_cut_out(frames[number], landmarks, corner, path.stem))
    return subjects


def _cut_out(frame: Image, landmarks: Float, corner: tuple[int, int], clip: str) -> Subject:
    x, y = corner
    padded = cv2.copyMakeBorder(frame, SIDE, SIDE, SIDE, SIDE, cv2.BORDER_REPLICATE)
    picture = padded[y + SIDE : y + 2 * SIDE, x + SIDE : x + 2 * SIDE]
    return Subject(np.ascontiguousarray(picture), landmarks - np.float32([x, y]), clip)


def planes_of(picture: Float, fmt: PixelFormat) -> Planes:
    planes: Planes = [np.full(shape, fmt.peak // 2, fmt.dtype) for shape in fmt.plane_shapes(SIDE, SIDE)]
    blend(planes, fmt, WHOLE, picture.astype(np.float32), np.ones((SIDE, SIDE), np.float32))
    return planes


def through(codec: str, fmt: PixelFormat, frames: Sequence[Planes], options: dict[str, str]) -> list[Planes]:
    """Encode and decode."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.mkv"
        with av.open(str(path), "w") as out:
            stream = out.add_stream(codec, rate=25, options=options)
            stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, fmt.name  # type: ignore[attr-defined]
            for planes in frames:
                frame = av.VideoFrame(SIDE, SIDE, fmt.name)
                for plane, samples in zip(frame.planes, planes, strict=True):
                    rows = np.zeros((plane.height, plane.line_size // samples.itemsize), samples.dtype)
                    rows[:, : samples.shape[1]] = samples
                    plane.update(rows)
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
        with open_video(path) as video:
            return [[plane.copy() for plane in frame.planes] for frame in video.frames()]


@dataclass(frozen=True, slots=True)
class Scores:
    """How well faces came back; a number per face."""

    psnr: list[float]  # dB, over the pixels of the film that carry
    ssim: list[float]
    carried: list[float]  # dB, over what was carried: large faces travel at a half, a quarter … of their size
    distance: list[float]  # dlib's; at most 0.6 is the same person. Not finite without the extra `score`

    @property
    def same(self) -> float:
        """Share of the faces that are the person filmed."""
        known = [d <= SAME_PERSON for d in self.distance if np.isfinite(d)]
        return float(np.mean(known)) if known else float("nan")


class Bench:
    """The network, the judge, and the randomness that stands for keys."""

    def __init__(self, model: str) -> None:
        device = Device("cpu", torch.float32, torch.get_num_threads(), "benchmark")
        self.generator, self.carrier, self.weights = load_carrier(model, device=device, batch_size=8)
        try:
            self.judge: DlibRecognizer | None = DlibRecognizer()
        except ModelError as error:
            print(f"no identities: {error}")
            self.judge = None
        self._hides: dict[tuple[object, ...], Hidden] = {}
        self._starts: dict[tuple[object, ...], Started] = {}

    def veil(self, number: int, key: int) -> Veil:
        noise, signs = np.random.default_rng([number, key]).standard_normal((2, 3, SIZE, SIZE)).astype(np.float32)
        return Veil(noise, np.sign(signs))

    def code(self, number: int) -> Float:
        return np.random.default_rng([number, 2]).standard_normal(self.generator.code_size).astype(np.float32)

    def distance(self, a: Image, b: Image, landmarks: Float) -> float:
        """Between two pictures of one face."""
        if self.judge is None:
            return float("nan")
        one, two = (self.judge.embed(picture, landmarks) for picture in (a, b))
        return float(np.linalg.norm(one - two))

    def hide(self, subjects: Sequence[Subject], carry: Carry) -> Hidden:
        """Anonymize every face as `anonymize --carry` does. Remembered: tables share what they hide."""
        known = (*map(id, subjects), carry)
        if known not in self._hides:
            self._hides[known] = self._hide(subjects, carry)
        return self._hides[known]

    def inverted(self, hidden: Hidden) -> Started:
        """The faces of `hidden` as filmed, and the latents that they come from: the same for every carry."""
        known = (*map(id, hidden.subjects), hidden.carry.descent)
        if known not in self._starts:
            faces = hidden.faces(hidden.truth(), RIGHT)
            requests, pictures = ([face[part] for face in faces] for part in (0, 2))
            self._starts[known] = faces, self.carrier.invert(requests, pictures, hidden.carry.descent)
        return self._starts[known]

    def _hide(self, subjects: Sequence[Subject], carry: Carry) -> Hidden:
        method = Carrying(self.generator, self.carrier, carry, self.weights, 8)
        pictures = [self._picture(number, subject) for number, subject in enumerate(subjects)]

        def likeness(number: int) -> Likeness:
            veil = self.veil(number, RIGHT)
            return Likeness(self.code(number), veil.noise, lambda frame: veil)

        painted, lost = [], 0
        for protected in method.protect(pictures, likeness):
            planes = [plane.copy() for plane in protected.picture.planes]
            for face, tile in zip(protected.picture.faces, protected.tiles, strict=True):
                blend(planes, FORMAT, face.region.rect, tile, face.region.alpha)
            painted.append(planes)
            lost += protected.carried[0] is None
        carriages = [lay_out(p.faces, FORMAT, SIDE, SIDE, SIZE)[0] for p in pictures]
        return Hidden(self, carry, list(subjects), [p.planes for p in pictures], painted, carriages, lost)

    def _picture(self, number: int, subject: Subject) -> Picture:
        placed = place(number, subject.face(), self.generator.template, SIZE, FORMAT, SIDE, SIDE)
        assert placed is not None
        planes = planes_of(subject.picture.astype(np.float32), FORMAT)
        return Picture(0, planes, FORMAT, (placed,), None, hidden_pixels([placed], SIDE, SIDE))

    # -- the published way

    def published(self, subjects: Sequence[Subject], *, rounded: bool) -> dict[str, Scores]:
        """Plain DDIM inversion in 50 steps, signs, and sampling with the inverted surroundings blended in.

        What comes back with the right and with the wrong key, and what the anonymized faces show.
        """
        crops, masks, scene = self._crops(subjects)
        steps, alphas = ladder(self.carrier._family.alphas, 0.02, 50), self.carrier._family.alphas

        def flipped(pictures: Tensor, key: int) -> Tensor:
            signs = torch.from_numpy(np.stack([self.veil(i, key).signs for i in range(len(subjects))]))
            trail = plain_inversion(scene.denoise, pictures, steps, alphas)
            latent = torch.where(masks, signs * trail[-1], trail[-1])
            return blended(scene.denoise, latent, trail, masks, steps, alphas)

        hidden = flipped(crops, RIGHT)
        if rounded:
            hidden = ((hidden.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1
        made = {"hidden": hidden, "right": flipped(hidden, RIGHT), "wrong": flipped(hidden, WRONG)}
        return {name: self._scored(subjects, pictures, crops, masks) for name, pictures in made.items()}

    def plain(self, subjects: Sequence[Subject]) -> Scores:
        """The same without any key: 50 steps of plain DDIM inversion and back, in float."""
        crops, masks, scene = self._crops(subjects)
        steps, alphas = ladder(self.carrier._family.alphas, 0.02, 50), self.carrier._family.alphas
        trail = plain_inversion(scene.denoise, crops, steps, alphas)
        back = blended(scene.denoise, trail[-1], trail, torch.ones_like(masks), steps, alphas)
        return self._scored(subjects, back, crops, masks)

    def _scored(self, subjects: Sequence[Subject], pictures: Tensor, crops: Tensor, masks: Tensor) -> Scores:
        triples = [
            (p.numpy(), c.numpy(), m[0].numpy()) for p, c, m in zip(pictures.clamp(-1, 1), crops, masks, strict=True)
        ]
        framed = [self._framed(p, s) for (p, _, _), s in zip(triples, subjects, strict=True)]
        rows = zip(framed, subjects, strict=True)
        far = [self.distance(picture, s.picture, s.landmarks) for picture, s in rows]
        psnr = [decibels(*t) for t in triples]
        return Scores(psnr, [likeness_of(*t) for t in triples], psnr, far)

    def _framed(self, crop: Float, subject: Subject) -> Image:
        frame, edge = subject.picture.copy(), (SIDE - SIZE) // 2
        frame[edge:-edge, edge:-edge] = np.rint((crop.transpose(1, 2, 0) + 1) * 127.5).astype(np.uint8)
        return frame

    @torch.inference_mode()
    def _crops(self, subjects: Sequence[Subject]) -> tuple[Tensor, Tensor, Scene]:
        """Pictures (B, 3, S, S) in -1..1 from the middle of each frame, where they are painted, and the scene."""
        edge, requests, crops = (SIDE - SIZE) // 2, [], []
        for number, subject in enumerate(subjects):
            crop, points = subject.picture[edge:-edge, edge:-edge], subject.landmarks - np.float32(edge)
            mask = face_mask(points, SIZE, dilate=0.45)
            noise = self.veil(number, RIGHT).noise
            requests.append(FaceRequest(remove_face(crop, mask), mask, points, self.code(number), noise))
            crops.append(crop)
        pictures = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 127.5 - 1
        masks = torch.from_numpy(np.stack([r.mask > 0 for r in requests]))[:, None].expand(-1, 3, -1, -1)
        return pictures, masks, self.carrier._family.scene(requests)


@dataclass(frozen=True, slots=True, eq=False)
class Hidden:
    """Anonymized faces, and all that is needed to judge what comes back of them."""

    bench: Bench
    carry: Carry
    subjects: list[Subject]
    originals: list[Planes]
    painted: list[Planes]
    carriages: list[Carriage]
    lost: int  # faces that carry nothing, because they did not stand the check

    def recovered(self, frames: Sequence[Planes], key: int = RIGHT) -> list[Float]:
        """(3, N, N) per frame: what `recover --from pixels` makes of it."""
        seen = [found(c, planes, FORMAT) for c, planes in zip(self.carriages, frames, strict=True)]
        return recovered(self.bench.carrier, self.carry, self.faces(seen, key))

    def in_float(self) -> list[Float]:
        """What comes back from numbers that no sample ever rounded."""
        faces, starts = self.bench.inverted(self)
        carrier, requests = self.bench.carrier, [request for request, _, _ in faces]
        latents = [
            convey.hidden_latent(s, veil, self.carry.amount) for s, (_, veil, _) in zip(starts, faces, strict=True)
        ]
        grown = carrier.regrow(requests, latents, self.carry.descent)
        pairs = zip(faces, grown, strict=True)
        new = [(request, veil, np.where(request.tile.mask, made, seen)) for (request, veil, seen), made in pairs]
        return recovered(carrier, self.carry, new)

    def round_trips(self) -> list[float]:
        """Relative error of each latent after the way to a picture and back, in float."""
        faces, starts = self.bench.inverted(self)
        carrier, requests, descent = self.bench.carrier, [request for request, _, _ in faces], self.carry.descent
        again = carrier.invert(requests, carrier.regrow(requests, [s.latent for s in starts], descent), descent)
        return [_relative(a, b) for a, b in zip(again, starts, strict=True)]

    def faces(self, pictures: Sequence[Float], key: int) -> list[tuple[convey.CarryRequest, Veil, Float]]:
        rows = []
        for number, (carriage, picture) in enumerate(zip(self.carriages, pictures, strict=True)):
            veil, code = self.bench.veil(number, key), self.bench.code(number)
            rows.append((request_for(carriage, picture, FORMAT, SIZE, code, veil.noise), veil, picture))
        return rows

    def truth(self) -> list[Float]:
        """(3, N, N) per face, as filmed."""
        return [look(c, planes, FORMAT) for c, planes in zip(self.carriages, self.originals, strict=True)]

    def scored(self, pictures: Sequence[Float]) -> Scores:
        """Recovered pictures against what was filmed."""
        rows = zip(pictures, self.truth(), self.carriages, strict=True)
        carried = [decibels(np.clip(np.nan_to_num(p), -1, 1), np.clip(t, -1, 1), c.own) for p, t, c in rows]
        frames = self.framed(pictures)
        films = [as_image(planes, FORMAT) for planes in self.originals]
        triples = [(signed(a), signed(b), pixels_of(c)) for a, b, c in zip(frames, films, self.carriages, strict=True)]
        psnr, ssim = [decibels(*t) for t in triples], [likeness_of(*t) for t in triples]
        return Scores(psnr, ssim, carried, self.distances(frames))

    def distances(self, frames: Sequence[Image]) -> list[float]:
        """Of whole frames to the people filmed, as the video's own samples show them."""
        filmed = [as_image(planes, FORMAT) for planes in self.originals]
        rows = zip(frames, filmed, self.subjects, strict=True)
        return [self.bench.distance(frame, before, subject.landmarks) for frame, before, subject in rows]

    def framed(self, pictures: Sequence[Float]) -> list[Image]:
        """Recovered faces in the frames as filmed."""
        return [as_image(planes, FORMAT) for planes in self.restored(pictures)]

    def restored(self, pictures: Sequence[Float]) -> list[Planes]:
        """The same as samples."""
        frames = []
        for picture, carriage, planes in zip(pictures, self.carriages, self.originals, strict=True):
            again = [plane.copy() for plane in planes]
            rect, rgb, amount = restoration(carriage, np.nan_to_num(picture), SIDE, SIDE)
            blend(again, FORMAT, rect, rgb, amount)
            frames.append(again)
        return frames


def _relative(found_again: Inverted, before: Inverted) -> float:
    error = found_again.latent - before.latent
    return float(np.linalg.norm(error) / np.linalg.norm(before.latent))


def refound(bench: Bench, carry: Carry, number: int, planes: Planes, key: int) -> tuple[Planes, float | None]:
    """A frame as `recover --without-index` makes it, and how certain the signs are; None: nobody was found."""
    seeker = refind.Seeker(bench.carrier, carry, bench.generator.template, Shape(), FORMAT, _detected,
                           lambda track, _: bench.veil(track, key), lambda track: bench.code(track.id))  # fmt: skip
    again = [plane.copy() for plane in planes]
    scene = refind.Scene(seeker, again, 0, 0)
    track = LabelTrack(number, 0, 0, None)
    for who in range(len(scene.faces)):
        guess = scene.best(who, [track], {})
        if guess is not None and scene.restore([(who, guess)], again):
            return again, guess.certainty
    return again, None


def _detected(planes: Planes, frame: int) -> list[TrackedFace]:
    detector, landmarker = _finders()
    picture = as_image(planes, FORMAT)
    seen = detector.detect(picture)
    shapes = landmarker.locate(picture, [face.points for face in seen]) if seen else []
    pairs = zip(seen, shapes, strict=True)
    return [TrackedFace(frame, f.box, f.points, Origin.DETECTED, f.score, shape) for f, (shape, _) in pairs]


@lru_cache(maxsize=1)
def _finders() -> tuple[Detector, FaceLandmarker]:
    return load_detector("centerface")[0], FaceLandmarker.load()


@torch.inference_mode()
def plain_inversion(denoise: Denoise, pictures: Tensor, steps: Sequence[int], alphas: Tensor) -> list[Tensor]:
    """Every state from the cleanest to the noisiest, each from the prediction at the one before."""
    trail = [pictures * float(alphas[steps[-1]]) ** 0.5]
    for lower, upper in pairwise(reversed(steps)):
        a, b = float(alphas[lower]), float(alphas[upper])
        ratio = ((1 - b) / (1 - a)) ** 0.5
        trail.append(ratio * trail[-1] + (b**0.5 - ratio * a**0.5) * denoise(trail[-1], lower))
    return trail


@torch.inference_mode()
def blended(
    denoise: Denoise, latent: Tensor, trail: Sequence[Tensor], masks: Tensor, steps: Sequence[int], alphas: Tensor
) -> Tensor:
    """DDIM from `latent`; outside the masks every state is the trail's."""
    x = latent
    for (upper, lower), known in zip(pairwise(steps), reversed(trail[:-1]), strict=True):
        a, b = float(alphas[upper]), float(alphas[lower])
        clean = denoise(x, upper)
        x = torch.where(masks, b**0.5 * clean + ((1 - b) / (1 - a)) ** 0.5 * (x - a**0.5 * clean), known)
    return x / float(alphas[steps[-1]]) ** 0.5


def as_image(planes: Planes, fmt: PixelFormat) -> Image:
    return np.rint(to_rgb(planes, fmt)).astype(np.uint8)


def signed(picture: Image) -> Float:
    """(H, W, 3) uint8 -> (3, H, W) in -1..1."""
    return (picture.astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)


def pixels_of(carriage: Carriage) -> Mask:
    """(SIDE, SIDE): the pixels of the frame that carry."""
    square, large = carriage.square, np.zeros((3 * SIDE,) * 2, np.bool_)
    own = np.kron(carriage.own, np.ones((square.factor,) * 2, np.bool_))
    large[SIDE + square.y : SIDE + square.y + len(own), SIDE + square.x : SIDE + square.x + len(own)] = own
    return large[SIDE:-SIDE, SIDE:-SIDE]


def decibels(picture: Float, truth: Float, own: Mask) -> float:
    """PSNR of (3, N, N) in -1..1 where `own`."""
    return float(10 * np.log10(4 / max(float(np.square(picture - truth)[:, own].mean()), 1e-12)))


def likeness_of(picture: Float, truth: Float, own: Mask) -> float:
    """SSIM where `own`."""
    picture = np.where(own, picture, truth)
    _, everywhere = structural_similarity(picture, truth, channel_axis=0, data_range=2.0, full=True)
    return float(everywhere[:, own].mean())
