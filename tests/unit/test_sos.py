"""SOS and man-down alarms: sending, answers of the hub, and what the wearer is shown."""

import patrolink_enums as enums
import patrolink_messages as m
from agent.link.downlink import Downlink
from agent.link.event_queue import EventQueue
from agent.link.outbox import Outbox
from agent.tracking.counter import Counter, Record
from agent.tracking.device_clock import DeviceClock
from agent.tracking.reporter import Reporter
from agent.wearer.sos import ALARMS_MAX, Sos
from memory_storage import MemoryFiles, MemoryStore
from patrolink_names import NAMES
from patrolink_protocol import codec, decode, frame

KEY = bytes(range(32))
_STATES = dict([(name, code) for code, name in NAMES["event_state", "state"].items()])
RECEIVED, READ, ACCEPTED = _STATES["received"], _STATES["read"], _STATES["accepted"]
ARRIVED, RESOLVED, FALSE_ALARM = _STATES["arrived"], _STATES["resolved"], _STATES["false_alarm"]


class SosHarness:
    """A wearer with a console and a speaker, and the hub's side of the downlink."""

    def __init__(self, files=None, store=None, speaker=True):
        self.files = files or MemoryFiles()
        self.store = store or MemoryStore()
        self.lines = []
        self.tones = []
        play_tone = self.tones.append if speaker else None
        self.log = []
        self.retries = 0
        self.clips = []
        self.events = EventQueue(self.files, lambda: 0)
        config = {"batch_fixes": 60, "batch_s": 60}
        self.outbox = Outbox(MemoryFiles())
        channel = frame.Channel(KEY, b"dev-1")
        counter, clock = Counter(self.store), DeviceClock()
        reporter = Reporter(channel, counter, self.outbox, self.events, config, lambda: enums.UNKNOWN, clock)
        self.sos = Sos(
            reporter, self.events, self.lines.append, play_tone, self.retry_now, self.record, self.log.append
        )
        self.downlink = Downlink(
            KEY, b"dev-1", 0, Record(self.store, "down"), self.log.append, reporter.send, lambda: 0
        )
        self.downlink.add_handlers({m.EVENT_STATE: self.sos.on_event_state})
        self.hub = frame.Channel(KEY, b"dev-1", frame.DOWNLINK)
        self.hub_counter = self.downlink._accepted.second

    def retry_now(self):
        self.retries += 1

    def record(self, trigger, event_id):
        self.clips.append((trigger, event_id))

    def answer(self, event_id, state, who="", eta_s=None):
        """Send an event_state as the hub does; return the new lines on the console."""
        buf = bytearray(256)
        values = {"event_id": event_id, "state": state, "time_ms": 1, "eta_s": eta_s, "who": who.encode()}
        end = codec.encode_into(m.EVENT_STATE, values, buf, frame.HEADER_BYTES)
        self.hub_counter += 1
        shown = len(self.lines)
        self.downlink.receive(bytes(buf[: self.hub.seal_into(buf, m.EVENT_STATE, self.hub_counter, end)]))
        return self.lines[shown:]


def test_an_sos_is_sent_recorded_and_shown():
    wearer = SosHarness()
    event_id = wearer.sos.press(0)
    kind, _, body, _ = frame.Channel(KEY, b"dev-1").open_frame(bytes(wearer.events.peek()))
    message = decode.decode(kind, body)
    assert (message["event_id"], message["kind"]) == (event_id, enums.EVENT_KIND_SOS)
    assert (message["cause"], message["ack_wanted"]) == (enums.EVENT_CAUSE_BUTTON, 1)
    assert wearer.clips == [(enums.CLIP_MANIFEST_TRIGGER_SOS, event_id)] and wearer.retries == 1
    assert wearer.lines == ["sos %d sent" % event_id] and wearer.tones == []


def test_man_down_has_its_own_event_kind_and_trigger():
    wearer = SosHarness()
    event_id = wearer.sos.man_down(0)
    kind, _, body, _ = frame.Channel(KEY, b"dev-1").open_frame(bytes(wearer.events.peek()))
    message = decode.decode(kind, body)
    assert (message["kind"], message["cause"]) == (enums.EVENT_KIND_MAN_DOWN, enums.EVENT_CAUSE_MOTION)
    assert wearer.clips == [(enums.CLIP_MANIFEST_TRIGGER_MAN_DOWN, event_id)]


def test_the_wearer_is_shown_each_state_with_who_and_eta():
    wearer = SosHarness()
    event_id = wearer.sos.press(0)
    assert wearer.answer(event_id, RECEIVED) == ["sos %d received" % event_id]
    assert len(wearer.events) == 0
    assert wearer.answer(event_id, READ, "duty officer") == ["sos %d read: duty officer" % event_id]
    expected = ["sos %d accepted: patrol 7, arrival in 4 min" % event_id]
    assert wearer.answer(event_id, ACCEPTED, "patrol 7", 200) == expected
    assert wearer.answer(event_id, ARRIVED, "patrol 7") == ["sos %d arrived: patrol 7" % event_id]
    assert wearer.answer(event_id, RESOLVED, "patrol 7") == ["sos %d resolved: patrol 7" % event_id]
    assert len(wearer.tones) == 4  # all but `read`
    assert wearer.sos.summary() == [{"event_id": event_id, "state": "resolved", "who": "patrol 7", "eta_s": None}]
    assert not wearer.sos.alarms[0].is_open()


