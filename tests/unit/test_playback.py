"""Playback paced by the clock of the caller."""

from agent.ptt import playback
from agent.ptt.jitter_buffer import RING, JitterBuffer
from agent.ptt.playback import Playback


class Speaker:
    def __init__(self):
        self.units = []

    def write(self, pcm):
        self.units.append(bytes(pcm))


def test_tone_is_written_in_real_time_for_any_loop_interval():
    speaker, jitter_buffer = Speaker(), JitterBuffer(bytearray(RING))
    sounds = Playback(speaker, jitter_buffer, 0)
    assert sounds.serve(0) is None and speaker.units == []
    sounds.play_tone(playback.DENY_TONE)
    assert sounds.serve(5) == 10 and len(speaker.units) == 1
    assert sounds.serve(12) == 3 and len(speaker.units) == 1
    assert sounds.serve(39) == 6 and len(speaker.units) == 4  # late call: all due units are written
    sounds.serve(2000)  # very late call: the missed time is skipped
    assert len(speaker.units) == 5
    for now_ms in range(2010, 2600, 10):
        sounds.serve(now_ms)
    assert len(speaker.units) == 30  # 300 ms
    assert not sounds.replay()
