"""Events at a hub on virtual time: repeated events are answered until the wearer knows, and never count twice."""

import json

import patrolink_messages
import pytest
from patrolink.hub.dispatch.client import connect

from tests.support.device_client import DeviceClient, run_until
from tests.support.simulated_site import CONSOLE_PORT, CONSOLE_URL, SimulatedSite, site_text
from tests.support.site_file import DISPATCHERS, GROUP_TEMPLATE, TOKEN

RECEIVED, ACCEPTED, RESOLVED = 1, 3, 5


class IncidentSite:
    """A hub that can be restarted, with one device and one dispatcher."""

    def __init__(self, folder) -> None:
        groups = GROUP_TEMPLATE.format(id=1, devices=json.dumps(["a"]), more="") + DISPATCHERS
        hub = f'console = "127.0.0.1:{CONSOLE_PORT}"'
        self.network = SimulatedSite(folder, site_text(groups, hub=hub), ["a"])
        self.hub = self.network.hub
        self.device = DeviceClient("a", self.network)

    def restart(self) -> None:
        self.hub.kill()
        self.hub.start()

    def raise_sos(self, event_id: int = 9) -> None:
        numbers = {"event_id": event_id, "kind": 1, "phase": 0, "ack_wanted": 1, "cause": 0}
        self.device.send_message(patrolink_messages.EVENT, {**numbers, "time_ms": self.network.unix_ms(), "text": b""})

    def states(self, n: int) -> list[tuple[int, str]]:
        """Wait for `n` answers and return (state, who) of each."""
        run_until([self.device], lambda: len(self.device.event_states) >= n)
        return [(state["state"], state["who"]) for state in self.device.event_states]

    def answer(self, state: str, event_id: int = 9) -> None:
        """Answer the event as a dispatcher."""

        async def request() -> None:
            async with connect(CONSOLE_URL, connector=self.network.connector()) as client:
                await client.request("answer_event", device="a", event_id=event_id, state=state)

        self.network.run(request())

    def alarms(self) -> list[dict]:
        """Return the open alarms that a dispatcher sees after the login."""

        async def hello() -> list[dict]:
            async with connect(CONSOLE_URL, connector=self.network.connector()) as client:
                return client.hello["alarms"]

        return self.network.run(hello())


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.setenv("PATROLINK_HUB_TOKEN", TOKEN)
    incident_site = IncidentSite(tmp_path)
    yield incident_site
    incident_site.network.close()


def test_repeated_event_is_answered_again_with_its_current_state(site):
    """The answer may be lost: the device repeats the same frame until it has one."""
    site.raise_sos()
    assert site.states(1) == [(RECEIVED, "")]
    site.device.repeat_message()
    assert site.states(2)[1:] == [(RECEIVED, "")]
    site.answer("accepted")
    assert site.states(3)[2:] == [(ACCEPTED, "duty")]
    site.device.repeat_message()
    assert site.states(4)[3:] == [(ACCEPTED, "duty")]
    times = [state["time_ms"] for state in site.device.event_states]
    assert times[3] == times[2], "a repeated answer has the time of the answer"
    assert [(row["event_id"], row["taken_by"]) for row in site.alarms()] == [(9, "duty")]
    site.answer("resolved")
    site.device.repeat_message()
    assert site.states(6)[4:] == [(RESOLVED, "duty"), (RESOLVED, "duty")] and site.alarms() == []


def test_closed_event_is_not_opened_again_by_a_restart(site):
    """A restarted hub has no replay window yet, and a broker may deliver an old frame to it."""
    site.raise_sos()
    site.states(1)
    site.answer("resolved")
    assert site.states(2)[1:] == [(RESOLVED, "duty")]
    site.restart()
    site.device.repeat_message()
    assert site.states(3)[2:] == [(RESOLVED, "duty")] and site.alarms() == []
    site.raise_sos(event_id=10)
    assert site.states(4)[3:] == [(RECEIVED, "")] and [row["event_id"] for row in site.alarms()] == [10]


def test_open_event_is_answered_after_a_restart_with_its_last_answer(site):
    site.raise_sos()
    site.states(1)
    site.answer("accepted")
    site.states(2)
    site.restart()
    site.device.repeat_message()
    assert (ACCEPTED, "duty") in site.states(3)[2:] and [row["taken_by"] for row in site.alarms()] == ["duty"]


def test_event_that_was_sent_while_the_hub_was_down_reaches_dispatchers(site):
    """The broker has acknowledged it: its device may be off by now, and never repeats it."""
    site.hub.kill()
    site.raise_sos()
    site.hub.start()
    assert site.states(1) == [(RECEIVED, "")] and [row["event_id"] for row in site.alarms()] == [9]
