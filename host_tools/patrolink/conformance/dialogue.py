"""What cases of the device tier share: frames to the device, and frames of the device under any of its keys."""

import contextlib
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import patrolink_messages as m
from patrolink_enums import ANSWER_RESULT_STARTED
from patrolink_protocol.frame import Channel

from patrolink.conformance import epochs, reference
from patrolink.conformance.case import DEVICE, Case, Context, DeviceUnderTest, Judgement
from patrolink.conformance.cases.bodies import pack
from patrolink.conformance.evidence import RESTART, Answer, Evidence, Exchange, Step, is_frame, send, wait
from patrolink.conformance.frames import COUNTER_MAX, DOWN, ENCRYPTED, UP, seal
from patrolink.conformance.suite import ids_by_subject

ANSWER_MS = 20_000
QUIET_MS = 3_000
START_MS = 60_000
FUTURE_MS = 4_000_000_000_000
_PART_MS = 300_000
_CLOCK_ATTEMPTS = 3
_CLOCK_COMMAND = 99  # the command that asks for the time
LOCATE, ROTATE_KEY, STATUS = 8, 12, 13  # actions of commands
Script = Generator[Step, Exchange, None]
Message = dict[str, Any]


class Reading(NamedTuple):
    """A frame of the device.

    Attributes:
        at_ms: When it arrived.
        text: The frame in hexadecimal digits.
        epoch: Key epoch.
        counter: Its counter.
        message: The decoded message; without a name if the frame is refused.
        reject: Why it is refused; empty if it is not.
        place: Index of the exchange in which it arrived.
    """

    at_ms: int
    text: str
    epoch: int
    counter: int
    message: Message
    reject: str = ""
    place: int = 0

    @property
    def name(self) -> str:
        """Name of the message; empty if the frame is refused."""
        return str(self.message.get("message", ""))


class Reader:
    """Reads the frames of a device in order of arrival, and follows its key epoch.

    Args:
        device: The device as it was at the begin of the case.
    """

    def __init__(self, device: DeviceUnderTest) -> None:
        self.device = device

    def read(self, answer: Answer, place: int = 0) -> Reading:
        """Return a frame."""
        device = self.device
        device = device._replace(epoch=epochs.after_frame(device, answer.text))
        self.device = device
        channel = Channel(device.secret, device.id.encode(), UP, device.epoch)
        decoded = reference.read(bytes.fromhex(answer.text), channel)
        counter = int(answer.text[2:10] or "0", 16) & COUNTER_MAX
        message, reject = decoded.get("message", {}), decoded.get("reject", "")
        return Reading(answer.at_ms, answer.text, device.epoch, counter, message, reject, place)


def under_test(context: Context) -> DeviceUnderTest:
    """Return the device of a case."""
    assert context.device is not None
    return context.device


def readings(context: Context, evidence: Evidence, name: str = "", repeats: bool = False) -> list[Reading]:
    """Return frames of the device in order of arrival.

    Args:
        context: Of the case.
        evidence: Of the case.
        name: Name of the messages; empty: all.
        repeats: Return repeated frames as well. A device may send a frame again, as a host drops it.
    """
    reader, known, result = Reader(under_test(context)), set(), []
    for place, exchange in enumerate(evidence.exchanges):
        for answer in exchange.answers:
            if is_frame(answer.text) and (repeats or answer.text not in known):
                known.add(answer.text)
                result.append(reader.read(answer, place))
    return [reading for reading in result if not name or reading.name == name]


def down(device: DeviceUnderTest, kind: int, body: bytes, number: int, epoch: int | None = None, **more: Any) -> bytes:
    """Return a frame to the device.

    Args:
        device: The device.
        kind: Type of the message.
        body: Its body.
        number: 1 to 99; it counts the frames of the case.
        epoch: Key epoch, if it is not that of the device.
        **more: Arguments of `frames.seal`.
    """
    flags = ENCRYPTED if m.CONFIDENTIAL >> kind & 1 else 0
    at, counter = device.epoch if epoch is None else epoch, device.counter + number
    return seal(kind, body, counter, DOWN, at, device.id, device.secret, flags=flags, **more)


def command_body(action: int, command_id: int, number: int | None = None, expires_ms: int = FUTURE_MS) -> bytes:
    """Return the body of a command; without a time it does not expire during the run."""
    fields = {"operator": "conformance kit", "number": number, "name": "", "value": ""}
    return pack(m.COMMAND, {"command_id": command_id, "action": action, "expires_ms": expires_ms, **fields})


def replay(script: Script, evidence: Evidence) -> None:
    """Run a script on the exchanges of the evidence, so that it holds again what it held when it was run."""
    exchanges = iter(evidence.exchanges)
    with contextlib.suppress(StopIteration):
        next(script)
        while True:
            script.send(next(exchanges))


