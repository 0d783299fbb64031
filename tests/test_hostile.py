"""What a hostile file can cost: time, memory, threads, and no tracebacks."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
import time
import tracemalloc
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from commands import run
from films import Film, make
from test_index import DIGEST, KEY, SECRET, SETTINGS, _contents, _document, _forged, _make, _pack

from revisage.pipeline import limits
from revisage.pipeline.errors import IndexFileError, PlanError, TamperedError
from revisage.pipeline.geometry import face_region
from revisage.pipeline.media import encode_clip
from revisage.pipeline.pixels import pixel_format
from revisage.pipeline.plan import dump_plan, load_plan, parse_plan
from revisage.pipeline.recover import _patches, _Sources
from revisage.pipeline.types import VideoInfo
from revisage.pipeline.vault import keys
from revisage.pipeline.vault.document import Placement, TrackRecord, clip_name
from revisage.pipeline.vault.index import IndexWriter, open_index
from revisage.pipeline.verification.expected import expected

GREY = pixel_format("gray", 0, 2, 144)
PICTURE = VideoInfo(176, 144, Fraction(1, 25), "gray", 100, "0" * 64)


class _Cost:
    """Python's memory at its highest, in bytes, and processor time in seconds."""

    def __enter__(self) -> _Cost:
        tracemalloc.start()
        self._began = time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds, self.memory = time.process_time() - self._began, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()


def _zip(manifest: bytes, how: int) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", how) as file:
        for name, content in (("tracks/0001/track.age", b""), ("index.age", b""), ("manifest.json", manifest),
                              ("manifest.sig", bytes(64))):  # fmt: skip
            file.writestr(name, content)
    return stream.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("how", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED], ids=["deflated", "stored"])
def test_a_large_manifest_is_refused_before_it_is_read(how: int) -> None:
    """384 kB of deflated JSON once cost 59 s and 7.5 GB; a stored manifest of 60 MB, 1.7 GB."""
    million = b'{"format":"revisage-rvx","version":3,"entries":[' + b"[]," * 20_000_000 + b"[]]}"
    data = _zip(million, how)
    with _Cost() as cost, pytest.raises(IndexFileError):
        open_index(io.BytesIO(data))
    assert cost.memory < 200 << 20
    assert cost.seconds < 3


def test_an_archive_of_very_many_entries_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ENTRIES", 100)
    sound = _contents(_make({1: 1}))
    many = {f"tracks/0001/{number:06d}.age": b"" for number in range(200)} | sound
    with pytest.raises(TamperedError, match="more entries"):
        open_index(io.BytesIO(_pack(many)))


@pytest.mark.parametrize("name", ["index.age", clip_name(1, 0), "tracks/0001/000000.json.age", "tracks/0001/track.age"])
def test_an_entry_of_unheard_size_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("INDEX", "SHEET", "PLACEMENT", "CLIP"):
        monkeypatch.setattr(limits, kind, 5000)
    open_index(io.BytesIO(_make({1: 1})))
    large = _forged(_make({1: 1}), lambda c: {**c, name: bytes(100_000)}, SECRET)
    with pytest.raises(TamperedError, match="larger than any"):
        open_index(io.BytesIO(large))


@pytest.mark.parametrize(
    "entry",
    [
        {"name": [1], "size": 1, "sha256": "0" * 64},
        {"name": "index.age", "size": "1", "sha256": "0" * 64},
        {"name": "index.age", "size": True, "sha256": "0" * 64},
        {"name": "index.age", "size": -1, "sha256": "0" * 64},
        {"name": "index.age", "size": 1, "sha256": None},
        {"name": "x" * 65, "size": 1, "sha256": "0" * 64},
        [1, 2],
    ],
)
def test_manifest_entries_of_wrong_types(entry: Any) -> None:
    contents = _contents(_make({1: 1}))
    fields = json.loads(contents["manifest.json"])
    fields["entries"][0] = entry
    with pytest.raises(TamperedError):
        open_index(io.BytesIO(_pack({**contents, "manifest.json": json.dumps(fields).encode()})))


