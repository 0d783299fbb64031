"""What comes back from pixels: in float, after rounding, and after each codec, for several carries and sigmas.

    python tests/benchmarks/carry.py PORTRAITS [--clips FOLDER] [--people N] [--plot docs/carry.png] [--look FOLDER]

PORTRAITS is a folder as `models/train/data.py` reads it; people held out from training are taken, and faces of clips.
Each is a frame of 160 x 160 pixels. Beside ours stands the published way (arXiv 2510.01031) on the same network: plain
DDIM inversion, and surroundings blended in from the inversion of whatever picture each side has. The last line is JSON.
Identity is dlib's, where the extra `score` is installed; at most 0.6 counts as the same person.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from revisage.models import layout
from revisage.models.base import Descent, FaceRequest
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
from revisage.pipeline import geometry
from revisage.pipeline.carry import Carriage, Carry, found, lay_out, look, request_for, restoration
from revisage.pipeline.composite import Likeness, hidden_pixels, place
from revisage.pipeline.convey import Carrying, recovered
from revisage.pipeline.errors import ModelError
from revisage.pipeline.media import open_video
from revisage.pipeline.pixels import PixelFormat, Planes, Rect, blend, pixel_format, to_rgb
from revisage.pipeline.protect import Picture
from revisage.pipeline.types import CropTemplate, Float, Image, Origin, TrackedFace

SIDE, SIZE = 160, 128
WHOLE = Rect(0, 0, SIDE, SIDE)
CODECS: dict[str, tuple[str, str, dict[str, str]]] = {
    "ffv1": ("yuv420p", "ffv1", {}),
    "lossless 4:4:4": ("yuv444p", "ffv1", {}),
    "lossless 10 bit": ("yuv420p10le", "ffv1", {}),
    "lossless RGB": ("gbrp", "utvideo", {}),
    "h264 crf 1": ("yuv420p", "libx264", {"crf": "1", "g": "1"}),
    "h264 crf 6": ("yuv420p", "libx264", {"crf": "6", "g": "1"}),
    "h264 crf 12": ("yuv420p", "libx264", {"crf": "12", "g": "1"}),
    "h264 crf 18": ("yuv420p", "libx264", {"crf": "18", "g": "1"}),
    "h265 crf 6": ("yuv420p", "libx265", {"crf": "6", "x265-params": "log-level=none:keyint=1"}),
    "h265 crf 12": ("yuv420p", "libx265", {"crf": "12", "x265-params": "log-level=none:keyint=1"}),
}  # fmt: skip


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


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: medians over the faces, and shares."""

    what: str
    carry: float
    sigma: float
    psnr: float  # dB, over the elements that carry
    psnr_worst_tenth: float
    ssim: float
    same_person: float  # share of recovered faces that are the person filmed
    wrong_key: float  # the same with another key; measured without loss only
    hidden: float  # the same of the anonymized faces; as well
    faces: int


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
    """Frames cut around the faces of clips at their own size, padded where the frame ends."""
    detector, landmarker = load_detector("centerface")[0], FaceLandmarker.load()
    subjects = []
    for path in sorted(p for p in folder.iterdir() if p.suffix in (".mp4", ".mkv")):
        with open_video(path) as video:
            frames = [frame.rgb() for frame in video.frames()]
        for number in np.linspace(0, len(frames) - 1, each + 2).astype(int)[1:-1]:
            faces = detector.detect(frames[number])
            if not faces:
                continue
            ((landmarks, _),) = landmarker.locate(frames[number], [faces[0].points])
            x, y = (int(v) // 2 * 2 - SIDE // 2 for v in landmarks.mean(0))
            padded = cv2.copyMakeBorder(frames[number], SIDE, SIDE, SIDE, SIDE, cv2.BORDER_REPLICATE)
            picture = padded[y + SIDE : y + 2 * SIDE, x + SIDE : x + 2 * SIDE]
            subjects.append(Subject(np.ascontiguousarray(picture), landmarks - np.float32([x, y]), path.stem))
    return subjects


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


class Bench:
    """The faces, the network, and the randomness that stands for keys."""

    def __init__(self, subjects: Sequence[Subject], model: str) -> None:
        device = Device("cpu", torch.float32, torch.get_num_threads(), "benchmark")
        self.generator, self.carrier, self.weights = load_carrier(model, device=device, batch_size=8)
        self.subjects = list(subjects)
        rng = np.random.default_rng(0)
        draws = [rng.standard_normal((2, 2, 3, SIZE, SIZE)).astype(np.float32) for _ in subjects]
        self.veils = [[Veil(noise, np.sign(signs)) for noise, signs in draw] for draw in draws]  # right, wrong
        self.codes = [rng.standard_normal(self.generator.code_size).astype(np.float32) for _ in subjects]
        try:
            self.judge: DlibRecognizer | None = DlibRecognizer()
        except ModelError as error:
            print(f"no identities: {error}")
            self.judge = None
        self.filmed = [self.embedding(subject.picture, subject) for subject in subjects]

    def embedding(self, picture: Image, subject: Subject) -> Float | None:
        return None if self.judge is None else self.judge.embed(picture, subject.landmarks)

    def same(self, pictures: Sequence[Image]) -> float:
        """Share of `pictures` that show the person filmed."""
        if self.judge is None:
            return float("nan")
        rows = zip(pictures, self.subjects, self.filmed, strict=True)
        return float(np.mean([np.linalg.norm(self.embedding(p, s) - e) <= SAME_PERSON for p, s, e in rows]))

    def hide(self, carry: Carry, pix_fmt: str) -> Hidden:
        """Anonymize every face, as frames of `pix_fmt`."""
        fmt = pixel_format(pix_fmt, 0, 0, SIDE)
        method = Carrying(self.generator, self.carrier, carry, self.weights, 8)
        pictures = [self._picture(number, fmt) for number in range(len(self.subjects))]

        def likeness(number: int) -> Likeness:
            veil = self.veils[number][0]
            return Likeness(self.codes[number], veil.noise, lambda frame: veil)

        painted, lost = [], 0
        for protected in method.protect(pictures, likeness):
            planes = [plane.copy() for plane in protected.picture.planes]
            for face, tile in zip(protected.picture.faces, protected.tiles, strict=True):
                blend(planes, fmt, face.region.rect, tile, face.region.alpha)
            painted.append(planes)
            lost += protected.carried[0] is None
        carriages = [lay_out(p.faces, fmt, SIDE, SIDE, SIZE)[0] for p in pictures]
        return Hidden(self, carry, fmt, [p.planes for p in pictures], painted, carriages, lost)

    def _picture(self, number: int, fmt: PixelFormat) -> Picture:
        subject = self.subjects[number]
        placed = place(number, subject.face(), self.generator.template, SIZE, fmt, SIDE, SIDE)
        assert placed is not None
        planes = planes_of(subject.picture.astype(np.float32), fmt)
        return Picture(0, planes, fmt, (placed,), hidden_pixels([placed], SIDE, SIDE))

    def published(self, rounded: bool) -> Row:
        """Plain DDIM inversion in 50 steps, signs, and sampling with the inverted surroundings blended in."""
        images, psnr, ssim = {"hidden": [], "right": [], "wrong": []}, [], []
        for first in range(0, len(self.subjects), 8):
            numbers = range(first, min(first + 8, len(self.subjects)))
            crops, masks, scene = self._crops(numbers)
            alphas = self.carrier._family.alphas
            steps = ladder(alphas, 0.02, 50)
            signs = {k: torch.from_numpy(np.stack([self.veils[i][k].signs for i in numbers])) for k in (0, 1)}

            def flipped(pictures: Tensor, key: int, scene=scene, masks=masks, steps=steps, signs=signs) -> Tensor:
                trail = plain_inversion(scene.denoise, pictures, steps, self.carrier._family.alphas)
                latent = torch.where(masks, signs[key] * trail[-1], trail[-1])
                return blended(scene.denoise, latent, trail, masks, steps, self.carrier._family.alphas)

            hidden = flipped(crops, 0)
            if rounded:
                hidden = ((hidden.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1
            for name, result in (("hidden", hidden), ("right", flipped(hidden, 0)), ("wrong", flipped(hidden, 1))):
                images[name] += list(((result.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())
                if name == "right":
                    both = [
                        (result.clamp(-1, 1)[i].numpy(), crops[i].numpy(), masks[i, 0].numpy())
                        for i in range(len(numbers))
                    ]
                    psnr += [decibels(*triple) for triple in both]
                    ssim += [likeness_of(*triple) for triple in both]
        framed = {name: [self._framed(c, i) for i, c in enumerate(crops)] for name, crops in images.items()}
        what = f"published, {'8 bit RGB' if rounded else 'float'}"
        same = [self.same(framed[name]) for name in ("right", "wrong", "hidden")]
        return row(what, 1.0, 0.02, psnr, ssim, same)

    def _framed(self, crop: Image, number: int) -> Image:
        frame = self.subjects[number].picture.copy()
        edge = (SIDE - SIZE) // 2
        frame[edge:-edge, edge:-edge] = crop
        return frame

    @torch.inference_mode()
    def _crops(self, numbers: Sequence[int]) -> tuple[Tensor, Tensor, Scene]:
        """Pictures (B, 3, S, S) in -1..1 from the middle of each frame, where they are painted, and the scene."""
        edge, requests, crops = (SIDE - SIZE) // 2, [], []
        for number in numbers:
            subject = self.subjects[number]
            crop, points = subject.picture[edge:-edge, edge:-edge], subject.landmarks - np.float32(edge)
            mask = face_mask(points, SIZE, dilate=0.45)
            code, noise = self.codes[number], self.veils[number][0].noise
            requests.append(FaceRequest(remove_face(crop, mask), mask, points, code, noise))
            crops.append(crop)
        pictures = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 127.5 - 1
        masks = torch.from_numpy(np.stack([r.mask > 0 for r in requests]))[:, None].expand(-1, 3, -1, -1)
        return pictures, masks, self.carrier._family.scene(requests)


@dataclass(frozen=True, slots=True, eq=False)
class Hidden:
    """Anonymized faces, and all that is needed to judge what comes back of them."""

    bench: Bench
    carry: Carry
    fmt: PixelFormat
    originals: list[Planes]
    painted: list[Planes]
    carriages: list[Carriage]
    lost: int  # faces that carry nothing, because they did not stand the check

    def row(self, what: str, frames: Sequence[Planes]) -> Row:
        """How well `frames` bring the faces back."""
        right = self.recovered(frames, 0)
        truth = [look(c, planes, self.fmt) for c, planes in zip(self.carriages, self.originals, strict=True)]
        triples = [
            (np.clip(r, -1, 1), np.clip(t, -1, 1), c.own) for r, t, c in zip(right, truth, self.carriages, strict=True)
        ]
        psnr, ssim = [decibels(*t) for t in triples], [likeness_of(*t) for t in triples]
        same = [self.bench.same(self.framed(right)), float("nan"), float("nan")]
        if what == "ffv1":
            same[1] = self.bench.same(self.framed(self.recovered(frames, 1)))
            same[2] = self.bench.same([as_image(planes, self.fmt) for planes in frames])
        return row(what, self.carry.amount, self.carry.descent.sigma, psnr, ssim, same)

    def recovered(self, frames: Sequence[Planes], key: int) -> list[Float]:
        faces = []
        for number, planes in enumerate(frames):
            veil, code = self.bench.veils[number], self.bench.codes[number]
            seen = found(self.carriages[number], planes, self.fmt)
            request = request_for(self.carriages[number], seen, self.fmt, SIZE, code, veil[key].noise)
            faces.append((request, veil[key], seen))
        return recovered(self.bench.carrier, self.carry, faces)

    def framed(self, pictures: Sequence[Float]) -> list[Image]:
        """Recovered faces in the frames as filmed."""
        frames = []
        for picture, carriage, planes in zip(pictures, self.carriages, self.originals, strict=True):
            again = [plane.copy() for plane in planes]
            rect, rgb, amount = restoration(carriage, np.nan_to_num(picture), SIDE, SIDE)
            blend(again, self.fmt, rect, rgb, amount)
            frames.append(as_image(again, self.fmt))
        return frames


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


def decibels(picture: Float, truth: Float, own: np.ndarray) -> float:
    """PSNR of (3, N, N) in -1..1 where `own`."""
    return float(10 * np.log10(4 / max(float(np.square(picture - truth)[:, own].mean()), 1e-12)))


def likeness_of(picture: Float, truth: Float, own: np.ndarray) -> float:
    """SSIM where `own`."""
    picture = np.where(own, picture, truth)
    _, everywhere = structural_similarity(picture, truth, channel_axis=0, data_range=2.0, full=True)
    return float(everywhere[:, own].mean())


def row(
    what: str, carry: float, sigma: float, psnr: Sequence[float], ssim: Sequence[float], same: Sequence[float]
) -> Row:
    tenth, middle = (round(float(v), 1) for v in np.percentile(psnr, [10, 50]))
    right, wrong, hidden = (round(v, 3) for v in same)
    made = Row(what, carry, sigma, middle, tenth, round(float(np.median(ssim)), 3), right, wrong, hidden, len(psnr))
    print(f"{what:<24} carry {carry:<4} sigma {sigma:<5} {middle:5.1f} dB (tenth {tenth:5.1f})  SSIM {made.ssim:.3f}  "
          f"same person {right:.0%}  wrong key {wrong:.0%}  anonymized {hidden:.0%}", flush=True)  # fmt: skip
    return made


def table(
    bench: Bench, carries: Sequence[float], sigmas: Sequence[float], steps: int, look_at: Path | None
) -> list[Row]:
    """Ours: every sigma at the first carry, every carry at the middle sigma."""
    rows, middle = [], sigmas[len(sigmas) // 2]
    pairs = [(carries[0], sigma) for sigma in sigmas] + [(carry, middle) for carry in carries[1:]]
    for amount, sigma in pairs:
        carry, made = Carry(amount, Descent(sigma, steps)), {}
        for name, (pix_fmt, codec, options) in CODECS.items():
            if (amount, sigma) != (carries[0], middle) and name.startswith("lossless"):
                continue  # other pixel formats once
            if pix_fmt not in made:
                made[pix_fmt] = bench.hide(carry, pix_fmt)
            hidden = made[pix_fmt]
            frames = through(codec, hidden.fmt, hidden.painted, options)
            rows.append(hidden.row(name, frames))
        if look_at is not None:
            contact(made["yuv420p"], look_at / f"carry-{amount}-sigma-{sigma}.png")
    return rows


def contact(hidden: Hidden, path: Path) -> None:
    """Filmed, anonymized, recovered, recovered with another key; ten faces."""
    shown = [
        [as_image(planes, hidden.fmt) for planes in hidden.originals],
        [as_image(planes, hidden.fmt) for planes in hidden.painted],
        *(hidden.framed(hidden.recovered(hidden.painted, key)) for key in (0, 1)),
    ]
    sheet = np.concatenate([np.concatenate(pictures[-10:], axis=1) for pictures in shown], axis=0)
    cv2.imwrite(str(path), sheet[..., ::-1])


def plot(rows: Sequence[Row], path: Path) -> None:
    """PSNR over how hard the codec presses, a line per sigma and carry."""
    import matplotlib  # the benchmark's own need

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = ["ffv1", *(name for name in CODECS if name.startswith("h264"))]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4))
    for carry, sigma in dict.fromkeys((r.carry, r.sigma) for r in rows if not r.what.startswith("published")):
        found_rows = {r.what: r for r in rows if (r.carry, r.sigma) == (carry, sigma)}
        label = f"carry {carry}, sigma {sigma}"
        left.plot(names, [found_rows[name].psnr for name in names], marker="o", label=label)
        right.plot(names, [100 * found_rows[name].same_person for name in names], marker="o", label=label)
    for r in rows:
        if r.what.startswith("published"):
            left.axhline(r.psnr, ls=":" if "8 bit" in r.what else "--", color="grey", label=r.what)
    left.axhline(30, color="black", lw=0.5)
    left.set_ylabel("PSNR of what comes back, dB")
    right.set_ylabel("same person (dlib), %")
    for axis in (left, right):
        axis.tick_params(axis="x", labelrotation=30)
    left.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("portraits", type=Path)
    parser.add_argument("--clips", type=Path)
    parser.add_argument("--people", type=int, default=12)
    parser.add_argument("--each", type=int, default=4, help="frames of each clip")
    parser.add_argument("--carries", type=float, nargs="+", default=[1.0, 0.7, 0.4])
    parser.add_argument("--sigmas", type=float, nargs="+", default=[0.2, 0.5, 1.0])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--model", default="revisage-face")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--look", type=Path)
    args = parser.parse_args()
    subjects = portraits(args.portraits, args.people) + (clip_faces(args.clips, args.each) if args.clips else [])
    bench = Bench(subjects, args.model)
    rows = [bench.published(rounded) for rounded in (False, True)]
    rows += table(bench, args.carries, args.sigmas, args.steps, args.look)
    if args.plot is not None:
        plot(rows, args.plot)
    print(json.dumps([asdict(r) for r in rows]))


if __name__ == "__main__":
    main()
