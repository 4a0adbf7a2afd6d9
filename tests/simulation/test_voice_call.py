"""Calls between two devices through a hub on a virtual clock: what the listener hears, buttons, ambient listening."""

from dataclasses import replace

import numpy as np
import patrolink_messages as m
import pytest
from patrolink.audio.alaw import decode, encode
from patrolink.emulator.network.carrier import PROFILES
from patrolink_protocol import codec, frame

from tests.support.agent_site import QUIET, Agent, AgentSite, Kit
from tests.support.simulated_console import SimulatedConsole
from tests.support.site_file import DISPATCHERS, keys_of
from tests.support.speech import find_syllables, make_speech

NAMES = ("vest-1", "vest-2")
TONE_MS = 700  # from press to first word: a wearer waits for the tone
TAIL_MS = 300
SETTLE_MS = 1500
FRAMES_MS = {"vest-1": 60, "vest-2": 20}
# Limits of TS 22.179 for 95 % of the bursts
ACCESS_MS, FIRST_VOICE_MS, MOUTH_TO_EAR_MS, LATE_ENTRY_MS = 300, 1000, 300, 350


@pytest.fixture
def make_site(tmp_path):
    """Return a function that makes a site with two devices in one group, with 60 ms and 20 ms packets."""
    sites = []

    def make(profile=QUIET, seed=1, config=None, **ptt) -> AgentSite:
        configs = {n: {"ptt": {"frame_ms": FRAMES_MS[n], **ptt}, **(config or {})} for n in NAMES}
        sites.append(AgentSite(tmp_path, {n: Kit(profile, configs[n]) for n in NAMES}, seed, DISPATCHERS))
        sites[-1].run_ms(2000)  # the hub knows both addresses of each device
        return sites[-1]

    yield make
    for site in sites:
        site.close()


def talk(site: AgentSite, talker: Agent, listener: Agent, spoken: np.ndarray, lead_ms: int = TONE_MS):
    """Let one device press, speak and release.

    Returns:
        Time of the press, time of the first word, and what the listener heard from then on.
    """
    talker.board.headset.speak(spoken, lead_ms)
    pressed_ms = site.scheduler.now
    talker.press("ptt")
    site.run_until(lambda: talker.board.headset.opened_ms is not None)
    assert talker.is_lit and not listener.is_lit
    spoken_ms = talker.board.headset.opened_ms + lead_ms
    site.run_ms(spoken_ms + 1000 * len(spoken) / 8000 + TAIL_MS - site.scheduler.now)
    assert talker.is_lit and not listener.is_lit
    talker.press("ptt-up")
    site.run_ms(SETTLE_MS)
    assert not talker.is_lit
    return pressed_ms, spoken_ms, listener.board.headset.output(spoken_ms, site.scheduler.now)


def played_since(device: Agent, since_ms: float) -> float:
    """Return the time from then to the first samples that the speaker got."""
    return next(at_ms for at_ms, _ in device.board.headset.played if at_ms >= since_ms) - since_ms


def newest(site: AgentSite, device: Agent, role: str) -> dict:
    """Return the device's newest report of a burst."""
    return [row for row in site.rows if row.get("role") == role and row["device"] == device.name][-1]


@pytest.mark.parametrize("lead_ms", [0, TONE_MS])
def test_each_syllable_is_heard_once_in_order_without_loss(make_site, lead_ms):
    """With a lead of 0 the wearer speaks from the press on: it is heard, too, a little faster to catch up."""
    site = make_site()
    spoken = make_speech(1, 6)
    for talker, listener in (site.pair, site.pair[::-1]):
        pressed_ms, _, received = talk(site, talker, listener, spoken, lead_ms)
        syllables = find_syllables(spoken, received)
        assert [syllable.number for syllable in syllables] == list(range(20))
        intact = [syllable.intact for syllable in syllables]
        assert min(intact) >= (1.0 if lead_ms else 0.6) and min(intact[10:]) == 1.0, intact
        delays = [syllable.delay_ms for syllable in syllables]
        assert max(delays) < MOUTH_TO_EAR_MS + (0 if lead_ms else ACCESS_MS) and delays[-1] < MOUTH_TO_EAR_MS, delays
        assert played_since(talker, pressed_ms) < ACCESS_MS
        talked, report = newest(site, talker, "talked"), newest(site, listener, "heard")
        assert talked["outcome"] == "granted" and talked["packets"] == report["packets"] > 0
        assert talked["lost"] == report["lost"] == 0
    counts = site.hub.stop()
    assert counts["refused"] == {} and counts["floor_begin"] == 2 == counts["floor_end"]
    assert counts["recordings"] == 2


