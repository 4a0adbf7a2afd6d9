"""Two devices, one on each runtime, with hub and broker: voice to the other speaker, buttons, ambient listening."""

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
from patrolink_protocol import codec, frame, mcptt

from tests.support import hub_process
from tests.support.device_rig import walk
from tests.support.hub_process import HubProcess
from tests.support.polling import TIMEOUT_S
from tests.support.site_file import GROUP_TEMPLATE, SITE_TEMPLATE, keys_of

NAMES = ("unix-1", "linux-1")


def make_speech(seed: int, seconds: float) -> np.ndarray:
    """Return noise in syllables of 200 ms with pauses of 100 ms; it correlates only with a copy of it."""
    rng = np.random.default_rng(seed)
    n = int(seconds * RATE)
    syllables = (np.arange(n) % 2400) < 1600
    return (rng.normal(0, 4000, n) * syllables).clip(-32000, 32000).astype(np.int16)


def is_syllable_received(spoken: np.ndarray, received: np.ndarray) -> bool:
    """Return whether one of the spoken syllables was received nearly unchanged."""
    window = received.astype(float)
    if len(window) < 1600:
        return False
    squares = np.concatenate([[0], np.cumsum(window**2)])
    for start in range(0, min(len(spoken) - 1600, 2 * len(received) + RATE), 2400):
        pattern = spoken[start : start + 1600].astype(float)
        products = np.correlate(window, pattern)
        energy = np.sqrt((squares[1600:] - squares[:-1600]) * np.dot(pattern, pattern)) + 1
        if (products / energy).max() > 0.8:
            return True
    return False


class DevicePair:
    """Two devices with headsets in one group, and their hub.

    Attributes:
        rows: Decoded messages of both devices.
    """

    def __init__(self, folder, broker, stack, **ptt) -> None:
        ports = hub_process.free_ports(2)
        groups = GROUP_TEMPLATE.format(id=1, devices=json.dumps(list(NAMES)), more="")
        text = SITE_TEMPLATE.format(url=broker.url, ports=ports, top="", hub="", groups=groups)
        self._trace = folder / "floor.pcap"
        self.hub = HubProcess(folder, text, NAMES, "--pcap", str(self._trace))
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
            self.wait_until(lambda name=name: self.devices[name].log.read_text().count("ptt: group") == 2)

    def wait_until(self, condition) -> None:
        """Wait until the condition holds, while both devices run."""
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            for device in self.devices.values():
                device.check()
            assert time.monotonic() < deadline, {n: d.log.read_text() for n, d in self.devices.items()}
            time.sleep(0.02)

    def wait_for_row(self, condition) -> dict:
        """Return the first decoded message, received so far or later, that fulfils the condition."""
        deadline = time.monotonic() + TIMEOUT_S
        for record in self.transport.records():
            if record is not None and record.device in NAMES:
                self.rows += self.decoder.rows(record)
            match = next((row for row in self.rows if condition(row)), None)
            if match:
                return match
            assert time.monotonic() < deadline, self.rows
        raise AssertionError(self.rows)

    def watch_speaker(self, name: str):
        """Wait for silence; return a function that returns whether the speaker has played since.

        While the device transmits, the speaker plays only the grant tone.
        """
        played = self.headsets[name].played
        self.wait_until(lambda: not played or time.monotonic() - played[-1][0] > 0.5)
        count = len(played)
        return lambda: len(played) > count

    def is_grant_acknowledged(self) -> bool:
        """Return whether a device has acknowledged a Floor Granted: it has the floor then."""
        return bytes((mcptt.MESSAGE_TYPE, 2, mcptt.GRANTED, 0)) in self._trace.read_bytes()

    def is_lit(self, name: str) -> bool:
        """Return whether the indicator of the microphone is on."""
        path = self.indicators[name]
        return path.exists() and path.read_text().strip() not in ("", "0")


@pytest.fixture
def make_pair(tmp_path, broker):
    with contextlib.ExitStack() as stack:
        yield lambda **ptt: DevicePair(tmp_path, broker, stack, **ptt)


@pytest.mark.timeout(400)
def test_speech_reaches_the_other_device(make_pair):
    """A busy machine loses syllables: the talker speaks until one was received. bench_ptt.py measures the quality."""
    pair = make_pair()
    for speaker, other in (NAMES, NAMES[::-1]):
        spoken = make_speech(1, 25)
        pair.headsets[speaker].speak(spoken.tobytes())
        headset, before = pair.headsets[other], len(pair.headsets[other].played)

        def received(headset=headset, before=before) -> np.ndarray:
            return np.frombuffer(b"".join(data for _, data in headset.played[before:]), np.int16)

        assert not pair.is_lit(speaker)
        pair.devices[speaker].press("ptt")
        pair.wait_until(lambda s=speaker: pair.is_lit(s))
        pair.wait_until(lambda spoken=spoken, received=received: is_syllable_received(spoken, received()))
        assert not pair.is_lit(other)
        pair.devices[speaker].press("ptt-up")
        pair.wait_until(lambda s=speaker: not pair.is_lit(s))
        row = pair.wait_for_row(lambda row, s=speaker: row.get("role") == "talked" and row["device"] == s)
        assert row["outcome"] == "granted" and row["packets"] > 0
        row = pair.wait_for_row(lambda row, o=other: row.get("role") == "heard" and row["device"] == o)
        assert row["packets"] > 0
    counts = pair.hub.stop()
    assert counts["refused"] == {} and counts["floor_begin"] == 2 == counts["floor_end"]


