"""Timers of a device: answers, expiry of commands and firmware, and the rate of `reject`."""

import patrolink_enums as enums
import patrolink_messages as m
import patrolink_names as names

from patrolink.conformance.case import (
    MISSING,
    SHOULD,
    TIMING,
    WRONG_ANSWER,
    Case,
    Context,
    Judgement,
    Verdict,
    failed,
    passed,
    timed,
)
from patrolink.conformance.cases.bodies import pack
from patrolink.conformance.dialogue import (
    ANSWER_MS,
    FUTURE_MS,
    QUIET_MS,
    START_MS,
    STATUS,
    Dialogue,
    Reading,
    Script,
    answers_to,
    clock_answers,
    command_id,
    is_message,
    readings,
    under_test,
)
from patrolink.conformance.evidence import (
    SEND,
    Evidence,
    restart,
    send,
    stimulus,
    wait,
)
from patrolink.conformance.profile import NO
from patrolink.conformance.timing import first_not_passed, gaps, timer_case

_NO_IMAGE = bytes.fromhex("00ff00ff00ff00ff")
_REPLAY = 6  # reason of a reject


def cases() -> list[Case]:
    """Return the cases."""
    return [*_commands(), *_firmware(), *_rejects()]


# --- TIMER-4 and TIMER-5: commands ----------------------------------------------------------------------------------


def _commands() -> list[Case]:
    return [
        timer_case("a command is answered within 10 s", "TIMER-4", _answered, _judge_answered, SHOULD),
        timer_case("a command is carried out before its expiry and not after it", "TIMER-5", _expiry, _judge_expiry),
        timer_case("every command is refused while the clock is not set", "TIMER-5", _clockless, _judge_clockless),
    ]


def _answered(context: Context) -> Script:
    talk = Dialogue(context)
    for command in range(3):
        yield from talk.command(STATUS, command)


def _judge_answered(context: Context, evidence: Evidence) -> Judgement:
    sent = [exchange.at_ms for exchange in evidence.exchanges if exchange.step.op == SEND]
    judgements = []
    for command, sent_ms in enumerate(sent):
        answers = answers_to(context, evidence, command)
        if not answers:
            return failed(MISSING, f"no answer to a command within {ANSWER_MS} ms")
        judgements.append(timed("time to the answer", answers[0].at_ms - sent_ms, 0, names.TIMER_ANSWER_MS, evidence))
    return first_not_passed(judgements)


def _expiry(context: Context) -> Script:
    """Send commands that expire in the time that a hub gives them, and ones that have just expired."""
    talk = Dialogue(context)
    now_ms = yield from talk.unix_ms()
    if now_ms is None:
        return
    yield from talk.command(STATUS, 1, expires_ms=now_ms + names.TIMER_COMMAND_EXPIRY_MS)
    yield from talk.command(STATUS, 2, expires_ms=now_ms - 1)
    late = talk.frame(m.COMMAND, talk.command_body(STATUS, 3, expires_ms=now_ms + names.TIMER_COMMAND_EXPIRY_MS))
    yield wait(names.TIMER_COMMAND_EXPIRY_MS + 2_000)
    yield send(late)
    yield from talk.until(talk.is_answer(3), ANSWER_MS)


def _judge_expiry(context: Context, evidence: Evidence) -> Judgement:
    if not clock_answers(context, evidence):
        return failed(MISSING, "no answer with a time: the clock of the device is not set")
    for command, is_expired in ((1, False), (2, True), (3, True)):
        results = [answer.message["result"] for answer in answers_to(context, evidence, command)]
        if not results:
            return failed(MISSING, f"no answer to a command within {ANSWER_MS} ms")
        if (results[0] == enums.ANSWER_RESULT_EXPIRED) is not is_expired:
            state = "after" if is_expired else "before"
            return failed(WRONG_ANSWER, f"result {results[0]} of a command that arrives {state} its expiry")
    return passed()


def _clockless(context: Context) -> Script:
    talk = Dialogue(context)
    yield stimulus("lose_clock")
    yield restart()
    yield from talk.until(is_message("hello"), START_MS)
    yield from talk.command(STATUS)
    yield restart()


def _judge_clockless(context: Context, evidence: Evidence) -> Judgement:
    answers = answers_to(context, evidence)
    if not answers:
        return failed(MISSING, f"no answer to a command within {ANSWER_MS} ms")
    answer = answers[0].message
    if answer["time_ms"]:
        return failed(
            WRONG_ANSWER, f"the stimulus has not taken the clock: the answer has the time {answer['time_ms']}"
        )
    if answer["result"] != enums.ANSWER_RESULT_REFUSED:
        return failed(
            WRONG_ANSWER, f"result {answer['result']} of a command while the clock is not set, expected refused"
        )
    return passed()


# --- TIMER-6: firmware ----------------------------------------------------------------------------------------------


def _firmware() -> list[Case]:
    return [
        timer_case("a firmware request is refused after its expiry", "TIMER-6", _old_image, _judge_old_image, SHOULD),
        timer_case("a firmware request is not called expired while the clock is not set", "TIMER-6", _clockless_image,
              _judge_clockless_image, SHOULD),
    ]  # fmt: skip


