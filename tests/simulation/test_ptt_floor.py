"""Floor control under faults: the invariants hold, and their checks detect mutants of the code."""

import types
from pathlib import Path

import pytest
from patrolink.hub.voice import floor
from patrolink_protocol import participant

from tests.simulation.ptt_group import GroupSimulation, InvariantError

SEEDS = 400
MUTANT_SEEDS = 600  # a mutant that passes all of them is not detected

# Mutants: (text of a state machine, replacement that breaks a rule of floor control).
PARTICIPANT_MUTANTS = [
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
FLOOR_MUTANTS = [
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
    ("        if following is None and self.queue:", "        if False:"),
    ("        if self.burst and self.burst.member is member:", "        if False:"),
    ("            self._revoke(burst.member, mcptt.REVOKE_PREEMPTED, now_ms)", "            pass"),
    ("        if self._is_holder(member):\n            self._end", "        if False:\n            self._end"),
    ("            self._repeat_grant(now_ms)\n            return\n        self._send",
     "            pass\n        self._send"),
    ("            ssrc = self._new_ssrc(is_emergency)",
     "            ssrc = self._ended_burst.ssrc if self._ended_burst else self._new_ssrc(is_emergency)"),
    ("    self._unqueue(member, now_ms)\n        if ack", "    if ack"),
    ("self._unqueue(member, now_ms, emit=False)\n            self._revoke", "self._revoke"),
    ("        elif len(self.queue) >= self.rules.queue:", "        elif False:"),
]  # fmt: skip


def test_invariants_hold():
    """`make sim` runs ten thousand seeds."""
    outcomes: set[str] = set()
    for seed in range(1, SEEDS + 1):
        simulation = GroupSimulation(seed)
        simulation.run()
        outcomes |= set(simulation.outcomes())
    assert outcomes == {"granted", "queued", "denied", "failed", "abandoned", "revoked", "power cut"}


def test_a_seed_repeats_a_run():
    first, second = GroupSimulation(5), GroupSimulation(5)
    first.run()
    second.run()
    assert first.format_trace() == second.format_trace() and first.messages == second.messages


def mutant(module, text: str, replacement: str):
    """Return a copy of the module with one text replaced."""
    source = Path(module.__file__).read_text(encoding="utf-8")
    assert source.count(text) == 1, f"{module.__file__} has {source.count(text)} times: {text}"
    changed = types.ModuleType("mutant")
    exec(compile(source.replace(text, replacement), "mutant", "exec"), changed.__dict__)  # noqa: S102
    return changed


def first_failure(make_simulation) -> str:
    """Run seeds until one fails, and return its error; empty if none does."""
    for seed in range(1, MUTANT_SEEDS + 1):
        try:
            make_simulation(seed).run()
        except InvariantError as e:
            return str(e).splitlines()[0]
    return ""


@pytest.mark.parametrize("number", range(len(PARTICIPANT_MUTANTS)))
def test_participant_mutant_is_detected(number):
    changed = mutant(participant, *PARTICIPANT_MUTANTS[number]).Participant
    assert first_failure(lambda seed: GroupSimulation(seed, make_participant=changed)), PARTICIPANT_MUTANTS[number]


@pytest.mark.parametrize("number", range(len(FLOOR_MUTANTS)))
def test_floor_mutant_is_detected(number):
    changed = mutant(floor, *FLOOR_MUTANTS[number]).Floor
    assert first_failure(lambda seed: GroupSimulation(seed, make_floor=changed)), FLOOR_MUTANTS[number]
