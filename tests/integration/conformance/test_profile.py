"""Profiles and known failures: what is wrong in them is an error, what is not true a finding."""

import sys

import pytest
from patrolink.cli import main
from patrolink.conformance import claims, known_failures, profile, suite
from patrolink.conformance.case import (
    CODEC,
    DEVICE,
    INTERFACE_CLAIMS,
    Case,
    Context,
    DeviceUnderTest,
    Judgement,
    Verdict,
    judge,
    passed,
)
from patrolink.conformance.evidence import Answer, Evidence, Exchange, ask, wait
from patrolink.conformance.runner import Result
from patrolink_protocol import frame

from tests.support.json_lines import records, summary
from tests.support.paths import ROOT

HOSTILE = f"exec:{sys.executable} {ROOT / 'tests' / 'support' / 'hostile_codec.py'} wrong nothing"
CODEC_CLAIMS = ("rice", "encode", "batch_encode", "serial")


def write_profile(folder, **values):
    path = folder / "profile.toml"
    lines = [f'{name} = "{value}"' for name, value in {**dict.fromkeys(CODEC_CLAIMS, "no"), **values}.items()]
    path.write_text("\n".join(['name = "vendor"', "[claims]", *lines, ""]))
    return path


@pytest.mark.parametrize("tier", [CODEC, DEVICE])
def test_example_declares_nothing(tier, tmp_path, capsys):
    assert main(["validate", "--example", tier]) == 0
    path = tmp_path / "profile.toml"
    path.write_text(capsys.readouterr().out)
    with pytest.raises(profile.ProfileError, match="undeclared: .*declare each claim"):
        profile.load(path, tier)
    path.write_text(path.read_text().replace('"undeclared"', '"yes"'))
    assert set(profile.load(path, tier).claims.values()) == {"yes"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = 'x'\n", "claims: is missing"),
        ("name = 'x'\nclams = {}\n[claims]\n", "unknown key; did you mean 'claims'"),
        ("name = 'x'\n[claims]\nrise = 'yes'\n", "claims.rise: unknown claim"),
        ("name = 'x'\n[claims]\nrice = true\n", "claims.rice"),
        ("name = 'x'\n[claims]\nrice = 'maybe'\n", "claims.rice"),
        ("name = 'x'\n[claims]\nrice = 'yes'\n", "undeclared: encode"),
        ("name = 'x'\n[claims\n", "not TOML"),
        ("\xff", "not TOML"),
        ("", "name: is missing"),
        ("name = 1\n[claims]\n", "name: input should be a valid string"),
        ("name = ''\n[claims]\n", "name: string should have at least 1 character"),
        ("name = 'x'\nclaims = 'yes'\n", "claims: input should be a valid dictionary"),
        ("name = 'x'\nclaims = ['yes']\n", "claims: input should be a valid dictionary"),
        ("name = 'x'\n[claims]\nrice = ['yes']\n", "claims.rice: input should be"),
        ("name = 'x'\n[claims]\n[stimulus]\nsos = 'press'\n", "stimulus.sos: input should be a valid list"),
        ("name = 'x'\n[claims]\n[stimulus]\nsos = [1]\n", "stimulus.sos.0: input should be a valid string"),
        ("name = 'x'\n[claims]\n[claims]\n", "not TOML"),
        ("name = 'x'\na = " + "[" * 30_000 + "]" * 30_000, "not TOML: nested too deeply"),
        ("name = 'x'\na = " + "9" * 10_000, "not TOML: "),
        ("name = '" + "x" * 200 + "'\n[claims]\n", "at most 100 characters"),
        ("name = 'x'\0", "not TOML"),
        ("#" * (17 << 20), "more than 16777216 bytes"),
    ],
    ids=lambda value: value[:40],
)
def test_wrong_profile_is_exit_code_3(tmp_path, capsys, text, message):
    path = tmp_path / "profile.toml"
    path.write_text(text, encoding="latin-1")
    assert main(["validate", HOSTILE, "--profile", str(path)]) == 3
    error = capsys.readouterr().err
    assert any(part in error for part in message.split("|")), error
    assert len(error) < 1000 and "Traceback" not in error
    for unreadable in (tmp_path / "none", tmp_path):
        assert main(["validate", HOSTILE, "--profile", str(unreadable)]) == 3


def test_denied_claim_removes_cases_but_never_a_security_case(tmp_path, capsys):
    path = write_profile(tmp_path, rice="no")
    main(["validate", HOSTILE, "--profile", str(path), "--json"])
    rows = records(capsys.readouterr().out, "case_result")
    rows = [row for row in rows if row["case_verdict"] == "not applicable"]
    removed = {row["requirement"] for row in rows if row["cause"] not in INTERFACE_CLAIMS}
    assert removed and not {name.rpartition("-")[0] for name in removed} & {"FRAME", "KEY", "REPLAY"}
    case = Case("PL-REPLAY-1-999", "t", "REPLAY-1", CODEC, lambda c: [], lambda c, e: passed(), claim="rice")
    assert profile.denied({"rice": "no"}, case) == ""
    assert profile.denied({"rice": "no"}, case._replace(requirement="BATCH-5")) == "rice"


def claim_case(claim: str) -> Case:
    return next(case for case in suite.load() if case.title == f"claim {claim}")


@pytest.mark.parametrize(
    ("claim", "answer", "present"),
    [
        ("rice", '{"protocol": "1.0", "rice": true}', True),
        ("rice", '{"protocol": "1.0", "rice": false}', False),
        ("encode", '{"frame": "00"}', True),
        ("encode", '{"error": "not a request"}', False),
        ("serial", '{"packet": "00"}', True),
    ],
)
@pytest.mark.parametrize("value", ["yes", "no"])
def test_lie_in_a_profile_is_a_finding(claim, answer, present, value):
    case = claim_case(claim)
    evidence = Evidence((Exchange(ask("x"), 0, (Answer(0, answer),)),))
    result = judge(Context(case, 1, claims={claim: value}), evidence)
    honest = (value == "yes") is present
    assert (result.verdict, result.cause) == ((Verdict.PASS, "") if honest else (Verdict.FAIL, "claim")), result


