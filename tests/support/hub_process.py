"""A hub as a process, and the push-to-talk side of devices: the agent's floor machine, real sockets and broker."""

import contextlib
import hashlib
import hmac
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
from patrolink.emulator.scenarios import control_room
from patrolink.hub.infra.crypto import aes
from patrolink_protocol import codec, decode, frame, participant, srtp
from patrolink_protocol.receiver import Receiver

from tests.support.polling import TIMEOUT_S, wait_until

SITE = """name = "test.example"
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
GROUP = """[[group]]
id = {id}
name = "group {id}"
{more}
[[group.member]]
devices = {devices}
priority = 10
rights = ["talk", "emergency"]
"""
RR = struct.Struct(">BBHI")
EVENTS = {
    getattr(participant, name): name
    for name in ("GRANTED", "DENIED", "REVOKED", "FAILED", "QUEUE_POSITION", "TAKEN", "IDLE")
}


def free_ports(n: int) -> list[int]:
    """UDP ports that nobody has now."""
    return control_room.free_ports(n, socket.SOCK_DGRAM)


def keys_of(names) -> dict[str, bytes]:
    return {name: hashlib.sha256(name.encode()).digest() for name in names}


class HubProcess:
    """`patrolink hub` in a folder, restarted at will. `counts` is what it said at its end."""

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
        self.ready = json.loads(line)["ready"]

    def stop(self) -> dict:
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


class Seat:
    """A device's side of one group."""

    def __init__(self, client: "Client", terms: dict) -> None:
        self.client, self.terms = client, terms
        self.events: list[str] = []
        self.voice: list[tuple[int, int, bytes]] = []  # SSRC, sequence number, payload
        self.rtp: list[srtp.SrtpTransform] = []
        self.streams: dict[int, srtp.SrtpStream] = {}
        self.sequence = 0
        self.floor = participant.Participant(terms["ssrc"], b"sip:" + client.name.encode())
        self.renew(terms)

    def renew(self, terms: dict) -> None:
        if self.rtp and terms["key"] == self.terms["key"]:
            return
        self.terms = terms
        plain = aes_key_unwrap(self.client.derive(b"patrolink-ptt-wrap")[:16], terms["wrapped"])
        self.rtp = [srtp.SrtpTransform(aes, plain[:16], plain[16:30]), *self.rtp[:1]]

    def apply(self, effects: participant.Effects) -> None:
        """Send the datagrams of the floor participant and record its events."""
        for datagram in effects.datagrams:
            self.client.say(datagram)
        self.events += [EVENTS.get(event, str(event)) for event in effects.events]
        if effects.error is not None:
            raise effects.error

    def press(self, *args) -> None:
        self.apply(self.floor.press(self.client.now(), *args))

    def release(self) -> None:
        self.apply(self.floor.release(self.client.now()))

    def cancel(self) -> None:
        self.apply(self.floor.cancel(self.client.now()))

    def packet(self, payload: bytes, ssrc: int | None = None, kind: int = 8) -> bytes:
        """A packet of voice as it goes out, under the granted SSRC or another."""
        ssrc = self.floor.audio_ssrc if ssrc is None else ssrc
        buf = bytearray(len(payload) + 64)
        struct.pack_into(">BBHII", buf, 0, 0x80, kind, self.sequence, self.sequence * len(payload), ssrc)
        self.sequence += 1
        buf[12 : 12 + len(payload)] = payload
        return bytes(buf[: self.rtp[0].protect(buf, 12 + len(payload), 0)])

    def speak(self, payload: bytes, **how) -> None:
        self.client.media.sendto(self.packet(payload, **how), ("127.0.0.1", self.terms["media_port"]))


