"""Firmware under QEMU as a testee on a pipe with a virtual clock: the board runs in lock-step behind an AT modem.

Its flash chip is a file, which survives as the kit kills this process, and QEMU with it.
"""

import json
from pathlib import Path

from patrolink.core.boards import Board
from patrolink.core.keys import DeviceKey
from patrolink.emulator.boards import qemu
from patrolink.emulator.boards.lockstep import Lockstep
from patrolink.emulator.peripherals import flash
from patrolink.emulator.peripherals.modem import Modem
from patrolink.emulator.scenarios.environment import HOST
from patrolink.emulator.testee.virtual_site import CLOCKLESS, VirtualSite

_BYTE_MS = 10 * 1000 / 115200
_LIFE_S = 86_400.0  # wall time of one life; the kit ends a device that hangs sooner
_SEED = 1
_DARK_MS = 1000  # between a power cut and the next start
FIRMWARE = "firmware.elf"  # in the folder
CUT_LINE = "-- power cut at"  # and the time: in console.log


class VirtualFirmware(VirtualSite):
    """The testee.

    Args:
        board: Board with an image.
        folder: Folder of its flash chip.
        name: Device id.
        key: Its key.
        from_kit, to_kit: File descriptors of the pipe.
        cut: Number of flash operations after which the power is cut, once; -1 for never.
    """

    def __init__(
        self, board: Board, folder: Path, name: str, key: DeviceKey, from_kit: int, to_kit: int, cut: int = -1
    ) -> None:
        super().__init__(folder, name, from_kit, to_kit)
        assert board.image is not None and board.heap_kb is not None
        self._cut = cut
        self._network_has_time = not (folder / CLOCKLESS).exists()
        self._heap_kb, self._flash_kb = board.heap_kb, board.image.flash_kb
        self._modem = Modem(self.scheduler, self.network, "quectel", _SEED, self._from_modem, self._network_ms)
        self._console = (folder / "console.log").open("ab", buffering=0)
        self._link = Lockstep(board, folder, self.scheduler, _LIFE_S, folder / FIRMWARE)
        self._link.on_bytes = {
            qemu.CONSOLE_UART: self._on_console,
            qemu.MODEM_UART: self._modem.feed,
            qemu.PANEL_UART: self._on_pins,
        }
        wiring = {"broker": {"host": HOST, "port": 1883}, "modem": {"apn": "cmnet"}}
        config = {"device": name, "key": key.secret.hex(), "key_epoch": key.epoch, **wiring, **self.settings()}
        content = json.dumps(qemu.wired_config(board, config)).encode()
        flash.provision(folder / "flash.bin", self._flash_kb, "/config.json", content)

    def _network_ms(self) -> int:
        """Return the time of day that the network gives, or its begin."""
        return self.clock.unix_ms() if self._network_has_time else 0

    def _from_modem(self, data: bytes) -> None:
        self._link.deliver(qemu.MODEM_UART, data)

    def _on_console(self, data: bytes) -> None:
        self._console.write(data)

    def _on_pins(self, data: bytes) -> None:
        for pin in data:
            if pin & 0x7F == qemu.PINS["reset"]:
                self._modem.set_reset(pin >> 7)

    def press(self, button: str) -> None:
        """See `VirtualSite.press`."""
        self._link.deliver(qemu.PANEL_UART, qemu.press_sequence(button))

    def send_sentences(self, data: bytes) -> None:
        """Deliver each sentence when its last byte has passed the line."""
        when = self.scheduler.now
        for line in data.splitlines(keepends=True):
            when += len(line) * _BYTE_MS
            self.scheduler.at(when, lambda line=line: self._link.deliver(qemu.GPS_UART, line))  # type: ignore[misc]

    def power_on(self) -> None:
        """See `VirtualSite.power_on`: returns when the board has switched itself off."""
        while True:
            straps = qemu.Straps(
                *(self._heap_kb, self._flash_kb, self._name, self.clock.unix_ms() // 1000, _SEED),
                lockstep=True,
                cut=self._cut,
            )
            self._cut = -1
            self._modem.start()
            if self._link.life(straps) != qemu.POWER_CUT:
                return
            self._console.write(f"{CUT_LINE} {self.scheduler.now:.0f} ms\n".encode())
            self.scheduler.run_until(self.scheduler.now + _DARK_MS)
