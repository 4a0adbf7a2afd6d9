"""Live view on the device: what goes on the way and when, its rate, and every end of it, on both runtimes."""

import struct

from agent.live_view import session
from agent.live_view.bitrate import BitrateController
from agent.live_view.rtp_h264 import H264Packetizer, nal_units
from agent.live_view.rtp_jpeg import JpegPacketizer
from allocation import allocated
from compat.aes import encrypter
from patrolink_protocol import srtp
from patrolink_protocol.key_derivation import live_view_context

KEY = bytes(range(32))
ID, EXPIRES = 0xC0FFEE01, 1795000000123
# Annex K's Huffman tables, as every JPEG of a camera has them.
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


class Wire:
    """A UDP socket: what was sent, opened by the hub's side, and what comes."""

    def __init__(self):
        self.rtp = srtp.SrtpTransform(encrypter, *keys(b"up", ID), room=1200)
        self.rtcp = srtp.SrtcpTransform(encrypter, *keys(b"up", ID))
        self.down = srtp.SrtcpTransform(encrypter, *keys(b"down", ID))
        self.stream = srtp.SrtpStream()
        self.packets = []
        self.bytes = self.byes = self.reports = 0
        self.come = []
        self.closed = False
        self.room = True

    def ready(self):
        return self.room

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
        self.come.append(bytes(buf[:n]))

    def recv_into(self, buf):
        if not self.come:
            return 0
        data = self.come.pop(0)
        buf[: len(data)] = data
        return len(data)

    def close(self):
        self.closed = True


class Eye:
    fault = ""


