"""The dispatchers' console in a real browser, and what its server refuses."""

import asyncio
import os
import time
from pathlib import Path

import aiohttp
import pytest
from patrolink.hub.sessions import SESSION_S, TRIES, TRY_AGAIN_S, Sessions, TooMany
from patrolink.hub.site import Dispatcher
from patrolink.hub.sound import decode
from patrolink_names import NAMES
from patrolink_protocol import mcptt

from tests import desks
from tests.desks import CIRCLE, HARBOUR, NIGHT, OTHER, TOKEN, Crew, Page, Place

pytestmark = pytest.mark.timeout(180)
SHOT = Path(__file__).resolve().parent.parent.parent / "build" / "hub" / "console.png"


# --- who may come in ------------------------------------------------------------------------------------------------


def test_wrong_tokens_are_counted_by_address_and_forgiven():
    duty = Dispatcher(name="duty", token_sha256="0" * 64)
    sessions = Sessions(lambda token: {"right": duty}.get(token))
    for _ in range(TRIES):
        assert sessions.check("10.0.0.1", "wrong", 0) is None
    with pytest.raises(TooMany) as refused:
        sessions.check("10.0.0.1", "right", 1)
    assert 0 < refused.value.retry_s <= TRY_AGAIN_S
    assert sessions.check("10.0.0.2", "right", 1) is duty, "others are not locked out"
    assert sessions.check("10.0.0.1", "wrong", TRY_AGAIN_S) is None, "one more"
    with pytest.raises(TooMany):
        sessions.check("10.0.0.1", "wrong", TRY_AGAIN_S)
    assert sessions.check("10.0.0.1", "right", 10 * TRY_AGAIN_S) is duty


def test_all_addresses_of_an_ipv6_network_count_as_one():
    sessions = Sessions(lambda token: None)
    for i in range(TRIES):
        sessions.check(f"2001:db8::{i}", "wrong", 0)
    with pytest.raises(TooMany):
        sessions.check("2001:db8::ffff", "wrong", 0)
    assert sessions.check("2001:db8:0:1::1", "wrong", 0) is None


def test_a_session_ends_with_the_shift_or_by_hand():
    sessions = Sessions(lambda token: None)
    secret = sessions.open(Dispatcher(name="duty", token_sha256="0" * 64), 100)
    ended = []
    sessions.get(secret, 100).ended.append(lambda: ended.append(1))
    assert sessions.get(secret, 100 + SESSION_S) is None and sessions.get("", 100) is None
    sessions.close(secret)
    assert ended and sessions.get(secret, 100) is None


def cookie(place: Place, token: str = TOKEN) -> str:
    status, headers, _ = place.ask("POST", "/login", {"token": token})
    assert status == 204
    return headers["Set-Cookie"].split(";")[0]


def test_login_gives_a_cookie_that_scripts_and_other_sites_do_not_get(place):
    status, headers, _ = place.ask("POST", "/login", {"token": TOKEN})
    assert status == 204
    flags = [part.strip() for part in headers["Set-Cookie"].split(";")]
    assert "HttpOnly" in flags and "SameSite=Strict" in flags and "Path=/" in flags
    assert TOKEN not in headers["Set-Cookie"]
    assert place.ask("GET", "/session", Cookie=flags[0])[2] == '{"name": "duty"}'
    assert place.ask("GET", "/session")[2] == '{"name": null}'


def test_every_answer_carries_the_policies(place):
    for path in ("/", "/page/console.js", "/session", "/socket", "/nothing", "/metrics"):
        _, headers, _ = place.ask("GET", path)
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "no-referrer"


def test_nothing_but_the_page_is_served(place):
    mine = cookie(place)
    for path in ("/page/..%2fsite.py", "/page/../site.py", "/recordings/..%2f..%2fkeys.toml", "/keys.toml"):
        assert place.ask("GET", path, Cookie=mine)[0] == 404


