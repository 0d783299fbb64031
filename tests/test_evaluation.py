"""`revisage evaluate` and its attacks: small films through the real program, synthetic faces through every verdict."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from films import VFR, Film, film_of_a_face, make
from skimage import data

from revisage.models import scoring
from revisage.models.base import CarryRequest, Descent, FaceRequest, Inverted
from revisage.models.conditioning import FACE_TEMPLATE, standard_landmarks
from revisage.models.train.score import SHARED, Score, _tone, contact_sheet, score
from revisage.pipeline.errors import ModelError, PlanError
from revisage.pipeline.evaluation import films
from revisage.pipeline.evaluation.attacks import faces, pixels, rebuild
from revisage.pipeline.evaluation.attacks.suite import AttackOptions, Suite, pictures_of
from revisage.pipeline.evaluation.evaluate import evaluate, pairs_of
from revisage.pipeline.evaluation.evidence import EvaluateOptions, Laboratory, example_keys, rows_of, same_frames
from revisage.pipeline.evaluation.films import Watched
from revisage.pipeline.evaluation.judges import Judges, Seen
from revisage.pipeline.evaluation.measures import LOSSLESS, NOTHING
from revisage.pipeline.evaluation.portraits import Sitter, numbered, paint, seat
from revisage.pipeline.evaluation.report import Attack, Figure, FilmReport, as_json, attack_rows, rows
from revisage.pipeline.media import open_video
from revisage.pipeline.run import JobOptions
from revisage.pipeline.turn import Turn
from revisage.pipeline.types import CropTemplate, Float, Image, Origin, Plan, Track, TrackedFace, VideoInfo

FRAMES = 4


def needs_dlib() -> None:
    pytest.importorskip("dlib", reason="needs the extra score")
    pytest.importorskip("face_recognition_models", reason="needs the extra score")


def seen(embeddings: Float) -> Seen:
    count = len(embeddings)
    rng = np.random.default_rng(count)
    crops = rng.integers(0, 255, (count, 128, 128, 3)).astype(np.uint8)
    landmarks = rng.random((count, 135, 2)).astype(np.float32)
    return Seen(np.ones(count, bool), landmarks, embeddings, embeddings[:, :4], crops)


def watched(embeddings: Float, frames: Sequence[int] | None = None) -> Watched:
    numbers = np.array(range(len(embeddings)) if frames is None else frames)
    rows = seen(embeddings)
    return Watched(1, numbers, rows.landmarks, rows, np.arange(len(embeddings) - 1, dtype=np.float32))


def person(seed: int, frames: int = 8) -> Float:
    """Embeddings of one person, two strangers about 1.4 apart."""
    rng = np.random.default_rng(seed)
    middle = rng.standard_normal(128)
    near = middle / np.linalg.norm(middle) + rng.standard_normal((frames, 128)) * 0.01
    return np.asarray(near, np.float32)


# -- the whole, on small films ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film_of_a_face(tmp_path_factory.mktemp("films") / "face.mp4", FRAMES)


def named(report: FilmReport) -> dict[str, Figure]:
    return {figure.name: figure for figure in report.figures}


def test_a_video_that_hides_nobody_is_found_out(film: Path) -> None:
    needs_dlib()
    laboratory = Laboratory(EvaluateOptions(JobOptions(device="cpu"), FRAMES))
    shown: dict[str, Image] = {}
    figures = named(evaluate(film, laboratory, anonymized=film, look=shown.__setitem__))
    for name in ("same_as_original", "same_as_original_track", "two_frames_same", "face_found"):
        assert figures[name].value == 1, name
    assert figures["distance_to_original"].value == pytest.approx(0, abs=1e-6)
    assert figures["flicker"].value == pytest.approx(1)
    assert figures["psnr_outside"].value == LOSSLESS
    assert figures["ssim_outside"].value == pytest.approx(1)
    assert figures["landmark_error"].value == figures["landmark_error"].original < 0.05
    assert np.isnan(figures["two_keys_same"].value)  # there is one key only
    assert figures["kid"].value < figures["kid_blur"].value
    assert shown["face"].shape == (2 * 128, FRAMES * 128, 3)


def test_figures_and_attacks_on_what_the_program_makes(film: Path) -> None:
    needs_dlib()
    options = EvaluateOptions(JobOptions(method="solid", device="cpu"), FRAMES, keys=2)
    suite = Suite(AttackOptions(tries=5, toy_bits=6, carries=()))
    report = evaluate(film, Laboratory(options), attacks=suite)
    figures, attacks = named(report), {attack.name: attack for attack in report.attacks}
    assert figures["face_found"].value == 0  # grey is no face
    assert figures["same_as_original"].value == 0
    assert figures["two_keys_same"].value == 1  # grey has no key
    assert figures["recovery_psnr"].value > 35
    assert figures["recovery_same"].value == figures["wrong_key_refused"].value == 1
    assert figures["psnr_outside"].value > 25
    assert figures["seconds_per_face"].value > 0
    assert attacks["random wrong key"].figures == {"opened": 0, "tried": 5}
    assert attacks["near key"].figures["opened"] == 5  # the five bits that X25519 ignores
    assert attacks["brute force"].figures["key_log10_years"] > 50
    tampering = attacks["tampered, swapped, replayed entries"].figures
    assert tampering["accepted"] == 0
    assert tampering["sound_accepted"] == 1
    assert tampering["tried"] > 12
    apart = attacks["two tracks, videos, stretches"]
    assert apart.figures["noise_correlation"] < 0.05
    assert all(attacks[name].holds for name in ("random wrong key", "near key", "brute force", apart.name))
    assert attacks["what pixels carry"].holds is attacks["two videos under one key"].holds is None
    assert attacks["gallery, parrot, reconstruction"].holds is None
    json.dumps(as_json([report]), allow_nan=False)


def test_a_folder_is_taken_video_by_video(film: Path, tmp_path: Path) -> None:
    assert pairs_of(film) == [(film, None)]
    assert pairs_of(film.parent) == [(film, None)]
    assert pairs_of(film.parent, film.parent) == [(film, film)]
    with pytest.raises(PlanError, match="no video"):
        pairs_of(tmp_path)
    with pytest.raises(PlanError, match=r"has no face\.mp4"):
        pairs_of(film.parent, tmp_path)
    with pytest.raises(PlanError, match="no pictures"):
        pictures_of(tmp_path)


def test_an_excerpt_keeps_samples_and_times(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mkv", Film(frames=len(VFR), pts=VFR, time_base=films_time_base()))
    part = films.excerpt(source, tmp_path, 3, 5)
    with open_video(source) as a, open_video(part) as b:
        whole, cut = list(a.frames())[3:8], list(b.frames())
        assert [f.pts * a.time_base for f in whole] == [f.pts * b.time_base for f in cut]
        for x, y in zip(whole, cut, strict=True):
            for one, other in zip(x.planes, y.planes, strict=True):
                np.testing.assert_array_equal(one, other)


def films_time_base() -> Any:
    from fractions import Fraction

    return Fraction(1, 1000)


def test_the_private_folder_is_gone_afterwards() -> None:
    with films.private_folder() as folder:
        (folder / "face").write_bytes(b"secret")
        assert folder.stat().st_mode & 0o077 == 0
    assert not folder.exists()


def test_landmarks_turn_with_the_picture() -> None:
    turn = Turn(1, 7, 5)
    picture = np.zeros((5, 7, 3), np.uint8)
    picture[1, 4] = 255
    (x, y), upright = turn.upright_points(np.array([[4, 1]], np.float32))[0].astype(int), turn.upright(picture)
    assert upright.shape == (7, 5, 3)
    assert upright[y, x, 0] == 255


# -- what is compared with what ---------------------------------------------------------------------------------------


def test_rows_keep_the_change_between_frames_that_stay_neighbours() -> None:
    track = watched(person(0, 5))
    kept = rows_of(track, np.array([True, True, False, True, True]))
    assert kept.frames.tolist() == [0, 1, 3, 4]
    assert kept.change[[0, 2]].tolist() == [0, 3]
    assert np.isnan(kept.change[1])
    (same,) = same_frames([track], [kept])
    assert same.frames.tolist() == kept.frames.tolist()


def test_a_report_says_what_was_not_measured() -> None:
    report = FilmReport("a", 3, 1, 3, (Figure("x", 0.5, 1.0), Figure("y", NOTHING)), (Attack("z", "tried", {}, False),))
    other = FilmReport("b", 3, 1, 3, (Figure("x", 1.0),))
    found = as_json([report, other])
    assert found["mean"] == {"x": {"value": 0.75, "original": 1.0}, "y": {"value": None, "original": None}}
    assert rows(report)[1][:2] == ("y", "-")
    assert attack_rows(report) == [("z", "BROKEN", "tried")]


def test_example_keys_are_the_same_for_everybody() -> None:
    assert example_keys(2) == example_keys(3)[:2]
    assert example_keys(2)[0] != example_keys(2)[1]


# -- attacks on faces -------------------------------------------------------------------------------------------------


def gallery(people: int) -> faces.Gallery:
    middle = np.concatenate([person(100 + i, 1) for i in range(people)])
    other = np.concatenate([person(200 + i, 1) for i in range(people)])
    return faces.Gallery((), seen(middle), seen(other), seen(other))


def test_averaging_undoes_noise_and_not_another_face() -> None:
    original = watched(person(0, 40))
    noise = np.random.default_rng(1).standard_normal((40, 128)).astype(np.float32) * 0.09
    noisy = faces.averaging([original], [[watched(original.seen.embeddings + noise)]])
    assert noisy.holds is False
    assert noisy.figures["distance_frame"] > 3 * noisy.figures["distance_track_mean"]
    assert faces.averaging([original], [[watched(person(1, 40))]]).holds is True


def test_a_gallery_finds_who_was_not_hidden_and_nobody_else() -> None:
    original = watched(person(0))
    soft = [original.seen.embeddings]
    leak = faces.gallery_match([original], [watched(person(0) + 0.01)], soft, gallery(20))
    assert leak.holds is False
    assert leak.figures["rank1"] == leak.figures["rank1_blur"] == 1
    stranger = gallery(20).original.embeddings[3]
    hidden = faces.gallery_match([original], [watched(person(0) * 0 + stranger)], soft, gallery(20))
    assert hidden.holds is True
    assert hidden.figures["rank1"] == 0


def test_a_parrot_links_what_does_not_depend_on_the_key() -> None:
    own, soft = watched(person(0)), [person(0)]
    assert faces.parrot([[own], [watched(person(0) + 0.01)]], soft, gallery(20)).holds is False
    other = gallery(20).painted.embeddings[3]
    assert faces.parrot([[watched(person(0) * 0 + other)], [watched(person(1))]], soft, gallery(20)).holds is True
    assert faces.parrot([[own]], soft, gallery(20)).holds is None


def test_linking_two_videos() -> None:
    assert faces.linking([watched(person(0))], [watched(person(0))]).figures["linked"] == 1
    assert faces.linking([watched(person(0))], [watched(person(1))]).holds is True


def test_a_network_learns_to_undo_what_can_be_undone() -> None:
    astronaut = data.astronaut()
    crops = np.stack([astronaut[y : y + 128, x : x + 128] for y in (0, 100) for x in (0, 90, 180, 270)])
    net = rebuild.train(255 - crops, crops, rebuild.Effort(seconds=60, steps=40, width=8))
    rebuilt = rebuild.rebuild(net, 255 - crops)
    assert rebuilt.shape == crops.shape
    before = np.abs(crops.astype(float) - (255 - crops)).mean()
    assert np.abs(crops.astype(float) - rebuilt).mean() < 0.6 * before


# -- attacks on what pixels carry -------------------------------------------------------------------------------------


class FakeCarrier:
    """Latents are pictures, enlarged so that they look like noise of deviation 1."""

    size = 96

    def invert(
        self, requests: Sequence[CarryRequest], pictures: Sequence[Float], _: Descent, __: float = 0.0
    ) -> list[Inverted]:
        return [
            Inverted(
                2 * p * q.tile.mask,
                q.face.noise[:, : q.tile.side, : q.tile.side] * q.tile.mask,
                np.broadcast_to(q.tile.mask, p.shape).astype(np.float32),
                0.0,
            )
            for q, p in zip(requests, pictures, strict=True)
        ]

    def regrow(self, requests: Sequence[CarryRequest], latents: Sequence[Float], _: Descent) -> list[Float]:
        return [z / 2 * q.tile.mask for q, z in zip(requests, latents, strict=True)]


class FakeRecognizer:
    """Sees the picture itself, very small."""

    def embed(self, picture: Image, landmarks: Float) -> Float:
        (x0, y0), (x1, y1) = landmarks.min(0).astype(int), landmarks.max(0).astype(int)
        face = picture[max(y0, 0) : y1, max(x0, 0) : x1].astype(np.float32) / 255
        return np.stack([part.mean((0, 1)) for part in np.array_split(face, 4)]).reshape(-1) * 4


@pytest.fixture(scope="module")
def bench() -> pixels.Bench:
    return pixels.Bench(FakeCarrier(), 8, FakeRecognizer(), Descent())  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> list[pixels.Shot]:
    clip = film_of_a_face(tmp_path_factory.mktemp("shots") / "face.mkv", 3, codec="ffv1")
    points = np.asarray(FACE_TEMPLATE.points, np.float32) * 96 + np.array([70, 30], np.float32)
    landmarks = standard_landmarks(points)
    faces_ = tuple(TrackedFace(i, (95, 50, 145, 115), points, Origin.DETECTED, 1.0, landmarks) for i in range(3))
    with open_video(clip) as video:
        info = VideoInfo(video.width, video.height, video.time_base, video.pix_fmt.name, 3, "0" * 64)
    plan = Plan(info, (Track(1, faces_),), "none", (0, 40, 80))
    return pixels.shots_of(clip, plan, watched(person(0, 3)), CropTemplate("t", FACE_TEMPLATE.points), 96, 3)


@pytest.mark.parametrize("carry", [1.0, 0.5])
def test_the_key_opens_pixels_and_a_known_frame_no_more_than_its_segment(
    bench: pixels.Bench, shots: list[pixels.Shot], carry: float
) -> None:
    keys, signs, known = pixels.attacks(bench, shots, (), carry)
    assert keys.figures["right_psnr"] > 25
    assert keys.figures["wrong_psnr"] < 15
    assert keys.figures["right_same"] == 1
    assert keys.figures["wrong_same"] == keys.figures["shown_same"] == 0
    assert signs.figures["psnr_0.01"] > signs.figures["psnr_0.1"] > signs.figures["psnr_0.5"]
    assert known.figures["signs_right"] > 0.9
    assert known.figures["within_psnr"] > known.figures["beyond_psnr"] + 8
    assert known.figures["beyond_same"] == 0


def test_magnitudes_give_the_very_frame_away_at_carry_one(
    bench: pixels.Bench, shots: list[pixels.Shot], sitters: list[Sitter]
) -> None:
    hidden = bench.hide(shots, "owner/0", 1.0)
    found = pixels.magnitudes(bench, hidden, sitters, 1.0)
    assert found.figures["own_frame"] > 0.95 > found.figures["best_stranger"]


# -- portraits and the model's score ----------------------------------------------------------------------------------


class FakeGenerator:
    """Paints everybody as one grey wave: nobody's face, whatever the key."""

    template, size, code_size = CropTemplate("t", FACE_TEMPLATE.points), 64, 8
    noise_shape = (3, 64, 64)
    cast = ()

    def finish(self, request: Any, painted: Image, side: int) -> Image:
        return painted

    def generate(self, requests: Sequence[FaceRequest]) -> list[Image]:
        wave = (128 + 60 * np.sin(np.arange(64) / 5)).astype(np.uint8)
        return [np.broadcast_to(wave[:, None, None], (64, 64, 3)).copy() for _ in requests]


