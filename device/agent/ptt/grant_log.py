"""Record of the media SSRCs granted to this device: each is used for one burst only, also after a power loss.

Without it, a replayed Floor Granted would make a restarted device send other speech under the same key stream. The
counters of a shard only increase; the highest one is stored before the first packet is sent.
"""

from agent.tracking.counter import Record

SSRC_COUNTER_BITS = 27  # low bits of an SSRC; the rest is the shard of the hub


class GrantLog:
    """Highest granted SSRC of each shard.

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
        counter = ssrc & ((1 << SSRC_COUNTER_BITS) - 1)
        if counter < record.second:
            return False
        try:
            record.write(0, counter + 1)
        except OSError:
            return False
        return True
