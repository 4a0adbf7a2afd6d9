"""The generated C codec as a C programmer gets it: warnings, symbols, C++, size, stack, and secrets left in memory."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
GENERATED = ROOT / "protocol" / "generated"
SOURCE = GENERATED / "patrolink.c"
PROGRAMS = Path(__file__).parent / "c"
WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror", "-pedantic"]
C99 = ["-std=c99", *WARNINGS, f"-I{GENERATED}"]
CPP = ["-std=c++11", *WARNINGS, f"-I{GENERATED}"]
ARM = ["-mcpu=cortex-m0plus", "-mthumb", "-ffreestanding"]
COMPILERS = {
    "gcc": ("gcc",),
    "clang": ("clang",),
    "gcc-arm": ("arm-none-eabi-gcc", *ARM),
    "clang-arm": ("clang", "--target=arm-none-eabi", *ARM),
}
pytestmark = pytest.mark.unchanged_inputs(
    *(
        "protocol/generated/patrolink.c",
        "protocol/generated/patrolink.h",
        "tests/protocol/c",
        "protocol/vectors",
        "protocol/example_device",
    ),
    programs=("gcc", "g++", "clang", "clang++", "arm-none-eabi-gcc"),
)
TEXT_BYTES_MAX = 16 * 1024
STACK_BYTES_MAX = 2560
# Compilers may emit calls of these; the ARM runtime has helpers for 64-bit numbers and for switches.
RUNTIME = (
    "memcpy",
    "memset",
    "memmove",
    "memcmp",
    "__aeabi_",
    "__gnu_thumb1_case_",
    "_GLOBAL_OFFSET_TABLE_",
    "__stack_chk_fail",
)


def compile_c(name, *arguments):
    """Run a compiler of COMPILERS with arguments; skip the test if it is not installed."""
    command = COMPILERS[name]
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]} (apt-get install gcc clang gcc-arm-none-eabi)")
    subprocess.run([*command, *C99, *arguments], check=True)


@pytest.mark.parametrize("optimization", ["-Os", "-O3"])
@pytest.mark.parametrize("name", COMPILERS)
def test_codec_compiles_without_warnings_and_without_a_libc(name, optimization, tmp_path):
    out = tmp_path / "patrolink.o"
    compile_c(name, optimization, "-ffreestanding", "-c", SOURCE, "-o", out)
    undefined = subprocess.run(["nm", "-u", out], check=True, capture_output=True, text=True).stdout.split()
    assert [symbol for symbol in undefined if symbol != "U" and not symbol.startswith(RUNTIME)] == []


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_codec_is_used_from_cpp(compiler, tmp_path):
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler} (apt-get install g++ clang)")
    compile_c("gcc", "-c", SOURCE, "-o", tmp_path / "patrolink.o")
    program = tmp_path / "program"
    source = PROGRAMS / "from_cpp.cpp"
    subprocess.run([compiler, *CPP, source, tmp_path / "patrolink.o", "-o", program], check=True)
    assert subprocess.run([program], check=True, capture_output=True, text=True).stdout == "24\n"


@pytest.mark.parametrize("name", ["gcc-arm", "clang-arm"])
def test_codec_fits_a_small_microcontroller(name, tmp_path):
    out = tmp_path / "patrolink.o"
    compile_c(name, "-Os", "-c", SOURCE, "-o", out)
    text, data, bss = subprocess.run(["size", out], check=True, capture_output=True, text=True).stdout.split()[6:9]
    assert int(text) <= TEXT_BYTES_MAX
    assert (data, bss) == ("0", "0")


def deepest(graph: str, function: str) -> int:
    """Return the stack of the deepest chain of calls from a function, from GCC's call graph in VCG form."""
    used = {
        title.rsplit(":", 1)[-1]: int(size)
        for title, size in re.findall(r'node: { title: "([^"]*)" label: "[^"]*\\n(\d+) bytes', graph)
    }
    calls: dict[str, set[str]] = {}
    for caller, callee in re.findall(r'edge: { sourcename: "([^"]*)" targetname: "([^"]*)"', graph):
        calls.setdefault(caller.rsplit(":", 1)[-1], set()).add(callee.rsplit(":", 1)[-1])

    def depth(name: str) -> int:
        return used.get(name, 0) + max((depth(callee) for callee in calls.get(name, ())), default=0)

    assert function in used
    return depth(function)


@pytest.mark.parametrize("optimization", ["-O0", "-Os", "-O3"])
@pytest.mark.parametrize("name", ["gcc", "gcc-arm"])
def test_no_function_needs_more_stack_than_stated(name, optimization, tmp_path):
    out = tmp_path / "patrolink.o"
    compile_c(name, optimization, "-fcallgraph-info=su", "-c", SOURCE, "-o", out)
    graph = (tmp_path / "patrolink.ci").read_text()
    functions = re.findall(r"^(?:int|void|bool) (pl_\w+)\(", SOURCE.read_text(), re.MULTILINE)
    depths = {function: deepest(graph, function) for function in functions}
    assert depths["pl_track_encode"] > 1020, "the values of a column are on the stack"
    assert {function: n for function, n in depths.items() if n > STACK_BYTES_MAX} == {}


def probe(name, optimization, folder):
    """Compile and run stack_probe.c; return what it prints."""
    program = folder / "probe"
    compile_c(name, optimization, PROGRAMS / "stack_probe.c", "-o", program)
    return subprocess.run([program], check=True, capture_output=True, text=True).stdout.splitlines()


@pytest.mark.parametrize("optimization", ["-O0", "-Os", "-O2", "-O3"])
@pytest.mark.parametrize("name", ["gcc", "clang"])
def test_no_secret_stays_in_memory(name, optimization, tmp_path):
    *secrets, stack = probe(name, optimization, tmp_path)
    assert secrets == []
    assert 1020 < int(stack) <= STACK_BYTES_MAX


def test_probe_finds_secrets_that_a_codec_leaves(tmp_path, monkeypatch):
    """Without pl_wipe, keys stay on the stack and in the structures."""
    source = SOURCE.read_text()
    assert source.count("while (len--)") == 1
    (tmp_path / "patrolink.c").write_text(source.replace("while (len--)", "while (len && !data)"))
    monkeypatch.setitem(COMPILERS, "gcc", ("gcc", f"-I{tmp_path}"))
    *secrets, _ = probe("gcc", "-O1", tmp_path)
    assert "device key in a wiped structure" in secrets
    assert any(line.endswith("on the stack") for line in secrets)


@pytest.mark.parametrize("name", ["gcc", "clang"])
def test_programs_around_the_codec_compile_without_warnings(name, tmp_path):
    vectors = ROOT / "protocol" / "vectors"
    example = sorted((ROOT / "protocol" / "example_device").glob("*.c"))
    assert len(example) >= 3
    compile_c(name, vectors / "check.c", "-o", tmp_path / "check")
    compile_c(name, f"-I{vectors}", *example, SOURCE, "-o", tmp_path / "device")


def test_reject_is_sent_only_for_genuine_frames_and_seldom(tmp_path):
    program = tmp_path / "refusals"
    compile_c("gcc", PROGRAMS / "refusals.c", "-o", program)
    assert subprocess.run([program], capture_output=True, text=True).stdout == "ok\n"
