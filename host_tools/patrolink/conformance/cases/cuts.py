"""Store and forward: what a device keeps while its link is cut or nothing is acknowledged, and sends afterwards."""

from collections.abc import Callable

import patrolink_messages as m

from patrolink.conformance.case import (
    MISSING,
    SHOULD,
    WRONG_ANSWER,
    Case,
    Context,
    Judgement,
    failed,
    passed,
)
from patrolink.conformance.dialogue import (
    ANSWER_MS,
    START_MS,
    STATUS,
    Dialogue,
    Reading,
    Script,
    answers_to,
    clock_answers,
    device_case,
    readings,
    restarts,
)
from patrolink.conformance.evidence import CUT, HOLD, RESTORE, Evidence, link, restart, wait

_SECTION = "Carriage"
_MINUTE_MS = 60_000
_DRAIN_MS = 5 * _MINUTE_MS
_LONG_CUT_MS = 30 * _MINUTE_MS
Judge = Callable[[Context, Evidence], Judgement]


def cases() -> list[Case]:
    """Return the cases."""
    return [
        _case(
            "a frame without acknowledgement comes again as it was sealed", "REPLAY-1", _unacknowledged, _judge_again
        ),
        _case("no counter has two frames across cuts and a power cut", "REPLAY-1", _cuts, _judge_counters),
        _of_positions("positions of a short cut arrive after it, each once", _short_cut, _judge_rows),
        _of_positions("the newest positions of a long cut arrive after it, each once", _long_cut, _judge_newest),
        _case("a command during a cut of the link is not obeyed after it", "COMMAND-1", _lost_command, _judge_lost),
    ]


def _case(title: str, requirement: str, steps: Callable[[Context], Script], judge: Judge) -> Case:
    return device_case(title, requirement, steps, judge, claim="link_control", spec=_SECTION)


def _of_positions(title: str, steps: Callable[[Context], Script], judge: Judge) -> Case:
    needs = ("link_control",)
    return device_case(title, "BATCH-1", steps, judge, level=SHOULD, claim="positions", needs=needs, spec=_SECTION)


def _span_ms(context: Context) -> int:
    """Return the time in which a device with positions has sent some."""
    return 3 * _MINUTE_MS if context.virtual else _MINUTE_MS


def _place(evidence: Evidence, action: str, last: bool = False) -> int:
    places = [i for i, exchange in enumerate(evidence.exchanges) if exchange.step == link(action)]
    return places[-1 if last else 0]


# --- frames without acknowledgement ---------------------------------------------------------------------------------


def _unacknowledged(context: Context) -> Script:
    talk = Dialogue(context)
    yield link(HOLD)
    yield talk.send(m.COMMAND, talk.command_body(STATUS))
    yield from talk.until(talk.is_answer(), ANSWER_MS)
    yield link(CUT)
    yield wait(1_000)
    yield link(RESTORE)
    yield from talk.until(talk.is_answer(), START_MS)


def _judge_again(context: Context, evidence: Evidence) -> Judgement:
    """The answer is the frame that is looked at: nothing else would make it come twice."""
    answers = answers_to(context, evidence, repeats=True)
    cut = _place(evidence, CUT)
    before, after = [r for r in answers if r.place < cut], [r for r in answers if r.place > cut]
    if not before:
        return failed(MISSING, f"no answer to the command within {ANSWER_MS} ms")
    if not after:
        return failed(
            MISSING, f"the answer without acknowledgement does not come again within {START_MS} ms of a session"
        )
    return (
        passed() if after[0].text == before[0].text else failed(WRONG_ANSWER, "the answer comes again in another frame")
    )


def _cuts(context: Context) -> Script:
    talk = Dialogue(context)
    for number in range(2):
        yield link(HOLD)
        yield talk.send(m.COMMAND, talk.command_body(STATUS, number))
        yield wait(20_000)
        yield link(CUT)
        yield wait(20_000)
        yield link(RESTORE)
        yield wait(20_000)
    yield restart()
    yield wait(30_000)


def _judge_counters(context: Context, evidence: Evidence) -> Judgement:
    assert restarts(evidence)
    known: dict[tuple[int, int], str] = {}
    for reading in readings(context, evidence):
        if known.setdefault((reading.epoch, reading.counter), reading.text) != reading.text:
            return failed(WRONG_ANSWER, f"two frames have the counter {reading.counter}")
    return passed() if known else failed(MISSING, "no frames")


