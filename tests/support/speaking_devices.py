"""Devices that answer the hub, send speech while they hold the floor, and report positions."""

import contextlib
import math
from typing import Any

import numpy as np
import patrolink_messages
from patrolink.audio.alaw import encode
from patrolink.core.track_packer import Fix, TrackPacker
from patrolink_protocol import track_encoder

from tests.support import device_client

_KEEPALIVE_MS = 15_000
_FRAME_MS = 20


def speech(seconds: float) -> list[bytes]:
    """Return 20 ms A-law frames of artificial speech: harmonics of 140 Hz with an envelope of 4 Hz."""
    t = np.arange(int(seconds * 8000)) / 8000
    voice = sum(np.sin(2 * np.pi * 140 * k * t) / k for k in range(1, 9)) * np.maximum(0, np.sin(2 * np.pi * 4 * t))
    alaw = encode((voice * 9000).astype(np.int16))
    return [alaw[at : at + 160] for at in range(0, len(alaw) - 159, 160)]


class SpeakingDevices:
    """Devices with broker sessions, sockets and groups.

    Args:
        network: What they run on; see `device_client.Network`.
        names: Names of the devices, which must be in the site file.
        lock: Guards the devices if `process` runs in a thread.
    """

    def __init__(self, network: device_client.Network, names, lock: Any = None) -> None:
        self._network, self._lock = network, lock or contextlib.nullcontext()
        self.clients = {name: device_client.DeviceClient(name, network) for name in names}
        self._pending_speech: dict[tuple[str, int], list[bytes]] = {}  # (device, group) -> frames
        self._due_ms = self._keepalive_ms = network.now_ms()
        self._walk_steps = 0
        clients = self.clients.values()
        for client in clients:
            client.send_hello()
        # The hub answers the hello with the groups; keepalives start after that.
        device_client.run_until(clients, lambda: all(client.memberships for client in clients))
        device_client.run_for(clients, 0.2)
        for client in clients:
            client.send_keepalives()
        device_client.run_until(clients, lambda: all(client.reports for client in clients))

    def unix_ms(self) -> int:
        """Return the time of day in milliseconds."""
        return self._network.unix_ms()

    def process(self) -> None:
        """Process what has arrived, and send what is due."""
        with self._lock:
            now_ms = self._network.now_ms()
            for client in self.clients.values():
                client.process()
            if now_ms - self._keepalive_ms > _KEEPALIVE_MS:
                self._keepalive_ms = now_ms
                for client in self.clients.values():
                    client.send_keepalives()
            while now_ms >= self._due_ms:
                self._due_ms += _FRAME_MS
                self._send_speech()

    def _send_speech(self) -> None:
        for (name, group), frames in self._pending_speech.items():
            membership = self.clients[name].memberships.get(group)
            if membership is not None and membership.floor.audio_ssrc and frames:
                membership.send_voice(frames.pop(0))
                if not frames:
                    membership.release_floor()

    def talk(self, name: str, group: int, seconds: float = 60, indicator: int | None = None) -> None:
        """Make a device request the floor and send speech of this duration."""
        with self._lock:
            self._pending_speech[name, group] = speech(seconds)
            membership = self.clients[name].memberships[group]
            membership.request_floor(10, *([] if indicator is None else [indicator]))

    def stop_talking(self, name: str, group: int) -> None:
        """Make a device release the floor."""
        with self._lock:
            self._pending_speech.pop((name, group), None)
            self.clients[name].memberships[group].release_floor()

    def forget(self) -> None:
        """Forget what was received, and speak no more."""
        with self._lock:
            self._pending_speech.clear()
            for client in self.clients.values():
                client.event_states.clear()
                for membership in client.memberships.values():
                    membership.events.clear()
                    membership.voice.clear()

    def received_voice(self, name: str, group: int) -> list[bytes]:
        """Return the voice payloads that a device has received in a group."""
        with self._lock:
            return [payload for _, _, payload in self.clients[name].memberships[group].voice]

    def membership(self, name: str, group: int):
        """Return a device's membership of a group, or None if it is not a member."""
        with self._lock:
            return self.clients[name].memberships.get(group)

    def event_states(self, name: str) -> list[dict]:
        """Return the event_state messages that a device has received."""
        with self._lock:
            return list(self.clients[name].event_states)

    def send(self, name: str, kind: int, values: dict) -> None:
        """Make a device send a message."""
        with self._lock:
            self.clients[name].send_message(kind, values)

    def walk(self, steps: int = 40) -> None:
        """Make every device report a track around the harbour. The next call continues the track."""
        for i, client in enumerate(self.clients.values()):
            packer = TrackPacker(client._uplink, track_encoder.TrackEncoder(2), client._counter)
            now_ms = self._network.unix_ms()
            fixes = []
            for k in range(steps):
                angle = i * 2.4 + (self._walk_steps + k) / 25
                lat_deg, lon_deg = (
                    45.5420 + 0.0022 * math.sin(angle) * (1 + i / 5),
                    13.7240 + 0.0034 * math.cos(angle * 0.8) * (1 + i / 4),
                )
                values = {
                    "lat_deg": lat_deg, "lon_deg": lon_deg, "alt_m": 4.0, "speed_mps": 1.4, "course_deg": 90.0,
                    "hacc_m": 4.0, "sats": 11, "battery_pct": 93 - 9 * i,
                }  # fmt: skip
                fixes.append(Fix(now_ms - (steps - k) * 1000, 3, values))
            with self._lock:
                for _, data in packer.frames(fixes):
                    client.publish(data)
                    client._counter += 1
        self._walk_steps += steps

    def close(self) -> None:
        """Disconnect the devices."""
        for client in self.clients.values():
            client.close()


def sos(devices: SpeakingDevices, name: str) -> None:
    """Make a device raise an SOS."""
    event = {
        "event_id": 7, "kind": 1, "phase": 0, "ack_wanted": 1, "cause": 0, "time_ms": devices.unix_ms(),
        "lat_e7": None, "lon_e7": None, "hacc_m": None, "fix_age_s": None, "ref": None, "value": None, "text": b"",
    }  # fmt: skip
    devices.send(name, patrolink_messages.EVENT, event)
