"""Record of the bursts that this device has played: their recorded packets must not be played again after a restart.

The window of an SRTP stream is lost with a restart, and media is accepted without a Floor Taken. The counters of a
shard only increase; the highest one is stored when a burst begins, one write for each burst.
"""

from agent.ptt.grant_log import SSRC_COUNTER_BITS, is_past, next_pair
from agent.tracking.counter import Record, StateLostError


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
        return is_past(ssrc, self._previous[shard])

    def add(self, ssrc):
        """Store the SSRC of a burst that is played from now on."""
        shard = ssrc >> SSRC_COUNTER_BITS
        if shard not in self._previous:
            self._load(shard)
        record = self._records[shard]
        if record is None or is_past(ssrc, record.second):
            return
        try:
            record.write(*next_pair(record, ssrc))
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
