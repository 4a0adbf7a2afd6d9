"""What `make test` is going to install, and which tests are skipped for what it may not install.

It runs before the virtual environment exists: `python3 tests/support/setup_plan.py` prints the plan, with
`--missing` only the Debian packages that are missing, for the Makefile to install.
"""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent
_SYSTEM_FOLDERS = "/usr/sbin:/usr/local/sbin"  # Debian installs brokers and gpsd outside the PATH of ordinary users


class Program(NamedTuple):
    """A program that some tests start.

    Attributes:
        command: Name of the executable file.
        packages: Debian packages.
        tests: Test files, relative to tests/, that are skipped without it, some of them in part.
    """

    command: str
    packages: str
    tests: str


PROGRAMS = (
    Program("mosquitto", "mosquitto", "integration/device/test_device.py integration/hub/test_broker_configuration.py"),
    Program(
        "tshark",
        "tshark",
        "integration/cli/test_shown_commands.py "
        "protocol/test_dissector.py protocol/test_dissector_receiver.py protocol/test_dissector_bindings.py "
        "integration/ptt/test_floor_dissector.py integration/hub/test_hub.py "
        "integration/hub/test_hub_parts.py integration/live/test_live_view_media.py",
    ),
    Program("lua5.4", "lua5.4", "protocol/test_dissector.py"),
    Program(
        "gcc",
        "gcc libc6-dev",
        "integration/cli/test_shown_commands.py "
        "protocol/test_conformance.py protocol/test_c_codec.py protocol/test_example_device.py "
        "protocol/test_codec_pipe.py integration/ptt/test_srtp_interop.py integration/clips/test_p256.py "
        "protocol/test_batch_decoder.py "
        "integration/conformance/test_codec_tier.py integration/conformance/test_shrink.py "
        "integration/conformance/test_device_cases.py integration/conformance/test_vendor_guide.py",
    ),
    Program("g++", "g++", "protocol/test_c_codec.py"),
    Program(
        "arm-none-eabi-gcc",
        "gcc-arm-none-eabi libnewlib-arm-none-eabi",
        "integration/cli/test_shown_commands.py integration/emulator/test_pico.py "
        "protocol/test_c_codec.py integration/emulator/test_image.py integration/emulator/test_fleet.py "
        "integration/device/test_serial_camera.py integration/live/test_live_modem.py hil/test_lockstep.py "
        "hil/test_patrol.py",
    ),
    Program(
        "qemu-system-arm",
        "qemu-system-arm",
        "integration/cli/test_shown_commands.py "
        "integration/emulator/test_image.py integration/emulator/test_fleet.py "
        "integration/device/test_serial_camera.py integration/live/test_live_modem.py hil/test_lockstep.py "
        "hil/test_patrol.py",
    ),
    Program("cmake", "cmake", "integration/emulator/test_pico.py"),
    Program("ninja", "ninja-build", "integration/emulator/test_pico.py"),
    Program("clang", "clang libclang-rt-dev", "protocol/test_fuzz_c.py protocol/test_c_codec.py"),
    Program("gpsd", "gpsd", "integration/device/test_gpsd.py"),
    Program(
        "chromium",
        "chromium chromium-driver",
        "integration/hub/test_console.py integration/hub/test_clips_page.py integration/live/test_live_page.py "
        "integration/clips/test_clip_export.py integration/flash/test_web_flasher.py "
        "integration/flash/test_web_flasher_code.py",
    ),
    Program(
        "ffmpeg",
        "ffmpeg",
        "integration/cli/test_shown_commands.py "
        "integration/clips/test_clip_export.py integration/clips/test_avi_players.py integration/clips/test_h264.py "
        "integration/cli/test_live_cli.py integration/live/test_live_view_media.py",
    ),
    Program("sshd", "openssh-server", "integration/flash/test_linux_camera.py"),
    Program("systemd-analyze", "systemd", "integration/flash/test_linux_package.py"),
    Program("zsh", "zsh", "integration/cli/test_completion.py"),
    Program("fish", "fish", "integration/cli/test_completion.py"),
    Program("man", "man-db", "integration/cli/test_man_pages.py"),
    Program("mandoc", "mandoc", "integration/cli/test_man_pages.py"),
    Program(
        "node",
        "nodejs",
        "integration/clips/test_upload.py integration/cli/test_report.py integration/conformance/test_adapters.py",
    ),
    Program("wasm-ld", "lld wasi-libc libclang-rt-dev-wasm32", "integration/conformance/test_adapters.py"),
    Program("npm", "npm", "integration/clips/test_upload.py integration/clips/test_upload_device.py"),
)
# File or folder that `make` creates -> what it does for it
_DOWNLOADS = {
    ".venv/ready": "create .venv and install the tool (pip, requirements/setup.txt)",
    ".venv/test-ready": "install the test tools (pip, requirements/test.txt)",
    "build/device-lib/umqtt/simple.py": "fetch the MQTT library of devices (device/requirements.lock)",
    "build/media/bikes.mp4": "fetch the film of emulated cameras; without a network, tests that need it are skipped",
    "build/node/ready": "fetch the tus server (npm); without a network, tests that upload to it are skipped",
}


def is_installed(command: str) -> bool:
    """Return whether a program is on PATH or in a folder of system programs."""
    return bool(shutil.which(command) or shutil.which(command, path=_SYSTEM_FOLDERS))


def missing_programs(installed: Callable[[str], bool] = is_installed) -> list[Program]:
    """Return the programs that are not installed."""
    return [program for program in PROGRAMS if not installed(program.command)]


def plan(root: Path, missing: list[Program], may_install: bool) -> list[str]:
    """Return the lines of the plan; empty if everything is there.

    Args:
        root: The checkout.
        missing: Programs that are not installed.
        may_install: Whether this user can install Debian packages.
    """
    steps = [f"  {step}" for path, step in _DOWNLOADS.items() if not (root / path).exists()]
    if any(program.command == "npm" for program in missing) and not may_install:
        steps = [step for step in steps if "(npm)" not in step]
    if missing and may_install:
        steps.append(f"  install Debian packages: {' '.join(program.packages for program in missing)}")
    lines = ["set-up, once:", *steps] if steps else []
    if missing and not may_install:
        packages = " ".join(program.packages for program in missing)
        lines.append(
            "this user cannot install Debian packages; tests in these files are skipped, some of them in part:"
        )
        lines += [f"  without {program.packages}: {' '.join(program.tests.split())}" for program in missing]
        lines.append(f"to run them too: sudo apt-get install {packages}")
    return lines


def main() -> None:
    """Print the plan on standard error, or the missing packages on standard output."""
    missing = missing_programs()
    if "--missing" in sys.argv:
        print(" ".join(program.packages for program in missing))
        return
    may_install = os.geteuid() == 0 and shutil.which("apt-get") is not None
    for line in plan(ROOT, missing, may_install):
        print(line, file=sys.stderr)


if __name__ == "__main__":
    main()
