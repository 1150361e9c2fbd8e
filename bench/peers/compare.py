"""Lets every program paint the same picture from the same checkpoint, in turns, and prints how long each took.

Medians over --runs rounds; in each round every program runs once, alone, in a process of its own.
  step    one denoising step with guidance: the median of all steps after the first
  first   the first step, which also pays for what is set up lazily
  decode  the autoencoder's decoder
  wall    the whole process, from its start to its end (torch-compile: its compilation and a first picture included)
  cpu     of the same, the processor time of all threads: it moves less with whatever else the machine does
  start   from the start of the process until the first step begins, with the checkpoint in the page cache
  memory  the most that was resident at once, mapped files included; with --device cuda, of the GPU's own memory
"""

import argparse
import dataclasses
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys

import numpy
from PIL import Image

import peers

ROOT = peers.ROOT
PROMPT = "a photograph of an astronaut riding a horse, highly detailed"
NEGATIVE = "blurry, low quality"


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=pathlib.Path, default=ROOT / "build/real",
                        help="folder with sd15.safetensors and sd15/, as tools/golden/real_size.py makes it")
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "build/release/apps/sinopia/sinopia")
    parser.add_argument("--size", type=int, default=512, help="pixels of a side (512)")
    parser.add_argument("--steps", type=int, default=3, help="at least 2 (3)")
    parser.add_argument("--runs", type=int, default=3, help="rounds (3)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="all cores")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where all of them compute (cpu)")
    parser.add_argument("--precision", choices=["f32", "f16", "bf16"], default="f32", help="and in which type (f32)")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--cfg-scale", type=float, default=7.5)
    names = [p.name for p in peers.all_peers("")]
    parser.add_argument("--skip", action="append", default=[], choices=names, metavar="NAME",
                        help="leave one out; may be given again. Known: " + ", ".join(names))
    parser.add_argument("--only", action="append", default=[], choices=names, metavar="NAME",
                        help="leave out all but these")
    parser.add_argument("--json", type=pathlib.Path, help="also write every single run here")
    given = parser.parse_args()
    if given.device == "cpu" and given.precision != "f32":
        parser.error("the CPU computes in f32")
    if given.steps < 2 or given.runs < 1:
        parser.error("--steps must be at least 2 and --runs at least 1")
    if given.only:
        given.skip += [n for n in names if n not in given.only]
    return given


def read_through(path):
    """The first program must not pay for the disk."""
    files = [path] if path.is_file() else [f for f in path.rglob("*") if f.is_file()]
    for file in files:
        with open(file, "rb") as f:
            while f.read(1 << 24):
                pass


def difference(picture, reference):
    a, b = (numpy.asarray(Image.open(p).convert("RGB")).astype(int) for p in (picture, reference))
    if a.shape != b.shape:
        raise SystemExit(f"compare.py: {picture} is {a.shape}, {reference} is {b.shape}")
    d = numpy.abs(a - b)
    return {"mean": float(d.mean()), "max": int(d.max()), "within_1": float((d.max(axis=2) <= 1).mean())}


def machine():
    with open("/proc/cpuinfo") as f:
        lines = [line.split(":", 1)[1].strip() for line in f if line.startswith("model name")]
    commit = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True)
    return {"processor": lines[0] if lines else platform.processor(), "cores": len(os.sched_getaffinity(0)),
            "commit": commit.stdout.strip(), "load": os.getloadavg()}


def graphics_card():
    told = subprocess.run(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"],
                          capture_output=True, text=True)
    return told.stdout.strip() or "a GPU"


def summary(runs):
    def median(values):
        values = [v for v in values if v is not None]
        return statistics.median(values) if values else None

    return {"version": runs[0].version, "step": median([s for r in runs for s in r.steps[1:]]),
            "step_cpu": median([s for r in runs for s in r.steps_cpu[1:]]),
            "first": median([r.steps[0] for r in runs]), "decode": median([r.decode for r in runs]),
            "decode_cpu": median([r.decode_cpu for r in runs]), "wall_cpu": median([r.cpu for r in runs]),
            "wall": median([r.wall for r in runs]), "start": median([r.start for r in runs]),
            "memory": max(r.memory for r in runs), "load": max(max(r.load) for r in runs)}


