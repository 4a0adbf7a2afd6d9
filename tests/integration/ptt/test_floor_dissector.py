"""Wireshark's dissector of TS 24.380 decodes every message of a session like the codec of this project."""

import json
import shutil
import struct
import subprocess

import pytest
from patrolink_protocol import mcptt

from tests.support.device_client import DeviceClient, join_groups, run_for, run_until
from tests.support.simulated_site import FLOOR_PORT, SimulatedSite, site_text

GROUPS = """[[group]]
id = 1
name = "all messages"
queue = 1
talk_s = 2
[[group.member]]
devices = ["a", "b", "c"]
priority = 10
rights = ["talk"]
[[group.member]]
devices = ["police"]
priority = 100
rights = ["talk", "emergency", "broadcast"]
[[group.member]]
devices = ["listener"]
rights = []
"""
FILTER = 'rtcp.app.name == "MCPT" && rtcp.length_check == 1 && !_ws.expert && !_ws.malformed'
# Attribute of mcptt.Message: field of the dissector.
FIELDS = {
    "priority": "app_data.mcptt.priority",
    "duration": "app_data.mcptt.duration",
    "position": "app_data.mcptt.queue_pos_inf",
    "queue_priority": "app_data.mcptt.queue_pri_lev",
    "permission": "app_data.mcptt.perm_to_req_floor",
    "sequence": "app_data.mcptt.msg_seq_num",
    "source": "app_data.mcptt.source",
    "audio_ssrc": "app_data.mcptt.rtcp",
    "indicator": "app_data.mcptt.floor_ind",
    "user": "app_data.mcptt.user_id",
    "party": "mcptt.granted_partys_id",
    "deny": "app_data.mcptt.rej_cause.floor_deny",
    "revoke": "app_data.mcptt.rej_cause.floor_revoke",
    "acked": "app_data.mcptt.msg_type",
}
ALL_TYPES = {kind for kind in range(11) if kind != 7}

pytestmark = pytest.mark.skipif(shutil.which("tshark") is None, reason="no tshark (apt-get install tshark)")


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    """File with the floor messages of a session; all types, in normal, emergency and broadcast calls."""
    folder = tmp_path_factory.mktemp("site")
    names = ("a", "b", "c", "police", "listener")
    site = SimulatedSite(folder, site_text(GROUPS), names, folder / "floor.pcap")
    talk({name: DeviceClient(name, site) for name in names})
    assert site.hub.stop()["refused"] == {}
    site.close()
    return folder / "floor.pcap"


def talk(clients):
    """Exchange every type of message, in normal, emergency and broadcast calls."""
    participants = list(clients.values())
    join_groups(participants, [1])
    a, b, c, police, listener = (client.memberships[1] for client in participants)

    def wait_for(member, event):
        run_until(participants, lambda: event in member.events)
        member.events.clear()

    a.request_floor(5)
    wait_for(a, "GRANTED")
    b.request_floor(3, mcptt.NORMAL)
    wait_for(b, "QUEUE_POSITION")
    c.request_floor()
    wait_for(c, "DENIED")  # the queue is full
    listener.request_floor()
    wait_for(listener, "DENIED")  # receives only
    b.client.send_floor(position_request(b))
    run_for(participants, 0.2)
    police.request_floor(100, mcptt.EMERGENCY)
    wait_for(police, "GRANTED")
    wait_for(a, "REVOKED")  # pre-empted
    police.release_floor()
    wait_for(b, "GRANTED")
    b.release_floor()
    run_for(participants, 0.3)
    police.request_floor(90, mcptt.BROADCAST)
    wait_for(police, "GRANTED")
    run_until(participants, lambda: listener.floor.indicator & mcptt.BROADCAST)
    police.release_floor()
    run_for(participants, 0.3)
    c.request_floor(1)
    wait_for(c, "GRANTED")
    c.release_floor()
    c.request_floor(1)  # Release and Request in one datagram
    wait_for(c, "GRANTED")
    c.release_floor()
    run_for(participants, 0.3)


