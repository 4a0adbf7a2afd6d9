"""The `patrolink` command: one module per verb.

A verb is a module of this package with an entry in `_verbs.VERBS`. It has EXAMPLES, `add_arguments(parser)` and
`run(args)`, which returns the exit code. Modules with an underscore belong to a verb (`clip_export`) or are shared
(`_arguments`). Exit codes: 0 ok, 1 findings, 2 usage, 3 device or server, 4 timeout, 128 + N stopped early by signal N.
"""

# PYTHON_ARGCOMPLETE_OK
import contextlib
import errno
import io
import os
import sys

from patrolink import __version__
from patrolink.cli import _parser, _paths, _settings
from patrolink.cli._verbs import VERBS
from patrolink.core import notes, signals
from patrolink.core.errors import UserError


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Arguments without the program's name; None for those of the process.

    Returns:
        The exit code.
    """
    if "_ARGCOMPLETE" in os.environ:
        from patrolink.cli import _completers  # heavy, and only needed by the shell's completion

        _completers.complete()
    words = sys.argv[1:] if argv is None else argv
    as_json = "--json" in words
    _prepare_output()
    try:
        args = _parser.parse(words or ["--help"])
        as_json = args.json
        notes.set_quiet(args.quiet)
        _start_log(args.verbose)
        with signals.raise_on_stop():
            code = _paths.run(args)
        sys.stdout.flush()
        return code
    except UserError as e:
        return _report(e, as_json)
    except ModuleNotFoundError as e:
        message = _missing_module(e.name or "", next((word for word in words if word in VERBS), ""))
        if message is None:
            raise
        return _report(UserError(message), as_json)
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
        return _report(UserError(f"{e.filename or 'standard output'}: {e.strerror}; free some space"), False)


def _prepare_output() -> None:
    """Write UTF-8 into files and pipes, whatever the locale; on a terminal, escape what it cannot show."""
    out = sys.stdout
    if isinstance(out, io.TextIOWrapper) and out.encoding.lower() not in ("utf-8", "utf8"):
        if out.isatty():
            out.reconfigure(errors="backslashreplace")
        else:
            out.reconfigure(encoding="utf-8")


def _report(error: UserError, as_json: bool) -> int:
    """Print an error on standard error, with --json on standard output too; return the exit code."""
    notes.error(str(error))
    if as_json:
        from patrolink.core.json_lines import print_record

        with contextlib.suppress(BrokenPipeError):
            print_record("error", {"text": str(error), "exit_code": error.exit_code})
    return error.exit_code


def _start_log(verbosity: int) -> None:
    """Log to standard error: -v events of the tools, -vv those of libraries too."""
    if not verbosity:
        return
    import logging

    from patrolink.core.text import printable_lines

    class PrintableFormatter(logging.Formatter):
        """Escapes what brokers, hubs and devices put into messages."""

        def format(self, record: logging.LogRecord) -> str:
            return printable_lines(super().format(record))

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PrintableFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.DEBUG if verbosity > 1 else logging.WARNING, handlers=[handler])
    log = logging.getLogger("patrolink")
    log.setLevel(logging.DEBUG if verbosity > 1 else logging.INFO)
    log.info("patrolink %s, Python %s, settings: %s", __version__, sys.version.split()[0], _settings.file_path())


def _missing_module(module: str, verb: str) -> str | None:
    """Return what to do about a module that cannot be imported; None if its absence is a bug of the package."""
    name = module.partition(".")[0]
    extra = VERBS[verb].extra if verb else ""
    if not extra or name in sys.stdlib_module_names or name.startswith("patrolink"):
        return None
    return f"`patrolink {verb}` needs {name}, which is not installed; run: pip install 'patrolink[{extra}]'"


def _discard_output() -> None:
    """Keep the interpreter from failing again at exit on output that is still buffered."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
