"""The stream that umqtt.simple reads: it sees each packet begin, skips oversized ones and bounds the wait for a reply.

umqtt has no hooks, but calls `setblocking(True)` after it has read the first byte of each packet, and only then.
"""

from compat.stream import ECONNRESET, ETIMEDOUT, Stream
from patrolink_protocol.native import const

_EPROTO = const(71)
_RETAIN = const(1)


class MqttStream(Stream):
    """A stream of MQTT packets.

    Args:
        net: compat.stream.Network.
        raw: The raw stream below.
        deadline: Function (start in ms) -> latest end in ms of a read that began then; it may change during the read.

    Attributes:
        packets: Packets received.
        retained: Whether the packet being read is a retained message.
        skipped: Bytes of the last packet that were skipped because it is too long.
        skipping: Whether such bytes are still to come.
    """

    def __init__(self, net, raw, deadline):
        Stream.__init__(self, net, raw)
        self._deadline = deadline
        self._first = b""
        self.packets = 0
        self.retained = False
        self.skipped = 0
        self.skipping = False

    def deadline_ms(self, start_ms):
        """See `Stream.deadline_ms`."""
        return self._deadline(start_ms)

    def setblocking(self, flag):
        """See `Stream.setblocking`; True after the first byte of a packet."""
        Stream.setblocking(self, flag)
        if flag and self._first:
            net = self._net
            self.packets += 1
            self.retained = bool(self._first[0] & _RETAIN)
            self.skipped = 0
            now_ms = net.now_ms()
            # While packets keep coming no read waits: the main loop and the deadline would starve.
            if now_ms - net.served_ms >= net.slice_ms:
                net.serve()
            if now_ms >= self._deadline(now_ms):
                raise OSError(ETIMEDOUT)

    def read(self, n):
        """See `Stream.read`; b"" in place of more bytes than the buffer holds, which are skipped.

        Raises:
            OSError: also if skipping them takes longer than a read may.
        """
        if n < 0:
            raise OSError(_EPROTO)
        limit = self._net.limit
        if n <= limit:
            data = Stream.read(self, n)
            if n == 1:
                self._first = data
            return data
        self.skipping = True
        start_ms = self._net.now_ms()
        while n:
            part = min(n, limit)
            if not Stream.read(self, part):
                raise OSError(ECONNRESET)
            n -= part
            self.skipped += part
            if n and self._net.now_ms() >= self._deadline(start_ms):
                raise OSError(ETIMEDOUT)
        self.skipping = False
        return b""
