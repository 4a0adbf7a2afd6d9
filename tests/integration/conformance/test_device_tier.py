"""Testees of the device tier: a program on a pipe, with and without a virtual clock, a PTY and a real broker."""

import json
import os
import pty
import shlex
import sys
import tty

import paho.mqtt.publish as publish
import paho.mqtt.subscribe as subscribe
import pytest
from patrolink.cli import main
from patrolink.conformance import check, profile, suite, target
from patrolink.conformance.case import (
    DEVICE,
    SHOULD,
    Case,
    Context,
    DeviceUnderTest,
    Verdict,
    failed,
    judge,
    passed,
    timed,
)
from patrolink.conformance.evidence import Evidence, from_json, raw, restart, send, stimulus, wait
from patrolink.conformance.runner import Runner
from patrolink.conformance.testee.broker_device import BrokerDevice
from patrolink.conformance.testee.device_pipe import DevicePipe
from patrolink.conformance.testee.serial_device import SerialDevice
from patrolink.core import clock
from patrolink.core.errors import UserError
from patrolink.core.keys import DeviceKey
from patrolink.transport.serial_line import FrameUnpacker, pack_frame

from tests.support import pipe_device
from tests.support.paths import ROOT

COMMAND = [sys.executable, str(ROOT / "tests" / "support" / "pipe_device.py")]
UNDER_TEST = DeviceUnderTest(pipe_device.DEVICE, pipe_device.KEY, 0, 100)
LONG_MS = 60_000  # a frame ends the wait
FRAME = pipe_device.frame(1)
PORT_PAIRS = ["exec:./device --fast", "/dev/ttyUSB0", "COM3", "mqtt://127.0.0.1:1883/vest-1"]


def has_answer(context, evidence):
    return passed() if evidence.frames() else failed("missing", "no answer")


def case_of(steps, judge=has_answer, **more) -> Case:
    return Case("PL-X-1-001", "a device", "X-1", DEVICE, lambda context: steps, judge, **more)


def run_one(testee, case: Case, **options):
    (result,) = Runner(testee, 1, clock.monotonic_ms, 600_000, device=UNDER_TEST, **options).run([case])
    return result


def pipe(mode: str, stimuli=None) -> DevicePipe:
    return DevicePipe([*COMMAND, mode], clock.monotonic_ms, stimuli or {}, mode.endswith("virtual"))


@pytest.mark.parametrize(
    ("mode", "cause", "text"),
    [
        ("good", "", ""),
        ("pieces", "", ""),
        ("crash", "crash", "SIGABRT"),
        ("exit", "early_end", "exit code 0"),
        ("huge", "framing", "1073741824 bytes"),
        ("zero", "framing", "0 bytes"),
        ("flood", "flood", "more than 1000 frames"),
        ("closed", "closed_pipe", "closed its standard output"),
        ("control", "framing", "without a virtual clock"),
        ("past virtual", "framing", "time 0 ms, not between"),
        ("future virtual", "framing", "not between"),
    ],
)
def test_device_on_a_pipe(mode, cause, text):
    limit = 1000 if mode == "flood" else 1
    first = [wait(20, 0)] if "virtual" in mode else []
    steps = [wait(5000, 1)] if mode.endswith("virtual") else first
    result = run_one(pipe(mode), case_of([*steps, send(FRAME), wait(LONG_MS, limit)]))
    assert (result.judgement.cause, result.evidence.fault is None) == (cause, not cause), result.judgement
    assert text in result.judgement.reason
    if not cause:
        assert result.evidence.frames()[0].text == FRAME.hex()


