"""Reception statistics of an RTP stream and its receiver report block (RFC 3550, 6.4.1)."""

VIDEO_CLOCK_KHZ = 90


class ReceptionStats:
    """Counts what a receiver report block contains: loss (RFC 3550, A.3) and interarrival jitter (A.8)."""

    def __init__(self) -> None:
        self._first_index = -1
        self._received = 0
        self._reported = (0, 0)  # packets expected and received at the previous report
        self._jitter = 0.0
        self._transit: int | None = None
        self._timestamp = -1

    def count(self, index: int, timestamp: int, now_ms: int) -> None:
        """Count a packet.

        Args:
            index: SRTP packet index.
            timestamp: RTP timestamp at 90 kHz.
            now_ms: Time of arrival.
        """
        if self._first_index < 0 or index < self._first_index:
            self._first_index = index
        self._received += 1
        if timestamp == self._timestamp:  # the sender paces the packets of a picture: their spread is no jitter
            return
        self._timestamp = timestamp
        transit = (now_ms * VIDEO_CLOCK_KHZ - timestamp) & 0xFFFFFFFF
        if self._transit is not None:
            change = (transit - self._transit + 0x80000000 & 0xFFFFFFFF) - 0x80000000
            self._jitter += (abs(change) - self._jitter) / 16
        self._transit = transit

    def report_block(self, ssrc: int, highest_index: int) -> bytes:
        """Return the report block of a stream and start the next reporting interval.

        Args:
            ssrc: SSRC of the stream.
            highest_index: Highest packet index received; -1 before the first packet.
        """
        expected = highest_index - self._first_index + 1 if self._received else 0
        lost = min(max(expected - self._received, 0), 0x7FFFFF)
        expected_interval, received_interval = expected - self._reported[0], self._received - self._reported[1]
        self._reported = (expected, self._received)
        fraction = 0
        if expected_interval > 0:
            fraction = min(max((expected_interval - received_interval) * 256 // expected_interval, 0), 255)
        block = ssrc.to_bytes(4, "big") + bytes((fraction,)) + lost.to_bytes(3, "big")
        block += max(highest_index, 0).to_bytes(4, "big") + min(int(self._jitter), 0xFFFFFFFF).to_bytes(4, "big")
        return block + bytes(8)  # no sender report was received
