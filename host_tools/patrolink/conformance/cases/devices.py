"""Whole devices: what they send after a start, and what they do with frames from the hub."""

from collections.abc import Callable, Generator
from typing import Any

import patrolink_enums as enums
import patrolink_messages as m
from patrolink_protocol.frame import Channel

from patrolink.conformance import frames, reference
from patrolink.conformance.case import (
    DEVICE,
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
from patrolink.conformance.evidence import RESTART, Evidence, Exchange, Step, restart, send, stimulus, wait
from patrolink.conformance.frames import DOWN, ENCRYPTED, UP
from patrolink.conformance.suite import ids_by_subject
from patrolink.core.text import plural

_ANSWER_MS = 20_000
_QUIET_MS = 3_000
_START_MS = 60_000
_FUTURE_MS = 4_000_000_000_000
_COMMAND_ID = 0x43000000
_UNKNOWN_U32 = 0xFFFFFFFF
Script = Generator[Step, Exchange, None]
Message = dict[str, Any]


def cases() -> list[Case]:
    """Return the cases."""
    return [*_starts(), *_commands(), *_refusals(), *_alarms()]


def _case(
    title: str,
    requirement: str,
    steps: Callable[[Context], Script],
    judge: Callable[[Context, Evidence], Judgement],
    claim: str = "",
) -> Case:
    return Case(ids_by_subject().get(title, ""), title, requirement, DEVICE, steps, judge, claim=claim)


def _read(context: Context, text: str) -> dict[str, Any]:
    """Return a frame of the device, decoded: an answer as of a codec."""
    assert context.device is not None
    device = context.device
    return reference.read(bytes.fromhex(text), Channel(device.secret, device.id.encode(), UP, device.epoch))


def _messages(context: Context, evidence: Evidence, name: str) -> list[Message]:
    """Return the messages of a name, in order of arrival."""
    readings = [_read(context, answer.text) for answer in evidence.frames()]
    return [reading["message"] for reading in readings if reading.get("message", {}).get("message") == name]


def _boots(context: Context, evidence: Evidence) -> list[list[dict[str, Any]]]:
    """Return for each restart what arrived after it and before the next one, decoded."""
    boots: list[list[dict[str, Any]]] = []
    for exchange in evidence.exchanges:
        if exchange.step.op == RESTART:
            boots.append([])
        elif boots:
            boots[-1] += [_read(context, answer.text) for answer in exchange.answers]
    return boots


def _counter(reading: dict[str, Any]) -> int:
    return int(reading.get("counter", -1))


def _until(context: Context, accept: Callable[[Message], bool], ms: int) -> Script:
    """Collect frames until one has a message that is accepted, or the time is over."""
    passed_ms = 0
    while passed_ms < ms:
        exchange = yield wait(ms - passed_ms, frames=1)
        if not exchange.answers:
            return
        if any(accept(_read(context, answer.text).get("message", {})) for answer in exchange.answers):
            return
        passed_ms += max(1, exchange.answers[-1].at_ms - exchange.at_ms)


def _is(name: str) -> Callable[[Message], bool]:
    return lambda message: message.get("message") == name


def _down(context: Context, kind: int, body: bytes, number: int, **more: Any) -> bytes:
    """Return a frame to the device; `number` counts the frames of the case."""
    assert context.device is not None
    device = context.device
    flags = ENCRYPTED if m.CONFIDENTIAL >> kind & 1 else 0
    epoch = more.pop("epoch", device.epoch)
    counter = device.counter + number
    return frames.seal(kind, body, counter, DOWN, epoch, device.id, device.secret, flags=flags, **more)


def _command(action: int, command_id: int = _COMMAND_ID, expires_ms: int = _FUTURE_MS) -> bytes:
    return pack(
        m.COMMAND,
        {
            "command_id": command_id, "action": action, "expires_ms": expires_ms, "operator": "conformance kit",
            "number": None, "name": "", "value": "",
        },
    )  # fmt: skip


_STATUS = enums.COMMAND_ACTION_STATUS if hasattr(enums, "COMMAND_ACTION_STATUS") else 13


def _starts() -> list[Case]:
    def twice(context: Context) -> Script:
        for _ in range(2):
            yield restart()
            yield from _until(context, _is("hello"), _START_MS)
            yield wait(_QUIET_MS)

    def judge_hello(context: Context, evidence: Evidence) -> Judgement:
        numbers = []
        for readings in _boots(context, evidence):
            hellos = [reading for reading in readings if _is("hello")(reading.get("message", {}))]
            if not hellos:
                return failed(MISSING, f"no hello within {_START_MS} ms of the start")
            hello = max(hellos, key=_counter)
            # What the device has stored before may come first; its counters are lower.
            early = readings[: readings.index(hello)]
            later = [reading for reading in early if _counter(reading) > _counter(hello)]
            if later:
                return failed(WRONG_ANSWER, f"this comes before hello after the start: {later[0]}")
            numbers.append(hello["message"]["boot"])
        if numbers[1] <= numbers[0]:
            return failed(WRONG_ANSWER, f"boot number {numbers[1]} after {numbers[0]}; it must increase")
        return passed()

    def judge_counters(context: Context, evidence: Evidence) -> Judgement:
        used: dict[int, str] = {}
        for answer in evidence.frames():
            counter = int(answer.text[2:10], 16) & frames.COUNTER_MAX
            if used.setdefault(counter, answer.text) != answer.text:
                return failed(WRONG_ANSWER, f"two frames have the counter {counter}")
        first, second = _boots(context, evidence)
        hellos = [_counter(reading) for reading in second if _is("hello")(reading.get("message", {}))]
        if not first or not hellos:
            return failed(MISSING, "no hello after a start")
        before, after = max(map(_counter, first)), max(hellos)
        return passed() if before < after else failed(WRONG_ANSWER, f"counter {after} after a restart, {before} before")

    def judge_genuine(context: Context, evidence: Evidence) -> Judgement:
        for answer in evidence.frames():
            reading = _read(context, answer.text)
            if "reject" in reading:
                return failed(WRONG_ANSWER, f"a frame of the device is refused with {reading['reject']}: {answer.text}")
            kind, flags = int(answer.text[:2], 16) & 31, int(answer.text[2], 16)
            if m.CONFIDENTIAL >> kind & 1 and not flags & ENCRYPTED:
                return failed(WRONG_ANSWER, f"{reading['message']['message']} is not encrypted")
        return passed() if evidence.frames() else failed(MISSING, "no frames")

    def watch(context: Context) -> Script:
        yield restart()
        yield wait(15_000)

    return [
        _case("hello is the first frame after each start, with a higher boot number", "HELLO-1", twice, judge_hello),
        _case("no counter is used twice across a power cut", "REPLAY-1", twice, judge_counters),
        _case("every frame is genuine, legal, and encrypted if it is confidential", "BODY-2", watch, judge_genuine),
    ]


def _answers(context: Context, evidence: Evidence) -> list[Message]:
    return [message for message in _messages(context, evidence, "answer") if message["command_id"] >= _COMMAND_ID]


def _one_answer(expected: tuple[int, ...]) -> Callable[[Context, Evidence], Judgement]:
    def judge(context: Context, evidence: Evidence) -> Judgement:
        answers = _answers(context, evidence)
        if not answers:
            return failed(MISSING, f"no answer to the command within {_ANSWER_MS} ms")
        if len(answers) > 1:
            return failed(UNEXPECTED, f"one command has {plural(len(answers), 'answer')}")
        if answers[0]["result"] not in expected:
            return failed(WRONG_ANSWER, f"result {answers[0]['result']}, expected {' or '.join(map(str, expected))}")
        return passed()

    return judge


def _no_answer(context: Context, evidence: Evidence) -> Judgement:
    answers = _answers(context, evidence)
    rejects = [r for r in _messages(context, evidence, "reject") if _counter_of(r) >= _first_counter(context)]
    if answers:
        return failed(UNEXPECTED, f"the device obeys: {answers[0]}")
    return failed(UNEXPECTED, f"the device answers a frame that is not genuine: {rejects[0]}") if rejects else passed()


def _first_counter(context: Context) -> int:
    assert context.device is not None
    return context.device.counter


def _counter_of(reject: Message) -> int:
    number: int = reject["refused_counter"] if "refused_counter" in reject else reject["counter"]
    return number


def _commands() -> list[Case]:
    def once(context: Context, body: bytes) -> Script:
        yield send(_down(context, m.COMMAND, body, 1))
        yield from _until(context, _is("answer"), _ANSWER_MS)
        yield wait(_QUIET_MS)

    def known(context: Context) -> Script:
        return once(context, _command(_STATUS))

    def unknown(context: Context) -> Script:
        return once(context, _command(200))

    def expired(context: Context) -> Script:
        return once(context, _command(_STATUS, expires_ms=1_000))

    def repeated(context: Context) -> Script:
        frame = _down(context, m.COMMAND, _command(_STATUS), 1)
        yield send(frame)
        yield from _until(context, _is("answer"), _ANSWER_MS)
        yield send(frame)
        yield send(frame)
        yield wait(_QUIET_MS)

    def older(context: Context) -> Script:
        yield send(_down(context, m.COMMAND, _command(_STATUS), 9))
        yield from _until(context, _is("answer"), _ANSWER_MS)
        for number in (8, 1):
            yield send(_down(context, m.COMMAND, _command(_STATUS, _COMMAND_ID + 1), number))
        yield wait(_QUIET_MS)

    # Any action may be unsupported, and each one is refused while the clock is not set.
    carried_out, expired_result, unsupported = (0, 1, 2, 3), (2, 4), (2, 3)
    return [
        _case("a command is answered once, with its id", "COMMAND-2", known, _one_answer(carried_out)),
        _case("an action that no device knows is refused", "COMMAND-2", unknown, _one_answer(unsupported)),
        _case("an expired command is not obeyed", "COMMAND-1", expired, _one_answer(expired_result)),
        _case("a command that is repeated is obeyed once", "REPLAY-2", repeated, _one_answer(carried_out)),
        _case("a command with a lower counter is not obeyed", "REPLAY-2", older, _one_answer(carried_out)),
    ]


def _refusals() -> list[Case]:
    def forged(context: Context) -> Script:
        assert context.device is not None
        body = _command(_STATUS)
        frame = _down(context, m.COMMAND, body, 1)
        for data in (
            frame[:-1] + bytes([frame[-1] ^ 1]),
            frame[:-16] + frame[-16:-8] + bytes(8),
            _down(context, m.COMMAND, body, 1, tagged_direction=UP),
            _down(context, m.COMMAND, body, 1, version=2),
            frame[:20],
            frames.seal(m.COMMAND, body, context.device.counter + 1, DOWN, context.device.epoch, "another-device"),
        ):
            yield send(data)
        yield wait(_QUIET_MS)

    def still_alive(context: Context) -> Script:
        yield from forged(context)
        yield send(_down(context, m.COMMAND, _command(_STATUS), 2))
        yield from _until(context, _is("answer"), _ANSWER_MS)

    def malformed(context: Context) -> Script:
        yield wait(12_000)  # a device sends at most one reject in 10 s
        yield send(_down(context, m.COMMAND, _command(_STATUS)[:9], 1))
        yield from _until(context, _is("reject"), _ANSWER_MS)

    def judge_reject(context: Context, evidence: Evidence) -> Judgement:
        counter = _first_counter(context) + 1
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
        yield send(_down(context, m.REJECT, b"\x00", 1))
        yield wait(_QUIET_MS)

    return [
        _case("forged commands are neither obeyed nor answered", "FRAME-3", forged, _no_answer),
        _case("a device goes on after forged frames", "COMMAND-2", still_alive, _one_answer((0, 1, 2, 3))),
        _case("a genuine frame whose body is cut is answered with reject", "REJECT-1", malformed, judge_reject),
        _case("a malformed reject is not answered", "REJECT-1", of_a_reject, _no_answer),
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
        yield stimulus("sos")
        script = _until(context, _is("event"), _ANSWER_MS)
        exchange = None
        try:
            step = next(script)
            while True:
                exchange = yield step
                step = script.send(exchange)
        except StopIteration:
            pass
        if exchange is None or not exchange.answers:
            return
        event = _read(context, exchange.answers[-1].text).get("message", {})
        yield from _until(context, _is("event"), 15_000)  # the repetition, after 10 s
        yield send(_down(context, m.EVENT_STATE, state(event.get("event_id", 0), 5), 1))
        yield wait(_QUIET_MS)
        yield wait(90_000 if context.virtual else 15_000)

    def judge(context: Context, evidence: Evidence) -> Judgement:
        alarms = events(context, evidence)
        if not alarms:
            return failed(MISSING, f"no SOS event within {_ANSWER_MS} ms of the stimulus")
        if not alarms[0]["ack_wanted"]:
            return failed(WRONG_ANSWER, "the SOS event does not want an answer")
        if len(alarms) < 2:
            return failed(MISSING, "the SOS event is not repeated within 15 s without an answer")
        if len({alarm["event_id"] for alarm in alarms}) > 1:
            return failed(WRONG_ANSWER, "the repetition has another event id")
        late = evidence.exchanges[-1].answers
        late_events = [a for a in late if _is("event")(_read(context, a.text).get("message", {}))]
        return failed(UNEXPECTED, "the SOS is repeated after it was resolved") if late_events else passed()

    return [_case("an SOS is repeated until it is resolved", "EVENT-1", alarm, judge, claim="sos")]
