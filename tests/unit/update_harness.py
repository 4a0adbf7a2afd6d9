"""A device with two slots on a NOR flash, and the oracle that says what it may start. For tests on both runtimes."""

import hashlib
import io

from agent.update import selection
from agent.update.boot_journal import SECTOR_BYTES, BootJournal
from agent.update.boot_records import ATTEMPT, CONFIRMED, FLOOR, INSTALLED
from agent.update.boot_sequence import BootSequence
from agent.update.delta import apply_delta
from agent.update.installer import BLOCK_BYTES, ContentStream, Installer, Target
from agent.update.selection import ATTEMPTS_MAX
from agent.update.slots import UpdateArea
from agent.update.trial import ACKNOWLEDGE_MS, Trial
from compat.steps import run_to_completion
from nor_flash import NorFlash
from patrolink_protocol import image_header as ih
from seeded_random import seeded

CONTENT_BLOCKS = 4
SLOT_BYTES = (1 + CONTENT_BLOCKS) * SECTOR_BYTES
FLASH_BYTES = 2 * SECTOR_BYTES + 2 * SLOT_BYTES
CONTENT_BYTES = 3 * BLOCK_BYTES + 700  # the last block is not a full one, nor a multiple of a page
TARGET = Target("bench", "armv7m", 1)
STARTS_MAX = 40  # of one update, cuts included


def signature_is_valid(data):
    """Steps of a verifier that accepts each header."""
    yield
    return ""


def random_content(seed, size=CONTENT_BYTES):
    below = seeded(seed)
    return bytes([below(256) for _ in range(size)])


class Image:
    """An agent image: header and content. With a base it is a delta that replaces every second block of the base."""

    def __init__(self, name, rollback, content=None, base=None, **changes):
        self.base = base
        self.operations = b""
        if base is not None:
            content = self._mix(content, base.content)
        self.content = content
        digest = hashlib.sha256(content).digest()
        fields = {
            "kind": ih.AGENT if base is None else ih.AGENT_DELTA,
            "rollback": rollback,
            "minimum_platform": 1,
            "size": len(content),
            "sha256": digest,
            "base_sha256": ih.NO_BASE if base is None else base.sha256,
            "payload_size": len(content) if base is None else 99,
            "payload_sha256": digest if base is None else hashlib.sha256(b"payload").digest(),
            "board": TARGET.board,
            "architecture": TARGET.architecture,
            "version": name,
            "key_id": bytes(8),
            "signature": bytes(64),
        }
        fields.update(changes)
        self.rollback = fields["rollback"]
        self.sha256 = fields["sha256"]
        self.data = ih.pack(ih.ImageHeader(*[fields[name] for name in ih_fields()]))

    def _mix(self, new, old):
        """Return new and old blocks in turn; `operations` make that of the old content (agent.update.delta)."""
        content = b""
        for start in range(0, len(new), BLOCK_BYTES):
            end = min(start + BLOCK_BYTES, len(new))
            if start // BLOCK_BYTES % 2:
                self.operations += operation(3, 2 * BLOCK_BYTES) + operation(0, end - start)
                content += old[start:end]
            else:
                self.operations += operation(2, end - start) + new[start:end]
                content += new[start:end]
        return content


def operation(kind, n):
    """Return an operation of a delta."""
    value = n << 2 | kind
    data = b""
    while value > 127:
        data += bytes([value & 127 | 128])
        value >>= 7
    return data + bytes([value])


def ih_fields():
    """Return the names of the fields of an image header in their order."""
    return (
        "kind",
        "rollback",
        "minimum_platform",
        "size",
        "sha256",
        "base_sha256",
        "payload_size",
        "payload_sha256",
    ) + ("board", "architecture", "version", "key_id", "signature")


