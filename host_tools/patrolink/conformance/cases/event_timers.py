"""Timers of an event: when it is repeated, until it is answered and until it is closed.

A device with a virtual clock is watched until its longest interval; another one for about a minute, and its times are
judged by what a null testee had to wait meanwhile.
"""

from collections.abc import Generator

import patrolink_enums as enums
import patrolink_messages as m
import patrolink_names as names

from patrolink.conformance.case import (
    MISSING,
    MUST,
    UNEXPECTED,
    WRONG_ANSWER,
    Case,
    Context,
    Judgement,
    Verdict,
    failed,
    passed,
)
from patrolink.conformance.cases.bodies import pack
from patrolink.conformance.dialogue import (
    ANSWER_MS,
    QUIET_MS,
    START_MS,
    Dialogue,
    Reading,
    Script,
    readings,
    restarts,
)
from patrolink.conformance.evidence import (
    CUT,
    RESTORE,
    SEND,
    Evidence,
    Exchange,
    Step,
    link,
    restart,
    stimulus,
    wait,
)
from patrolink.conformance.timing import first_not_passed, gaps, judge_interval, timer_case

_FAR_MS = 35 * 60_000
_RECEIVED = 1  # state of an event_state


def cases() -> list[Case]:
    """Return the cases."""
    return [
        timer_case(
            "an SOS without an answer is repeated as the same frame, at doubled intervals",
            *("TIMER-1", _alarm, _judge_repeats, MUST, "sos"),
        ),
        timer_case(
            "the interval of an SOS without an answer ends at its maximum",
            *("TIMER-2", _long_alarm, _judge_longest, MUST, "sos", ("virtual_clock",)),
        ),
        timer_case(
            "an SOS without an answer comes again after a power cut",
            *("TIMER-2", _alarm_over_restart, _judge_after_restart, MUST, "sos"),
        ),
        timer_case(
            "an SOS without an answer comes again when a session begins",
            *("TIMER-2", _alarm_over_cut, _judge_after_cut, MUST, "sos", ("link_control",)),
        ),
        timer_case(
            "an SOS that was answered is repeated once a minute until it is closed",
            *("TIMER-3", _open_alarm, _judge_open, MUST, "sos"),
        ),
    ]


def _close(talk: Dialogue, event: Reading | None, state: int = enums.EVENT_STATE_STATE_RESOLVED) -> Script:
    """Answer an event; `resolved` closes it, so that it is not in the next case."""
    if event is not None:
        values = {"event_id": event.message["event_id"], "state": state, "time_ms": None, "eta_s": None, "who": "kit"}
        yield talk.send(m.EVENT_STATE, pack(m.EVENT_STATE, values))
        yield wait(QUIET_MS)


def _is_sos(reading: Reading) -> bool:
    return reading.name == "event" and reading.message["kind"] == enums.EVENT_KIND_SOS


def _raise(talk: Dialogue) -> Generator[Step, Exchange, Reading | None]:
    yield stimulus("sos")
    return (yield from talk.until(_is_sos, ANSWER_MS))


def _sos(context: Context, evidence: Evidence) -> list[Reading]:
    """Return the frames of the SOS of this case."""
    frames = [reading for reading in readings(context, evidence, repeats=True) if _is_sos(reading)]
    if not frames:
        return []
    newest = max(frame.message["event_id"] for frame in frames)
    return [frame for frame in frames if frame.message["event_id"] == newest]


def _alarm(context: Context) -> Script:
    talk = Dialogue(context)
    event = yield from _raise(talk)
    yield wait(100_000 if context.virtual else 40_000)
    yield from _close(talk, event)


def _judge_repeats(context: Context, evidence: Evidence) -> Judgement:
    frames = _sos(context, evidence)
    if not frames:
        return failed(MISSING, f"no SOS event within {ANSWER_MS} ms of the stimulus")
    expected = 3 if context.virtual else 2
    if len(frames) <= expected:
        return failed(MISSING, f"{len(frames) - 1} repetitions of an SOS without an answer, expected {expected}")
    if len({frame.text for frame in frames}) > 1:
        return failed(WRONG_ANSWER, "the repetition of an SOS is another frame")
    return first_not_passed(
        [
            judge_interval(context, evidence, f"interval {i + 1}", gap_ms, names.TIMER_EVENT_REPEAT_MS << i)
            for i, gap_ms in enumerate(gaps(frames)[:expected])
        ]
    )


