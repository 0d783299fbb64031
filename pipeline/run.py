"""From options to a finished job: loads every network once and takes as many videos as asked through both passes.

The one place that the command line, the batch and the demo share. Knows no terminal, no passphrase and no exit code.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from revisage.models.base import Descent, Detector, FaceCarrier, Landmarker, Recognizer
from revisage.models.detectors import LOW, SMALLEST, load_detector
from revisage.models.presets import EMBEDDED_MODEL
from revisage.pipeline.actors import assign, candidates, wishes
from revisage.pipeline.analyze import AnalyzeOptions, analyze, analyze_given
from revisage.pipeline.carry import Carry
from revisage.pipeline.casting import cast
from revisage.pipeline.composite import Likeness
from revisage.pipeline.convey import Carrying
from revisage.pipeline.detections import load_detections
from revisage.pipeline.errors import KeyFileError, LeakError, ModelError, OutputError, PlanError
from revisage.pipeline.likeness import code_of_track, likeness_of
from revisage.pipeline.media import VideoWriter, open_video
from revisage.pipeline.media.hidden import HiddenFile
from revisage.pipeline.places import check_places, index_path
from revisage.pipeline.protect import METHODS, ByGenerator, Diffusion, Method, Obscure
from revisage.pipeline.render import Access, RenderOptions, RenderReport, anonymize
from revisage.pipeline.report import TrackSummary, check_picture, picture_of_moments, summaries
from revisage.pipeline.shape import PARTS, REGIONS
from revisage.pipeline.types import CropTemplate, Float, Plan, Progress, Shape, Track, silent
from revisage.pipeline.vault.index import Seal
from revisage.pipeline.vault.keys import Recipient, SecretKey, everyone
from revisage.pipeline.verification.eyes import Mirrored
from revisage.pipeline.verification.identity import arcface, load_recognizer
from revisage.pipeline.verification.ladder import DRAWS, Ladder, Repair
from revisage.pipeline.verification.report import Report, summary
from revisage.pipeline.verify import VerifyOptions, Witnesses, verify

if TYPE_CHECKING:
    from revisage.models.device import Device
    from revisage.pipeline.recover_lost import Finders

FAITHFUL = 30.0  # dB of PSNR from which what the pixels give back is as good as filmed
ROUNDS = 6  # times that what verification finds is mended and rendered again; the last is grey alone


Looks = Literal["adaptive", "every", "once"]  # the second: still frames too; the third: the first look and no other


Tone = Literal["filmed", "around"]  # 27 numbers of the filmed face, or nothing but what surrounds it


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
    looks: Looks = "adaptive"  # how hard to look for faces
    codec: str | None = None
    crf: int | None = None
    strict_streams: bool = False  # refuse where sound or subtitles would be converted or left out
    verify: bool = True  # look at the finished video again before it gets its name
    strict: bool = False  # refuse what that finds; else it is mended, see verification/ladder.py
    fix: bool = False  # let a recognizer look at all of the finished film, too
    carry: float = 0.0  # how much of the original lives in the pixels, 0 to 1
    carry_sigma: float | None = None  # noise over signal that it is hidden in; None: the usual
    latent_segment: float | None = None  # seconds of one noise and one set of signs; None: the usual
    region: str | None = None  # how much of a face is replaced; None: as the plan has it
    keep_parts: tuple[str, ...] | None = None  # what of a face stays as filmed; None: as the plan has it
    tone: Tone = "filmed"  # where a new face's light and skin tone come from
    like: tuple[tuple[int | None, tuple[str, ...]], ...] = ()  # track, None for all, and what its new face must be

    def __post_init__(self) -> None:
        """Raises PlanError, ModelError, OutputError where a choice makes no sense."""
        if self.carry and self.method != "diffusion":
            raise ModelError(f"only --method diffusion can carry; leave --carry away, or --method {self.method}")
        if self.carry and not self.index:
            raise OutputError("what the pixels carry is found by the index: leave --index off away, or --carry")
        if self.method not in METHODS:
            raise ModelError(f"unknown method {self.method!r}; choose one of {', '.join(METHODS)}")
        if self.region not in (None, *REGIONS):
            raise PlanError(f"unknown region {self.region!r}; choose one of {', '.join(REGIONS)}")
        if strange := set(self.keep_parts or ()) - PARTS.keys():
            raise PlanError(f"unknown part {min(strange)!r}; choose from {', '.join(PARTS)}")
        for _, words in self.like:
            wishes(words)
        if self.seal != "off" and not self.index:
            raise OutputError("the sealed originals live in the index: without one (--index off) give --seal off too")
        self.analysis  # noqa: B018 - checks the numbers

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is to be said of these options whatever the video."""
        weak = f"{self.method} is weak: software re-identifies most blurred faces"
        return (weak,) if self.method in ("blur", "mosaic") else ()

    @property
    def analysis(self) -> AnalyzeOptions:
        """The part that pass 1 wants."""
        return AnalyzeOptions(
            low=min(LOW, self.threshold),
            high=self.threshold,
            hold=self.hold,
            again=self.looks != "once",
            skip=self.looks == "adaptive",
        )


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
    verification: Report | None = None  # None: nobody looked
    repairs: tuple[Repair, ...] = ()  # what verification found in the first place, and what was done about it


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

    @property
    def licence(self) -> str | None:
        """Of the model that will paint, where it did not come with this program. Raises ModelError."""
        if self.options.method != "diffusion" or self.options.model == EMBEDDED_MODEL:
            return None
        from revisage.models.generator import model_spec  # noqa: PLC0415  (imports diffusers)

        return model_spec(self.options.model).licence

    @cached_property
    def method(self) -> Method:
        """Raises ModelError, DeviceError."""
        wish = self.options
        if wish.method != "diffusion":
            return Obscure(wish.method)
        from revisage.models.generator import load_generator  # noqa: PLC0415  (imports diffusers)

        if (carry := self.carry) is not None:
            return self._carrying(carry)
        generator = load_generator(wish.model, device=self.device, steps=wish.steps, batch_size=wish.batch_size)
        return Diffusion(generator, wish.batch_size)

    def _carrying(self, carry: Carry) -> Method:
        from revisage.models.carrying import load_carrier  # noqa: PLC0415  (imports diffusers)

        wish = self.options
        generator, carrier, weights = load_carrier(wish.model, device=self.device, batch_size=wish.batch_size)
        return Carrying(generator, carrier, carry, weights, wish.batch_size)

    @property
    def carry(self) -> Carry | None:
        """What is to live in the pixels, None for nothing. Raises ModelError for numbers that make no sense."""
        wish = self.options
        if not wish.carry:
            return None
        usual = Carry()
        sigma, seconds = wish.carry_sigma or usual.descent.sigma, wish.latent_segment or usual.seconds
        try:
            return Carry(wish.carry, Descent(sigma, wish.steps or usual.descent.steps), seconds)
        except ValueError as error:
            raise ModelError(f"--carry cannot work like this: {error}") from None

    @cached_property
    def witnesses(self) -> Witnesses:
        """Who looks at what was made: the detector another way, and ArcFace where an installed pack has it.

        dlib costs more than the detector does: it is left to `revisage verify`, and to `fix`, which can do something
        about a face that it recognizes. Raises ModelError, DeviceError.
        """
        detector, _ = self.detector
        device, threads = self.options.device, self.options.threads
        if self.options.fix and self.options.method == "diffusion":
            recognizer, why = load_recognizer(device=device, threads=threads)
        else:
            found = arcface(device=device, threads=threads)
            recognizer, why = found or (None, "no insightface pack with a recognizer is installed")
        return Witnesses(Mirrored(detector), f"{detector.name}, mirrored", recognizer, why)

    def load(self) -> None:
        """Load everything now, so that what is missing is said before any work. Raises ModelError, DeviceError."""
        _ = self.method, self.detector, self.landmarker

    def analyze(self, source: Path, progress: Progress = silent, detections: Path | None = None) -> Plan:
        """Pass 1; with the faces in `detections`, a file, it finds none itself."""
        if detections is not None:
            return analyze_given(
                source,
                load_detections(detections),
                f"file {detections.name}",
                landmarker=self.landmarker[0],
                options=self.options.analysis,
                progress=progress,
            )
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
        detections: Path | None = None,
        keep: Sequence[int] = (),
        only: Sequence[int] = (),
        redraw: Sequence[int] = (),
        picture: Path | None = None,
        overwrite: bool = False,
        progress: Progress = silent,
        say: Callable[[str], None] = lambda _: None,
    ) -> JobReport:
        """Both passes, or the second alone where there is a `plan`. Raises any RevisageError; then no output exists.

        `say` is told, before the work begins, what of the picture will be lost.
        `picture`: a PNG of the weakest moments, as the output shows them, is written there.
        """
        began = time.monotonic()
        index = self._check(source, output, keys, overwrite=overwrite)
        for loss in self._check_writing(source, output, overwrite=overwrite):
            say(f"the output will not have the input's {loss}")
        method = self.method
        planned = plan is not None
        if picture is not None:
            check_picture(picture, overwrite=overwrite)
        plan = alone(kept(plan or self.analyze(source, progress, detections), keep), only)
        _known(plan, redraw, "to draw anew")
        plan = replace(plan, shape=self._shape(plan.shape))
        access = Access.of(keys.secrets, keys.recipients, plan.video.sha256)
        options = RenderOptions(
            seal=self.options.seal,
            index=index,
            codec=self.options.codec,
            crf=self.options.crf,
            overwrite=overwrite,
            strict_streams=self.options.strict_streams,
            generator=self._described(method),
            carry=self.carry,
        )
        rendering = _Rendering(source, output, method, access, options, progress)
        plan = rendering.assigned(self._wished(plan))
        for number in sorted(set(redraw)):
            plan = rendering.redrawn(plan, number, list(redraw).count(number))
        plan = self._toned(plan)
        made = self._verified(rendering, plan) if self.options.verify else rendering.plain(plan)
        plan, report, verdict, fixed, repairs = made
        if picture is not None:
            picture_of_moments(output, plan, picture, overwrite=overwrite)
        return JobReport(
            output=output,
            index=index,
            method=method.name,
            device=self._computed_on(),
            detector=f"{plan.detector}, from the plan" if planned else self._found_by(plan),
            tracks=summaries(plan),
            render=report,
            recipients=tuple(str(r) for r in access.recipients),
            seconds=time.monotonic() - began,
            sha256=plan.video.sha256,
            warnings=(*self._warnings(plan, report, planned=planned), *fixed),
            verification=verdict,
            repairs=repairs,
        )

    def _wished(self, plan: Plan) -> Plan:
        """With what the user asked of new faces, in place of what the plan asks."""
        for number, words in self.options.like:
            if number is not None:
                _known(plan, [number], "to cast")
            tracks = (replace(t, like=words) if number in (None, t.id) else t for t in plan.tracks)
            plan = replace(plan, tracks=tuple(tracks))
        return plan

    def _toned(self, plan: Plan) -> Plan:
        """With the tones of filmed skin, or without them where the user wants surroundings alone to be asked."""
        if self.options.tone == "filmed":
            return plan
        tracks = (replace(t, faces=tuple(replace(face, tone=None) for face in t.faces)) for t in plan.tracks)
        return replace(plan, tracks=tuple(tracks))

    def _shape(self, planned: Shape) -> Shape:
        region, parts = self.options.region, self.options.keep_parts
        return Shape(planned.region if region is None else region, planned.keep_parts if parts is None else parts)

    def _computed_on(self) -> str:
        """The device that painted, and why; of a method that paints without a network, what its detector ran on."""
        if self.options.method == "diffusion":
            return f"{self.device.name}: {self.device.reason}"
        if "detector" not in vars(self):
            return "cpu: no network was needed"
        name, _, why = getattr(self.detector[0], "provider", "CPU").partition(" ")
        return f"{name.lower()}: {why.strip('()') or 'runs the detector'}; {self.options.method} needs the cpu alone"

    def _found_by(self, plan: Plan) -> str:
        """Who found the faces, and why that one."""
        return self.detector[1] if self.detector[0].name == plan.detector else plan.detector

    def _verified(self, rendering: _Rendering, plan: Plan) -> _Rendered:
        """Pass 2 and a look at what it made; again with a better plan until nothing leaks.

        Raises LeakError where something does still, or with `strict` at once; then no output exists.
        """
        plan, fixed = self._cast(rendering, plan)
        ladder = Ladder(self.options.hold, DRAWS if self.options.method == "diffusion" else 0)
        for left in reversed(range(ROUNDS + 1)):
            try:
                rendered = rendering.checked(plan, self.witnesses, self._limits, tuple(fixed))
                return *rendered, ladder.repairs(plan)
            except LeakError as leak:
                if self.options.strict:
                    raise LeakError(f"{leak}; no output was written; {_hint(leak.report)}", leak.report) from None
                if not left:
                    raise LeakError(f"{leak}; no output was written; {_STUCK}", leak.report) from None
                plan = rendering.assigned(ladder.climb(plan, leak.report.leaks, straight=left == 1))
                fixed.append(f"{leak}: mended and rendered again")
        raise AssertionError("the last round returns or raises")

    def _cast(self, rendering: _Rendering, plan: Plan) -> tuple[Plan, list[str]]:
        """New faces that a recognizer, where there is one, does not take for the old ones, before the film is made."""
        method = rendering.method
        recognizer = self.witnesses.recognizer if self.options.fix else self._trying
        if recognizer is None or not isinstance(method, ByGenerator):
            return plan, []
        better = rendering.cast(plan, method, recognizer)
        changed = sum(a.draw != b.draw for a, b in zip(plan.tracks, better.tracks, strict=True))
        said = f"{changed} of {len(plan.tracks)} tracks got another new face, since the first was like the old one"
        return better, [said] if changed else []

    @cached_property
    def _trying(self) -> Recognizer | None:
        """Who looks at new faces before they are used, where nobody asked for one. Raises ModelError, DeviceError."""
        if self.options.method != "diffusion" or self.options.strict:
            return None
        return load_recognizer(device=self.options.device, threads=self.options.threads)[0]

    @property
    def _limits(self) -> VerifyOptions:
        """Whoever asks for surer faces gets no stricter verdict."""
        usual = VerifyOptions()
        return replace(usual, score=max(usual.score, self.options.threshold))

    def _check(self, source: Path, output: Path, keys: KeyRing, *, overwrite: bool) -> Path | None:
        """What would fail after pass 1 had better fail before it. Returns where the index goes."""
        index = index_path(output) if self.options.index else None
        if index is not None and not keys:
            raise KeyFileError("nobody could open the index: give --key or -r, or --seal off with --index off")
        check_places(source, output, index=index is not None, overwrite=overwrite)
        return index

    def _check_writing(self, source: Path, output: Path, *, overwrite: bool) -> list[str]:
        """The encoder, the streams, the folder and the name. Raises OutputError. Returns what the picture will lose."""
        chosen = self.options
        with open_video(source) as video:
            writer = VideoWriter(
                output,
                video,
                codec=chosen.codec,
                crf=chosen.crf,
                overwrite=overwrite,
                copy_streams_from=source,
                strict_streams=chosen.strict_streams,
            )
        with HiddenFile(output):
            pass
        return writer.losses

    def _described(self, method: Method) -> dict[str, Any]:
        """What the index remembers of how the faces were made."""
        described: dict[str, Any] = {"method": method.name}
        generator = getattr(method, "generator", None)
        spec = getattr(generator, "spec", None)
        if spec is not None:
            described |= {"model": spec.name, "family": spec.family, "steps": getattr(generator, "steps", spec.steps)}
        if isinstance(method, Carrying):
            described |= {"weights": method.weights}
        return described

    def _warnings(self, plan: Plan, report: RenderReport, *, planned: bool) -> tuple[str, ...]:
        found = []
        if not plan.tracks:
            found.append("no face found: the output shows everything that the input shows")
        if report.kept:
            found.append(f"{report.kept} of {len(plan.tracks)} people left as filmed, as asked")
        if report.fallbacks:
            found.append(f"{report.fallbacks} faces covered with grey, none could be made: {report.failure}")
        found += _carry_warnings(report, self.options)
        if self.options.method == "diffusion" and (still := _without_landmarks(plan)):
            found.append(
                f"{still} faces of the plan have no landmarks: what is painted there does not speak or blink; "
                "take the plan that `revisage analyze` writes"
            )
        if parts := plan.shape.keep_parts:
            found.append(f"{' and '.join(parts)} are left as filmed, as asked: people are recognised by them")
        mends = self.options.verify and self.options.fix and self.options.method == "diffusion"
        if mends and self.witnesses.recognizer is None:
            found.append(
                "--fix could not tell whether a new face is like the old one: no recognizer is installed; "
                "pip install 'revisage[score]'"
            )
        found += self.options.remarks
        if not planned and self.landmarker[1] and self.options.method == "diffusion":
            found.append(self.landmarker[1])
        return tuple(found)


