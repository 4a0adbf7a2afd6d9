"""A clip while it is written, and the files that it is made of."""

import binascii

from patrolink_protocol import clip as pc

from . import manifest
from .clip_index import PHOTO, Clip, stem_of


class RecordedFile:
    """A file that has its end.

    start  monotonic ms of its first frame, None when a boot before this one wrote it
    said   (bytes, SHA-256 in hexadecimal, unix ms of its start or 0, ms, frames, frames lost, whether it is whole)
    """

    def __init__(self, key, picture, start, said, writer=None):
        self.key = key
        self.picture = picture
        self.start = start
        self.said = said
        self.writer = writer

    def line(self, beside):
        """Return its line in a manifest: as what a clip is made of, or as a picture beside that."""
        s = self.said
        if beside:
            return manifest.dump("thumb", stem_of(self.key), "bytes", s[0], "sha256", s[1])
        line = ["seg", stem_of(self.key), "bytes", s[0], "sha256", s[1], "start_ms", s[2], "ms", s[3]]
        return manifest.dump(*(line + ["frames", s[4], "lost", s[5], "whole", s[6]]))


class OpenClip:
    """
    clip     its catalog.Clip
    since    key of the first file that it may have; until: of the last, None as long as it goes on
    why      how it ended
    """

    def __init__(self, number, trigger, since, head, follows, files):
        self.clip = Clip(number, trigger)
        self.since = since
        self.until = None
        self.why = None
        self.manifest = manifest.Manifest(files, number)
        self._head = head
        self._follows = follows
        self.ended = False  # nothing more is said in it
        self.sealing = None  # steps to its seal, while they are taken

    def start(self, previous, signer):
        """The clip before has its seal, and this is its chain."""
        if self.manifest.chain is not None:
            return
        pairs = self._head + ["previous", binascii.hexlify(previous).decode()]
        pairs += ["signer", binascii.hexlify(signer.public).decode()]
        if self._follows is not None:
            pairs += ["follows", self._follows]
        self.manifest.start(manifest.dump(*pairs), previous)

    def take(self, entry):
        """List a file, if it is one of this clip's."""
        if entry.key >= self.since and (self.until is None or entry.key <= self.until):
            self.clip.take(entry.key, entry.said[0])
            self.manifest.say(entry.line(entry.picture and not self.clip.photo))

    def mark(self, trigger, event, unix_ms, key, at_ms):
        """One more event: file and place in it. An SOS makes it an SOS's clip."""
        stem = stem_of(key)
        self.clip.hear({"mark": pc.TRIGGERS[trigger]})
        self.manifest.say(
            manifest.dump("mark", pc.TRIGGERS[trigger], "event", event, "time_ms", unix_ms, "seg", stem, "at_ms", at_ms)
        )

    def end(self, unix_ms, signer):
        """All of its files are listed: close, and begin to seal."""
        if self.manifest.lost:
            lost = ["access", "lost", "who", "device", "time_ms", unix_ms, "lines", self.manifest.lost]
            self.manifest.say(manifest.dump(*lost), True)
        self.manifest.say(manifest.dump("close", self.why, "time_ms", unix_ms), True)
        self.ended = True
        self.sealing = self.manifest.seal(signer.sign)

    def step(self):
        """Take a step to the seal."""
        try:
            next(self.sealing)
        except StopIteration:
            self.sealing = None

    def sealed(self):
        """Return whether its seal is on storage."""
        return self.ended and self.sealing is None and self.manifest.saved()


def head_of(number, device, boot, codec, trigger, event, unix_ms, pre_s):
    """Return keys and values of a manifest's first line, but for what the clip before decides."""
    head = ["clip", number, "v", 1, "device", device, "boot", boot, "codec", pc.CODECS[codec]]
    head += ["trigger", pc.TRIGGERS[trigger], "event", event, "time_ms", unix_ms]
    return head + ["pre_s", 0 if trigger == PHOTO else pre_s]
