"""Checks a report without the testee: signature, hash chain, and every verdict, computed again from the evidence."""

import contextlib
from collections.abc import Iterator, Mapping

from patrolink.conformance import claims, epochs, profile, suite
from patrolink.conformance.case import DEVICE, Case, Context, DeviceUnderTest, Verdict, judge, run_script
from patrolink.conformance.evidence import Evidence, Exchange, Step, canonical, from_json
from patrolink.conformance.report import document as documents
from patrolink.conformance.report import signature
from patrolink.conformance.runner import COUNTERS_PER_CASE
from patrolink.core.errors import UserError
from patrolink.core.keys import DeviceKey

Document = documents.Document
_FINDINGS_MAX = 50
# What decides a verdict without evidence.
_NOT_RUN = (Verdict.NOT_APPLICABLE.value, Verdict.SKIPPED.value)


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
        if report["suite"]["sha256"] != suite.digest(report["suite"]["version"]):
            yield "its suite has other cases than this tool's; check it with the tool that made it"
        yield from _result_findings(report, keys)
    except (KeyError, TypeError, ValueError, AttributeError) as e:
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
    epoch = report["device"]["epoch"] if report["tier"] == DEVICE else 0
    for index, (case, item) in enumerate(zip(expected, entries, strict=True)):
        fault = _entry_fault(report, case, item, index, epoch, keys)
        if fault:
            yield f"{case.id}: {fault}"
        elif report["tier"] == DEVICE and item["evidence"] is not None:
            epoch = epochs.after(_device(report, index, epoch, keys), from_json(item["evidence"]))
    plain = [{key: value for key, value in item.items() if key != "chain"} for item in entries]
    if report["summary"] != documents.summary(plain):
        yield "the summary is not that of the results"
    if report["coverage"] != documents.coverage(plain):
        yield "the coverage is not that of the results"
    if report["findings"] != contradictions(report["profile"]["claims"], plain):
        yield "the findings about claims are not those of the evidence"


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
    report: Document, case: Case, item: Document, index: int, epoch: int, keys: Mapping[str, DeviceKey]
) -> str:
    """Return what is wrong with an entry, or ""; `epoch` is that of the device when the case began."""
    if {key: item[key] for key in documents.case_fields(case)} != documents.case_fields(case):
        return "its title, requirement or level are not those of the suite"
    claim = profile.denied(report["profile"]["claims"], case)
    if item["evidence"] is None:
        if item["verdict"] not in _NOT_RUN or (item["verdict"] == Verdict.NOT_APPLICABLE.value) is not bool(claim):
            return f"the verdict {item['verdict']} has no evidence"
        return ""
    if claim:
        return f"it was run although the profile denies {claim}"
    try:
        evidence = from_json(item["evidence"])
        device = _device(report, index, epoch, keys) if report["tier"] == DEVICE else None
        if (item["counter"], item["epoch"]) != ((device.counter, device.epoch) if device else (0, 0)):
            return "its counter and key epoch are not those of its place in the run"
        claimed, virtual = report["profile"]["claims"], report["clock"] == "virtual"
        context = Context(case, report["seed"], device, claimed, virtual)
        replay(context, evidence)
    except (_OtherStepsError, ValueError) as e:
        return str(e)
    computed_judgement = judge(context, evidence)
    recorded = (item["verdict"], item["cause"], item["reason"])
    computed = (computed_judgement.verdict.value, computed_judgement.cause, computed_judgement.reason)
    if recorded != computed:
        return f"the verdict is {recorded[0]} ({recorded[2]}), but the evidence gives {computed[0]} ({computed[2]})"
    return ""


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
