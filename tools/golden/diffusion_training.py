"""Writes tests/golden/train/diffusion_training.safetensors: twelve optimizer steps of a small UNet and its text encoder in
float32, as diffusers' training scripts take them, and the losses.

"unet.*" and "text.*" are the parameters at the start (float16), "latents" and "noise" [step,N,H,W,C], "ids" [step,N,T] and
"timesteps" [step,N] what the steps are made of; "<case>.losses" [step], and "<case>.norm", the parameters' norm in the end.
The metadata hold the configurations and the cases.
"""

import json
import pathlib

import torch
from checkpoints import with_text_model
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.training_utils import compute_snr
from manifest import note
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

TARGET = pathlib.Path(__file__).resolve().parents[2] / "tests/golden/train/diffusion_training.safetensors"
SEED, STEPS, BATCH = 5, 12, 3
UNET = dict(sample_size=8, block_out_channels=(8, 16), layers_per_block=1, cross_attention_dim=24, attention_head_dim=2,
            norm_num_groups=2, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"))
TEXT = dict(vocab_size=60, hidden_size=24, intermediate_size=48, num_attention_heads=2, max_position_embeddings=9,
            num_hidden_layers=2, hidden_act="quick_gelu", bos_token_id=58, eos_token_id=59, pad_token_id=59)
CASES = {
    "epsilon_mse": dict(prediction="epsilon", loss="mse", text=True, rate=1e-3, clip=1.0),
    "v_min_snr": dict(prediction="v_prediction", loss="mse", min_snr=5.0, rate=1e-3, clip=0.0),
    "sample_l1": dict(prediction="sample", loss="l1", rate=5e-4, clip=0.1, zero_snr=True),
    "flow_huber": dict(prediction="flow_prediction", loss="huber", delta=0.5, rate=1e-3, clip=1.0),
}


def build():
    torch.manual_seed(SEED)
    unet, text = UNet2DConditionModel(**UNET), CLIPTextModel(CLIPTextConfig(**TEXT))
    for model in (unet, text):
        for p in model.parameters():
            p.data = p.data.half().float()
    return unet.train(), text.train()


def loss_of(case, output, target, snr):
    if case["loss"] == "l1":
        each = (output - target).abs()
    elif case["loss"] == "huber":
        each = torch.nn.functional.huber_loss(output, target, reduction="none", delta=case["delta"])
    else:
        each = torch.nn.functional.mse_loss(output, target, reduction="none")
    each = each.mean(dim=(1, 2, 3))
    if "min_snr" in case:
        each = each * torch.minimum(snr, torch.full_like(snr, case["min_snr"])) / (snr + 1)
    return each.mean()


def train(case, data):
    unet, text = build()
    parameters = list(unet.parameters()) + (list(text.parameters()) if case.get("text") else [])
    optimizer = torch.optim.AdamW(parameters, lr=case["rate"], weight_decay=0.01)
    flow = case["prediction"] == "flow_prediction"
    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                              prediction_type="epsilon" if flow else case["prediction"],
                              rescale_betas_zero_snr=case.get("zero_snr", False))
    losses = []
    for step in range(STEPS):
        latents, noise = (data[k][step].permute(0, 3, 1, 2) for k in ("latents", "noise"))
        ids, t = data["ids"][step].long(), data["timesteps"][step].long()
        hidden = text(ids).last_hidden_state
        if flow:
            sigma = (t.float() + 0.5) / 1000
            s = sigma.view(-1, 1, 1, 1)
            x, target, told, snr = (1 - s) * latents + s * noise, noise - latents, sigma * 1000, None
        else:
            x, told, snr = scheduler.add_noise(latents, noise, t), t, compute_snr(scheduler, t)
            target = {"epsilon": noise, "sample": latents, "v_prediction": scheduler.get_velocity(latents, noise, t)}[case["prediction"]]
        loss = loss_of(case, unet(x, told, hidden).sample, target, snr)
        optimizer.zero_grad()
        loss.backward()
        if case["clip"]:
            torch.nn.utils.clip_grad_norm_(parameters, case["clip"])
        optimizer.step()
        losses.append(loss.item())
    norm = sum(p.double().square().sum() for p in parameters).sqrt()
    return torch.tensor(losses, dtype=torch.float64), norm.detach().reshape(1)


def main():
    unet, text = build()
    g = torch.Generator().manual_seed(SEED)
    latents = torch.randn(STEPS, BATCH, 7, 8, 4, generator=g) * 0.5 + 0.3
    ids = torch.randint(1, 58, (STEPS, BATCH, 9), generator=g)
    ids[..., 0], ids[..., 6:] = 58, 59
    data = {"latents": latents, "noise": torch.randn(latents.shape, generator=g), "ids": ids.int(),
            "timesteps": torch.randint(0, 1000, (STEPS, BATCH), generator=g).int()}
    tensors = dict(data)
    tensors |= {"unet." + k: v.half() for k, v in unet.state_dict().items()}
    names = with_text_model({k.removeprefix("text_model."): v for k, v in text.state_dict().items()})
    tensors |= {"text." + k: v.half() for k, v in names.items() if not k.endswith("position_ids")}
    for name, case in CASES.items():
        tensors[f"{name}.losses"], tensors[f"{name}.norm"] = train(case, data)
    save_file({k: v.contiguous() for k, v in tensors.items()}, TARGET, metadata={
        "unet": unet.to_json_string(), "text": text.config.to_json_string(use_diff=False), "cases": json.dumps(CASES)})
    note(TARGET, "diffusion_training.py", ["diffusers", "torch", "transformers"], SEED, "losses 1e-4 relative, norm 1e-6")


if __name__ == "__main__":
    main()
