"""Makes a Stable Diffusion 1.5 checkpoint of the real size with random weights in float16, and what diffusers paints with it.

The weights are drawn as uniform numbers of variance 1 / fan_in, which every platform draws alike and which keep the
activations near the size that a trained network has. Below the given folder:

  sd15.safetensors       the single file in the original layout, with the buffers that the published files carry
  sd15/                  the same weights as a diffusers folder
  reference.safetensors  the latents before the decoder and the decoded pictures, [N,C,H,W], from diffusers in float32:
                         <case>.noise, .latent, .picture (in [0,1]) and for the full size .latent.<step>
  reference.json         the cases (prompt, seed, size, steps, sampler) and the versions

usage: python real_size.py [--out build/real] [--threads N] [--skip-reference]
"""

import argparse
import gc
import json
import pathlib
import platform
import time

import diffusers
import numpy
import safetensors
import torch
import transformers
from diffusers import (AutoencoderKL, EulerDiscreteScheduler, PNDMScheduler, StableDiffusionPipeline,
                       UNet2DConditionModel)
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

import checkpoints

ROOT = pathlib.Path(__file__).resolve().parents[2]
MERGES = ROOT / "data/clip/bpe_simple_vocab_16e6.txt.gz"
WEIGHT_SEED = 20240715
PROMPT = "a photograph of an astronaut riding a horse, highly detailed"
NEGATIVE = "blurry, low quality"
SCHEDULE = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
CASES = {
    "euler": dict(size=512, steps=2, sampler="euler", seed=42),
    "pndm": dict(size=512, steps=2, sampler="pndm", seed=42),
    "euler_256": dict(size=256, steps=2, sampler="euler", seed=7),
}
CFG_SCALE = 7.5


def draw(model, generator):
    """Fills the parameters of a model that was built without storage, in float16."""
    model.to_empty(device="cpu")
    model.half()
    for name, p in model.named_parameters():
        noise = (torch.rand(p.shape, generator=generator) - 0.5) * 12**0.5
        if p.ndim == 1:
            p.data.copy_(noise * 0.1 + (1.0 if name.endswith("weight") else 0.0))
        elif "embedding.weight" in name:
            p.data.copy_(noise * 0.5)
        else:
            # The last convolution sees SiLU of a normalised input, whose power is about a third.
            gain = 3.0 if name == "conv_out.weight" else 1.0
            p.data.copy_(noise * (gain / p[0].numel()) ** 0.5)
    for name, buffer in model.named_buffers():
        if name.endswith("position_ids"):
            buffer.data = torch.arange(buffer.shape[-1])[None]
        else:
            raise RuntimeError(f"real_size.py: the buffer {name} of {type(model).__name__} is not known here")
    return model.eval()


def parts():
    generator = torch.Generator().manual_seed(WEIGHT_SEED)
    with torch.device("meta"):
        text = CLIPTextModel(CLIPTextConfig(
            vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
            max_position_embeddings=77, hidden_act="quick_gelu", projection_dim=768, bos_token_id=0, eos_token_id=2,
            pad_token_id=1))
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
        vae = AutoencoderKL(
            sample_size=512, block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4,
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
            scaling_factor=0.18215)
    return draw(text, generator), draw(unet, generator), draw(vae, generator)


def schedule_buffers():
    """The buffers of CompVis' DDPM module, `ldm/models/diffusion/ddpm.py`, register_schedule."""
    betas = numpy.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=numpy.float64) ** 2
    after = numpy.cumprod(1 - betas)
    before = numpy.append(1.0, after[:-1])
    variance = betas * (1 - before) / (1 - after)
    buffers = {
        "betas": betas, "alphas_cumprod": after, "alphas_cumprod_prev": before,
        "sqrt_alphas_cumprod": after**0.5, "sqrt_one_minus_alphas_cumprod": (1 - after) ** 0.5,
        "log_one_minus_alphas_cumprod": numpy.log(1 - after), "sqrt_recip_alphas_cumprod": after**-0.5,
        "sqrt_recipm1_alphas_cumprod": (1 / after - 1) ** 0.5, "posterior_variance": variance,
        "posterior_log_variance_clipped": numpy.log(numpy.maximum(variance, 1e-20)),
        "posterior_mean_coef1": betas * before**0.5 / (1 - after),
        "posterior_mean_coef2": (1 - before) * (1 - betas) ** 0.5 / (1 - after),
    }
    buffers = {k: torch.from_numpy(v).float() for k, v in buffers.items()}
    buffers["model_ema.decay"] = torch.tensor(0.9999)
    buffers["model_ema.num_updates"] = torch.tensor(470000, dtype=torch.int32)
    return buffers


def store(tensors, path):
    """Whole or not at all, and readable by everybody."""
    unfinished = path.with_suffix(".unfinished")
    save_file({k: v.contiguous() for k, v in tensors.items()}, unfinished, metadata={"format": "pt"})
    unfinished.chmod(0o644)
    unfinished.rename(path)


