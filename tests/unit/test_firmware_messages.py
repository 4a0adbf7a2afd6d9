"""Firmware messages at the edge of the device: refusals, audit log, what a restart must not disturb, resumption."""

import air_harness as ah
import patrolink_enums as enums
import patrolink_messages as m
import update_harness as uh
from agent.link.latest_frame import LatestFrame
from agent.update.device_slots import DeviceSlots
from app import wiring_no_slots
from app.wiring_firmware import FirmwareUpdates
from app.wiring_slots import has_open_job
from memory_storage import MemoryFiles

NOW_MS = 1_700_000_000_000
REQUEST = b"a sealed request"


class FakeHal:
    """Files by folder, and the battery."""

    def __init__(self):
        self.folders = {}
        self.level = enums.UNKNOWN

    def Files(self, folder):  # noqa: N802 - name of the contract
        return self.folders.setdefault(folder, MemoryFiles())

    def battery(self):
        return self.level


class FakeReporter:
    def __init__(self):
        self.sent = []
        self.clock = self
        self.time_ms = NOW_MS

    def unix_ms(self, now_ms):
        return self.time_ms

    def send(self, kind, values):
        self.sent.append((kind, values))

    def seal(self, kind, values):
        self.sent.append((kind, values))
        return REQUEST

    def statuses(self):
        return [(v["command_id"], v["state"], v["reason"]) for kind, v in self.sent if kind == m.FIRMWARE_STATUS]


class FakeQueue:
    def __init__(self):
        self.frames = self.due = 0

    def __len__(self):
        return self.frames

    def due_count(self):
        return self.due


class Busy:
    """A part that may be busy: push-to-talk, or recording and live view."""

    def __init__(self):
        self.on = False

    def is_running(self):
        return self.on


class FakePtt(Busy):
    def is_busy(self):
        return self.on


class FakeRecording(Busy):
    @property
    def is_busy(self):
        return self.on


class FakeLink:
    level = enums.DEVICE_STATUS_LINK_UP


class FakeSession:
    connects = 1


class FakeSos:
    def __init__(self):
        self.alarms = []


class FakeDevice:
    """The parts of app.device.Device that an update reads."""

    def __init__(self):
        self.reporter = FakeReporter()
        self.outbox, self.event_queue, self.request = FakeQueue(), FakeQueue(), LatestFrame(32)
        self.link, self.session, self.sos = FakeLink(), FakeSession(), FakeSos()
        self.ptt, self.recording, self.live_view = FakePtt(), FakeRecording(), Busy()


class Rig:
    """A device whose first image is confirmed, with the edge of updates around it."""

    def __init__(self):
        self.air, self.first = ah.device_with_first()
        self.hal, self.device, self.shown = FakeHal(), FakeDevice(), []
        self.build()

    def build(self):
        device = self.air.device
        slots = DeviceSlots(device.area, device.journal, device.running, 1, self.air._make_installer)
        self.updates = FirmwareUpdates("/state", self.hal, slots, self.device, lambda: 0, self.shown.append)

    def message(self, image, **changes):
        message = {
            "command_id": 7,
            "action": enums.FIRMWARE_ACTION_INSTALL,
            "expires_ms": NOW_MS + 1000,
            "operator": "chief",
            "image": image.id,
            "bytes": len(image.file),
            "rollback_floor": 0,
            "version": "2.0",
        }
        message.update(changes)
        self.air.device.oracle.images.append(image)
        self.updates.on_firmware(message)

    def run(self, image, rounds=2000):
        """Serve all requests; return whether the device is to restart."""
        reporter = self.device.reporter
        now_ms = 0
        for _ in range(rounds):
            now_ms += self.updates.step(now_ms) or 1
            for kind, values in reporter.sent:
                if kind == m.FIRMWARE_REQUEST:
                    data = image.file[values["offset"] : values["offset"] + values["max_bytes"]]
                    self.device.request.acknowledge()
                    self.updates.on_block({"image": values["image"], "offset": values["offset"], "data": data})
            reporter.sent = [entry for entry in reporter.sent if entry[0] != m.FIRMWARE_REQUEST]
            if self.updates.restart_due:
                return True
        return False


def audit_of(rig):
    return bytes(rig.hal.folders["/state/audit"].data.get("firmware", b"")).decode().splitlines()


def test_board_without_slots_refuses():
    reporter, shown = FakeReporter(), []
    wiring_no_slots.refuse({"command_id": 3}, reporter, shown.append)
    assert reporter.statuses() == [(3, ah.REFUSED, enums.FIRMWARE_STATUS_REASON_NO_SLOTS)] and shown


def test_installation_is_shown_audited_and_reported():
    rig = Rig()
    image = ah.AirImage("2.0", 3, uh.random_content(2))
    rig.message(image)
    assert rig.run(image)
    assert [state for _, state, _ in rig.device.reporter.statuses()] == [ah.FETCHING, ah.INSTALLED]
    assert rig.device.reporter.sent[-1][1]["content"] == rig.first.sha256[:8]
    assert "update: version 2.0, requested by chief" in rig.shown and "update: installed" in rig.shown
    first, *_, last = audit_of(rig)
    assert first.split("\t")[1:5] == ["firmware", "install", "chief", "7"] and "\tinstalled\t" in last


