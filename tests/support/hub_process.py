"""A hub as a process, and push-to-talk clients of devices with real sockets and a real broker session."""

import contextlib
import hashlib
import json
import select
import signal
import socket
import struct
import subprocess
import sys
import time

import paho.mqtt.client as paho
import patrolink_messages
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap
from paho.mqtt.enums import CallbackAPIVersion
from patrolink.core.clock import monotonic_ms
from patrolink.core.keys import DeviceKey
from patrolink.emulator.scenarios import control_room
from patrolink.hub.infra.crypto import aes
from patrolink_protocol import codec, decode, frame, mcptt, participant, srtp
from patrolink_protocol.receiver import Receiver

from tests.support.polling import TIMEOUT_S, wait_until

SITE_TEMPLATE = """name = "test.example"
keys = "keys.toml"
broker = "{url}"
{top}
[[hub]]
host = "127.0.0.1"
listen = "127.0.0.1"
floor_port = {ports[0]}
media_port = {ports[1]}
{hub}
{groups}
"""
GROUP_TEMPLATE = """[[group]]
id = {id}
name = "group {id}"
{more}
[[group.member]]
devices = {devices}
priority = 10
rights = ["talk", "emergency"]
"""
RECEIVER_REPORT = struct.Struct(">BBHI")  # without report blocks: version, packet type 201, length, SSRC
EVENTS = {
    getattr(participant, name): name
    for name in ("GRANTED", "DENIED", "REVOKED", "FAILED", "QUEUE_POSITION", "TAKEN", "IDLE")
}
_LOOPBACK = "127.0.0.1"


def free_ports(n: int) -> list[int]:
    """Return free UDP ports."""
    return control_room.free_ports(n, socket.SOCK_DGRAM)


def keys_of(names) -> dict[str, bytes]:
    """Return a device key for each name, derived from the name."""
    return {name: hashlib.sha256(name.encode()).digest() for name in names}


