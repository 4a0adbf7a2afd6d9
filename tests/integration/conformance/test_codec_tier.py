"""`patrolink validate` on codecs: the C codec, hostile programs, and what is no program."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys

import pytest
from patrolink.cli import main
from patrolink.conformance import suite
from patrolink.conformance.case import CODEC, Judgement, Verdict
from patrolink.conformance.runner import Runner
from patrolink.conformance.testee.codec_pipe import CodecPipe
from patrolink.core import clock

from tests.support import hostile_codec
from tests.support.json_lines import records, summary
from tests.support.paths import GOLDEN, ROOT
from tests.support.polling import wait_until

HOSTILE = [sys.executable, str(ROOT / "tests" / "support" / "hostile_codec.py")]
TIMEOUT_S = 1.0
VECTORS = ("frame-plain", "frame-top-counter", "hello-low")


@pytest.fixture(scope="module")
def c_codec(tmp_path_factory):
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler (apt-get install gcc)")
    program = tmp_path_factory.mktemp("c") / "check"
    subprocess.run([compiler, "-std=c99", "-O1", "-o", program, ROOT / "protocol/vectors/check.c"], check=True)
    return program


def vector_cases():
    by_vector = {case.vector: case for case in suite.load() if case.vector}
    return [by_vector[name] for name in VECTORS]


def run_hostile(mode: str, vector: str = VECTORS[1], timeout_s: float = TIMEOUT_S) -> list[Judgement]:
    """Run three cases on a codec that misbehaves at the second one."""
    (case,) = (case for case in vector_cases() if case.vector == vector)
    (step,) = case.steps(None)
    testee = CodecPipe([*HOSTILE, mode, step.data], clock.monotonic_ms, timeout_s)
    return [result.judgement for result in Runner(testee, 1, clock.monotonic_ms, 60_000).run(vector_cases())]


def test_c_codec_passes_every_case(c_codec, capsys):
    assert main(["validate", f"exec:{c_codec}", "--json"]) == 0
    out = capsys.readouterr().out
    rows = records(out, "case_result")
    assert {row["case_verdict"] for row in rows} == {"pass"}
    assert summary(out)["cases"] == len(rows) == len([case for case in suite.load() if case.tier == CODEC])


@pytest.mark.parametrize(
    ("mode", "cause", "text"),
    [
        ("hang", "hang", "no answer within 1 s"),
        ("crash", "crash", "ended by SIGSEGV"),
        ("exit_3", "crash", "exit code 3; it wrote: assertion failed: counter"),
        ("exit_0", "early_end", "ended with exit code 0"),
        ("half", "hang", "10 bytes of an answer that does not end"),
        ("half_exit", "early_end", "ended"),
        ("bad_json", "bad_json", "not JSON"),
        ("no_object", "bad_json", "not an object"),
        ("nan", "bad_json", "NaN is not JSON"),
        ("twice_in_object", "bad_json", "a name twice"),
        ("deep", "bad_json", "not JSON"),
        ("not_utf8", "bad_json", "not JSON"),
        ("long_number", "bad_json", "not JSON"),
        ("surrogate", "wrong_answer", "ud800"),
        ("empty", "bad_json", "not JSON"),
        ("megabyte", "flood", "an answer of more than 65536 bytes"),
        ("flood", "flood", "in the place of the answer to V"),
        ("flood_without_lines", "flood", "an answer of more than"),
        ("two_answers", "flood", "in the place of the answer to V"),
        ("closed_output", "closed_pipe", "closed its standard output"),
        ("closed_input", "hang", "no answer within"),
        ("all_closed", "closed_pipe", "closed its standard output"),
        ("child", "hang", "no answer"),
        ("late", "hang", "no answer within 1 s"),
        ("half_then_rest", "hang", "9 bytes of an answer that does not end"),
        ("answer_in_two_lines", "flood", "in the place of the answer to V"),
        ("zero_bytes", "bad_json", "not JSON"),
        ("depth_900", "bad_json", "nested too deeply"),
        ("abort_with_output", "crash", "ended by SIGABRT"),
        ("answers_in_threads", "bad_json", "Extra data"),
        ("wrong", "wrong_answer", 'got {"reject":"type"}'),
    ],
)
def test_hostile_codec_fails_one_case_with_its_cause(mode, cause, text):
    before, bad, after = run_hostile(mode)
    assert (bad.verdict, bad.cause) == (Verdict.FAIL, cause) and text in bad.reason, bad
    assert before.verdict is after.verdict is Verdict.PASS, (before, after)


@pytest.mark.parametrize("mode", ["pieces", "errors"])
def test_slow_or_talkative_codec_passes(mode):
    assert {judgement.verdict for judgement in run_hostile(mode, timeout_s=30)} == {Verdict.PASS}


def test_hostile_codec_knows_the_requests_of_the_kit():
    known = hostile_codec.answers()
    steps = [case.steps(None) for case in suite.load() if case.vector]
    requests = [step.data for script in steps for step in script if step.data.startswith("F ")]
    assert set(requests) == set(known)


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("exec:/nothing/here", "No such file"),
        ("exec:true", "no answer to the request V (early_end"),
        ("exec:sh -c 'echo no >&2; exit 4'", "it wrote: no"),
        ("exec:echo hello", "not JSON"),
        ("exec:" + " ".join([*HOSTILE, "early", "nothing"]), "in the place of the answer to V"),
    ],
)
def test_what_cannot_be_started_is_exit_code_2(target, text, capsys):
    assert main(["validate", target]) == 2
    assert text in capsys.readouterr().out


@pytest.mark.parametrize("target", ["exec:", "./check", "tcp:x"])
def test_what_is_no_target_is_exit_code_2(target, capsys):
    assert main(["validate", target]) == 2
    assert "write exec:PROGRAM" in capsys.readouterr().err


def test_run_ends_at_its_limit():
    results = list(
        Runner(CodecPipe([*HOSTILE, "hang", "F "], clock.monotonic_ms, 0.2), 1, clock.monotonic_ms, 500).run(
            suite.load()
        )
    )
    verdicts = {result.judgement.verdict for result in results}
    assert verdicts == {Verdict.FAIL, Verdict.SKIPPED} and len(results) == len(suite.load())


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    path = tmp_path_factory.mktemp("capture") / "walk.plcap"
    assert main(["pack", str(GOLDEN / "tracks" / "walk-1hz.csv"), str(path), "--device", "vest-1", "-q"]) == 0
    return path


def test_codecs_are_compared_on_a_capture(c_codec, capture, capsys):
    capsys.readouterr()
    assert main(["validate", f"exec:{c_codec}", "--diff", str(capture)]) == 0
    assert "58 frames compared, 0 differences" in capsys.readouterr().out
    hostile = "exec:" + " ".join([*HOSTILE, "exit_3", "vest-1"])
    assert main(["validate", f"exec:{c_codec}", hostile, "--diff", str(capture), "--json"]) == 1
    out = capsys.readouterr().out
    assert summary(out) == {"frames": 58, "differences": 58}
    assert "fault" in records(out, "difference")[0]["readings"][hostile]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["exec:/nothing/here"], "a codec cannot be started"),
        (["exec:true", "--keys", "/dev/null"], "no \\[devices\\] table"),
        (["/dev/ttyS0"], "the tier codec needs a program"),
    ],
)
def test_comparison_that_cannot_begin_is_exit_code_2(capture, capsys, words, text):
    assert main(["validate", *words, "--diff", str(capture)]) == 2
    assert re.search(text, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        (lambda data: b"", 2, "not a Patrolink capture"),
        (lambda data: data[:5], 2, "not a Patrolink capture"),
        (lambda data: data[:8], 2, "no frame of a device with a known key"),
        (lambda data: data[:-7], 0, "1 part of it could not be read"),
        (lambda data: data[:8] + b"\xa5\x5a" * 5000, 2, "no frame of a device with a known key"),
        (lambda data: data[:300] + bytes(200) + data[300:], 0, "could not be read"),
        (lambda data: bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000"), 2, "not a Patrolink capture"),
        (lambda data: b"\x0a\x0d\x0d\x0a" + bytes(100), 2, "not a Patrolink capture"),
        (lambda data: b"vest-1 0011\n", 2, "not a Patrolink capture"),
        (lambda data: bytes(range(256)) * 100, 2, "not a Patrolink capture"),
    ],
    ids=["empty", "magic cut off", "no record", "cut off", "no records", "damaged", "pcap", "pcapng", "text", "bytes"],
)
def test_comparison_on_a_bad_capture(c_codec, capture, tmp_path, capsys, change, code, text):
    """A capture of another kind, of Ethernet for example, or one that was cut off: a line that says so."""
    path = tmp_path / "bad.plcap"
    path.write_bytes(change(capture.read_bytes()))
    shutil.copy(f"{capture}.keys.toml", f"{path}.keys.toml")
    assert main(["validate", f"exec:{c_codec}", "--diff", str(path)]) == code
    assert text in capsys.readouterr().err


def test_replay_prints_the_shortest_failing_sequence(capsys):
    (case,) = (case for case in suite.load() if case.vector == "replay-host")
    hostile = "exec:" + " ".join([*HOSTILE, "hang", "nothing"])
    assert main(["validate", hostile, "--replay", case.id]) == 1
    out = capsys.readouterr().out
    assert "shortest failing sequence (1):" in out and out.count(" > ask S ") == len(list(case.steps(None))) - 1


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="processes of Windows")
def test_stopped_run_ends_its_testee(tmp_path):
    """Ctrl-C ends the verb with its exit code, and the program under test."""
    pid = tmp_path / "pid"
    program = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    command = [sys.executable, "-m", "patrolink", "validate", shlex.join(["exec:" + sys.executable, "-c", program])]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    wait_until(lambda: pid.exists() and pid.read_text())
    process.send_signal(signal.SIGINT)
    assert process.wait(TIMEOUT_S * 30) == 130
    child = int(pid.read_text())
    wait_until(lambda: not os.path.exists(f"/proc/{child}"))
