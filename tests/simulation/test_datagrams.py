"""Datagrams of a live view beside the session, through a modem on a virtual clock.

Whatever goes wrong costs none of the session's frames, and the datagrams go again afterwards.
"""

import pytest
from patrolink.emulator.scenarios.outcome import NO_FAULTS
from patrolink.emulator.scenarios.simulation import Simulation

from tests.simulation import fault_matrix

PEER = "media.patrolink.example"
EVERY_MS = 1000
FAULTS = [
    "nothing",
    "black hole: registered, nothing passes",
    "no coverage",
    "handovers: 1 s of nothing every 5 s",
    "data context lost every 60 s",
    "modem browns out every 90 s",
    "modem says garbage",
    "corrupt: a byte in 2000 on the modem's line",
    "bytes dropped: one in 2000",
    "late and overtaking URCs",
    "power cut, five times",
]


class Flow:
    """Datagrams of 1000 bytes from whatever loop the agent is in; their answers are short, as reports are."""

    def __init__(self, sim, device) -> None:
        self._sim, self._device = sim, device
        self._socket = None
        self._due = 0
        self._buf = bytearray(200)
        self._serve, self._step = device.serve, device.link.step
        device.serve = device.net.idle = self.serve
        device.link.step = self.step

    def step(self):
        """A view is begun from the loop that reads the session, and by nobody else."""
        device = self._device
        if self._socket is None and device.modem.pdp:
            try:
                self._socket = device.modem.udp(PEER, 5004)
            except OSError:
                self._sim.refused += 1
        return self._step()

    def serve(self):
        self._serve()
        udp, now = self._socket, self._device.now_ms()
        if udp is None:
            return
        self._sim.most = max(self._sim.most, len(self._device.modem.at._queue))
        if now >= self._due and udp.ready():
            self._due = now + EVERY_MS
            udp.send(b"OK\r\n" + bytes(996))
            self._sim.sent += 1
        n = udp.recv_into(self._buf)
        if self._buf[:n] == b"+CEREG: 0\r\n":  # else the line has spoilt it
            self._sim.came.append(self._sim.scheduler.now)


class Echo:
    def __init__(self, sim, connection) -> None:
        self._sim, self._connection = sim, connection

    def feed(self, data) -> None:
        self._sim.arrived += len(data) == 1000
        if self._sim.arrived % 3 == 0:
            self._connection.down(b"+CEREG: 0\r\n")

    def close(self) -> None:
        pass

    remote_closed = close


class Watched(Simulation):
    """most: commands that waited at the AT channel at once."""

    sent = arrived = refused = most = 0

    def _watch(self, device) -> None:
        super()._watch(device)
        Flow(self, device)


@pytest.mark.parametrize("dialect", ["quectel", "simcom"])
@pytest.mark.parametrize("name", FAULTS)
def test_a_flow_beside_the_session_costs_it_nothing_and_heals(name, dialect):
    sim = Watched(fault_matrix.PLAIN, 1, dialect, NO_FAULTS, name=name)
    sim.came = []
    sim.listeners["UDP", PEER, 5004] = lambda connection: Echo(sim, connection)
    fault_matrix.FAULTS[name](sim)
    sim.scheduler.at(15 * fault_matrix.MINUTE + 500, sim.press_sos)
    report = sim.run(0.5)
    told = (name, dialect, report, sim.sent, sim.arrived, "\n".join(list(sim.log)[-40:]))
    assert report.clean and report.rejected == 0, told
    assert report.watchdog_resets == report.board_resets == 0, told
    assert report.events == 1 and report.event_s_max < 300 + 30, told
    # At the most: a datagram, a farewell, a read, a socket's end and its opening, and one command of the streams'.
    assert sim.most <= 6, told
    before = [at for at in sim.came if at < fault_matrix.BEGIN]
    after = [at for at in sim.came if at > fault_matrix.END + 5 * fault_matrix.MINUTE]
    assert len(before) > 150 and len(after) > 60, (len(before), len(after), *told)
    if name == "nothing":
        assert report.reconnects == 0 and report.event_s_max < 1, told
        assert sim.arrived == sim.sent > 1500, told
