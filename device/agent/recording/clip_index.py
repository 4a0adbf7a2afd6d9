"""The clips on storage, a few numbers each, and what of them is at the hub. What they hold their manifests say."""

import binascii

from compat.steps import whole
from patrolink_protocol import clip as pc

from . import manifest
from .journal import Journal
from .segment import found

OPEN, KEPT, UPLOADED, VERIFIED = range(4)
BUTTON = pc.TRIGGERS.index("button")
SOS = pc.TRIGGERS.index("sos")
PHOTO = pc.TRIGGERS.index("photo")
NO_EVENT = 4294967295  # event of a manifest line that belongs to none
_STEM = 13
STEPS = 1000000  # of a boot
_ALL = "*"


def key_of(stem):
    """Return the number that sorts as a segment's name does, with or without its suffix; -1 for another name."""
    boot, step = manifest.number_in(stem[:6]), manifest.number_in(stem[7:_STEM])
    whole = len(stem) >= _STEM and stem[6] == "-" and stem[_STEM:] in ("", ".pls")
    return boot * STEPS + step if whole and boot >= 0 and step >= 0 else -1


def stem_of(key):
    """Return a segment's name without its suffix."""
    return "%06d-%06d" % (key // STEPS, key % STEPS)


def name_of(key):
    """Return a segment's file name."""
    return pc.name_of(key // STEPS, key % STEPS)


def file_in(said):
    """Return (name without suffix, whether it is a picture) of what a line of a manifest lists; None when nothing."""
    stem = said.get("thumb", said.get("seg"))
    if not isinstance(said.get("bytes"), int) or not isinstance(stem, str) or len(stem) != _STEM:
        return None
    return (stem, "thumb" in said) if said["bytes"] >= 0 and key_of(stem) >= 0 else None


class Clip:
    """
    first, last  keys of its files; -1 while it has none
    sent         keys of its files that are at the hub, 0 for the manifest
    keep         a dispatcher wants it kept
    """

    def __init__(self, number, trigger):
        self.number = number
        self.sos = trigger == SOS
        self.photo = trigger == PHOTO
        self.first = self.last = -1
        self.bytes = 0
        self.state = OPEN
        self.verified_ms = 0
        self.told = self.keep = self.gone = False
        self.sent = set()

    def take(self, key, size):
        """One more file."""
        self.first = key if self.first < 0 else min(self.first, key)
        self.last = max(self.last, key)
        self.bytes += size

    def hear(self, said):
        """Take what a line of its manifest says."""
        listed = file_in(said)
        if listed:
            self.take(key_of(listed[0]), said["bytes"])
        elif said.get("mark") == "sos":
            self.sos = True
        elif "sig" in said and self.state == OPEN:
            self.state = KEPT


class UploadItem:
    """A file to upload. sha256 is hexadecimal."""

    def __init__(self, clip, name, size, sha256, sos):
        self.clip = clip
        self.name = name
        self.bytes = size
        self.sha256 = sha256
        self.sos = sos


class ClipIndex:
    """
    files  the contract of hal Files

    It holds nothing until the steps of `load` are done.
    """

    def __init__(self, files):
        self.files = files
        self.clips = []  # oldest first
        self._places = {}
        self.buf = memoryview(bytearray(512))
        self.journal = Journal(files, self._standing)
        self.waiting = []  # lines of files in no clip that the boots before listed

    def load(self):
        """Steps (compat.steps): read what is on storage. Raises OSError."""
        there = set(self.files.names())
        for name in sorted([n for n in there if manifest.number_of(n) >= 0]):
            yield from self._scan(name, there)
        for said in self.journal.read():
            try:
                self._remember(said)
            except (KeyError, TypeError, ValueError):
                pass  # it is damaged: at worst a file goes up again
            yield

    def _scan(self, name, there):
        clip = None
        for _, said in manifest.lines(self.files, name):
            if clip is None:
                known = said.get("trigger") in pc.TRIGGERS
                # One whose first line is damaged may be anything: nothing of it goes before it has to.
                clip = Clip(manifest.number_of(name), pc.TRIGGERS.index(said["trigger"]) if known else SOS)
                self.clips.append(clip)
            clip.hear(said)
            listed = file_in(said)
            if listed and listed[0] + ".pls" not in there:  # thinned
                clip.bytes -= said["bytes"]
            yield
        if clip is None:
            self.files.remove(name)  # its first line is torn: there is nothing in it

    def _remember(self, said):
        """Take a line of the journal."""
        if file_in(said):
            self.waiting.append(said)
            return
        clip = self.find(said["clip"])
        if clip is None:
            return
        if "sent" in said:
            self._sent(clip, said["sent"])
        elif "place" in said:
            self._places[(clip.number, said["name"])] = said["place"]
        elif "verified" in said:
            clip.state, clip.verified_ms = VERIFIED, int(said["verified"])
        elif "damaged" in said:
            self._anew(clip)
        clip.told = clip.told or "told" in said
        clip.keep = clip.keep or "keep" in said

    def _standing(self):
        """Give the lines of all that stands about clips."""
        for clip in self.clips:
            n = clip.number
            if clip.told:
                yield manifest.dump("clip", n, "told", True)
            if clip.keep:
                yield manifest.dump("clip", n, "keep", True)
            if clip.state == VERIFIED:
                yield manifest.dump("clip", n, "verified", clip.verified_ms)
            elif clip.state == UPLOADED:
                yield manifest.dump("clip", n, "sent", _ALL)
            for key in clip.sent:
                yield manifest.dump("clip", n, "sent", name_of(key) if key else manifest.file_of(n))
        for (n, name), url in self._places.items():
            yield manifest.dump("clip", n, "name", name, "place", url)

    def _sent(self, clip, name):
        if clip.state == VERIFIED:
            return
        if name == _ALL:
            clip.state = UPLOADED
            clip.sent = set()
        else:
            clip.sent.add(0 if name[-4:] == ".plm" else key_of(name))
            self._places.pop((clip.number, name), None)

    def _anew(self, clip):
        if clip.state in (UPLOADED, VERIFIED):
            clip.state = KEPT
        clip.sent = set()
        for place in [p for p in self._places if p[0] == clip.number]:
            del self._places[place]

    def find(self, number):
        """Return a clip, or None."""
        for clip in self.clips:
            if clip.number == number:
                return clip
        return None

    def holds(self, key, but=None):
        """Return whether a file is one of a clip's; `but` is not asked."""
        for clip in self.clips:
            if clip is not but and clip.first <= key <= clip.last:
                return True
        return False

    def listed(self, clip):
        """Give (key, what its line says, whether it is a picture) of each file of a clip."""
        for _, said in manifest.lines(self.files, manifest.file_of(clip.number)):
            listed = file_in(said)
            if listed:
                yield key_of(listed[0]), said, listed[1]

    # --- what the uploader sees -------------------------------------------------------------------------------------

    def pending(self):
        """Give an Item of each file that is to go to the hub, the most important first. Raises OSError.

        Those of an SOS go before others, while it is being recorded too; then snapshots; of a clip its manifest and
        pictures before the video.
        """
        for sos, photo in ((True, False), (False, True), (False, False)):
            for clip in list(self.clips):
                if clip.sos == sos and (sos or clip.photo == photo) and self._goes(clip):
                    left = False
                    for item in self._of(clip):
                        left = True
                        yield item
                    if not left and clip.state == KEPT:
                        self._sent(clip, _ALL)
                        self.journal.say(manifest.dump("clip", clip.number, "sent", _ALL))

    def _goes(self, clip):
        return clip.state == KEPT or (clip.state == OPEN and clip.sos)

    def _of(self, clip):
        name = manifest.file_of(clip.number)
        if clip.state == OPEN and name not in self.files.names():
            return
        if clip.photo:
            for item in self._media(clip, False):
                yield item
        if clip.state == KEPT and 0 not in clip.sent:
            size, sha256 = whole(found(self.files, name, self.buf))
            yield UploadItem(clip.number, name, size, sha256, clip.sos)
        for picture in (True, False):
            for item in self._media(clip, picture):
                yield item

    def _media(self, clip, picture):
        for key, said, is_picture in self.listed(clip):
            if is_picture == picture and key not in clip.sent and self._is_there(key):
                yield UploadItem(clip.number, name_of(key), said["bytes"], said["sha256"], clip.sos)

    def _is_there(self, key):
        """A thinned file is listed still."""
        try:
            self.files.size(name_of(key))
            return True
        except OSError:
            return False

    def read(self, name, at, buf):
        """Fill `buf` from a file's offset `at` on; return how many bytes there were. Raises OSError."""
        return self.files.read(name, at, buf)

    def uploaded(self, number, name):
        """The hub has all of a file."""
        clip = self.find(number)
        if clip is not None:
            self._sent(clip, name)
            self.journal.say(manifest.dump("clip", number, "sent", name))

    def place(self, number, name, url=None):
        """Return the address that a file's upload was given, None when it has none; with `url` keep that."""
        if url is not None and self.find(number) is not None:
            self._places[(number, name)] = url
            self.journal.say(manifest.dump("clip", number, "name", name, "place", url))
        return self._places.get((number, name))

    def damaged(self, number):
        """The hub finds that what it has is not right: all of it goes again."""
        clip = self.find(number)
        if clip is not None:
            self._anew(clip)
            self.journal.say(manifest.dump("clip", number, "damaged", True))

    def preserve(self, number):
        """Keep a clip here though the hub has it, as long as nothing else could go. False: it is not here."""
        clip = self.find(number)
        if clip is None:
            return False
        clip.keep = True
        self.journal.say(manifest.dump("clip", number, "keep", True))
        return True

    def told(self, number):
        """clip_manifest is on its way."""
        clip = self.find(number)
        clip.told = True
        self.journal.say(manifest.dump("clip", number, "told", True))

    def values(self, clip):
        """Return the values of clip_manifest, all steps of `gather` taken."""
        return whole(self.gather(clip))

    def gather(self, clip):
        """Steps to the values of clip_manifest; to None when the clip lists no file or is damaged. Raises OSError."""
        try:
            values = yield from self._values(clip)
            return values
        except (IndexError, KeyError, TypeError, ValueError):
            return None  # its verdict tells

    def _values(self, clip):
        v = {"clip_id": clip.number, "event_id": None, "trigger": SOS if clip.sos else 0}
        v["start_ms"] = v["duration_ms"] = v["pre_event_ms"] = v["segments"] = v["bytes"] = 0
        marked = None  # the segment of the event
        for _, said in manifest.lines(self.files, manifest.file_of(clip.number)):
            if "previous" in said:
                self._take_head(v, said, clip)
            listed = file_in(said)
            if listed and not listed[1]:
                v["segments"] += 1
                v["bytes"] += said["bytes"]
                v["duration_ms"] += said.get("ms", 0)
                v["start_ms"] = v["start_ms"] or said.get("start_ms", 0)
                if marked is None or listed[0] < marked:
                    v["pre_event_ms"] += said.get("ms", 0)
            if "mark" in said and marked is None:
                marked = said["seg"]
                v["pre_event_ms"] += said["at_ms"]
            if "sig" in said:
                v["chain"] = binascii.unhexlify(said["chain"])
                v["signature"] = binascii.unhexlify(said["sig"])
            yield
        if marked is None:  # its event is in a clip before
            v["pre_event_ms"] = 0
        return v if v["segments"] and "signer" in v and "chain" in v else None

    def _take_head(self, v, said, clip):
        previous = binascii.unhexlify(said["previous"])
        v["previous_chain"] = previous if any(previous) else b""
        v["codec"] = [c for c in pc.CODECS if pc.CODECS[c] == said["codec"]][0]
        v["signer"] = binascii.unhexlify(said["signer"])
        v["event_id"] = None if said["event"] == NO_EVENT else said["event"]
        if not clip.sos:
            v["trigger"] = pc.TRIGGERS.index(said["trigger"])