@pytest.mark.parametrize(
    ("mode", "cause"),
    [
        ("crash", "crash"),
        ("error", "crash"),
        ("exit", "early_end"),
        ("half exit", "early_end"),
        ("huge", "framing"),
        ("zero", "framing"),
        ("big-endian", "framing"),
        ("megabyte", "framing"),
        ("text", "framing"),
        ("control", "framing"),
        ("flood", "flood"),
        ("closed", "closed_pipe"),
        ("closed input", "missing"),
        ("child", "early_end"),
        ("silent", "missing"),
        ("half", "framing"),
        ("late", "missing"),
        ("early", ""),
        ("pieces", ""),
    ],
)
def test_run_goes_on_after_a_hostile_device(mode, cause):
    """The device misbehaves in the second of three cases; the other ones pass."""
    bad = pipe_device.frame(9)
    device = DevicePipe([*COMMAND, mode, bad.hex()], clock.monotonic_ms, {})
    closed_input = mode == "closed input"
    good = [case_of([send(FRAME), wait(500 if closed_input and n == 3 else LONG_MS, 1)]) for n in (1, 3)]
    limit = 1000 if mode == "flood" else 1
    wait_ms = 500 if cause == "missing" or mode == "half" else LONG_MS
    middle = case_of([send(bad), wait(wait_ms, limit)])
    runner = Runner(device, 1, clock.monotonic_ms, 600_000, device=UNDER_TEST)
    first, second, third = (result.judgement for result in runner.run([good[0], middle, good[1]]))
    assert second.cause == cause, second
    assert first.verdict is Verdict.PASS, first
    # A closed input is noticed when the kit writes to it: the third case fails by that.
    assert third.cause == ("closed_pipe" if closed_input else ""), third


