"""The one tag that this program writes into a container, and reading it again. Knows nothing of what it says."""

from __future__ import annotations

from pathlib import Path

from revisage.pipeline.media.source import open_input

LABEL = "comment"  # a name that MP4 and Matroska both keep, and re-encoding with FFmpeg too


def read_label(path: Path) -> str | None:
    """The label of a video, None where it has none. Raises MediaError."""
    with open_input(path) as container:
        return next((value for name, value in container.metadata.items() if name.lower() == LABEL), None)
