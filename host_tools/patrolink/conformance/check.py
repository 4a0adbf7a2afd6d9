"""Checks a report without the testee: signature, hash chain, and every verdict, computed again from the evidence."""

import contextlib
from collections.abc import Iterator, Mapping

from patrolink.conformance import claims, epochs, profile, suite
from patrolink.conformance.case import (
    DEVICE,
    UNAVAILABLE,
    AnswerShapeError,
    Case,
    Context,
    DeviceUnderTest,
    Judgement,
    Verdict,
    judge,
    run_script,
)
from patrolink.conformance.evidence import Evidence, Exchange, Step, canonical, from_json
from patrolink.conformance.report import document as documents
from patrolink.conformance.report import signature
from patrolink.conformance.runner import COUNTERS_PER_CASE
from patrolink.conformance.schedule import Schedule, unavailable
from patrolink.core.errors import UserError
from patrolink.core.keys import DeviceKey
from patrolink.core.text import plural

Document = documents.Document
_FINDINGS_MAX = 50
_VIRTUAL = "virtual"


class _OtherStepsError(Exception):
    """The evidence is not of the steps of its case."""


class _CaseEndedError(Exception):
    """A fault of the testee ended the case here."""


def findings(report: Document, keys: Mapping[str, DeviceKey], trusted: set[str] | None = None) -> list[str]:
    """Return what is wrong with a report, a line for each fault; empty if it can be believed.

    Args:
        report: The document.
        keys: Device id → key, for reports of the device tier.
        trusted: Public keys of signers, hexadecimal; None: any.

    Raises:
        UserError: The key of the device is needed to judge the evidence, and it is not there.
    """
    result = []
    for finding in _findings(report, keys, trusted):
        result.append(finding)
        if len(result) == _FINDINGS_MAX:
            return [*result, "and more"]
    return result


def confirmation(report: Document) -> str:
    """Return what a report without findings proves, in one line."""
    tier = [case for case in suite.load(report["suite"]["version"]) if case.tier == report["tier"]]
    counts = ", ".join(f"{report['summary'][v.value]} {v.value}" for v in Verdict if report["summary"][v.value])
    covered = f"{len(report['results'])} of {plural(len(tier), 'case')} of the tier {report['tier']}"
    return f"confirmed, signer {report['signer']}: {covered}: {counts}"


def _findings(report: Document, keys: Mapping[str, DeviceKey], trusted: set[str] | None) -> Iterator[str]:
    state = signature.state(report)
    if state == signature.UNSIGNED:
        yield "it is not signed; anybody can have written it"
    elif state == signature.INVALID:
        yield "the signature is wrong: the report was altered after it was signed"
    elif trusted is not None and report["signer"] not in trusted:
        yield "it is signed with a key that is not trusted"
    try:
        yield from _chain_findings(report)
        if report["schema_sha256"] != documents.schema_digest():
            yield "it is of another version of the protocol's schema; check it with the tool that made it"
        if report["suite"]["sha256"] != suite.digest(str(report["suite"]["version"])):
            yield "its suite has other cases than in this tool; check it with the tool that made it"
        yield from _result_findings(report, keys)
    except (LookupError, TypeError, ValueError, AttributeError) as e:
        yield f"a part is missing or has a wrong type ({type(e).__name__}: {e})"


def _chain_findings(report: Document) -> Iterator[str]:
    head = {key: value for key, value in report.items() if key not in ("results", "signer", "signature")}
    rebuilt: Document = dict(head)
    entries = [{key: value for key, value in item.items() if key != "chain"} for item in report["results"]]
    documents.seal_chain(rebuilt, entries)
    for rebuilt_item, item in zip(rebuilt["results"], report["results"], strict=True):
        if rebuilt_item["chain"] != item["chain"]:
            yield f"{item['case']}: this or an earlier result is not of this run: altered, removed or merged"
            return


