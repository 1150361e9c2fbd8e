"""Composed scenes: one to four objects on a plain background, with a description that a program can check.

A scene in machine form:
{"kind": "single" | "count" | "relation" | "group",
 "background": colour word,
 "objects": [{"name": singular noun, "colour": word or null, "natural": whether the picture has that colour by nature,
              "count": n, "boxes": [[left, top, right, bottom], ...] in pixels, "pictures": [keys]}],
 "relations": [{"subject": index, "relation": "left_of" | "right_of" | "above" | "below", "object": index}]}
"""

import csv
import dataclasses
import functools
import hashlib
import pathlib
import random

import numpy as np
from PIL import Image, ImageDraw

import captions
import colours
import pictures
import splits

TABLE = pathlib.Path(__file__).with_name("objects.tsv")
SHAPES = {"circle": ("圆形", "个"), "square": ("正方形", "个"), "triangle": ("三角形", "个"), "diamond": ("菱形", "个"),
          "pentagon": ("五边形", "个"), "cross": ("十字形", "个"), "ring": ("圆环", "个")}
SHAPE_LICENCE = "CC0-1.0"
RECOLOURS = ["red", "orange", "yellow", "green", "blue", "purple", "pink", "black", "white", "grey"]
SHAPE_COLOURS = [word for word in colours.PALETTE if word != "white"]
# Sides of the squares that objects are fitted into, as parts of the picture's side, by how many objects there are.
SIDES = {1: (0.55, 0.85), 2: (0.34, 0.46), 3: (0.30, 0.40), 4: (0.28, 0.38)}
# How often each kind of scene is drawn.
KINDS = {"single": 0.22, "count": 0.24, "relation": 0.34, "group": 0.20}
# Backgrounds nearer in OKLab than this to an object would hide it.
LEAST_CONTRAST = 0.17


@dataclasses.dataclass(frozen=True)
class Noun:
    singular: str
    plural: str
    zh: str
    measure: str


@dataclasses.dataclass
class Thing:
    """One look of a noun: its pictures (key -> RGBA), the colour that it has by nature, and whether it takes others."""
    noun: Noun
    colour: str | None
    recolours: list[str]
    pictures: dict[str, Image.Image]
    licence: dict[str, str]


def table(text=None):
    """objects.tsv -> [(picture handle, Noun, colour or None, whether it may be recoloured)]."""
    lines = (TABLE.read_text("utf-8") if text is None else text).splitlines()
    rows = []
    for row in csv.DictReader([line for line in lines if not line.startswith("#")], delimiter="\t"):
        noun = Noun(row["singular"], captions.plural(row["singular"]) if row["plural"] == "-" else row["plural"],
                    row["zh"], row["measure"])
        rows.append((row["picture"].replace("\ufe0f", ""), noun, None if row["colour"] == "-" else row["colour"],
                     row["recolour"] == "yes"))
    return rows


def nouns():
    """Every noun that scenes know, by its singular."""
    known = {noun.singular: noun for _, noun, _, _ in table()}
    return known | {name: Noun(name, captions.plural(name), zh, measure) for name, (zh, measure) in SHAPES.items()}


def draw_shape(name, colour, side=256):
    """A plain shape as RGBA, drawn four times as large and reduced."""
    big = side * 4
    mask = Image.new("L", (big, big), 0)
    draw = ImageDraw.Draw(mask)
    if name in ("circle", "ring"):
        draw.ellipse((0, 0, big - 1, big - 1), fill=255)
        if name == "ring":
            hole = big // 4
            draw.ellipse((hole, hole, big - 1 - hole, big - 1 - hole), fill=0)
    elif name == "cross":
        third = big // 3
        draw.rectangle((third, 0, big - 1 - third, big - 1), fill=255)
        draw.rectangle((0, third, big - 1, big - 1 - third), fill=255)
    else:
        turn, corners = {"square": (0.125, 4), "diamond": (0, 4), "triangle": (-0.25, 3), "pentagon": (-0.25, 5)}[name]
        angles = 2 * np.pi * (turn + np.arange(corners) / corners)
        points = np.stack([np.cos(angles), np.sin(angles)], 1)
        if name == "diamond":
            points[:, 0] *= 0.75
        points = (points - points.min(0)) / np.ptp(points, 0).max() * (big - 1)
        draw.polygon([tuple(point) for point in points], fill=255)
    image = Image.new("RGBA", (side, side), colours.PALETTE[colour])
    image.putalpha(mask.resize((side, side), Image.Resampling.BOX))
    return pictures.cut_out(image)