class Oracle:
    """What has happened to a device, from the outside, and which promises it has broken.

    Attributes:
        bricks, downgrades, lost_confirmations: Descriptions of broken promises.
    """

    def __init__(self):
        self.images = []  # in the order in which they were made: a later one is newer
        self.may_recover = True  # nothing has been installed yet
        self.floor = 0
        self.confirming = {}  # {install number: image} whose confirmation has begun
        self.confirmed = {}  # {install number: image}
        self.starts = {}  # {install number: starts that were not confirmed}
        self.withdrawn = {}
        self.bricks = []
        self.downgrades = []
        self.lost_confirmations = []

    def copy(self):
        other = Oracle()
        for name in ("images", "confirming", "confirmed", "starts", "withdrawn"):
            value = getattr(self, name)
            setattr(other, name, dict(value) if isinstance(value, dict) else list(value))
        other.may_recover, other.floor = self.may_recover, self.floor
        return other

    @property
    def problems(self):
        return self.bricks + self.downgrades + self.lost_confirmations

    def appended(self, record, image):
        """A record has been written completely; `image` is that of its slot."""
        if record.kind == INSTALLED:
            self.may_recover = False
            self.starts[record.install] = 0
        elif record.kind == CONFIRMED:
            self.confirmed[record.install] = image
        elif record.kind == FLOOR:
            self.floor = max(self.floor, record.rollback)

    def check_start(self, device, decision):
        """Check what a device has decided to start."""
        state = device.journal.state
        newest = max(self.confirmed) if self.confirmed else 0
        if state.floor < self.floor:
            self.downgrades.append("rollback floor %d became %d" % (self.floor, state.floor))
        if newest and not [s for s in state.slots if s.install == newest and s.confirmed]:
            self.lost_confirmations.append("install %d is not confirmed any more" % newest)
        allowed = [image.rollback for image in self.confirmed.values()] + [
            image.rollback for image in self.confirming.values()
        ]
        if state.floor > max(allowed + [0]):
            self.bricks.append("rollback floor %d without a confirmed image: others are refused" % state.floor)
        for number, slot in enumerate(state.slots):
            image = device.image_in(number)
            if slot.install and image is None:
                self.bricks.append("install %d is recorded, but its slot is not complete" % slot.install)
            if slot.confirmed and image and image is not self.confirmed.get(slot.install, image):
                self.downgrades.append("install %d is confirmed, but its slot holds another image" % slot.install)
        if decision.slot is None:
            if not self.may_recover:
                self.bricks.append("no slot can be started")
            return
        slot = state.slots[decision.slot]
        image = device.image_in(decision.slot)
        if image is None:
            self.bricks.append("slot %d is started with damaged content" % decision.slot)
            return
        if slot.confirmed and slot.install in self.confirming:
            self.confirmed[slot.install] = image  # the power was cut when the record was complete
        if slot.install not in self.confirmed:
            if slot.confirmed:
                self.downgrades.append("install %d is started as confirmed, but is not" % slot.install)
            self._check_trial(slot, image)
        elif newest and self.images.index(image) < self.images.index(self.confirmed[newest]):
            self.downgrades.append("install %d is started, %d was confirmed" % (slot.install, newest))

    def _check_trial(self, slot, image):
        if image.rollback < self.floor:
            self.downgrades.append("rollback number %d is started, floor %d" % (image.rollback, self.floor))
        starts = self.starts[slot.install] = self.starts.get(slot.install, 0) + 1
        if self.confirmed and starts - self.withdrawn.get(slot.install, 0) > ATTEMPTS_MAX:
            self.bricks.append("start %d of install %d without confirmation" % (starts, slot.install))


