"""Peers of the position protocol: other encodings of the same fixes.

A fix is (unix ms, lat 1e-7 deg, lon 1e-7 deg, alt mm, speed mm/s, course 0.01 deg, hacc mm, sats, battery %). Each peer
uses its native integers. `check` asserts that each peer decodes what it encoded, in the units of the peer.
"""

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass

os.environ["MAVLINK20"] = "1"

import cbor2
import msgpack
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from pymavlink.dialects.v20 import common as mavlink

Fix = tuple[int, int, int, int, int, int, int, int, int]


@dataclass(frozen=True)
class Peer:
    """An encoding of fixes.

    Attributes:
        name: Name of the encoding.
        guard: Integrity check or authentication on the wire.
        encode: Function(fixes) -> bytes.
        decode: Function(bytes) -> fixes with all nine fields, in the units of the peer.
        view: Function(fix) -> the fix in the units of the peer.
    """

    name: str
    guard: str
    encode: Callable[[list[Fix]], bytes]
    decode: Callable[[bytes], list[tuple]]
    view: Callable[[Fix], tuple]


def _mavlink(signed: bool) -> mavlink.MAVLink:
    link = mavlink.MAVLink(None, srcSystem=1, srcComponent=1)
    if signed:
        link.signing.secret_key = bytes(32)
        link.signing.link_id = 1
        link.signing.timestamp = 1
        link.signing.sign_outgoing = True
    return link


def _mavlink_encode(signed: bool) -> Callable[[list[Fix]], bytes]:
    def encode(fixes: list[Fix]) -> bytes:
        link = _mavlink(signed)
        out = []
        for t, lat, lon, alt, speed, course, hacc, sats, battery in fixes:
            out.append(
                link.gps_raw_int_encode(
                    t * 1000, 3, lat, lon, alt, 65535, 65535, speed // 10, course, sats, 0, hacc
                ).pack(link)
            )
            if len(out) == 1:
                # The battery level has a separate message; one per batch is enough.
                out.append(link.sys_status_encode(0, 0, 0, 0, 65535, -1, battery, 0, 0, 0, 0, 0, 0).pack(link))
        return b"".join(out)

    return encode


def _mavlink_decode(signed: bool) -> Callable[[bytes], list[tuple]]:
    def decode(data: bytes) -> list[tuple]:
        link = _mavlink(signed)
        link.robust_parsing = True
        if signed:
            link.signing.timestamp = 0
        out = []
        battery = -1
        for message in link.parse_buffer(data) or ():
            if message.get_msgId() == mavlink.MAVLINK_MSG_ID_GPS_RAW_INT:
                m = message
                out.append((m.time_usec, m.lat, m.lon, m.alt, m.vel, m.cog, m.h_acc, m.satellites_visible))
            else:
                battery = message.battery_remaining
        return [(*fix, battery) for fix in out]

    return decode


def _protobuf() -> tuple[Callable[[list[Fix]], bytes], Callable[[bytes], list[tuple]]]:
    """Return encoder and decoder of a message like Meshtastic's Position, built without protoc."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="peer.proto", package="peer", syntax="proto3")
    fix = file.message_type.add(name="Fix")
    for number, (name, kind) in enumerate(
        (
            ("lat", kinds.TYPE_SFIXED32),
            ("lon", kinds.TYPE_SFIXED32),
            ("alt", kinds.TYPE_SINT32),
            ("time", kinds.TYPE_FIXED32),
            ("ms", kinds.TYPE_UINT32),
            ("speed", kinds.TYPE_UINT32),
            ("course", kinds.TYPE_UINT32),
            ("hacc", kinds.TYPE_UINT32),
            ("sats", kinds.TYPE_UINT32),
            ("battery", kinds.TYPE_UINT32),
        ),
        1,
    ):
        fix.field.add(name=name, number=number, type=kind, label=kinds.LABEL_OPTIONAL)
    batch = file.message_type.add(name="Batch")
    batch.field.add(name="fix", number=1, type=kinds.TYPE_MESSAGE, type_name=".peer.Fix", label=kinds.LABEL_REPEATED)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    batch_class = message_factory.GetMessageClass(pool.FindMessageTypeByName("peer.Batch"))

    def encode(fixes: list[Fix]) -> bytes:
        out = batch_class()
        for t, lat, lon, alt, speed, course, hacc, sats, battery in fixes:
            out.fix.add(
                time=t // 1000, ms=t % 1000, lat=lat, lon=lon, alt=alt // 1000, speed=speed // 100,
                course=course // 100, hacc=hacc // 1000, sats=sats, battery=battery,
            )  # fmt: skip
        return out.SerializeToString()

    def decode(data: bytes) -> list[tuple]:
        return [
            (f.time * 1000 + f.ms, f.lat, f.lon, f.alt, f.speed, f.course, f.hacc, f.sats, f.battery)
            for f in batch_class.FromString(data).fix
        ]

    return encode, decode


def _coarse(f: Fix) -> tuple:
    return (f[0], f[1], f[2], f[3] // 1000, f[4] // 100, f[5] // 100, f[6] // 1000, f[7], f[8])


_STRUCT = struct.Struct("<IHiihHHHBB")


def _struct_encode(fixes: list[Fix]) -> bytes:
    return b"".join(
        _STRUCT.pack(f[0] // 1000, f[0] % 1000, f[1], f[2], f[3] // 1000, f[4] // 100, f[5], f[6] // 100, f[7], f[8])
        for f in fixes
    )


def _struct_decode(data: bytes) -> list[tuple]:
    return [(s * 1000 + ms, *rest) for s, ms, *rest in _STRUCT.iter_unpack(data)]


def _struct_view(f: Fix) -> tuple:
    return (f[0], f[1], f[2], f[3] // 1000, f[4] // 100, f[5], f[6] // 100, f[7], f[8])


_PB_ENCODE, _PB_DECODE = _protobuf()

PEERS = (
    *(
        Peer(
            f"MAVLink 2 {'signed' if signed else 'unsigned'}",
            "48-bit SHA-256" if signed else "CRC-16",
            _mavlink_encode(signed),
            _mavlink_decode(signed),
            lambda f: (f[0] * 1000, *f[1:4], f[4] // 10, *f[5:]),
        )
        for signed in (False, True)
    ),
    Peer("protobuf (upb)", "none", _PB_ENCODE, _PB_DECODE, _coarse),
    Peer(
        "msgpack arrays",
        "none",
        lambda fixes: msgpack.packb([_coarse(f) for f in fixes]),
        lambda data: [tuple(f) for f in msgpack.unpackb(data)],
        _coarse,
    ),
    Peer(
        "CBOR arrays",
        "none",
        lambda fixes: cbor2.dumps([_coarse(f) for f in fixes]),
        lambda data: [tuple(f) for f in cbor2.loads(data)],
        _coarse,
    ),
    Peer("packed struct", "none", _struct_encode, _struct_decode, _struct_view),
)


def check(fixes: list[Fix]) -> None:
    """Assert that each peer decodes what it encoded.

    All fixes get the battery level of the first one, because MAVLink has one level per batch.
    """
    samples = [(*f[:8], fixes[0][8]) for f in fixes]
    for peer in PEERS:
        assert peer.decode(peer.encode(samples)) == [peer.view(f) for f in samples], peer.name
