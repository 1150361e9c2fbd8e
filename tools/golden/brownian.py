"""Writes tests/golden/diffusion/brownian.safetensors: k-diffusion's BrownianTreeNoiseSampler over torchsde."""

import json
import pathlib

import numpy as np
import torch
from safetensors.numpy import save_file

from k_diffusion_sampling import sampling
from manifest import note

GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "tests/golden/diffusion"
PAIRS = [(14.6146, 10.25), (10.25, 3.0), (3.0, 2.875), (2.875, 0.1234567), (0.1234567, 0.0292), (5.5, 5.5001),
         (3.0, 2.875), (14.6146, 0.0292), (2.0, 7.0)]


def main():
    out = {}
    for seed in (0, 1234, 2**31 + 9, 2**40 + 3):
        x = torch.zeros(1, 4, 3, 5)
        noise = sampling.BrownianTreeNoiseSampler(x, torch.tensor(0.0292), torch.tensor(14.6146), seed=[seed])
        drawn = [noise(torch.tensor(a), torch.tensor(b)) for a, b in PAIRS]
        out[f"noise.{seed}"] = np.ascontiguousarray(torch.cat(drawn).permute(0, 2, 3, 1).numpy())
    path = GOLDEN / "brownian.safetensors"
    save_file(out, path, {"cases": json.dumps({"pairs": PAIRS})})
    path.chmod(0o644)
    note(path, "brownian.py", ["k-diffusion", "torchsde", "torch", "numpy"], "in the names of the tensors",
         "float32 rounding of sums of the path's size, over the root of the distance")


if __name__ == "__main__":
    main()
