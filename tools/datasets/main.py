"""Command line of tools/datasets/build: reads the sources, composes scenes, writes the set."""

import argparse
import errno
import os
import shutil
import signal
import sys
import time

import captions
import clipart
import colours
import emoji
import furniture
import output
import packages
import pictures
import scenes
import splits
import stamps

SOURCES = {"emoji": emoji, "furniture": furniture, "clipart": clipart}
CLEAN = [*SOURCES, "scenes"]
# The sets that scenes take their objects from.
SCENE_SOURCES = ["emoji", "furniture"]
# A generous guess of what a picture takes, in bytes a pixel of its side squared, to refuse early on a full disk.
BYTES_PER_PIXEL = {"folder": 1.2, "shards": 1.4, "jsonl": 0.2}


class Progress:
    """Lines on standard error: on a terminal one that is rewritten, else one every ten seconds."""

    def __init__(self):
        self._terminal = sys.stderr.isatty()
        self._start = self._last = time.monotonic()

    def say(self, text):
        sys.stderr.write(("\r\033[K" if self._terminal else "") + text + "\n")
        sys.stderr.flush()

    def start(self):
        self._start = self._last = time.monotonic()

    def count(self, what, done, total):
        now = time.monotonic()
        if now - self._last < (0.2 if self._terminal else 10):
            return
        self._last = now
        left = (now - self._start) / done * (total - done)
        text = f"{what}: {done} of {total}, {left:.0f} s left"
        sys.stderr.write(f"\r\033[K{text}" if self._terminal else text + "\n")
        sys.stderr.flush()


def arguments(argv):
    parser = argparse.ArgumentParser(
        prog="tools/datasets/build", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Builds captioned pictures for training a small text-to-image model, from Debian 12 packages.",
        epilog="sets:\n"
               "  emoji      Noto emoji with CLDR names in English and Chinese (OFL-1.1)\n"
               "  furniture  Sweet Home 3D's furniture (CC0-1.0, CC-BY-3.0)\n"
               "  clipart    OpenClipart drawings of things (public domain)\n"
               "  scenes     composed of the first two and plain shapes; captions are exact\n"
               "  stamps     Tux Paint's stamps (GPL-2.0-or-later, only with --with-gpl)\n\n"
               "example:\n  tools/datasets/build --set emoji,scenes --scenes 2000 --out build/sets\n\n"
               "Packages are fetched once with apt-get download into --packages; nothing is installed.\n"
               "The same seed, sources and requirements.txt give the same bytes; DIR/manifest.json lists their SHA-256.")
    parser.add_argument("--set", default=",".join(CLEAN), metavar="NAMES",
                        help="sets to build, with commas between (default: %(default)s)")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to make; it must not exist")
    parser.add_argument("--scenes", type=int, default=20000, metavar="N", help="how many scenes (default: %(default)s)")
    parser.add_argument("--singles", type=int, default=0, metavar="N",
                        help="how many further scenes of one object by itself, from which nouns are learned soonest (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the scenes (default: %(default)s)")
    parser.add_argument("--size", type=int, default=128, metavar="PIXELS", help="side of the pictures (default: %(default)s)")
    parser.add_argument("--nouns", action="store_true",
                        help="of single pictures only those of the nouns that scenes know, captioned by the noun alone: few and plain")
    parser.add_argument("--grid", type=int, default=1, metavar="PIXELS",
                        help="places of a scene's objects are multiples of it, and their size depends only on how many there are: "
                             "where a latent's cell is of so many pixels, an object looks the same in every place (default: %(default)s)")
    parser.add_argument("--background", default="white", choices=list(colours.PALETTE), metavar="COLOUR",
                        help="what single pictures stand on: " + ", ".join(colours.PALETTE) + " (default: %(default)s)")
    parser.add_argument("--formats", default=",".join(output.FORMATS), metavar="NAMES",
                        help="layouts to write, with commas between (default: %(default)s)")
    parser.add_argument("--packages", default=os.environ.get("SINOPIA_DATASETS_PACKAGES", "build/datasets-packages"),
                        metavar="DIR", help="where .deb files are kept (default: %(default)s)")
    parser.add_argument("--with-gpl", action="store_true",
                        help="allow stamps, for tests: weights trained on them are not to be shipped")
    options = parser.parse_args(argv)
    options.set = _names(parser, "--set", options.set, [*CLEAN, "stamps"])
    options.formats = _names(parser, "--formats", options.formats, output.FORMATS)
    if "stamps" in options.set and not options.with_gpl:
        parser.error("stamps are under the GPL and not for weights that are shipped: add --with-gpl to build them for tests")
    if not 1 <= options.grid <= options.size // 8:
        parser.error(f"--grid takes 1 to an eighth of --size, got {options.grid}")
    if not 16 <= options.size <= 1024:
        parser.error(f"--size takes 16 to 1024, got {options.size}")
    for option in ("scenes", "singles"):
        if getattr(options, option) < 0:
            parser.error(f"--{option} takes 0 or more, got {getattr(options, option)}")
    return options


def _names(parser, option, text, known):
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    wrong = [name for name in names if name not in known]
    if wrong or not names:
        parser.error(f"{option} takes {', '.join(known)}; got '{wrong[0] if wrong else text}'")
    return names


