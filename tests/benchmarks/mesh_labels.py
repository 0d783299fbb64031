"""What MediaPipe's face mesh with irises says of portraits or of films: labels to train on, and to compare with.

    python tests/benchmarks/mesh_labels.py portraits FACES OUT      # FACES: images/ and landmarks.npz
    python tests/benchmarks/mesh_labels.py films CLIP... --out OUT

Runs in a virtual environment of its own with `mediapipe==0.10.14` (Apache-2.0) and nothing of this project, which
never depends on it. `portraits` writes a folder as FACES is, with meshes of 478 vertices, of those portraits where both
meshes agree within 8 % of the outer eye corners' distance. `films` writes `CLIP.npz` each: `mesh (F, 478, 2)` in
pixels of the frame, NaN where no face was found. A film has one face, the largest counts.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import cv2
import numpy as np

MOST_APART = 0.08
OUTER_CORNERS = (33, 263)
LEAST_SIDE = 480  # pixels; smaller pictures are enlarged, the detector misses small faces


def make_mesh() -> Any:
    """The model, each picture on its own."""
    import mediapipe

    return mediapipe.solutions.face_mesh.FaceMesh(
        static_image_mode=True, max_num_faces=3, refine_landmarks=True, min_detection_confidence=0.3
    )


def meshes(model: Any, picture: Any, pad: int) -> list[Any]:
    """(478, 3) in pixels of `picture` (RGB) for each face; the largest first."""
    padded = cv2.copyMakeBorder(picture, pad, pad, pad, pad, cv2.BORDER_REPLICATE)
    height, width = padded.shape[:2]
    faces = model.process(padded).multi_face_landmarks or []
    scale, shift = np.array([width, height, width]), np.array([pad, pad, 0])
    found = [np.array([(p.x, p.y, p.z) for p in f.landmark]) * scale - shift for f in faces]
    return sorted((f.astype(np.float32) for f in found), key=lambda f: -float(np.ptp(f[:, 0])))


def label_portraits(folder: Path, out: Path) -> None:
    """See the module."""
    model, names, kept = make_mesh(), [], []
    with np.load(folder / "landmarks.npz") as data:
        rows = list(zip(data["name"].tolist(), data["landmarks"], strict=True))
    for name, known in rows:
        path = folder / "images" / (name if Path(name).suffix else f"{name}.jpg")
        picture = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        unit = max(float(np.linalg.norm(np.subtract(*known[list(OUTER_CORNERS), :2]))), 1.0)
        for pad in (picture.shape[1] // 4, 0):
            close = [
                m
                for m in meshes(model, picture, pad)
                if np.linalg.norm(m[:468, :2] - known[:, :2], axis=1).mean() < MOST_APART * unit
            ]
            if close:
                names.append(name)
                kept.append(close[0])
                break
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "images").exists():
        (out / "images").symlink_to((folder / "images").resolve())
    np.savez(out / "landmarks.npz", name=np.array(names), landmarks=np.stack(kept))
    print(f"{len(kept)} of {len(rows)}")


def label_film(clip: Path, out: Path) -> None:
    """See the module."""
    model, rows = make_mesh(), []
    video = cv2.VideoCapture(str(clip))
    while (read := video.read())[0]:
        picture = cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB)
        scale = max(1.0, LEAST_SIDE / min(picture.shape[:2]))
        large = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        found = meshes(model, large, large.shape[1] // 8)
        rows.append((found[0][:, :2] + 0.5) / scale - 0.5 if found else np.full((478, 2), np.nan, np.float32))
    np.savez(out / f"{clip.stem}.npz", mesh=np.stack(rows).astype(np.float32))
    print(clip.stem, len(rows), "frames,", int(np.isfinite(np.stack(rows)[:, 0, 0]).sum()), "with a face")


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    actions = parser.add_subparsers(dest="action", required=True)
    portraits = actions.add_parser("portraits")
    portraits.add_argument("folder", type=Path)
    portraits.add_argument("out", type=Path)
    films = actions.add_parser("films")
    films.add_argument("clips", type=Path, nargs="+")
    films.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if options.action == "portraits":
        label_portraits(options.folder, options.out)
        return
    options.out.mkdir(parents=True, exist_ok=True)
    for clip in options.clips:
        label_film(clip, options.out)


if __name__ == "__main__":
    main()
