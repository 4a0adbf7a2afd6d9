"""Live view of devices whose network is in an AT modem: firmware on an emulated Cortex-M3, and a process behind one."""

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

from tests.integration.clips.test_remote import answer, told
from tests.support.paths import DEMO_VIDEO
from tests.support.polling import TIMEOUT_S, wait_until

pytestmark = [
    pytest.mark.skipif(not DEMO_VIDEO.exists(), reason="no film for the camera; make media"),
    pytest.mark.alone,
    pytest.mark.timeout(300),
]
SIZES = {"mps2_an385": (160, 120), "unix": (320, 240)}
BOARDS = [("mps2_an385", "quectel"), ("mps2_an385", "simcom"), ("unix", "simcom")]


@pytest.fixture
def filming(tmp_path, monkeypatch):
    """filming(board, modem) -> an Incident whose device films and has a session."""
    with contextlib.ExitStack() as stack:

        def make(board, modem):
            if missing := boards.find(board).missing_packages():
                pytest.skip(f"apt-get install {' '.join(missing)}")
            it = incident.Incident(incident.Plan(board, DEMO_VIDEO, 2, 2, PROFILES["city"], 1, tmp_path, modem), stack)
            it.await_recording()
            monkeypatch.setenv(client.TOKEN_VARIABLE, it.station.token)
            it.station.until(lambda: "link: session" in it.device.console_text(), [it.device], TIMEOUT_S, "no session")
            return it

        yield make


class Viewer:
    """A dispatcher who watches; `seen` are the pictures that came."""

    def __init__(self, it, hub, seen: list[bytes]) -> None:
        self._it, self.hub, self.seen = it, hub, seen

    async def start(self, seconds: int) -> None:
        """Begin, once the device knows the time and its camera gives pictures."""
        for _ in range(TIMEOUT_S):
            command = await self.hub.request("live_start", device=self._it.name, seconds=seconds)
            said = await told(self.hub, answer(command), self._it.device.console_text())
            if said["result"] == "started":
                break
            await asyncio.sleep(1)
        assert said["result"] == "started", (said["text"], self._it.device.console_text())

    async def more(self, n: int) -> None:
        """Wait until so many have come from now on."""
        wanted = len(self.seen) + n
        await self.until(lambda: len(self.seen) >= wanted)

    async def until(self, condition) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            assert time.monotonic() < deadline, (len(self.seen), self._it.device.console_text())
            await asyncio.sleep(0.05)

    async def over(self) -> str:
        """Return why the view is over."""
        said = await told(
            self.hub, lambda it: it["type"] == "live" and it["state"] == "over", self._it.device.console_text()
        )
        return said["why"]


def watch(it, what) -> Viewer:
    """Have a dispatcher do `what(viewer)`."""

    async def run() -> Viewer:
        seen: list[bytes] = []
        async with client.connect(it.station.url, lambda view, data: seen.append(data)) as hub:
            viewer = Viewer(it, hub, seen)
            await what(viewer)
            return viewer

    return asyncio.run(run())


def pictures(seen, folder) -> int:
    """Return how many of them ffmpeg and Pillow decode without a complaint, all of their one size."""
    sizes = set()
    for data in seen:
        with Image.open(io.BytesIO(data)) as picture:
            picture.load()
            sizes.add((picture.format, picture.size))
    assert len(sizes) == 1, sizes
    if shutil.which("ffmpeg"):
        file = folder / "seen.mjpeg"
        file.write_bytes(b"".join(seen))
        command = ["ffmpeg", "-v", "error", "-xerror", "-f", "mjpeg", "-i", str(file), "-f", "null", "-"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and not done.stderr, done.stderr
    return len(seen)


def accesses(it) -> list[tuple[str, str, str]]:
    """What the manifests at the hub say of who watched: (what, who, why it ended)."""
    texts = [path.read_text() for path in sorted(it.folder.parent.glob("*/*.plm"))]
    said = [json.loads(line) for text in texts for line in text.splitlines()]
    return [(one["access"], one["who"], one.get("why", "")) for one in said if "access" in one]


def judged(it) -> DeviceVerdict:
    """What is found of the device's clips at the hub."""
    return verify_device(it.clips / it.name, read_signers(it.clips / "signers.toml"))


@pytest.mark.parametrize("board, modem", BOARDS)
def test_a_view_through_a_modem_beside_an_sos(filming, tmp_path, board, modem):
    it = filming(board, modem)
    light = tmp_path / f"{it.name}.led"

    async def see(viewer) -> None:
        await viewer.start(120)
        await viewer.more(5)
        assert light.read_text() == "1"
        # The session goes on beside it: an SOS is told, a command is answered, the clip is sent.
        it.device.press("sos")
        await told(viewer.hub, lambda said: said["type"] == "event" and said["kind"] == "sos", "no SOS")
        command = await viewer.hub.request("command", device=it.name, action="snapshot")
        assert (await told(viewer.hub, answer(command), "no answer"))["result"] == "done"
        await viewer.more(5)
        await viewer.until(it.verified)
        await viewer.more(3)
        await viewer.hub.request("live_stop", device=it.name)
        assert await viewer.over() == "no watchers left"

    viewer = watch(it, see)
    wait_until(lambda: "live view: told to" in it.device.console_text(), it.device.console_text)
    assert pictures(viewer.seen, tmp_path) >= 13
    with Image.open(io.BytesIO(viewer.seen[0])) as picture:
        assert picture.size == SIZES[board]
    assert len(set(viewer.seen)) > 10, "what moves has moved"
    # Another clip, whose manifest takes the end of the view with it.
    it.device.press("sos")
    wait_until(lambda: ("live_view_stop", "duty", "told to") in accesses(it), lambda: str(accesses(it)))
    assert ("live_view_start", "duty", "") in accesses(it)
    wait_until(lambda: judged(it).verdict.startswith("valid"), lambda: str([one.findings for one in judged(it).clips]))
    assert it.device.power_off()["connects"] == 1, it.device.console_text()
    assert it.device.console_text().count("device: ready") == 1


def test_a_view_outlives_its_data_context_and_not_its_modem(filming, tmp_path):
    it = filming("mps2_an385", "quectel")  # tests/simulation/test_datagrams.py has both dialects
    said = it.device.console_text

    async def see(viewer) -> None:
        await viewer.start(200)
        await viewer.more(3)
        with it.modem.locked():
            it.modem.network.drop_pdp()
        await viewer.more(5)  # the same view: its socket was opened again
        assert "live view:" not in said()
        with it.modem.locked():
            it.modem.network.outage(25_000)
        await viewer.until(lambda: "live view: ended (no report from the hub for 10 s)" in said())
        assert await viewer.over() == "no packet received for 10 s"
        sessions = said().count("link: session")
        await viewer.until(lambda: said().count("link: session") > sessions)
        await viewer.start(300)
        await viewer.more(3)
        with it.modem.locked():
            it.modem.modem.start()  # a brown-out
        await viewer.until(lambda: said().count("link: session") > sessions + 1)
        # It goes on when the modem was back within the 10 s, else it has ended, and says so.
        before = len(viewer.seen)
        await viewer.until(lambda: said().count("live view: ended (no report") == 2 or len(viewer.seen) > before + 2)

    viewer = watch(it, see)
    assert pictures(viewer.seen, tmp_path) >= 11
    assert it.device.power_off()["modem_resets"] == 0 and "modem: restarted unexpectedly" in said()
    assert said().count("device: ready") == 1
