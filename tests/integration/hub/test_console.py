"""The dispatchers' console in a real browser."""

import json
import os
import time
from pathlib import Path

import pytest
from patrolink.audio.alaw import decode
from patrolink_names import NAMES
from patrolink_protocol import mcptt

from tests.support import console_site
from tests.support.console_site import CIRCLE, HARBOUR, NIGHT, OTHER, BackgroundDevices, ConsolePage, ConsoleSite

pytestmark = pytest.mark.alone
SHOT = Path(__file__).resolve().parent.parent.parent.parent / "build" / "hub" / "console.png"


@pytest.fixture
def browser(tmp_path):
    with console_site.chromium(tmp_path / "profile") as it:
        yield it


SCENARIOS = []


def scenario(of):
    """What follows runs in one browser, at one hub with its devices: each takes seconds to start."""
    SCENARIOS.append(of)
    return of


@scenario
def a_group_goes_from_idle_to_taken_is_heard_recorded_and_replayed(page, crew, site):
    row = page.row(HARBOUR)
    page.wait(lambda: "idle" in page.text(row))
    crew.talk("vest-1", HARBOUR, 1.5)
    page.wait(lambda: page.data(HARBOUR, "state") == "talks")
    assert "vest-1" in page.text(row) and "s" in page.text(f"{row} .left")
    # It comes out of the audio thread, and not as silence.
    page.wait(lambda: page.data(HARBOUR, "heard") == "yes")
    page.wait(lambda: page.data(HARBOUR, "state") == "idle")
    page.wait(lambda: int(page.data(HARBOUR, "played")) >= 12_000 - 160)
    assert int(page.data(HARBOUR, "late")) == 0
    page.wait(lambda: page.find_all("#recordings tr"))
    assert "vest-1" in page.text("#recordings tr") and "Harbour circle" in page.text("#recordings tr")
    page.find("#recordings tr button").click()
    player = page.find("#replay")
    page.wait(lambda: (player.get_property("currentTime") or 0) > 0.3)
    assert player.get_property("duration") == pytest.approx(1.5, abs=0.05)
    assert page.find("#recordings tr").get_attribute("data-playing") == "yes"
    page.wait(lambda: page.find("#recordings tr").get_attribute("data-playing") == "")


@scenario
def talking_by_holding_the_button(page, crew, site):
    page.find(page.row(CIRCLE)).click()
    page.hold(page.find("#key"))
    page.wait(lambda: "On air" in page.text("#key"))
    page.wait(lambda: page.data(CIRCLE, "state") == "mine")
    page.wait(lambda: crew.membership("vest-5", CIRCLE).floor.talker == b"sip:duty@test.example")
    time.sleep(1.5)
    assert float(page.find("#mic").get_property("value")) > 0
    page.release()
    page.wait(lambda: page.data(CIRCLE, "state") == "idle")
    assert page.find("#key").get_attribute("data-state") == ""
    heard = b"".join(crew.received_voice("vest-5", CIRCLE))
    assert len(heard) >= 8000 * 1.4 and abs(decode(heard)).max() > 1000, "Chromium's microphone beeps once a second"
    page.wait(lambda: "duty" in page.text("#recordings"))
    row = place_recordings(site)[0]
    assert row["talker"] == "duty" and row["group"] == CIRCLE and row["lost"] == 0
    assert row["duration_ms"] == pytest.approx(len(heard) / 8, abs=60)


def place_recordings(site: ConsoleSite) -> list[dict]:
    """What the hub has recorded, newest first."""
    files = sorted((site.folder / "recordings").rglob("*.json"), reverse=True)
    return [json.loads(path.read_text()) for path in files]


@scenario
def talking_with_the_space_bar_and_no_stuck_key(page, crew, site):
    page.find(page.row(HARBOUR)).click()
    page.actions().key_down(" ").perform()
    page.wait(lambda: "On air" in page.text("#key"))
    page.actions().key_up(" ").perform()
    page.wait(lambda: page.data(HARBOUR, "state") == "idle")
    # The window loses the keyboard while the bar is held: it is as if it came up.
    page.actions().key_down(" ").perform()
    page.wait(lambda: "On air" in page.text("#key"))
    page.browser.execute_script("dispatchEvent(new Event('blur'))")
    page.wait(lambda: page.data(HARBOUR, "state") == "idle")
    page.actions().key_up(" ").perform()
    # In a field it is a space.
    page.find("#make-name").send_keys("a b")
    assert page.find("#make-name").get_property("value") == "a b" and page.data(HARBOUR, "state") == "idle"
    page.find("#make-name").clear()


