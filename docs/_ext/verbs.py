"""Directive `verbs`: the reference of the command line, taken from its argument parsers."""

import argparse
import re
from collections.abc import Iterator

from docutils import nodes
from patrolink.cli import _parser
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

_VARIABLE = re.compile(r"\s*\[env (\w+)\]")


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


def _option(action: argparse.Action) -> str:
    """Return an option as it is typed, or the name of an argument."""
    values = " or ".join(action.choices) if action.choices else action.metavar or ""
    if not action.option_strings:
        return f"`{values}`"
    names = " ".join(f"`{name}`" for name in action.option_strings)
    return names if action.nargs == 0 else f"{names} `{values or action.dest.upper()}`"


def _arguments(parser: argparse.ArgumentParser) -> list[str]:
    """Return the table of a parser's arguments."""
    rows = []
    for action in parser._actions:
        if action.help is None or action.dest == "help" or isinstance(action, argparse._SubParsersAction):
            continue
        text = (action.help or "") % {"default": action.default}
        variable = _VARIABLE.search(text)
        if action.default not in (None, False, 0, "", argparse.SUPPRESS) and "default" not in text:
            text = _VARIABLE.sub("", text) + f" (default: {action.default})"
        env = f"`{variable[1]}`" if variable else ""
        rows.append(f"| {_cell(_option(action))} | {_cell(_VARIABLE.sub('', text))} | {env} |")
    return ["| argument | meaning | variable |", "| --- | --- | --- |", *rows, ""] if rows else []


def _subparsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.values()


def _section(parser: argparse.ArgumentParser, level: int) -> list[str]:
    usage = " ".join(parser.format_usage().removeprefix("usage: ").split())
    lines = [f"{'#' * level} {parser.prog}", "", parser.description or "", "", "```text", usage, "```", ""]
    lines += _arguments(parser)
    examples = (parser.epilog or "").partition("examples:")[2].strip().splitlines()
    if examples:
        lines += ["Examples:", "", "```sh", *(line.strip() for line in examples), "```", ""]
    for sub in _subparsers(parser):
        lines += _section(sub, level + 1)
    return lines


class Verbs(SphinxDirective):
    """The directive."""

    def run(self) -> list[nodes.Node]:
        """Return a section per verb."""
        lines = [line for parser in _subparsers(_parser.build()) for line in _section(parser, 3)]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("verbs", Verbs)
    return {"parallel_read_safe": True}
