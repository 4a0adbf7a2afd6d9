"""Two devices, one on each runtime, a hub and a broker: what one says comes out of the other's speaker."""

import contextlib
import json
import os
import pty
import time
import tty

import numpy as np
import paho.mqtt.client as paho
import patrolink_messages as m
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from patrolink.core import boards
from patrolink.core.decoder import Decoder
from patrolink.core.keys import DeviceKey
from patrolink.emulator.boards.process_device import boot
from patrolink.emulator.peripherals import nmea
from patrolink.emulator.peripherals.headset import RATE, Headset
from patrolink.transport.mqtt import MqttTransport
from patrolink_protocol import codec, frame

from tests.support import hub_process
from tests.support.device_rig import walk
from tests.support.hub_process import GROUP_TEMPLATE, SITE_TEMPLATE, HubProcess, keys_of
from tests.support.polling import TIMEOUT_S

NAMES = ("unix-1", "linux-1")


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
        ports = hub_process.free_ports(2)
        groups = GROUP_TEMPLATE.format(id=1, devices=json.dumps(list(NAMES)), more="")
        text = SITE_TEMPLATE.format(url=broker.url, ports=ports, top="", hub="", groups=groups)
        self.hub = HubProcess(folder, text, NAMES)
        stack.callback(lambda: self.hub.process.poll() is None and self.hub.kill())
        self.decoder = Decoder({name: DeviceKey(key) for name, key in keys_of(NAMES).items()})
        self.rows: list[dict] = []
        self.transport = MqttTransport(broker.url)
        stack.callback(self.transport.close)
        self.headsets, self.devices, self.indicators, self.gps = {}, {}, {}, {}
        for name in NAMES:
            headset = self.headsets[name] = Headset()
            stack.callback(headset.close)
            board = name.split("-")[0]
            self.gps[name], slave = pty.openpty()
            tty.setraw(slave)
            stack.callback(os.close, self.gps[name])
            stack.callback(os.close, slave)
            self.indicators[name] = folder / f"{name}.led"
            config = {
                "device": name,
                "key": keys_of([name])[name].hex(),
                "gps_uart": os.ttyname(slave),
                "broker": {"host": "127.0.0.1", "port": broker.port},
                "audio": {
                    "mic": headset.mic,
                    "speaker": headset.speaker,
                    "indicator": str(self.indicators[name]),
                },
                "ptt": {"frame_ms": 60 if board == "unix" else 20, **ptt},
                "status_texts": ["all quiet"],
            }
            device = self.devices[name] = boot(boards.find(board), folder / name, config)
            stack.callback(device.kill)
        for name in NAMES:
            self.until(lambda name=name: self.devices[name].log.read_text().count("ptt: group") == 2)

    def until(self, condition, seconds: float = TIMEOUT_S) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            for device in self.devices.values():
                device.check()
            assert time.monotonic() < deadline, {n: d.log.read_text() for n, d in self.devices.items()}
            time.sleep(0.02)

    def told(self, condition, seconds: float = TIMEOUT_S) -> dict:
        """Return the first message from now on, or from before, that fulfils the condition."""
        deadline = time.monotonic() + seconds
        for record in self.transport.records():
            if record is not None and record.device in NAMES:
                self.rows += self.decoder.rows(record)
            found = next((row for row in self.rows if condition(row)), None)
            if found:
                return found
            assert time.monotonic() < deadline, self.rows
        raise AssertionError(self.rows)

    def toned(self, name: str):
        """Return what tells whether its speaker has said anything since: of one who speaks that is the grant's tone."""
        heard = self.headsets[name].played
        self.until(lambda: not heard or time.monotonic() - heard[-1][0] > 0.5)
        before = len(heard)
        return lambda: len(heard) > before

    def lit(self, name: str) -> bool:
        path = self.indicators[name]
        return path.exists() and path.read_text().strip() not in ("", "0")


@pytest.fixture
def pair(tmp_path, broker):
    with contextlib.ExitStack() as stack:
        yield lambda **ptt: Pair(tmp_path, broker, stack, **ptt)


@pytest.mark.alone
@pytest.mark.timeout(400)
def test_what_one_says_the_other_hears(pair):
    it = pair()
    time.sleep(1)
    for speaker, other in (NAMES, NAMES[::-1]):
        spoken = speech(1, 3.6)
        it.headsets[speaker].speak(spoken.tobytes())
        before = len(it.headsets[other].played)
        assert not it.lit(speaker)
        it.devices[speaker].press("ptt")
        it.until(lambda s=speaker: it.lit(s))
        time.sleep(3.4)
        it.devices[speaker].press("ptt-up")
        it.until(lambda s=speaker: not it.lit(s))
        time.sleep(1)
        heard = np.frombuffer(b"".join(d for _, d in it.headsets[other].played[before:]), np.int16)
        # From the first syllable, spoken before the grant, to the one in which the key was let go.
        # One may be mangled where the machine is too busy for voice.
        assert syllables_heard(spoken[: 3 * RATE], heard) >= 9, it.devices[other].log.read_text()
        assert not it.lit(other)
        row = it.told(lambda row, s=speaker: row.get("role") == "talked" and row["device"] == s)
        assert row["outcome"] == "granted" and row["packets"] * (60 if speaker == NAMES[0] else 20) >= 3400
        row = it.told(lambda row, o=other: row.get("role") == "heard" and row["device"] == o)
        assert row["lost"] == 0 and row["packets"] > 0
    counts = it.hub.stop()
    assert counts["refused"] == {} and counts["floor_begin"] == 2 == counts["floor_end"]


