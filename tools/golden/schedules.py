"""Writes tests/golden/diffusion/schedules.safetensors: training schedules, timesteps and sigmas of diffusers'
schedulers for many step counts, and the sigma schedules of k-diffusion and ComfyUI.

Run with the pinned versions of diffusers, k-diffusion, torch, numpy and scipy. For each diffusers case the metadata
holds the scheduler's JSON; the tensors of all step counts follow one another.
"""

import json
import math
import pathlib

import diffusers
import numpy as np
import torch
from safetensors.numpy import save_file
from scipy import stats

from k_diffusion_sampling import sampling
from manifest import note

GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "tests/golden/diffusion"
STEPS = [*range(1, 31), 37, 50, 64, 77, 100]

SD = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
CASES = [
    ("PNDMScheduler", dict(SD, skip_prk_steps=True, steps_offset=1, set_alpha_to_one=False)),
    ("PNDMScheduler", dict(SD, skip_prk_steps=True)),
    ("DDIMScheduler", dict(SD, steps_offset=1, set_alpha_to_one=False, clip_sample=False)),
    ("DDIMScheduler", dict(SD, clip_sample=False)),
    ("DDIMScheduler", dict(SD, timestep_spacing="trailing", clip_sample=False)),
    ("DDIMScheduler", dict(SD, timestep_spacing="linspace", clip_sample=False)),
    ("DDPMScheduler", dict(clip_sample=False)),
    ("DDPMScheduler", dict(timestep_spacing="trailing")),
    ("EulerDiscreteScheduler", dict(SD)),
    ("EulerDiscreteScheduler", dict(SD, timestep_spacing="leading", steps_offset=1)),
    ("EulerDiscreteScheduler", dict(SD, timestep_spacing="trailing", rescale_betas_zero_snr=True)),
    ("EulerDiscreteScheduler", dict(SD, use_karras_sigmas=True)),
    ("EulerDiscreteScheduler", dict(SD, use_karras_sigmas=True, timestep_spacing="leading", steps_offset=1)),
    ("EulerDiscreteScheduler", dict(SD, use_exponential_sigmas=True)),
    ("EulerDiscreteScheduler", dict(SD, use_beta_sigmas=True)),
    ("EulerDiscreteScheduler", dict(SD, final_sigmas_type="sigma_min")),
    ("EulerAncestralDiscreteScheduler", dict(SD)),
    ("EulerAncestralDiscreteScheduler", dict(SD, timestep_spacing="leading", steps_offset=1)),
    ("LMSDiscreteScheduler", dict(SD)),
    ("DPMSolverMultistepScheduler", dict(SD)),
    ("DPMSolverMultistepScheduler", dict(SD, timestep_spacing="leading", steps_offset=1)),
    ("DPMSolverMultistepScheduler", dict(SD, timestep_spacing="trailing")),
    ("DPMSolverMultistepScheduler", dict(SD, use_karras_sigmas=True)),
    ("DPMSolverMultistepScheduler", dict(SD, use_exponential_sigmas=True)),
    ("DPMSolverMultistepScheduler", dict(SD, final_sigmas_type="sigma_min")),
    ("UniPCMultistepScheduler", dict(SD)),
    ("UniPCMultistepScheduler", dict(SD, use_karras_sigmas=True)),
    ("DEISMultistepScheduler", dict(SD)),
    ("DEISMultistepScheduler", dict(SD, use_karras_sigmas=True)),
    ("SASolverScheduler", dict(SD)),
    ("LCMScheduler", dict()),
    ("TCDScheduler", dict()),
    ("FlowMatchEulerDiscreteScheduler", dict(shift=3.0)),
]


def visited(scheduler, name, steps):
    """The timesteps, and the sigmas with the last; for classes that keep none, from the table."""
    if name in ("LCMScheduler", "TCDScheduler") and steps > 50:
        return None
    scheduler.set_timesteps(steps)
    timesteps = scheduler.timesteps.numpy().astype(np.float64)
    if name == "PNDMScheduler" and steps > 1:
        timesteps = np.concatenate([timesteps[:1], timesteps[2:]])  # the second is visited twice
    if hasattr(scheduler, "sigmas"):
        return timesteps, scheduler.sigmas.numpy().astype(np.float64)
    abar = scheduler.alphas_cumprod.numpy().astype(np.float64)
    table = np.sqrt((1 - abar) / abar)
    last = {"PNDMScheduler": None, "DDIMScheduler": None, "TCDScheduler": table[0]}.get(name, 0.0)
    if last is None:
        final = float(scheduler.final_alpha_cumprod)
        last = math.sqrt((1 - final) / final)
    return timesteps, np.append(table[timesteps.astype(int)], last)


