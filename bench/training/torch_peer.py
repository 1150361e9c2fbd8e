"""Training steps of diffusers' networks by PyTorch on the CPU: writes a network and its data, or takes the steps.

usage: torch_peer.py --write FOLDER                       unet.safetensors and autoencoder.safetensors
       torch_peer.py --run FILE --steps N [--threads N] [--channels-last] [--compile]
Prints losses, seconds a step and the peak memory as JSON.
"""

import argparse
import json
import pathlib
import resource
import time

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import save_file

UNET = dict(sample_size=16, block_out_channels=(128, 256, 384), layers_per_block=2, cross_attention_dim=256, attention_head_dim=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"))
AUTOENCODER = dict(sample_size=128, block_out_channels=(64, 128, 128, 256), norm_num_groups=32, layers_per_block=1, latent_channels=4,
                   down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4)


def last(x):
    return x.permute(0, 2, 3, 1).contiguous()


def write(folder):
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(1)
    unet = UNet2DConditionModel(**UNET)
    data = {"latents": torch.randn(16, 16, 16, 4), "noise": torch.randn(16, 16, 16, 4), "text": torch.randn(16, 32, 256),
            "timesteps": torch.randint(0, 1000, (16,), dtype=torch.int32)}
    save_file(data | {"w." + k: v for k, v in unet.state_dict().items()}, folder / "unet.safetensors",
              metadata={"config": unet.to_json_string()})
    vae = AutoencoderKL(**AUTOENCODER)
    data = {"pictures": torch.rand(4, 128, 128, 3) * 2 - 1, "noise": torch.randn(4, 16, 16, 4)}
    save_file(data | {"w." + k: v for k, v in vae.state_dict().items()}, folder / "autoencoder.safetensors",
              metadata={"config": vae.to_json_string()})


def run(file, steps, channels_last, compiled):
    with safe_open(file, "pt") as f:
        tensors = {k: f.get_tensor(k) for k in f.keys()}
        config = json.loads(f.metadata()["config"])
    is_unet = "latents" in tensors
    model = (UNet2DConditionModel if is_unet else AutoencoderKL).from_config(config)
    model.load_state_dict({k[2:]: v for k, v in tensors.items() if k.startswith("w.")})
    x = {k: v.permute(0, 3, 1, 2) if v.ndim == 4 else v for k, v in tensors.items() if not k.startswith("w.")}
    layout = torch.channels_last if channels_last else torch.contiguous_format
    x = {k: v.contiguous(memory_format=layout) if v.ndim == 4 else v for k, v in x.items()}
    model = model.train().to(memory_format=layout)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    if is_unet:
        scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
        noised = scheduler.add_noise(x["latents"], x["noise"], x["timesteps"].long())

    def loss_of():
        if is_unet:
            y = model(noised, x["timesteps"].long(), x["text"]).sample
            return torch.nn.functional.mse_loss(y, x["noise"])
        latents = model.encode(x["pictures"]).latent_dist
        y = model.decode(latents.mean + latents.std * x["noise"]).sample
        return ((x["pictures"] - y).abs().sum() + 1e-6 * latents.kl().sum()) / len(y)

    forward = torch.compile(loss_of) if compiled else loss_of
    losses, seconds = [], []
    for _ in range(steps):
        start = time.perf_counter()
        loss = forward()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        seconds.append(time.perf_counter() - start)
    print(json.dumps(dict(losses=losses, seconds=seconds,
                          peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", type=pathlib.Path)
    parser.add_argument("--run", type=pathlib.Path)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--compile", action="store_true")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.write:
        write(arguments.write)
    else:
        run(arguments.run, arguments.steps, arguments.channels_last, arguments.compile)


if __name__ == "__main__":
    main()
