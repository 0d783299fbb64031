"""The portraits to train on: loading, throwing out the broken ones, and the split that keeps people apart.

Owns what a usable portrait is and who is held out; both lists lie beside this module (`excluded.txt`, `holdout.txt`) so
that every training uses the same ones. Knows no network that is trained here and no augmentation.

    python -m revisage.models.train.data FOLDER      computes both lists again (needs the extra `score`)
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from revisage.models import layout
from revisage.models.scoring import DlibRecognizer
from revisage.pipeline.types import Float, Image

HOLDOUT = Path(__file__).with_name("holdout.txt")
EXCLUDED = Path(__file__).with_name("excluded.txt")

SAME_PERSON = 0.5  # distance of dlib's embeddings below which two portraits count as one person
HELD_OUT = 0.1  # share of the usable portraits
MIN_INTEROCULAR = 30.0  # pixels
MAX_OUTSIDE = 0.1  # share of the landmarks, forehead included, that may lie outside the picture
MIN_CHROMA = 4.0  # mean distance between colour channels, in grey levels, below which a picture is monochrome


@dataclass(frozen=True, slots=True, eq=False)
class Portrait:
    """One picture of a person who does not exist. The picture itself is read when asked for."""

    path: Path
    mesh: Float  # (468, 3), MediaPipe's face mesh in pixels of the picture

    @property
    def name(self) -> str:
        """The file's name, as the two lists have it."""
        return self.path.name

    @property
    def landmarks(self) -> Float:
        """(LANDMARK_COUNT, 2) float32, in pixels of the picture."""
        return layout.from_mesh(self.mesh)

    def read(self) -> Image:
        """(H, W, 3) uint8 RGB."""
        bgr = cv2.imread(str(self.path), cv2.IMREAD_COLOR)
        if bgr is None:
            raise FileNotFoundError(f"cannot read the portrait {self.path}")
        rgb: Image = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
        return rgb


def load_portraits(folder: Path, *, usable_only: bool = True) -> list[Portrait]:
    """The portraits of `folder` (`images/` and `landmarks.npz`) in the file's order, without the excluded ones."""
    with np.load(folder / "landmarks.npz") as data:
        names, meshes = data["name"], data["landmarks"].astype(np.float32)
    excluded = read_names(EXCLUDED) if usable_only else frozenset()
    paths = (_image_path(folder, str(name)) for name in names)
    return [Portrait(path, mesh) for path, mesh in zip(paths, meshes, strict=True) if path.name not in excluded]


def split(portraits: Sequence[Portrait]) -> tuple[list[Portrait], list[Portrait]]:
    """(to train on, held out); no person is in both."""
    held_out = read_names(HOLDOUT)
    train = [p for p in portraits if p.name not in held_out]
    return train, [p for p in portraits if p.name in held_out]


def read_names(path: Path) -> frozenset[str]:
    """The first word of every line that is not empty and no comment."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return frozenset(line.split()[0] for line in lines if line.strip() and not line.startswith("#"))


def people(embeddings: Float, threshold: float = SAME_PERSON) -> list[list[int]]:
    """(N, D) -> groups of rows connected by pairs closer than `threshold`; by first member, members rising."""
    parent = list(range(len(embeddings)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, row in enumerate(embeddings):
        for j in np.flatnonzero(np.linalg.norm(embeddings[:i] - row, axis=1) < threshold):
            a, b = sorted((root(i), root(int(j))))
            parent[b] = a
    groups: dict[int, list[int]] = {}
    for i in range(len(embeddings)):
        groups.setdefault(root(i), []).append(i)
    return list(groups.values())


def hold_out(groups: Sequence[Sequence[int]], share: float = HELD_OUT) -> list[int]:
    """Whole groups, drawn with a fixed seed, until `share` of all members is reached; no group above half of that."""
    target = share * sum(map(len, groups))
    chosen: list[int] = []
    for g in np.random.default_rng(0).permutation(len(groups)):
        if len(chosen) >= target:
            break
        if len(groups[g]) <= target / 2:
            chosen.extend(groups[g])
    return sorted(chosen)


def defect(picture: Image, landmarks: Float) -> str | None:
    """Why a portrait is of no use, or None."""
    height, width = picture.shape[:2]
    inside = (landmarks >= 0).all(-1) & (landmarks < (width, height)).all(-1)
    channels = picture.astype(np.int16)
    chroma = np.abs(channels - np.roll(channels, 1, axis=2)).mean()
    if inside.mean() < 1 - MAX_OUTSIDE:
        return "landmarks outside the picture"
    if layout.interocular(landmarks) < MIN_INTEROCULAR:
        return "face too small"
    return "monochrome" if chroma < MIN_CHROMA else None


def _image_path(folder: Path, name: str) -> Path:
    path = folder / "images" / name
    return path if path.suffix else path.with_suffix(".jpg")


def _embeddings(portraits: Iterable[Portrait]) -> Iterator[Float | None]:
    """dlib's 128 numbers for each portrait, aligned by its landmarks; None where there are none."""
    recognizer = DlibRecognizer()
    for portrait in portraits:
        vector = recognizer.embed(portrait.read(), portrait.landmarks)
        yield vector if np.isfinite(vector).all() else None


def _write(path: Path, header: str, lines: Iterable[str]) -> None:
    path.write_text("\n".join([f"# {header}", *lines]) + "\n", encoding="utf-8")


def main(folder: Path) -> None:
    """Compute both lists from the pictures and the landmarks."""
    portraits = load_portraits(folder, usable_only=False)
    reasons = {p.name: defect(p.read(), p.landmarks) for p in portraits}
    candidates = [p for p in portraits if reasons[p.name] is None]
    embedded = [(p, v) for p, v in zip(candidates, _embeddings(candidates), strict=True) if v is not None]
    failed = {p.name for p in candidates} - {p.name for p, _ in embedded}
    reasons |= dict.fromkeys(failed, "no embedding")
    groups = people(np.stack([v for _, v in embedded]))
    names = sorted(embedded[i][0].name for i in hold_out(groups))
    _write(EXCLUDED, "portraits of no use, and why", (f"{n}  {r}" for n, r in sorted(reasons.items()) if r))
    _write(HOLDOUT, f"portraits held out of all training: {len(names)} of {len(embedded)}, no person in both", names)
    print(f"{len(portraits)} portraits, {len(embedded)} usable, {len(groups)} people, {len(names)} held out")
    print("largest groups:", sorted(map(len, groups), reverse=True)[:10])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
