"""One picture by stable-diffusion.cpp through its Python package, in a process of its own.

Times go to --report as JSON. They are taken at its own log lines and in its progress callback. Noise is drawn as
torch's CPU generator does, so that the seed means the same picture.
--flash: with its flash attention in the UNet, which changes memory and speed.
"""

import argparse
import json
import time

import stable_diffusion_cpp
from stable_diffusion_cpp import StableDiffusion


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--work", required=True, help="JSON file: file, prompt, negative_prompt, size, steps, ...")
    arguments.add_argument("--report", required=True)
    arguments.add_argument("--picture", required=True)
    arguments.add_argument("--flash", action="store_true")
    options = arguments.parse_args()
    with open(options.work) as f:
        work = json.load(f)

    lines = []

    @stable_diffusion_cpp.sd_log_callback
    def keep(level, text, data):
        lines.append((time.monotonic(), time.process_time(), text.decode("utf-8", errors="replace").strip()))

    stable_diffusion_cpp.sd_set_log_callback(keep, None)
    model = StableDiffusion(
        model_path=work["file"], n_threads=work["threads"], rng_type="cpu", sampler_rng_type="cpu",
        vae_decode_only=True, diffusion_flash_attn=options.flash, verbose=False)
    stable_diffusion_cpp.sd_set_log_callback(keep, None)
    loaded = time.monotonic()

    ends = []

    def progress(step, steps, seconds):
        if steps == work["steps"] and step > len(ends):
            ends.append((time.monotonic(), time.process_time()))

    picture = model.generate_image(
        prompt=work["prompt"], negative_prompt=work["negative_prompt"], width=work["size"], height=work["size"],
        sample_method="euler", scheduler="discrete", sample_steps=work["steps"], cfg_scale=work["cfg_scale"],
        seed=work["seed"], progress_callback=progress)[0]
    picture.save(options.picture)

    def line(text):
        return next((wall, cpu, what) for wall, cpu, what in lines if text in what)

    begin, decode_begin, decode_end = line("generating image:"), line("decoding 1 latents"), line("decode_first_stage")
    if len(ends) != work["steps"]:
        raise SystemExit(f"sdcpp_peer.py: {len(ends)} steps were reported, not {work['steps']}")
    marks = [begin[:2]] + ends
    steps, steps_cpu = ([after[i] - before[i] for before, after in zip(marks, marks[1:])] for i in (0, 1))
    with open("/proc/self/status") as f:
        resident = next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmHWM:"))
    report = {
        "version": f"stable-diffusion-cpp-python {stable_diffusion_cpp.__version__}",
        "loaded": loaded, "first_step_begin": begin[0], "steps": steps, "steps_cpu": steps_cpu,
        "decode": decode_end[0] - decode_begin[0], "decode_cpu": decode_end[1] - decode_begin[1],
        "resident_bytes": resident, "log": [what for *_, what in lines],
    }
    with open(options.report, "w") as f:
        json.dump(report, f)


if __name__ == "__main__":
    main()
