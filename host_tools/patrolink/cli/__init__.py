"""The `patrolink` command: one module a verb.

A verb has HELP, add_arguments(parser) and run(args) -> exit code. Exit codes: 0 ok, 1 findings, 2 usage, 3 device,
4 timeout.
"""

# PYTHON_ARGCOMPLETE_OK
import argparse
import errno
import importlib
import os
import sys
from collections.abc import Callable, Iterable
from types import ModuleType

from patrolink import __version__
from patrolink.core import signals
from patrolink.core.errors import UserError

VERBS = (
    *("emulate", "call", "monitor", "decode", "pack", "fix", "boards", "devices", "hub", "talk", "listen", "floor"),
    "live",
    "clip",
    "incident",
)


def _one_of(choices: Iterable[str], name: str) -> Callable[[str], str]:
    """Return a check for a value out of the environment: argparse compares only what it finds in the command."""
    known = tuple(choices)

    def check(value: str) -> str:
        if value not in known:
            raise argparse.ArgumentTypeError(f"{value!r} is none of {', '.join(known)} (see also {name})")
        return value

    return check


def _environment(parser: argparse.ArgumentParser, verb: str) -> None:
    """Give every option of a verb its default from PATROLINK_<VERB>_<OPTION>, and say so in the help."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                _environment(inner, verb)
        long = [o for o in action.option_strings if o.startswith("--") and o != "--help"]
        if not long:
            continue
        name = f"PATROLINK_{verb}_{long[0][2:]}".upper().replace("-", "_")
        action.help = f"{action.help} [env {name}]"
        value = os.environ.get(name)
        if value is None:
            continue
        if action.nargs == 0:
            action.default = value.lower() not in ("", "0", "no", "false")
        else:
            if action.choices is not None:
                action.type = _one_of(action.choices, name)
            action.default = value
            action.required = False


def build_parser() -> argparse.ArgumentParser:
    """Return the whole command's parser; each verb's arguments set `args.verb` to its module."""
    parser = argparse.ArgumentParser(
        prog="patrolink",
        description="Decode, monitor and emulate body-worn devices that speak the Patrolink protocol.",
        epilog="Exit codes: 0 ok, 1 findings, 2 usage, 3 device, 4 timeout, 130 and 143 cut short by a signal. "
        "A verb that runs until stopped ends with its summary and its usual exit code.",
    )
    parser.add_argument("--version", action="version", version=f"patrolink {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for name in VERBS:
        verb: ModuleType = importlib.import_module(f"patrolink.cli.{name}")
        sub = verbs.add_parser(
            name, help=verb.HELP, description=verb.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        verb.add_arguments(sub)
        sub.add_argument("--json", action="store_true", help="results as JSON on standard output")
        sub.set_defaults(verb=verb)
        _environment(sub, name)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    parser = build_parser()
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)
    args = parser.parse_args(argv)
    try:
        with signals.raise_on_stop():
            code: int = args.verb.run(args)
        sys.stdout.flush()
        return code
    except UserError as e:
        print(f"error: {e}", file=sys.stderr)
        return e.exit_code
    except signals.StopSignal as e:
        return e.exit_code
    except KeyboardInterrupt:  # before the handlers were installed
        return 130
    except BrokenPipeError:
        # The reader of our output has had enough.
        _drop_output()
        return 0
    except OSError as e:
        if e.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _drop_output()
        print(f"error: {e.filename or 'standard output'}: {e.strerror}; free some space", file=sys.stderr)
        return UserError.exit_code


def _drop_output() -> None:
    """Keep the interpreter from failing once more on what is still buffered when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
