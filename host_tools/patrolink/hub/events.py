"""The hub's answers to events that want one."""

from patrolink_messages import EVENT_STATE
from patrolink_names import NAMES
from patrolink_protocol import codec, frame

from patrolink.keys import DeviceKey

_RECEIVED = next(code for code, name in NAMES["event_state", "state"].items() if name == "received")


class EventDesk:
    """Answers each event with `event_state` received, on behalf of whoever watches. One counter a device, downward.

    first  counter of the first answer: the hub stores it, for a device takes each counter once
    """

    def __init__(self, keys: dict[str, DeviceKey], who: str = "", first: int = 0) -> None:
        self._channels = {
            name: frame.Channel(key.secret, name.encode(), frame.DOWNLINK, key.epoch) for name, key in keys.items()
        }
        self._who = who
        self.next = first

    def answer(self, device: str, event_id: int, now_ms: int) -> bytes:
        """Return the frame that tells the device that its event is known here."""
        buf = bytearray(256)
        values = {"event_id": event_id, "state": _RECEIVED, "time_ms": now_ms, "who": self._who.encode()}
        end = codec.encode_into(EVENT_STATE, values, buf, frame.HEADER)
        n = self._channels[device].seal_into(buf, EVENT_STATE, self.next, end)
        self.next += 1
        return bytes(buf[:n])
