"""The cast: actors who do not exist, whose faces are drawn over filmed ones. Reads the file of weights; knows no video,
key or network.

A folder holds `config.json` (who there is) and `cast.safetensors` (their arrays; textures are JPEG bytes, decoded when
asked for). `models/train/cast.py` makes it. Pictures are crops of side `Cast.size` aligned to `FACE_TEMPLATE` by a
similarity: every actor keeps his own shape. Points are float32 pixels of that crop, pixel centres at whole numbers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import jsonschema
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from revisage.models import hashes, layout
from revisage.models.conditioning import FACE_TEMPLATE
from revisage.pipeline.errors import ModelError
from revisage.pipeline.types import Float, Image

EMBEDDED = Path(__file__).parent / "weights" / "revisage-face" / "cast"
CONFIG, ARRAYS = "config.json", "cast.safetensors"
VERTICES = 468
TONES = ("very dark", "dark", "medium", "pale", "very pale")  # classes of skin
TONE_BOUNDS = (46.0, 55.0, 61.0, 66.0)  # L* between them; about a fifth of the embedded cast in each
MOUTH_POINTS = layout.LIPS_INNER.stop - layout.LIPS_OUTER.start


@dataclass(frozen=True, slots=True, eq=False)
class Actor:
    """One person who does not exist, under neutral light."""

    name: str
    sex: str  # "female" or "male"
    age: int  # years, about
    has_teeth: bool  # teeth are seen between the lips
    mouth_opening: float  # gap between the inner lips over the distance of the eye centres
    mesh: Float  # (468, 3) MediaPipe's face mesh; z in pixels, too, smaller towards the camera
    iris: Float  # (2, 5, 2) centre, then four points of the rim; the viewer's left eye first
    skin: Float  # (3,) mean colour of the skin in linear light, 0..1
    lab: Float  # (3,) the same in CIE L*a*b* (D65)
    jpeg: NDArray[np.uint8] = field(repr=False)  # the texture, compressed

    @property
    def landmarks(self) -> Float:
        """(LANDMARK_COUNT, 2) pixels of the crop."""
        return layout.from_mesh(self.mesh, self.iris)

    @property
    def tone(self) -> str:
        """One of `TONES`."""
        return tone_class(float(self.lab[0]))

    def texture(self) -> Image:
        """(S, S, 3) uint8 RGB; beyond the face's oval its skin continued, no hair and no background."""
        return _decoded(self.jpeg)


@dataclass(frozen=True, slots=True, eq=False)
class Mouth:
    """The inside of an open mouth, with its lips, in a square of its own: its corners lie level."""

    name: str
    opening: float  # gap between the inner lips over the distance of the eye centres
    width: float  # of the inner lips, the same unit
    interocular: float  # pixels of the picture
    lips: Float  # (40, 2) outer and inner contour, as `layout.LIPS_OUTER` and `LIPS_INNER`
    tooth: Float  # (3,) mean colour of the teeth in linear light
    skin: Float  # (3,) mean colour of the skin around the mouth in linear light
    jpeg: NDArray[np.uint8] = field(repr=False)

    def picture(self) -> Image:
        """(M, M, 3) uint8 RGB."""
        return _decoded(self.jpeg)


@dataclass(frozen=True, slots=True, eq=False)
class Cast:
    """All actors, in the file's order, and the bank of mouths."""

    size: int
    actors: tuple[Actor, ...]
    mouths: tuple[Mouth, ...]

    @classmethod
    def load(cls, folder: Path = EMBEDDED) -> Cast:
        """ModelError: the folder is no cast, or does not fit itself."""
        hashes.check(folder)
        config = _read_config(folder / CONFIG)
        try:
            with safe_open(folder / ARRAYS, framework="numpy") as file:
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise ModelError(f"cannot read {folder / ARRAYS}: {error}") from error
        return _assemble(config, arrays, folder)


def tone_class(lightness: float) -> str:
    """The class of a skin by its L*."""
    return TONES[int(np.searchsorted(TONE_BOUNDS, lightness, side="right"))]


def _assemble(config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], folder: Path) -> Cast:
    actors, mouths = config["actors"], config["mouths"]
    shapes: dict[str, tuple[int, ...]] = {
        "mesh": (len(actors), VERTICES, 3), "iris": (len(actors), 2, 5, 2), "tone": (len(actors), 2, 3),
        "mouth.lips": (len(mouths), MOUTH_POINTS, 2), "mouth.colours": (len(mouths), 2, 3),
    }  # fmt: skip
    wanted = {f"texture.{a['name']}" for a in actors} | {f"mouth.{m['name']}" for m in mouths} | set(shapes)
    if wanted != set(arrays):
        raise ModelError(f"{folder}: its two files name different actors")
    for name, shape in shapes.items():
        if arrays[name].shape != shape or arrays[name].dtype != np.float32 or not np.isfinite(arrays[name]).all():
            raise ModelError(f"{folder}: {name} is not {shape} of finite float32")
    if any(a.dtype != np.uint8 or a.ndim != 1 for n, a in arrays.items() if n not in shapes):
        raise ModelError(f"{folder}: a picture is no string of bytes")
    mesh, iris, tone = arrays["mesh"], arrays["iris"], arrays["tone"]
    lips, colours = arrays["mouth.lips"], arrays["mouth.colours"]
    return Cast(
        config["size"],
        tuple(
            Actor(**a, mesh=mesh[i], iris=iris[i], skin=tone[i, 0], lab=tone[i, 1], jpeg=arrays[f"texture.{a['name']}"])
            for i, a in enumerate(actors)
        ),
        tuple(
            Mouth(**m, lips=lips[i], tooth=colours[i, 0], skin=colours[i, 1], jpeg=arrays[f"mouth.{m['name']}"])
            for i, m in enumerate(mouths)
        ),
    )


def _decoded(jpeg: NDArray[np.uint8]) -> Image:
    bgr = cv2.imdecode(jpeg, cv2.IMREAD_COLOR)
    if bgr is None:
        raise ModelError("a picture of the cast cannot be decoded")
    picture: Image = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    return picture


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        jsonschema.validate(config, _SCHEMA)
    except (OSError, ValueError, jsonschema.ValidationError) as error:
        raise ModelError(f"{path} does not describe a cast: {getattr(error, 'message', error)}") from error
    for kind in ("actors", "mouths"):
        names = [entry["name"] for entry in config[kind]]
        if len(set(names)) != len(names):
            raise ModelError(f"{path} names one of its {kind} twice")
    return config


def _object(**properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "additionalProperties": False, "properties": properties}


_NAME = {"type": "string", "pattern": "^[a-z0-9_-]{1,60}$"}
_RATIO = {"type": "number", "minimum": 0, "maximum": 3}
_SCHEMA = _object(
    format={"const": 1},
    template={"const": FACE_TEMPLATE.name},
    size={"type": "integer", "minimum": 16, "maximum": 2048},
    actors={
        "type": "array",
        "minItems": 1,
        "items": _object(
            name=_NAME,
            sex={"enum": ["female", "male"]},
            age={"type": "integer", "minimum": 18, "maximum": 120},
            has_teeth={"type": "boolean"},
            mouth_opening=_RATIO,
        ),
    },
    mouths={
        "type": "array",
        "items": _object(name=_NAME, opening=_RATIO, width=_RATIO, interocular={"type": "number", "minimum": 1}),
    },
)
