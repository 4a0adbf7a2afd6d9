"""Reports of `patrolink validate`: signature, verdicts from the evidence, and pages that derive from them."""

import copy
import json
import random
import sys
from xml.etree import ElementTree

import pytest
from patrolink.cli import main
from patrolink.conformance import check, profile, suite
from patrolink.conformance.case import CODEC, UNAVAILABLE, Context
from patrolink.conformance.evidence import Evidence, Exchange, Fault, link, restart, send, stimulus, transmit
from patrolink.conformance.report import document, html, junit, signature
from patrolink.conformance.runner import Runner
from patrolink.conformance.testee.codec_pipe import CodecPipe
from patrolink.core import clock
from patrolink.core.errors import UserError
from patrolink.flash.image import release_key

from tests.support.json_lines import records
from tests.support.paths import ROOT

HOSTILE = [sys.executable, str(ROOT / "tests" / "support" / "hostile_codec.py")]
# The hostile codec answers every sequence step with "accepted", so some cases fail; hangs are of one vector.
CASES = 60


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "lab.pem"
    return release_key.create(path, None), path


def make_report(mode: str, seed: int = 1, claims=None):
    cases = [case for case in suite.load() if case.tier == CODEC]
    selection = [case.id for case in [*cases[:40], *cases[-20:]]]
    cases = check.select(cases, selection)
    wrong = next(case for case in cases if case.vector).steps(None)[0].data
    testee = CodecPipe([*HOSTILE, mode, wrong], clock.monotonic_ms, 1.0)
    prof = profile.complete(CODEC)._replace(claims=claims or profile.complete(CODEC).claims)
    results = list(Runner(testee, seed, clock.monotonic_ms, 60_000, prof.claims).run(cases))
    info = document.RunInfo(
        suite=suite.versions()[-1].name, tier=CODEC, testee=testee.describe(), clock="monotonic", seed=seed,
        started="2026-11-30T20:00:00.000Z", profile=prof.fields(), selection=tuple(selection),
        replay="patrolink validate exec:x",
    )  # fmt: skip
    return document.build(info, results, sum(result.duration_ms for result in results) + 1)


@pytest.fixture(scope="module")
def report(key):
    return signature.sign(make_report("crash"), key[0])


@pytest.fixture(scope="module")
def other(key):
    return signature.sign(make_report("wrong", seed=2), key[0])


def fault_of(data: bytes) -> str:
    """Return why a report file is refused, or ""."""
    try:
        lines = check.findings(signature.parse(data, "report"), {})
    except UserError as e:
        return str(e)
    return lines[0] if lines else ""


def test_report_is_confirmed(report, other):
    for item in (report, other):
        assert fault_of(signature.render(item).encode()) == ""
    assert report["summary"]["cases"] == CASES and report["summary"]["fail"] >= 1


def test_change_of_any_byte_is_found(report):
    """Change single bytes: a random sample, and all bytes of the part after the results."""
    data = signature.render(report).encode()
    seed = random.SystemRandom().getrandbits(32)
    rnd = random.Random(seed)
    tail = len(data) - data.rindex(b'"run"')
    places = [*rnd.sample(range(len(data)), 150), *rnd.sample(range(len(data) - tail, len(data)), 150)]
    for at in places:
        bad = bytearray(data)
        bad[at] ^= 1 << rnd.randrange(8)
        assert fault_of(bytes(bad)), f"seed {seed}: byte {at} of {len(data)}: {data[at - 20 : at + 20]!r}"


def test_removed_and_added_bytes_are_found(report):
    data = signature.render(report).encode()
    rnd = random.Random(7)
    for at in [0, len(data) - 1, *(rnd.randrange(len(data)) for _ in range(60))]:
        assert fault_of(data[:at] + data[at + 1 :])
        assert fault_of(data[:at] + b" " + data[at:])
    for end in rnd.sample(range(len(data)), 20):
        assert "cut off" in fault_of(data[:end]) or "not a report" in fault_of(data[:end])
    assert fault_of(data + b"\n") and fault_of(b"") and fault_of(b"[" * 100_000)