def test_device_that_lies_in_its_profile(tmp_path, monkeypatch, capsys):
    """It sends a text_state, although its profile denies texts: a finding, and exit code 1."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    keys, prof = tmp_path / "keys.toml", tmp_path / "profile.toml"
    keys.write_text(f'[devices]\n"{pipe_device.DEVICE}" = "{pipe_device.KEY.hex()}"\n')
    keys.chmod(0o600)
    claims = dict.fromkeys(profile.of_tier(DEVICE), "no") | {"virtual_clock": "yes"}
    prof.write_text("name = 'liar'\n[claims]\n" + "".join(f"{name} = '{value}'\n" for name, value in claims.items()))
    probe = next(case for case in suite.load() if case.title.startswith("probe of text"))
    command = shlex.join([*COMMAND, "liar virtual"])
    words = ["--tier", "device", "--keys", str(keys), "--profile", str(prof), "--replay", probe.id]
    assert main(["validate", f"exec:{command}", *words]) == 1
    out = capsys.readouterr()
    assert "claim text: the profile denies it" in out.err and "FAIL" in out.out


@pytest.mark.parametrize(("mode", "cause"), [("silent", "missing"), ("half", "framing")])
def test_silence_ends_with_the_time_of_the_step(mode, cause):
    result = run_one(pipe(mode), case_of([send(FRAME), wait(300)]))
    assert result.judgement.verdict is Verdict.FAIL and result.judgement.cause == cause


def test_virtual_clock_measures_exactly():
    """Hours of virtual time pass at once, and the delay of an answer is exact."""

    def judge_delay(context, evidence):
        exchange = evidence.exchanges[-1]
        return timed("answer", exchange.answers[0].at_ms - exchange.at_ms, 1500, 1500, evidence)

    begin_ms = clock.monotonic_ms()
    steps = [wait(3 * 3_600_000), send(FRAME), wait(3_600_000)]
    result = run_one(pipe("good virtual"), case_of(steps, judge_delay, timed=True))
    assert result.judgement.verdict is Verdict.PASS, result.judgement
    assert result.evidence.clock == "virtual" and result.evidence.exchanges[1].at_ms == 3 * 3_600_000
    assert clock.monotonic_ms() - begin_ms < LONG_MS


def test_a_frame_that_ends_a_wait_leaves_the_virtual_clock_in_order():
    """The device waits after a frame: the times of what follows are exact."""
    steps = [send(FRAME), wait(3_600_000, 1), wait(1000), wait(0), send(FRAME), wait(5000, 1)]
    result = run_one(pipe("good virtual"), case_of(steps))
    assert result.judgement.verdict is Verdict.PASS, result.judgement
    assert [exchange.at_ms for exchange in result.evidence.exchanges[2:5]] == [1500, 2500, 2500]
    assert result.evidence.exchanges[5].answers[0].at_ms == 4000


def test_restart_and_stimuli(tmp_path):
    pressed = tmp_path / "pressed"
    stimuli = {"sos": [sys.executable, "-c", f"open({str(pressed)!r}, 'w')"], "broken": ["false"], "none": ["/none"]}
    steps = [send(FRAME), wait(LONG_MS, 1), restart(), stimulus("sos"), send(FRAME), wait(LONG_MS, 1)]
    result = run_one(pipe("good", stimuli), case_of(steps))
    assert result.judgement.verdict is Verdict.PASS and len(result.evidence.frames()) == 2 and pressed.exists()
    for name, text in (("broken", "exit code 1"), ("none", "/none: No such file")):
        result = run_one(pipe("good", stimuli), case_of([stimulus(name)]))
        assert result.judgement.cause == "stimulus" and text in result.judgement.reason
    result = run_one(pipe("good", stimuli), case_of([send(FRAME), stimulus("fall"), send(FRAME)]))
    assert result.judgement.verdict is Verdict.SKIPPED and "names no command" in result.judgement.reason
    assert [exchange.step for exchange in result.evidence.exchanges] == [send(FRAME), stimulus("fall")]


def test_steps_may_depend_on_frames():
    def steps(context):
        exchange = yield send(FRAME)
        for _ in range(3):
            exchange = yield wait(LONG_MS, 1)
            yield send(bytes.fromhex(exchange.answers[0].text))

    case = Case("PL-X-1-001", "echo", "X-1", DEVICE, steps, has_answer)
    result = run_one(pipe("good"), case)
    assert result.judgement.verdict is Verdict.PASS and len(result.evidence.exchanges) == 7
    assert from_json(json.loads(json.dumps(result.evidence.to_json()))) == result.evidence
    context = Context(case, 1, UNDER_TEST._replace(counter=result.counter))  # the evidence is what the case asks for
    check.replay(context, result.evidence)
    with pytest.raises(check._OtherStepsError):
        check.replay(context, result.evidence._replace(exchanges=result.evidence.exchanges[:-1]))


def test_device_on_a_pty():
    master, slave = pty.openpty()
    tty.setraw(slave)
    os.set_blocking(master, False)
    testee = SerialDevice(os.ttyname(slave), clock.monotonic_ms, {})

    def steps(context):
        yield send(FRAME)
        received = b""
        while not (frames := FrameUnpacker().feed(received)):
            try:
                received += os.read(master, 4096)
            except BlockingIOError:
                yield wait(10)
        assert frames == [FRAME]
        os.write(master, b"\0\0" + pack_frame(FRAME))
        yield wait(LONG_MS, 1)
        os.write(master, b"\0abc\0def\0ghi\0")
        yield wait(LONG_MS, 1)

    result = run_one(testee, Case("PL-X-1-001", "line", "X-1", DEVICE, steps, has_answer))
    assert result.judgement.cause == "framing" and result.evidence.frames()[0].text == FRAME.hex()
    assert "no command for the stimulus restart" in run_one(testee, case_of([restart()])).judgement.reason
    os.close(slave)
    os.close(master)
    assert run_one(testee, case_of([wait(10)])).judgement.cause == "start"


def test_device_behind_a_broker(broker):
    testee = BrokerDevice(broker.url, pipe_device.DEVICE, clock.monotonic_ms, {})

    def steps(context):
        yield send(FRAME)
        for device in ("other", pipe_device.DEVICE):
            publish.single(f"p/{device}/u", FRAME, qos=1, hostname="127.0.0.1", port=broker.port)
        yield raw(b"no frame")
        yield wait(LONG_MS, 1)

    result = run_one(testee, Case("PL-X-1-001", "broker", "X-1", DEVICE, steps, has_answer))
    assert result.judgement.verdict is Verdict.PASS, result
    assert [answer.text for answer in result.evidence.frames()] == [FRAME.hex()]


def test_what_the_kit_sends_arrives_at_the_broker(broker):
    testee = BrokerDevice(broker.url, "vest-2", clock.monotonic_ms, {})
    testee.start()
    received = []
    client = subscribe.paho.Client(subscribe.paho.CallbackAPIVersion.VERSION2)
    client.on_message = lambda client, data, message: received.append(message.payload)
    client.connect("127.0.0.1", broker.port)
    client.subscribe("p/vest-2/d", 1)
    while client.loop(0.1) == 0 and not received:
        testee.write_frame(FRAME)
    testee.stop()
    client.disconnect()
    assert received[0] == FRAME


def test_broker_that_is_not_there_is_exit_code_2(tmp_path, monkeypatch, capsys):
    keys = tmp_path / "keys.toml"
    keys.write_text(f'[devices]\n"vest-1" = "{"00" * 32}"\n')
    keys.chmod(0o600)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert main(["validate", "mqtt://127.0.0.1:1/vest-1", "--keys", str(keys)]) == 2
    assert "no connection" in capsys.readouterr().out


def test_load_of_the_machine_makes_a_measurement_inconclusive():
    case = case_of([], lambda context, evidence: timed("delay", 120, 0, 100, evidence))
    context = check.Context(case, 1)
    assert judge(context, Evidence((), load_ms=10)).verdict is Verdict.FAIL
    assert judge(context, Evidence((), load_ms=11)).verdict is Verdict.INCONCLUSIVE
    assert judge(context, Evidence((), load_ms=11, clock="virtual")).verdict is Verdict.FAIL
    assert judge(check.Context(case._replace(level=SHOULD), 1), Evidence(())).verdict is Verdict.NON_STRICT


def test_load_is_measured_with_a_null_testee():
    class BusyMeter:
        def stop(self):
            return 5000

    def judge_delay(context, evidence):
        return timed("wait", 0, 0, 100, evidence)

    case = case_of([wait(50)], judge_delay, timed=True)
    result = run_one(pipe("silent"), case, new_load_meter=BusyMeter)
    assert result.judgement.verdict is Verdict.INCONCLUSIVE and "5000 ms late" in result.judgement.reason
    measured = run_one(pipe("silent"), case).evidence.load_ms
    assert 0 <= measured < LONG_MS


@pytest.mark.parametrize("text", PORT_PAIRS)
def test_targets(text):
    parsed = target.parse(text)
    kinds = (target.EXEC, target.SERIAL, target.SERIAL, target.BROKER)
    assert parsed.kind == kinds[PORT_PAIRS.index(text)] and parsed.tier == ("codec" if "exec" in text else DEVICE)
    for wrong in ("mqtt://127.0.0.1:1883", "mqtt://127.0.0.1/a b", "exec:'", "report.json", ""):
        with pytest.raises(UserError):
            target.parse(wrong)


def test_counters_of_runs_do_not_overlap(tmp_path):
    state = tmp_path / "state" / "counters.json"
    key = DeviceKey(bytes(32))
    first = target.reserve_counters(state, "a", key, 10, 1_800_000_000_000)
    second = target.reserve_counters(state, "a", key, 10, 1_800_000_001_000)
    other = target.reserve_counters(state, "b", key, 10, 1_800_000_001_000)
    assert second.counter == first.counter + 1000 and other.counter == first.counter + 1
    with pytest.raises(UserError, match="used up"):
        target.reserve_counters(state, "a", key, 10_000_000, 0)
    state.write_text("[")
    assert target.reserve_counters(state, "a", key, 1, 0).counter == 1


def test_cases_of_both_tiers_exist():
    assert {case.tier for case in suite.load()} == {"codec", DEVICE}
