"""Writes tests/golden/quantised: blocks.bin, all.gguf and peer-*.gguf.

blocks.bin: for q8_0, q6_K, q5_K, q4_K and q4_0 blocks of 1024 elements with random bits and the gguf package's values
of them (f32); then 2048 f32 numbers and the gguf package's q8_0 and q4_0 blocks of them.
all.gguf: every kind of metadata and type that is read, by the gguf package. peer-TYPE.gguf: what stable-diffusion.cpp
makes of a few tensors with names of a checkpoint. The .json beside each holds, by tensor, type, shape, the CRC-32 of the
bytes and that of the gguf package's f32 values.

usage: python tools/golden/quantised.py [--peer]
--peer writes peer-*.gguf too; it needs the package stable-diffusion-cpp-python 0.4.7, which is compiled when installed.
"""

import json
import os
import pathlib
import sys
import tempfile
import zlib

import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from gguf import GGUFReader, GGUFWriter
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize, quantize
from manifest import note
from safetensors.torch import save_file

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden" / "quantised"
QUANTISED = [Type.Q8_0, Type.Q6_K, Type.Q5_K, Type.Q4_K, Type.Q4_0]
SEED = 20250218
SCALES = {Type.Q8_0: [0], Type.Q4_0: [0], Type.Q4_K: [0, 2], Type.Q5_K: [0, 2], Type.Q6_K: [208]}  # bytes of the f16s


def random_blocks(rng, kind, count):
    """Random bits, but for the scales in f16, which are finite: of weights, and the smallest and largest there are."""
    _, size = GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
    for at in SCALES[kind]:
        scales = (rng.standard_normal(count) * 0.01).astype(np.float16)
        scales[-2:] = [6e-8, -7.0]
        blocks[:, at:at + 2] = scales.view(np.uint8).reshape(count, 2)
    return blocks


def write_blocks():
    rng = np.random.default_rng(SEED)
    out = b""
    for kind in QUANTISED:
        blocks = random_blocks(rng, kind, 1024 // GGML_QUANT_SIZES[kind][0])
        out += blocks.tobytes() + dequantize(blocks, kind).astype("<f4").tobytes()
    x = rng.standard_normal(2048).astype(np.float32) * np.exp(rng.standard_normal(64)).astype(np.float32).repeat(32)
    x[32:64] = 0
    x[64:96] = 0.25
    x[96:128] = np.tile([-1.0, 1.0], 16)  # halves and ties
    x[128:160] = np.arange(32) * 0.5 - 7.75
    out += x.astype("<f4").tobytes() + quantize(x, Type.Q8_0).tobytes() + quantize(x, Type.Q4_0).tobytes()
    target = OUT / "blocks.bin"
    target.write_bytes(out)
    note(target, "quantised.py", ["gguf", "numpy"], [SEED], "exact")


def write_contents(path, metadata):
    names = {Type.BF16: "bf16"}
    table = {}
    for tensor in GGUFReader(path).tensors:
        kind = tensor.tensor_type
        raw = np.ascontiguousarray(tensor.data)
        values = dequantize(raw, kind).astype("<f4")
        name = names.get(kind, kind.name[0].lower() + kind.name[1:])
        table[tensor.name] = [name, [int(n) for n in tensor.shape[::-1]], zlib.crc32(raw.tobytes()), zlib.crc32(values.tobytes())]
    path.with_suffix(".json").write_text(json.dumps({"tensors": table, "metadata": metadata}, indent=1, sort_keys=True) + "\n")


def write_all():
    rng = np.random.default_rng(SEED + 1)
    target = OUT / "all.gguf"
    writer = GGUFWriter(target, "sd1")
    writer.add_custom_alignment(64)
    writer.add_quantization_version(2)
    writer.add_string("text", "snow \u96ea \U0001f600 \"quoted\"\n")
    for kind, value in {"uint8": 200, "int8": -100, "uint16": 65000, "int16": -32000, "uint32": 4000000000, "int32": -2000000000,
                        "uint64": 2**63 + 1, "int64": -2**62, "float32": 0.25, "float64": 0.1, "bool": True}.items():
        getattr(writer, f"add_{kind}")(kind, value)
    writer.add_array("numbers", [1, 2, 3])
    writer.add_array("texts", ["a", "b\u00e9"])
    writer.add_array("long", list(range(1025)))
    writer.add_tensor("f32", rng.standard_normal((3, 5)).astype(np.float32))
    writer.add_tensor("f16 4d", rng.standard_normal((2, 3, 4, 5)).astype(np.float16))
    bits = (rng.standard_normal(7).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    writer.add_tensor("bf16", bits.view(np.uint8), raw_dtype=Type.BF16)
    for kind in QUANTISED:
        writer.add_tensor(kind.name, random_blocks(rng, kind, 6).reshape(3, -1), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    write_contents(target, {
        "general.architecture": "sd1", "text": "snow \u96ea \U0001f600 \"quoted\"\n", "uint8": "200", "int8": "-100",
        "uint16": "65000", "int16": "-32000", "uint32": "4000000000", "int32": "-2000000000", "uint64": str(2**63 + 1),
        "int64": str(-2**62), "float32": "0.25", "float64": "0.1", "bool": "true", "numbers": "[1,2,3]",
        "texts": "[\"a\",\"b\u00e9\"]"})
    note(target, "quantised.py", ["gguf", "numpy"], [SEED + 1], "exact")


def write_peer():
    from stable_diffusion_cpp import StableDiffusion

    generator = torch.Generator().manual_seed(SEED + 2)
    block = "model.diffusion_model.input_blocks.1.1."
    shapes = {block + "transformer_blocks.0.attn1.to_q.weight": [3, 512], block + "transformer_blocks.0.attn2.to_k.weight": [4, 96],
              block + "transformer_blocks.0.norm1.weight": [32], block + "proj_in.weight": [4, 64, 1, 1],
              block + "proj_in.bias": [32], "model.diffusion_model.input_blocks.0.0.weight": [4, 4, 3, 3],
              "model.diffusion_model.time_embed.0.weight": [4, 64],
              "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight": [5, 64],
              "cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc1.weight": [2, 256]}
    tensors = {name: (torch.randn(shape, generator=generator) * 0.1).half() for name, shape in shapes.items()}
    with tempfile.TemporaryDirectory() as folder:
        source = os.path.join(folder, "source.safetensors")
        save_file(tensors, source)
        for kind in QUANTISED:
            name = kind.name[0].lower() + kind.name[1:]
            target = OUT / f"peer-{name}.gguf"
            assert StableDiffusion().convert(input_path=source, output_path=str(target), output_type=name, convert_name=False)
            write_contents(target, {})
            note(target, "quantised.py", ["gguf", "stable-diffusion-cpp-python", "torch"], [SEED + 2], "exact")


def main():
    OUT.mkdir(exist_ok=True)
    write_blocks()
    write_all()
    if "--peer" in sys.argv[1:]:
        write_peer()


if __name__ == "__main__":
    main()
