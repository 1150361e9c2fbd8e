"""Noto emoji: the pictures inside the font's CBDT table, named by Unicode CLDR in English and Chinese."""

import io
import re
import xml.etree.ElementTree

from fontTools.ttLib import TTFont
from PIL import Image

import pictures
from picture import Picture, unique

PACKAGES = ["fonts-noto-color-emoji", "unicode-data", "unicode-cldr-core"]
FONT = "usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
LANGUAGES = {"en": "en", "zh": "zh"}

# Left out, by group and subgroup of emoji-test.txt. Flags are countries, not things; Symbols are signs, keycaps and
# letters; Component are swatches of skin and hair.
LEFT_OUT_GROUPS = {"Flags", "Symbols", "Component"}
# Twenty-five near-identical families, and silhouettes of heads.
LEFT_OUT_SUBGROUPS = {"family", "person-symbol"}
# Pictures of writing, of signs, and gestures that nobody asks a training set for.
LEFT_OUT_NAMES = {
    "hundred points", "ZZZ", "anger symbol", "middle finger", "face with symbols on mouth", "hole", "kiss mark",
    "stop sign", "construction", "bus stop", "placard", "joker", "mahjong red dragon", "spade suit", "heart suit",
    "diamond suit", "club suit", "label", "name badge", "input symbols", "SOON arrow", "e-mail", "love hotel", "hotel",
    "convenience store", "Japanese post office", "post office", "bank", "hospital", "school", "department store",
    "calendar", "tear-off calendar", "spiral calendar", "admission tickets", "chart increasing with yen",
    "identification card", "mobile phone with arrow", "envelope with arrow", "bell with slash", "muted speaker",
    "speaker low volume", "speaker medium volume", "speaker high volume", "eye in speech bubble", "dotted line face",
    "left speech bubble", "right anger bubble", "map of Japan", "world map", "1st place medal", "2nd place medal",
    "3rd place medal", "nazar amulet", "kaaba", "microbe", "low battery",
}
TONES = range(0x1F3FB, 0x1F400)
VARIATION_SELECTOR = 0xFE0F
SIDED = re.compile(r"\b(left\w*|right\w*|clock|thirty|o’clock|quarter|crescent|gibbous|watch|note|notes|score)\b", re.I)


def listed(text):
    """emoji-test.txt -> [(code points, group, subgroup)] of the fully qualified emoji."""
    rows, group, subgroup = [], "", ""
    for line in text.splitlines():
        if line.startswith("# group:"):
            group = line.split(":", 1)[1].strip()
        elif line.startswith("# subgroup:"):
            subgroup = line.split(":", 1)[1].strip()
        elif "; fully-qualified" in line:
            rows.append((tuple(int(code, 16) for code in line.split(";")[0].split()), group, subgroup))
    return rows


def is_wanted(codes, group, subgroup, name):
    """Whether an emoji makes a training picture: a thing or a person in the font's yellow, no sign, flag or skin tone."""
    return (group not in LEFT_OUT_GROUPS and subgroup not in LEFT_OUT_SUBGROUPS and name not in LEFT_OUT_NAMES
            and not any(code in TONES for code in codes))


def annotations(root, language):
    """CLDR: emoji without U+FE0F -> (name, keywords) in a language."""
    names, keywords = {}, {}
    for folder in ("annotations", "annotationsDerived"):
        path = root / "usr/share/unicode/cldr/common" / folder / f"{language}.xml"
        for node in xml.etree.ElementTree.parse(path).iter("annotation"):
            if node.get("type") == "tts":
                names[node.get("cp")] = node.text.strip()
            else:
                keywords[node.get("cp")] = [word.strip() for word in node.text.split("|")]
    return {emoji: (name, keywords.get(emoji, [])) for emoji, name in names.items()}


def _ligatures(font):
    """Tuple of glyph names -> the glyph that GSUB's ligature lookups put in their place."""
    table = {}
    if "GSUB" in font:
        for lookup in font["GSUB"].table.LookupList.Lookup:
            for subtable in lookup.SubTable:
                subtable = getattr(subtable, "ExtSubTable", subtable)
                if subtable.LookupType == 4:
                    for first, sets in subtable.ligatures.items():
                        for ligature in sets:
                            table[(first, *ligature.Component)] = ligature.LigGlyph
    return table


class Glyphs:
    """The pictures of a font with CBDT: emoji in, RGBA out."""

    def __init__(self, font):
        self._cmap = font.getBestCmap()
        self._ligatures = _ligatures(font)
        self._strike = font["CBDT"].strikeData[0]

    def picture(self, codes):
        """The picture of a sequence of code points as the font stores it; None if it has none."""
        names = [self._cmap.get(code) for code in codes if code != VARIATION_SELECTOR]
        if None in names:
            return None
        glyph = names[0] if len(names) == 1 else self._ligatures.get(tuple(names))
        data = self._strike.get(glyph)
        return Image.open(io.BytesIO(data.imageData)).convert("RGBA") if data is not None else None


def read(packages):
    """Every wanted emoji that has a picture and an English name."""
    font_root, data_root, cldr_root = map(packages.unpacked, PACKAGES)
    names = {language: annotations(cldr_root, file) for language, file in LANGUAGES.items()}
    with TTFont(font_root / FONT, lazy=True) as font:
        glyphs = Glyphs(font)
        for codes, group, subgroup in listed((data_root / "usr/share/unicode/emoji/emoji-test.txt").read_text("utf-8")):
            bare = "".join(chr(code) for code in codes if code != VARIATION_SELECTOR)
            name, keywords = names["en"].get(bare, ("", []))
            if not name or not is_wanted(codes, group, subgroup, name):
                continue
            image = glyphs.picture(codes)
            image = image and pictures.cut_out(image)
            if image is None:
                continue
            chinese, chinese_keywords = names["zh"].get(bare, ("", []))
            captions = {"en": _captions(name, keywords, ", ", ", emoji")}
            if chinese:
                captions["zh"] = _captions(chinese, chinese_keywords, "，", "，表情符号")
            yield Picture(key="emoji_" + "_".join(f"{ord(c):x}" for c in bare), set="emoji", name=name, image=image,
                          captions=captions, licence="OFL-1.1", author="Google Inc. (Noto Emoji)", package=PACKAGES[0],
                          member=f"{FONT}#{bare}", mirror=not SIDED.search(name), handle=bare)


def _captions(name, keywords, comma, kind):
    """The name, the name with the keywords that add to it, the name with its kind of picture."""
    name = name.replace(": ", comma).replace("：", comma)
    more = [word for word in keywords if word not in name]
    return unique([name, comma.join([name, *more]), name + kind])
