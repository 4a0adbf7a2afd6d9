"""Writer of clip storage on a runtime without a writer thread: data is on storage after sync() and close()."""

import os

from hal import clip_storage

BUILD = __file__.rsplit("/", 1)[0] + "/../../build/"


class RecordingOs:
    """The module `os`, with a record of the size of a file at each sync()."""

    def __init__(self, path):
        self.path = path
        self.synced_bytes = []

    def sync(self):
        self.synced_bytes.append(os.stat(self.path)[6])

    def __getattr__(self, name):
        return getattr(os, name)


def test_closed_file_is_on_storage():
    path = BUILD + "clip-%d" % int.from_bytes(os.urandom(4), "big")
    system = clip_storage.os = RecordingOs(path)
    try:
        writer = clip_storage.Writer(path)
        writer.write(b"x" * 100)
        writer.sync()
        writer.write(b"y" * 50)
        writer.close()
        assert system.synced_bytes == [100, 150] and writer.fault == "" and writer.behind == 0
        writer.close()
        assert system.synced_bytes == [100, 150]
        os.remove(path)
    finally:
        clip_storage.os = os


def test_failed_open_is_reported_and_later_writes_are_discarded():
    writer = clip_storage.Writer(BUILD + "no-such-folder/file")
    assert writer.fault
    writer.write(b"x")
    writer.sync()
    writer.close()
    assert writer.behind == 0
