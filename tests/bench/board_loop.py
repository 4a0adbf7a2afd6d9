"""Measure how long the loop of the emulated Cortex-M3 pauses while it records, for bench_board.py.

The agent runs in lock-step with receiver, modem, network and a serial camera. It records, SOS is pressed, and the clip
is sealed. SOS is pressed again, and the power is cut during that clip. After the next boot, storage holds a truncated
segment and a clip without a seal.
"""

import json
from pathlib import Path
from typing import Any

from patrolink.core import boards
from patrolink.core.errors import DeviceError
from patrolink.emulator.boards import qemu
from patrolink.emulator.network.carrier import PROFILES
from patrolink.emulator.peripherals import flash
from patrolink.emulator.scenarios.shift import Shift

FOLDER = Path(__file__).resolve().parent
EVIDENCE = "036b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
CLIPS = {"evidence_key": EVIDENCE, "dir": "/clips", "quota_kb": 1024, "lock_kb": 768, "pre_s": 10, "post_s": 5}
PICTURE = b"\xff\xd8" + bytes(i * 7 & 127 for i in range(3996)) + b"\xff\xd9"
BAUD = 115200
CYCLES_PER_MS = 25_000
SOS_S = (30, 60)
CUT_S = 62.7
LAST_S = 15  # seconds of recording after the second boot
LOOP_PAUSE = "ms of loop pause at most, "


class Camera:
    """A VC0706 on the board's UART in virtual time: one picture, at the baud rate of the line."""

    def __init__(self, shift: Shift) -> None:
        self._shift = shift
        self._buffer = b""
        self._free_at = 0.0

    def feed(self, data: bytes) -> None:
        """Process bytes of commands."""
        self._buffer += data
        while len(self._buffer) >= 4 and len(self._buffer) >= 4 + self._buffer[3]:
            n = 4 + self._buffer[3]
            command, self._buffer = self._buffer[:n], self._buffer[n:]
            self._obey(command[2], command[4:])

    def _obey(self, command: int, data: bytes) -> None:
        head = bytes((0x76, 0, command, 0))
        if command == 0x34:
            self._send(head + b"\4" + len(PICTURE).to_bytes(4, "big"))
        elif command == 0x32:
            at, n = int.from_bytes(data[2:6], "big"), int.from_bytes(data[6:10], "big")
            self._send(head + b"\0" + PICTURE[at : at + n] + head + b"\0")
        else:
            self._send(head + b"\0")

    def _send(self, data: bytes) -> None:
        scheduler, link = self._shift.scheduler, self._shift.board_link
        self._free_at = max(self._free_at, scheduler.now)
        for i in range(0, len(data), 64):
            part = data[i : i + 64]
            self._free_at += len(part) * 10_000 / BAUD
            scheduler.at(self._free_at, lambda part=part: link.deliver(qemu.CAMERA_UART, part))  # type: ignore[misc]


class RecordingShift(Shift):
    """A shift with a camera.

    Attributes:
        phases: The rows that the driver printed, in order, before and after the power cut.
    """

    def __init__(self, board: boards.Board, seed: int = 1) -> None:
        camera: dict[str, Any] = {"camera": {"kind": "vc0706"}, "clips": CLIPS}
        super().__init__(board, PROFILES["city"], seed, name="city", heap_kb=board.heap(camera), settings=camera)
        self.board_link.on_bytes[qemu.CAMERA_UART] = Camera(self).feed
        self.phases: list[dict[str, Any]] = []

    def _on_console(self, data: bytes) -> None:
        super()._on_console(data)
        if bytes(self.console) == b">>> ":
            self.console.clear()
            if self.result.problems:
                raise DeviceError("the driver stopped; the console ends with:\n" + self._tail())
            self.board_link.deliver(qemu.CONSOLE_UART, b"import loop_driver\r\n")

    def on_console_line(self, line: str) -> None:
        """Process a line of the board's console; this board has no configuration until the driver runs."""
        if line.startswith("{") and '"phase"' in line:
            self.phases.append(json.loads(line))
        elif line.startswith("clips: recording") and self.scheduler.now > CUT_S * 1000:
            self.scheduler.after(LAST_S * 1000, lambda: self.press("off"))
        elif line.startswith("device: ready"):
            self._alive = True
        elif "Traceback" in line or line.startswith(("error:", "MemoryError", "camera:")):
            self.result.problems.append(line)

    def run_lives(self) -> None:
        """Run the board until the power cut and again after it."""
        assert self._board.image is not None
        self.begin(1)
        for name, content in (
            ("/patrol.json", json.dumps(self.config).encode()),
            ("/loop_driver.py", (FOLDER / "loop_driver.py").read_bytes()),
        ):
            flash.provision(self._chip, self._board.image.flash_kb, name, content)
        for at_s in SOS_S:
            self.scheduler.at(at_s * 1000, self.press_sos)
        self.scheduler.at(CUT_S * 1000, self.board_link.cut_power)
        with self._stack:
            while not self._done:
                self._life()


def measure_pauses(board: boards.Board) -> dict[str, float]:
    """Measure the pauses of the loop.

    Returns:
        The longest pause of each activity in ms without garbage collections, the longest collection, and the time from
        boot to recording in ms.
    """
    recording = RecordingShift(board)
    recording.run_lives()
    longest: dict[str, float] = {}
    for phase in recording.phases:
        longest[phase["phase"]] = max(longest.get(phase["phase"], 0.0), phase["most"] / CYCLES_PER_MS)
    boots = [phase["at"] / CYCLES_PER_MS for phase in recording.phases if phase["phase"] == "boot"]
    if recording.result.problems or len(boots) != 2 or "seal" not in longest:
        raise DeviceError("the recording failed; the console ends with:\n" + "\n".join(recording.log))
    out = {
        LOOP_PAUSE + "recovering a torn clip": longest["boot"],
        LOOP_PAUSE + "sealing a clip": longest["seal"],
        LOOP_PAUSE + "recording": max(longest["film"], longest["clip"]),
        LOOP_PAUSE + "collecting garbage": max(p.get("collection", 0) for p in recording.phases) / CYCLES_PER_MS,
        "ms from power-on to recording": boots[0],
        "ms from power-on to recording, with a torn clip": boots[1],
    }
    return {name: round(value, 1) for name, value in out.items()}
