"""Speaker output: tones, received voice, and replay of the last burst, paced by the monotonic clock."""

from agent.audio import samples
from patrolink_protocol import g711
from patrolink_protocol.native import const

_UNIT_MS = const(10)
_LATE_MAX_MS = const(200)  # output that is later is skipped, not caught up
_GAP = 0

# Tones: pairs of frequency in Hz (0: silence) and duration in ms.
GRANT_TONE = (1000, 60)
DENY_TONE = (400, 300)
REVOKE_TONE = (800, 120, _GAP, 60, 800, 120, _GAP, 60, 800, 120)
QUEUED_TONE = (600, 60, _GAP, 60, 600, 60)
TURN_TONE = (1000, 60, _GAP, 60, 1000, 60, _GAP, 60, 1000, 60)
LIMIT_TONE = (1200, 80, _GAP, 80, 1200, 80)
NO_KEY_TONE = (600, 120, _GAP, 60, 450, 120, _GAP, 60, 300, 240)
_AMPLITUDE = const(48)


class Playback:
    """Writes 10 ms of samples at a time to the speaker. A tone has precedence over voice, voice over a replay.

    Args:
        speaker: Speaker of the HAL: write(buf).
        jitter_buffer: JitterBuffer.
        replay_s: seconds of the last burst that are kept for `replay`; 0: none.
    """

    def __init__(self, speaker, jitter_buffer, replay_s):
        self._speaker = speaker
        self._jitter_buffer = jitter_buffer
        self._stored = bytearray(8000 * replay_s)  # A-law
        self._stored_n = 0
        self._replay_at = -1  # next sample of the replay; -1: none is played
        self._tone = ()
        self._tone_at = self._tone_left_ms = self._phase = 0
        self._pcm = bytearray(2 * samples.UNIT)
        self._due_ms = None

    def play_tone(self, tone):
        """Play a tone instead of the current output."""
        self._tone = tone
        self._tone_at = self._tone_left_ms = self._phase = 0

    def start_burst(self):
        """Replace the stored burst by the one that the jitter buffer starts to receive."""
        self._stored_n = 0
        self._replay_at = -1

    def replay(self):
        """Play the last burst again. Return False if there is none, or if voice is being received."""
        if self._jitter_buffer.active or not self._stored_n:
            return False
        self._replay_at = 0
        return True

    def stop_voice(self):
        """Stop received voice and replay: the microphone is open."""
        self._jitter_buffer.stop()
        self._replay_at = -1

    def serve(self, now_ms):
        """Write the samples that are due; return milliseconds until the next ones, None if there is nothing to play."""
        if not self._tone and not self._jitter_buffer.active and self._replay_at < 0:
            self._due_ms = None
            return None
        if self._due_ms is None or now_ms - self._due_ms > _LATE_MAX_MS:
            self._due_ms = now_ms
        while now_ms >= self._due_ms:
            self._write_unit(now_ms)
            self._due_ms += _UNIT_MS
        return self._due_ms - now_ms

    def _write_unit(self, now_ms):
        received = self._jitter_buffer.next_unit(now_ms)
        if received:
            self._store()
        if self._tone and self._next_tone_unit():
            self._speaker.write(self._pcm)
        elif received:
            self._speaker.write(self._jitter_buffer.pcm)
        elif self._replay_at >= 0:
            g711.decode(self._stored, self._replay_at, samples.UNIT, self._pcm, 0)
            self._replay_at += samples.UNIT
            if self._replay_at >= self._stored_n:
                self._replay_at = -1
            self._speaker.write(self._pcm)

    def _store(self):
        if self._stored_n + samples.UNIT <= len(self._stored):
            g711.encode(self._jitter_buffer.pcm, samples.UNIT, self._stored, self._stored_n)
            self._stored_n += samples.UNIT

    def _next_tone_unit(self):
        """Write the next 10 ms of the tone into `_pcm`. Return False at its end."""
        if self._tone_left_ms <= 0:
            if self._tone_at >= len(self._tone):
                self._tone = ()
                return False
            self._tone_left_ms = self._tone[self._tone_at + 1]
            self._tone_at += 2
        hz = self._tone[self._tone_at - 2]
        self._phase = samples.tone(self._pcm, samples.UNIT, self._phase, hz, _AMPLITUDE if hz else 0)
        self._tone_left_ms -= _UNIT_MS
        return True
