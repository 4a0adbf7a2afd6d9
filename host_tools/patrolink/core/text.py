"""Text from outside for terminals and text formats.

A name that a device, a hub or a USB descriptor supplies may hold control characters (U+0000-U+001F, U+007F-U+009F),
bidirectional controls (U+061C, U+200E, U+200F, U+202A-U+202E, U+2066-U+2069) and line separators (U+2028, U+2029).
A terminal obeys them, a reader of lines splits at them. `str.isprintable` is False for all of them.
"""

import json
from typing import Any

# A spreadsheet takes a cell that begins with one of these for a formula (OWASP, "CSV Injection").
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def printable(text: str) -> str:
    """Return text in one line, with a Python escape in place of every unprintable character."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def printable_lines(text: str) -> str:
    """Return text of several lines, each as `printable` returns it."""
    return "\n".join(printable(line) for line in text.split("\n"))


def json_text(value: Any) -> str:
    """Return a value as JSON in one line, with a JSON escape in place of every unprintable character."""
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else "".join(c if c.isprintable() else _json_escape(c) for c in text)


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")  # `json.dumps` does not escape U+007F
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))


def csv_cell(text: str) -> str:
    """Return the text of a CSV cell, printable, with an apostrophe in front of what a spreadsheet calls a formula."""
    text = f"'{text}" if text.startswith(_FORMULA_STARTS) else text
    return printable(text)


def plural(count: int, noun: str) -> str:
    """Return a count with its noun: "1 fix", "2 fixes", "2 epochs"."""
    if count == 1:
        return f"1 {noun}"
    return f"{count} {noun}{'es' if noun.endswith(('s', 'x', 'tch', 'sh')) else 's'}"
