"""Replace `enums.NAME` by its number in a copy of the device's sources, before they are frozen into firmware.

usage: python protocol/inline_enums.py FOLDER

MicroPython keeps each global of an imported module on the heap: the constants of patrolink_enums would take about a
kilobyte, and each use an attribute lookup. Modules refer to them by `import patrolink_enums as enums` and
`enums.EVENT_KIND_SOS` only, so that this is a replacement of tokens. patrolink_enums is then not frozen.

Exit code: 0, or 1 when a file refers to the constants in another way or to one that does not exist.
"""

import io
import re
import sys
import tokenize
from pathlib import Path

ENUMS = Path(__file__).resolve().parent / "generated" / "patrolink_enums.py"
_IMPORT = re.compile(r"^( *)import patrolink_enums as enums( *#.*)?$", re.MULTILINE)


def constants() -> dict[str, int]:
    """Return the generated constants by name."""
    values: dict[str, int] = {}
    exec(ENUMS.read_text(encoding="utf-8"), {}, values)  # noqa: S102 - our own generated file
    return {name: value for name, value in values.items() if name.isupper()}


def inline(text: str, values: dict[str, int]) -> str:
    """Return a module's text with the numbers in place of the constants; the lines keep their numbers.

    Raises:
        ValueError: the text uses patrolink_enums in another way than this module's description allows.
    """
    text = _IMPORT.sub(r"\1pass", text)
    lines = text.splitlines(keepends=True)
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    for enums, dot, name in reversed(list(zip(tokens, tokens[1:], tokens[2:], strict=False))):
        if enums.string == "enums" and enums.type == tokenize.NAME and dot.string == ".":
            if name.string not in values:
                raise ValueError(f"line {name.start[0]}: patrolink_enums has no {name.string}")
            row, start, end = enums.start[0] - 1, enums.start[1], name.end[1]
            lines[row] = lines[row][:start] + str(values[name.string]) + lines[row][end:]
    text = "".join(lines)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.NAME and token.string in ("enums", "patrolink_enums"):
            raise ValueError(f"line {token.start[0]}: use `import patrolink_enums as enums` and enums.NAME only")
    return text


def main() -> int:
    """Rewrite all modules under the folder of the command line."""
    values = constants()
    for path in sorted(Path(sys.argv[1]).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        try:
            inlined = inline(text, values) if "patrolink_enums" in text else text
        except ValueError as e:
            print(f"error: {path}: {e}", file=sys.stderr)
            return 1
        if inlined != text:
            path.write_text(inlined, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
