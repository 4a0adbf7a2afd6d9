"""The parsers of all verbs of the tool."""

import argparse

from patrolink.cli import _parser


def verb_parsers() -> list[tuple[str, argparse.ArgumentParser]]:
    """Return (verb, parser) of all verbs; a subverb is named with its verb, as in "clip list"."""
    parsers: list[tuple[str, argparse.ArgumentParser]] = []

    def collect(parser: argparse.ArgumentParser, words: list[str]) -> None:
        subparsers = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        for action in subparsers:
            for name, subparser in action.choices.items():
                collect(subparser, [*words, name])
        if words and not subparsers:
            parsers.append((" ".join(words), parser))

    collect(_parser.build(), [])
    return parsers
