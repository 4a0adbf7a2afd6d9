"""Images of update campaigns: files in a folder of the site's state, by id. `patrolink ota plan` adds them."""

import hashlib
import os
from collections.abc import Container
from pathlib import Path

from patrolink_protocol import image_header

from patrolink.core import durable_files
from patrolink.core.errors import UserError
from patrolink.hub.infra import shared_file
from patrolink.hub.updates.campaign_file import CampaignImage

_SUFFIX = ".plimg"
_ID_BYTES = 8


def image_id(data: bytes) -> str:
    """Return the id of an image file, as the protocol has it: the first 8 bytes of its SHA-256, hexadecimal."""
    return hashlib.sha256(data).digest()[:_ID_BYTES].hex()


def describe(data: bytes) -> CampaignImage:
    """Return what a campaign has to know about an image file.

    Raises:
        image_header.ImageHeaderError: It is not an image.
    """
    header = image_header.unpack(data)
    base: bytes = header.base_sha256
    return CampaignImage(
        id=image_id(data),
        size=len(data),
        board=header.board,
        version=header.version,
        rollback=header.rollback,
        platform=header.minimum_platform,
        content=header.sha256[:_ID_BYTES].hex(),
        base=base[:_ID_BYTES].hex() if base != image_header.NO_BASE else None,
    )


class ImageStore:
    """The images.

    Args:
        folder: Their folder. It is created when the first image is added.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, data: bytes) -> None:
        """Store an image file, durably.

        Raises:
            OSError: Storage failed.
        """
        if not self._folder.exists():
            self._folder.mkdir(mode=0o700, parents=True)
            shared_file.give_to_owner(self._folder)
        path = self._path(image_id(data))
        durable_files.replace(path, data)
        shared_file.give_to_owner(path)

    def remove_others(self, needed: Container[str]) -> None:
        """Delete all images but those with an id of `needed`. Raises OSError."""
        if self._folder.exists():
            for path in self._folder.iterdir():
                if path.stem not in needed:
                    path.unlink(missing_ok=True)

    def check(self, image: CampaignImage) -> None:
        """Verify that an image is there, unchanged.

        Raises:
            UserError: It is not.
        """
        path = self._path(image.id)
        try:
            data = path.read_bytes()
        except OSError as e:
            raise UserError(f"image {path}: {e.strerror}; plan the campaign again under another name") from None
        if image_id(data) != image.id:
            raise UserError(f"image {path} is damaged; plan the campaign again under another name")

    def read(self, image: str, offset: int, length: int) -> bytes:
        """Return bytes of an image; fewer at its end.

        Raises:
            OSError: It cannot be read.
        """
        handle = os.open(self._path(image), os.O_RDONLY)
        try:
            return os.pread(handle, length, offset)
        finally:
            os.close(handle)

    def _path(self, image: str) -> Path:
        return self._folder / (image + _SUFFIX)
