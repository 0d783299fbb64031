"""Pass 2: a video and its plan in, an anonymized video and its track index out. Owns their order and their safety.

    decode ─► place ─► protect ─► composite ─► seal ─► encode

Streams frame by frame; what waits is bounded by a batch of frames and two seconds of tiles per track. The index takes
its name before the video does, and neither appears unless both are complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from revisage.models.latents import Veil
from revisage.pipeline.ahead import ahead, single_threaded_opencv
from revisage.pipeline.carry import Carriage, Carry, dump, dump_code, look
from revisage.pipeline.composite import Likeness, PlacedFace, covered_pixels, hidden_pixels, place_all, placed_rect
from revisage.pipeline.convey import Carrying, Specimen, read_back
from revisage.pipeline.errors import DamagedMediaError
from revisage.pipeline.expression import expressive
from revisage.pipeline.geometry import ROUGH
from revisage.pipeline.likeness import likeness_of, veil_of
from revisage.pipeline.matte import Mattes
from revisage.pipeline.media import Frame, VideoReader, VideoWriter, encode_clip, file_digest, open_video, video_digest
from revisage.pipeline.pixels import Mask, Planes, Rect, blend, cut, paste
from revisage.pipeline.plan import fits
from revisage.pipeline.protect import Carried, Method, Mixed, Picture, Protected
from revisage.pipeline.sound import sound
from revisage.pipeline.types import Plan, Progress, Track, VideoInfo, silent
from revisage.pipeline.vault import keys, seal
from revisage.pipeline.vault.document import Json
from revisage.pipeline.vault.index import CONTESTED, IndexDocument, IndexWriter, Seal, Settings, TrackRecord
from revisage.pipeline.vault.keys import FaceSecret, OwnerKey, Recipient, SealSecret, SecretKey, TrackKey
from revisage.pipeline.vault.label import Label, LabelTrack

INDEX_SUFFIX = ".rvx"
SAMPLE = 8  # carried faces that are read back from the finished video


@dataclass(frozen=True, slots=True)
class Access:
    """Who will be able to undo one run, and the secrets from which its faces and its tracks' keys come."""

    faces: FaceSecret
    seal: SealSecret  # of this run and no other
    recipients: tuple[Recipient, ...]
    owner: OwnerKey | None  # who signs the index; None: nobody here has a secret key

    @classmethod
    def of(cls, secret_keys: Sequence[SecretKey], recipients: Sequence[Recipient], input_sha256: str) -> Access:
        """The first secret key and the input decide `faces`: the same key and video give the same faces.

        With public keys only they are random.
        """
        everyone, seal_secret = keys.everyone(secret_keys, recipients), SealSecret.random()
        if not secret_keys:
            return cls(FaceSecret.random(), seal_secret, everyone, None)
        faces = keys.face_secret(secret_keys[0], bytes.fromhex(input_sha256))
        return cls(faces, seal_secret, everyone, secret_keys[0].owner)


@dataclass(frozen=True, slots=True)
class RenderOptions:
    """What the user may choose about the output."""

    seal: Seal = "visual"
    index: Path | None = None  # where the .rvx goes; None: none is written
    codec: str | None = None
    crf: int | None = None
    overwrite: bool = False
    strict_streams: bool = False  # refuse where sound or subtitles would be converted or left out
    generator: Mapping[str, Any] = field(default_factory=dict)  # model and sampler parameters, for the index
    carry: Carry | None = None  # what `method` puts into the pixels; None: nothing


@dataclass(frozen=True, slots=True)
class RenderReport:
    """What happened."""

    frames: int
    faces: int  # replaced, over all frames
    tracks: int
    kept: int  # tracks left as filmed by the user's wish
    fallbacks: int  # faces covered by solid grey because none could be generated
    failure: str | None  # why, for the first of them
    codec: str
    dropped: tuple[str, ...]  # what of the input is not in the output
    converted: tuple[str, ...]  # sound and subtitles that have another codec
    index_bytes: int
    carried: CarryReport | None = None  # None: nothing was to be carried


