"""Connects the live view to the device: the hub's commands, the access log and the events about it."""

import patrolink_enums as enums
from agent.link.commands import Result


class LiveViewController:
    """Starts and ends the live view on command, and records who watched.

    Args:
        live_view: agent.live_view.session.LiveView.
        recording: agent.recording.controller.RecordingController, which keeps the access log.
        reporter: agent.tracking.reporter.Reporter.
        now_ms: Function() -> monotonic ms.
    """

    def __init__(self, live_view, recording, reporter, now_ms):
        self._live_view = live_view
        self._recording = recording
        self._reporter = reporter
        self._now_ms = now_ms
        self._operator = None  # who watches

    def commands(self):
        """Return the handlers of the hub's commands, by command.action."""
        return {
            enums.COMMAND_ACTION_LIVE_VIEW_START: self._start,
            enums.COMMAND_ACTION_LIVE_VIEW_STOP: self._stop,
        }

    def serve(self, now):
        """Send what is due. Returns the ms after which it wants to be called again."""
        wait_ms = self._live_view.serve(now)
        self._report_end(now)
        return wait_ms

    def is_running(self):
        """Return whether somebody watches."""
        return self._live_view.running()

    def close(self, now):
        """The device is switched off."""
        self._live_view.stop("the device is switched off", now)
        self._report_end(now)

    def _start(self, message):
        now = self._now_ms()
        if not self._reporter.clock.unix_ms(now):
            return Result(enums.ANSWER_RESULT_REFUSED, "the time is not known yet", None)
        if not self._recording.is_ready:
            return Result(enums.ANSWER_RESULT_REFUSED, "the camera is not ready: storage is not loaded", None)
        host, _, port = message["value"].rpartition(":")
        if not host or not port.isdigit() or int(port) > 65535:
            return Result(enums.ANSWER_RESULT_REFUSED, "the address to send to must have the form host:port", None)
        started, text = self._live_view.start(message, host, int(port), now)
        if not started:
            return Result(enums.ANSWER_RESULT_REFUSED, text, None)
        self._operator = message["operator"]
        self._recording.log_access("live_view_start", self._operator)
        self._raise(enums.EVENT_KIND_LIVE_VIEW_START, now)
        return Result(enums.ANSWER_RESULT_STARTED, "", None)

    def _stop(self, message):
        if not self._live_view.running():
            return Result(enums.ANSWER_RESULT_FAILED, "no live view is running", None)
        now = self._now_ms()
        self._operator = message["operator"]
        self._live_view.stop("stopped by the hub", now)
        self._report_end(now)
        return Result(enums.ANSWER_RESULT_DONE, "", None)

    def _report_end(self, now):
        if self._operator is not None and not self._live_view.running():
            operator, self._operator = self._operator, None
            self._recording.log_access("live_view_stop", operator, "why", self._live_view.end_reason)
            self._raise(enums.EVENT_KIND_LIVE_VIEW_STOP, now)

    def _raise(self, kind, now):
        self._reporter.raise_event(kind, enums.EVENT_CAUSE_DISPATCHER, 0, now)
