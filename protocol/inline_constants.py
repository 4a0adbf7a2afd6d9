"""Replaces generated constants by their numbers in a copy of the device's sources, for frozen firmware.

usage: python protocol/inline_constants.py FOLDER

MicroPython keeps each global of an imported module on the heap: the constants of patrolink_enums and patrolink_messages
would take more than a kilobyte, and each use a look-up. Modules use them only as `import patrolink_enums as enums`,
`enums.EVENT_KIND_SOS`, and `import patrolink_messages as m`, `m.HELLO`, so that this is a replacement of tokens.
patrolink_enums is then not frozen, and of patrolink_messages only the texts.

Exit code: 0, or 1 if a file uses the constants in another way or uses one that does not exist.
"""

import io
import re
import sys
import tokenize
from pathlib import Path

GENERATED = Path(__file__).resolve().parent / "generated"
ALIASES = {"patrolink_enums": "enums", "patrolink_messages": "m"}
_CONSTANT = re.compile(r"^[A-Z][A-Z0-9_]* = (0x)?[0-9A-F]+\n", re.MULTILINE)


def constants(module: str) -> dict[str, int]:
    """Return the integer constants of a generated module by name."""
    names: dict[str, object] = {}
    exec((GENERATED / f"{module}.py").read_text(encoding="utf-8"), {}, names)  # noqa: S102 - our own generated file
    return {name: value for name, value in names.items() if isinstance(value, int)}


def inline(text: str, module: str, values: dict[str, int]) -> str:
    """Return the text of a module with numbers in place of another module's constants; line numbers are unchanged.

    Args:
        text: Source of the module.
        module: Name of the generated module.
        values: Its integer constants.

    Raises:
        ValueError: the text uses the generated module in another way than described above.
    """
    alias = ALIASES[module]
    statement = re.compile(rf"^( *)import {module} as {alias}( *#.*)?$", re.MULTILINE)
    lines = text.splitlines(keepends=True)
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    mentions = [token.start[0] for token in tokens if token.type == tokenize.NAME and token.string == module]
    if not mentions:
        return text
    if not statement.search(text):
        raise ValueError(f"line {mentions[0]}: use `import {module} as {alias}`")
    for first, dot, name in reversed(list(zip(tokens, tokens[1:], tokens[2:], strict=False))):
        if first.string == alias and first.type == tokenize.NAME and dot.string == "." and name.string in values:
            row, start, end = first.start[0] - 1, first.start[1], name.end[1]
            lines[row] = lines[row][:start] + str(values[name.string]) + lines[row][end:]
    inlined = "".join(lines)
    without = statement.sub(r"\1pass", inlined)
    for token in tokenize.generate_tokens(io.StringIO(without).readline):
        if token.type == tokenize.NAME and token.string in (alias, module):
            if module == "patrolink_messages":
                return inlined  # its texts are used
            raise ValueError(f"line {token.start[0]}: use only constants that exist, as {alias}.NAME")
    return without


def main() -> int:
    """Rewrite all modules in the folder of the command line; return the exit code."""
    values = {module: constants(module) for module in ALIASES}
    for path in sorted(Path(sys.argv[1]).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if path.name == "patrolink_messages.py":
            path.write_text(_CONSTANT.sub("", text), encoding="utf-8")
            continue
        try:
            for module in ALIASES:
                text = inline(text, module, values[module])
        except ValueError as e:
            print(f"error: {path}: {e}", file=sys.stderr)
            return 1
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