@dataclass(frozen=True, slots=True)
class CarryReport:
    """How the originals live in the pixels: all on the samples that went to the encoder, some on what it made."""

    faces: int
    left_out: int  # faces whose pixels carry nothing; the seal has them, where there is one
    coarsest: int  # pixels, along either side, of which a large face's pixels carry one mean; 1: nothing is lost
    decibels: float  # PSNR of what comes back of what was carried, median
    worst: float  # the same of the worst face
    sample: int = 0  # faces that were read back from the finished video
    read: float = 0.0  # their median PSNR, what the encoder took included
    read_worst: float = 0.0


def anonymize(
    source: Path,
    output: Path,
    *,
    plan: Plan,
    method: Method,
    access: Access,
    options: RenderOptions,
    progress: Progress = silent,
    check: Callable[[Path], None] | None = None,
) -> RenderReport:
    """Write `output` and, where asked for, its index. Raises MediaError, PlanError; then neither exists.

    `check` is called with the path of the finished video before either takes its name; what it raises keeps both away.
    """
    with ExitStack() as stack:
        stack.enter_context(single_threaded_opencv())
        video = stack.enter_context(open_video(source))
        fits(plan, _info(video))
        job = _Job(plan, method, access, options, video)
        index = stack.enter_context(job.open_index()) if options.index else None
        sealer = job.sealer(index) if index is not None and options.seal != "off" else None
        writer = VideoWriter(
            output,
            video,
            codec=options.codec,
            crf=options.crf,
            overwrite=options.overwrite,
            copy_streams_from=source,
            before_publish=lambda path: job.finish(index, sealer, writer, path, check),
            label=job.label(),
            strict_streams=options.strict_streams,
        )
        stack.enter_context(writer)
        frames = progress(video.frames(), label="anonymize", total=plan.video.frames)
        for frame, planes in ahead(job.rendered(frames, sealer)):
            writer.write(frame, planes)
        job.check_complete()
    return job.report(writer, index)


def _info(video: VideoReader) -> VideoInfo:
    """What a plan must agree with; frames are counted later."""
    digest = file_digest(video.path)
    return VideoInfo(video.width, video.height, video.time_base, video.pix_fmt.name, 0, digest)


