"""The hub of a talk group for cases of voice: the hub's own floor control, on the clock and datagrams of the evidence.

`ReferenceHub` has one group of two members: the device under test, and the kit's own participant, "station". It is fed
with exchanges and returns steps, so the same script runs over a device and over recorded evidence. It records what the
device does (`log`), which is what judges look at. It loses messages where a case asks for that.
"""

import hashlib
from collections.abc import Generator
from typing import Any, NamedTuple

import patrolink_messages as m
from patrolink_names import BITS
from patrolink_protocol import group_report, mcptt, srtp
from patrolink_protocol.frame import Channel

from patrolink.conformance import reference
from patrolink.conformance.case import Context
from patrolink.conformance.cases.bodies import pack
from patrolink.conformance.evidence import Exchange, Step, is_frame, transmit
from patrolink.conformance.frames import UP
from patrolink.conformance.testee.network_packets import UDP, Traffic, parse
from patrolink.core.keys import DeviceKey
from patrolink.hub.infra import crypto
from patrolink.hub.voice.floor import Floor
from patrolink.hub.voice.floor_types import FloorEvent, FloorRules, Member

HOST, FLOOR_PORT, MEDIA_PORT = "kit.example", 5002, 5004
GROUP, STATION = 4242, "station"
PCMA, PACKET_MS = 8, 20
REPORT, VOICE, FRAME, REFUSED = "report", "voice", "frame", "refused"
_INDICES = 8  # downlink SRTCP indices of one downlink counter
_RIGHTS = {name: 1 << bit for bit, name in enumerate(BITS["ptt_group", "rights"])}
_SSRC_COUNTERS = 1 << 27


class Entry(NamedTuple):
    """One thing that the device did, or that the hub granted.

    Attributes:
        at_ms: When it arrived.
        kind: REPORT, VOICE, FRAME, REFUSED, or the name of a floor message.
        port: FLOOR_PORT, MEDIA_PORT, or 0 for a frame.
        values: Fields: of a floor message, of a packet of voice, of a message in a frame, or {"reason"}.
        lost: The hub behaves as if it had not arrived.
    """

    at_ms: int
    kind: str
    port: int
    values: dict[str, Any]
    lost: bool = False


