"""Writes a set in the layouts that trainers read, whole or not at all.

DIR/pictures/<set>/<key>.png and .txt   the picture and its first English caption
DIR/metadata.jsonl                      one JSON object a picture (see README.md)
DIR/shards/<split>-00000.tar            webdataset: <key>.png, <key>.txt, <key>.json
DIR/ATTRIBUTION.txt                     authors and licences, as CC-BY asks
DIR/manifest.json                       what was built, from which packages, and the SHA-256 of every file
"""

import collections
import hashlib
import io
import json
import os
import pathlib
import shutil
import tarfile

import splits

FORMATS = ["folder", "jsonl", "shards"]
PER_SHARD = 2000


class OutputError(Exception):
    """The set cannot be written; the message says why."""


def png_bytes(image):
    """The same bytes for the same pixels and the same Pillow."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=9)
    return buffer.getvalue()


def _line(record):
    return json.dumps(record, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


class Writer:
    """A folder under way: `with Writer(...) as writer`, then add() and finish(). Without finish() nothing remains."""

    def __init__(self, target, formats):
        self._target = pathlib.Path(os.path.abspath(target))
        if self._target.exists():
            raise OutputError(f"{target} is there already: name another folder, or remove it first")
        self._formats = formats
        self._partial = self._target.with_name(f".{self._target.name}.partial-{os.getpid()}")
        self._records = []

    def __enter__(self):
        self._partial.mkdir(parents=True)
        return self

    def __exit__(self, *_):
        shutil.rmtree(self._partial, ignore_errors=True)

    def add(self, image, record):
        """A picture (RGB) with its record, which holds at least key, set, captions, split, licence, author, source."""
        data = png_bytes(image)
        file = f"pictures/{record['set']}/{record['key']}.png"
        path = self._partial / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self._records.append({"file": file, **record, "sha256": hashlib.sha256(data).hexdigest()})

    def finish(self, about):
        """Writes the rest, with `about` at the head of the manifest, and gives the folder its name."""
        keys = collections.Counter(record["key"] for record in self._records)
        twice = [key for key, count in keys.items() if count > 1]
        if twice:
            raise OutputError(f"two pictures have the key {twice[0]}")
        if "shards" in self._formats:
            self._write_shards()
        if "folder" in self._formats:
            for record in self._records:
                (self._partial / record["file"]).with_suffix(".txt").write_text(record["captions"]["en"][0] + "\n", "utf-8")
        if "jsonl" in self._formats:
            # Its lines name the pictures, which stay.
            text = "".join(_line(record) + "\n" for record in self._records)
            (self._partial / "metadata.jsonl").write_text(text, "utf-8")
        elif "folder" not in self._formats:
            shutil.rmtree(self._partial / "pictures")
        (self._partial / "ATTRIBUTION.txt").write_text(attribution(self._records), "utf-8")
        self._write_manifest(about)
        # The folder takes its name only when its files are on the disk.
        for path in self._partial.rglob("*"):
            if path.suffix in (".tar", ".json", ".jsonl"):
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        if self._target.exists():
            raise OutputError(f"{self._target} appeared meanwhile: nothing was written")
        os.rename(self._partial, self._target)

    def _write_shards(self):
        folder = self._partial / "shards"
        folder.mkdir()
        for split in splits.ALL:
            records = [record for record in self._records if record["split"] == split]
            # Trainers read shards in order: sets and names are mixed here once, by hash.
            records.sort(key=lambda record: hashlib.sha256(record["key"].encode()).digest())
            for start in range(0, len(records), PER_SHARD):
                with tarfile.open(folder / f"{split}-{start // PER_SHARD:05}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
                    for record in records[start:start + PER_SHARD]:
                        self._add_to(tar, record)

    def _add_to(self, tar, record):
        parts = {"png": (self._partial / record["file"]).read_bytes(),
                 "txt": record["captions"]["en"][0].encode() + b"\n",
                 "json": _line(record).encode() + b"\n"}
        for ending, data in parts.items():
            # A fresh TarInfo has no time, owner or machine in it.
            info = tarfile.TarInfo(f"{record['key']}.{ending}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))

    def _write_manifest(self, about):
        files = {path.relative_to(self._partial).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
                 for path in sorted(self._partial.rglob("*")) if path.is_file()}
        total = hashlib.sha256("".join(f"{name} {digest}\n" for name, digest in files.items()).encode()).hexdigest()
        counts = collections.defaultdict(lambda: collections.Counter())
        for record in self._records:
            counts[record["set"]][record["split"]] += 1
        licences = collections.Counter(record["licence"] for record in self._records)
        manifest = {**about, "counts": {name: dict(sorted(count.items())) for name, count in counts.items()},
                    "licences": dict(sorted(licences.items())), "sha256_of_all": total, "files": files}
        (self._partial / "manifest.json").write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", "utf-8")


def attribution(records):
    """Whom to name, licence by licence."""
    people = collections.defaultdict(set)
    for record in records:
        if record["set"] != "scenes":
            people[record["licence"]].add(record["author"])
    lines = ["Pictures, by licence and author. metadata.jsonl names both for every picture; pictures were cut out, resized",
             "and put on a plain background. Composed scenes carry the licences of the pictures in them.",
             "Emoji names: Unicode CLDR, copyright 1991-2022 Unicode, Inc., Unicode-DFS-2016.", ""]
    for licence in sorted(people):
        lines += [licence, *(f"  {author}" for author in sorted(people[licence])), ""]
    return "\n".join(lines)
