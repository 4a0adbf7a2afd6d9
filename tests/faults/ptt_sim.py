"""Talk group in a bad world: the device's floor machines and the hub's over seeded networks, on a virtual clock.

What stands around the machines here is as thin as it can be: datagrams with an index, a replay window at either end,
a keepalive, a microphone that gives a packet each FRAME_MS while the machine says that it may, storage for counters.
Everything that must never happen is checked as it happens (`Wrong`), the rest when the network has become quiet.
"""

import random
from collections import deque
from collections.abc import Callable

from agent.ptt import floor as device
from patrolink.emulator.network import Connection, Network, Profile
from patrolink.emulator.scheduler import Scheduler
from patrolink.hub import floor as hub
from patrolink_protocol import mcptt as m
from patrolink_protocol.srtp import Window

FRAME_MS = 200  # of voice: longer than real ones, for speed
TAIL_MS = 200
KEEPALIVE_MS = 15_000
BUSY_MS = 40_000  # everything goes wrong
QUIET_MS = 60_000  # nothing goes wrong any more, and nobody presses
SLACK_MS = 1
MOST_SPINS = 20
LATEST_MS = 2000  # a Granted that comes again, counted by its receiver from when it comes
FLOOR, VOICE, KEEPALIVE = b"F", b"V", b"K"
OUTCOMES = {
    device.GRANTED: "granted",
    device.DENIED: "denied",
    device.FAILED: "failed",
    device.PLACED: "queued",
    device.ABANDONED: "abandoned",
    device.REVOKED: "revoked",
}
# After these a press is over; a granted or queued one goes on to one of them.
ENDS = (device.DENIED, device.FAILED, device.ABANDONED, device.REVOKED, device.ENDED)


class Wrong(AssertionError):
    """Something happened that must not."""


class Press:
    """What the wearer did with the key, and what became of it."""

    def __init__(self, at: float) -> None:
        self.at = at
        self.outcomes: list[str] = []
        self.over = False


