"""Generates patrolink.h and patrolink.c: C99, freestanding (no libc), no allocation.

core.h and the core_*.c files do not depend on the schema; the generated tables and structures precede them.
"""

from pathlib import Path

from .model import TEXTS, Field, Message, Pair, Schema

_FOLDER = Path(__file__).resolve().parent
_CORE_PARTS = (
    *("core_sha256.c", "core_frames.c", "core_messages.c", "core_decode_batch.c", "core_encode_batch.c"),
    "core_serial.c",
)
_HEAD = "/* {} Generated from protocol/schema.toml by protocol/generate.py; do not edit. */\n"
# The signed kinds are odd: core_messages.c relies on it.
_NAME = ("#ifdef PATROLINK_NAMES", "    const char *name;", "#endif")
# Keywords of C and C++ (ISO/IEC 14882:2020, 5.11) that are words.
_KEYWORDS = (
    " alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl concept const consteval "
    "constexpr constinit continue co_await co_return co_yield decltype default delete do double dynamic_cast else enum "
    "explicit export extern false float for friend goto if inline int long mutable namespace new noexcept not not_eq "
    "nullptr operator or or_eq private protected public register reinterpret_cast requires restrict return short "
    "signed sizeof static static_assert static_cast struct switch template this thread_local throw true try typedef "
    "typeid typename union unsigned using virtual void volatile wchar_t while xor xor_eq "
)
_KINDS = ("U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64", "STR", "BYTES")


def _define(name: str, value: object) -> str:
    return f"#define PL_{name} {value}"


def _number(value: int, kind: str) -> str:
    if kind == "u64":
        return f"UINT64_C({value})"
    if value == -(1 << 31):
        return f"({value + 1} - 1)"
    if value < 0:
        return f"({value})"
    return f"{value}u" if value > 0x7FFFFFFF else str(value)


def _name(f: Field) -> str:
    """Return the name of the member of a field: keywords of C and C++ get an underscore."""
    return f"{f.name}_" if f" {f.name} " in _KEYWORDS else f.name


def _member(f: Field) -> str:
    comment = f" /* {f.unit} */" if f.unit else ""
    if f.type in TEXTS:
        members = f"uint8_t len, data[{f.high}];" if f.size == 1 else f"uint16_t len; uint8_t data[{f.high}];"
        return f"    struct {{ {members} }} {_name(f)};{comment}"
    kind = f.type.replace("u", "uint").replace("i", "int", 1) if f.type[0] == "i" else f"uint{f.type[1:]}"
    return f"    {kind}_t {_name(f)};{comment}"


def _structure(m: Message) -> list[str]:
    lines = [f"/* {m.doc} */", "typedef struct {", *[_member(f) for f in m.fields or ()], f"}} pl_{m.name};"]
    for f in m.fields or ():
        prefix = f"PL_{m.name}_{f.name}".upper()
        if f.unknown is not None:
            lines.append(f"#define {prefix}_UNKNOWN {_number(f.unknown, f.type)}")
        if f.names:
            names = ", ".join(f"{prefix}_{name.upper()} = {code}" for name, code in f.names.items())
            lines.append(f"enum {{ {names} }};")
        if f.bits:
            names = ", ".join(f"{prefix}_{name.upper()} = {1 << i}" for i, name in enumerate(f.bits))
            lines.append(f"enum {{ {names} }};")
    return [*lines, ""]


def render_header(schema: Schema) -> str:
    """Return the text of patrolink.h: limits, structures of all scalar messages, and function declarations."""
    scalar = [m for m in schema.messages if m.fields is not None]
    lines = [*_constants(schema), *_enumerations(schema)]
    for m in scalar:
        lines += _structure(m)
    lines += [
        "/* Any scalar message. */",
        "typedef struct {",
        "    uint8_t type;",
        "    union {",
        *[f"        pl_{m.name} {m.name};" for m in scalar],
        "    } as;",
        "} pl_message;",
        "",
        (_FOLDER / "core.h").read_text(encoding="utf-8"),
        "#endif",
        "",
    ]
    return "\n".join(lines)


