"""Images for tests of flashing: a header that is not signed, and any content."""

import hashlib
from pathlib import Path

from patrolink_protocol import image_header


def write_image(path: Path, content: bytes, **fields) -> Path:
    """Write an image file; `fields` replace those of its header."""
    digest = hashlib.sha256(content).digest()
    values = {
        "kind": image_header.AGENT,
        "rollback": 1,
        "minimum_platform": 1,
        "size": len(content),
        "sha256": digest,
        "base_sha256": image_header.NO_BASE,
        "payload_size": len(content),
        "payload_sha256": digest,
        "board": "mps2_an385",
        "architecture": "armv7m",
        "version": "1.0",
        "key_id": image_header.NO_KEY,
        "signature": image_header.UNSIGNED,
    }
    header = image_header.ImageHeader(**{**values, **fields})
    path.write_bytes(image_header.pack(header) + content)
    return path
