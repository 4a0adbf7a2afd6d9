"""The shrinker finds what a failure needs, and nothing else; the differential mode finds codecs that differ."""

import random
import shutil
import subprocess
import sys

import pytest
from patrolink.conformance import differential, frames, shrink
from patrolink.conformance.cases.counters import frame
from patrolink.conformance.cases.vectors import load
from patrolink.conformance.testee.codec_pipe import CodecPipe
from patrolink.core import clock
from patrolink.core.capture import Record
from patrolink.core.keys import DeviceKey

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
