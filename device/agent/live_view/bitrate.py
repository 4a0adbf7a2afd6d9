"""Bit rate of the live view, from the receiver's reports. MicroPython subset."""

from patrolink_protocol.native import const

_KBPS_MIN, _KBPS_START = const(16), const(64)
_LOSS_MAX = const(13)  # of 256: 5 %
_ONE_PACKET = const(384)  # loss * packets below this is a single lost packet: 1.5 of 256
_QUEUE_MS = const(400)  # above the lowest delay
_DELAY_MS = const(500)  # taken for the lowest delay until a lower one was measured
_PACKETS = const(128)


class BitrateController:
    """Lowers the rate at once when packets are lost or queued, and raises it in small steps.

    Until the first reduction the steps are a part of the maximum, afterwards of the current rate.

    Attributes:
        kbps: The current rate, kbit/s.

    Args:
        kbps_max: Upper limit, kbit/s.
    """

    def __init__(self, kbps_max):
        self._kbps_max = max(kbps_max, _KBPS_MIN)
        self.kbps = min(max(self._kbps_max // 4, _KBPS_START), self._kbps_max)
        self._was_reduced = False
        self._delay_min_ms = _DELAY_MS
        self._was_lossy = False  # in the previous report

    def report(self, loss, delay_ms, packets=_PACKETS):
        """Follow a receiver report.

        Args:
            loss: Fraction lost, in 256ths (RFC 3550, 6.4.1).
            delay_ms: Time since the newest packet that the receiver has was sent; -1 if it has all packets.
            packets: Packets sent since the previous report: of few packets, a single lost one is chance.
        """
        lossy = loss > _LOSS_MAX
        chance = lossy and not self._was_lossy and loss * packets < _ONE_PACKET
        self._was_lossy = lossy
        if 0 <= delay_ms < self._delay_min_ms:
            self._delay_min_ms = delay_ms
        if (lossy and not chance) or delay_ms > self._delay_min_ms + _QUEUE_MS:
            self.kbps = max(self.kbps * 5 // 8, _KBPS_MIN)
            self._was_reduced = True
        else:
            step = max(self.kbps // 16, self._kbps_max // 64) if self._was_reduced else self._kbps_max // 16
            self.kbps = min(self.kbps + max(step, 1), self._kbps_max)
