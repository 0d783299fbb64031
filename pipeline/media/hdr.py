"""The light of the display that a film was made on, from FFmpeg's side data into an encoder's options."""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

_SIZE = 10 * 8 + 8  # ten rationals and two flags
_CHROMATICITY, _LUMINANCE = 50000, 10000  # units a whole, of x265's text


@dataclass(frozen=True, slots=True)
class Hdr:
    """Static metadata of HDR10 (SMPTE ST 2086, CTA-861.3)."""

    display: str | None  # as x265 writes it: G(x,y)B(x,y)R(x,y)WP(x,y)L(max,min)
    light: tuple[int, int] | None  # MaxCLL and MaxFALL, cd/m²

    @classmethod
    def of(cls, picture: Any) -> Hdr | None:
        """None where the decoded picture has neither."""
        display = picture.side_data.get("MASTERING_DISPLAY_METADATA")
        level = picture.side_data.get("CONTENT_LIGHT_LEVEL")
        found = cls(
            None if display is None else _display(bytes(display)),
            None if level is None else struct.unpack("=II", bytes(level)[:8]),
        )
        return found if found.display or found.light else None


def _display(data: bytes) -> str | None:
    """AVMasteringDisplayMetadata: primaries red, green, blue, the white point, and luminance from least to most."""
    if len(data) < _SIZE:
        return None
    numbers = struct.unpack("=22i", data[:_SIZE])
    if not (numbers[20] and numbers[21]):
        return None
    values = [a / b if b else 0.0 for a, b in zip(numbers[0:20:2], numbers[1:20:2], strict=True)]
    red, green, blue, white = ([round(v * _CHROMATICITY) for v in values[i : i + 2]] for i in (0, 2, 4, 6))
    least, most = (round(v * _LUMINANCE) for v in values[8:])
    text = "".join(f"{name}({x},{y})" for name, (x, y) in (("G", green), ("B", blue), ("R", red), ("WP", white)))
    return f"{text}L({most},{least})"


def with_hdr(codec: str, hdr: Hdr | None, options: Mapping[str, str]) -> dict[str, str]:
    """`options` of an encoder that write `hdr` into the stream; as they are where it cannot."""
    if hdr is None or codec not in _NAMES:
        return dict(options)
    option, display, light = _NAMES[codec]
    found = [f"{display}={hdr.display}"] if hdr.display else []
    found += [f"{light}={hdr.light[0]},{hdr.light[1]}"] if hdr.light else []
    given = [options[option]] if option in options else []
    return {**options, option: ":".join([*given, *found])}


_NAMES = {
    "libx265": ("x265-params", "master-display", "max-cll"),
    "libx264": ("x264-params", "mastering-display", "cll"),
}


def lost_side_data(side_data: Collection[str], codec: str) -> list[str]:
    """For a person: what of a picture's side data (FFmpeg's names) an encoder's stream will not have."""
    lost = [name for kind, name in _LOST.items() if kind in side_data]
    written = codec in _NAMES
    return lost + [name for kind, name in _STATIC.items() if kind in side_data and not written]


_LOST = {
    "DOVI_RPU_BUFFER": "Dolby Vision",
    "DOVI_METADATA": "Dolby Vision metadata",
    "DYNAMIC_HDR_PLUS": "HDR10+ dynamic metadata",
    "DYNAMIC_HDR_VIVID": "HDR Vivid metadata",
    "SPHERICAL": "spherical projection",
    "STEREO3D": "stereo 3D layout",
    "ICC_PROFILE": "colour profile",
    "FILM_GRAIN_PARAMS": "film grain parameters",
}
_STATIC = {"MASTERING_DISPLAY_METADATA": "mastering display", "CONTENT_LIGHT_LEVEL": "content light level"}
