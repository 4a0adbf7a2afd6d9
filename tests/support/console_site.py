"""A hub with a console, devices that talk and walk in the background, and a headless Chromium in front of it."""

import contextlib
import hashlib
import http.client
import json
import math
import shutil
import socket
import threading
import time
from pathlib import Path

import numpy as np
import patrolink_messages
import pytest
from patrolink.audio.sound import encode
from patrolink.core.track_packer import Moment, Packer
from patrolink.emulator.scenarios import control_room
from patrolink_protocol import track_encoder

from tests.support import hub_process
from tests.support.polling import TIMEOUT_S

TOKEN = "a token of 256 bits would be longer"  # noqa: S105
OTHER = "another one"
DEVICES = ["police-1", *(f"vest-{i}" for i in range(1, 9))]
HARBOUR, CIRCLE, NIGHT = 1, 2, 3
GROUPS = """
[[group]]
id = 1
name = "Harbour circle"
[[group.member]]
devices = ["vest-1", "vest-2", "vest-3", "police-1"]
priority = 10
rights = ["talk", "emergency"]
[[group]]
id = 2
name = "港口巡逻队"
preempt = false
[[group.member]]
devices = ["vest-4", "vest-5", "vest-6"]
priority = 10
rights = ["talk", "emergency"]
[[group]]
id = 3
name = "Old town, night"
[[group.member]]
devices = ["vest-6", "vest-7", "vest-8", "police-1"]
priority = 10
rights = ["talk", "emergency"]
"""
DISPATCHERS = "".join(
    f'[[dispatcher]]\nname = "{name}"\ntoken_sha256 = "{hashlib.sha256(token.encode()).hexdigest()}"\npriority = 200\n'
    for name, token in (("duty", TOKEN), ("second", OTHER))
)


def free_port() -> int:
    """A TCP port that nobody has now."""
    return control_room.free_ports(1, socket.SOCK_STREAM)[0]


def speech(seconds: float) -> list[bytes]:
    """Frames of 20 ms that sound like syllables: harmonics of 140 Hz under an envelope of 4 Hz."""
    t = np.arange(int(seconds * 8000)) / 8000
    voice = sum(np.sin(2 * np.pi * 140 * k * t) / k for k in range(1, 9)) * np.maximum(0, np.sin(2 * np.pi * 4 * t))
    alaw = encode((voice * 9000).astype(np.int16))
    return [alaw[at : at + 160] for at in range(0, len(alaw) - 159, 160)]


class Place:
    """A hub's folder and its console's address."""

    def __init__(self, folder: Path, broker, top: str = "", hub: str = "", tls: bool = False) -> None:
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        self.url = f"{'https' if tls else 'http'}://{self.host}"
        self.folder = folder
        site = hub_process.SITE.format(
            url=broker.url,
            ports=hub_process.free_ports(2),
            top=top,
            hub=f'console = "{self.host}"\n{hub}',
            groups=GROUPS + DISPATCHERS,
        )
        self.process = hub_process.HubProcess(folder, site, DEVICES)

    def audit(self) -> list[dict]:
        path = self.folder / "state" / "shard-0" / "audit.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()]

    def ask(self, method: str, path: str, body=None, **headers: str):
        """One HTTP request; return status, headers, body."""
        link = http.client.HTTPConnection(self.host, timeout=TIMEOUT_S)
        try:
            data = None if body is None else json.dumps(body)
            link.request(method, path, data, {"Origin": self.url, "Content-Type": "application/json", **headers})
            answer = link.getresponse()
            return answer.status, answer.headers, answer.read().decode(errors="replace")
        finally:
            link.close()


