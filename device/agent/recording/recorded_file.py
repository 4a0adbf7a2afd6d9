"""A media file of the ring or of a clip whose recording has ended."""

from collections import namedtuple

from . import manifest
from .clip_files import file_stem

# What a manifest says of a file: `sha256` in hexadecimal, `start_ms` unix time or 0, `frames_lost` within the file,
# `complete` False for a file that a power cut or a storage fault ended.
FileInfo = namedtuple("FileInfo", ("size", "sha256", "start_ms", "duration_ms", "frames", "frames_lost", "complete"))


class RecordedFile:
    """A segment or a picture. Its writer may still be busy.

    Args:
        file_id: Its id (clip_files).
        is_picture: Whether it is a JPEG, not a segment of video.
        begin_ms: Monotonic time of the first frame; None if a previous boot recorded it.
        info: FileInfo.
        writer: The hal Writer, or None once the file is on storage.
    """

    def __init__(self, file_id, is_picture, begin_ms, info, writer=None):
        self.file_id = file_id
        self.is_picture = is_picture
        self.begin_ms = begin_ms
        self.info = info
        self.writer = writer

    def settle(self, info):
        """The writer has finished, and the file is as `info` says."""
        self.writer = None
        self.info = info

    def line(self, as_thumbnail):
        """Return its manifest line: a thumbnail of the clip, or a part of it."""
        f = self.info
        if as_thumbnail:
            return manifest.encode_line("thumb", file_stem(self.file_id), "bytes", f.size, "sha256", f.sha256)
        line = ["seg", file_stem(self.file_id), "bytes", f.size, "sha256", f.sha256, "start_ms", f.start_ms]
        line += ["ms", f.duration_ms, "frames", f.frames, "lost", f.frames_lost, "whole", f.complete]
        return manifest.encode_line(*line)
