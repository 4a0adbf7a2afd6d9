"""The console's clip panel in a browser: upload progress, verdict, picture, and the commands of its buttons."""

import contextlib
import time
from pathlib import Path

import patrolink_enums as enums
import pytest
from patrolink_messages import CLIP_MANIFEST
from selenium.webdriver.common.by import By

from tests.support import clip_maker, console_site, site_file
from tests.support.polling import TIMEOUT_S

SCREENSHOT = Path(__file__).parents[3] / "build" / "hub" / "clips.png"


class Page:
    def __init__(self, browser, url: str) -> None:
        self.browser = browser
        console_site.open_page(browser, url)
        self.wait(lambda: self.find("#token").is_displayed())
        self.find("#token").send_keys(site_file.TOKEN)
        self.find("#login button").click()
        self.wait(lambda: self.find("#clips").is_displayed())

    def find(self, selector: str):
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def rows(self) -> list[str]:
        return self.browser.execute_script(
            "return [...document.querySelectorAll('#clips tr')].map(row => row.innerText)"
        )

    def pictures(self) -> list[int]:
        """Return the width of the picture in each row; 0 if it is not loaded."""
        return self.browser.execute_script(
            "return [...document.querySelectorAll('#clips .thumb img')].map(image => image.naturalWidth)"
        )

    def wait(self, condition, timeout_s: float = TIMEOUT_S) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, self.browser.execute_script("return document.body.innerText")
            time.sleep(0.05)


@pytest.mark.timeout(400)
def test_clips_on_the_page(tmp_path, broker, browser):
    with contextlib.closing(console_site.clip_site(tmp_path, broker)) as site:
        page = Page(browser, f"http://127.0.0.1:{site.console_port}")
        assert page.rows() == []

        # An SOS is uploaded during the recording. Its picture is uploaded first.
        site.device.run(5)
        site.device.recorder.trigger(1, 12, "", site.device.now)
        site.device.run(3)
        site.uploader.run_until(site.uploader.is_done)
        page.wait(lambda: len(page.rows()) == 1 and "% uploaded" in page.rows()[0])
        page.wait(lambda: page.pictures() == [clip_maker.SIZE[0]])
        site.device.run(8)
        site.upload_all()
        page.wait(lambda: "SOS" in page.rows()[0] and "valid" in page.rows()[0])

        # A button requests a snapshot, which appears without a reload.
        page.find("#snapshot").click()
        page.wait(lambda: (site.uploader.receive_states(), site.session.commands)[1])
        assert site.session.commands.pop()["action"] == enums.COMMAND_ACTION_SNAPSHOT
        site.device.recorder.snapshot("duty", site.device.now)
        site.device.run(3)
        site.upload_all()
        page.wait(lambda: len(page.rows()) == 2 and "snapshot" in page.rows()[0])
        page.wait(lambda: page.pictures() == 2 * [clip_maker.SIZE[0]])

        recording = {
            "#record": enums.COMMAND_ACTION_START_RECORDING,
            "#record-stop": enums.COMMAND_ACTION_STOP_RECORDING,
        }
        for button, action in recording.items():
            page.find(button).click()
            page.wait(lambda: (site.uploader.receive_states(), site.session.commands)[1])
            assert site.session.commands.pop()["action"] == action

        # A clip is preserved, a tampered clip is shown, and a picture is enlarged.
        page.find("#clips tr:last-child .actions button").click()
        page.wait(lambda: (site.uploader.receive_states(), site.session.commands)[1])
        command = site.session.commands[0]
        assert (command["action"], command["number"]) == (enums.COMMAND_ACTION_PRESERVE_CLIP, 1)
        page.wait(lambda: page.find("#clips tr:last-child .actions button").get_attribute("aria-pressed") == "true")
        site.record_clip()
        values = site.uploader.manifest_values(3)
        site.session.send_message(CLIP_MANIFEST, {**values, "chain": bytes(32)})
        site.uploader.run_until(site.uploader.is_done)
        page.wait(lambda: "tampered" in page.rows()[0])
        site.session.send_message(CLIP_MANIFEST, {**values, "clip_id": 6, "signer": bytes.fromhex("03" + "11" * 32)})
        page.wait(
            lambda: sum("missing" in row for row in page.rows()) == 2 and "NEW SIGNING KEY" in page.find("#alerts").text
        )
        SCREENSHOT.parent.mkdir(parents=True, exist_ok=True)
        browser.save_screenshot(str(SCREENSHOT))
        panels = "return [...document.querySelectorAll('#console, #clips, #devices, #recordings, #talk')]"
        assert browser.execute_script(panels + ".filter(e => e.scrollWidth > e.clientWidth).map(e => e.id)") == []
        page.find("#clips .thumb").click()
        page.wait(lambda: page.find("#picture").is_displayed())
        page.find("#picture").click()
        page.wait(lambda: not page.find("#picture").is_displayed())

        # After a reload the page has the same rows, and the browser has logged no error.
        rows = page.rows()
        browser.refresh()
        page.wait(lambda: page.rows() == rows)
        assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
