"""Talk groups of a device: membership, keys, reports, and datagrams that a device must not act on."""

import patrolink_enums as enums
from patrolink_protocol import mcptt

from patrolink.conformance.case import MISSING, UNEXPECTED, WRONG_ANSWER, Case, Judgement, failed, passed, timed
from patrolink.conformance.dialogue import Script
from patrolink.conformance.evidence import Evidence, transmit
from patrolink.conformance.reference_hub import FLOOR_PORT, MEDIA_PORT, REFUSED, REPORT, VOICE, ReferenceHub
from patrolink.conformance.testee.network_packets import Traffic
from patrolink.conformance.voice_case import key, send_terms, serve, talk, voice_case
from patrolink.hub.voice.floor_messages import FloorMessageEncoder

_REPORT_MS, _TALKING_REPORT_MS = 15_000, 2000
_SLACK_MS = 1500
_CHANGE = 50  # number of the frame
_PACKETS = 20


def cases() -> list[Case]:
    """Return the cases."""
    return [*_reports(), *_memberships(), *_floor_datagrams(), *_order(), *_media()]


def _stays(hub: ReferenceHub) -> Script:
    return serve(hub, 3 * _REPORT_MS)


def _joins(hub: ReferenceHub) -> Script:
    return serve(hub, 3000)


def _longest_gap(times: list[int]) -> int:
    return max((after - before for before, after in zip(times, times[1:], strict=False)), default=0)


def _reports() -> list[Case]:
    def judge_report(hub: ReferenceHub, evidence: Evidence) -> Judgement:
        reports = [entry for entry in hub.entries(REPORT) if entry.at_ms <= hub.marks["joined"]]
        ports = {entry.port for entry in reports}
        if ports != {FLOOR_PORT, MEDIA_PORT}:
            return failed(MISSING, f"receiver reports at the ports {sorted(ports)} after ptt_group, expected both")
        if {entry.values["ssrc"] for entry in reports} != {hub.device.ssrc}:
            return failed(WRONG_ANSWER, "a receiver report of another SSRC than that of the terms")
        entries = [report for entry in hub.entries(REPORT) for report in entry.values["entries"]]
        if hub.report_entry() not in entries:
            return failed(WRONG_ANSWER, f"reported {entries[:3]}, expected {hub.report_entry()}")
        return passed()

    def judge_status(hub: ReferenceHub, evidence: Evidence) -> Judgement:
        groups = [message["groups"] for message in hub.messages("ptt_status")]
        if not any(hub.report_entry() in reported for reported in groups):
            return failed(MISSING, f"no ptt_status with {hub.report_entry()}, but {groups}")
        return failed(WRONG_ANSWER, "ptt_status still has a group that was left") if groups[-1] else passed()

    def judge_interval(hub: ReferenceHub, evidence: Evidence) -> Judgement:
        for port in (FLOOR_PORT, MEDIA_PORT):
            times = [entry.at_ms for entry in hub.entries(REPORT) if entry.port == port]
            if len(times) < 3:
                return failed(MISSING, f"{len(times)} receiver reports at port {port} in {3 * _REPORT_MS} ms")
            result = timed(f"reports at port {port}", _longest_gap(times), 0, _REPORT_MS + _SLACK_MS, evidence)
            if result != passed():
                return result
        return passed()

    def talks(hub: ReferenceHub) -> Script:
        return talk(hub, 7000)

    def judge_talking(hub: ReferenceHub, evidence: Evidence) -> Judgement:
        voice = hub.entries(VOICE)
        if not voice:
            return failed(MISSING, "no voice")
        first, last = voice[0].at_ms, voice[-1].at_ms
        times = [
            entry.at_ms for entry in hub.entries(REPORT) if entry.port == FLOOR_PORT and first < entry.at_ms < last
        ]
        gap_ms = _longest_gap([first, *times, last])
        return timed("reports of a talker", gap_ms, 0, _TALKING_REPORT_MS + _SLACK_MS, evidence)

    return [
        voice_case("a new group is reported on both sockets, with key and digest", "PTT-2", _joins, judge_report),
        voice_case("ptt_status names groups and keys, until they are left", "PTT-3", _joins, judge_status),
        voice_case("a receiver report on each socket every 15 s", "PTT-2", _stays, judge_interval, timed=True),
        voice_case("a talker sends receiver reports every 2 s", "PTT-2", talks, judge_talking, timed=True),
    ]


