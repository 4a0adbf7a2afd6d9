"""Dissects captures with the generated dissector in tshark, and builds the packets that carry frames."""

import binascii
import json
import os
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cobs import cobs

from tests.support.paths import ROOT

SCRIPT = ROOT / "protocol" / "generated" / "patrolink.lua"
LINKTYPE_RAW_IP = 101
LINKTYPE_USER0 = 147  # frames behind a pseudo header
LINKTYPE_USER1 = 148  # bytes of a serial line
CONNECT = b"\x10\x12\0\4MQTT\4\0\0\x3c\0\6vest-1"  # of MQTT 3.1.1
_TIMEOUT_S = 200


def write_pcap(path: Path, packets: Sequence[bytes], linktype: int) -> Path:
    """Write a capture with one packet a second; return its path."""
    with path.open("wb") as out:
        out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, linktype))
        for i, packet in enumerate(packets):
            out.write(struct.pack("<IIII", 1_700_000_000 + i, 0, len(packet), len(packet)) + packet)
    return path


def pseudo(device: str, direction: int, frame: bytes) -> bytes:
    """Return a packet of LINKTYPE_USER0."""
    return bytes([direction, len(device)]) + device.encode() + frame


def serial(frame: bytes) -> bytes:
    """Return a frame as a serial packet."""
    packet: bytes = cobs.encode(frame + binascii.crc_hqx(frame, 0xFFFF).to_bytes(2, "big"))
    return packet + b"\0"


def publish(topic: str, payload: bytes, qos: int = 1) -> bytes:
    """Return a PUBLISH of MQTT 3.1.1."""
    body = len(topic).to_bytes(2, "big") + topic.encode() + (b"\0\1" if qos else b"") + payload
    length, size = b"", len(body)
    while True:
        length += bytes([size % 128 | (128 if size > 127 else 0)])
        size //= 128
        if not size:
            return bytes([0x30 | qos << 1]) + length + body


class Connection:
    """One direction of a TCP connection; `send` returns the IP packet of the next segment."""

    def __init__(self, source: tuple[str, int] = ("10.0.0.2", 50000), target: tuple[str, int] = ("10.0.0.1", 1883)):
        self._source, self._target = source, target
        self._sequence = 1

    def send(self, data: bytes) -> bytes:
        """Return the packet that continues the stream with `data`."""
        ports = struct.pack(">HH", self._source[1], self._target[1])
        tcp = ports + struct.pack(">IIBBHHH", self._sequence, 1, 0x50, 0x18, 8192, 0, 0) + data
        self._sequence += len(data)
        addresses = b"".join(bytes(map(int, host.split("."))) for host, _ in (self._source, self._target))
        return struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(tcp), 1, 0, 64, 6, 0) + addresses + tcp


def environment(home: Path) -> dict[str, str]:
    """Return the environment of Wireshark's programs without the settings of whoever runs the test."""
    return {**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config"), "LC_ALL": "C.UTF-8"}


def run(path: Path, *options: str) -> str:
    """Return what tshark prints for a capture.

    Raises:
        AssertionError: tshark failed, or the dissector had an error.
    """
    command = ["tshark", "-X", f"lua_script:{SCRIPT}", "-r", str(path), *options]
    process = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, env=environment(path.parent))
    assert process.returncode == 0, process.stderr
    assert "rror" not in process.stderr, process.stderr
    assert "Lua Error" not in process.stdout, process.stdout[process.stdout.find("Lua Error") :][:200]
    return process.stdout


def dissect(path: Path, *options: str) -> list[list[dict[str, Any]]]:
    """Return the Patrolink layers of each packet, from the JSON output of tshark."""
    packets = json.loads(run(path, *options, "-T", "json", "--no-duplicate-keys"))
    layers = (packet["_source"]["layers"].get("patrolink", []) for packet in packets)
    return [layer if isinstance(layer, list) else [layer] for layer in layers]


def with_keys(path: Path) -> tuple[str, str]:
    """Return the options that name a keys file."""
    return "-o", f"patrolink.keys:{path}"


def values(layer: Any, collected: dict[str, list[str]] | None = None) -> dict[str, list[str]]:
    """Return all fields of a layer: list of values by name."""
    collected = {} if collected is None else collected
    if isinstance(layer, dict):
        for name, value in layer.items():
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, (dict, list)):
                    values(item, collected)
                else:
                    collected.setdefault(name, []).append(item)
    elif isinstance(layer, list):
        for item in layer:
            values(item, collected)
    return collected


def expert_infos(layer: Any) -> list[str]:
    """Return the texts of the expert information of a layer."""
    return values(layer).get("_ws.expert.message", [])
