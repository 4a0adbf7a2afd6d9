"""Certification mode: what a tester may demand in it, and that nothing is done outside of it."""

from collections.abc import Callable, Generator

import patrolink_enums as enums
import patrolink_messages as m

from patrolink.conformance.case import (
    CLAIM,
    MISSING,
    UNEXPECTED,
    WRONG_ANSWER,
    Case,
    Context,
    Judgement,
    failed,
    passed,
)
from patrolink.conformance.cases.bodies import pack
from patrolink.conformance.dialogue import (
    ANSWER_MS,
    QUIET_MS,
    START_MS,
    STATUS,
    Dialogue,
    Reading,
    Script,
    device_case,
    is_message,
    readings,
)
from patrolink.conformance.evidence import Evidence, Exchange, Step, restart, send, wait
from patrolink.conformance.frames import SHORT_BODY
from patrolink.conformance.profile import NO

_SECTION = "Certification mode"
_SECONDS, _SECONDS_MAX = 60, 3600
_ECHO = bytes(range(256))[56:]  # 200 bytes, the longest payload
_IGNORED = b"ignored"
_TEXT = {
    "text_id": 1, "time_ms": 1_700_000_000_000, "priority": 1, "ack": 0, "lat_e7": None, "lon_e7": None,
    "sender": "tester", "text": "\u00e4\u5de1",
}  # fmt: skip
_TEXT_BODY = pack(m.TEXT, _TEXT)
# body of a text → what the device must return: the body again, or nothing if it refuses the message
_VECTORS = (
    (m.TEXT, _TEXT_BODY, _TEXT_BODY),
    (m.TEXT_STATE, SHORT_BODY, SHORT_BODY),
    (m.TEXT, _TEXT_BODY + b"later", _TEXT_BODY),
    (m.TEXT, _TEXT_BODY[:-1], None),
    (m.TEXT, _TEXT_BODY[:-2] + b"\xff\xff", None),
    (m.TEXT_STATE, SHORT_BODY[:4] + b"\x07" + SHORT_BODY[5:], None),
    (m.POSITION_BATCH, bytes(16), None),
    (31, SHORT_BODY, None),
)
Judge = Callable[[Context, Evidence], Judgement]


def cases() -> list[Case]:
    """Return the cases."""
    return [
        _case("certification: nothing is done outside of the mode", _outside, _judge_outside),
        _case("certification: a payload is echoed", _echo, _judge_echo),
        _case("certification: the mode lasts an hour at most, and its rest is shown", _long, _judge_long),
        _case("certification: the mode ends when the tester leaves it", _leave, _judge_ended),
        _case("certification: the mode ends after its seconds", _timed_out, _judge_ended),
        _case("certification: the mode ends with a restart", _restarted, _judge_ended),
        _case("certification: messages are decoded and encoded again", _vectors, _judge_vectors),
        _case("certification: accepted and refused frames are counted", _counters, _judge_counters),
        _case("certification: a power cut has no result and restarts the device", _power_cut, _judge_power_cut),
    ]


def _case(title: str, steps: Callable[[Context], Script], judge: Judge) -> Case:
    def judge_claim(context: Context, evidence: Evidence) -> Judgement:
        if context.claims.get("certify") != NO:
            return judge(context, evidence)
        results = _results(context, evidence)
        return failed(CLAIM, "the profile says certify = no, but the device answers `certify`") if results else passed()

    return device_case(title, "CERTIFY-1", steps, judge_claim, spec=_SECTION)


def _body(operation: int, payload: bytes = b"", seconds: int = 0) -> bytes:
    return pack(
        m.CERTIFY,
        {
            "operation": operation, "seconds": seconds, "frames_accepted": 0, "frames_refused": 0,
            "payload": payload.hex(),
        },
    )  # fmt: skip


def _results(context: Context, evidence: Evidence) -> list[Reading]:
    return readings(context, evidence, "certify")


def _request(
    talk: Dialogue, operation: int, payload: bytes = b"", seconds: int = 0
) -> Generator[Step, Exchange, Reading | None]:
    """Send a request and return its result."""
    yield talk.send(m.CERTIFY, _body(operation, payload, seconds))
    return (yield from talk.until(is_message("certify"), ANSWER_MS))


def _enter(talk: Dialogue, seconds: int = _SECONDS) -> Script:
    yield from _request(talk, enums.CERTIFY_OPERATION_ENTER, seconds=seconds)


def _ignored_echo(talk: Dialogue) -> Script:
    """Send an echo that the device must ignore."""
    yield talk.send(m.CERTIFY, _body(enums.CERTIFY_OPERATION_ECHO, _IGNORED))
    yield wait(QUIET_MS)


def _outside(context: Context) -> Script:
    talk = Dialogue(context)
    for operation in range(enums.CERTIFY_OPERATION_LEAVE, enums.CERTIFY_OPERATION_RESULT + 1):
        yield talk.send(m.CERTIFY, _body(operation, SHORT_BODY))
    yield wait(QUIET_MS)


def _judge_outside(context: Context, evidence: Evidence) -> Judgement:
    if _results(context, evidence):
        return failed(UNEXPECTED, "a request outside of the mode has a result")
    if readings(context, evidence, "hello"):
        return failed(UNEXPECTED, "a request outside of the mode has restarted the device")
    return passed()


def _echo(context: Context) -> Script:
    talk = Dialogue(context)
    yield from _enter(talk)
    for payload in (b"", _ECHO):
        yield from _request(talk, enums.CERTIFY_OPERATION_ECHO, payload)
    yield from _request(talk, enums.CERTIFY_OPERATION_LEAVE)


