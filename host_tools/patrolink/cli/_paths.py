"""Paths that a user named and that cannot be used: one line instead of a traceback."""

import argparse
import errno
import os
from collections.abc import Iterator

from patrolink.core.errors import UserError


def _texts(args: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Yield (name, text) of each argument that is text; those of a list have the same name."""
    for name, value in vars(args).items():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str):
                yield name, text


def run(args: argparse.Namespace) -> int:
    """Run the verb and return its exit code.

    Raises:
        UserError: A path among the arguments cannot be used. A verb may have raised its own error for it.
    """
    for name, text in _texts(args):
        if "\0" in text:  # from a settings file
            raise UserError(f"{name} {text!r}: holds a NUL character; remove it")
    try:
        code: int = args.verb.run(args)
    except OSError as e:
        message = _describe(e, args)
        if message is None:
            raise
        raise UserError(message) from None
    return code


def _describe(error: OSError, args: argparse.Namespace) -> str | None:
    """Return the message for an error about a path among the arguments; None for any other error, which is a bug."""
    if not isinstance(error.filename, (str, os.PathLike)) or error.errno in (errno.ENOSPC, errno.EDQUOT):
        return None
    failed = os.path.abspath(error.filename)
    for _, text in _texts(args):
        named = os.path.abspath(text)
        # A parent of the path may be the cause, or a file below it.
        if named == failed or named.startswith(failed + os.sep) or failed.startswith(named + os.sep):
            return f"{error.filename}: {os.strerror(error.errno or 0).lower()}; name another path, or correct this one"
    return None
