"""Which device sent a frame that does not name it, as on a serial line: the one whose key verifies its tag."""

import time
from collections.abc import Callable, Mapping

from patrolink_protocol import frame, receiver
from patrolink_protocol.errors import RejectError

from patrolink.core.keys import DeviceKey

_TRIALS_PER_S = 20_000  # about a tenth of a core; forged frames cost no more


class SenderLookup:
    """Finds the sender of frames among the devices with a key.

    The devices found last are tried first. The other keys are tried at a limited rate: while it is exceeded, only
    frames of the last sender are recognised.

    Args:
        keys: device id → key.
        clock_s: monotonic time in seconds.
    """

    def __init__(self, keys: Mapping[str, DeviceKey], clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._receivers = [
            (name, receiver.Receiver(key.secret, name.encode(), frame.UPLINK, key.epoch)) for name, key in keys.items()
        ]
        self._trials_max = max(_TRIALS_PER_S, len(keys))
        self._trials_left: float = self._trials_max
        self._refilled_s = clock_s()

    def find(self, data: bytes) -> str | None:
        """Return the id of the device that signed a frame; None if no key verifies it."""
        try:
            frame.parse_header(data)
        except RejectError:
            return None
        candidates = len(self._receivers) if self._may_try_all() else min(1, len(self._receivers))
        for i in range(candidates):
            name, device_receiver = self._receivers[i]
            if _is_sender(device_receiver, data):
                self._trials_left -= i
                self._receivers.insert(0, self._receivers.pop(i))
                return name
        self._trials_left -= max(0, candidates - 1)
        return None

    def _may_try_all(self) -> bool:
        now_s = self._clock_s()
        refilled = self._trials_left + (now_s - self._refilled_s) * _TRIALS_PER_S
        self._trials_left, self._refilled_s = min(self._trials_max, refilled), now_s
        return self._trials_left >= len(self._receivers) - 1


def _is_sender(device_receiver: receiver.Receiver, data: bytes) -> bool:
    try:
        device_receiver.accept(data)
    except RejectError as e:
        return bool(e.name != "tag")  # the other checks come after the tag
    return True
