"""An emulated board that looks like a real one in a lab: its UARTs are ports, a command switches power and buttons.

usage: emulated_lab.py FOLDER                 run until standard input ends; the ports are FOLDER/console, gps and modem
       emulated_lab.py FOLDER SWITCH on|off   operate a switch: power, or the button sos or off

tests/hil/test_hardware.py lists the ports in a hardware.toml.
"""

import select
import socket
import subprocess
import sys
import time
from pathlib import Path

UARTS = ("console", "gps", "modem")


def send_request(folder: Path, request: str) -> int:
    """Send a request to the running lab and return the exit code."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(folder / "control"))
        s.sendall(request.encode() + b"\n")
        answer = s.makefile().readline().strip()
    if answer != "ok":
        print(f"error: {answer}", file=sys.stderr)
    return answer != "ok"


class Lab:
    """The board and its ports. The board is off at first."""

    def __init__(self, folder: Path) -> None:
        from patrolink.core import boards
        from patrolink.emulator.boards import qemu

        from tests.hil.wire import BOTH, HOST, Wire

        self._qemu, self._folder = qemu, folder
        self._board = boards.find("mps2_an385")
        self._elf = qemu.build_image(self._board)
        self._process: subprocess.Popen[bytes] | None = None
        self._panel: socket.socket | None = None
        self._wires = [Wire(folder / f"{name}.log", BOTH) for name in UARTS]
        for name, wire in zip(UARTS, self._wires, strict=True):
            (folder / name).symlink_to(wire.pty(HOST, lossy=True))

    def power(self, on: bool) -> None:
        if on == (self._process is not None and self._process.poll() is None):
            return
        self._off()
        if not on:
            return
        from tests.hil.wire import BOARD

        assert self._board.image is not None and self._board.heap_kb is not None
        straps = self._qemu.Straps(self._board.heap_kb, self._board.image.flash_kb, "lab", int(time.time()), 1)
        pairs = [socket.socketpair() for _ in (*UARTS, "panel")]
        arguments: list[str] = []
        for i, (_, qemu_end) in enumerate(pairs[:-1]):
            arguments += ["-chardev", f"socket,fd={qemu_end.fileno()},id=u{i}", "-serial", f"chardev:u{i}"]
        arguments += [
            "-serial",
            "null",
            "-chardev",
            f"socket,fd={pairs[-1][1].fileno()},id=u4",
            "-serial",
            "chardev:u4",
        ]
        self._process = subprocess.Popen(
            [*self._qemu.command(self._board, self._elf, self._folder, straps), *arguments],
            cwd=self._folder,
            pass_fds=[qemu_end.fileno() for _, qemu_end in pairs],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # QEMU warns of an unconnected network card at each start
        )
        for _, qemu_end in pairs:
            qemu_end.close()
        for (lab_end, _), wire in zip(pairs[:-1], self._wires, strict=True):
            lab_end.setblocking(False)
            wire.socket(BOARD, lab_end.fileno(), lab_end.close)
        self._panel = pairs[-1][0]

    def button(self, name: str, on: bool) -> None:
        if self._panel is None:
            raise OSError("the board is off")
        self._panel.sendall(bytes((self._qemu.PINS[name] | (0 if on else 0x80),)))

    def _off(self) -> None:
        if self._process is not None and self._panel is not None:
            self._process.kill()
            self._process.wait()
            self._panel.close()
        self._process = self._panel = None

    def serve(self) -> None:
        """Execute requests until standard input ends."""
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(self._folder / "control"))
            server.listen()
            print("ready", flush=True)
            try:
                while server in (ready := select.select([server, sys.stdin], [], [])[0]) and sys.stdin not in ready:
                    client, _ = server.accept()
                    with client, client.makefile("rw") as stream:
                        stream.write(self._execute(*stream.readline().split()) + "\n")
            finally:
                self._off()
                for wire in self._wires:
                    wire.close()

    def _execute(self, switch: str, state: str) -> str:
        try:
            if switch == "power":
                self.power(state == "on")
            else:
                self.button(switch, state == "on")
        except (OSError, KeyError) as e:
            return f"{switch} {state}: {e}"
        return "ok"


if __name__ == "__main__":
    if len(sys.argv) == 4:
        sys.exit(send_request(Path(sys.argv[1]), " ".join(sys.argv[2:])))
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    Lab(Path(sys.argv[1])).serve()
