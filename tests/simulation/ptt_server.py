"""The hub of the simulated talk group: its floor machine between the devices, watched for what must never happen."""

from patrolink.emulator.network.carrier import Connection
from patrolink.hub.voice import floor as hub
from patrolink.hub.voice import floor_types
from patrolink.hub.voice.floor_status import floor_status
from patrolink_protocol import mcptt as m
from patrolink_protocol.srtp import ReplayList

from tests.simulation.ptt_device import FLOOR, MOST_SPINS, VOICE, Handset, Wrong

SLACK_MS = 1


def last_type(data: bytes) -> int:
    """Return the type of a datagram's last message."""
    message, at = m.Message(), 0
    while at < len(data):
        at = message.read(data, at, len(data), m.UPLINK_TYPES)
    kind: int = message.type
    return kind


class Server:
    """The hub of a ptt_sim.World; `floor` is None while it is down. Counters are on storage."""

    def __init__(self, world, rules: floor_types.FloorRules) -> None:
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
        self.members: dict[str, floor_types.Member] = {}
        self.windows: dict[str, ReplayList] = {}
        self.said: dict[str, int] = {}  # index of the newest floor message
        self.spins = 0
        self.ways: dict[tuple[str, bytes], Connection] = {}
        self.timer: object = None
        self.floor = self.world.controller(self.rules, 7, self.new_ssrc)
        for handset in self.world.handsets:
            self.join(handset)
        self.floor.start(self.now())
        self.poll()

    def join(self, handset: Handset) -> None:
        if self.floor is None:
            return
        name, ssrc, priority, rights = handset.member_of
        self.members[name] = floor_types.Member(name, ssrc, priority, rights, handset.user)
        self.windows[name] = ReplayList()
        self.floor.join(self.members[name])

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

    def send(self, member: floor_types.Member, data: bytes) -> None:
        self.index += 1
        self.world.note("hub", member.name, data)
        way = self.ways.get((member.name, FLOOR))
        if way is None:
            raise Wrong(f"{member.name} is sent to, and nothing has ever come from it")
        way.down(FLOOR + self.index.to_bytes(8, "big") + data)

    def carry_out(self, floor: hub.Floor) -> None:
        for effect in floor.take_effects():
            if isinstance(effect, floor_types.FloorEvent):
                self.on_event(floor, effect)
            else:
                self.send(*effect)

    def on_event(self, floor: hub.Floor, event: floor_types.FloorEvent) -> None:
        if event.kind == floor_types.FloorEventKind.BEGIN:
            assert event.member is not None
            if "talk" not in event.member.rights:
                raise Wrong(f"{event.member.name} may not talk, and has the floor")
            for bit, right in ((m.EMERGENCY, "emergency"), (m.BROADCAST, "broadcast")):
                if event.indicator & bit and right not in event.member.rights:
                    raise Wrong(f"{event.member.name} has the floor for {right}, and may not")
            burst = floor.burst
            if burst is not None and burst.ssrc == event.ssrc and burst.priority > event.member.max_priority:
                raise Wrong(f"{event.member.name} has priority {burst.priority}, and may not")
            self.world.granted(event.ssrc, event.member.name)
            self.began_at = self.heard_at = self.world.scheduler.now
        elif event.kind == floor_types.FloorEventKind.END:
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
            if not window.is_new(index):
                return
            newest = index > window.highest
            window.add(index)
            kind = VOICE if way is handset.flows[VOICE] else FLOOR
            new = newest and self.ways.get((member.name, kind)) is not way
            if new:
                self.ways[member.name, kind] = way
            if new and kind == FLOOR:
                floor.sync(member, self.now())
            if data[:1] == FLOOR and member.present:
                self.world.note(member.name, "hub", data[9:], arrived=True)
                self.control(floor, member, data[9:], index)
        self.check()
        self.poll()

    def control(self, floor: hub.Floor, member: floor_types.Member, data: bytes, index: int) -> None:
        """Hand a floor message to the machine. One that was overtaken changes nothing; who lets go last has let go."""
        overtaken, before = index < self.said.get(member.name, -1), floor_status(floor)
        floor.receive(member, data, index, self.now())
        if overtaken:
            if floor_status(floor) != before:
                raise Wrong(f"a message of {member.name} that was overtaken is acted on")
            return
        self.said[member.name] = index
        if last_type(data) == m.RELEASE and (
            floor.burst is not None and floor.burst.member is member or any(w.member is member for w in floor.queue)
        ):
            raise Wrong(f"{member.name} has let go, and speaks or waits all the same")

    def voice(self, member: floor_types.Member, data: bytes) -> None:
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
        self.spins = self.spins + 1 if wait == 0 else 0
        if self.spins > MOST_SPINS:
            raise Wrong("the hub's timers are due again and again")
        self.timer = timer = object()
        if wait is not None:
            self.world.scheduler.after(wait, lambda: self.poll() if self.timer is timer else None)

    def check(self) -> None:
        """What holds of the hub at every moment."""
        floor = self.floor
        assert floor is not None
        self.carry_out(floor)
        burst, now = floor.burst, self.world.scheduler.now
        if (burst is None) != (floor.state == floor_types.FloorState.IDLE):
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
