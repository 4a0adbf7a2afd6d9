"""Adapters of protocol/adapters pass the codec tier, and are short enough to be read as examples."""

import shutil
import subprocess
import sys

import pytest
from patrolink.cli import main
from patrolink.conformance import suite
from patrolink.conformance.case import CODEC

from tests.support.json_lines import records
from tests.support.paths import ROOT

ADAPTERS = ROOT / "protocol" / "adapters"
PYTHON = ADAPTERS / "python" / "codec.py"
JAVASCRIPT = ADAPTERS / "javascript" / "codec.mjs"
LINES_MAX = 60


def assert_passes_every_case(command, capsys):
    code = main(["validate", f"exec:{command}", "--json"])
    rows = records(capsys.readouterr().out, "case_result")
    assert [row for row in rows if row["case_verdict"] != "pass"] == [] and code == 0
    assert len(rows) == len([case for case in suite.load() if case.tier == CODEC])


def test_python_adapter(capsys, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'protocol'}:{ROOT / 'protocol' / 'generated'}")
    assert_passes_every_case(f"{sys.executable} {PYTHON}", capsys)


def test_javascript_adapter(tmp_path, capsys):
    """The C codec in WebAssembly: the adapter is what a codec in JavaScript needs around it."""
    for program in ("node", "wasm-ld", "clang"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program} (apt-get install nodejs clang lld wasi-libc libclang-rt-dev-wasm32)")
    module = tmp_path / "check.wasm"
    source = ROOT / "protocol" / "vectors" / "check.c"
    subprocess.run(["clang", "--target=wasm32-wasi", "--sysroot=/usr", "-Os", "-o", module, source], check=True)
    assert_passes_every_case(f"node {JAVASCRIPT} {module}", capsys)


@pytest.mark.parametrize("path", [PYTHON, JAVASCRIPT], ids=lambda path: path.name)
def test_adapters_are_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LINES_MAX


@pytest.mark.parametrize("line", ["", "X", "V 1 2 3", "Q " + "0" * 100])
def test_unknown_requests_are_answered(line, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'protocol'}:{ROOT / 'protocol' / 'generated'}")
    done = subprocess.run([sys.executable, PYTHON], input=line + "\n", capture_output=True, text=True, check=True)
    assert done.stdout.startswith("{") and done.stdout.count("\n") == 1
