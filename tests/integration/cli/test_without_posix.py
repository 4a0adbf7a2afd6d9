"""Host verbs without `fcntl`, `termios`, `pty`, SIGHUP and other parts of Python that Windows does not have."""

import os
import subprocess
import sys
import wave

import paho.mqtt.publish as publish
import pytest
from patrolink.core.capture import CaptureReader

from tests.support.json_lines import records, summary
from tests.support.paths import DEMO_VIDEO, GOLDEN, ROOT
from tests.support.polling import TIMEOUT_S, wait_until
from tests.support.progress_lines import without_progress
from tests.support.site_file import CIRCLE, HARBOUR, OTHER, TOKEN

COMMAND = [sys.executable, str(ROOT / "tests" / "support" / "without_posix.py")]
TRACK = GOLDEN / "tracks" / "walk-1hz.csv"


def start(*arguments, **env: str) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **env}
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def run(*arguments, **env: str) -> tuple[int, str, str]:
    process = start(*arguments, **env)
    out, err = process.communicate(timeout=TIMEOUT_S)
    return process.returncode, out, without_progress(err)


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    """A capture in a folder with a space and letters beyond ASCII, written by `pack`."""
    path = tmp_path_factory.mktemp("Streifen 港 é") / "walk one.plcap"
    code, out, err = run("pack", TRACK, path, "--json")
    assert (code, err) == (0, "") and summary(out)["fixes"] == 3424
    return path


def test_decode_a_capture(capture):
    code, out, err = run("decode", capture, "--format", "csv")
    assert code == 0 and len(out.splitlines()) == 3425, err


def test_monitor_a_capture(capture):
    code, out, err = run("monitor", capture)
    assert code == 0 and out.count("pack: 60 fixes to") == 57, err


def test_monitor_a_broker(capture, broker, tmp_path):
    with capture.open("rb") as source:
        frames = [record.frame for record in CaptureReader(source, "capture")]
    record = tmp_path / "record.plcap"
    keys = capture.with_name(capture.name + ".keys.toml")
    process = start("monitor", broker.url, "--keys", keys, "--count", len(frames), "--json", "--record", record)
    wait_until(record.exists)  # created after the subscription
    publish.multiple([("p/pack/u", frame, 1, False) for frame in frames], port=broker.port)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0 and len(records(out, "position")) == 3424, err


def test_list_serial_ports():
    code, out, err = run("devices", "--json")
    assert code == 0 and "ports" in summary(out), err


def test_check_this_machine(tmp_path):
    code, out, err = run("doctor", "--json", "--bundle", tmp_path / "support.zip")
    assert code == 0 and summary(out)["problems"] == 0 and (tmp_path / "support.zip").stat().st_size > 1000, err


@pytest.mark.parametrize("port", ["COM1", "COM10", "com256"])
def test_a_com_port_is_opened_as_a_serial_port(port):
    code, out, err = run("monitor", port)
    assert code == 3 and out == "" and f"{port}: cannot be opened" in err


@pytest.mark.skipif(not DEMO_VIDEO.exists(), reason="no build/media/bikes.mp4: run `make media`")
def test_verify_clips(tmp_path):
    from tests.support import clip_maker  # needs the video

    clip_maker.make(tmp_path / "clips", "linux-1")
    key = tmp_path / "evidence.pem"
    code, out, err = run("clip", "verify", tmp_path / "clips" / "linux-1", "--evidence-key", key, "--json")
    documents = records(out, "clip")
    assert code == 0 and documents and all(document["verdict"] == "valid" for document in documents), err


def test_talk_and_listen_at_a_hub(site, tmp_path):
    speech, received = tmp_path / "speech.wav", tmp_path / "received.wav"
    with wave.open(str(speech), "wb") as f:
        f.setparams((1, 2, 8000, 0, "NONE", ""))
        f.writeframes(b"\x10\x20" * 8000)
    listener = start(
        "listen", HARBOUR, "--hub", site.url, "--output", received, "--count", 1, "--json", PATROLINK_HUB_TOKEN=OTHER
    )
    assert listener.stderr.readline() == "listening to Harbour circle\n"
    code, out, err = run("talk", HARBOUR, "--hub", site.url, "--file", speech, "--json", PATROLINK_HUB_TOKEN=TOKEN)
    assert code == 0 and summary(out)["duration_s"] == 1, err
    out, err = listener.communicate(timeout=TIMEOUT_S)
    assert listener.returncode == 0 and records(out, "burst")[0]["group_name"] == "Harbour circle", err
    with wave.open(str(received)) as f:
        assert f.getnframes() == 8000


def test_ctrl_c_ends_a_verb_with_its_summary(site):
    process = start("listen", CIRCLE, "--hub", site.url, "--output", os.devnull, PATROLINK_HUB_TOKEN=OTHER)
    assert process.stderr.readline().startswith("listening to")
    process.send_signal(2)
    _, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, err) == (0, "0 bursts received\n")


@pytest.mark.parametrize("verb", [("emulate",), ("incident",), ("call",), ("hub", "site.toml")])
def test_a_verb_that_needs_posix_says_so_in_one_line(verb):
    code, out, err = run(*verb)
    assert code == 2 and out == ""
    needs = "needs a POSIX system (pseudo-terminals, file locks); run it on Linux, macOS or WSL"
    assert err == f"error: `patrolink {verb[0]}` {needs}\n"


def test_permission_bits_are_not_compared_where_users_have_no_ids(capture):
    keys = capture.with_name(capture.name + ".keys.toml")
    keys.chmod(0o666)  # Windows reports these bits for every file
    try:
        assert "can be read by others" not in run("decode", capture, "--output", os.devnull)[2]
    finally:
        keys.chmod(0o600)
