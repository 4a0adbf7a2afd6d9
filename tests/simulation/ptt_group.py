"""Talk group under faults: floor participants and the floor control server over seeded networks, in virtual time.

Invariants are checked at every event (`InvariantError`); the final state is checked after a time without faults.
"""

import random
from collections import deque
from collections.abc import Callable

from patrolink.emulator.network.carrier import Profile
from patrolink.emulator.scheduler import Scheduler
from patrolink.hub.voice import floor_types
from patrolink.hub.voice.floor import Floor
from patrolink.hub.voice.floor_status import floor_status
from patrolink_protocol import mcptt as m
from patrolink_protocol import participant

from tests.simulation.ptt_device import VOICE, InvariantError, SimulatedDevice
from tests.simulation.ptt_server import SimulatedHub

BUSY_MS = 40_000  # phase with faults and presses
QUIET_MS = 60_000  # phase without faults and presses


class GroupSimulation:
    """One talk group with two to five devices and a hub.

    Args:
        seed: seed of all random numbers.
        make_participant: makes the floor participant; tests of the checks pass a mutant.
        make_floor: makes the floor control server; tests of the checks pass a mutant.
    """

    def __init__(
        self,
        seed: int,
        make_participant: Callable[..., participant.Participant] = participant.Participant,
        make_floor: Callable[..., Floor] = Floor,
    ) -> None:
        self.seed = seed
        self.rng = rng = random.Random(f"talk group {seed}")
        self.make_participant, self.make_floor = make_participant, make_floor
        self.scheduler = Scheduler()
        self.messages = self.events = 0
        self.trace: deque[tuple[float, str, str, bytes | str, bool]] = deque(maxlen=60)
        self.owner: dict[int, str] = {}
        self.used: set[tuple[int, int]] = set()
        self.severity = rng.random()  # scales the faults of the networks
        rules = floor_types.FloorRules(
            rng.choice((4000, 9000)), 12_000, rng.choice((0, 1, 3, 16)), rng.random() < 0.7, False
        )
        self.devices: list[SimulatedDevice] = []
        self.hub = SimulatedHub(self, rules)
        self.hub.start()
        for number in range(rng.randrange(2, 6)):
            self.devices.append(SimulatedDevice(self, number, random.Random(rng.random())))
            self.hub.join(self.devices[-1])

    def make_profile(self, rng: random.Random) -> Profile:
        severity = self.severity
        return Profile(
            rng.uniform(10, 100 + 500 * severity),
            rng.uniform(0, 300 * severity),
            rng.uniform(0, 0.3 * severity),
            5000,
            5000,
            outage_every_s=60 / severity if severity > 0.3 else None,
            outage_s=5.0,
        )

    # --- trace and checks ---------------------------------------------------------------------------------------------

    def trace_message(self, source: str, target: str, data: bytes | str, arrived: bool = False) -> None:
        self.messages += 1
        self.trace.append((self.scheduler.now, source, target, data, arrived))

    def check_grant(self, ssrc: int, name: str) -> None:
        if ssrc in self.owner:
            raise InvariantError(f"SSRC {ssrc} is granted twice")
        self.owner[ssrc] = name

    def check_packet(self, device: SimulatedDevice, ssrc: int, sequence: int) -> None:
        """Check the SSRC and index of a packet that a device sends."""
        if self.owner.get(ssrc) != device.name:
            raise InvariantError(f"{device.name} sends voice with SSRC {ssrc}, which was not granted to it")
        if (ssrc, sequence) in self.used:
            raise InvariantError(f"{device.name} uses index {sequence} of SSRC {ssrc} a second time")
        self.used.add((ssrc, sequence))

    # --- phases -------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run with faults, then without, then check a burst.

        Raises:
            InvariantError: with the seed and the last messages.
        """
        try:
            self.schedule_faults()
            self.scheduler.run_until(BUSY_MS)
            self.stop_faults()
            self.scheduler.run_until(BUSY_MS + QUIET_MS)
            self.check_idle()
            self.check_burst()
        except Exception as e:
            raise InvariantError(f"seed {self.seed}: {e}\n{self.format_trace()}") from e

    def every(self, mean_ms: float, action: Callable[[], None]) -> None:
        def run() -> None:
            if self.scheduler.now < BUSY_MS:
                action()
                self.scheduler.after(self.rng.expovariate(1 / mean_ms), run)

        self.scheduler.after(self.rng.expovariate(1 / mean_ms), run)

    def schedule_faults(self) -> None:
        rng = self.rng
        for device in self.devices:
            self.every(rng.choice((1500, 4000, 8000)), lambda d=device: self.press(d))
            self.every(20_000, device.rebind)
            self.every(50_000, lambda d=device: self.cut_power(d))
            self.every(150_000, lambda d=device: self.leave(d))
            self.every(15_000, lambda d=device: self.send_unpermitted_voice(d))
        self.every(60_000, self.restart_hub)

    def press(self, device: SimulatedDevice) -> None:
        rng = self.rng
        indicator = rng.choice((m.NORMAL, m.NORMAL, m.NORMAL, m.NORMAL, m.BROADCAST, m.EMERGENCY))
        hold_ms = 20_000 if rng.random() < 0.1 else rng.expovariate(1 / 2500)
        device.press(indicator, hold_ms, rng.randrange(256))

    def send_unpermitted_voice(self, device: SimulatedDevice) -> None:
        """Send voice without the floor: with an old SSRC, that of the talker, or an unused one."""
        ssrc = self.rng.randrange(max(1, self.hub.ssrc_count - 3), self.hub.ssrc_count + 2)
        if self.owner.get(ssrc) != device.name:
            device.flows[VOICE].send(VOICE + ssrc.to_bytes(4, "big") + bytes(8))

    def cut_power(self, device: SimulatedDevice) -> None:
        if device.participant is not None:
            self.trace_message(device.name, "", "power cut")
            device.power_cut()
            self.scheduler.after(self.rng.uniform(300, 6000), device.power_on)

    def restart_hub(self) -> None:
        if self.hub.floor is not None:
            self.trace_message("hub", "", "restart")
            self.hub.stop()
            self.scheduler.after(self.rng.uniform(100, 3000), self.hub.start)

    def leave(self, device: SimulatedDevice) -> None:
        self.trace_message(device.name, "", "leaves")
        self.hub.leave(device)
        self.scheduler.after(self.rng.uniform(0, 9000), lambda: self.join(device))

    def join(self, device: SimulatedDevice) -> None:
        if device.name not in self.hub.members:
            self.trace_message(device.name, "", "joins")
            self.hub.join(device)

    def stop_faults(self) -> None:
        for device in self.devices:
            device.network.restore_coverage()
            device.network.duplicate = 0.0
            device.network.profile = Profile(60, 0, 0.0, 5000, 5000)

    def check_idle(self) -> None:
        """Check that the floor is idle, that no request is queued, and that all devices are in this state."""
        floor = self.hub.floor
        assert floor is not None
        if floor.burst is not None or floor.queue:
            raise InvariantError(f"the last press was {QUIET_MS} ms ago, and the floor is {floor_status(floor)}")
        for device in self.devices:
            member = device.participant
            assert member is not None
            if member.state != participant.NO_PERMISSION or member.audio_ssrc or member.talker:
                raise InvariantError(
                    f"{device.name}: state {member.state}, SSRC {member.audio_ssrc}, talker {member.talker!r} "
                    "while the floor is idle"
                )
            for press in device.presses:
                if not press.outcomes or not press.ended:
                    raise InvariantError(
                        f"the press of {device.name} at {press.pressed_ms:.0f} ms ended as {press.outcomes}"
                    )

    def check_burst(self) -> None:
        """Check that a press is granted and forwarded, also after a change of address; then check a second press."""
        talker, other = self.devices[:2]
        talker.network.black_hole = True  # loses the first request
        talker.press(m.NORMAL, 2500)
        self.scheduler.run_until(self.scheduler.now + 100)
        talker.network.black_hole = False
        self.scheduler.run_until(self.scheduler.now + 500)
        talker.rebind()
        talker.send_keepalive()
        self.scheduler.run_until(self.scheduler.now + 900)
        floor = self.hub.floor
        assert floor is not None and talker.participant is not None and other.participant is not None
        if floor.burst is None or floor.burst.member.name != talker.name:
            raise InvariantError(f"{talker.name} has pressed, and the floor is {floor_status(floor)}")
        if talker.participant.state != participant.HAS_PERMISSION or talker.participant.audio_ssrc != floor.burst.ssrc:
            raise InvariantError(f"{talker.name} has the floor, and its participant is in another state")
        if self.hub.forwarded_ssrc != floor.burst.ssrc:
            raise InvariantError(f"{talker.name} transmits and is not forwarded")
        for device in self.devices[1:]:
            member = device.participant
            assert member is not None
            if (member.talker, member.talker_ssrc) != (talker.user, floor.burst.ssrc):
                raise InvariantError(f"{device.name} has talker {member.talker!r} while {talker.name} transmits")
        self.check_second_press(talker, other, floor)
        self.scheduler.run_until(self.scheduler.now + 1000)
        self.check_idle()
        self.check_hub_restart(talker)

    def check_second_press(self, talker: SimulatedDevice, other: SimulatedDevice, floor: Floor) -> None:
        """Press on another device: it pre-empts the talker, or is queued and then granted, or is denied."""
        assert floor.burst is not None
        is_emergency = "emergency" in other.rights
        outranks = self.hub.rules.preempt and other.priority > floor.burst.priority
        other.press(m.EMERGENCY if is_emergency else m.NORMAL, 2000, 255)
        press = other.presses[-1]
        self.scheduler.run_until(self.scheduler.now + 150)
        expected = "granted" if is_emergency or outranks else "queued" if self.hub.rules.queue else "denied"
        if press.outcomes != [expected]:
            raise InvariantError(
                f"{other.name} has pressed while {talker.name} transmits: {press.outcomes}, not {expected}"
            )
        outcome = (talker.presses[-1].outcomes, talker.participant.cause if talker.participant else 0)
        if expected == "granted" and outcome != (["granted", "revoked"], m.REVOKE_PREEMPTED):
            raise InvariantError(f"{other.name} outranks {talker.name}, whose press is {outcome}")
        self.scheduler.run_until(self.scheduler.now + 2000)
        if expected == "queued" and press.outcomes != ["queued", "granted"]:
            raise InvariantError(
                f"{talker.name} has released, and the press of {other.name}, which was queued, is {press.outcomes}"
            )

    def check_hub_restart(self, talker: SimulatedDevice) -> None:
        """Restart the hub during a burst: its floor is idle, so the device has to stop transmitting."""
        talker.press(m.NORMAL, 4000)
        self.scheduler.run_until(self.scheduler.now + 500)
        self.hub.stop()
        self.hub.start()
        talker.send_keepalive()
        self.scheduler.run_until(self.scheduler.now + 150)
        if talker.presses[-1].outcomes != ["granted", "revoked"]:
            raise InvariantError(f"the hub restarted, and the press of {talker.name} is {talker.presses[-1].outcomes}")
        self.scheduler.run_until(self.scheduler.now + 5000)
        self.check_idle()

    def outcomes(self) -> dict[str, int]:
        """Return the number of presses with each outcome."""
        counts: dict[str, int] = {}
        for device in self.devices:
            for press in device.presses:
                for outcome in dict.fromkeys(press.outcomes):
                    counts[outcome] = counts.get(outcome, 0) + 1
        return counts

    def format_trace(self) -> str:
        """Return the last messages as text."""
        lines = []
        for at, source, target, data, arrived in self.trace:
            text = data if isinstance(data, str) else describe(data)
            lines.append(f"{at:9.1f}  {source:>4} {'->|' if arrived else '-> '} {target:<4} {text}")
        return "\n".join(lines)


def describe(data: bytes) -> str:
    """Return the messages of a plain datagram as text."""
    message = m.Message()
    at, parts = 0, []
    while at < len(data):
        at = message.read(data, at, len(data), m.UPLINK_TYPES | m.DOWNLINK_TYPES)
        fields = {
            name: value
            for name in ("audio_ssrc", "priority", "duration", "cause", "position", "sequence", "acked")
            if (value := getattr(message, name)) >= 0
        }
        parts.append(m.MESSAGE_NAMES[message.type] + "".join(f" {name} {value}" for name, value in fields.items()))
    return " + ".join(parts)
