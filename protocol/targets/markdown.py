"""schema → the tables of SPEC.md, between `<!-- table:NAME -->` and `<!-- end -->` markers."""

import re

from .model import Schema, SchemaError


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _messages(schema: Schema) -> str:
    return _table(
        ["type", "message", "requirement", "what"], [[str(m.type), m.name, m.req, m.doc] for m in schema.messages]
    )


def _fields(schema: Schema) -> str:
    parts = []
    for m in schema.messages:
        if m.fields is None:
            continue
        rows = []
        for f in m.fields:
            legal = f"up to {f.high} bytes" if f.type == "str" else f"{f.low} to {f.high}"
            unknown = "" if f.unknown is None else str(f.unknown)
            rows.append([f.name, f.type, legal, unknown, f.unit, f.doc])
        parts.append(
            f"### {m.name} (type {m.type}, {m.req})\n\n"
            + _table(["field", "type", "legal", "unknown", "unit", "what"], rows)
        )
    return "\n\n".join(parts)


def _columns(schema: Schema) -> str:
    rows = []
    for c in schema.columns:
        divisor = str(c.divisor) if c.divisor else ("tick" if c.name == "time" else "10^(7-r)")
        first = "implied 0" if c.name == "time" else f"{c.bits} bits" if c.k is None else f"EG{c.k}"
        legal = "" if c.low == c.high else f"{c.low} to {c.high}"
        rows.append([c.name, c.unit, divisor, legal, str(c.bits), first, "yes" if c.optional else "no", c.doc])
    return _table(["column", "row unit", "divisor", "legal", "raw bits", "keyframe", "optional", "what"], rows)


def _reject(schema: Schema) -> str:
    return _table(["code", "name", "meaning"], [[str(r["code"]), n, r["text"]] for n, r in schema.reject.items()])


def _limits(schema: Schema) -> str:
    p = schema.protocol
    rows = [
        ["version", str(p["version"])],
        ["longest frame", f"{p['max_frame']} bytes"],
        ["rows in a batch", f"1 to {p['max_batch']}"],
        ["tag", f"{p['tag_bytes']} bytes"],
        ["counter", f"{p['counter_bits']} bits"],
        ["schema hash", f"0x{schema.hash:08X}"],
    ]
    return _table(["limit", "value"], rows)


def fill(text: str, schema: Schema) -> str:
    """Return SPEC.md with every table made anew; SchemaError when a marker names no table."""
    tables = {"messages": _messages, "fields": _fields, "columns": _columns, "reject": _reject, "limits": _limits}

    def one(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in tables:
            raise SchemaError(f"SPEC.md: no table {name!r}; there are {', '.join(tables)}")
        return f"<!-- table:{name} -->\n{tables[name](schema)}\n<!-- end -->"

    return re.sub(r"<!-- table:(\w+) -->\n.*?<!-- end -->", one, text, flags=re.S)
