"""The dispatchers' console in a real browser."""

import os
import re
from pathlib import Path

import pytest
from patrolink.audio.alaw import decode
from patrolink_names import NAMES
from patrolink_protocol import mcptt

from tests.support import console_keys, site_file, speaking_devices
from tests.support.console_keys import recordings, wait_granted, wait_idle
from tests.support.console_site import BackgroundDevices, ConsolePage, ConsoleSite
from tests.support.site_file import CIRCLE, HARBOUR, NIGHT, OTHER

SCREENSHOT = Path(__file__).resolve().parent.parent.parent.parent / "build" / "hub" / "console.png"


SCENARIOS = []


def scenario(function):
    """Register a part of `test_page`. All parts share one browser, hub and set of devices, which start slowly."""
    SCENARIOS.append(function)
    return function


@scenario
def burst_of_a_device_is_shown_played_recorded_and_replayed(page, devices, site):
    row = page.row(HARBOUR)
    page.wait(lambda: "idle" in page.text(row))
    devices.talk("vest-1", HARBOUR, 4)
    page.wait(lambda: "vest-1" in page.text(row) and "s" in page.text(f"{row} .left"))
    assert page.data(HARBOUR, "state") == "taken"
    # The audio thread plays the burst, and the output is not silent.
    page.wait(lambda: page.data(HARBOUR, "audible") == "yes")
    wait_idle(page, HARBOUR)
    assert int(page.data(HARBOUR, "played")) > 0
    page.wait(lambda: page.find_all("#recordings tr"))
    assert "vest-1" in page.text("#recordings tr") and "Harbour circle" in page.text("#recordings tr")
    page.find("#recordings tr button").click()
    page.wait(lambda: page.find("#recordings tr").get_attribute("data-playing") == "yes")
    player = page.find("#replay")
    page.wait(lambda: (player.get_property("currentTime") or 0) > 0.3)
    assert player.get_property("duration") == pytest.approx(4, abs=0.05)
    page.wait(lambda: page.find("#recordings tr").get_attribute("data-playing") == "")


@scenario
def holding_the_talk_button_talks_in_the_selected_group(page, devices, site):
    page.find(page.row(CIRCLE)).click()
    page.hold(page.find("#talk-button"))
    wait_granted(page, CIRCLE)
    page.wait(lambda: devices.membership("vest-5", CIRCLE).floor.talker == b"sip:duty@test.example")
    page.wait(lambda: float(page.find("#mic").get_property("value")) > 0)

    def received() -> bytes:
        return b"".join(devices.received_voice("vest-5", CIRCLE))

    # Chromium's fake microphone beeps once a second.
    page.wait(lambda: len(received()) >= 8000 * 1.4 and abs(decode(received())).max() > 1000)
    page.release()
    wait_idle(page, CIRCLE)
    assert page.find("#talk-button").get_attribute("data-state") == "idle"
    page.wait(lambda: "duty" in page.text("#recordings"))
    row = recordings(site)[0]
    assert row["talker"] == "duty" and row["group"] == CIRCLE and row["lost"] == 0
    assert row["duration_ms"] == pytest.approx(len(received()) / 8, abs=60)


SCENARIOS += console_keys.SCENARIOS


@scenario
def queued_request_is_granted_after_the_release(page, devices, site):
    """Pre-emption is disabled in this group, so a dispatcher has to wait."""
    devices.talk("vest-4", CIRCLE)
    page.wait(lambda: page.data(CIRCLE, "state") == "taken")
    page.find(page.row(CIRCLE)).click()
    page.hold(page.find("#talk-button"))
    page.wait(lambda: "Queued: position 1" in page.text("#talk-button"))
    page.wait(lambda: "next: duty" in page.text(page.row(CIRCLE)))
    assert page.data(CIRCLE, "state") == "queued"
    devices.stop_talking("vest-4", CIRCLE)
    wait_granted(page, CIRCLE)
    page.release()
    wait_idle(page, CIRCLE)