def command_id(device: DeviceUnderTest, command: int) -> int:
    """Return the id of a command of a case, numbered from 0 to 99; other cases of the run have other ids."""
    return 0x43000000 | (device.counter + command) & 0xFFFFFF


def answers_to(context: Context, evidence: Evidence, command: int = 0, repeats: bool = False) -> list[Reading]:
    """Return the answers to a command."""
    answer_id = command_id(under_test(context), command)
    return [r for r in readings(context, evidence, "answer", repeats) if r.message["command_id"] == answer_id]


def clock_answers(context: Context, evidence: Evidence) -> list[Reading]:
    """Return the answers to `Dialogue.unix_ms` that have a time."""
    return [answer for answer in answers_to(context, evidence, _CLOCK_COMMAND) if answer.message["time_ms"]]


def restarts(evidence: Evidence) -> list[int]:
    """Return the places of restarts."""
    return [place for place, exchange in enumerate(evidence.exchanges) if exchange.step.op == RESTART]


class Dialogue:
    """The kit's side of a case: it counts frames to the device, and knows the device's key epoch.

    Args:
        context: Of the case.

    Attributes:
        reader: Has read everything that has arrived.
    """

    def __init__(self, context: Context) -> None:
        self.reader = Reader(under_test(context))
        self._number = 0

    @property
    def epoch(self) -> int:
        """Key epoch of the device."""
        return self.reader.device.epoch

    def frame(self, kind: int, body: bytes, epoch: int | None = None) -> bytes:
        """Return the next frame to the device, under its key epoch or another one."""
        self._number += 1
        return down(self.reader.device, kind, body, self._number, epoch)

    def send(self, kind: int, body: bytes, epoch: int | None = None) -> Step:
        """Return the step that sends it."""
        return send(self.frame(kind, body, epoch))

    def until(self, accept: Callable[[Reading], bool], ms: int) -> Generator[Step, Exchange, Reading | None]:
        """Collect frames until one is accepted and return it; None when the time is over."""
        left_ms = ms
        while left_ms > 0:
            exchange = yield wait(left_ms, frames=1)
            if not exchange.answers:
                return None
            for answer in exchange.answers:
                reading = self.reader.read(answer)
                if accept(reading):
                    return reading
            left_ms -= max(1, exchange.answers[-1].at_ms - exchange.at_ms)
        return None

    def listen(self, ms: int) -> Generator[Step, Exchange, list[Reading]]:
        """Collect frames for a time and return them."""
        exchange = yield wait(ms)
        return [self.reader.read(answer) for answer in exchange.answers]

    def listen_long(self, ms: int) -> Script:
        """Collect frames for a long time, in parts: the kit waits only so long for a device on a virtual clock."""
        while ms > 0:
            yield from self.listen(min(ms, _PART_MS))
            ms -= _PART_MS

    def command_body(
        self, action: int, command: int = 0, number: int | None = None, expires_ms: int = FUTURE_MS
    ) -> bytes:
        """Return the body of a command; `command` is its number in the case."""
        return command_body(action, command_id(self.reader.device, command), number, expires_ms)

    def is_answer(self, command: int = 0) -> Callable[[Reading], bool]:
        """Return whether a frame answers a command."""
        answer_id = command_id(self.reader.device, command)
        return lambda reading: reading.name == "answer" and reading.message["command_id"] == answer_id

    def command(
        self,
        action: int,
        command: int = 0,
        number: int | None = None,
        expires_ms: int = FUTURE_MS,
        epoch: int | None = None,
    ) -> Generator[Step, Exchange, Reading | None]:
        """Send a command and return its last answer: the one after `started`, if there is that."""
        yield self.send(m.COMMAND, self.command_body(action, command, number, expires_ms), epoch)
        answer = yield from self.until(self.is_answer(command), ANSWER_MS)
        if answer is not None and answer.message["result"] == ANSWER_RESULT_STARTED:
            answer = yield from self.until(self.is_answer(command), START_MS)
        return answer

    def unix_ms(self) -> Generator[Step, Exchange, int | None]:
        """Return the time of the device's clock; None if it does not know it, also after some time."""
        for _ in range(_CLOCK_ATTEMPTS):
            answer = yield from self.command(STATUS, _CLOCK_COMMAND)
            if answer is not None and answer.message["time_ms"]:
                return int(answer.message["time_ms"])
            yield wait(ANSWER_MS)
        return None


def is_message(name: str) -> Callable[[Reading], bool]:
    """Return whether a frame has a message of a name."""
    return lambda reading: reading.name == name


def device_case(
    title: str,
    requirement: str,
    steps: Callable[[Context], Script],
    judge: Callable[[Context, Evidence], Judgement],
    **more: Any,
) -> Case:
    """Return a case of the device tier; its id is empty if the list of ids does not have its title yet."""
    return Case(ids_by_subject().get(title, ""), title, requirement, DEVICE, steps, judge, **more)
