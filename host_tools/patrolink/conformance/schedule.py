"""Which cases of a run are not run, and why.

This depends on the options of the run and on the results before the case alone, so a check of the report decides it
again.
"""

from collections.abc import Collection, Mapping

from patrolink.conformance.case import START, Case, Judgement, Verdict
from patrolink.conformance.evidence import (
    LINK,
    LISTEN,
    OUTPUT,
    RESTART,
    STIMULUS,
    TRANSMIT,
    Evidence,
    Step,
)
from patrolink.conformance.profile import denied

PIPE, SERIAL, BROKER = "pipe", "serial", "broker"
NO_LINK = "the kit does not control the link of this target"
NO_NETWORK = "the network of this device is not on a pipe of the kit"
_START_FAILURES_MAX = 3  # in a row; what comes after them is skipped


class Schedule:
    """Decides before each case whether it is run. Each result is given to `add`.

    Args:
        claims: Claim → "yes" or "no".
        limit_ms: Longest time of the run; cases that do not begin within it are skipped.
    """

    def __init__(self, claims: Mapping[str, str], limit_ms: int) -> None:
        self._claims = claims
        self._limit_ms = limit_ms
        self._elapsed_ms = 0
        self._start_failures = 0

    def refusal(self, case: Case) -> Judgement | None:
        """Return the verdict of a case that is not run; None if it must be run."""
        claim = denied(self._claims, case)
        if claim:
            return Judgement(Verdict.NOT_APPLICABLE, claim, f"the profile claims {claim} = no")
        if self._elapsed_ms > self._limit_ms:
            return Judgement(Verdict.SKIPPED, "", f"the run took more than {self._limit_ms / 1000:g} s")
        if self._start_failures >= _START_FAILURES_MAX:
            return Judgement(Verdict.SKIPPED, "", "the testee could not be started again")
        return None

    def add(self, evidence: Evidence | None, duration_ms: int) -> None:
        """Take the next result into account.

        Args:
            evidence: Of the case; None if it was not run.
            duration_ms: How long it took.
        """
        self._elapsed_ms += duration_ms
        if evidence is None:
            return
        fault = evidence.fault
        failed = fault is not None and fault.cause == START and not evidence.exchanges
        self._start_failures = self._start_failures + 1 if failed else 0


def unavailable(step: Step, carriage: str, linked: bool, stimuli: Collection[str]) -> str:
    """Return why a device cannot perform a step, so that its case is skipped; "" if it can.

    Args:
        step: The step.
        carriage: PIPE, SERIAL or BROKER.
        linked: Whether the profile claims a link that the kit controls.
        stimuli: Names of the stimuli that have a command.
    """
    on_pipe = carriage == PIPE
    if step.op == LINK:
        return "" if on_pipe and linked else NO_LINK
    if step.op in (LISTEN, TRANSMIT):
        return "" if on_pipe else NO_NETWORK
    name = step.data or step.op
    needs_command = step.op in (STIMULUS, OUTPUT) or (step.op == RESTART and not on_pipe)
    return no_command(name) if needs_command and name not in stimuli else ""


def no_command(stimulus: str) -> str:
    """Return the reason for which a case with this stimulus is skipped."""
    return f"the profile names no command for the stimulus {stimulus}"
