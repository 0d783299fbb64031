"""New faces tried in a few frames before a film is rendered. Owns which frames those are, and which face a key gives.

    a few frames of a person ─► paint the key's next face ─► is it the old one? ─► no: taken; yes: the one after

That a recognizer takes a new face for the old one is found in the finished film, too, but then all of it must be
rendered again. What waits are crops of a few frames of each person, in memory only. Knows no index, key or codec.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from revisage.models.base import FaceRequest, Recognizer
from revisage.models.layout import five_points
from revisage.pipeline import geometry
from revisage.pipeline.ahead import single_threaded_opencv
from revisage.pipeline.composite import Likeness, PlacedFace, covered_pixels, membrane, place_all, request_for
from revisage.pipeline.expression import expressive
from revisage.pipeline.media import Frame, VideoReader, open_video
from revisage.pipeline.protect import ByGenerator
from revisage.pipeline.types import Float, Image, Plan, Progress, Track, silent
from revisage.pipeline.verification.identity import SMALLEST, cosine

FRAMES = 6  # of a person
FOOTAGE = 600  # of a person's faces, the first, are what those are spread over: bounds how many people wait at a time
DRAWS = 8  # faces of a key that are tried
TRIED = 192  # side of an actor's crop as it is tried, pixels; other faces have as many as were painted
MARGIN = 0.01  # cosine: how much surer a few frames must be than the whole film


@dataclass(frozen=True, slots=True)
class _Role:
    """One person, who gets one new face, and where to look at them."""

    tracks: tuple[Track, ...]
    places: tuple[tuple[int, int], ...]  # frame, track; frames rising


@dataclass(frozen=True, slots=True, eq=False)
class _Take:
    """One face of one frame."""

    filmed: Image  # (S, S, 3), the crop
    points: Float  # (5, 2) in it
    request: FaceRequest

    def with_face(self, painted: Image) -> Image:
        """(S, S, 3): `painted` where the face was, its colours met with the film's, as `composite.fit_into` does."""
        painted = cv2.resize(painted, self.filmed.shape[1::-1], interpolation=cv2.INTER_CUBIC)
        free = cv2.resize(self.request.mask, self.filmed.shape[1::-1], interpolation=cv2.INTER_NEAREST) == 0
        light = membrane(self.filmed.astype(np.float32) - painted, free)
        fitted = np.clip(painted + light, 0, 255).astype(np.uint8)
        shown: Image = np.where(free[..., None], self.filmed, fitted)
        return shown


def cast(
    source: Path,
    plan: Plan,
    likeness: Callable[[Track], Likeness],
    *,
    method: ByGenerator,
    recognizer: Recognizer,
    draws: Callable[[Track], Iterable[int]],
    progress: Progress = silent,
) -> Plan:
    """`plan` with, for each person, the first face of their key that `recognizer` does not take for the old one.

    The first is that of the plan's `draw`; of `DRAWS` faces that will not do, the one least like the old face is taken.
    Kept tracks, people whose faces are too small for a recognizer, and people whom the generator cannot paint keep what
    `plan` has. `likeness` gives a track's face by its `draw`, and `draws` those that may be tried, the present one
    first. Raises MediaError.
    """
    roles = _roles(plan)
    if not roles:
        return plan
    count = 1 + max(role.places[-1][0] for role in roles)
    with ExitStack() as stack:
        stack.enter_context(single_threaded_opencv())
        video = stack.enter_context(open_video(source))
        stage = _Stage(plan, likeness, method, recognizer, draws, video)
        frames = progress(islice(video.frames(), count), label="try faces", total=count)
        chosen = dict(stage.draws(frames, roles))
    tracks = (replace(track, draw=chosen.get(track.id, track.draw)) for track in plan.tracks)
    return replace(plan, tracks=tuple(tracks))


def _roles(plan: Plan) -> list[_Role]:
    """Everybody whose face is replaced and large enough for a recognizer."""
    people: dict[tuple[bool, int], list[Track]] = {}
    for track in plan.tracks:
        if not track.keep:
            people.setdefault((track.person is None, track.person or track.id), []).append(track)
    found = ((tuple(tracks), _places(tracks)) for tracks in people.values())
    return [_Role(tracks, places) for tracks, places in found if places]


