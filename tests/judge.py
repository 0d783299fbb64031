"""Judges tracks against a scene's ground truth. For tests and benchmarks; knows no file and no network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scenes import SEEN, Scene, TrueFace, share_covered, truth

from revisage.models.looks import overlap
from revisage.pipeline.analyze import associate
from revisage.pipeline.types import Box, FaceDetection, Float, Track
from revisage.trackers.base import AT_REST, Sighting
from revisage.trackers.cuts import Change
from revisage.trackers.link import LinkOptions, link
from revisage.trackers.norfair import NorfairTracker
from revisage.trackers.smooth import smooth

Placed = list[list[tuple[int, Box]]]  # per frame: number of the track, box
_ENOUGH = 0.7  # of what shows of a face must lie under one face of the plan


@dataclass(frozen=True, slots=True)
class Verdict:
    """What went wrong."""

    uncovered: tuple[tuple[int, int], ...]  # (frame, who): a face that shows and that nothing covers
    switches: int  # times a track went from one person to another
    bridged: int  # tracks that go through a change of shot
    tracks: int


def changes(scene: Scene) -> list[Change]:
    """The scene's true changes of shot."""
    return [Change(*cut) for cut in scene.cuts]


def camera(scene: Scene) -> Float:
    """(F, 3) how the camera truly looks at what stands still, in the shot that is on; see trackers/base.py."""
    views = []
    for t in scene.times:
        shot = next(s for s in reversed(scene.shots) if s.start <= t + 1e-9)
        (left, top), zoom = shot.camera(t), shot.zoom(t)
        views.append((-left * zoom, -top * zoom, zoom))
    return np.array(views, np.float32)


def tracked(
    scene: Scene, detections: Sequence[Sequence[FaceDetection]], *, moved: Float | None = None, **options: float
) -> tuple[list[list[Sighting]], list[Track]]:
    """Tracklets before the linker, and tracks after linker and smoothing; `moved`: what is known of the camera."""
    times = list(scene.times)
    still = np.tile(AT_REST, (len(times), 1)) if moved is None else moved
    sightings = [[Sighting(frame, face) for face in found] for frame, found in enumerate(detections)]
    rate = 1 / max(float(np.median(np.diff(times))), 1e-3)
    tracklets = associate(NorfairTracker(rate), sightings, times, changes(scene), still)
    tracks = link(tracklets, times, scene.size, cuts=changes(scene), camera=still, options=LinkOptions(**options))
    return tracklets, [smooth(track, times, scene.size, still) for track in tracks]


def placed(tracks: Iterable[Track], frames: int) -> Placed:
    """The boxes of every frame."""
    result: Placed = [[] for _ in range(frames)]
    for track in tracks:
        for face in track.faces:
            result[face.frame].append((track.id, face.box))
    return result


def before_linking(tracklets: Iterable[Sequence[Sighting]], frames: int) -> Placed:
    """The boxes of every frame, as the tracker alone has them."""
    result: Placed = [[] for _ in range(frames)]
    for number, tracklet in enumerate(tracklets, 1):
        for sighting in tracklet:
            result[sighting.frame].append((number, sighting.detection.box))
    return result


def judge(scene: Scene, found: Placed) -> Verdict:
    """Hold `found` against the truth."""
    uncovered = []
    owners: dict[int, list[TrueFace]] = {}
    mixed = {frame for first, last in scene.cuts for frame in range(first, last)}
    for frame, (faces, boxes) in enumerate(zip(truth(scene), found, strict=True)):
        showing = [face for face in faces if face.visible >= SEEN]
        for face in showing:
            if share_covered(face.box, [box for _, box in boxes], scene.size) < _ENOUGH:
                uncovered.append((frame, face.who))
        for number, box in boxes:
            owner = whose(box, showing)
            if owner is not None and frame not in mixed:  # in a dissolve two people may show in one place
                owners.setdefault(number, []).append(owner)
    switches = sum(_switches([face.who for face in seen]) for seen in owners.values())
    bridged = sum(len({face.shot for face in seen}) > 1 for seen in owners.values())
    return Verdict(tuple(uncovered), switches, bridged, len({number for boxes in found for number, _ in boxes}))


def promised(
    scene: Scene,
    uncovered: Iterable[tuple[int, int]],
    sightings: Sequence[Sequence[tuple[TrueFace, FaceDetection]]],
    options: LinkOptions | None = None,
) -> list[tuple[int, int]]:
    """Those of the uncovered (frame, who) that had to be covered, given whom the detector found when.

    Promised is every face that shows and that was found in the same shot at most `hold` before or after, or both
    before and after with at most `max_gap` (and one frame) between. Nobody promises more: who is first found later
    than `hold` after appearing, or last found longer than that before going, is bare until then.
    """
    wish = options or LinkOptions()
    return [(frame, who) for frame, who in uncovered if _promised(scene, frame, who, sightings, wish)]


def _promised(
    scene: Scene,
    frame: int,
    who: int,
    sightings: Sequence[Sequence[tuple[TrueFace, FaceDetection]]],
    wish: LinkOptions,
) -> bool:
    t = scene.times
    shots = {face.shot for face in truth(scene)[frame] if face.who == who and face.visible >= SEEN}
    found = [n for n, seen in enumerate(sightings) if any(f.who == who and f.shot in shots for f, _ in seen)]
    before, after = [n for n in found if n <= frame], [n for n in found if n >= frame]
    held = any(abs(t[n] - t[frame]) <= wish.hold + 1e-6 for n in (*before[-1:], *after[:1]))
    if held or not before or not after:
        return held
    step = t[min(before[-1] + 1, len(t) - 1)] - t[before[-1]]
    return t[after[0]] - t[before[-1]] <= wish.max_gap + step + 1e-6


def whose(box: Box, faces: Sequence[TrueFace]) -> TrueFace | None:
    """Whose face lies under `box`; None where it is nobody's, or where it could be two people's."""
    near = sorted(((overlap(box, face.box), i) for i, face in enumerate(faces)), reverse=True)
    if not near or near[0][0] < 0.3 or (len(near) > 1 and near[1][0] > 0.5 * near[0][0]):
        return None
    return faces[near[0][1]]


def _switches(who: Sequence[int]) -> int:
    return int(np.count_nonzero(np.diff(who))) if len(who) > 1 else 0
