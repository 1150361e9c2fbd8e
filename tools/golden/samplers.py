"""Writes tests/golden/diffusion/samplers.safetensors: trajectories of k-diffusion's and diffusers' samplers.

The denoiser is the posterior mean for two Gaussians at +-M of deviation S, which both sides compute. Per case:
x [1,60] at the first level in the samplers' space (x0 + sigma eps), sigmas, the noise in the order of its draws, and
the latent after each step, in the same space. The metadata holds the sampler's name and options.
"""

import json
import pathlib

import diffusers
import numpy as np
import torch
from safetensors.numpy import save_file

from k_diffusion_sampling import sampling
from manifest import note

GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "tests/golden/diffusion"
M, S, N = 0.8, 0.3, 60


def denoise(x, sigma):
    v = S * S + sigma * sigma
    return (S * S * x + sigma * sigma * M * torch.tanh(M * x / v)) / v


class Noise:
    def __init__(self, seed):
        self.generator, self.drawn = torch.Generator().manual_seed(seed), []

    def __call__(self, *_args, **_kwargs):
        self.drawn.append(torch.randn(1, N, generator=self.generator))
        return self.drawn[-1]


def start(scale):
    return torch.randn(1, N, generator=torch.Generator().manual_seed(99)) * scale


def k_diffusion(name, steps=20, churn=None, **options):
    sigmas = sampling.get_sigmas_karras(steps, 0.0292, 14.6146)
    noise, xs = Noise(5), []
    if name not in ("euler", "heun", "dpm_2", "lms", "dpmpp_2m"):
        options["noise_sampler"] = noise
    if churn is not None:
        options["s_churn"] = churn
    x = start(sigmas[0])

    def model(y, sigma):
        return denoise(y, sigma[:, None])

    draw = torch.randn_like
    torch.randn_like = noise
    try:
        last = getattr(sampling, "sample_" + name)(model, x, sigmas, disable=True,
                                                  callback=lambda d: xs.append(d["x"]), **options)
    finally:
        torch.randn_like = draw
    # The callback sees x before its step, after its churn; without churn that is the step before's result.
    xs = [last] if churn is not None else xs[1:] + [last]
    return x, sigmas, noise.drawn, xs


