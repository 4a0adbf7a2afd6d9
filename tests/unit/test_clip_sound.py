"""Sound and events: of what was said before a trigger nothing is in any file, whoever else listened, however late."""

import struct

from agent.audio import samples
from agent.audio.microphone import MicrophoneMultiplexer
from agent.recording.clip_recorder import RefusedError
from clip_harness import ClipHarness
from patrolink_protocol import clip, g711
from seeded_random import seeded

LOUD, QUIET = struct.pack("<h", 12000) * 80, bytes(160)


class Microphone:
    """Hears a loud tone while the harness says so, else silence; what nobody reads waits in it, up to five seconds."""

    def __init__(self, harness):
        self.harness = harness
        self.buf = bytearray(160)
        self.waiting = []
        self.opened = False
        self._heard = 0

    def hear(self):
        while self._heard + 10 <= self.harness.now:
            self._heard += 10
            self.waiting.append(self.harness.loud)
        del self.waiting[:-500]

    def open(self):
        self.hear()
        self.waiting.clear()  # as hal.posix.audio does
        self.opened = True
        return True

    def close(self):
        self.opened = False

    def read(self):
        self.hear()
        if not self.waiting:
            return 0
        self.buf[:] = LOUD if self.waiting.pop(0) else QUIET
        return len(self.buf)


class SharedMicrophoneHarness(ClipHarness):
    """A board whose microphone push-to-talk uses, too. It is loud while no event is recorded."""

    def make_microphone(self):
        self.loud = True
        self.shared_microphone = Microphone(self)
        ears = MicrophoneMultiplexer(self.shared_microphone)
        self.radio = ears.tap()
        return ears.tap()


def alaw(pcm):
    out = bytearray(samples.UNIT)
    g711.encode(pcm, samples.UNIT, out, 0)
    return out[0]


def run_random_events(harness, below):
    """Let events come at random while the other listener comes and goes, and the loop is late; return the triggers."""
    listens = []
    triggers = []

    def each():
        if listens and below(3):
            while harness.radio.read():
                pass
        harness.loud = harness.recorder._open_clip is None

    for _ in range(25):
        if below(3) == 0:
            if listens:
                listens.clear()
                harness.radio.close()
            else:
                listens.append(harness.radio.open())
        what = below(6)
        if what < 2:
            try:
                harness.shared_microphone.hear()
                harness.loud = False  # the wearer has pressed: from now on what is said may be heard
                harness.recorder.trigger(what, 1, "", harness.now)
                triggers.append(harness.now)
            except RefusedError:
                pass
        elif what == 2:
            harness.now += below(3000)  # the loop was held up
        harness.run(below(7), each)
    harness.recorder.close(harness.now)
    return triggers


def test_no_sample_from_before_a_trigger_is_in_any_file():
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


def test_sound_that_is_wanted_always_is_there():
    """The check above can fail."""
    harness = SharedMicrophoneHarness({"sound": "always"}, 200).boot().run(20)
    bodies = [
        body
        for n in harness.files.data
        if n[-4:] == ".pls"
        for _, _, body in harness.read(n).of_kind(clip.RECORD_MEDIA)
    ]
    assert sum([body.count(bytes((alaw(LOUD),))) for body in bodies if body[:4] == b"01wb"]) > 8 * 9000
