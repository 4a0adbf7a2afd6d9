"""`patrolink talk`, `listen` and `floor` as clients of a hub with devices, on virtual time."""

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
from patrolink.core.errors import UserError
from patrolink.report.floor_table import FloorTable
from patrolink_protocol import mcptt
from rich.console import Console

from tests.support import simulated_command, speaking_devices
from tests.support.console_site import ConsoleSite
from tests.support.json_lines import records, summary
from tests.support.polling import TIMEOUT_S
from tests.support.simulated_site import CONSOLE_PORT, CONSOLE_URL, SimulatedSite, site_text
from tests.support.site_file import CIRCLE, DEVICES, DISPATCHERS, GROUPS, HARBOUR, NIGHT, OTHER, TOKEN

commands = simulated_command.commands


@pytest.fixture(scope="module")
def speech_file(tmp_path_factory):
    """Write a stereo file of 2 s at 48 kHz; the network uses 8 kHz."""
    return write_speech(tmp_path_factory.mktemp("speech") / "speech.wav", 2)


@pytest.fixture(scope="module")
def long_speech_file(tmp_path_factory):
    return write_speech(tmp_path_factory.mktemp("speech") / "long.wav", 28)  # the limit of a burst is 30 s


def write_speech(path, seconds: float):
    samples = alaw.decode(b"".join(speaking_devices.speech(seconds)))
    with wave.open(str(path), "wb") as out:
        out.setparams((2, 2, 48_000, 0, "NONE", ""))
        out.writeframes(np.repeat(np.repeat(samples, 6), 2).astype("<i2").tobytes())
    return path


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    text = site_text(GROUPS + DISPATCHERS, hub=f'console = "127.0.0.1:{CONSOLE_PORT}"')
    simulated = SimulatedSite(tmp_path_factory.mktemp("site"), text, DEVICES)
    yield simulated
    simulated.close()


@pytest.fixture(scope="module")
def devices(site):
    return site.add_device(speaking_devices.SpeakingDevices(site, DEVICES))


def wait_connected(site: SimulatedSite) -> None:
    """Wait until one command is connected to the hub."""
    site.run_until(lambda: site.hub.status()["dispatchers"] == 1)


def test_talk_is_received_by_devices_and_listeners(site, commands, devices, speech_file, tmp_path):
    path = tmp_path / "received.wav"
    listener = commands.start("listen", "Harbour circle", "--output", str(path), "--count", "1", "--json", token=OTHER)
    assert site.run_until(lambda: listener.err) == "listening to Harbour circle\n"
    code, out, err = commands.run("talk", str(HARBOUR), "--file", str(speech_file), "--json")
    assert code == 0, err
    outcome = summary(out)
    assert outcome["result"] == "sent" and outcome["duration_s"] == pytest.approx(2, abs=0.02)
    assert outcome["granted_ms"] is not None
    code, out, err = listener.wait()
    assert code == 0, err
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


def test_queued_request_is_shown_and_times_out(site, commands, devices, speech_file):
    devices.talk("vest-4", CIRCLE)
    site.run_until(lambda: devices.membership("vest-4", CIRCLE).floor.audio_ssrc)
    code, out, err = commands.run("talk", str(CIRCLE), "--file", str(speech_file), "--wait", "0.5")
    assert code == 4 and "queued at position 1" in err and "result=timeout" in out
    talk = commands.start("talk", str(CIRCLE), "--file", str(speech_file), "--json")
    floor_process = commands.start("floor", "--json", token=OTHER)
    site.run_until(lambda: any(record["queue"] == ["duty"] for record in records(floor_process.out)))
    floor_process.send_signal(signal.SIGINT)
    assert floor_process.wait()[0] == 0
    site.run_for(1)
    devices.stop_talking("vest-4", CIRCLE)
    code, out, err = talk.wait()
    assert code == 0 and summary(out)["result"] == "sent" and summary(out)["granted_ms"] >= 1000, err


def test_revocation_by_an_emergency_sets_the_exit_code(site, commands, devices, speech_file):
    talk = commands.start("talk", "Old town, night", "--file", str(speech_file))
    site.run_until(lambda: devices.membership("vest-7", NIGHT).floor.talker == b"sip:duty@test.example")
    devices.talk("vest-7", NIGHT, 1, mcptt.EMERGENCY)
    code, out, err = talk.wait()
    assert code == 1 and "stopped: pre-empted" in err and "result=stopped" in out
    site.run_until(lambda: not devices.membership("vest-7", NIGHT).floor.audio_ssrc)


def test_a_broadcast_cannot_be_answered(site, commands, devices, speech_file, long_speech_file):
    talk = commands.start("talk", str(NIGHT), "--file", str(long_speech_file), "--broadcast")
    site.run_until(lambda: devices.membership("vest-7", NIGHT).floor.talker)
    code, out, err = commands.run("talk", str(NIGHT), "--file", str(speech_file), token=OTHER)
    assert code == 1 and "denied: only listening is permitted" in err and "result=denied" in out
    talk.send_signal(signal.SIGINT)
    assert talk.wait()[0] == 130
    site.run_until(lambda: not devices.membership("vest-7", NIGHT).floor.talker)


