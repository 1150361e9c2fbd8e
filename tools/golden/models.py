"""Writes tests/golden/models/*.safetensors: small random networks of diffusers and transformers, block by block and
whole, with inputs and outputs, and manifest.json.

In each file "w.*" are the parameters (float16), "x.*" the inputs and "y.*" the outputs, float32, channels last;
the metadata hold the configuration. The conditioned UNets' outputs were computed in float64.

usage: python tools/golden/models.py [--out tests/golden/models]
"""

import argparse
import json
import os
import pathlib

import diffusers
import torch
import transformers
from checkpoints import original_open_clip, original_unet, original_vae, with_text_model
from diffusers import AutoencoderKL, UNet2DConditionModel, UNet2DModel, VQModel
from diffusers.models.attention_processor import Attention
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.upsampling import Upsample2D
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

SEED = 20240602
generator = torch.Generator().manual_seed(SEED)
manifest = {}


def normal(*shape):
    return torch.randn(*shape, generator=generator)


def randomise(model):
    for name, p in model.named_parameters():
        if p.ndim == 1:
            p.data = normal(*p.shape) * 0.1 + (1.0 if name.endswith("weight") else 0.0)
        elif "embedding" in name and p.shape[0] > 64:
            p.data = normal(*p.shape) * 0.5
        else:
            p.data = normal(*p.shape) * (1.0 / p[0].numel()) ** 0.5
        p.data = p.data.half().float()
    return model.eval()


def double(x):
    """x, or what a dictionary holds, in float64 where it is a real number."""
    if isinstance(x, dict):
        return {k: double(v) for k, v in x.items()}
    return x.double() if x.is_floating_point() else x


def last(x):
    return x.permute(0, 2, 3, 1) if x.ndim == 4 else x


def save(name, state, inputs, outputs, config=None, note=""):
    tensors = {"w." + k: v.half() for k, v in state.items() if not k.endswith("position_ids")}
    tensors |= {"x." + k: last(v) for k, v in inputs.items()}
    tensors |= {"y." + k: last(v.float()) for k, v in outputs.items()}
    tensors = {k: v.detach().contiguous().clone() for k, v in tensors.items()}
    for k, v in tensors.items():
        if v.dtype == torch.int64:
            tensors[k] = v.int()
    text = json.dumps(config) if isinstance(config, dict) else (config or "{}")
    path = os.path.join(save.folder, name + ".safetensors")
    save_file(tensors, path, metadata={"config": text})
    manifest[name] = {"tolerance": 1e-5, "outputs": sorted(outputs), "of": note}


def blocks():
    x, time = normal(2, 16, 7, 5), normal(2, 24)
    for name, out in (("res_block", 24), ("res_block_same", 16)):
        m = randomise(ResnetBlock2D(in_channels=16, out_channels=out, temb_channels=24, groups=4, eps=1e-5))
        save(name, m.state_dict(), {"x": x, "time": time}, {"y": m(x, time)},
             {"in": 16, "out": out, "time": 24, "groups": 4}, "diffusers ResnetBlock2D")
    m = randomise(ResnetBlock2D(in_channels=16, out_channels=24, temb_channels=None, groups=4, eps=1e-6))
    save("res_block_no_time", m.state_dict(), {"x": x}, {"y": m(x, None)},
         {"in": 16, "out": 24, "time": 0, "groups": 4}, "diffusers ResnetBlock2D")
    text = normal(2, 9, 12)
    for name, linear, context in (("transformer_conv", False, 12), ("transformer_linear", True, 12),
                                  ("transformer_alone", False, None)):
        m = randomise(Transformer2DModel(num_attention_heads=4, attention_head_dim=4, in_channels=16, num_layers=2,
                                         cross_attention_dim=context, use_linear_projection=linear, norm_num_groups=4))
        y = m(x, encoder_hidden_states=text if context else None).sample
        save(name, m.state_dict(), {"x": x, "text": text}, {"y": y},
             {"channels": 16, "heads": 4, "layers": 2, "context": context or 0, "groups": 4}, "diffusers Transformer2DModel")
    for name, padding in (("downsample", 1), ("downsample_asymmetric", 0)):
        m = randomise(Downsample2D(16, use_conv=True, padding=padding))
        state = {k: v for k, v in m.state_dict().items() if not k.startswith("Conv2d_0")}
        even = normal(2, 16, 8, 6)
        save(name, state, {"odd": x, "even": even}, {"odd": m(x), "even": m(even)}, {"padding": padding},
             "diffusers Downsample2D")
    m = randomise(Upsample2D(16, use_conv=True))
    save("upsample", m.state_dict(), {"x": x}, {"double": m(x), "sized": m(x, (13, 9))}, {}, "diffusers Upsample2D")
    m = randomise(Attention(16, heads=1, dim_head=16, rescale_output_factor=1, eps=1e-6, norm_num_groups=4,
                            residual_connection=True, bias=True, upcast_softmax=True))
    save("self_attention", m.state_dict(), {"x": x}, {"y": m(x)}, {"channels": 16, "heads": 1, "groups": 4},
         "diffusers Attention of the autoencoder's mid block")


