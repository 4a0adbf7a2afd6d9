"""Live view from the agent's packets to the hub's pictures, checked with PyAV, ffmpeg and tshark; malformed input."""

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
from hal.posix.h264_encoder import Encoder
from patrolink.core.clock import SystemClock, monotonic_ms
from patrolink.core.keys import DeviceKey
from patrolink.hub.infra.udp import bind_udp
from patrolink.hub.live import depacketizer
from patrolink.hub.live.receiver import LiveReceiver
from patrolink.hub.live.stream import LiveStream
from patrolink.hub.voice.floor_trace import FloorTrace
from patrolink_protocol import srtp
from patrolink_protocol.aes import encrypter
from patrolink_protocol.key_derivation import live_view_context
from PIL import Image

from tests.support import hub_process
from tests.support.hub_parts import FakeClock
from tests.support.live_camera import FaultlessCamera, NoSelector, StreamRecorder
from tests.support.polling import TIMEOUT_S

SECRET, EPOCH, ID, EXPIRES = bytes(range(32)), 7, 0xC0FFEE02, 1_795_000_000_123
SEEDS = range(20261125, 20261125 + 12)
SOURCE = ("127.0.0.1", 5000)


def keys(label, command_id, expires_ms=EXPIRES):
    return srtp.derive_master(SECRET, b"patrolink-live-" + label, EPOCH, live_view_context(command_id, expires_ms))


def command(seconds):
    return {"command_id": ID, "expires_ms": EXPIRES, "number": seconds}


