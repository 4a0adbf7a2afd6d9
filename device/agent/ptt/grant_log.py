"""Which SSRCs of voice were granted to this device: none of them is ever spoken under twice, though the power goes.

An old Granted, played back to a device that has started anew, would else make it send other voice under the same key
stream. Counters of a shard only grow; the highest one is stored before the first packet.
"""

from agent.tracking.counter import Record

_COUNTER_BITS = 27


class Grants:
    """
    store  hal store
    """

    def __init__(self, store):
        self._store = store
        self._records = {}

    def take(self, ssrc):
        """Note an SSRC that was granted; False when it, or a later one, was granted before."""
        shard = ssrc >> _COUNTER_BITS
        record = self._records.get(shard)
        if record is None:
            record = self._records[shard] = Record(self._store, "grant%d_" % shard)
        counter = ssrc & ((1 << _COUNTER_BITS) - 1)
        if counter < record.b:
            return False
        record.write(0, counter + 1)
        return True
