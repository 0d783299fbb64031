"""From options to a finished job: loads every network once and takes as many videos as asked through both passes.

The one place that the command line, the batch and the demo share. Knows no terminal, no passphrase and no exit code.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from revisage.models.base import Detector, Landmarker
from revisage.models.detectors import LOW, SMALLEST, load_detector
from revisage.models.presets import EMBEDDED_MODEL
from revisage.pipeline.analyze import AnalyzeOptions, analyze
from revisage.pipeline.errors import KeyFileError, ModelError, OutputError, PlanError
from revisage.pipeline.places import check_places, index_path
from revisage.pipeline.protect import METHODS, Diffusion, Method, Obscure
from revisage.pipeline.render import Access, RenderOptions, RenderReport, anonymize
from revisage.pipeline.types import Plan, Progress, Track, silent
from revisage.pipeline.vault.index import Seal
from revisage.pipeline.vault.keys import Recipient, SecretKey, everyone

if TYPE_CHECKING:
    from revisage.models.device import Device


@dataclass(frozen=True, slots=True)
class JobOptions:
    """What the user may choose, the same for every video of a run."""

    method: str = "diffusion"
    model: str = EMBEDDED_MODEL
    steps: int | None = None  # None: the model's own
    batch_size: int = 8  # faces at a time
    seal: Seal = "visual"
    index: bool = True  # write OUT.rvx
    detector: str = "auto"
    device: str = "auto"
    threads: int = 0  # of the CPU; 0: all
    threshold: float = 0.4  # score from which a detection is a face
    hold: float = 0.5  # seconds
    smallest: float = SMALLEST  # pixels
    codec: str | None = None
    crf: int | None = None

    def __post_init__(self) -> None:
        """Raises PlanError, ModelError, OutputError where a choice makes no sense."""
        if self.method not in METHODS:
            raise ModelError(f"unknown method {self.method!r}; choose one of {', '.join(METHODS)}")
        if self.seal != "off" and not self.index:
            raise OutputError("the sealed originals live in the index: without one (--index off) give --seal off too")
        self.analysis  # noqa: B018 - checks the numbers

    @property
    def analysis(self) -> AnalyzeOptions:
        """The part that pass 1 wants."""
        return AnalyzeOptions(low=min(LOW, self.threshold), high=self.threshold, hold=self.hold)


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Who will be able to undo the work."""

    secrets: tuple[SecretKey, ...] = ()
    recipients: tuple[Recipient, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.secrets or self.recipients)

    @property
    def everyone(self) -> tuple[Recipient, ...]:
        """Every public key, each once."""
        return everyone(self.secrets, self.recipients)


@dataclass(frozen=True, slots=True)
class TrackSummary:
    """One track for a person to recognise."""

    id: int
    start: float  # seconds
    end: float  # seconds, of its last frame
    frames: int
    width: int  # of the face's box, pixels, median
    keep: bool


@dataclass(frozen=True, slots=True)
class JobReport:
    """What happened to one video."""

    output: Path
    index: Path | None
    method: str
    device: str  # and why
    detector: str  # and why
    tracks: tuple[TrackSummary, ...]
    render: RenderReport
    recipients: tuple[str, ...]
    seconds: float
    sha256: str  # of the input
    warnings: tuple[str, ...]