class _Job:
    """One run's constants, and what it counts."""

    def __init__(self, plan: Plan, method: Method, access: Access, options: RenderOptions, video: VideoReader) -> None:
        self.plan, self.method, self.access, self.options = plan, method, access, options
        self.fmt, self.width, self.height = video.pix_fmt, video.width, video.height
        self.time_base = video.time_base
        usable = (_sound(track, self.width, self.height) for track in plan.tracks if not track.keep)
        self.tracks = tuple(expressive(track) for track in usable)
        self.by_frame = Plan(plan.video, self.tracks, plan.detector).by_frame()
        self.known = {track.id: track for track in self.tracks}
        self.mattes = Mattes()
        # Pixels can carry only what is replaced: the seam around a face takes a good part of it.
        self.margins = None if options.carry is None else ROUGH
        self.frames = self.faces = 0
        self.failures: list[str] = []
        self.carried: dict[tuple[int, int], list[Json]] = {}  # (track, frame) -> how its pixels carry it
        self.last: dict[int, Carriage] = {}  # track -> how its last one did
        self.levels: list[float] = []  # dB, of every face that is carried
        self.coarsest = 1
        self.likeness = self._likeness()
        self.wanted = _spread([(t.id, face.frame) for t in self.tracks for face in t.faces], SAMPLE)
        self.specimens: list[Specimen] = []
        self.read: list[float] = []  # dB, of every specimen

    def open_index(self) -> IndexWriter:
        assert self.options.index is not None  # noqa: S101 - called only then
        access = self.access
        return IndexWriter(self.options.index, access.seal, access.recipients, self.options.overwrite, access.owner)

    def label(self) -> str | None:
        """For the container, where the pixels carry: what brings people back without the index."""
        if self.options.carry is None:
            return None
        tracks = (
            LabelTrack(t.id, t.faces[0].frame, t.faces[-1].frame, t.person, t.draw) for t in self.tracks if t.faces
        )
        made = Label(self.access.seal, self.access.faces, self.options.carry.amount, self._described(), tuple(tracks))
        return made.sealed(self.access.recipients) if self.access.recipients else None

    def sealer(self, index: IndexWriter) -> seal.Sealer[Planes, Mask]:
        lossless = self.options.seal == "lossless"

        def encode(tiles: Sequence[Planes], masks: Sequence[Mask], pts: Sequence[int]) -> bytes:
            return encode_clip(tiles, masks, self.fmt, lossless=lossless, pts=pts, time_base=self.time_base)

        size = (self.width, self.height)
        plans = {
            track: seal.plan_segments(rects, size, self.plan.pts, self.time_base)
            for track, rects in self._sealed_rects().items()
        }
        return seal.Sealer(index, encode, plans)

    def rendered(
        self, frames: Iterable[Frame], sealer: seal.Sealer[Planes, Mask] | None
    ) -> Iterator[tuple[Frame, Planes]]:
        """Every frame with its faces replaced, in order. The next are made while these are put in and sealed."""
        for frame, protected in ahead(self._protected(frames)):
            self._composite(protected, sealer)
            yield frame, protected.picture.planes

    def check_complete(self) -> None:
        if self.frames != self.plan.video.frames:
            raise DamagedMediaError(
                f"{self.frames} frames were decoded and {self.plan.video.frames} planned; analyze the video again"
            )

    def finish(
        self,
        index: IndexWriter | None,
        sealer: seal.Sealer[Planes, Mask] | None,
        writer: VideoWriter,
        video: Path,
        check: Callable[[Path], None] | None,
    ) -> None:
        """Check the video, complete the index and give it its name, before the video gets its own."""
        self._read_back(video)
        if check is not None:
            self.check_complete()
            check(video)
        if index is None:
            return
        if sealer is not None:
            sealer.finish()
        index.finish(self._document(writer), video_digest(video))
        index.commit()

    def report(self, writer: VideoWriter, index: IndexWriter | None) -> RenderReport:
        return RenderReport(
            frames=self.frames,
            faces=self.faces,
            tracks=len(self.tracks),
            kept=len(self.plan.tracks) - len(self.tracks),
            fallbacks=len(self.failures),
            failure=self.failures[0] if self.failures else None,
            codec=writer.codec,
            dropped=tuple(writer.dropped),
            converted=tuple(writer.converted),
            index_bytes=index.size if index is not None else 0,
            carried=self._carry_report() if self.options.carry else None,
        )

    def _protected(self, frames: Iterable[Frame]) -> Iterator[tuple[Frame, Protected]]:
        """Every frame and what is to stand where its faces are, in order."""
        waiting: dict[int, Frame] = {}

        def pictures() -> Iterator[Picture]:
            for frame in frames:
                waiting[frame.index] = frame
                yield self._picture(frame)

        for protected in Mixed(self.method).protect(pictures(), self.likeness):
            yield waiting.pop(protected.picture.number), protected

    def _picture(self, frame: Frame) -> Picture:
        template, size, seen = self.method.template, self.method.size, self.by_frame.get(frame.index, ())
        faces = place_all(seen, template, size, self.fmt, self.width, self.height, self.plan.shape, self.margins)
        seconds = float((self.plan.pts[frame.index] - self.plan.pts[0]) * self.time_base)
        if any(face.tone is not None for face in faces) and self.options.carry is None:
            shown = frame.rgb()
            faces = tuple(self.mattes.trimmed(face, shown, seconds, self.fmt) for face in faces)
        covered = covered_pixels(faces, self.fmt, self.width, self.height) if faces else None
        hidden = hidden_pixels(faces, self.width, self.height) if faces else None
        self.frames += 1
        self.faces += len(faces)
        return Picture(frame.index, frame.planes, self.fmt, faces, covered, hidden, seconds)

    def _likeness(self) -> Callable[[int], Likeness]:
        method = self.method

        @lru_cache(maxsize=64)
        def likeness(track: int) -> Likeness:
            who = likeness_of(self.access.faces, self.known[track], method)
            if self.options.carry is None:
                return who
            return replace(who, veil=self._veil(keys.track_identity(self.access.seal, track), method.size))

        return likeness

    def _composite(self, protected: Protected, sealer: seal.Sealer[Planes, Mask] | None) -> None:
        picture = protected.picture
        self.failures += protected.failures
        for face, carried in zip(picture.faces, protected.carried, strict=bool(protected.carried)):
            if carried is not None:
                self._note(face.track, picture, carried)
        sealed = _sealed_tracks(picture, sealer)
        originals = {track: cut(picture.planes, self.fmt, rect) for track, rect in sealed.items()}
        for face, tile in zip(picture.faces, protected.tiles, strict=True):
            blend(picture.planes, self.fmt, face.region.rect, tile, face.region.alpha)
        if sealer is not None:
            for track, rect in sealed.items():
                planes, mask = cut(picture.planes, self.fmt, rect), _owned(picture.faces, track, rect)
                whole = Rect(0, 0, rect.width, rect.height)
                paste(planes, self.fmt, whole, originals[track], mask)
                sealer.add(track, picture.number, planes, mask)

    def _sealed_rects(self) -> dict[int, list[tuple[int, seal.Rect]]]:
        """Track -> (frame, rectangle) of all it needs sealed; contested pixels as the track CONTESTED."""
        found: dict[int, list[tuple[int, seal.Rect]]] = {}
        for frame in sorted(self.by_frame):
            rects: dict[int, Rect] = {}
            for track, face in self.by_frame[frame]:
                template, size = self.method.template, (self.width, self.height)
                rect = placed_rect(face, template, self.fmt, *size, self.plan.shape, self.margins)
                if rect is not None:
                    rects[track.id] = rect
            if (shared := _shared(list(rects.values()))) is not None:
                rects[CONTESTED] = shared
            for number, rect in rects.items():
                found.setdefault(number, []).append((frame, seal.Rect(rect.x0, rect.y0, rect.x1, rect.y1)))
        return found

    def _document(self, writer: VideoWriter) -> IndexDocument:
        carry = self.options.carry
        settings = Settings(self.plan.video, self._described(), carry.amount if carry else 0.0, self.options.seal)
        records = [self._record(track) for track in self.tracks if track.faces]
        shared = [faces for _, faces in sorted(self.by_frame.items()) if len(faces) > 1]
        if shared and self.options.seal != "off":
            records.insert(0, TrackRecord(CONTESTED, shared[0][0][1].frame, shared[-1][0][1].frame, 0))
        kept = tuple(_record(track) for track in self.plan.tracks if track.keep and track.faces)
        dropped = writer.dropped_metadata
        return IndexDocument(self.access.seal, settings, tuple(records), dropped=dropped, kept=kept)

    def _described(self) -> dict[str, Any]:
        """How the faces were made, for the index and the label."""
        shape, carry = self.plan.shape, self.options.carry
        described = dict(self.options.generator) | {"region": shape.region, "keep_parts": list(shape.keep_parts)}
        return described | ({"carry": carry.to_json()} if carry else {})

    def _note(self, track: int, picture: Picture, carried: Carried) -> None:
        """Keep what the index must say of a face that is carried; `picture` is as filmed."""
        before, frame, veil = self.last.get(track), picture.number, self.likeness(track).veil
        code = [dump_code(carried.code)] if before is None else []
        self.carried[track, frame] = [dump(carried.carriage, before), self._stretch(frame), *code]
        self.last[track] = carried.carriage
        self.levels.append(carried.decibels)
        self.coarsest = max(self.coarsest, carried.carriage.square.factor)
        if (track, frame) in self.wanted and veil is not None:
            original = look(carried.carriage, picture.planes, picture.fmt)
            self.specimens.append(Specimen(frame, carried, veil(frame), original))

    def _read_back(self, finished: Path) -> None:
        """What the encoder left of the faces that the pixels carry."""
        if not self.specimens or not isinstance(self.method, Carrying):
            return
        with open_video(finished) as video:
            self.read = read_back(self.method.carrier, self.method.carry, self.specimens, video)

    def _record(self, track: Track) -> TrackRecord:
        """As `_record`; each row goes on with how the pixels of that face carry it, where they do."""
        record = _record(track)
        return replace(record, geometry=[row + self.carried.get((track.id, row[0]), []) for row in record.geometry])

    def _stretch(self, frame: int) -> int:
        """Which stretch of time's noise and signs a frame gets."""
        assert self.options.carry is not None  # noqa: S101 - asked for only then
        return self.options.carry.stretch(self.plan.pts[frame] - self.plan.pts[0], self.time_base)

    def _veil(self, key: TrackKey, size: int) -> Callable[[int], Veil]:
        """Frame number -> the noise and the signs of one track's key there."""

        @lru_cache(maxsize=4)
        def drawn(stretch: int) -> Veil:
            return veil_of(key, stretch, size)

        return lambda frame: drawn(self._stretch(frame))

    def _carry_report(self) -> CarryReport:
        left_out = self.faces - len(self.levels)
        count, read = len(self.levels), len(self.read)
        return CarryReport(count, left_out, self.coarsest, *_middle(self.levels), read, *_middle(self.read))