class UpdateDevice:
    """A device. `start` is a power-on or reset; everything but the flash is new then.

    Args:
        flash: NorFlash.
        oracle: Oracle.
    """

    def __init__(self, flash=None, oracle=None):
        self.flash = flash or NorFlash(FLASH_BYTES)
        self.oracle = oracle or Oracle()
        self.journal = self.area = self.running = self.trial = None

    def copy(self, seed=1):
        """Return a device that is switched off, with the same flash and history."""
        return UpdateDevice(self._copy_of_flash(seed), self.oracle.copy())

    def _copy_of_flash(self, seed):
        flash = NorFlash(0, seed)
        flash.data = bytearray(self.flash.data)
        return flash

    def append(self, record):
        if record.kind == CONFIRMED:
            self.oracle.confirming[record.install] = self.image_in(record.slot)
        self.journal.append(record)
        self.oracle.appended(record, self.image_in(record.slot))

    def image_in(self, slot):
        """Return the image whose header and content a slot holds, or None."""
        for image in self.oracle.images:
            at = self.area.content_offset(slot)
            if (
                self.area.header_data(slot) == image.data
                and self.flash.data[at : at + len(image.content)] == image.content
            ):
                return image
        return None

    def start(self, power_on=False):
        """Boot; return the image that runs, or None for recovery."""
        self.area = UpdateArea(self.flash, SLOT_BYTES)
        self.journal = BootJournal(self.flash)
        self.running = self.trial = None
        decision = BootSequence(self.area, self.journal, TARGET.platform).select(power_on)
        self.oracle.check_start(self, decision)
        for record in decision.records:
            self.oracle.appended(record, self.image_in(record.slot))
        if decision.action == selection.RECOVER:
            return None
        self.running = decision.slot
        has_fallback = len([s for s in self.journal.state.slots if s.install and not s.failed]) > 1
        self.trial = Trial(self.journal.state, self.running, has_fallback, 0)
        return self.image_in(self.running)

    def carry_out(self, effect):
        for record in effect.records:
            self.append(record)
        return effect.restart

    def acknowledge(self):
        self.carry_out(self.trial.acknowledged())

    def switch_off(self):
        """A planned power-off."""
        install = self.journal.state.slots[self.running].install
        self.oracle.withdrawn[install] = self.oracle.withdrawn.get(install, 0) + 1
        self.carry_out(self.trial.stopping())

    def wait_without_acknowledgement(self):
        """Run for 15 min with a registered modem; return whether the device restarts."""
        self.carry_out(self.trial.step(True, 1000))
        return self.carry_out(self.trial.step(True, 1000 + ACKNOWLEDGE_MS))

    def installer(self, verify=signature_is_valid, **named):
        return Installer(self.area, self.journal, verify, TARGET, self.running, **named)

    def install(self, image):
        installer = self.installer()
        run_to_completion(installer.begin(image.data))
        if image.base is None:
            for index in range(installer.blocks):
                data = image.content[index * BLOCK_BYTES : (index + 1) * BLOCK_BYTES]
                if hashlib.sha256(data).digest()[:8] != installer.block_digest(index):
                    installer.write_block(index, memoryview(data))
        else:
            self._apply_delta(installer, image)
        run_to_completion(installer.finish())
        slot = self.journal.state.slots[installer.slot]
        self.oracle.appended(self.journal.state.slot_record(INSTALLED, installer.slot), image)
        assert slot.install == self.journal.state.last_install

    def _apply_delta(self, installer, image):
        """Write the content that a delta makes of the content in the other slot."""
        base = self.area.content(1 - installer.slot, len(image.base.content))
        operations = io.BytesIO(image.operations)
        run_to_completion(apply_delta(base, operations, len(image.content), ContentStream(installer).write))


def update(device, image, ending, crashes=0, planned=0):
    """Bring an image into a slot and through its trial.

    Every action depends on what the device says after a start, so it continues after a power cut.

    Args:
        device: UpdateDevice.
        image: Image to install.
        ending: "confirmed", "crashes" or "silent" (registered without a PUBACK): how the trial ends.
        crashes: Starts that crash before a good one.
        planned: Starts that end by a planned power-off before a good one.

    Returns:
        Whether the device ended as intended: on the new image, or on the previous one after a failed trial.
    """
    if image not in device.oracle.images:
        device.oracle.images.append(image)
    trials = 0
    for number in range(STARTS_MAX):
        running = device.start(power_on=number == 0)
        if running is not image:
            if trials >= (ATTEMPTS_MAX if ending == "crashes" else 1) and ending != "confirmed":
                return True
            if _failed(device, image) and ending != "confirmed":
                return True
            device.install(image)
        elif ending == "confirmed":
            if trials >= crashes + planned:
                device.acknowledge()
                if device.journal.state.floor < image.rollback:
                    return False
                return device.start() is image and _is_confirmed(device, image)
            if trials >= crashes:
                device.switch_off()
            trials += 1
        else:
            trials += 1
            if ending == "silent" and not device.wait_without_acknowledgement():
                return False
    return False


def _failed(device, image):
    state = device.journal.state
    return any(state.slots[n].failed and device.image_in(n) is image for n in range(2))


def _is_confirmed(device, image):
    slot = device.journal.state.slots[device.running]
    return slot.confirmed and device.journal.state.floor >= image.rollback


def fill_journal(device, room):
    """Append records without an effect until `room` more ones fit into the sector."""
    device.journal = BootJournal(device.flash)
    state = device.journal.state
    number = state.confirmed_slot()
    while device.journal._next != 256 - room:
        device.journal.append(state.slot_record(ATTEMPT, number or 0, state.slots[number or 0].attempts))
        state = device.journal.state
