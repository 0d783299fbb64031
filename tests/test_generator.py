"""The inpaint family with a tiny model of the very same classes, saved to disk and loaded."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from tiny import CODE, PATCH, SIZE, tiny_inpaint  # type: ignore[import-not-found]

from revisage.models.base import FaceGenerator, FaceRequest
from revisage.models.conditioning import FACE_TEMPLATE, REMOVED, face_mask, standard_landmarks
from revisage.models.device import Device, choose_device
from revisage.models.folder import read_spec
from revisage.models.generator import load_generator
from revisage.models.inpaint import calmed
from revisage.models.refiner import Refiner
from revisage.models.sampler import ddim, trailing
from revisage.pipeline.errors import DeviceError, ModelError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny, untrained model folder."""
    return tiny_inpaint(tmp_path_factory.mktemp("tiny"))


def device() -> Device:
    return choose_device("cpu")


def request(seed: int, **changes: object) -> FaceRequest:
    rng = np.random.default_rng(seed)
    landmarks = standard_landmarks(np.array(FACE_TEMPLATE.points, np.float32) * SIZE - 0.5)
    mask = face_mask(landmarks, SIZE)
    background = rng.integers(0, 255, (SIZE, SIZE, 3)).astype(np.uint8)
    background[mask > 0] = REMOVED
    normal = lambda *shape: rng.standard_normal(shape).astype(np.float32)  # noqa: E731
    parts = {"background": background, "mask": mask, "landmarks": landmarks, "code": normal(CODE)}
    return FaceRequest(**{**parts, "noise": normal(3, SIZE, SIZE), **changes})  # type: ignore[arg-type]


def test_is_a_face_generator(folder: Path) -> None:
    generator = load_generator(str(folder), device=device())
    assert isinstance(generator, FaceGenerator)
    assert (generator.size, generator.template.points) == (SIZE, FACE_TEMPLATE.points)
    (picture,) = generator.generate([request(0)])
    assert picture.shape == (SIZE, SIZE, 3)
    assert picture.dtype == np.uint8


def test_batch_size_and_neighbours_do_not_change_a_face(folder: Path) -> None:
    requests = [request(seed) for seed in range(5)]
    alone = [load_generator(str(folder), device=device(), batch_size=1).generate([r])[0] for r in requests]
    together = load_generator(str(folder), device=device(), batch_size=8).generate(requests)
    backwards = load_generator(str(folder), device=device(), batch_size=3).generate(requests[::-1])[::-1]
    for one, many, other in zip(alone, together, backwards, strict=True):
        # float32 sums in another order: at most one grey level
        assert np.abs(one.astype(int) - many).max() <= 1
        assert np.abs(one.astype(int) - other).max() <= 1


