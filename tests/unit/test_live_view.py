"""Live view: packets and their times, bit rate, end reasons. Runs on both runtimes."""

import struct

from agent.live_view import session
from agent.live_view.bitrate import BitrateController
from agent.live_view.rtp_h264 import H264Packetizer, nal_units
from agent.live_view.rtp_jpeg import JpegPacketizer
from allocation import allocated
from patrolink_protocol import srtp
from patrolink_protocol.aes import encrypter
from patrolink_protocol.key_derivation import live_view_context

KEY = bytes(range(32))
ID, EXPIRES = 0xC0FFEE01, 1795000000123
# Huffman tables of ITU-T T.81, Annex K, which cameras use.
HUFFMAN = (
    (0x00, "00010501010101010100000000000000", bytes(range(12))),
    (0x01, "00030101010101010101010000000000", bytes(range(12))),
)


def keys(label, command_id, expires_ms=EXPIRES):
    return srtp.derive_master(KEY, b"patrolink-live-" + label, 3, live_view_context(command_id, expires_ms))


def command(seconds, command_id=ID, expires_ms=EXPIRES):
    return {"command_id": command_id, "expires_ms": expires_ms, "number": seconds}


def segment(marker, body):
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def jpeg(scan, width=320, height=240, sampling=0x22, restart=0, frame=0xC0, huffman=HUFFMAN):
    out = b"\xff\xd8" + segment(0xE0, b"JFIF\0")
    out += segment(0xDB, b"\0" + bytes(range(1, 65)) + b"\1" + bytes(range(65, 129)))
    parts = bytes((3, 1, sampling, 0, 2, 0x11, 1, 3, 0x11, 1))
    out += segment(frame, struct.pack(">BHH", 8, height, width) + parts)
    for number, counts, symbols in huffman:
        out += segment(0xC4, bytes((number,)) + bytes([int(counts[i : i + 2], 16) for i in range(0, 32, 2)]) + symbols)
    if restart:
        out += segment(0xDD, struct.pack(">H", restart))
    return out + segment(0xDA, bytes((3, 1, 0, 2, 0x11, 3, 0x11, 0, 63, 0))) + scan + b"\xff\xd9"


SCAN = bytes([i % 251 for i in range(4000)])


class FakeSocket:
    """A UDP socket whose peer is a hub: decrypts sent packets, and queues reports."""

    def __init__(self):
        self.rtp = srtp.SrtpTransform(encrypter, *keys(b"up", ID), room=1200)
        self.rtcp = srtp.SrtcpTransform(encrypter, *keys(b"up", ID))
        self.down = srtp.SrtcpTransform(encrypter, *keys(b"down", ID))
        self.stream = srtp.SrtpStream()
        self.packets = []
        self.bytes = self.byes = self.reports = 0
        self.incoming = []
        self.closed = False
        self.is_ready = True

    def ready(self):
        return self.is_ready

    def send(self, view):
        buf = bytearray(view)
        assert len(buf) <= session.PACKET_MAX
        if buf[1] == 203:
            self.rtcp.open(buf, len(buf))
            self.byes += 1
            return
        self.bytes += len(buf)
        self.packets.append(bytes(buf[: self.rtp.open(buf, len(buf), self.stream)]))

    def report(self, loss=0, highest=None, ssrc=ID):
        highest = max(self.stream.highest, 0) if highest is None else highest
        buf = bytearray(b"\x81\xc9\0\x07") + bytes(4) + struct.pack(">IIIIII", ssrc, loss << 24, highest, 0, 0, 0)
        buf += bytes(srtp.SRTCP_OVERHEAD_BYTES)
        n = self.down.protect(buf, len(buf) - srtp.SRTCP_OVERHEAD_BYTES, self.reports)
        self.reports += 1
        self.incoming.append(bytes(buf[:n]))

    def recv_into(self, buf):
        if not self.incoming:
            return 0
        data = self.incoming.pop(0)
        buf[: len(data)] = data
        return len(data)

    def close(self):
        self.closed = True


class FakeCamera:
    fault = ""