@scenario
def broadcast_is_for_one_call_and_an_emergency_revokes_the_floor(page, devices, site):
    page.find(page.row(NIGHT)).click()
    page.find("[value=broadcast]").click()
    page.hold(page.find("#talk-button"))
    wait_granted(page, NIGHT)
    assert "broadcast" in page.text(page.row(NIGHT))
    page.release()
    wait_idle(page, NIGHT)
    assert page.find("[value=normal]").is_selected(), "the next call must be a normal call"
    page.hold(page.find("#talk-button"))
    wait_granted(page, NIGHT)
    devices.talk("vest-7", NIGHT, 60, mcptt.EMERGENCY)
    page.wait(lambda: "Revoked: pre-empted" in page.text("#message"))
    assert page.find("#talk-button").get_attribute("data-state") == "denied"
    page.release()
    devices.stop_talking("vest-7", NIGHT)


@scenario
def emergency_call_is_listed_first_and_played(page, devices, site):
    page.button(page.row(NIGHT), "Listen").click()
    page.wait(lambda: page.button(page.row(NIGHT), "Listen").get_attribute("aria-pressed") == "false")
    devices.talk("vest-8", NIGHT, 60, mcptt.EMERGENCY)
    page.wait(lambda: "EMERGENCY CALL" in page.text("#alerts"))
    assert "vest-8 in Old town, night" in page.text("#alerts")
    assert page.find("#groups tbody tr").get_attribute("data-group") == str(NIGHT)
    page.wait(lambda: page.data(NIGHT, "audible") == "yes")
    assert page.data(NIGHT, "state") == "emergency"
    page.find("body").send_keys("e")
    page.wait(lambda: page.find(page.row(NIGHT)).get_attribute("aria-selected") == "true")
    devices.stop_talking("vest-8", NIGHT)
    page.wait(lambda: page.text("#alerts") == "")
    assert page.find("#groups tbody tr").get_attribute("data-group") == str(HARBOUR)


@scenario
def sos_is_shown_until_it_is_resolved_and_the_wearer_gets_the_states(page, devices, site):
    speaking_devices.sos(devices, "vest-3")
    page.wait(lambda: "SOS" in page.text("#alerts") and "vest-3" in page.text("#alerts"))
    # The alert is also shown to a dispatcher who logs in later.
    second = ConsolePage(page.browser, site, OTHER)
    second.wait(lambda: "vest-3" in second.text("#alerts"))
    second.button("#alerts", "Accept").click()
    second.wait(lambda: "accepted by second" in second.text("#alerts"))
    second.button("#alerts", "Resolve").click()
    second.wait(lambda: second.text("#alerts") == "")
    states = [("received", ""), ("accepted", "second"), ("resolved", "second")]
    page.wait(
        lambda: (
            [(NAMES["event_state", "state"][row["state"]], row["who"]) for row in devices.event_states("vest-3")]
            == states
        )
    )
    audit = [(row["who"], row["state"]) for row in site.audit() if row["what"] == "answer_event"]
    assert audit == [("second", "accepted"), ("second", "resolved")]


@scenario
def dynamic_group_is_created_from_checked_devices_and_ended(page, devices, site):
    """The name is user input and must be shown as text."""
    name = "<img src=x> 临时"
    for device in ("vest-1", "vest-8"):
        page.find(f"#devices td[title='{device}'] input").click()
    assert page.text("#new-group button") == "Create group of 2"
    page.browser.execute_script("arguments[0].value = arguments[1]", page.find("#new-group-name"), name)
    page.find("#new-group-name").send_keys(".")
    page.find("#new-group button").click()
    page.wait(lambda: name in page.text("#groups"))
    assert not page.find_all("#groups img")
    rows = page.find_all("#groups tr[data-group]")
    group = next(int(row.get_attribute("data-group")) for row in rows if name in row.text)
    page.wait(lambda: devices.membership("vest-1", group) and devices.membership("vest-8", group))
    page.wait(lambda: page.find(page.row(group)).get_attribute("aria-selected") == "true")
    page.hold(page.find("#talk-button"))
    wait_granted(page, group)
    page.wait(lambda: devices.received_voice("vest-8", group))
    page.release()
    wait_idle(page, group)
    page.button(page.row(group), "End").click()
    page.wait(lambda: not page.find_all(page.row(group)))
    page.wait(lambda: devices.membership("vest-1", group) is None)
    assert {"make_group", "end_group"} <= {row["what"] for row in site.audit()}


