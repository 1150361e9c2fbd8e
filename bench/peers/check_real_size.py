"""Holds `sinopia generate` to diffusers in float32 at the real size: the latent, the picture, memory, time to start.

Every case of reference.json is painted from the single file, the first also from the diffusers folder. Fails when a
latent is further than --tolerance from the reference (norm of the difference over the norm), when a process had more
than --memory resident, or when its first step began later than --start seconds after the process.
"""

import argparse
import json
import os
import pathlib

import numpy
from PIL import Image
from safetensors.numpy import load_file

import peers

ROOT = peers.ROOT


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=pathlib.Path, default=ROOT / "build/real")
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "build/release/apps/sinopia/sinopia")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="all cores")
    parser.add_argument("--case", action="append", default=[], help="only this one; may be given again")
    parser.add_argument("--tolerance", type=float, default=1e-3, help="of the latent, relative (1e-3)")
    parser.add_argument("--memory", type=float, default=3.0, help="GB (3.0)")
    parser.add_argument("--start", type=float, default=3.0, help="seconds until the first step begins (3.0)")
    return parser.parse_args()


def relative(value, reference):
    return float(numpy.linalg.norm(value.astype(float) - reference) / numpy.linalg.norm(reference.astype(float)))


def paint(given, model, common, case, folder):
    """Runs the program. Returns (latent [H,W,C], picture [H,W,3], seconds to the first step, its report, bytes)."""
    latent, picture, report = folder / "latent.safetensors", folder / "picture.png", folder / "report.json"
    for path in (latent, picture, report):
        path.unlink(missing_ok=True)
    # The sampler of a model that says nothing else is PNDM, diffusers' default; Euler on even timesteps is asked for.
    sampler = ["--sampling-method", "euler", "--scheduler", "discrete"] if case["sampler"] == "euler" else []
    started = []
    command = [str(given.binary), "generate", "-m", str(model), "-p", common["prompt"],
               "-n", common["negative_prompt"], "-W", str(case["size"]), "-H", str(case["size"]),
               "--steps", str(case["steps"]), "--cfg-scale", str(common["cfg_scale"]), "-s", str(case["seed"]),
               *sampler, "--rng", "cpu", "-t", str(given.threads), "-o", str(picture), "--latent", str(latent),
               "--json", str(report)]
    _, _, _, memory = peers.execute(
        command, given.threads, folder / "log",
        lambda _, seconds, line: started.append(seconds) if line.startswith("step 0/") else None)
    values = load_file(latent)
    if list(values) != ["latent"]:
        raise SystemExit(f"check_real_size.py: expected one tensor 'latent', got {list(values)}")
    return values["latent"][0], numpy.asarray(Image.open(picture)), started[0], json.loads(report.read_text()), memory


def main():
    given = options()
    folder = ROOT / "build/peers/real-size"
    folder.mkdir(parents=True, exist_ok=True)
    common = json.loads((given.checkpoint / "reference.json").read_text())
    reference = load_file(given.checkpoint / "reference.safetensors")
    cases = given.case or list(common["cases"])
    single = given.checkpoint / "sd15.safetensors"
    todo = [(name, single) for name in cases] + [(cases[0], given.checkpoint / "sd15")]
    failures = 0
    for name, model in todo:
        case = common["cases"][name]
        with open(single if model == single else model / "unet/diffusion_pytorch_model.safetensors", "rb") as f:
            while f.read(1 << 24):
                pass
        try:
            latent, picture, start, report, memory = paint(given, model, common, case, folder)
        except peers.Failed as failure:
            raise SystemExit(f"check_real_size.py: {failure}") from None
        error = relative(latent, reference[f"{name}.latent"][0].transpose(1, 2, 0))
        expected = numpy.rint(reference[f"{name}.picture"][0].transpose(1, 2, 0) * 255)
        far = numpy.abs(picture.astype(int) - expected).max(axis=2)
        seconds = report["seconds"]
        print(f"{name} from {model.name}: latent {error:.1e} off (relative), picture within 1/255 on "
              f"{100 * (far <= 1).mean():.3f} % of the pixels, at most {int(far.max())}; memory {memory / 1e9:.2f} GB, "
              f"first step began after {start:.2f} s; steps {' '.join(f'{s:.2f}' for s in seconds['steps'])} s, decode "
              f"{seconds['decode']:.2f} s, load average {os.getloadavg()[0]:.1f}", flush=True)
        for what, value, limit in (("latent", error, given.tolerance), ("memory in GB", memory / 1e9, given.memory),
                                   ("seconds to the first step", start, given.start)):
            if not value <= limit:
                failures += 1
                print(f"  FAILED: {what}: {value:.3g}, at most {limit:g} is allowed")
    raise SystemExit(1 if failures else 0)


if __name__ == "__main__":
    main()
