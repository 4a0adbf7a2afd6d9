"""An MQTT broker on loopback: mosquitto if it is installed, otherwise amqtt."""

import contextlib
import importlib.metadata
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from patrolink.core.errors import DeviceError
from patrolink.emulator.boards.device import end_with_parent
from patrolink.emulator.network.certificates import Certificates

_START_S = 15.0
_MOSQUITTO = """per_listener_settings true
persistence false
max_queued_messages 100000
listener {port} 127.0.0.1
allow_anonymous {anonymous}
"""


class _Port:
    """A reserved port: bound but not listening, so that no other process gets it by chance before `close`."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # brokers set it too
        self._socket.bind(("127.0.0.1", 0))
        self.number: int = self._socket.getsockname()[1]
        self.close = self._socket.close


def _mosquitto() -> str | None:
    # Debian installs it outside the PATH of ordinary users.
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


class Broker:
    """A broker process, running from construction to `stop`.

    Attributes:
        name: Name and version of the broker.
        port: Port on 127.0.0.1.
        log: Path of its log.
    """

    def __init__(
        self, embedded: bool = False, tls: Certificates | None = None, passwords: dict[str, str] | None = None
    ) -> None:
        """Start the broker.

        With `tls` or `passwords` there is a second, open listener at `url` for observers on this machine.

        Args:
            embedded: Use amqtt even if mosquitto is installed.
            tls: Certificates of the listener; a client certificate in it is demanded (mosquitto only).
            passwords: Users that may connect, with their passwords (mosquitto only).

        Raises:
            DeviceError: The broker did not start, or mosquitto is needed and missing.
        """
        self._dir = tempfile.TemporaryDirectory(prefix="patrolink-broker-")
        self._ports = [_Port()]
        if tls or passwords:
            self._ports.append(_Port())
        self.port, self._inside = self._ports[0].number, self._ports[-1].number
        mosquitto = None if embedded else _mosquitto()
        config = Path(self._dir.name) / "config"
        self.log = Path(self._dir.name) / "log"
        if (tls or passwords) and not mosquitto:
            raise DeviceError("TLS and passwords need mosquitto; run: apt-get install mosquitto")
        if mosquitto:
            version = subprocess.run([mosquitto, "-h"], capture_output=True, text=True).stdout.split("\n")[0]
            self.name = "mosquitto " + version.rpartition(" ")[2]
            text = _MOSQUITTO.format(port=self.port, anonymous=str(not passwords).lower())
            if os.geteuid() == 0:
                text = "user root\n" + text  # otherwise mosquitto drops to a user that cannot read this folder
            if tls:
                text += f"certfile {tls.cert}\nkeyfile {tls.cert}\ncafile {tls.ca}\n"
                text += f"require_certificate {str(tls.client is not None).lower()}\n"
            if passwords:
                text += f"password_file {self._passwords(passwords)}\n"
            if self._inside != self.port:
                text += f"listener {self._inside} 127.0.0.1\nallow_anonymous true\n"
            config.write_text(text, encoding="utf-8")
            command = [mosquitto, "-c", str(config)]
        else:
            self.name = "amqtt " + importlib.metadata.version("amqtt")
            # JSON is YAML too.
            config.write_text(json.dumps(_amqtt_config(self.port)), encoding="utf-8")
            command = [sys.executable, "-m", "amqtt.scripts.broker_script", "-c", str(config)]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(end_with_parent(command), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._await()

    def _passwords(self, passwords: dict[str, str]) -> Path:
        path = Path(self._dir.name) / "passwords"
        path.write_text("".join(f"{user}:{word}\n" for user, word in passwords.items()), encoding="utf-8")
        tool = shutil.which("mosquitto_passwd") or "/usr/bin/mosquitto_passwd"
        subprocess.run([tool, "-U", str(path)], check=True, capture_output=True)
        return path

    def _await(self) -> None:
        deadline = time.monotonic() + _START_S
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                tail = self.log.read_text(errors="replace")[-500:].strip()
                self.stop()
                raise DeviceError(f"{self.name} did not start on port {self.port}; its log ends with: {tail}")
            time.sleep(0.05)

    @property
    def url(self) -> str:
        """URL for observers on this machine."""
        return f"mqtt://127.0.0.1:{self._inside}"

    def stop(self) -> None:
        """Stop the broker."""
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for port in self._ports:
            port.close()
        self._dir.cleanup()


def _amqtt_config(port: int) -> dict[str, object]:
    return {
        "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }
