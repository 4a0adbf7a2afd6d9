"""The emulated headset and the network between devices and a hub, in real time."""

import contextlib
import os
import socket
import statistics
import struct
import time

import pytest
from patrolink.emulator.network.carrier import PROFILES, Profile
from patrolink.emulator.network.tcp_gate import TcpGate
from patrolink.emulator.network.udp_gate import HOST, UdpGate
from patrolink.emulator.peripherals.headset import Headset

from tests.support.hub_process import free_ports
from tests.support.polling import TIMEOUT_S, wait_until

EVEN = Profile(40, 0, 0.0, 10_000, 10_000)


class Echo:
    """Floor and media sockets of a hub, and of a device on the other side of the gate."""

    def __init__(self, profile: Profile) -> None:
        self.ports = free_ports(2)
        self.hub = [self.listen(port) for port in self.ports]
        self.gate = UdpGate(self.ports, profile, 1)
        self.device = [self.dial(port) for port in self.ports]

    @staticmethod
    def listen(port: int) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", port))
        sock.settimeout(TIMEOUT_S)
        return sock

    @staticmethod
    def dial(port: int) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.connect((HOST, port))
        sock.settimeout(TIMEOUT_S)
        return sock

    def close(self) -> None:
        self.gate.close()
        for sock in (*self.hub, *self.device):
            sock.close()


@pytest.fixture
def echo():
    pairs = []

    def make(profile):
        pairs.append(Echo(profile))
        return pairs[-1]

    yield make
    for pair in pairs:
        pair.close()


def report(ssrc: int) -> bytes:
    return struct.pack(">BBHI", 0x80, 201, 1, ssrc)


def test_two_flows_of_one_device_share_a_radio_and_another_has_its_own(echo):
    pair = echo(EVEN)
    other = pair.dial(pair.ports[0])
    for sock, ssrc in ((pair.device[0], 7), (pair.device[1], 7), (other, 8)):
        sock.send(report(ssrc))
    sources = [pair.hub[0].recvfrom(100)[1], pair.hub[1].recvfrom(100)[1], pair.hub[0].recvfrom(100)[1]]
    assert len(set(sources)) == 3 and [len(radio.flows) for radio in pair.gate.radios] == [2, 1]
    with pair.gate.locked():
        pair.gate.radios[0].network.outage(60_000)
    pair.device[0].send(report(7))
    pair.device[1].send(report(7))
    other.send(report(8))
    assert pair.hub[0].recvfrom(100)[1] == sources[2]
    for sock in pair.hub:
        sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            sock.recv(100)
    other.close()


def test_new_source_port_and_hub_restart(echo):
    pair = echo(EVEN)
    pair.device[0].send(report(7))
    before = pair.hub[0].recvfrom(100)[1]
    pair.hub[0].close()
    pair.device[0].send(b"lost")
    time.sleep(0.1)
    pair.hub[0] = pair.listen(pair.ports[0])
    pair.device[0].send(report(7))
    assert pair.hub[0].recvfrom(100)[1] == before
    with pair.gate.locked():
        pair.gate.radios[0].rebind()
    pair.device[0].send(report(7))
    data, after = pair.hub[0].recvfrom(100)
    assert after != before
    pair.hub[0].sendto(b"to the old one", before)
    pair.hub[0].sendto(b"to the new one", after)
    assert pair.device[0].recv(100) == b"to the new one"


def test_delay_follows_profile_and_idle_radio_adds_promotion(echo):
    pair = echo(PROFILES["city"])
    pair.device[0].send(report(7))
    pair.hub[0].recv(100)
    times = []
    pair.hub[0].settimeout(2)
    for ssrc in range(100, 140):
        start = time.monotonic()
        pair.device[0].send(report(ssrc))
        with contextlib.suppress(TimeoutError):
            while pair.hub[0].recv(100) != report(ssrc):
                pass  # a late datagram
            times.append((time.monotonic() - start) * 1000)
    assert min(times) > 49 and statistics.median(times) > 60 and len(times) > 20, times
    with pair.gate.locked():
        network = pair.gate.radios[0].network
        network.promotion_ms = 260
        network.profile = EVEN
        network.sleep()
    times = []
    pair.hub[0].settimeout(TIMEOUT_S)
    for ssrc in range(200, 205):
        start = time.monotonic()
        pair.device[0].send(report(ssrc))
        while pair.hub[0].recv(100) != report(ssrc):
            pass
        times.append((time.monotonic() - start) * 1000)
    assert times[0] > 278 > min(times[1:]) > 18, times


def test_tcp_and_datagrams_of_a_device_share_one_queue(echo):
    pair = echo(Profile(40, 0, 0.0, 400, 10_000))
    with socket.create_server(("127.0.0.1", 0)) as hub:
        port = hub.getsockname()[1]
        gate = TcpGate(pair.gate, port, lambda: pair.gate.radios[0] if pair.gate.radios else None)
        with socket.create_connection((HOST, gate.port)) as early:
            assert early.recv(1) == b""  # no radio is known for it yet
        pair.device[0].send(report(7))
        pair.hub[0].recv(100)
        with socket.create_connection((HOST, gate.port)) as device, hub.accept()[0] as far:
            sent = bytes(range(200)) * 150
            far.settimeout(TIMEOUT_S)
            behind = []
            while not behind or (min(behind) > 800 and len(behind) < 30):  # other processes of the machine add to it
                start = time.monotonic()
                device.sendall(sent)
                time.sleep(0.05)
                pair.device[0].send(report(7))
                pair.hub[0].recv(100)
                behind.append((time.monotonic() - start) * 1000)
                assert far.recv(len(sent), socket.MSG_WAITALL) == sent
            assert 600 < min(behind) < 800, behind  # 30 kB at 400 kbit/s, and half of 40 ms
            far.sendall(b"answer")
            assert device.recv(100) == b"answer"
            device.sendall(4 * sent)
            time.sleep(0.1)
            gate.cut()
            assert len(far.recv(4 * len(sent), socket.MSG_WAITALL)) < 2 * len(sent)
            with contextlib.suppress(ConnectionResetError):  # the gate had not read everything
                assert device.recv(1) == b""
        gate.close()


def test_headset_speaks_while_open_and_timestamps_playback():
    headset = Headset()
    try:
        samples = bytes(range(250)) * 16
        headset.speak(samples, 0.05)
        fd = os.open(headset.mic, os.O_RDWR | os.O_NOCTTY)
        opened, got = time.monotonic(), b""
        while len(got) < 800 + len(samples):
            got += os.read(fd, 4096)
        spent = time.monotonic() - opened
        os.close(fd)
        assert got[:800] == bytes(800) and got[800 : 800 + len(samples)] == samples
        assert spent > 0.29
        before = time.monotonic()
        fd = os.open(headset.speaker, os.O_RDWR | os.O_NOCTTY)
        os.write(fd, b"\1\2" * 80)
        wait_until(lambda: sum(len(data) for _, data in headset.played) >= 160)
        os.close(fd)
        assert b"".join(data for _, data in headset.played) == b"\1\2" * 80
        assert headset.played[0][0] >= before
    finally:
        headset.close()
