"""One clip that is being recorded: which files it may hold, and its manifest."""

import binascii

import patrolink_enums as enums
from patrolink_protocol import clip as clip_format

from . import manifest
from .clip_files import file_stem
from .clip_index import Clip


class OpenClip:
    """A clip that has no seal yet.

    Attributes:
        clip: Its clip_index.Clip.
        last_id: File id of the last file that it may hold; None while the recording continues.
        manifest: Its ManifestWriter.
        closed: The close line is written; only the seal follows.

    Args:
        number: Number of the clip.
        trigger: clip_manifest.trigger of its first event.
        first_id: File id of the first file that it may hold.
        head: Keys and values of the first manifest line (see head_pairs).
        follows: Number of the clip that this one continues, or None.
        files: hal Files of the clips.
    """

    def __init__(self, number, trigger, first_id, head, follows, files):
        self.clip = Clip(number, trigger)
        self.manifest = manifest.ManifestWriter(files, number)
        self.last_id = None
        self.closed = False
        self._first_id = first_id
        self._reason = None
        self._head = head
        self._follows = follows
        self._sealing = None  # steps to the seal, while they are taken

    def start(self, previous, signer):
        """Begin the manifest; `previous` is the chain of the previous clip, which is sealed now."""
        if self.manifest.chain is not None:
            return
        pairs = self._head + ["previous", binascii.hexlify(previous).decode()]
        pairs += ["signer", binascii.hexlify(signer.public).decode()]
        if self._follows is not None:
            pairs += ["follows", self._follows]
        self.manifest.start(manifest.encode_line(*pairs), previous)

    def add_file(self, file):
        """List a RecordedFile if it belongs to this clip."""
        if file.file_id >= self._first_id and (self.last_id is None or file.file_id <= self.last_id):
            self.clip.add_file(file.file_id, file.info.size)
            self.manifest.append(file.line(file.is_picture and not self.clip.photo))

    def mark(self, trigger, event_id, unix_ms, file_id, at_ms):
        """Record an event at `at_ms` of a file. An SOS makes the clip an SOS clip."""
        name = clip_format.TRIGGERS[trigger]
        self.clip.apply_line({"mark": name})
        pairs = ["mark", name, "event", event_id, "time_ms", unix_ms, "seg", file_stem(file_id), "at_ms", at_ms]
        self.manifest.append(manifest.encode_line(*pairs))

    def end(self, reason, last_id):
        """End the recording: `last_id` is the last file, `reason` goes into the close line."""
        self.last_id = last_id
        self._reason = reason

    def close(self, unix_ms, signer):
        """All files are listed: write the close line, and begin to seal."""
        if self.manifest.lost:
            pairs = ["access", "lost", "who", "device", "time_ms", unix_ms, "lines", self.manifest.lost]
            self.manifest.append(manifest.encode_line(*pairs), True)
        self.manifest.append(manifest.encode_line("close", self._reason, "time_ms", unix_ms), True)
        self.closed = True
        self._sealing = self.manifest.seal(signer.sign)

    def has_step(self):
        """Return whether steps to the seal are left."""
        return self._sealing is not None

    def step(self):
        """Take one step to the seal."""
        try:
            next(self._sealing)
        except StopIteration:
            self._sealing = None

    def sealed(self):
        """Return whether the seal is on storage."""
        return self.closed and self._sealing is None and self.manifest.saved()


def head_pairs(number, device, boot, codec, trigger, event_id, unix_ms, pre_s):
    """Return keys and values of a manifest's first line, without those that depend on the previous clip."""
    head = ["clip", number, "v", 1, "device", device, "boot", boot, "codec", clip_format.CODECS[codec]]
    head += ["trigger", clip_format.TRIGGERS[trigger], "event", event_id, "time_ms", unix_ms]
    return head + ["pre_s", 0 if trigger == enums.CLIP_MANIFEST_TRIGGER_PHOTO else pre_s]
