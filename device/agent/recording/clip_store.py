"""The storage of clips: the ring, the clips being written, and the room for them (see retention.py).

Nothing here raises, but where it says so, and nothing waits for the storage: a file is at rest once its writer says so,
and only then does a manifest list it. Storage that refuses is tried again every second.
"""

from agent.tracking.counter import Record
from compat.steps import whole
from patrolink_protocol import clip as pc

from . import manifest
from .access_notes import AccessNotes, is_notes
from .clip_index import KEPT, OPEN, STEPS, VERIFIED, ClipIndex, key_of, name_of, stem_of
from .open_clip import OpenClip, head_of
from .recovery import recover
from .retention import RING, Retention
from .segment import found

FULL, FAULT = 4, 8  # bits of device_status.errors
_AGAIN_MS = 1000
_CLOSING = 8  # files that wait for storage, at most
_WRITING = 8  # clips
_LOW_PCT = 80
_EASED_PCT = 75
_SPARE_KB = 64  # of the file system, for manifests


class ClipStore(ClipIndex):
    """
    files    hal Files of the clips
    store    hal Store, for the number of the last clip
    signer   agent.recording.signer.Signer
    config   {"quota_kb", "lock_kb", "keep_h", "pre_s"}
    device   name of the device, text
    unix     function(monotonic ms) -> unix ms, 0 when not known
    on_low   function(per cent): clips that nobody has verified take so much of lock_kb
    on_seal  function(values of clip_manifest)

    It takes nothing until the steps of `load` are done. Raises OSError when storage cannot be read.
    """

    def __init__(self, files, store, signer, config, device, boot, unix):
        self.ring = []  # files at rest, oldest first, that an event may want
        self.writing = []  # clips, oldest first: the first one has a file, the others wait for its seal
        self._closing = []  # files that have their end and are not at rest
        self._going = set()  # names of files that storage is told to remove
        ClipIndex.__init__(self, files)
        self._signer = signer
        self._device = device
        self.boot = boot
        self._unix = unix
        self.quota = config["quota_kb"] * 1024
        self._lock = config["lock_kb"] * 1024
        self._pre_ms, self._segment_ms = config["pre_s"] * 1000, config["segment_s"] * 1000
        self._room = Retention(self, config["keep_h"])
        self._number = Record(store, "clip")
        self.on_low = self.on_seal = None
        self.errors = 0
        self._low = 0  # step of lock_kb that was told
        self._again_ms = None  # when storage that refused is tried again
        self._now = self._look_ms = 0
        self._tell = True  # there may be sealed clips that the hub has not been told of
        self._telling = None  # steps of that, while they are taken
        self._most = config["pre_s"] // config["segment_s"] + 3  # files of the ring that outlive a boot
        self._previous = self._notes = None
        self.bytes = 0

    def load(self):
        """Steps (compat.steps): take up what an earlier boot left, its open clip sealed. Raises OSError."""
        yield from self._signer.load()
        yield from ClipIndex.load(self)
        # Another device's card, or a state made anew: no file of ours may have the name of one that is there.
        self.boot = max([self.boot] + [key // STEPS + 1 for key in self._keys()])
        yield
        self._previous, self.ring = yield from recover(self, self._signer, self._most)
        self.waiting = []
        yield
        self._notes = AccessNotes(self.files)
        yield from self._notes.load()
        yield
        for name in self.files.names():
            if self._is_ours(name):
                self.bytes += self.files.size(name)
                yield

    def _keys(self):
        """Return the keys of all segments that are there or were."""
        return [key_of(name) for name in self.files.names()] + [clip.last for clip in self.clips]

    def _is_ours(self, name):
        """Return whether a file takes of the quota; the journal is counted by itself."""
        return key_of(name) >= 0 or manifest.number_of(name) >= 0 or is_notes(name)

    def _standing(self):
        for line in ClipIndex._standing(self):
            yield line
        for entry in self.ring:
            if not self.holds(entry.key):
                yield entry.line(entry.picture)

    # --- room -------------------------------------------------------------------------------------------------------

    def ready(self, most, rank, now):
        """Return whether a file of so many bytes may begin; makes room for it as far as `rank` goes."""
        self._now = now
        if self._again_ms is not None or len(self._closing) >= _CLOSING:
            self.errors |= FAULT
            return False
        unix_ms = self._unix(now)
        # Asked once: what is dropped now is free once storage has got to it, and no sooner told.
        free_kb, before = self.files.free_kb(), self.bytes
        short = 0
        while not self._fits(most, None if free_kb is None else free_kb + ((before - self.bytes) >> 10)):
            try:
                if not self._room.make(rank, unix_ms):
                    short = FULL
                    if rank != RING or not self._shorten():
                        self.errors |= FULL
                        return False
            except OSError:
                self._refused()
                return False
        self.errors = self.errors & ~FULL | short
        return True

    def _fits(self, most, free_kb):
        return self.bytes + self.journal.size + most <= self.quota and (
            free_kb is None or free_kb >= (most >> 10) + _SPARE_KB
        )

    def _drop(self, name):
        if name in self._going:
            return
        try:
            self.bytes -= self.files.size(name)
        except OSError:
            return
        self._going.add(name)
        self.files.drop(name)

    def _is_there(self, key):
        """A thinned file is listed still; one that is going may be there for a while."""
        return name_of(key) not in self._going and ClipIndex._is_there(self, key)

    def release(self, clip):
        """Let go of a verified clip's files; its manifest stays while it is the last: the next one goes on from it."""
        before = self.bytes
        for key, _, _ in self.listed(clip):
            if not self.holds(key, clip) and not self._in_ring(key):
                self._drop(name_of(key))
        if self.bytes < before:
            self.access("released", "device", self._now, "clip", clip.number)
        clip.gone = True
        if [c for c in self.clips if c.number > clip.number and c.state != OPEN]:
            self._drop(manifest.file_of(clip.number))
            self.clips.remove(clip)

    def spares(self, clip, key):
        """Return whether a listed file is there and nothing else wants it."""
        if self._in_ring(key):
            return False
        for other in self.clips:
            if other is not clip and other.state != VERIFIED and other.first <= key <= other.last:
                return False
        return self._is_there(key)

    def thin(self, clip, key):
        """Drop one segment of a clip that nobody has verified, and tell."""
        self.access("thinned", "device", self._now, "clip", clip.number, "segs", [stem_of(key)])
        for writing in self.writing:
            writing.manifest.serve()
        before = self.bytes
        self._drop(name_of(key))
        clip.bytes -= before - self.bytes

    def _in_ring(self, key):
        for entry in self.ring:
            if entry.key == key:
                return True
        return False

    def drop_ring(self):
        """Let go of the oldest file if no event would want it any more; False when one would, or there is none."""
        for entry in self.ring[1:]:
            if entry.start is not None and not entry.picture:
                if entry.start > self._now - self._pre_ms:
                    return False
                oldest = self.ring.pop(0)
                if not self.holds(oldest.key):
                    self._drop(name_of(oldest.key))
                return True
        return False

    def _shorten(self):
        """Let go of the ring's oldest file that is in no clip, wanted or not, but never of the last; False: none."""
        for i in range(len(self.ring) - (not self._closing)):
            key = self.ring[i].key
            if not self.holds(key):
                self._drop(name_of(key))
                del self.ring[i]
                return True
        return False

    def _locked(self):
        return sum([clip.bytes for clip in self.clips if clip.state != VERIFIED])

    def full(self):
        """Return whether clips that nobody has verified take all that they may."""
        return self._locked() >= self._lock

    def _watch(self):
        """Tell once when lock_kb runs short, and once when it is reached."""
        pct = min(100, self._locked() * 100 // self._lock)
        step = 100 if pct >= 100 else _LOW_PCT if pct >= _LOW_PCT else 0
        if step > self._low:
            self._low = step
            if self.on_low is not None:
                self.on_low(pct)
        elif pct < _EASED_PCT:
            self._low = 0
        elif pct < 100 - (_LOW_PCT - _EASED_PCT):
            self._low = min(self._low, _LOW_PCT)

    # --- files ------------------------------------------------------------------------------------------------------

    def open(self, key):
        """Return the writer of a new file."""
        return self.files.open(name_of(key))

    def put(self, entry):
        """A file has its end. It is listed once it is at rest."""
        self._closing.append(entry)
        self.bytes += entry.said[0]

    def behind(self):
        """Return the bytes of files that have their end and that storage is late by."""
        n = 0
        for entry in self._closing:
            n += entry.writer.behind
        return n

    def since(self, at_ms):
        """Return the key of the last file that begins at or before `at_ms`, or else the oldest; None: there is none.

        What a boot before this one recorded is none of it where the clocks tell that it ended long before.
        """
        files = self.ring + self._closing
        for entry in reversed(files):
            if entry.start is not None and not entry.picture and entry.start <= at_ms:
                return entry.key
        # The oldest, that is: a picture is at rest before the segment of the step before it.
        keys = [entry.key for entry in files if entry.start is not None or not self._is_over(entry, at_ms)]
        return min(keys) if keys else None

    def _is_over(self, entry, at_ms):
        """Return whether a file of a boot before this one ended before `at_ms`, as far as clocks tell."""
        start_ms, ms = entry.said[2], entry.said[3]
        unix_ms = self._unix(at_ms)
        return bool(start_ms and unix_ms and start_ms + max(ms, self._segment_ms) + _AGAIN_MS < unix_ms)

    def _settle(self):
        while self._closing and not self._closing[0].writer.behind:
            entry = self._closing[0]
            if entry.writer.fault:
                there = self._look(entry)
                self._refused()
            else:
                there = True
                self.errors &= ~FAULT
            self._closing.pop(0)
            if not there:
                continue
            entry.writer = None
            self.ring.append(entry)
            for writing in self.writing:
                writing.take(entry)
            if not self.holds(entry.key):
                self.journal.say(entry.line(entry.picture))
            while self.drop_ring():
                pass

    def _look(self, entry):
        """Storage refused some of a file: take what there is of it. False when nothing is. Raises OSError."""
        name = name_of(entry.key)
        size = 0
        if name in self.files.names():
            size, sha256 = whole(found(self.files, name, self.buf))
        self.bytes += size - entry.said[0]
        entry.said = (size,) + entry.said[1:]
        if size < pc.HEADER:
            self._drop(name)
            return False
        entry.said = (size, sha256) + entry.said[2:6] + (False,)
        return True

    # --- clips ------------------------------------------------------------------------------------------------------

    def begin(self, trigger, event, since, codec, now, follows=None):
        """Begin a clip that has all files from key `since` on; return its Writing. `follows`: number of that before."""
        number = max(self._number.a, self.clips[-1].number if self.clips else 0) + 1
        pre_s = 0 if follows is not None else self._pre_ms // 1000
        head = head_of(number, self._device, self.boot, codec, trigger, event, self._unix(now), pre_s)
        writing = OpenClip(number, trigger, since, head, follows, self.files)
        self.clips.append(writing.clip)
        self.writing.append(writing)
        for entry in self.ring:
            writing.take(entry)
        return writing

    def crowded(self):
        """Return whether as many clips wait for storage as may."""
        return len(self.writing) >= _WRITING

    def access(self, what, who, now, *facts):
        """Tell what was done, in the clip being written or in the next one. `facts`: keys and values in turn."""
        line = manifest.dump("access", what, "who", who, "time_ms", self._unix(now), *facts)
        for writing in self.writing:
            if not writing.ended:
                writing.manifest.say(line, True)
                return
        self.bytes += self._notes.put(line)

    def verified(self, number):
        """The hub has a clip and finds it right: it may go."""
        clip = self.find(number)
        if clip is None or clip.state == OPEN or clip.state == VERIFIED:
            return
        clip.state, clip.verified_ms, clip.sent = VERIFIED, self._unix(self._now), set()
        self.journal.say(manifest.dump("clip", number, "verified", clip.verified_ms))
        self.access("verified", "hub", self._now, "clip", number)

    def serve(self, now):
        """Go on with whatever storage has got done."""
        self._now = now
        if self._again_ms is not None and now < self._again_ms:
            return
        try:
            if self._again_ms is not None:
                self._again()
            self._settle()
            self._proceed(now)
            if now >= self._look_ms:
                self._look_ms = now + _AGAIN_MS
                if self._going:
                    self._going.intersection_update(self.files.names())
                self._room.expire(self._unix(now))
                self._watch()
        except OSError:
            self._refused()

    def _proceed(self, now):
        while self.writing:
            first = self.writing[0]
            first.start(self._previous, self._signer)
            self._take_notes(first)
            if first.until is not None and not first.ended:
                if not [entry for entry in self._closing if entry.key <= first.until]:
                    first.end(self._unix(now), self._signer)
            before = first.manifest.size
            served = first.manifest.serve()
            self.bytes += first.manifest.size - before
            if not served:
                raise OSError(5)
            if not first.sealed():
                break
            self._sealed(self.writing.pop(0))
        if not self.journal.serve():
            raise OSError(5)
        if self._tell and self._telling is None and self.on_seal is not None:
            self._tell = False
            self._telling = self._announce()
        if self._telling is not None:
            try:
                next(self._telling)
            except StopIteration:
                self._telling = None
            except OSError:
                self._tell, self._telling = True, None
                raise

    def _take_notes(self, writing):
        """What was done since the clip before goes into this one."""
        if writing.ended:
            return
        lines = self._notes.take()
        if lines:
            for line in lines:
                writing.manifest.say(line, True)
            writing.manifest.serve()
            self.bytes -= self._notes.drop()

    def _sealed(self, writing):
        writing.manifest.close()
        self._previous = writing.manifest.chain
        writing.clip.state = KEPT
        self._number.write(writing.clip.number, 0)
        self._tell = True
        for clip in [c for c in self.clips if c.gone]:
            self.release(clip)  # its manifest is not the last one any more

    def working(self):
        """Return whether there are steps to take."""
        return bool(self.writing) and self.writing[0].sealing is not None

    def step(self):
        """Take one, if there is one to take."""
        if self.working():
            self.writing[0].step()

    def _announce(self):
        """Steps: tell of the clips that have their seal."""
        for clip in list(self.clips):
            if clip.state != OPEN and not clip.told:
                values = yield from self.gather(clip)
                try:
                    if values is not None:
                        self.on_seal(values)
                except ValueError:
                    pass  # no message holds them: it is damaged, as its verdict tells
                self.told(clip.number)

    def _refused(self):
        self.errors |= FAULT
        self._again_ms = self._now + _AGAIN_MS

    def _again(self):
        """Storage refused a second ago: see what it has, and go on from there. Raises OSError."""
        for writing in self.writing:
            writing.manifest.again()
        self.journal.again()
        self._again_ms = None
