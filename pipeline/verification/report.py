"""What a verification says: the leaks it found and what it could not look for. Plain values, fit for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby

from revisage.pipeline.types import Box


class Kind(StrEnum):
    """How a face may leak."""

    UNCOVERED = "uncovered"  # a face of the original lies, in part at least, under no mask
    UNCHANGED = "unchanged"  # a face, or what a mask should have covered, still shows what the original showed
    RECOGNIZED = "recognized"  # a recognizer takes the new face for the old one
    UNEXPLAINED = "unexplained"  # a face in the output, where the plan has none; found without the original


@dataclass(frozen=True, slots=True)
class Leak:
    """One face in one frame."""

    kind: Kind
    frame: int  # 0-based
    seconds: float  # since the first frame
    box: Box  # pixels of the stored frame
    track: int | None  # None: no track is near
    value: float  # uncovered: share of the face without a mask; unchanged: share of its detail that is still there;
    #               recognized: cosine; unexplained: the detector's score
    score: float = 1.0  # the detector's; 1 where the plan says that there is a face
    points: tuple[tuple[float, float], ...] = ()  # five, see FIVE_POINTS; () where no detector found it
    whole_track: bool = False  # recognized by the mean over its track; `frame` is the worst of it


@dataclass(frozen=True, slots=True)
class Kept:
    """A person whom the user chose to leave as filmed: no leak, but said."""

    track: int
    first: float  # seconds
    last: float  # seconds


@dataclass(frozen=True, slots=True)
class Report:
    """The verdict on one file."""

    frames: int
    faces: int  # looked at, over all frames: those of the plan and those that were found
    leaks: tuple[Leak, ...]  # by frame
    kept: tuple[Kept, ...]
    checks: dict[str, str]  # coverage, change, identity, unexplained -> how it was checked, or "not checked: " and why
    seconds: float  # that it took

    @property
    def clean(self) -> bool:
        """No leak was found."""
        return not self.leaks


@dataclass(frozen=True, slots=True)
class Span:
    """Leaks of one kind and track in frames that follow each other closely: one line for a person to read."""

    kind: Kind
    track: int | None
    first: Leak
    last: Leak
    worst: Leak
    frames: int


def spans(leaks: Sequence[Leak], most_apart: int = 5) -> list[Span]:
    """`leaks` summed up, by first frame. Gaps of up to `most_apart` frames are passed over."""
    found: list[Span] = []
    ordered = sorted(leaks, key=lambda leak: (leak.kind, leak.track or 0, leak.frame))
    for (kind, _), group in groupby(ordered, key=lambda leak: (leak.kind, leak.track or 0)):
        run: list[Leak] = []
        for leak in group:
            if run and leak.frame - run[-1].frame > most_apart:
                found.append(_span(kind, run))
                run = []
            run.append(leak)
        found.append(_span(kind, run))
    return sorted(found, key=lambda span: span.first.frame)


def summary(report: Report) -> str:
    """What leaks, in half a line; for an error."""
    frames = len({leak.frame for leak in report.leaks})
    kinds = ", ".join(sorted({leak.kind for leak in report.leaks}))
    first = min(report.leaks, key=lambda leak: leak.frame)
    one = len({(leak.kind, leak.track) for leak in report.leaks}) == 1
    if all(leak.kind is Kind.RECOGNIZED for leak in report.leaks):
        some = "a new face is like the old one" if one else "new faces are like the old ones"
    else:
        some = "a face shows" if one else "faces show"
    return f"{some} in {frames} of {report.frames} frames ({kinds}; first at {first.seconds:.2f} s)"


def _span(kind: Kind, leaks: Sequence[Leak]) -> Span:
    worst = max(leaks, key=lambda leak: leak.value)
    return Span(kind, leaks[0].track, leaks[0], leaks[-1], worst, len({leak.frame for leak in leaks}))
