"""Live view of a device with the network stack in an AT modem, on a virtual clock: agent, modem, hub and dispatcher."""

import io
import json

import numpy as np
import pytest
from patrolink.emulator.boards.virtual_camera import Film
from patrolink.emulator.network.carrier import PROFILES
from patrolink.evidence import evidence_key
from patrolink.evidence.clip_folders import read_signers
from patrolink.evidence.verify import DeviceVerdict, verify_device
from PIL import Image

from tests.support.agent_site import Agent, AgentSite, Kit
from tests.support.drawn_pictures import drawn_pictures
from tests.support.simulated_console import SimulatedConsole
from tests.support.simulated_site import LIVE_PORT, UPLOAD_PORT
from tests.support.site_file import DISPATCHERS

NAME = "vest-1"
SIZE, FPS = (320, 240), 2


def decode(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))


class Scene:
    """A recording device behind a modem, and a dispatcher."""

    def __init__(self, folder, modem: str, seed: int = 1) -> None:
        public = evidence_key.create(folder / "evidence.pem").public
        clips = {"evidence_key": public, "pre_s": 2, "post_s": 2, "segment_s": 2}
        self.captured = drawn_pictures(False, 12)
        kit = Kit(PROFILES["city"], {"clips": clips, "batch_fixes": 10}, modem, Film(self.captured, SIZE, FPS))
        hub = f'uploads = "127.0.0.1:{UPLOAD_PORT}"\nlive_port = {LIVE_PORT}'
        self.site = AgentSite(folder, {NAME: kit}, seed, DISPATCHERS, 'evidence_key = "evidence.pem"', hub)
        self.clips = folder / "clips"
        self.agent: Agent = self.site.agents[NAME]
        self.agent.see_sky()
        for text in ("clips: recording", "link: session"):
            self.until(lambda text=text: text in self.agent.text())
        self.console = SimulatedConsole(self.site)

    def until(self, condition):
        return self.site.run_until(condition, self.agent.text)

    def view(self, seconds: int) -> None:
        """Start the view; repeat until the clock of the device is set and its camera delivers pictures."""
        for _ in range(20):
            command = self.console.session.live_start(NAME, seconds, "jpeg")
            row = self.console.answer(command)
            if row["result"] == "started":
                return
            self.site.run_for(1)
        raise AssertionError((row, self.agent.text()))

    def end_reason(self) -> str:
        """Wait for the end of the view and return its reason."""
        return self.console.wait_for(lambda row: row["type"] == "live" and row["state"] == "over")["why"]

    def press_sos(self) -> int:
        """Raise an SOS, and return its number when the dispatcher sees it."""
        self.agent.press("sos")
        row = self.console.wait_for(lambda row: row["type"] == "event" and row["kind"] == "sos")
        return row["event_id"]

    def wait_for_clip(self, event: int) -> None:
        """Wait until the hub has verified the clip of an SOS as valid."""
        self.console.wait_for(lambda row: row["type"] == "clip" and (row["event"], row["verdict"]) == (event, "valid"))

    def device_verdict(self) -> DeviceVerdict:
        """Return the verdict on the device's clips at the hub."""
        return verify_device(self.clips / NAME, read_signers(self.clips / "signers.toml"))

    def access_rows(self) -> list[tuple[str, str, str]]:
        """Return the accesses in the manifests at the hub: (what, who, reason of its end)."""
        texts = [path.read_text() for path in sorted((self.clips / NAME).glob("*/*.plm"))]
        rows = [json.loads(line) for text in texts for line in text.splitlines()]
        return [(row["access"], row["who"], row.get("why", "")) for row in rows if "access" in row]

    def check_pictures(self) -> None:
        """Check that each picture is one that the camera has taken, unchanged, and that the picture changes."""
        captured = [decode(data) for data in self.captured]
        numbers = set()
        for data in self.console.pictures:
            picture = decode(data)
            numbers.add(next(i for i, each in enumerate(captured) if np.array_equal(each, picture)))
        assert len(numbers) > 5, numbers


@pytest.fixture
def make_scene(tmp_path):
    """Return a function that makes a scene."""
    scenes = []

    def make(modem: str) -> Scene:
        scenes.append(Scene(tmp_path, modem))
        return scenes[-1]

    yield make
    for scene in scenes:
        scene.site.close()


@pytest.mark.parametrize("modem", ["quectel", "simcom"])
def test_view_through_a_modem_during_an_sos(make_scene, modem):
    scene = make_scene(modem)
    console = scene.console
    scene.view(120)
    console.wait_for_pictures(5, scene.agent.text)
    # The session continues: an SOS is reported, a command is answered, the clip is uploaded.
    pressed_ms = scene.site.now_ms()
    first = scene.press_sos()
    assert scene.site.now_ms() - pressed_ms < 2000
    command = console.session.command(NAME, "snapshot")
    assert console.answer(command)["result"] == "done"
    console.wait_for_pictures(5, scene.agent.text)
    scene.wait_for_clip(first)
    console.wait_for_pictures(3, scene.agent.text)
    console.session.live_stop(NAME)
    assert scene.end_reason() == "no watchers left"
    scene.until(lambda: "live view: ended (stopped by the hub)" in scene.agent.text())
    shown = len(console.pictures)
    assert shown >= 13
    scene.check_pictures()
    # The next clip's manifest contains the end of the view.
    scene.wait_for_clip(scene.press_sos())
    assert {("live_view_start", "duty", ""), ("live_view_stop", "duty", "stopped by the hub")} < set(
        scene.access_rows()
    )
    verdict = scene.device_verdict()
    assert verdict.verdict == "valid", [clip.findings for clip in verdict.clips]
    assert len(console.pictures) == shown, "pictures after the end"
    assert scene.agent.power_off()["connects"] == 1, scene.agent.text()


@pytest.mark.parametrize("modem", ["quectel", "simcom"])
def test_view_survives_the_loss_of_its_data_context_and_ends_after_an_outage(make_scene, modem):
    scene = make_scene(modem)
    console, agent = scene.console, scene.agent
    scene.view(200)
    console.wait_for_pictures(3, agent.text)
    agent.network.drop_pdp()
    console.wait_for_pictures(5, agent.text)  # the same view, with a new socket
    assert "live view:" not in agent.text()
    agent.network.outage(25_000)
    assert scene.end_reason() == "no packet received for 10 s"
    scene.until(lambda: "live view: ended (no report from the hub for 10 s)" in agent.text())
    sessions = agent.text().count("link: session")
    scene.until(lambda: agent.text().count("link: session") > sessions)
    scene.view(300)
    console.wait_for_pictures(3, agent.text)
    agent.modem.start()  # a brown-out of the modem
    scene.until(lambda: agent.text().count("link: session") > sessions + 1)
    # The view continues if the modem is back within 10 s; otherwise it ends and the end is logged.
    shown = len(console.pictures)
    scene.until(lambda: agent.text().count("live view: ended (no report") == 2 or len(console.pictures) > shown + 2)
    scene.check_pictures()
    assert agent.power_off()["modem_resets"] == 0 and "modem: restarted unexpectedly" in agent.text()
