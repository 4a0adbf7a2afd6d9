"""Connects the recorder to the device: buttons, events, commands of the hub, and the start and loss of storage."""

from collections import namedtuple

import patrolink_enums as enums
import patrolink_messages as m
from agent.link.commands import Result
from compat.steps import WRITES, run_to_completion

from .announcer import clip_manifest_values
from .clip_index import NO_EVENT, UPLOADED
from .clip_recorder import UNTIL_STOPPED, RefusedError

_RETRY_MS = 5000  # after storage could not be read
_REPEAT_MS = 120000  # between two repeated announcements
_LOAD_MS = 5  # of steps in one round
_BUSY_MS = 3  # a round that took longer leaves no time for steps
_OVERDUE_MS = 100  # without a step, then even such a round takes one
_DEFERRED_MAX = 8
_RECORDING_S_MAX = 86400
_WEARER = "wearer"  # in access lines

# What a device with a camera and storage records with; `uploader` is None without an upload address.
Recording = namedtuple("Recording", ("store", "recorder", "ring_recorder", "uploader"))

_Deferred = namedtuple("_Deferred", ("function", "arguments"))


class RecordingController:
    """Owns the recorder of a device from the first access to storage on.

    Storage that cannot be read is tried again every 5 s; until then the controller reports a fault and nothing is
    recorded. Loading takes many rounds; what the wearer presses meanwhile is carried out afterwards.

    Args:
        build: Function(on_low, on_sealed) -> Recording (see clip_store.ClipStore for both); raises OSError.
        reporter: agent.tracking.reporter.Reporter.
        network: compat.stream.Network of the link, whose waits are short while steps are left.
        outbox: agent.link.outbox.Outbox: empty once the hub has all frames.
        answer: Function(command message, agent.link.commands.Result) that answers a command later.
        camera: hal camera; its `fault` explains a failed snapshot.
        now_ms: Function() -> monotonic ms.
        log: Function(text).
    """

    def __init__(self, build, reporter, network, outbox, answer, camera, now_ms, log):
        self._build = build
        self._reporter = reporter
        self._network = network
        self._slice_ms = network.slice_ms
        self._outbox = outbox
        self._answer = answer
        self._camera = camera
        self._now_ms = now_ms
        self._log = log
        self._recording = None  # the Recording, once it is loaded
        self._loading = None  # steps to it
        self._step_ms = 0  # when a round had time for steps
        self._deferred = []
        self._retry_ms = self._repeat_ms = 0
        self._repeated = -1  # number of the clip whose announcement was repeated last
        self._wearer_recording = False  # the hub knows of a recording that the wearer holds
        self._snapshot = None  # the command that asked for a snapshot
        self._begin_loading(0)

    def commands(self):
        """Return the handlers of the hub's commands, by command.action."""
        return {
            enums.COMMAND_ACTION_START_RECORDING: self._start,
            enums.COMMAND_ACTION_STOP_RECORDING: self._stop,
            enums.COMMAND_ACTION_SNAPSHOT: self._take_snapshot,
            enums.COMMAND_ACTION_PRESERVE_CLIP: self._preserve,
        }

    # --- start --------------------------------------------------------------------------------------------------------

    def _begin_loading(self, now):
        self._retry_ms = now + _RETRY_MS
        try:
            recording = self._build(self._report_low, self._announce)
        except OSError as e:
            self._storage_failed(e)
            return
        self._loading = self._load(recording)
        self._load_some(now)

    def _load(self, recording):
        yield from recording.ring_recorder.load()
        self._recording = recording
        self._log("clips: recording; %d clips on storage" % len(recording.store.index.clips))
        self._loading = None
        for deferred in self._deferred:
            deferred.function(*deferred.arguments)

    def _load_some(self, now):
        try:
            while next(self._loading) is not WRITES and self._now_ms() - now < _LOAD_MS:
                pass
            return
        except StopIteration:
            pass
        except OSError as e:
            self._storage_failed(e)
        self._loading = None
        self._deferred = []

    def _storage_failed(self, error):
        self._log("clips: storage cannot be read (%s): nothing is recorded; trying again in 5 s" % error)

    def _defer(self, function, *arguments):
        if len(self._deferred) < _DEFERRED_MAX:
            self._deferred.append(_Deferred(function, arguments))

    # --- main loop ----------------------------------------------------------------------------------------------------

    def serve(self, now):
        """Continue loading or recording. Returns the ms after which it wants to be called again."""
        if self._recording is None:
            if self._loading is not None:
                if self._has_time(now):
                    self._load_some(self._now_ms())
            elif now >= self._retry_ms:
                self._begin_loading(now)
            return 0 if self._shorten_waits(self._loading is not None) else _RETRY_MS
        recorder, store = self._recording.recorder, self._recording.store
        recorder.serve(now)
        if self._has_time(now):
            store.open_clips.step()
        if self._wearer_recording and not recorder.held:
            self._wearer_recording = False
            self._raise(enums.EVENT_KIND_RECORDING_STOP, enums.EVENT_CAUSE_FAULT, None)
        if now >= self._repeat_ms and not len(self._outbox):  # the broker has all earlier announcements
            self._repeat_ms = now + _REPEAT_MS
            self._repeat_announcement()
        return 0 if self._shorten_waits(store.open_clips.has_step()) else _RETRY_MS

    def _has_time(self, now):
        """Return whether the round that began at `now` is to take a step: one that sent or recorded has done enough."""
        at = self._now_ms()
        if at - now > _BUSY_MS and at - self._step_ms < _OVERDUE_MS:
            return False
        self._step_ms = at
        return True

    def _shorten_waits(self, on):
        """While steps are left no wait for the network may be long. Returns `on`."""
        self._network.set_slice(1 if on else self._slice_ms)
        return on

    def _repeat_announcement(self):
        """Announce again one clip that the hub has received but not answered: its answer may be lost."""
        store = self._recording.store
        uploaded = [clip for clip in store.index.clips if clip.state == UPLOADED]
        if not uploaded:
            return
        clip = ([c for c in uploaded if c.number > self._repeated] or uploaded)[0]
        self._repeated = clip.number
        try:
            values = run_to_completion(clip_manifest_values(store.files, clip))
        except OSError:
            return
        if values is not None:
            self._reporter.send(m.CLIP_MANIFEST, values)

    def upload(self, now, voice_busy, urgent):
        """Run `Uploader.step`. Must not be called from inside a wait for the network."""
        if self._recording is None or self._recording.uploader is None:
            return _RETRY_MS
        return self._recording.uploader.step(now, voice_busy, urgent)

    def on_fix(self, fix, now):
        """Record a position (agent.gps.fix.Fix)."""
        if self._recording is not None:
            self._recording.ring_recorder.on_fix(fix, now)

    def log_access(self, action, who, *pairs):
        """Record an access to the camera (see open_clips.OpenClips.log_access)."""
        if self._recording is not None:
            self._recording.store.open_clips.log_access(action, who, self._now_ms(), *pairs)

    @property
    def is_ready(self):
        """Whether storage is loaded."""
        return self._recording is not None

    @property
    def is_busy(self):
        """Whether a clip is being recorded or a snapshot taken."""
        return self._recording is not None and self._recording.recorder.is_busy

    @property
    def errors(self):
        """Bits of device_status.errors."""
        if self._recording is None:
            return 0 if self._loading is not None else enums.DEVICE_STATUS_ERRORS_STORAGE_FAULT
        return self._recording.ring_recorder.errors

    @property
    def free_pct(self):
        """The free part of the clips' quota in per cent; None while storage is not loaded."""
        if self._recording is None:
            return None
        usage = self._recording.store.usage
        return max(0, 100 - usage.bytes * 100 // usage.quota)

    def close(self, now):
        """The device is switched off: end the recording and the upload."""
        if self._recording is not None:
            if self._recording.uploader is not None:
                self._recording.uploader.disconnect()
            self._recording.recorder.close(now)

    def summary(self):
        """Return what this boot recorded and uploaded."""
        recording = self._recording
        if recording is None:
            return {"clips": 0, "frames": 0, "lost": 0, "uploaded": 0}
        return {
            "clips": len(recording.store.index.clips),
            "frames": recording.ring_recorder.frames,
            "lost": recording.ring_recorder.loss.total,
            "uploaded": recording.uploader.files if recording.uploader else 0,
        }

    # --- events and buttons -------------------------------------------------------------------------------------------

    def on_event(self, trigger, event_id):
        """Make a clip for an event of the device (clip_manifest.trigger)."""
        if self._loading is not None:
            self._defer(self.on_event, trigger, event_id)
        else:
            self._trigger(trigger, event_id, "", None)

    def _trigger(self, trigger, event_id, who, hold_ms):
        """Return (number of the clip, ""), or (None, the reason why there is none)."""
        if self._recording is None:
            if self._loading is not None:
                return None, "storage is still being loaded; try again in a moment"
            self._log("clips: no clip was made: storage cannot be read")
            return None, "storage cannot be read"
        if trigger == enums.CLIP_MANIFEST_TRIGGER_SOS and self._recording.uploader is not None:
            self._recording.uploader.retry_now(True)
        try:
            return self._recording.recorder.trigger(trigger, event_id, who, self._now_ms(), hold_ms), ""
        except RefusedError as e:
            self._log("clips: no clip was made: %s" % e)
            return None, str(e)

    def on_button(self, name, now):
        """Handle a button. Returns False if it is not one of the recorder's.

        Args:
            name: b"record" begins and ends a recording; b"mark" makes a clip of this moment.
            now: Monotonic ms.
        """
        if name == b"mark":
            self.on_event(enums.CLIP_MANIFEST_TRIGGER_BUTTON, NO_EVENT)
        elif name != b"record":
            return False
        elif self._loading is not None:
            self._defer(self.on_button, name, now)
        elif self._wearer_recording:
            self._wearer_recording = False
            self._raise(
                enums.EVENT_KIND_RECORDING_STOP,
                enums.EVENT_CAUSE_BUTTON,
                self._recording.recorder.release(_WEARER, now),
            )
        else:
            number, _ = self._trigger(enums.CLIP_MANIFEST_TRIGGER_BUTTON, NO_EVENT, _WEARER, None)
            if number is not None:
                self._wearer_recording = True
                self._recording.recorder.hold()
                self._raise(enums.EVENT_KIND_RECORDING_START, enums.EVENT_CAUSE_BUTTON, number)
        return True

    def _raise(self, kind, cause, ref, value=None):
        self._reporter.raise_event(kind, cause, 0, self._now_ms(), ref, value)

    def _report_low(self, pct):
        self._log("clips: unverified clips take %d %% of lock_kb" % pct)
        self._raise(enums.EVENT_KIND_STORAGE_LOW, enums.EVENT_CAUSE_FAULT, None, pct)

    def _announce(self, values):
        self._reporter.send(m.CLIP_MANIFEST, values)
        if self._recording is not None and self._recording.uploader is not None:
            self._recording.uploader.retry_now()

    # --- hub ----------------------------------------------------------------------------------------------------------

    def on_clip_state(self, message):
        """Handle clip_state of the hub."""
        if self._recording is None:
            return
        store = self._recording.store
        if message["state"] == enums.CLIP_STATE_STATE_VERIFIED:
            store.mark_verified(message["clip_id"])
        elif message["state"] == enums.CLIP_STATE_STATE_DAMAGED:
            store.uploads.mark_damaged(message["clip_id"])

    def _start(self, message):
        duration_s = message["number"]
        if duration_s is not None and duration_s > _RECORDING_S_MAX:
            return Result(enums.ANSWER_RESULT_REFUSED, "a recording lasts at most %d s" % _RECORDING_S_MAX, None)
        hold_ms = UNTIL_STOPPED if duration_s is None else duration_s * 1000
        number, reason = self._trigger(enums.CLIP_MANIFEST_TRIGGER_DISPATCHER, NO_EVENT, message["operator"], hold_ms)
        if number is None:
            return Result(enums.ANSWER_RESULT_REFUSED, reason, None)
        self._raise(enums.EVENT_KIND_RECORDING_START, enums.EVENT_CAUSE_DISPATCHER, number)
        return Result(enums.ANSWER_RESULT_STARTED, "", number)

    def _stop(self, message):
        number = None
        if self._recording is not None:
            number = self._recording.recorder.stop(message["operator"], self._now_ms())
        if number is None:
            return Result(enums.ANSWER_RESULT_FAILED, "nothing is being recorded", None)
        self._wearer_recording = False
        self._raise(enums.EVENT_KIND_RECORDING_STOP, enums.EVENT_CAUSE_DISPATCHER, number)
        return Result(enums.ANSWER_RESULT_DONE, "", number)

    def _take_snapshot(self, message):
        now = self._now_ms()
        if not self._reporter.clock.unix_ms(now):
            return Result(enums.ANSWER_RESULT_REFUSED, "the time is not known yet", None)
        if self._recording is None:
            return Result(enums.ANSWER_RESULT_FAILED, "storage cannot be read", None)
        try:
            self._recording.recorder.snapshot(message["operator"], now, self._snapshot_done)
        except RefusedError as e:
            return Result(enums.ANSWER_RESULT_REFUSED, str(e), None)
        self._snapshot = message
        return None

    def _snapshot_done(self, number):
        message, self._snapshot = self._snapshot, None
        if number is None:
            text = self._camera.fault or "no picture came, or storage had no room for it"
            self._answer(message, Result(enums.ANSWER_RESULT_FAILED, text, None))
        else:
            self._answer(message, Result(enums.ANSWER_RESULT_DONE, "", number))

    def _preserve(self, message):
        if self._recording is None or not self._recording.store.index.preserve(message["number"]):
            return Result(enums.ANSWER_RESULT_FAILED, "this clip is not on the device", None)
        return Result(enums.ANSWER_RESULT_DONE, "", message["number"])
