"""OpenClipart 0.18: drawings that their authors gave to the public domain, where the title says what is seen."""

import collections
import hashlib
import html
import re

from PIL import Image

import pictures
from picture import Picture, key_of, unique

PACKAGES = ["openclipart-png", "openclipart-svg", "wamerican"]
SVG = "usr/share/openclipart/svg"
PNG = "usr/share/openclipart/png"
WORDS = "usr/share/dict/american-english"
PUBLIC_DOMAIN = re.compile(r"https?://(web\.resource\.org/cc/PublicDomain|creativecommons\.org/licenses/publicdomain/)$")

# Signs, plain shapes, icons of programs, maps, playing cards, logos, diagrams: little to learn, much lettering.
LEFT_OUT_FOLDERS = (
    "shapes", "signs_and_symbols", "special", "logos", "buttons", "computer/icons", "computer/buttons",
    "computer/diagrams", "recreation/games/cards", "recreation/games/chess", "transportation/roadsigns",
    "transportation/aiga-symbols", "transportation/boating", "people/stickmen", "unsorted/duplicates",
    "recreation/religion", "people/clothing/pantyhose",
)
KEPT_IN_GEOGRAPHY = "geography/astronomy"
# Titles in Italian and French that happen to be English words as well.
OTHER_LANGUAGES = re.compile(r"architetto|etienne_bersac|tanguy_jacq|jean[-_]victor|aubanel")
# Such titles were copied from one file to the next: the file's name tells better.
COPIED_TITLE = re.compile(r"^Clipart by Nicu Buculei - ")
GENERIC = re.compile(
    r"^(various cliparts|card|people|icon|icons?|clip ?art|untitled|drawing|image|picture|graphic|sign|symbol|logo|"
    r"r16 si?bmission|contour|svg.*|.*\b(icon|icons|symbol|symbols|sign|logo|map|flag|theme|iconset|clipart|cliparts|"
    r"collection|bullet|button|diagram|connectors?|part|blank|template|text|font|banner|border|frame|pattern|texture|"
    r"background|wallpaper|test|example|sex|nude|naked|nazi|swastika|gun|bomb|submission|library|inkscape|gender|"
    r"flourish|highlight|form|figure|yoga)\b.*)$", re.I)
# The size is checked before decoding; Pillow's own limit would only warn, or fail.
Image.MAX_IMAGE_PIXELS = None
# Larger drawings take seconds each to decode; there are a few dozen.
MOST_PIXELS = 16_000_000
# Of one caption, say "smiley", a few pictures are variety and thirty are weight.
MOST_ALIKE = 6
LINKED_IMAGE = re.compile(r"<(?:svg:)?image\b[^>]*href=\"(?!data:)[^\"]", re.S)
# Looked at and found not to show what they say, to be writing or a diagram, or nothing for a training set.
MISLEADING = set("""
dead frogs|baby tux|ninja tux|plush tux|tux|tux head|the incredible tux|manager|virus|mascot|chomper|firewall|gateway
logic functions|model view controller|network cloud|network could|pastas|thin client|user|racked|sim|route|road signs
parking|panel|ticket|what have you done|roman|jazz|sexy lady|stripper|female|self portrait|faces|base|air|crystal
fire|splash|blots|splatter|angel|bucket|flower pot|lime half|hacker emblem|left bottom corner tribal|video|mobile|movie
left top corner tribal|right bottom corner tribal|right top corner tribal|gallows|tree whit fruits|evolution steps
mortar|projectile|paper side|scale|war drum|elfish girl|hide girl|portrait of a woman|enthusiast|buddy|reunion
road runner|blazer|dodge neon|cannabis leaf|smoke|hodding donkey|pimp hat|thongs|cross hand drawn|heart tiles|patchwork
trumpet straight mute|tile orange|food|music theory semi tone|keyboard key|man crystal|wing|addressed envelope with stamp
dolphin|profile|happy boy|access point|hub|port hub|ports switch|stylized wolf head|compass|stones|double note two|roman
postage stamp|airbrush|desktop|tower|monitor video|brick|new penguin|out of the box|ink|note|straw tote|outline
the electronic mail|yellow scroll|parchment paper landscape|parchment paper portrait|thin clients|soviet shuttle
""".replace("\n", "|").strip("|").split("|"))
# Show compositions that splits.py keeps from training.
HELD_OUT = {"pink rose", "two sailboats in sunset"}
BETTER = {"rpm record": "vinyl record", "rpm records": "vinyl records", "envelop": "envelope", "pan cakes": "pancakes",
          "grass hopper": "grasshopper", "color tiger": "tiger", "bike": "bicycle", "folder open": "open folder",
          "pin blue": "blue pin", "pin green": "green pin", "pin yellow": "yellow pin", "pin red": "red pin",
          "lock open": "open padlock", "magnolia white": "white magnolia", "volley ball": "volleyball",
          "handball ball": "handball", "football ball": "soccer ball", "mouse scroll": "computer mouse",
          "phone handset gray": "grey telephone receiver", "slate apple": "slate and an apple",
          "apple bitten": "bitten apple", "paperback book, black": "black paperback book"}
