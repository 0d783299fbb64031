"""Where outputs may go: what would fail after the work had better fail before it. Knows no key and no model."""

from __future__ import annotations

from pathlib import Path

from revisage.pipeline.errors import IndexFileError, MediaError, OutputError
from revisage.pipeline.media import container_of, open_video, video_digest
from revisage.pipeline.render import INDEX_SUFFIX
from revisage.pipeline.vault.index import open_index
from revisage.pipeline.vault.writer import next_path


def index_path(video: Path) -> Path:
    """Where the track index of `video` stands. Raises OutputError for a name that no file can have."""
    if video.name in ("", ".."):
        raise OutputError(f"{video} is a folder; name a file in it")
    return video.with_name(video.name + INDEX_SUFFIX)


def index_of(video: Path) -> Path:
    """The index that belongs to `video`: the one beside it, or, where a run ended while it replaced a pair of video and
    index, the one that still waits for its place.
    """
    index = index_path(video)
    return next_path(index) if _belongs(next_path(index), video) else index


def settle_pair(video: Path) -> None:
    """Finish what a run left that ended while it replaced a pair: the index that waits takes its place or goes."""
    waiting = next_path(index_path(video))
    if waiting.is_file():
        if _belongs(waiting, video):
            waiting.replace(index_path(video))
        else:
            waiting.unlink()


def _belongs(index: Path, video: Path) -> bool:
    if not index.is_file() or not video.is_file():
        return False
    try:
        with open_index(index) as reader:
            reader.check_video(video_digest(video))
    except (IndexFileError, MediaError):
        return False
    return True


def check_places(source: Path, output: Path, *, index: bool = False, overwrite: bool = False) -> None:
    """Raises NoVideoError, MediaError for an unusable `source`, OutputError for an `output` that cannot be written.

    With `index` the name of its track index must be free, too.
    """
    with open_video(source):
        pass
    container_of(output)
    if output.exists() and output.samefile(source):
        raise OutputError(f"{output} is the input itself; choose another output")
    if output.is_dir():
        raise OutputError(f"{output} is a folder; name a file in it")
    if index:
        settle_pair(output)
    for path in (output, index_path(output))[: 1 + index]:
        if (path.exists() or path.is_symlink()) and not overwrite:
            raise OutputError(f"{path} exists; choose another name or give --overwrite")
    if not output.parent.is_dir():
        raise OutputError(f"the folder {output.parent} does not exist; make it first")
