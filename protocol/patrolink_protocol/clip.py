"""Clips: segment files, their keys, and the hash chain of manifests (CLIP.md). MicroPython subset."""

import hashlib
import struct

from .key_derivation import hmac, hmac_pads

# clip_manifest.codec
MJPEG_AVI, H264_MP4, JPEG = 1, 2, 3
CODECS = {MJPEG_AVI: "mjpeg_avi", H264_MP4: "h264_mp4", JPEG: "jpeg"}
SUFFIXES = {MJPEG_AVI: ".avi", H264_MP4: ".mp4", JPEG: ".jpg"}
# clip_manifest.trigger
TRIGGERS = ("button", "sos", "man_down", "dispatcher", "geofence", "photo")

PUBLIC_KEY_BYTES = 33  # of a P-256 public key, compressed (SEC 1, 2.3.3)
SIGNATURE_BYTES = 64  # r | s of ECDSA (FIPS 186-5), s at most half the order of the group
FLAG_SOUND, FLAG_TIMESTAMPED = 1, 2  # flags of a segment header

_MAGIC = b"PLS1"
_HEADER_FORMAT = ">4sBBHHIIQ8s33s"
HEADER_BYTES = struct.calcsize(_HEADER_FORMAT)

# Records of a segment.
RECORD_HEADER_BYTES = 4  # kind (u8), length of the body (u24)
RECORD_END, RECORD_MEDIA, RECORD_FIX, RECORD_CLOCK, RECORD_MARK, RECORD_GAP = range(6)
TIMESTAMP_BYTES = 4  # each body begins with time_ms (u32): monotonic, since the start of the segment
MAX_BODY_BYTES = (1 << 24) - 1
FIX_FORMAT = ">IQiiiIHIB"  # time_ms, unix_ms, lat_e7, lon_e7, alt_mm, speed_mms, course_cd, hacc_mm, mode
CLOCK_FORMAT = ">IQB"  # time_ms, unix_ms at that time, source
MARK_FORMAT = ">IBI"  # time_ms, trigger, event id
GAP_FORMAT = ">IHB"  # time_ms, frames lost, reason
END_FORMAT = ">II"  # time_ms, frames
CLOCK_NONE, CLOCK_NETWORK, CLOCK_GPS = range(3)  # source of a clock record
GAP_CAMERA_STALLED, GAP_BAD_PICTURE, GAP_STORAGE_LATE = range(3)  # reason of a gap


class SegmentError(Exception):
    """A file is not a segment that this version can read."""


class SegmentHeader:
    """Plain-text header of a segment.

    Args:
        codec: One of CODECS.
        flags: FLAG_SOUND, FLAG_TIMESTAMPED.
        width: Of the picture, pixels.
        height: Of the picture, pixels.
        boot: Boot number.
        step: Number of the segment within the boot, from 0.
        start_ms: Unix time of the first frame, ms; 0 if not known.
        recipient: `key_id` of the evidence key.
        ephemeral: Public key of the boot, compressed.
    """

    def __init__(self, codec, flags, width, height, boot, step, start_ms, recipient, ephemeral):
        self.codec = codec
        self.flags = flags
        self.width = width
        self.height = height
        self.boot = boot
        self.step = step
        self.start_ms = start_ms
        self.recipient = recipient
        self.ephemeral = ephemeral

    def pack(self):
        """Return the header as HEADER_BYTES bytes."""
        return struct.pack(
            _HEADER_FORMAT,
            _MAGIC,
            self.codec,
            self.flags,
            self.width,
            self.height,
            self.boot,
            self.step,
            self.start_ms,
            self.recipient,
            self.ephemeral,
        )


def unpack_header(data):
    """Return the SegmentHeader of a segment.

    Raises:
        SegmentError: the data is not the beginning of a segment.
    """
    if len(data) < HEADER_BYTES:
        raise SegmentError("%d bytes, but a segment header has %d" % (len(data), HEADER_BYTES))
    fields = struct.unpack_from(_HEADER_FORMAT, data)
    if fields[0] != _MAGIC:
        raise SegmentError("does not begin with PLS1")
    if fields[1] not in CODECS:
        raise SegmentError("unknown codec %d" % fields[1])
    return SegmentHeader(*fields[1:])


def segment_name(boot, step):
    """Return the file name of a segment. Names sort in order of time."""
    return "%06d-%06d.pls" % (boot, step)


def key_id(public):
    """Return the 8 bytes that identify an evidence key."""
    return hashlib.sha256(public).digest()[:8]


def first_chain_key(shared, ephemeral, evidence):
    """Return the chain key of step 0 of a boot.

    Args:
        shared: x of the P-256 key agreement (SP 800-56A, 5.7.1.2) of boot key and evidence key, 32 bytes.
        ephemeral: Public key of the boot, compressed.
        evidence: Public evidence key, compressed.
    """
    return hmac(hmac_pads(shared), b"patrolink-clip", ephemeral, evidence)


def next_chain_key(chain_key):
    """Return the chain key of the next step. The function is one-way."""
    return hmac(hmac_pads(chain_key), b"next")


def segment_key(chain_key):
    """Return the AES-256 key of the segment of a step: counter mode (SP 800-38A) from counter 0, after the header."""
    return hmac(hmac_pads(chain_key), b"segment")


def extend_chain(chain, line):
    """Return the chain of a manifest after one more line, including its line feed.

    Args:
        chain: Chain so far; at the first line, the last chain of the previous clip.
        line: The line.
    """
    h = hashlib.sha256(chain)
    h.update(line)
    return h.digest()


def signature_digest(chain):
    """Return the SHA-256 digest that the signature of a manifest covers."""
    h = hashlib.sha256(b"patrolink-clip")
    h.update(chain)
    return h.digest()