def things_of(found):
    """The table's things whose pictures are in `found` ({handle: [Picture]}), then the plain shapes.

    Things whose single picture is kept for validation are left out: scenes would show them to training.
    """
    things = []
    for handle, noun, colour, recolour in table():
        known = found.get(handle, [])
        known = [picture for picture in known if splits.of_name(picture.name) == splits.TRAIN]
        if not known:
            continue
        # Pictures larger than a scene only cost time.
        images = {picture.key: pictures.fit(picture.image, min(192, max(picture.image.size))) for picture in known}
        takes = [word for word in RECOLOURS if recolour and word != colour
                 and all(is_recoloured(image, word) for image in images.values())]
        things.append(Thing(noun, colour, takes, images, {picture.key: picture.licence for picture in known}))
    for name, (zh, measure) in SHAPES.items():
        key = f"shape_{name}"
        things.append(Thing(Noun(name, captions.plural(name), zh, measure), None, SHAPE_COLOURS,
                            {key: draw_shape(name, "grey")}, {key: SHAPE_LICENCE}))
    return things


def is_recoloured(image, word):
    """Whether the recoloured picture shows that colour more than any other."""
    changed = pictures.recolour(image, word)
    shares = colours.colour_shares(changed) if changed else {}
    return bool(shares) and next(iter(shares)) == word and shares[word] > 0.35


