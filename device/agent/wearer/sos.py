"""The life of an SOS: from the button, or the motion sensor, to the answer of the hub (SPEC.md, EVENT-1 and EVENT-2).

An alarm is sent as an event that the hub must answer. The answers tell who has it, how far the help is and when it
arrives; the wearer is shown each change. States only move forward: a late or repeated answer changes nothing.
"""

import patrolink_enums as enums

ALARMS_MAX = 8
_RETRY_MS = 1000
# By event_state.state; 0 is before the first answer.
_STATES = ("sent", "received", "read", "accepted", "arrived", "resolved", "false alarm")
_TONES = (  # Hz and ms, alternating; 0 Hz is a pause
    (),
    (880, 60),
    (),
    (880, 80, 0, 60, 1175, 160),
    (880, 80, 0, 60, 1175, 80, 0, 60, 1568, 160),
    (1175, 80, 0, 60, 880, 160),
    (1175, 80, 0, 60, 880, 160),
)


class Alarm:
    """One SOS or man-down alarm.

    Attributes:
        event_id: Id of its event.
        state: event_state.state, 0 before the first answer.
        who: Who has it, text; "" when not known.
        eta_s: Seconds until help arrives, as of the last answer; None when not known.
    """

    def __init__(self, event_id):
        self.event_id = event_id
        self.state = 0
        self.who = ""
        self.eta_s = None

    def is_open(self):
        """Return whether the alarm is neither resolved nor withdrawn."""
        return self.state < enums.EVENT_STATE_STATE_RESOLVED

    def text(self):
        """Return the state for a person."""
        details = [self.who] if self.who else []
        if self.eta_s is not None and self.is_open():
            details.append("arrival in %d min" % ((self.eta_s + 59) // 60))
        text = "sos %d %s" % (self.event_id, _STATES[self.state])
        return text + ": " + ", ".join(details) if details else text


class Sos:
    """Raises alarms and follows their answers.

    Args:
        reporter: agent.tracking.reporter.Reporter.
        event_queue: agent.link.event_queue.EventQueue that repeats an event until it is closed.
        show: Function of one string: the wearer's display. It is the console where the board has no other.
        play_tone: Function of a tuple of frequencies in Hz and durations in ms, alternating; None without a speaker.
        retry_now: Function that ends a back-off of the connection.
        record: Function (clip_manifest.trigger, event id) that records a clip, or None.
        log: Function of one string.

    Attributes:
        alarms: The last alarms, at most ALARMS_MAX, oldest first.
    """

    def __init__(self, reporter, event_queue, show, play_tone, retry_now, record, log):
        self._reporter = reporter
        self._event_queue = event_queue
        self._show = show
        self._play_tone = play_tone
        self._retry_now = retry_now
        self._record = record
        self._log = log
        self._refused = None  # (kind, cause, trigger) of an alarm that could not be raised
        self._retry_ms = 0
        self.alarms = []

    def press(self, now_ms):
        """Raise an SOS: the wearer has pressed the button. Returns the id of its event, None while storage refuses."""
        return self._raise(enums.EVENT_KIND_SOS, enums.EVENT_CAUSE_BUTTON, enums.CLIP_MANIFEST_TRIGGER_SOS, now_ms)

    def man_down(self, now_ms):
        """Raise an alarm for a wearer who lies and does not move. Returns as `press`."""
        return self._raise(
            enums.EVENT_KIND_MAN_DOWN, enums.EVENT_CAUSE_MOTION, enums.CLIP_MANIFEST_TRIGGER_MAN_DOWN, now_ms
        )

    def poll(self, now_ms):
        """Raise an alarm again that storage has refused."""
        if self._refused is not None and now_ms >= self._retry_ms:
            kind, cause, trigger = self._refused
            self._raise(kind, cause, trigger, now_ms)

    def _raise(self, kind, cause, trigger, now_ms):
        event_id = self._reporter.raise_event(kind, cause, 1, now_ms)
        if event_id is None:
            if self._refused is None:
                self._show("sos not sent: storage cannot be written; it is sent as soon as that is possible")
            self._refused = (kind, cause, trigger)
            self._retry_ms = now_ms + _RETRY_MS
            return None
        self._refused = None
        self._retry_now()
        if self._record is not None:
            self._record(trigger, event_id)
        self._show(self._add(event_id).text())
        return event_id

    def _add(self, event_id):
        """Append an alarm; the oldest closed one, or else the oldest, makes room for it."""
        alarms = self.alarms
        if len(alarms) >= ALARMS_MAX:
            closed = [alarm for alarm in alarms if not alarm.is_open()]
            alarms.remove(closed[0] if closed else alarms[0])
        alarms.append(Alarm(event_id))
        return alarms[-1]

    def on_event_state(self, message):
        """Take an answer of the hub.

        An unknown alarm is one of an earlier boot, which memory has lost: it is followed like the others, unless the
        answer closes it and its event was no longer queued.
        """
        event_id, state = message["event_id"], message["state"]
        closes = enums.EVENT_STATE_STATE_RESOLVED <= state < len(_STATES)
        queued = self._event_queue.remove(event_id) if closes else self._event_queue.answer(event_id)
        alarm = self._find(event_id)
        if not 0 < state < len(_STATES):
            self._log("sos %d: state %d is not known to this firmware; ignored" % (event_id, state))
            return
        if alarm is None:
            if closes and not queued:
                self._log("sos %d: closed by the hub, but not open on this device" % event_id)
                return
            alarm = self._add(event_id)
        who, eta_s = message["who"], message["eta_s"]
        if state < alarm.state or not alarm.is_open():
            return
        if state == alarm.state:
            # A repeated answer need not repeat the details.
            who = who or alarm.who
            if eta_s is None and who == alarm.who:
                eta_s = alarm.eta_s
            if who == alarm.who and eta_s == alarm.eta_s:
                return
        advanced = state > alarm.state or who != alarm.who
        alarm.state, alarm.who, alarm.eta_s = state, who, eta_s
        self._show(alarm.text())
        if advanced and self._play_tone is not None and _TONES[state]:
            self._play_tone(_TONES[state])

    def _find(self, event_id):
        for alarm in self.alarms:
            if alarm.event_id == event_id:
                return alarm
        return None

    def summary(self):
        """Return the alarms as dictionaries for the summary of the device."""
        return [
            {"event_id": alarm.event_id, "state": _STATES[alarm.state], "who": alarm.who, "eta_s": alarm.eta_s}
            for alarm in self.alarms
        ]