class Crew:
    """Devices in a thread: they answer the hub, say `speech` while they have the floor, and walk."""

    def __init__(self, broker, names) -> None:
        self.clients = {name: hub_process.Client(name, broker.port) for name in names}
        self._lock = threading.Lock()
        self._lines: dict[tuple[str, int], list[bytes]] = {}
        self._due = time.monotonic()
        self._walked = 0
        self._stop = False
        for it in self.clients.values():
            it.hello()
        # Groups come with the hello's answer; keepalives begin then.
        hub_process.run(self.clients.values(), lambda: all(it.seats for it in self.clients.values()))
        hub_process.settle(self.clients.values(), 0.2)
        for it in self.clients.values():
            it.keepalive()
        hub_process.run(self.clients.values(), lambda: all(it.answers for it in self.clients.values()))
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        kept = time.monotonic()
        while not self._stop:
            with self._lock:
                for it in self.clients.values():
                    it.pump()
                if time.monotonic() - kept > 15:
                    kept = time.monotonic()
                    for it in self.clients.values():
                        it.keepalive()
                while time.monotonic() >= self._due:
                    self._due += 0.02
                    self._speak()
            time.sleep(0.004)

    def _speak(self) -> None:
        for (name, group), line in self._lines.items():
            seat = self.clients[name].seats.get(group)
            if seat is not None and seat.floor.audio_ssrc and line:
                seat.speak(line.pop(0))
                if not line:
                    seat.release()

    def talk(self, name: str, group: int, seconds: float = 60, indicator: int | None = None) -> None:
        """Have a device press its key, and speak so long."""
        with self._lock:
            self._lines[name, group] = speech(seconds)
            seat = self.clients[name].seats[group]
            seat.press(10, *([] if indicator is None else [indicator]))

    def hush(self, name: str, group: int) -> None:
        """Have it let go of the key."""
        with self._lock:
            self._lines.pop((name, group), None)
            self.clients[name].seats[group].release()

    def heard(self, name: str, group: int) -> list[bytes]:
        """What a device has heard in a group so far."""
        with self._lock:
            return [payload for _, _, payload in self.clients[name].seats[group].voice]

    def seat(self, name: str, group: int):
        """A device's side of a group, None while it is no member."""
        with self._lock:
            return self.clients[name].seats.get(group)

    def told(self, name: str) -> list[dict]:
        """What a device was told of its events."""
        with self._lock:
            return list(self.clients[name].states)

    def send(self, name: str, kind: int, values: dict) -> None:
        """Have a device send a message."""
        with self._lock:
            self.clients[name].uplink(kind, values)

    def walk(self, steps: int = 40) -> None:
        """Have every device tell a track of its own around the harbour."""
        for i, (name, it) in enumerate(self.clients.items()):
            # On from where it was.
            packer = Packer(it._uplink, track_encoder.TrackEncoder(2), it._counter)
            now = int(time.time() * 1000)
            moments = []
            for k in range(steps):
                turn = i * 2.4 + (self._walked + k) / 25
                lat, lon = (
                    45.5420 + 0.0022 * math.sin(turn) * (1 + i / 5),
                    13.7240 + 0.0034 * math.cos(turn * 0.8) * (1 + i / 4),
                )
                values = {
                    "lat_deg": lat, "lon_deg": lon, "alt_m": 4.0, "speed_mps": 1.4, "course_deg": 90.0, "hacc_m": 4.0,
                    "sats": 11, "battery_pct": 93 - 9 * i,
                }  # fmt: skip
                moments.append(Moment(now - (steps - k) * 1000, 3, values))
            with self._lock:
                for _, data in packer.frames(moments):
                    it._mqtt.publish(f"p/{name}/u", data, qos=1)
                    it._counter += 1
        self._walked += steps

    def close(self) -> None:
        self._stop = True
        self._thread.join()
        for it in self.clients.values():
            it.close()


def sos(crew: Crew, name: str) -> None:
    """Have a device raise an SOS."""
    event = {
        "event_id": 7, "kind": 1, "phase": 0, "ack_wanted": 1, "cause": 0, "time_ms": int(time.time() * 1000),
        "lat_e7": None, "lon_e7": None, "hacc_m": None, "fix_age_s": None, "ref": None, "value": None, "text": b"",
    }  # fmt: skip
    crew.send(name, patrolink_messages.EVENT, event)


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
    """A headless browser with a fake microphone (it beeps) and a fresh profile; skips where there is none."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not browser or not driver:
        pytest.skip("no Chromium (apt-get install chromium chromium-driver)")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"--user-data-dir={folder}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    it = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    it.set_script_timeout(TIMEOUT_S)
    try:
        yield it
    finally:
        it.quit()


class Page:
    """The console as a person sees it."""

    def __init__(self, browser, place: Place, token: str = TOKEN) -> None:
        from selenium.webdriver.common.by import By
        from selenium.webdriver.common.keys import Keys

        self.browser, self.by, self.keys = browser, By, Keys
        browser.get(place.url)
        browser.delete_all_cookies()
        browser.execute_script("localStorage.clear()")
        browser.get(place.url)
        self.wait(lambda: self.one("#token").is_displayed())
        self.one("#token").send_keys(token + Keys.ENTER)
        self.wait(lambda: "connected" in self.text("#link"))

    def one(self, css: str):
        return self.browser.find_element(self.by.CSS_SELECTOR, css)

    def all(self, css: str):
        return self.browser.find_elements(self.by.CSS_SELECTOR, css)

    def text(self, css: str) -> str:
        return self.one(css).text

    def row(self, group: int) -> str:
        return f"#groups tr[data-group='{group}']"

    def data(self, group: int, name: str) -> str:
        return self.one(self.row(group)).get_attribute(f"data-{name}") or ""

    def button(self, within: str, text: str):
        return next(it for it in self.all(f"{within} button") if it.text == text)

    def hold(self, element) -> None:
        self.actions().click_and_hold(element).perform()

    def let_go(self) -> None:
        self.actions().release().perform()

    def actions(self):
        from selenium.webdriver import ActionChains

        return ActionChains(self.browser, duration=0)

    def wait(self, condition, seconds: float = TIMEOUT_S) -> None:
        """Wait until something is so; else show how it is."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.text("body") + str(self.browser.get_log("browser"))
            time.sleep(0.02)

    def errors(self) -> list[str]:
        return [entry["message"] for entry in self.browser.get_log("browser") if entry["level"] == "SEVERE"]
