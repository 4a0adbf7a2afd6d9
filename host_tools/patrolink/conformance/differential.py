"""Runs the frames of a capture through codecs side by side and says where their readings part."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import patrolink_messages as m
from patrolink_protocol.errors import RejectError
from patrolink_protocol.frame import Channel
from patrolink_protocol.receiver import EPOCH_MAX

from patrolink.conformance import explain, frames, reference
from patrolink.conformance.evidence import MalformedAnswerError, ask, canonical, parse_answer
from patrolink.conformance.testee.testee import Testee, TesteeFaultError
from patrolink.core.capture import Record
from patrolink.core.keys import DeviceKey

REFERENCE = "reference"


class Difference(NamedTuple):
    """A frame that codecs read differently.

    Attributes:
        number: Of the frame in the capture, from 1.
        device: Device id.
        frame: The frame in hexadecimal digits.
        readings: Name of the codec → its answer.
        where: Where the readings part.
    """

    number: int
    device: str
    frame: str
    readings: Mapping[str, dict[str, Any]]
    where: str


def compare(
    records: Iterable[Record], keys: Mapping[str, DeviceKey], testees: Mapping[str, Testee]
) -> Iterator[Difference | None]:
    """Yield a difference, or None, for each frame of a device with a known key.

    Args:
        records: The capture.
        keys: Device id → key.
        testees: Name → codec, not started. The reference codec is always compared.
    """
    for testee in testees.values():
        testee.start()
    try:
        for number, record in enumerate(records, 1):
            if record.device in keys:
                yield _compare_frame(number, record, keys[record.device], testees)
    finally:
        for testee in testees.values():
            testee.stop()


def _compare_frame(number: int, record: Record, key: DeviceKey, testees: Mapping[str, Testee]) -> Difference | None:
    epoch = _epoch(record.frame, key.epoch)
    line = frames.request("F", record.frame, frames.UP, epoch, record.device, key.secret)
    readings = {REFERENCE: reference.answer(line)}
    for name, testee in testees.items():
        readings[name] = _ask(testee, line)
    if len({canonical(reading) for reading in readings.values()}) == 1:
        return None
    channel = Channel(key.secret, record.device.encode(), frames.UP, epoch)
    where = _where(record.frame, channel, list(readings.values()))
    return Difference(number, record.device, record.frame.hex(), readings, where)


def _epoch(frame: bytes, epoch: int) -> int:
    """Return the epoch of a frame by its phase: the current one or the next one."""
    other = len(frame) > 1 and (frame[1] >> 4 & m.FLAG_PHASE != 0) != (epoch & 1)
    return epoch + 1 if other and epoch < EPOCH_MAX else epoch


def _ask(testee: Testee, line: str) -> dict[str, Any]:
    """Return the answer of a codec; a codec that fails is started again and its fault is its reading."""
    try:
        testee.begin()
        reading = parse_answer(testee.perform(ask(line))[0].text)
    except (TesteeFaultError, MalformedAnswerError) as e:
        testee.stop()
        testee.start()
        return {"fault": str(e)}
    reading.pop("again", None)
    return reading


def _where(frame: bytes, channel: Channel, readings: list[dict[str, Any]]) -> str:
    first = readings[0]
    second = next(reading for reading in readings[1:] if canonical(reading) != canonical(first))
    if "fault" in second:
        return str(second["fault"])
    try:
        channel.authenticate(frame)
        body, _ = channel.read(frame)
    except RejectError as e:
        return f"the frame as a whole is refused with `{e.name}` by the reference: {e}"
    return explain.explain(frame[0] & 31, bytes(body), first, second)
