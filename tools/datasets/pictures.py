"""Work on single pictures: alpha, size, colour. Pictures are Pillow images; RGBA has straight alpha."""

import numpy as np
from PIL import Image

import colours


def cut_out(image):
    """The picture as RGBA without its empty margin; None if nothing in it is visible."""
    image = image.convert("RGBA")
    box = image.getchannel("A").point(lambda a: 255 if a > 8 else 0).getbbox()
    return image.crop(box) if box else None


def resize(image, size):
    """RGBA resized to (width, height) with Lanczos on premultiplied colour, so that what alpha hides does not bleed in.

    Premultiplied bytes would lose dark, faint pixels: the work is done in float32 planes.
    """
    pixels = np.asarray(image.convert("RGBA"), np.float32)
    alpha = pixels[..., 3:] / 255
    planes = [Image.fromarray(np.ascontiguousarray(plane)).resize(size, Image.Resampling.LANCZOS)
              for plane in np.moveaxis(np.concatenate([pixels[..., :3] * alpha, alpha], -1), -1, 0)]
    scaled = np.stack([np.asarray(plane) for plane in planes], -1)
    alpha = np.clip(scaled[..., 3:], 0, 1)
    colour = np.where(alpha > 1 / 512, scaled[..., :3] / np.maximum(alpha, 1 / 512), 0)
    return Image.fromarray(np.rint(np.clip(np.concatenate([colour, alpha * 255], -1), 0, 255)).astype(np.uint8), "RGBA")


def fit(image, side):
    """RGBA scaled, up or down, so that its longer side is `side` pixels."""
    scale = side / max(image.size)
    size = tuple(max(1, round(length * scale)) for length in image.size)
    return image.convert("RGBA") if size == image.size else resize(image, size)


def paste(canvas, image, position):
    """`image` (RGBA) over `canvas` (RGB) with its upper left corner at `position`; rounds to nearest."""
    x, y = position
    box = (x, y, x + image.width, y + image.height)
    top = np.asarray(image.convert("RGBA"), np.float32)
    under = np.asarray(canvas.crop(box), np.float32)
    alpha = top[..., 3:] / 255
    canvas.paste(Image.fromarray(np.rint(top[..., :3] * alpha + under * (1 - alpha)).astype(np.uint8), "RGB"), box[:2])


def on_background(image, side, background, margin=0.03):
    """A square RGB picture: `image` centred on a plain colour, with a margin of that part of the side."""
    canvas = Image.new("RGB", (side, side), background)
    image = fit(image, max(1, side - 2 * round(side * margin)))
    paste(canvas, image, ((side - image.width) // 2, (side - image.height) // 2))
    return canvas


def visible_box(image):
    """(left, top, right, bottom) of what can be seen in an RGBA picture, half-transparent edges left out."""
    return image.getchannel("A").point(lambda a: 255 if a > 127 else 0).getbbox()


def recolour(image, word):
    """The picture with its main hue replaced by a colour of the palette; None if it has no main hue.

    Works in OKLab: pixels near the main hue keep their place relative to its mean lightness and chroma. Other hues
    (a stem, a window) and greys stay.
    """
    pixels = np.asarray(image.convert("RGBA"))
    lab = colours.to_oklab(pixels[..., :3])
    chroma = np.hypot(lab[..., 1], lab[..., 2])
    hue = np.arctan2(lab[..., 2], lab[..., 1])
    strong = (pixels[..., 3] > 127) & (chroma > 0.04)
    if strong.sum() < 0.25 * (pixels[..., 3] > 127).sum():
        return None
    bins = 36
    histogram = np.bincount(((hue[strong] + np.pi) / (2 * np.pi) * bins).astype(int) % bins, chroma[strong], bins)
    smooth = histogram + np.roll(histogram, 1) + np.roll(histogram, -1)
    centre = (smooth.argmax() + 0.5) / bins * 2 * np.pi - np.pi
    distance = np.abs((hue - centre + np.pi) % (2 * np.pi) - np.pi)
    weight = np.clip((0.9 - distance) / 0.25, 0, 1) * np.clip((chroma - 0.02) / 0.03, 0, 1)
    main = strong & (distance < 0.65)
    if main.sum() < 0.2 * (pixels[..., 3] > 127).sum():
        return None
    target = colours.to_oklab(colours.PALETTE[word])
    gain = np.clip(chroma / chroma[main].mean(), 0, 1.5)
    # Shading beyond this would leave the colour's name.
    lightness = target[0] + 0.8 * (lab[..., 0] - np.median(lab[..., 0][main]))
    changed = np.stack([np.clip(lightness, 0, 1), target[1] * gain, target[2] * gain], -1)
    mixed = colours.from_oklab(lab + weight[..., None] * (changed - lab))
    return Image.fromarray(np.dstack([mixed, pixels[..., 3]]), "RGBA")
