"""Manual pages of the tool, one per verb, from its argument parsers: `make man` writes them to build/man.

usage: python docs/man.py FOLDER
"""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from argparse_manpage.manpage import Manpage
from patrolink import __version__
from patrolink.cli import _parser
from patrolink.cli._verbs import GROUPS, VERBS

HELP = {
    **{name: entry.help for name, entry in VERBS.items()},
    **{f"{group} {name}": text for group, names in GROUPS.items() for name, text in names.items()},
}


def verbs(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield the parsers of all verbs and of their verbs."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for subparser in action.choices.values():
                yield subparser
                yield from verbs(subparser)


def roff(text: str) -> str:
    """Return text as roff: hyphens are options to copy, and no line begins with a request."""
    escaped = text.replace("\\", "\\e").replace("-", r"\-")
    return "\n".join(rf"\&{line}" if line.startswith((".", "'")) else line for line in escaped.splitlines())


def literal(text: str) -> str:
    """Return lines that are not filled."""
    return f".nf\n{roff(text)}\n.fi"


def page(parser: argparse.ArgumentParser, description: str, see_also: str) -> str:
    """Return the page of a parser without the verbs below it."""
    data = {
        "project_name": "Patrolink",
        "version": __version__,
        "manual_title": "Patrolink",
        "description": description,
    }
    summary, _, details = (parser.description or "").partition("\n\n")
    examples = (parser.epilog or "").partition("examples:\n")[2]
    parser.description = parser.epilog = None
    for group in parser._action_groups:
        group._group_actions[:] = [a for a in group._group_actions if not isinstance(a, argparse._SubParsersAction)]
    manual = Manpage(parser, data)
    manual.prog = parser.prog.replace(" ", "-")
    paragraphs = [summary, *details.split("\n\n")]
    blocks = [literal(text) if text.startswith("  ") else roff(text) for text in paragraphs if text]
    manual.add_section("description", "=", "\n.PP\n".join(blocks))
    if examples:
        manual.add_section("examples", "=", literal("\n".join(line.strip() for line in examples.splitlines())))
    exit_codes = ("0", "ok"), ("1", "findings"), ("2", "usage"), ("3", "device or server"), ("4", "timeout")
    manual.add_section("exit status", "=", "\n".join(f".TP\n.B {code}\n{text}" for code, text in exit_codes))
    manual.add_section("see also", "=", see_also)
    title, rest = str(manual).split("\n", 1)
    return title.replace(r"\-", "-") + "\n" + rest.replace("\n\n", "\n")


def reference(name: str) -> str:
    """Return a cross reference to the page of a command."""
    return rf".BR {roff(name.replace(' ', '-'))} (1)"


def main(folder: Path) -> None:
    """Write all pages."""
    os.environ["PATROLINK_CONFIG"] = ""
    folder.mkdir(parents=True, exist_ok=True)
    parser = _parser.build()
    parsers = list(verbs(parser))
    rows = [f".TP\n{reference(verb.prog)}\n{roff(HELP[verb.prog.removeprefix('patrolink ')])}" for verb in parsers]
    for verb in parsers:
        name = verb.prog.replace(" ", "-")
        help_line = HELP[verb.prog.removeprefix("patrolink ")]
        (folder / f"{name}.1").write_text(page(verb, help_line, reference("patrolink")), encoding="utf-8")
    description = "decode, monitor and emulate devices that speak the Patrolink protocol"
    (folder / "patrolink.1").write_text(page(parser, description, "\n".join(rows)), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
