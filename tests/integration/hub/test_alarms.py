"""Open alarms of a hub: events that a dispatcher has to resolve."""

import pytest
from patrolink.core.errors import UserError
from patrolink.hub.incidents.alarms import Alarms, event_state


def sos(phase: str = "raised", ack_wanted: int = 1) -> dict:
    return {"device": "vest-1", "event_id": 7, "kind": "sos", "phase": phase, "ack_wanted": ack_wanted}


def test_alarm_is_open_until_it_is_resolved_and_survives_a_restart(tmp_path):
    path = tmp_path / "alarms.json"
    alarms = Alarms(path)
    assert alarms.report(sos())["taken_by"] is None
    assert alarms.answer("vest-1", 7, "duty", "accepted")["taken_by"] == "duty"
    assert alarms.report(sos())["taken_by"] == "duty", "a repeated event must not reset its dispatcher"
    alarms = Alarms(path)
    assert [(row["event_id"], row["taken_by"]) for row in alarms.rows()] == [(7, "duty")]
    assert alarms.answer("vest-1", 7, "second", "resolved")["phase"] == "cleared"
    assert alarms.rows() == [] == Alarms(path).rows()


def test_alarm_that_the_wearer_cancels_is_closed(tmp_path):
    alarms = Alarms(tmp_path / "alarms.json")
    alarms.report(sos())
    alarms.report(sos("cancelled"))
    assert alarms.rows() == []
    with pytest.raises(UserError, match="no open event 7"):
        alarms.answer("vest-1", 7, "duty", "accepted")


def test_event_that_requires_no_acknowledgement_is_not_stored(tmp_path):
    alarms = Alarms(tmp_path / "alarms.json")
    alarms.report(sos(ack_wanted=0))
    assert alarms.rows() == []


def test_answer_with_an_unknown_state_is_rejected(tmp_path):
    alarms = Alarms(tmp_path / "alarms.json")
    alarms.report(sos())
    with pytest.raises(UserError, match="no event state 'later'"):
        alarms.answer("vest-1", 7, "duty", "later")
    assert event_state(7, "accepted", 5, "duty") == {"event_id": 7, "state": 3, "time_ms": 5, "who": b"duty"}


def test_alarm_is_open_while_storage_fails_and_is_stored_afterwards(tmp_path):
    path = tmp_path / "state" / "alarms.json"
    alarms = Alarms(path)
    assert alarms.report(sos())["taken_by"] is None and alarms.unsaved
    assert alarms.answer("vest-1", 7, "duty", "accepted")["taken_by"] == "duty" and alarms.unsaved
    path.parent.mkdir()
    assert alarms.report(sos())["taken_by"] == "duty" and not alarms.unsaved
    assert [row["taken_by"] for row in Alarms(path).rows()] == ["duty"]
