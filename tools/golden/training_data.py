"""Writes tests/golden/train/training_data.safetensors and .json: what SciPy, OpenCV, torch and Pillow make of a picture in
the steps that training data go through.

The tensors: "picture.NAME" u8 [H,W,3]; "kernel.N" f32, normalised densities of scipy.stats; "blur.NAME.N", the picture in
[0,1] correlated with kernel N by scipy.ndimage; "rescale.FILTER.HxW" by OpenCV, "sharp" by torch; "jpeg.Q" u8 by Pillow, with
colour at half resolution below quality 90. The JSON: arguments of the kernels, and for pictures prepared by Pillow (resized to
cover the target, mirrored, cropped in the middle) the CRC-32 of their bytes.
"""

import io
import json
import pathlib
import zlib
from fractions import Fraction
from math import floor

import cv2
import numpy as np
import scipy.ndimage
import scipy.stats
import torch
from PIL import Image, ImageOps
from safetensors.numpy import save_file

from manifest import note

TARGET = pathlib.Path(__file__).resolve().parents[2] / "tests/golden/train"
SEED = 47
# radius, the variances, the angle, the shift
KERNELS = [(3, 2.5, 0.4, 0.7, 0), (7, 9.0, 3.0, 2.9, 0), (12, 1.7, 1.7, 0, 1.5), (2, 0.3, 4.0, 1.2, -0.5)]
SIZES = [(9, 12), (17, 7), (5, 23), (1, 1), (19, 31)]
FILTERS = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC, "area": cv2.INTER_AREA}
RESAMPLING = {"box": Image.BOX, "bicubic": Image.BICUBIC, "lanczos": Image.LANCZOS}


def kernel(radius, variance_a, variance_b, angle, shift):
    axes = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    covariance = axes @ np.diag([variance_a, variance_b]) @ axes.T
    y, x = np.mgrid[-radius:radius + 1, -radius:radius + 1]
    density = scipy.stats.multivariate_normal([shift, shift], covariance).pdf(np.stack([x, y], -1))
    return density / density.sum()


def prepared(picture, height, width, name, mirror):
    """The least size that covers the target: one side exact, the other to the nearest pixel, halves up."""
    h, w = picture.shape[:2]
    scale = max(Fraction(height, h), Fraction(width, w))
    size = [floor(w * scale + Fraction(1, 2)), floor(h * scale + Fraction(1, 2))]
    image = Image.fromarray(picture).resize(size, RESAMPLING[name])
    image = ImageOps.mirror(image) if mirror else image
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    pixels = np.asarray(image.crop((left, top, left + width, top + height)))
    return dict(height=height, width=width, filter=name, mirror=mirror, left=left, top=top, crc=zlib.crc32(pixels.tobytes()))


def main():
    rng = np.random.default_rng(SEED)
    y, x = np.mgrid[0:17, 0:23]
    smooth = np.stack([127 + 90 * np.sin(x / (3 + c) + y / 4 + c) for c in range(3)], -1)
    noisy = np.clip(smooth + rng.integers(-40, 40, smooth.shape), 0, 255).astype(np.uint8)
    pictures = {"whole": noisy, "small": noisy[:4, :3], "row": noisy[:1]}
    tensors = {f"picture.{name}": np.ascontiguousarray(picture) for name, picture in pictures.items()}

    for n, arguments in enumerate(KERNELS):
        weights = kernel(*arguments)
        tensors[f"kernel.{n}"] = weights.astype(np.float32)
        for name, picture in pictures.items():
            tensors[f"blur.{name}.{n}"] = scipy.ndimage.correlate(
                picture / 255.0, weights[:, :, None], mode="mirror").astype(np.float32)

    unit = noisy.astype(np.float32) / 255
    for height, width in SIZES:
        for name, kind in FILTERS.items():
            result = cv2.resize(unit, (width, height), interpolation=kind)
            tensors[f"rescale.{name}.{height}x{width}"] = np.clip(result, 0, 1)
        sharp = torch.nn.functional.interpolate(torch.from_numpy(unit).permute(2, 0, 1)[None], (height, width), mode="bicubic",
                                                antialias=True, align_corners=False)
        tensors[f"rescale.sharp.{height}x{width}"] = np.ascontiguousarray(sharp[0].permute(1, 2, 0).clamp(0, 1).numpy())

    for quality in (30, 80, 95):
        buffer = io.BytesIO()
        Image.fromarray(noisy).save(buffer, "JPEG", quality=quality, subsampling=0 if quality >= 90 else 2)
        tensors[f"jpeg.{quality}"] = np.asarray(Image.open(buffer)).copy()

    save_file(tensors, TARGET / "training_data.safetensors")
    cases = [prepared(noisy, h, w, name, mirror) for h, w, name, mirror in
             [(8, 8, "lanczos", False), (16, 16, "lanczos", True), (11, 16, "bicubic", True), (5, 21, "box", False),
              (40, 40, "lanczos", False), (17, 23, "lanczos", True), (30, 3, "box", True)]]
    kernels = [dict(zip(("radius", "variance_a", "variance_b", "angle", "shift"), k)) for k in KERNELS]
    (TARGET / "training_data.json").write_text(json.dumps(dict(kernels=kernels, prepared=cases), indent=1) + "\n")
    note(TARGET / "training_data.json", "training_data.py", ["pillow"], SEED, "exact")
    note(TARGET / "training_data.safetensors", "training_data.py", ["numpy", "opencv-python-headless", "pillow", "scipy", "torch"],
         SEED, "float32 rounding of sums of as many products as the step has; JPEG: 2 levels")


if __name__ == "__main__":
    main()
