"""A device of a simulated campaign: its flash, its boots, its updates, and frames over a network that loses them.

Real is the update code of the device: boot sequence, job, download, installer, delta, trial; and its frames. Modelled
are the radio, the publishing of frames, and what an image does when it runs: one that is bad for this device crashes,
or never connects.
"""

import random
from typing import Any

import patrolink_enums as enums
import patrolink_messages as m
from agent.update import selection
from agent.update.air_update import AirUpdate
from agent.update.boot_journal import BootJournal
from agent.update.boot_sequence import BootSequence
from agent.update.device_slots import DeviceSlots
from agent.update.installer import Installer, Target
from agent.update.job_store import JobStore
from agent.update.slots import UpdateArea
from agent.update.trial import Trial
from memory_storage import MemoryFiles
from nor_flash import NorFlash
from patrolink.flash.image.release_key import TrustStore
from patrolink_protocol import codec, decode, frame, image_header
from patrolink_protocol.errors import RejectError
from patrolink_protocol.receiver import Receiver
from update_harness import SLOT_BYTES

from tests.support.release_keys import private_key
from tests.support.site_file import keys_of

BOARD, ARCHITECTURE, PLATFORM = "mps2_an385", "armv7m", 1
GOOD, CRASHES, SILENT = "good", "crashes", "silent"  # what the new image does on a device
_STATUS_MS = 60_000
_RETRY_MS = 5000  # of a frame without acknowledgement
_BOOT_MS = 8000
_DRAIN_MS = 10_000  # for frames before a planned restart
_UPDATE_STEPS = 1000  # in a second
_LOW_BATTERY = 0.1  # part of the devices that cannot restart for a while
_FRAMES_PER_STEP = 20
_HELLO = dict.fromkeys(("boot", "schema_hash", "minor", "profiles", "heap_kb", "date_floor"), 0)
_TRUST = TrustStore([private_key().public_key()])


def verify(header_data: bytes) -> Any:
    """Steps to the reason for refusing a signature, or to ""."""
    yield
    state = _TRUST.check(image_header.unpack(header_data))
    return "" if state == "valid" else f"signature: {state}"


class Radio:
    """Coverage of a device: outages of minutes, and losses in between. A seed repeats them.

    Args:
        seed: The seed.
        loss: Part of the frames that is lost, in each direction.
        outage_every_ms: Mean time between outages.
    """

    def __init__(self, seed: str, loss: float = 0.05, outage_every_ms: float = 3_600_000) -> None:
        self.random = random.Random(seed)
        self._loss, self._every_ms = loss, outage_every_ms
        self._begin_ms = self.random.expovariate(1 / outage_every_ms)
        self._end_ms = self._begin_ms + self.random.expovariate(1 / 400_000)

    def is_covered(self, now_ms: int) -> bool:
        """Return whether the device has a network."""
        if now_ms >= self._end_ms:
            self._begin_ms = now_ms + self.random.expovariate(1 / self._every_ms)
            self._end_ms = self._begin_ms + self.random.expovariate(1 / 400_000)
        return now_ms < self._begin_ms

    def loses(self) -> bool:
        """Return whether the next frame is lost."""
        return self.random.random() < self._loss


