"""Where a plan hides faces in one frame, and how much of a face lies under that. Knows no file and no network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from revisage.models.conditioning import FACE_TEMPLATE
from revisage.models.looks import overlap
from revisage.pipeline.composite import FACE, place
from revisage.pipeline.pixels import Mask, PixelFormat
from revisage.pipeline.types import Box, FaceDetection, Shape, Track, TrackedFace

_INNER = 0.9  # of a detector's box: boxes of two looks at one face differ by some percent at the border
_SAME, _THE_SAME = 0.3, 0.5  # intersection over union from which a detection may be, and surely is, a track's face


@dataclass(frozen=True, slots=True, eq=False)
class Hidden:
    """One face that the plan hides in this frame."""

    track: int
    face: TrackedFace
    cover: Mask  # (H, W), what is replaced entirely


@dataclass(frozen=True, slots=True, eq=False)
class Masks:
    """One frame of a plan, drawn."""

    hidden: tuple[Hidden, ...]
    kept: tuple[tuple[int, Box], ...]  # tracks left as filmed
    cover: Mask  # (H, W), all covers
    touched: Mask  # (H, W), every pixel that compositing may change
    left: Mask | None = None  # (H, W), parts of the faces that stay as filmed on purpose; None: no such part

    @classmethod
    def draw(
        cls,
        faces: Iterable[tuple[Track, TrackedFace]],
        fmt: PixelFormat,
        width: int,
        height: int,
        shape: Shape = FACE,
    ) -> Masks:
        """The masks of `faces` in a picture of `width` x `height`; parts that are kept on purpose count as covered."""
        whole = replace(shape, keep_parts=())
        cover, touched, replaced = np.zeros((3, height, width), np.bool_)
        hidden: list[Hidden] = []
        kept: list[tuple[int, Box]] = []
        for track, face in faces:
            if track.keep:
                kept.append((track.id, face.box))
                continue
            placed = place(track.id, face, FACE_TEMPLATE, 1, fmt, width, height, whole)
            if placed is None:
                continue
            own = np.zeros((height, width), np.bool_)
            window = placed.region.rect.inside
            own[window] = placed.region.cover
            cover[window] |= placed.region.cover
            touched[window] |= placed.region.touched
            hidden.append(Hidden(track.id, face, own))
            if shape.keep_parts:
                parts = place(track.id, face, FACE_TEMPLATE, 1, fmt, width, height, shape)
                replaced[window] |= placed.region.cover if parts is None else parts.region.cover
        return cls(tuple(hidden), tuple(kept), cover, touched, cover & ~replaced if shape.keep_parts else None)

    def over(self, box: Box) -> Hidden | None:
        """Whose face is hidden where `box` lies; None where nobody's is."""
        best = max(self.hidden, key=lambda hidden: overlap(hidden.face.box, box), default=None)
        if best is None or overlap(best.face.box, box) >= _SAME:
            return best
        x, y = int((box[0] + box[2]) / 2), int((box[1] + box[3]) / 2)
        return next((hidden for hidden in self.hidden if hidden.cover[y : y + 1, x : x + 1].any()), None)

    def but_kept(self, faces: Sequence[FaceDetection]) -> list[FaceDetection]:
        """`faces` without those of people who are left as filmed: one each, and what lies on that very place.

        A stranger's face beside a kept one is not spared because the two boxes touch.
        """
        spared: set[int] = set()
        for _, box in self.kept:
            shares = [overlap(box, face.box) for face in faces]
            spared |= {i for i, share in enumerate(shares) if share >= _THE_SAME or share == max(shares) >= _SAME}
        return [face for i, face in enumerate(faces) if i not in spared]

    def bare(self, face: FaceDetection) -> float:
        """Share of the face that lies under no mask; 1 where an eye, the nose or the mouth's corners do not."""
        height, width = self.cover.shape
        for x, y in np.rint(face.points).astype(int).tolist():
            if 0 <= x < width and 0 <= y < height and not self.cover[y, x]:
                return 1.0
        inside = ellipse(face.box, width, height)
        return 1 - float((inside & self.cover).sum()) / max(int(inside.sum()), 1)


def ellipse(box: Box, width: int, height: int, inner: float = _INNER) -> Mask:
    """(height, width) bool: the ellipse that fills `box` shrunk by `inner`; a face without the box's corners."""
    x0, y0, x1, y1 = box
    drawn = np.zeros((height, width), np.uint8)
    shape = (((x0 + x1 - 1) / 2, (y0 + y1 - 1) / 2), (inner * (x1 - x0), inner * (y1 - y0)), 0.0)
    cv2.ellipse(drawn, shape, 1, -1)
    return drawn > 0
