"""The figures of one video, by name, each beside what the same measure says of the original. Knows no network.

The measures themselves are in `measures.py`; here is what is fed to them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from revisage.models import layout
from revisage.models.scoring import SAME_PERSON
from revisage.pipeline.errors import IndexFileError, WrongKeyError
from revisage.pipeline.evaluation import measures
from revisage.pipeline.evaluation.evidence import Evidence, all_of, same_frames
from revisage.pipeline.evaluation.films import Watched, compare, watch
from revisage.pipeline.evaluation.judges import Judges
from revisage.pipeline.evaluation.measures import NOTHING
from revisage.pipeline.evaluation.report import Figure
from revisage.pipeline.places import index_path
from revisage.pipeline.recover import RecoverOptions, recover
from revisage.pipeline.run import carrier_for
from revisage.pipeline.types import Float
from revisage.pipeline.vault.keys import SecretKey

_FEWEST = 10  # frames of a track for a correlation over time


def figures_of(evidence: Evidence) -> list[Figure]:
    """All that can be said without recovering anything."""
    return [*_identity(evidence), *_motion(evidence), *_pixels(evidence), *_looks(evidence), *_cost(evidence)]


def recovery_figures(evidence: Evidence, judges: Judges, anonymized: Path | None) -> list[Figure]:
    """What the first key brings back; a stranger's key must open nothing."""
    video = anonymized or evidence.videos[0]
    index = index_path(video)
    if not evidence.keys or not index.exists():
        return []
    back, stranger = evidence.folder / "recovered.mkv", SecretKey(hashlib.sha256(b"revisage stranger").digest())
    refused = _refuses(video, index, stranger, evidence.folder / "wrong.mkv")
    try:
        recover(video, back, index=index, key=evidence.keys[0], options=RecoverOptions(codec="ffv1"))
    except IndexFileError as error:
        return [Figure("recovery_psnr", NOTHING, about=str(error)), Figure("wrong_key_refused", float(refused))]
    found = _brought_back(evidence, back, judges, "recovery", "right key, from the seal")
    if evidence.workshop.carry is not None and evidence.jobs:
        carried = evidence.folder / "from-pixels.mkv"
        from revisage.pipeline.recover_pixels import recover_pixels  # noqa: PLC0415  (imports torch)

        options = RecoverOptions(codec="ffv1")
        carrier = carrier_for(evidence.workshop.options)
        recover_pixels(video, carried, index=index, key=evidence.keys[0], carrier=carrier, options=options)
        found += _brought_back(evidence, carried, judges, "pixels", "right key, from the pixels")
    about = "a stranger's key is refused, nothing is written"
    return [*found, Figure("wrong_key_refused", float(refused), NOTHING, "1", about)]


def _brought_back(evidence: Evidence, back: Path, judges: Judges, name: str, how: str) -> list[Figure]:
    pixels = compare(evidence.clip, back, evidence.plan)
    faces = all_of(same_frames(watch(back, evidence.plan, judges), evidence.tracks))
    same = _same(measures.paired(faces.embeddings, evidence.original.embeddings))
    return [
        Figure(f"{name}_psnr", pixels.psnr_faces, measures.LOSSLESS, ">= 30", f"dB inside the faces, {how}"),
        Figure(f"{name}_ssim", pixels.ssim_faces, 1.0, "", "the same as structural similarity"),
        Figure(f"{name}_same", same, 1.0, ">= 0.95", "recovered frames judged the same person"),
    ]


def _refuses(video: Path, index: Path, key: SecretKey, output: Path) -> bool:
    try:
        recover(video, output, index=index, key=key)
    except WrongKeyError:
        return not output.exists()
    return False


