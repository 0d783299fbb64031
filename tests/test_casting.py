"""New faces tried before a film is rendered: what is taken is what the finished film would have shown to be right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from test_render import (  # type: ignore[import-not-found]
    FRAMES,
    KEY,
    BrokenFace,
    PaintedFace,
    face,
    film,
    plan_of,
    two_people,
)

from revisage.models.base import FaceRequest, Recognizer
from revisage.models.conditioning import FACE_TEMPLATE
from revisage.pipeline import casting, geometry
from revisage.pipeline.actors import candidates
from revisage.pipeline.casting import DRAWS, MARGIN, cast
from revisage.pipeline.composite import Likeness
from revisage.pipeline.likeness import likeness_of
from revisage.pipeline.media import open_video
from revisage.pipeline.protect import Diffusion
from revisage.pipeline.render import Access, RenderOptions, anonymize
from revisage.pipeline.types import Float, Image, Plan, Track
from revisage.pipeline.vault.keys import FaceSecret, SealSecret

__all__ = ["film"]  # the fixture
# Not from the film, whose bytes differ each time it is made.
# A key whose faces are far enough apart in likeness for the tests of limits:
ACCESS = Access(FaceSecret(bytes(range(2, 34))), SealSecret(bytes(range(2, 34))), (KEY.recipient,), None)


class Shade:
    """A recognizer: people are as alike as the colours around their noses."""

    threshold = 1.1  # of single faces: never

    def __init__(self, mean_threshold: float) -> None:
        self.mean_threshold = mean_threshold
        self.shown: list[Image] = []

    def embed(self, picture: Image, points: Float) -> Float:
        self.shown.append(picture)
        matrix = geometry.align(points, FACE_TEMPLATE, 64)
        tile = geometry.crop(picture, matrix, 64)[26:38, 26:38].astype(np.float32).mean((0, 1)) - 110
        unit: Float = tile / max(float(np.linalg.norm(tile)), 1e-6)
        return unit


def tried(source: Path, plan: Plan, recognizer: Recognizer, generator: PaintedFace | None = None) -> Plan:
    method = Diffusion(generator or PaintedFace())

    def likeness(track: Track) -> Likeness:
        return likeness_of(ACCESS.faces, track, method)

    draws = partial(candidates, plan, code=lambda track: likeness(track).code, cast=method.cast)
    return cast(source, plan, likeness, method=method, recognizer=recognizer, draws=draws)


def draws_of(plan: Plan) -> list[int]:
    return [track.draw for track in plan.tracks]


def in_the_finished_film(source: Path, output: Path, tracks: tuple[Track, ...]) -> list[float]:
    """How alike the old and the new face of each track are, by the means over all its frames."""
    plan, method, options = plan_of(source, tracks), Diffusion(PaintedFace()), RenderOptions(seal="off", codec="ffv1")
    anonymize(source, output, plan=plan, method=method, access=ACCESS, options=options)
    shade, means = Shade(0), {track.id: [np.zeros(3), np.zeros(3)] for track in tracks}
    for column, path in enumerate((source, output)):
        with open_video(path) as video:
            for frame in video.frames():
                for track in tracks:
                    for seen in (f for f in track.faces if f.frame == frame.index):
                        means[track.id][column] += shade.embed(frame.rgb(), seen.points)
    return [float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) for a, b in means.values()]


def apart() -> tuple[Track, ...]:
    """Two people who do not meet, and move little."""
    left = tuple(face(i, 8 + 0.2 * i, 20, 80) for i in range(FRAMES))
    return Track(1, left), Track(2, tuple(face(i, 104 - 0.2 * i, 30, 80) for i in range(FRAMES)))


def test_the_first_face_that_the_finished_film_shows_to_be_no_likeness_is_taken(film: Path, tmp_path: Path) -> None:
    people = apart()
    truth = np.array(
        [
            in_the_finished_film(film, tmp_path / f"{n}.mkv", tuple(replace(t, draw=n) for t in people))
            for n in range(DRAWS)
        ]
    )
    values = np.sort(truth.ravel())
    limits = ((values[1:] + values[:-1]) / 2)[np.diff(values) > 0.05] + MARGIN  # where a few frames cannot err
    assert len(limits) >= 4
    for limit in limits:
        found = draws_of(tried(film, plan_of(film, people), Shade(limit)))
        for draw, track in zip(found, truth.T, strict=True):
            fits = np.flatnonzero(track < limit - MARGIN)
            assert draw == fits[0] if len(fits) else track[draw] < track.min() + 0.05
    assert len({tuple(draws_of(tried(film, plan_of(film, people), Shade(limit)))) for limit in limits}) > 2


def test_the_plans_own_draw_comes_first(film: Path) -> None:
    plan = plan_of(film, tuple(replace(track, draw=5) for track in apart()))
    assert draws_of(tried(film, plan, Shade(1.1))) == [5, 5]
    assert all(5 <= draw < 5 + DRAWS for draw in draws_of(tried(film, plan, Shade(-2))))


def test_tracks_of_one_person_get_one_face(film: Path) -> None:
    people = tuple(replace(track, person=3) for track in apart())
    limits = [draws_of(tried(film, plan_of(film, people), Shade(limit))) for limit in (-2.0, 0.0, 0.5, 0.9)]
    assert all(one == other for one, other in limits) and len({one for one, _ in limits}) > 1


def test_kept_and_small_faces_are_left_alone(film: Path) -> None:
    small = Track(1, tuple(face(i, 20, 20, 50) for i in range(FRAMES)))  # 30 pixels wide
    kept = Track(2, apart()[1].faces, keep=True)
    plan, recognizer = plan_of(film, (small, kept)), Shade(-2)
    assert draws_of(tried(film, plan, recognizer)) == [0, 0] and not recognizer.shown


def test_a_generator_that_fails_leaves_faces_as_planned_or_takes_those_it_can_paint(film: Path) -> None:
    class Burning(PaintedFace):
        def generate(self, requests: Sequence[FaceRequest]) -> list[Image]:
            raise RuntimeError("the network is on fire")

    plan = plan_of(film, apart())
    assert draws_of(tried(film, plan, Shade(-2), Burning())) == [0, 0]
    method, chosen = Diffusion(BrokenFace()), tried(film, plan, Shade(-2), BrokenFace()).tracks
    assert all(likeness_of(ACCESS.faces, track, method).code[0] <= 0 for track in chosen)


def test_a_few_frames_are_looked_at_and_no_face_is_shown_to_the_generator(film: Path) -> None:
    generator, recognizer = PaintedFace(), Shade(1.1)
    tried(film, plan_of(film, two_people()), recognizer, generator)
    assert len(generator.seen) == 2 * casting.FRAMES and len(recognizer.shown) == 4 * casting.FRAMES
    for request in generator.seen:
        assert np.ptp(request.background[request.mask > 0], axis=0).max() == 0  # grey


def test_footage_bounds_how_long_anybody_waits(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    real = PaintedFace.generate

    def generate(self: PaintedFace, requests: Sequence[FaceRequest]) -> list[Image]:
        read.append(len(requests))
        return real(self, requests)

    monkeypatch.setattr(PaintedFace, "generate", generate)
    monkeypatch.setattr(casting, "FOOTAGE", 3)
    tried(film, plan_of(film, apart()), Shade(1.1))
    assert read == [3, 3]
