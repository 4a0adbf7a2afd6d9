"""Open alarms of a hub: events that a dispatcher has to resolve."""

import patrolink_messages as m
import pytest
from patrolink.core.errors import UserError
from patrolink.hub.incidents.alarms import Alarms, Answer, event_state

from tests.support import hub_parts
from tests.support.hub_harness import HubHarness

site_folder = hub_parts.site_folder
EVENT = {"kind": 1, "phase": 0, "ack_wanted": 1, "cause": 0, "time_ms": 1_790_000_000_000, "text": b""}

NOW_MS = 1_790_000_000_000


def sos(phase: str = "raised", ack_wanted: int = 1, device: str = "vest-1", event_id: int = 7, time_ms=NOW_MS) -> dict:
    return {
        "device": device, "event_id": event_id, "kind": "sos", "phase": phase, "ack_wanted": ack_wanted,
        "time_ms": time_ms,
    }  # fmt: skip


def test_alarm_is_open_until_it_is_resolved_and_survives_a_restart(tmp_path):
    path = tmp_path / "alarms.json"
    alarms = Alarms(path)
    assert alarms.report(sos())["taken_by"] is None
    assert alarms.answer("vest-1", 7, Answer("accepted", NOW_MS, "duty"))["taken_by"] == "duty"
    assert alarms.report(sos())["taken_by"] == "duty", "a repeated event must not reset its dispatcher"
    alarms = Alarms(path)
    assert [(row["event_id"], row["taken_by"]) for row in alarms.rows()] == [(7, "duty")]
    assert alarms.answer("vest-1", 7, Answer("resolved", NOW_MS, "second"))["phase"] == "cleared"
    assert alarms.rows() == [] == Alarms(path).rows()


def test_alarm_that_the_wearer_cancels_is_closed(tmp_path):
    alarms = Alarms(tmp_path / "alarms.json")
    alarms.report(sos())
    alarms.report(sos("cancelled"))
    assert alarms.rows() == []
    with pytest.raises(UserError, match="no open event 7"):
        alarms.answer("vest-1", 7, Answer("accepted", NOW_MS, "duty"))


def test_event_that_requires_no_acknowledgement_is_not_stored(tmp_path):
    alarms = Alarms(tmp_path / "alarms.json")
    alarms.report(sos(ack_wanted=0))
    assert alarms.rows() == []


def test_answer_with_an_unknown_state_is_rejected(tmp_path):
    alarms = Alarms(tmp_path / "alarms.json")
    alarms.report(sos())
    with pytest.raises(UserError, match="no event state 'later'"):
        alarms.answer("vest-1", 7, Answer("later", NOW_MS, "duty"))
    assert event_state(7, "accepted", 5, "duty") == {"event_id": 7, "state": 3, "time_ms": 5, "who": b"duty"}


def test_alarm_is_open_while_storage_fails_and_is_stored_afterwards(tmp_path):
    path = tmp_path / "state" / "alarms.json"
    alarms = Alarms(path)
    assert alarms.report(sos())["taken_by"] is None and alarms.unsaved
    assert alarms.answer("vest-1", 7, Answer("accepted", NOW_MS, "duty"))["taken_by"] == "duty" and alarms.unsaved
    path.parent.mkdir()
    assert alarms.report(sos())["taken_by"] == "duty" and not alarms.unsaved
    assert [row["taken_by"] for row in Alarms(path).rows()] == ["duty"]


def test_answers_survive_a_restart(tmp_path):
    path = tmp_path / "alarms.json"
    alarms = Alarms(path)
    alarms.report(sos())
    assert alarms.last_answer("vest-1", 7) is None and not alarms.is_closed(sos())
    alarms.answer("vest-1", 7, Answer("accepted", NOW_MS + 5, "duty"))
    assert Alarms(path).last_answer("vest-1", 7) == ("accepted", NOW_MS + 5, "duty", NOW_MS)
    assert not alarms.is_closed(sos())
    alarms.answer("vest-1", 7, Answer("resolved", NOW_MS + 9, "second"))
    restarted = Alarms(path)
    assert restarted.last_answer("vest-1", 7) == ("resolved", NOW_MS + 9, "second", NOW_MS) and restarted.rows() == []
    assert restarted.is_closed(sos())


@pytest.mark.parametrize("time_ms", [NOW_MS + 1000, None])
def test_reused_event_id_is_a_new_event(tmp_path, time_ms):
    """A device that was provisioned again starts with event 1: its SOS must not be taken for a closed one."""
    alarms = Alarms(tmp_path / "alarms.json")
    alarms.report(sos(time_ms=NOW_MS if time_ms else None))
    alarms.answer("vest-1", 7, Answer("resolved", NOW_MS, "duty"))
    assert not alarms.is_closed(sos(time_ms=time_ms))
    assert alarms.report(sos(time_ms=time_ms))["taken_by"] is None and alarms.last_answer("vest-1", 7) is None


def test_repeated_frame_of_a_closed_event_without_a_time_opens_nothing(tmp_path):
    """The device did not know the time when its wearer pressed SOS, and repeats the event until it is told the end."""
    alarms = Alarms(tmp_path / "alarms.json")
    alarms.report(sos(time_ms=None))
    alarms.answer("vest-1", 7, Answer("resolved", NOW_MS, "duty"))
    assert alarms.is_known({**sos(time_ms=None), "repeated": True})
    assert not alarms.is_known({**sos(), "repeated": True}), "a time shows that it is another event"