def _memberships() -> list[Case]:
    def leaves(hub: ReferenceHub) -> Script:
        yield from send_terms(hub, False, _CHANGE)
        yield from serve(hub, 1000)
        hub.mark("left")
        yield from serve(hub, 20_000)

    def judge_left(hub: ReferenceHub, evidence: Evidence) -> Judgement:
        late = [entry for entry in hub.entries(REPORT) if entry.at_ms > hub.marks["left"]]
        return failed(UNEXPECTED, "a receiver report of a group that was left") if late else passed()

    def new_key(hub: ReferenceHub) -> Script:
        hub.replace_key()
        yield from send_terms(hub, True, _CHANGE)
        yield from serve(hub, 2000)
        yield from talk(hub, 1000)

    def judge_key(hub: ReferenceHub, evidence: Evidence) -> Judgement:
        entries = [report for entry in hub.entries(REPORT) for report in entry.values["entries"]]
        if hub.report_entry() not in entries:
            return failed(MISSING, f"the new key is not reported: {entries[-3:]}, expected {hub.report_entry()}")
        if hub.entries(REFUSED):
            return failed(WRONG_ANSWER, f"a packet is refused: {hub.entries(REFUSED)[0].values['reason']}")
        return passed() if hub.entries(VOICE) else failed(MISSING, "no voice under the new key")

    def presses(hub: ReferenceHub) -> Script:
        yield from serve(hub, 2000)
        yield from key(hub, "ptt")
        yield from serve(hub, 2000)
        yield from key(hub, "ptt_up")
        yield from serve(hub, 1000)

    def judge_no_key(hub: ReferenceHub, evidence: Evidence) -> Judgement:
        entries = [report for entry in hub.entries(REPORT) for report in entry.values["entries"]]
        wrong = [report for report in entries if report[8:12] != "0000"]
        if wrong or not entries:
            return failed(WRONG_ANSWER, f"reported {wrong[:1] or 'nothing'}; a key that is not usable has the number 0")
        requests = hub.entries("Request", VOICE)
        return failed(UNEXPECTED, "a Floor Request in a group without a key") if requests else passed()

    def may_not_talk(hub: ReferenceHub, evidence: Evidence) -> Judgement:
        requests = hub.entries("Request", VOICE)
        return failed(UNEXPECTED, "a Floor Request without the right to talk") if requests else passed()

    return [
        voice_case("no receiver report after the end of a membership", "PTT-2", leaves, judge_left),
        voice_case("a new group key is in force and reported", "PTT-2", new_key, judge_key),
        voice_case(
            "a group key that cannot be unwrapped has the number 0", "PTT-2", presses, judge_no_key,
            hub={"is_wrapped": False},
        ),
        voice_case("no Floor Request without the right to talk", "PTT-2", presses, may_not_talk, hub={"rights": ()}),
    ]  # fmt: skip


def _changed(traffic: str) -> str:
    """Return traffic whose last bit is another one."""
    return traffic[:-1] + f"{int(traffic[-1], 16) ^ 1:x}"


def _floor_datagrams() -> list[Case]:
    def forged(hub: ReferenceHub) -> Script:
        hub.lose_down["Granted"] = 100
        yield from key(hub, "ptt")
        yield from serve(hub, 2000, lambda: hub.granted)
        if hub.granted:
            yield transmit(_changed(hub.datagram(hub.last["Granted"]).data))
        yield from serve(hub, 1500)
        yield from key(hub, "ptt_up")
        yield from serve(hub, 2500)

    def judge_forged(hub: ReferenceHub, evidence: Evidence) -> Judgement:
        if not hub.granted:
            return failed(MISSING, "no Floor Request")
        return failed(UNEXPECTED, "voice after a forged Floor Granted") if hub.entries(VOICE) else passed()

    def replayed(hub: ReferenceHub, is_rejoined: bool) -> Script:
        yield from talk(hub, 1000)
        first = hub.last.get("Granted", b"")
        if is_rejoined:
            for member in (False, True):
                yield from send_terms(hub, member, _CHANGE + member)
                yield from serve(hub, 2000)
        else:
            yield from talk(hub, 1000)
        hub.mark("replay")
        hub.lose_up["Request"] = 100
        requests = len(hub.entries("Request"))
        yield from key(hub, "ptt")
        yield from serve(hub, 2000, lambda: len(hub.entries("Request")) > requests)
        if hub.granted:
            yield transmit(hub.first_datagram["Granted"]) if is_rejoined else hub.datagram(first)
        yield from serve(hub, 1500)
        yield from key(hub, "ptt_up")
        yield from serve(hub, 2500)

    def judge_replayed(hub: ReferenceHub, evidence: Evidence) -> Judgement:
        if not hub.granted or not hub.entries(VOICE):
            return failed(MISSING, "no voice in the first burst")
        late = [entry for entry in hub.entries(VOICE, REFUSED) if entry.at_ms > hub.marks["replay"]]
        return failed(UNEXPECTED, "voice under an SSRC that was granted before") if late else passed()

    return [
        voice_case("a Floor Granted whose tag is wrong", "PTT-2", forged, judge_forged),
        voice_case("a Floor Granted datagram comes again later", "PTT-2", lambda h: replayed(h, True), judge_replayed),
        voice_case("an SSRC is granted a second time", "PTT-2", lambda h: replayed(h, False), judge_replayed),
    ]


