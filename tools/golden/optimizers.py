"""Writes tests/golden/train/optimizers.safetensors: parameters after 1, 4 and 12 steps of torch's AdamW, lion-pytorch's Lion
and transformers' Adafactor, and the averages of diffusers' EMAModel, from the same start and gradients.

"start.<parameter>", "gradient.<parameter>" [step, ..], "<case>.<step>.<parameter>", "ema.<case>.<parameter>". The learning
rate of step k, from 1 on, is 1e-2 / k; the metadata hold each case's options.
"""

import json
import pathlib

import torch
from diffusers.training_utils import EMAModel
from lion_pytorch import Lion
from manifest import note
from safetensors.torch import save_file
from transformers.optimization import Adafactor

TARGET = pathlib.Path(__file__).resolve().parents[2] / "tests/golden/train/optimizers.safetensors"
SEED, STEPS, SHOWN = 77, 12, (1, 4, 12)
SHAPES = {"bias": (7,), "matrix": (5, 9), "kernel": (4, 3, 3, 2)}
CASES = {
    "adamw": dict(name="adamw", beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.01),
    "adamw_heavy": dict(name="adamw", beta1=0.8, beta2=0.95, eps=1e-3, weight_decay=0.3),
    "lion": dict(name="lion", beta1=0.9, beta2=0.99, weight_decay=0.1),
    "adafactor": dict(name="adafactor", beta1=0.0, weight_decay=0.0, scale_by_parameter=False),
    "adafactor_scaled": dict(name="adafactor", beta1=0.9, weight_decay=0.05, scale_by_parameter=True),
}
EMAS = {
    "plain": dict(decay=0.9),
    "warm": dict(decay=0.99, use_ema_warmup=True, inv_gamma=2.0, power=0.75, min_decay=0.1, update_after_step=2),
}


def build(o, parameters):
    if o["name"] == "adamw":
        return torch.optim.AdamW(parameters, betas=(o["beta1"], o["beta2"]), eps=o["eps"], weight_decay=o["weight_decay"])
    if o["name"] == "lion":
        return Lion(parameters, betas=(o["beta1"], o["beta2"]), weight_decay=o["weight_decay"])
    return Adafactor(parameters, lr=1.0, relative_step=False, warmup_init=False, beta1=o["beta1"] or None,
                     weight_decay=o["weight_decay"], scale_parameter=o["scale_by_parameter"])


def main():
    generator = torch.Generator().manual_seed(SEED)
    start = {k: torch.randn(s, generator=generator) for k, s in SHAPES.items()}
    gradients = {k: torch.randn((STEPS, *s), generator=generator) * 0.3 for k, s in SHAPES.items()}
    gradients["matrix"][2:5] = 0
    tensors = {f"start.{k}": v for k, v in start.items()} | {f"gradient.{k}": v for k, v in gradients.items()}
    for case, options in CASES.items():
        parameters = {k: torch.nn.Parameter(v.clone()) for k, v in start.items()}
        optimizer = build(options, list(parameters.values()))
        averages = {k: EMAModel(parameters.values(), **v) for k, v in EMAS.items()} if case == "adamw" else {}
        for step in range(1, STEPS + 1):
            for group in optimizer.param_groups:
                group["lr"] = 1e-2 / step
            for k, p in parameters.items():
                p.grad = gradients[k][step - 1].clone()
            optimizer.step()
            for average in averages.values():
                average.step(parameters.values())
            if step in SHOWN:
                tensors |= {f"{case}.{step}.{k}": p.detach().clone() for k, p in parameters.items()}
        for name, average in averages.items():
            tensors |= {f"ema.{name}.{k}": p.clone() for k, p in zip(parameters, average.shadow_params)}
    save_file(tensors, TARGET, metadata={"cases": json.dumps(CASES), "emas": json.dumps(EMAS)})
    note(TARGET, "optimizers.py", ["diffusers", "lion-pytorch", "torch", "transformers"], SEED,
         "4e-6 of the largest parameter: some roundings a step")


if __name__ == "__main__":
    main()