def _long_alarm(context: Context) -> Script:
    talk = Dialogue(context)
    event = yield from _raise(talk)
    yield from talk.listen_long(_FAR_MS)
    yield from _close(talk, event)


def _judge_longest(context: Context, evidence: Evidence) -> Judgement:
    intervals = gaps(_sos(context, evidence))
    longest = names.TIMER_EVENT_REPEAT_MAX_MS
    if len(intervals) < 8:
        return failed(MISSING, f"{len(intervals)} repetitions of an SOS in {_FAR_MS // 60_000} min without an answer")
    doubled = [judge_interval(context, evidence, "longest interval", gap_ms, longest) for gap_ms in intervals[6:]]
    return first_not_passed(doubled)


def _alarm_over_restart(context: Context) -> Script:
    talk = Dialogue(context)
    yield from _raise(talk)
    yield restart()
    event = yield from talk.until(_is_sos, START_MS)
    yield from _close(talk, event)


def _judge_after_restart(context: Context, evidence: Evidence) -> Judgement:
    frames = _sos(context, evidence)
    begin = restarts(evidence)[0]
    return _judge_again(frames, begin, "the power cut")


def _judge_again(frames: list[Reading], place: int, what: str) -> Judgement:
    before, after = [f for f in frames if f.place < place], [f for f in frames if f.place > place]
    if not before:
        return failed(MISSING, f"no SOS event within {ANSWER_MS} ms of the stimulus")
    if not after:
        return failed(MISSING, f"the SOS does not come again within {START_MS} ms of {what}")
    return passed() if after[0].text == before[0].text else failed(WRONG_ANSWER, f"it is another frame after {what}")


def _alarm_over_cut(context: Context) -> Script:
    talk = Dialogue(context)
    event = yield from _raise(talk)
    yield from talk.until(_is_sos, 2 * names.TIMER_EVENT_REPEAT_MS)
    yield link(CUT)
    yield wait(1_000)
    yield link(RESTORE)
    # The next repetition is due later than this, so it is the begin of the session that brings the event.
    yield from talk.until(_is_sos, names.TIMER_EVENT_REPEAT_MS * 3 // 2)
    yield from _close(talk, event)


def _judge_after_cut(context: Context, evidence: Evidence) -> Judgement:
    place = next(i for i, exchange in enumerate(evidence.exchanges) if exchange.step == link(RESTORE))
    return _judge_again(_sos(context, evidence), place, "the begin of a session")


def _open_alarm(context: Context) -> Script:
    talk = Dialogue(context)
    event = yield from _raise(talk)
    for _ in range(3 if context.virtual else 1):
        yield from _close(talk, event, _RECEIVED)
        event = (yield from talk.until(_is_sos, 2 * names.TIMER_EVENT_OPEN_REPEAT_MS)) or event
    yield from _close(talk, event)
    yield wait(3 * names.TIMER_EVENT_OPEN_REPEAT_MS if context.virtual else QUIET_MS)


def _judge_open(context: Context, evidence: Evidence) -> Judgement:
    frames = _sos(context, evidence)
    if not frames:
        return failed(MISSING, f"no SOS event within {ANSWER_MS} ms of the stimulus")
    answers = [i for i, exchange in enumerate(evidence.exchanges) if exchange.step.op == SEND]
    for answer, place in enumerate(answers[:-1]):
        sent_ms = evidence.exchanges[place].at_ms
        next_one = next((frame for frame in frames if frame.place > place), None)
        if next_one is None:
            return failed(MISSING, f"an SOS that is open is not repeated after answer {answer + 1}")
        value_ms = names.TIMER_EVENT_OPEN_REPEAT_MS
        judgement = judge_interval(
            context, evidence, f"time after answer {answer + 1}", next_one.at_ms - sent_ms, value_ms
        )
        if judgement.verdict is not Verdict.PASS:
            return judgement
    closed = [frame for frame in frames if frame.place > answers[-1]]
    return failed(UNEXPECTED, "the SOS is repeated after it was resolved") if closed else passed()
