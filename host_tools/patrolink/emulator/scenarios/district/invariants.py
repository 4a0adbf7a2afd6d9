"""What must hold in a district at all times. The monitor observes wires and storage, not the states it judges."""

import hashlib
import math
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import patrolink_messages as m
from patrolink_protocol import frame

from patrolink.core.text import plural
from patrolink.emulator.scenarios.district.camera_rules import CameraRules
from patrolink.emulator.scenarios.district.consent_rule import ConsentRule
from patrolink.emulator.scenarios.district.identity_rules import IdentityRules
from patrolink.emulator.scenarios.district.position_rule import PositionRule
from patrolink.emulator.scenarios.district.sos_rules import SosRules
from patrolink.emulator.scheduler import Scheduler

_OF_BARRED = m.EVENT, m.ANSWER, m.PTT_STATUS  # messages that a hub takes from a barred device
_BAR_MS = 5000  # in which a running hub has to follow the file of barred devices
_ACCEPTED = b"HTTP/1.1 2"  # begin of an answer to an upload
_MAX_REPORTED = 20  # violations whose text is kept
_RTCP_FIRST, _RTCP_LAST = 192, 223  # packet types (RFC 5761 4)
_BURSTS = 1 << 27  # SSRCs for voice of one hub
_SRTCP_TAG_BYTES = 10
_INDEX_MASK = 0x7FFFFFFF

Key = tuple[str, int]


class Violation(NamedTuple):
    """A broken invariant.

    Attributes:
        at_s: Virtual time at which it showed, in seconds.
        rule: Short name of the invariant.
        text: What happened.
    """

    at_s: float
    rule: str
    text: str


