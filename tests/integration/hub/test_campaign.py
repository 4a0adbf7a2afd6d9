"""The state machine of update campaigns: success, failure, deferral, waves, error threshold, and pauses."""

import random

import pytest
from patrolink.hub.updates import target
from patrolink.hub.updates.campaign import CANCELS_MAX, ONLINE_MS, RESEND_MS, STALLED_MS, TRIAL_MS, Campaign
from patrolink.hub.updates.target import IN_TRIAL, Cancel, Changed, Offer, Stopped

from tests.support.campaigns import DELTA, FULL, NEW, OLD, Rig, facts, plan

TEN = [f"vest-{n}" for n in range(10)]


# --- success ---------------------------------------------------------------------------------------------------------


def test_device_is_confirmed_only_by_its_status_with_the_new_agent():
    rig = Rig(plan(["a", "b"]))
    rig.step()
    assert [(offer.device, offer.image) for offer in rig.sent] == [("a", DELTA), ("b", DELTA)]
    for state in ("fetching", "installed"):
        rig.report("a", state)
        assert rig.state("a") == state
    rig.facts["a"] = facts(content=NEW)
    rig.step()
    assert rig.state("a") == "installed", "a hello of the new agent is no confirmation"
    rig.report("a", "confirmed", content=NEW, command=99)
    assert rig.state("a") == "installed", "a status of another command is none either"
    rig.report("a", "confirmed", content=NEW)
    rig.report("b", "confirmed", content=OLD)
    assert (rig.state("a"), rig.state("b")) == ("confirmed", "failed")
    assert rig.reason("b") == f"confirmed, but runs {OLD}"


def test_state_of_a_later_version_of_the_protocol_changes_nothing():
    rig = Rig(plan(["a"]))
    rig.step()
    assert rig.report("a", "9") == [] and rig.state("a") == "offered"


def test_command_is_sent_again_until_the_device_answers():
    rig = Rig(plan(["a"]))
    rig.step()
    rig.step(3 * RESEND_MS)
    assert rig.offers() == 4 * ["a"] and rig.campaign.targets["a"].command == 1, "always the same command"
    assert rig.campaign.requested("a", DELTA.id) == [Changed("a", True)], "a request for a block is an answer"
    rig.step(3 * RESEND_MS)
    assert rig.offers() == [] and rig.state("a") == "fetching"
    rig.step(STALLED_MS - 3 * RESEND_MS + 1000)
    assert rig.offers() == ["a"], "a block was lost, and the device waits longer and longer"
    rig.report("a", "fetching")
    rig.step(STALLED_MS - 1000)
    rig.campaign.requested("a", DELTA.id)
    rig.step(STALLED_MS - 1000)
    assert rig.offers() == []


def test_device_that_refuses_a_delta_gets_the_full_image():
    rig = Rig(plan(["a"]))
    rig.step()
    rig.report("a", "refused", "base")
    rig.step()
    assert [offer.image for offer in rig.sent] == [DELTA, FULL] and rig.campaign.targets["a"].command == 2
    rig.report("a", "refused", "base")
    assert rig.state("a") == "failed" and rig.reason("a") == "refused: base"


def test_device_in_another_trial_is_tried_again_later():
    rig = Rig(plan(["a"]))
    rig.step()
    rig.offers()
    rig.report("a", "refused", "busy")
    rig.step(TRIAL_MS - 1000)
    assert rig.offers() == [] and (rig.state("a"), rig.reason("a")) == ("deferred", IN_TRIAL)
    rig.step(2000)
    assert rig.offers() == ["a"] and rig.campaign.targets["a"].command == 2


def test_device_for_which_no_image_fits_is_skipped_and_does_not_count():
    rig = Rig(plan(["a", "b"], minimum=1, error_pct=0))
    rig.facts["a"] = facts(content=NEW)
    rig.step()
    rig.update("b")
    assert rig.state("a") == "skipped" and rig.campaign.state == "finished"
    assert rig.campaign.counts() == {"confirmed": 1, "skipped": 1}


# --- deferral --------------------------------------------------------------------------------------------------------


