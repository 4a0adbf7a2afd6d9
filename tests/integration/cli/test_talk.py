"""`patrolink talk`, `listen` and `floor` with a hub and devices in a background thread."""

import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import wave

import numpy as np
import pytest
import trustme
from patrolink.audio import alaw
from patrolink.audio.burst_assembler import BurstAssembler
from patrolink.audio.playout import PlayoutMixer
from patrolink.audio.sound_file import read_alaw
from patrolink.audio.voice_packet import VoicePacket
from patrolink.cli import main
from patrolink.report.floor_table import FloorTable
from patrolink_protocol import mcptt
from rich.console import Console

from tests.support import console_site, hub_process, site_file
from tests.support.console_site import ConsoleSite
from tests.support.json_lines import records, summary
from tests.support.polling import TIMEOUT_S, wait_until
from tests.support.site_file import CIRCLE, HARBOUR, NIGHT, OTHER, TOKEN


@pytest.fixture(scope="module")
def speech_file(tmp_path_factory):
    """Write a stereo file of 2 s at 48 kHz; the network uses 8 kHz."""
    return write_speech(tmp_path_factory.mktemp("speech") / "speech.wav", 2)


@pytest.fixture(scope="module")
def long_speech_file(tmp_path_factory):
    return write_speech(tmp_path_factory.mktemp("speech") / "long.wav", 28)  # the limit of a burst is 30 s


def write_speech(path, seconds: float):
    samples = alaw.decode(b"".join(console_site.speech(seconds)))
    with wave.open(str(path), "wb") as out:
        out.setparams((2, 2, 48_000, 0, "NONE", ""))
        out.writeframes(np.repeat(np.repeat(samples, 6), 2).astype("<i2").tobytes())
    return path


def start(site: ConsoleSite, *arguments: str, token: str = TOKEN, **env: str) -> subprocess.Popen:
    """Start a command with a token in its environment."""
    command = [sys.executable, "-m", "patrolink", *arguments, "--hub", site.url]
    environment = {**os.environ, "PATROLINK_HUB_TOKEN": token, **env}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run_command(site: ConsoleSite, *arguments: str, **options: str) -> tuple[int, str, str]:
    """Run a command and return exit code, standard output and standard error."""
    process = start(site, *arguments, **options)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def wait_connected(site: ConsoleSite) -> None:
    """Wait until one command is connected to the hub."""
    wait_until(lambda: "patrolink_hub_dispatchers 1\n" in site.http_request("GET", "/metrics")[2])


def test_talk_is_received_by_devices_and_listeners(site, devices, speech_file, tmp_path):
    path = tmp_path / "received.wav"
    listener = start(site, "listen", "Harbour circle", "--output", str(path), "--count", "1", "--json", token=OTHER)
    assert listener.stderr.readline() == "listening to Harbour circle\n"
    code, out, err = run_command(site, "talk", str(HARBOUR), "--file", str(speech_file), "--json")
    assert code == 0, err
    outcome = summary(out)
    assert outcome["result"] == "sent" and outcome["duration_s"] == pytest.approx(2, abs=0.02)
    assert outcome["granted_ms"] > 0
    out, err = listener.communicate(timeout=TIMEOUT_S)
    assert listener.returncode == 0, err
    (burst,) = records(out, "burst")
    assert burst["talker"] == "duty" and burst["lost_s"] == 0 and burst["duration_s"] == outcome["duration_s"]
    assert summary(out) == {"bursts": 1}
    with wave.open(str(path)) as wav:
        assert wav.getframerate() == 8000 and wav.getnchannels() == 1
        samples = np.frombuffer(wav.readframes(wav.getnframes()), "<i2")
    device = alaw.decode(b"".join(devices.received_voice("vest-1", HARBOUR)))
    assert np.array_equal(samples, device), "listener and device must receive the same samples"
    sent_samples = alaw.decode(read_alaw(speech_file))
    assert np.corrcoef(samples[: len(sent_samples)], sent_samples[: len(samples)])[0, 1] > 0.99


