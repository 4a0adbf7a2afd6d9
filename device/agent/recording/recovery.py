"""What an earlier boot left: a clip without its seal is closed, files in no clip are the ring's beginning."""

from patrolink_protocol import clip as pc

from . import manifest
from .clip_index import KEPT, OPEN, file_in, key_of, name_of
from .open_clip import RecordedFile
from .segment import found

_NOBODY = b"\0" * 32


def recover(shelf, signer, most):
    """Steps to (chain of the last clip, files of the ring: `most` of them): close what is open. Raises OSError."""
    files = shelf.files
    if manifest.MENDING in files.names():
        files.remove(manifest.MENDING)
    said = {}
    for line in shelf.waiting:
        said[key_of(file_in(line)[0])] = line
    yield
    read = {}

    def entry(key):
        """Files are read when they are wanted: there may be thousands."""
        if key not in read:
            read[key] = yield from _entry(shelf, key, said.get(key))
            yield
        return read[key]

    keys = _loose(files, shelf)
    yield
    for clip in shelf.clips:
        if clip.state == OPEN:
            yield from _close(files, signer, clip, keys, entry)
    keys = [key for key in keys if not shelf.holds(key) and read.get(key, True)]
    for key in keys[:-most]:
        files.remove(name_of(key))
        yield
    ring = []
    for key in keys[-most:]:
        it = yield from entry(key)
        if it is not None:
            ring.append(it)
    chain = yield from _last_chain(shelf)
    return chain, ring


def _loose(files, shelf):
    """Return the keys of files that no clip with a seal lists, in their order."""
    keys = [key_of(name) for name in files.names() if name[-4:] == ".pls" and key_of(name) >= 0]
    done = [clip for clip in shelf.clips if clip.state != OPEN]
    return sorted([key for key in keys if not [clip for clip in done if clip.first <= key <= clip.last]])


def _entry(shelf, key, said):
    """Steps to the Entry of a file, of what the journal says of it or as it is found; None: there is nothing in it."""
    name = name_of(key)
    if said is not None and said["bytes"] == shelf.files.size(name) and manifest.unhex(said, "sha256", 32):
        if "thumb" in said:
            return RecordedFile(key, True, None, (said["bytes"], said["sha256"], 0, 0, 1, 0, True))
        facts = [said.get(k, 0) for k in ("bytes", "sha256", "start_ms", "ms", "frames", "lost", "whole")]
        return RecordedFile(key, False, None, tuple(facts))
    head = bytearray(pc.HEADER)
    try:
        header = pc.unpack_header(head[: shelf.files.read(name, 0, head)])
    except pc.BadSegment:
        shelf.files.remove(name)
        return None
    size, sha256 = yield from found(shelf.files, name, shelf.buf)
    return RecordedFile(key, header.codec == pc.JPEG, None, (size, sha256, header.start_ms, 0, 0, 0, False))


def _close(files, signer, clip, keys, entry):
    """Steps: list what belongs to a clip that the power ended, close and seal it.

    One that another key began is left as it is: under this one's seal it would look tampered with.
    """
    name = manifest.file_of(clip.number)
    yield from manifest.mend(files, name)
    yield
    chain = None
    closed = False
    listed = set()
    since = 0
    for line, said in manifest.lines(files, name):
        if chain is None:
            chain = manifest.unhex(said, "previous", 32) or _NOBODY
            if manifest.unhex(said, "signer", pc.PUBLIC) not in (None, signer.public):
                clip.state = KEPT
                return
        chain = pc.link(chain, line)
        closed = closed or "close" in said
        if file_in(said):
            listed.add(key_of(file_in(said)[0]))
            since = since or ("seg" in said and key_of(said["seg"]))
        yield
    lines = []
    if not closed:
        for key in keys:
            # The ring is listed before anything else: what is older than the first of it is none of this clip's.
            if key <= since or key in listed:
                continue
            it = yield from entry(key)
            if it is not None:
                clip.take(key, it.said[0])
                lines.append(it.line(it.picture and not clip.photo))
        lines.append(manifest.dump("close", "power", "time_ms", 0))
    for line in lines:
        files.append(name, line)
        chain = pc.link(chain, line)
        yield
    seal = yield from manifest.seal_of(chain, signer.sign)
    yield
    files.append(name, seal)
    yield
    clip.state = KEPT


def _last_chain(shelf):
    """Steps to the chain that the next clip goes on from."""
    chain = _NOBODY
    if shelf.clips:
        for _, said in manifest.lines(shelf.files, manifest.file_of(shelf.clips[-1].number)):
            if "sig" in said:
                chain = manifest.unhex(said, "chain", 32) or _NOBODY
            yield
    return chain
