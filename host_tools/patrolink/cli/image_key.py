"""Create a release key: write it to a new file that only you can read, print its public key.

The public key belongs into the trust store: a file with the public keys of all releases, one after the other, for
`patrolink image inspect --trust`, and for the platform, which contains them. The key is encrypted if
PATROLINK_RELEASE_PASSPHRASE is set, or if a passphrase is entered at the prompt.
"""

import argparse
from pathlib import Path

from patrolink.cli import image
from patrolink.core import notes
from patrolink.core.json_lines import print_record

EXAMPLES = ("patrolink image key release.pem > trust.pem",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument("file", metavar="FILE", help="the new key (PEM, mode 0600)")


def run(args: argparse.Namespace) -> int:
    """Create the key."""
    from patrolink_protocol import image_header

    from patrolink.flash.image import release_key

    secret = image.passphrase("passphrase of the new key (empty: not encrypted): ")
    public = release_key.create(Path(args.file), secret).public_key()
    key_id = image_header.key_id(release_key.point(public)).hex()
    if args.json:
        print_record("release_key", {"file": args.file, "key_id": key_id, "public_key": release_key.public_pem(public)})
    else:
        print(release_key.public_pem(public), end="")
    notes.note(f"release key {key_id} in {args.file}{'' if secret else ', not encrypted'}; keep it offline")
    return 0