def _install(talk: Dialogue, expires_ms: int) -> Script:
    """Request an image that nobody has, and cancel that."""
    values = {
        "command_id": command_id(talk.reader.device, 0), "action": 1, "expires_ms": expires_ms, "operator": "kit",
        "image": _NO_IMAGE.hex(), "bytes": 4096, "rollback_floor": 0, "version": "none",
    }  # fmt: skip
    yield talk.send(m.FIRMWARE, pack(m.FIRMWARE, values))
    yield from talk.until(lambda reading: reading.name.startswith("firmware_"), ANSWER_MS)
    yield talk.send(m.FIRMWARE, pack(m.FIRMWARE, {**values, "action": 2, "expires_ms": FUTURE_MS, "bytes": None}))
    yield wait(QUIET_MS)


def _old_image(context: Context) -> Script:
    talk = Dialogue(context)
    now_ms = yield from talk.unix_ms()
    if now_ms is not None:
        yield from _install(talk, now_ms - 1)


def _first_of_image(context: Context, evidence: Evidence) -> Reading | None:
    """Return the first status of the request, or the first request for blocks of the image."""
    command = command_id(under_test(context), 0)
    for reading in readings(context, evidence):
        if reading.name == "firmware_status" and reading.message["command_id"] == command:
            return reading
        if reading.name == "firmware_request" and reading.message["image"] == _NO_IMAGE.hex():
            return reading
    return None


def _judge_old_image(context: Context, evidence: Evidence) -> Judgement:
    if not clock_answers(context, evidence):
        return failed(MISSING, "no answer with a time: the clock of the device is not set")
    first = _first_of_image(context, evidence)
    if first is None:
        return failed(MISSING, f"no firmware_status within {ANSWER_MS} ms")
    if first.name != "firmware_status" or first.message["state"] != enums.FIRMWARE_STATUS_STATE_REFUSED:
        return failed(WRONG_ANSWER, f"an expired request is not refused: {first.message}")
    reasons = {enums.FIRMWARE_STATUS_REASON_EXPIRED}
    if context.claims.get("firmware_update") == NO:
        reasons.add(enums.FIRMWARE_STATUS_REASON_NO_SLOTS)
    reason = first.message["reason"]
    return passed() if reason in reasons else failed(WRONG_ANSWER, f"reason {reason} of an expired request")


def _clockless_image(context: Context) -> Script:
    talk = Dialogue(context)
    yield stimulus("lose_clock")
    yield restart()
    yield from talk.until(is_message("hello"), START_MS)
    yield from _install(talk, 1_000)
    yield restart()


def _judge_clockless_image(context: Context, evidence: Evidence) -> Judgement:
    first = _first_of_image(context, evidence)
    if first is None:
        return failed(MISSING, f"no firmware_status or firmware_request within {ANSWER_MS} ms")
    expired = first.name == "firmware_status" and first.message["reason"] == enums.FIRMWARE_STATUS_REASON_EXPIRED
    return failed(WRONG_ANSWER, "a request is expired, although the clock is not set") if expired else passed()


# --- TIMER-8 and TIMER-9: reject ------------------------------------------------------------------------------------


def _rejects() -> list[Case]:
    return [
        timer_case("reject messages are 10 s apart", "TIMER-8", _malformed, _judge_rejects),
        timer_case("reject messages of the reason replay are 60 s apart", "TIMER-9", _replays, _judge_replays),
    ]


def _malformed(context: Context) -> Script:
    talk = Dialogue(context)
    for _ in range(30 if context.virtual else 12):
        yield talk.send(m.COMMAND, talk.command_body(STATUS)[:9])
        yield wait(1_000)
    yield wait(QUIET_MS)


def _replays(context: Context) -> Script:
    talk = Dialogue(context)
    frame = talk.frame(m.COMMAND, talk.command_body(STATUS))
    yield send(frame)
    yield from talk.until(talk.is_answer(), ANSWER_MS)
    for _ in range(30 if context.virtual else 9):
        yield send(frame)
        yield wait(5_000)
    yield wait(QUIET_MS)


def _judge_rejects(context: Context, evidence: Evidence) -> Judgement:
    return _judge_apart(context, evidence, readings(context, evidence, "reject"), names.TIMER_REJECT_INTERVAL_MS)


def _judge_replays(context: Context, evidence: Evidence) -> Judgement:
    rejects = [r for r in readings(context, evidence, "reject") if r.message["reason"] == _REPLAY]
    return _judge_apart(context, evidence, rejects, names.TIMER_REPLAY_REJECT_INTERVAL_MS)


def _judge_apart(context: Context, evidence: Evidence, rejects: list[Reading], least_ms: int) -> Judgement:
    """A device need not answer with `reject` at all, but its rejects have a shortest interval."""
    intervals = gaps(rejects)
    if not intervals:
        return passed()
    allowed_ms = least_ms * (19 if context.virtual else 16) // 20  # a queue or a network brings frames closer together
    if evidence.clock != "virtual" and evidence.load_ms * 10 > least_ms - allowed_ms:
        return Judgement(Verdict.INCONCLUSIVE, "", f"a null testee was {evidence.load_ms} ms late")
    if min(intervals) < allowed_ms:
        return failed(TIMING, f"two reject messages are {min(intervals)} ms apart, expected at least {least_ms} ms")
    return passed()
