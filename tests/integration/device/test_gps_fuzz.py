"""Damaged receiver streams: real logs with flipped, lost, inserted and repeated bytes, split into arbitrary pieces.

The number of accepted sentences is compared with an independent count that uses a regular expression.
"""

import re
from functools import reduce
from operator import xor
from pathlib import Path

from agent.gps.sentences import GpsReceiver
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

LOGS = {
    path.stem: path.read_bytes()
    for path in sorted((Path(__file__).resolve().parent.parent.parent / "golden" / "nmea").glob("*.log"))
}
FIELDS = ["day", "ms", "mode", "lat_e7", "lon_e7", "alt_mm", "speed_mms", "course_cd", "hacc_mm", "hdop_e2", "sats"]
FIELDS += ["systems", "flags"]
COUNTERS = ["sentences", "bad_checksum", "overlong", "skipped_bytes", "ignored"]
LINE = re.compile(rb"\$([ -#%-~]{1,128})[\r\n]")
FUZZ_SETTINGS = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def damaged_log(draw) -> bytes:
    """Return a part of a log with up to 20 errors."""
    log = LOGS[draw(st.sampled_from(sorted(LOGS)))]
    start = draw(st.integers(0, max(0, len(log) - 200)))
    data = bytearray(log[start : start + draw(st.integers(100, 4000))])
    for _ in range(draw(st.integers(0, 20))):
        offset = draw(st.integers(0, len(data) - 1)) if data else 0
        kind = draw(st.integers(0, 3))
        if kind == 0 and data:
            data[offset] ^= 1 << draw(st.integers(0, 7))
        elif kind == 1:
            del data[offset : offset + draw(st.integers(1, 40))]
        elif kind == 2:
            data[offset:offset] = draw(st.binary(min_size=1, max_size=40))
        else:
            data[offset:offset] = log[offset : offset + 30]
    return bytes(data)


def run(data: bytes, cuts: list[int]) -> tuple[list, list]:
    """Feed data to a receiver in pieces that are split at the offsets `cuts`; return the fixes and the counters."""
    fixes = []
    receiver = GpsReceiver(lambda fix: fixes.append([getattr(fix, name) for name in FIELDS]))
    edges = [0, *sorted(c % (len(data) + 1) for c in cuts), len(data)]
    for a, b in zip(edges, edges[1:], strict=False):
        receiver.feed(data[a:b], b - a, 0)
    receiver.flush()
    return fixes, [getattr(receiver, name) for name in COUNTERS]


def has_valid_checksum(line: bytes) -> bool:
    body, star, check = line.rpartition(b"*")
    return bool(body and star and re.match(rb"[0-9A-Fa-f]{2}", check)) and reduce(xor, body, 0) == int(check[:2], 16)


@FUZZ_SETTINGS
@given(damaged_log())
def test_exactly_the_sentences_with_a_valid_checksum_are_accepted(data):
    lines = LINE.findall(data)
    sentences, bad = run(data, [])[1][:2]
    assert sentences == sum(map(has_valid_checksum, lines))
    assert bad == len(lines) - sentences


@FUZZ_SETTINGS
@given(damaged_log(), st.lists(st.integers(0, 4000), max_size=40))
def test_result_does_not_depend_on_the_pieces(data, cuts):
    assert run(data, cuts) == run(data, [])


@FUZZ_SETTINGS
@given(damaged_log())
def test_every_fix_is_in_range(data):
    for fix in run(data, [])[0]:
        values = dict(zip(FIELDS, fix, strict=True))
        assert values["mode"] in (1, 2, 3)
        if values["flags"] & 1:
            assert (
                abs(values["lat_e7"]) <= 900_000_000 and abs(values["lon_e7"]) <= 1_800_000_000 and values["mode"] > 1
            )
        assert values["course_cd"] < 36000 and 0 <= values["systems"] < 64


def test_truncated_sentence_is_counted_and_discarded():
    truncated = b"$GPRMC,120000,A,3112.3456,N,12112.34\r\n"
    fixes, counters = run(truncated, [])
    assert fixes == [] and counters == [0, 1, 0, 0, 0]


def test_fixes_before_and_after_1_mib_of_noise_are_decoded():
    log = LOGS["mt3339"]
    noise = bytes((i * 2654435761 >> 13) & 255 for i in range(1 << 20))
    fixes, counters = run(log + b"\r\n" + noise + b"\r\n" + log, [])
    assert counters[0] == 2 * run(log, [])[1][0]
    assert fixes[-1] == run(log, [])[0][-1]