@pytest.mark.parametrize("depth", [90, 101, 300, 600, 900, 1000, 30_000])
@pytest.mark.parametrize("place", ["results", "profile", "findings", "evidence"])
def test_nested_report_is_refused_without_a_traceback(report, key, tmp_path, capsys, depth, place):
    """Whether the parser or the encoder meets its limit first: the answer is one line."""
    nested = "[" * depth + "]" * depth
    plain = copy.deepcopy(report)
    if place == "evidence":
        plain["results"][0]["evidence"] = "NESTED"
    else:
        plain[place] = "NESTED"
    path = tmp_path / "report.json"
    path.write_text(signature.render(plain).replace('"NESTED"', nested))
    assert main(["validate", "--check", str(path)]) in (1, 2)
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err and (captured.out or captured.err)
    signed = signature.sign({**plain, "profile": json.loads("[" * 80 + "]" * 80)}, key[0])
    assert fault_of(signature.render(signed).encode())


@pytest.mark.parametrize("value", [None, [], {}, "x", 7, True, -1, 1.5])
@pytest.mark.parametrize(
    "place",
    [
        "results", "profile", "suite", "tier", "clock", "seed", "selection", "device", "limit_ms", "duration_ms",
        "known_failures", "summary", "coverage", "findings", "testee", "tool", "schema_sha256",
    ],
)  # fmt: skip
def test_wrong_types_in_a_report_are_findings(report, key, place, value):
    """Whatever a signer puts in the place of a part: a line, never an exception; no page is needed to see it."""
    head = {name: part for name, part in copy.deepcopy(report).items() if name not in ("signer", "signature")}
    if head[place] == value or (place == "seed" and value in (True, 7, -1)) or (place == "limit_ms" and value == 7):
        return
    head[place] = value
    entries = head["results"] if isinstance(head["results"], list) else []
    document.seal_chain(head, [{name: part for name, part in item.items() if name != "chain"} for item in entries])
    finding = fault_of(signature.render(signature.sign(head, key[0])).encode())
    assert finding or place in ("testee", "tool", "seed", "limit_ms", "duration_ms", "device"), (place, value)


def forged(report, key, change):
    """Return a report that its own signer has changed and signed again, with the hash chain and the counts renewed."""
    head = {name: value for name, value in copy.deepcopy(report).items() if name not in ("signer", "signature")}
    entries = [{name: value for name, value in item.items() if name != "chain"} for item in head.pop("results")]
    change(entries)
    head["summary"] = document.summary(entries)
    head["coverage"] = document.coverage(entries)
    document.seal_chain(head, entries)
    return signature.render(signature.sign(head, key[0])).encode()


LIMIT = "the run took more than 60 s"
NO_COMMAND = "the profile names no command for the stimulus sos"
NOT_APPLICABLE = {
    "evidence": None,
    "verdict": "not applicable",
    "cause": "rice",
    "reason": "the profile claims rice = no",
}


def fault(cause, detail):
    return {"cause": cause, "detail": detail, "exit_code": None, "stderr": ""}


VERDICTS = ["pass", "fail", "non-strict", "not applicable", "inconclusive", "skipped"]


