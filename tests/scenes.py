"""Films whose every face is known exactly: who, where, how much of it shows. Owns the ground truth and its pixels.

For tests and benchmarks only. A `Scene` is a few functions of time (seconds): people cut out of photographs that the
dependencies ship walk over a background, before a camera that may pan, shake and zoom; posts and hands pass in front;
shots follow one another by hard cuts or dissolves. `truth` computes the ground truth without drawing anything, `oracle`
turns it into the detections of an imperfect detector, `pictures` and `film` draw and encode. Most tests of tracking
need the first two alone. The same scene gives the same film in every run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from insightface.data import get_image
from skimage import data

from revisage.pipeline.types import Box, FaceDetection, Float, Image

Path2 = Callable[[float], tuple[float, float]]
Number = Callable[[float], float]

# Five points of an upright frontal face in its box, as shares of width and height.
FIVE = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]], np.float32)
SEEN = 0.5  # share of a face that must show before anybody can be asked to find it


@dataclass(frozen=True, slots=True)
class Sprite:
    """A head in a photograph."""

    photo: str
    box: Box  # of the face, in the photograph
    points: tuple[tuple[float, float], ...]  # five


# Places as CenterFace gives them at full size, checked by eye.
SPRITES = (
    Sprite(
        "astronaut",
        (181.5, 58.2, 269.9, 177.8),
        ((203.2, 101.7), (247.0, 104.5), (223.3, 125.1), (203.4, 142.3), (241.3, 144.4)),
    ),
    Sprite(
        "t1",
        (744.9, 344.8, 843.9, 481.5),
        ((760.4, 401.8), (804.3, 399.9), (774.0, 428.6), (766.1, 448.2), (803.3, 446.1)),
    ),
    Sprite(
        "t1",
        (464.0, 268.4, 571.9, 415.5),
        ((493.8, 322.8), (545.0, 336.0), (510.0, 358.8), (484.1, 373.5), (527.5, 384.1)),
    ),
    Sprite(
        "t1",
        (60.8, 266.6, 167.5, 389.7),
        ((86.2, 321.3), (127.7, 305.5), (118.7, 338.7), (110.1, 362.6), (145.5, 349.6)),
    ),
    Sprite(
        "t1",
        (1132.6, 267.7, 1230.2, 400.8),
        ((1149.4, 323.6), (1194.6, 320.1), (1168.4, 348.1), (1156.4, 369.0), (1194.7, 365.8)),
    ),
    Sprite(
        "t1",
        (271.6, 150.9, 371.5, 264.4),
        ((288.4, 204.4), (323.5, 194.4), (306.3, 225.7), (311.0, 244.8), (338.6, 236.4)),
    ),
)


@dataclass(frozen=True, slots=True)
class Actor:
    """Somebody, in the pixels of the world (which are the picture's while the camera does not move)."""

    who: int  # from 1; the same number in two shots is the same person
    at: Path2  # middle of the face
    height: Number  # of the face, pixels
    tilt: Number = lambda _: 0.0  # degrees clockwise
    here: tuple[float, float] = (-1e9, 1e9)  # seconds from and until which the person is there

    @property
    def sprite(self) -> Sprite:
        """What the person looks like."""
        return SPRITES[(self.who - 1) % len(SPRITES)]


@dataclass(frozen=True, slots=True)
class Cover:
    """Something opaque in front of everybody: a post, a hand."""

    at: Path2  # middle
    size: tuple[float, float]
    round: bool = False
    colour: tuple[int, int, int] = (92, 70, 52)


@dataclass(frozen=True, slots=True)
class Shot:
    """One camera setting; shots that overlap in time dissolve into one another."""

    actors: tuple[Actor, ...]
    covers: tuple[Cover, ...] = ()
    start: float = -1e9
    end: float = 1e9
    background: str = "coffee"
    camera: Path2 = lambda _: (0.0, 0.0)  # where the camera's left top corner lies in the world
    zoom: Number = lambda _: 1.0


@dataclass(frozen=True, slots=True)
class Scene:
    """A film: its size, the time of each frame, its shots, its light and its shutter."""

    name: str
    times: tuple[float, ...]
    shots: tuple[Shot, ...]
    size: tuple[int, int] = (640, 360)
    light: Number = lambda _: 1.0  # factor on every pixel
    shutter: float = 0.0  # seconds of motion blur
    noise: float = 0.0  # grey levels

    @property
    def cuts(self) -> list[tuple[int, int]]:
        """Per change of shot the first frame that shows the new one and the first that no longer shows the old one."""
        return [
            (self._frame(after.start), max(self._frame(before.end), self._frame(after.start)))
            for before, after in zip(self.shots, self.shots[1:], strict=False)
        ]

    def _frame(self, seconds: float) -> int:
        return next((i for i, t in enumerate(self.times) if t >= seconds - 1e-9), len(self.times))


@dataclass(frozen=True, slots=True, eq=False)
class TrueFace:
    """One face in one frame, exactly."""

    who: int
    shot: int
    box: Box  # not clipped to the picture
    points: Float  # (5, 2)
    visible: float  # share of the box that lies in the picture and behind nothing; times its shot's opacity


def clock(rate: float, seconds: float) -> tuple[float, ...]:
    """Frame times at a constant rate."""
    return tuple(i / rate for i in range(round(rate * seconds)))


def uneven_clock(seconds: float, seed: int = 0) -> tuple[float, ...]:
    """Frame times of a variable rate: steps of 10 to 80 ms."""
    steps = np.random.default_rng(seed).uniform(0.010, 0.080, int(seconds / 0.045))
    return tuple(float(t) for t in np.round(np.cumsum(steps) - steps[0], 3))


def truth(scene: Scene) -> list[list[TrueFace]]:
    """Per frame every face that is at least partly there."""
    return [
        [
            face
            for number, shot in enumerate(scene.shots)
            for face in _shown(scene, number, shot, t)
            if face.visible > 0.02
        ]
        for t in scene.times
    ]


def oracle(
    scene: Scene,
    *,
    blind: Callable[[int, int], bool] = lambda who, frame: False,
    jitter: float = 0.0,
    misses: float = 0.0,
    unsure: float = 0.0,
    seed: int = 0,
) -> list[list[FaceDetection]]:
    """What a detector finds that sees each face of which `SEEN` shows, but not where `blind(who, frame)`.

    `jitter`: standard deviation of each box side, in face sizes; `misses`: share of faces overlooked at random;
    `unsure`: share that get a score of 0.3. Order within a frame is random, and so is what says nothing of who is who.
    """
    seen = sightings(scene, blind=blind, jitter=jitter, misses=misses, unsure=unsure, seed=seed)
    return [[detection for _, detection in found] for found in seen]


def sightings(
    scene: Scene,
    *,
    blind: Callable[[int, int], bool] = lambda who, frame: False,
    jitter: float = 0.0,
    misses: float = 0.0,
    unsure: float = 0.0,
    seed: int = 0,
) -> list[list[tuple[TrueFace, FaceDetection]]]:
    """The same, and whose face each detection is; no tracker may know."""
    rng = np.random.default_rng(seed)
    frames = []
    for number, faces in enumerate(truth(scene)):
        found = []
        for face in faces:
            luck, doubt, noise = rng.uniform(), rng.uniform(), rng.normal(0, 1, 4)
            if face.visible >= SEEN and luck >= misses and not blind(face.who, number):
                score = 0.3 if doubt < unsure else 0.9
                found.append((face, _detected(face, jitter * noise, score, scene.size)))
        frames.append([found[i] for i in rng.permutation(len(found))])
    return frames


def careless(scene: Scene, seed: int = 1) -> list[list[FaceDetection]]:
    """What benchmarks give to trackers: each person lost for 0.6 seconds, at other times with another seed."""
    return [[detection for _, detection in found] for found in careless_sightings(scene, seed)]


def careless_sightings(scene: Scene, seed: int = 1) -> list[list[tuple[TrueFace, FaceDetection]]]:
    """The same, and whose face each detection is."""
    drawn = np.random.default_rng(seed).uniform(0.3, 2.6, 9)
    starts = {who: 0.8 + 0.37 * who if seed == 1 else float(drawn[who]) for who in range(1, 9)}

    def blind(who: int, frame: int) -> bool:
        return starts[who] <= scene.times[frame] < starts[who] + 0.6

    return sightings(scene, blind=blind, jitter=0.03, misses=0.1, unsure=0.1, seed=seed)


class Oracle:
    """A detector that looks nothing up in the picture: the `detections` of frame after frame."""

    name = "oracle"

    def __init__(self, detections: Sequence[Sequence[FaceDetection]]) -> None:
        self._detections = detections
        self.looked = 0

    def detect(self, picture: Image) -> list[FaceDetection]:
        """The next frame's."""
        self.looked += 1
        return list(self._detections[self.looked - 1])


def pictures(scene: Scene) -> Iterator[Image]:
    """Every frame, (H, W, 3) uint8 RGB."""
    rng = np.random.default_rng(0)
    for t in scene.times:
        moments = [t] if scene.shutter == 0 else [t + scene.shutter * (i / 6 - 0.5) for i in range(7)]
        light = np.mean([_exposed(scene, moment) for moment in moments], axis=0)
        if scene.noise:
            light = light + rng.normal(0, scene.noise, light.shape)
        yield np.clip(np.rint(light), 0, 255).astype(np.uint8)


def film(path: Path, scene: Scene, codec: str = "libx264", quality: int = 12) -> Path:
    """Encode `scene` to `path`, its times rounded to milliseconds."""
    with av.open(str(path), "w") as out:
        options = {"crf": str(quality), "preset": "veryfast"} if codec == "libx264" else {}
        stream: Any = out.add_stream(codec, rate=25, options=options)
        stream.width, stream.height = scene.size
        stream.pix_fmt = "bgr0" if codec == "ffv1" else "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        for t, picture in zip(scene.times, pictures(scene), strict=True):
            frame: Any = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=stream.pix_fmt)
            frame.pts, frame.time_base = round(t * 1000), Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


