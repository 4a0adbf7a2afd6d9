"""Whole devices: what they send after a start, and what they do with frames from the hub."""

from collections.abc import Callable

import patrolink_enums as enums
import patrolink_messages as m

from patrolink.conformance.case import (
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
    Message,
    Reading,
    Script,
    command_body,
    device_case,
    down,
    is_message,
    readings,
    restarts,
    under_test,
)
from patrolink.conformance.evidence import Evidence, restart, send, stimulus, wait
from patrolink.conformance.frames import DOWN, ENCRYPTED, UP, seal
from patrolink.core.text import plural

_FIRST_ID = 0x43000000  # command_id of the cases


def cases() -> list[Case]:
    """Return the cases."""
    return [*_starts(), *_commands(), *_refusals(), *_alarms()]


def _boots(context: Context, evidence: Evidence) -> list[list[Reading]]:
    """Return for each restart what arrived after it and before the next one."""
    everything, starts = readings(context, evidence, repeats=True), restarts(evidence)
    ends = [*starts[1:], len(evidence.exchanges)]
    return [[r for r in everything if start <= r.place < end] for start, end in zip(starts, ends, strict=True)]


def _starts() -> list[Case]:
    def twice(context: Context) -> Script:
        for _ in range(2):
            yield restart()
            yield from Dialogue(context).until(is_message("hello"), START_MS)
            yield wait(QUIET_MS)

    def judge_hello(context: Context, evidence: Evidence) -> Judgement:
        numbers = []
        for boot in _boots(context, evidence):
            hellos = [reading for reading in boot if reading.name == "hello"]
            if not hellos:
                return failed(MISSING, f"no hello within {START_MS} ms of the start")
            hello = max(hellos, key=lambda reading: reading.counter)
            # What the device has stored before may come first; its counters are lower.
            later = [reading for reading in boot[: boot.index(hello)] if reading.counter > hello.counter]
            if later:
                return failed(WRONG_ANSWER, f"this comes before hello after the start: {later[0].message}")
            numbers.append(hello.message["boot"])
        if numbers[1] <= numbers[0]:
            return failed(WRONG_ANSWER, f"boot number {numbers[1]} after {numbers[0]}; it must increase")
        return passed()

    def judge_counters(context: Context, evidence: Evidence) -> Judgement:
        used: dict[int, str] = {}
        for reading in readings(context, evidence):
            if used.setdefault(reading.counter, reading.text) != reading.text:
                return failed(WRONG_ANSWER, f"two frames have the counter {reading.counter}")
        first, second = _boots(context, evidence)
        hellos = [reading.counter for reading in second if reading.name == "hello"]
        if not first or not hellos:
            return failed(MISSING, "no hello after a start")
        before, after = max(reading.counter for reading in first), max(hellos)
        return passed() if before < after else failed(WRONG_ANSWER, f"counter {after} after a restart, {before} before")

    def judge_genuine(context: Context, evidence: Evidence) -> Judgement:
        for reading in readings(context, evidence):
            if not reading.name:
                return failed(WRONG_ANSWER, f"a frame of the device is refused with {reading.reject}: {reading.text}")
            kind, flags = int(reading.text[:2], 16) & 31, int(reading.text[2], 16)
            if m.CONFIDENTIAL >> kind & 1 and not flags & ENCRYPTED:
                return failed(WRONG_ANSWER, f"{reading.name} is not encrypted")
        return passed() if evidence.frames() else failed(MISSING, "no frames")

    def watch(context: Context) -> Script:
        yield restart()
        yield wait(15_000)

    return [
        device_case(
            "hello is the first frame after each start, with a higher boot number", "HELLO-1", twice, judge_hello
        ),
        device_case("no counter is used twice across a power cut", "REPLAY-1", twice, judge_counters),
        device_case(
            "every frame is genuine, legal, and encrypted if it is confidential", "BODY-2", watch, judge_genuine
        ),
    ]


