"""Cases: data, the steps that a testee is taken through, and a pure judge of the evidence.

A module of `cases/` has `cases() -> list[Case]`. A case is complete with:

    def _steps(context):                      # a generator, or a function that returns a list of steps
        exchange = yield ask(f"F {KEY} vector-1 0 0 {frame.hex()}")
        ...                                   # exchange.answers has what arrived; the next step may depend on it

    def _judge(context, evidence):            # sees the evidence and nothing else
        got = evidence.answer(0)
        return passed() if got == {"reject": "tag"} else failed(WRONG_ANSWER, f"got {got}")

    Case("PL-KEY-1-017", "short title", "KEY-1", CODEC, _steps, _judge)

Steps must depend on the context and on earlier exchanges only (randomness: `context.random()`), because a check of a
report runs them again over the evidence. Codec tier: `ask`, `tell`. Device tier: `send`, `raw`, `wait`, `restart`,
`stimulus`, `link`; `context.device` has id, key, key epoch at the begin of the case, and the first free downlink
counter. A fault of the testee (hang, crash, flood, ...) ends the case with the verdict "fail"; a judge never sees it. A
judge that reads an answer which is no JSON object may let MalformedAnswerError pass. The id is listed in `case_ids.txt`
(`python -m patrolink.conformance.suite` appends new ones); it is never given to another case.
"""

import enum
import random
from collections.abc import Callable, Generator, Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from patrolink.conformance.evidence import (
    Evidence,
    Exchange,
    MalformedAnswerError,
    Step,
    shortened,
)

CODEC, DEVICE = "codec", "device"
MUST, SHOULD = "MUST", "SHOULD"

# Causes of failed verdicts. The first group is found by the runner, the second by judges.
HANG, CRASH, EARLY_END, CLOSED_PIPE = "hang", "crash", "early_end", "closed_pipe"
FLOOD, FRAMING, START, STIMULUS_FAILED = "flood", "framing", "start", "stimulus"
BAD_JSON, WRONG_ANSWER, MISSING, UNEXPECTED = "bad_json", "wrong_answer", "missing", "unexpected"
TIMING, CLAIM = "timing", "claim"
CAUSES = (
    *(HANG, CRASH, EARLY_END, CLOSED_PIPE, FLOOD, FRAMING, START, STIMULUS_FAILED),
    *(BAD_JSON, WRONG_ANSWER, MISSING, UNEXPECTED, TIMING, CLAIM),
)
UNAVAILABLE = "unavailable"  # cause in the evidence of a skipped case: the profile has no command for a step
# Families of requirements whose cases run whatever a profile claims.
SECURITY_FAMILIES = ("FRAME", "KEY", "REPLAY", "CONFIDENTIAL", "TAIL", "COMMAND", "CERTIFY", "FIRMWARE")
# Claims without which nothing can be tested: requests of a codec, control of a device, and updates. A probe shows that
# a device which denies updates requests no image.
INTERFACE_CLAIMS = ("encode", "batch_encode", "serial", "virtual_clock", "link_control", "firmware_update")
# What a judge or a script meets in an answer whose parts have wrong types.
_SHAPE_ERRORS = (TypeError, ValueError, LookupError, AttributeError)
_LOAD_SHARE = 10  # load above a tenth of the margin makes a measurement inconclusive


class AnswerShapeError(Exception):
    """The steps of a case cannot go on after an answer, as parts of it are missing or have a wrong type."""

    def __init__(self, error: Exception) -> None:
        super().__init__(_shape_reason(error))


class Verdict(str, enum.Enum):
    """Result of a case."""

    PASS = "pass"  # noqa: S105 - not a password
    FAIL = "fail"
    NON_STRICT = "non-strict"  # a SHOULD is not met
    NOT_APPLICABLE = "not applicable"  # the profile denies the capability
    INCONCLUSIVE = "inconclusive"  # this machine was too busy to measure
    SKIPPED = "skipped"  # it was not run


class Judgement(NamedTuple):
    """A verdict and why.

    Attributes:
        verdict: The verdict.
        cause: One of CAUSES for a verdict "fail" or "non-strict", the claim for "not applicable", else empty.
        reason: What was observed, and what was expected.
    """

    verdict: Verdict
    cause: str = ""
    reason: str = ""


class DeviceUnderTest(NamedTuple):
    """A device of the device tier.

    Attributes:
        id: Device id.
        secret: 32 bytes.
        epoch: Key epoch.
        counter: First of 100 downlink counters that no other case of the run uses.
    """

    id: str
    secret: bytes
    epoch: int
    counter: int


class Context(NamedTuple):
    """What steps and judge of a case depend on.

    Attributes:
        case: The case.
        seed: Seed of the run.
        device: The device; None in the codec tier.
        claims: Claim → "yes" or "no", of the profile.
        virtual: Whether the testee has a virtual clock.
    """

    case: "Case"
    seed: int
    device: DeviceUnderTest | None = None
    claims: Mapping[str, str] = MappingProxyType({})
    virtual: bool = False

    def random(self) -> random.Random:
        """Return a generator of random numbers that depends on the seed and the case."""
        return random.Random(f"{self.seed}/{self.case.id}")  # noqa: S311 - repeatable on purpose


