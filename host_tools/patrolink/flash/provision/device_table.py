"""The table of devices, a CSV file: it is read and checked as a whole, and every error is listed with its row."""

import csv
import difflib
import io
import re
from collections.abc import Collection, Sequence
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from patrolink.core.errors import UserError
from patrolink.core.text import plural, printable
from patrolink.flash.provision.device_row import DeviceRow, check_cell, plain_unique_id, split_groups

REQUIRED = ("serial", "device", "circle", "board")
COLUMNS = (*REQUIRED, *(name for name in DeviceRow.model_fields if name not in REQUIRED))
ROWS_MAX = 2000
BYTES_MAX = 1 << 20
_CELL_MAX_CHARACTERS = 500
_ERRORS_SHOWN_MAX = 100
_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_UTF8_HINT = "in Excel, save it as `CSV UTF-8`"


class Names(NamedTuple):
    """What rows may refer to.

    Attributes:
        groups: Numbers of talk groups by name.
        boards: Names of boards.
    """

    groups: dict[str, int]
    boards: Collection[str]


class TableDevice(NamedTuple):
    """A device of a valid table.

    Attributes:
        row: Its row.
        number: Number of the row, 1 for the header.
        groups: Numbers of its talk groups, ascending; that of its circle is one of them.
    """

    row: DeviceRow
    number: int
    groups: tuple[int, ...]


class Table(NamedTuple):
    """A valid table.

    Attributes:
        devices: In the order of the file.
        delimiter: Name of the delimiter.
    """

    devices: list[TableDevice]
    delimiter: str


def load(path: Path, names: Names) -> Table:
    """Read and check a table of devices.

    Raises:
        UserError: The file cannot be read, or is wrong: the message has a line for each error.
    """
    text = _decode(path, _read(path))
    delimiter, rows = _split(path, text)
    columns, errors = _check_header(rows[0][1] if rows else [])
    devices: list[TableDevice] = []
    if not errors:
        errors += _duplicates(rows[1:], columns)
        for number, cells in rows[1:]:
            device, wrong = _device(number, cells, columns, names)
            errors += [(number, text) for text in wrong]
            devices += [device] if device else []
        if not rows[1:]:
            errors.append((2, "there is no device; enter a row per device"))
    if errors:
        errors.sort(key=itemgetter(0))
        lines = [f"{path}: row {number}: {text}" for number, text in errors[:_ERRORS_SHOWN_MAX]]
        if len(errors) > _ERRORS_SHOWN_MAX:
            lines.append(f"{path}: {plural(len(errors) - _ERRORS_SHOWN_MAX, 'more error')}; correct these first")
        raise UserError("\n".join(lines))
    return Table(devices, _DELIMITERS[delimiter])


# --- file -------------------------------------------------------------------------------------------------------------


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as f:
            data = f.read(BYTES_MAX + 1)
    except OSError as e:
        raise UserError(f"{path}: {e.strerror}; give the table of devices, a CSV file") from None
    if len(data) > BYTES_MAX:
        raise UserError(f"{path}: larger than {BYTES_MAX >> 10} KB; split it into tables of up to {ROWS_MAX} devices")
    if not data:
        raise UserError(f"{path}: the file is empty; its first row is {','.join(COLUMNS)}")
    return data


def _decode(path: Path, data: bytes) -> str:
    """Return the text of a table, or say which encoding it seems to have."""
    if data.startswith(b"PK\x03\x04"):
        raise UserError(f"{path}: a workbook of a spreadsheet, no CSV file; {_UTF8_HINT}")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UserError(f"{path}: encoded as UTF-16, not UTF-8; {_UTF8_HINT}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        row = data.count(b"\n", 0, e.start) + 1
    encoding = "GBK" if _is_gbk(data) else "ISO-8859-1"
    raise UserError(
        f"{path}: row {row}: not UTF-8; it seems to be {encoding}. Convert it with "
        f"`iconv -f {encoding} -t UTF-8`, or {_UTF8_HINT}"
    )


def _is_gbk(data: bytes) -> bool:
    """Return whether bytes are text in GBK with Chinese characters. Two accented letters rarely follow each other."""
    try:
        text = data.decode("gb18030")
    except UnicodeDecodeError:
        return False
    return any("\u4e00" <= character <= "\u9fff" for character in text)


def _split(path: Path, text: str) -> tuple[str, list[tuple[int, list[str]]]]:
    """Return the delimiter and the rows that are not empty, each with its number."""
    header = text.lstrip("\r\n").partition("\n")[0]
    delimiter = max(_DELIMITERS, key=header.count)
    rows: list[tuple[int, list[str]]] = []
    number = 0
    try:
        for number, cells in enumerate(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True), 1):
            if any(cell.strip() for cell in cells):
                rows.append((number, [cell.strip(" ") for cell in cells]))
            if len(rows) > ROWS_MAX + 1:
                raise UserError(f"{path}: more than {ROWS_MAX} devices; split the table")
    except csv.Error as e:
        raise UserError(f"{path}: row {number + 1}: {e}; correct the quotes, or save the table again") from None
    return delimiter, rows


