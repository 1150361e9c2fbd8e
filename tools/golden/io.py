"""Writes tests/golden/io with the reference libraries: safetensors, torch and Pillow.

python tools/golden/io.py [parts...]      parts: safetensors, image, resize, image_tensor, ckpt, sharded (default: all)
"""

import io
import json
import pathlib
import struct
import sys
import zlib

import numpy as np
import PIL
import safetensors
import torch
from PIL import Image, ImageOps
from safetensors.torch import save_file

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden" / "io"
DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.uint8, torch.int16,
          torch.int32, torch.int64, torch.bool]


def sample(dtype, shape, seed):
    generator = torch.Generator().manual_seed(seed)
    if dtype == torch.bool:
        return torch.randint(0, 2, shape, generator=generator).to(torch.bool)
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(dtype)
    low = 0 if dtype == torch.uint8 else -100
    return torch.randint(low, 100, shape, generator=generator).to(dtype)


def contents(tensors):
    """Name -> [dtype, shape, CRC-32 of the bytes in row-major order]."""
    table = {}
    for name, tensor in tensors.items():
        raw = tensor.detach().contiguous()
        raw = raw.reshape(-1).view(torch.uint8).numpy().tobytes() if raw.numel() else b""
        dtype = {"float32": "f32", "float16": "f16", "bfloat16": "bf16", "float64": "f64", "int8": "i8",
                 "uint8": "u8", "int16": "i16", "int32": "i32", "int64": "i64", "bool": "bool"}[str(tensor.dtype)[6:]]
        table[name] = [dtype, list(tensor.shape), zlib.crc32(raw)]
    return table


def write_json(name, value):
    (OUT / name).write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")


def write_safetensors():
    tensors = {f"block.{i}.{str(d)[6:]}": sample(d, [2 + i % 3, 3], i) for i, d in enumerate(DTYPES)}
    tensors["scalar"] = torch.tensor(0.25)
    tensors["empty"] = torch.zeros(0, 4)
    tensors["six"] = sample(torch.float32, [1, 2, 1, 3, 1, 2], 40)
    tensors["nan"] = torch.tensor([float("nan"), float("inf"), -0.0])
    tensors['quote" \\ \u00e9\u2603\t'] = sample(torch.float16, [5], 41)
    save_file(tensors, OUT / "all.safetensors", metadata={"format": 'p"t\n'})
    write_json("all.json", contents(tensors))


