"""Announces sealed clips to the hub: computes the values of clip_manifest from a manifest."""

import binascii

import patrolink_enums as enums
from patrolink_protocol import clip as clip_format

from . import manifest
from .clip_files import listed_file, manifest_name
from .clip_index import NO_EVENT, OPEN


class Announcer:
    """Calls `on_sealed` once for each sealed clip that was not announced yet.

    Args:
        files: hal Files of the clips.
        index: clip_index.ClipIndex.
        on_sealed: Function(values of clip_manifest). It raises ValueError if no message can hold them.
    """

    def __init__(self, files, index, on_sealed):
        self._files = files
        self._index = index
        self._on_sealed = on_sealed
        self._due = True  # there may be clips to announce
        self._steps = None

    def notify(self):
        """A clip was sealed."""
        self._due = True

    def serve(self):
        """Take one step. Raises OSError."""
        if self._due and self._steps is None:
            self._due = False
            self._steps = self._announce()
        if self._steps is None:
            return
        try:
            next(self._steps)
        except StopIteration:
            self._steps = None
        except OSError:
            self._due, self._steps = True, None
            raise

    def _announce(self):
        for clip in list(self._index.clips):
            if clip.state != OPEN and not clip.announced:
                values = yield from clip_manifest_values(self._files, clip)
                try:
                    if values is not None:
                        self._on_sealed(values)
                except ValueError:
                    pass  # no message can hold the values: the manifest is damaged, and its verdict says so
                self._index.mark_announced(clip)


def clip_manifest_values(files, clip):
    """Steps to the values of clip_manifest (schema.toml), or to None if the clip is damaged or lists no file.

    Args:
        files: hal Files of the clips.
        clip: The clip_index.Clip.

    Raises:
        OSError: The manifest cannot be read.
    """
    try:
        values = yield from _values(files, clip)
        return values
    except (IndexError, KeyError, TypeError, ValueError):
        return None


def _values(files, clip):
    v = {"clip_id": clip.number, "event_id": None, "trigger": enums.CLIP_MANIFEST_TRIGGER_SOS if clip.sos else 0}
    v["start_ms"] = v["duration_ms"] = v["pre_event_ms"] = v["segments"] = v["bytes"] = 0
    event_stem = None  # the segment of the first event
    for line in manifest.read_lines(files, manifest_name(clip.number)):
        fields = line.fields
        if "previous" in fields:
            _add_head(v, fields, clip)
        listed = listed_file(fields)
        if listed and not listed.is_picture:
            v["segments"] += 1
            v["bytes"] += fields["bytes"]
            v["duration_ms"] += fields.get("ms", 0)
            v["start_ms"] = v["start_ms"] or fields.get("start_ms", 0)
            if event_stem is None or listed.stem < event_stem:
                v["pre_event_ms"] += fields.get("ms", 0)
        if "mark" in fields and event_stem is None:
            event_stem = fields["seg"]
            v["pre_event_ms"] += fields["at_ms"]
        if "sig" in fields:
            v["chain"] = binascii.unhexlify(fields["chain"])
            v["signature"] = binascii.unhexlify(fields["sig"])
        yield
    if event_stem is None:  # the event is in the clip that this one follows
        v["pre_event_ms"] = 0
    v["pre_event_ms"] = min(v["pre_event_ms"], v["duration_ms"])  # a segment cut by a power loss has no duration
    lengths = [len(v[name]) for name in ("signer", "chain", "signature")]
    return v if v["segments"] and lengths == [clip_format.PUBLIC_KEY_BYTES, 32, 64] else None


def _add_head(v, fields, clip):
    previous = binascii.unhexlify(fields["previous"])
    v["previous_chain"] = previous if any(previous) else b""
    v["codec"] = [c for c in clip_format.CODECS if clip_format.CODECS[c] == fields["codec"]][0]
    v["signer"] = binascii.unhexlify(fields["signer"])
    v["event_id"] = None if fields["event"] == NO_EVENT else fields["event"]
    if not clip.sos:
        v["trigger"] = clip_format.TRIGGERS.index(fields["trigger"])
