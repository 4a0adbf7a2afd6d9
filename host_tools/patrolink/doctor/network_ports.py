"""Checks of the ports of broker and hub: which are in use, and by which program."""

import socket
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import psutil

from patrolink.doctor.finding import OK, PROBLEM, WARNING, Finding

_BROKERS = ("mosquitto", "amqtt", "emqx", "nanomq", "hivemq")
_HUB = "patrolink"


class NetworkPort(NamedTuple):
    """A port that a part of the system uses.

    Attributes:
        protocol: "tcp" or "udp".
        number: The port.
        owner: "broker" or "hub".
        required: Whether the owner cannot start without it.
    """

    protocol: str
    number: int
    owner: str
    required: bool = False


# Standard ports of MQTT; ports of the hub in `patrolink hub --example`.
DEFAULT_PORTS = (
    NetworkPort("tcp", 1883, "broker"),
    NetworkPort("tcp", 8883, "broker"),
    NetworkPort("tcp", 8080, "hub"),
    NetworkPort("tcp", 8081, "hub"),
    NetworkPort("udp", 5004, "hub"),
    NetworkPort("udp", 5006, "hub"),
    NetworkPort("udp", 5008, "hub"),
)


def check_ports(ports: Iterable[NetworkPort], users: Mapping[tuple[str, int], str]) -> list[Finding]:
    """Return a finding for each port in use, and one for all free ports.

    Args:
        ports: The ports.
        users: (protocol, port) -> command line of the program that listens on it, with its process id.
    """
    findings, free = [], []
    for port in ports:
        user = users.get((port.protocol, port.number))
        name = f"{port.protocol} {port.number}"
        if user is None:
            free.append(name)
        elif any(word in user for word in (_BROKERS if port.owner == "broker" else (_HUB,))):
            findings.append(Finding(OK, "port", f"{name}: {port.owner}, {user}"))
        else:
            level = PROBLEM if port.required else WARNING
            fix = f"end that program, or give the {port.owner} another port"
            findings.append(Finding(level, "port", f"{name}, a port of the {port.owner}, is in use by {user}", fix))
    if free:
        findings.append(Finding(OK, "port", f"free: {', '.join(free)}"))
    return findings


def users(ports: Iterable[NetworkPort]) -> dict[tuple[str, int], str]:
    """Return (protocol, port) -> program of each port in use on this machine.

    Programs of other users are shown to root only. macOS shows no connections of other programs: there each port is
    tried, and its program is unknown.

    Args:
        ports: The ports of interest.
    """
    try:
        connections = psutil.net_connections("inet")
    except psutil.AccessDenied:
        return {(port.protocol, port.number): "an unknown program" for port in ports if _is_bound(port)}
    programs: dict[tuple[str, int], str] = {}
    for connection in connections:
        if connection.laddr and (connection.type == socket.SOCK_DGRAM or connection.status == psutil.CONN_LISTEN):
            protocol = "udp" if connection.type == socket.SOCK_DGRAM else "tcp"
            programs.setdefault((protocol, connection.laddr.port), _program(connection.pid))
    return programs


def _is_bound(port: NetworkPort) -> bool:
    kind = socket.SOCK_DGRAM if port.protocol == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as test_socket:
        if kind == socket.SOCK_STREAM:
            test_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections do not count
        try:
            test_socket.bind(("127.0.0.1", port.number))
        except OSError:
            return True
    return False


def _program(pid: int | None) -> str:
    if pid is None:
        return "a program of another user"
    try:
        command = " ".join(psutil.Process(pid).cmdline())[:80]
    except psutil.Error:
        command = "unknown program"
    return f"{command} (process {pid})"
