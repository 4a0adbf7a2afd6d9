"""Floor control of a device against the reference hub: request, grant, deny, queue, revoke, release, lost messages."""

import patrolink_enums as enums
from patrolink_protocol import mcptt

from patrolink.conformance.case import (
    MISSING,
    UNEXPECTED,
    WRONG_ANSWER,
    Case,
    Judgement,
    Verdict,
    failed,
    passed,
    timed,
)
from patrolink.conformance.dialogue import Script
from patrolink.conformance.evidence import Evidence
from patrolink.conformance.reference_hub import MEDIA_PORT, PCMA, VOICE, Entry, ReferenceHub
from patrolink.conformance.voice_case import key, serve, talk, voice_case
from patrolink.hub.voice.floor_types import FloorRules

_T101_MS = (300, 600, 1200)  # between the transmissions of a Floor Request
_SENDS = 1 + len(_T101_MS)
_TRANSIT_MS = 500  # a device may have sent voice before a message reached it
_TALK_MS = 1500
_SHORT_TALK_S = 3
_QUEUE_NONE = FloorRules(queue=0, preempt=False)
_QUEUE = FloorRules(preempt=False)
_ROLE_TALKED, _ROLE_HEARD = enums.PTT_BURST_ROLE_TALKED, enums.PTT_BURST_ROLE_HEARD


def cases() -> list[Case]:
    """Return the cases."""
    return [*_bursts(), *_lost_messages(), *_repeated(), *_refused(), *_ended(), *_summaries()]


def _talks(hub: ReferenceHub) -> Script:
    return talk(hub, _TALK_MS)


def _sent_at(hub: ReferenceHub, name: str) -> list[int]:
    return [at_ms for at_ms, sent in hub.sent if sent == name]


def _burst_report(hub: ReferenceHub, outcome: int, role: int = _ROLE_TALKED) -> Judgement:
    """Judge the summary of the only burst."""
    reports = [r for r in hub.messages("ptt_burst") if r["role"] == role]
    if len(reports) != 1:
        return failed(MISSING if not reports else UNEXPECTED, f"{len(reports)} ptt_burst of role {role}, expected one")
    if reports[0]["outcome"] != outcome:
        return failed(WRONG_ANSWER, f"outcome {reports[0]['outcome']} of ptt_burst, expected {outcome}")
    return passed()


def _all_voice(hub: ReferenceHub) -> list[Entry]:
    return hub.entries(VOICE)


