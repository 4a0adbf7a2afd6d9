"""Image files (protocol/IMAGE.md): a header of 256 bytes and the payload."""

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path
from typing import NamedTuple

from patrolink_protocol import image_header
from patrolink_protocol.image_header import ImageHeader

from patrolink.core.errors import UserError
from patrolink.core.text import plural

FILE_BYTES_MAX = image_header.HEADER_BYTES + image_header.CONTENT_MAX
_HINT = "give an image of `patrolink image build`, sign or diff"


class Image(NamedTuple):
    """An image. The payload has the size and the SHA-256 of the header; the signature is not verified."""

    header: ImageHeader
    payload: bytes

    @property
    def kind(self) -> str:
        """Name of the kind: platform, agent or agent_delta."""
        name: str = image_header.KINDS[self.header.kind]
        return name

    def pack(self) -> bytes:
        """Return the content of the file."""
        header: bytes = image_header.pack(self.header)
        return header + self.payload


def load(path: Path) -> Image:
    """Read an image; at most FILE_BYTES_MAX bytes are read.

    Raises:
        UserError: The file is too large, damaged, or not an image.
        OSError: The file cannot be read.
    """
    with path.open("rb") as f:
        data = f.read(FILE_BYTES_MAX + 1)
    if len(data) > FILE_BYTES_MAX:
        raise UserError(f"{path}: more than {FILE_BYTES_MAX} bytes, which no image has; {_HINT}")
    try:
        header = image_header.unpack(data)
    except image_header.ImageHeaderError as e:
        raise UserError(f"{path}: not an image ({e}); {_HINT}") from None
    payload = data[image_header.HEADER_BYTES :]
    if len(payload) != header.payload_size:
        raise UserError(
            f"{path}: the header says {plural(header.payload_size, 'byte')} of payload, the file has {len(payload)}; "
            "it is truncated or damaged, copy it again"
        )
    if hashlib.sha256(payload).digest() != header.payload_sha256:
        raise UserError(f"{path}: the payload does not have the SHA-256 of the header; it is damaged, copy it again")
    return Image(header, payload)


def save(path: Path, image: Image) -> None:
    """Write an image; the file is replaced at once, or not at all.

    Raises:
        OSError: The file cannot be written.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as f:
            f.write(image.pack())
            f.flush()
            os.fsync(f.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