def _messages(context: Context, evidence: Evidence, name: str) -> list[Message]:
    """Return the messages of a name, repeated frames included."""
    return [reading.message for reading in readings(context, evidence, name, repeats=True)]


def _answers(context: Context, evidence: Evidence) -> list[Message]:
    return [message for message in _messages(context, evidence, "answer") if message["command_id"] >= _FIRST_ID]


def _one_answer(expected: tuple[int, ...]) -> Callable[[Context, Evidence], Judgement]:
    def judge(context: Context, evidence: Evidence) -> Judgement:
        answers = _answers(context, evidence)
        if not answers:
            return failed(MISSING, f"no answer to the command within {ANSWER_MS} ms")
        if len(answers) > 1:
            return failed(UNEXPECTED, f"one command has {plural(len(answers), 'answer')}")
        if answers[0]["result"] not in expected:
            return failed(WRONG_ANSWER, f"result {answers[0]['result']}, expected {' or '.join(map(str, expected))}")
        return passed()

    return judge


def _no_answer(context: Context, evidence: Evidence) -> Judgement:
    answers = _answers(context, evidence)
    rejects = [r for r in _messages(context, evidence, "reject") if _counter_of(r) >= under_test(context).counter]
    if answers:
        return failed(UNEXPECTED, f"the device obeys: {answers[0]}")
    return failed(UNEXPECTED, f"the device answers a frame that is not genuine: {rejects[0]}") if rejects else passed()


def _counter_of(reject: Message) -> int:
    number: int = reject["refused_counter"] if "refused_counter" in reject else reject["counter"]
    return number


def _commands() -> list[Case]:
    def once(context: Context, body: bytes) -> Script:
        dialogue = Dialogue(context)
        yield dialogue.send(m.COMMAND, body)
        yield from dialogue.until(is_message("answer"), ANSWER_MS)
        yield wait(QUIET_MS)

    def known(context: Context) -> Script:
        return once(context, command_body(STATUS, _FIRST_ID))

    def unknown(context: Context) -> Script:
        return once(context, command_body(200, _FIRST_ID))

    def expired(context: Context) -> Script:
        return once(context, command_body(STATUS, _FIRST_ID, expires_ms=1_000))

    def repeated(context: Context) -> Script:
        dialogue = Dialogue(context)
        frame = dialogue.frame(m.COMMAND, command_body(STATUS, _FIRST_ID))
        yield send(frame)
        yield from dialogue.until(is_message("answer"), ANSWER_MS)
        yield send(frame)
        yield send(frame)
        yield wait(QUIET_MS)

    def older(context: Context) -> Script:
        device = under_test(context)
        yield send(down(device, m.COMMAND, command_body(STATUS, _FIRST_ID), 9))
        yield from Dialogue(context).until(is_message("answer"), ANSWER_MS)
        for number in (8, 1):
            yield send(down(device, m.COMMAND, command_body(STATUS, _FIRST_ID + 1), number))
        yield wait(QUIET_MS)

    # Any action may be unsupported, and each one is refused while the clock is not set.
    carried_out, expired_result, unsupported = (0, 1, 2, 3), (2, 4), (2, 3)
    return [
        device_case("a command is answered once, with its id", "COMMAND-2", known, _one_answer(carried_out)),
        device_case("an action that no device knows is refused", "COMMAND-2", unknown, _one_answer(unsupported)),
        device_case("an expired command is not obeyed", "COMMAND-1", expired, _one_answer(expired_result)),
        device_case("a command that is repeated is obeyed once", "REPLAY-2", repeated, _one_answer(carried_out)),
        device_case("a command with a lower counter is not obeyed", "REPLAY-2", older, _one_answer(carried_out)),
    ]


