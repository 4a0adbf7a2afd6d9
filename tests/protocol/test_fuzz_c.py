"""A short run of what `make fuzz` does at length."""

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "fuzz"))
import fuzz  # noqa: E402

ENOUGH = 20_000  # a second or two of a quiet machine


@pytest.mark.skipif(shutil.which("clang") is None, reason="no clang (apt-get install clang)")
def test_the_c_codec_withstands_a_short_run():
    program = fuzz.build()
    code, executions = fuzz.c_codec(program, 90, ENOUGH)
    assert code == 0, (fuzz.OUT / "fuzz_codec.log").read_text()[-3000:]
    assert executions >= ENOUGH
