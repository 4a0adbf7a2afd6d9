"""Certification mode: entered, bounded in time, shown and audited; what a tester may request in it."""

import binascii

import patrolink_enums as enums
import patrolink_messages as m
from agent.certification import Certification
from patrolink_protocol import codec, decode

BATCH = "a006553f1001dae80039c19404c0"
ENTER = enums.CERTIFY_OPERATION_ENTER
LEAVE = enums.CERTIFY_OPERATION_LEAVE
ECHO = enums.CERTIFY_OPERATION_ECHO
COUNTERS = enums.CERTIFY_OPERATION_REPORT_COUNTERS
VECTOR = enums.CERTIFY_OPERATION_SEND_VECTOR
POWER_CUT = enums.CERTIFY_OPERATION_POWER_CUT
RESULT = enums.CERTIFY_OPERATION_RESULT


class Site:
    received = 7
    rejected = 2

    def __init__(self):
        self.ms = 1000
        self.sent = []
        self.audited = []
        self.shown = []
        self.resets = 0
        self.storage_is_full = False
        self.mode = Certification(self, self.send, self.audit, self.shown.append, self.reset, lambda: self.ms)

    def send(self, kind, values):
        assert kind == m.CERTIFY
        buf = bytearray(m.MAX_FRAME)
        codec.encode_into(kind, values, buf, 0)
        self.sent.append(values)

    def audit(self, *fields):
        if not self.storage_is_full:
            self.audited.append(fields)
        return not self.storage_is_full

    def reset(self):
        self.resets += 1

    def request(self, operation, payload=b"", seconds=0):
        """Return the results that a request gives."""
        self.sent = []
        self.mode.on_certify({"operation": operation, "payload": payload, "seconds": seconds})
        return self.sent


def test_nothing_is_done_outside_of_the_mode():
    site = Site()
    for operation in (LEAVE, ECHO, COUNTERS, VECTOR, POWER_CUT, RESULT, 99):
        assert site.request(operation, b"abc") == []
    assert site.resets == 0 and site.audited == [] and len(site.shown) == 7


def test_the_mode_is_shown_and_audited_and_ends():
    site = Site()
    (result,) = site.request(ENTER, seconds=60)
    assert (result["operation"], result["seconds"], result["payload"]) == (RESULT, 60, b"")
    assert site.audited == [("enter", 60)] and "60 s" in site.shown[-1]
    site.ms += 59_999
    site.mode.poll(site.ms)
    assert site.request(ECHO, b"abc")[0]["payload"] == b"abc"
    site.ms += 1
    site.mode.poll(site.ms)
    assert site.request(ECHO, b"abc") == [] and site.audited[1][0] == "leave"
    site.request(ENTER, seconds=65535)
    assert site.audited[-1] == ("enter", 3600)
    assert site.request(LEAVE)[0]["seconds"] == 0 and site.request(ECHO, b"abc") == []


def test_a_mode_that_cannot_be_audited_is_not_entered():
    site = Site()
    site.storage_is_full = True
    site.request(ENTER, seconds=60)
    assert site.request(ECHO, b"abc") == [] and "refused" in site.shown[0]


def test_counters_and_echo():
    site = Site()
    site.request(ENTER, seconds=60)
    (result,) = site.request(COUNTERS, b"ignored")
    assert (result["frames_accepted"], result["frames_refused"], result["payload"]) == (7, 2, b"")
    assert site.request(ECHO, bytes(200))[0]["payload"] == bytes(200)
    assert site.request(RESULT) == [] and site.request(99) == []


def test_a_vector_is_decoded_and_encoded_again():
    site = Site()
    site.request(ENTER, seconds=60)
    buf = bytearray(200)
    buf[0] = m.EVENT_STATE
    values = {"event_id": 9, "state": 3, "time_ms": 1, "eta_s": None, "who": "巡逻".encode()}
    vector = bytes(buf[: codec.encode_into(m.EVENT_STATE, values, buf, 1)])
    assert site.request(VECTOR, vector)[0]["payload"] == vector
    # The last one is a legal batch of one row (SPEC.md, "Position batch").
    batch = bytes([m.POSITION_BATCH]) + binascii.unhexlify(BATCH)
    assert len(decode.decode(m.POSITION_BATCH, batch[1:])["fixes"]) == 1
    for bad in (b"", b"\x1f", vector[:-1], batch):
        assert site.request(VECTOR, bad)[0]["payload"] == b""


def test_a_power_cut_resets_at_once_and_is_audited_first():
    site = Site()
    site.request(ENTER, seconds=60)
    assert site.request(POWER_CUT) == [] and site.resets == 1 and site.audited[-1] == ("power cut",)