def _bursts() -> list[Case]:
    def judge_voice(hub: ReferenceHub, evidence: Evidence) -> Judgement:
        packets = [entry.values for entry in _all_voice(hub)]
        if not hub.granted or not packets:
            return failed(MISSING, "no voice after Floor Granted" if hub.granted else "no Floor Request")
        wrong = {packet["ssrc"] for packet in packets} - {hub.granted[0]}
        if wrong:
            return failed(WRONG_ANSWER, f"voice under SSRC {wrong.pop():08x}, granted is {hub.granted[0]:08x}")
        if {entry.port for entry in _all_voice(hub)} != {MEDIA_PORT}:
            return failed(WRONG_ANSWER, "voice on the floor socket")
        sequences = [packet["sequence"] for packet in packets]
        if sequences != list(range(sequences[0], sequences[0] + len(packets))) or sequences[0] >= 1 << 15:
            return failed(WRONG_ANSWER, f"sequence numbers {sequences[:5]} ...; they begin below 32768, without gaps")
        if [packet["marker"] for packet in packets] != [1] + [0] * (len(packets) - 1):
            return failed(WRONG_ANSWER, "the marker bit belongs to the first packet of the burst only")
        if {packet["payload_type"] for packet in packets} != {PCMA}:
            return failed(WRONG_ANSWER, f"payload type other than {PCMA} (PCMA), which the terms name")
        return passed()

    def judge_release(hub: ReferenceHub, evidence: Evidence) -> Judgement:
        releases = hub.entries("Release")
        if not releases:
            return failed(MISSING, "no Floor Release after the key was released")
        late = [entry for entry in _all_voice(hub) if entry.at_ms > releases[0].at_ms]
        return failed(UNEXPECTED, "voice after Floor Release") if late else passed()

    def judge_ack(hub: ReferenceHub, evidence: Evidence) -> Judgement:
        acks = [entry.values for entry in hub.entries("Ack")]
        if not acks:
            return failed(MISSING, "Floor Granted requests an Ack, and there is none")
        if acks[0]["acked"] != mcptt.GRANTED or acks[0]["source"] != mcptt.PARTICIPANT:
            return failed(WRONG_ANSWER, f"Floor Ack of message type {acks[0]['acked']}, source {acks[0]['source']}")
        return passed()

    def judge_request(hub: ReferenceHub, evidence: Evidence) -> Judgement:
        requests = [entry.values for entry in hub.entries("Request")]
        if not requests:
            return failed(MISSING, "no Floor Request after the key was pressed")
        request = requests[0]
        if request["ssrc"] != hub.device.ssrc:
            return failed(WRONG_ANSWER, f"Floor Request of SSRC {request['ssrc']:08x}, not that of the terms")
        if not request["user"].startswith(f"sip:{hub.device.name}@"):
            return failed(WRONG_ANSWER, f"User ID {request['user']!r}, expected sip:{hub.device.name}@site")
        return passed()

    return [
        voice_case("a Floor Request names the device in its group", "PTT-2", _talks, judge_request),
        voice_case("Floor Granted is acknowledged, without the ack bit in the type", "PTT-2", _talks, judge_ack),
        voice_case("voice is sent under the granted SSRC, from its first packet on", "PTT-2", _talks, judge_voice),
        voice_case("no voice follows Floor Release", "PTT-2", _talks, judge_release),
    ]