@pytest.mark.parametrize("verdict", VERDICTS)
def test_every_verdict_that_the_evidence_does_not_give_is_found(report, key, verdict):
    """The signer itself cannot change a verdict: it is computed again."""
    assert fault_of(forged(report, key, lambda entries: None)) == ""
    for index in range(0, CASES, 7):
        if report["results"][index]["verdict"] == verdict:
            continue

        def change(entries, index=index):
            entries[index].update(verdict=verdict, cause="", reason="")

        assert report["results"][index]["case"] in fault_of(forged(report, key, change))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda entries: entries.pop(), "cut off or merged"),
        (lambda entries: entries.insert(3, entries[2]), "cut off or merged"),
        (lambda entries: entries.reverse(), "cut off or merged"),
        (lambda entries: entries[0].update(evidence=None), "had to be run"),
        (lambda entries: entries[0].update(evidence=None, verdict="skipped", cause="", reason=LIMIT), "had to be run"),
        (lambda entries: entries[0].update(NOT_APPLICABLE), "had to be run"),
        (
            lambda entries: entries[4]["evidence"].update(fault=fault("unavailable", "no command")),
            "every step can",
        ),
        (
            lambda entries: entries[4]["evidence"].update(fault=fault("unavailable", NO_COMMAND)),
            "every step can",
        ),
        (lambda entries: entries[0].update(duration_ms=700_000), "had to be run|took more than 600 s"),
        (lambda entries: entries[-1].update(duration_ms=700_000), "longer than the run"),
        (lambda entries: entries[-1].update(duration_ms=-1), "a duration of -1"),
        (lambda entries: entries[3]["evidence"]["exchanges"][0].update(at_ms=-5), "times go back"),
        (
            lambda entries: entries[3]["evidence"]["exchanges"][0]["answers"][0].__setitem__(0, 90_000),
            "longer than the",
        ),
        (lambda entries: entries[3]["evidence"].update(clock="virtual"), "its clock is not that of the run"),
        (lambda entries: entries[3]["evidence"].update(load_ms=50), "measures no time"),
        (lambda entries: entries[0].update(title="other"), "not those of the suite"),
        (lambda entries: entries[0].update(level="SHOULD"), "not those of the suite"),
        (lambda entries: entries[9]["evidence"]["exchanges"].pop(), "the evidence ends before"),
        (
            lambda entries: entries[9]["evidence"]["exchanges"].append(entries[8]["evidence"]["exchanges"][0]),
            "more steps",
        ),
        (lambda entries: entries[9].update(evidence=entries[-1]["evidence"]), "another step"),
        (lambda entries: entries[9]["evidence"].update(clock=1, extra=2), "unknown parts"),
        (lambda entries: entries[9].update(counter=5), "counter"),
        (lambda entries: entries[9].pop("cause"), "a part is missing"),
    ],
)
def test_forgeries_of_the_signer_are_found(report, key, change, text):
    finding = fault_of(forged(report, key, change))
    assert any(part in finding for part in text.split("|")), finding


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"limit_ms": 0}, "it was run, although the run took more than 0 s"),
        ({"known_failures": ["PL-FRAME-1-001"]}, "did not fail"),
        ({"clock": "virtual"}, "its clock is not that of the run"),
        ({"seed": 2}, ""),
        ({"duration_ms": 0}, "longer than the run"),
    ],
)
def test_forged_head_of_a_report_is_found(report, key, change, text):
    head = {name: value for name, value in copy.deepcopy(report).items() if name not in ("signer", "signature")}
    entries = [{name: value for name, value in item.items() if name != "chain"} for item in head.pop("results")]
    head.update(change)
    document.seal_chain(head, entries)
    assert text in fault_of(signature.render(signature.sign(head, key[0])).encode())


def claims_of(**values):
    return {**profile.complete(CODEC).claims, **values}


def run_report(cases, testee, key, limit_ms=60_000, claims=None, device=None):
    """Return the signed report of a run."""
    prof = profile.complete(cases[0].tier)._replace(stimuli={"sos": ["true"]})
    prof = prof._replace(claims=claims or prof.claims)
    runner = Runner(testee, 1, clock.monotonic_ms, limit_ms, prof.claims, device)
    results = list(runner.run(cases))
    info = document.RunInfo(
        suite=suite.versions()[-1].name, tier=cases[0].tier, testee=testee.describe(), clock=testee.clock, seed=1,
        started="2026-11-30T20:00:00.000Z", profile=prof.fields(), selection=tuple(case.id for case in cases),
        limit_ms=limit_ms, device=device,
    )  # fmt: skip
    total_ms = sum(result.duration_ms for result in results) + 1
    return signature.sign(document.build(info, results, total_ms), key[0])


def verdicts(report):
    return [(item["verdict"], item["reason"]) for item in report["results"]]


def test_cases_after_the_limit_are_skipped_and_confirmed(key):
    """The limit is over after the first case that hangs. No later case could be run in secret."""
    cases = [case for case in suite.load() if case.tier == CODEC][:4]
    report = run_report(cases, CodecPipe([*HOSTILE, "hang", "F "], clock.monotonic_ms, 0.1), key, limit_ms=50)
    assert [verdict for verdict, _ in verdicts(report)] == ["fail", "skipped", "skipped", "skipped"]
    assert fault_of(signature.render(report).encode()) == ""
    entries = forged(report, key, lambda entries: entries[0].update(duration_ms=0))
    assert "had to be run" in fault_of(entries)


def test_cases_of_a_testee_that_does_not_start_again_are_skipped_and_confirmed(key):
    cases = [case for case in suite.load() if case.tier == CODEC][:5]
    report = run_report(cases, CodecPipe(["false"], clock.monotonic_ms), key)
    assert verdicts(report)[3:] == [("skipped", "the testee could not be started again")] * 2
    assert fault_of(signature.render(report).encode()) == ""


