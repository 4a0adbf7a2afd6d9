"""Live view in a real browser, with the agent's live view and a hub."""

import os
import time
from pathlib import Path

import pytest

from tests.support import live_camera, site_file
from tests.support.console_site import ConsolePage
from tests.support.live_camera import CameraDevice
from tests.support.site_file import OTHER

site = live_camera.site
SCREENSHOT = Path(__file__).resolve().parent.parent.parent.parent / "build" / "hub" / "live.png"
# Size of a canvas, number of red pixels (the rectangle that moves), number of bright pixels.
CANVAS_PIXELS = """
const canvas = arguments[0], { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
let red = 0, bright = 0;
for (let i = 0; i < data.length; i += 4) {
  if (data[i] > 150 && data[i + 1] < 110 && data[i + 2] < 110) red++;
  if (data[i] > 60) bright++;
}
return [canvas.width, canvas.height, red, bright];
"""


@pytest.fixture(scope="module")
def cameras(broker, site):
    devices = [CameraDevice(broker, "vest-1", False), CameraDevice(broker, "vest-2", True)]
    yield devices
    for device in devices:
        device.close()


def tile(device: str) -> str:
    return f"#live figure[data-device='{device}']"


def pictures(page: ConsolePage, device: str) -> int:
    return int(page.find(tile(device)).get_attribute("data-pictures") or 0)


def test_both_kinds_of_camera_are_shown_with_watchers_and_time(browser, site, cameras):
    page = ConsolePage(browser, site)
    page.console_errors()
    for device in ("vest-1", "vest-2"):
        page.device_button(device, "Watch").click()
    for device, size in (("vest-1", [320, 240]), ("vest-2", [480, 352])):
        page.wait(lambda device=device: pictures(page, device) > 8)
        canvas = page.find(f"{tile(device)} canvas")
        width, height, red, bright = browser.execute_script(CANVAS_PIXELS, canvas)
        assert [width, height] == size
        # The rectangle is 60 by 120 pixels of the camera's picture, a tenth of 320x240; it may be cut off at the edge.
        assert bright > width * height * 0.9 and red > 200, (device, red, bright)
        page.wait(lambda device=device: "of 2:00, duty" in page.text(tile(device)))
        page.wait(lambda device=device: "◉ duty 0:" in page.device_row(device).text)
    page.button(tile("vest-2"), "⤢").click()
    before = page.find(f"{tile('vest-1')} canvas").size["width"]
    assert page.find(f"{tile('vest-2')} canvas").size["width"] > 1.5 * before
    SCREENSHOT.parent.mkdir(parents=True, exist_ok=True)
    browser.save_screenshot(str(SCREENSHOT))
    script = "return [...document.querySelectorAll('#console, #devices, #live, #groups')]"
    assert browser.execute_script(script + ".filter(e => e.scrollWidth > e.clientWidth).map(e => e.id)") == []
    for device, camera in zip(("vest-1", "vest-2"), cameras, strict=True):
        page.button(tile(device), "Stop").click()
        page.wait(lambda camera=camera: camera.end_reasons == ["stopped by the hub"])
        page.wait(lambda device=device: "ended: stopped" in page.text(tile(device)))
        page.wait(lambda device=device: "◉" not in page.device_row(device).text)
        camera.end_reasons.clear()
        page.button(tile(device), "Close").click()
    assert not page.find_all("#live figure") and page.console_errors() == []
    rows = [row for row in site.audit() if row["what"] == "live_start"]
    assert {row["who"] for row in rows} == {"duty"} and {row["form"] for row in rows} == {"jpeg"}
    assert os.path.getsize(SCREENSHOT) > 20_000


def test_second_page_joins_and_continues_when_the_first_stops(browser, site, cameras):
    page = ConsolePage(browser, site)
    page.console_errors()
    page.device_button("vest-1", "Watch").click()
    page.wait(lambda: pictures(page, "vest-1") > 2)
    first = browser.current_window_handle
    browser.switch_to.new_window("tab")
    try:
        other = ConsolePage(browser, site, OTHER)  # the first page's session stays open
        other.wait(lambda: "duty" in other.device_row("vest-1").text)
        other.device_button("vest-1", "Watch").click()
        other.wait(lambda: "duty, second" in other.text(tile("vest-1")) and pictures(other, "vest-1") > 2)
        browser.switch_to.window(first)
        page.button(tile("vest-1"), "Stop").click()
        second = [handle for handle in browser.window_handles if handle != first][0]
        browser.switch_to.window(second)
        other.wait(lambda: "of 2:00, second" in other.text(tile("vest-1")))
        shown = pictures(other, "vest-1")
        other.wait(lambda: pictures(other, "vest-1") > shown + 3)
        assert not cameras[0].end_reasons
        browser.close()
        browser.switch_to.window(first)
        page.wait(lambda: cameras[0].end_reasons == ["stopped by the hub"])
    finally:
        browser.switch_to.window(first)
        cameras[0].end_reasons.clear()
    assert page.console_errors() == []


def test_refusals_missing_pictures_and_hub_restarts_are_shown(browser, site, cameras):
    page = ConsolePage(browser, site)
    page.console_errors()
    # Markup in a device's text is not interpreted.
    cameras[0].refusal = "<img src=x onerror=document.title='run'><b>not now</b>"
    page.device_button("vest-1", "Watch").click()
    page.wait(lambda: "ended: " + cameras[0].refusal in page.text(tile("vest-1")))
    page.wait(lambda: cameras[0].refusal in page.text("#message"))
    assert not page.find_all("#live img, #message img, #message b") and page.browser.title == "Patrolink console"
    cameras[0].refusal = ""
    page.button(tile("vest-1"), "Restart").click()
    page.wait(lambda: pictures(page, "vest-1") > 2)
    cameras[0].covered = True
    page.wait(lambda: "no picture for" in page.text(tile("vest-1")))
    cameras[0].covered = False
    page.wait(lambda: "of 2:00" in page.text(tile("vest-1")))
    assert page.console_errors() == []
    site.process.stop()
    site.process.start()
    page.wait(lambda: page.find("#login").is_displayed())
    page.find("#token").send_keys(site_file.TOKEN + page.keys.ENTER)
    page.wait(lambda: "ended: the hub was not reachable" in page.text(tile("vest-1")), 20)
    time.sleep(0.1)
    page.button(tile("vest-1"), "Close").click()