# --- checks -----------------------------------------------------------------------------------------------------------


def _check_header(cells: Sequence[str]) -> tuple[list[str], list[tuple[int, str]]]:
    """Return the names of the columns, and the errors with their row."""
    columns, errors = [cell.lower() for cell in cells], []
    for i, name in enumerate(columns, 1):
        if not name:
            errors.append(f"column {i} has no name; delete the column")
        elif name not in COLUMNS:
            close = difflib.get_close_matches(name, COLUMNS, 1)
            hint = f"did you mean {close[0]}?" if close else f"columns are {', '.join(COLUMNS)}"
            errors.append(f"unknown column '{printable(name)}'; {hint}")
        elif name in columns[: i - 1]:
            errors.append(f"two columns are named {name}; delete one of them")
    for name in REQUIRED:
        if name not in columns:
            errors.append(f"the column {name} is missing; the first row names the columns")
    return columns, [(1, text) for text in errors]


def _duplicates(rows: list[tuple[int, list[str]]], columns: list[str]) -> list[tuple[int, str]]:
    """Return an error for each value that an earlier row has."""
    errors = []
    for column in {"serial", "device", "unique_id"} & set(columns):
        first: dict[str, int] = {}
        for number, cells in rows:
            cell = cells[columns.index(column)] if len(cells) == len(columns) else ""
            # Folders are named after devices, and some file systems ignore case.
            value = plain_unique_id(cell) if column == "unique_id" else cell.casefold()
            if value and first.setdefault(value, number) != number:
                text = f"{column}: {printable(cell)} is in row {first[value]}, too; correct one of them"
                errors.append((number, text))
    return errors


def _device(number: int, cells: list[str], columns: list[str], names: Names) -> tuple[TableDevice | None, list[str]]:
    """Return the device of a row, or None, and what is wrong with it."""
    if len(cells) != len(columns):
        return None, [f"has {plural(len(cells), 'cell')} instead of {len(columns)}; check its separators and quotes"]
    named = dict(zip(columns, cells, strict=True))
    wrong = [f"{name}: {reason}" for name, cell in named.items() if (reason := _cell_error(cell))]
    if wrong:
        return None, wrong
    try:
        row = DeviceRow.model_validate(named)
    except ValidationError as e:
        return None, [f"{error['loc'][0]}: {error['msg'].removeprefix('Value error, ')}" for error in e.errors()]
    wrong, groups = _references(row, names)
    return None if wrong else TableDevice(row, number, groups), wrong


def _cell_error(cell: str) -> str:
    if len(cell) > _CELL_MAX_CHARACTERS:
        return f"has {len(cell)} characters; at most {_CELL_MAX_CHARACTERS} are possible, shorten it"
    return check_cell(cell)


def _references(row: DeviceRow, names: Names) -> tuple[list[str], tuple[int, ...]]:
    """Return what is wrong with the references of a row, and the numbers of its groups."""
    wrong, numbers = [], set()
    by_number = {str(number): number for number in names.groups.values()}
    for column, name in (("circle", row.circle), *(("groups", name) for name in split_groups(row.groups))):
        number = names.groups.get(name) or (by_number.get(name) if column == "groups" else None)
        if number is None:
            close = difflib.get_close_matches(name, names.groups, 1)
            hint = f"did you mean {close[0]!r}?" if close else "add the group to the site file, or correct the name"
            if column == "groups" and re.search(r"[,;]", name):
                hint = "separate names by |"
            wrong.append(f"{column}: the site has no talk group {name!r}; {hint}")
        else:
            numbers.add(number)
    if row.board not in names.boards:
        close = difflib.get_close_matches(row.board, names.boards, 1)
        hint = f"did you mean {close[0]}?" if close else f"boards are {', '.join(sorted(names.boards))}"
        wrong.append(f"board: there is no board {row.board!r}; {hint}")
    return wrong, tuple(sorted(numbers))
