"""What a testee was asked and what it answered: the only input of a verdict.

Times are milliseconds since the start of the case, on the testee's virtual clock if it has one, else monotonic.
"""

import json
from typing import Any, NamedTuple

from patrolink.core.untrusted_json import check_depth

ASK, TELL, SEND, RAW, WAIT, RESTART, STIMULUS = "ask", "tell", "send", "raw", "wait", "restart", "stimulus"
LISTEN, TRANSMIT, OUTPUT = "listen", "transmit", "output"
LINK = "link"
CUT, RESTORE, HOLD, RELEASE = "cut", "restore", "hold", "release"  # what LINK can do
ANSWER_MAX_BYTES = 65_536  # the longest lawful answer, 255 rows, has about 20 KB
FRAMES_MAX = 1000  # of one wait; a device that sends more floods


class MalformedAnswerError(ValueError):
    """An answer is not a JSON object."""


class Step(NamedTuple):
    """One action on a testee. Use the functions below.

    Attributes:
        op: ASK, TELL, SEND, RAW, WAIT, RESTART, STIMULUS, LINK, LISTEN, TRANSMIT or OUTPUT.
        data: A line of the codec protocol, hexadecimal digits, the name of a stimulus, what to do with the link, or
            traffic as text.
        ms: WAIT, LISTEN: time to wait.
        frames: WAIT: end after this many frames. LISTEN: after so many frames and pieces of traffic.
    """

    op: str
    data: str = ""
    ms: int = 0
    frames: int = 0


class Answer(NamedTuple):
    """What the testee sent.

    Codec tier: a line of JSON. Device tier: a frame in hexadecimal digits, or to LISTEN also traffic, as
    `network_packets.Traffic.text` writes it.
    """

    at_ms: int
    text: str


class Exchange(NamedTuple):
    """A step, when it began, and what arrived before it ended."""

    step: Step
    at_ms: int
    answers: tuple[Answer, ...] = ()


class Fault(NamedTuple):
    """Why a case ended early.

    Attributes:
        cause: One of the names in `case.CAUSES`.
        detail: What happened, in one line.
        exit_code: Of the testee's process; negative: ended by that signal; None: it was still running.
        stderr: The end of what it wrote to standard error.
    """

    cause: str
    detail: str
    exit_code: int | None = None
    stderr: str = ""


