"""A short run of what `make fuzz` does at length."""

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "fuzz"))
import fuzz  # noqa: E402


@pytest.mark.skipif(shutil.which("clang") is None, reason="no clang (apt-get install clang)")
def test_the_c_codec_withstands_some_seconds():
    program = fuzz.build()
    code, executions = fuzz.c_codec(program, 8)
    assert code == 0, (fuzz.OUT / "fuzz_codec.log").read_text()[-3000:]
    assert executions > 500  # it ran: how fast depends on what else does
