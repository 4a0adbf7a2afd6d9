"""The console's panel of clips in a browser: what comes, verdict and picture; snapshots and recordings by command."""

import contextlib
import time
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By

from tests.support import console_site, upload_clients
from tests.support.polling import TIMEOUT_S

SHOT = Path(__file__).parents[3] / "build" / "hub" / "clips.png"
START, STOP, SNAPSHOT, PRESERVE = 1, 2, 3, 14


class Page:
    def __init__(self, browser, url: str) -> None:
        self.browser = browser
        browser.get(url)
        self.one("#token").send_keys(console_site.TOKEN)
        self.one("#login button").click()
        self.wait(lambda: self.one("#clips").is_displayed())

    def one(self, selector: str):
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def rows(self) -> list[str]:
        return self.browser.execute_script("return [...document.querySelectorAll('#clips tr')].map(it => it.innerText)")

    def pictures(self) -> list[int]:
        """How wide each row's picture is, once it is shown."""
        return self.browser.execute_script(
            "return [...document.querySelectorAll('#clips .thumb img')].map(i => i.naturalWidth)"
        )

    def wait(self, condition, seconds: float = TIMEOUT_S) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, self.browser.execute_script("return document.body.innerText")
            time.sleep(0.05)


@pytest.mark.timeout(400)
def test_clips_on_the_page(tmp_path, broker):
    with (
        contextlib.closing(upload_clients.Site(tmp_path, broker)) as site,
        console_site.chromium(tmp_path / "profile") as browser,
    ):
        page = Page(browser, f"http://127.0.0.1:{site.console}")
        assert page.rows() == []

        # An SOS comes while it is filmed: its picture first.
        site.device.run(5)
        site.device.recorder.trigger(1, 12, "", site.device.now)
        site.device.run(3)
        site.courier.run(site.courier.all_sent)
        page.wait(lambda: len(page.rows()) == 1 and "% uploaded" in page.rows()[0])
        page.wait(lambda: page.pictures() == [640])
        site.device.run(8)
        site.send()
        page.wait(lambda: "SOS" in page.rows()[0] and "valid" in page.rows()[0])

        # Snapshot: by a button; it shows up by itself.
        page.one("#snapshot").click()
        page.wait(lambda: (site.courier.states(), site.link.commands)[1])
        assert site.link.commands.pop()["action"] == SNAPSHOT
        site.device.recorder.snapshot("duty", site.device.now)
        site.device.run(3)
        site.send()
        page.wait(lambda: len(page.rows()) == 2 and "snapshot" in page.rows()[0])
        page.wait(lambda: page.pictures() == [640, 640])

        for button, action in (("#record", START), ("#record-stop", STOP)):
            page.one(button).click()
            page.wait(lambda: (site.courier.states(), site.link.commands)[1])
            assert site.link.commands.pop()["action"] == action

        # Kept; seen large; what is bad is seen to be.
        page.one("#clips tr:last-child .actions button").click()
        page.wait(lambda: (site.courier.states(), site.link.commands)[1])
        assert (site.link.commands[0]["action"], site.link.commands[0]["number"]) == (PRESERVE, 1)
        page.wait(lambda: page.one("#clips tr:last-child .actions button").get_attribute("aria-pressed") == "true")
        site.film()
        told = site.courier.manifest_values(3)
        site.link.uplink(13, {**told, "chain": bytes(32)})
        site.courier.run(site.courier.all_sent)
        page.wait(lambda: "tampered" in page.rows()[0])
        site.link.uplink(13, {**told, "clip_id": 6, "signer": bytes.fromhex("03" + "11" * 32)})
        page.wait(
            lambda: sum("missing" in row for row in page.rows()) == 2 and "NEW SIGNING KEY" in page.one("#alerts").text
        )
        SHOT.parent.mkdir(parents=True, exist_ok=True)
        browser.save_screenshot(str(SHOT))
        wide = "return [...document.querySelectorAll('#console, #clips, #devices, #recordings, #talk')]"
        assert browser.execute_script(wide + ".filter(it => it.scrollWidth > it.clientWidth).map(it => it.id)") == []
        page.one("#clips .thumb").click()
        page.wait(lambda: page.one("#picture").is_displayed())
        page.one("#picture").click()
        page.wait(lambda: not page.one("#picture").is_displayed())

        # The page anew has the same; nothing went wrong in it.
        before = page.rows()
        browser.refresh()
        page.wait(lambda: page.rows() == before)
        assert [it for it in browser.get_log("browser") if it["level"] == "SEVERE"] == []
