"""Results for people: a line for each case that did not pass, and the counts."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from patrolink.conformance.case import START, Verdict
from patrolink.conformance.runner import Result
from patrolink.core.text import plural, printable

_GOOD = (Verdict.PASS, Verdict.NON_STRICT, Verdict.NOT_APPLICABLE)
_RUN = (Verdict.PASS, Verdict.NON_STRICT, Verdict.FAIL, Verdict.INCONCLUSIVE)


def fields(result: Result) -> dict[str, Any]:
    """Return the fields of the record `case_result`."""
    case, judgement = result.case, result.judgement
    return {
        "case": case.id,
        "title": case.title,
        "requirement": case.requirement,
        "requirement_level": case.level,
        "case_verdict": judgement.verdict.value,
        "cause": judgement.cause or None,
        "text": judgement.reason or None,
    }


def line(result: Result, always: bool = False) -> str:
    """Return the line of a case; empty if it passed or does not apply, unless `always`."""
    case, judgement = result.case, result.judgement
    if judgement.verdict in (Verdict.PASS, Verdict.NOT_APPLICABLE) and not always:
        return ""
    cause = f" ({judgement.cause})" if judgement.cause else ""
    about = f"{case.title} [{case.vector}]" if case.vector else case.title
    return printable(f"{judgement.verdict.value.upper():14} {case.id}  {about}: {judgement.reason}{cause}")


def counts(results: Sequence[Result]) -> dict[str, int]:
    """Return the number of cases by verdict, with the names of the record `summary`."""
    by_verdict = Counter(result.judgement.verdict for result in results)
    names = {verdict: verdict.name.lower() for verdict in Verdict}
    names[Verdict.PASS], names[Verdict.FAIL] = "passed", "failed"
    return {"cases": len(results), **{f"cases_{name}": by_verdict[verdict] for verdict, name in names.items()}}


def exchanges(result: Result) -> Iterator[str]:
    """Yield the steps of a case and what arrived, a line each."""
    if result.evidence is None:
        return
    for step, at_ms, answers in result.evidence.exchanges:
        wait = f" {step.ms} ms" if step.ms else ""
        yield f"{at_ms:8} ms > {step.op} {step.data}{wait}"
        for answer in answers:
            yield f"{answer.at_ms:8} ms < {answer.text}"
    if result.evidence.fault is not None and result.evidence.fault.stderr:
        yield f"standard error: {result.evidence.fault.stderr}"


def summary_line(results: Sequence[Result], coverage: Mapping[str, Any]) -> str:
    """Return the counts in one line."""
    by_verdict = Counter(result.judgement.verdict for result in results)
    parts = [f"{by_verdict[verdict]} {verdict.value}" for verdict in Verdict if by_verdict[verdict]]
    tested = f"{coverage['tested']} of {plural(coverage['requirements'], 'requirement')} ({coverage['percent']} %)"
    return f"{plural(len(results), 'case')}: {', '.join(parts)}; {tested}"


def exit_code(results: Sequence[Result], known: Collection[str] = ()) -> int:
    """Return 0 if all is well, 1 for findings, 2 if nothing was run.

    Args:
        results: The results.
        known: Ids of failures that do not count.
    """
    run = [result for result in results if result.judgement.verdict in _RUN]
    if all(result.judgement.cause == START for result in run):
        return 2
    good = all(result.judgement.verdict in _GOOD or result.case.id in known for result in results)
    return 0 if good else 1
