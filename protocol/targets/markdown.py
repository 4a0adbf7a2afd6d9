"""Generates the tables of SPEC.md, between `<!-- table:NAME -->` and `<!-- end -->` markers."""

import re

from . import example
from .model import TEXTS, Field, Message, Pair, Schema, SchemaError


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _messages(schema: Schema) -> str:
    rows = [
        [
            str(m.type),
            m.name,
            m.direction,
            "16" if m.long_tag else "8",
            "yes" if m.confidential else "no",
            m.req,
            m.since,
            m.doc,
        ]
        for m in schema.messages
    ]
    header = ["type", "message", "direction", "tag bytes", "encrypted", "requirement", "since", "description"]
    return _table(header, rows)


def _meaning(f: Field) -> str:
    values = ", ".join(f"{code} {name}" for name, code in f.names.items())
    bits = ", ".join(f"bit {i} {name}" for i, name in enumerate(f.bits))
    return f.doc + (f": {values or bits}" if values or bits else "")


def _fields(schema: Schema) -> str:
    parts = []
    for m in schema.messages:
        if m.fields is None:
            continue
        rows = []
        for f in m.fields:
            legal = f"{f.low} to {f.high}" + (" bytes" if f.type in TEXTS else "")
            if f.low == f.high:
                legal = f"{f.low}" + (" bytes" if f.type in TEXTS else "")
            unknown = "" if f.unknown is None else "empty" if f.type in TEXTS else str(f.unknown)
            rows.append([f.name, f.type, legal, unknown, f.unit, _meaning(f)])
        parts.append(
            f"### {m.name} (type {m.type}, {m.direction}, {m.req})\n\n{m.doc}\n\n"
            + _table(["field", "type", "legal", "unknown", "unit", "description"], rows)
            + "".join(_pair(m, pair) for pair in m.pairs)
        )
    return "\n\n".join(parts)


def _pair(m: Message, pair: Pair) -> str:
    fields = m.fields or ()
    first, second = fields[pair.first].name, fields[pair.second].name
    if pair.ordered:
        return f"\n\n`{first}` is at most `{second}`, if both are known."
    return f"\n\n`{first}` and `{second}` are both known, or both not."


def _each(values: tuple[int, int, int]) -> str:
    return str(values[0]) if len(set(values)) == 1 else " / ".join(str(v) for v in values)


def _columns(schema: Schema) -> str:
    rows = []
    for c in schema.columns:
        time = c.name == "time"
        first = "implied 0" if time else f"{_each(c.bits)} bits" if c.k is None else f"EG{c.k}"
        if c.k is not None and c.signed:
            first += " zigzag"
        legal = f"{c.low} to {c.high}"
        rows.append(
            [
                c.name,
                c.unit,
                "tick" if time else _each(c.divisors),
                legal,
                _each(c.bits),
                first,
                "yes" if c.optional else "no",
                str(c.modulus or ""),
                c.doc,
            ]
        )
    header = ["column", "row unit", "divisor", "legal", "raw bits", "keyframe", "optional", "modulus", "description"]
    return _table(header, rows)


def _requirements(schema: Schema) -> str:
    return _table(["id", "requirement"], [[i, text] for i, text in sorted(schema.requirements.items(), key=_order)])


def _order(item: tuple[str, str]) -> tuple[str, int]:
    word, number = item[0].rsplit("-", 1)
    return word, int(number)


def _extensions(schema: Schema) -> str:
    rows = [
        [str(e["type"]), name, f"{e['min_bytes']} to {e['max_bytes']}", e["doc"]]
        for name, e in schema.extensions.items()
    ]
    return _table(["type", "extension", "bytes", "description"], rows)


def _timers(schema: Schema) -> str:
    rows = [
        [t["req"], name, f"{t['value']} {t['unit']}".strip(), t["level"], t["doc"]] for name, t in schema.timers.items()
    ]
    return _table(["id", "timer", "value", "level", "description"], rows)


def _reject(schema: Schema) -> str:
    return _table(["code", "name", "meaning"], [[str(r["code"]), n, r["text"]] for n, r in schema.reject.items()])


def _limits(schema: Schema) -> str:
    p = schema.protocol
    rows = [
        ["version", f"{p['version']}.{p['minor']}"],
        ["longest frame", f"{p['max_frame']} bytes"],
        ["rows in a batch", f"1 to {p['max_batch']}"],
        ["tag", f"{p['tag_bytes']} bytes, {p['long_tag_bytes']} for the types from {p['long_tag_from']} on"],
        ["counter", f"{p['counter_bits']} bits"],
        ["replay window of a host", f"{p['replay_window']} counters"],
        ["schema hash", f"0x{schema.hash:08X}"],
    ]
    return _table(["limit", "value"], rows)


def fill(text: str, schema: Schema) -> str:
    """Return SPEC.md with all tables regenerated.

    Raises:
        SchemaError: a marker names a table that does not exist.
    """
    tables = {
        "messages": _messages,
        "fields": _fields,
        "columns": _columns,
        "reject": _reject,
        "limits": _limits,
        "requirements": _requirements,
        "extensions": _extensions,
        "timers": _timers,
    }

    def replace(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in tables:
            raise SchemaError(f"SPEC.md: no table {name!r}; there are {', '.join(tables)}")
        return f"<!-- table:{name} -->\n{tables[name](schema)}\n<!-- end -->"

    text = re.sub(
        r"<!-- example -->\n.*?<!-- end -->",
        lambda _: f"<!-- example -->\n{example.render()}\n<!-- end -->",
        text,
        flags=re.S,
    )
    return re.sub(r"<!-- table:(\w+) -->\n.*?<!-- end -->", replace, text, flags=re.S)