def test_a_wrong_login_is_refused_counted_and_written_down(tmp_path, alone):
    place = Place(tmp_path, alone)
    try:
        for body in ({}, [], "text", {"token": None}):
            assert place.ask("POST", "/login", body)[0] in (400, 401)
        answers = [place.ask("POST", "/login", {"token": "guess"}) for _ in range(TRIES)]
        assert answers[0][0] == 401
        assert answers[-1][0] == 429 and int(answers[-1][1]["Retry-After"]) > 0
        assert place.ask("POST", "/login", {"token": TOKEN})[0] == 429, "guessing on does not pay"
        assert [row["what"] for row in place.audit()] == ["login refused"] * TRIES
        # A token stands in no log, right or wrong.
        logs = (tmp_path / "hub.log").read_text() + str(place.audit())
        assert "guess" not in logs and TOKEN not in logs
    finally:
        place.process.stop()


def test_another_site_cannot_use_a_session(place):
    mine = cookie(place)
    for origin in ("https://evil.example", f"http://localhost:{place.port}", "null", ""):
        assert place.ask("POST", "/login", {"token": TOKEN}, Origin=origin)[0] == 403
        assert place.ask("POST", "/logout", Cookie=mine, Origin=origin)[0] == 403
        assert handshake(place, {"Cookie": mine, "Origin": origin}) == 403
    assert handshake(place, {"Origin": place.url}) == 401, "no session"
    assert handshake(place, {"Authorization": "Bearer wrong"}) == 401
    assert handshake(place, {"Cookie": mine, "Origin": place.url}) == 101
    assert place.ask("GET", "/recordings/20260101T000000.000Z-1-00000001")[0] == 401


def handshake(place: Place, headers: dict[str, str]) -> int:
    async def run() -> int:
        async with aiohttp.ClientSession() as session:
            try:
                async with session.ws_connect(place.url + "/socket", headers=headers):
                    return 101
            except aiohttp.WSServerHandshakeError as e:
                return e.status

    return asyncio.run(run())


def test_logging_out_closes_the_socket(place):
    async def run() -> int:
        mine = cookie(place)
        headers = {"Cookie": mine, "Origin": place.url}
        async with aiohttp.ClientSession() as session, session.ws_connect(place.url + "/socket", headers=headers) as ws:
            assert (await ws.receive_json())["name"] == "duty"
            await asyncio.to_thread(place.ask, "POST", "/logout", Cookie=mine)
            while (message := await ws.receive(timeout=5)).type != aiohttp.WSMsgType.CLOSE:
                pass
            return message.data

    assert asyncio.run(run()) == 4401


def test_what_is_asked_wrongly_is_refused_in_words(place):
    cases = {
        "not JSON": "not JSON",
        '{"do": "listen", "id": 1}': "group",
        '{"do": "listen", "id": 1, "group": 99}': "no group 99",
        '{"do": "listen", "id": 1, "group": "1"}': "group",
        '{"do": "listen", "id": 1, "group": true}': "group",
        '{"do": "fly", "id": 1}': "fly",
        "[]": "request",
        "[" * 5000: "not JSON",
        '{"do": "private", "id": 1, "device": "nobody"}': "nobody",
        '{"do": "command", "id": 1, "device": "vest-1", "action": "dance"}': "no command 'dance'",
        '{"do": "command", "id": 1, "device": "vest-1", "action": "call", "value": "ambient"}': "listening in",
        '{"do": "listen_in", "id": 1, "device": "vest-1", "reason": "curious"}': "does not allow",
        '{"do": "make_group", "id": 1, "name": "x", "devices": []}': "devices",
        '{"do": "make_group", "id": 1, "name": "x", "devices": ["nobody"]}': "nobody",
        '{"do": "answer_event", "id": 1, "device": "vest-1", "event_id": 9, "state": "accepted"}': "no open event 9",
        '{"do": "end_group", "id": 1, "group": 1}': "1",
    }

    async def run() -> None:
        async with aiohttp.ClientSession() as session:
            headers = {"Authorization": f"Bearer {TOKEN}"}
            async with session.ws_connect(place.url + "/socket", headers=headers) as ws:
                await ws.receive_json()
                for asked, reason in cases.items():
                    await ws.send_str(asked)
                    told = await ws.receive_json(timeout=5)
                    assert told["type"] == "refused" and reason in told["error"], (asked, told)
                # Voice without the floor, for no group, and none at all: nothing happens.
                for voice in (bytes(4), bytes((0, 0, 0, 1)) + bytes(160), bytes((0, 0, 0, 99)) + bytes(160), b""):
                    await ws.send_bytes(voice)
                await ws.send_str('{"do": "recordings", "id": 7}')
                told = await ws.receive_json(timeout=5)
                assert told == {"type": "reply", "id": 7, "result": told["result"]}

    asyncio.run(run())


