"""A radio on a bench: its hub's end of the wire, a microphone, a speaker, a clock. Both runtimes."""

import struct

from agent.ptt.client import PttClient
from agent.ptt.grant_log import GrantLog
from agent.ptt.hub_link import SrtcpContext
from agent.ptt.jitter_buffer import RING, JitterBuffer
from agent.ptt.playback import Playback
from agent.ptt.receive_arbiter import ReceiveArbiter
from agent.ptt.rtp_sender import RtpSender
from agent.ptt.transmit_session import TransmitSession
from compat import aes
from memory_storage import MemoryStore
from patrolink_protocol import mcptt as m
from patrolink_protocol import srtp
from patrolink_protocol.key_derivation import derive_key

KEY = bytes(range(32))
HUB = ("hub", 5000, 5002)
SHARD = 3 << 27
LOUD = bytes([0x2A, 0xAA] * 80)  # a unit and a half above any silence


def wrap(group_key, device_key=KEY, epoch=0):
    """RFC 3394 2.2.1 in the other direction: the hub's."""
    encrypt = aes.encrypter(derive_key(device_key, b"patrolink-ptt-wrap", epoch)[:16])
    plain = group_key + bytes(2)
    block = bytearray(b"\xa6" * 8 + bytes(8))
    r = bytearray(plain)
    for j in range(6):
        for i in range(4):
            block[8:] = r[8 * i : 8 * i + 8]
            encrypt(bytes(block), block)
            r[8 * i : 8 * i + 8] = block[8:]
            block[7] ^= 4 * j + i + 1
    return bytes(block[:8]) + bytes(r)


def group_key(number):
    return bytes([number]) * srtp.KEY_BYTES + bytes([number + 100]) * srtp.SALT_BYTES


def terms(group=1, **more):
    """A ptt_group message, as it is decoded."""
    it = {
        "group": group, "kind": 0, "rights": 7, "priority": 5, "rank": group, "codec": 0, "ssrc": 0x80000000 + group,
        "hub_ssrc": 100 + group, "key": 1, "wrapped": wrap(group_key(group)), "host": HUB[0], "floor_port": HUB[1],
        "media_port": HUB[2], "name": "g%d" % group,
    }  # fmt: skip
    it.update(more)
    return it


class Microphone:
    """Gives 16-bit samples, as many as its time has brought since it was opened."""

    def __init__(self, world):
        self._world = world
        self.buf = bytearray(160)
        self.is_open = False
        self.broken = False
        self.value = lambda i: 1000 if i // 8 % 2 else -1000

    def open(self):
        self.is_open = not self.broken
        self._from = self._world.ms
        self._given = 0
        return self.is_open

    def close(self):
        self.is_open = False

    def read(self):
        if (self._world.ms - self._from) * 8 - self._given < 80:
            return 0
        for i in range(80):
            struct.pack_into("<h", self.buf, 2 * i, self.value(self._given + i))
        self._given += 80
        return 160


class Socket:
    def __init__(self, world, port):
        self.world, self.port = world, port
        self.inbox = []
        self.closed = False

    def send(self, view):
        self.world.on_wire(self.port, bytes(view))

    def recv_into(self, buf):
        if not self.inbox:
            return 0
        data = self.inbox.pop(0)
        buf[: len(data)] = data
        return len(data)

    def close(self):
        self.closed = True


