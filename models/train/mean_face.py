"""Makes `models/weights/mean-face.json`: the average landmarks of all usable portraits, mirrored too, in the face crop.

python -m revisage.models.train.mean_face FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from revisage.models import layout
from revisage.models.conditioning import FACE_TEMPLATE
from revisage.models.train.data import load_portraits
from revisage.pipeline import geometry

TARGET = Path(__file__).parents[1] / "weights" / "mean-face.json"


def main(folder: Path) -> None:
    """Align every portrait to the unit crop, average, write."""
    shapes = []
    for portrait in load_portraits(folder):
        for landmarks in (portrait.landmarks, layout.mirror(portrait.landmarks, 0)):
            matrix = geometry.align(layout.five_points(landmarks), FACE_TEMPLATE, 1)
            shapes.append(geometry.transform(landmarks, matrix))
    mean = np.median(np.stack(shapes), axis=0)
    rows = ",\n".join(json.dumps([round(float(x), 5), round(float(y), 5)]) for x, y in mean)
    TARGET.write_text(f"[\n{rows}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