class Workshop:
    """The networks of one process, each loaded when it is first needed."""

    def __init__(self, options: JobOptions) -> None:
        self.options = options

    @cached_property
    def device(self) -> Device:
        """Raises DeviceError."""
        from revisage.models.device import choose_device  # noqa: PLC0415  (imports torch)

        device = choose_device(self.options.device)
        return replace(device, threads=self.options.threads) if self.options.threads else device

    @cached_property
    def detector(self) -> tuple[Detector, str]:
        """The detector, and which it is and why. Raises ModelError, DeviceError."""
        wish = self.options
        return load_detector(
            wish.detector,
            device=wish.device,
            threads=wish.threads,
            threshold=wish.analysis.low,
            smallest=wish.smallest,
        )

    @cached_property
    def landmarker(self) -> tuple[Landmarker | None, str]:
        """The landmark network, or None and why there is none: faces are then covered by their boxes' shape.

        Only painted faces need it; the other methods start faster without.
        """
        if self.options.method != "diffusion":
            return None, ""
        import torch  # noqa: PLC0415  (set here, where its threads matter)

        from revisage.models.landmarks import FaceLandmarker  # noqa: PLC0415
        from revisage.models.pack_landmarks import PackLandmarker  # noqa: PLC0415

        torch.set_num_threads(self.device.threads)
        kind, _, pack = self.detector[0].name.partition(":")
        with suppress(ModelError):  # most small packs have none
            if kind == "insightface":
                return PackLandmarker(pack, device=self.options.device, threads=self.options.threads), ""
        try:
            return FaceLandmarker.load(), ""
        except ModelError as error:
            return None, f"no landmarks, new faces follow the old ones less well: {error}"

    @cached_property
    def method(self) -> Method:
        """Raises ModelError, DeviceError."""
        wish = self.options
        if wish.method != "diffusion":
            return Obscure(wish.method)
        from revisage.models.generator import load_generator  # noqa: PLC0415  (imports diffusers)

        generator = load_generator(wish.model, device=self.device, steps=wish.steps, batch_size=wish.batch_size)
        return Diffusion(generator, wish.batch_size)

    def load(self) -> None:
        """Load everything now, so that what is missing is said before any work. Raises ModelError, DeviceError."""
        _ = self.method, self.detector, self.landmarker

    def analyze(self, source: Path, progress: Progress = silent) -> Plan:
        """Pass 1."""
        detector, _ = self.detector
        return analyze(
            source,
            detector=detector,
            landmarker=self.landmarker[0],
            options=self.options.analysis,
            progress=progress,
        )

    def anonymize(
        self,
        source: Path,
        output: Path,
        keys: KeyRing,
        *,
        plan: Plan | None = None,
        keep: Sequence[int] = (),
        overwrite: bool = False,
        progress: Progress = silent,
    ) -> JobReport:
        """Both passes, or the second alone where there is a `plan`. Raises any RevisageError; then no output exists."""
        began = time.monotonic()
        index = self._check(source, output, keys, overwrite=overwrite)
        method = self.method
        planned = plan is not None
        plan = kept(plan or self.analyze(source, progress), keep)
        access = Access.of(keys.secrets, keys.recipients, plan.video.sha256)
        options = RenderOptions(
            seal=self.options.seal,
            index=index,
            codec=self.options.codec,
            crf=self.options.crf,
            overwrite=overwrite,
            generator=self._described(method),
        )
        report = anonymize(source, output, plan=plan, method=method, access=access, options=options, progress=progress)
        return JobReport(
            output=output,
            index=index,
            method=method.name,
            device=f"{self.device.name}: {self.device.reason}" if self.options.method == "diffusion" else "cpu",
            detector=f"{plan.detector}, from the plan" if planned else self.detector[1],
            tracks=summaries(plan),
            render=report,
            recipients=tuple(str(r) for r in access.recipients),
            seconds=time.monotonic() - began,
            sha256=plan.video.sha256,
            warnings=self._warnings(plan, report, planned=planned),
        )

    def _check(self, source: Path, output: Path, keys: KeyRing, *, overwrite: bool) -> Path | None:
        """What would fail after pass 1 had better fail before it. Returns where the index goes."""
        index = index_path(output) if self.options.index else None
        if index is not None and not keys:
            raise KeyFileError("nobody could open the index: give --key or -r, or --seal off with --index off")
        check_places(source, output, index=index is not None, overwrite=overwrite)
        return index

    def _described(self, method: Method) -> dict[str, Any]:
        """What the index remembers of how the faces were made."""
        described: dict[str, Any] = {"method": method.name}
        generator = getattr(method, "generator", None)
        spec = getattr(generator, "spec", None)
        if spec is not None:
            described |= {"model": spec.name, "family": spec.family, "steps": getattr(generator, "steps", spec.steps)}
        return described

    def _warnings(self, plan: Plan, report: RenderReport, *, planned: bool) -> tuple[str, ...]:
        found = []
        if not plan.tracks:
            found.append("no face found: the output shows everything that the input shows")
        if report.kept:
            found.append(f"{report.kept} of {len(plan.tracks)} people left as filmed, as asked")
        if report.fallbacks:
            found.append(f"{report.fallbacks} faces covered with grey, none could be made: {report.failure}")
        if self.options.method in ("blur", "mosaic"):
            found.append(f"{self.options.method} is weak: software re-identifies most blurred faces")
        if not planned and self.landmarker[1] and self.options.method == "diffusion":
            found.append(self.landmarker[1])
        return tuple(found)


def kept(plan: Plan, ids: Sequence[int]) -> Plan:
    """`plan` with tracks `ids` left as filmed. Raises PlanError for one that is not there."""
    known = [track.id for track in plan.tracks]
    for number in ids:
        if number not in known:
            there = ", ".join(map(str, known)) or "none"
            raise PlanError(f"there is no track {number} to keep; choose from {there}")
    tracks = tuple(replace(track, keep=track.keep or track.id in ids) for track in plan.tracks)
    return replace(plan, tracks=tracks)


def summaries(plan: Plan) -> tuple[TrackSummary, ...]:
    """The tracks of `plan` for a person to recognise, times from the video's first frame on."""
    return tuple(_summary(track, plan) for track in plan.tracks if track.faces)


def _summary(track: Track, plan: Plan) -> TrackSummary:
    first, last = (
        round(float((plan.pts[face.frame] - plan.pts[0]) * plan.video.time_base), 3)
        for face in (track.faces[0], track.faces[-1])
    )
    width = round(_median(face.box[2] - face.box[0] for face in track.faces))
    return TrackSummary(track.id, first, last, len(track.faces), width, track.keep)


def _median(values: Iterable[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2]
