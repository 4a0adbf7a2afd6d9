"""schema → generated/patrolink_messages.py: plain tables, MicroPython and CPython alike."""

from .model import Schema


def render(schema: Schema) -> str:
    """Return the module's text."""
    p = schema.protocol
    lines = [
        '"""Tables of the Patrolink protocol. Made from protocol/schema.toml by protocol/generate.py; do not edit."""',
        "",
        f"VERSION = {p['version']}",
        f"TAG_BYTES = {p['tag_bytes']}",
        f"COUNTER_BITS = {p['counter_bits']}",
        f"MAX_FRAME = {p['max_frame']}",
        f"MAX_BATCH = {p['max_batch']}",
        f"SCHEMA_HASH = 0x{schema.hash:08X}",
        "",
    ]
    lines += [f"{m.name.upper()} = {m.type}" for m in schema.messages]
    lines += ["", "REJECT = {"]
    lines += [f'    "{name}": {r["code"]},' for name, r in schema.reject.items()]
    lines += [
        "}",
        "",
        "# type: (name, ((field, type, min, max or most bytes, unknown), ...)); None for a position batch",
        "MESSAGES = {",
    ]
    for m in schema.messages:
        if m.fields is None:
            lines.append(f'    {m.type}: ("{m.name}", None),')
            continue
        lines += [f"    {m.type}: (", f'        "{m.name}",', "        ("]
        lines += [f'            ("{f.name}", "{f.type}", {f.low}, {f.high}, {f.unknown}),' for f in m.fields]
        lines += ["        ),", "    ),"]
    lines += ["}", "", "# (name, divisor, min, max, raw bits, keyframe k, signed, optional)", "COLUMNS = ("]
    lines += [
        f'    ("{c.name}", {c.divisor}, {c.low}, {c.high}, {c.bits}, {c.k}, {c.signed}, {c.optional}),'
        for c in schema.columns
    ]
    lines += [")", ""]
    return "\n".join(lines)
