"""Live view of devices with the network stack in an AT modem: firmware on an emulated Cortex-M3, and a process."""

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
]
SIZES = {"mps2_an385": (160, 120), "unix": (320, 240)}
BOARDS = [("mps2_an385", "quectel"), ("mps2_an385", "simcom"), ("unix", "simcom")]


@pytest.fixture
def start_incident(tmp_path, monkeypatch):
    """Return a function (board, modem) that starts an Incident whose device records and has a session."""
    with contextlib.ExitStack() as stack:

        def make(board, modem):
            if missing := boards.find(board).missing_packages():
                pytest.skip(f"apt-get install {' '.join(missing)}")
            scene = incident.Incident(
                incident.Plan(board, DEMO_VIDEO, 2, 2, PROFILES["city"], 1, tmp_path, modem), stack
            )
            scene.await_recording()
            monkeypatch.setenv(client.TOKEN_VARIABLE, scene.station.token)
            scene.station.until(
                lambda: "link: session" in scene.device.console_text(), [scene.device], TIMEOUT_S, "no session"
            )
            return scene

        yield make


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


@pytest.mark.parametrize("board, modem", BOARDS)
def test_view_through_a_modem_during_an_sos(start_incident, tmp_path, board, modem):
    scene = start_incident(board, modem)
    light = tmp_path / f"{scene.name}.led"

    async def scenario(viewer) -> None:
        await viewer.start(120)
        await viewer.wait_for_pictures(5)
        assert light.read_text() == "1"
        # The session continues: an SOS is reported, a command is answered, the clip is uploaded.
        scene.device.press("sos")
        await next_matching(viewer.hub, lambda row: row["type"] == "event" and row["kind"] == "sos", "no SOS")
        command = await viewer.hub.request("command", device=scene.name, action="snapshot")
        assert (await next_matching(viewer.hub, answer(command), "no answer"))["result"] == "done"
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
        assert picture.size == SIZES[board]
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


def test_view_survives_the_loss_of_its_data_context_and_ends_after_an_outage(start_incident, tmp_path):
    scene = start_incident("mps2_an385", "quectel")  # tests/simulation/test_datagrams.py tests both dialects
    log = scene.device.console_text

    async def scenario(viewer) -> None:
        await viewer.start(200)
        await viewer.wait_for_pictures(3)
        with scene.modem.locked():
            scene.modem.network.drop_pdp()
        await viewer.wait_for_pictures(5)  # the same view, with a new socket
        assert "live view:" not in log()
        with scene.modem.locked():
            scene.modem.network.outage(25_000)
        await viewer.until(lambda: "live view: ended (no report from the hub for 10 s)" in log())
        assert await viewer.end_reason() == "no packet received for 10 s"
        sessions = log().count("link: session")
        await viewer.until(lambda: log().count("link: session") > sessions)
        await viewer.start(300)
        await viewer.wait_for_pictures(3)
        with scene.modem.locked():
            scene.modem.modem.start()  # a brown-out of the modem
        await viewer.until(lambda: log().count("link: session") > sessions + 1)
        # The view continues if the modem is back within 10 s; otherwise it ends and the end is logged.
        shown = len(viewer.pictures)
        await viewer.until(lambda: log().count("live view: ended (no report") == 2 or len(viewer.pictures) > shown + 2)

    viewer = watch(scene, scenario)
    assert check_pictures(viewer.pictures, tmp_path) >= 11
    assert scene.device.power_off()["modem_resets"] == 0 and "modem: restarted unexpectedly" in log()
    assert log().count("device: ready") == 1
