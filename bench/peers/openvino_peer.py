"""One picture by OpenVINO on the CPU in float32, in a process of its own; times go to --report as JSON.

--prepare: converts the text encoder, the UNet and the decoder of the diffusers folder to OpenVINO's own files below --models,
which is what its users have on their disk; nothing is timed then. They are in float32: in float16, ov.save_model's default,
the sinusoids of time lose digits too, a sixth of the pixels differ by more than 1/255, and nothing gets faster. Shapes are fixed to the picture's, and guidance is a batch of two. The tokenizer and the scheduler
are those of transformers and diffusers.
"""

import argparse
import json
import pathlib
import time

NETWORKS = ("text_encoder", "unet", "decoder")


def prepare(work, models):
    import diffusers
    import openvino
    import torch
    import transformers

    class Unet(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, sample, timestep, text):
            return self.inner(sample, timestep, encoder_hidden_states=text, return_dict=False)[0]

    class Decoder(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, latent):
            return self.inner.decode(latent, return_dict=False)[0]

    class TextEncoder(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, ids):
            return self.inner(ids)[0]

    side = work["size"] // 8
    folder = work["folder"]
    text_encoder = transformers.CLIPTextModel.from_pretrained(folder, subfolder="text_encoder", torch_dtype=torch.float32)
    width = text_encoder.config.hidden_size
    networks = {
        "text_encoder": lambda: (TextEncoder(text_encoder), (torch.zeros(2, 77, dtype=torch.int64),)),
        "unet": lambda: (Unet(diffusers.UNet2DConditionModel.from_pretrained(folder, subfolder="unet",
                                                                            torch_dtype=torch.float32)),
                         (torch.zeros(2, 4, side, side), torch.tensor(1.0), torch.zeros(2, 77, width))),
        "decoder": lambda: (Decoder(diffusers.AutoencoderKL.from_pretrained(folder, subfolder="vae",
                                                                           torch_dtype=torch.float32)),
                            (torch.zeros(1, 4, side, side),)),
    }
    models.mkdir(parents=True, exist_ok=True)
    for name in NETWORKS:
        module, example = networks[name]()
        with torch.no_grad():
            model = openvino.convert_model(module.eval(), example_input=example,
                                           input=[tuple(x.shape) for x in example])
        openvino.save_model(model, models / f"{name}.xml", compress_to_fp16=False)


def generate(work, models, report_file, picture):
    import numpy
    import openvino
    import torch  # for the noise and the scheduler alone
    from diffusers import EulerDiscreteScheduler, __version__
    from PIL import Image
    from transformers import CLIPTokenizer

    torch.set_num_threads(work["threads"])
    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": work["threads"], "NUM_STREAMS": 1,
                "PERFORMANCE_HINT": "LATENCY"}
    text_encoder, unet, decoder = (core.compile_model(models / f"{name}.xml", "CPU", settings) for name in NETWORKS)
    tokenizer = CLIPTokenizer.from_pretrained(work["folder"], subfolder="tokenizer")
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="linspace", steps_offset=1)
    loaded = time.monotonic()

    ids = tokenizer([work["negative_prompt"], work["prompt"]], padding="max_length", max_length=77, truncation=True,
                    return_tensors="np").input_ids.astype(numpy.int64)
    text = text_encoder([ids])[0]
    scheduler.set_timesteps(work["steps"])
    side = work["size"] // 8
    latent = torch.randn(1, 4, side, side, generator=torch.Generator().manual_seed(work["seed"]))
    latent = latent * scheduler.init_noise_sigma
    marks = []
    for t in scheduler.timesteps:
        marks.append((time.monotonic(), time.process_time()))
        x = scheduler.scale_model_input(latent, t).expand(2, -1, -1, -1).numpy()
        without, with_prompt = unet([numpy.ascontiguousarray(x), numpy.float32(t), text])[0]
        eps = without + work["cfg_scale"] * (with_prompt - without)
        latent = scheduler.step(torch.from_numpy(eps[None]), t, latent).prev_sample
    marks.append((time.monotonic(), time.process_time()))
    pixels = decoder([(latent / 0.18215).numpy()])[0][0]
    marks.append((time.monotonic(), time.process_time()))
    pixels = numpy.clip(pixels.transpose(1, 2, 0) / 2 + 0.5, 0, 1)
    Image.fromarray((pixels * 255).round().astype(numpy.uint8)).save(picture)

    seconds, cpu = ([b[i] - a[i] for a, b in zip(marks, marks[1:])] for i in (0, 1))
    report = {"version": f"openvino {openvino.__version__.split('-')[0]}, diffusers {__version__}", "loaded": loaded,
              "first_step_begin": marks[0][0], "compile_seconds": None, "steps": seconds[:-1], "steps_cpu": cpu[:-1],
              "decode": seconds[-1], "decode_cpu": cpu[-1], "threads": work["threads"]}
    report_file.write_text(json.dumps(report))


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--work", required=True, type=pathlib.Path, help="JSON file: folder, prompt, size, steps, ...")
    arguments.add_argument("--models", required=True, type=pathlib.Path)
    arguments.add_argument("--prepare", action="store_true")
    arguments.add_argument("--report", type=pathlib.Path)
    arguments.add_argument("--picture", type=pathlib.Path)
    options = arguments.parse_args()
    work = json.loads(options.work.read_text())
    models = options.models / str(work["size"])
    if options.prepare:
        prepare(work, models)
    else:
        generate(work, models, options.report, options.picture)


if __name__ == "__main__":
    main()
