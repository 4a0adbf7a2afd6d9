"""PTT client with a simulated hub, microphone, speaker and clock. Runs on CPython and MicroPython."""

import struct

from agent.ptt.client import PttClient
from agent.ptt.grant_log import GrantLog
from agent.ptt.heard_log import HeardLog
from agent.ptt.hub_link import SrtcpContext
from agent.ptt.jitter_buffer import RING, JitterBuffer
from agent.ptt.playback import Playback
from agent.ptt.receive_arbiter import ReceiveArbiter
from agent.ptt.rtp_sender import RtpSender
from agent.ptt.transmit_session import TransmitSession
from memory_storage import MemoryStore
from patrolink_protocol import aes, group_report, participant, srtp
from patrolink_protocol import mcptt as m
from patrolink_protocol.key_derivation import derive_key

KEY = bytes(range(32))
HUB = ("hub", 5000, 5002)
SHARD = 3 << 27
LOUD = bytes([0x2A, 0xAA] * 80)  # 20 ms of A-law at full scale


def wrap(group_key, device_key=KEY, epoch=0):
    """Wrap a group key for a device, as the hub does (RFC 3394, 2.2.1)."""
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


def group_message(group=1, **overrides):
    """Return a decoded ptt_group message of the hub."""
    message = {
        "group": group, "kind": 0, "rights": 7, "priority": 5, "rank": group, "codec": 0, "ssrc": 0x80000000 + group,
        "hub_ssrc": 100 + group, "key": 1, "wrapped": wrap(group_key(group)), "host": HUB[0], "floor_port": HUB[1],
        "media_port": HUB[2], "name": "g%d" % group,
    }  # fmt: skip
    message.update(overrides)
    return message


class Microphone:
    """Provides 16-bit samples, `value(sample number)`, in real time of the harness's clock."""

    def __init__(self, harness):
        self._harness = harness
        self.buf = bytearray(160)
        self.is_open = False
        self.fault = False
        self.value = lambda i: 1000 if i // 8 % 2 else -1000

    def open(self):
        self.is_open = not self.fault
        self._open_ms = self._harness.now_ms
        self._read_samples = 0
        return self.is_open

    def close(self):
        self.is_open = False

    def read(self):
        if (self._harness.now_ms - self._open_ms) * 8 - self._read_samples < 80:
            return 0
        for i in range(80):
            struct.pack_into("<h", self.buf, 2 * i, self.value(self._read_samples + i))
        self._read_samples += 80
        return 160


class Socket:
    """UDP socket of the device."""

    def __init__(self, harness, port):
        self._harness, self.port = harness, port
        self.inbox = []
        self.closed = False

    def send(self, view):
        self._harness.on_datagram(self.port, bytes(view))

    def recv_into(self, buf):
        if not self.inbox:
            return 0
        data = self.inbox.pop(0)
        buf[: len(data)] = data
        return len(data)

    def close(self):
        self.closed = True