# --- the page -------------------------------------------------------------------------------------------------------


@pytest.fixture
def browser(tmp_path):
    with desks.chromium(tmp_path / "profile") as it:
        yield it


SCENARIOS = []


def scenario(of):
    """What follows runs in one browser, at one hub with its devices: each takes seconds to start."""
    SCENARIOS.append(of)
    return of


@scenario
def a_group_goes_from_idle_to_taken_is_heard_recorded_and_replayed(page, crew, place):
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
    page.wait(lambda: page.all("#recordings tr"))
    assert "vest-1" in page.text("#recordings tr") and "Harbour circle" in page.text("#recordings tr")
    page.one("#recordings tr button").click()
    player = page.one("#replay")
    page.wait(lambda: (player.get_property("currentTime") or 0) > 0.3)
    assert player.get_property("duration") == pytest.approx(1.5, abs=0.05)
    assert page.one("#recordings tr").get_attribute("data-playing") == "yes"
    page.wait(lambda: page.one("#recordings tr").get_attribute("data-playing") == "")


@scenario
def talking_by_holding_the_button(page, crew, place):
    page.one(page.row(CIRCLE)).click()
    page.hold(page.one("#key"))
    page.wait(lambda: "On air" in page.text("#key"))
    page.wait(lambda: page.data(CIRCLE, "state") == "mine")
    page.wait(lambda: crew.seat("vest-5", CIRCLE).floor.talker == b"sip:duty@test.example")
    time.sleep(1.5)
    assert float(page.one("#mic").get_property("value")) > 0
    page.let_go()
    page.wait(lambda: page.data(CIRCLE, "state") == "idle")
    assert page.one("#key").get_attribute("data-state") == ""
    heard = b"".join(crew.heard("vest-5", CIRCLE))
    assert len(heard) >= 8000 * 1.4 and abs(decode(heard)).max() > 1000, "Chromium's microphone beeps once a second"
    page.wait(lambda: "duty" in page.text("#recordings"))
    row = place_recordings(place)[0]
    assert row["talker"] == "duty" and row["group"] == CIRCLE and row["lost"] == 0
    assert row["duration_ms"] == pytest.approx(len(heard) / 8, abs=60)


def place_recordings(place: Place) -> list[dict]:
    """What the hub has recorded, newest first."""
    import json

    files = sorted((place.folder / "recordings").rglob("*.json"), reverse=True)
    return [json.loads(path.read_text()) for path in files]


@scenario
def talking_with_the_space_bar_and_no_stuck_key(page, crew, place):
    page.one(page.row(HARBOUR)).click()
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
    page.one("#make-name").send_keys("a b")
    assert page.one("#make-name").get_property("value") == "a b" and page.data(HARBOUR, "state") == "idle"
    page.one("#make-name").clear()


@scenario
def the_key_again_within_the_last_word_goes_on(page, crew, place):
    page.one(page.row(HARBOUR)).click()
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
def queued_then_granted(page, crew, place):
    """In the Chinese-named group nobody is pre-empted."""
    crew.talk("vest-4", CIRCLE)
    page.wait(lambda: page.data(CIRCLE, "state") == "talks")
    page.one(page.row(CIRCLE)).click()
    page.hold(page.one("#key"))
    page.wait(lambda: "Queued: 1" in page.text("#key"))
    page.wait(lambda: "next: duty" in page.text(page.row(CIRCLE)))
    assert page.data(CIRCLE, "state") == "wait"
    crew.hush("vest-4", CIRCLE)
    page.wait(lambda: "On air" in page.text("#key"))
    page.let_go()
    page.wait(lambda: page.data(CIRCLE, "state") == "idle")


