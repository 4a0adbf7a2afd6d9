"""One row of a table of devices, and the checks of its cells."""

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

from patrolink.core.text import printable

_FORMULA_STARTS = ("=", "+", "-", "@", "'")
_SCIENTIFIC = re.compile(r"\d(?:[.,]\d+)?[eE]\+?\d+")


def check_cell(text: str) -> str:
    """Return what is wrong with the characters of a cell; empty if nothing is."""
    if not text.isprintable():
        return "has control or invisible characters; type the value again"
    if text.startswith(_FORMULA_STARTS):
        return f"begins with {text[0]!r}, which a spreadsheet takes for a formula; remove that character"
    return ""


def _matching(pattern: str, what: str) -> AfterValidator:
    """Return a validator for a cell that has to match a pattern."""
    compiled = re.compile(pattern)

    def check(text: str) -> str:
        if not text:
            raise ValueError(f"is empty; enter {what}")
        if not compiled.fullmatch(text):
            if _SCIENTIFIC.fullmatch(text):
                raise ValueError(
                    "is a number that the spreadsheet has rounded; format the column as text, enter it again"
                )
            raise ValueError(f"{printable(text)!r} is not valid; enter {what}")
        return text

    return AfterValidator(check)


def _unique_id(text: str) -> str:
    """Return a unique id in lower case without separators."""
    plain = plain_unique_id(text)
    if plain and not re.fullmatch(r"[0-9a-z]{4,64}", plain):
        raise ValueError(f"{printable(text)!r} is not valid; enter what `patrolink devices` shows, or leave it empty")
    return plain


def plain_unique_id(text: str) -> str:
    """Return the form in which unique ids are compared."""
    return re.sub(r"[:\- ]", "", text).lower()


def _normalized(text: str) -> str:
    if not text:
        raise ValueError("is empty; enter the name of a talk group of the site file")
    return normalize(text)


def normalize(text: str) -> str:
    """Return a name in the Unicode form in which names are compared (NFC)."""
    return unicodedata.normalize("NFC", text)


def split_groups(text: str) -> list[str]:
    """Return the names in a cell of groups, which are separated by `|`: names may have commas."""
    names = (normalize(name.strip()) for name in text.split("|"))
    return list(dict.fromkeys(name for name in names if name))


class DeviceRow(BaseModel):
    """A device of the table.

    Attributes:
        serial: Serial number on the housing.
        device: Id of the device.
        circle: Name of the talk group that the device belongs to.
        board: Name of its board.
        groups: Names or numbers of further talk groups, separated by `|`.
        unique_id: Unique id of the chip, if it is known.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    serial: Annotated[str, _matching(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,31}", "1 to 32 of A-Z a-z 0-9 . _ / -")]
    device: Annotated[str, _matching(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,31}", "a device id, 1 to 32 of A-Z a-z 0-9 _ -")]
    circle: Annotated[str, AfterValidator(_normalized)]
    board: Annotated[str, _matching(r"[a-z0-9_]{1,24}", "the name of a board; `patrolink boards` lists them")]
    groups: str = ""
    unique_id: Annotated[str, AfterValidator(_unique_id)] = ""
