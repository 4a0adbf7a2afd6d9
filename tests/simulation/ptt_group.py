"""Talk group in a bad world: the device's floor machines and the hub's over seeded networks, on a virtual clock.

Everything that must never happen is checked as it happens (`Wrong`), the rest when the network has become quiet.
"""

import random
from collections import deque
from collections.abc import Callable

from patrolink.emulator.network.carrier import Profile
from patrolink.emulator.scheduler import Scheduler
from patrolink.hub.voice import floor as hub
from patrolink.hub.voice import floor_types
from patrolink.hub.voice.floor_status import floor_status
from patrolink_protocol import mcptt as m
from patrolink_protocol import participant as device

from tests.simulation.ptt_device import VOICE, Handset, Wrong
from tests.simulation.ptt_server import Server

BUSY_MS = 40_000  # everything goes wrong
QUIET_MS = 60_000  # nothing goes wrong any more, and nobody presses


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
        rules = floor_types.FloorRules(
            rng.choice((4000, 9000)), 12_000, rng.choice((0, 1, 3, 16)), rng.random() < 0.7, False
        )
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
            handset.network.restore_coverage()
            handset.network.duplicate = 0.0
            handset.network.profile = Profile(60, 0, 0.0, 5000, 5000)

    def rest(self) -> None:
        """Nobody speaks, nobody waits, and all know it."""
        floor = self.server.floor
        assert floor is not None
        if floor.burst is not None or floor.queue:
            raise Wrong(f"nobody has pressed for {QUIET_MS} ms, and the hub says {floor_status(floor)}")
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
            raise Wrong(f"{talker.name} has pressed, and the hub says {floor_status(floor)}")
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
        at = message.read(data, at, len(data), m.UPLINK_TYPES | m.DOWNLINK_TYPES)
        fields = {
            name: value
            for name in ("audio_ssrc", "priority", "duration", "cause", "position", "sequence", "acked")
            if (value := getattr(message, name)) >= 0
        }
        said.append(m.MESSAGE_NAMES[message.type] + "".join(f" {name} {value}" for name, value in fields.items()))
    return " + ".join(said)
