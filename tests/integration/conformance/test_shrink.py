"""The shrinker finds what a failure needs, and nothing else; the differential mode finds codecs that differ."""

import random
import shutil
import subprocess
import sys

import pytest
from patrolink.cli import main
from patrolink.conformance import differential, frames, shrink, suite
from patrolink.conformance.cases.counters import frame
from patrolink.conformance.cases.vectors import load
from patrolink.conformance.testee.codec_pipe import CodecPipe
from patrolink.core import clock
from patrolink.core.capture import Record
from patrolink.core.keys import DeviceKey

from tests.protocol import conformance_mutants
from tests.support import mutants
from tests.support.json_lines import records
from tests.support.paths import ROOT

FORGETFUL = [sys.executable, str(ROOT / "tests" / "support" / "forgetful_codec.py")]
AT = f"{frames.SECRET.hex()} {frames.DEVICE} 0 0"


@pytest.mark.parametrize("seed", range(200))
def test_property_the_result_is_what_the_failure_needs(seed):
    """A failure that needs certain items in order: exactly these are left, in a number of attempts that is bounded."""
    rnd = random.Random(seed)
    items = [rnd.randrange(10) for _ in range(rnd.randrange(1, 80))]
    places = sorted(rnd.sample(range(len(items)), rnd.randrange(1, min(6, len(items)) + 1)))
    needed = [items[place] for place in places]
    calls = 0

    def fails(part):
        nonlocal calls
        calls += 1
        rest = iter(part)
        return all(item in rest for item in needed)

    result = shrink.shrink(items, fails)
    assert result == needed, f"seed {seed}"
    assert calls < 1000


@pytest.mark.parametrize("seed", range(100))
def test_property_no_item_of_the_result_can_be_left_out(seed):
    """A failure without order, such as a sum: nothing can be left out of the result, and it still fails."""
    rnd = random.Random(seed)
    items = [rnd.randrange(1, 50) for _ in range(60)]
    limit = rnd.randrange(1, sum(items))

    def fails(part):
        return sum(part) >= limit

    result = shrink.shrink(items, fails)
    assert fails(result)
    assert not any(fails(result[:i] + result[i + 1 :]) for i in range(len(result)))


def test_attempts_are_limited_and_the_result_still_fails():
    result = shrink.shrink(list(range(100)), lambda part: len(part) >= 3, attempts=4)
    assert len(result) >= 3


def test_sequence_that_does_not_fail_is_refused():
    with pytest.raises(ValueError, match="does not fail"):
        shrink.shrink([1, 2], lambda part: False)


def test_shortest_sequence_of_a_codec_that_forgets_repeats():
    """The codec forgets the counter 7 when a counter above 1000 has come: four requests of 61 show it."""
    rnd = random.Random(3)
    counters = [*rnd.sample(range(10, 500), 25), 7, *rnd.sample(range(500, 900), 20), 1500, *range(600, 612), 7]
    lines = [f"R {AT}", *(f"S {frame(counter).hex()}" for counter in counters)]
    parts, fault = shrink.shortest_failing(lines, CodecPipe(FORGETFUL, clock.monotonic_ms))
    assert parts == [lines[0], *(f"S {frame(counter).hex()}" for counter in (7, 1500, 7))]
    assert "request 4" in fault and "repeated" in fault
    with pytest.raises(ValueError, match="does not fail"):
        shrink.shortest_failing(lines[:20], CodecPipe(FORGETFUL, clock.monotonic_ms))