class Scene:
    """A live view of 5 pictures a second, on a clock of its own."""

    def __init__(self, kbps=400, busy=None, encoder=None):
        self.wire = Wire()
        self.log = []
        self.eye = Eye()
        self.live = session.LiveView(
            lambda host, port: self.wire, encrypter, keys, self.log.append, self.eye, kbps, encoder, busy
        )
        self.now = 1000

    def start(self, seconds=30):
        return self.live.start(command(seconds), "127.0.0.1", 5004, self.now)

    def run(self, ms, report=None, picture=None):
        """Go on for so long; report(wire), when given, once a second."""
        picture = picture or jpeg(SCAN)
        for _ in range(ms // 10):
            if self.now % 200 == 0:
                self.live.picture(picture, self.now)
            self.live.serve(self.now)
            if report is not None and self.now % 1000 == 0:
                report(self.wire)
            self.now += 10


def refused(picture):
    return JpegPacketizer().begin(picture)


def test_a_jpeg_goes_in_pieces_that_make_it_again():
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


def test_what_cannot_travel_is_told():
    assert "baseline" in refused(jpeg(SCAN, frame=0xC2))
    assert "4:2:0" in refused(jpeg(SCAN, sampling=0x11))
    assert "multiple of 8" in refused(jpeg(SCAN, width=2048))
    assert "multiple of 8" in refused(jpeg(SCAN, height=243))
    assert "Annex K" in refused(jpeg(SCAN, huffman=((0x00, "00010501010101010100000000000000", bytes(12)),)))
    assert "begin" in refused(b"GIF89a")
    whole = jpeg(SCAN)
    for n in range(len(whole) - 1):
        assert refused(whole[:n]), n


def test_a_packet_of_a_jpeg_allocates_little():
    packets = JpegPacketizer()
    buf = bytearray(1200)
    packets.begin(jpeg(SCAN))
    assert allocated(packets.next, buf, 12, 600) <= 96  # two views


def test_nal_units_alone_together_and_in_fragments():
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


def test_pictures_go_under_the_rate_of_the_configuration():
    scene = Scene(kbps=80)
    assert scene.start() == (True, "live")
    scene.run(20000, report=Wire.report)
    kbps = scene.wire.bytes * 8 // 20000
    assert 60 <= kbps <= 82, kbps
    assert scene.live.skipped > scene.live.sent > 30
    assert scene.wire.packets[0][1] == 26 and scene.wire.packets[-1][8:12] == ID.to_bytes(4, "big")


def test_the_rate_follows_loss_and_waiting_and_comes_back():
    scene = Scene()
    scene.start(300)
    scene.run(14000, report=Wire.report)
    assert scene.live.kbps() == 400
    scene.run(5000, report=lambda wire: wire.report(loss=40))
    assert scene.live.kbps() < 60
    scene.run(60000, report=lambda wire: wire.report(loss=40))
    assert scene.live.kbps() == 16  # the floor
    scene.run(20000, report=Wire.report)
    assert 100 < scene.live.kbps() < 250  # with care: what it was is known to be too much
    scene.run(30000, report=Wire.report)
    assert scene.live.kbps() == 400
    scene.run(5000, report=lambda wire: wire.report(highest=max(0, wire.stream.highest - 30)))
    assert scene.live.kbps() < 150


def test_one_packet_of_a_few_that_is_lost_once_is_chance():
    rate = BitrateController(64)
    for _ in range(20):  # every third second one of eight
        for loss in (0, 0, 32):
            rate.report(loss, 50, 8)
    assert rate.kbps == 64
    rate.report(64, 50, 8)  # two
    assert rate.kbps == 40
    rate.report(0, 50, 8)
    rate.report(32, 50, 8)
    before = rate.kbps
    rate.report(32, 50, 8)  # one again
    assert rate.kbps < before


def test_a_picture_loss_indication_asks_for_a_key_frame():
    asked = []

    class Encoder:
        def encode(self, picture, mono_ms, kbps, key):
            asked.append(key)
            return b"\0\0\1\x41" + bytes([5] * 100)

        def close(self):
            pass

    scene = Scene(encoder=Encoder())
    scene.start()
    scene.run(1000)
    assert asked == [True, False, False, False, False] and scene.wire.packets[0][1] == 0x80 | 96
    buf = bytearray(b"\x81\xce\0\2" + bytes(4) + struct.pack(">I", ID)) + bytearray(srtp.SRTCP_OVERHEAD_BYTES)
    n = scene.wire.down.protect(buf, 12, 0)
    scene.wire.come.append(bytes(buf[:n]))
    scene.run(400)
    assert asked[5:] == [False, True]  # the first came before it was read


def test_push_to_talk_has_half_of_it():
    scene = Scene(busy=lambda: True)
    scene.start()
    assert scene.live.kbps() == 50
    assert Scene().start()[0]


def test_a_socket_without_room_costs_pictures_and_no_packets():
    scene = Scene()
    scene.start()
    scene.run(400)
    gone = len(scene.wire.packets)
    assert gone
    scene.wire.room = False
    scene.run(1000)
    assert len(scene.wire.packets) == gone and scene.live.skipped >= 4
    assert scene.live.serve(scene.now) >= 10  # it does not ask all the time
    scene.wire.room = True
    scene.run(3000)
    sequence = [struct.unpack(">H", packet[2:4])[0] for packet in scene.wire.packets]
    assert sequence == list(range(len(sequence))) and len(sequence) > gone + 10
    scene.wire.room = False
    scene.run(200)
    scene.live.stop("told to", scene.now)
    assert scene.wire.byes == 1 and scene.wire.closed


def test_its_ends():
    scene = Scene()
    scene.start(5)
    scene.run(6000, report=Wire.report)
    assert (
        scene.live.end_reason == "the requested time is over"
        and scene.wire.byes == 1
        and scene.wire.closed
        and not scene.live.running()
    )
    assert scene.start() == (False, "this command was already carried out")

    scene = Scene()
    scene.start(60)
    scene.run(9900)
    assert scene.live.running()
    scene.run(200)
    assert scene.live.end_reason == "no report from the hub for 10 s" and not scene.live.running()

    scene = Scene()
    scene.start(60)
    scene.run(1000, report=Wire.report)
    sent = len(scene.wire.packets)
    scene.eye.fault = "indicator: it reads as off"
    scene.run(1000)
    assert scene.live.end_reason == "indicator: it reads as off" and len(scene.wire.packets) == sent
    assert scene.live.start(command(5, ID + 1), "h", 1, scene.now) == (False, "indicator: it reads as off")

    scene = Scene()
    scene.start(60)
    assert scene.live.start(command(5, ID + 1), "h", 1, scene.now)[0] is False
    scene.live.stop("stopped by duty", scene.now)
    scene.live.stop("again", scene.now)
    assert scene.live.end_reason == "stopped by duty" and scene.wire.byes == 1


def test_reports_that_are_not_genuine_keep_nothing_up():
    scene = Scene()
    scene.start(60)

    def forged(wire):
        wire.report()
        last = bytearray(wire.come.pop())
        last[-1] ^= 1
        wire.come.append(bytes(last))
        wire.come.append(b"\x81\xc9")

    scene.run(10100, report=forged)
    assert scene.live.end_reason == "no report from the hub for 10 s" and not scene.live.running()


def test_a_picture_that_cannot_travel_is_told_once():
    scene = Scene()
    scene.start()
    scene.run(1000, picture=jpeg(SCAN, frame=0xC2))
    assert not scene.wire.packets and scene.log == ["live view: a picture cannot be sent: it is not baseline"]
    scene.run(1000, picture=jpeg(bytes(session.PICTURE_MAX)))
    assert not scene.wire.packets and len(scene.log) == 2


def test_each_command_has_keys_of_its_own():
    """A hub that has lost its count begins ids anew: when the command expires tells them apart."""
    names = [(ID, EXPIRES), (ID + 1, EXPIRES), (ID, EXPIRES + 1), (ID, EXPIRES + (1 << 32))]
    assert len({keys(label, *name) for name in names for label in (b"up", b"down")}) == 8
    assert srtp.derive_master(KEY, b"patrolink-live-up", 4, live_view_context(ID, EXPIRES)) != keys(b"up", ID)
    scene = Scene()
    scene.start(1)
    scene.run(1500, Wire.report)
    assert scene.start(1) == (False, "this command was already carried out")
    assert scene.live.start(command(1, ID, EXPIRES + 1), "h", 1, scene.now)[0]


def young(link_kbps):
    """Ages in ms of the pictures at 330 kbit/s that come over a way with 60 ms of delay and a deep queue before it."""
    scene = Scene(kbps=1000)
    scene.start(300)
    wire, picture = scene.wire, jpeg(SCAN * 2)
    there, way, ages = wire.send, [], []
    free = [0]

    def send(view):
        free[0] = max(free[0], scene.now) + len(view) * 8 // link_kbps
        way.append((free[0] + 60, bytes(view)))

    wire.send = send
    while scene.now < 40000:
        if scene.now % 200 == 0:
            scene.live.picture(picture, scene.now)
        scene.live.serve(scene.now)
        while way and way[0][0] <= scene.now:
            there(way.pop(0)[1])
            last = wire.packets[-1]
            if last[1] & 0x80 and scene.now > 20000:
                ages.append(scene.now - struct.unpack(">I", last[4:8])[0] // 90)
        if scene.now % 1000 == 0:
            wire.report()
        scene.now += 5
    return sorted(ages)


def test_pictures_stay_young_on_a_way_that_carries_less_than_is_allowed():
    for link_kbps in (150, 200, 280):
        ages = young(link_kbps)
        median, p95 = ages[len(ages) // 2], ages[len(ages) * 95 // 100]
        assert len(ages) > 30 and median < 800 and p95 < 1600, (link_kbps, len(ages), median, p95)
