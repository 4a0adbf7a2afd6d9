"""Commands of a dispatcher to a camera with H.264, with all real parts.

tests/simulation/test_camera_commands.py has the same on virtual time, with the JPEGs of a serial camera.
"""

import asyncio
import contextlib
import json

import pytest
from patrolink.emulator.network.carrier import PROFILES
from patrolink.emulator.scenarios import incident
from patrolink.evidence.clip_folders import read_signers
from patrolink.evidence.verify import verify_device
from patrolink.hub.dispatch import client

from tests.support.paths import DEMO_VIDEO
from tests.support.polling import TIMEOUT_S

pytestmark = pytest.mark.skipif(not DEMO_VIDEO.exists(), reason="no video for the camera; run `make media`")
# Uploads have low priority, and rate control treats a busy machine like a slow network.
UPLOAD_TIMEOUT_S = 4 * TIMEOUT_S


async def next_matching(hub, condition, failure: str, seconds: float = TIMEOUT_S):
    """Return the next message of the hub for which `condition` holds."""
    try:
        async with asyncio.timeout(seconds) if hasattr(asyncio, "timeout") else contextlib.AsyncExitStack():
            while True:
                message = await hub.next_message()
                if isinstance(message, dict) and condition(message):
                    return message
    except TimeoutError:
        raise AssertionError(failure) from None


def answer(command):
    """Return a condition for next_matching: the message is the answer to a command."""
    return lambda message: message["type"] == "answer" and message["command_id"] == command


def verdict(number, trigger):
    """Return a condition for next_matching: the clip is valid, or valid with gaps if the machine was too busy."""
    return lambda message: (
        message["type"] == "clip"
        and (message["clip"], message["trigger"]) == (number, trigger)
        and message["verdict"].startswith("valid")
    )


async def send_commands(scenario, url: str) -> None:
    """Send each command and check its answer and result."""
    pictures = []
    async with client.connect(url, lambda view, data: pictures.append(data)) as hub:
        command = await hub.request("command", device=scenario.name, action="snapshot")
        reply = await next_matching(hub, answer(command), "no answer to the snapshot")
        assert reply["result"] == "done" and reply["ref"] == 1
        await next_matching(hub, verdict(1, "photo"), "no photo", UPLOAD_TIMEOUT_S)

        command = await hub.request("command", device=scenario.name, action="start_recording", number=60)
        reply = await next_matching(hub, answer(command), "no answer to the recording")
        assert reply["result"] == "started" and reply["ref"] == 2
        await asyncio.sleep(3)
        command = await hub.request("command", device=scenario.name, action="stop_recording")
        reply = await next_matching(hub, answer(command), "no answer to the end of the recording")
        assert reply["result"] == "done" and reply["ref"] == 2
        await next_matching(hub, verdict(2, "dispatcher"), "no clip", UPLOAD_TIMEOUT_S)
        command = await hub.request("command", device=scenario.name, action="stop_recording")
        reply = await next_matching(hub, answer(command), "no answer to the second end of the recording")
        assert reply["result"] == "failed" and "nothing" in reply["text"]

        command = await hub.request("live_start", device=scenario.name, seconds=20)
        reply = await next_matching(hub, answer(command), "no answer to the live view")
        assert reply["result"] == "started", reply
        for _ in range(300):
            await asyncio.sleep(0.05)
            if len(pictures) > 5:
                break
        assert len(pictures) > 5 and all(data[:2] == b"\xff\xd8" and data[-2:] == b"\xff\xd9" for data in pictures)
        await hub.request("live_stop", device=scenario.name)

        command = await hub.request("command", device=scenario.name, action="snapshot")
        reply = await next_matching(hub, answer(command), "no answer to the second snapshot")
        await next_matching(hub, verdict(3, "photo"), "no second photo", UPLOAD_TIMEOUT_S)


@pytest.mark.long(28)
@pytest.mark.timeout(600)
def test_a_dispatcher_takes_snapshots_records_and_watches(tmp_path, monkeypatch):
    with contextlib.ExitStack() as stack:
        plan = incident.Plan("linux", DEMO_VIDEO, 2, 2, PROFILES["city"], 1, tmp_path)
        scenario = incident.Incident(plan, stack)
        scenario.await_recording()
        monkeypatch.setenv(client.TOKEN_VARIABLE, scenario.station.token)
        scenario.station.until(
            lambda: "link: session" in scenario.device.console_text(), [scenario.device], TIMEOUT_S, "no session"
        )
        asyncio.run(asyncio.sleep(5))
        asyncio.run(send_commands(scenario, scenario.station.url))
        scenario.device.power_off()
    manifests = [path.read_text() for path in sorted((scenario.clips / scenario.name).glob("*/*.plm"))]
    lines = [json.loads(line) for text in manifests for line in text.splitlines()]
    access = [(line["access"], line["who"]) for line in lines if "access" in line]
    for action in ("snapshot", "recording_start", "recording_stop", "live_view_start", "live_view_stop"):
        assert (action, "duty") in access, access
    result = verify_device(scenario.clips / scenario.name, read_signers(scenario.clips / "signers.toml"))
    assert result.verdict.startswith("valid"), [clip.findings for clip in result.clips]
    audit = (tmp_path / scenario.name / "state" / "audit" / "audit").read_text()
    assert audit.count("\tduty") >= 12  # each command is logged before its execution and with its result
