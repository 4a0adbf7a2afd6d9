"""Record of the media SSRCs granted to this device: each is used for one burst only, also after a power loss.

Without it, a replayed Floor Granted would make a restarted device send other speech under the same key stream. The
newest counter of a shard is stored before the first packet is sent. A hub restarts its counters after the highest one,
under new keys, so their order is that of serial numbers (RFC 1982).
"""

from agent.tracking.counter import Record
from patrolink_protocol.native import const

SSRC_COUNTER_BITS = 27  # low bits of an SSRC; the rest is the shard of the hub
_COUNTERS = const(1 << 27)


def is_past(ssrc, bound):
    """Return True if the counter of an SSRC comes before a counter of the same shard; False if `bound` is 0: none."""
    return bound > 0 and (bound - 1 - ssrc) % _COUNTERS < _COUNTERS // 2


def next_pair(record, ssrc):
    """Return what to write to a Record of (generation, counter + 1): counters that restart begin a new generation."""
    bound = ssrc % _COUNTERS + 1
    return record.first + (bound < record.second), bound


class GrantLog:
    """Newest granted SSRC of each shard.

    Args:
        store: store of the HAL.
    """

    def __init__(self, store):
        self._store = store
        self._records = {}

    def add(self, ssrc):
        """Store a granted SSRC. Return False if it must not be used.

        It, or a later one of its shard, was granted before, or storage refuses it: after a restart it could come again.
        """
        shard = ssrc >> SSRC_COUNTER_BITS
        record = self._records.get(shard)
        if record is None:
            record = self._records[shard] = Record(self._store, "grant%d_" % shard)
        if is_past(ssrc, record.second):
            return False
        try:
            record.write(*next_pair(record, ssrc))
        except OSError:
            return False
        return True