@pytest.fixture(scope="module")
def c_codecs(tmp_path_factory):
    """The C codec with a window that is half as large, and without a fault."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler (apt-get install gcc)")
    table = mutants.load(conformance_mutants.MUTANTS)
    mutant = next(entry for entry in table if entry["name"] == "the window is half as large")
    built = [conformance_mutants.build_c(fault, tmp_path_factory.mktemp("c")) for fault in (mutant, None)]
    return [f"exec:{command[0]}" for command in built]


def random_window_case():
    return next(case for case in suite.load() if case.title == "random counters around the window of a host")


def test_shortest_sequence_of_a_mutant_is_handed_over(c_codecs, tmp_path, capsys):
    """Of over 300 requests at most four are left, which fail alone; none of them can be left out."""
    mutant, right = c_codecs
    case = random_window_case()
    folder = tmp_path / "new" / "failures"
    command = ["validate", mutant, "--replay", case.id, "--shrink", str(folder)]
    assert main([*command, "--json"]) == 1
    (record,) = records(capsys.readouterr().out, "failing_sequence")
    (path,) = folder.iterdir()
    lines = shrink.read(path)
    assert record["file"] == str(path) and record["requests"] == len(lines) <= 4 and record["requests_before"] > 300
    assert record["command"] == f"patrolink validate {mutant} --requests {path}"
    assert main(["validate", mutant, "--requests", str(path)]) == 1
    out = capsys.readouterr().out
    assert out.count("> ") == len(lines) and "expected" in out.splitlines()[-1]
    assert main(["validate", right, "--requests", str(path), "--json"]) == 0
    assert len(records(capsys.readouterr().out, "codec_reply")) == len(lines)
    assert path.read_text().startswith(f"# {case.id} ")
    for left_out in range(len(lines)):
        path.write_text(shrink.render(lines[:left_out] + lines[left_out + 1 :], []))
        assert main(["validate", mutant, "--requests", str(path)]) == (2 if len(lines) == 1 else 0)
    capsys.readouterr()
    assert main(command) == 1
    assert f"{len(lines)} requests of {record['requests_before']}: patrolink validate" in capsys.readouterr().out


def test_failure_that_depends_on_an_earlier_case_is_handed_over_with_it(tmp_path, capsys):
    """This codec forgets for good once it has seen a high counter: alone, the second case would pass."""
    by_title = {case.title: case.id for case in suite.load()}
    second = by_title["the first counter of a host may be 0"]
    ids = sorted([by_title["a host remembers repeats over 1000, 10,000 and 60,000 counters"], second])
    only = [word for case_id in ids for word in ("--replay", case_id)]
    target = "exec:" + " ".join(FORGETFUL)
    assert main(["validate", target, *only, "--shrink", str(tmp_path), "--json"]) == 1
    lines = shrink.read(tmp_path / f"{second}.requests")
    counters = [int.from_bytes(bytes.fromhex(line[2:])[1:5], "big") for line in lines if line.startswith("S ")]
    assert max(counters) > 1000 and counters[-2:] == [0, 0]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "no request"),
        (b"# only a comment\n", "no request"),
        (b"\xff\xfe\n", "not text in UTF-8"),
        (b"X 00\n", "request 1 is none"),
        (b"V\nF 00\n", "request 2 is none"),
        (b"S 0g\n", "request 1 is none"),
        (b"E 00 a 0 0 1 0 1 " + b"[" * 30_000 + b"]" * 30_000, "request 1 is none"),
        (b"#" * (17 << 20), "more than"),
    ],
    ids=["empty", "comment", "encoding", "letter", "words", "digits", "nested", "huge"],
)
def test_file_that_has_no_requests_is_refused(tmp_path, capsys, data, text):
    path = tmp_path / "x.requests"
    path.write_bytes(data)
    assert main(["validate", "exec:true", "--requests", str(path)]) == 2
    assert text in capsys.readouterr().err
    for missing in (tmp_path, tmp_path / "none"):
        assert main(["validate", "exec:true", "--requests", str(missing)]) == 2


def test_codec_that_fails_while_requests_are_sent(tmp_path, capsys):
    path = tmp_path / "x.requests"
    path.write_text("P 0102\nS -\n")
    assert main(["validate", "exec:true", "--requests", str(path)]) == 2
    hostile = "exec:" + " ".join([sys.executable, str(ROOT / "tests" / "support" / "hostile_codec.py"), "crash", "P "])
    assert main(["validate", hostile, "--requests", str(path)]) == 1
    assert "ended by SIGSEGV" in capsys.readouterr().out


def capture():
    return [Record(0, v["device"], bytes.fromhex(v["frame"])) for v in load("batches.json") if not v["direction"]]


def test_codecs_that_agree_have_no_difference(tmp_path):
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (apt-get install gcc)")
    program = tmp_path / "check"
    subprocess.run([compiler, "-std=c99", "-O1", "-o", program, ROOT / "protocol/vectors/check.c"], check=True)
    keys = {frames.DEVICE: DeviceKey(frames.SECRET)}
    results = list(differential.compare(capture(), keys, {"c": CodecPipe([str(program)], clock.monotonic_ms)}))
    assert len(results) == len(capture()) > 100 and set(results) == {None}


def test_differences_say_where_the_readings_part():
    """This codec shows 55 satellites in the last row of each batch of more than 2 rows."""
    keys = {frames.DEVICE: DeviceKey(frames.SECRET)}
    testees = {"bad": CodecPipe([*FORGETFUL, "--sats"], clock.monotonic_ms)}
    parts = [result for result in differential.compare(capture(), keys, testees) if result is not None]
    assert len(parts) > 50
    for difference in parts:
        rows = difference.readings["reference"]["message"]["rows"]
        if rows[-1][8] is None:
            assert difference.where == "a column that is absent from the batch"
            continue
        assert "sats" in difference.where and f"(row {len(rows) - 1})" in difference.where, difference.where


def test_frames_of_devices_without_a_key_are_left_out():
    assert list(differential.compare(capture(), {}, {})) == []