@scenario
def a_broadcast_denies_others_and_the_dispatcher_is_told_why(page, crew, place):
    page.one(page.row(NIGHT)).click()
    page.one("[value=broadcast]").click()
    page.hold(page.one("#key"))
    page.wait(lambda: "On air" in page.text("#key"))
    assert "broadcast" in page.text(page.row(NIGHT))
    page.let_go()
    page.wait(lambda: page.data(NIGHT, "state") == "idle")
    assert page.one("[value=normal]").is_selected(), "the next call is a normal one"
    # An emergency of a device takes the floor from the dispatcher.
    page.hold(page.one("#key"))
    page.wait(lambda: "On air" in page.text("#key"))
    crew.talk("vest-7", NIGHT, 60, mcptt.EMERGENCY)
    page.wait(lambda: "pre-empted" in page.text("#told"))
    assert page.one("#key").get_attribute("data-state") == "no"
    page.let_go()
    crew.hush("vest-7", NIGHT)


@scenario
def an_emergency_is_first_and_listened_to(page, crew, place):
    page.button(page.row(NIGHT), "Listen").click()
    page.wait(lambda: page.button(page.row(NIGHT), "Listen").get_attribute("aria-pressed") == "false")
    crew.talk("vest-8", NIGHT, 60, mcptt.EMERGENCY)
    page.wait(lambda: "EMERGENCY CALL" in page.text("#alerts"))
    assert "vest-8 in Old town, night" in page.text("#alerts")
    assert page.one("#groups tbody tr").get_attribute("data-group") == str(NIGHT)
    page.wait(lambda: page.data(NIGHT, "heard") == "yes")
    assert page.data(NIGHT, "state") == "alarm"
    page.one("body").send_keys("e")
    page.wait(lambda: page.one(page.row(NIGHT)).get_attribute("aria-selected") == "true")
    crew.hush("vest-8", NIGHT)
    page.wait(lambda: page.text("#alerts") == "")
    assert page.one("#groups tbody tr").get_attribute("data-group") == str(HARBOUR)


@scenario
def an_sos_stands_until_it_is_resolved_and_the_wearer_is_told_who_has_it(page, crew, place):
    desks.sos(crew, "vest-3")
    page.wait(lambda: "SOS" in page.text("#alerts") and "vest-3" in page.text("#alerts"))
    # Who comes later sees it, too.
    again = Page(page.browser, place, OTHER)
    again.wait(lambda: "vest-3" in again.text("#alerts"))
    again.button("#alerts", "I have it").click()
    again.wait(lambda: "second has it" in again.text("#alerts"))
    again.button("#alerts", "Resolved").click()
    again.wait(lambda: again.text("#alerts") == "")
    answers = [("received", ""), ("accepted", "second"), ("resolved", "second")]
    page.wait(
        lambda: [(NAMES["event_state", "state"][it["state"]], it["who"]) for it in crew.told("vest-3")] == answers
    )
    said = [(row["who"], row["state"]) for row in place.audit() if row["what"] == "answer_event"]
    assert said == [("second", "accepted"), ("second", "resolved")]


@scenario
def a_group_of_a_selection_and_its_end(page, crew, place):
    """Its name is somebody's text: it is shown, never run."""
    name = "<img src=x> 临时"
    for device in ("vest-1", "vest-8"):
        page.one(f"#devices td[title='{device}'] input").click()
    assert page.text("#make button") == "Make a group of 2"
    page.browser.execute_script("arguments[0].value = arguments[1]", page.one("#make-name"), name)
    page.one("#make-name").send_keys(".")
    page.one("#make button").click()
    page.wait(lambda: name in page.text("#groups"))
    assert not page.all("#groups img")
    made = next(int(it.get_attribute("data-group")) for it in page.all("#groups tr[data-group]") if name in it.text)
    page.wait(lambda: crew.seat("vest-1", made) and crew.seat("vest-8", made))
    page.wait(lambda: page.one(page.row(made)).get_attribute("aria-selected") == "true")
    page.hold(page.one("#key"))
    page.wait(lambda: "On air" in page.text("#key"))
    page.wait(lambda: crew.heard("vest-8", made))
    page.let_go()
    page.wait(lambda: page.data(made, "state") == "idle")
    page.button(page.row(made), "End").click()
    page.wait(lambda: not page.all(page.row(made)))
    page.wait(lambda: crew.seat("vest-1", made) is None)
    assert {"make_group", "end_group"} <= {row["what"] for row in place.audit()}


