"""What the runner needs of a testee."""

from typing import NamedTuple, Protocol

from patrolink.conformance.evidence import Answer, Step

STDERR_MAX_CHARS = 2000


class TesteeFaultError(Exception):
    """The testee failed during a step.

    Args:
        cause: One of `case.CAUSES`.
        detail: What happened, in one line.
        answers: What had arrived before.
    """

    def __init__(self, cause: str, detail: str, answers: tuple[Answer, ...] = ()) -> None:
        super().__init__(f"{cause}: {detail}")
        self.cause = cause
        self.detail = detail
        self.answers = answers


class StepUnavailableError(Exception):
    """The profile has no command for a step, which the target cannot perform without; the case is skipped."""


class Ending(NamedTuple):
    """How a testee ended.

    Attributes:
        exit_code: Of its process, negative for a signal; None: the kit ended it, or it is no process of the kit.
        stderr: The end of what it wrote to standard error.
    """

    exit_code: int | None = None
    stderr: str = ""


class Testee(Protocol):
    """A codec or a device. After a fault the runner calls `stop` and `start`."""

    tier: str
    clock: str

    def describe(self) -> dict[str, str]:
        """Return target, SHA-256, version and carriage (pipe, serial or broker) of what is tested, for the report."""

    def start(self) -> None:
        """Start the testee or connect to it.

        Raises:
            TesteeFaultError: It cannot be started.
        """

    def begin(self) -> None:
        """Begin a case: times are counted from here."""

    def now_ms(self) -> int:
        """Return the time since `begin`."""

    def perform(self, step: Step) -> tuple[Answer, ...]:
        """Perform a step and return what arrived.

        Raises:
            TesteeFaultError: The testee failed.
            StepUnavailableError: The step is not possible on this target.
        """

    def settle(self) -> None:
        """End a case: find output that nobody asked for.

        Raises:
            TesteeFaultError: There is some, or the testee has ended.
        """

    def stop(self) -> Ending:
        """End the testee or disconnect from it. May be called twice."""
