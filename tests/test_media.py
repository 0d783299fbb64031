"""Reading, writing and sealing on films encoded here: times, sound and tags survive, damage and full disks never do."""

from __future__ import annotations

import gc
import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from films import VFR, Film, make  # type: ignore[import-not-found]

from revisage.pipeline.errors import DamagedMediaError, MediaError, NoVideoError, OutputError
from revisage.pipeline.media import (
    Frame,
    VideoWriter,
    decode_clip,
    default_codec,
    encode_clip,
    encoders,
    file_digest,
    hidden,
    open_video,
    video_digest,
)
from revisage.pipeline.pixels import Planes, pixel_format
from revisage.pipeline.turn import Orientation

MS = Fraction(1, 1000)


def through(source: Path, output: Path, **settings: Any) -> VideoWriter:
    """Decode and write every frame unchanged, copying what is beside the pictures."""
    with open_video(source) as video, VideoWriter(output, video, copy_streams_from=source, **settings) as writer:
        for frame in video.frames():
            writer.write(frame, frame.planes)
    return writer


def times(path: Path) -> list[Fraction]:
    """Presentation times in seconds."""
    with open_video(path) as video:
        return [frame.pts * video.time_base for frame in video.frames()]


def packets(path: Path, kind: str) -> list[tuple[bytes, Fraction]]:
    """Payload and time in seconds of every packet of the streams of a kind."""
    with av.open(str(path)) as container:
        found = [p for p in container.demux() if p.size and p.stream.type == kind and bytes(p) != b"\0\0"]
        return [(bytes(p), p.pts * p.time_base) for p in found]


def all_planes(path: Path) -> list[Planes]:
    """Every frame's samples."""
    with open_video(path) as video:
        return [frame.planes for frame in video.frames()]


def psnr(a: Planes, b: Planes, peak: int) -> float:
    """Of the worst plane, in dB."""
    errors = [((x.astype(float) - y) ** 2).mean() for x, y in zip(a, b, strict=True)]
    return float(10 * np.log10(peak**2 / max(*errors, 1e-9)))


def leftovers(folder: Path) -> list[str]:
    """Hidden temporary files."""
    return [name.name for name in folder.iterdir() if ".part-" in name.name]


# --- times ---------------------------------------------------------------------------------------------------------


FILMS = {
    "cfr.mp4": Film(audio="aac"),
    "vfr.mp4": Film(time_base=MS, pts=VFR, audio="aac"),
    "vfr.mkv": Film(time_base=MS, pts=VFR, audio="libopus"),
    "ntsc.mp4": Film(time_base=Fraction(1001, 30000), pts=range(12), rate=30),
    "late-picture.mp4": Film(time_base=MS, pts=[500 + t for t in VFR], audio="aac"),
    "late-sound.mp4": Film(time_base=MS, pts=VFR, audio="aac", audio_start=0.3),
    "long-sound.mkv": Film(time_base=MS, audio="libopus", audio_seconds=2.0),
    "vp9.webm": Film(codec="libvpx-vp9", time_base=MS, pts=VFR, audio="libopus"),
    "hevc.mkv": Film(codec="libx265", time_base=MS, pts=VFR),
    "fine.mov": Film(time_base=Fraction(1, 90000), pts=[0, 3003, 6007, 9011, 12012, 20001], audio="aac"),
}


@pytest.mark.parametrize("name", FILMS)
def test_times_and_sound_are_exactly_those_of_the_source(name: str, tmp_path: Path) -> None:
    source, output = make(tmp_path / name, FILMS[name]), tmp_path / f"out{Path(name).suffix}"
    through(source, output)
    expected = [t * FILMS[name].time_base for t in FILMS[name].times()]
    assert times(source) == expected
    assert times(output) == expected
    assert packets(output, "audio") == packets(source, "audio")
    assert bool(packets(source, "audio")) == bool(FILMS[name].audio)


@pytest.mark.parametrize("pts", [VFR, [70 + t for t in VFR]])
def test_matroska_times_come_out_exactly_in_mp4(pts: list[int], tmp_path: Path) -> None:
    source = make(tmp_path / "in.mkv", Film(time_base=MS, pts=pts, audio="aac"))
    through(source, tmp_path / "out.mp4")
    assert times(tmp_path / "out.mp4") == [t * MS for t in pts]


def test_mp4_times_come_out_in_matroska_to_half_a_millisecond(tmp_path: Path) -> None:
    """Also where the sound's priming lies before zero, which must not push the picture back."""
    source = make(
        tmp_path / "in.mp4", Film(time_base=Fraction(1, 90000), pts=[0, 3003, 6007, 9011, 12012], audio="aac")
    )
    through(source, tmp_path / "out.mkv")
    shift = [abs(a - b) for a, b in zip(times(source), times(tmp_path / "out.mkv"), strict=True)]
    assert max(shift) <= MS / 2
    sound = zip(packets(source, "audio"), packets(tmp_path / "out.mkv", "audio"), strict=True)
    assert all(a[0] == b[0] and abs(a[1] - b[1]) <= MS / 2 for a, b in sound)


