"""Where outputs may go: what would fail after the work had better fail before it. Knows no key and no model."""

from __future__ import annotations

from pathlib import Path

from revisage.pipeline.errors import OutputError
from revisage.pipeline.media import container_of, open_video
from revisage.pipeline.render import INDEX_SUFFIX


def index_path(video: Path) -> Path:
    """Where the track index of `video` stands."""
    return video.with_name(video.name + INDEX_SUFFIX)


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
    for path in (output, index_path(output))[: 1 + index]:
        if (path.exists() or path.is_symlink()) and not overwrite:
            raise OutputError(f"{path} exists; choose another name or give --overwrite")
    if not output.parent.is_dir():
        raise OutputError(f"the folder {output.parent} does not exist; make it first")
