"""What cases of timers share: limits of an interval, and the load of the machine."""

from collections.abc import Callable

from patrolink.conformance.case import (
    MUST,
    Case,
    Context,
    Judgement,
    Verdict,
    passed,
    timed,
)
from patrolink.conformance.dialogue import (
    Reading,
    Script,
    device_case,
)
from patrolink.conformance.evidence import (
    Evidence,
)

_LATE_MS = 5_000  # which a repetition may be late beside a tenth of its interval, in real time
_VIRTUAL_LATE_MS = 2_000
Judge = Callable[[Context, Evidence], Judgement]


def timer_case(
    title: str,
    requirement: str,
    steps: Callable[[Context], Script],
    judge: Judge,
    level: str = MUST,
    claim: str = "",
    needs: tuple[str, ...] = (),
) -> Case:
    """Return a case whose judge uses times."""
    return device_case(
        title, requirement, steps, judge, level=level, claim=claim, needs=needs, spec="Timers", timed=True
    )


def judge_interval(context: Context, evidence: Evidence, name: str, measured_ms: int, value_ms: int) -> Judgement:
    """Judge an interval: at most a tenth early; a tenth and some seconds late, as a device does other things, too."""
    late_ms = _VIRTUAL_LATE_MS if context.virtual else _LATE_MS
    return timed(name, measured_ms, value_ms * 9 // 10, value_ms * 11 // 10 + late_ms, evidence)


def first_not_passed(judgements: list[Judgement]) -> Judgement:
    """Return the first judgement that is not "pass"; if there is none, "pass"."""
    return next((judgement for judgement in judgements if judgement.verdict is not Verdict.PASS), passed())


def gaps(frames: list[Reading]) -> list[int]:
    """Return the times between frames."""
    return [later.at_ms - earlier.at_ms for earlier, later in zip(frames, frames[1:], strict=False)]
