"""Writes tests/golden/text/clip_tokens.json.gz: texts and the ids that transformers' CLIPTokenizer gives them.

The tokenizer is built from data/clip/, as a folder with vocab.json and merges.txt would be read; nothing is downloaded.
Usage: python tools/golden/text_tokens.py
"""

import gzip
import json
import pathlib
import random
import struct
import tempfile
import unicodedata
import zlib

import tokenizers
import transformers

ROOT = pathlib.Path(__file__).resolve().parents[2]
SEED = 20240611
START, END = "<|startoftext|>", "<|endoftext|>"


def byte_characters():
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(len(others))]


def write_folder(folder, padding):
    """A tokenizer folder as published with the models; the padding token is what tells SD1 from SD2."""
    lines = gzip.decompress((ROOT / "data/clip/bpe_simple_vocab_16e6.txt.gz").read_bytes()).decode().split("\n")
    merges = lines[1 : 49152 - 256 - 2 + 1]
    singles = byte_characters()
    vocabulary = singles + [c + "</w>" for c in singles] + [m.replace(" ", "") for m in merges] + [START, END]
    assert len(set(vocabulary)) == len(vocabulary) == 49408
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    if padding is None:
        return
    special = lambda text: {"content": text, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    names = {"bos_token": special(START), "eos_token": special(END), "unk_token": special(END), "pad_token": padding}
    (folder / "special_tokens_map.json").write_text(json.dumps(names))
    typed = {k: {"__type": "AddedToken", **v} if isinstance(v, dict) else v for k, v in names.items()}
    config = {"add_prefix_space": False, "do_lower_case": True, "errors": "replace", "model_max_length": 77, **typed}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def load(padding):
    with tempfile.TemporaryDirectory() as name:
        write_folder(pathlib.Path(name), padding)
        return transformers.CLIPTokenizer.from_pretrained(name)


def code_point(rng):
    while True:
        c = rng.randrange(*rng.choice([(0x80, 0x800), (0x800, 0x10000), (0x10000, 0x20000), (0, 0x110000)]))
        if not 0xD800 <= c < 0xE000:
            return chr(c)


class Texts:
    """Random texts of many flavours."""

    WORDS = (
        "a photo of the astronaut riding horse on mars, masterpiece best quality 8k uhd trending artstation cat's "
        "don't we're I've I'm they'll he'd highly-detailed sharp focus (soft:1.2) [rain] f/1.8 35mm it's O'Neil "
        "WATERCOLOUR Studio Ghibli — “quoted” n° naïve café Zürich façade Ærøskøbing İstanbul IŞIK STRASSE ẞ"
    ).split(" ")
    SPACES = " \t\n\r\x0b\x0c\x85\xa0\u1680\u2003\u2009\u200a\u2028\u2029\u202f\u205f\u3000\u200b\u180e\ufeff\x1c\x1f"

    def __init__(self, seed):
        self.rng = random.Random(seed)
        every = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
        self.marks = [c for c in every if unicodedata.combining(c)]
        self.digits = [c for c in every if unicodedata.category(c)[0] == "N"]
        self.upper = [c for c in every if c.lower() != c]
        self.composed = [c for c in every if unicodedata.normalize("NFD", c) != c and not "가" <= c <= "힣"]
        self.bases = [unicodedata.normalize("NFD", c)[0] for c in self.composed]

    def some(self, pool, low, high):
        return "".join(self.rng.choice(pool) for _ in range(self.rng.randint(low, high)))

    def prompt(self):
        return " ".join(self.rng.choice(self.WORDS) for _ in range(self.rng.randint(1, 30)))

    def ascii(self):
        return self.some([chr(c) for c in range(128)], 1, 40)

    def planes(self):
        return "".join(code_point(self.rng) for _ in range(self.rng.randint(1, 20)))

    def combining(self):
        return "".join(self.rng.choice(self.bases) + self.some(self.marks, 0, 5) for _ in range(self.rng.randint(1, 8)))

    def decomposed(self):
        form = self.rng.choice(["NFC", "NFD", "NFKD"])
        return unicodedata.normalize(form, self.some(self.composed, 1, 12)) + self.some(self.marks, 0, 3)

    def emoji(self):
        people, joiners = "👩👨👧👦🧑🚀❤🔥🏳🌈🐈⬛", ["\u200d", "\ufe0f", "🏻", "🏿", "\u20e3", "🇩🇪", " ", "a", "1"]
        return "".join(self.rng.choice(people) + self.rng.choice(joiners) for _ in range(self.rng.randint(1, 10)))

    def right_to_left(self):
        pool = [chr(c) for c in [*range(0x590, 0x700), 0x200E, 0x200F, 0x202B, 0x202C, 0x20]]
        return self.some(pool, 1, 30)

    def spaces(self):
        return "".join(self.some(self.SPACES, 1, 3) + self.some("aB1!é", 0, 3) for _ in range(self.rng.randint(1, 10)))

    def east_asian(self):
        pool = [chr(c) for c in [*range(0x3000, 0x3100), *range(0x4E00, 0x4F00), *range(0xFF01, 0xFFA0)]]
        hangul = [chr(c) for c in [*range(0x1100, 0x1200), *range(0xAC00, 0xAC40)]]
        return self.some(pool, 1, 20) + self.some(hangul, 0, 8)

    def numbers(self):
        return self.some(self.digits + list("0123456789 ., a") * 20, 1, 25)

    def contractions(self):
        pool = ["'s", "'T", "'re", "'VE", "'m", "'ll", "'d", "’s", "'", "''", "'ſ", "s", "ll", " ", "!", "é", "1", "'x"]
        return self.some(pool, 1, 12)

    def cases(self):
        return self.some(self.upper + list("ΣσςİIıſßẞK"), 1, 20)

    def specials(self):
        pool = [START, END, "<|StartOfText|>", "<|ENDOFTEXT|>", "<|", "|>", "<", "startoftext", "!", " ", "a", "\u0338", "É"]
        return self.some(pool, 1, 10)

    def one_word(self):
        return self.some(self.rng.choice(["abcdefghijklmnopqrstuvwxyz", "aeiou", "!?.,-*", "ab"]), 30, 150)

    FLAVOURS = {
        prompt: 1800, ascii: 900, planes: 1200, combining: 900, decomposed: 800, emoji: 600, right_to_left: 500,
        spaces: 600, east_asian: 600, numbers: 500, contractions: 600, cases: 500, specials: 300, one_word: 200,
    }  # fmt: skip

    def all(self):
        return [flavour(self) for flavour, count in self.FLAVOURS.items() for _ in range(count)]


def encode(tokenizer, texts):
    return [e.ids for e in tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)]