class CampaignDevice:
    """A device.

    Args:
        site: SimulatedSite.
        name: Name of the device.
        flash: Contents of its flash; the old agent is confirmed in a slot.
        new: First bytes of the SHA-256 of the new agent.
        behaviour: What the new agent does here.
        radio: Its network.

    Attributes:
        content: First bytes of the SHA-256 of the agent that runs.
        acknowledged: Agents of whose frames the device has got an acknowledgement.
        is_brick: Whether it could not start any agent.
        starts: Starts so far.
    """

    def __init__(self, site: Any, name: str, flash: bytes, new: bytes, behaviour: str, radio: Radio) -> None:
        self.name, self.behaviour = name, behaviour
        self._site, self._radio, self._new = site, radio, new
        self.flash = NorFlash(0)
        self.flash.data = bytearray(flash)
        self.acknowledged: set[bytes] = set()
        self.is_brick = False
        self.starts = 0
        key = keys_of([name])[name]
        self._uplink = frame.Channel(key, name.encode())
        self._receiver = Receiver(key, name.encode(), frame.DOWNLINK)  # its counter is on storage
        self._counter = 0
        self._outbox: list[tuple[bytes, int]] = []  # frame, and the start that sealed it; on storage
        self._retry_ms = self._status_ms = 0
        self._session: Any = None
        self._incoming: list[bytes] = []
        self._files = MemoryFiles()
        self._connects = 0
        self._restart_ms: int | None = None
        has_low_battery = radio.random.random() < _LOW_BATTERY
        self._low_battery_until_ms = radio.random.randrange(3_600_000) if has_low_battery else 0
        self._boot_ms: int | None = radio.random.randrange(60_000)

    @property
    def now_ms(self) -> int:
        """Time."""
        return int(self._site.now_ms())

    # --- boots --------------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Restart, planned or not."""
        self._disconnect()
        self._incoming.clear()
        self._restart_ms = None
        self._boot_ms = self.now_ms + _BOOT_MS

    def _append(self, records: Any) -> None:
        for record in records:
            self.journal.append(record)

    def _boot(self) -> None:
        self.starts += 1
        self._boot_ms = None
        self.area, self.journal = UpdateArea(self.flash, SLOT_BYTES), BootJournal(self.flash)
        decision = BootSequence(self.area, self.journal, PLATFORM).select(False)
        self.slot = decision.slot
        if decision.action == selection.RECOVER:
            self.is_brick = True
            return
        self.content = bytes(self.area.header(self.slot).sha256[:8])
        if self.content == self._new and self.behaviour == CRASHES:
            self.reset()
            return
        has_fallback = 1 - self.slot in selection.candidates(self.journal.state)
        self.trial = Trial(self.journal.state, self.slot, has_fallback, self.now_ms)
        values = {**_HELLO, "batch_fixes": 60, "board": BOARD.encode(), "firmware": b"1", "runtime": b"simulation"}
        self._send(m.HELLO, {**values, **self._identity(), "platform": PLATFORM})
        slots = DeviceSlots(self.area, self.journal, self.slot, PLATFORM, self._make_installer)
        self.update = AirUpdate(JobStore(self._files), slots, self)

    def _make_installer(self, journal: BootJournal, floor: int) -> Installer:
        return Installer(self.area, journal, verify, Target(BOARD, ARCHITECTURE, PLATFORM), self.slot, floor)

    # --- port of the update -------------------------------------------------------------------------------------------

    def session(self) -> int | None:
        """Return the number of the session that would send a request at once, or None."""
        return self._connects if self._session is not None and not self._outbox else None

    def is_urgent(self) -> bool:
        """Return whether something goes first."""
        return False

    def blocker(self) -> int | None:
        """Return why the device must not restart now, 0 if it may, None if it is offline."""
        if self.now_ms < self._low_battery_until_ms:
            return enums.FIRMWARE_STATUS_REASON_BATTERY
        return None if self.session() is None else 0

    def send_request(self, image: bytes, offset: int, max_bytes: int) -> None:
        """Request bytes of an image."""
        self._send(m.FIRMWARE_REQUEST, {"image": image, "offset": offset, "max_bytes": max_bytes})

    def send_status(self, command_id: int, state: int, reason: int, text: str) -> None:
        """Report a state to the hub."""
        values = {"command_id": command_id, "state": state, "reason": reason, "text": text.encode()}
        self._send(m.FIRMWARE_STATUS, {**values, **self._identity()})

    def log(self, text: str) -> None:
        """Ignore a line of the log."""

    def _identity(self) -> dict[str, Any]:
        return {"content": self.content, "rollback_floor": self.journal.state.floor}

    # --- time ---------------------------------------------------------------------------------------------------------

    def step(self) -> None:
        """Let a second pass."""
        now_ms = self.now_ms
        if self.is_brick or (self._boot_ms is not None and now_ms < self._boot_ms):
            return
        if self._boot_ms is not None:
            self._boot()
            return
        covered = self._radio.is_covered(now_ms)
        effect = self.trial.step(covered, now_ms)
        self._append(effect.records)
        if effect.restart:
            self.reset()
            return
        if not covered or (self.content == self._new and self.behaviour == SILENT):
            self._disconnect()
        else:
            self._communicate(now_ms)
        self._run_update(now_ms)

    def _communicate(self, now_ms: int) -> None:
        if self._session is None:
            self._session = self._site.open_session(self.name, self._incoming.append)
            self._connects += 1
        while self._incoming:
            self._receive(self._incoming.pop(0))
        if now_ms >= self._status_ms:
            self._status_ms = now_ms + _STATUS_MS
            self._send(m.DEVICE_STATUS, dict(self.status_values))
        self._publish(now_ms)

    def _run_update(self, now_ms: int) -> None:
        """Do what the update can do in a second; restart into a new image when its status is sent, or soon."""
        for _ in range(_UPDATE_STEPS):
            if self.update.restart_due or self.update.step(now_ms):
                break
        if not self.update.restart_due:
            return
        if self._restart_ms is None:
            self._restart_ms = now_ms + _DRAIN_MS
        if not self._outbox or now_ms >= self._restart_ms:
            self._append(self.trial.stopping().records)  # a planned restart costs no attempt
            self.reset()

    status_values: dict[str, Any] = {
        name: 0
        for name, _, _, _, _, unknown in (codec.parse_field(spec) for spec in codec.message_spec(m.DEVICE_STATUS)[1:])
        if unknown is None
    }

    def _disconnect(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def _receive(self, data: bytes) -> None:
        if self._radio.loses():
            return
        try:
            kind, _, _ = self._receiver.accept(data)
            body, _ = self._receiver.read(data)
        except RejectError:
            return
        message = decode.decode(kind, body)
        if kind == m.FIRMWARE_BLOCK:
            self.update.on_block(message)
        elif kind == m.FIRMWARE and message["action"] == enums.FIRMWARE_ACTION_CANCEL:
            self.update.cancel(message)
        elif kind == m.FIRMWARE:
            self.update.install(message)

    # --- frames -------------------------------------------------------------------------------------------------------

    def _seal(self, kind: int, values: dict[str, Any]) -> bytes:
        buf = bytearray(1024)
        end = codec.encode_into(kind, values, buf, frame.HEADER_BYTES)
        self._counter += 1
        return bytes(buf[: self._uplink.seal_into(buf, kind, self._counter, end)])

    def _send(self, kind: int, values: dict[str, Any]) -> None:
        """Put a frame into the outbox, from which it is published until it is acknowledged."""
        self._outbox.append((self._seal(kind, values), self.starts))

    def _publish(self, now_ms: int) -> None:
        for _ in range(_FRAMES_PER_STEP):
            if not self._outbox or now_ms < self._retry_ms:
                return
            data, start = self._outbox[0]
            self._retry_ms = now_ms + _RETRY_MS
            if self._radio.loses():
                return
            self._session.publish(data)
            if self._radio.loses():
                return  # the acknowledgement
            self._outbox.pop(0)
            self._retry_ms = 0
            if start == self.starts:
                self.acknowledged.add(self.content)
                self._append(self.trial.acknowledged().records)