@pytest.fixture(scope="module")
def judges() -> Judges:
    needs_dlib()
    return Judges(1)


@pytest.fixture(scope="module")
def sitters(judges: Judges) -> list[Sitter]:
    photograph = np.ascontiguousarray(data.astronaut()[:300, 80:380])
    pictures = [photograph, photograph[:, ::-1], 255 - (255 - photograph) // 2, photograph[20:, 10:]]
    generator: Any = FakeGenerator()
    found = [seat(np.ascontiguousarray(p), judges.detector, judges.landmarker, generator) for p in pictures]
    assert all(found)
    return [sitter for sitter in found if sitter is not None]


def test_a_score_sees_that_keys_do_nothing(judges: Judges, sitters: list[Sitter]) -> None:
    generator: Any = FakeGenerator()
    found = score(sitters, generator, judges, 2, "fake")
    assert isinstance(found, Score)
    assert found.two_keys_distance == pytest.approx(0, abs=1e-6)
    assert found.two_keys_same == found.face_found_original == 1
    assert found.face_found < 1
    assert found.same_as_original == 0
    assert found.parrot_rank1 == 1  # the attacker's own grey wave is the very same
    sheet = contact_sheet(sitters, generator, keys=2)
    assert sheet.shape == (4 * 160, 4 * 160, 3)


def test_four_keys_are_everybodys_and_the_others_each_persons_own(judges: Judges, sitters: list[Sitter]) -> None:
    codes = []

    class Recording(FakeGenerator):
        def generate(self, requests: Sequence[FaceRequest]) -> list[Image]:
            codes.append([request.code.tobytes() for request in requests])
            return super().generate(requests)

    generator: Any = Recording()
    score(sitters, generator, judges, SHARED + 2, "fake")
    shared, own = codes[:SHARED], codes[SHARED : SHARED + 2]
    assert all(len(set(group)) == 1 for group in shared)
    assert len(set().union(*shared, *own)) == SHARED + 2 * len(sitters)


def test_faces_painted_alike_are_too_light_on_dark_people_and_too_dark_on_pale_ones() -> None:
    def seen(levels: Sequence[int]) -> Seen:
        crops = np.stack([np.full((16, 16, 3), level, np.uint8) for level in levels])
        return Seen(*[np.zeros(len(levels))] * 4, crops)  # type: ignore[arg-type]

    errors = _tone(seen([60, 100, 120, 130, 160, 200]), [seen([120] * 6), seen([130] * 6)])
    assert errors["tone_error_darkest"] == pytest.approx(45)
    assert errors["tone_error_palest"] == pytest.approx(-55)
    assert errors["tone_error"] == pytest.approx((45 + 55 + 5) / 3)


def test_painting_leaves_what_is_not_the_face(sitters: list[Sitter]) -> None:
    generator: Any = FakeGenerator()
    sitter = sitters[0]
    (picture,) = paint([sitter], [numbered(0, generator)], generator)
    np.testing.assert_array_equal(picture[~sitter.hidden], sitter.picture[~sitter.hidden])
    assert np.abs(picture[sitter.hidden].astype(int) - sitter.picture[sitter.hidden]).mean() > 10
    assert not np.array_equal(numbered(0, generator).code, numbered(1, generator).code)


def test_the_recognizer_knows_a_person_again(judges: Judges, sitters: list[Sitter]) -> None:
    one, mirrored = (judges.recognizer.embed(s.picture, s.landmarks) for s in sitters[:2])
    assert one.shape == (128,)
    assert np.linalg.norm(one - mirrored) < scoring.SAME_PERSON
    features = judges.features.of([s.picture for s in sitters[:2]])
    assert features.shape == (2, 176)


def test_without_the_extra_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(scoring, "import_module", missing)
    with pytest.raises(ModelError, match=r"revisage\[score\]"):
        scoring.DlibRecognizer()
