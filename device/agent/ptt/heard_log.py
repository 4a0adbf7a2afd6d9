"""Record of the bursts that this device has played: their recorded packets must not be played again after a restart.

The window of an SRTP stream is lost with a restart, and media is accepted without a Floor Taken. The counters of a
shard only increase; the highest one is stored when a burst begins, one write for each burst.
"""

from agent.ptt.grant_log import SSRC_COUNTER_BITS
from agent.tracking.counter import Record, StateLostError
from patrolink_protocol.native import const

_COUNTERS = const(1 << 27)  # of a shard


class HeardLog:
    """Highest SSRC of each shard whose media was played.

    Without readable records nothing is known of earlier bursts, and nothing is stored: voice has precedence.

    Args:
        store: store of the HAL.
        log: function(text).

    Attributes:
        faults: number of failed storage operations.
    """

    def __init__(self, store, log):
        self._store = store
        self._log = log
        self._records = {}  # shard -> Record, or None
        self._previous = {}  # shard -> highest counter of earlier boots plus one, 0 without one
        self.faults = 0

    def is_past(self, ssrc):
        """Return True if media of this or a later burst of the shard was played before this boot."""
        shard = ssrc >> SSRC_COUNTER_BITS
        if shard not in self._previous:
            self._load(shard)
        bound = self._previous[shard]
        # The counters restart after the highest one, so their order is that of serial numbers (RFC 1982).
        return bound > 0 and (bound - 1 - ssrc) % _COUNTERS < _COUNTERS // 2

    def add(self, ssrc):
        """Store the SSRC of a burst that is played from now on."""
        shard = ssrc >> SSRC_COUNTER_BITS
        if shard not in self._previous:
            self._load(shard)
        record = self._records[shard]
        counter = ssrc % _COUNTERS
        if record is None or record.second and (record.second - 1 - counter) % _COUNTERS < _COUNTERS // 2:
            return
        try:
            # A restart of the counters begins a new generation: the greater pair is in force.
            record.write(record.first + (counter + 1 < record.second), counter + 1)
        except OSError as e:
            self._on_fault(e)

    def _load(self, shard):
        record = None
        try:
            record = Record(self._store, "heard%d_" % shard)
        except (OSError, StateLostError) as e:
            self._on_fault(e)
        self._records[shard] = record
        self._previous[shard] = 0 if record is None else record.second

    def _on_fault(self, e):
        self.faults += 1
        if self.faults == 1:
            self._log("ptt: played bursts cannot be stored (%s); recorded voice may be played after a restart" % e)
