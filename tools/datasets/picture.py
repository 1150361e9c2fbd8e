"""What every source hands on: one picture with its names, its licence and where it came from."""

import dataclasses
import hashlib
import re

from PIL import Image


@dataclasses.dataclass
class Picture:
    """`image` is RGBA, cut out; `key` is unique, stable and fit for a file name; captions are best first."""
    key: str
    set: str
    name: str
    image: Image.Image
    captions: dict[str, list[str]]
    licence: str
    author: str
    package: str
    member: str
    # Whether the mirrored picture still fits its captions.
    mirror: bool = True
    # What objects.tsv calls the picture: an emoji or =Name.
    handle: str = ""


def unique(texts):
    """The texts that say something, each once, in order."""
    return list(dict.fromkeys(text for text in texts if text))


def key_of(prefix, path):
    """A key for a file: its path in letters, digits and underscores, and six digits that tell like-spelt paths apart."""
    stem = re.sub(r"[^a-z0-9]+", "_", path.lower()).strip("_")
    return f"{prefix}_{stem}_{hashlib.sha256(path.encode()).hexdigest()[:6]}"
