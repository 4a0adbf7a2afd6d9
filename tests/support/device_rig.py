"""A device on a board with receiver and modem, a proxy to a real broker, and a subscriber."""

import contextlib
import itertools
import time
from dataclasses import replace
from typing import Any

from patrolink.core import boards, keys, tracks
from patrolink.core.decoder import Decoder
from patrolink.core.keys import DeviceKey
from patrolink.emulator.boards.process_device import Device, boot
from patrolink.emulator.network.broker import Broker
from patrolink.emulator.network.carrier import PROFILES
from patrolink.emulator.peripherals.gps_receiver import GpsReceiver
from patrolink.emulator.peripherals.modem_port import ModemPort
from patrolink.transport.mqtt import MqttTransport

from tests.support.paths import GOLDEN
from tests.support.polling import TIMEOUT_S
from tests.support.tcp_proxy import TcpProxy

WALK = GOLDEN / "tracks" / "walk-1hz.csv"


def walk(n: int) -> list[tracks.TrackPoint]:
    """Return n points at 1 Hz. The recorded walk is repeated in alternating directions."""
    points = tracks.read(WALK)
    loop = itertools.cycle(points + points[::-1])
    start = points[0].time_ms
    return [replace(p, time_ms=start + 1000 * i) for i, p in zip(range(n), loop, strict=False)]


class DeviceRig:
    """A device, its receiver, a proxy to the broker, and a subscriber at the broker."""

    def __init__(
        self, tmp_path, board: str, broker: Broker, epochs, speed: float, modem="", login=None, **config
    ) -> None:
        self.login = login or {}
        self.tmp_path, self.board, self.config = tmp_path, boards.find(board), config
        self.device_id = f"rig-{time.monotonic_ns() % 1_000_000_000}"
        self.key = keys.create(tmp_path / "keys.toml", self.device_id)
        self.decoder = Decoder({self.device_id: DeviceKey(self.key)})
        self.rows: list[dict] = []
        self.modem: ModemPort | None = None
        with contextlib.ExitStack() as self.stack:
            self.transport = MqttTransport(broker.url)
            self.stack.callback(self.transport.close)
            self.proxy = TcpProxy(broker.port)
            self.stack.callback(self.proxy.close)
            self.receiver = GpsReceiver(epochs, speed)
            self.stack.callback(self.receiver.close)
            self.config = {"gps_uart": self.connect("gps", self.receiver.path), **config}
            if modem:
                self.modem = ModemPort(tmp_path / "modem", modem, PROFILES["city"], 1)
                self.stack.callback(self.modem.close)
                uart = self.connect("modem", self.modem.path)
                self.config["modem"] = {"uart": uart, "apn": "cmnet", "reset_pin": str(self.modem.reset_pin)}
            self.device = self.boot()
            self.stack = self.stack.pop_all()

    def connect(self, name: str, path: str) -> Any:
        """Return the path at which the device opens the line whose other end is `path`."""
        return path

    def power_on(self, config: dict[str, Any]) -> Device:
        """Power the board on with this configuration."""
        return boot(self.board, self.tmp_path / "device", config)

    def boot(self) -> Device:
        """Power the device on with the storage of its previous run, and return it."""
        config = {"device": self.device_id, "key": self.key.hex(), **self.config}
        config["broker"] = {"host": "127.0.0.1", "port": self.proxy.port, **self.login}
        device = self.power_on(config)
        self.stack.callback(device.kill)
        return device

    def cycle(self) -> None:
        """Power-cycle the device."""
        self.device.kill()
        self.device = self.boot()

    def input_consumed(self) -> bool:
        """Return whether the device has read all sentences of the receiver."""
        return self.receiver.done and self.receiver.drained()

    def listen(self, condition, seconds: float = TIMEOUT_S) -> None:
        """Receive frames until the condition holds."""
        deadline = time.monotonic() + seconds
        for record in self.transport.records():
            if record is not None and record.device == self.device_id:
                self.rows += self.decoder.rows(record)
            if condition():
                return
            assert time.monotonic() < deadline, self.device.log.read_text(errors="replace")

    def finish(self) -> dict:
        """Wait until the receiver has ended, power off, and wait for the last frame; return the device's summary."""
        self.listen(self.input_consumed, 1.5 * TIMEOUT_S)
        summary = self.device.power_off()
        self.listen(lambda: self.decoder.stats.frames - self.decoder.stats.duplicates >= summary["published"])
        return summary

    def times(self) -> list[str]:
        return [row["time"] for row in self.rows if row["record"] == "position"]
