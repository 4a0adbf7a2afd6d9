"""Agent images of the emulated board for updates: the agent of this checkout, later versions, signed deltas."""

from patrolink.core import boards
from patrolink.flash.image import build, release_key, romfs
from patrolink.flash.image.image_file import Image

from tests.support.release_keys import private_key

BOARD = boards.find("mps2_an385")


def build_agent() -> Image:
    """Return the agent image, version 1.0 with rollback number 1."""
    return build.build_agent(BOARD, build.BuildInfo("1.0", 1, 1))


def with_file(image: Image, name: str, data: bytes, rollback: int = 2) -> Image:
    """Return a later version with a file added or replaced."""
    content = romfs.write({**romfs.read(image.payload), name: data})
    return build._image(image.header.kind, BOARD, content, build.BuildInfo(f"{rollback}.0", rollback, 1))


def packed(base: Image | None, new: Image, key: str = BOARD.name) -> Image:
    """Return a signed delta; without a base a packed full image."""
    delta = build.build_delta(base, new)
    return delta._replace(header=release_key.sign(delta.header, private_key(key)))