@pytest.mark.parametrize("digits", [5000, 100_000])
def test_numbers_of_thousands_of_digits(digits: int) -> None:
    number = "9" * digits
    contents = _contents(_make({1: 1}))
    broken = contents["manifest.json"].replace(b'"size":', f'"size":{number}'.encode(), 1)
    with pytest.raises(IndexFileError):
        open_index(io.BytesIO(_pack({**contents, "manifest.json": broken})))
    with pytest.raises(PlanError, match="too long"):
        parse_plan(f'{{"version": {number}}}')


# ------------------------------------------------------------------------------------------------------------ geometry


def _plan_with(box: list[float], track: int = 1) -> str:
    face = {"frame": 0, "box": box, "points": [[20, 20]] * 5, "origin": "detected", "score": 1}
    video = {"width": 176, "height": 144, "time_base": "1/25", "pix_fmt": "gray", "frames": 1, "sha256": "0" * 64}
    return json.dumps({"format": "revisage-plan", "version": 1, "video": video, "detector": "x", "pts": [0],
                       "tracks": [{"id": track, "faces": [face]}]})  # fmt: skip


@pytest.mark.parametrize("far", [20_000, 900_000, 1e300])
def test_geometry_far_outside_is_refused_when_it_is_read(far: float) -> None:
    for box in ([-far, 0, 40, 40], [0, 0, far, 40], [-far, -far, far, far]):
        with pytest.raises(PlanError):
            parse_plan(_plan_with(box))
        rows = [[0, *box, *[20.0] * 10]]
        document = replace(_document(SECRET, {}), tracks=(TrackRecord(1, 0, 9, 0, rows),))
        document = replace(document, settings=replace(SETTINGS, video=PICTURE))
        with pytest.raises(TamperedError, match="places of track 1"):
            expected(_Opened(document))  # type: ignore[arg-type]
    assert parse_plan(_plan_with([-500, -500, 600, 600]))


class _Opened:
    def __init__(self, document: Any) -> None:
        self.document, self.settings = document, document.settings


@pytest.mark.parametrize("track", [0, 1 << 32, 1 << 40])
def test_ids_that_fit_no_key_are_refused(track: int) -> None:
    with pytest.raises(PlanError, match="id"):
        parse_plan(_plan_with([0, 0, 9, 9], track))
    assert parse_plan(_plan_with([0, 0, 9, 9], (1 << 32) - 1))


@pytest.mark.parametrize("far", [300, 1_400, 5_000, 100_000])
def test_a_box_beyond_the_picture_is_not_drawn_there(far: int) -> None:
    """±5,000 px on 176 x 144 once took 2.2 GB; every pixel of the picture that it covers is still covered."""
    points = np.array([[-far, -far], [far, -far], [far, far], [-far, far]], np.float32)
    with _Cost() as cost:
        region = face_region(points, (-far, -far, far, far), 20.0, GREY, 176, 144)
    assert cost.memory < 8 << 20
    assert region is not None
    assert region.cover.all()
    assert region.cover.shape == (144, 176)
    assert face_region(points, (-far, -far, far, far), far, GREY, 176, 144) is not None


@pytest.mark.parametrize("seed", range(30))
def test_what_is_drawn_inside_does_not_depend_on_how_much_is_drawn_outside(seed: int) -> None:
    """The picture alone, or the picture as a part of one so large that nothing of the face is cut off."""
    rng = np.random.default_rng(seed)
    centre, size = rng.uniform(-40, 220, 2), rng.uniform(10, 160)
    points = (centre + rng.uniform(-size, size, (20, 2))).astype(np.float32)
    box = (*(centre - size).tolist(), *(centre + size).tolist())
    unit, shift = float(rng.uniform(4, 80)), 400
    near = face_region(points, box, unit, GREY, 176, 144)
    moved = tuple(v + shift for v in box)
    far = face_region(points + np.float32(shift), moved, unit, GREY, 2000, 2000)  # type: ignore[arg-type]
    assert far is not None
    whole = np.zeros((2000, 2000), np.float32)
    whole[far.rect.inside] = far.alpha
    mine = np.zeros((144, 176), np.float32)
    if near is not None:
        mine[near.rect.inside] = near.alpha
    np.testing.assert_allclose(mine, whole[shift : shift + 144, shift : shift + 176], atol=2e-3)


