"""What the speaker says: tones, the voice of others, and the last burst once more. It has a clock of its own."""

from agent.audio import samples
from patrolink_protocol import g711
from patrolink_protocol.native import const

_UNIT_MS = const(10)
_BEHIND_MS = const(200)  # later than this, time is skipped: nobody wants to hear it late
_GAP = 0

# Pairs of hertz and milliseconds.
GRANT = (1000, 60)
DENY = (400, 300)
REVOKE = (800, 120, _GAP, 60, 800, 120, _GAP, 60, 800, 120)
QUEUED = (600, 60, _GAP, 60, 600, 60)
TURN = (1000, 60, _GAP, 60, 1000, 60, _GAP, 60, 1000, 60)
LIMIT = (1200, 80, _GAP, 80, 1200, 80)
_LOUD = const(48)


class Sound:
    """
    speaker   hal Speaker: write(buf)
    listener  agent.ptt.jitter_buffer.Listener
    replay_s  seconds of the last burst that are kept; 0: none
    """

    def __init__(self, speaker, listener, replay_s):
        self._speaker = speaker
        self._listener = listener
        self._store = bytearray(8000 * replay_s)
        self._kept = 0  # samples in the store
        self._again = -1  # next sample of the store to be heard; -1: none
        self._tone = ()
        self._at = self._left = self._phase = 0
        self._pcm = bytearray(2 * samples.UNIT)
        self._due = None

    def tone(self, pairs):
        """Sound a signal, in the place of what is being heard."""
        self._tone = pairs
        self._at = self._left = self._phase = 0

    def begin(self):
        """A burst of somebody's begins."""
        self._kept = 0
        self._again = -1

    def replay(self):
        """Play the last burst again; False when there is none, or somebody is being heard."""
        if self._listener.active or not self._kept:
            return False
        self._again = 0
        return True

    def hush(self):
        """No voice: the microphone is open."""
        self._listener.stop()
        self._again = -1

    def serve(self, now_ms):
        """Say what is due; return milliseconds until more is, None when nothing is being said."""
        if not self._tone and not self._listener.active and self._again < 0:
            self._due = None
            return None
        if self._due is None or now_ms - self._due > _BEHIND_MS:
            self._due = now_ms
        while now_ms >= self._due:
            self._say(now_ms)
            self._due += _UNIT_MS
        return self._due - now_ms

    def _say(self, now_ms):
        heard = self._listener.unit(now_ms)
        if heard:
            self._keep()
        if self._tone and self._signal():
            self._speaker.write(self._pcm)
        elif heard:
            self._speaker.write(self._listener.pcm)
        elif self._again >= 0:
            g711.decode(self._store, self._again, samples.UNIT, self._pcm, 0)
            self._again += samples.UNIT
            if self._again >= self._kept:
                self._again = -1
            self._speaker.write(self._pcm)

    def _keep(self):
        if self._kept + samples.UNIT <= len(self._store):
            g711.encode(self._listener.pcm, samples.UNIT, self._store, self._kept)
            self._kept += samples.UNIT

    def _signal(self):
        """Make the next 10 ms of the signal; False at its end."""
        if self._left <= 0:
            if self._at >= len(self._tone):
                self._tone = ()
                return False
            self._left = self._tone[self._at + 1]
            self._at += 2
        hz = self._tone[self._at - 2]
        self._phase = samples.tone(self._pcm, samples.UNIT, self._phase, hz, _LOUD if hz else 0)
        self._left -= _UNIT_MS
        return True
