"""Shares one microphone between its users: push-to-talk and the clip recorder. MicroPython subset."""

from agent.audio import samples
from patrolink_protocol.native import const

_UNITS = const(50)  # queued for a channel, half a second; when it is full the oldest unit is dropped
_UNITS_MAX = const(1024)  # read from the microphone in a call


class MicrophoneMultiplexer:
    """Opens the microphone while any channel is open, and passes every unit to all open channels.

    Args:
        microphone: Microphone of the HAL: open, read, buf, close. Its indicator is lit while it is open.
    """

    def __init__(self, microphone):
        self._microphone = microphone
        self._channels = []
        self._open_channels = []

    def make_channel(self):
        """Return a new channel, with the interface of the HAL's Microphone."""
        self._channels.append(_Channel(self, len(self._microphone.buf)))
        if len(self._channels) > 1:  # a single channel needs no queue
            for channel in self._channels:
                channel.allocate_queue()
        return self._channels[-1]

    def subscribe(self, channel):
        """Open the microphone for a channel. Return False if it cannot be opened."""
        if not self._open_channels:
            if not self._microphone.open():
                return False
        else:
            # What waits in the microphone is from before: only the other channels get it.
            for _ in range(_UNITS_MAX):
                if not self._read_for_others(channel):
                    break
        if channel not in self._open_channels:
            self._open_channels.append(channel)
        return True

    def unsubscribe(self, channel):
        """Close the microphone if no other channel is open."""
        if channel in self._open_channels:
            self._open_channels.remove(channel)
            if not self._open_channels:
                self._microphone.close()

    def read(self, channel):
        """Read a unit into the buffer of `channel` and the queues of the others; return its length in bytes."""
        n = self._read_for_others(channel)
        if n:
            samples.copy(self._microphone.buf, 0, channel.buf, 0, n)
        return n

    def _read_for_others(self, channel):
        microphone = self._microphone
        n = microphone.read()
        if n:
            for other in self._open_channels:
                if other is not channel:
                    other.enqueue(microphone.buf, n)
        return n


class _Channel:
    """One user's view of the microphone."""

    def __init__(self, multiplexer, unit_bytes):
        self._multiplexer = multiplexer
        self._unit_bytes = unit_bytes
        self.buf = bytearray(unit_bytes)
        self._queue = None  # ring of units
        self._lengths = None  # of each unit, in bytes
        self._first = self._n = 0

    def allocate_queue(self):
        """Allocate the queue: there are other channels."""
        if self._queue is None:
            self._queue = bytearray(_UNITS * self._unit_bytes)
            self._lengths = bytearray(_UNITS)

    def open(self):
        """Start receiving new samples. Return False if the microphone cannot be opened."""
        self._first = self._n = 0
        return self._multiplexer.subscribe(self)

    def enqueue(self, data, n):
        """Queue a unit of n bytes that another channel read."""
        if self._n == _UNITS:
            self._first = (self._first + 1) % _UNITS
            self._n -= 1
        slot = (self._first + self._n) % _UNITS
        samples.copy(data, 0, self._queue, slot * self._unit_bytes, n)
        self._lengths[slot] = n
        self._n += 1

    def read(self):
        """Read the next unit into `buf`; return its length in bytes, 0 if there is none."""
        if not self._n:
            return self._multiplexer.read(self)
        slot = self._first
        n = self._lengths[slot]
        samples.copy(self._queue, slot * self._unit_bytes, self.buf, 0, n)
        self._first = (slot + 1) % _UNITS
        self._n -= 1
        return n

    def close(self):
        """Stop receiving samples."""
        self._n = 0
        self._multiplexer.unsubscribe(self)
