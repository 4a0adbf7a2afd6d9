"""Buttons, events and commands of recording and live view, on both runtimes."""

import patrolink_enums as enums
import patrolink_messages as m
from agent.live_view.controller import LiveViewController
from agent.recording.controller import Recording, RecordingController
from clip_harness import ClipHarness
from compat.steps import WRITES

EIO = 5
START = enums.COMMAND_ACTION_START_RECORDING
STOP = enums.COMMAND_ACTION_STOP_RECORDING
SNAPSHOT = enums.COMMAND_ACTION_SNAPSHOT
PRESERVE = enums.COMMAND_ACTION_PRESERVE_CLIP


def command(number=None, value=""):
    return {"operator": "duty", "number": number, "value": value}


class FakeReporter:
    def __init__(self, harness):
        self.harness = harness
        self.clock = self
        self.events = []  # (kind, cause, ref, value)
        self.sent = []  # (message type, values)

    def unix_ms(self, now):
        return self.harness.unix(now) or None

    def raise_event(self, kind, cause, ack_wanted, now, ref=None, value=None):
        self.events.append((kind, cause, ref, value))

    def send(self, kind, values):
        self.sent.append((kind, values))


class FakeNetwork:
    slice_ms = 20

    def set_slice(self, slice_ms):
        self.slice_ms = slice_ms


class ControllerHarness(ClipHarness):
    """A board with a RecordingController.

    Attributes:
        reads: How often storage was opened.
        unreadable: Whether opening storage fails.
        answers: Deferred answers of commands.
    """

    def __init__(self):
        ClipHarness.__init__(self)
        self.reporter = FakeReporter(self)
        self.network = FakeNetwork()
        self.outbox = []
        self.answers = []
        self.log = []
        self.reads = 0
        self.unreadable = False
        self.boot()
        self.controller = RecordingController(
            self.build,
            self.reporter,
            self.network,
            self.outbox,
            self.answer,
            self.camera,
            self.now_ms,
            self.log.append,
        )

    def now_ms(self):
        self.now += 1  # simulates computing time, so that loading yields after a few steps
        return self.now

    def answer(self, message, result):
        self.answers.append((result.code, result.ref))

    def build(self, on_low, on_sealed):
        self.reads += 1
        if self.unreadable:
            raise OSError(EIO)
        self.construct(on_low, on_sealed)
        return Recording(self.store, self.recorder, self.ring_recorder, None)

    def serve(self, seconds):
        until = self.now + int(seconds * 1000)
        while self.now < until:
            self.now += 49
            self.controller.serve(self.now_ms())
        return self

    def carry_out(self, action, number=None):
        return self.controller.commands()[action](command(number))

    def kinds(self):
        return [(event[0], event[1]) for event in self.reporter.events]


def test_presses_while_storage_is_loaded_are_carried_out_afterwards():
    harness = ControllerHarness()
    controller = harness.controller
    assert not controller.is_ready and controller.errors == 0 and controller.free_pct is None
    assert harness.network.slice_ms == 20
    assert controller.on_button(b"mark", harness.now) and not controller.on_button(b"talk", harness.now)
    result, text, ref = harness.carry_out(START)
    assert result == enums.ANSWER_RESULT_REFUSED and "loaded" in text and ref is None
    harness.serve(4)  # the key agreement takes more steps on MicroPython
    assert controller.is_ready and controller.free_pct > 90
    assert [clip.number for clip in harness.store.index.clips] == [1]


def test_round_that_had_much_to_do_takes_no_step_until_one_is_overdue():
    harness = ControllerHarness()
    controller = harness.controller
    taken = []

    def steps():
        while True:
            taken.append(harness.now)
            yield None

    controller._loading = steps()
    harness.serve(0.2)
    for duration_ms, expected in ((0, True), (10, False), (60, False), (0, True), (10, False), (120, True)):
        taken.clear()
        begin = harness.now
        harness.now += duration_ms
        controller.serve(begin)
        assert bool(taken) == expected, (duration_ms, expected)


def test_step_that_writes_has_a_round_of_its_own():
    harness = ControllerHarness()
    controller = harness.controller
    taken = []

    def steps():
        for result in (None, WRITES, None, WRITES, None):
            taken.append(len(taken))
            yield result
        while True:
            yield WRITES

    controller._loading = steps()
    rounds = []
    for _ in range(3):
        controller.serve(harness.now_ms())
        rounds.append(len(taken))
    assert rounds == [2, 4, 5]


def test_unreadable_storage_is_reported_and_retried():
    harness = ControllerHarness()
    harness.unreadable = True
    harness.controller = RecordingController(
        harness.build,
        harness.reporter,
        harness.network,
        harness.outbox,
        harness.answer,
        harness.camera,
        harness.now_ms,
        harness.log.append,
    )
    harness.serve(4)
    assert harness.controller.errors == enums.DEVICE_STATUS_ERRORS_STORAGE_FAULT
    assert "storage cannot be read" in harness.log[-1]
    assert harness.carry_out(SNAPSHOT)[0] == enums.ANSWER_RESULT_FAILED
    harness.controller.on_event(enums.CLIP_MANIFEST_TRIGGER_SOS, 1)
    assert "no clip was made" in harness.log[-1]
    harness.unreadable = False
    harness.serve(8)
    assert harness.controller.is_ready and harness.controller.errors == 0