def _constants(schema: Schema) -> list[str]:
    p = schema.protocol

    def mask(types: list[int]) -> str:
        return f"0x{sum(1 << t for t in types):08X}u"

    return [
        _HEAD.format("The Patrolink protocol, see SPEC.md."),
        "#ifndef PATROLINK_H",
        "#define PATROLINK_H",
        "",
        "#include <stdbool.h>",
        "#include <stddef.h>",
        "#include <stdint.h>",
        "",
        _define("VERSION", p["version"]),
        _define("MINOR", p["minor"]),
        _define("HEADER", 5),
        _define("TAG_BYTES", p["tag_bytes"]),
        _define("LONG_TAG_BYTES", p["long_tag_bytes"]),
        _define("LONG_TAG_FROM", p["long_tag_from"]),
        _define("COUNTER_MAX", f"0x{(1 << p['counter_bits']) - 1:X}u"),
        _define("FLAG_TAIL", p["flag_tail"]),
        _define("FLAG_PHASE", p["flag_phase"]),
        _define("FLAG_ENCRYPTED", p["flag_encrypted"]),
        _define("MAX_FRAME", p["max_frame"]),
        _define("MAX_BATCH", p["max_batch"]),
        _define("REPLAY_WINDOW", p["replay_window"]),
        _define("TIME_MAX_MS", f"INT64_C({schema.columns[0].high})"),
        _define("SCHEMA_HASH", f"0x{schema.hash:08X}u"),
        *[_define(f"TIMER_{name.upper()}", timer["value"]) for name, timer in schema.timers.items()],
        "/* Bit t is set if type t is allowed up, is allowed down, is encrypted by its sender. */",
        _define("UP", mask([m.type for m in schema.messages if m.direction != "down"])),
        _define("DOWN", mask([m.type for m in schema.messages if m.direction != "up"])),
        _define("CONFIDENTIAL", mask([m.type for m in schema.messages if m.confidential])),
        "",
    ]


def _enumerations(schema: Schema) -> list[str]:
    return [
        "/* Message types. */",
        "enum {",
        *[f"    PL_{m.name.upper()} = {m.type}," for m in schema.messages],
        "};",
        "",
        "/* Reasons to refuse a frame. */",
        "enum {",
        *[f"    PL_REJECT_{name.upper()} = {r['code']}, /* {r['text']} */" for name, r in schema.reject.items()],
        "};",
        "",
        "/* Values of a position row, with their units. */",
        "enum pl_column {",
        *[f"    PL_{c.name.upper()}, /* {c.unit}: {c.doc} */" for c in schema.columns[1:]],
        "    PL_COLUMNS /* the columns above and the time */ = " + str(len(schema.columns)),
        "};",
        _define("OPTIONAL", sum(c.optional for c in schema.columns)),
        "",
    ]


def _limit(f: Field) -> str:
    """Return the legal range of a field as a row of the table `limits`."""
    low, high = (str(n) if n >= 0 else f"(uint64_t)({_number(n, f.type)})" for n in (f.low, f.high))
    high = f"UINT64_C({high})" if f.high > 0x7FFFFFFF else high
    unknown = "0, 0" if f.unknown is None else f"(uint64_t)({_number(f.unknown, f.type)}), 1"
    return f"    {{{low}, {high}, {unknown}}},"


def _pair(m: Message, pair: Pair) -> str:
    return f"    {{PL_{m.name.upper()}, {int(pair.ordered)}, {pair.first}, {pair.second}}},"


def _rule(m: Message, f: Field, limits: list[str]) -> str:
    where = f"offsetof(pl_message, as.{m.name}.{_name(f)})"
    return f'    {{{where}, PL_{f.type.upper()}, {f.size}, {limits.index(_limit(f))} NAMED("{f.name}")}},'


def _names(schema: Schema) -> list[str]:
    reasons = sorted(schema.reject, key=lambda name: int(schema.reject[name]["code"]))
    return [
        "#define PL_REASONS " + ", ".join(f'"{name}"' for name in reasons),
    ]


