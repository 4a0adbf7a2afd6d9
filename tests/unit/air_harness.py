"""A device that updates over the air, and a hub that serves its image. For tests on both runtimes."""

import hashlib

import patrolink_enums as enums
import update_harness as uh
from agent.update import air_update
from agent.update.air_update import AirUpdate
from agent.update.device_slots import DeviceSlots
from agent.update.installer import Installer
from agent.update.job_store import JobStore
from memory_storage import MemoryFiles
from patrolink_protocol import image_header as ih

FETCHING, DEFERRED, INSTALLED, CONFIRMED, REFUSED, FAILED, ROLLED_BACK, CANCELLED = range(1, 9)
DAY_MS = 86_400_000
STORED_BYTES_MAX = 65_535
_COMMANDS = 100  # ids of commands for one image


def stored(data):
    """Return raw deflate of data without compression (RFC 1951, 3.2.4)."""
    n = len(data)
    assert n <= STORED_BYTES_MAX
    return b"\1" + n.to_bytes(2, "little") + (n ^ 0xFFFF).to_bytes(2, "little") + data


class AirImage(uh.Image):
    """A packed image: a delta, or without a base a full one; `operations` replace those that make the content.

    Attributes:
        file: The image file.
        id: Its id.
    """

    def __init__(self, name, rollback, content, base=None, operations=None, **changes):
        uh.Image.__init__(self, name, rollback, content, base)
        if operations is not None:
            self.operations = operations
        elif base is None:
            self.operations = uh.operation(2, len(content)) + content
        payload = stored(self.operations)
        changed = {"payload_size": len(payload), "payload_sha256": hashlib.sha256(payload).digest()}
        changed.update(changes)
        header = ih.unpack(self.data)
        values = {name: getattr(header, name) for name in uh.ih_fields()}
        values["kind"] = ih.AGENT_DELTA
        values.update(changed)
        self.rollback = values["rollback"]
        self.data = ih.pack(ih.ImageHeader(*[values[name] for name in uh.ih_fields()]))
        self.file = self.data + payload
        self.id = hashlib.sha256(self.file).digest()[:8]


class _ObservedJournal:
    """The journal of a device; its oracle sees each record."""

    def __init__(self, device):
        self._device = device

    @property
    def state(self):
        return self._device.journal.state

    def append(self, record):
        self._device.append(record)


