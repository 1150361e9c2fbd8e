"""Writes tests/golden/random/torch.safetensors: what torch's CPU generator and a NumPy Philox draw.

Run with the pinned versions of torch, numpy and safetensors; the values do not depend on the machine's threads.
"""

import pathlib

import numpy as np
import torch
from safetensors.numpy import save_file

from manifest import note

GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "tests/golden/random"


def philox_normal(seed, offset, n):
    """Philox4x32-10 and Box-Muller's sine half, with the constants of cuRAND, one counter an element."""
    mask = np.uint64(0xFFFFFFFF)
    index = np.arange(n, dtype=np.uint64)
    c = [np.full(n, offset, np.uint64), np.zeros(n, np.uint64), index, np.zeros(n, np.uint64)]
    k = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        p0, p1 = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(p1 >> np.uint64(32)) ^ c[1] ^ np.uint64(k[0]), p1 & mask,
             (p0 >> np.uint64(32)) ^ c[3] ^ np.uint64(k[1]), p0 & mask]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    turn = float(np.float32(2.0**-32 * 2 * np.pi))
    u = c[0].astype(np.float64) * 2.0**-32 + 2.0**-33
    v = c[1].astype(np.float64) * turn + turn / 2
    return (np.sqrt(-2 * np.log(u)) * np.sin(v)).astype(np.float32)


def main():
    out = {}
    for seed in (0, 1, 42, 2**32 - 1, 2**40 + 5):
        generator = torch.Generator().manual_seed(seed)
        # Calls below 16 numbers keep a spare one between them; the others must leave it alone.
        for call, n in enumerate((16, 17, 5, 100, 4, 1, 31, 7, 1000)):
            out[f"normal.{seed}.{call}"] = torch.randn(n, generator=generator).numpy()
        out[f"uniform.{seed}"] = torch.rand(33, generator=generator).numpy()
        for call, (low, high) in enumerate(((0, 1000), (-5, 2), (0, 2**31), (-(2**62), 2**62))):
            out[f"randint.{seed}.{call}"] = torch.randint(low, high, (9,), generator=generator).numpy()
        out[f"normal.{seed}.last"] = torch.randn(64, generator=generator).numpy()
    image = torch.randn((2, 4, 3, 5), generator=torch.Generator().manual_seed(7))
    out["randn_nhwc"] = np.ascontiguousarray(image.permute(0, 2, 3, 1).numpy())
    for seed in (0, 123, 2**33 + 7):
        for offset in range(3):
            out[f"philox.{seed}.{offset}"] = philox_normal(seed, offset, 50)
    GOLDEN.mkdir(parents=True, exist_ok=True)
    path = GOLDEN / "torch.safetensors"
    save_file(out, path)
    path.chmod(0o644)
    note(path, "random_numbers.py", ["torch", "numpy"], "in the names of the tensors",
         "bit equal; normals of fewer than 16 numbers and Philox within 1 ulp, the C libraries' functions")


if __name__ == "__main__":
    main()
