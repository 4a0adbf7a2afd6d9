"""An emulated board as a lab would have it: its UARTs are ports of this machine, its power and buttons a command away.

usage: lab.py FOLDER              serve until standard input ends: console, gps and modem are ports in FOLDER
       lab.py FOLDER power on     turn its power, or with sos and off in its place a button, on or off

It knows nothing of who tests it; tests/hil/test_hardware.py names its ports in a hardware.toml.
"""

import select
import socket
import subprocess
import sys
import time
from pathlib import Path

UARTS = ("console", "gps", "modem")


def ask(folder: Path, request: str) -> int:
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(folder / "control"))
        s.sendall(request.encode() + b"\n")
        answer = s.makefile().readline().strip()
    if answer != "ok":
        print(f"error: {answer}", file=sys.stderr)
    return answer != "ok"


class Lab:
    """The board, off at first."""

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
            (folder / name).symlink_to(wire.pty(HOST, loose=True))

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
        for i, (_, far) in enumerate(pairs[:-1]):
            arguments += ["-chardev", f"socket,fd={far.fileno()},id=u{i}", "-serial", f"chardev:u{i}"]
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
            pass_fds=[far.fileno() for _, far in pairs],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # it warns of a network card without a peer at each start
        )
        for _, far in pairs:
            far.close()
        for (near, _), wire in zip(pairs[:-1], self._wires, strict=True):
            near.setblocking(False)
            wire.socket(BOARD, near.fileno(), near.close)
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
        """Do what is asked until standard input ends."""
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(self._folder / "control"))
            server.listen()
            print("ready", flush=True)
            try:
                while server in (ready := select.select([server, sys.stdin], [], [])[0]) and sys.stdin not in ready:
                    client, _ = server.accept()
                    with client, client.makefile("rw") as stream:
                        stream.write(self._do(*stream.readline().split()) + "\n")
            finally:
                self._off()
                for wire in self._wires:
                    wire.close()

    def _do(self, what: str, way: str) -> str:
        try:
            if what == "power":
                self.power(way == "on")
            else:
                self.button(what, way == "on")
        except (OSError, KeyError) as e:
            return f"{what} {way}: {e}"
        return "ok"


if __name__ == "__main__":
    if len(sys.argv) == 4:
        sys.exit(ask(Path(sys.argv[1]), " ".join(sys.argv[2:])))
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    Lab(Path(sys.argv[1])).serve()
