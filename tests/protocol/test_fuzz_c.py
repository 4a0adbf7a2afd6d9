"""A short run of the C fuzzer; `make fuzz` runs it longer."""

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "fuzz"))
import fuzz  # noqa: E402

EXECUTIONS = 20_000  # one or two seconds on an idle machine


@pytest.mark.unchanged_inputs(
    *("protocol/generated/patrolink.c", "protocol/generated/patrolink.h", "protocol/vectors", "tests/fuzz"),
    programs=("clang",),
)
@pytest.mark.skipif(shutil.which("clang") is None, reason="no clang (apt-get install clang)")
def test_short_fuzz_run_of_the_c_codec_finds_no_fault():
    program = fuzz.build()
    code, executions = fuzz.c_codec(program, 90, EXECUTIONS)
    assert code == 0, (fuzz.OUT / "fuzz_codec.log").read_text()[-3000:]
    assert executions >= EXECUTIONS