def _places(tracks: Sequence[Track]) -> tuple[tuple[int, int], ...]:
    """At most `FRAMES` faces, evenly over a person's first `FOOTAGE`: frame, track."""
    large = sorted(
        (face.frame, track.id) for track in tracks for face in track.faces if face.box[2] - face.box[0] >= SMALLEST
    )[:FOOTAGE]
    chosen = np.linspace(0, len(large) - 1, min(FRAMES, len(large))).round().astype(int)
    return tuple(large[i] for i in chosen)


class _Stage:
    """One run's constants."""

    def __init__(
        self,
        plan: Plan,
        likeness: Callable[[Track], Likeness],
        method: ByGenerator,
        recognizer: Recognizer,
        allowed: Callable[[Track], Iterable[int]],
        video: VideoReader,
    ) -> None:
        tracks = tuple(expressive(track) for track in plan.tracks if not track.keep)
        self.known = {track.id: track for track in tracks}
        self.by_frame = replace(plan, tracks=tracks).by_frame()
        self.shape, self.likeness, self.method, self.recognizer = plan.shape, likeness, method, recognizer
        self.allowed, self.side = allowed, TRIED if method.cast else method.size
        self.fmt, self.width, self.height = video.pix_fmt, video.width, video.height

    def draws(self, frames: Iterable[Frame], roles: Sequence[_Role]) -> Iterator[tuple[int, int]]:
        """Track and number of its face, for each person as soon as their takes are there."""
        due: dict[int, list[tuple[int, int]]] = {}  # frame -> role and track
        for i, role in enumerate(roles):
            for number, track in role.places:
                due.setdefault(number, []).append((i, track))
        waiting: dict[int, list[_Take]] = {}
        for frame in frames:
            now = due.get(frame.index, ())
            takes = self._takes(frame, {track for _, track in now})
            for i, track in now:
                waiting.setdefault(i, []).extend([takes[track]] if track in takes else [])
            for i in {i for i, _ in now if roles[i].places[-1][0] == frame.index}:
                draw = self._draw(roles[i].tracks[0], waiting.pop(i))
                yield from ((track.id, draw) for track in roles[i].tracks)

    def _takes(self, frame: Frame, tracks: Collection[int]) -> dict[int, _Take]:
        """The faces of `tracks`, by track, without those that lie outside."""
        if not tracks:
            return {}
        template, size, seen = self.method.template, self.method.size, self.by_frame[frame.index]
        faces = place_all(seen, template, size, self.fmt, self.width, self.height, self.shape)
        covered, picture = covered_pixels(faces, self.fmt, self.width, self.height), frame.rgb()

        def take(face: PlacedFace) -> _Take:
            who = self.likeness(self.known[face.track])
            request = request_for(face, who, frame.planes, self.fmt, covered, size)
            larger = self.side / size
            filmed = geometry.crop(picture, geometry.resized(face.matrix, larger), self.side)
            points = (five_points(face.landmarks) + 0.5) * np.float32(larger) - np.float32(0.5)
            return _Take(filmed, points, request)

        return {face.track: take(face) for face in faces if face.track in tracks}

    def _draw(self, track: Track, takes: Sequence[_Take]) -> int:
        """Which of the key's faces to take."""
        if not takes:
            return track.draw
        old = np.stack([self.recognizer.embed(take.filmed, take.points) for take in takes])
        best = (np.inf, track.draw)
        for draw in islice(self.allowed(track), DRAWS):
            best = min(best, (self._alike(replace(track, draw=draw), takes, old), draw))
            if best[0] < 0:
                break
        return best[1]

    def _alike(self, track: Track, takes: Sequence[_Take], old: Float) -> float:
        """How far the new face is from being a stranger's: below 0 it is one."""
        code = self.likeness(track).code
        try:
            requests = [replace(take.request, code=code) for take in takes]
            rough = self.method.generator.generate(requests)
            painted = [self.method.generator.finish(r, p, self.side) for r, p in zip(requests, rough, strict=True)]
        except Exception:  # whatever goes wrong in a network, the rendering meets it again and covers the face
            return np.inf
        shown = (take.with_face(picture) for take, picture in zip(takes, painted, strict=True))
        new = np.stack([self.recognizer.embed(s, take.points) for s, take in zip(shown, takes, strict=True)])
        each = float((old * new).sum(1).max()) - self.recognizer.threshold
        mean = cosine(old.sum(0), new.sum(0)) - self.recognizer.mean_threshold
        return max(each, mean + MARGIN)
