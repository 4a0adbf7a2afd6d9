"""Life of one device in `patrolink flash`: order of the steps, retries, and the second look at the identity."""

from hypothesis import strategies as st
from patrolink.flash.device_flow import ENDED, GOOD, DeviceFlow, State
from patrolink.flash.records import Identity, Plan

from tests.support.properties import untimed

DEVICE, OTHER = Identity(unique_id="aa"), Identity(unique_id="bb")
PLAN, SAME = Plan("agent 1.0", 4096), Plan("agent 1.0", 4096, unchanged=True)


def flow_at(state: State, retries: int = 0) -> DeviceFlow:
    """Return the flow of a device that has come to a step."""
    flow = DeviceFlow(retries, dry_run=False)
    effect = flow.begin()
    while effect.state is not state:
        effect = succeed(flow)
    return flow


def succeed(flow: DeviceFlow, identity: Identity = DEVICE, plan: Plan = PLAN):
    if flow.state in (State.IDENTIFYING, State.CONFIRMING):
        return flow.identified(identity)
    return flow.planned(plan) if flow.state is State.PLANNING else flow.completed()


def test_identity_is_read_again_right_before_the_first_write():
    flow = DeviceFlow(0, dry_run=False)
    states = [flow.begin().state]
    while states[-1] not in ENDED:
        states.append(succeed(flow).state)
    assert [state.value for state in states] == [
        *("identifying", "planning", "confirming", "writing", "verifying", "releasing", "flashed")
    ]


def test_another_device_at_the_second_look_is_refused():
    flow = flow_at(State.CONFIRMING, retries=3)
    effect = flow.identified(OTHER)
    assert effect.state is State.REFUSED and "another device answers: bb, not aa" in effect.reason


def test_another_device_after_a_failure_is_refused():
    flow = flow_at(State.WRITING, retries=3)
    assert flow.failed("cable").state is State.PAUSED
    flow.begin()
    assert flow.identified(OTHER).state is State.REFUSED


def test_dry_run_and_unchanged_content_write_nothing():
    flow = DeviceFlow(0, dry_run=True)
    flow.begin()
    flow.identified(DEVICE)
    assert flow.planned(PLAN).state is State.PLANNED
    flow = flow_at(State.PLANNING)
    assert flow.planned(SAME).state is State.UNCHANGED


def test_pauses_grow_and_end_with_the_retries():
    flow, pauses = DeviceFlow(6, dry_run=False), []
    flow.begin()
    while (effect := flow.failed("silent")).state is State.PAUSED:
        pauses.append(effect.pause_s)
        flow.begin()
    assert pauses == [1, 2, 4, 8, 15, 15]
    assert effect.state is State.FAILED and effect.reason == "silent" and flow.attempts == 7


EVENTS = st.lists(st.sampled_from(["good", "other", "same", "fail", "refuse", "cancel"]), max_size=60)


@untimed(EVENTS, st.integers(0, 4))
def test_nothing_is_written_without_a_confirmed_identity(events, retries):
    flow, confirmed = DeviceFlow(retries, dry_run=False), None
    effect = flow.begin()
    for event in events:
        if effect.state in ENDED:
            break
        if effect.state is State.PAUSED:
            effect, confirmed = flow.begin(), None
            continue
        before = effect.state
        if event == "fail":
            effect = flow.failed("x")
        elif event == "refuse":
            effect = flow.refused("x")
        elif event == "cancel":
            effect = flow.cancelled()
        else:
            identity = OTHER if event == "other" else DEVICE
            if before is State.CONFIRMING:
                confirmed = identity
            effect = succeed(flow, identity, SAME if event == "same" else PLAN)
        if effect.state is State.WRITING:
            assert confirmed is not None and flow.identity is not None
            assert confirmed.unique_id == flow.identity.unique_id
        assert flow.attempts <= retries + 1
        assert effect.reason or effect.state not in ENDED - GOOD