Script = Iterable[Step] | Generator[Step, Exchange, None]


class Case(NamedTuple):
    """One test.

    Attributes:
        id: PL-<REQUIREMENT>-<three digits>.
        title: What is tested, in a few words.
        requirement: Id of the requirement in SPEC.md.
        tier: CODEC or DEVICE.
        steps: Function that returns the steps, or a generator function that gets each exchange.
        judge: Function that computes the verdict from the evidence; pure.
        level: MUST or SHOULD. A failed SHOULD is "non-strict".
        spec: Section of SPEC.md; empty: that of the requirement's family.
        vector: Id of the vector, if the case comes from one.
        claim: Claim of the profile that the case depends on. Cases of SECURITY_FAMILIES run whatever is claimed.
        mutants: Mutants that the case has caught, from mutants.toml.
        also: Ids of further requirements that it tests.
        timed: The judge uses times; the runner measures the load of the machine meanwhile.
        needs: Further claims that it depends on, as `claim`.
    """

    id: str
    title: str
    requirement: str
    tier: str
    steps: Callable[[Context], Script]
    judge: Callable[[Context, Evidence], Judgement]
    level: str = MUST
    spec: str = ""
    vector: str = ""
    claim: str = ""
    mutants: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    timed: bool = False
    needs: tuple[str, ...] = ()

    @property
    def security(self) -> bool:
        """Whether the case runs whatever the profile claims."""
        return self.requirement.rpartition("-")[0] in SECURITY_FAMILIES and self.claim not in INTERFACE_CLAIMS

    @property
    def section(self) -> str:
        """Section of SPEC.md."""
        family = self.requirement.rpartition("-")[0]
        return self.spec or SECTIONS.get(family, "Messages")


SECTIONS = {
    "FRAME": "Frame",
    "KEY": "Tag and keys",
    "CONFIDENTIAL": "Confidential bodies",
    "REPLAY": "Counters",
    "TAIL": "Tail",
    "BATCH": "Position batch",
    "SERIAL": "Carriage",
    "TIMER": "Timers",
}


def passed() -> Judgement:
    """Return the verdict "pass"."""
    return Judgement(Verdict.PASS)


def failed(cause: str, reason: str) -> Judgement:
    """Return the verdict "fail".

    Args:
        cause: One of CAUSES.
        reason: What was observed, and what was expected.
    """
    return Judgement(Verdict.FAIL, cause, shortened(reason, 1000))


def timed(name: str, measured_ms: int, low_ms: int, high_ms: int, evidence: Evidence) -> Judgement:
    """Judge a measured time; inconclusive if the machine's own delay is above a tenth of the margin.

    Args:
        name: What was measured.
        measured_ms: Its time.
        low_ms: Lowest permitted time.
        high_ms: Highest permitted time.
        evidence: The evidence of the case.
    """
    if evidence.clock != "virtual" and evidence.load_ms * _LOAD_SHARE > high_ms - low_ms:
        reason = f"{name}: a null testee was {evidence.load_ms} ms late, over a tenth of {high_ms - low_ms} ms"
        return Judgement(Verdict.INCONCLUSIVE, "", reason)
    if low_ms <= measured_ms <= high_ms:
        return passed()
    return failed(TIMING, f"{name}: {measured_ms} ms, expected {low_ms} to {high_ms} ms")


def judge(context: Context, evidence: Evidence) -> Judgement:
    """Return the verdict of a case. It depends on the arguments only."""
    if evidence.fault is not None and evidence.fault.cause == UNAVAILABLE:
        return Judgement(Verdict.SKIPPED, "", evidence.fault.detail)
    if evidence.fault is not None:
        return failed(evidence.fault.cause, evidence.fault.detail)
    try:
        result = context.case.judge(context, evidence)
    except MalformedAnswerError as e:
        return failed(BAD_JSON, str(e))
    except _SHAPE_ERRORS as e:
        return failed(WRONG_ANSWER, _shape_reason(e))
    if result.verdict is Verdict.FAIL and context.case.level == SHOULD:
        return result._replace(verdict=Verdict.NON_STRICT)
    return result


def _shape_reason(error: Exception) -> str:
    return f"a part of an answer is missing or has a wrong type ({type(error).__name__}: {error})"


def run_script(context: Context, perform: Callable[[Step], Exchange]) -> None:
    """Take a testee, or recorded evidence, through the steps of a case.

    Args:
        context: The case and what its steps depend on.
        perform: Performs a step and returns what it observed.

    Raises:
        AnswerShapeError: The next step depends on an answer that does not have the parts for it.
    """
    script = context.case.steps(context)
    if not isinstance(script, Generator):
        for fixed in script:
            perform(fixed)
        return
    try:
        step = _next_step(script, None)
        while step is not None:
            step = _next_step(script, perform(step))
    finally:
        script.close()


def _next_step(script: Generator[Step, Exchange, None], exchange: Exchange | None) -> Step | None:
    """Return the next step; None after the last one, and after an answer that is no JSON object."""
    try:
        return next(script) if exchange is None else script.send(exchange)
    except (StopIteration, MalformedAnswerError):
        return None
    except _SHAPE_ERRORS as e:
        raise AnswerShapeError(e) from None