def test_frames_can_be_read_again_and_count_from_zero(tmp_path: Path) -> None:
    with open_video(make(tmp_path / "a.mp4")) as video:
        first = [(frame.index, frame.pts) for frame in video.frames()]
        assert first == [(frame.index, frame.pts) for frame in video.frames()]
        assert [index for index, _ in first] == list(range(12))
        assert video.frame_estimate == 12


def test_sound_is_interleaved_with_the_picture(tmp_path: Path) -> None:
    """A player must not have to read to the end of the file to find the sound of its beginning."""
    source = make(tmp_path / "in.mkv", Film(frames=100, time_base=MS, audio="libopus"))
    through(source, tmp_path / "out.mkv")
    with av.open(str(tmp_path / "out.mkv")) as container:
        order = [(p.stream.type, float((p.dts or p.pts or 0) * p.time_base)) for p in container.demux() if p.size]
    last = 0.0
    for kind, time in order:
        assert kind == "video" or abs(time - last) < 0.5
        last = max(last, time)


# --- what travels along --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "text"), [("a.mp4", "mov_text"), ("a.mkv", "subrip")])
def test_subtitles_chapters_and_language_survive(name: str, text: str, tmp_path: Path) -> None:
    base = MS if name.endswith("mkv") else Fraction(1, 12800)
    source = make(tmp_path / name, Film(time_base=base, audio="aac", subtitles=text, chapters=True))
    output = tmp_path / f"out{source.suffix}"
    through(source, output)
    assert len(packets(source, "subtitle")) == 2
    assert packets(output, "subtitle") == packets(source, "subtitle")
    with av.open(str(source)) as a, av.open(str(output)) as b:
        assert [c["metadata"] for c in b.chapters()] == [{"title": "Arrival"}, {"title": "Interview"}]
        assert [(c["start"], c["end"]) for c in b.chapters()] == [(c["start"], c["end"]) for c in a.chapters()]
        assert [s.language for s in b.streams.audio] == ["deu"]
        assert [s.disposition for s in b.streams.audio] == [s.disposition for s in a.streams.audio]


def test_tags_cover_art_and_titles_are_dropped_and_named(tmp_path: Path) -> None:
    tags = {"title": "Anna's testimony", "location": "+52.5000+013.4000/", "artist": "camera 7"}
    source = make(tmp_path / "in.mp4", Film(audio="aac", cover=True, tags=tags))
    writer = through(source, tmp_path / "out.mp4")
    content = (tmp_path / "out.mp4").read_bytes()
    for secret in (b"Anna", b"+52.5", b"camera 7", b"Lavf"):
        assert secret not in content
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [s.type for s in container.streams] == ["video", "audio"]
    assert "container tag location" in writer.dropped
    assert any("cover art" in line for line in writer.dropped)
    assert writer.dropped_metadata["tags"]["container"]["location"] == "+52.5000+013.4000/"
    assert writer.dropped_metadata["tags"]["container"]["title"] == "Anna's testimony"


