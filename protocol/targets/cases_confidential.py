"""Vectors of encrypted frames (SPEC.md, "Confidential bodies"): every confidential type, tails, epochs, other types."""

import patrolink_messages as m
from patrolink_protocol import frame

from . import cases_messages
from .model import Schema
from .vectors import Builder, batch, seal, time_sync, walk

_TRACE = (1, 0, b"r-1")
_LAST_EPOCH = 0xFFFFFFFF


def add_all(build: Builder, schema: Schema) -> None:
    """Add the vectors."""
    bodies = {
        message.type: cases_messages.some_body(message) for message in schema.messages if message.fields is not None
    }
    bodies[m.POSITION_BATCH] = batch(walk(60, 7))
    for message in schema.messages:
        if message.confidential:
            directions = {"up": (0,), "down": (1,), "both": (0, 1)}[message.direction]
            for direction in directions:
                name = f"confidential-{message.name}" + ("-down" if direction and len(directions) > 1 else "")
                data = seal(message.type, bodies[message.type], 77, direction, encrypted=True)
                build.add(name, ["CONFIDENTIAL-1"], "encrypted, as it is sent", data, direction=direction)
    _add_receivers(build, bodies)
    _add_faults(build, bodies)


def _add_receivers(build: Builder, bodies: dict[int, bytes]) -> None:
    text, req = bodies[m.TEXT], "CONFIDENTIAL-1"
    tailed = seal(m.TEXT, text, 5, extensions=[_TRACE, (64, 0, b"vendor")], encrypted=True)
    build.add("confidential-tail", [req, "TAIL-1"], "the tail is encrypted with the body", tailed)
    for epoch in (1, 2, _LAST_EPOCH):
        data = seal(m.TEXT, text, 5, epoch=epoch, encrypted=True)
        build.add(f"confidential-epoch-{epoch}", [req, "KEY-1"], "each epoch has its own cipher key", data, epoch=epoch)
    for counter in (0, frame.COUNTER_MAX):
        data = seal(m.EVENT_STATE, bodies[m.EVENT_STATE], counter, 1, encrypted=True)
        about = "the counter is in the counter block, with the flags"
        build.add(f"confidential-counter-{counter}", req, about, data, direction=1)
    block = bodies[m.FIRMWARE_BLOCK]
    long = block + bytes(m.MAX_FRAME - frame.HEADER_BYTES - frame.tag_bytes(m.FIRMWARE_BLOCK) - len(block))
    others = (
        ("hello", m.HELLO, bodies[m.HELLO], 0),
        ("time-sync", m.TIME_SYNC, time_sync(), 0),
        ("certify", m.CERTIFY, bodies[m.CERTIFY], 1),
        ("longest-later", m.FIRMWARE_BLOCK, long, 1),
    )
    for name, kind, body, direction in others:
        data = seal(kind, body, 8, direction, encrypted=True)
        about = "a type that is not confidential, encrypted: the flag decides"
        build.add(f"confidential-other-{name}", "CONFIDENTIAL-2", about, data, direction=direction)
    plain = seal(m.TEXT, text, 5)
    build.add("confidential-plain", "CONFIDENTIAL-2", "a confidential type without the flag is accepted", plain)


def _add_faults(build: Builder, bodies: dict[int, bytes]) -> None:
    text = bodies[m.TEXT]
    good = seal(m.TEXT, text, 5, encrypted=True)
    empty = seal(m.EVENT, b"", 5, encrypted=True)
    build.add("confidential-empty", ["CONFIDENTIAL-1", "BODY-1"], "nothing to decrypt", empty, "length")
    unknown = seal(31, b"", 5, encrypted=True)
    build.add("confidential-unknown-type", ["CONFIDENTIAL-2", "FRAME-5"], "an unknown type", unknown, "type")
    for name, raw, why in (("past-start", b"\xff", "length"), ("none", b"", "length")):
        data = seal(m.TEXT, raw, 5, tail=True, encrypted=True)
        about = "a malformed tail under the cipher"
        build.add(f"confidential-tail-{name}", ["CONFIDENTIAL-1", "TAIL-3"], about, data, why)
    critical = seal(m.TEXT, text, 5, extensions=[(2, 1, b"x")], encrypted=True)
    about = "a critical extension under the cipher"
    build.add("confidential-tail-critical", ["CONFIDENTIAL-1", "TAIL-2"], about, critical, "critical")
    req = ["CONFIDENTIAL-1", "FRAME-3"]
    build.add("confidential-wrong-epoch", req, "epoch 0 under the keys of epoch 2", good, "tag", epoch=2)
    build.add("confidential-turned", req, "turned round", good, "tag", direction=1)
    for name, at, bit in (("body", 9, 1), ("flag", 1, 0x20)):
        bad = bytearray(good)
        bad[at] ^= bit
        build.add(f"confidential-flip-{name}", req, "a bit flipped: the tag is over what was sent", bytes(bad), "tag")