def from_diffusers(name, steps=20, step_options=None, **config):
    scheduler = getattr(diffusers, name)(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", **config)
    scheduler.set_timesteps(steps)
    noise, xs = Noise(6), []
    module = __import__(scheduler.__class__.__module__, fromlist=["x"])
    abar = scheduler.alphas_cumprod.double()
    table = ((1 - abar) / abar).sqrt()
    ve = isinstance(scheduler, (diffusers.EulerDiscreteScheduler, diffusers.EulerAncestralDiscreteScheduler,
                                diffusers.HeunDiscreteScheduler, diffusers.LMSDiscreteScheduler,
                                diffusers.KDPM2DiscreteScheduler))
    if ve or hasattr(scheduler, "sigmas"):
        levels = scheduler.sigmas.double()
    else:
        t = scheduler.timesteps
        if name == "PNDMScheduler":
            t = torch.cat([t[:1], t[2:]])
        final = {"LCMScheduler": 0.0, "TCDScheduler": float(table[0]), "DDPMScheduler": 0.0}.get(name)
        if final is None:
            final = float(((1 - scheduler.final_alpha_cumprod) / scheduler.final_alpha_cumprod) ** 0.5)
        levels = torch.cat([table[t], torch.tensor([final], dtype=torch.float64)])
    x = start(float((levels[0] ** 2 + 1).sqrt()))
    y = x if ve else x / float((levels[0] ** 2 + 1).sqrt())
    original = getattr(module, "randn_tensor", None)
    module.randn_tensor = noise
    try:
        for i, t in enumerate(scheduler.timesteps):
            if ve:
                sigma = scheduler.sigmas[i]
                eps = (y - denoise(y, sigma)) / sigma
                scheduler.scale_model_input(y, t)
            else:
                sigma = levels[i].float() if hasattr(scheduler, "sigmas") else table[t].float()
                z = y * (sigma**2 + 1).sqrt()
                eps = (z - denoise(z, sigma)) / sigma
            y = scheduler.step(eps, t, y, **(step_options or {})).prev_sample
            xs.append(y)
    finally:
        module.randn_tensor = original
    if name in ("HeunDiscreteScheduler", "KDPM2DiscreteScheduler"):
        levels = torch.cat([levels[:1], levels[1::2]]) if name[0] == "H" else levels
        xs = xs[1::2] + xs[-1:]
    elif not ve:
        if name == "PNDMScheduler":
            xs = xs[1:]  # the first is the trial of the step that the second repeats
        xs = [v * float((level**2 + 1).sqrt()) for v, level in zip(xs, levels[1:])]
    return x, levels, noise.drawn, xs


CASES = {
    "euler": (k_diffusion, "euler", dict()),
    "euler.churn": (k_diffusion, "euler", dict(churn=5.0)),
    "euler_a": (k_diffusion, "euler_ancestral", dict()),
    "euler_a.eta": (k_diffusion, "euler_ancestral", dict(eta=0.6, s_noise=1.01)),
    "heun": (k_diffusion, "heun", dict()),
    "heun.churn": (k_diffusion, "heun", dict(churn=5.0)),
    "dpm2": (k_diffusion, "dpm_2", dict()),
    "dpm2_a": (k_diffusion, "dpm_2_ancestral", dict()),
    "lms": (k_diffusion, "lms", dict()),
    "dpm++2s_a": (k_diffusion, "dpmpp_2s_ancestral", dict()),
    "dpm++2m": (k_diffusion, "dpmpp_2m", dict()),
    "dpm++2m_sde": (k_diffusion, "dpmpp_2m_sde", dict()),
    "dpm++2m_sde_heun": (k_diffusion, "dpmpp_2m_sde", dict(solver_type="heun")),
    "dpm++3m_sde": (k_diffusion, "dpmpp_3m_sde", dict()),
    "dpm++3m_sde.eta": (k_diffusion, "dpmpp_3m_sde", dict(eta=0.3)),
    "dpm++sde": (k_diffusion, "dpmpp_sde", dict()),
    "euler.diffusers": (from_diffusers, "EulerDiscreteScheduler", dict()),
    "euler_a.diffusers": (from_diffusers, "EulerAncestralDiscreteScheduler", dict()),
    "heun.diffusers": (from_diffusers, "HeunDiscreteScheduler", dict()),
    "lms.diffusers": (from_diffusers, "LMSDiscreteScheduler", dict()),
    "dpm++2m.diffusers": (from_diffusers, "DPMSolverMultistepScheduler", dict()),
    "dpm++2m.short": (from_diffusers, "DPMSolverMultistepScheduler", dict(steps=7)),
    "dpm++2m_sde.diffusers": (from_diffusers, "DPMSolverMultistepScheduler", dict(algorithm_type="sde-dpmsolver++")),
    "ddim": (from_diffusers, "DDIMScheduler", dict(clip_sample=False, set_alpha_to_one=False, steps_offset=1)),
    "ddim.to_zero": (from_diffusers, "DDIMScheduler", dict(clip_sample=False)),
    "ddim.eta": (from_diffusers, "DDIMScheduler",
                 dict(clip_sample=False, set_alpha_to_one=False, steps_offset=1, step_options=dict(eta=0.7))),
    "ddpm": (from_diffusers, "DDPMScheduler", dict(clip_sample=False)),
    "pndm": (from_diffusers, "PNDMScheduler", dict(skip_prk_steps=True, steps_offset=1)),
    "pndm.short": (from_diffusers, "PNDMScheduler", dict(steps=3, skip_prk_steps=True, steps_offset=1)),
    "unipc": (from_diffusers, "UniPCMultistepScheduler", dict()),
    "unipc.order3": (from_diffusers, "UniPCMultistepScheduler", dict(solver_order=3)),
    "unipc.order1": (from_diffusers, "UniPCMultistepScheduler", dict(solver_order=1)),
    "unipc_bh1": (from_diffusers, "UniPCMultistepScheduler", dict(solver_type="bh1")),
    "deis": (from_diffusers, "DEISMultistepScheduler", dict()),
    "deis.order3": (from_diffusers, "DEISMultistepScheduler", dict(solver_order=3)),
    "deis.short": (from_diffusers, "DEISMultistepScheduler", dict(solver_order=3, steps=6)),
    "lcm": (from_diffusers, "LCMScheduler", dict(steps=4)),
    "tcd": (from_diffusers, "TCDScheduler", dict(steps=4)),
    "tcd.gamma": (from_diffusers, "TCDScheduler", dict(steps=8, step_options=dict(eta=0.8))),
    "sa_solver": (from_diffusers, "SASolverScheduler", dict()),
}


def main():
    out, cases = {}, {}
    for name, (function, reference, options) in CASES.items():
        x, sigmas, noise, xs = function(reference, **options)
        out[f"{name}.x"] = x.numpy()
        out[f"{name}.sigmas"] = sigmas.double().numpy()
        if noise:
            out[f"{name}.noise"] = torch.stack(noise).numpy()
        out[f"{name}.steps"] = torch.stack(xs).float().numpy()
        step = options.get("step_options", {})
        cases[name] = {
            "reference": reference, "order": options.get("solver_order"),
            "eta": options.get("eta", step.get("eta")), "s_noise": options.get("s_noise", 1.0),
            "s_churn": options.get("churn", 0.0)}
    path = GOLDEN / "samplers.safetensors"
    save_file({k: np.ascontiguousarray(v) for k, v in out.items()}, path, {"cases": json.dumps(cases)})
    path.chmod(0o644)
    note(path, "samplers.py", ["diffusers", "k-diffusion", "torch", "numpy", "scipy"], "99 start, 5 and 6 noise",
         "1e-4 of the latent's scale at every step; the references compute their coefficients in float32")


if __name__ == "__main__":
    main()
