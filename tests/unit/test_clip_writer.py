"""A card's writer on a runtime that writes at once: what is closed is on storage before anything tells of it."""

import os

from hal import clip_storage

BUILD = __file__.rsplit("/", 1)[0] + "/../../build/"


class System:
    """The runtime's `os`, with what storage is asked to keep written down."""

    def __init__(self, path):
        self.path = path
        self.kept = []

    def sync(self):
        self.kept.append(os.stat(self.path)[6])

    def __getattr__(self, name):
        return getattr(os, name)


def test_a_file_that_is_closed_is_on_storage():
    path = BUILD + "card-%d" % int.from_bytes(os.urandom(4), "big")
    system = clip_storage.os = System(path)
    try:
        writer = clip_storage.Writer(path)
        writer.write(b"x" * 100)
        writer.sync()
        writer.write(b"y" * 50)
        writer.close()
        assert system.kept == [100, 150] and writer.fault == "" and writer.behind == 0
        writer.close()
        assert system.kept == [100, 150]
        os.remove(path)
    finally:
        clip_storage.os = os


def test_a_file_that_cannot_be_opened_says_why_and_takes_what_comes():
    writer = clip_storage.Writer(BUILD + "no-such-folder/file")
    assert writer.fault
    writer.write(b"x")
    writer.sync()
    writer.close()
    assert writer.behind == 0