# --- positions ------------------------------------------------------------------------------------------------------


def _positions(context: Context, cut_ms: int) -> Script:
    talk = Dialogue(context)
    yield from talk.unix_ms()
    yield wait(_span_ms(context))
    yield link(CUT)
    yield from talk.listen_long(cut_ms)
    yield link(RESTORE)
    yield from talk.listen_long(_DRAIN_MS if context.virtual else _span_ms(context))


def _short_cut(context: Context) -> Script:
    return _positions(context, _span_ms(context))


def _long_cut(context: Context) -> Script:
    return _positions(context, _LONG_CUT_MS if context.virtual else 2 * _MINUTE_MS)


def _times(batches: list[Reading]) -> list[int]:
    return [row[0] for batch in batches for row in batch.message["rows"]]


def _row_fault(context: Context, evidence: Evidence) -> str:
    """Return the fault of rows that arrive in two frames, or ""."""
    batches = readings(context, evidence, "position_batch")
    times = _times(batches)
    twice = sorted({time_ms for time_ms in times if times.count(time_ms) > 1}) if len(times) < 5000 else _twice(times)
    return f"the position of {twice[0]} is in two frames" if twice else ""


def _twice(times: list[int]) -> list[int]:
    ordered = sorted(times)
    return [a for a, b in zip(ordered, ordered[1:], strict=False) if a == b]


def _cut_window(context: Context, evidence: Evidence) -> tuple[int, int] | None:
    """Return begin and end of the cut on the clock of the device; None if it does not answer."""
    answers = clock_answers(context, evidence)
    if not answers:
        return None
    offset_ms = answers[0].message["time_ms"] - answers[0].at_ms
    begin, end = (evidence.exchanges[_place(evidence, action)].at_ms + offset_ms for action in (CUT, RESTORE))
    return begin, end


def _judge_cut(context: Context, evidence: Evidence, parts: Callable[[int, int], list[tuple[int, int]]]) -> Judgement:
    """Look for positions in parts of a cut, which are a function of its begin and end."""
    window = _cut_window(context, evidence)
    if window is None:
        return failed(MISSING, "no answer with a time before the cut")
    begin, end = window
    times = _times(readings(context, evidence, "position_batch"))
    for first, last in parts(begin, end):
        if not any(first < time < last for time in times):
            at = f"{(first - begin) // 1000} to {(last - begin) // 1000} s after the begin of the cut"
            return failed(MISSING, f"no position of the time {at}")
    fault = _row_fault(context, evidence)
    return failed(WRONG_ANSWER, fault) if fault else passed()


def _judge_rows(context: Context, evidence: Evidence) -> Judgement:
    def halves(begin: int, end: int) -> list[tuple[int, int]]:
        middle = (begin + end) // 2
        return [(begin, middle), (middle, end)]

    return _judge_cut(context, evidence, halves)


def _judge_newest(context: Context, evidence: Evidence) -> Judgement:
    """The last minutes can be rows of a batch that is not complete; those before them must have been queued."""

    def queued(begin: int, end: int) -> list[tuple[int, int]]:
        return [(max(begin, end - 6 * _MINUTE_MS), end - 2 * _MINUTE_MS), (end - 2 * _MINUTE_MS, end)]

    return _judge_cut(context, evidence, queued if context.virtual else lambda begin, end: [(begin, end)])


# --- the other direction -----------------------------------------------------------------


def _lost_command(context: Context) -> Script:
    talk = Dialogue(context)
    yield link(CUT)
    yield wait(1_000)
    yield talk.send(m.COMMAND, talk.command_body(STATUS))
    yield wait(5_000)
    yield link(RESTORE)
    yield from talk.until(lambda reading: True, _DRAIN_MS)
    yield from talk.command(STATUS, 1)


def _judge_lost(context: Context, evidence: Evidence) -> Judgement:
    """The session is a clean one (TIMER-10): the hub sends again what still counts."""
    if answers_to(context, evidence):
        return failed(WRONG_ANSWER, "a command that was sent while there was no session is obeyed")
    if not answers_to(context, evidence, 1):
        return failed(MISSING, "no answer to a command after the cut")
    return passed()