def position_request(member) -> bytes:
    writer = mcptt.Writer(bytearray(64))
    writer.begin(mcptt.QUEUE_POSITION_REQUEST, member.terms["ssrc"])
    return bytes(writer.buf[: writer.end()])


def starts(pcap: bytes) -> list[int]:
    """Return the offset of each UDP payload in a capture of raw IPv4 packets."""
    out, offset = [], 24
    while offset < len(pcap):
        out.append(offset + 16 + 28)
        offset += 16 + struct.unpack_from("<I", pcap, offset + 8)[0]
    return out


def datagrams(pcap: bytes) -> list[bytes]:
    """Return the UDP payloads of a capture of raw IPv4 packets."""
    offsets = starts(pcap)
    return [pcap[at : end - 44] for at, end in zip(offsets, [*offsets[1:], len(pcap) + 44], strict=True)]


def decode_with_codec(data: bytes) -> list[dict]:
    """Return the messages of a datagram as the codec decodes them."""
    out, offset = [], 0
    while offset < len(data):
        message = mcptt.Message()
        offset = message.read(data, offset, len(data), mcptt.UPLINK_TYPES | mcptt.DOWNLINK_TYPES)
        values = {name: value for name in FIELDS if (value := getattr(message, name, -1)) not in (-1, None)}
        for name in ("user", "party"):
            start, n = getattr(message, name + "_at"), getattr(message, name + "_n")
            if n:
                values[name] = data[start : start + n].decode()
        if message.cause >= 0:
            values["deny" if message.type == mcptt.DENY else "revoke"] = message.cause
        out.append({"type": message.type | (mcptt.ACK_REQUESTED if message.ack else 0), "ssrc": message.ssrc, **values})
    return out


def tshark(pcap, *options: str) -> str:
    command = ["tshark", "-r", str(pcap), "-d", f"udp.port=={FLOOR_PORT},rtcp", *options]
    process = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert process.returncode == 0, process.stderr
    return process.stdout


def decode_with_tshark(pcap) -> list[list[dict]]:
    """Return the messages of each datagram as the dissector decodes them."""

    def pairs(items):
        return items  # keys may repeat: a datagram may hold several messages

    packets = json.loads(tshark(pcap, "-T", "json"), object_pairs_hook=pairs)
    return [
        [fields_of(layer) for name, layer in dict(dict(packet)["_source"])["layers"] if name == "rtcp"]
        for packet in packets
    ]


def fields_of(layer) -> dict:
    """Return one message's fields from all levels of the dissection tree."""
    values: dict[str, str] = {}

    def walk(items):
        for name, value in items:
            if isinstance(value, list):
                walk(value)
            else:
                values[name] = value

    walk(layer)
    out = {"type": int(values["rtcp.app.subtype"]), "ssrc": int(values["rtcp.ssrc.identifier"], 0)}
    for name, field in FIELDS.items():
        value = values.get(f"rtcp.{field}")
        if value is not None:
            out[name] = value if name in ("user", "party") else int(value, 0)
    return out


def accepted(pcap) -> int:
    """Return how many packets of a capture the dissector accepts."""
    return len(tshark(pcap, "-Y", FILTER, "-T", "fields", "-e", "frame.number").split())


def test_dissector_agrees_with_the_codec_on_every_message(trace):
    sent = datagrams(trace.read_bytes())
    assert accepted(trace) == len(sent) > 40
    dissected = decode_with_tshark(trace)
    types = set()
    for data, messages in zip(sent, dissected, strict=True):
        expected = decode_with_codec(data)
        assert messages == expected, data.hex()
        types |= {message["type"] & 15 for message in expected}
    assert types == ALL_TYPES, "not every type was sent"
    assert any(len(messages) > 1 for messages in dissected), "no datagram of two messages"


def test_dissector_rejects_damaged_messages(trace, tmp_path):
    """The filter rejects a message with a wrong length or name."""
    original = trace.read_bytes()
    damaged = bytearray(original)
    for packet, offset, value in ((0, 3, 9), (1, 8, 0x4E)):
        damaged[starts(original)[packet] + offset] = value
    path = tmp_path / "damaged.pcap"
    path.write_bytes(damaged)
    assert accepted(path) == len(datagrams(original)) - 2