def test_queued_request_is_shown_and_times_out(site, devices, speech_file):
    devices.talk("vest-4", CIRCLE)
    wait_until(lambda: devices.membership("vest-4", CIRCLE).floor.audio_ssrc)
    code, out, err = run_command(site, "talk", str(CIRCLE), "--file", str(speech_file), "--wait", "0.5")
    assert code == 4 and "queued at position 1" in err and "result=timeout" in out
    talk = start(site, "talk", str(CIRCLE), "--file", str(speech_file), "--json")
    floor_process = start(site, "floor", "--json", token=OTHER)
    assert any(records(line)[0]["queue"] == ["duty"] for line in floor_process.stdout)
    floor_process.send_signal(signal.SIGINT)
    floor_process.communicate(timeout=TIMEOUT_S)
    assert floor_process.returncode == 0
    devices.stop_talking("vest-4", CIRCLE)
    out, err = talk.communicate(timeout=TIMEOUT_S)
    assert talk.returncode == 0 and summary(out)["result"] == "sent", err


def test_revocation_by_an_emergency_sets_the_exit_code(site, devices, speech_file):
    talk = start(site, "talk", "Old town, night", "--file", str(speech_file))
    wait_until(lambda: devices.membership("vest-7", NIGHT).floor.talker == b"sip:duty@test.example")
    devices.talk("vest-7", NIGHT, 1, mcptt.EMERGENCY)
    out, err = talk.communicate(timeout=TIMEOUT_S)
    assert talk.returncode == 1 and "stopped: pre-empted" in err and "result=stopped" in out
    wait_until(lambda: not devices.membership("vest-7", NIGHT).floor.audio_ssrc)


def test_a_broadcast_cannot_be_answered(site, devices, speech_file, long_speech_file):
    talk = start(site, "talk", str(NIGHT), "--file", str(long_speech_file), "--broadcast")
    wait_until(lambda: devices.membership("vest-7", NIGHT).floor.talker)
    code, out, err = run_command(site, "talk", str(NIGHT), "--file", str(speech_file), token=OTHER)
    assert code == 1 and "denied: only listening is permitted" in err and "result=denied" in out
    talk.send_signal(signal.SIGINT)
    assert talk.wait(TIMEOUT_S) == 130
    wait_until(lambda: not devices.membership("vest-7", NIGHT).floor.talker, 3)


def test_floor_is_released_when_the_talker_is_killed(site, devices, speech_file):
    talk = start(site, "talk", str(HARBOUR), "--file", str(speech_file))
    wait_until(lambda: devices.membership("vest-1", HARBOUR).floor.talker)
    talk.kill()
    talk.communicate()
    wait_until(lambda: not devices.membership("vest-1", HARBOUR).floor.talker, 3)


def test_floor_prints_changes(site, devices):
    floor_process = start(site, "floor", "--count", "2")
    wait_connected(site)
    devices.talk("vest-2", HARBOUR, 0.5)
    out, _ = floor_process.communicate(timeout=TIMEOUT_S)
    assert floor_process.returncode == 0
    assert out.splitlines() == ["Harbour circle: taken vest-2", "Harbour circle: idle"]


def test_ctrl_c_ends_listen_with_a_complete_file(site, devices, tmp_path):
    path = tmp_path / "received.wav"
    listener = start(site, "listen", "--output", str(path))
    listener.stderr.readline()
    before = len(devices.received_voice("vest-1", HARBOUR))
    devices.talk("vest-2", HARBOUR, 60)
    wait_until(lambda: len(devices.received_voice("vest-1", HARBOUR)) > before + 75)
    listener.send_signal(signal.SIGINT)
    out, err = listener.communicate(timeout=TIMEOUT_S)
    devices.stop_talking("vest-2", HARBOUR)
    assert listener.returncode == 0 and out.startswith("Harbour circle: vest-2, "), err
    with wave.open(str(path)) as wav:
        assert wav.getnframes() > 4000


