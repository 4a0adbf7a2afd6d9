"""Commands to a camera, on a virtual clock: of a dispatcher, and of the wearer."""

import json

import pytest
from patrolink.emulator.boards.virtual_camera import Film
from patrolink.emulator.network.carrier import PROFILES
from patrolink.evidence import evidence_key
from patrolink.evidence.clip_folders import read_signers
from patrolink.evidence.manifest import load as load_manifest
from patrolink.evidence.verify import verify_device

from tests.support.agent_site import AgentSite, Kit
from tests.support.drawn_pictures import drawn_pictures
from tests.support.simulated_console import SimulatedConsole
from tests.support.simulated_site import LIVE_PORT, UPLOAD_PORT
from tests.support.site_file import DISPATCHERS

NAME = "vest-1"
PRE_S, POST_S, SEGMENT_S, FPS = 3, 2, 2, 5  # PRE_S is more than a segment: whole segments are kept


@pytest.fixture
def site(tmp_path):
    """A site with a device that records, at five pictures a second."""
    public = evidence_key.create(tmp_path / "evidence.pem").public
    config = {"clips": {"evidence_key": public, "pre_s": PRE_S, "post_s": POST_S, "segment_s": SEGMENT_S}}
    kit = Kit(PROFILES["city"], config, "", Film(drawn_pictures(False, 12), (320, 240), FPS))
    hub = f'uploads = "127.0.0.1:{UPLOAD_PORT}"\nlive_port = {LIVE_PORT}'
    site = AgentSite(tmp_path, {NAME: kit}, 1, DISPATCHERS, 'evidence_key = "evidence.pem"', hub)
    agent = site.agents[NAME]
    agent.see_sky()
    site.run_until(lambda: "clips: recording" in agent.text(), agent.text)
    site.run_for(8)
    yield site
    site.close()


def wait_for_clip(console: SimulatedConsole, number: int, trigger: str) -> None:
    """Wait until the hub has verified a clip as valid."""
    row = console.wait_for(lambda row: row["type"] == "clip" and row["clip"] == number and row["verdict"])
    assert (row["trigger"], row["verdict"]) == (trigger, "valid")


def test_a_dispatcher_takes_snapshots_records_and_watches(site, tmp_path):
    console, agent = SimulatedConsole(site), site.agents[NAME]
    command = console.session.command

    reply = console.answer(command(NAME, "snapshot"))
    assert reply["result"] == "done" and reply["ref"] == 1
    wait_for_clip(console, 1, "photo")

    reply = console.answer(command(NAME, "start_recording", 60))
    assert reply["result"] == "started" and reply["ref"] == 2
    site.run_for(3)
    reply = console.answer(command(NAME, "stop_recording"))
    assert reply["result"] == "done" and reply["ref"] == 2
    wait_for_clip(console, 2, "dispatcher")
    reply = console.answer(command(NAME, "stop_recording"))
    assert reply["result"] == "failed" and "nothing" in reply["text"]

    reply = console.answer(console.session.live_start(NAME, 20, "jpeg"))
    assert reply["result"] == "started", reply
    console.wait_for_pictures(6, agent.text)
    assert all(data[:2] == b"\xff\xd8" and data[-2:] == b"\xff\xd9" for data in console.pictures)
    console.session.live_stop(NAME)

    console.answer(command(NAME, "snapshot"))
    wait_for_clip(console, 3, "photo")
    agent.power_off()
    manifests = [path.read_text() for path in sorted((tmp_path / "clips" / NAME).glob("*/*.plm"))]
    lines = [json.loads(line) for text in manifests for line in text.splitlines()]
    access = [line["access"] for line in lines if line.get("who") == "duty"]
    actions = ["live_view_start", "live_view_stop", "recording_start", "recording_stop", "snapshot", "snapshot"]
    assert sorted(access) == actions, access
    result = verify_device(tmp_path / "clips" / NAME, read_signers(tmp_path / "clips" / "signers.toml"))
    assert result.verdict == "valid", [clip.findings for clip in result.clips]
    # Each command is logged before its execution and with its result.
    assert agent.file("state/audit/audit").count(b"\tduty") == 14


def test_the_record_button_starts_and_stops(site, tmp_path):
    """The clip begins before the press, with whole segments, and ends after the second press; no picture is lost."""
    console, agent = SimulatedConsole(site), site.agents[NAME]
    agent.press("record")
    site.run_for(5)
    agent.press("record")
    wait_for_clip(console, 1, "button")
    assert agent.board.sensors
    summary = agent.power_off()
    assert not agent.board.sensors and summary["clips"]["lost"] == 0, summary
    manifest = load_manifest(tmp_path / "clips" / NAME / "000001" / "000001.plm")
    assert manifest.head["trigger"] == "button"
    mark = manifest.marks[0]
    before_ms = sum(s["ms"] for s in manifest.segments if s["seg"] < mark["seg"]) + mark["at_ms"]
    assert 1000 * PRE_S <= before_ms <= 1000 * (PRE_S + SEGMENT_S), before_ms
    duration_ms = sum(segment["ms"] for segment in manifest.segments)
    assert before_ms + 1000 * (5 + POST_S) <= duration_ms <= before_ms + 1000 * (5 + POST_S + 0.5), duration_ms
    pictures = sum(segment["frames"] for segment in manifest.segments)
    assert abs(pictures - FPS * duration_ms / 1000) <= 1, (pictures, duration_ms)
