"""The latent families with tiny, untrained models of the very same diffusers classes, saved to disk and loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    ControlNetModel,
    DDIMScheduler,
    DDPMScheduler,
    UNet2DConditionModel,
    UNet2DModel,
    VQModel,
)
from films import film_of_a_face  # type: ignore[import-not-found]
from safetensors.torch import save_file

from revisage.cli import cli
from revisage.models import hub
from revisage.models.base import FaceGenerator, FaceRequest
from revisage.models.conditioning import (
    FACE_TEMPLATE,
    FFHQ_TEMPLATE,
    REMOVED,
    draw_lines,
    face_mask,
    standard_landmarks,
)
from revisage.models.device import choose_device
from revisage.models.folder import LatentSpec, PromptedSpec, read_spec
from revisage.models.generator import DiffusionGenerator, load_generator
from revisage.models.lora import fuse
from revisage.models.schedule import Schedule
from revisage.pipeline.errors import ModelError
from revisage.pipeline.media import file_digest, open_video
from revisage.pipeline.run import JobOptions, KeyRing, Workshop
from revisage.pipeline.types import Origin, Plan, Track, TrackedFace, VideoInfo
from revisage.pipeline.vault.keys import SecretKey

SIZE, CELLS, WORDS, WIDTH = 32, 16, 5, 8
DEVICE = replace(choose_device("cpu").exact, threads=1)


def write_index(folder: Path, pipeline: str, **parts: str) -> None:
    index = {"_class_name": pipeline, **{name: ["diffusers", kind] for name, kind in parts.items()}}
    (folder / "model_index.json").write_text(json.dumps(index))


def make_ldm(folder: Path) -> None:
    """As `CompVis/ldm-celebahq-256` is laid out."""
    torch.manual_seed(0)
    VQModel(
        block_out_channels=(16, 16), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=3, num_vq_embeddings=64, norm_num_groups=8,
    ).save_pretrained(folder / "vqvae")  # fmt: skip
    UNet2DModel(
        sample_size=CELLS, in_channels=3, out_channels=3, block_out_channels=(16, 16), layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=8, norm_num_groups=8,
    ).save_pretrained(folder / "unet")  # fmt: skip
    schedule = {"beta_start": 0.0015, "beta_end": 0.0195, "beta_schedule": "scaled_linear"}
    DDPMScheduler(**schedule).save_pretrained(folder / "scheduler")
    write_index(folder, "LDMPipeline", vqvae="VQModel", unet="UNet2DModel", scheduler="DDPMScheduler")
    (folder / "README.md").write_text("---\ntags:\n- faces\nlicense: apache-2.0\n---\n# A model\n")


def make_stable(folder: Path, *, vae: str = "kl", control: bool = True, predicts: str = "epsilon") -> None:
    """As `*-inpainting` folders are laid out, with a ControlNet and the prompt's embeddings beside."""
    torch.manual_seed(0)
    if vae == "kl":
        AutoencoderKL(
            block_out_channels=(16, 16), down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4, norm_num_groups=8,
        ).save_pretrained(folder / "vae")  # fmt: skip
    else:
        AutoencoderTiny(
            encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), num_encoder_blocks=(1, 1),
            num_decoder_blocks=(1, 1), latent_channels=4,
        ).save_pretrained(folder / "vae")  # fmt: skip
    shape: dict[str, Any] = {
        "block_out_channels": (16, 32), "layers_per_block": 1, "cross_attention_dim": WIDTH, "norm_num_groups": 8,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "attention_head_dim": 8,
    }  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=CELLS, in_channels=9, out_channels=4, up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), **shape
    )
    unet.save_pretrained(folder / "unet")
    if control:
        net = ControlNetModel(in_channels=4, conditioning_embedding_out_channels=(8, 16), **shape)
        for layer in (net.controlnet_mid_block, *net.controlnet_down_blocks, net.controlnet_cond_embedding.conv_out):
            torch.nn.init.normal_(layer.weight, std=0.5)  # they start at zero and would do nothing
        net.save_pretrained(folder / "controlnet")
    DDIMScheduler(beta_schedule="scaled_linear", prediction_type=predicts).save_pretrained(folder / "scheduler")
    write_index(folder, "StableDiffusionInpaintPipeline", vae="AutoencoderKL", unet="UNet2DConditionModel")
    keep_prompts(folder, read_spec(folder))