@scenario
def the_key_again_within_the_last_word_goes_on(page, crew, site):
    page.find(page.row(HARBOUR)).click()
    page.actions().key_down(" ").perform()
    page.wait(lambda: "On air" in page.text("#key"))
    page.browser.execute_script(
        "for (const it of ['keyup', 'keydown']) "
        "document.body.dispatchEvent(new KeyboardEvent(it, {key: ' ', bubbles: true}))"
    )
    time.sleep(0.6)
    assert page.data(HARBOUR, "state") == "mine"
    page.actions().key_up(" ").perform()
    page.wait(lambda: page.data(HARBOUR, "state") == "idle")


@scenario
def queued_then_granted(page, crew, site):
    """In the Chinese-named group nobody is pre-empted."""
    crew.talk("vest-4", CIRCLE)
    page.wait(lambda: page.data(CIRCLE, "state") == "talks")
    page.find(page.row(CIRCLE)).click()
    page.hold(page.find("#key"))
    page.wait(lambda: "Queued: 1" in page.text("#key"))
    page.wait(lambda: "next: duty" in page.text(page.row(CIRCLE)))
    assert page.data(CIRCLE, "state") == "wait"
    crew.stop_talking("vest-4", CIRCLE)
    page.wait(lambda: "On air" in page.text("#key"))
    page.release()
    page.wait(lambda: page.data(CIRCLE, "state") == "idle")


@scenario
def a_broadcast_denies_others_and_the_dispatcher_is_told_why(page, crew, site):
    page.find(page.row(NIGHT)).click()
    page.find("[value=broadcast]").click()
    page.hold(page.find("#key"))
    page.wait(lambda: "On air" in page.text("#key"))
    assert "broadcast" in page.text(page.row(NIGHT))
    page.release()
    page.wait(lambda: page.data(NIGHT, "state") == "idle")
    assert page.find("[value=normal]").is_selected(), "the next call is a normal one"
    # An emergency of a device takes the floor from the dispatcher.
    page.hold(page.find("#key"))
    page.wait(lambda: "On air" in page.text("#key"))
    crew.talk("vest-7", NIGHT, 60, mcptt.EMERGENCY)
    page.wait(lambda: "pre-empted" in page.text("#told"))
    assert page.find("#key").get_attribute("data-state") == "no"
    page.release()
    crew.stop_talking("vest-7", NIGHT)


@scenario
def an_emergency_is_first_and_listened_to(page, crew, site):
    page.button(page.row(NIGHT), "Listen").click()
    page.wait(lambda: page.button(page.row(NIGHT), "Listen").get_attribute("aria-pressed") == "false")
    crew.talk("vest-8", NIGHT, 60, mcptt.EMERGENCY)
    page.wait(lambda: "EMERGENCY CALL" in page.text("#alerts"))
    assert "vest-8 in Old town, night" in page.text("#alerts")
    assert page.find("#groups tbody tr").get_attribute("data-group") == str(NIGHT)
    page.wait(lambda: page.data(NIGHT, "heard") == "yes")
    assert page.data(NIGHT, "state") == "alarm"
    page.find("body").send_keys("e")
    page.wait(lambda: page.find(page.row(NIGHT)).get_attribute("aria-selected") == "true")
    crew.stop_talking("vest-8", NIGHT)
    page.wait(lambda: page.text("#alerts") == "")
    assert page.find("#groups tbody tr").get_attribute("data-group") == str(HARBOUR)


@scenario
def an_sos_stands_until_it_is_resolved_and_the_wearer_is_told_who_has_it(page, crew, site):
    console_site.sos(crew, "vest-3")
    page.wait(lambda: "SOS" in page.text("#alerts") and "vest-3" in page.text("#alerts"))
    # Who comes later sees it, too.
    again = ConsolePage(page.browser, site, OTHER)
    again.wait(lambda: "vest-3" in again.text("#alerts"))
    again.button("#alerts", "I have it").click()
    again.wait(lambda: "second has it" in again.text("#alerts"))
    again.button("#alerts", "Resolved").click()
    again.wait(lambda: again.text("#alerts") == "")
    answers = [("received", ""), ("accepted", "second"), ("resolved", "second")]
    page.wait(
        lambda: (
            [(NAMES["event_state", "state"][it["state"]], it["who"]) for it in crew.event_states("vest-3")] == answers
        )
    )
    said = [(row["who"], row["state"]) for row in site.audit() if row["what"] == "answer_event"]
    assert said == [("second", "accepted"), ("second", "resolved")]


