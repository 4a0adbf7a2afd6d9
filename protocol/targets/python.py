"""Generates patrolink_messages.py and patrolink_enums.py (device and host) and patrolink_names.py (host only)."""

import re
from pathlib import Path
from typing import Any

from .model import INTEGERS, TEXTS, Field, Message, Pair, Schema

_LETTER = {"u8": "B", "i8": "b", "u16": "H", "i16": "h", "u32": "I", "i32": "i", "u64": "Q", "str": "s", "bytes": "x"}
_HEAD = '"""{} Generated from protocol/schema.toml by protocol/generate.py; do not edit."""'


def _spec(f: Field) -> str:
    """Return name:letter[:min[:max[:unknown]]], or name:s:max_bytes[:min_bytes[:0]]; limits of the type are omitted."""
    if f.type in TEXTS:
        return (
            f"{f.name}:{_LETTER[f.type]}:{f.high}" + (f":{f.low}" if f.low else "") + (":0" if f.unknown == 0 else "")
        )
    low, high = INTEGERS[f.type]
    parts = [f.name, _LETTER[f.type]]
    parts += ["" if f.low == low else str(f.low), "" if f.high == high else str(f.high)]
    parts.append("" if f.unknown is None else str(f.unknown))
    return ":".join(parts).rstrip(":")


def _lines(words: list[str], width: int) -> list[str]:
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + len(word) > width:
            lines[-1] += " "
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + word
    return lines


def _pair(m: Message, pair: Pair) -> str:
    fields = m.fields or ()
    return fields[pair.first].name + "=<"[pair.ordered] + fields[pair.second].name


def _mask(types: list[int]) -> str:
    return f"0x{sum(1 << t for t in types):08X}"


def render(schema: Schema) -> str:
    """Return the text of patrolink_messages.py: tables that need little memory, for MicroPython and CPython."""
    return "\n".join([*_constants(schema), *_message_table(schema), *_column_table(schema)])


def _constants(schema: Schema) -> list[str]:
    p = schema.protocol
    return [
        _HEAD.format("Tables of the Patrolink protocol."),
        "",
        f"VERSION = {p['version']}",
        f"MINOR = {p['minor']}",
        f"TAG_BYTES = {p['tag_bytes']}",
        f"LONG_TAG_BYTES = {p['long_tag_bytes']}",
        f"LONG_TAG_FROM = {p['long_tag_from']}",
        f"COUNTER_BITS = {p['counter_bits']}",
        f"FLAG_TAIL = {p['flag_tail']}",
        f"FLAG_PHASE = {p['flag_phase']}",
        f"FLAG_ENCRYPTED = {p['flag_encrypted']}",
        f"MAX_FRAME = {p['max_frame']}",
        f"MAX_BATCH = {p['max_batch']}",
        f"REPLAY_WINDOW = {p['replay_window']}",
        f"SCHEMA_HASH = 0x{schema.hash:08X}",
        f"TIME_MAX_MS = {schema.columns[0].high}",
        "",
        "# Bit t is set if type t is allowed up, is allowed down, is encrypted by its sender.",
        f"UP = {_mask([m.type for m in schema.messages if m.direction != 'down'])}",
        f"DOWN = {_mask([m.type for m in schema.messages if m.direction != 'up'])}",
        f"CONFIDENTIAL = {_mask([m.type for m in schema.messages if m.confidential])}",
        "",
        *[f"{m.name.upper()} = {m.type}" for m in schema.messages],
        "",
        "# Type, minimum and maximum length of each extension of this protocol; all are elective.",
        f"EXTENSIONS = ({', '.join(_extension(e) for e in schema.extensions.values())},)",
        "",
    ]


def _extension(extension: dict[str, Any]) -> str:
    return f"({extension['type']}, {extension['min_bytes']}, {extension['max_bytes']})"


