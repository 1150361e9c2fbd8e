"""One picture by diffusers on PyTorch, in a process of its own; times go to --report as JSON.

--compile: the UNet and the decoder through torch.compile (on a GPU with max-autotune). A first generation pays for the compilation and is reported
as such; the second is what is measured.
--channels-last: weights and activations in torch's channels_last format.
"""

import argparse
import json
import time

import diffusers
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline


TYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def watch(module, name, events, mark, device):
    """Notes when module.name begins and ends, with all that was asked of a GPU before done."""
    inner = getattr(module, name)

    def note(when):
        if device == "cuda":
            torch.cuda.synchronize()
        events.append((mark + when, time.monotonic(), time.process_time()))

    def timed(*arguments, **options):
        note(".begin")
        result = inner(*arguments, **options)
        note(".end")
        return result

    setattr(module, name, timed)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--work", required=True, help="JSON file: folder, prompt, negative_prompt, size, steps, ...")
    arguments.add_argument("--report", required=True)
    arguments.add_argument("--picture", required=True)
    arguments.add_argument("--compile", action="store_true")
    arguments.add_argument("--channels-last", action="store_true")
    options = arguments.parse_args()
    with open(options.work) as f:
        work = json.load(f)
    torch.set_num_threads(work["threads"])

    pipe = StableDiffusionPipeline.from_pretrained(work["folder"], torch_dtype=TYPES[work["precision"]],
                                                   safety_checker=None).to(work["device"])
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="linspace", steps_offset=1)
    if options.channels_last:
        pipe.unet.to(memory_format=torch.channels_last)
        pipe.vae.to(memory_format=torch.channels_last)
    if options.compile:
        how = {"mode": "max-autotune"} if work["device"] == "cuda" else {}
        pipe.unet.compile(**how)
        pipe.vae.decoder.compile(**how)
    loaded = time.monotonic()

    def generate():
        return pipe(
            work["prompt"], negative_prompt=work["negative_prompt"], width=work["size"], height=work["size"],
            num_inference_steps=work["steps"], guidance_scale=work["cfg_scale"],
            generator=torch.Generator().manual_seed(work["seed"])).images[0]

    if options.compile:
        generate()
    warm = time.monotonic()
    events = []
    # What begins a step, and not the UNet itself: a compiled module whose method is replaced is compiled anew.
    watch(pipe.scheduler, "scale_model_input", events, "step", work["device"])
    watch(pipe.vae, "decode", events, "decode", work["device"])
    generate_begin = time.monotonic()
    picture = generate()
    picture.save(options.picture)

    begins = [times for name, *times in events if name == "step.begin"]
    decode_begin = next(times for name, *times in events if name == "decode.begin")
    decode_end = next(times for name, *times in events if name == "decode.end")
    marks = begins + [decode_begin]
    steps, steps_cpu = ([after[i] - before[i] for before, after in zip(marks, marks[1:])] for i in (0, 1))
    with open("/proc/self/status") as f:
        resident = next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmHWM:"))
    report = {
        "version": f"diffusers {diffusers.__version__}, torch {torch.__version__}",
        "loaded": loaded, "first_step_begin": begins[0][0] if not options.compile else None,
        "compile_seconds": warm - loaded if options.compile else None,
        "text_seconds": begins[0][0] - generate_begin, "steps": steps, "steps_cpu": steps_cpu,
        "decode": decode_end[0] - decode_begin[0], "decode_cpu": decode_end[1] - decode_begin[1],
        "device_bytes": torch.cuda.max_memory_allocated() if work["device"] == "cuda" else 0,
        "resident_bytes": resident, "threads": torch.get_num_threads(), "isa": torch.backends.cpu.get_cpu_capability(),
    }
    with open(options.report, "w") as f:
        json.dump(report, f)


if __name__ == "__main__":
    main()
