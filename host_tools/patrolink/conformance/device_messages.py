"""Messages to and from a device under test, for cases of the device tier."""

from collections.abc import Callable, Generator, Iterable
from typing import Any

import patrolink_messages as m
from patrolink_protocol.frame import Channel

from patrolink.conformance import frames, reference
from patrolink.conformance.case import Context
from patrolink.conformance.cases.bodies import pack
from patrolink.conformance.evidence import Answer, Evidence, Exchange, Step, is_frame, send, wait
from patrolink.conformance.frames import DOWN, ENCRYPTED, UP

Message = dict[str, Any]
Script = Generator[Step, Exchange, None]
FUTURE_MS = 4_000_000_000_000


def down(context: Context, kind: int, body: bytes, number: int) -> Step:
    """Return the step that sends a frame to the device; `number` (1 to 99) counts the frames of the case."""
    device = context.device
    assert device is not None
    flags = ENCRYPTED if m.CONFIDENTIAL >> kind & 1 else 0
    counter = device.counter + number
    return send(frames.seal(kind, body, counter, DOWN, device.epoch, device.id, device.secret, flags=flags))


def command(action: int, command_id: int, number: int | None = None) -> bytes:
    """Return the body of a command that does not expire during the run."""
    fields = {"operator": "conformance kit", "number": number, "name": "", "value": ""}
    return pack(m.COMMAND, {"command_id": command_id, "action": action, "expires_ms": FUTURE_MS, **fields})


def messages(context: Context, answers: Iterable[Answer], name: str) -> list[Message]:
    """Return the messages of a name among answers of a device, in order of arrival."""
    device = context.device
    assert device is not None
    channel = Channel(device.secret, device.id.encode(), UP, device.epoch)
    readings = [reference.read(bytes.fromhex(answer.text), channel) for answer in answers if is_frame(answer.text)]
    return [reading["message"] for reading in readings if reading.get("message", {}).get("message") == name]


def received(context: Context, evidence: Evidence, name: str) -> list[Message]:
    """Return the messages of a name in the evidence, in order of arrival."""
    return messages(context, evidence.frames(), name)


def until(
    context: Context, name: str, ms: int, accept: Callable[[Message], bool] = lambda message: True
) -> Generator[Step, Exchange, Message | None]:
    """Collect frames until a message of a name is accepted; return it, or None if the time is over."""
    passed_ms = 0
    while passed_ms < ms:
        exchange = yield wait(ms - passed_ms, frames=1)
        if not exchange.answers:
            return None
        for message in messages(context, exchange.answers, name):
            if accept(message):
                return message
        passed_ms += max(1, exchange.answers[-1].at_ms - exchange.at_ms)
    return None
