"""Sweet Home 3D's furniture: catalogue icons of 3D models, CC0 or CC-BY-3.0, with the names of its catalogues."""

import io
import re
import zipfile

from PIL import Image

import pictures
from picture import Picture, unique

PACKAGES = ["sweethome3d-furniture"]
FOLDER = "usr/share/sweethome3d/furniture"
# Catalogue -> licence and whom the catalogue wants named, as the package's copyright file and the catalogues say.
CATALOGUES = {
    "BlendSwap-CC-0": ("CC0-1.0", "Blend Swap contributors, Emmanuel Puybaret"),
    "BlendSwap-CC-BY": ("CC-BY-3.0", "Blend Swap contributors, Emmanuel Puybaret / eTeks"),
    "KatorLegaz": ("CC-BY-3.0-US", "Andrew Kator & Jennifer Legaz"),
    "Reallusion": ("CC-BY-3.0-US", "Reallusion"),
    "Scopia": ("CC-BY-3.0", "Scopia Visual Interfaces Systems, s.l., Emmanuel Puybaret / eTeks"),
}
# Names that say nothing of what is seen, road markings, sockets that only an electrician tells apart, and brands.
LEFT_OUT = re.compile(
    r"^(tool|flacon|barnum|island|island extension|screen|frame .*|bill .*|parking slot.*|arrow .*|bootie|"
    r"technical table|island bath|hood|flipper|.* (plug|switch|socket)|socket|emergency sign|pedestrian crossing|"
    r"rail crossing|stone grill device|oil servers|mp3 .*|entry .*|number lock|little bank|wood bank|concept sedan.*|"
    r"gaz water heater|concrete sidewalk|fluorescent strip|scpts.*)$", re.I)
# Misspelt or unidiomatic in the catalogue.
BETTER = {
    "Hashtray": "Ashtray", "Mocassin": "Moccasin", "Trunck": "Trunk", "Toilets unit": "Toilet",
    "Teck chair": "Teak chair", "Lip stick": "Lipstick", "Bended coconut tree": "Bent coconut tree",
    "Letters box": "Letter box", "Female": "Standing woman", "Male": "Standing man", "Holding female": "Woman holding "
    "something", "Holding male": "Man holding something", "Sitting female": "Sitting woman", "Sitting male":
    "Sitting man", "Lying down female": "Woman lying down", "Lying down male": "Man lying down", "Lying down boy":
    "Boy lying down", "Mannequin female": "Female mannequin", "Mannequin male": "Male mannequin", "Table tennis":
    "Table tennis table", "Wall hanger": "Coat hooks on a wall", "Football table": "Table football", "Woman shoes":
    "Women's shoes", "Cutting pliers": "Pliers", "Penbox": "Pen box", "Rigged fan": "Fan", "Puff": "Pouf", "Short": "Shorts",
    "Clear sofa": "Light sofa", "Cup cake": "Cupcake", "Bike": "Bicycle",
}


def properties(text):
    """A Java properties file -> {key: value}, with its \\uXXXX read."""
    table = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals and not key.lstrip().startswith(("#", "!")) or re.match(r"\w+#\d+$", key.strip()):
            value = re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), value)
            table[key.strip()] = re.sub(r"\\(.)", r"\1", value).strip()
    return table


def _catalogue(archive, file):
    names = archive.namelist()
    return properties(archive.read(file).decode("latin-1")) if file in names else {}


def read(packages):
    """Every catalogue entry with a usable name and a picture that can be seen."""
    root = packages.unpacked(PACKAGES[0]) / FOLDER
    for catalogue, (licence, author) in CATALOGUES.items():
        with zipfile.ZipFile(root / f"{catalogue}.sh3f") as archive:
            english = _catalogue(archive, "PluginFurnitureCatalog.properties")
            chinese = _catalogue(archive, "PluginFurnitureCatalog_zh_CN.properties")
            for key in english:
                if not key.startswith("name#"):
                    continue
                number = key.split("#")[1]
                original = english[key]
                if LEFT_OUT.match(original):
                    continue
                icon = english[f"icon#{number}"].lstrip("/")
                image = pictures.cut_out(Image.open(io.BytesIO(archive.read(icon))))
                if image is None:
                    continue
                creator = english.get(f"creator#{number}", "")
                yield _picture(catalogue, original, chinese.get(key, ""), english, number, icon, image, licence,
                               f"{creator}; {author}" if creator and creator not in author else author)


def _picture(catalogue, original, chinese, english, number, icon, image, licence, author):
    name = BETTER.get(original, original)
    # Only common nouns lose their capital: brands and places keep theirs.
    caption = name if re.search(r"[A-Z0-9]", name[1:]) else name[0].lower() + name[1:]
    room = english.get(f"category#{number}", "")
    captions = {"en": unique([caption, f"{caption}, 3D render",
                              f"{caption}, {room.lower()}" if room not in ("", "Miscellaneous") else ""])}
    # Entries that nobody translated stand in English there.
    if chinese and not chinese.isascii():
        captions["zh"] = unique([chinese, f"{chinese}，三维渲染图"])
    stem = re.sub(r"[^a-z0-9]+", "_", icon.rsplit(".", 1)[0].lower()).strip("_")
    return Picture(key=f"furniture_{catalogue.lower().replace('-', '')}_{stem.split('_', 1)[-1]}", set="furniture",
                   name=caption, image=image, captions=captions, licence=licence, author=author, package=PACKAGES[0],
                   member=f"{FOLDER}/{catalogue}.sh3f#{icon}", handle=f"={original}")
