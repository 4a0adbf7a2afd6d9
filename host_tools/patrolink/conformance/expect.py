"""Cases of the codec tier from what a testee is pairs and what it must answer."""

from collections.abc import Callable, Sequence
from typing import Any

from patrolink.conformance import frames, reference
from patrolink.conformance.case import CODEC, MUST, WRONG_ANSWER, Case, Context, Judgement, failed, passed
from patrolink.conformance.cases.vectors import difference
from patrolink.conformance.evidence import Evidence, Step, ask, canonical, tell
from patrolink.conformance.suite import ids_by_subject

Frames = Sequence[tuple[bytes, str]]
REFUSED = "reject"


def case(
    title: str,
    requirement: str,
    steps: Callable[[Context], Any],
    judge: Callable[[Context, Evidence], Judgement],
    level: str = MUST,
    claim: str = "",
    spec: str = "",
) -> Case:
    """Return a case of the codec tier; its id is empty if the list of ids does not have its title yet."""
    case_id = ids_by_subject().get(title, "")
    return Case(case_id, title, requirement, CODEC, steps, judge, level=level, claim=claim, spec=spec)


def decoded(title: str, requirement: str, pairs: Sequence[tuple[str, dict[str, Any] | str]], **more: str) -> Case:
    """Return a case of F requests.

    Args:
        title: Title of the case.
        requirement: Id of the requirement.
        pairs: Request and expected answer. A text is the reason of a refusal, or several that are right: "length
            range".
        **more: Level, claim and section of the case.
    """
    steps = [ask(line) for line, _ in pairs]

    def judge(context: Context, evidence: Evidence) -> Judgement:
        for number, ((_, expected), got) in enumerate(zip(pairs, evidence.answers(), strict=True), 1):
            got.pop("again", None)
            fault = mismatch(got, expected)
            if fault:
                return failed(WRONG_ANSWER, fault if len(pairs) == 1 else f"frame {number} of {len(pairs)}: {fault}")
        return passed()

    return case(title, requirement, lambda context: steps, judge, **more)


def mismatch(got: dict[str, Any], expected: dict[str, Any] | str) -> str:
    """Return where an answer differs from the expected one; empty if it does not."""
    if not isinstance(expected, str):
        return "" if canonical(got) == canonical(expected) else difference(got, expected)
    reasons = expected.split()
    if list(got) == [REFUSED] and got[REFUSED] in reasons:
        return ""
    return f"got {canonical(got)}, expected the refusal {' or '.join(reasons)}"


def stepped(
    title: str,
    requirement: str,
    sent: Frames,
    direction: int = frames.UP,
    epoch: int = 0,
    device: str = frames.DEVICE,
    secret: bytes = frames.SECRET,
) -> Case:
    """Return a case of a receiver that gets frames, each with its expected step: accepted, repeated or a reason."""
    at = f"{secret.hex() or '-'} {device} {direction} {epoch}"
    steps: list[Step] = [tell(f"R {at}"), *(ask(f"S {frame.hex() or '-'}") for frame, _ in sent)]

    def judge(context: Context, evidence: Evidence) -> Judgement:
        return judge_steps([expected for _, expected in sent], evidence)

    return case(title, requirement, lambda context: steps, judge)


def judge_steps(expected: Sequence[str], evidence: Evidence) -> Judgement:
    """Compare the answers to S requests with what is expected."""
    for number, (want, got) in enumerate(zip(expected, evidence.answers(), strict=True), 1):
        if got.get("step") not in want.split():
            return failed(WRONG_ANSWER, f"step {number} of {len(expected)}: got {canonical(got)}, expected {want}")
    return passed()


def as_reference(title: str, requirement: str, lines: Callable[[Context], list[str]], **more: str) -> Case:
    """Return a case of F requests that depend on the seed; the reference codec has the right answers."""

    def judge(context: Context, evidence: Evidence) -> Judgement:
        for exchange in evidence.exchanges:
            got = evidence.answer(evidence.exchanges.index(exchange))
            got.pop("again", None)
            fault = mismatch(got, reference.answer(exchange.step.data))
            if fault:
                return failed(WRONG_ANSWER, f"{fault}; request: {exchange.step.data}")
        return passed()

    return case(title, requirement, lambda context: [ask(line) for line in lines(context)], judge, **more)