class Evidence(NamedTuple):
    """The record of one case.

    Attributes:
        exchanges: Steps in order.
        fault: Why the case ended early; None if it did not.
        clock: "monotonic" or "virtual".
        load_ms: Longest delay that a null testee had during the case; 0 if the case does not measure time.
    """

    exchanges: tuple[Exchange, ...]
    fault: Fault | None = None
    clock: str = "monotonic"
    load_ms: int = 0

    def answer(self, index: int) -> dict[str, Any]:
        """Return the answer to the step with this index, parsed.

        Raises:
            MalformedAnswerError: It is not a JSON object.
        """
        return parse_answer(self.exchanges[index].answers[0].text)

    def answers(self) -> list[dict[str, Any]]:
        """Return the parsed answers to all ASK steps."""
        return [self.answer(i) for i, exchange in enumerate(self.exchanges) if exchange.step.op == ASK]

    def frames(self) -> list[Answer]:
        """Return all frames of a device, in order of arrival."""
        return [
            answer
            for exchange in self.exchanges
            if exchange.step.op not in (ASK, OUTPUT)
            for answer in exchange.answers
            if is_frame(answer.text)
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the evidence, JSON-ready."""
        return {
            "clock": self.clock,
            "load_ms": self.load_ms,
            "fault": None if self.fault is None else self.fault._asdict(),
            "exchanges": [
                {"step": list(step), "at_ms": at_ms, "answers": [list(answer) for answer in answers]}
                for step, at_ms, answers in self.exchanges
            ],
        }


def from_json(value: Any) -> Evidence:
    """Return evidence from what `Evidence.to_json` returned.

    Raises:
        ValueError: It is not evidence.
    """
    try:
        exchanges = tuple(_exchange_from_json(entry) for entry in value["exchanges"])
        fault = None if value["fault"] is None else Fault(**value["fault"])
        (load_ms,) = _checked([value["load_ms"]], (int,))
        evidence = Evidence(exchanges, fault, value["clock"], load_ms)
    except (KeyError, TypeError, IndexError) as e:
        raise ValueError(f"not evidence: {e}") from None
    if evidence.to_json() != value:
        raise ValueError("evidence with unknown parts")
    return evidence


def _exchange_from_json(entry: Any) -> Exchange:
    (at_ms,) = _checked([entry["at_ms"]], (int,))
    answers = tuple(Answer(*_checked(answer, (int, str))) for answer in entry["answers"])
    return Exchange(Step(*_checked(entry["step"], (str, str, int, int))), at_ms, answers)


def _checked(values: list[Any], kinds: tuple[type, ...]) -> list[Any]:
    if len(values) != len(kinds) or any(type(v) is not kind for v, kind in zip(values, kinds, strict=True)):
        raise TypeError(f"{values!r} in the place of {', '.join(kind.__name__ for kind in kinds)}")
    return values


def ask(line: str) -> Step:
    """Codec tier: send a line, and read the line that answers it."""
    return Step(ASK, line)


def tell(line: str) -> Step:
    """Codec tier: send a line that has no answer."""
    return Step(TELL, line)


def send(frame: bytes) -> Step:
    """Device tier: send a frame to the device."""
    return Step(SEND, frame.hex())


def raw(data: bytes) -> Step:
    """Device tier: write bytes that are no packet, to a pipe or a serial line; a broker gets them as one payload."""
    return Step(RAW, data.hex())


def wait(ms: int, frames: int = FRAMES_MAX) -> Step:
    """Device tier: collect frames of the device, until this time is over or so many have come."""
    return Step(WAIT, "", ms, frames)


def listen(ms: int, arrivals: int = FRAMES_MAX) -> Step:
    """Device tier: as `wait`, and collect what the device sends on its network, too."""
    return Step(LISTEN, "", ms, arrivals)


def transmit(traffic: str) -> Step:
    """Device tier: send a datagram or bytes of a stream to the device; see `network_packets.Traffic.text`."""
    return Step(TRANSMIT, traffic)


def is_frame(text: str) -> bool:
    """Return whether an answer of a device is a frame; else it is traffic."""
    return " " not in text


def restart() -> Step:
    """Device tier: cut the power of the device and start it again; needs a testee that the kit has started."""
    return Step(RESTART)


def stimulus(name: str) -> Step:
    """Device tier: run the command that the profile names for a stimulus, such as a press of the SOS button."""
    return Step(STIMULUS, name)


def output(name: str) -> Step:
    """Device tier: run the command that the profile names for a stimulus; the answer is what it writes, as hexadecimal.

    Cases get files of the vendor so, such as an image of the device's firmware.
    """
    return Step(OUTPUT, name)


def link(action: str) -> Step:
    """Device tier: control the link between the device and its broker; needs a testee with such a link.

    Args:
        action: CUT: the session is lost, and no new one can be opened. RESTORE: sessions can be opened again, in which
            frames are acknowledged. HOLD: frames of the device are received, but not acknowledged from now on. RELEASE:
            all received frames are acknowledged, and further ones at once.
    """
    return Step(LINK, action)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name twice in one object")
    return result


def parse_answer(text: str) -> dict[str, Any]:
    """Return a JSON object: no NaN, no infinity, no name twice.

    Raises:
        MalformedAnswerError: The text is something else.
    """
    try:
        value = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique)
        check_depth(value)
    except (ValueError, RecursionError) as e:
        reason = "nested too deeply" if isinstance(e, RecursionError) else str(e)
        raise MalformedAnswerError(f"not JSON ({reason}): {shortened(text)}") from None
    if not isinstance(value, dict):
        raise MalformedAnswerError(f"not an object: {shortened(text)}")
    return value


def canonical(value: Any) -> str:
    """Return a value as JSON that is equal for equal values only: 1, 1.0 and true differ."""
    return json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"), allow_nan=False)


def shortened(text: str, limit: int = 200) -> str:
    """Return text in at most `limit` characters."""
    return text if len(text) <= limit else f"{text[: limit - 20]}... ({len(text)} chars)"
