"""Index of the clips on storage: a few numbers for each clip. The manifests hold everything else."""

import patrolink_enums as enums
from compat.steps import WRITES
from patrolink_protocol import clip as clip_format

from . import manifest
from .clip_files import listed_file, manifest_name, manifest_number, parse_file_id

OPEN, SEALED, UPLOADED, VERIFIED = range(4)  # Clip.state
NO_EVENT = 4294967295  # "event" of a manifest line without an event


class Clip:
    """State of one clip.

    Attributes:
        sos: It holds an SOS, as its first event or a later one.
        photo: It is a snapshot.
        first, last: File ids of its first and last file, -1 while it has none.
        bytes: Size of its media files on storage.
        state: OPEN, SEALED, UPLOADED (all files are at the hub) or VERIFIED (the hub has checked them).
        verified_ms: Unix time of the verification, 0 if not known.
        announced: clip_manifest was sent.
        keep: A dispatcher asked to keep it.
        released: Its media files were removed; the manifest stays while it is the newest one.
        sent: File ids of its files that are at the hub, 0 for the manifest.

    Args:
        number: Number of the clip.
        trigger: clip_manifest.trigger of its first event.
    """

    def __init__(self, number, trigger):
        self.number = number
        self.sos = trigger == enums.CLIP_MANIFEST_TRIGGER_SOS
        self.photo = trigger == enums.CLIP_MANIFEST_TRIGGER_PHOTO
        self.first = self.last = -1
        self.bytes = 0
        self.state = OPEN
        self.verified_ms = 0
        self.announced = self.keep = self.released = False
        self.sent = set()

    def holds(self, file_id):
        """Return whether a file id is in its range."""
        return self.first <= file_id <= self.last

    def add_file(self, file_id, size):
        """Count one more file."""
        self.first = file_id if self.first < 0 else min(self.first, file_id)
        self.last = max(self.last, file_id)
        self.bytes += size

    def remove_bytes(self, size):
        """One of its files was removed, but is still listed."""
        self.bytes -= size

    def apply_line(self, fields):
        """Update from a line of its manifest."""
        listed = listed_file(fields)
        if listed:
            self.add_file(parse_file_id(listed.stem), fields["bytes"])
        elif fields.get("mark") == "sos":
            self.sos = True
        elif "sig" in fields and self.state == OPEN:
            self.state = SEALED

    def mark_sealed(self):
        """Its recording is over."""
        self.state = SEALED

    def mark_uploaded(self):
        """All of its files are at the hub."""
        self.state = UPLOADED
        self.sent = set()

    def mark_verified(self, unix_ms):
        """The hub has verified it."""
        self.state = VERIFIED
        self.verified_ms = unix_ms
        self.sent = set()

    def mark_damaged(self):
        """The hub has damaged files: all of it is to be uploaded again."""
        if self.state in (UPLOADED, VERIFIED):
            self.state = SEALED
        self.sent = set()

    def mark_announced(self):
        """clip_manifest was sent."""
        self.announced = True

    def mark_kept(self):
        """A dispatcher asked to keep it."""
        self.keep = True

    def mark_released(self):
        """Its media files were removed."""
        self.released = True


class ClipIndex:
    """All clips on storage, and those being recorded.

    Attributes:
        clips: List of Clip, oldest first. Empty until the steps of `load` are done.

    Args:
        files: hal Files of the clips.
        journal: journal.Journal that keeps changes.
    """

    def __init__(self, files, journal):
        self.clips = []
        self._files = files
        self._journal = journal

    def load(self):
        """Steps (compat.steps): read all manifests. Raises OSError."""
        names = set(self._files.names())
        for name in sorted([n for n in names if manifest_number(n) >= 0]):
            yield from self._scan(name, names)

    def _scan(self, name, names):
        clip = None
        for line in manifest.read_lines(self._files, name):
            fields = line.fields
            if clip is None:
                known = fields.get("trigger") in clip_format.TRIGGERS
                # With a damaged first line the trigger is unknown: treat it as an SOS, which is kept longest.
                trigger = clip_format.TRIGGERS.index(fields["trigger"]) if known else enums.CLIP_MANIFEST_TRIGGER_SOS
                clip = Clip(manifest_number(name), trigger)
                self.clips.append(clip)
            clip.apply_line(fields)
            listed = listed_file(fields)
            if listed and listed.stem + ".pls" not in names:  # thinned
                clip.remove_bytes(fields["bytes"])
            yield
        if clip is None:
            yield WRITES
            self._files.remove(name)  # the power cut tore its first line: there is nothing in it

    def apply_line(self, clip, fields):
        """Update a clip from a line of the journal. Raises ValueError or TypeError when the line is damaged."""
        if "verified" in fields:
            clip.mark_verified(int(fields["verified"]))
        if "told" in fields:
            clip.mark_announced()
        if "keep" in fields:
            clip.mark_kept()

    def snapshot(self):
        """Yield the journal lines of the current state."""
        for clip in self.clips:
            if clip.announced:
                yield manifest.encode_line("clip", clip.number, "told", True)
            if clip.keep:
                yield manifest.encode_line("clip", clip.number, "keep", True)
            if clip.state == VERIFIED:
                yield manifest.encode_line("clip", clip.number, "verified", clip.verified_ms)

    def add(self, clip):
        """Add a new clip; its number is higher than all others."""
        self.clips.append(clip)

    def remove(self, clip):
        """Remove a clip whose manifest is gone."""
        self.clips.remove(clip)

    def find(self, number):
        """Return the Clip of that number, or None."""
        for clip in self.clips:
            if clip.number == number:
                return clip
        return None

    def holds(self, file_id, except_clip=None):
        """Return whether a file belongs to a clip other than `except_clip`."""
        for clip in self.clips:
            if clip is not except_clip and clip.holds(file_id):
                return True
        return False

    def listed(self, clip):
        """Yield (file id, fields of its line, whether it is a picture) of each file of a clip. Raises OSError."""
        for line in manifest.read_lines(self._files, manifest_name(clip.number)):
            listed = listed_file(line.fields)
            if listed:
                yield parse_file_id(listed.stem), line.fields, listed.is_picture

    def unverified_bytes(self):
        """Return the size of the clips that the hub has not verified."""
        return sum([clip.bytes for clip in self.clips if clip.state != VERIFIED])

    def mark_verified(self, number, unix_ms):
        """The hub has verified a clip, so it may be removed. Returns False if there is nothing to change."""
        clip = self.find(number)
        if clip is None or clip.state in (OPEN, VERIFIED):
            return False
        clip.mark_verified(unix_ms)
        self._journal.append(manifest.encode_line("clip", number, "verified", unix_ms))
        return True

    def mark_announced(self, clip):
        """clip_manifest of a clip was sent."""
        clip.mark_announced()
        self._journal.append(manifest.encode_line("clip", clip.number, "told", True))

    def preserve(self, number):
        """Keep a clip after its verification for as long as other files can be removed. False: no such clip."""
        clip = self.find(number)
        if clip is None:
            return False
        clip.mark_kept()
        self._journal.append(manifest.encode_line("clip", number, "keep", True))
        return True
