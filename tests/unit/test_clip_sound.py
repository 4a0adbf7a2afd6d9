"""No sound from before a trigger is recorded, even if push-to-talk uses the microphone and the loop is late."""

import struct

from agent.audio import samples
from agent.audio.microphone import MicrophoneMultiplexer
from agent.recording.clip_recorder import RefusedError
from clip_harness import ClipHarness
from patrolink_protocol import clip, g711
from seeded_random import seeded

LOUD, QUIET = struct.pack("<h", 12000) * 80, bytes(160)


class QueueingMicrophone:
    """Provides a loud tone while `harness.loud`, else silence. Queues up to five seconds of unread samples."""

    def __init__(self, harness):
        self.harness = harness
        self.buf = bytearray(160)
        self.queue = []
        self.opened = False
        self._captured_ms = 0

    def capture(self):
        while self._captured_ms + 10 <= self.harness.now:
            self._captured_ms += 10
            self.queue.append(self.harness.loud)
        del self.queue[:-500]

    def open(self):
        self.capture()
        self.queue.clear()  # as hal.posix.audio does
        self.opened = True
        return True

    def close(self):
        self.opened = False

    def read(self):
        self.capture()
        if not self.queue:
            return 0
        self.buf[:] = LOUD if self.queue.pop(0) else QUIET
        return len(self.buf)


class SharedMicrophoneHarness(ClipHarness):
    """A board whose microphone is shared with push-to-talk. Sound is loud while no event is recorded."""

    def make_microphone(self):
        self.loud = True
        self.shared_microphone = QueueingMicrophone(self)
        multiplexer = MicrophoneMultiplexer(self.shared_microphone)
        self.ptt_channel = multiplexer.make_channel()
        return multiplexer.make_channel()


def alaw(pcm):
    out = bytearray(samples.UNIT)
    g711.encode(pcm, samples.UNIT, out, 0)
    return out[0]


def run_random_events(harness, below):
    """Trigger events, open and close the other channel, and block the loop at random; return the trigger times."""
    ptt_open = []
    triggers = []

    def on_step():
        if ptt_open and below(3):
            while harness.ptt_channel.read():
                pass
        harness.loud = harness.recorder._open_clip is None

    for _ in range(25):
        if below(3) == 0:
            if ptt_open:
                ptt_open.clear()
                harness.ptt_channel.close()
            else:
                ptt_open.append(harness.ptt_channel.open())
        action = below(6)
        if action < 2:
            try:
                harness.shared_microphone.capture()
                harness.loud = False  # sound may be recorded from the trigger on
                harness.recorder.trigger(action, 1, "", harness.now)
                triggers.append(harness.now)
            except RefusedError:
                pass
        elif action == 2:
            harness.now += below(3000)  # the loop is blocked
        harness.run(below(7), on_step)
    harness.recorder.close(harness.now)
    return triggers


def test_no_sample_from_before_a_trigger_is_recorded():
    loud = alaw(LOUD)
    sounds = 0
    for seed in range(1, 25):
        config = {"sound": "event", "pre_s": 5, "post_s": 3, "segment_s": 2, "quota_kb": 32768, "lock_kb": 32768}
        harness = SharedMicrophoneHarness(config, 200).boot().run(7)
        try:
            assert run_random_events(harness, seeded(seed))
            for name in [n for n in harness.files.data if n[-4:] == ".pls"]:
                for kind, _, body in harness.read(name).records:
                    if kind == clip.RECORD_MEDIA and body[:4] == b"01wb":
                        sounds += 1
                        assert loud not in body[8:], name
        except Exception:
            print("seed", seed)
            raise
    assert sounds > 500


def test_the_check_detects_loud_sound_of_a_recorder_that_always_records_sound():
    """Proves that the check of the previous test can fail."""
    harness = SharedMicrophoneHarness({"sound": "always"}, 200).boot().run(20)
    bodies = [
        body
        for n in harness.files.data
        if n[-4:] == ".pls"
        for _, _, body in harness.read(n).of_kind(clip.RECORD_MEDIA)
    ]
    assert sum([body.count(bytes((alaw(LOUD),))) for body in bodies if body[:4] == b"01wb"]) > 8 * 9000
