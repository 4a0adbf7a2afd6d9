"""Datagrams of a live view while the session runs, through the emulated modem in virtual time.

A fault must not lose a frame of the session, and datagrams must be sent again after it.
"""

import pytest
from patrolink.emulator.scenarios.outcome import NO_FAULTS
from patrolink.emulator.scenarios.simulation import Simulation

from tests.simulation import fault_matrix

PEER = "media.patrolink.example"
REPLY = b"+CEREG: 0\r\n"  # looks like a URC
SEND_INTERVAL_MS = 1000
HOURS = 23 / 60  # until ten minutes after the fault
FAULTS = [
    "nothing",
    "black hole: registered, no data passes",
    "no coverage",
    "handovers: gap of 1 s every 5 s",
    "data context lost every 60 s",
    "modem browns out every 90 s",
    "modem sends garbage",
    "corrupt: a byte in 2000 on the modem's line",
    "bytes dropped: one in 2000",
    "late and reordered URCs",
    "power cut, five times",
]


class DatagramSender:
    """Sends a datagram of 1000 bytes each second from the loops of the agent, and records received replies.

    It replaces `serve` of the device and `step` of the supervisor, and calls the original functions.
    """

    def __init__(self, sim, device) -> None:
        self._sim, self._device = sim, device
        self._socket = None
        self._due_ms = 0
        self._buf = bytearray(200)
        self._serve, self._step = device.serve, device.link.step
        device.serve = device.net.idle = self.serve
        device.link.step = self.step

    def step(self):
        """Open the socket. As in a live view, only the loop that runs the session does so."""
        device = self._device
        if self._socket is None and device.modem.pdp:
            try:
                self._socket = device.modem.udp(PEER, 5004)
            except OSError:
                self._sim.refused += 1
        return self._step()

    def serve(self):
        self._serve()
        udp, now_ms = self._socket, self._device.net.now_ms()
        if udp is None:
            return
        self._sim.queue_max = max(self._sim.queue_max, len(self._device.modem.at._queue))
        if now_ms >= self._due_ms and udp.ready():
            self._due_ms = now_ms + SEND_INTERVAL_MS
            udp.send(b"OK\r\n" + bytes(996))
            self._sim.sent += 1
        n = udp.recv_into(self._buf)
        if self._buf[:n] == REPLY:  # other data was damaged on the UART
            self._sim.replies_ms.append(self._sim.scheduler.now)


class EchoPeer:
    """Receives the datagrams, and replies to every third one."""

    def __init__(self, sim, connection) -> None:
        self._sim, self._connection = sim, connection

    def feed(self, data) -> None:
        self._sim.arrived += len(data) == 1000
        if self._sim.arrived % 3 == 0:
            self._connection.down(REPLY)

    def close(self) -> None:
        pass

    remote_closed = close


class DatagramSimulation(Simulation):
    """Simulation with a DatagramSender.

    Attributes:
        sent: datagrams sent.
        arrived: datagrams received by the peer.
        refused: failed attempts to open the socket.
        queue_max: longest queue of the AT channel.
        replies_ms: when the replies were received.
    """

    sent = arrived = refused = queue_max = 0

    def __init__(self, *args, **kwargs) -> None:
        self.replies_ms: list[float] = []
        super().__init__(*args, **kwargs)
        self.listeners["UDP", PEER, 5004] = lambda connection: EchoPeer(self, connection)

    def _watch(self, device) -> None:
        super()._watch(device)
        DatagramSender(self, device)


@pytest.mark.parametrize("dialect", ["quectel", "simcom"])
@pytest.mark.parametrize("name", FAULTS)
def test_datagrams_do_not_affect_the_session_and_recover_from_faults(name, dialect):
    sim = DatagramSimulation(fault_matrix.PLAIN, 1, dialect, NO_FAULTS, name=name)
    fault_matrix.FAULTS[name](sim)
    sim.scheduler.at(fault_matrix.SOS_MS, sim.press_sos)
    report = sim.run(HOURS)
    context = (name, dialect, report, sim.sent, sim.arrived, "\n".join(list(sim.log)[-40:]))
    assert report.clean and report.rejected == 0, context
    assert report.watchdog_resets == report.board_resets == 0, context
    assert report.events == 1 and report.event_max_s < 300 + 30, context
    # At most two datagrams, a read, the close and the open of a socket, and one command of a stream.
    assert sim.queue_max <= 6, context
    before = [ms for ms in sim.replies_ms if ms < fault_matrix.BEGIN]
    after = [ms for ms in sim.replies_ms if ms > fault_matrix.END + 5 * fault_matrix.MINUTE]
    assert len(before) > 50 and len(after) > 60, (len(before), len(after), *context)
    if name == "nothing":
        assert report.reconnects == 0 and report.event_max_s < 1, context
        assert sim.arrived == sim.sent > 1200, context
