"""Report of the talk groups and keys that a device holds (PTT.md, "Reports"). MicroPython subset.

The hub compares a report with the terms in force. A report is sent as `ptt_status`, and as the profile-specific
extension of receiver reports (RFC 3550, 6.4.3).
"""

import hashlib
import struct
from collections import namedtuple

import patrolink_messages as m

from . import codec
from .native import const

ENTRY_BYTES = 10
MAX_GROUPS = 25  # in one report
RECEIVER_REPORT = 201  # RTCP packet type
_HEADER_BYTES = const(8)
_EXTENSION_AT = const(10)  # entries, after the room and the number of entries
_TERMS_MAX = const(192)

Entry = namedtuple("Entry", ("group", "key", "digest"))
"""One group of a report.

group   number of the group
key     number of its key; 0 without a usable key
digest  what `terms_digest` returns
"""


def terms_digest(terms, secret):
    """Return the digest of the terms and the key of a group: 4 bytes.

    It is the start of SHA-256 of the body of `ptt_group` with `secret` in place of `wrapped`.

    Args:
        terms: Fields of `ptt_group` as `codec.encode_into` takes them.
        secret: Master key and master salt, 30 bytes.
    """
    values = dict(terms)
    values["wrapped"] = secret
    body = bytearray(_TERMS_MAX)
    n = codec.encode_into(m.PTT_GROUP, values, body, 0)
    return hashlib.sha256(bytes(body[:n])).digest()[:4]


def pack_entry(group, key, digest):
    """Return the 10 bytes of one group; arguments as in `Entry`."""
    return struct.pack(">IH", group, key) + digest


def unpack_entries(data):
    """Return the list of Entry of a report.

    Raises:
        ValueError: the length is not a multiple of 10 bytes.
    """
    if len(data) % ENTRY_BYTES:
        raise ValueError("a report of groups has %d bytes, not a multiple of %d" % (len(data), ENTRY_BYTES))
    entries = []
    for at in range(0, len(data), ENTRY_BYTES):
        group, key = struct.unpack_from(">IH", data, at)
        entries.append(Entry(group, key, bytes(data[at + 6 : at + ENTRY_BYTES])))
    return entries


def receiver_report(room, entries):
    """Return an RTCP receiver report without report blocks. The caller sets the SSRC in bytes 4 to 7.

    Args:
        room: Number of further groups that the device can hold.
        entries: Packed entries of all groups of the device at the receiving hub, at most MAX_GROUPS.
    """
    n = (_EXTENSION_AT + len(entries) + 3) // 4 * 4
    packet = bytearray(n)
    packet[0] = 0x80
    packet[1] = RECEIVER_REPORT
    packet[3] = n // 4 - 1
    packet[8] = room
    packet[9] = len(entries) // ENTRY_BYTES
    packet[_EXTENSION_AT : _EXTENSION_AT + len(entries)] = entries
    return packet


def read_receiver_report(packet):
    """Return (room, list of Entry) of a plain receiver report; None if it has no report of groups.

    Raises:
        ValueError: the report is cut off.
    """
    if len(packet) <= _HEADER_BYTES:
        return None
    end = _EXTENSION_AT + ENTRY_BYTES * packet[9] if len(packet) >= _EXTENSION_AT else 0
    if not _EXTENSION_AT <= end <= len(packet):
        raise ValueError("a receiver report ends within its report of groups")
    return packet[8], unpack_entries(packet[_EXTENSION_AT:end])