def comfy(table):
    """ComfyUI's definitions (comfy/samplers.py) on a table of sigmas, written anew in NumPy."""
    log_table, T = np.log(table), len(table)
    sigma = lambda t: np.exp(np.interp(t, np.arange(T), log_table))
    end0 = lambda s: np.append(np.asarray(s, np.float64), 0.0)

    def beta(n):
        t = np.rint(stats.beta.ppf(1 - np.linspace(0, 1, n, endpoint=False), 0.6, 0.6) * (T - 1)).astype(int)
        return end0([table[v] for i, v in enumerate(t) if i == 0 or v != t[i - 1]])

    def linear_quadratic(n, threshold=0.025):
        if n == 1:
            return np.array([table[-1], 0])
        k = n // 2
        diff = k - threshold * n
        q = diff / (k * (n - k) ** 2)
        slope = threshold / k - 2 * diff / (n - k) ** 2
        noise = [i * threshold / k if i < k else q * i * i + slope * i + q * k * k for i in range(n)] + [1.0]
        return (1 - np.array(noise)) * table[-1]

    def kl_optimal(n):
        u = np.linspace(0, 1, n)
        return end0(np.tan(u * np.arctan(table[0]) + (1 - u) * np.arctan(table[-1])))

    return {
        "discrete": lambda n: end0(sigma(np.linspace(T - 1, 0, n))),
        "sgm_uniform": lambda n: end0(sigma(np.linspace(T - 1, 0, n + 1)[:-1])),
        "simple": lambda n: end0([table[-(1 + int(i * (T / n)))] for i in range(n)]),
        "ddim_uniform": lambda n: end0([table[t] for t in range(1, T, max(T // n, 1))][::-1]),
        "beta_timesteps": beta,
        "linear_quadratic": linear_quadratic,
        "kl_optimal": kl_optimal,
    }


def main():
    out, cases = {}, {"steps": STEPS}
    for index, (name, options) in enumerate(CASES):
        scheduler = getattr(diffusers, name)(**options)
        results = [r for r in (visited(scheduler, name, n) for n in STEPS) if r is not None]
        cases[f"case.{index}"] = {"_class_name": name, **options}
        out[f"case.{index}.timesteps"] = np.concatenate([r[0] for r in results])
        out[f"case.{index}.sigmas"] = np.concatenate([r[1] for r in results])
        noise_scale = []
        for n in STEPS[: len(results)]:
            scheduler.set_timesteps(n)
            noise_scale.append(float(getattr(scheduler, "init_noise_sigma", 1.0)))
        out[f"case.{index}.init_noise_sigma"] = np.array(noise_scale)

    for name, options in {
        "scaled_linear": SD, "linear": dict(), "cosine": dict(beta_schedule="squaredcos_cap_v2"),
        "zero_snr": dict(SD, rescale_betas_zero_snr=True), "trained": dict(trained_betas=[0.01, 0.02, 0.005, 0.3]),
        "short": dict(SD, num_train_timesteps=7),
    }.items():
        scheduler = diffusers.EulerDiscreteScheduler(**options)
        cases[f"schedule.{name}"] = {"_class_name": "EulerDiscreteScheduler", **options}
        out[f"schedule.{name}"] = scheduler.alphas_cumprod.numpy()

    table = ((1 - diffusers.DDIMScheduler(**SD).alphas_cumprod.double()) /
             diffusers.DDIMScheduler(**SD).alphas_cumprod.double()).sqrt().numpy()
    ends = dict(sigma_min=table[0], sigma_max=table[-1])
    named = comfy(table)
    named["karras"] = lambda n: sampling.get_sigmas_karras(n, **ends).double().numpy()
    named["exponential"] = lambda n: sampling.get_sigmas_exponential(n, **ends).double().numpy()
    named["polyexponential"] = lambda n: sampling.get_sigmas_polyexponential(n, **ends).double().numpy()
    for name, function in named.items():
        out[f"sigmas.{name}"] = np.concatenate([function(n) for n in STEPS if n > 1 or name != "kl_optimal"])
    p = np.linspace(0, 1, 101)
    for a, b in ((0.6, 0.6), (2.0, 5.0), (0.1, 3.0), (30.0, 1.5)):
        out[f"beta_quantile.{a}.{b}"] = stats.beta.ppf(p, a, b)
    path = GOLDEN / "schedules.safetensors"
    small = {k: v if k.startswith("beta") else v.astype(np.float32) for k, v in out.items()}
    save_file({k: np.ascontiguousarray(v) for k, v in small.items()}, path, {"cases": json.dumps(cases)})
    path.chmod(0o644)
    note(path, "schedules.py", ["diffusers", "k-diffusion", "torch", "numpy", "scipy"], "none",
         "float32 rounding; see the test for the places where the references themselves round")


if __name__ == "__main__":
    main()