def _order() -> list[Case]:
    def overtaken(hub: ReferenceHub) -> Script:
        hub.lose_down["Granted"] = 100
        yield from key(hub, "ptt")
        yield from serve(hub, 2000, lambda: hub.granted)
        older = hub.datagram(FloorMessageEncoder(hub.floor.hub_ssrc).revoke(mcptt.REVOKE_PREEMPTED))
        if hub.granted:
            yield hub.datagram(hub.last["Granted"])
        yield from serve(hub, 500)
        yield older
        yield from serve(hub, 500)
        hub.mark("later")
        yield from serve(hub, 1000)
        yield from key(hub, "ptt_up")
        yield from serve(hub, 2500)

    def judge_overtaken(hub: ReferenceHub, evidence: Evidence) -> Judgement:
        late = [entry for entry in hub.entries(VOICE) if entry.at_ms > hub.marks["later"]]
        return passed() if late else failed(WRONG_ANSWER, "a Floor Revoke that was overtaken ends the burst")

    def joined(hub: ReferenceHub) -> Script:
        hub.lose_down["Granted"] = 100
        yield from key(hub, "ptt")
        yield from serve(hub, 2000, lambda: hub.granted)
        idle = FloorMessageEncoder(hub.floor.hub_ssrc).idle(hub.floor.sequence)
        yield hub.datagram(idle + hub.last.get("Granted", b""))
        yield from serve(hub, 1000)
        yield from key(hub, "ptt_up")
        yield from serve(hub, 2500)

    def judge_joined(hub: ReferenceHub, evidence: Evidence) -> Judgement:
        return passed() if hub.entries(VOICE) else failed(MISSING, "the second message of a datagram has no effect")

    return [
        voice_case("a Floor Revoke that Floor Granted has overtaken", "PTT-2", overtaken, judge_overtaken),
        voice_case("two floor messages in one datagram", "PTT-2", joined, judge_joined),
    ]


def _media() -> list[Case]:
    def hears(hub: ReferenceHub, forge: bool) -> Script:
        hub.station_sends(mcptt.REQUEST)
        yield from serve(hub, 100)
        for _ in range(_PACKETS):
            packet = hub.station_speaks()
            yield from serve(hub, 20)
            if forge:
                data = packet.data
                sequence = (int.from_bytes(data[2:4], "big") + 20_000) % 0x10000
                packet = Traffic(packet.protocol, packet.port, data[:2] + sequence.to_bytes(2, "big") + data[4:])
            yield transmit(packet.text())
        hub.station_sends(mcptt.RELEASE)
        yield from serve(hub, 7000, lambda: hub.messages("ptt_burst"))

    def judge(hub: ReferenceHub, evidence: Evidence) -> Judgement:
        reports = [r for r in hub.messages("ptt_burst") if r["role"] == enums.PTT_BURST_ROLE_HEARD]
        if len(reports) != 1:
            return failed(WRONG_ANSWER, f"{len(reports)} ptt_burst of what was heard, expected one")
        got = (reports[0]["packets"], reports[0]["lost"])
        return passed() if got == (_PACKETS, 0) else failed(WRONG_ANSWER, f"packets and lost {got}, expected (20, 0)")

    return [
        voice_case("packets of voice whose tag is wrong", "PTT-1", lambda hub: hears(hub, True), judge),
        voice_case("packets of voice that come twice", "PTT-1", lambda hub: hears(hub, False), judge),
    ]