# Says how a file came to be, not what it shows.
LEADING = re.compile(r"^((an?|the|another|etiquette|generic|simple|basic|plain) )+")
WORD = re.compile(r"[a-z]+(?:'s)?")
LESSER = {"a", "an", "the", "of", "with", "and", "in", "on", "at", "to", "for", "by"}


def described(svg):
    """What an SVG's metadata says: (title, subjects, [licence addresses], author)."""
    metadata = re.search(r"<(?:svg:)?metadata.*?</(?:svg:)?metadata>", svg, re.S)
    text = metadata.group(0) if metadata else ""
    work = re.search(r"<(?:cc:)?Work.*?</(?:cc:)?Work>", text, re.S)
    work = work.group(0) if work else text
    title = re.search(r"<dc:title[^>]*>([^<]*)", work)
    creator = re.search(r"<dc:creator>.*?<dc:title[^>]*>([^<]*)", work, re.S)
    return (html.unescape(title.group(1)).strip() if title else "",
            [html.unescape(subject).strip().lower() for subject in re.findall(r"<rdf:li[^>]*>([^<]*)", work)],
            re.findall(r"<(?:cc:)?license[^>]*resource=\"([^\"]*)\"", text),
            html.unescape(creator.group(1)).strip() if creator else "")


def caption_of(title, stem, words):
    """A caption in lower case from a title, or from the file's name where titles were copied; "" if neither will do.

    Every word has to be an English one: titles are in many languages, and of words like "IMG0021" nobody learns.
    """
    text = stem if COPIED_TITLE.match(title) else title
    text = re.sub(r"[_\-.]+", " ", text).replace("’", "'")
    text = re.sub(r"\(.*?\)|[\s#]*\d+$|\b\d+\b", " ", text)
    text = " ".join(text.lower().split()).strip(" ,;:!?\"'")
    text = re.sub(r" (clothing|body part)$", "", re.sub(r"^contour (.+)", r"silhouette of a \1", text))
    text = LEADING.sub("", text)
    text = BETTER.get(text, text)
    parts = text.replace(",", " ").split()
    if not parts or len(parts) > 8 or GENERIC.match(text) or text in MISLEADING | HELD_OUT:
        return ""
    if not all(WORD.fullmatch(part) and (part in LESSER or (len(part) > 2 and part in words)) for part in parts):
        return ""
    return text if any(part not in LESSER for part in parts) else ""


def is_wanted(path):
    """Whether a file, named relative to the SVG folder without its ending, lies where pictures of things lie."""
    if path.startswith("geography") and not path.startswith(KEPT_IN_GEOGRAPHY):
        return False
    return not path.startswith(tuple(folder + "/" for folder in LEFT_OUT_FOLDERS)) and not OTHER_LANGUAGES.search(path)


def shows_something(image):
    """Whether there is enough to see at 128 pixels: no thumbnail, no hairline, no long strip."""
    if min(image.size) < 40 or max(image.size) > 4 * min(image.size):
        return False
    small = pictures.on_background(image, 64, (255, 255, 255)).convert("L")
    return sum(small.histogram()[:235]) > 0.05 * 64 * 64


def _drawing(png):
    """The cut-out drawing at no more than about 1000 pixels a side; None if it is empty or too large to decode."""
    with Image.open(png) as image:
        if image.width * image.height > MOST_PIXELS:
            return None
        factor = max(image.size) // 512
        if factor > 1:
            image = image.convert("RGBA").convert("RGBa").reduce(factor).convert("RGBA")
        return pictures.cut_out(image)


def read(packages):
    """Every drawing of the public domain with an English title that is not generic."""
    png_root, svg_root, words_root = map(packages.unpacked, PACKAGES)
    words = {word for word in (words_root / WORDS).read_text("utf-8").split() if word == word.lower()}
    root = svg_root / SVG
    alike = collections.Counter()
    seen = set()
    for svg in sorted(root.rglob("*.svg")):
        path = svg.relative_to(root).with_suffix("").as_posix()
        png = png_root / PNG / f"{path}.png"
        if not is_wanted(path) or not png.exists():
            continue
        source = svg.read_text("utf-8", errors="replace")
        title, subjects, licences, creator = described(source)
        # What a file only links to was not there when the PNG was made.
        if len(licences) != 1 or not PUBLIC_DOMAIN.match(licences[0]) or LINKED_IMAGE.search(source):
            continue
        caption = caption_of(title, svg.stem, words)
        image = _drawing(png) if caption and alike[caption] < MOST_ALIKE else None
        if image is None or not shows_something(image):
            continue
        # The library keeps many a drawing in two folders.
        digest = hashlib.sha256(image.tobytes()).digest()
        if digest in seen:
            continue
        seen.add(digest)
        alike[caption] += 1
        known = [subject for subject in subjects if subject in words and subject not in caption
                 and not GENERIC.match(subject)]
        yield Picture(key=key_of("clipart", path), set="clipart", name=caption,
                      image=image, captions={"en": unique([caption, ", ".join([caption, *known[:3]]),
                                                           f"{caption}, clip art"])},
                      licence="LicenseRef-public-domain", author=creator or "Open Clip Art Library", package=PACKAGES[0],
                      member=f"{PNG}/{path}.png", mirror=not re.search(r"\b(left|right|clock)\b", caption))