def image(shade, size=(320, 240)):
    coarse = Image.effect_noise((size[0] // 8, size[1] // 8), 20).resize(size)
    return coarse.point(lambda v: min(255, max(0, v - 128 + shade))).convert("RGB")


def jpeg(shade, **options):
    out = io.BytesIO()
    image(shade).save(out, "JPEG", **options)
    return out.getvalue()


class PacketSink:
    """A socket of the agent that stores the sent packets and receives nothing."""

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


def srtp_packets(pictures, encoder=None, period_ms=200, kbps=8000):
    """Return the SRTP packets in which the agent sends these pictures, and how many pictures it sent."""
    sink = PacketSink()
    agent = session.LiveView(
        lambda host, port: sink, encrypter, keys, lambda text: None, FaultlessCamera(), kbps, encoder
    )
    assert agent.start(command(300), "127.0.0.1", 1, 0) == (True, "live")
    for i, picture in enumerate(pictures):
        agent.picture(picture, i * period_ms)
        for ms in range(i * period_ms, (i + 1) * period_ms, 5):
            agent.serve(ms)
    return sink.packets, agent.sent


def video(n):
    """Return n pictures for the encoder, each brighter than the one before."""
    return [numpy.asarray(image(60 + 2 * i, (640, 480)))[:, :, ::-1].copy() for i in range(n)]


class HubReceiver(StreamRecorder):
    """The hub's receiver with one stream, and a record of its events."""

    def __init__(self, secret=SECRET):
        super().__init__()
        self.rejected = Counter()
        self.clock = FakeClock(0)  # a packet that a busy machine delivers late is not missing
        self.receiver = LiveReceiver(bind_udp("127.0.0.1", 0), self.rejected, self.clock)
        key = DeviceKey(secret, EPOCH)
        self.stream = LiveStream("cam", key, ID, EXPIRES, 60_000, self.clock.now_ms, 0, self)
        self.receiver.add(self.stream)

    def receive(self, *packets):
        for packet in packets:
            self.receiver.receive(packet, SOURCE)

    def close(self):
        self.stream.deliver(self.clock.now_ms + 1000)
        self.receiver.close()


@pytest.fixture
def hub():
    receiver = HubReceiver()
    yield receiver
    receiver.receiver.close()


def same_picture(a, b):
    return Image.open(io.BytesIO(a)).convert("RGB").tobytes() == Image.open(io.BytesIO(b)).convert("RGB").tobytes()


@pytest.mark.parametrize(
    "options", [{"subsampling": "4:2:0"}, {"subsampling": "4:2:2"}, {"restart_marker_rows": 1}], ids=str
)
def test_jpeg_is_received_unchanged(hub, options):
    originals = [jpeg(40 + 20 * i, quality=70, **options) for i in range(5)]
    packets, sent = srtp_packets(originals)
    hub.receive(*packets)
    assert sent == len(hub.pictures) == 5
    for original, picture in zip(originals, hub.pictures, strict=True):
        assert picture.payload_type == 26 and same_picture(original, picture.data)


def test_h264_is_received_and_decodes(hub):
    packets, sent = srtp_packets(video(20), Encoder(640, 480, 10), 100)
    hub.receive(*packets)
    assert sent == len(hub.pictures) > 10
    decoder = av.CodecContext.create("h264", "r")
    frames = [frame for picture in hub.pictures for frame in decoder.decode(av.Packet(picture.data))]
    frames += decoder.decode(None)
    assert len(frames) == sent and (frames[0].width, frames[0].height) == (480, 352)
    levels = [frame.to_ndarray(format="gray").mean() for frame in frames]
    assert levels[-1] > levels[sent // 2] > levels[0] + 5


@pytest.mark.parametrize("seed", SEEDS)
def test_reordered_and_duplicate_packets_lose_nothing_and_a_lost_packet_loses_only_its_picture(seed):
    rng = random.Random(seed)
    originals = [jpeg(40 + 5 * i, quality=80) for i in range(12)]
    packets, _ = srtp_packets(originals)
    reordered = [packets[0]] + sorted(packets[1:], key=lambda p: int.from_bytes(p[2:4], "big") + rng.uniform(0, 6))
    hub = HubReceiver()
    hub.receive(*reordered, *rng.choices(packets, k=10))
    assert len(hub.pictures) == 12, f"seed {seed}"
    assert hub.rejected == {"live replay": 10}, f"seed {seed}"
    hub.close()

    for pictures, encoder in ((originals, None), (video(12), Encoder(640, 480, 10))):
        packets, _ = srtp_packets(pictures, encoder)
        hub = HubReceiver()
        received = packets[:1] + [p for p in packets[1:] if rng.random() > 0.05]
        hub.receive(*received)
        hub.close()
        assert len(hub.packets) == len(received), f"seed {seed}"
        for picture in hub.pictures if encoder is None else ():
            assert any(same_picture(original, picture.data) for original in originals), f"seed {seed}"
        incomplete = {int.from_bytes(p[4:8], "big") for p in set(packets) - set(received)}
        assert encoder is not None or len(hub.pictures) == 12 - len(incomplete), f"seed {seed}"
        assert {picture.timestamp for picture in hub.pictures}.isdisjoint(incomplete), f"seed {seed}"


def test_receiver_report_shows_loss(hub):
    packets, _ = srtp_packets([jpeg(100)] * 10)
    hub.receive(*packets[:-20:2], *packets[-20:])
    downlink = srtp.SrtcpTransform(encrypter, *keys(b"down", ID))
    for lossy in (True, False):
        buf = bytearray(hub.stream.receiver_report())
        n = downlink.open(buf, len(buf))
        assert n == 32 and bytes(buf[8:12]) == ID.to_bytes(4, "big")
        assert (buf[12] > 50) is lossy and int.from_bytes(buf[13:16], "big") > 5
        assert int.from_bytes(buf[16:20], "big") == len(packets) - 1


def test_key_frame_is_requested_until_it_is_received(hub):
    packets, _ = srtp_packets(video(12), Encoder(640, 480, 5))
    end_of_first = next(i for i, p in enumerate(packets) if p[1] & 0x80)
    hub.receive(*packets[: end_of_first + 1])
    assert hub.stream.picture_loss_indication(hub.clock.now_ms) is None and len(hub.pictures) == 1
    hub.receive(*packets[end_of_first + 2 :])
    hub.stream.deliver(hub.clock.now_ms + 1000)
    assert len(hub.pictures) == 1
    buf = bytearray(hub.stream.picture_loss_indication(5000))
    assert srtp.SrtcpTransform(encrypter, *keys(b"down", ID)).open(buf, len(buf)) == 12 and buf[:2] == b"\x81\xce"
    assert hub.stream.picture_loss_indication(5200) is None and hub.stream.picture_loss_indication(5400)


def test_packets_that_are_not_authentic_are_counted_and_ignored(hub):
    packets, _ = srtp_packets([jpeg(100)])
    other_key = HubReceiver(bytes(32))
    other_key.receive(*packets)
    assert not other_key.packets and other_key.rejected == {"live tag": len(packets)}
    assert other_key.stream.source is None
    other_key.close()
    altered = [bytes([*p[:-1], p[-1] ^ 1]) for p in packets]
    hub.receive(*altered, b"", b"\x80", bytes(2000), *(p[:30] for p in packets))
    assert not hub.packets and hub.stream.source is None
    hub.receive(*packets)
    assert len(hub.pictures) == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_malformed_payloads_raise_nothing_and_use_bounded_memory(seed):
    rng = random.Random(seed)
    for payload_type in (depacketizer.JPEG_PAYLOAD_TYPE, depacketizer.H264_PAYLOAD_TYPE):
        push = depacketizer.create_depacketizer(payload_type).push
        index = 0
        for _ in range(3000):
            n = rng.choice((0, 1, 2, 3, 7, 8, 11, 12, 20, 139, 140, 141, 1100))
            payload = bytearray(rng.randbytes(n))
            if n > 12 and rng.random() < 0.5:
                payload[:12] = b"\0\0\0\0\x01\xff\x28\x1e\0\0\0\x80" if payload_type == 26 else b"\x7c\x05" + bytes(10)
            index += rng.choice((1, 1, 1, 2))
            picture = push(bytes(payload), rng.randrange(2), rng.random() < 0.2, index)
            assert picture is None or len(picture) <= depacketizer.MAX_PICTURE_BYTES + 2000, f"seed {seed}"
    h264 = depacketizer.H264Depacketizer()
    for index in range(5000):
        h264.push(b"\x7c\x85" + bytes(1000) if not index else b"\x7c\x05" + bytes(1000), 0, False, index)
    assert len(h264._unit) <= depacketizer.MAX_PICTURE_BYTES


def decrypted(packets):
    """Return the RTP packets that the hub delivers for these SRTP packets."""
    hub = HubReceiver()
    hub.receive(*packets)
    hub.close()
    assert len(hub.packets) == len(packets)
    return hub.packets


def test_tshark_reads_the_headers(tmp_path):
    if shutil.which("tshark") is None:
        pytest.skip("tshark is not installed (Debian package tshark)")
    for payload_type, pictures, encoder in ((26, [jpeg(90)] * 3, None), (96, video(3), Encoder(640, 480, 5))):
        dump = tmp_path / "live.pcap"
        trace = FloorTrace(dump, SystemClock())
        packets, sent = srtp_packets(pictures, encoder)
        rtp = decrypted(packets)
        for packet in rtp:
            trace.write(SOURCE, ("127.0.0.1", 5004), packet)
        trace.close()
        name = "jpeg" if payload_type == 26 else "h264"
        fields = ("rtp.marker", "jpeg.main_hdr.width" if payload_type == 26 else "h264.nal_unit_hdr", "_ws.malformed")
        command = ["tshark", "-r", str(dump), "-d", "udp.port==5004,rtp", "-T", "fields", "-Y", name]
        command += ["-o", "h264.dynamic.payload.type:96"] + [word for field in fields for word in ("-e", field)]
        process = subprocess.run(command, capture_output=True, text=True, timeout=60)
        rows = [line.split("\t") for line in process.stdout.splitlines()]
        assert len(rows) == len(rtp), process.stderr
        assert sum(row[0] in ("1", "True") for row in rows) == sent > 1 and not any(row[2] for row in rows)


def send_repeatedly(packets, port, stop):
    """Send RTP packets to a player until `stop` is set; continue sequence numbers and timestamps at each repetition."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sequence = 0
        while not stop.is_set():
            for packet in packets:
                header = packet[:2] + (sequence & 0xFFFF).to_bytes(2, "big")
                timestamp = int.from_bytes(packet[4:8], "big") + sequence // len(packets) * 15 * 18000 & 0xFFFFFFFF
                sock.sendto(header + timestamp.to_bytes(4, "big") + packet[8:], ("127.0.0.1", port))
                sequence += 1
                time.sleep(0.002)


@pytest.mark.parametrize("payload_type", [26, 96])
def test_ffmpeg_plays_what_the_agent_sends(payload_type, tmp_path):
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed (Debian package ffmpeg)")
    while (port := hub_process.free_ports(1)[0]) & 1:  # a player receives RTCP on the next port
        pass
    pictures, encoder = [jpeg(60 + 8 * i) for i in range(15)], None
    if payload_type == 96:
        pictures, encoder = video(15), Encoder(640, 480, 5)
    rtp = decrypted(srtp_packets(pictures, encoder)[0])
    sdp = tmp_path / "live.sdp"
    lines = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=live\nc=IN IP4 127.0.0.1\nt=0 0\n"
    lines += f"m=video {port} RTP/AVP {payload_type}\n"
    if payload_type == 96:
        lines += "a=rtpmap:96 H264/90000\na=fmtp:96 packetization-mode=1\n"
    sdp.write_text(lines)
    out = tmp_path / "out.y4m"
    command = ["ffmpeg", "-v", "error", "-protocol_whitelist", "file,udp,rtp", "-analyzeduration", "500000"]
    command += ["-i", str(sdp), "-frames:v", "5", "-pix_fmt", "yuv420p", "-strict", "-1", str(out)]
    ffmpeg = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    stop = threading.Event()
    sender = threading.Thread(target=send_repeatedly, args=(rtp, port, stop))
    sender.start()
    try:
        _, err = ffmpeg.communicate(timeout=TIMEOUT_S)
    finally:
        stop.set()
        sender.join()
        ffmpeg.kill()
    assert ffmpeg.returncode == 0 and out.stat().st_size > 5 * 320 * 240, err


def test_over_sockets_with_reports_until_the_time_limit():
    """The agent sends to the hub for 3 s: it receives reports, raises its bit rate, and signals the end."""
    from compat.udp import UdpSocket

    async def run():
        recorder, rejected = StreamRecorder(), Counter()
        receiver = LiveReceiver(bind_udp("127.0.0.1", 0), rejected, SystemClock())
        receiver.add(LiveStream("cam", DeviceKey(SECRET, EPOCH), ID, EXPIRES, 60_000, monotonic_ms(), 0, recorder))
        receiver.start()
        agent = session.LiveView(
            lambda host, port: UdpSocket(host, port, NoSelector()),
            encrypter, keys, lambda text: None, FaultlessCamera(), 800,
        )  # fmt: skip
        assert agent.start(command(3), "127.0.0.1", receiver.port, monotonic_ms())[0]
        picture, last_ms = jpeg(100), 0
        while agent.running():
            if monotonic_ms() - last_ms >= 200:
                last_ms = monotonic_ms()
                agent.picture(picture, last_ms)
            agent.serve(monotonic_ms())
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.2)
        receiver.close()
        return agent, recorder, rejected

    agent, recorder, rejected = asyncio.run(run())
    assert agent.end_reason == "the requested time is over"
    assert recorder.end_reasons == ["ended by the device"] and not rejected
    assert len(recorder.pictures) == agent.sent > 8 and agent.kbps() > 200
