"""Finds the shortest sequence of requests that a testee answers wrongly."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import patrolink_messages as m
from patrolink_protocol import decode, track_decoder
from patrolink_protocol.errors import RejectError
from patrolink_protocol.frame import parse_header
from patrolink_protocol.receiver import Receiver

from patrolink.conformance import reference
from patrolink.conformance.evidence import MalformedAnswerError, ask, parse_answer, tell
from patrolink.conformance.expect import mismatch
from patrolink.conformance.testee.testee import Testee, TesteeFaultError

_Item = TypeVar("_Item")
ATTEMPTS_MAX = 2000


def shrink(
    items: Sequence[_Item], fails: Callable[[Sequence[_Item]], bool], attempts: int = ATTEMPTS_MAX
) -> list[_Item]:
    """Return a subsequence that still fails, and does not if any single item of it is left out.

    Halves, quarters and so on are left out first (delta debugging, Zeller and Hildebrandt, 2002), so that the number of
    attempts grows with the length of the result rather than with that of the input.

    Args:
        items: A sequence that fails.
        fails: Whether a sequence fails; it must depend on its argument only.
        attempts: Highest number of calls of `fails`; the shortest sequence so far is returned when they are used up.

    Raises:
        ValueError: The whole sequence does not fail.
    """
    current = list(items)
    if not fails(current):
        raise ValueError("the sequence does not fail")
    size = max(1, len(current) // 2)
    while current:
        start = 0
        removed = False
        while start < len(current):
            if attempts <= 0:
                return current
            attempts -= 1
            rest = current[:start] + current[start + size :]
            if fails(rest):
                current, removed = rest, True
            else:
                start += size
        if size == 1 and not removed:
            break
        size = max(1, size // 2)
    return current


class ReferenceSession:
    """What a right testee answers to the requests F, R and S in order."""

    def __init__(self) -> None:
        self._receiver: Receiver | None = None

    def answer(self, line: str) -> dict[str, object] | None:
        """Return the answer; None for a request that has none, or that the reference does not judge."""
        letter, _, rest = line.partition(" ")
        if letter == "F":
            return reference.answer(line)
        if letter == "R":
            digits, device, direction, epoch = rest.split(" ")
            known = digits != "-"
            self._receiver = (
                Receiver(bytes.fromhex(digits), device.encode(), int(direction), int(epoch)) if known else None
            )
        if letter == "S":
            return {"step": self._step(bytes.fromhex(rest.replace("-", "")))}
        return None

    def _step(self, data: bytes) -> str:
        try:
            parse_header(data)
            if self._receiver is None:
                raise RejectError("key")
            kind, _, repeated = self._receiver.accept(data)
            if repeated:
                return "repeated"
            body, _ = self._receiver.read(data)
            track_decoder.decode_columns(body) if kind == m.POSITION_BATCH else decode.decode(kind, body)
        except RejectError as e:
            return str(e.name)
        return "accepted"


def disagreement(lines: Sequence[str], testee: Testee) -> str:
    """Return what a fresh testee answers wrongly in a sequence of requests; empty if nothing."""
    session = ReferenceSession()
    testee.start()
    try:
        testee.begin()
        for number, line in enumerate(lines, 1):
            expected = session.answer(line)
            if line.startswith("R "):
                testee.perform(tell(line))
                continue
            got = parse_answer(testee.perform(ask(line))[0].text)
            got.pop("again", None)
            fault = mismatch(got, expected) if expected is not None else ""
            if fault:
                return f"request {number}: {fault}"
        testee.settle()
    except (TesteeFaultError, MalformedAnswerError) as e:
        return str(e)
    finally:
        testee.stop()
    return ""


def shortest_failing(lines: Sequence[str], testee: Testee) -> tuple[list[str], str]:
    """Return the shortest part of a sequence of requests that a testee answers wrongly, and how.

    Raises:
        ValueError: It answers all of them as the reference does.
    """
    result = shrink(lines, lambda part: bool(disagreement(part, testee)))
    return result, disagreement(result, testee)