_Seen = tuple[Plan, RenderReport, Report | None, tuple[str, ...]]  # what was planned, made, seen, and mended
_Rendered = tuple[Plan, RenderReport, Report | None, tuple[str, ...], tuple[Repair, ...]]


@dataclass(frozen=True, slots=True)
class _Rendering:
    """Pass 2 of one video, but for the plan."""

    source: Path
    output: Path
    method: Method
    access: Access
    options: RenderOptions
    progress: Progress

    def plain(self, plan: Plan) -> _Rendered:
        """Nobody looks at the result."""
        return plan, self._run(plan, None), None, (), ()

    def cast(self, plan: Plan, method: ByGenerator, recognizer: Recognizer) -> Plan:
        """New faces that do not look like the old ones."""

        def likeness(track: Track) -> Likeness:
            return likeness_of(self.access.faces, track, method)

        def code(track: Track) -> Float:
            return code_of_track(self.access.faces, track, method.code_size)

        return cast(
            self.source,
            plan,
            likeness,
            method=method,
            recognizer=recognizer,
            draws=lambda track: candidates(plan, track, code, method.cast),
            progress=self.progress,
        )

    def redrawn(self, plan: Plan, number: int, times: int) -> Plan:
        """With the face that comes `times` after the present one of track `number`, for all of its person."""
        method, (track,) = self.method, (track for track in plan.tracks if track.id == number)
        draw = track.draw + times
        if isinstance(method, ByGenerator):
            size = method.code_size
            draws = candidates(plan, track, lambda t: code_of_track(self.access.faces, t, size), method.cast)
            draw = next(islice(draws, times, None), draw)
        same = plan.with_same_people([number])
        tracks = (replace(t, draw=draw) if t.id in same else t for t in plan.tracks)
        return replace(plan, tracks=tuple(tracks))

    def assigned(self, plan: Plan) -> Plan:
        """With an actor for everybody, where the method has any. Raises PlanError for a wish that nobody fulfils."""
        method = self.method
        if not isinstance(method, ByGenerator):
            return plan
        return assign(plan, lambda track: code_of_track(self.access.faces, track, method.code_size), method.cast)

    def checked(self, plan: Plan, witnesses: Witnesses, limits: VerifyOptions, fixed: tuple[str, ...]) -> _Seen:
        """The result gets its name only if it is clean. Raises LeakError, whose message says what was seen."""
        seen: list[Report] = []

        def check(video: Path) -> None:
            verdict = verify(video, witnesses, original=self.source, plan=plan, options=limits, progress=self.progress)
            seen.append(verdict)
            if not verdict.clean:
                raise LeakError(summary(verdict), verdict)

        report = self._run(plan, check)
        return plan, report, seen[0], fixed

    def _run(self, plan: Plan, check: Callable[[Path], None] | None) -> RenderReport:
        return anonymize(
            self.source,
            self.output,
            plan=plan,
            method=self.method,
            access=self.access,
            options=self.options,
            progress=self.progress,
            check=check,
        )