class Handset:
    """One device. `machine` is its participant machine, None while it has no power."""

    def __init__(self, world: "World", number: int, rng: random.Random) -> None:
        self.world, self.name, self.rng = world, f"d{number}", rng
        rights = {"talk"} if number < 2 or rng.random() < 0.8 else set()
        rights |= {right for right in ("emergency", "broadcast") if rng.random() < 0.4}
        self.ssrc = 0x80000000 + number
        self.member_of = (self.name, self.ssrc, rng.choice((0, 5, 5, 200, 255)), frozenset(rights))
        self.network = Network(world.scheduler, world.profile(rng), rng.randrange(1 << 30), lambda *a: None)
        self.network.duplicate = rng.choice((0.0, 0.05))
        self.flows: dict[bytes, Connection] = {}
        self.index = rng.randrange(1 << 20)  # on storage: counts on over a power cut
        self.highest = 0  # SSRC that was granted, on storage: agent.ptt.grants
        self.clock = rng.randrange(1 << 40)
        self.machine: device.Participant | None = None
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
        self.window = Window()
        self.sequence = 0
        self.voice_ssrc = 0
        self.granted_at = 0.0
        self.spoken: set[int] = set()
        self.spins = 0
        self.timer: object = None
        self.machine = self.world.participant(self.ssrc, self.user, self.send_floor, self.told)
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

    def send_floor(self, view: memoryview) -> None:
        self.index += 1
        self.world.note(self.name, "hub", bytes(view))
        self.flows[FLOOR].send(FLOOR + self.index.to_bytes(8, "big") + bytes(view))

    def receive(self, data: bytes) -> None:
        if self.machine is None:
            return
        if data[:1] == VOICE:
            self.machine.heard(self.now())
        else:
            index = int.from_bytes(data[1:9], "big")
            if not self.window.fresh(index):
                return
            self.window.take(index)
            self.world.note("hub", self.name, data[9:], arrived=True)
            self.machine.receive(data[9:], len(data) - 9, index, self.now())
        self.poll()

    def poll(self) -> None:
        """Run the machine's timers, and come back when it says so and no sooner."""
        if self.machine is None:
            return
        wait = self.machine.poll(self.now())
        self.spins = self.spins + 1 if wait == 0 else 0
        if self.spins > MOST_SPINS:
            raise Wrong(f"{self.name} has a timer that is due and does nothing")
        self.timer = timer = object()
        if wait is not None:
            self.world.scheduler.after(wait, lambda: self.poll() if self.timer is timer else None)

    # --- key and microphone -------------------------------------------------------------------------------------------

    def press(self, indicator: int, hold_ms: float, priority: int = 0) -> None:
        machine = self.machine
        if machine is None or machine.key:
            return
        turn = machine.state == device.QUEUED  # the wish that waits is taken up again
        if not turn or self.press_now is None:
            self.press_now = Press(self.world.scheduler.now)
            self.presses.append(self.press_now)
        life = self.life
        machine.press(self.now(), priority, indicator)
        self.poll()
        self.voice_ssrc = 0
        self.world.scheduler.after(hold_ms + TAIL_MS, lambda: self.let_go(life))

    def let_go(self, life: object) -> None:
        if self.machine is None or life is not self.life:
            return
        self.machine.release(self.now())
        self.poll()
        if self.machine.state == device.QUEUED and self.rng.random() < 0.3:
            self.machine.cancel(self.now())
            self.poll()

    def told(self, event: int) -> None:
        self.world.events += 1
        press = self.press_now
        if event == device.GRANTED:
            life = self.life
            self.granted_at = self.world.scheduler.now
            self.world.scheduler.after(0, lambda: self.speak(life))
        if event in OUTCOMES or event == device.ENDED:
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
        if machine is None or life is not self.life or machine.state != device.HAS_PERMISSION:
            self.voice_ssrc = 0
            return
        if machine.audio_ssrc != self.voice_ssrc:
            self.voice_ssrc, self.sequence = machine.audio_ssrc, 0
            if self.voice_ssrc in self.spoken:
                raise Wrong(f"{self.name} has the floor under SSRC {self.voice_ssrc}, whose burst is over")
            if self.voice_ssrc <= self.highest:  # of the life before
                machine.release(self.now())
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


