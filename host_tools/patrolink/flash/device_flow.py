"""Life of one device in a run of `patrolink flash`: a state machine that returns what is to be done next.

waiting -> identifying -> planning -> confirming -> writing -> verifying -> releasing -> flashed. Before anything is
written, `confirming` reads the identity again and compares it with the one that was planned for. With provisioning, the
device gets a row of the table in `assigning`, before `confirming`, and its configuration in `provisioning`, after
`verifying`; the latter also if it held the image already. After a failure the device starts again at `identifying`,
after a pause, until its retries are used up; it must then still be the device of the first attempt.
"""

from dataclasses import dataclass
from enum import Enum

from patrolink.flash.records import Identity, Plan

_BACK_OFF_S, _BACK_OFF_MAX_S = 1.0, 15.0


class State(Enum):
    """State of a device; the value is its name in output."""

    WAITING = "waiting"
    IDENTIFYING = "identifying"
    PLANNING = "planning"
    ASSIGNING = "assigning"
    CONFIRMING = "confirming"
    WRITING = "writing"
    VERIFYING = "verifying"
    PROVISIONING = "provisioning"
    RELEASING = "releasing"
    PAUSED = "paused"
    FLASHED = "flashed"
    PROVISIONED = "provisioned"
    UNCHANGED = "unchanged"
    PLANNED = "planned"
    REFUSED = "refused"
    FAILED = "failed"
    CANCELLED = "cancelled"


GOOD = frozenset((State.FLASHED, State.PROVISIONED, State.UNCHANGED, State.PLANNED))
ENDED = GOOD | {State.REFUSED, State.FAILED, State.CANCELLED}
_STEPS = (
    State.IDENTIFYING,
    State.PLANNING,
    State.ASSIGNING,
    State.CONFIRMING,
    State.WRITING,
    State.VERIFYING,
    State.PROVISIONING,
    State.RELEASING,
    State.FLASHED,
)
_OF_PROVISIONING = frozenset((State.ASSIGNING, State.PROVISIONING))
_OF_IMAGE = frozenset((State.WRITING, State.VERIFYING))


@dataclass(frozen=True)
class Effect:
    """What is to be done next.

    Attributes:
        state: The step to execute, PAUSED or an end.
        reason: Why a device pauses, or ended without success.
        pause_s: Length of a pause.
    """

    state: State
    reason: str = ""
    pause_s: float = 0.0


class DeviceFlow:
    """State of one device.

    Args:
        retries: Attempts after the first one.
        dry_run: End after the plan, and the assignment of a row.
        provisions: Whether the device also gets a row of a table and its configuration.

    Attributes:
        state: Current state.
        identity: Identity that the image was planned for; None before it is known.
        plan: The plan; None before it is known.
        attempts: Attempts that have begun.
    """

    def __init__(self, retries: int, dry_run: bool, provisions: bool = False) -> None:
        self.state = State.WAITING
        self.identity: Identity | None = None
        self.plan: Plan | None = None
        self.attempts = 0
        self._retries, self._dry_run, self._provisions = retries, dry_run, provisions

    def begin(self) -> Effect:
        """Start the first attempt, or the next one after a pause."""
        self.attempts += 1
        return self._enter(State.IDENTIFYING)

    def identified(self, identity: Identity) -> Effect:
        """The device has reported its identity, in IDENTIFYING or CONFIRMING."""
        if self.identity is not None and identity.unique_id != self.identity.unique_id:
            return self.refused(
                f"another device answers: {identity.unique_id or 'one without an id'}, not {self.identity.unique_id}; "
                "nothing was written to it; check which cable is in which socket, then start again"
            )
        self.identity = identity
        return self._advance()

    def planned(self, plan: Plan) -> Effect:
        """The method has made its plan."""
        self.plan = plan
        if plan.unchanged and not self._provisions:
            return self._enter(State.UNCHANGED)
        if self._dry_run and not self._provisions:
            return self._enter(State.PLANNED)
        return self._advance()

    def assigned(self) -> Effect:
        """The device has got a row."""
        return self._enter(State.PLANNED) if self._dry_run else self._advance()

    def completed(self) -> Effect:
        """The step WRITING, VERIFYING or RELEASING is complete."""
        if self.state is State.RELEASING and self.plan is not None and self.plan.unchanged:
            return self._enter(State.PROVISIONED)
        return self._advance()

    def provisioned(self, changed: bool) -> Effect:
        """The device holds its configuration; `changed`: it did not before."""
        if not changed and self.plan is not None and self.plan.unchanged:
            return self._enter(State.UNCHANGED)
        return self._advance()

    def failed(self, reason: str) -> Effect:
        """The step failed, for a reason that another attempt may overcome."""
        if self.attempts > self._retries:
            return self._enter(State.FAILED, reason)
        pause_s = min(_BACK_OFF_MAX_S, _BACK_OFF_S * 2 ** (self.attempts - 1))
        return self._enter(State.PAUSED, reason, pause_s)

    def refused(self, reason: str) -> Effect:
        """The image must not be written to this device."""
        return self._enter(State.REFUSED, reason)

    def cancelled(self) -> Effect:
        """The operator has stopped the command."""
        return self._enter(State.CANCELLED, "stopped by the operator")

    def _advance(self) -> Effect:
        left_out = set() if self._provisions else set(_OF_PROVISIONING)
        if self.plan is not None and self.plan.unchanged:
            left_out |= _OF_IMAGE
        following = _STEPS[_STEPS.index(self.state) + 1 :]
        return self._enter(next(step for step in following if step not in left_out))

    def _enter(self, state: State, reason: str = "", pause_s: float = 0.0) -> Effect:
        self.state = state
        return Effect(state, reason, pause_s)