def test_errors_are_reported_with_their_reason(site, speech_file, tmp_path):
    for arguments, code, reason in (
        (
            ("talk", "99", "--file", str(speech_file)),
            2,
            "no group '99' at this hub; available groups: 1 'Harbour circle'",
        ),
        (("talk", "1", "--file", "/nothing.wav"), 2, "/nothing.wav: no such file"),
        (("talk", "1", "--file", __file__), 2, "not a readable sound file"),
        (("talk", "1", "--file", str(speech_file), "--priority", "300"), 2, "priority"),
        (("listen", "--output", "/nowhere/at/all.wav"), 2, "choose a writable file"),
        (("listen", "--output", str(tmp_path / "heard.wav"), "--for", "0.3"), 4, ""),
    ):
        returncode, out, err = run_command(site, *arguments)
        assert returncode == code and reason in err and "Traceback" not in err, (arguments, out, err)


def test_unreachable_hub_and_rejected_login_are_errors(site, monkeypatch, capsys):
    for url, token, code, reason in (
        ("http://127.0.0.1:9", TOKEN, 3, "no connection"),
        ("http://192.0.2.1:8080", TOKEN, 2, "unencrypted"),
        ("ftp://127.0.0.1", TOKEN, 2, "not the address of a hub console"),
        ("nonsense", TOKEN, 2, "not the address of a hub console"),
        (site.url + "/nothing", TOKEN, 2, "not the address of a hub console"),
        (site.url, "", 2, "is not set"),
        (site.url, "wrong", 3, "is not known at this site"),
    ):
        monkeypatch.setenv("PATROLINK_HUB_TOKEN", token)
        assert main(["floor", "--hub", url]) == code
        assert reason in capsys.readouterr().err, url


def test_stopped_hub_is_reported(tmp_path, separate_broker):
    site = ConsoleSite(tmp_path, separate_broker)
    floor_process = start(site, "floor")
    wait_connected(site)
    site.process.stop()
    _, err = floor_process.communicate(timeout=TIMEOUT_S)
    assert floor_process.returncode == 3 and "the hub closed the connection" in err


def test_tls_certificate_is_verified(tmp_path, separate_broker):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    identity = authority.issue_cert("127.0.0.1")
    identity.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "console.pem"))
    console_options = 'console_certificate = "console.pem"\nconsole_key = "console.pem"\n'
    site = ConsoleSite(tmp_path, separate_broker, hub=console_options, tls=True)
    try:
        code, _, err = run_command(site, "floor", "--for", "1", SSL_CERT_FILE=str(tmp_path / "ca.pem"))
        assert code == 0, err
        tls_context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        link = http.client.HTTPSConnection(site.host, context=tls_context, timeout=TIMEOUT_S)
        link.request("POST", "/login", json.dumps({"token": TOKEN}), {"Origin": site.url})
        answer = link.getresponse()
        assert answer.status == 204 and "Secure" in answer.headers["Set-Cookie"]
        assert "max-age" in answer.headers["Strict-Transport-Security"]
        link.close()
        code, _, err = run_command(site, "floor", "--for", "1")
        assert code == 3 and "certificate is not trusted" in err and "SSL_CERT_FILE" in err
    finally:
        site.process.stop()