class Server:
    """The hub of one group; `floor` is None while it is down. Counters are on storage."""

    def __init__(self, world: "World", rules: hub.Rules) -> None:
        self.world, self.rules = world, rules
        self.ssrcs = 0
        self.index = 0
        self.floor: hub.Floor | None = None
        self.clock = 0

    def now(self) -> int:
        return self.clock + int(self.world.scheduler.now)

    def start(self) -> None:
        self.clock = 1_700_000_000_000 + self.world.rng.randrange(1 << 30)
        self.index += 4096
        self.passed = 0  # SSRC of the voice passed on last
        self.gone: set[int] = set()  # SSRCs that another one has followed
        self.heard_at: float | None = None
        self.began_at = 0.0
        self.members: dict[str, hub.Member] = {}
        self.windows: dict[str, Window] = {}
        self.ways: dict[tuple[str, bytes], Connection] = {}
        self.timer: object = None
        self.floor = self.world.controller(self.rules, 7, self.new_ssrc, self.send, self.told)
        for handset in self.world.handsets:
            self.join(handset)
        self.floor.start(self.now())
        self.poll()

    def join(self, handset: Handset) -> None:
        if self.floor is None:
            return
        name, ssrc, priority, rights = handset.member_of
        self.members[name] = hub.Member(name, ssrc, priority, rights, handset.user)
        self.windows[name] = Window()
        self.floor.join(self.members[name], self.now())

    def leave(self, handset: Handset) -> None:
        if self.floor is None or handset.name not in self.members:
            return
        self.floor.leave(self.members.pop(handset.name), self.now())
        for kind in (FLOOR, VOICE):
            self.ways.pop((handset.name, kind), None)
        self.check()
        self.poll()

    def stop(self) -> None:
        self.floor = None

    def new_ssrc(self) -> int:
        self.ssrcs += 1
        return self.ssrcs

    def send(self, member: hub.Member, data: bytes) -> None:
        self.index += 1
        self.world.note("hub", member.name, data)
        way = self.ways.get((member.name, FLOOR))
        if way is None:
            raise Wrong(f"{member.name} is sent to, and nothing has ever come from it")
        way.down(FLOOR + self.index.to_bytes(8, "big") + data)

    def told(self, event: hub.Event) -> None:
        if event.what == hub.What.BEGIN:
            assert event.member is not None and self.floor is not None and self.floor.burst is not None
            if "talk" not in event.member.rights:
                raise Wrong(f"{event.member.name} may not talk, and has the floor")
            for bit, right in ((m.EMERGENCY, "emergency"), (m.BROADCAST, "broadcast")):
                if event.indicator & bit and right not in event.member.rights:
                    raise Wrong(f"{event.member.name} has the floor for {right}, and may not")
            if self.floor.burst.priority > event.member.priority:
                raise Wrong(f"{event.member.name} has priority {self.floor.burst.priority}, and may not")
            self.world.granted(event.ssrc, event.member.name)
            self.began_at = self.heard_at = self.world.scheduler.now
        elif event.what == hub.What.END:
            self.heard_at = None

    # --- what comes ---------------------------------------------------------------------------------------------------

    def entrance(self, handset: Handset, connection: Connection) -> "Entrance":
        return Entrance(self, handset, connection)

    def receive(self, handset: Handset, way: Connection, data: bytes) -> None:
        floor, member = self.floor, self.members.get(handset.name) if self.floor else None
        if floor is None or member is None:
            return
        if data[:1] == VOICE:
            self.voice(member, data)
        else:
            index = int.from_bytes(data[1:9], "big")
            window = self.windows[member.name]
            if not window.fresh(index):
                return
            newest = index > window.highest
            window.take(index)
            kind = VOICE if way is handset.flows[VOICE] else FLOOR
            new = newest and self.ways.get((member.name, kind)) is not way
            if new:
                self.ways[member.name, kind] = way
            if new and kind == FLOOR:
                floor.sync(member, self.now())
            if data[:1] == FLOOR and member.present:
                self.world.note(member.name, "hub", data[9:], arrived=True)
                floor.receive(member, data[9:], index, self.now())
        self.check()
        self.poll()

    def voice(self, member: hub.Member, data: bytes) -> None:
        assert self.floor is not None
        ssrc = int.from_bytes(data[1:5], "big")
        held = self.floor.burst is not None and self.floor.burst.ssrc == ssrc
        if not self.floor.voice(member, ssrc, self.now()):
            return
        if held:
            self.heard_at = self.world.scheduler.now
        if ssrc in self.gone:
            raise Wrong(f"voice of SSRC {ssrc} is passed on after SSRC {self.passed} was: two talkers")
        if self.world.owner.get(ssrc) != member.name:
            raise Wrong(f"voice of {member.name} is passed on with an SSRC that was not granted to it")
        if ssrc != self.passed:
            self.gone.add(self.passed)
            self.passed = ssrc
        for other in self.members.values():
            way = self.ways.get((other.name, VOICE))
            if other is not member and way is not None:
                way.down(data)

    def poll(self) -> None:
        floor = self.floor
        if floor is None:
            return
        wait = floor.poll(self.now())
        self.check()
        self.timer = timer = object()
        if wait is not None:
            self.world.scheduler.after(wait, lambda: self.poll() if self.timer is timer else None)

    def check(self) -> None:
        """What holds of the hub at every moment."""
        floor = self.floor
        assert floor is not None
        burst, now = floor.burst, self.world.scheduler.now
        if (burst is None) != (floor.state == hub.State.IDLE):
            raise Wrong(f"the floor is {floor.state.value}, its burst {burst}")
        waiting = [w.member for w in floor.queue]
        if len({w.ssrc for w in waiting}) != len(waiting) or len(waiting) > self.rules.queue:
            raise Wrong(f"the queue is {[w.name for w in waiting]}, {self.rules.queue} at most")
        if waiting and burst is None:
            raise Wrong("the floor is free, and somebody waits for it")
        if any(w.ssrc not in floor.members for w in waiting):
            raise Wrong("a member that has left waits")
        if burst is None:
            return
        if burst.member in waiting:
            raise Wrong(f"{burst.member.name} has the floor and waits for it")
        if burst.member.ssrc not in floor.members:
            raise Wrong(f"{burst.member.name} has left and has the floor")
        if self.heard_at is None or now > self.heard_at + hub.T1_MS + SLACK_MS:
            raise Wrong(f"{burst.member.name} is silent for longer than T1 and has the floor")
        most = self.rules.emergency_ms if burst.indicator & m.EMERGENCY else self.rules.talk_ms
        if now > self.began_at + most + hub.T3_MS + SLACK_MS:
            raise Wrong(f"{burst.member.name} has the floor for longer than T2 and T3")


