"""Exit codes of connections: 3 for a server that refuses or is gone, 4 for one that does not answer."""

import os
import socket
import subprocess
import sys
import threading

import pytest
from patrolink.cli import main
from patrolink.hub.dispatch import client
from patrolink.transport import mqtt

from tests.support import hub_process, site_file
from tests.support.json_lines import records
from tests.support.site_file import TOKEN

# PORT stands for the port of the server.
HUB_VERBS = [
    ["talk", "1", "--file", "SPEECH", "--hub", "http://127.0.0.1:PORT"],
    ["listen", "--output", "OUT", "--hub", "http://127.0.0.1:PORT"],
    ["floor", "--hub", "http://127.0.0.1:PORT"],
    ["live", "vest-1", "--out", "OUT", "--hub", "http://127.0.0.1:PORT"],
    ["clip", "list", "http://127.0.0.1:PORT"],
    ["clip", "fetch", "http://127.0.0.1:PORT", "--out", "OUT"],
]
BROKER_VERBS = [
    ["monitor", "mqtt://127.0.0.1:PORT"],
    ["emulate", "--board", "linux", "--broker", "mqtt://127.0.0.1:PORT"],
    ["hub", "SITE"],
]
ALL = pytest.mark.parametrize("command", [*HUB_VERBS, *BROKER_VERBS], ids=lambda words: " ".join(words[:2]))


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Return a function that runs a command with a server's port; it returns exit code, output and errors."""
    monkeypatch.setenv("PATROLINK_HUB_TOKEN", "x" * 43)
    monkeypatch.chdir(tmp_path)

    def run(command: list[str], port: int) -> tuple[int, str, str]:
        (tmp_path / "keys.toml").write_text("[devices]\n")
        (tmp_path / "keys.toml").chmod(0o600)
        url, ports = f"mqtt://127.0.0.1:{port}", hub_process.free_ports(2)
        site = site_file.SITE_TEMPLATE.format(url=url, ports=ports, top="", hub="", groups="")
        (tmp_path / "site.toml").write_text(site)
        write_silence(tmp_path / "speech.wav")
        values = {"PORT": str(port), "OUT": "out.mp4" if "live" in command else "out.wav", "SPEECH": "speech.wav"}
        words = [*command, "--json"]
        for name, value in {**values, "SITE": "site.toml"}.items():
            words = [word.replace(name, value) for word in words]
        code = main(words)
        return code, *capsys.readouterr()

    return run


def write_silence(path) -> None:
    import wave

    with wave.open(str(path), "wb") as out:
        out.setparams((1, 2, 8000, 0, "NONE", ""))
        out.writeframes(bytes(1600))


@pytest.fixture
def server():
    """A TCP server; yields its port and a list of connections, which it accepts and leaves alone."""
    listener, connections = socket.create_server(("127.0.0.1", 0)), []

    def accept() -> None:
        try:
            while True:
                connections.append(listener.accept()[0])
        except OSError:
            return

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield listener.getsockname()[1], connections
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()
    for connection in connections:
        connection.close()


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@ALL
def test_a_refused_connection_is_a_server_error(run, command):
    code, out, err = run(command, closed_port())
    assert code == 3 and "no connection" in err and "Traceback" not in err, err
    error = records(out)[-1]
    assert error["record"] == "error" and error["exit_code"] == 3 and "no connection" in error["text"]


@ALL
def test_a_server_that_does_not_answer_is_a_timeout(run, server, command, monkeypatch):
    monkeypatch.setattr(client, "_TIMEOUT_S", 0.3)
    monkeypatch.setattr(mqtt, "_ANSWER_TIMEOUT_S", 0.3)
    code, out, err = run(command, server[0])
    limit = "10 s" if command[0] == "hub" else "0.3 s"  # the hub connects in processes of its own
    assert code == 4 and f"within {limit}" in err and "Traceback" not in err, err
    assert records(out)[-1]["exit_code"] == 4


def test_verbose_logs_connections_and_no_secrets(broker, site):
    secrets = {"PATROLINK_MQTT_PASSWORD": "hunter2-mqtt", "PATROLINK_HUB_TOKEN": TOKEN}
    environment = {**os.environ, **secrets}
    command = [sys.executable, "-m", "patrolink"]
    watched = subprocess.run(
        [*command, "monitor", broker.url.replace("//", "//duty@"), "--for", "0", "-vv"],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert "INFO patrolink.mqtt: connected to the broker 127.0.0.1:" in watched.stderr
    floors = subprocess.run(
        [*command, "floor", "--hub", site.url, "--for", "0", "-vv"], env=environment, capture_output=True, text=True
    )
    assert f"INFO patrolink.client: connected to the hub {site.url}" in floors.stderr
    for text in (watched.stdout, watched.stderr, floors.stdout, floors.stderr):
        assert not any(secret in text for secret in secrets.values())


def test_a_missing_serial_port_is_a_device_error(capsys):
    assert main(["monitor", "socket://127.0.0.1:1", "--json"]) == 3
    assert records(capsys.readouterr().out)[-1]["exit_code"] == 3