def _identity(evidence: Evidence) -> list[Figure]:
    original, videos = evidence.original, [all_of(tracks) for tracks in evidence.painted]
    soft = measures.paired(original.embeddings, all_of(evidence.blurred).embeddings)
    leak = np.concatenate([measures.paired(original.embeddings, video.embeddings) for video in videos])
    pairs = list(zip(evidence.tracks * len(videos), [t for tracks in evidence.painted for t in tracks], strict=True))
    by_track = np.array([np.linalg.norm(_mean_face(a) - _mean_face(b)) for a, b in pairs])
    closest = np.array([measures.paired(a.seen.embeddings, b.seen.embeddings).min() for a, b in pairs])
    return [
        Figure("same_as_original", _same(leak), 1.0, "<= 0.05", "frames judged the same person as the original"),
        Figure("same_as_original_blur", _same(soft), 1.0, "", "the same for blur"),
        Figure("same_as_original_track", _same(by_track), 1.0, "0", "tracks, by the mean of their faces"),
        Figure("distance_to_original", measures.median(leak), 0.0, "> 0.6", "median over frames"),
        Figure("closest_to_original", measures.mean(closest), 0.0, "", "the closest frame of a track, mean of tracks"),
        Figure("two_frames_same", _frames_same(evidence.painted), _frames_same([evidence.tracks]), ">= 0.97",
               "two frames of one track, one key"),
        Figure("two_keys_same", _keys_same(evidence.painted), NOTHING, "<= 0.25", "two keys on one track"),
        Figure("two_keys_distance", _keys_distance(evidence.painted), NOTHING, "", "median"),
    ]  # fmt: skip


def _frames_same(videos: Sequence[Sequence[Watched]]) -> float:
    found = [measures.pairs_within(track.seen.embeddings) for tracks in videos for track in tracks]
    return _same(np.concatenate(found))


def _between_keys(videos: Sequence[Sequence[Watched]]) -> Float:
    """The distance of every two faces of one track under two keys."""
    found = [
        measures.distances(a.seen.embeddings, b.seen.embeddings).reshape(-1)
        for first, second in combinations(videos, 2)
        for a, b in zip(first, second, strict=True)
    ]
    return np.concatenate([np.zeros(0, np.float32), *found])


def _keys_same(videos: Sequence[Sequence[Watched]]) -> float:
    return _same(_between_keys(videos))


def _keys_distance(videos: Sequence[Sequence[Watched]]) -> float:
    return measures.median(_between_keys(videos))


def _motion(evidence: Evidence) -> list[Figure]:
    own, videos = evidence.tracks, evidence.painted
    tracks = [track for video in videos for track in video]
    flicker = [_over(b.change, a.change) for a, b in zip(own * len(videos), tracks, strict=True)]
    return [
        Figure("face_found", _found(tracks), _found(own), ">= 0.99", "by CenterFace, where it is in the original"),
        Figure("landmark_error", _error(tracks), _error(own), "<= 0.05", "of the interocular distance, median"),
        Figure("mouth_correlation", _follows(tracks, layout.mouth_opening), _follows(own, layout.mouth_opening),
               ">= 0.9", "opening over time, with the original's"),
        Figure("eye_correlation", _follows(tracks, layout.eye_opening), _follows(own, layout.eye_opening),
               ">= 0.7", "opening over time, with the original's"),
        Figure("mouth_movement", _varies(tracks, layout.mouth_opening), _varies(own, layout.mouth_opening), "",
               "standard deviation of the opening"),
        Figure("identity_change", _drift(tracks), _drift(own), "", "between neighbouring frames, mean"),
        Figure("flicker", measures.mean(_known(np.array(flicker))), 1.0, "<= 1.3",
               "change inside the face without its motion, over the original's"),
        Figure("flicker_levels", _change(tracks), _change(own), "", "the same in grey levels"),
    ]  # fmt: skip


def _found(tracks: Sequence[Watched]) -> float:
    return measures.share(np.concatenate([track.seen.found for track in tracks]))


def _error(tracks: Sequence[Watched]) -> float:
    found = [measures.landmark_error(t.driving, t.seen.landmarks)[t.seen.found] for t in tracks]
    return measures.median(np.concatenate(found))