def _message_table(schema: Schema) -> list[str]:
    lines = [
        "# Names of the reasons to refuse a frame, by code from 1.",
        f'REASONS = "{" ".join(sorted(schema.reject, key=lambda n: schema.reject[n]["code"]))}"',
        "",
        "# One line per message: type, name, one word per field: name:letter[:min[:max[:unknown]]], or",
        "# name:s:max_bytes[:min_bytes[:0]] (0: may be empty); then one word per pair of fields: lat_e7=lon_e7 (both",
        "# known or both unknown), lost<packets (at most, if both are known). One text, because tables of tuples would",
        "# need ten times the memory.",
        "MESSAGES = (",
        '    "\\n"',
    ]
    for m in schema.messages:
        words = [_spec(f) for f in m.fields or ()] + [_pair(m, pair) for pair in m.pairs]
        parts = _lines([str(m.type), m.name, *words], 105)
        parts[-1] += "\\n"
        lines += [f'    "{part}"' for part in parts]
    return [*lines, ")", ""]


def _column_table(schema: Schema) -> list[str]:
    lines = [
        "# name:divisor:raw bits:min:max:keyframe k:signed:optional:modulus; comma-separated values: by resolution",
        "COLUMNS = (",
    ]
    for c in schema.columns:
        k = -1 if c.k is None else c.k
        column: list[object] = [
            c.name,
            _each(c.divisors),
            _each(c.bits),
            c.low,
            c.high,
            k,
            int(c.signed),
            int(c.optional),
            c.modulus,
        ]
        lines.append(f'    "{":".join(map(str, column))} "')
    return [*lines, ")", ""]


def _each(values: tuple[int, int, int]) -> str:
    return ",".join(str(v) for v in (values if len(set(values)) > 1 else values[:1]))


def render_names(schema: Schema) -> str:
    """Return the text of patrolink_names.py: names of single values and bits of fields, for reports and JSON."""
    lines = [_HEAD.format("Names of values, for reports and JSON."), "", "NAMES = {"]
    for m in schema.messages:
        for f in m.fields or ():
            if f.names:
                pairs = ", ".join(f'{code}: "{name}"' for name, code in f.names.items())
                lines += [f'    ("{m.name}", "{f.name}"): {{', *[f"        {p}," for p in pairs.split(", ")], "    },"]
    lines += ["}", "", "BITS = {"]
    for m in schema.messages:
        for f in m.fields or ():
            if f.bits:
                lines += [f'    ("{m.name}", "{f.name}"): (', *[f'        "{b}",' for b in f.bits], "    ),"]
    lines += ["}", "", *[f"TIMER_{name.upper()} = {timer['value']}" for name, timer in schema.timers.items()], ""]
    return "\n".join(lines)


def used_enums(folders: list[Path]) -> set[str]:
    """Return the names that the Python files in these folders use as `enums.NAME`."""
    files = [path for folder in folders for path in folder.rglob("*.py")]
    return {name for path in files for name in re.findall(r"\benums\.([A-Z]\w+)", path.read_text(encoding="utf-8"))}


def render_enums(schema: Schema, used: set[str]) -> str:
    """Return the text of patrolink_enums.py: the named values and bits in `used`, as MESSAGE_FIELD_NAME.

    Others are left out: MicroPython's unix port runs the agent from source and keeps about 60 bytes of heap for each.
    """
    lines = [
        _HEAD.format("Constants of message fields."),
        "",
        "UNKNOWN = -(1 << 30)  # in a GPS fix or a position row: not known; the smallest integer that needs no heap",
        "",
        "# Named values are MESSAGE_FIELD_NAME = value, bits MESSAGE_FIELD_NAME = mask.",
    ]
    for m in schema.messages:
        for f in m.fields or ():
            prefix = f"{m.name}_{f.name}".upper()
            values = {f"{prefix}_{name.upper()}": str(code) for name, code in (f.names or {}).items()}
            values.update({f"{prefix}_{name.upper()}": f"0x{1 << i:X}" for i, name in enumerate(f.bits or ())})
            constants = [f"{name} = {value}" for name, value in values.items() if name in used]
            lines += ["", *constants] if constants else []
    timers = {f"TIMER_{name.upper()}": timer["value"] for name, timer in schema.timers.items()}
    constants = [f"{name} = {value}" for name, value in timers.items() if name in used]
    lines += ["", *constants] if constants else []
    return "\n".join(lines) + "\n"
