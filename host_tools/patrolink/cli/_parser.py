"""The command-line parser: verbs that are imported when they are used, and hints for misspelt words."""

import argparse
import difflib
import importlib
import re
from collections.abc import Iterable
from types import ModuleType
from typing import Any, NoReturn

from patrolink import __version__
from patrolink.cli import _settings
from patrolink.cli._verbs import VERBS

_CHOICE = re.compile(r"invalid choice: '([^']*)' \(choose from (.*)\)")
_EXIT_CODES = (
    "Exit codes: 0 ok, 1 findings, 2 usage, 3 device or server, 4 timeout, 130 and 143 stopped early by Ctrl-C or "
    "SIGTERM. A verb that runs until stopped ends with its summary and its usual exit code."
)


def _hint(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {close[0]}?" if close else ""


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Makes room for the longest verb: argparse does not count the indentation of the list of verbs."""

    def add_argument(self, action: argparse.Action) -> None:
        """Add an argument to the help."""
        super().add_argument(action)
        if isinstance(action, argparse._SubParsersAction):
            self._action_max_length += 2


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that suggests the word that was meant."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=_HelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        """Print the usage and the message with a suggestion, and exit with code 2."""
        choice = _CHOICE.search(message)
        if choice is not None:
            message += _hint(choice[1], re.findall(r"[^\s,']+", choice[2]))
        super().error(message)

    def options(self) -> list[str]:
        """Return the long options of this parser."""
        return [option for action in self._actions for option in action.option_strings if option.startswith("--")]


def add_verb(
    subparsers: "argparse._SubParsersAction[Any]", module_name: str, help_line: str, name: str | None = None
) -> None:
    """Import the module of a verb and add its parser, which sets `args.verb` and `args.parser`.

    Args:
        subparsers: What the parser is added to.
        module_name: Name of the module in this package.
        help_line: One line for the list of verbs.
        name: Name of the verb; None: the last word of the module's name.
    """
    verb: ModuleType = importlib.import_module(f"patrolink.cli.{module_name}")
    name = module_name.rpartition("_")[2] if name is None else name
    parser = subparsers.add_parser(name, help=help_line, description=verb.__doc__)
    verb.add_arguments(parser)
    if not hasattr(verb, "run"):  # it has only subverbs
        return
    parser.epilog = "\n  ".join(("examples:", *verb.EXAMPLES))
    parser.add_argument("--json", action="store_true", help="print results as JSON Lines on standard output")
    parser.add_argument("-v", "--verbose", action="count", default=0, help="log to standard error; -vv logs more")
    parser.add_argument("-q", "--quiet", action="store_true", help="print no progress and no notes")
    parser.set_defaults(verb=verb, parser=parser)
    _settings.set_defaults(parser, module_name.split("_"))


def build(verb: str | None = None) -> Parser:
    """Return the parser of the whole command.

    Args:
        verb: The only verb whose arguments are needed, or None for all. Other verbs are listed without arguments, as
            the import of all their modules takes longer than most commands.
    """
    parser = Parser(
        prog="patrolink",
        description="Decode, monitor and emulate body-worn devices that speak the Patrolink protocol.",
        epilog=_EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"patrolink {__version__}")
    subparsers = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for name, entry in VERBS.items():
        if verb is None or verb == name:
            add_verb(subparsers, name.replace(" ", "_"), entry.help, name)
        else:
            subparsers.add_parser(name, help=entry.help, add_help=False)
    return parser


def join_verb(words: list[str]) -> list[str]:
    """Return the words of a command line with a verb of two words, such as `hub bar`, joined to one word."""
    for i, pair in enumerate(zip(words, words[1:], strict=False)):
        if not pair[0].startswith("-"):
            verb = " ".join(pair)
            return [*words[:i], verb, *words[i + 2 :]] if verb in VERBS else words
    return words


def parse(argv: list[str]) -> argparse.Namespace:
    """Return the parsed arguments; exit with code 2, a message and a suggestion if they are wrong."""
    argv = join_verb(argv)
    verb = next((word for word in argv if not word.startswith("-")), "")
    args, rest = build(verb).parse_known_args(argv)
    if rest:
        hint = _hint(rest[0].partition("=")[0], args.parser.options()) if rest[0].startswith("-") else ""
        args.parser.error(f"unrecognized arguments: {' '.join(rest)}{hint}")
    return args