@pytest.mark.timeout(400)
def test_keys_of_the_wearer_reach_the_station(pair):
    it = pair()
    unix, linux = (it.devices[name] for name in NAMES)
    for device in (unix, linux):
        device.press("status 1")
        device.press("status 2")  # there is none
    for name in NAMES:
        row = it.told(lambda row, n=name: row["message"] == "text" and row["device"] == n)
        assert row["text"] == "all quiet" and row["text_id"] == 1
    toned = it.toned(NAMES[1])
    linux.press("call")
    it.until(toned)
    assert it.lit(NAMES[1])
    linux.press("ptt-up")
    row = it.told(lambda row: row["message"] == "ptt_burst")
    assert row["outcome"] == "granted" and row["group"] > 1 and not it.lit(NAMES[1])
    toned = it.toned(NAMES[0])
    unix.press("ptt")
    it.until(toned)
    toned = it.toned(NAMES[0])
    unix.press("emergency")
    it.until(toned)
    assert it.lit(NAMES[0])
    del it.devices[NAMES[0]]
    told = unix.power_off()  # with the key down: the floor is given back, and the microphone closed
    assert not it.lit(NAMES[0]) and told["left"] == 0
    toned = it.toned(NAMES[1])
    linux.press("ptt")
    it.until(toned)
    assert it.lit(NAMES[1])
    linux.kill()
    counts = it.hub.stop()
    assert counts["floor_begin"] == 4 and counts["refused"] == {}, counts


def command(name: str, counter: int, **values) -> bytes:
    """A genuine command to the device, as a hub sends it."""
    buf = bytearray(m.MAX_FRAME)
    texts = {"operator": b"duty", "name": b"", "value": b"ambient"}
    values = {"command_id": counter, "action": 6, "expires_ms": 1 << 60, **texts, **values}
    end = codec.encode_into(m.COMMAND, values, buf, frame.HEADER_BYTES)
    return bytes(
        buf[
            : frame.Channel(keys_of([name])[name], name.encode(), frame.DOWNLINK).seal_into(
                buf, m.COMMAND, counter, end
            )
        ]
    )


@pytest.mark.timeout(400)
@pytest.mark.parametrize("allowed", [False, True])
def test_listening_in_is_refused_unless_the_device_allows_it_and_is_seen(pair, broker, allowed, tmp_path):
    it = pair(listen_in=allowed)
    for point in walk(4):
        os.write(it.gps[NAMES[0]], nmea.epoch(point))
        time.sleep(0.2)
    it.told(lambda row: row["message"] == "position" and row["device"] == NAMES[0])
    log = it.devices[NAMES[0]].log.read_text()
    private = next(int(line.split()[2]) for line in log.splitlines() if line.startswith("ptt: group 2147"))
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    client.publish(f"p/{NAMES[0]}/d", command(NAMES[0], 1 << 20, number=private), 1).wait_for_publish(10)
    answer = it.told(lambda row: row["message"] == "answer")
    audit = (tmp_path / NAMES[0] / "state" / "audit" / "audit").read_text()
    assert f"\t6\tduty\t{private}\n" in audit
    if allowed:
        assert answer["result"] == "started"
        it.until(lambda: it.lit(NAMES[0]))
        toned = it.toned(NAMES[0])
        it.devices[NAMES[0]].press("ptt")  # the wearer speaks: that goes first
        it.until(toned)
        it.devices[NAMES[0]].press("ptt-up")
        it.until(lambda: not it.lit(NAMES[0]))
        bursts = [it.told(lambda row, g=g: row.get("role") == "talked" and row["group"] == g) for g in (private, 1)]
        assert [row["outcome"] for row in bursts] == ["granted", "granted"]
    else:
        assert answer["result"] == "refused" and "does not allow" in answer["text"]
        time.sleep(0.5)
        assert not it.lit(NAMES[0])
    client.publish(f"p/{NAMES[0]}/d", command(NAMES[0], (1 << 20) + 1, number=1, value=b""), 1).wait_for_publish(10)
    assert it.told(lambda row: row["message"] == "answer" and row["command_id"] == (1 << 20) + 1)["result"] == "done"
    client.loop_stop()
