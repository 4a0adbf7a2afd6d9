"""Fixtures of the console tests: a hub with a console, devices in a background thread, and a headless Chromium."""

import contextlib
import http.client
import json
import shutil
import socket
import threading
import time
from pathlib import Path

import pytest
from patrolink.emulator.scenarios import control_room

from tests.support import clip_maker, hub_process, site_file, upload_clients
from tests.support.polling import TIMEOUT_S
from tests.support.site_file import DEVICES, DISPATCHERS, GROUPS, TOKEN
from tests.support.speaking_devices import SpeakingDevices


def free_port() -> int:
    """Return a free TCP port."""
    return control_room.free_ports(1, socket.SOCK_STREAM)[0]


class ConsoleSite:
    """A running hub with a console.

    Args:
        folder: Folder of the site file, state and recordings.
        broker: The MQTT broker.
        top: Lines for the top level of the site file.
        hub: Lines for its `[[hub]]`.
        tls: Whether the lines of `hub` configure a certificate.

    Attributes:
        url: Address of the console.
        process: The hub's process.
    """

    def __init__(self, folder: Path, broker, top: str = "", hub: str = "", tls: bool = False) -> None:
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        self.url = f"{'https' if tls else 'http'}://{self.host}"
        self.folder = folder
        site = site_file.SITE_TEMPLATE.format(
            url=broker.url,
            ports=hub_process.free_ports(2),
            top=top,
            hub=f'console = "{self.host}"\n{hub}',
            groups=GROUPS + DISPATCHERS,
        )
        self.process = hub_process.HubProcess(folder, site, DEVICES)

    def audit(self) -> list[dict]:
        """Return the rows of the hub's audit log."""
        path = self.folder / "state" / "shard-0" / "audit.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()]

    def http_request(self, method: str, path: str, body=None, **headers: str):
        """Send one HTTP request and return status, headers and text of the response."""
        connection = http.client.HTTPConnection(self.host, timeout=TIMEOUT_S)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Origin": self.url, "Content-Type": "application/json", **headers})
            response = connection.getresponse()
            return response.status, response.headers, response.read().decode(errors="replace")
        finally:
            connection.close()


def clip_site(folder: Path, broker) -> upload_clients.ClipSite:
    """Start a hub as a process that receives clips, with a console."""
    port, console_port = free_port(), free_port()
    device = clip_maker.Device(upload_clients.DEVICE, folder / "evidence.pem")
    text = upload_clients.clip_site_text(broker.url, hub_process.free_ports(2), port, console_port)
    hub = hub_process.HubProcess(folder, text, [upload_clients.DEVICE])
    return upload_clients.ClipSite(folder, device, hub, hub_process.LoopbackNetwork(broker.port), port, console_port)


class BackgroundDevices(SpeakingDevices):
    """Devices that run in a thread.

    Args:
        broker: The MQTT broker.
        names: Names of the devices, which must be in the site file.
    """

    def __init__(self, broker, names) -> None:
        super().__init__(hub_process.LoopbackNetwork(broker.port), names, threading.Lock())
        self._stop = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop:
            self.process()
            time.sleep(0.01)

    def close(self) -> None:
        """Stop the thread and disconnect the devices."""
        self._stop = True
        self._thread.join()
        super().close()


_PAGE_POLL_S = 0.1  # a look at the page costs the browser and its driver several ms of CPU
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--window-size=1440,1000",
)


@contextlib.contextmanager
def chromium(folder: Path):
    """Yield a headless browser with a fake microphone (beeps) and a new profile in `folder`.

    Skips the test if Chromium is not installed.
    """
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not browser or not driver:
        pytest.skip("Chromium is not installed (apt-get install chromium chromium-driver)")
    from selenium import webdriver  # only browser tests need it

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"--user-data-dir={folder}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    chrome.set_script_timeout(TIMEOUT_S)
    try:
        yield chrome
    finally:
        chrome.quit()


def open_page(browser, url: str) -> None:
    """Open a hub's page as a new dispatcher, without cookies and storage."""
    # Cookies and storage belong to a site. The page itself would connect, and be refused when its cookie goes.
    browser.get(f"{url.rstrip('/')}/session")
    browser.delete_all_cookies()
    browser.execute_script("localStorage.clear()")
    browser.get(url)
    browser.get_log("browser")  # the browser has asked for an icon, which only the page itself names


class ConsolePage:
    """The console's page in a browser, logged in.

    Args:
        browser: The selenium driver.
        site: The hub.
        token: Token of the dispatcher.
    """

    def __init__(self, browser, site: ConsoleSite, token: str = TOKEN) -> None:
        from selenium.webdriver.common.by import By
        from selenium.webdriver.common.keys import Keys

        self.browser, self.by, self.keys = browser, By, Keys
        open_page(browser, site.url)
        self.wait(lambda: self.find("#token").is_displayed())
        self.find("#token").send_keys(token + Keys.ENTER)
        self.wait(lambda: "connected" in self.text("#link"))

    def find(self, css: str):
        """Return the first element that matches a CSS selector."""
        return self.browser.find_element(self.by.CSS_SELECTOR, css)

    def find_all(self, css: str):
        """Return all elements that match a CSS selector."""
        return self.browser.find_elements(self.by.CSS_SELECTOR, css)

    def text(self, css: str) -> str:
        """Return the visible text of an element."""
        return self.find(css).text

    def row(self, group: int) -> str:
        """Return the CSS selector of a group's row."""
        return f"#groups tr[data-group='{group}']"

    def data(self, group: int, name: str) -> str:
        """Return a data attribute of a group's row."""
        return self.find(self.row(group)).get_attribute(f"data-{name}") or ""

    def device_row(self, device: str):
        """Return the row of a device."""
        return self.find(f"#devices td[title='{device}']").find_element(self.by.XPATH, "..")

    def button(self, within: str, text: str):
        """Return the button with this text inside the elements of a CSS selector."""
        return next(button for button in self.find_all(f"{within} button") if button.text == text)

    def device_button(self, device: str, text: str):
        """Return the button with this text in a device's row."""
        buttons = self.device_row(device).find_elements(self.by.TAG_NAME, "button")
        return next(button for button in buttons if button.text == text)

    def hold(self, element) -> None:
        """Press the mouse button on an element and keep it pressed."""
        self.actions().click_and_hold(element).perform()

    def release(self) -> None:
        """Release the mouse button."""
        self.actions().release().perform()

    def actions(self):
        """Return a selenium action chain without delays."""
        from selenium.webdriver import ActionChains

        return ActionChains(self.browser, duration=0)

    def wait(self, condition, seconds: float = TIMEOUT_S) -> None:
        """Wait until `condition()` is true. A failure shows the text of the page and the log of the browser."""
        from selenium.common.exceptions import StaleElementReferenceException

        def holds() -> bool:
            try:
                return bool(condition())
            except StaleElementReferenceException:  # the page has replaced the element while it was read
                return False

        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, self.text("body") + str(self.browser.get_log("browser"))
            time.sleep(_PAGE_POLL_S)

    def console_errors(self) -> list[str]:
        """Return and clear the errors in the browser's log."""
        return [entry["message"] for entry in self.browser.get_log("browser") if entry["level"] == "SEVERE"]
