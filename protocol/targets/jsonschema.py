"""Generates patrolink.schema.json, the JSON Schema of a line of `patrolink decode --format jsonl`."""

import json
from typing import Any

from .model import TEXTS, Field, Message, Pair, Schema

_TIME = {"type": ["string", "null"], "format": "date-time", "description": "RFC 3339, UTC"}
_COMMON = {
    "device": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,32}$"},
    "counter": {"type": "integer", "minimum": 0, "maximum": 268435455},
}
_EXTENSIONS = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "type": {"type": "integer", "minimum": 1, "maximum": 127},
            "value": {"type": "string", "pattern": "^([0-9a-f]{2})*$"},
        },
        "required": ["type", "value"],
    },
}


def _number(low: float, high: float, description: str, kind: str = "number") -> dict[str, Any]:
    return {"type": [kind, "null"], "minimum": low, "maximum": high, "description": description}


def _field(f: Field) -> dict[str, Any]:
    description = f"{f.doc} ({f.unit})" if f.unit else f.doc
    if f.type == "bytes":
        digits = f"([0-9a-f]{{2}}){{{f.low},{f.high}}}"
        pattern = f"^({digits})?$" if f.unknown == 0 else f"^{digits}$"
        return {"type": "string", "pattern": pattern, "description": description}
    if f.type == "str":
        return {"type": "string", "maxLength": f.high, "description": description}
    if f.bits:
        return {"type": "array", "items": {"type": "string"}, "uniqueItems": True, "description": description}
    integer = {"type": "integer", "minimum": f.low, "maximum": f.high}
    choices: list[dict[str, Any]] = [{"enum": list(f.names)}, integer] if f.names else [integer]
    if f.unknown is not None:
        choices.append({"type": "null"})
    return {**(choices[0] if len(choices) == 1 else {"anyOf": choices}), "description": description}


def _both_or_none(m: Message, pair: Pair) -> dict[str, Any]:
    """Return the rule that two fields are both known or both not. An order of fields cannot be expressed."""
    fields = m.fields or ()
    first, second = fields[pair.first], fields[pair.second]

    def rule(f: Field, known: bool) -> dict[str, Any]:
        unknown = {"const": ""} if f.type in TEXTS else {"type": "null"}
        return {"properties": {f.name: {"not": unknown} if known else unknown}}

    return {"oneOf": [{"allOf": [rule(first, known), rule(second, known)]} for known in (True, False)]}


def _object(name: str, description: str, properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "description": description,
        "properties": {"record": {"const": name}, **properties, "extensions": _EXTENSIONS},
        "required": ["record", *properties],
        "additionalProperties": False,
    }


def _position(schema: Schema) -> dict[str, Any]:
    rules = {c.name: c for c in schema.columns}
    properties: dict[str, Any] = {"time": _TIME}
    for name, key, units_per_si in (
        ("lat", "lat_deg", 1e7),
        ("lon", "lon_deg", 1e7),
        ("alt", "alt_m", 1e3),
        ("speed", "speed_mps", 1e3),
        ("course", "course_deg", 1e2),
        ("hacc", "hacc_m", 1e3),
    ):
        c = rules[name]
        properties[key] = _number(c.low / units_per_si, round(c.high / units_per_si, 2), c.doc)
    properties["sats"] = _number(0, rules["sats"].high, rules["sats"].doc, "integer")
    properties["battery_pct"] = _number(0, 100, rules["battery"].doc, "integer")
    properties["mode"] = {"enum": [1, 2, 3], "description": "1 none, 2 2D, 3 3D"}
    for name in ("date_suspect", "estimated", "differential"):
        properties[name] = {"type": "boolean"}
    return _object("position", "One row of a position batch.", {**properties, **_COMMON})


def render(schema: Schema) -> str:
    """Return the text of the JSON Schema (draft 2020-12)."""
    messages = [_position(schema)]
    for m in schema.messages:
        if m.fields is not None and m.direction != "down":
            fields = {f.name: _field(f) for f in m.fields}
            record = _object(m.name, m.doc, {**_COMMON, "time": _TIME, **fields})
            together = [_both_or_none(m, pair) for pair in m.pairs if not pair.ordered]
            messages.append({**record, "allOf": together} if together else record)
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A decoded Patrolink message from a device",
        "description": "Generated from protocol/schema.toml by protocol/generate.py. null means not known.",
        "oneOf": messages,
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"
