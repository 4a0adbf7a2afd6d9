"""Accounting of the storage that clips and ring occupy, and the removal of their files."""

from .access_notes import is_notes
from .clip_files import manifest_number, parse_file_id

_RESERVE_KB = 64  # of the file system, kept free for manifests


class StorageUsage:
    """Counts the bytes of all files of the clips, without the journal, which counts its own.

    Storage removes a file some time after it was asked to; until then the file still exists but counts no more.

    Attributes:
        bytes: Size of all files.
        quota: Bytes that files and journal may occupy.

    Args:
        files: hal Files of the clips.
        journal: journal.Journal.
        quota_kb: The quota, KiB.
    """

    def __init__(self, files, journal, quota_kb):
        self.bytes = 0
        self.quota = quota_kb * 1024
        self._files = files
        self._journal = journal
        self._removing = set()

    def load(self):
        """Steps (compat.steps): count the files on storage. Raises OSError."""
        for name in self._files.names():
            if parse_file_id(name) >= 0 or manifest_number(name) >= 0 or is_notes(name):
                self.bytes += self._files.size(name)
                yield

    def add(self, size):
        """Files have grown by `size` bytes, or shrunk if it is negative."""
        self.bytes += size

    def remove(self, name):
        """Remove a file, and return its size: 0 if it does not exist or is being removed already."""
        if name in self._removing:
            return 0
        try:
            size = self._files.size(name)
        except OSError:
            return 0
        self.bytes -= size
        self._removing.add(name)
        self._files.drop(name)
        return size

    def has(self, name):
        """Return whether a file exists and is not being removed."""
        if name in self._removing:
            return False
        try:
            self._files.size(name)
            return True
        except OSError:
            return False

    def forget_removed(self):
        """Forget the files that storage has removed by now. Raises OSError."""
        if self._removing:
            self._removing.intersection_update(self._files.names())

    def fits(self, size, free_kb):
        """Return whether a new file fits.

        Args:
            size: Bytes of the new file.
            free_kb: Free space of the file system in KiB, None if not known.
        """
        return self.bytes + self._journal.size + size <= self.quota and (
            free_kb is None or free_kb >= (size >> 10) + _RESERVE_KB
        )