@scenario
def a_private_call(page, crew, place):
    shown = len([row for row in page.all("#groups tr[data-group]") if row.is_displayed()])
    assert shown == 3, "private groups are not in the way"
    row = page.one("#devices td[title='vest-2']").find_element(page.by.XPATH, "..")
    next(it for it in row.find_elements(page.by.TAG_NAME, "button") if it.text == "Call").click()
    page.wait(lambda: "private" in page.text("#groups tr[aria-selected=true]"))
    private = int(page.one("#groups tr[aria-selected=true]").get_attribute("data-group"))
    page.hold(page.one("#key"))
    page.wait(lambda: crew.heard("vest-2", private))
    page.let_go()
    page.wait(lambda: page.data(private, "state") == "idle")
    assert private not in (HARBOUR, CIRCLE, NIGHT) and crew.seat("vest-1", private) is None


@scenario
def listening_in_is_not_offered_where_the_site_forbids_it(page, crew, place):
    assert "Listen in" not in page.text("#devices")


def test_listening_in_needs_a_reason_shows_a_banner_and_is_written_down(tmp_path, alone, browser):
    place = Place(tmp_path, alone, top="ambient_listening = true")
    crew = None
    try:
        crew = Crew(alone, ["vest-1"])
        page = Page(browser, place)
        page.wait(lambda: "Listen in" in page.text("#devices"))
        row = page.one("#devices td[title='vest-1']").find_element(page.by.XPATH, "..")
        listen_in = next(it for it in row.find_elements(page.by.TAG_NAME, "button") if it.text == "Listen in")
        listen_in.click()
        page.button("#ask", "Listen in").click()
        assert page.one("#ask").is_displayed(), "without a reason it stays"
        page.one("#ask-reason").send_keys("no answer after an SOS")
        page.button("#ask", "Listen in").click()
        page.wait(lambda: "LISTENING IN" in page.text("#alerts"))
        assert "no answer after an SOS" in page.text("#alerts")
        page.wait(lambda: crew.clients["vest-1"].commands)
        row = next(row for row in place.audit() if row["what"] == "listen_in")
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
        place.process.stop()


def test_the_hub_goes_and_comes_back(tmp_path, alone, browser):
    place = Place(tmp_path, alone)
    try:
        page = Page(browser, place)
        place.process.stop()
        page.wait(lambda: "not reachable" in page.text("#link"))
        place.process.start()
        page.wait(lambda: page.one("#login").is_displayed())
        assert "log in again" in page.text("#login")
        page.one("#token").send_keys(OTHER + page.keys.ENTER)
        page.wait(lambda: "connected" in page.text("#link") and page.text("#who") == "second")
    finally:
        browser.get("about:blank")
        place.process.stop()


@scenario
def voice_comes_out_whole_through_jitter_and_loss(page, crew, place):
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
def what_is_said_before_the_grant_goes_out_and_the_last_word_too(page, crew, place):
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
def the_picture(page, crew, place):
    """A shift's worst minute, for people to look at: build/hub/console.png."""
    crew.talk("vest-4", CIRCLE, 20)
    page.wait(lambda: page.data(CIRCLE, "state") == "talks")
    for name in ("vest-5", "vest-6"):
        crew.talk(name, CIRCLE, 20)
    desks.sos(crew, "vest-8")
    crew.talk("vest-2", HARBOUR, 20, mcptt.EMERGENCY)
    crew.walk()
    page.one(page.row(NIGHT)).click()
    page.hold(page.one("#key"))
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
    page.let_go()
    for name, group in (("vest-5", CIRCLE), ("vest-6", CIRCLE), ("vest-4", CIRCLE), ("vest-2", HARBOUR)):
        crew.hush(name, group)


@pytest.mark.timeout(300)
def test_the_page(browser, place, broker, subtests):
    crew = Crew(broker, desks.DEVICES)
    try:
        crew.walk()
        for of in SCENARIOS:
            with subtests.test(of.__name__):
                page = Page(browser, place)
                page.errors()
                of(page, crew, place)
                assert page.errors() == []
            page.let_go()
    finally:
        crew.close()
