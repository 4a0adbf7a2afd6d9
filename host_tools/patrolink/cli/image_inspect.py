"""Show the header of an image, the state of its signature, and the files of an agent image.

With --trust the signature is verified; the exit code is 1 unless it is valid under one of those keys. A damaged file is
refused with exit code 2.
"""

import argparse
from pathlib import Path

from patrolink.cli import image
from patrolink.core.errors import UserError
from patrolink.core.json_lines import print_record, print_summary

EXAMPLES = (
    "patrolink image inspect agent.plimg",
    "patrolink image inspect agent.plimg --trust trust.pem",
)
_LABELS = {
    "image_kind": "kind",
    "board": "board",
    "architecture": "architecture",
    "firmware_version": "version",
    "rollback": "rollback number",
    "minimum_platform": "platform number",
    "bytes": "bytes",
    "content_bytes": "bytes of content",
    "content_sha256": "content SHA-256",
    "base_sha256": "base SHA-256",
    "key_id": "key id",
    "signature": "signature",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument("file", metavar="FILE", help="the image")
    parser.add_argument("--trust", metavar="FILE", help="public release keys (PEM)")


def run(args: argparse.Namespace) -> int:
    """Print what the image contains."""
    from patrolink_protocol import image_header

    from patrolink.flash.image import image_file, module_archive, release_key, romfs

    trust = release_key.load_trust_store(Path(args.trust)) if args.trust else None
    result = image_file.load(Path(args.file))
    if trust is not None:
        state = trust.check(result.header)
    elif result.header.signature == image_header.UNSIGNED:
        state = release_key.UNSIGNED
    else:
        state = "not verified"
    files: dict[str, bytes] = {}
    if result.header.kind == image_header.AGENT:
        form, read = (
            ("zip archive", module_archive.read) if result.header.architecture == "cpython" else ("ROMFS", romfs.read)
        )
        try:
            files = read(result.payload)
        except (module_archive.ArchiveError, romfs.RomfsError) as e:
            raise UserError(f"{args.file}: the content is not a {form} ({e}); build the image again") from None
    fields = image.fields(args.file, result, state)
    if args.json:
        print_record("image", fields)
        for path, content in files.items():
            print_record("image_file", {"path": path, "bytes": len(content)})
        print_summary({"images": 1, "image_files": len(files)})
    else:
        for name, label in _LABELS.items():
            if fields[name] is not None:
                print(f"{label:<17}{fields[name]}")
        for path, content in files.items():
            print(f"{len(content):>9} {path}")
    return 0 if trust is None or state == release_key.VALID else 1