class LiveViewHarness:
    """A live view of 5 pictures per second on a virtual clock."""

    def __init__(self, kbps=400, busy=None, encoder=None):
        self.socket = FakeSocket()
        self.log = []
        self.camera = FakeCamera()
        self.live = session.LiveView(
            lambda host, port: self.socket, encrypter, keys, self.log.append, self.camera, kbps, encoder, busy
        )
        self.now = 1000

    def start(self, seconds=30):
        return self.live.start(command(seconds), "127.0.0.1", 5004, self.now)

    def run(self, ms, report=None, picture=None):
        """Advance the clock; report(socket) is called once a second."""
        picture = picture or jpeg(SCAN)
        for _ in range(ms // 10):
            if self.now % 200 == 0:
                self.live.picture(picture, self.now)
            self.live.serve(self.now)
            if report is not None and self.now % 1000 == 0:
                report(self.socket)
            self.now += 10


def refusal_reason(picture):
    return JpegPacketizer().begin(picture)


def test_the_payloads_of_a_jpeg_reassemble_it():
    for sampling, restart in ((0x22, 0), (0x21, 0), (0x22, 4)):
        packets = JpegPacketizer()
        assert packets.begin(jpeg(SCAN, sampling=sampling, restart=restart)) == ""
        buf = bytearray(600)
        scan, tables = b"", b""
        while packets.more():
            n = packets.next(buf, 12, 500)
            assert n <= 500
            part = bytes(buf[12 : 12 + n])
            assert part[:4] == struct.pack(">I", len(scan))
            assert part[4:8] == bytes(((sampling == 0x22) | (64 if restart else 0), 255, 40, 30))
            part = part[8:]
            if restart:
                assert part[:4] == b"\0\4\xff\xff"
                part = part[4:]
            if not scan:
                assert part[:4] == b"\0\0\0\x80"
                tables, part = part[4:132], part[132:]
            scan += part
        assert scan == SCAN and tables == bytes(range(1, 129))


def test_unsupported_jpegs_are_refused_with_a_reason():
    assert "baseline" in refusal_reason(jpeg(SCAN, frame=0xC2))
    assert "4:2:0" in refusal_reason(jpeg(SCAN, sampling=0x11))
    assert "multiple of 8" in refusal_reason(jpeg(SCAN, width=2048))
    assert "multiple of 8" in refusal_reason(jpeg(SCAN, height=243))
    assert "Annex K" in refusal_reason(jpeg(SCAN, huffman=((0x00, "00010501010101010100000000000000", bytes(12)),)))
    assert "begin" in refusal_reason(b"GIF89a")
    whole = jpeg(SCAN)
    for n in range(len(whole) - 1):
        assert refusal_reason(whole[:n]), n


def test_a_packet_of_a_jpeg_allocates_two_views():
    packets = JpegPacketizer()
    buf = bytearray(1200)
    packets.begin(jpeg(SCAN))
    assert allocated(packets.next, buf, 12, 600) <= 96  # two views


def test_nal_units_are_sent_single_aggregated_and_fragmented():
    sps, pps, idr = b"\x67" + b"\x42" * 20, b"\x68\x01\x02\x03", b"\x65" + bytes([1 + i % 200 for i in range(3000)])
    unit = b"\0\0\0\1\x09\x10" + b"\0\0\0\1" + sps + b"\0\0\0\1" + pps + b"\0\0\1" + idr
    assert [unit[a:b] for a, b in nal_units(unit)][1:] == [sps, pps, idr]
    packets = H264Packetizer()
    assert packets.begin(unit) == ""
    buf = bytearray(1200)
    parts = []
    while packets.more():
        parts.append(bytes(buf[12 : 12 + packets.next(buf, 12, 1178)]))
    assert parts[0] == b"\x78" + struct.pack(">H", len(sps)) + sps + struct.pack(">H", len(pps)) + pps
    assert [part[:2] for part in parts[1:]] == [b"\x7c\x85", b"\x7c\x05", b"\x7c\x45"]
    assert b"\x65" + b"".join([part[2:] for part in parts[1:]]) == idr
    packets.begin(b"\0\0\1\x41" + bytes([5] * 100))
    assert packets.next(buf, 12, 1178) == 101 and not packets.more()
    assert H264Packetizer().begin(b"no start code")


def test_the_rate_stays_below_the_configured_one():
    harness = LiveViewHarness(kbps=80)
    assert harness.start() == (True, "live")
    harness.run(20000, report=FakeSocket.report)
    kbps = harness.socket.bytes * 8 // 20000
    assert 60 <= kbps <= 82, kbps
    assert harness.live.skipped > harness.live.sent > 30
    assert harness.socket.packets[0][1] == 26 and harness.socket.packets[-1][8:12] == ID.to_bytes(4, "big")


def test_the_rate_follows_loss_and_delay_and_recovers():
    harness = LiveViewHarness()
    harness.start(300)
    harness.run(14000, report=FakeSocket.report)
    assert harness.live.kbps() == 400
    harness.run(5000, report=lambda socket: socket.report(loss=40))
    assert harness.live.kbps() < 60
    harness.run(60000, report=lambda socket: socket.report(loss=40))
    assert harness.live.kbps() == 16  # the minimum
    harness.run(20000, report=FakeSocket.report)
    assert 100 < harness.live.kbps() < 250  # the rate rises slowly, because the previous one was too high
    harness.run(30000, report=FakeSocket.report)
    assert harness.live.kbps() == 400
    harness.run(5000, report=lambda socket: socket.report(highest=max(0, socket.stream.highest - 30)))
    assert harness.live.kbps() < 150


def test_one_lost_packet_of_a_few_is_ignored_once():
    rate = BitrateController(64)
    for _ in range(20):  # one of eight packets is lost in every third report
        for loss in (0, 0, 32):
            rate.report(loss, 50, 8)
    assert rate.kbps == 64
    rate.report(64, 50, 8)  # two lost packets
    assert rate.kbps == 40
    rate.report(0, 50, 8)
    rate.report(32, 50, 8)
    before = rate.kbps
    rate.report(32, 50, 8)  # one lost packet in each of two consecutive reports
    assert rate.kbps < before


def test_a_picture_loss_indication_requests_a_key_frame():
    key_flags = []

    class Encoder:
        def encode(self, picture, mono_ms, kbps, key):
            key_flags.append(key)
            return b"\0\0\1\x41" + bytes([5] * 100)

        def close(self):
            pass

    harness = LiveViewHarness(encoder=Encoder())
    harness.start()
    harness.run(1000)
    assert key_flags == [True, False, False, False, False] and harness.socket.packets[0][1] == 0x80 | 96
    buf = bytearray(b"\x81\xce\0\2" + bytes(4) + struct.pack(">I", ID)) + bytearray(srtp.SRTCP_OVERHEAD_BYTES)
    n = harness.socket.down.protect(buf, 12, 0)
    harness.socket.incoming.append(bytes(buf[:n]))
    harness.run(400)
    assert key_flags[5:] == [False, True]  # the first picture was encoded before the indication was read


def test_push_to_talk_halves_the_rate():
    harness = LiveViewHarness(busy=lambda: True)
    harness.start()
    assert harness.live.kbps() == 50
    assert LiveViewHarness().start()[0]


def test_a_blocked_socket_skips_pictures_and_loses_no_packets():
    harness = LiveViewHarness()
    harness.start()
    harness.run(400)
    sent = len(harness.socket.packets)
    assert sent
    harness.socket.is_ready = False
    harness.run(1000)
    assert len(harness.socket.packets) == sent and harness.live.skipped >= 4
    assert harness.live.serve(harness.now) >= 10  # milliseconds until the socket is polled again
    harness.socket.is_ready = True
    harness.run(3000)
    sequence = [struct.unpack(">H", packet[2:4])[0] for packet in harness.socket.packets]
    assert sequence == list(range(len(sequence))) and len(sequence) > sent + 10
    harness.socket.is_ready = False
    harness.run(200)
    harness.live.stop("stopped by the hub", harness.now)
    assert harness.socket.byes == 1 and harness.socket.closed


def test_each_cause_of_the_end_has_its_reason():
    harness = LiveViewHarness()
    harness.start(5)
    harness.run(6000, report=FakeSocket.report)
    assert (
        harness.live.end_reason == "the requested time is over"
        and harness.socket.byes == 1
        and harness.socket.closed
        and not harness.live.running()
    )
    assert harness.start() == (False, "this command was already carried out")

    harness = LiveViewHarness()
    harness.start(60)
    harness.run(9900)
    assert harness.live.running()
    harness.run(200)
    assert harness.live.end_reason == "no report from the hub for 10 s" and not harness.live.running()

    harness = LiveViewHarness()
    harness.start(60)
    harness.run(1000, report=FakeSocket.report)
    sent = len(harness.socket.packets)
    harness.camera.fault = "indicator: it reads as off"
    harness.run(1000)
    assert harness.live.end_reason == "indicator: it reads as off" and len(harness.socket.packets) == sent
    assert harness.live.start(command(5, ID + 1), "h", 1, harness.now) == (False, "indicator: it reads as off")

    harness = LiveViewHarness()
    harness.start(60)
    assert harness.live.start(command(5, ID + 1), "h", 1, harness.now)[0] is False
    harness.live.stop("stopped by duty", harness.now)
    harness.live.stop("stopped twice", harness.now)
    assert harness.live.end_reason == "stopped by duty" and harness.socket.byes == 1


def test_forged_reports_do_not_extend_a_view():
    harness = LiveViewHarness()
    harness.start(60)

    def forged(socket):
        socket.report()
        last = bytearray(socket.incoming.pop())
        last[-1] ^= 1
        socket.incoming.append(bytes(last))
        socket.incoming.append(b"\x81\xc9")

    harness.run(10100, report=forged)
    assert harness.live.end_reason == "no report from the hub for 10 s" and not harness.live.running()


def test_a_refused_picture_is_logged_once_per_reason():
    harness = LiveViewHarness()
    harness.start()
    harness.run(1000, picture=jpeg(SCAN, frame=0xC2))
    assert not harness.socket.packets and harness.log == ["live view: a picture cannot be sent: it is not baseline"]
    harness.run(1000, picture=jpeg(bytes(session.PICTURE_MAX)))
    assert not harness.socket.packets and len(harness.log) == 2


def test_each_command_has_different_keys():
    """A hub that lost its state repeats command ids; the expiry time makes the keys differ."""
    names = [(ID, EXPIRES), (ID + 1, EXPIRES), (ID, EXPIRES + 1), (ID, EXPIRES + (1 << 32))]
    assert len({keys(label, *name) for name in names for label in (b"up", b"down")}) == 8
    assert srtp.derive_master(KEY, b"patrolink-live-up", 4, live_view_context(ID, EXPIRES)) != keys(b"up", ID)
    harness = LiveViewHarness()
    harness.start(1)
    harness.run(1500, FakeSocket.report)
    assert harness.start(1) == (False, "this command was already carried out")
    assert harness.live.start(command(1, ID, EXPIRES + 1), "h", 1, harness.now)[0]


def picture_ages(link_kbps):
    """Return the sorted ages, in ms, of pictures of 330 kbit/s over a link with a deep queue and 60 ms of delay."""
    harness = LiveViewHarness(kbps=1000)
    harness.start(300)
    socket, picture = harness.socket, jpeg(SCAN * 2)
    deliver, in_flight, ages = socket.send, [], []
    idle_ms = [0]

    def send(view):
        idle_ms[0] = max(idle_ms[0], harness.now) + len(view) * 8 // link_kbps
        in_flight.append((idle_ms[0] + 60, bytes(view)))

    socket.send = send
    while harness.now < 40000:
        if harness.now % 200 == 0:
            harness.live.picture(picture, harness.now)
        harness.live.serve(harness.now)
        while in_flight and in_flight[0][0] <= harness.now:
            deliver(in_flight.pop(0)[1])
            last = socket.packets[-1]
            if last[1] & 0x80 and harness.now > 20000:
                ages.append(harness.now - struct.unpack(">I", last[4:8])[0] // 90)
        if harness.now % 1000 == 0:
            socket.report()
        harness.now += 5
    return sorted(ages)


def test_pictures_arrive_in_time_over_a_path_slower_than_the_limit():
    for link_kbps in (150, 200, 280):
        ages = picture_ages(link_kbps)
        median, p95 = ages[len(ages) // 2], ages[len(ages) * 95 // 100]
        assert len(ages) > 30 and median < 800 and p95 < 1600, (link_kbps, len(ages), median, p95)
