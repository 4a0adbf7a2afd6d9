"""A recorder on a virtual clock, and what reads back what it has written, on both runtimes."""

import binascii
import hashlib
import json
import struct

from agent.recording.avi import AviMuxer
from agent.recording.clip_store import ClipStore
from agent.recording.recorder import ClipRecorder
from agent.recording.signer import Signer
from compat import crypto
from compat.steps import whole
from memory_storage import MemoryFiles, MemoryStore
from patrolink_protocol import clip

SITE = bytes(range(1, 33))  # the evidence key's private half
EVIDENCE = whole(crypto.public(SITE))
EPOCH_MS = 1795000000000
CONFIG = {"quota_kb": 4096, "lock_kb": 2048, "keep_h": 24, "pre_s": 10, "post_s": 10, "segment_s": 5, "sound": "never"}
CONFIG["stamp"] = False


def picture(n, size):
    """Return what a recorder takes for a JPEG, with its number in it."""
    return b"\xff\xd8" + struct.pack(">I", n) * (size // 4) + b"\xff\xd9"


class Camera:
    """Pictures with a steady pace, numbered from 0; `stalled`, `broken`: what is wrong with them.

    They all come in one buffer, which has something else in it as soon as the camera is asked again: as with vc0706.
    """

    def __init__(self, world, fps=5, size=1000):
        self.world = world
        self.fps = fps
        self.size = size
        self.width = 320
        self.height = 240
        self.fault = ""
        self.dropped = self.damaged = 0
        self.opened = self.stalled = self.broken = False
        self.given = []  # (number, monotonic ms)
        self._due = 0
        self._buffer = memoryview(bytearray(size // 4 * 4 + 4))
        self.number = 0

    def open(self):
        self.opened = True

    def close(self):
        self.opened = False

    def frame(self):
        self._buffer[:8] = b"not yet."
        if not self.opened or self.stalled or self.world.now < self._due:
            return None
        self._due = max(self._due + 1000 // self.fps, self.world.now - 1000)
        n, self.number = self.number, self.number + 1
        self._buffer[:] = picture(n, self.size)
        if self.broken:
            return self._buffer[:-1], self.world.now, None
        self.given.append((n, self.world.now))
        return self._buffer, self.world.now, None


class MicrophoneMultiplexer:
    """A microphone that gives silence in units of 10 ms while it is open."""

    def __init__(self, world):
        self.world = world
        self.buf = bytearray(160)
        self.opened = False
        self._heard = 0

    def open(self):
        self.opened = True
        self._heard = self.world.now
        return True

    def close(self):
        self.opened = False

    def read(self):
        if self._heard + 10 > self.world.now:
            return 0
        self._heard += 10
        return len(self.buf)


class World:
    """
    One board: its storage outlives `boot`.
    """

    def __init__(self, config=None, size=1000, fps=5):
        self.config = dict(CONFIG)
        self.config.update(config or {})
        self.files = MemoryFiles()
        self.store = MemoryStore()
        self.now = 0
        self.size = size
        self.fps = fps
        self.boots = 0
        self.past = 0
        self.known = True
        self.shift = 0
        self.sealed = []
        self.low = []

    def unix(self, now):
        return EPOCH_MS + self.past + self.shift + now if self.known else 0

    def boot(self):
        """Power on: the monotonic clock begins anew."""
        self.past += self.now
        self.now = 0
        self.boots += 1
        self.camera = Camera(self, self.fps, self.size)
        signer = Signer(self.store)
        self.shelf = ClipStore(self.files, self.store, signer, self.config, "unix-1", self.boots, self.unix)
        self.shelf.on_seal = self.sealed.append
        self.shelf.on_low = self.low.append
        self.ears = self.listener()
        self.recorder = ClipRecorder(
            self.shelf,
            self.camera,
            self.container(),
            bytes,
            EVIDENCE,
            self.config,
            self.unix,
            self.source,
            self.ears,
        )
        whole(self.recorder.load())
        self.signer = signer.public
        return self

    def listener(self):
        return MicrophoneMultiplexer(self)

    def container(self):
        return AviMuxer(320, 240, self.fps, self.config["sound"] != "never")

    def source(self):
        return clip.BY_GPS

    def run(self, seconds, each=None):
        """Let time pass; `each` is called every loop."""
        until = self.now + int(seconds * 1000)
        while self.now < until:
            self.now += 50
            if each is not None:
                each()
            self.recorder.serve(self.now)
        return self

    # --- reading back -----------------------------------------------------------------------------------------------

    def manifest(self, number):
        """Return what the lines of a manifest say; the chain and the seal are right as far as they are there."""
        data = bytes(self.files.data["%06d.plm" % number])
        said = []
        chain = None
        for line in data.split(b"\n")[:-1]:
            what = json.loads(line)
            if chain is None:
                chain = binascii.unhexlify(what["previous"])
            if "sig" in what:
                assert what["chain"] == binascii.hexlify(chain).decode() and len(what["sig"]) == 128
            chain = clip.link(chain, line + b"\n")
            said.append(what)
        return said

    def segments(self, number):
        """Return the lines of a clip's segments; each file that is there is as its line says."""
        out = []
        for said in self.manifest(number):
            if "bytes" in said:
                name = said.get("seg", said.get("thumb")) + ".pls"
                data = self.files.data.get(name)
                if data is not None:
                    assert len(data) == said["bytes"], name
                    assert binascii.hexlify(hashlib.sha256(data).digest()).decode() == said["sha256"], name
                if "seg" in said:
                    out.append(said)
        return out

    def read(self, name):
        return Read(bytes(self.files.data[name]))

    def pictures(self, number):
        """Return the numbers of the pictures of a clip, in its order."""
        out = []
        for said in self.segments(number):
            out += self.read(said["seg"] + ".pls").pictures()
        return out

    def pictures_there(self, number):
        """Return the numbers of the pictures of those of a clip's segments that are on storage."""
        out = []
        for said in self.segments(number):
            if said["seg"] + ".pls" in self.files.data:
                out += self.read(said["seg"] + ".pls").pictures()
        return out


_KEYS = {}


class Read:
    """A segment, deciphered. records: (kind, time_ms, body); whole: it has its end."""

    def __init__(self, data):
        self.header = header = clip.unpack_header(data)
        assert header.recipient == clip.key_id(EVIDENCE)
        if header.ephemeral not in _KEYS:
            shared = whole(crypto.agree(SITE, header.ephemeral))
            _KEYS[header.ephemeral] = clip.first_key(shared, header.ephemeral, EVIDENCE)
        key = _KEYS[header.ephemeral]
        for _ in range(header.step):
            key = clip.next_key(key)
        body = memoryview(bytearray(data[clip.HEADER :]))
        crypto.ctr(clip.segment_key(key)).apply(body)
        self.records = []
        at = 0
        while at + clip.RECORD <= len(body):
            (head,) = struct.unpack_from(">I", body, at)
            n = head & clip.MOST
            kind = head >> 24
            if at + clip.RECORD + n > len(body):
                break
            assert clip.STAMP <= n and kind <= clip.GAP, (kind, n)
            (time_ms,) = struct.unpack_from(">I", body, at + clip.RECORD)
            self.records.append((kind, time_ms, bytes(body[at + clip.RECORD + clip.STAMP : at + clip.RECORD + n])))
            at += clip.RECORD + n
        self.whole = bool(self.records) and self.records[-1][0] == clip.END and at == len(body)

    def of(self, kind):
        return [r for r in self.records if r[0] == kind]

    def pictures(self):
        out = []
        for _, _, body in self.of(clip.MEDIA):
            at = body.find(b"\xff\xd8")
            if at >= 0 and body.rfind(b"\xff\xd9") > at:
                out.append(struct.unpack_from(">I", body, at + 2)[0])
        return out