@scenario
def private_call_is_received_only_by_its_device(page, devices, site):
    visible_rows = [row for row in page.find_all("#groups tr[data-group]") if row.is_displayed()]
    assert len(visible_rows) == 3, "unused private groups must be hidden"
    page.device_button("vest-2", "Call").click()
    page.wait(lambda: "private" in page.text("#groups tr[aria-selected=true]"))
    private = int(page.find("#groups tr[aria-selected=true]").get_attribute("data-group"))
    page.hold(page.find("#talk-button"))
    page.wait(lambda: devices.received_voice("vest-2", private))
    page.release()
    wait_idle(page, private)
    assert private not in (HARBOUR, CIRCLE, NIGHT) and devices.membership("vest-1", private) is None


@scenario
def listen_in_and_live_view_are_not_offered_if_the_site_does_not_have_them(page, devices, site):
    page.wait(lambda: "Locate" in page.text("#devices"))
    assert "Listen in" not in page.text("#devices") and "Watch" not in page.text("#devices")


def test_listen_in_requires_a_reason_shows_a_banner_and_is_audited(tmp_path, separate_broker, browser):
    site = ConsoleSite(tmp_path, separate_broker, top="ambient_listening = true")
    devices = None
    try:
        devices = BackgroundDevices(separate_broker, ["vest-1"])
        page = ConsolePage(browser, site)
        page.wait(lambda: "Listen in" in page.text("#devices"))
        page.device_button("vest-1", "Listen in").click()
        page.button("#listen-in", "Listen in").click()
        assert page.find("#listen-in").is_displayed(), "a reason is required"
        page.find("#listen-in-reason").send_keys("no answer after an SOS")
        page.button("#listen-in", "Listen in").click()
        page.wait(lambda: "LISTENING IN" in page.text("#alerts"))
        assert "no answer after an SOS" in page.text("#alerts")
        page.wait(lambda: devices.clients["vest-1"].commands)
        row = next(row for row in site.audit() if row["what"] == "listen_in")
        assert row["who"] == "duty" and row["reason"] == "no answer after an SOS" and row["allowed"] is True
        # The device opens its microphone in the private group, then closes it.
        private = devices.clients["vest-1"].commands[0]["number"]
        devices.talk("vest-1", private, 1)
        page.wait(lambda: "microphone open" in page.text("#alerts"))
        page.wait(lambda: page.text("#alerts") == "")
    finally:
        if devices is not None:
            devices.close()
        browser.get("about:blank")
        site.process.stop()


def test_page_reconnects_when_the_hub_is_restarted(browser, site):
    page = ConsolePage(browser, site)
    site.process.stop()
    page.wait(lambda: "not reachable" in page.text("#link"))
    site.process.start()
    page.wait(lambda: page.find("#login").is_displayed())
    assert "log in again" in page.text("#login")
    page.find("#token").send_keys(OTHER + page.keys.ENTER)
    page.wait(lambda: "connected" in page.text("#link") and page.text("#dispatcher") == "second")


@scenario
def playout_buffer_handles_jitter_and_loss(page, devices, site):
    """Runs the playout buffer with a simulated clock and network; checks the played samples and their delay."""
    played = page.browser.execute_async_script(
        """
        const done = arguments[0];
        const modules = [import("/page/playout.js"), import("/page/alaw.js")];
        Promise.all(modules).then(([{ PlayoutBuffer }, { encode, decode }]) => {
          let seed = 7;
          const random = () => (seed = Math.imul(seed, 1103515245) + 12345 >>> 0) / 2 ** 32;
          const run = (delay, loss, preRoll = 0) => {
            const N = 300, playout = new PlayoutBuffer(), out = new Float32Array(128), packets = [];
            for (let k = 0; k < N; k++) {
              if (random() >= loss) packets.push([Math.max(k, preRoll) * 160 + delay() * 8, k]);
            }
            packets.sort((a, b) => a[0] - b[0]);
            let last = 0;
            for (let now = 0; now < N * 160 + 8000; now += 128) {
              while (packets.length && packets[0][0] <= now) {
                const k = packets.shift()[1];
                const level = preRoll && k % 10 < 3 ? 0 : 0.3;  // speech with pauses
                playout.push(1, 0xffffff00 + k * 160 >>> 0, Float32Array.from({ length: 160 },
                  (_, i) => level * Math.sin((k * 160 + i) * 2 * Math.PI * 150 / 8000)), now);
              }
              playout.pull(out, now);
              if (out.some(Boolean)) last = now;
            }
            return { ...playout.counts, delay_ms: (last - N * 160) / 8 };
          };
          done({
            codes: [...Array(256).keys()].filter(code => encode(decode([code]))[0] !== code).length,
            clean: run(() => 50, 0), city: run(() => 50 + random() * 40, 0.01),
            bad: run(() => 50 + random() * 200, 0.1), preRoll: run(() => 50, 0, 25),
          });
        }).catch(e => done(String(e)));
        """
    )
    assert played["codes"] == 0
    assert played["clean"]["played"] == 48_000 and played["clean"]["late"] == 0 and played["clean"]["delay_ms"] < 210
    assert played["city"]["played"] > 47_000 and played["city"]["late"] == 0 and played["city"]["delay_ms"] < 250
    assert played["bad"]["played"] > 41_000 and played["bad"]["delay_ms"] < 520
    assert played["preRoll"]["skipped"] >= 160 * 15, "the delay of the pre-roll must be reduced in pauses"
    assert played["preRoll"]["delay_ms"] < 330