def _result_findings(report: Document, keys: Mapping[str, DeviceKey]) -> Iterator[str]:
    expected = expected_cases(report)
    entries = report["results"]
    ids = [item["case"] for item in entries]
    if ids != [case.id for case in expected]:
        yield f"its cases ({len(ids)}) are not those of its selection ({len(expected)}): it was cut off or merged"
        return
    schedule = Schedule(report["profile"]["claims"], report["limit_ms"])
    epoch = report["device"]["epoch"] if report["tier"] == DEVICE else 0
    for index, (case, item) in enumerate(zip(expected, entries, strict=True)):
        device = _device(report, index, epoch, keys) if report["tier"] == DEVICE else None
        fault = _entry_fault(report, schedule, case, item, device)
        if fault:
            yield f"{case.id}: {fault}"
        elif device is not None and item["evidence"] is not None:
            epoch = epochs.after(device, from_json(item["evidence"]))
    yield from _run_findings(report)
    plain = [{key: value for key, value in item.items() if key != "chain"} for item in entries]
    if report["summary"] != documents.summary(plain):
        yield "the summary is not that of the results"
    if report["coverage"] != documents.coverage(plain):
        yield "the coverage is not that of the results"
    if report["findings"] != contradictions(report["profile"]["claims"], plain):
        yield "the findings about claims are not those of the evidence"


def _run_findings(report: Document) -> Iterator[str]:
    """Yield what contradicts the results in what the report says about the whole run."""
    if sum(item["duration_ms"] for item in report["results"]) > report["duration_ms"]:
        yield "its cases took longer than the run"
    if report["clock"] == _VIRTUAL and report["profile"]["claims"].get("virtual_clock") != profile.YES:
        yield "its times are of a virtual clock, which the profile does not claim"
    failed = {item["case"] for item in report["results"] if item["verdict"] == Verdict.FAIL.value}
    if not failed >= set(report["known_failures"]):
        yield "a known failure is listed for a case that did not fail"


def expected_cases(report: Document) -> list[Case]:
    """Return the cases that a report must have.

    Raises:
        ValueError: It selects a case that the suite does not have.
    """
    try:
        known = [case for case in suite.load(report["suite"]["version"]) if case.tier == report["tier"]]
    except UserError as e:
        raise ValueError(str(e)) from None
    return select(known, report["selection"])


def select(cases: list[Case], selection: list[str]) -> list[Case]:
    """Return the selected cases, all for an empty selection.

    Raises:
        ValueError: There is no such case.
    """
    missing = set(selection) - {case.id for case in cases}
    if missing:
        raise ValueError(f"no case {min(missing)} in this tier and suite")
    return [case for case in cases if case.id in selection] if selection else cases


def contradictions(claimed: Mapping[str, str], entries: list[Document]) -> list[dict[str, str]]:
    """Return the findings about claims, JSON-ready."""
    evidence = [(item["case"], from_json(item["evidence"])) for item in entries if item["evidence"] is not None]
    return [finding._asdict() for finding in claims.contradictions(claimed, evidence)]


def _entry_fault(
    report: Document, schedule: Schedule, case: Case, item: Document, device: DeviceUnderTest | None
) -> str:
    """Return what is wrong with an entry, or ""; `device` is as it was when the case began."""
    known = documents.case_fields(case)
    if {key: item[key] for key in known} != known:
        return "its title, requirement or level are not those of the suite"
    refusal = schedule.refusal(case)
    try:
        evidence = None if item["evidence"] is None else from_json(item["evidence"])
        schedule.add(evidence, _duration_ms(item))
        if refusal is not None:
            return _difference(item, refusal) if evidence is None else f"it was run, although {refusal.reason}"
        if evidence is None:
            return f"it had to be run, but its verdict {item['verdict']} has no evidence"
        if (item["counter"], item["epoch"]) != ((device.counter, device.epoch) if device else (0, 0)):
            return "its counter and key epoch are not those of its place in the run"
        context = Context(case, report["seed"], device, report["profile"]["claims"], report["clock"] == _VIRTUAL)
        replay(context, evidence)
    except (_OtherStepsError, AnswerShapeError, ValueError) as e:
        return str(e)
    fault = _time_fault(report, case, item, evidence) or _skip_fault(report, evidence)
    return fault or _difference(item, judge(context, evidence))


