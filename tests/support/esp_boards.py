"""Models of ESP32 boards, each on a PTY."""

import os
import select
import threading

from patrolink.emulator.peripherals.esp_rom import ESP32_MAGIC, EspRom, Faults
from patrolink.emulator.peripherals.serial_line import Line


class EspBoard:
    """A board in its loader, on the PTY `path`."""

    def __init__(self, number: int, faults: Faults | None = None, magic: int = ESP32_MAGIC) -> None:
        self._line = Line()
        self.path = self._line.path
        self.mac = bytes.fromhex("24 0a c4 00 00") + bytes([number])
        self.rom = EspRom(self.mac, self._send, magic, faults)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _send(self, data: bytes) -> None:
        while data:
            select.select([], [self._line.master], [], 1)
            try:
                data = data[os.write(self._line.master, data) :]
            except BlockingIOError:
                if self._stop.is_set():
                    return

    def _serve(self) -> None:
        while not self._stop.is_set():
            if select.select([self._line.master], [], [], 0.05)[0]:
                self.rom.feed(os.read(self._line.master, 1 << 16))

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._line.close()
