"""What a hub says to devices through the broker: sealed frames. A device has one such desk, for its counter grows."""

import itertools
from collections.abc import Callable
from typing import Any

from patrolink_messages import EVENT_STATE, MAX_FRAME
from patrolink_names import NAMES
from patrolink_protocol import codec, frame

from patrolink.core.keys import DeviceKey

_RECEIVED = next(code for code, name in NAMES["event_state", "state"].items() if name == "received")


class Downlink:
    """
    take  makes the counter of the next frame: a device takes each once, and only ever a higher one
    """

    def __init__(self, keys: dict[str, DeviceKey], take: Callable[[], int] | None = None) -> None:
        self._channels: dict[str, frame.Channel] = {}
        for name, key in keys.items():
            self.rekey(name, key)
        self._take = take or itertools.count().__next__

    def rekey(self, device: str, key: DeviceKey) -> None:
        """Go on under this key of a device: another epoch of it has begun."""
        self._channels[device] = frame.Channel(key.secret, device.encode(), frame.DOWNLINK, key.epoch)

    def seal(self, device: str, kind: int, values: dict[str, Any]) -> bytes:
        """Return the frame of one message."""
        buf = bytearray(MAX_FRAME)
        end = codec.encode_into(kind, values, buf, frame.HEADER_BYTES)
        return bytes(buf[: self._channels[device].seal_into(buf, kind, self._take(), end)])

    def answer(self, device: str, event_id: int, now_ms: int, who: str = "") -> bytes:
        """Return the frame that tells the device that its event is known here, on behalf of whoever watches."""
        values = {"event_id": event_id, "state": _RECEIVED, "time_ms": now_ms, "who": who.encode()}
        return self.seal(device, EVENT_STATE, values)
