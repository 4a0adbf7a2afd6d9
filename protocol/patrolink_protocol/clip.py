"""Clips: the segment file, its keys, and the chain of a manifest. MicroPython subset. CLIP.md tells the whole of it."""

import hashlib
import struct

from .key_derivation import hmac, hmac_pads

# clip_manifest.codec
MJPEG_AVI, H264_MP4, JPEG = 1, 2, 3
CODECS = {MJPEG_AVI: "mjpeg_avi", H264_MP4: "h264_mp4", JPEG: "jpeg"}
SUFFIXES = {MJPEG_AVI: ".avi", H264_MP4: ".mp4", JPEG: ".jpg"}
# clip_manifest.trigger
TRIGGERS = ("button", "sos", "man_down", "dispatcher", "geofence", "photo")

PUBLIC_KEY_BYTES = 33  # bytes of a P-256 public key, compressed (SEC 1, 2.3.3)
SIGNATURE_BYTES = 64  # r | s of ECDSA (FIPS 186-5), s at most half the order
FLAG_SOUND, FLAG_TIMESTAMPED = 1, 2  # flags of a segment

_MAGIC = b"PLS1"
_HEADER_FORMAT = ">4sBBHHIIQ8s33s"
HEADER_BYTES = struct.calcsize(_HEADER_FORMAT)

# Records of a segment's stream.
RECORD_HEADER_BYTES = 4  # kind (u8), bytes of the body (u24)
RECORD_END, RECORD_MEDIA, RECORD_FIX, RECORD_CLOCK, RECORD_MARK, RECORD_GAP = range(6)
TIMESTAMP_BYTES = 4  # every body begins with time_ms, u32: monotonic, since the segment's start
MAX_BODY_BYTES = (1 << 24) - 1
FIX_FORMAT = ">IQiiiIHIB"  # time_ms, unix_ms, lat_e7, lon_e7, alt_mm, speed_mms, course_cd, hacc_mm, mode
CLOCK_FORMAT = ">IQB"  # time_ms, unix_ms then, source
MARK_FORMAT = ">IBI"  # time_ms, trigger, event id
GAP_FORMAT = ">IHB"  # time_ms, frames lost, why
END_FORMAT = ">II"  # time_ms, frames
CLOCK_NONE, CLOCK_NETWORK, CLOCK_GPS = range(3)  # source of a clock
GAP_CAMERA_STALLED, GAP_BAD_PICTURE, GAP_STORAGE_LATE = range(
    3
)  # why frames are lost: the camera gave none, gave what is no picture, storage was slow


class SegmentError(Exception):
    """A file is no segment that this version reads; the text says why."""


class SegmentHeader:
    """What a segment begins with, in plain.

    boot, step  the segment's place: its boot's number, and its own within that boot, from 0. Its name is of both
    start_ms    unix time of the first frame, 0 while none was known
    recipient   key_id of the evidence key that the boot's key was agreed with; ephemeral: the boot's public key
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
        """Return the HEADER bytes."""
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
    """Return the Header of a segment; BadSegment when it is none."""
    if len(data) < HEADER_BYTES:
        raise SegmentError("it has %d bytes, its header alone takes %d" % (len(data), HEADER_BYTES))
    fields = struct.unpack_from(_HEADER_FORMAT, data)
    if fields[0] != _MAGIC:
        raise SegmentError("it does not begin as a segment does")
    if fields[1] not in CODECS:
        raise SegmentError("its codec %d is not known" % fields[1])
    return SegmentHeader(*fields[1:])


def segment_name(boot, step):
    """Return the file name of a segment. Names sort as time goes."""
    return "%06d-%06d.pls" % (boot, step)


def key_id(public):
    """Return the 8 bytes that name an evidence key."""
    return hashlib.sha256(public).digest()[:8]


def first_chain_key(shared, ephemeral, evidence):
    """Return the chain key of step 0 of a boot.

    shared  x of the P-256 agreement (SP 800-56A, 5.7.1.2) of ephemeral and evidence key, both of them public here
    """
    return hmac(hmac_pads(shared), b"patrolink-clip", ephemeral, evidence)


def next_chain_key(chain_key):
    """Return the chain key of the next step. There is no way back from it."""
    return hmac(hmac_pads(chain_key), b"next")


def segment_key(chain_key):
    """Return the AES-256 key of a step's segment: counter mode (SP 800-38A) from counter 0, over all after HEADER."""
    return hmac(hmac_pads(chain_key), b"segment")


def extend_chain(chain, line):
    """Return a manifest's chain after one more line, its line feed included. It begins with the clip's before."""
    h = hashlib.sha256(chain)
    h.update(line)
    return h.digest()


def signature_digest(chain):
    """Return the digest that a manifest's signature is made of."""
    h = hashlib.sha256(b"patrolink-clip")
    h.update(chain)
    return h.digest()