class PttHarness:
    """A PttClient and its hub. The methods that act for the hub are in the section of that name.

    Attributes:
        now_ms: current time.
        sockets: the device's socket for each port of the hub.
        sockets_opened: number of sockets opened so far.
        played: units of samples that the speaker received.
        reports: (values of ptt_burst, monotonic ms).
        log: lines of the log.
        floor_messages: (type, Message) received by the hub.
        media: plain RTP packets received by the hub.
        receiver_reports: number of receiver reports that the hub received.
        report_times: (port, ms) of each of them.
        group_reports: (SSRC, room, list of group_report.Entry) of those with a report of groups.
        is_mute: whether the hub leaves receiver reports unanswered.
    """

    def __init__(self, store=None, frame_ms=20, replay_s=0, groups=8, index=0):
        self.now_ms = 0
        self.sockets = {}
        self.sockets_opened = 0
        self.played = []
        self.reports = []
        self.log = []
        self.floor_messages = []
        self.media = []
        self.receiver_reports = 0
        self.report_times = []
        self.group_reports = []
        self.is_mute = False
        self.microphone = Microphone(self)
        self._srtcp_up = srtp.SrtcpTransform(aes.encrypter, *srtp.derive_master(KEY, b"patrolink-ptt-up", 0))
        self._srtcp_down = srtp.SrtcpTransform(aes.encrypter, *srtp.derive_master(KEY, b"patrolink-ptt-down", 0))
        self.index = index  # SRTCP index of the hub
        self.rtp = srtp.SrtpTransform(aes.encrypter, group_key(1)[:16], group_key(1)[16:])
        self.streams = {}
        self._taken_sequence = 0
        self.counter = 0
        self.store = store or MemoryStore()
        ring = bytearray(RING)
        self.jitter_buffer = JitterBuffer(ring)
        self.sender = RtpSender(self.microphone, frame_ms, ring)
        self.sounds = Playback(self, self.jitter_buffer, replay_s)
        receive_arbiter = ReceiveArbiter(self.jitter_buffer, self.sounds, {}, self.report)
        transmit_session = TransmitSession(
            self.sender,
            self.sounds,
            receive_arbiter,
            GrantLog(self.store),
            None,
            self.report,
            lambda n: n // 2,
            self.log.append,
        )
        self.client = PttClient(
            b"sip:dev-1@site",
            aes.decrypter(derive_key(KEY, b"patrolink-ptt-wrap", 0)[:16]),
            aes.encrypter,
            SrtcpContext(
                aes.encrypter, lambda label: srtp.derive_master(KEY, b"patrolink-ptt-" + label, 0), self.next_counter
            ),
            self.udp,
            transmit_session,
            receive_arbiter,
            self.sounds,
            self.log.append,
            groups,
            HeardLog(self.store, self.log.append),
        )

    def report(self, values, ms):
        self.reports.append((values, ms))

    def next_counter(self):
        self.counter += 1
        return self.counter

    def udp(self, host, port):
        self.sockets_opened += 1
        s = self.sockets[port] = Socket(self, port)
        return s

    def write(self, pcm):
        self.played.append(bytes(pcm))

    # --- hub -------------------------------------------------------------------------------------------------

    def on_datagram(self, port, data):
        buf = bytearray(data)
        if port == HUB[2] and not 192 <= buf[1] <= 223:
            ssrc = int.from_bytes(data[8:12], "big")
            stream = self.streams.setdefault(ssrc, srtp.SrtpStream())
            self.media.append(bytes(buf[: self.rtp.open(buf, len(buf), stream)]))
            return
        n = self._srtcp_up.open(buf, len(buf))
        if buf[1] == 201:
            self.receiver_reports += 1
            self.report_times.append((port, self.now_ms))
            report = group_report.read_receiver_report(bytes(buf[:n]))
            if report is not None:
                self.group_reports.append((int.from_bytes(buf[4:8], "big"),) + report)
            if port == HUB[1] and not self.is_mute:
                self.send(bytes((0x80, 201, 0, 1, 0, 0, 0, 101)))
            return
        at = 0
        while at < n:
            message = m.Message()
            at = message.read(buf, at, n, m.UPLINK_TYPES)
            self.floor_messages.append((message.type, message))

    def send(self, plain, port=None):
        """Protect a datagram, send it to the socket of `port` (default: floor port), and return its protected form."""
        buf = bytearray(plain) + bytearray(srtp.SRTCP_OVERHEAD_BYTES)
        self.index += 1
        data = bytes(buf[: self._srtcp_down.protect(buf, len(plain), self.index)])
        self.sockets[port or HUB[1]].inbox.append(data)
        return data

    def send_floor(self, kind, *fields, group=1, ack=False):
        """Send a floor message; fields are (method of mcptt.Writer, arguments...). Return the protected datagram."""
        w = m.Writer(bytearray(256))
        w.begin(kind, 100 + group, ack)
        for name, *values in fields:
            getattr(w, name)(*values)
        return self.send(bytes(w.buf[: w.end()]))

    def send_granted(self, ssrc=SHARD + 1, seconds=30, group=1):
        return self.send_floor(m.GRANTED, ("word", m.DURATION, seconds), ("audio_ssrc", ssrc), group=group, ack=True)

    def send_taken(self, ssrc, group=1, indicator=m.NORMAL):
        self._taken_sequence += 1
        return self.send_floor(
            m.TAKEN,
            ("text", m.GRANTED_PARTY, b"sip:dev-2@site"),
            ("word", m.PERMISSION, 1),
            ("word", m.SEQUENCE, self._taken_sequence),
            ("audio_ssrc", ssrc),
            ("word", m.INDICATOR, indicator),
            group=group,
        )

    def send_idle(self, group=1):
        return self.send_floor(m.IDLE, ("word", m.SEQUENCE, 1), group=group)

    def send_media(self, ssrc, sequence, alaw, timestamp=None, group=1):
        """Send a packet of another participant. Return the protected packet."""
        rtp = srtp.SrtpTransform(aes.encrypter, group_key(group)[:16], group_key(group)[16:])
        timestamp = sequence * len(alaw) if timestamp is None else timestamp
        plain = bytes((0x80, 8, sequence >> 8, sequence & 255)) + struct.pack(">II", timestamp, ssrc) + alaw
        buf = bytearray(plain) + bytearray(srtp.TAG_BYTES)
        data = bytes(buf[: rtp.protect(buf, len(plain), 0)])
        self.sockets[HUB[2]].inbox.append(data)
        return data

    # --- time -------------------------------------------------------------------------------------------------------

    def run(self, ms, step=10):
        """Advance the clock, and serve the client every `step` ms."""
        end_ms = self.now_ms + ms
        while self.now_ms < end_ms:
            self.now_ms += step
            self.serve()

    def serve(self):
        self.client.serve(self.now_ms)
        press = self.client.transmit_session.press
        state = press.group.floor.state if press else participant.NO_PERMISSION
        # Invariant: the microphone is open only while the floor is granted or requested.
        allowed = (participant.PENDING_REQUEST, participant.HAS_PERMISSION)
        assert not self.microphone.is_open or state in allowed, (self.now_ms, state)

    def press(self, line=b"ptt"):
        """Pass a button line to the client."""
        assert self.client.on_button(line, self.now_ms)

    def message_types(self):
        """Return the types of the floor messages that the hub received, without Floor Acks."""
        return [kind for kind, _ in self.floor_messages if kind != m.ACK]


def make_joined(**overrides):
    """Return a harness whose client has joined group 1, at 50 ms."""
    harness = PttHarness(**overrides)
    harness.client.on_group_message(group_message(), harness.now_ms)
    harness.run(50)
    return harness


def make_talking(**overrides):
    """Return a harness whose client transmits: the floor was granted 100 ms after key down."""
    harness = make_joined(**overrides)
    harness.press()
    harness.run(100)
    harness.send_granted()
    harness.run(20)
    assert harness.sender.on_air
    return harness


def outcomes(harness):
    """Return ptt_burst.outcome of every reported press."""
    return [values["outcome"] for values, _ in harness.reports if values["role"] == 0]


def send_burst(harness, ssrc, packets, group=1, first=0, payload=LOUD):
    """Send packets of another participant in real time, 20 ms each."""
    for i in range(packets):
        harness.send_media(ssrc, first + i, payload, group=group)
        harness.run(20)
