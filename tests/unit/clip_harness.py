"""A recorder on a virtual clock, and a reader of what it has written. Runs on both runtimes."""

import binascii
import hashlib
import json
import struct

from agent.recording.avi import AviMuxer
from agent.recording.clip_recorder import ClipRecorder
from agent.recording.clip_store import ClipStore
from agent.recording.ring_recorder import RingRecorder
from agent.recording.signer import Signer
from compat import crypto
from compat.steps import run_to_completion
from memory_storage import MemoryFiles, MemoryStore
from patrolink_protocol import clip

SITE_KEY = bytes(range(1, 33))  # the private half of the evidence key
EVIDENCE_KEY = run_to_completion(crypto.derive_public_key(SITE_KEY))
EPOCH_MS = 1795000000000
CONFIG = {"quota_kb": 4096, "lock_kb": 2048, "keep_h": 24, "pre_s": 10, "post_s": 10, "segment_s": 5, "sound": "never"}
CONFIG["stamp"] = False


def make_picture(n, size):
    """Return bytes that a recorder accepts as a JPEG, with the number n in them."""
    return b"\xff\xd8" + struct.pack(">I", n) * (size // 4) + b"\xff\xd9"


class FakeCamera:
    """A camera with a steady frame rate. Its pictures are numbered from 0.

    All pictures are in one buffer, which the next call of `frame` overwrites, as with vc0706.

    Attributes:
        stalled: `frame` returns no picture.
        broken: `frame` returns pictures without their end.
        captured: (number, monotonic ms) of each good picture.
    """

    def __init__(self, harness, fps=5, size=1000):
        self.harness = harness
        self.fps = fps
        self.size = size
        self.width = 320
        self.height = 240
        self.fault = ""
        self.dropped = self.damaged = 0
        self.opened = self.stalled = self.broken = False
        self.captured = []
        self.number = 0
        self._due_ms = 0
        self._buffer = memoryview(bytearray(size // 4 * 4 + 4))

    def open(self):
        self.opened = True

    def close(self):
        self.opened = False

    def shift_next(self, ms):
        """Take the next picture later, or earlier if negative."""
        self._due_ms += ms

    def frame(self):
        self._buffer[:8] = b"not yet."
        if not self.opened or self.stalled or self.harness.now < self._due_ms:
            return None
        self._due_ms = max(self._due_ms + 1000 // self.fps, self.harness.now - 1000)
        n, self.number = self.number, self.number + 1
        self._buffer[:] = make_picture(n, self.size)
        if self.broken:
            return self._buffer[:-1], self.harness.now, None
        self.captured.append((n, self.harness.now))
        return self._buffer, self.harness.now, None


class FakeMicrophone:
    """A microphone that provides silence in units of 10 ms while it is open."""

    def __init__(self, harness):
        self.harness = harness
        self.buf = bytearray(160)
        self.opened = self.broken = False
        self._read_ms = 0

    def open(self):
        if self.broken:
            return False
        self.opened = True
        self._read_ms = self.harness.now
        return True

    def close(self):
        self.opened = False

    def read(self):
        if self._read_ms + 10 > self.harness.now:
            return 0
        self._read_ms += 10
        return len(self.buf)


class ClipHarness:
    """One board that records. `boot` preserves its storage.

    Attributes:
        files, state: Storage of clips, and the HAL store.
        store, recorder, ring_recorder, camera, microphone: Objects of the current boot.
        now: Monotonic ms of the current boot.
        time_known, clock_shift_ms: Whether the unix clock is known, and its error.
        sealed, low: Arguments of the calls of on_sealed and on_low.
    """

    def __init__(self, config=None, size=1000, fps=5):
        self.config = dict(CONFIG)
        self.config.update(config or {})
        self.files = MemoryFiles()
        self.state = MemoryStore()
        self.now = 0
        self.size = size
        self.fps = fps
        self.boots = 0
        self.past_ms = 0  # duration of all previous boots
        self.time_known = True
        self.clock_shift_ms = 0
        self.sealed = []
        self.low = []

    def unix(self, now):
        return EPOCH_MS + self.past_ms + self.clock_shift_ms + now if self.time_known else 0

    def boot(self):
        """Boot: the monotonic clock starts from 0."""
        self.past_ms += self.now
        self.now = 0
        self.boots += 1
        self.construct(self.low.append, self.sealed.append)
        run_to_completion(self.ring_recorder.load())
        return self

    def construct(self, on_low, on_sealed):
        """Construct the objects of a boot; storage is not loaded yet."""
        self.camera = FakeCamera(self, self.fps, self.size)
        signer = self.signer = Signer(self.state)
        self.store = ClipStore(
            self.files, self.state, signer, self.config, "unix-1", self.boots, self.unix, on_low, on_sealed
        )
        self.microphone = self.make_microphone()
        self.ring_recorder = RingRecorder(
            self.store,
            self.camera,
            self.make_container(),
            bytes,
            EVIDENCE_KEY,
            self.config,
            self.unix,
            self.clock_source,
            self.microphone,
        )
        self.recorder = ClipRecorder(self.store, self.ring_recorder, self.config, self.unix)

    def make_microphone(self):
        return FakeMicrophone(self)

    def make_container(self):
        return AviMuxer(320, 240, self.fps, self.config["sound"] != "never")

    def clock_source(self):
        return clip.CLOCK_GPS

    def run(self, seconds, on_step=None):
        """Advance the clock in steps of 50 ms; `on_step` is called in every step."""
        until = self.now + int(seconds * 1000)
        while self.now < until:
            self.now += 50
            if on_step is not None:
                on_step()
            self.recorder.serve(self.now)
            self.store.open_clips.step()
        return self

    # --- reading of recorded clips ----------------------------------------------------------------------------------

    def manifest(self, number):
        """Return the decoded lines of a manifest, after checking their chain and seal."""
        data = bytes(self.files.data["%06d.plm" % number])
        lines = []
        chain = None
        for raw in data.split(b"\n")[:-1]:
            fields = json.loads(raw)
            if chain is None:
                chain = binascii.unhexlify(fields["previous"])
            if "sig" in fields:
                assert fields["chain"] == binascii.hexlify(chain).decode() and len(fields["sig"]) == 128
            chain = clip.extend_chain(chain, raw + b"\n")
            lines.append(fields)
        return lines

    def segments(self, number):
        """Return the segment lines of a clip, after checking the size and hash of each file that exists."""
        out = []
        for line in self.manifest(number):
            if "bytes" in line:
                name = line.get("seg", line.get("thumb")) + ".pls"
                data = self.files.data.get(name)
                if data is not None:
                    assert len(data) == line["bytes"], name
                    assert binascii.hexlify(hashlib.sha256(data).digest()).decode() == line["sha256"], name
                if "seg" in line:
                    out.append(line)
        return out

    def segment_files(self):
        """Return the names of all segments and pictures on storage."""
        return [name for name in self.files.data if name[-4:] == ".pls"]

    def read(self, name):
        return SegmentReader(bytes(self.files.data[name]))

    def pictures(self, number):
        """Return the numbers of the pictures in a clip, in order."""
        out = []
        for line in self.segments(number):
            out += self.read(line["seg"] + ".pls").pictures()
        return out

    def stored_pictures(self, number):
        """Return the numbers of the pictures in those segments of a clip that are still on storage."""
        out = []
        for line in self.segments(number):
            if line["seg"] + ".pls" in self.files.data:
                out += self.read(line["seg"] + ".pls").pictures()
        return out


_chain_keys = {}  # first chain key by ephemeral key: caches the slow key agreement


class SegmentReader:
    """A decrypted segment.

    Attributes:
        records: (kind, time_ms, body) of each complete record.
        complete: Whether it ends with its end record.
    """

    def __init__(self, data):
        self.header = header = clip.unpack_header(data)
        assert header.recipient == clip.key_id(EVIDENCE_KEY)
        if header.ephemeral not in _chain_keys:
            shared = run_to_completion(crypto.derive_shared_secret(SITE_KEY, header.ephemeral))
            _chain_keys[header.ephemeral] = clip.first_chain_key(shared, header.ephemeral, EVIDENCE_KEY)
        key = _chain_keys[header.ephemeral]
        for _ in range(header.step):
            key = clip.next_chain_key(key)
        body = memoryview(bytearray(data[clip.HEADER_BYTES :]))
        crypto.aes_ctr(clip.segment_key(key)).apply(body)
        self.records = []
        at = 0
        while at + clip.RECORD_HEADER_BYTES <= len(body):
            (head,) = struct.unpack_from(">I", body, at)
            n = head & clip.MAX_BODY_BYTES
            kind = head >> 24
            if at + clip.RECORD_HEADER_BYTES + n > len(body):
                break
            assert clip.TIMESTAMP_BYTES <= n and kind <= clip.RECORD_GAP, (kind, n)
            (time_ms,) = struct.unpack_from(">I", body, at + clip.RECORD_HEADER_BYTES)
            self.records.append(
                (
                    kind,
                    time_ms,
                    bytes(
                        body[at + clip.RECORD_HEADER_BYTES + clip.TIMESTAMP_BYTES : at + clip.RECORD_HEADER_BYTES + n]
                    ),
                )
            )
            at += clip.RECORD_HEADER_BYTES + n
        self.complete = bool(self.records) and self.records[-1][0] == clip.RECORD_END and at == len(body)

    def of_kind(self, kind):
        return [r for r in self.records if r[0] == kind]

    def pictures(self):
        out = []
        for _, _, body in self.of_kind(clip.RECORD_MEDIA):
            at = body.find(b"\xff\xd8")
            if at >= 0 and body.rfind(b"\xff\xd9") > at:
                out.append(struct.unpack_from(">I", body, at + 2)[0])
        return out