def _follows(tracks: Sequence[Watched], opening: Callable[[Float], Float]) -> float:
    """Mean over tracks of the correlation in time between where the plan has the landmarks and where they are found."""
    long = [t for t in tracks if len(t.frames) >= _FEWEST]
    found = [measures.correlation(opening(t.driving), opening(t.seen.landmarks)) for t in long]
    return measures.mean(_known(np.array(found)))


def _varies(tracks: Sequence[Watched], opening: Callable[[Float], Float]) -> float:
    return measures.mean(np.array([np.std(opening(t.seen.landmarks)) for t in tracks]))


def _drift(tracks: Sequence[Watched]) -> float:
    steps = [measures.paired(t.seen.embeddings[1:], t.seen.embeddings[:-1])[np.diff(t.frames) == 1] for t in tracks]
    return measures.mean(np.concatenate(steps))


def _change(tracks: Sequence[Watched]) -> float:
    return measures.mean(_known(np.concatenate([t.change for t in tracks])))


def _over(painted: Float, own: Float) -> float:
    both = ~(np.isnan(painted) | np.isnan(own))
    return float(painted[both].sum() / max(float(own[both].sum()), 1e-6)) if both.any() else NOTHING


def _pixels(evidence: Evidence) -> list[Figure]:
    found = [compare(evidence.clip, video, evidence.plan) for video in evidence.videos]
    outside = measures.mean(np.array([pixels.psnr_outside for pixels in found]))
    similar = measures.mean(np.array([pixels.ssim_outside for pixels in found]))
    return [
        Figure("psnr_outside", outside, measures.LOSSLESS, "", "dB, pixels outside the faces, after the codec"),
        Figure("ssim_outside", similar, 1.0, "", "the same as structural similarity"),
    ]


def _looks(evidence: Evidence) -> list[Figure]:
    """Every other frame is the reference; the rest is compared as filmed, blurred and painted.

    One video shows few people: the figures compare with each other only. `models/train/score.py` has them over many.
    """
    videos = [all_of(tracks).features[1::2] for tracks in evidence.painted]
    real = evidence.original.features
    sets = [real[::2], real[1::2], all_of(evidence.blurred).features[1::2], *videos]
    _, reference, filmed, soft, *painted = measures.standardised(np.concatenate(sets), *sets)
    floor = measures.kid(reference, filmed)
    sharp = measures.sharpness(evidence.original.crops)
    sharper = [measures.sharpness(all_of(tracks).crops) / sharp for tracks in evidence.painted]
    return [
        Figure("kid", measures.mean(np.array([measures.kid(reference, rows) for rows in painted])), floor, "",
               "kernel distance to the original's faces, features of CenterFace"),
        Figure("kid_blur", measures.kid(reference, soft), floor, "", "the same for blur"),
        Figure("sharpness", measures.median(np.concatenate(sharper)), 1.0, "", "gradient energy over the original's"),
    ]  # fmt: skip


def _cost(evidence: Evidence) -> list[Figure]:
    if not evidence.jobs:
        return []
    faces = sum(job.render.faces for job in evidence.jobs)
    frames, seconds = sum(job.render.frames for job in evidence.jobs), sum(job.seconds for job in evidence.jobs)
    pts, base = evidence.plan.pts, evidence.plan.video.time_base
    length = float((pts[-1] - pts[0]) * base) * len(pts) / max(1, len(pts) - 1)
    face_seconds = max(1e-6, faces * length / len(pts))
    size = sum(job.render.index_bytes for job in evidence.jobs)
    return [
        Figure("seconds_per_face", seconds / max(faces, 1), NOTHING, "<= 0.15", "pass 2 with decoding, seal, encoding"),
        Figure("frames_per_second", frames / max(seconds, 1e-6), NOTHING, "", "of pass 2"),
        Figure("index_bytes_per_face_second", size / face_seconds),
    ]


def _mean_face(track: Watched) -> Float:
    mean: Float = track.seen.embeddings.mean(0)
    return mean


def _same(distance: Float) -> float:
    return measures.same_person_rate(distance, SAME_PERSON)


def _known(values: Float) -> Float:
    return values[~np.isnan(values)]
