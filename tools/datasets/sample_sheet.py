"""Writes samples.png, a sheet of pictures of a built set, and samples.txt, what they are and under which licence.

Only pictures that need no more than their licence named: OFL-1.1, CC0-1.0 and public domain. Which ones is decided by the
hash of their keys.

usage: python tools/datasets/sample_sheet.py build/sets
"""

import hashlib
import json
import pathlib
import sys

from PIL import Image

HERE = pathlib.Path(__file__).resolve().parent
ROWS = ["emoji", "furniture", "clipart", "scenes", "scenes"]
COLUMNS, SIDE = 12, 66
FREE = {"OFL-1.1", "CC0-1.0", "LicenseRef-public-domain"}


def licences(entry):
    return {part.strip() for part in entry["licence"].replace(" AND ", ",").split(",")}


def main():
    folder = pathlib.Path(sys.argv[1])
    entries = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    entries = [e for e in entries if licences(e) <= FREE]
    entries.sort(key=lambda e: hashlib.sha256(e["key"].encode()).digest())
    sheet = Image.new("RGB", (COLUMNS * SIDE, len(ROWS) * SIDE), "white")
    lines = []
    taken = set()
    for row, kind in enumerate(ROWS):
        chosen = [e for e in entries if e["set"] == kind and e["key"] not in taken][:COLUMNS]
        for column, entry in enumerate(chosen):
            taken.add(entry["key"])
            picture = Image.open(folder / entry["file"]).convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            sheet.paste(picture, (column * SIDE, row * SIDE))
            lines.append(f"row {row + 1}, {column + 1}: {entry['captions']['en'][0]} ({entry['licence']}; {entry['author']})")
    sheet.quantize(128, dither=Image.Dither.NONE).save(HERE / "samples.png", optimize=True)
    (HERE / "samples.txt").write_text("What samples.png shows, row by row, with licence and author.\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
