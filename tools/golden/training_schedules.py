"""Writes tests/golden/train/schedules.json: learning rates of diffusers' schedules, the noise levels that it draws for
flow models, and what the loss of a sample counts by its noise.

The draws are given by their uniform or normal numbers. Min-SNR weights are computed with diffusers' compute_snr in the way
of its examples/text_to_image/train_text_to_image.py; P2's by equation 8 of Choi et al. 2022 with the same SNR.
"""

import json
import pathlib

import torch
from diffusers import DDPMScheduler, optimization
from diffusers.training_utils import (compute_density_for_timestep_sampling, compute_loss_weighting_for_sd3,
                                      compute_snr)

from manifest import note

TARGET = pathlib.Path(__file__).resolve().parents[2] / "tests/golden/train/schedules.json"
SEED = 31
PEAK, STEPS, WARMUP = 2e-4, 57, 9


def rates(kind, warmup, **options):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=PEAK)
    schedule = optimization.get_scheduler(kind, optimizer, num_warmup_steps=warmup,
                                          num_training_steps=STEPS if kind != "constant_with_warmup" else None, **options)
    result = []
    for _ in range(STEPS + 3):
        result.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return result


def levels(scheme, draw, **options):
    """diffusers' levels with the numbers that they came from, drawn again from the same seed."""
    n = 64
    generator = torch.Generator().manual_seed(SEED)
    result = compute_density_for_timestep_sampling(scheme, n, generator=generator, **options)
    again = torch.Generator().manual_seed(SEED)
    drawn = torch.normal(mean=0.0, std=1.0, size=(n,), generator=again) if draw == "normal" else torch.rand(n, generator=again)
    return dict(drawn=drawn.tolist(), levels=result.tolist(), **options)


def weights():
    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    timesteps = torch.arange(0, 1000, 37)
    snr = compute_snr(scheduler, timesteps).double()
    abar = scheduler.alphas_cumprod.double()[timesteps]
    clipped = torch.minimum(snr, torch.full_like(snr, 5.0))
    sigmas = torch.linspace(0.01, 0.99, 30, dtype=torch.float64)
    return dict(sigma=((1 - abar) / abar).sqrt().tolist(), min_snr_5=dict(epsilon=(clipped / snr).tolist(),
                                                                         v_prediction=(clipped / (snr + 1)).tolist(),
                                                                         sample=clipped.tolist()),
                p2_gamma_half_k_2=(1 / (2 + snr) ** 0.5).tolist(), flow_sigma=sigmas.tolist(),
                cosmap=compute_loss_weighting_for_sd3("cosmap", sigmas).tolist())


def main():
    cases = dict(
        peak=PEAK, steps=STEPS, warmup=WARMUP,
        rates=dict(constant=rates("constant_with_warmup", WARMUP), linear=rates("linear", WARMUP),
                   cosine=rates("cosine", WARMUP), restarts=rates("cosine_with_restarts", WARMUP, num_cycles=3),
                   cosine_at_once=rates("cosine", 0)),
        logit_normal=levels("logit_normal", "normal", logit_mean=-0.3, logit_std=1.2),
        mode=levels("mode", "uniform", mode_scale=1.29),
        weights=weights())
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(json.dumps(cases) + "\n")
    note(TARGET, "training_schedules.py", ["diffusers", "torch"], SEED,
         "learning rates to double rounding, levels and weights to float32 rounding")


if __name__ == "__main__":
    main()
