"""Takes the same optimizer steps with PyTorch (eager, channels-last, torch.compile) and with Sinopia, in turns, and prints how
long a step took and how much memory the process had at its peak.

Medians over --runs rounds of the steps after the first two, which pay for what is set up lazily. The losses of all steps must
agree within 1e-3. Sizes: unet 16x16x4 latents, batch 16, 64 million parameters; autoencoder 128x128 pixels, batch 4, L1 and KL.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

FOLDER = pathlib.Path("build/training")
PEER = [sys.executable, "-W", "ignore", "bench/training/torch_peer.py"]
TORCH = {"pytorch": [], "pytorch-channels-last": ["--channels-last"], "torch-compile": ["--channels-last", "--compile"]}


def measure(program, file, steps, threads):
    if program == "sinopia":
        command = ["build/release/bench/sinopia_bench_training", str(file), "--steps", str(steps), "--threads", str(threads)]
    else:
        command = [*PEER, "--run", str(file), "--steps", str(steps), "--threads", str(threads), *TORCH[program]]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(output.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8, help="at least 4 (8)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", choices=["unet", "autoencoder"])
    parser.add_argument("--skip", action="append", default=[], choices=list(TORCH))
    parser.add_argument("--json", type=pathlib.Path, help="also write every run here")
    arguments = parser.parse_args()
    programs = [p for p in TORCH if p not in arguments.skip] + ["sinopia"]
    networks = [arguments.only] if arguments.only else ["unet", "autoencoder"]
    if not all((FOLDER / f"{n}.safetensors").exists() for n in networks):
        subprocess.run([*PEER, "--write", str(FOLDER)], check=True, capture_output=True)
    everything = {}
    for network in networks:
        runs = {p: [] for p in programs}
        for _ in range(arguments.runs):
            for program in programs:
                runs[program].append(measure(program, FOLDER / f"{network}.safetensors", arguments.steps, arguments.threads))
        everything[network] = runs
        reference = runs[programs[0]][0]["losses"]
        for program, results in runs.items():
            for result in results:
                off = max(abs(a / b - 1) for a, b in zip(result["losses"], reference, strict=True))
                assert off < 1e-3, f"{program}: losses {result['losses']} beside {reference}"
        batch = {"unet": 16, "autoencoder": 4}[network]
        seconds = {p: statistics.median(s for r in rs for s in r["seconds"][2:]) for p, rs in runs.items()}
        memory = {p: statistics.median(r["peak_bytes"] for r in rs) for p, rs in runs.items()}
        print(f"{network:24}{'s a step':>10}{'samples/s':>12}{'memory':>12}{'time / ours':>14}")
        for p in programs:
            print(f"{p:24}{seconds[p]:10.2f}{batch / seconds[p]:12.2f}{memory[p] / 1e9:9.2f} GB{seconds[p] / seconds['sinopia']:14.2f}")
        print()
    if arguments.json:
        arguments.json.write_text(json.dumps(everything))


if __name__ == "__main__":
    main()