def test_kpis_hold_in_the_city(make_site):
    """TS 22.179: floor, first voice and mouth to ear for 95 % of the bursts. A wearer speaks after the tone."""
    site = make_site(PROFILES["city"])
    access, first, delays, heard_n = [], [], [], 0
    spoken = make_speech(4, 2)
    for i in range(20):
        talker, listener = site.pair[:: 1 if i % 2 else -1]
        pressed_ms, _, received = talk(site, talker, listener, spoken)
        access.append(played_since(talker, pressed_ms))
        first.append(played_since(listener, pressed_ms))
        syllables = find_syllables(spoken, received)
        numbers = [syllable.number for syllable in syllables]
        assert numbers == sorted(set(numbers)), numbers
        heard_n += len(numbers)
        delays.append(float(np.median([syllable.delay_ms for syllable in syllables])))
    for name, figures, limit in (("access", access, ACCESS_MS), ("first voice", first, FIRST_VOICE_MS),
                                 ("mouth to ear", delays, MOUTH_TO_EAR_MS)):  # fmt: skip
        assert np.percentile(figures, 95) < limit, (name, sorted(figures))
    assert heard_n >= 119, heard_n  # of 120: 2 % of the packets are lost
    assert site.hub.stop()["refused"] == {}


@pytest.mark.parametrize("loss", [0.01, 0.1])
def test_only_lost_packets_are_missing_and_they_are_concealed(make_site, loss):
    site = make_site(replace(PROFILES["city"], loss=loss, gap_every_s=None))
    spoken = make_speech(2, 10)
    for talker, listener in (site.pair, site.pair[::-1]):
        _, _, received = talk(site, talker, listener, spoken)
        report = newest(site, listener, "heard")
        lost = report["lost"] / report["packets"]
        syllables = find_syllables(spoken, received)
        numbers = [syllable.number for syllable in syllables]
        assert numbers == sorted(set(numbers)), numbers
        intact = sum(syllable.intact for syllable in syllables) / 33
        assert 0 < lost < 3 * loss, report  # it passes two networks
        assert 1 - lost - 0.05 < intact < 1, (talker.name, lost, intact)
        # What is missing is concealed by what was played before, not by silence; A-law has no sample of 0.
        silent = np.abs(received[:80_000].reshape(-1, 80)).max(1) == 0
        assert silent.mean() < 0.03, silent.mean()


def test_late_entry_is_heard_in_time(make_site):
    site = make_site(PROFILES["city"])
    first, second = site.pair
    second.power_off()
    spoken = make_speech(3, 12)
    first.board.headset.speak(spoken)
    first.press("ptt")
    site.run_ms(2000)
    second.power_on()
    log, boot = second.log, len(second.log)
    joined_ms = site.run_until(lambda: next((at_ms for at_ms, line in log[boot:] if "ptt: group 1 " in line), None))
    site.run_ms(5000)
    assert played_since(second, joined_ms) < LATE_ENTRY_MS
    numbers = [s.number for s in find_syllables(spoken, second.board.headset.output(joined_ms, site.scheduler.now))]
    assert len(numbers) >= 14 and numbers == list(range(numbers[0], numbers[-1] + 1)), numbers


def test_a_dispatcher_hears_each_syllable_and_is_heard(make_site):
    site = make_site()
    console = SimulatedConsole(site)
    console.request(console.session.listen(1))
    spoken = make_speech(5, 6)
    talk(site, *site.pair, spoken)
    start = console.voice[0].timestamp
    assert [frame.first for frame in console.voice] == [True] + [False] * (len(console.voice) - 1)
    assert {frame.talker for frame in console.voice} == {NAMES[0]}
    samples = np.concatenate([decode(frame.alaw) for frame in console.voice])
    lengths = np.cumsum([0, *(len(frame.alaw) for frame in console.voice[:-1])])
    assert [frame.timestamp - start for frame in console.voice] == list(lengths), "a packet is missing or out of order"
    syllables = find_syllables(spoken, samples)
    assert [(s.number, s.intact) for s in syllables] == [(number, 1.0) for number in range(20)]

    console.request(console.session.request_floor(1))
    console.wait_for(lambda row: row["type"] == "granted")
    start_ms = site.scheduler.now
    console.talk(1, encode(spoken))
    site.run_ms(SETTLE_MS)
    for device in site.pair:
        syllables = find_syllables(spoken, device.board.headset.output(start_ms, site.scheduler.now))
        assert [(s.number, s.intact) for s in syllables] == [(number, 1.0) for number in range(20)]
        assert max(s.delay_ms for s in syllables) < MOUTH_TO_EAR_MS