def texts():
    common = dict(vocab_size=300, hidden_size=24, intermediate_size=96, num_attention_heads=3, max_position_embeddings=20)
    ids = torch.randint(1, 290, (3, 20), generator=generator)
    ids[:, 0] = 298
    for n, end in enumerate((5, 19, 1)):
        ids[n, end:] = 299
    for name, config, cls in (
        ("clip_l", CLIPTextConfig(**common, num_hidden_layers=3, hidden_act="quick_gelu", eos_token_id=2), CLIPTextModel),
        ("clip_h", CLIPTextConfig(**common, num_hidden_layers=4, hidden_act="gelu", eos_token_id=299), CLIPTextModel),
        ("clip_g", CLIPTextConfig(**common, num_hidden_layers=2, hidden_act="gelu", projection_dim=16, eos_token_id=2),
         CLIPTextModelWithProjection),
    ):
        m = randomise(cls(config))
        m.config.architectures = [cls.__name__]
        use = ids.clone()
        if name == "clip_h":
            use[0, 9:] = 0
        out = m(use, output_hidden_states=True)
        inner = m.text_model if hasattr(m, "text_model") else m
        penultimate = out.hidden_states[-2]
        outputs = {"hidden": out.last_hidden_state, "penultimate": penultimate,
                   "penultimate_normed": inner.final_layer_norm(penultimate),
                   "pooled": out.text_embeds if name == "clip_g" else out.pooler_output,
                   "short": m(use[:, :7]).last_hidden_state}
        state = with_text_model({k.removeprefix("text_model."): v for k, v in m.state_dict().items()})
        save(name, state, {"ids": use}, outputs, m.config.to_json_string(use_diff=False), "transformers " + cls.__name__)
        if name == "clip_l":
            # Two rows more, as textual inversion adds them.
            extra = (normal(2, 24) * 0.5).half().float()
            table = m.get_input_embeddings()
            longer = torch.nn.Embedding(302, 24)
            longer.weight.data = torch.cat([table.weight.data, extra])
            m.set_input_embeddings(longer)
            use = ids.clone()
            use[0, 2:4] = torch.tensor([300, 301])
            use[1, 18] = 301
            save("clip_l_extra", state, {"ids": use, "extra": extra}, {"hidden": m(use).last_hidden_state},
                 m.config.to_json_string(use_diff=False), "transformers, with rows added to the token table")


