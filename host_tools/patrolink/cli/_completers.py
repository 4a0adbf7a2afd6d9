"""What the shell's completion offers for the arguments of all verbs: argcomplete calls `complete` for each Tab.

Files are offered by suffix. Groups come from the hub if PATROLINK_HUB_TOKEN is set and it answers within a second, else
from the site.toml in the current folder.
"""

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

from argcomplete import autocomplete
from argcomplete.completers import BaseCompleter, DirectoriesCompleter, FilesCompleter

from patrolink.cli import _parser
from patrolink.cli._verbs import VERBS
from patrolink.core.errors import UserError

_HUB_TIMEOUT_S = 1.0
_SITE = Path("site.toml")
_DEFAULT_HUB = "http://127.0.0.1:8080"

Completer = Callable[..., Iterable[str]]


class _NothingCompleter(BaseCompleter):
    """Offers nothing: for numbers, times and names."""

    def __call__(self, **_: Any) -> list[str]:
        return []


_NOTHING = _NothingCompleter()


def complete() -> NoReturn:
    """Print the completions of the command line in COMP_LINE, and exit."""
    line = os.environ.get("COMP_LINE", "")
    words = _parser.join_verb(line.split()[1:])
    verb = words[0] if words else ""
    if " " in verb:  # argparse knows a verb of two words as one
        before, _, after = line.partition(verb)
        os.environ["COMP_LINE"] = f"{before}'{verb}'{after}"
        os.environ["COMP_POINT"] = str(int(os.environ.get("COMP_POINT", len(line))) + 2)
    try:
        parser = _parser.build(verb if verb in VERBS else "")
    except UserError:  # the settings file; the command itself names the error
        sys.exit(1)
    _attach(parser)
    autocomplete(parser, default_completer=_NOTHING)
    sys.exit(1)  # not called by a shell


def _attach(parser: argparse.ArgumentParser) -> None:
    """Give each argument its completer."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for subparser in action.choices.values():
                _attach(subparser)
        elif action.choices is None and action.nargs != 0:
            verb = parser.prog.rpartition(" ")[2]
            completer = _BY_VERB.get((verb, action.dest)) or _BY_NAME.get(action.dest, _NOTHING)
            action.completer = completer  # type: ignore[attr-defined]  # read by argcomplete


def _boards(prefix: str, **_: Any) -> list[str]:
    from patrolink.core import boards

    return [*boards.names(), *FilesCompleter("toml")(prefix)]


def _networks(**_: Any) -> list[str]:
    from patrolink.emulator.network.carrier import PROFILES

    return list(PROFILES)


def _sources(prefix: str, **_: Any) -> list[str]:
    return [*_ports(), *FilesCompleter("plcap")(prefix)]


def _groups(parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """Return names of groups. A hub that does not answer, or lacks a library, is no error here."""
    if os.environ.get("PATROLINK_HUB_TOKEN"):
        with contextlib.suppress(ImportError, UserError, OSError, TimeoutError, KeyError, TypeError):
            return _groups_of_hub(getattr(parsed_args, "hub", None) or _DEFAULT_HUB)
    return _groups_of_site()


def _groups_of_hub(url: str) -> list[str]:
    import asyncio

    from patrolink.core.timeouts import wait_for
    from patrolink.hub.dispatch.client import connect

    async def names() -> list[str]:
        async with connect(url) as client:
            names = [str(group["name"]) for group in client.hello["groups"] if group["kind"] != "private"]
            return [name for name in names if name.isprintable()]  # the shell writes them to the terminal

    async def names_in_time() -> list[str]:
        try:
            return await wait_for(names(), _HUB_TIMEOUT_S)
        except asyncio.TimeoutError:  # not a TimeoutError before Python 3.11
            raise TimeoutError from None

    return asyncio.run(names_in_time())


def _groups_of_site() -> list[str]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    try:
        groups = tomllib.loads(_SITE.read_text(encoding="utf-8")).get("group", [])
        return [str(group["name"]) for group in groups]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _campaigns(parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """Return names of campaigns of the site. What cannot be read offers nothing."""
    from patrolink.cli import _campaigns as campaigns

    with contextlib.suppress(ImportError, UserError, OSError):
        return campaigns.names(Path(getattr(parsed_args, "site", None) or _SITE))
    return []


def _ports(**_: Any) -> list[str]:
    from serial.tools import list_ports

    return [port.device for port in list_ports.comports()]


def _case_ids(**_: Any) -> list[str]:
    from patrolink.conformance import suite

    return list(suite.listed_ids())


_SOUND = FilesCompleter(("wav", "flac", "ogg"))
_IMAGES = FilesCompleter("plimg")
_FOLDERS: Completer = DirectoriesCompleter()
_BY_NAME: dict[str, Completer] = {
    "board": _boards,
    "other": _boards,
    "network": _networks,
    "group": _groups,
    "groups": _groups,
    "source": _sources,
    "ports": _ports,
    "port": _ports,
    "recover": _ports,
    "provision": FilesCompleter("csv"),
    "image": FilesCompleter("plimg"),
    "images": _IMAGES,
    "campaign": _campaigns,
    "capture": FilesCompleter("plcap"),
    "record": FilesCompleter("plcap"),
    "keys": FilesCompleter("toml"),
    "signers": FilesCompleter("toml"),
    "site": FilesCompleter("toml"),
    "track": FilesCompleter(("csv", "gpx", "nmea", "log", "txt")),
    "log": FilesCompleter(("nmea", "log", "txt")),
    "film": FilesCompleter(("mp4", "mkv", "mov", "avi")),
    "evidence_key": FilesCompleter("pem"),
    "new_evidence_key": FilesCompleter("pem"),
    "speech": _SOUND,
    "file": _SOUND,
    "sdp": FilesCompleter("sdp"),
    "pcap": FilesCompleter("pcap"),
    "output": FilesCompleter(),
    "bundle": FilesCompleter("zip"),
    "base": _IMAGES,
    "new": _IMAGES,
    "trust": FilesCompleter("pem"),
    "profile": FilesCompleter("toml"),
    "known": FilesCompleter("toml"),
    "report": FilesCompleter("json"),
    "check": FilesCompleter("json"),
    "html": FilesCompleter("html"),
    "diff": FilesCompleter("plcap"),
    "junit": FilesCompleter("xml"),
    "replay": _case_ids,
    "platform": FilesCompleter(),
    "devices": FilesCompleter("csv"),
    "csv": FilesCompleter("csv"),
    "ledger": FilesCompleter("jsonl"),
    "labels": FilesCompleter(("pdf", "zpl")),
    "label_font": FilesCompleter(("ttf", "otf", "ttc")),
    "place": _FOLDERS,
    "out": _FOLDERS,
}
_BY_VERB: dict[tuple[str, str], Completer] = {
    ("live", "out"): FilesCompleter(("mp4", "mkv")),
    ("listen", "output"): _SOUND,
    ("build", "out"): _IMAGES,
    ("validate", "target"): _ports,
    ("validate", "sign"): FilesCompleter("pem"),
    ("sign", "file"): _IMAGES,
    ("sign", "key"): FilesCompleter("pem"),
    ("sign", "out"): _IMAGES,
    ("inspect", "file"): _IMAGES,
    ("diff", "out"): _IMAGES,
    ("key", "file"): FilesCompleter("pem"),
    ("dissector", "folder"): _FOLDERS,
}
