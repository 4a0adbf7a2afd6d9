"""Attacks on live view: forged commands, a hub that is killed, oversized pictures."""

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
from tests.support.device_rig import walk
from tests.support.paths import DEMO_VIDEO
from tests.support.polling import wait_until
from tests.support.site_file import TOKEN

LIVE_VIEW_START = 4  # command.action
site = live_camera.site


@pytest.fixture
def camera_rig(tmp_path, rig):
    """A Linux board with a camera; its clock is set by the GPS receiver."""
    if not DEMO_VIDEO.exists():
        pytest.skip("no video for the camera; run `make media`")
    maker = clip_maker.Device("x", tmp_path / "evidence.pem")
    camera = {"source": str(DEMO_VIDEO), "indicator": str(tmp_path / "camera.led")}
    clips = {"evidence_key": maker.evidence.public.hex()}
    device = rig("linux", nmea.speak(walk(600)), 1.0, camera=camera, clips=clips, batch_fixes=1)
    device.receiver.start()
    device.listen(lambda: device.times())
    return device


class PacketReceiver:
    """A UDP socket that receives the packets of a live view."""

    def __init__(self) -> None:
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind(("127.0.0.1", 0))
        self._sock.setblocking(False)
        self.address = f"127.0.0.1:{self._sock.getsockname()[1]}"

    def packets(self) -> list[bytes]:
        """Return the packets received since the previous call."""
        packets = []
        with contextlib.suppress(BlockingIOError):
            while True:
                packets.append(self._sock.recv(2048))
        return packets

    def close(self) -> None:
        self._sock.close()


def forged_commands(device, seal, command):
    """Return invalid commands: wrong key, device and epoch; truncated, altered and empty frames; an uplink frame."""
    forged = [
        seal(command(), key=bytes(32)),
        seal(command(), name="rig-0"),
        seal(command(), epoch=1)[:-1],
        seal(command())[:-3],
        *(bytes([*data[:-1], data[-1] ^ 1]) for data in [seal(command())]),
        b"",
    ]
    uplink = frame.Channel(device.key, device.device_id.encode(), frame.UPLINK)
    buf = bytearray(512)
    n = codec.encode_into(patrolink_messages.COMMAND, command(), buf, frame.HEADER_BYTES)
    forged.append(bytes(buf[: uplink.seal_into(buf, patrolink_messages.COMMAND, 0, n)]))
    return forged


@pytest.mark.timeout(400)
def test_forged_and_late_commands_start_no_view_and_a_view_without_reports_ends(camera_rig, tmp_path):
    device, receiver = camera_rig, PacketReceiver()
    command_id = iter(range(70, 99))

    def command(**changes):
        last = datetime.fromisoformat(max(device.times()).replace("Z", "+00:00"))
        unix_ms = int(last.timestamp() * 1000)
        values = {
            "command_id": next(command_id), "action": LIVE_VIEW_START, "expires_ms": unix_ms + 30_000,
            "operator": b"duty", "number": 60, "name": b"", "value": receiver.address.encode(),
        }  # fmt: skip
        return {**values, **changes}

    def answers():
        return {row["command_id"]: row["result"] for row in device.rows if row["record"] == "answer"}

    def send(data):
        device.transport.publish(device.device_id, data)

    def seal(values, key=device.key, name=device.device_id, counter=0, epoch=0):
        downlink = Downlink({name: DeviceKey(key, epoch)}, lambda: counter)
        return downlink.seal(name, patrolink_messages.COMMAND, values)

    forged = forged_commands(device, seal, command)
    for data in forged:
        send(data)
    late = command(expires_ms=1000)
    send(seal(late, counter=1))
    device.listen(lambda: late["command_id"] in answers())
    assert answers() == {late["command_id"]: "expired"}
    assert not receiver.packets()

    genuine = command()
    frames = seal(genuine, counter=2)
    send(frames)
    device.listen(lambda: answers().get(genuine["command_id"]) == "started")
    packets = wait_until(receiver.packets)
    assert {int.from_bytes(packet[8:12], "big") for packet in packets} == {genuine["command_id"]}
    assert device.board.title and (tmp_path / "camera.led").read_text().strip() == "1"
    # The receiver sends no reports, as if the hub had failed.
    device.listen(lambda: any(row["record"] == "event" and row["kind"] == "live_view_stop" for row in device.rows), 40)
    assert "no report from the hub for 10 s" in device.device.console_text()
    time.sleep(0.5)
    receiver.packets()
    for data in (frames, seal(genuine, counter=3)):  # a replay, and the same command with a new counter
        send(data)
    device.listen(lambda: [row["result"] for row in device.rows if row["record"] == "answer"][-1] == "refused")
    assert [row["result"] for row in device.rows if row["record"] == "answer"] == ["expired", "started", "refused"]
    assert not receiver.packets()
    kinds = [row["kind"] for row in device.rows if row["record"] == "event" and row["kind"].startswith("live")]
    assert kinds == ["live_view_start", "live_view_stop"]
    audit = (tmp_path / "device" / "state" / "audit" / "audit").read_text().splitlines()
    accesses = [line.split("\t")[1:3] for line in audit]
    assert accesses == [[str(LIVE_VIEW_START), "duty"]] * 5, audit
    receiver.close()


def test_camera_stops_when_its_hub_is_killed_and_can_be_watched_after_a_restart(site, broker):
    camera = live_camera.CameraDevice(broker, "vest-3", False)

    async def watch() -> None:
        async with watchers(site, TOKEN) as (duty,):
            await duty.client.request("live_start", device="vest-3", seconds=60)
            await duty.state("on")

    async def watch_and_kill() -> None:
        async with watchers(site, TOKEN) as (duty,):
            await duty.client.request("live_start", device="vest-3", seconds=60)
            await duty.state("on")
            site.process.kill()

    try:
        asyncio.run(watch_and_kill())
        wait_until(lambda: camera.end_reasons)
        assert camera.end_reasons == ["no report from the hub for 10 s"]
        site.process.start()
        asyncio.run(watch())
    finally:
        camera.close()

    def live_rows() -> list[str]:
        rows = [row["what"] for row in site.audit() if row.get("device") == "vest-3"]
        return sorted(action for action in rows if action.startswith("live"))

    # The dispatcher leaves and the device reports the end, in either order.
    wait_until(lambda: live_rows() == ["live_end", "live_start", "live_start", "live_stop"], lambda: str(site.audit()))


def test_oversized_picture_is_not_decoded_and_does_not_end_the_view():
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
            transcoder = JpegTranscoder(pool, on_jpeg, lambda: None)
            for timestamp, size in enumerate(((4096, 2304), (640, 480), (1920, 1088))):
                transcoder.push(Picture("vest-1", 96, timestamp, key_frame(*size)))
                while transcoder._busy:
                    await asyncio.sleep(0.01)
        return shown

    assert asyncio.run(run()) == [(640, 480), (1920, 1088)]
