"""Writes tests/golden/models/tiny-*: complete, tiny, random Stable Diffusion checkpoints.

Each exists as a diffusers folder (written by diffusers itself) and as a single file in the original layout. The
single file is made here from the published layout and then read back by diffusers' own from_single_file, which must
give the same tensors. The vocabulary files of the tokenizer are left out of the folders: they are CLIP's own.

usage: python tools/golden/checkpoints.py [--bpe bpe_simple_vocab_16e6.txt.gz] [--out tests/golden/models]
"""

import argparse
import gzip
import json
import os
import pathlib
import shutil
import tempfile

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, DDIMScheduler, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.loaders import single_file_utils
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

ROOT = pathlib.Path(__file__).resolve().parents[2]
SMALL_VOCABULARY = 512


def randomise(model, generator):
    """Norms and biases away from 1 and 0, and everything on the grid of float16."""
    for name, p in model.named_parameters():
        if p.ndim == 1:
            noise = torch.randn(p.shape, generator=generator) * 0.1
            p.data = noise + (1.0 if name.endswith("weight") else 0.0)
        elif "embedding.weight" in name:
            p.data = torch.randn(p.shape, generator=generator) * 0.5
        else:
            fan_in = p[0].numel()
            p.data = torch.randn(p.shape, generator=generator) * (1.0 / fan_in) ** 0.5
        p.data = p.data.half().float()
    return model.eval()


def clip_tokenizer(bpe_path):
    lines = gzip.open(bpe_path, "rt", encoding="utf-8").read().split("\n")
    merges = lines[1 : 49152 - 256 - 2 + 1]
    printable = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    characters = [chr(b) for b in printable]
    characters += [chr(256 + i) for i in range(256 - len(printable))]
    words = characters + [c + "</w>" for c in characters] + ["".join(m.split()) for m in merges]
    words += ["<|startoftext|>", "<|endoftext|>"]
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "vocab.json"), "w", encoding="utf-8") as f:
            json.dump({w: i for i, w in enumerate(words)}, f, ensure_ascii=False)
        with open(os.path.join(folder, "merges.txt"), "w", encoding="utf-8") as f:
            f.write("#version: 0.2\n" + "\n".join(merges) + "\n")
        return CLIPTokenizer.from_pretrained(folder, model_max_length=77)


def text_config(activation, vocabulary=49408):
    return CLIPTextConfig(
        vocab_size=vocabulary, hidden_size=8, intermediate_size=32, num_hidden_layers=2, num_attention_heads=1,
        max_position_embeddings=77, hidden_act=activation, projection_dim=8, bos_token_id=0, eos_token_id=2, pad_token_id=1,
    )


def unet(in_channels, linear, generator):
    return randomise(
        UNet2DConditionModel(
            sample_size=32, in_channels=in_channels, out_channels=4, block_out_channels=(32, 32), layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=8, attention_head_dim=(1, 1) if linear else 8, use_linear_projection=linear,
            norm_num_groups=32,
        ),
        generator,
    )


def autoencoder(generator):
    return randomise(
        AutoencoderKL(
            sample_size=64, block_out_channels=(32, 32), layers_per_block=1, latent_channels=4, norm_num_groups=32,
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
            scaling_factor=0.18215,
        ),
        generator,
    )


def original_unet(state, levels, layers):
    """diffusers' names -> CompVis' names, `ldm/modules/diffusionmodules/openaimodel.py`."""
    blocks = {"conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
              "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
              "class_embedding": "label_emb", "add_embedding.linear_1": "label_emb.0.0",
              "add_embedding.linear_2": "label_emb.0.2",
              "mid_block.resnets.0": "middle_block.0", "mid_block.attentions.0": "middle_block.1",
              "mid_block.resnets.1": "middle_block.2"}
    index = 1
    for level in range(levels):
        for layer in range(layers):
            blocks[f"down_blocks.{level}.resnets.{layer}"] = f"input_blocks.{index}.0"
            blocks[f"down_blocks.{level}.attentions.{layer}"] = f"input_blocks.{index}.1"
            index += 1
        if level + 1 < levels:
            blocks[f"down_blocks.{level}.downsamplers.0.conv"] = f"input_blocks.{index}.0.op"
            index += 1
    index = 0
    for level in range(levels):
        attention = any(k.startswith(f"up_blocks.{level}.attentions.") for k in state)
        for layer in range(layers + 1):
            blocks[f"up_blocks.{level}.resnets.{layer}"] = f"output_blocks.{index}.0"
            blocks[f"up_blocks.{level}.attentions.{layer}"] = f"output_blocks.{index}.1"
            index += 1
        blocks[f"up_blocks.{level}.upsamplers.0.conv"] = f"output_blocks.{index - 1}.{2 if attention else 1}.conv"
    inside_resnet = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1",
                     "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}
    result = {}
    for key, value in state.items():
        prefix = max((b for b in blocks if key.startswith(b + ".")), key=len)
        rest = key[len(prefix) + 1 :]
        if ".resnets." in key:
            head, tail = rest.split(".", 1)
            rest = inside_resnet[head] + "." + tail
        result["model.diffusion_model." + blocks[prefix] + "." + rest] = value
    return result