class Entrance:
    """The hub's end of one flow."""

    def __init__(self, server: Server, handset: Handset, way: Connection) -> None:
        self._server, self._handset, self._way = server, handset, way

    def feed(self, data: bytes) -> None:
        self._server.receive(self._handset, self._way, data)

    def close(self) -> None:
        """UDP does not tell."""


class World:
    """
    participant, controller  make the machines: others than the project's prove that the checks can fail

    `run` raises Wrong with the seed and the last messages.
    """

    def __init__(
        self,
        seed: int,
        participant: Callable[..., device.Participant] = device.Participant,
        controller: Callable[..., hub.Floor] = hub.Floor,
    ) -> None:
        self.seed = seed
        self.rng = rng = random.Random(f"talk group {seed}")
        self.participant, self.controller = participant, controller
        self.scheduler = Scheduler()
        self.messages = self.events = 0
        self.trace: deque[tuple[float, str, str, bytes | str, bool]] = deque(maxlen=60)
        self.owner: dict[int, str] = {}
        self.used: set[tuple[int, int]] = set()
        self.bad = rng.random()  # how bad the networks are
        rules = hub.Rules(rng.choice((4000, 9000)), 12_000, rng.choice((0, 1, 3, 16)), rng.random() < 0.7, False)
        self.handsets: list[Handset] = []
        self.server = Server(self, rules)
        self.server.start()
        for number in range(rng.randrange(2, 6)):
            self.handsets.append(Handset(self, number, random.Random(rng.random())))
            self.server.join(self.handsets[-1])

    def profile(self, rng: random.Random) -> Profile:
        bad = self.bad
        return Profile(
            rng.uniform(10, 100 + 500 * bad),
            rng.uniform(0, 300 * bad),
            rng.uniform(0, 0.3 * bad),
            5000,
            5000,
            outage_every_s=60 / bad if bad > 0.3 else None,
            outage_s=5.0,
        )

    # --- the record ---------------------------------------------------------------------------------------------------

    def note(self, source: str, target: str, data: bytes | str, arrived: bool = False) -> None:
        self.messages += 1
        self.trace.append((self.scheduler.now, source, target, data, arrived))

    def granted(self, ssrc: int, name: str) -> None:
        if ssrc in self.owner:
            raise Wrong(f"SSRC {ssrc} is granted twice")
        self.owner[ssrc] = name

    def voiced(self, handset: Handset, ssrc: int, sequence: int) -> None:
        """A device's voice goes out."""
        if self.owner.get(ssrc) != handset.name:
            raise Wrong(f"{handset.name} speaks with SSRC {ssrc}, which was not granted to it")
        if (ssrc, sequence) in self.used:
            raise Wrong(f"{handset.name} uses index {sequence} of SSRC {ssrc} a second time")
        self.used.add((ssrc, sequence))

    # --- a run --------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """A busy time, a quiet one, and a burst in the quiet."""
        try:
            self.plan()
            self.scheduler.run_until(BUSY_MS)
            self.calm()
            self.scheduler.run_until(BUSY_MS + QUIET_MS)
            self.rest()
            self.last_burst()
        except Exception as e:
            raise Wrong(f"seed {self.seed}: {e}\n{self.told()}") from e

    def every(self, mean_ms: float, action: Callable[[], None]) -> None:
        def happen() -> None:
            if self.scheduler.now < BUSY_MS:
                action()
                self.scheduler.after(self.rng.expovariate(1 / mean_ms), happen)

        self.scheduler.after(self.rng.expovariate(1 / mean_ms), happen)

    def plan(self) -> None:
        rng = self.rng
        for handset in self.handsets:
            self.every(rng.choice((1500, 4000, 8000)), lambda h=handset: self.press(h))
            self.every(20_000, handset.rebind)
            self.every(50_000, lambda h=handset: self.cut(h))
            self.every(150_000, lambda h=handset: self.bar(h))
            self.every(15_000, lambda h=handset: self.babble(h))
        self.every(60_000, self.restart)

    def press(self, handset: Handset) -> None:
        rng = self.rng
        indicator = rng.choice((m.NORMAL, m.NORMAL, m.NORMAL, m.NORMAL, m.BROADCAST, m.EMERGENCY))
        hold_ms = 20_000 if rng.random() < 0.1 else rng.expovariate(1 / 2500)
        handset.press(indicator, hold_ms, rng.randrange(256))

    def babble(self, handset: Handset) -> None:
        """Voice without the floor: with an SSRC of long ago, of the one who speaks, or of nobody."""
        ssrc = self.rng.randrange(max(1, self.server.ssrcs - 3), self.server.ssrcs + 2)
        if self.owner.get(ssrc) != handset.name:
            handset.flows[VOICE].send(VOICE + ssrc.to_bytes(4, "big") + bytes(8))

    def cut(self, handset: Handset) -> None:
        if handset.machine is not None:
            self.note(handset.name, "", "power cut")
            handset.power_cut()
            self.scheduler.after(self.rng.uniform(300, 6000), handset.power_on)

    def restart(self) -> None:
        if self.server.floor is not None:
            self.note("hub", "", "restart")
            self.server.stop()
            self.scheduler.after(self.rng.uniform(100, 3000), self.server.start)

    def bar(self, handset: Handset) -> None:
        self.note(handset.name, "", "leaves")
        self.server.leave(handset)
        self.scheduler.after(self.rng.uniform(0, 9000), lambda: self.back(handset))

    def back(self, handset: Handset) -> None:
        if handset.name not in self.server.members:
            self.note(handset.name, "", "joins")
            self.server.join(handset)

    def calm(self) -> None:
        for handset in self.handsets:
            handset.network.shelter()
            handset.network.duplicate = 0.0
            handset.network.profile = Profile(60, 0, 0.0, 5000, 5000)

    def rest(self) -> None:
        """Nobody speaks, nobody waits, and all know it."""
        floor = self.server.floor
        assert floor is not None
        if floor.burst is not None or floor.queue:
            raise Wrong(f"nobody has pressed for {QUIET_MS} ms, and the hub says {floor.status()}")
        for handset in self.handsets:
            machine = handset.machine
            assert machine is not None
            if machine.state != device.NO_PERMISSION or machine.audio_ssrc or machine.talker:
                raise Wrong(
                    f"{handset.name}: state {machine.state}, SSRC {machine.audio_ssrc}, hears {machine.talker!r} "
                    "while nobody speaks"
                )
            for press in handset.presses:
                if not press.outcomes or not press.over:
                    raise Wrong(f"the press of {handset.name} at {press.at:.0f} ms ended as {press.outcomes}")

    def last_burst(self) -> None:
        """In the quiet a press is granted, all hear who speaks, whatever the talker's address; then others ask."""
        talker, other = self.handsets[:2]
        talker.network.black_hole = True  # for the first request
        talker.press(m.NORMAL, 2500)
        self.scheduler.run_until(self.scheduler.now + 100)
        talker.network.black_hole = False
        self.scheduler.run_until(self.scheduler.now + 500)
        talker.rebind()
        talker.keepalive()
        self.scheduler.run_until(self.scheduler.now + 900)
        floor = self.server.floor
        assert floor is not None and talker.machine is not None and other.machine is not None
        if floor.burst is None or floor.burst.member.name != talker.name:
            raise Wrong(f"{talker.name} has pressed, and the hub says {floor.status()}")
        if talker.machine.state != device.HAS_PERMISSION or talker.machine.audio_ssrc != floor.burst.ssrc:
            raise Wrong(f"{talker.name} has the floor and does not know it")
        if self.server.passed != floor.burst.ssrc:
            raise Wrong(f"{talker.name} speaks and is not passed on")
        for handset in self.handsets[1:]:
            machine = handset.machine
            assert machine is not None
            if (machine.talker, machine.talker_ssrc) != (talker.user, floor.burst.ssrc):
                raise Wrong(f"{handset.name} hears {machine.talker!r} while {talker.name} speaks")
        self.second(talker, other, floor)
        self.scheduler.run_until(self.scheduler.now + 1000)
        self.rest()
        self.deaf(talker)

    def second(self, talker: Handset, other: Handset, floor: hub.Floor) -> None:
        """Another one presses: it outranks the talker, or waits for its turn and has it, or is told that it may not."""
        assert floor.burst is not None
        urgent = "emergency" in other.member_of[3]
        ranks = self.server.rules.preempt and other.member_of[2] > floor.burst.priority
        other.press(m.EMERGENCY if urgent else m.NORMAL, 2000, 255)
        press = other.presses[-1]
        self.scheduler.run_until(self.scheduler.now + 150)
        due = "granted" if urgent or ranks else "queued" if self.server.rules.queue else "denied"
        if press.outcomes != [due]:
            raise Wrong(f"{other.name} has pressed while {talker.name} speaks, and is {press.outcomes}, not {due}")
        told = (talker.presses[-1].outcomes, talker.machine.cause if talker.machine else 0)
        if due == "granted" and told != (["granted", "revoked"], m.REVOKE_PREEMPTED):
            raise Wrong(f"{other.name} outranks {talker.name}, who is told {told}")
        self.scheduler.run_until(self.scheduler.now + 2000)
        if due == "queued" and press.outcomes != ["queued", "granted"]:
            raise Wrong(f"{talker.name} has released, and {other.name}, who waited, is {press.outcomes}")

    def deaf(self, talker: Handset) -> None:
        """A hub that begins anew knows of no talker: the device stops as soon as it is heard again."""
        talker.press(m.NORMAL, 4000)
        self.scheduler.run_until(self.scheduler.now + 500)
        self.server.stop()
        self.server.start()
        talker.keepalive()
        self.scheduler.run_until(self.scheduler.now + 150)
        if talker.presses[-1].outcomes != ["granted", "revoked"]:
            raise Wrong(f"the hub began anew while {talker.name} spoke, and the press is {talker.presses[-1].outcomes}")
        self.scheduler.run_until(self.scheduler.now + 5000)
        self.rest()

    def outcomes(self) -> dict[str, int]:
        """How many presses had each outcome at some time."""
        counts: dict[str, int] = {}
        for handset in self.handsets:
            for press in handset.presses:
                for outcome in dict.fromkeys(press.outcomes):
                    counts[outcome] = counts.get(outcome, 0) + 1
        return counts

    def told(self) -> str:
        """The last messages, for a person."""
        lines = []
        for at, source, target, data, arrived in self.trace:
            what = data if isinstance(data, str) else describe(data)
            lines.append(f"{at:9.1f}  {source:>4} {'->|' if arrived else '-> '} {target:<4} {what}")
        return "\n".join(lines)


def describe(data: bytes) -> str:
    """Say what a plain datagram holds."""
    message = m.Message()
    at, said = 0, []
    while at < len(data):
        at = message.read(data, at, len(data), m.UPWARD | m.DOWNWARD)
        fields = {
            name: value
            for name in ("audio_ssrc", "priority", "duration", "cause", "position", "sequence", "acked")
            if (value := getattr(message, name)) >= 0
        }
        said.append(m.NAMES[message.type] + "".join(f" {name} {value}" for name, value in fields.items()))
    return " + ".join(said)
