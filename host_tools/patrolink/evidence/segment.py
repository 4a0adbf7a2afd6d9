"""Segments as they are read at the site: deciphered, taken apart, no length in them believed (CLIP.md, "Segment")."""

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from patrolink_protocol import clip

from patrolink.core.errors import UserError
from patrolink.evidence.evidence_key import EvidenceKey

MOST = 64 << 20  # bytes of a file: eight times what a device writes at most
MOST_MS = 3_600_000  # of a segment: a minute is what a device is configured with at most
MOST_RECORDS = 1 << 15  # of a segment: three times what a minute of pictures, sound and positions has
_PICTURE, _SOUND = b"00dc", b"01wb"
_UNKNOWN_I32, _UNKNOWN_U32, _UNKNOWN_U16 = -0x80000000, 0xFFFFFFFF, 0xFFFF
_BODIES = {
    kind: struct.calcsize(body) - clip.STAMP
    for kind, body in (
        (clip.END, clip.END_BODY),
        (clip.FIX, clip.FIX_BODY),
        (clip.CLOCK, clip.CLOCK_BODY),
        (clip.MARK, clip.MARK_BODY),
        (clip.GAP, clip.GAP_BODY),
    )
}


class Altered(UserError):
    """A file's bytes are not those of its hash."""


@dataclass(frozen=True)
class Fix:
    """A position: ms since the segment's start, degrees, metres, m/s; None where the receiver did not tell."""

    time_ms: int
    unix_ms: int | None
    lat_deg: float | None
    lon_deg: float | None
    alt_m: float | None
    speed_mps: float | None
    course_deg: float | None
    hacc_m: float | None
    mode: int


@dataclass
class Segment:
    """What is in a segment. Times are in ms since its start.

    media   (time, bytes) in order; together they are the file that the codec says
    clocks  (time, unix ms then, clip.BY_*) in the order of time; known: (time, unix ms) of those that somebody set
    marks   (time, trigger, event id); gaps: (time, frames lost, clip.STALLED..)
    frames  what its end says; None without an end
    fault   why the reading stopped before the end of the file, "" when it did not
    """

    header: clip.Header
    media: list[tuple[int, bytes]] = field(default_factory=list)
    fixes: list[Fix] = field(default_factory=list)
    clocks: list[tuple[int, int, int]] = field(default_factory=list)
    known: list[tuple[int, int]] = field(default_factory=list)
    marks: list[tuple[int, int, int]] = field(default_factory=list)
    gaps: list[tuple[int, int, int]] = field(default_factory=list)
    frames: int | None = None
    fault: str = ""
    end_ms: int = 0

    @property
    def whole(self) -> bool:
        """Whether it has its end, and nothing behind it."""
        return self.frames is not None and not self.fault

    def file(self) -> bytes:
        """Return the file that its media are: AVI, MP4 or JPEG."""
        return b"".join(data for _, data in self.media)

    def jpegs(self) -> Iterator[tuple[int, bytes]]:
        """Give (time, JPEG) of each picture of an AVI or JPEG segment."""
        if self.header.codec == clip.JPEG:
            yield from self.media
        for time_ms, data in self.media if self.header.codec == clip.MJPEG_AVI else ():
            picture = _chunk(data, _PICTURE)
            if picture:
                yield time_ms, picture

    def alaw(self) -> Iterator[bytes]:
        """Give the sound of an AVI segment as it comes: A-law, 8000 a second without a hole."""
        for _, data in self.media if self.header.codec == clip.MJPEG_AVI else ():
            sound = _chunk(data, _SOUND)
            if sound:
                yield sound


def _chunk(data: bytes, name: bytes) -> bytes:
    """Return what an AVI chunk holds when a record is one of that name and whole, else nothing."""
    if len(data) < 8 or data[:4] != name:
        return b""
    size = int.from_bytes(data[4:8], "little")
    return data[8 : 8 + size] if size in (len(data) - 8, len(data) - 9) else b""


