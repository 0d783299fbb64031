"""Figures and verdicts on their way to a person or a program. Knows no video, model or key."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from revisage.pipeline.evaluation.measures import NOTHING


@dataclass(frozen=True, slots=True)
class Figure:
    """One measure: of the anonymized video, and what the same measure says of the original."""

    name: str
    value: float
    original: float = NOTHING
    target: str = ""  # what the project asks for
    about: str = ""  # for a person


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack: what was tried, and how far it got."""

    name: str
    outcome: str  # one sentence
    figures: dict[str, float] = field(default_factory=dict)
    holds: bool | None = None  # did the protection hold? None: it was not tried, or there is no verdict


@dataclass(frozen=True, slots=True)
class FilmReport:
    """All that was found out about one video."""

    name: str
    frames: int
    tracks: int
    faces: int  # judged, over all frames
    figures: tuple[Figure, ...]
    attacks: tuple[Attack, ...] = ()


def as_json(reports: Sequence[FilmReport]) -> dict[str, Any]:
    """The whole, fit for JSON: what was not measured is null."""
    return {"films": [_clean(asdict(report)) for report in reports], "mean": _clean(mean_figures(reports))}


def mean_figures(reports: Sequence[FilmReport]) -> dict[str, dict[str, float]]:
    """Every measure's mean over the videos that have it."""
    names = list(dict.fromkeys(figure.name for report in reports for figure in report.figures))
    found = {name: [f for report in reports for f in report.figures if f.name == name] for name in names}
    return {
        name: {"value": _mean(f.value for f in figures), "original": _mean(f.original for f in figures)}
        for name, figures in found.items()
    }


def rows(report: FilmReport) -> list[tuple[str, str, str, str, str]]:
    """(measure, anonymized, original, target, about) of every figure, for a table."""
    return [(f.name, shown(f.value), shown(f.original), f.target, f.about) for f in report.figures]


def attack_rows(report: FilmReport) -> list[tuple[str, str, str]]:
    """(attack, verdict, outcome), for a table."""
    verdicts = {True: "held", False: "BROKEN", None: "-"}
    return [(attack.name, verdicts[attack.holds], attack.outcome) for attack in report.attacks]


def shown(value: float) -> str:
    """Three significant digits; a dash where nothing was measured."""
    if math.isnan(value):
        return "-"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.0f}"


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else NOTHING


def _clean(value: Any) -> Any:
    """Without NaN, numpy numbers and tuples."""
    if isinstance(value, dict):
        return {key: _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    if isinstance(value, float | np.floating):
        return None if math.isnan(value) else round(float(value), 6)
    return int(value) if isinstance(value, np.integer) else value