def _without_landmarks(plan: Plan) -> int:
    return sum(face.landmarks is None for track in plan.tracks if not track.keep for face in track.faces)


def _carry_warnings(report: RenderReport, options: JobOptions) -> list[str]:
    if report.carried is None:
        return []
    found = []
    if lost := report.carried.left_out:
        where = "the seal has them" if options.seal != "off" else "they are lost, since nothing was sealed"
        found.append(f"the pixels of {lost} of {report.faces} faces carry nothing: {where}")
    if report.carried.coarsest > 1:
        found.append(
            f"large faces come back from the pixels at 1/{report.carried.coarsest} of their resolution; "
            "from the seal as filmed"
        )
    if report.carried.sample and report.carried.read < FAITHFUL:
        found.append(
            f"after {report.codec} faces come back from the pixels at {report.carried.read} dB only: "
            "recover them from the seal, or give --codec ffv1"
        )
    return found


def _hint(report: Report) -> str:
    """What to do about leaks that nobody was to mend."""
    if report.leaks and all(leak.kind == "recognized" for leak in report.leaks):
        return "leave --strict away to have other faces drawn, or give --redraw ID"
    return "leave --strict away to have this mended, or cover it in the plan"


_STUCK = f"it was mended {ROUNDS} times in vain, which is a defect of the program: report it, with these lines"


