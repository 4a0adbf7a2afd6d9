"""Who may have a device's camera seen: commands that are not the hub's, a hub that is killed, words that are code."""

import asyncio
import contextlib
import io
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from fractions import Fraction

import av
import numpy
import patrolink_messages
import pytest
from patrolink.core.keys import DeviceKey
from patrolink.emulator.peripherals import nmea
from patrolink.hub.infra.downlink import Downlink
from patrolink.hub.live.jpeg_transcoder import JpegTranscoder
from patrolink.hub.live.stream import Picture
from patrolink_protocol import codec, frame
from PIL import Image

from tests.integration.live.test_live_sessions import watchers
from tests.support import clip_maker, live_camera
from tests.support.console_site import TOKEN
from tests.support.device_rig import walk
from tests.support.paths import DEMO_VIDEO
from tests.support.polling import wait_until

LIVE, STOP, SNAPSHOT = 4, 5, 3
site = live_camera.site


@pytest.fixture
def film(tmp_path, rig):
    """A Linux board that films, whose clock its receiver has set."""
    if not DEMO_VIDEO.exists():
        pytest.skip("no film for the camera; make media")
    maker = clip_maker.Device("x", tmp_path / "evidence.pem")
    camera = {"source": str(DEMO_VIDEO), "indicator": str(tmp_path / "camera.led")}
    clips = {"evidence_key": maker.evidence.public.hex()}
    it = rig("linux", nmea.speak(walk(600)), 1.0, camera=camera, clips=clips, batch_fixes=1)
    it.receiver.start()
    it.listen(lambda: it.times())
    return it


class Eye:
    """Where live view is sent to; packets that came."""

    def __init__(self) -> None:
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind(("127.0.0.1", 0))
        self._sock.setblocking(False)
        self.where = f"127.0.0.1:{self._sock.getsockname()[1]}"

    def packets(self) -> list[bytes]:
        out = []
        with contextlib.suppress(BlockingIOError):
            while True:
                out.append(self._sock.recv(2048))
        return out

    def close(self) -> None:
        self._sock.close()


@pytest.mark.timeout(400)
def test_nobody_but_the_hub_has_a_camera_seen_and_a_hub_that_is_gone_sees_no_more(film, tmp_path):
    it, eye = film, Eye()
    command_id = iter(range(70, 99))

    def values(**more):
        last = datetime.fromisoformat(max(it.times()).replace("Z", "+00:00"))
        unix_ms = int(last.timestamp() * 1000)
        said = {
            "command_id": next(command_id), "action": LIVE, "expires_ms": unix_ms + 30_000, "operator": b"duty",
            "number": 60, "name": b"", "value": eye.where.encode(),
        }  # fmt: skip
        return {**said, **more}

    def answers():
        return {row["command_id"]: row["result"] for row in it.rows if row["message"] == "answer"}

    def send(data):
        it.transport.publish(it.device_id, data)

    def sealed(given, key=it.key, device=it.device_id, counter=0, epoch=0):
        return Downlink({device: DeviceKey(key, epoch)}, lambda: counter).seal(
            device, patrolink_messages.COMMAND, given
        )

    # Another's key, another device's frame, another epoch's, one that goes up, one that is cut off or bent.
    wrong = [
        sealed(values(), key=bytes(32)),
        sealed(values(), device="rig-0"),
        sealed(values(), epoch=1)[:-1],
        sealed(values())[:-3],
        *(bytes([*data[:-1], data[-1] ^ 1]) for data in [sealed(values())]),
        b"",
    ]
    up = frame.Channel(it.key, it.device_id.encode(), frame.UPLINK)
    buf = bytearray(512)
    n = codec.encode_into(patrolink_messages.COMMAND, values(), buf, frame.HEADER_BYTES)
    wrong.append(bytes(buf[: up.seal_into(buf, patrolink_messages.COMMAND, 0, n)]))
    for data in wrong:
        send(data)
    late = values(expires_ms=1000)
    send(sealed(late, counter=1))
    it.listen(lambda: late["command_id"] in answers())
    assert answers() == {late["command_id"]: "expired"}
    assert not eye.packets()

    right = values()
    frames = sealed(right, counter=2)
    send(frames)
    it.listen(lambda: answers().get(right["command_id"]) == "started")
    came = wait_until(eye.packets)
    assert {int.from_bytes(packet[8:12], "big") for packet in came} == {right["command_id"]}
    assert it.board.title and (tmp_path / "camera.led").read_text().strip() == "1"
    # Nobody reports: the hub is gone.
    it.listen(lambda: any(row["message"] == "event" and row["kind"] == "live_view_stop" for row in it.rows), 40)
    assert "no report from the hub for 10 s" in it.device.console_text()
    time.sleep(0.5)
    eye.packets()
    for data in (frames, sealed(right, counter=3)):  # heard and sent again; told again by a hub that lost its count
        send(data)
    it.listen(lambda: [row["result"] for row in it.rows if row["message"] == "answer"][-1] == "refused")
    assert [row["result"] for row in it.rows if row["message"] == "answer"] == ["expired", "started", "refused"]
    assert not eye.packets()
    kinds = [row["kind"] for row in it.rows if row["message"] == "event" and row["kind"].startswith("live")]
    assert kinds == ["live_view_start", "live_view_stop"]
    audit = (tmp_path / "device" / "state" / "audit" / "audit").read_text().splitlines()
    who = [line.split("\t")[1:3] for line in audit]
    assert who == [[str(LIVE), "duty"]] * 5, audit
    eye.close()


