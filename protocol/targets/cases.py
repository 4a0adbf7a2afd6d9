"""Generates vectors/*.json: frames with their decoded form, or the reason for which they must be refused.

The codec of patrolink_protocol produces and checks them; the C codec and other implementations are tested with them.
"""

import json

import patrolink_messages as m
from patrolink_protocol import frame

from . import cases_batches, cases_confidential, cases_messages, cases_sequences, cases_serial
from .model import Schema, SchemaError
from .vectors import OTHER_DEVICE, Builder, Vector, seal, time_sync


def _add_frames(build: Builder) -> None:
    body = time_sync()
    good = seal(m.TIME_SYNC, body, 7)
    _add_lengths(build, body, good)
    _add_versions_and_tags(build, body, good)
    _add_two_faults(build, body)
    _add_flags_and_types(build, body)
    _add_keys(build, body, good)
    _add_tails(build, body)


def _add_lengths(build: Builder, body: bytes, good: bytes) -> None:
    build.add("frame-plain", ["FRAME-6", "KEY-1"], "8 bytes of tag", good)
    build.add("frame-top-counter", "FRAME-1", "the highest counter", seal(m.TIME_SYNC, body, frame.COUNTER_MAX))
    for n in (0, 4, frame.HEADER_BYTES + m.TAG_BYTES - 1):
        build.add(f"frame-{n}-bytes", "FRAME-1", "too short for header and tag", good[:n], "length")
    build.add(
        "frame-too-long", "FRAME-1", "one byte over the limit", good + bytes(m.MAX_FRAME + 1 - len(good)), "length"
    )
    short = seal(m.TEXT_STATE, b"", 1)[:1] + bytes(12)
    build.add("frame-empty-body", ["FRAME-3"], "13 bytes: long enough, but not genuine", short, "tag")
    for kind in (m.LONG_TAG_FROM, m.COMMAND, 31):
        build.add(
            f"frame-long-tag-short-{kind}",
            ["FRAME-1", "FRAME-6"],
            "20 bytes are too few for 16 of tag",
            bytes([m.VERSION << 5 | kind]) + bytes(19),
            "length",
            direction=1,
        )


