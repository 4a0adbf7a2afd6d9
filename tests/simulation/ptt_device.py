"""A device of the simulated talk group: the real floor participant with a minimal simulated environment.

The environment has datagrams with an index, a replay list, a keepalive, storage for counters, and a microphone that
produces a packet each FRAME_MS while the participant has permission.
"""

import random

from patrolink.emulator.network.carrier import Connection, Network
from patrolink_protocol import participant
from patrolink_protocol.srtp import ReplayList

FRAME_MS = 200  # longer than a real frame, for speed
HANG_MS = 200
KEEPALIVE_MS = 15_000
IDLE_POLLS_MAX = 20
LATE_MS = 2000  # a delayed repetition of Floor Granted restarts the talk time of the device
FLOOR, VOICE, KEEPALIVE = b"F", b"V", b"K"
OUTCOMES = {
    participant.GRANTED: "granted",
    participant.DENIED: "denied",
    participant.FAILED: "failed",
    participant.QUEUE_POSITION: "queued",
    participant.ABANDONED: "abandoned",
    participant.REVOKED: "revoked",
}
# Events that end a press; a granted or queued press continues to one of them.
FINAL_EVENTS = (
    participant.DENIED,
    participant.FAILED,
    participant.ABANDONED,
    participant.REVOKED,
    participant.RELEASED,
)


class InvariantError(AssertionError):
    """A rule of floor control is broken."""


class Press:
    """A press of the key and its outcomes."""

    def __init__(self, pressed_ms: float) -> None:
        self.pressed_ms = pressed_ms
        self.outcomes: list[str] = []
        self.ended = False


