"""The parts that need no network: python -m unittest discover -s tools/datasets/tests."""

import collections
import hashlib
import io
import json
import pathlib
import random
import sys
import tarfile
import tempfile
import unittest
import unittest.mock

HERE = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(HERE))

import numpy as np  # noqa: E402
from fontTools.fontBuilder import FontBuilder  # noqa: E402
from fontTools.ttLib import TTFont, newTable  # noqa: E402
from fontTools.ttLib.tables.BitmapGlyphMetrics import SmallGlyphMetrics  # noqa: E402
from fontTools.ttLib.tables.C_B_D_T_ import cbdt_bitmap_format_17  # noqa: E402
from fontTools.ttLib.tables.E_B_L_C_ import BitmapSizeTable, SbitLineMetrics, Strike, eblc_index_sub_table_1  # noqa: E402
from PIL import Image  # noqa: E402

import captions  # noqa: E402
import clipart  # noqa: E402
import colours  # noqa: E402
import emoji  # noqa: E402
import furniture  # noqa: E402
import main  # noqa: E402
import output  # noqa: E402
import packages  # noqa: E402
import pictures  # noqa: E402
import scenes  # noqa: E402
import splits  # noqa: E402
from picture import Picture  # noqa: E402


def noise(width, height, seed):
    """An RGBA picture of random bytes, half of it opaque."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 4), dtype=np.uint8)
    pixels[height // 2:, :, 3] = 255
    return Image.fromarray(pixels, "RGBA")


def png(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def emoji_font(images):
    """A font with a CBDT picture a glyph and the ligature g0 + g1 -> pair, written and read back."""
    names = list(images)
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", *names])
    builder.setupCharacterMap({0x1F34E: "g0", 0x200D: "g1"})
    builder.setupGlyf({})
    builder.setupHorizontalMetrics({name: (1000, 0) for name in [".notdef", *names]})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupPost()
    builder.addOpenTypeFeatures("feature ccmp { sub g0 g1 by pair; } ccmp;")
    font = builder.font
    data, index = newTable("CBDT"), newTable("CBLC")
    data.version = index.version = 3.0
    glyphs = {}
    for name, image in images.items():
        glyph = cbdt_bitmap_format_17(b"", font)
        glyph.metrics = SmallGlyphMetrics()
        glyph.metrics.height, glyph.metrics.width = image.height, image.width
        glyph.metrics.BearingX, glyph.metrics.BearingY, glyph.metrics.Advance = 0, 101, image.width
        glyph.imageData = png(image)
        glyphs[name] = glyph
    data.strikeData = [glyphs]
    size = BitmapSizeTable()
    size.colorRef, size.flags, size.bitDepth, size.ppemX, size.ppemY = 0, 1, 32, 109, 109
    size.startGlyphIndex, size.endGlyphIndex = 1, len(names)
    for direction in ("hori", "vert"):
        line = SbitLineMetrics()
        for field in ("ascender", "descender", "widthMax", "caretSlopeNumerator", "caretSlopeDenominator", "caretOffset",
                      "minOriginSB", "minAdvanceSB", "maxBeforeBL", "minAfterBL", "pad1", "pad2"):
            setattr(line, field, 0)
        setattr(size, direction, line)
    sub = eblc_index_sub_table_1(b"", font)
    sub.names, sub.indexFormat, sub.imageFormat = names, 1, 17
    sub.firstGlyphIndex, sub.lastGlyphIndex = 1, len(names)
    strike = Strike()
    strike.bitmapSizeTable, strike.indexSubTables = size, [sub]
    index.strikes = [strike]
    font["CBDT"], font["CBLC"] = data, index
    # It has no outlines, as Noto's has none.
    del font["glyf"], font["loca"]
    buffer = io.BytesIO()
    font.save(buffer)
    return TTFont(io.BytesIO(buffer.getvalue()))


class Emoji(unittest.TestCase):
    def test_pictures_come_out_of_the_font(self):
        images = {"g0": noise(13, 7, 1), "g1": noise(5, 9, 2), "pair": noise(136, 128, 3)}
        glyphs = emoji.Glyphs(emoji_font(images))
        self.assertEqual(glyphs.picture((0x1F34E,)).tobytes(), images["g0"].tobytes())
        self.assertEqual(glyphs.picture((0x1F34E, 0xFE0F)).tobytes(), images["g0"].tobytes())
        self.assertEqual(glyphs.picture((0x1F34E, 0x200D)).tobytes(), images["pair"].tobytes())
        self.assertIsNone(glyphs.picture((0x200D, 0x1F34E)))
        self.assertIsNone(glyphs.picture((0x1F600,)))

    def test_list_is_read_and_filtered(self):
        rows = emoji.listed("# group: Food & Drink\n# subgroup: food-fruit\n"
                            "1F34E ; fully-qualified # 🍎 E0.6 red apple\n"
                            "263A ; unqualified # ☺ E0.6 smiling face\n"
                            "# group: Flags\n# subgroup: country-flag\n1F1EE 1F1F9 ; fully-qualified # 🇮🇹 E0.6 flag: Italy\n")
        self.assertEqual(rows, [((0x1F34E,), "Food & Drink", "food-fruit"), ((0x1F1EE, 0x1F1F9), "Flags", "country-flag")])
        self.assertTrue(emoji.is_wanted(*rows[0], "red apple"))
        self.assertFalse(emoji.is_wanted(*rows[1], "flag: Italy"))
        self.assertFalse(emoji.is_wanted((0x1F44B, 0x1F3FD), "People & Body", "hand-fingers-open", "waving hand"))

    def test_keywords_add_to_the_name(self):
        self.assertEqual(emoji._captions("red apple", ["apple", "fruit", "red"], ", ", ", emoji"),
                         ["red apple", "red apple, fruit", "red apple, emoji"])


class Sources(unittest.TestCase):
    def test_java_properties(self):
        read = furniture.properties("# name#9=no\nid=x\nname#1=\\u5e8a \nname#2=Hot\\:dog\n")
        self.assertEqual(read, {"id": "x", "name#1": "床", "name#2": "Hot:dog"})

    def test_titles(self):
        words = {"bored", "dog", "giraffe", "apple", "cherry", "pie", "worm", "horse", "silhouette"}
        say = lambda title, stem="x": clipart.caption_of(title, stem, words)  # noqa: E731
        self.assertEqual(say("Bored dog"), "bored dog")
        self.assertEqual(say("The Apple_with-worm_01"), "apple with worm")
        self.assertEqual(say("Clipart by Nicu Buculei - contour_chipmunk", "contour_giraffe"), "silhouette of a giraffe")
        for title in ("Cavallo", "Lemon SVG theme", "card", "", "IMG0021", "with the", "dog icon", "virus"):
            self.assertEqual(say(title), "", title)

    def test_folders(self):
        self.assertTrue(clipart.is_wanted("animals/mammals/dog"))
        self.assertTrue(clipart.is_wanted("geography/astronomy/moon"))
        for path in ("geography/norway", "shapes/stars/a", "computer/icons/x/y", "animals/cavallo_architetto_01"):
            self.assertFalse(clipart.is_wanted(path), path)

    def test_licence_is_the_work_s_own(self):
        svg = ('<svg><metadata><rdf:RDF><cc:Work><dc:title>A &amp; B</dc:title><dc:creator><cc:Agent><dc:title>Me</dc:title>'
               '</cc:Agent></dc:creator><rdf:li>Dog</rdf:li><cc:license rdf:resource="http://web.resource.org/cc/PublicDomain"/>'
               "</cc:Work></rdf:RDF></metadata></svg>")
        self.assertEqual(clipart.described(svg), ("A & B", ["dog"], ["http://web.resource.org/cc/PublicDomain"], "Me"))
        self.assertFalse(clipart.PUBLIC_DOMAIN.match("http://creativecommons.org/licenses/GPL/2.0/"))

    def test_errors_say_what_to_do(self):
        self.assertIn("apt-get update", packages._why("p", "E: Unable to locate package p"))
        self.assertIn("no network", packages._why("p", "E: Failed to fetch http://x  Could not resolve 'x'"))
        with tempfile.TemporaryDirectory() as folder:
            pathlib.Path(folder, "p_1_all.deb").write_bytes(b"not a package")
            with self.assertRaisesRegex(packages.PackageError, "cannot be unpacked|no dpkg"):
                packages.Packages(folder).unpacked("p")
            self.assertEqual(list(pathlib.Path(folder, "unpacked").glob("*")), [])


class Pictures(unittest.TestCase):
    def test_alpha_is_composited(self):
        top = noise(17, 11, 4)
        canvas = Image.new("RGB", (23, 19), (10, 200, 77))
        pictures.paste(canvas, top, (3, 5))
        a = np.asarray(top, np.float64)
        want = a[..., :3] * a[..., 3:] / 255 + np.array([10, 200, 77]) * (1 - a[..., 3:] / 255)
        got = np.asarray(canvas, np.float64)
        # Rounding to nearest is off by half a step, and by float32's last digits.
        self.assertLessEqual(np.abs(got[5:16, 3:20] - want).max(), 0.5 + 1e-3)
        outside = np.ones((19, 23), bool)
        outside[5:16, 3:20] = False
        self.assertTrue((got[outside] == [10, 200, 77]).all())

    def test_hidden_colour_does_not_bleed(self):
        pixels = np.zeros((64, 64, 4), np.uint8)
        pixels[...] = (0, 255, 0, 0)
        pixels[16:48, 16:48] = (255, 0, 0, 255)
        small = np.asarray(pictures.resize(Image.fromarray(pixels, "RGBA"), (19, 19)))
        visible = small[small[..., 3] > 2]
        self.assertGreater(len(visible), 50)
        self.assertEqual(visible[:, 1].max(), 0)
        self.assertGreaterEqual(visible[:, 0].min(), 254)

    def test_cut_out_and_centre(self):
        image = Image.new("RGBA", (40, 30), (0, 0, 0, 0))
        image.paste((9, 8, 7, 255), (5, 6, 25, 11))
        cut = pictures.cut_out(image)
        self.assertEqual(cut.size, (20, 5))
        self.assertIsNone(pictures.cut_out(Image.new("RGBA", (4, 4), (1, 2, 3, 0))))
        placed = np.asarray(pictures.on_background(cut, 33, (255, 255, 255), margin=0))
        rows = np.nonzero((placed != 255).any((1, 2)))[0]
        self.assertLessEqual(abs((rows[0] + rows[-1]) / 2 - 16), 0.5)
        self.assertTrue((placed[:, 0] != 255).any() and (placed[:, -1] != 255).any())

    def test_recolouring_gives_the_colour_and_keeps_the_rest(self):
        image = Image.new("RGBA", (30, 30), (210, 40, 40, 255))
        image.paste((60, 160, 60, 255), (0, 20, 30, 30))
        for word in scenes.RECOLOURS:
            changed = pictures.recolour(image, word)
            self.assertEqual(colours.name_colour(changed.getpixel((15, 5))[:3]), word)
            self.assertLessEqual(max(abs(a - b) for a, b in zip(changed.getpixel((15, 25)), (60, 160, 60, 255))), 1)
        self.assertIsNone(pictures.recolour(Image.new("RGBA", (9, 9), (120, 120, 120, 255)), "red"))


class Colours(unittest.TestCase):
    def test_palette_and_shades_have_their_names(self):
        for word, colour in colours.PALETTE.items():
            self.assertEqual(colours.name_colour(colour), word)
        for colour, word in (((255, 0, 0), "red"), ((0, 0, 128), "blue"), ((0, 100, 0), "green"), ((135, 206, 235), "blue"),
                             ((101, 67, 33), "brown"), ((128, 128, 128), "grey"), ((255, 192, 203), "pink")):
            self.assertEqual(colours.name_colour(colour), word)

    def test_oklab_there_and_back(self):
        rgb = np.random.default_rng(5).integers(0, 256, (500, 3))
        self.assertTrue((colours.from_oklab(colours.to_oklab(rgb)) == rgb).all())
        np.testing.assert_allclose(colours.to_oklab([255, 255, 255]), [1, 0, 0], atol=1e-6)

    def test_shares_count_what_is_opaque(self):
        image = Image.new("RGBA", (10, 10), (0, 0, 255, 255))
        image.paste((255, 0, 0, 0), (0, 0, 10, 5))
        image.paste((255, 255, 0, 255), (0, 5, 10, 6))
        self.assertEqual(colours.colour_shares(image), {"blue": 0.8, "yellow": 0.2})


class Captions(unittest.TestCase):
    def test_articles_and_plurals(self):
        for phrase in ("apple", "orange ring", "ear of corn", "umbrella", "envelope"):
            self.assertEqual(captions.article(phrase), "an", phrase)
        for phrase in ("unicorn", "giraffe", "European map", "T-shirt"):
            self.assertEqual(captions.article(phrase), "a", phrase)
        for one, many in (("bus", "buses"), ("box", "boxes"), ("cherry", "cherries"), ("key", "keys"), ("cross", "crosses")):
            self.assertEqual(captions.plural(one), many)

    def test_scenes_in_words(self):
        nouns = scenes.nouns()
        thing = lambda name, colour=None, count=1: {"name": name, "colour": colour, "count": count}  # noqa: E731
        scene = {"background": "blue", "objects": [thing("apple", "red"), thing("cat")],
                 "relations": [{"subject": 0, "relation": "left_of", "object": 1}]}
        said = captions.of_scene(scene, nouns)
        self.assertEqual(said["en"], ["a red apple left of a cat on a blue background",
                                      "a red apple to the left of a cat on a blue background",
                                      "a cat right of a red apple on a blue background"])
        self.assertEqual(said["zh"][0], "一个红色的苹果在一只猫的左边，蓝色背景")
        scene = {"background": "white", "objects": [thing("giraffe", None, 3), thing("mouse", None, 2)], "relations": []}
        self.assertEqual(captions.of_scene(scene, nouns)["en"][0], "three giraffes and two mice")
        self.assertEqual(captions.of_scene(scene, nouns)["zh"][0], "三只长颈鹿和两只老鼠")

    def test_table_is_whole(self):
        rows = scenes.table()
        self.assertEqual(len({handle for handle, *_ in rows}), len(rows))
        forms = {}
        for handle, noun, colour, _ in rows:
            self.assertTrue(all((noun.singular, noun.plural, noun.zh, noun.measure)), handle)
            self.assertTrue(colour is None or colour in colours.PALETTE, handle)
            self.assertEqual(forms.setdefault(noun.singular, noun), noun)
        self.assertFalse(set(forms) & set(scenes.SHAPES))


def small_things():
    """Four things of random looks, one of which can be recoloured."""
    known = scenes.nouns()
    things = []
    for index, (name, colour) in enumerate((("giraffe", None), ("car", "red"), ("duck", None), ("chair", None))):
        image = noise(50 + index, 40, index)
        image.paste((60 * index, 30, 250 - 60 * index, 255), (5, 5, 45, 35))
        things.append(scenes.Thing(known[name], colour, ["blue"] if colour else [], {f"k{index}": image}, {f"k{index}": "X"}))
    things.append(scenes.Thing(known["square"], None, scenes.SHAPE_COLOURS, {"shape_square": scenes.draw_shape("square", "grey")},
                               {"shape_square": "CC0-1.0"}))
    return things


class Scenes(unittest.TestCase):
    def test_scene_says_what_it_holds(self):
        side = 96
        composer = scenes.Composer(small_things(), side, 7)
        kinds = set()
        for index in range(150):
            image, scene = composer.compose(index)
            kinds.add(scene["kind"])
            self.assertEqual(image.size, (side, side))
            boxes = [box for thing in scene["objects"] for box in thing["boxes"]]
            self.assertTrue(1 <= len(boxes) <= 4)
            for thing in scene["objects"]:
                self.assertEqual(len(thing["boxes"]), thing["count"])
            for i, (l, t, r, b) in enumerate(boxes):
                self.assertTrue(0 <= l < r <= side and 0 <= t < b <= side)
                for l2, t2, r2, b2 in boxes[:i]:
                    self.assertTrue(r <= l2 or r2 <= l or b <= t2 or b2 <= t, "objects overlap")
            pixels = np.asarray(image)
            empty = np.ones((side, side), bool)
            for l, t, r, b in boxes:
                empty[max(0, t - 3):b + 3, max(0, l - 3):r + 3] = False
            self.assertTrue((pixels[empty] == colours.PALETTE[scene["background"]]).all())
            for relation in scene["relations"]:
                a, b = (scene["objects"][relation[role]]["boxes"][0] for role in ("subject", "object"))
                apart = {"left_of": a[2] <= b[0], "right_of": a[0] >= b[2], "above": a[3] <= b[1], "below": a[1] >= b[3]}
                self.assertTrue(apart[relation["relation"]])
                across = (1, 3) if relation["relation"] in ("left_of", "right_of") else (0, 2)
                self.assertLess(abs(sum(a[i] for i in across) - sum(b[i] for i in across)) / 2, 0.25 * side)
            json.dumps(scene)
        self.assertEqual(kinds, {"single", "count", "relation", "group"})

    def test_kinds_can_be_chosen(self):
        composer = scenes.Composer(small_things(), 64, 7)
        for index in range(40):
            scene = composer.compose(index, {"single": 1})[1]
            self.assertEqual((scene["kind"], [thing["count"] for thing in scene["objects"]]), ("single", [1]))
        self.assertEqual({composer.compose(index, {"count": 1, "group": 2})[1]["kind"] for index in range(40)}, {"count", "group"})

    def test_record_says_where_its_objects_are(self):
        side = 96
        composer = scenes.Composer(small_things(), side, 7)
        licences = collections.defaultdict(lambda: "CC0-1.0")
        labels = set()
        for index in range(60):
            image, scene = composer.compose(index)
            record = main.record_of_scene(index, scene, side, composer.nouns, licences, "1")
            self.assertEqual(len(record["boxes"]), sum(thing["count"] for thing in scene["objects"]))
            pixels = np.asarray(image)
            background = colours.PALETTE[scene["background"]]
            covered = np.zeros((side, side), bool)
            for label, l, t, r, b in record["boxes"]:
                labels.add(label)
                self.assertIn(label.split()[-1], {thing["name"] for thing in scene["objects"]})
                box = tuple(slice(round(a * side), round(z * side)) for a, z in ((t, b), (l, r)))
                self.assertTrue((pixels[box] != background).any())
                covered[max(0, box[0].start - 3):box[0].stop + 3, max(0, box[1].start - 3):box[1].stop + 3] = True
            self.assertTrue((pixels[~covered] == background).all())
        self.assertTrue(any(" " in label for label in labels) and any(" " not in label for label in labels))

    def test_nouns_drawn_evenly(self):
        composer = scenes.Composer(small_things(), 64, 7)
        drawn = collections.Counter()
        for index in range(400):
            scene = composer.compose(index, {"noun": 1})[1]
            self.assertEqual((scene["kind"], len(scene["objects"])), ("single", 1))
            drawn[scene["objects"][0]["name"]] += 1
        self.assertEqual(set(drawn), set(composer.nouns))
        self.assertLess(max(drawn.values()), 2.5 * 400 / len(drawn))

    def test_same_seed_same_scene_whatever_came_before(self):
        one, other = (scenes.Composer(small_things(), 64, 3) for _ in range(2))
        for index in range(20):
            one.compose(index)
        for index in (19, 4):
            a, b = one.compose(index), other.compose(index)
            self.assertEqual((a[0].tobytes(), a[1]), (b[0].tobytes(), b[1]))
        self.assertNotEqual(scenes.Composer(small_things(), 64, 4).compose(4)[0].tobytes(), b[0].tobytes())

    def test_objects_on_a_grid_look_the_same_in_every_place_and_have_one_size_alone_and_one_among_others(self):
        grid, side = 8, 128
        composer = scenes.Composer(small_things(), side, 5, grid)
        looks = {}
        for index in range(150):
            image, scene = composer.compose(index)
            self.assertLess(len(scene["objects"]), 5)
            alone = sum(thing["count"] for thing in scene["objects"]) == 1
            for thing in scene["objects"]:
                for (l, t, r, b), picture in zip(thing["boxes"], thing["pictures"], strict=True):
                    key = (picture, thing["colour"], scene["background"], alone)
                    looks.setdefault(key, set()).add((l % grid, t % grid, image.crop((l, t, r, b)).tobytes()))
        self.assertGreater(len(looks), 50)
        self.assertLess(sum(map(len, looks.values())) - len(looks), 1)
        loose = scenes.Composer(small_things(), side, 5)
        places = {box[0] % grid for index in range(50) for thing in loose.compose(index)[1]["objects"] for box in thing["boxes"]}
        self.assertEqual(places, set(range(grid)))

    def test_coloured_square_fills_its_box(self):
        composer = scenes.Composer(small_things(), 128, 1)
        found = 0
        for index in range(60):
            image, scene = composer.compose(index)
            for thing in scene["objects"]:
                if thing["name"] == "square":
                    for l, t, r, b in thing["boxes"]:
                        self.assertEqual(image.getpixel(((l + r) // 2, (t + b) // 2)), colours.PALETTE[thing["colour"]])
                        found += 1
        self.assertGreater(found, 5)


class Splits(unittest.TestCase):
    def test_names_keep_their_split(self):
        # Written down once: a change would move pictures between training and validation of sets that exist.
        self.assertEqual([splits.of_name(name) for name in ("red apple", "mouse", "robot", "giraffe")],
                         ["train", "validation", "validation", "train"])
        self.assertEqual([name for name in ("frog", "giraffe", "umbrella", "cat") if splits.holds_out_object(name)],
                         ["frog", "umbrella"])
        self.assertEqual(splits.of_name("  Red  APPLE"), splits.of_name("red apple"))
        want = int.from_bytes(hashlib.sha256(b"validation\0x").digest()[:8], "big") / 2**64
        self.assertEqual(splits.fraction("validation", "x"), want)

    def test_shares(self):
        names = [f"name {i}" for i in range(20000)]
        for share, decide in ((splits.VALIDATION_SHARE, lambda name: splits.of_name(name) == splits.VALIDATION),
                              (splits.OBJECT_SHARE, splits.holds_out_object),
                              (splits.COMPOSITION_SHARE, lambda name: splits.holds_out_count(3, name))):
            deviation = (share * (1 - share) / len(names)) ** 0.5
            self.assertLess(abs(sum(map(decide, names)) / len(names) - share), 4 * deviation)

    def test_held_out_scenes(self):
        thing = lambda name, colour=None, count=1, natural=False: {  # noqa: E731
            "name": name, "colour": colour, "count": count, "natural": natural}
        split = lambda *things: splits.of_scene({"objects": list(things)}, "red apple")  # noqa: E731
        self.assertEqual(split(thing("frog")), "train")
        self.assertEqual(split(thing("frog"), thing("cat")), "heldout_object")
        self.assertEqual(split(thing("frog", count=2)), "heldout_object")
        self.assertEqual(split(thing("balloon", "pink")), "heldout_composition")
        self.assertEqual(split(thing("balloon", "pink", natural=True)), "train")
        self.assertEqual(split(thing("cat", count=3)), "heldout_composition")
        self.assertEqual(split(thing("cat", count=2)), "train")


class Evaluation(unittest.TestCase):
    def test_prompts_agree_with_captions_and_splits(self):
        lines = (HERE / "evaluation_prompts.jsonl").read_text("utf-8").splitlines()
        entries = [json.loads(line) for line in lines]
        self.assertEqual(len({entry["prompt"] for entry in entries}), 64)
        nouns = scenes.nouns()
        natural = {(noun.singular, colour) for _, noun, colour, _ in scenes.table() if colour}
        takes = {noun.singular for _, noun, _, recolour in scenes.table() if recolour} | set(scenes.SHAPES)
        for entry in entries:
            said = captions.of_scene(entry["expect"], nouns)
            self.assertEqual((entry["prompt"], entry["prompt_zh"]), (said["en"][0], said["zh"][0]))
            self.assertEqual(entry["seen"], splits.of_scene(entry["expect"], entry["prompt"]))
            for thing in entry["expect"]["objects"]:
                self.assertEqual(thing["natural"], (thing["name"], thing["colour"]) in natural)
                self.assertTrue(not thing["colour"] or thing["natural"] or thing["name"] in takes)


class Output(unittest.TestCase):
    def write(self, folder, formats=output.FORMATS):
        rng = random.Random(0)
        with output.Writer(folder, formats) as writer:
            for index in range(7):
                image = noise(9, 9, index).convert("RGB")
                writer.add(image, {"key": f"k_{index}", "set": "emoji", "captions": {"en": [f"caption {index}"], "zh": ["苹果"]},
                                   "licence": "OFL-1.1", "author": "Someone", "split": rng.choice(splits.ALL)})
            writer.finish({"seed": 0})

    def test_layouts_agree_and_bytes_repeat(self):
        with tempfile.TemporaryDirectory() as parent:
            one, two = pathlib.Path(parent, "one"), pathlib.Path(parent, "two")
            self.write(one)
            self.write(two)
            manifest = json.loads((one / "manifest.json").read_text("utf-8"))
            self.assertEqual((one / "manifest.json").read_bytes(), (two / "manifest.json").read_bytes())
            self.assertEqual({path.relative_to(one).as_posix() for path in one.rglob("*") if path.is_file()},
                             {*manifest["files"], "manifest.json"})
            for name, digest in manifest["files"].items():
                self.assertEqual(hashlib.sha256((one / name).read_bytes()).hexdigest(), digest)
                self.assertEqual((one / name).read_bytes(), (two / name).read_bytes())
            records = [json.loads(line) for line in (one / "metadata.jsonl").read_text("utf-8").splitlines()]
            members = {}
            for path in (one / "shards").iterdir():
                with tarfile.open(path) as tar:
                    members.update({name: (path.name.split("-")[0], tar.extractfile(name).read()) for name in tar.getnames()})
            self.assertEqual(len(members), 3 * len(records))
            for record in records:
                split, data = members[f"{record['key']}.png"]
                self.assertEqual(split, record["split"])
                self.assertEqual(data, (one / record["file"]).read_bytes())
                self.assertEqual(hashlib.sha256(data).hexdigest(), record["sha256"])
                self.assertEqual((one / record["file"]).with_suffix(".txt").read_text(), record["captions"]["en"][0] + "\n")
                self.assertEqual(json.loads(members[f"{record['key']}.json"][1]), record)

    def test_each_layout_by_itself_is_whole(self):
        holds = {"folder": {".png", ".txt"}, "jsonl": {".png"}, "shards": set()}
        for layout, kinds in holds.items():
            with tempfile.TemporaryDirectory() as parent:
                target = pathlib.Path(parent, "set")
                self.write(target, [layout])
                self.assertEqual({path.suffix for path in target.glob("pictures/*/*")}, kinds)
                self.assertEqual((target / "shards").exists(), layout == "shards")
                if layout == "jsonl":
                    for line in (target / "metadata.jsonl").read_text("utf-8").splitlines():
                        self.assertTrue((target / json.loads(line)["file"]).is_file())

    def test_nothing_remains_of_what_failed(self):
        with tempfile.TemporaryDirectory() as parent:
            target = pathlib.Path(parent, "set")
            with self.assertRaises(OSError):
                with output.Writer(target, output.FORMATS) as writer:
                    writer.add(Image.new("RGB", (2, 2)), {"key": "a", "set": "emoji"})
                    raise OSError(28, "No space left on device")
            self.assertEqual(list(pathlib.Path(parent).iterdir()), [])
            target.mkdir()
            with self.assertRaisesRegex(output.OutputError, "there already"):
                self.write(target)
            self.assertEqual(list(target.iterdir()), [])

    def test_command_line(self):
        for argv in (["--out", "x", "--set", "emoji,faces"], ["--out", "x", "--set", "stamps"], ["--out", "x", "--size", "4"], []):
            with self.assertRaises(SystemExit) as stopped, unittest.mock.patch("sys.stderr", io.StringIO()):
                main.arguments(argv)
            self.assertEqual(stopped.exception.code, 2)
        options = main.arguments(["--out", "x", "--set", "stamps,emoji", "--with-gpl"])
        self.assertEqual(options.set, ["stamps", "emoji"])

    def test_pictures_of_nouns_alone(self):
        class Source:
            PACKAGES = []

            @staticmethod
            def read(_):
                for name, handle in (("fox face", "🦊"), ("thumbs up", "👍"), ("red apple", "🍎")):
                    yield Picture(key=f"emoji_{handle}", set="emoji", name=name, image=noise(20, 20, 3), captions={"en": [name, f"{name}, emoji"]},
                                  licence="OFL-1.1", author="A", package="fonts", member="", handle=handle)

        for arguments, expected in (([], [["a fox", "fox face", "fox face, emoji"], ["thumbs up", "thumbs up, emoji"],
                                          ["a red apple", "red apple", "red apple, emoji"]]),
                                    (["--nouns"], [["a fox"], ["a red apple"]])):
            with tempfile.TemporaryDirectory() as parent:
                target = pathlib.Path(parent, "set")
                options = main.arguments(["--out", str(target), "--set", "emoji", "--formats", "jsonl", *arguments])
                store = unittest.mock.Mock(versions={"fonts": "1"})
                with (unittest.mock.patch.dict(main.SOURCES, {"emoji": Source}),
                      unittest.mock.patch("main.packages.Packages", return_value=store)):
                    main.build(options, unittest.mock.Mock())
                lines = (target / "metadata.jsonl").read_text("utf-8").splitlines()
                self.assertEqual([json.loads(line)["captions"]["en"] for line in lines], expected)


if __name__ == "__main__":
    unittest.main()