def _extensions(schema: Schema) -> list[str]:
    rows = [f"    {{{e['type']}, {e['min_bytes']}, {e['max_bytes']}}}, /* {n} */" for n, e in schema.extensions.items()]
    return [
        "/* Type, minimum and maximum length of each extension of this protocol. */",
        "static const struct {",
        "    uint8_t type, low, high;",
        "} extension_rules[] = {",
        *rows,
        "};",
        "",
    ]


def _message_tables(scalar: list[Message]) -> list[str]:
    """Return the tables of limits, fields, pairs and messages."""
    limits = list(dict.fromkeys(_limit(f) for m in scalar for f in m.fields or ()))
    lines = ["static const limit_rule limits[] = {", *limits, "};", ""]
    for m in scalar:
        lines += [
            f"static const field_rule {m.name}_fields[] = {{",
            *[_rule(m, f, limits) for f in m.fields or ()],
            "};",
            "",
        ]
    lines += ["static const pair_rule pairs[] = {", *[_pair(m, pair) for m in scalar for pair in m.pairs], "};", ""]
    lines += ["static const message_rule messages[] = {"]
    lines += [f'    {{PL_{m.name.upper()}, {len(m.fields or ())}, {m.name}_fields NAMED("{m.name}")}},' for m in scalar]
    return [*lines, "};", ""]


_RULES = [
    "enum { " + ", ".join(f"PL_{kind}" for kind in _KINDS) + " };",
    "",
    "typedef struct {",
    "    uint64_t low, high, unknown; /* str and bytes: minimum and maximum length; signed kinds: sign-extended */",
    "    uint8_t has_unknown;",
    "} limit_rule;",
    "",
    "typedef struct {",
    "    uint16_t offset;",
    "    uint8_t kind, size; /* str and bytes: size of the length */",
    "    uint8_t limit;      /* index in limits, which fields share to save space */",
    *_NAME,
    "} field_rule;",
    "",
    "/* Two fields of a message: both known or both unknown; ordered: the first is at most the second. */",
    "typedef struct {",
    "    uint8_t type, ordered, first, second;",
    "} pair_rule;",
    "",
    "typedef struct {",
    "    uint8_t type, count;",
    "    const field_rule *fields;",
    *_NAME,
    "} message_rule;",
    "",
    "typedef struct {",
    "    int32_t low, high, divisor[3]; /* by resolution 5, 6, 7 */",
    "    uint8_t bits[3];",
    "    int8_t k; /* order of the keyframe's Exp-Golomb code; -1: plain bits */",
    "    bool is_signed, optional;",
    "    int16_t modulus;",
    "} column_rule;",
    "",
]


def render_source(schema: Schema) -> str:
    """Return the text of patrolink.c: tables, then the code that uses them."""
    scalar = [m for m in schema.messages if m.fields is not None]
    lines = [
        _HEAD.format("The Patrolink codec."),
        '#include "patrolink.h"',
        "",
        "/* Names are left out on devices to save space; vectors/check.c needs them. */",
        "#ifdef PATROLINK_NAMES",
        "#define NAMED(name) , name",
        *_names(schema),
        "#else",
        "#define NAMED(name)",
        "#endif",
        "",
        *_RULES,
    ]
    lines += _message_tables(scalar)
    lines += [*_extensions(schema), "static const column_rule columns[PL_COLUMNS - 1] = {"]
    for c in schema.columns[1:]:
        divisors, bits = (", ".join(str(v) for v in three) for three in (c.divisors, c.bits))
        k = -1 if c.k is None else c.k
        flags = f"{str(c.signed).lower()}, {str(c.optional).lower()}"
        lines.append(
            f"    {{{c.low}, {c.high}, {{{divisors}}}, {{{bits}}}, {k}, {flags}, {c.modulus}}}, /* {c.name} */"
        )
    lines += ["};", ""]
    return "\n".join(lines) + "\n" + "".join((_FOLDER / name).read_text(encoding="utf-8") for name in _CORE_PARTS)
