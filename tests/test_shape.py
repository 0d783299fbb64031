"""How much of a face is replaced: the whole head, or all but some parts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from films import film_of_a_face  # type: ignore[import-not-found]

from revisage.cli import cli
from revisage.models.conditioning import FACE_TEMPLATE, standard_landmarks
from revisage.pipeline.composite import place
from revisage.pipeline.errors import PlanError, TamperedError
from revisage.pipeline.geometry import FaceRegion
from revisage.pipeline.media import file_digest, open_video
from revisage.pipeline.pixels import Mask, pixel_format
from revisage.pipeline.plan import dump_plan, parse_plan, save_plan
from revisage.pipeline.run import JobOptions
from revisage.pipeline.shape import PARTS, left_as_filmed, outline
from revisage.pipeline.types import Origin, Plan, Shape, Track, TrackedFace, VideoInfo
from revisage.pipeline.vault.index import open_index
from revisage.pipeline.vault.keys import read_key, write_secret_key
from revisage.pipeline.verification.expected import expected
from revisage.pipeline.verification.masks import Masks

WIDTH, HEIGHT = 256, 192
FMT = pixel_format("yuv420p", 0, 0, HEIGHT)
POINTS = np.array([[118, 70], [150, 69], [135, 90], [121, 108], [148, 107]], np.float32)


def face(frame: int) -> TrackedFace:
    return TrackedFace(frame, (103, 38, 165, 126), POINTS, Origin.DETECTED, 0.9, standard_landmarks(POINTS))


def region(shape: Shape) -> FaceRegion:
    placed = place(1, face(0), FACE_TEMPLATE, 64, FMT, WIDTH, HEIGHT, shape)
    assert placed is not None
    return placed.region


def drawn(region: FaceRegion, mask: Mask) -> Mask:
    whole = np.zeros((HEIGHT, WIDTH), np.bool_)
    whole[region.rect.y0 : region.rect.y1, region.rect.x0 : region.rect.x1] = mask
    return whole


def hull(part: str) -> Mask:
    picture = np.zeros((HEIGHT, WIDTH), np.uint8)
    for points in left_as_filmed(standard_landmarks(POINTS), Shape(keep_parts=(part,))):
        cv2.fillConvexPoly(picture, cv2.convexHull(np.round(points).astype(np.int32)), 255)
    return picture > 0


@pytest.mark.parametrize("part", PARTS)
def test_a_kept_part_is_not_covered_and_the_rest_is(part: str) -> None:
    whole, kept = region(Shape()), region(Shape(keep_parts=(part,)))
    before, after = drawn(whole, whole.cover), drawn(kept, kept.cover)
    assert not (after & hull(part)).any()
    near = cv2.dilate(hull(part).astype(np.uint8), np.ones((19, 19), np.uint8)) > 0  # the seam is six pixels wide
    assert not (before & ~after & ~near).any()
    assert not (after & ~before).any()
    assert (after & hull("eyes" if part == "mouth" else "mouth")).sum() > 100


def test_the_heart_of_a_kept_part_is_not_touched() -> None:
    kept = region(Shape(keep_parts=("eyes", "mouth")))
    untouched = ~drawn(kept, kept.touched)
    for x, y in (*POINTS[:2], (POINTS[3] + POINTS[4]) / 2):
        assert untouched[round(float(y)), round(float(x))]


def test_the_head_is_the_face_and_more() -> None:
    small, large = region(Shape()), region(Shape("head"))
    face_cover, head_cover = drawn(small, small.cover), drawn(large, large.cover)
    assert not (face_cover & ~head_cover).any()
    assert head_cover.sum() > 1.4 * face_cover.sum()
    assert np.argmax(head_cover.any(1)) < np.argmax(face_cover.any(1)) - 10  # hair


def test_a_turned_head_is_the_same_head() -> None:
    spin = np.array([[0, -1], [1, 0]], np.float32)
    upright = outline(standard_landmarks(POINTS), Shape("head"))
    turned = outline(standard_landmarks(POINTS) @ spin.T, Shape("head"))
    np.testing.assert_allclose(turned, upright @ spin.T, atol=1e-2)


def test_unknown_choices_are_named() -> None:
    with pytest.raises(PlanError, match="eyes, nose, mouth"):
        JobOptions(keep_parts=("ears",))
    with pytest.raises(PlanError, match="face, head"):
        JobOptions(region="body")
    with pytest.raises(ValueError, match="unknown part"):
        left_as_filmed(standard_landmarks(POINTS), Shape(keep_parts=("ears",)))
    with pytest.raises(ValueError, match="unknown region"):
        outline(standard_landmarks(POINTS), Shape("body"))


# -- a film ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(film_of_a_face(tmp_path_factory.mktemp("film") / "in.mkv", 2, WIDTH, HEIGHT, codec="ffv1"))


def plan_of(source: Path) -> Plan:
    with open_video(source) as video:
        pts = tuple(frame.pts for frame in video.frames())
        info = VideoInfo(WIDTH, HEIGHT, video.time_base, video.pix_fmt.name, 2, file_digest(source))
    return Plan(info, (Track(1, (face(0), face(1))),), "by hand", pts)


def test_the_choice_travels_with_the_plan(film: Path) -> None:
    plan = replace(plan_of(film), shape=Shape("head", ("eyes", "mouth")))
    assert parse_plan(dump_plan(plan)).shape == plan.shape
    assert parse_plan(dump_plan(plan_of(film))).shape == Shape()
    with pytest.raises(PlanError, match="keep_parts"):
        parse_plan(dump_plan(plan).replace('"mouth"', '"chin"'))


def test_from_the_command_line_to_the_index(film: Path, tmp_path: Path) -> None:
    save_plan(plan_of(film), tmp_path / "plan.json")
    write_secret_key(tmp_path / "key", None)
    words = ["anonymize", film, "-o", tmp_path / "out.mkv", "--key", tmp_path / "key", "--plan", tmp_path / "plan.json",
             "--method", "solid", "--codec", "ffv1", "--keep-parts", "eyes,mouth", "--region", "head",
             "--no-verify"]  # fmt: skip
    result = CliRunner().invoke(cli, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    assert "eyes and mouth are left as filmed" in result.stderr
    pictures = []
    for path in (film, tmp_path / "out.mkv"):
        with open_video(path) as video:
            pictures.append(next(video.frames()).planes[0].copy())
    head = region(Shape("head", ("eyes", "mouth")))
    same = pictures[0] == pictures[1]
    near = cv2.dilate(drawn(head, head.touched).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0  # plans are rounded
    assert same[~near].all()
    assert not same[drawn(head, head.cover)].all()
    for x, y in POINTS[:2].round().astype(int):
        assert same[y, x]
    with open_index(tmp_path / "out.mkv.rvx") as index:
        unlocked = index.unlock(read_key(tmp_path / "key", lambda: ""))
        assert expected(unlocked).shape == Shape("head", ("eyes", "mouth"))
        unlocked.settings.generator["region"] = "body"  # type: ignore[index]
        with pytest.raises(TamperedError, match="how much"):
            expected(unlocked)


def test_verify_takes_kept_parts_as_covered() -> None:
    track = Track(1, (face(0),))
    masks = Masks.draw([(track, face(0))], FMT, WIDTH, HEIGHT, Shape(keep_parts=("eyes", "mouth")))
    assert all(masks.cover[round(float(y)), round(float(x))] for x, y in POINTS)
