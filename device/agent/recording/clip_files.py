"""Names of the files of clips: segments, pictures and manifests (protocol/CLIP.md, "Segment" and "Manifest").

A file id is `boot * STEPS_PER_BOOT + step`. Ids sort like the file names, in the order of recording.
"""

from collections import namedtuple

from patrolink_protocol import clip as clip_format

STEPS_PER_BOOT = 1000000
_STEM_CHARS = 13

# A file that a manifest line lists. `stem` is its name without the suffix.
ListedFile = namedtuple("ListedFile", ("stem", "is_picture"))


def parse_decimal(text):
    """Return the number that a text of decimal digits encodes, or -1 for any other text."""
    for c in text:
        if not "0" <= c <= "9":
            return -1
    return int(text) if text else -1


def parse_file_id(name):
    """Return the file id of a segment's name, with or without its suffix, or -1 for any other name."""
    boot, step = parse_decimal(name[:6]), parse_decimal(name[7:_STEM_CHARS])
    complete = len(name) >= _STEM_CHARS and name[6] == "-" and name[_STEM_CHARS:] in ("", ".pls")
    return boot * STEPS_PER_BOOT + step if complete and boot >= 0 and step >= 0 else -1


def file_stem(file_id):
    """Return a segment's file name without its suffix."""
    return "%06d-%06d" % (file_id // STEPS_PER_BOOT, file_id % STEPS_PER_BOOT)


def file_name(file_id):
    """Return a segment's file name."""
    return clip_format.segment_name(file_id // STEPS_PER_BOOT, file_id % STEPS_PER_BOOT)


def manifest_name(number):
    """Return the file name of a clip's manifest."""
    return "%06d.plm" % number


def manifest_number(name):
    """Return the number of the clip whose manifest has this name, or -1 for any other file."""
    return parse_decimal(name[:6]) if len(name) == 10 and name[6:] == ".plm" else -1


def listed_file(fields):
    """Return the ListedFile of a manifest line, or None if the line lists no file.

    Args:
        fields: The decoded line, a dict.
    """
    stem = fields.get("thumb", fields.get("seg"))
    if not isinstance(fields.get("bytes"), int) or not isinstance(stem, str) or len(stem) != _STEM_CHARS:
        return None
    return ListedFile(stem, "thumb" in fields) if fields["bytes"] >= 0 and parse_file_id(stem) >= 0 else None