@scenario
def a_group_of_a_selection_and_its_end(page, crew, site):
    """Its name is somebody's text: it is shown, never run."""
    name = "<img src=x> 临时"
    for device in ("vest-1", "vest-8"):
        page.find(f"#devices td[title='{device}'] input").click()
    assert page.text("#make button") == "Make a group of 2"
    page.browser.execute_script("arguments[0].value = arguments[1]", page.find("#make-name"), name)
    page.find("#make-name").send_keys(".")
    page.find("#make button").click()
    page.wait(lambda: name in page.text("#groups"))
    assert not page.find_all("#groups img")
    made = next(
        int(it.get_attribute("data-group")) for it in page.find_all("#groups tr[data-group]") if name in it.text
    )
    page.wait(lambda: crew.membership("vest-1", made) and crew.membership("vest-8", made))
    page.wait(lambda: page.find(page.row(made)).get_attribute("aria-selected") == "true")
    page.hold(page.find("#key"))
    page.wait(lambda: "On air" in page.text("#key"))
    page.wait(lambda: crew.received_voice("vest-8", made))
    page.release()
    page.wait(lambda: page.data(made, "state") == "idle")
    page.button(page.row(made), "End").click()
    page.wait(lambda: not page.find_all(page.row(made)))
    page.wait(lambda: crew.membership("vest-1", made) is None)
    assert {"make_group", "end_group"} <= {row["what"] for row in site.audit()}


@scenario
def a_private_call(page, crew, site):
    shown = len([row for row in page.find_all("#groups tr[data-group]") if row.is_displayed()])
    assert shown == 3, "private groups are not in the way"
    row = page.find("#devices td[title='vest-2']").find_element(page.by.XPATH, "..")
    next(it for it in row.find_elements(page.by.TAG_NAME, "button") if it.text == "Call").click()
    page.wait(lambda: "private" in page.text("#groups tr[aria-selected=true]"))
    private = int(page.find("#groups tr[aria-selected=true]").get_attribute("data-group"))
    page.hold(page.find("#key"))
    page.wait(lambda: crew.received_voice("vest-2", private))
    page.release()
    page.wait(lambda: page.data(private, "state") == "idle")
    assert private not in (HARBOUR, CIRCLE, NIGHT) and crew.membership("vest-1", private) is None


@scenario
def listening_in_is_not_offered_where_the_site_forbids_it(page, crew, site):
    assert "Listen in" not in page.text("#devices")


def test_listening_in_needs_a_reason_shows_a_banner_and_is_written_down(tmp_path, separate_broker, browser):
    site = ConsoleSite(tmp_path, separate_broker, top="ambient_listening = true")
    crew = None
    try:
        crew = BackgroundDevices(separate_broker, ["vest-1"])
        page = ConsolePage(browser, site)
        page.wait(lambda: "Listen in" in page.text("#devices"))
        row = page.find("#devices td[title='vest-1']").find_element(page.by.XPATH, "..")
        listen_in = next(it for it in row.find_elements(page.by.TAG_NAME, "button") if it.text == "Listen in")
        listen_in.click()
        page.button("#ask", "Listen in").click()
        assert page.find("#ask").is_displayed(), "without a reason it stays"
        page.find("#ask-reason").send_keys("no answer after an SOS")
        page.button("#ask", "Listen in").click()
        page.wait(lambda: "LISTENING IN" in page.text("#alerts"))
        assert "no answer after an SOS" in page.text("#alerts")
        page.wait(lambda: crew.clients["vest-1"].commands)
        row = next(row for row in site.audit() if row["what"] == "listen_in")
        assert row["who"] == "duty" and row["reason"] == "no answer after an SOS" and row["allowed"] is True
        # The device opens its microphone to the private group, and lets go again.
        private = crew.clients["vest-1"].commands[0]["number"]
        crew.talk("vest-1", private, 1)
        page.wait(lambda: "its microphone is open" in page.text("#alerts"))
        page.wait(lambda: page.text("#alerts") == "")
    finally:
        if crew is not None:
            crew.close()
        browser.get("about:blank")
        site.process.stop()


def test_the_hub_goes_and_comes_back(tmp_path, separate_broker, browser):
    site = ConsoleSite(tmp_path, separate_broker)
    try:
        page = ConsolePage(browser, site)
        site.process.stop()
        page.wait(lambda: "not reachable" in page.text("#link"))
        site.process.start()
        page.wait(lambda: page.find("#login").is_displayed())
        assert "log in again" in page.text("#login")
        page.find("#token").send_keys(OTHER + page.keys.ENTER)
        page.wait(lambda: "connected" in page.text("#link") and page.text("#who") == "second")
    finally:
        browser.get("about:blank")
        site.process.stop()