@pytest.mark.parametrize(
    ("hub", "reason"),
    [
        ('console = "0.0.0.0:{port}"', "requires TLS"),
        ('console = "127.0.0.1:{port}"\nconsole_certificate = "no.pem"\nconsole_key = "no.pem"', "no.pem"),
        ('console = "127.0.0.1:{port}"\nconsole_certificate = "no.pem"', "belong together"),
        ('console = "no.such.host.invalid:{port}"', "no.such.host.invalid"),
    ],
)
def test_unsafe_console_is_not_started(tmp_path, broker, hub, reason):
    (tmp_path / "keys.toml").write_text("[devices]\n")
    (tmp_path / "keys.toml").chmod(0o600)
    site = site_file.SITE_TEMPLATE.format(
        url=broker.url,
        ports=hub_process.free_ports(2),
        top="",
        hub=hub.format(port=console_site.free_port()),
        groups="",
    )
    (tmp_path / "site.toml").write_text(site)
    command = [sys.executable, "-m", "patrolink", "hub", str(tmp_path / "site.toml")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert result.returncode == 2 and reason in result.stderr and "Traceback" not in result.stderr, result


# --- units ----------------------------------------------------------------------------------------------------------


def test_alaw_round_trip():
    assert alaw.encode(alaw.decode(bytes(range(256)))) == bytes(range(256))
    all_samples = np.arange(-32768, 32768).astype(np.int16)
    error = np.abs(alaw.decode(alaw.encode(all_samples)).astype(int) - all_samples)
    assert (error <= np.maximum(8, np.abs(all_samples.astype(int)) // 31)).all()


def test_burst_assembler_orders_packets_and_replaces_lost_ones_with_silence():
    assembler = BurstAssembler()
    assembler.set_talker(1, "vest-1")
    first = 0xFFFFFF00  # the timestamp wraps around within the burst
    for k in (1, 0, 2, 4, 4):
        assert assembler.push(VoicePacket(1, 7, (first + k * 160) & 0xFFFFFFFF, bytes([k]) * 160)) is None
    burst = assembler.push(VoicePacket(1, 8, 0, bytes(160)))
    fields = burst.summary()
    assert fields["duration_s"] == 0.1 and fields["lost_s"] == 0.02 and fields["packets"] == 4
    assert fields["talker"] == "vest-1"
    samples = burst.samples()
    for k in (0, 1, 2, 4):
        assert (samples[k * 160 : k * 160 + 160] == alaw.decode(bytes([k]))[0]).all()
    assert not samples[480:640].any()
    assert assembler.end(1).ssrc == 8 and assembler.end(1) is None


def test_playout_mixer_orders_and_mixes_packets_and_drops_late_ones():
    mixer = PlayoutMixer()
    loud = alaw.encode(np.full(160, 4000, np.int16))
    level = int(alaw.decode(loud)[0])
    mixer.push(VoicePacket(1, 7, 1000 + 160, loud))
    mixer.push(VoicePacket(1, 7, 1000, loud))
    mixer.push(VoicePacket(2, 9, 5, loud))
    played = np.concatenate([mixer.pull(160) for _ in range(10)])
    # Playout starts 160 ms after the first packet. The previous packet arrived in time. The other group is mixed in.
    assert (played[1120:1280] == level).all() and (played[1280:1440] == 2 * level).all() and not played[:1120].any()
    mixer.push(VoicePacket(1, 7, 1000 + 320, loud))
    assert not mixer.pull(1600).any()


def test_floor_table_lists_emergencies_first_without_control_characters():
    table = FloorTable("site")
    row = {
        "kind": "standing", "state": "taken", "talker": "vest-1", "since_ms": 0, "ends_ms": 30_000, "now_ms": 1000,
        "emergency": False, "broadcast": False, "queue": ["vest-2"], "packets": 97, "lost": 3,
    }  # fmt: skip
    table.update({**row, "group": 1, "name": "first\x1b[2J"})
    table.update({**row, "group": 2, "name": "second", "emergency": True})
    table.update({**row, "group": 3, "name": "vest-9", "kind": "private", "state": "idle"})
    console = Console(width=100, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(table)
    text = console.export_text()
    assert text.index("second") < text.index("first") and "vest-9" not in text and "\x1b" not in text
    assert "EMERGENCY" in text and "3 %" in text and "vest-2" in text and "29 s" in text


def test_missing_sound_library_is_an_error_that_names_its_package(monkeypatch, capsys, site):
    monkeypatch.setenv("PATROLINK_HUB_TOKEN", TOKEN)
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert main(["listen", "--hub", site.url]) == 3
    assert "pip install sounddevice" in capsys.readouterr().err
    assert main(["talk", "1", "--hub", site.url]) == 3
    assert "or name a file with --file" in capsys.readouterr().err
