"""Encodes and seals frames to devices."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

from patrolink_messages import EVENT_STATE, MAX_FRAME
from patrolink_names import NAMES
from patrolink_protocol import codec, frame

from patrolink.core.keys import DeviceKey

EVENT_RECEIVED = next(code for code, name in NAMES["event_state", "state"].items() if name == "received")


class Downlink:
    """Seals frames to all devices of a site. Only one may be in use per device, because frame counters must increase.

    Args:
        keys: Device keys by device id.
        next_counter: Returns the counter of the next frame. A device accepts each counter once, in increasing order.
            None: counters start at 0.
    """

    def __init__(self, keys: Mapping[str, DeviceKey], next_counter: Callable[[], int] | None = None) -> None:
        self._channels: dict[str, frame.Channel] = {}
        for device, key in keys.items():
            self.rekey(device, key)
        self._next_counter = next_counter or itertools.count().__next__

    def rekey(self, device: str, key: DeviceKey) -> None:
        """Use another key epoch of a device from now on."""
        self._channels[device] = frame.Channel(key.secret, device.encode(), frame.DOWNLINK, key.epoch)

    def encode(self, kind: int, values: dict[str, Any]) -> bytes:
        """Return the body of one message.

        Args:
            kind: Message type, from `patrolink_messages`.
            values: Fields of the message by name.

        Raises:
            ValueError: A field is out of range.
        """
        buf = bytearray(MAX_FRAME)
        return bytes(buf[: codec.encode_into(kind, values, buf, 0)])

    def seal(self, device: str, kind: int, values: dict[str, Any]) -> bytes:
        """Return the frame of one message; see `encode` and `seal_body`."""
        return self.seal_body(device, kind, self.encode(kind, values))

    def seal_body(self, device: str, kind: int, body: bytes) -> bytes:
        """Return the frame of one encoded message with the next counter.

        Raises:
            OSError: The frame counter could not be reserved on storage.
        """
        buf = bytearray(MAX_FRAME)
        end = frame.HEADER_BYTES + len(body)
        buf[frame.HEADER_BYTES : end] = body
        return bytes(buf[: self._channels[device].seal_into(buf, kind, self._next_counter(), end)])

    def acknowledge_event(self, device: str, event_id: int, unix_ms: int, who: str = "") -> bytes:
        """Return the frame that reports to a device that its event was received (`event_state`)."""
        values = {"event_id": event_id, "state": EVENT_RECEIVED, "time_ms": unix_ms, "who": who.encode()}
        return self.seal(device, EVENT_STATE, values)