class Client:
    """A device: its broker session, its two sockets, its groups."""

    def __init__(self, name: str, broker_port: int, start: int = 0) -> None:
        self.name, self.key, self.index = name, keys_of([name])[name], start
        self.seats: dict[int, Seat] = {}
        self.left: list[int] = []
        self.commands: list[dict] = []
        self.states: list[dict] = []  # of our events
        self.clip_states: list[dict] = []
        self.epoch = 0
        self.answers = 0  # RRs of the hub
        self.refused: list[str] = []
        self._receiver = Receiver(self.key, name.encode(), frame.DOWNLINK)
        self._uplink = frame.Channel(self.key, name.encode())
        self._counter = 0
        self._down: dict[tuple, srtp.SrtcpTransform] = {}
        self._mail: list[bytes] = []
        self.sockets()
        self._mqtt = paho.Client(CallbackAPIVersion.VERSION2)
        self._mqtt.on_connect = lambda c, *_: c.subscribe(f"p/{name}/d", qos=1)
        self._ready = False
        self._mqtt.on_subscribe = lambda *_: setattr(self, "_ready", True)
        self._mqtt.on_message = lambda c, u, m: self._mail.append(m.payload)
        self._mqtt.connect("127.0.0.1", broker_port)
        self._mqtt.loop_start()
        wait_until(lambda: self._ready, "no subscription")

    def sockets(self) -> None:
        """Have new sockets: what a network does that maps anew."""
        for it in (getattr(self, "udp", None), getattr(self, "media", None)):
            if it is not None:
                it.close()
        self.udp, self.media = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        for it in (self.udp, self.media):
            it.bind(("127.0.0.1", 0))
            it.setblocking(False)

    def close(self) -> None:
        self._mqtt.loop_stop()
        self._mqtt.disconnect()
        self.udp.close()
        self.media.close()

    def derive(self, label: bytes) -> bytes:
        return hmac.digest(self.key, label + self.epoch.to_bytes(4, "big"), "sha256")

    def rotate(self) -> None:
        """Begin the next key epoch."""
        self.epoch += 1
        self._uplink = frame.Channel(self.key, self.name.encode(), frame.UPLINK, self.epoch)
        self._counter = 0
        self._up = self._master(b"patrolink-ptt-up")
        self._down.clear()
        self.seats.clear()

    @staticmethod
    def now() -> int:
        return time.monotonic_ns() // 1_000_000

    def uplink(self, kind: int, values: dict) -> None:
        buf = bytearray(1024)
        n = self._uplink.seal_into(buf, kind, self._counter, codec.encode_into(kind, values, buf, frame.HEADER_BYTES))
        self._counter += 1
        self._mqtt.publish(f"p/{self.name}/u", bytes(buf[:n]), qos=1)

    def hello(self) -> None:
        texts = {"board": b"linux", "firmware": b"0", "runtime": b"test"}
        numbers = dict.fromkeys(("boot", "schema_hash", "minor", "profiles", "heap_kb", "date_floor"), 0)
        self.uplink(patrolink_messages.HELLO, {**numbers, "batch_fixes": 60, **texts})

    # --- sockets

    def _master(self, label: bytes) -> srtp.SrtcpTransform:
        master = self.derive(label)
        return srtp.SrtcpTransform(aes, master[:16], master[16:30])

    def sealed(self, data: bytes) -> bytes:
        """A plain RTCP datagram as it goes out."""
        buf = bytearray(len(data) + 64)
        buf[: len(data)] = data
        if not hasattr(self, "_up"):
            self._up = self._master(b"patrolink-ptt-up")
        n = self._up.protect(buf, len(data), self.index)
        self.index += 1
        return bytes(buf[:n])

    def say(self, data: bytes) -> None:
        ssrc = struct.unpack_from(">I", data, 4)[0]
        terms = next(seat.terms for seat in self.seats.values() if seat.terms["ssrc"] == ssrc)
        self.udp.sendto(self.sealed(data), ("127.0.0.1", terms["floor_port"]))

    def keepalive(self) -> None:
        """Show ourselves on both sockets of each hub."""
        for seat in {seat.terms["floor_port"]: seat for seat in self.seats.values()}.values():
            rr = RR.pack(0x80, 201, 1, seat.terms["ssrc"])
            self.udp.sendto(self.sealed(rr), ("127.0.0.1", seat.terms["floor_port"]))
            self.media.sendto(self.sealed(rr), ("127.0.0.1", seat.terms["media_port"]))
            self.media_at = ("127.0.0.1", seat.terms["media_port"])

    def pump(self) -> None:
        """Take what has come, and run the timers."""
        while self._mail:
            self._take_frame(self._mail.pop(0))
        for it, take in ((self.udp, self._take_floor), (self.media, self._take_voice)):
            with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
                while True:
                    data, source = it.recvfrom(2048)
                    take(data, source)
        for seat in self.seats.values():
            seat.apply(seat.floor.poll(self.now()))

    def _take_frame(self, data: bytes) -> None:
        kind, _, body, _, _ = self._receiver.open(data)
        message = decode.decode(kind, body)
        if kind == patrolink_messages.COMMAND:
            self.commands.append(message)
        elif kind == patrolink_messages.EVENT_STATE:
            self.states.append(message)
        elif kind == patrolink_messages.CLIP_STATE:
            self.clip_states.append(message)
        elif kind == patrolink_messages.PTT_GROUP and not message["rights"]:
            self.left.append(message["group"])
            self.seats.pop(message["group"], None)
        elif kind == patrolink_messages.PTT_GROUP:
            seat = self.seats.get(message["group"])
            if seat is None:
                self.seats[message["group"]] = Seat(self, message)
            else:
                seat.renew(message)

    def _take_floor(self, data: bytes, source) -> None:
        buf = bytearray(data)
        down = self._down.setdefault(source, self._master(b"patrolink-ptt-down"))
        try:
            n = down.open(buf, len(buf))
        except srtp.SrtpError as e:
            self.refused.append(str(e))
            return
        index = int.from_bytes(buf[n : n + 4], "big") & srtp.INDEX_MAX
        ssrc = struct.unpack_from(">I", buf, 4)[0]
        if buf[1] == 201:
            self.answers += 1
            return
        for seat in self.seats.values():
            if seat.terms["hub_ssrc"] == ssrc:
                seat.apply(seat.floor.receive(buf, n, index, self.now()))

    def _take_voice(self, data: bytes, source) -> None:
        ssrc = struct.unpack_from(">I", data, 8)[0]
        for seat in self.seats.values():
            for rtp in seat.rtp:
                buf = bytearray(data)
                with contextlib.suppress(srtp.SrtpError):
                    n = rtp.open(buf, len(buf), seat.streams.setdefault(ssrc, srtp.SrtpStream()))
                    seat.voice.append((ssrc, struct.unpack_from(">H", buf, 2)[0], bytes(buf[12:n])))
                    seat.floor.media_received(self.now())
                    return
        self.refused.append("voice")


def run(clients, condition, seconds: float = TIMEOUT_S) -> None:
    """Pump the clients until the condition holds."""
    deadline = time.monotonic() + seconds
    while True:
        for it in clients:
            it.pump()
        if condition():
            return
        assert time.monotonic() < deadline, [
            (it.name, it.refused, {n: seat.events for n, seat in it.seats.items()}) for it in clients
        ]
        select.select([s for it in clients for s in (it.udp, it.media)], [], [], 0.005)


def settle(clients, seconds: float = 0.3) -> None:
    """Pump the clients for a while."""
    end = time.monotonic() + seconds
    run(clients, lambda: time.monotonic() >= end)


def join(clients, groups) -> None:
    """Say hello, be told the groups, and show up on the sockets."""
    for it in clients:
        it.hello()
    run(clients, lambda: all(set(groups) <= set(it.seats) for it in clients))
    for it in clients:
        it.keepalive()
    run(clients, lambda: all(it.answers for it in clients))
    settle(clients, 0.1)
