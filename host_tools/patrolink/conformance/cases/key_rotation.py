"""Rotation of the device key: the command `rotate_key`, and the end of the old key in both directions."""

from collections.abc import Callable, Generator

import patrolink_messages as m
from patrolink_enums import ANSWER_RESULT_DONE as DONE
from patrolink_enums import ANSWER_RESULT_STARTED as STARTED

from patrolink.conformance import epochs
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
from patrolink.conformance.dialogue import (
    ANSWER_MS,
    QUIET_MS,
    ROTATE_KEY,
    START_MS,
    STATUS,
    Dialogue,
    Script,
    answers_to,
    device_case,
    is_message,
    readings,
    restarts,
    under_test,
)
from patrolink.conformance.evidence import HOLD, RELEASE, Evidence, Exchange, Step, link, restart, send
from patrolink.conformance.profile import NO

_SECTION = "Tag and keys"
_NEW, _OLD = 1, 2  # commands under the new and under the old key
_HELD_MS = 30_000
Judge = Callable[[Context, Evidence], Judgement]


def cases() -> list[Case]:
    """Return the cases."""
    return [
        _rotation("a key is rotated: started under the old key, done under the next one", _simple, _judge_simple),
        _rotation("the old key of the hub counts until its first frame under the next one", _overlap, _judge_overlap),
        _rotation("the old key ends with the first frame under the next one", _old_after_new, _judge_old_after_new),
        _rotation("a rotated key survives a power cut, and the old one stays refused", _cut, _judge_cut),
        _rotation(
            "a key is not changed while frames under it are not acknowledged", _held, _judge_held, "link_control"
        ),
        _of_receiver("a rotation to another epoch than the next one is refused", _wrong_epochs, _judge_wrong_epochs),
        _of_receiver("a frame under the key after the next one is not obeyed", _far_epoch, _judge_not_obeyed),
        _of_receiver("a forged frame of the next epoch does not end the key", _forged, _judge_not_obeyed),
    ]


def _rotation(title: str, steps: Callable[[Context], Script], judge: Judge, claim: str = "") -> Case:
    def judge_claim(context: Context, evidence: Evidence) -> Judgement:
        return _judge_denied(context, evidence) if _denied(context) else judge(context, evidence)

    return device_case(title, "KEY-2", steps, judge_claim, spec=_SECTION, claim=claim)


def _of_receiver(title: str, steps: Callable[[Context], Script], judge: Judge) -> Case:
    return device_case(title, "KEY-2", steps, judge, spec=_SECTION)


def _denied(context: Context) -> bool:
    return context.claims.get("key_rotation") == NO


def _judge_denied(context: Context, evidence: Evidence) -> Judgement:
    """A device that cannot rotate its key says so, and keeps it."""
    answers = answers_to(context, evidence)
    if any(answer.message["result"] in (DONE, STARTED) for answer in answers):
        return failed(CLAIM, "the profile says key_rotation = no, but the device rotates its key")
    if any(reading.epoch != under_test(context).epoch for reading in readings(context, evidence)):
        return failed(CLAIM, "the profile says key_rotation = no, but a frame is under the next key")
    return passed() if answers else failed(MISSING, f"no answer to rotate_key within {ANSWER_MS} ms")


def _rotate(talk: Dialogue) -> Generator[Step, Exchange, bool]:
    """Rotate the key; return whether the device answers `done`."""
    answer = yield from talk.command(ROTATE_KEY, number=talk.epoch + 1)
    return answer is not None and answer.message["result"] == DONE


def _rotation_fault(context: Context, evidence: Evidence) -> str:
    """Return what is wrong with the answers to rotate_key, or ""."""
    epoch = under_test(context).epoch
    answers = [(a.message["result"], a.epoch) for a in answers_to(context, evidence)]
    if answers != [(STARTED, epoch), (DONE, epoch + 1)]:
        shown = ", ".join(f"result {result} under epoch {at}" for result, at in answers) or "none"
        return f"answers: {shown}; expected started under epoch {epoch}, done under epoch {epoch + 1}"
    ref = answers_to(context, evidence)[-1].message["ref"]
    return "" if ref == epoch + 1 else f"`done` has ref {ref}, expected the new epoch {epoch + 1}"


def _with_rotation(judge: Judge) -> Judge:
    def judged(context: Context, evidence: Evidence) -> Judgement:
        fault = _rotation_fault(context, evidence)
        return failed(WRONG_ANSWER, fault) if fault else judge(context, evidence)

    return judged


def _obeyed(context: Context, evidence: Evidence, command: int, expected: bool, key: str) -> str:
    """Return a text if a command was answered or not against expectation, or ""."""
    answered = bool(answers_to(context, evidence, command))
    if answered is expected:
        return ""
    return f"a command under the {key} key is {'obeyed' if answered else 'not answered'}"


# --- cases with a rotation ------------------------------------------------------------------------------------------


def _simple(context: Context) -> Script:
    talk = Dialogue(context)
    if (yield from _rotate(talk)):
        yield from talk.command(STATUS, _NEW)
        yield from talk.listen(QUIET_MS)


@_with_rotation
def _judge_simple(context: Context, evidence: Evidence) -> Judgement:
    device = under_test(context)
    seen_new = False
    for reading in readings(context, evidence):
        seen_new = seen_new or reading.epoch > device.epoch
        if seen_new and epochs.is_under(device, device.epoch, reading.text):
            return failed(WRONG_ANSWER, f"a frame under the old key comes after one under the next: {reading.text}")
    fault = _obeyed(context, evidence, _NEW, True, "next")
    return failed(MISSING, fault) if fault else passed()


