"""Decrypts and parses clip segments (CLIP.md, "Segment"). No length or time in a segment is trusted."""

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from patrolink_protocol import clip

from patrolink.core.errors import UserError
from patrolink.core.text import plural
from patrolink.evidence.evidence_key import EvidenceKey

BYTES_MAX = 64 << 20  # of a file: eight times what a device writes at most
DURATION_MS_MAX = 3_600_000  # of a segment: a device is configured with a minute at most
RECORDS_MAX = 1 << 15  # of a segment: three times what a minute of pictures, sound and positions needs
_AVI_PICTURE, _AVI_SOUND = b"00dc", b"01wb"
_UNKNOWN_I32, _UNKNOWN_U32, _UNKNOWN_U16 = -0x80000000, 0xFFFFFFFF, 0xFFFF
_BODY_BYTES = {
    kind: struct.calcsize(body)
    for kind, body in (
        (clip.RECORD_END, clip.END_FORMAT),
        (clip.RECORD_FIX, clip.FIX_FORMAT),
        (clip.RECORD_CLOCK, clip.CLOCK_FORMAT),
        (clip.RECORD_MARK, clip.MARK_FORMAT),
        (clip.RECORD_GAP, clip.GAP_FORMAT),
    )
}


class HashMismatchError(UserError):
    """A file does not have the SHA-256 that its manifest lists."""


class MediaRecord(NamedTuple):
    """Bytes of the media file, and their time in ms since the segment's start."""

    time_ms: int
    data: bytes


class FixRecord(NamedTuple):
    """A position in degrees, metres and m/s; None for what the receiver did not report. time_ms as in MediaRecord."""

    time_ms: int
    unix_ms: int | None
    lat_deg: float | None
    lon_deg: float | None
    alt_m: float | None
    speed_mps: float | None
    course_deg: float | None
    hacc_m: float | None
    mode: int


class ClockRecord(NamedTuple):
    """The wall clock at a time of the segment; source: clip.CLOCK_NONE, CLOCK_NETWORK or CLOCK_GPS."""

    time_ms: int
    unix_ms: int
    source: int


class MarkRecord(NamedTuple):
    """An event: index into clip.TRIGGERS, and event id."""

    time_ms: int
    trigger: int
    event: int


class GapRecord(NamedTuple):
    """Frames that were lost before this time; reason: clip.GAP_CAMERA_STALLED, GAP_BAD_PICTURE or GAP_STORAGE_LATE."""

    time_ms: int
    frames: int
    reason: int


@dataclass
class Segment:
    """The records of a segment. Times are in ms since its start.

    Args:
        header: The plain header.
        media: The media file in pieces, ordered; joined they are an AVI, MP4 or JPEG file.
        fixes: Positions.
        clocks: Wall clock readings, by time.
        marks: Events.
        gaps: Lost frames.
        frames: The number of frames that the end record states; None without one.
        fault: Why reading stopped before the end of the file; empty when it did not.
        end_ms: The latest time of a record.
    """

    header: clip.SegmentHeader
    media: list[MediaRecord] = field(default_factory=list)
    fixes: list[FixRecord] = field(default_factory=list)
    clocks: list[ClockRecord] = field(default_factory=list)
    marks: list[MarkRecord] = field(default_factory=list)
    gaps: list[GapRecord] = field(default_factory=list)
    frames: int | None = None
    fault: str = ""
    end_ms: int = 0
    synced_clocks: list[ClockRecord] = field(default_factory=list)  # those that network or GPS had set

    @property
    def complete(self) -> bool:
        """Whether the segment ends with its end record."""
        return self.frames is not None and not self.fault

    def media_file(self) -> bytes:
        """Return the media file: AVI, MP4 or JPEG."""
        return b"".join(record.data for record in self.media)

    def jpegs(self) -> Iterator[MediaRecord]:
        """Yield each JPEG picture of an AVI or JPEG segment."""
        if self.header.codec == clip.JPEG:
            yield from self.media
        for record in self.media if self.header.codec == clip.MJPEG_AVI else ():
            picture = _avi_chunk(record.data, _AVI_PICTURE)
            if picture:
                yield MediaRecord(record.time_ms, picture)

    def alaw(self) -> Iterator[bytes]:
        """Yield the sound of an AVI segment in pieces: A-law at 8 kHz without gaps."""
        for record in self.media if self.header.codec == clip.MJPEG_AVI else ():
            sound = _avi_chunk(record.data, _AVI_SOUND)
            if sound:
                yield sound


def _avi_chunk(data: bytes, name: bytes) -> bytes:
    """Return the content of an AVI chunk if the record is a complete one of that name, else nothing."""
    if len(data) < 8 or data[:4] != name:
        return b""
    size = int.from_bytes(data[4:8], "little")
    return data[8 : 8 + size] if size in (len(data) - 8, len(data) - 9) else b""


def read(path: Path, evidence: EvidenceKey, sha256: str = "") -> Segment:
    """Read, decrypt and parse a segment file.

    Args:
        path: The file.
        evidence: The key that it was encrypted for.
        sha256: The SHA-256 that the bytes must have, in hexadecimal: a file may change after it was verified. Empty
            accepts any.

    Raises:
        HashMismatchError: The bytes have another SHA-256.
        UserError: The file cannot be read, is not a segment, or is encrypted for another key.
    """
    try:
        if (size := path.stat().st_size) > BYTES_MAX:
            raise UserError(f"{path}: the file has {size} bytes, a segment has at most {BYTES_MAX}")
        data = path.read_bytes()
        if sha256 and hashlib.sha256(data).hexdigest() != sha256:
            raise HashMismatchError(f"{path}: the file's SHA-256 is not the one that was recorded")
        return parse(data, evidence)
    except OSError as e:
        raise UserError(f"{path}: {e.strerror}; give a segment that can be read") from None
    except clip.SegmentError as e:
        raise UserError(f"{path}: not a segment: {e}") from None


