"""The storage of clips: composes the index, the ring, the open clips and retention.

Nothing here waits for storage: a file counts as stored once its writer says so, and only then does a manifest list it.
When storage refuses, the store reports a fault and tries again every second.
"""

import patrolink_enums as enums
from agent.tracking.counter import Record

from .announcer import Announcer
from .clip_files import STEPS_PER_BOOT, file_name, listed_file, parse_file_id
from .clip_index import ClipIndex
from .journal import Journal
from .lock_quota import LockQuota
from .open_clips import OpenClips
from .recovery import recover
from .retention import RING, Retention
from .ring import Ring
from .storage_usage import StorageUsage
from .upload_queue import UploadQueue

_RETRY_MS = 1000
_BUFFER = 512  # bytes for reading files
_EIO = 5


class ClipStore:
    """Owns the parts that share the storage of clips. Nothing may be stored before the steps of `load` are done.

    Attributes:
        boot: Number of this boot in file names, final after `load`.
        errors: STORAGE_FULL and STORAGE_FAULT bits of device_status.errors.
        files, index, usage, ring, uploads, lock, open_clips: The parts; see their modules.

    Args:
        files: hal Files of the clips.
        store: hal Store, for the number of the last clip.
        signer: agent.recording.signer.Signer.
        config: {"quota_kb", "lock_kb", "keep_h", "pre_s", "segment_s"}
        device: Name of the device, text.
        boot: Number of this boot.
        unix: Function(monotonic ms) -> unix ms, 0 while not known.
        on_low: Function(per cent): unverified clips take so much of lock_kb.
        on_sealed: Function(values of clip_manifest): a clip was sealed.

    Raises:
        OSError: Storage cannot be read.
    """

    def __init__(self, files, store, signer, config, device, boot, unix, on_low, on_sealed):
        self.boot = boot
        self.errors = 0
        self.files = files
        self._journal = Journal(files, self._snapshot)
        self._buf = memoryview(bytearray(_BUFFER))
        self.index = ClipIndex(files, self._journal)
        self.usage = StorageUsage(files, self._journal, config["quota_kb"])
        self.ring = Ring(files, self.index, self.usage, config, unix, self._buf)
        self.uploads = UploadQueue(files, self.index, self.usage, self._journal, self._buf)
        self.lock = LockQuota(self.index, config["lock_kb"])
        last_number = Record(store, "clip")
        self.open_clips = OpenClips(
            files, self.index, self.ring, self.usage, signer, last_number, device, boot, config["pre_s"], unix
        )
        self._retention = Retention(files, self.index, self.ring, self.usage, self.open_clips, config["keep_h"])
        self._announcer = Announcer(files, self.index, on_sealed)
        self._signer = signer
        self._unix = unix
        self._on_low = on_low
        self._ring_files_max = config["pre_s"] // config["segment_s"] + 3  # kept from the previous boots
        self._retry_ms = None  # when to try storage again after it refused
        self._now = self._check_ms = 0

    def _snapshot(self):
        for part in (self.index, self.uploads, self.ring):
            for line in part.snapshot():
                yield line

    def load(self):
        """Steps (compat.steps): read what the previous boots left, and seal their open clip. Raises OSError."""
        yield from self._signer.load()
        yield from self.index.load()
        loose = {}
        for fields in self._journal.read():
            try:
                self._apply_line(fields, loose)
            except (KeyError, TypeError, ValueError):
                pass  # a damaged line: at worst a file is uploaded again
            yield
        # With another device's card, or after a loss of our own state: never reuse the name of an existing file.
        ids = [parse_file_id(name) for name in self.files.names()] + [clip.last for clip in self.index.clips]
        self.boot = max([self.boot] + [file_id // STEPS_PER_BOOT + 1 for file_id in ids])
        yield
        recovery = yield from recover(self.files, self.index, loose, self._signer, self._ring_files_max, self._buf)
        self.ring.load(recovery.ring)
        yield
        yield from self.open_clips.load(self.boot, recovery.chain)
        yield
        yield from self.usage.load()

    def _apply_line(self, fields, loose):
        listed = listed_file(fields)
        if listed:
            loose[parse_file_id(listed.stem)] = fields
            return
        clip = self.index.find(fields["clip"])
        if clip is not None:
            self.uploads.apply_line(clip, fields)
            self.index.apply_line(clip, fields)

    def reserve(self, size, priority, now):
        """Return whether a new file may begin, and remove other files for it as far as its priority allows.

        Args:
            size: Bytes that the file may grow to.
            priority: retention.RING, ROUTINE or URGENT.
            now: Monotonic ms.
        """
        self._now = now
        if self._retry_ms is not None or self.ring.is_full():
            self.errors |= enums.DEVICE_STATUS_ERRORS_STORAGE_FAULT
            return False
        usage = self.usage
        unix_ms = self._unix(now)
        # Asked once: storage removes files later, so what is removed now is added here and not asked for again.
        free_kb, used = self.files.free_kb(), usage.bytes
        full = 0
        while not usage.fits(size, None if free_kb is None else free_kb + ((used - usage.bytes) >> 10)):
            try:
                if not self._retention.make_room(priority, now, unix_ms):
                    full = enums.DEVICE_STATUS_ERRORS_STORAGE_FULL
                    if priority != RING or not self.ring.shorten():
                        self.errors |= enums.DEVICE_STATUS_ERRORS_STORAGE_FULL
                        return False
            except OSError:
                self._refuse()
                return False
        self.errors = self.errors & ~enums.DEVICE_STATUS_ERRORS_STORAGE_FULL | full
        return True

    def create_file(self, file_id):
        """Return the hal Writer of a new file."""
        return self.files.open(file_name(file_id))

    def mark_verified(self, number):
        """The hub has verified a clip: it may be removed from now on."""
        if self.index.mark_verified(number, self._unix(self._now)):
            self.open_clips.log_access("verified", "hub", self._now, "clip", number)

    def serve(self, now):
        """Continue with one piece of what storage has finished."""
        self._now = now
        if self._retry_ms is not None and now < self._retry_ms:
            return
        try:
            if self._retry_ms is not None:
                self.open_clips.retry()
                self._journal.retry()
                self._retry_ms = None
            if self._settle():
                return
            if self.open_clips.serve(now):
                self._announcer.notify()
                self._retention.release_superseded(now)
                return
            if not self._journal.serve():
                raise OSError(_EIO)
            self._announcer.serve()
            if now >= self._check_ms:
                self._check_ms = now + _RETRY_MS
                self._check()
        except OSError:
            self._refuse()

    def _settle(self):
        """Take the next finished file into the ring. Returns False if there is none."""
        settled = self.ring.settle()
        if settled is None:
            return False
        if settled.fault:
            self._refuse()
        else:
            self.errors &= ~enums.DEVICE_STATUS_ERRORS_STORAGE_FAULT
        file = settled.file
        if file is not None:
            self.open_clips.add_file(file)
            if not self.index.holds(file.file_id):
                self._journal.append(file.line(file.is_picture))
            while self.ring.drop_unneeded(self._now):
                pass
        return True

    def _check(self):
        self.usage.forget_removed()
        self._retention.expire(self._now, self._unix(self._now))
        pct = self.lock.warning()
        if pct is not None:
            self._on_low(pct)

    def _refuse(self):
        self.errors |= enums.DEVICE_STATUS_ERRORS_STORAGE_FAULT
        self._retry_ms = self._now + _RETRY_MS