def pattern(width, height, channels, seed):
    """Smooth colours with some noise, and every alpha from 0 to 255."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    planes = [127 + 90 * np.sin(x / (3 + c) + y / 5 + c) + rng.integers(-30, 30, (height, width))
              for c in range(channels)]
    if channels in (2, 4):
        planes[-1] = (x * 37 + y * 11) % 256
    return np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)


MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


def to_image(array):
    return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array, MODES[array.shape[-1]])


def as_array(image):
    array = np.asarray(image)
    return array[..., None] if array.ndim == 2 else array


def write_resize():
    """One binary file a case list: source pixels, then the result of every case in order."""
    cases, blob = [], b""
    filters = {"nearest": Image.NEAREST, "box": Image.BOX, "bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC,
               "lanczos": Image.LANCZOS}
    for channels in (1, 2, 3, 4):
        source = pattern(37, 29, channels, channels)
        for name, resample in filters.items():
            for size in [(64, 48), (16, 11), (37, 13), (90, 29), (1, 1), (53, 7)]:
                if channels != 3 and size not in [(64, 48), (16, 11)]:
                    continue
                result = as_array(to_image(source).resize(size, resample))
                cases.append({"channels": channels, "filter": name, "width": size[0], "height": size[1],
                              "crc": zlib.crc32(result.tobytes())})
        blob += source.tobytes()
    (OUT / "resize_sources.bin").write_bytes(blob)
    write_json("resize.json", {"width": 37, "height": 29, "cases": cases})


def pixels_of(image, mode):
    image = ImageOps.exif_transpose(image)
    return as_array(image.convert(mode))


def write_images():
    folder = OUT / "images"
    folder.mkdir(exist_ok=True)
    table = {}

    def keep(name, mode, data=None, text=None):
        if data is not None:
            (folder / name).write_bytes(data)
        image = Image.open(folder / name)
        array = pixels_of(image, mode)
        (folder / (name + ".raw")).write_bytes(zlib.compress(array.tobytes(), 9))
        table[name] = {"width": array.shape[1], "height": array.shape[0], "channels": array.shape[2],
                       "text": text or {}}

    def save(name, image, mode, text=None, **options):
        buffer = io.BytesIO()
        image.save(buffer, format={"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}[name.split(".")[-1]], **options)
        keep(name, mode, buffer.getvalue(), text)

    for channels, mode in MODES.items():
        save(f"{mode}.png", to_image(pattern(19, 13, channels, 10 + channels)), mode)
    rgb = to_image(pattern(21, 17, 3, 20))
    for bits in (1, 2, 4, 8):
        palette = rgb.quantize(2**bits)
        save(f"palette{bits}.png", palette, "RGB", bits=bits)
    save("palette_alpha.png", rgb.quantize(6), "RGBA", transparency=bytes([0, 50, 128, 255]))
    save("bilevel.png", rgb.convert("1"), "L")
    save("gray_transparent.png", rgb.convert("L"), "LA", transparency=100)
    save("rgb_transparent.png", rgb, "RGBA", transparency=rgb.getpixel((3, 3)))

    from PIL.PngImagePlugin import PngInfo
    info = PngInfo()
    latin = "a caf\u00e9, <lora:x:1>\nNegative prompt: none\nSteps: 20, Sampler: Euler a, CFG scale: 7"
    other = "\u96ea \u2603 \U0001f600 picture\nSteps: 5"
    info.add_text("parameters", latin)
    info.add_text("prompt", other)
    info.add_text("packed", "z" * 3000 + "\u00e9", zip=True)
    info.add_itxt("packed utf8", other * 30, zip=True)
    save("text.png", rgb, "RGB", pnginfo=info, text={"parameters": latin, "prompt": other,
                                                     "packed": "z" * 3000 + "\u00e9", "packed utf8": other * 30})
    exif = Image.Exif()
    exif[0x0112] = 6
    save("exif.png", rgb, "RGB", exif=exif)

    # Pillow writes neither interlaced nor 16-bit colour files: these are put together here.
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    def png(width, height, depth, color, rows, interlace=0):
        header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlace)
        return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))

    def interlaced(array):
        out = b""
        for y0, x0, dy, dx in [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
                               (1, 0, 2, 1)]:
            part = array[y0::dy, x0::dx]
            if part.size:
                out += b"".join(b"\0" + row.tobytes() for row in part)
        return out

    wide = (pattern(23, 11, 3, 30).astype(np.uint16) * 256 + 171).astype(">u2")
    (folder / "rgb16_interlaced.png").write_bytes(png(23, 11, 16, 2, interlaced(wide), 1))
    (folder / "rgb16_interlaced.png.raw").write_bytes(zlib.compress((wide // 256).astype(np.uint8).tobytes(), 9))
    assert np.array_equal(pixels_of(Image.open(folder / "rgb16_interlaced.png"), "RGB"), wide // 256)
    table["rgb16_interlaced.png"] = {"width": 23, "height": 11, "channels": 3, "text": {}}
    gray = (pattern(9, 10, 1, 31).astype(np.uint16) * 256 + 200).astype(">u2")
    (folder / "gray16.png").write_bytes(png(9, 10, 16, 0, b"".join(b"\0" + row.tobytes() for row in gray)))
    (folder / "gray16.png.raw").write_bytes(zlib.compress((gray // 256).astype(np.uint8).tobytes(), 9))
    table["gray16.png"] = {"width": 9, "height": 10, "channels": 1, "text": {}}
    keep("rgb_interlaced.png", "RGB", png(21, 17, 8, 2, interlaced(np.asarray(rgb)), 1))

    save("rgb444.jpg", rgb, "RGB", quality=90, subsampling=0)
    save("rgb420.jpg", rgb, "RGB", quality=80, subsampling=2)
    save("progressive.jpg", rgb, "RGB", quality=85, progressive=True)
    save("gray.jpg", rgb.convert("L"), "L", quality=90)
    save("cmyk.jpg", rgb.convert("CMYK"), "RGB", quality=90)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        save(f"exif{orientation}.jpg", rgb, "RGB", quality=90, subsampling=0, exif=exif)
    for kind, (prefix, encoding) in {"unicode": (b"UNICODE\0", "utf-16-be"), "ascii": (b"ASCII\0\0\0", "ascii"),
                                     "little": (b"UNICODE\0", "utf-16-le")}.items():
        text = latin.replace("\u00e9", "e") if kind == "ascii" else other
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0x9286] = prefix + text.encode(encoding)
        save(f"comment_{kind}.jpg", rgb, "RGB", exif=exif, text={"parameters": text})
        save(f"comment_{kind}.webp", rgb, "RGB", exif=exif, lossless=True, text={"parameters": text})
    save("lossy.webp", rgb, "RGB", quality=90)
    save("lossless.webp", rgb, "RGB", lossless=True)
    save("alpha.webp", to_image(pattern(19, 13, 4, 40)), "RGBA", lossless=True, exact=True)
    frames = [to_image(pattern(12, 10, 4, seed)) for seed in (50, 51, 52)]
    save("animated.webp", frames[0], "RGBA", save_all=True, append_images=frames[1:], lossless=True, exact=True)
    write_json("images.json", table)

    gray = as_array(rgb.convert("L"))
    (OUT / "luma.bin").write_bytes(np.asarray(rgb).tobytes() + gray.tobytes())


def write_image_tensor():
    """Every byte through diffusers' preprocessing, and floats through its postprocessing."""
    from diffusers.image_processor import VaeImageProcessor
    processor = VaeImageProcessor(do_resize=False)
    levels = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, -1)
    to = processor.preprocess(Image.fromarray(levels))[0, 0].reshape(-1)
    generator = torch.Generator().manual_seed(7)
    values = torch.rand(1, 3, 64, 64, generator=generator) * 2.4 - 1.2
    halves = ((torch.arange(256) + 0.5) / 255 * 2 - 1).repeat(3, 1).reshape(3, 16, 16)
    values[0, :, :16, :16] = halves
    back = np.asarray(processor.postprocess(values, output_type="pil")[0])
    with open(OUT / "image_tensor.bin", "wb") as file:
        file.write(to.numpy().astype("<f4").tobytes())
        file.write(values[0].permute(1, 2, 0).contiguous().numpy().astype("<f4").tobytes())
        file.write(back.tobytes())