# -- ground truth ------------------------------------------------------------------------------------------------------


def _opacity(shots: Sequence[Shot], number: int, t: float) -> float:
    """How much of the picture this shot makes up: 1, 0, or in between while two of them dissolve."""
    shot = shots[number]
    if not shot.start <= t + 1e-9 < shot.end + 1e-9 or (t >= shot.end - 1e-9):
        return 0.0
    share = 1.0
    if number and shots[number - 1].end > shot.start:
        share *= min(1.0, (t - shot.start) / (shots[number - 1].end - shot.start))
    if number + 1 < len(shots) and shots[number + 1].start < shot.end:
        after = shots[number + 1]
        share *= 1 - max(0.0, (t - after.start) / (shot.end - after.start))
    return share


def _shown(scene: Scene, number: int, shot: Shot, t: float) -> Iterator[TrueFace]:
    opacity = _opacity(scene.shots, number, t)
    if opacity <= 0:
        return
    masks = _covered(scene, shot, t)
    for actor in shot.actors:
        if not actor.here[0] <= t < actor.here[1]:
            continue
        matrix = _placed(shot, actor, t)
        points = _moved(np.array(actor.sprite.points, np.float64), matrix)
        box = _turned_box(actor.sprite.box, matrix)
        yield TrueFace(actor.who, number, box, points.astype(np.float32), opacity * _free(box, masks))


