"""ROMFS: mounted by MicroPython, compared with mpremote's writer, damaged in every way."""

import contextlib
import random
import subprocess
from pathlib import Path

import pytest
from hypothesis import strategies as st
from mpremote.romfs import make_romfs
from patrolink.core import resources
from patrolink.core.errors import DeviceError
from patrolink.flash.image import romfs

from tests.support.properties import untimed

FILES = {
    "boot.mpy": b"boot",
    "agent/link/session.mpy": bytes(range(256)) * 70,  # a length of 3 bytes
    "agent/link/empty.mpy": b"",
    "agent/a.py": b"x" * 127,
    "agent/b.py": b"x" * 128,
    "z": b"1",
}
SEED = 20_261_130
MOUNT = """
import os, sys, vfs
with open(sys.argv[1], "rb") as f:
    data = f.read()
vfs.mount(vfs.VfsRom(memoryview(data)), "/rom")
def walk(folder):
    for name, kind, *_ in os.ilistdir(folder):
        path = folder + "/" + name
        if kind & 0x4000:
            walk(path)
        else:
            with open(path, "rb") as f:
                print(path, f.read().hex())
walk("/rom")
"""
_NAME = st.text("abcdefgz0189_.-", min_size=1, max_size=12).filter(lambda name: name not in (".", ".."))
_CONTENT = st.binary(max_size=300)


@pytest.fixture(scope="module")
def micropython() -> list[str]:
    try:
        return resources.interpreter("micropython")
    except DeviceError as e:
        pytest.skip(str(e))


def mounted(micropython: list[str], data: bytes, folder: Path) -> dict[str, bytes]:
    """Return the files that MicroPython finds in a ROMFS."""
    script, image = folder / "mount.py", folder / "romfs.bin"
    script.write_text(MOUNT)
    image.write_bytes(data)
    done = subprocess.run([*micropython, str(script), str(image)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    lines = (line.split(" ") for line in done.stdout.splitlines())
    return {path.removeprefix("/rom/"): bytes.fromhex(content) for path, content in lines}


def test_micropython_mounts_it(micropython, tmp_path):
    assert mounted(micropython, romfs.write(FILES), tmp_path) == FILES


@pytest.mark.parametrize("files", [FILES, {"a": b"1"}, {"a": b"12"}, {"only/one/file": bytes(20_000)}])
def test_bytes_are_those_of_mpremote(tmp_path, files, capsys):
    for path, content in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    assert romfs.write(files) == make_romfs(str(tmp_path), mpy_cross=False)


def test_order_of_the_files_does_not_matter():
    assert romfs.write(dict(reversed(FILES.items()))) == romfs.write(FILES)


def test_a_file_cannot_be_a_folder_too():
    with pytest.raises(ValueError, match="a is a file"):
        romfs.write({"a": b"", "a/b": b""})


@untimed(st.dictionaries(_NAME, _CONTENT, max_size=6), st.dictionaries(_NAME, _CONTENT, max_size=6))
def test_any_files_round_trip(top, inner):
    files = {**top, **{f"folder!/inner!/{name}": content for name, content in inner.items()}}
    assert romfs.read(romfs.write(files)) == files
    assert len(romfs.write(files)) % 2 == 0


def test_truncations_are_refused():
    data = romfs.write({"a/b": b"123", "c": b"4"})
    for n in range(len(data)):
        with pytest.raises(romfs.RomfsError):
            romfs.read(data[:n])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "magic"),
        (b"\xd2\xcd\x31", "does not end"),
        (b"\xd2\xcd\x31" + b"\x80" * 9, "does not end"),
        (b"\xd2\xcd\x31\x03\x05\x09\x01", "9 bytes where 1"),
        (b"\xd2\xcd\x31\x03\x05\x01\x00", "name is empty"),
        (b"\xd2\xcd\x31\x04\x05\x02\x05a", "longer than its record"),
        (b"\xd2\xcd\x31\x04\x05\x02\x01a", "no data"),
        (b"\xd2\xcd\x31\x04\x04\x02\x01/", "not valid"),
        (b"\xd2\xcd\x31\x05\x04\x03\x02..", "not valid"),
        (b"\xd2\xcd\x31\x0c" + b"\x05\x04\x01a\x02\x00" * 2, "twice"),
    ],
)
def test_damaged_data_are_refused(data, reason):
    with pytest.raises(romfs.RomfsError, match=reason):
        romfs.read(data)


def test_folders_in_folders_are_limited():
    data = b""
    for _ in range(40):
        entry = romfs._number(1) + b"d" + data
        data = romfs._record(4, entry)
    with pytest.raises(romfs.RomfsError, match="more than 16 folders"):
        romfs.read(b"\xd2\xcd\x31" + romfs._number(len(data)) + data)


def test_altered_bytes_never_do_more_than_a_refusal():
    rng = random.Random(SEED)
    data = romfs.write(FILES)
    for _ in range(3000):
        altered = bytearray(data)
        for _ in range(rng.randrange(1, 4)):
            altered[rng.randrange(120) if rng.random() < 0.8 else rng.randrange(len(data))] = rng.randrange(256)
        with contextlib.suppress(romfs.RomfsError):
            assert sum(map(len, romfs.read(bytes(altered)).values())) < len(data), f"seed {SEED}"