@pytest.mark.timeout(400)
def test_buttons_reach_the_control_room(make_pair):
    pair = make_pair()
    unix, linux = (pair.devices[name] for name in NAMES)
    for device in (unix, linux):
        device.press("status 1")
        device.press("status 2")  # not configured
    for name in NAMES:
        row = pair.wait_for_row(lambda row, n=name: row["record"] == "text" and row["device"] == n)
        assert row["text"] == "all quiet" and row["text_id"] == 1
    has_played = pair.watch_speaker(NAMES[1])
    linux.press("call")
    pair.wait_until(has_played)
    assert pair.is_lit(NAMES[1])
    linux.press("ptt-up")
    row = pair.wait_for_row(lambda row: row["record"] == "ptt_burst")
    assert row["outcome"] == "granted" and row["group"] > 1 and not pair.is_lit(NAMES[1])
    has_played = pair.watch_speaker(NAMES[0])
    unix.press("ptt")
    pair.wait_until(has_played)
    has_played = pair.watch_speaker(NAMES[0])
    unix.press("emergency")
    pair.wait_until(has_played)
    assert pair.is_lit(NAMES[0])
    del pair.devices[NAMES[0]]
    summary = unix.power_off()  # with the key pressed: releases the floor and closes the microphone
    assert not pair.is_lit(NAMES[0]) and summary["left"] == 0
    has_played = pair.watch_speaker(NAMES[1])
    linux.press("ptt")
    pair.wait_until(has_played)
    assert pair.is_lit(NAMES[1])
    linux.kill()
    counts = pair.hub.stop()
    assert counts["floor_begin"] == 4 and counts["refused"] == {}, counts


def command(name: str, counter: int, **values) -> bytes:
    """Return a signed command to the device, as the hub sends it."""
    buf = bytearray(m.MAX_FRAME)
    texts = {"operator": b"duty", "name": b"", "value": b"ambient"}
    values = {"command_id": counter, "action": 6, "expires_ms": 1 << 60, **texts, **values}
    end = codec.encode_into(m.COMMAND, values, buf, frame.HEADER_BYTES)
    downlink = frame.Channel(keys_of([name])[name], name.encode(), frame.DOWNLINK)
    return bytes(buf[: downlink.seal_into(buf, m.COMMAND, counter, end)])


@pytest.mark.timeout(400)
@pytest.mark.parametrize("allowed", [False, True])
def test_ambient_listening_needs_permission_and_lights_the_indicator(make_pair, broker, allowed, tmp_path):
    pair = make_pair(listen_in=allowed)
    for point in walk(4):
        os.write(pair.gps[NAMES[0]], nmea.epoch(point))
        time.sleep(0.2)
    pair.wait_for_row(lambda row: row["record"] == "position" and row["device"] == NAMES[0])
    log = pair.devices[NAMES[0]].log.read_text()
    private = next(int(line.split()[2]) for line in log.splitlines() if line.startswith("ptt: group 2147"))
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    client.publish(f"p/{NAMES[0]}/d", command(NAMES[0], 1 << 20, number=private), 1).wait_for_publish(10)
    answer = pair.wait_for_row(lambda row: row["record"] == "answer")
    audit = (tmp_path / NAMES[0] / "state" / "audit" / "audit").read_text()
    assert f"\t6\tduty\t{private}\n" in audit
    if allowed:
        assert answer["result"] == "started"
        pair.wait_until(lambda: pair.is_lit(NAMES[0]) and pair.is_grant_acknowledged())
        has_played = pair.watch_speaker(NAMES[0])
        pair.devices[NAMES[0]].press("ptt")  # replaces ambient listening
        pair.wait_until(has_played)
        pair.devices[NAMES[0]].press("ptt-up")
        pair.wait_until(lambda: not pair.is_lit(NAMES[0]))
        bursts = [
            pair.wait_for_row(lambda row, g=g: row.get("role") == "talked" and row["group"] == g) for g in (private, 1)
        ]
        assert [row["outcome"] for row in bursts] == ["granted", "granted"]
    else:
        assert answer["result"] == "refused" and "does not allow" in answer["text"]
        time.sleep(0.5)
        assert not pair.is_lit(NAMES[0])
    client.publish(f"p/{NAMES[0]}/d", command(NAMES[0], (1 << 20) + 1, number=1, value=b""), 1).wait_for_publish(10)
    answer = pair.wait_for_row(lambda row: row["record"] == "answer" and row["command_id"] == (1 << 20) + 1)
    assert answer["result"] == "done"
    client.loop_stop()
