"""A picture of the worst cases, cut out of the anonymized output alone: never a pixel of an original file.

Owns which cases are worst, the crops and their captions. A face that leaks is in the output as it was filmed, and the
sheet would keep it when the output has long been deleted: it is covered there, unless the user wants to see it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from revisage.pipeline.errors import OutputError
from revisage.pipeline.media.hidden import HiddenFile
from revisage.pipeline.types import Box, Image

_COLUMNS, _MOST = 6, 24
_CELL, _CAPTION = 168, 34  # pixels
_MARGIN = 0.5  # of the box's sides around it
_ROOMY, _GREY = 1.45, (118, 118, 118)  # of a box's sides, an ellipse so large holds the box's corners
_LEAKS, _CLEAN = (255, 96, 96), (150, 220, 150)


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One face of the output."""

    severity: float  # 1 and more: a leak
    crop: Image  # (_CELL, _CELL, 3)
    caption: tuple[str, str]


@dataclass(slots=True, eq=False)
class Album:
    """Keeps the worst case of each second of each track, and of those the worst `most`."""

    most: int = _MOST
    bare: bool = False  # show the faces that leak
    cases: dict[tuple[object, ...], Case] = field(default_factory=dict)

    def offer(
        self,
        key: tuple[object, ...],
        severity: float,
        box: Box,
        caption: tuple[str, str],
        picture: Callable[[], Image],
        leaking: Sequence[Box] = (),
    ) -> None:
        """A case that may be one of the worst; `picture` gives the output's frame and is only asked if it is.

        `leaking`: where faces show in that frame.
        """
        known = self.cases.get(key)
        if known is not None and known.severity >= severity:
            return
        mildest = min(self.cases, key=lambda k: self.cases[k].severity, default=None)
        if known is None and mildest is not None and len(self.cases) >= self.most:
            if self.cases[mildest].severity >= severity:
                return
            del self.cases[mildest]
        seen = picture() if self.bare or not leaking else _covered(picture(), leaking)
        self.cases[key] = Case(severity, _crop(seen, box), caption)

    def draw(self) -> Image:
        """The sheet, worst first: (H, W, 3)."""
        cases = sorted(self.cases.values(), key=lambda case: -case.severity)
        cells = [_cell(case) for case in cases] or [_empty()]
        rows = []
        for start in range(0, len(cells), _COLUMNS):
            row = cells[start : start + _COLUMNS]
            columns = min(_COLUMNS, len(cells))
            rows.append(np.hstack([*row, *[np.full_like(cells[0], 24)] * (columns - len(row))]))
        return np.vstack(rows)


def check_sheet(path: Path, *, overwrite: bool = False) -> None:
    """Raises OutputError where a sheet could not be written to `path`; better before the work than after it."""
    if path.suffix.lower() != ".png":
        raise OutputError(f"the sheet {path} is a PNG picture; give it a name that ends in .png")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists; choose another name or give --overwrite")
    if not path.parent.is_dir():
        raise OutputError(f"the folder {path.parent} does not exist; make it first")


def write_sheet(album: Album, path: Path, *, overwrite: bool = False) -> None:
    """Write the sheet as PNG, complete or not at all. Raises OutputError."""
    check_sheet(path, overwrite=overwrite)
    data = cv2.imencode(".png", cv2.cvtColor(album.draw(), cv2.COLOR_RGB2BGR))[1].tobytes()
    with HiddenFile(path) as file:
        try:
            file.write(data)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}; choose another folder") from error
        file.publish()


def _covered(picture: Image, boxes: Sequence[Box]) -> Image:
    """A copy of `picture` with grey over each face in `boxes`, chin and forehead included."""
    covered = picture.copy()
    for x0, y0, x1, y1 in boxes:
        middle, size = ((x0 + x1) / 2, (y0 + y1) / 2), (_ROOMY * (x1 - x0), _ROOMY * (y1 - y0))
        cv2.ellipse(covered, (middle, size, 0.0), _GREY, -1)
    return covered


def _crop(picture: Image, box: Box) -> Image:
    """The surroundings of `box`, square, scaled into a cell; black beyond the picture."""
    x0, y0, x1, y1 = box
    half = (0.5 + _MARGIN) * max(x1 - x0, y1 - y0)
    scale = _CELL / (2 * half)
    middle = ((x0 + x1) / 2, (y0 + y1) / 2)
    matrix = np.array([[scale, 0, _CELL / 2 - scale * middle[0]], [0, scale, _CELL / 2 - scale * middle[1]]])
    seen: Image = cv2.warpAffine(
        picture, matrix, (_CELL, _CELL), flags=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    )
    corners = np.array([[x0, y0], [x1, y1]]) * scale + matrix[:, 2]
    (left, top), (right, bottom) = np.rint(corners).astype(int).tolist()
    cv2.rectangle(seen, (left, top), (right, bottom), (255, 255, 255), 1)
    return seen


def _cell(case: Case) -> Image:
    cell = np.full((_CELL + _CAPTION + 6, _CELL + 6, 3), 24, np.uint8)
    cell[3 : 3 + _CELL, 3 : 3 + _CELL] = case.crop
    colour = _LEAKS if case.severity >= 1 else _CLEAN
    for row, text in enumerate(case.caption):
        cv2.putText(cell, text, (5, _CELL + 16 + 14 * row), cv2.FONT_HERSHEY_SIMPLEX, 0.38, colour, 1, cv2.LINE_AA)
    return cell


def _empty() -> Image:
    return _cell(Case(0.0, np.full((_CELL, _CELL, 3), 24, np.uint8), ("no face in this file", "")))