def table(results):
    columns = ["step", "step_cpu", "first", "decode", "decode_cpu", "wall", "wall_cpu", "start"]
    titles = "".join(f"{'cpu' if c.endswith('_cpu') else c:>9}" for c in columns) + f"{'memory':>11}"
    wide = max(len(name) for name in results) + 2
    print(f"\n{'seconds':<{wide}}{titles}{'load':>7}")
    for name, s in results.items():
        cells = "".join(f"{s[c]:9.2f}" if s[c] is not None else f"{'-':>9}" for c in columns)
        print(f"{name:<{wide}}{cells}{s['memory'] / 1e9:8.2f} GB{s['load']:7.1f}")
    ours = results.get("sinopia")
    if ours is None or len(results) == 1:
        return
    print(f"\n{'times sinopia':<{wide}}{titles}")
    for name, s in results.items():
        if name != "sinopia":
            cells = "".join(f"{s[c] / ours[c]:9.2f}" if s[c] is not None else f"{'-':>9}" for c in columns)
            print(f"{name:<{wide}}{cells}{s['memory'] / ours['memory']:11.2f}")


def main():
    given = options()
    folder = ROOT / "build/peers"
    folder.mkdir(parents=True, exist_ok=True)
    work = peers.Work(str(given.checkpoint / "sd15.safetensors"), str(given.checkpoint / "sd15"), PROMPT, NEGATIVE,
                      given.size, given.steps, given.cfg_scale, given.seed, given.threads, given.device,
                      given.precision)
    compared = [p for p in peers.all_peers(given.binary, given.device) if p.name not in given.skip]
    facts = machine()
    print(f"{facts['processor']}, {work.threads} of {facts['cores']} threads, load {facts['load'][0]:.1f}, commit "
          f"{facts['commit']}\n{work.size}x{work.size}, {work.steps} steps, Euler, guidance {work.cfg_scale}, "
          f"{given.runs} rounds, on {graphics_card() if given.device == 'cuda' else 'the CPU'} in {given.precision}")
    for name in dict.fromkeys(given.skip):
        print(f"skipped: {name}")
    for peer in compared:
        peer.prepare(work, folder)
    runs = {p.name: [] for p in compared}
    for i in range(given.runs):
        for peer in compared:
            for path in peer.reads(work):
                read_through(pathlib.Path(path))
            try:
                run = peer.run(work, folder)
            except peers.Failed as failure:
                raise SystemExit(f"compare.py: {peer.name}: {failure}") from None
            runs[peer.name].append(run)
            print(f"round {i + 1}: {peer.name}: steps {' '.join(f'{s:.2f}' for s in run.steps)}, decode "
                  f"{run.decode:.2f}, wall {run.wall:.2f} s; of processor time "
                  f"{' '.join(f'{s:.2f}' for s in run.steps_cpu)}, {run.decode_cpu:.2f}, {run.cpu:.2f} s", flush=True)
    results = {name: summary(r) for name, r in runs.items()}
    table(results)

    reference = next(iter(runs))
    differences = {n: difference(r[-1].picture, runs[reference][-1].picture) for n, r in runs.items() if n != reference}
    if differences:
        print(f"\nthe pictures beside that of {reference}, in 1/255:")
        for name, d in differences.items():
            print(f"  {name}: {d['mean']:.3f} on the mean, {d['max']} at most, {100 * d['within_1']:.2f} % of the "
                  "pixels within 1")
    print("\n" + "\n".join(f"{name}: {s['version']}" for name, s in results.items()))
    if given.json:
        given.json.write_text(json.dumps(
            {"machine": facts, "work": dataclasses.asdict(work), "skipped": given.skip, "summary": results,
             "pictures": {"reference": reference, "difference": differences},
             "runs": {n: [dataclasses.asdict(r) for r in rs] for n, rs in runs.items()}}, indent=1) + "\n")


if __name__ == "__main__":
    main()