def _middle(levels: Sequence[float]) -> tuple[float, float]:
    """The median and the lowest of `levels`, to a tenth; 0 where there are none."""
    return (round(float(np.median(levels)), 1), round(min(levels), 1)) if levels else (0.0, 0.0)


def _spread(pairs: Sequence[tuple[int, int]], count: int) -> frozenset[tuple[int, int]]:
    """At most `count` of `pairs`, evenly spread."""
    return frozenset(pairs[i] for i in np.linspace(0, len(pairs) - 1, min(count, len(pairs))).round().astype(int))


def _sound(track: Track, width: int, height: int) -> Track:
    """`track` with geometry that can be drawn, written and read again."""
    faces = tuple(sound(face, width, height) for face in track.faces)
    same = all(a is b for a, b in zip(faces, track.faces, strict=True))
    return track if same else replace(track, faces=faces)


def _record(track: Track) -> TrackRecord:
    """Frame number, box and five points of every face, as rows of numbers."""
    rows = [
        [face.frame, *(round(float(v), 2) for v in (*face.box, *np.asarray(face.points).reshape(-1)))]
        for face in track.faces
    ]
    return TrackRecord(track.id, track.faces[0].frame, track.faces[-1].frame, 0, rows, track.person, track.draw)


def _shared(rects: Sequence[Rect]) -> Rect | None:
    """The smallest rectangle around everything that any two of `rects` have in common."""
    common = [
        Rect(max(a.x0, b.x0), max(a.y0, b.y0), min(a.x1, b.x1), min(a.y1, b.y1)) for a, b in combinations(rects, 2)
    ]
    common = [rect for rect in common if rect.width > 0 and rect.height > 0]
    if not common:
        return None
    return Rect(
        min(r.x0 for r in common), min(r.y0 for r in common), max(r.x1 for r in common), max(r.y1 for r in common)
    )