class ModelCheckpoint:
    """Stands for Lightning's callback, whose class old checkpoints use as a key."""


ModelCheckpoint.__module__ = "pytorch_lightning.callbacks.model_checkpoint"


def write_ckpt():
    import collections
    import types

    folder = OUT / "ckpt"
    folder.mkdir(exist_ok=True)
    table = {}

    def save(name, value, tensors, metadata=None):
        torch.save(value, folder / name)
        table[name] = {"tensors": contents(tensors), "metadata": metadata or {}}

    tensors = {f"x.{str(d)[6:]}": sample(d, [3, 4 + i], 60 + i) for i, d in enumerate(DTYPES)}
    save("dtypes.ckpt", dict(tensors), tensors)

    base = sample(torch.float32, [6, 8], 80)
    views = {"whole": base, "shared": base, "rows": base[2:5], "transposed": base.t(), "stepped": base[1::2, ::3],
             "expanded": base[0, 3].expand(4, 2), "one": base[:1, :1], "scalar": base[2, 3], "empty": base[:0],
             "permuted": sample(torch.float16, [2, 3, 4, 5], 81).permute(3, 1, 0, 2),
             "channels_last": sample(torch.float32, [2, 3, 4, 5], 82).to(memory_format=torch.channels_last)}
    save("views.ckpt", collections.OrderedDict(views), views)

    torch.manual_seed(9)
    module = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.BatchNorm1d(5))
    save("module.bin", module.state_dict(), module.state_dict())
    parameters = {"a": torch.nn.Parameter(sample(torch.float32, [3], 83)), "nested": {"b": sample(torch.int64, [2], 84)}}
    save("parameters.pt", parameters, {"a": parameters["a"], "nested.b": parameters["nested"]["b"]})

    # As Lightning wrote SD 1.x: the weights wrapped, numpy scalars and a class among the rest.
    package = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    package.ModelCheckpoint = ModelCheckpoint
    for name in ("pytorch_lightning", "pytorch_lightning.callbacks"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules[package.__name__] = package
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    lightning = {"epoch": 3, "global_step": 470000, "pytorch-lightning_version": "1.4.2", "state_dict": module.state_dict(),
                 "callbacks": {ModelCheckpoint: {"monitor": "val", "best_model_score": np.float64(0.25),
                                                 "current": np.float32(2), "path": b"bytes \xff"}},
                 "optimizer_states": [optimizer.state_dict()], "lr_schedulers": [], "flag": True, "loss": 0.5}
    save("lightning.ckpt", lightning, module.state_dict(),
         {"epoch": "3", "global_step": "470000", "pytorch-lightning_version": "1.4.2", "flag": "true", "loss": "0.5"})
    save("nested_model.ckpt", {"model": {"w": base[:2]}, "step": 7}, {"w": base[:2]}, {"step": "7"})
    embedding = {"string_to_token": {"*": torch.tensor(265)}, "string_to_param": {"*": sample(torch.float32, [2, 8], 85)},
                 "name": "my-style", "step": 499, "sd_checkpoint": None}
    save("embedding.pt", embedding, {"string_to_token.*": embedding["string_to_token"]["*"],
                                     "string_to_param.*": embedding["string_to_param"]["*"]},
         {"name": "my-style", "step": "499"})
    write_json("ckpt.json", table)
    # These must be refused.
    torch.save({"a": base}, folder / "refused_older.ckpt", _use_new_zipfile_serialization=False)
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(folder / "refused_script.pt"))
    torch.save({"a": torch.device("cpu"), "b": base}, folder / "refused_global.pt")
    torch.save([base], folder / "refused_list.pt")


def write_sharded():
    """A component as diffusers saves it, in shards; the tensors are a small model's."""
    from diffusers import UNet2DModel

    folder = OUT / "sharded"
    torch.manual_seed(4)
    model = UNet2DModel(sample_size=8, in_channels=2, out_channels=2, layers_per_block=1, block_out_channels=(4, 8),
                        down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
                        norm_num_groups=2)
    model.save_pretrained(folder, max_shard_size="20KB")
    model.save_pretrained(folder, max_shard_size="20KB", variant="fp16")
    write_json("sharded.json", contents(model.state_dict()))


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    parts = {"safetensors": write_safetensors, "resize": write_resize, "image": write_images,
             "image_tensor": write_image_tensor, "ckpt": write_ckpt, "sharded": write_sharded}
    for name in sys.argv[1:] or parts:
        parts[name]()
    write_json("manifest.json", {"generator": "tools/golden/io.py", "torch": torch.__version__,
                                 "safetensors": safetensors.__version__, "Pillow": PIL.__version__,
                                 "tolerance": "exact, except JPEG and lossy WebP: 2 levels"})


if __name__ == "__main__":
    main()
