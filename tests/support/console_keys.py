"""Keys on the dispatchers' console: what talks, what does not, and when a transmission ends. Parts of `test_page`."""

import json
import time

from tests.support.console_site import ConsolePage, ConsoleSite
from tests.support.polling import changing_files
from tests.support.site_file import CIRCLE, HARBOUR, NIGHT


def recordings(site: ConsoleSite) -> list[dict]:
    """Return the hub's recordings, newest first."""
    files = [path for path in changing_files(site.folder / "recordings") if path.suffix == ".json"]
    return [json.loads(path.read_text()) for path in sorted(files, reverse=True)]


def focus(page: ConsolePage, css: str) -> None:
    page.browser.execute_script("arguments[0].focus()", page.find(css))


def focus_page(page: ConsolePage) -> None:
    """Remove the focus from all controls."""
    page.browser.execute_script("document.activeElement.blur()")


def dispatch_key(page: ConsolePage, kind: str, key: str, code: str, **options) -> None:
    """Dispatch a keyboard event at the element that has the focus."""
    page.browser.execute_script(
        "document.activeElement.dispatchEvent(new KeyboardEvent(arguments[0], {...arguments[1], bubbles: true}))",
        kind,
        {"key": key, "code": code, **options},
    )


def wait_granted(page: ConsolePage, group: int) -> None:
    page.wait(lambda: "Talk now" in page.text("#talk-button"))
    page.wait(lambda: page.data(group, "state") == "granted")


def wait_idle(page: ConsolePage, group: int) -> None:
    page.wait(lambda: page.data(group, "state") == "idle")


def requests_during(page: ConsolePage, action) -> list[str]:
    """Run `action()` and return the names of the requests that the page sends meanwhile."""
    page.browser.execute_script(
        """
        window.sentRequests = [];
        window.originalSend ??= WebSocket.prototype.send;
        WebSocket.prototype.send = function (data) {
          if (typeof data === "string") window.sentRequests.push(JSON.parse(data).do);
          return window.originalSend.call(this, data);
        };
        """
    )
    action()
    time.sleep(0.3)
    return page.browser.execute_script("WebSocket.prototype.send = window.originalSend; return window.sentRequests")


def ptt_key_talks_in_the_selected_group_while_the_page_has_the_focus(page, devices, site):
    assert page.find("#talk-button").get_attribute("aria-keyshortcuts") == "F9" and "F9" in page.text("footer")
    page.find(page.row(HARBOUR)).click()
    page.actions().key_down(page.keys.F9).perform()
    wait_granted(page, HARBOUR)
    # A key repeat neither ends the transmission nor starts a new one.
    assert requests_during(page, lambda: dispatch_key(page, "keydown", "F9", "F9", repeat=True)) == []
    assert page.data(HARBOUR, "state") == "granted"
    page.actions().key_up(page.keys.F9).perform()
    wait_idle(page, HARBOUR)


def ptt_key_does_not_talk_while_a_control_or_text_field_has_the_focus(page, devices, site):
    page.find(page.row(HARBOUR)).click()
    for css in (
        "#show-all",
        "#new-group-name",
        "#device-filter",
        "#map canvas",
        "[value=normal]",
        f"{page.row(NIGHT)} .talk",
    ):
        focus(page, css)

        def press() -> None:
            page.actions().key_down(page.keys.F9).pause(0.2).key_up(page.keys.F9).perform()

        assert requests_during(page, press) == [], css
        assert "F9 does not talk" in page.text("#message")
    # Esc returns the focus to the page.
    page.actions().send_keys(page.keys.ESCAPE).key_down(page.keys.F9).perform()
    wait_granted(page, HARBOUR)
    page.actions().key_up(page.keys.F9).perform()
    wait_idle(page, HARBOUR)


