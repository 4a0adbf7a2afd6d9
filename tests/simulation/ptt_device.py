"""A device of the simulated talk group: its floor machine, with what is as thin as it can be around it.

Datagrams with an index, a replay window, a keepalive, a microphone that gives a packet each FRAME_MS while the machine
says that it may, storage for counters.
"""

import random

from patrolink.emulator.network.carrier import Connection, Network
from patrolink_protocol import participant
from patrolink_protocol.srtp import ReplayList

FRAME_MS = 200  # of voice: longer than real ones, for speed
TAIL_MS = 200
KEEPALIVE_MS = 15_000
MOST_SPINS = 20
LATEST_MS = 2000  # a Granted that comes again, counted by its receiver from when it comes
FLOOR, VOICE, KEEPALIVE = b"F", b"V", b"K"
OUTCOMES = {
    participant.GRANTED: "granted",
    participant.DENIED: "denied",
    participant.FAILED: "failed",
    participant.QUEUE_POSITION: "queued",
    participant.ABANDONED: "abandoned",
    participant.REVOKED: "revoked",
}
# After these a press is over; a granted or queued one goes on to one of them.
ENDS = (participant.DENIED, participant.FAILED, participant.ABANDONED, participant.REVOKED, participant.RELEASED)


class Wrong(AssertionError):
    """Something happened that must not."""


class Press:
    """What the wearer did with the key, and what became of it."""

    def __init__(self, at: float) -> None:
        self.at = at
        self.outcomes: list[str] = []
        self.over = False


