"""The hub of the simulated talk group: the real floor control server, with invariants checked after every event."""

from patrolink.emulator.network.carrier import Connection
from patrolink.hub.voice import floor as hub
from patrolink.hub.voice import floor_types
from patrolink.hub.voice.floor_status import floor_status
from patrolink_protocol import mcptt as m
from patrolink_protocol.srtp import ReplayList

from tests.simulation.ptt_device import FLOOR, IDLE_POLLS_MAX, VOICE, InvariantError, SimulatedDevice

SLACK_MS = 1


def last_type(data: bytes) -> int:
    """Return the type of the last message in a datagram."""
    message, at = m.Message(), 0
    while at < len(data):
        at = message.read(data, at, len(data), m.UPLINK_TYPES)
    kind: int = message.type
    return kind


class SimulatedHub:
    """The hub of a ptt_group.GroupSimulation. Its counters are on storage.

    Args:
        simulation: the GroupSimulation.
        rules: rules of the group.

    Attributes:
        floor: the floor control server; None while the hub is down.
        forwarded_ssrc: SSRC of the media that was forwarded last.
    """

    def __init__(self, simulation, rules: floor_types.FloorRules) -> None:
        self.simulation, self.rules = simulation, rules
        self.ssrc_count = 0
        self.index = 0
        self.floor: hub.Floor | None = None
        self.clock_ms = 0

    def now_ms(self) -> int:
        return self.clock_ms + int(self.simulation.scheduler.now)

    def start(self) -> None:
        self.clock_ms = 1_700_000_000_000 + self.simulation.rng.randrange(1 << 30)
        self.index += 4096
        self.forwarded_ssrc = 0
        self.ended_ssrcs: set[int] = set()
        self.voice_at_ms: float | None = None
        self.burst_start_ms = 0.0
        self.members: dict[str, floor_types.Member] = {}
        self.replay_lists: dict[str, ReplayList] = {}
        self.newest_index: dict[str, int] = {}
        self.idle_polls = 0
        self.flows: dict[tuple[str, bytes], Connection] = {}
        self.timer: object = None
        self.floor = self.simulation.make_floor(self.rules, 7, self.new_ssrc)
        for device in self.simulation.devices:
            self.join(device)
        self.floor.start(self.now_ms())
        self.poll()

    def join(self, device: SimulatedDevice) -> None:
        if self.floor is None:
            return
        name = device.name
        self.members[name] = floor_types.Member(name, device.ssrc, device.priority, device.rights, device.user)
        self.replay_lists[name] = ReplayList()
        self.floor.join(self.members[name])

    def leave(self, device: SimulatedDevice) -> None:
        if self.floor is None or device.name not in self.members:
            return
        self.floor.leave(self.members.pop(device.name), self.now_ms())
        for kind in (FLOOR, VOICE):
            self.flows.pop((device.name, kind), None)
        self.check()
        self.poll()

    def stop(self) -> None:
        self.floor = None

    def new_ssrc(self, is_emergency: bool) -> int:
        self.ssrc_count += 1
        return self.ssrc_count

    def send(self, member: floor_types.Member, data: bytes) -> None:
        self.index += 1
        self.simulation.trace_message("hub", member.name, data)
        flow = self.flows.get((member.name, FLOOR))
        if flow is None:
            raise InvariantError(f"{member.name} has no flow: the hub sends to a member that never sent")
        flow.down(FLOOR + self.index.to_bytes(8, "big") + data)

    def apply_effects(self, floor: hub.Floor) -> None:
        for effect in floor.take_effects():
            if isinstance(effect, floor_types.FloorEvent):
                self.on_event(floor, effect)
            else:
                self.send(*effect)

    def on_event(self, floor: hub.Floor, event: floor_types.FloorEvent) -> None:
        if event.kind == floor_types.FloorEventKind.BEGIN:
            assert event.member is not None
            if "talk" not in event.member.rights:
                raise InvariantError(f"{event.member.name} is granted the floor without the right to talk")
            for bit, right in ((m.EMERGENCY, "emergency"), (m.BROADCAST, "broadcast")):
                if event.indicator & bit and right not in event.member.rights:
                    raise InvariantError(f"{event.member.name} is granted the floor for {right} without that right")
            burst = floor.burst
            if burst is not None and burst.ssrc == event.ssrc and burst.priority > event.member.max_priority:
                raise InvariantError(f"{event.member.name} has priority {burst.priority}, above its maximum")
            self.simulation.check_grant(event.ssrc, event.member.name)
            self.burst_start_ms = self.voice_at_ms = self.simulation.scheduler.now
        elif event.kind == floor_types.FloorEventKind.END:
            self.voice_at_ms = None

    # --- datagrams of the devices -------------------------------------------------------------------------------------

    def make_flow(self, device: SimulatedDevice, connection: Connection) -> "HubFlow":
        """Return the hub's end of a flow of the device."""
        return HubFlow(self, device, connection)

    def receive(self, device: SimulatedDevice, flow: Connection, data: bytes) -> None:
        floor, member = self.floor, self.members.get(device.name) if self.floor else None
        if floor is None or member is None:
            return
        if data[:1] == VOICE:
            self.receive_voice(member, data)
        else:
            index = int.from_bytes(data[1:9], "big")
            replay_list = self.replay_lists[member.name]
            if not replay_list.is_new(index):
                return
            newest = index > replay_list.highest
            replay_list.add(index)
            kind = VOICE if flow is device.flows[VOICE] else FLOOR
            new = newest and self.flows.get((member.name, kind)) is not flow
            if new:
                self.flows[member.name, kind] = flow
            if new and kind == FLOOR:
                floor.sync(member, self.now_ms())
            if data[:1] == FLOOR and member.present:
                self.simulation.trace_message(member.name, "hub", data[9:], arrived=True)
                self.receive_floor(floor, member, data[9:], index)
        self.check()
        self.poll()

    def receive_floor(self, floor: hub.Floor, member: floor_types.Member, data: bytes, index: int) -> None:
        """Process a floor message. A reordered one must have no effect; after a Floor Release the floor is not held."""
        is_reordered, status = index < self.newest_index.get(member.name, -1), floor_status(floor)
        floor.receive(member, data, index, self.now_ms())
        if is_reordered:
            if floor_status(floor) != status:
                raise InvariantError(f"a reordered message of {member.name} has an effect")
            return
        self.newest_index[member.name] = index
        if last_type(data) == m.RELEASE and (
            floor.burst is not None
            and floor.burst.member is member
            or any(request.member is member for request in floor.queue)
        ):
            raise InvariantError(f"{member.name} has sent a Floor Release, and is granted or queued")

    def receive_voice(self, member: floor_types.Member, data: bytes) -> None:
        assert self.floor is not None
        ssrc = int.from_bytes(data[1:5], "big")
        is_current = self.floor.burst is not None and self.floor.burst.ssrc == ssrc
        if not self.floor.voice(member, ssrc, self.now_ms()):
            return
        if is_current:
            self.voice_at_ms = self.simulation.scheduler.now
        if ssrc in self.ended_ssrcs:
            raise InvariantError(
                f"voice of SSRC {ssrc} is forwarded after that of SSRC {self.forwarded_ssrc}: two talkers"
            )
        if self.simulation.owner.get(ssrc) != member.name:
            raise InvariantError(f"voice of {member.name} is forwarded with an SSRC that was not granted to it")
        if ssrc != self.forwarded_ssrc:
            self.ended_ssrcs.add(self.forwarded_ssrc)
            self.forwarded_ssrc = ssrc
        for other in self.members.values():
            flow = self.flows.get((other.name, VOICE))
            if other is not member and flow is not None:
                flow.down(data)

    def poll(self) -> None:
        floor = self.floor
        if floor is None:
            return
        wait_ms = floor.poll(self.now_ms())
        self.check()
        self.idle_polls = self.idle_polls + 1 if wait_ms == 0 else 0
        if self.idle_polls > IDLE_POLLS_MAX:
            raise InvariantError("the hub has a timer that is due and has no effect")
        self.timer = timer = object()
        if wait_ms is not None:
            self.simulation.scheduler.after(wait_ms, lambda: self.poll() if self.timer is timer else None)

    def check(self) -> None:
        """Apply the effects of the floor, and check its invariants."""
        floor = self.floor
        assert floor is not None
        self.apply_effects(floor)
        burst, now_ms = floor.burst, self.simulation.scheduler.now
        if (burst is None) != (floor.state == floor_types.FloorState.IDLE):
            raise InvariantError(f"the floor is {floor.state.value}, its burst {burst}")
        queued = [request.member for request in floor.queue]
        if len({request.ssrc for request in queued}) != len(queued) or len(queued) > self.rules.queue:
            raise InvariantError(f"the queue is {[request.name for request in queued]}, {self.rules.queue} at most")
        if queued and burst is None:
            raise InvariantError("the floor is idle while requests are queued")
        if any(request.ssrc not in floor.members for request in queued):
            raise InvariantError("a member that has left is queued")
        if burst is None:
            return
        if burst.member in queued:
            raise InvariantError(f"{burst.member.name} has the floor and is queued")
        if burst.member.ssrc not in floor.members:
            raise InvariantError(f"{burst.member.name} has left and has the floor")
        if self.voice_at_ms is None or now_ms > self.voice_at_ms + hub.T1_MS + SLACK_MS:
            raise InvariantError(f"{burst.member.name} has the floor and sent no voice for longer than T1")
        talk_max_ms = self.rules.emergency_ms if burst.indicator & m.EMERGENCY else self.rules.talk_ms
        if now_ms > self.burst_start_ms + talk_max_ms + hub.T3_MS + SLACK_MS:
            raise InvariantError(f"{burst.member.name} has the floor for longer than T2 and T3")


class HubFlow:
    """The hub's end of one flow of a device."""

    def __init__(self, hub: SimulatedHub, device: SimulatedDevice, flow: Connection) -> None:
        self._hub, self._device, self._flow = hub, device, flow

    def feed(self, data: bytes) -> None:
        self._hub.receive(self._device, self._flow, data)

    def close(self) -> None:
        """Do nothing: UDP does not report that the peer closed."""
