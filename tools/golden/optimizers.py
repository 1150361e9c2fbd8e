"""Writes tests/golden/train/optimizers.json: ten steps of torch's AdamW and Muon, of lion-pytorch's Lion, of transformers'
Adafactor, with changing gradients and learning rates, and averages and decays of diffusers' EMAModel.
"""

import json
import pathlib
from unittest import mock

import torch
from diffusers.training_utils import EMAModel
from lion_pytorch import Lion
from transformers.optimization import Adafactor

from manifest import note

TARGET = pathlib.Path(__file__).resolve().parents[2] / "tests/golden/train/optimizers.json"
SEED, STEPS = 57, 10
SHAPES = {"bias": [5], "conv.weight": [3, 2, 3, 3], "linear.weight": [7, 6]}


def numbers(x):
    return [float(f"{v:.9g}") for v in x.detach().flatten().tolist()]


def run(make, gradients, start, rates, flatten=False):
    parameters = {}
    for name, value in start.items():
        flat = flatten and value.dim() == 4
        parameters[name] = torch.nn.Parameter(value.clone().flatten(1) if flat else value.clone())
    optimizer = make(list(parameters.values()))
    for gradient, rate in zip(gradients, rates):
        for group in optimizer.param_groups:
            if group["lr"] is not None:
                group["lr"] = rate
        for name, p in parameters.items():
            p.grad = gradient[name].reshape(p.shape).clone()
        optimizer.step()
    state = {}
    for name, p in parameters.items():
        for key, value in optimizer.state[p].items():
            if torch.is_tensor(value) and key.startswith(("exp", "momentum")):
                state[f"{name}.{key}"] = numbers(value)
    return dict(parameters={name: numbers(p) for name, p in parameters.items()}, state=state)


class MuonAndAdamW:
    """torch's Muon takes matrices alone; its authors leave the rest to AdamW. It iterates in bfloat16; here in float64, so that what
    is compared is the method and not the rounding."""

    def __init__(self, parameters, lr, weight_decay):
        matrices = [p for p in parameters if p.dim() > 1]
        self.parts = [torch.optim.Muon(matrices, lr=lr, weight_decay=weight_decay, momentum=0.9, adjust_lr_fn="match_rms_adamw"),
                      torch.optim.AdamW([p for p in parameters if p.dim() < 2], lr=lr, betas=(0.8, 0.95), weight_decay=weight_decay)]
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    @property
    def state(self):
        return {p: state for part in self.parts for p, state in part.state.items()}

    def step(self):
        with mock.patch.object(torch.Tensor, "bfloat16", torch.Tensor.double):
            for part in self.parts:
                part.step()


def ema(start, gradients, **options):
    parameters = [torch.nn.Parameter(v.clone()) for v in start.values()]
    model = EMAModel(parameters, **options)
    decays = []
    for gradient in gradients:
        with torch.no_grad():
            for p, g in zip(parameters, gradient.values()):
                p.sub_(g)
        model.step(parameters)
        decays.append(model.cur_decay_value)
    return dict(averages={n: numbers(s) for n, s in zip(start, model.shadow_params)}, decays=decays,
                far_decays={str(s): model.get_decay(s) for s in (1, 2, 3, 50, 1000, 40000, 3000000)})


def main():
    generator = torch.Generator().manual_seed(SEED)
    rounded = lambda shape: torch.round(torch.randn(shape, generator=generator), decimals=3)
    start = {name: rounded(shape) for name, shape in SHAPES.items()}
    gradients = [{name: torch.round(rounded(shape) * (0.1 if i % 3 else 1), decimals=3) for name, shape in SHAPES.items()}
                 for i in range(STEPS)]
    rates = [1e-2 * (1 - 0.07 * i) for i in range(STEPS)]
    adafactor = lambda **options: lambda p: Adafactor(p, **options)
    fixed = dict(lr=1e-2, relative_step=False)
    cases = dict(
        adamw=run(lambda p: torch.optim.AdamW(p, lr=1e-2, betas=(0.9, 0.99), eps=1e-3, weight_decay=0.1), gradients, start,
                  rates),
        muon=run(lambda p: MuonAndAdamW(p, lr=1e-2, weight_decay=0.2), gradients, start, rates, flatten=True),
        lion=run(lambda p: Lion(p, lr=1e-2, betas=(0.9, 0.99), weight_decay=0.3), gradients, start, rates),
        adafactor_relative=run(adafactor(), gradients, start, rates),
        adafactor_warmup=run(adafactor(warmup_init=True, beta1=0.9, weight_decay=0.5), gradients, start, rates),
        adafactor_fixed=run(adafactor(**fixed, scale_parameter=False, clip_threshold=0.7, beta1=0.8, weight_decay=0.1),
                            gradients, start, rates),
        adafactor_flat=run(adafactor(**fixed), gradients, start, rates, flatten=True))
    clipped = [torch.nn.Parameter(v.clone()) for v in start.values()]
    for p, g in zip(clipped, gradients[0].values()):
        p.grad = g.clone()
    norm = torch.nn.utils.clip_grad_norm_(clipped, 2.5).item()
    result = dict(
        shapes=SHAPES, rates=rates, start={n: numbers(v) for n, v in start.items()},
        gradients=[{n: numbers(v) for n, v in g.items()} for g in gradients], cases=cases,
        clip=dict(max_norm=2.5, norm=norm, gradients={n: numbers(p.grad) for n, p in zip(start, clipped)}),
        ema=dict(plain=ema(start, gradients), warmup=ema(start, gradients, use_ema_warmup=True, inv_gamma=2.0, power=0.75,
                                                         min_decay=0.1, decay=0.7),
                 late=ema(start, gradients, update_after_step=3, decay=0.2)))
    TARGET.write_text(json.dumps(result) + "\n")
    note(TARGET, "optimizers.py", ["diffusers", "lion-pytorch", "torch", "transformers"], SEED,
         "1e-6 of the largest number of a tensor")


if __name__ == "__main__":
    main()