def press(site: AgentSite, device: Agent, button: str) -> None:
    """Press a button, and wait until the device has played the grant tone."""
    pressed_ms = site.scheduler.now
    device.press(button)
    site.run_ms(800)
    assert device.is_lit and played_since(device, pressed_ms) < ACCESS_MS


def test_buttons_reach_the_control_room(make_site):
    site = make_site(config={"status_texts": ["all quiet"]})
    first, second = site.pair
    for device in site.pair:
        device.press("status 1")
        device.press("status 2")  # not configured
    for name in NAMES:
        row = site.wait_for_row(lambda row, n=name: row["record"] == "text" and row["device"] == n)
        assert row["text"] == "all quiet" and row["text_id"] == 1
    press(site, second, "call")
    second.press("ptt-up")
    row = site.wait_for_row(lambda row: row["record"] == "ptt_burst")
    assert row["outcome"] == "granted" and row["group"] > 1 and not second.is_lit and not first.board.headset.played
    press(site, first, "ptt")
    press(site, first, "emergency")
    summary = first.power_off()  # with the key pressed: releases the floor and closes the microphone
    assert not first.is_lit and summary["left"] == 0
    press(site, second, "ptt")
    second.press("ptt-up")
    site.run_ms(1000)
    assert not second.is_lit
    assert len([row for row in site.rows if row["record"] == "text"]) == 2
    counts = site.hub.stop()
    assert counts["floor_begin"] == 4 == counts["floor_end"] and counts["refused"] == {}, counts


def command(name: str, counter: int, **values) -> bytes:
    """Return a signed command to the device, as the hub sends it."""
    buf = bytearray(m.MAX_FRAME)
    texts = {"operator": b"duty", "name": b"", "value": b"ambient"}
    values = {"command_id": counter, "action": 6, "expires_ms": m.TIME_MAX_MS, **texts, **values}
    end = codec.encode_into(m.COMMAND, values, buf, frame.HEADER_BYTES)
    downlink = frame.Channel(keys_of([name])[name], name.encode(), frame.DOWNLINK)
    return bytes(buf[: downlink.seal_into(buf, m.COMMAND, counter, end)])


@pytest.mark.parametrize("allowed", [False, True])
def test_ambient_listening_needs_permission_and_lights_the_indicator(make_site, allowed):
    site = make_site(listen_in=allowed)
    device = site.pair[0]
    device.see_sky()
    site.wait_for_row(lambda row: row["record"] == "position" and row["device"] == device.name)
    private = next(group.number for group in device.device.ptt.groups if group.is_private())
    site.broker.inject_down(device.name, command(device.name, 1 << 20, number=private))
    answer = site.wait_for_row(lambda row: row["record"] == "answer")
    assert f"\t6\tduty\t{private}\n".encode() in device.file("state/audit/audit")
    if allowed:
        assert answer["result"] == "started"
        site.run_ms(2000)
        assert device.is_lit and site.voice_packets > 10 and not device.board.headset.played
        press(site, device, "ptt")  # replaces ambient listening
        device.press("ptt-up")
        site.run_ms(1000)
        assert not device.is_lit
        bursts = [row for row in site.rows if row.get("role") == "talked"]
        assert [(row["group"], row["outcome"]) for row in bursts] == [(private, "granted"), (1, "granted")]
    else:
        assert answer["result"] == "refused" and "does not allow" in answer["text"]
        site.run_ms(5000)
        assert device.board.headset.opened_at_ms == [] and site.voice_packets == 0
    site.broker.inject_down(device.name, command(device.name, (1 << 20) + 1, number=1, value=b""))
    answer = site.wait_for_row(lambda row: row["record"] == "answer" and row["command_id"] == (1 << 20) + 1)
    assert answer["result"] == "done"