class ReferenceHub:
    """A talk group of the device and the station.

    Args:
        context: Context of the case.
        rules: Rules of the floor.
        rights: Rights of the device besides listening.
        priority: Highest priority of the device; that of the station is 100.
        is_wrapped: The device can unwrap the group key.

    Attributes:
        context: The context.
        log: What the device did.
        granted: Audio SSRCs that were granted to the device, in order.
        sent: (time, name) of each floor message to the device; "Granted (lost)" is one that it does not get.
        first_datagram: First datagram with a floor message to the device by name, as traffic.
        last: Newest plain floor message to the device by name, lost or not.
        marks: Times that a script has noted, by name.
        lose_up, lose_down: Number of the next messages of a name that are lost, in each direction.
        now_ms: Time of the last exchange.
    """

    def __init__(
        self,
        context: Context,
        rules: FloorRules | None = None,
        rights: tuple[str, ...] = ("talk", "emergency"),
        priority: int = 50,
        is_wrapped: bool = True,
    ) -> None:
        device = context.device
        assert device is not None
        self.context = context
        key = DeviceKey(device.secret, device.epoch)
        chance = context.random()
        self._first = device.counter
        self._key, self._rights, self._priority, self._is_wrapped = key, rights, priority, is_wrapped
        self._channel = Channel(device.secret, device.id.encode(), UP, device.epoch)
        self._up, self._down = (crypto.srtcp_context(key, b"patrolink-ptt-" + name) for name in (b"up", b"down"))
        self.group_key = crypto.GroupKey(1 + self._first % 0x7FFF, chance.randbytes(crypto.MASTER_BYTES))
        self._srtp = self.group_key.srtp_context()
        self._streams: dict[int, srtp.SrtpStream] = {}
        base = 1 << 31 | self._first % _SSRC_COUNTERS
        self.device = Member(device.id, base, priority, frozenset(rights), b"")
        self.station = Member(STATION, base + 1, 100, frozenset(_RIGHTS), f"sip:{STATION}@kit".encode(), present=True)
        self._ssrcs = self._index = self._station_index = self._sequence = 0
        self.floor = Floor(rules or FloorRules(), base + 2, self._new_ssrc)
        for member in (self.device, self.station):
            self.floor.join(member)
        self.floor.start(0)
        self.log: list[Entry] = []
        self.granted: list[int] = []
        self.sent: list[tuple[int, str]] = []
        self.last: dict[str, bytes] = {}
        self.first_datagram: dict[str, str] = {}
        self.marks: dict[str, int] = {}
        self.lose_up: dict[str, int] = {}
        self.lose_down: dict[str, int] = {}
        self._steps: list[Step] = []
        self.now_ms = 0
        self.wait_ms: int | None = 0

    def _new_ssrc(self, is_emergency: bool) -> int:
        self._ssrcs += 1
        return (self._first + self._ssrcs) % _SSRC_COUNTERS

    # --- terms --------------------------------------------------------------------------------------------------------

    def replace_key(self) -> None:
        """Use another group key from now on."""
        number, secret = self.group_key
        self.group_key = crypto.GroupKey(number + 1, hashlib.sha512(secret).digest()[: crypto.MASTER_BYTES])
        self._srtp = self.group_key.srtp_context()

    def mark(self, name: str) -> None:
        """Note the present time."""
        self.marks[name] = self.now_ms

    def terms(self, member: bool = True) -> dict[str, Any]:
        """Return the fields of `ptt_group`: the membership, or its end."""
        wrapped = self.group_key.wrap_for(self._key)
        if not self._is_wrapped:
            wrapped = wrapped[:-1] + bytes([wrapped[-1] ^ 1])
        return {
            "group": GROUP,
            "kind": 0,
            "rights": _RIGHTS["listen"] | sum(_RIGHTS[right] for right in self._rights) if member else 0,
            "priority": self._priority,
            "rank": 1,
            "codec": 0,
            "ssrc": self.device.ssrc,
            "hub_ssrc": self.floor.hub_ssrc,
            "key": self.group_key.number if member else 0,
            "wrapped": wrapped.hex() if member else "",
            "floor_port": FLOOR_PORT,
            "media_port": MEDIA_PORT,
            "host": HOST,
            "name": "conformance",
        }

    def terms_body(self, member: bool = True) -> bytes:
        """Return the body of `ptt_group`."""
        return pack(m.PTT_GROUP, self.terms(member))

    def report_entry(self) -> str:
        """Return the entry of the group that a device with these terms and this key reports, in hexadecimal digits."""
        body = pack(m.PTT_GROUP, {**self.terms(), "wrapped": self.group_key.secret.hex()})
        entry: bytes = group_report.pack_entry(GROUP, self.group_key.number, hashlib.sha256(body).digest()[:4])
        return entry.hex()

    # --- what arrives -------------------------------------------------------------------------------------------------

    def take(self, exchange: Exchange) -> None:
        """Process what an exchange has brought, and the timers that are due."""
        self.now_ms = exchange.at_ms
        for at_ms, text in exchange.answers:
            self.now_ms = at_ms
            if is_frame(text):
                self._take_frame(text)
            else:
                traffic = parse(text)
                if traffic.protocol == UDP and traffic.port in (FLOOR_PORT, MEDIA_PORT):
                    self._take_datagram(traffic)
            self._run()
        if not exchange.answers:
            self.now_ms += exchange.step.ms
        self._run()

    def _take_frame(self, text: str) -> None:
        reading = reference.read(bytes.fromhex(text), self._channel)
        self._note(FRAME, 0, reading.get("message", {"message": "", "reason": reading.get("reject")}))

    def _take_datagram(self, traffic: Traffic) -> None:
        buf = bytearray(traffic.data)
        is_rtcp = len(buf) > 1 and 192 <= buf[1] <= 223
        try:
            if is_rtcp:
                n = self._up.open(buf, len(buf))
                self._take_control(traffic.port, buf, n)
            else:
                self._take_voice(traffic.port, buf)
        except (srtp.SrtpError, mcptt.FloorError, ValueError, IndexError) as e:
            self._note(REFUSED, traffic.port, {"reason": str(e), "packet": traffic.data.hex()})

    def _take_control(self, port: int, buf: bytearray, n: int) -> None:
        index = int.from_bytes(buf[n : n + 4], "big") & srtp.INDEX_MAX
        ssrc = int.from_bytes(buf[4:8], "big")
        if buf[1] == group_report.RECEIVER_REPORT:
            report = group_report.read_receiver_report(bytes(buf[:n]))
            entries = [] if report is None else [group_report.pack_entry(*entry).hex() for entry in report[1]]
            self._note(REPORT, port, {"ssrc": ssrc, "entries": entries, "index": index})
            if port == FLOOR_PORT:
                self._send(bytes((0x80, group_report.RECEIVER_REPORT, 0, 1)) + self.floor.hub_ssrc.to_bytes(4, "big"))
        else:
            self._take_messages(bytes(buf[:n]), index)
        if port == FLOOR_PORT and not self.device.present:
            self.floor.sync(self.device, self.now_ms)

    def _take_messages(self, data: bytes, index: int) -> None:
        message, at, lost = mcptt.Message(), 0, False
        while at < len(data):
            start, at = at, message.read(data, at, len(data), mcptt.UPLINK_TYPES)
            name = mcptt.MESSAGE_NAMES[message.type] if message.type < mcptt.ACK else "Ack"
            left = self.lose_up.get(name, 0)
            lost = lost or left > 0
            self.lose_up[name] = max(0, left - 1)
            values = {key: getattr(message, key) for key in ("ssrc", "priority", "indicator", "acked", "source", "ack")}
            user = bytes(data[message.user_at : message.user_at + message.user_n]).decode(errors="replace")
            self._note(name, FLOOR_PORT, {**values, "user": user, "index": index, "at": start}, lost)
        if not lost:
            self.floor.receive(self.device, data, index, self.now_ms)

    def _take_voice(self, port: int, buf: bytearray) -> None:
        ssrc = int.from_bytes(buf[8:12], "big")
        n = self._srtp.open(buf, len(buf), self._streams.setdefault(ssrc, srtp.SrtpStream()))
        values = {"ssrc": ssrc, "sequence": int.from_bytes(buf[2:4], "big"), "marker": buf[1] >> 7}
        values |= {"payload_type": buf[1] & 127, "bytes": n - srtp.RTP_HEADER_BYTES}
        self._note(VOICE, port, {**values, "forwarded": self.floor.voice(self.device, ssrc, self.now_ms)})

    def _note(self, kind: str, port: int, values: dict[str, Any], lost: bool = False) -> None:
        self.log.append(Entry(self.now_ms, kind, port, values, lost))

    def entries(self, *kinds: str) -> list[Entry]:
        """Return the entries of some kinds."""
        return [entry for entry in self.log if entry.kind in kinds]

    def messages(self, name: str) -> list[dict[str, Any]]:
        """Return the messages of a name in frames of the device."""
        return [entry.values for entry in self.entries(FRAME) if entry.values.get("message") == name]

    # --- what is sent -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        self.wait_ms = self.floor.poll(self.now_ms)
        for effect in self.floor.take_effects():
            if isinstance(effect, FloorEvent):
                if effect.kind.value == "begin" and effect.member is self.device:
                    self.granted.append(effect.ssrc)
            elif effect.member is self.device:
                self._send_message(effect.data)

    def _send_message(self, data: bytes) -> None:
        message = mcptt.Message()
        message.read(data, 0, len(data), mcptt.DOWNLINK_TYPES)
        name = mcptt.MESSAGE_NAMES[message.type] if message.type < mcptt.ACK else "Ack"
        left = self.lose_down.get(name, 0)
        self.lose_down[name] = max(0, left - 1)
        self.last[name] = data
        self.sent.append((self.now_ms, name if not left else f"{name} (lost)"))
        if not left:
            self._send(data)
            self.first_datagram.setdefault(name, self._steps[-1].data)

    def _send(self, plain: bytes) -> None:
        self._steps.append(self.datagram(plain))

    def datagram(self, plain: bytes) -> Step:
        """Return the step that sends plain RTCP to the device, under a new SRTCP index."""
        buf = bytearray(len(plain) + srtp.SRTCP_OVERHEAD_BYTES)
        buf[: len(plain)] = plain
        n = self._down.protect(buf, len(plain), self._first * _INDICES + self._index)
        self._index += 1
        return transmit(Traffic(UDP, FLOOR_PORT, bytes(buf[:n])).text())

    def take_steps(self) -> Generator[Step, Exchange, None]:
        """Yield what has to be sent to the device, and forget it."""
        while self._steps:
            yield self._steps.pop(0)

    # --- the station --------------------------------------------------------------------------------------------------

    def station_sends(self, kind: int, indicator: int = mcptt.NORMAL, priority: int = 0) -> None:
        """Let the station send a floor message: REQUEST or RELEASE."""
        writer = mcptt.Writer(bytearray(64))
        writer.begin(kind, self.station.ssrc)
        if kind == mcptt.REQUEST:
            writer.pair(mcptt.PRIORITY, priority)
            writer.word(mcptt.INDICATOR, indicator | mcptt.QUEUEING)
        self._station_index += 1
        self.floor.receive(self.station, bytes(writer.buf[: writer.end()]), self._station_index, self.now_ms)
        self._run()

    def station_speaks(self, skipped: int = 0) -> Traffic:
        """Send a packet of the station's voice, after some that are lost; return it."""
        burst = self.floor.burst
        assert burst is not None and burst.member is self.station
        self._sequence += 1 + skipped
        head = bytes((0x80, PCMA | (0x80 if self._sequence == 1 else 0))) + self._sequence.to_bytes(2, "big")
        stamp = (self._sequence * PACKET_MS * 8).to_bytes(4, "big")
        plain = head + stamp + burst.ssrc.to_bytes(4, "big") + b"\xd5" * (PACKET_MS * 8)
        buf = bytearray(plain) + bytearray(srtp.TAG_BYTES)
        self.floor.voice(self.station, burst.ssrc, self.now_ms)
        n = self._srtp.protect(buf, len(plain), 0)
        packet = Traffic(UDP, MEDIA_PORT, bytes(buf[:n]))
        self._steps.append(transmit(packet.text()))
        return packet