def code_point_sums(tokenizer):
    """CRC-32 of the ids around every code point, one for each 4096 of them: count and ids as little-endian int32."""
    sums = []
    for first in range(0, 0x110000, 4096):
        texts = []
        for c in map(chr, range(first, first + 4096)):
            if not "\ud800" <= c < "\ue000":
                texts += [c, f"A{c}s {c}{c}", f"e\u0301{c}\u0323'{c}\u0301"]
        crc = 0
        for ids in encode(tokenizer, texts):
            crc = zlib.crc32(struct.pack(f"<{len(ids) + 1}i", len(ids), *ids), crc)
        sums.append(crc)
    return sums


def main():
    plain, sd1, sd2 = load(None), load(END), load("!")
    texts = Texts(SEED)
    every = texts.all()
    assert len(every) == 10000
    special = [texts.specials() for _ in range(400)] + [texts.prompt() + "!" for _ in range(50)]
    rng = random.Random(SEED + 1)
    ids = [[rng.randrange(49408) for _ in range(rng.randint(0, 20))] for _ in range(500)]
    ids += encode(plain, every[::50])
    golden = {
        "versions": {"transformers": transformers.__version__, "tokenizers": tokenizers.__version__},
        "seed": SEED,
        "plain": list(zip(every, encode(plain, every))),
        "sd1": list(zip(special, encode(sd1, special))),
        "sd2": list(zip(special, encode(sd2, special))),
        "decode": [(row, plain.decode(row)) for row in ids],
        "truncated": [
            (text, *(t(text, padding="max_length", truncation=True, max_length=77).input_ids for t in (sd1, sd2)))
            for text in ["", "a cat", "a, " * 37 + "b", "a, " * 37 + "b c", "a " * 76, "cat! " * 60, f"x {END} y!"]
        ],
        "code_points": code_point_sums(plain),
    }
    output = ROOT / "tests/golden/text/clip_tokens.json.gz"
    output.parent.mkdir(parents=True, exist_ok=True)
    packed = json.dumps(golden, ensure_ascii=False, separators=(",", ":")).encode()
    output.write_bytes(gzip.compress(packed, 9, mtime=0))
    print(output, output.stat().st_size)


if __name__ == "__main__":
    main()
