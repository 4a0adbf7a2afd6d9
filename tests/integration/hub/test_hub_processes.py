"""Voice and service of a hub as two processes: what each loses when it is killed, and what the other one keeps."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time

import psutil
import pytest
from patrolink.hub.dispatch.client import VoicePacket, connect

from tests.support import hub_process
from tests.support.console_site import BackgroundDevices, ConsoleSite
from tests.support.polling import TIMEOUT_S, wait_until
from tests.support.site_file import GROUP_TEMPLATE, HARBOUR, SITE_TEMPLATE, TOKEN, write_site
from tests.support.speaking_devices import sos

SEED = 20261130
HALVES = ("voice", "service")


@pytest.fixture(scope="module")
def hub(tmp_path_factory, broker):
    console = ConsoleSite(tmp_path_factory.mktemp("site"), broker)
    yield console
    console.process.stop()


@pytest.fixture(scope="module")
def all_devices(hub, broker):
    background = BackgroundDevices(broker, ("vest-1", "vest-2"))
    addresses = hub.folder / "state" / "shard-0" / "addresses.json"
    wait_until(lambda: addresses.exists() and len(json.loads(addresses.read_text())) == 2, "addresses are not saved")
    yield background
    background.close()


@pytest.fixture
def site(hub, monkeypatch):
    """The hub of this module, with both halves running."""
    monkeypatch.setenv("PATROLINK_HUB_TOKEN", TOKEN)
    yield hub
    wait_until(lambda: all(half(hub, name) for name in HALVES) and is_serving(hub), "a half was not started again")


@pytest.fixture
def devices(all_devices):
    """The devices of this module, without an old voice packet or event."""
    all_devices.forget()
    return all_devices


def is_serving(site: ConsoleSite) -> bool:
    try:
        return "groups" in status(site)
    except OSError:
        return False


def status(site: ConsoleSite) -> dict:
    return json.loads(site.http_request("GET", "/status")[2])


def half(site: ConsoleSite, name: str) -> psutil.Process | None:
    """Return the process of a half, None while it does not run."""
    for process in psutil.Process(site.process.process.pid).children():
        if name in process.cmdline():
            return process
    return None


def kill_half(site: ConsoleSite, name: str) -> None:
    process = half(site, name)
    assert process is not None
    process.kill()
    process.wait(TIMEOUT_S)


def test_voice_comes_before_the_service_on_a_core(site):
    """Linux divides CPU time among sessions first (sched(7)): in another one the service would lose against all."""
    voice, service = (half(site, name) for name in HALVES)
    assert service.nice() == voice.nice() + 5
    assert os.getsid(service.pid) == os.getsid(voice.pid), "nice values count inside a session only"


class Listener:
    """A dispatcher who is connected: messages and voice, in order."""

    def __init__(self, client) -> None:
        self.client, self.messages, self.talkers = client, [], []
        self._task = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        while True:
            message = await self.client.next_message()
            if isinstance(message, VoicePacket):
                self.talkers.append(message.ssrc)
            else:
                self.messages.append(message)

    async def wait(self, condition) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            assert not self._task.done(), "the connection of the dispatcher has ended"
            assert time.monotonic() < deadline, self.messages
            await asyncio.sleep(0.02)

    def close(self) -> None:
        self._task.cancel()


def test_killed_voice_is_started_again_and_sessions_of_dispatchers_survive(site, devices):
    restarts = status(site).get("voice_restarts", 0)

    async def run() -> None:
        async with connect(site.url) as client:
            duty = Listener(client)
            await client.request("listen", group=HARBOUR)
            devices.talk("vest-1", HARBOUR)
            await duty.wait(lambda: duty.talkers)
            await asyncio.to_thread(kill_half, site, "voice")
            events = devices.membership("vest-1", HARBOUR).events
            await duty.wait(lambda: "REVOKED" in events)  # its burst has ended
            await duty.wait(lambda: any(m["type"] == "floor" and m["state"] == "idle" for m in duty.messages))
            earlier = set(duty.talkers)
            devices.talk("vest-2", HARBOUR, seconds=1)
            await duty.wait(lambda: set(duty.talkers) - earlier)
            wait_until(lambda: devices.received_voice("vest-1", HARBOUR), "the other device hears nothing")
            await client.request("press", group=HARBOUR, priority=200)
            await duty.wait(lambda: any(m["type"] == "granted" for m in duty.messages))
            duty.close()

    asyncio.run(run())
    assert status(site).get("voice_restarts", 0) == restarts + 1
    assert "the hub's voice ended (SIGKILL); starting it again" in (site.folder / "hub.log").read_text()


def test_burst_of_a_dispatcher_is_revoked_when_the_voice_is_killed(site, devices):
    async def run() -> list[dict]:
        async with connect(site.url) as client:
            duty = Listener(client)
            await client.request("press", group=HARBOUR)
            await duty.wait(lambda: any(m["type"] == "granted" for m in duty.messages))
            await asyncio.to_thread(kill_half, site, "voice")
            await duty.wait(lambda: any(m["type"] == "revoked" for m in duty.messages))
            duty.close()
            return duty.messages

    [revoked] = [message for message in asyncio.run(run()) if message["type"] == "revoked"]
    assert revoked["text"] == "the hub's voice was interrupted; request the floor again"


def test_voice_of_devices_goes_on_while_the_service_is_killed_and_an_sos_is_kept(site, devices):
    restarts = status(site).get("service_restarts", 0)
    devices.talk("vest-1", HARBOUR, seconds=4)
    wait_until(lambda: len(devices.received_voice("vest-2", HARBOUR)) > 20, "no voice")
    kill_half(site, "service")
    sos(devices, "vest-2")

    def received() -> str:
        events = [devices.membership(name, HARBOUR).events for name in ("vest-1", "vest-2")]
        return f"{len(devices.received_voice('vest-2', HARBOUR))} of 200 packets; {events}"

    wait_until(lambda: len(devices.received_voice("vest-2", HARBOUR)) == 200, received)
    assert devices.membership("vest-1", HARBOUR).events.count("GRANTED") == 1
    wait_until(lambda: devices.event_states("vest-2"), "the SOS is not answered")
    wait_until(lambda: is_serving(site), "the console does not serve")  # the hub serves it after it has its messages

    async def alarms() -> list[dict]:
        async with connect(site.url) as client:
            return client.hello["alarms"]

    [alarm] = asyncio.run(alarms())
    assert (alarm["device"], alarm["event_id"]) == ("vest-2", 7)
    assert status(site).get("service_restarts", 0) == restarts + 1


@pytest.mark.parametrize("name", HALVES)
def test_stop_signal_to_a_half_is_ignored(site, name):
    """A service manager sends it to every process of the hub at once."""
    process = half(site, name)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(process.pid, number)
    assert status(site)["groups"] == site.process.ready["groups"]
    assert half(site, name) == process


def test_half_that_cannot_start_ends_the_hub_with_its_error(site):
    command = [sys.executable, "-m", "patrolink", "hub", str(site.folder / "site.toml")]
    second = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert second.returncode == 2 and "another hub runs" in second.stderr and "Traceback" not in second.stderr


def test_stop_signal_at_any_moment_ends_the_hub_in_order(tmp_path, broker):
    groups = GROUP_TEMPLATE.format(id=1, devices='["a"]', more="")
    ports = hub_process.free_ports(2)
    write_site(tmp_path, SITE_TEMPLATE.format(url=broker.url, ports=ports, top="", hub="", groups=groups), ["a"])
    command = [sys.executable, "-m", "patrolink", "hub", str(tmp_path / "site.toml"), "--json"]
    rng = random.Random(SEED)
    for latest_s in (0.8, 1.6, 2.5):
        delay_s = rng.uniform(latest_s - 0.8, latest_s)
        hub = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        time.sleep(delay_s)  # the moment is what is tested
        children = psutil.Process(hub.pid).children(recursive=True)
        os.killpg(hub.pid, signal.SIGTERM)  # to every process, as a terminal does
        out, err = hub.communicate(timeout=TIMEOUT_S)
        context = f"seed {SEED}, after {delay_s:.3f} s: {out}{err}"
        assert hub.returncode in (0, -signal.SIGTERM, 128 + signal.SIGTERM) and "Traceback" not in err, context
        if hub.returncode == 0:
            assert json.loads(out.splitlines()[-1])["record"] == "summary", context
        assert not psutil.wait_procs(children, TIMEOUT_S)[1], context


def test_both_halves_end_with_a_supervisor_that_is_killed(tmp_path, broker):
    groups = GROUP_TEMPLATE.format(id=1, devices='["a"]', more="")
    text = SITE_TEMPLATE.format(url=broker.url, ports=hub_process.free_ports(2), top="", hub="", groups=groups)
    hub = hub_process.HubProcess(tmp_path, text, ["a"])
    processes = psutil.Process(hub.process.pid).children()
    assert len(processes) == len(HALVES)
    hub.kill()
    assert not psutil.wait_procs(processes, TIMEOUT_S)[1]


TEST_RUN = """
import sys, time
from pathlib import Path
from tests.support.hub_process import HubProcess
print(HubProcess(Path(sys.argv[1]), sys.argv[2], ["a"]).process.pid, flush=True)
time.sleep(600)
"""


def test_test_run_that_is_killed_leaves_no_process(tmp_path, broker):
    groups = GROUP_TEMPLATE.format(id=1, devices='["a"]', more="")
    text = SITE_TEMPLATE.format(url=broker.url, ports=hub_process.free_ports(2), top="", hub="", groups=groups)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", TEST_RUN, str(tmp_path), text]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as run:
        assert run.stdout is not None
        hub = psutil.Process(int(run.stdout.readline()))
        processes = [hub, *hub.children()]
        run.kill()
    assert len(processes) == 1 + len(HALVES)
    assert not psutil.wait_procs(processes, TIMEOUT_S)[1]
