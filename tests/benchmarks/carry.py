"""What comes back from pixels: with the right key and a wrong one, after each codec, for several carries and sigmas.

    python tests/benchmarks/carry.py PORTRAITS CLIPS [--part NAME]... [--docs docs]

PORTRAITS is a folder as `models/train/data.py` reads it; people held out from training are taken. CLIPS is a folder of
videos. Every face stands in a frame of 160 x 160 pixels. The parts, each a table:

    targets    ours, the published way (arXiv 2510.01031) and plain DDIM on one network; right key, wrong key, none
    codecs     in float, lossless, H.264 and H.265, for three carries; every frame is encoded on its own
    sigmas     the noise that faces hide in
    lost       with the key alone: places found anew, as `recover --without-index` finds them; no landmark is told
    residual   a seal of what the pixels do not give back, against the seal of everything

Without --part the first three are made. Parts of one run, and the pictures, share what they hide and bring back. The
last line is JSON. Identity is dlib's, where the extra `score` is installed: at most 0.6 counts as the same person.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from carried_faces import (  # type: ignore[import-not-found]
    FORMAT,
    RIGHT,
    WRONG,
    Bench,
    Hidden,
    Scores,
    Subject,
    as_image,
    clip_faces,
    clips,
    decibels,
    film_faces,
    pixels_of,
    portraits,
    refound,
    signed,
    through,
)

from revisage.models.base import Descent
from revisage.pipeline.carry import Carry, dump
from revisage.pipeline.media import encode_clip
from revisage.pipeline.pixels import Planes
from revisage.pipeline.types import Float

Row = dict[str, Any]
LOSSLESS = "lossless (FFV1)"
CODECS: dict[str, tuple[str, dict[str, str]]] = {
    LOSSLESS: ("ffv1", {}),
    **{f"H.264 crf {crf}": ("libx264", {"crf": str(crf), "g": "1"}) for crf in (10, 18, 23, 28)},
    **{
        f"H.265 crf {crf}": ("libx265", {"crf": str(crf), "x265-params": "log-level=none:keyint=1"})
        for crf in (10, 18, 28)
    },
}
BLOCK = 24  # frames of a film for the residual


@dataclass(frozen=True, slots=True)
class Faces:
    """What a run looks at."""

    many: list[Subject]  # for the targets
    few: list[Subject]  # for the tables
    film: list[Subject]  # frames in a row


@cache
def encoded(hidden: Hidden, codec: str) -> list[Planes]:
    """The anonymized frames after an encoder and its decoder."""
    name, options = CODECS[codec]
    return through(name, FORMAT, hidden.painted, options)


@cache
def after(hidden: Hidden, codec: str, key: int = RIGHT) -> list[Float]:
    """What comes back of them, (3, N, N) each. What costs most here, hence done once for all tables and pictures."""
    return hidden.recovered(encoded(hidden, codec), key)


def row(what: str, scores: Scores, **more: object) -> Row:
    made = {
        **more,
        "what": what,
        "faces": len(scores.psnr),
        "PSNR": round(float(np.median(scores.psnr)), 1),
        "as carried": round(float(np.median(scores.carried)), 1),
        "worst tenth": round(float(np.percentile(scores.psnr, 10)), 1),
        "SSIM": round(float(np.median(scores.ssim)), 3),
        "distance": round(float(np.nanmedian(scores.distance)), 2),
        "same person": _percent(scores.same),
    }
    print(made, flush=True)
    return made


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def targets(bench: Bench, faces: Faces) -> Iterator[Row]:
    """What the program promises, and what the published way gives on the same network."""
    hidden = bench.hide(faces.many, Carry())
    frames = encoded(hidden, LOSSLESS)
    yield row("ours, lossless pixels", hidden.scored(after(hidden, LOSSLESS)), key="right", lost=hidden.lost)
    yield row("ours, lossless pixels", hidden.scored(after(hidden, LOSSLESS, WRONG)), key="wrong")
    nothing = [float("nan")] * len(frames)
    shown = hidden.distances([as_image(planes, FORMAT) for planes in frames])
    yield row("ours, lossless pixels", Scores(nothing, nothing, nothing, shown), key="none")
    yield row("ours, float", hidden.scored(hidden.in_float()), key="right")
    errors = np.array(hidden.round_trips())
    trip = {"what": "latent, picture, latent in float", "faces": len(errors), "worst error": f"{errors.max():.1e}",
            "at most 1e-5": _percent(float(np.mean(errors <= 1e-5)))}  # fmt: skip
    print(trip, flush=True)
    yield trip
    yield row("plain DDIM, float", bench.plain(faces.few), key="none used")
    for rounded in (False, True):
        made = bench.published(faces.few, rounded=rounded)
        for name, key in (("right", "right"), ("wrong", "wrong"), ("hidden", "none")):
            yield row(f"published, {'8 bit' if rounded else 'float'}", made[name], key=key)


def codecs(bench: Bench, faces: Faces) -> Iterator[Row]:
    """Every codec at every carry."""
    for amount in (1.0, 0.5, 0.25):
        hidden = bench.hide(faces.few, Carry(amount))
        yield row("float", hidden.scored(hidden.in_float()), carry=amount)
        for codec in CODECS:
            yield row(codec, hidden.scored(after(hidden, codec)), carry=amount)


def sigmas(bench: Bench, faces: Faces) -> Iterator[Row]:
    """Grain against robustness."""
    for sigma in (0.15, 0.35, 0.8):
        hidden = bench.hide(faces.few, Carry(1.0, Descent(sigma)))
        for codec in (LOSSLESS, "H.264 crf 10", "H.264 crf 18"):
            yield row(codec, hidden.scored(after(hidden, codec)), sigma=sigma, grain=grain(hidden))


def grain(hidden: Hidden) -> float:
    """Grey levels: how far a pixel of the new face lies from the median of the nine around it, root mean square."""
    rough = []
    for planes, carriage in zip(hidden.painted, hidden.carriages, strict=True):
        square = carriage.square.rect()
        luma = planes[0].astype(np.float32)
        fine = luma - cv2.medianBlur(planes[0], 3)
        rough.append(float(np.square(fine[square.y0 : square.y1, square.x0 : square.x1]).mean() ** 0.5))
    return round(float(np.median(rough)), 1)


def lost(bench: Bench, faces: Faces) -> Iterator[Row]:
    """Every face by itself, with nothing of its place known; with the right key and a wrong one."""
    hidden = bench.hide(faces.few, Carry())
    films = [as_image(planes, FORMAT) for planes in hidden.originals]
    for name, key in (("right", RIGHT), ("wrong", WRONG)):
        began = time.process_time()
        back = [refound(bench, hidden.carry, *row, key) for row in enumerate(encoded(hidden, LOSSLESS))]
        seconds = round((time.process_time() - began) / len(back))
        shown = [as_image(planes, FORMAT) for planes, _ in back]
        rows = zip(hidden.subjects, back, shown, films, hidden.carriages, hidden.distances(shown), strict=True)
        for subject, (_, certainty), picture, film, carriage, distance in rows:
            made = {
                "key": name,
                "what": subject.clip or "portrait",
                "back": "no" if certainty is None else "yes",
                "certainty": "" if certainty is None else round(certainty, 1),
                "PSNR": round(decibels(signed(picture), signed(film), pixels_of(carriage)), 1),
                "distance": round(distance, 2),
                "seconds": seconds,
            }
            print(made, flush=True)
            yield made


def residual(bench: Bench, faces: Faces) -> Iterator[Row]:
    """Bytes of a seal that holds only what the pixels do not give back, and of one that holds everything."""
    hidden = bench.hide(faces.film, Carry())
    described = [len(dump(b, a)) for a, b in zip([None, *hidden.carriages[:-1]], hidden.carriages, strict=True)]
    masks = [pixels_of(carriage) for carriage in hidden.carriages]
    for codec in (LOSSLESS, "H.264 crf 10", "H.264 crf 18"):
        back = hidden.restored(after(hidden, codec))
        rest = [_difference(a, b, m) for a, b, m in zip(hidden.originals, back, masks, strict=True)]
        whole = [_difference(a, None, m) for a, m in zip(hidden.originals, masks, strict=True)]
        for lossless in (False, True):
            sizes = {name: _sealed(tiles, masks, lossless) for name, tiles in (("residual", rest), ("full", whole))}
            made = {"what": codec, "seal": "lossless" if lossless else "visual", **sizes}
            made["ratio"] = round(sizes["residual"] / sizes["full"], 2)
            print(made | {"geometry": round(float(np.mean(described)))}, flush=True)
            yield made | {"geometry": round(float(np.mean(described)))}


def _difference(planes: Planes, less: Planes | None, mask: np.ndarray) -> Planes:
    """Samples, or what they are more than `less`, round a circle of 256; grey where nothing is to be sealed."""
    result = []
    for number, plane in enumerate(planes):
        inside = mask if number == 0 else mask[::2, ::2]
        value = plane if less is None else (plane.astype(int) - less[number] + 128).astype(np.uint8)
        result.append(np.where(inside, value, np.uint8(128)))
    return result


def _sealed(tiles: Sequence[Planes], masks: Sequence[np.ndarray], lossless: bool) -> int:
    """Bytes per frame."""
    pts = list(range(len(tiles)))
    clip = encode_clip(tiles, masks, FORMAT, lossless=lossless, pts=pts, time_base=Fraction(1, 25))
    return round(len(clip) / len(tiles))


PARTS: dict[str, Callable[[Bench, Faces], Iterator[Row]]] = {
    "targets": targets, "codecs": codecs, "sigmas": sigmas, "lost": lost, "residual": residual,
}  # fmt: skip


def contact(bench: Bench, subjects: Sequence[Subject], path: Path) -> None:
    """Filmed; anonymized at carry 1, 0.5 and 0.25; back from lossless pixels, after H.264 crf 18, with a wrong key."""
    hidden = [bench.hide(subjects, Carry(amount)) for amount in (1.0, 0.5, 0.25)]
    whole = hidden[0]
    rows = [
        [as_image(planes, FORMAT) for planes in whole.originals],
        *([as_image(planes, FORMAT) for planes in one.painted] for one in hidden),
        whole.framed(after(whole, LOSSLESS)),
        whole.framed(after(whole, "H.264 crf 18")),
        whole.framed(after(whole, LOSSLESS, WRONG)),
    ]
    sheet = np.concatenate([np.concatenate(pictures, axis=1) for pictures in rows], axis=0)
    cv2.imwrite(str(path), sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])


def plot(rows: Sequence[Row], path: Path) -> None:
    """PSNR and identity over how hard the codec presses, a line per carry."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    names = ["float", *CODECS]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2))
    for number, amount in enumerate(dict.fromkeys(r["carry"] for r in rows)):
        made = {r["what"]: r for r in rows if r["carry"] == amount}
        for run in ([n for n in names if "265" not in n], [n for n in names if "265" in n]):
            label, style = None if "265" in run[0] else f"carry {amount}", {"marker": "o", "color": f"C{number}"}
            left.plot(run, [made[name]["PSNR"] for name in run], label=label, **style)
            right.plot(run, [made[name]["distance"] for name in run], label=label, **style)
    left.axhline(30, color="black", lw=0.5)
    right.axhline(0.6, color="black", lw=0.5)
    left.set_title("PSNR of what comes back, dB (line: 30)")
    right.set_title("dlib distance to the person filmed (line: 0.6, same person)")
    for axis in (left, right):
        axis.tick_params(axis="x", labelrotation=40)
        axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=80)


