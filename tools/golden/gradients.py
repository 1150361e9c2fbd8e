"""Writes tests/golden/gradients/models.json: gradients of the small networks of models.py by PyTorch in float64.

The gradient that reaches output element i is cos(1.3 i + 0.5), counted channels last. Of each parameter's and input's
gradient g the file has its norm, sum g_i cos(0.7 i + 1) and sum g_i sin(0.3 i): three numbers that no wrong element leaves
as they are. Parameters are counted in PyTorch's layout, inputs channels last. "float32" is by how much of a norm PyTorch's own
float32 misses them at most: some of these very small networks magnify rounding.
"""

import json
import pathlib

import torch
from checkpoints import with_text_model
from diffusers import AutoencoderKL, UNet2DConditionModel, UNet2DModel, VQModel
from manifest import note
from safetensors import safe_open
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "tests/golden"
TARGET = GOLDEN / "gradients/models.json"


def last(x):
    return x.permute(0, 2, 3, 1) if x.ndim == 4 else x


def first(x):
    return x.permute(0, 3, 1, 2) if x.ndim == 4 else x


def reached(y):
    y = last(y).flatten().double()
    return (y * torch.cos(1.3 * torch.arange(len(y), dtype=torch.float64) + 0.5)).sum()


def summary(g):
    g = g.flatten().double()
    i = torch.arange(len(g), dtype=torch.float64)
    return [g.norm().item(), (g * torch.cos(0.7 * i + 1)).sum().item(), (g * torch.sin(0.3 * i)).sum().item()]


class Case:
    dtype = torch.float64

    def __init__(self, name):
        with safe_open(GOLDEN / f"models/{name}.safetensors", "pt") as file:
            tensors = {k: file.get_tensor(k) for k in file.keys()}
            self.config = json.loads(file.metadata()["config"])
        self.weights = {k[2:]: v.to(self.dtype) for k, v in tensors.items() if k.startswith("w.")}
        self.x = {k[2:]: first(v.to(self.dtype)) if v.is_floating_point() else v.long() for k, v in tensors.items()
                  if k.startswith("x.")}

    def build(self, model, names=lambda state: state):
        model = model.to(self.dtype).eval()
        ours = names(dict(model.state_dict()))
        theirs = dict(zip(ours, model.state_dict()))
        missing, unexpected = model.load_state_dict({theirs[k]: v for k, v in self.weights.items()}, strict=False)
        assert not unexpected and all(k.endswith("position_ids") for k in missing), (missing, unexpected)
        self.parameters = {ours: p for ours, p in zip(names(dict(model.named_parameters())), model.parameters())}
        return model

    def gradients(self, loss, inputs):
        loss.backward()
        result = {"w." + k: summary(p.grad) for k, p in self.parameters.items() if p.grad is not None}
        return result | {"x." + k: summary(last(self.x[k].grad)) for k in inputs}

    def leaf(self, name):
        self.x[name] = self.x[name].detach().requires_grad_()
        return self.x[name]


def unet(name):
    case = Case(name)
    plain = case.config["_class_name"] == "UNet2DModel"
    model = case.build((UNet2DModel if plain else UNet2DConditionModel).from_config(case.config))
    sample, inputs = case.leaf("sample"), ["sample"]
    if plain:
        return case.gradients(reached(model(sample, case.x["t"]).sample), inputs)
    extra = {}
    if "pooled" in case.x:
        extra["added_cond_kwargs"] = dict(text_embeds=case.leaf("pooled"), time_ids=case.x["time_ids"])
        inputs.append("pooled")
    if "labels" in case.x:
        extra["class_labels"] = case.x["labels"]
    y = model(sample, case.x["t"], encoder_hidden_states=case.leaf("text"), **extra).sample
    return case.gradients(reached(y), inputs + ["text"])


def autoencoder(name):
    case = Case(name)
    model = case.build(AutoencoderKL.from_config(case.config))
    latent = model.encode(case.leaf("picture")).latent_dist
    loss = reached(latent.mean) + reached(latent.logvar) + reached(model.decode(case.leaf("z")).sample)
    return case.gradients(loss, ["picture", "z"])


def vq_model(name):
    """With the codebook's loss of diffusers, whose beta counts for the entries."""
    case = Case(name)
    model = case.build(VQModel.from_config(case.config))
    decoded = model.decode(case.leaf("z"))
    loss = reached(model.encode(case.leaf("picture")).latents) + reached(decoded.sample) + decoded.commit_loss
    return case.gradients(loss, ["picture", "z"])


def text(name, cls):
    case = Case(name)
    model = case.build(cls(CLIPTextConfig(**case.config)),
                       lambda state: with_text_model({k.removeprefix("text_model."): v for k, v in state.items()}))
    out = model(case.x["ids"])
    return case.gradients(reached(out.last_hidden_state) + reached(out.text_embeds if name == "clip_g" else out.pooler_output), [])


def deviation(double, single):
    return max(abs(a - b) / double[k][0] for k in double if double[k][0] > 0.1
               for a, b in zip(double[k], single[k], strict=True))


def every():
    result = {name: unet(name) for name in ("unet_sd1", "unet_sdxl", "unet_x4", "unet_plain")}
    result |= {name: autoencoder(name) for name in ("vae", "vae_no_quant", "vae_attention")}
    result["vq"] = vq_model("vq")
    return result | {"clip_l": text("clip_l", CLIPTextModel), "clip_g": text("clip_g", CLIPTextModelWithProjection)}


def main():
    torch.manual_seed(0)
    result = every()
    Case.dtype = torch.float32
    single = every()
    lines = []
    for name, case in result.items():
        entries = [f' "float32": {deviation(case, single[name]):.3g}']
        entries += [f" {json.dumps(k)}: {json.dumps([float(f'{v:.9g}') for v in g])}" for k, g in case.items()]
        lines.append(f"{json.dumps(name)}: {{\n" + ",\n".join(entries) + "}")
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text("{" + ",\n".join(lines) + "}\n")
    note(TARGET, "gradients.py", ["diffusers", "torch", "transformers"], None,
         "1e-4 of the gradient's norm, or twice what float32 misses it by")


if __name__ == "__main__":
    main()
