"""Writes sinopia/text/unicode_tables.cpp: letters, numbers and lower case as the `tokenizers` package sees them.

The package's regular expressions and its lower-casing follow two Unicode versions of their own, so the tables are
read off its behaviour over every code point instead of being taken from a Unicode release.
Usage: python tools/golden/text_unicode_tables.py
"""

import pathlib

import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
OUTPUT = pathlib.Path(__file__).resolve().parents[2] / "sinopia" / "text" / "unicode_tables.cpp"


def matching(pattern):
    split = pre_tokenizers.Split(Regex(pattern), "removed", invert=True)
    found = set()
    for i in range(0, len(CODE_POINTS), 4096):
        for piece, _ in split.pre_tokenize_str("".join(map(chr, CODE_POINTS[i : i + 4096]))):
            found.update(map(ord, piece))
    return sorted(found)


def ranges(code_points):
    result = []
    for c in code_points:
        if result and result[-1][1] == c - 1:
            result[-1][1] = c
        else:
            result.append([c, c])
    return result


def lower_ranges():
    lowercase = normalizers.Lowercase()
    result = []  # first, last, step, delta
    for c in CODE_POINTS:
        lower = lowercase.normalize_str(chr(c))
        if c == 0x130:
            assert lower == "i\u0307"
            continue
        assert len(lower) == 1
        delta = ord(lower) - c
        if delta == 0:
            continue
        if result:
            first, last, step, previous = result[-1]
            if delta == previous and c - last in (1, 2) and (first == last or c - last == step):
                result[-1] = [first, c, c - last, delta]
                continue
        result.append([c, c, 1, delta])
    return result


def array(element, name, rows):
    lines, line = [], " "
    for row in rows:
        item = " {" + ", ".join(row) + "},"
        if len(line) + len(item) > 110:
            lines.append(line)
            line = " "
        line += item
    lines.append(line)
    body = "\n".join(lines)
    return (
        f"constexpr {element} {name}Rows[] = {{\n{body}\n}};\n"
        f"constinit const std::span<const {element}> {name} = {name}Rows;\n"
    )


def main():
    spaces = matching(r"\s")
    expected = [*range(9, 14), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000]
    assert spaces == expected, "is_space() in unicode.cpp no longer fits"
    pairs = lambda rows: [(hex(a), hex(b)) for a, b in rows]
    OUTPUT.write_text(
        f"// Written by tools/golden/text_unicode_tables.py from tokenizers {tokenizers.__version__}; not edited by hand.\n"
        "// clang-format off\n"
        '#include "sinopia/text/unicode_tables.h"\n\n'
        "namespace sinopia::unicode {\n\n"
        + array("Range", "kLetters", pairs(ranges(matching(r"\p{L}")))) + "\n"
        + array("Range", "kNumbers", pairs(ranges(matching(r"\p{N}")))) + "\n"
        + array("LowerRange", "kLower", [(hex(a), hex(b), str(s), str(d)) for a, b, s, d in lower_ranges()])
        + "\n}  // namespace sinopia::unicode\n"
    )


if __name__ == "__main__":
    main()