def _judge_echo(context: Context, evidence: Evidence) -> Judgement:
    fault = _fault(_results(context, evidence), [b"", b"", _ECHO, b""])
    return failed(WRONG_ANSWER, fault) if fault else passed()


def _fault(results: list[Reading], payloads: list[bytes]) -> str:
    """Return what is wrong with the payloads of results, or ""."""
    if len(results) != len(payloads):
        return f"{len(results)} results of {len(payloads)} requests"
    for result, payload in zip(results, payloads, strict=True):
        operation, got = result.message["operation"], result.message["payload"]
        if operation != enums.CERTIFY_OPERATION_RESULT:
            return f"operation {operation} in a result"
        if got != payload.hex():
            return f"payload {got or 'empty'}, expected {payload.hex() or 'an empty one'}"
    return ""


def _long(context: Context) -> Script:
    talk = Dialogue(context)
    yield from _enter(talk, 0xFFFF)
    yield wait(QUIET_MS)
    yield from _request(talk, enums.CERTIFY_OPERATION_REPORT_COUNTERS)
    yield from _request(talk, enums.CERTIFY_OPERATION_LEAVE)


def _judge_long(context: Context, evidence: Evidence) -> Judgement:
    results = _results(context, evidence)
    fault = _fault(results, [b""] * 3)
    if fault:
        return failed(WRONG_ANSWER, fault)
    first, later, after = (result.message["seconds"] for result in results)
    if not _SECONDS_MAX - 30 <= first <= _SECONDS_MAX:
        return failed(WRONG_ANSWER, f"entered for 65535 s: {first} s remain, expected at most an hour")
    least = first - (results[1].at_ms - results[0].at_ms) // 1000 - 30
    if not least <= later < first:
        return failed(WRONG_ANSWER, f"{later} s remain {QUIET_MS} ms after {first} s did")
    return failed(WRONG_ANSWER, f"{after} s remain after `leave`") if after else passed()


def _leave(context: Context) -> Script:
    talk = Dialogue(context)
    yield from _enter(talk)
    yield from _request(talk, enums.CERTIFY_OPERATION_LEAVE)
    yield from _ignored_echo(talk)


def _timed_out(context: Context) -> Script:
    talk = Dialogue(context)
    yield from _enter(talk, 5)
    yield wait(8_000)
    yield from _ignored_echo(talk)


def _restarted(context: Context) -> Script:
    talk = Dialogue(context)
    yield from _enter(talk)
    yield restart()
    yield from talk.until(is_message("hello"), START_MS)
    yield from _ignored_echo(talk)


def _judge_ended(context: Context, evidence: Evidence) -> Judgement:
    results = _results(context, evidence)
    if not results:
        return failed(MISSING, f"no result of `enter` within {ANSWER_MS} ms")
    late = [result for result in results if result.message["payload"] == _IGNORED.hex()]
    return failed(UNEXPECTED, "a request after the end of the mode has a result") if late else passed()


def _vectors(context: Context) -> Script:
    talk = Dialogue(context)
    yield from _enter(talk)
    for kind, body, _ in _VECTORS:
        yield from _request(talk, enums.CERTIFY_OPERATION_SEND_VECTOR, bytes([kind]) + body)
    yield from _request(talk, enums.CERTIFY_OPERATION_LEAVE)


def _judge_vectors(context: Context, evidence: Evidence) -> Judgement:
    repeated = [b"" if body is None else bytes([kind]) + body for kind, _, body in _VECTORS]
    fault = _fault(_results(context, evidence), [b"", *repeated, b""])
    return failed(WRONG_ANSWER, fault) if fault else passed()


def _counters(context: Context) -> Script:
    talk = Dialogue(context)
    yield from _enter(talk)
    yield from _request(talk, enums.CERTIFY_OPERATION_REPORT_COUNTERS)
    for _ in range(2):
        frame = talk.frame(m.COMMAND, talk.command_body(STATUS))
        yield send(frame[:-1] + bytes([frame[-1] ^ 1]))
    yield from _request(talk, enums.CERTIFY_OPERATION_ECHO)
    yield from _request(talk, enums.CERTIFY_OPERATION_REPORT_COUNTERS)
    yield from _request(talk, enums.CERTIFY_OPERATION_LEAVE)


def _judge_counters(context: Context, evidence: Evidence) -> Judgement:
    results = _results(context, evidence)
    fault = _fault(results, [b""] * 5)
    if fault:
        return failed(WRONG_ANSWER, fault)
    first, last = results[1].message, results[3].message
    accepted, refused = (last[name] - first[name] for name in ("frames_accepted", "frames_refused"))
    if (accepted, refused) != (2, 2):
        return failed(WRONG_ANSWER, f"counted {accepted} accepted and {refused} refused frames; there were 2 and 2")
    return passed()


def _power_cut(context: Context) -> Script:
    talk = Dialogue(context)
    yield from _enter(talk)
    yield talk.send(m.CERTIFY, _body(enums.CERTIFY_OPERATION_POWER_CUT))
    yield from talk.until(is_message("hello"), START_MS)
    yield from _ignored_echo(talk)


def _judge_power_cut(context: Context, evidence: Evidence) -> Judgement:
    """Frames with lower counters than the result of `enter` were sent before and come again."""
    results = _results(context, evidence)
    if not results:
        return failed(MISSING, f"no result of `enter` within {ANSWER_MS} ms")
    if any(result.counter > results[0].counter for result in results):
        return failed(UNEXPECTED, "`power_cut`, or a request after it, has a result")
    if not any(hello.counter > results[0].counter for hello in readings(context, evidence, "hello")):
        return failed(MISSING, f"no hello within {START_MS} ms of `power_cut`")
    return passed()
