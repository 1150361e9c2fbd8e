"""Writes tests/golden/train/evaluation.json: how far pictures are from each other, as scikit-image measures it, Wilson's
intervals as scipy has them, and the words for colours that captions were written with (tools/datasets/colours.py).

Pictures are made of the raw numbers of a Mersenne Twister, so that std::mt19937 makes them again.
"""

import json
import pathlib
import sys

import numpy as np
from scipy.stats import binomtest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from manifest import note

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools/datasets"))
import colours  # noqa: E402

TARGET = ROOT / "tests/golden/train/evaluation.json"
SEED = 51
SIZES = [(11, 11, 3), (23, 19, 1), (40, 33, 3), (64, 128, 4)]  # height, width, channels
SHADES = range(0, 256, 17)


def pair(index, shape):
    """A picture of waves and noise, and the same with more noise."""
    raw = np.random.RandomState(SEED + index)._bit_generator.random_raw(2 * int(np.prod(shape))).reshape(2, *shape)
    y, x, c = np.indices(shape)
    first = 3 * x + 2 * y + 40 * c + raw[0] % 64
    return (first % 256).astype(np.uint8), np.clip(first % 256 + raw[1] % 41 - 20, 0, 255).astype(np.uint8)


def measured(index, shape):
    a, b = (picture.astype(np.float64) for picture in pair(index, shape))
    return dict(shape=shape, seed=SEED + index, psnr=peak_signal_noise_ratio(a, b, data_range=255),
                ssim=structural_similarity(a, b, data_range=255, channel_axis=2, gaussian_weights=True, sigma=1.5,
                                           use_sample_covariance=False))


def interval(right, trials):
    found = binomtest(right, trials).proportion_ci(method="wilson")
    return [right, trials, found.low, found.high]


def main():
    cases = dict(
        pictures=[measured(*case) for case in enumerate(SIZES)],
        intervals=[interval(*case) for case in [(0, 1), (8, 10), (10, 10), (17, 64), (4590, 4717)]],
        words=list(colours.PALETTE), backgrounds=list(colours.PALETTE.values()),
        # A letter a colour, 'a' for the first word; blue changes fastest.
        names="".join(chr(ord("a") + list(colours.PALETTE).index(colours.name_colour((red, green, blue))))
                      for red in SHADES for green in SHADES for blue in SHADES))
    TARGET.write_text(json.dumps(cases) + "\n")
    note(TARGET, "evaluation.py", ["numpy", "scikit-image", "scipy"], SEED,
         "1e-9; words exactly, but where two are equally near")


if __name__ == "__main__":
    main()