# --------------------------------------------------------------------------------------------------------------- clips


def _clip(count: int) -> bytes:
    tiles = [[np.full((18, 16), 40 + i, np.uint8)] for i in range(count)]
    masks = [np.ones((18, 16), np.bool_)] * count
    return encode_clip(tiles, masks, GREY, lossless=True, pts=list(range(count)), time_base=Fraction(1, 25))


def _sealed(folder: Path, clip: bytes, *, origin: tuple[int, int] = (0, 2), canvas: tuple[int, int] = (16, 18),
            frames: tuple[int, ...] = (0, 1, 2), first: int = 0, tracks: int = 1) -> Path:  # fmt: skip
    """An index of `tracks` that are all like this."""
    path = folder / "v.rvx"
    with IndexWriter(path, SECRET, [KEY.recipient], owner=KEY.owner) as writer:
        place = Placement(canvas, frames, (origin,) * len(frames), tuple(range(len(frames))))
        for track in range(1, tracks + 1):
            writer.add_segment(track, 0, clip, place)
        records = tuple(TrackRecord(track, first, 99, 0) for track in range(1, tracks + 1))
        document = replace(_document(SECRET, {}), settings=replace(SETTINGS, video=PICTURE, seal="lossless"))
        writer.finish(replace(document, tracks=records), DIGEST)
    return path


@pytest.mark.parametrize(
    "wrong",
    [
        {"origin": (1, 2)},
        {"origin": (0, 3)},
        {"origin": (162, 2)},
        {"origin": (0, 128)},
        {"origin": (60_000, 60_000)},
        {"canvas": (16, 146)},
        {"canvas": (65_536, 65_536)},
        {"frames": (98, 99, 100)},
        {"first": 1},
    ],
    ids=str,
)
def test_clips_off_the_grid_or_beyond_the_video_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    clip = _clip(3)
    with open_index(_sealed(tmp_path, clip)) as reader:
        assert len(list(reader.unlock(KEY).segments(1))) == 1
    (tmp_path / "v.rvx").unlink()
    with (
        open_index(_sealed(tmp_path, clip, **wrong)) as reader,
        pytest.raises(TamperedError, match="outside the video"),
    ):
        list(reader.unlock(KEY).segments(1))


@pytest.mark.parametrize(("count", "says"), [(2, "too early"), (4, "too long"), (3, None)])
def test_a_placement_has_as_many_frames_as_its_clip(tmp_path: Path, count: int, says: str | None) -> None:
    with open_index(_sealed(tmp_path, _clip(count))) as reader:
        unlocked = reader.unlock(KEY)
        if says is None:
            assert len(list(_patches(unlocked, 1, GREY))) == 3
            return
        with pytest.raises(TamperedError, match=says):
            list(_patches(unlocked, 1, GREY))


def test_decoders_are_opened_when_the_film_comes_to_them(tmp_path: Path) -> None:
    """500 tracks once opened 2,008 threads, those that are over in an hour too."""
    before, clip, most = threading.active_count(), _clip(3), 0
    path = tmp_path / "v.rvx"
    with IndexWriter(path, SECRET, [KEY.recipient]) as writer:
        for track in range(1, 31):
            frames = tuple(range(3 * track, 3 * track + 3))
            writer.add_segment(track, 0, clip, Placement((16, 18), frames, ((0, 2),) * 3, (0, 1, 2)))
        records = tuple(TrackRecord(track, 3 * track, 3 * track + 2, 0) for track in range(1, 31))
        document = replace(_document(SECRET, {}), settings=replace(SETTINGS, video=PICTURE, seal="lossless"))
        writer.finish(replace(document, tracks=records), DIGEST)
    with open_index(path) as reader:
        sources, restored = _Sources(reader.unlock(KEY), range(1, 31), GREY), 0
        with pytest.raises(TamperedError, match="does not have"):
            sources.check_complete()
        for frame in range(100):
            restored += len(list(sources.patches(frame)))
            most = max(most, len(sources._open))
        sources.check_complete()
    assert (restored, most) == (90, 1)
    assert threading.active_count() == before


