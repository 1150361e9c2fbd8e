"""Writes what saves time for likeness: tests/golden/models/savings.safetensors (networks), taesd*.safetensors (tiny
decoders), tiny-taesd.safetensors (one as madebyollin/taesd names its tensors) and tests/golden/pipelines/savings.* (whole
pictures). References: diffusers (guiders, AutoencoderTiny), the packages DeepCache and tomesd.

usage: python tools/golden/savings.py
"""

import importlib.metadata
import json

import torch
from DeepCache import DeepCacheSDHelper
from diffusers import (AutoencoderTiny, DDIMScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler,
                       StableDiffusionPipeline, UNet2DConditionModel)
from diffusers.guiders import ClassifierFreeGuidance
from safetensors import safe_open
from safetensors.torch import save_file
from tomesd import apply_patch, merge, remove_patch

import models
import pipelines

SEED = 20240811
last = models.last


def normal(*shape):
    return torch.randn(*shape, generator=models.generator)


# --- networks

def read(name):
    """A network of models.py with its inputs for the first two pictures."""
    with safe_open(models.save.folder / f"{name}.safetensors", "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}
        config = json.loads(file.metadata()["config"])
    unet = UNet2DConditionModel.from_config(config).eval()
    unet.load_state_dict({key[2:]: x.float() for key, x in tensors.items() if key.startswith("w.")})
    x = {key[2:]: x[:2] for key, x in tensors.items() if key.startswith("x.")}
    extra = {}
    if "labels" in x:
        extra["class_labels"] = x["labels"].long()
    if "pooled" in x:
        extra["added_cond_kwargs"] = {"text_embeds": x["pooled"], "time_ids": x["time_ids"]}
    return unet, x["sample"].permute(0, 3, 1, 2), x["t"], x["text"], extra


class Cached:
    """DeepCache on a network alone, its evaluations counted in place of a scheduler's timesteps. The package takes for
    granted that a level has three skips; here place `depth` is found in the real ones."""

    def __init__(self, unet, interval, depth):
        holder = type("Pipe", (), {"unet": unet})()
        self.helper, self.unet, self.forward, self.calls = DeepCacheSDHelper(holder), unet, unet.forward, 0
        per_level = unet.config.layers_per_block + 1
        self.helper.params = dict(cache_interval=interval, cache_block_id=depth // per_level,
                                  cache_layer_id=depth % per_level, skip_mode="uniform")

    def __enter__(self):
        self.helper.enable()

        def counted(*arguments, **options):
            self.helper.cur_timestep = self.calls
            self.calls += 1
            return self.forward(*arguments, **options)

        self.unet.forward = counted
        return self

    def __exit__(self, *_):
        self.helper.disable()
        self.unet.forward = self.forward


def networks():
    tensors = {}
    for name, depths in (("unet_sd1", (0, 1, 2, 3, 4, 7)), ("unet_sd2", (0, 1, 2, 4)), ("unet_sdxl", (0, 2, 3, 6)),
                         ("unet_refiner", (1, 5)), ("unet_x4", (0, 3))):
        unet, x, t, text, extra = read(name)
        later, sooner = x * 0.8 + 0.3 * normal(*x.shape), t * 0.9
        tensors[f"{name}.later"], tensors[f"{name}.sooner"] = last(later), sooner
        whole = unet(later, sooner, text, **extra).sample
        for depth in depths:
            with Cached(unet, 2, depth):
                unet(x, t, text, **extra)
                y = unet(later, sooner, text, **extra).sample
            print(name, depth, float((y - whole).norm() / whole.norm()))
            tensors[f"{name}.depth{depth}"] = last(y)
    for name, ratio, downsample in (("unet_sd1", 0.4, 1), ("unet_sd1", 0.9, 1), ("unet_sdxl", 0.3, 2)):
        unet, x, t, text, extra = read(name)
        whole = unet(x, t, text, **extra).sample
        apply_patch(unet, ratio=ratio, max_downsample=downsample)
        unet._tome_info["args"]["generator"] = torch.Generator().manual_seed(SEED)
        y = unet(x, t, text, **extra).sample
        remove_patch(unet)
        print(name, "merged", ratio, float((y - whole).norm() / whole.norm()))
        tensors[f"{name}.merged{ratio}"] = last(y)
    for height, width, ratio in ((7, 9, 0.5), (8, 6, 0.25), (2, 5, 0.75)):
        x, y = normal(2, height * width, 6), normal(2, height * width, 3)
        m, u = merge.bipartite_soft_matching_random2d(x, width, height, 2, 2, int(height * width * ratio),
                                                      generator=torch.Generator().manual_seed(SEED))
        name = f"merge_{height}x{width}_{ratio}"
        tensors |= {f"{name}.tokens": x, f"{name}.x": y, f"{name}.y": u(m(y)),
                    f"{name}.count": torch.tensor([m(y).shape[1]])}
    path = models.save.folder / "savings.safetensors"
    save_file({key: x.detach().contiguous().clone() for key, x in tensors.items()}, path)


# --- tiny decoders

def original(state):
    """The decoder as in madebyollin/taesd: places in a torch Sequential whose first layer is the clamp."""
    result = {}
    for key, x in state.items():
        if key.startswith("decoder.layers."):
            place, rest = key.removeprefix("decoder.layers.").split(".", 1)
            result[f"{int(place) + 1}.{rest}"] = x.clone()
    return result


def decoders():
    for name, channels, blocks, more in (("taesd", 6, (2, 1, 3), {}), ("taesd_two", 4, (1, 2), {}),
                                         ("taesd_wide", 5, (0, 1), dict(latent_channels=16, scaling_factor=0.7))):
        n = len(blocks)
        m = models.randomise(AutoencoderTiny(
            encoder_block_out_channels=(channels,) * n, decoder_block_out_channels=(channels,) * n,
            num_encoder_blocks=(1,) * n, num_decoder_blocks=blocks, **more))
        z = 2 * normal(2, m.config.latent_channels, 5, 3)
        y = m.decode(z / m.config.scaling_factor).sample
        models.save(name, m.state_dict(), {"z": z}, {"decoded": y}, m.to_json_string(), "diffusers AutoencoderTiny")
        if name == "taesd_two":
            save_file(original(m.state_dict()), models.save.folder / "tiny-taesd.safetensors")


def write_manifest(path, **more):
    versions = {name: importlib.metadata.version(name) for name in ("torch", "diffusers", "DeepCache", "tomesd")}
    manifest = {"generator": "tools/golden/savings.py", "seed": SEED, **versions, **more}
    path.write_text(json.dumps(manifest, indent=1) + "\n")


# --- whole pictures

# name: (model, our sampler, scheduler, savings as on our command line, arguments)
CASES = {
    "interval": ("tiny-sd1", "euler", EulerDiscreteScheduler, dict(interval="0.25:0.7"), {}),
    "interval-first": ("tiny-sd2", "ddim", DDIMScheduler, dict(interval="0:0.5"), {}),
    "adaptive": ("tiny-sd1", "ddim", DDIMScheduler, dict(adaptive=None), {}),
    "deepcache": ("tiny-sd1", "euler", EulerDiscreteScheduler, dict(deepcache="3:0"), {}),
    "deepcache-deeper": ("tiny-sd2", "ddim", DDIMScheduler, dict(deepcache="2:1"), {}),
    "deepcache-heun": ("tiny-sd1", "heun", HeunDiscreteScheduler, dict(deepcache="3:2"), {}),
    "merging": ("tiny-sd1", "euler", EulerDiscreteScheduler, dict(merging=0.5), dict(width=24, height=16, steps=4)),
}
DEFAULTS = dict(prompt=pipelines.PROMPT, negative=pipelines.NEGATIVE, width=40, height=32, steps=8, cfg=6.0, seed=5)


def picture(name, parts, threshold=None):
    """The latents, and the cosine of the two predictions at each guided step."""
    _, _, scheduler, savings, changes = CASES[name]
    a = DEFAULTS | changes
    options = dict(clip_sample=False) if scheduler is DDIMScheduler else {}
    pipe = StableDiffusionPipeline(**dict(parts, scheduler=scheduler.from_config(parts["scheduler"].config, **options)))
    text, negative = pipe.encode_prompt(a["prompt"], "cpu", 1, True, a["negative"])
    pipe.scheduler.set_timesteps(a["steps"])
    guider = None
    if "interval" in savings:
        start, stop = map(float, savings["interval"].split(":"))
        guider = ClassifierFreeGuidance(guidance_scale=a["cfg"], start=start, stop=stop)
    x = torch.randn(1, 4, a["height"] // 2, a["width"] // 2, generator=torch.Generator().manual_seed(a["seed"]))
    x = x * pipe.scheduler.init_noise_sigma
    cosines = []
    for i, t in enumerate(pipe.scheduler.timesteps):
        guided = not (threshold and cosines and cosines[-1] >= threshold)
        if guider:
            guider.set_state(step=i, num_inference_steps=a["steps"], timestep=t)
            guided = guider._is_cfg_enabled()
        inputs = pipe.scheduler.scale_model_input(x, t)
        if guided:
            out = pipe.unet(torch.cat([inputs] * 2), t, encoder_hidden_states=torch.cat([negative, text])).sample
            without, with_text = out.chunk(2)
            cosines.append(float(torch.nn.functional.cosine_similarity(without.flatten(), with_text.flatten(), dim=0)))
            out = without + a["cfg"] * (with_text - without)
        else:
            out = pipe.unet(inputs, t, encoder_hidden_states=text).sample
        x = pipe.scheduler.step(out, t, x).prev_sample
    return x, cosines


def pictures():
    tensors, cases = {}, []
    for name, (folder, sampler, _, savings, changes) in CASES.items():
        parts = pipelines.load(folder)
        case = dict(name=name, model=folder, sampler=sampler, pad_token=pipelines.pad_token(folder), **savings,
                    **(DEFAULTS | changes))
        unet = parts["unet"]
        if "adaptive" in savings:
            # Between the similarities of two steps, so that rounding does not decide.
            _, cosines = picture(name, parts)
            for i in range(3, len(cosines)):
                if cosines[i] > max(cosines[:i]) + 1e-4:
                    case["adaptive"] = (cosines[i] + max(cosines[:i])) / 2
                    case["guided"] = i + 1
                    break
            print(cosines)
            x, used = picture(name, parts, case["adaptive"])
            assert len(used) == case["guided"] < case["steps"], (used, case)
        elif "deepcache" in savings:
            with Cached(unet, *map(int, savings["deepcache"].split(":"))):
                x, _ = picture(name, parts)
        elif "merging" in savings:
            apply_patch(unet, ratio=savings["merging"])
            unet._tome_info["args"]["generator"] = torch.Generator().manual_seed(case["seed"])
            x, _ = picture(name, parts)
            remove_patch(unet)
        else:
            x, _ = picture(name, parts)
        kept = dict(savings)
        CASES[name][3].clear()
        whole, _ = picture(name, pipelines.load(folder))
        CASES[name][3].update(kept)
        print(name, float((x - whole).norm() / whole.norm()))
        tensors[name] = last(x).contiguous().clone()
        cases.append(case)
    save_file(tensors, pipelines.OUT / "savings.safetensors")
    write_manifest(pipelines.OUT / "savings.json", tolerance="3e-5 of the largest value, as of whole pictures", cases=cases)


def main():
    models.save.folder = pipelines.MODELS
    models.generator.manual_seed(SEED)
    torch.set_num_threads(1)
    with torch.no_grad():
        networks()
        decoders()
        write_manifest(models.save.folder / "savings.json", files=["savings", "taesd*", "tiny-taesd"],
                       tolerance="1e-5 of the largest value, as of whole networks")
        pictures()


if __name__ == "__main__":
    main()
