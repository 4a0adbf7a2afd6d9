"""The `patrolink` command: one module per verb.

A verb is a module of this package without an underscore in its name. It has HELP, `add_arguments(parser)` and
`run(args)`, which returns the exit code. Modules with an underscore belong to a verb (`clip_export`) or are shared
(`_arguments`). Exit codes: 0 ok, 1 findings, 2 usage, 3 device, 4 timeout, 128 + N stopped early by signal N.
"""

# PYTHON_ARGCOMPLETE_OK
import argparse
import errno
import importlib
import os
import pkgutil
import sys
from collections.abc import Callable, Iterable
from types import ModuleType

from patrolink import __version__
from patrolink.core import signals
from patrolink.core.errors import UserError
from patrolink.core.text import printable_lines


def verbs() -> list[str]:
    """Return the names of all verbs, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if "_" not in module.name)


def _one_of(choices: Iterable[str], variable: str) -> Callable[[str], str]:
    """Return a type for an option with choices: argparse compares only values from the command line, not defaults."""
    allowed = tuple(choices)

    def check(value: str) -> str:
        if value not in allowed:
            raise argparse.ArgumentTypeError(f"{value!r} is none of {', '.join(allowed)} (see also {variable})")
        return value

    return check


def _add_environment_defaults(parser: argparse.ArgumentParser, verb: str) -> None:
    """Take the default of every option of a verb from PATROLINK_<VERB>_<OPTION>, and name it in the help."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for subparser in action.choices.values():
                _add_environment_defaults(subparser, verb)
        long_options = [o for o in action.option_strings if o.startswith("--") and o != "--help"]
        if not long_options:
            continue
        variable = f"PATROLINK_{verb}_{long_options[0][2:]}".upper().replace("-", "_")
        action.help = f"{action.help} [env {variable}]"
        value = os.environ.get(variable)
        if value is None:
            continue
        if action.nargs == 0:
            action.default = value.lower() not in ("", "0", "no", "false")
        else:
            if action.choices is not None:
                action.type = _one_of(action.choices, variable)
            action.default = value
            action.required = False


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command; each verb's parser sets `args.verb` to its module."""
    parser = argparse.ArgumentParser(
        prog="patrolink",
        description="Decode, monitor and emulate body-worn devices that speak the Patrolink protocol.",
        epilog="Exit codes: 0 ok, 1 findings, 2 usage, 3 device, 4 timeout, 130 and 143 stopped early by Ctrl-C or "
        "SIGTERM. A verb that runs until stopped ends with its summary and its usual exit code.",
    )
    parser.add_argument("--version", action="version", version=f"patrolink {__version__}")
    subparsers = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for name in verbs():
        verb: ModuleType = importlib.import_module(f"patrolink.cli.{name}")
        subparser = subparsers.add_parser(
            name, help=verb.HELP, description=verb.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        verb.add_arguments(subparser)
        subparser.add_argument("--json", action="store_true", help="print results as JSON on standard output")
        subparser.set_defaults(verb=verb)
        _add_environment_defaults(subparser, name)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments without the program's name; None for those of the process.

    Returns:
        The exit code.
    """
    parser = build_parser()
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete  # heavy, and only needed by the shell's completion

        argcomplete.autocomplete(parser)
    args = parser.parse_args(argv)
    try:
        with signals.raise_on_stop():
            code: int = args.verb.run(args)
        sys.stdout.flush()
        return code
    except UserError as e:
        print(printable_lines(f"error: {e}"), file=sys.stderr)
        return e.exit_code
    except signals.StopSignal as e:
        return e.exit_code
    except BrokenPipeError:
        # The reader of our output has closed its end, as `head` does.
        _discard_output()
        return 0
    except OSError as e:
        if e.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _discard_output()
        print(f"error: {e.filename or 'standard output'}: {e.strerror}; free some space", file=sys.stderr)
        return UserError.exit_code


def _discard_output() -> None:
    """Keep the interpreter from failing again at exit on output that is still buffered."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
