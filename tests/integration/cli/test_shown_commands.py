"""Every command in README and the documentation runs, in the order of its page, and prints what the page shows."""

import json
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from patrolink.core import boards, resources
from patrolink.core.errors import DeviceError
from patrolink.emulator.network.broker import Broker

from tests.support import console_site, hub_process, live_camera, shown_commands, site_file
from tests.support.paths import DEMO_VIDEO, ROOT

PAGES = [
    path
    for path in sorted(
        {*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("boards/**/*.md"), *ROOT.glob("protocol/**/*.md")}
    )
    if shown_commands.read(path)
]
SHOWN_HUB = "127.0.0.1:8080"  # the address of the hub in the documentation
CHECKOUT = ("boards", "device", "docs", "protocol", "tests", "Makefile", "pyproject.toml")
PROGRAMS = {"cc": "cc", "tshark": "tshark", "ffmpeg": "ffmpeg", "openssl": "openssl"}
FIXTURES = {"hub", "clips"}
unchanged_inputs = pytest.mark.unchanged_inputs(
    *("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "Makefile", "docs"),
    *("boards", "build/device-lib", "device", "host_tools", "protocol", "tests/golden"),
    programs=("arm-none-eabi-gcc", "cc", "ffmpeg", "micropython", "openssl", "qemu-system-arm", "tshark"),
)


def missing_requirement(needs: frozenset[str]) -> str:
    """Return what this machine lacks for a command, or an empty string."""
    if "micropython" in needs:
        try:
            resources.interpreter("micropython")
        except DeviceError as e:
            return str(e)
    if needs & {"video", "clips"} and not DEMO_VIDEO.exists():
        return "no video for the camera; run `make media`"
    if "firmware" in needs and boards.find("mps2_an385").missing_packages():
        return f"apt-get install {' '.join(boards.find('mps2_an385').missing_packages())}"
    missing = [program for name, program in PROGRAMS.items() if name in needs and shutil.which(program) is None]
    return f"no {', '.join(missing)}" if missing else ""


class TalkingDevice:
    """A device that talks for half a second, again and again."""

    def __init__(self, devices: console_site.BackgroundDevices) -> None:
        self._devices, self._stop = devices, threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(1):
            self._devices.talk("vest-1", site_file.HARBOUR, 0.5)

    def close(self) -> None:
        """Stop the thread."""
        self._stop.set()
        self._thread.join()


@pytest.fixture(scope="module")
def hub(tmp_path_factory, broker):
    """A hub with live view; vest-1 talks, vest-8 has a camera. Returns the address and the folder of the site."""
    live_port = hub_process.free_ports(1)[0]
    site = console_site.ConsoleSite(tmp_path_factory.mktemp("site"), broker, hub=f"live_port = {live_port}")
    devices = console_site.BackgroundDevices(broker, ["vest-1", "vest-2", "vest-6", "vest-7"])
    talking = TalkingDevice(devices)
    camera = live_camera.CameraDevice(broker, "vest-8", h264=True)
    yield site.host, site.folder
    talking.close()
    camera.close()
    devices.close()
    site.process.stop()


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A hub with a clip and its evidence key."""
    broker = Broker()  # its devices would be those of the other hub
    site = console_site.clip_site(tmp_path_factory.mktemp("clips"), broker)
    site.record_clip("sos")
    site.upload_all()
    site.wait_for_states(1)
    yield f"127.0.0.1:{site.console_port}", site.folder
    site.close()
    broker.stop()


def prepare(needs: frozenset[str], folder: Path, request) -> str:
    """Provide what a block needs. Returns the address of its hub."""
    if "checkout" in needs:
        for name in CHECKOUT:
            if not (folder / name).exists():
                (folder / name).symlink_to(ROOT / name)
    for name in needs & FIXTURES:
        address, site = request.getfixturevalue(name)
        if name == "clips":
            shutil.copy(site / "evidence.pem", folder)
        return address
    return SHOWN_HUB


@pytest.mark.long(35)
@unchanged_inputs
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_shows_what_its_commands_do(page: Path, tmp_path: Path, request):
    folder = tmp_path / "folder"
    folder.mkdir()
    env = {name: value for name, value in os.environ.items() if not name.startswith("PATROLINK_")}
    env |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "100"}
    # Without the settings of whoever runs the test, and without changes to them.
    env |= {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    missing, failures = set(), []
    for command in shown_commands.read(page):
        if lacking := missing_requirement(command.needs):
            missing.add(lacking)
            continue
        address = prepare(command.needs, folder, request)
        text = command.text.replace(SHOWN_HUB, address)
        variables = {f"PATROLINK_{verb}_HUB": f"http://{address}" for verb in ("FLOOR", "LISTEN", "LIVE", "TALK")}
        token = {"PATROLINK_HUB_TOKEN": site_file.TOKEN, **variables} if command.needs & FIXTURES else {}
        try:
            shown_commands.run(replace(command, text=text), folder, {**env, **token})
        except AssertionError as e:
            failures.append(str(e))
    assert not failures, "\n\n".join(failures)
    if missing:
        pytest.skip("commands not run: " + ", ".join(sorted(missing)))


@pytest.mark.long(40)
@unchanged_inputs
@pytest.mark.timeout(450)
def test_demo_loses_no_fix_and_exports_a_valid_clip():
    """`make demo` of README."""
    if lacking := missing_requirement(frozenset(("micropython", "video"))):
        pytest.skip(lacking)
    result = subprocess.run(["make", "demo"], cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    summary = json.loads((ROOT / "build" / "demo" / "summary.json").read_text())
    assert summary["fixes_sent"] == summary["fixes_decoded"] == 900 and summary["fixes_lost"] == 0
    for name in ("patrol.plcap", "track.geojson", "track.png", "map.html"):
        assert (ROOT / "build" / "demo" / name).stat().st_size > 1000
    sos = json.loads((ROOT / "build" / "demo" / "sos" / "incident.json").read_text())
    assert sos["verdict"] == "valid" and sos["before_s"] >= 5 and sos["pictures_lost"] == 0, sos
    for name in sos["files"]:
        assert (ROOT / "build" / "demo" / "sos" / "export" / name).stat().st_size > 100


def write_page(folder: Path, text: str) -> Path:
    page = folder / "page.md"
    page.write_text(text, encoding="utf-8")
    return page


def test_command_keeps_exported_variables_and_its_continuation(tmp_path: Path):
    text = "```console\n$ export A=1\n$ cat <<END\n> value $A\n> END\nvalue 1\n```\n"
    commands = shown_commands.read(write_page(tmp_path, text))
    assert [command.text for command in commands] == ["export A=1", "cat <<END\nvalue $A\nEND"]
    for command in commands:
        shown_commands.run(command, tmp_path, dict(os.environ))


def test_marker_sets_needs_exit_code_and_comparison(tmp_path: Path):
    text = "<!-- run: cc exit=3 varies -->\n```console\n$ echo 12; exit 3\n7\n```\n"
    (command,) = shown_commands.read(write_page(tmp_path, text))
    assert (command.needs, command.exit_codes, command.varies) == ({"cc"}, (3,), True)
    shown_commands.run(command, tmp_path, dict(os.environ))


@pytest.mark.parametrize("body", ["$ false", "$ echo 1\n2", "$ echo one\n...two"])
def test_page_that_is_wrong_is_found(tmp_path: Path, body: str):
    (command,) = shown_commands.read(write_page(tmp_path, f"```console\n{body}\n```\n"))
    with pytest.raises(AssertionError):
        shown_commands.run(command, tmp_path, dict(os.environ))


def test_block_that_is_not_run_gives_its_reason(tmp_path: Path):
    assert shown_commands.read(write_page(tmp_path, "<!-- not run: needs a board -->\n```sh\nfalse\n```\n")) == []


@pytest.mark.parametrize("shown", ["1\n2\n3", "1\n...", "...\n3", "1\n...\n2\n3"])
def test_line_of_dots_stands_for_any_lines(shown: str):
    assert shown_commands.matches(shown.splitlines(), "1\n2\n3\n", varies=False)