def _overlap(context: Context) -> Script:
    talk = Dialogue(context)
    if (yield from _rotate(talk)):
        yield from talk.command(STATUS, _OLD, epoch=talk.epoch - 1)
        yield from talk.command(STATUS, _NEW)


@_with_rotation
def _judge_overlap(context: Context, evidence: Evidence) -> Judgement:
    for command, key in ((_OLD, "old"), (_NEW, "next")):
        fault = _obeyed(context, evidence, command, True, key)
        if fault:
            return failed(MISSING, fault)
    return passed()


def _send_old(talk: Dialogue, old: int) -> Script:
    yield talk.send(m.COMMAND, talk.command_body(STATUS, _OLD), old)
    yield from talk.listen(QUIET_MS)


def _old_after_new(context: Context) -> Script:
    talk = Dialogue(context)
    if (yield from _rotate(talk)):
        yield from talk.command(STATUS, _NEW)
        yield from _send_old(talk, talk.epoch - 1)


@_with_rotation
def _judge_old_after_new(context: Context, evidence: Evidence) -> Judgement:
    fault = _obeyed(context, evidence, _NEW, True, "next") or _obeyed(context, evidence, _OLD, False, "old")
    if fault:
        return failed(WRONG_ANSWER, fault)
    rejects = [r for r in readings(context, evidence, "reject") if r.message["message_type"] == m.COMMAND]
    return failed(UNEXPECTED, "a frame under an ended key is answered with reject") if rejects else passed()


def _cut(context: Context) -> Script:
    talk = Dialogue(context)
    if (yield from _rotate(talk)):
        yield from talk.command(STATUS, _NEW)
        yield restart()
        yield from talk.until(is_message("hello"), START_MS)
        yield from _send_old(talk, talk.epoch - 1)


@_with_rotation
def _judge_cut(context: Context, evidence: Evidence) -> Judgement:
    begin = restarts(evidence)[0]
    hellos = [r for r in readings(context, evidence, "hello") if r.place > begin]
    if not hellos:
        return failed(MISSING, "no hello under the new key after the power cut")
    fault = _obeyed(context, evidence, _OLD, False, "old")
    return failed(WRONG_ANSWER, f"{fault} after a power cut") if fault else passed()


def _held(context: Context) -> Script:
    talk = Dialogue(context)
    yield link(HOLD)
    yield talk.send(m.COMMAND, talk.command_body(STATUS, _OLD))
    yield from talk.until(talk.is_answer(_OLD), ANSWER_MS)
    yield talk.send(m.COMMAND, talk.command_body(ROTATE_KEY, number=talk.epoch + 1))
    yield from talk.listen(_HELD_MS)
    yield link(RELEASE)
    yield from talk.until(lambda r: talk.is_answer()(r) and r.message["result"] != STARTED, START_MS)


@_with_rotation
def _judge_held(context: Context, evidence: Evidence) -> Judgement:
    release = next(i for i, e in enumerate(evidence.exchanges) if e.step == link(RELEASE))
    early = [r for r in readings(context, evidence) if r.place < release and r.epoch > under_test(context).epoch]
    if early:
        return failed(UNEXPECTED, f"{early[0].name} is under the next key while frames wait for acknowledgement")
    return passed()


# --- cases of the receiver ------------------------------------------------------------------------------------------


def _wrong_epochs(context: Context) -> Script:
    talk = Dialogue(context)
    for command, number in enumerate((talk.epoch, talk.epoch + 2, None)):
        yield from talk.command(ROTATE_KEY, command, number)
    yield from talk.listen(QUIET_MS)


def _judge_wrong_epochs(context: Context, evidence: Evidence) -> Judgement:
    for command in range(3):
        answers = answers_to(context, evidence, command)
        if not answers:
            return failed(MISSING, f"no answer to rotate_key within {ANSWER_MS} ms")
        if any(answer.message["result"] in (DONE, STARTED) for answer in answers):
            return failed(WRONG_ANSWER, "rotate_key to another epoch than the next one is carried out")
    changed = [r for r in readings(context, evidence) if r.epoch != under_test(context).epoch]
    return failed(WRONG_ANSWER, "the key has changed") if changed else passed()


def _then_old(talk: Dialogue, frame: bytes) -> Script:
    yield send(frame)
    yield from talk.listen(QUIET_MS)
    yield from talk.command(STATUS, _OLD)


def _far_epoch(context: Context) -> Script:
    talk = Dialogue(context)
    yield from _then_old(talk, talk.frame(m.COMMAND, talk.command_body(STATUS), talk.epoch + 2))


def _forged(context: Context) -> Script:
    talk = Dialogue(context)
    frame = talk.frame(m.COMMAND, talk.command_body(STATUS), talk.epoch + 1)
    yield from _then_old(talk, frame[:-1] + bytes([frame[-1] ^ 1]))


def _judge_not_obeyed(context: Context, evidence: Evidence) -> Judgement:
    fault = _obeyed(context, evidence, 0, False, "wrong") or _obeyed(context, evidence, _OLD, True, "right")
    return failed(WRONG_ANSWER, fault) if fault else passed()
