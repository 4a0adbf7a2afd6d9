"""The report as a document: JSON-ready, with hashes of all inputs and a hash chain over its results."""

import functools
import hashlib
import secrets
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from patrolink import __version__
from patrolink.conformance import claims, suite
from patrolink.conformance.case import Case, DeviceUnderTest, Verdict
from patrolink.conformance.evidence import canonical
from patrolink.conformance.runner import Result
from patrolink.core import resources

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FORMAT = "patrolink-conformance-report"
FORMAT_VERSION = 1
Document = dict[str, Any]
_PACKAGE = Path(__file__).resolve().parent.parent


class RunInfo(NamedTuple):
    """What a report says about its run.

    Attributes:
        suite: Version of the suite.
        tier: Tier of the cases.
        testee: Target, SHA-256 and version of the testee.
        clock: "monotonic" or "virtual".
        seed: Seed of the run.
        started: Begin of the run, RFC 3339.
        profile: Name, SHA-256 and claims of the profile.
        device: The device of the device tier.
        selection: Ids of the cases that were asked for; empty: all of the tier.
        known_failures: Ids of failures that a list of known failures has, as they are.
        replay: Command that runs one case again, without its id.
        limit_ms: Longest time of the run; cases that do not begin within it are skipped.
    """

    suite: str
    tier: str
    testee: Mapping[str, str]
    clock: str
    seed: int
    started: str
    profile: Mapping[str, Any]
    device: DeviceUnderTest | None = None
    selection: tuple[str, ...] = ()
    known_failures: tuple[str, ...] = ()
    replay: str = ""
    limit_ms: int = 600_000


def build(info: RunInfo, results: Sequence[Result], duration_ms: int) -> Document:
    """Return the unsigned report of a run."""
    document: Document = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "run": secrets.token_hex(16),
        "suite": {"version": info.suite, "sha256": suite.digest(info.suite)},
        "schema_sha256": schema_digest(),
        "tool": {"version": __version__, "sha256": tool_digest()},
        "profile": dict(info.profile),
        "testee": dict(info.testee),
        "tier": info.tier,
        "clock": info.clock,
        "seed": info.seed,
        "limit_ms": info.limit_ms,
        "selection": list(info.selection),
        "known_failures": sorted(info.known_failures),
        "replay": info.replay,
        "device": device_fields(info.device),
        "started": info.started,
        "duration_ms": duration_ms,
    }
    entries = [entry(result) for result in results]
    document["findings"] = contradictions(info.profile["claims"], results)
    document["summary"] = summary(entries)
    document["coverage"] = coverage(entries)
    seal_chain(document, entries)
    return document


def device_fields(device: DeviceUnderTest | None) -> dict[str, Any] | None:
    """Return what a report says about a device; of its key only the SHA-256."""
    if device is None:
        return None
    digest = hashlib.sha256(b"patrolink-conformance" + device.secret).hexdigest()
    return {"id": device.id, "epoch": device.epoch, "counter": device.counter, "key_sha256": digest}


def contradictions(claimed: Mapping[str, str], results: Sequence[Result]) -> list[dict[str, str]]:
    """Return the claims that the results contradict, JSON-ready."""
    evidence = [(result.case.id, result.evidence) for result in results if result.evidence is not None]
    return [finding._asdict() for finding in claims.contradictions(claimed, evidence)]


def entry(result: Result) -> Document:
    """Return the entry of a result."""
    case, judgement = result.case, result.judgement
    return {
        **case_fields(case),
        "verdict": judgement.verdict.value,
        "cause": judgement.cause,
        "reason": judgement.reason,
        "duration_ms": result.duration_ms,
        "counter": result.counter,
        "epoch": result.epoch,
        "evidence": None if result.evidence is None else result.evidence.to_json(),
    }


def case_fields(case: Case) -> Document:
    """Return what a report says about a case, whatever its verdict is."""
    return {
        "case": case.id,
        "title": case.title,
        "requirement": case.requirement,
        "also": list(case.also),
        "level": case.level,
        "section": case.section,
        "vector": case.vector,
        "mutants": list(case.mutants),
    }


def summary(entries: list[Document]) -> dict[str, int]:
    """Return the number of cases and that of each verdict."""
    counts = Counter(item["verdict"] for item in entries)
    return {"cases": len(entries), **{verdict.value: counts[verdict.value] for verdict in Verdict}}


@functools.cache
def requirements() -> dict[str, str]:
    """Return text by id of all requirements of the protocol."""
    table = tomllib.loads(_schema_path().read_text(encoding="utf-8"))
    texts = {message["req"]: message["doc"] for message in table["message"]}
    texts.update({name: text if isinstance(text, str) else text["text"] for name, text in table["requirement"].items()})
    timers = table.get("timer", {})
    texts.update({timer["req"]: timer.get("doc", name) for name, timer in timers.items() if "req" in timer})
    return texts


def coverage(entries: list[Document]) -> Document:
    """Return which requirements have a case that was judged: pass, fail or non-strict."""
    judged = (Verdict.PASS.value, Verdict.FAIL.value, Verdict.NON_STRICT.value)
    tested = {req for item in entries if item["verdict"] in judged for req in (item["requirement"], *item["also"])}
    known = requirements()
    missing = sorted(known.keys() - tested)
    share = round(100 * (len(known) - len(missing)) / len(known), 1)
    return {"requirements": len(known), "tested": len(known) - len(missing), "percent": share, "missing": missing}


def seal_chain(document: Document, entries: list[Document]) -> None:
    """Add the results, each with the hash of all that comes before it."""
    link = hashlib.sha256(canonical(document).encode()).hexdigest()
    document["results"] = []
    for item in entries:
        link = next_link(link, item)
        document["results"].append({**item, "chain": link})


def next_link(link: str, item: Document) -> str:
    """Return the hash of a result and of all that comes before it."""
    return hashlib.sha256((link + canonical(item)).encode()).hexdigest()


def _schema_path() -> Path:
    return resources.root() / "protocol" / "schema.toml"


def schema_digest() -> str:
    """Return the SHA-256 of the protocol's schema."""
    return hashlib.sha256(_schema_path().read_bytes()).hexdigest()


@functools.cache
def tool_digest() -> str:
    """Return the SHA-256 over the sources of the kit."""
    sha = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py")):
        sha.update(str(path.relative_to(_PACKAGE)).encode() + path.read_bytes())
    return sha.hexdigest()