@pytest.mark.alone
def test_a_camera_ends_by_itself_when_its_hub_is_killed_and_is_seen_again_after(site, broker):
    camera = live_camera.CameraDevice(broker, "vest-3", False)

    async def watched() -> None:
        async with watchers(site, TOKEN) as (duty,):
            await duty.client.request("live_start", device="vest-3", seconds=60)
            await duty.state("on")

    async def killed() -> float:
        async with watchers(site, TOKEN) as (duty,):
            await duty.client.request("live_start", device="vest-3", seconds=60)
            await duty.state("on")
            site.process.kill()
            return time.monotonic()

    try:
        begin = asyncio.run(killed())
        wait_until(lambda: camera.end_reasons, seconds=30)
        assert camera.end_reasons == ["no report from the hub for 10 s"]
        assert 7 < time.monotonic() - begin < 25  # 10 s after the last report; this machine may be slow
        site.process.start()
        asyncio.run(watched())
    finally:
        camera.close()

    def said() -> list[str]:
        rows = [row["what"] for row in site.audit() if row.get("device") == "vest-3"]
        return sorted(what for what in rows if what.startswith("live"))

    # The second view is ended by its dispatcher who left, and the device says that it has: in either order.
    wait_until(lambda: said() == ["live_end", "live_start", "live_start", "live_stop"], lambda: str(site.audit()))


def test_a_picture_that_says_to_be_huge_takes_no_memory_and_ends_no_view():
    def key_frame(width, height):
        encoder = av.CodecContext.create("libx264", "w")
        encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = width, height, "yuv420p", Fraction(1, 10)
        encoder.options = {"preset": "ultrafast", "tune": "zerolatency"}
        frame = av.VideoFrame.from_ndarray(numpy.zeros((height * 3 // 2, width), numpy.uint8), format="yuv420p")
        frame.pts = 0
        unit = b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])
        return unit.replace(b"\0\0\0\1", b"\0\0\1").replace(b"\0\0\1", b"\0\0\0\1")

    async def run():
        shown = []

        def on_jpeg(timestamp, jpeg):
            shown.append(Image.open(io.BytesIO(jpeg)).size)

        with ThreadPoolExecutor(1) as pool:
            transcoder = JpegTranscoder(
                pool, lambda stamp, jpeg: shown.append(Image.open(io.BytesIO(jpeg)).size), lambda: None
            )
            for stamp, size in enumerate(((4096, 2304), (640, 480), (1920, 1088))):
                transcoder.push(Picture("vest-1", 96, stamp, key_frame(*size)))
                while transcoder._busy:
                    await asyncio.sleep(0.01)
        return shown

    assert asyncio.run(run()) == [(640, 480), (1920, 1088)]