def original_vae(state, levels):
    """diffusers' names -> CompVis' names, `ldm/modules/diffusionmodules/model.py`."""
    result = {}
    for key, value in state.items():
        name = key.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        name = name.replace("mid_block.resnets.0", "mid.block_1").replace("mid_block.resnets.1", "mid.block_2")
        if ".attentions." in name:
            name = name.replace("mid_block.attentions.0", "mid.attn_1").replace("group_norm", "norm")
            name = name.replace("to_out.0", "proj_out").replace("to_", "")
            if value.ndim == 2:
                value = value[:, :, None, None]
        for level in range(levels):
            name = name.replace(f"down_blocks.{level}.resnets", f"down.{level}.block")
            name = name.replace(f"down_blocks.{level}.attentions", f"down.{level}.attn")
            name = name.replace(f"down_blocks.{level}.downsamplers.0", f"down.{level}.downsample")
            name = name.replace(f"up_blocks.{level}.resnets", f"up.{levels - 1 - level}.block")
            name = name.replace(f"up_blocks.{level}.attentions", f"up.{levels - 1 - level}.attn")
            name = name.replace(f"up_blocks.{level}.upsamplers.0", f"up.{levels - 1 - level}.upsample")
        result["first_stage_model." + name] = value
    return result


def original_open_clip(state, prefix):
    """transformers' names -> OpenCLIP's; q, k and v become one matrix."""
    inside = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
              "self_attn.out_proj": "attn.out_proj"}
    result = {}
    for key, value in state.items():
        name = key.removeprefix("text_model.")
        if name == "embeddings.token_embedding.weight":
            result[prefix + "token_embedding.weight"] = value
        elif name == "embeddings.position_embedding.weight":
            result[prefix + "positional_embedding"] = value
        elif name.startswith("final_layer_norm."):
            result[prefix + "ln_final." + name.split(".")[-1]] = value
        elif name == "text_projection.weight":
            result[prefix + "text_projection"] = value.T.contiguous()
        else:
            _, _, layer, rest = name.split(".", 3)
            block = f"{prefix}transformer.resblocks.{layer}."
            part, kind = rest.rsplit(".", 1)
            if part == "self_attn.q_proj":
                joined = [state[key.replace("q_proj", f"{x}_proj")] for x in "qkv"]
                result[block + "attn.in_proj_" + kind] = torch.cat(joined)
            elif part not in ("self_attn.k_proj", "self_attn.v_proj"):
                result[block + inside[part] + "." + kind] = value
    return result


def with_text_model(state):
    return {("" if k.startswith("text_") else "text_model.") + k: v for k, v in state.items()}


def half(state):
    return {k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in state.items()}


def read_back(single, parts):
    """What diffusers' single-file reader makes of the file must be what went in."""
    u = single_file_utils.convert_ldm_unet_checkpoint(dict(single), dict(parts["unet"].config))
    v = single_file_utils.convert_ldm_vae_checkpoint(dict(single), dict(parts["vae"].config))
    if any(k.startswith("cond_stage_model.model.") for k in single):
        t = single_file_utils.convert_open_clip_checkpoint(parts["text"], dict(single), "cond_stage_model.model.")
    else:
        t = single_file_utils.convert_ldm_clip_checkpoint(dict(single))
    for name, got in (("unet", u), ("vae", v), ("text", t)):
        want = parts[name].state_dict()
        want = half(with_text_model(want)) if name == "text" else half(want)
        got.pop("text_model.embeddings.position_ids", None)
        assert set(got) == set(want), (name, set(got) ^ set(want))
        for k in want:
            assert torch.equal(got[k].reshape(want[k].shape), want[k]), (name, k)


