"""A device in real time at a broker on loopback, as a testee: any board that can be emulated, with its receiver.

A board with firmware reaches the broker through the emulated modem, others through the network stack of this machine.
"""

import contextlib
import os
import select
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from patrolink.core.boards import Board
from patrolink.core.errors import DeadlineError, DeviceError
from patrolink.core.keys import DeviceKey
from patrolink.emulator.boards.device import Device
from patrolink.emulator.boards.process_device import boot
from patrolink.emulator.network.broker import Broker
from patrolink.emulator.network.carrier import PROFILES
from patrolink.emulator.peripherals.gps_receiver import GpsReceiver
from patrolink.emulator.peripherals.modem_port import ModemPort
from patrolink.emulator.scenarios.environment import walk
from patrolink.emulator.testee.buttons import Buttons

_LOOK_S = 0.2
_SESSION_S = 60
_SESSION_LINE = "link: session"
_SEED = 1


def _epochs() -> Iterator[tuple[float, bytes]]:
    """Yield epochs of a walk with the time of day, one a second."""
    epochs = walk()
    for second in range(1 << 30):
        yield second, epochs[second % len(epochs)].at(int(time.time()) * 1000)


class BrokerSite:
    """Broker, receiver and device, which has a session when this is constructed, until `close`.

    Args:
        board: The board.
        folder: Folder of the device's state, and of the FIFOs `buttons` and `done`: a line in the second one follows
            each line of the first one, when it is carried out.
        name: Device id.
        key: Its key.

    Attributes:
        target: The target for the kit.

    Raises:
        DeviceError: The device has ended.
        DeadlineError: It has no session in time.
    """

    def __init__(self, board: Board, folder: Path, name: str, key: DeviceKey) -> None:
        self._board, self._folder = board, folder
        with contextlib.ExitStack() as self._stack:
            broker = Broker()
            self._stack.callback(broker.stop)
            receiver = GpsReceiver(_epochs(), 1.0, board.gps.baud)
            self._stack.callback(receiver.close)
            self._config: dict[str, Any] = {
                "device": name,
                "key": key.secret.hex(),
                "key_epoch": key.epoch,
                "gps_uart": receiver.path,
                "broker": {"host": "127.0.0.1", "port": broker.port},
            }
            if board.image is not None:
                modem = ModemPort(folder / "modem", "quectel", PROFILES["city"], _SEED)
                self._stack.callback(modem.close)
                self._config["modem"] = {"uart": modem.path, "apn": "cmnet", "reset_pin": str(modem.reset_pin)}
            self._buttons = Buttons(folder / "buttons", self._press)
            self._stack.callback(self._buttons.close)
            self._done = _fifo(folder / "done")
            self._stack.callback(os.close, self._done)
            self._device: Device = boot(board, folder, self._config)
            self._stack.callback(lambda: self._device.kill())
            receiver.start()
            self._await_session()
            self.target = f"{broker.url}/{name}"
            self._stack = self._stack.pop_all()

    def _await_session(self) -> None:
        deadline_s = time.monotonic() + _SESSION_S
        while _SESSION_LINE not in self._device.console_text():
            self._device.check()
            if time.monotonic() > deadline_s:
                raise DeadlineError(
                    f"no session within {_SESSION_S} s; the console ends with:\n{self._device.console_tail()}"
                )
            time.sleep(_LOOK_S)

    def step(self) -> None:
        """Press buttons whose names arrive within a short time, and restart a device that has ended."""
        if select.select([self._buttons.fileno()], [], [], _LOOK_S)[0]:
            self._buttons.poll()
        try:
            if self._device.off():
                return  # by its power button
        except DeviceError:
            self._restart()

    def _press(self, button: str) -> None:
        if button == "restart":
            self._restart()
        else:
            with contextlib.suppress(DeviceError):  # it has just ended; `step` restarts it
                self._device.press(button)
        os.write(self._done, b"done\n")

    def _restart(self) -> None:
        self._device.kill()
        self._device = boot(self._board, self._folder, self._config)

    def close(self) -> None:
        """End the device and the broker."""
        self._stack.close()


def _fifo(path: Path) -> int:
    """Create a FIFO; return its descriptor."""
    path.unlink(missing_ok=True)
    os.mkfifo(path, 0o600)
    return os.open(path, os.O_RDWR | os.O_NONBLOCK)