def _refusals() -> list[Case]:
    def forged(context: Context) -> Script:
        device = under_test(context)
        body = command_body(STATUS, _FIRST_ID)
        frame = down(device, m.COMMAND, body, 1)
        for data in (
            frame[:-1] + bytes([frame[-1] ^ 1]),
            frame[:-16] + frame[-16:-8] + bytes(8),
            down(device, m.COMMAND, body, 1, tagged_direction=UP),
            down(device, m.COMMAND, body, 1, version=2),
            frame[:20],
            seal(m.COMMAND, body, device.counter + 1, DOWN, device.epoch, "another-device"),
        ):
            yield send(data)
        yield wait(QUIET_MS)

    def still_alive(context: Context) -> Script:
        yield from forged(context)
        yield send(down(under_test(context), m.COMMAND, command_body(STATUS, _FIRST_ID), 2))
        yield from Dialogue(context).until(is_message("answer"), ANSWER_MS)

    def malformed(context: Context) -> Script:
        yield wait(12_000)  # a device sends at most one reject in 10 s
        dialogue = Dialogue(context)
        yield dialogue.send(m.COMMAND, command_body(STATUS, _FIRST_ID)[:9])
        yield from dialogue.until(is_message("reject"), ANSWER_MS)

    def judge_reject(context: Context, evidence: Evidence) -> Judgement:
        counter = under_test(context).counter + 1
        for message in _messages(context, evidence, "reject"):
            if _counter_of(message) == counter:
                if (message["message_type"], message["reason"]) == (m.COMMAND, 1):
                    return passed()
                return failed(
                    WRONG_ANSWER, f"the reject says type {message['message_type']}, reason {message['reason']}"
                )
        return failed(MISSING, f"no reject of the frame with the counter {counter}")

    def of_a_reject(context: Context) -> Script:
        yield wait(12_000)
        yield Dialogue(context).send(m.REJECT, b"\x00")
        yield wait(QUIET_MS)

    return [
        device_case("forged commands are neither obeyed nor answered", "FRAME-3", forged, _no_answer),
        device_case("a device goes on after forged frames", "COMMAND-2", still_alive, _one_answer((0, 1, 2, 3))),
        device_case("a genuine frame whose body is cut is answered with reject", "REJECT-1", malformed, judge_reject),
        device_case("a malformed reject is not answered", "REJECT-1", of_a_reject, _no_answer),
    ]


def _alarms() -> list[Case]:
    def events(context: Context, evidence: Evidence) -> list[Message]:
        return [event for event in _messages(context, evidence, "event") if event["kind"] == enums.EVENT_KIND_SOS]

    def state(event_id: int, value: int) -> bytes:
        return pack(
            m.EVENT_STATE,
            {"event_id": event_id, "state": value, "time_ms": 1_900_000_000_000, "eta_s": None, "who": "station"},
        )

    def alarm(context: Context) -> Script:
        dialogue = Dialogue(context)
        yield stimulus("sos")
        event = yield from dialogue.until(is_message("event"), ANSWER_MS)
        if event is None:
            return
        yield from dialogue.until(is_message("event"), 15_000)  # the repetition, after 10 s
        yield dialogue.send(m.EVENT_STATE, state(event.message["event_id"], 5))
        yield wait(QUIET_MS)
        yield wait(90_000 if context.virtual else 15_000)

    def judge(context: Context, evidence: Evidence) -> Judgement:
        alarms = events(context, evidence)
        if not alarms:
            return failed(MISSING, f"no SOS event within {ANSWER_MS} ms of the stimulus")
        if not alarms[0]["ack_wanted"]:
            return failed(WRONG_ANSWER, "the SOS event does not want an answer")
        if len(alarms) < 2:
            return failed(MISSING, "the SOS event is not repeated within 15 s without an answer")
        if len({alarm["event_id"] for alarm in alarms}) > 1:
            return failed(WRONG_ANSWER, "the repetition has another event id")
        last = len(evidence.exchanges) - 1
        late = [r for r in readings(context, evidence, "event", repeats=True) if r.place == last]
        return failed(UNEXPECTED, "the SOS is repeated after it was resolved") if late else passed()

    return [device_case("an SOS is repeated until it is resolved", "EVENT-1", alarm, judge, claim="sos")]
