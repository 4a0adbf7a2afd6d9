"""Recovery after a power cut: seals the clip that was open, and takes loose files into the ring."""

from collections import namedtuple

from compat.steps import WRITES
from patrolink_protocol import clip as clip_format

from . import manifest
from .clip_files import file_name, listed_file, manifest_name, parse_file_id
from .clip_index import OPEN
from .recorded_file import FileInfo, RecordedFile
from .segment import hash_file

NO_CHAIN = b"\0" * 32

# `chain` of the last clip, and the RecordedFiles of the ring, oldest first.
Recovery = namedtuple("Recovery", ("chain", "ring"))


def recover(files, index, loose, signer, ring_files_max, buf):
    """Steps to a Recovery: close and seal open clips, and remove files that no event would want.

    Args:
        files: hal Files of the clips.
        index: clip_index.ClipIndex, loaded.
        loose: File id -> fields of the journal line, of files that belong to no clip.
        signer: agent.recording.signer.Signer.
        ring_files_max: How many files of the ring are kept.
        buf: Buffer for reading files, a memoryview.

    Raises:
        OSError: Storage cannot be read or written.
    """
    if manifest.REPAIR_FILE in files.names():
        yield WRITES
        files.remove(manifest.REPAIR_FILE)
    yield
    reader = _FileReader(files, loose, buf)
    ids = _unsealed_ids(files, index)
    yield
    for clip in index.clips:
        if clip.state == OPEN:
            yield from _close(files, signer, clip, ids, reader)
    ids = [file_id for file_id in ids if not index.holds(file_id) and not reader.is_empty(file_id)]
    for file_id in ids[:-ring_files_max]:
        yield WRITES
        files.remove(file_name(file_id))
    yield
    ring = []
    for file_id in ids[-ring_files_max:]:
        file = yield from reader.read(file_id)
        if file is not None:
            ring.append(file)
    chain = yield from _last_chain(files, index)
    return Recovery(chain, ring)


def _unsealed_ids(files, index):
    """Return the ids of the files that no sealed clip lists, in order."""
    ids = [parse_file_id(name) for name in files.names() if name[-4:] == ".pls" and parse_file_id(name) >= 0]
    sealed = [clip for clip in index.clips if clip.state != OPEN]
    return sorted([file_id for file_id in ids if not [clip for clip in sealed if clip.holds(file_id)]])


class _FileReader:
    """Reads files on demand, each once: there may be thousands."""

    def __init__(self, files, loose, buf):
        self._files = files
        self._loose = loose
        self._recorded = {}
        self._buf = buf

    def is_empty(self, file_id):
        """Return whether a file was read and holds nothing."""
        return self._recorded.get(file_id, self) is None

    def read(self, file_id):
        """Steps to the RecordedFile, None if there is nothing in it."""
        if file_id not in self._recorded:
            self._recorded[file_id] = yield from self._read(file_id)
            yield
        return self._recorded[file_id]

    def _read(self, file_id):
        name = file_name(file_id)
        fields = self._loose.get(file_id)
        if fields is not None:
            if fields["bytes"] == self._files.size(name) and manifest.decode_hex(fields, "sha256", 32):
                return _from_journal(file_id, fields)
        head = bytearray(clip_format.HEADER_BYTES)
        try:
            header = clip_format.unpack_header(head[: self._files.read(name, 0, head)])
        except clip_format.SegmentError:
            yield WRITES
            self._files.remove(name)
            return None
        size, sha256 = yield from hash_file(self._files, name, self._buf)
        info = FileInfo(size, sha256, header.start_ms, 0, 0, 0, False)
        return RecordedFile(file_id, header.codec == clip_format.JPEG, None, info)


def _from_journal(file_id, fields):
    if "thumb" in fields:
        return RecordedFile(file_id, True, None, FileInfo(fields["bytes"], fields["sha256"], 0, 0, 1, 0, True))
    info = [fields.get(k, 0) for k in ("bytes", "sha256", "start_ms", "ms", "frames", "lost", "whole")]
    return RecordedFile(file_id, False, None, FileInfo(*info))


def _close(files, signer, clip, ids, reader):
    """Steps: list the files of a clip that the power cut ended, close it and seal it.

    A clip that was begun under another signing key stays as it is: with a seal of this key it would look tampered with.
    """
    name = manifest_name(clip.number)
    yield from manifest.remove_partial_line(files, name)
    yield
    chain = None
    closed = False
    listed_ids = set()
    first_id = 0
    for line in manifest.read_lines(files, name):
        fields = line.fields
        if chain is None:
            chain = manifest.decode_hex(fields, "previous", 32) or NO_CHAIN
            if manifest.decode_hex(fields, "signer", clip_format.PUBLIC_KEY_BYTES) not in (None, signer.public):
                clip.mark_sealed()
                return
        chain = clip_format.extend_chain(chain, line.raw)
        closed = closed or "close" in fields
        listed = listed_file(fields)
        if listed:
            file_id = parse_file_id(listed.stem)
            listed_ids.add(file_id)
            first_id = first_id or ("seg" in fields and file_id)
        yield
    lines = []
    if not closed:
        for file_id in ids:
            # The files of the ring are listed first, so a file older than the first listed one is not in this clip.
            if file_id <= first_id or file_id in listed_ids:
                continue
            file = yield from reader.read(file_id)
            if file is not None:
                clip.add_file(file_id, file.info.size)
                lines.append(file.line(file.is_picture and not clip.photo))
        lines.append(manifest.encode_line("close", "power", "time_ms", 0))
    yield from _append_sealed(files, signer, name, lines, chain)
    clip.mark_sealed()


def _append_sealed(files, signer, name, lines, chain):
    for line in lines:
        yield WRITES
        files.append(name, line)
        chain = clip_format.extend_chain(chain, line)
    yield
    seal = yield from manifest.seal_line(chain, signer.sign)
    yield WRITES
    files.append(name, seal)
    yield


def _last_chain(files, index):
    """Steps to the chain that the next clip continues."""
    chain = NO_CHAIN
    if index.clips:
        for line in manifest.read_lines(files, manifest_name(index.clips[-1].number)):
            if "sig" in line.fields:
                chain = manifest.decode_hex(line.fields, "chain", 32) or NO_CHAIN
            yield
    return chain
