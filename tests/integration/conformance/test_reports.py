"""Reports of `patrolink validate`: signature, verdicts from the evidence, and pages that derive from them."""

import copy
import json
import random
import sys
from xml.etree import ElementTree

import pytest
from patrolink.cli import main
from patrolink.conformance import check, profile, suite
from patrolink.conformance.case import CODEC, Context
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
    return document.build(info, results, 1000)


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


def forged(report, key, change):
    """Return a report that its own signer has changed and signed again, with the hash chain and the counts renewed."""
    head = {name: value for name, value in copy.deepcopy(report).items() if name not in ("signer", "signature")}
    entries = [{name: value for name, value in item.items() if name != "chain"} for item in head.pop("results")]
    change(entries)
    head["summary"] = document.summary(entries)
    head["coverage"] = document.coverage(entries)
    document.seal_chain(head, entries)
    return signature.render(signature.sign(head, key[0])).encode()


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
        (lambda entries: entries[0].update(evidence=None), "has no evidence"),
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
    assert text in fault_of(forged(report, key, change))


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
    assert capsys.readouterr().out.count("confirmed") == 2
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
