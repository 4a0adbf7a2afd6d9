"""Fuzzes the codecs for a limited time: the C codec with libFuzzer, the Python codecs with hypothesis.

python tests/fuzz/fuzz.py [SECONDS]         default 60, half for each; findings are written to build/fuzz
python tests/fuzz/fuzz.py [SECONDS] --c     the C codec alone
"""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "protocol" / "vectors"))
import run as vectors  # noqa: E402

OUT = ROOT / "build" / "fuzz"
TARGET = Path(__file__).with_name("fuzz_codec.c")


def build() -> Path | None:
    """Compile the C target and return the program; None without clang."""
    clang = shutil.which("clang")
    if clang is None:
        return None
    OUT.mkdir(parents=True, exist_ok=True)
    program = OUT / "fuzz_codec"
    flags = ["-std=c99", "-g", "-O1", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all"]
    subprocess.run([clang, *flags, "-o", program, TARGET], check=True)
    return program


def corpus() -> Path:
    """Write each vector as a seed: choice byte, then the frame without its tag; return the folder."""
    folder = OUT / "corpus"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("frames.json", "messages.json", "batches.json"):
        for vector in vectors.load(name):
            data = bytes.fromhex(vector["frame"])
            choice = vector["direction"] | (vector["epoch"] & 1) << 1
            (folder / vector["id"]).write_bytes(bytes([choice]) + data[: max(0, len(data) - 8)])
    return folder


def c_codec(program: Path, seconds: float, executions_max: int = -1) -> tuple[int, int]:
    """Fuzz for some seconds and at most `executions_max` executions (-1: no limit); return (exit code, executions)."""
    command = [str(program), str(corpus()), f"-max_total_time={max(1, round(seconds))}", "-max_len=1024", "-timeout=5"]
    command += [f"-runs={executions_max}", f"-artifact_prefix={OUT}/", "-print_final_stats=1", "-rss_limit_mb=1024"]
    done = subprocess.run(command, capture_output=True, text=True)
    (OUT / "fuzz_codec.log").write_text(done.stderr)
    units = re.search(r"number_of_executed_units:\s*(\d+)", done.stderr)
    return done.returncode, int(units.group(1)) if units else 0


def python_codecs(seconds: float) -> int:
    """Run the property tests with new seeds until the time is over; return the exit code of pytest."""
    until = time.monotonic() + seconds
    rounds = 0
    while True:
        tests = ["tests/protocol/test_fuzz.py", "tests/protocol/test_conformance.py"]
        command = [sys.executable, "-m", "pytest", "-q", *tests, "-k", "any or alike", "-p", "no:cacheprovider"]
        done = subprocess.run(
            [*command, f"--hypothesis-seed={time.time_ns()}"], cwd=ROOT, capture_output=True, text=True
        )
        rounds += 1
        if done.returncode or time.monotonic() > until:
            print(f"hypothesis: {rounds} rounds, {'nothing found' if done.returncode == 0 else done.stdout[-4000:]}")
            return done.returncode


def fuzz_c_codec(seconds: float) -> int:
    """Build and fuzz the C codec, and print the result; return the exit code."""
    program = build()
    if program is None:
        print("skipped: the C codec needs clang (apt-get install clang)", file=sys.stderr)
        return 0
    code, executions = c_codec(program, seconds)
    finding = "nothing found" if code == 0 else "see build/fuzz"
    print(f"libFuzzer, ASan and UBSan: {executions} executions in {seconds:g} s, {finding}")
    return code


def main(arguments: list[str]) -> int:
    """Run the command line; return the exit code."""
    os.chdir(ROOT)
    only_c = "--c" in arguments
    seconds = float(next((argument for argument in arguments if argument != "--c"), 60))
    if only_c:
        return fuzz_c_codec(seconds)
    return fuzz_c_codec(seconds / 2) or python_codecs(seconds / 2)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