class AirDevice:
    """A device with its storage, and the port of its update. What a restart keeps: flash, files and statuses.

    Attributes:
        device: update_harness.UpdateDevice.
        files: MemoryFiles of the update.
        update: AirUpdate of this boot.
        statuses: (command id, state, reason) of each status.
        requests: (offset, max_bytes) of each request.
        online, urgent, reason: What the port answers.
        now_ms: Time of this boot.
    """

    def __init__(self, device=None):
        self.device = device or uh.UpdateDevice()
        self.files = MemoryFiles()
        self.statuses = []
        self.requests = []
        self.served_bytes = 0
        self.online = True
        self.urgent = False
        self.reason = 0
        self.connects = 0
        self.logged = []
        self.update = self.running = None

    # --- port ---------------------------------------------------------------------------------------------------------

    def session(self):
        return self.connects if self.online else None

    def is_urgent(self):
        return self.urgent

    def blocker(self):
        return self.reason

    def send_status(self, command_id, state, reason, text):
        assert len(text.encode()) <= 80 and command_id == int(command_id)
        self.statuses.append((command_id, state, reason))

    def send_request(self, image, offset, max_bytes):
        self.requests.append((image, offset, max_bytes))

    def log(self, text):
        self.logged.append(text)

    # --- events -------------------------------------------------------------------------------------------------------

    def start(self, power_on=False):
        """Boot; return the image that runs."""
        self.running = self.device.start(power_on)
        self.boot()
        return self.running

    def boot(self):
        """Build the update of a device that has started."""
        self.requests.clear()
        self.now_ms = 0
        self.connects += 1
        device = self.device
        slots = DeviceSlots(device.area, device.journal, device.running, uh.TARGET.platform, self._make_installer)
        self.update = AirUpdate(JobStore(self.files), slots, self)

    def _make_installer(self, journal, floor):
        device = self.device
        observed = _ObservedJournal(device)
        return Installer(device.area, observed, uh.signature_is_valid, uh.TARGET, device.running, floor)

    def command(self, command_id, image, action=enums.FIRMWARE_ACTION_INSTALL, **changes):
        """Handle a firmware message."""
        message = {
            "command_id": command_id,
            "action": action,
            "expires_ms": DAY_MS,
            "operator": "o",
            "image": image.id,
            "bytes": len(image.file),
            "rollback_floor": 0,
            "version": "1",
        }
        message.update(changes)
        if action == enums.FIRMWARE_ACTION_INSTALL:
            if image not in self.device.oracle.images:
                self.device.oracle.images.append(image)
            self.update.install(message)
        else:
            self.update.cancel(message)

    def step(self, ms=None):
        """Do a step, then let time pass: as long as the device wants to wait, or `ms`."""
        wait_ms = self.update.step(self.now_ms)
        self.now_ms += wait_ms if ms is None else ms
        return wait_ms

    def block(self, image, offset, n):
        """Handle a block of an image."""
        data = image.file[offset : offset + n]
        self.served_bytes += len(data)
        self.update.on_block({"image": image.id, "offset": offset, "data": data})

    def serve(self, image):
        """Answer all requests."""
        while self.requests:
            _, offset, n = self.requests.pop(0)
            self.block(image, offset, n)

    def run(self, image, steps=3000):
        """Run with a hub that serves an image until the update is idle, or the device is to restart."""
        for _ in range(steps):
            if self.step() == 60_000 and self.update._work is None:
                return
            self.serve(image)
        raise AssertionError("the update does not end: %s" % self.statuses)

    def confirm(self, image):
        """Restart into an image, let the broker acknowledge a frame and run the update to its end."""
        assert self.update.restart_due
        assert self.start() is image
        self.device.acknowledge()
        self.run(image)

    def states(self):
        return [state for _, state, _ in self.statuses]


def device_with_first(rollback=2):
    """Return a device that has confirmed a first image, and that image."""
    device = AirDevice()
    image = AirImage("1.0", rollback, uh.random_content(1))
    device.start()
    device.command(1, image)
    device.run(image)
    device.confirm(image)
    assert device.running is image and device.states() == [FETCHING, INSTALLED, CONFIRMED]
    device.statuses.clear()
    device.served_bytes = 0
    return device, image


class AirUpdateDevice(uh.UpdateDevice):
    """A device for `update_harness.update` whose images come over the air.

    Attributes:
        air: AirDevice with its storage.
    """

    def __init__(self, flash=None, oracle=None):
        uh.UpdateDevice.__init__(self, flash, oracle)
        self.air = AirDevice(device=self)

    def copy(self, seed=1):
        other = AirUpdateDevice(self._copy_of_flash(seed), self.oracle.copy())
        other.air.files.data = {name: bytearray(data) for name, data in self.air.files.data.items()}
        other.air.statuses = list(self.air.statuses)
        return other

    def start(self, power_on=False):
        image = uh.UpdateDevice.start(self, power_on)
        self.air.boot()
        self.air.step()
        return image

    def install(self, image):
        """Install an image; after a failed trial, which cuts of power can cause, it is a new command."""
        failed = [entry for entry in self._statuses_of(image) if entry[1] == ROLLED_BACK]
        self.air.command(self._first_command(image) + len({entry[0] for entry in failed}), image)
        self.air.run(image)
        if not self.air.update.restart_due:
            raise AssertionError("the installation ends: %s" % self.air.statuses)

    def acknowledge(self):
        uh.UpdateDevice.acknowledge(self)
        for _ in range(3):
            self.air.step(air_update.WAIT_MS)

    def last_state(self, image):
        """Return the last firmware_status.state of the command of an image, or 0."""
        statuses = self._statuses_of(image)
        return statuses[-1][1] if statuses else 0

    def _first_command(self, image):
        return self.oracle.images.index(image) * _COMMANDS

    def _statuses_of(self, image):
        first = self._first_command(image)
        return [entry for entry in self.air.statuses if first <= entry[0] < first + _COMMANDS]