THREADS = """
import sys, os
from pathlib import Path
from revisage.pipeline.recover import _Sources
from revisage.pipeline.pixels import pixel_format
from revisage.pipeline.vault.index import open_index
from revisage.pipeline.vault.keys import SecretKey
def threads():
    return len(os.listdir("/proc/self/task"))
before = threads()
with open_index(Path(sys.argv[1])) as reader:
    unlocked = reader.unlock(SecretKey(bytes(range(32))))
    sources = _Sources(unlocked, unlocked.track_ids, pixel_format("gray", 0, 2, 144))
    assert len(list(sources.patches(0))) == 60
    print(threads() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads as Linux shows them")
def test_a_decoder_has_one_thread(tmp_path: Path) -> None:
    path = _sealed(tmp_path, _clip(3), tracks=60)
    done = subprocess.run([sys.executable, "-c", THREADS, path], capture_output=True, text=True, check=True)
    assert int(done.stdout) <= 8


# ---------------------------------------------------------------------------------------------- the command line, whole


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    make(folder / "f.mp4", Film(frames=3))
    (folder / "k").write_text(keys._identity_text(bytes(range(32))) + "\n")
    (folder / "k").chmod(0o600)
    return folder


def test_no_file_makes_the_command_line_raise(film: Path) -> None:
    """Rubbish where an index, a plan, detections or a key belong: one line, and the code of failure."""
    for number, rubbish in enumerate((b"", b"[" * 100_000, b"PK\3\4" * 99, bytes(500), b'{"format":"revisage-plan"}')):
        bad = film / f"bad{number}.rvx"
        bad.write_bytes(rubbish)
        words: list[list[object]] = [
            ["inspect", bad],
            ["inspect", bad, "--key", film / "k"],
            ["inspect", film / "f.mp4", "--key", bad],
            ["grant", bad, "--key", film / "k", "--track", 1, "-o", film / "t"],
            ["anonymize", film / "f.mp4", "-o", film / "o.mp4", "--key", film / "k", "--plan", bad],
            ["recover", film / "f.mp4", "-o", film / "o.mp4", "--key", film / "k", "--index", bad],
        ]
        for line in words:
            result = run(*line)
            assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1), (line, result.output)
            assert "in revisage itself" not in result.stderr, line


@pytest.fixture(scope="module")
def fuzz() -> Iterator[ModuleType]:
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("fuzz", Path(__file__).parent / "benchmarks" / "fuzz.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module


@pytest.mark.parametrize("kind", ["plan", "detections", "index", "label", "key"])
def test_a_thousand_hostile_inputs_of_each_kind(fuzz: ModuleType, kind: str) -> None:
    """The benchmark has a million; these are other ones, and the corpus."""
    result = fuzz.fuzzed(kind, 1000, 20, fuzz.CORPUS)
    assert result["failures"] == []
    assert result["corpus"] >= 2
    assert result["outcomes"].get("read", 0) > 50 or kind == "key"  # the generator knows what is sound, too


def test_plans_that_are_written_are_read(tmp_path: Path) -> None:
    plan = parse_plan(_plan_with([-300.5, -20, 190, 160]))
    (tmp_path / "p").write_text(dump_plan(plan))
    assert load_plan(tmp_path / "p").tracks[0].faces[0].box == plan.tracks[0].faces[0].box