@scenario
def voice_comes_out_whole_through_jitter_and_loss(page, crew, site):
    """The player itself, with a clock of its own: what is played, and how late, at the network's worst and its best."""
    played = page.browser.execute_async_script(
        """
        const done = arguments[0];
        import("/page/voice.js").then(({ Playout, encode, decode }) => {
          let seed = 7;
          const random = () => (seed = Math.imul(seed, 1103515245) + 12345 >>> 0) / 2 ** 32;
          const run = (delay, loss, preRoll = 0) => {
            const N = 300, it = new Playout(), out = new Float32Array(128), packets = [];
            for (let k = 0; k < N; k++) {
              if (random() >= loss) packets.push([Math.max(k, preRoll) * 160 + delay() * 8, k]);
            }
            packets.sort((a, b) => a[0] - b[0]);
            let last = 0;
            for (let now = 0; now < N * 160 + 8000; now += 128) {
              while (packets.length && packets[0][0] <= now) {
                const k = packets.shift()[1];
                const loud = preRoll && k % 10 < 3 ? 0 : 0.3;  // speech has pauses
                it.push(1, 0xffffff00 + k * 160 >>> 0, Float32Array.from({ length: 160 },
                  (_, i) => loud * Math.sin((k * 160 + i) * 2 * Math.PI * 150 / 8000)), now);
              }
              it.pull(out, now);
              if (out.some(Boolean)) last = now;
            }
            return { ...it.counts, behind_ms: (last - N * 160) / 8 };
          };
          done({
            codes: [...Array(256).keys()].filter(code => encode(decode([code]))[0] !== code).length,
            clean: run(() => 50, 0), city: run(() => 50 + random() * 40, 0.01),
            bad: run(() => 50 + random() * 200, 0.1), early: run(() => 50, 0, 25),
          });
        }).catch(e => done(String(e)));
        """
    )
    assert played["codes"] == 0
    assert played["clean"]["played"] == 48_000 and played["clean"]["late"] == 0 and played["clean"]["behind_ms"] < 210
    assert played["city"]["played"] > 47_000 and played["city"]["late"] == 0 and played["city"]["behind_ms"] < 250
    assert played["bad"]["played"] > 41_000 and played["bad"]["behind_ms"] < 520
    assert played["early"]["skipped"] >= 160 * 15, "what was said before the grant is caught up with in pauses"
    assert played["early"]["behind_ms"] < 330


@scenario
def what_is_said_before_the_grant_goes_out_and_the_last_word_too(page, crew, site):
    sent = page.browser.execute_async_script(
        """
        const done = arguments[0];
        import("/page/sound.js").then(async ({ Press }) => {
          const sound = {}, sent = [], press = new Press(sound, frame => sent.push(frame));
          for (let k = 0; k < 60; k++) sound.onFrame(k);
          const before = sent.length;
          press.grant();
          const granted = [...sent];
          const start = performance.now(), released = press.release();
          sound.onFrame("last word");
          await released;
          press.stop();
          const tail_ms = performance.now() - start;
          done({ before, granted, last: sent.at(-1), tail_ms, open: sound.onFrame !== null });
        }).catch(e => done(String(e)));
        """
    )
    assert sent["before"] == 0 and sent["granted"] == list(range(10, 60)), "one second, the newest"
    assert sent["last"] == "last word" and sent["tail_ms"] >= 195 and not sent["open"]


@scenario
def the_picture(page, crew, site):
    """A shift's worst minute, for people to look at: build/hub/console.png."""
    crew.talk("vest-4", CIRCLE, 20)
    page.wait(lambda: page.data(CIRCLE, "state") == "talks")
    for name in ("vest-5", "vest-6"):
        crew.talk(name, CIRCLE, 20)
    console_site.sos(crew, "vest-8")
    crew.talk("vest-2", HARBOUR, 20, mcptt.EMERGENCY)
    crew.walk()
    page.find(page.row(NIGHT)).click()
    page.hold(page.find("#key"))
    page.wait(lambda: "On air, 27 s" in page.text("#key") and "EMERGENCY CALL" in page.text("#alerts"))
    page.wait(lambda: "next: vest-5, vest-6" in page.text(page.row(CIRCLE)))
    page.wait(lambda: page.data(HARBOUR, "heard") == "yes" and page.text(f"{page.row(HARBOUR)} .lost") == "0 %")
    SHOT.parent.mkdir(parents=True, exist_ok=True)
    page.browser.save_screenshot(str(SHOT))
    assert os.path.getsize(SHOT) > 20_000
    # Nothing is cut off or pushed out of the window.
    assert (
        page.browser.execute_script(
            "return [...document.querySelectorAll('#console, #groups, #devices, #recordings, #talk')]"
            ".filter(it => it.scrollWidth > it.clientWidth).map(it => it.id)"
        )
        == []
    )
    page.release()
    for name, group in (("vest-5", CIRCLE), ("vest-6", CIRCLE), ("vest-4", CIRCLE), ("vest-2", HARBOUR)):
        crew.stop_talking(name, group)


@pytest.mark.timeout(400)
def test_the_page(browser, site, broker, subtests):
    crew = BackgroundDevices(broker, console_site.DEVICES)
    try:
        crew.walk()
        for of in SCENARIOS:
            with subtests.test(of.__name__):
                page = ConsolePage(browser, site)
                page.console_errors()
                of(page, crew, site)
                assert page.console_errors() == []
            page.release()
    finally:
        crew.close()