def test_the_record_button_starts_and_stops_a_recording():
    harness = ControllerHarness().serve(12)
    controller = harness.controller
    assert controller.on_button(b"record", harness.now)
    harness.serve(30)
    assert harness.recorder.held and not harness.reporter.sent
    assert controller.on_button(b"record", harness.now)
    harness.serve(20)
    assert not harness.recorder.held
    button = enums.EVENT_CAUSE_BUTTON
    assert harness.kinds() == [(enums.EVENT_KIND_RECORDING_START, button), (enums.EVENT_KIND_RECORDING_STOP, button)]
    assert [kind for kind, _ in harness.reporter.sent] == [m.CLIP_MANIFEST]


def test_commands_start_stop_and_preserve():
    harness = ControllerHarness().serve(12)
    assert harness.carry_out(START, 86401)[0] == enums.ANSWER_RESULT_REFUSED
    assert harness.carry_out(STOP)[0] == enums.ANSWER_RESULT_FAILED
    assert harness.carry_out(START) == (enums.ANSWER_RESULT_STARTED, "", 1)
    harness.serve(5)
    assert harness.carry_out(STOP) == (enums.ANSWER_RESULT_DONE, "", 1)
    harness.serve(20)
    assert harness.carry_out(PRESERVE, 1) == (enums.ANSWER_RESULT_DONE, "", 1)
    assert harness.carry_out(PRESERVE, 9)[0] == enums.ANSWER_RESULT_FAILED
    assert harness.store.index.find(1).keep
    harness.controller.on_clip_state({"clip_id": 1, "state": enums.CLIP_STATE_STATE_VERIFIED})
    assert harness.store.index.find(1).verified_ms


def test_a_snapshot_is_answered_once_its_picture_is_recorded():
    harness = ControllerHarness().serve(12)
    assert harness.carry_out(SNAPSHOT) is None and harness.answers == []
    assert harness.carry_out(SNAPSHOT)[0] == enums.ANSWER_RESULT_REFUSED
    harness.serve(1)
    assert harness.answers == [(enums.ANSWER_RESULT_DONE, 1)]
    harness.camera.stalled = True
    harness.serve(1)
    assert harness.carry_out(SNAPSHOT) is None
    harness.serve(3)
    assert harness.answers[1:] == [(enums.ANSWER_RESULT_FAILED, None)]
    harness.time_known = False
    assert harness.carry_out(SNAPSHOT)[0] == enums.ANSWER_RESULT_REFUSED


def test_an_unanswered_clip_is_announced_again_every_two_minutes():
    harness = ControllerHarness().serve(12)
    harness.controller.on_event(enums.CLIP_MANIFEST_TRIGGER_BUTTON, 1)
    harness.serve(20)
    uploads = harness.store.uploads
    for item in list(uploads.pending()):
        uploads.mark_uploaded(item.clip, item.name)
    list(uploads.pending())
    assert len(harness.reporter.sent) == 1
    harness.outbox.append(b"frame")  # the link is down
    harness.serve(150)
    assert len(harness.reporter.sent) == 1
    harness.outbox.clear()
    harness.serve(250)
    assert 3 <= len(harness.reporter.sent) <= 4
    assert [values["clip_id"] for _, values in harness.reporter.sent] == [1] * len(harness.reporter.sent)


class FakeLiveView:
    def __init__(self):
        self.end_reason = ""
        self.refusal = ""
        self._is_running = False

    def running(self):
        return self._is_running

    def start(self, command, host, port, now):
        self._is_running = not self.refusal
        return self._is_running, self.refusal

    def stop(self, reason, now):
        if self._is_running:
            self._is_running = False
            self.end_reason = reason

    def serve(self, now):
        return 100


def test_a_live_view_is_recorded_in_the_access_log_and_reported():
    harness = ControllerHarness().serve(12)
    live_view = FakeLiveView()
    controller = LiveViewController(live_view, harness.controller, harness.reporter, harness.now_ms)
    commands = controller.commands()
    start, stop = commands[enums.COMMAND_ACTION_LIVE_VIEW_START], commands[enums.COMMAND_ACTION_LIVE_VIEW_STOP]
    for address in ("", "host", "host:", ":5004", "host:x", "host:70000"):
        assert start(command(value=address))[0] == enums.ANSWER_RESULT_REFUSED, address
    assert stop(command())[0] == enums.ANSWER_RESULT_FAILED
    live_view.refusal = "busy"
    assert start(command(value="host:5004")) == (enums.ANSWER_RESULT_REFUSED, "busy", None)
    live_view.refusal = ""
    assert start(command(value="host:5004"))[0] == enums.ANSWER_RESULT_STARTED
    assert stop(command())[0] == enums.ANSWER_RESULT_DONE
    assert start(command(value="host:5004"))[0] == enums.ANSWER_RESULT_STARTED
    live_view.stop("no report from the hub for 10 s", harness.now)
    assert controller.serve(harness.now) == 100 and controller.serve(harness.now) == 100
    controller.close(harness.now)
    started, stopped = enums.EVENT_KIND_LIVE_VIEW_START, enums.EVENT_KIND_LIVE_VIEW_STOP
    assert [kind for kind, _ in harness.kinds()] == [started, stopped, started, stopped]
    harness.controller.on_event(enums.CLIP_MANIFEST_TRIGGER_BUTTON, 1)
    harness.serve(20)
    access = [(line["access"], line.get("why")) for line in harness.manifest(1) if "access" in line]
    assert access == [
        ("live_view_start", None),
        ("live_view_stop", "stopped by the hub"),
        ("live_view_start", None),
        ("live_view_stop", "no report from the hub for 10 s"),
    ]
