"""The ring: recorded files that a later event may still want, oldest first."""

from collections import namedtuple

from compat.steps import run_to_completion
from patrolink_protocol import clip as clip_format

from .clip_files import file_name
from .recorded_file import FileInfo
from .segment import hash_file

_CLOSING_MAX = 8  # files that wait for storage
_CLOCK_SLACK_MS = 1000

# A file that storage has finished: `file` is None if nothing of it is on storage, `fault` if a part was refused.
Settled = namedtuple("Settled", ("file", "fault"))


class Ring:
    """Files on storage, and files that storage has not finished yet.

    Args:
        files: hal Files of the clips.
        index: clip_index.ClipIndex.
        usage: storage_usage.StorageUsage.
        config: {"pre_s", "segment_s"}
        unix: Function(monotonic ms) -> unix ms, 0 while not known.
        buf: Buffer for reading files, a memoryview.
    """

    def __init__(self, files, index, usage, config, unix, buf):
        self._recorded = []  # on storage
        self._closing = []  # recorded to the end, but storage has not finished them
        self._files = files
        self._index = index
        self._usage = usage
        self._pre_ms = config["pre_s"] * 1000
        self._segment_ms = config["segment_s"] * 1000
        self._unix = unix
        self._buf = buf

    def load(self, recorded):
        """Take over the RecordedFiles of the previous boots, oldest first."""
        self._recorded = recorded

    def __iter__(self):
        return iter(self._recorded)

    def snapshot(self):
        """Yield the journal lines of the files that belong to no clip."""
        for file in self._recorded:
            if not self._index.holds(file.file_id):
                yield file.line(file.is_picture)

    def add(self, file):
        """Add a RecordedFile that has its end. It is listed once storage has finished it."""
        self._closing.append(file)
        self._usage.add(file.info.size)

    def is_full(self):
        """Return whether too many files wait for storage."""
        return len(self._closing) >= _CLOSING_MAX

    def pending_bytes(self):
        """Return the bytes of closed files that storage has not written yet."""
        n = 0
        for file in self._closing:
            n += file.writer.behind
        return n

    def is_pending(self, last_id):
        """Return whether storage has still to finish a file up to `last_id`."""
        for file in self._closing:
            if file.file_id <= last_id:
                return True
        return False

    def contains(self, file_id):
        """Return whether a file on storage is in the ring."""
        for file in self._recorded:
            if file.file_id == file_id:
                return True
        return False

    def first_since(self, at_ms):
        """Return the id of the last file that begins at or before `at_ms`, else of the oldest; None if there is none.

        Files of a previous boot count only if they may have ended just before `at_ms`, as far as the clocks tell.
        """
        files = self._recorded + self._closing
        for file in reversed(files):
            if file.begin_ms is not None and not file.is_picture and file.begin_ms <= at_ms:
                return file.file_id
        # The minimum, not the first: storage finishes a picture before the segment of the step before it.
        ids = [f.file_id for f in files if f.begin_ms is not None or not self._ended_before(f.info, at_ms)]
        return min(ids) if ids else None

    def _ended_before(self, info, at_ms):
        unix_ms = self._unix(at_ms)
        duration_ms = max(info.duration_ms, self._segment_ms) + _CLOCK_SLACK_MS
        return bool(info.start_ms and unix_ms and info.start_ms + duration_ms < unix_ms)

    def settle(self):
        """Take the next file that storage has finished into the ring.

        Returns:
            Settled, or None if no file is finished.

        Raises:
            OSError: The file of a refused write cannot be read; it is tried again at the next call.
        """
        if not self._closing or self._closing[0].writer.behind:
            return None
        file = self._closing[0]
        fault = bool(file.writer.fault)
        info = self._measure(file) if fault else file.info
        self._closing.pop(0)
        if info is None:
            return Settled(None, fault)
        file.settle(info)
        self._recorded.append(file)
        return Settled(file, fault)

    def _measure(self, file):
        """Return the FileInfo of a file that storage refused a part of, None if nothing of use is left."""
        name = file_name(file.file_id)
        size, sha256 = 0, ""
        if name in self._files.names():
            size, sha256 = run_to_completion(hash_file(self._files, name, self._buf))
        info = file.info
        self._usage.add(size - info.size)
        if size < clip_format.HEADER_BYTES:
            self._usage.remove(name)
            return None
        return FileInfo(size, sha256, info.start_ms, info.duration_ms, info.frames, info.frames_lost, False)

    def drop_unneeded(self, now):
        """Remove the oldest file if no event from now on would want it. Returns whether a file left the ring."""
        for file in self._recorded[1:]:
            if file.begin_ms is not None and not file.is_picture:
                if file.begin_ms > now - self._pre_ms:
                    return False
                self._drop(self._recorded.pop(0))
                return True
        return False

    def _drop(self, file):
        if not self._index.holds(file.file_id):
            self._usage.remove(file_name(file.file_id))

    def shorten(self):
        """Remove the oldest file that is in no clip, though an event would want it, but never the newest file.

        Returns:
            Whether a file was removed.
        """
        for i in range(len(self._recorded) - (not self._closing)):
            file = self._recorded[i]
            if not self._index.holds(file.file_id):
                self._drop(file)
                del self._recorded[i]
                return True
        return False