class Composer:
    """Draws scenes. Scene i depends on the seed, i and the things alone, not on how many scenes there are."""

    def __init__(self, things, side, seed, grid=1):
        """`side` of the pictures in pixels; squares that objects stand in are at multiples of `grid` pixels."""
        self._things = things
        self._by_noun = {}
        for thing in things:
            self._by_noun.setdefault(thing.noun.singular, []).append(thing)
        self._names = list(self._by_noun)
        self._colourings = {name: [(thing, colour) for thing in looks for colour in
                                   ([thing.colour] if thing.colour else []) + thing.recolours]
                            for name, looks in self._by_noun.items()}
        self._side, self._seed, self._grid = side, seed, grid
        self.nouns = {thing.noun.singular: thing.noun for thing in things}

    @functools.lru_cache(maxsize=4096)
    def _look(self, key, name, colour):
        """(picture of that key in that colour, or as it is; its mean in OKLab)."""
        if key.startswith("shape_"):
            image = draw_shape(name, colour)
        else:
            image = next(thing.pictures[key] for thing in self._by_noun[name] if key in thing.pictures)
            image = pictures.recolour(image, colour) if colour else image
        pixels = np.asarray(image).reshape(-1, 4)
        return image, colours.to_oklab(pixels[pixels[:, 3] > 127][:, :3].mean(0))

    def _pick(self, rng, taken, coloured):
        """A thing of a noun not in `taken`, and the colour that it is to have and to be called by, or None."""
        names = [name for name in self._names if name not in taken]
        if coloured:
            # By colouring, not by noun: else what comes in one colour, a carrot, would be everywhere.
            choices = [choice for name in names for choice in self._colourings[name]]
            if choices:
                return rng.choice(choices)
        name = rng.choice(names)
        if name in SHAPES:
            return rng.choice(self._colourings[name])
        return rng.choice(self._by_noun[name]), None

    def _pick_noun(self, rng):
        """A thing and its colour, or None: every noun alike, half of the time in a colour that it takes."""
        name = rng.choice(self._names)
        if self._colourings[name] and (name in SHAPES or rng.random() < 0.5):
            return rng.choice(self._colourings[name])
        return rng.choice(self._by_noun[name]), None

    def _entry(self, rng, thing, colour, count):
        keys = [rng.choice(list(thing.pictures)) for _ in range(count)]
        natural = colour is not None and colour == thing.colour
        return {"name": thing.noun.singular, "colour": colour, "natural": natural, "count": count, "boxes": [],
                "pictures": keys}

    def _looks(self, entry):
        colour = None if entry["natural"] else entry["colour"]
        return [self._look(key, entry["name"], colour) for key in entry["pictures"]]

    def compose(self, index, kinds=None):
        """(RGB picture, scene in machine form) number `index`; `kinds` weighs them as KINDS does. Its kind "noun" is a single
        object like "single", but any noun is as likely as any other, however many colours it comes in."""
        digest = hashlib.sha256(f"{self._seed} {index}".encode()).digest()
        rng = random.Random(int.from_bytes(digest[:8], "big"))
        while True:
            made = self._attempt(rng, kinds or KINDS)
            if made:
                return made

    def _attempt(self, rng, kinds):
        kind = rng.choices(list(kinds), list(kinds.values()))[0]
        entries, relations = [], []
        if kind == "noun":
            kind = "single"
            entries.append(self._entry(rng, *self._pick_noun(rng), 1))
        elif kind in ("single", "count"):
            thing, colour = self._pick(rng, (), rng.random() < (0.6 if kind == "single" else 0.25))
            entries.append(self._entry(rng, thing, colour, 1 if kind == "single" else rng.randint(2, 4)))
        else:
            counts = [1, 1] if kind == "relation" else rng.choice([[1, 1], [1, 1, 1], [2, 1], [1, 2], [2, 2], [3, 1],
                                                                   [1, 1, 1, 1]])
            for count in counts:
                thing, colour = self._pick(rng, [entry["name"] for entry in entries], rng.random() < 0.45)
                entries.append(self._entry(rng, thing, colour, count))
        looks = [look for entry in entries for look in self._looks(entry)]
        background = self._background(rng, looks, kind, entries)
        if background is None:
            return None
        if kind == "relation":
            relations.append({"subject": 0, "relation": rng.choice(list(captions.RELATIONS)), "object": 1})
            places = self._related(rng, looks, relations[0]["relation"])
        else:
            places = self._scattered(rng, looks)
        if places is None:
            return None
        canvas = Image.new("RGB", (self._side, self._side), colours.PALETTE[background])
        owners = [entry for entry in entries for _ in range(entry["count"])]
        for (image, _), (x, y, side), owner in zip(looks, places, owners, strict=True):
            image = pictures.fit(image, side)
            x, y = x + (side - image.width) // 2, y + (side - image.height) // 2
            pictures.paste(canvas, image, (x, y))
            left, top, right, bottom = pictures.visible_box(image) or (0, 0, *image.size)
            owner["boxes"].append([x + left, y + top, x + right, y + bottom])
        return canvas, {"kind": kind, "background": background, "objects": entries, "relations": relations}

    def _background(self, rng, looks, kind, entries):
        """A colour word against which every object stands out and that none of them is called by; None if none does."""
        words = [word for word in colours.PALETTE if word not in [entry["colour"] for entry in entries] and all(
            np.linalg.norm(colours.to_oklab(colours.PALETTE[word]) - mean) > LEAST_CONTRAST for _, mean in looks)]
        if "white" in words and rng.random() < (0.25 if kind == "single" else 0.6):
            return "white"
        return rng.choice(words) if words else None

    def _on_grid(self, place):
        return place // self._grid * self._grid

    def _square(self, rng, count):
        """Side in pixels of the square that one of `count` objects is fitted into; on a grid always the same for that
        count, a multiple of twice its pixels (pictures of 128, grid of 8: 96 alone, 48 among others): nouns are learned far sooner."""
        low, high = SIDES[count]
        if self._grid == 1:
            return round(self._side * rng.uniform(low, high))
        middle = self._side * (low + high) / 2
        return min(range(2 * self._grid, self._side + 1, 2 * self._grid), key=lambda multiple: abs(multiple - middle))

    def _related(self, rng, looks, relation):
        """Two squares (x, y, side) in pixels, clearly apart along the relation's axis and near a line across it."""
        sides = [self._square(rng, 2) for _ in looks]
        half = self._side // 2
        first = (0, half) if relation in ("left_of", "above") else (half, 0)
        along = [start + self._on_grid(rng.randint(0, half - side)) for start, side in zip(first, sides, strict=True)]
        across = [self._on_grid((self._side - side) // 2 + round(self._side * rng.uniform(-0.1, 0.1))) for side in sides]
        places = zip(along, across, sides, strict=True)
        return [(a, c, s) if relation in ("left_of", "right_of") else (c, a, s) for a, c, s in places]

    def _scattered(self, rng, looks):
        """Squares (x, y, side) in pixels that do not meet; None if they found no room."""
        places = []
        for _ in looks:
            for _ in range(60):
                side = self._square(rng, len(looks))
                x, y = (self._on_grid(rng.randint(0, self._side - side)) for _ in range(2))
                if all(x + side <= px or px + ps <= x or y + side <= py or py + ps <= y for px, py, ps in places):
                    places.append((x, y, side))
                    break
            else:
                return None
        return places
