"""The schema as validated data, for all targets."""

import hashlib
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

INTEGERS = {
    "u8": (0, 255),
    "i8": (-128, 127),
    "u16": (0, 65535),
    "i16": (-32768, 32767),
    "u32": (0, 4294967295),
    "i32": (-2147483648, 2147483647),
    "u64": (0, 18446744073709551615),
}
TEXTS = ("str", "bytes")
DIRECTIONS = ("up", "down", "both")
RESERVED = ("record", "message", "device", "counter", "time", "repeated", "expired", "extensions")  # of decoded rows


class SchemaError(Exception):
    """schema.toml contains something that cannot be generated."""


@dataclass(frozen=True)
class Field:
    """A field of a scalar message.

    Attributes:
        low: Minimum; for str and bytes, the minimum length.
        high: Maximum; for str and bytes, the maximum length.
        unknown: Code for "not known"; for str and bytes, 0 if they may be empty too.
        names: Value by name.
        bits: Names of bits, lowest first.
    """

    name: str
    type: str
    low: int
    high: int
    unknown: int | None
    unit: str
    names: dict[str, int]
    bits: tuple[str, ...]
    since: str
    doc: str

    @property
    def size(self) -> int:
        """Length on the wire of an integer, or of the length of str and bytes."""
        if self.type in TEXTS:
            return 1 if self.high <= 255 else 2
        return int(self.type[1:]) // 8


class Pair(NamedTuple):
    """A rule on two fields of a message, given by their indices.

    Attributes:
        ordered: The first is at most the second, if both are known. Else: both are known, or both are not.
    """

    ordered: bool
    first: int
    second: int


@dataclass(frozen=True)
class Message:
    """A message type.

    Attributes:
        pairs: Rules on two fields.
        long_tag: Whether its tag is long, which its number decides.
        confidential: Whether its sender encrypts it.
        fields: None for a position batch.
    """

    name: str
    type: int
    direction: str
    long_tag: bool
    confidential: bool
    req: str
    since: str
    doc: str
    fields: tuple[Field, ...] | None
    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class Column:
    """A column of a position batch.

    Attributes:
        divisors: For resolutions 5, 6, 7; zeros for time, whose divisor is the tick of the batch.
        bits: Width of raw values for resolutions 5, 6, 7.
        k: Order of the keyframe's Exp-Golomb code; None: plain bits.
        modulus: 0 if the column is not cyclic.
    """

    name: str
    unit: str
    divisors: tuple[int, int, int]
    low: int
    high: int
    bits: tuple[int, int, int]
    k: int | None
    signed: bool
    optional: bool
    modulus: int
    doc: str


@dataclass(frozen=True)
class Schema:
    """The whole schema.

    Attributes:
        requirements: Text by id: those of [requirement], and those of the messages.
        hash: First 4 bytes of SHA-256 over the canonical JSON of the schema without documentation.
    """

    protocol: dict[str, Any]
    reject: dict[str, dict[str, Any]]
    requirements: dict[str, str]
    extensions: dict[str, dict[str, Any]]
    timers: dict[str, dict[str, Any]]
    messages: tuple[Message, ...]
    columns: tuple[Column, ...]
    hash: int


def _field(raw: dict[str, Any], where: str, since: str) -> Field:
    where = f"{where}.{raw['name']}"
    kind = raw["type"]
    if kind in TEXTS:
        low, high = raw.get("min_bytes", 0), raw["max_bytes"]
        unknown = 0 if raw.get("empty") else None
        if not (1 if raw.get("empty") else 0) <= low <= high <= (255 if kind == "str" else 65535):
            raise SchemaError(f"{where}: {low} to {high} bytes do not fit the length of {kind}")
    elif kind in INTEGERS:
        wide = INTEGERS[kind]
        low, high = raw.get("min", wide[0]), raw.get("max", wide[1])
        unknown = raw.get("unknown")
        if unknown == high:
            high -= 1
        if unknown == low:
            low += 1
        if not wide[0] <= low <= high <= wide[1]:
            raise SchemaError(f"{where}: min..max {low}..{high} does not fit {kind}")
        if unknown is not None and (low <= unknown <= high or not wide[0] <= unknown <= wide[1]):
            raise SchemaError(f"{where}: the unknown code {unknown} must fit {kind} and be outside {low}..{high}")
    else:
        raise SchemaError(f"{where}: unknown type {kind!r}; use {', '.join(TEXTS)} or one of {', '.join(INTEGERS)}")
    names = raw.get("names", {})
    if any(not low <= value <= high for value in names.values()) or len(set(names.values())) != len(names):
        raise SchemaError(f"{where}: names must be distinct values in {low}..{high}")
    return Field(
        raw["name"],
        kind,
        low,
        high,
        unknown,
        raw.get("unit", ""),
        names,
        tuple(raw.get("bits", ())),
        raw.get("since", since),
        raw["doc"],
    )