def _lost_messages() -> list[Case]:
    def request_lost(hub: ReferenceHub) -> Script:
        hub.lose_up["Request"] = 100
        yield from key(hub, "ptt")
        yield from serve(hub, 6000)
        yield from key(hub, "ptt_up")
        yield from serve(hub, 2500)

    def judge_request(hub: ReferenceHub, evidence: Evidence) -> Judgement:
        times = [entry.at_ms for entry in hub.entries("Request")]
        if len(times) != _SENDS:
            return failed(WRONG_ANSWER, f"{len(times)} Floor Requests without an answer, expected {_SENDS}")
        if _all_voice(hub):
            return failed(UNEXPECTED, "voice without Floor Granted")
        for before, after, expected_ms in zip(times, times[1:], _T101_MS, strict=False):
            result = timed("T101", after - before, expected_ms * 8 // 10, expected_ms * 15 // 10, evidence)
            if result.verdict is not Verdict.PASS:
                return result
        return _burst_report(hub, enums.PTT_BURST_OUTCOME_FAILED)

    def one_request_lost(hub: ReferenceHub) -> Script:
        hub.lose_up["Request"] = 1
        yield from _talks(hub)

    def grant_lost(hub: ReferenceHub) -> Script:
        hub.lose_down["Granted"] = 1
        yield from _talks(hub)

    def judge_granted(hub: ReferenceHub, evidence: Evidence) -> Judgement:
        if not _all_voice(hub):
            return failed(MISSING, "no voice, though one message was lost only")
        if len(hub.granted) > 1:
            return failed(WRONG_ANSWER, "a Floor Request after Floor Granted was acknowledged: the burst begins anew")
        return passed()

    def release_lost(hub: ReferenceHub) -> Script:
        hub.lose_up["Release"] = 2
        yield from _talks(hub)

    def judge_release(hub: ReferenceHub, evidence: Evidence) -> Judgement:
        count = len(hub.entries("Release"))
        return passed() if count >= 3 else failed(MISSING, f"{count} Floor Release, though the first two were lost")

    return [
        voice_case(
            "a Floor Request without an answer is sent four times", "PTT-2", request_lost, judge_request, timed=True
        ),
        voice_case("the first Floor Request is lost", "PTT-2", one_request_lost, judge_granted),
        voice_case("the first Floor Granted is lost", "PTT-2", grant_lost, judge_granted),
        voice_case("two Floor Releases are lost", "PTT-2", release_lost, judge_release),
    ]


def _repeated() -> list[Case]:
    def granted_again(hub: ReferenceHub) -> Script:
        yield from key(hub, "ptt")
        yield from serve(hub, 5000, lambda: len(_all_voice(hub)) > 10)
        if hub.granted:
            yield hub.datagram(hub.last["Granted"])
        yield from serve(hub, 500)
        hub.mark("repeated")
        yield from serve(hub, 500)
        yield from key(hub, "ptt_up")
        yield from serve(hub, 2500)

    def judge_again(hub: ReferenceHub, evidence: Evidence) -> Judgement:
        packets = [entry.values for entry in _all_voice(hub)]
        sequences = [packet["sequence"] for packet in packets]
        if not packets or _all_voice(hub)[-1].at_ms <= hub.marks["repeated"]:
            return failed(MISSING, "the burst does not go on after a repeated Floor Granted")
        if len(set(sequences)) != len(sequences) or sum(packet["marker"] for packet in packets) != 1:
            return failed(WRONG_ANSWER, "a repeated Floor Granted begins the burst anew")
        acks = [entry for entry in hub.entries("Ack") if entry.values["acked"] == mcptt.GRANTED]
        return passed() if len(acks) >= 2 else failed(MISSING, "the repeated Floor Granted is not acknowledged")

    return [voice_case("Floor Granted is repeated during a burst", "PTT-2", granted_again, judge_again)]


def _refused() -> list[Case]:
    def while_taken(hub: ReferenceHub) -> Script:
        hub.station_sends(mcptt.REQUEST)
        yield from serve(hub, 300)
        yield from key(hub, "ptt")
        yield from serve(hub, 1500)
        yield from key(hub, "ptt_up")
        hub.station_sends(mcptt.RELEASE)
        yield from serve(hub, 2500)

    def judge_denied(hub: ReferenceHub, evidence: Evidence) -> Judgement:
        if not _sent_at(hub, "Deny"):
            return failed(MISSING, "no Floor Request while another participant has the floor")
        if _all_voice(hub):
            return failed(UNEXPECTED, "voice after Floor Deny")
        return _burst_report(hub, enums.PTT_BURST_OUTCOME_DENIED)

    def queued(hub: ReferenceHub) -> Script:
        hub.station_sends(mcptt.REQUEST)
        yield from serve(hub, 300)
        yield from key(hub, "ptt")
        yield from serve(hub, 1500)
        hub.station_sends(mcptt.RELEASE)
        yield from serve(hub, 2000)
        yield from key(hub, "ptt_up")
        yield from serve(hub, 3000)

    def judge_queued(hub: ReferenceHub, evidence: Evidence) -> Judgement:
        if not _sent_at(hub, "Queue Position Info"):
            return failed(MISSING, "the Floor Request does not offer to be queued")
        granted = _sent_at(hub, "Granted")
        if not granted:
            return failed(MISSING, "the queued request was withdrawn")
        if any(entry.at_ms < granted[0] for entry in _all_voice(hub)):
            return failed(UNEXPECTED, "voice while the request was queued")
        return passed() if _all_voice(hub) else failed(MISSING, "no voice after the grant of a queued request")

    return [
        voice_case("no voice after Floor Deny", "PTT-2", while_taken, judge_denied, hub={"rules": _QUEUE_NONE}),
        voice_case(
            "a queued request sends voice when it is granted", "PTT-2", queued, judge_queued, hub={"rules": _QUEUE}
        ),
    ]


def _ended() -> list[Case]:
    def preempted(hub: ReferenceHub) -> Script:
        yield from key(hub, "ptt")
        yield from serve(hub, 5000, lambda: len(_all_voice(hub)) > 5)
        hub.station_sends(mcptt.REQUEST, mcptt.EMERGENCY)
        yield from serve(hub, 2000)
        yield from key(hub, "ptt_up")
        hub.station_sends(mcptt.RELEASE)
        yield from serve(hub, 2500)

    def judge_preempted(hub: ReferenceHub, evidence: Evidence) -> Judgement:
        revoked = _sent_at(hub, "Revoke")
        if not revoked:
            return failed(MISSING, "the device did not have the floor")
        if [entry for entry in _all_voice(hub) if entry.at_ms > revoked[0] + _TRANSIT_MS]:
            return failed(UNEXPECTED, f"voice later than {_TRANSIT_MS} ms after Floor Revoke")
        if not hub.entries("Release"):
            return failed(MISSING, "Floor Revoke is not answered with Floor Release")
        return _burst_report(hub, enums.PTT_BURST_OUTCOME_REVOKED)

    def too_long(hub: ReferenceHub) -> Script:
        yield from key(hub, "ptt")
        yield from serve(hub, (_SHORT_TALK_S + 5) * 1000)
        hub.mark("end")
        yield from key(hub, "ptt_up")
        yield from serve(hub, 2500)

    def judge_too_long(hub: ReferenceHub, evidence: Evidence) -> Judgement:
        granted = _sent_at(hub, "Granted")
        if not granted or not _all_voice(hub):
            return failed(MISSING, "no voice")
        if not any(entry.at_ms <= hub.marks["end"] for entry in hub.entries("Release")):
            return failed(MISSING, "no Floor Release at the end of the talk time")
        spoken_ms = _all_voice(hub)[-1].at_ms - granted[0]
        return timed("talk time", spoken_ms, 0, (_SHORT_TALK_S + 1) * 1000 + _TRANSIT_MS, evidence)

    rules = FloorRules(talk_ms=_SHORT_TALK_S * 1000)
    return [
        voice_case("voice stops at once when an emergency takes the floor", "PTT-2", preempted, judge_preempted),
        voice_case(
            "voice stops when the talk time is over",
            "PTT-2",
            too_long,
            judge_too_long,
            hub={"rules": rules},
            timed=True,
        ),
    ]


def _summaries() -> list[Case]:
    def judge_summary(hub: ReferenceHub, evidence: Evidence) -> Judgement:
        verdict = _burst_report(hub, enums.PTT_BURST_OUTCOME_GRANTED)
        if verdict != passed():
            return verdict
        report = next(r for r in hub.messages("ptt_burst") if r["role"] == _ROLE_TALKED)
        expected = (hub.granted[0], len(_all_voice(hub)))
        got = (report["ssrc"], report["packets"])
        return passed() if got == expected else failed(WRONG_ANSWER, f"SSRC and packets {got}, expected {expected}")

    def listens(hub: ReferenceHub) -> Script:
        hub.station_sends(mcptt.REQUEST)
        yield from serve(hub, 100)
        for number in range(40):
            hub.station_speaks(skipped=3 if number == 20 else 0)
            yield from serve(hub, 20)
        hub.station_sends(mcptt.RELEASE)
        yield from serve(hub, 7000, lambda: [r for r in hub.messages("ptt_burst") if r["role"] == _ROLE_HEARD])

    def judge_heard(hub: ReferenceHub, evidence: Evidence) -> Judgement:
        verdict = _burst_report(hub, enums.PTT_BURST_OUTCOME_GRANTED, _ROLE_HEARD)
        if verdict != passed():
            return verdict
        report = next(r for r in hub.messages("ptt_burst") if r["role"] == _ROLE_HEARD)
        got = (report["packets"], report["lost"])
        return passed() if got == (43, 3) else failed(WRONG_ANSWER, f"packets and lost {got}, expected (43, 3)")

    return [
        voice_case("ptt_burst summarizes a burst of the wearer", "PTT-1", _talks, judge_summary),
        voice_case("ptt_burst counts the lost packets of a burst that was heard", "PTT-1", listens, judge_heard),
    ]
