"""Makes validly signed and encrypted clips with arbitrary content, as a hostile device can."""

import hashlib
import io
import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from patrolink.evidence import evidence_key
from patrolink_protocol import clip
from PIL import Image

from tests.simulation.clip_alterations import seal

EPOCH_MS = 1_795_000_000_000
_FORM = {"encoding": serialization.Encoding.X962, "format": serialization.PublicFormat.CompressedPoint}


def record(kind: int, time_ms: int, payload: bytes = b"") -> bytes:
    """Return a record of a segment's stream."""
    body = time_ms.to_bytes(4, "big") + payload
    return bytes((kind,)) + len(body).to_bytes(3, "big") + body


def end(frames: int, time_ms: int = 2000) -> bytes:
    """Return an end record."""
    return record(clip.RECORD_END, time_ms, frames.to_bytes(4, "big"))


def fix(time_ms: int, lat_deg: float, lon_deg: float) -> bytes:
    """Return a position record."""
    body = struct.pack(
        clip.FIX_FORMAT,
        *(time_ms, EPOCH_MS + time_ms, round(lat_deg * 1e7), round(lon_deg * 1e7), 298_000, 1400, 4500, 3200, 3),
    )
    return record(clip.RECORD_FIX, time_ms, body[4:])


def chunk(time_ms: int, data: bytes, name: bytes = b"00dc") -> bytes:
    """Return a media record with an AVI chunk: a picture, or A-law sound with the name 01wb."""
    return record(clip.RECORD_MEDIA, time_ms, name + len(data).to_bytes(4, "little") + data)


def jpeg(width: int = 64, height: int = 48, claimed: tuple[int, int] | None = None) -> bytes:
    """Return a grey JPEG. `claimed` is a different size for its frame header (ITU-T T.81, B.2.2)."""
    out = io.BytesIO()
    Image.new("RGB", (width, height), "grey").save(out, "JPEG")
    data = bytearray(out.getvalue())
    if claimed:
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = struct.pack(">HH", claimed[1], claimed[0])
    return bytes(data)


@dataclass
class ForgingDevice:
    """A device that signs any content.

    Args:
        clips: Folder of clips of a site; the evidence key is evidence.pem in its parent folder.
        name: Name of the device.
        codec: Codec of the clip.
        size: Size of a picture for the segment headers.
        flags: Flags of the segment headers.
        head: Values that replace the defaults in the first line of the manifest.
    """

    clips: Path
    name: str = "linux-1"
    codec: int = clip.MJPEG_AVI
    size: tuple[int, int] = (64, 48)
    flags: int = 0
    head: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.clips.mkdir(parents=True, exist_ok=True)
        self.pem = self.clips.parent / "evidence.pem"
        self.evidence = evidence_key.load(self.pem) if self.pem.exists() else evidence_key.create(self.pem)
        self._private = ec.generate_private_key(ec.SECP256R1())
        self._boot = ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(**_FORM)

    def segment(self, records: bytes, step: int = 1, start_ms: int = EPOCH_MS) -> bytes:
        """Return a segment file with the records."""
        header = clip.SegmentHeader(self.codec, self.flags, *self.size, 1, step, start_ms, self.evidence.id, self._boot)
        cipher = Cipher(algorithms.AES(self.evidence.segment_key(header)), modes.CTR(bytes(16))).encryptor()
        return header.pack() + cipher.update(records)

    def write(self, streams: list[bytes], lines: list[dict[str, Any]] = (), **values: Any) -> Path:
        """Write clip 1 as a hub stores it, and return its folder.

        Args:
            streams: The records of each segment, from step 1.
            lines: Manifest lines to add before the close line.
            **values: Values that replace the true ones in the line of every segment.
        """
        folder = self.clips / self.name / "000001"
        folder.mkdir(parents=True)
        public = self._private.public_key().public_bytes(**_FORM).hex()
        manifest: list[dict[str, Any]] = [
            {
                "clip": 1,
                "v": 1,
                "device": self.name,
                "boot": 1,
                "codec": clip.CODECS[self.codec],
                "trigger": "sos",
                "event": 7,
                "time_ms": EPOCH_MS,
                "pre_s": 4,
                "previous": "0" * 64,
                "signer": public,
                **self.head,
            }
        ]
        for step, stream in enumerate(streams, 1):
            start_ms = EPOCH_MS + 2000 * (step - 1)
            data = self.segment(stream, step, start_ms)
            (folder / clip.segment_name(1, step)).write_bytes(data)
            line = {"seg": f"000001-{step:06d}", "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            line |= {"start_ms": start_ms, "ms": 2000, "frames": 1, "lost": 0, "whole": True}
            manifest.append(line | values)
        manifest += [*lines, {"close": "done", "time_ms": EPOCH_MS}, {}]
        text = [json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in manifest]
        (folder / "000001.plm").write_bytes(b"".join(seal(text, self._private)))
        (self.clips / "signers.toml").write_text(f'[signers]\n{json.dumps(self.name)} = ["{public}"]\n')
        return folder