def _message(raw: dict[str, Any], long_tag_from: int) -> Message:
    since = raw.get("since", "1.0")
    if raw.get("direction") not in DIRECTIONS:
        raise SchemaError(f"{raw['name']}: direction must be one of {', '.join(DIRECTIONS)}")
    if not re.fullmatch(r"[A-Z]+-[0-9]+", raw["req"]):
        raise SchemaError(f"{raw['name']}: a requirement id must be a word and a number, for example HELLO-1")
    fields = None if raw.get("track") else tuple(_field(f, raw["name"], since) for f in raw["fields"])
    if fields and len({f.name for f in fields}) != len(fields):
        raise SchemaError(f"{raw['name']}: two fields have the same name")
    if fields and any(f.name in RESERVED for f in fields):
        raise SchemaError(f"{raw['name']}: no field may have one of the names {', '.join(RESERVED)}")
    pairs = [_pair(raw["name"], fields or (), True, pair) for pair in raw.get("ordered", ())]
    pairs += [_pair(raw["name"], fields or (), False, pair) for pair in raw.get("together", ())]
    return Message(
        raw["name"],
        raw["type"],
        raw["direction"],
        raw["type"] >= long_tag_from,
        raw.get("confidential", False),
        raw["req"],
        since,
        raw["doc"],
        fields,
        tuple(pairs),
    )


def _pair(message: str, fields: tuple[Field, ...], ordered: bool, pair: list[str]) -> Pair:
    names = [f.name for f in fields]
    if len(pair) != 2 or not set(pair) <= set(names):
        raise SchemaError(f"{message}: a pair must name two fields, not {pair}")
    first, second = (names.index(name) for name in pair)
    if ordered and any(f.type in TEXTS for f in (fields[first], fields[second])):
        raise SchemaError(f"{message}: {pair} are not both numbers")
    if not ordered and None in (fields[first].unknown, fields[second].unknown):
        raise SchemaError(f"{message}: both fields of {pair} need a code for not known")
    return Pair(ordered, first, second)


def _three(value: int | list[int]) -> tuple[int, int, int]:
    low, middle, high = value if isinstance(value, list) else [value] * 3
    return low, middle, high


def _column(raw: dict[str, Any]) -> Column:
    return Column(
        raw["name"],
        raw["unit"],
        _three(raw.get("divisor", 0)),
        raw.get("min", 0),
        raw.get("max", 0),
        _three(raw["bits"]),
        raw.get("k"),
        raw.get("signed", False),
        raw.get("optional", False),
        raw.get("modulus", 0),
        raw["doc"],
    )


def _without_doc(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_doc(v) for k, v in value.items() if k not in ("doc", "text", "requirement")}
    if isinstance(value, list):
        return [_without_doc(v) for v in value]
    return value


def load(path: Path) -> Schema:
    """Read and validate schema.toml.

    Raises:
        SchemaError: the schema is invalid.
    """
    raw = tomllib.loads(path.read_text(encoding="utf-8"))
    canonical = json.dumps(_without_doc(raw), sort_keys=True, separators=(",", ":"))
    messages = tuple(_message(m, raw["protocol"]["long_tag_from"]) for m in raw["message"])
    types = [m.type for m in messages]
    if len(set(types)) != len(types) or not all(0 < t < 32 for t in types):
        raise SchemaError("message types must be distinct numbers from 1 to 31")
    requirements = dict(raw["requirement"])
    for m in messages:
        if m.req in requirements:
            raise SchemaError(f"{m.name}: {m.req} is already the id of another requirement")
        requirements[m.req] = m.doc
    return Schema(
        raw["protocol"],
        raw["reject"],
        requirements,
        raw["extension"],
        raw["timer"],
        messages,
        tuple(_column(c) for c in raw["column"]),
        int.from_bytes(hashlib.sha256(canonical.encode()).digest()[:4], "big"),
    )
