"""Writes tests/golden/pipelines: pictures and latents of diffusers' pipelines on the tiny checkpoints.

Everything is float32 on the CPU. Pictures are what output_type="pil" gives, latents what output_type="latent" gives.

usage: python tools/golden/pipelines.py [cases...]
"""

import argparse
import json
import pathlib

import diffusers
import numpy as np
import torch
import transformers
from diffusers import (AutoencoderKL, DDIMScheduler, DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler,
                       EulerDiscreteScheduler, HeunDiscreteScheduler, PNDMScheduler, StableDiffusionImg2ImgPipeline,
                       StableDiffusionInpaintPipeline, StableDiffusionPipeline, UNet2DConditionModel,
                       UniPCMultistepScheduler)
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel

from checkpoints import clip_tokenizer

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = ROOT / "tests" / "golden" / "models"
OUT = ROOT / "tests" / "golden" / "pipelines"
PROMPT = "a red fox, oil on canvas"
NEGATIVE = "blurry, low quality"
LONG = "a tall ship in a storm, " * 12

NO_CLIP = dict(clip_sample=False)
TEXT, IMAGE, PAINT = StableDiffusionPipeline, StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline
# name: (folder, pipeline, our sampler, scheduler and its options, arguments). Without a sampler of ours the scheduler's
# configuration goes into the manifest, to be put into the model's folder.
CASES = {
    "sd1-default": ("tiny-sd1", TEXT, "", None, {}),
    "sd1-euler": ("tiny-sd1", TEXT, "euler", (EulerDiscreteScheduler, {}), dict(width=128, height=96, seed=7)),
    "sd1-euler-karras": ("tiny-sd1", TEXT, "", (EulerDiscreteScheduler, dict(use_karras_sigmas=True)), {}),
    "sd1-euler-a": ("tiny-sd1", TEXT, "euler_a", (EulerAncestralDiscreteScheduler, {}), dict(width=72, seed=3)),
    "sd1-heun": ("tiny-sd1", TEXT, "heun", (HeunDiscreteScheduler, {}), dict(steps=6)),
    "sd1-dpmpp2m": ("tiny-sd1", TEXT, "dpm++2m", (DPMSolverMultistepScheduler, {}), dict(height=88)),
    "sd1-dpmpp2m-karras": ("tiny-sd1", TEXT, "", (DPMSolverMultistepScheduler, dict(use_karras_sigmas=True)), {}),
    "sd1-unipc": ("tiny-sd1", TEXT, "unipc", (UniPCMultistepScheduler, {}), {}),
    "sd1-ddim": ("tiny-sd1", TEXT, "ddim", (DDIMScheduler, NO_CLIP), dict(negative="", cfg=4.0)),
    "sd1-ddim-eta": ("tiny-sd1", TEXT, "ddim", (DDIMScheduler, NO_CLIP), dict(eta=0.7)),
    "sd1-rescale": ("tiny-sd1", TEXT, "euler", (EulerDiscreteScheduler, {}), dict(rescale=0.7)),
    "sd1-batch": ("tiny-sd1", TEXT, "ddim", (DDIMScheduler, NO_CLIP), dict(batch=2, seed=40)),
    "sd1-unguided": ("tiny-sd1", TEXT, "euler", (EulerDiscreteScheduler, {}), dict(cfg=1.0)),
    "sd1-clip-skip": ("tiny-sd1", TEXT, "ddim", (DDIMScheduler, NO_CLIP), dict(clip_skip=1)),
    "sd1-truncate": ("tiny-sd1", TEXT, "ddim", (DDIMScheduler, NO_CLIP), dict(prompt=LONG)),
    "sd2-default": ("tiny-sd2", TEXT, "", None, {}),
    "sd2-euler": ("tiny-sd2", TEXT, "euler", (EulerDiscreteScheduler, {}), dict(width=96, height=72)),
    "sd2-dpmpp2m-rescale": ("tiny-sd2", TEXT, "dpm++2m", (DPMSolverMultistepScheduler, {}), dict(rescale=0.5)),
    "sd1-image-ddim": ("tiny-sd1", IMAGE, "ddim", (DDIMScheduler, NO_CLIP), dict(strength=0.6)),
    "sd1-image-euler": ("tiny-sd1", IMAGE, "euler", (EulerDiscreteScheduler, {}), dict(strength=0.75, batch=2)),
    "sd1-image-dpmpp2m": ("tiny-sd1", IMAGE, "dpm++2m", (DPMSolverMultistepScheduler, {}), dict(strength=0.5)),
    "sd2-image-ddim": ("tiny-sd2", IMAGE, "", None, dict(strength=0.8)),
    "sd1-paint-default": ("tiny-sd1", PAINT, "", None, dict(strength=1.0)),
    "sd1-paint-ddim": ("tiny-sd1", PAINT, "ddim", (DDIMScheduler, NO_CLIP), dict(strength=1.0, width=64, height=80)),
    "sd1-paint-euler": ("tiny-sd1", PAINT, "euler", (EulerDiscreteScheduler, {}), dict(strength=0.7)),
    "sd2-paint-ddim": ("tiny-sd2", PAINT, "", None, dict(strength=0.9, batch=2)),
    "inpaint-default": ("tiny-sd1-inpaint", PAINT, "", None, dict(strength=1.0)),
    "inpaint-euler": ("tiny-sd1-inpaint", PAINT, "euler", (EulerDiscreteScheduler, {}), dict(strength=0.8)),
    "inpaint-ddim-batch": ("tiny-sd1-inpaint", PAINT, "ddim", (DDIMScheduler, NO_CLIP), dict(strength=1.0, batch=2)),
}
DEFAULTS = dict(prompt=PROMPT, negative=NEGATIVE, width=64, height=64, steps=8, cfg=7.5, rescale=0.0, seed=1, batch=1,
                eta=None, clip_skip=None, strength=1.0)