class World:
    def __init__(self, store=None, frame_ms=20, replay_s=0, groups=8, index=0):
        self.ms = 0
        self.sockets = {}
        self.opened = 0
        self.heard = []  # units that the speaker was given
        self.reports = []
        self.log = []
        self.said = []  # (type, Message) of floor control from the device
        self.voice = []  # plain packets
        self.reports_rr = 0
        self.deaf = False  # the hub answers no report
        self.mic = Microphone(self)
        self.up = srtp.SrtcpTransform(aes.encrypter, *srtp.derive_master(KEY, b"patrolink-ptt-up", 0))
        self.down = srtp.SrtcpTransform(aes.encrypter, *srtp.derive_master(KEY, b"patrolink-ptt-down", 0))
        self.index = index  # of what the hub sends
        self.rtp = srtp.SrtpTransform(aes.encrypter, group_key(1)[:16], group_key(1)[16:])
        self.streams = {}
        self.counter = 0
        self.store = store or MemoryStore()
        ring = bytearray(RING)
        self.jitter_buffer = JitterBuffer(ring)
        self.sender = RtpSender(self.mic, frame_ms, ring)
        self.sound = Playback(self, self.jitter_buffer, replay_s)
        hearing = ReceiveArbiter(self.jitter_buffer, self.sound, {}, self.report)
        speaking = TransmitSession(
            self.sender, self.sound, hearing, GrantLog(self.store), None, self.report, lambda n: n // 2, self.log.append
        )
        self.client = PttClient(
            b"sip:dev-1@site",
            aes.decrypter(derive_key(KEY, b"patrolink-ptt-wrap", 0)[:16]),
            aes.encrypter,
            SrtcpContext(aes.encrypter, lambda label: srtp.derive_master(KEY, b"patrolink-ptt-" + label, 0), self.take),
            self.udp,
            speaking,
            hearing,
            self.sound,
            self.log.append,
            groups,
        )

    def report(self, values, ms):
        self.reports.append((values, ms))

    def take(self):
        self.counter += 1
        return self.counter

    def udp(self, host, port):
        self.opened += 1
        s = self.sockets[port] = Socket(self, port)
        return s

    def write(self, pcm):
        self.heard.append(bytes(pcm))

    # --- the hub's end ----------------------------------------------------------------------------------------------

    def on_wire(self, port, data):
        buf = bytearray(data)
        if port == HUB[2] and not 192 <= buf[1] <= 223:
            ssrc = int.from_bytes(data[8:12], "big")
            stream = self.streams.setdefault(ssrc, srtp.SrtpStream())
            self.voice.append(bytes(buf[: self.rtp.open(buf, len(buf), stream)]))
            return
        n = self.up.open(buf, len(buf))
        if buf[1] == 201:
            self.reports_rr += 1
            if port == HUB[1] and not self.deaf:
                self.give(bytes((0x80, 201, 0, 1, 0, 0, 0, 101)))
            return
        at = 0
        while at < n:
            message = m.Message()
            at = message.read(buf, at, n, m.UPLINK_TYPES)
            self.said.append((message.type, message))

    def give(self, plain, port=None):
        """The hub sends one plain datagram, protected; return it as it was on the wire."""
        buf = bytearray(plain) + bytearray(srtp.SRTCP_OVERHEAD_BYTES)
        self.index += 1
        data = bytes(buf[: self.down.protect(buf, len(plain), self.index)])
        self.sockets[port or HUB[1]].inbox.append(data)
        return data

    def say(self, kind, *fields, group=1, ack=False):
        """The hub sends one floor message; fields are (method, values...)."""
        w = m.Writer(bytearray(256))
        w.begin(kind, 100 + group, ack)
        for name, *values in fields:
            getattr(w, name)(*values)
        return self.give(bytes(w.buf[: w.end()]))

    def grant(self, ssrc=SHARD + 1, seconds=30, group=1):
        return self.say(m.GRANTED, ("word", m.DURATION, seconds), ("audio_ssrc", ssrc), group=group, ack=True)

    def taken(self, ssrc, group=1, indicator=m.NORMAL):
        self.sequence = getattr(self, "sequence", 0) + 1
        return self.say(
            m.TAKEN,
            ("text", m.GRANTED_PARTY, b"sip:dev-2@site"),
            ("word", m.PERMISSION, 1),
            ("word", m.SEQUENCE, self.sequence),
            ("audio_ssrc", ssrc),
            ("word", m.INDICATOR, indicator),
            group=group,
        )

    def idle(self, group=1):
        return self.say(m.IDLE, ("word", m.SEQUENCE, 1), group=group)

    def speak(self, ssrc, sequence, voice, time=None, group=1):
        """Another one's packet of A-law reaches us."""
        rtp = srtp.SrtpTransform(aes.encrypter, group_key(group)[:16], group_key(group)[16:])
        time = sequence * len(voice) if time is None else time
        plain = bytes((0x80, 8, sequence >> 8, sequence & 255)) + struct.pack(">II", time, ssrc) + voice
        buf = bytearray(plain) + bytearray(srtp.TAG_BYTES)
        data = bytes(buf[: rtp.protect(buf, len(plain), 0)])
        self.sockets[HUB[2]].inbox.append(data)
        return data

    # --- time -------------------------------------------------------------------------------------------------------

    def run(self, ms, step=10):
        """Let time pass."""
        end = self.ms + ms
        while self.ms < end:
            self.ms += step
            self.serve()

    def serve(self):
        self.client.serve(self.ms)
        press = self.client.transmit_session.press
        state = press.group.floor.state if press else 0
        # The invariant: never open without the floor, or the wish for it.
        assert not self.mic.is_open or state in (1, 2), (self.ms, state)

    def press(self, line=b"ptt"):
        assert self.client.on_button(line, self.ms)

    def types(self):
        """Of the floor messages that the device has sent, acks left out."""
        return [kind for kind, _ in self.said if kind != m.ACK]


def joined(**more):
    """A world with a device in group 1 whose hub answers."""
    world = World(**more)
    world.client.on_group_message(terms(), world.ms)
    world.run(50)
    return world


def talking(**more):
    """A world where the device has the floor, 100 ms after the key went down."""
    world = joined(**more)
    world.press()
    world.run(100)
    world.grant()
    world.run(20)
    assert world.sender.on_air
    return world


def outcomes(world):
    """How the wearer's own presses ended."""
    return [values["outcome"] for values, _ in world.reports if values["role"] == 0]


def burst(world, ssrc, packets, group=1, first=0, payload=LOUD):
    """Another one's packets of 20 ms reach us as they are spoken."""
    for i in range(packets):
        world.speak(ssrc, first + i, payload, group=group)
        world.run(20)
