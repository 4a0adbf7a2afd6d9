"""Floor control in a bad world: what must never happen does not, and would be seen if it did."""

import types
from pathlib import Path

import pytest
from patrolink.hub.voice import floor as hub
from patrolink_protocol import participant as device

from tests.simulation.ptt_group import World, Wrong

SEEDS = 400
ENOUGH = 600  # seeds after which a mutant counts as not seen

# A line of a machine, and what it is changed to. Each change breaks a rule that a wearer or a dispatcher would miss.
DEVICE = [
    ("        if index <= self._index:", "        if False:"),
    ("message.audio_ssrc == self._returned_ssrc", "False"),
    ("        self.audio_ssrc = message.audio_ssrc\n", "        self.audio_ssrc = self.audio_ssrc or 1\n"),
    ("        if state == NO_PERMISSION:\n            self._send_release()", "        if False:\n            pass"),
    (
        "        if self.state == HAS_PERMISSION:\n            self.cause = 0\n"
        + "            self._enter_no_permission(REVOKED)",
        "        if 0:\n            pass",
    ),
    ("            if now_ms >= self.talk_end_ms:", "            if False:"),
    ("self._enter(PENDING_REQUEST, now_ms, T101_MS)", "self._enter(PENDING_REQUEST, now_ms, None)"),
    ("self._enter(PENDING_RELEASE, now_ms, T100_MS)", "self._enter(PENDING_RELEASE, now_ms, None)"),
    ("self._enter(QUEUED, now_ms, T104_MS)", "self._enter(QUEUED, now_ms, None)"),
    ("T103_MS = 4000", "T103_MS = 400_000"),
    ("            self._clear_talker()\n            self._lose_floor", "            self._lose_floor"),
    ("            if state == HAS_PERMISSION or state == QUEUED and self.audio_ssrc:", "            if False:"),
    (
        "            if state in (PENDING_REQUEST, QUEUED):\n                self.cause",
        "            if False:\n                self.cause",
    ),
]
HUB = [
    ("        if index <= member.newest_index:", "        if False:"),
    ("        if now_ms - burst.voice_ms >= T1_MS:", "        if False:"),
    ("        elif now_ms >= burst.ends_ms:", "        elif False:"),
    ('                self._end(now_ms, "too long")\n        elif', "                pass\n        elif"),
    ("ssrc == burst.ssrc and member in (None, burst.member)", "ssrc == burst.ssrc"),
    ("ssrc == burst.ssrc and member in (None, burst.member)", "member is burst.member"),
    ("now_ms < last.ends_ms and member in (None, last.member)", "now_ms < last.ends_ms"),
    ("            return burst is None\n        if member", "            return True\n        if member"),
    ("        priority = min(priority, member.max_priority)", "        pass"),
    ('        if "talk" not in member.rights:', "        if False:"),
    ('and "emergency" in member.rights', ""),
    ('and "broadcast" in member.rights', ""),
    ("            return bool(requested)\n", "            return False\n"),
    ("        if self.queue:\n            head", "        if False:\n            head"),
    ("        if self.burst and self.burst.member is member:", "        if False:"),
    ("            self._revoke(burst.member, mcptt.REVOKE_PREEMPTED, now_ms)", "            pass"),
    ("        if self._is_holder(member):\n            self._end", "        if False:\n            self._end"),
    ("            self._repeat_grant(now_ms)\n            return\n        self._send",
     "            pass\n        self._send"),
    ("        ssrc = self._new_ssrc()",
     "        ssrc = self._ended_burst.ssrc if self._ended_burst else self._new_ssrc()"),
    ("    self._unqueue(member, now_ms)\n        if ack", "    if ack"),
    ("self._unqueue(member, now_ms, emit=False)\n            self._revoke", "self._revoke"),
    ("        elif len(self.queue) >= self.rules.queue:", "        elif False:"),
]  # fmt: skip


def test_nothing_goes_wrong():
    """`make sim` runs ten thousand."""
    outcomes: set[str] = set()
    for seed in range(1, SEEDS + 1):
        world = World(seed)
        world.run()
        outcomes |= set(world.outcomes())
    assert outcomes == {"granted", "queued", "denied", "failed", "abandoned", "revoked", "power cut"}


def test_a_seed_repeats_a_run():
    first, again = World(5), World(5)
    first.run()
    again.run()
    assert first.told() == again.told() and first.messages == again.messages


def mutant(module, line: str, other: str):
    """The module with one place changed, under a name of its own."""
    source = Path(module.__file__).read_text(encoding="utf-8")
    assert source.count(line) == 1, f"{module.__file__} has {source.count(line)} times: {line}"
    changed = types.ModuleType("mutant")
    exec(compile(source.replace(line, other), "mutant", "exec"), changed.__dict__)  # noqa: S102
    return changed


def seen(make) -> str:
    """Run seeds until something goes wrong, and return what; empty when nothing does."""
    for seed in range(1, ENOUGH + 1):
        try:
            make(seed).run()
        except Wrong as e:
            return str(e).splitlines()[0]
    return ""


@pytest.mark.parametrize("number", range(len(DEVICE)))
def test_a_fault_of_the_device_is_seen(number):
    changed = mutant(device, *DEVICE[number]).Participant
    assert seen(lambda seed: World(seed, participant=changed)), DEVICE[number]


@pytest.mark.parametrize("number", range(len(HUB)))
def test_a_fault_of_the_hub_is_seen(number):
    changed = mutant(hub, *HUB[number]).Floor
    assert seen(lambda seed: World(seed, controller=changed)), HUB[number]
