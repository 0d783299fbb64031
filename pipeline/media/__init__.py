"""Video files: read, encode, copy sound and subtitles, digest; the small clips of the seal. The only package with av.

    source, whole ─► frame ─► read ─► encoders ─► write (hidden, remux)        clips, film

Knows no face, key or network. Times pass through untouched: a frame's `pts` in its stream's exact `time_base`, never
recomputed from a frame rate. Nothing is converted that need not be: planes keep the decoder's layout and bit depth.
An output appears under its name only when it is complete; a damaged input is an error, never a short output.

What reaches an output besides pixels is an allow-list: sound, subtitles, fonts (Matroska), stream languages and
disposition flags, chapter titles, colour tags, aspect ratio, rotation, and a label of this program's own where the
caller gives one. `VideoWriter.dropped` names all the rest.
Matroska stores whole milliseconds: writing MP4 times into it rounds them to the nearest one.
"""

from revisage.pipeline.media.clips import decode_clip, encode_clip
from revisage.pipeline.media.encoders import container_of, default_codec, encoders
from revisage.pipeline.media.film import write_film
from revisage.pipeline.media.frame import Frame
from revisage.pipeline.media.read import ColorTags, VideoReader, open_video
from revisage.pipeline.media.source import file_digest, video_digest
from revisage.pipeline.media.tags import read_label
from revisage.pipeline.media.write import VideoWriter

__all__ = [
    "ColorTags",
    "Frame",
    "VideoReader",
    "VideoWriter",
    "container_of",
    "decode_clip",
    "default_codec",
    "encode_clip",
    "encoders",
    "file_digest",
    "open_video",
    "read_label",
    "video_digest",
    "write_film",
]
