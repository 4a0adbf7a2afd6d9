"""An MQTT 3.1.1 broker on a virtual clock, as far as a device needs one: QoS 1 in both directions, TLS.

Real brokers (`emulator.network.broker`) cannot run on a virtual clock.
"""

import ssl
import struct
from collections.abc import Callable

from patrolink.emulator.network.carrier import Connection
from patrolink.emulator.scheduler import Scheduler

_SEGMENT = 1400  # bytes of a TCP segment
_CONNECT, _PUBLISH, _PUBACK, _SUBSCRIBE, _PINGREQ = 1, 3, 4, 8, 12


class VirtualBroker:
    """A broker inside a simulation.

    Args:
        scheduler: Virtual clock.
        on_publish: Called with device id and payload for each PUBLISH.
        tls: Context of the listener; None for plain TCP.

    Attributes:
        mute: Accept every PUBLISH but acknowledge none, until `release`.
        refuse: Return code of CONNACK, 0 to accept.
        up: Whether it accepts connections.
        puback_ms: Delay of each PUBACK.
        refuse_subscriptions: Answer every SUBSCRIBE with a failure.
        retained: Retained downlink message by device.
    """

    def __init__(
        self, scheduler: Scheduler, on_publish: Callable[[str, bytes], None], tls: ssl.SSLContext | None = None
    ) -> None:
        self.scheduler = scheduler
        self.on_publish = on_publish
        self.tls = tls
        self.mute = False
        self.refuse = 0
        self.up = True
        self.puback_ms = 0.0
        self.refuse_subscriptions = False
        self.retained: dict[str, bytes] = {}
        self.handshake_failures = 0
        self.sessions: dict[str, _Session] = {}
        self._open: set[_Session] = set()

    def dial(self, kind: str, host: str, port: int, connection: Connection) -> "_Session | None":
        """Accept a connection (`carrier.Dial`)."""
        if not self.up or kind != "TCP":
            return None
        session = _Session(self, connection)
        self._open.add(session)
        return session

    def send(self, device: str, payload: bytes) -> None:
        """Publish to the downlink topic of a device; lost if it has no session (clean sessions)."""
        session = self.sessions.get(device)
        if session is not None and session.subscribed:
            session.publish(payload, False)

    def release(self) -> None:
        """Acknowledge what `mute` has held back, and what comes from now on."""
        self.mute = False
        for session in list(self._open):
            session.release()

    def stop(self) -> None:
        """Close all connections and accept none until `up` is True again."""
        self.up = False
        for session in list(self._open):
            session.end()

    def forget(self, session: "_Session") -> None:
        """Forget a closed connection."""
        self._open.discard(session)
        if self.sessions.get(session.device) is session:
            del self.sessions[session.device]


class _Session:
    def __init__(self, broker: VirtualBroker, connection: Connection) -> None:
        self._broker = broker
        self.connection = connection
        self._buf = bytearray()
        self._held: list[bytes] = []  # packet ids that are not acknowledged
        self.device = ""
        self.subscribed = False
        self._tls: ssl.SSLObject | None = None
        if broker.tls is not None:
            self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
            self._tls = broker.tls.wrap_bio(self._in, self._out, server_side=True)
            self._shaken = False

    def feed(self, data: bytes) -> None:
        if self not in self._broker._open:
            return
        if self._tls is None:
            self._buf += data
        else:
            try:
                self._in.write(data)
                if not self._shaken:
                    self._tls.do_handshake()
                    self._shaken = True
                while True:
                    part = self._tls.read(4096)
                    if not part:
                        break
                    self._buf += part
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError:
                self._broker.handshake_failures += not self._shaken
                self._flush()
                self.end()
                return
            self._flush()
        try:
            self._parse()
        except (IndexError, struct.error, UnicodeDecodeError):
            self.end()

    def _flush(self) -> None:
        self._down(self._out.read())

    def _down(self, data: bytes) -> None:
        for start in range(0, len(data), _SEGMENT):
            self.connection.down(data[start : start + _SEGMENT])

    def packet(self, first: int, body: bytes) -> None:
        n, length = len(body), bytearray()
        while True:
            length.append(n & 127 | (128 if n > 127 else 0))
            n >>= 7
            if not n:
                break
        data = bytes([first]) + bytes(length) + body
        if self._tls is None:
            self._down(data)
        else:
            self._tls.write(data)
            self._flush()

    def _parse(self) -> None:
        while len(self._buf) >= 2:
            n = shift = 0
            i = 1
            while True:
                if i >= len(self._buf):
                    return
                byte = self._buf[i]
                n |= (byte & 127) << shift
                shift += 7
                i += 1
                if not byte & 128:
                    break
                if shift > 21:
                    raise IndexError
            if len(self._buf) < i + n:
                return
            first, body = self._buf[0], bytes(self._buf[i : i + n])
            del self._buf[: i + n]
            self._on_packet(first, body)

    def _on_packet(self, first: int, body: bytes) -> None:
        kind = first >> 4
        broker = self._broker
        if kind == _CONNECT:
            if body[:7] != b"\0\4MQTT\4":
                self.end()
                return
            n = struct.unpack_from(">H", body, 10)[0]
            self.device = body[12 : 12 + n].decode()
            if broker.refuse:
                self.packet(0x20, bytes([0, broker.refuse]))
                self.end()
                return
            older = broker.sessions.get(self.device)
            if older is not None:
                older.end()
            broker.sessions[self.device] = self
            self.packet(0x20, b"\0\0")
        elif not self.device:
            self.end()
        elif kind == _PUBLISH:
            n = struct.unpack_from(">H", body)[0]
            packet_id, payload = body[2 + n : 4 + n], body[4 + n :]
            broker.on_publish(self.device, payload)
            if broker.puback_ms:
                broker.scheduler.after(broker.puback_ms, lambda: self._acknowledge(packet_id))
            else:
                self._acknowledge(packet_id)
        elif kind == _SUBSCRIBE:
            self.packet(0x90, body[:2] + (b"\x80" if broker.refuse_subscriptions else b"\1"))
            self.subscribed = not broker.refuse_subscriptions
            if self.subscribed and self.device in broker.retained:
                self.publish(broker.retained[self.device], True)
        elif kind == _PINGREQ:
            self.packet(0xD0, b"")
        elif kind != _PUBACK:  # DISCONNECT, or a packet that a device must not send
            self.end()

    def publish(self, payload: bytes, retained: bool) -> None:
        """Deliver a downlink message."""
        topic = f"p/{self.device}/d".encode()
        self.packet(0x32 | retained, struct.pack(">H", len(topic)) + topic + b"\0\1" + payload)

    def _acknowledge(self, packet_id: bytes) -> None:
        if self not in self._broker._open:
            return
        if self._broker.mute:
            self._held.append(packet_id)
        else:
            self.packet(0x40, packet_id)

    def release(self) -> None:
        """Acknowledge what was held back."""
        held, self._held = self._held, []
        for packet_id in held:
            self.packet(0x40, packet_id)

    def end(self) -> None:
        """Close from the broker."""
        self._broker.forget(self)
        self.connection.remote_closed()

    def close(self) -> None:
        """Handle the close of the device."""
        self._broker.forget(self)