def write_checkpoint(out):
    text, unet, vae = parts()
    folder = out / "sd15"
    scheduler = PNDMScheduler(**SCHEDULE, set_alpha_to_one=False, steps_offset=1, skip_prk_steps=True)
    pipe = StableDiffusionPipeline(
        vae=vae, text_encoder=text, tokenizer=checkpoints.clip_tokenizer(MERGES), unet=unet, scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipe.save_pretrained(folder, max_shard_size="10GB")
    single = checkpoints.original_unet(unet.state_dict(), 4, 2)
    single |= checkpoints.original_vae(vae.state_dict(), 4)
    text_state = checkpoints.with_text_model(text.state_dict())
    single |= {"cond_stage_model.transformer." + k: v for k, v in text_state.items()}
    single = checkpoints.half(single)
    checkpoints.read_back(single, {"unet": unet, "vae": vae, "text": text})
    single["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(77)[None]
    single |= schedule_buffers()
    store(single, out / "sd15.safetensors")


def sampler(name, config):
    if name == "pndm":
        return PNDMScheduler.from_config(config)
    return EulerDiscreteScheduler(**SCHEDULE, timestep_spacing="linspace", steps_offset=1)


def check_alive(latents, unet, embeddings):
    """A reference that does not depend on the text or the time would prove nothing."""
    with torch.inference_mode():
        x = latents[:, :, :32, :32]
        base = unet(x, 900, embeddings[:1]).sample
        other_text = unet(x, 900, embeddings[1:]).sample
        other_time = unet(x, 300, embeddings[:1]).sample
    size = base.std().item()
    by_text = ((base - other_text).std() / size).item()
    by_time = ((base - other_time).std() / size).item()
    print(f"one evaluation: std {size:.3f}; it moves by {by_text:.3f} with the text and by {by_time:.3f} with the time")
    if not (0.1 < size < 10 and by_text > 1e-2 and by_time > 1e-2):
        raise SystemExit("real_size.py: the random network is not sane")


def write_reference(out):
    pipe = StableDiffusionPipeline.from_pretrained(out / "sd15", torch_dtype=torch.float32, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    config = pipe.scheduler.config
    tensors, cases = {}, {}
    for name, case in CASES.items():
        cells = case["size"] // 8
        noise = torch.randn((1, 4, cells, cells), generator=torch.Generator().manual_seed(case["seed"]))
        pipe.scheduler = sampler(case["sampler"], config)
        steps = []

        def keep(pipe, step, timestep, values):
            steps.append(values["latents"].clone())
            return values

        start = time.monotonic()
        latent = pipe(
            PROMPT, negative_prompt=NEGATIVE, height=case["size"], width=case["size"], num_inference_steps=case["steps"],
            guidance_scale=CFG_SCALE, latents=noise.clone(), output_type="latent", callback_on_step_end=keep).images
        sampled = time.monotonic()
        with torch.inference_mode():
            picture = pipe.vae.decode(latent / pipe.vae.config.scaling_factor).sample
        decoded = time.monotonic()
        picture = (picture / 2 + 0.5).clamp(0, 1)
        grey = ((picture > 0) & (picture < 1)).float().mean().item()
        print(f"{name}: sampled in {sampled - start:.1f} s, decoded in {decoded - sampled:.1f} s; latent std "
              f"{latent.std().item():.3f}, {100 * grey:.0f} % of the picture's values are not clipped", flush=True)
        if not torch.isfinite(latent).all() or grey < 0.2:
            raise SystemExit(f"real_size.py: the picture of {name} is not sane")
        tensors |= {f"{name}.noise": noise, f"{name}.latent": latent, f"{name}.picture": picture}
        tensors |= {f"{name}.latent.{i}": x for i, x in enumerate(steps)}
        cases[name] = case | {"evaluations": len(steps)}
        if name == "euler":
            embeddings = torch.cat(pipe.encode_prompt(PROMPT, "cpu", 1, True, NEGATIVE))
            check_alive(noise, pipe.unet, embeddings)
            tensors["text"], tensors["negative"] = embeddings[:1].clone(), embeddings[1:].clone()
    store(tensors, out / "reference.safetensors")
    with open(out / "reference.json", "w") as f:
        json.dump({"prompt": PROMPT, "negative_prompt": NEGATIVE, "cfg_scale": CFG_SCALE, "weight_seed": WEIGHT_SEED,
                   "cases": cases, "torch": torch.__version__, "diffusers": diffusers.__version__,
                   "transformers": transformers.__version__, "safetensors": safetensors.__version__,
                   "python": platform.python_version(), "threads": torch.get_num_threads()}, f, indent=1)
        f.write("\n")


def complete(path):
    try:
        with safe_open(path, "pt") as f:
            return len(f.keys()) > 0
    except (OSError, safetensors.SafetensorError):
        return False


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", type=pathlib.Path, default=ROOT / "build/real")
    arguments.add_argument("--threads", type=int, help="threads of torch; default: its own choice")
    arguments.add_argument("--skip-reference", action="store_true", help="only the checkpoint")
    options = arguments.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    if complete(options.out / "sd15.safetensors"):
        print(f"{options.out}/sd15.safetensors is there")
    else:
        write_checkpoint(options.out)
        gc.collect()
    if options.skip_reference:
        return
    if complete(options.out / "reference.safetensors"):
        print(f"{options.out}/reference.safetensors is there")
    else:
        write_reference(options.out)


if __name__ == "__main__":
    main()