def read(path: Path, evidence: EvidenceKey, sha256: str = "") -> Segment:
    """Return a segment. UserError: it is none, cannot be read, or is for another evidence key; Altered.

    sha256  in hexadecimal, what its bytes have to be now: a file may change after the verdict on it; "" for any
    """
    try:
        if path.stat().st_size > MOST:
            raise UserError(f"{path}: {path.stat().st_size} bytes are more than a segment has; it is none")
        data = path.read_bytes()
        if sha256 and hashlib.sha256(data).hexdigest() != sha256:
            raise Altered(f"{path}: its bytes are not those that were recorded")
        return parse(data, evidence)
    except OSError as e:
        raise UserError(f"{path}: {e.strerror}; name a segment that can be read") from None
    except clip.BadSegment as e:
        raise UserError(f"{path}: no segment, {e}") from None


def parse(data: bytes, evidence: EvidenceKey) -> Segment:
    """Return the segment that these bytes are; clip.BadSegment or UserError when nothing of it can be read."""
    header = clip.unpack_header(data)
    decryptor = Cipher(algorithms.AES(evidence.segment_key(header)), modes.CTR(bytes(16))).decryptor()
    stream = decryptor.update(data[clip.HEADER :])
    found = Segment(header)
    at = n = 0
    while at < len(stream) and not found.fault:
        if found.frames is not None:
            found.fault = f"{len(stream) - at} bytes are behind its end"
        elif n == MOST_RECORDS:
            found.fault = f"it has more records than a segment has ({MOST_RECORDS})"
        else:
            at = _record(found, stream, at)
            n += 1
    if not found.fault and found.frames is None:
        found.fault = "it has no end"
    return found


def _record(found: Segment, stream: bytes, at: int) -> int:
    """Take in the record at `at`; return where the next one begins. What is no whole record sets `fault`."""
    if at + clip.RECORD + clip.STAMP > len(stream):
        found.fault = "its last record is cut off"
        return at
    kind, size = stream[at], int.from_bytes(stream[at + 1 : at + clip.RECORD], "big")
    body = stream[at + clip.RECORD : at + clip.RECORD + size]
    if kind > clip.GAP or size < clip.STAMP or (kind != clip.MEDIA and size != clip.STAMP + _BODIES[kind]):
        found.fault = f"no record begins at byte {clip.HEADER + at}"
    elif len(body) < size:
        found.fault = "its last record is cut off"
    elif (time_ms := int.from_bytes(body[: clip.STAMP], "big")) > MOST_MS:
        found.fault = f"the record at byte {clip.HEADER + at} is of {time_ms // 1000} s after its start"
    else:
        found.end_ms = max(found.end_ms, time_ms)
        _take(found, kind, body)
    return at + clip.RECORD + size


def _take(found: Segment, kind: int, body: bytes) -> None:
    if kind == clip.MEDIA:
        found.media.append((int.from_bytes(body[: clip.STAMP], "big"), body[clip.STAMP :]))
    elif kind == clip.FIX:
        found.fixes.append(_fix(*struct.unpack(clip.FIX_BODY, body)))
    elif kind == clip.CLOCK:
        _take_clock(found, *struct.unpack(clip.CLOCK_BODY, body))
    elif kind == clip.MARK:
        found.marks.append(struct.unpack(clip.MARK_BODY, body))
    elif kind == clip.GAP:
        found.gaps.append(struct.unpack(clip.GAP_BODY, body))
    else:
        found.frames = struct.unpack(clip.END_BODY, body)[1]


def _take_clock(found: Segment, time_ms: int, unix_ms: int, source: int) -> None:
    if found.clocks and time_ms < found.clocks[-1][0]:
        found.fault = "its clocks do not come in the order of time"
        return
    found.clocks.append((time_ms, unix_ms, source))
    if source:
        found.known.append((time_ms, unix_ms))


def _fix(
    time_ms: int, unix_ms: int, lat: int, lon: int, alt: int, speed: int, course: int, hacc: int, mode: int
) -> Fix:
    placed = abs(lat) <= 900_000_000 and abs(lon) <= 1_800_000_000
    return Fix(
        time_ms,
        unix_ms if 0 < unix_ms < 1 << 63 else None,
        lat / 1e7 if placed else None,
        lon / 1e7 if placed else None,
        None if alt == _UNKNOWN_I32 else alt / 1000,
        None if speed == _UNKNOWN_U32 else speed / 1000,
        None if course == _UNKNOWN_U16 else course / 100,
        None if hacc == _UNKNOWN_U32 else hacc / 1000,
        mode,
    )
