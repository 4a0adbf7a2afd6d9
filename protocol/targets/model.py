"""The schema as checked data, for every target."""

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

INTEGERS = {"u8": (0, 255), "i8": (-128, 127), "u16": (0, 65535), "i16": (-32768, 32767), "u32": (0, 4294967295)}


class SchemaError(Exception):
    """schema.toml says something that cannot be generated."""


@dataclass(frozen=True)
class Field:
    name: str
    type: str
    low: int
    high: int  # for a string: its most bytes
    unknown: int | None
    unit: str
    doc: str


@dataclass(frozen=True)
class Message:
    name: str
    type: int
    doc: str
    req: str
    fields: tuple[Field, ...] | None  # None: a position batch


@dataclass(frozen=True)
class Column:
    name: str
    unit: str
    divisor: int  # 0: set per batch
    low: int
    high: int
    bits: int
    k: int | None
    signed: bool
    optional: bool
    doc: str


@dataclass(frozen=True)
class Schema:
    protocol: dict[str, Any]
    reject: dict[str, dict[str, Any]]
    messages: tuple[Message, ...]
    columns: tuple[Column, ...]
    hash: int  # first 4 bytes of SHA-256 over the canonical JSON of the schema, documentation left out


def _field(raw: dict[str, Any], where: str) -> Field:
    kind = raw["type"]
    if kind == "str":
        return Field(raw["name"], kind, 0, raw["max_bytes"], None, raw.get("unit", ""), raw["doc"])
    if kind not in INTEGERS:
        raise SchemaError(f"{where}.{raw['name']}: unknown type {kind!r}; use str or one of {', '.join(INTEGERS)}")
    low, high = INTEGERS[kind]
    wide = (low, high)
    low, high = raw.get("min", low), raw.get("max", high)
    unknown = raw.get("unknown")
    if unknown == high:
        high -= 1
    if not wide[0] <= low <= high <= wide[1]:
        raise SchemaError(f"{where}.{raw['name']}: min..max {low}..{high} does not fit {kind}")
    return Field(raw["name"], kind, low, high, unknown, raw.get("unit", ""), raw["doc"])


def _column(raw: dict[str, Any]) -> Column:
    return Column(
        raw["name"],
        raw["unit"],
        raw.get("divisor", 0),
        raw.get("min", 0),
        raw.get("max", 0),
        raw["bits"],
        raw.get("k"),
        raw.get("signed", False),
        raw.get("optional", False),
        raw["doc"],
    )


def _without_doc(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_doc(v) for k, v in value.items() if k not in ("doc", "text")}
    if isinstance(value, list):
        return [_without_doc(v) for v in value]
    return value


def load(path: Path) -> Schema:
    """Read and check schema.toml; SchemaError says what to mend."""
    raw = tomllib.loads(path.read_text(encoding="utf-8"))
    canonical = json.dumps(_without_doc(raw), sort_keys=True, separators=(",", ":"))
    messages = tuple(
        Message(
            m["name"],
            m["type"],
            m["doc"],
            m["req"],
            None if m.get("track") else tuple(_field(f, m["name"]) for f in m["fields"]),
        )
        for m in raw["message"]
    )
    types = [m.type for m in messages]
    if len(set(types)) != len(types) or not all(0 < t < 32 for t in types):
        raise SchemaError("message types are distinct numbers from 1 to 31")
    return Schema(
        raw["protocol"],
        raw["reject"],
        messages,
        tuple(_column(c) for c in raw["column"]),
        int.from_bytes(hashlib.sha256(canonical.encode()).digest()[:4], "big"),
    )
