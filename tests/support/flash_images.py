"""Images for tests of flashing, with any content."""

import hashlib
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from patrolink.flash.image import image_file, release_key
from patrolink_protocol import image_header

from tests.support.release_keys import private_key


def write_image(path: Path, content: bytes, **fields) -> Path:
    """Write an image file that is not signed; `fields` replace those of its header."""
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


def write_signed_image(path: Path, content: bytes, key: ec.EllipticCurvePrivateKey | None = None, **fields) -> Path:
    """Write an image file that is signed, by default with the release key of the emulated board."""
    image = image_file.load(write_image(path, content, **fields))
    image_file.save(path, image._replace(header=release_key.sign(image.header, key or private_key())))
    return path
