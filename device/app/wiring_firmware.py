"""Updates over the air: connects the hub's firmware messages with link, storage, slots and wearer.

It takes heap and is loaded with the first command, or for a job of the previous boot.
"""

from binascii import hexlify

import patrolink_enums as enums
import patrolink_messages as m
from agent.link.audit_log import AuditLog
from agent.update.air_update import AirUpdate
from agent.update.job_store import JobStore
from app.wiring_slots import UPDATE_FOLDER
from patrolink_protocol.native import const

IDLE_MS = const(60_000)
_LOG_FILE_MAX = const(4096)
_BATTERY_MIN_PCT = const(20)
_STATES = ("", "fetching", "deferred", "installed", "confirmed", "refused", "failed", "rolled back", "cancelled")


class _Port:
    """The device, as agent.update.air_update sees it."""

    def __init__(self, device, slots, battery, now_ms, log):
        self._device = device
        self._slots = slots
        self._battery = battery
        self._now_ms = now_ms
        self._audit_log = None
        self.log = log

    def use_audit_log(self, audit_log):
        self._audit_log = audit_log

    def unix_ms(self):
        return self._device.reporter.clock.unix_ms(self._now_ms())

    def audit(self, *fields):
        """Append to the audit log; return whether that succeeded."""
        return self._audit_log is None or self._audit_log.append(self.unix_ms() or 0, "firmware", *fields)

    def session(self):
        """Return the number of the session that would send a request at once, or None."""
        device = self._device
        if device.link.level != enums.DEVICE_STATUS_LINK_UP or len(device.outbox) or len(device.request):
            return None
        return device.session.connects

    def is_urgent(self):
        """Return whether voice or an event goes first."""
        device = self._device
        return device.event_queue.due_count() > 0 or device.ptt is not None and device.ptt.is_busy()

    def blocker(self):
        """Return firmware_status.reason why the device must not restart now, 0 if it may, None if it is offline."""
        device = self._device
        if len(device.event_queue) or any([alarm.is_open() for alarm in device.sos.alarms]):
            return enums.FIRMWARE_STATUS_REASON_SOS
        if device.ptt is not None and device.ptt.is_busy():
            return enums.FIRMWARE_STATUS_REASON_VOICE
        if device.recording is not None and device.recording.is_busy:
            return enums.FIRMWARE_STATUS_REASON_RECORDING
        if device.live_view is not None and device.live_view.is_running():
            return enums.FIRMWARE_STATUS_REASON_RECORDING
        if 0 <= self._battery() < _BATTERY_MIN_PCT:
            return enums.FIRMWARE_STATUS_REASON_BATTERY
        return None if self.session() is None else enums.FIRMWARE_STATUS_REASON_NONE

    def send_request(self, image, offset, max_bytes):
        """Request bytes of an image. The request is not stored: a restart repeats it with what has arrived."""
        values = {"image": image, "offset": offset, "max_bytes": max_bytes}
        request = self._device.reporter.seal(m.FIRMWARE_REQUEST, values)
        if request is not None:
            self._device.request.put(request)

    def send_status(self, command_id, state, reason, text):
        """Report a state to the hub, the audit log and the wearer."""
        slots = self._slots
        self.log("update: %s%s" % (_STATES[state], ": " + text if text else ""))
        self.audit(command_id, _STATES[state], reason, text)
        values = {"command_id": command_id, "state": state, "reason": reason, "text": text.encode()}
        values["content"] = slots.content_id
        values["rollback_floor"] = slots.rollback_floor
        self._device.reporter.send(m.FIRMWARE_STATUS, values)


class FirmwareUpdates:
    """Carries out firmware messages.

    Args:
        state_dir: Folder of the device's state.
        hal: The platform.
        slots: agent.update.device_slots.DeviceSlots.
        device: app.device.Device, whose parts are read.
        now_ms: Function that returns monotonic milliseconds.
        log: Function of one string.
    """

    def __init__(self, state_dir, hal, slots, device, now_ms, log):
        self._state_dir = state_dir
        self._hal = hal
        self._slots = slots
        self._port = _Port(device, slots, hal.battery, now_ms, log)
        self._update = None
        try:
            self._load()
        except OSError as e:
            log("update: the state cannot be read (%s)" % e)

    @property
    def restart_due(self):
        """Whether the device is to restart into a new image."""
        return self._update is not None and self._update.restart_due

    def step(self, now_ms):
        """Do the next piece of work. Returns the ms after which it wants to be called again."""
        return IDLE_MS if self._update is None else self._update.step(now_ms)

    def _load(self):
        """Build the update if it is not there. Raises OSError."""
        if self._update is not None:
            return
        files = self._hal.Files(self._state_dir + UPDATE_FOLDER)
        self._port.use_audit_log(AuditLog(self._hal.Files(self._state_dir + "/audit"), "firmware", _LOG_FILE_MAX))
        self._update = AirUpdate(JobStore(files), self._slots, self._port)

    def on_firmware(self, message):
        """Carry out a firmware message."""
        refused, failed = enums.FIRMWARE_STATUS_STATE_REFUSED, enums.FIRMWARE_STATUS_STATE_FAILED
        port, command_id = self._port, message["command_id"]
        try:
            self._load()
        except OSError as e:
            port.send_status(command_id, failed, enums.FIRMWARE_STATUS_REASON_STORAGE, "storage: %s" % e)
            return
        now_ms = port.unix_ms()
        if message["action"] == enums.FIRMWARE_ACTION_CANCEL:
            port.audit("cancel", message["operator"], command_id)
            self._update.cancel(message)
        elif self._update.knows(command_id):
            self._update.install(message)
        elif now_ms is not None and now_ms > message["expires_ms"]:  # without a clock, signature and floor protect it
            port.send_status(command_id, refused, enums.FIRMWARE_STATUS_REASON_EXPIRED, "")
        elif message["action"] != enums.FIRMWARE_ACTION_INSTALL or message["bytes"] is None:
            port.send_status(command_id, refused, enums.FIRMWARE_STATUS_REASON_FORMAT, "not a request to install")
        elif not port.audit(
            "install", message["operator"], command_id, str(hexlify(message["image"]), "utf-8"), message["version"]
        ):
            text = "the audit log cannot be written"
            port.send_status(command_id, failed, enums.FIRMWARE_STATUS_REASON_STORAGE, text)
        else:
            port.log("update: version %s, requested by %s" % (message["version"], message["operator"]))
            self._update.install(message)

    def on_block(self, message):
        """Take bytes of an image."""
        if self._update is not None:
            self._update.on_block(message)