def _sealed_tracks(picture: Picture, sealer: seal.Sealer[Planes, Mask] | None) -> dict[int, Rect]:
    """Track -> what to cut out of this frame for it."""
    if sealer is None:
        return {}
    numbers = [CONTESTED, *(face.track for face in picture.faces)]
    rects = ((number, sealer.rect(number, picture.number)) for number in numbers)
    return {number: Rect(*rect) for number, rect in rects if rect is not None}


def _owned(faces: Sequence[PlacedFace], track: int, rect: Rect) -> Mask:
    """The track's own pixels in `rect`: those that it touches and no other track does; CONTESTED has all the others.

    So a seal never holds a pixel that might show somebody else's face.
    """
    times = np.zeros((rect.height, rect.width), np.uint8)
    own = np.zeros((rect.height, rect.width), np.bool_)
    for face in faces:
        here, there = _common(rect, face.region.rect)
        times[here] += face.region.touched[there]
        if face.track == track:
            own[here] = face.region.touched[there]
    return times > 1 if track == CONTESTED else own & (times == 1)


def _common(a: Rect, b: Rect) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Index of the pixels that both have, in a picture of `a` and in one of `b`."""
    x0, y0, x1, y1 = max(a.x0, b.x0), max(a.y0, b.y0), min(a.x1, b.x1), min(a.y1, b.y1)
    x1, y1 = max(x0, x1), max(y0, y1)
    return np.s_[y0 - a.y0 : y1 - a.y0, x0 - a.x0 : x1 - a.x0], np.s_[y0 - b.y0 : y1 - b.y0, x0 - b.x0 : x1 - b.x0]