class HubProcess:
    """`patrolink hub` with its files in a folder. It can be stopped, killed and restarted.

    Attributes:
        ready: The hub's addresses, from its first line of output.
        counts: The hub's counts, after `stop`.
    """

    def __init__(self, folder, site: str, names, *options: str) -> None:
        self.folder, self.options = folder, options
        keys = folder / "keys.toml"
        keys.write_text("[devices]\n" + "".join(f'"{n}" = "{k.hex()}"\n' for n, k in keys_of(names).items()))
        keys.chmod(0o600)
        (folder / "site.toml").write_text(site)
        self.counts: dict = {}
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "patrolink", "hub", str(self.folder / "site.toml"), "--json", *self.options]
        self.log = (self.folder / "hub.log").open("ab")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True)
        line = self.process.stdout.readline()
        assert line, (self.folder / "hub.log").read_text()
        self.ready = json.loads(line)

    def stop(self) -> dict:
        """Stop the hub by SIGTERM and return its counts."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        out, _ = self.process.communicate(timeout=TIMEOUT_S)
        self.log.close()
        assert self.process.returncode == 0, (self.folder / "hub.log").read_text()
        self.counts = json.loads(out.splitlines()[-1])
        return self.counts

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.log.close()


class DeviceMembership:
    """Membership of a device in one group.

    Attributes:
        terms: The newest `ptt_group` message of the group.
        events: Names of the events of the floor participant.
        voice: Received packets: SSRC, sequence number, payload.
    """

    def __init__(self, client: "DeviceClient", terms: dict) -> None:
        self.client, self.terms = client, terms
        self.events: list[str] = []
        self.voice: list[tuple[int, int, bytes]] = []
        self.contexts: list[srtp.SrtpTransform] = []  # of the current key and of the previous one
        self.streams: dict[int, srtp.SrtpStream] = {}
        self.sequence = 0
        self.floor = participant.Participant(terms["ssrc"], b"sip:" + client.name.encode())
        self.update_terms(terms)

    def update_terms(self, terms: dict) -> None:
        if self.contexts and terms["key"] == self.terms["key"]:
            return
        self.terms = terms
        key = aes_key_unwrap(self.client.derive(b"patrolink-ptt-wrap")[:16], terms["wrapped"])
        self.contexts = [srtp.SrtpTransform(aes, key[:16], key[16:30]), *self.contexts[:1]]

    def apply(self, effects: participant.Effects) -> None:
        """Send the datagrams of the floor participant and record its events."""
        for datagram in effects.datagrams:
            self.client.send_floor(datagram)
        self.events += [EVENTS.get(event, str(event)) for event in effects.events]
        if effects.error is not None:
            raise effects.error

    def request_floor(self, *args) -> None:
        self.apply(self.floor.press(monotonic_ms(), *args))

    def release_floor(self) -> None:
        self.apply(self.floor.release(monotonic_ms()))

    def cancel_request(self) -> None:
        self.apply(self.floor.cancel(monotonic_ms()))

    def packet(self, payload: bytes, ssrc: int | None = None, payload_type: int = 8) -> bytes:
        """Return the next SRTP packet, by default with the granted SSRC."""
        ssrc = self.floor.audio_ssrc if ssrc is None else ssrc
        buf = bytearray(len(payload) + 64)
        timestamp = self.sequence * len(payload)
        struct.pack_into(">BBHII", buf, 0, 0x80, payload_type, self.sequence, timestamp, ssrc)
        self.sequence += 1
        buf[12 : 12 + len(payload)] = payload
        return bytes(buf[: self.contexts[0].protect(buf, 12 + len(payload), 0)])

    def send_voice(self, payload: bytes, **fields) -> None:
        self.client.media.sendto(self.packet(payload, **fields), (_LOOPBACK, self.terms["media_port"]))


class DeviceClient:
    """A device with its broker session, its two sockets and its groups.

    Attributes:
        left_groups: Groups from which the hub has removed the device.
        commands, event_states, clip_states: Messages from the hub.
        reports: Number of receiver reports from the hub, which answer keepalives.
        rejected: Reasons for rejected packets from the hub.
    """

    def __init__(self, name: str, broker_port: int, start: int = 0) -> None:
        self.name, self.key, self.index = name, keys_of([name])[name], start
        self.memberships: dict[int, DeviceMembership] = {}
        self.left_groups: list[int] = []
        self.commands: list[dict] = []
        self.event_states: list[dict] = []
        self.clip_states: list[dict] = []
        self.epoch = 0
        self.reports = 0
        self.rejected: list[str] = []
        self.newest_floor_datagram = b""
        self._receiver = Receiver(self.key, name.encode(), frame.DOWNLINK)
        self._uplink = frame.Channel(self.key, name.encode())
        self._counter = 0
        self._newest_frame = b""
        self._uplink_srtcp = self._srtcp_context(b"patrolink-ptt-up")
        self._downlink_srtcp: dict[tuple, srtp.SrtcpTransform] = {}  # address of a hub -> context
        self._frames: list[bytes] = []
        self.udp = self.media = None
        self.open_sockets()
        self._mqtt = paho.Client(CallbackAPIVersion.VERSION2)
        self._mqtt.on_connect = lambda c, *_: c.subscribe(f"p/{name}/d", qos=1)
        self._subscribed = False
        self._mqtt.on_subscribe = self._on_subscribe
        self._mqtt.on_message = lambda c, u, m: self._frames.append(m.payload)
        self._mqtt.connect(_LOOPBACK, broker_port)
        self._mqtt.loop_start()
        wait_until(lambda: self._subscribed, "no subscription")

    def _on_subscribe(self, *_) -> None:
        self._subscribed = True

    def open_sockets(self) -> None:
        """Replace the sockets, like a NAT that assigns new ports."""
        for sock in (self.udp, self.media):
            if sock is not None:
                sock.close()
        self.udp, self.media = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        for sock in (self.udp, self.media):
            sock.bind((_LOOPBACK, 0))
            sock.setblocking(False)

    def close(self) -> None:
        self._mqtt.loop_stop()
        self._mqtt.disconnect()
        self.udp.close()
        self.media.close()

    # --- keys ---------------------------------------------------------------------------------------------------------

    def derive(self, label: bytes) -> bytes:
        return DeviceKey(self.key, self.epoch).derive(label)

    def rotate_key(self) -> None:
        """Start the next key epoch."""
        self.epoch += 1
        self._uplink = frame.Channel(self.key, self.name.encode(), frame.UPLINK, self.epoch)
        self._counter = 0
        self._uplink_srtcp = self._srtcp_context(b"patrolink-ptt-up")
        self._downlink_srtcp.clear()
        self.memberships.clear()

    def _srtcp_context(self, label: bytes) -> srtp.SrtcpTransform:
        return srtp.SrtcpTransform(aes, *srtp.derive_master(self.key, label, self.epoch))

    # --- broker -------------------------------------------------------------------------------------------------------

    def send_message(self, kind: int, values: dict) -> None:
        buf = bytearray(1024)
        n = self._uplink.seal_into(buf, kind, self._counter, codec.encode_into(kind, values, buf, frame.HEADER_BYTES))
        self._counter += 1
        self._newest_frame = bytes(buf[:n])
        self.repeat_message()

    def repeat_message(self, retain: bool = False) -> None:
        """Publish the newest frame again, as a device does until an event is answered."""
        self._mqtt.publish(f"p/{self.name}/u", self._newest_frame, qos=1, retain=retain)

    def send_hello(self) -> None:
        texts = {"board": b"linux", "firmware": b"0", "runtime": b"test"}
        numbers = dict.fromkeys(("boot", "schema_hash", "minor", "profiles", "heap_kb", "date_floor"), 0)
        self.send_message(patrolink_messages.HELLO, {**numbers, "batch_fixes": 60, **texts})

    # --- sockets ------------------------------------------------------------------------------------------------------

    def protect_rtcp(self, data: bytes) -> bytes:
        """Return an RTCP packet as SRTCP packet."""
        buf = bytearray(len(data) + 64)
        buf[: len(data)] = data
        n = self._uplink_srtcp.protect(buf, len(data), self.index)
        self.index += 1
        return bytes(buf[:n])

    def send_floor(self, data: bytes) -> None:
        """Protect floor control messages and send them to the hub of their group, which the SSRC selects."""
        ssrc = struct.unpack_from(">I", data, 4)[0]
        terms = next(membership.terms for membership in self.memberships.values() if membership.terms["ssrc"] == ssrc)
        self.udp.sendto(self.protect_rtcp(data), (_LOOPBACK, terms["floor_port"]))

    def send_keepalives(self) -> None:
        """Send a receiver report on both sockets to each hub."""
        hubs = {membership.terms["floor_port"]: membership.terms for membership in self.memberships.values()}
        for terms in hubs.values():
            report = RECEIVER_REPORT.pack(0x80, 201, 1, terms["ssrc"])
            self.media_address = (_LOOPBACK, terms["media_port"])
            self.udp.sendto(self.protect_rtcp(report), (_LOOPBACK, terms["floor_port"]))
            self.media.sendto(self.protect_rtcp(report), self.media_address)

    def newest_floor_types(self) -> list[int]:
        """Return the message types in the newest floor control datagram."""
        types, at, message, data = [], 0, mcptt.Message(), self.newest_floor_datagram
        while at < len(data):
            at = message.read(data, at, len(data), mcptt.DOWNLINK_TYPES)
            types.append(message.type)
        return types

    # --- receive ------------------------------------------------------------------------------------------------------

    def process(self) -> None:
        """Process received messages and packets, then run the timers."""
        while self._frames:
            self._on_frame(self._frames.pop(0))
        for sock, on_datagram in ((self.udp, self._on_floor_datagram), (self.media, self._on_media_datagram)):
            with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
                while True:
                    on_datagram(*sock.recvfrom(2048))
        for membership in self.memberships.values():
            membership.apply(membership.floor.poll(monotonic_ms()))

    def _on_frame(self, data: bytes) -> None:
        kind, _, body, _, _ = self._receiver.open(data)
        message = decode.decode(kind, body)
        if kind == patrolink_messages.COMMAND:
            self.commands.append(message)
        elif kind == patrolink_messages.EVENT_STATE:
            self.event_states.append(message)
        elif kind == patrolink_messages.CLIP_STATE:
            self.clip_states.append(message)
        elif kind == patrolink_messages.PTT_GROUP and not message["rights"]:
            self.left_groups.append(message["group"])
            self.memberships.pop(message["group"], None)
        elif kind == patrolink_messages.PTT_GROUP:
            membership = self.memberships.get(message["group"])
            if membership is None:
                self.memberships[message["group"]] = DeviceMembership(self, message)
            else:
                membership.update_terms(message)

    def _on_floor_datagram(self, data: bytes, source) -> None:
        buf = bytearray(data)
        context = self._downlink_srtcp.setdefault(source, self._srtcp_context(b"patrolink-ptt-down"))
        try:
            n = context.open(buf, len(buf))
        except srtp.SrtpError as e:
            self.rejected.append(str(e))
            return
        index = int.from_bytes(buf[n : n + 4], "big") & srtp.INDEX_MAX
        ssrc = struct.unpack_from(">I", buf, 4)[0]
        if buf[1] == 201:
            self.reports += 1
            return
        self.newest_floor_datagram = bytes(buf[:n])
        for membership in self.memberships.values():
            if membership.terms["hub_ssrc"] == ssrc:
                membership.apply(membership.floor.receive(buf, n, index, monotonic_ms()))

    def _on_media_datagram(self, data: bytes, source) -> None:
        ssrc = struct.unpack_from(">I", data, 8)[0]
        for membership in self.memberships.values():
            for context in membership.contexts:
                buf = bytearray(data)
                with contextlib.suppress(srtp.SrtpError):
                    n = context.open(buf, len(buf), membership.streams.setdefault(ssrc, srtp.SrtpStream()))
                    membership.voice.append((ssrc, struct.unpack_from(">H", buf, 2)[0], bytes(buf[12:n])))
                    membership.floor.media_received(monotonic_ms())
                    return
        self.rejected.append("voice")


def run_until(clients, condition, seconds: float = TIMEOUT_S) -> None:
    """Run the clients until the condition holds."""
    deadline = time.monotonic() + seconds
    while True:
        for client in clients:
            client.process()
        if condition():
            return
        assert time.monotonic() < deadline, [
            (client.name, client.rejected, {n: membership.events for n, membership in client.memberships.items()})
            for client in clients
        ]
        select.select([sock for client in clients for sock in (client.udp, client.media)], [], [], 0.005)


def run_for(clients, seconds: float = 0.3) -> None:
    """Run the clients for a fixed time, to verify that a packet does not arrive."""
    end = time.monotonic() + seconds
    run_until(clients, lambda: time.monotonic() >= end)


def join_groups(clients, groups) -> None:
    """Send hello, wait for the terms of the groups, and register all sockets with the hub."""
    for client in clients:
        client.send_hello()
    run_until(clients, lambda: all(set(groups) <= set(client.memberships) for client in clients))
    for client in clients:
        client.send_keepalives()
    run_until(clients, lambda: all(client.reports for client in clients))
    run_for(clients, 0.1)