def _add_versions_and_tags(build: Builder, body: bytes, good: bytes) -> None:
    for version in (0, 2, 7):
        data = seal(m.TIME_SYNC, body, 7, version=version)
        build.add(f"frame-version-{version}", "FRAME-2", "genuine, but another major version", data, "version")
        build.add(
            f"frame-version-{version}-noise", "FRAME-2", "the same with noise behind", data[:1] + bytes(40), "version"
        )
    for bit in (0, 9, 39, 8 * 20, 8 * len(good) - 1):
        bad = bytearray(good)
        bad[bit // 8] ^= 0x80 >> bit % 8
        reject = "version" if bit < 3 else "tag"
        build.add(f"frame-flip-{bit}", "FRAME-3", f"bit {bit} flipped", bytes(bad), reject)
    build.add("frame-cut", "FRAME-3", "the last byte is missing", good[:-1], "tag")
    command = seal(m.CLIP_STATE, bytes(4) + b"\1" + bytes(12), 7, 1)
    build.add("frame-long-tag", ["FRAME-6"], "16 bytes of tag", command, direction=1)
    for byte in (8, 9, 15):
        bad = bytearray(command)
        bad[-16 + byte] ^= 1
        about = f"byte {byte} of a long tag is wrong"
        build.add(f"frame-long-tag-flip-{byte}", ["FRAME-3", "FRAME-6"], about, bytes(bad), "tag", direction=1)
    short = seal(m.CLIP_STATE, bytes(4) + b"\1" + bytes(12), 7, 1)[:-8]
    build.add("frame-long-tag-half", ["FRAME-6"], "the first 8 bytes of a long tag", short, "tag", direction=1)
    for n in (20, 21):
        data = bytes([m.VERSION << 5 | 31]) + bytes(n - 1)
        reject = "length" if n == 20 else "tag"
        build.add(f"frame-unknown-long-{n}", ["FRAME-6"], f"an unknown long type of {n} bytes", data, reject)


def _add_two_faults(build: Builder, body: bytes) -> None:
    """Frames with two faults, of which the earlier step decides."""
    for name, about, data, reject in (
        ("length-version", "14 bytes too few for a long tag, of another version", b"\x5f" + bytes(13), "version"),
        ("too-short-version", "12 bytes of another version", b"\x5f" + bytes(11), "length"),
        ("tag-flags", "a reserved flag, not genuine", seal(m.TIME_SYNC, body, 7)[:1] + b"\x10" + bytes(31), "tag"),
        ("flags-tail", "a reserved flag and a bad tail", seal(m.TIME_SYNC, b"", 7, tail=True, flags=1), "critical"),
        ("tail-type", "a bad tail of an unknown type", seal(16, b"\xff", 7, tail=True), "length"),
        ("critical-type", "a critical extension, unknown type", seal(16, b"", extensions=[(9, 1, b"")]), "critical"),
        ("type-body", "a type of the other direction without body", seal(m.COMMAND, b"", 7), "type"),
        ("tail-body", "a bad tail after a bad body", seal(m.TEXT_STATE, bytes(5) + b"\xff", 7, tail=True), "length"),
    ):
        build.add(f"order-{name}", "FRAME-8", about, data, reject)


def _add_flags_and_types(build: Builder, body: bytes) -> None:
    for flags in (1, 3):
        build.add(
            f"frame-flags-{flags}",
            "FRAME-4",
            "a reserved flag, genuine",
            seal(m.TIME_SYNC, body, 7, flags=flags),
            "critical",
        )
    build.add(
        "frame-phase",
        ["FRAME-4", "KEY-2"],
        "phase flag under a key of the other phase",
        seal(m.TIME_SYNC, body, 7, flags=4),
        "critical",
    )
    for kind in (0, 16, 19, 29, 31):
        build.add(
            f"frame-type-{kind}",
            ["FRAME-5", "FRAME-6"],
            f"an unknown type, genuine, {frame.tag_bytes(kind)} bytes of tag",
            seal(kind, b"body"),
            "type",
        )
    build.add("frame-command-up", "FRAME-5", "a command never goes up", seal(m.COMMAND, b""), "type")
    build.add(
        "frame-hello-down", "FRAME-5", "a hello never goes down", seal(m.HELLO, b"", direction=1), "type", direction=1
    )


def _add_keys(build: Builder, body: bytes, good: bytes) -> None:
    build.add("key-device", "KEY-1", "a frame of another device", good, "tag", device=OTHER_DEVICE)
    other = seal(m.TIME_SYNC, body, 7, device=OTHER_DEVICE)
    build.add("key-other-device", "KEY-1", "the frame of an id of 32 characters", other, device=OTHER_DEVICE)
    build.add("key-short-device", "KEY-1", "an id of one character", seal(m.TIME_SYNC, body, 7, device="v"), device="v")
    build.add("key-direction", "KEY-1", "an uplink frame turned round", good, "tag", direction=1)
    build.add("key-other-epoch", "KEY-1", "a frame of epoch 0 under the key of epoch 2", good, "tag", epoch=2)
    build.add("key-epoch-1", "KEY-2", "epoch 1: the phase flag is set", seal(m.TIME_SYNC, body, 0, epoch=1), epoch=1)
    build.add(
        "key-epoch-4294967295",
        "KEY-2",
        "the last epoch",
        seal(m.TIME_SYNC, body, 3, epoch=0xFFFFFFFF),
        epoch=0xFFFFFFFF,
    )


def _add_tails(build: Builder, body: bytes) -> None:
    tails: list[tuple[str, str, str, list[tuple[int, int, bytes]], str | None]] = [
        ("empty", "TAIL-1", "a tail of no extension", [], None),
        ("trace", "TAIL-1", "a known one", [(1, 0, b"r-1")], None),
        ("elective", "TAIL-1", "unknown elective ones are passed over", [(63, 0, b""), (127, 0, bytes(9))], None),
        ("longest", "TAIL-1", "255 bytes of tail", [(64, 0, bytes(253))], None),
        ("trace-32", "TAIL-4", "the longest trace", [(1, 0, bytes(32))], None),
        ("trace-33", "TAIL-4", "a trace that is too long", [(1, 0, bytes(33))], "range"),
        ("trace-0", "TAIL-4", "an empty trace", [(1, 0, b"")], "range"),
        ("trace-critical", "TAIL-2", "a trace marked critical", [(1, 1, b"r-1")], "critical"),
        ("type-0", "TAIL-4", "type 0", [(0, 0, b"x")], "range"),
        ("type-0-critical", "TAIL-4", "type 0 marked critical", [(0, 1, b"x")], "range"),
        ("twice", "TAIL-4", "a type twice", [(64, 0, b"x"), (64, 0, b"x")], "range"),
        ("twice-critical", "TAIL-4", "a type twice, once critical", [(64, 0, b"x"), (64, 1, b"x")], "range"),
        ("critical", "TAIL-2", "an unknown critical one", [(2, 1, b"x")], "critical"),
        ("critical-last", "TAIL-2", "a critical one behind an elective one", [(1, 0, b"x"), (64, 1, b"")], "critical"),
    ]
    for name, req, about, extensions, why in tails:
        build.add(f"tail-{name}", req, about, seal(m.TIME_SYNC, body, 7, extensions=extensions), why)
    for name, raw in (
        ("none", b""),
        ("past-start", body + b"\xff"),
        ("cut-value", body + b"\x01\x03ab\x04"),
        ("half", body + b"\x01\x01"),
        ("type-0-cut", body + b"\x00\x05a\x03"),
    ):
        build.add(
            f"tail-{name}", "TAIL-3", "lengths that do not add up", seal(m.TIME_SYNC, raw, 7, tail=True), "length"
        )


def _json(schema: Schema, vectors: list[Vector]) -> str:
    head = json.dumps({"protocol": schema.protocol["name"], "version": m.VERSION, "schema_hash": f"{schema.hash:08x}"})
    lines = ",\n".join(json.dumps(v, ensure_ascii=False) for v in vectors)
    return f'{head[:-1]}, "vectors": [\n{lines}\n]}}\n'


def render(schema: Schema) -> dict[str, str]:
    """Return the text of each vector file by name.

    Raises:
        SchemaError: a requirement has no vector, or the codec disagrees with a vector.
    """
    build = Builder()
    _add_frames(build)
    cases_confidential.add_all(build, schema)
    scalar, batches = Builder(), Builder()
    for message in schema.messages:
        if message.fields is not None:
            cases_messages.add(scalar, message)
    cases_messages.add_order(scalar)
    cases_batches.add_all(batches)
    sequences, serial = cases_sequences.sequences(), cases_serial.serial()
    every = build.vectors + scalar.vectors + batches.vectors + sequences + serial
    tested = {req for v in every for req in v["req"]}
    if tested != set(schema.requirements):
        raise SchemaError(
            f"requirements without a vector, or unknown requirements: {sorted(tested ^ set(schema.requirements))}"
        )
    if len({v["id"] for v in every}) != len(every):
        raise SchemaError("two vectors have the same id")
    return {
        "frames.json": _json(schema, build.vectors),
        "messages.json": _json(schema, scalar.vectors),
        "batches.json": _json(schema, batches.vectors),
        "sequences.json": _json(schema, sequences),
        "serial.json": _json(schema, serial),
    }
