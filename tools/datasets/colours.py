"""The eleven colour words that captions use: what each looks like, and which of them a picture shows."""

import numpy as np

# Word -> its sRGB as backgrounds, shapes and recoloured objects have it.
PALETTE = {
    "red": (214, 40, 40),
    "orange": (245, 130, 32),
    "yellow": (250, 212, 50),
    "green": (50, 160, 70),
    "blue": (40, 100, 220),
    "purple": (125, 60, 180),
    "pink": (250, 140, 190),
    "brown": (125, 78, 45),
    "black": (28, 28, 30),
    "white": (255, 255, 255),
    "grey": (140, 140, 145),
}
CHINESE = {
    "red": "红色", "orange": "橙色", "yellow": "黄色", "green": "绿色", "blue": "蓝色", "purple": "紫色", "pink": "粉色",
    "brown": "棕色", "black": "黑色", "white": "白色", "grey": "灰色",
}
# Shades that people give the same word: a colour is named after the nearest of all these.
SHADES = {
    "red": [(240, 70, 60), (170, 20, 30), (255, 0, 0), (130, 15, 20)],
    "orange": [(255, 160, 60), (230, 100, 20), (255, 128, 0)],
    "yellow": [(255, 255, 0), (255, 235, 120), (235, 190, 20), (255, 200, 40)],
    "green": [(0, 255, 0), (0, 128, 0), (120, 190, 70), (20, 90, 50), (150, 220, 140), (0, 170, 140)],
    "blue": [(0, 0, 255), (20, 50, 130), (90, 160, 240), (60, 190, 235), (160, 205, 245), (45, 130, 170)],
    "purple": [(150, 90, 210), (85, 30, 120), (180, 130, 230), (170, 50, 190)],
    "pink": [(255, 105, 180), (235, 60, 140), (255, 190, 215), (245, 150, 160)],
    "brown": [(95, 60, 40), (160, 105, 65), (70, 42, 30), (185, 140, 100)],
    "black": [(0, 0, 0), (45, 45, 48)],
    "white": [(245, 245, 240), (235, 238, 242)],
    "grey": [(100, 100, 105), (185, 185, 190), (120, 135, 145)],
}


def to_oklab(rgb):
    """sRGB of any shape [..., 3] in 0..255 -> OKLab (Björn Ottosson, 2020), float64, L in 0..1."""
    c = np.asarray(rgb, np.float64) / 255
    c = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    m1 = np.array([[0.4122214708, 0.5363325363, 0.0514459929],
                   [0.2119034982, 0.6806995451, 0.1073969566],
                   [0.0883024619, 0.2817188376, 0.6299787005]])
    m2 = np.array([[0.2104542553, 0.7936177850, -0.0040720468],
                   [1.9779984951, -2.4285922050, 0.4505937099],
                   [0.0259040371, 0.7827717662, -0.8086757660]])
    return np.cbrt(c @ m1.T) @ m2.T


def from_oklab(lab):
    """OKLab [..., 3] -> sRGB in 0..255, clipped to the gamut channel by channel, uint8."""
    m2 = np.array([[1, 0.3963377774, 0.2158037573],
                   [1, -0.1055613458, -0.0638541728],
                   [1, -0.0894841775, -1.2914855480]])
    m1 = np.array([[4.0767416621, -3.3077115913, 0.2309699292],
                   [-1.2684380046, 2.6097574011, -0.3413193965],
                   [-0.0041960863, -0.7034186147, 1.7076147010]])
    c = np.clip((np.asarray(lab, np.float64) @ m2.T) ** 3 @ m1.T, 0, 1)
    c = np.where(c <= 0.0031308, c * 12.92, 1.055 * c ** (1 / 2.4) - 0.055)
    return np.rint(c * 255).astype(np.uint8)


_WORDS = list(PALETTE)
_ANCHORS = [(word, shade) for word in _WORDS for shade in [PALETTE[word], *SHADES[word]]]
_ANCHOR_WORD = np.array([_WORDS.index(word) for word, _ in _ANCHORS])
_ANCHOR_LAB = to_oklab([shade for _, shade in _ANCHORS])


def name_colour(rgb):
    """The word for one sRGB colour."""
    return _WORDS[_ANCHOR_WORD[np.argmin(((_ANCHOR_LAB - to_oklab(rgb)) ** 2).sum(-1))]]


def colour_shares(image):
    """Word -> its share of the opaque part of an RGBA picture, the largest first."""
    pixels = np.asarray(image.convert("RGBA"), np.float64).reshape(-1, 4)
    pixels = pixels[pixels[:, 3] > 127]
    if not len(pixels):
        return {}
    distance = ((to_oklab(pixels[:, None, :3]) - _ANCHOR_LAB) ** 2).sum(-1)
    counts = np.bincount(_ANCHOR_WORD[distance.argmin(1)], minlength=len(_WORDS))
    order = np.argsort(-counts, kind="stable")
    return {_WORDS[i]: counts[i] / len(pixels) for i in order if counts[i]}