def test_floor_is_released_when_the_talker_is_killed(site, commands, devices, speech_file):
    talk = commands.start("talk", str(HARBOUR), "--file", str(speech_file))
    site.run_until(lambda: devices.membership("vest-1", HARBOUR).floor.talker)
    talk.kill()
    site.run_until(lambda: not devices.membership("vest-1", HARBOUR).floor.talker)


def test_floor_prints_changes(site, commands, devices):
    floor_process = commands.start("floor", "--count", "2")
    wait_connected(site)
    devices.talk("vest-2", HARBOUR, 0.5)
    code, out, _ = floor_process.wait()
    assert code == 0
    assert out.splitlines() == ["Harbour circle: taken vest-2", "Harbour circle: idle"]


def test_ctrl_c_ends_listen_with_a_complete_file(site, commands, devices, tmp_path):
    path = tmp_path / "received.wav"
    listener = commands.start("listen", "--output", str(path))
    site.run_until(lambda: listener.err)
    before = len(devices.received_voice("vest-1", HARBOUR))
    devices.talk("vest-2", HARBOUR, 60)
    site.run_until(lambda: len(devices.received_voice("vest-1", HARBOUR)) > before + 75)
    listener.send_signal(signal.SIGINT)
    code, out, err = listener.wait()
    devices.stop_talking("vest-2", HARBOUR)
    assert code == 0 and out.startswith("Harbour circle: vest-2, "), err
    with wave.open(str(path)) as wav:
        assert wav.getnframes() > 4000


def test_errors_are_reported_with_their_reason(commands, speech_file, tmp_path):
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
        returncode, out, err = commands.run(*arguments)
        assert returncode == code and reason in err and "Traceback" not in err, (arguments, out, err)


def test_unreachable_hub_and_rejected_login_are_errors(commands):
    for url, token, code, reason in (
        ("http://127.0.0.1:9", TOKEN, 3, "no connection"),
        ("http://192.0.2.1:8080", TOKEN, 2, "unencrypted"),
        ("ftp://127.0.0.1", TOKEN, 2, "not the address of a hub console"),
        ("nonsense", TOKEN, 2, "not the address of a hub console"),
        (CONSOLE_URL + "/nothing", TOKEN, 2, "not the address of a hub console"),
        (CONSOLE_URL, "", 2, "is not set"),
        (CONSOLE_URL, "wrong", 3, "is not known at this site"),
    ):
        returncode, _, err = commands.run("floor", hub=url, token=token)
        assert returncode == code and reason in err, (url, err)


def test_stopped_hub_is_reported(site, commands):
    floor_process = commands.start("floor")
    wait_connected(site)
    site.hub.stop()
    code, _, err = floor_process.wait()
    assert code == 3 and "the hub closed the connection" in err
    site.hub.start()


def test_tls_certificate_is_verified(tmp_path, broker, capfd, monkeypatch):
    """With a process and sockets: there is no TLS on virtual time."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    identity = authority.issue_cert("127.0.0.1")
    identity.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "console.pem"))
    console_options = 'console_certificate = "console.pem"\nconsole_key = "console.pem"\n'
    monkeypatch.setenv("PATROLINK_HUB_TOKEN", TOKEN)
    hub = ConsoleSite(tmp_path, broker, hub=console_options, tls=True)
    try:
        assert main(["floor", "--for", "0.1", "--hub", hub.url]) == 3
        err = capfd.readouterr().err
        assert "certificate is not trusted" in err and "SSL_CERT_FILE" in err
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))  # aiohttp reads it when it is imported
        command = [sys.executable, "-m", "patrolink", "floor", "--for", "0.1", "--hub", hub.url]
        subprocess.run(command, timeout=TIMEOUT_S, check=True)
        tls_context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        link = http.client.HTTPSConnection(hub.host, context=tls_context, timeout=TIMEOUT_S)
        link.request("POST", "/login", json.dumps({"token": TOKEN}), {"Origin": hub.url})
        answer = link.getresponse()
        assert answer.status == 204 and "Secure" in answer.headers["Set-Cookie"]
        assert "max-age" in answer.headers["Strict-Transport-Security"]
        link.close()
    finally:
        hub.process.stop()


@pytest.mark.parametrize(
    ("hub", "reason"),
    [
        ('console = "0.0.0.0:{port}"', "requires TLS"),
        ('console = "127.0.0.1:{port}"\nconsole_certificate = "no.pem"\nconsole_key = "no.pem"', "no.pem"),
        ('console = "127.0.0.1:{port}"\nconsole_certificate = "no.pem"', "belong together"),
        ('console = "no.such.host.invalid:{port}"', "no.such.host.invalid"),
    ],
)
def test_unsafe_console_is_not_started(tmp_path, hub, reason):
    text = site_text("", hub=hub.format(port=CONSOLE_PORT))
    with pytest.raises(UserError, match=reason):
        SimulatedSite(tmp_path, text, [])


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


def test_missing_sound_library_is_an_error_that_names_its_package(monkeypatch, commands):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    code, _, err = commands.run("listen")
    assert code == 3 and "pip install sounddevice" in err
    code, _, err = commands.run("talk", "1")
    assert code == 3 and "or name a file with --file" in err