def test_a_device_cannot_displace_alarms_of_another_device(tmp_path):
    path = tmp_path / "alarms.json"
    alarms = Alarms(path)
    alarms.report(sos())
    for event_id in range(1, 1200):
        alarms.report(sos(device="vest-2", event_id=event_id))
    for rows in (alarms.rows(), Alarms(path).rows()):
        assert [row["event_id"] for row in rows if row["device"] == "vest-1"] == [7]
        assert [row["event_id"] for row in rows if row["device"] == "vest-2"] == list(range(1180, 1200))
    for event_id in range(1180, 1200):
        alarms.answer("vest-2", event_id, Answer("resolved", NOW_MS, "duty"))
    alarms.answer("vest-1", 7, Answer("resolved", NOW_MS, "duty"))
    for event_id in range(2000, 2100):
        alarms.report(sos(device="vest-2", event_id=event_id))
        alarms.answer("vest-2", event_id, Answer("resolved", NOW_MS, "duty"))
    assert alarms.is_closed(sos()) and Alarms(path).is_closed(sos())


def test_retry_saves_what_storage_refused(tmp_path):
    path = tmp_path / "state" / "alarms.json"
    alarms = Alarms(path)
    alarms.report(sos())
    assert alarms.unsaved and not alarms.retry_save()
    path.parent.mkdir()
    assert alarms.retry_save() and Alarms(path).rows() == alarms.rows()


def test_event_that_the_wearer_cancelled_is_not_opened_by_a_repetition(tmp_path):
    path = tmp_path / "alarms.json"
    alarms = Alarms(path)
    alarms.report(sos())
    alarms.report(sos("cancelled", time_ms=NOW_MS + 4000))
    for stored in (alarms, Alarms(path)):
        assert stored.is_closed(sos()) and stored.is_known(sos()) and stored.last_answer("vest-1", 7) is None
    assert not alarms.is_known(sos(event_id=8))


def test_new_event_with_the_id_of_an_open_one_has_no_dispatcher_yet(tmp_path):
    """Otherwise the wearer of a re-provisioned device is told that help is coming for an SOS that nobody has seen."""
    alarms = Alarms(tmp_path / "alarms.json")
    alarms.report(sos())
    alarms.answer("vest-1", 7, Answer("accepted", NOW_MS, "duty"))
    assert alarms.report(sos())["taken_by"] == "duty" and alarms.last_answer("vest-1", 7) is not None
    assert alarms.report(sos(time_ms=NOW_MS + 60_000))["taken_by"] is None
    assert alarms.last_answer("vest-1", 7) is None and len(alarms.rows()) == 1


# --- repeated frames at a hub ----------------------------------------------------------------------------------------


@pytest.fixture
def hub(site_folder):
    harness = HubHarness(site_folder)
    yield harness
    harness.close()


def answered(hub: HubHarness) -> list[int]:
    """Return the events of vest-1 that the hub has answered since the last call."""
    return [values["event_id"] for _, kind, values in hub.take_publications() if kind == m.EVENT_STATE]


def send_later(hub: HubHarness, counter: int) -> None:
    """Let the newest counter of vest-1 be `counter`."""
    hub.receive("vest-1", hub.seal("vest-1", m.DEVICE_STATUS, hub.status_values(), counter))


@pytest.mark.parametrize("ago", [0, m.REPLAY_WINDOW - 1, m.REPLAY_WINDOW, 1 << 20])
def test_open_sos_is_answered_however_old_its_frame_is(hub, ago):
    """A device repeats the frame of its SOS until the SOS is closed, while its counter goes on."""
    frame = hub.send_sos("vest-1", 7)
    assert answered(hub) == [7]
    if ago:
        send_later(hub, ago)
    hub.receive("vest-1", frame)
    assert answered(hub) == [7] and hub.open_alarms() == [("vest-1", 7)]
    hub.service._incidents.answer_event("duty", "vest-1", 7, "resolved")
    hub.take_publications()
    hub.receive("vest-1", frame)
    assert answered(hub) == [7] and hub.open_alarms() == [], "the answer to a closed one is repeated, nothing opened"
    assert not hub.metrics.refused


def test_frame_below_the_replay_window_opens_no_alarm(hub):
    unknown = hub.seal("vest-1", m.EVENT, {**EVENT, "event_id": 8}, 1)
    same_id = hub.seal("vest-1", m.EVENT, {**EVENT, "event_id": 7, "time_ms": 1}, 2)
    status = hub.seal("vest-1", m.DEVICE_STATUS, hub.status_values(), 3)
    hub.send_sos("vest-1", 7)
    send_later(hub, 1 << 20)
    hub.take_publications()
    for frame in (unknown, same_id, status):
        hub.receive("vest-1", frame)
    assert answered(hub) == [] and hub.open_alarms() == [("vest-1", 7)]
    assert hub.metrics.refused == {"frame replay": 3}
    forged = bytearray(unknown)
    forged[-1] ^= 1
    hub.receive("vest-1", bytes(forged))
    assert hub.metrics.refused["frame tag"] == 1 and answered(hub) == []