def _placed(shot: Shot, actor: Actor, t: float) -> Float:
    """(2, 3): from the pixels of the actor's photograph to the picture's at time `t`."""
    (x, y), (left, top), zoom = actor.at(t), shot.camera(t), shot.zoom(t)
    x0, y0, x1, y1 = actor.sprite.box
    scale = actor.height(t) / (y1 - y0) * zoom
    angle = np.deg2rad(actor.tilt(t))
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    target = (np.array([x, y]) - (left, top)) * zoom
    return np.hstack([linear, (target - linear @ middle)[:, None]]).astype(np.float32)


def _moved(points: Any, matrix: Float) -> Any:
    return points @ matrix[:, :2].T + matrix[:, 2]


def _turned_box(box: Box, matrix: Float) -> Box:
    """The upright box around the ellipse that fills `box`, after it was moved and turned."""
    centre = _moved(np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]), matrix)
    axes = matrix[:, :2] * np.array([(box[2] - box[0]) / 2, (box[3] - box[1]) / 2])
    reach = np.sqrt((axes**2).sum(axis=1))
    x0, y0, x1, y1 = (float(v) for v in (*(centre - reach), *(centre + reach)))
    return x0, y0, x1, y1


def _covered(scene: Scene, shot: Shot, t: float) -> Any:
    """(H/4, W/4) bool: what stands in front."""
    width, height = scene.size
    mask = np.zeros((height // 4, width // 4), np.uint8)
    for cover in shot.covers:
        _draw(mask, cover, shot, t, 255, 0.25)
    return mask > 0


def _draw(canvas: Any, cover: Cover, shot: Shot, t: float, colour: Any, scale: float) -> None:
    (x, y), (left, top), zoom = cover.at(t), shot.camera(t), shot.zoom(t) * scale
    centre = (round((x - left) * zoom), round((y - top) * zoom))
    half = (max(1, round(cover.size[0] * zoom / 2)), max(1, round(cover.size[1] * zoom / 2)))
    if cover.round:
        cv2.ellipse(canvas, centre, half, 0, 0, 360, colour, -1, cv2.LINE_AA)
    else:
        corner = (centre[0] + half[0], centre[1] + half[1])
        cv2.rectangle(canvas, (centre[0] - half[0], centre[1] - half[1]), corner, colour, -1)


def _free(box: Box, covered: Any) -> float:
    """Share of `box` that lies in the picture and not behind anything."""
    height, width = covered.shape
    xs = (np.linspace(box[0], box[2], 12) / 4).astype(int)
    ys = (np.linspace(box[1], box[3], 12) / 4).astype(int)
    inside_x, inside_y = (xs >= 0) & (xs < width), (ys >= 0) & (ys < height)
    part = covered[np.ix_(ys[inside_y], xs[inside_x])]
    return float((~part).sum() / (len(xs) * len(ys)))


def _detected(face: TrueFace, noise: Any, score: float, size: tuple[int, int]) -> FaceDetection:
    side = ((face.box[2] - face.box[0]) * (face.box[3] - face.box[1])) ** 0.5
    x0, y0, x1, y1 = np.array(face.box) + noise * side
    shift = noise[:2] * side
    box = (max(0.0, x0), max(0.0, y0), min(float(size[0]), x1), min(float(size[1]), y1))
    return FaceDetection(box, score, (face.points + shift).astype(np.float32))


# -- pixels ------------------------------------------------------------------------------------------------------------


@cache
def _photograph(name: str) -> Image:
    picture = get_image("t1")[..., ::-1] if name == "t1" else getattr(data, name)()
    return np.ascontiguousarray(picture)


@cache
def _cut_out(sprite: Sprite) -> tuple[Image, Float, tuple[int, int]]:
    """The head with its hair, its opacity 0..1 (soft at the edge), and where its left top corner was."""
    photo = _photograph(sprite.photo)
    x0, y0, x1, y1 = sprite.box
    w, h = x1 - x0, y1 - y0
    left, top = max(0, int(x0 - 0.45 * w)), max(0, int(y0 - 0.45 * h))
    part = photo[top : int(y1 + 0.35 * h), left : int(x1 + 0.45 * w)]
    y, x = np.mgrid[0 : part.shape[0], 0 : part.shape[1]]
    radius = np.hypot((x + left - (x0 + x1) / 2) / (0.85 * w), (y + top - (y0 + y1) / 2) / (0.80 * h))
    return part, np.clip((1 - radius) / 0.12, 0, 1).astype(np.float32), (left, top)


def _exposed(scene: Scene, t: float) -> Float:
    """One instant, float32, before noise."""
    width, height = scene.size
    whole = np.zeros((height, width, 3), np.float32)
    for number, shot in enumerate(scene.shots):
        opacity = _opacity(scene.shots, number, t)
        if opacity > 0:
            whole += opacity * _setting(scene, shot, t)
    return whole * np.float32(scene.light(t))


def _setting(scene: Scene, shot: Shot, t: float) -> Float:
    canvas = _background(scene, shot, t)
    for actor in shot.actors:
        if actor.here[0] <= t < actor.here[1]:
            _paint(canvas, shot, actor, t)
    for cover in shot.covers:
        _draw(canvas, cover, shot, t, cover.colour, 1.0)
    return canvas


def _background(scene: Scene, shot: Shot, t: float) -> Float:
    """A photograph without faces, as large as the picture and mirrored for ever on all sides."""
    photo = _photograph(shot.background)
    (left, top), zoom = shot.camera(t), shot.zoom(t)
    scale = max(scene.size[0] / photo.shape[1], scene.size[1] / photo.shape[0]) * zoom
    matrix = np.array([[scale, 0, -left * zoom], [0, scale, -top * zoom]], np.float32)
    picture: Float = cv2.warpAffine(
        photo, matrix, scene.size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    ).astype(np.float32)
    return picture


def _paint(canvas: Float, shot: Shot, actor: Actor, t: float) -> None:
    part, alpha, corner = _cut_out(actor.sprite)
    matrix = _placed(shot, actor, t).copy()
    matrix[:, 2] += matrix[:, :2] @ np.array(corner, np.float32)
    size = (canvas.shape[1], canvas.shape[0])
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if scale < 0.7:  # else small faces are aliased
        part = cv2.GaussianBlur(part, (0, 0), 0.4 / scale)
    head = cv2.warpAffine(part, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    mask = cv2.warpAffine(alpha, matrix, size, flags=cv2.INTER_LINEAR)[..., None]
    canvas += mask * (head - canvas)


# -- scenes that tests and benchmarks share ----------------------------------------------------------------------------


def still(x: float, y: float) -> Path2:
    """Stays."""
    return lambda _: (x, y)


def walk(x: float, y: float, vx: float, vy: float = 0.0) -> Path2:
    """From (x, y) at second 0 on with (vx, vy) pixels a second."""
    return lambda t: (x + vx * t, y + vy * t)


def always(value: float) -> Number:
    """Does not change."""
    return lambda _: value


def alone(times: Sequence[float], at: Path2 | None = None, height: float = 90.0) -> Scene:
    """One person."""
    return Scene("alone", tuple(times), (Shot((Actor(1, at or still(320, 180), always(height)),)),))


def crossing(times: Sequence[float], apart: float = 0.0, heights: tuple[float, float] = (90, 90)) -> Scene:
    """Two people pass each other, `apart` pixels above one another, halfway through the film."""
    half = times[-1] / 2
    people = (
        Actor(1, lambda t: (320 + 110 * (t - half), 180 - apart / 2), always(heights[0])),
        Actor(2, lambda t: (320 - 110 * (t - half), 180 + apart / 2), always(heights[1])),
    )
    return Scene("crossing", tuple(times), (Shot(people),))


def crowd(times: Sequence[float]) -> Scene:
    """Six people who sway, weave and cross."""
    people = tuple(
        Actor(
            i + 1,
            lambda t, i=i: (  # type: ignore[misc]
                320 + (210 - 25 * i) * np.sin(0.7 * t * (1 + 0.13 * i) + 1.1 * i),
                110 + 28 * i + 12 * np.sin(1.3 * t + i),
            ),
            always(44.0 + 5 * i),
        )
        for i in range(6)
    )
    return Scene("crowd", tuple(times), (Shot(people),))


def post(times: Sequence[float]) -> Scene:
    """Two people walk behind posts, one the other way."""
    people = (Actor(1, walk(140, 150, 95), always(80)), Actor(2, walk(560, 250, -85), always(88)))
    posts = (Cover(still(250, 180), (60, 400)), Cover(still(430, 180), (44, 400)))
    return Scene("post", tuple(times), (Shot(people, posts),))


def hand(times: Sequence[float]) -> Scene:
    """A hand goes to the face and away again."""
    wave = Cover(lambda t: (320 + 130 * np.cos(2.1 * t), 200), (95, 120), round=True, colour=(206, 160, 132))
    return Scene("hand", tuple(times), (Shot((Actor(1, still(320, 180), always(120)),), (wave,)),))


def shake(times: Sequence[float], reach: float = 60.0) -> Scene:
    """A camera that jerks about, and two small faces."""
    people = (Actor(1, walk(250, 150, 20), always(32)), Actor(2, walk(420, 210, -15), always(28)))

    def camera(t: float) -> tuple[float, float]:
        return reach * np.sin(11 * t) + 0.6 * reach * np.sin(23 * t + 1), 0.7 * reach * np.sin(13 * t + 2)

    return Scene("shake", tuple(times), (Shot(people, camera=camera),))


def zoom(times: Sequence[float]) -> Scene:
    """The camera goes in on one of two people, quickly."""
    people = (Actor(1, still(300, 170), always(50)), Actor(2, still(420, 190), always(46)))
    factor = lambda t: 1 + 2.2 / (1 + np.exp(-6 * (t - times[-1] / 2)))  # noqa: E731
    camera = lambda t: (300 - 320 / factor(t), 170 - 180 / factor(t))  # noqa: E731
    return Scene("zoom", tuple(times), (Shot(people, camera=camera, zoom=factor),))


def cut(times: Sequence[float], dissolve: float = 0.0) -> Scene:
    """Two strangers at the same place in two shots, with a hard cut or a dissolve of so many seconds between."""
    half = times[-1] / 2
    first = Shot((Actor(1, still(320, 180), always(110)),), end=half + dissolve / 2)
    second = Shot((Actor(2, still(324, 178), always(116)),), start=half - dissolve / 2, background="rocket")
    return Scene("dissolve" if dissolve else "cut", tuple(times), (first, second))


def entrance(times: Sequence[float]) -> Scene:
    """One is there from frame 0, one comes in from the left, one is there from second 1 to second 2 only."""
    people = (
        Actor(1, walk(150, 120, 30), always(70)),
        Actor(2, walk(-60, 260, 90), always(80)),
        Actor(3, still(500, 150), always(76), here=(1.0, 2.0)),
    )
    return Scene("entrance", tuple(times), (Shot(people),))


SCENES: dict[str, Callable[[Sequence[float]], Scene]] = {
    "alone": alone,
    "entrance": entrance,
    "crossing": crossing,
    "crowd": crowd,
    "post": post,
    "hand": hand,
    "shake": shake,
    "zoom": zoom,
    "cut": cut,
    "dissolve": lambda times: cut(times, 0.8),
}


# -- scenes that nothing was tuned on ----------------------------------------------------------------------------------


def zoom_out(times: Sequence[float]) -> Scene:
    """The camera goes back from one person while it turns; others come into the picture at its edges."""
    people = (
        Actor(1, still(340, 200), always(60)),
        Actor(2, still(470, 160), always(56)),
        Actor(3, still(140, 150), always(52)),
    )
    factor = lambda t: 1 + 1.5 * np.exp(-1.4 * max(0.0, t - 0.9))  # noqa: E731
    camera = lambda t: (340 - 320 / factor(t) + 12 * t, 200 - 180 / factor(t))  # noqa: E731
    return Scene("zoom out", tuple(times), (Shot(people, camera=camera, zoom=factor),))


def zoom_slow(times: Sequence[float]) -> Scene:
    """A third closer within the film, with a pan and an unsteady hand; both people walk."""
    people = (Actor(1, walk(220, 160, 25, 4), always(64)), Actor(2, walk(430, 220, -30), always(70)))
    factor = lambda t: 1 + 0.35 * t / times[-1]  # noqa: E731
    camera = lambda t: (18 * t + 3 * np.sin(9 * t), 10 * t + 2 * np.sin(7 * t + 1))  # noqa: E731
    return Scene("zoom slow", tuple(times), (Shot(people, camera=camera, zoom=factor),))


def hurry(times: Sequence[float]) -> Scene:
    """Two people run through the picture, one behind the other and one against them."""
    people = (
        Actor(1, walk(-120, 130, 230), always(62)),
        Actor(2, walk(-330, 250, 230), always(66)),
        Actor(3, walk(760, 190, -190, 8), always(74)),
    )
    return Scene("hurry", tuple(times), (Shot(people),))


def approach(times: Sequence[float]) -> Scene:
    """Somebody comes up to the camera until the face is cut off, somebody else goes away."""
    people = (
        Actor(1, walk(230, 190, -22, 6), lambda t: 48 * 2 ** (0.55 * t)),
        Actor(2, walk(480, 170, 10), lambda t: 120 * 2 ** (-0.4 * t)),
    )
    return Scene("approach", tuple(times), (Shot(people),))


def diagonal(times: Sequence[float]) -> Scene:
    """Three people cross in one place, in other directions and sizes, heads tilted."""
    half = times[-1] / 2 + 0.13
    people = (
        Actor(1, lambda t: (310 + 95 * (t - half), 190 + 40 * (t - half)), always(84), lambda t: 12 * np.sin(t)),
        Actor(2, lambda t: (330 - 85 * (t - half), 170 + 55 * (t - half)), always(72), lambda _: -20.0),
        Actor(3, lambda t: (320 + 15 * (t - half), 176 - 60 * (t - half)), always(60)),
    )
    return Scene("diagonal", tuple(times), (Shot(people),))


def fence(times: Sequence[float]) -> Scene:
    """Somebody walks along a fence of narrow posts, somebody stands behind a wide one and steps out."""
    people = (
        Actor(1, walk(90, 140, 110), always(70)),
        Actor(2, lambda t: (470 + 60 * max(0.0, t - 1.2), 240), always(92)),
    )
    posts = tuple(Cover(still(60 + 110 * i, 180), (26, 400)) for i in range(6))
    return Scene("fence", tuple(times), (Shot(people, (*posts, Cover(still(470, 240), (80, 220)))),))


def tremble(times: Sequence[float]) -> Scene:
    """A hand-held camera that walks along with one of three people."""
    people = (
        Actor(1, walk(280, 150, 60), always(40)),
        Actor(2, still(420, 210), always(36)),
        Actor(3, walk(640, 170, -35), always(30)),
    )

    def camera(t: float) -> tuple[float, float]:
        return 58 * t + 24 * np.sin(8 * t) + 9 * np.sin(31 * t), 14 * np.sin(17 * t + 0.4) + 6 * np.sin(29 * t)

    return Scene("tremble", tuple(times), (Shot(people, camera=camera),))


HELD_OUT: dict[str, Callable[[Sequence[float]], Scene]] = {
    "zoom out": zoom_out,
    "zoom slow": zoom_slow,
    "hurry": hurry,
    "approach": approach,
    "diagonal": diagonal,
    "fence": fence,
    "tremble": tremble,
}


# -- judging a plan ----------------------------------------------------------------------------------------------------


def share_covered(box: Box, under: Iterable[Box], size: tuple[int, int]) -> float:
    """Share of the visible part of `box` that lies under any of `under`."""
    x0, y0, x1, y1 = max(box[0], 0), max(box[1], 0), min(box[2], size[0]), min(box[3], size[1])
    x, y = np.meshgrid(np.linspace(x0, x1, 26)[1::2], np.linspace(y0, y1, 26)[1::2])
    covered = np.zeros(x.shape, bool)
    for a, b, c, d in under:
        covered |= (x >= a) & (x < c) & (y >= b) & (y < d)
    return float(covered.mean())


def dark(scene: Scene, light: float) -> Scene:
    """The same at night, with a sensor's noise."""
    return replace(scene, light=always(light), noise=1.0)
