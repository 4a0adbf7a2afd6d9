"""Cases of the device tier on the example device in C: it passes, and devices with one fault fail the case for it."""

import shutil
import subprocess

import pytest
from patrolink.conformance import suite
from patrolink.conformance.case import DEVICE, DeviceUnderTest, Verdict
from patrolink.conformance.runner import Runner
from patrolink.conformance.testee.device_pipe import DevicePipe
from patrolink.core import clock

from tests.support.paths import ROOT

PROTOCOL = ROOT / "protocol"
SECRET = bytes(range(100, 132))
NAME = "vest-c"
HELLO = "hello is the first frame after each start, with a higher boot number"
COUNTERS = "no counter is used twice across a power cut"
COMMAND = "a command is answered once, with its id"
EXPIRED = "an expired command is not obeyed"
REPEATED = "a command that is repeated is obeyed once"
OLDER = "a command with a lower counter is not obeyed"
FORGED = "forged commands are neither obeyed nor answered"
CUT = "a genuine frame whose body is cut is answered with reject"
# title of the case that finds it → (file, old text, new text)
FAULTS = {
    HELLO: ("device.c", "    d->state.boot++;", "    d->state.boot = 1;"),
    COUNTERS: ("device.c", "    d->counter = state->up_limit;", "    d->counter = 0;"),
    EXPIRED: ("requests.c", "PL_ANSWER_RESULT_EXPIRED", "PL_ANSWER_RESULT_DONE"),
}


def build(folder, fault=None):
    """Compile the example device, with a fault or without; return the program."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler (apt-get install gcc)")
    sources = folder / "sources"
    shutil.copytree(PROTOCOL / "example_device", sources)
    if fault is not None:
        name, old, new = fault
        text = (sources / name).read_text(encoding="utf-8")
        assert old in text
        (sources / name).write_text(text.replace(old, new), encoding="utf-8")
    includes = [f"-I{PROTOCOL / 'generated'}", f"-I{PROTOCOL / 'vectors'}"]
    files = [*sorted(sources.glob("*.c")), PROTOCOL / "generated" / "patrolink.c"]
    subprocess.run([compiler, "-std=c99", "-w", *includes, "-o", folder / "device", *files], check=True)
    return folder / "device"


def run_cases(folder, titles, fault=None):
    """Run cases on the example device; return title → verdict and cause."""
    program = build(folder, fault)
    (folder / "key").write_text(SECRET.hex(), encoding="ascii")
    command = [str(program), NAME, str(folder / "key"), str(folder / "counters")]
    testee = DevicePipe(command, clock.monotonic_ms, {})
    cases = [case for case in suite.load() if case.tier == DEVICE and case.title in titles]
    runner = Runner(testee, 1, clock.monotonic_ms, 600_000, device=DeviceUnderTest(NAME, SECRET, 0, 5000))
    return {result.case.title: result.judgement for result in runner.run(cases)}


def test_example_device_passes(tmp_path):
    titles = (HELLO, COUNTERS, COMMAND, EXPIRED, REPEATED, OLDER, FORGED)
    results = run_cases(tmp_path, titles)
    assert results.keys() == set(titles)
    assert {judgement.verdict for judgement in results.values()} == {Verdict.PASS}, results


@pytest.mark.parametrize("title", FAULTS)
def test_device_with_a_fault_fails_its_case(tmp_path, title):
    (judgement,) = run_cases(tmp_path, (title,), FAULTS[title]).values()
    assert judgement.verdict is Verdict.FAIL and judgement.cause == "wrong_answer", judgement


def test_every_case_of_a_device_is_listed():
    titles = {case.title for case in suite.load() if case.tier == DEVICE}
    assert titles >= {HELLO, COUNTERS, COMMAND, EXPIRED, REPEATED, OLDER, FORGED, CUT}