def record_of(picture, version):
    """A single picture's line of metadata.jsonl, but for its file and hash."""
    return {"key": picture.key, "set": picture.set, "name": picture.name, "captions": picture.captions,
            "licence": picture.licence, "author": picture.author, "mirror": picture.mirror, "scene": None,
            "source": {"package": picture.package, "version": version, "member": picture.member},
            "split": splits.of_name(picture.name)}


def record_of_scene(index, scene, side, nouns, things_licence, versions):
    """A composed scene's line of metadata.jsonl, but for its file and hash; `side` is the picture's, in pixels."""
    texts = captions.of_scene(scene, nouns)
    boxes = [[captions.label(thing, nouns[thing["name"]]), *(round(edge / side, 6) for edge in box)] for thing in scene["objects"]
             for box in thing["boxes"]]
    licences = sorted({things_licence[key] for thing in scene["objects"] for key in thing["pictures"]})
    return {"key": f"scene_{index:06}", "set": "scenes", "name": texts["en"][0], "captions": texts,
            "licence": " AND ".join(licences), "author": "the authors of the pictures in it",
            "mirror": not any(r["relation"] in ("left_of", "right_of") for r in scene["relations"]), "boxes": boxes, "scene": scene,
            "source": {"package": "composed", "version": versions, "member": ""},
            "split": splits.of_scene(scene, texts["en"][0])}


def speak_table_names(picture, names, alone=False):
    """Puts "a red apple" before CLDR's "red apple" where the table of objects knows the picture; `alone`: instead of it."""
    if picture.handle in names:
        noun, colour = names[picture.handle]
        thing = {"count": 1, "colour": colour}
        for language, phrase in (("en", captions.english(thing, noun)), ("zh", captions.chinese(thing, noun))):
            others = [] if alone else picture.captions.get(language, [])
            picture.captions[language] = list(dict.fromkeys([phrase, *others]))


def build(options, progress):
    store = packages.Packages(options.packages, progress.say)
    names = {handle: (noun, colour) for handle, noun, colour, _ in scenes.table()}
    versions, found = {}, {}
    with output.Writer(options.out, options.formats) as writer:
        sources = dict(SOURCES, stamps=stamps) if options.with_gpl else SOURCES
        for name, source in sources.items():
            feeds_scenes = "scenes" in options.set and name in SCENE_SOURCES
            if name not in options.set and not feeds_scenes:
                continue
            progress.say(f"reading {name}")
            count = 0
            for picture in source.read(store):
                if feeds_scenes and picture.handle in names:
                    found.setdefault(picture.handle, []).append(picture)
                if name in options.set and (picture.handle in names or not options.nouns):
                    speak_table_names(picture, names, options.nouns)
                    image = pictures.on_background(picture.image, options.size, colours.PALETTE[options.background])
                    writer.add(image, record_of(picture, store.versions[picture.package]))
                    count += 1
            progress.say(f"{name}: {count} pictures")
            versions.update({package: store.versions[package] for package in source.PACKAGES})
        if "scenes" in options.set:
            compose(options, progress, writer, found, versions)
        progress.say("writing shards and manifest")
        writer.finish({"sets": options.set, "size": options.size, "seed": options.seed, "scenes": options.scenes,
                       "singles": options.singles, "nouns": options.nouns, "grid": options.grid, "background": options.background, "packages": dict(sorted(versions.items()))})


def compose(options, progress, writer, found, versions):
    progress.say("preparing the objects of the scenes")
    things = scenes.things_of(found)
    composer = scenes.Composer(things, options.size, options.seed, options.grid)
    licence = {key: value for thing in things for key, value in thing.licence.items()}
    text = ", ".join(f"{package} {version}" for package, version in sorted(versions.items()))
    total = options.scenes + options.singles
    progress.start()
    for index in range(total):
        image, scene = composer.compose(index, None if index < options.scenes else {"noun": 1})
        writer.add(image, record_of_scene(index, scene, options.size, composer.nouns, licence, text))
        progress.count("scenes", index + 1, total)
    progress.say(f"scenes: {total} of {len(composer.nouns)} nouns in {len(things)} looks")


def refuse_full_disk(options):
    """Fails before the work where the disk plainly has no room."""
    pixels = options.size**2 * ((options.scenes + options.singles if "scenes" in options.set else 0) + 1500 * len(options.set))
    needed = pixels * sum(BYTES_PER_PIXEL[name] for name in {*options.formats, "folder"})
    folder = os.path.abspath(options.out)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise output.OutputError(f"{options.out} needs about {needed / 1e6:.0f} MB, the disk has {free / 1e6:.0f} MB left")


def main(argv=None):
    options = arguments(argv)
    progress = Progress()
    # Being told to end tidies up as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        refuse_full_disk(options)
        build(options, progress)
    except (packages.PackageError, output.OutputError) as error:
        progress.say(f"tools/datasets/build: {error}")
        return 1
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        progress.say(f"tools/datasets/build: {'the disk is full; ' if full else ''}{error}; {options.out} was not made")
        return 1
    except KeyboardInterrupt:
        progress.say(f"tools/datasets/build: stopped; {options.out} was not made")
        return 130
    progress.say(f"{options.out} is ready")
    return 0


if __name__ == "__main__":
    sys.exit(main())