def kept(plan: Plan, ids: Sequence[int]) -> Plan:
    """`plan` with tracks `ids` left as filmed. Raises PlanError for one that is not there."""
    _known(plan, ids, "to keep")
    tracks = tuple(replace(track, keep=track.keep or track.id in ids) for track in plan.tracks)
    return replace(plan, tracks=tracks)


def alone(plan: Plan, ids: Sequence[int]) -> Plan:
    """`plan` with everybody left as filmed but tracks `ids` and what else shows the same people; as it is without ids.

    Raises PlanError for a track that is not there.
    """
    if not ids:
        return plan
    _known(plan, ids, "to anonymize")
    wanted = plan.with_same_people(ids)
    tracks = tuple(replace(track, keep=track.keep or track.id not in wanted) for track in plan.tracks)
    return replace(plan, tracks=tracks)


def _known(plan: Plan, ids: Sequence[int], what: str) -> None:
    known = [track.id for track in plan.tracks]
    for number in ids:
        if number not in known:
            there = ", ".join(map(str, known)) or "none"
            raise PlanError(f"there is no track {number} {what}; choose from {there}")


def carrier_for(wish: JobOptions) -> Callable[[Mapping[str, object]], FaceCarrier]:
    """What `recover_pixels` wants; `wish` says on which device, and where the model is.

    Raises ModelError, when called, where that is another model than the one described, and DeviceError.
    """
    return lambda described: _carrier(described, wish)


