"""Install the dissector with which Wireshark and tshark show frames: in MQTT, on serial lines and in captures.

It is one file in Lua for Wireshark 4.0 and later. Without FOLDER it goes to your folder of Lua plugins, which Wireshark
reads at its next start; an earlier version there is replaced. Remove the file to remove the dissector. To verify tags
and decrypt bodies, name a keys file in Wireshark's preference patrolink.keys.
"""

import argparse
import os
from pathlib import Path

from patrolink.core import resources
from patrolink.core.errors import UserError
from patrolink.core.json_lines import print_record

EXAMPLES = ("patrolink dissector", "patrolink dissector /usr/lib/x86_64-linux-gnu/wireshark/plugins")
_NAME = "patrolink.lua"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments to a parser."""
    parser.add_argument(
        "folder", metavar="FOLDER", nargs="?", help="folder to write the file to (default: your folder of Lua plugins)"
    )


def run(args: argparse.Namespace) -> int:
    """Run the verb and return its exit code."""
    text = (resources.root() / "protocol" / "generated" / _NAME).read_bytes()
    path = (Path(args.folder) if args.folder else _plugin_folder()) / _NAME
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
    except OSError as e:
        raise UserError(f"{path}: {e.strerror}; name a folder that you may write to") from None
    if args.json:
        print_record("dissector", {"path": str(path)})
    else:
        print(f"{path} is installed; restart Wireshark")
    return 0


def _plugin_folder() -> Path:
    """Return the folder of a user's Lua plugins (Wireshark User's Guide, appendix B, "Plugin folders")."""
    if os.name == "nt":
        return Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming") / "Wireshark" / "plugins"
    return Path.home() / ".local" / "lib" / "wireshark" / "plugins"
