"""List what can be talked to: serial ports, and the boards that can be emulated."""

import argparse
import json
import sys

from patrolink import boards

HELP = "list serial ports and boards"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No options of its own."""


def run(args: argparse.Namespace) -> int:
    from serial.tools import list_ports

    ports = [
        {
            "port": p.device,
            "what": p.description,
            "usb_serial": p.serial_number,
            "usb_id": f"{p.vid:04x}:{p.pid:04x}" if p.vid is not None else None,
            # Boards come over USB; a port of the mainboard is often there with nothing behind it.
            "likely": p.vid is not None,
        }
        for p in sorted(list_ports.comports())
    ]
    known = [boards.find(name) for name in boards.names()]
    if args.json:
        print(json.dumps({"ports": ports, "boards": [b.model_dump() for b in known]}))
        return 0
    for port in ports:
        mark = "likely" if port["likely"] else ""
        print(f"{port['port']}  {port['what']}  {port['usb_id'] or ''}  {port['usb_serial'] or ''}  {mark}".rstrip())
    if not any(port["likely"] for port in ports):
        print(
            "no USB serial port found; plug a device in, and check that you may read its port (group dialout)",
            file=sys.stderr,
        )
    for board in known:
        heap = f", {board.heap_kb} KiB heap" if board.heap_kb else ""
        print(f"board {board.name}  {board.title} ({board.runtime}{heap}; {', '.join(board.features)})")
    return 0
