"""Messages that wait for the broker: priority lanes, a bounded share for each device, the newest state only."""

from collections import OrderedDict
from enum import Enum, IntEnum
from typing import Generic, NamedTuple, TypeVar

from patrolink_messages import CLIP_STATE, COMMAND, EVENT_STATE, FIRMWARE, FIRMWARE_BLOCK, PTT_GROUP

T = TypeVar("T")


class Lane(IntEnum):
    """Priority of a message; the lowest number is sent first."""

    URGENT = 0
    TERMS = 1
    OTHER = 2
    BULK = 3


class Outcome(Enum):
    """What became of a message: queued, queued in place of an older one, or queued or lost with a message dropped."""

    QUEUED = "queued"
    SUPERSEDED = "superseded"
    DROPPED = "dropped"


class Limits(NamedTuple):
    """Messages that may wait in a lane, in all and of one device."""

    total: int
    device: int


LIMITS = {
    Lane.URGENT: Limits(10_000, 64),
    Lane.TERMS: Limits(50_000, 1000),
    Lane.OTHER: Limits(20_000, 256),
    Lane.BULK: Limits(1000, 1),
}
_LANES = {EVENT_STATE: Lane.URGENT, COMMAND: Lane.URGENT, PTT_GROUP: Lane.TERMS, FIRMWARE_BLOCK: Lane.BULK}
# Field that tells apart the states of a device. Of two messages with the same value, only the newer one counts.
_STATE_FIELDS = {
    EVENT_STATE: "event_id",
    COMMAND: "command_id",
    PTT_GROUP: "group",
    CLIP_STATE: "clip_id",
    FIRMWARE: "command_id",
    FIRMWARE_BLOCK: "image",
}


def lane_of(kind: int) -> Lane:
    """Return the lane of a message type."""
    return _LANES.get(kind, Lane.OTHER)


def state_field(kind: int) -> str | None:
    """Return the field whose value identifies a state; None if messages of this type do not replace each other."""
    return _STATE_FIELDS.get(kind)


class DownlinkQueue(Generic[T]):
    """Queue of messages to devices.

    `pop` empties the lanes in the order of their priority. Within a lane, devices take turns, and the messages of one
    device keep their order. A message that replaces a waiting one takes its place. At a limit, the oldest waiting
    message of the same device and lane is dropped; a device without one loses the new message.
    """

    def __init__(self, limits: dict[Lane, Limits] = LIMITS) -> None:
        self._limits = limits
        self._lanes: dict[Lane, OrderedDict[str, OrderedDict[object, T]]] = {lane: OrderedDict() for lane in Lane}
        self._counts = dict.fromkeys(Lane, 0)
        self._next_id = 0

    def __len__(self) -> int:
        """Return the number of waiting messages."""
        return sum(self._counts.values())

    def put(self, device: str, lane: Lane, item: T, key: object = None) -> Outcome:
        """Append a message.

        Args:
            device: Id of the device.
            lane: Its priority.
            item: The message.
            key: Identifies the state that the message reports; None: it replaces no other message.

        Returns:
            Whether a waiting message was replaced, or a message was dropped at a limit.
        """
        waiting, limits = self._lanes[lane].get(device), self._limits[lane]
        if waiting is not None and key is not None and key in waiting:
            waiting[key] = item
            return Outcome.SUPERSEDED
        outcome = Outcome.QUEUED
        if self._counts[lane] >= limits.total or (waiting is not None and len(waiting) >= limits.device):
            outcome = Outcome.DROPPED
            if waiting is None:
                return outcome
            waiting.popitem(last=False)
            self._counts[lane] -= 1
        if waiting is None:
            waiting = self._lanes[lane][device] = OrderedDict()
        self._next_id += 1
        waiting[("number", self._next_id) if key is None else key] = item
        self._counts[lane] += 1
        return outcome

    def pop(self) -> T | None:
        """Remove and return the next message; None if none waits."""
        for lane, devices in self._lanes.items():
            if devices:
                device, waiting = next(iter(devices.items()))
                _, item = waiting.popitem(last=False)
                self._counts[lane] -= 1
                if waiting:
                    devices.move_to_end(device)
                else:
                    del devices[device]
                return item
        return None

    def discard(self, device: str) -> int:
        """Remove all messages of a device and return their number."""
        removed = 0
        for lane, devices in self._lanes.items():
            n = len(devices.pop(device, ()))
            self._counts[lane] -= n
            removed += n
        return removed
