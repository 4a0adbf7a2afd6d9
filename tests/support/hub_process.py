"""A hub as a process, and the network of device clients that use real sockets and a real broker session."""

import contextlib
import http.client
import json
import select
import signal
import socket
import subprocess
import sys
import time

import paho.mqtt.client as paho
from compat.netsock import TcpSocket
from paho.mqtt.enums import CallbackAPIVersion
from patrolink.core.clock import monotonic_ms
from patrolink.emulator.boards.device import end_with_parent
from patrolink.emulator.scenarios import control_room

from tests.support.polling import TIMEOUT_S, wait_until
from tests.support.site_file import write_site

_LOOPBACK = "127.0.0.1"


def free_ports(n: int) -> list[int]:
    """Return free UDP ports."""
    return control_room.free_ports(n, socket.SOCK_DGRAM)


class HubProcess:
    """`patrolink hub` with its files in a folder. It can be stopped, killed and restarted.

    Args:
        environment: Environment of the process; None: that of the tests.

    Attributes:
        ready: The hub's addresses, from its first line of output.
        counts: The hub's counts, after `stop`.
    """

    def __init__(self, folder, site: str, names, *options: str, environment: dict[str, str] | None = None) -> None:
        self.folder, self.options, self.environment = folder, options, environment
        write_site(folder, site, names)
        self.counts: dict = {}
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "patrolink", "hub", str(self.folder / "site.toml"), "--json", *self.options]
        self.log = (self.folder / "hub.log").open("ab")
        self.process = subprocess.Popen(  # in a session of its own, as a service manager starts it
            end_with_parent(command),
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env=self.environment,
            start_new_session=True,
        )
        line = self.process.stdout.readline()
        assert line, (self.folder / "hub.log").read_text()
        self.ready = json.loads(line)

    def stop(self) -> dict:
        """Stop the hub by SIGTERM and return its counts."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        out, _ = self.process.communicate(timeout=TIMEOUT_S)
        self.log.close()
        assert self.process.returncode == 0, (self.folder / "hub.log").read_text()
        self.counts = json.loads(out.splitlines()[-1])
        return self.counts

    def kill(self) -> None:
        """Kill the hub, if it runs."""
        self.process.kill()
        self.process.communicate()
        self.log.close()


class ProvisionedHub(HubProcess):
    """A hub with the files of a provisioned site."""

    def __init__(self, folder) -> None:
        self.folder, self.options, self.environment, self.counts = folder, (), None, {}
        self.start()


class LoopbackNetwork:
    """Sockets on loopback and sessions of a real broker, for `DeviceClient`.

    Args:
        broker_port: Port of the broker; 0: no device has a session.
    """

    def __init__(self, broker_port: int = 0) -> None:
        self._broker_port = broker_port

    def now_ms(self) -> int:
        return monotonic_ms()

    def unix_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def udp_socket(self) -> socket.socket:
        """Return a non-blocking socket with an address."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((_LOOPBACK, 0))
        sock.setblocking(False)
        return sock

    def open_session(self, name: str, on_frame) -> "MqttSession":
        """Return a session of a device with the broker."""
        return MqttSession(name, self._broker_port, on_frame)

    def connect_tcp(self, port: int) -> socket.socket:
        """Return a connected socket."""
        return socket.create_connection((_LOOPBACK, port), timeout=TIMEOUT_S)

    def tcp_stream(self, net) -> TcpSocket:
        """Return a TCP stream of a device."""
        return TcpSocket(net)

    def http_get(self, port: int, path: str, **headers: str):
        """Send a GET request, and return status, headers and body of the response."""
        connection = http.client.HTTPConnection(_LOOPBACK, port, timeout=TIMEOUT_S)
        with contextlib.closing(connection):
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            return response.status, response.headers, response.read()

    def sleep_ms(self, ms: float) -> None:
        time.sleep(ms / 1000)

    def run_until(self, condition, message="", seconds: float = TIMEOUT_S):
        """Wait until `condition()` is true, and return its value."""
        return wait_until(condition, message, seconds)

    def wait(self, clients) -> None:
        """Wait for packets, for a short time."""
        select.select([sock for client in clients for sock in (client.udp, client.media)], [], [], 0.005)


class MqttSession:
    """Session of a device with a real broker.

    Args:
        name: Name of the device.
        port: Port of the broker.
        on_frame: Called in a thread with each frame to the device.
    """

    def __init__(self, name: str, port: int, on_frame) -> None:
        self._name = name
        self._mqtt = paho.Client(CallbackAPIVersion.VERSION2)
        self._mqtt.on_connect = lambda c, *_: c.subscribe(f"p/{name}/d", qos=1)
        self._subscribed = False
        self._mqtt.on_subscribe = self._on_subscribe
        self._mqtt.on_message = lambda c, u, m: on_frame(m.payload)
        self._mqtt.connect(_LOOPBACK, port)
        self._mqtt.loop_start()
        wait_until(lambda: self._subscribed, "no subscription")

    def _on_subscribe(self, *_) -> None:
        self._subscribed = True

    def subscribe(self) -> None:
        """Receive frames again."""
        self._subscribed = False
        self._mqtt.subscribe(f"p/{self._name}/d", qos=1)
        wait_until(lambda: self._subscribed, "no subscription")

    def unsubscribe(self) -> None:
        """Lose frames to the device."""
        self._mqtt.unsubscribe(f"p/{self._name}/d")

    def publish(self, data: bytes, retain: bool = False) -> None:
        """Publish a frame of the device."""
        self._mqtt.publish(f"p/{self._name}/u", data, qos=1, retain=retain)

    def close(self) -> None:
        self._mqtt.loop_stop()
        self._mqtt.disconnect()
