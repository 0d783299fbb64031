"""How often verification takes a covered face for an unchanged one, and how often it finds one that shows, by size.

    python tests/benchmarks/false_alarms.py [--draws 200] [--sizes 8 12 …] [--json]

Truth: the face of scikit-image's astronaut at a random place between pixels, turned by up to 20 degrees, lit and
grained at random, shrunk or enlarged so that its box is 8 to 200 pixels wide; covered as pass 2 covers it, then coded
as JPEG of quality 85. Leaks: the same coded alone, under a blur of a 32nd of the face, and under a veil of a half.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace

import cv2
import numpy as np
from skimage import data

from revisage.models.conditioning import FACE_TEMPLATE
from revisage.pipeline.composite import Likeness, covered_pixels, hidden_pixels, place
from revisage.pipeline.pixels import blend, pixel_format
from revisage.pipeline.protect import Mixed, Obscure, Picture
from revisage.pipeline.types import Origin, TrackedFace
from revisage.pipeline.verification.change import compare
from revisage.pipeline.verification.masks import ellipse

SIZES = (8, 10, 12, 16, 24, 32, 48, 96, 200)
COVERS, LEAKS = ("mosaic", "blur", "solid", "coarse"), ("coded", "light blur", "half veil")
POINTS = np.array([[201, 108], [242, 106], [225, 129], [206, 150], [243, 149]], np.float32)
BOX = (183, 68, 262, 176)
GREY = pixel_format("gray", 2, 2, 100)
WHO = Likeness(np.zeros(1, np.float32), np.zeros((1, 1, 1), np.float32))


def scene(width: int, rng: np.random.Generator) -> tuple[np.ndarray, TrackedFace]:
    """A grey picture and its face, whose box is `width` pixels wide."""
    scale = width / (BOX[2] - BOX[0])
    side = int(3 * width + 24)
    matrix = cv2.getRotationMatrix2D(((BOX[0] + BOX[2]) / 2, (BOX[1] + BOX[3]) / 2), rng.uniform(-20, 20), scale)
    matrix[:, 2] += side / 2 + rng.uniform(-2, 2, 2) - matrix @ [(BOX[0] + BOX[2]) / 2, (BOX[1] + BOX[3]) / 2, 1]
    grey = cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2GRAY)
    soft = cv2.GaussianBlur(grey, (0, 0), max(0.01, 0.4 / scale)) if scale < 1 else grey
    picture = cv2.warpAffine(soft, matrix, (side, side), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    lit = picture * rng.uniform(0.4, 1.1) + rng.uniform(0, 30) + rng.normal(0, rng.uniform(0, 3), picture.shape)
    points = (POINTS @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
    middle, (w, h) = points[:3].mean(0), (width, width * (BOX[3] - BOX[1]) / (BOX[2] - BOX[0]))
    box = (middle[0] - w / 2, middle[1] - h / 2, middle[0] + w / 2, middle[1] + h / 2)
    face = TrackedFace(0, tuple(float(v) for v in box), points, Origin.DETECTED, 1.0)  # type: ignore[arg-type]
    return np.clip(lit, 0, 255).astype(np.uint8), face


def alarmed(before: np.ndarray, face: TrackedFace, what: str) -> bool:
    """Does verification take the face for unchanged?"""
    height, width = before.shape
    after = before.copy()
    hide = what if what == "coarse" else ""
    placed = place(1, face, FACE_TEMPLATE, 1, GREY, width, height)
    assert placed is not None
    if what in COVERS:
        faces = (replace(placed, hide=hide),)
        masks = covered_pixels(faces, GREY, width, height), hidden_pixels(faces, width, height)
        (done,) = Mixed(Obscure("mosaic" if hide else what)).protect(
            [Picture(0, [after], GREY, faces, *masks)], lambda _: WHO
        )
        blend([after], GREY, placed.region.rect, done.tiles[0], placed.region.alpha)
    elif what == "light blur":
        after = cv2.GaussianBlur(after, (0, 0), max(0.3, (face.box[2] - face.box[0]) / 32))
    elif what == "half veil":
        after = (0.5 * after + 60).astype(np.uint8)
    coded = cv2.imdecode(cv2.imencode(".jpg", after, [cv2.IMWRITE_JPEG_QUALITY, 85])[1], cv2.IMREAD_GRAYSCALE)
    cover, touched = np.zeros((2, height, width), np.bool_)
    cover[placed.region.rect.inside] = placed.region.cover
    touched[placed.region.rect.inside] = placed.region.touched
    return compare(before, coded, face.box, cover & ellipse(face.box, width, height), touched).same(0.35)


def main() -> None:
    """Print one row a size."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--sizes", nargs="*", type=int, default=SIZES)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = {}
    for size in args.sizes:
        rng = np.random.default_rng(size)
        counts = dict.fromkeys((*COVERS, *LEAKS), 0)
        for _ in range(args.draws):
            picture, face = scene(size, rng)
            for what in counts:
                counts[what] += alarmed(picture, face, what)
        rows[size] = counts
        print(size, " ".join(f"{name} {count}" for name, count in counts.items()), flush=True)
    if args.json:
        print(json.dumps({"draws": args.draws, "alarms": rows}))


if __name__ == "__main__":
    main()