def test_a_repeated_answer_changes_nothing():
    wearer = SosHarness()
    event_id = wearer.sos.press(0)
    wearer.answer(event_id, ACCEPTED, "patrol 7", 200)
    tones = len(wearer.tones)
    assert wearer.answer(event_id, ACCEPTED, "patrol 7", 200) == []
    assert wearer.answer(event_id, ACCEPTED) == []  # without the details
    assert wearer.answer(event_id, ACCEPTED, "patrol 7") == []
    alarm = wearer.sos.alarms[0]
    assert (alarm.who, alarm.eta_s, len(wearer.tones)) == ("patrol 7", 200, tones)


def test_a_new_eta_is_shown_silently_and_a_new_responder_with_a_tone():
    wearer = SosHarness()
    event_id = wearer.sos.press(0)
    wearer.answer(event_id, ACCEPTED, "patrol 7", 200)
    tones = len(wearer.tones)
    assert wearer.answer(event_id, ACCEPTED, "patrol 7", 600)[0].endswith("patrol 7, arrival in 10 min")
    assert len(wearer.tones) == tones
    assert wearer.answer(event_id, ACCEPTED, "patrol 9")[0].endswith("accepted: patrol 9")
    assert len(wearer.tones) == tones + 1 and wearer.sos.alarms[0].eta_s is None


def test_a_late_answer_does_not_move_the_state_back():
    wearer = SosHarness()
    event_id = wearer.sos.press(0)
    wearer.answer(event_id, ACCEPTED, "patrol 7", 200)
    assert wearer.answer(event_id, READ, "duty officer") == [] and wearer.answer(event_id, RECEIVED) == []
    alarm = wearer.sos.alarms[0]
    assert (alarm.state, alarm.who, alarm.eta_s) == (ACCEPTED, "patrol 7", 200)


def test_a_withdrawn_alarm_stays_closed():
    for closing in (RESOLVED, FALSE_ALARM):
        wearer = SosHarness()
        event_id = wearer.sos.press(0)
        wearer.answer(event_id, ACCEPTED, "patrol 7", 200)
        assert len(wearer.answer(event_id, closing, "duty officer")) == 1
        for state in (RECEIVED, ACCEPTED, ARRIVED, RESOLVED, FALSE_ALARM):
            assert wearer.answer(event_id, state, "patrol 9", 60) == []
        assert not wearer.sos.alarms[0].is_open() and wearer.sos.alarms[0].who == "duty officer"


def test_an_answer_out_of_order_on_the_wire_is_rejected():
    wearer = SosHarness()
    event_id = wearer.sos.press(0)
    wearer.hub_counter += 5
    wearer.answer(event_id, ACCEPTED, "patrol 7", 200)
    wearer.hub_counter -= 5
    assert wearer.answer(event_id, RESOLVED) == [] and wearer.downlink.rejected == 1
    assert wearer.sos.alarms[0].state == ACCEPTED


def test_each_of_several_alarms_has_its_own_state():
    wearer = SosHarness()
    first, second = wearer.sos.press(0), wearer.sos.man_down(1)
    wearer.answer(second, ACCEPTED, "patrol 7")
    wearer.answer(first, FALSE_ALARM, "duty officer")
    states = [(alarm.event_id, alarm.state) for alarm in wearer.sos.alarms]
    assert states == [(first, FALSE_ALARM), (second, ACCEPTED)] and len(wearer.events) == 0


def test_an_alarm_of_an_earlier_boot_is_updated():
    before = SosHarness()
    event_id = before.sos.press(0)
    wearer = SosHarness(before.files, before.store)  # after a power cut
    assert wearer.sos.alarms == [] and len(wearer.events) == 1
    expected = ["sos %d accepted: patrol 7, arrival in 1 min" % event_id]
    assert wearer.answer(event_id, ACCEPTED, "patrol 7", 60) == expected and len(wearer.events) == 0
    assert len(wearer.answer(event_id, RESOLVED)) == 1


def test_an_unknown_event_that_is_closed_is_only_logged():
    wearer = SosHarness()
    assert wearer.answer(99, RESOLVED, "duty officer") == [] and wearer.sos.alarms == []
    assert wearer.log == ["sos 99: closed by the hub, but not open on this device"]


def test_a_state_of_a_later_version_answers_the_event_and_changes_nothing():
    wearer = SosHarness()
    event_id = wearer.sos.press(0)
    assert wearer.answer(event_id, 7, "patrol 7") == [] and len(wearer.events) == 0
    assert wearer.sos.alarms[0].state == 0 and "not known" in wearer.log[0]


def test_alarms_are_bounded_and_closed_ones_are_dropped_first():
    wearer = SosHarness()
    ids = [wearer.sos.press(0) for _ in range(ALARMS_MAX)]
    wearer.answer(ids[3], RESOLVED)
    ids.append(wearer.sos.press(0))
    assert [alarm.event_id for alarm in wearer.sos.alarms] == ids[:3] + ids[4:]
    ids.append(wearer.sos.press(0))
    assert [alarm.event_id for alarm in wearer.sos.alarms] == ids[1:3] + ids[4:]


def test_without_a_speaker_the_console_shows_the_answer():
    wearer = SosHarness(speaker=False)
    event_id = wearer.sos.press(0)
    assert len(wearer.answer(event_id, ACCEPTED, "patrol 7")) == 1 and wearer.tones == []