def schedule_buffers():
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    return {"betas": betas[:4].clone(), "alphas_cumprod": torch.cumprod(1 - betas, 0)[:4].clone(),
            "model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(7, dtype=torch.int32)}


def single_file(parts, open_clip, small_vocabulary):
    text = with_text_model(parts["text"].state_dict())
    single = original_unet(parts["unet"].state_dict(), 2, 1) | original_vae(parts["vae"].state_dict(), 2)
    if open_clip:
        single |= original_open_clip(text, "cond_stage_model.model.")
    else:
        single |= {"cond_stage_model.transformer." + k: v for k, v in text.items()}
    single = half(single)
    read_back(single, parts)
    if small_vocabulary:
        for key in list(single):
            if key.endswith("token_embedding.weight"):
                single[key] = single[key][:SMALL_VOCABULARY].clone()
    if open_clip:
        # The original keeps the layer above the penultimate one, and what only the contrastive loss needs.
        g = torch.Generator().manual_seed(5)
        last = {k: v for k, v in single.items() if ".resblocks.1." in k}
        single |= {k.replace("resblocks.1.", "resblocks.2."): torch.randn(v.shape, generator=g).half() for k, v in last.items()}
        single["cond_stage_model.model.text_projection"] = torch.randn(8, 8, generator=g).half()
        single["cond_stage_model.model.logit_scale"] = torch.tensor(4.6052).half()
    else:
        single["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(77)[None]
        ema = next(k for k in single if k.startswith("model.diffusion_model."))
        single["model_ema." + "".join(ema.split(".")[1:])] = single[ema].clone()
        single |= schedule_buffers()
    return single


def link(folder, other, path):
    """Shares a weight file between two folders."""
    target = os.path.join(folder, path)
    os.remove(target)
    depth = "../" * (path.count("/") + 1)
    os.symlink(f"{depth}{other}/{path}", target)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--bpe", default=ROOT / "data/clip/bpe_simple_vocab_16e6.txt.gz")
    arguments.add_argument("--out", default=ROOT / "tests/golden/models")
    options = arguments.parse_args()
    out = options.out
    tokenizer = clip_tokenizer(options.bpe)
    ddim = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
                set_alpha_to_one=False, steps_offset=1)
    pndm = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", set_alpha_to_one=False,
                steps_offset=1, skip_prk_steps=True)
    g = torch.Generator().manual_seed(20240601)
    quick = randomise(CLIPTextModel(text_config("quick_gelu")), g)
    gelu = CLIPTextModel(text_config("gelu")).eval()
    gelu.load_state_dict(quick.state_dict())
    vae = autoencoder(g)
    variants = {
        "tiny-sd1": (quick, unet(4, False, g), PNDMScheduler(**pndm)),
        "tiny-sd2": (gelu, unet(4, True, g), DDIMScheduler(**ddim, prediction_type="v_prediction")),
        "tiny-sd1-inpaint": (quick, unet(9, False, g), PNDMScheduler(**pndm)),
    }
    for name, (text, network, scheduler) in variants.items():
        folder = os.path.join(out, name)
        shutil.rmtree(folder, ignore_errors=True)
        parts = {"unet": network, "vae": vae, "text": text}
        single = single_file(parts, name == "tiny-sd2", name != "tiny-sd1")
        if name == "tiny-sd1-inpaint":
            single = {k: v for k, v in single.items() if not k.startswith("first_stage_model.")}
        save_file(single, os.path.join(out, name + ".safetensors"), metadata={"format": "pt"})
        pipe = StableDiffusionPipeline(
            vae=vae, text_encoder=text, tokenizer=tokenizer, unet=network, scheduler=scheduler, safety_checker=None,
            feature_extractor=None, requires_safety_checker=False)
        pipe.to(torch.float16)
        # The inpainting UNet is stored in shards.
        pipe.save_pretrained(folder, max_shard_size="300KB" if name == "tiny-sd1-inpaint" else "10GB")
        pipe.to(torch.float32)
        for file in ("vocab.json", "merges.txt", "tokenizer.json"):
            path = os.path.join(folder, "tokenizer", file)
            if os.path.exists(path):
                os.remove(path)
        if name == "tiny-sd1-inpaint":
            for part, file in (("text_encoder", "model"), ("vae", "diffusion_pytorch_model")):
                here = os.path.join(folder, part)
                for f in os.listdir(here):
                    if f != "config.json":
                        os.remove(os.path.join(here, f))
                open(os.path.join(here, file + ".safetensors"), "w").close()
        if name != "tiny-sd1":
            link(folder, "tiny-sd1", "text_encoder/model.safetensors")
            link(folder, "tiny-sd1", "vae/diffusion_pytorch_model.safetensors")
    with open(os.path.join(out, "checkpoints.json"), "w") as f:
        json.dump({"generator": "tools/golden/checkpoints.py", "seed": 20240601, "torch": torch.__version__,
                   "diffusers": diffusers.__version__, "transformers": transformers.__version__,
                   "single files confirmed by": "diffusers.loaders.single_file_utils",
                   "vocabulary of the single files": {"tiny-sd1": 49408, "others": SMALL_VOCABULARY}}, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()
