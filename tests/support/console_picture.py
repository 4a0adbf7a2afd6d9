"""Take the picture of the console for the documentation: python -m tests.support.console_picture FILE.

A real hub, devices with real voice, and the page in Chromium: a burst, an emergency call with a queue behind another
talker, an SOS, and a dispatcher on air.
"""

import io
import sys
import tempfile
from pathlib import Path

from patrolink.emulator.network.broker import Broker
from patrolink_protocol import mcptt
from PIL import Image

from tests.support import console_site, site_file, speaking_devices
from tests.support.console_site import BackgroundDevices, ConsolePage, ConsoleSite
from tests.support.site_file import CIRCLE, HARBOUR, NIGHT

_RECORDED = (("vest-1", HARBOUR, 1.2), ("vest-7", NIGHT, 0.8), ("vest-4", CIRCLE, 1.6), ("vest-2", HARBOUR, 0.9))


def record_bursts(page: ConsolePage, devices: BackgroundDevices) -> None:
    """Let devices talk, one after the other, so that the list of recordings is not empty."""
    for count, (name, group, seconds) in enumerate(_RECORDED, 1):
        devices.talk(name, group, seconds)
        page.wait(lambda n=count: len(page.find_all("#recordings tr")) == n)


def set_scene(page: ConsolePage, devices: BackgroundDevices) -> None:
    """Fill the map and the list of groups."""
    devices.walk(60)
    page.wait(lambda: len(page.find_all("#devices tr")) == len(site_file.DEVICES))
    for group in (HARBOUR, CIRCLE):
        page.find(page.row(group)).find_element(page.by.TAG_NAME, "button").click()
    devices.talk("vest-4", CIRCLE)
    page.wait(lambda: page.data(CIRCLE, "state") == "taken")
    devices.talk("vest-5", CIRCLE)
    devices.talk("vest-6", CIRCLE)
    page.wait(lambda: "vest-5" in page.text(page.row(CIRCLE)))
    devices.talk("vest-2", HARBOUR, indicator=mcptt.EMERGENCY)
    page.wait(lambda: "EMERGENCY" in page.text("#alerts"))
    speaking_devices.sos(devices, "vest-8")
    page.wait(lambda: "SOS" in page.text("#alerts"))
    page.find(page.row(NIGHT)).click()
    page.hold(page.find("#talk-button"))
    page.wait(lambda: page.data(NIGHT, "state") == "granted")
    page.wait(lambda: "26 s" in page.text("#talk-button"))


def main(picture: Path) -> None:
    """Take the picture."""
    broker = Broker()
    with tempfile.TemporaryDirectory() as folder, console_site.chromium(Path(folder) / "profile") as browser:
        browser.set_window_size(1440, 1000)
        site_folder = Path(folder) / "site"
        site_folder.mkdir()
        site = ConsoleSite(site_folder, broker)
        devices = BackgroundDevices(broker, site_file.DEVICES)
        try:
            page = ConsolePage(browser, site)
            record_bursts(page, devices)
            set_scene(page, devices)
            screenshot = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")
            screenshot.quantize(128).save(picture, optimize=True)  # a third of the size
        finally:
            devices.close()
            site.process.stop()
            broker.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