class Monitor:
    """Checks invariants during a run.

    Args:
        scheduler: Virtual clock.
        unix_ms: True time.
        log: Called with seconds, a device and a line of text about what happens to it.

    Attributes:
        violations: What was broken, at most _MAX_REPORTED.
        count: Number of violations.
        sums: Counts for the report.
        barred: Devices that are barred, each with the virtual time of its bar.
        storage_is_full: Whether the hub's storage is full.
        storage_full_ms: When it was full for the last time.
        identities: Rules about key epochs and copies of devices.
        consent: Rule about microphones, and recordings of dispatchers.
        cameras: Rules about clips and live view.
        positions: Rule about positions that dispatchers are shown.
        sos: Rules about SOS and their answers.
    """

    def __init__(
        self, scheduler: Scheduler, unix_ms: Callable[[], int], log: Callable[[float, str, str], None] | None
    ) -> None:
        self._scheduler, self._log = scheduler, log
        self.violations: list[Violation] = []
        self.count = 0
        self.sums: Counter[str] = Counter()
        self.recorded: dict[str, dict[int, float]] = {}  # counters of each device, and when they were recorded
        self.processed: dict[str, set[int]] = {}
        self.storage_is_full = False
        self.storage_full_ms = -math.inf
        self.barred: dict[str, float] = {}  # devices, and since when
        self.consent = ConsentRule(scheduler, self.violate)
        self.cameras = CameraRules(scheduler, self.violate)
        self.positions = PositionRule(unix_ms, self.violate)
        self.identities = IdentityRules(scheduler, self.violate)
        self.sos = SosRules(scheduler, self.violate, self.trace, self.sums, lambda: self.storage_is_full)
        self._due: dict[str, set[int]] = {}
        self._excused: set[Key] = set()  # frames that the broker lost, or the hub refused from a barred device
        self._uplink: dict[Key, bytes] = {}
        self._downlink: dict[str, int] = {}
        self._sent_down: dict[Key, bytes] = {}
        self._acted_on: dict[str, set[int]] = {}
        self._srtcp_down: dict[str, int] = {}
        self._srtcp_up: dict[Key, bytes] = {}
        self._talker: dict[int, str] = {}  # device or dispatcher of an SSRC
        self._newest_ssrc: dict[tuple[str, int], int] = {}  # newest SSRC by receiver and group
        self._trace = hashlib.sha256()

    def trace(self, kind: str, *facts: object) -> None:
        """Add an event to the trace, whose hash tells whether two runs are the same."""
        self._trace.update(f"{self._scheduler.now:.3f} {kind} {facts!r}\n".encode())

    @property
    def trace_sha256(self) -> str:
        """Hash of all events so far."""
        return self._trace.hexdigest()

    def log(self, device: str, text: str) -> None:
        """Log what happens to a device. Not a part of the trace."""
        if self._log is not None:
            self._log(self._scheduler.now / 1000, device, text)

    def violate(self, rule: str, text: str) -> None:
        """Record a violation."""
        self.count += 1
        self.trace("violation", rule, text)
        if len(self.violations) < _MAX_REPORTED:
            self.violations.append(Violation(self._scheduler.now / 1000, rule, text))

    def hub_started(self) -> None:
        """The hub was started."""
        self.identities.hub_started()
        self.positions.reset()

    # --- frames -------------------------------------------------------------------------------------------------------

    def frame_recorded(self, device: str, counter: int) -> None:
        """The storage of a device has accepted a frame."""
        self.sums["frames_recorded"] += 1
        self.log(device, f"frame {counter} stored")
        counters = self.recorded.setdefault(device, {})
        if counter in counters:
            self.violate("counter", f"{device} used frame counter {counter} twice")
        counters[counter] = self._scheduler.now

    def frame_published(self, device: str, payload: bytes, by_copy: bool) -> None:
        """The broker has accepted a frame of a device, or of a copy of it."""
        counter = frame.parse_header(payload)[2]
        digest = _digest(payload)
        self.trace("up", device, counter, digest)
        self.log(device, f"frame {counter}, type {payload[0] & 31}, published{' by a copy of the device' * by_copy}")
        if by_copy:
            self.identities.frame_of_copy(device, counter)
        elif self._uplink.setdefault((device, counter), digest) != digest:
            self.violate("counter", f"{device} sent two frames with counter {counter}")

    def frame_lost_by_broker(self, device: str, payload: bytes) -> None:
        """The broker was killed with a frame that it had acknowledged and not saved."""
        self.sums["frames_lost_by_broker"] += 1
        counter = frame.parse_header(payload)[2]
        self.log(device, f"frame {counter} lost by the broker")
        self._excused.add((device, counter))

    def frame_processed(self, device: str, payload: bytes, repeated: bool) -> None:
        """The hub has accepted a frame as new, or as a repetition."""
        kind, _, counter = frame.parse_header(payload)
        if self._uplink.get((device, counter)) != _digest(payload) and not self.identities.is_shared(device, counter):
            self.violate("forged", f"the hub took frame {counter} of {device}, which the device has not sealed")
        counters = self.processed.setdefault(device, set())
        self.trace("hub", device, counter)
        self.log(device, f"frame {counter} accepted by the hub{', a repetition' * repeated}")
        self.identities.frame_accepted(device, counter, _digest(payload), repeated)
        if not repeated and self.is_barred(device) and kind not in _OF_BARRED:
            self.violate("barred", f"the hub took frame {counter} of {device}, which is barred")
        if repeated:
            self.sums["frames_repeated"] += 1
        elif counter not in counters:
            self.sums["frames_processed"] += 1
            counters.add(counter)
        elif not self.identities.is_shared(device, counter):
            self.violate("duplicate", f"the hub counted frame {counter} of {device} twice")

    def frame_refused(self, device: str, payload: bytes, reasons: str) -> None:
        """The hub has refused a frame, or a part of what it says."""
        self.log(device, f"frame of {plural(len(payload), 'byte')}, {payload[:8].hex()}, refused by the hub: {reasons}")

    def frame_barred(self, device: str, payload: bytes) -> None:
        """The hub has refused a frame because its device is barred."""
        self.sums["frames_barred"] += 1
        self._excused.add((device, frame.parse_header(payload)[2]))

    def frame_sent_down(self, device: str, payload: bytes) -> None:
        """The hub has published a frame to a device."""
        counter = frame.parse_header(payload)[2]
        self.trace("down", device, counter, len(payload))
        self.sums["frames_down"] += 1
        if counter <= self._downlink.get(device, -1):
            self.violate("counter", f"the hub used downlink counter {counter} of {device} twice")
        self._downlink[device] = max(counter, self._downlink.get(device, -1))
        self._sent_down[device, counter] = _digest(payload)

    def is_barred(self, device: str) -> bool:
        """Return whether a device is barred, and the hub had time to follow."""
        return self._scheduler.now - self.barred.get(device, self._scheduler.now) > _BAR_MS

    def upload_answered(self, device: str, answer: bytes) -> None:
        """The hub has answered a request of an upload, or a part of its answer was sent."""
        self.trace("upload", device, answer[:16])
        if self.is_barred(device) and answer.startswith(_ACCEPTED):
            self.violate("barred", f"the hub accepted a request of an upload of {device}, which is barred")

    def frame_acted_on(self, device: str, payload: bytes) -> None:
        """A device has acted on a frame of the hub."""
        counter = frame.parse_header(payload)[2]
        if counter in self._acted_on.setdefault(device, set()):
            self.violate("replay", f"{device} acted on frame {counter} of the hub twice")
        self._acted_on[device].add(counter)
        if self._sent_down.get((device, counter)) != _digest(payload):
            self.violate("forged", f"{device} acted on frame {counter}, which the hub has not sealed")

    # --- voice --------------------------------------------------------------------------------------------------------

    def datagram_up(self, device: str, data: bytes, board: object) -> None:
        """A device, or the copy of a device, which is another board, has sent a datagram."""
        if is_rtcp(data):
            self.identities.packet_arrived(device, board)
            digest = _digest(data)  # the network delivers out of order, and some twice
            known = self._srtcp_up.setdefault((device, _srtcp_index(data)), digest)
            if known != digest and not self.identities.was_copied(device):
                self.violate("srtcp index", f"uplink index {_srtcp_index(data)} of {device} was used twice")
        elif len(data) > 12:
            self.talks(device, int.from_bytes(data[8:12], "big"))
            self.sums["voice_up"] += 1

    def talks(self, talker: str, ssrc: int) -> None:
        """Somebody sends voice under an SSRC."""
        known = self._talker.setdefault(ssrc, talker)
        if known != talker:
            self.violate("ssrc", f"SSRC {ssrc:08x} was used by {known} and by {talker}")

    def datagram_down(self, device: str, data: bytes, group: int | None) -> None:
        """The hub has sent a datagram to a device.

        Args:
            device: The device.
            data: The datagram.
            group: Group of its SSRC for voice; None if unknown.
        """
        if is_rtcp(data):
            index = _srtcp_index(data)
            if index <= self._srtcp_down.get(device, -1):
                self.violate("srtcp index", f"downlink index {index} of {device} was used twice")
            self._srtcp_down[device] = index
        elif len(data) > 12 and group is not None:
            ssrc = int.from_bytes(data[8:12], "big")
            self.sums["voice_down"] += 1
            if self.is_barred(self._talker.get(ssrc, "")):
                self.violate("barred", f"the hub relayed voice of {self._talker[ssrc]}, which is barred")
            if self.is_barred(device):
                self.violate("barred", f"the hub sent voice to {device}, which is barred")
            newest = self._newest_ssrc.get((device, group), ssrc)
            if (ssrc - newest) % _BURSTS < _BURSTS // 2:  # the hub restarts them, in the order of serial numbers
                self._newest_ssrc[device, group] = ssrc
            else:
                self.violate("talkers", f"group {group} had the talkers {newest:08x} and {ssrc:08x} at once")

    # --- the end ------------------------------------------------------------------------------------------------------

    def end_faults(self) -> None:
        """Note that faults have ended: what was recorded until now has to arrive."""
        self._due = {device: set(counters) for device, counters in self.recorded.items()}

    def check_delivery(self, device: str, thinned: int) -> None:
        """Check at the end that the hub has every frame that the device recorded before the faults ended.

        Args:
            device: The device.
            thinned: Frames that the device gave up to keep newer ones.
        """
        missing = self._missing(device)
        self.sums["frames_thinned"] += thinned
        if len(missing) > thinned:
            first = ", ".join(f"{n} of {self.recorded[device][n] / 1000:.3f} s" for n in sorted(missing)[:5])
            self.violate(
                "delivery", f"missing frames of {device}: {len(missing)}, thinned: {thinned}; the first: {first}"
            )

    def _missing(self, device: str) -> set[int]:
        missing = self._due.get(device, set()) - self.processed.get(device, set())
        return {
            counter
            for counter in missing
            if (device, counter) not in self._excused and not self.identities.is_shared(device, counter)
        }

    def missing(self, device: str) -> int:
        """Return how many frames of a device the hub does not have yet of those that are due."""
        return len(self._missing(device))


def is_rtcp(data: bytes) -> bool:
    """Return whether a datagram is an RTCP packet."""
    return len(data) > 12 and _RTCP_FIRST <= data[1] <= _RTCP_LAST


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:8]


def _srtcp_index(data: bytes) -> int:
    at = len(data) - _SRTCP_TAG_BYTES - 4
    return int.from_bytes(data[at : at + 4], "big") & _INDEX_MASK