def pictures():
    """A picture and a mask whose sizes are not those that are asked for."""
    y, x = np.mgrid[0:75, 0:97].astype(np.float64)
    waves = np.stack([np.sin(x / 9), np.cos(y / 7), np.sin((x + y) / 11)], axis=-1)
    noise = np.random.default_rng(11).normal(0, 12, waves.shape)
    picture = Image.fromarray(np.clip(127 + 90 * waves + noise, 0, 255).astype(np.uint8))
    mask = Image.fromarray((((x - 60) ** 2 + (y - 30) ** 2 < 600) * 255).astype(np.uint8))
    return picture, mask


def embeddings():
    """One textual-inversion embedding as AUTOMATIC1111 (.pt, .safetensors) and diffusers (.bin) store it."""
    folder = OUT / "embeddings"
    folder.mkdir(exist_ok=True)
    vectors = torch.randn(2, 8, generator=torch.Generator().manual_seed(21))
    torch.save({"string_to_token": {"*": 265}, "string_to_param": {"*": torch.nn.Parameter(vectors)}, "name": "webui",
                "step": 500, "sd_checkpoint": None, "sd_checkpoint_name": None}, folder / "webui.pt")
    save_file({"emb_params": vectors}, folder / "webui.safetensors")
    torch.save({"<any>": vectors}, folder / "diffusers.bin")


def pad_token(folder):
    """As in the published folders of the family, and in single files."""
    return "!" if folder == "tiny-sd2" else "<|endoftext|>"


def load(folder):
    path = MODELS / folder
    parts = dict(
        text_encoder=CLIPTextModel.from_pretrained(path / "text_encoder", dtype=torch.float32),
        unet=UNet2DConditionModel.from_pretrained(path, subfolder="unet", torch_dtype=torch.float32),
        vae=AutoencoderKL.from_pretrained(path, subfolder="vae", torch_dtype=torch.float32))
    # diffusers' clip_skip looks for the final norm where transformers kept it before version 5.
    object.__setattr__(parts["text_encoder"], "text_model", parts["text_encoder"])
    tokenizer = clip_tokenizer(ROOT / "data" / "clip" / "bpe_simple_vocab_16e6.txt.gz")
    tokenizer.pad_token = pad_token(folder)
    index = json.loads((path / "model_index.json").read_text())
    scheduler = getattr(diffusers, index["scheduler"][1]).from_pretrained(path, subfolder="scheduler")
    return dict(parts, tokenizer=tokenizer, scheduler=scheduler, safety_checker=None, feature_extractor=None,
                requires_safety_checker=False)


