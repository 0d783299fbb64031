"""Who the new face is taken for. Owns the choice of a recognizer and sums over tracks; knows no video and no key."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from revisage.models.base import Recognizer
from revisage.models.conditioning import standard_landmarks
from revisage.models.detectors import installed_packs
from revisage.pipeline.errors import ModelError
from revisage.pipeline.types import Box, Float, Image

RECOGNIZERS = ("auto", "arcface", "dlib", "none")
SMALLEST = 32.0  # pixels: narrower faces all look alike to a recognizer
_FEWEST = 5  # frames that a mean over a track needs
# dlib's embeddings have a length of 1.44 +- 0.08, so a cosine orders pairs as its Euclidean distance does. 0.94 is the
# distance 0.5: of pairs of different held-out portraits 1 % reach it, of frames against their own re-encoding 98 %.
# Means over a film are shorter, 1.4, and hold less chance: 0.91 is the distance 0.6, at which dlib parts people, and
# 0.9 is 0.63: faces aligned a little otherwise are judged the same then.
_DLIB_THRESHOLD, _DLIB_MEAN_THRESHOLD = 0.94, 0.9


class DlibByPoints:
    """dlib's recognizer behind the `Recognizer` protocol. Raises ModelError without the extra `score`."""

    def __init__(self, threshold: float = _DLIB_THRESHOLD) -> None:
        from revisage.models.scoring import DlibRecognizer  # noqa: PLC0415  (an optional extra)

        self._net = DlibRecognizer()
        self._threshold = threshold

    @property
    def threshold(self) -> float:
        """Cosine at and above which two faces count as one person."""
        return self._threshold

    @property
    def mean_threshold(self) -> float:
        """The same for means over two films."""
        return _DLIB_MEAN_THRESHOLD

    def embed(self, picture: Image, points: Float) -> Float:
        """(128,) float32 of unit length for the face at `points` (5, 2) in `picture` (H, W, 3) uint8 RGB."""
        vector = self._net.embed(picture, standard_landmarks(points))
        unit: Float = vector / max(float(np.linalg.norm(vector)), 1e-6)
        return unit


def load_recognizer(name: str = "auto", *, device: str = "auto", threads: int = 0) -> tuple[Recognizer | None, str]:
    """A recognizer or None, and one line saying which and why.

    `auto` takes ArcFace where an insightface pack has it, else dlib where the extra `score` is installed, else none.
    Raises ModelError where the one that was asked for by name is not there.
    """
    if name not in RECOGNIZERS:
        raise ModelError(f"unknown recognizer {name!r}; choose one of {', '.join(RECOGNIZERS)}")
    if name == "none":
        return None, "none was asked for"
    if name in ("auto", "arcface") and (found := arcface(device=device, threads=threads)) is not None:
        return found
    if name == "arcface":
        raise ModelError("no insightface pack with a recognizer is installed; run: revisage models fetch buffalo_l")
    try:
        dlib = DlibByPoints()
    except ModelError:
        if name == "dlib":
            raise
        return None, "no recognizer is installed; pip install 'revisage[score]' or revisage models fetch buffalo_l"
    return dlib, f"dlib, same person from cosine {dlib.threshold}, of means over tracks {dlib.mean_threshold}"


def arcface(*, device: str = "auto", threads: int = 0) -> tuple[Recognizer, str] | None:
    """The first installed pack's recognizer; None where no pack has one."""
    from revisage.models.recognizers import ArcFaceRecognizer  # noqa: PLC0415

    for pack in installed_packs():
        try:
            net = ArcFaceRecognizer(pack, device=device, threads=threads)
        except ModelError:
            continue  # most small packs have none
        return net, f"ArcFace of {pack}, same person from cosine {net.threshold}"
    return None


def cosine(a: Float, b: Float) -> float:
    """Between vectors (D,) of any length."""
    return float(a @ b / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-6))


@dataclass(slots=True, eq=False)
class Mean:
    """One track's old and new face, summed up."""

    old: Float
    new: Float
    count: int = 0
    worst: float = -1.0  # cosine
    where: tuple[int, float, Box] = (0, 0.0, (0.0, 0.0, 0.0, 0.0))  # frame, seconds, box

    @property
    def cosine(self) -> float:
        """Between the means; -1 where there are too few faces for one."""
        if self.count < _FEWEST:
            return -1.0
        return cosine(self.old, self.new)


@dataclass(slots=True, eq=False)
class Identities:
    """Compares face by face and keeps what the means over tracks need."""

    recognizer: Recognizer
    means: dict[int, Mean] = field(default_factory=dict)

    def judge(
        self, before: Image, after: Image, points: Float, track: int | None, where: tuple[int, float, Box]
    ) -> float:
        """Cosine of the face at `points` (5, 2) in two pictures of one place; also goes into the mean of `track`."""
        old, new = self.recognizer.embed(before, points), self.recognizer.embed(after, points)
        alike = float(old @ new)
        if track is not None:
            mean = self.means.setdefault(track, Mean(np.zeros_like(old), np.zeros_like(new)))
            mean.old, mean.new, mean.count = mean.old + old, mean.new + new, mean.count + 1
            if alike > mean.worst:
                mean.worst, mean.where = alike, where
        return alike
