"""Which files of the clips the hub still needs, in the order of their importance."""

from collections import namedtuple

from compat.steps import run_to_completion

from . import manifest
from .clip_files import file_name, manifest_name, parse_file_id
from .clip_index import OPEN, SEALED, UPLOADED, VERIFIED
from .segment import hash_file

_ALL = "*"  # "sent" of a clip whose files are all at the hub

# A file to upload. `clip` is the number of its clip, `sha256` hexadecimal, `sos` whether the clip holds an SOS.
UploadItem = namedtuple("UploadItem", ("clip", "name", "bytes", "sha256", "sos"))


class UploadQueue:
    """The uploader's view of the clips: pending files, and the state of their uploads.

    Args:
        files: hal Files of the clips.
        index: clip_index.ClipIndex.
        usage: storage_usage.StorageUsage, which knows the files being removed.
        journal: journal.Journal that keeps changes.
        buf: Buffer for reading files, a memoryview.
    """

    def __init__(self, files, index, usage, journal, buf):
        self._files = files
        self._index = index
        self._usage = usage
        self._journal = journal
        self._urls = {}  # (clip, name) -> path of its upload at the hub
        self._buf = buf

    def apply_line(self, clip, fields):
        """Update from a line of the journal. Raises KeyError, TypeError or ValueError when the line is damaged."""
        if "sent" in fields:
            self._mark(clip, fields["sent"])
        elif "place" in fields:
            self._urls[(clip.number, fields["name"])] = fields["place"]
        elif "damaged" in fields:
            self._restart(clip)

    def snapshot(self):
        """Yield the journal lines of the current state."""
        for clip in self._index.clips:
            if clip.state == UPLOADED:
                yield manifest.encode_line("clip", clip.number, "sent", _ALL)
            for file_id in clip.sent:
                name = file_name(file_id) if file_id else manifest_name(clip.number)
                yield manifest.encode_line("clip", clip.number, "sent", name)
        for (number, name), url in self._urls.items():
            yield manifest.encode_line("clip", number, "name", name, "place", url)

    def _mark(self, clip, name):
        if clip.state == VERIFIED:
            return
        if name == _ALL:
            clip.mark_uploaded()
        else:
            clip.sent.add(0 if name[-4:] == ".plm" else parse_file_id(name))
            self._urls.pop((clip.number, name), None)

    def _restart(self, clip):
        clip.mark_damaged()
        for key in [k for k in self._urls if k[0] == clip.number]:
            del self._urls[key]

    def pending(self):
        """Yield the UploadItem of each file that the hub needs, the most important first.

        Clips with an SOS come first, even while they are being recorded, then snapshots, then all others. Of a clip,
        the manifest and the pictures come before the video; of a snapshot, the picture comes first.

        Raises:
            OSError: Storage cannot be read.
        """
        for sos, photo in ((True, False), (False, True), (False, False)):
            for clip in list(self._index.clips):
                if clip.sos == sos and (sos or clip.photo == photo) and self._is_ready(clip):
                    empty = True
                    for item in self._items(clip):
                        empty = False
                        yield item
                    if empty and clip.state == SEALED:
                        clip.mark_uploaded()
                        self._journal.append(manifest.encode_line("clip", clip.number, "sent", _ALL))

    def _is_ready(self, clip):
        return clip.state == SEALED or (clip.state == OPEN and clip.sos)

    def _items(self, clip):
        name = manifest_name(clip.number)
        if clip.state == OPEN and name not in self._files.names():
            return
        if clip.photo:
            for item in self._media(clip, False):
                yield item
        if clip.state == SEALED and 0 not in clip.sent:
            size, sha256 = run_to_completion(hash_file(self._files, name, self._buf))
            yield UploadItem(clip.number, name, size, sha256, clip.sos)
        for pictures in (True, False):
            for item in self._media(clip, pictures):
                yield item

    def _media(self, clip, pictures):
        for file_id, fields, is_picture in self._index.listed(clip):
            if is_picture == pictures and file_id not in clip.sent and self._usage.has(file_name(file_id)):
                yield UploadItem(clip.number, file_name(file_id), fields["bytes"], fields["sha256"], clip.sos)

    def read(self, name, at, buf):
        """Fill `buf` from a file's offset `at`, and return the number of bytes read. Raises OSError."""
        return self._files.read(name, at, buf)

    def mark_uploaded(self, number, name):
        """The hub has the whole file."""
        clip = self._index.find(number)
        if clip is not None:
            self._mark(clip, name)
            self._journal.append(manifest.encode_line("clip", number, "sent", name))

    def mark_damaged(self, number):
        """The hub found a clip damaged: upload all of it again."""
        clip = self._index.find(number)
        if clip is not None:
            self._restart(clip)
            self._journal.append(manifest.encode_line("clip", number, "damaged", True))

    def upload_url(self, number, name):
        """Return the path of a file's upload at the hub, or None if it has none."""
        return self._urls.get((number, name))

    def set_upload_url(self, number, name, url):
        """Keep the path that the hub gave to a file's upload."""
        if self._index.find(number) is not None:
            self._urls[(number, name)] = url
            self._journal.append(manifest.encode_line("clip", number, "name", name, "place", url))