def test_encoding_does_not_tell_the_number_of_cores(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4")
    through(source, tmp_path / "out.mp4", options={"threads": "3"})
    content = (tmp_path / "out.mp4").read_bytes()
    assert b"x264 - core" in content
    assert b"threads=3" not in content


def test_fonts_travel_in_matroska_and_are_named_when_dropped(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mkv", Film(time_base=MS, font=True))
    assert not through(source, tmp_path / "out.mkv").dropped_metadata["streams"]
    with av.open(str(source)) as a, av.open(str(tmp_path / "out.mkv")) as b:
        assert [s.data for s in a.streams if s.type == "attachment"] == [
            s.data for s in b.streams if s.type == "attachment"
        ]
        assert [s.name for s in b.streams if s.type == "attachment"] == ["letters.ttf"]
    assert any("attachment" in line for line in through(source, tmp_path / "out.mp4").dropped)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("degrees", [90, -90, 180, 0])
def test_rotation_is_kept_and_not_applied(degrees: int, suffix: str, tmp_path: Path) -> None:
    source = make(tmp_path / f"in{suffix}", Film(time_base=MS, rotation=degrees))
    through(source, tmp_path / f"out{suffix}")
    with open_video(source) as a, open_video(tmp_path / f"out{suffix}") as b:
        assert a.orientation == b.orientation == Orientation(degrees // 90 % 4)
        assert (b.width, b.height) == (96, 64)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_colour_tags_are_kept(suffix: str, tmp_path: Path) -> None:
    film = Film(codec="libx265", pix_fmt="yuv420p10le", time_base=MS, color=(1, 9, 16, 9))  # HDR10's
    source = make(tmp_path / f"in{suffix}", film)
    through(source, tmp_path / f"out{suffix}")
    with open_video(tmp_path / f"out{suffix}") as video:
        assert (video.color.range, video.color.primaries, video.color.transfer, video.color.space) == (1, 9, 16, 9)
        assert video.pix_fmt == pixel_format("yuv420p10le", 9, 1, 64)
        assert video.codec == "hevc"


# --- pixels --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "width", "height", "expected"),
    [
        ("libx264", "yuv420p", 96, 64, "libx264"),
        ("libx264", "yuv444p10le", 97, 65, "libx264"),
        ("libx264rgb", "rgb24", 97, 65, "libx264rgb"),
        ("libx265", "yuv420p12le", 96, 64, "libx265"),
        ("libvpx-vp9", "yuv420p", 97, 65, "libvpx-vp9"),
        ("ffv1", "yuv422p10le", 97, 65, "ffv1"),
        ("ffv1", "gray10le", 97, 65, "ffv1"),
        ("mjpeg", "yuvj422p", 96, 64, "mjpeg"),
        ("mpeg4", "yuv420p", 97, 65, "libvpx-vp9"),  # no more MPEG-4 part 2; x264 takes no odd sizes
        ("png", "rgb24", 97, 65, "png"),
        ("ffv1", "bgr0", 97, 65, "ffv1"),
        ("libsvtav1", "yuv420p10le", 96, 64, "libsvtav1"),
        ("rawvideo", "nv12", 96, 64, "libx264"),
    ],
)
def test_format_size_and_picture_survive(
    codec: str, pix_fmt: str, width: int, height: int, expected: str, tmp_path: Path
) -> None:
    film = Film(codec=codec, pix_fmt=pix_fmt, width=width, height=height, time_base=MS, color=(0, 1, 1, 2))
    suffix = ".mov" if codec == "png" else ".mkv"
    source = make(tmp_path / f"in{suffix}", film)
    assert through(source, tmp_path / f"out{suffix}").codec == expected
    with open_video(source) as a, open_video(tmp_path / f"out{suffix}") as b:
        assert a.pix_fmt.name.replace("yuvj", "yuv") == b.pix_fmt.name.replace("yuvj", "yuv")
        assert (b.width, b.height, b.pix_fmt.full_range) == (width, height, a.pix_fmt.full_range)
        peak = a.pix_fmt.peak
    pairs = list(zip(all_planes(source), all_planes(tmp_path / f"out{suffix}"), strict=True))
    assert min(psnr(x, y, peak) for x, y in pairs) > 30


@pytest.mark.parametrize(
    ("codec", "crf", "pix_fmt"),
    [
        ("libx264", 0, "yuv420p"),
        ("libx264", 0, "yuv420p10le"),
        ("libx265", 0, "yuv420p"),
        ("ffv1", None, "yuv422p10le"),
    ],
)
def test_lossless_settings_give_back_every_sample(codec: str, crf: int | None, pix_fmt: str, tmp_path: Path) -> None:
    source = make(tmp_path / "in.mkv", Film(codec="ffv1", pix_fmt=pix_fmt, time_base=MS))
    through(source, tmp_path / "out.mkv", codec=codec, crf=crf)
    for a, b in zip(all_planes(source), all_planes(tmp_path / "out.mkv"), strict=True):
        assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_full_range_reaches_an_encoder_that_has_no_name_for_it(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mkv", Film(codec="mjpeg", pix_fmt="yuvj420p", time_base=MS, color=(2, 1, 1, 2)))
    through(source, tmp_path / "out.webm", codec="libvpx-vp9", crf=0)
    with open_video(tmp_path / "out.webm") as video:
        assert video.pix_fmt.full_range
    for a, b in zip(all_planes(source), all_planes(tmp_path / "out.webm"), strict=True):
        assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_what_is_written_is_what_was_given(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mkv", Film(codec="ffv1", width=97, height=65, time_base=MS))
    with open_video(source) as video, VideoWriter(tmp_path / "out.mkv", video) as writer:
        for frame in video.frames():
            planes = frame.planes
            planes[0][10:20, 10:20] = frame.index
            writer.write(frame, planes)
    originals = all_planes(source)
    for index, (new, old) in enumerate(zip(all_planes(tmp_path / "out.mkv"), originals, strict=True)):
        assert np.all(new[0][10:20, 10:20] == index)
        old[0][10:20, 10:20] = index
        assert all(np.array_equal(a, b) for a, b in zip(new, old, strict=True))


@pytest.mark.parametrize("size", [(None, None), (48, 32)])
def test_rgb_for_detection_has_the_right_colours(size: tuple[int | None, int | None], tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4", Film(options={"crf": "5"}))
    with open_video(source) as video:
        rgb = next(iter(video.frames())).rgb(*size)
    assert rgb.dtype == np.uint8
    assert rgb.shape == (size[1] or 64, size[0] or 96, 3)
    corner = rgb[-4:, -4:].reshape(-1, 3).mean(0)
    assert corner[0] > 220
    assert corner[1] > 220
    assert np.ptp(rgb[: rgb.shape[0] // 4, :, 0]) > 150


# --- inputs that must be refused -----------------------------------------------------------------------------------


def test_a_missing_file_and_a_folder_are_errors(tmp_path: Path) -> None:
    for path in (tmp_path / "none.mp4", tmp_path):
        with pytest.raises(MediaError, match="is not a file"):
            open_video(path)


def test_files_without_video(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "notes.txt").write_text("only words\n" * 50)
    with av.open(str(tmp_path / "sound.mp4"), "w") as out:
        stream = out.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.int16), format="s16", layout="mono")
        frame.sample_rate = 48000
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    for name in ("empty.mp4", "notes.txt", "sound.mp4"):
        with pytest.raises(NoVideoError):
            open_video(tmp_path / name)


def test_a_video_of_zero_frames(tmp_path: Path) -> None:
    """The header promises a picture and none comes."""
    path = tmp_path / "none.mov"
    with av.open(str(path), "w", options={"movflags": "empty_moov"}) as out:
        stream = out.add_stream("prores_ks", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv422p10le"
        out.start_encoding()
    with pytest.raises(NoVideoError, match="without a single frame"):
        open_video(path)


def test_cover_art_is_not_the_video(tmp_path: Path) -> None:
    with open_video(make(tmp_path / "a.mp4", Film(cover=True))) as video:
        assert (video.width, video.codec) == (96, "h264")


LONG = Film(frames=60, time_base=MS)


@pytest.mark.parametrize(
    ("name", "film"),
    [
        ("plain.mp4", LONG),
        ("fast.mp4", Film(frames=60, time_base=MS, format={"movflags": "+faststart"})),
        (
            "fragments.mp4",
            Film(frames=60, time_base=MS, format={"movflags": "frag_keyframe+empty_moov"}, options={"g": "10"}),
        ),
        ("a.mkv", LONG),
        ("a.webm", Film(frames=60, codec="libvpx-vp9", time_base=MS)),
        ("lossless.mkv", Film(frames=60, codec="ffv1", time_base=MS)),
    ],
)
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_truncated_file_is_damaged(name: str, film: Film, share: float, tmp_path: Path) -> None:
    source = make(tmp_path / name, film)
    content = source.read_bytes()
    assert len(all_planes(source)) == 60
    source.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DamagedMediaError) as caught:
        all_planes(source)
    assert "ffmpeg -i" in str(caught.value)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_broken_bytes_in_the_middle_are_damage_with_a_time(suffix: str, tmp_path: Path) -> None:
    """Never a frame that shows something else than was filmed, and no silent gap."""
    source = make(tmp_path / f"a{suffix}", Film(frames=60, time_base=MS))
    content = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        packet = [p for p in container.demux() if p.size][30]
        assert packet.pos is not None
        content[packet.pos + 40 : packet.pos + packet.size] = bytes(packet.size - 40)
    source.write_bytes(content)
    with pytest.raises(DamagedMediaError, match=r"at 1\.\d\d s"):
        all_planes(source)


def test_a_lost_packet_is_damage(tmp_path: Path) -> None:
    """Times of the packets that came tell that a frame between them never did."""
    source = make(tmp_path / "a.mkv", Film(codec="libx264", time_base=MS, options={"bf": "0"}))
    with open_video(source) as video:
        events: list[Any] = []
        with av.open(str(source)) as container:
            for packet in container.demux(video=0):
                events += [packet] if packet.size else []
                events += packet.decode()
        frames = [e for e in events if isinstance(e, av.VideoFrame)]
        assert len(list(video._without_gaps(events))) == 12
        with pytest.raises(DamagedMediaError, match="does not decode at"):
            list(video._without_gaps([e for e in events if e is not frames[5]]))
        with pytest.raises(DamagedMediaError, match="breaks off at"):
            list(video._without_gaps([e for e in events if e is not frames[-1]]))


def test_a_change_of_size_is_damage(tmp_path: Path) -> None:
    base, parts = Fraction(1, 90000), {96: range(0, 43200, 3600), 128: range(270000, 313200, 3600)}
    small, large = (make(tmp_path / f"{w}.ts", Film(width=w, time_base=base, pts=pts)) for w, pts in parts.items())
    joined = tmp_path / "both.ts"
    joined.write_bytes(small.read_bytes() + large.read_bytes())
    with pytest.raises(DamagedMediaError, match="one size"):
        all_planes(joined)


def test_a_colon_in_a_name_is_no_protocol(tmp_path: Path) -> None:
    assert len(all_planes(make(tmp_path / "a.mp4").rename(tmp_path / "http:a.mp4"))) == 12


# --- outputs that must not appear ----------------------------------------------------------------------------------


@pytest.mark.parametrize("link", ["same", "symlink", "hardlink"])
def test_the_input_is_never_overwritten(link: str, tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4")
    digest = file_digest(source)
    output = source if link == "same" else tmp_path / "out.mp4"
    if link != "same":
        (os.symlink if link == "symlink" else os.link)(source, output)
    with pytest.raises(OutputError, match="input itself"):
        through(source, output, overwrite=True)
    assert file_digest(source) == digest


def test_an_existing_output_stays_unless_overwrite(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4")
    output = tmp_path / "out.mp4"
    output.write_text("precious")
    with pytest.raises(OutputError, match="--overwrite"):
        through(source, output)
    assert output.read_text() == "precious"
    through(source, output, overwrite=True)
    assert times(output) == times(source)


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt()])
def test_nothing_appears_after_an_exception(error: BaseException, tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4", Film(audio="aac"))
    output = tmp_path / "out.mp4"
    output.write_text("precious")

    def fail() -> None:
        with (
            open_video(source) as video,
            VideoWriter(output, video, copy_streams_from=source, overwrite=True) as writer,
        ):
            for frame in video.frames():
                writer.write(frame, frame.planes)
                assert output.read_text() == "precious"
                if frame.index == 5:
                    raise error

    with pytest.raises(type(error)):
        fail()
    gc.collect()
    assert output.read_text() == "precious"
    assert not leftovers(tmp_path)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """The kernel refuses to let any file of this process grow beyond `size` bytes, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("limit", [0, 60_000])
def test_a_full_disk_is_one_clear_line_and_leaves_nothing(limit: int, suffix: str, tmp_path: Path) -> None:
    source = make(tmp_path / f"in{suffix}", Film(frames=60, time_base=MS))
    with largest_file(limit), pytest.raises(OutputError, match="cannot write") as caught:
        through(source, tmp_path / f"out{suffix}", crf=1)
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == [source.name]


def test_an_interrupt_inside_a_write_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg calls back into Python to write; an interrupt there must stop the program and leave no file."""

    def stop(self: Any) -> Any:
        raise KeyboardInterrupt

    source = make(tmp_path / "in.mkv", Film(time_base=MS))
    with open_video(source) as video:
        with pytest.raises(KeyboardInterrupt), VideoWriter(tmp_path / "out.mkv", video) as writer:
            monkeypatch.setattr(hidden, "memoryview", stop, raising=False)
            for frame in video.frames():
                writer.write(frame, frame.planes)
        monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["in.mkv"]


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4")
    with pytest.raises(OutputError, match="make the folder"):
        through(source, tmp_path / "none" / "out.mp4")
    with pytest.raises(OutputError, match="is a folder"):
        (tmp_path / "folder.mp4").mkdir()
        through(source, tmp_path / "folder.mp4")
    with pytest.raises(OutputError, match=r"\.mkv"):
        through(source, tmp_path / "out.avi")


def test_an_unwritable_folder(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4")
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(stat.S_IRUSR | stat.S_IXUSR)
    if os.geteuid() == 0:  # who may write anywhere but into the kernel's own folders
        locked = Path("/sys/kernel")
    if not locked.is_dir():
        pytest.skip("no folder that root may not write to")
    with pytest.raises(OutputError, match="may write"):
        through(source, locked / "out.mp4")


def test_text_that_the_container_does_not_hold_is_converted_and_said(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mkv", Film(time_base=MS, subtitles="subrip"))
    writer = through(source, tmp_path / "out.mp4")
    assert [line for line in writer.converted if "mov_text" in line] == writer.converted != []
    assert [bytes(p)[2:] for p in raw(tmp_path / "out.mp4", "subtitle")] == [bytes(p) for p in raw(source, "subtitle")]
    back = through(tmp_path / "out.mp4", tmp_path / "back.mkv")
    assert back.converted
    assert packets(tmp_path / "back.mkv", "subtitle") == packets(source, "subtitle")


def test_strict_streams_refuse_before_a_file_is_made(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mkv", Film(time_base=MS, subtitles="subrip"))
    with open_video(source) as video, pytest.raises(OutputError, match=r"subtitle stream 1 .* mov_text.*strict"):
        VideoWriter(tmp_path / "out.mp4", video, copy_streams_from=source, strict_streams=True)
    assert [p.name for p in tmp_path.iterdir()] == ["in.mkv"]


@pytest.mark.parametrize(("sound", "name", "codec"), [("pcm_alaw", "out.mp4", "aac"), ("aac", "out.webm", "opus")])
def test_sound_that_the_container_does_not_hold_is_converted(sound: str, name: str, codec: str, tmp_path: Path) -> None:
    source = make(tmp_path / ("in.mov" if sound == "pcm_alaw" else "in.mp4"), Film(frames=25, audio=sound))
    writer = through(source, tmp_path / name)
    assert len(writer.converted) == 1
    with av.open(str(source)) as a, av.open(str(tmp_path / name)) as b:
        (stream,) = b.streams.audio
        assert stream.codec_context.codec.canonical_name == codec
        lengths = [sum(f.samples / f.sample_rate for f in c.decode(audio=0)) for c in (a, b)]
    assert abs(lengths[0] - lengths[1]) < 0.05


def raw(path: Path, kind: str) -> list[av.Packet]:
    with av.open(str(path)) as container:
        return [p for p in container.demux() if p.stream.type == kind and p.size > 2]


def test_a_broadcasts_clock_is_taken_off_and_the_last_frame_keeps_its_length(tmp_path: Path) -> None:
    """Sound goes where it was beside the picture."""
    source = make(
        tmp_path / "in.ts",
        Film(time_base=Fraction(1, 90000), pts=[3600 * (i + 100) for i in range(25)], audio="aac", audio_start=4),
    )
    for name in ("out.mp4", "out.mkv"):
        through(source, tmp_path / name)
        shift = times(source)[0]
        assert shift > 1
        assert all(abs(a - shift - b) <= MS / 2 for a, b in zip(times(source), times(tmp_path / name), strict=True))
        apart = [float(packets(f, "audio")[-1][1] - times(f)[-1]) for f in (source, tmp_path / name)]
        assert abs(apart[0] - apart[1]) < 0.001
    with av.open(str(tmp_path / "out.mp4")) as container:
        (video,) = container.streams.video
        assert video.duration * video.time_base == 1


def test_the_last_frame_is_shown_as_long_as_it_was(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4", Film(rate=10, frames=5))
    through(source, tmp_path / "out.mp4")
    with av.open(str(source)) as a, av.open(str(tmp_path / "out.mp4")) as b:
        lengths = [c.streams.video[0].duration * c.streams.video[0].time_base for c in (a, b)]
    assert lengths[0] == lengths[1]


def test_hevc_in_mp4_is_what_apples_players_play_and_the_index_stands_in_front(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4", Film(codec="libx265", audio="aac"))
    through(source, tmp_path / "out.mp4")
    content = (tmp_path / "out.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    assert b"hvc1" in content
    assert b"hev1" not in content
    assert len(times(tmp_path / "out.mp4")) == 12, "offsets fit: every frame decodes"


def test_mastering_display_and_light_level_are_kept_or_named(tmp_path: Path) -> None:
    light = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50):max-cll=1000,400"
    params = f"log-level=none:info=0:repeat-headers=1:hdr10=1:{light}"
    film = Film(codec="libx265", pix_fmt="yuv420p10le", options={"x265-params": params})
    source = make(tmp_path / "in.mp4", film)
    assert through(source, tmp_path / "out.mp4").losses == []
    with open_video(source) as a, open_video(tmp_path / "out.mp4") as b:
        assert a.hdr is not None
        assert a.hdr.light == (1000, 400)
        assert b.hdr == a.hdr
    assert "mastering display" in through(source, tmp_path / "out.mkv", codec="ffv1").losses


def test_fields_stay_fields(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4", Film(options={"flags": "+ildct+ilme", "x264-params": "bff=1"}))
    with open_video(source) as video:
        assert video.interlaced
    assert through(source, tmp_path / "out.mp4").losses == []
    with open_video(tmp_path / "out.mp4") as video:
        assert video.interlaced
        assert video.bottom_first
    assert "field order" in through(source, tmp_path / "out.webm", codec="libvpx-vp9").losses


# --- encoders ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["libx266", "aac", ""])
def test_an_unknown_encoder_lists_those_that_work(name: str, tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4")
    with pytest.raises(OutputError, match="libx264, "):
        through(source, tmp_path / "out.mp4", codec=name or "h264_nothing")


def test_odd_sizes_need_another_encoder_and_say_so(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mkv", Film(codec="ffv1", width=97, height=65, time_base=MS))
    with pytest.raises(OutputError, match=r"odd size 97x65.*--codec"):
        through(source, tmp_path / "out.mkv", codec="libx264")
    assert default_codec("h264", pixel_format("yuv420p", 1, 1, 65), 97, 65, "mp4") == "libvpx-vp9"
    assert default_codec("h264", pixel_format("yuv420p", 1, 1, 64), 96, 64, "webm") == "libvpx-vp9"
    with pytest.raises(OutputError, match="no encoder here"):
        default_codec("h264", pixel_format("yuv420p14le", 1, 1, 64), 96, 64, "webm")
    with pytest.raises(OutputError, match="leave out --crf"):
        through(source, tmp_path / "out.mkv", codec="ffv1", crf=20)
    assert {"libx264", "ffv1", "libvpx-vp9"} <= set(encoders())


# --- digests -------------------------------------------------------------------------------------------------------


def test_the_video_digest_is_that_of_the_packets_not_of_the_file(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mp4", Film(audio="aac"))
    with av.open(str(source)) as a, av.open(str(tmp_path / "b.mkv"), "w") as b:
        stream = b.add_stream_from_template(a.streams.video[0], opaque=True)
        for packet in a.demux(a.streams.video[0]):
            if packet.size:
                packet.stream = stream
                b.mux(packet)
    assert video_digest(source) == video_digest(tmp_path / "b.mkv")
    assert file_digest(source) != file_digest(tmp_path / "b.mkv")
    other = make(tmp_path / "c.mp4", Film(audio="aac", options={"crf": "21"}))
    assert video_digest(source) != video_digest(other)


# --- clips of the seal ---------------------------------------------------------------------------------------------

CLIP_FORMATS = ["yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le"]
CLIP_FORMATS += ["yuv420p12le", "gray", "gbrp", "gbrp10le"]


def clip_tiles(fmt: Any, width: int, height: int, kind: str, count: int = 8) -> tuple[list[Planes], list[Any]]:
    """White noise is the hardest content there is, a smooth moving wave the easiest to see errors in."""
    rng = np.random.default_rng(5)
    tiles: list[Planes] = []
    for i in range(count):
        planes = []
        for rows, columns in fmt.plane_shapes(width, height):
            y, x = np.mgrid[0:rows, 0:columns]
            wave = (np.sin(x / 20 + i / 5) + np.cos(y / 15)) * 0.2 * fmt.peak + fmt.peak / 2
            planes.append(
                (rng.integers(0, fmt.peak + 1, (rows, columns)) if kind == "noise" else wave).astype(fmt.dtype)
            )
        tiles.append(planes)
    return tiles, [rng.random((height, width)) > 0.5 for _ in range(count)]


@pytest.mark.parametrize("kind", ["noise", "smooth"])
@pytest.mark.parametrize("name", CLIP_FORMATS)
def test_a_visual_clip_keeps_forty_decibels_whatever_it_shows(name: str, kind: str) -> None:
    fmt = pixel_format(name, 1, 0, 1080)
    tiles, masks = clip_tiles(fmt, 93, 71, kind)
    data = encode_clip(tiles, masks, fmt, lossless=False, pts=range(1000, 1008), time_base=Fraction(1, 25))
    result = list(decode_clip(data, fmt, 93, 71))
    assert len(result) == 8
    for (tile, mask), original, wanted in zip(result, tiles, masks, strict=True):
        assert psnr(tile, original, fmt.peak) >= 40
        assert np.array_equal(mask, wanted)
        assert [p.dtype for p in tile] == [p.dtype for p in original]


@pytest.mark.parametrize("name", CLIP_FORMATS)
@pytest.mark.parametrize("size", [(93, 71), (1, 1), (2, 3)])
def test_a_lossless_clip_gives_back_every_sample(name: str, size: tuple[int, int]) -> None:
    fmt = pixel_format(name, 1, 0, 1080)
    tiles, masks = clip_tiles(fmt, *size, "noise")
    data = encode_clip(tiles, masks, fmt, lossless=True, pts=VFR[:8], time_base=MS)
    result = list(decode_clip(data, fmt, *size))
    for (tile, mask), original, wanted in zip(result, tiles, masks, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(tile, original, strict=True))
        assert np.array_equal(mask, wanted)


# Above 352 x 288 FFV1 must be cut into slices, which FFmpeg refuses for some narrow and odd sizes.
LARGE = [(353, 288), (352, 290), (1001, 703), (1, 301), (2, 301), (301, 3), (9, 2159), (3839, 5)]


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("name", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv411p", "gray", "gbrp"])
@pytest.mark.parametrize("size", LARGE)
def test_tiles_of_close_ups_come_back(size: tuple[int, int], name: str, lossless: bool) -> None:
    comes_back(name, size, lossless)


@pytest.mark.parametrize("lossless", [True, False])
def test_a_face_that_fills_a_picture_of_4k_comes_back(lossless: bool) -> None:
    comes_back("yuv420p10le", (3840, 2160), lossless, frames=1)


def comes_back(name: str, size: tuple[int, int], lossless: bool, frames: int = 2) -> None:
    fmt = pixel_format(name, 1, 0, 1080)
    tiles, masks = clip_tiles(fmt, *size, "smooth", frames)
    data = encode_clip(tiles, masks, fmt, lossless=lossless, pts=range(frames), time_base=Fraction(1, 25))
    result = list(decode_clip(data, fmt, *size))
    assert len(result) == frames
    for (tile, mask), original, wanted in zip(result, tiles, masks, strict=True):
        assert [plane.shape for plane in tile] == [plane.shape for plane in original]
        assert psnr(tile, original, fmt.peak) >= (120 if lossless else 40)
        assert np.array_equal(mask, wanted)
        if lossless:
            assert all(np.array_equal(a, b) for a, b in zip(tile, original, strict=True))


def test_what_no_encoder_takes_is_one_clear_line() -> None:
    fmt = pixel_format("yuv420p", 1, 0, 1080)
    huge = [np.broadcast_to(np.uint8(16), shape) for shape in fmt.plane_shapes(40_000, 2)]
    with pytest.raises(MediaError, match="cannot be sealed"):
        encode_clip([huge], [np.ones((2, 40_000), bool)], fmt, lossless=False, pts=[0], time_base=MS)


def test_a_clip_is_an_ordinary_matroska_file_and_the_same_each_time() -> None:
    fmt = pixel_format("yuv420p", 1, 1, 1080)
    tiles, masks = clip_tiles(fmt, 32, 32, "smooth")
    data = encode_clip(tiles, masks, fmt, lossless=True, pts=range(8), time_base=Fraction(1, 25))
    assert data == encode_clip(tiles, masks, fmt, lossless=True, pts=range(8), time_base=Fraction(1, 25))
    assert data[:4] == b"\x1aE\xdf\xa3"
    assert b"Lavf6" not in data


@pytest.mark.parametrize("cut", [0, 10, 200, -400, -40])
def test_a_damaged_clip_is_an_error(cut: int) -> None:
    fmt = pixel_format("yuv420p", 1, 1, 1080)
    tiles, masks = clip_tiles(fmt, 32, 32, "noise")
    data = encode_clip(tiles, masks, fmt, lossless=True, pts=range(8), time_base=Fraction(1, 25))
    with pytest.raises(DamagedMediaError):
        assert len(list(decode_clip(data[:cut], fmt, 32, 32))) == 8


def test_a_clip_of_another_size_or_format_is_an_error() -> None:
    fmt = pixel_format("yuv420p", 1, 1, 1080)
    tiles, masks = clip_tiles(fmt, 32, 32, "smooth")
    data = encode_clip(tiles, masks, fmt, lossless=False, pts=range(8), time_base=Fraction(1, 25))
    for other, size in ((fmt, (34, 32)), (fmt, (32, 30)), (pixel_format("yuv444p", 1, 1, 1080), (32, 32))):
        with pytest.raises(DamagedMediaError):
            list(decode_clip(data, other, *size))
    with pytest.raises(ValueError, match="as many masks"):
        encode_clip(tiles, masks[1:], fmt, lossless=True, pts=range(8), time_base=MS)


# --- memory --------------------------------------------------------------------------------------------------------


def test_reading_holds_no_frames(tmp_path: Path) -> None:
    """Frames that were handed out and let go are gone, however long the video."""
    source = make(tmp_path / "a.mkv", Film(frames=80, time_base=MS))
    most = 0
    with open_video(source) as video:
        for frame in video.frames():
            if frame.index % 20 == 19:
                most = max(most, sum(issubclass(type(o), Frame) for o in gc.get_objects()))
    assert 1 <= most < 10  # the one in hand, and what other tests may have left


# --- what lies outside an edit list -------------------------------------------------------------------------------


def test_what_was_trimmed_away_is_not_contained(tmp_path: Path) -> None:
    """An edit list that begins in the middle: the sound before it is not in the output at all."""
    whole, trimmed = (
        make(tmp_path / "whole.mp4", Film(frames=50, audio="aac", options={"g": "50"})),
        tmp_path / "in.mp4",
    )
    _trim(whole, trimmed, Fraction(1))
    cut_away = {p for p, time in _contents(trimmed) if time < -Fraction(6, 100)}
    kept = {p for p, time in _contents(trimmed) if time > -Fraction(1024, 48000)}  # the first reaches into the span
    assert len(cut_away) > 30, "the source contains it"
    for name in ("out.mp4", "out.mkv"):
        through(trimmed, tmp_path / name)
        written = {p for p, _ in _contents(tmp_path / name)}
        assert not written & cut_away
        assert written == kept
        with av.open(str(tmp_path / name)) as container:
            assert sum(1 for _ in container.decode(video=0)) == 25


def _contents(path: Path) -> list[tuple[bytes, Fraction]]:
    """Every packet of sound that differs from silence's, and when it is to be heard."""
    with av.open(str(path)) as container:
        found = [(bytes(p), p.pts * p.time_base) for p in container.demux(audio=0) if p.size]
    return found


def _trim(source: Path, target: Path, start: Fraction) -> None:
    """Copy packets from before `start` on with negative times, which MP4 writes as an edit list."""
    with av.open(str(source)) as a, av.open(str(target), "w") as b:
        streams = {s.index: b.add_stream_from_template(s) for s in a.streams}
        for packet in a.demux():
            if packet.size:
                shift = round(start / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = streams[packet.stream_index]
                b.mux(packet)
