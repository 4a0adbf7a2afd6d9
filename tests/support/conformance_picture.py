"""Take the picture of a report with five devices: python -m tests.support.conformance_picture FILE.

Our agent on linux, mps2_an385 and unix, the example device in C, and that device with one fault are run through the
tier `device`, and the signed reports are checked and shown on one page.
"""

import io
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from patrolink.core import boards
from patrolink.emulator import testee
from patrolink.emulator.boards import qemu
from PIL import Image

from tests.support import console_site
from tests.support.paths import ROOT

_WIDTH, _HEIGHT = 1280, 1500
_TIMEOUT_S = 1800
_SHOWN = "an expired command is not obeyed"
_FAULT = ("PL_ANSWER_RESULT_EXPIRED", "PL_ANSWER_RESULT_DONE")
_EXAMPLE = ROOT / "protocol" / "example_device"
_TESTEE = f"{sys.executable} -m {testee.__name__}"
_PATROLINK = [sys.executable, "-m", "patrolink", "validate"]


class Device(NamedTuple):
    """A device of the picture.

    Attributes:
        name: Its name, for the file of its report.
        target: Target of the kit.
        profile: Its profile.
        folder: Working folder of the run.
        keys: Keys file.
    """

    name: str
    target: str
    profile: Path
    folder: Path
    keys: Path


def _agent(board: str, folder: Path, keys: Path) -> Device:
    """Return our agent on a board with a virtual clock."""
    home = folder / board
    state = home / "build" / "testee" / board
    state.mkdir(parents=True)
    shutil.copy(keys, state / "keys.toml")
    profile = ROOT / "boards" / board / "conformance.toml"
    return Device(board, f"exec:{_TESTEE} pipe {board} build/testee/{board}", profile, home, state / "keys.toml")


def _c_device(name: str, folder: Path, keys: Path, key: str, fault: tuple[str, str] | None) -> Device:
    """Return the example device, with a fault or without."""
    home = folder / name
    shutil.copytree(_EXAMPLE, home)
    profile = home / "conformance.toml"
    if fault is not None:
        source = home / "requests.c"
        text = source.read_text(encoding="utf-8")
        assert fault[0] in text
        source.write_text(text.replace(*fault), encoding="utf-8")
        profile.write_text(profile.read_text(encoding="utf-8").replace("device in C", "device, one fault"))
    generated = ROOT / "protocol" / "generated"
    sources = [*map(str, sorted(home.glob("*.c"))), str(generated / "patrolink.c")]
    includes = [f"-I{generated}", f"-I{ROOT / 'protocol' / 'vectors'}"]
    subprocess.run(["cc", "-std=c99", "-w", *includes, "-o", str(home / "device"), *sources], check=True)
    (home / "device.key").write_text(key, encoding="ascii")
    command = "exec:./device testee device.key counters --virtual --button button --lose-clock clockless"
    return Device(name, command, profile, home, keys)


def _validate(device: Device, folder: Path, *options: str) -> Path:
    """Run the kit on a device; return its report."""
    report = folder / f"{device.name}.json"
    words = ["--tier", "device", "--profile", str(device.profile), "--keys", str(device.keys)]
    environment = {**os.environ, "XDG_STATE_HOME": str(device.folder / "state")}
    command = [*_PATROLINK, device.target, *words, "--sign", str(folder / "lab.pem"), "--report", str(report), *options]
    subprocess.run(command, cwd=device.folder, env=environment, stdout=subprocess.DEVNULL, timeout=_TIMEOUT_S)
    return report


def _validate_at_broker(folder: Path, keys: Path) -> Path:
    """Run the kit on our agent under MicroPython, which has no virtual clock, at a broker."""
    home = folder / "unix"
    state = home / "build" / "testee" / "unix"
    state.mkdir(parents=True)
    shutil.copy(keys, state / "keys.toml")
    program = [sys.executable, "-m", testee.__name__, "broker", "unix", str(state)]
    profile = ROOT / "boards" / "unix" / "conformance-broker.toml"
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            target = process.stdout.readline().strip()
            return _validate(Device("unix", target, profile, home, state / "keys.toml"), folder, "--limit", "1500")
        finally:
            process.terminate()


def make_page(folder: Path) -> Path:
    """Run the five devices and return the page of their reports."""
    subprocess.run([sys.executable, "-m", testee.__name__, "init", str(folder)], check=True)
    keys = folder / "keys.toml"
    key = keys.read_text(encoding="utf-8").partition('= "')[2][:64]
    release = [sys.executable, "-m", "patrolink", "image", "key", str(folder / "lab.pem")]
    subprocess.run(release, check=True, stdout=subprocess.DEVNULL)
    qemu.build_image(boards.find("mps2_an385"))
    devices = [_agent(board, folder, keys) for board in ("linux", "mps2_an385")]
    c_devices = [_c_device(name, folder, keys, key, fault) for name, fault in (("c", None), ("mutant", _FAULT))]
    with ThreadPoolExecutor() as pool:
        at_broker = pool.submit(_validate_at_broker, folder, keys)
        reports = [_validate(device, folder) for device in (*devices, *c_devices)]
        reports.insert(2, at_broker.result())
    page = folder / "report.html"
    checks = [word for report in reports for word in ("--check", str(report))]
    subprocess.run([*_PATROLINK, *checks, "--keys", str(keys), "--html", str(page)], check=True)
    return page


def main(picture: Path) -> None:
    """Take the picture."""
    with tempfile.TemporaryDirectory() as name, console_site.chromium(Path(name) / "profile") as browser:
        page = make_page(Path(name))
        browser.set_window_size(_WIDTH, _HEIGHT)
        browser.get(page.as_uri())
        find = "return [...document.querySelectorAll('tr.case')].find(r => r.textContent.includes(arguments[0])).id"
        browser.get(f"{page.as_uri()}#{browser.execute_script(find, _SHOWN)}")
        browser.execute_script("scrollTo(0, 0)")
        # All colours: a palette would lose the red of a single failed case.
        Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB").save(picture, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
