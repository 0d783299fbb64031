"""What the pipeline costs beside its networks: all but detector and generator, against a plain decode and encode.

    python tests/benchmarks/overhead.py CLIP [CLIP ...] [--runs N]

Both sides run in turn in one process with the same encoder settings. The pipeline's side is both passes with detections
recorded beforehand and a generator that returns its background, with nothing sealed and with the default seal. The last
line is one JSON object of ratios, wall time and CPU time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import av
import ratios

from revisage.models.base import FaceRequest
from revisage.models.conditioning import FACE_TEMPLATE
from revisage.models.detectors import load_detector
from revisage.pipeline.analyze import AnalyzeOptions, analyze
from revisage.pipeline.media import open_video
from revisage.pipeline.protect import Diffusion
from revisage.pipeline.render import Access, RenderOptions, anonymize
from revisage.pipeline.types import CropTemplate, FaceDetection, Image
from revisage.pipeline.vault.keys import SecretKey

CRF, PRESET = "18", "medium"


class Recorded:
    """A detector that has seen the clip before."""

    name = "recorded"

    def __init__(self, clip: Path) -> None:
        detector = load_detector("centerface")[0]
        with open_video(clip) as video:
            self._found = [detector.detect(frame.rgb()) for frame in video.frames()]
        self._next = 0

    def detect(self, picture: Image) -> list[FaceDetection]:
        """The next frame's faces."""
        found = self._found[self._next % len(self._found)]
        self._next += 1
        return found


class Background:
    """A generator that costs nothing."""

    template: CropTemplate = FACE_TEMPLATE
    size = 128
    code_size = 64
    noise_shape = (3, 128, 128)

    def generate(self, requests: Sequence[FaceRequest]) -> list[Image]:
        """What it was given."""
        return [request.background for request in requests]


def plain(clip: Path, out: Path) -> None:
    """Decode and encode, nothing else."""
    with av.open(str(clip)) as source, av.open(str(out), "w", format="matroska") as sink:
        stream = source.streams.video[0]
        stream.thread_type = "AUTO"
        encoder = sink.add_stream("libx264", rate=stream.average_rate, options={"crf": CRF, "preset": PRESET})
        encoder.width, encoder.height, encoder.pix_fmt = stream.width, stream.height, stream.pix_fmt
        encoder.codec_context.time_base = encoder.time_base = stream.time_base
        encoder.thread_count = 0
        for frame in source.decode(stream):
            frame.pict_type = 0
            sink.mux(encoder.encode(frame))
        sink.mux(encoder.encode(None))


def pipeline(clip: Path, out: Path, detector: Recorded, seal: str) -> None:
    """Both passes without their networks."""
    plan = analyze(clip, detector=detector, options=AnalyzeOptions(again=False, skip=False))
    access = Access.of([SecretKey.generate()], [], plan.video.sha256)
    options = RenderOptions(
        seal=seal,  # type: ignore[arg-type]
        index=out.with_suffix(".rvx") if seal != "off" else None,
        codec="libx264",
        overwrite=True,
    )
    anonymize(clip, out, plan=plan, method=Diffusion(Background()), access=access, options=options)


def compare(clip: Path, runs: int) -> dict[str, float]:
    """Ratios with nothing sealed and with the default seal, for every length of the clip."""
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.mkv"
        for repeats, copy in ratios.copies(clip, Path(folder)):
            base, detector = partial(plain, copy, out.with_name("plain.mkv")), Recorded(copy)
            ways = {seal: partial(pipeline, copy, out, detector, seal) for seal in ("off", "visual")}
            for name, value in ratios.medians(base, ways, runs).items():
                found[f"{name} x{repeats}"] = value
    return found


if __name__ == "__main__":
    ratios.main(__doc__, compare)
