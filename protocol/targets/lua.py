"""Generates patrolink.lua, a dissector for Wireshark: tables of the schema, then the dissector_*.lua files."""

from pathlib import Path

from .model import Column, Field, Message, Schema

_FOLDER = Path(__file__).resolve().parent
_PARTS = ("base", "crypto", "keys", "receiver", "batch", "messages", "frames", "serial", "bindings")
_EXACT_MAX = 1 << 53  # Lua computes with doubles
# Row unit: divisor and unit for display.
_DISPLAY_UNITS = {"1e-7 deg": (10_000_000, "deg"), "mm": (1000, "m"), "mm/s": (1000, "m/s"), "1e-2 deg": (100, "deg")}


def _string(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _field(f: Field) -> str:
    parts = [f"name = {_string(f.name)}, type = {_string(f.type)}, size = {f.size}"]
    if f.high <= _EXACT_MAX:
        parts.append(f"low = {f.low}, high = {f.high}")
    if f.unknown is not None:
        parts.append(f"unknown = {f.unknown}")
    parts.append(f"unit = {_string(f.unit)}")
    if f.names:
        parts.append("names = { " + ", ".join(f"[{code}] = {_string(name)}" for name, code in f.names.items()) + " }")
    if f.bits:
        parts.append("bits = { " + ", ".join(_string(b) for b in f.bits) + " }")
    return "        { " + ", ".join(parts) + " },"


def _message(m: Message) -> list[str]:
    head = f"    [{m.type}] = {{ name = {_string(m.name)}, direction = {_string(m.direction)}, "
    head += f"confidential = {str(m.confidential).lower()}"
    if m.fields is None:
        return [head + " },"]
    if m.pairs:
        rules = [f"{{ {p.first + 1}, {p.second + 1}, ordered = {str(p.ordered).lower()} }}" for p in m.pairs]
        head += ", pairs = { " + ", ".join(rules) + " }"
    return [head + ", fields = {", *[_field(f) for f in m.fields], "    } },"]


def _column(c: Column) -> str:
    scale, unit = _DISPLAY_UNITS.get(c.unit, (1, c.unit))
    divisor, bits = (", ".join(str(v) for v in three) for three in (c.divisors, c.bits))
    return (
        f"    {{ name = {_string(c.name)}, unit = {_string(unit)}, scale = {scale}, low = {c.low}, high = {c.high}, "
        f"divisor = {{ {divisor} }}, bits = {{ {bits} }}, k = {-1 if c.k is None else c.k}, "
        f"signed = {str(c.signed).lower()}, optional = {str(c.optional).lower()}, modulus = {c.modulus} }},"
    )


def render(schema: Schema) -> str:
    """Return the text of the dissector."""
    p = schema.protocol
    names = [c.name for c in schema.columns]
    lines = [
        "-- Patrolink for Wireshark. Generated from protocol/schema.toml by protocol/generate.py; do not edit.",
        "-- Copy it to Wireshark's folder for Lua plugins, or name it: tshark -X lua_script:patrolink.lua -r X.pcap",
        "",
        f"local VERSION, HEADER = {p['version']}, 5",
        f"local TAG_BYTES, LONG_TAG_BYTES = {p['tag_bytes']}, {p['long_tag_bytes']}",
        f"local LONG_TAG_FROM = {p['long_tag_from']}",
        f"local FLAG_TAIL, FLAG_PHASE = {p['flag_tail']}, {p['flag_phase']}",
        f"local FLAG_ENCRYPTED = {p['flag_encrypted']}",
        f"local MAX_FRAME, MAX_BATCH = {p['max_frame']}, {p['max_batch']}",
        f"local COUNTER_BITS, REPLAY_WINDOW = {p['counter_bits']}, {p['replay_window']}",
        f"local OPTIONAL, STATE = {sum(c.optional for c in schema.columns)}, {names.index('state') + 1}",
        "",
        f"local TIME_MAX = {schema.columns[0].high} -- milliseconds: 32 bits of seconds",
        "",
        "local EXTENSIONS = {",
        *[f"    [{e['type']}] = {_string(name)}," for name, e in schema.extensions.items()],
        "}",
        "",
        "-- Legal lengths of their values.",
        "local EXTENSION_BYTES = {",
        *[f"    [{e['type']}] = {{ {e['min_bytes']}, {e['max_bytes']} }}," for e in schema.extensions.values()],
        "}",
        "",
        "local MESSAGES = {",
        *[line for m in schema.messages for line in _message(m)],
        "}",
        "",
        "local COLUMNS = {",
        *[_column(c) for c in schema.columns],
        "}",
        "",
    ]
    parts = [(_FOLDER / f"dissector_{name}.lua").read_text(encoding="utf-8") for name in _PARTS]
    return "\n".join([*lines, "".join(parts)])