def _duration_ms(item: Document) -> int:
    value = item["duration_ms"]
    if type(value) is not int or value < 0:
        raise ValueError(f"a duration of {value!r}")
    return value


def _difference(item: Document, computed: Judgement) -> str:
    """Return how a recorded verdict differs from the computed one, or ""."""
    if (item["verdict"], item["cause"], item["reason"]) == (computed.verdict.value, computed.cause, computed.reason):
        return ""
    return (
        f"the verdict is {item['verdict']} ({item['reason']}), but the evidence gives {computed.verdict.value} "
        f"({computed.reason})"
    )


def _time_fault(report: Document, case: Case, item: Document, evidence: Evidence) -> str:
    """Return what is wrong with the times of an evidence, or ""."""
    if evidence.clock != report["clock"]:
        return "its clock is not that of the run"
    times = [
        at_ms for exchange in evidence.exchanges for at_ms in (exchange.at_ms, *(a.at_ms for a in exchange.answers))
    ]
    if times != sorted(times) or min(times, default=0) < 0:
        return "its times go back"
    if evidence.clock != _VIRTUAL and max(times, default=0) > item["duration_ms"]:
        return "its times are longer than the case took"
    if evidence.load_ms and not (case.timed and evidence.clock != _VIRTUAL):
        return "it has a load of the machine, but measures no time"
    return ""


def _skip_fault(report: Document, evidence: Evidence) -> str:
    """Return why a case must not be skipped at its last step, or ""."""
    if evidence.fault is None or evidence.fault.cause != UNAVAILABLE:
        return ""
    step = evidence.exchanges[-1].step if evidence.exchanges else None
    if step is None or report["tier"] != DEVICE:
        return "it is skipped, but every step can be performed"
    claimed, stimuli = report["profile"]["claims"], report["profile"]["stimuli"]
    linked = claimed.get("link_control") == profile.YES
    computed = unavailable(step, report["testee"]["carriage"], linked, stimuli)
    if computed and computed == evidence.fault.detail:
        return ""
    return "it is skipped without a reason that its evidence shows"


def _device(report: Document, index: int, epoch: int, keys: Mapping[str, DeviceKey]) -> DeviceUnderTest:
    """Return the device of the case at this place of the run."""
    fields = report["device"]
    key = keys.get(fields["id"])
    if key is None:
        raise UserError(f"no key of {fields['id']}, which its evidence was made with; name a file with --keys")
    device = DeviceUnderTest(fields["id"], key.secret, fields["epoch"], fields["counter"])
    if documents.device_fields(device) != fields:
        raise ValueError(f"the key of {fields['id']} is not that of the run")
    return device._replace(epoch=epoch, counter=fields["counter"] + index * COUNTERS_PER_CASE)


def replay(context: Context, evidence: Evidence) -> None:
    """Run the steps of a case over recorded evidence.

    Raises:
        _OtherStepsError: The case asks for other steps than those in the evidence.
    """
    pending = list(evidence.exchanges)

    def perform(step: Step) -> Exchange:
        if not pending:
            raise _OtherStepsError(f"the evidence ends before the step {canonical(list(step))[:200]}")
        exchange = pending.pop(0)
        if exchange.step != step:
            raise _OtherStepsError(f"the evidence has another step than {canonical(list(step))[:200]}")
        if evidence.fault is not None and not pending:
            raise _CaseEndedError
        return exchange

    with contextlib.suppress(_CaseEndedError):
        if evidence.fault is None or pending:
            run_script(context, perform)
    if pending:
        raise _OtherStepsError("the evidence has more steps than the case")
