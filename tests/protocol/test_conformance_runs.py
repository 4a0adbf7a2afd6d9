"""What the script of repeated conformance runs counts as a false failure."""

import json
import subprocess

from tests.protocol import conformance_runs

PASSED = {"record": "case_result", "case": "PL-HELLO-1-023", "case_verdict": "pass", "title": "hello", "text": None}
FAILED = {**PASSED, "case_verdict": "fail", "text": "no hello"}
SUMMARY = {"record": "summary", "cases_passed": 1, "cases_failed": 0}


def outcome(code, *rows, stderr=""):
    text = "".join(json.dumps(row) + "\n" for row in rows)
    return conformance_runs.outcome(subprocess.CompletedProcess([], code, text, stderr), 1.0)


def test_run_that_passes_has_no_findings():
    assert outcome(0, PASSED, SUMMARY) == (SUMMARY, [], 1.0)


def test_failed_case_is_named():
    assert outcome(1, FAILED, SUMMARY).findings == ["PL-HELLO-1-023 fail: hello: no hello"]


def test_run_without_a_summary_is_a_finding():
    result = outcome(2, PASSED, stderr="no broker")
    assert result.counts == {} and result.findings == ["exit code 2: no broker"]


def test_claim_that_is_not_true_is_a_finding():
    assert outcome(1, PASSED, SUMMARY, stderr="claim rice").findings == ["exit code 1: claim rice"]
