"""A device summary is read from a log that is still being written."""

import json

from tests.hil import health
from tests.hil.console import Console

SUMMARY = b'{"fixes": 60, "board": {"programs": 1, "overruns": 2}, "clips": null}\r\n'
CUT = SUMMARY.index(b"}") + 1  # after the inner object: the text up to here looks like a complete summary


def test_only_a_complete_summary_line_is_found(tmp_path):
    console = Console(tmp_path, None)
    try:
        with console.log.open("ab", buffering=0) as log:
            log.write(b"device: ready, boot 1\r\n" + SUMMARY[:CUT])
            assert console.find(health.SUMMARY, 0) is None
            log.write(SUMMARY[CUT:-2])
            assert console.find(health.SUMMARY, 0) is None
            log.write(SUMMARY[-2:])
            line = console.find(health.SUMMARY, 0)
        assert line is not None and json.loads(line)["fixes"] == 60
    finally:
        console.wire.close()


def test_health_ignores_an_incomplete_summary():
    text = "device: ready\r\n" + SUMMARY.decode()
    assert health.problems(text, boots=1) == ["2 bytes lost on UARTs"]
    assert health.problems(text[: text.index("}") + 1], boots=1) == []