def run(name, parts, picture, mask):
    _, kind, _, scheduler, changes = CASES[name]
    a = DEFAULTS | changes
    if scheduler:
        options = dict(scheduler[1])
        parts = dict(parts, scheduler=scheduler[0].from_config(parts["scheduler"].config, **options))
    pipe = kind(**parts)
    pipe.set_progress_bar_config(disable=True)
    arguments = dict(prompt=a["prompt"], negative_prompt=a["negative"], num_inference_steps=a["steps"],
                     guidance_scale=a["cfg"], num_images_per_prompt=a["batch"])
    if a["eta"] is not None:
        arguments["eta"] = a["eta"]
    if a["clip_skip"] is not None:
        arguments["clip_skip"] = a["clip_skip"]
    if kind is TEXT:
        arguments |= dict(width=a["width"], height=a["height"], guidance_rescale=a["rescale"])
    else:
        arguments |= dict(strength=a["strength"])
    if kind is IMAGE:
        arguments |= dict(image=picture.resize((96, 72), Image.Resampling.LANCZOS))
    if kind is PAINT:
        arguments |= dict(image=picture, mask_image=mask, width=a["width"], height=a["height"])

    def generators():
        return [torch.Generator("cpu").manual_seed(a["seed"] + i) for i in range(a["batch"])]

    if a["batch"] > 1 and kind is PAINT:
        # With several generators this pipeline encodes the picture with the first alone; one by one is what a batch of
        # single pictures gives.
        single = dict(arguments, num_images_per_prompt=1)
        latents = torch.cat([pipe(**single, generator=g, output_type="latent").images for g in generators()])
        images = [pipe(**single, generator=g).images[0] for g in generators()]
    else:
        latents = pipe(**arguments, generator=generators(), output_type="latent").images
        images = pipe(**arguments, generator=generators()).images
    return latents.permute(0, 2, 3, 1).contiguous(), torch.from_numpy(np.stack([np.asarray(i) for i in images]))


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("cases", nargs="*")
    names = arguments.parse_args().cases or list(CASES)
    OUT.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    picture, mask = pictures()
    picture.save(OUT / "picture.png")
    mask.save(OUT / "mask.png")
    embeddings()
    target = OUT / "pictures.safetensors"
    tensors = load_file(target) if target.exists() and len(names) < len(CASES) else {}
    parts = {}
    with torch.no_grad():
        for name in names:
            folder = CASES[name][0]
            if folder not in parts:
                parts[folder] = load(folder)
            tensors[name + ".latents"], tensors[name + ".images"] = run(name, parts[folder], picture, mask)
            print(name, float(tensors[name + ".latents"].std()), tensors[name + ".images"].float().std().item())
    save_file(tensors, target)
    cases = []
    for name, (folder, kind, sampler, scheduler, changes) in CASES.items():
        a = DEFAULTS | changes
        mode = {TEXT: "text", IMAGE: "image", PAINT: "paint"}[kind]
        case = dict(name=name, model=folder, mode=mode, sampler=sampler, pad_token=pad_token(folder), **a)
        if scheduler and not sampler:
            config = json.loads((MODELS / folder / "scheduler" / "scheduler_config.json").read_text())
            case["scheduler_config"] = scheduler[0].from_config(config, **scheduler[1]).to_json_string()
        cases.append(case)
    manifest = {"generator": "tools/golden/pipelines.py", "torch": torch.__version__,
                "diffusers": diffusers.__version__, "transformers": transformers.__version__, "cases": cases}
    (OUT / "pipelines.json").write_text(json.dumps(manifest, indent=1) + "\n")


if __name__ == "__main__":
    main()
