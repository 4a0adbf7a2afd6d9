"""List serial ports, with the USB device behind each."""

import argparse

from patrolink.core import notes
from patrolink.core.json_lines import print_record, print_summary
from patrolink.core.text import printable

EXAMPLES = ("patrolink devices",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments: none."""


def run(args: argparse.Namespace) -> int:
    """Run the verb and return its exit code."""
    from serial.tools import list_ports

    ports = [
        {
            "port": p.device,
            "description": p.description,
            "usb_serial": p.serial_number,
            "usb_id": f"{p.vid:04x}:{p.pid:04x}" if p.vid is not None else None,
            # Boards are connected by USB; a port of the mainboard often exists with nothing connected.
            "likely": p.vid is not None,
        }
        for p in sorted(list_ports.comports())
    ]
    if args.json:
        for port in ports:
            print_record("port", port)
        print_summary({"ports": len(ports)})
        return 0
    for port in ports:
        mark = "likely" if port["likely"] else ""
        line = f"{port['port']}  {port['description']}  {port['usb_id'] or ''}  {port['usb_serial'] or ''}  {mark}"
        print(printable(line.rstrip()))
    if not any(port["likely"] for port in ports):
        notes.note("no USB serial port found; connect a device, with a cable that carries data")
    return 0
