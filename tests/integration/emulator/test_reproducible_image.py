"""The firmware recipe gives the same bytes in every checkout."""

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.paths import ROOT

BOARD = "mps2_an385"
RECIPE = f"boards/{BOARD}/build.sh"
IMAGE = f"build/images/{BOARD}/firmware.elf"
AGENT = (
    "boards/debian_sources.sh",
    "boards/firmware_sources.py",
    "boards/platform_module.py",
    "build/device-lib",
    "device",
    "protocol/generated",
    "protocol/inline_constants.py",
    "protocol/patrolink_protocol",
)
# Unmodified sources, and the compiler of frozen modules: a tool, which is no part of the image
SOURCES = (f"build/images/{BOARD}/work/mbedtls", f"build/images/{BOARD}/work/micropython", "build/download/debian")


def copy(place: Path) -> Path:
    """Copy what the recipe uses into a folder, as a checkout would have it, and return the folder."""
    ignore = shutil.ignore_patterns("__pycache__", "lists", "cache")
    for name in (f"boards/{BOARD}", *AGENT, *SOURCES):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, place / name, ignore=ignore, symlinks=True)
        else:
            shutil.copy2(ROOT / name, place / name)
    for source in SOURCES[:2]:
        shutil.copy2(ROOT / f"{source}.sum", place / f"{source}.sum")
    return place


@pytest.mark.long(45)
@pytest.mark.timeout(600)
@pytest.mark.unchanged_inputs(f"boards/{BOARD}", *AGENT, programs=("arm-none-eabi-gcc", "gcc", "make"))
def test_image_is_reproducible_to_the_byte(tmp_path):
    """Two concurrent builds take turns, and the second one finds the result."""
    first = subprocess.run([str(ROOT / RECIPE)], capture_output=True, text=True)
    if first.returncode == 4:
        pytest.skip(first.stderr)
    assert first.returncode == 0, first.stderr
    checkout = copy(tmp_path / "a-checkout-of-another-length")
    builds = [subprocess.Popen([str(checkout / RECIPE)], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    output = sorted(build.communicate()[1] for build in builds)
    assert [build.returncode for build in builds] == [0, 0], output
    assert output[0] == "" and "building the firmware" in output[1] and "fetching" not in output[1]
    images = [hashlib.sha256((place / IMAGE).read_bytes()).hexdigest() for place in (ROOT, checkout)]
    assert images[0] == images[1]
