"""Tux Paint's stamps: photographs and drawings with a sentence each. Under the GPL: for tests only."""

import re

from PIL import Image

import pictures
from picture import Picture, key_of, unique

PACKAGES = ["tuxpaint-stamps-default"]
FOLDER = "usr/share/tuxpaint/stamps"
LEFT_OUT_FOLDERS = ("symbols", "town/signs", "hieroglyphs", "military")


def captions_of(text):
    """X.txt: the first line is English, others are language=sentence."""
    lines = text.splitlines()
    english = lines[0].strip() if lines else ""
    chinese = next((line.split("=", 1)[1].strip() for line in lines if re.match(r"zh_CN(\.utf8)?=", line)), "")
    return english, chinese


def read(packages):
    """Every stamp that is a PNG with an English sentence."""
    root = packages.unpacked(PACKAGES[0])
    for png in sorted((root / FOLDER).rglob("*.png")):
        path = png.relative_to(root / FOLDER).with_suffix("").as_posix()
        text = png.with_suffix(".txt")
        if path.startswith(LEFT_OUT_FOLDERS) or not text.exists():
            continue
        english, chinese = captions_of(text.read_text("utf-8", errors="replace"))
        caption = english.rstrip(".!")
        image = pictures.cut_out(Image.open(png)) if caption else None
        if image is None:
            continue
        caption = caption[0].lower() + caption[1:]
        captions = {"en": unique([caption])}
        if chinese:
            captions["zh"] = unique([chinese.rstrip("。")])
        yield Picture(key=key_of("stamp", path), set="stamps", name=caption,
                      image=image, captions=captions, licence="GPL-2.0-or-later", author="Tux Paint contributors",
                      package=PACKAGES[0], member=f"{FOLDER}/{path}.png", mirror=False)
