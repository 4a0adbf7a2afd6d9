"""Live view from the agent's packets to the hub's pictures, judged by PyAV, ffmpeg and tshark; and what is hostile."""

import asyncio
import io
import random
import shutil
import socket
import subprocess
import threading
import time
from collections import Counter

import av
import numpy
import pytest
from agent.live_view import session
from compat.aes import encrypter
from hal.posix.h264_encoder import Encoder
from patrolink.core.keys import DeviceKey
from patrolink.hub.live import depacketizer
from patrolink.hub.live.receiver import LiveViews, View, now_ms
from patrolink.hub.voice.floor_trace import Trace
from patrolink_protocol import srtp
from patrolink_protocol.key_derivation import live_view_context
from PIL import Image

from tests.support import hub_process

SECRET, EPOCH, ID, EXPIRES = bytes(range(32)), 7, 0xC0FFEE02, 1_795_000_000_123
SEEDS = range(20261125, 20261125 + 12)
FROM = ("127.0.0.1", 5000)


def keys(label, command_id, expires_ms=EXPIRES):
    return srtp.derive_master(SECRET, b"patrolink-live-" + label, EPOCH, live_view_context(command_id, expires_ms))


def command(seconds):
    return {"command_id": ID, "expires_ms": EXPIRES, "number": seconds}