class Handset:
    """One device of a ptt_sim.World. `machine` is its participant machine, None while it has no power."""

    def __init__(self, world, number: int, rng: random.Random) -> None:
        self.world, self.name, self.rng = world, f"d{number}", rng
        rights = {"talk"} if number < 2 or rng.random() < 0.8 else set()
        rights |= {right for right in ("emergency", "broadcast") if rng.random() < 0.4}
        self.ssrc = 0x80000000 + number
        self.member_of = (self.name, self.ssrc, rng.choice((0, 5, 5, 200, 255)), frozenset(rights))
        self.network = Network(world.scheduler, world.profile(rng), rng.randrange(1 << 30), lambda *a: None)
        self.network.duplicate = rng.choice((0.0, 0.05))
        self.flows: dict[bytes, Connection] = {}
        self.index = rng.randrange(1 << 20)  # on storage: counts on over a power cut
        self.highest = 0  # SSRC that was granted, on storage: agent.ptt.grant_log
        self.clock = rng.randrange(1 << 40)
        self.machine: participant.Participant | None = None
        self.press_now: Press | None = None
        self.presses: list[Press] = []
        self.power_on()

    @property
    def user(self) -> bytes:
        return f"sip:{self.name}@site".encode()

    def now(self) -> int:
        return self.clock + int(self.world.scheduler.now)

    # --- power and sockets --------------------------------------------------------------------------------------------

    def power_on(self) -> None:
        self.clock -= self.now()  # a boot begins its own time; some have been up for long
        self.clock += self.rng.choice((0, 0, 1 << 29, 1 << 31))
        self.index += 1024
        self.life = object()
        self.window = ReplayList()
        self.sequence = 0
        self.voice_ssrc = 0
        self.granted_at = 0.0
        self.spoken: set[int] = set()
        self.spins = 0
        self.timer: object = None
        self.machine = self.world.participant(self.ssrc, self.user)
        self.rebind()
        self.keep_alive(self.life)

    def power_cut(self) -> None:
        self.machine = None
        if self.press_now is not None:
            self.press_now.outcomes.append("power cut")
            self.press_now.over = True
            self.press_now = None

    def rebind(self) -> None:
        """Other source ports: what is sent to the old ones is lost."""
        for connection in self.flows.values():
            connection.close()
        for kind in (FLOOR, VOICE):
            connection = self.flows[kind] = Connection(self.network, "UDP")
            connection.remote = self.world.server.entrance(self, connection)
            connection.on_data = self.receive
            self.network.connections.add(connection)

    def keepalive(self) -> None:
        for kind in (FLOOR, VOICE):
            self.index += 1
            self.flows[kind].send(KEEPALIVE + self.index.to_bytes(8, "big"))

    def keep_alive(self, life: object) -> None:
        if self.machine is not None and life is self.life:
            self.keepalive()
            self.world.scheduler.after(KEEPALIVE_MS, lambda: self.keep_alive(life))

    def send_floor(self, datagram: bytes) -> None:
        self.index += 1
        self.world.note(self.name, "hub", datagram)
        self.flows[FLOOR].send(FLOOR + self.index.to_bytes(8, "big") + datagram)

    def apply(self, effects: participant.Effects) -> None:
        """Send the datagrams of the floor participant and handle its events."""
        for datagram in effects.datagrams:
            self.send_floor(datagram)
        for event in effects.events:
            self.told(event)
        if effects.error is not None:
            raise effects.error

    def receive(self, data: bytes) -> None:
        if self.machine is None:
            return
        if data[:1] == VOICE:
            self.machine.media_received(self.now())
        else:
            index = int.from_bytes(data[1:9], "big")
            if not self.window.is_new(index):
                return
            self.window.add(index)
            self.world.note("hub", self.name, data[9:], arrived=True)
            self.apply(self.machine.receive(data[9:], len(data) - 9, index, self.now()))
        self.poll()

    def poll(self) -> None:
        """Run the machine's timers, and come back when it says so and no sooner."""
        if self.machine is None:
            return
        self.apply(self.machine.poll(self.now()))
        wait = self.machine.next_timer_ms(self.now())
        self.spins = self.spins + 1 if wait == 0 else 0
        if self.spins > MOST_SPINS:
            raise Wrong(f"{self.name} has a timer that is due and does nothing")
        self.timer = timer = object()
        if wait is not None:
            self.world.scheduler.after(wait, lambda: self.poll() if self.timer is timer else None)

    # --- key and microphone -------------------------------------------------------------------------------------------

    def press(self, indicator: int, hold_ms: float, priority: int = 0) -> None:
        machine = self.machine
        if machine is None or machine.key_down:
            return
        turn = machine.state == participant.QUEUED  # the wish that waits is taken up again
        if not turn or self.press_now is None:
            self.press_now = Press(self.world.scheduler.now)
            self.presses.append(self.press_now)
        life = self.life
        self.apply(machine.press(self.now(), priority, indicator))
        self.poll()
        self.voice_ssrc = 0
        self.world.scheduler.after(hold_ms + TAIL_MS, lambda: self.let_go(life))

    def let_go(self, life: object) -> None:
        if self.machine is None or life is not self.life:
            return
        self.apply(self.machine.release(self.now()))
        self.poll()
        if self.machine.state == participant.QUEUED and self.rng.random() < 0.3:
            self.apply(self.machine.cancel(self.now()))
            self.poll()

    def told(self, event: int) -> None:
        self.world.events += 1
        press = self.press_now
        if event == participant.GRANTED:
            life = self.life
            self.granted_at = self.world.scheduler.now
            self.world.scheduler.after(0, lambda: self.speak(life))
        if event in OUTCOMES or event == participant.RELEASED:
            if press is None:
                raise Wrong(f"{self.name} is told {OUTCOMES.get(event, 'ended')} with nothing asked for")
            if event in OUTCOMES:
                press.outcomes.append(OUTCOMES[event])
            if event in ENDS:
                press.over = True
                self.press_now = None

    def speak(self, life: object) -> None:
        """A packet of voice, and the next one in its time: as long as the machine says that it may."""
        machine = self.machine
        if machine is None or life is not self.life or machine.state != participant.HAS_PERMISSION:
            self.voice_ssrc = 0
            return
        if machine.audio_ssrc != self.voice_ssrc:
            self.voice_ssrc, self.sequence = machine.audio_ssrc, 0
            if self.voice_ssrc in self.spoken:
                raise Wrong(f"{self.name} has the floor under SSRC {self.voice_ssrc}, whose burst is over")
            if self.voice_ssrc <= self.highest:  # of the life before
                self.apply(machine.release(self.now()))
                return
            self.highest = self.voice_ssrc
            self.spoken.add(self.voice_ssrc)
        self.sequence += 1
        rules = self.world.server.rules
        most = rules.emergency_ms if "emergency" in self.member_of[3] else rules.talk_ms
        if self.world.scheduler.now > self.granted_at + most + LATEST_MS:
            raise Wrong(f"{self.name} speaks for longer than it may: a stuck transmitter")
        self.world.voiced(self, self.voice_ssrc, self.sequence)
        self.flows[VOICE].send(VOICE + self.voice_ssrc.to_bytes(4, "big") + self.sequence.to_bytes(8, "big"))
        self.world.scheduler.after(FRAME_MS, lambda: self.speak(life))
