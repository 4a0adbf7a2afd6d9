"""Two devices, one on each runtime, a hub and a broker: what one says comes out of the other's speaker."""

import contextlib
import json
import os
import pty
import select
import threading
import time
import tty

import numpy as np
import pytest
from patrolink import boards
from patrolink.emulator.device import boot

from tests import hubs
from tests.hubs import GROUP, SITE, HubProcess, keys_of

NAMES = ("unix-1", "linux-1")
RATE = 8000


class Headset:
    """Microphone and speaker on PTYs, in real time. The microphone gives samples while it is open, from `voice`."""

    def __init__(self) -> None:
        self.mic, slave = pty.openpty()
        tty.setraw(slave)
        self.mic_path = os.ttyname(slave)
        os.close(slave)
        self.speaker, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.speaker_path = os.ttyname(self._slave)
        self.voice = np.zeros(0, np.int16)
        self.opened_at = 0.0
        self.heard: list[tuple[float, bytes]] = []
        self._stop = False
        self._threads = [threading.Thread(target=job, daemon=True) for job in (self._speak, self._listen)]
        for thread in self._threads:
            thread.start()

    def _speak(self) -> None:
        poll = select.poll()
        poll.register(self.mic, 0)
        while not self._stop:
            if any(event & select.POLLHUP for _, event in poll.poll(0)):
                self.opened_at = 0.0
                time.sleep(0.002)
                continue
            if not self.opened_at:
                self.opened_at, given = time.monotonic(), 0
                self.last_open = self.opened_at
                time.sleep(0.005)  # what it had before it was opened is thrown away
            due = int((time.monotonic() - self.opened_at) * RATE) // 80 * 80
            if due > given:
                part = np.zeros(due - given, np.int16)
                there = self.voice[given:due]
                part[: len(there)] = there
                os.write(self.mic, part.tobytes())
                given = due
            time.sleep(0.005)

    def _listen(self) -> None:
        while not self._stop:
            ready, _, _ = select.select([self.speaker], [], [], 0.1)
            if ready:
                self.heard.append((time.monotonic(), os.read(self.speaker, 4096)))

    def samples(self) -> np.ndarray:
        return np.frombuffer(b"".join(data for _, data in self.heard), np.int16)

    def close(self) -> None:
        self._stop = True
        for thread in self._threads:
            thread.join()
        for fd in (self.mic, self.speaker, self._slave):
            os.close(fd)


def speech(seed: int, seconds: float) -> np.ndarray:
    """Noise in syllables of 200 ms with pauses of 100 ms: it correlates with itself only."""
    rng = np.random.default_rng(seed)
    n = int(seconds * RATE)
    syllables = (np.arange(n) % 2400) < 1600
    return (rng.normal(0, 4000, n) * syllables).clip(-32000, 32000).astype(np.int16)


def syllables_heard(spoken: np.ndarray, heard: np.ndarray) -> int:
    """How many of the spoken syllables are in what was heard, in order and nearly as they were."""
    found = at = 0
    for start in range(0, len(spoken) - 1600, 2400):
        pattern = spoken[start : start + 1600].astype(float)
        window = heard[at : at + 16000].astype(float)
        if len(window) < 1600:
            break
        dots = np.correlate(window, pattern)
        squares = np.concatenate([[0], np.cumsum(window**2)])
        energy = np.sqrt((squares[1600:] - squares[:-1600]) * np.dot(pattern, pattern)) + 1
        best = int(np.argmax(dots / energy))
        if dots[best] / energy[best] > 0.8:
            found += 1
            at += best + 1600
    return found


class Pair:
    def __init__(self, folder, broker, stack, **ptt) -> None:
        ports = hubs.free_ports(2)
        groups = GROUP.format(id=1, devices=json.dumps(list(NAMES)), more="")
        text = SITE.format(url=broker.url, ports=ports, top="ambient_listening = true", hub="", groups=groups)
        self.hub = HubProcess(folder, text, NAMES)
        stack.callback(lambda: self.hub.process.poll() is None and self.hub.kill())
        self.headsets, self.devices, self.indicators = {}, {}, {}
        for name in NAMES:
            headset = self.headsets[name] = Headset()
            stack.callback(headset.close)
            board = name.split("-")[0]
            master, slave = pty.openpty()
            stack.callback(os.close, master)
            stack.callback(os.close, slave)
            self.indicators[name] = folder / f"{name}.led"
            config = {
                "device": name,
                "key": keys_of([name])[name].hex(),
                "gps_uart": os.ttyname(slave),
                "broker": {"host": "127.0.0.1", "port": broker.port},
                "audio": {
                    "mic": headset.mic_path,
                    "speaker": headset.speaker_path,
                    "indicator": str(self.indicators[name]),
                },
                "ptt": {"frame_ms": 60 if board == "unix" else 20, **ptt},
                "status_texts": ["all quiet"],
            }
            device = self.devices[name] = boot(boards.find(board), folder / name, config)
            stack.callback(device.kill)
        for name in NAMES:
            self.until(lambda name=name: "ptt: group 1" in self.devices[name].log.read_text())

    def until(self, condition, seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            for device in self.devices.values():
                device.check()
            assert time.monotonic() < deadline, {n: d.log.read_text() for n, d in self.devices.items()}
            time.sleep(0.02)

    def lit(self, name: str) -> bool:
        path = self.indicators[name]
        return path.exists() and path.read_text().strip() not in ("", "0")


@pytest.fixture
def pair(tmp_path, broker):
    with contextlib.ExitStack() as stack:
        yield lambda **ptt: Pair(tmp_path, broker, stack, **ptt)


@pytest.mark.timeout(120)
def test_what_one_says_the_other_hears(pair):
    it = pair()
    time.sleep(1)
    for speaker, other in (NAMES, NAMES[::-1]):
        spoken = speech(1, 3.6)
        it.headsets[speaker].voice = spoken
        before = len(it.headsets[other].heard)
        assert not it.lit(speaker)
        it.devices[speaker].press("ptt")
        it.until(lambda s=speaker: it.lit(s))
        time.sleep(3.4)
        it.devices[speaker].press("ptt-up")
        it.until(lambda s=speaker: not it.lit(s))
        time.sleep(1)
        heard = np.frombuffer(b"".join(d for _, d in it.headsets[other].heard[before:]), np.int16)
        # From the first syllable, spoken before the grant, to the one in which the key was let go.
        assert syllables_heard(spoken[: 3 * RATE], heard) == 10, it.devices[other].log.read_text()
        assert not it.lit(other)
    counts = it.hub.stop()
    assert counts["refused"] == {} and counts["floor_begin"] == 2 == counts["floor_end"]