def markdown(rows: Sequence[Row]) -> str:
    """A table for the docs."""
    names = list(dict.fromkeys(name for r in rows for name in r))
    names.sort(key=lambda name: name not in ("what", "carry", "sigma", "key"))
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    return "\n".join(lines + ["| " + " | ".join(_cell(r.get(name, "")) for name in names) + " |" for r in rows])


def _cell(value: object) -> str:
    return "" if isinstance(value, float) and math.isnan(value) else str(value)


def rewrite(page: Path, tables: dict[str, list[Row]]) -> None:
    """Put every table between its marks, `<!-- NAME -->` and `<!-- end -->`."""
    text = page.read_text(encoding="utf-8")
    for name, rows in tables.items():
        before, mark, rest = text.partition(f"<!-- {name} -->\n")
        if mark:
            text = f"{before}{mark}\n{markdown(rows)}\n\n{rest[rest.index('<!-- end -->') :]}"
    page.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("portraits", type=Path)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--part", action="append", choices=list(PARTS), help="one table only (repeatable)")
    parser.add_argument("--people", type=int, default=9, help="held-out portraits for the targets")
    parser.add_argument("--each", type=int, default=4, help="frames of each clip for the targets")
    parser.add_argument("--model", default="revisage-face")
    parser.add_argument("--docs", type=Path, help="folder whose carry.md gets the tables, and which gets the pictures")
    args = parser.parse_args()
    bench = Bench(args.model)
    spread = clip_faces(args.clips, args.each)
    people = portraits(args.portraits, args.people)
    few = people[:2] + [next(s for s in spread if s.clip == path.stem) for path in clips(args.clips)]
    wanted = args.part or ["targets", "codecs", "sigmas"]
    film = film_faces(clips(args.clips)[0], BLOCK, first=0) if "residual" in wanted else []
    tables = {name: list(PARTS[name](bench, Faces(people + spread, few, film))) for name in wanted}
    for name, rows in tables.items():
        print(f"\n{name}\n\n{markdown(rows)}")
    if args.docs is not None:
        rewrite(args.docs / "carry.md", tables)
        contact(bench, few, args.docs / "carry.jpg")
        if "codecs" in tables:
            plot(tables["codecs"], args.docs / "carry.png")
    print(json.dumps(tables))


if __name__ == "__main__":
    main()
