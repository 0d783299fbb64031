"""What the pipeline costs beside its networks: all but detector and generator, against a plain decode and encode.

    python tests/benchmarks/overhead.py CLIP [CLIP ...] [--runs N] [--height LINES]

Both sides run in turn in one process with the same encoder settings. The pipeline's side is both passes with detections
recorded beforehand and a generator that gives every face the same picture, with nothing sealed and with the default
seal. The last line is one JSON object of ratios, wall time and CPU time.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import av
import cv2
import numpy as np
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
    """A detector that has seen the clip before; it knows frames by their pixels, since still ones are skipped."""

    name = "recorded"

    def __init__(self, clip: Path) -> None:
        detector = load_detector("centerface")[0]
        with open_video(clip) as video:
            pictures = (frame.rgb() for frame in video.frames())
            self._found = {_mark(picture): detector.detect(picture) for picture in pictures}

    def detect(self, picture: Image) -> list[FaceDetection]:
        """The faces of a frame."""
        return self._found[_mark(picture)]


def _mark(picture: Image) -> bytes:
    return picture[::8, ::16].tobytes()


class Portrait:
    """A generator that costs nothing: soft spots, so that no face counts as blank and none as hard to encode."""

    template: CropTemplate = FACE_TEMPLATE
    size = 128
    code_size = 64
    noise_shape = (3, 128, 128)

    def __init__(self) -> None:
        spots = np.random.default_rng(0).integers(90, 190, (8, 8, 3), np.uint8)
        self._picture: Image = cv2.resize(spots, (self.size, self.size), interpolation=cv2.INTER_CUBIC)

    def generate(self, requests: Sequence[FaceRequest]) -> list[Image]:
        """The same for all."""
        return [self._picture for _ in requests]


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
    plan = analyze(clip, detector=detector, options=AnalyzeOptions(again=False))
    access = Access.of([SecretKey.generate()], [], plan.video.sha256)
    options = RenderOptions(
        seal=seal,  # type: ignore[arg-type]
        index=out.with_suffix(".rvx") if seal != "off" else None,
        codec="libx264",
        overwrite=True,
    )
    report = anonymize(clip, out, plan=plan, method=Diffusion(Portrait()), access=access, options=options)
    if report.fallbacks or not report.faces:
        raise SystemExit(f"{report.fallbacks} of {report.faces} faces fell back to grey: this measures nothing")


def compare(clip: Path, folder: Path, runs: int) -> dict[str, float]:
    """Ratios with nothing sealed and with the default seal."""
    out, detector = folder / "out.mkv", Recorded(clip)
    ways = {seal: partial(pipeline, clip, out, detector, seal) for seal in ("off", "visual")}
    return ratios.medians(partial(plain, clip, folder / "plain.mkv"), ways, runs)


if __name__ == "__main__":
    ratios.main(__doc__, compare)