def test_device_without_coverage_or_hello_is_deferred_and_takes_no_place():
    rig = Rig(plan(["a", "b", "c"], parallel=1, device_s=60))
    del rig.facts["b"]
    rig.heard_ms = {"b": rig.now_ms, "c": rig.now_ms}
    rig.step(online=False)
    assert [(rig.state(device), rig.reason(device)) for device in "ab"] == [
        ("deferred", "offline"), ("deferred", "no hello yet"),
    ]  # fmt: skip
    assert rig.offers() == ["c"]
    rig.step(ONLINE_MS, online=False)
    assert rig.state("c") == "failed", "it was online for its whole time"
    rig.heard_ms["a"] = rig.now_ms
    rig.step(online=False)
    assert rig.offers() == ["a"] and rig.state("a") == "offered"
    rig.step(2 * ONLINE_MS, online=False)
    assert rig.state("a") == "failed"


def test_time_without_a_connection_does_not_count():
    rig = Rig(plan(["a"], device_s=ONLINE_MS // 1000 + 60))
    rig.step()
    rig.report("a", "fetching")
    rig.step(10 * ONLINE_MS, online=False)
    assert (rig.state("a"), rig.reason("a")) == ("deferred", "offline")
    rig.step()
    assert rig.state("a") == "fetching"
    rig.update("a")
    assert rig.state("a") == "confirmed"


def test_time_while_the_hub_was_suspended_does_not_count():
    rig = Rig(plan(["a"], device_s=600))
    rig.step()
    rig.report("a", "installed")
    rig.now_ms += 86_400_000
    rig.step()
    assert rig.state("a") == "installed"


def test_device_that_is_busy_is_deferred_for_any_time():
    rig = Rig(plan(["a"], device_s=60))
    rig.step()
    rig.report("a", "fetching")
    rig.report("a", "deferred", "voice")
    rig.step(10 * ONLINE_MS)
    assert (rig.state("a"), rig.reason("a")) == ("deferred", "voice")
    rig.report("a", "installed")
    rig.report("a", "confirmed", content=NEW)
    assert rig.state("a") == "confirmed"


def test_device_that_stays_silent_after_its_restart_has_failed_until_it_reports():
    rig = Rig(plan(["a", "b"], device_s=600))
    rig.step()
    rig.report("a", "installed")
    rig.step(601_000, online=False)
    assert rig.state("a") == "failed" and "silent since its restart" in rig.reason("a")
    rig.report("a", "confirmed", content=NEW)
    assert rig.state("a") == "confirmed" and rig.reason("a") == ""


def test_barred_device_is_cancelled():
    rig = Rig(plan(["a", "b"]))
    rig.bars.add("a")
    rig.step()
    assert rig.offers() == ["b"] and (rig.state("a"), rig.reason("a")) == ("cancelled", "barred")
    rig.bars.add("b")
    rig.step(3000)
    assert rig.state("b") == "cancelled" and rig.sent == [], "nothing is sent to it"
    rig.bars.clear()
    rig.step()
    assert rig.sent == [Cancel("b", 1, DELTA.id)] and rig.state("a") == "cancelled", "it is not updated without a start"


# --- waves and errors ------------------------------------------------------------------------------------------------


def test_wave_opens_when_the_devices_before_have_ended_and_one_is_confirmed():
    rig = Rig(plan(TEN, waves=[2, 5], error_pct=100))
    rig.step()
    assert rig.offers() == TEN[:2]
    rig.update("vest-0", "rolled_back")
    rig.step()
    assert rig.offers() == []
    rig.report("vest-1", "fetching")
    rig.report("vest-1", "deferred", "battery")
    rig.step()
    assert rig.offers() == [], "nothing is proved yet"
    rig.report("vest-1", "installed")
    rig.step()
    assert rig.offers() == []
    rig.report("vest-1", "confirmed", content=NEW)
    rig.step()
    assert rig.offers() == TEN[2:5]
    rig.heard_ms = dict.fromkeys(TEN, rig.now_ms)
    for device in TEN[2:4]:
        rig.update(device)
    rig.step(online=False)
    assert rig.offers() == []
    rig.step(ONLINE_MS, online=False)
    assert rig.state("vest-4") == "deferred" and rig.state("vest-5") == "deferred", "the wave is open; all are offline"


def test_only_so_many_devices_are_updated_at_the_same_time():
    rig = Rig(plan(TEN, parallel=3))
    rig.step(5000)
    assert rig.offers() == TEN[:3]
    rig.update("vest-1")
    rig.step()
    assert rig.offers() == ["vest-3"]


def test_campaign_stops_over_its_threshold_and_cancels_what_has_not_restarted():
    rig = Rig(plan(TEN, parallel=7, error_pct=25, minimum=4))
    rig.step()
    rig.report("vest-5", "installed")
    rig.report("vest-6", "fetching")
    for device, end in zip(TEN, ("confirmed", "confirmed", "confirmed"), strict=False):
        rig.update(device, end)
    rig.update("vest-3", "failed")
    assert rig.campaign.is_running, "25 % are not more than 25 %"
    rig.sent.clear()
    effects = rig.report("vest-4", "rolled_back")
    assert Stopped() in effects and rig.campaign.state == "stopped"
    assert rig.campaign.stop.reason == "2 of 5 devices failed, more than 25 %"
    rig.step(10_000)
    assert rig.sent == [Cancel("vest-6", 7, DELTA.id)] and rig.state("vest-6") == "cancelled"
    assert rig.state("vest-9") == "planned" and rig.state("vest-5") == "installed"
    assert not rig.campaign.may_fetch("vest-5", DELTA.id)


def test_threshold_does_not_count_what_is_deferred_or_skipped():
    rig = Rig(plan(TEN, error_pct=5, minimum=3))
    rig.facts.update({device: facts(platform=0) for device in TEN[:5]})
    rig.step()
    for device in TEN[5:8]:
        rig.report(device, "deferred", "battery")
    rig.update("vest-8")
    rig.update("vest-9", "failed")
    rig.step()
    assert rig.campaign.is_running and rig.campaign.counts() == {
        "confirmed": 1, "deferred": 3, "failed": 1, "skipped": 5,
    }  # fmt: skip
    rig.report("vest-5", "installed")
    rig.report("vest-5", "confirmed", content=NEW)
    assert rig.campaign.state == "stopped"


def test_small_campaign_stops_although_it_has_fewer_devices_than_the_minimum():
    rig = Rig(plan(["a", "b"], minimum=5))
    rig.step()
    rig.update("a", "failed")
    assert rig.campaign.is_running
    rig.update("b", "failed")
    assert rig.campaign.state == "stopped"


def test_campaign_stops_when_no_device_of_the_first_wave_was_confirmed():
    rig = Rig(plan(TEN, waves=[1]))
    rig.step()
    rig.update("vest-0", "failed")
    assert rig.campaign.stop == (1, "1 device of the open waves ended, none was confirmed")
    assert rig.state("vest-1") == "planned"
    decide(rig, "running", 2)
    rig.step()
    assert rig.state("vest-1") == "offered", "a person has decided to go on"


# --- pause and start -------------------------------------------------------------------------------------------------


def decide(rig: Rig, requested: str, run: int) -> list:
    fields = {"requested": requested, "run": run}
    return rig.take(rig.campaign.decide(rig.campaign.plan.model_copy(update=fields)))


def test_pause_cancels_until_devices_answer_and_start_continues():
    rig = Rig(plan(["a", "b", "c"]))
    rig.step()
    rig.report("a", "installed")
    rig.report("b", "fetching")
    rig.offers()
    decide(rig, "paused", 1)
    assert rig.campaign.state == "paused"
    rig.step()
    assert rig.sent == [Cancel("b", 2, DELTA.id), Cancel("c", 3, DELTA.id)]
    rig.report("b", "cancelled")
    rig.step(RESEND_MS)
    assert rig.sent[2:] == [Cancel("c", 3, DELTA.id)]
    rig.report("a", "confirmed", content=NEW)
    rig.step(2 * CANCELS_MAX * RESEND_MS)
    assert len(rig.sent) == 1 + CANCELS_MAX and not rig.campaign.targets["c"].cancelling
    rig.sent.clear()
    decide(rig, "running", 2)
    rig.step()
    assert [(offer.device, offer.command) for offer in rig.sent] == [("b", 4), ("c", 5)], "under new commands"
    assert rig.state("a") == "confirmed"


def test_device_that_has_restarted_before_the_cancellation_came_is_confirmed():
    rig = Rig(plan(["a", "b"]))
    rig.step()
    decide(rig, "paused", 1)
    for device, end in (("a", "confirmed"), ("b", "rolled_back")):
        rig.report(device, "installed")
        rig.report(device, end, content=NEW if end == "confirmed" else OLD)
    assert (rig.state("a"), rig.state("b")) == ("confirmed", "failed")


def test_start_during_a_trial_waits_for_its_end():
    rig = Rig(plan(["a", "b", "c"], error_pct=100))
    rig.step()
    rig.offers()
    decide(rig, "paused", 1)
    rig.report("a", "installed")
    rig.report("c", "cancelled")
    assert (rig.state("a"), rig.state("b")) == ("installed", "cancelled")
    for device in "ab":  # their hello comes from the new agent
        rig.facts[device] = facts(content=NEW)
    rig.sent.clear()
    decide(rig, "running", 2)
    rig.step()
    assert rig.offers() == ["c"] and (rig.state("a"), rig.state("b")) == ("installed", "installed")
    assert rig.campaign.state == "running"
    rig.report("a", "confirmed", content=NEW)
    rig.report("b", "rolled_back")
    assert (rig.state("a"), rig.state("b")) == ("confirmed", "failed")


def test_late_status_of_an_earlier_start_ends_no_device_that_is_planned_again():
    rig = Rig(plan(["a"]))
    rig.step()
    decide(rig, "paused", 1)
    decide(rig, "running", 2)
    for state in ("failed", "refused", "cancelled", "fetching"):
        rig.report("a", state)
        assert rig.state("a") == "planned", state
    rig.step()
    assert rig.campaign.targets["a"].command == 2 and rig.state("a") == "offered"


def test_start_after_a_stop_counts_errors_anew():
    rig = Rig(plan(TEN, parallel=1, minimum=1, error_pct=0))
    rig.step()
    rig.update("vest-0", "failed")
    assert rig.campaign.state == "stopped"
    decide(rig, "running", 2)
    rig.step()
    rig.update("vest-1")
    assert rig.campaign.state == "running" and rig.state("vest-0") == "failed"
    rig.step()
    rig.update("vest-2", "refused")
    assert rig.campaign.stop == (2, "1 of 2 devices failed, more than 0 %")


def test_wearer_of_a_campaign_that_ended_is_left_alone():
    rig = Rig(plan(["a"]))
    rig.step()
    rig.update("a")
    rig.offers()
    for state in ("fetching", "cancelled", "refused", "9"):
        rig.report("a", state)
    assert rig.state("a") == "confirmed" and rig.campaign.state == "finished"
    rig.report("a", "rolled_back")
    assert rig.state("a") == "failed", "the device does not run what it had confirmed"


# --- any order -------------------------------------------------------------------------------------------------------

STATES = ("fetching", "deferred", "installed", "confirmed", "refused", "failed", "rolled_back", "cancelled", "7")


@pytest.mark.parametrize("seed", range(30))
def test_any_order_of_events_keeps_the_rules(seed):
    """Success needs a status with the new agent, and a restart of the hub at any time changes nothing."""
    rng = random.Random(seed)
    rig = Rig(
        plan(TEN, parallel=rng.randint(1, 10), waves=[rng.randint(1, 9)], minimum=3, error_pct=rng.randint(0, 60))
    )
    proved: set[str] = set()
    run = 1
    for _ in range(300):
        device, event = rng.choice(TEN), rng.random()
        if event < 0.5:
            state, content = rng.choice(STATES), rng.choice((OLD, NEW, NEW))
            command = rng.choice((None, None, None, 77))
            before = rig.campaign.targets[device]
            rig.report(device, state, rng.choice(("", "base", "voice")), content, command)
            if state == "confirmed" and content == NEW and command is None and before.command:
                proved.add(device)
        elif event < 0.8:
            rig.step(rng.choice((1000, 60_000, 400_000)), online=rng.random() < 0.7)
        elif event < 0.85:
            rig.bars ^= {device}
        elif event < 0.9:
            run += 1
            decide(rig, "running", run)
        elif event < 0.93:
            decide(rig, "paused", run)
        else:
            old = rig.campaign
            stored = {name: target.from_record(value.record()) for name, value in old.targets.items()}
            rig.campaign = Campaign(old.plan, stored, old.stop, rig._allocate)
            assert rig.campaign.targets == old.targets and rig.campaign.state == old.state
        confirmed = {name for name in TEN if rig.state(name) == "confirmed"}
        assert confirmed <= proved, f"seed {seed}: success without a proof"
        active = sum(each.progress in target.ACTIVE and not each.deferral for each in rig.campaign.targets.values())
        assert active or not any(rig.campaign.may_fetch(name, DELTA.id) for name in TEN if rig.state(name) == "planned")
        assert not any(isinstance(message, Offer) and message.command == 0 for message in rig.sent), f"seed {seed}"