def is_picture(path: Path) -> bool:
    """Return whether a file is a segment with a JPEG picture, from its plain header. Raises OSError.

    A file whose header names another step is not accepted: the step decides how long decryption takes.
    """
    if path.suffix != ".pls":
        return False
    with path.open("rb") as f:
        try:
            header = clip.unpack_header(f.read(clip.HEADER_BYTES))
        except clip.SegmentError:
            return False
    return bool(header.codec == clip.JPEG) and clip.segment_name(header.boot, header.step) == path.name


def parse(data: bytes, evidence: EvidenceKey) -> Segment:
    """Decrypt and parse a segment as far as it is valid; `Segment.fault` tells where that ends.

    Raises:
        clip.SegmentError: The header is not valid.
        UserError: The segment is encrypted for another key.
    """
    header = clip.unpack_header(data)
    decryptor = Cipher(algorithms.AES(evidence.segment_key(header)), modes.CTR(bytes(16))).decryptor()
    stream = decryptor.update(data[clip.HEADER_BYTES :])
    segment = Segment(header)
    offset = records = 0
    while offset < len(stream) and not segment.fault:
        if segment.frames is not None:
            segment.fault = f"{plural(len(stream) - offset, 'byte')} after the end record"
        elif records == RECORDS_MAX:
            segment.fault = f"the segment has more than {RECORDS_MAX} records"
        else:
            offset = _parse_record(segment, stream, offset)
            records += 1
    if not segment.fault and segment.frames is None:
        segment.fault = "the end record is missing"
    return segment


def _parse_record(segment: Segment, stream: bytes, offset: int) -> int:
    """Add the record at an offset; return the offset of the next one. An invalid or cut record sets `fault`."""
    if offset + clip.RECORD_HEADER_BYTES + clip.TIMESTAMP_BYTES > len(stream):
        segment.fault = "the last record is cut off"
        return offset
    kind, size = stream[offset], int.from_bytes(stream[offset + 1 : offset + clip.RECORD_HEADER_BYTES], "big")
    body = stream[offset + clip.RECORD_HEADER_BYTES : offset + clip.RECORD_HEADER_BYTES + size]
    if (
        kind > clip.RECORD_GAP
        or size < clip.TIMESTAMP_BYTES
        or (kind != clip.RECORD_MEDIA and size != _BODY_BYTES[kind])
    ):
        segment.fault = f"there is no valid record at byte {clip.HEADER_BYTES + offset}"
    elif len(body) < size:
        segment.fault = "the last record is cut off"
    elif (time_ms := int.from_bytes(body[: clip.TIMESTAMP_BYTES], "big")) > DURATION_MS_MAX:
        segment.fault = (
            f"the record at byte {clip.HEADER_BYTES + offset} is {time_ms // 1000} s after the segment's start"
        )
    else:
        segment.end_ms = max(segment.end_ms, time_ms)
        _add_record(segment, kind, body)
    return offset + clip.RECORD_HEADER_BYTES + size


def _add_record(segment: Segment, kind: int, body: bytes) -> None:
    if kind == clip.RECORD_MEDIA:
        segment.media.append(
            MediaRecord(int.from_bytes(body[: clip.TIMESTAMP_BYTES], "big"), body[clip.TIMESTAMP_BYTES :])
        )
    elif kind == clip.RECORD_FIX:
        segment.fixes.append(_fix_record(*struct.unpack(clip.FIX_FORMAT, body)))
    elif kind == clip.RECORD_CLOCK:
        _add_clock(segment, ClockRecord(*struct.unpack(clip.CLOCK_FORMAT, body)))
    elif kind == clip.RECORD_MARK:
        segment.marks.append(MarkRecord(*struct.unpack(clip.MARK_FORMAT, body)))
    elif kind == clip.RECORD_GAP:
        segment.gaps.append(GapRecord(*struct.unpack(clip.GAP_FORMAT, body)))
    else:
        segment.frames = struct.unpack(clip.END_FORMAT, body)[1]


def _add_clock(segment: Segment, clock: ClockRecord) -> None:
    if segment.clocks and clock.time_ms < segment.clocks[-1].time_ms:
        segment.fault = "the clock records are not ordered by time"
        return
    segment.clocks.append(clock)
    if clock.source:
        segment.synced_clocks.append(clock)


def _fix_record(
    time_ms: int, unix_ms: int, lat: int, lon: int, alt: int, speed: int, course: int, hacc: int, mode: int
) -> FixRecord:
    valid = abs(lat) <= 900_000_000 and abs(lon) <= 1_800_000_000
    return FixRecord(
        time_ms,
        unix_ms if 0 < unix_ms < 1 << 63 else None,
        lat / 1e7 if valid else None,
        lon / 1e7 if valid else None,
        None if alt == _UNKNOWN_I32 else alt / 1000,
        None if speed == _UNKNOWN_U32 else speed / 1000,
        None if course == _UNKNOWN_U16 else course / 100,
        None if hacc == _UNKNOWN_U32 else hacc / 1000,
        mode,
    )