def test_expired_unknown_and_unaudited_commands_are_not_carried_out():
    rig = Rig()
    image = ah.AirImage("2.0", 3, uh.random_content(2))
    rig.message(image, expires_ms=NOW_MS - 1)
    rig.message(image, action=3)
    rig.message(image, bytes=None)
    rig.hal.Files("/state/audit").fault = 28
    rig.message(image)
    reasons = (
        (ah.REFUSED, enums.FIRMWARE_STATUS_REASON_EXPIRED),
        (ah.REFUSED, enums.FIRMWARE_STATUS_REASON_FORMAT),
        (ah.REFUSED, enums.FIRMWARE_STATUS_REASON_FORMAT),
        (ah.FAILED, enums.FIRMWARE_STATUS_REASON_STORAGE),
    )
    assert rig.device.reporter.statuses() == [(7, state, reason) for state, reason in reasons]
    assert not rig.run(image, 50) and "job" not in rig.hal.folders["/state/update"].data


def test_command_without_a_known_time_is_carried_out():
    rig = Rig()
    image = ah.AirImage("2.0", 3, uh.random_content(2))
    rig.device.reporter.time_ms = None
    rig.message(image)
    assert rig.run(image)


def test_repeated_command_is_reported_again_after_it_has_expired():
    rig = Rig()
    image = ah.AirImage("2.0", 3, uh.random_content(2))
    rig.message(image)
    rig.run(image)
    rig.message(image, expires_ms=0)
    assert rig.device.reporter.statuses()[-1] == (7, ah.INSTALLED, 0)


def test_nothing_is_requested_while_frames_wait_or_voice_is_busy():
    rig = Rig()
    image = ah.AirImage("2.0", 3, uh.random_content(2))
    rig.message(image)
    device = rig.device
    device.outbox.frames = 1
    assert not rig.run(image, 100) and device.reporter.sent == []
    device.outbox.frames, device.event_queue.due = 0, 1
    assert not rig.run(image, 100) and device.reporter.sent == []
    device.event_queue.due, device.ptt.on = 0, True
    assert not rig.run(image, 100) and device.reporter.sent == []
    device.ptt.on = False
    assert rig.run(image)


def test_request_waits_in_memory_and_no_other_follows_before_it_is_sent():
    rig = Rig()
    image = ah.AirImage("2.0", 3, uh.random_content(2))
    rig.message(image)
    device, now_ms = rig.device, 0
    for _ in range(100):
        now_ms += rig.updates.step(now_ms) or 1
    assert [kind for kind, _ in device.reporter.sent] == [m.FIRMWARE_REQUEST]
    assert bytes(device.request.peek()) == REQUEST and len(device.request) == 1
    device.request.clear()  # as a new session does
    device.session.connects = 2
    for _ in range(100):
        now_ms += rig.updates.step(now_ms) or 1
    first, second = device.reporter.sent
    assert first == second


def test_latest_frame_replaces_the_one_that_waits():
    latest = LatestFrame(32)
    assert len(latest) == 0 and latest.peek() is None
    latest.put(b"first")
    latest.put(b"second one")
    assert bytes(latest.peek()) == b"second one" and len(latest) == 1
    latest.acknowledge()
    assert len(latest) == 0 and latest.peek() is None


def test_restart_waits_for_alarm_recording_live_view_and_battery():
    class OpenAlarm:
        def is_open(self):
            return True

    rig = Rig()
    image = ah.AirImage("2.0", 3, uh.random_content(2))
    device = rig.device
    device.event_queue.frames = 1
    rig.message(image)
    assert not rig.run(image, 400)
    device.event_queue.frames, device.sos.alarms = 0, [OpenAlarm()]
    device.recording.on = True
    assert not rig.run(image, 20)
    device.sos.alarms = []
    assert not rig.run(image, 20)
    device.recording.on, device.live_view.on = False, True
    assert not rig.run(image, 20)
    device.live_view.on, rig.hal.level = False, 19
    assert not rig.run(image, 20)
    deferred = [reason for _, state, reason in device.reporter.statuses() if state == ah.DEFERRED]
    assert deferred == [
        enums.FIRMWARE_STATUS_REASON_SOS,
        enums.FIRMWARE_STATUS_REASON_RECORDING,
        enums.FIRMWARE_STATUS_REASON_BATTERY,
    ]
    rig.hal.level = 20
    assert rig.run(image)


def test_job_is_resumed_and_an_ended_one_is_not_loaded():
    rig = Rig()
    image = ah.AirImage("2.0", 3, uh.random_content(2))
    rig.message(image)
    assert has_open_job(rig.hal, "/state")
    rig.build()
    assert rig.run(image)
    other = Rig()
    other.message(image, action=enums.FIRMWARE_ACTION_CANCEL)
    other.message(image, rollback_floor=99)
    assert not other.run(image, 100)
    assert not has_open_job(other.hal, "/state")
    other.hal.Files("/state/update").fault = 5
    assert not has_open_job(other.hal, "/state")


def test_storage_that_cannot_be_read_is_reported():
    rig = Rig()
    image = ah.AirImage("2.0", 3, uh.random_content(2))
    rig.hal.Files("/state/update").fault = 5
    rig.build()
    rig.message(image)
    assert rig.device.reporter.statuses() == [(7, ah.FAILED, enums.FIRMWARE_STATUS_REASON_STORAGE)]