def test_type_that_the_profile_denies_is_a_finding():
    frame = f"{0x20 | profile.CLAIMS['text'].types[0]:02x}" + "00" * 12
    evidence = Evidence((Exchange(wait(10), 0, (Answer(1, frame),)),))
    (finding,) = claims.contradictions({"text": "no", "ptt": "no"}, [("PL-X-1-001", evidence)])
    assert finding.claim == "text" and "PL-X-1-001" in finding.text
    assert claims.contradictions({"text": "yes"}, [("PL-X-1-001", evidence)]) == []


def result_of(case_id: str, verdict: Verdict, cause: str = "", reason: str = "") -> Result:
    case = next(case for case in suite.load() if case.id == case_id)
    return Result(case, Judgement(verdict, cause, reason), None, 0, 0)


FIRST, SECOND = list(suite.listed_ids())[:2]


def known_file(folder, text: str):
    path = folder / "known.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("result", "error"),
    [
        (result_of(FIRST, Verdict.FAIL, "wrong_answer", "got x"), ""),
        (result_of(FIRST, Verdict.PASS), "its verdict is pass; remove the entry"),
        (result_of(FIRST, Verdict.FAIL, "crash", "SIGSEGV"), "fails in another way: crash"),
        (result_of(FIRST, Verdict.FAIL, "wrong_answer", "got y"), "fails in another way: wrong_answer: got y"),
        (result_of(FIRST, Verdict.SKIPPED), "its verdict is skipped"),
        (result_of(SECOND, Verdict.PASS), "not in this run"),
    ],
)
def test_known_failure_must_fail_as_listed(tmp_path, result, error):
    path = known_file(tmp_path, f'[[known]]\ncase = "{FIRST}"\ncause = "wrong_answer"\nreason = "got x"\n')
    matching, errors = known_failures.compare(known_failures.load(path), [result])
    assert (matching, errors) == ({FIRST}, []) if not error else (matching == set() and error in errors[0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[known]]\ncase = "PL-NONE-1-001"\ncause = "crash"\n', "no such case"),
        (f'[[known]]\ncase = "{FIRST}"\ncause = "creash"\n', "unknown cause"),
        (f'[[known]]\ncase = "{FIRST}"\ncause = "crash"\n' * 2, "listed twice"),
        (f'[[known]]\ncase = "{FIRST}"\n', "cause: is missing"),
        ("[[knowns]]\n", "unknown key"),
    ],
)
def test_wrong_list_of_known_failures_is_exit_code_3(tmp_path, capsys, text, message):
    assert main(["validate", HOSTILE, "--known", str(known_file(tmp_path, text))]) == 3
    assert message in capsys.readouterr().err


def test_known_failures_in_a_run(tmp_path, capsys):
    """All failures of a run are listed as known: the run passes. One that passes is an error."""
    prof = str(write_profile(tmp_path, rice="yes"))
    ids = [case.id for case in suite.load() if case.vector][:5] + [
        case.id for case in suite.load() if case.vector == "replay-host"
    ]
    only = [word for case_id in ids for word in ("--replay", case_id)]
    command = ["validate", HOSTILE, "--profile", prof, *only, "--json"]
    assert main(command) == 1
    failed = [row for row in records(capsys.readouterr().out, "case_result") if row["case_verdict"] == "fail"]
    assert [row["case"] for row in failed] == ids[5:]
    entry = f'[[known]]\ncase = "{ids[5]}"\ncause = "wrong_answer"\n'
    assert main([*command, "--known", str(known_file(tmp_path, entry))]) == 0
    assert summary(capsys.readouterr().out)["cases_failed"] == 1
    entry += f'[[known]]\ncase = "{ids[0]}"\ncause = "wrong_answer"\n'
    assert main([*command, "--known", str(known_file(tmp_path, entry))]) == 3
    assert "its verdict is pass" in capsys.readouterr().err


def test_selection_of_no_case_is_exit_code_2(capsys):
    assert main(["validate", HOSTILE, "--replay", "PL-NONE-1-001"]) == 2
    assert "no case PL-NONE-1-001" in capsys.readouterr().err
    assert main(["validate", HOSTILE, "--suite", "0.9"]) == 2
    assert main(["validate"]) == 2


PROBES = [case for case in suite.load() if case.title.startswith("probe of ")]


@pytest.mark.parametrize("case", PROBES, ids=lambda case: case.title)
def test_probe_of_a_denied_capability(case):
    """The probe is a genuine message, and a device that acts on it has lied."""
    claim = case.title.split()[2].rstrip(":")
    device = DeviceUnderTest("vest-9", bytes(range(32)), 3, 4711)
    context = Context(case, 1, device, {claim: "no"})
    sent, waited = case.steps(context)
    channel = frame.Channel(device.secret, b"vest-9", frame.DOWNLINK, 3)
    assert channel.open_frame(bytes.fromhex(sent.data))[1] == device.counter
    answer = f"{0x20 | profile.CLAIMS[claim].types[0]:02x}" + "00" * 20
    acted = Evidence((Exchange(sent, 0), Exchange(waited, 1, (Answer(5, answer),))))
    silent = Evidence((Exchange(sent, 0), Exchange(waited, 1)))
    assert judge(context, acted).cause == "claim"
    assert judge(context, silent) == judge(context._replace(claims={claim: "yes"}), acted) == passed()