class SimulatedDevice:
    """One device of a ptt_group.GroupSimulation.

    Args:
        simulation: the GroupSimulation.
        number: number of the device in the group.
        rng: source of the device's properties and behaviour.

    Attributes:
        participant: the floor participant, None while the device has no power.
    """

    def __init__(self, simulation, number: int, rng: random.Random) -> None:
        self.simulation, self.name, self.rng = simulation, f"d{number}", rng
        rights = {"talk"} if number < 2 or rng.random() < 0.8 else set()
        rights |= {right for right in ("emergency", "broadcast") if rng.random() < 0.4}
        self.ssrc = 0x80000000 + number
        self.priority = rng.choice((0, 5, 5, 200, 255))
        self.rights = frozenset(rights)
        scheduler = simulation.scheduler
        self.network = Network(scheduler, simulation.make_profile(rng), rng.randrange(1 << 30), lambda *a: None)
        self.network.duplicate = rng.choice((0.0, 0.05))
        self.flows: dict[bytes, Connection] = {}
        self.index = rng.randrange(1 << 20)  # stored: continues after a power cut
        self.highest_ssrc = 0  # highest granted SSRC, stored; see agent.ptt.grant_log
        self.clock_ms = rng.randrange(1 << 40)
        self.participant: participant.Participant | None = None
        self.current_press: Press | None = None
        self.presses: list[Press] = []
        self.power_on()

    @property
    def user(self) -> bytes:
        return f"sip:{self.name}@site".encode()

    def now_ms(self) -> int:
        """Return the time on the monotonic clock of the device."""
        return self.clock_ms + int(self.simulation.scheduler.now)

    # --- power and sockets --------------------------------------------------------------------------------------------

    def power_on(self) -> None:
        self.clock_ms -= self.now_ms()  # a boot starts a new clock; some devices have been up for weeks
        self.clock_ms += self.rng.choice((0, 0, 1 << 29, 1 << 31))
        self.index += 1024
        self.boot = object()
        self.replay_list = ReplayList()
        self.sequence = 0
        self.voice_ssrc = 0
        self.granted_ms = 0.0
        self.used_ssrcs: set[int] = set()
        self.idle_polls = 0
        self.timer: object = None
        self.participant = self.simulation.make_participant(self.ssrc, self.user)
        self.rebind()
        self.run_keepalive(self.boot)

    def power_cut(self) -> None:
        self.participant = None
        if self.current_press is not None:
            self.current_press.outcomes.append("power cut")
            self.current_press.ended = True
            self.current_press = None

    def rebind(self) -> None:
        """Change the source ports. Datagrams to the old ones are lost."""
        for connection in self.flows.values():
            connection.close()
        for kind in (FLOOR, VOICE):
            connection = self.flows[kind] = Connection(self.network, "UDP")
            connection.remote = self.simulation.hub.make_flow(self, connection)
            connection.on_data = self.receive
            self.network.connections.add(connection)

    def send_keepalive(self) -> None:
        for kind in (FLOOR, VOICE):
            self.index += 1
            self.flows[kind].send(KEEPALIVE + self.index.to_bytes(8, "big"))

    def run_keepalive(self, boot: object) -> None:
        if self.participant is not None and boot is self.boot:
            self.send_keepalive()
            self.simulation.scheduler.after(KEEPALIVE_MS, lambda: self.run_keepalive(boot))

    def apply(self, effects: participant.Effects) -> None:
        """Send the datagrams of the floor participant and handle its events."""
        for datagram in effects.datagrams:
            self.index += 1
            self.simulation.trace_message(self.name, "hub", datagram)
            self.flows[FLOOR].send(FLOOR + self.index.to_bytes(8, "big") + datagram)
        for event in effects.events:
            self.on_event(event)
        if effects.error is not None:
            raise effects.error

    def receive(self, data: bytes) -> None:
        if self.participant is None:
            return
        if data[:1] == VOICE:
            self.participant.media_received(self.now_ms())
        else:
            index = int.from_bytes(data[1:9], "big")
            if not self.replay_list.is_new(index):
                return
            self.replay_list.add(index)
            self.simulation.trace_message("hub", self.name, data[9:], arrived=True)
            self.apply(self.participant.receive(data[9:], len(data) - 9, index, self.now_ms()))
        self.poll()

    def poll(self) -> None:
        """Run the timers of the participant, and schedule the next call for the next timer."""
        if self.participant is None:
            return
        self.apply(self.participant.poll(self.now_ms()))
        wait_ms = self.participant.next_timer_ms(self.now_ms())
        self.idle_polls = self.idle_polls + 1 if wait_ms == 0 else 0
        if self.idle_polls > IDLE_POLLS_MAX:
            raise InvariantError(f"{self.name} has a timer that is due and has no effect")
        self.timer = timer = object()
        if wait_ms is not None:
            self.simulation.scheduler.after(wait_ms, lambda: self.poll() if self.timer is timer else None)

    # --- key and microphone -------------------------------------------------------------------------------------------

    def press(self, indicator: int, hold_ms: float, priority: int = 0) -> None:
        """Hold the key for `hold_ms`."""
        floor = self.participant
        if floor is None or floor.key_down:
            return
        is_queued = floor.state == participant.QUEUED
        if not is_queued or self.current_press is None:
            self.current_press = Press(self.simulation.scheduler.now)
            self.presses.append(self.current_press)
        boot = self.boot
        self.apply(floor.press(self.now_ms(), priority, indicator))
        self.poll()
        self.voice_ssrc = 0
        self.simulation.scheduler.after(hold_ms + HANG_MS, lambda: self.release(boot))

    def release(self, boot: object) -> None:
        if self.participant is None or boot is not self.boot:
            return
        self.apply(self.participant.release(self.now_ms()))
        self.poll()
        if self.participant.state == participant.QUEUED and self.rng.random() < 0.3:
            self.apply(self.participant.cancel(self.now_ms()))
            self.poll()

    def on_event(self, event: int) -> None:
        self.simulation.events += 1
        press = self.current_press
        if event == participant.GRANTED:
            boot = self.boot
            self.granted_ms = self.simulation.scheduler.now
            self.simulation.scheduler.after(0, lambda: self.transmit(boot))
        if event in OUTCOMES or event == participant.RELEASED:
            if press is None:
                raise InvariantError(f"{self.name}: event {OUTCOMES.get(event, 'released')} without a press")
            if event in OUTCOMES:
                press.outcomes.append(OUTCOMES[event])
            if event in FINAL_EVENTS:
                press.ended = True
                self.current_press = None

    def transmit(self, boot: object) -> None:
        """Send a packet of voice, and schedule the next one, while the participant has permission."""
        floor = self.participant
        if floor is None or boot is not self.boot or floor.state != participant.HAS_PERMISSION:
            self.voice_ssrc = 0
            return
        if floor.audio_ssrc != self.voice_ssrc:
            self.voice_ssrc, self.sequence = floor.audio_ssrc, 0
            if self.voice_ssrc in self.used_ssrcs:
                raise InvariantError(f"{self.name} is granted SSRC {self.voice_ssrc} of an ended burst again")
            if self.voice_ssrc <= self.highest_ssrc:  # granted in an earlier boot
                self.apply(floor.release(self.now_ms()))
                return
            self.highest_ssrc = self.voice_ssrc
            self.used_ssrcs.add(self.voice_ssrc)
        self.sequence += 1
        rules = self.simulation.hub.rules
        talk_max_ms = rules.emergency_ms if "emergency" in self.rights else rules.talk_ms
        if self.simulation.scheduler.now > self.granted_ms + talk_max_ms + LATE_MS:
            raise InvariantError(f"{self.name} transmits for longer than its talk time")
        self.simulation.check_packet(self, self.voice_ssrc, self.sequence)
        self.flows[VOICE].send(VOICE + self.voice_ssrc.to_bytes(4, "big") + self.sequence.to_bytes(8, "big"))
        self.simulation.scheduler.after(FRAME_MS, lambda: self.transmit(boot))