@pytest.mark.parametrize(
    ("step", "carriage", "detail", "legal"),
    [
        (stimulus("fall"), "pipe", "the profile names no command for the stimulus fall", True),
        (restart(), "serial", "the profile names no command for the stimulus restart", True),
        (restart(), "pipe", "the profile names no command for the stimulus restart", False),
        (transmit("udp 1 00"), "serial", "the network of this device is not on a pipe of the kit", True),
        (transmit("udp 1 00"), "pipe", "the network of this device is not on a pipe of the kit", False),
        (link("cut"), "pipe", "the kit does not control the link of this target", False),
        (link("cut"), "serial", "the kit does not control the link of this target", True),
        (stimulus("sos"), "pipe", NO_COMMAND, False),
        (stimulus("fall"), "pipe", NO_COMMAND, False),
        (send(b"\1"), "pipe", "the profile names no command for the stimulus 01", False),
        (send(b"\1"), "pipe", "", False),
    ],
)
def test_case_is_skipped_only_at_a_step_that_cannot_be_performed(step, carriage, detail, legal):
    evidence = Evidence((Exchange(step, 0),), Fault(UNAVAILABLE, detail))
    claimed = {"stimuli": ["sos"], "claims": {"link_control": "yes"}}
    report = {"tier": "device", "profile": claimed, "testee": {"carriage": carriage}}
    assert (check._skip_fault(report, evidence) == "") is legal


def test_cases_of_a_denied_claim_are_confirmed_and_cannot_be_skipped(key):
    cases = [case for case in suite.load() if case.claim == "batch_encode" and not case.security][:3]
    report = run_report(
        cases, CodecPipe([*HOSTILE, "hang", "nothing"], clock.monotonic_ms), key, claims=claims_of(batch_encode="no")
    )
    assert {verdict for verdict, _ in verdicts(report)} == {"not applicable"}
    assert fault_of(signature.render(report).encode()) == ""
    skipped = forged(report, key, lambda entries: entries[0].update(verdict="skipped", cause="", reason=LIMIT))
    assert "the evidence gives not applicable" in fault_of(skipped)


def test_reports_merged_from_two_runs_are_refused(report, other, key):
    merged = copy.deepcopy(report)
    merged["results"][30:] = copy.deepcopy(other["results"][30:])
    del merged["signer"], merged["signature"]
    merged = signature.sign(merged, key[0])
    assert "this or an earlier result is not of this run" in fault_of(signature.render(merged).encode())


def test_unsigned_and_untrusted_reports_are_not_confirmed(report, key):
    plain = {name: value for name, value in report.items() if name not in ("signer", "signature")}
    assert "not signed" in fault_of(signature.render(signature.unsigned(plain)).encode())
    assert check.findings(report, {}, {release_key.point(key[0].public_key()).hex()}) == []
    assert "not trusted" in check.findings(report, {}, {"00"})[0]


def test_replayed_evidence_is_what_the_cases_ask_for(report):
    for case in suite.load():
        if case.tier == CODEC:
            context = Context(case, 1)
            assert list(case.steps(context)) == list(case.steps(context)), case.id


def test_verb_checks_a_report(report, key, tmp_path, capsys):
    path = tmp_path / "report.json"
    path.write_text(signature.render(report))
    trust = tmp_path / "trust.pem"
    trust.write_text(release_key.public_pem(key[0].public_key()))
    page = tmp_path / "page.html"
    assert (
        main(["validate", "--check", str(path), "--check", str(path), "--trust", str(trust), "--html", str(page)]) == 0
    )
    line = f"confirmed, signer {report['signer']}: {CASES} of "
    assert capsys.readouterr().out.count(line) == 2
    assert main(["validate", "--check", str(path), "--json"]) == 0
    assert records(capsys.readouterr().out)[0]["confirmed"] is True
    path.write_text(signature.render(report).replace('"pass"', '"fail"', 1))
    assert main(["validate", "--check", str(path), "--json"]) == 1
    assert any("signature" in text for text in records(capsys.readouterr().out)[0]["contradictions"])
    path.write_text("{")
    assert main(["validate", "--check", str(path)]) == 2


def test_junit_has_every_case(report):
    root = ElementTree.fromstring(junit.render(report))  # noqa: S314 - our own
    assert len(root.findall("testcase")) == CASES == int(root.get("tests"))
    assert len(root.findall("testcase/failure")) == report["summary"]["fail"] == int(root.get("failures"))


def test_page_embeds_its_reports(report, other):
    page = html.render([report, other], ["valid", "valid"])
    text = page.split('<script type="application/json" id="data">')[1].split("</script>")[0]
    data = json.loads(text)
    assert len(data["reports"]) == 2 and len(data["cases"]) == CASES
    assert "<" not in text and "http" not in page.replace("http-equiv", "")
    row = next(row for row in data["cases"] if row["vector"])
    assert row["results"]["0"]["replay"].endswith(row["case"]) and row["results"]["0"]["pcap"]