def keep_prompts(folder: Path, spec: Any) -> None:
    generator = torch.Generator().manual_seed(1)
    words = torch.randn(2, WORDS, WIDTH, generator=generator)
    prompts = json.dumps([spec.prompt, spec.negative_prompt])
    save_file({"embeddings": words}, folder / "prompt_embeds.safetensors", metadata={"prompts": prompts})


def describe(folder: Path, **changes: object) -> None:
    """Give the folder a `revisage.json` that differs from its defaults."""
    spec = read_spec(folder)
    about = {name: getattr(spec, name) for name in spec.__dataclass_fields__ if name != "template"}
    template = {"name": "t", "points": [list(p) for p in spec.template.points]}
    (folder / "revisage.json").write_text(json.dumps({"format": 1, **about, "template": template, **changes}))


MAKERS: dict[str, Callable[[Path], None]] = {
    "ldm": make_ldm,
    "sd-inpaint": make_stable,
    "sd-inpaint tiny": lambda folder: make_stable(folder, vae="tiny", control=False, predicts="v_prediction"),
}


@pytest.fixture(scope="module", params=MAKERS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("model")
    MAKERS[request.param](root)
    return root


def opened(folder: Path, steps: int = 3, batch_size: int = 4) -> DiffusionGenerator:
    return load_generator(str(folder), device=DEVICE, steps=steps, batch_size=batch_size)


def request_for(generator: FaceGenerator, seed: int, **changes: object) -> FaceRequest:
    rng = np.random.default_rng(seed)
    landmarks = standard_landmarks(np.array(FACE_TEMPLATE.points, np.float32) * SIZE - 0.5)
    mask = face_mask(landmarks, SIZE)
    background = rng.integers(0, 255, (SIZE, SIZE, 3)).astype(np.uint8)
    background[mask > 0] = REMOVED
    parts = {"background": background, "mask": mask, "landmarks": landmarks, "code": np.zeros(1, np.float32)}
    noise = rng.standard_normal(generator.noise_shape).astype(np.float32)
    return FaceRequest(**{**parts, "noise": noise, **changes})  # type: ignore[arg-type]


def apart(a: Any, b: Any) -> int:
    return int(np.abs(np.asarray(a, int) - np.asarray(b, int)).max())


def test_paints_pictures_from_noise_of_the_latents_shape(folder: Path) -> None:
    generator = opened(folder)
    assert isinstance(generator, FaceGenerator)
    channels = 3 if generator.spec.family == "ldm" else 4
    assert (generator.size, generator.code_size, generator.noise_shape) == (SIZE, 1, (channels, CELLS, CELLS))
    base = request_for(generator, 0)
    a, b, again = generator.generate([base, request_for(generator, 0, noise=-base.noise), base])
    assert (a.shape, a.dtype) == ((SIZE, SIZE, 3), np.uint8)
    assert apart(a, b) > 0
    assert apart(a, again) <= 1
    with pytest.raises(ModelError, match="does not fit"):
        generator.generate([request_for(generator, 0, noise=np.zeros((3, SIZE, SIZE), np.float32))])


def test_batch_size_does_not_change_a_face(folder: Path) -> None:
    alone, together = opened(folder, batch_size=1), opened(folder, batch_size=8)
    requests = [request_for(alone, seed) for seed in range(5)]
    # float32 sums in another order: at most one grey level; a codebook may take another entry where two are as near
    pairs = zip(alone.generate(requests), together.generate(requests), strict=True)
    strange = [np.abs(a.astype(int) - b).max(axis=2) > 1 for a, b in pairs]
    assert np.mean(strange) <= (0.02 if alone.spec.family == "ldm" else 0)


def test_what_is_outside_the_mask_is_the_background(folder: Path) -> None:
    """Every step keeps it at the right noise, so that at the end it is what the autoencoder makes of the background."""
    generator = opened(folder)
    family, request = generator.family, request_for(generator, 0)
    with torch.inference_mode():
        scene = family.scene([request])
        picture = torch.from_numpy(request.background)[None].permute(0, 3, 1, 2).float() / 127.5 - 1
        background, alpha = family.encode(picture), float(family.alphas[-1])
        noise = torch.from_numpy(request.noise)[None]
        outside = torch.nn.functional.max_pool2d(torch.from_numpy(request.mask > 0).float()[None, None], 2) == 0
        wanted = alpha**0.5 * background + (1 - alpha) ** 0.5 * noise
        everywhere = outside.expand_as(background)
        torch.testing.assert_close(scene.start[everywhere], wanted[everywhere])
        torch.testing.assert_close(scene.start[~everywhere], noise[~everywhere])
        clean = scene.denoise(scene.start, len(family.alphas) - 1)
        torch.testing.assert_close(clean[everywhere], background[everywhere])
        assert not torch.allclose(clean[~everywhere], background[~everywhere])
        assert family.decode(background).shape == (1, 3, SIZE, SIZE)


def test_plain_diffusers_folders_are_recognised(folder: Path) -> None:
    spec = read_spec(folder)
    if spec.family == "ldm":
        assert isinstance(spec, LatentSpec)
        assert (spec.licence, spec.template.points, spec.steps) == ("apache-2.0", FFHQ_TEMPLATE.points, 20)
    else:
        assert isinstance(spec, PromptedSpec)
        assert (spec.licence, spec.template.points, spec.guidance) == ("not stated", FACE_TEMPLATE.points, 7.5)


def test_bfloat16_runs_the_same_code(folder: Path) -> None:
    half = load_generator(str(folder), device=replace(DEVICE, dtype=torch.bfloat16), steps=2)
    exact = opened(folder, steps=2)
    request = request_for(half, 0)
    (a,), (b,) = half.generate([request]), exact.generate([request])
    assert a.dtype == np.uint8
    if half.spec.family != "ldm":  # a codebook turns small differences into other entries
        assert np.abs(a.astype(int) - b).mean() < 8


@pytest.mark.parametrize("control", ["drawing", "lines"])
def test_landmarks_reach_the_controlnet(tmp_path: Path, control: str) -> None:
    make_stable(tmp_path)
    describe(tmp_path, control=control, guidance=1)
    generator = opened(tmp_path)
    base = request_for(generator, 0)
    a, b = generator.generate([base, request_for(generator, 0, landmarks=base.landmarks * 0.8)])
    assert apart(a, b) > 0


def test_lines_are_white_on_black() -> None:
    landmarks = standard_landmarks(np.array(FACE_TEMPLATE.points, np.float32) * 128 - 0.5)
    lines = draw_lines(landmarks, 128)
    assert lines.shape == (128, 128, 3)
    assert 0.01 < (lines > 0).mean() < 0.3
    assert (lines == lines[..., :1]).all()


def test_guidance_and_prompt_matter(tmp_path: Path) -> None:
    make_stable(tmp_path, control=False)
    plain = opened(tmp_path)
    describe(tmp_path, guidance=1)
    free = opened(tmp_path)
    request = request_for(plain, 0)
    assert apart(plain.generate([request]), free.generate([request])) > 0
    describe(tmp_path, prompt="another")
    with pytest.raises(ModelError, match=r"transformers|text encoder"):
        opened(tmp_path)
    keep_prompts(tmp_path, read_spec(tmp_path))
    assert opened(tmp_path).generate([request])[0].shape == (SIZE, SIZE, 3)


def test_prompts_are_embedded_once(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="the optional text encoder is not installed")
    make_stable(tmp_path, control=False)
    (tmp_path / "prompt_embeds.safetensors").unlink()
    config = transformers.CLIPTextConfig(
        vocab_size=600, hidden_size=WIDTH, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    transformers.CLIPTextModel(config).save_pretrained(tmp_path / "text_encoder")
    (tmp_path / "tokenizer").mkdir()
    letters = [f"{chr(i)}{end}" for i in range(33, 127) for end in ("", "</w>")]
    words = {word: i for i, word in enumerate([*letters, "<|startoftext|>", "<|endoftext|>"])}
    (tmp_path / "tokenizer" / "vocab.json").write_text(json.dumps(words))
    (tmp_path / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
    (tmp_path / "tokenizer" / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 77}))
    request = request_for(opened(tmp_path), 0)
    (first,) = opened(tmp_path).generate([request])
    (tmp_path / "text_encoder" / "model.safetensors").unlink()
    assert apart(first, opened(tmp_path).generate([request])[0]) == 0


LINEAR, CONV = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q", "down_blocks.0.resnets.0.conv1"


def lora(style: str, rank: int = 2) -> dict[str, torch.Tensor]:
    """Adapters of one linear layer (16 to 16) and one convolution (16 to 16, 3 x 3)."""
    generator = torch.Generator().manual_seed(3)
    parts: dict[str, torch.Tensor] = {}
    for layer, kernel in ((LINEAR, ()), (CONV, (3, 3))):
        down = torch.randn(rank, 16, *kernel, generator=generator)
        up = torch.randn(16, rank, *(1 for _ in kernel), generator=generator)
        if style == "diffusers":
            parts |= {f"unet.{layer}.lora_A.weight": down, f"unet.{layer}.lora_B.weight": up}
        elif style == "old diffusers":
            parts |= {f"{layer}.lora.down.weight": down, f"{layer}.lora.up.weight": up}
        else:
            name = "lora_unet_" + layer.replace(".", "_")
            parts |= {
                f"{name}.lora_down.weight": down,
                f"{name}.lora_up.weight": up,
                f"{name}.alpha": torch.tensor(1.0),
            }
    return parts


@pytest.mark.parametrize(("style", "share"), [("diffusers", 1.0), ("old diffusers", 1.0), ("kohya", 0.5)])
def test_a_lora_is_fused_into_the_unet(tmp_path: Path, style: str, share: float) -> None:
    make_stable(tmp_path, control=False)
    describe(tmp_path, guidance=1)
    without = opened(tmp_path)
    request = request_for(without, 0)
    (tmp_path / "lora").mkdir()
    save_file(lora(style), tmp_path / "lora" / "pytorch_lora_weights.safetensors")
    assert apart(without.generate([request]), opened(tmp_path).generate([request])) > 0
    plain, fused = (UNet2DConditionModel.from_pretrained(tmp_path / "unet") for _ in range(2))
    fuse(fused, tmp_path / "lora")
    parts = lora("diffusers")
    for layer in (LINEAR, CONV):
        before, after = plain.get_submodule(layer).weight, fused.get_submodule(layer).weight
        down, up = parts[f"unet.{layer}.lora_A.weight"], parts[f"unet.{layer}.lora_B.weight"]
        wanted = share * torch.einsum("or,ri...->oi...", up.flatten(1), down)
        torch.testing.assert_close(after - before, wanted, atol=1e-5, rtol=1e-4)


def test_a_lora_of_another_network_is_refused(tmp_path: Path) -> None:
    unet = UNet2DConditionModel(block_out_channels=(8,), down_block_types=("DownBlock2D",), norm_num_groups=8,
                                up_block_types=("UpBlock2D",), layers_per_block=1)  # fmt: skip
    with pytest.raises(ModelError, match="holds 0"):
        fuse(unet, tmp_path)
    for parts, says in ((lora("kohya"), "does not fit"), ({"text.weight": torch.zeros(1)}, "no known kind")):
        save_file(parts, tmp_path / "lora.safetensors")
        with pytest.raises(ModelError, match=says):
            fuse(unet, tmp_path)


def damaged_parts() -> dict[str, tuple[str, Callable[[Path], object]]]:
    def rewrite(name: str, **changes: object) -> Callable[[Path], object]:
        def act(root: Path) -> None:
            path = root / name
            path.write_text(json.dumps(json.loads(path.read_text()) | changes))

        return act

    return {
        "unknown pipeline": ("known family", rewrite("unet/config.json", in_channels=4)),
        "unknown autoencoder": ("known class", rewrite("vae/config.json", _class_name="Other")),
        "no autoencoder": ("config.json cannot be read", lambda root: (root / "vae" / "config.json").unlink()),
        "no weights": ("cannot load", lambda root: (root / "unet" / "diffusion_pytorch_model.safetensors").unlink()),
        "odd size": ("do not divide", lambda root: describe(root, size=SIZE + 1)),
        "unknown prediction": ("prediction_type", rewrite("scheduler/scheduler_config.json", prediction_type="x")),
        "damaged prompts": ("damaged", lambda root: (root / "prompt_embeds.safetensors").write_bytes(b"x")),
    }


@pytest.mark.parametrize("damage", damaged_parts())
def test_bad_folders_are_named(tmp_path: Path, damage: str) -> None:
    make_stable(tmp_path, control=False)
    says, act = damaged_parts()[damage]
    act(tmp_path)
    with pytest.raises(ModelError, match=says):
        opened(tmp_path)


def test_predictions_agree_with_diffusers(tmp_path: Path) -> None:
    x, out = (torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    for kind in ("epsilon", "v_prediction", "sample"):
        scheduler = DDIMScheduler(prediction_type=kind, clip_sample=False)
        scheduler.save_pretrained(tmp_path)
        scheduler.set_timesteps(10)
        wanted = scheduler.step(out, 601, x).pred_original_sample
        torch.testing.assert_close(Schedule.load(tmp_path).clean(out, x, 601), wanted)
    DDIMScheduler(rescale_betas_zero_snr=True).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="signal"):
        Schedule.load(tmp_path)


def test_hub_names_are_looked_up_here_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked: list[dict[str, Any]] = []

    def download(name: str, **options: Any) -> str:
        asked.append(options)
        if not tmp_path.joinpath("unet").exists():
            raise OSError("not here")
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(ModelError, match="revisage models fetch org/faces"):
        load_generator("org/faces", device=DEVICE)
    make_ldm(tmp_path)
    generator = load_generator("org/faces", device=DEVICE)
    assert isinstance(generator, DiffusionGenerator)
    assert (generator.spec.name, generator.spec.licence) == ("org/faces", "apache-2.0")
    assert all(options["local_files_only"] for options in asked)
    assert hub.is_hub_name("CompVis/ldm-celebahq-256")
    assert not any(hub.is_hub_name(name) for name in ("faces", "../faces", "a/b/c", "https://x/y", "a/.."))


def test_fetching_allows_no_code_and_names_no_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    seen: dict[str, Any] = {}

    def download(name: str, **options: Any) -> str:
        seen.update(options, offline=huggingface_hub.constants.HF_HUB_OFFLINE)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert hub.fetch_model("org/faces") == tmp_path
    assert not seen["offline"]
    assert not any(pattern.endswith((".bin", ".pt", ".ckpt", ".py", "*")) for pattern in seen["allow_patterns"][:3])
    assert huggingface_hub.constants.HF_HUB_OFFLINE

    def fail(name: str, **options: Any) -> str:
        raise OSError("404 for https://somewhere/x")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(ModelError) as error:
        hub.fetch_model("org/faces")
    assert "://" not in str(error.value)


# -- a whole run -------------------------------------------------------------------------------------------------------


def test_a_film_is_anonymized_by_a_latent_family(folder: Path, tmp_path: Path) -> None:
    """The noise comes in the family's own shape, the licence is said, and the same key gives the same faces."""
    film_of_a_face(tmp_path / "in.mkv", 2, 128, 96, codec="ffv1")
    with open_video(tmp_path / "in.mkv") as video:
        pts = tuple(frame.pts for frame in video.frames())
        info = VideoInfo(128, 96, video.time_base, video.pix_fmt.name, 2, file_digest(tmp_path / "in.mkv"))
    points = np.array(FACE_TEMPLATE.points, np.float32) * 60 + np.float32([30, 20])
    faces = tuple(TrackedFace(i, (42, 26, 78, 74), points, Origin.DETECTED, 0.9) for i in range(2))
    plan = Plan(info, (Track(1, faces),), "by hand", pts)
    options = JobOptions(model=str(folder), steps=2, batch_size=2, device="cpu", threads=1, seal="off", index=True,
                         verify=False, codec="ffv1")  # fmt: skip
    assert Workshop(options).licence == read_spec(folder).licence
    painted = []
    for name in ("a.mkv", "b.mkv"):
        keys = KeyRing((SecretKey(bytes(range(32))),))
        report = Workshop(options).anonymize(tmp_path / "in.mkv", tmp_path / name, keys, plan=plan)
        assert (report.render.faces, report.render.fallbacks) == (2, 0)
        with open_video(tmp_path / name) as video:
            painted.append([frame.rgb() for frame in video.frames()])
    assert all(apart(a, b) <= 1 for a, b in zip(*painted, strict=True))


def test_the_embedded_model_needs_no_licence_said(folder: Path) -> None:
    assert Workshop(JobOptions()).licence is None
    assert Workshop(JobOptions(model=str(folder), method="blur")).licence is None


def test_a_licence_is_shown_before_a_download(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    order: list[str] = []

    def licence(name: str) -> str:
        order.append("licence")
        return "openrail++"

    def fetch(name: str) -> Path:
        order.append("fetch")
        return tmp_path

    monkeypatch.setattr(hub, "hub_licence", licence)
    monkeypatch.setattr(hub, "fetch_model", fetch)
    result = CliRunner().invoke(cli, ["models", "fetch", "org/faces"])
    assert result.exit_code == 0, result.output
    assert order == ["licence", "fetch"]
    assert "licence of org/faces: openrail++" in result.stderr