def unets():
    three = dict(block_out_channels=(4, 8, 8), norm_num_groups=2, sample_size=16)
    down = {"sd": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            "xl": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D")}
    up = {"sd": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
          "xl": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D")}

    def kind(k):
        return dict(down_block_types=down[k], up_block_types=up[k], cross_attention_dim=12)

    addition = dict(addition_embed_type="text_time", addition_time_embed_dim=8)
    cases = {
        "unet_sd1": dict(**three, **kind("sd"), attention_head_dim=2, layers_per_block=2),
        "unet_sd2": dict(**three, **kind("sd"), attention_head_dim=(1, 2, 4), use_linear_projection=True, layers_per_block=1),
        "unet_inpaint": dict(**three, **kind("sd"), attention_head_dim=2, layers_per_block=1, in_channels=9),
        "unet_x4": dict(**three, **kind("xl"), attention_head_dim=2, use_linear_projection=True, layers_per_block=1,
                        in_channels=7, num_class_embeds=20, only_cross_attention=(True, True, False)),
        "unet_sdxl": dict(**three, **kind("xl"), attention_head_dim=(1, 2, 4), use_linear_projection=True,
                          layers_per_block=2, transformer_layers_per_block=(1, 2, 3), **addition,
                          projection_class_embeddings_input_dim=10 + 6 * 8),
        "unet_refiner": dict(block_out_channels=(4, 8, 8, 8), norm_num_groups=2, sample_size=16, cross_attention_dim=12,
                             down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
                             up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                             attention_head_dim=(1, 2, 4, 4), use_linear_projection=True, layers_per_block=1,
                             transformer_layers_per_block=2, **addition, projection_class_embeddings_input_dim=10 + 5 * 8),
        "unet_lcm": dict(block_out_channels=(4, 8), norm_num_groups=2, sample_size=16, cross_attention_dim=12,
                         down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
                         up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), attention_head_dim=2, layers_per_block=1,
                         time_cond_proj_dim=6, center_input_sample=True, flip_sin_to_cos=False, freq_shift=1,
                         class_embed_type="projection", projection_class_embeddings_input_dim=7),
    }
    for name, config in cases.items():
        m = randomise(UNet2DConditionModel(**config))
        n, c = 3, m.config.in_channels
        x = {"sample": normal(n, c, 13, 10), "even": normal(n, c, 16, 8), "t": torch.tensor([1.0, 500.0, 999.0]),
             "text": normal(n, 11, 12)}
        extra = {}
        if "num_class_embeds" in config:
            x["labels"] = torch.tensor([0, 7, 19])
            extra["class_labels"] = x["labels"]
        if config.get("class_embed_type") == "projection":
            x["labels"] = normal(n, 7)
            extra["class_labels"] = x["labels"]
        if "time_cond_proj_dim" in config:
            x["time_condition"] = normal(n, 6)
            extra["timestep_cond"] = x["time_condition"]
        if "addition_embed_type" in config:
            ids = (config["projection_class_embeddings_input_dim"] - 10) // 8
            x["pooled"] = normal(n, 10)
            x["time_ids"] = torch.randint(0, 1024, (n, ids), generator=generator).float()
            extra["added_cond_kwargs"] = {"text_embeds": x["pooled"], "time_ids": x["time_ids"]}
        # In float32 the reference would be as far from the truth as the tolerance allows.
        exact, wide, state = double(x), double(extra), {k: v.clone() for k, v in m.state_dict().items()}
        m.double()
        y = {k: m(exact[k], exact["t"], exact["text"], **wide).sample for k in ("sample", "even")}
        save(name, state, x, y, m.to_json_string(), "diffusers UNet2DConditionModel")
    m = randomise(UNet2DModel(in_channels=3, out_channels=3, block_out_channels=(4, 8), layers_per_block=2, norm_num_groups=2,
                              down_block_types=("DownBlock2D", "AttnDownBlock2D"), attention_head_dim=4,
                              up_block_types=("AttnUpBlock2D", "UpBlock2D"), sample_size=16))
    x = {"sample": normal(2, 3, 12, 8), "t": torch.tensor([3.0, 700.0])}
    save("unet_plain", m.state_dict(), x, {"sample": m(x["sample"], x["t"]).sample}, m.to_json_string(), "diffusers UNet2DModel")


def vae_blocks(*attention):
    """The block types of an autoencoder whose levels, full resolution first, have self-attention or not."""
    return dict(down_block_types=["AttnDownEncoderBlock2D" if has else "DownEncoderBlock2D" for has in attention],
                up_block_types=["AttnUpDecoderBlock2D" if has else "UpDecoderBlock2D" for has in reversed(attention)])


def autoencoder(name, **more):
    m = randomise(AutoencoderKL(block_out_channels=(4, 8, 8), layers_per_block=2, norm_num_groups=2, sample_size=32, **more))
    picture, z = normal(2, 3, 22, 17), normal(2, m.config.latent_channels, 5, 3)
    posterior = m.encode(picture).latent_dist
    save(name, m.state_dict(), {"picture": picture, "z": z},
         {"mean": posterior.mean, "logvar": posterior.logvar, "decoded": m.decode(z).sample}, m.to_json_string(),
         "diffusers AutoencoderKL")


def nearest(table, z):
    """The entry of `table` nearest to each of z [N,C,h,w], [N,h,w], and by how much of |z| the least clear choice is clear:
    the distance of z from the plane between its two nearest entries."""
    z = z.permute(0, 2, 3, 1).double()
    two = (z.unsqueeze(-2) - table.double()).square().sum(-1).topk(2, largest=False)
    between = (table[two.indices[..., 1]] - table[two.indices[..., 0]]).double().norm(dim=-1)
    return two.indices[..., 0], ((two.values[..., 1] - two.values[..., 0]) / (2 * between) / z.norm(dim=-1)).min().item()


def vq_models():
    for name, more in (("vq", dict(block_out_channels=(4, 8, 8), layers_per_block=2, num_vq_embeddings=37, vq_embed_dim=5)),
                       ("vq_lookup", dict(block_out_channels=(4, 8), num_vq_embeddings=19, mid_block_add_attention=False,
                                          scaling_factor=1.0, lookup_from_codebook=True, force_upcast=True))):
        levels = len(more["block_out_channels"])
        m = randomise(VQModel(latent_channels=3, norm_num_groups=2, sample_size=32,
                              down_block_types=("DownEncoderBlock2D",) * levels,
                              up_block_types=("UpDecoderBlock2D",) * levels, **more))
        table = m.quantize.embedding.weight
        picture, z = normal(2, 3, 22, 17), normal(2, table.shape[1], 5, 3)
        latents = m.encode(picture).latents
        codes, clear = nearest(table, torch.cat([latents.flatten(2), z.flatten(2)], 2).unsqueeze(-1))
        # No rounding decides: of the latents 1e-5 may be wrong.
        assert clear > 1e-4, (name, clear)
        quantised, _, (_, _, theirs) = m.quantize(z)
        of_latents = m.quantize(latents)[2][2]
        assert torch.equal(theirs, codes[:, latents[0, 0].numel():].flatten())
        outputs = {"latents": latents, "codes": theirs.reshape(2, 5, 3), "quantised": quantised, "decoded": m.decode(z).sample,
                   "codes_of_latents": of_latents.reshape(latents[:, 0].shape)}
        if m.config.lookup_from_codebook:
            outputs["unquantised"] = m.decode(theirs, force_not_quantize=True, shape=(2, 5, 3, table.shape[1])).sample
        else:
            outputs["unquantised"] = m.decode(z, force_not_quantize=True).sample
        save(name, m.state_dict(), {"picture": picture, "z": z}, outputs, m.to_json_string(), "diffusers VQModel")


def layouts():
    """Names alone, diffusers' and the original's, of the real models: no weights, only shapes."""
    with torch.device("meta"):
        rows = {
            "sd1": UNet2DConditionModel(cross_attention_dim=768),
            "sdxl": UNet2DConditionModel(
                block_out_channels=(320, 640, 1280), down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), transformer_layers_per_block=(1, 2, 10),
                attention_head_dim=(5, 10, 20), use_linear_projection=True, cross_attention_dim=2048,
                addition_embed_type="text_time", addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816),
            "x4-upscaler": UNet2DConditionModel(
                in_channels=7, block_out_channels=(256, 512, 512, 1024), attention_head_dim=8, cross_attention_dim=1024,
                down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 3, use_linear_projection=True,
                up_block_types=("CrossAttnUpBlock2D",) * 3 + ("UpBlock2D",), num_class_embeds=1000,
                only_cross_attention=(True, True, True, False)),
        }
        vae = AutoencoderKL(block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4,
                            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4)
    result = {}
    for name, m in rows.items():
        state = m.state_dict()
        assert len(original_unet(state, len(m.config.block_out_channels), 2)) == len(state)
        result[name] = {"parameters": sum(v.numel() for v in state.values()), "tensors": len(state)}
    state = vae.state_dict()
    assert len(original_vae(state, 4)) == len(state)
    result["vae"] = {"parameters": sum(v.numel() for v in state.values()), "tensors": len(state)}
    with torch.device("meta"):
        first_stages = {
            "kl-f16": AutoencoderKL(block_out_channels=(128, 128, 256, 256, 512), layers_per_block=2, latent_channels=16,
                                    **vae_blocks(0, 0, 0, 0, 1)),
            "vq-f4": VQModel(block_out_channels=(128, 256, 512), layers_per_block=2, latent_channels=3, num_vq_embeddings=8192,
                             **vae_blocks(0, 0, 0)),
            "vq-f8": VQModel(block_out_channels=(128, 256, 256, 512), layers_per_block=2, latent_channels=4, num_vq_embeddings=16384,
                             **vae_blocks(0, 0, 0, 1)),
        }
    for name, m in first_stages.items():
        state = m.state_dict()
        assert len(original_vae(state, len(m.config.block_out_channels))) == len(state)
        result[name] = {"parameters": sum(v.numel() for v in state.values()), "tensors": len(state)}
    for name, width, layers in (("clip-vit-l", 768, 12), ("openclip-vit-h", 1024, 24)):
        with torch.device("meta"):
            m = CLIPTextModel(CLIPTextConfig(hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers,
                                             num_attention_heads=width // 64))
        result[name] = {"parameters": sum(p.numel() for p in m.parameters()), "tensors": len(list(m.parameters()))}
    return result


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--out", default=pathlib.Path(__file__).resolve().parents[2] / "tests/golden/models")
    save.folder = arguments.parse_args().out
    with torch.no_grad():
        blocks()
        texts()
        unets()
        autoencoder("vae", **vae_blocks(0, 0, 0))
        autoencoder("vae_no_quant", **vae_blocks(0, 0, 0), use_quant_conv=False, use_post_quant_conv=False, latent_channels=16,
                    shift_factor=0.0609, scaling_factor=1.5305, mid_block_add_attention=False)
        vq_models()
        autoencoder("vae_attention", **vae_blocks(0, 1, 1))
    with open(os.path.join(save.folder, "manifest.json"), "w") as f:
        json.dump({"generator": "tools/golden/models.py", "seed": SEED, "torch": torch.__version__,
                   "diffusers": diffusers.__version__, "transformers": transformers.__version__,
                   "error": "largest difference / largest reference value, both float32", "cases": manifest,
                   "sizes of the real models": layouts()}, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()