def space_on_a_focused_talk_button_talks_in_the_group_of_the_button(page, devices, site):
    page.find(page.row(HARBOUR)).click()
    focus(page, f"{page.row(CIRCLE)} .talk")
    page.actions().key_down(" ").perform()
    wait_granted(page, CIRCLE)
    assert page.data(HARBOUR, "state") == "idle"
    assert requests_during(page, lambda: dispatch_key(page, "keydown", " ", "Space", repeat=True)) == []
    page.actions().key_up(" ").perform()
    wait_idle(page, CIRCLE)
    page.wait(lambda: recordings(site)[0]["group"] == CIRCLE)
    # Enter has the same effect. The main button talks in the selected group, which is now this group.
    focus(page, "#talk-button")
    page.actions().key_down(page.keys.ENTER).perform()
    wait_granted(page, CIRCLE)
    page.actions().key_up(page.keys.ENTER).perform()
    wait_idle(page, CIRCLE)


def space_on_another_control_acts_on_the_control_and_never_talks(page, devices, site):
    page.find(page.row(HARBOUR)).click()
    listen = f"{page.row(NIGHT)} .listen"
    assert page.find(listen).get_attribute("aria-pressed") == "true"
    focus(page, listen)
    assert requests_during(page, lambda: page.actions().send_keys(" ").perform()) == ["leave"]
    assert page.find(listen).get_attribute("aria-pressed") == "false"
    assert requests_during(page, lambda: page.actions().send_keys(" ").perform()) == ["listen"]
    focus(page, "#show-all")
    assert requests_during(page, lambda: page.actions().send_keys(" ").perform()) == []
    focus(page, "#devices input[type=checkbox]")
    assert requests_during(page, lambda: page.actions().send_keys(" ").perform()) == []
    assert page.text("#new-group button") == "Create group of 1"
    page.actions().send_keys(" ").perform()
    page.find("#new-group-name").send_keys("a b")
    assert page.find("#new-group-name").get_property("value") == "a b"
    page.find("#new-group-name").clear()
    focus_page(page)
    assert requests_during(page, lambda: page.actions().send_keys(" ").perform()) == []
    assert page.data(HARBOUR, "state") == "idle"


def transmission_ends_when_the_window_loses_the_focus(page, devices, site):
    page.find(page.row(HARBOUR)).click()
    for key, code, css in ((page.keys.F9, "F9", None), (" ", "Space", f"{page.row(HARBOUR)} .talk")):
        if css is None:
            focus_page(page)
        else:
            focus(page, css)
        page.actions().key_down(key).perform()
        wait_granted(page, HARBOUR)
        page.browser.execute_script("dispatchEvent(new Event('blur'))")
        wait_idle(page, HARBOUR)
        # Repeats of a key that is still held when the window gets the focus again must not talk.
        name = " " if code == "Space" else code
        assert requests_during(page, lambda n=name, c=code: dispatch_key(page, "keydown", n, c, repeat=True)) == []
        page.actions().key_up(key).perform()
        assert page.data(HARBOUR, "state") == "idle"


def another_key_or_pointer_does_not_release_the_floor(page, devices, site):
    page.find(page.row(HARBOUR)).click()
    page.actions().key_down(page.keys.F9).perform()
    wait_granted(page, HARBOUR)
    page.actions().send_keys(" ").perform()
    page.find(page.row(HARBOUR)).click()
    time.sleep(0.5)
    assert page.data(HARBOUR, "state") == "granted"
    page.actions().key_up(page.keys.F9).perform()
    wait_idle(page, HARBOUR)


def second_press_within_the_tail_continues_the_transmission(page, devices, site):
    page.find(page.row(HARBOUR)).click()
    page.actions().key_down(page.keys.F9).perform()
    wait_granted(page, HARBOUR)
    page.browser.execute_script(
        "for (const kind of ['keyup', 'keydown']) "
        "document.body.dispatchEvent(new KeyboardEvent(kind, {key: 'F9', code: 'F9', bubbles: true}))"
    )
    time.sleep(0.6)
    assert page.data(HARBOUR, "state") == "granted"
    page.actions().key_up(page.keys.F9).perform()
    wait_idle(page, HARBOUR)


SCENARIOS = [
    ptt_key_talks_in_the_selected_group_while_the_page_has_the_focus,
    ptt_key_does_not_talk_while_a_control_or_text_field_has_the_focus,
    space_on_a_focused_talk_button_talks_in_the_group_of_the_button,
    space_on_another_control_acts_on_the_control_and_never_talks,
    transmission_ends_when_the_window_loses_the_focus,
    another_key_or_pointer_does_not_release_the_floor,
    second_press_within_the_tail_continues_the_transmission,
]
