"""Live view of a device with the network stack in an AT modem: firmware on an emulated Cortex-M3, with sockets.

tests/simulation/test_live_view_modem.py has the faults and both dialects.
"""

import asyncio
import contextlib
import io
import json
import shutil
import subprocess
import time

import pytest
from patrolink.core import boards
from patrolink.emulator.network.carrier import PROFILES
from patrolink.emulator.scenarios import incident
from patrolink.evidence.clip_folders import read_signers
from patrolink.evidence.verify import DeviceVerdict, verify_device
from patrolink.hub.dispatch import client
from PIL import Image

from tests.integration.clips.test_remote import answer, next_matching
from tests.support.paths import DEMO_VIDEO
from tests.support.polling import TIMEOUT_S, wait_until

pytestmark = [
    pytest.mark.skipif(not DEMO_VIDEO.exists(), reason="no video for the camera; run `make media`"),
    pytest.mark.timeout(300),
    pytest.mark.long(30),
]
BOARD, MODEM, SIZE = "mps2_an385", "quectel", (160, 120)


@pytest.fixture
def scene(tmp_path, monkeypatch):
    """An Incident whose device records and has a session."""
    if missing := boards.find(BOARD).missing_packages():
        pytest.skip(f"apt-get install {' '.join(missing)}")
    with contextlib.ExitStack() as stack:
        plan = incident.Plan(BOARD, DEMO_VIDEO, 2, 2, PROFILES["city"], 1, tmp_path, MODEM)
        running = incident.Incident(plan, stack)
        running.await_recording()
        monkeypatch.setenv(client.TOKEN_VARIABLE, running.station.token)
        running.station.until(
            lambda: "link: session" in running.device.console_text(), [running.device], TIMEOUT_S, "no session"
        )
        yield running


class Viewer:
    """A dispatcher who watches the device.

    Attributes:
        pictures: The JPEG pictures received.
    """

    def __init__(self, scene, hub, pictures: list[bytes]) -> None:
        self._scene, self.hub, self.pictures = scene, hub, pictures

    async def start(self, seconds: int) -> None:
        """Start the view; repeat until the clock of the device is set and its camera delivers pictures."""
        for _ in range(TIMEOUT_S):
            command = await self.hub.request("live_start", device=self._scene.name, seconds=seconds)
            row = await next_matching(self.hub, answer(command), self._scene.device.console_text())
            if row["result"] == "started":
                break
            await asyncio.sleep(1)
        assert row["result"] == "started", (row["text"], self._scene.device.console_text())

    async def take_snapshot(self) -> None:
        """Take a snapshot; repeat until the camera delivers a picture within the 2 s that the device waits for it.

        On a busy machine the camera is late. That one request is enough is tested on a virtual clock.
        """
        for _ in range(TIMEOUT_S):
            command = await self.hub.request("command", device=self._scene.name, action="snapshot")
            row = await next_matching(self.hub, answer(command), self._scene.device.console_text())
            if row["result"] == "done":
                return
            await asyncio.sleep(1)
        raise AssertionError((row["text"], self._scene.device.console_text()))

    async def wait_for_pictures(self, n: int) -> None:
        """Wait until n more pictures were received."""
        total = len(self.pictures) + n
        await self.until(lambda: len(self.pictures) >= total)

    async def until(self, condition) -> None:
        """Wait until `condition()` is true."""
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            assert time.monotonic() < deadline, (len(self.pictures), self._scene.device.console_text())
            await asyncio.sleep(0.05)

    async def end_reason(self) -> str:
        """Wait for the end of the view and return its reason."""
        row = await next_matching(
            self.hub, lambda row: row["type"] == "live" and row["state"] == "over", self._scene.device.console_text()
        )
        return row["why"]


def watch(scene, scenario) -> Viewer:
    """Run `scenario(viewer)` with a logged-in dispatcher."""

    async def run() -> Viewer:
        received: list[bytes] = []
        async with client.connect(scene.station.url, lambda view, data: received.append(data)) as hub:
            viewer = Viewer(scene, hub, received)
            await scenario(viewer)
            return viewer

    return asyncio.run(run())


def check_pictures(pictures, folder) -> int:
    """Check that ffmpeg and Pillow decode all pictures, with the same size; return their number."""
    sizes = set()
    for data in pictures:
        with Image.open(io.BytesIO(data)) as picture:
            picture.load()
            sizes.add((picture.format, picture.size))
    assert len(sizes) == 1, sizes
    if shutil.which("ffmpeg"):
        file = folder / "received.mjpeg"
        file.write_bytes(b"".join(pictures))
        command = ["ffmpeg", "-v", "error", "-xerror", "-f", "mjpeg", "-i", str(file), "-f", "null", "-"]
        process = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert process.returncode == 0 and not process.stderr, process.stderr
    return len(pictures)


def access_rows(scene) -> list[tuple[str, str, str]]:
    """Return the accesses in the manifests at the hub: (what, who, reason of its end)."""
    texts = [path.read_text() for path in sorted(scene.folder.parent.glob("*/*.plm"))]
    rows = [json.loads(line) for text in texts for line in text.splitlines()]
    return [(row["access"], row["who"], row.get("why", "")) for row in rows if "access" in row]


def device_verdict(scene) -> DeviceVerdict:
    """Return the verdict on the device's clips at the hub."""
    return verify_device(scene.clips / scene.name, read_signers(scene.clips / "signers.toml"))


def test_view_through_a_modem_during_an_sos(scene, tmp_path):
    light = tmp_path / f"{scene.name}.led"

    async def scenario(viewer) -> None:
        await viewer.start(120)
        await viewer.wait_for_pictures(5)
        assert light.read_text() == "1"
        # The session continues: an SOS is reported, a command is answered, the clip is uploaded.
        scene.device.press("sos")
        await next_matching(viewer.hub, lambda row: row["type"] == "event" and row["kind"] == "sos", "no SOS")
        await viewer.take_snapshot()
        await viewer.wait_for_pictures(5)
        await viewer.until(scene.verified)
        await viewer.wait_for_pictures(3)
        await viewer.hub.request("live_stop", device=scene.name)
        assert await viewer.end_reason() == "no watchers left"

    viewer = watch(scene, scenario)
    wait_until(
        lambda: "live view: ended (stopped by the hub)" in scene.device.console_text(), scene.device.console_text
    )
    assert check_pictures(viewer.pictures, tmp_path) >= 13
    with Image.open(io.BytesIO(viewer.pictures[0])) as picture:
        assert picture.size == SIZE
    assert len(set(viewer.pictures)) > 10, "the picture changes"
    # The next clip's manifest contains the end of the view.
    scene.device.press("sos")
    wait_until(
        lambda: ("live_view_stop", "duty", "stopped by the hub") in access_rows(scene), lambda: str(access_rows(scene))
    )
    assert ("live_view_start", "duty", "") in access_rows(scene)
    wait_until(
        lambda: device_verdict(scene).verdict.startswith("valid"),
        lambda: str([clip.findings for clip in device_verdict(scene).clips]),
    )
    assert scene.device.power_off()["connects"] == 1, scene.device.console_text()
    assert scene.device.console_text().count("device: ready") == 1
