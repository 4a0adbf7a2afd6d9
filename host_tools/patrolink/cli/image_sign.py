"""Sign an image with a release key, in place or into another file. A signature that is there is replaced.

The passphrase of an encrypted key is taken from PATROLINK_RELEASE_PASSPHRASE, or asked for.
"""

import argparse
from pathlib import Path

from patrolink.cli import image
from patrolink.core.errors import UserError
from patrolink.core.json_lines import print_summary

EXAMPLES = (
    "patrolink image sign agent.plimg --key release.pem",
    "patrolink image sign agent.plimg --key release.pem --out signed.plimg",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument("file", metavar="FILE", help="the image")
    parser.add_argument("--key", required=True, metavar="FILE", help="the release key (PEM)")
    parser.add_argument("--out", metavar="FILE", help="the signed image (default: FILE is replaced)")


def run(args: argparse.Namespace) -> int:
    """Sign the image."""
    from patrolink.flash.image import image_file, release_key

    source = image_file.load(Path(args.file))
    key_path = Path(args.key)
    private = release_key.load_private(key_path, None)
    if private is None:
        private = release_key.load_private(key_path, image.passphrase(f"passphrase of {args.key}: "))
    if private is None:
        raise UserError(f"{args.key}: the key is encrypted; set {release_key.PASSPHRASE_VARIABLE} to its passphrase")
    signed = source._replace(header=release_key.sign(source.header, private))
    state = release_key.TrustStore([private.public_key()]).check(signed.header)
    if state != release_key.VALID:
        raise AssertionError(f"the new signature is {state}")
    out = args.out or args.file
    image.check_new(Path(out), key_path)
    image_file.save(Path(out), signed)
    image.print_image(out, signed, f"signed by key {signed.header.key_id.hex()}", args.json, "wrote")
    if args.json:
        print_summary({"images": 1})
    return 0
