"""Cases of push-to-talk: a device is a member of the reference hub's group while a script acts, then it leaves."""

from collections.abc import Callable
from typing import Any

import patrolink_messages as m

from patrolink.conformance.case import (
    DEVICE,
    MISSING,
    Case,
    Context,
    Judgement,
    failed,
)
from patrolink.conformance.dialogue import Script, down, replay, under_test
from patrolink.conformance.evidence import Evidence, listen, send, stimulus
from patrolink.conformance.reference_hub import FLOOR_PORT, MEDIA_PORT, REPORT, ReferenceHub
from patrolink.conformance.suite import ids_by_subject

JOIN_MS, LEAVE_MS = 5000, 3000
_TERMS_MAX, _LAST = 6, 99  # numbers of frames
_SETTLE_MS = 2500  # ptt_status follows a change after a second
Act = Callable[[ReferenceHub], Script]
Check = Callable[[ReferenceHub, Evidence], Judgement]


def serve(hub: ReferenceHub, ms: int, until: Callable[[], Any] = lambda: False) -> Script:
    """Run the hub for a time, or until a condition holds."""
    end_ms = hub.now_ms + ms
    while hub.now_ms < end_ms and not until():
        yield from hub.take_steps()
        wait_ms = end_ms - hub.now_ms
        if hub.wait_ms is not None:
            wait_ms = max(1, min(wait_ms, hub.wait_ms))
        hub.take((yield listen(wait_ms, 1)))
    yield from hub.take_steps()


def key(hub: ReferenceHub, name: str) -> Script:
    """Let a person press or release a key."""
    yield from hub.take_steps()
    hub.now_ms = (yield stimulus(name)).at_ms


def send_terms(hub: ReferenceHub, member: bool, number: int) -> Script:
    """Send the terms of the group as they are now, or the end of the membership."""
    yield from hub.take_steps()
    hub.take((yield send(down(under_test(hub.context), m.PTT_GROUP, hub.terms_body(member), number))))


def talk(hub: ReferenceHub, ms: int) -> Script:
    """Press the key, talk for a time after the grant, release the key, and wait for the end of the burst."""
    yield from key(hub, "ptt")
    granted = len(hub.granted)
    yield from serve(hub, JOIN_MS, lambda: len(hub.granted) > granted)
    yield from serve(hub, ms)
    yield from key(hub, "ptt_up")
    yield from serve(hub, JOIN_MS, lambda: hub.floor.burst is None)
    yield from serve(hub, _SETTLE_MS)


def voice_case(title: str, requirement: str, act: Act, check: Check, **more: Any) -> Case:
    """Return a case of push-to-talk.

    Args:
        title: Its title.
        requirement: Id of the requirement.
        act: What happens while the device is a member of the group.
        check: Judges what the hub has recorded.
        **more: `hub`, arguments of ReferenceHub; fields of Case.
    """
    options = more.pop("hub", {})

    def session(hub: ReferenceHub) -> Script:
        for number in range(_TERMS_MAX):  # a device that has just been started has no session yet
            if not hub.entries(REPORT):
                yield from send_terms(hub, True, 1 + number)
                yield from serve(hub, JOIN_MS, lambda: _ports(hub) == {FLOOR_PORT, MEDIA_PORT})
        hub.mark("joined")
        yield from act(hub)
        hub.mark("leaves")
        yield from send_terms(hub, False, _LAST)
        yield from serve(hub, LEAVE_MS)

    def judge(context: Context, evidence: Evidence) -> Judgement:
        hub = ReferenceHub(context, **options)
        replay(session(hub), evidence)
        if not hub.entries(REPORT):
            return failed(MISSING, f"no receiver report after {_TERMS_MAX} ptt_group, {JOIN_MS} ms apart")
        return check(hub, evidence)

    case_id = ids_by_subject().get(title, "")
    more = {"spec": "PTT.md", "claim": "ptt", **more}
    return Case(case_id, title, requirement, DEVICE, lambda c: session(ReferenceHub(c, **options)), judge, **more)


def _ports(hub: ReferenceHub) -> set[int]:
    return {entry.port for entry in hub.entries(REPORT)}
