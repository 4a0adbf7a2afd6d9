"""Push-to-talk client of a device, with real or simulated sockets and broker session."""

import contextlib
import struct
from collections.abc import Callable
from typing import Any, Protocol

import patrolink_messages
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap
from patrolink.core.keys import DeviceKey
from patrolink_protocol import codec, decode, frame, mcptt, participant, srtp
from patrolink_protocol.aes import encrypter
from patrolink_protocol.receiver import Receiver

from tests.support.polling import TIMEOUT_S
from tests.support.site_file import keys_of

RECEIVER_REPORT = struct.Struct(">BBHI")  # without report blocks: version, packet type 201, length, SSRC
EVENTS = {
    getattr(participant, name): name
    for name in ("GRANTED", "DENIED", "REVOKED", "FAILED", "QUEUE_POSITION", "TAKEN", "IDLE")
}
_LOOPBACK = "127.0.0.1"


class Network(Protocol):
    """What clients of devices run on: `hub_process.LoopbackNetwork` or `simulated_site.SimulatedSite`."""

    def now_ms(self) -> int:
        """Return milliseconds since an arbitrary start."""

    def unix_ms(self) -> int:
        """Return the time of day in milliseconds."""

    def udp_socket(self) -> Any:
        """Return a non-blocking socket with an address."""

    def open_session(self, name: str, on_frame: Callable[[bytes], None]) -> Any:
        """Return a session of a device with the broker, with `publish(data, retain)` and `close()`."""

    def wait(self, clients) -> None:
        """Let a short time pass."""


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
        self.contexts = [srtp.SrtpTransform(encrypter, key[:16], key[16:30]), *self.contexts[:1]]

    def apply(self, effects: participant.Effects) -> None:
        """Send the datagrams of the floor participant and record its events."""
        for datagram in effects.datagrams:
            self.client.send_floor(datagram)
        self.events += [EVENTS.get(event, str(event)) for event in effects.events]
        if effects.error is not None:
            raise effects.error

    def request_floor(self, *args) -> None:
        self.apply(self.floor.press(self.client.network.now_ms(), *args))

    def release_floor(self) -> None:
        self.apply(self.floor.release(self.client.network.now_ms()))

    def cancel_request(self) -> None:
        self.apply(self.floor.cancel(self.client.network.now_ms()))

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

    Args:
        name: Name of the device.
        network: Its sockets, its broker and its clock.
        start: First SRTCP index.

    Attributes:
        left_groups: Groups from which the hub has removed the device.
        commands, event_states, clip_states, firmware, blocks: Messages from the hub.
        reports: Number of receiver reports from the hub, which answer keepalives.
        rejected: Reasons for rejected packets from the hub.
    """

    def __init__(self, name: str, network: Network, start: int = 0) -> None:
        self.network = network
        self.name, self.key, self.index = name, keys_of([name])[name], start
        self.memberships: dict[int, DeviceMembership] = {}
        self.left_groups: list[int] = []
        self.commands: list[dict] = []
        self.event_states: list[dict] = []
        self.clip_states: list[dict] = []
        self.firmware: list[dict] = []
        self.blocks: list[dict] = []
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
        self._buf = bytearray(2048)
        self.udp = self.media = None
        self.open_sockets()
        self._session = network.open_session(name, self._frames.append)

    def open_sockets(self) -> None:
        """Replace the sockets, like a NAT that assigns new ports."""
        for sock in (self.udp, self.media):
            if sock is not None:
                sock.close()
        self.udp, self.media = self.network.udp_socket(), self.network.udp_socket()

    def close(self) -> None:
        self._session.close()
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
        return srtp.SrtcpTransform(encrypter, *srtp.derive_master(self.key, label, self.epoch))

    # --- broker -------------------------------------------------------------------------------------------------------

    def send_message(self, kind: int, values: dict) -> None:
        buf = bytearray(1024)
        n = self._uplink.seal_into(buf, kind, self._counter, codec.encode_into(kind, values, buf, frame.HEADER_BYTES))
        self._counter += 1
        self._newest_frame = bytes(buf[:n])
        self.repeat_message()

    def repeat_message(self, retain: bool = False) -> None:
        """Publish the newest frame again, as a device does until an event is answered."""
        self.publish(self._newest_frame, retain)

    def publish(self, data: bytes, retain: bool = False) -> None:
        """Publish a frame of this device."""
        self._session.publish(data, retain)

    def send_hello(self, **fields) -> None:
        """Send a `hello`; `fields` replace those of a board without slots."""
        texts = {"board": b"linux", "firmware": b"0", "runtime": b"test", "content": bytes(8)}
        numbers = dict.fromkeys(("boot", "schema_hash", "minor", "profiles", "heap_kb", "date_floor"), 0)
        numbers |= {"rollback_floor": 0, "platform": 0}
        self.send_message(patrolink_messages.HELLO, {**numbers, "batch_fixes": 60, **texts, **fields})

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
                    n, source = sock.recvfrom_into(self._buf)
                    on_datagram(bytes(self._buf[:n]), source)
        for membership in self.memberships.values():
            membership.apply(membership.floor.poll(self.network.now_ms()))

    def _on_frame(self, data: bytes) -> None:
        kind, _, _ = self._receiver.accept(data)
        body, _ = self._receiver.read(data)
        message = decode.decode(kind, body)
        if kind == patrolink_messages.COMMAND:
            self.commands.append(message)
        elif kind == patrolink_messages.EVENT_STATE:
            self.event_states.append(message)
        elif kind == patrolink_messages.CLIP_STATE:
            self.clip_states.append(message)
        elif kind == patrolink_messages.FIRMWARE:
            self.firmware.append(message)
        elif kind == patrolink_messages.FIRMWARE_BLOCK:
            self.blocks.append(message)
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
                membership.apply(membership.floor.receive(buf, n, index, self.network.now_ms()))

    def _on_media_datagram(self, data: bytes, source) -> None:
        ssrc = struct.unpack_from(">I", data, 8)[0]
        for membership in self.memberships.values():
            for context in membership.contexts:
                buf = bytearray(data)
                with contextlib.suppress(srtp.SrtpError):
                    n = context.open(buf, len(buf), membership.streams.setdefault(ssrc, srtp.SrtpStream()))
                    membership.voice.append((ssrc, struct.unpack_from(">H", buf, 2)[0], bytes(buf[12:n])))
                    membership.floor.media_received(self.network.now_ms())
                    return
        self.rejected.append("voice")


def run_until(clients, condition, seconds: float = TIMEOUT_S) -> None:
    """Run clients of one network until the condition holds."""
    network = next(iter(clients)).network
    deadline_ms = network.now_ms() + 1000 * seconds
    while True:
        for client in clients:
            client.process()
        if condition():
            return
        assert network.now_ms() < deadline_ms, [
            (client.name, client.rejected, {n: membership.events for n, membership in client.memberships.items()})
            for client in clients
        ]
        network.wait(clients)


def run_for(clients, seconds: float = 0.3) -> None:
    """Run clients of one network for a fixed time, to verify that a packet does not arrive."""
    network = next(iter(clients)).network
    end_ms = network.now_ms() + 1000 * seconds
    run_until(clients, lambda: network.now_ms() >= end_ms)


def join_groups(clients, groups) -> None:
    """Send hello, wait for the terms of the groups, and register all sockets with the hub."""
    for client in clients:
        client.send_hello()
    run_until(clients, lambda: all(set(groups) <= set(client.memberships) for client in clients))
    for client in clients:
        client.send_keepalives()
    run_until(clients, lambda: all(client.reports for client in clients))
    run_for(clients, 0.1)