@scenario
def transmission_sends_the_pre_roll_and_the_tail(page, devices, site):
    sent = page.browser.execute_async_script(
        """
        const done = arguments[0];
        import("/page/transmission.js").then(async ({ Transmission }) => {
          let onFrame = null;
          const audio = { capture: handler => { onFrame = handler; return () => { onFrame = null; }; } };
          const sent = [], transmission = new Transmission(audio, frame => sent.push(frame));
          for (let k = 0; k < 60; k++) onFrame(k);
          const beforeGrant = sent.length;
          transmission.grant();
          const granted = [...sent];
          const start = performance.now(), tail = transmission.tail();
          onFrame("last word");
          await tail;
          transmission.stop();
          const tail_ms = performance.now() - start;
          done({ beforeGrant, granted, last: sent.at(-1), tail_ms, capturing: onFrame !== null });
        }).catch(e => done(String(e)));
        """
    )
    assert sent["beforeGrant"] == 0 and sent["granted"] == list(range(10, 60)), "the pre-roll must be the newest second"
    assert sent["last"] == "last word" and sent["tail_ms"] >= 195 and not sent["capturing"]


@scenario
def busy_console_fits_the_window(page, devices, site):
    """Write build/hub/console.png and check that no panel is cut off."""
    devices.talk("vest-4", CIRCLE)
    page.wait(lambda: page.data(CIRCLE, "state") == "taken")
    for name in ("vest-5", "vest-6"):
        devices.talk(name, CIRCLE)
    speaking_devices.sos(devices, "vest-8")
    devices.talk("vest-2", HARBOUR, 60, mcptt.EMERGENCY)
    devices.walk()
    page.find(page.row(NIGHT)).click()
    page.hold(page.find("#talk-button"))
    page.wait(
        lambda: re.search(r"Talk now, \d+ s", page.text("#talk-button")) and "EMERGENCY CALL" in page.text("#alerts")
    )
    page.wait(lambda: "next: vest-5, vest-6" in page.text(page.row(CIRCLE)))
    page.wait(lambda: page.data(HARBOUR, "audible") == "yes" and page.text(f"{page.row(HARBOUR)} .lost") == "0 %")
    SCREENSHOT.parent.mkdir(parents=True, exist_ok=True)
    page.browser.save_screenshot(str(SCREENSHOT))
    assert os.path.getsize(SCREENSHOT) > 20_000
    assert (
        page.browser.execute_script(
            "return [...document.querySelectorAll('#console, #groups, #devices, #recordings, #talk')]"
            ".filter(e => e.scrollWidth > e.clientWidth).map(e => e.id)"
        )
        == []
    )
    page.release()
    for name, group in (("vest-5", CIRCLE), ("vest-6", CIRCLE), ("vest-4", CIRCLE), ("vest-2", HARBOUR)):
        devices.stop_talking(name, group)


@pytest.mark.long(110)
@pytest.mark.timeout(400)
def test_page(browser, site, broker, subtests):
    devices = BackgroundDevices(broker, site_file.DEVICES)
    try:
        devices.walk()
        for run in SCENARIOS:
            with subtests.test(run.__name__):
                page = ConsolePage(browser, site)
                page.console_errors()
                run(page, devices, site)
                assert page.console_errors() == []
            page.release()
    finally:
        devices.close()
