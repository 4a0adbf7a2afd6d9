"""Wireshark's dissector of TS 24.380 reads every message of a recorded session as ours does."""

import json
import shutil
import struct
import subprocess

import pytest
from patrolink_protocol import mcptt

from tests.support import hub_process
from tests.support.hub_process import SITE, Client, HubProcess, join, run, settle

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
devices = ["ears"]
rights = []
"""
FILTER = 'rtcp.app.name == "MCPT" && rtcp.length_check == 1 && !_ws.expert && !_ws.malformed'
# Attribute of our Message → the dissector's field.
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
EVERY = {kind for kind in range(11) if kind != 7}

pytestmark = pytest.mark.skipif(shutil.which("tshark") is None, reason="no tshark (apt-get install tshark)")


@pytest.fixture
def session(tmp_path, broker):
    """A hub with `--pcap` and its devices; gone when the test ends."""
    ports, made = hub_process.free_ports(2), []
    names = ("a", "b", "c", "police", "ears")
    text = SITE.format(url=broker.url, ports=ports, top="", hub="", groups=GROUPS)
    hub = HubProcess(tmp_path, text, names, "--pcap", str(tmp_path / "floor.pcap"))
    made.append(lambda: hub.process.poll() is None and hub.kill())
    clients = {}
    for name in names:
        clients[name] = Client(name, broker.port)
        made.append(clients[name].close)
    yield hub, clients, ports[0], tmp_path / "floor.pcap"
    for undo in made[::-1]:
        undo()


def talk(clients):
    """Every message that there is, with each kind of call."""
    everybody = list(clients.values())
    join(everybody, [1])
    a, b, c, police, ears = (it.seats[1] for it in everybody)

    def told(seat, event):
        run(everybody, lambda: event in seat.events)
        seat.events.clear()

    a.press(5)
    told(a, "GRANTED")
    b.press(3, mcptt.NORMAL)
    told(b, "QUEUE_POSITION")
    c.press()
    told(c, "DENIED")  # the queue is full
    ears.press()
    told(ears, "DENIED")  # receives only
    b.client.say(position_request(b))
    settle(everybody, 0.2)
    police.press(100, mcptt.EMERGENCY)
    told(police, "GRANTED")
    told(a, "REVOKED")  # pre-empted
    police.release()
    told(b, "GRANTED")
    b.release()
    settle(everybody, 0.3)
    police.press(90, mcptt.BROADCAST)
    told(police, "GRANTED")
    run(everybody, lambda: ears.floor.indicator & mcptt.BROADCAST)
    police.release()
    settle(everybody, 0.3)
    c.press(1)
    told(c, "GRANTED")
    c.release()
    c.press(1)  # Release and Request in one datagram
    told(c, "GRANTED")
    c.release()
    settle(everybody, 0.3)


def position_request(seat) -> bytes:
    writer = mcptt.Writer(bytearray(64))
    writer.begin(mcptt.QUEUE_POSITION_REQUEST, seat.terms["ssrc"])
    return bytes(writer.buf[: writer.end()])


def datagrams(pcap: bytes) -> list[bytes]:
    """The UDP payloads of a capture of raw IPv4 packets."""
    out, at = [], 24
    while at < len(pcap):
        n = struct.unpack_from("<I", pcap, at + 8)[0]
        out.append(pcap[at + 16 + 28 : at + 16 + n])
        at += 16 + n
    return out


def ours(data: bytes) -> list[dict]:
    """What our codec reads in a datagram."""
    out, at = [], 0
    while at < len(data):
        message = mcptt.Message()
        at = message.read(data, at, len(data), mcptt.UPLINK_TYPES | mcptt.DOWNLINK_TYPES)
        values = {name: value for name in FIELDS if (value := getattr(message, name, -1)) not in (-1, None)}
        for name in ("user", "party"):
            start, n = getattr(message, name + "_at"), getattr(message, name + "_n")
            if n:
                values[name] = data[start : start + n].decode()
        if message.cause >= 0:
            values["deny" if message.type == mcptt.DENY else "revoke"] = message.cause
        out.append({"type": message.type | (mcptt.ACK_REQUESTED if message.ack else 0), "ssrc": message.ssrc, **values})
    return out


def tshark(pcap, port: int, *options: str) -> str:
    command = ["tshark", "-r", str(pcap), "-d", f"udp.port=={port},rtcp", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def theirs(pcap, port: int) -> list[list[dict]]:
    """What the dissector reads in each datagram."""

    def pairs(items):
        return items  # names come more than once: a datagram may hold several messages

    packets = json.loads(tshark(pcap, port, "-T", "json"), object_pairs_hook=pairs)
    return [
        [told(layer) for name, layer in dict(dict(packet)["_source"])["layers"] if name == "rtcp"] for packet in packets
    ]


def told(layer) -> dict:
    """One message's fields, wherever they stand in the tree."""
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


def test_the_dissector_agrees_with_every_message(session):
    hub, clients, port, pcap = session
    talk(clients)
    assert hub.stop()["refused"] == {}
    sent = datagrams(pcap.read_bytes())
    accepted = tshark(pcap, port, "-Y", FILTER, "-T", "fields", "-e", "frame.number").split()
    assert len(accepted) == len(sent) > 40
    read = theirs(pcap, port)
    seen = set()
    for data, said in zip(sent, read, strict=True):
        mine = ours(data)
        assert said == mine, data.hex()
        seen |= {message["type"] & 15 for message in mine}
    assert seen == EVERY, "not every type was sent"
    assert any(len(said) > 1 for said in read), "no datagram of two messages"


def test_the_dissector_objects_to_damage(session, tmp_path):
    """The filter can say no: a message whose length or name is not right."""
    hub, clients, port, pcap = session
    everybody = list(clients.values())
    join(everybody, [1])
    hub.stop()
    whole = bytearray(pcap.read_bytes())
    for at, value in ((24 + 16 + 28 + 3, 9), (24 + 16 + 28 + 8, 0x4E)):
        bad = bytearray(whole)
        bad[at] = value
        path = tmp_path / "bad.pcap"
        path.write_bytes(bad)
        accepted = tshark(path, port, "-Y", FILTER, "-T", "fields", "-e", "frame.number").split()
        assert len(accepted) == len(datagrams(whole)) - 1
