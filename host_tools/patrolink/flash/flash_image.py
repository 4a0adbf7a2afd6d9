"""An image that is to be flashed: what it contains, who signed it, and whether it fits a device."""

from dataclasses import dataclass
from pathlib import Path

from patrolink_protocol import image_header

from patrolink.core.errors import UserError
from patrolink.flash.image import image_file
from patrolink.flash.records import Identity, RefusedError

PLATFORM, AGENT = image_header.PLATFORM, image_header.AGENT


@dataclass(frozen=True)
class FlashImage:
    """An image for a cable, whose digests agree with its content.

    Attributes:
        path: Path of the file.
        header_bytes: The header as it is in the file.
        header: The header.
        content: What the slot holds, or the platform binary.
    """

    path: Path
    header_bytes: bytes
    header: image_header.ImageHeader
    content: bytes

    @property
    def label(self) -> str:
        """What the image is, for people."""
        return f"{image_header.KINDS[self.header.kind]} {self.header.version} for {self.header.board}"

    def check_fits(self, port: str, identity: Identity) -> None:
        """Compare the header with what a device says of itself; what it does not know is not compared.

        Raises:
            RefusedError: The image is for another device.
        """
        header = self.header
        build = f"`make image BOARD={identity.board}` builds firmware of its board"
        if identity.board and identity.board != header.board:
            raise RefusedError(f"{port}: the image is for board {header.board}, but this is {identity.board}; {build}")
        if identity.architecture and identity.architecture != header.architecture:
            raise RefusedError(
                f"{port}: the image has code for {header.architecture}, but this board runs {identity.architecture}; "
                f"{build}"
            )
        if identity.platform is not None and header.minimum_platform > identity.platform:
            raise RefusedError(
                f"{port}: the image needs platform {header.minimum_platform}, but the board has {identity.platform}; "
                "flash its platform image first"
            )
        if identity.rollback_floor is not None and header.rollback < identity.rollback_floor:
            raise RefusedError(
                f"{port}: rollback number {header.rollback} of the image is below the floor of the device, "
                f"{identity.rollback_floor}; flash a newer image"
            )
        if identity.release_keys is not None and header.key_id.hex() not in identity.release_keys:
            key = f"release key {header.key_id.hex()}" if any(header.key_id) else "no release key"
            keys = ", ".join(identity.release_keys) or "no key at all"
            raise RefusedError(
                f"{port}: the image is signed with {key}, but the platform of the board accepts {keys}; sign it with "
                "such a key, or flash a platform with yours"
            )


def load(path: Path) -> FlashImage:
    """Read an image file.

    Raises:
        UserError: It is damaged, or is no image for a cable.
        OSError: It cannot be read.
    """
    image = image_file.load(path)
    if image.header.kind == image_header.AGENT_DELTA:
        raise UserError(f"{path}: a delta image, which only goes over the air; use the full image of this version")
    return FlashImage(path, image_header.pack(image.header), image.header, image.payload)


def check_signature(image: FlashImage, trust: Path) -> None:
    """Verify the signature of an image.

    Args:
        image: The image.
        trust: File with public release keys (PEM).

    Raises:
        UserError: It is not valid under one of these keys.
    """
    from patrolink.flash.image import release_key  # needs cryptography

    state = release_key.load_trust_store(trust).check(image.header)
    if state != release_key.VALID:
        raise UserError(f"{image.path}: signature: {state}; use an image that is signed with a release key in {trust}")
