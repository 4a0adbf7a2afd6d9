"""A codec on a pipe: one request per line, one JSON answer per line (protocol/vectors/README.md)."""

from collections.abc import Callable

from patrolink.conformance.case import CODEC, FLOOD, START
from patrolink.conformance.evidence import (
    ANSWER_MAX_BYTES,
    ASK,
    TELL,
    Answer,
    MalformedAnswerError,
    Step,
    parse_answer,
    shortened,
)
from patrolink.conformance.schedule import PIPE
from patrolink.conformance.testee.child import Child
from patrolink.conformance.testee.program import describe_program
from patrolink.conformance.testee.testee import Ending, StepUnavailableError, TesteeFaultError

ANSWER_TIMEOUT_S = 5.0
_START_TIMEOUT_S = 30.0
_VERSION_REQUEST = b"V\n"


class CodecPipe:
    """The codec under test.

    Args:
        command: Program and arguments.
        monotonic_ms: Clock.
        timeout_s: Longest time for an answer.
    """

    tier = CODEC
    clock = "monotonic"

    def __init__(
        self, command: list[str], monotonic_ms: Callable[[], int], timeout_s: float = ANSWER_TIMEOUT_S
    ) -> None:
        self._command = command
        self._monotonic_ms = monotonic_ms
        self._timeout_s = timeout_s
        self._begin_ms = 0
        self._child: Child | None = None
        self._version = ""

    def describe(self) -> dict[str, str]:
        """Return the command, the hash of the program and its answer to a version request."""
        return {**describe_program(self._command), "version": self._version, "carriage": PIPE}

    def start(self) -> None:
        """Start the program and read its version.

        Raises:
            TesteeFaultError: It cannot be started, or does not answer a version request.
        """
        self._child = Child(self._command)
        self._child.start()
        try:
            self._version = self._ask_version(_START_TIMEOUT_S)
        except TesteeFaultError as e:
            stderr = self.stop().stderr.strip().splitlines()
            output_end = f"; it wrote: {shortened(stderr[-1])}" if stderr else ""
            raise TesteeFaultError(START, f"no answer to the request V ({e.cause}: {e.detail}{output_end})") from None

    def _ask_version(self, timeout_s: float) -> str:
        assert self._child is not None
        self._child.write(_VERSION_REQUEST)
        text = self._child.read(_take_line, timeout_s)
        try:
            answer = parse_answer(text)
        except MalformedAnswerError as e:
            raise TesteeFaultError(FLOOD, f"in the place of the answer to V: {e}") from None
        if "protocol" not in answer:
            raise TesteeFaultError(FLOOD, f"in the place of the answer to V: {shortened(text)}")
        return text

    def begin(self) -> None:
        """Begin a case."""
        self._begin_ms = self._monotonic_ms()

    def now_ms(self) -> int:
        """Return the time since `begin`."""
        return self._monotonic_ms() - self._begin_ms

    def perform(self, step: Step) -> tuple[Answer, ...]:
        """Send a request and return its answer; see `Testee.perform`."""
        assert self._child is not None
        if step.op not in (ASK, TELL):
            raise StepUnavailableError(f"a codec cannot perform the step {step.op}")
        self._child.write(step.data.encode() + b"\n")
        if step.op == TELL:
            return ()
        text = self._child.read(_take_line, self._timeout_s)
        return (Answer(self.now_ms(), text),)

    def settle(self) -> None:
        """Ask for the version: whatever comes before that answer was not asked for."""
        assert self._child is not None
        self._ask_version(self._timeout_s)
        if self._child.has_output():
            raise TesteeFaultError(FLOOD, "more output than one line for each request")

    def stop(self) -> Ending:
        """End the program."""
        return self._child.stop() if self._child is not None else Ending()


def _take_line(buffer: bytearray) -> str | None:
    end = buffer.find(b"\n", 0, ANSWER_MAX_BYTES + 1)
    if end < 0:
        if len(buffer) > ANSWER_MAX_BYTES:
            raise TesteeFaultError(FLOOD, f"an answer of more than {ANSWER_MAX_BYTES} bytes")
        return None
    line = bytes(buffer[:end])
    del buffer[: end + 1]
    return line.decode(errors="backslashreplace")