def finders_for(wish: JobOptions) -> Finders:
    """What `recover_lost` wants: the usual detector, and the model that the video's label describes, as above."""
    from revisage.models.generator import model_spec  # noqa: PLC0415  (imports diffusers)
    from revisage.pipeline.recover_lost import Finders  # noqa: PLC0415  (imports torch)

    workshop, spec = Workshop(wish), model_spec(wish.model)

    def carrier(described: Mapping[str, object]) -> tuple[FaceCarrier, CropTemplate, int]:
        return _carrier(described, wish), spec.template, spec.code_size

    return Finders(workshop.detector[0], workshop.landmarker[0], carrier)


def _carrier(described: Mapping[str, object], wish: JobOptions) -> FaceCarrier:
    """Raises ModelError where the model is another than the one described, DeviceError."""
    from revisage.models.carrying import load_carrier  # noqa: PLC0415  (imports torch)
    from revisage.models.device import choose_device  # noqa: PLC0415

    _, carrier, weights = load_carrier(wish.model, device=choose_device(wish.device), batch_size=wish.batch_size)
    if weights != described.get("weights"):
        made = f"{described.get('model')} {str(described.get('weights'))[:12]}"
        raise ModelError(f"the pixels were made by {made} and {wish.model} is {weights[:12]}: give --model that folder")
    return carrier
