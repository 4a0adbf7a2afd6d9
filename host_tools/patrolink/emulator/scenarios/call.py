"""A call between two emulated devices; only headsets and network are emulated."""

import contextlib
import time
import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from patrolink.core import boards
from patrolink.emulator.boards.device import Device
from patrolink.emulator.boards.process_device import boot
from patrolink.emulator.network.carrier import Profile
from patrolink.emulator.network.udp_gate import HOST, UdpGate
from patrolink.emulator.peripherals.headset import RATE, Headset
from patrolink.emulator.peripherals.serial_line import Line
from patrolink.emulator.scenarios.control_room import ControlRoom

_JOIN_S = 30.0
_SETTLE_S = 1.5
_TONE_S = 0.7  # time from press to first word: a wearer waits for the tone
_TAIL_S = 0.3
_PIECE = RATE // 5
_QUIET = 200  # mean magnitude that counts as silence
_ALIKE = 0.7


@dataclass(frozen=True)
class Plan:
    """Settings of a call; see `patrolink call --help`.

    Args:
        board: Names of the two boards.
        speech: Samples, 16 bit at 8 kHz; None for synthetic syllables.
        profile: Network conditions.
        seed: Seed of the network.
        out: Folder for logs.
    """

    boards: tuple[str, str]
    speech: bytes | None
    profile: Profile
    seed: int
    out: Path


def syllables(seconds: float = 3.0) -> bytes:
    """Return synthetic speech, chirps in syllables: a codec treats it as speech and its correlation peak is unique."""
    t = np.arange(int(seconds * RATE)) / RATE
    voice = np.sin(2 * np.pi * (180 * t + 60 * np.sin(2.1 * t))) + 0.5 * np.sin(2 * np.pi * (700 * t + 250 * t * t))
    samples: bytes = (6000 * voice * ((t % 0.3) < 0.2)).astype("<i2").tobytes()
    return samples


class Call:
    """Control room, network and two devices, running until the stack ends.

    Attributes:
        url: URL of the console.
        token: Token of the dispatcher.
    """

    def __init__(self, plan: Plan, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._out = plan.out
        self.names = tuple(f"{name}-{i}" for i, name in enumerate(plan.boards, 1))
        self._station = station = ControlRoom(
            plan.out, self.names, stack, "--pcap", str(plan.out / "floor.pcap"), host=HOST
        )
        self.url, self.token = station.url, station.token
        gate = UdpGate((station.floor, station.media), plan.profile, plan.seed)
        stack.callback(gate.close)
        self.headsets: list[Headset] = []
        self.devices: list[Device] = []
        for name, board in zip(self.names, plan.boards, strict=True):
            self.devices.append(self._device(name, boards.find(board), station.keys[name], station.broker.port))
        self._until(
            lambda: station.ask("/status")["devices_present"] == len(self.devices),
            _JOIN_S,
            "the devices did not register with the hub",
        )

    def _device(self, name: str, board: boards.Board, key: bytes, port: int) -> Device:
        headset, gps = Headset(), Line()
        self._stack.callback(headset.close)
        self._stack.callback(gps.close)
        self.headsets.append(headset)
        config = {
            "device": name,
            "key": key.hex(),
            "gps_uart": gps.path,
            "broker": {"host": "127.0.0.1", "port": port},
            "audio": {"mic": headset.mic, "speaker": headset.speaker, "indicator": str(self._out / f"{name}.led")},
        }
        device = boot(board, self._out / name, config)
        self._stack.callback(device.kill)
        return device

    def _until(self, condition: Callable[[], bool], seconds: float, why: str) -> None:
        self._station.until(condition, self.devices, seconds, why)

    def speak(self, talker: int, speech: bytes) -> dict[str, Any]:
        """Let one device press, speak and release.

        Returns:
            What became of the burst, times in milliseconds.
        """
        talking, listening = self.headsets[talker], self.headsets[1 - talker]
        before = (len(talking.played), len(listening.played))
        talking.speak(speech, _TONE_S)
        pressed = time.monotonic()
        self.devices[talker].press("ptt")
        self._until(lambda: talking.opened_s is not None, 10, "the microphone did not open")
        opened = talking.opened_s or pressed
        time.sleep(max(0.0, opened + _TONE_S + len(speech) / 2 / RATE + _TAIL_S - time.monotonic()))
        self.devices[talker].press("ptt-up")
        time.sleep(_SETTLE_S)
        tones, voice = talking.played[before[0] :], listening.played[before[1] :]
        spoken = np.frombuffer(speech, "<i2").astype(float)
        played = _as_heard(voice, opened + _TONE_S, len(spoken) + RATE)
        delay, share = _compare(spoken, played)
        _write(self._out / "spoken.wav", spoken)
        _write(self._out / "heard.wav", played)
        return {
            "talker": self.names[talker],
            "listener": self.names[1 - talker],
            "access_ms": round((tones[0][0] - pressed) * 1000) if tones else None,
            "mouth_to_ear_ms": delay,
            "heard_pct": round(100 * share),
        }

    def end(self) -> dict[str, Any]:
        """Power the devices off, stop the hub and return its counters."""
        for device in self.devices:
            device.power_off()
        return self._station.end()


def _as_heard(chunks: list[tuple[float, bytes]], start_s: float, n: int) -> "np.ndarray[Any, Any]":
    """Return `n` samples that the speaker played from `start_s` on, as a converter concatenates them."""
    played, free = np.zeros(n), 0.0
    for at, data in chunks:
        samples = np.frombuffer(data[: len(data) & ~1], "<i2")
        begin = max(at, free)
        free = begin + len(samples) / RATE
        first = round((begin - start_s) * RATE)
        if first < 0:
            samples, first = samples[-first:], 0
        samples = samples[: max(0, n - first)]
        played[first : first + len(samples)] = samples
    return played


def _compare(spoken: "np.ndarray[Any, Any]", played: "np.ndarray[Any, Any]") -> tuple[int | None, float]:
    """Compare what was played with what was said, in pieces of 200 ms at their best alignment.

    Pieces, because a jitter buffer shifts them against each other.

    Returns:
        Median delay of the pieces found in milliseconds (None if none was found), and their share of all pieces.
    """
    delays, pieces = [], 0
    for start in range(0, len(spoken) - _PIECE + 1, _PIECE):
        piece = spoken[start : start + _PIECE]
        window = played[start : start + RATE + _PIECE]
        if len(window) < _PIECE or np.abs(piece).mean() < _QUIET:
            continue
        pieces += 1
        energy = np.convolve(window**2, np.ones(_PIECE), "valid")
        alike = np.correlate(window, piece) / np.sqrt(energy * np.dot(piece, piece) + 1)
        best = int(np.argmax(alike))
        if alike[best] > _ALIKE:
            delays.append(best * 1000 / RATE)
    return (round(float(np.median(delays))) if delays else None), len(delays) / max(1, pieces)


def _write(path: Path, samples: "np.ndarray[Any, Any]") -> None:
    with wave.open(str(path), "wb") as f:
        f.setnchannels(1)
        f.setsampwidth(2)
        f.setframerate(RATE)
        f.writeframes(samples.astype("<i2").tobytes())
