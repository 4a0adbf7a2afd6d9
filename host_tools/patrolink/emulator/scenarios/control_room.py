"""A control room on this machine: a broker, a site file with new keys, and the hub as a process."""

import contextlib
import json
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from patrolink.core import keys
from patrolink.core.errors import DeadlineError, DeviceError
from patrolink.emulator.boards.device import Device, end_with_parent
from patrolink.emulator.network.broker import Broker
from patrolink.hub import config

HOST = "127.0.0.1"
_ANSWER_S = 60  # for a hub that has a small part of a busy machine
_LOOK_S = 0.02
_PORTS = range(16384, 32768)  # below the ephemeral ports of Linux
_claimed: list[socket.socket] = []
_SITE = """name = "station.example"
keys = "keys.toml"
broker = "{broker}"
{top}
[[hub]]
host = "{host}"
listen = "127.0.0.1"
floor_port = {floor}
media_port = {media}
console = "127.0.0.1:{console}"
{hub}
[[group]]
id = 1
name = "call"

[[group.member]]
devices = {devices}
priority = 10
rights = ["talk", "emergency"]

[[dispatcher]]
name = "duty"
token_sha256 = "{token}"
priority = 200
"""


class ControlRoom:
    """A control room, running until the stack ends.

    Args:
        out: Folder for the site file, keys and logs.
        devices: Names of the devices.
        stack: Owner of the processes.
        host: Address of the hub in the devices' configuration.
        top: Additional lines at the top of the site file.
        hub: Additional lines of its [[hub]] table.

    Attributes:
        url: URL of the console.
        token: Token of the dispatcher.
    """

    def __init__(
        self,
        out: Path,
        names: Sequence[str],
        stack: contextlib.ExitStack,
        *options: str,
        host: str = HOST,
        top: str = "",
        hub: str = "",
    ) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self._out, self._stack = out, stack
        self.names = tuple(names)
        for folder in (out, *(out / name for name in names)):
            shutil.rmtree(
                folder / "state", ignore_errors=True
            )  # the keys are new, so state of an earlier run is worthless
        self.broker = Broker()
        stack.callback(self.broker.stop)
        self.floor, self.media = free_ports(2, socket.SOCK_DGRAM)
        (console,) = free_ports(1, socket.SOCK_STREAM)
        self.token = config.new_token()
        self.url = f"http://127.0.0.1:{console}"
        self.keys = {name: secrets.token_bytes(32) for name in names}
        keys.write(out / "keys.toml", self.keys)
        text = _SITE.format(
            broker=self.broker.url,
            host=host,
            floor=self.floor,
            media=self.media,
            console=console,
            devices=json.dumps(self.names),
            token=config.token_hash(self.token),
            top=top,
            hub=hub,
        )
        (out / "site.toml").write_text(text, encoding="utf-8")
        self._hub = self._start(options)

    def _start(self, options: Sequence[str]) -> "subprocess.Popen[str]":
        log = self._stack.enter_context((self._out / "hub.log").open("w"))
        command = [sys.executable, "-m", "patrolink", "hub", str(self._out / "site.toml"), "--json", *options]
        process = subprocess.Popen(end_with_parent(command), stdout=subprocess.PIPE, stderr=log, text=True)
        self._stack.callback(_end, process)
        assert process.stdout is not None
        if not process.stdout.readline():
            raise DeviceError(f"the hub did not start:\n{(self._out / 'hub.log').read_text()}")
        return process

    def ask(self, path: str) -> Any:
        """Return the JSON that the hub answers to a dispatcher."""
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {self.token}"})  # noqa: S310
        with urllib.request.urlopen(request, timeout=_ANSWER_S) as answer:  # noqa: S310
            return json.load(answer)

    def until(self, condition: Callable[[], Any], devices: Sequence[Device], seconds: float, why: str) -> None:
        """Wait for a condition.

        Raises:
            DeviceError: A device ended meanwhile.
            DeadlineError: The condition did not become true in time.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            for device in devices:
                device.check()
            if time.monotonic() > deadline:
                raise DeadlineError(f"{why} within {seconds:g} s; the consoles are in {self._out}")
            time.sleep(_LOOK_S)

    def end(self) -> dict[str, Any]:
        """Stop the hub and return its counters."""
        self._hub.send_signal(signal.SIGTERM)
        out, _ = self._hub.communicate(timeout=20)
        counts: dict[str, Any] = json.loads(out.splitlines()[-1])
        return counts


def free_ports(n: int, kind: socket.SocketKind) -> list[int]:
    """Return free loopback ports outside the ephemeral range (RFC 6335, 6), reserved among callers."""
    with contextlib.ExitStack() as stack:
        ports: list[int] = []
        while len(ports) < n:
            sock = stack.enter_context(socket.socket(socket.AF_INET, kind))
            port = _PORTS[secrets.randbelow(len(_PORTS))]
            with contextlib.suppress(OSError):
                sock.bind((HOST, port))
                _claim(port)
                ports.append(port)
        return ports


def _claim(port: int) -> None:
    """Reserve a port for this process until it exits, since the process that gets the port binds it later.

    The reservation is a name in the abstract namespace (unix(7)).

    Raises:
        OSError: Another process has reserved it.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        sock.bind(f"\0patrolink-port-{port}")
    except OSError:
        sock.close()
        raise
    _claimed.append(sock)


def _end(process: "subprocess.Popen[str]") -> None:
    if process.poll() is None:
        process.kill()
        process.communicate()
