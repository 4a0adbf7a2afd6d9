"""A device on a board, its receiver and modem, a proxy to a real broker, and a listener there."""

import contextlib
import itertools
import time
from dataclasses import replace

from patrolink import boards, home, keys, tracks
from patrolink.decoding import Decoder
from patrolink.emulator.broker import Broker
from patrolink.emulator.device import Device, boot
from patrolink.emulator.gps import GpsReceiver
from patrolink.emulator.modem_port import ModemPort
from patrolink.emulator.network import PROFILES
from patrolink.keys import DeviceKey
from patrolink.transport.mqtt import MqttTransport

from tests.faults.proxy import Proxy

WALK = home.root() / "tests" / "golden" / "tracks" / "walk-1hz.csv"


def walk(n: int) -> list[tracks.Point]:
    """n points at 1 Hz: the recorded walk, there and back as often as it takes."""
    points = tracks.read(WALK)
    there_and_back = itertools.cycle(points + points[::-1])
    start = points[0].time_ms
    return [replace(p, time_ms=start + 1000 * i) for i, p in zip(range(n), there_and_back, strict=False)]


class Rig:
    """A device, its receiver, a proxy to the broker, and a listener at the broker."""

    def __init__(
        self, tmp_path, board: str, broker: Broker, epochs, speed: float, modem="", login=None, **config
    ) -> None:
        self.stack = contextlib.ExitStack()
        self.login = login or {}
        self.tmp_path, self.board, self.config = tmp_path, boards.find(board), config
        self.device_id = f"rig-{time.monotonic_ns() % 1_000_000_000}"
        self.key = keys.create(tmp_path / "keys.toml", self.device_id)
        self.decoder = Decoder({self.device_id: DeviceKey(self.key)})
        self.rows: list[dict] = []
        self.transport = MqttTransport(broker.url)
        self.stack.callback(self.transport.close)
        self.proxy = Proxy(broker.port)
        self.stack.callback(self.proxy.close)
        self.receiver = GpsReceiver(epochs, speed)
        self.stack.callback(self.receiver.close)
        self.modem = None
        if modem:
            self.modem = ModemPort(tmp_path / "modem", modem, PROFILES["city"], 1)
            self.stack.callback(self.modem.close)
            config["modem"] = {"uart": self.modem.path, "apn": "cmnet", "reset_pin": str(self.modem.reset_pin)}
            self.config = config
        self.device = self.boot()

    def boot(self) -> Device:
        config = {
            "device": self.device_id,
            "key": self.key.hex(),
            "gps_uart": self.receiver.path,
            **self.config,
        }
        config["broker"] = {"host": "127.0.0.1", "port": self.proxy.port, **self.login}
        device = boot(self.board, self.tmp_path / "device", config)
        self.stack.callback(device.kill)
        return device

    def listen(self, condition, seconds: float = 40) -> None:
        """Take in frames until the condition holds."""
        deadline = time.monotonic() + seconds
        for record in self.transport.records():
            if record is not None and record.device == self.device_id:
                self.rows += self.decoder.rows(record)
            if condition():
                return
            assert time.monotonic() < deadline, self.device.log.read_text()

    def finish(self) -> dict:
        """Play to the end, power off, and wait for the last frame."""
        self.listen(lambda: self.receiver.done and self.receiver.drained(), 90)
        told = self.device.power_off()
        self.listen(lambda: self.decoder.stats.frames - self.decoder.stats.duplicates >= told["published"])
        return told

    def times(self) -> list[str]:
        return [row["time"] for row in self.rows if row["message"] == "position"]
