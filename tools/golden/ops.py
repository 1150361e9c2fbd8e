"""Writes tests/golden/ops/ops.safetensors: PyTorch's and diffusers' numbers for single operations.

Pictures are [N,H,W,C] in the file. Names: "<op>.<variant>"; inputs end in ".x" or stand alone ("t").

usage: python tools/golden/ops.py
"""

import json
import pathlib

import diffusers
import torch
import torch.nn.functional as F
from diffusers.models.embeddings import get_timestep_embedding
from safetensors.torch import save_file

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests/golden/ops"
SEED = 20250117


def channels_last(x):
    return x.permute(0, 2, 3, 1).contiguous()


def resizes(tensors):
    x = torch.randn(2, 3, 11, 14)
    tensors["resize.x"] = channels_last(x)
    for height, width in [(22, 28), (5, 7), (17, 9), (3, 33), (11, 14), (1, 1)]:
        size = f"{height}x{width}"
        for mode in ["nearest", "bilinear", "bicubic", "area"]:
            corners = {} if mode in ("nearest", "area") else {"align_corners": False}
            tensors[f"resize.{mode}.{size}"] = channels_last(F.interpolate(x, (height, width), mode=mode, **corners))
        for mode in ["bilinear", "bicubic"]:
            y = F.interpolate(x, (height, width), mode=mode, align_corners=False, antialias=True)
            tensors[f"resize.{mode}_antialias.{size}"] = channels_last(y)


def activations(tensors):
    x = torch.cat([torch.linspace(-12, 12, 481), torch.tensor([-200.0, -88.0, 88.0, 200.0, 1e-8, -1e-8, 0.0])])
    tensors["activation.x"] = x
    tensors["activation.silu"] = F.silu(x)
    tensors["activation.gelu"] = F.gelu(x)
    tensors["activation.gelu_tanh"] = F.gelu(x, approximate="tanh")
    tensors["activation.quick_gelu"] = x * torch.sigmoid(1.702 * x)
    tensors["activation.relu"] = F.relu(x)
    tensors["activation.tanh"] = torch.tanh(x)
    tensors["activation.sigmoid"] = torch.sigmoid(x)
    y = torch.randn(3, 5, 26) * 2
    tensors["geglu.x"] = y
    values, gate = y.chunk(2, dim=-1)
    tensors["geglu.y"] = values * F.gelu(gate)


def norms(tensors):
    x = torch.randn(2, 24, 5, 7) * 2 + 0.5
    weight, bias = torch.randn(24), torch.randn(24)
    tensors.update({"norm.x": channels_last(x), "norm.weight": weight, "norm.bias": bias})
    tensors["norm.group"] = channels_last(F.group_norm(x, 8, weight, bias, 1e-6))
    tensors["norm.group_silu"] = channels_last(F.silu(F.group_norm(x, 8, weight, bias, 1e-6)))
    last = channels_last(x)
    tensors["norm.layer"] = F.layer_norm(last, (24,), weight, bias, 1e-5)
    tensors["norm.rms"] = F.rms_norm(last, (24,), weight, 1e-6)
    tensors["softmax.y"] = torch.softmax(last, dim=-1)
    rows = last.reshape(2, -1)
    tensors["moments.mean"], tensors["moments.variance"] = rows.mean(1), rows.var(1)


def timesteps(tensors):
    t = torch.tensor([0.0, 1.0, 37.5, 521.0, 999.0])
    tensors["timestep.t"] = t
    for name, dim, flip, shift in [("sd", 320, True, 0), ("ldm", 32, False, 1), ("odd", 33, True, 0)]:
        tensors[f"timestep.{name}"] = get_timestep_embedding(t, dim, flip, shift)


def main():
    torch.manual_seed(SEED)
    tensors = {}
    for write in (resizes, activations, norms, timesteps):
        write(tensors)
    OUT.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in tensors.items()}, OUT / "ops.safetensors")
    manifest = {"generator": "tools/golden/ops.py", "seed": SEED, "torch": torch.__version__,
                "diffusers": diffusers.__version__, "tolerance": "see tests/nn/ops_golden_test.cpp: a few f32 roundings"}
    (OUT / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


if __name__ == "__main__":
    main()
