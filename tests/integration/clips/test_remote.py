"""What a dispatcher may have a device's camera do, all parts real: asked for, answered, and written down."""

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

pytestmark = pytest.mark.skipif(not DEMO_VIDEO.exists(), reason="no film for the camera; make media")
ARRIVES_S = 4 * TIMEOUT_S  # uploads give way, and take a busy machine for a busy line


async def told(hub, condition, what: str, seconds: float = TIMEOUT_S):
    """Return the next thing that the hub tells of which `condition` holds."""
    try:
        async with asyncio.timeout(seconds) if hasattr(asyncio, "timeout") else contextlib.AsyncExitStack():
            while True:
                it = await hub.next_message()
                if isinstance(it, dict) and condition(it):
                    return it
    except TimeoutError:
        raise AssertionError(what) from None


def answer(command):
    return lambda it: it["type"] == "answer" and it["command_id"] == command


def verdict(number, trigger):
    """A machine that is busy may cost pictures: then it is valid with gaps."""
    return lambda it: (
        it["type"] == "clip" and (it["clip"], it["trigger"]) == (number, trigger) and it["verdict"].startswith("valid")
    )


async def orders(it, url: str) -> None:
    seen = []
    async with client.connect(url, lambda view, data: seen.append(data)) as hub:
        command = await hub.request("command", device=it.name, action="snapshot")
        said = await told(hub, answer(command), "no answer to the snapshot")
        assert said["result"] == "done" and said["ref"] == 1
        await told(hub, verdict(1, "photo"), "no photo", ARRIVES_S)

        command = await hub.request("command", device=it.name, action="start_recording", number=60)
        said = await told(hub, answer(command), "no answer to the recording")
        assert said["result"] == "started" and said["ref"] == 2
        await asyncio.sleep(3)
        command = await hub.request("command", device=it.name, action="stop_recording")
        said = await told(hub, answer(command), "no answer to its end")
        assert said["result"] == "done" and said["ref"] == 2
        await told(hub, verdict(2, "dispatcher"), "no clip", ARRIVES_S)
        command = await hub.request("command", device=it.name, action="stop_recording")
        said = await told(hub, answer(command), "no answer")
        assert said["result"] == "failed" and "nothing" in said["text"]

        command = await hub.request("live_start", device=it.name, seconds=20)
        said = await told(hub, answer(command), "no answer to the live view")
        assert said["result"] == "started", said
        for _ in range(300):
            await asyncio.sleep(0.05)
            if len(seen) > 5:
                break
        assert len(seen) > 5 and all(data[:2] == b"\xff\xd8" and data[-2:] == b"\xff\xd9" for data in seen)
        await hub.request("live_stop", device=it.name)

        command = await hub.request("command", device=it.name, action="snapshot")
        said = await told(hub, answer(command), "no answer to the second snapshot")
        await told(hub, verdict(3, "photo"), "no second photo", ARRIVES_S)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("board", ["linux", "unix"])
def test_a_dispatcher_has_pictures_films_and_sees(board, tmp_path, monkeypatch):
    with contextlib.ExitStack() as stack:
        plan = incident.Plan(board, DEMO_VIDEO, 2, 2, PROFILES["city"], 1, tmp_path)
        it = incident.Incident(plan, stack)
        it.await_recording()
        monkeypatch.setenv(client.TOKEN_VARIABLE, it.station.token)
        it.station.until(lambda: "link: session" in it.device.console_text(), [it.device], TIMEOUT_S, "no session")
        asyncio.run(asyncio.sleep(5))
        asyncio.run(orders(it, it.station.url))
        it.device.power_off()
    manifests = [path.read_text() for path in sorted((it.clips / it.name).glob("*/*.plm"))]
    said = [json.loads(line) for text in manifests for line in text.splitlines()]
    done = [(one["access"], one["who"]) for one in said if "access" in one]
    for what in ("snapshot", "recording_start", "recording_stop", "live_view_start", "live_view_stop"):
        assert (what, "duty") in done, done
    found = verify_device(it.clips / it.name, read_signers(it.clips / "signers.toml"))
    assert found.verdict.startswith("valid"), [one.findings for one in found.clips]
    audit = (tmp_path / it.name / "state" / "audit" / "audit").read_text()
    assert audit.count("\tduty") >= 12  # each before it is done, and with its result
