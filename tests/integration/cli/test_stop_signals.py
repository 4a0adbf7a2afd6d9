"""SIGINT and SIGTERM end every verb with its summary, the documented exit code, and no child process left.

Each verb is started with SIGINT ignored, as in a background job of a non-interactive shell.
"""

import json
import os
import signal
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

from tests.support import hub_process, site_file
from tests.support.console_site import BackgroundDevices
from tests.support.json_lines import summary
from tests.support.paths import DEMO_VIDEO
from tests.support.polling import wait_until
from tests.support.processes import descendants, ignore_sigint
from tests.support.site_file import DEVICES, DISPATCHERS, GROUPS, OTHER, TOKEN

STOP_SIGNALS = [signal.SIGINT, signal.SIGTERM]
pytestmark = pytest.mark.parametrize("number", STOP_SIGNALS, ids=lambda number: number.name)


@pytest.fixture
def start():
    """Return a function that starts a verb with SIGINT ignored. Verbs that still run after the test are killed."""
    processes = []

    def start(*arguments: str, **env: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "patrolink", *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        processes.append(subprocess.Popen(command, preexec_fn=ignore_sigint, env={**os.environ, **env}, **pipes))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def stop(process: subprocess.Popen, number: int) -> tuple[int, str, str]:
    """Send the signal and wait until no descendant is left; return exit code, standard output and standard error."""
    children = descendants(process.pid)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), lambda: str(children))
    assert "Traceback" not in err
    return process.returncode, out, err


def test_monitor_stops(start, broker, number, tmp_path):
    record = tmp_path / "record.plcap"
    process = start("monitor", broker.url, "--record", str(record))
    wait_until(record.exists)
    code, _, err = stop(process, number)
    assert code == 0 and err.splitlines()[-1].startswith("0 frames")


@pytest.mark.parametrize("count", [1, 2])
def test_emulate_stops(start, number, count, tmp_path):
    process = start("emulate", "--board", "linux", "--count", str(count), "--out", str(tmp_path), "--json")
    logs = [tmp_path / "device" / "console.log"]
    if count > 1:
        logs = [tmp_path / f"emulated-{n + 1}" / "device" / "console.log" for n in range(count)]
    wait_until(lambda: any(log.exists() and "ready" in log.read_text() for log in logs))
    assert descendants(process.pid)
    code, out, err = stop(process, number)
    assert code == 128 + number and summary(out)["boards"] == 0
    assert err.count("stopped before the end: ") == count and "fixes decoded" in err


def test_emulate_on_a_virtual_clock_stops(start, number):
    process = start("emulate", "--board", "linux", "--hours", "10000", "--json")
    assert " of 10000 hours, 10 s" in process.stderr.readline()
    code, out, err = stop(process, number)
    assert code == 128 + number and summary(out)["fixes"] > 0
    assert f"stopped by {number.name} after " in err and " of 10000 simulated hours" in err


def test_call_stops(start, number, tmp_path):
    process = start("call", "--board", "linux", "--out", str(tmp_path), "--json")
    wait_until(lambda: all((tmp_path / name / "console.log").exists() for name in ("linux-1", "linux-2")))
    wait_until(lambda: len(descendants(process.pid)) >= 4)  # a broker, a hub, two devices
    code, out, err = stop(process, number)
    assert code == 128 + number
    assert not out or (summary(out)["bursts"] == 0 and "after 0 of 2 bursts" in err)


@pytest.mark.skipif(not DEMO_VIDEO.exists(), reason="no video for the camera; run `make media`")
def test_incident_stops(start, number, tmp_path):
    process = start("incident", "--out", str(tmp_path), "--json")
    log = tmp_path / "linux-1" / "console.log"
    wait_until(lambda: log.exists() and "clips: recording" in log.read_text())
    code, out, err = stop(process, number)
    assert code == 128 + number and summary(out) == {"board": "linux", "device": "linux-1", "verdict": None}
    assert f"linux-1: stopped by {number.name} before the hub verified the clip" in err


def test_hub_stops(start, broker, number, tmp_path):
    *ports, console = hub_process.free_ports(3)
    site = site_file.SITE_TEMPLATE.format(
        url=broker.url, ports=ports, top="", hub=f'console = "127.0.0.1:{console}"', groups=GROUPS + DISPATCHERS
    )
    site_file.write_site(tmp_path, site, DEVICES)
    process = start("hub", str(tmp_path / "site.toml"), "--json")
    assert json.loads(process.stdout.readline())["groups"]
    code, out, _ = stop(process, number)
    assert code == 0 and summary(out)["site"] == "test.example"


def test_floor_stops(start, site, number):
    process = start("floor", "--hub", site.url, "--json", PATROLINK_HUB_TOKEN=TOKEN)
    wait_until(lambda: "patrolink_hub_dispatchers 1\n" in site.http_request("GET", "/metrics")[2])
    code, out, err = stop(process, number)
    assert code == 0 and summary(out) == {"changes": 0} and err == ""


def test_listen_stops(start, site, number, tmp_path):
    path = tmp_path / "received.wav"
    process = start("listen", "--hub", site.url, "--output", str(path), PATROLINK_HUB_TOKEN=TOKEN)
    assert process.stderr.readline().startswith("listening to ")
    code, _, err = stop(process, number)
    assert code == 0 and err == "0 bursts received\n"
    with wave.open(str(path)) as wav:
        assert wav.getnframes() == 0


@pytest.fixture(scope="module")
def speech_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("speech") / "speech.wav"
    with wave.open(str(path), "wb") as out:
        out.setparams((1, 2, 8000, 0, "NONE", ""))
        out.writeframes((3000 * np.sin(np.arange(28 * 8000) / 4)).astype("<i2").tobytes())
    return path


@pytest.fixture(scope="module")
def devices(site, broker):
    background = BackgroundDevices(broker, ("vest-1", "vest-2"))
    yield background
    background.close()


def test_talk_stops(start, site, devices, speech_file, number):
    group = str(site_file.HARBOUR)
    arguments = ["--hub", site.url, "--file", str(speech_file), "--json"]
    process = start("talk", group, *arguments, PATROLINK_HUB_TOKEN=OTHER)
    wait_until(lambda: devices.membership("vest-1", site_file.HARBOUR).floor.talker)
    code, out, _ = stop(process, number)
    outcome = summary(out)
    assert code == 128 + number and outcome["result"] == "cancelled" and outcome["duration_s"] < 28
    wait_until(lambda: not devices.membership("vest-1", site_file.HARBOUR).floor.talker)