def test_code_and_noise_and_landmarks_matter(folder: Path) -> None:
    generator = load_generator(str(folder), device=device())
    base = request(0)
    for change in ({"code": base.code[::-1].copy()}, {"noise": -base.noise}, {"landmarks": base.landmarks + 3}):
        (a, b) = generator.generate([base, request(0, **change)])
        assert np.abs(a.astype(int) - b).max() > 0, change


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_refiner_corrects_what_the_network_painted(folder: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    pictures = []
    for bias in (0.0, 0.25):
        place = tmp_path / str(bias)
        shutil.copytree(folder, place)
        refiner = Refiner.from_pretrained(folder / "refiner")
        with torch.no_grad():
            refiner.out.bias.add_(bias)
        refiner.save_pretrained(place / "refiner")
        generator = load_generator(str(place), device=replace(device(), dtype=dtype), steps=1)
        pictures.append(generator.generate([request(0)])[0].astype(int))
    plain, brighter = pictures
    rounding = 1 if dtype == torch.float32 else 3  # grey levels
    inside = (plain > 8) & (plain < 255 - 0.25 * 127.5 - 8)  # not clipped
    assert inside.any()
    assert np.abs((brighter - plain)[inside] - 0.25 * 127.5).max() <= 1 + rounding


def test_an_untrained_refiner_lays_the_look_over_the_paint() -> None:
    refiner, rng = Refiner(patch=4, surroundings=1), torch.Generator().manual_seed(0)
    paint = torch.rand(1, 3, 8, 8, generator=rng) - 0.5
    coarse = torch.cat([torch.nn.functional.pixel_unshuffle(paint, 4), torch.zeros(1, 16, 2, 2)], dim=1)
    assert coarse.shape[1] == Refiner.channels(4)
    look = torch.rand(1, 3, 8, 8, generator=rng) - 0.5
    finished = refiner(coarse, torch.zeros(1, 3, 8, 8), torch.zeros(1, 1, 8, 8), look)
    torch.testing.assert_close(finished, (paint + 1) * look.exp() - 1)


def test_memory_running_out_halves_the_batch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = load_generator(str(folder), device=device(), batch_size=8)
    expected = generator.generate([request(i) for i in range(8)])
    paint = generator._paint

    def small_memory(batch: list[FaceRequest]) -> object:
        if len(batch) > 2:
            raise torch.OutOfMemoryError("no memory")
        return paint(batch)

    monkeypatch.setattr(generator, "_paint", small_memory)
    found = generator.generate([request(i) for i in range(8)])
    assert generator.batch_size == 2
    assert max(np.abs(a.astype(int) - b).max() for a, b in zip(expected, found, strict=True)) <= 1


def test_requests_that_do_not_fit_are_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match="does not fit"):
        load_generator(str(folder), device=device()).generate([request(0, code=np.zeros(3, np.float32))])


@pytest.mark.parametrize("damage", ["missing", "not json", "unknown family", "no weights"])
def test_bad_folders_are_named(folder: Path, tmp_path: Path, damage: str) -> None:
    if damage != "missing":
        about = json.loads((folder / "revisage.json").read_text())
        text = {"not json": "{", "unknown family": json.dumps(about | {"family": "x"})}.get(damage, json.dumps(about))
        (tmp_path / "revisage.json").write_text(text)
    with pytest.raises(ModelError, match="unet" if damage == "no weights" else None):
        load_generator(str(tmp_path), device=device())
    with pytest.raises(ModelError, match="revisage-face"):
        load_generator("no-such-model", device=device())


def test_spec_round_trip(folder: Path) -> None:
    spec = read_spec(folder)
    assert (spec.size, spec.patch, spec.code_size, spec.steps) == (SIZE, PATCH, CODE, 2)


def test_ddim_agrees_with_diffusers() -> None:
    scheduler = DDIMScheduler(
        beta_schedule="squaredcos_cap_v2", rescale_betas_zero_snr=True, timestep_spacing="trailing",
        prediction_type="sample", clip_sample=False,
    )  # fmt: skip
    target = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    noise = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(2))

    def denoise(x: torch.Tensor, t: int) -> torch.Tensor:
        return target * 0.9 + 0.1 * torch.tanh(x) + t / 5000

    for steps in (1, 4, 10):
        scheduler.set_timesteps(steps)
        assert trailing(steps) == scheduler.timesteps.tolist()
        x = noise
        for t in scheduler.timesteps.tolist():
            x = scheduler.step(denoise(x, t), t, x).prev_sample
        ours = ddim(denoise, noise, trailing(steps), scheduler.alphas_cumprod)
        torch.testing.assert_close(ours, x, atol=2e-4, rtol=1e-4)


def test_calmed_noise_has_no_tone_and_keeps_its_texture() -> None:
    noise = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    calm = calmed(noise, 4)
    tone, before = (torch.nn.functional.avg_pool2d(n, 16).std() for n in (calm, noise))
    assert tone < 0.2 * before
    assert 0.85 < calm.std() < 1.05
    assert calmed(noise, 0) is noise


def test_device_policy_gives_its_reason() -> None:
    assert choose_device("cpu").reason.startswith("asked for")
    assert choose_device("auto").reason
    with pytest.raises(DeviceError):
        choose_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="--device cpu"):
            choose_device("cuda")
