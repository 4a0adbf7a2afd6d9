"""Writes and reads ROMFS, MicroPython's read-only file system (extmod/vfs_rom_file.c).

A ROMFS is 0xD2CD31, its length, and records. A record is a kind, a length and a payload; numbers have 7 bits per byte,
highest first, with the highest bit set in all bytes but the last. The payload of a directory or file is the length of
its name, the name, and records: entries of the directory, or the data of the file.
"""

from collections.abc import Iterator, Mapping
from typing import Union

from patrolink.core.text import plural

_MAGIC = b"\xd2\xcd\x31"
_DATA, _DIRECTORY, _FILE = 2, 4, 5  # kinds of records; others are skipped, as MicroPython does
_NUMBER_BYTES_MAX = 5
_DEPTH_MAX = 16

_Tree = dict[str, Union[bytes, "_Tree"]]


class RomfsError(ValueError):
    """Data is not a ROMFS, or it is damaged."""


def write(files: Mapping[str, bytes]) -> bytes:
    """Return a ROMFS; the same files give the same bytes.

    Args:
        files: Content of each file by its path, with slashes and without one at the start.
    """
    tree: _Tree = {}
    for path, content in files.items():
        *folders, name = path.split("/")
        folder = tree
        for part in folders:
            entry = folder.setdefault(part, {})
            if not isinstance(entry, dict):
                raise ValueError(f"{path}: {part} is a file")
            folder = entry
        folder[name] = content
    data = _entries(tree)
    length = _number(len(data))
    if (len(_MAGIC) + len(length) + len(data)) % 2:
        length = b"\x80" + length  # the whole is of even length
    return _MAGIC + length + data


def _entries(tree: _Tree) -> bytes:
    out = bytearray()
    for name, entry in sorted(tree.items()):
        encoded = name.encode("ascii")
        is_folder = isinstance(entry, dict)
        content = _entries(entry) if isinstance(entry, dict) else _record(_DATA, entry)
        out += _record(_DIRECTORY if is_folder else _FILE, _number(len(encoded)) + encoded + content)
    return bytes(out)


def _record(kind: int, payload: bytes) -> bytes:
    return _number(kind) + _number(len(payload)) + payload


def _number(value: int) -> bytes:
    out = [value & 127]
    while value := value >> 7:
        out.insert(0, value & 127 | 128)
    return bytes(out)


def read(data: bytes) -> dict[str, bytes]:
    """Return the content of each file by its path.

    Raises:
        RomfsError: The data is not a ROMFS, or damaged: a record does not end within what contains it.
    """
    if not data.startswith(_MAGIC):
        raise RomfsError("does not begin with the magic number of ROMFS")
    length, at = _read_number(data, len(_MAGIC), len(data))
    if at + length != len(data):
        raise RomfsError(f"{plural(length, 'byte')} of records in a file with {len(data) - at}")
    files: dict[str, bytes] = {}
    for path, content in _files(data, at, len(data), "", 0):
        if path in files:
            raise RomfsError(f"{path!r} exists twice")
        files[path] = content
    return files


def _files(data: bytes, at: int, end: int, folder: str, depth: int) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of the files of a directory."""
    if depth > _DEPTH_MAX:
        raise RomfsError(f"more than {_DEPTH_MAX} folders in each other")
    for kind, start, stop in _records(data, at, end):
        if kind not in (_DIRECTORY, _FILE):
            continue
        length, start = _read_number(data, start, stop)
        if not 0 < length <= stop - start:
            raise RomfsError("a name is empty or longer than its record")
        name = data[start : start + length].decode("utf-8", "replace")
        if "/" in name or name in (".", ".."):
            raise RomfsError(f"the name {name!r} is not valid")
        start += length
        if kind == _DIRECTORY:
            yield from _files(data, start, stop, f"{folder}{name}/", depth + 1)
        else:
            contents = [data[a:b] for inner, a, b in _records(data, start, stop) if inner == _DATA]
            if len(contents) != 1:
                raise RomfsError(f"the file {folder + name!r} has no data in its record")
            yield folder + name, contents[0]


def _records(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield kind, start and end of the payload of each record."""
    while at < end:
        kind, at = _read_number(data, at, end)
        length, at = _read_number(data, at, end)
        if length > end - at:
            raise RomfsError(f"a record of {plural(length, 'byte')} where {end - at} are left")
        yield kind, at, at + length
        at += length


def _read_number(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Return the number at a position and the position after it."""
    value = 0
    for i in range(at, min(at + _NUMBER_BYTES_MAX, end)):
        value = value << 7 | data[i] & 127
        if data[i] < 128:
            return value, i + 1
    raise RomfsError("a number does not end")