def image(shade, size=(320, 240)):
    coarse = Image.effect_noise((size[0] // 8, size[1] // 8), 20).resize(size)
    return coarse.point(lambda v: min(255, max(0, v - 128 + shade))).convert("RGB")


def jpeg(shade, **how):
    out = io.BytesIO()
    image(shade).save(out, "JPEG", **how)
    return out.getvalue()


class Eye:
    fault = ""


class Wire:
    """What a live view sends, kept; nothing comes."""

    def __init__(self):
        self.packets = []

    def ready(self):
        return True

    def send(self, view):
        self.packets.append(bytes(view))

    def recv_into(self, buf):
        return 0

    def close(self):
        pass


def filmed(films, encoder=None, period_ms=200, kbps=8000):
    """Return the SRTP packets of these pictures, and how many pictures went."""
    wire = Wire()
    it = session.LiveView(lambda host, port: wire, encrypter, keys, lambda text: None, Eye(), kbps, encoder)
    assert it.start(command(300), "127.0.0.1", 1, 0) == (True, "live")
    for i, picture in enumerate(films):
        it.picture(picture, i * period_ms)
        for ms in range(i * period_ms, (i + 1) * period_ms, 5):
            it._heard = ms
            it.serve(ms)
    return wire.packets, it.sent


def moving(n):
    return [numpy.asarray(image(60 + 2 * i, (640, 480)))[:, :, ::-1].copy() for i in range(n)]


class Watch:
    """A hub's view of it, and what came."""

    def __init__(self, secret=SECRET):
        self.plain, self.pictures, self.ends = [], [], []
        self.refused = Counter()
        self.views = LiveViews("127.0.0.1", 0, self.refused)
        until = now_ms() + 60_000
        key = DeviceKey(secret, EPOCH)
        self.view = View("cam", ID, EXPIRES, key, until, self.plain.append, self.pictures.append, self.ends.append)
        self.views.begin(self.view)

    def take(self, *packets):
        for packet in packets:
            self.views.take(len(packet), FROM, packet)

    def close(self):
        self.view.pass_on(now_ms() + 1000)
        self.views.close()


@pytest.fixture
def watch():
    it = Watch()
    yield it
    it.views.close()


def same_picture(a, b):
    return Image.open(io.BytesIO(a)).convert("RGB").tobytes() == Image.open(io.BytesIO(b)).convert("RGB").tobytes()


@pytest.mark.parametrize("how", [{"subsampling": "4:2:0"}, {"subsampling": "4:2:2"}, {"restart_marker_rows": 1}])
def test_a_jpeg_arrives_as_it_was(watch, how):
    films = [jpeg(40 + 20 * i, quality=70, **how) for i in range(5)]
    packets, sent = filmed(films)
    watch.take(*packets)
    assert sent == len(watch.pictures) == 5
    for film, picture in zip(films, watch.pictures, strict=True):
        assert picture.kind == 26 and same_picture(film, picture.data)


def test_h264_arrives_and_decodes(watch):
    packets, sent = filmed(moving(20), Encoder(640, 480, 10), 100)
    watch.take(*packets)
    assert sent == len(watch.pictures) > 10
    decoder = av.CodecContext.create("h264", "r")
    frames = [frame for it in watch.pictures for frame in decoder.decode(av.Packet(it.data))] + decoder.decode(None)
    assert len(frames) == sent and (frames[0].width, frames[0].height) == (480, 352)
    levels = [frame.to_ndarray(format="gray").mean() for frame in frames]
    assert levels[-1] > levels[sent // 2] > levels[0] + 5


@pytest.mark.parametrize("seed", SEEDS)
def test_overtaken_and_doubled_packets_change_nothing_and_lost_ones_cost_their_picture(seed):
    chance = random.Random(seed)
    films = [jpeg(40 + 5 * i, quality=80) for i in range(12)]
    packets, _ = filmed(films)
    mixed = [packets[0]] + sorted(packets[1:], key=lambda p: int.from_bytes(p[2:4], "big") + chance.uniform(0, 6))
    mixed += chance.choices(packets, k=10)
    watch = Watch()
    watch.take(*mixed)
    assert len(watch.pictures) == 12, f"seed {seed}"
    assert watch.refused == {"live replay": 10}, f"seed {seed}"
    watch.close()

    for films_in, encoder in ((films, None), (moving(12), Encoder(640, 480, 10))):
        packets, _ = filmed(films_in, encoder)
        watch = Watch()
        kept = packets[:1] + [p for p in packets[1:] if chance.random() > 0.05]
        watch.take(*kept)
        watch.close()
        assert len(watch.plain) == len(kept), f"seed {seed}"
        for it in watch.pictures if encoder is None else ():
            assert any(same_picture(film, it.data) for film in films), f"seed {seed}"
        gone = {int.from_bytes(p[4:8], "big") for p in set(packets) - set(kept)}
        assert encoder is not None or len(watch.pictures) == 12 - len(gone), f"seed {seed}"
        assert {it.stamp for it in watch.pictures}.isdisjoint(gone), f"seed {seed}"


def test_loss_shows_in_the_report(watch):
    packets, _ = filmed([jpeg(100)] * 10)
    watch.take(*packets[:-20:2], *packets[-20:])
    down = srtp.Rtcp(encrypter, *keys(b"down", ID))
    for want in (True, False):
        buf = bytearray(watch.view.report())
        n = down.open(buf, len(buf))
        assert n == 32 and bytes(buf[8:12]) == ID.to_bytes(4, "big")
        assert (buf[12] > 50) is want and int.from_bytes(buf[13:16], "big") > 5
        assert int.from_bytes(buf[16:20], "big") == len(packets) - 1


def test_a_key_frame_is_asked_for_until_it_comes(watch):
    packets, _ = filmed(moving(12), Encoder(640, 480, 5))
    last_of_first = next(i for i, p in enumerate(packets) if p[1] & 0x80)
    watch.take(*packets[: last_of_first + 1])
    assert watch.view.asks(now_ms()) is None and len(watch.pictures) == 1
    watch.take(*packets[last_of_first + 2 :])
    watch.view.pass_on(now_ms() + 1000)
    assert len(watch.pictures) == 1
    buf = bytearray(watch.view.asks(5000))
    assert srtp.Rtcp(encrypter, *keys(b"down", ID)).open(buf, len(buf)) == 12 and buf[:2] == b"\x81\xce"
    assert watch.view.asks(5200) is None and watch.view.asks(5400)


def test_what_is_not_genuine_is_counted_and_changes_nothing(watch):
    packets, _ = filmed([jpeg(100)])
    stranger = Watch(bytes(32))
    stranger.take(*packets)
    assert not stranger.plain and stranger.refused == {"live tag": len(packets)} and stranger.view.source is None
    stranger.close()
    bent = [bytes([*p[:-1], p[-1] ^ 1]) for p in packets]
    watch.take(*bent, b"", b"\x80", bytes(2000), *(p[:30] for p in packets))
    assert not watch.plain and watch.view.source is None
    watch.take(*packets)
    assert len(watch.pictures) == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_hostile_payloads_raise_nothing_and_grow_nothing(seed):
    chance = random.Random(seed)
    for kind in (depacketizer.JPEG_KIND, depacketizer.H264_KIND):
        take = depacketizer.assembler(kind)
        index = 0
        for _ in range(3000):
            n = chance.choice((0, 1, 2, 3, 7, 8, 11, 12, 20, 139, 140, 141, 1100))
            payload = bytearray(chance.randbytes(n))
            if n > 12 and chance.random() < 0.5:
                payload[:12] = b"\0\0\0\0\x01\xff\x28\x1e\0\0\0\x80" if kind == 26 else b"\x7c\x05" + bytes(10)
            index += chance.choice((1, 1, 1, 2))
            out = take(bytes(payload), chance.randrange(2), chance.random() < 0.2, index)
            assert out is None or len(out) <= depacketizer.MOST + 2000, f"seed {seed}"
    h264 = depacketizer.H264()
    for index in range(5000):
        h264.take(b"\x7c\x85" + bytes(1000) if not index else b"\x7c\x05" + bytes(1000), 0, False, index)
    assert len(h264._unit) <= depacketizer.MOST


def plain_of(packets):
    watch = Watch()
    watch.take(*packets)
    watch.close()
    assert len(watch.plain) == len(packets)
    return watch.plain


def test_tshark_reads_the_headers(tmp_path):
    if shutil.which("tshark") is None:
        pytest.skip("no tshark; Debian package tshark")
    for kind, films, encoder in ((26, [jpeg(90)] * 3, None), (96, moving(3), Encoder(640, 480, 5))):
        dump = tmp_path / "live.pcap"
        trace = Trace(dump)
        packets, sent = filmed(films, encoder)
        plain = plain_of(packets)
        for packet in plain:
            trace.write(FROM, ("127.0.0.1", 5004), packet)
        trace.close()
        name = "jpeg" if kind == 26 else "h264"
        shown = ("rtp.marker", "jpeg.main_hdr.width" if kind == 26 else "h264.nal_unit_hdr", "_ws.malformed")
        command = ["tshark", "-r", str(dump), "-d", "udp.port==5004,rtp", "-T", "fields", "-Y", name]
        command += ["-o", "h264.dynamic.payload.type:96"] + [it for field in shown for it in ("-e", field)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        rows = [line.split("\t") for line in done.stdout.splitlines()]
        assert len(rows) == len(plain), done.stderr
        assert sum(row[0] in ("1", "True") for row in rows) == sent > 1 and not any(row[2] for row in rows)


@pytest.mark.parametrize("kind", [26, 96])
def test_ffmpeg_plays_what_the_agent_sends(kind, tmp_path):
    if shutil.which("ffmpeg") is None:
        pytest.skip("no ffmpeg; Debian package ffmpeg")
    while (port := hub_process.free_ports(1)[0]) & 1:  # a player takes RTCP on the next one
        pass
    films, encoder = ([jpeg(60 + 8 * i) for i in range(15)], None) if kind == 26 else (moving(15), Encoder(640, 480, 5))
    plain = plain_of(filmed(films, encoder)[0])
    sdp = tmp_path / "live.sdp"
    lines = f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=live\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP {kind}\n"
    sdp.write_text(lines + ("a=rtpmap:96 H264/90000\na=fmtp:96 packetization-mode=1\n" if kind == 96 else ""))
    out = tmp_path / "out.y4m"
    ffmpeg = ["ffmpeg", "-v", "error", "-protocol_whitelist", "file,udp,rtp", "-analyzeduration", "500000"]
    ffmpeg += ["-i", str(sdp), "-frames:v", "5", "-pix_fmt", "yuv420p", "-strict", "-1", str(out)]
    playing = subprocess.Popen(ffmpeg, stderr=subprocess.PIPE, text=True)
    over = threading.Event()

    def send():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as it:
            sequence = 0
            while not over.is_set():  # again from its key frame, until the player has had enough
                for packet in plain:
                    head = packet[:2] + (sequence & 0xFFFF).to_bytes(2, "big")
                    stamp = int.from_bytes(packet[4:8], "big") + sequence // len(plain) * 15 * 18000 & 0xFFFFFFFF
                    it.sendto(head + stamp.to_bytes(4, "big") + packet[8:], ("127.0.0.1", port))
                    sequence += 1
                    time.sleep(0.002)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        _, said = playing.communicate(timeout=40)
    finally:
        over.set()
        sender.join()
        playing.kill()
    assert playing.returncode == 0 and out.stat().st_size > 5 * 320 * 240, said


def test_over_a_socket_with_reports_until_it_is_stopped():
    """The agent's own socket and the hub's, for 3 s: reports come, the rate goes up, its end is told."""
    from compat.udp import UdpSocket

    class Inputs:
        def add(self, it):
            pass

        remove = add

    async def show():
        ended, came, plain, refused = [], [], [], Counter()
        views, key = LiveViews("127.0.0.1", 0, refused), DeviceKey(SECRET, EPOCH)
        view = View("cam", ID, EXPIRES, key, now_ms() + 60_000, plain.append, came.append, ended.append)
        views.begin(view)
        views.start()
        ends = []
        it = session.LiveView(
            lambda host, port: UdpSocket(host, port, Inputs()),
            encrypter, keys, lambda text: None, Eye(), 800, None, None, ends.append,
        )  # fmt: skip
        begin = now_ms()
        assert it.start(command(3), "127.0.0.1", views.port, begin)[0]
        picture, last = jpeg(100), 0
        while it.running():
            if now_ms() - last >= 200:
                last = now_ms()
                it.picture(picture, last)
            it.serve(now_ms())
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.2)
        views.close()
        return it, came, ended, ends, refused

    it, came, ended, ends, refused = asyncio.run(show())
    assert ends == ["time is over"] and ended == ["the device ended it"] and not refused
    assert len(came) == it.sent > 8 and it.rate.kbps > 200
